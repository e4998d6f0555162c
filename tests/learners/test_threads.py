"""The learner beside the driver takes as many threads as Ray reserves CPUs for the driver."""

import pytest
import torch
from toys import CountingTeam

from rllib_hetero import HAPPOConfig
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.runners.team_env_runner import TeamEnvRunner


@pytest.mark.parametrize("in_halves", [False, True])
def test_threads_are_those_of_the_main_process(in_halves):
    config = (
        HAPPOConfig()
        .environment(CountingTeam, env_config={"agents": {"a": (3, "box"), "b": (4, "discrete")}})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .training(train_batch_size_per_learner=8)
        .resources(num_cpus_for_main_process=2)
        .rl_module(model_config={"hidden_sizes": [8]})
    )
    config.validate()
    fragments = TeamEnvRunner(config=config, worker_index=0).sample()
    learner = config.learner_class(config=config, module_spec=config.get_multi_rl_module_spec())
    learner.build()
    seen, step = [], learner._update

    def update(batch):
        seen.append(torch.get_num_threads())
        return step(batch)

    learner._update = update
    given = {
        "training_data": TeamTrainingData(episodes=fragments),
        "timesteps": {"num_env_steps_sampled_lifetime": 8},
    }
    before = torch.get_num_threads()
    if in_halves:
        learner.update(actors_only=True, **given)
        learner.finish_update()
    else:
        learner.update(**given)
    assert set(seen) == {2} != {before}
    assert torch.get_num_threads() == before
