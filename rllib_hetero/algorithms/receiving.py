"""Rollouts that learners read from the object store, and the driver does not."""

from __future__ import annotations

import logging
from typing import Any

from rllib_hetero.algorithms.each_learner import each_learner
from rllib_hetero.algorithms.rollouts_ahead import Rollout
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.runners.posted import PostedFragment

logger = logging.getLogger(__name__)


def received(rollouts: list[Rollout], learners: Any) -> list[Rollout]:
    """Has each learner read its share of posted fragments, before anything is done with them.

    Args:
        rollouts: With `PostedFragment`s.
        learners: The learner group, whose learners are `ReceivingLearner`s.

    Returns:
        Those that are not lost. Every learner has its share of them, as `TeamTrainingData` shares
        them out.
    """
    while rollouts:
        data = TeamTrainingData(episodes=[f for rollout in rollouts for f in rollout.fragments])
        lost = _lost(data, learners)
        if not lost:
            break
        logger.warning(
            "%d of %d fragments are lost with the env runners that had sampled them, or take "
            "longer to read than config.env_runners(sample_timeout_s=...).",
            len(lost),
            len(data.episodes),
        )
        rollouts = [rollout for rollout in rollouts if lost.isdisjoint(_references(rollout))]
    return rollouts


def _lost(data: TeamTrainingData, learners: Any) -> set[Any]:
    """References that a learner who was to read them could not."""
    shares = [share.episodes for share, _ in data.shard(len(learners))]
    lost = each_learner(learners, lambda learner: learner.receive(shares))
    return {reference for of_learner in lost for reference in of_learner}


def _references(rollout: Rollout) -> list[Any]:
    return [f.reference for f in rollout.fragments if isinstance(f, PostedFragment)]
