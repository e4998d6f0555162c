"""Recurrent modules: against torch's own cells, step by step, stacked and over sequences."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from rllib_hetero import TeamError
from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.critic import TeamCritic
from rllib_hetero.modules.memory import (
    Memory,
    forward_sequences,
    initial_state,
    pack,
    state_size,
    unpack,
)
from rllib_hetero.modules.stacked import stacked_forward

KINDS = ["gru", "lstm"]


class Leaky(TorchRLModule):
    """Somebody's own stateful module, with two states of unequal size; explores otherwise."""

    def setup(self):
        self.layer = torch.nn.Linear(4, 3)

    def get_initial_state(self):
        return {"slow": np.full(3, 0.5, np.float32), "fast": np.zeros(1, np.float32)}

    def _forward(self, batch, scale=1.0, **kwargs):
        slow, fast = batch[Columns.STATE_IN]["slow"], batch[Columns.STATE_IN]["fast"]
        outs = []
        for x in self.layer(batch[Columns.OBS]).unbind(1):
            slow, fast = 0.9 * slow + x, x[:, :1]
            outs.append(scale * (slow + fast))
        state = {"slow": slow, "fast": fast}
        return {Columns.ACTION_DIST_INPUTS: torch.stack(outs, 1), Columns.STATE_OUT: state}

    def _forward_exploration(self, batch, **kwargs):
        return self._forward(batch, scale=2.0)


def module(cls=TeamActor, space=None, **model):
    m = cls(
        observation_space=Box(-1.0, 1.0, (4,), np.float32),
        action_space=space or Discrete(3),
        model_config={"hidden_sizes": [8, 7], "actor_head_gain": 1.0, **model},
    )
    for p in m.parameters():  # All weights different, those of LayerNorm and the biases too.
        p.data += 0.3 * torch.randn_like(p)
    return m.eval()


def step_by_step(m, x, state):
    """(N, L, p) and (N, S) by single steps of the module itself."""
    outs = []
    for rows in x.unbind(1):
        batch = {Columns.OBS: rows[:, None], Columns.STATE_IN: unpack(state, m)}
        with torch.no_grad():
            out = m.forward_inference(batch)
        outs.append(out[Columns.ACTION_DIST_INPUTS][:, 0])
        state = pack(out[Columns.STATE_OUT])
    return torch.stack(outs, 1), state


