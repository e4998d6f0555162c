"""What an agent expects another one to do, from what that one sees and has done.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Section 5.2.
[2] Rabinowitz, Perbet, Song, Zhang, Eslami, Botvinick: Machine Theory of Mind. ICML 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rllib_hetero.modules.input_norm import InputNorm
from rllib_hetero.modules.networks import mlp


class ModelOfKind(nn.Module):
    """Predicts the policies of k agents of equal spaces.

    The paper has four parts. The *character* of an agent is the mean of its trajectories, encoded
    by a recurrent network; its *mental* state is its last few steps, encoded by another. The
    *natural* prediction is made of what the agent sees, its character and its mental state, the
    *impromptu* prediction of what it sees alone. The paper does not say how the two are combined:
    here their logits are added, and the sum is fitted, so that each learns what the other lacks.

    One set of networks serves all agents of a kind, which their character tells apart ([2]); the
    impromptu network, which knows no character, is told the agent's index.

    Args:
        size: d, of an agent's observation.
        num_actions: p.
        num_agents: k.
        memory: Units of the recurrent networks' two layers.
        hidden: Units of the prediction networks.

    Attributes:
        characters: (k, memory) running means of the characters.
    """

    characters: Tensor

    def __init__(
        self, size: int, num_actions: int, num_agents: int, *, memory: int = 64, hidden: int = 128
    ) -> None:
        super().__init__()
        self.norm = InputNorm(size)
        seen_and_done = size + num_actions
        self.character, self.mental = (
            nn.GRU(seen_and_done, memory, num_layers=2, batch_first=True) for _ in range(2)
        )
        self.natural = _prediction(size + 2 * memory, hidden, num_actions)
        self.impromptu = _prediction(size + num_agents, hidden, num_actions)
        self.register_buffer("characters", torch.zeros(num_agents, memory))

    def encode_characters(self, seen: Tensor, done: Tensor, filled: Tensor) -> Tensor:
        """(k, memory) the mean over N trajectories of each agent.

        Args:
            seen: (N, L, k, d).
            done: (N, L, k, p) one-hots.
            filled: (N, L) bool, the steps that there are; they come first.
        """
        encoded = self._encode(self.character, seen, done, filled)
        there = filled.any(1).to(encoded.dtype)
        return (encoded * there[:, None, None]).sum(0) / there.sum().clamp(min=1.0)

    def forward(
        self, now: Tensor, seen: Tensor, done: Tensor, filled: Tensor, characters: Tensor
    ) -> Tensor:
        """(B, k, p) logits of what the agents will do.

        Args:
            now: (B, k, d) what each sees.
            seen: (B, H, k, d) what it saw before.
            done: (B, H, k, p) one-hots of what it did then.
            filled: (B, H) bool, as in `encode_characters`.
            characters: (k, memory).
        """
        b, k, _ = now.shape
        mental = self._encode(self.mental, seen, done, filled)
        now = self.norm(now)
        natural = self.natural(torch.cat([now, characters.expand(b, k, -1), mental], -1))
        who = torch.eye(k, device=now.device).expand(b, k, k)
        return natural + self.impromptu(torch.cat([now, who], -1))

    def _encode(self, network: nn.GRU, seen: Tensor, done: Tensor, filled: Tensor) -> Tensor:
        """(B, k, memory) the network's state after the last step that is filled; 0 if none is."""
        b, _, k, _ = seen.shape
        x = torch.cat([self.norm(seen), done], -1).transpose(1, 2).flatten(0, 1)  # (B k, L, .)
        out, _ = network(x)
        count = filled.sum(1).repeat_interleave(k)
        last = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, out.shape[-1])
        encoded = out.gather(1, last).squeeze(1) * (count > 0)[:, None]
        return encoded.unflatten(0, (b, k))


def _prediction(in_size: int, hidden: int, num_actions: int) -> nn.Sequential:
    body = mlp(in_size, [hidden], activation="leaky_relu", layer_norm=False, orthogonal=False)
    return nn.Sequential(body, nn.Linear(hidden, num_actions))
