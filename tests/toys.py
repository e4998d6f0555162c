"""Toy environments, and a slow HAPPO and MAPPO in plain torch to compare the learners with.

The slow half uses nothing of `rllib_hetero`: it reads a fragment's arrays, row after row, and a
copy of the initial weights.
"""

from __future__ import annotations

import copy
from collections import Counter
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import nn

ACTIONS = {
    "box": Box(-1.0, 1.0, (2,), np.float32),
    "discrete": Discrete(4),
    "three": Discrete(3),
    "multi": MultiDiscrete([3, 2]),
}
ULP = torch.finfo(torch.float32).eps  # the relative distance of neighbouring numbers


def rounding(x, terms):
    """By how much float32 may be off in `x`, computed as sums of so many terms."""
    return ULP * terms * float(abs(x).max())


# ---- environments -----------------------------------------------------------------------------


class MatrixTeam(MultiAgentEnv):
    """One state, n agents, a payoff for each joint action, shared by all.

    Keys of the config:
        payoff: Nested lists with one level per agent.
        length: Steps per episode, 1 by default; it ends by termination.
    """

    reward_scheme = "shared"

    def __init__(self, config):
        super().__init__()
        self.payoff = np.asarray(config["payoff"], np.float64)
        self.length = config.get("length", 1)
        self.possible_agents = self.agents = [f"p{i}" for i in range(self.payoff.ndim)]
        self.observation_spaces = {a: Box(0.0, 1.0, (1,), np.float32) for a in self.agents}
        self.action_spaces = {
            a: Discrete(int(n)) for a, n in zip(self.agents, self.payoff.shape, strict=True)
        }

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self._observe(), {}

    def step(self, action_dict):
        self.t += 1
        reward = float(self.payoff[tuple(int(action_dict[a]) for a in self.agents)])
        over = self.t == self.length
        everyone = dict.fromkeys(self.agents, over) | {"__all__": over}
        nobody = dict.fromkeys(self.agents, False) | {"__all__": False}
        return self._observe(), dict.fromkeys(self.agents, reward), everyone, nobody, {}

    def _observe(self):
        return {a: np.ones(1, np.float32) for a in self.agents}


class MaskedMatrixTeam(MatrixTeam):
    """A `MatrixTeam` whose agents' last choice is never allowed, and refused."""

    def __init__(self, config):
        super().__init__(config)
        self.masks = {a: np.arange(s.n) < s.n - 1 for a, s in self.action_spaces.items()}
        self.observation_spaces = {
            a: gym.spaces.Dict(
                {"observations": self.observation_spaces[a], "action_mask": MultiBinary(len(mask))}
            )
            for a, mask in self.masks.items()
        }

    def step(self, action_dict):
        for a, action in action_dict.items():
            assert self.masks[a][action], f"{a} may not {action}"
        return super().step(action_dict)

    def _observe(self):
        return {
            a: {"observations": x, "action_mask": self.masks[a].astype(np.int8)}
            for a, x in super()._observe().items()
        }


