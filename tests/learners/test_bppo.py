"""BPPO against a slow one, agent by agent, and its gradient against exact expectations.

The slow half (`toys.Backwards`) differentiates the product of the successors' ratios anew for
every agent, where the library carries the gradient along.
"""

import dataclasses

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import Columns
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from test_recurrent_learner import PlainMemoryActor, SlowMemoryTeam
from test_several_learners import assert_close, assert_equal_bits
from toys import (
    Backwards,
    CountingTeam,
    InTurn,
    InTurnActor,
    MaskedTeam,
    MatrixTeam,
    SlowBPPO,
    SlowTeam,
    all_weights,
    make_learner,
    make_runner,
    sample_in_turn,
    small_config,
    team_batch,
    update,
    watch_changes,
    watch_notes,
)

from rllib_hetero import ARMAPPOConfig, BPPOConfig, HAPPOConfig
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.connectors.fragments_to_batch import ACTIVE
from rllib_hetero.learners.on_policy import peer_term
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION
from rllib_hetero.learners.on_policy.peer_term import FEEDBACK

GAUSSIAN = {"agents": {a: (3, "box") for a in "abc"}}
PAIRS = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box"), "d": (2, "discrete")}}
# Steps large enough that, without the clip, the result would be another.
LARGE = {"lr": 5e-3, "num_epochs": 3, "clip_param": 0.1}
schemes = pytest.mark.parametrize("scheme", ["sequential", "simultaneous"])


def make(cls=BPPOConfig, env=CountingTeam, env_config=None, *, to_train=None, **training):
    if training.get("minibatch_size"):  # many steps: rounding grows with each
        training = {"num_epochs": 2} | training
    config = small_config(cls, env, env_config, **(LARGE | training))
    if to_train is not None:
        config.multi_agent(policies_to_train=to_train)
        config.validate()
    return make_learner(config), make_runner(config)


def gap(slow, learner):
    return max(slow.differences(learner).values())


def compare(env=CountingTeam, env_config=None, *, slow_team=SlowBPPO, updates=2,
            frozen=(), **kwargs):  # fmt: skip
    """The learner and the slow one after the same updates, and the learner's last fragment."""
    learner, runner = make(env=env, env_config=env_config, **kwargs)
    slow, before = slow_team(learner), slow_team(learner)
    slow.frozen = frozen
    for _ in range(updates):
        (fragment,) = sample_in_turn(runner, learner)
        update(learner, [fragment])
        slow.update([fragment])
    moved = before.differences(learner)
    for m in slow.groups:
        most = max(x for (module, _), x in moved.items() if module == m)
        assert most == 0 if m in frozen else most > 2e-3
    slow.assert_same(learner)
    return slow, learner, fragment


# ---- the whole update ---------------------------------------------------------------------------


@schemes
@pytest.mark.parametrize("env", [GAUSSIAN, {}], ids=["gaussian", "mixed"])
def test_the_first_gradient_step(env, scheme):
    _, learner, _ = compare(env_config=env, update_scheme=scheme, updates=1, num_epochs=1)
    assert learner._weights_seq_no == 1


@schemes
@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [GAUSSIAN, {}], ids=["gaussian", "mixed"])
def test_whole_updates(env, minibatch_size, scheme):
    slow, _, _ = compare(env_config=env, update_scheme=scheme, minibatch_size=minibatch_size)
    assert slow.bound > 20


@schemes
@pytest.mark.parametrize("coeff", [0.0, 0.5])
def test_another_weight_of_the_peer_term_is_another_update(coeff, scheme):
    one, runner = make(update_scheme=scheme)
    other, _ = make(update_scheme=scheme, peer_coeff=coeff)
    fragments = sample_in_turn(runner, one)
    update(one, fragments)
    update(other, fragments)
    assert gap(SlowBPPO(one), other) > 1e-3


