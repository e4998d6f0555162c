"""Agents that act one after another: what each hears is what those before it have done.

Contexts are made anew here, from the recorded actions and the order, and policies evaluated one
agent at a time on what was recorded.
"""

import sys

import numpy as np
import pytest
import ray
import runner_toys as toys
import torch
from gymnasium.spaces import Box
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from runner_toys import ScriptedTeam
from toys import CountingTeam, MaskedTeam, message_of

from rllib_hetero import ARMAPPOConfig, BPPOConfig, HAPPOConfig
from rllib_hetero.functional import distribution_for
from rllib_hetero.modules import in_turn
from rllib_hetero.modules.actor import TeamActor

# Runners in other processes get the classes here by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

EQUAL = {"agents": {a: (3, "discrete") for a in "abcd"}}
PAIRS = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box"), "d": (2, "discrete")}}
CASES = {
    "mixed": (CountingTeam, {}, "none"),
    "one dies": (CountingTeam, {"dies": {"a": 2, "b": 4}, "state": True}, "none"),
    "masked": (MaskedTeam, {"dies": {"b": 2}}, "none"),
    "one network": (CountingTeam, {**EQUAL, "dies": {"c": 3}}, "full"),
    "two networks": (CountingTeam, PAIRS, {"x": ["a", "c"], "y": ["b", "d"]}),
    "a shared one": (CountingTeam, PAIRS, {"y": ["b", "d"]}),
}
ORDERS = {"fixed": "fixed", "reverse": "reverse", "list": 1, "random": "random"}
every_case = pytest.mark.parametrize("case", CASES)


def config_of(case="mixed", *, order="fixed", cls=BPPOConfig, model=None, num_envs=3, **settings):
    env, env_config, sharing = CASES[case]
    config = toys.small(cls(), env, env_config, num_envs=num_envs, batch=num_envs * 12)
    model = {"hidden_sizes": [16, 8], "actor_head_gain": 0.5, "max_seq_len": 4} | (model or {})
    config.rl_module(model_config=model).multi_agent(parameter_sharing=sharing)
    config.update_from_dict(settings)
    if cls is not HAPPOConfig:
        agents = list(env(env_config).possible_agents)
        config.training(execution_order=agents[1:] + agents[:1] if order == 1 else order)
    return config


def runner_of(*args, weights=True, **kwargs):
    config = config_of(*args, **kwargs)
    config.validate()
    return toys.make_runner(
        config, weights=toys.actor_weights(toys.make_modules(config)) if weights else None
    )


def order_of(config, k=0):
    agents = list(config.layout.team.agents)
    if config.execution_order == "random":
        rng = np.random.default_rng((config.seed, k, 2))
        return [agents[i] for i in rng.permutation(len(agents))]
    named = {"fixed": agents, "reverse": agents[::-1]}
    rule = config.execution_order
    return named[rule] if isinstance(rule, str) else rule


def contexts(f, config, order):
    """Agent to (T, E, c): what it hears, from the actions in the fragment."""
    layout = config.layout
    spaces = layout.team.action_spaces
    starts, end = {}, 0
    for a in layout.team.agents:
        starts[a] = end
        end += len(message_of(spaces[a], spaces[a].sample())) + 1
    heard = {a: np.zeros((*f.valid.shape, end), np.float32) for a in order}
    for t, e in np.ndindex(*f.valid.shape):
        so_far = np.zeros(end, np.float32)
        for a in order:
            m, k = layout.slot_of[a]
            heard[a][t, e] = so_far
            if f.active[m][t, e, k]:
                said = [*message_of(spaces[a], f.actions[m][t, e, k]), 1.0]
                so_far[starts[a] : starts[a] + len(said)] = said
    return heard


def assert_contexts(f, config, order):
    layout, heard = config.layout, contexts(f, config, order)
    for a, (m, k) in layout.slot_of.items():
        c = heard[a].shape[-1]
        recorded = f.observations[m][:, :, k]
        np.testing.assert_array_equal(recorded[..., -c:], heard[a], err_msg=a)
        n, size = len(layout.groups[m]), layout.team.observation_spaces[a].shape[0]
        assert recorded.shape[-1] == size + (n if n > 1 else 0) + c
        if n > 1:
            np.testing.assert_array_equal(
                recorded[..., size : size + n], np.broadcast_to(np.eye(n)[k], (*f.valid.shape, n))
            )
    return heard


# ---- what is heard ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "order"),
    [*((case, "random") for case in CASES), *(("one dies", order) for order in ORDERS)],
)
def test_contexts_are_what_those_before_have_done(case, order):
    runner = runner_of(case, order=ORDERS[order])
    config = runner.config
    for k in (0, 5):
        runner._weights_seq_no = k
        (f,) = runner.sample()
        assert f.problem is None
        heard = assert_contexts(f, config, order_of(config, k))
        first, *_, last = order_of(config, k)
        assert not heard[first].any() and heard[last].any((0, 1)).sum() > len(heard) - 1
    if "dies" in CASES[case][1]:
        assert not all(x.all() for x in f.active.values())


