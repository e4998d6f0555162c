"""Films an evaluation episode every so many iterations of a training."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from rllib_hetero.algorithms.checkpoint import connectors_of, export_policies
from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.policies import load_policies
from rllib_hetero.reporting.names import env_id
from rllib_hetero.reporting.playing import as_one_row, make_one
from rllib_hetero.reporting.progress import Row
from rllib_hetero.reporting.video import frame_of, record_episode, video_suffix

FOLDER = "videos"
SEED = 1_000_000  # of every film's episode, so that they begin alike


class Films:
    """Greedy episodes of the policies of the moment, in the run's folder under `videos/`.

    One environment is made, drawn once and closed, to find out early what cannot be filmed.

    Args:
        config: The training's.
        every: Iterations between films.
        suffix: The kind of video; None for the best that can be written.

    Raises:
        TeamError: If the environment gives no pictures, or `every` is not a whole number from 1.
        MissingExtraError: If imageio is missing.
    """

    def __init__(self, config: Any, every: int, *, suffix: str | None = None) -> None:
        if not isinstance(every, int) or every < 1:
            raise TeamError(f"video_every={every!r} must be a number of iterations, from 1 on.")
        if importlib.util.find_spec("imageio") is None:
            raise MissingExtraError("imageio", extra="video")
        self.every = every
        self._config = config
        self._suffix = suffix or video_suffix()
        self._refuse_what_cannot_be_filmed()

    def due(self, iteration: int) -> bool:
        """Whether a film is made after this iteration."""
        return iteration % self.every == 0

    def make(self, algo: Any, folder: Path, row: Row) -> Path:
        """Films one episode.

        Args:
            algo: The training's algorithm.
            folder: The run's.
            row: Of the iteration that has just ended.

        Returns:
            The video, `videos/<environment steps>.<suffix>`.
        """
        path = folder / FOLDER / f"{int(row['env_steps']):012d}{self._suffix}"
        with tempfile.TemporaryDirectory() as exported:
            export_policies(algo, exported)
            # The classes are those that are being trained.
            policies = load_policies(exported, trusted=True)
        env = self._env()
        try:
            record_episode(policies, env, path, seed=SEED)
        finally:
            env.close()
        return path

    def _env(self) -> Any:
        settings = {**(self._config.env_config or {}), "render_mode": "rgb_array"}
        return make_one(self._config.env, settings)

    def _refuse_what_cannot_be_filmed(self) -> None:
        connectors = connectors_of(self._config)
        if connectors:
            raise TeamError(
                "video_every: films are acted by exported policies, which have no connectors: "
                f"leave video_every (--video-every) or config.env_runners({connectors[0]}=...) out."
            )
        try:
            env = self._env()
            try:
                as_one_row(env).reset([0], [SEED])
                frame_of(env)
            finally:
                env.close()
        except MissingExtraError:
            raise
        except Exception as error:
            raise TeamError(
                f"video_every: the environment {env_id(self._config.env)!r} cannot be "
                f"filmed. {error} Leave video_every (--video-every) out, or mend this."
            ) from error
