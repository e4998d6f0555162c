"""The multi-layer perceptron that all networks share, initialised as in HARL."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "hardswish": nn.Hardswish,
}
"""By the name that a `model_config` gives."""

NORMALIZED_FROM = 7
"""The smallest input that `layer_norm=True` normalises."""


def mlp(
    in_size: int,
    hidden_sizes: Sequence[int],
    *,
    activation: str = "relu",
    layer_norm: bool | str = True,
    orthogonal: bool = True,
    last_activation: str | None = None,
) -> nn.Sequential:
    """LayerNorm, then (Linear, activation, LayerNorm) for each hidden size.

    LayerNorm takes the mean and the scale out of its input: of d numbers, what d - 2 would tell
    is left. In HARL's code it is on every input, and its tasks' have 11 numbers and more. Of one
    number it leaves nothing, of two which is the larger, of three an angle. By default, inputs of
    fewer than `NORMALIZED_FROM` numbers are taken as they are; hidden layers, whose units say
    much the same, are always normalised.

    Args:
        in_size: Size of the input's last axis.
        hidden_sizes: Sizes of the hidden layers.
        activation: "relu", "leaky_relu", "tanh", "elu", "selu" or "hardswish".
        layer_norm: Where there is LayerNorm: True, after hidden layers, and on inputs of
            `NORMALIZED_FROM` numbers or more; "all", on smaller inputs too, as in HARL; "hidden",
            after hidden layers only; False, nowhere.
        orthogonal: Weights are orthogonal with the activation's gain, biases 0, as in HARL's
            on-policy networks; else as PyTorch makes them, as in its off-policy ones.
        last_activation: The last hidden layer's; None: as the others.

    Returns:
        A network from (..., in_size) to (..., hidden_sizes[-1]).

    Raises:
        ValueError: If the activation or `layer_norm` is unknown, no hidden size is given, or
            a hidden layer is too small for LayerNorm.

    Reference:
        Zhong et al., JMLR 2024, Appendix; layer order as in the authors' code.
    """
    activations = [activation] * len(hidden_sizes)
    if last_activation is not None:
        activations[-1:] = [last_activation]
    for name in activations:
        if name not in ACTIVATIONS:
            raise ValueError(
                f"Unknown activation {name!r}; one of {sorted(ACTIVATIONS)} goes into "
                "config.rl_module(model_config={'activation': ...})."
            )
    check_layer_norm(layer_norm)
    check_hidden_sizes(hidden_sizes, layer_norm)
    on_input = layer_norm == "all" or (layer_norm is True and in_size >= NORMALIZED_FROM)
    layers: list[nn.Module] = [nn.LayerNorm(in_size)] if on_input else []
    for size, name in zip(hidden_sizes, activations, strict=True):
        layer = linear(in_size, size, gain_of(name)) if orthogonal else nn.Linear(in_size, size)
        layers += [layer, ACTIVATIONS[name]()]
        if layer_norm:
            layers.append(nn.LayerNorm(size))
        in_size = size
    return nn.Sequential(*layers)


def check_hidden_sizes(
    sizes: Sequence[int], layer_norm: bool | str, key: str = "hidden_sizes"
) -> None:
    """Raises ValueError if there is no layer, or one that is too small for LayerNorm.

    Args:
        sizes: Of the hidden layers.
        layer_norm: Where there is LayerNorm, see `mlp`.
        key: Of the `model_config` that they are given by.
    """
    if not sizes:
        raise ValueError(
            "At least one hidden layer is needed: "
            f"config.rl_module(model_config={{{key!r}: [128, 128]}})."
        )
    if layer_norm and min(sizes) < 3:
        raise ValueError(
            f"LayerNorm leaves nothing of 1 unit, and of 2 a sign; `{key}` are {list(sizes)}. "
            "Raise them, or leave it out: config.rl_module(model_config={'layer_norm': False})."
        )


def check_layer_norm(layer_norm: bool | str) -> None:
    """Raises ValueError if it is no word of `mlp`."""
    if not isinstance(layer_norm, bool) and layer_norm not in ("all", "hidden"):
        raise ValueError(
            f"`layer_norm` must be True, 'all', 'hidden' or False, got {layer_norm!r}: "
            "config.rl_module(model_config={'layer_norm': True})."
        )


def linear(in_size: int, out_size: int, gain: float) -> nn.Linear:
    """A linear layer with orthogonal weights of this gain and zero bias."""
    layer = nn.Linear(in_size, out_size)
    nn.init.orthogonal_(layer.weight, gain)
    with torch.no_grad():
        layer.bias.zero_()
    return layer


def gain_of(activation: str) -> float:
    """The gain of weights before this activation."""
    # Those that PyTorch has no gain for; hard swish is close to ReLU.
    known = {"elu": 0.75, "hardswish": nn.init.calculate_gain("relu")}
    return known.get(activation) or nn.init.calculate_gain(activation)  # type: ignore[arg-type]
