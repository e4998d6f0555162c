"""SMAC and SMACv2: small battles of StarCraft II, through the `smacv2` package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rllib_hetero.envs.smac.env import SMACTeamEnv
from rllib_hetero.envs.smac.game import GameFailure, check_game
from rllib_hetero.envs.smac.maps import SMAC_MAPS, SMACV2_MAPS, smacv2_arguments
from rllib_hetero.envs.smac.settings import Settings, read_settings
from rllib_hetero.errors import MissingExtraError

_FIELD = "32x32_flat"  # the map file of all SMACv2 tasks


def make_smac(env_config: Mapping[str, Any]) -> SMACTeamEnv:
    """Makes a battle of SMAC, the first version: fixed units in fixed places.

    Args:
        env_config:
            "map": a key of `SMAC_MAPS`.
            "state": what the critic sees. "all_units" (default): smacv2's state. "agent_specific":
                each agent's features of all units, however far away; see `SMACTeamEnv.state`.
            "step_timeout_s": seconds that a step may take before the game is killed, 60.
            "launch_timeout_s": the same for a reset that starts the game, 180.
            "render_mode": "rgb_array" if `render()` is to be called; None by default.
            The rest goes to smacv2's `StarCraft2Env` (difficulty, reward_sparse, ...).

    Raises:
        MissingExtraError: If `smacv2` or what it needs is not installed.
        TeamError: For an unknown setting or a value that is not as described.
        FileNotFoundError: If StarCraft II or the map is missing. On remote env runners at once;
            elsewhere when the first episode begins, as the driver itself may do without.
    """
    settings = read_settings("smac", env_config, SMAC_MAPS)
    env = _make("StarCraft2Env", {"map_name": settings.map}, settings, settings.map, env_config)
    _tell_agents_types_apart(env.env)
    return env


def make_smacv2(env_config: Mapping[str, Any]) -> SMACTeamEnv:
    """Makes a battle of SMACv2: each has other units in other places.

    Args:
        env_config: As of `make_smac`, but "map" is a key of `SMACV2_MAPS`, and the rest goes to
            smacv2's `StarCraftCapabilityEnvWrapper`. Its own example configurations for these
            tasks are the defaults.

    Raises:
        MissingExtraError: As `make_smac` does.
        TeamError: As `make_smac` does.
        FileNotFoundError: As `make_smac` does.
    """
    settings = read_settings("smacv2", env_config, SMACV2_MAPS)
    task = smacv2_arguments(settings.map)
    return _make("StarCraftCapabilityEnvWrapper", task, settings, _FIELD, env_config)


def _make(
    made_by: str,
    task: dict[str, Any],
    settings: Settings,
    map_file: str,
    env_config: Mapping[str, Any],
) -> SMACTeamEnv:
    try:
        import pysc2.run_configs  # noqa: F401  smacv2 is of no use without it
        import smacv2.env
    except ImportError as error:
        missing = MissingExtraError(f"smacv2 (or what it needs: {error.name})", extra="smac")
        missing.msg += (
            "\nand then what is not to bring its own dependencies: pip install --no-deps "
            "pysc2==4.0.0 'smacv2 @ git+https://github.com/oxwhirl/smacv2@577ab5a'"
            "\nStarCraft II itself is a download of its own; SC2PATH names its folder."
        )
        raise missing from error
    check = partial(check_game, map_file)
    if getattr(env_config, "worker_index", 0):
        check()
    battle = getattr(smacv2.env, made_by)(
        **{**task, **settings.arguments, "continuing_episode": True, "action_mask": True}
    )
    return SMACTeamEnv(
        battle,
        agent_specific_state=settings.state == "agent_specific",
        step_timeout_s=settings.step_timeout_s,
        launch_timeout_s=settings.launch_timeout_s,
        render_mode=settings.render_mode,
        check_game=check,
    )


def _tell_agents_types_apart(battle: Any) -> None:
    """Mends the types of unit in observations and state on SMAC's own maps.

    The agents' units are of types that the maps bring, numbered from the smallest on, the
    enemies' of the game's types. smacv2 looks for both among the game's: it raises an IndexError
    on maps of stalkers and zealots, and takes all agents for one type on the other mixed ones.
    """
    of_the_game = battle.get_unit_type_id

    def type_of(unit: Any, ally: bool) -> int:
        return unit.unit_type - battle._min_unit_type if ally else of_the_game(unit, ally)

    battle.get_unit_type_id = type_of


__all__ = ["SMACV2_MAPS", "SMAC_MAPS", "GameFailure", "SMACTeamEnv", "make_smac", "make_smacv2"]
