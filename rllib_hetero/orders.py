"""Orders of agents: in which they are updated, or act."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_hetero.team import AgentID


def permutation(agents: Sequence[AgentID], seed: tuple[int, ...]) -> list[AgentID]:
    """A random order of the agents, drawn from `seed`."""
    order = np.random.default_rng(seed).permutation(len(agents))
    return [agents[i] for i in order]


def arrange(
    agents: Sequence[AgentID], rule: str | Sequence[AgentID], seed: tuple[int, ...]
) -> list[AgentID]:
    """The agents in the order that a rule asks for.

    Args:
        agents: All agents, in the environment's order.
        rule: "fixed" or "cyclic" (the environment's order), "reverse", "random" (drawn from
            `seed`), or the order itself.
        seed: Of this iteration.
    """
    if rule == "random":
        return permutation(agents, seed)
    if rule in ("fixed", "cyclic"):
        return list(agents)
    if rule == "reverse":
        return list(reversed(agents))
    return list(rule)


def problem_with(
    order: str | Sequence[AgentID], rules: Sequence[str], agents: Sequence[AgentID], setting: str
) -> str | None:
    """What is wrong with an order that a user has set, or None.

    Args:
        order: One of the rules, or a list of all agents.
        rules: The rules that may be named.
        agents: All agents.
        setting: The argument of `config.training()` that it was given as.
    """
    if isinstance(order, str) and order in rules:
        return None
    listed = isinstance(order, list | tuple) and len(order) == len(agents)
    if listed and all(agent in order for agent in agents):
        return None
    return (
        f"`{setting}` is {order!r}; use {', '.join(map(repr, rules))} or a list of all agents "
        f"{sorted(map(str, agents))}: config.training({setting}=...)."
    )
