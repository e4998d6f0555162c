"""What a paper claims, what would confirm or refute it, and a command that finds out.

A claim is declared by a script in `tuned_examples/claims/`: which methods it compares on which
tasks, for how long, and what would decide it. Here is the rest: its runs are trained and kept as
those of any comparison, and its page says what was found. The verdict is for people to write.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_hetero.reporting.comparison import (
    Comparison,
    Curve,
    Panel,
    Run,
    add_arguments,
    mean_between,
    save_panels,
    short,
    table,
)
from rllib_hetero.reporting.intervals import interquartile_means
from rllib_hetero.reporting.names import as_file_name

LAST = 0.1
"""The share of a run's steps that counts as its end."""
_HEADER = ("task", "method", "seeds", "steps", "IQM at the end", "95 % interval", "worst", "best")


@dataclass(frozen=True)
class Case:
    """One method on one task.

    Attributes:
        task: Name of the task, for files and `--tasks`.
        method: Label of the method, for tables and `--methods`.
        configure: Makes the config, but for the seed.
        env_steps: Length of a run.
        seeds: Which seeds belong to the claim.
    """

    task: str
    method: str
    configure: Callable[[], Any]
    env_steps: int
    seeds: Sequence[int] = (1,)

    @property
    def what(self) -> tuple[str, str]:
        """Task and method, as they are in names of files."""
        return as_file_name(self.task), as_file_name(self.method)

    def runs(self, seeds: Sequence[int] | None, env_steps: int | None) -> list[Run]:
        """Of these seeds and this length, or of those of the claim."""
        return [Run(self.what, seed, env_steps or self.env_steps) for seed in seeds or self.seeds]


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what would decide it.

    Attributes:
        name: Of its page and its data.
        title: Heading.
        source: Paper, figure or table.
        says: The claim, in our words.
        confirmed_if: What we would have to see for it to hold.
        refuted_if: What we would have to see for it not to.
        differs: How our runs differ from the authors'.
        cases: Methods on tasks.
    """

    name: str
    title: str
    source: str
    says: str
    confirmed_if: str
    refuted_if: str
    differs: str
    cases: Sequence[Case]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(case.task for case in self.cases))

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(case.method for case in self.cases))


def try_claim(claim: Claim) -> None:
    """The command of a claim: trains what is missing, and writes its page and picture.

    Into `--docs` (default: docs/results) go `claims/<name>.md`, `claims/<name>.png`, and of each
    run its returns and commit, in `data/claims/<name>/`. What is kept there is not trained again.
    A run that was stopped goes on from its last checkpoint, if its folder in `--out` is there.
    """
    args = _parse(claim)
    data = args.docs / "data" / "claims" / claim.name
    comparison = Comparison(data, args.out / claim.name)
    chosen = [c for c in claim.cases if c.task in args.tasks and c.method in args.methods]
    if not args.show_only:
        runs = [run for case in chosen for run in case.runs(args.seeds, args.env_steps)]
        made: dict[tuple[str, ...], Callable[[], Any]] = {c.what: c.configure for c in chosen}

        def configure(run: Run) -> Any:
            return made[run.what]().debugging(seed=run.seed, log_level="ERROR")

        # One seed of everything first, so that a stopped command leaves a whole picture.
        runs.sort(key=lambda run: run.seed)
        comparison.train(runs, configure, parallel=args.parallel)
    page = args.docs / "claims" / f"{claim.name}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(claim, comparison, page)
    print(page.read_text())


def write_page(claim: Claim, comparison: Comparison, page: Path) -> None:
    """Writes what the claim is and what has been found; a picture beside it if there is any."""
    found = {case: comparison.kept(case.what, case.env_steps) for case in claim.cases}
    kept = [run for runs in found.values() for run in runs]
    curves = comparison.curves(kept)
    lines = [
        f"# {claim.title}",
        "",
        f"**Claim** ({claim.source}). {claim.says}",
        "",
        f"- It holds if {claim.confirmed_if}",
        f"- It does not if {claim.refuted_if}",
        f"- What differs here: {claim.differs}",
        "",
        f"Made by `python tuned_examples/claims/{claim.name}.py`, which trains what is missing.",
    ]
    if kept:
        rows = [_row(case, runs, curves[case.what]) for case, runs in found.items() if runs]
        lines += ["", f"![Learning curves]({claim.name}.png)", "", *table(_HEADER, rows), ""]
        lines += [
            f"Team return per episode while training, over the last {LAST:.0%} of a run's steps.",
            f"Commits: {comparison.commits(kept)}.",
        ]
        panels = [_panel(claim, task, curves) for task in claim.tasks]
        shown = [panel for panel in panels if panel.curves]
        grid: list[list[Panel | None]] = [[*shown[i : i + 2]] for i in range(0, len(shown), 2)]
        if len(grid) > 1 and len(grid[-1]) == 1:
            grid[-1].append(None)
        save_panels(page.with_suffix(".png"), grid, claim.methods)
    lines += _missing(found)
    page.write_text("\n".join(lines).rstrip() + "\n")


def _parse(claim: Claim) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=claim.says)
    parser.add_argument("--tasks", nargs="+", choices=claim.tasks, default=claim.tasks)
    parser.add_argument("--methods", nargs="+", choices=claim.methods, default=claim.methods)
    parser.add_argument("--show-only", action="store_true", help="of what is kept, no training")
    add_arguments(parser, out="results/claims", env_steps=None)
    return parser.parse_args()


def _row(case: Case, runs: Sequence[Run], curves: Sequence[Curve]) -> list[str]:
    lengths = [steps[-1] for steps, _ in curves]
    ends = np.array(
        [mean_between(curve, (1 - LAST) * n, n) for curve, n in zip(curves, lengths, strict=True)]
    )
    (iqm,), (low,), (high,) = interquartile_means(ends[:, None])
    return [
        case.task,
        case.method,
        ", ".join(str(run.seed) for run in runs),
        short(min(lengths)),
        f"{iqm:.1f}",
        "-" if math.isnan(low) else f"{low:.1f} to {high:.1f}",
        f"{ends.min():.1f}",
        f"{ends.max():.1f}",
    ]


def _panel(claim: Claim, task: str, curves: dict[tuple[str, ...], list[Curve]]) -> Panel:
    of_task = [case for case in claim.cases if case.task == task and case.what in curves]
    return Panel(task, {case.method: curves[case.what] for case in of_task})


def _missing(found: Mapping[Case, Sequence[Run]]) -> list[str]:
    """What belongs to the claim and has not been run, task by task."""
    of_tasks: dict[str, list[str]] = {}
    for case, runs in found.items():
        seeds = sorted(set(case.seeds) - {run.seed for run in runs})
        if seeds:
            named = f"{case.method} ({', '.join(map(str, seeds))})"
            of_tasks.setdefault(case.task, []).append(named)
    if not of_tasks:
        return ["", "Everything that belongs to the claim has been run."]
    rows = [[task, "; ".join(methods)] for task, methods in of_tasks.items()]
    return ["", "Not run so far:", "", *table(("task", "methods (seeds)"), rows)]
