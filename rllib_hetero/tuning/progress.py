"""Follows a search: a line now and then, and how many steps were trained twice after a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from ray.tune import Callback

from rllib_hetero.reporting.record import write_record


class Progress(Callback):
    """Writes a file that outlives the driver, and prints a line per tenth of a trial.

    Args:
        path: The file. Not in the search's folder: what lies there when the driver is restored,
            Tune puts back later.
        env_steps: The length of a trial.
        metric: The number to print.
        count_lost: Whether steps that a trial goes back by are lost ones. Under PBT they are not:
            there trials take over the weights of others.
    """

    def __init__(self, path: Path, env_steps: int, metric: str, *, count_lost: bool) -> None:
        self.path = path
        self.env_steps = env_steps
        self.metric = metric
        self.count_lost = count_lost
        self.trials: dict[str, dict[str, int]] = {}

    def setup(self, **info: Any) -> None:
        """Goes on with the file of the driver before, if there was one."""
        self.trials = read(self.path)

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Notes how far the trial is."""
        steps = int(result.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0))
        sampled = int(result.get(ENV_RUNNER_RESULTS, {}).get(NUM_ENV_STEPS_SAMPLED, 0))
        known = self.trials.setdefault(trial.trial_id, {"reached": 0, "lost": 0})
        before = known["reached"]
        if steps <= before and self.count_lost:
            lost = before - (steps - sampled)
            known["lost"] += lost
            _say(f"{trial}: goes on from {steps - sampled:,} steps, {lost:,} are trained again")
        known["reached"] = steps
        write_record(self.trials, self.path)
        if 10 * steps // self.env_steps > 10 * before // self.env_steps:
            value = _nested(result, self.metric)
            shown = "no value yet" if value is None else f"{value:.2f}"
            _say(f"{trial}: {steps:,}/{self.env_steps:,} steps, {self.metric} {shown}")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Says which trial has failed for good."""
        _say(f"{trial}: failed; its folder holds error.txt")


def read(path: Path) -> dict[str, dict[str, int]]:
    """Trial id to the steps it has reached, and those it has lost."""
    return json.loads(path.read_text()) if path.exists() else {}


def lost_env_steps(path: Path) -> int:
    """The steps of a search that were trained again."""
    return sum(trial["lost"] for trial in read(path).values())


def _nested(result: dict[str, Any], metric: str) -> Any:
    value: Any = result
    for key in metric.split("/"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _say(line: str) -> None:
    print(line, flush=True)