# Every network with some team, and every team with some network.
networks = pytest.mark.parametrize(
    ("case", "projection", "memory"),
    [
        ("mixed", True, None),
        ("mixed", False, "gru"),
        ("one dies", True, "lstm"),
        ("masked", False, None),
        ("masked", True, "gru"),
        ("one network", True, None),
        ("one network", False, "lstm"),
        ("two networks", True, "gru"),
        ("a shared one", False, None),
    ],
)


@networks
def test_policies_recorded_are_those_of_training_on_what_is_recorded(case, projection, memory):
    """Over two fragments, the second of which begins in the middle of episodes."""
    model = {"action_projection": projection, "recurrent": memory}
    runner = runner_of(case, order="reverse", model=model)
    for _ in range(2):
        (f,) = runner.sample()
        assert_recorded(runner, f)


def assert_recorded(runner, f):
    """`dist_inputs` and `log_probs`, one agent and one environment at a time."""
    layout = runner.config.layout
    over = f.terminated | f.truncated
    trained = toys.make_modules(runner.config)  # the runner's are for acting only
    for a, (m, k) in layout.slot_of.items():
        module = trained[m]
        names = sorted(module.get_initial_state())
        for e in range(f.num_envs):
            x = torch.from_numpy(f.observations[m][:, e, k])
            if names:
                state = torch.from_numpy(f.states[m][0, e, k].copy())
                outs = []
                for t in range(len(x)):
                    parts = dict(zip(names, state[None].chunk(len(names), -1), strict=True))
                    batch = {Columns.OBS: x[None, t : t + 1], Columns.STATE_IN: parts}
                    out = module.forward_train(batch)
                    outs.append(out[Columns.ACTION_DIST_INPUTS][0])
                    after = out[Columns.STATE_OUT]
                    state = torch.cat([after[n][0] for n in names])
                    state = torch.zeros_like(state) if over[t, e] else state
                expected = torch.cat(outs)
            else:
                expected = module.forward_train({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
            expected = expected.detach()
            if m in f.action_masks:
                allowed = torch.from_numpy(f.action_masks[m][:, e, k])
                expected = torch.where(allowed, expected, torch.finfo(torch.float32).min)
            got = torch.from_numpy(f.dist_inputs[m][:, e, k])
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-5, msg=a)
            actions = torch.from_numpy(f.actions[m][:, e, k])
            logp = log_prob(layout.team.action_spaces[a], expected, actions)
            torch.testing.assert_close(
                torch.from_numpy(f.log_probs[m][:, e, k]), logp, rtol=1e-4, atol=1e-4
            )


def log_prob(space, inputs, actions):
    if isinstance(space, Box):
        mean, log_std = inputs.chunk(2, -1)
        return torch.distributions.Normal(mean, log_std.exp()).log_prob(actions).sum(-1)
    nvec = [space.n] if not hasattr(space, "nvec") else space.nvec.tolist()
    columns = actions.reshape(len(actions), -1)
    return sum(
        torch.distributions.Categorical(logits=z).log_prob(columns[:, i])
        for i, z in enumerate(inputs.split(nvec, -1))
    )


class Mine(TeamActor):
    """Of another class, so that it is not batched."""


@networks
def test_batched_steps_are_whole_passes(case, projection, memory):
    model = {"action_projection": projection, "recurrent": memory}
    fragments = []
    for cls in (TeamActor, Mine):
        config = config_of(case, order="random", model=model)
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=cls, model_config=None))
        config.rl_module(model_config=config._model_config)
        config.validate()
        runner = toys.make_runner(config)
        weights = toys.actor_weights(toys.make_modules(config))
        runner.module.set_state(weights)
        fragments.append([*runner.sample(), *runner.sample()])
        kind = in_turn._Batched if cls is TeamActor else in_turn._WholePasses
        assert all(type(x) is kind for x in runner._acting._forwards)
    for f, g in zip(*fragments, strict=True):
        for m in f.actions:
            np.testing.assert_allclose(f.actions[m], g.actions[m], atol=1e-4)
            np.testing.assert_allclose(f.observations[m], g.observations[m], atol=1e-4)
            np.testing.assert_allclose(f.dist_inputs[m], g.dist_inputs[m], atol=1e-4)
        assert f.states.keys() == g.states.keys()
        assert all(np.allclose(x, g.states[m], atol=1e-5) for m, x in f.states.items())