@schemes
@pytest.mark.parametrize(
    ("env", "env_config"),
    [
        (CountingTeam, {"dies": {"b": 3}, "state": True, "end": "alternate"}),
        (CountingTeam, {"dies": {"a": 2, "c": 3}, "scheme": "shared"}),
        (MaskedTeam, {}),
        (MaskedTeam, {"dies": {"b": 2, "c": 3}}),
    ],
    ids=str,
)
def test_deaths_and_masks(env, env_config, scheme):
    slow, _, fragment = compare(env, env_config, update_scheme=scheme)
    assert slow.bound > 20
    assert bool(fragment.action_masks) == (env is MaskedTeam)
    assert all(x.all() for x in fragment.active.values()) == ("dies" not in env_config)


@schemes
@pytest.mark.parametrize("order", ["reverse", "random", ["b", "c", "a"]], ids=str)
def test_orders_of_acting(order, scheme):
    env = {"dies": {"b": 3}}
    slow, _, _ = compare(env_config=env, execution_order=order, update_scheme=scheme, updates=3)
    fixed, runner = make(env_config=env, update_scheme=scheme)
    for _ in range(3):
        update(fixed, sample_in_turn(runner, fixed))
    assert gap(slow, fixed) > 5e-3


@schemes
@pytest.mark.parametrize("model", [{"action_projection": False}, {"layer_norm": False}], ids=str)
def test_other_networks(model, scheme):
    compare(model=model, update_scheme=scheme)


@schemes
@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize(
    ("env", "sharing"),
    [
        (GAUSSIAN, "full"),
        ({**GAUSSIAN, "dies": {"a": 2, "b": 3}}, "full"),
        (PAIRS, {"x": ["a", "c"], "y": ["b", "d"]}),
        ({**PAIRS, "dies": {"d": 3}}, {"twins": ["b", "d"]}),
    ],
    ids=str,
)
def test_agents_that_share_a_network(env, sharing, minibatch_size, scheme):
    # Many steps on one network, with ratios of all sizes: rounding grows.
    slow, _, _ = compare(
        env_config=env, sharing=sharing, minibatch_size=minibatch_size, update_scheme=scheme,
    )  # fmt: skip
    assert any(len(agents) > 1 for agents in slow.groups.values())


@schemes
def test_an_agent_that_dies_at_once(scheme):
    # "b" lives one of 20 steps: most minibatches hold none of its steps.
    env = {"dies": {"b": 1}, "length": 20, "end": "terminate"}
    compare(env_config=env, minibatch_size=4, update_scheme=scheme)


@schemes
def test_settings_of_the_objective_are_used(scheme):
    slow, _, _ = compare(
        update_scheme=scheme, peer_coeff=3.0, gumbel_temperature=0.3, entropy_coeff=0.1,
        grad_clip=0.5, gamma=0.9, standardize_advantages=False,
    )  # fmt: skip
    assert slow.clipped_steps > 5
    other, runner = make(
        update_scheme=scheme, peer_coeff=3.0, gumbel_temperature=1.0, entropy_coeff=0.1,
        grad_clip=0.5, gamma=0.9, standardize_advantages=False,
    )  # fmt: skip
    for _ in range(2):
        update(other, sample_in_turn(runner, other))
    assert gap(slow, other) > 1e-3


@schemes
def test_a_frozen_agent(scheme):
    """In sequence it tells those before it what it makes of their actions; else it is not heard."""

    _, learner, _ = compare(
        env_config=GAUSSIAN, to_train=["a", "b"], frozen=("c",), update_scheme=scheme
    )
    assert not learner.should_module_be_updated("c")


# ---- memory -------------------------------------------------------------------------------------


class MemoryInTurnActor(InTurnActor, PlainMemoryActor):
    """Inputs are [observation, row number, agent, one-hot, context, mask]."""

    def features(self, seen):
        outs, state = [], None
        for x in seen:
            number, agent = int(x[self.size]), int(x[self.size + 1])
            if (number, agent) in self.begins:
                state = self.begins[number, agent]
            x = self.net[:-1](torch.cat([x[: self.size], x[self.size + 2 :]])[None])
            if self.is_gru:
                h = state = self.cell(x, state)
            else:
                c, h = state.chunk(2, dim=-1)
                h, c = self.cell(x, (h, c))
                state = torch.cat([c, h], dim=-1)
            outs.append(self.after(h))
        return torch.cat(outs)


