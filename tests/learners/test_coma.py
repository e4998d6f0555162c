"""COMA's learner against loops over rows and agents; with one agent, against an actor-critic."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from toys import (
    ULP,
    CountingTeam,
    MaskedTeam,
    PlainActor,
    SlowTeam,
    make_learner,
    make_runner,
    sample,
    small_config,
    team_batch,
    update,
)

from rllib_hetero import COMAConfig
from rllib_hetero.connectors.following import FOLLOWING
from rllib_hetero.modules.memory import initial_state, pack, unpack

UNEQUAL = {"a": (2, "three"), "b": (3, "discrete"), "c": (4, "three")}
DYING = {"agents": UNEQUAL, "dies": {"a": 2, "b": 3}, "end": "alternate"}
ALIKE = {"agents": dict.fromkeys("abc", (3, "three")), "dies": {"b": 3}, "end": "alternate"}
TINY = np.finfo(np.float32).tiny


class Critic(nn.Module):
    """Layers copied from the library's: (Linear, ReLU, LayerNorm) x hidden, Linear."""

    def __init__(self, weights, prefix):
        super().__init__()
        get = {
            k.removeprefix(prefix): torch.as_tensor(np.asarray(v)).clone()
            for k, v in weights.items()
            if k.startswith(prefix)
        }
        stems = dict.fromkeys(k.rsplit(".", 1)[0] for k in get)
        self.names, layers = {}, []
        for stem in sorted(stems, key=lambda s: (s != "first", s)):
            weight = get[f"{stem}.weight"]
            flat = weight.ndim == 1
            layer = nn.LayerNorm(len(weight)) if flat else nn.Linear(*reversed(weight.shape))
            for part in ("weight", "bias"):
                getattr(layer, part).data.copy_(get[f"{stem}.{part}"])
                self.names[f"net.{len(layers)}.{part}"] = f"{prefix}{stem}.{part}"
            layers += [layer] if flat else [layer, nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x):
        return self.net(x)


