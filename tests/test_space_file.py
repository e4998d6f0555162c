"""Spaces as data, and back; from anybody."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box
from kinds_toys import ACTIONS, OBSERVATIONS

from rllib_hetero import TeamError
from rllib_hetero.space_file import Room, describe_space, read_space

KINDS = {f"seen {k}": make for k, make in OBSERVATIONS.items()}
KINDS |= {f"done {k}": make for k, make in ACTIONS.items()}
UNEVEN = Box(np.array([[0.0, -np.inf], [1.0, 2.0]]), np.full((2, 2), np.inf), dtype=np.float32)


def through_a_file(space):
    return read_space(json.loads(json.dumps(describe_space(space))), Room())


@pytest.mark.parametrize("kind", KINDS)
def test_spaces_come_back(kind):
    space = KINDS[kind]()
    read = through_a_file(space)
    assert read == space
    read.seed(0), space.seed(0)
    assert str(read.sample()) == str(space.sample())


def test_pictures_are_short():
    space = Box(0, 255, (84, 84, 4), np.uint8)
    assert len(json.dumps(describe_space(space))) < 100
    assert through_a_file(UNEVEN) == UNEVEN


BOX = {"kind": "Box", "dtype": "uint8", "low": 0, "high": 255, "shape": [2, 2]}
DEEP = {"kind": "Discrete", "n": 2}
for _ in range(30):
    DEEP = {"kind": "Tuple", "spaces": [DEEP]}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (BOX | {"shape": [10**4, 10**4]}, "too large"),
        ({"kind": "Tuple", "spaces": [BOX | {"shape": [4000, 4000]}] * 2}, "too large"),
        (BOX | {"shape": [-1]}, "is no shape"),
        (BOX | {"shape": "much"}, "must be a list"),
        (BOX | {"low": [0]}, "bounds of a Box"),
        (BOX | {"low": 300}, "no such Box"),
        (BOX | {"dtype": "object"}, "dtype"),
        (DEEP, "nested too deeply"),
        ({"kind": "Dict", "spaces": []}, "a Dict must have `spaces`"),
        ({"kind": "Discrete", "n": 2, "start": 0.5}, "a start must be"),
        ({"kind": "MultiDiscrete", "nvec": [[2], [3, 4]]}, "no such MultiDiscrete"),
        ({"kind": "MultiDiscrete", "nvec": [2, 3], "start": [1]}, "a number for each"),
        ({"kind": "MultiBinary", "shape": [10**9]}, "is no shape"),
        ({"kind": "Text"}, "no kind of space 'Text'"),
    ],
)
def test_what_is_no_space_is_told(told, message):
    with pytest.raises(TeamError, match=message):
        read_space(told, Room())
