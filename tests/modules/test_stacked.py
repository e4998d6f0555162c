"""Stacked actors give what each of them gives by itself, and others are called one by one."""

import contextlib

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from toys import rounding

from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.categorical_actor import CategoricalActor
from rllib_hetero.modules.deterministic_actor import DeterministicActor
from rllib_hetero.modules.input_norm import InputNorm
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.modules.off_policy_actor import OffPolicyActor
from rllib_hetero.modules.q_network import QNetwork
from rllib_hetero.modules.squashed_actor import SquashedActor
from rllib_hetero.modules.stacked import stacked_forward

ROWS = 6
SPACES = {
    "box": Box(-1.0, 1.0, (3,), np.float32),
    "discrete": Discrete(5),
    "multi": MultiDiscrete([2, 3]),
}


class Counted(TeamActor):
    """An actor of another class than the library's; counts its calls."""

    calls = 0

    def _forward(self, batch, **kwargs):
        self.calls += 1
        return super()._forward(batch, **kwargs)


class Custom(TorchRLModule):
    """A user's module that explores otherwise than it acts."""

    def setup(self):
        self.layer = torch.nn.Linear(4, 3)

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.layer(batch[Columns.OBS])}

    def _forward_exploration(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: 2 * self.layer(batch[Columns.OBS])}


def actor(space, *, size=4, cls=TeamActor, **model):
    module = cls(
        observation_space=Box(-1.0, 1.0, (size,), np.float32),
        action_space=space,
        model_config={"hidden_sizes": [8, 7], "actor_head_gain": 1.0, **model},
    )
    for part in module.modules():
        if isinstance(part, InputNorm):
            part.mean.normal_()
            part.variance.uniform_(0.01, 3.0)
    for p in module.parameters():  # All weights different, those of LayerNorm and std too.
        p.data += 0.3 * torch.randn_like(p)
    return module.eval()


def one_by_one(modules, x):
    with torch.no_grad():
        return torch.stack(
            [
                m.forward_inference({Columns.OBS: rows})[Columns.ACTION_DIST_INPUTS]
                for m, rows in zip(modules, x, strict=True)
            ]
        )


def assert_equal(out, expected):
    """Apart from rounding in the sums over the inputs of every layer."""
    atol = rounding(expected, terms=4 + 8 + 7)
    torch.testing.assert_close(out, expected, rtol=0, atol=atol)


