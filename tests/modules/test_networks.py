"""What the networks can tell of their inputs, however few numbers these are."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rllib_hetero.modules.actor import MODEL_DEFAULTS, TeamActor
from rllib_hetero.modules.context import ProjectedContext
from rllib_hetero.modules.critic import TeamCritic
from rllib_hetero.modules.networks import NORMALIZED_FROM, mlp


def explained(network, x, y, steps=150):
    """How much of y's variance a network explains after a few steps on half of it; 1 is all."""
    params = [p for p in network.parameters() if p.requires_grad]
    adam = torch.optim.Adam(params, lr=2e-3)
    y = (y - y.mean()) / y.std()
    for _ in range(steps):
        loss = (network(x[::2])[..., 0] - y[::2]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return 1.0 - float((network(x[1::2])[..., 0] - y[1::2]).square().mean())


def value_network(in_size, layer_norm):
    return nn.Sequential(mlp(in_size, [32, 32], layer_norm=layer_norm), nn.Linear(32, 1))


def uniform(n, d):
    return 2.0 * torch.rand(n, d, generator=torch.Generator().manual_seed(0)) - 1.0


X = uniform(1000, 6)
# Inputs, and what is asked about them that LayerNorm on the input does not leave.
QUESTIONS = {
    "1: itself": (X[:, :1], X[:, 0]),
    "1: its size": (X[:, :1], X[:, 0].abs()),
    "1: a hundred times as large": (100.0 * X[:, :1], X[:, 0]),
    "1: between 0 and 1": (X[:, :1].abs(), X[:, 0].abs()),
    "2: product": (X[:, :2], X[:, 0] * X[:, 1]),
    "2: sum": (X[:, :2], X[:, 0] + X[:, 1]),
    "2: distance": (X[:, :2], (X[:, 0] - X[:, 1]).abs()),
    "3: distance, of which one is told twice": (X[:, [0, 0, 1]], (X[:, 0] - X[:, 1]).abs()),
    "3: mean": (X[:, :3], X[:, :3].mean(1)),
    "6: mean": (X, X.mean(1)),
    "6: length": (X, X.norm(dim=1)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_small_inputs_are_told_apart(question):
    x, y = QUESTIONS[question]
    torch.manual_seed(1)
    assert explained(value_network(x.shape[1], True), x, y) > 0.8
    assert explained(value_network(x.shape[1], "all"), x, y) < 0.2


@pytest.mark.parametrize("layer_norm", [True, "all"])
@pytest.mark.parametrize("size", [2, 6])
def test_one_hots_are_told_apart_by_all(size, layer_norm):
    torch.manual_seed(1)
    which = torch.arange(size).repeat_interleave(20)
    x = torch.eye(size)[which]
    assert explained(value_network(size, layer_norm), x, which % 2.0) > 0.9


def test_a_number_with_a_one_hot_behind_it_is_seen():
    # A shared module's input: the one-hot tells what the mean and the scale were.
    x = torch.cat([X[:, :1], torch.eye(6)[torch.arange(len(X)) // 2 % 6]], dim=1)
    torch.manual_seed(1)
    assert x.shape[1] >= NORMALIZED_FROM
    assert explained(value_network(x.shape[1], True), x, X[:, 0]) > 0.9


def test_a_constant_input_leaves_finite_gradients():
    for value in (0.0, 1.0, 1e6):
        torch.manual_seed(0)
        network = value_network(1, True)
        network(torch.full((5, 1), value)).sum().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("layer_norm", [True, "all", "hidden", False])
def test_where_layer_norm_is(layer_norm):
    for in_size in (NORMALIZED_FROM - 1, NORMALIZED_FROM):
        kinds = [type(layer).__name__ for layer in mlp(in_size, [8, 9], layer_norm=layer_norm)]
        layer = ["Linear", "ReLU", "LayerNorm"] if layer_norm else ["Linear", "ReLU"]
        on_input = layer_norm == "all" or (layer_norm is True and in_size == NORMALIZED_FROM)
        assert kinds == on_input * ["LayerNorm"] + 2 * layer


@pytest.mark.parametrize("layer_norm", ["none", 1, None, [True]])
def test_other_words_are_refused(layer_norm):
    with pytest.raises(ValueError, match=r"True, 'all', 'hidden' or .*model_config=\{'layer_norm'"):
        mlp(3, [8], layer_norm=layer_norm)


def test_layers_that_layer_norm_would_empty_are_refused():
    with pytest.raises(ValueError, match=r"a sign.*\[64, 2\].*model_config=\{'layer_norm': False"):
        mlp(9, [64, 2])
    mlp(9, [64, 2], layer_norm=False)


# ---- each network of the library that uses them ----------------------------------------------


def test_the_actor_sees_one_number():
    actor = TeamActor(
        observation_space=Box(-1.0, 1.0, (1,), np.float32),
        action_space=Discrete(2),
        model_config={"hidden_sizes": [32, 32], "actor_head_gain": 1.0},
    )
    assert explained(nn.Sequential(actor.body, actor.head), X[:, :1], X[:, 0]) > 0.9


def test_the_critic_sees_a_state_of_one_number():
    critic = TeamCritic(
        observation_space=Box(-1.0, 1.0, (1,), np.float32),
        action_space=Box(-1.0, 1.0, (1,), np.float32),
        model_config={"hidden_sizes": [32, 32]},
    )
    (network,) = critic.networks
    assert explained(nn.Sequential(network.body, network.head), X[:, :1], X[:, 0].abs()) > 0.9


def test_what_one_predecessor_does_is_heard():
    class Hearing(nn.Module):
        def __init__(self):
            super().__init__()
            self.context = ProjectedContext(2, 32, MODEL_DEFAULTS | {"hidden_sizes": [32]})
            self.head = nn.Linear(32, 1)

        def forward(self, context):
            return self.head(self.context(torch.zeros(len(context), 32), context))

    # An action, and that there is one.
    heard = torch.cat([X[:, :1], torch.ones(len(X), 1)], dim=1)
    assert explained(Hearing(), heard, X[:, 0].abs()) > 0.9
