"""The conformance test: sound environments pass, and each fault is found and named."""

import re
import runpy
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from toys import CountingTeam, MaskedTeam, MatrixTeam, MemoryTeam, ProductTeam, TargetTeam

import rllib_hetero
from rllib_hetero import Outcome, PettingZooTeamEnv, Team, VectorTeamEnv, check_env
from rllib_hetero.checking.check import PLAYING, READING

QUICK = {"steps": 40, "seconds": 600.0}  # enough on a busy machine
BROKEN = []


def breaks(check, severity, words, *, also=()):
    """Registers a class whose one fault is found by `check`, and, as it must be, by `also`."""

    def register(cls):
        BROKEN.append(pytest.param(cls, check, severity, words, also, id=cls.__name__))
        return cls

    return register


def serious(report):
    return {f.check for f in report.findings if f.severity != "note"}


def assert_all_told(report, except_for=()):
    assert set(report.untold) <= set(except_for), report.untold


# ---- what is sound ------------------------------------------------------------------------------


class Sound(MultiAgentEnv):
    """ "a" moves a point, "b" chooses among what its mask allows; "b" dies in the fourth step."""

    LENGTH = 6

    def __init__(self, config=None):
        super().__init__()
        self.config = config
        self.possible_agents = ["a", "b"]
        seen = Box(-20.0, 20.0, (2,), np.float32)
        self.observation_spaces = {
            "a": seen,
            "b": Dict({"observations": seen, "action_mask": MultiBinary(3)}),
        }
        self.action_spaces = {"a": Box(-1.0, 1.0, (1,), np.float32), "b": Discrete(3)}
        self.state_space = Box(-20.0, 20.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.start(np.random.default_rng(seed))
        return self.observe(self.living), {}

    def start(self, rng):
        self.rng, self.t, self.x = rng, 0, float(rng.uniform(-1.0, 1.0))
        self.living = ["a", "b"]

    def step(self, action_dict):
        assert "b" not in action_dict or self.mask()[action_dict["b"]], "forbidden"
        acted = self.living
        self.t += 1
        self.x += float(action_dict["a"][0]) + 0.1 * self.rng.normal()
        self.living = ["a"] if self.t >= 4 else acted
        dies = {"b": True} if len(self.living) < len(acted) else {}
        over = self.t == self.LENGTH
        ends = {**dies, "__all__": False}, {"__all__": over}
        return self.observe(acted), self.rewards(acted), *ends, {}

    def rewards(self, agents):
        return {a: -abs(self.x) - (a == "b") for a in agents}

    def mask(self):
        return np.arange(3) != self.t % 3

    def observe(self, agents):
        seen = {a: np.array([self.x, self.t], np.float32) for a in agents}
        if "b" in seen:
            seen["b"] = {"observations": seen["b"], "action_mask": self.mask().astype(np.int8)}
        return seen

    def state(self):
        return np.array([self.x, self.t], np.float32)


class SoundBatch(VectorTeamEnv):
    """As `Sound`, batched by nature, without masks; `LENGTH` differs between the rows."""

    def __init__(self, env_config):
        n = self.num_envs = env_config.get("num_envs", 1)
        box = {a: Box(-20.0, 20.0, (2,), np.float32) for a in "ab"}
        act = {"a": Box(-1.0, 1.0, (1,), np.float32), "b": Discrete(3)}
        self.team = Team(("a", "b"), box, act, state_space=box["a"])
        self.observations = {a: np.zeros((n, 2), np.float32) for a in "ab"}
        self.state = np.zeros((n, 2), np.float32)
        self.active = np.ones((n, 2), bool)
        self.infos = [{} for _ in range(n)]
        self.x, self.t, self.length = np.zeros(n), np.zeros(n, int), np.zeros(n, int)

    def reset(self, envs, seeds):
        for e, seed in zip(envs, seeds, strict=True):
            self.x[e], self.t[e] = np.random.default_rng(seed).uniform(-1.0, 1.0), 0
            self.length[e] = 5 + seed // 100 % 3
            self.active[e] = True
        self.write()

    def step(self, actions):
        before = self.active.copy()
        self.move(actions)
        self.t += 1
        self.active[:, 1] = self.t < 4
        self.write()
        return self.outcome(before)

    def move(self, actions):
        self.x += actions["a"][:, 0] + 0.1 * actions["b"] * self.active[:, 1]

    def write(self):
        self.state[:] = np.stack([self.x, self.t], -1)
        for i, a in enumerate("ab"):
            self.observations[a][:] = self.state * self.active[:, i, None]

    def outcome(self, before):
        rewards = -np.abs(self.x)[:, None] - np.array([0.0, 1.0])
        no = np.zeros(self.num_envs, bool)
        return Outcome(
            np.where(before, rewards, 0.0).astype(np.float32), no, self.t == self.length, no.copy()
        )


@pytest.mark.parametrize(
    ("env", "config"),
    [
        (Sound, {}),
        (SoundBatch, {}),
        (CountingTeam, {"state": True, "dies": {"b": 2}, "end": "alternate"}),
        (CountingTeam, {"scheme": "shared"}),
        (MaskedTeam, {"dies": {"d": 3}}),
        (MatrixTeam, {"payoff": [[1, 0], [0, 2]]}),
        (MemoryTeam, {}),
        (ProductTeam, {}),
        (TargetTeam, {}),
    ],
)
def test_sound_environments_pass(env, config):
    report = check_env(env, config, **QUICK)
    assert serious(report) == set(), str(report)
    assert_all_told(report)


MPE = ("simple_spread", "simple_reference", "simple_speaker_listener")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *[
            ("mpe", {"scenario": scenario, "continuous_actions": continuous})
            for scenario in MPE
            for continuous in (True, False)
        ],
        ("mamujoco", {"scenario": "HalfCheetah", "agent_conf": "2x3", "max_episode_steps": 30}),
        (
            "mamujoco",
            {"scenario": "Ant", "agent_conf": "4x2", "agent_obsk": 1, "max_episode_steps": 30},
        ),
        ("matrix_game", {"game": "climbing", "length": 3}),
        ("matrix_game", {"game": "differentiable"}),
        ("cooperative_mpe", {"scenario": "treasure_collection", "max_cycles": 20}),
        ("cooperative_mpe", {"scenario": "rover_tower"}),
        # Compiles for a minute.
        pytest.param("smax", {"map": "3m", "max_steps": 20}, marks=pytest.mark.slow),
        ("magent", {"scenario": "battle", "map_size": 12, "max_cycles": 20}),
        ("football", {"scenario": "academy_3_vs_1_with_keeper", "max_steps": 30}),
    ],
)
def test_registered_environments_pass(name, config):
    needed = {
        "mpe": "mpe2",
        "mamujoco": "mujoco",
        "smax": "jaxmarl",
        "magent": "magent2",
        "football": "gfootball_engine",
    }
    if name in needed:
        pytest.importorskip(needed[name])
    report = check_env(name, config, **QUICK)
    assert report.ok, str(report)
    assert serious(report) <= {"reward scheme"}, str(report)
    assert_all_told(report)


