"""What the off-policy algorithms' updates cost: `make bench`, or with letters, as `ratios.py`.

Ratios of two things measured in turn, A B A B ..., in CPU seconds of one thread, and the median of
those. Updates draw 1,000 joint transitions from 100,000.

(a) update over a bare torch loop: separate networks, Adam tensor by tensor, `copy_` targets.
(b) update over the same loop with fused Adam and targets moved by one call.
(c) sequential over simultaneous update: HATD3 over MATD3.
(d) HATD3's update by number of agents, over that for two: linear growth is n / 2.
(e) not a ratio: steps per CPU second of HATD3 on simple_spread, HARL's settings, and its parts.

What misses its bar is profiled. Options: --rounds N, and any of the letters a to e.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import torch
from bare_off_policy import BareUpdate, Size
from measuring import RandomTeam, ratios_of, report
from scaling import Stopwatch

from rllib_hetero import HADDPGConfig, HATD3Config, MATD3Config
from rllib_hetero.algorithms.off_policy.replay_data import ReplayData
from rllib_hetero.runners.team_env_runner import TeamEnvRunner

ROWS, ENVS, UPDATES = 100_000, 20, 10
MPE = Size("MPE", 3, 18, 5, (128, 128))
CHEETAH = Size("HalfCheetah 6x1", 6, 23, 1, (256, 256))
METHODS = {"HADDPG": (HADDPGConfig, False), "HATD3": (HATD3Config, True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("letters", nargs="*", default=list("abcde"))
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for letter in args.letters:
        {"a": plain, "b": fused, "c": sequential, "d": growth, "e": end_to_end}[letter](args.rounds)


def plain(rounds: int) -> None:
    over_bare_loops("(a) update / plain loop", rounds, fused=False, bar=1.0)


def fused(rounds: int) -> None:
    over_bare_loops("(b) update / fused loop", rounds, fused=True, bar=1.15)


def over_bare_loops(what: str, rounds: int, *, fused: bool, bar: float) -> None:
    for size in (MPE, CHEETAH):
        for name, (config, twin) in METHODS.items():
            ours = updates(config(), size)
            update = BareUpdate(size, twin=twin, fused=fused, rows=ROWS)
            ratios = ratios_of(ours, repeated(update), rounds, clock=time.process_time)
            report(f"{what}, {name}, {size.name}", ratios, bar, ours)


def sequential(rounds: int) -> None:
    for size, bar in ((MPE, 1.2), (CHEETAH, 1.35)):
        one_by_one, at_once = updates(HATD3Config(), size), updates(MATD3Config(), size)
        ratios = ratios_of(one_by_one, at_once, rounds, clock=time.process_time)
        report(f"(c) HATD3 / MATD3, {size.name}", ratios, bar, one_by_one)


def growth(rounds: int) -> None:
    def of(agents: int) -> Callable[[], None]:
        return updates(HATD3Config(), Size("MPE", agents, MPE.seen, MPE.acted, MPE.hidden))

    two = of(2)
    for agents in (4, 8, 16):
        ours = of(agents)
        ratios = ratios_of(ours, two, rounds, clock=time.process_time)
        report(f"(d) update / that of 2 agents, {agents} agents", ratios, None, ours)


def end_to_end(rounds: int) -> None:
    algo = (
        HATD3Config()
        .environment("mpe", env_config={"scenario": "simple_spread"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=ENVS)
        .training(
            num_steps_sampled_before_learning_starts=1000,
            replay_buffer_config={"capacity": ROWS},
        )
        .debugging(seed=0)
        .build_algo()
    )
    steps = algo.config.rollout_fragment_length * ENVS
    watch = Stopwatch(time.process_time)
    algo._sample = watch.around("sampling", algo._sample)
    algo.learner_group.update = watch.around("updates", algo.learner_group.update)
    groups = algo.env_runner_group
    groups.sync_weights = watch.around("weights", groups.sync_weights)
    train = watch.around("all", algo.train)
    taken: list[dict[str, float]] = []
    for _ in range(2 + rounds):  # The first only samples, the second allocates.
        train()
        taken.append(watch.taken())
    algo.stop()
    medians = {part: statistics.median(t[part] for t in taken[2:]) for part in taken[-1]}
    whole = medians.pop("all")
    parts = ", ".join(f"{part} {x / whole:.0%}" for part, x in medians.items())
    print(f"(e) HATD3 on spread: {steps / whole:.0f} steps per CPU second; {parts}")


def updates(config: Any, size: Size) -> Callable[[], None]:
    """Some updates of a learner whose replay is full."""
    team = {"num_agents": size.agents, "observed": size.seen, "acted": size.acted}
    config = (
        config.environment(RandomTeam, env_config=team)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=ENVS)
        .rl_module(model_config={"hidden_sizes": list(size.hidden)})
        .training(train_batch_size_per_learner=size.batch, replay_buffer_config={"capacity": ROWS})
        .debugging(seed=0)
    )
    config.validate()
    runner = TeamEnvRunner(config=config, worker_index=0)
    learner = config.learner_class(config=config, module_spec=config.get_multi_rl_module_spec())
    learner.build()

    def run(fragments: Any = (), count: int = UPDATES) -> None:
        learner.update(
            training_data=ReplayData.of(list(fragments), config),
            timesteps={"num_env_steps_sampled_lifetime": ROWS},
            num_updates=count,
        )

    run(runner.sample(num_timesteps=ROWS, random_actions=True), 0)
    return run


def repeated(update: Callable[[], None]) -> Callable[[], None]:
    """As many updates of a bare loop."""

    def run() -> None:
        for _ in range(UPDATES):
            update()

    return run


if __name__ == "__main__":
    main()
