"""Actions of every kind, as the flat ones that policies draw."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

MOST_CHOICES = 1_000_000
"""Of all components of an action."""


class Leaf(NamedTuple):
    """A part of an action that is one array.

    Attributes:
        space: Its space.
        nvec: The number of choices of each component; empty if it has numbers.
        offset: What a choice of 0 stands for.
    """

    space: gym.Space
    nvec: tuple[int, ...]
    offset: Any

    @property
    def size(self) -> int:
        """How many components or numbers it has."""
        shape: Any = self.space.shape
        return math.prod(shape)


class Moves:
    """One agent's actions, as the policy draws them and as the environment takes them.

    Attributes:
        space: The environment's action space.
        flat: The policy's: `space` itself if it is a float Box of shape (k,), or a Discrete or flat
            MultiDiscrete that starts at 0. Otherwise a Discrete or MultiDiscrete if all parts are
            choices, a Box (k,) if all are numbers, and else a Tuple of MultiDiscrete and Box: the
            choices of all parts, then their numbers, which are one array (m + k,) of float32.
        plain: Whether the two are the same.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or Dicts and Tuples of these.

    Raises:
        ValueError: If a part is of another kind, or an integer Box without bounds, in words.
    """

    def __init__(self, space: gym.Space) -> None:
        self.space = space
        self._leaves = tuple(_leaves(space))
        if not self._leaves:
            raise ValueError("it has no parts")
        nvec = [n for leaf in self._leaves for n in leaf.nvec]
        if sum(nvec) > MOST_CHOICES:
            raise ValueError(f"it has {sum(nvec):,} choices, more than {MOST_CHOICES:,}")
        boxes: list[Any] = [leaf.space for leaf in self._leaves if not leaf.nvec]
        self._num_choices = len(nvec)
        self.plain = _is_plain(space)
        self.flat = space if self.plain else self._flat(nvec, boxes)

    def _flat(self, nvec: list[int], boxes: list[Box]) -> gym.Space:
        if isinstance(self.space, Discrete):
            return Discrete(int(self.space.n))
        if not boxes:
            return MultiDiscrete(nvec)
        low, high = (
            np.concatenate([getattr(box, name).reshape(-1) for box in boxes]).astype(np.float32)
            for name in ("low", "high")
        )
        numbers = Box(low, high, dtype=np.float32)
        return Tuple((MultiDiscrete(nvec), numbers)) if nvec else numbers

    def decode(self, actions: np.ndarray) -> Any:
        """The environment's actions, of flat ones.

        Args:
            actions: (B, ...) of `flat`.

        Returns:
            (B, *shape), in dicts and tuples as the space has them.
        """
        if self.plain:
            return actions
        columns = actions[:, None] if actions.ndim == 1 else actions
        choice, number = 0, self._num_choices
        arrays = []
        for leaf in self._leaves:
            first = choice if leaf.nvec else number
            x = columns[:, first : first + leaf.size].reshape(-1, *leaf.space.shape)  # type: ignore[misc]
            if leaf.nvec:
                choice += leaf.size
                x = (x.astype(np.int64) + leaf.offset).astype(leaf.space.dtype)
            else:
                number += leaf.size
            arrays.append(x)
        return _nested(self.space, iter(arrays))

    def decode_one(self, action: Any) -> Any:
        """The environment's action, of a flat one without the leading axis."""
        return action if self.plain else pick(self.decode(np.asarray(action)[None]), 0)


def pick(actions: Any, index: int) -> Any:
    """One of B actions, as `Moves.decode` gives them."""
    if isinstance(actions, dict):
        return {k: pick(x, index) for k, x in actions.items()}
    if isinstance(actions, tuple):
        return tuple(pick(x, index) for x in actions)
    action = actions[index]
    # A Box without axes takes an array without axes.
    return np.asarray(action) if isinstance(action, np.floating) else action


def stacked(space: gym.Space, actions: list[Any]) -> Any:
    """B actions of a space as (B, *shape), in dicts and tuples as it has them; None as zeros."""
    if isinstance(space, Dict):
        return {
            k: stacked(s, [None if u is None else u[k] for u in actions])
            for k, s in space.spaces.items()
        }
    if isinstance(space, Tuple):
        return tuple(
            stacked(s, [None if u is None else u[i] for u in actions])
            for i, s in enumerate(space.spaces)
        )
    rows: Any = np.zeros((len(actions), *space.shape), space.dtype)  # type: ignore[misc]
    for row, action in enumerate(actions):
        if action is not None:
            rows[row] = action
    return rows


def is_mixed(flat: gym.Space) -> TypeGuard[Tuple]:
    """Whether a flat action space has both choices and numbers."""
    return isinstance(flat, Tuple)


def _is_plain(space: gym.Space) -> bool:
    if isinstance(space, Box):
        return len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
    if isinstance(space, Discrete):
        return space.start == 0
    return isinstance(space, MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start)


def _leaves(space: gym.Space) -> Iterator[Leaf]:
    if isinstance(space, Dict | Tuple):
        inner = space.spaces.values() if isinstance(space, Dict) else space.spaces
        for part in inner:
            yield from _leaves(part)
    elif isinstance(space, Discrete):
        yield Leaf(space, (int(space.n),), int(space.start))
    elif isinstance(space, MultiDiscrete):
        yield Leaf(space, tuple(space.nvec.reshape(-1).tolist()), space.start)
    elif isinstance(space, MultiBinary):
        yield Leaf(space, (2,) * math.prod(space.shape), 0)
    elif isinstance(space, Box) and np.issubdtype(space.dtype, np.floating):
        yield Leaf(space, (), None)
    elif isinstance(space, Box):
        width = space.high.astype(np.float64) - space.low.astype(np.float64) + 1
        if width.size and width.max() > MOST_CHOICES:
            raise ValueError(
                f"{space} has more than {MOST_CHOICES:,} choices: narrow its bounds, or make it a "
                "float Box and round in step()"
            )
        yield Leaf(space, tuple(int(n) for n in width.reshape(-1)), space.low)
    else:
        raise ValueError(
            f"{type(space).__name__} is not among the kinds that can be drawn: Box, Discrete, "
            "MultiDiscrete, MultiBinary, and Dict and Tuple of these"
        )


def _nested(space: gym.Space, arrays: Iterator[Any]) -> Any:
    if isinstance(space, Dict):
        return {k: _nested(s, arrays) for k, s in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_nested(s, arrays) for s in space.spaces)
    return next(arrays)
