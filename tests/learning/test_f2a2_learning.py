"""F2A2 on rover tower with one pair: a tower that sees the goal, a rover that does not."""

import numpy as np
import pytest

from rllib_hetero import ALGORITHMS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("ray_local")]


def config_for(name, **training):
    config = ALGORITHMS[name].get_default_config()
    game = {"scenario": "rover_tower", "num_pairs": 1, "num_landmarks": 3}
    model = {"hidden_sizes": [64, 64], "attention_size": 64}
    return (
        config.environment("cooperative_mpe", env_config=game)
        .env_runners(
            num_env_runners=0, num_envs_per_env_runner=16, rollout_fragment_length=7
        )
        .learners(agents_per_learner=None)
        .other_agents(trajectories=50, batch_size=256, update_interval=2)
        .rl_module(model_config={k: v for k, v in model.items() if k in config.model_defaults})
        .training(
            lr=2e-3, gamma=0.95, tau=0.01, standardize_rewards=True,
            **{
                "train_batch_size_per_learner": 256, "training_intensity": 2 * 256 / 112,
                "num_steps_sampled_before_learning_starts": 1000,
                "replay_buffer_config": {"capacity": 60_000},
            } | training,
        )
        .debugging(seed=1, log_level="ERROR")
    )  # fmt: skip


def returns_of(name, iterations, **training):
    """The mean over the two agents of the return of training episodes, at the start and the end."""
    algo = config_for(name, **training).build_algo()
    returns = []
    for _ in range(iterations):
        result = algo.train()
        returns.append(result["env_runners"].get("episode_return_mean", float("nan")) / 2)
    algo.stop()
    return returns


def test_sac_learns_to_talk():
    """Random actions reach about -10, a policy that drives to a fixed place less."""
    returns = returns_of("F2A2SAC", 500, temperature=0.02)
    # Every 25th of the last hundred was 29, 71, 49 and 40 when this was written.
    assert np.mean(returns[-100:]) > 15.0
