"""Spaces of every kind, as the flat arrays that runners, replay and networks work on.

`rows`: observations and states. `moves`: actions. Nothing here imports Ray.
"""

from rllib_hetero.spaces.moves import Moves, is_mixed
from rllib_hetero.spaces.parts import Part
from rllib_hetero.spaces.rows import (
    Rows,
    appended,
    as_dtype,
    decoded,
    encoded,
    has_pictures,
    joint_rows,
    numbers_in,
    row_dtype,
    row_space,
    signature,
    unpack,
)

__all__ = [
    "Moves",
    "Part",
    "Rows",
    "appended",
    "as_dtype",
    "decoded",
    "encoded",
    "has_pictures",
    "is_mixed",
    "joint_rows",
    "numbers_in",
    "row_dtype",
    "row_space",
    "signature",
    "unpack",
]
