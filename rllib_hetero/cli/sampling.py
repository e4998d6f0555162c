"""How `train` and `tune` sample where nothing says otherwise: as the documentation recommends."""

from __future__ import annotations

from typing import Any

from rllib_hetero.cli.settings import Settings

OTHERS = {"num_env_runners": 2, "num_envs_per_env_runner": 10}
RECOMMENDED: dict[str, dict[str, Any]] = {
    "mpe": OTHERS,
    "cooperative_mpe": {"num_env_runners": 2, "num_envs_per_env_runner": 50},
    "mamujoco": OTHERS,
    "matrix_game": {"num_env_runners": 0, "num_envs_per_env_runner": 100},
    "football": OTHERS,
    "magent": {"num_env_runners": 2, "num_envs_per_env_runner": 4},
    "smax": {"num_env_runners": 2, "num_envs_per_env_runner": 20},
    "smac": {"num_env_runners": 4, "num_envs_per_env_runner": 5, "sample_timeout_s": 900},
    "smacv2": {"num_env_runners": 4, "num_envs_per_env_runner": 5, "sample_timeout_s": 900},
    "bimanual": {"num_env_runners": 2, "num_envs_per_env_runner": 8},
}
"""Environment to the `env_runners` settings of its page; `OTHERS` for all others."""

SHORTEST = 40  # steps of a fragment, on-policy: twice the horizon of the advantages' estimate
MOST = 20  # environments in all, off-policy: an iteration samples some steps of each, then updates


def recommended(config: Any, env: Any, settings: Settings, *, remote: bool) -> dict[str, Any]:
    """The `env_runners` settings to use where the user gives none.

    Args:
        config: The algorithm's, as it is by default.
        env: What is trained on.
        settings: The user's.
        remote: False: the driver samples itself, from as many environments.
    """
    by_batch = config.rollout_fragment_length == "auto"
    given = settings.get("env_runners", {})
    if by_batch and "rollout_fragment_length" in given:
        return {}  # it fixes how many environments make up a batch
    sampling = dict(RECOMMENDED.get(env, OTHERS) if isinstance(env, str) else OTHERS)
    runners = given.get("num_env_runners", sampling["num_env_runners"] if remote else 0)
    environments = max(1, sampling["num_env_runners"]) * sampling["num_envs_per_env_runner"]
    batch = settings.get("training", {}).get(
        "train_batch_size_per_learner", config.train_batch_size_per_learner
    )
    if not isinstance(batch, int) or not isinstance(runners, int):
        return {}  # which `validate` refuses
    environments = min(environments, batch // SHORTEST if by_batch else MOST)
    each = max(1, environments // max(1, runners))
    return sampling | {"num_env_runners": runners, "num_envs_per_env_runner": each} | given