class TwoStepTeam(MultiAgentEnv):
    """The two-step game of QMIX's paper (Rashid et al., ICML 2018, section 5, Table 1).

    The first agent's choice leads to a game that pays 7 whatever is done, or to one that pays 8 to
    the best pair and at most 1 to any other. A sum of agents' values cannot tell which is better.
    """

    reward_scheme = "shared"
    PAYOFFS = ([[7.0, 7.0], [7.0, 7.0]], [[0.0, 1.0], [1.0, 8.0]])

    def __init__(self, config=None):
        super().__init__()
        self.possible_agents = self.agents = ["p0", "p1"]
        self.observation_spaces = {a: Box(0.0, 1.0, (3,), np.float32) for a in self.agents}
        self.action_spaces = {a: Discrete(2) for a in self.agents}
        self.state_space = Box(0.0, 1.0, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return self._observe(), {}

    def step(self, action_dict):
        first, second = (int(action_dict[a]) for a in self.agents)
        over, reward = self.at > 0, 0.0
        if over:
            reward = self.PAYOFFS[self.at - 1][first][second]
        self.at = 0 if over else 1 + first
        everyone = dict.fromkeys(self.agents, over) | {"__all__": over}
        nobody = dict.fromkeys(self.agents, False) | {"__all__": False}
        return self._observe(), dict.fromkeys(self.agents, reward), everyone, nobody, {}

    def state(self):
        return np.eye(3, dtype=np.float32)[self.at]

    def _observe(self):
        return dict.fromkeys(self.agents, self.state())


class TargetTeam(MultiAgentEnv):
    """One state, two agents; the shared reward is -(a_1 - 0.5)^2 - |a_2 + 0.5|^2.

    The first has one continuous action, the second two.
    """

    reward_scheme = "shared"

    def __init__(self, config=None):
        super().__init__()
        self.possible_agents = self.agents = ["p0", "p1"]
        self.observation_spaces = {a: Box(0.0, 1.0, (1,), np.float32) for a in self.agents}
        self.action_spaces = {
            a: Box(-1.0, 1.0, (k,), np.float32) for a, k in zip(self.agents, (1, 2), strict=True)
        }

    def reset(self, *, seed=None, options=None):
        return self._observe(), {}

    def step(self, action_dict):
        off = [*(action_dict["p0"] - 0.5), *(action_dict["p1"] + 0.5)]
        reward = -float(np.sum(np.square(off)))
        yes = dict.fromkeys(self.agents, True) | {"__all__": True}
        no = dict.fromkeys(yes, False)
        return self._observe(), dict.fromkeys(self.agents, reward), yes, no, {}

    def _observe(self):
        return {a: np.ones(1, np.float32) for a in self.agents}


class ProductTeam(MultiAgentEnv):
    """One state, two agents, one continuous action each; the shared reward is a_1 * a_2."""

    reward_scheme = "shared"

    def __init__(self, config=None):
        super().__init__()
        self.possible_agents = self.agents = ["p0", "p1"]
        self.observation_spaces = {a: Box(0.0, 1.0, (1,), np.float32) for a in self.agents}
        self.action_spaces = {a: Box(-10.0, 10.0, (1,), np.float32) for a in self.agents}

    def reset(self, *, seed=None, options=None):
        return self._observe(), {}

    def step(self, action_dict):
        reward = float(np.prod([action_dict[a][0] for a in self.agents]))
        yes = dict.fromkeys(self.agents, True) | {"__all__": True}
        no = dict.fromkeys(yes, False)
        return self._observe(), dict.fromkeys(self.agents, reward), yes, no, {}

    def _observe(self):
        return {a: np.ones(1, np.float32) for a in self.agents}


class CountingTeam(MultiAgentEnv):
    """Unequal agents that see a clock; the seed of `reset` sets where it starts.

    Keys of the config, all optional:
        agents: Agent id to (observation size, key of `ACTIONS`).
        state: Whether there is a global state (of size 3).
        dies: Agent id to the number of steps it lives.
        length: Steps per episode, 5 by default.
        end: "truncate" (the default), "terminate", or "alternate" by the number of the episode.
        scheme: "individual" or "shared" rewards.
    """

    AGENTS = {"a": (2, "box"), "b": (3, "discrete"), "c": (4, "multi")}

    def __init__(self, config=None):
        super().__init__()
        self.config = c = dict(config or {})
        self.kinds = c.get("agents", self.AGENTS)
        self.possible_agents = list(self.kinds)
        self.observation_spaces = {
            a: Box(-np.inf, np.inf, (size,), np.float32) for a, (size, _) in self.kinds.items()
        }
        self.action_spaces = {a: copy.deepcopy(ACTIONS[k]) for a, (_, k) in self.kinds.items()}
        if c.get("state"):
            self.state_space = Box(-np.inf, np.inf, (3,), np.float32)
        self.reward_scheme = c.get("scheme", "individual")
        self.episodes = 0

    def reset(self, *, seed=None, options=None):
        self.start = float(np.random.default_rng(seed).uniform(-1.0, 1.0))
        self.t = 0
        self.last = 0.0
        self.episodes += 1
        self.agents = list(self.possible_agents)
        return self._observe(self.agents), {}

    def step(self, action_dict):
        assert set(action_dict) == set(self.agents), (set(action_dict), self.agents)
        acted = self.agents
        self.t += 1
        self.last = float(sum(np.sum(u) for u in action_dict.values()))
        rewards = {a: self._reward(a, u) for a, u in action_dict.items()}
        if self.reward_scheme == "shared":
            rewards = dict.fromkeys(acted, sum(rewards.values()))
        dying = [a for a in acted if self.t == self.config.get("dies", {}).get(a)]
        over = self.t == self.config.get("length", 5)
        end = self.config.get("end", "truncate")
        cut = over and (end == "truncate" or (end == "alternate" and self.episodes % 2 == 0))
        terminateds = {a: a in dying or (over and not cut) for a in acted}
        truncateds = {a: cut and a not in dying for a in acted}
        self.agents = [a for a in acted if a not in dying]
        terminateds["__all__"], truncateds["__all__"] = over and not cut, cut
        return self._observe(acted), rewards, terminateds, truncateds, {}

    def state(self):
        return np.array([self.start, 0.3 * self.t, np.tanh(self.last)], np.float32)

    def _reward(self, agent, action):
        i = self.possible_agents.index(agent)
        return float(np.cos(self.start + self.t + i) * np.tanh(np.sum(action) - 0.5 * i))

    def _observe(self, agents):
        return {a: self._observation(a) for a in agents}

    def _observation(self, agent):
        i = self.possible_agents.index(agent)
        k = np.arange(self.kinds[agent][0])
        phase = self.start + 0.7 * self.t * (k + 1) + i
        return (np.sin(phase) + 0.1 * np.tanh(self.last) * (k == 0)).astype(np.float32)


class VisitingTeam(CountingTeam):
    """A `CountingTeam` of agents that come late, miss steps, and return after their death.

    Keys of the config beyond `CountingTeam`'s:
        away: Agent id to the steps in which it does not act. Nobody need act in a step.
        says: The agents whose departures are terminations.
        paid: Whether the absent are given rewards, too: 0.5, or what all are given.
    """

    absences = True

    def present(self):
        away = self.config.get("away", {})
        return [a for a in self.possible_agents if self.t not in away.get(a, ())]

    def reset(self, **kwargs):
        observations, infos = super().reset(**kwargs)
        self.agents = self.present()
        return {a: observations[a] for a in self.agents}, infos

    def step(self, action_dict):
        observations, rewards, terminateds, truncateds, infos = super().step(action_dict)
        if self.config.get("paid"):
            given = 0.5 if self.reward_scheme == "individual" else sum({*rewards.values(), 0.5})
            own = rewards if self.reward_scheme == "individual" else {}
            rewards = dict.fromkeys(self.possible_agents, given) | own
        if terminateds["__all__"] or truncateds["__all__"]:
            return observations, rewards, terminateds, truncateds, infos
        acted, self.agents = self.agents, self.present()
        for a in set(acted) - set(self.agents) & set(self.config.get("says", ())):
            terminateds[a] = True
        return self._observe(self.agents), rewards, terminateds, truncateds, infos


class MaskedTeam(CountingTeam):
    """A `CountingTeam` that refuses forbidden actions; what is allowed changes with the clock.

    Keys of the config beyond `CountingTeam`'s:
        masked: The agents with action masks; all that are not of kind "box" by default.
    """

    AGENTS = {"a": (2, "box"), "b": (3, "discrete"), "c": (4, "multi"), "d": (3, "discrete")}

    def __init__(self, config=None):
        super().__init__(config)
        choosing = [a for a, (_, kind) in self.kinds.items() if kind != "box"]
        self.masked = self.config.get("masked", choosing)
        for a in self.masked:
            size = len(clock_mask(self.action_spaces[a], 0))
            self.observation_spaces[a] = gym.spaces.Dict(
                {"observations": self.observation_spaces[a], "action_mask": MultiBinary(size)}
            )

    def step(self, action_dict):
        for a in self.masked:
            if a in action_dict:
                assert is_allowed(self.action_spaces[a], self._mask(a), action_dict[a]), a
        return super().step(action_dict)

    def _mask(self, agent):
        i = self.possible_agents.index(agent)
        return clock_mask(self.action_spaces[agent], self.t + i)

    def _observation(self, agent):
        x = super()._observation(agent)
        if agent not in self.masked:
            return x
        return {"observations": x, "action_mask": self._mask(agent)}


def clock_mask(space, clock):
    """(p,) int8: every third choice is forbidden; each component keeps at least one."""
    nvec = space.nvec if isinstance(space, MultiDiscrete) else [space.n]
    return np.concatenate([(clock + np.arange(n)) % 3 != 0 for n in nvec]).astype(np.int8)


def is_allowed(space, mask, action):
    """Whether all components of an action are allowed."""
    nvec = space.nvec if isinstance(space, MultiDiscrete) else [space.n]
    starts = np.cumsum([0, *nvec[:-1]])
    return bool(mask[starts + np.atleast_1d(action)].all())


class MemoryTeam(MultiAgentEnv):
    """A bit is shown in the first step; the last step rewards each agent that still knows it.

    The best shared return is 2, that of agents without a memory 1 on average.

    Keys of the config, all optional:
        length: Steps per episode, 4 by default; it ends by termination.
        multi: False makes the second agent's actions Discrete, too.
    """

    reward_scheme = "shared"
    SIZES = {"a": 2, "b": 3}

    def __init__(self, config=None):
        super().__init__()
        config = config or {}
        self.length = config.get("length", 4)
        self.possible_agents = self.agents = list(self.SIZES)
        self.observation_spaces = {
            a: Box(-1.0, 1.0, (n,), np.float32) for a, n in self.SIZES.items()
        }
        of_b = MultiDiscrete([2, 3]) if config.get("multi", True) else Discrete(2)
        self.action_spaces = {"a": Discrete(2), "b": of_b}

    def reset(self, *, seed=None, options=None):
        self.bit = int(np.random.default_rng(seed).integers(2))
        self.t = 0
        return self._observe(), {}

    def step(self, action_dict):
        self.t += 1
        over = self.t == self.length
        said = [int(np.atleast_1d(action_dict[a])[0]) for a in self.agents]
        reward = float(sum(x == self.bit for x in said)) if over else 0.0
        everyone = dict.fromkeys(self.agents, over) | {"__all__": over}
        nobody = dict.fromkeys(self.agents, False) | {"__all__": False}
        return self._observe(), dict.fromkeys(self.agents, reward), everyone, nobody, {}

    def _observe(self):
        seen = {a: np.zeros(n, np.float32) for a, n in self.SIZES.items()}
        for x in seen.values():
            x[0] = 2.0 * self.bit - 1.0 if self.t == 0 else 0.0
            x[1] = self.t / self.length
        return seen


# ---- a learner and a runner without Ray ---------------------------------------------------------


def small_config(
    cls, env=CountingTeam, env_config=None, *, num_envs=3, steps=8, model=None, sharing=None,
    **training,
):  # fmt: skip
    """A validated config of a small team, sampled and trained on in this process.

    `model` is added to the `model_config`; `sharing` replaces the default `parameter_sharing`.
    """
    # LayerNorm on small inputs too, so that the passes by hand have all there is.
    networks = {"hidden_sizes": [16, 16], "actor_head_gain": 1.0, "layer_norm": "all"}
    # Adam's epsilon keeps gradients that are all but zero from becoming steps made of rounding.
    settings = {
        "lr": 1e-3, "adam_epsilon": 1e-3, "num_epochs": 3,
        "train_batch_size_per_learner": num_envs * steps,
    }  # fmt: skip
    config = (
        cls()
        .environment(env, env_config=env_config or {})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs)
        .learners(num_learners=0)
        .training(**(settings | training))
        .rl_module(model_config=networks | (model or {}))
        .debugging(seed=7, log_level="ERROR")
    )
    if sharing is not None:
        config.multi_agent(parameter_sharing=sharing)
    config.validate()
    return config


