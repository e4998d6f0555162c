"""Whether the cluster has what the actors ask for: they would wait for it for ever."""

from __future__ import annotations

from typing import Any

import ray

from rllib_hetero.errors import TeamError


def check_gpus(config: Any) -> None:
    """Raises where remote actors ask for GPUs and there are none; does nothing without Ray.

    A cluster that has some may be waiting for others to be free, or for more nodes.

    Raises:
        TeamError: With the call that asks for them.
    """
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
