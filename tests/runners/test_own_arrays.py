"""What is recorded stays as it was, whatever an environment or a module does to its arrays."""

import numpy as np
import pytest
import runner_toys as toys
import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import DriftBatch, Linear, ScriptedTeam

from rllib_hetero import ARMAPPOConfig, HAPPOConfig, Outcome
from rllib_hetero.connectors.episodes_to_fragment import fragment_from_episodes
from rllib_hetero.runners.stock_runner import StockTeamEnvRunner

MIXED = {"actions": {"a": "box", "b": "discrete", "c": "multi"}}
MASKED = {"actions": {"b": "discrete", "c": "multi"}, "masked": ["b", "c"]}


def scribble(x):
    """Overwrites every array in nested dicts and lists."""
    if isinstance(x, np.ndarray):
        x[...] = 1
    elif isinstance(x, dict | list):
        for y in x.values() if isinstance(x, dict) else x:
            scribble(y)


def copied(x):
    if isinstance(x, dict):
        return {k: copied(y) for k, y in x.items()}
    return x.copy() if isinstance(x, np.ndarray) else x


class WritesIntoActions(ScriptedTeam):
    def step(self, action_dict):
        result = super().step(copied(action_dict))
        scribble(action_dict)
        return result


class TakesItsArraysBack(ScriptedTeam):
    """What it returned is overwritten as soon as it is called again."""

    given = ()

    def reset(self, **kwargs):
        return self._give(super().reset, **kwargs)

    def step(self, action_dict):
        return self._give(super().step, action_dict)

    def state(self):
        scribble(getattr(self, "last_state", None))
        self.last_state = super().state()
        return self.last_state

    def _give(self, method, *args, **kwargs):
        for x in self.given:
            scribble(x)
            x.clear()
        self.given = method(*args, **kwargs)
        return self.given


class BatchThatWritesIntoActions(DriftBatch):
    def step(self, actions):
        outcome = super().step(copied(actions))
        scribble(actions)
        return outcome


class BatchOfOneSetOfArrays(DriftBatch):
    """One set of arrays for all outcomes and metrics, also overwritten by a reset."""

    outcome = metrics = None

    def reset(self, envs, seeds):
        super().reset(envs, seeds)
        if self.outcome is not None:
            scribble(list(self.outcome))

    def step(self, actions):
        new = super().step(actions)
        if self.outcome is None:
            self.outcome = Outcome(*(x.copy() for x in new))
        for mine, x in zip(self.outcome, new, strict=True):
            mine[...] = x
        return self.outcome

    def episode_metrics(self, envs):
        if self.metrics is None:
            self.metrics = np.zeros(self.num_envs)
        self.metrics[: len(envs)] = self.x[envs]
        return {"where": self.metrics[: len(envs)]}


class BatchOfNewArrays(DriftBatch):
    def episode_metrics(self, envs):
        return {"where": self.x[envs]}


def assert_same(a, b, atol=0.0):
    a, b = toys.arrays_of(a), toys.arrays_of(b)
    assert a.keys() == b.keys()
    for name, x in a.items():
        np.testing.assert_allclose(x, b[name], rtol=0.0, atol=atol, err_msg=str(name))


def runner_of(env, env_config=None, *, algorithm=HAPPOConfig, spec=None, **settings):
    config = toys.small(algorithm(), env, env_config, **settings.pop("runners", {}))
    config.update_from_dict(settings)
    if spec is not None:
        config.rl_module(rl_module_spec=spec, model_config={})
    config.validate()
    torch.manual_seed(0)
    weights = toys.actor_weights(toys.make_modules(config))
    return toys.make_runner(config, config.env_runner_cls, weights=weights)


def drawn(env, env_config=None, *, random_actions=False, **settings):
    runner = runner_of(env, env_config, **settings)
    (fragment,) = runner.sample(num_timesteps=40, random_actions=random_actions)
    assert fragment.problem is None
    return fragment


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_actions": False},
        {"clip_actions": True},  # The MultiDiscrete actions are not transformed.
        {"random_actions": True},
        {"clip_actions": False, "algorithm": ARMAPPOConfig},
    ],
    ids=str,
)
def test_environments_may_write_into_their_actions(settings):
    assert_same(drawn(WritesIntoActions, MIXED, **settings), drawn(ScriptedTeam, MIXED, **settings))


def test_batched_environments_may_write_into_their_actions():
    settings = {"clip_actions": False, "runners": {"num_envs": 3}}
    assert_same(drawn(BatchThatWritesIntoActions, **settings), drawn(DriftBatch, **settings))


def test_also_on_the_stock_runner():
    fragments = []
    for env in (WritesIntoActions, ScriptedTeam):
        stock = {"env_runner_cls": MultiAgentEnvRunner}
        runner = runner_of(env, MIXED, clip_actions=False, runners=stock)
        assert type(runner) is StockTeamEnvRunner
        torch.manual_seed(1)  # RLlib draws actions from the global generator.
        episodes = runner.sample(num_timesteps=40)
        fragments.append(fragment_from_episodes(episodes, runner.config.layout))
    assert_same(*fragments)


@pytest.mark.parametrize("actions", [MIXED, MASKED], ids=["plain", "masked"])
def test_environments_may_take_their_arrays_back(actions):
    case = {"state": True, "dies": {"b": 2}, "ends": "alternate"} | actions
    assert_same(drawn(TakesItsArraysBack, case), drawn(ScriptedTeam, case))


def test_batched_environments_may_have_one_set_of_arrays():
    fragments, metrics = [], []
    for env in (BatchOfOneSetOfArrays, BatchOfNewArrays):
        runner = runner_of(env, runners={"num_envs": 3})
        fragments += runner.sample(num_timesteps=60)
        results = runner.get_metrics()
        metrics.append({k: results[k].peek() for k in ("where", "episode_return_mean")})
    assert_same(*fragments)
    assert metrics[0] == metrics[1]


class WritesIntoObservations(Linear):
    def _forward(self, batch, **kwargs):
        batch[Columns.OBS].mul_(0.1)
        return super()._forward(batch)


class ScalesObservations(Linear):
    def _forward(self, batch, **kwargs):
        return super()._forward({Columns.OBS: 0.1 * batch[Columns.OBS]})


def test_modules_may_write_into_their_observations():
    a, b = (
        drawn(ScriptedTeam, MIXED, spec=RLModuleSpec(module_class=cls))
        for cls in (WritesIntoObservations, ScalesObservations)
    )
    # Equal inputs at other places in memory: the same products, summed in another order.
    assert_same(a, b, atol=1e-5)
