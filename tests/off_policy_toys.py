"""A slow DDPG, TD3 and SAC in plain torch, and slow teams of them, to compare the learners with.

The slow half uses nothing of `rllib_hetero`: it reads fragments' arrays, row after row, a copy of
the initial weights, and the documented seeds: of update k of a run of seed s, the transitions are
drawn from (s, k, 1), the noise from (s, k, 2) and a random order from (s, k, 0).
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import nn
from toys import ULP, CountingTeam, message_of

# ---- a learner without Ray ----------------------------------------------------------------------


def off_policy_config(
    cls, env=CountingTeam, env_config=None, *, num_envs=3, steps=8, model=None, sharing=None,
    **training,
):  # fmt: skip
    """A validated config of a small team, sampled and trained on in this process."""
    # Adam's epsilon keeps gradients that are all but zero from becoming steps made of rounding.
    settings = {
        "lr": 1e-3, "critic_lr": 2e-3, "adam_epsilon": 1e-3, "tau": 0.1,
        "train_batch_size_per_learner": 16, "num_steps_sampled_before_learning_starts": 0,
        "replay_buffer_config": {"capacity": 100 * num_envs},
    }  # fmt: skip
    config = (
        cls()
        .environment(env, env_config=env_config or {})
        .env_runners(
            num_env_runners=0, num_envs_per_env_runner=num_envs, rollout_fragment_length=steps
        )
        .learners(num_learners=0)
        .training(**(settings | training))
        .rl_module(model_config={"hidden_sizes": [16, 16]} | (model or {}))
        .debugging(seed=7, log_level="ERROR")
    )
    if sharing is not None:
        config.multi_agent(parameter_sharing=sharing)
    config.validate()
    return config


def update(learner, fragments, count, *, env_steps=0):
    """So many updates of a learner, or of a learner group, once it has these fragments too."""
    from rllib_hetero.algorithms.off_policy.replay_data import ReplayData

    return learner.update(
        training_data=ReplayData.of(fragments, learner.config),
        timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps},
        num_updates=count,
    )


def cross_critics(learner):
    """Shifts the second of two critics, so that each is the smaller one in half of all places.

    Else a learner that has forgotten the minimum may be none the worse.
    """
    critic = learner.critic
    if len(critic.networks) < 2:
        return
    generator = torch.Generator().manual_seed(0)
    (seen,) = critic.observation_space.shape
    (acted,) = critic.action_space.shape
    x, u = (2 * torch.rand(500, k, generator=generator) - 1 for k in (seen, acted))
    with torch.no_grad():
        for networks, values in (
            (critic.networks, critic.q_values(x, u)),
            (critic.target_networks, critic.target_q_values(x, u)),
        ):
            networks[1][1].bias += (values[0] - values[1]).median()


# ---- data, row after row ------------------------------------------------------------------------


class SlowReplay:
    """Every step of every environment, in order of time; the oldest are dropped.

    Args:
        config: Of the learner.
    """

    def __init__(self, config):
        self.c = config
        self.team = config.layout.team
        self.groups = dict(config.layout.groups)
        self.columns = [[] for _ in range(config.num_envs)]

    def add(self, fragments):
        rows = self.c.replay_buffer_config["capacity"] // len(self.columns)
        for f in fragments:
            for e, column in enumerate(self.columns):
                column += [self._row(f, t, e) for t in range(len(f.valid))]
                del column[:-rows]

    def draw(self, update):
        """The minibatch of an update: namespaces of tensors, `now` and `after`, and returns."""
        total = sum(map(len, self.columns))
        indices = self.indices(np.random.default_rng((self.c.seed, update, 1)), total)
        places = [(column, i) for column in self.columns for i in range(len(column))]
        walks = [self._walk(*places[i]) for i in indices]
        first, last, rewards, discounts = zip(*walks, strict=True)
        self.seen_ends = Counter(
            "terminated" if r.after is None else "truncated" if r.cut else "open" for r in last
        )
        return SimpleNamespace(
            now=self._tensors([r.now for r in first]),
            after=self._tensors([self._nothing() if r.after is None else r.after for r in last]),
            actions={
                a: torch.tensor([message_of(self.team.action_spaces[a], r.act[a]) for r in first])
                for a in self.team.agents
            },
            rewards=torch.tensor(rewards, dtype=torch.float32),
            discounts=torch.tensor(discounts, dtype=torch.float32),
        )

    def indices(self, rng, total):
        return rng.integers(total, size=self.c.train_batch_size_per_learner)

    def _walk(self, column, i):
        reward, discount = 0.0, 1.0
        for row in column[i : i + self.c.n_step]:
            reward += discount * row.reward
            discount *= self.c.gamma
            if row.after is None:
                return column[i], row, reward, 0.0
            if row.cut:
                break
        return column[i], row, reward, discount

    def _row(self, f, t, e):
        def look(active, observations, masks, state, index):
            obs = {a: observations[m][index][k] for a, m, k in self._slots()}
            plain = [obs[a][: self.team.observation_spaces[a].shape[0]] for a in self.team.agents]
            return SimpleNamespace(
                obs=obs,
                alive={a: float(active[m][index][k]) for a, m, k in self._slots()},
                mask={a: masks[m][index][k] for a, m, k in self._slots() if m in masks},
                state=np.concatenate(plain) if state is None else state[index],
            )

        at = [i for i in range(len(f.finals.step)) if (f.finals.step[i], f.finals.env[i]) == (t, e)]
        if f.terminated[t, e]:
            after = None
        elif at:
            x = f.finals
            after = look(x.active, x.observations, x.action_masks, x.state, (at[0],))
        elif t == len(f.valid) - 1:
            after = look(
                f.last_active, f.last_observations, f.last_action_masks, f.last_state, (e,)
            )
        else:
            after = look(f.active, f.observations, f.action_masks, f.state, (t + 1, e))
        if self.team.reward_scheme == "individual":
            reward = sum(float(r) for r in f.rewards[t, e])
        else:  # of those alive; the dead are given 0
            reward = float(max(f.rewards[t, e], key=abs))
        return SimpleNamespace(
            now=look(f.active, f.observations, f.action_masks, f.state, (t, e)),
            act={a: f.actions[m][t, e, k] for a, m, k in self._slots()},
            reward=reward, cut=bool(f.truncated[t, e]), after=after,
        )  # fmt: skip

    def _slots(self):
        return [(a, m, k) for m, agents in self.groups.items() for k, a in enumerate(agents)]

    def _nothing(self):
        """What stands behind a termination; its discount is 0."""
        nothing = copy.deepcopy(self.columns[0][0].now)
        nothing.alive = dict.fromkeys(nothing.alive, 0.0)
        return nothing

    def _tensors(self, looks):
        def stack(part):
            keys = getattr(looks[0], part)
            return {a: torch.tensor(np.array([getattr(x, part)[a] for x in looks])) for a in keys}

        return SimpleNamespace(
            obs=stack("obs"),
            alive={a: x.float() for a, x in stack("alive").items()},
            mask=stack("mask"),
            state=torch.tensor(np.array([x.state for x in looks])),
        )


class Noise:
    """The random numbers of one update, in the order in which they are asked for."""

    def __init__(self, config, update):
        (seed,) = np.random.SeedSequence((config.seed, update, 2)).generate_state(1, np.uint64)
        self.generator = torch.Generator().manual_seed(int(seed >> 1))
        self.size = config.train_batch_size_per_learner

    def normals(self, k):
        return torch.randn((self.size, k), generator=self.generator)

    def gumbels(self, k):
        x = torch.empty((self.size, k)).exponential_(generator=self.generator)
        return -torch.log(x.clamp(min=torch.finfo(torch.float32).tiny))


# ---- networks and policies ----------------------------------------------------------------------


class Net(nn.Module):
    """Linear layers with ReLU between, copied from those of a state dict with these prefixes."""

    def __init__(self, weights, *prefixes, last=torch.relu):
        super().__init__()
        self.names = [
            k.removesuffix(".weight")
            for k in weights
            if k.startswith(prefixes) and k.endswith(".weight")
        ]
        self.last = last  # of the hidden layers
        self.layers = nn.ModuleList()
        for name in self.names:
            weight, bias = (torch.tensor(weights[f"{name}.{x}"]) for x in ("weight", "bias"))
            layer = nn.Linear(*reversed(weight.shape))
            layer.weight.data.copy_(weight)
            layer.bias.data.copy_(bias)
            self.layers.append(layer)

    def forward(self, x):
        *hidden, head = self.layers
        for layer in hidden:
            x = self.last(layer(x)) if layer is hidden[-1] else torch.relu(layer(x))
        return head(x)

    def weights(self):
        """Parameters by the library's names."""
        return {
            f"{name}.{part}": getattr(layer, part).detach()
            for name, layer in zip(self.names, self.layers, strict=True)
            for part in ("weight", "bias")
        }


