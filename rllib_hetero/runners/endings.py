"""Ends of episodes that an environment does not say itself, and those that it says by halves."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from rllib_hetero.team import AgentID

logger = logging.getLogger(__name__)


def end_without_all(
    acting: Iterable[AgentID], terminateds: Mapping[Any, bool], truncateds: Mapping[Any, bool]
) -> str | None:
    """How an episode ends in a step that ends every agent's part, but not the episode's.

    Args:
        acting: Who acted in the step.
        terminateds: The step's flags by agent.
        truncateds: The same.

    Returns:
        "truncated" if any part was cut and not ended, else "terminated"; None while anybody is
        left.
    """
    cut = False
    for agent in acting:
        ended = terminateds.get(agent, False)
        if not (ended or truncateds.get(agent, False)):
            return None
        cut = cut or not ended
    return "truncated" if cut else "terminated"


class Told:
    """Says each thing once, at its first occurrence."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def nobody_left(self, end: str) -> None:
        """An episode was ended by `end_without_all`."""
        self._say(
            "all",
            "All agents' parts have ended, and the environment's '__all__' is False: the episode "
            "is taken as %s. Set terminateds['__all__'] (or truncateds['__all__']) then. This is "
            "said once.",
            end,
        )

    def no_final(self, agents: list[AgentID]) -> None:
        """An episode was cut, and these agents, who would go on, were given no observation."""
        if agents:
            self._say(
                "final",
                "The environment truncated an episode without final observations of %s: the value "
                "of the state after the last step is bootstrapped, with zeros in their place. "
                "Return them with the last step. This is said once.",
                agents,
            )

    def _say(self, what: str, message: str, *args: Any) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.warning(message, *args)