@pytest.mark.parametrize("case", ["mixed", "one network", "two networks"])
def test_one_look_of_each_stack_and_one_decision_of_each_agent(case, monkeypatch):
    counts = {"look": 0, "decide": 0}
    for name in counts:
        inner = getattr(in_turn._Batched, name)

        def watched(self, *args, name=name, inner=inner):
            counts[name] += 1
            return inner(self, *args)

        monkeypatch.setattr(in_turn._Batched, name, watched)
    runner = runner_of(case)
    runner.sample(num_timesteps=3 * 7)
    layout = runner.config.layout
    assert counts == {"look": 7 * len(layout.stacks), "decide": 7 * len(layout.team.agents)}


# ---- other ways of acting -----------------------------------------------------------------------


@every_case
def test_every_step_draws_noise_of_its_own(case):
    """The documented stream: one draw per call, stack by stack, (T, M, E, n, ...)."""
    runner = runner_of(case)
    layout = runner.config.layout
    (f,) = runner.sample(explore=True)
    rng = np.random.default_rng(runner._stream(1, 0))
    for members in layout.stacks:
        dist = distribution_for(layout.action_space(members[0]))
        n = len(layout.groups[members[0]])
        noise = dist.noise(rng, (len(f.valid), len(members), f.num_envs, n))
        for j, m in enumerate(members):
            drawn = dist.act(f.dist_inputs[m], noise[:, j])
            assert np.array_equal(drawn, f.actions[m])


