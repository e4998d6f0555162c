"""Who shares a policy network with whom: what is laid out, what is trained, what is frozen."""

import numpy as np
import pytest
import runner_toys as toys
import torch
from torch import nn

from rllib_hetero import HAPPOConfig, MAPPOConfig
from rllib_hetero.algorithms.team_config import TeamConfig
from rllib_hetero.layout import CRITIC

pytestmark = pytest.mark.usefixtures("ray_local")

EQUAL = {"agents": {"a": 4, "b": 4, "c": 4}}
ALGORITHMS = pytest.mark.parametrize("name", ["HAPPO", "MAPPO"])


def trained(config: TeamConfig):
    """(names of the modules that changed, of all modules, the algorithm) after an iteration."""
    algo = config.build_algo()
    before = toys.parameters(algo)
    result = algo.train()
    after = toys.parameters(algo)
    changed = {m for (m, p), x in before.items() if not torch.equal(x, after[m, p])}
    assert np.isfinite(result["env_runners"]["episode_return_mean"])
    assert all(torch.isfinite(p).all() for p in after.values())
    runner = algo.env_runner
    for (m, p), x in after.items():  # the runner acts with the new weights
        if m != CRITIC:
            assert torch.equal(x, runner.module[m].get_parameter(p))
    return changed, {m for m, _ in before}, algo


def input_sizes(algo):
    return {m: space.shape[0] for m, (space, _) in spaces(algo).items()}


def spaces(algo):
    layout = algo.config.layout
    return {m: (layout.observation_space(m), layout.action_space(m)) for m in layout.groups}


@ALGORITHMS
@pytest.mark.parametrize(
    ("sharing", "groups", "sizes"),
    [
        (
            "none",
            {"a": ("a",), "b": ("b",), "c": ("c",)},
            {"a": 4, "b": 4, "c": 4},
        ),
        ("full", {"shared": ("a", "b", "c")}, {"shared": 7}),
        # A group's agents are in the environment's order; those in no group stand alone.
        ({"ends": ["c", "a"]}, {"b": ("b",), "ends": ("a", "c")}, {"b": 4, "ends": 6}),
        ({"one": ["b"]}, {"a": ("a",), "c": ("c",), "one": ("b",)}, {"a": 4, "c": 4, "one": 4}),
    ],
    ids=["none", "full", "group", "renamed"],
)
def test_parameter_sharing(name, sharing, groups, sizes):
    config = toys.small(toys.CONFIGS[name](), env_config=EQUAL)
    changed, modules, algo = trained(config.multi_agent(parameter_sharing=sharing))
    assert algo.config.layout.groups == groups
    assert input_sizes(algo) == sizes
    assert changed == modules == {*groups, CRITIC}
    assert set(algo.env_runner.module.keys()) == set(groups)  # runners have no critic
    algo.stop()


@pytest.mark.parametrize(
    ("config", "env_config", "modules"),
    [
        (HAPPOConfig, EQUAL, {"a", "b", "c"}),
        (MAPPOConfig, EQUAL, {"shared"}),
        (MAPPOConfig, {}, {"a", "b", "c"}),
        (MAPPOConfig, {**EQUAL, "actions": {"b": "discrete"}}, {"a", "b", "c"}),
    ],
)
def test_defaults(config, env_config, modules):
    config = toys.small(config(), env_config=env_config)
    config.validate()
    assert set(config.layout.groups) == modules


def test_mappo_can_be_told_not_to_share():
    config = toys.small(MAPPOConfig(), env_config=EQUAL).multi_agent(parameter_sharing="none")
    config.validate()
    assert set(config.layout.groups) == {"a", "b", "c"}


@ALGORITHMS
def test_rllibs_own_policies_and_mapping(name):
    def mapping(agent_id, episode, **kwargs):
        return "edge" if agent_id in ("a", "c") else "middle"

    config = toys.small(toys.CONFIGS[name](), env_config=EQUAL)
    config.multi_agent(policies={"edge", "middle", "unused"}, policy_mapping_fn=mapping)
    changed, modules, algo = trained(config)
    assert algo.config.layout.groups == {"edge": ("a", "c"), "middle": ("b",)}
    assert changed == modules == {"edge", "middle", CRITIC}
    assert algo.config.policy_mapping_fn("c", None) == "edge"
    algo.stop()


