"""The stand-in's battles. All numbers are invented: they say nothing about StarCraft II."""

import math
from dataclasses import dataclass

SIDE = 32
UNITS_IN_DATA = 2000  # smacv2 takes the last 9 of them for the agents' own types of unit
STOP, MOVE, ATTACK, HEAL = 4, 16, 23, 386
_REACH, _SPEED, _DAMAGE = 6.0, 0.14, 0.5  # per loop of the game


@dataclass
class Unit:
    tag: int
    unit_type: int
    owner: int
    x: float
    y: float
    health: float = 45.0
    shield: float = 0.0
    order: tuple | None = None  # ("move", x, y) or ("attack", tag)


class Game:
    """Units that walk and shoot.

    Args:
        armies: (type, owner, x, y) of the units that the map itself brings; it brings them again
            once nobody is left.
        harmless: Whether shots do nothing.
    """

    def __init__(self, armies, harmless=False):
        self.armies = armies
        self.harmless = harmless
        self.units = {}
        self.loop = 0
        self._tags = 0
        self._seen_empty = True

    def create(self, unit_type, owner, x, y):
        self._tags += 1
        self.units[self._tags] = Unit(self._tags, unit_type, owner, x, y)

    def observe(self):
        """The living units."""
        self._seen_empty = not self.units
        return list(self.units.values())

    def command(self, tags, ability, target=None, position=None):
        for unit in (self.units[t] for t in tags if t in self.units):
            unit.order = None
            if ability == MOVE:
                unit.order = ("move", *position)
            elif ability in (ATTACK, HEAL):
                unit.order = ("attack" if ability == ATTACK else "heal", target)

    def step(self, loops):
        if not self.units and self._seen_empty:
            for army in self.armies:
                self.create(*army)
        for _ in range(loops):
            self.loop += 1
            for unit in list(self.units.values()):
                if unit.tag in self.units:
                    self._act(unit)

    def _act(self, unit):
        order = unit.order
        if order is None and unit.owner == 2:
            foes = [u for u in self.units.values() if u.owner == 1]
            if foes:
                order = ("attack", min(foes, key=lambda f: _distance(unit, f.x, f.y)).tag)
        if order is None:
            return
        if order[0] == "move":
            self._walk(unit, order[1], order[2])
        elif order[1] in self.units:
            target = self.units[order[1]]
            if _distance(unit, target.x, target.y) > _REACH:
                self._walk(unit, target.x, target.y)
            elif order[0] == "heal":
                target.health = min(45.0, target.health + _DAMAGE)
            elif not self.harmless:
                target.health -= _DAMAGE
                if target.health <= 0:
                    del self.units[target.tag]

    def _walk(self, unit, x, y):
        d = _distance(unit, x, y)
        if d > 1e-6:
            step = min(_SPEED, d)
            unit.x = min(max(unit.x + step * (x - unit.x) / d, 0.5), SIDE - 0.5)
            unit.y = min(max(unit.y + step * (y - unit.y) / d, 0.5), SIDE - 0.5)


def _distance(unit, x, y):
    return math.hypot(unit.x - x, unit.y - y)
