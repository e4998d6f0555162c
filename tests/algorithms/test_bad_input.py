"""Whatever a user gets wrong is answered by one clear error, before anything is spoilt."""

import hashlib
import math
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import runner_toys as toys
import torch
from gymnasium.spaces import Box, Dict, Discrete, Sequence, Text, Tuple
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import ScriptedTeam

from rllib_hetero import (
    HAPPO,
    A2POConfig,
    COMAConfig,
    CoPPOConfig,
    HAA2CConfig,
    HAPPOConfig,
    HATRPOConfig,
    MAA2CConfig,
    MAPPOConfig,
    MissingExtraError,
    NonFiniteUpdateError,
    TeamDataError,
    TeamError,
    load_policies,
)
from rllib_hetero.algorithms.on_policy.happo import HAPPOLearner
from rllib_hetero.layout import CRITIC


@pytest.fixture
def no_actors(monkeypatch):
    """Whatever raises now does so before an algorithm is set up, let alone an actor started."""

    def setup(*args, **kwargs):
        pytest.fail("the algorithm was set up")

    monkeypatch.setattr(Algorithm, "setup", setup)


def happo(**kwargs):
    return toys.small(HAPPOConfig(), **kwargs)


def coma(**training):
    choices = dict.fromkeys("abc", "discrete")
    return toys.small(COMAConfig(), env_config={"actions": choices}).training(**training)


class Spaces(ScriptedTeam):
    """A team whose agent b has the spaces of the config."""

    def __init__(self, config=None):
        super().__init__()
        for name in ("observation", "action"):
            if name in config:
                getattr(self, f"{name}_spaces")["b"] = config[name]


class Named(ScriptedTeam):
    def __init__(self, config=None):
        super().__init__({"agents": {"critic": 3, "b": 4}})


class Masked(ScriptedTeam):
    """A team whose agent b has the observation space of the config."""

    def __init__(self, config=None):
        super().__init__({"actions": {"b": config.get("actions", "discrete")}})
        box = self.observation_spaces["b"]
        self.observation_spaces["b"] = Dict({"observations": box, "action_mask": config["mask"]})


# ---- settings -------------------------------------------------------------------------------

