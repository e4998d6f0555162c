"""A learner that reads its share of a batch where the runners have posted it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rllib_hetero.learners.team_learner import TeamLearner
from rllib_hetero.references import fetch_all
from rllib_hetero.runners.fragment import TeamFragment
from rllib_hetero.runners.posted import PostedFragment


class ReceivingLearner(TeamLearner):
    """Reads fragments before an update, so that all can agree on those that nobody has lost."""

    # By reference: what has been read for the next update.
    _received: dict[Any, TeamFragment] = {}  # noqa: RUF012 - replaced, never written to

    def receive(self, shares: Sequence[Sequence[PostedFragment]]) -> list[Any]:
        """Reads the fragments of its share that it does not have yet, and forgets all others.

        Args:
            shares: Of each learner, in their order.

        Returns:
            References to fragments of its share that are lost, or do not come in
            `sample_timeout_s`.
        """
        own = [posted.reference for posted in shares[self._learner_index]]
        new = [reference for reference in own if reference not in self._received]
        fetched = fetch_all(new, self.config.sample_timeout_s)
        found = self._received | dict(zip(new, fetched, strict=True))
        self._received = {r: found[r] for r in own if found[r] is not None}
        return [r for r in own if r not in self._received]

    def fragments_of(self, training_data: Any) -> list[TeamFragment]:
        """The fragments of an update, which are kept no longer here."""
        received, self._received = self._received, {}
        return [
            f.within(received[f.reference]) if isinstance(f, PostedFragment) else f
            for f in training_data.episodes
        ]
