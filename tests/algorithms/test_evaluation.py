"""Evaluation: on runners of its own, of the policy alone, and never over broken data."""

import sys

import numpy as np
import pytest
import ray
import runner_toys as toys
import torch
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import Drift, DriftBatch, ScriptedTeam
from toys import CountingTeam

from rllib_hetero import HAPPO, HAPPOConfig, TeamDataError, TeamError
from rllib_hetero.algorithms.team_algorithm import CONNECTORS

# Remote runners get these environments by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

# Episodes that go on over two iterations.
STRADDLING = {"lengths": [7], "ends": "alternate"}


class GlobalChance(ScriptedTeam):
    """Somebody's environment that draws from the process's own generator."""

    def reward(self, agent):
        return super().reward(agent) + np.random.random()


class NaNInEveryEpisode(ScriptedTeam):
    """At step 3, where the config says `evil`."""

    def _poisoned(self, what):
        return self.config.get("evil") == what and self.t == 3


def algorithm(env=ScriptedTeam, env_config=None, *, runners=0, **kwargs):
    config = toys.small(HAPPOConfig(), env, env_config or STRADDLING, **kwargs)
    return config.env_runners(num_env_runners=runners)


# ---- without config.evaluation(...) -------------------------------------------------------------


def test_it_is_greedy(ray_local):
    algo = algorithm().build_algo()
    algo.train()
    found = [algo.evaluate()["env_runners"] for _ in range(2)]
    weights = toys.actor_weights(algo.learner_group._learner.module)
    runner = toys.make_runner(algo.evaluation_config, weights=weights)
    for results in found:
        runner.sample(num_episodes=10, explore=False)
        expected = runner.get_metrics()
        assert results["num_episodes"] == 10 and results["episode_len_mean"] == 7
        for name in ("episode_return_mean", "episode_return_min", "episode_return_max"):
            assert results[name] == pytest.approx(expected[name].peek(), rel=1e-6)
    algo.stop()


def training_numbers(config, *, evaluate):
    torch.manual_seed(0)
    np.random.seed(0)
    algo = config.build_algo()
    numbers = []
    for _ in range(3):
        result = algo.train()["env_runners"]
        numbers.append(
            {
                name: result.get(name)
                for name in (
                    "episode_return_mean",
                    "episode_return_max",
                    "num_episodes",
                    "num_episodes_lifetime",
                    "num_env_steps_sampled_lifetime",
                )
            }
        )
        if evaluate:
            assert algo.evaluate()["env_runners"]["num_episodes"] == 10
    weights = toys.parameters(algo)
    algo.stop()
    return numbers, weights


@pytest.mark.parametrize(
    ("runners", "settings"),
    [(0, {}), (0, {"env_runner_cls": MultiAgentEnvRunner}), (1, {})],
    ids=["here", "stock runner", "remote runner"],
)
def test_training_does_not_notice_it(ray_local, runners, settings):
    (numbers, weights), (others, other_weights) = (
        training_numbers(
            algorithm(GlobalChance, runners=runners, batch=30, **settings), evaluate=evaluate
        )
        for evaluate in (False, True)
    )
    assert numbers == others
    assert toys.equal(weights, other_weights)


def test_its_own_runner_sees_what_the_training_sees(ray_local):
    """The stock runner's connectors: observations are normalised as in training."""
    config = algorithm(env_runner_cls=MultiAgentEnvRunner, batch=100).env_runners(
        env_to_module_connector=lambda *_: MeanStdFilter(multi_agent=True)
    )
    algo = config.build_algo()
    algo.train()
    algo.evaluate()

    def observed(runner):
        state = runner.get_state(CONNECTORS)[COMPONENT_ENV_TO_MODULE_CONNECTOR]["MeanStdFilter"]
        return {agent: x["running_stats"][0]["num_pushes"] for agent, x in state.items()}

    # Its own 80 come to the training's 100 and more.
    before, after = observed(algo.env_runner), observed(algo.eval_env_runner)
    assert all(after[agent] > n >= 100 for agent, n in before.items())
    algo.stop()


def test_a_checkpoint_between_evaluations(ray_local, tmp_path):
    algo = algorithm(CountingTeam, {"length": 5}).build_algo()
    algo.train()
    algo.evaluate()
    restored = HAPPO.from_checkpoint(algo.save_to_path(tmp_path))
    for x in (algo, restored):
        assert x.evaluate()["env_runners"]["num_episodes"] == 10
        x.train()
    assert toys.equal(toys.parameters(algo), toys.parameters(restored))
    for x in (algo, restored):
        x.stop()


