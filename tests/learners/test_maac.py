"""MAAC's learner against loops over agents, in plain torch from a copy of its weights."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from off_policy_toys import Noise, SlowReplay, off_policy_config, update
from toys import ULP, CountingTeam, MaskedTeam, make_learner, make_runner, sample

from rllib_hetero import MAACConfig

UNEQUAL = {"a": (2, "three"), "b": (3, "discrete"), "c": (4, "three")}
DYING = {"agents": UNEQUAL, "dies": {"a": 2, "b": 3}, "end": "alternate"}
ALIKE = {"agents": dict.fromkeys("abc", (3, "three")), "dies": {"b": 3}, "end": "alternate"}
MOMENTUM, EPS, LIMIT = 0.01, 1e-5, 10.0


def leaky(x):
    return torch.where(x > 0, x, 0.01 * x)


class Norm:
    """Running statistics, in double precision."""

    def __init__(self, size):
        self.mean, self.variance, self.updates = torch.zeros(size), torch.ones(size), 0

    def take(self, rows):
        if not len(rows):
            return
        self.updates += 1
        share = max(1 / self.updates, MOMENTUM)
        rows, mean = rows.double(), self.mean.double()
        new = rows.mean(0)
        off = ((rows - new) ** 2).mean(0) + (1 - share) * (new - mean) ** 2
        self.variance = ((1 - share) * self.variance.double() + share * off).float()
        self.mean = (mean + share * (new - mean)).float()

    def __call__(self, x):
        return torch.clamp((x - self.mean) / torch.sqrt(self.variance + EPS), -LIMIT, LIMIT)


class SlowMAAC:
    def __init__(self, learner, frozen=()):
        self.c = c = learner.config
        self.frozen = frozen
        self.team, self.groups = c.layout.team, dict(c.layout.groups)
        self.agents = self.team.agents
        self.module_of = {a: m for m, agents in self.groups.items() for a in agents}
        self.w = {
            m: {
                k: p.detach().clone().requires_grad_("target" not in k)
                for k, p in learner.module[m].named_parameters()
            }
            for m in (*self.groups, "critic")
        }
        self.optimizers = {
            m: torch.optim.Adam(
                [p for p in w.values() if p.requires_grad],
                lr=c.critic_lr if m == "critic" else c.lr,
                eps=c.adam_epsilon,
                weight_decay=c.critic_weight_decay if m == "critic" else 0.0,
            )
            for m, w in self.w.items()
        }
        self.norms = {}
        if c.model_config.get("input_norm", True):
            sizes = {a: self.team.observation_spaces[a].shape[0] for a in self.agents}
            self.norms = {("critic", a): Norm(d) for a, d in sizes.items()}
            self.norms |= {m: Norm(c.layout.observation_space(m).shape[0]) for m in self.groups}
        self.replay, self.updates, self.rounding = SlowReplay(c), 0, 0.0
        self.rewards = [[] for _ in range(c.num_envs)]

    # ---- networks -------------------------------------------------------------------------------

    def logits(self, agent, obs, target=False):
        m = self.module_of[agent]
        if m in self.norms:
            obs = self.norms[m](obs)
        w = self.w[m]
        names = [k.removesuffix(".weight") for k in w if k.endswith(".weight")]
        names = [k for k in names if k.startswith("target_network") == target]
        for name in names:
            last = name == names[-1]
            obs = obs @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            obs = obs if last else leaky(obs)
        return obs

    def q(self, look, messages, target=False):
        """Values (B, p_i) of each agent, and penalties (B,)."""
        w, head = self.w["critic"], "target_networks.0." if target else "networks.0."
        seen = {}
        for a in self.agents:
            d = self.team.observation_spaces[a].shape[0]
            x = look.obs[a][:, :d]
            seen[a] = self.norms["critic", a](x) if self.norms else x

        def layer(name, x):
            bias = w.get(f"{head}{name}.bias")
            x = x @ w[f"{head}{name}.weight"].T
            return x if bias is None else x + bias

        attention = "attention."
        features = {
            a: leaky(layer(f"{attention}encoders.{j}.0", torch.cat([seen[a], messages[a]], -1)))
            for j, a in enumerate(self.agents)
        }
        heads = self.c.model_config["num_attention_heads"]
        values, penalties = {}, {}
        for i, a in enumerate(self.agents):
            state = leaky(layer(f"states.{i}.0", seen[a]))
            others = [b for b in self.agents if b != a]
            query = layer(f"{attention}queries", state).chunk(heads, -1)
            attended, penalty = [], 0.0
            for h in range(heads):
                keys = [layer(f"{attention}keys", features[b]).chunk(heads, -1)[h] for b in others]
                logits = torch.stack([(query[h] * k).sum(-1) for k in keys], -1)
                alive = torch.stack([look.alive[b] for b in others], -1)
                shares = torch.exp(logits / math.sqrt(query[h].shape[-1])) * alive
                shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-30)
                worth = [
                    leaky(layer(f"{attention}values.0", features[b])).chunk(heads, -1)[h]
                    for b in others
                ]
                attended.append(sum(shares[:, k, None] * v for k, v in enumerate(worth)))
                counts = alive.sum(-1).clamp(min=1)
                penalty = penalty + (logits**2 * alive).sum(-1) / counts
            x = leaky(layer(f"heads.{i}.0", torch.cat([state, *attended], -1)))
            values[a], penalties[a] = layer(f"heads.{i}.2", x), penalty
        return values, penalties

    # ---- an update ------------------------------------------------------------------------------

    def draw(self, look, noise, target=False):
        """Each agent's logits, log pi of what it draws, and the one-hot of that."""
        out = {}
        for a in self.agents:
            raw = self.logits(a, look.obs[a], target)
            mask = look.mask.get(a)
            logits = raw if mask is None else raw.masked_fill(~mask, -1e30)
            drawn = (logits.detach() + noise.gumbels(raw.shape[-1])).argmax(-1)
            one_hot = torch.eye(raw.shape[-1])[drawn]
            log_probs = torch.log_softmax(logits, -1)
            log_prob = (log_probs * one_hot).sum(-1)
            probabilities = torch.exp(log_probs).detach()
            out[a] = SimpleNamespace(
                raw=raw, mask=mask, log_prob=log_prob, one_hot=one_hot,
                probabilities=probabilities, message=one_hot * look.alive[a][:, None],
            )  # fmt: skip
        return out

    def update(self, fragments, count):
        self.replay.add(fragments)
        rows = self.c.replay_buffer_config["capacity"] // self.c.num_envs
        for f in fragments:
            for e, column in enumerate(self.rewards):
                column += [f.rewards[t, e] for t in range(len(f.valid))]
                del column[:-rows]
        for _ in range(count):
            self.one_update()
            self.updates += 1

    def one_update(self):
        c, noise = self.c, Noise(self.c, self.updates)
        batch = self.replay.draw(self.updates)
        every = np.array([r for column in self.rewards for r in column], np.float64)
        drawn = np.random.default_rng((c.seed, self.updates, 1))
        rewards = every[self.replay.indices(drawn, len(every))]
        if self.team.reward_scheme == "shared":
            best = np.abs(every).argmax(-1)
            every = np.take_along_axis(every, best[:, None], -1).repeat(len(self.agents), -1)
            rewards = np.asarray(batch.rewards)[:, None].repeat(len(self.agents), -1)
        if c.standardize_rewards:
            rewards = (rewards - every.mean(0)) / every.std(0)
        rewards = torch.tensor(rewards, dtype=torch.float32)
        self.normalize(batch.now)

        with torch.no_grad():
            after = self.draw(batch.after, noise, target=True)
            values, _ = self.q(batch.after, {a: x.message for a, x in after.items()}, target=True)
            targets = {}
            for i, a in enumerate(self.agents):
                worth = (values[a] * after[a].one_hot).sum(-1) - c.alpha * after[a].log_prob
                targets[a] = rewards[:, i] + batch.discounts * batch.after.alive[a] * worth
        messages = {a: batch.actions[a] * batch.now.alive[a][:, None] for a in self.agents}
        values, penalties = self.q(batch.now, messages)
        loss = 0.0
        for a in self.agents:
            alive = batch.now.alive[a]
            errors = ((values[a] * batch.actions[a]).sum(-1) - targets[a]) ** 2
            errors = errors + c.attention_reg * penalties[a]
            loss = loss + (errors * alive).sum() / max(float(alive.sum()), 1.0)
        self.step("critic", loss)

        own = self.draw(batch.now, noise)
        with torch.no_grad():
            values, _ = self.q(batch.now, {a: x.message for a, x in own.items()})
        for m, agents in self.groups.items():
            if m in self.frozen:
                continue
            loss = 0.0
            for a in agents:
                x, alive = own[a], batch.now.alive[a]
                baseline = (x.probabilities * values[a]).sum(-1)
                advantage = (values[a] * x.one_hot).sum(-1) - baseline
                cost = (c.alpha * x.log_prob - advantage).detach() * x.log_prob
                allowed = torch.ones_like(x.raw) if x.mask is None else x.mask.float()
                size = (x.raw**2 * allowed).sum(-1) / allowed.sum(-1)
                cost = cost + c.logit_reg * size
                loss = loss + (cost * alive).sum() / max(float(alive.sum()), 1.0)
            self.step(m, loss)
        for w in self.w.values():
            for k, p in w.items():
                if "target" in k:
                    p.data = (1 - c.tau) * p.data + c.tau * w[online(k)].data

    def normalize(self, look):
        if not self.norms:
            return
        for m, agents in self.groups.items():
            rows = [look.obs[a][look.alive[a] > 0] for a in agents]
            self.norms[m].take(torch.cat(rows))
        for a in self.agents:
            d = self.team.observation_spaces[a].shape[0]
            self.norms["critic", a].take(look.obs[a][look.alive[a] > 0][:, :d])

    def step(self, m, loss):
        w, optimizer = self.w[m], self.optimizers[m]
        optimizer.zero_grad()
        loss.backward()
        moved = {k: p for k, p in w.items() if p.grad is not None}
        if m == "critic" and self.c.scale_attention_gradients:
            for k, p in moved.items():
                if ".attention." in k:
                    p.grad /= len(self.agents)
        most = self.c.grad_clip
        if m == "critic":
            most = self.c.critic_grad_clip
            most = None if most is None else most * len(self.agents)
        if most is not None:
            torch.nn.utils.clip_grad_norm_(list(moved.values()), most)
        optimizer.step()
        gradient = max(float(p.grad.abs().max()) for p in moved.values())
        weight = max(float(p.detach().abs().max()) for p in moved.values())
        settings = optimizer.defaults
        rows = self.c.train_batch_size_per_learner
        # As in `off_policy_toys`; inputs are divided by deviations as small as their rounding
        # allows, which makes them a few times as inexact.
        moving = settings["lr"] / settings["eps"] * gradient * rows**0.5
        self.rounding += 4 * ULP * (weight + moving)

    def differences(self, learner):
        return {
            (m, k): float((p - self.w[m][k]).abs().max().detach())
            for m in self.w
            for k, p in learner.module[m].named_parameters()
        }