def names_of(family, actions=()):
    """The registered algorithms of a family such as "on-policy" that can draw these actions."""
    from rllib_hetero import ALGORITHMS

    every = {name: a.get_default_config().capabilities for name, a in ALGORITHMS.items()}
    return sorted(
        name
        for name, capabilities in every.items()
        if capabilities.family == family and set(actions) <= set(capabilities.actions)
    )


def make_learner(config, *, stir=True):
    """A built learner in this process, its weights (if stirred) all away from their start."""
    torch.manual_seed(0)
    learner = config.learner_class(config=config, module_spec=config.get_multi_rl_module_spec())
    learner.build()
    if stir:
        for module_id in learner.module.keys():  # noqa: SIM118
            for p in learner.module[module_id].parameters():
                p.data += 0.1 * torch.randn_like(p)
    return learner


def make_runner(config, worker_index=0):
    return config.env_runner_cls(config=config, worker_index=worker_index)


def sample(runner, learner):
    """One batch, a list of fragments, drawn with the learner's actors."""
    for m, module in runner.module.items():
        module.set_state(learner.module[m].get_state())
    fragments = runner.sample()
    assert all(f.problem is None for f in fragments)
    return fragments


def update(learner, fragments, **kwargs):
    """One update of a learner, or of a learner group, by the settings of its config."""
    from rllib_hetero.algorithms.training_data import TeamTrainingData

    config = learner.config
    settings = {
        "num_epochs": config.num_epochs,
        "minibatch_size": config.minibatch_size,
        "shuffle_batch_per_epoch": config.shuffle_batch_per_epoch,
    }
    return learner.update(
        training_data=TeamTrainingData(episodes=fragments),
        timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0},
        **(settings | kwargs),
    )


