"""HARL, Figure 11: does it matter that policies are apart, and that the order is random?

How to run this script
----------------------
`python tuned_examples/claims/harl_ablations.py`

trains 12 runs of 3M steps, some 15 minutes each on one core.

Settings
--------
Those of `harl_mujoco.py`; learning rates that fall do so over 10M steps, as in the paper's runs.

Results to expect
-----------------
docs/results/claims/harl_ablations.md
"""

from functools import partial
from typing import Any

from harl_mujoco import configure

from rllib_hetero.reporting.claims import Case, Claim, try_claim

STEPS = 3_000_000
TASKS = ("Walker2d-2x3", "Walker2d-6x1")


def shared(task: str) -> Any:
    return configure("HAPPO", task).multi_agent(parameter_sharing="full")


VARIANTS = {
    "HAPPO": partial(configure, "HAPPO"),
    "HAPPO, shared parameters": shared,
    "HAPPO, fixed order": partial(configure, "HAPPO", update_order="cyclic"),
}
CLAIM = Claim(
    name="harl_ablations",
    title="HARL's two ablations",
    source="Zhong et al., JMLR 2024, Figure 11",
    says=(
        "HAPPO loses when its agents share one policy, and loses a little, or becomes less steady, "
        "when they are updated in the same order in every iteration."
    ),
    confirmed_if="HAPPO ends above both variants on both tasks, in both seeds.",
    refuted_if="a variant ends above HAPPO on both tasks.",
    differs="a third of the published length, two seeds, gymnasium's `-v5` robots.",
    cases=[
        Case(task, variant, partial(make, task), STEPS, (1, 2))
        for task in TASKS
        for variant, make in VARIANTS.items()
    ],
)

if __name__ == "__main__":
    try_claim(CLAIM)