def choices(space):
    return [int(space.n)] if isinstance(space, Discrete) else space.nvec.tolist()


def allowed(logits, mask):
    return logits if mask is None else logits.masked_fill(~mask, torch.finfo(torch.float32).min)


def one_hots(logits, space, temperature):
    """The largest of each component as a one-hot, with the gradient of the softmax."""
    parts = []
    for x in logits.split(choices(space), -1):
        hard = nn.functional.one_hot(x.argmax(-1), x.shape[-1]).float()
        soft = torch.softmax(x / temperature, -1)
        parts.append(hard + soft - soft.detach())
    return torch.cat(parts, -1)


class DeterministicPolicy:
    """mu(o) and its target; of choices, a Gumbel-softmax policy."""

    def __init__(self, weights, space, config):
        self.c, self.space = config, space
        self.net = Net(weights, "body.", "head.")
        self.target = Net(weights, "target_network.")

    def action(self, obs, mask, noise):
        out = self.net(obs)
        if isinstance(self.space, Box):
            return self._in_bounds(out)
        gumbels = noise.gumbels(out.shape[-1])
        return one_hots(allowed(out, mask) + gumbels, self.space, self.c.gumbel_temperature)

    def target_action(self, obs, mask, noise=None):
        """With noise, the smoothed one."""
        out = self.target(obs)
        if not isinstance(self.space, Box):
            logits = allowed(out, mask)
            if noise is not None:
                logits = logits + noise.gumbels(out.shape[-1])
            return one_hots(logits, self.space, 1.0)
        action = self._in_bounds(out)
        if noise is None:
            return action
        low, high = torch.tensor(self.space.low), torch.tensor(self.space.high)
        most = self.c.target_noise_clip
        off = torch.clamp(self.c.target_noise * noise.normals(len(low)), -most, most)
        return torch.clamp(action + off * (high - low) / 2, low, high)

    def _in_bounds(self, out):
        low, high = torch.tensor(self.space.low), torch.tensor(self.space.high)
        return (high + low) / 2 + torch.tanh(out) * (high - low) / 2


