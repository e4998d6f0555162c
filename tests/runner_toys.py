"""Scripted environments and small helpers for the tests of runners and algorithms."""

import copy
import os
import signal
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import ray
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from toys import clock_mask, is_allowed

from rllib_hetero import HAPPOConfig, MAPPOConfig, Outcome, Team, VectorTeamEnv
from rllib_hetero.connectors.fragments_to_batch import FragmentsToTeamBatch
from rllib_hetero.connectors.team_advantages import ESTIMATES, TeamAdvantages
from rllib_hetero.functional import distribution_for
from rllib_hetero.layout import CRITIC
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

CONFIGS = {"HAPPO": HAPPOConfig, "MAPPO": MAPPOConfig}

ACTIONS = {
    "box": Box(-0.5, 0.5, (2,), np.float32),
    # Bounds that are not alike, and that float32 cannot hold.
    "uneven": Box(np.array([-0.1, 0.2]), np.array([0.3, 7.7]), dtype=np.float64),
    "discrete": Discrete(4),
    "multi": MultiDiscrete([3, 2]),
}


class ScriptedTeam(MultiAgentEnv):
    """All that happens follows from (index, number of the episode, step) and the actions.

    Keys of the config, all optional:
        agents: Agent id to the size of its observation, at least 3.
        actions: Agent id to a key of `ACTIONS`; "box" for those not named.
        lengths: Lengths of the episodes, in turn; or index to length.
        ends: "truncate", "terminate" or "alternate".
        dies: Agent id to the number of steps it lives.
        masked: Agents whose actions are masked by the clock; forbidden ones are refused.
        state, shared: Whether there is a global state; whether the reward is shared.
        fail: "step" or "reset": raises in `fail_at`, once for each string of `fail_key`.
        fail_at: (index, episode, step).
        poison: "observation", "reward" or "state" is NaN (or `value`), or "mask" allows the last
            component of the last agent's action nothing, in `poison_at`.
        strict: Whether it refuses actions that are not finite.
        crash: A folder. The process kills itself on finding its worker index as a file there.
    """

    failed: set = set()  # keys of failures that have happened; in one process

    def __init__(self, config=None):
        super().__init__()
        self.config = c = dict(config or {})
        self.index = getattr(config, "vector_index", 0)
        self.worker_index = getattr(config, "worker_index", 0)
        self.sizes = c.get("agents", {"a": 3, "b": 5, "c": 5})
        self.possible_agents = self.agents = list(self.sizes)
        self.observation_spaces = {
            a: Box(-np.inf, np.inf, (n,), np.float32) for a, n in self.sizes.items()
        }
        kinds = c.get("actions", {})
        self.action_spaces = {a: copy.deepcopy(ACTIONS[kinds.get(a, "box")]) for a in self.sizes}
        self.masked = c.get("masked", [])
        for a in self.masked:
            size = len(clock_mask(self.action_spaces[a], 0))
            self.observation_spaces[a] = gym.spaces.Dict(
                {
                    "observations": self.observation_spaces[a],
                    "action_mask": Box(0.0, 1.0, (size,), np.float32),
                }
            )
        if c.get("state"):
            self.state_space = Box(-np.inf, np.inf, (4,), np.float32)
        self.reward_scheme = "shared" if c.get("shared") else "individual"
        self.episode = -1
        self.seeds = []
        self.log = []  # (episode, step, actions)

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.episode += 1
        self.t = 0
        self.last = dict.fromkeys(self.possible_agents, 0.0)
        self.alive = list(self.possible_agents)
        self._maybe_fail("reset")
        return self._observe(self.alive), {a: {} for a in self.alive}

    def step(self, action_dict):
        assert set(action_dict) == set(self.alive), (set(action_dict), self.alive)
        self._maybe_fail("step")
        self._maybe_crash()
        if self.config.get("strict"):
            assert all(np.isfinite(u).all() for u in action_dict.values()), "refused"
        for a in set(self.masked) & set(action_dict):
            mask, space = self.mask(a), self.action_spaces[a]
            assert is_allowed(space, mask, action_dict[a]), f"{a} may not {action_dict[a]}"
        self.log.append((self.episode, self.t, dict(action_dict)))
        acted = self.alive
        self.t += 1
        self.last.update({a: float(np.sum(u)) for a, u in action_dict.items()})
        rewards = {a: self.reward(a) for a in acted}
        if self.reward_scheme == "shared":
            rewards = dict.fromkeys(acted, self.reward(self.possible_agents[0]))
        if self._poisoned("reward"):
            rewards[acted[-1]] = self.config.get("value", np.nan)
        over = self.t == self.length
        cut = over and self.is_cut
        dying = [a for a in acted if self.t == self.config.get("dies", {}).get(a)]
        terminateds = {a: a in dying or (over and not cut) for a in acted}
        truncateds = {a: cut and a not in dying for a in acted}
        self.alive = [a for a in acted if a not in dying]
        terminateds["__all__"], truncateds["__all__"] = over and not cut, cut
        return self._observe(acted), rewards, terminateds, truncateds, {a: {} for a in acted}

    def reward(self, agent):
        i = self.possible_agents.index(agent)
        return float(np.sin(self.t + 2 * i + self.episode) + 0.3 * self.last[agent])

    @property
    def length(self):
        lengths = self.config.get("lengths", [5])
        if isinstance(lengths, dict):
            return lengths[self.index]
        return lengths[(self.episode + self.index) % len(lengths)]

    @property
    def is_cut(self):
        ends = self.config.get("ends", "truncate")
        return ends == "truncate" or (ends == "alternate" and self.episode % 2 == 0)

    def state(self):
        state = np.array([self.index, self.episode, self.t, sum(self.last.values())], np.float32)
        return state * np.nan if self._poisoned("state") else state

    def _observe(self, agents):
        return {a: self._observation(a) for a in agents}

    def _observation(self, agent):
        x = np.zeros(self.sizes[agent], np.float32)
        # Entries far apart: LayerNorm would blow up rounding errors of nearly equal ones.
        x[:3] = self.index + 2, 3 * self.episode, -self.t
        x[-1] += 0.3 * self.last[agent]
        if agent == self.possible_agents[-1] and self._poisoned("observation"):
            x[0] = self.config.get("value", np.nan)
        if agent in self.masked:
            return {"observations": x, "action_mask": self.mask(agent).astype(np.float32)}
        return x

    def mask(self, agent):
        i, space = self.possible_agents.index(agent), self.action_spaces[agent]
        mask = clock_mask(space, self.t + self.episode + i)
        if agent == self.possible_agents[-1] and self._poisoned("mask"):
            mask[-(space.nvec[-1] if isinstance(space, MultiDiscrete) else space.n) :] = 0
        return mask

    def _poisoned(self, what):
        at = self.config.get("poison_at", (0, 0, 2))
        here = (self.index, self.episode, self.t) == tuple(at)
        return self.config.get("poison") == what and here

    def _maybe_crash(self):
        if "crash" in self.config:
            signal_file = Path(self.config["crash"]) / str(self.worker_index)
            if signal_file.exists():
                signal_file.unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    def _maybe_fail(self, where):
        at = tuple(self.config.get("fail_at", (0, 0, 2)))
        key = self.config.get("fail_key")
        if self.config.get("fail") != where or (self.index, self.episode, self.t) != at:
            return
        if key is not None:
            if key in ScriptedTeam.failed:
                return
            ScriptedTeam.failed.add(key)
        raise RuntimeError("the scripted failure")


