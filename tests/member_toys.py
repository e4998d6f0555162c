"""Members without hosts: a runner, one replay for each, and an exchange on the full graph."""

from __future__ import annotations

import numpy as np
import torch
from toys import CountingTeam

from rllib_hetero.consensus.graphs import metropolis
from rllib_hetero.replay import JointReplay
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

FEW = {
    "trajectories": 6, "trajectory_length": 4, "trajectories_per_update": 3, "history": 2,
    "recent_steps": 40, "batch_size": 12, "memory_size": 5, "hidden_size": 7,
}  # fmt: skip


def member_config(
    cls, env=CountingTeam, env_config=None, *, num_envs=3, steps=8, model=None, others=None,
    consensus=None, sharing=None, **training,
):  # fmt: skip
    """A validated config of a small team whose members live in this process."""
    settings = {
        "lr": 1e-3, "critic_lr": 2e-3, "adam_epsilon": 1e-3, "tau": 0.1,
        "train_batch_size_per_learner": 24, "num_steps_sampled_before_learning_starts": 0,
    }  # fmt: skip
    config = cls()
    if "COMA" not in cls.__name__:
        settings["replay_buffer_config"] = {"capacity": 50 * num_envs}
    if "attention" in config.critics:
        model = {"attention_size": 8, "num_attention_heads": 2} | (model or {})
    config = (
        config.environment(env, env_config=env_config or {})
        .env_runners(
            num_env_runners=0, num_envs_per_env_runner=num_envs, rollout_fragment_length=steps
        )
        .learners(agents_per_learner=None)
        .training(**(settings | training))
        .other_agents(**(FEW | (others or {})))
        .rl_module(model_config={"hidden_sizes": [8]} | (model or {}))
        .debugging(seed=7, log_level="ERROR")
    )
    if consensus:
        config.consensus(**consensus)
    if sharing is not None:
        config.multi_agent(parameter_sharing=sharing)
    config.validate()
    return config


class Hall:
    """All members of a config, each with its replay; who is not asked does not learn."""

    def __init__(self, config):
        self.config = config
        self.runner = TeamEnvRunner(config=config, worker_index=0)
        self.members, self.replays = {}, {}
        for i, m in enumerate(config.members):
            torch.manual_seed(i)
            self.members[m] = config.get_member_class()(config, m)
            self.replays[m] = JointReplay(
                config.layout,
                capacity=config.rows_per_env * config.num_envs,
                num_columns=config.num_envs,
                **config.replay_settings(),
            )
        self.update_number = 0
        self.publish()

    def publish(self):
        """What the members are goes to the runner."""
        state = {m: member.policy() for m, member in self.members.items()}
        self.runner.set_state({"rl_module": state})

    def sample(self, *, random=False):
        """One rollout, to all replays, rewards of others taken out."""
        (fragment,) = self.runner.sample(random_actions=random)
        team = self.config.layout.team
        for m, replay in self.replays.items():
            own = np.isin(team.agents, self.config.layout.groups[m])
            rewards = fragment.rewards
            fragment.rewards = np.where(own, rewards, np.nan).astype(np.float32)
            replay.add(fragment)
            fragment.rewards = rewards
        return fragment

    def seed(self, m):
        return (self.config.update_order_seed, self.update_number, self.config.members.index(m))

    def update(self, members=None, exchange=True):
        """One update of each, and one exchange."""
        for m in members or self.members:
            member = self.members[m]
            policies = None
            if member.exchanges_policies:
                policies = {n: x.actor for n, x in self.members.items() if n != m}
            member.update(member.draw(self.replays[m], self.seed(m)), self.seed(m), policies)
        self.update_number += 1
        if exchange and len(self.members) > 1 and self.members[m].shared.size:
            names = list(self.members)
            weights = metropolis([(a, b) for i, a in enumerate(names) for b in names[i + 1 :]])
            copies = {m: x.shared.vector() for m, x in self.members.items()}
            for m, member in self.members.items():
                member.consensus.mix(weights[m], copies)

    def metrics(self):
        return {m: member.metrics() for m, member in self.members.items()}
