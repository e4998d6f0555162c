"""Pictures of the cooperative particle games."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf", "#e377c2", "#bcbd22")
"""Of treasures or pairs, by their number; from the start again where there are more."""

NEUTRAL = "#b0b0b0"


class Mark(NamedTuple):
    """Something to be drawn.

    Attributes:
        position: (2,) its centre.
        radius: Of the disc, or half the side of the square.
        colour: A number, taken from `COLOURS`; None for `NEUTRAL`.
        label: What is written on it.
        square: Whether it is a square instead of a disc.
    """

    position: np.ndarray
    radius: float
    colour: int | None
    label: str = ""
    square: bool = False


def draw(marks: Sequence[Mark], title: str) -> np.ndarray:
    """A picture of 480 by 480 pixels, (480, 480, 3) uint8.

    It shows the dotted square in which episodes start, and as much around it as the marks need.

    Args:
        marks: From back to front.
        title: Written above them.
    """
    # Here, so that training does not load it. Without pyplot, which would look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

    figure = Figure(figsize=(4.8, 4.8), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.94))
    axes.set_axis_off()
    half = max(1.15, *(float(np.abs(m.position).max()) + 2 * m.radius for m in marks))
    axes.set_xlim(-half / 0.94, half / 0.94)
    axes.set_ylim(-half, half)
    axes.add_patch(Rectangle((-1, -1), 2, 2, fill=False, linestyle=":", edgecolor=NEUTRAL))
    for m in marks:
        x, y = m.position
        face = NEUTRAL if m.colour is None else COLOURS[m.colour % len(COLOURS)]
        if m.square:
            corner, side = (x - m.radius, y - m.radius), 2 * m.radius
            axes.add_patch(Rectangle(corner, side, side, facecolor=face, edgecolor="black"))
        else:
            axes.add_patch(Circle((x, y), m.radius, facecolor=face, edgecolor="black"))
        axes.text(x, y, m.label, ha="center", va="center", fontsize=7)
    figure.text(0.5, 0.965, title, ha="center", va="center", fontsize=10)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
