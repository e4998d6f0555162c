"""The multi-layer perceptron that actors and critics share, initialised as in HARL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "selu": nn.SELU}


def mlp(
    in_size: int, hidden_sizes: Sequence[int], *, activation: str = "relu", layer_norm: bool = True
) -> nn.Sequential:
    """LayerNorm, then (Linear, activation, LayerNorm) for each hidden size.

    Weights are orthogonal with the activation's gain, biases 0.

    Args:
        in_size: Size of the input's last axis.
        hidden_sizes: Sizes of the hidden layers.
        activation: "relu", "tanh", "elu" or "selu".
        layer_norm: False leaves all normalisation out.

    Returns:
        A network from (..., in_size) to (..., hidden_sizes[-1]).

    Raises:
        ValueError: If the activation is unknown, or no hidden size is given.

    Reference:
        Zhong et al., JMLR 2024, Appendix; layer order as in the authors' code.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"Unknown activation {activation!r}; one of {sorted(_ACTIVATIONS)} goes into "
            "config.rl_module(model_config={'activation': ...})."
        )
    if not hidden_sizes:
        raise ValueError(
            "At least one hidden layer is needed: "
            "config.rl_module(model_config={'hidden_sizes': [128, 128]})."
        )
    gain = 0.75 if activation == "elu" else nn.init.calculate_gain(activation)  # type: ignore[arg-type]
    layers: list[nn.Module] = [nn.LayerNorm(in_size)] if layer_norm else []
    for size in hidden_sizes:
        layers += [linear(in_size, size, gain), _ACTIVATIONS[activation]()]
        if layer_norm:
            layers.append(nn.LayerNorm(size))
        in_size = size
    return nn.Sequential(*layers)


def linear(in_size: int, out_size: int, gain: float) -> nn.Linear:
    """A linear layer with orthogonal weights of this gain and zero bias."""
    layer = nn.Linear(in_size, out_size)
    nn.init.orthogonal_(layer.weight, gain)
    with torch.no_grad():
        layer.bias.zero_()
    return layer
