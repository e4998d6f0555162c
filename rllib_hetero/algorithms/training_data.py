"""A batch of team fragments on its way to one or several learners."""

from __future__ import annotations

from typing import Any

from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.annotations import override

from rllib_hetero.runners.fragment import shard


class TeamTrainingData(TrainingData):
    """Shards fragments by whole environments."""

    @override(TrainingData)
    def shard(self, num_shards: int, **kwargs: Any) -> list[tuple[TrainingData, dict]]:
        # A learner without an environment is given no rows of the same shapes, so that it can
        # take part in the sums.
        nothing = [self.episodes[0].select(range(0))]
        shards = [fragments or nothing for fragments in shard(self.episodes, num_shards)]
        return [(TeamTrainingData(episodes=fragments), {}) for fragments in shards]
