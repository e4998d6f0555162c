"""BPPO's two terms, exactly, in teams of two small enough to integrate.

Agent 1 acts, agent 2 sees its action. Data come from the old policies; agent 2 is updated first.
The independent side is numpy: sums over the data, differentiated by central differences.
"""

import math

import numpy as np
import pytest
import torch

from rllib_hetero.functional import (
    Categorical,
    DiagGaussian,
    clipped_surrogate,
    encode,
    peer_surrogate,
    policy_ratio,
    reparameterized,
)

NO_CLIP = 1e9
SEEDS = range(3)


def central(f, x, step=1e-5):
    """Gradient of f at x."""
    x = np.asarray(x, np.float64)
    steps = step * np.eye(x.size)
    return np.array([(f(x + h) - f(x - h)) / (2 * step) for h in steps])


def double(x):
    return torch.as_tensor(np.asarray(x), dtype=torch.float64)


# Hand-made cases.


def test_the_weight_is_the_side_that_ppos_minimum_takes():
    # eps = 0.2. r * A is taken inside the interval and wherever it is the smaller one.
    rows = [
        # r, A, weight
        (1.0, 2.0, 1.0),
        (1.0, -2.0, 1.0),
        (1.1, 2.0, 1.1),
        (0.9, -2.0, 0.9),
        (1.5, 2.0, 1.2),
        (1.5, -2.0, 1.5),
        (0.5, 2.0, 0.5),
        (0.5, -2.0, 0.8),
        (3.0, 0.0, 3.0),
    ]
    ratio, advantages, weight = torch.tensor(rows).unbind(1)
    ratio.requires_grad_()
    feedback = torch.tensor([[3.0, -1.0, 0.5]]).expand(len(rows), 3)
    action = torch.randn(len(rows), 3).requires_grad_()
    value = peer_surrogate(ratio, advantages, 0.2, feedback, action)
    assert value.shape == ratio.shape and (value == 0.0).all()
    grad, none = torch.autograd.grad(value.sum(), (action, ratio), allow_unused=True)
    torch.testing.assert_close(grad, (weight * advantages)[:, None] * feedback)
    assert none is None


def test_the_clipped_side_keeps_its_peer_gradient_though_the_own_term_has_none():
    ratio = torch.tensor([1.5, 0.5], requires_grad=True)
    advantages = torch.tensor([1.0, -1.0])
    action = torch.zeros(2, 1, requires_grad=True)
    own = clipped_surrogate(ratio, advantages, 0.2)
    peer = peer_surrogate(ratio, advantages, 0.2, torch.ones(2, 1), action)
    by_ratio, by_action = torch.autograd.grad((own + peer).sum(), (ratio, action))
    assert by_ratio.tolist() == [0.0, 0.0]
    torch.testing.assert_close(by_action, torch.tensor([[1.2], [-0.8]]))


@pytest.mark.parametrize("shape", [(), (0,), (4, 2)])
def test_no_feedback_no_gradient(shape):
    action = torch.randn(*shape, 3, requires_grad=True)
    ratio, advantages = torch.rand(shape) + 0.5, torch.randn(shape)
    value = peer_surrogate(ratio, advantages, 0.2, torch.zeros(*shape, 3), action)
    assert value.shape == shape
    (grad,) = torch.autograd.grad(value.sum(), action)
    assert (grad == 0.0).all()


def test_peer_surrogate_rejects_bad_arguments():
    x, wide = torch.ones(4), torch.ones(4, 3)
    with pytest.raises(ValueError, match="Shapes"):
        peer_surrogate(x, x[:1], 0.2, wide, wide)
    with pytest.raises(ValueError, match="Shapes"):
        peer_surrogate(x, x, 0.2, wide[:, :1], wide)
    for wrong in (wide[:1], torch.ones(3), torch.ones(2, 4, 3)):
        with pytest.raises(ValueError, match="action"):
            peer_surrogate(x, x, 0.2, wrong, wrong)
    with pytest.raises(ValueError, match="clip_param"):
        peer_surrogate(x, x, 0.0, wide, wide)
    with pytest.raises(ValueError, match="gradient"):
        peer_surrogate(x, x, 0.2, wide.clone().requires_grad_(), wide)