def is_batched(modules, monkeypatch, x, memory=None):
    """Whether the stack leaves the modules' own forward pass alone."""
    called = []
    for cls in (TeamActor, OffPolicyActor):
        monkeypatch.setattr(cls, "_forward", lambda *args, **kwargs: called.append(1))
    forward = stacked_forward(modules, explore=False)
    with contextlib.suppress(AttributeError, TypeError):  # The replacement returns no output.
        forward(x, memory)
    monkeypatch.undo()
    return not called


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("num", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", list(SPACES))
def test_stack_equals_each_modules_own_forward(kind, num, explore, monkeypatch):
    torch.manual_seed(num)
    modules = [actor(SPACES[kind]) for _ in range(num)]
    x = torch.randn(num, ROWS, 4)
    out = stacked_forward(modules, explore=explore)(x, None)[0]
    assert_equal(out, one_by_one(modules, x))
    assert is_batched(modules, monkeypatch, x)


@pytest.mark.parametrize(
    "model",
    [
        {"layer_norm": False},
        {"layer_norm": "all"},
        {"layer_norm": "hidden"},
        {"activation": "tanh"},
        {"activation": "selu", "hidden_sizes": [6]},
        {"std_x": 2.0, "std_y": 1.0},
    ],
)
def test_every_architecture_is_stacked(model, monkeypatch):
    torch.manual_seed(0)
    modules = [actor(SPACES["box"], **model) for _ in range(3)]
    x = torch.randn(3, ROWS, 4)
    out = stacked_forward(modules, explore=False)(x, None)[0]
    assert_equal(out, one_by_one(modules, x))
    assert is_batched(modules, monkeypatch, x)


OFF_POLICY = {
    "deterministic": (DeterministicActor, "box", {}),
    "deterministic, discrete": (DeterministicActor, "discrete", {"layer_norm": True}),
    "squashed": (SquashedActor, "box", {}),
    "deterministic, inputs in their units": (DeterministicActor, "box", {"input_norm": True}),
    "squashed, multi": (SquashedActor, "multi", {"last_activation": None}),
    "categorical": (CategoricalActor, "discrete", {}),
    "categorical, inputs as they are": (CategoricalActor, "discrete", {"input_norm": False}),
    "q": (QNetwork, "discrete", {}),
    "q, dueling": (QNetwork, "discrete", {"dueling": True}),
    "q, gru": (QNetwork, "discrete", {"recurrent": "gru"}),
    "q, gru, dueling, norm": (
        QNetwork,
        "discrete",
        {"recurrent": "gru", "dueling": True, "layer_norm": True, "input_norm": True},
    ),
}


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("case", OFF_POLICY)
def test_off_policy_actors_are_stacked(case, num, explore, monkeypatch):
    cls, kind, model = OFF_POLICY[case]
    torch.manual_seed(num)
    # In double precision: LayerNorm of nearly equal units would blow up the rounding of single.
    modules = [actor(SPACES[kind], cls=cls, **model).double() for _ in range(num)]
    for i, m in enumerate(modules):
        if m.exploration is not None:
            m.exploration.fill_(0.1 * (i + 1))
    forward = stacked_forward(modules, explore=explore)
    x = torch.randn(2, num, ROWS, 4, dtype=torch.float64)
    size = len(initial_state(modules[0]))
    memory = x.new_zeros(num, ROWS, size) if size else None
    states = [memory[i] if size else None for i in range(num)]
    for step in x:  # Two steps, so that what is remembered counts.
        out, memory = forward(step, memory)
        for i, m in enumerate(modules):
            batch = {Columns.OBS: step[i]}
            if size:
                batch = {Columns.OBS: step[i, :, None], Columns.STATE_IN: unpack(states[i], m)}
            own = m.forward_inference(batch)
            expected = own[Columns.ACTION_DIST_INPUTS]
            if size:
                expected, states[i] = expected[:, 0], pack(own[Columns.STATE_OUT])
            torch.testing.assert_close(out[i], expected)
    assert is_batched(modules, monkeypatch, x[0], memory)


def test_bounds_and_classes_tell_actors_apart(monkeypatch):
    """Layers of one shape, but other functions on them."""
    torch.manual_seed(0)
    wide = Box(-2.0, 2.0, (3,), np.float32)
    one = actor(SPACES["box"], cls=DeterministicActor)
    for other in (
        actor(wide, cls=DeterministicActor),
        actor(Discrete(3), cls=DeterministicActor),
        actor(Discrete(3), cls=QNetwork),
    ):
        assert not is_batched([one, other], monkeypatch, torch.randn(2, ROWS, 4))
    modules, x = [one, actor(wide, cls=DeterministicActor)], torch.randn(2, ROWS, 4)
    out = stacked_forward(modules, explore=False)(x, None)[0]
    torch.testing.assert_close(out, one_by_one(modules, x))


@pytest.mark.parametrize("other", [{"hidden_sizes": [8, 9]}, {"activation": "tanh"},
                                   {"layer_norm": False}, {"layer_norm": "all"},
                                   {"std_y": 2.0}])  # fmt: skip
def test_actors_of_unequal_make_give_their_own_outputs(other):
    torch.manual_seed(0)
    modules = [actor(SPACES["box"]), actor(SPACES["box"], **other)]
    x = torch.randn(2, ROWS, 4)
    out = stacked_forward(modules, explore=False)(x, None)[0]
    assert_equal(out, one_by_one(modules, x))


def test_subclass_of_the_actor_is_called_itself():
    modules = [actor(SPACES["box"], cls=Counted) for _ in range(2)]
    x = torch.randn(2, ROWS, 4)
    out = stacked_forward(modules, explore=True)(x, None)[0]
    assert [m.calls for m in modules] == [1, 1]
    assert_equal(out, one_by_one(modules, x))


@pytest.mark.parametrize("explore", [False, True])
def test_custom_module_is_called_with_the_pass_that_is_meant(explore):
    spaces = {"observation_space": Box(-1.0, 1.0, (4,), np.float32), "action_space": Discrete(3)}
    modules = [Custom(**spaces).eval() for _ in range(2)]
    x = torch.randn(2, ROWS, 4)
    out = stacked_forward(modules, explore=explore)(x, None)[0]
    expected = one_by_one(modules, x) * (2 if explore else 1)
    assert_equal(out, expected)


@pytest.mark.parametrize("num", [1, 2])
def test_function_keeps_the_weights_it_was_made_with(num):
    modules = [actor(SPACES["box"]) for _ in range(num)]
    x = torch.randn(num, ROWS, 4)
    forward = stacked_forward(modules, explore=False)
    before, _ = forward(x, None)
    for p in modules[-1].parameters():
        p.data += 1.0
    assert torch.equal(forward(x, None)[0], before)
    after, _ = stacked_forward(modules, explore=False)(x, None)
    assert not torch.allclose(after[-1], before[-1])
