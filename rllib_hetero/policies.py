"""Trained policies, used without Ray: load a checkpoint, give observations, get actions."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from ray.rllib.core import Columns
from ray.rllib.core.rl_module import RLModule

from rllib_hetero.errors import TeamError
from rllib_hetero.functional.distributions import Distribution
from rllib_hetero.functional.masks import mask_inputs, nothing_allowed
from rllib_hetero.functional.messages import encode
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.runners.actions import action_transforms
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID, Layout, Team

FOLDER = "policies"
TEAM_FILE = "team.json"


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
            `trusted` is False, or its weights do not fit.
    """
    folder = Path(path) / FOLDER
    try:
        description = json.loads((folder / TEAM_FILE).read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"No policies of rllib_hetero in {str(path)!r}: {FOLDER}/{TEAM_FILE} is missing. "
            "Give the folder of a checkpoint, such as algo.save_to_path() returns."
        ) from None
    if description.get("connectors"):
        raise TeamError(
            f"The policies in {str(path)!r} were trained behind "
            f"config.env_runners({'=..., '.join(description['connectors'])}=...), which is code, "
            "and not among what is loaded here: without it they would act otherwise than they "
            "did. RLlib restores it: Algorithm.from_checkpoint(path).evaluate(). Or train again "
            "with the transformation in the environment."
        )
    if description.get("not_written"):
        raise TeamError(
            f"The policies in {str(path)!r} lack {' and '.join(description['not_written'])}: what "
            "is no plain data is not written. Algorithm.from_checkpoint restores it. Or train "
            "with texts, numbers, lists and dicts of them in config.rl_module(model_config=...)."
        )
    agents = tuple(_agent_id(a) for a in description["agents"])
    team = Team(
        agents=agents,
        observation_spaces=_spaces(agents, description["observation_spaces"]),
        action_spaces=_spaces(agents, description["action_spaces"]),
        masked=frozenset(_agent_id(a) for a in description["masked"]),
    )
    layout = Layout(
        team,
        {m: tuple(_agent_id(a) for a in members) for m, members in description["groups"].items()},
        autoregressive=description["execution_order"] is not None,
        agent_index=description["agent_index"],
        policy_family=description["policy_family"],
    )
    modules = {}
    for m, info in description["modules"].items():
        module = _import_class(info["class"], trusted)(
            observation_space=layout.observation_space(m),
            action_space=layout.action_space(m),
            model_config=info["model_config"],
            inference_only=True,
        )
        weights = torch.load(folder / f"{m}.pt", map_location=device, weights_only=True)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise TeamError(
                f"The weights of the module {m!r} in {str(path)!r} do not fit its networks; they "
                f"may be another version's of this library. {' '.join(str(error).split())}"
            ) from None
        modules[m] = module.to(device).eval()
    limits = action_transforms(
        layout, normalize=description["normalize_actions"], clip=description["clip_actions"]
    )
    order = [_agent_id(a) for a in description["execution_order"] or description["agents"]]
    return TeamPolicies(layout, modules, limits, order, device)


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
        self._states = {
            a: initial_state(self._modules[m])[None].to(self._device)
            for a, m in self.layout.module_of.items()
        }

    def seed(self, seed: int) -> None:
        """Makes sampled actions repeatable."""
        self._rng = np.random.default_rng(seed)

    def act(
        self, observations: Mapping[AgentID, Any], *, explore: bool = False
    ) -> dict[AgentID, Any]:
        """Actions for the agents that have an observation: one step of the episode.

        Agents of recurrent policies keep their memory from call to call, until `reset`.

        Args:
            observations: Agent id to its observation (d_i,), as the environment returns them.
                For agents that were trained with action masks, a dict of "observations" (d_i,)
                and "action_mask" (p_i,).
            explore: Draw the action as training last did (True), or take the greedy one (False).

        Returns:
            Agent id to its action, ready for the environment: clipped to its space, an int for
            Discrete.

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
            action = self._limits[agent](drawn)[0]
            actions[agent] = int(action) if np.ndim(action) == 0 else action
        return actions

    def act_batch(
        self,
        agents: Sequence[AgentID],
        observations: np.ndarray,
        *,
        explore: bool = False,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Actions for many observations of agents that share a module, in one pass.

        For hundreds of agents, or one agent in many environments. Not for agents that remember,
        have action masks or act in sequence.

        Args:
            agents: Whose observation each row is, (k,). An agent may have several rows.
            observations: (k, d).
            explore: As in `act`.
            rng: Draws the samples, in place of the policies' own generator.

        Returns:
            (k, ...) actions, ready for the environment.

        Raises:
            TeamError: For agents other than said above, or a wrong shape.
        """
        m, slots = self._slots(agents)
        x = np.asarray(observations, np.float32)
        space = self.layout.team.observation_spaces[agents[0]]
        if x.shape != (len(agents), *space.shape):
            raise TeamError(
                f"The observations have shape {x.shape}; {(len(agents), *space.shape)} is needed."
            )
        if self.layout.index_size(m):
            x = np.concatenate([x, np.eye(self.layout.index_size(m), dtype=np.float32)[slots]], 1)
        with torch.inference_mode():
            batch = {Columns.OBS: torch.from_numpy(x).to(self._device)}
            outputs = _pass(self._modules[m], explore)(batch)
            inputs = outputs[Columns.ACTION_DIST_INPUTS].cpu().numpy()
        dist = self.layout.distribution(m)
        noise = dist.noise(rng or self._rng, (len(agents),)) if explore else None
        return self._limits[agents[0]](dist.act(inputs, noise))

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
        x = np.asarray(observation, np.float32)
        space = self.layout.team.observation_spaces[agent]
        if x.shape != space.shape:
            raise TeamError(
                f"The observation of agent {agent!r} has shape {x.shape}, trained on {space.shape}."
            )
        n = self.layout.index_size(m)
        one_hot = np.eye(n, dtype=np.float32)[k] if n else np.empty(0, np.float32)
        return np.concatenate([x, one_hot, context])[None]