def team_batch(learner, fragments):
    """What a learner makes of fragments, with its units set as in an update."""
    from rllib_hetero.connectors.fragments_to_batch import CHUNKS
    from rllib_hetero.learners.on_policy.units import Chunks, SingleRows

    batch = learner._learner_connector(
        rl_module=learner.module, batch={}, episodes=fragments, shared_data={},
        metrics=learner.metrics,
    )  # fmt: skip
    chunks = batch["critic"].get(CHUNKS)
    rows = len(batch["critic"]["obs"])
    learner._units = SingleRows(rows) if chunks is None else Chunks(chunks)
    return batch


def watch_changes(learner):
    """Lists (module id, its `PolicyChange`, rows) of all that the learner evaluates from now on."""
    seen = []
    change_of = learner.policy_change

    def watched(module_id, rows, inputs):
        change = change_of(module_id, rows, inputs)
        seen.append((module_id, change, rows))
        return change

    learner.policy_change = watched
    return seen


def watch_notes(learner):
    """Everything the learner notes from now on: (module id, name) to its numbers."""
    seen = {}
    note = learner.notes.add

    def watched(module_id, name, value, **kwargs):
        seen.setdefault((module_id, name), []).append(float(value))
        note(module_id, name, value, **kwargs)

    learner.notes.add = watched
    return seen


def all_weights(learner):
    """Copies of all tensors of all modules, by module and name."""
    return {
        (m, name): x.detach().clone()
        for m in learner.module.keys()  # noqa: SIM118
        for name, x in learner.module[m].state_dict().items()
    }


# ---- a slow PPO -----------------------------------------------------------------------------


class PlainNet(nn.Module):
    """LayerNorm, (Linear, ReLU, LayerNorm) x hidden, Linear; weights copied from a state dict."""

    def __init__(self, weights):
        super().__init__()
        get = {k: torch.as_tensor(np.asarray(v)).clone() for k, v in weights.items()}
        self.names = {}  # ours to the library's
        layers = []
        for i in sorted({int(k.split(".")[1]) for k in get if k.startswith("body.")}):
            weight = get[f"body.{i}.weight"]
            if weight.ndim == 1:
                layer = nn.LayerNorm(len(weight))
            else:
                layer = nn.Linear(weight.shape[1], weight.shape[0])
            self._load(layer, get, f"body.{i}", len(layers))
            layers.append(layer)
            if weight.ndim == 2:
                layers.append(nn.ReLU())
        head = nn.Linear(*reversed(get["head.weight"].shape))
        self._load(head, get, "head", len(layers))
        self.net = nn.Sequential(*layers, head)
        if "std_logit" in get:
            self.std_logit = nn.Parameter(get["std_logit"])
            self.names["std_logit"] = "std_logit"

    def _load(self, layer, weights, name, index):
        for part in ("weight", "bias"):
            getattr(layer, part).data.copy_(weights[f"{name}.{part}"])
            self.names[f"net.{index}.{part}"] = f"{name}.{part}"

    def weights(self):
        """Parameters by the library's names."""
        return {self.names[k]: p.detach() for k, p in self.named_parameters()}


class PlainActor(PlainNet):
    """An actor with torch's own distributions."""

    def __init__(self, weights, space):
        super().__init__(weights)
        self.space = space

    def parts(self, obs):
        """The independent components of the action's distribution."""
        out = self.net(obs)
        if isinstance(self.space, Box):
            std = torch.sigmoid(self.std_logit) * 0.5
            return [torch.distributions.Normal(out[:, k], std[k]) for k in range(out.shape[1])]
        if isinstance(self.space, Discrete):
            return [torch.distributions.Categorical(logits=out)]
        ends = np.cumsum(self.space.nvec)
        starts = ends - self.space.nvec
        return [
            torch.distributions.Categorical(logits=out[:, i:j])
            for i, j in zip(starts, ends, strict=True)
        ]

    def log_prob(self, obs, actions):
        columns = actions.reshape(len(actions), -1)
        return sum(d.log_prob(columns[:, k]) for k, d in enumerate(self.parts(obs)))

    def entropy(self, obs):
        return sum(d.entropy() for d in self.parts(obs))


