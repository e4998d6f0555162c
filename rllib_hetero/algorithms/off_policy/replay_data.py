"""Fragments on their way to the learners, each environment's always to the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.annotations import override
from typing_extensions import Self

from rllib_hetero.replay.homes import blocks, first_column
from rllib_hetero.runners.fragment import TeamFragment


@dataclass
class ReplayData(TrainingData):
    """Fragments, sharded by the home of their environments.

    The learners' replays hold one column for each environment. Columns are numbered by runner and
    environment, and a learner is home to a block of them. So an environment's steps stay together,
    and the blocks put end to end are what one learner alone would hold.

    Attributes:
        num_envs: Environments of one runner.
        num_columns: Environments of all runners.
    """

    num_envs: int = 1
    num_columns: int = 1

    @classmethod
    def of(cls, fragments: list[TeamFragment], config: Any) -> Self:
        """The fragments of one iteration, under the config that sampled them."""
        return cls(
            episodes=fragments,
            num_envs=config.num_envs_per_env_runner,
            num_columns=config.num_envs,
        )

    @override(TrainingData)
    def shard(self, num_shards: int, **kwargs: Any) -> list[tuple[TrainingData, dict]]:
        shards: list[list[TeamFragment]] = [[] for _ in range(num_shards)]
        for fragment in self.episodes:
            first = first_column(fragment, self.num_envs)
            for shard, block in enumerate(blocks(self.num_columns, num_shards)):
                own = range(max(block.start - first, 0), min(block.stop - first, fragment.num_envs))
                if own:
                    shards[shard].append(fragment.select(own))
        return [
            (ReplayData(episodes=s, num_envs=self.num_envs, num_columns=self.num_columns), {})
            for s in shards
        ]
