"""The team env runner: shapes, seeds, quotas, actions, metrics, bootstrapping, callbacks."""

import numpy as np
import pytest
import runner_toys as toys
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from runner_toys import Drift, DriftBatch, ScriptedTeam

from rllib_hetero import HAPPOConfig, MAPPOConfig, TeamError
from rllib_hetero.functional import distribution_for
from rllib_hetero.layout import CRITIC
from rllib_hetero.runners import tally, team_env_runner
from rllib_hetero.runners.episode import TeamEpisode
from rllib_hetero.runners.vector_env import SyncVectorTeamEnv

MIXED = {"a": "box", "b": "discrete", "c": "multi"}


def runner_of(env_config=None, *, env=ScriptedTeam, num_envs=2, worker_index=0, **settings):
    config = toys.small(HAPPOConfig(), env, env_config, num_envs=num_envs)
    config.update_from_dict(settings)
    config.validate()
    torch.manual_seed(0)
    weights = toys.actor_weights(toys.make_modules(config))
    return toys.make_runner(config, weights=weights, worker_index=worker_index)


def same(a, b):
    a, b = toys.arrays_of(a), toys.arrays_of(b)
    return a.keys() == b.keys() and all(np.array_equal(x, b[k]) for k, x in a.items())


def metrics_of(runner):
    def peek(x):
        return {k: peek(v) for k, v in x.items()} if isinstance(x, dict) else x.peek()

    return peek(runner.get_metrics())


# ---- what is sampled ------------------------------------------------------------------------


def test_shapes():
    runner = runner_of({"actions": MIXED, "state": True, "dies": {"b": 2}}, num_envs=3)
    (f,) = runner.sample(num_timesteps=12)
    sizes = {m: x.shape for m, x in f.observations.items()}
    assert sizes == {"a": (4, 3, 1, 3), "b": (4, 3, 1, 5), "c": (4, 3, 1, 5)}
    assert {m: x.shape for m, x in f.actions.items()} == {
        "a": (4, 3, 1, 2),
        "b": (4, 3, 1),
        "c": (4, 3, 1, 2),
    }
    assert {m: x.shape[3:] for m, x in f.dist_inputs.items()} == {"a": (4,), "b": (4,), "c": (5,)}
    for m in "abc":
        assert f.log_probs[m].shape == f.active[m].shape == (4, 3, 1)
        assert f.observations[m].dtype == f.dist_inputs[m].dtype == np.float32
        assert f.last_observations[m].shape == f.observations[m].shape[1:]
    assert f.rewards.shape == (4, 3, 3) and f.rewards.dtype == np.float32
    assert f.state.shape == (4, 3, 4) and f.last_state.shape == (3, 4)
    for x in (f.valid, f.terminated, f.truncated):
        assert x.shape == (4, 3) and x.dtype == bool
    assert f.active["b"][:, 0, 0].tolist() == [True, True, False, False]
    assert (f.observations["b"][2:] == 0).all() and (f.rewards[2:, :, 1] == 0).all()
    assert f.env_steps() == len(f) == 12 and f.agent_steps() == 12 + 6 + 12


@pytest.mark.parametrize(("asked", "given"), [(1, 3), (9, 9), (10, 12)])
def test_timesteps_are_rounded_up_to_whole_vector_steps(asked, given):
    runner = runner_of(num_envs=3)
    assert runner.sample(num_timesteps=asked)[0].env_steps() == given


def test_one_rollout_fragment_without_a_number():
    (f,) = runner_of(rollout_fragment_length=7, train_batch_size_per_learner=28).sample()
    assert f.valid.shape == (7, 2)
    with pytest.raises(ValueError, match="not both"):
        runner_of().sample(num_timesteps=1, num_episodes=1)