class SquashedPolicy:
    """pi(a | o): a Gaussian through tanh, or a categorical."""

    def __init__(self, weights, space, config):
        self.c, self.space = config, space
        self.net = Net(weights, "body.", "head.", last=torch.tanh)
        self.target = None

    def draw(self, obs, mask, noise):
        """Action and log pi, of choices its expectation."""
        out = self.net(obs)
        if not isinstance(self.space, Box):
            logits = allowed(out, mask)
            gumbels = noise.gumbels(out.shape[-1])
            action = one_hots(logits + gumbels, self.space, self.c.gumbel_temperature)
            log_probs = [torch.log_softmax(x, -1) for x in logits.split(choices(self.space), -1)]
            # Its mean over all actions; a forbidden one has p = 0 and a finite log p.
            return action, sum((torch.exp(x) * x).sum(-1) for x in log_probs)
        mean, log_std = out.chunk(2, -1)
        std = torch.exp(torch.clamp(log_std, -20, 2))
        u = mean + std * noise.normals(mean.shape[-1])
        low, high = torch.tensor(self.space.low), torch.tensor(self.space.high)
        half = (high - low) / 2
        # The slope of tanh in double precision, as it is a difference of nearly equal numbers.
        slope = half.double() * (1 - torch.tanh(u.double()) ** 2)
        log_prob = torch.distributions.Normal(mean, std).log_prob(u).sum(-1)
        action = (high + low) / 2 + torch.tanh(u) * half
        return action, log_prob - torch.log(slope).sum(-1).float()

    def wanted_entropy(self, mask):
        c = self.c
        if c.target_entropy != "auto":
            return torch.tensor(c.target_entropy)
        if isinstance(self.space, Box):  # -dim where the range is 2 wide
            return torch.tensor(np.log((self.space.high - self.space.low) / 2) - 1).sum()
        nvec = choices(self.space)
        if mask is None:
            return torch.tensor(c.target_entropy_fraction * sum(map(math.log, nvec)))
        counts = torch.stack([x.sum(-1).float() for x in mask.split(nvec, -1)], -1)
        return c.target_entropy_fraction * torch.log(counts).sum(-1)


