"""Whether a number among the settings, or a schedule of numbers, is in its range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ray.rllib.utils.schedules.scheduler import Scheduler


def check_number(config: Any, name: str, good: Callable[[float], bool], wanted: str) -> None:
    """Raises unless the setting is a number in its range.

    Args:
        config: Whose setting it is.
        name: Of an argument of `training()`.
        good: Whether a number is in range.
        wanted: The range in words, for the message.
    """
    value = getattr(config, name)
    if not isinstance(value, (int, float)) or not good(value):
        raise ValueError(
            f"`{name}` is {value!r}, but must be a number {wanted}. Mend it with "
            f"config.training({name}=...)."
        )


def check_schedule(
    name: str,
    value: Any,
    *,
    least: float,
    most: float = float("inf"),
    method: str = "training",
) -> None:
    """Raises unless a setting is a number in its range, or a schedule of such numbers.

    Args:
        name: Of the argument.
        value: What it holds.
        least: The smallest number that is allowed.
        most: The largest.
        method: The fluent method whose argument it is.
    """
    points = value if isinstance(value, (list, tuple)) else [(0, value), (1, value)]
    try:
        good = len(points) > 1 and points[0][0] == 0
        good = good and all(least <= float(y) <= most for _, y in points)
    except (TypeError, ValueError, IndexError):
        good = False
    if not good:
        raise ValueError(
            f"`{name}` is {value!r}, but must be a number in [{least}, {most}], or a schedule "
            "over environment steps, from 0 on, of such numbers, [[0, a], [100_000, b]]. Mend "
            f"it with config.{method}({name}=...)."
        )
    Scheduler.validate(fixed_value_or_schedule=value, setting_name=name, description=name)


def check_integer(config: Any, name: str, least: int) -> None:
    """Raises unless the setting is an integer of at least `least`.

    Args:
        config: Whose setting it is.
        name: Of an argument of `training()`.
        least: The smallest that is allowed.
    """
    value = getattr(config, name)
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"`{name}` is {value!r}, but must be an integer of at least {least}. Mend it with "
            f"config.training({name}=...)."
        )
