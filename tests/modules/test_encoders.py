"""Encoders of pictures and parts: against RLlib's convolutions, and part by part."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from ray.rllib.core.models.torch.primitives import TorchCNN

from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.modules.encoders import (
    PictureEncoder,
    RowEncoder,
    body_for,
    default_filters,
    encoder_for,
)
from rllib_hetero.modules.networks import mlp
from rllib_hetero.spaces import encoded, joint_rows, row_space

MODEL = MODEL_DEFAULTS | {"conv_features": 8, "layer_norm": False}
EYE = Dict({"arm": Box(-1, 1, (2,)), "eye": Box(0, 255, (9, 9, 2), np.uint8)})


@pytest.mark.parametrize(
    "filters",
    [
        [[4, 4, 2], [3, 3, 2]],
        [[4, [3, 3], [2, 2], "valid"], [2, 2, 1, "same"]],
        default_filters(9, 9),
    ],
)
def test_convolutions_are_rllibs(filters):
    ours = PictureEncoder((9, 9, 2), MODEL | {"conv_filters": filters}, orthogonal=True)
    theirs = TorchCNN(input_dims=[9, 9, 2], cnn_filter_specifiers=filters)
    pairs = zip(
        [m for m in ours.layers if isinstance(m, torch.nn.Conv2d)],
        [m for m in theirs.cnn if isinstance(m, torch.nn.Conv2d)],
        strict=True,
    )
    for mine, other in pairs:
        other.load_state_dict(mine.state_dict())
    x = torch.rand(5, 9, 9, 2)
    flat = theirs(x).permute(0, 3, 1, 2).flatten(1)  # channels first
    expected = ours.layers[-2](flat).relu()
    torch.testing.assert_close(ours(x), expected)


def test_sizes_of_their_own():
    assert default_filters(64, 64) == [[16, 4, 2], [32, 4, 2], [64, 4, 2], [128, 4, 2]]
    assert default_filters(84, 20) == default_filters(84, 84)
    assert len(default_filters(84, 84)) == 4 and len(default_filters(240, 320)) == 6
    assert default_filters(6, 5) == [[16, 3, 1], [32, 3, 1]]
    for shape in [(2, 9, 7, 3), (9, 7), (1, 1, 1)]:
        encoder = PictureEncoder(shape, MODEL, orthogonal=False)
        assert encoder(torch.rand(2, *shape)).shape == (2, 8)


def test_frames_are_channels():
    torch.manual_seed(0)
    frames = PictureEncoder((3, 9, 9, 2), MODEL, orthogonal=False)
    torch.manual_seed(0)
    channels = PictureEncoder((9, 9, 6), MODEL, orthogonal=False)
    x = torch.rand(4, 3, 9, 9, 2)
    together = torch.cat(list(x.unbind(1)), -1)
    torch.testing.assert_close(frames(x), channels(together))


def test_a_row_is_its_parts_side_by_side():
    rows = row_space(EYE)
    EYE.seed(0)
    seen = [EYE.sample() for _ in range(3)]
    encoder = encoder_for(rows, MODEL, orthogonal=True)
    batch = torch.from_numpy(np.stack([encoded(rows, x) for x in seen]))
    arm = torch.from_numpy(np.stack([x["arm"] for x in seen]))
    eye = torch.from_numpy(np.stack([x["eye"] for x in seen])) / 255.0
    expected = torch.cat([arm, encoder.encoders[0](eye)], -1)
    torch.testing.assert_close(encoder(batch), expected)
    assert encoder.size == 2 + 8
    # Without a gradient in pieces, with any leading axes, of none.
    encoder._most_rows = 2
    with torch.no_grad():
        torch.testing.assert_close(encoder(batch[:, None]), expected[:, None])
        torch.testing.assert_close(encoder(batch[0]), expected[0])
        assert encoder(batch[:0]).shape == (0, 10)


def test_a_critic_shares_encoders_among_agents_that_see_alike():
    other = row_space(Box(0, 255, (5, 5), np.uint8))
    joint = joint_rows([row_space(EYE), Box(-1, 1, (3,), np.float32), row_space(EYE), other])
    encoder = encoder_for(joint, MODEL | {"part_hidden_sizes": [4]}, orthogonal=True)
    assert len(encoder.encoders) == 4  # arm, eye, the vector, the other picture
    assert encoder.size == 2 * (4 + 8) + 4 + 8
    x = torch.randint(0, 255, (2, joint.shape[0]), dtype=torch.uint8)
    size, vector = row_space(EYE).shape[0], 3 * 4
    x[:, : 2 * 4] = 0  # numbers that are some
    x[:, size : size + vector] = 0
    first, second = slice(0, size), slice(size + vector, 2 * size + vector)
    x[:, second] = x[:, first]
    out = encoder(x)
    torch.testing.assert_close(out[:, :12], out[:, 16:28])


def test_vectors_have_the_layers_they_had():
    space, hidden = Box(-1, 1, (9,), np.float32), [5, 4]
    torch.manual_seed(1)
    body = body_for(space, hidden, MODEL_DEFAULTS, orthogonal=True)
    torch.manual_seed(1)
    plain = mlp(9, hidden)
    assert str(body) == str(plain)
    for mine, other in zip(body.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    flat = row_space(Dict({"a": space, "b": space}))
    assert encoder_for(flat, MODEL, orthogonal=True) is None
    parts = encoder_for(flat, MODEL | {"part_hidden_sizes": [6]}, orthogonal=True)
    assert isinstance(parts, RowEncoder) and parts.size == 12
