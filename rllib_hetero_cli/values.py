"""Values of arguments, for argparse. Each raises `ArgumentTypeError` for what it does not take."""

from __future__ import annotations

import argparse
import json
from typing import Any


def count(text: str) -> int:
    """A whole number from 1 on; "1e6" is one."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(number)


def json_object(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as problem:
        raise argparse.ArgumentTypeError(f"not JSON: {problem}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object, in braces")
    return value


def seeds(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 1,2,3, got {text!r}") from None
