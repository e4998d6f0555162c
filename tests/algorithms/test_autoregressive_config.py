"""Settings, checkpoints and policies of the algorithms whose agents act in turn."""

import json
import sys

import numpy as np
import pytest
import ray
import runner_toys as toys
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from toys import CountingTeam, MaskedTeam

from rllib_hetero import ARMAPPOConfig, BPPOConfig, HAPPOConfig, TeamError, load_policies

# Runners in other processes get what is here by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def config_of(cls=BPPOConfig, env_config=None, *, env=CountingTeam, **training):
    config = toys.small(cls(), env, env_config)
    return config.training(**training)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [BPPOConfig, ARMAPPOConfig])
@pytest.mark.parametrize(
    "order",
    ["backwards", "cyclic", ["a", "b"], ["a", "b", "b"], ["a", "b", "c", "a"], ["a", "b", "x"]],
    ids=str,
)
def test_an_execution_order_that_is_none(cls, order):
    with pytest.raises(ValueError, match=r"`execution_order`.*'fixed', 'reverse', 'random'.*"
                       r"\['a', 'b', 'c'\].*config\.training\(execution_order="):  # fmt: skip
        config_of(cls, execution_order=order).validate()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("update_scheme", "both"),
        ("update_scheme", None),
        ("peer_coeff", -0.1),
        ("peer_coeff", "strong"),
        ("peer_coeff", float("nan")),
        ("gumbel_temperature", 0.0),
        ("gumbel_temperature", -1.0),
        ("gumbel_temperature", [[0, 1.0], [100, 0.0]]),
        ("gumbel_temperature", [[0, 1.0], [100, -0.5]]),
    ],
)
def test_bad_settings_of_bppo(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`.*config\.training\({name}=") as raised:
        config_of(**{name: value}).validate()
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize("value", [[[10, 1.0], [100, 0.5]], [[0, 1.0]], [], "cold", None])
def test_a_schedule_that_is_none(value):
    with pytest.raises(ValueError, match="gumbel_temperature"):
        config_of(gumbel_temperature=value).validate()


@pytest.mark.parametrize("value", [1, 0.05, [[0, 1.0], [1_000, 0.05]]])
def test_good_temperatures(value):
    config_of(gumbel_temperature=value).validate()


@pytest.mark.parametrize("cls", [BPPOConfig, ARMAPPOConfig])
def test_the_stock_runner_is_refused(cls):
    config = config_of(cls).env_runners(env_runner_cls=MultiAgentEnvRunner)
    with pytest.raises(ValueError, match=r"in sequence.*config\.env_runners\(env_runner_cls="):
        config.validate()


def test_a_projection_for_agents_that_hear_nothing_is_refused():
    config = config_of(HAPPOConfig)
    config.rl_module(model_config={"action_projection": False})
    with pytest.raises(ValueError, match=r"`action_projection`.*config\.rl_module\(model_config="):
        config.validate()


def test_unknown_keys_of_the_model():
    config = config_of().rl_module(model_config={"projection": True})
    with pytest.raises(ValueError, match=r"'projection'.*config\.rl_module\(model_config="):
        config.validate()
    with pytest.raises(TypeError, match="update_order"):
        config_of(update_order="random")


# ---- policies without Ray -----------------------------------------------------------------------

CASES = {
    "mixed": (CountingTeam, {}, {"execution_order": ["c", "a", "b"]}, {}),
    "masked, at the head": (
        MaskedTeam, {"dies": {"b": 2}}, {"execution_order": "reverse"}, {"action_projection": False}
    ),
    "random, recurrent": (CountingTeam, {"dies": {"a": 3}}, {"execution_order": "random"},
                          {"recurrent": "gru"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_loaded_policies_act_as_the_runner(case, ray_local, tmp_path):
    """Greedily, in the trained order; agents that are dead say nothing."""
    env, env_config, training, model = CASES[case]
    config = config_of(env=env, env_config=env_config, lr=0.05, **training)
    config.rl_module(model_config={"hidden_sizes": [16], "actor_head_gain": 1.0, **model})
    algo = config.build_algo()
    try:
        algo.train()
        path = algo.save_to_path(tmp_path)
        policies = load_policies(path)
        layout, agents = algo.config.layout, list(algo.config.layout.team.agents)
        expected = {"random, recurrent": agents, "mixed": ["c", "a", "b"]}.get(case, agents[::-1])
        written = json.loads((tmp_path / "policies" / "team.json").read_text())
        assert written["execution_order"] == expected
        assert algo.config.clip_actions
        runner = algo.env_runner
        if case == "random, recurrent":  # the loaded ones act in the environment's order
            algo.config.copy(copy_frozen=False)
            runner.config = runner.config.copy(copy_frozen=False)
            runner.config.execution_order = "fixed"
        (f,) = runner.sample(num_timesteps=2 * 5, explore=False, force_reset=True)
    finally:
        algo.stop()
    some_dead = heard = 0
    for e in range(2):
        policies.reset()
        for t in range(5):
            seen, done = {}, {}
            for a, (m, k) in layout.slot_of.items():
                if not f.active[m][t, e, k]:
                    some_dead += 1
                    continue
                x = f.observations[m][t, e, k, : layout.team.observation_spaces[a].shape[0]]
                if a in layout.team.masked:
                    x = {"observations": x, "action_mask": f.action_masks[m][t, e, k]}
                seen[a] = x
                done[a] = f.actions[m][t, e, k]
            got = policies.act(seen)
            assert got.keys() == done.keys()
            for a, action in done.items():
                space = layout.team.action_spaces[a]
                if hasattr(space, "low") and space.dtype == np.float32:
                    action = np.clip(action, space.low, space.high)
                np.testing.assert_allclose(got[a], action, atol=1e-4, err_msg=a)
            heard += 1
    assert heard == 10 and bool(some_dead) == bool(env_config)


def test_loaded_policies_hear_each_other(ray_local, tmp_path):
    algo = config_of(
        env_config={"agents": {"a": (3, "box"), "b": (3, "box")}}, lr=0.05
    ).build_algo()
    algo.train()
    policies = load_policies(algo.save_to_path(tmp_path))
    algo.stop()
    x, y = np.ones(3, np.float32) * [1, 2, 3], np.ones(3, np.float32) * [-1, 2, 0]
    alone = policies.act({"b": x})["b"]
    together = policies.act({"a": x, "b": x})["b"]
    other = policies.act({"a": y, "b": x})["b"]
    assert not np.allclose(alone, together, atol=1e-5)
    assert not np.allclose(other, together, atol=1e-6)
    with pytest.raises(TeamError, match="act in sequence; let them act with act"):
        policies.act_batch(["b"], x[None])


def test_checkpoints_of_teams_that_act_at_once_have_no_order(ray_local, tmp_path):
    algo = config_of(HAPPOConfig).build_algo()
    path = algo.save_to_path(tmp_path)
    algo.stop()
    written = json.loads((tmp_path / "policies" / "team.json").read_text())
    assert written["execution_order"] is None
    observations = {"a": np.ones(2), "b": np.ones(3), "c": np.ones(4)}
    assert load_policies(path).act(observations).keys() == observations.keys()


# ---- resuming -----------------------------------------------------------------------------------


def weights_of(algo):
    return toys.parameters(algo)


@pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])
def test_resuming_with_random_orders_bit_for_bit(scheme, ray_local, tmp_path):
    def built():
        return config_of(
            update_scheme=scheme, execution_order="random", env_config={"length": 5},
            gumbel_temperature=[[0, 1.0], [100, 0.1]],
        ).build_algo()  # fmt: skip

    whole = built()
    for _ in range(4):  # 20 steps of 2 environments: two whole episodes in each
        whole.train()
    expected = weights_of(whole)
    whole.stop()
    before = built()
    before.train(), before.train()
    path = before.save_to_path(tmp_path / "checkpoint")
    half = weights_of(before)
    before.stop()
    after = Algorithm.from_checkpoint(path)
    assert toys.equal(half, weights_of(after))
    after.train(), after.train()
    got = weights_of(after)
    after.stop()
    assert toys.equal(expected, got) and not toys.equal(half, got)
