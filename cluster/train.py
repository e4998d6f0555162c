"""The same as `python -m rllib_hetero`, as a file for `ray job submit`."""

import sys

from rllib_hetero.cli import main

if __name__ == "__main__":
    sys.exit(main())
