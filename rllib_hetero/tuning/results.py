"""From the trials of a study to one table: the best setting of each algorithm on each task."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_hetero.reporting.comparison import escaped, short, table
from rllib_hetero.reporting.intervals import interquartile_means
from rllib_hetero.reporting.report import LAST
from rllib_hetero.tuning.search import Plan, Search

HEADER = [
    "task", "algorithm", "trials", "settings", "best setting", "seeds", "steps", "IQM",
    "95 % interval", "mean", "worst", "best",
]  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        task: What was trained on.
        algorithm: What was trained.
        seed: Its seed.
        setting: What was searched, as it was at the end.
        steps: The environment steps it got to.
        final: The mean of the metric over its last tenth of steps; NaN if it has no value.
        error: The first line of what it failed with; None if it did not.
        checkpoint: Its last one; None if there is none.
        folder: Its folder.
    """

    task: str
    algorithm: str
    seed: int | None
    setting: dict[str, Any]
    steps: int
    final: float
    error: str | None
    checkpoint: str | None
    folder: str


@dataclass(frozen=True)
class Best:
    """The best setting of an algorithm on a task, over the seeds.

    Attributes:
        trials: One for each seed, in the order of the seeds. Under PBT their settings differ.
        num_settings: How many were compared; under PBT, the size of the population.
        num_trials: How many trials there were.
    """

    trials: list[Trial]
    num_settings: int
    num_trials: int


def trials_of(search: Search, results: Any) -> list[Trial]:
    """The trials of a finished or interrupted search, from Tune's `ResultGrid`."""
    # Tune's own order is another one after a restart, and would decide between equals.
    return sorted((_trial(search, result) for result in results), key=lambda t: t.folder)


def final_value(steps: np.ndarray, values: np.ndarray) -> float:
    """The mean over the last tenth of the steps (n,), without NaN; NaN if nothing is left.

    Rows that were trained again after a fault count once, as they were the second time.
    """
    if not len(steps):
        return math.nan
    kept = _not_repeated(steps)
    steps, values = steps[kept], values[kept]
    late = values[steps > (1 - LAST) * steps[-1]]
    late = late[np.isfinite(late)]
    return float(late.mean()) if len(late) else math.nan


def best_of(trials: Sequence[Trial], plan: Plan) -> Best | None:
    """The setting with the best mean over its seeds; None where no trial has a value.

    Settings of which a seed is missing, failed, or was stopped early are only looked at where
    there are no others. Under PBT every seed has its own best member.
    """
    better: Callable[..., Any] = max if plan.mode == "max" else min
    usable = [t for t in trials if math.isfinite(t.final) and t.error is None]
    if not usable:
        return None
    if plan.scheduler == "pbt":
        by_seed = _grouped(usable, lambda t: t.seed)
        members = [better(group, key=lambda t: t.final) for group in by_seed.values()]
        return Best(sorted(members, key=_seed), plan.num_samples, len(trials))
    settings = _grouped(usable, lambda t: json.dumps(t.setting, sort_keys=True))
    whole = [
        group
        for group in settings.values()
        if len(group) == len(plan.seeds) and all(t.steps >= plan.env_steps for t in group)
    ]
    candidates = whole or list(settings.values())
    most = max(map(len, candidates))
    candidates = [group for group in candidates if len(group) == most]
    best = better(candidates, key=lambda group: np.mean([t.final for t in group]))
    return Best(sorted(best, key=_seed), len(settings), len(trials))


def write_results(trials: Sequence[Trial], plan: Plan, out: Path) -> tuple[Path, Path]:
    """Writes `results.md`, a row for each task and algorithm, and `trials.csv`, one for each trial.

    Raises:
        MissingExtraError: If rliable is not installed and there are several seeds.
    """
    groups = _grouped(trials, lambda t: (t.task, t.algorithm))
    rows = [_row(task, algo, group, plan) for (task, algo), group in sorted(groups.items())]
    lines = [f"`{plan.metric}`, mean over the last {LAST:.0%} of each trial's steps.", ""]
    lines += table(HEADER, rows)
    (out / "results.md").write_text("\n".join(lines) + "\n")
    _write_csv(trials, out / "trials.csv")
    return out / "results.md", out / "trials.csv"


