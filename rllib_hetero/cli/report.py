"""The command `report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rllib_hetero.cli.ending import DONE, InputError, print_result
from rllib_hetero.reporting.report import write_report


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
