"""Cooperative games of one state: a payoff for each joint action, shared by all players.

"climbing" and "penalty" are games of Claus and Boutilier (1998), with the payoffs, and the order of
actions, of Li et al., "Backpropagation Through Agents" (AAAI 2024), Tables 1 and 2.
"harl_example_1" and "differentiable" are Example 1 and the game of Figure 1 in Zhong et al.,
"Heterogeneous-Agent Reinforcement Learning" (JMLR 2024).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

from rllib_hetero.errors import TeamError
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team

PAYOFFS = {
    "climbing": ((11, -30, 0), (-30, 7, 0), (0, 6, 5)),
    "harl_example_1": ((0, 2), (2, -1)),
}
"""Games without a setting of their own: rows are player_0's actions, columns player_1's."""

GAMES = (*PAYOFFS, "penalty", "differentiable")
"""What `"game"` may be."""

_GAME_OF = {"penalty": "penalty", "bound": "differentiable"}  # whose setting it is
_SETTINGS = ("game", "payoff", "length", *_GAME_OF)


class OneStateGame(VectorTeamEnv):
    """E copies of a game in which nothing changes but the clock.

    The players are named "player_0", "player_1", ... Each observes a constant 1 of shape (1,), and
    all are given the same reward. An episode terminates after `length` steps.

    Args:
        action_spaces: One for each player.
        length: Steps per episode.
        num_envs: E.
    """

    seeded = False

    def __init__(self, action_spaces: Sequence[gym.Space], *, length: int, num_envs: int) -> None:
        agents = tuple(f"player_{i}" for i in range(len(action_spaces)))
        self.num_envs = num_envs
        self.team = Team(
            agents=agents,
            observation_spaces={a: Box(0.0, 1.0, (1,), np.float32) for a in agents},
            action_spaces=dict(zip(agents, action_spaces, strict=True)),
            reward_scheme="shared",
        )
        self.observations = {a: np.ones((num_envs, 1), np.float32) for a in agents}
        self.state = None
        self.active = np.ones((num_envs, len(agents)), bool)
        self.infos = [{} for _ in range(num_envs)]
        self._length = length
        self._steps = np.zeros(num_envs, np.int64)

    @abstractmethod
    def _reward(self, actions: dict[AgentID, np.ndarray]) -> np.ndarray:
        """The team's reward (E,) for actions that are agent id to (E, ...)."""

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        self._steps[list(envs)] = 0

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        self._steps += 1
        rewards = np.empty(self.active.shape, np.float32)
        rewards[:] = self._reward(actions)[:, None]
        return Outcome(
            rewards,
            terminated=self._steps == self._length,
            truncated=np.zeros(self.num_envs, bool),
            failed=np.zeros(self.num_envs, bool),
        )


class MatrixGame(OneStateGame):
    """A game of finite actions.

    Args:
        payoff: (k_1, ..., k_n) float32, the reward of each joint action of n players.
        length: As in `OneStateGame`.
        num_envs: As in `OneStateGame`.
    """

    def __init__(self, payoff: np.ndarray, *, length: int, num_envs: int) -> None:
        super().__init__([Discrete(k) for k in payoff.shape], length=length, num_envs=num_envs)
        self.payoff = payoff

    def _reward(self, actions: dict[AgentID, np.ndarray]) -> np.ndarray:
        return self.payoff[tuple(actions[a] for a in self.team.agents)]


class ProductGame(OneStateGame):
    """Two players with one continuous action each; the reward is the product of the two.

    Args:
        bound: Actions are of Box(-bound, bound).
        length: As in `OneStateGame`.
        num_envs: As in `OneStateGame`.
    """

    def __init__(self, bound: float, *, length: int, num_envs: int) -> None:
        spaces = [Box(-bound, bound, (1,), np.float32) for _ in range(2)]
        super().__init__(spaces, length=length, num_envs=num_envs)

    def _reward(self, actions: dict[AgentID, np.ndarray]) -> np.ndarray:
        return actions["player_0"][:, 0] * actions["player_1"][:, 0]


def make_matrix_game(env_config: Mapping[str, Any]) -> VectorTeamEnv:
    """Makes a cooperative game of one state, E copies stepped as one.

    Args:
        env_config:
            "game": one of `GAMES`. Either this or "payoff" is needed.
            "payoff": the rewards of n players' joint actions, nested lists or an array of
                shape (k_1, ..., k_n).
            "penalty": of the game "penalty" only, a number of at most 0; -100 by default.
            "bound": of the game "differentiable" only, the largest action; 1.0 by default.
            "length": steps per episode, 1 by default.
            "num_envs": E, set by the library.

    Raises:
        TeamError: For an unknown setting or a value that is not as described.
    """
    options = dict(env_config)
    num_envs = options.pop("num_envs", 1)
    unknown = [key for key in options if key not in _SETTINGS]
    if unknown:
        raise TeamError(
            f"Matrix games do not know {unknown}. They accept {list(_SETTINGS)}. Mend it with "
            'config.environment("matrix_game", env_config={...}).'
        )
    if ("game" in options) == ("payoff" in options):
        what = "both are given" if "game" in options else "neither is given"
        raise _refusal("game", f"Either `game` or `payoff` is needed; {what}.")
    game = options.get("game")
    if "game" in options and game not in GAMES:
        raise _refusal("game", f"Unknown `game` {game!r}. Choose one of {list(GAMES)}.")
    for key, owner in _GAME_OF.items():
        if key in options and game != owner:
            why = f"`{key}` is for the game {owner!r} only: leave it out, or choose that game."
            raise _refusal("game", why)
    length = options.get("length", 1)
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise _refusal("length", f"`length` must be an int of at least 1, got {length!r}.")

    if game == "differentiable":
        bound = options.get("bound", 1.0)
        if not _is_number(bound) or bound <= 0:
            raise _refusal("bound", f"`bound` must be a positive number, got {bound!r}.")
        return ProductGame(float(bound), length=length, num_envs=num_envs)
    if game == "penalty":
        k = options.get("penalty", -100)
        if not _is_number(k) or k > 0:
            raise _refusal("penalty", f"`penalty` must be a number of at most 0, got {k!r}.")
        given: Any = ((k, 0, 10), (0, 2, 0), (10, 0, k))
    else:
        given = options["payoff"] if game is None else PAYOFFS[game]
    return MatrixGame(_payoff(given), length=length, num_envs=num_envs)


def _payoff(given: Any) -> np.ndarray:
    """The payoffs (k_1, ..., k_n) as float32, all finite."""
    try:
        payoff = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # the last by tensors with gradients
        raise _refusal("payoff", f"`payoff` cannot be read as an array: {error}.") from error
    if payoff.dtype.kind not in "iuf" or payoff.ndim == 0 or payoff.size == 0:
        raise _refusal(
            "payoff",
            "`payoff` must hold numbers, one for each joint action, on as many axes as there are "
            f"players; got {payoff.dtype} of shape {payoff.shape}.",
        )
    payoff = payoff.astype(np.float32)
    if not np.isfinite(payoff).all():
        raise _refusal("payoff", "`payoff` holds NaN or infinity; all payoffs must be finite.")
    return payoff


def _is_number(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x)


def _refusal(setting: str, why: str) -> TeamError:
    return TeamError(
        f'{why} Mend it with config.environment("matrix_game", env_config={{"{setting}": ...}}).'
    )
