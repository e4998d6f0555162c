"""The theory that the algorithms rest on, checked exactly on games small enough to solve.

References are to Zhong et al., "Heterogeneous-Agent Reinforcement Learning", JMLR 2024 (HARL).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rllib_hetero.functional import (
    Categorical,
    DiagGaussian,
    clipped_surrogate,
    fold,
    linear_surrogate,
    masked_mean,
    policy_ratio,
)

STATES, AGENTS, ACTIONS, GAMMA = 3, 3, 2, 0.9
JOINT = list(itertools.product(range(ACTIONS), repeat=AGENTS))
ORDERS = list(itertools.permutations(range(AGENTS)))
SEEDS = range(2)


# A random cooperative Markov game, solved exactly.


@dataclass
class Game:
    """A tabular game with one joint policy.

    Attributes:
        transitions: (S, A, ..., A, S), one axis of actions per agent.
        rewards: (S, A, ..., A).
        policies: (n, S, A), pi^i(a | s).
    """

    transitions: np.ndarray
    rewards: np.ndarray
    policies: np.ndarray

    @classmethod
    def random(cls, seed: int) -> Game:
        rng = np.random.default_rng(seed)
        joint = (ACTIONS,) * AGENTS
        return cls(
            transitions=rng.dirichlet(np.ones(STATES), size=(STATES, *joint)),
            rewards=rng.normal(size=(STATES, *joint)),
            policies=random_policies(rng),
        )

    def probability(self, policies: np.ndarray, s: int, actions: dict[int, int]) -> float:
        """Probability that the agents named in `actions` take them."""
        return float(np.prod([policies[i, s, a] for i, a in actions.items()]))

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """V (S,) and Q (S, A, ..., A) of the joint policy, from the Bellman equations."""
        p, r = np.zeros((STATES, STATES)), np.zeros(STATES)
        for s, joint in itertools.product(range(STATES), JOINT):
            weight = self.probability(self.policies, s, dict(enumerate(joint)))
            p[s] += weight * self.transitions[(s, *joint)]
            r[s] += weight * self.rewards[(s, *joint)]
        v = np.linalg.solve(np.eye(STATES) - GAMMA * p, r)
        return v, self.rewards + GAMMA * self.transitions @ v

    def multi_agent_q(self, q: np.ndarray, s: int, actions: dict[int, int]) -> float:
        """Definition 3: Q of the named agents' actions, the others' marginalised out."""
        others = [i for i in range(AGENTS) if i not in actions]
        total = 0.0
        for rest in itertools.product(range(ACTIONS), repeat=len(others)):
            rest_actions = dict(zip(others, rest, strict=True))
            joint = actions | rest_actions
            weight = self.probability(self.policies, s, rest_actions)
            total += weight * q[(s, *(joint[i] for i in range(AGENTS)))]
        return total

    def multi_agent_advantage(
        self, q: np.ndarray, s: int, given: dict[int, int], own: dict[int, int]
    ) -> float:
        """Eq. 1: the advantage of the actions `own` where others have taken `given`."""
        return self.multi_agent_q(q, s, given | own) - self.multi_agent_q(q, s, given)


def random_policies(rng: np.random.Generator) -> np.ndarray:
    return rng.dirichlet(np.ones(ACTIONS), size=(AGENTS, STATES))


@pytest.mark.parametrize("seed", SEEDS)
def test_solved_game_satisfies_the_bellman_equations(seed):
    game = Game.random(seed)
    v, q = game.solve()
    for s in range(STATES):
        assert game.multi_agent_q(q, s, {}) == pytest.approx(v[s])
        assert game.multi_agent_advantage(q, s, {}, {}) == 0.0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_lemma_4_advantage_decomposition(seed, order):
    game = Game.random(seed)
    v, q = game.solve()
    for s, joint, m in itertools.product(range(STATES), JOINT, range(1, AGENTS + 1)):
        first = {i: joint[i] for i in order[:m]}
        total, given = 0.0, {}
        for i in order[:m]:
            total += game.multi_agent_advantage(q, s, given, {i: joint[i]})
            given = given | {i: joint[i]}
        assert game.multi_agent_advantage(q, s, {}, first) == pytest.approx(total, abs=1e-12)
        if m == AGENTS:
            assert q[(s, *joint)] - v[s] == pytest.approx(total, abs=1e-12)


def float64(numbers: Iterable[float]) -> torch.Tensor:
    return torch.tensor(list(numbers), dtype=torch.float64)


def joint_probabilities(game: Game, policies: np.ndarray, s: int) -> torch.Tensor:
    """Probability of each joint action, (A^n,)."""
    return float64(game.probability(policies, s, dict(enumerate(joint))) for joint in JOINT)


def log_probs(policies: np.ndarray, i: int, s: int) -> torch.Tensor:
    """Log-probability of agent i's part of each joint action, (A^n,)."""
    logits = torch.from_numpy(policies[i, s]).log().expand(len(JOINT), -1)
    return Categorical(ACTIONS).log_prob(logits, torch.tensor(JOINT)[:, i])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_proposition_9_only_the_joint_advantage_is_needed(seed, order):
    game = Game.random(seed)
    v, q = game.solve()
    other = random_policies(np.random.default_rng(seed + 100))  # pi-bar, and pi-hat of agent i_m.
    everyone = torch.ones(len(JOINT), dtype=torch.bool)
    for s in range(STATES):
        old_weights = joint_probabilities(game, game.policies, s)
        advantages = float64(q[(s, *joint)] - v[s] for joint in JOINT)
        correction = torch.ones(len(JOINT), dtype=torch.float64)
        for m, i in enumerate(order):
            # Left side of eq. 9, by the definition of the multi-agent advantage.
            left = 0.0
            for part in itertools.product(range(ACTIONS), repeat=m + 1):
                actions = dict(zip(order[: m + 1], part, strict=True))
                given = {j: actions[j] for j in order[:m]}
                weight = game.probability(other, s, actions)
                left += weight * game.multi_agent_advantage(q, s, given, {i: actions[i]})
            # Right side, by the functions that the algorithms use.
            new, old = log_probs(other, i, s), log_probs(game.policies, i, s)
            ratio = policy_ratio(new, old)
            objective = linear_surrogate(ratio - 1.0, advantages, correction)
            right = masked_mean(objective, old_weights)
            assert right.item() == pytest.approx(left, abs=1e-12)
            correction = fold(correction, new, old, everyone)


