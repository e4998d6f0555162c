"""Environments that raise, and runners that die: training goes on, and on true data only."""

import logging
import uuid

import numpy as np
import pytest
import runner_toys as toys
from ray.rllib.core import Columns
from runner_toys import EveryThirdReset, ScriptedTeam

from rllib_hetero import HAPPOConfig, TeamError
from rllib_hetero.layout import CRITIC


def config_of(case, *, restart=True, **kwargs):
    case = {"fail_key": uuid.uuid4().hex, **case}
    return toys.small(HAPPOConfig(), ScriptedTeam, case, **kwargs).fault_tolerance(
        restart_failed_sub_environments=restart
    )


def runner_and_modules(case, **kwargs):
    config = config_of(case, **kwargs)
    modules = toys.make_modules(config)
    return config, toys.make_runner(config, weights=toys.actor_weights(modules)), modules


def failures_of(runner):
    return runner.get_metrics()["num_env_failures_lifetime"].peek()


@pytest.mark.parametrize("state", [False, True])
def test_a_failed_step_is_dropped_and_the_rest_is_bootstrapped(state):
    """Sub-environment 0 fails in step 7 of the rollout, two steps into its second episode."""
    case = {"fail": "step", "fail_at": (0, 1, 2), "state": state}
    config, runner, modules = runner_and_modules(case)
    config.gamma, config.lambda_ = 0.8, 0.5
    (f,) = runner.sample(num_timesteps=24)
    assert f.problem is None
    assert np.argwhere(~f.valid).tolist() == [[7, 0]]
    assert f.truncated[:, 0].nonzero()[0].tolist() == [4, 6]
    assert not f.terminated.any()
    k = f.finals.step.tolist().index(6)
    assert f.finals.env[k] == 0 and len(f.finals.step) == 4
    for m in "abc":
        assert np.array_equal(f.finals.observations[m][k], f.observations[m][7, 0])
    # A new environment begins: its first episode, at step 0.
    assert f.observations["a"][8, 0, 0].tolist()[1:] == [0.0, 0.0]

    batch = toys.team_batch([f], config, modules)
    assert {len(x) for rows in batch.values() for x in rows.values()} == {23}
    # By hand: the rows 5 and 6 of sub-environment 0, and the true observation before the failure.
    rows = batch[CRITIC]
    v = toys.values(modules, rows[Columns.OBS])
    after = f.state[7, 0] if state else np.concatenate([f.observations[m][7, 0, 0] for m in "abc"])
    end = toys.values(modules, after[None])[0]
    r = f.rewards[:, 0].sum(-1)
    delta = [r[5] + 0.8 * v[6] - v[5], r[6] + 0.8 * end - v[6]]
    expected = [delta[0] + 0.4 * delta[1], delta[1]]
    np.testing.assert_allclose(rows[Columns.ADVANTAGES][5:7], expected, rtol=1e-4, atol=1e-5)

    assert failures_of(runner) == 1


def test_other_sub_environments_do_not_notice():
    case = {"fail": "step", "fail_at": (0, 1, 2)}
    (failing,) = runner_and_modules(case)[1].sample(num_timesteps=24)
    (sound,) = runner_and_modules({})[1].sample(num_timesteps=24)
    a, b = (f.select(range(1, 2)) for f in (failing, sound))
    for name in ("observations", "actions", "dist_inputs", "log_probs", "last_observations"):
        for m, x in getattr(a, name).items():
            np.testing.assert_allclose(x, getattr(b, name)[m], atol=1e-6)
    assert np.array_equal(a.rewards, b.rewards) and np.array_equal(a.valid, b.valid)
    assert np.array_equal(a.truncated, b.truncated)
    # Up to the failure, nor did the failing one.
    assert np.array_equal(failing.observations["a"][:8, 0], sound.observations["a"][:8, 0])