def test_consecutive_calls_continue_their_episodes():
    whole = runner_of().sample(num_timesteps=24, explore=False)[0]
    runner = runner_of()
    first, second = (runner.sample(num_timesteps=n, explore=False)[0] for n in (14, 10))
    for m in "abc":
        joined = np.concatenate([first.observations[m], second.observations[m]])
        assert np.array_equal(joined, whole.observations[m])
        assert np.array_equal(first.last_observations[m], second.observations[m][0])
    fresh = runner.sample(num_timesteps=4, explore=False, force_reset=True)[0]
    assert (fresh.observations["a"][0, :, 0, 2] == 0).all()  # the step


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_what_follows_the_last_row_is_the_next_fragments_first(steps):
    """Rollouts that end before, at and after a death, and at the end of an episode."""
    runner = runner_of({"actions": MIXED, "masked": "bc", "dies": {"b": 2}, "state": True})
    first, second = (runner.sample(num_timesteps=2 * n)[0] for n in (steps, 3))
    for last, rows in (
        (first.last_observations, second.observations),
        (first.last_active, second.active),
        (first.last_action_masks, second.action_masks),
        ({"": first.last_state}, {"": second.state}),
    ):
        assert last.keys() == rows.keys()
        for m, x in last.items():
            assert np.array_equal(x, rows[m][0])
    assert first.last_active["b"].all() == (steps in (1, 5))
    part = first.select(range(1, 2))
    assert np.array_equal(part.last_active["b"], first.last_active["b"][1:])
    assert np.array_equal(part.last_action_masks["b"], first.last_action_masks["b"][1:])


# ---- seeds ----------------------------------------------------------------------------------


def seeds_of(runner, steps=22):
    runner.sample(num_timesteps=steps * runner.num_envs)
    return [env.seeds for env in runner.env.envs]


def flat(lists):
    return [x for part in lists for x in part]


def test_reset_seeds_are_all_unequal():
    seeds = []
    for worker_index in range(3):
        runner = runner_of(num_envs=3, worker_index=worker_index)
        seeds += flat(seeds_of(runner))
        config = runner.config.copy(copy_frozen=False)
        config.in_evaluation = True
        seeds += flat(seeds_of(toys.make_runner(config, worker_index=worker_index)))
    assert len(seeds) == 3 * 2 * 3 * 5  # runners, evaluation, sub-environments, episodes
    assert len(set(seeds)) == len(seeds)
    assert all(type(s) is int and 0 <= s < 2**31 for s in seeds)


def test_reset_seeds_follow_from_the_config():
    seeds = seeds_of(runner_of())
    assert seeds == seeds_of(runner_of())
    # From the episode's number: neither lengths nor the number of sub-environments matter.
    other = seeds_of(runner_of({"lengths": [7, 2]}, num_envs=4))
    for e in range(2):
        n = min(len(seeds[e]), len(other[e]))
        assert n > 2 and seeds[e][:n] == other[e][:n]
    assert set(flat(seeds)).isdisjoint(flat(seeds_of(runner_of(seed=4))))
    # Without a seed, two runs differ.
    assert seeds_of(runner_of(seed=None)) != seeds_of(runner_of(seed=None))


@pytest.mark.parametrize("kwargs", [{}, {"random_actions": True}], ids=str)
def test_the_same_seed_gives_the_same_fragment(kwargs):
    def fragments(**settings):
        runner = runner_of({"actions": MIXED, "state": True, "dies": {"b": 2}}, **settings)
        torch.manual_seed(np.random.randint(2**31))  # global streams do not matter
        return [runner.sample(num_timesteps=n, **kwargs)[0] for n in (12, 14)]

    first = fragments()
    assert all(same(f, g) for f, g in zip(first, fragments(), strict=True))
    assert not same(first[0], first[1])
    assert not np.array_equal(first[0].actions["a"], first[1].actions["a"][:6])
    for settings in ({"worker_index": 1}, {"seed": 4}):
        assert not np.array_equal(first[0].actions["a"], fragments(**settings)[0].actions["a"])


