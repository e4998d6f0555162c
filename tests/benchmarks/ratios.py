"""Prints how far the library is from the speed of a bare loop: `make bench`.

Every figure is a ratio of two things measured in turn, A B A B ..., in this one run, and the
median of those; absolute times of one machine say little about another.

(a) sampling: our runner's steps per CPU second over those of a bare loop that steps the
    benchmark's own environments, as many of them, with actions drawn beforehand. For what is
    batched by nature here but not there (MAgent2, cooperative MPE), a loop over the batch itself;
    for large robots of MuJoCo, a loop over gymnasium's robots, which have a single agent each.
(b) end to end: our steps per second over those of RLlib's multi-agent PPO with the same
    environments, batch, networks and epochs, two remote runners each. RLlib steps the benchmarks'
    own environments; on MPE also our way of stepping mpe2's worlds one by one.
(c) update: our learner's time over that of a bare torch loop which does the forward passes,
    backward passes and optimiser steps alone.
(d) sequential over simultaneous update, by number of agents.
(e) the other algorithms' updates, and one with a GRU, over HAPPO's.
(f) HAPPO's update by number of agents, over that for two: linear growth is n / 2.
(g) whole iterations of teams that act in sequence over HAPPO's, HalfCheetah 6x1, with the
    settings of BPPO's paper.
(h) sampling and the update of large teams over those of an eighth of them: 256 agents that share a
    module, updated at once, and 64 unlike ones, one after another. Linear growth is 8.

What misses its bar is profiled. Options: --rounds N, --threads N (of torch; 1), and any of the
letters a to h. All but (b) is measured in CPU time of this process: a machine is seldom quiet.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import gymnasium
import numpy as np
import ray
import torch
from gymnasium.spaces import Box, Discrete
from measuring import RandomTeam, ratios_of, report
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune.registry import register_env

from rllib_hetero import (
    A2POConfig,
    ARMAPPOConfig,
    BPPOConfig,
    CoPPOConfig,
    HAA2CConfig,
    HAPPOConfig,
    HATRPOConfig,
    MAPPOConfig,
    MissingExtraError,
)
from rllib_hetero.algorithms.training_data import TeamTrainingData
from rllib_hetero.functional import DiagGaussian, clipped_surrogate, clipped_value_loss
from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.modules.critic import TeamCritic
from rllib_hetero.runners.env_creator import env_creator
from rllib_hetero.runners.team_env_runner import TeamEnvRunner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("letters", nargs="*", default=list("abcdefgh"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for letter in args.letters:
        {
            "a": sampling,
            "b": end_to_end,
            "c": update,
            "d": sequential,
            "e": algorithms,
            "f": growth,
            "g": in_sequence,
            "h": many_agents,
        }[letter](args.rounds)


# ---- (a) ------------------------------------------------------------------------------------


def sampling(rounds: int) -> None:
    from gymnasium_robotics import mamujoco_v1
    from mpe2 import simple_spread_v3

    def cheetah(conf: str) -> Callable[[], Any]:
        return lambda: mamujoco_v1.parallel_env("HalfCheetah", conf, agent_obsk=0)

    # Ours are batched, the bare loops are the benchmarks'.
    cases: list[tuple[str, str, dict, Callable, tuple[int, ...], float]] = [
        (
            "MPE simple_spread",
            "mpe",
            {"scenario": "simple_spread"},
            lambda: simple_spread_v3.parallel_env(continuous_actions=True),
            (20, 64),
            6.0,
        )
    ]
    for conf in ("2x3", "6x1"):
        config = {"scenario": "HalfCheetah", "agent_conf": conf, "agent_obsk": 0}
        cases.append((f"HalfCheetah {conf}", "mamujoco", config, cheetah(conf), (20,), 1.8))
    for name, env, env_config, make, sizes, bar in cases:
        for num_envs in sizes:
            bare, ours, run = _sampling_pair(env, env_config, make, num_envs)
            ratio = ratios_of(bare, ours, rounds, clock=time.process_time)
            report(f"(a) sampling / bare loop, {name}, E={num_envs}", ratio, bar, run, more=True)
    for name, env, config, num_envs, make_bare, bar in BATCHED:
        try:
            runner, steps = _runner(env, config, num_envs), 100
        except MissingExtraError as missing:
            print(f"(a) {name}: not measured. {missing}")
            continue
        bare = make_bare(runner, config, steps)
        run = partial(runner.sample, num_timesteps=steps * num_envs)
        ratio = ratios_of(bare, run, rounds, clock=time.process_time)
        report(f"(a) sampling / bare loop, {name}, E={num_envs}", ratio, bar, run, more=True)


def _bare_batch(runner: TeamEnvRunner, config: dict, steps: int) -> Callable[[], None]:
    """Steps the runner's own batch, with actions drawn beforehand."""
    env = runner.env
    spaces, rng = env.team.action_spaces, np.random.default_rng(0)
    actions = [
        {
            a: rng.integers(s.n, size=env.num_envs)
            if isinstance(s, Discrete)
            else rng.uniform(s.low, s.high, (env.num_envs, *s.shape)).astype(np.float32)
            for a, s in spaces.items()
        }
        for _ in range(steps)
    ]

    def bare() -> None:
        env.reset(range(env.num_envs), [None] * env.num_envs)
        for action in actions:
            outcome = env.step(action)
            over = np.flatnonzero(outcome.terminated | outcome.truncated)
            if len(over):
                env.reset(over, [None] * len(over))

    return bare


