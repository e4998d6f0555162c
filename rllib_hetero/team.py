"""What a team is: its agents, their spaces, its state.

`Team` is read once from an environment, on the driver, before any actor starts. Everything
else (modules, runners, learner) is laid out from it (`layout.Layout`), so that agents may differ
in all of their spaces without padding.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.spaces import Dict as DictSpace

from rllib_hetero.errors import TeamError
from rllib_hetero.functional import num_choices
from rllib_hetero.spaces import Moves, has_pictures, joint_rows, row_space, signature

AgentID = Hashable
RewardScheme = Literal["individual", "shared"]

OBSERVATIONS, ACTION_MASK = "observations", "action_mask"
"""RLlib's keys of an observation that comes with an action mask."""


@dataclass(frozen=True)
class Team:
    """The agents of one environment.

    Attributes:
        agents: Agent ids in the environment's own order (`possible_agents`).
        observation_spaces: Agent id to the space of its observations, without its action mask: of
            any kind that `spaces.row_space` takes. They may differ.
        action_spaces: Agent id to the space of its actions, of any kind that `spaces.Moves` takes.
        state_space: The space of what the critic sees, of any kind as well; None where the
            environment has no global state. The state is then all observations, concatenated in
            agent order.
        reward_scheme: "individual" where agents have rewards of their own (the team's reward is
            their sum), "shared" where every agent is given the team's reward (counted once).
        masked: Agents whose observations come with an action mask: one entry for each choice of
            a Discrete, or of all components of a MultiDiscrete in order, and so on for all parts
            of a Tuple or Dict that are choices; positive means allowed.
        absences: Whether agents may be absent for some steps: come after the reset, miss steps, or
            return after their death. Else whoever is gone is gone until the next reset.
    """

    agents: tuple[AgentID, ...]
    observation_spaces: dict[Any, gym.Space]
    action_spaces: dict[Any, gym.Space]
    state_space: gym.Space | None = None
    reward_scheme: RewardScheme = "individual"
    masked: frozenset[AgentID] = frozenset()
    absences: bool = False

    def __post_init__(self) -> None:
        if not self.agents:
            raise TeamError("The environment has no agents: `possible_agents` is empty.")
        if self.reward_scheme not in ("individual", "shared"):
            raise TeamError(
                f"`reward_scheme` must be 'individual' or 'shared', got {self.reward_scheme!r}. "
                "Set it as an attribute of the environment."
            )
        # Made now, so that what is not supported is told now.
        _ = self.row_spaces, self.moves, self.state_rows
        for agent in self.agents:
            if agent in self.masked and not num_choices(self.moves[agent].flat):
                raise TeamError(
                    f"The agent {agent!r} has an action mask, but its action space is "
                    f"{self.action_spaces[agent]}. Masks are for actions with choices: leave the "
                    "mask out of its observations."
                )
        if not self.masked <= set(self.agents):
            raise TeamError(
                f"Agents with action masks must be of the team {list(self.agents)}, got "
                f"{sorted(map(str, self.masked - set(self.agents)))}."
            )

    @classmethod
    def from_env(cls, env: Any) -> Team:
        """Reads the team from an RLlib `MultiAgentEnv`.

        The environment may declare three things beyond RLlib's interface: `reward_scheme`
        ("individual" by default), a global state through the attribute `state_space` (a
        Box) together with a method `state() -> np.ndarray`, and `absences` (False). Where an
        observation space is a Dict of "observations" and "action_mask", as RLlib has it, the
        agent's actions are masked.

        Raises:
            TeamError: If spaces are missing or of a kind that is not supported.
        """
        agents = tuple(getattr(env, "possible_agents", None) or ())
        state_space = getattr(env, "state_space", None)
        if state_space is not None and not callable(getattr(env, "state", None)):
            raise TeamError("The environment has `state_space` but no method `state()`.")
        observation_spaces = {a: env.get_observation_space(a) for a in agents}
        action_spaces = {a: env.get_action_space(a) for a in agents}
        masked = frozenset(a for a in agents if _has_mask(observation_spaces[a]))
        for a in masked:
            _check_mask_space(a, observation_spaces[a][ACTION_MASK], action_spaces[a])
            observation_spaces[a] = observation_spaces[a][OBSERVATIONS]
        return cls(
            agents=agents,
            observation_spaces=observation_spaces,
            action_spaces=action_spaces,
            state_space=state_space,
            reward_scheme=getattr(env, "reward_scheme", "individual"),
            masked=masked,
            absences=bool(getattr(env, "absences", False)),
        )

    def ordered(self, agents: Sequence[AgentID]) -> Team:
        """The same team, its agents in the given order.

        Args:
            agents: All agents of the team.
        """
        return replace(self, agents=tuple(agents))

    @cached_property
    def row_spaces(self) -> dict[AgentID, Box]:
        """Agent id to the Box (d_i,) of the rows that its observations are kept as."""
        return {
            a: _rows(self.observation_spaces.get(a), f"observation space of agent {a!r}")
            for a in self.agents
        }

    @cached_property
    def state_rows(self) -> Box | None:
        """The Box (s,) of the rows that states are kept as; None without a global state."""
        return (
            None
            if self.state_space is None
            else _rows(self.state_space, "environment's `state_space`")
        )

    @cached_property
    def moves(self) -> dict[AgentID, Moves]:
        """Agent id to its actions, as its policy draws them and as the environment takes them."""
        return {a: _moves(a, self.action_spaces.get(a)) for a in self.agents}

    @property
    def equal_spaces(self) -> bool:
        """Whether all agents could share one module."""
        first = self.agents[0]
        return all(
            self.observation_spaces[a] == self.observation_spaces[first]
            and self.action_spaces[a] == self.action_spaces[first]
            and (a in self.masked) == (first in self.masked)
            for a in self.agents
        )

    @cached_property
    def critic_space(self) -> Box:
        """The critic's input: rows of the state, or of all observations side by side."""
        if self.state_rows is not None:
            return self.state_rows
        return joint_rows([self.row_spaces[a] for a in self.agents])

    @property
    def pictured(self) -> list[str]:
        """Who sees pictures: agents' names, and "the state"."""
        seen = {str(a): self.row_spaces[a] for a in self.agents}
        if self.state_rows is not None:
            seen["the state"] = self.state_rows
        return [name for name, space in seen.items() if has_pictures(space)]

    def team_reward(self, rewards: np.ndarray) -> np.ndarray:
        """The team's reward from the agents' rewards.

        Args:
            rewards: (..., n) rewards in agent order.

        Returns:
            (...) sum over agents, or the shared reward itself, by `reward_scheme`. A shared
            reward is the largest in size: all living agents hold the same, the dead hold 0.
        """
        if self.reward_scheme == "individual":
            return rewards.sum(-1)
        alive = np.abs(rewards).argmax(-1)
        return np.take_along_axis(rewards, alive[..., None], -1)[..., 0]


