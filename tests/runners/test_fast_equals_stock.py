"""The oracle: `TeamEnvRunner` gives what RLlib's own `MultiAgentEnvRunner` gives."""

import copy

import numpy as np
import pytest
import runner_toys as toys
import torch
from ray.rllib.core import Columns
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import ScriptedTeam

from rllib_hetero import HAPPOConfig
from rllib_hetero.connectors.episodes_to_fragment import fragment_from_episodes
from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.functional import distribution_for
from rllib_hetero.layout import CRITIC
from rllib_hetero.runners.episode import TeamEpisode
from rllib_hetero.runners.single_env import SingleTeamEnv
from rllib_hetero.runners.stock_runner import StockTeamEnvRunner

EQUAL = {"a": 4, "b": 4, "c": 4}
MIXED = {"a": "box", "b": "discrete", "c": "multi"}


def build(env, env_config, *, num_envs=2, sharing="none", **settings):
    """(config, fast runner, stock runner, all modules): equal weights, equal episodes."""
    configs = [
        toys.small(HAPPOConfig(), env, env_config, num_envs=num_envs, **kwargs)
        .multi_agent(parameter_sharing=sharing)
        .training(gamma=0.9)
        .update_from_dict(settings)
        # RLlib's checks make a step with any action, which masked environments refuse.
        .environment(disable_env_checking="masked" in env_config and bool(kwargs))
        for kwargs in ({}, {"env_runner_cls": MultiAgentEnvRunner})
    ]
    modules = toys.make_modules(configs[0])
    weights = toys.actor_weights(modules)
    fast = toys.make_runner(configs[0], weights=weights)
    stock = toys.make_runner(configs[1], StockTeamEnvRunner, weights=weights)
    assert configs[1].env_runner_cls is StockTeamEnvRunner
    starts = {}
    for runner in (fast, stock):
        for i, wrapped in enumerate(runner.env.envs):
            fix_starts(wrapped.unwrapped, i, starts)
    return configs[0], fast, stock, modules, starts


def fix_starts(env, index, starts):
    """The n-th episode of each sub-environment starts alike whoever asks, and is known by it."""
    reset, number = env.reset, iter(range(1000))
    env.index, env.episode, env.log = index, -1, []  # RLlib's checks have made a step

    def fixed_reset(*, seed=None, options=None):
        n = next(number)
        observations, infos = reset(seed=100 * index + n)
        first = observations[env.possible_agents[-1]]
        first = first["observations"] if isinstance(first, dict) else first
        starts[first.tobytes()] = (index, n)
        return observations, infos

    env.reset = fixed_reset


def row_names(fragment, config, starts):
    """(sub-environment, episode, step) of each row of the batch, and those of whole episodes."""
    agent = config.layout.team.agents[-1]
    m, k = config.layout.slot_of[agent]
    size = config.layout.team.observation_spaces[agent].shape[0]
    over = (fragment.terminated | fragment.truncated) & fragment.valid
    names, whole = [], set()
    for e in range(fragment.num_envs):
        episode = []
        for t in np.flatnonzero(fragment.valid[:, e]):
            if not episode:
                first = starts[fragment.observations[m][t, e, k, :size].tobytes()]
            episode.append((*first, len(episode)))
            if over[t, e]:
                whole.update(episode)
                names, episode = names + episode, []
        names += episode
    return names, whole


def assert_equal_batches(a, b, rows_a, rows_b, layout, advantage_rows=None):
    """Compares the rows in this order; what a policy gave for a dead agent does not matter."""
    for m in layout.groups:
        active = a[m][ACTIVE][rows_a].bool()
        torch.testing.assert_close(active, b[m][ACTIVE][rows_b].bool())
        for column in (
            Columns.OBS,
            Columns.ACTIONS,
            Columns.ACTION_DIST_INPUTS,
            Columns.ACTION_LOGP,
        ):
            x, y = a[m][column][rows_a], b[m][column][rows_b]
            if column != Columns.OBS:
                x, y = x[active], y[active]
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5, msg=lambda s, c=column: c + s)
    for column in (Columns.OBS, Columns.VF_PREDS, Columns.ADVANTAGES, Columns.VALUE_TARGETS):
        x, y = a[CRITIC][column][rows_a], b[CRITIC][column][rows_b]
        if column in (Columns.ADVANTAGES, Columns.VALUE_TARGETS) and advantage_rows is not None:
            x, y = x[advantage_rows], y[advantage_rows]
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-4, msg=lambda s, c=column: c + s)


