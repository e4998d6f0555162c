"""Any PettingZoo environment without turns as an RLlib `MultiAgentEnv` that describes its team."""

from __future__ import annotations

from typing import Any, Literal, TypeGuard

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.spaces import Dict as DictSpace
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.errors import TeamError
from rllib_hetero.functional import num_choices
from rllib_hetero.spaces import Moves
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID, RewardScheme

_OBSERVATION = "observation"  # PettingZoo's key; RLlib's is OBSERVATIONS.


class PettingZooTeamEnv(MultiAgentEnv):
    """Wraps a PettingZoo environment: a parallel one, or an AEC one that can be made parallel.

    Vectors, Boxes of shape (d,), become float32; observations of other kinds stay as they are. An
    agent's last observation, reward and flags are
    returned on the step in which it dies; after that it appears in none of the dicts. Agents with
    action masks observe a dict of "observations" and "action_mask", as RLlib has it.

    Args:
        env: A PettingZoo `ParallelEnv`. Its observation spaces may be Dicts of the observation as
            "observation" and an "action_mask". An `AECEnv` is made parallel, if its metadata says
            `is_parallelizable`.
        reward_scheme: "individual" or "shared", see `rllib_hetero.team.Team`.
        state_space: What the centralised critic sees. "auto": `env.state_space`, where it is a
            Box of shape (s,). None: no global state, the critic sees all observations. A space:
            that of what `env.state()` returns, for environments that do not declare it, or whose
            state is a picture: `env.state_space` itself. (Such a picture is often a whole screen,
            kept for every step.)
        action_masks: Where action masks come from. "auto": from the observations of the agents
            whose spaces are such Dicts. "info": from `infos[agent]["action_mask"]`, for every
            living agent, at every reset and step. None: masks are left out.
        absences: Whether agents may come later than the reset, and return after they were gone;
            see `rllib_hetero.team.Team`.

    Raises:
        TeamError: If one of the settings is none of the above, a mask is of an action without
            choices, or the environment has turns.

    Examples:
        >>> from mpe2 import simple_tag_v3
        >>> env = PettingZooTeamEnv(simple_tag_v3.parallel_env(continuous_actions=True))
    """

    def __init__(
        self,
        env: Any,
        *,
        reward_scheme: RewardScheme = "individual",
        state_space: gym.Space | Literal["auto"] | None = "auto",
        action_masks: Literal["auto", "info"] | None = "auto",
        absences: bool = False,
    ) -> None:
        super().__init__()
        if action_masks not in ("auto", "info", None):
            raise TeamError(
                f"`action_masks` must be 'auto', 'info' or None, got {action_masks!r}. Set it with "
                "PettingZooTeamEnv(env, action_masks=...)."
            )
        if isinstance(env, type):
            raise TeamError(
                f"PettingZooTeamEnv(env) takes an environment, got the class {env.__name__}. Make "
                "one, with its module's parallel_env()."
            )
        if callable(getattr(env, "agent_iter", None)):
            env = _made_parallel(env)
        self.env = env
        self.absences = absences
        self.possible_agents: list[AgentID] = list(env.possible_agents)
        # A copy: environments change their list in place, and some alias it to possible_agents.
        self.agents: list[AgentID] = list(self.possible_agents)
        agents = self.possible_agents
        spaces = {a: env.observation_space(a) for a in agents}
        # Agents whose observations are dicts, and those whose masks are passed on.
        self._dicts = {a for a in agents if _has_mask(spaces[a])}
        self._in_infos = action_masks == "info"
        self._masked = {None: set(), "auto": self._dicts, "info": set(agents)}[action_masks]
        self.action_spaces: dict[Any, gym.Space] = {a: env.action_space(a) for a in agents}
        self.observation_spaces: dict[Any, gym.Space] = {
            a: self._observation_space(a, spaces[a]) for a in agents
        }
        # Those whose observations are made float32.
        self._vectors = {a for a in agents if _is_vector(self._plain_space(a, spaces[a]))}
        others = self._dicts | self._masked
        self._all_plain_vectors = not others and self._vectors == set(agents)
        self.observation_space = gym.spaces.Dict(self.observation_spaces)
        self.action_space = gym.spaces.Dict(self.action_spaces)
        self.reward_scheme = reward_scheme
        self.state_space = _state_space(env, state_space)
        # A copy: RLlib's vector environment writes into it.
        self.metadata = dict(getattr(env, "metadata", None) or {})
        self.render_mode = getattr(env, "render_mode", None)

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict[AgentID, np.ndarray], dict[AgentID, dict]]:
        """Starts an episode.

        Returns:
            Agent id to its observation (or the dict with its action mask), and agent id to its
            info.
        """
        observations, infos = self.env.reset(seed=seed, options=options)
        self.agents = list(self.env.agents)
        return self._convert(observations, infos), infos

    def step(
        self, action_dict: dict[AgentID, Any]
    ) -> tuple[
        dict[AgentID, np.ndarray],
        dict[AgentID, float],
        dict[AgentID, bool],
        dict[AgentID, bool],
        dict[AgentID, dict],
    ]:
        """Steps all living agents.

        Args:
            action_dict: The action of every living agent.

        Returns:
            Observations as in `reset`, rewards, terminateds, truncateds and infos of the agents
            that were alive before the step, and of those that have come. "__all__" is set once
            the environment has no agents left: in truncateds if any agent was cut off in this
            step, otherwise in terminateds.
        """
        outcome = self.env.step(action_dict)
        there = self.agents
        if self.absences:  # Who has come is returned with those that acted.
            there = [a for a in self.possible_agents if a in {*there, *self.env.agents}]
        if len(outcome[0]) != len(there):
            # Some environments go on returning what dead agents see.
            outcome = tuple({a: d[a] for a in there if a in d} for d in outcome)
        observations, rewards, terminateds, truncateds, infos = outcome
        self.agents = list(self.env.agents)
        over = not self.agents
        cut = over and any(t and not terminateds.get(a, False) for a, t in truncateds.items())
        return (
            # New dicts, as the environment may hold on to its own.
            self._convert(observations, infos),
            rewards,
            {**terminateds, "__all__": over and not cut},
            {**truncateds, "__all__": cut},
            infos,
        )

    def _plain_space(self, agent: AgentID, space: gym.Space) -> gym.Space:
        if agent in self._dicts:
            assert isinstance(space, DictSpace)
            return space[_OBSERVATION]
        return space

    def _observation_space(self, agent: AgentID, space: gym.Space) -> gym.Space:
        plain = _float32(self._plain_space(agent, space))
        if agent not in self._masked:
            return plain
        size = self._num_choices(agent)
        if not size:
            raise TeamError(
                f"The agent {agent!r} has an action mask, but its action space is "
                f"{self.action_spaces[agent]}. Masks are for actions with choices: "
                "PettingZooTeamEnv(env, action_masks=None) leaves them out."
            )
        mask = Box(0.0, 1.0, (size,), np.int8)
        return DictSpace({OBSERVATIONS: plain, ACTION_MASK: mask})

    def _num_choices(self, agent: AgentID) -> int:
        try:
            return num_choices(Moves(self.action_spaces[agent]).flat)
        except ValueError as why:
            raise TeamError(
                f"The action space of agent {agent!r} is {self.action_spaces[agent]}: {why}."
            ) from None

    def _convert(self, observations: dict, infos: dict) -> dict[AgentID, Any]:
        """The wrapped environment's observations as this one's spaces have them."""
        if self._all_plain_vectors:
            return {a: np.asarray(x, np.float32) for a, x in observations.items()}
        converted: dict[AgentID, Any] = {}
        for agent, x in observations.items():
            plain = x[_OBSERVATION] if agent in self._dicts else x
            if agent in self._vectors:
                plain = np.asarray(plain, np.float32)
            if agent in self._masked:
                mask = self._mask_in(infos, agent) if self._in_infos else x[ACTION_MASK]
                mask = (np.asarray(mask) > 0).astype(np.int8)
                converted[agent] = {OBSERVATIONS: plain, ACTION_MASK: mask}
            else:
                converted[agent] = plain
        return converted

    def _mask_in(self, infos: dict, agent: AgentID) -> Any:
        try:
            return infos[agent][ACTION_MASK]
        except KeyError:
            if agent not in self.agents:  # It has just died: it chooses no more.
                return np.ones(self._num_choices(agent))
            raise TeamError(
                f"The info of agent {agent!r} lacks the key {ACTION_MASK!r}, from which "
                "PettingZooTeamEnv(env, action_masks='info') takes its action mask at every reset "
                "and step. action_masks=None leaves masks out."
            ) from None

    def state(self) -> Any:
        """The global state; valid after `reset` and after every `step`.

        Raises:
            TeamError: If `state_space` is None.
        """
        if self.state_space is None:
            raise TeamError("The environment has no global state: its `state_space` is None.")
        state = self.env.state()
        return np.asarray(state, np.float32) if _is_vector(self.state_space) else state

    def render(self) -> Any:
        """The environment's frame: (height, width, 3) uint8 under render_mode "rgb_array"."""
        return self.env.render()

    def close(self) -> None:
        """Closes the wrapped environment."""
        self.env.close()


