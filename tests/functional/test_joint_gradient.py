"""F2A2's losses against objectives that are summed over all actions, and against loops."""

import math

import pytest
import torch

from rllib_hetero.functional import (
    JointGradient,
    deterministic_actor_loss,
    off_policy_critic_loss,
    on_policy_actor_loss,
    on_policy_critic_loss,
    soft_actor_loss,
    truncated_ratio,
)

LITERAL = JointGradient.literal(0.7, 1.3)
JOINTS = (
    JointGradient(0.7, 1.3, 0.2, 0.4, "coincident"),
    JointGradient(0.7, 1.3, 0.2, 0.4, "off"),
    LITERAL,
    JointGradient.separate(0.7, 1.3),
)
every_joint = pytest.mark.parametrize("joint", JOINTS, ids=lambda j: j.critic_resampled)
# Sums of fewer than ten float64 numbers of size 1.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}
REL = {"rel": 1e-12, "abs": 1e-12}


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ratios_are_cut():
    p = torch.tensor([0.5, 0.1, 0.9, 0.0]).log().clamp(min=torch.finfo(torch.float32).min)
    q = torch.tensor([0.25, 0.2, 0.0, 0.5]).log().clamp(min=torch.finfo(torch.float32).min)
    torch.testing.assert_close(truncated_ratio(p, q), torch.tensor([1.0, 0.5, 1.0, 0.0]))
    torch.testing.assert_close(truncated_ratio(p, q, 1.5), torch.tensor([1.5, 0.5, 1.5, 0.0]))
    assert truncated_ratio(p[3:], p[3:]).item() == 1.0  # of what nobody would do
    with pytest.raises(ValueError, match="positive"):
        truncated_ratio(p, q, 0.0)
    with pytest.raises(ValueError, match="Shapes"):
        truncated_ratio(p, q[:2])


def samples(k=2, rows=6, agents=2):
    """Values of K critics and all that goes with them, of (rows, agents) samples."""
    shape = (rows, agents)
    values, again = draws(k, *shape, seed=1), draws(k, *shape, seed=2)
    rho, kappa = draws(*shape, seed=4).sigmoid(), draws(*shape, seed=5).sigmoid()
    return values, again, draws(*shape, seed=3), rho, kappa, draws(*shape, seed=6) > 0


@every_joint
@pytest.mark.parametrize("k", [1, 2])
def test_the_critics_gradient_by_hand(joint, k):
    """Proposition 4's and 6's coefficients of each gradient of Q, sample by sample."""
    values, again, y, rho, kappa, same = samples(k)
    values.requires_grad_(), again.requires_grad_()
    loss = off_policy_critic_loss(values, again, y, rho, kappa, same, joint) + 0.0 * again.sum(0)
    of_values, of_again = torch.autograd.grad(loss.sum(), (values, again))
    values, again = values.detach(), again.detach()
    assert 0 < same.sum() < same.numel()
    for place in [(i, j) for i in range(6) for j in range(2)]:
        for q in range(k):
            delta = float(values[q][place] - y[place])
            delta_again = float(again[q][place] - y[place])
            weight = {
                "paper": float(kappa[place]),
                "coincident": float(kappa[place]) * bool(same[place]),
                "off": 0.0,
            }[joint.critic_resampled]
            first = joint.critic_alpha1 if q == 0 else 0.0
            replayed = -first * float(rho[place]) + 2 * joint.alpha2 * delta
            drawn = -first + 2 * joint.alpha2 * weight * delta_again
            assert of_values[q][place].item() == pytest.approx(replayed, **REL)
            assert of_again[q][place].item() == pytest.approx(drawn, **REL)


@every_joint
def test_the_deterministic_actors_gradient_is_that_of_the_objective(joint):
    """-alpha_1 Q_1(a) + alpha_2 kappa sum_j (Q_j(a) - y)^2 as a function of a continuous action."""
    _, _, y, _, kappa, _ = samples()
    action, slopes = draws(6, 2, seed=7).requires_grad_(), draws(2, 6, 2, seed=8)

    def q(a):
        return torch.sin(slopes * a) + slopes

    deterministic_actor_loss(q(action), y, kappa, joint).sum().backward()
    plain = action.detach().clone().requires_grad_()
    errors = (q(plain) - y).square().sum(0)
    (-joint.alpha1 * q(plain)[0] + joint.actor_alpha2 * kappa * errors).sum().backward()
    torch.testing.assert_close(action.grad, plain.grad, **CLOSE)


