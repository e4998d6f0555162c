"""Algorithms x tasks x seeds: the searches of a study, one after another, and their table."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import tune

from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.plain import as_plain
from rllib_hetero.reporting.lock import locked
from rllib_hetero.reporting.record import settings_of, versions_and_commit, write_record
from rllib_hetero.reporting.redaction import without_secrets
from rllib_hetero.reporting.session import running_ray
from rllib_hetero.tuning.interrupt import StopSearch
from rllib_hetero.tuning.progress import lost_env_steps
from rllib_hetero.tuning.results import Best, Trial, best_of, trials_of, write_results
from rllib_hetero.tuning.schedulers import SCHEDULERS
from rllib_hetero.tuning.search import Plan, Search
from rllib_hetero.tuning.searchers import SEARCHERS, check_optuna
from rllib_hetero.tuning.spaces import Space, search_space

RECORD = "study.json"

_FOR_TUNE = {
    # Until its first episode ends, a trial has no return to report.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # A state written at every second checkpoint is what is wanted, and nothing to warn of.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # `StopSearch` handles it.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


@dataclass(frozen=True)
class StudyResult:
    """What a study has come to.

    Attributes:
        trials: All of them.
        best: (task, algorithm) to its best setting; without those that have no value.
        table: `results.md`.
        csv: `trials.csv`.
        lost_env_steps: Steps that were trained again after faults. Not counted under PBT.
        stopped_by: The signal that ended it early; None if none did.
    """

    trials: list[Trial]
    best: dict[tuple[str, str], Best]
    table: Path
    csv: Path
    lost_env_steps: int
    stopped_by: int | None


@dataclass(frozen=True)
class Study:
    """Searches that share a plan. Each has a `ray.tune.Tuner` of its own.

    Returns of different tasks cannot be compared, so neither ASHA nor PBT nor Optuna may see two
    of them; and Tune runs one class of algorithm at a time.

    Attributes:
        searches: In the order in which they run.
        plan: What they share.
        out: The folder; a search lies in a folder of its own in it.
    """

    searches: list[Search]
    plan: Plan
    out: Path

    def fit(self, *, resume: bool = False) -> StudyResult:
        """Runs the searches, or what is left of them.

        Args:
            resume: Go on with the study that is in the folder; begin if there is none. What Tune
                has saved there is unpickled.

        Raises:
            TeamError: If the folder holds a study, and `resume` is not set or it is another one.
            FolderInUseError: If another process writes into it.
        """
        self.check_folder(resume=resume)
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(self.out):
            return self._fit(resume=resume)

    def _fit(self, *, resume: bool) -> StudyResult:
        self.check_folder(resume=resume)  # another may have begun one meanwhile
        write_record(self._record(), self.out / RECORD)
        trials: list[Trial] = []
        most = max((s.config for s in self.searches), key=lambda c: c.num_env_runners)
        with running_ray(most), StopSearch() as stop, _environment(_FOR_TUNE):
            for search in self.searches:
                if stop.received is not None:
                    break
                print(f"{search.name}:", flush=True)
                trials += trials_of(search, search.tuner().fit())
        markdown, csv = write_results(trials, self.plan, self.out)
        return StudyResult(
            trials, self._best(trials), markdown, csv,
            lost_env_steps=sum(lost_env_steps(search.reached) for search in self.searches),
            stopped_by=stop.received,
        )  # fmt: skip

    def check_folder(self, *, resume: bool) -> None:
        """Refuses to overwrite a study, and to go on with another one."""
        record = self.out / RECORD
        begun = [s.folder for s in self.searches if tune.Tuner.can_restore(str(s.folder))]
        if not resume and (begun or record.exists()):
            raise TeamError(
                f"{begun[0] if begun else self.out} holds a search already. Go on with it "
                "(--resume, or `fit(resume=True)`), or give another folder."
            )
        if not (resume and record.exists()):
            return
        before = json.loads(record.read_text())
        now = self._record()
        differing = [k for k in now if k not in ("versions", "git_commit") and now[k] != before[k]]
        if differing:
            raise TeamError(
                f"{self.out} holds a study with other settings: {', '.join(differing)} "
                f"(see {record}). Go on with the same ones, or give another folder."
            )

    def _record(self) -> dict[str, Any]:
        """As plain data, without credentials."""
        record = {
            **asdict(self.plan),
            "spaces": {s.name: {k: _range(v) for k, v in s.space.items()} for s in self.searches},
            "configs": {s.name: settings_of(s.config) for s in self.searches},
            **versions_and_commit(),
        }
        return without_secrets(as_plain(record))

    def _best(self, trials: Sequence[Trial]) -> dict[tuple[str, str], Best]:
        found = {}
        for key in sorted({(t.task, t.algorithm) for t in trials}):
            best = best_of([t for t in trials if (t.task, t.algorithm) == key], self.plan)
            if best is not None:
                found[key] = best
        return found


def make_study(
    configs: Sequence[Any],
    plan: Plan,
    out: Path | str,
    *,
    space: Space | None = None,
    fixed: Collection[str] = (),
) -> Study:
    """Plans the searches, and checks all that can be checked without Ray.

    Args:
        configs: One for each algorithm and task. They are copied, and must not be validated yet.
        plan: Seeds, number of settings, scheduler and the rest.
        out: A folder on this machine, or on storage that all machines share.
        space: Argument of `training()` to its range. None: `search_space(algorithm)`, for each
            its own. Empty: nothing is searched, the seeds are compared.
        fixed: Settings that are left out of the default spaces, and stay as in the configs.

    Raises:
        TeamError: If settings do not go together, or a value in range would be refused.
        MissingExtraError: If a package is missing that the plan needs.
    """
    spaces = [
        {k: v for k, v in search_space(c.algo_class).items() if k not in fixed}
        if space is None
        else dict(space)
        for c in configs
    ]
    _check_plan(plan, spaces)
    seeds = tuple(plan.seeds)
    each = [(seed,) for seed in seeds] if plan.scheduler == "pbt" else [seeds]
    folder = Path(out).resolve()
    searches = [
        Search(config.copy(copy_frozen=False), searched, some, plan, folder)
        for config, searched in zip(configs, spaces, strict=True)
        for some in each
    ]
    names = [search.name for search in searches]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TeamError(f"The same algorithm and task is given twice: {', '.join(twice)}.")
    for config, searched in zip(configs, spaces, strict=True):
        _check_space(config, searched)
    return Study(searches, plan, folder)


def _check_plan(plan: Plan, spaces: Sequence[Space]) -> None:
    population = plan.scheduler == "pbt"
    _one_of("scheduler", plan.scheduler, (None, *SCHEDULERS))
    _one_of("search", plan.search, SEARCHERS)
    _one_of("mode", plan.mode, ("max", "min"))
    if not spaces:
        raise TeamError("Give at least one config: an algorithm on a task.")
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise TeamError(f"`seeds` must be different numbers, at least one; got {plan.seeds!r}.")
    if plan.num_samples < 1 or plan.env_steps < 1:
        raise TeamError("`num_samples` and `env_steps` must be at least 1.")
    if plan.num_samples > 1 and not all(spaces):
        raise TeamError("Nothing is searched, so `num_samples` must be 1: seeds are repetitions.")
    if (population or plan.search == "optuna") and not all(spaces):
        raise TeamError("Nothing is searched, so there is nothing for PBT or Optuna to do.")
    if population and plan.search == "optuna":
        raise TeamError("PBT draws its settings itself: leave out `search='optuna'`.")
    if population and plan.num_samples < 2:
        raise TeamError("PBT needs a population: set `num_samples` to at least 2, better 8.")
    if plan.scheduler == "asha" and plan.search == "optuna" and len(plan.seeds) > 1:
        raise TeamError(
            "Optuna is told the mean over seeds, which ASHA's early stops would falsify: use one "
            "seed, or leave out `scheduler='asha'`."
        )
    if plan.search == "optuna":
        check_optuna()
    if len(plan.seeds) > 1 and importlib.util.find_spec("rliable") is None:
        raise MissingExtraError("rliable, for the statistics over seeds,", extra="report")


def _one_of(name: str, value: Any, valid: Sequence[Any]) -> None:
    if value not in valid:
        raise TeamError(f"`{name}` is {value!r}; it may be {', '.join(map(repr, valid))}.")


def _check_space(config: Any, space: Space) -> None:
    """Validates the config with one drawn value of each setting."""
    trial = config.copy(copy_frozen=False)
    try:
        trial.training(**{name: domain.sample() for name, domain in space.items()})
        trial.validate()
    except (TypeError, ValueError) as problem:
        raise TeamError(f"{config.algo_class.__name__}: {problem}") from problem


def _range(domain: Any) -> Any:
    if hasattr(domain, "categories"):
        return list(domain.categories)
    return [type(domain.get_sampler()).__name__, domain.lower, domain.upper]


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
