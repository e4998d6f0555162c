"""Discs that are pushed about in the plane: the physics of the cooperative particle games.

Lengths and times are the games' own units. Everything is done for E environments at once.

The rules are those of the particle environments that MAAC was published with (Iqbal and Sha,
"Actor-Attention-Critic for Multi-Agent Reinforcement Learning", ICML 2019). They are not those of
`mpe2`: there, discs move by the velocity they had before a step, thrust is a force instead of an
acceleration, contact forces do not depend on masses, and actions are numbered in another order.
"""

from __future__ import annotations

import numpy as np

DT = 0.1
"""Time of one step."""

DAMPING = 0.25
"""Share of the velocity that is lost in one step."""

MAX_SPEED = 1.0

THRUST = 1.5**2
"""Acceleration in the chosen direction, whatever the mass."""

STIFFNESS = 100.0
"""Force of a contact per length of penetration."""

MARGIN = 1e-3
"""Length over which a contact sets in."""

DIRECTIONS = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], float)
"""Action to direction: nothing, +x, -x, +y, -y."""


def contact_forces(
    offsets: np.ndarray, distances: np.ndarray, radii: np.ndarray, masses: np.ndarray
) -> np.ndarray:
    """What touching discs do to one another.

    A pair at distance d with radii r_a, r_b penetrates by p = MARGIN softplus((r_a + r_b - d) /
    MARGIN). The force on a is STIFFNESS p m_b / m_a, straight away from b.

    Args:
        offsets: (E, n, n, 2) from each disc to each other, see `between`.
        distances: (E, n, n) their lengths.
        radii: (n,).
        masses: (n,).

    Returns:
        (E, n, 2) sum of the forces on each disc.
    """
    overlap = radii[:, None] + radii - distances
    strength = STIFFNESS * MARGIN * np.logaddexp(0.0, overlap / MARGIN) * masses / masses[:, None]
    # A disc's offset from itself is 0, so it does not push itself; its distance must not divide.
    strength /= np.maximum(distances, 1e-12)
    return -np.einsum("eij,eijd->eid", strength, offsets)


def move(position: np.ndarray, velocity: np.ndarray, acceleration: np.ndarray) -> None:
    """Moves discs by one step, velocities first, in place.

    v <- (1 - DAMPING) v + DT a, shortened to MAX_SPEED; x <- x + DT v.

    Args:
        position: (E, n, 2) x.
        velocity: (E, n, 2) v.
        acceleration: (E, n, 2) a.
    """
    velocity *= 1.0 - DAMPING
    velocity += DT * acceleration
    speed = np.sqrt(np.square(velocity).sum(-1, keepdims=True))
    velocity *= MAX_SPEED / np.maximum(speed, MAX_SPEED)
    position += DT * velocity
