"""A team whose agents see and do things of every kind, and which takes nothing else."""

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.functional import num_choices
from rllib_hetero.spaces import Moves

SIDE = 12


def picture(*shape, high=255):
    return Box(0, high, shape, np.uint8)


OBSERVATIONS = {
    "vector": lambda: Box(-1.0, 1.0, (3,), np.float32),
    "grid": lambda: Box(-1.0, 1.0, (2, 3), np.float64),
    "counts": lambda: Box(0, 9, (2, 2), np.int32),
    "picture": lambda: picture(SIDE, SIDE, 2),
    "grey": lambda: picture(SIDE, SIDE),
    "frames": lambda: picture(2, SIDE, SIDE, 3),
    "heights": lambda: Box(-1.0, 1.0, (SIDE, SIDE, 1), np.float32),
    "discrete": lambda: Discrete(4, start=-1),
    "multi": lambda: MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [0, 5]]),
    "binary": lambda: MultiBinary((2, 2)),
    "numbers": lambda: Dict({"near": Box(-1, 1, (2,)), "far": Tuple((Discrete(3), Box(0, 1, ())))}),
    "mixed": lambda: Dict(
        {"eye": picture(SIDE, SIDE, 3), "arm": Box(-1, 1, (2,)), "gear": Discrete(3)}
    ),
}
ACTIONS = {
    "box": lambda: Box(-1.0, 1.0, (2,), np.float32),
    "plane": lambda: Box(-2.0, 1.0, (2, 2), np.float32),
    "scalar": lambda: Box(-1.0, 1.0, (), np.float32),
    "endless": lambda: Box(-np.inf, np.inf, (2,), np.float32),
    "whole": lambda: Box(np.array([-1, 3]), np.array([1, 4]), dtype=np.int64),
    "discrete": lambda: Discrete(3),
    "shifted": lambda: Discrete(3, start=2),
    "multi": lambda: MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [0, 5]]),
    "binary": lambda: MultiBinary(3),
    "chosen": lambda: Dict({"b": Discrete(2, start=1), "a": Tuple((MultiBinary(2), Discrete(3)))}),
    "moved": lambda: Tuple((Box(-1, 1, (2,)), Box(0, 1, (1, 2)))),
    "mixed": lambda: Dict(
        {"go": Box(-1, 1, (2,)), "how": Discrete(3, start=1), "on": MultiBinary(2)}
    ),
}

PICTURED = {"picture", "grey", "frames", "heights", "mixed"}
"""Observations in which there is a picture."""


def team(observations, actions, masked=(), **config):
    agents = "abcdef"[: len(observations.split())]
    return {
        "observations": dict(zip(agents, observations.split(), strict=True)),
        "actions": dict(zip(agents, actions.split(), strict=True)),
        "masked": list(masked),
    } | config


class KindsTeam(MultiAgentEnv):
    """What it shows is drawn from its seed; what it is given must be of its spaces, and allowed.

    `env_config`: "observations" and "actions" (agent to a name above), "masked" (agents), "state"
    (a name, or None), "length" (steps until an episode is cut) and "absences" (whether somebody
    might be absent; nobody is). It keeps what was `given` and a `log` of what was shown.
    """

    def __init__(self, config):
        super().__init__()
        defaults = {"masked": (), "state": None, "length": 5, "absences": False}
        self.config = defaults | dict(config)
        self.absences = self.config["absences"]
        self.possible_agents = list(self.config["observations"])
        self.agents = list(self.possible_agents)
        self.plain = {a: OBSERVATIONS[k]() for a, k in self.config["observations"].items()}
        self.action_spaces = {a: ACTIONS[k]() for a, k in self.config["actions"].items()}
        self.choices = {a: num_choices(Moves(s).flat) for a, s in self.action_spaces.items()}
        self.observation_spaces = {a: self._with_mask(a) for a in self.possible_agents}
        if self.config["state"]:
            self.state_space = OBSERVATIONS[self.config["state"]]()
        self.given, self.log = [], []

    def _with_mask(self, agent):
        if agent not in self.config["masked"]:
            return self.plain[agent]
        mask = Box(0, 1, (self.choices[agent],), np.int8)
        return Dict({"observations": self.plain[agent], "action_mask": mask})

    def reset(self, *, seed=None, options=None):
        spaces = [*self.plain.values(), *([self.state_space] if self.config["state"] else [])]
        for i, space in enumerate(spaces):
            space.seed(None if seed is None else int(seed % 2**20) + i)
        self.t = 0
        return self._look(), {}

    def step(self, action_dict):
        assert set(action_dict) == set(self.possible_agents)
        for agent, action in action_dict.items():
            assert self.action_spaces[agent].contains(action), (agent, action)
            if agent in self.config["masked"]:
                assert 0 not in first_choices(self.action_spaces[agent], action)
        self.given.append(action_dict)
        self.t += 1
        rewards = {a: float(self.t + i) for i, a in enumerate(self.possible_agents)}
        return self._look(), rewards, {"__all__": False}, {"__all__": self._over()}, {}

    def _over(self):
        return self.t == self.config["length"]

    def _look(self):
        shown = {a: s.sample() for a, s in self.plain.items()}
        self.log.append(shown)
        if self.config["state"]:
            self.global_state = self.state_space.sample()
        return {
            a: {"observations": x, "action_mask": self.mask(a)} if a in self.config["masked"] else x
            for a, x in shown.items()
        }

    def mask(self, agent):
        """All choices but the first of each component."""
        parts = [np.arange(n) > 0 for n in components(self.action_spaces[agent])]
        return np.concatenate(parts).astype(np.int8)

    def state(self):
        return self.global_state


def components(space):
    flat = Moves(space).flat
    flat = flat[0] if isinstance(flat, Tuple) else flat
    return [int(flat.n)] if isinstance(flat, Discrete) else flat.nvec.tolist()


def first_choices(space, action):
    """The choices of an action, counted from 0, in the order of its parts."""
    if isinstance(space, Dict):
        return [n for k, s in space.spaces.items() for n in first_choices(s, action[k])]
    if isinstance(space, Tuple):
        return [n for s, u in zip(space, action, strict=True) for n in first_choices(s, u)]
    if isinstance(space, Box):
        if np.issubdtype(space.dtype, np.floating):
            return []
        return (np.asarray(action) - space.low).ravel().tolist()
    start = getattr(space, "start", 0)
    return (np.asarray(action) - start).ravel().tolist()
