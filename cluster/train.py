"""The same as `rllib-hetero`, as a file for `ray job submit`."""

import sys

from rllib_hetero_cli import main

if __name__ == "__main__":
    sys.exit(main())
