"""HAD3QN against a slow one that enumerates joint actions, row after row."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from off_policy_toys import Net, SlowLearner, SlowReplay, off_policy_config, update
from torch import nn
from toys import (
    CountingTeam,
    MaskedTeam,
    MatrixTeam,
    all_weights,
    make_learner,
    make_runner,
    sample,
)

from rllib_hetero import HAD3QNConfig
from rllib_hetero.functional import joint_actions

CLIMBING = [[11.0, -30.0, 0.0], [-30.0, 7.0, 0.0], [0.0, 6.0, 5.0]]


class Dueling(nn.Module):
    """Q(., a) = V + A(a) - mean A, copied from a state dict."""

    def __init__(self, weights, body, head):
        super().__init__()
        self.body = Net(weights, f"{body}.")
        self.branches = nn.ModuleList(
            Net(weights, f"{head}.{branch}.", last=nn.functional.hardswish)
            for branch in ("value", "advantage")
        )

    def forward(self, x):
        value, advantage = (net(torch.relu(self.body(x))) for net in self.branches)
        return value + advantage - advantage.mean(-1, keepdim=True)

    def weights(self):
        return {k: p for net in (self.body, *self.branches) for k, p in net.weights().items()}


class Own:
    """An agent's values and their target."""

    def __init__(self, weights):
        self.net = Dueling(weights, "body", "head")
        self.target = Dueling(weights, "target_network.0", "target_network.1")


class SlowHAD3QN(SlowLearner):
    """HARL's Algorithm 8 in loops over rows, agents and actions."""

    def __init__(self, learner, frozen=()):
        self.c, self.frozen = learner.config, frozen
        layout = self.c.layout
        weights = {
            m: {k: np.asarray(x) for k, x in learner.module[m].get_state().items()}
            for m in (*layout.groups, "critic")
        }
        self.agents, self.module_of = layout.team.agents, layout.module_of
        self.nvec = [int(layout.team.action_spaces[a].n) for a in self.agents]
        self.policies = {m: Own(weights[m]) for m in layout.groups}
        both = [self._critic(weights["critic"], name) for name in ("network", "target_network")]
        self.critics, self.critic_targets = both[:1], both[1:]
        self.log_alpha = None
        self.optimizers = {
            m: torch.optim.Adam(net.parameters(), lr=lr, eps=self.c.adam_epsilon)
            for m, net, lr in [
                ("critic", self.critics[0], self.c.critic_lr),
                *((m, p.net, self.c.lr) for m, p in self.policies.items()),
            ]
        }
        self.replay = SlowReplay(self.c)
        self.updates, self.seen_ends, self.roundings = 0, Counter(), Counter()

    def _critic(self, weights, name):
        if self.c.joint_critic == "exact":
            return Dueling(weights, f"{name}.network.0", f"{name}.network.1")
        return Net(weights, f"{name}.first.", f"{name}.rest.")

    def update(self, fragments, count):
        self.replay.add(fragments)
        for _ in range(count):
            self.one_update(self.replay.draw(self.updates))
            if self.updates % (self.c.target_network_update_freq or 1) == 0:
                self._move_targets()
            self.seen_ends += self.replay.seen_ends
            self.updates += 1

    def value(self, net, state, joint, alive):
        """Q(s, a) of one state and joint action; the dead do nothing."""
        if self.c.joint_critic == "exact":
            joint = tuple(a if lives else 0 for a, lives in zip(joint, alive, strict=True))
            every = list(itertools.product(*map(range, self.nvec)))
            return net(state)[every.index(joint)]
        one_hots = [
            float(x == a and lives)
            for n, a, lives in zip(self.nvec, joint, alive, strict=True)
            for x in range(n)
        ]
        return net(torch.cat([state, torch.tensor(one_hots)]))[0]

    def best(self, values, mask):
        """The allowed action with the highest of its values."""
        allowed = [x for x in range(len(values)) if mask is None or mask[x]]
        return max(allowed, key=lambda x: float(values[x]))

    def greedy(self, look, b, net):
        """What each agent's network likes best in row b."""
        return [
            self.best(
                getattr(self.policies[self.module_of[a]], net)(look.obs[a][b]),
                look.mask[a][b] if a in look.mask else None,
            )
            for a in self.agents
        ]

    def alive(self, look, b):
        return [bool(look.alive[a][b]) for a in self.agents]

    def errors(self, difference):
        delta = self.c.td_huber_delta
        if delta is None:
            return difference**2
        size = difference.abs()
        return torch.where(size <= delta, size**2, delta * (2 * size - delta))

    def one_update(self, batch):
        rows = range(len(batch.rewards))
        done = [[int(batch.actions[a][b].argmax()) for a in self.agents] for b in rows]
        self.fit_critic(batch, rows, done)
        order = self.order()
        with torch.no_grad():
            if self.c.fitted_actions == "greedy":
                done = [self.greedy(batch.now, b, "net") for b in rows]
            tables = [self.in_turn(batch.now, b, done[b], order) for b in rows]
        for a in order:
            if self.module_of[a] not in self.frozen:
                self.fit_agent(batch.now, a, [d[self.agents.index(a)] for d in done], tables)

    def fit_critic(self, batch, rows, done):
        with torch.no_grad():
            values = [
                self.value(
                    self.critic_targets[0],
                    batch.after.state[b],
                    self.greedy(batch.after, b, "target"),
                    self.alive(batch.after, b),
                )
                for b in rows
            ]
            target = batch.rewards + batch.discounts * torch.stack(values)
        values = [
            self.value(self.critics[0], batch.now.state[b], done[b], self.alive(batch.now, b))
            for b in rows
        ]
        self.step("critic", self.errors(torch.stack(values) - target).mean())

    def in_turn(self, now, b, joint, order):
        """For each agent, the critic's values of all its actions on its turn."""
        joint, table = list(joint), {}
        for a in order:
            i = self.agents.index(a)
            table[a] = [
                self.value(
                    self.critics[0],
                    now.state[b],
                    [*joint[:i], x, *joint[i + 1 :]],
                    self.alive(now, b),
                )
                for x in range(self.nvec[i])
            ]
            joint[i] = self.best(table[a], now.mask[a][b] if a in now.mask else None)
        return table

    def fit_agent(self, now, a, actions, tables):
        m, loss = self.module_of[a], 0.0
        for b, action in enumerate(actions):
            values = self.policies[m].net(now.obs[a][b])
            fitted = [action]
            if self.c.fitted_actions == "all":
                mask = now.mask.get(a)
                fitted = [x for x in range(len(values)) if mask is None or mask[b][x]]
            errors = [self.errors(values[x] - tables[b][a][x]) for x in fitted]
            loss = loss + now.alive[a][b] * sum(errors) / len(errors)
        self.step(m, loss / max(float(now.alive[a].sum()), 1.0))

    def order(self):
        if self.c.update_order != "random":
            return self.c.update_order
        rng = np.random.default_rng((self.c.seed, self.updates, 0))
        return [self.agents[i] for i in rng.permutation(len(self.agents))]


