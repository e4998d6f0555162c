"""F2A2's losses: one objective of actor and critic together, for each of its instantiations.

The paper minimises costs c. Here rewards are maximised: with r = -c, Q = -Q_cost and
delta = -delta_cost the objective alpha_1 J_actor + alpha_2 J_critic becomes

    minimise  -alpha_1 E_pi[Q] + alpha_2 E[delta^2],    delta = Q - y

over actor *and* critic parameters, so that the critic has a term of the actor's objective, and the
actor one of the critic's. Everything below is in this form, to be minimised. How what is printed
was read, where it leaves a choice:

- Proposition 4 prints alpha_1 + 2 alpha_2 delta, Appendix B alpha_1 - 2 alpha_2 delta. Both are
  right: the first descends costs, the second climbs rewards.
- Appendix E and Figure 10 mix the two: taken literally, entropy would be minimised, and of two
  critics the more hopeful one be believed. Here entropy is paid for, and the smaller value taken.
- Of the critic's two expectations the first is over replayed actions, the second over actions that
  the policies draw anew (Propositions 4 and 6); Proposition 5 and the last lines of D.2 print the
  replay in both.
- The baseline of COMA and SAC is a constant: E[Q - B] = 0, so that with a gradient of B the
  critic's term of alpha_1 would vanish. The paper leaves that gradient out without a word.
- An action drawn anew was not executed: there is no reward for it. Its error delta~ is taken
  against the replayed transition's target, the only one there is.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_hetero.functional._shapes import same_shape

RESAMPLED = ("paper", "coincident", "off")
"""What `JointGradient.critic_resampled` may be."""


@dataclass(frozen=True)
class JointGradient:
    """How much of each other's objective actor and critic are given.

    The paper has two numbers, alpha_1 and alpha_2. Taken literally, all that we tried of them end
    in a policy that has stopped to learn; the documentation shows the runs. So the terms that one
    side has of the other's objective have coefficients of their own. `literal` has the paper's.

    Attributes:
        alpha1: Of the actor's objective, in the actor's loss.
        alpha2: Of the critic's objective, in the critic's loss.
        critic_alpha1: alpha_1 in the critic's loss. It raises the values of what the policy does:
            where nothing else pulls, by alpha_1 / (2 alpha_2 (1 - gamma)).
        actor_alpha2: alpha_2 in the actor's loss.
        critic_resampled: Which actions drawn anew the critic's error is taken of: "paper", all;
            "coincident", where the joint action is the replayed one, whose target is then right;
            "off", none.
        actor_replayed: Whether a stochastic policy also climbs the values of replayed actions,
            each by how likely it still is.
    """

    alpha1: float = 1.0
    alpha2: float = 1.0
    critic_alpha1: float = 0.01
    actor_alpha2: float = 0.01
    critic_resampled: str = "coincident"
    actor_replayed: bool = True

    @classmethod
    def literal(cls, alpha1: float, alpha2: float) -> JointGradient:
        """As printed: one alpha_1 and one alpha_2 for both, errors of all actions drawn anew."""
        return cls(alpha1, alpha2, alpha1, alpha2, "paper")

    @classmethod
    def separate(cls, alpha1: float, alpha2: float) -> JointGradient:
        """None of the other's objective: [1]'s ablation "w/o-JOINT"."""
        return cls(alpha1, alpha2, 0.0, 0.0, "off", actor_replayed=False)


def off_policy_critic_loss(
    values: Tensor,
    resampled_values: Tensor,
    targets: Tensor,
    rho: Tensor,
    kappa: Tensor,
    coincident: Tensor,
    joint: JointGradient,
) -> Tensor:
    """The critics' loss of DDPG, TD3 and SAC.

        E_a[-alpha_1 rho Q_1 + alpha_2 sum_j delta_j^2]
        + E_a~[-alpha_1 Q~_1 + alpha_2 kappa sum_j delta~_j^2]

    Args:
        values: [K, ...] Q_j(o, a) of the replayed joint action a.
        resampled_values: [K, ...] Q~_j = Q_j(o, a~) of one drawn anew.
        targets: [...] y. No gradient is taken.
        rho: [...] truncated pi / mu of the agent's own a.
        kappa: [...] truncated mu / pi of its own a~.
        coincident: [...] bool, whether a~ = a.
        joint: Coefficients.

    Returns:
        [...] loss of each sample.

    Raises:
        ValueError: If shapes do not fit, or `critic_resampled` is another word.

    Reference:
        [1], Proposition 4 (K = 1), Propositions 5 and 6 (K = 2; alpha_1 with the first critic
        only); Remark 4 (truncation).
    """
    same_shape(values=values, resampled_values=resampled_values)
    same_shape(value=values[0], targets=targets, rho=rho, kappa=kappa, coincident=coincident)
    if joint.critic_resampled not in RESAMPLED:
        raise ValueError(
            f"`critic_resampled` is {joint.critic_resampled!r}; use one of {RESAMPLED}."
        )
    targets, rho, kappa = targets.detach(), rho.detach(), kappa.detach()
    loss = joint.alpha2 * (values - targets).square().sum(0)
    if joint.critic_alpha1:
        loss = loss - joint.critic_alpha1 * (rho * values[0] + resampled_values[0])
    if joint.critic_resampled != "off":
        weights = kappa if joint.critic_resampled == "paper" else kappa * coincident
        errors = (resampled_values - targets).square().sum(0)
        loss = loss + joint.alpha2 * weights * errors
    return loss


def deterministic_actor_loss(
    values: Tensor, targets: Tensor, kappa: Tensor, joint: JointGradient
) -> Tensor:
    """The actor's loss of DDPG and TD3.

        -alpha_1 Q_1 + sum_j 2 alpha_2 kappa sg(delta~_j) Q_j

    sg is without gradient. As a function of the action alone: its gradient is that of
    -alpha_1 Q_1 + alpha_2 kappa sum_j delta~_j^2.

    Args:
        values: [K, ...] Q_j(o, a~), a~ a differentiable function of the policy in the agent's own
            place, a constant in the others'.
        targets: [...] y of the replayed transition.
        kappa: [...] truncated mu / pi of the agent's own a~.
        joint: Coefficients.

    Returns:
        [...] loss of each sample.

    Raises:
        ValueError: If shapes do not fit.

    Reference:
        [1], Proposition 4 (K = 1) and 5 (K = 2); Appendix B has the sign of rewards.
    """
    same_shape(value=values[0], targets=targets, kappa=kappa)
    errors = (values - targets).detach()
    weights = -2.0 * joint.actor_alpha2 * kappa.detach() * errors
    weights = torch.cat([weights[:1] + joint.alpha1, weights[1:]])
    return -(weights * values).sum(0)


def soft_actor_loss(
    log_probs: Tensor,
    advantages: Tensor,
    rho: Tensor,
    resampled_log_probs: Tensor,
    resampled_advantages: Tensor,
    kappa: Tensor,
    squared_errors: Tensor,
    joint: JointGradient,
) -> Tensor:
    """The actor's loss of SAC.

        E_a[-alpha_1 rho log pi(a) A(a)]
        + E_a~[-alpha_1 log pi(a~) A(a~) + alpha_2 kappa log pi(a~) sum_j delta~_j^2]

    With `JointGradient.separate`, what is left is MAAC's: -log pi(a~) A(a~).

    Args:
        log_probs: [...] log pi_i(a_i | o_i) of the agent's replayed action.
        advantages: [...] A(a) = Q_1(o, a) - tau log pi_i(a_i | o_i) - B(o, a_-i).
        rho: [...] truncated pi / mu of it.
        resampled_log_probs: [...] log pi_i(a~_i | o_i) of the action that it draws anew.
        resampled_advantages: [...] A(a~).
        kappa: [...] truncated mu / pi of that.
        squared_errors: [...] sum_j delta~_j^2.
        joint: Coefficients.

    Returns:
        [...] loss of each sample, with a gradient of the log-probabilities alone.

    Raises:
        ValueError: If shapes differ.

    Reference:
        [1], Proposition 6, with the signs of rewards; Iqbal and Sha, ICML 2019, eq. 8.
    """
    same_shape(
        log_probs=log_probs,
        advantages=advantages,
        rho=rho,
        resampled_log_probs=resampled_log_probs,
        resampled_advantages=resampled_advantages,
        kappa=kappa,
        squared_errors=squared_errors,
    )
    climbs = joint.alpha1 * resampled_advantages.detach()
    away = joint.actor_alpha2 * (kappa * squared_errors).detach()
    loss = -resampled_log_probs * (climbs - away)
    if joint.actor_replayed:
        loss = loss - joint.alpha1 * (rho * advantages).detach() * log_probs
    return loss


def on_policy_critic_loss(values: Tensor, targets: Tensor, joint: JointGradient) -> Tensor:
    """The critic's loss of COMA.

        E[-alpha_1 Q + alpha_2 delta^2]

    Args:
        values: [...] Q(o, a) of what was done.
        targets: [...] y. No gradient is taken.
        joint: Coefficients.

    Returns:
        [...] loss of each sample.

    Raises:
        ValueError: If shapes differ.

    Reference:
        [1], Proposition 3, second line, with the signs of rewards.
    """
    same_shape(values=values, targets=targets)
    return joint.alpha2 * (values - targets.detach()).square() - joint.critic_alpha1 * values


def on_policy_actor_loss(
    log_probs: Tensor, advantages: Tensor, squared_errors: Tensor, joint: JointGradient
) -> Tensor:
    """The actor's loss of COMA.

        -E[log pi(a) sg(alpha_1 (Q - B) - alpha_2 delta^2)]

    Args:
        log_probs: [...] log pi_i(a_i | o_i) of what was done.
        advantages: [...] Q(o, a) - B(o, a_-i).
        squared_errors: [...] delta^2.
        joint: Coefficients.

    Returns:
        [...] loss of each sample, with a gradient of the log-probabilities alone.

    Raises:
        ValueError: If shapes differ.

    Reference:
        [1], Proposition 3, first line, with the signs of rewards.
    """
    same_shape(log_probs=log_probs, advantages=advantages, squared_errors=squared_errors)
    weights = joint.alpha1 * advantages - joint.actor_alpha2 * squared_errors
    return -log_probs * weights.detach()
