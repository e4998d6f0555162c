"""The PettingZoo wrapper, on a small environment whose agents die at known steps."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.spaces import Dict as DictSpace

from rllib_hetero.envs import ENVIRONMENTS, PettingZooTeamEnv, register_environments
from rllib_hetero.errors import TeamError
from rllib_hetero.team import Team

pettingzoo = pytest.importorskip("pettingzoo")


class Mortals(pettingzoo.ParallelEnv):
    """Agents "b", "a", "c" with observations of 1, 2 and 3 numbers, all the step count.

    Args:
        ends: Agent to (step of its end, "term", "trunc" or "both").
        strays: Whether dead agents stay in the dicts.
    """

    metadata = {"name": "mortals"}
    render_mode = "rgb_array"

    def __init__(self, ends, strays=False):
        self.possible_agents = ["b", "a", "c"]
        self.ends, self.strays = ends, strays
        self.closed = False

    def observation_space(self, agent):
        return Box(-9.0, 9.0, (self._size(agent),), np.float64)

    def action_space(self, agent):
        return Discrete(2)

    def _size(self, agent):
        return self.possible_agents.index(agent) + 1

    def _see(self, agents):
        return {a: np.full(self._size(a), self.t, np.float64) for a in agents}

    def reset(self, seed=None, options=None):
        self.t = 0
        self.agents = list(self.possible_agents)
        return self._see(self.agents), {a: {"seed": seed} for a in self.agents}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        told = self.possible_agents if self.strays else list(self.agents)

        def has(a, kind):
            step, how = self.ends[a]
            return self.t >= step and how in (kind, "both")

        self.terminations = {a: has(a, "term") for a in told}
        self.truncations = {a: has(a, "trunc") for a in told}
        self.agents = [a for a in self.agents if self.t < self.ends[a][0]]
        rewards = {a: float(self.t) for a in told}
        return (
            self._see(told), rewards, self.terminations, self.truncations, {a: {} for a in told}
        )  # fmt: skip

    def state(self):
        return np.array([self.t, -self.t], np.float64)

    def render(self):
        return np.zeros((4, 4, 3), np.uint8)

    def close(self):
        self.closed = True


def play(env):
    """All outcomes of one episode."""
    env.reset()
    outcomes = []
    while env.agents:
        outcomes.append(env.step({a: 0 for a in env.agents}))
    return outcomes


def test_describes_its_team():
    env = PettingZooTeamEnv(Mortals({}))
    team = Team.from_env(env)
    assert team.agents == ("b", "a", "c")
    assert [team.observation_spaces[a].shape for a in team.agents] == [(1,), (2,), (3,)]
    assert {s.dtype for s in team.observation_spaces.values()} == {np.dtype(np.float32)}
    assert set(env.observation_space.spaces) == {"a", "b", "c"}
    assert env.action_space["c"] == Discrete(2)
    assert team.reward_scheme == "individual"
    assert PettingZooTeamEnv(Mortals({}), reward_scheme="shared").reward_scheme == "shared"


def test_observations_are_float32_and_in_their_spaces():
    env = PettingZooTeamEnv(Mortals({a: (2, "term") for a in "abc"}))
    observations, infos = env.reset(seed=7)
    assert infos["a"] == {"seed": 7}
    for agent, x in observations.items():
        assert x.dtype == np.float32
        assert env.observation_spaces[agent].contains(x)
    assert env.step({a: 1 for a in env.agents})[0]["c"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("strays", [False, True])
def test_a_dying_agent_is_returned_once_more(strays):
    ends = {"b": (1, "term"), "a": (3, "term"), "c": (3, "term")}
    outcomes = play(PettingZooTeamEnv(Mortals(ends, strays)))
    assert [set(o[0]) for o in outcomes] == [{"a", "b", "c"}, {"a", "c"}, {"a", "c"}]
    observations, rewards, terminateds, truncateds, infos = outcomes[0]
    assert rewards["b"] == 1.0 and observations["b"].tolist() == [1.0]
    assert terminateds == {"b": True, "a": False, "c": False, "__all__": False}
    assert truncateds == {"b": False, "a": False, "c": False, "__all__": False}
    for observations, rewards, terminateds, truncateds, infos in outcomes:
        alive = set(observations)
        assert set(rewards) == set(infos) == alive
        assert set(terminateds) == set(truncateds) == alive | {"__all__"}


@pytest.mark.parametrize(
    ("ends", "terminated"),
    [
        ({"b": (2, "term"), "a": (2, "term"), "c": (2, "term")}, True),
        ({"b": (2, "trunc"), "a": (2, "trunc"), "c": (2, "trunc")}, False),
        ({"b": (2, "term"), "a": (2, "trunc"), "c": (2, "term")}, False),  # mixed in one step
        ({"b": (1, "trunc"), "a": (2, "term"), "c": (2, "term")}, True),  # cut off earlier
        ({"b": (1, "term"), "a": (2, "trunc"), "c": (2, "trunc")}, False),
        ({"b": (2, "both"), "a": (2, "both"), "c": (2, "both")}, True),  # a true end wins
    ],
)
def test_exactly_one_end_of_the_episode(ends, terminated):
    outcomes = play(PettingZooTeamEnv(Mortals(ends)))
    assert len(outcomes) == 2
    assert [(o[2]["__all__"], o[3]["__all__"]) for o in outcomes] == [
        (False, False),
        (terminated, not terminated),
    ]


def test_the_environments_own_dicts_are_not_written():
    inner = Mortals({a: (1, "term") for a in "abc"})
    play(PettingZooTeamEnv(inner))
    assert set(inner.terminations) == set(inner.truncations) == {"a", "b", "c"}
    env = PettingZooTeamEnv(inner)
    env.metadata["autoreset_mode"] = "next_step"
    assert "autoreset_mode" not in Mortals.metadata


def test_state_space():
    inner = Mortals({a: (3, "term") for a in "abc"})
    box = Box(-np.inf, np.inf, (2,), np.float64)
    assert PettingZooTeamEnv(inner).state_space is None  # not declared
    with pytest.raises(TeamError, match="no global state"):
        PettingZooTeamEnv(inner).state()
    given = PettingZooTeamEnv(inner, state_space=box)
    inner.state_space = box
    found = PettingZooTeamEnv(inner)
    assert PettingZooTeamEnv(inner, state_space=None).state_space is None
    for env in (given, found):
        assert env.state_space.dtype == np.float32
        env.reset()
        env.step({a: 0 for a in env.agents})
        assert env.state().dtype == np.float32
        assert env.state().tolist() == [1.0, -1.0]
    with pytest.raises(TeamError, match="state_space="):
        PettingZooTeamEnv(inner, state_space="full")


def test_observations_of_other_kinds_stay_as_they_are():
    inner = Mortals({})
    picture, see = Box(0, 255, (4, 4, 3), np.uint8), inner._see
    inner.observation_space = lambda agent: picture
    inner._see = lambda told: {a: np.full((4, 4, 3), 7, np.uint8) for a in see(told)}
    env = PettingZooTeamEnv(inner)
    assert env.observation_spaces["b"] == picture
    observations, _ = env.reset(seed=0)
    assert observations["b"].dtype == np.uint8 and observations["b"].shape == (4, 4, 3)


def test_a_picture_as_state_is_asked_for():
    inner = Mortals({})
    inner.state_space = Box(0, 255, (4, 4, 3), np.uint8)
    inner.state = lambda: np.zeros((4, 4, 3), np.uint8)
    assert PettingZooTeamEnv(inner).state_space is None
    env = PettingZooTeamEnv(inner, state_space=inner.state_space)
    env.reset()
    assert env.state_space == inner.state_space and env.state().dtype == np.uint8


# ---- action masks ---------------------------------------------------------------------------


class Choosy(Mortals):
    """`Mortals` whose agents "a" and "c" may only act as the clock says.

    Args:
        where: "observation" or "info": where their masks are; "b" has one in its info only.
    """

    def __init__(self, where, ends=None):
        super().__init__(ends or {a: (9, "term") for a in "abc"})
        self.where = where

    def observation_space(self, agent):
        space = super().observation_space(agent)
        if self.where == "observation" and agent != "b":
            return DictSpace({"observation": space, "action_mask": Box(0, 1, (2,), np.int8)})
        return space

    def mask(self):
        return np.array([self.t % 2, (self.t + 1) % 2], np.int8)

    def reset(self, seed=None, options=None):
        return self._choose(*super().reset(seed, options))

    def step(self, actions):
        observations, *rest, infos = super().step(actions)
        observations, infos = self._choose(observations, infos)
        return observations, *rest, infos

    def _choose(self, observations, infos):
        if self.where == "info":
            return observations, {a: {**infos[a], "action_mask": self.mask()} for a in self.agents}
        for a in set(observations) - {"b"}:
            observations[a] = {"observation": observations[a], "action_mask": self.mask()}
        return observations, infos


def masks_of(observations):
    return {a: x["action_mask"].tolist() for a, x in observations.items() if isinstance(x, dict)}


@pytest.mark.parametrize(("where", "masked"), [("observation", "ac"), ("info", "abc")])
def test_masks_become_rllibs(where, masked):
    env = PettingZooTeamEnv(Choosy(where), action_masks="info" if where == "info" else "auto")
    team = Team.from_env(env)
    assert team.masked == set(masked)
    assert [team.observation_spaces[a].shape for a in "bac"] == [(1,), (2,), (3,)]
    observations, _ = env.reset()
    assert masks_of(observations) == {key: [0, 1] for key in masked}
    observations, *_ = env.step(dict.fromkeys("abc", 1))
    assert masks_of(observations) == {key: [1, 0] for key in masked}
    for agent, x in observations.items():
        assert env.observation_spaces[agent].contains(x)
    plain = observations["a"]["observations"]
    assert plain.dtype == np.float32 and plain.tolist() == [1.0, 1.0]


def test_masks_left_out():
    env = PettingZooTeamEnv(Choosy("observation"), action_masks=None)
    assert Team.from_env(env).masked == frozenset()
    assert env.reset()[0]["c"].tolist() == [0.0, 0.0, 0.0]
    # Those in infos are not looked for.
    assert Team.from_env(PettingZooTeamEnv(Choosy("info"))).masked == frozenset()


def test_the_dead_need_no_mask_in_their_info():
    env = PettingZooTeamEnv(
        Choosy("info", {"b": (1, "term"), "a": (2, "term"), "c": (2, "term")}), action_masks="info"
    )
    outcomes = play(env)
    assert masks_of(outcomes[0][0]) == {"b": [1, 1], "a": [1, 0], "c": [1, 0]}


def test_missing_masks():
    with pytest.raises(TeamError, match=r"info of agent 'b' lacks the key 'action_mask'"):
        PettingZooTeamEnv(Mortals({}), action_masks="info").reset()
    with pytest.raises(TeamError, match=r"`action_masks` must be 'auto', 'info' or None"):
        PettingZooTeamEnv(Mortals({}), action_masks="infos")
    inner = Choosy("info")
    inner.action_space = lambda agent: Box(-1.0, 1.0, (2,), np.float32)
    with pytest.raises(TeamError, match=r"'b' has an action mask.*action_masks=None"):
        PettingZooTeamEnv(inner, action_masks="info")


def test_render_and_close():
    inner = Mortals({})
    env = PettingZooTeamEnv(inner)
    assert env.render_mode == "rgb_array"
    assert env.render().shape == (4, 4, 3)
    env.close()
    assert inner.closed


def test_plays_in_rllibs_own_vector_environment():
    from ray.rllib.env.vector.sync_vector_multi_agent_env import SyncVectorMultiAgentEnv

    ends = {"b": (1, "term"), "a": (2, "term"), "c": (2, "trunc")}
    vector = SyncVectorMultiAgentEnv([lambda: PettingZooTeamEnv(Mortals(ends))] * 2)
    vector.reset(seed=0)
    vector.step([{a: 0 for a in "abc"}] * 2)
    *_, truncateds, _ = vector.step([{a: 0 for a in "ac"}] * 2)
    assert [t["__all__"] for t in truncateds] == [True, True]


def test_environments_are_registered():
    from ray.tune.registry import ENV_CREATOR, _global_registry

    register_environments()
    register_environments()
    for name, creator in ENVIRONMENTS.items():
        assert _global_registry.get(ENV_CREATOR, name) is creator


def test_importing_the_package_imports_no_environment():
    import subprocess
    import sys

    code = (
        "import sys, rllib_hetero.envs;"
        "print({'mpe2', 'mujoco', 'pettingzoo', 'gymnasium_robotics'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
