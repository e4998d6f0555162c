"""HARL, Figure 8: seventeen agents, one for each joint of a humanoid.

How to run this script
----------------------
`python tuned_examples/claims/harl_humanoid.py`

trains 2 runs of 10M steps, several hours each on one core.

Settings
--------
Those of `harl_mujoco.py`, in which the humanoid has a line of its own.

Results to expect
-----------------
docs/results/claims/harl_humanoid.md
"""

from functools import partial

from harl_mujoco import STEPS, configure

from rllib_hetero.reporting.claims import Case, Claim, try_claim

TASK = "Humanoid-17x1"
CLAIM = Claim(
    name="harl_humanoid",
    title="HARL on the humanoid of 17 agents",
    source="Zhong et al., JMLR 2024, Figure 8",
    says=(
        "With one agent for each of 17 unlike joints, HAPPO learns to walk (6,700 at 10M steps), "
        "and MAPPO with shared parameters fails completely (600)."
    ),
    confirmed_if="HAPPO's return at the end is several times MAPPO's, and still growing.",
    refuted_if="MAPPO comes within a third of HAPPO.",
    differs=(
        "gymnasium's `-v5` robot, agents that observe the whole state, no standardised "
        "observations; one seed."
    ),
    cases=[
        Case(TASK, algorithm, partial(configure, algorithm, TASK), STEPS)
        for algorithm in ("HAPPO", "MAPPO")
    ],
)

if __name__ == "__main__":
    try_claim(CLAIM)
