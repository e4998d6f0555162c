"""What a network makes of rows before its layers: pictures by convolutions, parts one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from gymnasium.spaces import Box
from torch import Tensor, nn
from torch.nn.functional import pad

from rllib_hetero.modules.input_norm import RunningNorm
from rllib_hetero.modules.networks import ACTIVATIONS, gain_of, linear, mlp
from rllib_hetero.spaces import Part, Rows, has_pictures
from rllib_hetero.spaces.rows import take

ENCODER_DEFAULTS: dict[str, Any] = {
    # RLlib's: [channels, kernel, stride] or [channels, kernel, stride, "same" or "valid"] for each
    # layer. None: by the picture's size, see `default_filters`.
    "conv_filters": None,
    "conv_activation": "relu",
    # Size of what a picture becomes.
    "conv_features": 256,
    # Hidden layers for each part of a Dict or Tuple that is no picture. None: taken as it is.
    "part_hidden_sizes": None,
}
"""Keys of `config.rl_module(model_config={...})` for observations that are no plain vectors."""

_MOST_PICTURES = 2048
"""That are worked on at once where no gradient is wanted: a rollout's fit into no memory."""


def default_filters(height: int, width: int) -> list[list[Any]]:
    """The layers for pictures of this size: RLlib's for 64 x 64, as many as the size needs.

    Kernel 4 and stride 2, with 16, 32, 64 and then 128 channels, until neither side is larger than
    6: four layers for 64 and 84. Pictures of at most 6 x 6 have two layers of kernel 3, stride 1.
    """
    if max(height, width) <= 6:
        return [[16, 3, 1], [32, 3, 1]]
    filters: list[list[Any]] = []
    side = max(height, width)
    while side > 6:
        filters.append([min(16 * 2 ** len(filters), 128), 4, 2])
        side = -(-side // 2)
    return filters


class PictureEncoder(nn.Module):
    """Convolutions, then one linear layer: pictures (R, ..., H, W, C) to features (R, f).

    Axes before the last three are further channels (frames that are stacked); a picture of two
    axes has one channel.

    Args:
        shape: (..., H, W, C) or (H, W).
        model: The whole `model_config`.
        orthogonal: As of `mlp`.
    """

    def __init__(self, shape: Sequence[int], model: Mapping[str, Any], *, orthogonal: bool) -> None:
        super().__init__()
        self._flat = len(shape) == 2
        channels, height, width = channels_first(shape)
        name, self.size = model["conv_activation"], model["conv_features"]
        layers: list[nn.Module] = []
        filters = model["conv_filters"] or default_filters(height, width)
        check_filters(filters, shape)
        for given in filters:
            layer = SamePaddedConv2d(channels, *given)
            if orthogonal:
                nn.init.orthogonal_(layer.weight, gain_of(name))
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            layers += [layer, ACTIVATIONS[name]()]
            channels = layer.out_channels
        height, width = out_size(filters, height, width)
        flat = channels * height * width
        last = linear(flat, self.size, gain_of(name)) if orthogonal else nn.Linear(flat, self.size)
        layers += [nn.Flatten(), last, ACTIVATIONS[name]()]
        if model["layer_norm"]:
            layers.append(nn.LayerNorm(self.size))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features (R, f) of pictures (R, *shape)."""
        x = x.unsqueeze(-1) if self._flat else x
        return self.layers(x.movedim(-1, -3).flatten(1, -3))


def channels_first(shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) of a picture (..., H, W, C), or (H, W) of one channel."""
    *frames, height, width, channels = (*shape, 1) if len(shape) == 2 else shape
    return math.prod(frames) * channels, height, width


def out_size(filters: Sequence[Sequence[Any]], height: int, width: int) -> tuple[int, int]:
    """Of what convolutions leave of pictures of this size."""
    for _, kernel, stride, *padding in filters:
        sides = zip((height, width), _pair(kernel), _pair(stride), strict=True)
        same = padding != ["valid"]
        height, width = (-(-n // s) if same else max(0, (n - k) // s + 1) for n, k, s in sides)
    return height, width


def check_filters(filters: Sequence[Sequence[Any]], shape: Sequence[int]) -> None:
    """Raises ValueError if convolutions leave nothing of a picture of this shape."""
    if min(out_size(filters, *channels_first(shape)[1:])) < 1:
        raise ValueError(
            f"Nothing is left of a picture of shape {tuple(shape)} after the `conv_filters` "
            f"{filters}. Take smaller kernels and strides, or those that fit its size: "
            "config.rl_module(model_config={'conv_filters': None})."
        )


def _pair(sides: Any) -> tuple[int, int]:
    return tuple(sides) if isinstance(sides, list | tuple) else (sides, sides)  # type: ignore[return-value]


class SamePaddedConv2d(nn.Conv2d):
    """A convolution whose padding is that of RLlib's words: "same" (out = in / stride), "valid"."""

    def __init__(
        self, in_channels: int, channels: int, kernel: Any, stride: Any, padding: str = "same"
    ) -> None:
        super().__init__(in_channels, channels, _pair(kernel), _pair(stride))
        self._same = padding == "same"

    def forward(self, x: Tensor) -> Tensor:
        if self._same:
            sides: list[int] = []
            for n, k, s in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
                missing = max((-(-n // s) - 1) * s + k - n, 0)
                sides = [missing // 2, missing - missing // 2, *sides]  # the last axis comes first
            x = pad(x, sides)
        return super().forward(x)


class RowEncoder(nn.Module):
    """Rows (..., d) of several parts to features (..., f): those of the parts, side by side.

    A picture has a `PictureEncoder`; another part is taken as it is, or has an `mlp` of its own
    where `part_hidden_sizes` says so. Parts of equal paths and shapes share one: in the joint rows
    of a critic these are the agents that see things of one kind.

    Attributes:
        size: f.

    Args:
        parts: What lies in the rows.
        model: The whole `model_config`.
        orthogonal: As of `mlp`.
    """

    def __init__(
        self, parts: Sequence[Part], model: Mapping[str, Any], *, orthogonal: bool
    ) -> None:
        super().__init__()
        self.parts = tuple(parts)
        alike: dict[Any, list[int]] = {}
        self._as_they_are: list[int] = []
        for i, part in enumerate(parts):
            if part.picture or model["part_hidden_sizes"]:
                alike.setdefault((part.path, part.shape, part.scale), []).append(i)
            else:
                self._as_they_are.append(i)
        self._alike = list(alike.values())
        self.encoders = nn.ModuleList(
            _encoder_of(parts[indices[0]], model, orthogonal) for indices in self._alike
        )
        self.size = sum(parts[i].size for i in self._as_they_are)
        for encoder, indices in zip(self.encoders, self._alike, strict=True):
            size: Any = encoder.size
            self.size += size * len(indices)
        pictures = sum(part.picture for part in parts)
        self._most_rows = max(1, _MOST_PICTURES // max(1, pictures))

    def forward(self, rows: Tensor) -> Tensor:
        """Features (..., f), on the rows' device."""
        flat = rows.flatten(0, -2) if rows.ndim > 1 else rows[None]
        if torch.is_grad_enabled():
            out = self._features(flat)
        else:
            out = torch.cat([self._features(x) for x in flat.split(self._most_rows)])
        return out.view(*rows.shape[:-1], self.size)

    def _features(self, rows: Tensor) -> Tensor:
        features = [Tensor()] * len(self.parts)
        for i in self._as_they_are:
            features[i] = take(rows, self.parts[i])
        for encoder, indices in zip(self.encoders, self._alike, strict=True):
            seen = torch.cat([take(rows, self.parts[i]) for i in indices])
            by_part = encoder(seen).view(len(indices), len(rows), encoder.size)
            for i, x in zip(indices, by_part, strict=True):
                features[i] = x
        return torch.cat(features, -1)

    def extra_repr(self) -> str:
        return ", ".join(f"{p.name}: {p.start}-{p.stop}" for p in self.parts)


class _PartEncoder(nn.Module):
    def __init__(self, part: Part, model: Mapping[str, Any], orthogonal: bool) -> None:
        super().__init__()
        sizes = list(model["part_hidden_sizes"])
        self.size = sizes[-1]
        self.layers = mlp(
            part.size,
            sizes,
            activation=model["activation"],
            layer_norm=model["layer_norm"],
            orthogonal=orthogonal,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


def _encoder_of(part: Part, model: Mapping[str, Any], orthogonal: bool) -> nn.Module:
    if part.picture:
        return PictureEncoder(part.shape, model, orthogonal=orthogonal)
    return _PartEncoder(part, model, orthogonal)


# ---- what modules call --------------------------------------------------------------------------


def encoder_for(
    space: Box, model: Mapping[str, Any], *, orthogonal: bool, cut: int = 0
) -> RowEncoder | None:
    """What makes features of rows; None where the rows themselves are taken.

    Args:
        space: Of the rows.
        model: The whole `model_config`.
        orthogonal: As of `mlp`.
        cut: How many entries at the rows' end are not given to it.
    """
    if not isinstance(space, Rows):
        return None
    parts = [p for p in space.parts if p.stop <= space.shape[0] - cut]
    model = ENCODER_DEFAULTS | dict(model)
    several = len(parts) > 1 and model["part_hidden_sizes"]
    if not has_pictures(space) and not several:
        return None
    return RowEncoder(parts, model, orthogonal=orthogonal)


def body_for(
    space: Box,
    hidden_sizes: Sequence[int],
    model: Mapping[str, Any],
    *,
    orthogonal: bool,
    cut: int = 0,
    last_activation: str | None = None,
) -> nn.Sequential:
    """The layers before a head: running norm if asked for, an encoder where needed, an `mlp`.

    Args:
        space: Of the rows.
        hidden_sizes: Of the mlp.
        model: The whole `model_config`.
        orthogonal: As of `mlp`.
        cut: As of `encoder_for`.
        last_activation: As of `mlp`.
    """
    before, size = _before_layers(space, model, orthogonal=orthogonal, cut=cut)
    layers = mlp(
        size,
        hidden_sizes,
        activation=model["activation"],
        layer_norm=model["layer_norm"],
        orthogonal=orthogonal,
        last_activation=last_activation,
    )
    return nn.Sequential(*before, *layers) if before else layers


def _before_layers(
    space: Box, model: Mapping[str, Any], *, orthogonal: bool, cut: int = 0
) -> tuple[list[nn.Module], int]:
    """Running norm if asked for, an encoder where needed; and how many features come out."""
    seen = space.shape[0] - cut
    before: list[nn.Module] = [RunningNorm(seen)] if model.get("input_norm") else []
    encoder = encoder_for(space, model, orthogonal=orthogonal, cut=cut)
    if encoder is None:
        return before, seen
    return [*before, encoder], encoder.size


class Encoded(nn.Module):
    """A network one of whose inputs is encoded first.

    Args:
        encoder: Of that input.
        network: The network.
        index: Which of the inputs it is.
    """

    def __init__(self, encoder: nn.Module, network: nn.Module, index: int) -> None:
        super().__init__()
        self.encoder, self.network, self._index = encoder, network, index

    def forward(self, *inputs: Any) -> Any:
        seen = self.encoder(inputs[self._index])
        return self.network(*inputs[: self._index], seen, *inputs[self._index + 1 :])


def encoded_first(
    space: Box,
    model: Mapping[str, Any],
    make: Callable[[int], nn.Module],
    *,
    orthogonal: bool = False,
    index: int = 0,
) -> nn.Module:
    """A network of a state of any kind and scale, from one of a vector.

    Args:
        space: Of the state's rows.
        model: The whole `model_config`.
        make: Makes the network for a state of this size.
        orthogonal: As of `mlp`.
        index: Which of the network's inputs is the state.
    """
    before, size = _before_layers(space, model, orthogonal=orthogonal)
    if not before:
        return make(size)
    encoder = before[0] if len(before) == 1 else nn.Sequential(*before)
    return Encoded(encoder, make(size), index)
