"""A toy of what one agent learns with, to test how agents agree without training networks.

Its loss is a quadratic that can be checked on paper. Everything else (hosts, exchange, stores,
runners) is the real thing.
"""

from __future__ import annotations

import os
import time
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import torch
import toys
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch import nn

from rllib_hetero.algorithms.capabilities import Capabilities
from rllib_hetero.algorithms.decentralised.algorithm import DecentralisedAlgorithm
from rllib_hetero.algorithms.decentralised.config import ReplayingConfig
from rllib_hetero.consensus.shared_part import SharedPart
from rllib_hetero.learners.agents.group import AgentLearnerGroup
from rllib_hetero.learners.agents.seats import ActorSeat, Seat
from rllib_hetero.modules.actor import MODEL_DEFAULTS, TeamActor
from rllib_hetero.modules.q_critic import TeamQCritic
from rllib_hetero.replay import uniform

SIZE = 3


def is_in_critic(name):
    return name.startswith("critic")


class ToyMember:
    """Minimises sum_k (x_k - c_k)^2 / 2 + (its rewards' mean) * y by plain gradient descent.

    x is shared, y individual; c differs from member to member. A file named after the member in
    the folder of `env_config["strike"]` makes the next update wait for as many seconds.
    """

    def __init__(self, config, module_id, device):
        self.config, self.module_id = config, module_id
        self.number = config.members.index(module_id)
        spec = config.get_multi_rl_module_spec(inference_only=False)[module_id]
        self.module = spec.build()
        parameters = config.parameters_of(module_id)
        self.x, self.y = parameters.values()
        self.centre = torch.arange(len(self.x)) * 0.5 + self.number
        self.shared = SharedPart(parameters, config.is_shared)
        self.consensus = config.new_consensus(self.shared)
        self.updates, self.rewards, self.seen = 0, [], []

    @property
    def exchanges_policies(self):
        return self.config.toy_exchanges_policies

    def draw(self, replay, seed):
        rows = uniform((*seed, 1), len(replay), self.config.train_batch_size_per_learner)
        return replay.take(rows)

    def update(self, batch, seed, policies_of_others):
        self._be_struck()
        own = [self.config.layout.team.agents.index(a) for a in self._agents()]
        rewards = batch.agent_rewards[:, own].mean()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sum(seed))
            noise = 0.01 * torch.randn(2)
        loss = ((self.x - self.centre) ** 2).sum() / 2 + ((rewards + noise) * self.y).sum()
        self.x.grad, self.y.grad = torch.autograd.grad(loss, [self.x, self.y])
        self.consensus.add_to_gradients()
        with torch.no_grad():
            for p in (self.x, self.y):
                p -= self.config.lr * p.grad
                p.grad = None
            for p in self.module.parameters():  # so that policies change too
                p += 1e-3 * rewards
        self.consensus.end_update()
        self.updates += 1
        self.rewards.append(float(rewards))
        if policies_of_others is not None:
            total = sum(float(p.sum()) for m in policies_of_others.values() for p in m.parameters())
            self.seen.append(total)

    def _agents(self):
        return self.config.layout.groups[self.module_id]

    def _be_struck(self):
        folder = self.config.env_config.get("strike")
        path = folder and Path(folder) / self.module_id
        if path and path.exists():
            seconds = float(path.read_text())
            path.unlink()
            time.sleep(seconds)

    def explore_as_scheduled(self, env_steps):
        self.env_steps = env_steps

    def metrics(self):
        notes = {"updates": self.updates, "pid": os.getpid(), "x": float(self.x.detach().sum())}
        return notes | {"rewards": float(np.mean(self.rewards or [0.0]))}

    def policy(self):
        return self.module.get_state(inference_only=True)

    def get_state(self):
        return {
            "module": self.module.get_state(), "x": self.x.detach().clone(),
            "y": self.y.detach().clone(), "consensus": self.consensus.get_state(),
            "updates": self.updates, "rewards": list(self.rewards), "seen": list(self.seen),
        }  # fmt: skip

    def set_state(self, state):
        self.module.set_state(state["module"])
        with torch.no_grad():
            self.x.copy_(state["x"])
            self.y.copy_(state["y"])
        self.consensus.set_state(state["consensus"])
        self.updates, self.rewards = state["updates"], list(state["rewards"])
        self.seen = list(state["seen"])

    def shared_state(self):
        return self.shared.vector().numpy()

    def load_shared(self, vector):
        self.shared.load(torch.from_numpy(np.array(vector)))


