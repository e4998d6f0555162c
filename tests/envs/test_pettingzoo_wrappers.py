"""`supersuit` around PettingZoo environments, and those that take turns in name only."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from rllib_hetero import HAPPOConfig, check_env
from rllib_hetero.envs import PettingZooTeamEnv
from rllib_hetero.errors import TeamError
from rllib_hetero.team import Team

pettingzoo = pytest.importorskip("pettingzoo")
ROOT = Path(__file__).parents[2]


class Sights(pettingzoo.ParallelEnv):
    """Two agents see a clock as a vector, or as a picture that it brightens; "b" lives 3 steps."""

    metadata = {"name": "sights"}
    render_mode = None

    def __init__(self, picture=False):
        self.possible_agents = ["a", "b"]
        self.picture = picture

    def observation_space(self, agent):
        if self.picture:
            return Box(0, 255, (12, 16, 3), np.uint8)
        return Box(-4.0, 8.0, (3,), np.float64)

    def action_space(self, agent):
        return Discrete(2)

    def _see(self, agents):
        if self.picture:
            return {a: np.full((12, 16, 3), [10, 20, 30 + self.t], np.uint8) for a in agents}
        return {a: np.array([self.t, -1.0, self.agents.index(a)], np.float64) for a in agents}

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.possible_agents)
        return self._see(self.agents), {a: {} for a in self.agents}

    def step(self, actions):
        self.t += 1
        acted, seen = list(self.agents), self._see(self.agents)
        dead = {a: (a == "b" and self.t == 3) or self.t == 6 for a in acted}
        self.agents = [a for a in acted if not dead[a]]
        return seen, dict.fromkeys(acted, 1.0), dead, dict.fromkeys(acted, False), {
            a: {} for a in acted
        }  # fmt: skip


def observations_of(env):
    """Of agent "a" in one episode."""
    seen, _ = env.reset(seed=1)
    rows, living = [seen["a"]], [set(seen)]
    while env.agents:
        seen, *_ = env.step(dict.fromkeys(env.agents, 0))
        rows.append(seen["a"])
        living.append(set(seen))
    return np.stack(rows), living


def test_supersuits_wrappers_of_vectors():
    ss = pytest.importorskip("supersuit")
    plain, living = observations_of(PettingZooTeamEnv(Sights()))
    assert [len(x) for x in living] == [2, 2, 2, 2, 1, 1, 1]

    stacked, _ = observations_of(PettingZooTeamEnv(ss.flatten_v0(ss.frame_stack_v1(Sights(), 3))))
    expected = [[plain[max(t - k, 0)] * (t >= k) for k in (2, 1, 0)] for t in range(7)]
    np.testing.assert_array_equal(stacked.reshape(7, 3, 3), np.array(expected))
    low = ss.normalize_obs_v0(ss.dtype_v0(Sights(), np.float32))
    normalized, _ = observations_of(PettingZooTeamEnv(low))
    np.testing.assert_allclose(normalized, (plain + 4.0) / 12.0, rtol=1e-6)

    # All agents to the end: the dead see zeros, and still act.
    wrapped = PettingZooTeamEnv(ss.black_death_v3(Sights()))
    _, living = observations_of(wrapped)
    assert {len(x) for x in living} == {2}
    report = check_env(lambda config: PettingZooTeamEnv(ss.black_death_v3(Sights())), steps=60)
    assert report.ok, report


def test_supersuits_wrappers_of_pictures():
    """Grey, smaller, stacked, and made flat."""
    ss = pytest.importorskip("supersuit")
    env = ss.color_reduction_v0(Sights(picture=True), "full")
    env = ss.frame_stack_v1(ss.resize_v1(env, x_size=4, y_size=3), 2)
    env = PettingZooTeamEnv(ss.flatten_v0(env))
    team = Team.from_env(env)
    assert team.observation_spaces["a"].shape == (3 * 4 * 2,)
    seen, _ = observations_of(env)
    grey = 0.2989 * 10 + 0.587 * 20 + 0.114 * (30 + np.arange(7))
    np.testing.assert_allclose(seen.reshape(7, 12, 2)[:, :, -1].mean(1), grey, atol=1.5)
    assert (seen.reshape(7, 12, 2)[1:, 0, 0] == seen.reshape(7, 12, 2)[:-1, 0, -1]).all()


def test_pistons_see_small_pictures_where_the_game_draws():
    """As the tuned example has them. Without a render mode nothing moves, and nothing says so."""
    pytest.importorskip("supersuit")
    pytest.importorskip("pettingzoo.butterfly.pistonball_v6")
    make_env = runpy.run_path(str(ROOT / "tuned_examples/happo/pistonball.py"))["make_env"]
    for settings, moves in (({}, True), ({"render_mode": None}, False)):
        env = make_env({"n_pistons": 8, "continuous": False, **settings})
        # Copies: the wrapper that stacks frames writes the next one into what it has returned.
        seen = [{a: x.copy() for a, x in env.reset(seed=1)[0].items()}]
        for _ in range(6):
            after, *_ = env.step(dict.fromkeys(env.agents, 2))
            seen.append({a: x.copy() for a, x in after.items()})
            for a, x in after.items():
                assert x.shape == (40, 12, 2) and x.dtype == np.uint8
                np.testing.assert_array_equal(x[..., 0], seen[-2][a][..., 1])
        assert [(x[..., 1] != seen[0][a][..., 1]).any() for a, x in after.items()] == [moves] * 8


def test_wrapped_observations_train(ray_local):
    ss = pytest.importorskip("supersuit")
    config = (
        HAPPOConfig()
        .environment(
            lambda config: PettingZooTeamEnv(ss.flatten_v0(ss.frame_stack_v1(Sights(), 3)))
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=24, num_epochs=1)
        .rl_module(model_config={"hidden_sizes": [8]})
    )
    algo = config.build_algo()
    assert algo.train()["env_runners"]["episode_return_mean"] == 9.0
    algo.stop()


# ---- AEC ----------------------------------------------------------------------------------------


def test_an_aec_environment_without_turns_is_made_parallel():
    mpe = pytest.importorskip("mpe2.simple_tag_v3")
    parallel, aec = PettingZooTeamEnv(mpe.parallel_env()), PettingZooTeamEnv(mpe.env())
    assert Team.from_env(parallel) == Team.from_env(aec)
    one, other = parallel.reset(seed=3)[0], aec.reset(seed=3)[0]
    for t in range(4):
        for a in parallel.possible_agents:
            np.testing.assert_array_equal(one[a], other[a])
        actions = {a: (t + i) % 5 for i, a in enumerate(parallel.agents)}
        (one, mine, *_), (other, theirs, *_) = parallel.step(actions), aec.step(actions)
        assert mine == pytest.approx(dict(theirs))


def test_one_with_turns_is_refused():
    mpe = pytest.importorskip("mpe2.simple_tag_v3")
    env = mpe.env()
    env.unwrapped.metadata = {**env.metadata, "is_parallelizable": False}
    with pytest.raises(TeamError, match=r"take turns.*is_parallelizable.*RLlib's own algorithms"):
        PettingZooTeamEnv(env)
    with pytest.raises(TeamError, match="got the class Sights"):
        PettingZooTeamEnv(Sights)


# ---- agents that come and go --------------------------------------------------------------------


class Guests(Sights):
    """ "b" comes in step 1, dies in step 3, and is back in step 5."""

    def reset(self, seed=None, options=None):
        super().reset()
        self.agents = ["a"]
        return {"a": np.zeros(3)}, {"a": {}}

    def step(self, actions):
        assert set(actions) == set(self.agents)
        self.t += 1
        acted = list(self.agents)
        self.agents = {6: []}.get(self.t, ["a", "b"] if self.t in (1, 2, 5) else ["a"])
        told = sorted({*acted, *self.agents})
        dead = {a: a not in self.agents for a in acted}
        seen = {a: np.array([self.t, 0.0, ord(a) - 97.0]) for a in told}
        infos = {a: {} for a in told}
        return seen, dict.fromkeys(acted, 1.0), dead, dict.fromkeys(acted, False), infos


def test_agents_that_come_and_go():
    env = PettingZooTeamEnv(Guests(), absences=True)
    assert Team.from_env(env).absences and not Team.from_env(PettingZooTeamEnv(Guests())).absences
    seen, _ = env.reset()
    living, ends = [set(seen)], []
    while env.agents:
        seen, _, terminateds, truncateds, _ = env.step(dict.fromkeys(env.agents, 0))
        living.append(set(seen))
        ends.append((terminateds.get("b"), terminateds["__all__"], truncateds["__all__"]))
    assert living == [{"a"}, *[{"a", "b"}] * 3, {"a"}, *[{"a", "b"}] * 2]
    assert ends == [
        (None, False, False), (False, False, False), (True, False, False), (None, False, False),
        (None, False, False), (True, True, False),
    ]  # fmt: skip


def test_the_check_knows_of_absences():
    report = check_env(lambda config: PettingZooTeamEnv(Guests(), absences=True), steps=60)
    assert report.ok, report
    report = check_env(lambda config: PettingZooTeamEnv(Guests()), steps=60)
    (finding,) = [f for f in report.findings if f.check == "agents at reset"]
    assert finding.severity == "error" and "absences = True" in finding.mend
