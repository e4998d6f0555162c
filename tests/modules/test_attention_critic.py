"""The attention critic against loops over rows, agents and heads."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, MultiDiscrete
from toys import ULP

from rllib_hetero.modules.attention_critic import (
    OBSERVATION_SIZES,
    VALUED_AGENTS,
    AttentionCritic,
    in_attention,
    picked,
)
from rllib_hetero.modules.critic import NUM_CRITICS

SIZES, NVEC = [3, 5, 2, 4], [2, 4, 3, 2]
ROWS, H, SIZE = 7, 2, 6


def critic(valued=None, num_critics=1, seed=0, **model):
    torch.manual_seed(seed)
    return AttentionCritic(
        observation_space=Box(-np.inf, np.inf, (sum(SIZES),), np.float32),
        action_space=MultiDiscrete(NVEC),
        learner_only=True,
        model_config={
            OBSERVATION_SIZES: SIZES,
            VALUED_AGENTS: valued,
            NUM_CRITICS: num_critics,
            "attention_size": SIZE,
            "num_attention_heads": H,
            **model,
        },
    )


def batch(seed=1):
    rng = torch.Generator().manual_seed(seed)
    seen = [torch.randn(ROWS, d, generator=rng) for d in SIZES]
    actions = [torch.eye(p)[torch.randint(p, (ROWS,), generator=rng)] for p in NVEC]
    active = torch.ones(ROWS, len(SIZES), dtype=torch.bool)
    active[1, 0] = active[2, 2] = active[2, 3] = False
    active[3] = torch.tensor([True, False, False, False])  # nobody else lives
    active[4] = False
    return seen, actions, active


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def slow_values(network, seen, actions, active, row, i):
    """Q_i of all own actions in one row, and the penalty, in double precision."""
    w = {k: p.detach().double().numpy() for k, p in network.named_parameters()}
    o, a = ([x[row].double().numpy() for x in xs] for xs in (seen, actions))
    state = leaky(w[f"states.{i}.0.weight"] @ o[i] + w[f"states.{i}.0.bias"])
    others = [j for j in range(len(SIZES)) if j != i and active[row, j]]
    attended, penalty, wide = [], 0.0, SIZE // H
    for h in range(H):
        part = slice(h * wide, (h + 1) * wide)
        query = w["attention.queries.weight"][part] @ state
        logits, values = [], []
        for j in others:
            encoder = (w[f"attention.encoders.{j}.0.{x}"] for x in ("weight", "bias"))
            weight, bias = encoder
            feature = leaky(weight @ np.concatenate([o[j], a[j]]) + bias)
            logits.append(query @ (w["attention.keys.weight"][part] @ feature))
            value, bias = (w[f"attention.values.0.{x}"][part] for x in ("weight", "bias"))
            values.append(leaky(value @ feature + bias))
        total = sum(math.exp(x / math.sqrt(wide)) for x in logits)
        shares = [math.exp(x / math.sqrt(wide)) / total for x in logits]
        attended.append(sum((s * v for s, v in zip(shares, values, strict=True)), np.zeros(wide)))
        penalty += sum(x**2 for x in logits) / max(len(logits), 1)
    x = np.concatenate([state, *attended])
    x = leaky(w[f"heads.{i}.0.weight"] @ x + w[f"heads.{i}.0.bias"])
    return w[f"heads.{i}.2.weight"] @ x + w[f"heads.{i}.2.bias"], penalty


@pytest.mark.parametrize("valued", [None, [2], [3, 0]])
def test_values_are_those_of_loops_over_agents_and_heads(valued):
    module = critic(valued, num_critics=2)
    data = batch()
    for network, out in zip(module.networks, module.q_values(*data), strict=True):
        assert len(out.values) == out.magnitudes.shape[1] == len(valued or SIZES)
        for m, i in enumerate(valued or range(len(SIZES))):
            for row in range(ROWS):
                expected, penalty = slow_values(network, *data, row, i)
                # Layers of at most 2 * SIZE terms, one behind the other, of numbers of order 1.
                allowed = 8 * 2 * SIZE * ULP * max(1.0, np.abs(expected).max())
                np.testing.assert_allclose(
                    out.values[m][row].detach().numpy(), expected, rtol=0, atol=allowed
                )
                assert float(out.magnitudes[row, m].detach()) == pytest.approx(
                    penalty, rel=8 * 2 * SIZE * ULP, abs=8 * 2 * SIZE * ULP
                )


def test_an_agent_that_is_dead_is_attended_to_by_nobody_and_an_own_action_is_not_read():
    module = critic()
    seen, actions, active = batch()
    (before,) = module.q_values(seen, actions, active)
    moved = [x.clone() for x in seen]
    moved[2][2], moved[3][2] = 100.0, -50.0  # both are dead in row 2
    (after,) = module.q_values(moved, actions, active)
    for i in (0, 1):
        assert torch.equal(before.values[i][2], after.values[i][2])
    other = [x.clone() for x in actions]
    other[1] = torch.eye(NVEC[1])[torch.zeros(ROWS, dtype=torch.long)]
    (after,) = module.q_values(seen, other, active)
    assert torch.equal(before.values[1], after.values[1])
    assert not torch.equal(before.values[0], after.values[0])


def test_a_module_of_one_agent_is_part_of_the_module_of_all():
    """With the same numbers it says the same, and the attention lies in the same order."""
    whole, own = critic(), critic([2], seed=5)
    mine, everyones = dict(own.networks.named_parameters()), dict(whole.networks.named_parameters())
    assert [n for n in mine if in_attention(n)] == [n for n in everyones if in_attention(n)]
    assert {n for n in mine if not in_attention(n)} == {
        n for n in everyones if n.startswith(("0.states.2.", "0.heads.2."))
    }
    kinds = {n.split(".")[2] for n in mine if in_attention(n)}
    assert kinds == {"encoders", "keys", "queries", "values"}
    with torch.no_grad():
        for name, p in mine.items():
            p.copy_(everyones[name])
    ((alone,), (together,)) = own.q_values(*batch()), whole.q_values(*batch())
    assert torch.equal(alone.values[0], together.values[2])
    assert sum(p.numel() for p in own.attention_parameters()) == sum(
        p.numel() for n, p in everyones.items() if in_attention(n)
    )


def test_targets_start_as_copies_and_take_no_gradient():
    module = critic(num_critics=2)
    data = batch()
    for online, target in zip(module.q_values(*data), module.target_q_values(*data), strict=True):
        for q, t in zip(online.values, target.values, strict=True):
            assert torch.equal(q, t) and not t.requires_grad
    assert len(module.target_pairs()) == len(module.q_parameters())


def test_one_agent_alone_attends_to_nobody():
    torch.manual_seed(0)
    module = AttentionCritic(
        observation_space=Box(-1.0, 1.0, (3,), np.float32),
        action_space=MultiDiscrete([2]),
        learner_only=True,
        model_config={OBSERVATION_SIZES: [3], "attention_size": 4, "num_attention_heads": 1},
    )
    ones = torch.ones(5, 1, dtype=torch.bool)
    (out,) = module.q_values([torch.randn(5, 3)], [torch.eye(2)[torch.zeros(5).long()]], ones)
    assert torch.isfinite(out.values[0]).all() and not out.magnitudes.any()
    out.values[0].sum().backward()
    unused = [p.grad for p in module.attention_parameters()]
    assert all(g is None or not g.any() for g in unused)


def test_the_modules_pass_gives_the_taken_actions_values():
    module = critic(num_critics=2)
    seen, actions, _ = batch()
    chosen = torch.stack([a.argmax(-1) for a in actions], -1)
    out = module.forward_train({"obs": torch.cat(seen, -1), "actions": chosen})["qf_preds"]
    alive = torch.ones(ROWS, len(SIZES), dtype=torch.bool)
    for k, said in enumerate(module.q_values(seen, actions, alive)):
        for i, q in enumerate(picked(said.values, actions)):
            assert torch.equal(out[k, :, i], q)


def test_heads_must_share_the_units_evenly():
    with pytest.raises(ValueError, match=r"num_attention_heads.*rl_module"):
        critic(num_attention_heads=4)