def test_progress_is_part_of_the_state():
    """A restored runner has the episodes and the noise of the uninterrupted one."""
    runner = runner_of(env=Drift)
    runner.sample(num_timesteps=2 * 2 * Drift.LENGTH)
    state = runner.get_state()
    restored = runner_of(env=Drift)
    assert not same(*(r.sample(num_timesteps=24)[0] for r in (runner, runner_of(env=Drift))))
    restored.set_state(state)
    runner.set_state(state)
    a, b = (r.sample(num_timesteps=24)[0] for r in (runner, restored))
    uninterrupted = runner_of(env=Drift)
    uninterrupted.sample(num_timesteps=24)
    c = uninterrupted.sample(num_timesteps=24)[0]
    assert same(a, b) and same(b, c)


def test_episodes_under_way_are_given_up_by_a_restore():
    runner = runner_of()
    runner.sample(num_timesteps=2 * 7)  # in the second episode of each
    restored = runner_of()
    restored.set_state(runner.get_state())
    seeds, after = seeds_of(runner), seeds_of(restored)
    for e in range(2):
        assert after[e][:4] == seeds[e][2:6]


def test_another_runners_progress_is_not_taken():
    runner, other = runner_of(worker_index=1), runner_of(worker_index=2)
    runner.sample(num_timesteps=22)
    before = other.get_progress()
    other.set_state(runner.get_state())
    assert other.get_progress() == before
    other.sample(num_timesteps=2)
    assert other.get_progress()["episode_number"] == [1, 1]
    assert "team_progress" not in runner.get_state(not_components="team_progress")


# ---- numbers of episodes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "num_episodes", "quota"),
    [
        ({0: 2, 1: 10}, 7, [4, 3]),
        ({0: 2, 1: 10}, 1, [1, 0]),
        ({0: 2, 1: 100}, 2, [1, 1]),  # longer than one stretch of steps
        ({0: 10, 1: 2}, 8, [4, 4]),
    ],
)
def test_exactly_that_many_episodes_shared_evenly(lengths, num_episodes, quota):
    """Counting the first to end would favour the short ones of one sub-environment."""
    ended = []
    runner = runner_of(
        {"lengths": lengths},
        callbacks_on_episode_end=lambda env_index, **_: ended.append(env_index),
    )
    runner.sample(num_timesteps=6)  # an episode under way does not count
    runner.get_metrics()
    ended.clear()
    (fragment,) = runner.sample(num_episodes=num_episodes)
    metrics = metrics_of(runner)
    assert metrics["num_episodes"] == num_episodes
    total = quota[0] * lengths[0] + quota[1] * lengths[1]
    assert metrics["episode_len_mean"] == pytest.approx(total / num_episodes)
    assert [ended.count(e) for e in (0, 1)] == quota
    assert metrics["num_env_steps_sampled"] == fragment.env_steps() == total
    # The next call starts afresh.
    (f,) = runner.sample(num_timesteps=2)
    assert (f.observations["a"][0, :, 0, 2] == 0).all()


def test_no_episodes():
    assert runner_of().sample(num_episodes=0) == []


def test_complete_episodes():
    runner = runner_of({"lengths": {0: 3, 1: 5}}, batch_mode="complete_episodes")
    for _ in range(2):
        runner.sample()
        assert metrics_of(runner)["num_episodes"] == 2


# ---- actions --------------------------------------------------------------------------------


def test_greedy_actions():
    (f,) = runner_of({"actions": MIXED}).sample(num_timesteps=20, explore=False)
    assert np.array_equal(f.actions["a"], f.dist_inputs["a"][..., :2])
    assert np.array_equal(f.actions["b"], f.dist_inputs["b"].argmax(-1))
    parts = f.dist_inputs["c"][..., :3], f.dist_inputs["c"][..., 3:]
    assert np.array_equal(f.actions["c"], np.stack([p.argmax(-1) for p in parts], -1))
    (g,) = runner_of({"actions": MIXED}).sample(num_timesteps=20, explore=True)
    assert not any(np.array_equal(f.actions[m], g.actions[m]) for m in "abc")
    # None is the config's.
    (h,) = runner_of({"actions": MIXED}, explore=False).sample(num_timesteps=20)
    assert all(np.array_equal(f.actions[m], h.actions[m]) for m in "abc")


