"""HATRPO's step against HARL's Algorithm 3 with a dense Fisher matrix.

The slow half works in double precision and from definitions: the Fisher matrix is the mean of
outer products of scores over all actions (by quadrature for normals), the linear system is
solved by elimination, divergences are those of torch.
"""

import copy

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from toys import ULP, SlowTeam, make_learner, make_runner, sample, small_config, update

from rllib_hetero import HATRPOConfig
from rllib_hetero.algorithms.on_policy.hatrpo import HATRPOLearner
from rllib_hetero.errors import NonFiniteUpdateError
from rllib_hetero.learners.on_policy.on_policy_learner import CORRECTION

ORDER = ["b", "c", "a"]
MANY = 200  # iterations of conjugate gradients after which nothing is left to solve


def make(env=None, *, to_train=None, sharing=None, learner_class=None, **training):
    settings = {
        "cg_iterations": MANY,
        "cg_damping": 0.2,
        "kl_threshold": 0.003,
        "update_order": ORDER,
    }
    config = small_config(
        HATRPOConfig, env_config=env, model={"hidden_sizes": [4]}, **(settings | training)
    )
    if to_train is not None:
        config.multi_agent(policies_to_train=to_train)
    if sharing is not None:
        config.multi_agent(parameter_sharing=sharing)
    if learner_class is not None:
        config.learners(learner_class=learner_class)
    config.validate()
    learner = make_learner(config)
    return learner, make_runner(config)


def metrics_of(results):
    logger = MetricsLogger(root=True)
    logger.aggregate([results], key="learners")
    return logger.reduce()["learners"]


def states(learner):
    return {
        m: {k: p.detach().clone() for k, p in learner.module[m].named_parameters()}
        for m in learner.module.keys()  # noqa: SIM118
    }


def unmoved(learner, before, m):
    return all(torch.equal(p, before[m][k]) for k, p in learner.module[m].named_parameters())


def corrections(learner):
    """Fills up with (module id, correction, advantages) of each agent in turn."""
    seen, inner = [], learner.update_agent

    def watched(module_id, rows, position):
        seen.append((module_id, rows[CORRECTION].clone(), rows["advantages"].clone()))
        return inner(module_id, rows, position)

    learner.update_agent = watched
    return seen


class SlowHATRPO(SlowTeam):
    """`SlowTeam` with the trust-region step of Algorithm 3."""

    def __init__(self, learner, frozen=()):
        super().__init__(learner)
        self.frozen = set(frozen)
        self.steps = {}

    def _sequential(self, agent, rows, advantages, correction, position):
        (m,) = (m for m, agents in self.groups.items() if agent in agents)
        obs = self.actor_input(agent, [r.obs[agent] for r in rows]).double()
        act = torch.tensor(np.array([r.act[agent] for r in rows]))
        alive = torch.tensor([r.alive[agent] for r in rows]) > 0
        old = self._old(m, rows)[agent]
        if m not in self.frozen and alive.any():
            weights = (correction * advantages).double()[alive]  # HARL's M
            self.steps[agent] = self.natural_step(
                m, obs[alive], act[alive], old.double()[alive], weights
            )
        with torch.no_grad():
            ratio = torch.exp(self.actors[m].log_prob(obs.float(), act) - old)
        return correction * torch.where(alive, ratio, 1.0)

    def natural_step(self, m, obs, act, old, weights):
        c, actor = self.c, copy.deepcopy(self.actors[m]).double()
        params = list(actor.parameters())

        def objective():
            value = (weights * torch.exp(actor.log_prob(obs, act) - old)).mean()
            return value + c.entropy_coeff * actor.entropy(obs).mean()

        start = objective()
        g = row(torch.autograd.grad(start, params))
        h = fisher(actor, obs) + c.cg_damping * torch.eye(len(g), dtype=torch.double)
        if c.cg_iterations == MANY:
            x = torch.linalg.solve(h, g)
        else:  # The best point of the Krylov space: what so many iterations reach.
            krylov = [g]
            while len(krylov) < c.cg_iterations:
                krylov.append(h @ krylov[-1])
            k = torch.linalg.qr(torch.stack(krylov, 1)).Q
            x = k @ torch.linalg.solve(k.T @ h @ k, k.T @ g)
        full = torch.sqrt(2 * c.kl_threshold / (x @ h @ x)) * x
        # The solution of a linear system is off by the rounding of g times the system's condition;
        # and by the correction it is handed on to all agents that follow.
        condition = float(h.trace()) / c.cg_damping
        size = float(full.abs().max())
        self.roundings["actors"] += ULP * len(obs) ** 0.5 * condition * size
        before, centre = row(params).clone(), actor_parts(actor, obs)
        entropy = actor.entropy(obs).mean().item()
        fraction, improvement, kl = 0.0, 0.0, 0.0
        for j in range(c.line_search_steps + 1):
            alpha = c.backtrack_coeff**j
            put(params, before + alpha * full)
            with torch.no_grad():
                gain = float(objective() - start)
                divergence = float(divergences(centre, actor_parts(actor, obs)).mean())
            if (
                gain > 0
                and divergence <= c.kl_threshold
                and gain >= c.accept_ratio * alpha * (full @ g)
            ):
                fraction, improvement, kl = alpha, gain, divergence
                break
        put(params, before + fraction * full)
        if fraction:
            for p, q in zip(self.actors[m].parameters(), params, strict=True):
                p.data.copy_(q.data)
        return {
            "full": full,
            "mean_kl": kl,
            "step_fraction": fraction,
            "expected_improvement": fraction * float(full @ g),
            "improvement": improvement,
            "rejected_updates": float(fraction == 0),
            "cg_residual": float((g - h @ x).norm() / g.norm()),
            "gradient_norm": float(g.norm()),
            "entropy": entropy,
        }


