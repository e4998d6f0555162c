"""Seeded runs that reach a return which a broken learner misses. Slow: `pytest -m slow`."""

import pytest

from rllib_hetero import HAPPOConfig, MAPPOConfig

pytest.importorskip("mpe2")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.usefixtures("ray_local")]


def train(config, scenario, env_steps):
    algo = (
        config.environment("mpe", env_config={"scenario": scenario})
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .debugging(seed=1)
        .build_algo()
    )
    returns = []
    for _ in range(env_steps // 4000):
        returns.append(float(algo.train()["env_runners"]["episode_return_mean"]))
    algo.stop()
    return returns


@pytest.mark.parametrize("config", [HAPPOConfig, MAPPOConfig])
def test_spread(config):
    returns = train(config(), "simple_spread", 200_000)
    # Random play: about -76. Without the advantage's sign, the mask or the bootstrap: no better.
    assert sum(returns[-10:]) / 10 > -66


@pytest.mark.parametrize("config", [HAPPOConfig, MAPPOConfig])
def test_speaker_and_listener_with_unequal_spaces(config):
    returns = train(config(), "simple_speaker_listener", 200_000)
    assert sum(returns[-10:]) / 10 > returns[0] * 0.6