# Named against the order of the team: modules are sorted by name.
UNEQUAL = {
    "agents": {"c": (3, "discrete"), "a": (2, "three"), "b": (4, "discrete")},
    "state": True, "dies": {"a": 2, "b": 3}, "end": "alternate",
}  # fmt: skip
EQUAL = UNEQUAL | {"agents": {"c": (3, "discrete"), "a": (2, "three"), "b": (3, "discrete")}}
ORDER = {"update_order": ["b", "c", "a"]}
CASES = {
    "paper": (MaskedTeam, UNEQUAL, ORDER),
    "without masks or a state": (CountingTeam, UNEQUAL | {"state": False, "dies": {}}, ORDER),
    "random order": (MaskedTeam, UNEQUAL, {}),
    "one-hots": (MaskedTeam, UNEQUAL, {**ORDER, "joint_critic": "one_hot"}),
    "greedy": (MaskedTeam, UNEQUAL, {**ORDER, "fitted_actions": "greedy"}),
    "all": (MaskedTeam, UNEQUAL, {**ORDER, "fitted_actions": "all"}),
    "shared": (MaskedTeam, EQUAL, {**ORDER, "sharing": {"ends": ["b", "c"]}}),
    "several steps": (MaskedTeam, UNEQUAL, {"n_step": 3, "target_network_update_freq": 2}),
    "huber": (MaskedTeam, UNEQUAL, {"td_huber_delta": 0.1, "grad_clip": 0.3}),
}


def config_of(env, env_config, **settings):
    model = {"dueling_hidden_sizes": [8]}
    return off_policy_config(
        HAD3QNConfig, env, env_config, model=model, **{"epsilon": 0.5} | settings
    )


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_papers_algorithm(case):
    env, env_config, settings = CASES[case]
    config = config_of(env, env_config, **settings)
    learner, runner = make_learner(config), make_runner(config)
    slow, before = SlowHAD3QN(learner), all_weights(learner)
    for _ in range(3):
        fragments = sample(runner, learner)
        update(learner, fragments, 3)
        slow.update(fragments, 3)
    assert set(slow.seen_ends) == {"terminated", "truncated", "open"}
    after = all_weights(learner)
    for m in (*config.layout.groups, "critic"):
        assert max(float((x - after[k]).abs().max()) for k, x in before.items() if k[0] == m) > 3e-3
    slow.assert_same(learner)


def test_policies_that_are_not_trained_stand_still_while_others_go_on():
    config = config_of(MaskedTeam, UNEQUAL, update_order=["b", "c", "a"])
    config.multi_agent(policies_to_train=["a", "c"])
    learner, runner = make_learner(config), make_runner(config)
    slow, before = SlowHAD3QN(learner, frozen=["b"]), all_weights(learner)
    fragments = sample(runner, learner)
    update(learner, fragments, 3)
    slow.update(fragments, 3)
    for (m, name), x in all_weights(learner).items():
        assert m != "b" or "target" in name or torch.equal(x, before[m, name])
    slow.assert_same(learner)


