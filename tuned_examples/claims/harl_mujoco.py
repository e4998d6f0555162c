"""HARL, Figure 6: agents that are updated one after another, on Multi-Agent MuJoCo.

How to run this script
----------------------
`python tuned_examples/claims/harl_mujoco.py`

trains 36 runs of 10M steps, 35 to 65 minutes each on one core. A part of it:
`--tasks HalfCheetah-2x3 --methods HAPPO MAPPO --seeds 1`

Settings
--------
The paper's Tables 9 to 12 and the authors' files, by task: 20 environments, 4000 steps an
iteration, networks of 3 x 128. There are none for HalfCheetah 6x1, which gets HalfCheetah 2x3's
with 5 epochs. MAPPO's agents share one policy.

Results to expect
-----------------
docs/results/claims/harl_mujoco.md
"""

from __future__ import annotations

from functools import partial
from typing import Any

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.claims import Case, Claim, try_claim

STEPS = 10_000_000

PPO: dict[str, dict[str, Any]] = {
    "Ant-4x2": {"clip_param": 0.1, "entropy_coeff": 0.0},
    "HalfCheetah-2x3": {"clip_param": 0.05, "entropy_coeff": 0.01, "num_epochs": 15},
    "HalfCheetah-6x1": {"clip_param": 0.05, "entropy_coeff": 0.01},
    "Hopper-3x1": {"clip_param": 0.05, "entropy_coeff": 0.0, "num_epochs": 10, "falls": True},
    "Humanoid-17x1": {"clip_param": 0.1, "entropy_coeff": 0.0, "falls": True},
    "Walker2d-2x3": {
        "clip_param": 0.05, "entropy_coeff": 0.0, "lr": 1e-3, "minibatch_size": 2000, "falls": True,
    },
    "Walker2d-6x1": {"clip_param": 0.1, "entropy_coeff": 0.01},
}  # fmt: skip
"""Of HAPPO and MAPPO. "falls": the learning rate does, to 0 at the end."""
KL = {
    "Ant-4x2": 5e-3, "HalfCheetah-2x3": 1e-2, "HalfCheetah-6x1": 1e-2, "Hopper-3x1": 1e-3,
    "Walker2d-2x3": 1e-2, "Walker2d-6x1": 5e-3,
}  # fmt: skip
A2C: dict[str, dict[str, Any]] = {
    "Hopper-3x1": {"lr": 1e-4, "num_epochs": 3},
    "Walker2d-2x3": {"lr": 1e-4},
    "Walker2d-6x1": {"lr": 1e-4},
}


def configure(algorithm: str, task: str, env_steps: int = STEPS, **training: Any) -> Any:
    """A config with the settings of the tables, and others."""
    scenario, agent_conf = task.split("-")
    settings: dict[str, Any] = {"lr": 5e-4, "num_epochs": 5}
    if algorithm == "HATRPO":
        settings = {"lr": 5e-4, "kl_threshold": KL[task]}
    elif algorithm == "HAA2C":
        settings |= {"entropy_coeff": 0.0, "falls": True} | A2C.get(task, {})
    else:
        settings |= PPO[task]
    settings |= training
    if settings.pop("falls", False):
        settings["lr"] = [[0, settings["lr"]], [env_steps, 0.0]]
    return (
        ALGORITHMS[algorithm]
        .get_default_config()
        .environment(
            "mamujoco",
            env_config={"scenario": scenario, "agent_conf": agent_conf, "agent_obsk": None},
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
        .rl_module(model_config={"hidden_sizes": [128, 128, 128]})
        .training(train_batch_size_per_learner=4000, gamma=0.99, lambda_=0.95, **settings)
    )


SEEDS = {"HalfCheetah-2x3": (1, 2, 3), "Walker2d-2x3": (1, 2, 3)}
CLAIM = Claim(
    name="harl_mujoco",
    title="HARL on Multi-Agent MuJoCo",
    source="Zhong et al., JMLR 2024, Figure 6",
    says=(
        "HAPPO and HATRPO reach higher returns than MAPPO with shared parameters, and learn as "
        "steadily; HAA2C is close to them on most tasks."
    ),
    confirmed_if=(
        "HAPPO and HATRPO end above MAPPO on at least four of the five tasks, and by more than the "
        "intervals on the two that have three seeds."
    ),
    refuted_if="MAPPO ends above HAPPO on two tasks or more.",
    differs=(
        "gymnasium's `-v5` robots, agents that observe the whole state, no standardised "
        "observations, a bootstrapped value where time runs out; one seed on three of the tasks."
    ),
    cases=[
        Case(task, algorithm, partial(configure, algorithm, task), STEPS, SEEDS.get(task, (1,)))
        for task in ("HalfCheetah-2x3", "HalfCheetah-6x1", "Walker2d-2x3", "Ant-4x2", "Hopper-3x1")
        for algorithm in ("HAPPO", "MAPPO", "HATRPO", "HAA2C")
    ],
)

if __name__ == "__main__":
    try_claim(CLAIM)