def test_a_pettingzoo_environment_passes():
    scenario = pytest.importorskip("mpe2.simple_tag_v3")

    def make(config):
        return PettingZooTeamEnv(scenario.parallel_env(**config))

    report = check_env(make, {"max_cycles": 10}, **QUICK)
    assert serious(report) == set(), str(report)
    assert_all_told(report)


def test_instances_are_checked_and_stay_open():
    closed = []
    env = Sound()
    env.close = lambda: closed.append(1)
    report = check_env(env, **QUICK)
    assert report.ok and not closed
    assert {"several instances", "closing"} <= set(report.untold)
    assert "give its class" in report.untold["closing"]
    # The rest is checked.
    assert {"extreme actions", "reset in mid-episode", "speed"} <= set(report.passed)

    report = check_env(SoundBatch({"num_envs": 2}), **QUICK)
    assert report.ok, str(report)
    assert {"side by side", "vector contract", "reset of some"} <= set(report.passed)
    assert "rows are independent" in report.untold


# ---- what is broken -----------------------------------------------------------------------------


@breaks("making", "error", r"making the environment raised RuntimeError: no display \(test_check_")
class NotMade(Sound):
    def __init__(self, config=None):
        raise RuntimeError("no display")


@breaks("making", "error", "not an RLlib MultiAgentEnv: subclass .* Wrap a PettingZoo")
class Foreign:
    def __init__(self, config=None):
        self.possible_agents = ["a"]