class EveryThirdReset(ScriptedTeam):
    """Its episodes have one step, and every third `reset` of a process raises."""

    resets = 0

    def __init__(self, config=None):
        super().__init__({"lengths": [1]})

    def reset(self, **kwargs):
        EveryThirdReset.resets += 1
        if EveryThirdReset.resets % 3 == 0:
            raise RuntimeError("every third time")
        return super().reset(**kwargs)


class Drift(MultiAgentEnv):
    """Two agents push a point towards a target; the same dynamics as `DriftBatch`."""

    LENGTH = 6
    SPACES = {"left": 2, "right": 3}

    def __init__(self, config=None):
        super().__init__()
        self.batch = DriftBatch({"num_envs": 1})
        self.possible_agents = self.agents = list(self.SPACES)
        self.observation_spaces = self.batch.team.observation_spaces
        self.action_spaces = self.batch.team.action_spaces

    def _observe(self):
        return {a: x[0].copy() for a, x in self.batch.observations.items()}

    def reset(self, *, seed=None, options=None):
        self.batch.reset([0], [seed])
        return self._observe(), {}

    def step(self, action_dict):
        out = self.batch.step({a: np.asarray(u)[None] for a, u in action_dict.items()})
        over = bool(out.truncated[0])
        rewards = dict(zip(self.possible_agents, out.rewards[0].tolist(), strict=True))
        return self._observe(), rewards, {"__all__": False}, {"__all__": over}, {}


class DriftBatch(VectorTeamEnv):
    """`Drift`, natively batched."""

    def __init__(self, config):
        n = self.num_envs = config["num_envs"]
        box = {a: Box(-np.inf, np.inf, (d,), np.float32) for a, d in Drift.SPACES.items()}
        self.team = Team(
            agents=tuple(box),
            observation_spaces=box,
            action_spaces={a: Box(-1.0, 1.0, (1,), np.float32) for a in box},
        )
        self.observations = {a: np.zeros((n, *s.shape), np.float32) for a, s in box.items()}
        self.state = None
        self.active = np.ones((n, 2), bool)
        self.infos = [{} for _ in range(n)]
        self.x, self.target = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.t = np.zeros(n, np.int64)

    def reset(self, envs, seeds):
        for e, seed in zip(envs, seeds, strict=True):
            self.x[e], self.target[e] = np.random.default_rng(seed).uniform(-1, 1, 2)
            self.t[e] = 0
        self._write()

    def step(self, actions):
        self.x += actions["right"][:, 0] - actions["left"][:, 0]
        self.t += 1
        self._write()
        off = -np.abs(self.x - self.target)
        no = np.zeros(self.num_envs, bool)
        return Outcome(np.stack([off, 2 * off], -1), no, self.t == Drift.LENGTH, no.copy())

    def _write(self):
        for size, rows in zip((2, 3), self.observations.values(), strict=True):
            rows[:] = np.stack([self.x, self.target, self.t], -1)[:, :size]


