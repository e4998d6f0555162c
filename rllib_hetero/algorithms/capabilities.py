"""What an algorithm says of itself: tests and the documentation's tables ask it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capabilities:
    """Answers to "can I use it?".

    Attributes:
        family: "on-policy", "off-policy" or "decentralised".
        paper: Whose method it is, and where it was published.
        update: In which order agents are updated.
        correction: How an update accounts for the other agents'.
        step: How far one update goes.
        sharing: The default of `parameter_sharing`.
        actions: The action spaces.
        action_masks: Whether actions may be masked.
        recurrent: Whether policies and critics may have a memory.
        parameter_sharing: Whether agents may share a module.
        several_learners: Whether learners may share the batch.
        unequal_spaces: Whether agents' spaces may differ.
        pictures: Whether observations and states may hold pictures.
        global_state: Whether the critic sees the environment's global state, where there is one.
        autoregressive: Whether agents act one after another, each told the actions before its own.
    """

    paper: str
    update: str
    correction: str
    step: str
    sharing: str = "none"
    actions: tuple[str, ...] = ("Box", "Discrete", "MultiDiscrete")
    action_masks: bool = True
    recurrent: bool = True
    parameter_sharing: bool = True
    several_learners: bool = True
    global_state: bool = True
    unequal_spaces: bool = True
    pictures: bool = True
    autoregressive: bool = False
    family: str = "on-policy"