class SlowTeam:
    """HAPPO and MAPPO as their papers say it, in loops. Starts as a copy of a learner.

    Args:
        learner: The learner whose weights and settings are copied.
    """

    def __init__(self, learner):
        self.c = c = learner.config
        self.team = c.layout.team
        self.groups = dict(c.layout.groups)
        state = {m: learner.module[m].get_state() for m in learner.module.keys()}  # noqa: SIM118
        self.actors = {
            m: PlainActor(state[m], self.team.action_spaces[agents[0]])
            for m, agents in self.groups.items()
        }
        net = "networks.0."
        self.critic = PlainNet(
            {k.removeprefix(net): v for k, v in state["critic"].items() if k.startswith(net)}
        )
        self.optimizers = {
            m: torch.optim.Adam(net.parameters(), lr=lr, eps=c.adam_epsilon)
            for m, net, lr in [
                *((m, net, c.lr) for m, net in self.actors.items()),
                ("critic", self.critic, c.lr if c.critic_lr is None else c.critic_lr),
            ]
        }
        self.norm = np.zeros(3)  # running mean, mean square and weight
        self.iteration = 0
        self.roundings = Counter()  # by module; see `_count_rounding`

    # -- data, row after row

    def rows(self, fragments):
        """Every valid step as a namespace, by fragment, environment and time."""
        rows = []
        for f in fragments:
            for e in range(f.valid.shape[1]):
                for t in range(f.valid.shape[0]):
                    if f.valid[t, e]:
                        rows.append(self._row(f, t, e))
        self.num_rows = len(rows)
        return rows

    def _row(self, f, t, e):
        obs, act, alive = {}, {}, {}
        for m, agents in self.groups.items():
            for k, agent in enumerate(agents):
                size = self.team.observation_spaces[agent].shape[0]
                obs[agent] = f.observations[m][t, e, k, :size]
                act[agent] = f.actions[m][t, e, k]
                alive[agent] = float(f.active[m][t, e, k])
        if self.team.reward_scheme == "individual":
            reward = sum(f.rewards[t, e])
        else:  # of those alive; the dead are given 0
            reward = max(f.rewards[t, e], key=abs)
        state = self._state(f.state, obs, (t, e))
        at = [i for i in range(len(f.finals.step)) if (f.finals.step[i], f.finals.env[i]) == (t, e)]
        follows = None  # the state whose value is the bootstrap
        if f.terminated[t, e]:
            pass
        elif at:
            follows = self._state(
                f.finals.state, self._seen(f.finals.observations, at[0]), (at[0],)
            )
        elif t == f.valid.shape[0] - 1:
            follows = self._state(f.last_state, self._seen(f.last_observations, e), (e,))
        else:
            follows = self._state(f.state, self._seen(f.observations, (t + 1, e)), (t + 1, e))
        last = bool(f.terminated[t, e] or f.truncated[t, e] or t == f.valid.shape[0] - 1)
        return SimpleNamespace(
            obs=obs, act=act, alive=alive, reward=float(reward), state=state, follows=follows,
            last=last,
        )  # fmt: skip

    def _seen(self, observations, index):
        return {
            agent: observations[m][index][k, : self.team.observation_spaces[agent].shape[0]]
            for m, agents in self.groups.items()
            for k, agent in enumerate(agents)
        }

    def _state(self, state, obs, index):
        if state is not None:
            return state[index]
        return np.concatenate([obs[a] for a in self.team.agents])

    def actor_input(self, agent, obs):
        """(B, d) observations, with the one-hot index where the module is shared."""
        (agents,) = (g for g in self.groups.values() if agent in g)
        rows = []
        for x in obs:
            one_hot = [float(a == agent) for a in agents] if len(agents) > 1 else []
            rows.append([*x, *one_hot])
        return torch.tensor(np.array(rows), dtype=torch.float32)

    # -- one update

    def update(self, fragments, order=None):
        """One update: `order` is HAPPO's, None is MAPPO."""
        self.iteration += 1
        rows = self.rows(fragments)
        advantages, targets, old_values = self.estimate(rows)
        self.advantages = advantages
        self.corrections = {}
        if order is None:
            for m in self.groups:
                self._simultaneous(m, rows, advantages, 0)
        else:
            correction = torch.ones(len(rows))
            for position, agent in enumerate(order, start=1):
                self.corrections[agent] = correction
                correction = self._sequential(agent, rows, advantages, correction, position)
        self._fit_critic(rows, targets, old_values)

    def estimate(self, rows):
        """Standardised advantages, value targets, and values on the critic's scale."""
        c = self.c

        def value(state):
            if state is None:
                return 0.0
            with torch.no_grad():
                out = float(self.critic.net(torch.tensor(np.array(state))[None]))
            return out * self._std() + self._mean()

        values = [value(r.state) for r in rows]
        advantages = [0.0] * len(rows)
        for i in reversed(range(len(rows))):
            delta = rows[i].reward + c.gamma * value(rows[i].follows) - values[i]
            trace = 0.0 if rows[i].last else c.gamma * c.lambda_ * advantages[i + 1]
            advantages[i] = delta + trace
        targets = [a + v for a, v in zip(advantages, values, strict=True)]
        with torch.no_grad():
            old = self.critic.net(torch.tensor(np.array([r.state for r in rows])))[:, 0]
        if c.standardize_advantages:  # each agent alive in a step counts once
            each = [a for a, r in zip(advantages, rows, strict=True) for x in r.alive.values() if x]
            mean, std = np.mean(each), np.std(each)
            advantages = [(a - mean) / (std + 1e-5) for a in advantages]
        return torch.tensor(advantages).float(), torch.tensor(targets).float(), old

    def _batches(self, count, key, epochs):
        """Row numbers of every gradient step: the documented permutations."""
        c = self.c
        if c.minibatch_size is None:
            yield from [np.arange(count)] * epochs
            return
        rng = np.random.default_rng((c.seed, self.iteration, 1, key))
        for _ in range(epochs):
            order = rng.permutation(count) if c.shuffle_batch_per_epoch else np.arange(count)
            yield from np.array_split(order, int(np.ceil(count / c.minibatch_size)))

    def _sequential(self, agent, rows, advantages, correction, position):
        (m,) = (m for m, agents in self.groups.items() if agent in agents)
        obs = self.actor_input(agent, [r.obs[agent] for r in rows])
        act = torch.tensor(np.array([r.act[agent] for r in rows]))
        alive = torch.tensor([r.alive[agent] for r in rows])
        # The policy that acted: for agents that share one, the one before all updates.
        old = self._old(m, rows)[agent]
        for b in self._batches(len(rows), position, self.c.num_epochs):
            self._actor_step(m, obs[b], act[b], old[b], advantages[b], alive[b], correction[b])
        with torch.no_grad():
            ratio = torch.exp(self.actors[m].log_prob(obs, act) - old)
        return correction * torch.where(alive > 0, ratio, 1.0)

    def _old(self, m, rows):
        """Log-probabilities of each agent's actions before this iteration, kept for it."""
        if getattr(self, "_old_at", {}).get(m, (None,))[0] != self.iteration:
            with torch.no_grad():
                kept = {
                    a: self.actors[m].log_prob(
                        self.actor_input(a, [r.obs[a] for r in rows]),
                        torch.tensor(np.array([r.act[a] for r in rows])),
                    )
                    for a in self.groups[m]
                }
            self._old_at = {**getattr(self, "_old_at", {}), m: (self.iteration, kept)}
        return self._old_at[m][1]

    def _simultaneous(self, m, rows, advantages, position):
        old = self._old(m, rows)
        for b in self._batches(len(rows), position, self.c.num_epochs):
            # All agents' rows, one agent after the other: one long batch of the one network.
            chosen = [rows[i] for i in b]
            agents = self.groups[m]
            obs = torch.cat([self.actor_input(a, [r.obs[a] for r in chosen]) for a in agents])
            act = torch.tensor(np.array([r.act[a] for a in agents for r in chosen]))
            alive = torch.tensor([r.alive[a] for a in agents for r in chosen])
            before = torch.cat([old[a][b] for a in agents])
            adv = torch.cat([advantages[b]] * len(agents))
            self._actor_step(m, obs, act, before, adv, alive, torch.ones(len(adv)))

    def _actor_step(self, m, obs, act, old, adv, alive, correction):
        c, actor = self.c, self.actors[m]
        if not alive.any():
            return
        ratio = torch.exp(actor.log_prob(obs, act) - old)
        weighted = correction * adv  # the paper's M
        clipped = torch.clamp(ratio, 1 - c.clip_param, 1 + c.clip_param)
        objective = torch.minimum(ratio * weighted, clipped * weighted)
        objective = objective + c.entropy_coeff * actor.entropy(obs)
        self._step(m, actor, -(objective * alive).sum() / alive.sum())

    def _fit_critic(self, rows, targets, old):
        c = self.c
        if c.value_norm:
            w = 0.99999
            y = targets.double().numpy()
            self.norm = w * self.norm + (1 - w) * np.array([y.mean(), (y * y).mean(), 1.0])
        states = torch.tensor(np.array([r.state for r in rows]))
        y = ((targets - self._mean()) / self._std()).float()
        epochs = c.critic_num_epochs or c.num_epochs
        for b in self._batches(len(rows), 1_000_000, epochs):
            v = self.critic.net(states[b])[:, 0]
            near = old[b] + torch.clamp(v - old[b], -c.vf_clip_param, c.vf_clip_param)
            loss = torch.maximum(self._huber(v - y[b]), self._huber(near - y[b])).mean()
            self._step("critic", self.critic, c.vf_loss_coeff * loss)

    def _huber(self, error):
        d = self.c.vf_huber_delta
        size = error.abs()
        return torch.where(size <= d, 0.5 * error**2, d * (size - 0.5 * d))

    def _step(self, name, net, loss):
        self.optimizers[name].zero_grad()
        loss.backward()
        parameters = list(net.parameters())
        norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters))
        self.clipped_steps = getattr(self, "clipped_steps", 0) + int(norm > self.c.grad_clip)
        for p in parameters:
            p.grad *= min(1.0, self.c.grad_clip / (float(norm) + 1e-6))
        self.optimizers[name].step()
        self._count_rounding(name, parameters)

    def _count_rounding(self, name, parameters):
        """Adds what one step of Adam may make of float32's rounding.

        The step lr m / (sqrt(v) + epsilon) changes by at most lr / epsilon with the gradient. An
        entry of that is a sum over n rows, of terms of both signs: it is off by about sqrt(n) units
        in the last place, of the size of the largest entry. The weight itself is rounded, too.
        """
        settings = self.optimizers[name].defaults
        gradient = max(float(p.grad.abs().max()) for p in parameters)
        weight = max(float(p.detach().abs().max()) for p in parameters)
        moved = settings["lr"] / settings["eps"] * gradient * self.num_rows**0.5
        self.roundings[name] += ULP * (weight + moved)

    def _mean(self):
        return self.norm[0] / self.norm[2] if self.norm[2] else 0.0

    def _std(self):
        if not self.norm[2]:
            return 1.0
        variance = self.norm[1] / self.norm[2] - self._mean() ** 2
        return float(np.sqrt(max(variance, 1e-2)))

    # -- comparison

    def differences(self, learner):
        """The largest absolute difference of every parameter to the learner's."""
        out = {}
        for m, net in {**self.actors, "critic": self.critic}.items():
            theirs = {
                name.removeprefix("networks.0."): p
                for name, p in learner.module[m].named_parameters()
            }
            ours = net.weights()
            assert ours.keys() == theirs.keys()
            for name, p in ours.items():
                out[m, name] = float((p - theirs[name].detach()).abs().max())
        return out

    def assert_same(self, learner):
        """Fails if a weight is further from the learner's than rounding takes it."""
        differences = self.differences(learner)
        assert max(differences.values()) <= max(self.roundings.values()), differences


