"""Actors of the off-policy family: what they compute, their targets, and what runners have."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_hetero.functional import POLICY_FAMILIES
from rllib_hetero.modules import off_policy_actor
from rllib_hetero.modules.categorical_actor import CategoricalActor
from rllib_hetero.modules.deterministic_actor import DeterministicActor
from rllib_hetero.modules.memory import forward_sequences, initial_state
from rllib_hetero.modules.q_network import QNetwork
from rllib_hetero.modules.squashed_actor import SquashedActor

OBSERVATIONS = Box(-1.0, 1.0, (4,), np.float32)
BOX = Box(np.float32([-1.0, 0.0]), np.float32([3.0, 0.5]))
SPACES = {"box": BOX, "discrete": Discrete(3), "multi": MultiDiscrete([2, 3])}
FAMILIES = {
    DeterministicActor: "deterministic",
    SquashedActor: "squashed",
    CategoricalActor: "categorical",
    QNetwork: "greedy",
}
CASES = {
    "deterministic, box": (DeterministicActor, "box", {}),
    "deterministic, discrete": (DeterministicActor, "discrete", {}),
    "deterministic, multi": (DeterministicActor, "multi", {"layer_norm": True}),
    "squashed, box": (SquashedActor, "box", {}),
    "squashed, discrete": (SquashedActor, "discrete", {"layer_norm": True}),
    "squashed, multi": (SquashedActor, "multi", {"last_activation": None}),
    "categorical": (CategoricalActor, "discrete", {}),
    "q": (QNetwork, "discrete", {}),
    "q, dueling": (QNetwork, "discrete", {"dueling": True, "dueling_hidden_sizes": [5]}),
    "q, gru": (QNetwork, "discrete", {"recurrent": "gru", "recurrent_size": 6}),
    "q, lstm, dueling": (QNetwork, "discrete", {"recurrent": "lstm", "dueling": True}),
}
TARGETED = [c for c, (cls, _, _) in CASES.items() if cls is not SquashedActor]


def make(case, *, inference_only=False):
    cls, kind, model = CASES[case]
    torch.manual_seed(0)
    return cls(
        observation_space=OBSERVATIONS,
        action_space=SPACES[kind],
        model_config={"hidden_sizes": [8, 7], **model},
        inference_only=inference_only,
    )


def batch_of(module, rows=6, steps=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    state = module.get_initial_state()
    if not state:
        return {Columns.OBS: torch.randn(rows, 4, generator=generator)}
    start = {k: torch.randn(rows, len(s), generator=generator) for k, s in state.items()}
    return {
        Columns.OBS: torch.randn(rows, steps, 4, generator=generator),
        Columns.STATE_IN: start,
    }


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_inputs_of_the_familys_distribution(case):
    cls, kind, _ = CASES[case]
    module = make(case)
    batch = batch_of(module)
    out = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    dist = POLICY_FAMILIES[FAMILIES[cls]](SPACES[kind])
    assert out.shape == (*batch[Columns.OBS].shape[:-1], dist.size)
    assert dist.mode(out).shape == (*out.shape[:-1], *dist.action_shape)
    assert out.std(0).max() > 1e-3  # They see something.
    explores = case in {"deterministic, box", "q", "q, dueling", "q, gru", "q, lstm, dueling"}
    assert (module.exploration is not None) == explores
    assert ("exploration" in module.state_dict()) == explores
    if explores:
        assert (out[..., -1] == 0.0).all()
        module.exploration.fill_(0.3)
        again = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
        assert torch.equal(again[..., :-1], out[..., :-1])
        assert (again[..., -1] == torch.tensor(0.3)).all()


# What is computed, by hand.


def test_deterministic_actions_are_a_tanh_mapped_to_the_bounds():
    module = make("deterministic, box")
    x = torch.randn(5, 4)
    h = x
    for layer in (module.body[0], module.body[2]):
        h = torch.relu(h @ layer.weight.T + layer.bias)
    y = torch.tanh(h @ module.head.weight.T + module.head.bias)
    expected = torch.tensor([1.0, 0.25]) + torch.tensor([2.0, 0.25]) * y
    out = module.forward_train({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(out[:, :2], expected)
    with torch.no_grad():
        module.head.bias.copy_(torch.tensor([100.0, -100.0]))
    out = module.forward_train({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(out[:, :2], torch.tensor([[3.0, 0.0]]).expand(5, 2))


def test_squashed_actors_bound_the_log_deviation_and_end_in_tanh():
    module = make("squashed, box")
    assert [type(m).__name__ for m in module.body] == ["Linear", "ReLU", "Linear", "Tanh"]
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.copy_(torch.tensor([7.0, -9.0, 3.0, -21.0]))
    out = module.forward_train({Columns.OBS: torch.randn(2, 4)})[Columns.ACTION_DIST_INPUTS]
    assert out.tolist() == [[7.0, -9.0, 2.0, -20.0]] * 2


def test_dueling_head_hand_computed():
    module = make("q, dueling")
    head = module.head
    x = torch.randn(4, 7)
    value, advantage = head.value(x).detach(), head.advantage(x).detach()
    assert value.shape == (4, 1) and advantage.shape == (4, 3)
    expected = [
        [float(v) + float(a) - sum(map(float, row)) / 3 for a in row]
        for v, row in zip(value, advantage, strict=True)
    ]
    torch.testing.assert_close(head(x).detach(), torch.tensor(expected))
    # The mean over actions is V: an offset of A changes nothing.
    torch.testing.assert_close(head(x).mean(-1).detach(), value[:, 0])
    kinds = [type(m).__name__ for m in head.advantage]
    assert kinds == ["Linear", "Hardswish", "Linear"]
    assert head.value[0] is not head.advantage[0]


@pytest.mark.parametrize("case", ["deterministic, box", "squashed, box", "q, dueling"])
def test_initial_weights_are_pytorchs_own(case):
    layers = [m for m in make(case).modules() if isinstance(m, torch.nn.Linear)]
    for layer in layers:
        bound = 1 / math.sqrt(layer.in_features)
        assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
        assert layer.bias.abs().max() > 0.0
        assert layer.weight.abs().max() > 0.5 * bound


@pytest.mark.parametrize("case", ["q, gru", "q, lstm, dueling"])
def test_recurrent_values_step_by_step_are_those_of_the_sequence(case):
    module = make(case)
    batch = batch_of(module)
    whole = module.forward_train(batch)
    state, steps = batch[Columns.STATE_IN], []
    for t in range(3):
        out = module.forward_train(
            {Columns.OBS: batch[Columns.OBS][:, t : t + 1], Columns.STATE_IN: state}
        )
        state = out[Columns.STATE_OUT]
        steps.append(out[Columns.ACTION_DIST_INPUTS])
    torch.testing.assert_close(torch.cat(steps, 1), whole[Columns.ACTION_DIST_INPUTS])
    assert set(state) == set(whole[Columns.STATE_OUT])
    for name, s in state.items():
        torch.testing.assert_close(s, whole[Columns.STATE_OUT][name])
    assert (steps[2] - steps[0]).abs().max() > 1e-3
    # The packed form that runners and learners use.
    start = initial_state(module)[None].expand(6, -1)
    out, after = forward_sequences(module, batch[Columns.OBS], start)
    assert out.shape == (6, 3, 4) and after.shape == start.shape


# Target networks.


@pytest.mark.parametrize("case", TARGETED)
def test_targets_start_as_copies_and_move_by_pairs_alone(case):
    module = make(case)
    batch = batch_of(module)

    def online():
        return module.forward_train(batch)[Columns.ACTION_DIST_INPUTS].detach()

    # Not equal to the bit: with gradient, PyTorch's LSTM is another kernel.
    torch.testing.assert_close(module.forward_target(batch), online())
    before = module.forward_target(batch)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if not name.startswith("target_"):
                p += 0.5
    assert torch.equal(module.forward_target(batch), before)
    assert not torch.allclose(online(), before, atol=1e-3)
    pairs = module.target_pairs()
    with torch.no_grad():
        torch._foreach_lerp_([t for t, _ in pairs], [p for _, p in pairs], 1.0)
    torch.testing.assert_close(module.forward_target(batch), online())


@pytest.mark.parametrize("case", TARGETED)
def test_pairs_hold_every_parameter_once_and_gradients_reach_one_of_each(case):
    module = make(case)
    batch = batch_of(module)
    pairs = module.target_pairs()
    everything = {id(p) for p in module.parameters()}
    assert {id(p) for pair in pairs for p in pair} == everything
    assert 2 * len(pairs) == len(everything)
    target = module.forward_target(batch)
    assert not target.requires_grad
    out = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    out.square().sum().backward()
    for t, p in pairs:
        assert t.shape == p.shape and not t.requires_grad and t.grad is None
        assert p.requires_grad and p.grad is not None


def test_squashed_actors_have_no_target():
    for case in ("squashed, box", "squashed, discrete"):
        module = make(case)
        assert module.target_pairs() == []
        assert not [k for k in module.state_dict() if "target" in k]


# Runners and learners, by RLlib's own machinery.


def multi_module(*, inference_only):
    spec = MultiRLModuleSpec(
        rl_module_specs={
            case: RLModuleSpec(
                module_class=cls,
                observation_space=OBSERVATIONS,
                action_space=SPACES[kind],
                model_config={"hidden_sizes": [8, 7], **model},
                inference_only=inference_only,
            )
            for case, (cls, kind, model) in CASES.items()
        },
        inference_only=inference_only,
    )
    return spec.build()


def test_runners_neither_build_nor_receive_targets(monkeypatch):
    learner = multi_module(inference_only=False)
    monkeypatch.delattr(off_policy_actor, "target_of")
    runner = multi_module(inference_only=True)
    for case in CASES:
        for p in learner[case].parameters():
            p.data += 0.1 * torch.randn_like(p)
        if learner[case].exploration is not None:
            learner[case].exploration.fill_(0.25)
    state = learner.get_state(inference_only=True)
    for case in CASES:
        names = set(runner[case].state_dict())
        assert not [name for name in names if "target" in name]
        assert set(state[case]) == names
        assert bool([n for n in learner[case].state_dict() if "target" in n]) == (case in TARGETED)
    runner.set_state(state)
    for case in CASES:
        batch = batch_of(learner[case])
        theirs = runner[case].forward_exploration(batch)[Columns.ACTION_DIST_INPUTS]
        ours = learner[case].forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
        assert torch.equal(theirs, ours)
        if runner[case].exploration is not None:
            assert (theirs[..., -1] == 0.25).all()


def test_the_whole_state_has_the_targets():
    learner, other = multi_module(inference_only=False), multi_module(inference_only=False)
    for case in TARGETED:
        for t, _ in learner[case].target_pairs():
            t.data += 1.0
        batch = batch_of(learner[case])
        other[case].set_state(learner[case].get_state())
        assert torch.equal(other[case].forward_target(batch), learner[case].forward_target(batch))


# Bad input.


@pytest.mark.parametrize(
    ("cls", "space", "model", "match"),
    [
        (DeterministicActor, Box(-np.inf, np.inf, (1,), np.float32), {}, "tanh needs bounds"),
        (SquashedActor, Box(-np.inf, np.inf, (1,), np.float32), {}, "tanh needs bounds"),
        (QNetwork, BOX, {}, "a Discrete"),
        (QNetwork, MultiDiscrete([2, 2]), {}, "a Discrete"),
        (QNetwork, Discrete(2), {"recurrent": "rnn"}, "kind of memory"),
        (QNetwork, Discrete(2), {"dueling": True, "dueling_activation": "x"}, "activation"),
        (SquashedActor, BOX, {"last_activation": "softmax"}, "activation 'softmax'"),
        (DeterministicActor, BOX, {"hidden_sizes": []}, "hidden layer"),
    ],
)
def test_what_cannot_be_built_is_refused(cls, space, model, match):
    with pytest.raises(ValueError, match=match):
        cls(observation_space=OBSERVATIONS, action_space=space, model_config=model)


def test_all_parts_change_between_training_and_evaluation():
    module = make("deterministic, box")
    for mode in (False, False, True, True, False):
        assert module.train(mode) is module
        assert {part.training for part in module.modules()} == {mode}


def test_the_statistics_of_inputs_are_those_of_actor_and_target():
    module = make("categorical")
    with torch.no_grad():
        module.input_norm.mean.fill_(0.5)
        module.input_norm.variance.fill_(4.0)
    batch = {Columns.OBS: torch.randn(5, 4)}
    own = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    assert torch.equal(module.forward_target(batch), own)
    h = torch.nn.functional.leaky_relu(
        ((batch[Columns.OBS] - 0.5) / 2.0) @ module.body[1].weight.T + module.body[1].bias
    )
    h = torch.nn.functional.leaky_relu(h @ module.body[3].weight.T + module.body[3].bias)
    torch.testing.assert_close(own, h @ module.head.weight.T + module.head.bias)
    restored = make("categorical")
    restored.set_state(module.get_state())
    assert torch.equal(restored.forward_target(batch), own)