class ToyConfig(ReplayingConfig):
    """Configures `Toy`."""

    capabilities = Capabilities(paper="none", update="", correction="", step="")
    model_defaults = MODEL_DEFAULTS

    def __init__(self, algo_class=None):
        super().__init__(algo_class=algo_class or Toy)
        self.toy_exchanges_policies = False

    def get_default_rl_module_spec(self):
        return RLModuleSpec(module_class=TeamActor)

    def get_critic_spec(self):
        return RLModuleSpec(
            module_class=TeamQCritic, observation_space=self.layout.team.critic_space,
            action_space=self.layout.team.critic_space, learner_only=True,
        )  # fmt: skip

    def get_default_learner_class(self):
        return None

    def get_member_class(self):
        return ToyMember

    def exploration_of(self, module_id):
        return 0.0

    def is_shared(self, name):
        return self.shared(name) if callable(self.shared) else is_in_critic(name)

    def parameters_of(self, module_id):
        size = self.env_config.get("sizes", {}).get(module_id, SIZE)
        x, y = torch.zeros(size), torch.randn(2)
        return {"critic.x": nn.Parameter(x), "actor.y": nn.Parameter(y)}

    def validate(self):
        super().validate()
        if not self.in_evaluation:
            self._validate_shared_part()


class Toy(DecentralisedAlgorithm):
    """Agents that agree on a quadratic's minimum, beside a real environment."""

    @classmethod
    def get_default_config(cls):
        return ToyConfig()


FOUR = {a: (2, "discrete") for a in "abcd"}


def toy_config(
    agents=FOUR, *, host=1, steps=5, exchanges_policies=False, env_config=None, **consensus
):
    """A small config: 2 environments, 2 updates in an iteration of 10 steps."""
    config = (
        ToyConfig()
        .environment(toys.CountingTeam, env_config={"agents": agents, **(env_config or {})})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=steps)
        .learners(agents_per_learner=host, num_cpus_per_agent_learner=0.01)
        .consensus(**{"peer_timeout_s": 60.0, "beta": 1.0} | consensus)
        .training(
            lr=0.1, critic_lr=None, train_batch_size_per_learner=4,
            training_intensity=4 * 2 / (2 * steps),
            num_steps_sampled_before_learning_starts=2 * steps,
            replay_buffer_config={"capacity": 200},
        )
        .rl_module(model_config={"hidden_sizes": [4]})
        .debugging(seed=3, log_level="ERROR")
    )  # fmt: skip
    config.toy_exchanges_policies = exchanges_policies
    return config


class Loop:
    """Samples and learns as the algorithm does, without one."""

    def __init__(self, config, seat_class=None, by_reference=False):
        config.validate()
        self.config, self.by_reference, self.steps = config, by_reference, 0
        self.runner = toys.make_runner(config)
        self.group = AgentLearnerGroup(config, seat_class or (ActorSeat if by_reference else Seat))
        self.sync()

    def sync(self):
        state = self.group.get_state("learner/rl_module", inference_only=True)["learner"]
        self.runner.set_state({"rl_module": state["rl_module"]})

    def run(self, iterations=1, updates=2):
        for _ in range(iterations):
            self.deals = self.runner.deal(by_reference=self.by_reference)
            self.steps += 10
            metrics = self.group.update(self.deals, env_steps=self.steps, num_updates=updates)
            self.sync()
        return metrics


def members_of(loop):
    """The members of a loop whose hosts are in this process."""
    return {m: x for seat in loop.group.crew.seats for m, x in seat._host._members.items()}


def arrays_in(thing):
    """Every array in nested dataclasses, dicts and sequences."""
    if isinstance(thing, (np.ndarray, torch.Tensor)):
        yield np.asarray(thing)
    elif is_dataclass(thing) and not isinstance(thing, type):
        yield from arrays_in(vars(thing))
    elif isinstance(thing, dict):
        for x in thing.values():
            yield from arrays_in(x)
    elif isinstance(thing, (list, tuple, set, frozenset)):
        for x in thing:
            yield from arrays_in(x)