def _bare_smax(runner: TeamEnvRunner, config: dict, steps: int) -> Callable[[], None]:
    """jaxmarl's own step and masks of all battles, compiled; numpy in, numpy out."""
    import jax
    from jaxmarl.environments import smax

    env = smax.HeuristicEnemySMAX(scenario=smax.map_name_to_scenario(config["map"]))
    num_envs = runner.env.num_envs

    @jax.jit
    def step(key, battles, action):
        key, now = jax.random.split(key)
        observations, battles, rewards, done, _ = jax.vmap(env.step)(
            jax.random.split(now, num_envs), battles, action
        )
        masks = jax.vmap(env.get_avail_actions)(battles)
        return key, battles, (observations, masks, rewards, done)

    key = jax.random.PRNGKey(0)
    battles = jax.jit(jax.vmap(env.reset))(jax.random.split(key, num_envs))[1]
    rng = np.random.default_rng(0)
    # The first five are allowed at all times.
    actions = [{a: rng.integers(5, size=num_envs) for a in env.agents} for _ in range(steps)]

    def bare() -> None:
        nonlocal key, battles
        for action in actions:
            key, battles, seen = step(key, battles, action)
            jax.tree.map(np.asarray, seen)

    bare()  # Compiled again for the second step: jaxmarl's types change after the first.
    return bare


def _bare_robots(runner: TeamEnvRunner, config: dict, steps: int) -> Callable[[], None]:
    """Steps gymnasium's robots, as `gymnasium.make` makes them."""
    robots = [gymnasium.make(f"{config['scenario']}-v5") for _ in range(runner.env.num_envs)]
    for i, robot in enumerate(robots):
        robot.reset(seed=i)
    space = robots[0].action_space
    actions = [[space.sample() for _ in robots] for _ in range(steps)]

    def bare() -> None:
        for joint in actions:
            for robot, action in zip(robots, joint, strict=True):
                _, _, terminated, truncated, _ = robot.step(action)
                if terminated or truncated:
                    robot.reset()

    return bare


