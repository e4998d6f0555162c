"""What one agent learns with, and how: its actor, its copy of the critic, its multipliers.

A member is one module of the layout, mostly one agent. It sees what everybody may read, the
observations and actions of all, and the rewards of its own agents. Nothing here imports Ray's
actors: whoever holds a member hands it data, and carries what it shares to the others.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Algorithm 1.
"""

from __future__ import annotations

import copy
import zlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from ray.rllib.core import Columns
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor, nn

from rllib_hetero.consensus.shared_part import SharedPart, trainable
from rllib_hetero.functional import encode_tensor, mask_logits, td_target
from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents.critics import AgentCritic
from rllib_hetero.learners.agents.models import ModelsOfOthers, Policies, told
from rllib_hetero.learners.agents.scenes import Scene, View, after, now
from rllib_hetero.learners.clipping import check_finite, clip_gradients
from rllib_hetero.learners.off_policy.joint_actions import Joint
from rllib_hetero.learners.off_policy.reward_scale import mean_and_deviation
from rllib_hetero.learners.seeding import as_seed
from rllib_hetero.modules.input_norm import moments_of
from rllib_hetero.replay import JointBatch, JointHistory, JointReplay, uniform

_TINY = torch.finfo(torch.float32).tiny


@dataclass
class Drawn:
    """What a member has drawn from a replay for one update.

    Attributes:
        batch: The joint transitions to learn from.
        rewards: (B, k) of the member's own agents, and of nobody else; standardised by those of
            all rows if so configured.
        runs: (P,) lengths of the runs of rows that the batch consists of, if it is all rows.
        history: What came before the batch, if other agents are modelled.
        recent: Of the newest transitions, and what came before them: what the models learn from.
        first: The trajectories that characters are made of, once.
    """

    batch: JointBatch
    rewards: Tensor
    runs: np.ndarray | None = None
    history: JointHistory | None = None
    recent: tuple[JointBatch, JointHistory] | None = None
    first: JointHistory | None = None


@dataclass
class Moment:
    """The states of a batch before or after its actions, as the member sees them.

    Attributes:
        view: What is seen.
        logits: (B, k, p) of the member's own policy, masked.
        others: (B, p_j) logits of every other agent; empty where they do not matter.
        alive: (B, k) float32, which of the member's agents act.
    """

    view: View
    logits: Tensor
    others: Joint
    alive: Tensor


