"""DDPG's and TD3's update of a team as bare torch loops: what ours is measured against."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

TAU, GAMMA, NOISE, CLIP = 0.005, 0.99, 0.2, 0.5


@dataclass(frozen=True)
class Size:
    """A team and its networks: n agents, sizes of observations and actions, hidden layers."""

    name: str
    agents: int
    seen: int
    acted: int
    hidden: tuple[int, ...]
    batch: int = 1000


class BareUpdate:
    """Draws transitions, fits the critics, updates one actor after another, moves targets.

    Args:
        size: Of the team.
        twin: TD3's two critics, smoothed targets and actors that wait for every other update.
        fused: Fused Adam, and targets moved by one call; else Adam tensor by tensor, and
            `copy_` for each target.
        rows: Of the replay: contiguous tensors in which next observations are stored too.
    """

    def __init__(self, size: Size, *, twin: bool, fused: bool, rows: int) -> None:
        n, d, k = size.agents, size.seen, size.acted
        self._n, self._d, self._k, self._batch, self._twin = n, d, k, size.batch, twin
        self._fused = fused
        widths = (n * d, n * d, n * k, 1, 1)
        self._replay = [torch.rand(rows, w) for w in widths]
        self._replay[4].zero_()
        self.actors = [_net(d, size.hidden, k, nn.Tanh()) for _ in range(n)]
        self.critics = [_net(n * (d + k), size.hidden, 1) for _ in range(1 + twin)]
        self._target_actors = [copy.deepcopy(a).requires_grad_(False) for a in self.actors]
        self._target_critics = [copy.deepcopy(c).requires_grad_(False) for c in self.critics]
        kind: dict[str, Any] = {"fused": True} if fused else {"foreach": False}
        self._actor_steps = [torch.optim.Adam(a.parameters(), lr=5e-4, **kind) for a in self.actors]
        critics = itertools.chain(*(c.parameters() for c in self.critics))
        self._critic_step = torch.optim.Adam(critics, lr=1e-3, **kind)
        self._online = _parameters([*self.actors, *self.critics])
        self._targets = _parameters([*self._target_actors, *self._target_critics])
        self._updates = 0

    def __call__(self) -> None:
        rows = torch.randint(len(self._replay[0]), (self._batch,))
        seen, after, acted, rewards, ended = [x.index_select(0, rows) for x in self._replay]
        self._fit_critics(seen, after, acted, rewards, ended)
        if self._updates % (1 + self._twin) == 0:
            self._improve_actors(seen)
            self._move_targets()
        self._updates += 1

    def _fit_critics(
        self, seen: Tensor, after: Tensor, acted: Tensor, rewards: Tensor, ended: Tensor
    ) -> None:
        with torch.no_grad():
            then = [a(x) for a, x in zip(self._target_actors, self._parts(after), strict=True)]
            if self._twin:
                for i, x in enumerate(then):
                    noise = (NOISE * torch.randn_like(x)).clamp(-CLIP, CLIP)
                    then[i] = (x + noise).clamp(-1.0, 1.0)
            x = torch.cat([after, *then], -1)
            values = [critic(x) for critic in self._target_critics]
            value = torch.minimum(*values) if self._twin else values[0]
            target = rewards + GAMMA * (1.0 - ended) * value
        x = torch.cat([seen, acted], -1)
        loss = sum(((critic(x) - target) ** 2).mean() for critic in self.critics)
        self._critic_step.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        self._critic_step.step()

    def _improve_actors(self, seen: Tensor) -> None:
        parts = self._parts(seen)
        critic = self.critics[0].requires_grad_(False)
        with torch.no_grad():
            joint = [actor(x) for actor, x in zip(self.actors, parts, strict=True)]
        for i in torch.randperm(self._n).tolist():
            joint[i] = self.actors[i](parts[i])
            loss = -critic(torch.cat([seen, *joint], -1)).mean()
            self._actor_steps[i].zero_grad()
            loss.backward()
            self._actor_steps[i].step()
            with torch.no_grad():
                joint[i] = self.actors[i](parts[i])
        critic.requires_grad_(True)

    @torch.no_grad()
    def _move_targets(self) -> None:
        if self._fused:
            torch._foreach_lerp_(self._targets, self._online, TAU)
            return
        for target, online in zip(self._targets, self._online, strict=True):
            target.copy_((1.0 - TAU) * target + TAU * online)

    def _parts(self, seen: Tensor) -> tuple[Tensor, ...]:
        return seen.split(self._d, -1)


def _net(size: int, hidden: tuple[int, ...], out: int, *end: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, out), *end)


def _parameters(networks: list[nn.Sequential]) -> list[Tensor]:
    return [p for network in networks for p in network.parameters()]
