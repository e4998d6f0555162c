"""Observations and actions of every kind, through runner, learner, replay and saved policies."""

import numpy as np
import pytest
import torch
import toys
from gymnasium.spaces import Box, Dict, Discrete
from kinds_toys import PICTURED, KindsTeam, first_choices, team
from ray.rllib.core import Columns
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from rllib_hetero import (
    HAPPO,
    BPPOConfig,
    HAD3QNConfig,
    HAPPOConfig,
    HASACConfig,
    MAPPOConfig,
    Outcome,
    QMIXConfig,
    Team,
    VectorTeamEnv,
    check_env,
    load_policies,
)
from rllib_hetero.connectors.episodes_to_fragment import fragment_from_episodes
from rllib_hetero.layout import CRITIC
from rllib_hetero.modules.stacked import stacked_forward
from rllib_hetero.replay import JointReplay, bytes_needed
from rllib_hetero.runners.single_env import SingleTeamEnv
from rllib_hetero.runners.stock_runner import StockTeamEnvRunner
from rllib_hetero.spaces import as_dtype, decoded, encoded, is_mixed, row_dtype
from rllib_hetero.spaces.moves import pick


def config_of(cls, env_config, *, model=None, steps=6, sharing=None, **training):
    seen = {*env_config["observations"].values(), env_config.get("state")}
    nets = {"conv_filters": [[4, 3, 3]], "conv_features": 8} if seen & PICTURED else {}
    return toys.small_config(
        cls, KindsTeam, env_config, num_envs=2, steps=steps, sharing=sharing,
        model=nets | (model or {}), **training,
    )  # fmt: skip


def off_policy(cls, env_config, *, model=None, **training):
    nets = {"hidden_sizes": [16], "conv_filters": [[4, 3, 3]], "conv_features": 8} | (model or {})
    config = (
        cls()
        .environment(KindsTeam, env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=10)
        .training(
            train_batch_size_per_learner=8,
            num_steps_sampled_before_learning_starts=0,
            replay_buffer_config={"capacity": 100},
            **training,
        )
        .rl_module(model_config=nets)
        .debugging(seed=7)
    )
    config.validate()
    return config


def off_policy_update(config):
    from rllib_hetero.algorithms.off_policy.replay_data import ReplayData

    learner, runner = toys.make_learner(config), toys.make_runner(config)
    fragments = toys.sample(runner, learner)
    before = toys.all_weights(learner)
    learner.update(
        training_data=ReplayData(episodes=fragments, num_envs=2), num_updates=2, timesteps={}
    )
    return learner, fragments, before


# Every kind of observation and of action at least once; masks; states; groups; memories; turns.
TEAMS = {
    "numbers": (HAPPOConfig, team("vector grid counts", "box plane scalar"), {}),
    "choices": (
        HAPPOConfig,
        team("discrete multi binary", "whole shifted multi", "abc", state="numbers"),
        {},
    ),
    "pictures": (HAPPOConfig, team("picture grey frames", "binary discrete chosen", "c"), {}),
    "parts": (
        HAPPOConfig,
        team("mixed numbers heights", "mixed moved mixed", "a", state="mixed"),
        {"model": {"part_hidden_sizes": [8]}},
    ),
    "shared": (
        MAPPOConfig,
        team("mixed mixed vector", "mixed mixed box"),
        {"sharing": {"eyes": ["a", "b"]}},
    ),
    "remembering": (
        HAPPOConfig,
        team("picture mixed", "mixed shifted", "b"),
        {"model": {"recurrent": "gru", "critic_recurrent": "lstm", "max_seq_len": 3}},
    ),
    "in sequence": (BPPOConfig, team("heights numbers", "mixed shifted", "a"), {}),
}


@pytest.mark.parametrize("case", TEAMS)
def test_what_is_shown_is_seen_and_what_is_drawn_is_done(case):
    cls, env_config, settings = TEAMS[case]
    config = config_of(cls, env_config, **settings)
    layout = config.layout
    learner, runner = toys.make_learner(config), toys.make_runner(config)
    (fragment,) = toys.sample(runner, learner)
    for agent, (m, k) in layout.slot_of.items():
        space, moves = layout.team.row_spaces[agent], layout.team.moves[agent]
        rows = fragment.observations[m]
        assert rows.dtype == row_dtype(space)
        for e, env in enumerate(runner.env.envs):
            seen = iter(x[agent] for x in env.log)
            for t in range(len(rows)):
                expected = next(seen)
                row = decoded(space, rows[t, e, k, : space.shape[0]])
                assert_alike(row, expected)
                if fragment.truncated[t, e]:
                    next(seen)  # the final one, followed by that of the reset
                drawn = fragment.actions[m][t, e, k]
                done = first_choices(env.action_spaces[agent], env.given[t][agent])
                chosen = np.ravel(drawn)[: len(done)].astype(int).tolist()
                assert chosen == done
        if is_mixed(moves.flat):
            assert fragment.actions[m].dtype == np.float32
    before = toys.all_weights(learner)
    toys.update(learner, [fragment])
    after = toys.all_weights(learner)
    assert all(torch.as_tensor(x).isfinite().all() for x in after.values())
    stood = [name for name, x in before.items() if np.array_equal(x, after[name])]
    # Everything learns, the encoders too; who acts first is told nothing.
    assert not [n for m, n in stood if "normalizer" not in n and not (m == "a" and "context" in n)]