class SlowMemoryBPPO(Backwards, SlowMemoryTeam):
    def in_turn_actor(self, m, weights, space):
        if "memory.norm.weight" not in weights:
            return super().in_turn_actor(m, weights, space)
        actor = MemoryInTurnActor(weights, space)
        actor.take_context(weights, self.context_size, self.num_masked(m))
        actor.size = self.team.observation_spaces[self.groups[m][0]].shape[0]
        return actor


@schemes
@pytest.mark.parametrize(
    ("env", "env_config", "training", "kind"),
    [
        (CountingTeam, {"dies": {"b": 3}, "end": "alternate"}, {}, "lstm"),
        (CountingTeam, {}, {"minibatch_size": 7, "execution_order": "reverse"}, "gru"),
        (MaskedTeam, {"dies": {"c": 3}}, {}, "gru"),
        (CountingTeam, GAUSSIAN, {"sharing": "full"}, "lstm"),
    ],
    ids=["mixed", "minibatches", "masked", "shared"],
)
def test_recurrent(env, env_config, training, kind, scheme):
    model = {"recurrent": kind, "critic_recurrent": kind, "max_seq_len": 3}
    slow, _, _ = compare(
        env, env_config, slow_team=SlowMemoryBPPO, model=model, update_scheme=scheme, **training
    )
    assert sorted({len(chunk) for chunk in slow.chunks}) == [1, 2, 3]


# ---- one agent ----------------------------------------------------------------------------------


def without_context(fragment, size):
    """What agents that all act at once would have recorded."""
    f = fragment

    def cut(arrays):
        return {m: x[..., :-size] for m, x in arrays.items()}

    return dataclasses.replace(
        f,
        observations=cut(f.observations),
        last_observations=cut(f.last_observations),
        finals=f.finals._replace(observations=cut(f.finals.observations))
        if hasattr(f.finals, "_replace")
        else dataclasses.replace(f.finals, observations=cut(f.finals.observations)),
    )


@schemes
@pytest.mark.parametrize("action", ["box", "discrete", "multi"])
def test_one_agent_is_happo_parameter_by_parameter(action, scheme):
    """With actions at the head: on a context of zeros, the weights behind it do nothing."""
    env = {"agents": {"only": (3, action)}}
    model = {"action_projection": False}
    learner, runner = make(env_config=env, update_scheme=scheme, model=model)
    happo, _ = make(HAPPOConfig, env_config=env)
    before = all_weights(learner)
    size = learner.config.layout.context_size
    for (m, name), x in all_weights(happo).items():
        given = before[m, name]
        x.copy_(given[:, :-size] if (m, name) == ("only", "head.weight") else given)
        happo.module[m].state_dict()[name].copy_(x)
    for _ in range(3):
        (fragment,) = sample_in_turn(runner, learner)
        update(learner, [fragment])
        update(happo, [without_context(fragment, size)])
    after, theirs = all_weights(learner), all_weights(happo)
    for k, x in theirs.items():
        got = after[k][:, :-size] if k == ("only", "head.weight") else after[k]
        torch.testing.assert_close(got, x, rtol=0, atol=2e-6, msg=str(k))
    head = "only", "head.weight"
    assert torch.equal(after[head][:, -size:], before[head][:, -size:])
    assert (after[head] - before[head]).abs().max() > 5e-3


@schemes
@pytest.mark.parametrize("action", ["box", "discrete", "multi"])
def test_one_agent_is_ppo(action, scheme):
    class SlowPPO(InTurn, SlowTeam):
        pass

    learner, runner = make(env_config={"agents": {"only": (3, action)}}, update_scheme=scheme)
    slow = SlowPPO(learner)
    for _ in range(2):
        fragments = sample_in_turn(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=["only"])
    slow.assert_same(learner)


# ---- without the peer term ----------------------------------------------------------------------