def compare(env, env_config, steps, *, aligned=True, **settings):
    """Greedy rollouts of both runners: every row of the training batch, and the metrics."""
    config, fast, stock, modules, starts = build(env, env_config, **settings)
    num = steps * fast.num_envs
    (fragment,) = fast.sample(num_timesteps=num, explore=False)
    episodes = stock.sample(num_timesteps=num, explore=False)
    other = fragment_from_episodes(episodes, config.layout)
    assert fragment.problem is None and other.problem is None

    names, whole = row_names(fragment, config, starts)
    other_names, other_whole = row_names(other, config, starts)
    common = sorted(set(names) & set(other_names))
    if aligned:
        assert common == sorted(names) == sorted(other_names)
    assert len(whole & other_whole) >= 0.5 * num
    batch, other_batch = (toys.team_batch([f], config, modules) for f in (fragment, other))
    assert_equal_batches(
        batch,
        other_batch,
        [names.index(x) for x in common],
        [other_names.index(x) for x in common],
        config.layout,
        None if aligned else [i for i, x in enumerate(common) if x in whole & other_whole],
    )
    sampled = batch[config.layout.module_of[config.layout.team.agents[-1]]][Columns.ACTIONS]
    assert len(torch.unique(sampled.float().flatten().round(decimals=3))) > 1  # not all alike
    if aligned:
        assert_equal_metrics(fast.get_metrics(), stock.get_metrics())
    return fragment, other


def assert_equal_metrics(fast, stock):
    flat = {}
    for name, metrics in (("fast", fast), ("stock", stock)):
        for key in (
            "episode_return_mean",
            "episode_return_min",
            "episode_return_max",
            "episode_len_mean",
            "num_episodes",
            "num_env_steps_sampled",
            "agent_episode_returns_mean",
            "module_episode_returns_mean",
            "agent_steps",
        ):
            value = metrics[key]
            items = value.items() if isinstance(value, dict) else [("", value)]
            for sub, x in items:
                flat.setdefault((key, sub), {})[name] = float(x.peek())
    for key, pair in flat.items():
        assert pair["fast"] == pytest.approx(pair["stock"], rel=1e-5, abs=1e-4), key


@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize(
    "scenario", ["simple_spread", "simple_reference", "simple_speaker_listener"]
)
def test_mpe(scenario, continuous):
    pytest.importorskip("mpe2")
    config = {"scenario": scenario, "continuous_actions": continuous, "backend": "mpe2"}
    compare("mpe", config, 40)


def test_the_stock_runner_takes_batches_apart():
    config = toys.small(
        HAPPOConfig(),
        "mpe",
        {"scenario": "simple_speaker_listener"},
        env_runner_cls=MultiAgentEnvRunner,
    )
    weights = toys.actor_weights(toys.make_modules(config))
    runner = toys.make_runner(config, StockTeamEnvRunner, weights=weights)
    envs = [e.unwrapped for e in runner.env.envs]
    assert len(envs) == config.num_envs_per_env_runner
    assert all(isinstance(e, SingleTeamEnv) for e in envs)
    episodes = runner.sample(num_timesteps=50 * len(envs))
    assert [len(e) for e in episodes if e.is_done] == [25] * 2 * len(envs)
    other = fragment_from_episodes(episodes, config.layout)
    assert other.problem is None


@pytest.mark.parametrize(
    ("case", "steps"),
    [
        # Rollouts of 11, 12, 13 and 15 steps end before, at and after the death and at an end.
        ({"dies": {"b": 2}}, 11),
        ({"dies": {"b": 2}}, 12),
        ({"dies": {"b": 2}}, 13),
        ({"dies": {"b": 2, "c": 4}}, 15),
        ({"dies": {"b": 5}}, 12),  # with the rest
        ({"dies": {"b": 2}, "state": True}, 12),
        ({"dies": {"b": 2}, "shared": True, "ends": "alternate"}, 12),
        ({"ends": "terminate"}, 15),
        ({"ends": "alternate"}, 12),
        ({"ends": "alternate", "state": True}, 15),
        ({"actions": MIXED, "state": True}, 12),
    ],
    ids=str,
)
def test_scripted(case, steps):
    compare(ScriptedTeam, case, steps)