BAD_SETTINGS = {
    "no environment": (lambda: HAPPOConfig(), r"No environment is set.*config\.environment\("),
    "unknown scenario": (
        lambda: HAPPOConfig().environment("mpe", env_config={"scenario": "simple"}),
        r"Unknown MPE scenario 'simple'.*simple_spread.*config\.environment\(",
    ),
    "unknown agent_conf": (
        lambda: HAPPOConfig().environment(
            "mamujoco", env_config={"scenario": "HalfCheetah", "agent_conf": "9x9"}
        ),
        r"Unknown agent_conf '9x9' for HalfCheetah.*2x3.*config\.environment\(",
    ),
    "no multi-agent environment": (
        lambda: HAPPOConfig().environment(lambda _: gym.make("CartPole-v1")),
        r"not an RLlib MultiAgentEnv.*PettingZooTeamEnv\(env\)",
    ),
    "text observations": (
        lambda: happo(env=Spaces, env_config={"observation": Dict({"x": Text(9)})}),
        r"observation space of agent 'b' is Dict.*x: Text is not among.*Wrap the environment",
    ),
    "sequences of actions": (
        lambda: happo(env=Spaces, env_config={"action": Tuple([Sequence(Discrete(2))])}),
        r"action space of agent 'b' is Tuple.*Sequence is not among.*Wrap the environment",
    ),
    "whole numbers without bounds": (
        lambda: happo(env=Spaces, env_config={"action": Box(0, 2**40, (2,), np.int64)}),
        r"action space of agent 'b' is Box.*more than 1,000,000 choices.*narrow its bounds",
    ),
    "unequal spaces in a group": (
        lambda: happo().multi_agent(parameter_sharing={"ab": ["a", "b"]}),
        r"'a' and 'b' of the sharing group 'ab'.*unequal observation.*parameter_sharing=",
    ),
    "unequal actions in a group": (
        lambda: happo(env_config={"actions": {"b": "discrete"}}).multi_agent(
            parameter_sharing={"bc": ["b", "c"]}
        ),
        r"unequal action spaces.*parameter_sharing=",
    ),
    "unequal spaces shared by all": (
        lambda: toys.small(MAPPOConfig()).multi_agent(parameter_sharing="full"),
        r"unequal observation spaces.*parameter_sharing=",
    ),
    "unknown agent in a group": (
        lambda: happo().multi_agent(parameter_sharing={"bd": ["b", "d"]}),
        r"names the agent 'd'.*does not have.*\['a', 'b', 'c'\].*parameter_sharing=",
    ),
    "agent in two groups": (
        lambda: happo().multi_agent(parameter_sharing={"x": ["b", "c"], "y": ["c"]}),
        r"'c' is in two sharing groups, 'x' and 'y'.*parameter_sharing=",
    ),
    "empty group": (
        lambda: happo().multi_agent(parameter_sharing={"x": []}),
        r"'x' is empty.*parameter_sharing=",
    ),
    "group named critic": (
        lambda: happo().multi_agent(parameter_sharing={CRITIC: ["b", "c"]}),
        r"'critic' is reserved",
    ),
    "agent named critic": (lambda: happo(env=Named), r"'critic' is reserved.*Rename"),
    "group named as an agent outside it": (
        lambda: happo().multi_agent(parameter_sharing={"a": ["b", "c"]}),
        r"'a' is both a sharing group and an agent",
    ),
    "unknown sharing": (
        lambda: happo().multi_agent(parameter_sharing="some"),
        r"'none', 'full' or a dict.*'some'.*parameter_sharing=",
    ),
    "unknown policy": (
        lambda: happo().multi_agent(
            policies={"p"}, policy_mapping_fn=lambda a, _, **__: "p" if a == "b" else "q"
        ),
        r"maps the agent 'a' to 'q'.*\['p'\].*config\.multi_agent\(policies=",
    ),
    "too large minibatch": (
        lambda: happo().training(minibatch_size=21),
        r"`minibatch_size` \(21\).*\(20\).*config\.training\(minibatch_size=",
    ),
    "order of another name": (
        lambda: happo().training(update_order="sorted"),
        r"`update_order` is 'sorted'.*'random', 'cyclic'.*config\.training\(update_order=",
    ),
    "order without an agent": (
        lambda: happo().training(update_order=["a", "b"]),
        r"`update_order` is \['a', 'b'\].*\['a', 'b', 'c'\].*config\.training\(update_order=",
    ),
    "order with an agent twice": (
        lambda: happo().training(update_order=["a", "b", "c", "c"]),
        r"`update_order`.*config\.training\(update_order=",
    ),
    "order with a stranger": (
        lambda: happo().training(update_order=["a", "b", "d"]),
        r"`update_order`.*config\.training\(update_order=",
    ),
    "more learners than environments": (
        lambda: happo().learners(num_learners=3),
        r"3 learners.*only 2.*num_envs_per_env_runner=.*num_learners=",
    ),
    "unknown model_config": (
        lambda: happo().rl_module(model_config={"hidden_size": [8]}),
        r"Unknown keys \['hidden_size'\].*config\.rl_module\(model_config=.*hidden_sizes",
    ),
    "env-to-module connector": (
        lambda: happo().env_runners(
            env_to_module_connector=lambda env, spaces, device: FlattenObservations()
        ),
        r"no env-to-module.*config\.env_runners\(env_runner_cls=MultiAgentEnvRunner\)",
    ),
    "module-to-env connector": (
        lambda: happo().env_runners(
            module_to_env_connector=lambda env, spaces, device: FlattenObservations()
        ),
        r"no env-to-module or module-to-env.*config\.env_runners\(env_runner_cls=",
    ),
    **{
        f"{name} = {value}": (
            lambda name=name, value=value: happo().training(**{name: value}),
            rf"`{name}` is {value}, but must be .*config\.training\({name}=",
        )
        for name, value in [
            ("clip_param", -0.2),
            ("clip_param", 0),
            ("lambda_", 1.5),
            ("gamma", -0.1),
            ("gamma", 1.1),
            # Not -1: RLlib reads that as "deprecated" where it copies a config, and drops it.
            ("entropy_coeff", -0.5),
            ("num_epochs", 0),
            ("vf_clip_param", 0),
            ("vf_huber_delta", -0.5),
        ]
    },
    **{
        f"clip_param of {cls.__name__}": (
            lambda cls=cls: toys.small(cls()).training(clip_param=0.2),
            rf"`clip_param` is 0\.2, but {cls.__name__.removesuffix('Config')} does not clip.*"
            r"config\.training\(\.\.\.\).*config\.training\(vf_clip_param=",
        )
        for cls in (HATRPOConfig, HAA2CConfig, MAA2CConfig)
    },
    **{
        f"{cls.__name__} without clip_param": (
            lambda cls=cls: toys.small(cls()).training(clip_param=None),
            r"`clip_param` is None, but must be a number > 0.*config\.training\(clip_param=",
        )
        for cls in (HAPPOConfig, MAPPOConfig, A2POConfig, CoPPOConfig)
    },
    **{
        f"{name} = {value!r}": (
            lambda cls=cls, name=name, value=value: toys.small(cls()).training(**{name: value}),
            rf"`{name}` is {value!r}, but must be a number .*config\.training\({name}=",
        )
        for cls, name, values in [
            (HATRPOConfig, "kl_threshold", (0, -0.01, "x", None)),
            (HATRPOConfig, "cg_iterations", (0, -3)),
            (HATRPOConfig, "cg_damping", (-0.1, "x")),
            (HATRPOConfig, "line_search_steps", (-2,)),
            (HATRPOConfig, "backtrack_coeff", (0, 1, 1.5, -0.5)),
            (HATRPOConfig, "accept_ratio", (-0.5, 1.5)),
            (CoPPOConfig, "outer_clip_param", (0, -0.1, "x")),
            (A2POConfig, "adaptive_clip_coeff", (-0.5, 1.5, "x", None)),
        ]
        for value in values
    },
    **{
        f"order {order!r} of {cls.__name__}": (
            lambda cls=cls, order=order: toys.small(cls()).training(update_order=order),
            rf"`update_order` is {order!r}; use {rules}.*\['a', 'b', 'c'\].*"
            r"config\.training\(update_order=",
        )
        for cls, order, rules in [
            (A2POConfig, "sorted", "'semi_greedy', 'greedy', 'random', 'cyclic', 'reverse'"),
            (HATRPOConfig, "greedy", "'random', 'cyclic', 'reverse'"),
            (HAA2CConfig, "semi_greedy", "'random', 'cyclic', 'reverse'"),
        ]
    },
    **{
        f"unknown {key}": (
            lambda key=key: happo().rl_module(model_config={key: "rnn"}),
            rf"`{key}` is 'rnn', an unknown kind of memory; None, 'gru' or 'lstm'.*"
            rf"config\.rl_module\(model_config=\{{'{key}'",
        )
        for key in ("recurrent", "critic_recurrent")
    },
    **{
        f"recurrent_size = {size!r}": (
            lambda size=size: happo().rl_module(model_config={"recurrent_size": size}),
            rf"`recurrent_size` is {size!r}, but must be a whole number from 1.*, or None.*"
            r"config\.rl_module\(model_config=\{'recurrent_size'",
        )
        for size in (0, -1, 2.5)
    },
    **{
        f"max_seq_len = {length!r}": (
            lambda length=length: happo().rl_module(model_config={"max_seq_len": length}),
            rf"`max_seq_len` is {length!r}, but must be a whole number from 1.*"
            r"config\.rl_module\(model_config=\{'max_seq_len'",
        )
        for length in (0, 2.5, None)
    },
    "memory on the stock runner": (
        lambda: happo(env_runner_cls=MultiAgentEnvRunner).rl_module(
            model_config={"recurrent": "gru"}
        ),
        r"team env runner only.*config\.env_runners\(env_runner_cls=.*"
        r"config\.rl_module\(model_config=\{'recurrent'",
    ),
    **{
        f"{kind} actions of COMA": (
            lambda kind=kind: toys.small(
                COMAConfig(), env_config={"actions": {"a": "discrete", "b": kind}}
            ),
            rf"agent 'b'.*{word}.*choices of a Discrete",
        )
        for kind, word in (("box", "Box"), ("multi", "MultiDiscrete"))
    },
    **{
        f"COMA: {name} = {value!r}": (
            lambda name=name, value=value: coma(**{name: value}),
            rf"`{name}` .*must be .*config\.training\({name}=",
        )
        for name, values in [
            ("tau", (0, 1.5)),
            ("target_network_update_freq", (0, 2.5)),
            ("individual_rewards", (1,)),
        ]
        for value in values
    },
    "a clipped critic of COMA": (
        lambda: coma(vf_clip_param=0.2),
        r"`vf_clip_param` is 0.2.*target network.*config\.training\(",
    ),
    "a critic of COMA that remembers": (
        lambda: coma().rl_module(model_config={"critic_recurrent": "gru"}),
        r"Unknown keys \['critic_recurrent'\] in config\.rl_module\(model_config=",
    ),
    "COMA on the stock runner": (
        lambda: coma().env_runners(env_runner_cls=MultiAgentEnvRunner),
        r"team env runner only.*config\.env_runners\(env_runner_cls=",
    ),
    "mask of a Box": (
        lambda: happo(env=Masked, env_config={"actions": "box", "mask": Box(0, 1, (2,))}),
        r"agent 'b' has an action mask, but its action space is Box.*leave the mask out",
    ),
    "mask of another length": (
        lambda: happo(env=Masked, env_config={"mask": Box(0, 1, (9,))}),
        r"mask of agent 'b'.*shape \(9,\).*Mend the environment's observation_spaces",
    ),
    "masked and unmasked agents share": (
        lambda: happo(
            env_config={
                "agents": {"a": 3, "b": 5, "c": 5},
                "actions": {"b": "discrete", "c": "discrete"},
                "masked": ["b"],
            }
        ).multi_agent(parameter_sharing={"bc": ["b", "c"]}),
        r"'b' has an action mask and 'c' has none.*config\.multi_agent\(parameter_sharing=",
    ),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings(case, no_actors):
    make, message = BAD_SETTINGS[case]
    if "scenario" in case:
        pytest.importorskip("mpe2")
    if "agent_conf" in case:
        pytest.importorskip("mujoco")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make().build_algo()


def test_a_good_config_reaches_the_setup(no_actors):
    """The tests above fail for their own reasons."""
    with pytest.raises(pytest.fail.Exception, match="was set up"):
        happo().build_algo()


@pytest.mark.parametrize(
    ("env", "env_config", "module"),
    [
        ("mpe", {"scenario": "simple_spread", "backend": "mpe2"}, "mpe2"),
        ("mamujoco", {"scenario": "HalfCheetah", "agent_conf": "2x3"}, "mujoco"),
    ],
)
def test_a_missing_extra(env, env_config, module, monkeypatch, no_actors):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"rllib_hetero\[{env}\]; install it"):
        HAPPOConfig().environment(env, env_config=env_config).build_algo()