def test_recorded_log_probs_are_those_of_the_recorded_inputs():
    runner = runner_of({"actions": MIXED})
    (f,) = runner.sample(num_timesteps=20)
    for m in "abc":
        dist = distribution_for(runner.config.layout.action_space(m))
        expected = dist.log_prob(*(torch.from_numpy(x[m]) for x in (f.dist_inputs, f.actions)))
        assert torch.allclose(torch.from_numpy(f.log_probs[m]), expected)
        with torch.no_grad():
            rows = torch.from_numpy(f.observations[m])
            out = runner.module[m].forward_inference({Columns.OBS: rows})
        np.testing.assert_allclose(out[Columns.ACTION_DIST_INPUTS], f.dist_inputs[m], atol=1e-5)


def actions_in_env(runner, agent):
    """(T, E, ...) what the environments were given."""
    per_env = [[actions[agent] for _, _, actions in env.log] for env in runner.env.envs]
    return np.stack([np.array(x) for x in per_env], axis=1)


@pytest.mark.parametrize(
    ("settings", "transform"),
    [
        ({}, lambda x: np.clip(x, -0.5, 0.5)),
        ({"clip_actions": False}, lambda x: x),
        # RLlib's: from [-1, 1] to the bounds.
        ({"normalize_actions": True}, lambda x: 0.5 * np.clip(x, -1, 1)),
    ],
    ids=["clip", "as is", "normalize"],
)
def test_clipped_and_normalized_actions(settings, transform):
    """The environment sees the transformed action, the batch keeps the policy's own."""
    runner = runner_of({"actions": {"b": "discrete", "c": "multi"}}, **settings)
    (f,) = runner.sample(num_timesteps=60)
    own = f.actions["a"][:, :, 0]
    assert np.abs(own).max() > 1.0
    np.testing.assert_allclose(actions_in_env(runner, "a"), transform(own), rtol=1e-6)
    for m in "bc":
        assert np.array_equal(actions_in_env(runner, m), f.actions[m][:, :, 0])
    assert all(type(actions["b"]) is int for _, _, actions in runner.env.envs[0].log)


@pytest.mark.parametrize("normalize", [False, True])
def test_random_actions_are_uniform_in_the_space(normalize):
    runner = runner_of({"actions": MIXED, "lengths": [50]}, normalize_actions=normalize)
    runner.sample(num_timesteps=600, random_actions=True)
    box = actions_in_env(runner, "a")
    assert abs(box.mean()) < 5 * 12**-0.5 / box.size**0.5
    assert box.std() == pytest.approx(12**-0.5, rel=0.1)
    counts = np.bincount(actions_in_env(runner, "b").ravel(), minlength=4)
    assert (np.abs(counts - 150) < 5 * (600 * 0.25 * 0.75) ** 0.5).all()
    assert actions_in_env(runner, "c").reshape(-1, 2).max(0).tolist() == [2, 1]


def test_noise_follows_from_the_documented_key():
    runner = runner_of(seed=3, worker_index=2)
    dist = distribution_for(runner.config.layout.action_space("a"))
    for draws_before in range(2):
        (f,) = runner.sample(num_timesteps=8, explore=True)
        rng = np.random.default_rng(np.random.SeedSequence([3, 2, 0, 1, draws_before]))
        noise = dist.noise(rng, (4, 1, 2, 1))[:, 0]  # Agent a is alone in the first stack.
        assert np.array_equal(f.actions["a"], dist.act(f.dist_inputs["a"], noise))
        runner.sample(num_timesteps=8, explore=False)  # draws nothing