@breaks("agents", "error", r"possible_agents is \[\]")
class NoAgents(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        self.possible_agents = []


@breaks("agents", "error", "names agents twice")
class TwinNames(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        self.possible_agents = ["a", "a", "b"]


@breaks("spaces", "error", "observation space of agent 'a' is Text.*Wrap")
class Wordy(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        self.observation_spaces["a"] = Text(8)


@breaks("spaces", "error", "`reward_scheme` must be")
class UnknownScheme(Sound):
    reward_scheme = "mean"


@breaks("spaces", "error", "`state_space` but no method")
class NoStateMethod(Sound):
    state = None


@breaks("spaces", "error", r"`state_space` is Text")
class ToldState(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        self.state_space = Text(3)


@breaks("reset and step", "error", "step.. raised KeyError: 'b' .*episode 0, step 5, agent 'b'")
class RaisesOnceDead(Sound):
    def step(self, action_dict):
        action_dict["b"]
        return super().step(action_dict)


@breaks("reset and step", "error", "reset.. raised OSError: .no message.*at the start of episode 1")
class RaisesInReset(Sound):
    def start(self, rng):
        if getattr(self, "t", 0):
            raise OSError
        super().start(rng)


@breaks("reset and step", "error", "raised SystemExit")
class Exits(Sound):
    def rewards(self, agents):
        sys.exit("licence expired")


@breaks("reset and step", "error", "step.. returned 4 values where 5 are needed, episode 0, step 1")
class FourValues(Sound):
    def step(self, action_dict):
        return super().step(action_dict)[:4]


@breaks("reset and step", "error", "The rewards that step.. returned are of type float")
class OneReward(Sound):
    def rewards(self, agents):
        return -abs(self.x)


@breaks("agents are fixed", "error", r"possible_agents was \['a', 'b'\], and is \['a'\]")
class ListIsShortened(Sound):
    def step(self, action_dict):
        if self.t == 3:
            self.possible_agents = ["a"]
        return super().step(action_dict)


@breaks("agents are fixed", "error", "'c', which is not in possible_agents")
class Stranger(Sound):
    def observe(self, agents):
        return super().observe(agents) | {"c": np.zeros(2, np.float32)}


@breaks(
    "agents at reset",
    "error",
    r"episode 0: reset.. returned no observation for \['b'\]",
    also={"reset in mid-episode"},
)
class ComesLater(Sound):
    def start(self, rng):
        super().start(rng)
        self.living = ["a"]


@breaks("agents leave once", "error", "agent 'b' left without an end")
class LeavesSilently(Sound):
    def step(self, action_dict):
        observations, rewards, terminateds, *rest = super().step(action_dict)
        if terminateds.pop("b", False):
            del observations["b"]
        return observations, rewards, terminateds, *rest


@breaks("agents leave once", "error", "'b' came back after its end", also={"final observations"})
class ComesBack(Sound):
    def observe(self, agents):
        return super().observe(["a", "b"] if self.t == 5 else agents)


class Sees(Sound):
    def observe(self, agents):
        seen = super().observe(agents)
        seen["a"] = self.change(seen["a"])
        return seen


@breaks("observation shapes", "error", r"shape \(3,\), its space says \(2,\)")
class OtherShape(Sees):
    def change(self, x):
        return np.append(x, np.float32(0.0))


@breaks("observation shapes", "error", "agent 'a'.*is not numeric")
class Words(Sees):
    def change(self, x):
        return "north"


@breaks("finite observations", "error", "agent 'a', episode 0, step 2, index 1: nan")
class NaNs(Sees):
    def change(self, x):
        return np.where(x == 2, np.nan, x).astype(np.float32)


@breaks("observation bounds", "warning", r"agent 'a', .*, index 1: 40 is not in \[-20, 20\]")
class OutOfBounds(Sees):
    def change(self, x):
        return x * np.array([1, 10 if self.t == 4 else 1], np.float32)


@breaks("observation dtypes", "note", "agent 'a': float64")
class Doubles(Sees):
    def change(self, x):
        return x.astype(np.float64)


@breaks("observations are copies", "error", "agent 'a': the observation returned in episode 0")
class OneArray(Sees):
    def change(self, x):
        self.array = getattr(self, "array", x)
        self.array[:] = x
        return self.array


@breaks("final observations", "error", "agent 'a', episode 0, step 6: truncated, without")
class NoFinal(Sound):
    def observe(self, agents):
        return {} if self.t == self.LENGTH else super().observe(agents)


@breaks("no restart within step", "warning", "agent 'a': at index 1 every final observation is")
class RestartsItself(Sound):
    def step(self, action_dict):
        observations, *rest = super().step(action_dict)
        if self.t == self.LENGTH:
            observations, _ = self.reset(seed=int(self.rng.integers(99)))
            observations.pop("b")
        return observations, *rest


class Masks(Sound):
    def observe(self, agents):
        seen = super().observe(agents)
        if "b" in seen:
            seen["b"] = self.change(seen["b"])
        return seen


@breaks("mask shapes", "error", r"'b'.* the mask is int8 of shape \(4,\)")
class LongMask(Masks):
    def step(self, action_dict):
        return super().step({**action_dict, "b": (self.t + 1) % 3})

    def change(self, x):
        return x | {"action_mask": np.ones(4, np.int8)}


@breaks("mask shapes", "error", "has an action mask, the observation has none")
class NoMask(Masks):
    def mask(self):
        return np.ones(3, bool)

    def change(self, x):
        return x["observations"]


@breaks("masks allow something", "error", "agent 'b', episode 0, step 2: the mask allows nothing")
class EmptyMask(Masks):
    def mask(self):
        return np.ones(3, bool)

    def change(self, x):
        return x | {"action_mask": np.full(3, self.t != 2)}


@breaks("masks are declared", "warning", "agent 'a', .* the info has an 'action_mask'")
class MaskInInfo(Sound):
    def step(self, action_dict):
        *rest, _ = super().step(action_dict)
        return *rest, {"a": {"action_mask": np.ones(3)}}


@breaks("forbidden actions", "note", "agent 'b': 0 is forbidden, and was accepted")
class AcceptsAll(Sound):
    def step(self, action_dict):
        if "b" in action_dict:
            action_dict = action_dict | {"b": (self.t + 1) % 3}
        return super().step(action_dict)


@breaks("rewards", "error", "agent 'a', .* is not one number")
class RewardArray(Sound):
    def rewards(self, agents):
        return {a: np.array([r, 0.0]) for a, r in super().rewards(agents).items()}


@breaks("rewards", "error", "agent 'a', episode 0, step 1: inf")
class InfiniteReward(Sound):
    def rewards(self, agents):
        return super().rewards(agents) | {"a": 1e200}


@breaks("episode metrics", "error", r"'wins' is \[1. 0.\], not one finite number")
class ArrayOfMetrics(Sound):
    def episode_metrics(self):
        return {"wins": np.array([1.0, 0.0])}


@breaks("episode metrics", "error", r"episode 1, step 6.* \['late'\], but \['early'\] for an")
class OtherNames(Sound):
    def episode_metrics(self):
        self.late = getattr(self, "late", None) is not None
        return {"late" if self.late else "early": 1.0}


@breaks("episode metrics", "error", "'episode_len_mean' .* the name of a metric of RLlib's")
class TakenName(Sound):
    def episode_metrics(self):
        return {"episode_len_mean": 3.0}


@breaks("episode metrics", "error", "returned 0.5.*Return a dict of names and numbers")
class NumberAsMetrics(Sound):
    def episode_metrics(self):
        return 0.5


@breaks("reset and step", "error", r"'wins' of one episode has shape \(2,\), not \(1,\)")
class MetricsOfAllRows(SoundBatch):
    def episode_metrics(self, envs):
        return {"wins": np.ones(2)}


@breaks("rewards of those that act", "error", "a reward for 'c', which is not")
class StrangersReward(Sound):
    def rewards(self, agents):
        return super().rewards(agents) | {"c": 1.0}


@breaks("rewards of those that act", "warning", "agent 'b', .* -2, though it did not act")
class RewardForTheDead(Sound):
    def rewards(self, agents):
        return super().rewards(agents) | {"b": -2}


@breaks("rewards of those that act", "note", "agent 'b', .*: no reward; it counts as 0")
class NoReward(Sound):
    def rewards(self, agents):
        return {"a": self.x}


@breaks("reward scheme", "error", "'shared', but in episode 0, step 1, the rewards are")
class NotShared(Sound):
    reward_scheme = "shared"


@breaks("reward scheme", "warning", "'individual', but all agents were given equal rewards")
class Shared(Sound):
    def rewards(self, agents):
        return dict.fromkeys(agents, self.x)


class Flags(Sound):
    def step(self, action_dict):
        observations, rewards, terminateds, truncateds, infos = super().step(action_dict)
        self.change(terminateds, truncateds)
        return observations, rewards, terminateds, truncateds, infos


@breaks("flags", "error", "terminateds lacks the key '__all__'")
class NoAll(Flags):
    def change(self, terminateds, truncateds):
        del terminateds["__all__"]


@breaks("flags", "warning", "truncateds lacks the key '__all__'")
class NeverTruncated(Flags):
    def change(self, terminateds, truncateds):
        terminateds["__all__"] = truncateds.pop("__all__")


@breaks("flags", "error", r"terminateds\['a'\] is None, no boolean")
class TextFlag(Flags):
    def change(self, terminateds, truncateds):
        terminateds["a"] = None


@breaks("flags", "error", "truncateds names 'c'")
class StrangersFlag(Flags):
    def change(self, terminateds, truncateds):
        truncateds["c"] = False


@breaks("terminated or truncated", "warning", "'__all__' is terminated and truncated")
class BothEnds(Flags):
    def change(self, terminateds, truncateds):
        terminateds["__all__"] = truncateds["__all__"]


@breaks("ends when nobody is left", "warning", "step 6: no agent is left, and '__all__' is False")
class NobodyLeft(Flags):
    def change(self, terminateds, truncateds):
        truncateds["a"], truncateds["__all__"] = truncateds["__all__"], False


@breaks("time limit", "warning", "no episode ended within 40 steps")
class Endless(Sound):
    LENGTH = 0

    def step(self, action_dict):
        self.x *= 0.5
        return super().step(action_dict)

    def observe(self, agents):
        self.t = min(self.t, 10)
        return super().observe(agents)


@breaks("state shape", "error", r"state.. has shape \(1,\), state_space says")
class ShortState(Sound):
    def state(self):
        return super().state()[:1]


@breaks("state shape", "error", "which is not numeric")
class NoState(Sound):
    def state(self):
        return {"x": 1} if self.t == 2 else super().state()


@breaks("state shape", "note", "state.. returns float64")
class DoubleState(Sound):
    def state(self):
        return super().state().astype(np.float64)


@breaks("finite state", "error", "episode 0, step 2, index 1: inf")
class InfiniteState(Sound):
    def state(self):
        return np.where(self.t == 2, [0, np.inf], super().state()).astype(np.float32)


@breaks("state bounds", "warning", r"index 1: 60 is not in \[-20, 20\]")
class StateOutOfBounds(Sound):
    def state(self):
        return super().state() * np.array([1, 10 if self.t == 6 else 1], np.float32)


@breaks("state changes", "warning", "state.. was the same in all of")
class ConstantState(Sound):
    def state(self):
        return np.ones(2, np.float32)


class Wide(Sound):
    """The state has as many numbers as LayerNorm is given."""

    def __init__(self, config=None):
        super().__init__(config)
        self.state_space = Box(-200.0, 200.0, (7,), np.float32)

    def state(self):
        return self.numbers().astype(np.float32)


@breaks("states after LayerNorm", "warning", r"of \d+ different states.* leaves [1-5] ")
class OneLiveNumber(Wide):
    def numbers(self):
        return np.append(np.zeros(6), 10.0 * self.x)


@breaks("states after LayerNorm", "warning", r"of \d+ different states.* leaves 1 ")
class SevenTimesTheSame(Wide):
    def numbers(self):
        return np.full(7, self.x)


@breaks("states after LayerNorm", "warning", r"of \d+ different states.* leaves [1-3] ")
class OneOtherNumber(Wide):
    def numbers(self):
        return np.array([*[self.x] * 6, self.t])


@breaks("observations after LayerNorm", "warning", r"'a': of \d+ different observations")
class WideObservation(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        self.observation_spaces["a"] = Box(-20.0, 20.0, (8,), np.float32)

    def observe(self, agents):
        return super().observe(agents) | {"a": np.full(8, self.x, np.float32)}


@breaks("states after LayerNorm", "warning", "the critic sees of .* leaves", also=[
    "observations after LayerNorm"
])  # fmt: skip
class WideObservationWithoutAState(WideObservation):
    def __init__(self, config=None):
        super().__init__(config)
        del self.state_space


@breaks("state() only looks", "error", "after reset.., state|something else when called a second")
class StatePops(Sound):
    def state(self):
        self.looks = 1 - getattr(self, "looks", 0)
        return super().state() * (1.0 if self.looks else 0.5)


@breaks("state is a copy", "error", "the state returned in episode 0, after reset.., has changed")
class StateView(Sound):
    def state(self):
        self.array = getattr(self, "array", np.zeros(2, np.float32))
        self.array[:] = super().state()
        return self.array


@breaks("actions untouched", "warning", "agent 'a'.*changed the action it was given from")
class ScalesActions(Sound):
    def step(self, action_dict):
        action_dict["a"] *= 0.5
        return super().step(action_dict)


@breaks("extreme actions", "error", r"agent 'a' did \[-1\.\], .*step.. raised ValueError: too far")
class NoExtremes(Sound):
    def step(self, action_dict):
        if abs(action_dict["a"][0]) == 1.0:
            raise ValueError("too far")
        return super().step(action_dict)


@breaks("extreme actions", "error", r"agent 'a' did \[0\.\].*became NaN or infinite")
class DividesByAction(Sound):
    def rewards(self, agents):
        return super().rewards(agents) | {"a": self.reward}

    def step(self, action_dict):
        with np.errstate(divide="ignore"):
            self.reward = float(1.0 / action_dict["a"][0])
        return super().step(action_dict)


@breaks("determinism", "warning", "played twice: episode 0, after reset..: observation of 'a'")
class IgnoresTheSeed(Sound):
    def start(self, rng):
        super().start(np.random.default_rng())


@breaks("determinism", "warning", "a new environment and in a used one")
class Remembers(Sound):
    def start(self, rng):
        super().start(rng)
        self.used = getattr(self, "used", -1) + 1
        self.x += 0.5 * (self.used > 3)


@breaks("seeds", "note", "6 seeds gave the same start")
class StartsAlike(Sound):
    def start(self, rng):
        super().start(np.random.default_rng(3))


@breaks("reset in mid-episode", "error", "reset.. raised AssertionError: not over")
class MustEnd(Sound):
    def start(self, rng):
        started = getattr(self, "t", 0)
        assert started in (0, self.LENGTH), "not over"
        super().start(rng)


@breaks("several instances", "error", "in turn with a second environment: episode 0, step 1")
class GlobalRandom(Sound):
    def start(self, rng):
        np.random.seed(int(rng.integers(1000)))
        super().start(rng)
        self.rng = SimpleNamespace(normal=np.random.normal)


@breaks("side by side", "error", r"shape \(3,\)")
class ThirdIsUnlike(Sees):
    def change(self, x):
        return np.append(x, x[:1]) if getattr(self.config, "vector_index", 0) == 2 else x


@breaks("worker index", "error", "worker_index 1 in place of 0, action_spaces differ")
class BySizeOfWorker(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        self.action_spaces["a"] = Box(-1.0, 1.0, (1 + config.worker_index,), np.float32)


@breaks("worker index", "note", "the same seed on worker 1 and on worker 0")
class WorkersDiffer(Sound):
    def start(self, rng):
        super().start(rng)
        self.x += getattr(self.config, "worker_index", 0)


@breaks("closing", "error", "close.. raised RuntimeError: already gone .*, after 3 steps")
class CannotClose(Sound):
    def close(self):
        raise RuntimeError("already gone")


@breaks("closing", "error", "making the environment raised RuntimeError: the port is taken")
class OncePerProcess(Sound):
    closed = False

    def __init__(self, config=None):
        super().__init__(config)
        if OncePerProcess.closed:
            raise RuntimeError("the port is taken")

    def close(self):
        OncePerProcess.closed = self.t == 3


@breaks("nothing left behind", "warning", "the thread 'watcher' still ran")
class LeavesAThread(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        threading.Thread(target=DONE.wait, name="watcher", daemon=True).start()


@breaks("nothing left behind", "warning", "the process 'sleep' still ran")
class LeavesAProcess(Sound):
    def __init__(self, config=None):
        super().__init__(config)
        CHILDREN.append(subprocess.Popen(["sleep", "100"]))


@breaks("making", "error", r"`observations\['a'\]` after reset\(\): float64 of shape \(1, 2\)")
class DoubleBatch(SoundBatch):
    def __init__(self, env_config):
        super().__init__(env_config)
        self.observations["a"] = np.zeros((self.num_envs, 2))


@breaks("making", "error", r"rewards of the Outcome: float32 of shape \(1,\)")
class FlatRewards(SoundBatch):
    def outcome(self, before):
        outcome = super().outcome(before)
        return outcome._replace(rewards=outcome.rewards[:, 0])


@breaks("making", "error", "`team` is NoneType")
class NoTeam(SoundBatch):
    def __init__(self, env_config):
        super().__init__(env_config)
        self.team = None


@breaks("making", "error", "step.. returned tuple")
class NoOutcome(SoundBatch):
    def outcome(self, before):
        return tuple(super().outcome(before))


@breaks("side by side", "error", "raised IndexError")
class OneOnly(SoundBatch):
    def outcome(self, before):
        [0][self.num_envs - 1]
        return super().outcome(before)


@breaks("vector contract", "error", "agent 'b', environment 0: inactive, with the observation")
class DirtyRows(SoundBatch):
    def write(self):
        super().write()
        self.observations["b"][:] = self.state


@breaks("vector contract", "error", "agent 'b', environment 0: inactive, with the observation")
class DirtyFinals(SoundBatch):
    def outcome(self, before):
        outcome = super().outcome(before)
        self.observations["b"][outcome.truncated] = self.state[outcome.truncated]
        return outcome


@breaks("vector contract", "error", "inactive, with a reward of")
class PaysTheDead(SoundBatch):
    def outcome(self, before):
        return super().outcome(np.ones_like(before))


@breaks("vector contract", "error", "both True", also={"terminated or truncated"})
class BothInBatch(SoundBatch):
    def outcome(self, before):
        outcome = super().outcome(before)
        return outcome._replace(terminated=outcome.truncated)


@breaks("vector contract", "warning", "agent 'a': step.. changed the actions")
class ScalesBatch(SoundBatch):
    def move(self, actions):
        actions["a"] *= 0.5
        super().move(actions)


@breaks("vector contract", "warning", "active again", also={"no restart within step"})
class BatchRestarts(SoundBatch):
    def outcome(self, before):
        outcome = super().outcome(before)
        done = np.flatnonzero(outcome.truncated)
        self.reset(done, [0] * len(done))
        return outcome


@breaks("reset of some", "error", r"changed the observations of 'a' in environments \[1, 2\]")
class ResetsNoise(SoundBatch):
    def reset(self, envs, seeds):
        super().reset(envs, seeds)
        if len(envs) == 1 and self.num_envs > 1 and seeds[0] == 77:
            self.observations["a"][1:] += 1


@breaks("rows are independent", "warning", "environment 1 of 3 and the same one alone differ")
class RowsMix(SoundBatch):
    def move(self, actions):
        super().move(actions)
        self.x += 0.1 * np.arange(self.num_envs)


DONE, CHILDREN = threading.Event(), []


@pytest.fixture
def ends_what_is_left():
    DONE.clear()
    yield
    DONE.set()
    for child in CHILDREN:
        child.kill()
        child.wait()
    CHILDREN.clear()


@pytest.mark.parametrize(("env", "check", "severity", "words", "also"), BROKEN)
def test_each_fault_is_found_and_named(env, check, severity, words, also, ends_what_is_left):
    report = check_env(env, {}, **QUICK)
    found = [f for f in report.findings if f.check == check and f.severity == severity]
    assert found, str(report)
    text = f"{found[0].seen} {found[0].mend}"
    assert re.search(words, text), text
    assert report.ok == (severity != "error"), str(report)
    assert serious(report) - {check} == set(also), str(report)
    assert not any("in the check" in why for why in report.untold.values()), report.untold
    assert check in str(report) and "Traceback" not in str(report)


def test_every_check_has_a_broken_environment():
    broken = {p.values[1] for p in BROKEN}
    assert {c.name for c in (*READING, *PLAYING)} - broken == {"speed"}


def test_what_promises_no_determinism_is_not_warned():
    report = check_env(IgnoresTheSeed, deterministic=False, **QUICK)
    assert serious(report) == set()
    assert [f.severity for f in report.findings if f.check == "determinism"] == ["note"]

    class Frank(IgnoresTheSeed):
        deterministic = False

    assert serious(check_env(Frank, **QUICK)) == set()
    assert serious(check_env(Frank, deterministic=True, **QUICK)) == {"determinism"}


# ---- what is printed ----------------------------------------------------------------------------


def test_the_report_prints():
    text = str(check_env(Sound, **QUICK))
    assert text.startswith("Sound: 2 agents, 40 steps in 7 episodes, ")
    assert "\nok           making, agents, spaces, " in text
    assert re.search(r"\nnote         speed: \d+ env steps/s", text)
    assert text.endswith("no errors, no warnings.")
    assert max(map(len, text.splitlines())) <= 100

    text = str(check_env(NaNs, **QUICK))
    assert "\nerror        finite observations: agent 'a', episode 0, step 2, index 1: nan" in text
    assert "(and 6 more like it)" in text
    assert "\n             -> Observations must be finite" in text
    assert text.endswith("1 error, no warnings.")

    report = check_env(RewardArray, **QUICK)
    assert [f.seen[:9] for f in report.of("error")] == ["agent 'a'", "agent 'b'"]
    assert str(report).count("is not one number") == 1
    assert "1 other agent alike" in " ".join(str(report).split())


def test_time_is_kept():
    report = check_env(Sound, steps=100_000, seconds=0.2)
    assert "seconds were over" in " ".join(report.untold.values()) or len(report.passed) > 30


def test_unknown_names_and_foreign_instances_are_findings():
    for env in ("no_such_environment", object(), SimpleNamespace(possible_agents=["a"])):
        report = check_env(env)
        assert not report.ok
        assert report.findings[0].check == "making"


def test_the_command_line(tmp_path, capsys, monkeypatch):
    from rllib_hetero.cli import main

    quick = ["--steps", "20", "--seconds", "600"]
    assert main(["check", "matrix_game", '{"game": "climbing"}', *quick]) == 0
    assert capsys.readouterr().out.startswith('matrix_game {"game": "climbing"}: 2 agents, 20')
    assert main(["check", "matrix_game", '{"game": "chess"}', *quick]) == 1
    assert "Unknown `game` 'chess'" in capsys.readouterr().out
    assert main(["check", "toys:TargetTeam", *quick, "--stochastic"]) == 0
    for wrong in ("{scenario}", "[1]"):
        with pytest.raises(SystemExit) as status:
            main(["check", "mpe", wrong])
        assert status.value.code == 2
    for wrong in ("toys:Nobody", "nowhere:Env"):
        assert main(["check", wrong]) == 2
        assert "cannot be imported" in capsys.readouterr().err


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_module_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "matrix_game", '{"game": "climbing"}', "--steps", "5"])
    monkeypatch.delitem(sys.modules, "rllib_hetero.checking.__main__", raising=False)
    with pytest.raises(SystemExit) as status:
        runpy.run_module("rllib_hetero.checking", run_name="__main__")
    assert status.value.code == 0
    assert "no errors" in capsys.readouterr().out
    assert callable(rllib_hetero.check_env)  # and not a module
