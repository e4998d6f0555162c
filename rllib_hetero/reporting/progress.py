"""What a training says as it goes: one row of a CSV file and one line of text per iteration."""

from __future__ import annotations

import csv
import logging
import math
import os
import re
from collections import deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ray.rllib.core import ALL_MODULES
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    EVALUATION_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
)

from rllib_hetero.learners.off_policy.off_policy_learner import REPLAY_FILL, UPDATES

COLUMNS = (
    "iteration",
    "env_steps",
    "wall_s",
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_LEN_MEAN,
    "steps_per_s",
)
"""The columns every `progress.csv` has. What the benchmark counts (`win_rate`), both that and
`EVALUATION` under `evaluation/`, and `learner/<module>/<metric>` follow."""

UPDATES_PER_S = "updates_per_s"
EVALUATION = f"{EVALUATION_RESULTS}/{EPISODE_RETURN_MEAN}"

_MOST_WAITING = 10_000  # rows that are kept while the disk is full

_OF_RLLIB = re.compile(r"(num|episode|agent|module)_|time|sample$|weights_seq|.*(timer|connector)")

Row = dict[str, float]

logger = logging.getLogger(__name__)


def env_steps_of(result: Mapping[str, Any]) -> int | None:
    """Environment steps sampled since the training began; None if the result lacks them."""
    steps = _number(result.get(ENV_RUNNER_RESULTS, {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME))
    return None if math.isnan(steps) else int(steps)


def env_steps_so_far(algo: Any) -> int:
    """Environment steps that an algorithm has sampled, those before its checkpoint included."""
    return int(algo.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))


def row_of(
    result: Mapping[str, Any], *, iteration: int, env_steps: int, wall_s: float, steps_per_s: float
) -> Row:
    """One iteration as numbers.

    Args:
        result: What `algo.train()` returned.
        iteration: Counted from 1.
        env_steps: Environment steps so far.
        wall_s: Seconds since the training began.
        steps_per_s: Environment steps per second in this iteration.

    Returns:
        Column to value. What the result lacks is NaN: no episode may have ended so far.
    """
    sampled = result.get(ENV_RUNNER_RESULTS, {})
    row: Row = {
        **dict.fromkeys(COLUMNS, math.nan),
        "iteration": iteration,
        "env_steps": env_steps,
        "wall_s": round(wall_s, 3),
        "steps_per_s": round(steps_per_s, 1),
    }
    for key in (EPISODE_RETURN_MEAN, EPISODE_RETURN_MIN, EPISODE_RETURN_MAX, EPISODE_LEN_MEAN):
        # In other iterations, RLlib's results repeat the last known one.
        if _number(sampled.get(NUM_EPISODES, 1)) > 0:
            row[key] = _number(sampled.get(key))
    evaluated = result.get(EVALUATION_RESULTS, {}).get(ENV_RUNNER_RESULTS, {})
    if EPISODE_RETURN_MEAN in evaluated:
        row[EVALUATION] = _number(evaluated[EPISODE_RETURN_MEAN])
    for prefix, results in (("", sampled), (f"{EVALUATION_RESULTS}/", evaluated)):
        row |= {prefix + name: value for name, value in _counted(results).items()}
    row |= _of_replay(result, sampled, steps_per_s)
    for module, metrics in result.get(LEARNER_RESULTS, {}).items():
        if module == ALL_MODULES:
            continue
        for name, value in sorted(metrics.items()):
            if not name.startswith("num_") and not isinstance(value, Mapping):
                row[f"{LEARNER_RESULTS[:-1]}/{module}/{name}"] = _number(value)
    return row


def _of_replay(result: Mapping[str, Any], sampled: Mapping[str, Any], steps_per_s: float) -> Row:
    """How full the replay is, and the updates per second; nothing where there is none."""
    learned = result.get(LEARNER_RESULTS, {}).get(ALL_MODULES, {})
    if REPLAY_FILL not in learned:
        return {}
    updates = _number(learned[UPDATES])
    per_step = updates / max(1.0, _number(sampled.get(NUM_ENV_STEPS_SAMPLED)))
    return {
        REPLAY_FILL: round(_number(learned[REPLAY_FILL]), 5),
        UPDATES_PER_S: round(per_step * steps_per_s, 2),
    }


def _counted(results: Mapping[str, Any]) -> Row:
    """What the environment counts, and the runner: those scalars that are not RLlib's."""
    return {
        name: _number(value)
        for name, value in sorted(results.items())
        if not isinstance(value, Mapping) and not _OF_RLLIB.match(name)
    }


