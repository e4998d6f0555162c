"""Training passes of modules that remember: rows laid out in time."""

from __future__ import annotations

from typing import Any

from ray.rllib.core import Columns
from torch import Tensor

from rllib_hetero.layout import Layout
from rllib_hetero.modules.memory import (
    forward_sequences,
    forward_with_gaps,
    initial_state,
    unpack,
)


def actor_outputs_over_time(
    module: Any, observations: Tensor, state: Tensor, active: Tensor, layout: Layout
) -> Tensor:
    """Distribution inputs of chunks, each from the state that it begins in.

    Args:
        module: An actor with a memory.
        observations: (k, L, d), or (k, L, n, d) for all n agents of the module.
        state: (k, S) or (k, n, S).
        active: (k, L) or (k, L, n), who acted.
        layout: Whether agents may be absent, and what they then remember.

    Returns:
        (k, L, p) or (k, L, n, p).
    """
    if observations.ndim == 3:
        return sequence_outputs(module, observations, state, active, layout)
    by_agent = observations.transpose(1, 2)  # (k, n, L, d)
    inputs = sequence_outputs(
        module,
        by_agent.flatten(0, 1),
        state.flatten(0, 1),
        active.transpose(1, 2).flatten(0, 1),
        layout,
    )
    return inputs.unflatten(0, by_agent.shape[:2]).transpose(1, 2)


def sequence_outputs(
    module: Any, observations: Tensor, state: Tensor, active: Tensor, layout: Layout
) -> Tensor:
    """The same of sequences (N, L, ...) of single agents."""

    def forward(x: Tensor, before: Tensor) -> Tensor:
        return forward_sequences(module, x, before)[0]

    if not layout.team.absences:
        return forward(observations, state)
    start = None if layout.absent_memory == "keep" else initial_state(module)
    return forward_with_gaps(forward, observations, state, active, start)


def critic_values(critic: Any, states: Tensor, memory: Tensor | None) -> Tensor:
    """Values on the critic's own scale, (..., K): K is 1, or n with a critic for each agent.

    Args:
        critic: The centralised critic.
        states: (..., s); (k, L, s) where the critic has a memory.
        memory: (k, S), what it remembers at the start of each chunk, or None.
    """
    batch: dict[str, Any] = {Columns.OBS: states}
    if memory is not None:
        batch[Columns.STATE_IN] = unpack(memory, critic)
    values = critic.compute_values(batch)
    return values if values.ndim == states.ndim else values.unsqueeze(-1)
