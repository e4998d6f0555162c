"""A picture of a battle, drawn from what the game tells of its units."""

from __future__ import annotations

from typing import Any

import numpy as np

_PIXELS = 480
_GROUND = (32, 36, 40)
_COLOURS = ((70, 150, 255), (235, 70, 60))  # of the agents, of the enemies
_LOST = 0.35  # how bright the part of a unit is that stands for lost health


def draw(battle: Any) -> np.ndarray:
    """The living units from above, (480, 480, 3) uint8.

    Discs of the units' size, agents blue and enemies red, filled from below as far as health
    and shield are left. The middle of the playable area is the middle of the picture.

    Args:
        battle: smacv2's `StarCraft2Env`, after its reset.
    """
    picture = np.empty((_PIXELS, _PIXELS, 3), np.uint8)
    picture[:] = _GROUND
    low, high = battle.map_play_area_min, battle.map_play_area_max
    side = max(high.x - low.x, high.y - low.y)
    scale = _PIXELS / side
    left, bottom = ((low.x + high.x) - side) / 2, ((low.y + high.y) - side) / 2
    rows, columns = np.mgrid[:_PIXELS, :_PIXELS]
    for units, colour in zip((battle.agents, battle.enemies), _COLOURS, strict=True):
        for unit in units.values():
            if unit.health <= 0:
                continue
            radius = max(unit.radius, 0.3) * scale
            x, y = (unit.pos.x - left) * scale, _PIXELS - (unit.pos.y - bottom) * scale
            disc = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
            left_over = (unit.health + unit.shield) / (unit.health_max + unit.shield_max)
            full = disc & (rows >= y + radius - 2 * radius * left_over)
            picture[disc] = np.multiply(colour, _LOST).astype(np.uint8)
            picture[full] = colour
    return picture
