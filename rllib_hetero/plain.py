"""Values of any kind as plain data: what JSON, a text file or another process can hold."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DEEPEST = 8  # objects inside objects; a cycle ends here


def as_plain(value: Any) -> Any:
    """The value as numbers, texts, lists and dicts with texts as keys; the same in every process.

    numpy's numbers become numbers, arrays and sets lists, members of an enumeration their values,
    dataclasses dicts, classes and functions "module:name". Anything else becomes text without
    addresses in memory, or, where it has no text of its own, a dict of its class and attributes.
    """
    return _plain(value, _DEEPEST)


def not_plain(value: Any, name: str) -> Iterator[str]:
    """Names of the parts that `as_plain` and JSON do not give back as they are.

    Arrays count as plain, though they come back as lists, and tuples too.

    Args:
        value: Anything.
        name: What it is called; parts of it are called "name.key".
    """
    if value is None or isinstance(value, str | int | float | np.generic | np.ndarray):
        return
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from not_plain(inner, f"{name}[{i}]")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from not_plain(inner, f"{name}.{key}")
            else:
                yield f"{name}[{key!r}]"
    else:
        yield name


def name_of(code: Any) -> str:
    """A class or function as "module:name", by which it can be imported if it is no local one."""
    while isinstance(code, functools.partial):
        code = code.func
    if not hasattr(code, "__qualname__"):
        code = type(code)
    return f"{code.__module__}:{code.__qualname__}"


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, depth)
    if isinstance(value, np.generic):
        return _plain(value.item(), depth)
    for kind in (bool, int, float, str):  # a subclass, too, becomes a plain one
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), depth)
    if isinstance(value, torch.Tensor):
        return _plain(value.detach().cpu().tolist(), depth)
    if depth == 0:
        return f"<{name_of(type(value))}>"
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), depth - 1) for f in fields(value)}
    if isinstance(value, Mapping):
        return {_key(k): _plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x, depth - 1) for x in value]
    if isinstance(value, AbstractSet):
        return sorted((_plain(x, depth - 1) for x in value), key=repr)
    return _object(value, depth)


def _object(value: Any, depth: int) -> Any:
    if isinstance(value, functools.partial):
        given = [_plain(x, depth - 1) for x in (value.args, value.keywords)]
        return {"function": name_of(value), "args": given[0], "keywords": given[1]}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return name_of(value)
    if isinstance(value, PurePath):
        return str(value)
    text = repr(value)
    if _ADDRESS.search(text) and hasattr(value, "__dict__"):
        return {"class": name_of(type(value)), **_plain(vars(value), depth - 1)}
    return _ADDRESS.sub("", text)


def _key(key: Any) -> str:
    plain = _plain(key, 1)
    return plain if isinstance(plain, str) else str(plain)
