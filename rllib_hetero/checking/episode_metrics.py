"""Checks of the numbers that an environment counts besides the return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from rllib_hetero.checking.calls import short
from rllib_hetero.checking.findings import Fault, error, note
from rllib_hetero.checking.rewards import number
from rllib_hetero.checking.subject import Subject

TAKEN = frozenset({"episode_return_mean", "episode_len_mean", "num_episodes", "agent_steps"})
"""Some of the names that RLlib logs itself."""


def metrics(subject: Subject) -> Iterator[Fault]:
    """`episode_metrics` returns finite numbers, always under the same names."""
    ended = [m for m in subject.recording if m.over]
    if not ended:
        yield note("no episode ended, so episode_metrics() was not called", "")
    names: frozenset[str] | None = None
    for moment in ended:
        counted = moment.metrics
        if not isinstance(counted, Mapping) or not all(isinstance(k, str) for k in counted):
            yield error(
                f"{moment.where}: episode_metrics() returned {short(counted)}",
                "Return a dict of names and numbers.",
            )
            continue
        names = frozenset(counted) if names is None else names
        if names != counted.keys():
            yield error(
                f"{moment.where}: episode_metrics() returned {sorted(counted)}, but {sorted(names)}"
                " for an earlier episode",
                "Return the same names for every episode; use 0 for what did not happen.",
            )
        for name, value in counted.items():
            single = number(value)
            if single is None or not np.isfinite(single):
                yield error(
                    f"{moment.where}: {name!r} is {short(value)}, not one finite number",
                    "Return a float for each name; means of them are logged.",
                )
            if name in TAKEN:
                yield error(
                    f"{name!r} of episode_metrics() is the name of a metric of RLlib's",
                    "Choose another name.",
                )
