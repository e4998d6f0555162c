"""A fragment in Ray's object store, seen by whoever hands it on without reading it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from rllib_hetero.runners.fragment import TeamFragment


@dataclass
class PostedFragment:
    """What must be known of a fragment, or of a range of its environments, to give it to a learner.

    The fragment is its runner's: one that ends takes along what nobody has read yet.

    Attributes:
        reference: To the whole fragment.
        steps_by_env: (E,) int64, see `TeamFragment.steps_by_env`.
        problem: See `TeamFragment`.
        first_env: Index within the whole fragment of the first of these environments.
    """

    reference: Any
    steps_by_env: np.ndarray
    problem: str | None
    first_env: int = 0

    @property
    def num_envs(self) -> int:
        return len(self.steps_by_env)

    def select(self, envs: range) -> PostedFragment:
        """A contiguous range of these environments."""
        return replace(
            self,
            steps_by_env=self.steps_by_env[envs.start : envs.stop],
            first_env=self.first_env + envs.start,
        )

    def within(self, fragment: TeamFragment) -> TeamFragment:
        """These environments of the whole fragment, once it has been read (views, not copies)."""
        return fragment.select(range(self.first_env, self.first_env + self.num_envs))


def post(fragment: TeamFragment) -> PostedFragment:
    """Puts a fragment into the object store."""
    return PostedFragment(ray.put(fragment), fragment.steps_by_env, fragment.problem)