BATCHED: tuple[tuple[str, str, dict, int, Callable, float], ...] = (
    (
        "Ant 4x2",
        "mamujoco",
        {"scenario": "Ant", "agent_conf": "4x2", "agent_obsk": 0},
        20,
        _bare_robots,
        1.0,
    ),
    (
        "Humanoid 17x1",
        "mamujoco",
        {"scenario": "Humanoid", "agent_conf": "17x1", "agent_obsk": 0},
        20,
        _bare_robots,
        1.0,
    ),
    ("SMAX 3m", "smax", {"map": "3m"}, 8, _bare_smax, 0.85),
    ("SMAX 3m", "smax", {"map": "3m"}, 64, _bare_smax, 0.85),
    ("SMAX smacv2_5_units", "smax", {"map": "smacv2_5_units"}, 64, _bare_smax, 0.85),
    (
        "treasure collection",
        "cooperative_mpe",
        {"scenario": "treasure_collection"},
        64,
        _bare_batch,
        0.85,
    ),
    ("rover tower", "cooperative_mpe", {"scenario": "rover_tower"}, 64, _bare_batch, 0.85),
    ("battle, 12 a side", "magent", {"scenario": "battle", "map_size": 20}, 4, _bare_batch, 0.85),
    ("ALOHA hand-over", "bimanual", {"task": "AlohaHandOver"}, 32, _bare_batch, 0.85),
)


def _runner(env: str, env_config: dict, num_envs: int) -> TeamEnvRunner:
    config = (
        HAPPOConfig()
        .environment(env, env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=num_envs)
        .debugging(seed=0)
    )
    if env == "magent":
        config.multi_agent(parameter_sharing="full")
    config.validate()
    return TeamEnvRunner(config=config, worker_index=0)


def _sampling_pair(env: str, env_config: dict, make: Callable, num_envs: int) -> tuple:
    steps = 100
    runner = _runner(env, env_config, num_envs)
    envs = [make() for _ in range(num_envs)]
    for i, e in enumerate(envs):
        e.reset(seed=i)
    spaces = {a: envs[0].action_space(a) for a in envs[0].possible_agents}
    actions = [{a: s.sample() for a, s in spaces.items()} for _ in range(steps)]

    def bare() -> None:
        for action in actions:
            for e in envs:
                if not e.agents:
                    e.reset()
                e.step(action)

    def ours() -> None:
        runner.sample(num_timesteps=steps * num_envs)

    return bare, ours, ours


# ---- (b) ------------------------------------------------------------------------------------


def end_to_end(rounds: int) -> None:
    spread = {"scenario": "simple_spread"}
    cheetah = {"scenario": "HalfCheetah", "agent_conf": "6x1", "agent_obsk": 0}
    plain = {**spread, "backend": "mpe2"}
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    try:
        for name, env, env_config, theirs, their_config, bar in (
            ("spread, mpe2 without wrappers", "mpe", spread, "mpe", plain, 3.0),
            ("spread, mpe2's wrappers", "mpe", spread, _mpe_in_wrappers, {}, 7.0),
            ("HalfCheetah 6x1", "mamujoco", cheetah, _cheetah_in_wrappers, {}, 4.0),
        ):
            ours = (
                HAPPOConfig()
                .environment(env, env_config=env_config)
                .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
                .training(train_batch_size_per_learner=4000, num_epochs=5)
                .debugging(seed=0)
                .build_algo()
            )
            other = _rllib_ppo(theirs, their_config, ours)
            ratio = ratios_of(other.train, ours.train, rounds, clock=time.perf_counter)
            other.stop()
            report(f"(b) end to end / RLlib PPO, {name}", ratio, bar, ours.train, more=True)
            ours.stop()
    finally:
        ray.shutdown()


def _mpe_in_wrappers(config: dict) -> Any:
    """What an RLlib user runs without this library."""
    from mpe2 import simple_spread_v3

    return ParallelPettingZooEnv(simple_spread_v3.parallel_env(continuous_actions=True))


def _cheetah_in_wrappers(config: dict) -> Any:
    """The same for MuJoCo."""
    from gymnasium_robotics import mamujoco_v1

    return ParallelPettingZooEnv(mamujoco_v1.parallel_env("HalfCheetah", "6x1", agent_obsk=0))


def _rllib_ppo(env: Any, env_config: dict, ours: Any) -> Any:
    agents = list(ours.config.layout.team.agents)
    register_env("theirs", env if callable(env) else env_creator(env))
    return (
        PPOConfig()
        .environment("theirs", env_config=env_config)
        .env_runners(num_env_runners=2, num_envs_per_env_runner=10)
        .multi_agent(policies=set(agents), policy_mapping_fn=lambda a, e, **kw: a)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[128, 128]))
        .training(
            train_batch_size_per_learner=4000, minibatch_size=4000, num_epochs=5, use_kl_loss=False
        )
        .debugging(seed=0)
        .build_algo()
    )