def row(tensors):
    return torch.cat([x.detach().reshape(-1) for x in tensors])


def put(params, vector):
    at = 0
    for p in params:
        p.data.copy_(vector[at : at + p.numel()].view_as(p))
        at += p.numel()


def actor_parts(actor, obs):
    with torch.no_grad():
        return actor.parts(obs)


def divergences(old, new):
    return sum(torch.distributions.kl_divergence(p, q) for p, q in zip(old, new, strict=True))


def fisher(actor, obs):
    """Mean over rows of E_a[s s^T], s the gradient of log pi(a|o); sample by sample."""
    params = list(actor.parameters())
    size = sum(p.numel() for p in params)
    total = torch.zeros(size, size, dtype=torch.double)
    # Scores of a normal are quadratic in the noise, their products quartic: 5 nodes are exact.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    for i in range(len(obs)):
        for part in actor.parts(obs[i : i + 1]):
            if isinstance(part, torch.distributions.Normal):
                actions = (part.mean + part.stddev * torch.tensor(nodes)).detach()
                chances = weights
            else:
                actions = torch.arange(part.probs.shape[-1])
                chances = part.probs[0].tolist()
            for action, chance in zip(actions, chances, strict=True):
                grads = torch.autograd.grad(
                    part.log_prob(action[None])[0], params, retain_graph=True, allow_unused=True
                )
                s = row(
                    torch.zeros_like(p) if x is None else x
                    for x, p in zip(grads, params, strict=True)
                )
                total += chance * torch.outer(s, s) / len(obs)
    return total


# ---- the step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.1, 0.5])
@pytest.mark.parametrize(
    "env", [{}, {"dies": {"b": 2}, "state": True}, {"scheme": "shared", "end": "alternate"}]
)
def test_each_agent_takes_the_natural_step_of_its_corrected_objective(env, damping):
    learner, runner = make(env, cg_damping=damping)
    slow, before = SlowHATRPO(learner), states(learner)
    start = {m: slow.actors[m].weights() for m in ORDER}
    start = {m: {k: p.clone() for k, p in w.items()} for m, w in start.items()}
    fragments = sample(runner, learner)
    results = metrics_of(update(learner, fragments))
    slow.update(fragments, order=ORDER)
    slow.assert_same(learner)
    assert slow.corrections["a"].std() > 0.02  # The test would see a correction left out.
    for m in ORDER:
        # Relative to the step itself: a wrong scale of a small entry would show.
        full = slow.steps[m]["full"]
        step = []
        for name in slow.actors[m].weights():
            now = dict(learner.module[m].named_parameters())[name].detach()
            step.append((now - before[m][name]).double())
        taken = row(step) / float(results[m]["step_fraction"])
        scale = float(full.abs().max())
        assert scale > 1e-3
        torch.testing.assert_close(taken, full, rtol=2e-3, atol=2e-3 * scale)


