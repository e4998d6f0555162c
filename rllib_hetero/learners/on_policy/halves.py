"""An update in two calls: the actors', then the rest, while runners sample with those actors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.annotations import override
from ray.rllib.utils.typing import ResultDict
from torch import Tensor

from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.minibatch import Minibatch
from rllib_hetero.learners.team_learner import TeamLearner

ACTORS_DONE = Minibatch({})
"""What an iterator yields when it will step no actor any more. Nobody steps on it."""


class HalvedUpdate(TeamLearner):
    """Stops at `ACTORS_DONE` if asked to, and goes on when told.

    The two calls do what RLlib's `update` does in one, in the same order. An iterator without
    `ACTORS_DONE` leaves nothing to the second.
    """

    _steps_left: Iterator[Minibatch] = iter(())
    _last_losses: dict[ModuleID, Tensor]
    _timesteps: dict[str, Any]

    @override(Learner)
    def update(self, *args: Any, actors_only: bool = False, **kwargs: Any) -> Any:
        """As RLlib's.

        Args:
            *args: RLlib's.
            actors_only: Whether to stop when the actors are done. `finish_update` does the rest.
            **kwargs: RLlib's.

        Returns:
            The metrics; the number of the policies that runners can be given, if the critic is yet
            to be fitted.
        """
        if not actors_only:
            return super().update(*args, **kwargs)
        with self.own_threads():
            return self._begin(**kwargs)

    def _begin(self, *, training_data: Any, timesteps: dict[str, Any], **kwargs: Any) -> int:
        self.before_gradient_based_update(timesteps=timesteps)
        training_data.solve_refs()
        self._weights_seq_no += 1
        self._timesteps = timesteps
        self._steps_left = iter(
            self._create_iterator_if_necessary(training_data=training_data, **kwargs)
        )
        self._walk(until=ACTORS_DONE)
        return self._weights_seq_no

    def finish_update(self) -> ResultDict:
        """Takes the steps that `update(actors_only=True)` has left; returns the metrics."""
        with self.own_threads():
            self._walk(until=None)
        for m, loss in self._last_losses.items():
            self.metrics.log_value((m, self.TOTAL_LOSS_KEY), loss, window=1)
        self.after_gradient_based_update(timesteps=self._timesteps)
        return self.metrics.reduce()

    def _walk(self, until: Minibatch | None) -> None:
        for minibatch in self._steps_left:
            if minibatch is until:
                return
            _, self._last_losses, _ = self._update(minibatch.policy_batches)
