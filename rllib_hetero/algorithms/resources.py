"""Whether there is what is asked for: actors would wait for it for ever, a learner would fail."""

from __future__ import annotations

from typing import Any

import ray
import torch

from rllib_hetero.errors import TeamError


def check_gpus(config: Any) -> None:
    """Raises where GPUs are asked for and there are none.

    A cluster that has some may be waiting for others to be free, or for more nodes.

    Raises:
        TeamError: With the call that asks for them.
    """
    if config.num_learners == 0 < config.num_gpus_per_learner and not torch.cuda.device_count():
        raise TeamError(
            f"config.learners(num_gpus_per_learner={config.num_gpus_per_learner}): the learner is "
            "in this process, which sees no GPU. Set it to 0, or config.learners(num_learners=1) "
            "for a learner on a machine that has one."
        )
    asking = {
        f"config.learners(num_gpus_per_learner={config.num_gpus_per_learner})": (
            config.num_learners * config.num_gpus_per_learner
        ),
        f"config.env_runners(num_gpus_per_env_runner={config.num_gpus_per_env_runner})": (
            config.num_env_runners * config.num_gpus_per_env_runner
        ),
    }
    wanted = [call for call, number in asking.items() if number > 0]
    if wanted and ray.is_initialized() and not ray.cluster_resources().get("GPU", 0):
        raise TeamError(
            f"{' and '.join(wanted)}: this Ray cluster has no GPU, and the actors would wait for "
            "ever. Set it to 0, or start a node that has one: ray start --num-gpus=1."
        )
