"""What the tests of battles share."""

import numpy as np

from rllib_hetero.envs import make_magent
from rllib_hetero.envs.magent.battle import Battle
from rllib_hetero.envs.magent.engine import OURS, REWARDS, STAY, THEIRS, Engine
from rllib_hetero.envs.magent.opponents import Opponent

LEFT, RIGHT = 4, 8


def made(seeds, **settings):
    env = make_magent({"scenario": "battle", "num_envs": len(seeds), "map_size": 20, **settings})
    env.reset(range(len(seeds)), seeds)
    return env


def act(env, actions):
    """Steps with actions (E, n)."""
    actions = np.asarray(actions)
    return env.step({a: actions[:, i] for i, a in enumerate(env.team.agents)})


def assault(rng, views, ahead):
    """Actions of n agents with views (n, 13, 13, c) that push ahead and hit whom they can."""
    enemies = views[:, 5:8, 5:8, 3 if views.shape[3] == 5 else 4].reshape(-1, 9)
    near = np.delete(enemies, 4, axis=1) > 0
    wander = np.where(rng.random(len(views)) < 0.7, ahead, rng.integers(13, size=len(views)))
    return np.where(near.any(1), 13 + near.argmax(1), wander).astype(np.int32)


def storm(rng, env, e=0):
    """An assault by our team, without `minimap_mode`; the dead are asked, too."""
    return assault(rng, env._views[e].reshape(-1, 13, 13, 5), RIGHT)


class Script(Opponent):
    """Plays what it is told, by agent."""

    def __init__(self, size):
        self.actions = np.full(size, STAY, np.int32)

    def act(self, engine, random):
        return self.actions[engine.ids(THEIRS)]


def scripted(map_size, *, minimap_mode=False, max_cycles=400):
    engine = Engine(map_size=map_size, minimap_mode=minimap_mode, rewards=REWARDS)
    script = Script(engine.size)
    env = Battle([engine], script, max_cycles=max_cycles, with_state=True, render_mode=None)
    return env, script


def put(engine, ours, theirs):
    """One agent of each team, and nobody else, at these places."""
    engine._world.reset()
    for team, place in ((OURS, ours), (THEIRS, theirs)):
        engine._world.add_agents(engine._teams[team], method="custom", pos=[place])