@pytest.mark.parametrize("case", [{}, {"dies": {"b": 2}}, {"state": True, "actions": MIXED}])
def test_episodes_of_unequal_length(case):
    case = {"lengths": [5, 3, 4], "ends": "alternate", **case}
    compare(ScriptedTeam, case, 24, num_envs=3, aligned=False)


@pytest.mark.parametrize(
    ("case", "sharing", "steps"),
    [
        ({"masked": "bc"}, "none", 12),
        ({"masked": "c", "state": True}, "none", 12),
        ({"masked": "bc", "dies": {"b": 2}}, "none", 12),
        ({"masked": "bc", "dies": {"b": 2}, "ends": "alternate"}, "none", 13),
        ({"masked": "bc", "actions": {"b": "multi", "c": "multi"}}, {"bc": "bc"}, 12),
        (
            {"masked": "abc", "actions": dict.fromkeys("abc", "discrete"), "agents": EQUAL},
            "full",
            12,
        ),
    ],
    ids=str,
)
def test_masked(case, sharing, steps):
    fragment, other = compare(ScriptedTeam, {"actions": MIXED, **case}, steps, sharing=sharing)
    assert fragment.action_masks.keys() == other.action_masks.keys() != set()
    for masks in (*fragment.action_masks.values(), *other.action_masks.values()):
        assert masks.dtype == bool and masks.any() and not masks.all()


@pytest.mark.parametrize("sharing", ["none", "full"])
def test_who_dies_in_the_step_of_a_truncation_is_not_alive_in_the_final_state(sharing):
    """Both episodes of each environment are cut in the step in which b dies; c has died before."""
    equal = {"agents": EQUAL, "actions": dict.fromkeys("abc", "discrete"), "masked": "abc"}
    case = {**equal, "dies": {"b": 5, "c": 2}, "state": True}
    config, fast, stock, _, _ = build(ScriptedTeam, case, sharing=sharing)
    (ours,) = fast.sample(num_timesteps=20, explore=False)
    theirs = fragment_from_episodes(stock.sample(num_timesteps=20, explore=False), config.layout)
    for f in (ours, theirs):
        finals = f.finals
        assert (len(finals.step), f.truncated.sum(), f.terminated.sum()) == (4, 4, 0)
        assert f.truncated[finals.step, finals.env].all()
        for agent, (m, k) in config.layout.slot_of.items():
            alive = agent == "a"
            assert (finals.active[m][:, k] == alive).all()
            assert f.active[m][finals.step, finals.env, k].tolist() == [agent != "c"] * 4
            seen, masks = finals.observations[m][:, k, :4], finals.action_masks[m][:, k]
            assert seen.any(1).tolist() == [alive] * 4 and masks.all(1).tolist() == [not alive] * 4
        assert (finals.state[:, 2] == 5).all()  # the state of the last step, not of the next reset
        for m in config.layout.groups:
            assert np.array_equal(finals.observations[m], ours.finals.observations[m])


@pytest.mark.parametrize("kind", ["box", "discrete"])
@pytest.mark.parametrize("sharing", ["full", {"bc": ["c", "b"]}])
@pytest.mark.parametrize("dies", [{}, {"b": 2}])
def test_shared_modules(sharing, kind, dies):
    case = {"agents": EQUAL, "actions": dict.fromkeys("abc", kind), "dies": dies}
    fragment, other = compare(ScriptedTeam, case, 12, sharing=sharing)
    module, n = ("shared", 3) if sharing == "full" else ("bc", 2)
    for f in (fragment, other):
        one_hots = f.observations[module][..., -n:]
        assert (one_hots == np.eye(n)).all()
        assert (f.last_observations[module][..., -n:] == np.eye(n)).all()


def test_shared_modules_without_an_index():
    fragment, other = compare(
        ScriptedTeam, {"agents": EQUAL}, 12, sharing="full", agent_index=False
    )
    assert fragment.observations["shared"].shape[-1] == other.observations["shared"].shape[-1] == 4