# ---- the layer ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_torchs_cell(kind, layer_norm):
    torch.manual_seed(0)
    memory = Memory(kind, 5, 6, layer_norm=layer_norm)
    for p in memory.parameters():
        p.data += 0.3 * torch.randn_like(p)
    cell = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[kind](5, 6)
    for name, p in cell.named_parameters():
        p.data.copy_(getattr(memory.layer, f"{name}_l0"))
    x = torch.randn(3, 7, 5)
    state = {name: torch.randn(3, 6) for name in memory.initial_state()}
    assert set(state) == ({"h"} if kind == "gru" else {"h", "c"})
    out, after = memory(x, state)
    h, c = state["h"], state.get("c")
    expected = []
    for rows in x.unbind(1):
        if kind == "gru":
            h = cell(rows, h)
        else:
            h, c = cell(rows, (h, c))
        expected.append(memory.norm(h))
    torch.testing.assert_close(out, torch.stack(expected, 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after["h"], h, rtol=1e-5, atol=1e-6)
    if kind == "lstm":
        torch.testing.assert_close(after["c"], c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_weights(kind):
    memory = Memory(kind, 6, 6)
    for name, p in memory.layer.named_parameters():
        if name.startswith("bias"):
            assert (p == 0).all()
        else:
            torch.testing.assert_close(p.T @ p, torch.eye(6), rtol=0, atol=1e-5)
    assert all((s == 0).all() and s.shape == (6,) for s in memory.initial_state().values())


# ---- modules --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_actor_keeps_rllibs_conventions(kind, size):
    m = module(recurrent=kind, recurrent_size=size)
    units = size or 7
    assert m.is_stateful()
    state = {name: torch.randn(6, units) for name in m.get_initial_state()}
    out = m.forward_train({Columns.OBS: torch.randn(6, 9, 4), Columns.STATE_IN: state})
    assert out[Columns.ACTION_DIST_INPUTS].shape == (6, 9, 3)
    assert {k: x.shape for k, x in out[Columns.STATE_OUT].items()} == dict.fromkeys(
        state, (6, units)
    )


def test_feed_forward_actor_is_not_stateful():
    m = module()
    assert m.get_initial_state() == {} and not m.is_stateful() and state_size(m) == 0
    assert initial_state(m).shape == (0,)
    assert set(m.forward_train({Columns.OBS: torch.randn(2, 4)})) == {Columns.ACTION_DIST_INPUTS}


@pytest.mark.parametrize("cls", [TeamActor, TeamCritic])
def test_unknown_kinds_and_sizes(cls):
    key = "recurrent" if cls is TeamActor else "critic_recurrent"
    with pytest.raises(ValueError, match=rf"'rnn'.*rl_module\(model_config=\{{'{key}'"):
        module(cls, **{key: "rnn"})
    with pytest.raises(ValueError, match=r"positive.*0.*'recurrent_size'"):
        module(cls, **{key: "gru"}, recurrent_size=0)
    with pytest.raises(ValueError, match=r"a sign; the memory has 2.*'recurrent_size'"):
        module(cls, **{key: "gru"}, recurrent_size=2)
    module(cls, **{key: "gru"}, recurrent_size=2, layer_norm=False)


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_critic(kind):
    critic = module(TeamCritic, Box(-1.0, 1.0, (1,)), critic_recurrent=kind, recurrent_size=5)
    assert not module(TeamCritic, recurrent=kind).is_stateful()  # that is the actor's
    x, state = torch.randn(3, 6, 4), initial_state(critic).repeat(3, 1)
    batch = {Columns.OBS: x, Columns.STATE_IN: unpack(state, critic)}
    values, after = critic.compute_values_and_state(batch)
    assert values.shape == (3, 6)
    torch.testing.assert_close(critic.compute_values(batch), values)
    out = critic.forward_train(batch)
    torch.testing.assert_close(out[Columns.VF_PREDS], values)
    torch.testing.assert_close(pack(out[Columns.STATE_OUT]), pack(after))
    single = []
    for rows in x.unbind(1):
        v, states = critic.compute_values_and_state(
            {Columns.OBS: rows[:, None], Columns.STATE_IN: unpack(state, critic)}
        )
        single.append(v[:, 0])
        state = pack(states)
    torch.testing.assert_close(values, torch.stack(single, 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pack(after), state, rtol=1e-5, atol=1e-6)


def test_masked_observations_of_the_stock_runner():
    m = module()
    x, mask = torch.randn(5, 4), torch.tensor([1, 0, 1], dtype=torch.int8).repeat(5, 1)
    plain = m.forward_inference({Columns.OBS: x})[Columns.ACTION_DIST_INPUTS]
    out = m.forward_inference({Columns.OBS: {"observations": x, "action_mask": mask}})
    out = out[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(out[:, [0, 2]], plain[:, [0, 2]])
    assert (out[:, 1] == torch.finfo(torch.float32).min).all()


# ---- packed states --------------------------------------------------------------------------


def test_pack_and_unpack():
    lstm, own = module(recurrent="lstm", recurrent_size=5), module(Leaky)
    assert state_size(lstm) == 10 and state_size(own) == 4
    assert initial_state(own).tolist() == [0.0, 0.5, 0.5, 0.5]  # "fast" comes before "slow"
    states = {"slow": torch.randn(2, 6, 3), "fast": torch.randn(2, 6, 1)}
    packed = pack(states)
    torch.testing.assert_close(packed[..., :1], states["fast"])
    for name, s in unpack(packed, own).items():
        torch.testing.assert_close(s, states[name])
    packed = torch.randn(7, 10)
    torch.testing.assert_close(pack(unpack(packed, lstm)), packed)
    assert (unpack(packed, lstm)["h"] == packed[:, 5:]).all()


def test_states_must_be_vectors():
    class Layered(Leaky):
        def get_initial_state(self):
            return {"h": torch.zeros(1, 3)}

    with pytest.raises(TeamError, match=r"'h' of a Layered has the shape \(1, 3\)"):
        state_size(module(Layered))


# ---- sequences and stacks -------------------------------------------------------------------

MODULES = {
    "gru": lambda: module(recurrent="gru"),
    "lstm": lambda: module(recurrent="lstm", recurrent_size=5),
    "gru, no norm": lambda: module(recurrent="gru", layer_norm=False),
    "box": lambda: module(space=Box(-1.0, 1.0, (2,), np.float32), recurrent="lstm"),
    "own": lambda: module(Leaky),
}


@pytest.mark.parametrize("kind", list(MODULES))
def test_sequences_equal_single_steps(kind):
    torch.manual_seed(1)
    m = MODULES[kind]()
    x, state = torch.randn(3, 6, 4), torch.randn(3, state_size(m))
    out, after = forward_sequences(m, x, state)
    expected, last = step_by_step(m, x, state)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after, last, rtol=1e-5, atol=1e-6)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in m.parameters())


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize("num", [1, 3])
@pytest.mark.parametrize("kind", list(MODULES))
def test_stack_equals_each_modules_own_steps(kind, num, explore, monkeypatch):
    torch.manual_seed(num)
    modules = [MODULES[kind]() for _ in range(num)]
    x, memory = torch.randn(num, 6, 5, 4), torch.randn(num, 6, state_size(modules[0]))
    expected = [step_by_step(m, rows, s) for m, rows, s in zip(modules, x, memory, strict=True)]
    if kind != "own":  # One batched network: their own passes are not called.
        monkeypatch.setattr(TeamActor, "_forward", None)
    forward = stacked_forward(modules, explore=explore)
    outs, before = [], memory.clone()
    for t in range(5):
        given = memory
        out, memory = forward(x[:, :, t], given)
        outs.append(out)
        if t == 0:
            torch.testing.assert_close(given, before)  # not written to
    scale = 2.0 if explore and kind == "own" else 1.0
    torch.testing.assert_close(
        torch.stack(outs, 2), scale * torch.stack([e[0] for e in expected]), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(memory, torch.stack([e[1] for e in expected]), rtol=1e-5, atol=1e-5)


def test_stack_of_unequal_memories():
    """States are padded to the largest; a feed-forward module has none."""
    torch.manual_seed(0)
    modules = [MODULES["gru"](), MODULES["lstm"](), module(), MODULES["own"]()]
    sizes = [state_size(m) for m in modules]
    assert sizes == [7, 10, 0, 4]
    x, memory = torch.randn(4, 6, 5, 4), torch.randn(4, 6, 10)
    first, outs = memory.clone(), []
    forward = stacked_forward(modules, explore=False)
    for t in range(5):
        out, memory = forward(x[:, :, t], memory)
        outs.append(out)
    out = torch.stack(outs, 2)
    for i, (m, size) in enumerate(zip(modules, sizes, strict=True)):
        if not size:
            with torch.no_grad():
                expected = m.forward_inference({Columns.OBS: x[i]})[Columns.ACTION_DIST_INPUTS]
        else:
            expected, last = step_by_step(m, x[i], first[i, :, :size])
            torch.testing.assert_close(memory[i, :, :size], last, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(out[i], expected, rtol=1e-5, atol=1e-5)
