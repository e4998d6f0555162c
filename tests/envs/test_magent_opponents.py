"""Who plays against us in MAgent2's battles, and weights that move to larger teams."""

import itertools

import numpy as np
import pytest
import torch
from battles import RIGHT, act, made, put, storm
from pyarrow.fs import LocalFileSystem

from rllib_hetero import HAPPOConfig, TeamError
from rllib_hetero.algorithms.checkpoint import export_policies
from rllib_hetero.envs.magent.engine import OURS, STAY, THEIRS, mirrored_actions

pytest.importorskip("magent2.environments.battle_v4")


def test_random_and_idle_opponents():
    env = made([0], opponent="idle")
    there = env._engines[0].positions(THEIRS)
    act(env, [[STAY] * 12])
    np.testing.assert_array_equal(env._engines[0].positions(THEIRS), there)
    env = made([0], opponent="random")
    act(env, [[STAY] * 12])
    assert (env._engines[0].positions(THEIRS) != there).any()


def displacement(action):
    """Where an action takes an agent of ours, or whom it hits: (x, y)."""
    engine = made([0], map_size=12)._engines[0]
    u, stay = np.array([action], np.int32), np.array([STAY], np.int32)
    if action < 13:
        put(engine, (5, 5), (10, 10))
        engine.step(u, stay)
        return tuple((engine.positions(OURS)[0] - 5).tolist())
    for dx, dy in itertools.product((-1, 0, 1), repeat=2):
        if dx or dy:
            put(engine, (5, 5), (5 + dx, 5 + dy))
            if engine.step(u, stay).rewards[0] > 0:
                return dx, dy
    raise AssertionError(f"action {action} hits nobody")


def test_mirrored_actions_go_the_other_way():
    where = [displacement(a) for a in range(21)]
    assert len(set(where[:13])) == 13 and len(set(where[13:])) == 8
    for action, mirrored in enumerate(mirrored_actions()):
        x, y = where[action]
        assert where[mirrored] == (-x, y)


def config_of(map_size=20, **multi_agent):
    return (
        HAPPOConfig()
        .environment(
            "magent", env_config={"scenario": "battle", "map_size": map_size, "max_cycles": 20}
        )
        .multi_agent(parameter_sharing="full", **multi_agent)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .rl_module(model_config={"hidden_sizes": [16]})
        .training(train_batch_size_per_learner=80, minibatch_size=None, num_epochs=1)
        .debugging(seed=0)
    )


def saved(config, folder):
    """Trains for a moment: (the checkpoint, the result)."""
    algo = config.build_algo()
    result = algo.train()
    algo.save_to_path(folder)
    algo.stop()
    return folder, result


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, ray_local):
    return saved(config_of(), tmp_path_factory.mktemp("magent"))


@pytest.fixture(scope="module")
def without_index(tmp_path_factory, ray_local):
    return saved(config_of(agent_index=False), tmp_path_factory.mktemp("magent"))[0]


def test_it_trains_and_logs_its_metrics(checkpoint):
    metrics = checkpoint[1]["env_runners"]
    assert metrics["num_env_steps_sampled_lifetime"] == 80
    for name in ("win_rate", "allies_left", "enemies_left"):
        assert np.isfinite(metrics[name])


def test_a_trained_opponent_plays_from_the_other_side(checkpoint):
    env = made([0], opponent=str(checkpoint[0]))
    engine, modules = env._engines[0], env._opponent._policies._modules
    shown = []
    module = modules["shared"]

    class Right(torch.nn.Module):
        def is_stateful(self):
            return False

        def forward_exploration(self, batch):
            shown.append(batch["obs"].numpy())
            logits = torch.full((len(shown[-1]), 21), -1e9)
            logits[:, RIGHT] = 0.0
            return {"action_dist_inputs": logits}

    modules["shared"] = Right()
    ours, theirs = engine.positions(OURS), engine.positions(THEIRS)
    act(env, [[STAY] * 12])
    # They make two steps to the left, wherever the way is free.
    moved = engine.positions(THEIRS) - theirs
    assert (moved[:, 0] <= 0).all() and (moved[:, 0] == -2).any() and not moved[:, 1].any()
    # Each sees what one of ours would, were the field mirrored: its role is that agent's.
    views = shown[0][:, :845].reshape(12, 13, 13, 5)
    roles = shown[0][:, 845:].argmax(1)
    assert sorted(roles) == list(range(12))
    columns = np.unique(theirs[:, 0])[::-1], np.unique(ours[:, 0])
    for i, role in enumerate(roles):
        assert theirs[i, 1] == ours[role, 1]
        assert np.searchsorted(columns[1], ours[role, 0]) == list(columns[0]).index(theirs[i, 0])
        y, x = np.argwhere(views[i, :, :, 3]).T - 6  # enemies
        seen = {(theirs[i, 0] - dx, theirs[i, 1] + dy) for dx, dy in zip(x, y, strict=True)}
        assert seen <= set(map(tuple, ours.tolist()))
    # And the real one takes part, too, also after losses.
    modules["shared"] = module
    rng = np.random.default_rng(0)
    for _ in range(60):
        if act(env, storm(rng, env)[None]).terminated[0]:
            break
    assert engine.left(OURS) > 0 and engine.left(THEIRS) < 12


def test_without_an_index_it_plays_in_teams_of_all_sizes(without_index):
    for map_size in (12, 20, 40):
        env = made([0, 1], map_size=map_size, opponent=str(without_index))
        for _ in range(3):
            act(env, np.full((2, len(env.team.agents)), STAY))
        moved = env._engines[1].positions(THEIRS)
        env.reset([1], [1])
        assert (moved != env._engines[1].positions(THEIRS)).any()


def test_weights_go_over_to_a_larger_team(without_index):
    """12 agents' to 64: 845 numbers seen, 400 of the state, whatever the number of agents."""
    algo = config_of(40, agent_index=False).build_algo()
    modules = "learner_group/learner/rl_module"
    algo.restore_from_path(without_index / modules, component=modules)
    weights = torch.load(without_index / "policies" / "shared.pt", weights_only=True)
    runner = algo.env_runner.module["shared"].state_dict()
    assert weights["body.1.weight"].shape == (16, 845)
    assert all(torch.equal(x, runner[name]) for name, x in weights.items())
    algo.stop()


def test_an_opponent_must_fit(checkpoint, tmp_path):
    with pytest.raises(TeamError, match="trained for 12 agents"):
        made([0], map_size=40, opponent=str(checkpoint[0]))
    with pytest.raises(TeamError, match="No policies of rllib_hetero"):
        made([0], opponent=str(tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"multi_agent": {"parameter_sharing": "none"}}, "one for all agents is needed"),
        ({"rl_module": {"model_config": {"recurrent": "gru"}}}, "cannot play here.*are recurrent"),
    ],
)
def test_opponents_that_cannot_play(settings, message, ray_local, tmp_path):
    config = config_of()
    for method, arguments in settings.items():
        getattr(config, method)(**arguments)
    algo = config.build_algo()
    export_policies(algo, str(tmp_path), LocalFileSystem())
    algo.stop()
    with pytest.raises(TeamError, match=message):
        made([0], opponent=str(tmp_path))
