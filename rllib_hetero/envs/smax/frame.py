"""Pictures of battles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from rllib_hetero.envs.smax.simulator import Unit

ALLY, ENEMY, LOST = "#1f77b4", "#d62728", "#dddddd"
SIDE = 32
"""Of the map, a square."""


def draw(units: Sequence[Unit], num_allies: int, title: str) -> np.ndarray:
    """A picture of 480 by 480 pixels, (480, 480, 3) uint8.

    Allies are blue, enemies red. The bar above a unit is its health.

    Args:
        units: The living ones.
        num_allies: Units of lower number are allies.
        title: Written above the map.
    """
    # Without pyplot, which would look for a screen.
    figure = Figure(figsize=(4.8, 4.8), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.03, 0.02, 0.94, 0.92))
    axes.set(xlim=(0, SIDE), ylim=(0, SIDE), xticks=[], yticks=[], aspect="equal")
    for u in units:
        face = ALLY if u.number < num_allies else ENEMY
        axes.add_patch(Circle((u.x, u.y), u.radius, facecolor=face, edgecolor="black"))
        axes.text(u.x, u.y, u.kind, ha="center", va="center", fontsize=6, color="white")
        left, right, above = u.x - u.radius, u.x + u.radius, u.y + u.radius + 0.3
        split = left + 2 * u.radius * u.health
        axes.plot([left, split], [above, above], color=face, linewidth=2)
        axes.plot([split, right], [above, above], color=LOST, linewidth=2)
    figure.text(0.5, 0.965, title, ha="center", va="center", fontsize=10)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
