"""Action masks on the team env runner: forbidden actions are neither drawn nor likely."""

import re
import uuid

import numpy as np
import pytest
import runner_toys as toys
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.spaces import Dict as DictSpace
from ray.rllib.core import Columns
from runner_toys import DriftBatch, ScriptedTeam
from toys import CountingTeam, MaskedTeam, clock_mask, is_allowed

from rllib_hetero import HAPPOConfig, Outcome, Team, TeamError, VectorTeamEnv
from rllib_hetero.functional import distribution_for
from rllib_hetero.sharing import lay_out

LOWEST = np.finfo(np.float32).min
MIXED = {"a": "box", "b": "discrete", "c": "multi"}
EQUAL = {"a": 4, "b": 4, "c": 4}


def runner_of(env_config=None, *, env=ScriptedTeam, sharing="none", num_envs=2, **settings):
    config = toys.small(HAPPOConfig(), env, env_config, num_envs=num_envs)
    config.multi_agent(parameter_sharing=sharing).update_from_dict(settings)
    config.validate()
    torch.manual_seed(0)
    return toys.make_runner(config, weights=toys.actor_weights(toys.make_modules(config)))


def expected_masks(fragment, team, length=5):
    """Agent to (T, E, p): ScriptedTeam's masks for fresh episodes of this length."""
    steps = np.arange(len(fragment.valid))
    return {
        a: np.stack(
            [clock_mask(team.action_spaces[a], t % length + t // length + i) for t in steps]
        )[:, None].repeat(fragment.num_envs, 1)
        > 0
        for i, a in enumerate(team.agents)
        if a in team.masked
    }


# ---- what is sampled ------------------------------------------------------------------------


@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize(
    ("case", "sharing"),
    [
        ({"actions": MIXED, "masked": "bc"}, "none"),
        ({"actions": {"a": "discrete", "b": "discrete"}, "masked": "a", "agents": EQUAL}, "none"),
        ({"actions": dict.fromkeys("abc", "multi"), "masked": "abc", "agents": EQUAL}, "full"),
        ({"actions": MIXED | {"b": "multi"}, "masked": "bc", "dies": {"b": 2}}, {"bc": "bc"}),
    ],
    ids=str,
)
def test_what_is_stored_is_masked(case, sharing, explore):
    runner = runner_of(case, sharing=sharing)
    layout, team = runner.config.layout, runner.config.layout.team
    (f,) = runner.sample(num_timesteps=24, explore=explore)
    assert f.problem is None
    assert set(f.action_masks) == {layout.module_of[a] for a in team.masked}
    expected = expected_masks(f, team)
    for agent, (m, k) in layout.slot_of.items():
        dist, alive = distribution_for(team.action_spaces[agent]), f.active[m][:, :, k]
        with torch.no_grad():
            rows = torch.from_numpy(f.observations[m][:, :, k])
            raw = runner.module[m].forward_inference({Columns.OBS: rows})
        raw = raw[Columns.ACTION_DIST_INPUTS].numpy()
        stored, actions = f.dist_inputs[m][:, :, k], f.actions[m][:, :, k]
        if agent not in team.masked:
            np.testing.assert_allclose(stored, raw, atol=1e-5)
            continue
        mask = f.action_masks[m][:, :, k]
        assert mask.dtype == bool and mask.shape == (12, 2, dist.size)
        assert np.array_equal(mask[alive], expected[agent][alive]) and mask[~alive].all()
        np.testing.assert_allclose(stored[mask], raw[mask], atol=1e-5)
        assert (stored[~mask] == LOWEST).all() and (~mask).any()
        log_probs = dist.log_prob(torch.from_numpy(stored), torch.from_numpy(actions)).numpy()
        np.testing.assert_allclose(f.log_probs[m][:, :, k], log_probs)
        assert np.isfinite(log_probs).all() and (log_probs > -20).all()
        for t, e in np.argwhere(alive):
            assert is_allowed(team.action_spaces[agent], mask[t, e], actions[t, e])
        if not explore:
            assert np.array_equal(actions, dist.act(np.where(mask, raw, -np.inf), None))


def test_masks_follow_their_own_clock_everywhere():
    """The toy refuses what is forbidden: unequal lengths, deaths, ends, several calls, quotas."""
    case = {"actions": MIXED, "masked": "bc", "lengths": [3, 5], "dies": {"b": 2}}
    runner = runner_of(case, num_envs=3)
    for kwargs in (
        {"num_timesteps": 21},
        {"num_timesteps": 30},
        {"num_episodes": 4, "explore": False},
        {"num_timesteps": 30, "random_actions": True},
    ):
        assert all(f.problem is None for f in runner.sample(**kwargs))
    runner = runner_of(env=MaskedTeam)
    (f,) = runner.sample(num_timesteps=60)
    assert set(f.action_masks) == {"b", "c", "d"}


def test_random_actions_are_uniform_among_the_allowed():
    runner = runner_of({"actions": MIXED, "masked": "bc", "lengths": [50]})
    (f,) = runner.sample(num_timesteps=1200, random_actions=True)
    mask, actions = f.action_masks["b"][:, :, 0], f.actions["b"][:, :, 0]
    which = (mask == [False, True, True, False]).all(-1)
    assert which.sum() > 300
    counts = np.bincount(actions[which], minlength=4)
    assert counts[0] == counts[3] == 0
    assert abs(counts[1] - which.sum() / 2) < 5 * (which.sum() / 4) ** 0.5


def test_stacks_are_of_one_kind():
    case = {"agents": EQUAL, "actions": dict.fromkeys("abc", "discrete"), "masked": "b"}
    layout = runner_of(case).config.layout
    assert layout.stacks == (("a", "c"), ("b",))
    assert [layout.masked(m) for m in "abc"] == [False, True, False]


def test_a_failure_and_its_masks():
    case = {"fail": "step", "fail_at": (0, 1, 2), "fail_key": uuid.uuid4().hex}
    runner = runner_of(
        {"actions": MIXED, "masked": "bc", **case}, restart_failed_sub_environments=True
    )
    (f,) = runner.sample(num_timesteps=24)
    assert f.problem is None and np.argwhere(~f.valid).tolist() == [[7, 0]]
    assert np.array_equal(f.action_masks["b"][8, 0], f.action_masks["b"][0, 0])
    cut = (f.finals.step == 6) & (f.finals.env == 0)  # at the failed step's true observation
    assert np.array_equal(f.finals.action_masks["b"][cut][0], f.action_masks["b"][7, 0])
    assert f.finals.active["b"][cut].all() and f.truncated[6, 0]


def test_part_of_a_fragment():
    (f,) = runner_of({"actions": MIXED, "masked": "bc"}, num_envs=3).sample(num_timesteps=12)
    part = f.select(range(1, 3))
    assert np.array_equal(part.action_masks["c"], f.action_masks["c"][:, 1:])
    (f,) = runner_of({"actions": MIXED, "masked": "bc"}, num_envs=3).sample(num_timesteps=15)
    part, kept = f.select(range(1, 3)).finals, f.finals.env >= 1
    assert part.env.tolist() == [0, 1] and kept.sum() == 2
    assert np.array_equal(part.action_masks["c"], f.finals.action_masks["c"][kept])
    assert np.array_equal(part.active["c"], f.finals.active["c"][kept])


# ---- environments batched by nature ---------------------------------------------------------


class Menu(VectorTeamEnv):
    """One agent with three choices; the one that was taken last is forbidden."""

    def __init__(self, config):
        n = self.num_envs = config["num_envs"]
        self.team = Team(
            agents=("cook",),
            observation_spaces={"cook": Box(0.0, 9.0, (1,), np.float32)},
            action_spaces={"cook": Discrete(3)},
            masked=frozenset({"cook"}),
        )
        self.observations = {"cook": np.zeros((n, 1), np.float32)}
        self.state, self.active = None, np.ones((n, 1), bool)
        self.infos = [{} for _ in range(n)]
        self.masks = {"cook": np.ones((n, 3), bool)}

    def reset(self, envs, seeds):
        self.masks["cook"][list(envs)] = True

    def step(self, actions):
        rows = np.arange(self.num_envs), actions["cook"]
        assert self.masks["cook"][rows].all()
        self.masks["cook"][:] = True
        self.masks["cook"][rows] = False
        no = np.zeros(self.num_envs, bool)
        return Outcome(np.zeros((self.num_envs, 1), np.float32), no, no.copy(), no.copy())


def test_a_batched_environment():
    (f,) = runner_of(env=Menu, num_envs=3).sample(num_timesteps=60)
    assert (f.actions["cook"][1:] != f.actions["cook"][:-1]).all()
    assert f.action_masks["cook"][0].all() and (f.action_masks["cook"][1:].sum(-1) == 2).all()
    assert runner_of(env=DriftBatch).env.masks == {}


@pytest.mark.parametrize("masks", [{}, {"cook": np.ones((3, 4), bool)}, {"cook": np.ones((3, 3))}])
def test_a_batched_environment_without_its_masks(masks):
    class Careless(Menu):
        def __init__(self, config):
            super().__init__(config)
            self.masks = masks

    with pytest.raises(TeamError, match=r"'cook' has an action mask; its `masks`.*\(3, 3\)"):
        runner_of(env=Careless, num_envs=3)


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize("sharing", ["none", {"bc": "bc"}])
@pytest.mark.parametrize(
    ("kind", "words"), [("discrete", "allows nothing, in"), ("multi", "nothing in component 1 of")]
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_mask_that_allows_nothing(kind, words, sharing, restart):
    """Whether the environment takes the action that is drawn then, raises, or is restarted."""
    case = {
        "actions": {"b": kind, "c": kind}, "masked": "bc", "poison": "mask", "poison_at": (1, 0, 2)
    }  # fmt: skip
    runner = runner_of(case, sharing=sharing, restart_failed_sub_environments=restart)
    (f,) = runner.sample(num_timesteps=20)
    assert "agent 'c'" in f.problem and words in f.problem
    assert "in step 2 of the fragment, sub-environment 1" in f.problem


def test_the_dead_need_no_choice():
    case = {
        "actions": MIXED, "masked": "bc", "dies": {"c": 2}, "poison": "mask", "poison_at": (1, 0, 2)
    }  # fmt: skip
    (f,) = runner_of(case).sample(num_timesteps=20)  # empty in the step in which it dies
    assert f.problem is None and f.action_masks["c"][2:5].all()


def one_agent_space(observation_space, action_space):
    class One(CountingTeam):
        def __init__(self, config=None):
            super().__init__({"agents": {"x": (2, "discrete")}})
            self.observation_spaces = {"x": observation_space}
            self.action_spaces = {"x": action_space}

    return One


BOX = Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("mask", "actions", "message"),
    [
        (Box(0, 1, (2,)), Box(-1.0, 1.0, (1,), np.float32), r"'x' has an action mask, but its"),
        (Box(0, 1, (3,)), Discrete(4), r"mask of agent 'x'.*shape \(3,\); \(4,\) is needed"),
        (Box(0, 1, (2, 3)), MultiDiscrete([2, 3]), r"shape \(2, 3\); \(5,\) is needed"),
        (Discrete(4), Discrete(4), r"shape \(\); \(4,\) is needed"),
    ],
)
def test_mask_spaces(mask, actions, message):
    space = DictSpace({"observations": BOX, "action_mask": mask})
    with pytest.raises(TeamError, match=message):
        Team.from_env(one_agent_space(space, actions)())


def test_other_dicts_have_no_mask():
    mask = Box(0, 1, (4,))
    for keys in ({"observation": BOX, "action_mask": mask}, {"observations": BOX}):
        assert not Team.from_env(one_agent_space(DictSpace(keys), Discrete(4))()).masked
    space = DictSpace({"observations": Box(0, 1, (2, 2)), "action_mask": mask})
    assert Team.from_env(one_agent_space(space, Discrete(4))()).masked == {"x"}
    with pytest.raises(TeamError, match=r"must be of the team \['x'\], got \['y'\]"):
        Team(("x",), {"x": BOX}, {"x": Discrete(4)}, masked=frozenset("y"))


def test_sharing_with_and_without_a_mask():
    team = Team(
        ("x", "y"),
        dict.fromkeys("xy", BOX),
        dict.fromkeys("xy", Discrete(4)),
        masked=frozenset("y"),
    )
    with pytest.raises(TeamError, match=r"'y' has an action mask and 'x' has none.*multi_agent\("):
        lay_out(team, "full")
    assert lay_out(team, "none").masked("y")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"observations": np.zeros(2), "action_mask": np.ones(3)},
         r"mask of agent 'x' has shape \(3,\); \(4,\) is needed"),
        ({"observations": np.zeros(2)}, r"agent 'x' is not a dict of 'observations' and"),
        (np.zeros(2), r"agent 'x' is not a dict of 'observations' and"),
        ({"observations": np.zeros(3), "action_mask": np.ones(4)},
         r"observation of agent 'x' has shape \(3,\)"),
    ],
)  # fmt: skip
def test_broken_masks(returned, message):
    space = DictSpace({"observations": BOX, "action_mask": Box(0, 1, (4,))})

    class Broken(one_agent_space(space, Discrete(4))):
        def _observation(self, agent):
            good = {"observations": np.zeros(2), "action_mask": np.ones(4)}
            return returned if self.t == 2 else good

    (f,) = runner_of(env=Broken).sample(num_timesteps=12)
    assert re.search(message, f.problem), f.problem
