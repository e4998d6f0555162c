"""What a mixer, a sum and a memory can learn, and what cannot be learned without them."""

import pytest
from off_policy_toys import off_policy_config, update
from toys import MemoryTeam, TwoStepTeam, make_learner, make_runner, sample

from rllib_hetero import QMIXConfig, VDNConfig


def greedy_return(cls, env, env_config=None, *, length, rounds, model=None, **settings):
    """The mean return of greedy play after so many rounds of 32 episodes and 20 updates."""
    training = {
        "lr": 3e-3, "critic_lr": 3e-3, "adam_epsilon": 1e-8, "gamma": 0.99, "tau": 1.0,
        "target_network_update_freq": 10, "train_batch_size_per_learner": 64 * length,
        "replay_buffer_config": {"capacity": 10_000},
    }  # fmt: skip
    config = off_policy_config(
        cls, env, env_config, num_envs=8, steps=4 * length,
        model={"hidden_sizes": [32], "max_seq_len": length} | (model or {}),
        **training | settings,
    )  # fmt: skip
    learner, runner = make_learner(config, stir=False), make_runner(config)
    for _ in range(rounds):
        update(learner, sample(runner, learner), 20)
    sample(runner, learner)
    (f,) = runner.sample(explore=False)
    assert f.terminated.sum() == 32
    return f.rewards[..., 0].sum() / 32


@pytest.mark.parametrize(("cls", "best"), [(QMIXConfig, 8.0), (VDNConfig, 7.0)])
def test_the_two_step_game(cls, best):
    """All is explored, as in the paper; a sum has 6.5 for the pair that pays 8."""
    assert greedy_return(cls, TwoStepTeam, length=2, rounds=20, epsilon=1.0) == best


def test_a_memory_is_needed_and_used():
    """The first step's bit pays in the last; who does not know it is right in half of all cases."""
    case = {"length": 3, "multi": False}
    settings = {"length": 3, "rounds": 12, "epsilon": 0.5}
    with_memory = greedy_return(
        QMIXConfig, MemoryTeam, case, model={"recurrent": "gru"}, **settings
    )
    assert with_memory == 2.0
    assert greedy_return(QMIXConfig, MemoryTeam, case, **settings) < 1.8