@pytest.mark.parametrize(
    ("fail_at", "first", "truncated"),
    [
        # In the first step of the second fragment: the first one's last row bootstraps anyway.
        ((0, 1, 2), 14, []),
        # In the first step of an episode: the one before has its own end.
        ((0, 1, 0), 10, []),
        # In the first step of the second episode, within the fragment.
        ((0, 2, 0), 14, [2]),
    ],
)
def test_failures_at_the_borders(fail_at, first, truncated):
    runner = runner_and_modules({"fail": "step", "fail_at": fail_at})[1]
    one = runner.sample(num_timesteps=first)[0]
    two = runner.sample(num_timesteps=8)[0]
    assert one.valid.all()
    failed_row = {(0, 1, 2): 0, (0, 1, 0): 0, (0, 2, 0): 3}[fail_at]
    assert np.flatnonzero(~two.valid[:, 0]).tolist() == [failed_row]
    assert np.flatnonzero(two.truncated[:, 0]).tolist() == truncated
    assert (two.finals.env == 0).sum() == len(truncated)
    assert np.array_equal(one.last_observations["a"], two.observations["a"][0])
    assert failures_of(runner) == 1


def test_an_environment_that_fails_in_every_episode():
    """Two good steps, then a failure, again and again."""
    runner = runner_and_modules({"fail": "step", "fail_key": None})[1]
    (f,) = runner.sample(num_timesteps=24)
    assert f.valid[:, 0].tolist() == [True, True, False] * 4 and f.valid[:, 1].all()
    assert np.flatnonzero(f.truncated[:, 0]).tolist() == [1, 4, 7, 10]
    assert failures_of(runner) == 4


def test_a_failed_reset():
    """At the start and between episodes; the new environment is reset with the same seed."""
    for episode in (0, 1):
        case = {"fail": "reset", "fail_at": (0, episode, 0)}
        runner = runner_and_modules(case)[1]
        (f,) = runner.sample(num_timesteps=24)
        assert f.valid.all() and f.problem is None
        sound = runner_and_modules({})[1]
        (g,) = sound.sample(num_timesteps=24)
        assert np.array_equal(f.rewards[:, 1], g.rewards[:, 1])
        remade, untouched = runner.env.envs
        assert remade.seeds == sound.env.envs[0].seeds[episode:]
        assert untouched.seeds == sound.env.envs[1].seeds
        assert failures_of(runner) == 1


def test_a_reset_that_fails_again_is_an_error():
    runner = runner_and_modules({"fail": "reset", "fail_at": (0, 0, 0), "fail_key": None})[1]
    with pytest.raises(RuntimeError, match="the scripted failure"):
        runner.sample(num_timesteps=4)


def test_a_reset_that_fails_every_third_time(monkeypatch):
    """Each time, the environment is made anew, and the rollout is whole."""
    monkeypatch.setattr(EveryThirdReset, "resets", 0)
    config = toys.small(HAPPOConfig(), EveryThirdReset)
    config.fault_tolerance(restart_failed_sub_environments=True)
    runner = toys.make_runner(config)
    (f,) = runner.sample(num_timesteps=20)
    assert f.valid.all() and f.truncated.all() and f.problem is None
    # Two at the start, then two of every step: 22 that went well, and one failed for two of them.
    assert (EveryThirdReset.resets, failures_of(runner)) == (32, 10)


@pytest.mark.slow
def test_one_that_is_not_made_anew_ends_a_training_that_gets_no_steps(ray_local):
    """Its runners are, until it is certain that this would go on for ever."""
    config = toys.small(HAPPOConfig(), EveryThirdReset).env_runners(num_env_runners=1)
    algo = config.fault_tolerance(delay_between_env_runner_restarts_s=0).build_algo()
    iterations = 0
    with pytest.raises(TeamError, match=r"restarted 5 times.*restart_failed_sub_environments=True"):
        for _ in range(100):
            steps = algo.train()["env_runners"].get("num_env_steps_sampled_lifetime", 0)
            assert steps == 0
            iterations += 1
    assert iterations >= 5
    algo.stop()