def test_a_shared_network_is_one_network():
    """Its agents differ by their one-hots alone, and each trains it."""
    config = toys.small(HAPPOConfig(), env_config=EQUAL).multi_agent(parameter_sharing="full")
    algo = config.build_algo()
    (f,) = algo.env_runner.sample(num_timesteps=4, explore=False)
    body = algo.env_runner.module["shared"]
    x = torch.from_numpy(f.observations["shared"])
    assert torch.equal(x[..., 4:], torch.eye(3).expand(2, 2, 3, 3))
    with torch.no_grad():
        out = body.head(body.body(x)).numpy()
    np.testing.assert_allclose(f.actions["shared"], out, atol=1e-5)
    # The agents see the same apart from their own last actions: at the start, just the one-hot.
    first = f.actions["shared"][0, 0]
    assert (f.observations["shared"][0, 0, :, :4] == f.observations["shared"][0, 0, 0, :4]).all()
    assert not np.allclose(first[0], first[1])
    algo.stop()


def test_agents_without_an_index_are_interchangeable():
    config = toys.small(HAPPOConfig(), env_config=EQUAL)
    config.multi_agent(parameter_sharing={"ac": ["a", "c"]}, agent_index=False)
    changed, modules, algo = trained(config)
    assert changed == modules == {"ac", "b", CRITIC}
    assert input_sizes(algo) == {"ac": 4, "b": 4}
    (f,) = algo.env_runner.sample(num_timesteps=4, explore=False, force_reset=True)
    assert f.observations["ac"].shape == (2, 2, 2, 4)
    # At the start all see the same, and so those of one network do the same.
    first = f.actions["ac"][0, 0]
    np.testing.assert_allclose(first[0], first[1], atol=1e-6)
    assert not np.allclose(first[0], f.actions["b"][0, 0, 0])
    algo.stop()


def test_weights_go_over_to_a_larger_team(tmp_path):
    """As docs/getting-started.md has it; the state is of one size, and so the critic goes too."""

    def built(agents):
        env_config = {"agents": dict.fromkeys(agents, 4), "state": True}
        config = toys.small(HAPPOConfig(), env_config=env_config)
        return config.multi_agent(parameter_sharing="full", agent_index=False).build_algo()

    small, large = built("abc"), built("abcdefg")
    small.train()
    small.save_to_path(tmp_path)
    modules = "learner_group/learner/rl_module"
    large.restore_from_path(tmp_path / modules, component=modules)
    expected, got = toys.parameters(small), toys.parameters(large)
    assert expected.keys() == got.keys() and {m for m, _ in got} == {"shared", CRITIC}
    assert all(torch.equal(x, got[k]) for k, x in expected.items())
    # The runner, too, acts with them at once.
    runner = large.env_runner
    for (m, name), x in expected.items():
        assert m == CRITIC or torch.equal(x, runner.module[m].get_parameter(name))
    large.train()
    small.stop()
    large.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"agent_index": False}, "each has its own.*parameter_sharing='full'"),
        ({"agent_index": False, "parameter_sharing": {"one": ["b"]}}, "each has its own"),
        ({"agent_index": None, "parameter_sharing": "full"}, "is None, but must be True or False"),
    ],
)
def test_agent_index_is_checked(settings, message):
    config = toys.small(HAPPOConfig(), env_config=EQUAL).multi_agent(**settings)
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_a_team_of_one_needs_no_index():
    """So that one setting serves teams of all sizes."""
    config = toys.small(HAPPOConfig(), env_config={"agents": {"a": 4}})
    config.multi_agent(parameter_sharing="full", agent_index=False).validate()
    assert config.layout.observation_space("shared").shape == (4,)