def _pass(module: Any, explore: bool) -> Callable[[dict], dict]:
    """The pass that the runners use: a module of the user's may have two."""
    return module.forward_exploration if explore else module.forward_inference


def describe_space(space: gym.Space) -> dict[str, Any]:
    """A space as JSON: Box, Discrete or MultiDiscrete."""
    if isinstance(space, Box):
        return {
            "kind": "Box",
            "dtype": str(space.dtype),
            "low": space.low.astype(float).tolist(),
            "high": space.high.astype(float).tolist(),
        }
    if isinstance(space, Discrete):
        return {"kind": "Discrete", "n": int(space.n)}
    assert isinstance(space, MultiDiscrete)
    return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()}


def _agent_id(x: Any) -> AgentID:
    return tuple(map(_agent_id, x)) if isinstance(x, list) else x  # JSON has no tuples.


def _space(description: dict[str, Any]) -> gym.Space:
    kind = description["kind"]
    if kind == "Box":
        dtype = np.dtype(description["dtype"])
        low, high = (np.asarray(description[k], dtype) for k in ("low", "high"))
        return Box(low, high, dtype=dtype)
    if kind == "Discrete":
        return Discrete(description["n"])
    return MultiDiscrete(description["nvec"])


def _spaces(agents: tuple, descriptions: list[dict]) -> dict[AgentID, Any]:
    return {a: _space(d) for a, d in zip(agents, descriptions, strict=True)}


def _import_class(name: str, trusted: bool) -> type:
    module, _, qualname = name.partition(":")
    if not trusted and module.split(".")[0] != "rllib_hetero":
        raise TeamError(
            f"The checkpoint's policy is of the class {name!r}, which is not rllib_hetero's. If "
            "you trust its origin, load it with load_policies(path, trusted=True)."
        )
    found = getattr(importlib.import_module(module), qualname, None)
    if not (isinstance(found, type) and issubclass(found, RLModule)):
        raise TeamError(f"The checkpoint's policy is of the class {name!r}, which is no RLModule.")
    return found
