"""What may be given to `config.environment(...)`; whatever else is, is answered in one line."""

import math
import sys
import types

import gymnasium as gym
import numpy as np
import pytest
import ray
import runner_toys as toys
from gymnasium.spaces import Text
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import DriftBatch, ScriptedTeam

from rllib_hetero import HAPPO, HAPPOConfig, PettingZooTeamEnv, TeamDataError, TeamError, check_env
from rllib_hetero.runners.stock_runner import StockTeamEnv

# Remote runners get these environments by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def config(env, env_config=None, **kwargs):
    return toys.small(HAPPOConfig(), env, env_config, **kwargs)


@pytest.mark.parametrize(
    "settings",
    [{}, {"env_runner_cls": MultiAgentEnvRunner}, {"runners": 1}],
    ids=["team", "stock", "remote"],
)
def test_a_function(ray_local, tmp_path, settings):
    settings = dict(settings)
    runners = settings.pop("runners", 0)
    made = config(lambda env_config: ScriptedTeam(env_config), {"lengths": [7]}, **settings)
    algo = made.env_runners(num_env_runners=runners).build_algo()
    assert algo.train()["env_runners"]["episode_len_mean"] == 7
    restored = HAPPO.from_checkpoint(algo.save_to_path(tmp_path))
    assert restored.train()["env_runners"]["num_episodes_lifetime"] > 0
    for x in (algo, restored):
        x.stop()


# ---- what cannot be made, or is no team -------------------------------------------------------


def with_state(space):
    def make(env_config):
        env = ScriptedTeam({"state": True})
        env.state_space = space
        return env

    return make


class NoSeed(ScriptedTeam):
    def reset(self):
        return super().reset()


class Turns(ScriptedTeam):
    """Looks like PettingZoo's environments with turns."""

    def agent_iter(self):
        return iter(self.agents)


def pettingzoo(kind):
    """Of simple_spread: "parallel" or "aec" instance, "class", "module", or its "maker"."""
    pytest.importorskip("mpe2")
    from mpe2 import simple_spread_v3 as module

    return {
        "parallel": module.parallel_env,
        "aec": module.env,
        "class": lambda: module.raw_env,
        "module": lambda: module,
        "maker": lambda: module.parallel_env,
    }[kind]()


def real_turns():
    """Wrapped, though it changes after each agent's turn, as a board game does."""
    env = pettingzoo("aec")
    env.unwrapped.metadata = env.unwrapped.metadata | {"is_parallelizable": False}
    return PettingZooTeamEnv(env)