@every_case
def test_greedy_agents_hear_greedy_actions(case):
    runner = runner_of(case, order="reverse")
    (f,) = runner.sample(explore=False)
    assert_contexts(f, runner.config, order_of(runner.config))
    for a, (m, k) in runner.config.layout.slot_of.items():
        space, x = runner.config.layout.team.action_spaces[a], f.dist_inputs[m][:, :, k]
        if isinstance(space, Box):
            best = x[..., : x.shape[-1] // 2]
        else:
            nvec = [space.n] if not hasattr(space, "nvec") else space.nvec
            pieces = np.split(x, np.cumsum(nvec)[:-1], axis=-1)
            best = np.stack([p.argmax(-1) for p in pieces], -1).reshape(f.actions[m][:, :, k].shape)
        np.testing.assert_array_equal(f.actions[m][:, :, k], best)


@every_case
def test_random_actions_are_heard_as_they_were_taken(case):
    runner = runner_of(case)
    (f,) = runner.sample(random_actions=True)
    assert f.problem is None
    assert_contexts(f, runner.config, order_of(runner.config))
    (g,) = runner.sample()
    assert_contexts(g, runner.config, order_of(runner.config))
    if case == "mixed":  # uniform in the space, not the policy's
        assert np.abs(f.actions["a"]).max() <= 1.0 < np.abs(g.actions["a"]).max()


@pytest.mark.parametrize(
    "settings",
    [
        {"normalize_actions": True, "clip_actions": False},
        {"clip_actions": True},
        {"clip_actions": False},
    ],
    ids=str,
)
def test_what_is_heard_is_the_policys_action_not_the_environments(settings):
    config = toys.small(BPPOConfig(), ScriptedTeam, {"lengths": [50]}).update_from_dict(settings)
    config.validate()
    runner = toys.make_runner(config, weights=toys.actor_weights(toys.make_modules(config)))
    (f,) = runner.sample(num_timesteps=20)
    heard = assert_contexts(f, config, list("abc"))
    taken = np.array([step["a"] for _, _, step in runner.env.envs[0].log])
    same = np.allclose(taken, heard["b"][:, 0, :2])
    assert same == (settings == {"clip_actions": False})


@pytest.mark.parametrize("state", [False, True])
def test_the_critics_input_is_the_same_as_without_contexts(state):
    CASES["here"] = (CountingTeam, {"state": state, "dies": {"b": 3}}, "none")
    try:
        ar, plain = (runner_of("here", cls=cls) for cls in (BPPOConfig, HAPPOConfig))
    finally:
        del CASES["here"]
    fragments = [r.sample(random_actions=True)[0] for r in (ar, plain)]
    batches = []
    for r, f in zip((ar, plain), fragments, strict=True):
        module = toys.make_modules(r.config)
        batches.append(toys.team_batch([f], r.config, module)["critic"])
    np.testing.assert_array_equal(fragments[0].rewards, fragments[1].rewards)
    assert torch.equal(batches[0][Columns.OBS], batches[1][Columns.OBS])
    assert batches[0][Columns.OBS].shape[1] == (3 if state else 9)
    for name in ("state", "last_state"):
        one, two = (getattr(f, name) for f in fragments)
        assert (one is None) == (two is None) and (one is None or np.array_equal(one, two))


# ---- the order of an iteration ------------------------------------------------------------------


def heard_from(f, layout):
    """The order that the presence of messages shows."""
    counts = {}
    ends = [s.stop - 1 for s in layout.messages.values()]
    for a, (m, k) in layout.slot_of.items():
        rows = f.observations[m][:, :, k, -layout.context_size :][..., ends]
        assert (rows == rows[0, 0]).all()
        counts[a] = int(rows[0, 0].sum())
    assert sorted(counts.values()) == list(range(len(counts)))
    return sorted(counts, key=counts.get)


def orders_of(algo, iterations):
    """(order of acting in each fragment, order of the updates) of each iteration."""
    learner, seen = algo.learner_group._learner, []
    steps, update_of = type(learner).update_agent, type(learner)._create_iterator_if_necessary

    def update_agent(module_id, rows, position):
        seen[-1][1].append(module_id)
        return steps(learner, module_id, rows, position)

    def iterator(*, training_data, **kwargs):
        layout = algo.config.layout
        seen.append(([heard_from(f, layout) for f in training_data.episodes], []))
        return update_of(learner, training_data=training_data, **kwargs)

    learner.update_agent, learner._create_iterator_if_necessary = update_agent, iterator
    for _ in range(iterations):
        algo.train()
    del learner.update_agent, learner._create_iterator_if_necessary
    return seen


@pytest.mark.parametrize("runners", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_random_order_is_the_same_everywhere_in_an_iteration(runners, ray_local, tmp_path):
    env = {"agents": {a: (3, "discrete") for a in "abcde"}}
    config = toys.small(BPPOConfig(), CountingTeam, env, num_envs=2, batch=24)
    config.training(execution_order="random").env_runners(
        num_env_runners=runners, num_cpus_per_env_runner=0.5
    )
    config.validate()
    algo = config.build_algo()
    try:
        seen = orders_of(algo, 3)
        path = algo.save_to_path(tmp_path / "checkpoint")
        expected = orders_of(algo, 2)
        algo.restore_from_path(path)
        again = orders_of(algo, 2)
    finally:
        algo.stop()
    for k, (acted, updated) in enumerate([*seen, *again]):
        assert len(acted) == max(1, runners) and all(x == acted[0] for x in acted)
        assert acted[0] == updated[::-1] == order_of(config, k)
    assert again == expected
    assert len({tuple(x) for _, x in [*seen, *again]}) > 3


# ---- communication ------------------------------------------------------------------------------


def by_hand(f, config, order):
    """Means of messages, numbers and rounds over the steps."""
    layout, totals, steps = config.layout, np.zeros(3), 0
    for t, e in np.argwhere(f.valid):
        alive = [a for a in order if f.active[layout.slot_of[a][0]][t, e, layout.slot_of[a][1]]]
        for i, a in enumerate(alive):
            space, later = layout.team.action_spaces[a], len(alive) - 1 - i
            numbers = 1 if hasattr(space, "n") else len(space.sample())
            totals += [later, later * numbers, 0]
        totals += [0, 0, max(len(alive) - 1, 0)]
        steps += 1
    return totals / steps


def metrics_of(runner):
    from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

    root = MetricsLogger(root=True)
    root.aggregate([runner.get_metrics()], key="runners")
    results = root.reduce()["runners"]
    return {name: float(results[name]) for name in COMMUNICATION}


COMMUNICATION = ("messages_per_step", "numbers_sent_per_step", "rounds_per_step")


@every_case
def test_communication_by_hand(case):
    runner = runner_of(case, order=1)
    (f,) = runner.sample()
    expected = by_hand(f, runner.config, order_of(runner.config))
    results = metrics_of(runner)
    assert [results[name] for name in COMMUNICATION] == pytest.approx(expected.tolist())
    assert expected[0] > 0


def test_communication_of_three_by_hand():
    """Of a pair, a choice and a pair of choices: (2 + 1) messages, 2 * 2 + 1 numbers, 2 rounds."""
    runner = runner_of("mixed")
    runner.sample()
    assert [metrics_of(runner)[name] for name in COMMUNICATION] == [3.0, 5.0, 2.0]


@pytest.mark.parametrize("cls", [BPPOConfig, ARMAPPOConfig, HAPPOConfig])
def test_communication_is_in_the_results(cls, ray_local):
    config = config_of("one dies", cls=cls)
    config.evaluation(evaluation_interval=1, evaluation_duration=4, evaluation_num_env_runners=0)
    algo = config.build_algo()
    results = algo.train()
    algo.stop()
    for part in (results["env_runners"], results["evaluation"]["env_runners"]):
        for name in COMMUNICATION:
            assert (name in part) == (cls is not HAPPOConfig)
        if cls is not HAPPOConfig:
            assert 0 < part["messages_per_step"] < 3 and 0 < part["rounds_per_step"] < 2
