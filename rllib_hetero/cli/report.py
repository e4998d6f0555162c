"""The command `report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rllib_hetero.cli.ending import DONE, InputError, print_result
from rllib_hetero.cli.train import count
from rllib_hetero.reporting.report import METRIC, write_report


def add_to(commands: Any) -> None:
    """Adds the command and its arguments."""
    parser = commands.add_parser("report", help="learning curves and a table of several runs")
    parser.set_defaults(run=run)
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN",
        help="folders of runs; those of one algorithm with unlike settings are shown apart",
    )  # fmt: skip
    parser.add_argument(
        "--label", nargs="+", action="append", default=[], metavar=("NAME", "RUN"),
        help="runs to show as seeds of one setting, and what to call it; repeatable",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--metric", default=METRIC)
    parser.add_argument(
        "--points", type=count, default=50, help="of a curve in marl_eval.json; pictures have all"
    )
    parser.add_argument("--resamples", type=count, default=2000, help="of the bootstrap")


def run(args: argparse.Namespace) -> int:
    """Writes the report, prints the result line, and returns the exit code."""
    labels: dict[str, list[Path]] = {}
    for name, *runs in args.label:
        labels.setdefault(name, []).extend(map(Path, runs))
    try:
        report = write_report(
            args.runs,
            args.out,
            labels=labels,
            metric=args.metric,
            points=args.points,
            resamples=args.resamples,
        )
    except (OSError, ImportError, ValueError) as problem:
        raise InputError(str(problem)) from problem
    print(report.table.read_text())
    print_result(
        {
            "runs": report.runs,
            "table": str(report.table),
            "curves": [str(path) for path in report.curves],
            "marl_eval": str(report.marl_eval),
            "status": "done",
        }
    )
    return DONE
