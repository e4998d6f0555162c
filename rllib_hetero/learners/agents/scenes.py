"""A joint moment as the critic of one member reads it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rllib_hetero.learners.off_policy.joint_actions import Joint
from rllib_hetero.replay import JointBatch
from rllib_hetero.replay.batches import PerModule


class View(NamedTuple):
    """What can be seen in B moments.

    Attributes:
        observations: Module id to (B, n_m, d_m).
        active: Module id to (B, n_m) bool.
        masks: Id of each masked module to (B, n_m, p_m) bool.
        state: (B, s).
    """

    observations: PerModule
    active: PerModule
    masks: PerModule
    state: Tensor


class Scene(NamedTuple):
    """What is seen, and what all agents do.

    Attributes:
        view: What is seen.
        own: (B, k, p) one-hots of what the member's k agents do; zeros where one is dead.
        others: Every other agent's (B, p_j); empty where the critic does not read them.
    """

    view: View
    own: Tensor
    others: Joint


def now(batch: JointBatch) -> View:
    """What was seen when the batch's actions were chosen."""
    return View(batch.observations, batch.active, batch.masks, batch.state)


def after(batch: JointBatch) -> View:
    """What was seen after them."""
    return View(batch.next_observations, batch.next_active, batch.next_masks, batch.next_state)
