"""What an autoregressive team must send around in order to act without a centre."""

from __future__ import annotations

import numpy as np

MESSAGES_PER_STEP = "messages_per_step"
NUMBERS_SENT_PER_STEP = "numbers_sent_per_step"
ROUNDS_PER_STEP = "rounds_per_step"


def communication(active: np.ndarray, sizes: np.ndarray) -> dict[str, float]:
    """Means over environment steps, if every agent tells its action to all that act later.

    Args:
        active: (B, n) bool, who was alive, agents in execution order.
        sizes: (n,) how many numbers an agent's action is.

    Returns:
        - `messages_per_step`: deliveries, from one agent to one that acts later:
          a (a - 1) / 2 for a living agents.
        - `numbers_sent_per_step`: the numbers in them, a choice of a Discrete counting as one.
        - `rounds_per_step`: a - 1; the last agent waits for so many others.
    """
    later = active[:, ::-1].cumsum(1)[:, ::-1] - active
    delivered = active * later
    return {
        MESSAGES_PER_STEP: float(delivered.sum(1).mean()),
        NUMBERS_SENT_PER_STEP: float((delivered * sizes).sum(1).mean()),
        ROUNDS_PER_STEP: float(np.maximum(active.sum(1) - 1, 0).mean()),
    }
