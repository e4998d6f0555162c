"""MLflow: a tracking server, or a database in the run's folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_hetero.errors import MissingExtraError
from rllib_hetero.reporting.progress import Row
from rllib_hetero.reporting.tracking.tracker import Tracker

EXPERIMENT = "rllib_hetero"
_NOT_ALLOWED = re.compile(r"[^\w\-./: ]")  # in names of metrics and parameters
_AT_ONCE = 100  # parameters in one request, by MLflow's rule
_LONGEST = 500  # characters of a parameter, by the smallest of its stores' rules
_STATUS = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflowTracker(Tracker):
    """Uses MLflow's client, not its global run: that one may be the user's."""

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", extra="mlflow") from error
        self._mlflow = mlflow
        self._client: Any = None
        self._run = ""

    def start(self, folder: Path, record: dict[str, Any], earlier: str | None) -> str | None:
        ours = None if os.environ.get("MLFLOW_TRACKING_URI") else f"sqlite:///{folder}/mlflow.db"
        self._client = self._mlflow.MlflowClient(tracking_uri=ours)
        if earlier:
            self._run = earlier
            self._client.update_run(earlier, status="RUNNING")
        else:
            self._run = self._new_run(folder, record, ours)
            parameters = [
                self._mlflow.entities.Param(name, text[:_LONGEST])
                for name, text in flattened(record)
            ]
            for first in range(0, len(parameters), _AT_ONCE):
                self._client.log_batch(self._run, params=parameters[first : first + _AT_ONCE])
        self._client.log_dict(self._run, record, "run.json")
        return self._run

    def _new_run(self, folder: Path, record: dict[str, Any], ours: str | None) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        if known is None:
            # A server knows where its files go. Our own database would take the working folder.
            place = (folder / "mlartifacts").as_uri() if ours else None
            experiment = self._client.create_experiment(name, artifact_location=place)
        else:
            experiment = known.experiment_id
        tags = {"algorithm": str(record["algorithm"]), "env": str(record["env"])}
        if record.get("git_commit"):
            tags["mlflow.source.git.commit"] = record["git_commit"]
        run = self._client.create_run(experiment, run_name=folder.name, tags=tags)
        return str(run.info.run_id)

    def log(self, row: Row) -> None:
        now, step = int(time.time() * 1000), int(row["env_steps"])
        metrics = [
            self._mlflow.entities.Metric(allowed_name(name), value, now, step)
            for name, value in row.items()
        ]
        for first in range(0, len(metrics), 10 * _AT_ONCE):  # MLflow's rule for metrics
            self._client.log_batch(self._run, metrics=metrics[first : first + 10 * _AT_ONCE])

    def log_video(self, path: Path, row: Row) -> None:
        self._client.log_artifact(self._run, str(path), "videos")

    def end(self, status: str) -> None:
        self._client.set_terminated(self._run, status=_STATUS[status])


def allowed_name(name: str) -> str:
    """The name as MLflow accepts it: letters, digits and `_-./: `."""
    return _NOT_ALLOWED.sub("_", name)


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names like "config.lr" and texts; what has nothing in it is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        if value:
            yield allowed_name(name), str(list(value))
    elif value is not None and value != "":
        yield allowed_name(name), str(value)
