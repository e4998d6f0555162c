"""Modules with a memory in the learner: chunks, states, gradients, and a slow recurrent PPO.

The slow half steps cells one observation at a time, from the states that a fragment holds.
"""

import numpy as np
import pytest
import torch
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from test_learner_shares import assert_same, batches, start, train
from torch import nn
from toys import (
    PlainActor,
    PlainNet,
    SlowTeam,
    all_weights,
    make_learner,
    make_runner,
    names_of,
    sample,
    small_config,
    team_batch,
    update,
    watch_changes,
    watch_notes,
)

from rllib_hetero import (
    ALGORITHMS,
    A2POConfig,
    CoPPOConfig,
    HAPPOConfig,
    HATRPOConfig,
    MAPPOConfig,
)
from rllib_hetero.connectors.fragments_to_batch import ACTIVE, CHUNKS, FragmentsToTeamBatch
from rllib_hetero.functional import flat, unflat
from rllib_hetero.learners.on_policy import trust_region
from rllib_hetero.learners.on_policy.on_policy_learner import TOTAL
from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.memory import state_size

L = 3
EQUAL = {"agents": {a: (3, "discrete") for a in "abc"}}
kinds = pytest.mark.parametrize("kind", ["gru", "lstm"])


def recurrent(cls, env_config=None, *, actor="gru", critic=None, size=None, **training):
    model = {
        "recurrent": actor, "critic_recurrent": critic, "recurrent_size": size, "max_seq_len": L
    }  # fmt: skip
    return small_config(cls, env_config=env_config, model=model, **training)


def make(cls, env_config=None, **training):
    config = recurrent(cls, env_config, **training)
    return make_learner(config), make_runner(config)


# ---- chunks -----------------------------------------------------------------------------------


def hand_made_fragment(learner, runner):
    """8 steps of 3 environments, ends and failures set by hand, every stored state another."""
    (f,) = sample(runner, learner)
    for x in (f.terminated, f.truncated):
        x[:] = False
    f.valid[:] = True
    f.terminated[[1, 5], 0] = True  # one within a window, one at a window's end
    f.truncated[3, 1] = True
    f.valid[4, 1] = False  # the environment failed after that
    f.valid[0, 2] = False  # failed at once
    f.valid[[6, 7], 2] = False  # twice in a row, to the end
    f.truncated[5, 2] = True
    rng = np.random.default_rng(0)
    for x in f.states.values():
        x[:] = rng.normal(size=x.shape)
    return f


# (environment, first step, number of steps), and whether the stored state is the one to begin in.
EXPECTED = [
    (0, 0, 2, True), (0, 2, 1, False), (0, 3, 3, True), (0, 6, 2, True),
    (1, 0, 3, True), (1, 3, 1, True), (1, 5, 1, False), (1, 6, 2, True),
    (2, 1, 2, False), (2, 3, 3, True),
]  # fmt: skip