@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("order", ["fixed", "random"])
def test_a_coefficient_of_zero_leaves_happo_in_reverse_order(order, minibatch_size):
    class SlowHAPPO(InTurn, SlowTeam):
        pass

    learner, runner = make(
        env_config={"dies": {"b": 3}}, peer_coeff=0, execution_order=order,
        minibatch_size=minibatch_size,
    )  # fmt: skip
    slow = SlowHAPPO(learner)
    changes = watch_changes(learner)
    for _ in range(3):
        fragments = sample_in_turn(runner, learner)
        update(learner, fragments)
        slow.iteration += 1
        backwards = slow.execution_order()[::-1]
        slow.iteration -= 1
        slow.update(fragments, order=backwards)
        assert slow.corrections[backwards[-1]].std() > 1e-3
    slow.assert_same(learner)
    assert changes and not any(FEEDBACK in rows for _, _, rows in changes)


def test_a_coefficient_of_zero_simultaneously_leaves_the_product():
    learner, runner = make(update_scheme="simultaneous", peer_coeff=0.0)
    slow = SlowBPPO(learner)
    changes = watch_changes(learner)
    for _ in range(2):
        fragments = sample_in_turn(runner, learner)
        update(learner, fragments)
        slow.update(fragments)
    slow.assert_same(learner)
    assert changes and not any(FEEDBACK in rows for _, _, rows in changes)
    assert all(CORRECTION in rows for m, _, rows in changes[3:])


# ---- the gradient of the first simultaneous step ------------------------------------------------


def first_gradients(learner, fragment):
    """Module to its gradients by name, of one step on the whole batch, not clipped."""
    update(learner, [fragment], num_epochs=1)
    return {
        m: {name: p.grad.double() for name, p in learner.module[m].named_parameters()}
        for m in learner.config.layout.groups
    }


PLAIN = {"grad_clip": None, "entropy_coeff": 0.0, "standardize_advantages": False}


def at_once(env=CountingTeam, env_config=None, **training):
    """Gradients of BPPO, those of ARMAPPO, and what they are of."""
    training = {**PLAIN, **training}
    learner, runner = make(env=env, env_config=env_config, update_scheme="simultaneous", **training)
    training = {k: x for k, x in training.items() if k not in ("peer_coeff", "gumbel_temperature")}
    other, _ = make(ARMAPPOConfig, env=env, env_config=env_config, sharing="none", **training)
    other.set_state(learner.get_state())
    (fragment,) = sample_in_turn(runner, learner)
    old = {m: learner.module[m].get_state() for m in learner.config.layout.groups}
    batch = team_batch(learner, [fragment])
    return first_gradients(learner, fragment), first_gradients(other, fragment), old, batch, learner