def test_training_goes_on(ray_local):
    algo = config_of({"fail": "step", "fail_at": (1, 0, 3)}).build_algo()
    before = toys.parameters(algo)
    result = algo.train()["env_runners"]
    assert result["num_env_failures_lifetime"] == 1
    assert result["num_env_steps_sampled"] == 19
    assert not toys.equal(before, toys.parameters(algo))
    result = algo.train()["env_runners"]
    assert result["num_env_failures_lifetime"] == 1
    assert result["num_env_steps_sampled"] == 20
    algo.stop()


@pytest.mark.parametrize("where", ["step", "reset"])
def test_without_the_setting_the_user_sees_the_error(ray_local, where):
    episode = {"step": (0, 0, 2), "reset": (0, 0, 0)}[where]
    algo = config_of({"fail": where, "fail_at": episode}, restart=False).build_algo()
    before = toys.parameters(algo)
    with pytest.raises(RuntimeError, match="the scripted failure"):
        algo.train()
    assert toys.equal(before, toys.parameters(algo))
    algo.stop()


def train_until(algo, done, iterations=30):
    results = []
    for _ in range(iterations):
        results.append(algo.train())
        if done(results[-1]):
            return results
    raise AssertionError(f"not after {iterations} iterations: {results[-1]}")


def seeds_in(algo, worker_ids=(1, 2)):
    """All seeds of these runners' first sub-environments."""
    per_runner = algo.env_runner_group.foreach_env_runner(
        lambda r: r.env.envs[0].seeds,
        local_env_runner=False,
        remote_worker_ids=list(worker_ids),
    )
    return [s for seeds in per_runner for s in seeds]


def test_runners_that_die(ray_local, tmp_path, caplog):
    """First one of two, then both at once, all in the middle of sampling."""
    config = (
        toys.small(HAPPOConfig(), ScriptedTeam, {"crash": str(tmp_path)}, batch=40)
        .env_runners(num_env_runners=2)
        .fault_tolerance(delay_between_env_runner_restarts_s=0)
    )
    algo = config.build_algo()
    result = algo.train()
    assert result["fault_tolerance"]["num_healthy_workers"] == 2
    assert result["env_runners"]["num_env_steps_sampled"] == 40
    seeds = seeds_in(algo)
    assert len(set(seeds)) == len(seeds) > 2

    (tmp_path / "1").touch()
    before = toys.parameters(algo)
    result = algo.train()
    assert not (tmp_path / "1").exists()
    assert not toys.equal(before, toys.parameters(algo))  # with the other runner's data
    results = train_until(
        algo,
        lambda r: (
            r["fault_tolerance"]["num_healthy_workers"] == 2
            and r["env_runners"]["num_env_steps_sampled"] == 40
        ),
    )
    assert results[-1]["fault_tolerance"]["num_remote_worker_restarts"] == 1
    # The survivor still has its seeds; those of the new one have never been.
    survivor, restarted = (seeds_in(algo, [i]) for i in (2, 1))
    assert seeds[len(seeds) // 2 :] == survivor[: len(seeds) // 2]
    assert set(restarted).isdisjoint(seeds) and set(restarted).isdisjoint(survivor)
    assert len(set(restarted)) == len(restarted) > 0

    for i in (1, 2):
        (tmp_path / str(i)).touch()
    before = toys.parameters(algo)
    with caplog.at_level(logging.WARNING):
        algo.train()
    assert "this iteration trains nothing" in caplog.text
    assert "sample_timeout_s" in caplog.text
    assert toys.equal(before, toys.parameters(algo))
    results = train_until(algo, lambda r: r["fault_tolerance"]["num_remote_worker_restarts"] == 3)
    assert not toys.equal(before, toys.parameters(algo))
    assert np.isfinite(results[-1]["env_runners"]["episode_return_mean"])
    # The new runners hold the learner's weights.
    weights = algo.env_runner_group.foreach_env_runner(
        lambda r: r.module["a"].head.weight.detach().numpy(), local_env_runner=False
    )
    for w in weights:
        np.testing.assert_array_equal(w, toys.parameters(algo)["a", "head.weight"])
    algo.stop()
