"""What Ray and RLlib log in every run, and no user of this package can act on: it can be hidden.

- "You are running HAPPO on the new API stack!": how to go back to the old one. There is none here.
- "Token authentication is enabled for this Ray cluster. Set RAY_AUTH_MODE=disabled ...": how to
  make a Ray that is safe unsafe. That it is *not* enabled is never hidden.
- "`RLModule(config=[RLModuleConfig object])` has been deprecated": RLlib's own use of it.
- "Install gputil for GPU system monitoring.": an unmaintained package; GPUs are used without it.
- "Trainable.setup took ... consider setting reuse_actors=True": no use outside of Tune, and the
  seconds are those of starting the env runners.

The command line hides them; `import rllib_hetero` does where RLLIB_HETERO_QUIET is 1. They are
known by logger and beginning, so all else is logged as ever.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

QUIET = "RLLIB_HETERO_QUIET"
"""The environment variable: "1" hides the messages, also in Ray's processes, which inherit it."""

KNOWN = {
    "ray.rllib.algorithms.algorithm_config": r"You are running \w+ on the new API stack!",
    "ray._private.authentication.authentication_token_setup": "Token authentication is enabled ",
    "ray._common.deprecation": r"DeprecationWarning: `RLModule\(config=\[RLModuleConfig ",
    "ray.tune.utils.util": r"Install gputil for GPU system monitoring\.",
    "ray.tune.trainable.trainable": r"Trainable\.setup took .* consider setting reuse_actors=True",
}
"""Logger to a pattern of how its message begins."""


def hide() -> None:
    """Hides them in this process from now on."""
    for name in KNOWN:
        logging.getLogger(name).addFilter(_is_new)


@contextmanager
def hidden_unless(shown: bool) -> Iterator[None]:
    """Hides them, here and in a Ray that is started meanwhile, unless they are to be shown.

    The environment variable, where it is set, has said so already.
    """
    before = os.environ.get(QUIET)
    quiet = not shown and before != "0"
    os.environ[QUIET] = "1" if quiet else "0"
    if quiet:
        hide()
    try:
        yield
    finally:
        if before is None:
            del os.environ[QUIET]
        else:
            os.environ[QUIET] = before
        if before != "1":
            for name in KNOWN:
                logging.getLogger(name).removeFilter(_is_new)


def _is_new(record: logging.LogRecord) -> bool:
    return re.match(KNOWN[record.name], record.getMessage()) is None
