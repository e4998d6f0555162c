"""What a recurrent network remembers: its layer, and its states as one array per agent.

RLlib keeps a stateful module's state as a dict of tensors. Runners and fragments keep it packed
into one, so that modules of any kind fit into the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ray.rllib.core import Columns
from torch import Tensor, nn

from rllib_hetero.errors import TeamError

# The names of a layer's states are those of RLlib's own models.
_LAYERS: dict[str, tuple[type[nn.GRU] | type[nn.LSTM], tuple[str, ...]]] = {
    "gru": (nn.GRU, ("h",)),
    "lstm": (nn.LSTM, ("h", "c")),
}


class Memory(nn.Module):
    """A GRU or LSTM layer, then LayerNorm. Weights are orthogonal, biases 0.

    Args:
        kind: "gru" or "lstm".
        in_size: Size of the input's last axis.
        size: S, the number of units.
        layer_norm: False leaves the LayerNorm out.

    Reference:
        Yu et al., NeurIPS 2022 (MAPPO), recurrent networks; used by HARL, JMLR 2024.
    """

    def __init__(self, kind: str, in_size: int, size: int, *, layer_norm: bool = True) -> None:
        super().__init__()
        layer, self._names = _LAYERS[kind]
        self.size = size
        self.layer = layer(in_size, size, batch_first=True)
        for name, p in self.layer.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(p)
            else:
                nn.init.orthogonal_(p)
        self.norm = nn.LayerNorm(size) if layer_norm else nn.Identity()

    def initial_state(self) -> dict[str, Tensor]:
        """Name to zeros (S,)."""
        return {name: torch.zeros(self.size) for name in self._names}

    def forward(self, x: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Runs over whole sequences.

        Args:
            x: (B, L, in_size).
            state: Name to (B, S), before the first step.

        Returns:
            (B, L, S), and name to (B, S), after the last step.
        """
        before = tuple(state[name][None].contiguous() for name in self._names)
        out, after = self.layer(x, before[0] if len(before) == 1 else before)
        after = (after,) if len(before) == 1 else after
        return self.norm(out), {name: s[0] for name, s in zip(self._names, after, strict=True)}


def memory_from(model: Mapping[str, Any], key: str, in_size: int) -> Memory | None:
    """The memory that a `model_config` asks for; None for a feed-forward network.

    Args:
        model: The whole `model_config`.
        key: "recurrent" or "critic_recurrent": whose.
        in_size: Size of what it is fed.

    Raises:
        ValueError: If the kind is unknown, or the size too small.
    """
    check_recurrent(model, key)
    if model[key] is None:
        return None
    size = in_size if model["recurrent_size"] is None else model["recurrent_size"]
    return Memory(model[key], in_size, size, layer_norm=model["layer_norm"])


def check_recurrent(model: Mapping[str, Any], key: str) -> None:
    """Raises ValueError if `model[key]` names no kind of memory, or its size is too small."""
    kind, size = model[key], model["recurrent_size"]
    if kind is not None and not (isinstance(kind, str) and kind in _LAYERS):
        raise ValueError(
            f"`{key}` is {kind!r}, an unknown kind of memory; None, 'gru' or 'lstm' goes into "
            f"config.rl_module(model_config={{'{key}': ...}})."
        )
    if size is not None and not (isinstance(size, int) and size > 0):
        raise ValueError(
            f"The size of a memory must be a positive integer or None, got {size!r}: "
            "config.rl_module(model_config={'recurrent_size': 64})."
        )
    if size is not None and size < 3 and model["layer_norm"]:
        raise ValueError(
            f"LayerNorm leaves nothing of 1 unit, and of 2 a sign; the memory has {size}. Raise it "
            "with config.rl_module(model_config={'recurrent_size': 64}), or leave LayerNorm out."
        )


# ---- states of any stateful RLModule --------------------------------------------------------


def pack(states: Mapping[str, Tensor]) -> Tensor:
    """(..., S_total): the states (..., S_i), concatenated in the order of their names."""
    return torch.cat([states[name] for name in sorted(states)], dim=-1)


def unpack(packed: Tensor, module: Any) -> dict[str, Tensor]:
    """The module's states by name, from (..., S_total)."""
    sizes = {name: s.shape[-1] for name, s in sorted(_initial_states(module).items())}
    return dict(zip(sizes, packed.split(list(sizes.values()), dim=-1), strict=True))


def initial_state(module: Any) -> Tensor:
    """The packed state (S_total,) in which the module starts an episode."""
    states = _initial_states(module)
    return pack(states) if states else torch.zeros(0)


def state_size(module: Any) -> int:
    """S_total; 0 if the module is not stateful."""
    return initial_state(module).shape[0]


def forward_sequences(module: Any, observations: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The training pass of a stateful module over whole sequences, with gradient.

    Args:
        module: An RLModule with RLlib's conventions.
        observations: (N, L, d).
        state: (N, S_total), before the first step.

    Returns:
        Distribution inputs (N, L, p), and the state (N, S_total) after the last step.
    """
    out = module.forward_train({Columns.OBS: observations, Columns.STATE_IN: unpack(state, module)})
    return out[Columns.ACTION_DIST_INPUTS], pack(out[Columns.STATE_OUT])


def forward_with_gaps(
    forward: Callable[[Tensor, Tensor], Tensor],
    observations: Tensor,
    state: Tensor,
    active: Tensor,
    start: Tensor | None,
) -> Tensor:
    """A pass over sequences of agents that were absent in some of the steps.

    The steps in which an agent acted are all that its network sees: what was before an absence
    and what came after it, one behind the other; or each as a sequence of its own, of which those
    after an absence begin anew.

    Args:
        forward: From observations (R, L, d) and packed states (R, S) to outputs (R, L, p).
        observations: (N, L, d).
        state: (N, S), before the first step.
        active: (N, L), positive where the agent acted.
        start: (S,) what an agent remembers on its return; None: what it did before it was gone.

    Returns:
        (N, L, p); what stands there where the agent was absent means nothing.
    """
    active = active > 0
    if not active.any():
        return forward(observations, state)
    num, length = active.shape
    times = torch.arange(length, device=active.device)
    if start is None:
        of_sequence = torch.arange(num, device=active.device)
        at = (~active).long().argsort(dim=1, stable=True)  # Those that acted, first.
    else:
        begins = active.clone()
        begins[:, 1:] &= ~active[:, :-1]
        of_sequence, first = begins.nonzero().unbind(1)
        # From each beginning on; what lies behind its run's end comes out, and is not read.
        at = (first[:, None] + times).clamp(max=length - 1)
        state = torch.where((first == 0)[:, None], state[of_sequence], start.to(state))
    inputs = forward(observations[of_sequence[:, None], at], state)
    if start is None:
        return torch.zeros_like(inputs).scatter(1, at[..., None].expand_as(inputs), inputs)
    number = begins.flatten().cumsum(0).view_as(begins) - 1  # Of each step's run.
    back = number[active], times.expand_as(active)[active] - first[number[active]]
    out = inputs.new_zeros(num, length, inputs.shape[-1])
    return out.index_put(active.nonzero(as_tuple=True), inputs[back])


def _initial_states(module: Any) -> dict[str, Tensor]:
    states = {
        name: torch.as_tensor(s, dtype=torch.float32)
        for name, s in (module.get_initial_state() or {}).items()
    }
    for name, s in states.items():
        if s.ndim != 1:
            raise TeamError(
                f"The state {name!r} of a {type(module).__name__} has the shape {tuple(s.shape)}; "
                "states of shape (S,) are needed. Mend the module's get_initial_state()."
            )
    return states
