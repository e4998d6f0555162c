"""Plays episodes with trained policies, and films them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rllib_hetero.errors import MissingExtraError, TeamError
from rllib_hetero.policies import TeamPolicies
from rllib_hetero.reporting.playing import Act, as_one_row, play
from rllib_hetero.runners.actions import random_action
from rllib_hetero.team import ACTION_MASK, AgentID


def record_episode(
    policies: TeamPolicies,
    env: Any,
    path: Path | str,
    *,
    seed: int | None = None,
    fps: int = 15,
    max_steps: int = 1000,
) -> float:
    """Plays one greedy episode and writes it as a video.

    Args:
        policies: What acts, from `load_policies`.
        env: The team's environment, made with render_mode="rgb_array": a `MultiAgentEnv`, a
            PettingZoo parallel environment, or a `VectorTeamEnv` of one. It is not closed.
        path: The file; ".gif" gives a GIF, anything else is for ffmpeg (".mp4").
        seed: The environment's.
        fps: Frames per second.
        max_steps: The episode is left after so many steps.

    Returns:
        The team's return.

    Raises:
        MissingExtraError: If imageio or, for a video that is no GIF, imageio-ffmpeg is missing.
        TeamError: If the environment gives no frames, or cannot render here.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame without a screen
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        policies.reset()
        with _writer(path, fps) as writer:
            return play_episode(
                policies.act,
                env,
                seed=seed,
                max_steps=max_steps,
                on_step=lambda: writer.append_data(frame_of(env)),
            )
    except BaseException:
        path.unlink(missing_ok=True)  # half a video
        raise


def play_episode(
    act: Act,
    env: Any,
    *,
    seed: int | None = None,
    max_steps: int = 1000,
    on_step: Callable[[], None] = lambda: None,
) -> float:
    """Plays one episode.

    Args:
        act: Observations of the living agents to their actions, such as `policies.act` after
            `policies.reset()`.
        env: The team's environment, of any of these kinds.
        seed: The environment's.
        max_steps: The episode is left after so many steps.
        on_step: Called after the reset and after every step.

    Returns:
        The team's return: the sum over agents, or a shared reward counted once.
    """
    row = as_one_row(env)
    return play(act, row, seed=seed, max_steps=max_steps, on_step=on_step).team_return


def random_actions(env: Any, seed: int) -> Act:
    """Acts uniformly at random within the environment's action spaces and masks."""
    team = as_one_row(env).team
    for i, agent in enumerate(team.action_spaces):
        team.moves[agent].flat.seed(seed + i)

    def act(observations: Mapping[AgentID, Any]) -> dict[AgentID, Any]:
        masks = {
            a: np.asarray(x[ACTION_MASK]) > 0 for a, x in observations.items() if a in team.masked
        }
        return {a: random_action(team.moves[a], masks.get(a)) for a in observations}

    return act


def video_suffix() -> str:
    """The best format that can be written: ".mp4" if imageio-ffmpeg is there, else ".gif"."""
    return ".mp4" if importlib.util.find_spec("imageio_ffmpeg") else ".gif"


def _writer(path: Path, fps: int) -> Any:
    gif = path.suffix.lower() == ".gif"
    try:
        import imageio.v2 as imageio
    except ImportError as error:
        raise MissingExtraError("imageio", extra="video") from error
    if not gif and video_suffix() == ".gif":  # imageio's own message names no extra
        raise MissingExtraError("imageio-ffmpeg", extra="video")
    if gif:
        return imageio.get_writer(path, mode="I", duration=1000 / fps, loop=0)
    # Any even size will do for the codec; imageio would stretch frames to multiples of 16.
    return imageio.get_writer(path, mode="I", fps=fps, macro_block_size=2)


def frame_of(env: Any) -> np.ndarray:
    """The environment's picture of the moment, (height, width, 3) uint8.

    Raises:
        TeamError: If it gives none, or cannot render here.
    """
    try:
        frame = env.render()
    except Exception as error:
        raise TeamError(
            f"The environment cannot render here: {error!r}. MuJoCo without a screen needs "
            "MUJOCO_GL=egl and the system packages libegl1, libgl1 (or MUJOCO_GL=osmesa and "
            "libosmesa6), set before the environment is made."
        ) from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise TeamError(
            "The environment's render() returned no picture. Make it with "
            'env_config={..., "render_mode": "rgb_array"}.'
        )
    return np.ascontiguousarray(frame, np.uint8)
