"""Mixers: their formula, monotony, and that the greedy joint action is everyone's greedy one."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from rllib_hetero.modules.mixer import MonotonicMixer, SumMixer, TeamMixer

AGENTS, STATE, ROWS = 3, 4, 20
LAYERS = [1, 2]
SEEDS = range(3)


def mixer(seed=0, layers=2):
    """A mixer whose weights are large enough for both signs and both sides of the ELU."""
    torch.manual_seed(seed)
    out = MonotonicMixer(AGENTS, STATE, embed=5, hypernet_layers=layers, hypernet_embed=6)
    for p in out.parameters():
        p.data += torch.randn_like(p)
    return out.double()


def draw(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return (
        torch.from_numpy(rng.normal(size=(*shape, AGENTS))),
        torch.from_numpy(rng.normal(size=(*shape, STATE))),
    )


def team_mixer(name, seed=0, **model):
    torch.manual_seed(seed)
    return TeamMixer(
        observation_space=Box(-1.0, 1.0, (STATE,), np.float32),
        action_space=Box(-np.inf, np.inf, (AGENTS,), np.float32),
        model_config={"mixer": name, **model},
    )


def by_hand(net, state):
    """A network of one or two linear layers, as numbers."""
    linears = [m for m in net.modules() if isinstance(m, torch.nn.Linear)]
    x = state
    for k, layer in enumerate(linears):
        x = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()
        if k + 1 < len(linears):
            x = np.maximum(x, 0.0)
    return x


@pytest.mark.parametrize("layers", LAYERS)
def test_values_equal_the_formula_row_by_row(layers):
    net, (q, state) = mixer(layers=layers), draw(ROWS)
    actual = net(q, state)
    assert actual.shape == (ROWS,)
    signs = set()
    for b in range(ROWS):
        s = state[b].numpy()
        first = np.abs(by_hand(net.first_weights, s)).reshape(AGENTS, 5)
        inside = q[b].numpy() @ first + by_hand(net.first_bias, s)
        hidden = np.where(inside > 0, inside, np.exp(inside) - 1.0)
        expected = np.abs(by_hand(net.second_weights, s)) @ hidden + by_hand(net.second_bias, s)
        assert actual[b].item() == pytest.approx(expected[0], rel=1e-12)
        signs |= set(np.sign(inside))
    assert signs == {-1.0, 1.0}


def test_the_number_of_layers():
    def linears(net):
        return sum(isinstance(m, torch.nn.Linear) for m in net.modules())

    for layers in LAYERS:
        net = MonotonicMixer(AGENTS, STATE, hypernet_layers=layers)
        assert [linears(x) for x in (net.first_weights, net.second_weights)] == [layers] * 2
        # The biases are as in the paper, whatever the weights' networks are.
        assert [linears(x) for x in (net.first_bias, net.second_bias)] == [1, 2]
    with pytest.raises(ValueError, match="hypernet_layers"):
        MonotonicMixer(AGENTS, STATE, hypernet_layers=3)


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_team_value_never_falls_with_an_agents_value(seed, layers):
    net, (q, state) = mixer(seed, layers), draw(200, seed=seed)
    q.requires_grad_()
    total = net(q, state)
    (slopes,) = torch.autograd.grad(total.sum(), q)
    assert (slopes >= 0).all() and (slopes > 0).any(0).all()
    for i, rise in itertools.product(range(AGENTS), (1e-3, 1.0, 50.0)):
        higher = q.detach().clone()
        higher[:, i] += rise
        assert (net(higher, state) >= total).all()


@pytest.mark.parametrize("make", [mixer, lambda seed: SumMixer()], ids=["monotonic", "sum"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_greedy_joint_action_is_the_enumerated_one(seed, make):
    net, rng = make(seed), np.random.default_rng(seed)
    counts = (2, 4, 3)
    for _ in range(10):
        values = [torch.from_numpy(3 * rng.normal(size=n)) for n in counts]
        state = torch.from_numpy(rng.normal(size=STATE))
        joint = list(itertools.product(*(range(n) for n in counts)))
        q = torch.cartesian_prod(*values)
        totals = net(q, state.expand(len(joint), STATE))
        assert joint[int(totals.argmax())] == tuple(int(v.argmax()) for v in values)


@pytest.mark.parametrize("shape", [(), (0,), (4, 3), (2, 1, 3)])
@pytest.mark.parametrize("net", [mixer(), SumMixer()], ids=["monotonic", "sum"])
def test_leading_axes(net, shape):
    q, state = draw(*shape)
    together = net(q, state)
    assert together.shape == shape
    for row in np.ndindex(*shape):
        torch.testing.assert_close(together[row], net(q[row], state[row]))


def test_the_sum():
    assert SumMixer()(torch.tensor([[1.0, 2.0, 4.0]]), torch.zeros(1, 0)).tolist() == [7.0]


# The module.


@pytest.mark.parametrize("name", ["monotonic", "sum", "none"])
def test_dead_agents_enter_with_zero_and_are_not_read(name):
    module, (q, state) = team_mixer(name), [x.float() for x in draw(ROWS)]
    active = torch.rand(ROWS, AGENTS) < 0.5
    holes = torch.where(active, q, torch.nan).requires_grad_()
    for mix in (module.mix, module.mix_target):
        actual = mix(holes, state, active)
        expected = module.mixer(torch.where(active, q, 0.0), state)
        assert torch.equal(actual, expected)
    module.mix(holes, state, active).sum().backward()
    assert (holes.grad[~active] == 0).all() and holes.grad.isfinite().all()


def test_nothing_is_mixed_where_there_is_no_mixer():
    module, (q, state) = team_mixer("none"), draw(ROWS)
    assert torch.equal(module.mix(q, state, torch.ones(ROWS, AGENTS, dtype=torch.bool)), q)
    assert module.q_parameters() == []


def test_settings_of_the_model():
    net = team_mixer("monotonic").mixer
    assert net.first_weights[0].weight.shape == (64, STATE)
    assert net.first_weights[2].weight.shape == (32 * AGENTS, 64)
    net = team_mixer("monotonic", mixing_embed_dim=8, hypernet_layers=1).mixer
    assert net.first_weights.weight.shape == (8 * AGENTS, STATE)
    net = team_mixer("monotonic", hypernet_embed=16).mixer
    assert net.second_weights[0].weight.shape == (16, STATE)
    with pytest.raises(ValueError, match="Unknown mixer"):
        team_mixer("product")


def test_targets_start_equal_and_move_alone():
    module, (q, state) = team_mixer("monotonic"), [x.float() for x in draw(ROWS)]
    active = torch.ones(ROWS, AGENTS, dtype=torch.bool)
    before = module.mix(q, state, active).detach()
    targets, online = zip(*module.target_pairs(), strict=True)
    assert [id(p) for p in online] == [id(p) for p in module.q_parameters()]
    assert len(targets) + len(online) == len(list(module.parameters()))
    for p in online:
        p.data += torch.rand_like(p)
    assert torch.equal(module.mix_target(q, state, active), before)
    with torch.no_grad():
        torch._foreach_lerp_(targets, online, 1.0)
    assert torch.equal(module.mix_target(q, state, active), module.mix(q, state, active))
    assert not any(p.requires_grad for p in targets)
    assert team_mixer("sum").target_pairs() == team_mixer("sum").q_parameters() == []