def _made_parallel(env: Any) -> Any:
    """An AEC environment, all agents of which act at once."""
    from pettingzoo.utils import aec_to_parallel

    if not (getattr(env, "metadata", None) or {}).get("is_parallelizable", False):
        raise TeamError(
            f"The agents of {env} take turns: its metadata does not say `is_parallelizable`. Teams "
            "here act at once; turns, as in board games, are not supported. RLlib's own algorithms "
            "play them, with ray.rllib.env.wrappers.pettingzoo_env.PettingZooEnv and RLlib's own "
            "runner. If this environment changes at the end of each round of turns only, set its "
            "metadata['is_parallelizable'] = True."
        )
    return aec_to_parallel(env)


def _state_space(env: Any, wanted: Any) -> gym.Space | None:
    if wanted is None:
        return None
    if isinstance(wanted, gym.Space):
        return _float32(wanted)
    if not (isinstance(wanted, str) and wanted == "auto"):
        raise TeamError(
            f"`state_space` must be 'auto', None or a space, got {wanted!r}. Set it with "
            "PettingZooTeamEnv(env, state_space=...)."
        )
    declared = getattr(env, "state_space", None)
    if _is_vector(declared) and callable(getattr(env, "state", None)):
        return _float32(declared)
    return None


def _has_mask(space: gym.Space) -> bool:
    return isinstance(space, DictSpace) and set(space) == {_OBSERVATION, ACTION_MASK}


def _is_vector(space: Any) -> TypeGuard[Box]:
    return isinstance(space, Box) and len(space.shape) == 1


def _float32(space: gym.Space) -> gym.Space:
    """The space of float32 vectors in place of one of other vectors; others as they are."""
    if not _is_vector(space):
        return space
    if space.dtype == np.float32:
        return space
    with np.errstate(over="ignore"):  # the largest float64 becomes inf, which is meant
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return Box(low, high, dtype=np.float32)