def assert_alike(x, y):
    if isinstance(x, dict):
        for key in y:
            assert_alike(x[key], y[key])
    elif isinstance(x, tuple):
        for part, other in zip(x, y, strict=True):
            assert_alike(part, other)
    else:
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["numbers", "pictures", "parts", "shared"])
def test_callbacks_see_what_was_shown_and_done(case):
    cls, env_config, settings = TEAMS[case]
    episodes = []
    config = config_of(cls, env_config, **settings).copy(copy_frozen=False)
    config.callbacks(on_episode_created=lambda episode, **_: episodes.append(episode))
    config.validate()
    runner = toys.make_runner(config)
    runner.sample(num_timesteps=2 * 5, explore=False)
    for env, episode in zip(runner.env.envs, episodes[:2], strict=True):
        assert episode.rllib_episode().is_truncated
        observations, actions = episode.get_observations(), episode.get_actions()
        for agent in env.possible_agents:
            masked = agent in env.config["masked"]
            for t, seen in enumerate(observations[agent]):
                assert_alike(seen["observations"] if masked else seen, env.log[t][agent])
            assert len(observations[agent]) == 6 and len(actions[agent]) == 5
            for t, action in enumerate(actions[agent]):
                drawn, given = (first_choices(env.action_spaces[agent], u)
                                for u in (action, env.given[t][agent]))  # fmt: skip
                assert drawn == given


@pytest.mark.parametrize("case", ["pictures", "numbers"])
def test_rllibs_runner_is_the_oracle(case):
    config = config_of(*TEAMS[case][:2])
    stock = config_of(*TEAMS[case][:2])
    stock.env_runners(env_runner_cls=MultiAgentEnvRunner)
    stock.environment(disable_env_checking=True)
    stock.validate()
    runner = toys.make_runner(stock)
    assert isinstance(runner, StockTeamEnvRunner)
    learner = toys.make_learner(config)
    for m, module in runner.module.items():
        module.set_state(learner.module[m].get_state())
    fragment = fragment_from_episodes(runner.sample(num_timesteps=12), stock.layout)
    assert fragment.problem is None
    for m, rows in fragment.observations.items():
        assert rows.dtype == config.layout.row_dtype(m)
        seen = torch.from_numpy(rows[fragment.valid])
        modules = [learner.module[m]]
        fast, _ = stacked_forward(modules, explore=True)(seen.flatten(0, 1)[None], None)
        inputs = fragment.dist_inputs[m][fragment.valid].reshape(fast[0].shape)
        allowed = inputs > -1e30  # what a mask has not taken out
        np.testing.assert_allclose(fast[0].numpy()[allowed], inputs[allowed], rtol=1e-4, atol=1e-5)
    toys.update(learner, [fragment])


def test_a_fragment_of_pictures_is_as_large_as_the_pictures():
    env_config = team("mixed picture", "discrete discrete", state="grey")
    config = config_of(MAPPOConfig, env_config, steps=8)
    learner, runner = toys.make_learner(config), toys.make_runner(config)
    (fragment,) = toys.sample(runner, learner)
    eye, gear, arm = 12 * 12 * 3, 3, 2 * 4
    assert fragment.observations["a"].nbytes == 8 * 2 * (eye + gear + arm)
    assert fragment.observations["b"].nbytes == 8 * 2 * 12 * 12 * 2
    assert fragment.state.nbytes == 8 * 2 * 12 * 12
    assert fragment.last_observations["b"].dtype == np.uint8
    batch = toys.team_batch(learner, [fragment])
    assert batch["a"][Columns.OBS].dtype == torch.uint8  # Numbers only within a network.


def test_nan_among_bytes_is_found():
    config = config_of(HAPPOConfig, team("mixed", "box"))
    runner = toys.make_runner(config)
    look = runner.env.envs[1]._look

    def broken():
        seen = look()
        seen["a"]["arm"][1] = np.nan
        return seen

    runner.env.envs[1]._look = broken
    assert "NaN or infinite observation for agent 'a', in step 0 of" in runner.sample()[0].problem