# ---- metrics --------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_metrics_by_hand(shared):
    """Agent a dies after 2 of 5 steps; each of two sub-environments ends two episodes."""
    case = {"dies": {"a": 2}, "shared": shared}
    runner = runner_of(case)
    (f,) = runner.sample(num_timesteps=2 * 12)
    metrics = metrics_of(runner)
    episodes = np.stack([f.rewards[:5], f.rewards[5:10]])  # (2, 5, E, n)
    agents = episodes.sum(1)  # (2, E, n)
    assert (episodes[:, 2:, :, 0] == 0).all() and (episodes[:, 2:, :, 2] != 0).any()
    team = agents[..., 2] if shared else agents.sum(-1)
    assert metrics["episode_return_mean"] == pytest.approx(team.mean(), rel=1e-5)
    assert metrics["episode_return_min"] == pytest.approx(team.min(), rel=1e-5)
    assert metrics["episode_return_max"] == pytest.approx(team.max(), rel=1e-5)
    expected = dict(zip("abc", agents.mean((0, 1)), strict=True))
    assert metrics["agent_episode_returns_mean"] == pytest.approx(expected, rel=1e-5)
    assert metrics["module_episode_returns_mean"] == pytest.approx(expected, rel=1e-5)
    assert metrics["agent_steps"] == {"a": 2, "b": 5, "c": 5}
    assert metrics["episode_len_mean"] == metrics["episode_len_max"] == 5
    assert metrics["num_episodes"] == 4
    assert metrics["num_env_steps_sampled"] == 24
    steps = {"a": 2 * 6, "b": 24, "c": 24}
    assert metrics["num_agent_steps_sampled"] == metrics["num_module_steps_sampled"] == steps


def test_metrics_of_an_episode_over_two_calls():
    runner = runner_of()
    first, second = (runner.sample(num_timesteps=n)[0] for n in (6, 4))
    rewards = np.concatenate([first.rewards, second.rewards])
    metrics = metrics_of(runner)
    assert metrics["episode_return_mean"] == pytest.approx(rewards.sum((0, 2)).mean(), rel=1e-5)
    assert metrics["episode_len_mean"] == 5


def test_module_metrics_add_up_a_groups_agents():
    config = toys.small(HAPPOConfig()).multi_agent(parameter_sharing={"bc": ["b", "c"]})
    runner = toys.make_runner(config)
    (f,) = runner.sample(num_timesteps=10)
    metrics = metrics_of(runner)
    both = f.rewards[..., 1:].sum((0, 2)).mean()
    assert metrics["module_episode_returns_mean"]["bc"] == pytest.approx(both, rel=1e-5)
    assert metrics["num_module_steps_sampled"] == {"a": 10, "bc": 20}


# ---- ends of episodes -----------------------------------------------------------------------


def spied(runner):
    """Records what every sub-environment returns: lists of (observations, state) per env."""
    seen = []
    for env in runner.env.envs:
        seen.append([])
        step = env.step

        def spied_step(action_dict, env=env, step=step, seen=seen[-1]):
            out = step(action_dict)
            seen.append((out[0], env.state()))
            return out

        env.step = spied_step
    return seen


def test_true_finals_at_truncation_none_at_termination():
    runner = runner_of({"ends": "alternate", "state": True, "dies": {"b": 2}})
    seen = spied(runner)
    (f,) = runner.sample(num_timesteps=2 * 12)
    # Episodes 0, 1, 2 start at steps 0, 5, 10; the even ones are cut, the odd ones terminate.
    assert np.argwhere(f.truncated).tolist() == [[4, 0], [4, 1]]
    assert np.argwhere(f.terminated).tolist() == [[9, 0], [9, 1]]
    assert f.finals.step.tolist() == [4, 4] and f.finals.env.tolist() == [0, 1]
    for k, e in enumerate((0, 1)):
        observations, state = seen[e][4]
        for m in "ac":
            assert np.array_equal(f.finals.observations[m][k, 0], observations[m])
            assert f.finals.active[m][k].all()
        assert (f.finals.observations["b"][k] == 0).all()  # dead
        assert not f.finals.active["b"][k].any()
        assert np.array_equal(f.finals.state[k], state)
        observations, state = seen[e][11]
        assert np.array_equal(f.last_observations["a"][e, 0], observations["a"])
        assert np.array_equal(f.last_state[e], state)


