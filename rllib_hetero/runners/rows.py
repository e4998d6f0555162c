"""What an environment returned, as rows: where it is not of its space, whose it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_hetero.errors import TeamDataError
from rllib_hetero.spaces import Rows, encoded
from rllib_hetero.team import AgentID, Team


def row_of(agent: AgentID, space: Rows, observation: Any) -> np.ndarray:
    """The row (d_i,) of an agent's observation.

    Raises:
        TeamDataError: If it is not of its space.
    """
    try:
        return encoded(space, observation)
    except ValueError as why:
        raise TeamDataError(
            f"The observation of agent {agent!r} is not of its space {space.of}. {why}. Mend the "
            "environment's observation_spaces, or what it returns."
        ) from None


def state_row(team: Team, state: Any) -> Any:
    """The row (s,) of a state; a plain vector as it is.

    Raises:
        TeamDataError: If it is not of its space.
    """
    if not isinstance(team.state_rows, Rows):
        return state
    try:
        return encoded(team.state_rows, state)
    except ValueError as why:
        raise TeamDataError(
            f"What the environment's state() returned is not of its state_space. {why}."
        ) from None
