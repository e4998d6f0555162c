"""Whole episodes come in one fragment, however long they are."""

import uuid

import numpy as np
import pytest
import runner_toys as toys
from ray.rllib.core import Columns
from runner_toys import ScriptedTeam

from rllib_hetero import ARMAPPOConfig, HAPPOConfig
from rllib_hetero.layout import CRITIC
from rllib_hetero.runners import team_env_runner

# Shorter and longer than a stretch, and those that end at its border.
LENGTHS = [5, 64, 65, 150]


def build(case, algorithm=HAPPOConfig, *, num_envs=4, model=None, restart=False):
    config = toys.small(algorithm(), ScriptedTeam, case, num_envs=num_envs)
    config.env_runners(batch_mode="complete_episodes").training(gamma=1.0, lambda_=1.0)
    config.rl_module(model_config={"hidden_sizes": [16]} | (model or {}))
    config.fault_tolerance(restart_failed_sub_environments=restart)
    modules = toys.make_modules(config)
    return config, toys.make_runner(config, weights=toys.actor_weights(modules)), modules


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("end", ["truncate", "terminate"])
def test_advantages_are_those_of_whole_episodes(end, state):
    """With gamma = lambda = 1: all that is yet to come, less the value."""
    case = {"lengths": dict(enumerate(LENGTHS)), "ends": end, "state": state}
    config, runner, modules = build(case)
    come = [[] for _ in LENGTHS]  # of each environment: (reward of the team, state after it)
    for e, env in enumerate(runner.env.envs):

        def step(actions, env=env, step=env.step, come=come[e]):
            out = step(actions)
            seen = env.state() if state else np.concatenate([out[0][a] for a in "abc"])
            come.append((sum(out[1].values()), seen))
            return out

        env.step = step
    batch = toys.team_batch(runner.sample(), config, modules)[CRITIC]
    assert len(batch[Columns.OBS]) == sum(LENGTHS)
    v = toys.values(modules, batch[Columns.OBS])
    got = {}
    for row, value, advantage in zip(batch[Columns.OBS], v, batch[Columns.ADVANTAGES], strict=True):
        index, t = (row[0], row[2]) if state else (row[3] - 2, -row[5])  # as agent b sees it
        got[int(index), int(t)] = float(advantage + value)
    for e, length in enumerate(LENGTHS):
        rewards, seen = zip(*come[e][:length], strict=True)
        last = 0.0 if end == "terminate" else float(toys.values(modules, seen[-1][None])[0])
        size = sum(map(abs, rewards)) + np.abs(v).max() * length
        for t in range(length):
            # At most 3 additions of float32 for each step yet to come, of numbers of this size.
            error = abs(got[e, t] - (sum(rewards[t:]) + last))
            assert error <= 3 * (length - t + 1) * np.finfo(np.float32).eps * size, (e, t)


@pytest.mark.parametrize(
    ("case", "algorithm", "model"),
    [
        ({"state": True, "dies": {"b": 70}}, HAPPOConfig, None),
        ({"actions": {"b": "discrete"}, "masked": ["b"]}, ARMAPPOConfig, None),
        ({}, HAPPOConfig, {"recurrent": "gru", "max_seq_len": 10}),
        ({}, HAPPOConfig, {"recurrent": "gru", "max_seq_len": 100}),
    ],
    ids=str,
)
def test_stretches_are_joined_as_if_they_were_one(monkeypatch, case, algorithm, model):
    case = {"lengths": [70, 131, 7], "ends": "alternate"} | case
    fragments = []
    for stretch in (team_env_runner._STRETCH, 1000):
        monkeypatch.setattr(team_env_runner, "_STRETCH", stretch)
        runner = build(case, algorithm, num_envs=3, model=model)[1]
        fragments += runner.sample(num_episodes=5, explore=False)
    a, b = (toys.arrays_of(f) for f in fragments)
    assert a.keys() == b.keys()
    for name, x in a.items():
        # The same products; memory may be aligned otherwise.
        np.testing.assert_allclose(x, b[name], atol=1e-5, err_msg=str(name))
    assert len(fragments[0].finals.step) > 0
    assert vars(fragments[0]).keys() == vars(fragments[1]).keys()


def test_a_failure_in_the_first_step_of_a_stretch():
    """The episode is cut before it, as in any other step."""
    found = []
    for at in (64, 65):
        case = {
            "lengths": [100],
            "fail": "step",
            "fail_at": (0, 0, at),
            "fail_key": uuid.uuid4().hex,
        }
        runner = build(case, num_envs=2, restart=True)[1]
        (f,) = runner.sample(explore=False)
        assert np.flatnonzero(~f.valid[:101, 0]).tolist() == [at]
        assert np.flatnonzero(f.truncated[:, 0]).tolist() == [at - 1, at + 100]
        k = np.flatnonzero((f.finals.env == 0) & (f.finals.step == at - 1)).tolist()
        found.append(f.finals.observations["b"][k, 0, 2].tolist())
    assert found == [[-64.0], [-65.0]]


def test_training_takes_them(ray_local):
    config = build({"lengths": [70]}, num_envs=2)[0].copy(copy_frozen=False)
    algo = config.training(train_batch_size_per_learner=280).build_algo()
    result = algo.train()["env_runners"]
    assert result["num_env_steps_sampled"] == 280 and result["num_episodes"] == 4
    algo.stop()