# ---- environments that break their word ---------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "unit"), [("observation", "episodes"), ("reward", "timesteps")], ids=str
)
@pytest.mark.parametrize("settings", [{}, {"env_runner_cls": MultiAgentEnvRunner}], ids=str)
def test_in_this_process(ray_local, what, unit, settings):
    config = algorithm(NaNInEveryEpisode, **settings).evaluation(
        evaluation_interval=1,
        evaluation_duration=20,
        evaluation_duration_unit=unit,
        evaluation_config={"env_config": {"evil": what}},
    )
    algo = config.build_algo()
    for evaluate in (algo.train, algo.evaluate, algo.evaluate):
        with pytest.raises(TeamDataError, match=rf"(?s)evaluation.*{what}.*agent 'c'"):
            evaluate()
    for env in algo.eval_env_runner.env.envs:
        env.unwrapped.config["evil"] = None
    counted = {"episodes": "num_episodes", "timesteps": "num_env_steps_sampled"}[unit]
    assert algo.evaluate()["env_runners"][counted] == 20
    algo.stop()


@pytest.mark.parametrize(
    "settings",
    [{}, pytest.param({"env_runner_cls": MultiAgentEnvRunner}, marks=pytest.mark.slow)],
    ids=str,
)
def test_in_a_remote_runner(ray_local, settings):
    """Nobody waits for episodes that never come, and the runner is not restarted for ever."""
    config = algorithm(NaNInEveryEpisode, **settings).evaluation(
        evaluation_interval=1,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
        evaluation_duration="auto",
        evaluation_config={"env_config": {"evil": "observation"}},
    )
    algo = config.build_algo()
    told = r"(?s)evaluation.*observation.*agent 'c'"
    with pytest.raises(TeamDataError, match=told):
        for _ in range(1000):  # These iterations are over before anything has come in.
            algo.train()
    with pytest.raises(TeamError, match=r"'auto'.*config\.evaluation\(evaluation_duration=10\)"):
        algo.evaluate()
    algo.config = algo.config.copy(copy_frozen=False)
    algo.config.evaluation_duration = 20
    for unit in ("episodes", "timesteps"):
        algo.config.evaluation_duration_unit = unit
        with pytest.raises(TeamDataError, match=told):
            algo.train()
        with pytest.raises(TeamDataError, match=told):
            algo.evaluate()
    assert algo.eval_env_runner_group.num_healthy_remote_workers() == 1
    assert algo.eval_env_runner_group.num_remote_worker_restarts() == 0
    algo.stop()


# ---- another team than the training's -----------------------------------------------------------

BASE = {"agents": {"a": 3, "b": 5, "c": 5}, "actions": {"c": "discrete"}}
OTHERS = {
    "fewer": ({"agents": {"a": 3, "b": 5}, "actions": {}}, r"agents lack c\."),
    "others": ({"agents": {"a": 3, "b": 5, "x": 5, "y": 5}}, "lack c; the new agents are x, y"),
    "observations": (
        {"agents": {"a": 4, "b": 5, "c": 5}},
        r"of agent 'a' is \(4,\), not \(3,",
    ),
    "actions": ({"actions": {"c": "multi"}}, r"space of agent 'c' is MultiD.*, not Discrete\(4\)"),
    "masks": ({"masked": ["c"]}, "action mask of agent 'c' is one, not none"),
    "state": ({"state": True}, r"shape of the state is \(4,\), not None"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_team_is_refused_before_anything_starts(case):
    changes, message = OTHERS[case]
    config = algorithm(ScriptedTeam, BASE)
    config.evaluation(evaluation_config={"env": lambda _: ScriptedTeam(BASE | changes)})
    with pytest.raises(TeamError, match=rf"{message}.*config\.evaluation\(evaluation_config="):
        config.validate()
    toys.small(HAPPOConfig(), ScriptedTeam, BASE | changes).validate()  # good by itself


def test_another_env_config_is_looked_at():
    config = algorithm(ScriptedTeam, BASE)
    config.evaluation(evaluation_config={"env_config": {"actions": {"c": "multi"}}})
    with pytest.raises(TeamError, match="space of agent 'c' is MultiD"):
        config.validate()


class OtherOrder(DriftBatch):
    def __init__(self, config):
        super().__init__(config)
        agents = tuple(reversed(self.team.agents))
        self.team = type(self.team)(agents, self.team.observation_spaces, self.team.action_spaces)

    def step(self, actions):
        outcome = super().step(actions)
        return outcome._replace(rewards=outcome.rewards[:, ::-1])


@pytest.mark.parametrize(
    "given",
    [
        {"env": DriftBatch},
        {"env": OtherOrder},
        {"env": DriftBatch, "num_envs_per_env_runner": 3},
        toys.small(HAPPOConfig(), DriftBatch),
    ],
    ids=["batched", "another order", "more", "a whole config"],
)
def test_another_environment_of_the_same_team(ray_local, given):
    algo = algorithm(Drift, {}).evaluation(evaluation_config=given).build_algo()
    results = algo.evaluate()["env_runners"]
    assert results["num_episodes"] == 10 and results["episode_len_mean"] == Drift.LENGTH
    assert isinstance(algo.eval_env_runner.env.unwrapped, DriftBatch)
    algo.stop()