@every_joint
def test_comas_gradients_summed_over_actions(joint):
    """J = -alpha_1 E_pi[Q] + alpha_2 E_pi[delta^2], differentiated as it stands."""
    logits, values, y = (draws(4, 5, seed=s) for s in (1, 2, 3))
    logits.requires_grad_(), values.requires_grad_()
    log_pi = logits.log_softmax(-1)
    pi = log_pi.exp().detach()
    baseline = (pi * values).sum(-1, keepdim=True)
    errors = (values - y).square()
    actor = (pi * on_policy_actor_loss(log_pi, values - baseline, errors, joint)).sum()
    critic = (pi * on_policy_critic_loss(values, y, joint)).sum()
    of_actor = torch.autograd.grad(actor, logits)[0]
    of_critic = torch.autograd.grad(critic, values)[0]

    p = logits.softmax(-1)
    objective = (-joint.alpha1 * p * values + joint.actor_alpha2 * p * errors).sum()
    # The advantage's baseline is no bias: it is not in this sum.
    torch.testing.assert_close(of_actor, torch.autograd.grad(objective, logits)[0], **CLOSE)
    p = p.detach()
    objective = (-joint.critic_alpha1 * p * values + joint.alpha2 * p * (values - y) ** 2).sum()
    torch.testing.assert_close(of_critic, torch.autograd.grad(objective, values)[0], **CLOSE)


@every_joint
def test_the_soft_actors_gradient_summed_over_actions(joint):
    """Without truncation: the entropy-regularised value under pi twice (replayed actions weighted
    by pi/mu, and drawn anew), and alpha_2 sum_a mu(a) log pi(a) sum_j delta_j^2."""
    logits, behaviour = draws(4, 5, seed=1).requires_grad_(), draws(4, 5, seed=2)
    values, y, tau = draws(2, 4, 5, seed=3), draws(4, 1, seed=4), 0.3
    log_pi, log_mu = logits.log_softmax(-1), behaviour.log_softmax(-1)
    pi, mu = log_pi.exp().detach(), log_mu.exp()
    soft = values[0] - tau * log_pi.detach()
    advantages = soft - (pi * values[0]).sum(-1, keepdim=True)
    errors = (values - y).square().sum(0)
    rho, kappa = truncated_ratio(log_pi, log_mu, 1e9), truncated_ratio(log_mu, log_pi, 1e9)
    zero = torch.zeros_like(errors)
    on_replayed = soft_actor_loss(log_pi, advantages, rho, log_pi, zero, kappa, zero, joint)
    on_drawn = soft_actor_loss(log_pi, zero, rho, log_pi, advantages, kappa, errors, joint)
    loss = (mu * on_replayed).sum() + (pi * on_drawn).sum()
    (gradient,) = torch.autograd.grad(loss, logits)

    p = logits.softmax(-1)
    value = (p * (values[0] - tau * p.log())).sum()
    times = 2 if joint.actor_replayed else 1
    objective = -joint.alpha1 * times * value
    objective = objective + joint.actor_alpha2 * (mu * p.log() * errors).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(objective, logits)[0], **CLOSE)


def test_a_constant_error_moves_the_literal_policy_away_from_the_behaviour():
    """What the documentation says of the term: it is not zero where no action is worse."""
    logits = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    log_mu = torch.tensor([[0.9, 0.1]], dtype=torch.float64).log()
    log_pi, zero, one = logits.log_softmax(-1), torch.zeros(1, 2), torch.ones(1, 2)
    kappa = truncated_ratio(log_mu, log_pi)
    loss = soft_actor_loss(
        log_pi, zero.double(), zero.double(), log_pi, zero.double(), kappa, one.double(), LITERAL
    )
    (0.5 * loss).sum().backward()
    # sum_a min(pi, mu) grad log pi = (0.5, 0.1) - 0.6 (0.5, 0.5): down on what was done more.
    expected = 1.3 * torch.tensor([[0.2, -0.2]], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected, **CLOSE)


def test_the_joint_critics_shift():
    """With rho = kappa = 1 the critic rests alpha_1 / (2 alpha_2 (1 - gamma)) too high."""
    joint, gamma, reward = JointGradient.literal(1.0, 1.0), 0.9, 0.5
    q = torch.zeros((), dtype=torch.float64)
    one, same = torch.ones((), dtype=torch.float64), torch.tensor(True)
    for _ in range(400):
        q = q.detach().requires_grad_()
        y = reward + gamma * q.detach()
        loss = off_policy_critic_loss(q[None], q[None], y, one, one, same, joint)
        (gradient,) = torch.autograd.grad(loss.sum(), q)
        q = q.detach() - 0.25 * gradient
    bias = q.item() - reward / (1 - gamma)
    assert bias == pytest.approx(1.0 / (2 * 1.0 * (1 - gamma)), rel=1e-9)


def test_bad_shapes_and_words():
    values, again, y, rho, kappa, same = samples()
    with pytest.raises(ValueError, match="Shapes"):
        off_policy_critic_loss(values, again, y[:1], rho, kappa, same, LITERAL)
    with pytest.raises(ValueError, match="critic_resampled"):
        odd = JointGradient(critic_resampled="always")
        off_policy_critic_loss(values, again, y, rho, kappa, same, odd)
    with pytest.raises(ValueError, match="Shapes"):
        deterministic_actor_loss(values, y, kappa[:1], LITERAL)
    with pytest.raises(ValueError, match="Shapes"):
        on_policy_critic_loss(values[0], y[:1], LITERAL)
    with pytest.raises(ValueError, match="Shapes"):
        on_policy_actor_loss(values[0], y, kappa[:1], LITERAL)
    assert math.isfinite(on_policy_critic_loss(values[0], y, LITERAL).sum().item())
