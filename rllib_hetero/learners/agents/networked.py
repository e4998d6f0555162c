"""Members of NetworkedAC: what they are fitted to is averaged, so steps must add up.

[1] Zhang, Yang, Liu, Zhang, Başar: Fully Decentralized Multi-Agent Reinforcement Learning with
    Networked Agents. ICML 2018. Algorithm 1.
"""

from __future__ import annotations

import torch
from torch import nn

from rllib_hetero.learners.agents.counterfactual import CounterfactualMember


class NetworkedMember(CounterfactualMember):
    """As F2A2-COMA's, but that the critic descends its gradient as it is.

    The mean of all copies then moves along the mean of all agents' gradients, which is that of the
    mean reward. Adam divides each agent's gradient by its own size: of two agents that want 1 and
    3, one pulls down as hard as the other pulls up wherever the copies are between the two.
    """

    def new_critic_optimizer(self, params: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, momentum=self.config.critic_momentum)