@pytest.mark.parametrize("kind", ["box", "discrete", "multi"])
def test_one_agent_is_trpo(kind):
    learner, runner = make({"agents": {"only": (3, kind)}}, update_order="random")
    slow = SlowHATRPO(learner)
    for _ in range(2):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=["only"])
        assert torch.equal(slow.corrections["only"], torch.ones(24))
    slow.assert_same(learner)
    assert slow.steps["only"]["step_fraction"] > 0


def test_several_iterations_with_critic_and_own_learning_rate():
    learner, runner = make({"state": True}, critic_lr=0.01, critic_num_epochs=4, minibatch_size=7)
    slow = SlowHATRPO(learner)
    for _ in range(3):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=ORDER)
    slow.assert_same(learner)


@pytest.mark.parametrize("iterations", [1, 3])
def test_few_iterations_are_those_of_conjugate_gradients(iterations):
    learner, runner = make(cg_iterations=iterations)
    slow = SlowHATRPO(learner)
    fragments = sample(runner, learner)
    results = metrics_of(update(learner, fragments))
    slow.update(fragments, order=ORDER)
    slow.assert_same(learner)
    for m in ORDER:
        residual = slow.steps[m]["cg_residual"]
        assert residual > 0.02
        assert float(results[m]["cg_residual"]) == pytest.approx(residual, rel=0.01)


@pytest.mark.parametrize("coefficient", [0.0, 0.3])
def test_entropy_enters_the_objective(coefficient):
    learner, runner = make(entropy_coeff=coefficient)
    slow = SlowHATRPO(learner)
    fragments = sample(runner, learner)
    update(learner, fragments)
    slow.update(fragments, order=ORDER)
    slow.assert_same(learner)


def test_entropy_changes_the_step():
    ends = []
    for coefficient in (0.0, 0.3):
        learner, runner = make(entropy_coeff=coefficient)
        update(learner, sample(runner, learner))
        ends.append(states(learner)["b"]["head.weight"])
    assert (ends[0] - ends[1]).abs().max() > 1e-3


@pytest.mark.parametrize("threshold", [1e-5, 1e-3, 0.05, 0.5])
def test_divergence_of_the_result_is_within_the_threshold(threshold):
    learner, runner = make({"dies": {"a": 3}}, kl_threshold=threshold, cg_damping=0.01)
    slow = SlowTeam(learner)
    fragments = sample(runner, learner)
    results = metrics_of(update(learner, fragments))
    after, rows = SlowTeam(learner), slow.rows(fragments)
    for m in ORDER:
        living = [r.obs[m] for r in rows if r.alive[m]]
        obs = slow.actor_input(m, living)
        old, new = actor_parts(slow.actors[m], obs), actor_parts(after.actors[m], obs)
        kl = float(divergences(old, new).mean())
        fraction = float(results[m]["step_fraction"])
        assert 0 < kl <= threshold * 1.001
        assert kl == pytest.approx(float(results[m]["mean_kl"]), rel=1e-3, abs=1e-7)
        if fraction == 1.0:  # Only the damping keeps it from the border.
            assert kl > 0.3 * threshold


@pytest.mark.parametrize("backtrack", [0.8, 0.5])
def test_statistics_of_the_step(backtrack):
    # A threshold so large that the model fails: the search must go back some of the way.
    learner, runner = make(kl_threshold=0.6, backtrack_coeff=backtrack, accept_ratio=0.6)
    slow = SlowHATRPO(learner)
    fragments = sample(runner, learner)
    results = metrics_of(update(learner, fragments))
    slow.update(fragments, order=ORDER)
    slow.assert_same(learner)
    assert min(s["step_fraction"] for s in slow.steps.values()) < 1
    for m in ORDER:
        for name, value in slow.steps[m].items():
            if name == "cg_residual":
                assert 0 <= float(results[m][name]) < 1e-4
            elif name != "full":
                told = float(results[m][name])
                assert told == pytest.approx(value, rel=5e-3, abs=1e-6), (m, name)
        assert "clip_fraction" not in results[m]


