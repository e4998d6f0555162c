"""How a member gets to know what the other agents would do: it is told, or it predicts.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Section 5.2,
    Appendix G.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ray.rllib.core import Columns
from torch import Tensor, nn

from rllib_hetero.functional import Categorical, encode_tensor, mask_logits
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.learners.agents.scenes import View
from rllib_hetero.learners.off_policy.joint_actions import Joint
from rllib_hetero.modules.input_norm import moments_of
from rllib_hetero.modules.models_of_others import ModelOfKind
from rllib_hetero.replay import JointBatch, JointHistory
from rllib_hetero.team import AgentID

Policies = Mapping[ModuleID, Any]
"""Module id to a frozen copy of its actor."""


def told(policies: Policies, layout: Layout, view: View) -> Joint:
    """(B, p_j) logits of the agents whose policies have been sent, masked."""
    logits = {}
    for m, policy in policies.items():
        seen = view.observations[m]
        rows = policy.forward_inference({Columns.OBS: seen.flatten(0, 1)})
        out = rows[Columns.ACTION_DIST_INPUTS].unflatten(0, seen.shape[:2])
        for k, agent in enumerate(layout.groups[m]):
            logits[agent] = allowed(out[:, k], view, m, k)
    return logits


def allowed(logits: Tensor, view: View, module_id: ModuleID, k: int) -> Tensor:
    """(B, p) logits with those of forbidden actions taken out."""
    mask = view.masks.get(module_id)
    return logits if mask is None else mask_logits(logits, mask[:, k])


class Past(NamedTuple):
    """What k agents saw and did in the last H steps.

    Attributes:
        seen: (B, H, k, d).
        done: (B, H, k, p) one-hots.
        filled: (B, H) bool, the steps that there are; they come first.
    """

    seen: Tensor
    done: Tensor
    filled: Tensor

    def then(self, seen: Tensor, done: Tensor) -> Past:
        """After one more step, in which they saw (B, k, d) and did (B, k, p)."""
        steps, count = self.filled.shape[1], self.filled.sum(1)
        # One place more, in which the first is lost if all were taken.
        index = torch.arange(steps, device=count.device) + (count == steps)[:, None]
        place = count[:, None] == torch.arange(steps + 1, device=count.device)

        def push(old: Tensor, new: Tensor) -> Tensor:
            longer = torch.cat([old, torch.zeros_like(old[:, :1])], 1)
            longer = torch.where(place[..., None, None], new.unsqueeze(1), longer)
            return longer.gather(1, index[..., None, None].expand_as(old))

        filled = torch.arange(steps, device=count.device) <= count[:, None]
        return Past(push(self.seen, seen), push(self.done, done), filled)


class Kind:
    """The others of equal spaces, and the networks that predict them.

    Args:
        layout: Agents, modules, spaces.
        agents: The k agents.
        settings: `config.other_agents_config`.
    """

    def __init__(self, layout: Layout, agents: list[AgentID], settings: Mapping[str, Any]) -> None:
        self.agents, self._layout = agents, layout
        first = agents[0]
        self.size = layout.team.row_spaces[first].shape[0]
        dist = layout.distribution(layout.module_of[first])
        assert isinstance(dist, Categorical)
        self.dist = dist
        self.network = ModelOfKind(
            self.size,
            self.dist.size,
            len(agents),
            memory=settings["memory_size"],
            hidden=settings["hidden_size"],
        )
        # Of the first trajectories, from which characters are made.
        self.trajectories: Past | None = None

    def seen(self, observations: Mapping[ModuleID, Tensor]) -> Tensor:
        """(..., k, d) of the k agents, from module id to (..., n_m, d_m)."""
        slots = (self._layout.slot_of[a] for a in self.agents)
        return torch.stack([observations[m][..., i, : self.size] for m, i in slots], -2)

    def alive(self, active: Mapping[ModuleID, Tensor]) -> Tensor:
        """(..., k)."""
        return torch.stack([active[m][..., i] for m, i in self._slots()], -1)

    def actions(self, actions: Mapping[ModuleID, Tensor]) -> Tensor:
        """(..., k) int64."""
        return torch.stack([actions[m][..., i] for m, i in self._slots()], -1)

    def past(self, history: JointHistory) -> Past:
        """What they saw and did."""
        done = encode_tensor(self.dist, self.actions(history.actions))
        done = done * self.alive(history.active)[..., None]
        return Past(self.seen(history.observations), done, history.filled)

    def logits(self, view: View, past: Past, characters: Tensor) -> Tensor:
        """(B, k, p) predicted, masked."""
        out = self.network(self.seen(view.observations), *past, characters)
        return torch.stack(
            [allowed(out[:, j], view, m, i) for j, (m, i) in enumerate(self._slots())], 1
        )

    def _slots(self) -> list[tuple[ModuleID, int]]:
        return [self._layout.slot_of[a] for a in self.agents]


class ModelsOfOthers:
    """Predictions of all agents that are not the member's own, fitted to what they do.

    Args:
        layout: Agents, modules, spaces.
        module_id: Whose they are.
        settings: `config.other_agents_config`.
        adam_epsilon: Of the optimiser.
        device: Where the networks are.

    Attributes:
        optimizer: Its learning rate is the member's to set.
    """

    def __init__(
        self,
        layout: Layout,
        module_id: ModuleID,
        settings: Mapping[str, Any],
        adam_epsilon: float,
        device: Any,
    ) -> None:
        own = set(layout.groups[module_id])
        kinds: dict[Any, list[AgentID]] = {}
        for agent in layout.team.agents:
            if agent not in own:
                size = layout.team.row_spaces[agent].shape[0]
                key = (size, layout.distribution(layout.module_of[agent]))
                kinds.setdefault(key, []).append(agent)
        self._settings = settings
        self.kinds = [Kind(layout, agents, settings) for agents in kinds.values()]
        self.num_others = sum(len(kind.agents) for kind in self.kinds)
        self._networks = nn.ModuleList(kind.network for kind in self.kinds).to(device)
        self.optimizer = torch.optim.Adam(self._networks.parameters(), eps=adam_epsilon, fused=True)

    @property
    def has_met(self) -> bool:
        """Whether there are trajectories to make characters from."""
        return all(kind.trajectories is not None for kind in self.kinds)

    def meet(self, history: JointHistory) -> None:
        """Keeps the first trajectories of all others, from before the training."""
        for kind in self.kinds:
            kind.trajectories = kind.past(history)
            kind.network.norm.update(_moments(kind, history.observations, history.active))
            with torch.no_grad():
                characters = kind.network.encode_characters(*kind.trajectories)
            kind.network.characters.copy_(characters)

    @torch.no_grad()
    def predict(
        self, batch: JointBatch, history: JointHistory, view: View, next_view: View
    ) -> tuple[Joint, Joint]:
        """(B, p_j) logits of all others when the batch's actions were chosen, and after them."""
        now: Joint = {}
        then: Joint = {}
        for kind in self.kinds:
            past, characters = kind.past(history), kind.network.characters
            done = encode_tensor(kind.dist, kind.actions(batch.actions))
            done = done * kind.alive(batch.active)[..., None]
            later = past.then(kind.seen(batch.observations), done)
            for into, at, before in ((now, view, past), (then, next_view, later)):
                logits = kind.logits(at, before, characters)
                into.update(zip(kind.agents, logits.unbind(1), strict=True))
        return now, then

    def learn(
        self, batch: JointBatch, history: JointHistory, view: View, noise: torch.Generator
    ) -> dict[str, Tensor]:
        """One step of cross-entropy on what the others did lately ([1], section 5.2).

        Returns:
            The loss, and how often the likeliest action was the one taken, means over all others.
        """
        losses, hits, count = [], [], torch.zeros(())
        for kind in self.kinds:
            network, alive = kind.network, kind.alive(batch.active).float()
            network.norm.update(_moments(kind, batch.observations, batch.active))
            characters = self._characters(kind, noise)
            logits = kind.logits(view, kind.past(history), characters)
            actions = kind.actions(batch.actions)
            losses.append((-kind.dist.log_prob(logits, actions) * alive).sum())
            hits.append(((logits.argmax(-1) == actions) * alive).sum())
            count = count + alive.sum()
        count = count.clamp(min=1.0)
        loss = torch.stack(losses).sum() / count
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {
            "others_loss": loss.detach(),
            "others_accuracy": torch.stack(hits).sum() / count,
        }

    def _characters(self, kind: Kind, noise: torch.Generator) -> Tensor:
        """(k, memory) of some trajectories, with gradient; moves the running mean that predicts."""
        assert kind.trajectories is not None
        seen, done, filled = kind.trajectories
        drawn = torch.randint(
            len(seen), (self._settings["trajectories_per_update"],), generator=noise
        )
        characters = kind.network.encode_characters(seen[drawn], done[drawn], filled[drawn])
        with torch.no_grad():
            kind.network.characters.lerp_(characters, _SHARE)
        return characters

    # ---- state ------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """All that a restored member needs."""
        return {
            "networks": self._networks.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trajectories": [kind.trajectories and tuple(kind.trajectories) for kind in self.kinds],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self._networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])
        for kind, trajectories in zip(self.kinds, state["trajectories"], strict=True):
            kind.trajectories = None if trajectories is None else Past(*trajectories)


_SHARE = 0.1
"""How much of the running characters an update replaces: they follow the network that makes them,
and are the mean of more trajectories than it has drawn."""


def _moments(
    kind: Kind, observations: Mapping[ModuleID, Tensor], active: Mapping[ModuleID, Tensor]
) -> Tensor:
    seen, alive = kind.seen(observations), kind.alive(active)
    return moments_of(seen.flatten(0, -2), alive.flatten().float())
