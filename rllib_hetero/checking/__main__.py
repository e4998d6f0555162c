"""The command `python -m rllib_hetero.checking`: the same as `rllib-hetero check`."""

import sys

from rllib_hetero_cli import main

if __name__ == "__main__":
    raise SystemExit(main(["check", *sys.argv[1:]]))
