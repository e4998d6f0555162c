"""One tower tells one rover where to drive: COMA and MAAC learn it."""

import numpy as np
import pytest

from rllib_hetero import COMAConfig, MAACConfig

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]
MAAC = {
    "train_batch_size_per_learner": 256, "training_intensity": 5.12, "tau": 0.01,
    "num_steps_sampled_before_learning_starts": 1000, "replay_buffer_config": {"capacity": 60_000},
}  # fmt: skip
COMA = {
    "train_batch_size_per_learner": 200, "critic_num_epochs": 10, "individual_rewards": True,
}  # fmt: skip
NETWORKS = {"hidden_sizes": [64, 64]}


@pytest.mark.parametrize(
    ("cls", "settings", "model", "bar"),
    [(MAACConfig, MAAC, {"attention_size": 64}, 15.0), (COMAConfig, COMA, {}, 50.0)],
    ids=["MAAC", "COMA"],
)
def test_a_rover_finds_what_its_tower_sees(cls, settings, model, bar):
    """Random play pays about -10 an agent, the wrong landmark -45, the goal at once 230."""
    config = (
        cls()
        .environment(
            "cooperative_mpe",
            env_config={"scenario": "rover_tower", "num_pairs": 1, "num_landmarks": 3},
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .training(lr=2e-3, critic_lr=2e-3, gamma=0.95, **settings)
        .rl_module(model_config=NETWORKS | model)
        .debugging(seed=1, log_level="ERROR")
    )
    if cls is MAACConfig:
        config.env_runners(rollout_fragment_length=25)
    algo = config.build_algo()
    returns = [algo.train()["env_runners"]["episode_return_mean"] / 2 for _ in range(280)]
    algo.stop()
    # RLlib's number is a mean over the newest 100 episodes, of which an iteration adds 8.
    assert np.mean(returns[-30:]) > bar, returns[::20]