def test_without_the_peer_term_the_first_step_is_armappos():
    ours, theirs, *_ = at_once(peer_coeff=0.0)
    for m, gradients in theirs.items():
        for name, g in gradients.items():
            torch.testing.assert_close(ours[m][name], g, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("env_config", [GAUSSIAN, {**GAUSSIAN, "dies": {"b": 3}}], ids=str)
def test_the_peer_term_is_the_derivative_by_way_of_the_action(env_config):
    """Central differences in float64 of mean A * M(a_i(theta)), the noise kept."""
    ours, theirs, old, batch, learner = at_once(env_config=env_config)
    layout, order = learner.config.layout, "abc"
    modules = {}
    for m in order:
        modules[m] = make_learner(learner.config).module[m]
        modules[m].set_state(old[m])
        modules[m].double()
    advantages = batch["critic"][Columns.ADVANTAGES][:, 0].double()
    alive = {m: batch[m][ACTIVE][:, 0].double() for m in order}
    actions = {m: batch[m][Columns.ACTIONS][:, 0].double() for m in order}

    def inputs(m, context_of=None, action=None):
        x = batch[m][Columns.OBS][:, 0].double().clone()
        if context_of is not None:
            at = layout.messages[context_of]
            start = x.shape[1] - layout.context_size + at.start
            x[:, start : start + 2] = action * alive[context_of][:, None]
        with torch.no_grad():
            out = modules[m].forward_train({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
        return out.chunk(2, -1)

    def log_prob(m, *context):
        mean, log_std = inputs(m, *context)
        z = (actions[m] - mean) / log_std.exp()
        return (-0.5 * z**2 - log_std).sum(-1)

    for i, m in enumerate(order):
        mean, log_std = inputs(m)
        noise = (actions[m] - mean) / log_std.exp()
        before = {u: log_prob(u) for u in order[i + 1 :]}

        def value(m=m, noise=noise, before=before):
            mean, log_std = inputs(m)
            action = mean + log_std.exp() * noise
            product = 1.0
            for u, x in before.items():
                product = product * torch.where(alive[u] > 0, (log_prob(u, m, action) - x).exp(), 1)
            return float((advantages * product * alive[m]).sum() / alive[m].sum())

        rng = torch.Generator().manual_seed(0)
        sizes = []
        for name, p in modules[m].named_parameters():
            for _ in range(3):
                direction = torch.randn(p.shape, generator=rng, dtype=torch.float64)
                direction /= direction.norm()
                there = []
                for step in (1e-4, -2e-4):
                    p.data += step * direction
                    there.append(value())
                p.data += 1e-4 * direction
                expected = (there[0] - there[1]) / 2e-4
                got = -((ours[m][name] - theirs[m][name]) * direction).sum()  # a loss's
                assert float(got) == pytest.approx(expected, rel=2e-3, abs=2e-6), (m, name)
                sizes.append(abs(expected))
        assert max(sizes) == 0 if m == "c" else max(sizes) > 1e-3


# ---- expectations -------------------------------------------------------------------------------

PAYOFF = [[3.0, -1.0, 0.5], [-2.0, 4.0, 1.0]]


class Row(MatrixTeam):
    """Two players, two and three choices."""


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@schemes
def test_the_expected_gradient_of_a_matrix_game(scheme, temperature):
    """Every joint action as often as it is likely; the noise is averaged over.

    The first player's policy is (3/4, 1/4). Own term: the derivative of the expected payoff. Peer
    term: with the logistic noise of two Gumbels' difference, integrated on a grid.
    """
    repeat = 4000
    learner, runner = make(
        env=Row, env_config={"payoff": PAYOFF}, update_scheme=scheme, steps=4,
        gumbel_temperature=temperature, num_epochs=1, lr=1e-12,
        model={"action_projection": False}, **PLAIN,
    )  # fmt: skip
    set_policies(learner)
    (f,) = sample_in_turn(runner, learner)
    batch_of = every_joint_action(f, repeat)
    own = first_gradients(learner, batch_of)
    got = -own["p0"]["head.bias"].numpy()

    p = np.array([0.75, 0.25])
    second = np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    advantage = np.array(PAYOFF) - value_of(learner)
    # By the first player's logits: d/d theta of sum_a p_a E[A | a].
    q = (second * advantage).sum(1)
    expected_own = p * (q - p @ q)
    # Of the second player's ratio by the message: pi(a2) * (w_a2 - sum pi w), w the logits' slope.
    w = learner.module["p1"].head.weight.detach().numpy()[:, -7:-5].astype(np.float64)
    expected_peer = np.zeros(2)
    logit = np.log(p[0] / p[1])
    noise = np.linspace(-60, 60, 400_001)
    density = 1 / (4 * np.cosh(noise / 2) ** 2)
    y = 1 / (1 + np.exp(-(logit + noise) / temperature))
    slope = y * (1 - y) / temperature  # of the first entry by the difference of the logits
    for a in range(2):
        where = (logit + noise > 0) == (a == 0)
        share = np.trapezoid(np.where(where, density * slope, 0.0), noise)
        feedback = sum(
            second[a, b] * advantage[a, b] * (w[b] - second[a] @ w) for b in range(3)
        )  # at a ratio of 1
        expected_peer += share * (feedback[0] - feedback[1]) * np.array([1.0, -1.0])
    assert np.abs(expected_peer).max() > 0.05 * np.abs(expected_own).max()
    np.testing.assert_allclose(got, expected_own + expected_peer, atol=0.02 * abs(expected_peer[0]))


def set_policies(learner):
    """(3/4, 1/4), and second player's policies by the first one's action, all in its head."""
    head = learner.module["p0"].head
    head.weight.data.zero_()
    head.bias.data.copy_(torch.log(torch.tensor([0.75, 0.25])))
    head = learner.module["p1"].head
    head.weight.data.zero_()
    target = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]))
    head.bias.data.copy_(torch.tensor([0.3, -0.2, 0.1]))
    # The context is [one-hot of p0 (2), 1, one-hot of p1 (3), 1].
    head.weight.data[:, -7:-5] = (target - head.bias.data).T
    head.weight.data[:, -5] = 0.0


