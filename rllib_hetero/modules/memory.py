"""What a recurrent network remembers: its layer, and its states as one array per agent.

RLlib keeps a stateful module's state as a dict of tensors. Runners and fragments keep it packed
into one, so that modules of any kind fit into the same arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
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
