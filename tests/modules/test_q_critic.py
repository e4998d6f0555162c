"""The critic of joint actions: its values, its targets, its place beside the actors."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.q_critic import QF_PREDS, TeamQCritic

STATE, ACTIONS, ROWS = 5, 4, 6
SPACES = {
    "observation_space": Box(-1.0, 1.0, (STATE,), np.float32),
    "action_space": Box(-np.inf, np.inf, (ACTIONS,), np.float32),
}


def critic(**model):
    torch.manual_seed(0)
    return TeamQCritic(**SPACES, model_config={"hidden_sizes": [8, 7], **model})


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, STATE, generator=generator), torch.randn(
        ROWS, ACTIONS, generator=generator
    )


def slow_values(weights, state, actions, activation=torch.relu):
    """A plain MLP, row by row; `weights` are its matrices and biases in order."""
    out = []
    for s, a in zip(state, actions, strict=True):
        x = torch.cat([s, a])
        *hidden, (matrix, bias) = zip(weights[::2], weights[1::2], strict=True)
        for m, b in hidden:
            x = activation(m @ x + b)
        out.append((matrix @ x + bias)[0])
    return torch.stack(out)


@pytest.mark.parametrize("num_critics", [1, 2])
def test_values_equal_a_plain_network_of_state_and_actions(num_critics):
    module, (state, actions) = critic(num_critics=num_critics), batch()
    values = module.q_values(state, actions)
    assert values.shape == (num_critics, ROWS)
    for j in range(num_critics):
        expected = slow_values(list(module.networks[j].parameters()), state, actions)
        torch.testing.assert_close(values[j], expected)
    assert torch.equal(module.first_q_values(state, actions), values[0])
    out = module.forward_train({Columns.OBS: state, Columns.ACTIONS: actions})
    assert torch.equal(out[QF_PREDS], values)


def test_two_critics_start_from_different_weights():
    values = critic(num_critics=2).q_values(*batch())
    assert (values[0] != values[1]).all()


def test_settings_of_the_model():
    other = critic(critic_hidden_sizes=[3], activation="tanh", layer_norm=True)
    layers = [type(m).__name__ for m in other.networks[0].modules() if not list(m.children())]
    assert layers == ["LayerNorm", "Linear", "Tanh", "LayerNorm", "Linear"]
    assert other.networks[0][0][1].weight.shape == (3, STATE + ACTIONS)
    assert critic().networks[0][1].weight.shape == (1, 7)


def test_weights_start_as_pytorch_makes_them():
    torch.manual_seed(0)
    module = TeamQCritic(**SPACES, model_config={"hidden_sizes": [200, 200]})
    for layer in (m for m in module.networks.modules() if isinstance(m, torch.nn.Linear)):
        bound = 1 / math.sqrt(layer.in_features)
        for weights in (layer.weight, layer.bias):
            assert weights.abs().max() <= bound
        # Uniform within the bounds: the variance is bound^2 / 3.
        assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.2)
        assert (layer.bias != 0).all()


# Targets.


def test_targets_start_equal_and_stay_when_the_critic_learns():
    module, (state, actions) = critic(num_critics=2), batch()
    before = module.q_values(state, actions).detach()
    assert torch.equal(module.target_q_values(state, actions), before)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module.q_values(state, actions).sum().backward()
    optimizer.step()
    assert torch.equal(module.target_q_values(state, actions), before)
    assert (module.q_values(state, actions) != before).all()


def test_pairs_are_all_there_is_of_the_values_and_move_the_targets_alone():
    module, (state, actions) = critic(num_critics=2, num_temperatures=3), batch()
    pairs = module.target_pairs()
    targets, online = zip(*pairs, strict=True)
    frozen = [p for p in module.parameters() if not p.requires_grad]
    assert {id(p) for p in targets} == {id(p) for p in frozen}
    assert [id(p) for p in online] == [id(p) for p in module.q_parameters()]
    for p in online:
        p.data += torch.randn_like(p)
    kept = [p.detach().clone() for p in online]
    old, new = (f(state, actions).detach() for f in (module.target_q_values, module.q_values))
    assert (old != new).all()
    with torch.no_grad():
        torch._foreach_lerp_(targets, online, 1.0)
    assert torch.equal(module.target_q_values(state, actions), new)
    assert all(torch.equal(p, k) for p, k in zip(online, kept, strict=True))


def test_a_gradient_passes_the_targets_to_the_actions_only():
    module, (state, actions) = critic(), batch()
    module.target_q_values(state, actions.requires_grad_()).sum().backward()
    assert (actions.grad != 0).any()
    assert all(p.grad is None for p in module.parameters())


# Temperatures.


def test_temperatures():
    assert critic().temperatures() == []
    module = critic(num_temperatures=3, initial_alpha=0.2)
    assert [p.shape for p in module.temperatures()] == [(3,)]
    for p in module.temperatures():
        torch.testing.assert_close(p.exp(), torch.full_like(p, 0.2))
    trained = {id(p) for p in module.parameters() if p.requires_grad}
    apart = [id(p) for p in (*module.q_parameters(), *module.temperatures())]
    assert len(apart) == len(set(apart)) and set(apart) == trained


# Among other modules.


def multi_module(seed):
    torch.manual_seed(seed)
    spec = MultiRLModuleSpec(
        rl_module_specs={
            "a": RLModuleSpec(
                module_class=TeamActor,
                observation_space=Box(-1.0, 1.0, (3,), np.float32),
                action_space=Box(-1.0, 1.0, (2,), np.float32),
            ),
            "critic": RLModuleSpec(
                module_class=TeamQCritic,
                learner_only=True,
                model_config={"num_critics": 2, "num_temperatures": 2},
                **SPACES,
            ),
        }
    )
    return spec.build()


def test_targets_and_temperatures_are_part_of_the_state():
    one, other = multi_module(0), multi_module(1)
    for p in one["critic"].parameters():
        p.data += torch.rand_like(p)
    other.set_state(one.get_state())
    state, actions = batch()
    for name in ("q_values", "target_q_values"):
        expected, actual = (getattr(m["critic"], name)(state, actions) for m in (one, other))
        assert torch.equal(actual, expected)
    for expected, actual in zip(
        one["critic"].temperatures(), other["critic"].temperatures(), strict=True
    ):
        assert torch.equal(actual, expected)
