"""Every setting by its name, as Markdown: who has it, its default, what it says of itself.

Made from the fluent methods' signatures and docstrings and from default configs, so that a page of
them cannot say anything else than the configs do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from rllib_hetero import ALGORITHMS
from rllib_hetero.algorithms.arguments import (
    MEANINGLESS,
    METHODS,
    REFUSED,
    USED,
    arguments_of,
    value_of,
)

_ARGUMENT = re.compile(r"^    (\w+): (.*?)(?=^    \S|\Z)", re.M | re.S)
_PLAIN = (type(None), bool, int, float, str)


class Use(NamedTuple):
    """A setting as one algorithm has it.

    Attributes:
        algorithm: The algorithm's name.
        default: What it is where nothing is given.
        text: What the docstring says of it, and the papers that it names; one paragraph each.
    """

    algorithm: str
    default: Any
    text: str


def settings_reference() -> str:
    """Our settings under a heading each, then what becomes of RLlib's."""
    parts = []
    for method, settings in our_settings().items():
        parts.append(f"## config.{method}(...)")
        for name in sorted(settings):
            parts.append(f"### `{name}` {{ #{method}-{name} }}")
            parts.append(f"`config.{method}({name}=...)`")
            parts += _paragraphs(settings[name])
    parts += ["## Keys of model_config", _model_table()]
    parts += ["## RLlib's settings", *_rllib()]
    return "\n\n".join(parts)


def our_settings() -> dict[str, dict[str, list[Use]]]:
    """Method to argument to its uses, of those arguments that are not RLlib's."""
    found: dict[str, dict[str, list[Use]]] = {"training": {}}
    for algorithm in ALGORITHMS:
        config = _default(algorithm)
        own = [m for m in _fluent_methods(type(config)) if m not in METHODS]
        for method, name, _, ours in arguments_of(type(config), (*own, *METHODS)):
            if ours:
                default = _default_of(config, method, name)
                use = Use(algorithm, default, _description(type(config), method, name))
                found.setdefault(method, {}).setdefault(name, []).append(use)
    return {"training": found.pop("training"), **dict(sorted(found.items()))}


def arguments_in(docstring: str) -> dict[str, str]:
    """Argument to its description in one line, of a docstring in Google's style."""
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    section = re.split(r"^\S", section, maxsplit=1, flags=re.M)[0]
    return {name: " ".join(text.split()) for name, text in _ARGUMENT.findall(section)}


@cache
def _default(algorithm: str) -> Any:
    return ALGORITHMS[algorithm].get_default_config()


def _ours(config_class: type) -> Iterator[type]:
    return (c for c in config_class.__mro__ if c.__module__.startswith("rllib_hetero"))


def _fluent_methods(config_class: type) -> dict[str, None]:
    """Names of our methods that take what need not be given, in order."""
    return {
        name: None
        for owner in _ours(config_class)
        for name, method in vars(owner).items()
        if inspect.isfunction(method)
        and any(p.default is NotProvided for p in inspect.signature(method).parameters.values())
    }


def _default_of(config: Any, method: str, name: str) -> Any:
    if method in METHODS:
        return value_of(config, name)
    # A method of ours may keep an argument under another name: see where it goes.
    probe = object()
    changed = vars(getattr(config.copy(copy_frozen=False), method)(**{name: probe}))
    for attribute, value in changed.items():
        before = vars(config).get(attribute)
        if value is probe:
            return before
        if isinstance(value, Mapping) and value.get(name) is probe:
            return before[name]
    raise LookupError(f"config.{method}({name}=...) is kept nowhere.")


def _description(config_class: type, method: str, name: str) -> str:
    for owner in _ours(config_class):
        text = arguments_in(getattr(vars(owner).get(method), "__doc__", None) or "").get(name)
        if text:
            return "\n\n".join([text, *_papers(owner, text)])
    return ""


