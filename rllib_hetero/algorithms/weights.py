"""Weights on their way from the learners to the runners."""

from __future__ import annotations

from typing import Any

import ray
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO


def send_actors(algo: Any, *, env_steps: int, timeout_s: float | None) -> None:
    """Sends the actors' weights to all runners, and how many steps have been sampled.

    As RLlib's `sync_weights`, in one call with what RLlib sends in two more at the end of an
    iteration: the runners' states of connectors, of which team env runners have none, are asked
    for and sent back, with the number of steps.

    Args:
        algo: A team algorithm.
        env_steps: Sampled by all runners since the run began.
        timeout_s: How long to wait for runners to say that they have the last ones. RLlib sends
            nothing to those that have not.
    """
    group = algo.env_runner_group
    learner = algo.learner_group.get_state(
        components=[
            f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}/{m}" for m in algo.config.layout.groups
        ],
        inference_only=True,
    )[COMPONENT_LEARNER]
    state = {
        COMPONENT_RL_MODULE: learner[COMPONENT_RL_MODULE],
        WEIGHTS_SEQ_NO: learner[WEIGHTS_SEQ_NO],
        NUM_ENV_STEPS_SAMPLED_LIFETIME: env_steps,
    }
    if group.num_remote_env_runners():
        group.foreach_env_runner_async_fetch_ready(
            func="set_state",
            tag="set_state",
            kwargs={"state": ray.put(state)},
            timeout_seconds=timeout_s,
        )
    if group.local_env_runner is not None:
        group.local_env_runner.set_state(state)
