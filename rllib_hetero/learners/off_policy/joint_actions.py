"""The joint action as the critic reads it: one message of each agent, side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_hetero.functional import encode_tensor
from rllib_hetero.layout import Layout
from rllib_hetero.replay import JointBatch
from rllib_hetero.team import AgentID

Joint = dict[AgentID, Tensor]
"""Each agent's action as the critic reads it, (B, w_i): the components of a Box, the one-hots of
discrete choices; zeros where the agent is dead."""


def side_by_side(joint: Joint, layout: Layout) -> Tensor:
    """The critic's input (B, A), in the team's order."""
    return torch.cat([joint[agent] for agent in layout.team.agents], dim=-1)


def replayed_actions(batch: JointBatch, layout: Layout) -> Joint:
    """What the agents did."""
    joint = {}
    for agent, (m, k) in layout.slot_of.items():
        message = encode_tensor(layout.distribution(m), batch.actions[m][:, k])
        joint[agent] = message * batch.active[m][:, k, None]
    return joint
