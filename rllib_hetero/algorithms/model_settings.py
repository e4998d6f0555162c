"""Whether a `model_config` of the default modules is one that they can be built from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from rllib_hetero.modules.encoders import check_filters
from rllib_hetero.modules.memory import check_recurrent
from rllib_hetero.modules.networks import ACTIVATIONS, check_hidden_sizes, check_layer_norm
from rllib_hetero.spaces import Rows
from rllib_hetero.team import Team

MOST_UNITS = 1_000_000
"""Of a layer."""


class Rule(NamedTuple):
    """What the value of a key may be.

    Attributes:
        good: Whether a value is.
        wanted: What is, in words.
        example: One that is.
    """

    good: Callable[[Any], bool]
    wanted: str
    example: Any


def _is_count(value: Any) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and 0 < value <= MOST_UNITS


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_count, value))


def _is_side(value: Any) -> bool:
    return _is_count(value) or (_are_sizes(value) and len(value) == 2)


def _are_filters(value: Any) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(
        isinstance(layer, list | tuple)
        and len(layer) in (3, 4)
        and _is_count(layer[0])
        and all(map(_is_side, layer[1:3]))
        and (len(layer) == 3 or layer[3] in ("same", "valid"))
        for layer in value
    )


_COUNT = f"a whole number from 1 to {MOST_UNITS:,}"
_SIZES = Rule(
    _are_sizes, f"a list of whole numbers above 0, at most {MOST_UNITS:,}, not empty", [128, 128]
)
_ACTIVATION = Rule(
    lambda x: isinstance(x, str) and x in ACTIVATIONS, f"one of {sorted(ACTIVATIONS)}", "relu"
)
_YES_OR_NO = Rule(lambda x: isinstance(x, bool), "True or False", True)
_ABOVE_0 = Rule(lambda x: _is_number(x) and x > 0, "a number above 0", 0.5)

_RULES: dict[str, Rule] = {
    "hidden_sizes": _SIZES,
    "critic_hidden_sizes": _SIZES,
    "dueling_hidden_sizes": _SIZES,
    "activation": _ACTIVATION,
    "dueling_activation": _ACTIVATION,
    "last_activation": _ACTIVATION,
    "actor_head_gain": Rule(lambda x: _is_number(x) and x >= 0, "a number of at least 0", 0.01),
    "std_x": _ABOVE_0,
    "std_y": _ABOVE_0,
    "recurrent_size": Rule(_is_count, _COUNT, 64),
    "max_seq_len": Rule(_is_count, _COUNT, 10),
    "action_projection": _YES_OR_NO,
    "dueling": _YES_OR_NO,
    "input_norm": _YES_OR_NO,
    "attention_size": Rule(_is_count, _COUNT, 128),
    "num_attention_heads": Rule(_is_count, _COUNT, 4),
    "mixing_embed_dim": Rule(_is_count, _COUNT, 32),
    "hypernet_layers": Rule(lambda x: _is_count(x) and x <= 2, "1 or 2", 2),
    "hypernet_embed": Rule(_is_count, _COUNT, 64),
    "conv_filters": Rule(
        _are_filters,
        "a list of [channels, kernel, stride] or [channels, kernel, stride, 'same' or 'valid']",
        [[16, 4, 2], [32, 4, 2]],
    ),
    "conv_activation": _ACTIVATION,
    "conv_features": Rule(lambda x: _is_count(x) and x > 2, _COUNT.replace("1", "3", 1), 256),
    "part_hidden_sizes": _SIZES,
}
"""By key; those of LayerNorm and of memories are where these are made."""

_STANDS_FOR_ANOTHER = frozenset(
    {
        "critic_hidden_sizes",
        "recurrent_size",
        "last_activation",
        "conv_filters",
        "part_hidden_sizes",
    }
)
"""Keys that may be None."""


def check_model_config(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises unless the default modules can be built from a `model_config`.

    Args:
        given: What a user has set.
        defaults: All keys that the modules of the algorithm read, with their values.

    Raises:
        ValueError: The first key that is wrong, with the call that mends it.
    """
    unknown = sorted(map(str, set(given) - set(defaults)))
    if unknown:
        raise ValueError(
            f"Unknown keys {unknown} in config.rl_module(model_config=...). The default modules "
            f"read {sorted(defaults)}."
        )
    for key, value in given.items():
        rule = _RULES.get(key)
        none = value is None and key in _STANDS_FOR_ANOTHER
        if rule is not None and not none and not rule.good(value):
            or_none = ", or None" if key in _STANDS_FOR_ANOTHER else ""
            raise ValueError(
                f"`{key}` is {value!r}, but must be {rule.wanted}{or_none}. Mend it with "
                f"config.rl_module(model_config={{{key!r}: {rule.example!r}}})."
            )
    model = {**defaults, **given}
    check_layer_norm(model["layer_norm"])
    for key in ("hidden_sizes", "critic_hidden_sizes"):
        if model.get(key) is not None:
            check_hidden_sizes(model[key], model["layer_norm"], key)
    for key in ("recurrent", "critic_recurrent"):
        if key in defaults:
            check_recurrent(model, key)


def check_encoder_keys(given: Mapping[str, Any], team: Team) -> None:
    """Raises unless the keys about observations of other kinds have something to be about.

    Args:
        given: What a user has set.
        team: Whose observations they are.

    Raises:
        ValueError: If nobody sees pictures, or `conv_filters` leave nothing of one; or no
            observation has parts.
    """
    mend = "remove it from config.rl_module(model_config={...})."
    of_pictures = sorted(key for key in given if key.startswith("conv_"))
    if of_pictures and not team.pictured:
        raise ValueError(f"`{of_pictures[0]}` is for pictures, and nobody sees any: {mend}")
    spaces = [*team.row_spaces.values(), team.state_rows]
    parts = [p for space in spaces if isinstance(space, Rows) for p in space.parts]
    if given.get("part_hidden_sizes") and not any(p.path for p in parts):
        raise ValueError(
            f"`part_hidden_sizes` is for Dict and Tuple observations, and there are none: {mend}"
        )
    if given.get("conv_filters"):
        for shape in {p.shape for p in parts if p.picture}:
            check_filters(given["conv_filters"], shape)
