"""The tasks of SMAC and of SMACv2, as data."""

from __future__ import annotations

from typing import Any

SMAC_MAPS: dict[str, tuple[int, int, int]] = {
    "2m_vs_1z": (2, 1, 150),
    "2s_vs_1sc": (2, 1, 300),
    "2s3z": (5, 5, 120),
    "3m": (3, 3, 60),
    "3s_vs_3z": (3, 3, 150),
    "3s_vs_4z": (3, 4, 200),
    "3s_vs_5z": (3, 5, 250),
    "1c3s5z": (9, 9, 180),
    "2c_vs_64zg": (2, 64, 400),
    "3s5z": (8, 8, 150),
    "3s5z_vs_3s6z": (8, 9, 170),
    "5m_vs_6m": (5, 6, 70),
    "6h_vs_8z": (6, 8, 150),
    "8m": (8, 8, 120),
    "8m_vs_9m": (8, 9, 120),
    "10m_vs_11m": (10, 11, 150),
    "25m": (25, 25, 150),
    "27m_vs_30m": (27, 30, 180),
    "bane_vs_bane": (24, 24, 200),
    "corridor": (6, 24, 400),
    "MMM": (10, 10, 150),
    "MMM2": (10, 12, 180),
    "so_many_baneling": (7, 32, 100),
}
"""Map to its number of agents, number of enemies, and steps until it is cut."""

RACES: dict[str, dict[str, Any]] = {
    "protoss": {
        "unit_types": ["stalker", "zealot", "colossus"],
        "weights": [0.45, 0.45, 0.1],
    },
    "terran": {
        "unit_types": ["marine", "marauder", "medivac"],
        "weights": [0.45, 0.45, 0.1],
        "exception_unit_types": ["medivac"],
    },
    "zerg": {
        "unit_types": ["zergling", "baneling", "hydralisk"],
        "weights": [0.45, 0.1, 0.45],
        "exception_unit_types": ["baneling"],
    },
}
"""Race to how its teams are drawn; a team does not consist of exceptions alone."""

SIZES = ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))
"""Numbers of agents and of enemies."""

SMACV2_MAPS: dict[str, tuple[str, int, int]] = {
    f"{race}_{agents}_vs_{enemies}": (race, agents, enemies)
    for race in RACES
    for agents, enemies in SIZES
}
"""Task to its race, number of agents and number of enemies; all are cut after 200 steps."""

_SIDE = 32  # of the square field on which all of SMACv2 is played


def smacv2_arguments(task: str) -> dict[str, Any]:
    """What `smacv2` is given for a task: as in its own example configurations.

    Args:
        task: A key of `SMACV2_MAPS`.

    Returns:
        Keyword arguments. New objects, as smacv2 writes into them.
    """
    race, agents, enemies = SMACV2_MAPS[task]
    team = {k: list(v) for k, v in RACES[race].items()}
    return {
        "map_name": f"10gen_{race}",
        "obs_own_pos": True,
        "use_unit_ranges": True,
        "capability_config": {
            "n_units": agents,
            "n_enemies": enemies,
            "team_gen": {"dist_type": "weighted_teams", "observe": True, **team},
            "start_positions": {
                "dist_type": "surrounded_and_reflect",
                "p": 0.5,
                "map_x": _SIDE,
                "map_y": _SIDE,
            },
        },
    }
