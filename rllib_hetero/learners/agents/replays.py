"""What the members of a host draw from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rllib_hetero.layout import ModuleID
from rllib_hetero.replay import JointReplay
from rllib_hetero.runners.fragment import TeamFragment


class Replays:
    """One replay for all members; one each, of its own agents, where none reads the others.

    All have the same rows.

    Args:
        config: `ReplayingConfig`.
        members: Ids of the host's members.
        device: Where batches go.

    Attributes:
        named: The replays, by the first member that draws from each.
    """

    def __init__(self, config: Any, members: Sequence[ModuleID], device: torch.device) -> None:
        def new(**agents: Any) -> JointReplay:
            return JointReplay(
                config.layout,
                capacity=config.rows_per_env * config.num_envs,
                num_columns=config.num_envs,
                device=device,
                **agents,
                **config.replay_settings(),
            )

        self.named: dict[ModuleID, JointReplay]
        if config.reads_others:
            self.named = {members[0]: new()}
            self._of = dict.fromkeys(members, self.named[members[0]])
        else:
            self.named = self._of = {m: new(agents=config.layout.groups[m]) for m in members}
        self._one = self.named[members[0]]

    def __getitem__(self, member: ModuleID) -> JointReplay:
        return self._of[member]

    def __len__(self) -> int:
        """How many rows can be drawn."""
        return len(self._one)

    @property
    def capacity(self) -> int:
        """The most rows that there can be."""
        return self._one.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, used or not."""
        return sum(replay.nbytes for replay in self.named.values())

    def add(self, fragment: TeamFragment, first_column: int) -> None:
        """See `JointReplay.add`."""
        for replay in self.named.values():
            replay.add(fragment, first_column)
