"""Rollouts that remote runners sample while this process does something else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.utils.typing import StateDict

from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.runners.posted import PostedFragment, post

_TAG = "rollout_ahead"


class Rollout(NamedTuple):
    """What a runner has sampled, and what that began with.

    Attributes:
        fragments: A list of one, in the object store if that was asked for.
        metrics: The runner's, since its last rollout.
        progress: The runner's counters before it; a runner that is set to them samples it anew.
        policy: The number of the policies that it was asked to be of; None: whichever.
    """

    fragments: list[TeamFragment] | list[PostedFragment]
    metrics: Any
    progress: StateDict
    policy: int | None


class RolloutsAhead:
    """At most one rollout of each remote runner, asked for now and taken later.

    A runner does what it is told in the order in which it is told: weights that are sent while it
    samples are those of its next rollout.

    Args:
        runners: Whose remote ones sample.
        timeout_s: How long to wait for rollouts that are to be taken; those that come later are
            taken with the next ones. None: for ever.
        by_reference: Whether runners post their fragments, for remote learners to read.

    Attributes:
        policy: The number of the policies that rollouts must be of. A runner that does not have
            them samples nothing, and a rollout that was asked for when it was another number is
            thrown away. None: whatever policies a runner has will do.
    """

    def __init__(
        self, runners: EnvRunnerGroup, timeout_s: float | None, *, by_reference: bool = False
    ) -> None:
        self._runners = runners
        self._timeout_s = timeout_s
        self._by_reference = by_reference
        self.policy: int | None = None
        self._asked: set[int] = set()
        self._finished: dict[int, Rollout] = {}

    def ask(self, *, random_actions: bool = False) -> None:
        """Asks every healthy runner for a rollout of which there is none to be taken."""
        policy, by_reference = self.policy, self._by_reference
        idle = [i for i in self._runners.healthy_env_runner_ids() if i not in self._asked]
        if idle:
            self._runners.foreach_env_runner_async(
                lambda runner: sample_rollout(
                    runner, policy, random_actions=random_actions, by_reference=by_reference
                ),
                tag=_TAG,
                remote_worker_ids=idle,
            )
            self._asked.update(idle)

    def take(self) -> list[Rollout]:
        """Waits for what was asked for; returns it in the order of the runners' numbers.

        Raises:
            RayError: If a runner has failed, and that is not to be ignored. Else its rollout is
                missing.
        """
        self.finish()
        taken, self._finished = self._finished, {}
        self._asked -= taken.keys()
        return [taken[i] for i in sorted(taken)]

    def finish(self) -> None:
        """Waits for what was asked for, and keeps it."""
        self._fetch(self._timeout_s)

    def drop(self) -> None:
        """Waits for what was asked for, however long it takes, and throws it away.

        The next rollouts may be of whatever policies: they are about to change.
        """
        self._fetch(None)
        self.forget(list(self._asked))
        self.policy = None

    def forget(self, ids: Iterable[int]) -> None:
        """Expects nothing more of these runners: they have been replaced."""
        for i in ids:
            self._asked.discard(i)
            self._finished.pop(i, None)

    def _fetch(self, timeout_s: float | None) -> None:
        fetched = self._runners.fetch_ready_async_reqs(tags=_TAG, timeout_seconds=timeout_s)
        for i, rollout in fetched:
            if rollout is None or rollout.policy != self.policy:
                self._asked.discard(i)
            else:
                self._finished[i] = rollout

    def progress(self) -> dict[int, StateDict]:
        """The counters before rollouts that have been sampled and not taken, by runner."""
        return {i: rollout.progress for i, rollout in self._finished.items()}


def sample_rollout(
    runner: Any,
    policy: int | None = None,
    *,
    random_actions: bool = False,
    by_reference: bool = False,
) -> Rollout | None:
    """Has a runner sample.

    Args:
        runner: A team env runner.
        policy: The number of the policies that the rollout must be of. None: whichever.
        random_actions: See `TeamEnvRunner.sample`.
        by_reference: Whether it posts its fragments.

    Returns:
        The rollout; None if the runner does not have these policies.
    """
    if policy is not None and runner._weights_seq_no != policy:
        return None
    progress = runner.get_progress()
    fragments = runner.sample(random_actions=random_actions)
    if by_reference:
        fragments = [post(fragment) for fragment in fragments]
    return Rollout(fragments, runner.get_metrics(), progress, policy)