# ---- environments that break their word -----------------------------------------------------


class Broken(ScriptedTeam):
    """Whose second episode is not what the first one was."""

    def reset(self, **kwargs):
        observations, infos = super().reset(**kwargs)
        if self.episode == 1 and "reset" in self.config:
            observations = self.config["reset"](observations)
        return observations, infos

    def step(self, action_dict):
        observations, rewards, *rest = super().step(action_dict)
        if (self.episode, self.t) == (1, 2):
            observations = self.config.get("step", lambda x: x)(observations)
            rewards = self.config.get("rewards", lambda x: x)(rewards)
        return observations, rewards, *rest


def without(key):
    return lambda x: {k: v for k, v in x.items() if k != key}


def having(key, value):
    return lambda x: {**x, key: value}


X = np.zeros(5, np.float32)
BROKEN = {
    "an agent less": (
        {"reset": without("b")},
        r"Missing after reset\(\): \['b'\].*possible_agents",
    ),
    "an agent more": ({"reset": having("d", X)}, r"new: \['d'\].*possible_agents"),
    "a new agent in a step": ({"step": having("d", X)}, r"observations for the agent 'd'"),
    "a reward for nobody": ({"rewards": having("d", 1.0)}, r"rewards for the agent 'd'"),
    "no number for a reward": ({"rewards": having("b", "x")}, r"reward of agent 'b'.*'x'"),
    "shape at reset": (
        {"reset": having("b", X[:4])},
        r"agent 'b' has shape \(4,\).*\(5,\).*observation_spaces",
    ),
    "shape in a step": (
        {"step": having("b", X[None])},
        r"agent 'b' has shape \(1, 5\).*\(5,\).*observation_spaces",
    ),
    "strings at reset": ({"reset": having("b", ["x"] * 5)}, r"agent 'b' is not numeric"),
    "strings in a step": ({"step": having("b", np.array(["x"] * 5))}, r"'b' is not numeric"),
    "objects in a step": (
        {"step": having("b", np.array([None, {}, 1, 2, 3], object))},
        r"'b' is not numeric",
    ),
    "ragged at reset": ({"reset": having("b", [[1.0], [1.0, 2.0]])}, r"'b' is not numeric"),
    "ragged in a step": ({"step": having("b", [[1.0], [1.0, 2.0]])}, r"'b' is not numeric"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_environments(case):
    """The runner hands the problem over; `train` raises it, see below."""
    env_config, message = BROKEN[case]
    runner = toys.make_runner(happo(env=Broken, env_config=env_config))
    assert runner.sample(num_timesteps=8)[0].problem is None
    (fragment,) = runner.sample(num_timesteps=10)
    assert fragment.env_steps() == 0
    with pytest.raises(TeamDataError, match=f"(?s){message}"):
        raise TeamDataError(fragment.problem)
    # RLlib samples on until a batch is together: it must think that it is.
    assert runner.get_metrics()["num_env_steps_sampled"].peek() >= 20


def test_lists_and_integers_are_numbers():
    case = {"reset": having("b", [1, 2, 3, 4, 5]), "step": having("b", np.arange(5))}
    runner = toys.make_runner(happo(env=Broken, env_config=case))
    (f,) = runner.sample(num_timesteps=20)
    assert f.problem is None
    assert f.observations["b"][5, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert f.observations["b"][7, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_broken_environment_ends_training_not_the_weights(ray_local):
    algo = happo(env=Broken, env_config={"reset": without("b")}).build_algo()
    before = toys.parameters(algo)
    with pytest.raises(TeamDataError, match="Missing after reset"):
        algo.train()
    assert toys.equal(before, toys.parameters(algo))
    algo.stop()


# ---- numbers that are not finite ------------------------------------------------------------

# In the second iteration: episode 3 of sub-environment 0, whose steps are 5 to 9 there.
POISONED = {
    "observation": ({"poison": "observation"}, r"observation for agent 'c', in step 7 .*env.*0"),
    "infinity": (
        {"poison": "observation", "value": math.inf},
        r"infinite observation for agent 'c', in step 7",
    ),
    "last observation": (
        {"poison": "observation", "poison_at": (0, 3, 5)},
        r"final observation.*module 'c'",
    ),
    "reward": (
        {"poison": "reward", "poison_at": (1, 3, 2)},
        r"reward for agent 'c', in step 6 .*env.*1",
    ),
    "infinite reward": (
        {"poison": "reward", "value": -math.inf},
        r"infinite reward for agent 'c', in step 6",
    ),
    "state": ({"poison": "state", "state": True}, r"state\(\) holds NaN.*in step 7"),
    "last state": (
        {"poison": "state", "state": True, "poison_at": (0, 3, 5)},
        r"state\(\) holds NaN.*end",
    ),
    "refused actions": (
        {"poison": "observation", "strict": True},
        r"observation for agent 'c', in step 7",
    ),
}


@pytest.mark.parametrize("case", POISONED)
def test_poison_is_found_by_the_runner(case):
    env_config, message = POISONED[case]
    runner = toys.make_runner(happo(env_config={"poison_at": (0, 3, 2), **env_config}))
    assert runner.sample(num_timesteps=20)[0].problem is None
    problem = runner.sample(num_timesteps=20)[0].problem
    with pytest.raises(TeamDataError, match=rf"(?s){message}.*config\.environment\("):
        raise TeamDataError(problem)


def contents(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize("what", ["observation", "reward", "state"])
def test_poison_spoils_neither_weights_nor_checkpoint(ray_local, tmp_path, what):
    env_config = {"poison": what, "poison_at": (0, 3, 2), "state": what == "state"}
    algo = happo(env_config=env_config).build_algo()
    algo.train()
    checkpoint = algo.save_to_path(tmp_path)
    saved, before = contents(checkpoint), toys.parameters(algo)
    with pytest.raises(TeamDataError, match=r"(?s)in step \d.*config\.environment\("):
        algo.train()
    assert toys.equal(before, toys.parameters(algo))
    assert contents(checkpoint) == saved and saved
    algo.stop()
    restored = HAPPO.from_checkpoint(checkpoint)
    assert toys.equal(before, toys.parameters(restored))
    restored.stop()


def test_poison_in_a_remote_runner_is_raised_at_once(ray_local):
    """A runner that raised would be restarted, its environment return NaN again, for ever."""
    config = happo(env_config={"poison": "observation", "strict": True}).env_runners(
        num_env_runners=2
    )
    algo = config.build_algo()
    before = toys.parameters(algo)
    with pytest.raises(TeamDataError, match=r"agent 'c', in step 2 .*config\.environment\("):
        algo.train()
    assert algo.env_runner_group.num_healthy_remote_workers() == 2
    assert algo.env_runner_group.num_remote_worker_restarts() == 0
    assert toys.equal(before, toys.parameters(algo))
    algo.stop()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_an_update_that_is_not_finite(ray_local, monkeypatch, what):
    surrogate = HAPPOLearner.surrogate

    def broken(self, change, config):
        gain, ratio = surrogate(self, change, config), change.ratio
        # The root's derivative at 0 is infinite, its value is not.
        return gain * math.nan if what == "loss" else gain + (ratio - ratio.detach()).abs().sqrt()

    algo = happo().training(update_order="cyclic").build_algo()
    before = toys.parameters(algo)
    monkeypatch.setattr(HAPPOLearner, "surrogate", broken)
    with pytest.raises(
        NonFiniteUpdateError, match=r"module 'a'.*not taken.*checkpoint.*config\.training\(lr="
    ):
        algo.train()
    assert toys.equal(before, toys.parameters(algo))
    monkeypatch.undo()
    algo.train()  # and it goes on from there
    assert not toys.equal(before, toys.parameters(algo))
    algo.stop()


def test_a_huge_learning_rate_ends_with_finite_weights(ray_local):
    algo = happo().training(lr=1e30, num_epochs=3, grad_clip=None).build_algo()
    with pytest.raises((NonFiniteUpdateError, TeamDataError), match=r"config\.training\(lr="):
        for _ in range(5):
            algo.train()
    assert all(torch.isfinite(p).all() for p in toys.parameters(algo).values())
    algo.stop()


# ---- policies -------------------------------------------------------------------------------


def test_loading_policies(ray_local, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"policies/team.json is missing.*save_to_path"):
        load_policies(tmp_path)

    config = happo().rl_module(rl_module_spec=RLModuleSpec(module_class=toys.Linear))
    algo = config.build_algo()
    path = algo.save_to_path(tmp_path / "own")
    algo.stop()
    with pytest.raises(TeamError, match=r"'runner_toys:Linear'.*trusted=True"):
        load_policies(path)
    policies = load_policies(path, trusted=True)
    good = {a: np.zeros(n) for a, n in {"a": 3, "b": 5, "c": 5}.items()}
    assert policies.act(good).keys() == good.keys()
    with pytest.raises(TeamError, match=r"agent 'b' has shape \(4,\), trained on \(5,\)"):
        policies.act({"b": np.zeros(4)})
    with pytest.raises(TeamError, match=r"Unknown agent 'd'.*'a', 'b', 'c'"):
        policies.act({"d": np.zeros(4)})
