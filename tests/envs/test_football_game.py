"""Google Research Football: the game itself, which scripts/build_football_wheel.sh installs."""

import gc
from types import SimpleNamespace

import numpy as np
import pytest

from rllib_hetero import HAPPOConfig
from rllib_hetero.envs.football import SCENARIOS, make_football
from rllib_hetero.envs.football.engine import gym_stand_in
from rllib_hetero.team import Team

pytest.importorskip("gfootball_engine")

PASS_AND_SHOOT = "academy_pass_and_shoot_with_keeper"
SHOT = 12


def make(scenario=PASS_AND_SHOOT, **settings):
    return make_football({"scenario": scenario, **settings})


def random_steps(env, seed, steps):
    """Resets and steps at random: all observations, states, rewards and flags."""
    rng = np.random.default_rng(seed)
    observations, _ = env.reset(seed=seed)
    record = [(*observations.values(), env.state())]
    for _ in range(steps):
        actions = {a: int(rng.integers(19)) for a in env.possible_agents}
        observations, rewards, terminated, truncated, _ = env.step(actions)
        flags = [terminated["__all__"], truncated["__all__"]]
        record.append((*observations.values(), env.state(), [*rewards.values(), *flags]))
        if not env.agents:
            break
    return [np.concatenate(row) for row in record]


def equal(one, other):
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios(scenario):
    for num_agents in {*SCENARIOS[scenario], 1}:
        env = make(scenario, num_agents=num_agents)
        team = Team.from_env(env)
        assert len(team.agents) == num_agents
        observations, _ = env.reset(seed=3)
        for _ in range(3):
            assert all(env.observation_spaces[a].contains(x) for a, x in observations.items())
            assert env.state_space.contains(env.state())
            observations, rewards, *_ = env.step(dict.fromkeys(team.agents, 0))
            assert list(rewards) == list(team.agents)
        players = [int(np.argmax(x[97:108])) for x in observations.values()]
        assert len(set(players)) == num_agents  # every agent a player of its own
        env.close()


def test_the_numbers_are_the_librarys():
    """Observations and rewards against gfootball's own wrappers."""
    with gym_stand_in():
        from gfootball.env.football_env import FootballEnv
        from gfootball.env.wrappers import CheckpointRewardWrapper, Simple115StateWrapper

    env = make("academy_3_vs_1_with_keeper", reward_scheme="individual")
    library = FootballEnv(env._config)
    checkpoints = object.__new__(CheckpointRewardWrapper)
    checkpoints.env = SimpleNamespace(unwrapped=library)
    checkpoints._num_checkpoints, checkpoints._checkpoint_reward = 10, 0.1
    collected = 0.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        ours, _ = env.reset(seed=seed)
        env._config["episode_number"] -= 1  # reset() has raised it
        theirs = library.reset()
        checkpoints._collected_checkpoints = {}
        while True:
            expected = Simple115StateWrapper.convert_observation(theirs, True)
            assert np.array_equal(np.stack(list(ours.values())), expected)
            if not env.agents:
                break
            # Mostly forward, so that checkpoints are reached.
            actions = rng.choice([5, 5, 13, *range(19)], 3)
            ours, rewards, terminated, truncated, _ = env.step(
                dict(zip(env.possible_agents, actions.tolist(), strict=True))
            )
            theirs, scored, done, _ = library.step(actions.tolist())
            assert list(rewards.values()) == pytest.approx(checkpoints.reward(scored), abs=1e-6)
            assert (terminated["__all__"] or truncated["__all__"]) == done
            collected += sum(rewards.values())
    assert collected > 0
    library.close()
    env.close()


def test_the_same_seed_gives_the_same_episode():
    env, other = make(), make()
    first = random_steps(env, 1, 60)
    again = random_steps(env, 1, 60)  # after an episode, in the same engine
    random_steps(other, 2, 30)
    assert equal(first, again)
    assert equal(first, random_steps(other, 1, 60))
    assert not equal(first, random_steps(env, 2, 60))
    env.close()
    reused = make()  # takes over the engine that was given back
    assert equal(first, random_steps(reused, 1, 60))
    reused.close()
    other.close()


def test_an_academy_episode_ends():
    env = make()
    env.reset(seed=0)
    steps = 0
    while env.agents:
        _, _, terminated, truncated, _ = env.step({"player_0": SHOT, "player_1": SHOT})
        steps += 1
    assert terminated["__all__"] != truncated["__all__"]
    assert steps < 400 or truncated["__all__"]
    assert set(env.episode_metrics()) >= {"score_rate", "win_rate", "goal", "lost", "pass_rate"}
    env.close()
    env.close()  # harmless
    gc.collect()


def test_a_picture_changes_nothing():
    def play_on(env):
        observations = None
        for t in range(8):
            if t == 4 and env.render_mode:
                frames.append(env.render())
            observations, *_ = env.step({"player_0": 5, "player_1": 5})
        return observations

    frames = []
    plain, drawn = make(), make(render_mode="rgb_array")
    for env in (plain, drawn):
        env.reset(seed=0)
    expected, seen = play_on(plain), play_on(drawn)
    assert frames[0].shape == (720, 1280, 3)
    assert frames[0].std() > 10  # a pitch, not one colour
    assert all(np.array_equal(seen[a], x) for a, x in expected.items())
    plain.close()
    drawn.close()


def test_trains_with_a_remote_runner(ray_local):
    config = (
        HAPPOConfig()
        .environment("football", env_config={"scenario": PASS_AND_SHOOT, "max_steps": 20})
        .env_runners(num_env_runners=1, num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=80, minibatch_size=None, num_epochs=1)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    result = algo.train()
    algo.stop()
    sampled = result["env_runners"]
    assert sampled["num_env_steps_sampled_lifetime"] == 80
    assert 0 <= sampled["win_rate"] <= sampled["score_rate"] <= 1
    assert {"goal", "lost", "assist", "pass", "pass_rate", "turnover"} <= set(sampled)
