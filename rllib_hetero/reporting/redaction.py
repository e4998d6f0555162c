"""Keeps credentials out of what a run writes and prints about itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_SECRET_NAME = re.compile(r"API_?KEY|ACCESS_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.I)
_A_PLACE = re.compile(r"_(PATH|FILE|DIR)$", re.I)  # names a file that holds a secret
_SHORTEST = 8  # a shorter value, such as "false", would be found in innocent text
_IN_URL = re.compile(r"(?<=://)[^/\s@:]+:[^/\s@]+(?=@)")


def without_secrets(value: Any) -> Any:
    """A copy in which no text holds a credential of this process's environment.

    The value of an environment variable that is named like a secret (`WANDB_API_KEY`) becomes
    "<WANDB_API_KEY>", and user name and password in a URL "<hidden>". Keys of dicts are texts, too.

    Args:
        value: Text, or lists and dicts of it. Anything else is returned as it is.
    """
    return _replaced(value, _secrets())


def _secrets() -> dict[str, str]:
    """Value to name; the longest first, as one may hold another."""
    found = {
        value: name
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name) and not _A_PLACE.search(name)
    }
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def _replaced(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for secret, name in secrets.items():
            value = value.replace(secret, f"<{name}>")
        return _IN_URL.sub("<hidden>", value)
    if isinstance(value, Mapping):
        return {_replaced(k, secrets): _replaced(v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(v, secrets) for v in value]
    return value
