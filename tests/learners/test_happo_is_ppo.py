"""With one agent HAPPO is PPO: the same parameters as a single-agent PPO written out by hand."""

import pytest
import torch
from toys import SlowTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HAPPOConfig


def run(*, action="box", updates=2, env=None, **training):
    """Both learners after the same updates, on batches drawn with the current weights."""
    env_config = {"agents": {"only": (3, action)}, **(env or {})}
    config = small_config(HAPPOConfig, env_config=env_config, **training)
    learner, runner = make_learner(config), make_runner(config)
    slow = SlowTeam(learner)
    before = SlowTeam(learner)
    fragments = []
    for _ in range(updates):
        batch = sample(runner, learner)
        fragments += batch
        update(learner, batch)
        slow.update(batch, order=["only"])
    # The comparison says something: every network has gone a long way.
    moved = before.differences(learner)
    for m in ("only", "critic"):
        assert max(x for (module, _), x in moved.items() if module == m) > 2e-3
    return slow, learner, fragments


@pytest.mark.parametrize("action", ["box", "discrete", "multi"])
@pytest.mark.parametrize("updates", [1, 2])
def test_full_batch_epochs_are_ppo(action, updates):
    slow, learner, _ = run(action=action, updates=updates)
    slow.assert_same(learner)


@pytest.mark.parametrize("action", ["box", "discrete", "multi"])
def test_minibatches_are_ppo_on_the_documented_permutation(action):
    # 24 rows in minibatches of at most 7: four of 6.
    slow, learner, _ = run(action=action, minibatch_size=7)
    slow.assert_same(learner)


def test_unshuffled_minibatches_are_ppo_in_the_order_of_rows():
    slow, learner, _ = run(minibatch_size=7, shuffle_batch_per_epoch=False)
    slow.assert_same(learner)


def test_gradients_are_clipped_by_their_global_norm():
    slow, learner, _ = run(grad_clip=0.05)
    assert slow.clipped_steps == 12  # 2 updates of 3 epochs, actor and critic
    slow.assert_same(learner)


def test_ratios_and_values_are_clipped():
    # Steps large enough that, without either clip, the result would be another.
    slow, learner, _ = run(lr=0.03, clip_param=0.05, vf_clip_param=0.05, num_epochs=4)
    slow.assert_same(learner)


def test_critic_has_its_own_learning_rate_epochs_and_weight():
    slow, learner, _ = run(
        critic_lr=1e-2, critic_num_epochs=5, vf_loss_coeff=0.5, vf_huber_delta=0.3
    )
    slow.assert_same(learner)


def test_settings_of_the_objective_are_used():
    slow, learner, _ = run(
        gamma=0.9, lambda_=0.7, entropy_coeff=0.3, standardize_advantages=False, value_norm=False
    )
    slow.assert_same(learner)


@pytest.mark.parametrize("end", ["truncate", "terminate", "alternate"])
@pytest.mark.parametrize("state", [False, True])
def test_ends_of_episodes_are_bootstrapped_as_they_should(end, state):
    # Episodes of 3 in fragments of 8: two ends inside, one open end.
    env = {"end": end, "state": state, "length": 3}
    slow, learner, (fragment, _) = run(env=env, gamma=0.95)
    assert fragment.truncated.any() == (end != "terminate")
    assert fragment.terminated.any() == (end != "truncate")
    slow.assert_same(learner)


def test_value_normaliser_follows_the_batches():
    slow, learner, _ = run(updates=3)
    theirs = learner.module["critic"].normalizer
    x = torch.tensor([-1.0, 0.5, 3.0])
    expected = (x - slow._mean()) / slow._std()
    torch.testing.assert_close(theirs.normalize(x), expected, rtol=1e-5, atol=1e-6)
    assert (expected - x).abs().max() > 0.01
