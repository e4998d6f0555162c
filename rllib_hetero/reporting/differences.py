"""In what runs differ that are shown together, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rllib_hetero.reporting.run_folders import Groups, Run

_LONGEST = 60  # characters of a group's name in a picture
_NEAR = 0.9  # runs whose lengths differ by less are of one length


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Each setting that is not the same in all runs, to its text in each; "-" where it is not set.

    Settings within settings are named "model_config.hidden_sizes".
    """
    flat = [dict(_flattened(run.settings)) for run in runs]
    names = sorted({name for settings in flat for name in settings})
    texts = {name: [settings.get(name, "-") for settings in flat] for name in names}
    return {name: of_each for name, of_each in texts.items() if len(set(of_each)) > 1}


def names_of_groups(algo: str, groups: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each setting of one algorithm on one task: "HAPPO (lr=0.001)".

    Where that is too long they are numbered; the report's table tells what the numbers are.
    """
    if len(groups) == 1:
        return [algo]
    unlike = differing([group[0] for group in groups])
    names = []
    for i in range(len(groups)):
        shown = [f"{name}={texts[i]}" for name, texts in unlike.items() if texts[i] != "-"]
        names.append(f"{algo} ({', '.join(shown)})" if shown else algo)
    if len(set(names)) < len(names) or max(map(len, names)) > _LONGEST:
        return [f"{algo}, setting {i}" for i in range(1, len(groups) + 1)]
    return names


def warnings_of(groups: Groups) -> list[str]:
    """What a reader of the curves should know."""
    found = []
    for (_, task), by_name in groups.items():
        for name, runs in by_name.items():
            unlike = differing(runs)
            if unlike:  # only where the user's label joins them
                found.append(
                    f"the runs of {name!r} on {task} differ in {', '.join(unlike)}, and are "
                    "treated as seeds of one setting"
                )
        for what, told in (
            ("batch", _batch),
            ("networks", _networks),
            ("length", _length),
            ("return_convention", lambda run: run.returns),
            ("versions", lambda run: json.dumps(run.versions, sort_keys=True)),
        ):
            texts = {name: _of_all(runs, told) for name, runs in by_name.items()}
            known = {text for text in texts.values() if text}
            if what == "length":
                steps = [run.steps[-1] for runs in by_name.values() for run in runs]
                known = known if min(steps) < _NEAR * max(steps) else set()
            if len(known) > 1 or any(" or " in text for text in known):
                shown = "; ".join(f"{name}: {text or 'unknown'}" for name, text in texts.items())
                found.append(f"on {task} the runs are of different {what}: {shown}")
    return found


def _of_all(runs: Sequence[Run], told: Any) -> str:
    return " or ".join(sorted({told(run) for run in runs}))


def _batch(run: Run) -> str:
    """Over all learners."""
    size = run.settings.get("train_batch_size_per_learner")
    learners = run.settings.get("num_learners") or 1
    return str(size * max(1, learners)) if isinstance(size, int) else ""


def _networks(run: Run) -> str:
    given = run.settings.get("model_config")
    keys = ("hidden_sizes", "activation", "recurrent")
    known = given if isinstance(given, Mapping) else {}
    return ", ".join(f"{key} {json.dumps(known[key])}" for key in keys if key in known)


def _length(run: Run) -> str:
    return f"{run.steps[-1]:,.0f} steps"


def _flattened(value: Mapping[str, Any], above: str = "") -> Any:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flattened(inner, f"{above}{key}.")
        else:
            text = inner if isinstance(inner, str) else json.dumps(inner, sort_keys=True)
            yield f"{above}{key}", text.replace('"', "")