class SlowDQN(SlowHAD3QN):
    """Wang et al., ICML 2016, with the maximum over the target network: one agent, one network."""

    def one_update(self, batch):
        ((agent, actions),) = batch.actions.items()
        with torch.no_grad():
            best = self.critic_targets[0](batch.after.obs[agent]).max(-1).values
            target = batch.rewards + batch.discounts * best
        values = self.critics[0](batch.now.obs[agent])[actions.bool()]
        self.step("critic", ((values - target) ** 2).mean())


def test_with_one_agent_that_knows_what_the_critic_knows_it_is_dueling_dqn():
    env_config = {"agents": {"only": (3, "discrete")}, "end": "alternate"}
    config = config_of(CountingTeam, env_config)
    learner, runner = make_learner(config), make_runner(config)
    slow, before = SlowDQN(learner), all_weights(learner)
    own, critic = learner.module["only"], learner.module["critic"]
    for _ in range(3):
        fragments = sample(runner, learner)
        for k in range(3):
            with torch.no_grad():  # What it would know had it been fitted to the end.
                for x, y in zip(own.parameters(), critic.parameters(), strict=True):
                    x.copy_(y)
            update(learner, fragments if k == 0 else [], 1)
            slow.update(fragments if k == 0 else [], 1)
    after = {k: x for k, x in all_weights(learner).items() if k[0] == "critic"}
    assert max(float((x - before[k]).abs().max()) for k, x in after.items()) > 3e-3
    differences = {k: d for k, d in slow.differences(learner).items() if k[0] == "critic"}
    assert max(differences.values()) <= slow.roundings["critic"]


# ---- local targets ------------------------------------------------------------------------------


def on_all_joint_actions(config):
    """A learner whose critic knows the climbing game, and every joint action of it once."""
    learner = make_learner(config)
    payoff = torch.tensor(CLIMBING).flatten()
    (fragment,) = sample(make_runner(config), learner)
    learner.replay.add(fragment, 0)
    batch = learner.replay.take(np.zeros(9, np.int64), n_step=1, gamma=0.9)
    joint = joint_actions(torch.arange(9), (3, 3))
    batch.actions = {a: joint[:, i : i + 1] for i, a in enumerate(("p0", "p1"))}
    with torch.no_grad():
        for p in learner.critic.q_parameters():
            p.zero_()
        head = learner.critic.network.network[1]
        head.value[-1].bias.fill_(payoff.mean())
        head.advantage[-1].bias.copy_(payoff)
    return learner, batch


def test_targets_of_the_climbing_game_by_hand():
    config = off_policy_config(HAD3QNConfig, MatrixTeam, {"payoff": CLIMBING}, num_envs=1)
    learner, batch = on_all_joint_actions(config)
    _, in_turn = learner.local_targets(batch, ["p1", "p0"])
    first, second = in_turn.values[:, 1].reshape(3, 3), in_turn.values[:, 0].reshape(3, 3)
    # The first one to come sees what p0 has done, the second one p1's best answer to that.
    torch.testing.assert_close(first, torch.tensor(CLIMBING))
    torch.testing.assert_close(second, torch.tensor([[11.0] * 3, [7.0] * 3, [6.0] * 3]))
    torch.testing.assert_close(in_turn.rows[1].reshape(3, 3, 3)[2, 0], torch.tensor([0.0, 6, 5]))


def test_targets_of_the_authors_code_start_from_greedy_actions():
    config = off_policy_config(
        HAD3QNConfig, MatrixTeam, {"payoff": CLIMBING}, num_envs=1, fitted_actions="greedy"
    )
    learner, batch = on_all_joint_actions(config)
    with torch.no_grad():
        for agent, favourite in (("p0", 2), ("p1", 0)):
            for p in learner.module[agent].parameters():
                p.zero_()
            learner.module[agent].head.advantage[-1].bias[favourite] = 1.0
    actions, in_turn = learner.local_targets(batch, ["p0", "p1"])
    assert torch.equal(actions, torch.tensor([[2, 0]] * 9))
    # Q(2, 0) for p0, whose best answer to 0 is 0; so Q(0, 0) for p1.
    torch.testing.assert_close(in_turn.values, torch.tensor([[0.0, 11.0]] * 9))


# ---- exploration --------------------------------------------------------------------------------


def test_epsilon_follows_its_schedule_and_travels_with_the_weights():
    config = config_of(CountingTeam, UNEQUAL, epsilon=[[0, 1.0], [100, 0.2]])
    learner, runner = make_learner(config), make_runner(config)
    seen = []
    for env_steps in (0, 50, 100, 200):
        (fragment,) = sample(runner, learner)
        (epsilon,) = {float(x[..., -1].flat[0]) for x in fragment.dist_inputs.values()}
        seen.append(epsilon)
        update(learner, [fragment], 1, env_steps=env_steps)
    assert seen == pytest.approx([1.0, 1.0, 0.6, 0.2])
