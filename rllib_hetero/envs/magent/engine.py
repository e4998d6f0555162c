"""One battle of `magent2`, driven by team: arrays over agents instead of a dict for each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rllib_hetero.envs.refusal import refusal as env_refusal
from rllib_hetero.errors import MissingExtraError

OURS, THEIRS = 0, 1
"""The teams: ours is red and starts on the left, theirs is blue."""

NUM_ACTIONS = 21
STAY = 6
"""The action of standing still."""

REWARDS = {
    "step_reward": -0.005,
    "dead_penalty": -0.1,
    "attack_penalty": -0.1,
    "attack_opponent_reward": 0.2,
}
"""Settings and their defaults: for living through a step; for dying; for any attack; for one that
hits an enemy and does not kill it. A kill pays 5, which magent2 has no setting for."""

VIEW = 13
"""Side of the square that an agent sees, itself in the middle."""

CHANNELS = 5
"""Numbers for each cell of that square, without `minimap_mode`."""

_HP = 2  # the channel of a view that holds the health of one's own team


class Outcome(NamedTuple):
    """What a step did to our team of k agents, in the order of their ids.

    Attributes:
        rewards: (k,) float32.
        alive: (k,) bool, after the step.
        views: (k, d) float32 what they see; of the dead, something.
        done: Whether one of the teams has nobody left.
    """

    rewards: np.ndarray
    alive: np.ndarray
    views: np.ndarray
    done: bool


class Engine:
    """A battle.

    `magent2`'s own environment is asked to set up the game and the armies, and then left
    alone: its step makes several Python objects for each agent, and after each reset it mixes up
    the two teams' first actions.

    Args:
        map_size: Side of the map.
        minimap_mode: Whether views hold a map of both teams.
        rewards: Values for the keys of `REWARDS`.

    Attributes:
        size: n, agents in each team at the beginning.
        view_size: d.
    """

    def __init__(self, *, map_size: int, minimap_mode: bool, rewards: Mapping[str, float]) -> None:
        self._setup = _battle_module().parallel_env(
            map_size=map_size, minimap_mode=minimap_mode, **rewards
        )
        self.map_size = map_size
        self.minimap_mode = minimap_mode
        self._world = self._setup.env
        self._teams = self._setup.handles
        self.size = self.left(OURS)
        self.view_size = self.views(OURS).shape[1]

    def reset(self, seed: int | None) -> None:
        """Lines up both armies. A seed decides the order in which attacks are carried out."""
        if seed is not None:
            self._world.set_seed(int(seed))
        self._world.reset()
        self._setup.generate_map()

    def step(self, ours: np.ndarray, theirs: np.ndarray) -> Outcome:
        """Both teams act: an int32 action for each living agent, in the order of their ids."""
        world, team = self._world, self._teams[OURS]
        world.set_action(team, ours)
        world.set_action(self._teams[THEIRS], theirs)
        done = world.step()
        outcome = Outcome(
            rewards=world.get_reward(team),
            alive=world.get_alive(team),
            # Before the dead are cleared, as in magent2's own environment: in this step, the map of
            # minimap_mode still counts them.
            views=self.views(OURS),
            done=done,
        )
        world.clear_dead()
        return outcome

    def views(self, team: int) -> np.ndarray:
        """What each agent of a team sees, (k, d) float32; overwritten by the next call.

        The first numbers are the square around it, (13, 13, c) in the order y, x, channel.
        """
        if not self.left(team):  # with minimap_mode, the engine would look at its first agent
            return np.zeros((0, self.view_size), np.float32)
        square, features = self._world.get_observation(self._teams[team])
        views = square.reshape(len(square), -1)
        if self.minimap_mode:
            # The engine's other features are the agent's number, last action and last reward.
            return np.concatenate([views, features[:, -2:]], axis=1)
        return views

    def health(self, views: np.ndarray) -> np.ndarray:
        """(k,) in [0, 1], of the agents with these views (k, d)."""
        channels = views.shape[1] // VIEW**2
        return views[:, (VIEW // 2 * VIEW + VIEW // 2) * channels + _HP]

    def positions(self, team: int) -> np.ndarray:
        """(k, 2) int32, x and y of the living agents of a team."""
        return self._world.get_pos(self._teams[team])

    def ids(self, team: int) -> np.ndarray:
        """(k,) numbers of the living agents of a team, from 0."""
        first = 0 if team == OURS else self.size
        return self._world.get_agent_id(self._teams[team]) - first

    def left(self, team: int) -> int:
        """k, how many agents of a team live."""
        return self._world.get_num(self._teams[team])


def mirrored_actions() -> np.ndarray:
    """(21,) each action's mirror image, left and right exchanged."""
    steps = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if x * x + y * y <= 4]
    blows = [(y, x) for y in range(-1, 2) for x in range(-1, 2) if x or y]
    mirrored = [steps.index((y, -x)) for y, x in steps]
    mirrored += [len(steps) + blows.index((y, -x)) for y, x in blows]
    return np.array(mirrored, np.int32)


refusal = partial(env_refusal, "magent")


def _battle_module() -> Any:
    threads = os.environ.get("OMP_NUM_THREADS")
    try:
        from magent2.environments import battle_v4
    except ImportError as error:
        raise MissingExtraError("magent2", extra="magent") from error
    finally:
        # magent2 sets it where it is not set. Ray's workers would inherit that, instead of as many
        # threads as they have CPUs.
        if threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
    return battle_v4