REFUSED = {
    "a mistyped name": (lambda: "mpee", r"no environment 'mpee'. Did you mean 'mpe'\?.*register_e"),
    "a gymnasium name": (lambda: "CartPole-v1", r"'CartPole-v1' is a gymnasium.*single agent"),
    "no class of that path": (lambda: "no_such.Team", r"cannot be made.*no_such"),
    "a number": (lambda: 3, r"The environment is 3.*registered name, a class, or a function"),
    "an instance": (ScriptedTeam, r"an instance of ScriptedTeam. Runners make their own"),
    "a module": (lambda: types.ModuleType("m"), r"the module m.*PettingZooTeamEnv\(parallel_env"),
    "nothing": (lambda: lambda env_config: None, r"returned None, no environment"),
    "one that raises": (lambda: lambda env_config: 1 / 0, r"ZeroDivisionError.*test_given.*line"),
    "without an argument": (lambda: lambda: ScriptedTeam(), r"made: TypeError.*with one argument"),
    "a single agent": (
        lambda: lambda env_config: gym.make("CartPole-v1"),
        r"is a TimeLimit, not an RLlib MultiAgentEnv: subclass that.*PettingZooTeamEnv\(env\)",
    ),
    "reset without a seed": (lambda: NoSeed, r"NoSeed\.reset does not take a seed. Define it as"),
    "a text as state": (lambda: with_state(Text(3)), r"`state_space` is Text.*Box, Discrete.*Wrap"),
    "PettingZoo": (lambda: pettingzoo("parallel"), r"instance of PettingZoo.*parallel_env\(\*\*"),
    "PettingZoo's class": (lambda: pettingzoo("class"), r"class raw_env of PettingZoo. Wrap"),
    "PettingZoo's module": (lambda: pettingzoo("module"), r"the module mpe2\.simple_spread"),
    "PettingZoo's maker": (lambda: pettingzoo("maker"), r"made: TypeError.*called with one arg"),
    "PettingZoo, unwrapped": (
        lambda: lambda env_config: pettingzoo("parallel"),
        r"not an RLlib MultiAgentEnv. Wrap a PettingZoo parallel environment in rllib_hetero",
    ),
    "turns": (lambda: lambda env_config: pettingzoo("aec"), r"take turns \(AEC\).*TeamEnv\(env\)"),
    "turns, wrapped": (lambda: lambda env_config: real_turns(), r"take turns: .*is_parallelizable"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_before_anything_starts(case):
    make, message = REFUSED[case]
    with pytest.raises((TeamError, ImportError), match=rf"(?s){message}"):
        config(make()).validate()


@pytest.mark.parametrize("case", ["a mistyped name", "nothing", "turns, wrapped", "a module"])
def test_check_env_finds_the_same(case):
    report = check_env(REFUSED[case][0]())
    assert not report.ok and len(report.findings) == 1


# ---- what does not return what it should ------------------------------------------------------


class Returns(ScriptedTeam):
    """What `reset` or `step` return goes through the function of the config."""

    def reset(self, **kwargs):
        returned = super().reset(**kwargs)
        return self.config["reset"](returned) if "reset" in self.config else returned

    def step(self, action_dict):
        returned = super().step(action_dict)
        return self.config["step"](returned) if "step" in self.config else returned


STEP = r"must return \(observations, rewards, terminateds, truncateds, infos\)"
RETURNS = {
    "observations alone": ("reset", lambda x: x[0], r"reset\(\) returned a dict.*\(observations"),
    "a list": ("reset", lambda x: ([1.0], {}), r"observations .*reset\(\) returned are a list"),
    "four values": ("step", lambda x: (*x[:3], x[4]), rf"step\(\) returned 4 values.*{STEP}"),
    "nothing": ("step", lambda x: None, rf"step\(\) returned a NoneType.*{STEP}"),
    "one reward": ("step", lambda x: (x[0], 1.0, *x[2:]), rf"rewards .* are a float.*{STEP}"),
    "a flag": ("step", lambda x: (*x[:2], False, *x[3:]), rf"terminateds .* are a bool.*{STEP}"),
    "an array": ("step", lambda x: (np.ones(3), *x[1:]), rf"observations .* are a ndarray.*{STEP}"),
}


@pytest.mark.parametrize("case", RETURNS)
def test_it_is_told_in_the_driver(case):
    which, function, message = RETURNS[case]
    # An environment that is made anew returns the same again.
    made = config(Returns, {which: function}).fault_tolerance(restart_failed_sub_environments=True)
    problem = toys.make_runner(made).sample(num_timesteps=4)[0].problem
    with pytest.raises(TeamDataError, match=message):
        raise TeamDataError(problem)


@pytest.mark.parametrize("case", ["observations alone", "four values"])
def test_it_is_told_by_the_stock_runner(case):
    """Where RLlib's own check, with its own words, is switched off."""
    which, function, message = RETURNS[case]
    env = StockTeamEnv(Returns({which: function}), with_state=False)
    with pytest.raises(TeamDataError, match=message):
        env.reset()
        env.step({a: np.zeros(2) for a in env.unwrapped.agents})


class NoOutcome(DriftBatch):
    def step(self, actions):
        return tuple(super().step(actions))


def test_a_batched_environment_returns_an_outcome():
    problem = toys.make_runner(config(NoOutcome)).sample(num_timesteps=4)[0].problem
    assert "step() returned a tuple" in problem and "rllib_hetero.Outcome" in problem


class CannotClose(ScriptedTeam):
    def close(self):
        raise RuntimeError("nothing was drawn")


def test_an_environment_that_cannot_be_closed_is_read(caplog):
    config(CannotClose).validate()
    assert "Closing the environment CannotClose raised: nothing was drawn" in caplog.text
    assert math.isfinite(toys.make_runner(config(CannotClose)).env.num_envs)