@ALGORITHMS
@pytest.mark.parametrize("to_train", [["b"], lambda module, batch: module == "b", []])
def test_frozen_agents(name, to_train):
    config = toys.small(toys.CONFIGS[name](), env_config=EQUAL)
    config.multi_agent(parameter_sharing="none", policies_to_train=to_train)
    changed, modules, algo = trained(config)
    assert modules == {"a", "b", "c", CRITIC}
    assert changed == ({"b", CRITIC} if to_train != [] else {CRITIC})
    algo.train()
    algo.stop()


@ALGORITHMS
def test_a_frozen_group(name):
    config = toys.small(toys.CONFIGS[name](), env_config=EQUAL)
    config.multi_agent(parameter_sharing={"bc": ["b", "c"]}, policies_to_train=["a"])
    changed, _, algo = trained(config)
    assert changed == {"a", CRITIC}
    algo.stop()


@ALGORITHMS
@pytest.mark.parametrize("sharing", ["none", {"pair": [7, 11]}])
def test_agents_named_by_integers(name, sharing):
    case = {"agents": {3: 4, 7: 5, 11: 5}, "dies": {7: 2}}
    config = toys.small(toys.CONFIGS[name](), env_config=case).multi_agent(
        parameter_sharing=sharing
    )
    changed, modules, algo = trained(config)
    own = {"3", "7", "11"} if sharing == "none" else {"3", "pair"}
    assert changed == modules == {*own, CRITIC}
    result = algo.train()["env_runners"]
    assert result["agent_episode_returns_mean"].keys() == {"3", "7", "11"}
    assert result["agent_steps"] == {"3": 5, "7": 2, "11": 5}
    assert result["num_module_steps_sampled"].keys() == own
    algo.stop()


@ALGORITHMS
def test_orders_and_policies_to_train_of_integer_agents(name):
    case = {"agents": {3: 4, 7: 4, 11: 4}}
    config = toys.small(toys.CONFIGS[name](), env_config=case)
    config.multi_agent(parameter_sharing="none", policies_to_train=["7"])
    if name == "HAPPO":
        config.training(update_order=[11, 3, 7])
    changed, _, algo = trained(config)
    assert changed == {"7", CRITIC}
    algo.stop()


def test_settings_of_single_modules():
    """RLlib's way: `algorithm_config_overrides_per_module`."""
    config = toys.small(HAPPOConfig(), env_config=EQUAL)
    config.multi_agent(algorithm_config_overrides_per_module={"b": HAPPOConfig.overrides(lr=0.0)})
    changed, _, algo = trained(config)
    assert changed == {"a", "c", CRITIC}
    algo.stop()


@ALGORITHMS
def test_speaker_and_listener_without_padding(name):
    """Observations of 3 and 11 numbers, actions of 3 and 5: each network has its own size."""
    pytest.importorskip("mpe2")
    config = toys.small(
        toys.CONFIGS[name](),
        "mpe",
        {"scenario": "simple_speaker_listener"},
        batch=100,
    )
    changed, modules, algo = trained(config)
    assert changed == modules == {"speaker_0", "listener_0", CRITIC}
    assert input_sizes(algo) == {"speaker_0": 3, "listener_0": 11}
    module = algo.learner_group._learner.module
    bodies = {m: module[m].body for m in ("speaker_0", "listener_0")}
    bodies[CRITIC] = module[CRITIC].networks[0].body
    first = {m: next(x for x in body if isinstance(x, nn.Linear)) for m, body in bodies.items()}
    assert {m: x.in_features for m, x in first.items()} == {
        "speaker_0": 3,
        "listener_0": 11,
        CRITIC: 14,
    }
    assert module["speaker_0"].head.out_features == 3
    assert module["listener_0"].head.out_features == 5
    for _ in range(2):
        algo.train()
    algo.stop()


def test_a_config_used_for_another_environment():
    config = toys.small(MAPPOConfig(), env_config=EQUAL)
    config.validate()
    assert set(config.layout.groups) == {"shared"}
    config.env_config = {"agents": {"x": 3, "y": 4}}
    config.validate()
    assert set(config.layout.groups) == {"x", "y"}