@pytest.mark.parametrize("seed", SEEDS)
def test_summands_of_all_agents_add_up_to_the_expected_advantage_of_the_new_policy(seed):
    # Lemma 4 under the expectation: what the agents gain in turn is what the team gains.
    game = Game.random(seed)
    v, q = game.solve()
    other = random_policies(np.random.default_rng(seed + 100))
    everyone = torch.ones(len(JOINT), dtype=torch.bool)
    for s in range(STATES):
        old_weights = joint_probabilities(game, game.policies, s)
        advantages = float64(q[(s, *joint)] - v[s] for joint in JOINT)
        expected = masked_mean(advantages, joint_probabilities(game, other, s))
        total, correction = 0.0, torch.ones(len(JOINT), dtype=torch.float64)
        for i in range(AGENTS):
            new, old = (log_probs(p, i, s) for p in (other, game.policies))
            objective = linear_surrogate(policy_ratio(new, old) - 1.0, advantages, correction)
            total += masked_mean(objective, old_weights).item()
            correction = fold(correction, new, old, everyone)
        assert total == pytest.approx(expected.item(), abs=1e-12)


# Example 1: a matrix game in which two agents that each do their best do their worst.

MATRIX = torch.tensor([[0.0, 2.0], [2.0, -1.0]], dtype=torch.float64)
PAIRS = torch.tensor(list(itertools.product(range(2), repeat=2)))


def matrix_return(policies: list[torch.Tensor]) -> float:
    return (policies[0] @ MATRIX @ policies[1]).item()


def pair_log_probs(policy: torch.Tensor, i: int) -> torch.Tensor:
    return Categorical(2).log_prob(policy.log().expand(4, -1), PAIRS[:, i])


