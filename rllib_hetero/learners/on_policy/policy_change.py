"""What a surrogate or a drift is computed from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rllib_hetero.functional import ClosedForm


@dataclass(frozen=True)
class PolicyChange:
    """Samples of one module, under the policy that drew them and under the one being made.

    The samples' shape is (b,); (b, n_m) where all n_m agents of a module are updated at once;
    with one more axis for time, (b, L) or (b, L, n_m), where a module has a memory. Everything
    but the ratio and the new inputs is without gradient.

    Attributes:
        ratio: New over old probability of the action that was taken.
        log_ratio: Its logarithm, which stays finite where the ratio under- or overflows.
        advantages: The advantages of the joint action.
        correction: M without the advantage: what the other agents' changes weigh the sample
            with. Ones for the first agent of an update order.
        inputs: The new policy's distribution inputs, (..., p).
        old_inputs: The old policy's.
        dist: Turns inputs into log-probabilities, entropies and divergences.
        position: The agent's place in the update order, from 1; 1 in simultaneous updates.
        num_agents: How many agents the team has.
    """

    ratio: Tensor
    log_ratio: Tensor
    advantages: Tensor
    correction: Tensor
    inputs: Tensor
    old_inputs: Tensor
    dist: ClosedForm
    position: int
    num_agents: int