class SlowCOMA(SlowTeam):
    def __init__(self, learner, frozen=()):
        self.c = c = learner.config
        self.frozen = frozen
        self.team, self.groups = c.layout.team, dict(c.layout.groups)
        self.agents = list(self.team.agents)
        state = {m: learner.module[m].get_state() for m in learner.module.keys()}  # noqa: SIM118
        self.actors = {
            m: PlainActor(state[m], self.team.action_spaces[agents[0]])
            for m, agents in self.groups.items()
        }
        self.critic = Critic(state["critic"], "network.")
        self.target = Critic(state["critic"], "target_network.")
        self.optimizers = {
            m: torch.optim.Adam(net.parameters(), lr=lr, eps=c.adam_epsilon)
            for m, net, lr in [
                *((m, net, c.lr) for m, net in self.actors.items()),
                ("critic", self.critic, c.lr if c.critic_lr is None else c.critic_lr),
            ]
        }
        self.norm = np.zeros(3)
        self.iteration = self.critic_steps = 0
        self.roundings = {m: 0.0 for m in self.optimizers}

    # -- data

    def look(self, f, observations, active, masks, state, index):
        slots = [(a, m, k) for m, agents in self.groups.items() for k, a in enumerate(agents)]
        whole = {a: observations[m][index][k] for a, m, k in slots}
        plain = [whole[a][: self.team.observation_spaces[a].shape[0]] for a in self.agents]
        return SimpleNamespace(
            obs=whole,
            alive={a: float(active[m][index][k]) for a, m, k in slots},
            mask={a: masks[m][index][k] for a, m, k in slots if m in masks},
            state=np.concatenate(plain) if state is None else state[index],
        )

    def _row(self, f, t, e):
        now = self.look(f, f.observations, f.active, f.action_masks, f.state, (t, e))
        at = [i for i in range(len(f.finals.step)) if (f.finals.step[i], f.finals.env[i]) == (t, e)]
        outside = None
        if f.terminated[t, e]:
            pass
        elif at:
            x = f.finals
            outside = self.look(f, x.observations, x.active, x.action_masks, x.state, (at[0],))
        elif t == len(f.valid) - 1:
            outside = self.look(
                f, f.last_observations, f.last_active, f.last_action_masks, f.last_state, (e,)
            )
        team = f.rewards[t, e]
        shared = self.team.reward_scheme == "shared"
        return SimpleNamespace(
            now=now,
            act={
                a: int(f.actions[m][t, e, k])
                for m, agents in self.groups.items()
                for k, a in enumerate(agents)
            },
            own=dict(zip(self.agents, team, strict=True)),
            team=float(max(team, key=abs)) if shared else float(sum(team)),
            terminated=bool(f.terminated[t, e]),
            outside=outside,
        )

    def logits(self, a, looks):
        (m,) = (m for m, agents in self.groups.items() if a in agents)
        out = self.actors[m].net(torch.tensor(np.array([x.obs[a] for x in looks])))
        if a in looks[0].mask:
            mask = torch.tensor(np.array([x.mask[a] for x in looks]))
            out = out.masked_fill(~mask, torch.finfo(torch.float32).min)
        return out

    def one_hot(self, a, action, alive):
        return [float(alive and k == action) for k in range(self.team.action_spaces[a].n)]

    def q(self, net, look, act, a):
        """Values of all of a's actions in one moment."""
        x = [*look.state]
        for b in self.agents:
            x += self.one_hot(b, act[b], b != a and look.alive[b])
        x += [float(a == b) for b in self.agents]
        out = net(torch.tensor(x, dtype=torch.float32)[None])[0]
        return out * self._std() + self._mean()

    # -- an update

    def update(self, fragments):
        self.iteration += 1
        rows = self.rows(fragments)
        self.follow(rows)
        c = self.c
        with torch.no_grad():
            targets, counted = self.targets(rows)
            old = {a: torch.log_softmax(self.logits(a, [r.now for r in rows]), -1) for a in
                   self.agents}  # fmt: skip
        self.fit(rows, targets, counted)
        with torch.no_grad():
            advantages = self.advantages(rows, old)
        for m, agents in self.groups.items():
            if m in self.frozen:
                continue
            for b in self._batches(len(rows), 0, c.num_epochs):
                loss, alive = 0.0, 0.0
                for a in agents:
                    living = torch.tensor([rows[i].now.alive[a] for i in b])
                    act = torch.tensor([rows[i].act[a] for i in b])[:, None]
                    new = torch.log_softmax(self.logits(a, [rows[i].now for i in b]), -1)
                    ratio = torch.exp((new - old[a][b]).gather(1, act)[:, 0])
                    entropy = -(torch.exp(new) * new).sum(-1)
                    gain = ratio * advantages[a][b] + c.entropy_coeff * entropy
                    loss, alive = loss - (gain * living).sum(), alive + living.sum()
                if alive:
                    self._step(m, self.actors[m], loss / alive)

    def follow(self, rows):
        """Draws what is done in the moments that no row tells of, by the documented seed."""
        outside = [r for r in rows if r.outside]
        rng = np.random.default_rng((self.c.seed, self.iteration, 4))
        for r in outside:
            r.next_act = {}
        for a in self.agents:
            with torch.no_grad():
                logits = self.logits(a, [r.outside for r in outside])
            noise = rng.standard_exponential(tuple(logits.shape), dtype=np.float32)
            noise = -np.log(np.maximum(noise, TINY))
            drawn = (logits + torch.tensor(noise)).argmax(-1)
            for r, k in zip(outside, drawn, strict=True):
                r.next_act[a] = int(k)

    def targets(self, rows):
        c, targets, counted = self.c, {}, {}
        for a in self.agents:
            y = [0.0] * len(rows)
            for i in reversed(range(len(rows))):
                r = rows[i]
                reward = r.own[a] if c.individual_rewards else r.team
                if r.terminated:
                    y[i] = reward
                    continue
                here = r.outside or rows[i + 1].now
                act = r.next_act if r.outside else rows[i + 1].act
                if c.individual_rewards and not here.alive[a]:
                    y[i] = reward
                    continue
                chosen = act[a] if here.alive[a] else 0
                after = float(self.q(self.target, here, act, a)[chosen])
                if not r.outside:
                    after = (1 - c.lambda_) * after + c.lambda_ * y[i + 1]
                y[i] = reward + c.gamma * after
            targets[a] = y
            counted[a] = [float(not c.individual_rewards or r.now.alive[a]) for r in rows]
        return targets, counted

    def fit(self, rows, targets, counted):
        c = self.c
        pairs = [(i, a) for i in range(len(rows)) for a in self.agents]
        if c.value_norm:
            y = np.array([targets[a][i] for i, a in pairs if counted[a][i]], np.float64)
            w = 0.99999
            self.norm = w * self.norm + (1 - w) * np.array([y.mean(), (y * y).mean(), 1.0])
        for b in self._batches(len(rows), 1_000_000, c.critic_num_epochs):
            loss = 0.0
            total = sum(counted[a][i] for i in b for a in self.agents)
            for i in b:
                for a in self.agents:
                    if counted[a][i]:
                        r = rows[i]
                        chosen = r.act[a] if r.now.alive[a] else 0
                        v = self.q(self.critic, r.now, r.act, a)[chosen]
                        loss = loss + ((v - targets[a][i]) / self._std()) ** 2
            self._step("critic", self.critic, c.vf_loss_coeff * loss / total)
            self.critic_steps += 1
            if self.critic_steps % c.target_network_update_freq == 0:
                for slow, fast in zip(
                    self.target.parameters(), self.critic.parameters(), strict=True
                ):
                    slow.data = (1 - c.tau) * slow.data + c.tau * fast.data

    def advantages(self, rows, old):
        out = {}
        for a in self.agents:
            out[a] = []
            for i, r in enumerate(rows):
                q = self.q(self.critic, r.now, r.act, a)[: old[a].shape[1]]
                baseline = sum(float(p) * float(x) for p, x in
                               zip(torch.exp(old[a][i]), q, strict=True) if p > 0)  # fmt: skip
                chosen = r.act[a] if r.now.alive[a] else 0
                out[a].append(float(q[chosen]) - baseline)
            if self.c.standardize_advantages:
                living = [x for x, r in zip(out[a], rows, strict=True) if r.now.alive[a]]
                mean, std = np.mean(living), np.std(living)
                out[a] = [(x - mean) / (std + 1e-5) for x in out[a]]
            out[a] = torch.tensor(out[a], dtype=torch.float32)
        return out

    def _count_rounding(self, name, parameters):
        settings = self.optimizers[name].defaults
        gradient = max(float(p.grad.abs().max()) for p in parameters)
        weight = max(float(p.detach().abs().max()) for p in parameters)
        moved = settings["lr"] / settings["eps"] * gradient * self.num_rows**0.5
        self.roundings[name] += ULP * (weight + moved)

    def differences(self, learner):
        ours = {(m, k): p for m, net in self.actors.items() for k, p in net.weights().items()}
        for net in (self.critic, self.target):
            ours |= {("critic", net.names[k]): p for k, p in net.named_parameters()}
        theirs = {(m, k): p for m in learner.module.keys()  # noqa: SIM118
                  for k, p in learner.module[m].named_parameters()}  # fmt: skip
        assert ours.keys() == theirs.keys()
        return {k: float((p - theirs[k]).abs().max().detach()) for k, p in ours.items()}


