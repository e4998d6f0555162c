"""A game that only a policy with a memory can win: the first step's bit, told in the last."""

import pytest
import toys

from rllib_hetero import HAPPOConfig

pytestmark = pytest.mark.usefixtures("ray_local")


def greedy_returns(kind, seed, iterations, length=4):
    """The greedy return after each iteration, over 64 episodes. 2 is the best there is."""
    algo = (
        HAPPOConfig()
        .environment(toys.MemoryTeam, env_config={"length": length})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=16)
        .rl_module(model_config={"hidden_sizes": [32], "recurrent": kind, "max_seq_len": length})
        .training(
            train_batch_size_per_learner=16 * 10 * length, lr=5e-3, num_epochs=8, entropy_coeff=0.0
        )
        .evaluation(evaluation_interval=1, evaluation_duration=64)
        .debugging(seed=seed, log_level="ERROR")
        .build_algo()
    )
    returns = []
    for _ in range(iterations):
        result = algo.train()["evaluation"]["env_runners"]
        returns.append(float(result["episode_return_mean"]))
    algo.stop()
    return returns


def test_a_memory_wins_in_a_few_iterations():
    assert max(greedy_returns("gru", 0, 6)) > 1.8


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [0, 1])
def test_with_a_memory_it_is_won_and_without_it_is_not(seed):
    """Longer episodes; who does not know the bit is right in half of all cases."""
    with_memory = greedy_returns("gru", seed, 20, length=6)
    assert min(with_memory[-5:]) > 1.8
    without = greedy_returns(None, seed, 40, length=6)
    assert max(without) < 1.6 and sum(without[-10:]) / 10 < 1.25