# ---- rejected steps -----------------------------------------------------------------------------


class WorseFor(HATRPOLearner):
    """Whoever is at these places in the order finds every trial worse; the gradient is right."""

    positions = (1, 2, 3)

    def surrogate(self, change, config):
        gain = super().surrogate(change, config)
        if change.position in self.positions:
            gain = gain - 1e6 * (change.ratio.detach() - 1.0).abs()
        return gain


class WorseForFirst(WorseFor):
    positions = (1,)


def test_an_update_that_is_rejected_leaves_every_bit():
    learner, runner = make(learner_class=WorseFor)
    before, seen = states(learner), corrections(learner)
    results = metrics_of(update(learner, sample(runner, learner)))
    assert [m for m, *_ in seen] == ORDER
    for m, correction, _ in seen:
        assert unmoved(learner, before, m)
        assert torch.equal(correction, torch.ones_like(correction)), m
        told = {name: float(results[m][name]) for name in ("rejected_updates", "step_fraction")}
        assert told == {"rejected_updates": 1.0, "step_fraction": 0.0}
        assert float(results[m]["mean_kl"]) == 0.0
        assert float(results[m]["improvement"]) == 0.0
        assert float(results[m]["expected_improvement"]) == 0.0
    assert not unmoved(learner, before, "critic")


def test_a_step_too_long_for_the_search_is_rejected():
    learner, runner = make(accept_ratio=1.0, kl_threshold=1e4, line_search_steps=0)
    slow, before, seen = SlowHATRPO(learner), states(learner), corrections(learner)
    fragments = sample(runner, learner)
    results = metrics_of(update(learner, fragments))
    slow.update(fragments, order=ORDER)
    for m, correction, _ in seen:
        assert unmoved(learner, before, m)
        assert torch.equal(correction, torch.ones_like(correction)), m
        assert float(results[m]["rejected_updates"]) == 1.0 == slow.steps[m]["rejected_updates"]


def test_after_a_rejected_update_the_others_go_on_as_if_it_were_the_first():
    learner, runner = make({"state": True}, learner_class=WorseForFirst)
    slow, before, seen = SlowHATRPO(learner, frozen={"b"}), states(learner), corrections(learner)
    fragments = sample(runner, learner)
    results = metrics_of(update(learner, fragments))
    slow.update(fragments, order=ORDER)
    assert unmoved(learner, before, "b")
    second, third = seen[1][1], seen[2][1]
    assert torch.equal(second, torch.ones_like(second))
    assert third.std() > 0.01
    assert [float(results[m]["rejected_updates"]) for m in ORDER] == [1.0, 0.0, 0.0]
    slow.assert_same(learner)


def test_number_of_trials_of_the_search():
    for steps in (0, 3):
        learner, runner = make(learner_class=WorseFor, line_search_steps=steps)
        calls, inner = [], learner.objective

        def counted(*args, calls=calls, inner=inner):
            calls.append(1)
            return inner(*args)

        learner.objective = counted
        update(learner, sample(runner, learner))
        critic_free = len(calls)  # The critic's loss has no objective.
        assert critic_free == 3 * (1 + steps + 1)  # the start, the full step, and the shorter


# ---- who does not count -------------------------------------------------------------------------


def test_what_the_dead_see_and_do_does_not_matter():
    env = {"dies": {"b": 2, "a": 3}, "state": True}
    ends = []
    for poison in (False, True):
        learner, runner = make(env)
        (fragment,) = sample(runner, learner)
        if poison:
            rng = np.random.default_rng(0)
            for m in ("a", "b"):
                dead = ~fragment.active[m]
                assert dead.any()
                seen = fragment.observations[m]
                seen[dead] = rng.normal(0, 3, seen[dead].shape)
                if m == "a":
                    fragment.actions[m][dead] = rng.normal(0, 3, fragment.actions[m][dead].shape)
                else:
                    fragment.actions[m][dead] = 3 - fragment.actions[m][dead]
        results = metrics_of(update(learner, [fragment]))
        ends.append((states(learner), results))
    for m, weights in ends[0][0].items():
        for name, p in weights.items():
            torch.testing.assert_close(ends[1][0][m][name], p, rtol=0, atol=2e-6)
    for m in ORDER:
        for name in ("mean_kl", "entropy", "improvement", "gradient_norm"):
            one, two = (float(results[m][name]) for _, results in ends)
            assert two == pytest.approx(one, rel=1e-4)


