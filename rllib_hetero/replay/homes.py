"""Which learner an environment's steps are kept by."""

from __future__ import annotations

from itertools import pairwise

from rllib_hetero.runners.fragment import TeamFragment


def first_column(fragment: TeamFragment, num_envs: int) -> int:
    """The column of a fragment's first environment.

    Columns are numbered by runner and environment. Remote runners count from 1, the local one is 0.

    Args:
        fragment: From a team env runner.
        num_envs: Environments of one runner.
    """
    assert fragment.source is not None  # The team env runner always sets it.
    return max(fragment.source[0] - 1, 0) * num_envs + fragment.first_env


def blocks(num_columns: int, num_learners: int) -> list[range]:
    """The columns that each learner is home to: contiguous, and nearly equal in number."""
    bounds = [num_columns * k // num_learners for k in range(num_learners + 1)]
    return [range(a, b) for a, b in pairwise(bounds)]
