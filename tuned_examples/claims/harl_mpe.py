"""HARL, Figure 5: the on-policy methods on the particle games, at full length.

How to run this script
----------------------
`python tuned_examples/claims/harl_mpe.py`

trains 24 runs of 10M steps, 20 to 60 minutes each on one core.

Settings
--------
The paper's Tables 4 and 6, which are the algorithms' defaults; HATRPO's threshold is 0.005.

Results to expect
-----------------
docs/results/claims/harl_mpe.md
"""

from functools import partial
from typing import Any

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.claims import Case, Claim, try_claim

STEPS = 10_000_000
SCENARIOS = ("simple_spread", "simple_speaker_listener", "simple_reference")


def configure(algorithm: str, scenario: str, continuous: bool) -> Any:
    settings = {"kl_threshold": 0.005} if algorithm == "HATRPO" else {}
    return (
        ALGORITHMS[algorithm]
        .get_default_config()
        .environment("mpe", env_config={"scenario": scenario, "continuous_actions": continuous})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=20)
        .training(train_batch_size_per_learner=4000, **settings)
    )


CLAIM = Claim(
    name="harl_mpe",
    title="HARL on the particle games",
    source="Zhong et al., JMLR 2024, Figure 5",
    says=(
        "On the three cooperative particle games the sequential methods are as good as MAPPO or "
        "better, with both kinds of actions; HAPPO is the best of the on-policy ones on most."
    ),
    confirmed_if="HAPPO is within the spread of MAPPO, or above it, on all six.",
    refuted_if="MAPPO ends clearly above HAPPO on two of the six or more.",
    differs="`mpe2`'s versions of the games, in which returns have another scale; one seed.",
    cases=[
        Case(
            f"{scenario}-{'continuous' if continuous else 'discrete'}",
            algorithm,
            partial(configure, algorithm, scenario, continuous),
            STEPS,
        )
        for scenario in SCENARIOS
        for continuous in (True, False)
        for algorithm in ("HAPPO", "HATRPO", "HAA2C", "MAPPO")
    ],
)

if __name__ == "__main__":
    try_claim(CLAIM)
