"""Treasure collection: hunters carry treasures to banks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_hetero.envs.cooperative_mpe.frame import Mark
from rllib_hetero.envs.cooperative_mpe.game import CooperativeGame, sizes_of
from rllib_hetero.envs.cooperative_mpe.physics import (
    DIRECTIONS,
    THRUST,
    contact_forces,
    move,
)
from rllib_hetero.envs.particles import between


class TreasureCollection(CooperativeGame):
    """Hunters carry treasures of several colours to the bank of that colour.

    All agents move and bump into one another. A hunter with empty hands that touches a treasure
    takes it; the treasure is away for one step, and then lies elsewhere in a new colour. Discs
    touch where their distance is smaller than the sum of their radii.

    The agents are "hunter_0", ..., then "bank_0", ...; bank k is for colour k. Counted for
    `episode_metrics`: "pick_ups" and "deposits" of all hunters in an episode.

    Args:
        num_hunters: H.
        num_banks: B, also the number of colours.
        num_treasures: M.
        settings: As in `CooperativeGame`.
    """

    EVENT = 5.0  # to everybody, for each hunter at a treasure or bank it has a use for
    BUMP = 5.0  # off a hunter's reward, for each other hunter it touches
    PULL = 0.1  # off the reward, for each unit of distance from where the agent is needed

    HUNTER_RADIUS, HUNTER_MASS = 0.05, 1.0
    BANK_RADIUS, BANK_MASS = 0.075, 2.25
    TREASURE_RADIUS = 0.025

    NOTHING = -1  # the colour held by an empty hand
    AWAY = -999.0  # both coordinates of a treasure that was taken

    def __init__(
        self, *, num_hunters: int, num_banks: int, num_treasures: int, **settings: Any
    ) -> None:
        n = num_hunters + num_banks
        # Itself, the others, the treasures.
        seen = 4 + (n - 1) * (4 + 2 * num_banks) + num_treasures * (2 + num_banks)
        hunters = sizes_of("hunter", num_hunters, seen + num_banks)
        super().__init__({**hunters, **sizes_of("bank", num_banks, seen)}, **settings)

        num_envs, sizes = self.num_envs, (num_hunters, num_banks)
        self._radii = np.repeat([self.HUNTER_RADIUS, self.BANK_RADIUS], sizes)
        self._masses = np.repeat([self.HUNTER_MASS, self.BANK_MASS], sizes)
        self._colours = np.eye(num_banks)
        self._hunters, self._banks = slice(num_hunters), slice(num_hunters, n)
        self._position = np.zeros((num_envs, n, 2))
        self._velocity = np.zeros((num_envs, n, 2))
        self._holding = np.full((num_envs, num_hunters), self.NOTHING)  # colours
        self._treasure = np.zeros((num_envs, num_treasures, 2))  # positions
        self._colour = np.zeros((num_envs, num_treasures), np.int64)
        self._pick_ups = np.zeros(num_envs, np.int64)
        self._deposits = np.zeros(num_envs, np.int64)

    def _place(self, e: int) -> None:
        self._position[e] = self._random[e].uniform(-1.0, 1.0, self._position.shape[1:])
        self._velocity[e] = 0.0
        self._holding[e] = self.NOTHING
        self._pick_ups[e] = self._deposits[e] = 0
        for t in range(self._colour.shape[1]):
            self._place_treasure(e, t)

    def _place_treasure(self, e: int, t: int) -> None:
        self._treasure[e, t] = self._random[e].uniform(-0.95, 0.95, 2)
        self._colour[e, t] = self._random[e].integers(len(self._colours))

    def _move(self, actions: np.ndarray) -> None:
        forces = contact_forces(self._offsets, self._distances, self._radii, self._masses)
        acceleration = THRUST * DIRECTIONS[actions] + forces / self._masses[:, None]
        move(self._position, self._velocity, acceleration)

    def _measure(self) -> None:
        hunters, banks = self._hunters, self._banks
        # (E, n, n, ...) to each other agent and (E, n, M, ...) to each treasure.
        self._offsets, self._distances = between(self._position, self._position)
        self._to_treasure, self._treasure_distances = between(self._position, self._treasure)
        # (E, H, M) and (E, H, B).
        reach = self.HUNTER_RADIUS + self.TREASURE_RADIUS
        self._at_treasure = self._treasure_distances[:, hunters] < reach
        self._at_bank = self._distances[:, hunters, banks] < self.HUNTER_RADIUS + self.BANK_RADIUS

    @property
    def _carries(self) -> np.ndarray:
        """(E, H, B) bool, whether a hunter holds a colour."""
        return self._holding[..., None] == np.arange(len(self._colours))

    def _rewards(self) -> np.ndarray:
        hunters, banks = self._hunters, self._banks
        empty, carries = self._holding == self.NOTHING, self._carries
        to_bank = self._distances[:, hunters, banks]
        # A hunter touches itself, too.
        bumps = (self._distances[:, hunters, hunters] < 2 * self.HUNTER_RADIUS).sum(-1) - 1
        nearest_treasure = self._treasure_distances[:, hunters].min(-1)
        way = np.where(empty, nearest_treasure, (carries * to_bank).sum(-1))

        nearest_carrier = np.where(carries, to_bank, np.inf).min(1)  # (E, B)
        to_middle = np.sqrt(np.square(self._offsets[:, banks, hunters].mean(2)).sum(-1))
        wait = np.where(carries.any(1), nearest_carrier, to_middle)

        events = (empty[..., None] & self._at_treasure).sum((1, 2))
        events += (carries & self._at_bank).sum((1, 2))
        own = np.concatenate([-self.BUMP * bumps - self.PULL * way, -self.PULL * wait], axis=1)
        return own + self.EVENT * events[:, None]

    def _observe(self, envs: Sequence[int] | slice) -> None:
        hunters, banks = self._hunters, self._banks
        body = np.concatenate([self._position[envs], self._velocity[envs]], -1)
        e, n, _ = body.shape
        held = self._carries[envs]
        # What an agent shows to others beside its position: velocity, its bank's colour, and the
        # colour it holds.
        shown = np.zeros((e, n, 2 + 2 * len(self._colours)))
        shown[..., :2] = self._velocity[envs]
        shown[:, banks, 2 : 2 + len(self._colours)] = self._colours
        shown[:, hunters, 2 + len(self._colours) :] = held

        distances = self._distances[envs].copy()
        distances[:, range(n), range(n)] = -1.0  # itself comes first, and is left out
        others = _nearest_first(distances, self._offsets[envs], shown)[:, :, 1:]
        treasures = _nearest_first(
            self._treasure_distances[envs],
            self._to_treasure[envs],
            self._colours[self._colour[envs]],
        )
        around = np.concatenate([others.reshape(e, n, -1), treasures.reshape(e, n, -1)], -1)
        seen = [
            *np.concatenate([body[:, hunters], held, around[:, hunters]], -1).swapaxes(0, 1),
            *np.concatenate([body[:, banks], around[:, banks]], -1).swapaxes(0, 1),
        ]
        for agent, x in zip(self.team.agents, seen, strict=True):
            self.observations[agent][envs] = x

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        return {"pick_ups": self._pick_ups[envs], "deposits": self._deposits[envs]}

    def _settle(self) -> None:
        for e, t in np.argwhere(self._treasure[..., 0] == self.AWAY):
            self._place_treasure(e, t)
        # Treasures in order, each to the first of the hunters there that still has empty hands.
        # Those just placed were away when the distances were taken: nobody is there.
        for t in np.flatnonzero(self._at_treasure.any((0, 1))):
            takes = self._at_treasure[:, :, t] & (self._holding == self.NOTHING)
            envs = np.flatnonzero(takes.any(1))
            self._holding[envs, takes[envs].argmax(1)] = self._colour[envs, t]
            self._treasure[envs, t] = self.AWAY
            self._pick_ups[envs] += 1
        brings = (self._carries & self._at_bank).any(-1)
        self._holding[brings] = self.NOTHING
        self._deposits += brings.sum(1)

    def _marks(self, e: int) -> list[Mark]:
        treasures = [
            Mark(x, self.TREASURE_RADIUS, c)
            for x, c in zip(self._treasure[e], self._colour[e], strict=True)
            if x[0] != self.AWAY
        ]
        hunters = [
            Mark(x, self.HUNTER_RADIUS, None if c == self.NOTHING else c, f"H{i}")
            for i, (x, c) in enumerate(
                zip(self._position[e, self._hunters], self._holding[e], strict=True)
            )
        ]
        banks = [
            Mark(x, self.BANK_RADIUS, k, f"B{k}")
            for k, x in enumerate(self._position[e, self._banks])
        ]
        return [*banks, *hunters, *treasures]


def _nearest_first(distances: np.ndarray, offsets: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """What each agent sees of m things, the nearest first, those equally far in their order.

    Args:
        distances: (e, n, m) from each agent to each thing.
        offsets: (e, n, m, 2) likewise.
        shown: (e, m, k) what a thing shows to everybody.

    Returns:
        (e, n, m, 2 + k).
    """
    order = distances.argsort(-1, kind="stable")
    e, n = np.ogrid[: order.shape[0], : order.shape[1]]
    return np.concatenate(
        [offsets[e[..., None], n[..., None], order], shown[e[..., None], order]], -1
    )
