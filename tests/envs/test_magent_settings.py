"""What of the battle environment can be said without the game."""

import os
import sys

import numpy as np
import pytest

from rllib_hetero import HAPPOConfig, TeamError
from rllib_hetero.envs import make_magent
from rllib_hetero.envs.magent.engine import mirrored_actions
from rllib_hetero.errors import MissingExtraError


@pytest.mark.parametrize(
    ("env_config", "setting", "says"),
    [
        ({}, "scenario", "got nothing"),
        ({"scenario": "gather"}, "scenario", "'gather'"),
        ({"size": 20}, "size", "do not know"),
        ({"map_size": 11}, "map_size", "at least 12"),
        ({"map_size": 45.0}, "map_size", "45.0"),
        ({"max_cycles": 0}, "max_cycles", "at least 1"),
        ({"state": "positions"}, "state", "'minimap'"),
        ({"minimap_mode": 1}, "minimap_mode", "[False, True]"),
        ({"render_mode": "human"}, "render_mode", "'rgb_array'"),
        ({"step_reward": "much"}, "step_reward", "finite number"),
        ({"dead_penalty": float("nan")}, "dead_penalty", "finite number"),
        ({"opponent": 3}, "opponent", "checkpoint's folder"),
        ({"opponent": "no/such/folder"}, "opponent", "no/such/folder"),
        ({"opponent": os.getcwd(), "minimap_mode": True}, "minimap_mode", "mirrored"),
    ],
)
def test_what_is_refused(env_config, setting, says):
    if "size" not in env_config and env_config:
        env_config = {"scenario": "battle", **env_config}
    with pytest.raises(TeamError) as error:
        make_magent(env_config)
    assert says in str(error.value)
    assert f'config.environment("magent", env_config={{"{setting}": ' in str(error.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "magent2.environments", None)
    with pytest.raises(MissingExtraError, match=r"magent2 is not installed.*\[magent\]"):
        make_magent({"scenario": "battle"})
    with pytest.raises(MissingExtraError):
        HAPPOConfig().environment("magent", env_config={"scenario": "battle"}).validate()


def test_mirroring_twice_changes_nothing():
    mirrored = mirrored_actions()
    np.testing.assert_array_equal(mirrored[mirrored], np.arange(21))
    assert sorted(mirrored) == list(range(21))
    # Up, down and standing still stay what they are; two steps right become two steps left.
    assert mirrored[[0, 2, 6, 10, 12]].tolist() == [0, 2, 6, 10, 12]
    assert mirrored[8] == 4
