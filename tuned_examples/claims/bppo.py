"""BPPO, Figures 3, 11 and 12, on Multi-Agent MuJoCo; `bppo_comparison.py` has the games.

How to run this script
----------------------
`python tuned_examples/claims/bppo.py`

trains 41 runs of 3M steps, 15 to 30 minutes each on one core.

Settings
--------
The paper's Tables 6 and 7: 40 environments of 100 steps, networks of 3 x 64, 5 epochs, learning
rate 3e-4, no entropy bonus, LayerNorm on every input; agents see their own joints, on Ant the whole
state.

Results to expect
-----------------
docs/results/claims/bppo.md
"""

from functools import partial
from typing import Any

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.claims import Case, Claim, try_claim

STEPS = 3_000_000
SEES = {"HalfCheetah-6x1": 0, "Walker2d-6x1": 0, "Ant-4x2": None}
"""Task to `agent_obsk`."""
METHODS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "BPPO": ("BPPO", {}, {}),
    "ARMAPPO w/ PROJ": ("ARMAPPO", {}, {}),
    "HAPPO": ("HAPPO", {}, {}),
    "MAPPO": ("MAPPO", {}, {}),
}
ABLATIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "BPPO, simultaneous": ("BPPO", {"update_scheme": "simultaneous"}, {}),
    "BPPO, no peer term": ("BPPO", {"peer_coeff": 0.0}, {}),
    "BPPO w/o PROJ": ("BPPO", {}, {"action_projection": False}),
    "BPPO, reverse order": ("BPPO", {"execution_order": "reverse"}, {}),
    "BPPO, random order": ("BPPO", {"execution_order": "random"}, {}),
}
"""Label to the algorithm, its settings, and those of its networks."""


def configure(label: str, task: str) -> Any:
    algorithm, settings, model = (METHODS | ABLATIONS)[label]
    scenario, agent_conf = task.split("-")
    return (
        ALGORITHMS[algorithm]
        .get_default_config()
        .environment(
            "mamujoco",
            env_config={"scenario": scenario, "agent_conf": agent_conf, "agent_obsk": SEES[task]},
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=40)
        .multi_agent(parameter_sharing="none")
        .rl_module(model_config={"hidden_sizes": [64, 64, 64], "layer_norm": "all", **model})
        .training(
            train_batch_size_per_learner=4000,
            lr=3e-4,
            num_epochs=5,
            clip_param=0.2,
            entropy_coeff=0.0,
            **settings,
        )
    )


CLAIM = Claim(
    name="bppo",
    title="BPPO on Multi-Agent MuJoCo",
    source="Li et al., AAAI 2024, Figures 3, 11 and 12",
    says=(
        "BPPO ends above HAPPO, MAPPO and ARMAPPO on robots of which agents see their own joints; "
        "the sequential scheme is better than the simultaneous one, the projection matters, the "
        "execution order hardly does, and the peer term helps."
    ),
    confirmed_if="BPPO's interval lies above the others' on two of the three robots.",
    refuted_if=(
        "ARMAPPO w/ PROJ, or BPPO without its peer term, ends at or above BPPO on most robots."
    ),
    differs="a third of the published length, no GRU, gymnasium's `-v5` robots.",
    cases=[
        *(
            Case(task, label, partial(configure, label, task), STEPS, (1, 2, 3))
            for task in SEES
            for label in METHODS
        ),
        *(
            Case("HalfCheetah-6x1", label, partial(configure, label, "HalfCheetah-6x1"), STEPS)
            for label in ABLATIONS
        ),
    ],
)

if __name__ == "__main__":
    try_claim(CLAIM)