def test_normalized_actions_reach_the_environment_alike():
    for settings in ({"normalize_actions": True}, {"clip_actions": False}, {"clip_actions": True}):
        _, fast, stock, _, _ = build(ScriptedTeam, {}, **settings)
        for runner in (fast, stock):
            runner.sample(num_timesteps=10, explore=False)
        logs = [e.unwrapped.log for r in (fast, stock) for e in r.env.envs]
        for ours, theirs in zip(logs[:2], logs[2:], strict=True):
            assert len(ours) == len(theirs) == 5
            for (_, _, u), (_, _, v) in zip(ours, theirs, strict=True):
                for agent in u:
                    np.testing.assert_allclose(u[agent], v[agent], atol=1e-5)


@pytest.mark.parametrize("dies", [{}, {"b": 3}, {"b": 4}])
@pytest.mark.parametrize("state", [False, True])
def test_an_episode_over_several_calls(dies, state):
    """Chunks bootstrap at their borders alike, also when an agent dies right there."""
    case = {"lengths": [10], "dies": dies, "state": state}
    config, fast, stock, modules, _ = build(ScriptedTeam, case)
    ours = [fast.sample(num_timesteps=n * 2, explore=False)[0] for n in (3, 2, 4)]
    theirs = [
        fragment_from_episodes(stock.sample(num_timesteps=n * 2, explore=False), config.layout)
        for n in (3, 2, 4)
    ]
    rows = slice(None)
    batches = [toys.team_batch(f, config, modules) for f in (ours, theirs)]
    assert_equal_batches(*batches, rows, rows, config.layout)
    assert len(batches[0][CRITIC][Columns.ADVANTAGES]) == 18


QUESTIONS = {
    "all": {},
    "latest": {"indices": -1},
    "first of two": {"indices": 0, "agent_ids": ["a", "b"]},
    "one agent, some steps": {"indices": slice(1, 3), "agent_ids": "b"},
    "a list of steps": {"indices": [-1, -2]},
    "before the first": {"indices": slice(-3, None), "fill": 0.0, "neg_index_as_lookback": True},
    "agents' own steps": {"indices": -1, "env_steps": False},
    "by step": {"indices": slice(0, 2), "return_list": True},
}


@pytest.mark.parametrize(
    "case",
    [
        {"actions": MIXED, "ends": "alternate"},
        {"actions": MIXED, "masked": "bc"},
        {"dies": {"b": 2}},
        {"agents": EQUAL, "sharing": "full", "shared": True, "lengths": [3, 4]},
    ],
    ids=str,
)
def test_episodes_answer_callbacks_alike(case):
    """Every answer after each step of each episode; ours go on over calls of sample()."""
    told = {True: {}, False: {}}
    numbers = {}

    def tell(episode, env_index, **_):
        mine = told[isinstance(episode, TeamEpisode)]
        started = numbers.setdefault((isinstance(episode, TeamEpisode), env_index), [])
        started += [episode.id_] * (episode.id_ not in started)
        answers = {"agents": episode.agent_ids, "modules": episode.module_for("b")}
        answers["length"] = (len(episode), episode.env_steps(), episode.env_t)
        if not case.get("shared"):
            answers["return"] = episode.get_return()
        for name, question in QUESTIONS.items():
            if len(episode) < 2 and name in ("a list of steps", "one agent, some steps"):
                continue
            for what in ("observations", "actions", "rewards", "infos"):
                if len(episode) or what == "observations":
                    fill = {"fill": {}} if "fill" in question and what == "infos" else {}
                    got = getattr(episode, f"get_{what}")(**{**question, **fill})
                    answers[name, what] = copy.deepcopy(got)
        mine[env_index, started.index(episode.id_), len(episode)] = answers

    case = dict(case)
    callbacks = {"callbacks_on_episode_step": tell, "callbacks_on_episode_end": tell}
    _, fast, stock, _, _ = build(Telling, case, sharing=case.pop("sharing", "none"), **callbacks)
    stock.sample(num_timesteps=12 * 2, explore=False)
    for steps in (3, 9):  # RLlib's own are cut between calls, and would forget what was before.
        fast.sample(num_timesteps=steps * 2, explore=False)
    ours, theirs = told[True], told[False]
    common = ours.keys() & theirs.keys()
    assert len(common) >= 16 and max(number for _, number, _ in common) >= 1
    for key in common:
        assert ours[key].keys() == theirs[key].keys()
        for name, answer in ours[key].items():
            if "dies" in case and name[1] == "observations":
                continue  # What a dying agent saw is not kept.
            assert_alike(answer, theirs[key][name], (key, name))