# ---- (c) to (f) -----------------------------------------------------------------------------


def update(rounds: int) -> None:
    for num_agents in (3, 6):
        ours = _learner_update(HAPPOConfig(), num_agents)
        bare = _bare_update(num_agents)
        ratio = ratios_of(ours, bare, rounds, clock=time.process_time)
        report(f"(c) update / bare torch loop, {num_agents} agents", ratio, 1.1, ours)


def sequential(rounds: int) -> None:
    for num_agents in (3, 6, 17):
        one_by_one = _learner_update(HAPPOConfig(), num_agents)
        at_once = _learner_update(MAPPOConfig().multi_agent(parameter_sharing="none"), num_agents)
        ratio = ratios_of(one_by_one, at_once, rounds, clock=time.process_time)
        report(f"(d) sequential / simultaneous update, {num_agents} agents", ratio, 1.1, one_by_one)


def algorithms(rounds: int) -> None:
    recurrent = {"recurrent": "gru", "critic_recurrent": "gru"}
    cases: list[tuple[str, Any, float | None]] = [
        ("A2PO", A2POConfig(), 1.3),
        ("A2PO, a critic per agent", A2POConfig().training(per_agent_critics=True), None),
        ("HATRPO", HATRPOConfig(), 4.5),
        ("HAA2C", HAA2CConfig(), None),
        ("CoPPO, separate", CoPPOConfig().multi_agent(parameter_sharing="none"), None),
        ("HAPPO, GRU actors", _with_model(HAPPOConfig(), recurrent="gru"), 2.5),
        ("HAPPO, GRU actors and critic", _with_model(HAPPOConfig(), **recurrent), 3.2),
    ]
    for name, config, bar in cases:
        ours = _learner_update(config, 3)
        happo = _learner_update(HAPPOConfig(), 3)
        ratio = ratios_of(ours, happo, rounds, clock=time.process_time)
        report(f"(e) update / HAPPO's, {name}, 3 agents", ratio, bar, ours)


def _with_model(config: Any, **model: Any) -> Any:
    return config.rl_module(model_config=model)


def growth(rounds: int) -> None:
    for num_agents in (4, 8, 16, 32):
        ours = _learner_update(HAPPOConfig(), num_agents)
        two = _learner_update(HAPPOConfig(), 2)
        ratio = ratios_of(ours, two, rounds, clock=time.process_time)
        # The critic's input grows with the team as well: it sees all observations.
        report(f"(f) update / that of 2 agents, {num_agents} agents", ratio, num_agents / 2, ours)


def _learner_update(config: Any, num_agents: int) -> Callable[[], Any]:
    return _sample_and_update(config, {"num_agents": num_agents}, steps=4000)[1]


