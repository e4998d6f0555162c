"""How a command ends: its exit code, and one JSON object as the last line on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rllib_hetero.reporting.redaction import without_secrets

DONE = 0
BAD_INPUT = 2  # argparse's own
FAILED = 3


class InputError(ValueError):
    """The command line or a file it names is wrong. Found before anything is trained."""


def after_signal(number: int) -> int:
    """The exit code of a run that a signal ended, in order and with a checkpoint."""
    return 128 + number


def print_result(result: Mapping[str, Any]) -> None:
    """Prints one line of JSON, on a line of its own whatever was printed before.

    Numbers that JSON does not know, such as NaN, become null.
    What was raised may hold a server's address with a password, so credentials are left out.
    """
    # An environment may have ended its last words without a newline.
    print("\n" + json.dumps(without_secrets(_plain(result)), default=str), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
