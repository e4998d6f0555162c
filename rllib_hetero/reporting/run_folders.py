"""Reads finished runs: `run.json` and `progress.csv`, nothing that needs unpickling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_hetero.errors import TeamError
from rllib_hetero.reporting.curve import read_column
from rllib_hetero.reporting.names import task_name
from rllib_hetero.reporting.resume import read_record

_OF_A_SEED = ("seed", "update_order_seed")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        folder: Where it lies.
        env: The environment's name.
        task: Which of its tasks, with every setting: "simple_spread (max_cycles=25)".
        algo: The algorithm's name.
        seed: As text; the folder's name where none was set.
        settings: The recorded settings that all seeds of a comparison should share.
        steps: (n,) environment steps.
        values: (n,) the metric there.
    """

    folder: Path
    env: str
    task: str
    algo: str
    seed: str
    settings: dict[str, Any]
    steps: np.ndarray
    values: np.ndarray


Groups = dict[tuple[str, str], dict[str, list[Run]]]
"""(environment, task) to algorithm to its runs."""


def column_of(metric: str) -> str:
    """The column of `progress.csv` for a metric as RLlib and Tune name it."""
    return metric.removeprefix("env_runners/").replace("evaluation/env_runners/", "evaluation/")


def read_run(folder: Path, metric: str) -> Run:
    """Reads one run.

    Raises:
        TeamError: If the folder holds no run, or not a single value of the metric.
        ValueError: If its table lacks the metric. The message lists what it has.
    """
    record = read_record(folder)
    if not (folder / "progress.csv").exists():
        raise TeamError(f"{folder} holds no finished iteration: progress.csv is missing.")
    steps, values = read_column(folder / "progress.csv", column_of(metric))
    if not len(steps):
        raise TeamError(f"{folder}: no iteration has a value of {metric!r}. Leave this run out.")
    settings = dict(record["config"])
    seed = settings.get("seed")
    for name in _OF_A_SEED:
        settings.pop(name, None)
    env = str(record["env"])
    return Run(
        folder, env, task_name(env, record["env_config"]), record["algorithm"],
        folder.name if seed is None else str(seed), settings, steps, values,
    )  # fmt: skip


def grouped(runs: Sequence[Run]) -> Groups:
    """The runs by task and algorithm, each group in the order of its seeds.

    Raises:
        TeamError: If two runs of a group have the same seed.
    """
    groups: Groups = {}
    for run in runs:
        group = groups.setdefault((run.env, run.task), {}).setdefault(run.algo, [])
        for other in group:
            if other.seed == run.seed:
                raise TeamError(
                    f"{other.folder} and {run.folder} are both {run.algo} on {run.task} with seed "
                    f"{run.seed}: they would count twice. Leave one out."
                )
        group.append(run)
    for by_algo in groups.values():
        for group in by_algo.values():
            group.sort(key=lambda run: (len(run.seed), run.seed))
    return groups


def differing(runs: Sequence[Run]) -> list[str]:
    """The recorded settings that are not the same in all these runs."""
    names = sorted({name for run in runs for name in run.settings})
    return [
        name
        for name in names
        if len({json.dumps(run.settings.get(name), sort_keys=True) for run in runs}) > 1
    ]
