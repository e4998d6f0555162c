"""What HAD3QN is told before anything starts."""

import pytest
from off_policy_toys import off_policy_config
from toys import CountingTeam, MatrixTeam

from rllib_hetero import HAD3QNConfig, TeamError

MANY = {"agents": {f"agent_{i}": (2, "discrete") for i in range(7)}}  # 4^7 = 16,384


def config_of(env_config=MANY, env=CountingTeam, **settings):
    return off_policy_config(HAD3QNConfig, env, env_config, **settings)


@pytest.mark.parametrize("kind", ["box", "multi"])
def test_other_actions_than_discrete_are_refused_with_who_takes_them(kind):
    agents = {"a": (2, "discrete"), "b": (3, kind)}
    with pytest.raises(TeamError, match=r"agent 'b'.*Discrete.*HASAC, MASAC, HADDPG, HATD3"):
        config_of({"agents": agents})


def test_too_many_joint_actions_need_the_other_critic():
    with pytest.raises(
        ValueError, match=r"16,384 of 7 agents; at most 4,096.*training\(joint_critic='one_hot'\)"
    ):
        config_of()
    config_of(joint_critic="one_hot")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 1.5}, r"`epsilon` is 1.5.*\[0.0, 1.0\].*config\.training\(epsilon="),
        ({"epsilon": [[0, 1.0], [100, -0.1]]}, r"`epsilon`.*\[0.0, 1.0\]"),
        ({"epsilon": "often"}, r"`epsilon` is 'often'"),
        ({"joint_critic": "sum"}, r"`joint_critic` is 'sum'; use one of \('exact', 'one_hot'\)"),
        ({"fitted_actions": "best"}, r"`fitted_actions` is 'best'.*replayed.*greedy.*all"),
        ({"update_order": "sorted"}, r"`update_order` is 'sorted'"),
        ({"model": {"recurrent": "gru"}}, r"Unknown keys \['recurrent'\]"),
        ({"model": {"dueling": False}}, r"Unknown keys \['dueling'\]"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        config_of({"payoff": [[0.0, 0.0], [0.0, 1.0]]}, MatrixTeam, **settings)


def test_defaults_are_the_papers():
    config = HAD3QNConfig()
    assert (config.epsilon, config.gamma, config.lr, config.critic_lr) == (0.05, 0.95, 5e-4, 1e-3)
    assert (config.tau, config.n_step, config.train_batch_size_per_learner) == (0.005, 1, 1000)
    assert (config.joint_critic, config.fitted_actions) == ("exact", "replayed")
    model = config.model_defaults
    assert (model["hidden_sizes"], model["activation"]) == ([128, 128], "relu")
    assert (model["dueling_hidden_sizes"], model["dueling_activation"]) == ([128], "hardswish")