def test_an_agent_that_is_dead_throughout_does_not_move():
    learner, runner = make({"state": True})
    slow, before, seen = SlowHATRPO(learner), states(learner), corrections(learner)
    (fragment,) = sample(runner, learner)
    fragment.active["b"][:] = False
    update(learner, [fragment])
    slow.update([fragment], order=ORDER)
    assert unmoved(learner, before, "b") and not unmoved(learner, before, "a")
    assert torch.equal(seen[1][1], torch.ones(24))
    slow.assert_same(learner)


def test_frozen_modules_do_not_move():
    learner, runner = make(to_train=["b", "a"])
    slow, before = SlowHATRPO(learner, frozen={"c"}), states(learner)
    fragments = sample(runner, learner)
    update(learner, fragments)
    slow.update(fragments, order=ORDER)
    assert unmoved(learner, before, "c")
    assert not unmoved(learner, before, "a") and not unmoved(learner, before, "b")
    slow.assert_same(learner)


def test_agents_of_one_network_step_one_after_another_on_it():
    env = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box")}, "dies": {"a": 3}}
    learner, runner = make(env, sharing={"twins": ["a", "c"]}, update_order=["c", "b", "a"])
    slow = SlowHATRPO(learner)
    fragments = sample(runner, learner)
    update(learner, fragments)
    slow.update(fragments, order=["c", "b", "a"])
    assert slow.steps["a"]["step_fraction"] > 0 and slow.steps["c"]["step_fraction"] > 0
    slow.assert_same(learner)


# ---- failures and states ------------------------------------------------------------------------


def test_an_advantage_that_is_not_a_number_changes_nothing():
    learner, runner = make()
    before = states(learner)
    (fragment,) = sample(runner, learner)
    fragment.rewards[2, 1] = np.nan
    with pytest.raises(NonFiniteUpdateError, match="'b'"):
        update(learner, [fragment])
    assert all(unmoved(learner, before, m) for m in before)


def test_a_restored_learner_goes_on_the_same():
    learner, runner = make(update_order="random")
    update(learner, sample(runner, learner))
    saved = copy.deepcopy(learner.get_state())
    fragments = sample(runner, learner)
    update(learner, fragments)
    other, _ = make(update_order="random")
    other.set_state(saved)
    update(other, fragments)
    after = states(learner)
    assert all(unmoved(other, after, m) for m in after)
    # Actors have no optimiser, and so no state of one.
    assert [name for name in saved["optimizer"] if "critic" not in name] == []


def test_slow_half_knows_a_fisher_matrix():
    # Of a linear softmax and of a normal by their closed forms.
    learner, runner = make()
    slow = SlowTeam(learner)
    rows = slow.rows(sample(runner, learner))[:3]
    for m in ("a", "b"):
        actor = copy.deepcopy(slow.actors[m]).double()
        obs = slow.actor_input(m, [r.obs[m] for r in rows]).double()
        f = fisher(actor, obs)
        names = [actor.names[k] for k, _ in actor.named_parameters()]
        sizes = [p.numel() for p in actor.parameters()]
        at = sum(sizes[: names.index("head.bias")])
        k = sizes[names.index("head.bias")]
        block = f[at : at + k, at : at + k]
        if isinstance(actor.space, Box):
            std = torch.sigmoid(actor.std_logit.detach()) * 0.5
            expected = torch.diag(1 / std**2)
        else:
            p = torch.softmax(actor.net(obs).detach(), -1)
            expected = torch.diag(p.mean(0)) - (p.T @ p) / len(p)
        torch.testing.assert_close(block, expected)
