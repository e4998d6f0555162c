"""The multi-layer perceptron that all networks share, initialised as in HARL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "hardswish": nn.Hardswish,
}


def mlp(
    in_size: int,
    hidden_sizes: Sequence[int],
    *,
    activation: str = "relu",
    layer_norm: bool = True,
    orthogonal: bool = True,
    last_activation: str | None = None,
) -> nn.Sequential:
    """LayerNorm, then (Linear, activation, LayerNorm) for each hidden size.

    Args:
        in_size: Size of the input's last axis.
        hidden_sizes: Sizes of the hidden layers.
        activation: "relu", "tanh", "elu", "selu" or "hardswish".
        layer_norm: False leaves all normalisation out.
        orthogonal: Weights are orthogonal with the activation's gain, biases 0, as in HARL's
            on-policy networks; else as PyTorch makes them, as in its off-policy ones.
        last_activation: The last hidden layer's; None: as the others.

    Returns:
        A network from (..., in_size) to (..., hidden_sizes[-1]).

    Raises:
        ValueError: If the activation is unknown, or no hidden size is given.

    Reference:
        Zhong et al., JMLR 2024, Appendix; layer order as in the authors' code.
    """
    activations = [activation] * len(hidden_sizes)
    if last_activation is not None:
        activations[-1:] = [last_activation]
    for name in activations:
        if name not in _ACTIVATIONS:
            raise ValueError(
                f"Unknown activation {name!r}; one of {sorted(_ACTIVATIONS)} goes into "
                "config.rl_module(model_config={'activation': ...})."
            )
    if not hidden_sizes:
        raise ValueError(
            "At least one hidden layer is needed: "
            "config.rl_module(model_config={'hidden_sizes': [128, 128]})."
        )
    layers: list[nn.Module] = [nn.LayerNorm(in_size)] if layer_norm else []
    for size, name in zip(hidden_sizes, activations, strict=True):
        layer = linear(in_size, size, _gain(name)) if orthogonal else nn.Linear(in_size, size)
        layers += [layer, _ACTIVATIONS[name]()]
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


def _gain(activation: str) -> float:
    # Those that PyTorch has no gain for; hard swish is close to ReLU.
    known = {"elu": 0.75, "hardswish": nn.init.calculate_gain("relu")}
    return known.get(activation) or nn.init.calculate_gain(activation)  # type: ignore[arg-type]
