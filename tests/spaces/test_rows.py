"""Observations as rows and back, part by part, against gymnasium's own flattening."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text, Tuple, flatten
from kinds_toys import OBSERVATIONS

from rllib_hetero.spaces import (
    appended,
    as_dtype,
    decoded,
    encoded,
    joint_rows,
    numbers_in,
    row_dtype,
    row_space,
    unpack,
)

OTHERS = sorted(OBSERVATIONS.keys() - {"vector"})
BYTES = ("picture", "grey", "frames", "mixed")
EYE = Dict({"arm": Box(-1, 1, (2,)), "eye": Box(0, 255, (2, 2, 1), np.uint8), "on": Discrete(2)})


def same(x, y):
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(same(x[k], y[k]) for k in x)
    if isinstance(x, tuple):
        return len(x) == len(y) and all(map(same, x, y))
    # Rows are float32, whatever the environment's numbers are.
    return np.asarray(x).dtype == np.asarray(y).dtype and np.allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_made_a_row_comes_back(kind):
    space = OBSERVATIONS[kind]()
    space.seed(0)
    rows = row_space(space)
    assert row_dtype(rows) == (np.uint8 if kind in BYTES else np.float32)
    for _ in range(5):
        x = space.sample()
        row = encoded(rows, x)
        assert row.shape == rows.shape and row.dtype == row_dtype(rows)
        assert rows.contains(row)
        assert same(decoded(rows, row), x)


@pytest.mark.parametrize("kind", sorted(set(OTHERS) - set(BYTES)))
def test_rows_of_numbers_are_gymnasiums_own(kind):
    space = OBSERVATIONS[kind]()
    space.seed(1)
    for _ in range(3):
        x = space.sample()
        wanted = np.asarray(flatten(space, x), np.float32)
        np.testing.assert_array_equal(encoded(row_space(space), x), wanted)


def test_a_vector_stays_what_it_is():
    box = Box(0, 255, (4,), np.uint8)
    assert row_space(box) is box and row_dtype(box) == np.float32


def test_a_row_of_bytes_by_hand():
    rows = row_space(EYE)
    x = {"arm": np.array([1.0, -2.0], np.float32), "eye": [[[1], [2]], [[3], [255]]], "on": 1}
    row = encoded(rows, x)
    assert rows.shape == (8 + 4 + 2,) and row.dtype == np.uint8
    assert row[:8].tobytes() == np.array([1.0, -2.0], np.float32).tobytes()
    assert row[8:].tolist() == [1, 2, 3, 255, 0, 1]
    seen = unpack(torch.from_numpy(np.stack([row, row])), rows)
    assert seen["arm"].tolist() == [[1.0, -2.0]] * 2
    assert seen["on"].tolist() == [[0.0, 1.0]] * 2
    expected = torch.tensor([1.0, 2.0, 3.0, 255.0]).view(2, 2, 1) / 255.0
    assert torch.equal(seen["eye"][1], expected)
    assert numbers_in(row[None], rows).tolist() == [[1.0, -2.0]]


def test_pictures_are_divided_by_their_bound():
    binary = row_space(Box(0, 1, (2, 2), np.uint8))
    row = encoded(binary, np.array([[0, 1], [1, 0]], np.uint8))
    assert unpack(torch.from_numpy(row), binary).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_the_agents_index_lies_behind():
    rows = appended(row_space(EYE), "<agent>", np.zeros(3), np.ones(3))
    assert rows.shape == (14 + 3,) and rows.dtype == np.uint8
    assert set(unpack(torch.zeros(17, dtype=torch.uint8), rows)) == {"arm", "eye", "on"}
    numbers = appended(row_space(Discrete(2)), "<agent>", np.zeros(3), np.ones(3))
    assert numbers.shape == (5,) and numbers.dtype == np.float32


def test_joint_rows_are_bytes_if_one_is():
    vector, count = Box(-1, 1, (3,), np.float32), row_space(Discrete(2))
    plain = joint_rows([vector, count])
    assert type(plain) is Box and plain.shape == (5,) and plain.low.tolist() == [-1] * 3 + [0] * 2
    near = joint_rows([vector, row_space(Dict({"far": count, "near": vector}))])
    assert [p.path for p in near.parts] == [(), ("far",), ("near",)]
    assert near.shape == (8,) and near.dtype == np.float32
    joint = joint_rows([vector, row_space(EYE)])
    assert joint.shape == (12 + 14,) and row_dtype(joint) == np.uint8
    # Bytes and back, where it is and where it is copied.
    x = torch.randn(5, 4)
    assert torch.equal(as_dtype(as_dtype(x, np.dtype(np.uint8)), np.dtype(np.float32)), x)
    part = as_dtype(x, np.dtype(np.uint8))[:, 4:12]
    assert torch.equal(as_dtype(part, np.dtype(np.float32)), x[:, 1:3])


@pytest.mark.parametrize(
    ("space", "x", "message"),
    [
        (EYE, {"arm": np.zeros(2), "on": 1}, "eye is missing"),
        (EYE, {"arm": np.zeros(3), "eye": np.zeros((2, 2, 1), int), "on": 1}, r"arm: .*\(3,\)"),
        (EYE, {"arm": np.zeros(2), "eye": np.full((2, 2, 1), 0.5), "on": 1}, "eye: it is float64"),
        (EYE, {"arm": np.zeros(2), "eye": np.full((2, 2, 1), 256), "on": 1}, "eye: it is int64"),
        (Discrete(3, start=1), 0, "0 is not in"),
        (Discrete(3), 1.0, "1.0 is not in"),
        (MultiBinary(2), [1], r"shape \(1,\)"),
        (Box(0, 1, (2, 2)), "words", "observation"),
    ],
)
def test_what_is_not_of_the_space_is_told(space, x, message):
    with pytest.raises(ValueError, match=message):
        encoded(row_space(space), x)


def test_what_cannot_be_a_row_is_told():
    with pytest.raises(ValueError, match=r"who\.0: Text is not among the kinds"):
        row_space(Dict({"who": Tuple([Text(3)])}))
    with pytest.raises(ValueError, match="no parts"):
        row_space(Dict({}))
