"""A team that a test can hold: its steps wait as long as a file is there."""

import time
from pathlib import Path

from toys import MatrixTeam


class HeldTeam(MatrixTeam):
    """Keys of the config: those of `MatrixTeam`, and "hold", the file's path."""

    def __init__(self, config):
        super().__init__(config)
        self.hold = Path(config["hold"])

    def step(self, action_dict):
        while self.hold.exists():
            time.sleep(0.05)
        return super().step(action_dict)
