"""How MPE's discs move: the rules of `mpe2`'s core, for E environments at once.

They are not those of the cooperative particle games (`envs.cooperative_mpe.physics`): a disc moves
by the velocity that it had before the step, thrust is a force of 5 for a mass of 1, no speed is too
high, and contact forces do not depend on masses.
"""

from __future__ import annotations

import numpy as np

DT = 0.1
"""Time of one step."""

DAMPING = 0.25
"""Share of the velocity that is lost in one step."""

THRUST = 5.0
"""Force of a full step in one direction, for a mass of 1."""

STIFFNESS = 100.0
"""Force of a contact per length of penetration."""

MARGIN = 1e-3
"""Length over which a contact sets in."""


def contact_forces(offsets: np.ndarray, distances: np.ndarray, radius: float) -> np.ndarray:
    """What equal discs do to one another.

    A pair at distance d penetrates by p = MARGIN softplus((2 radius - d) / MARGIN). The force on
    each is STIFFNESS p, straight away from the other.

    Args:
        offsets: (E, n, n, 2) from each disc to each other, see `particles.between`.
        distances: (E, n, n) their lengths.
        radius: Of every disc.

    Returns:
        (E, n, 2) sum of the forces on each disc.
    """
    strength = STIFFNESS * MARGIN * np.logaddexp(0.0, (2 * radius - distances) / MARGIN)
    # A disc's offset from itself is 0, so it does not push itself; its distance must not divide.
    strength /= np.maximum(distances, 1e-12)
    return -np.einsum("eij,eijd->eid", strength, offsets)


def move(position: np.ndarray, velocity: np.ndarray, force: np.ndarray) -> None:
    """Moves discs of mass 1 by one step, in place: x <- x + DT v, v <- (1 - DAMPING) v + DT f.

    Args:
        position: (E, n, 2) x.
        velocity: (E, n, 2) v.
        force: (E, n, 2) f.
    """
    position += DT * velocity
    velocity *= 1.0 - DAMPING
    velocity += DT * force
