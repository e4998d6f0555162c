"""The command `python -m rllib_hetero`: the same as `rllib-hetero`."""

import sys

from rllib_hetero_cli import main

if __name__ == "__main__":  # worker processes may import this file
    sys.exit(main())
