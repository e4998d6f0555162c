"""The joint critics: both networks answer as the enumeration of all joint actions does."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, MultiDiscrete

from rllib_hetero.functional import joint_actions, values_in_turn
from rllib_hetero.modules.joint_q import JOINT_CRITIC, MAX_JOINT_SIZE, JointQCritic

NVEC = (2, 4, 3)
JOINT = torch.tensor(list(itertools.product(*(range(n) for n in NVEC))))
STATE, ROWS = 5, 7
KINDS = ["exact", "one_hot"]
ALIVE = torch.ones(ROWS, 3, dtype=torch.bool)


def critic(kind, nvec=NVEC, seed=0, **model):
    torch.manual_seed(seed)
    module = JointQCritic(
        observation_space=Box(-1.0, 1.0, (STATE,), np.float32),
        action_space=MultiDiscrete(list(nvec)),
        model_config={
            JOINT_CRITIC: kind,
            "hidden_sizes": [16, 12],
            "dueling_hidden_sizes": [8],
            **model,
        },
    ).double()
    for p in module.q_parameters():
        p.data += 0.3 * torch.randn_like(p)
    return module


def draw(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    actions = np.stack([rng.integers(0, n, size=rows) for n in NVEC], axis=-1)
    return torch.from_numpy(rng.normal(size=(rows, STATE))), torch.from_numpy(actions)


def table(module, state, active):
    """(B, N) values of all joint actions, asked for one by one."""
    values = module.at(state, active)
    return torch.stack([values.of(a.expand(len(state), 3)) for a in JOINT], dim=-1)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_values_of_the_joint_actions(kind, layer_norm):
    module, (state, actions) = critic(kind, layer_norm=layer_norm), draw()
    values = module.at(state, ALIVE)
    assert values.of(actions).shape == (ROWS,)
    for i, n in enumerate(NVEC):
        row = values.of_agent(i, actions)
        assert row.shape == (ROWS, n)
        for a in range(n):
            joint = actions.clone()
            joint[:, i] = a
            torch.testing.assert_close(row[:, a], values.of(joint))
        assert row.std(-1).min() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_the_joint_greedy_action_is_the_enumerated_one(kind):
    module, (state, _) = critic(kind), draw()
    values = table(module, state, ALIVE)
    if kind == "exact":  # In one look: the outputs are numbered like the enumeration.
        assert torch.equal(module.network.network(state), values)
    best = joint_actions(values.argmax(-1), NVEC)
    for b in range(ROWS):
        scores = {tuple(a.tolist()): values[b, k].item() for k, a in enumerate(JOINT)}
        assert tuple(best[b].tolist()) == max(scores, key=scores.get)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_choosing_in_turn_is_choosing_from_the_enumeration(kind, masked):
    module, (state, actions) = critic(kind), draw()
    order, rng = [1, 2, 0], np.random.default_rng(1)
    masks = [torch.from_numpy(rng.random((ROWS, n)) < 0.5) for n in NVEC]
    for mask in masks:
        mask[:, -1] = True
    if not masked:
        masks = [torch.ones_like(m) for m in masks]
    values = table(module, state, ALIVE).reshape(ROWS, *NVEC)
    out = values_in_turn(
        module.at(state, ALIVE).of_agent, actions, order, masks if masked else None
    )
    for b in range(ROWS):
        joint = actions[b].tolist()
        for i in order:
            assert out.values[b, i].item() == pytest.approx(values[(b, *joint)].item())
            options = [(*joint[:i], a, *joint[i + 1 :]) for a in range(NVEC[i]) if masks[i][b, a]]
            joint = list(max(options, key=lambda j: values[(b, *j)].item()))
        assert out.best[b].tolist() == joint


@pytest.mark.parametrize("kind", KINDS)
def test_actions_of_dead_agents_are_not_read(kind):
    module, (state, actions) = critic(kind), draw()
    active = ALIVE.clone()
    active[::2, 1] = False
    other = actions.clone()
    other[:, 1] = (other[:, 1] + 1) % NVEC[1]
    one, two = (
        f(module.at(state, active))
        for f in (
            lambda v: [v.of(actions), v.of_agent(0, actions)],
            lambda v: [v.of(other), v.of_agent(0, other)],
        )
    )
    for x, y in zip(one, two, strict=True):
        assert torch.equal(x[::2], y[::2]) and (x[1::2] != y[1::2]).all()


def test_the_first_layer_adds_up_what_a_plain_network_would_get():
    module, (state, actions) = critic("one_hot"), draw()
    active = torch.rand(ROWS, 3) < 0.5
    network = module.network
    values = module.at(state, active).of(actions)
    for b in range(ROWS):
        one_hots = [
            float(a == taken and bool(alive))
            for n, taken, alive in zip(NVEC, actions[b].tolist(), active[b], strict=True)
            for a in range(n)
        ]
        x = torch.cat([state[b], torch.tensor(one_hots).double()])
        torch.testing.assert_close(values[b], network.rest(network.first(x))[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_network_and_not_the_target(kind):
    module, (state, actions) = critic(kind), draw()
    before = module.target_at(state, ALIVE).of(actions)
    module.at(state, ALIVE).of(actions).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.q_parameters())
    targets, online = zip(*module.target_pairs(), strict=True)
    assert [id(p) for p in online] == [id(p) for p in module.q_parameters()]
    assert not any(p.requires_grad for p in targets)
    with torch.no_grad():
        torch._foreach_lerp_(targets, online, 1.0)
    after = module.target_at(state, ALIVE).of(actions)
    assert (after != before).all() and torch.equal(after, module.at(state, ALIVE).of(actions))


def test_joint_heads_that_are_too_large_are_refused():
    at_most = critic("exact", nvec=(8,) * 4)
    assert at_most.network.network[1].advantage[-1].out_features == MAX_JOINT_SIZE == 4096
    with pytest.raises(ValueError, match=r"4,098 of 2 agents.*joint_critic='one_hot'"):
        critic("exact", nvec=(2, 2049))
    # The other network grows with the sum.
    assert critic("one_hot", nvec=(9,) * 20).network.first.in_features == STATE + 180


def test_the_head_is_the_papers_dueling_network():
    module, (state, _) = critic("exact"), draw()
    body, head = module.network.network
    layers = [type(m).__name__ for m in body]
    assert layers == ["Linear", "ReLU"] * 2
    for branch, size in ((head.value, 1), (head.advantage, 24)):
        assert [type(m).__name__ for m in branch] == ["Linear", "Hardswish", "Linear"]
        assert branch[0].weight.shape == (8, 12) and branch[2].weight.shape == (size, 8)
    features = body(state)
    advantages = head.advantage(features)
    expected = head.value(features) + advantages - advantages.sum(-1, keepdim=True) / 24
    torch.testing.assert_close(table(module, state, ALIVE), expected)