class Member(ABC):
    """One module of the layout with all that it learns with.

    A method supplies `learn`: the critic's step, then the actor's with the critic as it then is.

    Args:
        config: A validated `F2A2Config`.
        module_id: Which module.
        device: Where it learns.

    Attributes:
        actor: The policy.
        critic: The copy of the critic.
        shared: What of the two is shared.
        consensus: Average and multiplier of that part.
        models: Of the other agents; None where they do not matter, or are told.
        num_updates: How often it has been updated.
    """

    has_target_policy: ClassVar[bool] = False
    """Whether next actions are those of a slow copy of the policy."""

    def __init__(self, config: Any, module_id: ModuleID, device: Any = "cpu") -> None:
        self.config, self.module_id, self.device = config, module_id, torch.device(device)
        self.layout = layout = config.layout
        self.agents = layout.groups[module_id]
        self.dist = layout.distribution(module_id)
        spec = config.get_multi_rl_module_spec()[module_id]
        self.actor = spec.build().to(self.device)
        if not self.has_target_policy and hasattr(self.actor, "target_network"):
            del self.actor.target_network  # It would be saved and moved for nobody.
        self.critic: AgentCritic = config.new_agent_critic(module_id)
        self.critic.module.to(self.device)
        named = self.named_parameters()
        self.shared = SharedPart(named, config.is_shared)
        self._start_alike(set(self.shared.names))
        self._actor_params = [p for n, p in named.items() if n.startswith("actor.")]
        self._critic_params = [p for n, p in named.items() if n.startswith("critic.")]
        self.actor_optimizer = torch.optim.Adam(
            self._actor_params, eps=config.adam_epsilon, fused=True
        )
        self.critic_optimizer = self.new_critic_optimizer(self._critic_params)
        self.models: ModelsOfOthers | None = None
        if self.critic.reads_others and config.models_others and len(layout.groups) > 1:
            self.models = ModelsOfOthers(
                layout, module_id, config.other_agents_config, config.adam_epsilon, self.device
            )
        pairs = [*self.actor.target_pairs()] if self.has_target_policy else []
        pairs += self.critic.module.target_pairs()
        self._targets, self._online = [t for t, _ in pairs], [o for _, o in pairs]
        self.consensus = config.new_consensus(self.shared)
        self._schedules = [
            (optimizer, Scheduler(fixed_value_or_schedule=lr, framework="torch"))
            for optimizer, lr in self._learning_rates()
        ]
        self.num_updates = 0
        self._notes: dict[str, list[Tensor]] = defaultdict(list)
        self.explore_as_scheduled(0)

    def new_critic_optimizer(self, params: list[nn.Parameter]) -> torch.optim.Optimizer:
        """What steps the critic."""
        return torch.optim.Adam(params, eps=self.config.adam_epsilon, fused=True)

    # ---- what is shared ---------------------------------------------------------------------

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """All that gradients move but the models of others: "actor." and "critic." and the name."""
        return trainable(self._parts())

    def _parts(self) -> dict[str, nn.Module]:
        return {"actor": self.actor, "critic": self.critic.module}

    def _start_alike(self, shared: set[str]) -> None:
        """Gives every layer that is shared the first weights that all members' copies have.

        From the run's seed and the layer's name: whatever else a member consists of does not
        matter. (The paper's Algorithm 1 begins with w = 0; copies that are equal have w = w_i.)
        """
        for part, root in self._parts().items():
            for name, layer in root.named_modules():
                own = [f"{part}.{name}.{p}" for p, _ in layer.named_parameters(recurse=False)]
                if hasattr(layer, "reset_parameters") and shared & set(own):
                    seed = (self.config.update_order_seed, zlib.crc32(f"{part}.{name}".encode()))
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(as_seed(seed))
                        layer.reset_parameters()
        self._reset_targets()

    @torch.no_grad()
    def _reset_targets(self) -> None:
        pairs = self.critic.module.target_pairs()
        if self.has_target_policy:
            pairs += self.actor.target_pairs()
        for target, online in pairs:
            target.copy_(online)

    def shared_state(self) -> np.ndarray:
        """(D,) its copy of the shared part, for one that has come back without its own."""
        return self.shared.vector().cpu().numpy()

    def load_shared(self, vector: np.ndarray) -> None:
        """Begins with a neighbour's copy. Targets follow it at once."""
        self.shared.load(torch.as_tensor(vector).to(self.device))
        self._reset_targets()
        self.consensus.reset()

    @property
    def exchanges_policies(self) -> bool:
        """Whether it needs the other agents' policies, as it does not predict them."""
        return self.critic.reads_others and self.models is None and len(self.layout.groups) > 1

    def policy(self) -> dict[str, np.ndarray]:
        """The weights that runners act with."""
        return convert_to_numpy(self.actor.get_state(inference_only=True))

    # ---- drawing ----------------------------------------------------------------------------

    def draw(self, replay: JointReplay, seed: tuple[int, ...]) -> Drawn:
        """Draws what the next update learns from: a function of the replay and the seed.

        Args:
            replay: What everybody may read, with its own agents' rewards.
            seed: (the run's seed, number of the update, index of the member).
        """
        indices = self._indices(replay, seed)
        batch = replay.take(indices, n_step=1, gamma=self.config.gamma)
        assert batch.agent_rewards is not None
        own = [replay.agents.index(a) for a in self.agents]
        rewards = batch.agent_rewards[:, own]
        if self.config.standardize_rewards:
            # The team's come first.
            scale = mean_and_deviation(torch.from_numpy(replay.reward_moments()))
            mean, deviation = (x[1:][own].to(rewards) for x in scale)
            rewards = (rewards - mean) / deviation
        drawn = Drawn(batch, rewards)
        if self.models is not None:
            self._draw_for_models(drawn, replay, indices, self.models, seed)
        return drawn

    def _indices(self, replay: JointReplay, seed: tuple[int, ...]) -> np.ndarray:
        return uniform((*seed, 1), len(replay), self.config.train_batch_size_per_learner)

    def _draw_for_models(
        self,
        drawn: Drawn,
        replay: JointReplay,
        indices: np.ndarray,
        models: ModelsOfOthers,
        seed: tuple[int, ...],
    ) -> None:
        settings = self.config.other_agents_config
        steps = settings["history"]
        drawn.history = replay.preceding(indices, steps)
        if not models.has_met:
            ends = uniform((*seed, 3), len(replay), settings["trajectories"])
            drawn.first = replay.preceding(ends, settings["trajectory_length"])
        if self.num_updates % settings["update_interval"] == 0:
            newest = replay.newest(settings["recent_steps"])
            rows = -(-settings["batch_size"] // models.num_others)
            chosen = newest[uniform((*seed, 4), len(newest), rows)]
            recent = replay.take(chosen, n_step=1, gamma=self.config.gamma)
            drawn.recent = recent, replay.preceding(chosen, steps)

    # ---- one update -------------------------------------------------------------------------

    def update(
        self,
        drawn: Drawn,
        seed: tuple[int, ...],
        policies_of_others: Policies | None = None,
    ) -> None:
        """One update: critic, actor with the fresh critic, models of others, consensus, targets.

        Args:
            drawn: From `draw`.
            seed: As there; of all noise.
            policies_of_others: Module id to a frozen actor, where `exchanges_policies`.

        Raises:
            NonFiniteUpdateError: If a gradient is NaN or infinite.
        """
        self._noise = torch.Generator().manual_seed(as_seed((*seed, 2)))
        if drawn.first is not None and self.models is not None:
            self.models.meet(drawn.first)
        batch = drawn.batch
        self._look(batch)
        self.learn(drawn, *self._moments(drawn, policies_of_others))
        if drawn.recent is not None and self.models is not None:
            recent, history = drawn.recent
            found = self.models.learn(recent, history, now(recent), self._noise)
            for name, value in found.items():
                self.note(name, value)
        self.consensus.end_update()
        if self.num_updates % self.config.target_update_interval == 0:
            with torch.no_grad():
                torch._foreach_lerp_(self._targets, self._online, self.config.tau)
        self.num_updates += 1

    @abstractmethod
    def learn(self, drawn: Drawn, before: Moment, then: Moment) -> None:
        """The critic's and the actor's step.

        Args:
            drawn: What was drawn.
            before: The batch's states.
            then: Those that followed. Its logits are the target policy's, if there is one.
        """

    def _look(self, batch: JointBatch) -> None:
        """Moves the running statistics of inputs, which the critic's target shares."""
        self.critic.look(now(batch))
        if self.actor.input_norm is not None:
            rows = batch.observations[self.module_id].flatten(0, 1)
            alive = batch.active[self.module_id].flatten().float()
            self.actor.input_norm.update(moments_of(rows, alive))

    def _moments(self, drawn: Drawn, policies: Policies | None) -> tuple[Moment, Moment]:
        batch, m = drawn.batch, self.module_id
        views = now(batch), after(batch)
        others: tuple[Joint, Joint] = ({}, {})
        if self.models is not None:
            assert drawn.history is not None
            others = self.models.predict(batch, drawn.history, *views)
        elif self.exchanges_policies:
            assert policies is not None
            apart = {n: p for n, p in policies.items() if n != m}
            with torch.no_grad():
                others = (
                    told(apart, self.layout, views[0]),
                    told(apart, self.layout, views[1]),
                )
        with torch.no_grad():
            later = self._logits(views[1], target=self.has_target_policy)
        logits = self._logits(views[0]), later
        return tuple(  # type: ignore[return-value]
            Moment(view, x, of_others, view.active[m].float())
            for view, x, of_others in zip(views, logits, others, strict=True)
        )

    def _logits(self, view: View, *, target: bool = False) -> Tensor:
        """(B, k, p) of the own policy, masked."""
        seen = view.observations[self.module_id]
        rows = {Columns.OBS: seen.flatten(0, 1)}
        if target:
            out = self.actor.forward_target(rows)
        else:
            out = self.actor.forward_train(rows)[Columns.ACTION_DIST_INPUTS]
        out = out.unflatten(0, seen.shape[:2])
        mask = view.masks.get(self.module_id)
        return out if mask is None else mask_logits(out, mask)

    # ---- what updates are made of -----------------------------------------------------------

    def target(self, drawn: Drawn, then: Moment, values: Tensor) -> Tensor:
        """(B, k) r + gamma V', which ends with the agent's life."""
        return td_target(drawn.rewards, drawn.batch.discount[:, None] * then.alive, values)

    def replayed(self, batch: JointBatch, view: View) -> Scene:
        """What was done."""
        m = self.module_id
        own = encode_tensor(self.dist, batch.actions[m]) * batch.active[m][..., None]
        others = {}
        if self.critic.reads_others:
            for agent, (n, k) in self.layout.slot_of.items():
                if n != m:
                    message = encode_tensor(self.layout.distribution(n), batch.actions[n][:, k])
                    others[agent] = message * batch.active[n][:, k, None]
        return Scene(view, own, others)

    def beside(self, moment: Moment, own: Tensor, others: Joint) -> Scene:
        """What is done if its own agents do (B, k, p) and the others (B, p_j); the dead do none."""
        alive = {}
        for agent, message in others.items():
            m, k = self.layout.slot_of[agent]
            alive[agent] = message * moment.view.active[m][:, k, None]
        return Scene(moment.view, own * moment.alive[..., None], alive)

    def drawn_of(self, logits: Joint) -> Joint:
        """One-hots (B, p_j) drawn from everybody's logits, in the order of the team."""
        drawn = {}
        for agent in self.layout.team.agents:
            if agent in logits:
                x = logits[agent]
                drawn[agent] = one_hots((x + self.gumbels(x.shape)).argmax(-1), x.shape[-1])
        return drawn

    def mean_over_living(self, x: Tensor, alive: Tensor) -> Tensor:
        """The mean of (B, k) over those that are alive."""
        return (x * alive).sum() / alive.sum().clamp(min=1.0)

    def gumbels(self, shape: Sequence[int]) -> Tensor:
        """Standard Gumbel noise."""
        drawn = torch.empty(tuple(shape)).exponential_(generator=self._noise)
        return -drawn.clamp(min=_TINY).log().to(self.device)  # A draw may be exactly 0.

    def normals(self, shape: Sequence[int]) -> Tensor:
        """Standard normal noise."""
        return torch.randn(tuple(shape), generator=self._noise).to(self.device)

    def step_critic(self, loss: Tensor) -> None:
        """One step of the critic's own parameters."""
        limit = self.config.critic_grad_clip
        self._step("critic", loss, self._critic_params, self.critic_optimizer, limit)

    def step_actor(self, loss: Tensor) -> None:
        """One step of the actor's own parameters."""
        limit = self.config.grad_clip
        self._step("actor", loss, self._actor_params, self.actor_optimizer, limit)

    def _step(
        self,
        name: str,
        loss: Tensor,
        params: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        limit: float | None,
    ) -> None:
        # Not `backward`: the actor's loss may go through the critic, and heads of others, which
        # have no part in the loss, must stay without a gradient.
        gradients = torch.autograd.grad(loss, params, allow_unused=True)
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = gradient
        norm = clip_gradients(
            [p for p in params if p.grad is not None], limit, self.config.grad_clip_by
        )
        check_finite(norm, f"{self.module_id} ({name})", self.num_updates)
        # Behind the clipping: what keeps the copies together is no gradient to be cut.
        self.consensus.add_to_gradients()
        optimizer.step()
        for p in params:
            p.grad = None
        self.note(f"{name}_loss", loss)
        self.note(f"{name}_gradient_norm", norm)

    # ---- schedules, metrics, state ----------------------------------------------------------

    def _learning_rates(self) -> list[tuple[torch.optim.Optimizer, Any]]:
        config = self.config
        critic_lr = config.lr if config.critic_lr is None else config.critic_lr
        rates: list[tuple[torch.optim.Optimizer, Any]] = [
            (self.actor_optimizer, config.lr),
            (self.critic_optimizer, critic_lr),
        ]
        if self.models is not None:
            lr = config.other_agents_config["lr"]
            rates.append((self.models.optimizer, config.lr if lr is None else lr))
        return rates

    def explore_as_scheduled(self, env_steps: int) -> None:
        """Sets what follows a schedule over environment steps: the learning rates."""
        self._env_steps = env_steps
        for optimizer, schedule in self._schedules:
            lr = float(schedule.update(env_steps))
            for group in optimizer.param_groups:
                group["lr"] = lr

    def note(self, name: str, value: Tensor) -> None:
        """Keeps a scalar until `metrics`."""
        self._notes[name].append(value.detach())

    def metrics(self) -> dict[str, float]:
        """Means of what was noted since the last call."""
        means = {n: float(torch.stack(list(x)).float().mean()) for n, x in self._notes.items()}
        self._notes.clear()
        return means

    def get_state(self) -> dict[str, Any]:
        """Everything that a member equal to this one needs; copies."""
        state = {
            "actor": self.actor.state_dict(),
            "critic": self.critic.module.state_dict(),
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "consensus": self.consensus.get_state(),
            "models": None if self.models is None else self.models.get_state(),
            "num_updates": self.num_updates,
            "env_steps": self._env_steps,
        }
        return copy.deepcopy(state)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Becomes equal to the member that gave the state, but for its own optimisers' settings."""
        optimizers = [optimizer for optimizer, _ in self._schedules]
        epsilons = [optimizer.param_groups[0].get("eps") for optimizer in optimizers]
        self.actor.load_state_dict(state["actor"])
        self.critic.module.load_state_dict(state["critic"])
        self.actor_optimizer.load_state_dict(state["actor_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])
        self.consensus.set_state(state["consensus"])
        if self.models is not None and state["models"] is not None:
            self.models.set_state(state["models"])
        self.num_updates = state["num_updates"]
        for optimizer, epsilon in zip(optimizers, epsilons, strict=True):
            if epsilon is not None:
                optimizer.param_groups[0]["eps"] = epsilon
        self.explore_as_scheduled(state["env_steps"])


def one_hots(choices: Tensor, n: int) -> Tensor:
    """(..., n) float32 from choices (...)."""
    return torch.nn.functional.one_hot(choices, n).float()
