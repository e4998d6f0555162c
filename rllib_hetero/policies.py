"""Trained policies, used without starting Ray: a checkpoint, observations, then actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.core import Columns

from rllib_hetero.errors import TeamError
from rllib_hetero.functional.distributions import Distribution
from rllib_hetero.functional.masks import mask_inputs, nothing_allowed
from rllib_hetero.functional.messages import encode
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.modules.saved import load_module
from rllib_hetero.runners.actions import action_transforms
from rllib_hetero.runners.rows import row_of
from rllib_hetero.spaces import Rows
from rllib_hetero.spaces.moves import pick
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID
from rllib_hetero.team_file import TEAM_FILE, TeamFile, read_team_file

FOLDER = "policies"


def load_policies(path: str | Path, *, device: str = "cpu", trusted: bool = False) -> TeamPolicies:
    """Loads the policies of a checkpoint. Ray is not started, nothing is unpickled.

    Args:
        path: A checkpoint's folder, as `algo.save_to_path()` or Tune wrote it.
        device: Where the networks run.
        trusted: Whether module classes that are not this library's may be imported. Set it only
            for checkpoints whose origin you trust: importing runs code.

    Returns:
        The policies, ready to act.

    Raises:
        FileNotFoundError: If the folder holds no policies of this library.
        TeamError: If the policies were trained behind connectors of the user's or with a
            `model_config` that is no plain data, a module's class is not this library's and
            `trusted` is False, its weights do not fit, or a file is not what this library writes.
    """
    told, modules = read_policies(path, device=device, trusted=trusted)
    limits = action_transforms(
        told.layout, normalize=told.normalize_actions, clip=told.clip_actions
    )
    return TeamPolicies(told.layout, modules, limits, told.order, device)


def read_policies(
    path: str | Path, *, device: str, trusted: bool
) -> tuple[TeamFile, dict[ModuleID, Any]]:
    """What a checkpoint says of its policies, and their modules; see `load_policies`."""
    folder = Path(path) / FOLDER
    try:
        told = read_team_file(folder)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"No policies of rllib_hetero in {str(path)!r}: {FOLDER}/{TEAM_FILE} is missing. "
            "Give the folder of a checkpoint, such as algo.save_to_path() returns."
        ) from None
    if told.connectors:
        raise TeamError(
            f"The policies in {str(path)!r} were trained behind "
            f"config.env_runners({'=..., '.join(told.connectors)}=...), which is code, "
            "and not among what is loaded here: without it they would act otherwise than they "
            "did. RLlib restores it: Algorithm.from_checkpoint(path).evaluate(). Or train again "
            "with the transformation in the environment."
        )
    if told.not_written:
        raise TeamError(
            f"The policies in {str(path)!r} lack {' and '.join(told.not_written)}: what "
            "is no plain data is not written. Algorithm.from_checkpoint restores it. Or train "
            "with texts, numbers, lists and dicts of them in config.rl_module(model_config=...)."
        )
    return told, {m: load_module(folder, told, m, trusted).to(device).eval() for m in told.classes}


class TeamPolicies:
    """The actors of one team. Made by `load_policies`.

    Recurrent policies remember what they have seen: call `reset` before each episode.

    Autoregressive policies act in the order they were trained in (the environment's, if that was
    drawn anew in every iteration): each is told the actions of those before.

    Attributes:
        layout: The agents, their spaces, and who shares a module.
    """

    def __init__(
        self,
        layout: Layout,
        modules: dict[str, Any],
        limits: dict[AgentID, Any],
        order: list[AgentID],
        device: str,
    ) -> None:
        self.layout = layout
        self._modules = modules
        self._limits = limits
        self._order = order
        self._device = device
        self._rng = np.random.default_rng()
        self.reset()

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return self.layout.team.agents

    def reset(self) -> None:
        """A new episode begins: recurrent policies forget the one before."""
        self._states: dict[AgentID, torch.Tensor] = {}
        self._forget(self.agents)

    def _forget(self, agents: Iterable[AgentID]) -> None:
        for agent in agents:
            first = initial_state(self._modules[self.layout.module_of[agent]])
            self._states[agent] = first[None].to(self._device)

    def seed(self, seed: int) -> None:
        """Makes sampled actions repeatable."""
        self._rng = np.random.default_rng(seed)

    def act(
        self, observations: Mapping[AgentID, Any], *, explore: bool = False
    ) -> dict[AgentID, Any]:
        """Actions for the agents that have an observation: one step of the episode.

        Agents of recurrent policies keep their memory from call to call, until `reset`.

        Args:
            observations: Agent id to its observation, as the environment returns them; those of
                absent agents are left out. For agents that were trained with action masks, a dict
                of "observations" and "action_mask" (p_i,).
            explore: Draw the action as training last did (True), or take the greedy one (False).

        Returns:
            Agent id to its action, ready for the environment: of its space, clipped to it, an int
            for Discrete.

        Raises:
            TeamError: For an unknown agent, a wrong shape, or a mask that allows nothing.
        """
        self._check_known(observations)
        actions = {}
        context = np.zeros(self.layout.context_size, np.float32)
        for agent in (a for a in self._order if a in observations):
            observation = observations[agent]
            m = self.layout.module_of[agent]
            dist = self.layout.distribution(m)
            mask = None
            if agent in self.layout.team.masked:
                observation, mask = self._split(agent, observation, dist)
            inputs = self._forward(agent, self._row(agent, observation, context), explore)
            if mask is not None:
                inputs = mask_inputs(dist, inputs, mask)
            noise = dist.noise(self._rng, (1,)) if explore else None
            drawn = dist.act(inputs, noise)
            if agent in self.layout.messages:
                message = context[self.layout.messages[agent]]
                message[:-1], message[-1] = encode(dist, drawn)[0], 1.0
            moves = self.layout.team.moves[agent]
            action = pick(moves.decode(self._limits[agent](drawn)), 0)
            actions[agent] = int(action) if isinstance(action, np.integer) else action
        if self.layout.team.absences and self.layout.absent_memory == "reset":
            self._forget(a for a in self.agents if a not in observations)
        return actions

    def act_batch(
        self,
        agents: Sequence[AgentID],
        observations: np.ndarray,
        *,
        explore: bool = False,
        rng: np.random.Generator | None = None,
    ) -> Any:
        """Actions for many observations of agents that share a module, in one pass.

        For hundreds of agents, or one agent in many environments. Not for agents that remember,
        have action masks or act in sequence.

        Args:
            agents: Whose observation each row is, (k,). An agent may have several rows.
            observations: (k, d); what is no plain vector as rows of `layout.team.row_spaces`,
                which `spaces.encoded` makes.
            explore: As in `act`.
            rng: Draws the samples, in place of the policies' own generator.

        Returns:
            (k, ...) actions, ready for the environment, in dicts and tuples as the space has them.

        Raises:
            TeamError: For agents other than said above, or a wrong shape.
        """
        m, slots = self._slots(agents)
        dtype = self.layout.row_dtype(m)
        x = np.asarray(observations, dtype)
        space = self.layout.team.row_spaces[agents[0]]
        if x.shape != (len(agents), *space.shape):
            raise TeamError(
                f"The observations have shape {x.shape}; {(len(agents), *space.shape)} is needed."
            )
        if self.layout.index_size(m):
            one_hot = np.zeros((len(agents), self.layout.index_size(m)), dtype)
            one_hot[np.arange(len(agents)), slots] = 1.0
            x = np.concatenate([x, one_hot], 1)
        with torch.inference_mode():
            batch = {Columns.OBS: torch.from_numpy(x).to(self._device)}
            outputs = _pass(self._modules[m], explore)(batch)
            inputs = outputs[Columns.ACTION_DIST_INPUTS].cpu().numpy()
        dist = self.layout.distribution(m)
        noise = dist.noise(rng or self._rng, (len(agents),)) if explore else None
        drawn = self._limits[agents[0]](dist.act(inputs, noise))
        return self.layout.team.moves[agents[0]].decode(drawn)

    def _slots(self, agents: Sequence[AgentID]) -> tuple[str, list[int]]:
        """The module of agents that `act_batch` can serve, and the index of each within it."""
        self._check_known(agents)
        modules = {self.layout.module_of[a] for a in agents}
        if len(modules) != 1:
            raise TeamError(
                f"One batch is for agents of one module, these are of {sorted(modules)}."
            )
        (m,) = modules
        for what, so in {
            "act in sequence": self.layout.autoregressive,
            "have action masks": self.layout.masked(m),
            "are recurrent": self._modules[m].is_stateful(),
        }.items():
            if so:
                raise TeamError(f"These policies {what}; let them act with act().")
        return m, [self.layout.slot_of[a][1] for a in agents]

    def _check_known(self, agents: Iterable[AgentID]) -> None:
        for agent in agents:
            if agent not in self.layout.slot_of:
                raise TeamError(f"Unknown agent {agent!r}; the team is {list(self.agents)}.")

    def _forward(self, agent: AgentID, row: np.ndarray, explore: bool) -> np.ndarray:
        """Distribution inputs (1, p) from the module's input (1, d); moves the memory on."""
        module, state = self._modules[self.layout.module_of[agent]], self._states[agent]
        forward = _pass(module, explore)
        x = torch.from_numpy(row).to(self._device)
        with torch.inference_mode():
            if not state.shape[-1]:
                out = forward({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
            else:
                batch = {Columns.OBS: x[:, None], Columns.STATE_IN: unpack(state, module)}
                outputs = forward(batch)
                out = outputs[Columns.ACTION_DIST_INPUTS][:, 0]
                self._states[agent] = pack(outputs[Columns.STATE_OUT])
        return out.cpu().numpy()

    def _split(
        self, agent: AgentID, observation: Any, dist: Distribution
    ) -> tuple[Any, np.ndarray]:
        """The plain observation, and the mask (1, p) bool."""
        if not isinstance(observation, Mapping) or not {OBSERVATIONS, ACTION_MASK} <= set(
            observation
        ):
            raise TeamError(
                f"The agent {agent!r} was trained with action masks: its observation must be a "
                f"dict of '{OBSERVATIONS}' and '{ACTION_MASK}'."
            )
        mask = np.asarray(observation[ACTION_MASK]) > 0
        if mask.shape != (sum(dist.choices),):
            raise TeamError(
                f"The action mask of agent {agent!r} has shape {mask.shape}, trained on "
                f"{(sum(dist.choices),)}."
            )
        if nothing_allowed(mask, dist):
            raise TeamError(f"The action mask of agent {agent!r} allows nothing: {mask}.")
        return observation[OBSERVATIONS], mask[None]

    def _row(self, agent: AgentID, observation: Any, context: np.ndarray) -> np.ndarray:
        """The module's input (1, d)."""
        m, k = self.layout.slot_of[agent]
        dtype, space = self.layout.row_dtype(m), self.layout.team.row_spaces[agent]
        if isinstance(space, Rows):
            observation = row_of(agent, space, observation)
        x = np.asarray(observation, dtype)
        if x.shape != space.shape:
            raise TeamError(
                f"The observation of agent {agent!r} has shape {x.shape}, trained on {space.shape}."
            )
        one_hot = np.zeros(self.layout.index_size(m), dtype)
        if len(one_hot):
            one_hot[k] = 1
        return np.concatenate([x, one_hot, context.astype(dtype)])[None]


def _pass(module: Any, explore: bool) -> Callable[[dict], dict]:
    """The pass that the runners use: a module of the user's may have two."""
    return module.forward_exploration if explore else module.forward_inference
