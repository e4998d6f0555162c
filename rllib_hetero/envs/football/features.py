"""What players and critic see: numbers out of the game's raw observation.

A raw observation is the dict that the game gives for the whole pitch: "left_team" (11, 2) and so
on. Positions are in [-1, 1] along the pitch and [-0.42, 0.42] across it; the controlled team is the
left one and plays to the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

PLAYERS, MODES = 11, 7
COMMON = 8 * PLAYERS + 3 + 3 + 3
FEATURES = COMMON + PLAYERS + MODES
"""Of an observation in the representation "simple115v2"."""

Raw = Mapping[str, Any]


def simple115v2(raw: Raw) -> np.ndarray:
    """The observations (n, 115) float32 of the n controlled players.

    All alike but for the one-hot number of the player itself:

    ======== ============================================================
    0:22     positions (x, y) of the left team's 11 players
    22:44    their motion in one step
    44:88    the same of the right team
    88:94    position (x, y, z) of the ball, its motion in one step
    94:97    one-hot owner of the ball: nobody, left team, right team
    97:108   one-hot number of the player that the agent controls
    108:115  one-hot mode: normal, kick-off, goal kick, free kick, corner, throw-in, penalty
    ======== ============================================================

    Players that a team of less than 11 lacks are -1.
    """
    active = raw["left_agent_controlled_player"]
    x = np.zeros((len(active), FEATURES), np.float32)
    x[:, :COMMON] = _common(raw)
    for i, player in enumerate(active):
        if player >= 0:
            x[i, COMMON + player] = 1.0
    x[:, COMMON + PLAYERS + raw["game_mode"]] = 1.0
    return x


def state_size(num_agents: int) -> int:
    """Of `global_state`: 115 + 11 (n - 1)."""
    return FEATURES + PLAYERS * (num_agents - 1)


def global_state(observations: np.ndarray) -> np.ndarray:
    """What the critic sees: the common numbers once, then every player's one-hot number.

    The order is HARL's: common (97), mode (7), numbers (11 n).

    Args:
        observations: (n, 115) from `simple115v2`.

    Returns:
        (115 + 11 (n - 1),) float32.
    """
    first = observations[0]
    numbers = observations[:, COMMON : COMMON + PLAYERS]
    return np.concatenate([first[:COMMON], first[COMMON + PLAYERS :], numbers.ravel()])


def _common(raw: Raw) -> np.ndarray:
    x = np.full(COMMON, -1.0, np.float32)
    for i, name in enumerate(
        ("left_team", "left_team_direction", "right_team", "right_team_direction")
    ):
        numbers = np.ravel(raw[name])
        x[22 * i : 22 * i + numbers.size] = numbers
    x[88:91] = raw["ball"]
    x[91:94] = raw["ball_direction"]
    x[94:97] = 0.0
    x[95 + raw["ball_owned_team"]] = 1.0
    return x