def every_joint_action(f, repeat):
    """A fragment of one-step episodes: joint action (a, b) stands in 16 * repeat * pi(a, b)."""
    joint = [(0, 0, 6), (0, 1, 3), (0, 2, 3), (1, 0, 1), (1, 1, 1), (1, 2, 2)]
    rows = np.array([(a, b) for a, b, n in joint for _ in range(n * repeat)])
    size = len(rows)

    def longer(x):
        return np.repeat(x[:1, :1], size, axis=0)

    fields = {}
    for name in ("observations", "actions", "dist_inputs", "log_probs", "active"):
        fields[name] = {m: longer(x).copy() for m, x in getattr(f, name).items()}
    fields["actions"]["p0"][:, 0, 0], fields["actions"]["p1"][:, 0, 0] = rows[:, 0], rows[:, 1]
    context = np.zeros((size, 7), np.float32)
    context[np.arange(size), rows[:, 0]] = 1.0
    context[:, 2] = 1.0
    fields["observations"]["p1"][:, 0, 0, -7:] = context
    payoff = np.array(PAYOFF, np.float32)[rows[:, 0], rows[:, 1]]
    return dataclasses.replace(
        f.select(range(1)),
        **fields,
        rewards=np.repeat(payoff[:, None, None], 2, -1),
        terminated=np.ones((size, 1), bool),
        truncated=np.zeros((size, 1), bool),
        valid=np.ones((size, 1), bool),
        state=None,
        continues=np.zeros(1, bool),
    )


def value_of(learner):
    state = torch.ones(1, 2)
    critic = learner.module["critic"].unwrapped()
    with torch.no_grad():
        return float(critic.normalizer.denormalize(critic.compute_values({Columns.OBS: state})))


# ---- what is logged -----------------------------------------------------------------------------


def test_peer_to_own_by_hand():
    """The first to act of two; the last one, updated first, has heard of nobody."""
    env = {"agents": {"a": (3, "box"), "b": (3, "box")}}
    learner, runner = make(env_config=env, num_epochs=1, lr=0.02, entropy_coeff=0.0)
    slow, notes = SlowBPPO(learner), watch_notes(learner)
    fragments = sample_in_turn(runner, learner)
    batch = team_batch(learner, fragments)
    update(learner, fragments)
    slow.update(fragments)
    assert notes["b", "peer_to_own"] == [0.0]

    product, slope = slow.corrections["a"], slow.feedback["a"]
    with torch.no_grad():
        taken = torch.as_tensor(fragments[0].dist_inputs["a"]).swapaxes(0, 1).reshape(24, 4)
        mean, log_std = taken.chunk(2, 1)
        z = (batch["a"][Columns.ACTIONS][:, 0] - mean) / log_std.exp()
        a = slow.advantages[:, None]
        by_mean, by_log_std = product[:, None] * a * z / log_std.exp(), product[:, None] * a
        own = torch.cat([by_mean, by_log_std * (z**2 - 1)], 1)
        peer = torch.cat([a * slope, a * slope * log_std.exp() * z], 1)
        expected = float(peer.norm() / own.norm())
    assert expected > 0.01
    assert notes["a", "peer_to_own"] == [pytest.approx(expected, rel=1e-3)]


@schemes
def test_peer_to_own_of_every_agent(scheme):
    learner, runner = make(execution_order=["b", "c", "a"], update_scheme=scheme)
    notes = watch_notes(learner)
    update(learner, sample_in_turn(runner, learner))
    assert notes["a", "peer_to_own"] == [0.0]
    assert notes["b", "peer_to_own"][0] > 1e-3 and notes["c", "peer_to_own"][0] > 1e-3
    half, runner = make(execution_order=["b", "c", "a"], update_scheme=scheme, peer_coeff=0.0)
    notes = watch_notes(half)
    update(half, sample_in_turn(runner, half))
    assert not any(name == "peer_to_own" for _, name in notes)