# A linear-Gaussian team: a1 ~ N(m, s), a2 ~ N(w * a1 + b, s2). Parameters are (m, log s) and
# (w, b, log s2). Expectations are sums over Gauss-Hermite nodes of the old policies.

OLD_1 = np.array([0.3, -0.2])
MOVED_1 = np.array([0.42, -0.3])
OLD_2 = np.array([0.7, -0.4, 0.1])
NEW_2 = np.array([0.9, -0.1, -0.05])
NODES = 60


def normal_log_pdf(x, mean, log_std):
    z = (x - mean) * np.exp(-log_std)
    return -0.5 * z * z - log_std - 0.5 * np.log(2 * np.pi)


def advantage(a1, a2):
    return a1 * a2 - 0.5 * a2**2 + a1


def log_pdf_2(a2, a1, parameters):
    w, b, log_std = parameters
    return normal_log_pdf(a2, w * a1 + b, log_std)


def gaussian_data():
    """Weights, a1 and a2 of the old policies: (NODES^2,) each."""
    x, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = weight / weight.sum()
    a1 = np.repeat(OLD_1[0] + np.exp(OLD_1[1]) * x, NODES)
    a2 = OLD_2[0] * a1 + OLD_2[1] + np.exp(OLD_2[2]) * np.tile(x, NODES)
    return np.outer(weight, weight).ravel(), a1, a2


def slow_gaussian_terms(theta, new_2=NEW_2):
    """Own term, peer term and both, differentiated by differences of the data's sums."""
    weight, a1, a2 = gaussian_data()
    noise = (a1 - theta[0]) / np.exp(theta[1])

    def ratio_1(x):
        return np.exp(normal_log_pdf(a1, *x) - normal_log_pdf(a1, *OLD_1))

    def product(x):
        action = x[0] + np.exp(x[1]) * noise
        return np.exp(log_pdf_2(a2, action, new_2) - log_pdf_2(a2, a1, OLD_2))

    a = advantage(a1, a2)
    own = central(lambda x: np.sum(weight * ratio_1(x) * product(theta) * a), theta)
    peer = central(lambda x: np.sum(weight * ratio_1(theta) * product(x) * a), theta)
    both = central(lambda x: np.sum(weight * ratio_1(x) * product(x) * a), theta)
    return own, peer, both


def gaussian_terms(theta, clip_param=NO_CLIP, origin=0.0, peer_of=peer_surrogate):
    """The same from the package. Agent 2 sees a1 + origin, and its policy makes up for it."""
    weight, a1, a2 = (double(x) for x in gaussian_data())
    dist = DiagGaussian(1)
    w, b, log_std = double(NEW_2)
    a = advantage(a1, a2)

    seen = (a1 + origin).unsqueeze(-1).requires_grad_()
    mean = w * seen + b - w * origin
    logp_new = dist.log_prob(torch.cat([mean, log_std.expand_as(mean)], -1), a2.unsqueeze(-1))
    logp_old = double(log_pdf_2(a2.numpy(), a1.numpy(), OLD_2))
    product = policy_ratio(logp_new, logp_old)
    (feedback,) = torch.autograd.grad(product.sum(), seen)

    parameters = double(theta).requires_grad_()
    inputs = parameters.expand(len(a1), 2)
    logp = dist.log_prob(inputs, a1.unsqueeze(-1))
    ratio = policy_ratio(logp, double(normal_log_pdf(a1.numpy(), *OLD_1)))
    message = reparameterized(dist, inputs, a1.unsqueeze(-1), None, 1.0) + origin
    own = clipped_surrogate(ratio, a, clip_param, product.detach())
    peer = peer_of(ratio, a, clip_param, feedback, message)
    return [
        torch.autograd.grad((weight * term).sum(), parameters, retain_graph=True)[0].numpy()
        for term in (own, peer, own + peer)
    ]


