"""What `reset` and `step` must return; what is wrong with what they did return, in words."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.errors import TeamError
from rllib_hetero.runners.env_creator import is_pettingzoo

_PARTS = {
    "reset()": ("observations", "infos"),
    "step()": ("observations", "rewards", "terminateds", "truncateds", "infos"),
}


def problem_with(call: str, returned: Any) -> str | None:
    """Why something is not what the call must return; None if it is.

    Args:
        call: "reset()" or "step()".
        returned: What it returned.
    """
    parts = _PARTS[call]
    wanted = f"It must return ({', '.join(parts)}), each a dict by agent id."
    if not isinstance(returned, tuple | list):
        return f"The environment's {call} returned a {type(returned).__name__}. {wanted}"
    if len(returned) != len(parts):
        return f"The environment's {call} returned {len(returned)} values. {wanted}"
    for name, part in zip(parts[:-1], returned, strict=False):  # Nobody needs infos.
        if not isinstance(part, Mapping):
            return (
                f"The {name} that the environment's {call} returned are a {type(part).__name__}. "
                f"{wanted}"
            )
    return None


def check_is_team_env(env: Any) -> None:
    """Raises TeamError unless `env` is an RLlib `MultiAgentEnv` whose `reset` takes a seed."""
    if not isinstance(env, MultiAgentEnv):
        raise TeamError(f"The environment is a {type(env).__name__}, {_what_then(env)}")
    try:
        inspect.signature(env.reset).bind(seed=0)
    except TypeError:
        raise TeamError(
            f"{type(env).__name__}.reset does not take a seed. Define it as reset(self, *, "
            "seed=None, options=None); it returns (observations, infos)."
        ) from None
    except ValueError:
        pass  # Its signature cannot be read.


def _what_then(env: Any) -> str:
    if callable(getattr(env, "agent_iter", None)):
        return (
            "not an RLlib MultiAgentEnv, but one of PettingZoo whose agents take turns (AEC). "
            "Wrap it in rllib_hetero.PettingZooTeamEnv(env), which makes it parallel where all may "
            "act at once. Turns are not supported."
        )
    wrap = "Wrap a PettingZoo parallel environment in rllib_hetero.PettingZooTeamEnv(env)."
    if is_pettingzoo(env):
        return f"not an RLlib MultiAgentEnv. {wrap}"
    return f"not an RLlib MultiAgentEnv: subclass that for a team of your own. {wrap}"
