"""The command `python -m rllib_hetero.checking`."""

from rllib_hetero.checking.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
