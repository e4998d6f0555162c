"""The cooperative particle games once more: one environment, one disc and one pair at a time.

Written from the rules without a look at the package, which steps all environments by array
operations. The tests compare the two.
"""

import math
from types import SimpleNamespace as Disc

PUSH = {0: (0, 0), 1: (1, 0), 2: (-1, 0), 3: (0, 1), 4: (0, -1)}


def one_hot(k, size):
    return [1.0 if i == k else 0.0 for i in range(size)]


def gap(a, b):
    return math.dist((a.x, a.y), (b.x, b.y))


def integrate(disc, fx, fy):
    disc.vx = 0.75 * disc.vx + fx / disc.mass * 0.1
    disc.vy = 0.75 * disc.vy + fy / disc.mass * 0.1
    speed = math.hypot(disc.vx, disc.vy)
    if speed > 1.0:
        disc.vx, disc.vy = disc.vx / speed, disc.vy / speed
    disc.x += disc.vx * 0.1
    disc.y += disc.vy * 0.1


def thrust(disc, action):
    ux, uy = PUSH[action]
    # Scaled by 1.5 when the action is set, and again when the force is applied.
    return [disc.mass * 1.5 * (1.5 * ux), disc.mass * 1.5 * (1.5 * uy)]


class SlowTreasures:
    def __init__(self, hunters, banks, treasures):
        """Positions (x, y) of each, and for treasures (x, y, colour)."""
        self.hunters = [
            Disc(x=x, y=y, vx=0.0, vy=0.0, r=0.05, mass=1.0, bank=None, held=None)
            for x, y in hunters
        ]
        self.banks = [
            Disc(x=x, y=y, vx=0.0, vy=0.0, r=0.075, mass=2.25, bank=k, held=None)
            for k, (x, y) in enumerate(banks)
        ]
        self.agents = self.hunters + self.banks
        self.treasures = [Disc(x=x, y=y, r=0.025, colour=c, alive=True) for x, y, c in treasures]
        self.pick_ups = 0

    def physics(self, actions):
        forces = [thrust(a, u) for a, u in zip(self.agents, actions, strict=True)]
        for i, a in enumerate(self.agents):
            for j, b in enumerate(self.agents[:i]):
                d = gap(a, b)
                s = (a.r + b.r - d) / 1e-3
                p = 1e-3 * (s + math.log1p(math.exp(-s)) if s > 0 else math.log1p(math.exp(s)))
                fx, fy = 100 * p * (a.x - b.x) / d, 100 * p * (a.y - b.y) / d
                forces[i][0] += b.mass / a.mass * fx
                forces[i][1] += b.mass / a.mass * fy
                forces[j][0] -= a.mass / b.mass * fx
                forces[j][1] -= a.mass / b.mass * fy
        for a, force in zip(self.agents, forces, strict=True):
            integrate(a, *force)

    def touch(self, a, b):
        return gap(a, b) < a.r + b.r

    def rewards(self):
        everybody = 0.0
        for h in self.hunters:
            for t in self.treasures:
                if h.held is None and self.touch(h, t):
                    everybody += 5
            for b in self.banks:
                if h.held == b.bank and self.touch(h, b):
                    everybody += 5
        rewards = []
        for h in self.hunters:
            r = everybody - 5 * sum(self.touch(h, o) for o in self.hunters if o is not h)
            if h.held is None:
                r -= 0.1 * min(gap(h, t) for t in self.treasures)
            else:
                r -= 0.1 * gap(h, self.banks[h.held])
            rewards.append(r)
        for b in self.banks:
            carriers = [h for h in self.hunters if h.held == b.bank]
            if carriers:
                way = min(gap(h, b) for h in carriers)
            else:
                way = math.hypot(
                    sum(h.x - b.x for h in self.hunters) / len(self.hunters),
                    sum(h.y - b.y for h in self.hunters) / len(self.hunters),
                )
            rewards.append(everybody - 0.1 * way)
        return rewards

    def observations(self):
        colours = len(self.banks)
        seen = []
        for a in self.agents:
            x = [a.x, a.y, a.vx, a.vy]
            if a.bank is None:
                x += one_hot(a.held, colours)
            for o in sorted((o for o in self.agents if o is not a), key=lambda o: gap(a, o)):
                x += [o.x - a.x, o.y - a.y, o.vx, o.vy]
                x += one_hot(o.bank, colours) + one_hot(o.held, colours)
            for t in sorted(self.treasures, key=lambda t: gap(a, t)):
                x += [t.x - a.x, t.y - a.y, *one_hot(t.colour, colours)]
            seen.append(x)
        return seen

    def events(self, place):
        """place(t) is where treasure t comes back: (x, y, colour)."""
        touching = [[self.touch(h, t) for h in self.hunters] for t in self.treasures]
        for k, t in enumerate(self.treasures):
            if not t.alive:
                t.x, t.y, t.colour = place(k)
                t.alive = True
                continue
            for i, h in enumerate(self.hunters):
                if h.held is None and touching[k][i]:
                    h.held, t.x, t.y, t.alive = t.colour, -999.0, -999.0, False
                    self.pick_ups += 1
                    break
        for h in self.hunters:
            if h.held is not None and self.touch(h, self.banks[h.held]):
                h.held = None


class SlowRovers:
    def __init__(self, rovers, tower_of, goals):
        """Positions of the rovers; for each rover, its tower's number and its goal's position."""
        self.rovers = [
            Disc(x=x, y=y, vx=0.0, vy=0.0, mass=1.0, tower=t, goal=Disc(x=gx, y=gy))
            for (x, y), t, (gx, gy) in zip(rovers, tower_of, goals, strict=True)
        ]
        self.said = [None] * len(self.rovers)

    def physics(self, actions):
        for rover, action in zip(self.rovers, actions, strict=False):
            integrate(rover, *thrust(rover, action))
        self.said = actions[len(self.rovers) :]

    def rewards(self):
        paid = {}
        for i, rover in enumerate(self.rovers):
            d2 = (rover.x - rover.goal.x) ** 2 + (rover.y - rover.goal.y) ** 2
            paid["rover", i] = paid["tower", rover.tower] = -d2 + (10 if d2 < 0.1725 else 0)
        return [paid[kind, i] for kind in ("rover", "tower") for i in range(len(self.rovers))]

    def observations(self):
        n = len(self.rovers)
        rovers = [
            [*one_hot(r.tower, n), *one_hot(self.said[r.tower], 5), r.x, r.y, r.vx, r.vy]
            for r in self.rovers
        ]
        towers = [None] * n
        for i, r in enumerate(self.rovers):
            towers[r.tower] = [*one_hot(i, n), r.x, r.y, r.goal.x, r.goal.y]
        return rovers + towers

    def events(self, place):
        pass
