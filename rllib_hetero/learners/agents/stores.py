"""Where a host keeps what was sampled, for its members to draw from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from rllib_hetero.replay import JointReplay, uniform
from rllib_hetero.replay.homes import first_column
from rllib_hetero.runners.fragment import TeamFragment

SMALL = 1_000_000_000
"""Bytes of all hosts' replays that are put into checkpoints unless told otherwise."""


class Store(Protocol):
    """What a host asks of it. Rewards of agents that are not the host's are NaN."""

    def add(self, fragment: TeamFragment) -> None:
        """Takes in one rollout of a runner."""

    @property
    def rows(self) -> int:
        """How many steps there are."""

    @property
    def ready(self) -> bool:
        """Whether there is enough for an update."""

    @property
    def in_checkpoint(self) -> bool:
        """Whether it belongs into a checkpoint."""

    def draw(self, seed: tuple[int, ...]) -> Any:
        """One minibatch; the same rows for the same seed."""

    def save(self, folder: Path, previous: Path | None) -> None:
        """Writes all of it to a folder; of an earlier one, files may be linked to."""

    def restore(self, folder: Path) -> None:
        """Reads what `save` wrote."""


class ReplayStore:
    """A replay of everybody's observations and actions, and the host's members' rewards.

    Args:
        config: `ReplayingConfig`.
        device: Where batches go.
    """

    def __init__(self, config: Any, device: Any) -> None:
        self._config = config
        self._replay = JointReplay(
            config.layout,
            capacity=config.rows_per_env * config.num_envs,
            num_columns=config.num_envs,
            device=device,
            **config.replay_settings(),
        )

    def add(self, fragment: TeamFragment) -> None:
        self._replay.add(fragment, first_column(fragment, self._config.num_envs_per_env_runner))

    @property
    def rows(self) -> int:
        return len(self._replay)

    @property
    def ready(self) -> bool:
        # A host that was started anew would else learn from a handful of steps.
        config = self._config
        least = min(config.num_steps_sampled_before_learning_starts, self._replay.capacity)
        return self.rows >= max(1, least)

    @property
    def in_checkpoint(self) -> bool:
        wanted = self._config.replay_in_checkpoint
        if wanted is None:
            held = self._replay.nbytes * self.rows // self._replay.capacity
            return held * len(self._config.hosts) <= SMALL
        return wanted

    def draw(self, seed: tuple[int, ...]) -> Any:
        config = self._config
        indices = uniform(seed, self.rows, config.train_batch_size_per_learner)
        return self._replay.take(indices, n_step=config.n_step, gamma=config.gamma)

    def save(self, folder: Path, previous: Path | None) -> None:
        self._replay.save(folder, previous)

    def restore(self, folder: Path) -> None:
        self._replay.restore(folder)