def progress_line(row: Row, *, target: int, left_s: float) -> str:
    """One iteration as a line of text.

    The spread in brackets is that of the episodes the mean is over, smallest to largest.
    """
    width = len(f"{target:,}")
    parts = [f"{int(row['env_steps']):>{width},}/{target:,} steps"]
    if math.isnan(row[EPISODE_RETURN_MEAN]):
        parts.append("team return: no episode ended")
    else:
        parts.append(
            f"team return {row[EPISODE_RETURN_MEAN]:.2f} "
            f"[{row[EPISODE_RETURN_MIN]:.2f} .. {row[EPISODE_RETURN_MAX]:.2f}]"
        )
    parts.append(f"{row['steps_per_s']:,.0f} steps/s")
    if REPLAY_FILL in row:
        parts.append(f"{row[UPDATES_PER_S]:,.0f} updates/s | replay {row[REPLAY_FILL]:.1%} full")
    parts.append(f"left {clock(left_s)}")
    if not math.isnan(row.get(EVALUATION, math.nan)):
        parts.append(f"evaluation {row[EVALUATION]:.2f}")
    return " | ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss; "?" for what is not finite."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


class ProgressFile:
    """A CSV file that is complete after every row. NaN is written as an empty cell.

    Columns that turn up later (evaluation, say) widen the table: the file is then written anew
    beside the old one and put in its place.

    Where the disk is full, the latest rows are kept and written as soon as there is room. Nothing
    else of the rows stays in memory, however long a training is.

    Attributes:
        last: The last row; None if there is none.
        latest_return: The last mean return that is a number; NaN if there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: Row | None = None
        self.latest_return = math.nan
        self._columns: list[str] = []
        self._written = 0  # rows in the file
        self._waiting: deque[Row] = deque(maxlen=_MOST_WAITING)
        self._behind = False  # what follows the written rows may be half a row

    @classmethod
    def reopened(cls, path: Path, *, iterations: int) -> ProgressFile:
        """The table of a run that goes on from its checkpoint.

        Args:
            path: The file; it may be missing.
            iterations: Of the checkpoint. Later rows are removed: they are trained again.
        """
        table = cls(path)
        rows = [row for row in cls.rows_of(path) if row["iteration"] <= iterations]
        if rows:
            table._columns, table._written, table._behind = list(rows[0]), len(rows), True
            for row in rows:
                table._note(row)
            table.complete()
        else:
            path.unlink(missing_ok=True)
        return table

    @staticmethod
    def rows_of(path: Path) -> list[Row]:
        """The rows of a file, each with all its columns; none if there is no file."""
        if not path.exists():
            return []
        text = path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a process that was killed may leave half a row
        return [
            {k: _parsed(v) for k, v in row.items()} for row in csv.DictReader(whole.splitlines())
        ]

    def write(self, row: Row) -> None:
        self._note(row)
        self._waiting.append(row)
        try:
            self._flush()
        except OSError as problem:
            self._behind = True
            logger.warning("%s was NOT written, and will be again: %s", self.path, problem)

    def complete(self) -> None:
        """Writes rows that are still missing in the file.

        Raises:
            OSError: If it cannot.
        """
        if self._behind or self._waiting:
            self._flush()

    def _note(self, row: Row) -> None:
        self.last = row
        value = row.get(EPISODE_RETURN_MEAN, math.nan)
        if not math.isnan(value):
            self.latest_return = value

    def _flush(self) -> None:
        new = {column: None for row in self._waiting for column in row}
        added = [column for column in new if column not in self._columns]
        self._columns += added
        if added or self._behind:
            self._rewrite()
        else:
            with self.path.open("a", newline="") as file:
                self._writer(file).writerows(map(_cells, self._waiting))
        self._written += len(self._waiting)
        self._waiting.clear()

    def _rewrite(self) -> None:
        beside = self.path.with_name(self.path.name + ".partial")
        with beside.open("w", newline="") as file:
            writer = self._writer(file)
            writer.writeheader()
            if self._written:
                with self.path.open(newline="") as before:
                    writer.writerows(islice(csv.DictReader(before), self._written))
            writer.writerows(map(_cells, self._waiting))
        os.replace(beside, self.path)
        self._behind = False

    def _writer(self, file: Any) -> csv.DictWriter:
        return csv.DictWriter(file, self._columns, restval="", lineterminator="\n")


def _cells(row: Row) -> dict[str, Any]:
    return {k: "" if math.isnan(v) else v for k, v in row.items()}


def _parsed(cell: str) -> float:
    """What `_cells` wrote; whole numbers stay whole."""
    if not cell:
        return math.nan
    return int(cell) if cell.isdigit() else float(cell)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