class Telling(ScriptedTeam):
    """With infos."""

    def step(self, action_dict):
        *rest, infos = super().step(action_dict)
        return *rest, {a: {"t": self.t} for a in infos}


def assert_alike(ours, theirs, where):
    """Nested answers: the same structure, and numbers that differ by rounding alone."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            assert_alike(ours[key], theirs[key], (*where, key))
    elif isinstance(theirs, list):
        assert isinstance(ours, list) and len(ours) == len(theirs), (where, ours, theirs)
        for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            assert_alike(x, y, (*where, i))
    elif isinstance(theirs, np.ndarray | np.generic | float | int):
        assert np.shape(ours) == np.shape(theirs), (where, ours, theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=str(where))
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("kind", ["box", "discrete", "multi"])
def test_exploring_actions_follow_the_policy(kind):
    """Log-probabilities are exact; the actions' statistics are those of the distribution."""
    case = {"actions": dict.fromkeys("abc", kind), "lengths": [1000]}
    config, fast, stock, modules, _ = build(ScriptedTeam, case)
    num = 750
    (fragment,) = fast.sample(num_timesteps=num, explore=True)
    episodes = stock.sample(num_timesteps=num, explore=True)
    other = fragment_from_episodes(episodes, config.layout)
    for f in (fragment, other):
        batch = toys.team_batch([f], config, modules)
        for m in config.layout.groups:
            rows, dist = batch[m], distribution_for(config.layout.action_space(m))
            with torch.no_grad():
                inputs = modules[m].forward_train({Columns.OBS: rows[Columns.OBS]})
            inputs = inputs[Columns.ACTION_DIST_INPUTS]
            torch.testing.assert_close(inputs, rows[Columns.ACTION_DIST_INPUTS], atol=1e-5, rtol=0)
            torch.testing.assert_close(
                dist.log_prob(inputs, rows[Columns.ACTIONS]),
                rows[Columns.ACTION_LOGP],
                atol=1e-5,
                rtol=1e-5,
            )
            # The score, d log pi / d inputs, has mean 0 under the policy itself.
            inputs.requires_grad_()
            dist.log_prob(inputs, rows[Columns.ACTIONS]).sum().backward()
            score = inputs.grad.flatten(0, 1)
            limit = 5 * score.std(0) / len(score) ** 0.5 + 1e-3
            assert (score.mean(0).abs() < limit).all(), (m, score.mean(0), limit)
    # RLlib's own log-probabilities of its own samples.
    for e, episode in enumerate(episodes):
        for agent, sa in episode.agent_episodes.items():
            theirs = sa.get_extra_model_outputs(Columns.ACTION_LOGP)
            m, k = config.layout.slot_of[agent]
            ours = other.log_probs[m][: len(sa), e, k]
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(("name", "sharing"), [("HAPPO", "none"), ("MAPPO", "full")])
def test_training_on_the_stock_runner(ray_local, name, sharing):
    case = {"agents": EQUAL, "shared": True, "dies": {"a": 2}, "lengths": [5]}
    results = {}
    for runner in ("fast", "stock"):
        kwargs = {} if runner == "fast" else {"env_runner_cls": MultiAgentEnvRunner}
        config = toys.small(toys.CONFIGS[name](), ScriptedTeam, case, explore=False, **kwargs)
        config.multi_agent(parameter_sharing=sharing)
        algo = config.build_algo()
        before = toys.parameters(algo)
        episodes = []
        for env in algo.env_runner.env.envs:
            spy_on_rewards(env.unwrapped, episodes)
        results[runner] = algo.train()["env_runners"]
        assert not toys.equal(before, toys.parameters(algo))
        done = [sum(e) for e in episodes if len(e) == 5]
        assert len(done) == results[runner]["num_episodes"] == 4
        # Once, not once for each agent, and not less for the agent that died.
        assert results[runner]["episode_return_mean"] == pytest.approx(np.mean(done), abs=1e-4)
        algo.stop()
    assert results["fast"]["num_env_steps_sampled"] == results["stock"]["num_env_steps_sampled"]


def spy_on_rewards(env, episodes):
    reset, step = env.reset, env.step

    def spied_reset(**kwargs):
        env.rewards = []
        episodes.append(env.rewards)
        return reset(**kwargs)

    def spied_step(action_dict):
        out = step(action_dict)
        env.rewards.append(out[1]["c"])  # who lives to the end
        return out

    env.reset, env.step = spied_reset, spied_step
