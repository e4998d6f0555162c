"""Reads finished runs: `run.json` and `progress.csv`, nothing that needs unpickling."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
        settings: The recorded settings, without seeds.
        steps: (n,) environment steps.
        values: (n,) the metric there.
        label: The user's name for what it is a seed of; None for none.
        returns: How the team's return is counted, in words; "" where it is not known.
        versions: Of the packages that it was made with.
    """

    folder: Path
    env: str
    task: str
    algo: str
    seed: str
    settings: dict[str, Any]
    steps: np.ndarray
    values: np.ndarray
    label: str | None = None
    returns: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)


Groups = dict[tuple[str, str], dict[str, list[Run]]]
"""(environment, task) to the name of a setting (an algorithm, with what is special) to its runs."""


def column_of(metric: str) -> str:
    """The column of `progress.csv` for a metric as RLlib and Tune name it."""
    return metric.removeprefix("env_runners/").replace("evaluation/env_runners/", "evaluation/")


def read_run(folder: Path, metric: str, *, label: str | None = None) -> Run:
    """Reads one run.

    Args:
        folder: The run's.
        metric: A column of `progress.csv`.
        label: The user's name for what it is a seed of.

    Raises:
        TeamError: If the folder holds no run, or not a single value of the metric.
        ValueError: If its table lacks the metric. The message lists what it has.
    """
    record = read_record(folder)
    try:
        steps, values = read_column(folder / "progress.csv", column_of(metric))
    except FileNotFoundError:
        raise TeamError(f"{folder} holds no finished iteration: progress.csv is missing.") from None
    if not len(steps):
        raise TeamError(f"{folder}: no iteration has a value of {metric!r}. Leave this run out.")
    if np.any(np.diff(steps) <= 0):
        raise TeamError(
            f"{folder}: the steps in progress.csv go back, as where two trainings write into one "
            "folder. Leave this run out."
        )
    settings = dict(record["config"])
    seed = settings.get("seed")
    for name in _OF_A_SEED:
        settings.pop(name, None)
    env = record["env"]
    return Run(
        folder, env, task_name(env, record["env_config"]), record["algorithm"],
        folder.name if seed is None else str(seed), settings, steps, values, label,
        str(record.get("return_convention", ""))[:100], record.get("versions", {}),
    )  # fmt: skip


def grouped(
    runs: Sequence[Run], name: Callable[[str, Sequence[Sequence[Run]]], list[str]]
) -> Groups:
    """The runs by task and setting, each group in the order of its seeds.

    Seeds of one setting are runs of one algorithm that differ in nothing but their seeds, or that
    the user gave one label.

    Args:
        runs: All of them.
        name: Gives the settings of one algorithm their names.

    Raises:
        TeamError: If two runs of a group have the same seed.
    """
    tasks: dict[tuple[str, str], dict[tuple[str, ...], list[Run]]] = {}
    for run in runs:
        tasks.setdefault((run.env, run.task), {}).setdefault(_key(run), []).append(run)
    groups: Groups = {}
    for task, by_key in tasks.items():
        for group in by_key.values():
            _refuse_repeated_seeds(group)
            group.sort(key=lambda run: (len(run.seed), run.seed))
        names: dict[tuple[str, ...], str] = {}
        for algo in dict.fromkeys(key[0] for key in by_key if len(key) > 1):
            of_algo = [key for key in by_key if len(key) > 1 and key[0] == algo]
            named = name(algo, [by_key[key] for key in of_algo])
            names |= dict(zip(of_algo, named, strict=True))
        groups[task] = {names.get(key, key[0]): group for key, group in by_key.items()}
    return groups


def _key(run: Run) -> tuple[str, ...]:
    if run.label is not None:
        return (run.label,)
    return run.algo, json.dumps(run.settings, sort_keys=True)


def _refuse_repeated_seeds(group: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in group:
        other = seen.setdefault(run.seed, run)
        if other is not run:
            raise TeamError(
                f"{other.folder} and {run.folder} are both {run.label or run.algo} on {run.task} "
                f"with seed {run.seed}: they would count twice. Leave one out, or give them "
                "different labels."
            )
