"""A slow QMIX, VDN and IQL in plain torch: step by step, one stretch of an episode at a time.

It uses nothing of `rllib_hetero`: it reads fragments' arrays, row after row, a copy of the initial
weights, and the documented seed: the stretches of update k of a run of seed s are drawn from
(s, k, 1).
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import torch
from off_policy_toys import SlowLearner, SlowReplay
from torch import nn


class SlowStretches(SlowReplay):
    """Whose rows know how far into their episode they are."""

    def add(self, fragments):
        super().add(fragments)
        for column in self.columns:
            before = None
            for row in column:
                if not hasattr(row, "step"):
                    begins = before is None or before.cut or before.after is None
                    row.step = 0 if begins else before.step + 1
                before = row

    def draw(self, update):
        """The stretches of an update: lists of rows of one episode."""
        length = self.c.max_seq_len
        starts = [
            (column, i)
            for column in self.columns
            for i, row in enumerate(column)
            if row.step % length == 0
        ]
        rng = np.random.default_rng((self.c.seed, update, 1))
        count = self.c.train_batch_size_per_learner // length
        return [self._stretch(*starts[k]) for k in rng.integers(len(starts), size=count)]

    def _stretch(self, column, i):
        stretch = []
        for row in column[i : i + self.c.max_seq_len]:
            stretch.append(row)
            if row.cut or row.after is None:
                break
        return stretch

    def _row(self, f, t, e):
        row = super()._row(f, t, e)
        row.rewards = dict(zip(self.team.agents, map(float, f.rewards[t, e]), strict=True))
        return row


class Weights:
    """Some of a module's weights, by the library's names, trained or not."""

    def __init__(self, weights, prefixes, *, trained):
        self.values = {
            k: nn.Parameter(torch.tensor(x), requires_grad=trained)
            for k, x in weights.items()
            if k.startswith(prefixes)
        }

    def linear(self, name, x):
        return self.values[f"{name}.weight"] @ x + self.values[f"{name}.bias"]

    def names(self, prefix):
        """Of the layers whose names begin so, in order."""
        ends = ".weight"
        return [
            k.removesuffix(ends) for k in self.values if k.startswith(prefix) and k.endswith(ends)
        ]


class SlowQ(Weights):
    """One agent's values of one observation after the other; it remembers."""

    def __init__(self, weights, *, target):
        prefixes = ("target_network.",) if target else ("body.", "memory.", "head.")
        super().__init__(weights, prefixes, trained=not target)
        recurrent = any("weight_hh" in k for k in self.values)
        self.body = "target_network.0." if target else "body."
        self.head = f"target_network.{1 + recurrent}" if target else "head"
        self.gru = ("target_network.1." if target else "memory.") + "layer." if recurrent else None
        self.forget()

    def forget(self):
        self.memory = None

    def see(self, obs):
        """(choices,) values of an observation (d,)."""
        x = torch.tensor(obs)
        for name in self.names(self.body):
            x = torch.relu(self.linear(name, x))
        if self.gru is not None:
            x = self.memory = self._remember(x)
        return self.linear(self.head, x)

    def _remember(self, x):
        size = self.values[f"{self.gru}weight_hh_l0"].shape[1]
        h = torch.zeros(size) if self.memory is None else self.memory
        of_x, of_h = (
            (self.values[f"{self.gru}weight_{k}_l0"] @ y + self.values[f"{self.gru}bias_{k}_l0"])
            for k, y in (("ih", x), ("hh", h))
        )
        (r_x, z_x, n_x), (r_h, z_h, n_h) = of_x.split(size), of_h.split(size)
        reset, keep = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        return (1 - keep) * torch.tanh(n_x + reset * n_h) + keep * h


