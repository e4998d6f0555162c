"""Learning curves of one or several runs, drawn from their `progress.csv` files.

Also a command; every label is followed by its seeds:
`python -m rllib_hetero.reporting.curve OUT.png HAPPO=a/progress.csv,b/progress.csv MAPPO=c.csv`
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rllib_hetero.files import read_text
from rllib_hetero.reporting.plotting import Diagram, Line, save_diagram

_LARGEST = 512 * 2**20  # bytes of a table

UNITS = {
    "episode_return_mean": "team return per episode",
    "evaluation/episode_return_mean": "team return per episode (evaluation)",
    "episode_len_mean": "episode length [environment steps]",
    "win_rate": "share of episodes that were won",
    "score_rate": "share of episodes with a goal",
    "steps_per_s": "environment steps per second",
}


def save_curves(
    csvs: Mapping[str, Sequence[Path | str]],
    png: Path | str,
    *,
    title: str,
    window: int = 1,
    y: str = "episode_return_mean",
    reference_lines: Mapping[str, float] | None = None,
) -> Path:
    """Draws learning curves over environment steps.

    Several files under one label are seeds: their mean is drawn as a line, their smallest and
    largest values as a band, over the steps that all of them reached. One file is drawn as it
    is, thin, under its moving average.

    Args:
        csvs: Label to `progress.csv` files.
        png: Where the picture goes.
        title: Its heading.
        window: Iterations the moving average is over; 1 leaves the numbers as they are.
        y: The column to draw.
        reference_lines: Label to a constant, drawn dashed.

    Returns:
        The picture's path.

    Raises:
        FileNotFoundError: If a CSV file does not exist.
        ValueError: If a file is no table, or lacks the column `y`. The message lists the columns.
        TeamError: If a file is no plain file, or too large to be a table.
    """
    lines = []
    for i, (label, paths) in enumerate(csvs.items()):
        runs = [run for run in (read_column(path, y) for path in paths) if len(run[0])]
        if len(runs) == 1:
            x, raw = runs[0]
            beneath = raw if window > 1 else None
            lines.append(Line(label, x, smooth(raw, window), beneath=beneath, color=i))
        elif runs:
            x, values = on_common_steps([(s, smooth(v, window)) for s, v in runs])
            band = values.min(0), values.max(0)
            lines.append(Line(f"{label} ({len(runs)} seeds)", x, values.mean(0), band, color=i))
    levels = {f"{label} ({value:.4g})": value for label, value in (reference_lines or {}).items()}
    alone = len(csvs) == 1 and not levels and all(line.band is None for line in lines)
    diagram = Diagram(title, lines, levels, ("environment steps", UNITS.get(y, y)))
    return save_diagram(diagram, png, legend=None if alone else "")


def read_column(path: Path | str, y: str) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps (n,) and the column (n,) of a `progress.csv`, where both are finite.

    Raises:
        ValueError: If the file is no table, or lacks the column.
        TeamError: If it is no plain file, or too large to be a table.
    """
    text = read_text(Path(path), most=_LARGEST)
    whole = text[: text.rfind("\n") + 1]  # a process that was killed may leave half a row
    reader = csv.reader(io.StringIO(whole, newline=""))
    try:
        columns = next(reader, [])
        if y not in columns or "env_steps" not in columns:
            known = ", ".join(columns)
            raise ValueError(f"{path} has no column {y!r} over 'env_steps'; it has {known:.2000}.")
        at = columns.index("env_steps"), columns.index(y)
        points = [
            [float(row[i]) for i in at] for row in reader if len(row) > max(at) and row[at[1]]
        ]
    except csv.Error as problem:
        raise ValueError(f"{path} is no table: {problem}.") from None
    steps, values = np.array(points).reshape(-1, 2).T
    finite = np.isfinite(steps) & np.isfinite(values)
    return steps[finite], values[finite]


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The centred moving average (n,) over `window` values, over fewer at both ends."""
    if window <= 1 or len(values) == 0:
        return values
    ones = np.ones(min(window, len(values)))
    count = np.convolve(np.ones(len(values)), ones, mode="same")
    return np.convolve(values, ones, mode="same") / count


def on_common_steps(
    runs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) that all runs cover, and their values (runs, n) there, interpolated."""
    low, high = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    steps = np.unique(np.concatenate([x for x, _ in runs]))
    steps = steps[(steps >= low) & (steps <= high)]
    return steps, np.stack([np.interp(steps, x, v) for x, v in runs])


def _pair(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not (label and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not LABEL=VALUE")
    return label, value


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draws learning curves of progress.csv files.")
    parser.add_argument("png", metavar="OUT.png")
    parser.add_argument("runs", nargs="+", type=_pair, metavar="LABEL=a.csv,b.csv")
    parser.add_argument("--title", default="")
    parser.add_argument("--window", type=int, default=1, help="iterations to average over")
    parser.add_argument("--y", default="episode_return_mean", help="the column to draw")
    parser.add_argument("--reference", type=_pair, action="append", metavar="LABEL=NUMBER")
    args = parser.parse_args()
    print(
        save_curves(
            {label: paths.split(",") for label, paths in args.runs},
            args.png,
            title=args.title,
            window=args.window,
            y=args.y,
            reference_lines={label: float(x) for label, x in args.reference or []},
        )
    )


if __name__ == "__main__":
    main()