# ---- a slow team that acts in turn --------------------------------------------------------------


def message_of(space, action):
    """What others see of an action: a Box's numbers as they are, a choice as a one-hot."""
    if isinstance(space, Box):
        return [float(x) for x in action]
    nvec = [space.n] if isinstance(space, Discrete) else space.nvec
    chosen = np.atleast_1d(action)
    return [float(i == k) for k, n in zip(chosen, nvec, strict=True) for i in range(n)]


class InTurnActor:
    """Mixed into a `PlainActor`: inputs end with a context, and if masked with what is allowed."""

    def take_context(self, weights, context_size, num_masked):
        get = {k: torch.as_tensor(np.asarray(v)).clone() for k, v in weights.items()}
        self.ends = context_size, num_masked
        stem, layers = "context.projection", []
        for i in sorted({int(k.split(".")[2]) for k in get if k.startswith(stem)}):
            weight = get[f"{stem}.{i}.weight"]
            flat = weight.ndim == 1
            layer = nn.LayerNorm(len(weight)) if flat else nn.Linear(*reversed(weight.shape))
            self._copy(layer, get, f"{stem}.{i}", f"projection.{len(layers)}")
            layers += [layer] if flat else [layer, nn.ReLU()]
        self.projection = nn.Sequential(*layers) if layers else None
        self.norm = nn.Identity()
        if "context.norm.weight" in get:
            self.norm = nn.LayerNorm(len(get["context.norm.weight"]))
            self._copy(self.norm, get, "context.norm", "norm")

    def _copy(self, layer, get, theirs, ours):
        for part in ("weight", "bias"):
            getattr(layer, part).data.copy_(get[f"{theirs}.{part}"])
            self.names[f"{ours}.{part}"] = f"{theirs}.{part}"

    def features(self, seen):
        return self.net[:-1](seen)

    def parts(self, x):
        c, p = self.ends
        end = x.shape[1] - p
        out, context, allowed = self.features(x[:, : end - c]), x[:, end - c : end], x[:, end:]
        if self.projection is None:
            out = torch.cat([out, context], 1)
        else:
            out = self.norm(out + self.projection(context))
        out = self.net[-1](out)
        if p:
            out = torch.where(allowed > 0, out, torch.finfo(out.dtype).min)
        if isinstance(self.space, Box):
            std = torch.sigmoid(self.std_logit) * 0.5
            return [torch.distributions.Normal(out[:, k], std[k]) for k in range(out.shape[1])]
        nvec = [self.space.n] if isinstance(self.space, Discrete) else self.space.nvec.tolist()
        return [torch.distributions.Categorical(logits=z) for z in out.split(nvec, 1)]