def _sample_and_update(config: Any, env_config: dict, *, steps: int) -> tuple[Callable, Callable]:
    """Sampling a batch of so many steps, and five epochs on one."""
    config = (
        config.environment(RandomTeam, env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
        .resources(num_cpus_for_main_process=torch.get_num_threads())
        .debugging(seed=0)
    )
    config.validate()
    runner = TeamEnvRunner(config=config, worker_index=0)
    fragments = runner.sample(num_timesteps=steps)
    learner = config.learner_class(config=config, module_spec=config.get_multi_rl_module_spec())
    learner.build()

    def sample() -> None:
        runner.sample(num_timesteps=steps)
        runner.get_metrics()

    def update() -> None:
        learner.update(
            training_data=TeamTrainingData(episodes=fragments),
            timesteps={"num_env_steps_sampled_lifetime": steps},
            num_epochs=5,
        )

    return sample, update


def _bare_update(num_agents: int) -> Callable[[], None]:
    """The same networks and losses, without advantages, statistics, or anything of RLlib."""
    box, action = Box(-np.inf, np.inf, (18,), np.float32), Box(-1.0, 1.0, (5,), np.float32)
    state = Box(-np.inf, np.inf, (18 * num_agents,), np.float32)
    actors = [
        TeamActor(observation_space=box, action_space=action, model_config={})
        for _ in range(num_agents)
    ]
    critic = TeamCritic(observation_space=state, action_space=action, model_config={})
    dist = DiagGaussian(5)
    x, u = torch.randn(num_agents, 4000, 18), torch.randn(num_agents, 4000, 5)
    s, advantages, old_values = (
        torch.randn(4000, 18 * num_agents),
        torch.randn(4000),
        torch.randn(4000),
    )
    with torch.no_grad():
        old = [
            dist.log_prob(a({Columns.OBS: x[i]})[Columns.ACTION_DIST_INPUTS], u[i])
            for i, a in enumerate(actors)
        ]
    modules = [*actors, critic]
    optimizers = [torch.optim.Adam(m.parameters(), lr=5e-4, eps=1e-5) for m in modules]

    def step(module: torch.nn.Module, optimizer: Any, loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()

    def run() -> None:
        for i, actor in enumerate(actors):
            for _ in range(5):
                inputs = actor({Columns.OBS: x[i]})[Columns.ACTION_DIST_INPUTS]
                ratio = torch.exp(dist.log_prob(inputs, u[i]) - old[i])
                objective = clipped_surrogate(ratio, advantages, 0.2).mean()
                step(actor, optimizers[i], -objective - 0.01 * dist.entropy(inputs).mean())
        for _ in range(5):
            loss = clipped_value_loss(
                critic.compute_values({Columns.OBS: s}),
                old_values,
                advantages,
                clip_param=0.2,
                huber_delta=10.0,
            )
            step(critic, optimizers[-1], loss.mean())

    return run


# ---- (g) ------------------------------------------------------------------------------------


def in_sequence(rounds: int) -> None:
    cases: list[tuple[str, Any, float | None]] = [
        ("BPPO", BPPOConfig(), 1.4),
        ("BPPO, simultaneous", BPPOConfig().training(update_scheme="simultaneous"), None),
        ("BPPO, no projection", _with_model(BPPOConfig(), action_projection=False), None),
        ("BPPO, no peer term", BPPOConfig().training(peer_coeff=0.0), None),
        ("ARMAPPO", ARMAPPOConfig(), None),
    ]
    happo = _iteration(HAPPOConfig())
    for name, config, bar in cases:
        ours = _iteration(config)
        ratio = ratios_of(ours, happo, rounds, clock=time.process_time)
        report(f"(g) iteration / HAPPO's, {name}, 6 agents", ratio, bar, ours)


def _iteration(config: Any) -> Callable[[], Any]:
    env_config = {"scenario": "HalfCheetah", "agent_conf": "6x1", "agent_obsk": 0}
    config = (
        config.environment("mamujoco", env_config=env_config)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=40)
        .rl_module(model_config=config.model_config | {"hidden_sizes": [64, 64, 64]})
        .training(lr=3e-4, train_batch_size_per_learner=4000, num_epochs=5, entropy_coeff=0.0)
        .debugging(seed=0)
    )
    return config.build_algo().train


# ---- (h) ------------------------------------------------------------------------------------


def many_agents(rounds: int) -> None:
    def shared() -> Any:
        return MAPPOConfig().multi_agent(parameter_sharing="full", agent_index=False)

    def unlike() -> Any:
        # On noise the product of 63 ratios would be past all numbers at larger steps.
        return HAPPOConfig().training(lr=1e-6)

    for name, config, num_agents, env_config in (
        ("256 agents of one module", shared, 256, {}),
        ("64 unlike agents", unlike, 64, {"unlike": True}),
    ):
        large, small = (
            _sample_and_update(config(), {"num_agents": n, **env_config}, steps=400)
            for n in (num_agents, num_agents // 8)
        )
        for what, a, b in zip(("sampling", "update"), large, small, strict=True):
            ratio = ratios_of(a, b, rounds, clock=time.process_time)
            report(f"(h) {what} / that of an eighth, {name}", ratio, None, a)


if __name__ == "__main__":
    main()