def run(env_config=DYING, env=CountingTeam, *, updates=2, frozen=(), slow_cls=SlowCOMA, **settings):
    settings = {
        "critic_num_epochs": 3, "target_network_update_freq": 2, "tau": 0.5, "critic_lr": 2e-3,
    } | settings  # fmt: skip
    config = small_config(COMAConfig, env, env_config, **settings)
    if frozen:
        config.multi_agent(policies_to_train=sorted(set(config.layout.groups) - set(frozen)))
    learner, runner = make_learner(config), make_runner(config)
    slow = slow_cls(learner) if not frozen else slow_cls(learner, frozen)
    before = slow_cls(learner)
    for _ in range(updates):
        fragments = sample(runner, learner)
        update(learner, fragments)
        slow.update(fragments)
    moved = before.differences(learner)
    assert slow.critic_steps >= 2 * updates
    slow.assert_same(learner)
    return learner, slow, moved


@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("env", [CountingTeam, MaskedTeam])
def test_unequal_agents_that_die_learn_as_loops_over_agents_do(env, individual):
    _, slow, moved = run(env=env, individual_rewards=individual)
    assert all(x > 3e-4 for (_, k), x in moved.items() if k.endswith("weight")), moved
    assert max(slow.roundings.values()) < 0.1 * max(moved.values())


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        ({"state": True, "scheme": "shared"}, {"value_norm": False, "lambda_": 0.0}),
        ({}, {"standardize_advantages": False, "lambda_": 1.0, "gamma": 0.9}),
        ({}, {"minibatch_size": 7, "num_epochs": 2, "entropy_coeff": 0.1}),
    ],
    ids=["state", "returns", "minibatches"],
)
def test_every_setting_does_what_it_says(env, settings):
    run({**DYING, **env}, **settings)


def test_agents_that_share_a_network():
    run(ALIKE, sharing={"ends": ["a", "c"]})