def test_corrections_are_logged_in_both_ways_of_updating():
    learner, runner = make()
    notes = watch_notes(learner)
    update(learner, sample_in_turn(runner, learner))
    assert notes["c", "correction_mean"] == [1.0] == notes["c", "correction_max"]
    assert notes["a", "correction_max"][0] > 1.0


# ---- the temperature ----------------------------------------------------------------------------


@pytest.fixture
def temperatures(monkeypatch):
    """The temperatures of all reparameterised actions from now on."""
    seen, inner = [], peer_term.reparameterized

    def watched(dist, inputs, actions, exponentials, temperature):
        seen.append(float(temperature))
        return inner(dist, inputs, actions, exponentials, temperature)

    monkeypatch.setattr(peer_term, "reparameterized", watched)
    return seen


@schemes
def test_temperature_follows_the_steps_sampled(scheme, temperatures):
    learner, runner = make(
        update_scheme=scheme, gumbel_temperature=[[0, 1.0], [100, 0.5], [200, 0.1]]
    )
    for steps, expected in ((0, 1.0), (50, 0.75), (150, 0.3), (1000, 0.1)):
        temperatures.clear()
        learner.update(
            training_data=TeamTrainingData(episodes=sample_in_turn(runner, learner)),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps},
            num_epochs=1,
        )
        assert temperatures and temperatures == pytest.approx([expected] * len(temperatures))


def test_temperature_after_a_restore(temperatures, tmp_path, ray_local):
    config = small_config(
        BPPOConfig, gumbel_temperature=[[0, 1.0], [96, 0.2]], num_epochs=1, execution_order="random"
    ).copy(copy_frozen=False)
    algo = config.build_algo()
    algo.train(), algo.train()
    path = algo.save_to_path(tmp_path / "checkpoint")
    algo.stop()
    assert sorted(set(np.round(temperatures, 5)), reverse=True) == [0.8, 0.6]
    temperatures.clear()
    algo = Algorithm.from_checkpoint(path)
    algo.train()
    algo.stop()
    assert temperatures == pytest.approx([0.4] * len(temperatures)) and temperatures


# ---- several learners ---------------------------------------------------------------------------


def config_for(num_learners, minibatch_size, **kwargs):
    env = {
        "agents": {"a": (3, "box"), "b": (4, "discrete"), "c": (5, "multi")},
        "state": True, "dies": {"b": 3}, "end": "alternate",
    }  # fmt: skip
    config = small_config(BPPOConfig, CountingTeam, env, num_epochs=2, **kwargs)
    config = config.copy(copy_frozen=False)
    config.learners(num_learners=num_learners, num_cpus_per_learner=0.5)
    config.minibatch_size = minibatch_size and minibatch_size // max(1, num_learners)
    return config


@schemes
@pytest.mark.parametrize(
    ("minibatch_size", "model"),
    [(None, {}), (8, {}), (8, {"recurrent": "gru", "max_seq_len": 3})],
    ids=["whole", "minibatches", "recurrent"],
)
def test_two_learners_are_one(minibatch_size, model, scheme, pair):
    local, remote = (
        config_for(n, minibatch_size, update_scheme=scheme, model=model) for n in (0, 2)
    )
    learner, runner = make_learner(local), make_runner(local)
    data = [sample_in_turn(runner, learner) for _ in range(3)]
    state = learner.get_state()
    alone = make_learner(local)
    alone.set_state(state)
    for fragments in data:
        update(alone, fragments)
    shared, one, two = pair(remote, state, data)
    assert_equal_bits(one, two)
    assert_close(alone.get_state(), shared)
    before, after = state["rl_module"]["a"], alone.get_state()["rl_module"]["a"]
    assert not np.array_equal(before["head.weight"], after["head.weight"])