@pytest.mark.parametrize("state", [False, True])
def test_advantages_bootstrap_from_the_true_ends(state):
    """Against the recursion written out, from what the environment itself returned."""
    case = {"ends": "alternate", "state": state, "lengths": [3], "agents": {"a": 3, "b": 4}}
    config = toys.small(HAPPOConfig(), ScriptedTeam, case, num_envs=1).training(
        gamma=0.8, lambda_=0.5
    )
    modules = toys.make_modules(config)
    runner = toys.make_runner(config, weights=toys.actor_weights(modules))
    seen = spied(runner)[0]
    (f,) = runner.sample(num_timesteps=7)  # cut at step 2, terminated at step 5, one more
    batch = toys.team_batch([f], config, modules)[CRITIC]

    def value(observations, state_now):
        joint = state_now if state else np.concatenate([observations["a"], observations["b"]])
        return toys.values(modules, joint[None])[0]

    v = toys.values(modules, batch[Columns.OBS])
    following = [value(*x) for x in seen]
    following[5] = 0.0
    rewards = f.rewards[:, 0].sum(-1)
    delta = rewards + 0.8 * np.array(following) - v
    expected = [
        delta[0] + 0.4 * (delta[1] + 0.4 * delta[2]),
        delta[1] + 0.4 * delta[2],
        delta[2],
        delta[3] + 0.4 * (delta[4] + 0.4 * delta[5]),
        delta[4] + 0.4 * delta[5],
        delta[5],
        delta[6],
    ]
    np.testing.assert_allclose(batch[Columns.ADVANTAGES], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch[Columns.VALUE_TARGETS], expected + v, rtol=1e-4, atol=1e-5)


# ---- environments batched by nature; other people's modules ---------------------------------


def test_a_batched_environment_equals_single_ones():
    single, batched = runner_of(env=Drift, num_envs=3), runner_of(env=DriftBatch, num_envs=3)
    assert isinstance(single.env, SyncVectorTeamEnv) and isinstance(batched.env, DriftBatch)
    for _ in range(2):
        a, b = (r.sample(num_timesteps=3 * 8)[0] for r in (single, batched))
        assert same(a, b) and a.truncated.any()
    a, b = metrics_of(single), metrics_of(batched)
    assert a["episode_return_mean"] == b["episode_return_mean"] < 0


def test_a_batched_environment_trains(ray_local):
    results = []
    for env in (Drift, DriftBatch):
        algo = toys.small(HAPPOConfig(), env, num_envs=3, batch=24).build_algo()
        result = algo.train()
        results.append((result["env_runners"]["episode_return_mean"], toys.parameters(algo)))
        algo.stop()
    assert results[0][0] == pytest.approx(results[1][0])
    assert toys.equal(results[0][1], results[1][1])


def test_a_batched_environment_of_another_size():
    class Four(DriftBatch):
        def __init__(self, config):
            super().__init__({"num_envs": 4})

    config = toys.small(HAPPOConfig(), Four, num_envs=3)
    config.validate()
    with pytest.raises(TeamError, match=r"holds 4.*num_envs_per_env_runner=3.*num_envs"):
        toys.make_runner(config)


@pytest.mark.parametrize("config", [HAPPOConfig, MAPPOConfig])
def test_somebodys_own_module(ray_local, config):
    config = toys.small(config(), ScriptedTeam, {"actions": MIXED})
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=toys.Linear))
    algo = config.build_algo()
    runner = algo.env_runner
    assert all(isinstance(runner.module[m], toys.Linear) for m in "abc")
    (f,) = runner.sample(num_timesteps=8)
    for m in "abc":
        layer = runner.module[m].layer
        expected = layer(torch.from_numpy(f.observations[m])).detach()
        np.testing.assert_allclose(f.dist_inputs[m], expected, atol=1e-6)
    before = toys.parameters(algo)
    algo.train()
    after = toys.parameters(algo)
    assert not any(torch.equal(x, after[k]) for k, x in before.items())
    assert torch.equal(runner.module["a"].layer.weight, after["a", "layer.weight"])
    algo.stop()


