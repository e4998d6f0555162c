"""Agents that learn apart live on the CPUs that Tune has set aside for their trial."""

import sys

import pytest
import ray
from ray import tune
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.util import get_current_placement_group

from rllib_hetero import F2A2COMAConfig

# Trials are given `Placed` by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Placed(RLlibCallback):
    def on_train_result(self, *, algorithm, result, **kwargs):
        seats = algorithm.learner_group.crew.seats
        groups = ray.get(
            [
                seat._host.__ray_call__.remote(lambda _: get_current_placement_group().id)
                for seat in seats
            ]
        )
        result["placed"] = [group == get_current_placement_group().id for group in groups]
        result["free"] = ray.available_resources().get("CPU", 0.0)


@pytest.mark.slow
def test_two_trials_of_three_cpus_take_turns_on_four(ray_local):
    config = (
        F2A2COMAConfig()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=10)
        .learners(agents_per_learner=1, num_cpus_per_agent_learner=1)
        .rl_module(model_config={"hidden_sizes": [8], "attention_size": 8})
        .training(train_batch_size_per_learner=20)
        .callbacks(Placed)
        .debugging(seed=tune.grid_search([1, 2]), log_level="ERROR")
    )
    results = tune.Tuner(
        config.algo_class,
        param_space=config,
        run_config=tune.RunConfig(stop={"training_iteration": 2}, verbose=0),
    ).fit()
    assert not results.errors and len(results) == 2
    for result in results:
        assert result.metrics["placed"] == [True, True]
        # The driver's, and one of each agent's actor: the other trial waits.
        assert result.metrics["free"] == 1.0