def online(target):
    """The parameter that a target follows; an actor's parts are numbered there."""
    if target.startswith("target_networks."):
        return target.removeprefix("target_")
    part, rest = target.removeprefix("target_network.").split(".", 1)
    return f"{('body', 'head')[int(part)]}.{rest}"


def run(env_config=DYING, env=CountingTeam, *, sharing=None, frozen=(), model=None, **settings):
    model = {"attention_size": 8, "num_attention_heads": 2} | (model or {})
    config = off_policy_config(
        MAACConfig, env, env_config, sharing=sharing, model=model, **settings
    )
    if frozen:
        config.multi_agent(policies_to_train=sorted(set(config.layout.groups) - set(frozen)))
    learner, runner = make_learner(config), make_runner(config)
    slow = SlowMAAC(learner, frozen)
    before = SlowMAAC(learner)
    for _ in range(3):
        fragments = sample(runner, learner)
        update(learner, fragments, 4)
        slow.update(fragments, 4)
    return learner, slow, before.differences(learner)


def assert_same(slow, learner):
    differences = slow.differences(learner)
    assert max(differences.values()) <= slow.rounding, (slow.rounding, differences)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("env", [CountingTeam, MaskedTeam])
def test_unequal_agents_that_die_learn_as_loops_over_agents_do(env, norm):
    learner, slow, moved = run(env=env, model={"input_norm": norm})
    assert all(x > 1e-3 for (_, k), x in moved.items() if k.endswith("weight")), moved
    assert slow.rounding < 0.1 * max(moved.values())
    assert_same(slow, learner)


def test_a_shared_reward_is_everybodys():
    learner, slow, _ = run({**DYING, "scheme": "shared"})
    assert_same(slow, learner)


def test_agents_that_share_a_network_have_heads_of_their_own():
    learner, slow, _ = run(ALIKE, sharing={"ends": ["a", "c"]})
    assert_same(slow, learner)


@pytest.mark.parametrize(
    "settings",
    [
        {"standardize_rewards": False, "alpha": 0.3, "attention_reg": 0.1, "logit_reg": 0.2},
        {"scale_attention_gradients": False, "critic_grad_clip": 0.05, "grad_clip": 0.01},
        {"critic_grad_clip": None, "grad_clip": None, "critic_weight_decay": 0.1},
        {"replay_buffer_config": {"capacity": 30}},
    ],
    ids=["coefficients", "clips", "decay", "ring"],
)
def test_every_setting_does_what_it_says(settings):
    learner, slow, _ = run(**settings)
    assert_same(slow, learner)


def test_a_frozen_policy_acts_and_stands_still():
    learner, slow, moved = run(frozen=("b",))
    assert not any(x for (m, k), x in moved.items() if m == "b" and "target" not in k)
    assert_same(slow, learner)
