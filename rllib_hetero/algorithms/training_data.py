"""A batch of team fragments on its way to one or several learners."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.annotations import override

from rllib_hetero.runners.fragment import shard


class TeamTrainingData(TrainingData):
    """Shards fragments by whole environments, and tells each learner which rows it holds."""

    @override(TrainingData)
    def shard(self, num_shards: int, **kwargs: Any) -> list[tuple[TrainingData, dict]]:
        # A learner without an environment is given no rows of the same shapes, so that it can
        # take part in the sums.
        nothing = [self.episodes[0].select(range(0))]
        shards = [fragments or nothing for fragments in shard(self.episodes, num_shards)]
        counts = [sum(f.env_steps() for f in fragments) for fragments in shards]
        return [
            (
                TeamTrainingData(episodes=fragments),
                {"row_offset": sum(counts[:i]), "num_rows": sum(counts)},
            )
            for i, fragments in enumerate(shards)
        ]