@pytest.mark.parametrize("theta", [OLD_1, MOVED_1], ids=["first step", "later step"])
def test_gaussian_team_both_terms_are_the_derivatives_of_their_channels(theta):
    for actual, expected in zip(gaussian_terms(theta), slow_gaussian_terms(theta), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-8)
        assert (abs(expected) > 0.04).all()


@pytest.mark.parametrize("theta", [OLD_1, MOVED_1], ids=["first step", "later step"])
def test_gaussian_team_both_terms_in_closed_form(theta):
    """Importance weights turn the old policies' data into expectations of the new ones."""
    (m, log_s), (w, b, log_s2) = theta, NEW_2
    var = math.exp(2 * log_s)

    def expected_advantage(x):
        mean, variance = x[0], math.exp(2 * x[1])
        mean_2 = w * mean + b
        variance_2 = w * w * variance + math.exp(2 * log_s2)
        return w * variance + mean * mean_2 - 0.5 * (mean_2**2 + variance_2) + mean

    own, peer, _ = gaussian_terms(theta)
    np.testing.assert_allclose(own, central(expected_advantage, theta), rtol=0, atol=1e-6)
    # Only a2's mean w * a1 + b follows a1: E[dA/da2 * w * da1] with dA/da2 = a1 - a2,
    # d a1 / d m = 1 and d a1 / d log s = a1 - m.
    expected = [w * (m - w * m - b), w * (1 - w) * var]
    np.testing.assert_allclose(peer, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("clip_param", [0.1, NO_CLIP])
def test_gaussian_team_the_clipped_weight_replaces_the_ratio(clip_param):
    """By the slow loop of eq. 6's peer part, with PPO's choice of the side."""
    weight, a1, a2 = gaussian_data()
    w, b, log_s2 = NEW_2
    expected, clipped = np.zeros(2), 0
    for c, x, y in zip(weight, a1, a2, strict=True):
        r = math.exp(normal_log_pdf(x, *MOVED_1) - normal_log_pdf(x, *OLD_1))
        a = advantage(x, y)
        bounded = min(max(r, 1 - clip_param), 1 + clip_param)
        chosen = r if r * a <= bounded * a else bounded
        clipped += chosen != r
        product = math.exp(log_pdf_2(y, x, NEW_2) - log_pdf_2(y, x, OLD_2))
        feedback = product * w * (y - w * x - b) * math.exp(-2 * log_s2)
        expected += c * chosen * a * feedback * np.array([1.0, x - MOVED_1[0]])
    np.testing.assert_allclose(gaussian_terms(MOVED_1, clip_param)[1], expected, atol=1e-9)
    assert (clipped > 100) == (clip_param == 0.1)


def peer_inside_the_minimum(ratio, advantages, clip_param, feedback, action):
    """Eq. 6 to the letter, less the own term's gradient."""
    r = ratio.detach()
    inner = (feedback * action).sum(-1)
    sides = [(x + x * inner) * advantages for x in (r, r.clamp(1 - clip_param, 1 + clip_param))]
    return torch.minimum(*sides)


def test_where_an_actions_zero_lies_does_not_matter():
    for clip_param in (0.1, NO_CLIP):
        for origin in (-3.0, 2.0):
            actual = gaussian_terms(MOVED_1, clip_param, origin)
            np.testing.assert_allclose(
                actual, gaussian_terms(MOVED_1, clip_param), rtol=0, atol=1e-10
            )
    letter = [gaussian_terms(MOVED_1, 0.1, c, peer_inside_the_minimum)[1] for c in (0.0, 2.0)]
    assert abs(letter[0] - letter[1]).max() > 1e-3


# A discrete team: agent 1's logits, agent 2's logits = one-hot(a1) @ W + c, so that they are
# defined for a relaxed action too. Joint actions are enumerated.

CHOICES_2 = 3
TEMPERATURE = 0.6


class Game:
    """A matrix game of n x 3 actions with old, new policies and an advantage."""

    def __init__(self, n, seed, moved=True):
        rng = np.random.default_rng(seed)
        self.n = n
        self.old_1, step_1 = rng.normal(size=(2, n))
        self.old_2, step_2 = rng.normal(size=(2, n + 1, CHOICES_2))
        self.new_1 = self.old_1 + 0.3 * step_1 * moved
        self.new_2 = self.old_2 + 0.3 * step_2 * moved
        self.payoff = 5.0 * rng.normal(size=(n, CHOICES_2))

    def policy_2(self, seen, parameters):
        """Probabilities of agent 2: (..., 3), of messages (..., n)."""
        return softmax(seen @ parameters[:-1] + parameters[-1])

    @property
    def weight(self):
        """Probabilities of the joint actions under the old policies: (n, 3)."""
        return softmax(self.old_1)[:, None] * self.policy_2(np.eye(self.n), self.old_2)

    @property
    def product(self):
        """M of the joint actions: (n, 3)."""
        seen = np.eye(self.n)
        return self.policy_2(seen, self.new_2) / self.policy_2(seen, self.old_2)

    @property
    def feedback(self):
        """grad M of the joint actions, by differences: (n, 3, n)."""
        old = self.policy_2(np.eye(self.n), self.old_2)
        return np.array(
            [
                [
                    central(lambda x, b=b: self.policy_2(x, self.new_2)[b], np.eye(self.n)[a])
                    / old[a, b]
                    for b in range(CHOICES_2)
                ]
                for a in range(self.n)
            ]
        )


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def terms(game, a1, a2, a, exponentials, clip_param=NO_CLIP):
    """Per sample, the gradients of the own and the peer term in agent 1's logits: (N, n)."""
    dist_1, dist_2 = Categorical(game.n), Categorical(CHOICES_2)
    seen = torch.from_numpy(encode(dist_1, a1)).double().requires_grad_()
    k, b = torch.from_numpy(a1), torch.from_numpy(a2)

    def logp_2(parameters):
        return dist_2.log_prob(seen @ double(parameters[:-1]) + double(parameters[-1]), b)

    product = policy_ratio(logp_2(game.new_2), logp_2(game.old_2).detach())
    (feedback,) = torch.autograd.grad(product.sum(), seen)

    inputs = double(np.tile(game.new_1, (len(a1), 1))).requires_grad_()
    old = double(game.old_1).expand_as(inputs)
    ratio = policy_ratio(dist_1.log_prob(inputs, k), dist_1.log_prob(old, k))
    action = reparameterized(dist_1, inputs, k, exponentials, TEMPERATURE)
    own = clipped_surrogate(ratio, double(a), clip_param, product.detach())
    peer = peer_surrogate(ratio, double(a), clip_param, feedback, action)
    return [torch.autograd.grad(t.sum(), inputs, retain_graph=True)[0].numpy() for t in (own, peer)]


def exact_terms(game, a, grid=1):
    """The terms' means over the joint actions, and over a grid of quantiles of the exponentials."""
    u = (np.arange(grid) + 0.5) / grid
    quantiles = -np.log1p(-u)
    e = np.stack(np.meshgrid(*[quantiles] * game.n, indexing="ij"), -1).reshape(-1, game.n)
    a1, a2 = (x.ravel() for x in np.indices(a.shape))
    count = len(e)
    own, peer = terms(
        game,
        np.repeat(a1, count),
        np.repeat(a2, count),
        np.repeat(a.ravel(), count),
        double(np.tile(e, (a.size, 1))),
    )
    weight = np.repeat(game.weight.ravel(), count)[:, None] / count
    return np.sum(weight * own, 0), np.sum(weight * peer, 0)


def slow_peer_of_two_choices(game, a, points=20_000):
    """By one integral over D = G_1 - G_0, which is logistic; action 1 is taken above l_0 - l_1."""
    p = softmax(game.new_1)
    ratio = p / softmax(game.old_1)
    gap = game.new_1[1] - game.new_1[0]
    u = (np.arange(points) + 0.5) / points
    out = np.zeros(2)
    for taken, quantile in ((0, p[0] * u), (1, p[0] + p[1] * u)):
        d = np.log(quantile / (1 - quantile))
        s = 1 / (1 + np.exp(-(gap + d) / TEMPERATURE))
        slope = np.mean(s * (1 - s)) / TEMPERATURE
        answer = game.feedback[taken, :, 1] - game.feedback[taken, :, 0]
        total = np.sum(game.weight[taken] * ratio[taken] * a[taken] * answer) * slope
        out += total * np.array([-1.0, 1.0])
    return out


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [2, 3])
def test_discrete_team_the_own_term_is_the_derivative_of_its_channel(n, seed):
    game = Game(n, seed)

    def surrogate(logits):
        ratio = softmax(logits) / softmax(game.old_1)
        return np.sum(game.weight * ratio[:, None] * game.product * game.payoff)

    own, _ = exact_terms(game, game.payoff)
    np.testing.assert_allclose(own, central(surrogate, game.new_1), rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_choices_the_peer_term_is_the_integral_over_all_noise(seed):
    game = Game(2, seed)
    _, peer = exact_terms(game, game.payoff, grid=200)
    expected = slow_peer_of_two_choices(game, game.payoff)
    assert abs(expected).max() > 0.005
    np.testing.assert_allclose(peer, expected, rtol=0, atol=2e-4 * abs(expected).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_three_choices_the_peer_term_is_that_of_fresh_gumbel_noise(seed):
    """Actions of the old policy, weighted and given their noise, or drawn anew with theirs."""
    game, count = Game(3, seed), 200_000
    rng = np.random.default_rng(seed)
    joint = rng.choice(game.weight.size, size=count, p=game.weight.ravel())
    a1, a2 = np.unravel_index(joint, game.weight.shape)
    e = torch.from_numpy(rng.standard_exponential((count, 3)))
    _, samples = terms(game, a1, a2, game.payoff[a1, a2], e)

    scores = game.new_1 + rng.gumbel(size=(count, 3))
    a1, soft = scores.argmax(1), softmax(scores / TEMPERATURE)
    policy = game.policy_2(np.eye(3), game.old_2)
    answer = np.einsum("ab,ab,abc->ac", policy, game.payoff, game.feedback)[a1]
    # d softmax: soft_i * (delta_ij - soft_j) / T.
    fresh = soft * (answer - (soft * answer).sum(1, keepdims=True)) / TEMPERATURE

    error = np.sqrt((samples.var(0) + fresh.var(0)) / count)
    difference = samples.mean(0) - fresh.mean(0)
    assert (abs(difference) < 4 * error).all()
    assert (abs(fresh.mean(0)) > 20 * error).any()


# What the two terms are to the return.


def advantage_of(game):
    return game.payoff - np.sum(game.weight * game.payoff)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_own_term_alone_is_the_gradient_of_the_return(seed):
    """The paper's theorem adds the peer term to a gradient that is already whole.

    Agent 1's policy only changes how often each of its actions is seen; agent 2's answers are in
    the mean of R given that action. The peer term is a further direction, and not zero.
    """
    game = Game(2, seed, moved=False)

    def expected_return(logits):
        policy_2 = game.policy_2(np.eye(2), game.old_2)
        return np.sum(softmax(logits)[:, None] * policy_2 * game.payoff)

    own, peer = exact_terms(game, advantage_of(game), grid=100)
    np.testing.assert_allclose(own, central(expected_return, game.old_1), rtol=0, atol=1e-8)
    assert abs(peer).max() > 0.005


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("n", [2, 3])
def test_a_baseline_of_the_first_action_leaves_the_peer_term(n, moved):
    """The sum of pi_old(a2) * grad M over a2 is that of grad pi_new(a2): the gradient of 1."""
    game = Game(n, 0, moved)
    baseline = np.array([5.0, -3.0, 2.0])[:n, None]
    _, peer = exact_terms(game, advantage_of(game), grid=5)
    _, shifted = exact_terms(game, advantage_of(game) + baseline, grid=5)
    np.testing.assert_allclose(shifted, peer, rtol=0, atol=1e-12)
    _, other = exact_terms(game, advantage_of(game) + np.arange(CHOICES_2), grid=5)
    assert abs(other - peer).max() > 0.01