def test_a_frozen_policy_acts_and_stands_still():
    _, _, moved = run(frozen=("b",))
    assert not any(x for (m, _), x in moved.items() if m == "b")


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("sharing", [None, {"ends": ["a", "c"]}])
def test_policies_that_remember_are_led_to_the_moments_outside(kind, sharing):
    """What they would do there is what they do step by step, from where the runner's memory was."""
    model = {"recurrent": kind, "max_seq_len": 3}
    config = small_config(COMAConfig, env_config=ALIKE, model=model, sharing=sharing)
    learner, runner = make_learner(config), make_runner(config)
    for _ in range(2):  # The second fragment begins within episodes.
        fragments = sample(runner, learner)
    (f,) = fragments
    batch = team_batch(learner, fragments)
    follows = batch["critic"][FOLLOWING]
    assert len(follows.row) > 3
    places = [(e, t) for e in range(f.num_envs) for t in range(len(f.valid)) if f.valid[t, e]]
    for m, agents in config.layout.groups.items():
        with torch.no_grad():
            found = learner._outputs_outside(m, batch, follows)
        module = learner.module[m].unwrapped()
        for i, row in enumerate(follows.row.tolist()):
            e, end = places[row]
            over = f.terminated | f.truncated
            first = max([t + 1 for t in range(end) if over[t, e]], default=0)
            start = max(first, end - end % 3)  # where the runner has kept what is remembered
            for k in range(len(agents)):
                state = initial_state(module)[None]
                if start % 3 == 0:
                    state = torch.tensor(f.states[m][start // 3, e, k])[None]
                seen = [*f.observations[m][start : end + 1, e, k], follows.observations[m][i, k]]
                for x in seen:
                    batch_of_one = {
                        "obs": torch.as_tensor(x)[None, None],
                        "state_in": unpack(state, module),
                    }
                    with torch.no_grad():
                        out = module.forward_train(batch_of_one)
                    state = pack(out["state_out"])
                # One cell after another or all at once: sums of 16 terms in 3 layers, 4 times.
                np.testing.assert_allclose(
                    found[i, k], out["action_dist_inputs"][0, 0], rtol=0, atol=4 * 3 * 16 * ULP
                )


class SlowActorCritic(SlowCOMA):
    """One agent: Q(o, .), TD(lambda) targets of its target network, advantages Q - V.

    Written without a joint action: of the critic's first layer only the observation's part and
    the constant part are used.
    """

    def update(self, fragments):
        self.iteration += 1
        (a,), c = self.agents, self.c
        rows = self.rows(fragments)
        self.follow(rows)
        obs = torch.tensor(np.array([r.now.obs[a] for r in rows]))
        act = torch.tensor([r.act[a] for r in rows])
        with torch.no_grad():
            target_values = self.values(self.target, obs)
            y = torch.zeros(len(rows))
            for i in reversed(range(len(rows))):
                if rows[i].terminated:
                    y[i] = float(rows[i].own[a])
                elif rows[i].outside:
                    o = torch.tensor(rows[i].outside.obs[a])[None]
                    q = self.values(self.target, o)[0, rows[i].next_act[a]]
                    y[i] = float(rows[i].own[a]) + c.gamma * q
                else:
                    q = target_values[i + 1, act[i + 1]]
                    mixed = (1 - c.lambda_) * q + c.lambda_ * y[i + 1]
                    y[i] = float(rows[i].own[a]) + c.gamma * mixed
        for _ in range(c.critic_num_epochs):
            q = self.values(self.critic, obs).gather(1, act[:, None])[:, 0]
            self._step("critic", self.critic, ((q - y) ** 2).mean())
            self.critic_steps += 1
            if self.critic_steps % c.target_network_update_freq == 0:
                for slow, fast in zip(
                    self.target.parameters(), self.critic.parameters(), strict=True
                ):
                    slow.data = (1 - c.tau) * slow.data + c.tau * fast.data
        policy = torch.distributions.Categorical(logits=self.actors[a].net(obs))
        with torch.no_grad():
            q = self.values(self.critic, obs)
            advantage = q.gather(1, act[:, None])[:, 0] - (policy.probs * q).sum(1)
        self._step(a, self.actors[a], -(policy.log_prob(act) * advantage).mean())

    def values(self, net, obs):
        first, *rest = net.net
        d = obs.shape[1]
        # Behind the observation lie the agent's own one-hot, always empty, and its index.
        x = obs @ first.weight[:, :d].T + first.weight[:, -1] + first.bias
        for layer in rest:
            x = layer(x)
        return x


def test_with_one_agent_it_is_an_actor_critic():
    env = {"agents": {"only": (3, "discrete")}, "end": "alternate"}
    plain = {
        "value_norm": False, "standardize_advantages": False, "entropy_coeff": 0.0, "num_epochs": 1,
    }  # fmt: skip
    _, _, moved = run(env, updates=5, slow_cls=SlowActorCritic, **plain)
    # But for the own one-hot's part, all has gone a long way.
    assert all(x > 1e-3 for (_, k), x in moved.items() if k.endswith("weight")), moved
