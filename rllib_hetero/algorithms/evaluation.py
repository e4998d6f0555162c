"""Evaluation beside a training that must not notice it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box

from rllib_hetero.errors import TeamError
from rllib_hetero.spaces import signature
from rllib_hetero.team import Team, differences


def check_evaluation_team(trained: Team, played: Team) -> None:
    """Whether the policies of the trained team can play the evaluation's environment.

    Args:
        trained: Of the training's environment.
        played: Of the evaluation's.

    Raises:
        TeamError: With the differences, if they cannot.
    """
    unlike = differences(trained, played)
    states = [None if t.state_rows is None else signature(t.state_rows) for t in (trained, played)]
    if states[0] != states[1]:
        told: list[Any] = [
            None if t.state_space is None else t.state_space for t in (trained, played)
        ]
        told = [t.shape if type(t) is Box else t for t in told]
        unlike.append(f"the shape of the state is {told[1]}, not {told[0]}")
    if unlike:
        raise TeamError(
            "The evaluation's environment has another team than the training's: "
            f"{'; '.join(unlike)}. Mend it with "
            "config.evaluation(evaluation_config={'env_config': {...}})."
        )


@contextmanager
def global_randomness_kept() -> Iterator[None]:
    """Leaves the process's own generators as they were.

    RLlib seeds them whenever it makes a runner, and environments and modules may draw from them.
    """
    states = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