# ---- what the slow learners share ---------------------------------------------------------------


class SlowLearner:
    """Critics, optimisers and Polyak averages. Starts as a copy of a learner."""

    def __init__(self, learner, policy):
        self.c = c = learner.config
        state = {m: learner.module[m].get_state() for m in learner.module.keys()}  # noqa: SIM118
        weights = {m: {k: np.asarray(x) for k, x in part.items()} for m, part in state.items()}
        team = c.layout.team
        self.policies = {
            m: policy(weights[m], team.action_spaces[agents[0]], c)
            for m, agents in c.layout.groups.items()
        }
        numbers = sorted({k.split(".")[1] for k in weights["critic"] if k.startswith("networks.")})
        self.critics = [Net(weights["critic"], f"networks.{j}.") for j in numbers]
        self.critic_targets = [Net(weights["critic"], f"target_networks.{j}.") for j in numbers]
        self.log_alpha = None
        self.optimizers = {
            m: torch.optim.Adam(p.net.parameters(), lr=c.lr, eps=c.adam_epsilon)
            for m, p in self.policies.items()
        }
        self.optimizers["critic"] = torch.optim.Adam(
            [p for q in self.critics for p in q.parameters()], lr=c.critic_lr, eps=c.adam_epsilon
        )
        if "log_alpha" in weights["critic"]:
            self.log_alpha = nn.Parameter(torch.tensor(weights["critic"]["log_alpha"]))
            self.optimizers["alpha"] = torch.optim.Adam(
                [self.log_alpha], lr=c.alpha_lr or 0.0, eps=c.adam_epsilon
            )
        self.replay = SlowReplay(c)
        self.updates = 0
        self.seen_ends = Counter()
        self.smaller = Counter()  # which of two critics was, in targets and for actors
        self.roundings = Counter()

    def minimum(self, critics, x):
        values = [q(x)[:, 0] for q in critics]
        of = "target" if critics is self.critic_targets else "actor"
        self.smaller[of, 0] += int((values[0] < values[1]).sum())
        self.smaller[of, 1] += int((values[0] > values[1]).sum())
        return torch.minimum(*values)

    def assert_minimum_matters(self):
        """Where there was one to take, each critic was the smaller one somewhere.

        One row is enough: it is a sixteenth of a gradient, and rounding a millionth.
        """
        of = {what for what, _ in self.smaller}
        assert all(self.smaller[what, k] for what in of for k in (0, 1)), self.smaller

    def update(self, fragments, count):
        self.replay.add(fragments)
        for _ in range(count):
            self.one_update(self.replay.draw(self.updates), Noise(self.c, self.updates))
            if self.updates % (self.c.target_network_update_freq or self.c.policy_delay) == 0:
                self._move_targets()
            self.seen_ends += self.replay.seen_ends
            self.updates += 1

    def fit_critics(self, state, actions, target):
        x = torch.cat([state, actions], -1)
        errors = [q(x)[:, 0] - target for q in self.critics]
        self.step("critic", sum((e**2).mean() for e in errors))

    def step(self, name, loss):
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.c.grad_clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.c.grad_clip)
        optimizer.step()
        self._count_rounding(name, parameters)

    def _count_rounding(self, name, parameters):
        """Adds what one step of Adam may make of float32's rounding; see `toys.SlowTeam`."""
        settings = self.optimizers[name].defaults
        gradient = max(float(p.grad.abs().max()) for p in parameters)
        weight = max(float(p.detach().abs().max()) for p in parameters)
        rows = self.c.train_batch_size_per_learner
        moved = settings["lr"] / settings["eps"] * gradient * rows**0.5
        self.roundings[name] += ULP * (weight + moved)

    def _move_targets(self):
        pairs = list(zip(self.critic_targets, self.critics, strict=True))
        pairs += [(p.target, p.net) for p in self.policies.values() if p.target is not None]
        for target, net in pairs:
            for slow, fast in zip(target.parameters(), net.parameters(), strict=True):
                slow.data = (1 - self.c.tau) * slow.data + self.c.tau * fast.data

    def differences(self, learner):
        """The largest absolute difference of every parameter to the learner's."""
        ours = {("critic", k): p for q in self.critics + self.critic_targets
                for k, p in q.weights().items()}  # fmt: skip
        for m, policy in self.policies.items():
            for net in (policy.net, policy.target):
                ours |= {(m, k): p for k, p in (net.weights() if net else {}).items()}
        if self.log_alpha is not None:
            ours["critic", "log_alpha"] = self.log_alpha.detach()
        theirs = {
            (m, k): p.detach()
            for m in learner.module.keys()  # noqa: SIM118
            for k, p in learner.module[m].named_parameters()
        }
        assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
        return {k: float((p - theirs[k]).abs().max()) for k, p in ours.items()}

    def assert_same(self, learner):
        """Fails if a weight is further from the learner's than rounding takes it."""
        differences = self.differences(learner)
        assert max(differences.values()) <= max(self.roundings.values()), differences


