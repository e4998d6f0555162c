"""One search: an algorithm on a task, as a `ray.tune.Tuner`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_hetero.reporting.names import short_name, task_name
from rllib_hetero.reporting.report import METRIC
from rllib_hetero.tuning.progress import Progress
from rllib_hetero.tuning.schedulers import asha, pbt
from rllib_hetero.tuning.searchers import optuna_search, random_search
from rllib_hetero.tuning.spaces import Space

CHECKPOINTS = 20  # in a trial, unless the plan says otherwise


@dataclass(frozen=True)
class Plan:
    """How all searches of a study are made.

    Attributes:
        seeds: With each of them every drawn setting is tried.
        num_samples: How many settings are drawn; with PBT, the size of the population.
        env_steps: The length of a trial; the last iteration is finished.
        scheduler: "asha", "pbt" or None.
        search: "random" or "optuna".
        metric: What is optimised, by Tune's name.
        mode: "max" or "min".
        checkpoint_every: Iterations between checkpoints of a trial; None: a twentieth of it.
        max_failures: How often a trial is restarted from its last checkpoint.
        max_concurrent: How many trials run at once; None: as many as there is room for.
    """

    seeds: Sequence[int] = (1,)
    num_samples: int = 1
    env_steps: int = 1_000_000
    scheduler: str | None = None
    search: str = "random"
    metric: str = METRIC
    mode: str = "max"
    checkpoint_every: int | None = None
    max_failures: int = 2
    max_concurrent: int | None = None


@dataclass(frozen=True)
class Search:
    """One algorithm on one task; under PBT also one seed, as populations do not mix.

    Attributes:
        config: Without what is searched.
        space: What is searched.
        seeds: Of the trials.
        plan: The rest.
        out: The study's folder.
    """

    config: Any
    space: Space
    seeds: tuple[int, ...]
    plan: Plan
    out: Path

    @property
    def algorithm(self) -> str:
        return self.config.algo_class.__name__

    @property
    def task(self) -> str:
        """The task with all its settings: "climbing (length=5)"."""
        return task_name(self.config.env, self.config.env_config)

    @property
    def name(self) -> str:
        """The name of its folder."""
        seed = f"-s{self.seeds[0]}" if self.plan.scheduler == "pbt" else ""
        text = f"{self.algorithm}-{short_name(self.config.env)}-{self.task}{seed}".lower()
        return re.sub(r"[^a-z0-9.]+", "-", text).strip("-")

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def reached(self) -> Path:
        """The file that tells how far each trial has come."""
        return self.out / f"{self.name}.reached.json"

    def tuner(self) -> tune.Tuner:
        """A new Tuner, or the one that was going on in the folder.

        The latter is unpickled.
        """
        trainable = self.config.algo_class
        if tune.Tuner.can_restore(str(self.folder)):
            return tune.Tuner.restore(
                str(self.folder),
                trainable,
                resume_unfinished=True,
                resume_errored=True,
                # Tune does not save it, and trials that are still to be drawn would lack whatever
                # of it is not plain data, such as the runner's class.
                param_space=self.param_space(),
            )
        return tune.Tuner(
            trainable,
            param_space=self.param_space(),
            tune_config=self.tune_config(),
            run_config=self.run_config(),
        )

    def param_space(self) -> Any:
        """The config, with ranges in place of what is searched."""
        config = self.config.copy(copy_frozen=False)
        config.training(**self.space)
        if len(self.seeds) == 1:
            return config.debugging(seed=self.seeds[0])
        if self.plan.search == "random":
            return config.debugging(seed=tune.grid_search(list(self.seeds)))
        return config  # the searcher sets the seed

    def tune_config(self) -> tune.TuneConfig:
        """What is drawn, and who goes on."""
        plan = self.plan
        with_optuna = plan.search == "optuna"
        return tune.TuneConfig(
            metric=plan.metric,
            mode=plan.mode,
            # A grid multiplies the samples by itself; a searcher's repetitions do not.
            num_samples=plan.num_samples * (len(self.seeds) if with_optuna else 1),
            search_alg=(
                optuna_search(self.seeds, self.seeds[0])
                if with_optuna
                else random_search(self.seeds[0], plan.max_concurrent)
            ),
            scheduler=self._scheduler(),
            max_concurrent_trials=plan.max_concurrent if with_optuna else None,
            trial_name_creator=trial_name,
            # Tune's own name lists every setting of the config.
            trial_dirname_creator=trial_name,
        )

    def run_config(self) -> tune.RunConfig:
        """Where results go, when a trial ends, and what happens when it fails."""
        plan, population = self.plan, self.plan.scheduler == "pbt"
        return tune.RunConfig(
            name=self.name,
            storage_path=str(self.out),
            stop={NUM_ENV_STEPS_SAMPLED_LIFETIME: plan.env_steps},
            checkpoint_config=tune.CheckpointConfig(
                checkpoint_frequency=plan.checkpoint_every or self._twentieth(),
                checkpoint_at_end=True,
                # Under PBT others may still be reading an earlier one.
                num_to_keep=4 if population else 2,
            ),
            failure_config=tune.FailureConfig(max_failures=plan.max_failures),
            callbacks=[
                Progress(self.reached, plan.env_steps, plan.metric, count_lost=not population)
            ],
            verbose=0,
        )

    def _scheduler(self) -> Any:
        if self.plan.scheduler == "asha":
            return asha(self.plan.env_steps)
        if self.plan.scheduler == "pbt":
            return pbt(self.plan.env_steps, self.space)
        return None

    def _twentieth(self) -> int:
        return max(1, self.plan.env_steps // (CHECKPOINTS * self.config.total_train_batch_size))


def trial_name(trial: Any) -> str:
    """The algorithm, the seed and Tune's id: short, and fit for a folder's name."""
    return f"{trial.trainable_name}-s{trial.config.get('seed')}-{trial.trial_id}"
