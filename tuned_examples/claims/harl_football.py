"""HARL, Table 2: football, as far as an hour goes.

How to run this script
----------------------
`python tuned_examples/claims/harl_football.py`

trains 4 runs of 1.5M steps, about an hour each on one core. Football has to be compiled first:
docs/environments/football.md.

Settings
--------
The paper's Tables 23 and 24: 15 epochs of 2 minibatches, networks of 2 x 64 with a GRU, clip 0.2;
10 games.

Results to expect
-----------------
docs/results/claims/harl_football.md
"""

from functools import partial
from typing import Any

from rllib_hetero import ALGORITHMS
from rllib_hetero.reporting.claims import Case, Claim, try_claim

STEPS = 1_500_000
SCENARIOS = ("academy_3_vs_1_with_keeper", "academy_pass_and_shoot_with_keeper")


def configure(algorithm: str, scenario: str) -> Any:
    return (
        ALGORITHMS[algorithm]
        .get_default_config()
        .environment(
            "football", env_config={"scenario": scenario, "rewards": "scoring,checkpoints"}
        )
        .env_runners(num_env_runners=0, num_envs_per_env_runner=10)
        .rl_module(
            model_config={
                "hidden_sizes": [64, 64],
                "recurrent": "gru",
                "critic_recurrent": "gru",
                "max_seq_len": 10,
            }
        )
        .training(
            lr=5e-4,
            train_batch_size_per_learner=10_000,
            minibatch_size=5000,
            num_epochs=15,
            clip_param=0.2,
            entropy_coeff=0.01,
        )
    )


CLAIM = Claim(
    name="harl_football",
    title="HARL on football",
    source="Zhong et al., JMLR 2024, Table 2",
    says=(
        "HAPPO's score rate is above MAPPO's (94.7 % and 88.0 % of the episodes of three against "
        "one, 96.9 % and 94.9 % of pass and shoot)."
    ),
    confirmed_if="HAPPO's return is above MAPPO's in both scenarios and still growing.",
    refuted_if="MAPPO's return is clearly above HAPPO's in both.",
    differs="a sixteenth of the published 25M steps, one seed: the beginning of the curves.",
    cases=[
        Case(scenario, algorithm, partial(configure, algorithm, scenario), STEPS)
        for scenario in SCENARIOS
        for algorithm in ("HAPPO", "MAPPO")
    ],
)

if __name__ == "__main__":
    try_claim(CLAIM)
