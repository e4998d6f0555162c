"""ASHA and population-based training, measured in environment steps."""

from __future__ import annotations

from typing import Any

from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

from rllib_hetero.tuning.spaces import Space, Within, mutations

SCHEDULERS = ("asha", "pbt")
PERTURBATIONS = 20
"""How often PBT compares its population in a run."""


def asha(env_steps: int) -> Any:
    """Of the trials that get to 1/16 and to 1/4 of the steps, the best quarter goes on.

    Li et al.: A System for Massively Parallel Hyperparameter Tuning. MLSys 2020.
    """
    return ASHAScheduler(
        time_attr=NUM_ENV_STEPS_SAMPLED_LIFETIME,
        max_t=env_steps,
        grace_period=max(1, env_steps // 16),
        reduction_factor=4,
    )


def pbt(env_steps: int, space: Space) -> Any:
    """The worst quarter takes over weights and settings of the best, and perturbs the settings.

    Jaderberg et al.: Population Based Training of Neural Networks. 2017.
    """
    return PopulationBasedTraining(
        time_attr=NUM_ENV_STEPS_SAMPLED_LIFETIME,
        perturbation_interval=max(1, env_steps // PERTURBATIONS),
        hyperparam_mutations=mutations(space),
        custom_explore_fn=Within(space),
        # Until the first episode ends there is no return.
        require_attrs=False,
    )
