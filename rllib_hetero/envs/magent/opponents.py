"""Who plays the other team."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gymnasium.spaces import Discrete

from rllib_hetero.envs.magent.engine import (
    CHANNELS,
    NUM_ACTIONS,
    STAY,
    THEIRS,
    VIEW,
    Engine,
    mirrored_actions,
    refusal,
)
from rllib_hetero.errors import TeamError
from rllib_hetero.policies import load_policies


class Opponent(ABC):
    """Chooses the other team's actions. One for all environments: it remembers nothing."""

    @abstractmethod
    def act(self, engine: Engine, random: np.random.Generator) -> np.ndarray:
        """An action for each of the other team's k living agents, (k,) int32."""


class RandomOpponent(Opponent):
    """Draws all actions with equal chances."""

    def act(self, engine: Engine, random: np.random.Generator) -> np.ndarray:
        return random.integers(NUM_ACTIONS, size=engine.left(THEIRS), dtype=np.int32)


class IdleOpponent(Opponent):
    """Stands still."""

    def act(self, engine: Engine, random: np.random.Generator) -> np.ndarray:
        return np.full(engine.left(THEIRS), STAY, np.int32)


OPPONENTS: dict[str, Callable[[], Opponent]] = {"random": RandomOpponent, "idle": IdleOpponent}
"""By the name that `"opponent"` takes."""


class TrainedOpponent(Opponent):
    """A policy trained in this game, playing from the other side. Its actions are drawn.

    It has learnt to fight from the left, so it is shown the field mirrored, and its actions are
    mirrored back. All of its team must share one module, without memory.

    Args:
        checkpoint: The folder.
        engine: A battle as it will be fought.

    Raises:
        TeamError: If the folder holds no policy that can play this game.
    """

    def __init__(self, checkpoint: str | Path, engine: Engine) -> None:
        try:
            self._policies = load_policies(checkpoint)
        except FileNotFoundError as error:
            raise refusal("opponent", str(error)) from None
        layout = self._policies.layout
        if len(layout.groups) != 1:
            why = (
                f"The `opponent` in {str(checkpoint)!r} has the modules {list(layout.groups)}; one "
                "for all agents is needed: train it with "
                'config.multi_agent(parameter_sharing="full").'
            )
            raise refusal("opponent", why)
        (name,) = layout.groups
        seen = layout.team.observation_spaces[self._policies.agents[0]].shape
        fits = (seen, layout.action_space(name)) == ((engine.view_size,), Discrete(NUM_ACTIONS))
        indexed = layout.index_size(name) > 0
        if not fits or (indexed and layout.index_size(name) != engine.size):
            why = (
                f"The `opponent` in {str(checkpoint)!r} was trained for {len(layout.team.agents)} "
                f"agents with observations {seen} and actions {layout.action_space(name)}; this "
                f"game has {engine.size}, {(engine.view_size,)} and Discrete({NUM_ACTIONS}). Only "
                "the policy of agents without an `agent_index` fits a team of another size."
            )
            raise refusal("opponent", why)
        self._mirrored = mirrored_actions()
        engine.reset(None)
        x, y = engine.positions(THEIRS).T
        # Whom it takes each agent for: the one who starts at the mirrored place. Without an index
        # all are the same to it.
        self._role = [self._policies.agents[0]] * engine.size
        if indexed:
            for agent, i in zip(self._policies.agents, np.lexsort((y, -x)), strict=True):
                self._role[i] = agent
        try:
            self.act(engine, np.random.default_rng())
        except TeamError as error:
            why = f"The `opponent` in {str(checkpoint)!r} cannot play here. {error}"
            raise refusal("opponent", why) from None

    def act(self, engine: Engine, random: np.random.Generator) -> np.ndarray:
        views = engine.views(THEIRS).reshape(-1, VIEW, VIEW, CHANNELS)
        rows = views[:, :, ::-1].reshape(len(views), -1)
        roles = [self._role[i] for i in engine.ids(THEIRS)]
        actions = self._policies.act_batch(roles, rows, explore=True, rng=random)
        return self._mirrored[actions]
