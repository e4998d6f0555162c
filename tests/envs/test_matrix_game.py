"""The one-state games."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from ray.rllib.env.env_context import EnvContext

from rllib_hetero import HAPPOConfig, TeamError
from rllib_hetero.envs import make_matrix_game

CLIMBING = [[11, -30, 0], [-30, 7, 0], [0, 6, 5]]


def started(num_envs, **env_config):
    env = make_matrix_game({**env_config, "num_envs": num_envs})
    env.reset(range(num_envs), [None] * num_envs)
    return env


def joint(*actions):
    """Actions by player, each a sequence of E."""
    return {f"player_{i}": np.asarray(u) for i, u in enumerate(actions)}


def paid_for_all_joint_actions(**env_config):
    """The payoffs read off one vector step, in which every joint action is taken once."""
    shape = [space.n for space in make_matrix_game(env_config).team.action_spaces.values()]
    every = np.array(list(itertools.product(*map(range, shape))))
    outcome = started(len(every), **env_config).step(joint(*every.T))
    assert outcome.rewards.shape == every.shape
    assert outcome.rewards.dtype == np.float32
    # Shared: every player is given the payoff, which the team counts once.
    assert (outcome.rewards == outcome.rewards[:, :1]).all()
    assert outcome.terminated.all()
    assert not outcome.truncated.any() and not outcome.failed.any()
    return outcome.rewards[:, 0].reshape(shape)


@pytest.mark.parametrize(
    ("env_config", "payoff"),
    [
        ({"game": "climbing"}, CLIMBING),
        ({"game": "penalty"}, [[-100, 0, 10], [0, 2, 0], [10, 0, -100]]),
        ({"game": "penalty", "penalty": -2.5}, [[-2.5, 0, 10], [0, 2, 0], [10, 0, -2.5]]),
        ({"game": "penalty", "penalty": 0}, [[0, 0, 10], [0, 2, 0], [10, 0, 0]]),
        ({"game": "harl_example_1"}, [[0, 2], [2, -1]]),
        ({"payoff": [3.0, 4.0]}, [3.0, 4.0]),
        ({"payoff": torch.tensor([[1.0, 2.0, 3.0]])}, [[1.0, 2.0, 3.0]]),
    ],
)
def test_every_joint_action_pays_its_entry(env_config, payoff):
    np.testing.assert_array_equal(paid_for_all_joint_actions(**env_config), payoff)


def test_three_players_with_unequal_numbers_of_actions():
    payoff = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(paid_for_all_joint_actions(payoff=payoff), payoff)
    np.testing.assert_array_equal(paid_for_all_joint_actions(payoff=payoff.tolist()), payoff)
    team = make_matrix_game({"payoff": payoff}).team
    assert list(team.action_spaces.values()) == [Discrete(2), Discrete(4), Discrete(3)]


def test_the_payoff_given_may_change_afterwards():
    payoff = np.zeros((2, 2), np.float32)
    env = started(1, payoff=payoff)
    payoff[:] = 1.0
    assert (env.step(joint([0], [0])).rewards == 0.0).all()


def test_team_and_what_it_sees():
    env = started(4, game="climbing")
    assert env.team.agents == ("player_0", "player_1")
    assert env.team.reward_scheme == "shared"
    assert env.team.state_space is None and env.state is None
    assert env.team.action_spaces == {"player_0": Discrete(3), "player_1": Discrete(3)}
    for _ in range(2):
        for agent, space in env.team.observation_spaces.items():
            assert space == Box(0.0, 1.0, (1,), np.float32)
            assert env.observations[agent].dtype == np.float32
            np.testing.assert_array_equal(env.observations[agent], np.ones((4, 1)))
        assert env.active.shape == (4, 2) and env.active.all()
        assert env.infos == [{}] * 4
        env.step(joint([0, 1, 2, 0], [0, 0, 0, 0]))


def test_a_registered_creator_is_first_called_without_num_envs():
    config = EnvContext({"game": "climbing"}, worker_index=0)
    assert make_matrix_game(config).num_envs == 1
    assert dict(config) == {"game": "climbing"}


def test_a_repeated_game_terminates_after_its_length():
    env = started(2, payoff=[[1, 2], [3, 4]], length=3)
    for over in (False, False, True):
        outcome = env.step(joint([0, 1], [1, 0]))
        np.testing.assert_array_equal(outcome.rewards[:, 0], [2.0, 3.0])
        np.testing.assert_array_equal(outcome.terminated, [over, over])
        assert not outcome.truncated.any()


def test_only_the_environments_that_are_reset_start_anew():
    env = started(3, game="harl_example_1", length=2)
    actions = joint([0, 0, 0], [0, 0, 0])
    env.step(actions)
    env.reset([1], [None])
    np.testing.assert_array_equal(env.step(actions).terminated, [True, False, True])
    env.reset([0, 2], [None, None])
    np.testing.assert_array_equal(env.step(actions).terminated, [False, True, False])


@pytest.mark.parametrize(("settings", "bound"), [({}, 1.0), ({"bound": 10}, 10.0)])
def test_the_differentiable_game_pays_the_product(settings, bound):
    env = started(3, game="differentiable", length=2, **settings)
    assert list(env.team.action_spaces.values()) == [Box(-bound, bound, (1,), np.float32)] * 2
    actions = joint(
        np.array([[0.5], [-1.0], [1.0]], np.float32), np.array([[0.5], [-0.25], [-1.0]], np.float32)
    )
    for over in (False, True):
        outcome = env.step(actions)
        np.testing.assert_array_equal(outcome.rewards, [[0.25] * 2, [0.25] * 2, [-1.0] * 2])
        np.testing.assert_array_equal(outcome.terminated, [over] * 3)


@pytest.mark.parametrize(
    ("env_config", "named"),
    [
        ({"game": "climbing", "lenght": 2}, r"\['lenght'\].*'game', 'payoff', 'length'"),
        ({}, "`game` or `payoff` is needed; neither"),
        ({"game": "climbing", "payoff": [[1]]}, "`game` or `payoff` is needed; both"),
        ({"game": "chicken"}, "'chicken'.*climbing.*harl_example_1.*penalty.*differentiable"),
        ({"game": None}, "Unknown `game` None"),
        ({"payoff": [[1, 2], [3]]}, "`payoff` cannot be read"),
        ({"payoff": torch.ones(2, requires_grad=True)}, "`payoff` cannot be read"),
        ({"payoff": [["1", "2"]]}, "`payoff` must hold numbers"),
        ({"payoff": [[1, None]]}, "`payoff` must hold numbers"),
        ({"payoff": {"a": 1}}, "`payoff` must hold numbers"),
        ({"payoff": None}, "`payoff` must hold numbers"),
        ({"payoff": 3.0}, "`payoff` must hold numbers"),
        ({"payoff": [[], []]}, "`payoff` must hold numbers"),
        ({"payoff": [[1.0, np.nan]]}, "`payoff` holds NaN"),
        ({"payoff": [[1.0, -np.inf]]}, "`payoff` holds NaN"),
        ({"game": "penalty", "penalty": 1}, "`penalty` must be.*got 1"),
        ({"game": "penalty", "penalty": "-1"}, "`penalty` must be.*got '-1'"),
        ({"game": "penalty", "penalty": np.nan}, "`penalty` must be.*got nan"),
        ({"game": "climbing", "penalty": -1}, "`penalty` is for the game 'penalty' only"),
        ({"payoff": [[1]], "penalty": -1}, "`penalty` is for the game 'penalty' only"),
        ({"game": "climbing", "length": 0}, "`length` must be.*got 0"),
        ({"game": "climbing", "length": 1.0}, "`length` must be.*got 1.0"),
        ({"game": "climbing", "length": True}, "`length` must be.*got True"),
        ({"game": "differentiable", "bound": 0.0}, "`bound` must be.*got 0.0"),
        ({"game": "differentiable", "bound": np.inf}, "`bound` must be.*got inf"),
        ({"game": "differentiable", "bound": None}, "`bound` must be.*got None"),
        ({"game": "climbing", "bound": 1.0}, "`bound` is for the game 'differentiable' only"),
    ],
)
def test_what_is_refused_names_the_setting(env_config, named):
    with pytest.raises(TeamError, match=named) as refused:
        make_matrix_game(env_config)
    assert 'config.environment("matrix_game", env_config={' in str(refused.value)


@pytest.fixture
def algo(ray_local):
    algo = (
        HAPPOConfig()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .learners(num_learners=0)
        .rl_module(model_config={"hidden_sizes": [16]})
        .training(train_batch_size_per_learner=80, num_epochs=1)
        .debugging(seed=0)
        .build_algo()
    )
    yield algo
    algo.stop()


def test_trains_by_name(algo):
    results = algo.train()["env_runners"]
    low, high = results["episode_return_min"], results["episode_return_max"]
    assert {low, high} <= set(np.ravel(CLIMBING))
    assert low <= results["episode_return_mean"] <= high
    assert results["num_episodes"] == 80
    assert results["episode_len_mean"] == 1.0


def test_random_play_is_paid_the_mean_entry(algo):
    (fragment,) = algo.env_runner.sample(num_timesteps=4000, random_actions=True)
    paid = fragment.rewards[..., 0].ravel()
    assert len(paid) == 4000
    # Four standard errors.
    assert paid.mean() == pytest.approx(np.mean(CLIMBING), abs=4 * np.std(CLIMBING) / 4000**0.5)
