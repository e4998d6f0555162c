"""The error for a wrong setting of an environment."""

from __future__ import annotations

from rllib_hetero.errors import TeamError


def refusal(env: str, setting: str, why: str, value: str = "...") -> TeamError:
    """An error that says what is wrong, and the call that mends it.

    Args:
        env: The environment's registered name.
        setting: The key of its `env_config`.
        why: What is wrong, a sentence.
        value: What to set it to, as it would be written.
    """
    return TeamError(
        f'{why} Mend it with config.environment("{env}", env_config={{"{setting}": {value}}}).'
    )