# ---- single-agent algorithms, as their papers have them -----------------------------------------


class SlowDDPG(SlowLearner):
    """Lillicrap et al., ICLR 2016. The one agent sees the state, and never dies."""

    def __init__(self, learner, policy=DeterministicPolicy):
        super().__init__(learner, policy)
        ((self.m, self.policy),) = self.policies.items()
        (self.agent,) = self.c.layout.team.agents

    def one_update(self, batch, noise):
        a = self.agent
        obs, action, after = batch.now.obs[a], batch.actions[a], batch.after.obs[a]
        mask, mask_after = batch.now.mask.get(a), batch.after.mask.get(a)
        with torch.no_grad():
            value = self.next_value(after, mask_after, noise)
            target = batch.rewards + batch.discounts * value
        self.fit_critics(obs, action, target)
        if self.updates % self.c.policy_delay == 0:
            self.improve_actor(obs, mask, noise)

    def next_value(self, after, mask, noise):
        action = self.policy.target_action(after, mask)
        return self.critic_targets[0](torch.cat([after, action], -1))[:, 0]

    def improve_actor(self, obs, mask, noise):
        action = self.policy.action(obs, mask, noise)
        self.step(self.m, -self.critics[0](torch.cat([obs, action], -1)).mean())


class SlowTD3(SlowDDPG):
    """Fujimoto et al., ICML 2018."""

    def next_value(self, after, mask, noise):
        action = self.policy.target_action(after, mask, noise)
        return self.minimum(self.critic_targets, torch.cat([after, action], -1))


class SlowSAC(SlowDDPG):
    """Haarnoja et al., 2018, with an automatic temperature."""

    def __init__(self, learner):
        super().__init__(learner, SquashedPolicy)

    def next_value(self, after, mask, noise):
        action, log_prob = self.policy.draw(after, mask, noise)
        value = self.minimum(self.critic_targets, torch.cat([after, action], -1))
        return value - self.log_alpha.exp() * log_prob

    def improve_actor(self, obs, mask, noise):
        action, log_prob = self.policy.draw(obs, mask, noise)
        value = self.minimum(self.critics, torch.cat([obs, action], -1))
        self.step(self.m, (self.log_alpha.exp().detach() * log_prob - value).mean())
        if self.c.alpha_lr:
            excess = (-log_prob - self.policy.wanted_entropy(mask)).detach()
            self.step("alpha", (self.log_alpha * excess).mean())


# ---- teams --------------------------------------------------------------------------------------