class PlainInTurnActor(InTurnActor, PlainActor):
    pass


class InTurn:
    """Mixed into a `SlowTeam` (then it is ARMAPPO, or HAPPO of a team that acts in turn).

    Contexts are made here, from the recorded actions and the order; those recorded are not read.
    """

    def __init__(self, learner):
        super().__init__(learner)
        self.message_at, end = {}, 0
        for a in self.team.agents:
            space = self.team.action_spaces[a]
            start, end = end, end + len(message_of(space, space.sample())) + 1
            self.message_at[a] = slice(start, end - 1)
        self.context_size = end
        state = {m: learner.module[m].get_state() for m in self.groups}
        for m, agents in self.groups.items():
            self.actors[m] = self.in_turn_actor(m, state[m], self.team.action_spaces[agents[0]])
            self.optimizers[m] = torch.optim.Adam(
                self.actors[m].parameters(), lr=self.c.lr, eps=self.c.adam_epsilon
            )

    def in_turn_actor(self, m, weights, space):
        actor = PlainInTurnActor(weights, space)
        actor.take_context(weights, self.context_size, self.num_masked(m))
        return actor

    def num_masked(self, m):
        agent = self.groups[m][0]
        space = self.team.action_spaces[agent]
        return len(message_of(space, space.sample())) if agent in self.team.masked else 0

    def execution_order(self):
        agents, rule = list(self.team.agents), self.c.execution_order
        if rule == "random":
            rng = np.random.default_rng((self.c.seed, self.iteration - 1, 2))
            return [agents[i] for i in rng.permutation(len(agents))]
        return {"fixed": agents, "reverse": agents[::-1]}[rule] if isinstance(rule, str) else rule

    def _row(self, f, t, e):
        row = super()._row(f, t, e)
        row.allowed = {
            a: f.action_masks[m][t, e, k]
            for m, agents in self.groups.items()
            if m in f.action_masks
            for k, a in enumerate(agents)
        }
        return row

    def rows(self, fragments):
        rows = super().rows(fragments)
        for row in rows:
            context = np.zeros(self.context_size)
            for a in self.execution_order():
                row.obs[a] = np.concatenate([row.obs[a], context, row.allowed.get(a, [])])
                if row.alive[a]:
                    at = self.message_at[a]
                    context[at] = message_of(self.team.action_spaces[a], row.act[a])
                    context[at.stop] = 1.0
        return rows

    def actor_input(self, agent, obs):
        """(B, d) [observation, one-hot where the module is shared, context, mask]."""
        ((m, agents),) = (g for g in self.groups.items() if agent in g[1])
        ends = self.context_size + self.num_masked(m)
        one_hot = [float(a == agent) for a in agents] if len(agents) > 1 else []
        rows = [[*x[:-ends], *one_hot, *x[-ends:]] for x in obs]
        return torch.tensor(np.array(rows), dtype=torch.float32)


class SlowARMAPPO(InTurn, SlowTeam):
    pass