def test_chunks_are_those_expected():
    learner, runner = make(HAPPOConfig, {"dies": {"b": 2}})
    f = hand_made_fragment(learner, runner)
    connector = FragmentsToTeamBatch(layout=learner.config.layout, max_seq_len=L)
    batch = connector(rl_module=learner.module, batch={}, episodes=[f, f])
    chunks = batch["critic"][CHUNKS]

    places = [(e, t) for e in range(3) for t in range(8) if f.valid[t, e]]
    expected, states = [], []
    for e, t, n, stored in EXPECTED:
        first = places.index((e, t))
        expected.append([*range(first, first + n), *[-1] * (L - n)])
        assert places[first : first + n] == [(e, t + i) for i in range(n)]
        states.append(f.states["a"][t // L, e] if stored else np.zeros_like(f.states["a"][0, 0]))
    second = [[r + len(places) if r >= 0 else r for r in chunk] for chunk in expected]
    assert chunks.tolist() == expected + second
    # Every row is in one chunk.
    assert sorted(r for r in chunks.flatten().tolist() if r >= 0) == list(range(2 * len(places)))
    np.testing.assert_array_equal(batch["a"][Columns.STATE_IN], np.stack(states * 2))
    assert batch["a"][Columns.STATE_IN].shape == (20, 1, 16)
    assert Columns.STATE_IN not in batch["critic"]


def test_a_fragment_without_rows_has_no_chunks():
    learner, runner = make(HAPPOConfig, critic="gru")
    (f,) = sample(runner, learner)
    batch = team_batch(learner, [f.select(range(0))])
    assert batch["critic"][CHUNKS].shape == (0, L)
    assert batch["a"][Columns.STATE_IN].shape == (0, 1, 16)
    f.valid[:] = False
    batch = team_batch(learner, [f])
    assert batch["critic"][CHUNKS].shape == (0, L)


@pytest.mark.parametrize("length", [1, 2, 8, 50])
def test_any_length_of_chunks_covers_every_row_once(length):
    config = small_config(HAPPOConfig, model={"recurrent": "gru", "max_seq_len": length})
    learner, runner = make_learner(config), make_runner(config)
    batch = team_batch(learner, sample(runner, learner))
    chunks = batch["critic"][CHUNKS]
    assert chunks.shape[1] == length
    assert sorted(r for r in chunks.flatten().tolist() if r >= 0) == list(range(24))
    order = torch.arange(24.0)[:, None, None].expand(24, 1, 1)
    taken = learner._units.take({"x": order, ACTIVE: torch.ones(24, 1)}, slice(None))
    assert taken[ACTIVE].sum() == 24
    assert torch.equal(learner._units.put_back(taken["x"]), order)


# ---- the policy that sampled ------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("name", names_of("on-policy", ["Box"]))
def test_the_learner_finds_the_log_probabilities_of_the_runner(name, kind):
    """Over two fragments, the second of which begins in the middle of episodes."""
    cls = type(ALGORITHMS[name].get_default_config())
    learner, runner = make(cls, {"dies": {"b": 3}}, actor=kind)
    for _ in range(2):
        fragments = sample(runner, learner)
        changes, notes = watch_changes(learner), watch_notes(learner)
        update(learner, fragments)
        del learner.policy_change, learner.notes.add
        for m in "abc":
            (gap,) = notes[m, "sampler_logp_gap"]
            assert gap < 2e-5, m
            ratios = [c.ratio[rows[ACTIVE] > 0] for module, c, rows in changes if module == m]
            assert (ratios[0] == 1).all() and (ratios[-1] != 1).any()
    assert fragments[0].continues.all()


def test_runners_gap_would_be_seen_without_the_memory():
    learner, runner = make(HAPPOConfig)
    (f,) = sample(runner, learner)
    f.states["a"][:] = 0.0
    notes = watch_notes(learner)
    update(learner, [f])
    assert notes["a", "sampler_logp_gap"][0] > 1e-3


# ---- a slow recurrent PPO ---------------------------------------------------------------------


class PlainMemoryNet(PlainNet):
    """`PlainNet` with a cell before its head. The packed state of an LSTM is (c, h)."""

    def __init__(self, weights, *args):
        super().__init__(weights, *args)
        get = {k: torch.as_tensor(np.asarray(v)).clone() for k, v in weights.items()}
        gates, size = get["memory.layer.weight_hh_l0"].shape
        in_size = get["memory.layer.weight_ih_l0"].shape[1]
        self.is_gru = gates == 3 * size
        self.cell = (nn.GRUCell if self.is_gru else nn.LSTMCell)(in_size, size)
        self.after = nn.LayerNorm(size)
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(self.cell, part).data.copy_(get[f"memory.layer.{part}_l0"])
            self.names[f"cell.{part}"] = f"memory.layer.{part}_l0"
        for part in ("weight", "bias"):
            getattr(self.after, part).data.copy_(get[f"memory.norm.{part}"])
            self.names[f"after.{part}"] = f"memory.norm.{part}"
        self.state_size = size if self.is_gru else 2 * size

    def step(self, x, state):
        """One observation (1, d) and state (1, S) to an output (1, p) and the state after it."""
        features = self.net[:-1](x)
        if self.is_gru:
            h = state = self.cell(features, state)
        else:
            c, h = state.chunk(2, dim=-1)
            h, c = self.cell(features, (h, c))
            state = torch.cat([c, h], dim=-1)
        return self.net[-1](self.after(h)), state


class PlainMemoryActor(PlainMemoryNet, PlainActor):
    """Rows come with their number and their agent's, after the d numbers that were observed."""

    def parts(self, rows):
        outs, state = [], None
        for x in rows:
            number, agent = int(x[self.size]), int(x[self.size + 1])
            if (number, agent) in self.begins:
                state = self.begins[number, agent]
            seen = torch.cat([x[: self.size], x[self.size + 2 :]])
            out, state = self.step(seen[None], state)
            outs.append(out)
        self.__dict__["net"] = torch.cat  # The outputs are there already.
        try:
            return super().parts(outs)
        finally:
            del self.__dict__["net"]


class CriticRun:
    """What `SlowTeam` takes the critic's network for. States come with their row's number, and
    what follows row i with -(i + 1)."""

    def __init__(self, critic):
        self.critic = critic

    def __call__(self, states):
        outs, state = [], None
        for x in states:
            number = int(x[-1])
            if number < 0:
                state = self.after[-number - 1]
            elif number in self.begins or not torch.is_grad_enabled():
                state = self.before[number]
            out, state = self.critic.step(x[None, :-1], state)
            outs.append(out)
        return torch.cat(outs)


class SlowMemoryTeam(SlowTeam):
    """HAPPO and MAPPO with truncated backpropagation through chunks, in loops."""

    def __init__(self, learner):
        super().__init__(learner)
        c = self.c
        state = {m: learner.module[m].get_state() for m in learner.module.keys()}  # noqa: SIM118
        for m, agents in self.groups.items():
            if "memory.norm.weight" in state[m]:
                space = self.team.action_spaces[agents[0]]
                self.actors[m] = PlainMemoryActor(state[m], space)
                self.actors[m].size = self.team.observation_spaces[agents[0]].shape[0]
        net = "networks.0."
        critic = {k.removeprefix(net): v for k, v in state["critic"].items() if k.startswith(net)}
        self.critic_remembers = "memory.norm.weight" in critic
        if self.critic_remembers:
            self.critic = PlainMemoryNet(critic)
            self.critic_run = CriticRun(self.critic)
        self.kept = {}  # environment to the critic's memory
        self.optimizers = {
            m: torch.optim.Adam(net.parameters(), lr=c.lr, eps=c.adam_epsilon)
            for m, net in [*self.actors.items(), ("critic", self.critic)]
        }

    def rows(self, fragments):
        (f,) = fragments
        rows = super().rows(fragments)
        places = [(e, t) for e in range(f.valid.shape[1]) for t in range(len(f.valid))
                  if f.valid[t, e]]  # fmt: skip
        over = f.terminated | f.truncated | ~f.valid
        self.chunks = []
        for actor in self.actors.values():
            actor.begins = {}
        self.begin_memory(f)
        for i, (e, t) in enumerate(places):
            fresh = t > 0 and over[t - 1, e]
            if fresh or t % L == 0:
                self.chunks.append([])
                for m, agents in self.groups.items():
                    for k, a in enumerate(agents):
                        if m in f.states:
                            x = torch.from_numpy(f.states[m][t // L, e, k].copy())[None]
                            j = self.team.agents.index(a)
                            self.actors[m].begins[i, j] = torch.zeros_like(x) if fresh else x
            self.chunks[-1].append(i)
            for j, a in enumerate(self.team.agents):
                if isinstance(self.actors[self.module_of(a)], PlainMemoryActor):
                    rows[i].obs[a] = np.append(rows[i].obs[a], [i, j])
            self.remember(rows[i], i, e, fresh)
        for e in range(f.valid.shape[1]):  # of an environment that has failed it is not used
            self.kept[e] = self.memory[e]
        if self.critic_remembers:
            self.critic_run.begins = {chunk[0] for chunk in self.chunks}
        return rows

    def module_of(self, agent):
        return next(m for m, agents in self.groups.items() if agent in agents)

    def begin_memory(self, f):
        if self.critic_remembers:
            zeros = torch.zeros(1, self.critic.state_size)
            self.memory = [
                self.kept[e] if f.continues[e] and e in self.kept else zeros
                for e in range(f.valid.shape[1])
            ]
            self.critic_run.before, self.critic_run.after = {}, {}
        else:
            self.memory = [None] * f.valid.shape[1]

    @torch.no_grad()
    def remember(self, row, i, e, fresh):
        if not self.critic_remembers:
            return
        if fresh:
            self.memory[e] = torch.zeros(1, self.critic.state_size)
        self.critic_run.before[i] = self.memory[e]
        x = torch.as_tensor(np.asarray(row.state), dtype=torch.float32)[None]
        _, self.memory[e] = self.critic.step(x, self.memory[e])
        self.critic_run.after[i] = self.memory[e]
        row.state = np.append(row.state, i).astype(np.float32)
        if row.follows is not None:
            row.follows = np.append(row.follows, -(i + 1)).astype(np.float32)

    def estimate(self, rows):
        with self.remembering():
            return super().estimate(rows)

    def _fit_critic(self, *args):
        with self.remembering():
            super()._fit_critic(*args)

    def _step(self, name, net, loss):
        super()._step(name, self.critic_of if name == "critic" else net, loss)

    def remembering(self):
        """While this lasts, `self.critic.net` goes through sequences."""
        team = self

        class Swap:
            def __enter__(self):
                team.critic_of = team.critic
                if team.critic_remembers:
                    team.critic = type("Net", (), {"net": staticmethod(team.critic_run)})

            def __exit__(self, *_):
                team.critic = team.critic_of

        return Swap()

    def _batches(self, count, key, epochs):
        """Chunks are drawn, as many at a time as make the rows of a minibatch on average."""
        c = self.c
        pieces = 1 if c.minibatch_size is None else int(np.ceil(count / c.minibatch_size))
        if pieces == 1:
            yield from [np.arange(count)] * epochs
            return
        rng = np.random.default_rng((c.seed, self.iteration, 1, key))
        for _ in range(epochs):
            order = rng.permutation(len(self.chunks))
            for drawn in np.array_split(order, pieces):
                yield np.concatenate([self.chunks[i] for i in drawn])


def compare(cls, env=None, *, updates=2, order=None, slow_team=SlowMemoryTeam, **kw):
    """Both learners' updates on the same fragments; the largest difference must be rounding."""
    if order is not None:
        kw["update_order"] = order
    learner, runner = make(cls, env, **kw)
    slow, before = slow_team(learner), slow_team(learner)
    for _ in range(updates):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=order)
    moved = before.differences(learner)
    for m in learner.module.keys():  # noqa: SIM118
        assert max(x for (module, _), x in moved.items() if module == m) > 2e-3
        memory = [x for (module, name), x in moved.items() if module == m and "layer" in name]
        assert not memory or min(memory) > 1e-4
    slow.assert_same(learner)
    return slow, learner


@kinds
@pytest.mark.parametrize("minibatch_size", [None, 7])
@pytest.mark.parametrize("env", [{}, {"dies": {"b": 3}, "end": "alternate"}], ids=str)
def test_recurrent_happo_is_algorithm_4_on_chunks(env, minibatch_size, kind):
    slow, _ = compare(
        HAPPOConfig, env, order=["c", "b", "a"], actor=kind, minibatch_size=minibatch_size
    )
    lengths = sorted({len(chunk) for chunk in slow.chunks})
    assert lengths == [1, 2, 3]


@pytest.mark.parametrize(
    ("actor", "critic"), [("gru", "gru"), ("gru", "lstm"), (None, "lstm"), (None, "gru")]
)
@pytest.mark.parametrize("minibatch_size", [None, 7])
def test_recurrent_critic_is_fitted_on_chunks(actor, critic, minibatch_size):
    """Beside recurrent and feed-forward actors; a third update has a memory from the second."""
    compare(
        HAPPOConfig,
        {"state": True, "dies": {"a": 4}, "end": "alternate"},
        order=["b", "a", "c"],
        actor=actor,
        critic=critic,
        size=9,
        minibatch_size=minibatch_size,
        updates=3,
    )


@kinds
@pytest.mark.parametrize("minibatch_size", [None, 7])
def test_recurrent_mappo_with_one_network(kind, minibatch_size):
    compare(
        MAPPOConfig, {**EQUAL, "dies": {"c": 3}}, actor=kind, critic=kind,
        minibatch_size=minibatch_size,
    )  # fmt: skip


def test_recurrent_agents_that_share_a_network_one_after_another():
    env = {"agents": {"a": (3, "box"), "b": (2, "discrete"), "c": (3, "box")}}
    compare(HAPPOConfig, env, order=["c", "b", "a"], sharing={"twins": ["a", "c"]})


class SlowCoPPO(SlowMemoryTeam):
    """All agents on one network: of each, the others' ratios as they are in this epoch."""

    def _actor_step(self, m, obs, act, old, adv, alive, correction):
        c, actor = self.c, self.actors[m]
        n = len(self.groups[m])
        ratio = torch.exp(actor.log_prob(obs, act) - old).reshape(n, -1)
        counted = torch.where(alive.reshape(n, -1) > 0, ratio.detach(), 1.0)
        others = [torch.stack([counted[j] for j in range(n) if j != i]).prod(0) for i in range(n)]
        joint = ratio * torch.stack(others).clamp(1 - c.clip_param / 2, 1 + c.clip_param / 2)
        adv, alive = adv.reshape(n, -1), alive.reshape(n, -1)
        gain = torch.minimum(
            joint * adv, joint.clamp(1 - c.clip_param, 1 + c.clip_param) * adv
        ) + c.entropy_coeff * actor.entropy(obs).reshape(n, -1)
        self._step(m, actor, -(gain * alive).sum() / alive.sum())


@pytest.mark.parametrize("minibatch_size", [None, 7])
def test_recurrent_coppo(minibatch_size):
    compare(
        CoPPOConfig, {**EQUAL, "dies": {"c": 3}}, slow_team=SlowCoPPO,
        minibatch_size=minibatch_size, lr=5e-3,
    )  # fmt: skip


# ---- gradients --------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("module_id", ["a", "shared", "critic"])
def test_gradients_stay_within_a_chunk_and_flow_forward_in_it(module_id, kind):
    env = {"state": True} | (EQUAL if module_id == "shared" else {})
    learner, runner = make(MAPPOConfig, env, actor=kind, critic=kind)
    (f,) = sample(runner, learner)
    batch = team_batch(learner, [f])
    rows = dict(batch[module_id])
    if module_id == "critic":
        rows = {k: rows[k] for k in (Columns.OBS, Columns.STATE_IN)} | {ACTIVE: torch.ones(24)}
    obs = rows[Columns.OBS] = rows[Columns.OBS].clone().requires_grad_()
    state = rows[Columns.STATE_IN] = rows[Columns.STATE_IN].clone().requires_grad_()
    out = learner.forward(module_id, learner._units.take(rows, slice(None)))
    (values,) = out.values()
    values = learner._units.put_back(values)
    chunk_of = {}
    for c, chunk in enumerate(batch["critic"][CHUNKS].tolist()):
        chunk_of.update({row: c for row in chunk if row >= 0})
    begins_fresh = set()
    for j in range(24):
        # Of shared modules the second agent's output: it reads what that agent saw.
        picked = values[j, 1] if module_id == "shared" else values[j]
        by_obs, by_state = torch.autograd.grad(
            (picked * torch.arange(1.0, picked.numel() + 1).reshape(picked.shape)).sum(),
            [obs, state],
            retain_graph=True,
        )
        if module_id == "shared":
            assert (by_obs[:, [0, 2]] == 0).all() and (by_state[:, [0, 2]] == 0).all()
        depends = (by_obs.flatten(1) != 0).any(1).nonzero()[:, 0].tolist()
        assert depends == [i for i in range(j + 1) if chunk_of[i] == chunk_of[j]], j
        # The state flows in at the chunk's beginning, and only its own.
        into = (by_state.flatten(1) != 0).any(1).nonzero()[:, 0].tolist()
        assert into == [chunk_of[j]], j
        begins_fresh.add(bool((state[chunk_of[j]] == 0).all()))
    assert begins_fresh == {True, False}


def test_what_fills_up_a_chunk_changes_nothing():
    """Steps of a short chunk's padding: whatever network input stands there."""
    learner, runner = make(HAPPOConfig, critic="gru")
    (f,) = sample(runner, learner)
    results = []
    for filler in (0, 17):
        learner_2 = make_learner(learner.config)

        def padded(units, data, index, filler=filler):
            rows = units._index[index]
            taken = units.take(data, index)
            for name, x in taken.items():
                if name != Columns.STATE_IN and x.is_floating_point() and name != ACTIVE:
                    x = x.clone()
                    x[rows < 0] = data[name][filler]
                    taken[name] = x
            return taken

        create = learner_2._set_old_policy

        def with_filler(batch, learner=learner_2, create=create, padded=padded):
            units = learner._units
            learner._units = Padded(units, padded)
            return create(batch)

        learner_2._set_old_policy = with_filler
        update(learner_2, [f])
        results.append(all_weights(learner_2))
    assert all(torch.equal(x, results[1][k]) for k, x in results[0].items())


class Padded:
    def __init__(self, units, take):
        self.units, self._take, self.share = units, take, units.share

    def take(self, data, index):
        return self._take(self.units, data, index)

    def put_back(self, x):
        return self.units.put_back(x)


# ---- a critic that remembers ------------------------------------------------------------------


class SlowCritic:
    """Runs one value network along each environment, over fragments."""

    def __init__(self, learner, network=0):
        prefix = f"networks.{network}."
        weights = learner.module["critic"].get_state()
        self.net = PlainMemoryNet(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        self.memory = {}

    def zeros(self):
        return torch.zeros(1, self.net.state_size)

    @torch.no_grad()
    def run(self, f, states, finals, lasts, *, lost=False):
        """Values of rows, and of what follows each; by environment, then time."""
        if lost:
            self.memory = {}
        inside, after = {}, {}
        for e in range(f.num_envs):
            memory = self.memory.get(e, self.zeros()) if f.continues[e] else self.zeros()
            for t in range(len(f.valid)):
                if t and (f.terminated[t - 1, e] or f.truncated[t - 1, e] or not f.valid[t - 1, e]):
                    memory = self.zeros()
                if not f.valid[t, e]:
                    continue
                value, memory = self.net.step(states[t, e][None], memory)
                inside[t, e] = float(value)
                for i, place in enumerate(zip(f.finals.step, f.finals.env, strict=True)):
                    if place == (t, e):
                        after[t, e] = float(self.net.step(finals[i][None], memory)[0])
            self.memory[e] = memory
            t = len(f.valid) - 1
            if (t, e) not in after:
                after[t, e] = float(self.net.step(lasts[e][None], memory)[0])
        return inside, after


def check_values(f, batch, slow, *, lost=False, column=0):
    """Compares values and bootstraps with a slow run."""
    inside, after = slow.run(
        f, *(torch.from_numpy(x) for x in (f.state, f.finals.state, f.last_state)), lost=lost
    )
    places = [(t, e) for e in range(f.num_envs) for t in range(len(f.valid)) if f.valid[t, e]]
    got = batch["critic"][Columns.VF_PREDS][:, column]
    np.testing.assert_allclose(got, [inside[p] for p in places], atol=2e-6)
    next_values = batch["critic"]["estimates"].next_values[..., column]
    checked = 0
    for (t, e), value in after.items():
        if f.valid[t, e] and not f.terminated[t, e]:
            np.testing.assert_allclose(next_values[t, e], value, atol=2e-6)
            checked += 1
    return checked


@pytest.mark.parametrize("actor", [None, "gru"])
@kinds
def test_values_are_those_of_a_run_through_every_episode(kind, actor):
    """The memory goes on in the next fragment, ends with episodes, is lost with a fragment."""
    env = {"state": True, "end": "alternate", "length": 5}
    learner, runner = make(HAPPOConfig, env, actor=actor, critic=kind, value_norm=False)
    slow = SlowCritic(learner)
    fragments = [sample(runner, learner)[0] for _ in range(5)]
    assert any(f.finals.step.size for f in fragments)
    # The third is lost on the way.
    for number in (0, 1, 3, 4):
        f = fragments[number]
        batch = team_batch(learner, [f])
        assert check_values(f, batch, slow, lost=number == 3) >= 3
        state = batch["critic"][Columns.STATE_IN]
        assert state.shape == (len(batch["critic"][CHUNKS]), 16 if kind == "gru" else 32)
        # At the fragment's beginning in the middle of an episode: what was kept, or nothing.
        kept = (state[0] != 0).any()
        assert kept == (number in (1, 4)) and f.continues[0] == (number > 0)


def test_two_runners_have_their_own_memories():
    """Fragments of several runners in one batch, also cut between learners' shares."""
    env = {"state": True}
    config = recurrent(HAPPOConfig, env, critic="gru", value_norm=False)
    learner, runners = make_learner(config), [make_runner(config, i) for i in (1, 2)]
    slow = [SlowCritic(learner) for _ in runners]
    other = make_learner(config)
    for _ in range(3):
        pair = [sample(r, learner)[0] for r in runners]
        whole = team_batch(learner, pair)["critic"][Columns.VF_PREDS]
        for f, critic, rows in zip(pair, slow, whole.split(24), strict=True):
            inside, _ = critic.run(
                f, *(torch.from_numpy(x) for x in (f.state, f.finals.state, f.last_state))
            )
            np.testing.assert_allclose(rows[:, 0], list(inside.values()), atol=2e-6)
        # A learner that is given the same environments each time has the same.
        part = [pair[0].select(range(2, 3)), pair[1].select(range(1))]
        rows = team_batch(other, part)["critic"][Columns.VF_PREDS]
        torch.testing.assert_close(rows, whole[16:32], rtol=1e-5, atol=1e-6)


def test_failed_environments_start_with_an_empty_memory():
    learner, runner = make(HAPPOConfig, {"state": True}, critic="gru", value_norm=False)
    slow = SlowCritic(learner)
    for _ in range(2):
        f = hand_made_fragment(learner, runner)
        f.finals.step, f.finals.env = np.array([3, 5]), np.array([1, 2])
        f.finals.state = f.state[0, :2].copy()
        f.finals.observations = {m: x[0, :2] for m, x in f.observations.items()}
        check_values(f, team_batch(learner, [f]), slow)


@kinds
def test_a_critic_for_each_agent_with_a_memory(kind):
    env = {"state": True, "end": "alternate"}
    learner, runner = make(
        A2POConfig, env, critic=kind, per_agent_critics=True, value_norm=False, minibatch_size=7
    )
    slow = [SlowCritic(learner, i) for i in range(3)]
    for _ in range(2):
        (f,) = sample(runner, learner)
        batch = team_batch(learner, [f])
        assert batch["critic"][Columns.VF_PREDS].shape == (24, 3)
        for i, critic in enumerate(slow):
            check_values(f, batch, critic, column=i)
    before = all_weights(learner)
    update(learner, sample(runner, learner))
    after = all_weights(learner)
    for i in range(3):  # each of them has been trained
        name = "critic", f"networks.{i}.memory.layer.weight_hh_l0"
        assert torch.isfinite(after[name]).all() and not torch.equal(before[name], after[name])


# ---- teams of which some remember -------------------------------------------------------------


def mixed_modules(models):
    return MultiRLModuleSpec(
        rl_module_specs={
            m: RLModuleSpec(
                module_class=TeamActor,
                model_config={"hidden_sizes": [16, 16], "actor_head_gain": 1.0, "recurrent": kind},
            )
            for m, kind in models.items()
        }
    )


@pytest.mark.parametrize("minibatch_size", [None, 7])
def test_a_team_of_which_some_remember(minibatch_size):
    models = {"a": "gru", "b": None, "c": "lstm"}
    config = small_config(
        HAPPOConfig, env_config={"dies": {"c": 4}}, update_order=["b", "c", "a"],
        minibatch_size=minibatch_size,
    )  # fmt: skip
    config.rl_module(rl_module_spec=mixed_modules(models), model_config={"max_seq_len": L})
    config.validate()
    learner, runner = make_learner(config), make_runner(config)
    assert [state_size(learner.module[m]) for m in "abc"] == [16, 0, 32]
    slow = SlowMemoryTeam(learner)
    for _ in range(2):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments, order=["b", "c", "a"])
    slow.assert_same(learner)


# ---- natural gradients through time -----------------------------------------------------------


@kinds
def test_fisher_products_see_through_time(kind, monkeypatch):
    """They are the change of the KL's gradient along a direction, in double precision."""
    learner, runner = make(HATRPOConfig, {"dies": {"b": 3}}, actor=kind, cg_damping=0.0)
    batch = team_batch(learner, sample(runner, learner))
    learner._set_old_policy(batch)
    products = []

    def kept(product, gradient, **kwargs):
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
        products.append((v, product(v)))
        return gradient, gradient.norm()

    monkeypatch.setattr(trust_region, "conjugate_gradient", kept)
    for m in "ab":
        module, dist = learner.module[m].double(), learner._dists[m]
        rows = {
            name: x.double() if x.is_floating_point() else x
            for name, x in learner.agent_rows(batch, m).items()
        }
        taken = learner._units.take(rows, slice(None))
        active = taken[ACTIVE]
        taken[TOTAL] = active.sum()
        params = learner.get_parameters(module)
        start = [p.detach().clone() for p in params]
        centre = learner.forward(m, taken)[Columns.ACTION_DIST_INPUTS].detach()
        learner._natural_step(m, taken)
        v, got = products.pop()
        gradients = []
        for size in (1e-5, -1e-5):
            with torch.no_grad():
                for p, x, d in zip(params, start, unflat(v, params), strict=True):
                    p.copy_(x + size * d)
            inputs = learner.forward(m, taken)[Columns.ACTION_DIST_INPUTS]
            kl = (dist.kl(centre, inputs) * active).sum() / active.sum()
            gradients.append(flat(torch.autograd.grad(kl, params)))
        expected = (gradients[0] - gradients[1]) / 2e-5
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
        assert got.abs().max() > 1e-2


@kinds
def test_hatrpo_improves_within_the_ball(kind):
    learner, runner = make(HATRPOConfig, {"dies": {"b": 3}}, actor=kind)
    notes = watch_notes(learner)
    before = all_weights(learner)
    update(learner, sample(runner, learner))
    for m in "abc":
        assert notes[m, "step_fraction"][0] > 0 and 0 < notes[m, "mean_kl"][0] <= 0.01
        assert notes[m, "improvement"][0] > 0
        name = m, "memory.layer.weight_hh_l0"
        assert not torch.equal(before[name], all_weights(learner)[name])


def test_hatrpo_restores_what_it_does_not_accept(monkeypatch):
    search = trust_region.line_search

    def refuse(try_fraction, *args, **kwargs):
        found = search(try_fraction, *args, **kwargs)
        return found._replace(fraction=0.0)

    learner, runner = make(HATRPOConfig, critic="gru")
    fragments = sample(runner, learner)
    before = all_weights(learner)
    monkeypatch.setattr(trust_region, "line_search", refuse)
    update(learner, fragments)
    after = all_weights(learner)
    for (m, name), x in before.items():
        assert m == "critic" or torch.equal(x, after[m, name]), (m, name)
    monkeypatch.undo()
    update(learner, fragments)
    assert not torch.equal(before["a", "head.weight"], all_weights(learner)["a", "head.weight"])


# ---- learners that share the batch ------------------------------------------------------------


TOGETHER = {"state": True, "dies": {"b": 3}, "end": "alternate"}


def shared_config(cls, num_learners, minibatch_size):
    # Few and damped iterations: conjugate gradients make much of the order of a sum.
    damped = {"cg_iterations": 3, "cg_damping": 1.0, "kl_threshold": 1e-3}
    training = damped if cls is HATRPOConfig else {}
    config = recurrent(cls, TOGETHER, critic="gru", **training).copy(copy_frozen=False)
    config.learners(num_learners=num_learners, num_cpus_per_learner=0.5)
    config.minibatch_size = minibatch_size and minibatch_size // max(1, num_learners)
    return config


@pytest.mark.parametrize("cls", [HAPPOConfig, HATRPOConfig, A2POConfig])
@pytest.mark.parametrize(
    ("minibatch_size", "envs"),
    [(None, None), (8, None), (8, range(1, 2))],
    ids=["whole", "minibatches of chunks", "one holds no row"],
)
def test_two_learners_are_one_on_the_whole(minibatch_size, envs, cls, pair):
    local, remote = (shared_config(cls, n, minibatch_size) for n in (0, 2))
    data, state = batches(local), start(local)
    if envs is not None:
        data = [[f.select(envs) for f in fragments] for fragments in data]
    alone, _ = train(local, state, data)
    shared, _, _ = pair(remote, state, data)
    assert_same(alone, shared)
    for m in ("a", "critic"):
        before, after = state["rl_module"][m], alone["rl_module"][m]
        name = next(k for k in before if k.endswith("weight_hh_l0"))
        assert not np.array_equal(before[name], after[name])