class SlowOffPolicyTeam(SlowLearner):
    """HARL's Algorithms 6 and 7 and HASAC, or their simultaneous baselines, in loops.

    Args:
        learner: The learner whose weights and settings are copied.
        method: "ddpg", "td3" or "sac".
        sequential: One agent after another, beside the new actions of those before.
        frozen: Modules that are not trained.
    """

    def __init__(self, learner, method, *, sequential, frozen=()):
        super().__init__(learner, SquashedPolicy if method == "sac" else DeterministicPolicy)
        self.method, self.sequential, self.frozen = method, sequential, frozen
        self.agents = self.c.layout.team.agents
        self.module_of = {a: m for m, agents in self.c.layout.groups.items() for a in agents}
        self.entered = []  # of each actor step: its agent, and the joint action that was judged

    def one_update(self, batch, noise):
        with torch.no_grad():
            target = self.target(batch, noise)
        replayed = {a: batch.actions[a] * batch.now.alive[a][:, None] for a in self.agents}
        self.fit_critics(batch.now.state, self.joint(replayed), target)
        self.log_probs = {}
        if self.updates % self.c.policy_delay == 0:
            if self.sequential:
                self.in_turn(batch, noise)
            else:
                self.at_once(batch, noise, replayed)
            if self.method == "sac" and self.c.alpha_lr and self.log_probs:
                self.adapt_temperatures(batch)

    def target(self, batch, noise):
        actions, entropy_bonus = {}, 0.0
        # Noise is drawn module by module; SAC's agent by agent.
        agents = [a for m in sorted(self.policies) for a in self.c.layout.groups[m]]
        for a in self.agents if self.method == "sac" else agents:
            policy, now = self.policies[self.module_of[a]], batch.after
            obs, mask, alive = now.obs[a], now.mask.get(a), now.alive[a]
            if self.method == "sac":
                action, log_prob = policy.draw(obs, mask, noise)
                alpha = self.log_alpha[self.agents.index(a)].exp()
                entropy_bonus = entropy_bonus - alpha * log_prob * alive
            else:
                smooth = noise if self.method == "td3" else None
                action = policy.target_action(obs, mask, smooth)
            actions[a] = action * alive[:, None]
        x = torch.cat([batch.after.state, self.joint(actions)], -1)
        if len(self.critic_targets) == 1:
            value = self.critic_targets[0](x)[:, 0]
        else:
            value = self.minimum(self.critic_targets, x)
        return batch.rewards + batch.discounts * (value + entropy_bonus)

    def own(self, batch, a, noise):
        """The agent's action, and log pi, of its policy as it is now; both 0 where it is dead."""
        policy, now = self.policies[self.module_of[a]], batch.now
        obs, mask, alive = now.obs[a], now.mask.get(a), now.alive[a]
        if self.method == "sac":
            action, log_prob = policy.draw(obs, mask, noise)
            return action * alive[:, None], log_prob * alive
        return policy.action(obs, mask, noise) * alive[:, None], None

    def in_turn(self, batch, noise):
        first = {a: self.own(batch, a, noise) for a in self.agents}
        joint = {a: action.detach() for a, (action, _) in first.items()}
        for a in self.order():
            m = self.module_of[a]
            if m in self.frozen:
                continue
            for epoch in range(self.c.actor_num_epochs):
                alone = len(self.c.layout.groups[m]) == 1
                own = first[a] if epoch == 0 and alone else self.own(batch, a, noise)
                self.step(m, self.loss(batch, a, joint, own))
            joint[a] = self.own(batch, a, noise)[0].detach()

    def at_once(self, batch, noise, replayed):
        losses = {}
        for m in sorted(self.policies):
            if m not in self.frozen:
                losses[m] = sum(
                    self.loss(batch, a, replayed, self.own(batch, a, noise))
                    for a in self.c.layout.groups[m]
                )
        for m, loss in losses.items():
            self.step(m, loss)

    def order(self):
        rule = self.c.update_order
        if rule == "random":
            rng = np.random.default_rng((self.c.seed, self.updates, 0))
            return [self.agents[i] for i in rng.permutation(len(self.agents))]
        if rule == "reverse":
            return list(self.agents)[::-1]
        return list(self.agents) if rule == "cyclic" else rule

    def loss(self, batch, a, joint, own):
        action, log_prob = own
        actions = self.joint({**joint, a: action})
        self.entered.append((self.updates, a, actions.detach()))
        x = torch.cat([batch.now.state, actions], -1)
        alive = batch.now.alive[a]
        if self.method == "sac":
            self.log_probs[a] = log_prob.detach()
            value = self.minimum(self.critics, x)
            alpha = self.log_alpha[self.agents.index(a)].exp().detach()
            value = value - alpha * log_prob
        else:
            value = self.critics[0](x)[:, 0]
        return -(value * alive).sum() / max(float(alive.sum()), 1.0)

    def adapt_temperatures(self, batch):
        loss = 0.0
        for a, log_prob in self.log_probs.items():
            alive = batch.now.alive[a]
            wanted = self.policies[self.module_of[a]].wanted_entropy(batch.now.mask.get(a))
            excess = (-log_prob - wanted) * alive
            i = self.agents.index(a)
            loss = loss + self.log_alpha[i] * excess.sum() / max(float(alive.sum()), 1.0)
        self.step("alpha", loss)

    def joint(self, actions):
        return torch.cat([actions[a] for a in self.agents], -1)