def test_an_observation_of_another_kind_is_told():
    config = config_of(HAPPOConfig, team("mixed", "box"))
    runner = toys.make_runner(config)
    env = runner.env.envs[0]
    look = env._look
    env._look = lambda: {"a": {k: x for k, x in look()["a"].items() if k != "eye"}}
    assert "agent 'a' is not of its space Dict" in runner.sample()[0].problem


@pytest.mark.parametrize(
    ("cls", "observations", "actions", "masked"),
    [
        (HASACConfig, "mixed grey", "multi moved", "a"),
        (HAD3QNConfig, "picture mixed", "shifted discrete", "ab"),
        (QMIXConfig, "numbers picture", "discrete shifted", "b"),
    ],
)
def test_off_policy_learners_take_them(cls, observations, actions, masked, tmp_path):
    model = {"max_seq_len": 4} if cls is QMIXConfig else {}
    config = off_policy(cls, team(observations, actions, masked), model=model)
    learner, (fragment,), before = off_policy_update(config)
    after = toys.all_weights(learner)
    assert all(torch.as_tensor(x).isfinite().all() for x in after.values())
    moved = {name for name, x in before.items() if not np.array_equal(x, after[name])}
    assert {name[0] for name in moved} >= {"a", "b", CRITIC}
    # Kept as bytes, and drawn as they were.
    replay = learner.replay
    batch = replay.take(np.arange(len(replay)))
    assert replay._rows.tables["seen"].array.dtype == np.uint8
    pair = batch.observations.items()
    rows = {m: x[:, 0].numpy() for m, x in pair}
    for m, x in rows.items():
        assert x.dtype == config.layout.row_dtype(m)
        given = fragment.observations[m][:, :, 0].swapaxes(0, 1)
        np.testing.assert_array_equal(x, given.reshape(-1, x.shape[-1]))
    replay.save(tmp_path / "rows")
    settings = {"sequence_length": model["max_seq_len"]} if model else {}
    read = JointReplay(config.layout, capacity=100, num_columns=2, **settings)
    assert read.nbytes == bytes_needed(config.layout, 100, 2, **settings)
    read.restore(tmp_path / "rows")
    again = read.take(np.arange(len(read)))
    for m, x in batch.observations.items():
        assert torch.equal(again.observations[m], x)
    joint = [as_dtype(rows[m], np.dtype(np.uint8)) for m in ("a", "b")]
    np.testing.assert_array_equal(batch.state.numpy(), np.concatenate(joint, -1))


@pytest.mark.usefixtures("ray_local")
def test_loaded_policies_act_as_the_runner_did(tmp_path):
    env_config = team("mixed discrete frames mixed", "mixed chosen whole mixed", "bc")
    config = config_of(HAPPOConfig, env_config, sharing={"eyes": ["a", "d"]})
    algo = config.build_algo()
    algo.train()
    path = algo.save_to_path(str(tmp_path))
    policies = load_policies(path)
    restored = HAPPO.from_checkpoint(path)
    for m in config.layout.groups:
        before, after = (a.get_module(m).state_dict() for a in (algo, restored))
        assert before.keys() == after.keys()
        assert all(torch.equal(x, after[name]) for name, x in before.items())
        assert restored.get_module(m).observation_space == config.layout.observation_space(m)
    restored.train()
    restored.stop()
    runner = toys.make_runner(config)
    for m, module in runner.module.items():
        module.set_state(algo.get_module(m).get_state())
    algo.stop()
    env = runner.env.envs[0]
    seen, look = [], env._look
    env._look = lambda: seen.append(look()) or seen[-1]
    runner.sample(num_timesteps=6, explore=False)
    for observations, given in zip(seen, env.given, strict=False):
        acted = policies.act(observations)
        for agent, action in acted.items():
            assert env.action_spaces[agent].contains(action)
            assert_alike(action, given[agent])
    eyes = np.stack([encoded(policies.layout.team.row_spaces["a"], x["a"]) for x in seen[:3]])
    together = policies.act_batch(["a"] * 3, eyes)
    for i, observations in enumerate(seen[:3]):
        assert_alike(pick(together, i), policies.act({"a": observations["a"]})["a"])
    unlike = team("mixed discrete frames grey", "mixed chosen whole mixed", "bc")
    with pytest.raises(ValueError, match="observation shape of agent 'd'"):
        config.copy(copy_frozen=False).evaluation(
            evaluation_interval=1, evaluation_config={"env_config": unlike}
        ).multi_agent(parameter_sharing="none").validate()


def test_check_env_knows_them():
    report = check_env(KindsTeam, team("mixed numbers", "mixed chosen", "ab", state="frames"))
    assert report.ok, report
    assert not [f for f in report.findings if f.severity == "warning"], report

    class Halved(KindsTeam):
        def _look(self):
            seen = super()._look()
            seen["a"] = seen["a"] | {"eye": seen["a"]["eye"] / 2}
            return seen

    report = check_env(Halved, team("mixed", "box"), seconds=5.0)
    assert any("eye: it is float64" in f.seen for f in report.findings), report


