"""What the off-policy methods rest on, checked on games small enough to solve exactly.

References are to Zhong et al., "Heterogeneous-Agent Reinforcement Learning", JMLR 2024 (HARL), and
to Rashid et al., "QMIX", ICML 2018.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rllib_hetero.functional import (
    agent_row,
    best_value,
    joint_actions,
    soft_value,
    td_loss,
    td_target,
    values_in_turn,
)
from rllib_hetero.modules.mixer import TeamMixer

# HADDPG: a linear game with quadratic costs, in which deterministic policies can be valued exactly.

AGENTS, STATES, GAMMA = 3, 2, 0.9


@dataclass
class LinearGame:
    """x' = F x + G a,  r = -(x C x + a R a), one action component for each agent.

    R couples the agents: what counts most is the sum of their actions, so that all of them
    mending one fault at once mend it three times.
    """

    F: np.ndarray
    G: np.ndarray
    C: np.ndarray
    R: np.ndarray

    @classmethod
    def random(cls, seed: int) -> LinearGame:
        rng = np.random.default_rng(seed)
        return cls(
            F=0.8 * rng.normal(size=(STATES, STATES)) / np.sqrt(STATES),
            G=rng.normal(size=(STATES, 1)) + 0.2 * rng.normal(size=(STATES, AGENTS)),
            C=np.eye(STATES),
            R=np.ones((AGENTS, AGENTS)) + 0.1 * np.eye(AGENTS),
        )

    def cost_to_go(self, K: np.ndarray) -> np.ndarray | None:
        """P of V(x) = -x P x under a = K x: P = C + K R K + gamma A P A; None if infinite."""
        A = self.F + self.G @ K
        if GAMMA * np.abs(np.linalg.eigvals(A)).max() ** 2 >= 1.0:
            return None
        now = (self.C + K.T @ self.R @ K).ravel()
        later = GAMMA * np.kron(A.T, A.T)
        P = np.linalg.solve(np.eye(STATES**2) - later, now).reshape(STATES, STATES)
        return (P + P.T) / 2

    def q(self, P: np.ndarray, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        """Q(x, a) (B,) = r + gamma V(x') of states (B, d) and joint actions (B, n)."""
        F, G, C, R, P = (torch.from_numpy(m) for m in (self.F, self.G, self.C, self.R, P))
        after = x @ F.T + a @ G.T
        reward = -((x @ C) * x).sum(-1) - ((a @ R) * a).sum(-1)
        return reward - GAMMA * ((after @ P) * after).sum(-1)

    def curvature(self, P: np.ndarray) -> np.ndarray:
        """(n, n) H with Q(x, a) = .. - a H a."""
        return self.R + GAMMA * self.G.T @ P @ self.G

    def random_policy(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A joint policy K (n, d) of finite cost, and its P."""
        while True:
            K = rng.normal(size=(AGENTS, STATES))
            P = self.cost_to_go(K)
            if P is not None:
                return K, P


# The replay: states whose second moment is the identity, so that a step of the policy's matrix
# along the mean gradient is one along the gradient at every state.
REPLAY = torch.from_numpy(np.sqrt(STATES) * np.eye(STATES))


def deterministic_step(game, P, K, order, rate, *, sequential):
    """Each agent's ascent of eq. 14 on the old Q: with the predecessors' new actions, or not."""
    old = torch.from_numpy(K)
    new = old.clone()
    for i in order:
        own = old[i].clone().requires_grad_()
        joint = (new if sequential else old).clone()
        actions = REPLAY @ torch.cat([joint[:i], own[None], joint[i + 1 :]]).T
        (gradient,) = torch.autograd.grad(game.q(P, REPLAY, actions).mean(), own)
        new[i] = own.detach() + rate * gradient
    return new.numpy()


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_q_is_its_own_target(seed):
    game, rng = LinearGame.random(seed), np.random.default_rng(seed)
    K, P = game.random_policy(rng)
    x, a = (torch.from_numpy(rng.normal(size=(20, k))) for k in (STATES, AGENTS))
    after = x @ torch.from_numpy(game.F).T + a @ torch.from_numpy(game.G).T
    next_q = game.q(P, after, after @ torch.from_numpy(K).T)
    rewards = game.q(np.zeros_like(P), x, a)
    target = td_target(rewards, torch.full_like(rewards, GAMMA), next_q)
    torch.testing.assert_close(target, game.q(P, x, a))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_haddpg_never_lowers_the_return_where_simultaneous_steps_do(seed, share):
    # Along a_i alone, Q is -h_ii a^2 + ..: steps of less than 1 / h_ii raise it, those of half of
    # that go to its top, HAML's exact argmax.
    game, rng = LinearGame.random(seed), np.random.default_rng(100 + seed)
    starts, lowered, raised = 40, 0, 0
    for _ in range(starts):
        K, P = game.random_policy(rng)
        rate = share / np.diag(game.curvature(P)).max()
        order = rng.permutation(AGENTS).tolist()
        sequential = game.cost_to_go(deterministic_step(game, P, K, order, rate, sequential=True))
        # From every state: the costs' difference has no positive eigenvalue.
        assert sequential is not None
        assert np.linalg.eigvalsh(sequential - P).max() <= 1e-10 * np.trace(P)
        raised += np.trace(sequential) < np.trace(P)
        simultaneous = game.cost_to_go(
            deterministic_step(game, P, K, order, rate, sequential=False)
        )
        lowered += simultaneous is None or np.trace(simultaneous) > np.trace(P)
    assert raised == starts
    if share < 1 / AGENTS:  # Steps so small that all of them together are still no leap.
        assert lowered == 0
    else:
        assert lowered >= starts / 4


@pytest.mark.parametrize("seed", range(2))
def test_exact_argmaxes_in_turn_converge_to_the_best_joint_policy(seed):
    game, rng = LinearGame.random(seed), np.random.default_rng(200 + seed)
    best = np.zeros((STATES, STATES))
    for _ in range(1000):  # Value iteration: the Riccati recursion.
        cross = GAMMA * game.G.T @ best @ game.F
        K = -np.linalg.solve(game.curvature(best), cross)
        best = game.C + GAMMA * game.F.T @ best @ game.F + cross.T @ K
    policy, P = game.random_policy(rng)
    for _ in range(200):
        for i in rng.permutation(AGENTS):  # One agent a step, so that each has a rate of its own.
            rate = 0.5 / game.curvature(P)[i, i]
            policy = deterministic_step(game, P, policy, [i], rate, sequential=True)
            P = game.cost_to_go(policy)
            assert P is not None
    np.testing.assert_allclose(P, best, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(policy, K, rtol=1e-3, atol=1e-4)


# HASAC: agents that respond softly in turn raise the objective with entropy.


def soft_objective(q, policies, alphas):
    """E_{a ~ pi}[Q(a) + sum_i alpha_i H_i] of a payoff tensor and one policy for each agent."""
    joint = torch.tensor(list(itertools.product(*(range(n) for n in q.shape))))
    p = torch.stack([policies[i][joint[:, i]] for i in range(q.ndim)]).prod(0)
    entropies = torch.stack([-(x * x.log()).sum() for x in policies]).expand(len(joint), -1)
    return (p * soft_value(q.flatten(), entropies, alphas)).sum().item()


def soft_response(q, policies, i, alpha):
    """The best policy of agent i against the others': softmax(E[Q(., a)] / alpha)."""
    value = q.movedim(i, 0)
    for j in reversed(range(q.ndim)):
        if j != i:
            value = value @ policies[j]
    return (value / alpha).softmax(0)


@pytest.mark.parametrize("seed", range(5))
def test_soft_responses_in_turn_raise_the_objective_to_a_quantal_response_equilibrium(seed):
    rng, counts = np.random.default_rng(seed), (2, 3, 4)
    q = torch.from_numpy(rng.normal(size=counts))
    alphas = torch.from_numpy(rng.uniform(0.1, 0.5, size=3))
    policies = [torch.from_numpy(rng.dirichlet(np.ones(n))) for n in counts]
    value = soft_objective(q, policies, alphas)
    for _ in range(150):
        for i in rng.permutation(3):
            policies[i] = soft_response(q, policies, i, alphas[i])
            after = soft_objective(q, policies, alphas)
            assert after >= value - 1e-12
            value = after
    for i in range(3):
        torch.testing.assert_close(policies[i], soft_response(q, policies, i, alphas[i]))


def test_simultaneous_soft_responses_can_go_round_for_ever():
    # Both are paid for being alike, and each runs to where the other is.
    q, alpha = torch.eye(2, dtype=torch.float64), 0.1
    first = [torch.tensor(x, dtype=torch.float64) for x in ([0.9, 0.1], [0.1, 0.9])]
    at_once = first
    for _ in range(10):
        at_once = [soft_response(q, at_once, i, alpha) for i in range(2)]
        assert soft_objective(q, at_once, alpha) < 0.2
    in_turn = list(first)
    for i in (0, 1):
        in_turn[i] = soft_response(q, in_turn, i, alpha)
    assert soft_objective(q, in_turn, alpha) > 0.9


# HAD3QN: agents that learn what the critic says on their turn, and act on it alone.


@pytest.mark.parametrize("seed", range(4))
def test_individual_values_fitted_in_turn_are_greedy_for_an_equilibrium_of_the_critic(seed):
    # Rows of the critic, fitted exactly; the next round starts from everyone's greedy action.
    rng, counts = np.random.default_rng(seed), (3, 2, 4)
    q = torch.from_numpy(rng.normal(size=(1, 24)))
    joint = torch.tensor([[0, 0, 0]])
    for _ in range(10):
        order = rng.permutation(3).tolist()
        out = values_in_turn(lambda i, a: agent_row(q, i, a, counts), joint, order)
        joint = torch.stack([row.argmax(-1) for row in out.rows], dim=-1)
    value = q.reshape(counts)[tuple(joint[0])]
    for i in range(3):
        assert agent_row(q, i, joint, counts).max() == value


def test_turns_may_miss_the_joint_greedy_action_of_the_climbing_game():
    # Why the order and the start matter: from (2, 2), nobody leaves alone for (0, 0).
    payoff = torch.tensor([[11.0, -30.0, 0.0], [-30.0, 7.0, 6.0], [0.0, 0.0, 5.0]])
    q, counts = payoff.reshape(1, 9), (3, 3)
    assert joint_actions(q.argmax(-1), counts).tolist() == [[0, 0]]
    for start, ends in (((0, 0), (0, 0)), ((2, 2), (1, 1))):
        joint = torch.tensor([start])
        for _ in range(3):
            joint = values_in_turn(lambda i, a: agent_row(q, i, a, counts), joint, [0, 1]).best
        assert joint.tolist() == [list(ends)]


# QMIX: the two-step game of its paper (section 5, Table 1).

PAYOFFS = {1: torch.full((2, 2), 7.0), 2: torch.tensor([[0.0, 1.0], [1.0, 8.0]])}
TRANSITIONS = [
    # State, joint action, reward, next state (None: over). Agent 0 chooses the game.
    (s, a, 0.0 if s == 0 else PAYOFFS[s][a].item(), a[0] + 1 if s == 0 else None)
    for s in range(3)
    for a in itertools.product(range(2), repeat=2)
]


def play_greedily(q: torch.Tensor) -> float:
    """The return of both agents' greedy actions; q is (3 states, 2 agents, 2 actions)."""
    choice = int(q[0, 0].argmax())
    return PAYOFFS[choice + 1][tuple(q[choice + 1].argmax(-1))].item()


def learn_two_step_game(name: str, gamma: float, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Double Q-learning on all transitions at once: the agents' values, and the team's (12,)."""
    torch.manual_seed(0)
    mixer = TeamMixer(
        observation_space=Box(0.0, 1.0, (3,), np.float32),
        action_space=Box(-np.inf, np.inf, (2,), np.float32),
        model_config={"mixer": name, "hypernet_layers": 1, "mixing_embed_dim": 8},
    )
    q = torch.nn.Parameter(torch.zeros(3, 2, 2))
    target_q = q.detach().clone()
    state, actions, rewards, after = zip(*TRANSITIONS, strict=True)
    state, actions = torch.tensor(state), torch.tensor(actions)
    rewards = torch.tensor(rewards)
    discounts = torch.tensor([0.0 if s is None else gamma for s in after])
    after = torch.tensor([s or 0 for s in after])
    one_hot, alive = torch.eye(3), torch.ones(len(TRANSITIONS), 2, dtype=torch.bool)
    optimizer = torch.optim.Adam([q, *mixer.q_parameters()], lr=0.02)
    targets, online = [target_q], [q]
    for pair in mixer.target_pairs():
        targets.append(pair[0])
        online.append(pair[1])

    def values():
        own = q[state].gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return mixer.mix(own, one_hot[state], alive)

    for _ in range(steps):
        with torch.no_grad():
            next_own = best_value(target_q[after], q[after])
            next_values = mixer.mix_target(next_own, one_hot[after], alive)
        y = td_target(rewards, discounts, next_values)
        optimizer.zero_grad()
        td_loss(values(), y).mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(targets, online, 0.1)
    return q.detach(), values().detach()


def test_qmix_represents_the_two_step_game_and_reaches_8():
    q, total = learn_two_step_game("monotonic", 0.99, 500)
    expected = [0.99 * 7] * 2 + [0.99 * 8] * 2 + [7.0] * 4 + [0.0, 1.0, 1.0, 8.0]
    torch.testing.assert_close(total, torch.tensor(expected), atol=0.1, rtol=0)
    assert play_greedily(q) == 8.0


def test_a_sum_cannot_and_settles_for_7():
    q, total = learn_two_step_game("sum", 0.99, 500)
    # The least-squares fit of a sum to the second matrix: row and column means, less the mean.
    expected = [0.99 * 7] * 2 + [0.99 * 6.5] * 2 + [7.0] * 4 + [-1.5, 2.5, 2.5, 6.5]
    torch.testing.assert_close(total, torch.tensor(expected), atol=0.1, rtol=0)
    assert play_greedily(q) == 7.0