def _trial(search: Search, result: Any) -> Trial:
    settings = result.config or {}
    frame = result.metrics_dataframe
    steps, values = _history(frame, search.plan.metric)
    error = result.error
    return Trial(
        task=search.task,
        algorithm=search.algorithm,
        seed=settings.get("seed", search.seeds[0] if len(search.seeds) == 1 else None),
        setting={name: settings.get(name) for name in search.space},
        steps=int(steps[-1]) if len(steps) else 0,
        final=final_value(steps, values),
        error=None if error is None else str(error).strip().splitlines()[-1],
        checkpoint=None if result.checkpoint is None else result.checkpoint.path,
        folder=str(result.path),
    )


def _history(frame: Any, metric: str) -> tuple[np.ndarray, np.ndarray]:
    if frame is None or NUM_ENV_STEPS_SAMPLED_LIFETIME not in frame:
        return np.zeros(0), np.zeros(0)
    steps = frame[NUM_ENV_STEPS_SAMPLED_LIFETIME].to_numpy(float)
    missing = np.full(len(steps), np.nan)
    return steps, frame[metric].to_numpy(float) if metric in frame else missing


def _not_repeated(steps: np.ndarray) -> np.ndarray:
    """Whether (n,) each row is below all that follow."""
    lowest_after = np.minimum.accumulate(np.append(steps[1:], np.inf)[::-1])[::-1]
    return steps < lowest_after


def _grouped(trials: Sequence[Trial], key: Callable[[Trial], Any]) -> dict[Any, list[Trial]]:
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return groups


def _row(task: str, algorithm: str, trials: list[Trial], plan: Plan) -> list[str]:
    best = best_of(trials, plan)
    if best is None:
        return [escaped(task), algorithm, str(len(trials)), *["-"] * (len(HEADER) - 3)]
    finals = np.array([t.final for t in best.trials])
    iqm, interval = _statistics(finals)
    return [
        escaped(task), algorithm, str(best.num_trials), str(best.num_settings),
        escaped(_settings(best.trials)), str(len(finals)),
        short(min(t.steps for t in best.trials)), iqm, interval,
        f"{finals.mean():.2f}", f"{finals.min():.2f}", f"{finals.max():.2f}",
    ]  # fmt: skip


def _statistics(finals: np.ndarray) -> tuple[str, str]:
    if len(finals) == 1:  # its interquartile mean is itself; rliable is not needed
        return f"{finals[0]:.2f}", "-"
    (iqm,), (low,), (high,) = interquartile_means(finals[:, None])
    return f"{iqm:.2f}", f"{low:.2f} to {high:.2f}"


def _settings(trials: Sequence[Trial]) -> str:
    """In words. Where seeds ended with different values, as under PBT, from lowest to highest."""
    shown = []
    for name in trials[0].setting:
        values = sorted({t.setting[name] for t in trials})
        texts = [_short(v) for v in values]
        shown.append(f"{name} {texts[0]}" + (f" to {texts[-1]}" if len(values) > 1 else ""))
    return ", ".join(shown) or "as configured"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _seed(trial: Trial) -> int:
    return -1 if trial.seed is None else trial.seed


def _write_csv(trials: Sequence[Trial], path: Path) -> None:
    names = sorted({name for trial in trials for name in trial.setting})
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        fields = ["task", "algorithm", "seed"]
        ends = ["steps", "final", "error", "checkpoint", "folder"]
        rows.writerow([*fields, *names, *ends])
        for trial in trials:
            settings = [trial.setting.get(name, "") for name in names]
            rows.writerow(
                [getattr(trial, f) for f in fields] + settings + [getattr(trial, f) for f in ends]
            )
