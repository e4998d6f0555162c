"""Ends a running search in order when SIGINT or SIGTERM comes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from rllib_hetero.reporting.session import StopSignals


class StopSearch(StopSignals):
    """Tune saves the search and ends it on SIGUSR1; `received` then says what came.

    Tune's own handling of SIGINT has to be off: it would hide the signal from us.
    """

    def _first(self, number: int) -> None:
        if not callable(signal.getsignal(signal.SIGUSR1)):  # Tune does not run yet, or any more
            self.early = True
            raise KeyboardInterrupt
        with suppress(OSError):
            os.write(2, b"Saving the search's state, then stopping. Once more stops at once.\n")
        signal.raise_signal(signal.SIGUSR1)