class Backwards(InTurn):
    """BPPO. Whatever the peer term needs is differentiated anew from the product of ratios."""

    def update(self, fragments):
        self.iteration += 1
        rows = self.rows(fragments)
        advantages, targets, old_values = self.estimate(rows)
        self.advantages, self.total = advantages, len(rows)
        self.order = self.execution_order()
        self._draw(len(rows))
        self.data = {}
        for m, agents in self.groups.items():
            for a in agents:
                act = np.array([r.act[a] for r in rows])
                messages = [message_of(self.team.action_spaces[a], x) for x in act]
                self.data[a] = SimpleNamespace(
                    module=m, x=self.actor_input(a, [r.obs[a] for r in rows]),
                    act=torch.tensor(act), alive=torch.tensor([r.alive[a] for r in rows]),
                    old=self._old(m, rows)[a], said=torch.tensor(messages),
                )  # fmt: skip
        if self.c.update_scheme == "sequential":
            self._one_by_one()
        else:
            self._together()
        self._fit_critic(rows, targets, old_values)

    def _draw(self, count):
        """The documented noise, by agent."""
        self.exponentials = {}
        for i, agents in enumerate(self.groups.values()):
            space = self.team.action_spaces[agents[0]]
            size = len(message_of(space, space.sample())) * (2 if isinstance(space, Box) else 1)
            rng = np.random.default_rng((self.c.seed, self.iteration, 3, i))
            drawn = rng.standard_exponential((count, len(agents), size), dtype=np.float32)
            self.exponentials |= {a: torch.tensor(drawn[:, k]) for k, a in enumerate(agents)}

    def heard(self, agent, b, nets):
        """M and its gradient by the agent's message, over those of its successors in `nets`."""
        me = self.data[agent]
        message = me.said[b].clone().requires_grad_()
        product, at = torch.ones(len(b)), self.message_at[agent]
        for other in self.order[self.order.index(agent) + 1 :]:
            if other not in nets:
                continue
            d, net = self.data[other], nets[other]
            start = d.x.shape[1] - sum(net.ends) + at.start
            x = d.x[b]
            ends = x[:, start + at.stop - at.start :]
            x = torch.cat([x[:, :start], message * me.alive[b][:, None], ends], 1)
            ratio = torch.exp(net.log_prob(x, d.act[b]) - d.old[b])
            product = product * torch.where(d.alive[b] > 0, ratio, 1.0)
        if not product.requires_grad:
            return product, torch.zeros_like(message)
        (slope,) = torch.autograd.grad(product.sum(), message)
        return product.detach(), slope

    def _one_by_one(self):
        nets, everything = {}, np.arange(self.total)
        self.corrections, self.feedback = {}, {}
        for position, agent in enumerate(reversed(self.order), start=1):
            m = self.data[agent].module
            product, slope = self.heard(agent, everything, nets)
            self.corrections[agent], self.feedback[agent] = product, slope
            for b in self._batches(self.total, position, self.c.num_epochs):
                alive = self.data[agent].alive[b].sum()
                if alive and m not in getattr(self, "frozen", ()):
                    gain = self.gain(agent, b, product[b], slope[b])
                    self._step(m, self.actors[m], -gain / alive)
            nets[agent] = copy.deepcopy(self.actors[m])  # as it is right after this update

    def _together(self):
        for b in self._batches(self.total, 0, self.c.num_epochs):
            stepping = {
                m: agents
                for m, agents in self.groups.items()
                if m not in getattr(self, "frozen", ())
                and any(self.data[a].alive[b].any() for a in agents)
            }
            nets = {a: self.actors[m] for m, agents in stepping.items() for a in agents}
            heard = {a: self.heard(a, b, nets) for a in nets}
            losses = {
                m: -sum(self.gain(a, b, *heard[a]) for a in agents)
                / sum(self.data[a].alive[b].sum() for a in agents)
                for m, agents in stepping.items()
            }
            for m, loss in losses.items():
                self._step(m, self.actors[m], loss)

    def gain(self, agent, b, product, slope):
        """The sum of eq. 6 over the rows b in which the agent is alive, with the entropy."""
        c, d = self.c, self.data[agent]
        actor, advantages = self.actors[d.module], self.advantages[b]
        ratio = torch.exp(actor.log_prob(d.x[b], d.act[b]) - d.old[b])
        clipped = torch.clamp(ratio, 1 - c.clip_param, 1 + c.clip_param)
        own = product * torch.minimum(ratio * advantages, clipped * advantages)
        smaller = ratio * advantages <= clipped * advantages
        weight = torch.where(smaller, ratio, clipped).detach()
        self.bound = getattr(self, "bound", 0) + int(((weight != ratio) & (d.alive[b] > 0)).sum())
        action = self.reparameterized(actor, d.x[b], d.act[b], self.exponentials[agent][b])
        peer = weight * advantages * (slope * action).sum(1)
        entropy = actor.entropy(d.x[b])
        terms = own + c.peer_coeff * (peer - peer.detach()) + c.entropy_coeff * entropy
        return torch.where(d.alive[b] > 0, terms, 0.0).sum()

    def reparameterized(self, actor, x, act, exponentials):
        """(b, w) g(theta, eps) with the noise under which it is the action taken."""
        pieces, start = [], 0
        for k, d in enumerate(actor.parts(x)):
            taken = act.reshape(len(act), -1)[:, k]
            if isinstance(d, torch.distributions.Normal):
                pieces.append((d.loc + d.scale * ((taken - d.loc) / d.scale).detach())[:, None])
                continue
            p, n = d.probs.detach(), d.probs.shape[1]
            e = exponentials[:, start : start + n]
            start += n
            chosen = torch.nn.functional.one_hot(taken.long(), n).bool()
            e_k = (e * chosen).sum(1, keepdim=True)
            noise = torch.where(chosen, -torch.log(e_k * p), -torch.log(e + p * e_k))
            logits = (d.logits + noise) / self.c.gumbel_temperature
            pieces.append(torch.softmax(logits, 1))
        return torch.cat(pieces, 1)


class SlowBPPO(Backwards, SlowTeam):
    pass


def sample_in_turn(runner, learner):
    """As `sample`, with the execution order of the learner's iteration."""
    runner._weights_seq_no = learner._weights_seq_no
    return sample(runner, learner)