# ---- callbacks ------------------------------------------------------------------------------

EVENTS = (
    "on_environment_created",
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
    "on_sample_end",
)


class Recording(RLlibCallback):
    events: list = []


def note(name, into):
    """A callback that keeps what it saw, as numbers: episodes change."""

    def callback(*_, **kwargs):
        entry = {"name": name, **kwargs}
        episode = kwargs.get("episode")
        if episode is not None:
            assert isinstance(episode, TeamEpisode)
            if name == "on_episode_start":
                episode.custom_data["mark"] = episode.id_
            entry.update(
                length=len(episode),
                ret=episode.get_return(),
                returns=episode.agent_returns,
                done=(episode.is_done, episode.is_terminated, episode.is_truncated),
            )
        into.append(entry)

    return callback


for event in EVENTS:
    setattr(Recording, event, note(event, Recording.events))


@pytest.mark.parametrize("style", ["class", "functions"])
@pytest.mark.parametrize("shared", [False, True])
def test_callbacks(style, shared):
    events = Recording.events
    events.clear()
    case = {"ends": "alternate", "dies": {"a": 2}, "shared": shared}
    if style == "class":
        runner = runner_of(case, callbacks_class=Recording)
    else:
        runner = runner_of(case, **{f"callbacks_{n}": note(n, events) for n in EVENTS})
    (f,) = runner.sample(num_timesteps=2 * 12)
    counts = {n: sum(e["name"] == n for e in events) for n in EVENTS}
    assert counts == {
        "on_environment_created": 1,
        "on_episode_created": 6,  # two sub-environments, three episodes each
        "on_episode_start": 6,
        "on_episode_step": 24,
        "on_episode_end": 4,
        "on_sample_end": 1,
    }
    assert events[0]["env"] is runner.env and events[-1]["samples"] == [f]
    ends = [e for e in events if e["name"] == "on_episode_end"]
    team = f.rewards[..., 2] if shared else f.rewards.sum(-1)
    for i, entry in enumerate(ends):
        number, e = divmod(i, 2)
        steps = slice(5 * number, 5 * number + 5)
        assert entry["env_index"] == e and entry["length"] == 5
        assert entry["ret"] == pytest.approx(team[steps, e].sum(), rel=1e-5)
        expected = dict(zip("abc", f.rewards[steps, e].sum(0), strict=True))
        assert entry["returns"] == pytest.approx(expected, rel=1e-5)
        assert entry["done"] == (True, number == 1, number == 0)
        episode = entry["episode"]
        assert episode.custom_data["mark"] == episode.id_
        assert episode.get_infos(-1).keys() == {"b", "c"}
        assert entry["env_runner"] is runner and entry["rl_module"] is runner.module
    steps = [e for e in events if e["name"] == "on_episode_step" and e["env_index"] == 1]
    assert [e["length"] for e in steps] == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
    np.testing.assert_allclose([e["ret"] for e in steps[:5]], team[:5, 1].cumsum(), rtol=1e-5)
    assert [e["done"][0] for e in steps[3:6]] == [False, True, False]
    assert len({e["episode"].id_ for e in events if "episode" in e}) == 6


def test_callbacks_of_one_kind_only_are_not_paid_for(monkeypatch):
    updates = []
    update = TeamEpisode.update
    monkeypatch.setattr(
        TeamEpisode, "update", lambda self, **kw: (updates.append(1), update(self, **kw))
    )
    ends = []
    runner = runner_of(callbacks_on_episode_end=lambda episode, **_: ends.append(len(episode)))
    runner.sample(num_timesteps=24)
    assert ends == [5] * 4 and len(updates) == 4  # not at each of 24 steps

    # Without any, not even an episode object is made.
    monkeypatch.setattr(tally, "TeamEpisode", None)
    for module in (team_env_runner, tally):
        monkeypatch.setattr(module, "make_callback", lambda name, **_: updates.append(name))
    updates.clear()
    runner_of().sample(num_timesteps=24)
    assert updates == ["on_environment_created", "on_sample_end"]