class TwoPasses(TorchRLModule):
    """Acts greedily by other distribution inputs than it explores with."""

    def setup(self):
        self.layer = torch.nn.Linear(self.observation_space.shape[0], self.action_space.n)

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.layer(batch[Columns.OBS])}

    def _forward_exploration(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: -100.0 * self.layer(batch[Columns.OBS])}


class Linear(TorchRLModule):
    """Somebody's own module: it returns what RLlib's distributions take, and no more."""

    def setup(self):
        out = distribution_for(self.action_space).size
        self.layer = torch.nn.Linear(self.observation_space.shape[0], out)

    def _forward(self, batch, **kwargs):
        return {Columns.ACTION_DIST_INPUTS: self.layer(batch[Columns.OBS])}


# ---- helpers --------------------------------------------------------------------------------


def small(config, env=ScriptedTeam, env_config=None, *, num_envs=2, batch=20, **env_runners):
    """A config that trains in a second on the driver."""
    return (
        config.environment(env, env_config=env_config or {})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs, **env_runners)
        .training(train_batch_size_per_learner=batch, num_epochs=1)
        .learners(num_learners=0)
        .rl_module(model_config={"hidden_sizes": [16], "actor_head_gain": 0.5})
        .debugging(seed=3, log_level="ERROR")
        .api_stack(enable_rl_module_and_learner=True, enable_env_runner_and_connector_v2=True)
    )


def make_runner(config, cls=TeamEnvRunner, *, weights=None, worker_index=0):
    """A runner in this process, with given module weights."""
    if config.layout is None:
        config.validate()
    runner = cls(config=config, worker_index=worker_index)
    if weights is not None:
        runner.module.set_state(weights)
    return runner


def make_modules(config, seed=0):
    """All modules, the critic too, with weights far from their initial ones."""
    if config.layout is None:
        config.validate()
    torch.manual_seed(seed)
    module = config.get_multi_rl_module_spec().build()
    for m in module.keys():  # noqa: SIM118
        for p in module[m].parameters():
            p.data += 0.3 * torch.randn_like(p)
    module[CRITIC].normalizer.update(torch.tensor([10.0, 5.0, 40.0]))
    return module


def actor_weights(module):
    return {m: s for m, s in module.get_state().items() if m != CRITIC}


def team_batch(fragments, config, module, *, standardize=False):
    """The training batch of fragments: both learner connectors, run by hand.

    What the critic gives is (B,): the team's one column.
    """
    batch = {}
    for connector in (
        FragmentsToTeamBatch(layout=config.layout, max_seq_len=config.max_seq_len),
        TeamAdvantages(
            layout=config.layout,
            gamma=config.gamma,
            lambda_=config.lambda_,
            standardize_advantages=standardize,
            max_seq_len=config.max_seq_len,
        ),
    ):
        batch = connector(rl_module=module, batch=batch, episodes=fragments)
    del batch[CRITIC][ESTIMATES]
    for column in (Columns.VF_PREDS, Columns.VALUE_TARGETS, Columns.ADVANTAGES):
        batch[CRITIC][column] = batch[CRITIC][column].squeeze(-1)
    return batch


def values(module, states):
    """The critic's values, in returns, of states (B, s)."""
    critic = module[CRITIC]
    with torch.no_grad():
        out = critic.compute_values({Columns.OBS: torch.as_tensor(np.asarray(states, np.float32))})
        return critic.normalizer.denormalize(out).numpy()


def arrays_of(fragment):
    """Every array of a fragment, by (name, module id); those of its finals too."""
    finals = {f"finals.{name}": x for name, x in vars(fragment.finals).items()}
    arrays = {}
    for name, x in (vars(fragment) | finals).items():
        parts = x if isinstance(x, dict) else {"": x}
        arrays |= {(name, m): a for m, a in parts.items() if isinstance(a, np.ndarray)}
    return arrays


def parameters(algo):
    """Copies of all parameters, by module and name."""
    module = algo.learner_group._learner.module
    return {
        (m, name): p.detach().clone()
        for m in module.keys()  # noqa: SIM118
        for name, p in module[m].named_parameters()
    }


def equal(before, after):
    return all(torch.equal(x, after[k]) for k, x in before.items())


# Remote workers get the toys by value: they cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
