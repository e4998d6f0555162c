"""Draws curves over environment steps: every picture of this library's, in one way."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rllib_hetero.files import write_whole


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        label: What the legend says.
        steps: (n,) environment steps.
        values: (n,) what is drawn as a line.
        band: The lower and upper ends (n,) of what is drawn around it; NaN draws none.
        beneath: (n,) what is drawn thin beneath it.
        color: Which of the colours it has.
    """

    label: str
    steps: np.ndarray
    values: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None
    beneath: np.ndarray | None = None
    color: int = 0


@dataclass(frozen=True)
class Diagram:
    """Curves over common axes.

    Attributes:
        title: Its heading.
        lines: The curves.
        levels: Label to a constant, drawn dashed.
        labels: What stands at the axes; None where the picture as a whole says it.
    """

    title: str
    lines: Sequence[Line]
    levels: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, str] | None = None


def new_figure(width: float, height: float) -> Any:
    """An empty picture, in inches. No backend is chosen for the user's own pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(diagram: Diagram, axes: Any, *, size: str | float = "large") -> dict[str, Any]:
    """Draws a diagram without its legend.

    Titles and labels are taken as they are: a `$` in them begins no formula.

    Args:
        diagram: What to draw.
        axes: matplotlib's.
        size: Of the heading's letters.

    Returns:
        Label to what a legend shows of it.
    """
    from matplotlib.ticker import EngFormatter

    shown = {}
    for line in diagram.lines:
        color = f"C{line.color % 10}"
        if line.band is not None:
            axes.fill_between(line.steps, *line.band, color=color, alpha=0.2, linewidth=0)
        if line.beneath is not None:
            axes.plot(line.steps, line.beneath, color=color, alpha=0.3, linewidth=0.8)
        marker = "o" if len(line.steps) < 3 else None
        (shown[line.label],) = axes.plot(
            line.steps, line.values, color=color, marker=marker, linewidth=1.4
        )
    for i, (label, value) in enumerate(diagram.levels.items()):
        style = ("--", ":", "-.")[i % 3]
        shown[label] = axes.axhline(value, color="0.35", linestyle=style, linewidth=1.2)
    if not diagram.lines:
        axes.text(0.5, 0.5, "no episode ended", ha="center", transform=axes.transAxes)
    axes.set_title(shortened(diagram.title), fontsize=size, parse_math=False, wrap=True)
    if diagram.labels:
        axes.set_xlabel(diagram.labels[0])
        axes.set_ylabel(diagram.labels[1], parse_math=False)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return shown


def explain(axes: Any, shown: Mapping[str, Any], **settings: Any) -> None:
    """Puts a legend into a diagram.

    Args:
        axes: matplotlib's.
        shown: What `draw` returned, in the legend's order.
        settings: matplotlib's, such as `title`.
    """
    # matplotlib leaves out what begins with a "_".
    names = [shortened(f" {label}" if label.startswith("_") else label) for label in shown]
    legend = axes.legend(list(shown.values()), names, frameon=False, **settings)
    for text in legend.get_texts():
        text.set_parse_math(False)


def shortened(text: str, longest: int = 100) -> str:
    """The text as a picture or a table has room for it, in one line that can be printed."""
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return "".join(x if x.isprintable() else "?" for x in text)


def save_diagram(diagram: Diagram, png: Path | str, *, legend: str | None = None) -> Path:
    """Draws a picture of one diagram.

    Args:
        diagram: What to draw.
        png: Where it goes; folders are made.
        legend: The legend's heading, "" for none; None for no legend.
    """
    figure = new_figure(8, 4.8)
    axes = figure.add_subplot()
    shown = draw(diagram, axes)
    if legend is not None and shown:
        longest = max(map(len, shown))
        explain(axes, shown, title=legend or None, fontsize="medium" if longest < 60 else "small")
    return save(figure, Path(png), dpi=130)


def save(figure: Any, png: Path, *, dpi: int) -> Path:
    """Writes a picture, whole or not at all; its folder is made."""
    png.parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi)
    write_whole(png, picture.getvalue())
    return png