class SlowMixer(Weights):
    """Q_tot of the agents' values (n,) in a state (s,)."""

    def __init__(self, weights, *, target):
        self.stem = "target_mixer" if target else "mixer"
        super().__init__(weights, (f"{self.stem}.",), trained=not target)

    def of(self, state, q):
        state = torch.tensor(state)
        out = {}
        for part in ("first_weights", "first_bias", "second_weights", "second_bias"):
            x = state
            layers = self.names(f"{self.stem}.{part}")
            for name in layers:
                x = self.linear(name, x)
                if name != layers[-1]:
                    x = torch.relu(x)
            out[part] = x
        first = out["first_weights"].abs().reshape(len(q), -1)
        hidden = sum(q[i] * first[i] for i in range(len(q))) + out["first_bias"]
        hidden = torch.where(hidden > 0, hidden, torch.exp(hidden) - 1)
        return (hidden * out["second_weights"].abs()).sum() + out["second_bias"][0]


class SlowValueLearner(SlowLearner):
    """Starts as a copy of a learner.

    Args:
        learner: Whose weights and settings are copied.
        mixing: "monotonic", "sum" or "none".
    """

    def __init__(self, learner, mixing):
        self.c = c = learner.config
        self.mixing = mixing
        self.agents = c.layout.team.agents
        self.module_of = {a: m for m, agents in c.layout.groups.items() for a in agents}
        weights = {
            m: {k: np.asarray(x) for k, x in learner.module[m].get_state().items()}
            for m in (*c.layout.groups, "critic")
        }
        self.nets = {m: SlowQ(weights[m], target=False) for m in c.layout.groups}
        self.targets = {m: SlowQ(weights[m], target=True) for m in c.layout.groups}
        self.mixer = SlowMixer(weights["critic"], target=False)
        self.target_mixer = SlowMixer(weights["critic"], target=True)
        self.trained = {**self.nets, "critic": self.mixer}
        self.optimizers = {
            m: torch.optim.Adam(
                net.values.values(), lr=c.critic_lr if m == "critic" else c.lr, eps=c.adam_epsilon
            )
            for m, net in self.trained.items()
            if net.values
        }
        self.replay = SlowStretches(c)
        self.updates = 0
        self.seen = Counter()
        self.roundings = Counter()

    def update(self, fragments, count):
        self.replay.add(fragments)
        for _ in range(count):
            self._one_update(self.replay.draw(self.updates))
            if self.updates % self.c.target_network_update_freq == 0:
                self._move_targets()
            self.updates += 1

    def _one_update(self, stretches):
        errors = [e for stretch in stretches for e in self.errors(stretch)]
        delta = self.c.td_huber_delta
        losses = [
            e**2 if delta is None or abs(e) <= delta else delta * (2 * abs(e) - delta)
            for e in errors
        ]
        loss = sum(losses) / len(losses)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        for name, optimizer in self.optimizers.items():
            parameters = list(self.trained[name].values.values())
            if self.c.grad_clip is not None:
                nn.utils.clip_grad_norm_(parameters, self.c.grad_clip)
            optimizer.step()
            self._count_rounding(name, parameters)

    def errors(self, stretch):
        """Of every step, or of every step of every agent."""
        walk = self._walk(stretch)
        self._count_what_is_seen(stretch)
        if self.mixing == "none":
            return [e for a in self.agents for e in self._errors_of(a, stretch, walk)]
        values, nexts, rewards = [], [], []
        for row, step in zip(stretch, walk, strict=True):
            values.append(self.mix(self.mixer, row.now, step.chosen))
            after = row.after
            nexts.append(None if after is None else self.mix(self.target_mixer, after, step.next))
            rewards.append(row.reward)
        return self._differences(values, rewards, nexts)

    def _errors_of(self, agent, stretch, walk):
        lived = [(row, step) for row, step in zip(stretch, walk, strict=True)
                 if row.now.alive[agent]]  # fmt: skip
        shared = self.c.layout.team.reward_scheme == "shared"
        return self._differences(
            [step.chosen[agent] for _, step in lived],
            [row.reward if shared else row.rewards[agent] for row, _ in lived],
            [
                step.next[agent].detach()
                if row.after is not None and row.after.alive[agent]
                else None
                for row, step in lived
            ],
        )

    def mix(self, mixer, look, q):
        """0 for the dead."""
        q = [q[a] if look.alive[a] else torch.tensor(0.0) for a in self.agents]
        mixed = sum(q) if self.mixing == "sum" else mixer.of(look.state, q)
        return mixed.detach() if mixer is self.target_mixer else mixed

    def _walk(self, stretch):
        """Of every step, the agents' values of what they did and of what they would do next."""
        steps = [SimpleNamespace(chosen={}, next={}) for _ in stretch]
        for a in self.agents:
            m = self.module_of[a]
            net, target = self.nets[m], self.targets[m]
            net.forget()
            target.forget()
            looks = [row.now for row in stretch]
            if stretch[-1].after is not None:
                looks.append(stretch[-1].after)
            for t, look in enumerate(looks):
                if self.c.layout.team.absences and not look.alive[a]:
                    if self.c.layout.absent_memory == "reset":
                        net.forget()
                        target.forget()
                    for values in (steps[t].chosen if t < len(stretch) else {},
                                   steps[t - 1].next if t > 0 else {}):  # fmt: skip
                        values[a] = torch.tensor(0.0)  # It takes no part.
                    continue
                q, q_target = net.see(look.obs[a]), target.see(look.obs[a])
                if t < len(stretch):
                    steps[t].chosen[a] = q[int(stretch[t].act[a])]
                if t > 0:
                    judge = q if self.c.double_q else q_target
                    allowed = look.mask.get(a, np.ones(len(q), bool))
                    if not allowed.any():  # Dead: it will not be read.
                        allowed = np.ones(len(q), bool)
                    best = max(np.flatnonzero(allowed), key=lambda k: float(judge.detach()[k]))
                    steps[t - 1].next[a] = q_target[best]
        return steps

    def _differences(self, values, rewards, nexts):
        """Values less TD(lambda) targets, as weighted sums of n-step returns.

        Args:
            values: Of T steps.
            rewards: After them.
            nexts: Of what follows them; None where nothing does.
        """
        return [value - self._target(rewards[t:], nexts[t:]) for t, value in enumerate(values)]

    def _target(self, rewards, nexts):
        lambda_, total, target = self.c.lambda_, 1.0, 0.0
        so_far, discount = 0.0, 1.0
        for k, (reward, after) in enumerate(zip(rewards, nexts, strict=True)):
            so_far += discount * reward
            discount *= self.c.gamma
            last = k == len(rewards) - 1 or after is None
            ahead = so_far if after is None else so_far + discount * float(after)
            weight = total if last else (1 - lambda_) * total
            target += weight * ahead
            total *= lambda_
            if last:
                break
        return target

    def _count_what_is_seen(self, stretch):
        last = stretch[-1]
        end = "terminated" if last.after is None else "truncated" if last.cut else "open"
        self.seen[end] += 1
        self.seen["later"] += stretch[0].step > 0
        self.seen["short"] += len(stretch) < self.c.max_seq_len
        self.seen["dead"] += sum(not all(row.now.alive.values()) for row in stretch)

    def _move_targets(self):
        pairs = [(self.targets[m], self.nets[m]) for m in self.nets]
        for slow, fast in [*pairs, (self.target_mixer, self.mixer)]:
            for x, y in zip(slow.values.values(), fast.values.values(), strict=True):
                x.data = (1 - self.c.tau) * x.data + self.c.tau * y.data

    def differences(self, learner):
        """The largest absolute difference of every parameter to the learner's."""
        ours = {
            (m, k): p.detach()
            for m in (*self.nets, "critic")
            for net in ((self.mixer, self.target_mixer) if m == "critic"
                        else (self.nets[m], self.targets[m]))
            for k, p in net.values.items()
        }  # fmt: skip
        theirs = {
            (m, k): p.detach()
            for m in learner.module.keys()  # noqa: SIM118
            for k, p in learner.module[m].named_parameters()
        }
        assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
        return {k: float((p - theirs[k]).abs().max()) for k, p in ours.items()}
