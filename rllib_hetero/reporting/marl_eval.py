"""Runs in the JSON format of marl-eval, which Gorsane et al. (NeurIPS 2022) propose.

environment -> task -> algorithm -> seed -> step -> numbers, and "absolute_metrics" at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rllib_hetero.reporting.run_folders import Groups, Run


def marl_eval_data(
    groups: Groups,
    metric: str,
    *,
    grid: Callable[[Sequence[Run]], np.ndarray],
    final: Callable[[Run], float],
) -> dict[str, Any]:
    """The nested dict.

    Args:
        groups: The runs.
        metric: The metric's name in the result.
        grid: The steps (n,) at which runs of one task are read: the same for all, as marl-eval
            compares them step by step.
        final: The number that stands for a run as a whole.
    """
    data: dict[str, Any] = {}
    for (env, task), by_algo in groups.items():
        steps = grid([run for group in by_algo.values() for run in group])
        data.setdefault(env, {})[task] = {
            algo: {f"seed_{run.seed}": _of_run(run, steps, metric, final(run)) for run in group}
            for algo, group in by_algo.items()
        }
    return data


def _of_run(run: Run, steps: np.ndarray, metric: str, final: float) -> Mapping[str, Any]:
    values = np.interp(steps, run.steps, run.values)
    logged = {
        f"step_{i}": {"step_count": int(step), metric: [float(value)]}
        for i, (step, value) in enumerate(zip(steps, values, strict=True))
    }
    return {**logged, "absolute_metrics": {metric: [final]}}