def best_response(i: int, old: list[torch.Tensor], correction: torch.Tensor) -> torch.Tensor:
    """Agent i's argmax of E_{a ~ old}[M r A]. Linear in its policy: a vertex is the best."""
    weights = (old[0][:, None] * old[1]).flatten()
    advantages = MATRIX.flatten() - matrix_return(old)
    objectives = []
    vertices = torch.eye(2, dtype=torch.float64)
    for vertex in vertices:
        ratio = policy_ratio(pair_log_probs(vertex, i), pair_log_probs(old[i], i))
        objectives.append(masked_mean(linear_surrogate(ratio, advantages, correction), weights))
    return vertices[int(torch.stack(objectives).argmax())]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("p", "q"), [(0.61, 0.61), (0.7, 0.9), (0.99, 0.65)])
def test_example_1_simultaneous_loses_and_sequential_gains(p, q, first):
    old = [torch.tensor([x, 1.0 - x], dtype=torch.float64) for x in (p, q)]
    ones = torch.ones(4, dtype=torch.float64)

    simultaneous = [best_response(i, old, ones) for i in range(2)]
    assert matrix_return(simultaneous) == MATRIX.min().item() == -1.0
    assert matrix_return(simultaneous) < matrix_return(old)

    second = 1 - first
    sequential = list(old)
    sequential[first] = best_response(first, old, ones)
    new_old = pair_log_probs(sequential[first], first), pair_log_probs(old[first], first)
    correction = fold(ones, *new_old, torch.ones(4, dtype=torch.bool))
    sequential[second] = best_response(second, old, correction)
    assert matrix_return(sequential) == MATRIX.max().item() == 2.0
    assert matrix_return(sequential) > matrix_return(old)


# Figure 1: r(a1, a2) = a1 * a2 with Gaussian policies, expectations by quadrature on a grid.

STEP = 0.25
GRID = torch.arange(-14.0, 14.0, STEP, dtype=torch.float64)
POINTS = torch.cartesian_prod(GRID, GRID)


def gaussian_log_probs(mean: torch.Tensor, i: int) -> torch.Tensor:
    inputs = torch.stack([mean, torch.zeros_like(mean)]).expand(len(POINTS), 2)
    return DiagGaussian(1).log_prob(inputs, POINTS[:, i : i + 1])


def ascend(i: int, old: torch.Tensor, correction: torch.Tensor, rate: float, surrogate) -> float:
    """Agent i's mean after one gradient step on E_{a ~ old}[M r A]."""
    weights = sum(gaussian_log_probs(old[j], j) for j in range(2)).exp() * STEP**2
    advantages = POINTS.prod(-1) - old.prod()
    mean = old[i].clone().requires_grad_()
    ratio = policy_ratio(gaussian_log_probs(mean, i), gaussian_log_probs(old[i], i))
    objective = masked_mean(surrogate(ratio, advantages, correction), weights, total=1.0)
    (grad,) = torch.autograd.grad(objective, mean)
    return (mean + rate * grad).item()


@pytest.mark.parametrize(
    "surrogate",
    [linear_surrogate, lambda r, a, m: clipped_surrogate(r, a, 0.2, m)],
    ids=["linear", "clipped"],
)
@pytest.mark.parametrize("start", [(1.0, -1.0), (-1.0, 1.0), (1.5, -0.5), (-0.5, 1.0)])
def test_figure_1_simultaneous_steps_lower_and_sequential_steps_raise_the_return(start, surrogate):
    rate = 4.0
    old = torch.tensor(start, dtype=torch.float64)
    ones = torch.ones(len(POINTS), dtype=torch.float64)
    x, y = start

    simultaneous = [ascend(i, old, ones, rate, surrogate) for i in range(2)]
    assert simultaneous == pytest.approx([x + rate * y, y + rate * x], abs=1e-6)
    assert simultaneous[0] * simultaneous[1] < x * y

    x_new = ascend(0, old, ones, rate, surrogate)
    log_new = gaussian_log_probs(torch.tensor(x_new, dtype=torch.float64), 0)
    everywhere = torch.ones(len(POINTS), dtype=torch.bool)
    correction = fold(ones, log_new, gaussian_log_probs(old[0], 0), everywhere)
    y_new = ascend(1, old, correction, rate, surrogate)
    # Agent 2 follows the gradient at agent 1's new mean, by importance weights alone.
    assert y_new == pytest.approx(y + rate * x_new, abs=1e-6)
    assert x_new * y_new > x * y
