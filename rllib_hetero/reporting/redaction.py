"""Keeps credentials out of what a run writes and prints about itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "<hidden>"

# Anywhere in a variable's name, and as its last word (PWD and RAY_AUTH_MODE are no secrets).
_SECRET_NAME = re.compile(
    r"API_?KEY|ACCESS_?KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE"
    r"|_(PASS|PWD|AUTH|KEY|JWT|PAT|SAS)$",
    re.I,
)
_A_PLACE = re.compile(r"_(PATH|FILE|DIR)$", re.I)  # names a file that holds a secret
_SHORTEST = 8  # a shorter value, such as "false", would be found in innocent text

_SETTING = (
    r"(?:pass|passwd|password|passphrase|pwd|token|secret|auth|authorization|credentials?|cookie"
    r"|api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|sig|signature|jwt)"
)
_IN_SETTINGS = re.compile(rf"(?:.*[^a-z])?{_SETTING}", re.I)
_IN_TEXT = re.compile(rf"((?<![A-Za-z])(?:[\w-]*[_-])?{_SETTING}=)[^&\s;,\"'<>]+", re.I)
_BEARER = re.compile(r"(\b(?:bearer|authorization\W{1,4}\w+)\s+)[\w.~+/=-]{8,}", re.I)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# All in front of the last "@" of the server's part. A "/" may be in a password, which is where no
# port is.
_IN_URL = re.compile(r"(?<=://)(?:[^/\s\"']+|[^/\s@:\"']*:(?!\d+/)[^\s@\"']+)(?=@)")


def without_secrets(value: Any) -> Any:
    """A copy in which no text holds a credential, as far as names and addresses tell.

    The value of an environment variable that is named like a secret (`WANDB_API_KEY`, `DB_PASS`)
    becomes "<WANDB_API_KEY>". What stands before the "@" of a URL, after a name like `token=`, or
    as a text in a setting named like a secret becomes "<hidden>". Keys of dicts are texts, too.

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
        value = _IN_URL.sub(HIDDEN, value)
        value = _BEARER.sub(rf"\1{HIDDEN}", value)
        return _IN_TEXT.sub(rf"\1{HIDDEN}", value)
    if isinstance(value, Mapping):
        return {_replaced(k, secrets): _of_setting(k, v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(v, secrets) for v in value]
    return value


def _of_setting(name: Any, value: Any, secrets: Mapping[str, str]) -> Any:
    told = _replaced(value, secrets)
    secret = isinstance(name, str) and _IN_SETTINGS.fullmatch(_HUMP.sub("_", name))
    # What names its variable says more.
    return HIDDEN if secret and isinstance(value, str) and value and told == value else told