def _papers(owner: type, text: str) -> Iterator[str]:
    """The papers that a text names by number, as the module of its class lists them."""
    module = inspect.getmodule(owner)
    for number in sorted(set(re.findall(r"\[\d\](?!\])", text))):
        start = rf"^{re.escape(number)} (.*?)(?=\n\s*\n|\n\[|\Z)"
        paper = re.search(start, inspect.getdoc(module) or "", re.M | re.S)
        if paper:
            yield f"{number} {' '.join(paper[1].split())}"


# ---- how it is written -------------------------------------------------------------------------


def _paragraphs(uses: list[Use]) -> Iterator[str]:
    """For each text who has it, with which default, and the text."""
    for text in dict.fromkeys(use.text for use in uses):
        alike = [use for use in uses if use.text == text]
        default = _defaults({use.algorithm: use.default for use in alike})
        who = _algorithms([use.algorithm for use in alike])
        yield f"**{who[0].upper()}{who[1:]}**" + (f". Default: {default}." if default else ".")
        yield text


def _defaults(by_algorithm: Mapping[str, Any]) -> str:
    """The commonest default, then the others with those who have them; "" if it is no data."""
    groups: dict[str, list[str]] = {}
    for algorithm, value in by_algorithm.items():
        if not _is_data(value):
            return ""
        groups.setdefault(_written(value), []).append(algorithm)
    (first, _), *others = sorted(groups.items(), key=lambda group: -len(group[1]))
    return "; ".join([first, *(f"{value} for {_algorithms(who)}" for value, who in others)])


def _is_data(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_data(x) for x in value.values())
    return isinstance(value, _PLAIN) or (
        isinstance(value, list | tuple) and all(_is_data(x) for x in value)
    )


def _written(value: Any) -> str:
    return "`" + repr(value).replace("'", '"') + "`"


def _algorithms(names: list[str]) -> str:
    """Names, whole families in a word."""
    if len(names) == len(ALGORITHMS):
        return "all algorithms"
    families: dict[str, list[str]] = {}
    for name in ALGORITHMS:
        families.setdefault(_default(name).capabilities.family, []).append(name)
    words = []
    for family, members in families.items():
        have = [name for name in members if name in names]
        words += [f"the {family} algorithms"] if have == members else have
    return ", ".join(words)


def _model_table() -> str:
    keys: dict[str, dict[str, Any]] = {}
    for algorithm in ALGORITHMS:
        config = _default(algorithm)
        for key, value in config.model_defaults.items():
            keys.setdefault(key, {})[algorithm] = config.model_config.get(key, value)
    rows = ["| key | default | algorithms |", "|---|---|---|"]
    for key, values in sorted(keys.items()):
        rows.append(f"| `{key}` | {_defaults(values)} | {_algorithms(list(values))} |")
    return "\n".join(rows)


def _rllib() -> Iterator[str]:
    stock = AlgorithmConfig()
    ours = {(method, name) for method, names in our_settings().items() for name in names}
    for method in METHODS:
        yield f"### config.{method}(...) {{ #rllib-{method} }}"
        names = sorted(n for n in USED.get(method, ()) if (method, n) not in ours)
        rows = []
        for name in names:
            values = {a: value_of(_default(a), name) for a in ALGORITHMS}
            default = _defaults(values)
            if default and default != _written(value_of(stock, name)):
                rows.append(f"| `{name}` | {default} |")
        if rows:
            yield "\n".join(["| of another default than RLlib's | |", "|---|---|", *rows])
        alike = [f"`{n}`" for n in names if not any(row.startswith(f"| `{n}`") for row in rows)]
        if alike:
            yield f"As in RLlib: {', '.join(alike)}."
        refused = REFUSED.get(method)
        if refused:
            told = [f"| `{name}` | {why} |" for name, why in sorted(refused.items())]
            yield "\n".join(["| refused | why, or what to use |", "|---|---|", *told])
        nothing = [f"`{name}`" for name in sorted(MEANINGLESS.get(method, ()))]
        if nothing:
            yield f"Accepted, and without effect: {', '.join(nothing)}."
