"""Flat actions and the environment's."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Text, Tuple
from kinds_toys import ACTIONS

from rllib_hetero.functional import distribution_for, num_choices
from rllib_hetero.runners.actions import random_action, sample_action
from rllib_hetero.spaces import Moves
from rllib_hetero.spaces.moves import pick, stacked

FLAT = {
    "box": Box(-1.0, 1.0, (2,), np.float32),
    "plane": Box(-2.0, 1.0, (4,), np.float32),
    "scalar": Box(-1.0, 1.0, (1,), np.float32),
    "endless": Box(-np.inf, np.inf, (2,), np.float32),
    "whole": MultiDiscrete([3, 2]),
    "discrete": Discrete(3),
    "shifted": Discrete(3),
    "multi": MultiDiscrete([2, 3, 4, 2]),
    "binary": MultiDiscrete([2, 2, 2]),
    "chosen": MultiDiscrete([2, 2, 3, 2]),  # Dicts are in the order of their keys
    "moved": Box(np.array([-1, -1, 0, 0]), 1.0, (4,), np.float32),
    "mixed": Tuple((MultiDiscrete([3, 2, 2]), Box(-1, 1, (2,), np.float32))),
}


@pytest.mark.parametrize("kind", sorted(ACTIONS))
def test_what_is_drawn_is_of_the_environments_space(kind):
    space = ACTIONS[kind]()
    moves = Moves(space)
    assert moves.flat == FLAT[kind]
    assert moves.plain == (moves.flat is space)
    moves.flat.seed(0)
    dist, mask = distribution_for(moves.flat), None
    actions = np.stack([np.asarray(sample_action(moves.flat)) for _ in range(4)])
    assert actions.shape == (4, *dist.action_shape)
    decoded = moves.decode(actions)
    assert all(space.contains(pick(decoded, i)) for i in range(4))
    together = stacked(space, [pick(decoded, i) for i in range(4)])
    assert str(together) == str(decoded)
    if num_choices(moves.flat):  # only the first choice of each component
        mask = np.concatenate([np.arange(n) == 0 for n in dist.choices])
    for _ in range(5):
        assert space.contains(random_action(moves, mask))


def test_by_hand():
    moves = Moves(ACTIONS["mixed"]())
    (batch,) = np.array([[2, 0, 1, 0.5, -0.25]], np.float32)[None]
    action = pick(moves.decode(batch), 0)
    assert list(action) == ["go", "how", "on"]
    assert action["go"].tolist() == [0.5, -0.25]
    assert action["how"] == 3 and action["on"].tolist() == [0, 1]
    whole = Moves(Box(np.array([-1, 3]), np.array([1, 4]), dtype=np.int64))
    assert whole.decode(np.array([[0, 0], [2, 1]])).tolist() == [[-1, 3], [1, 4]]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Text(3), "Text is not among the kinds"),
        (Tuple([]), "no parts"),
        (Box(-(2**40), 2**40, (1,), np.int64), "narrow its bounds"),
        (MultiDiscrete([600_000, 600_000]), "1,200,000 choices"),
    ],
)
def test_what_cannot_be_drawn_is_told(space, message):
    with pytest.raises(ValueError, match=message):
        Moves(space)