def differences(team: Team, other: Team) -> list[str]:
    """Why the policies of one team cannot act in another, in words; empty where they can.

    Bounds of observations, the state and the meaning of rewards do not matter to a policy.
    """
    unlike = [
        f"the {what} {', '.join(sorted(map(str, agents)))}"
        for what, agents in (
            ("agents lack", set(team.agents) - set(other.agents)),
            ("new agents are", set(other.agents) - set(team.agents)),
        )
        if agents
    ]
    if unlike:
        return unlike
    for agent in team.agents:
        rows = [t.row_spaces[agent] for t in (team, other)]
        told = [x.shape if type(x) is Box else x for x in rows]
        actions = [t.action_spaces[agent] for t in (team, other)]
        masks = ["one" if agent in t.masked else "none" for t in (team, other)]
        for what, (mine, others), same in (
            ("observation shape", told, signature(rows[0]) == signature(rows[1])),
            ("action space", actions, _same_actions(*actions)),
            ("action mask", masks, masks[0] == masks[1]),
        ):
            if not same:
                unlike.append(f"the {what} of agent {agent!r} is {others}, not {mine}")
    return unlike


def _same_actions(a: Any, b: Any) -> bool:
    """Whether two action spaces are the same but for the types of their numbers."""
    if isinstance(a, Box) and isinstance(b, Box):
        pairs = ((a.low, b.low), (a.high, b.high))
        return a.shape == b.shape and all(np.allclose(x, y) for x, y in pairs)
    if isinstance(a, MultiDiscrete) and isinstance(b, MultiDiscrete):
        return np.array_equal(a.nvec, b.nvec) and np.array_equal(a.start, b.start)
    if isinstance(a, Discrete) and isinstance(b, Discrete):
        return bool(a.n == b.n and a.start == b.start)
    return bool(a == b)


def _rows(space: gym.Space | None, what: str) -> Box:
    try:
        return row_space(space)  # type: ignore[arg-type]
    except ValueError as why:
        raise TeamError(
            f"The {what} is {space}: {why}. Wrap the environment so that it declares and returns "
            "one of these (gymnasium.spaces.flatten makes an array of many)."
        ) from None


def _moves(agent: AgentID, space: gym.Space | None) -> Moves:
    try:
        return Moves(space)  # type: ignore[arg-type]
    except ValueError as why:
        raise TeamError(
            f"The action space of agent {agent!r} is {space}: {why}. Wrap the environment so that "
            "it declares one of these, and translates in step()."
        ) from None


def _has_mask(space: gym.Space | None) -> bool:
    return isinstance(space, DictSpace) and set(space) == {OBSERVATIONS, ACTION_MASK}


def _check_mask_space(agent: AgentID, mask: gym.Space, actions: gym.Space) -> None:
    expected = (num_choices(_moves(agent, actions).flat),)
    if expected != (0,) and mask.shape != expected:  # `Team` itself refuses those without choices.
        raise TeamError(
            f"The action mask of agent {agent!r} has the space {mask} of shape {mask.shape}; "
            f"{expected} is needed: one entry for each choice of {actions}, those of all "
            "components in order. Mend the environment's observation_spaces."
        )