class Batch(VectorTeamEnv):
    """Batched by nature: one agent sees a picture and counts, and lifts and turns."""

    def __init__(self, env_config):
        n = self.num_envs = env_config.get("num_envs", 1)
        seen = Dict({"eye": Box(0, 255, (4, 4, 3), np.uint8), "count": Discrete(3, start=1)})
        done = Dict({"lift": Discrete(2, start=1), "turn": Box(-1, 1, (1, 1), np.float32)})
        self.team = Team(("a",), {"a": seen}, {"a": done}, state_space=Discrete(2))
        self.observations = {"a": np.zeros((n, 4 * 4 * 3 + 3), np.uint8)}
        self.state = np.zeros((n, 2), np.float32)
        self.active = np.ones((n, 1), bool)
        self.infos = [{} for _ in range(n)]
        self.t = np.zeros(n, int)

    def reset(self, envs, seeds):
        self.t[envs] = 0
        self._observe()

    def step(self, actions):
        lift, turn = actions["a"]["lift"], actions["a"]["turn"]
        assert lift.shape == (self.num_envs,) and turn.shape == (self.num_envs, 1, 1)
        assert set(lift.tolist()) <= {1, 2}
        self.t += 1
        self._observe()
        never = np.zeros(self.num_envs, bool)
        reward = (lift * turn[:, 0, 0])[:, None].astype(np.float32)
        return Outcome(reward, never, self.t == 4, never.copy())

    def _observe(self):
        rows = self.observations["a"]
        rows[:] = 0
        # Pictures are a part of the rows, in the order of the Dict's keys.
        rows[:, :3] = np.arange(3) == (self.t % 3)[:, None]
        rows[:, 3] = 10 * self.t
        self.state[:] = np.arange(2) == (self.t % 2)[:, None]


def test_what_is_batched_by_nature_holds_rows():
    report = check_env(Batch, seconds=5.0)
    assert report.ok, report
    config = toys.small_config(
        HAPPOConfig, Batch, num_envs=2, steps=6, model={"conv_filters": [[4, 3, 3]]}
    )
    learner, runner = toys.make_learner(config), toys.make_runner(config)
    toys.update(learner, toys.sample(runner, learner))
    env = SingleTeamEnv(Batch({}))
    observation, _ = env.reset()
    assert env.observation_spaces["a"].contains(observation["a"])
    observation, *_ = env.step({"a": env.action_spaces["a"].sample()})
    assert observation["a"]["count"] == 2 and observation["a"]["eye"][0, 0, 0] == 10
    assert env.state() == 1


TOGETHER = team("vector", "mixed")
REFUSED = {
    "both, with RLlib's runner": (
        lambda: (
            config_of(HAPPOConfig, TOGETHER)
            .env_runners(env_runner_cls=MultiAgentEnvRunner)
            .validate()
        ),
        r"actions of \['a'\] are both choices and numbers.*env_runner_cls",
    ),
    "a mask of numbers": (
        lambda: config_of(HAPPOConfig, team("picture", "moved", "a")),
        r"agent 'a' has an action mask, but.*actions with choices",
    ),
    "convolutions without pictures": (
        lambda: config_of(HAPPOConfig, TOGETHER, model={"conv_features": 32}),
        r"`conv_features` is for pictures, and nobody sees any: remove it",
    ),
    "no convolutions": (
        lambda: config_of(HAPPOConfig, team("grey", "box"), model={"conv_filters": [[16, 4]]}),
        r"`conv_filters` is .*must be a list of \[channels, kernel, stride\]",
    ),
    "nothing left": (
        lambda: config_of(
            HAPPOConfig, team("grey", "box"), model={"conv_filters": [[4, 13, 2, "valid"]]}
        ),
        r"Nothing is left of a picture of shape \(12, 12\).*conv_filters",
    ),
    "the scale of pictures": (
        lambda: config_of(HAPPOConfig, team("mixed vector", "box box"), model={"input_norm": True}),
        r"`input_norm` keeps the statistics of vectors, and pictures.* are seen by a: use "
        r"config\.rl_module\(model_config=\{'input_norm': False\}\)",
    ),
    "the scale of a pictured state, off-policy": (
        lambda: off_policy(
            HASACConfig,
            team("vector vector", "box box", state="grey"),
            model={"input_norm": True},
        ),
        r"`input_norm` .*seen by the state: use .*'input_norm': False",
    ),
    "no parts": (
        lambda: config_of(HAPPOConfig, TOGETHER, model={"part_hidden_sizes": [8]}),
        r"`part_hidden_sizes` is for Dict and Tuple observations, and there are none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_what_mends_it(case):
    make, message = REFUSED[case]
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        make()
