"""How settings are drawn: each drawing is tried with every seed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.repeater import TRIAL_INDEX, Repeater

from rllib_hetero.errors import MissingExtraError

SEARCHERS = ("random", "optuna")


def random_search(random_state: int, max_concurrent: int | None = None) -> Any:
    """Independent draws. A grid, such as the seeds', is gone through with each of them.

    Args:
        random_state: Of the draws.
        max_concurrent: How many trials run at once; None: as many as there is room for. Tune's own
            `max_concurrent_trials` is ignored for this search.
    """
    return BasicVariantGenerator(
        constant_grid_search=True, random_state=random_state, max_concurrent=max_concurrent or 0
    )


def optuna_search(seeds: Sequence[int], random_state: int) -> Any:
    """Optuna's tree-structured Parzen estimator, told the mean over all seeds.

    Raises:
        MissingExtraError: If optuna is not installed.
    """
    check_optuna()
    from ray.tune.search.optuna import OptunaSearch

    return OverSeeds(OptunaSearch(seed=random_state), seeds)


def check_optuna() -> None:
    """Raises MissingExtraError if optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("optuna", extra="optuna")


class OverSeeds(Repeater):
    """Repeats every suggestion with each of the seeds; the searcher learns their mean.

    Results before the last are not passed on: Optuna would raise where a trial has no finished
    episode yet.
    """

    def __init__(self, searcher: Searcher, seeds: Sequence[int]) -> None:
        super().__init__(searcher, repeat=len(seeds))
        self.seeds = list(seeds)

    def suggest(self, trial_id: str) -> Any:
        config = super().suggest(trial_id)
        if isinstance(config, dict):
            config["seed"] = self.seeds[config.pop(TRIAL_INDEX)]
        return config
