"""The documentation's tables of algorithms, made from what the algorithms say of themselves.

A command as well: `python -m rllib_hetero.reporting.algorithm_tables FILE.md ...` renews what is
between the markers `<!-- algorithms -->`, `<!-- can I use HAPPO? -->` or `<!-- settings -->` and
`<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rllib_hetero import ALGORITHMS
from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.reporting.settings_reference import settings_reference

_TABLE = re.compile(
    r"(<!-- (algorithms|settings|can I use (\w+)\?) -->\n).*?(<!-- end -->)", re.DOTALL
)


def capabilities_of(name: str) -> Capabilities:
    """What the registered algorithm says of itself."""
    return ALGORITHMS[name].get_default_config().capabilities


def algorithm_table() -> str:
    """A table for each family, with a row for each registered algorithm, as Markdown."""
    families = dict.fromkeys(capabilities_of(name).family for name in ALGORITHMS)
    return "\n\n".join(f"**{f.capitalize()}**\n\n{_family_table(f)}" for f in families)


def _family_table(family: str) -> str:
    rows = ["| algorithm | paper | update | correction | step | default sharing |"]
    rows.append("|---|---|---|---|---|---|")
    for name in ALGORITHMS:
        c = capabilities_of(name)
        if c.family == family:
            cells = (f"`{name}`", c.paper, c.update, c.correction, c.step, c.sharing)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def capability_table(name: str) -> str:
    """What one algorithm can be used with, as Markdown."""
    c = capabilities_of(name)
    spaces = {
        "Box": "Box actions",
        "Discrete": "Discrete actions",
        "MultiDiscrete": "MultiDiscrete and MultiBinary actions",
    }
    answers = {
        **{text: space in c.actions for space, text in spaces.items()},
        "actions that are both choices and numbers": c.family == "on-policy"
        and {"Box", "Discrete"} <= set(c.actions),
        "agents with unequal observation and action spaces, without padding": c.unequal_spaces,
        "action masks": c.action_masks,
        "recurrent policies and critics": c.recurrent,
        "agents that die within an episode": True,
        "global state for the critic": c.global_state,
        "parameter sharing": c.parameter_sharing,
        "several learners": c.several_learners,
        "decentralised execution without communication": not c.autoregressive,
        "Dict, Tuple and discrete observations": True,
        "pictures of bytes in observations": c.pictures and not c.autoregressive,
        "agents that act in turns": False,
    }
    rows = ["| | |", "|---|---|"]
    rows += [f"| {text} | {'yes' if answer else 'no'} |" for text, answer in answers.items()]
    return "\n".join(rows)


def with_tables(text: str) -> str:
    """The text with every marked table renewed."""

    def renew(match: re.Match[str]) -> str:
        what, name = match[2], match[3]
        made = {"algorithms": algorithm_table, "settings": settings_reference}
        return match[1] + (capability_table(name) if name else made[what]()) + "\n" + match[4]

    return _TABLE.sub(renew, text)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_tables(path.read_text()))
