"""Whether a module of a user's own does what runners and learners will ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ray.rllib.core import Columns
from torch import Tensor

from rllib_hetero.errors import TeamError
from rllib_hetero.layout import Layout, ModuleID
from rllib_hetero.modules.memory import initial_state, unpack
from rllib_hetero.modules.value_norm import ValueNorm

_ROWS = 3


def check_actor(
    module: Any, module_id: ModuleID, layout: Layout, *, attributes: Sequence[str] = ()
) -> None:
    """Raises unless a module can act for its agents and be trained.

    Args:
        module: The RLModule, newly made.
        module_id: Its id.
        layout: Agents, modules, spaces.
        attributes: What the algorithm's learner asks of its actors, beyond their pass.

    Raises:
        TeamError: What is missing, or of another shape, with what is wanted.
    """
    told = f"The module {module_id!r} ({type(module).__name__})"
    _check_attributes(told, module, attributes)
    module.eval()
    d = layout.observation_space(module_id).shape[0]
    size = layout.distribution(module_id).size
    n = len(layout.groups[module_id])
    passes = {
        "_forward_inference": module.forward_inference,
        "_forward_exploration": module.forward_exploration,
        "_forward_train": module.forward_train,
    }
    state = initial_state(module)
    # Runners take one step at a time, learners many; and all agents of a module at once.
    leads = [(_ROWS, 1), (_ROWS, 2)] if len(state) else [(_ROWS,), (_ROWS, n)]
    for lead in leads:
        rows = _rows(layout, module_id, (*lead, d))
        for name, forward in passes.items():
            out = _run(f"{told}.{name}", forward, _batch(module, rows, state))
            inputs = _entry(f"{told}.{name}", out, Columns.ACTION_DIST_INPUTS)
            _check_shape(f"{told}.{name}", Columns.ACTION_DIST_INPUTS, inputs, (*lead, size))
            if len(state):
                _check_states(f"{told}.{name}", module, out)
        again = _run(told, module.forward_train, _batch(module, rows, state))
        if not torch.equal(inputs, again[Columns.ACTION_DIST_INPUTS]):
            raise TeamError(
                f"{told} returns other {Columns.ACTION_DIST_INPUTS} for the same observations when "
                "it is asked twice. The policy that is trained must be the one that acted: leave "
                "dropout and batch normalisation out."
            )
    if any(p.requires_grad for p in module.parameters()) and not inputs.requires_grad:
        raise TeamError(
            f"{told}: no gradient reaches its parameters from {Columns.ACTION_DIST_INPUTS} of "
            "forward_train. Leave torch.no_grad() and detach() out of its _forward."
        )


def check_critic(module: Any, module_id: ModuleID, layout: Layout, *, default: type) -> None:
    """Raises unless a module can be the centralised critic.

    Args:
        module: The RLModule, newly made.
        module_id: Its id.
        layout: Agents, modules, spaces.
        default: The class of the algorithm's own critic.

    Raises:
        TeamError: What is missing, with what is wanted.
    """
    told = f"The critic ({type(module).__name__})"
    if isinstance(module, default):
        return
    public = {
        name: member
        for name, member in vars(default).items()
        if callable(member) and not name.startswith("_")
    }
    public.pop("setup", None)
    stateful = public.keys() & {"get_initial_state", "compute_values_and_state"}
    if not len(initial_state(module)):
        public = {name: member for name, member in public.items() if name not in stateful}
    _check_attributes(told, module, sorted(public), f"Subclass {default.__name__}, or define them.")
    if "compute_values" not in public:
        return
    if not isinstance(getattr(module, "normalizer", None), ValueNorm):
        raise TeamError(
            f"{told} lacks a `normalizer`: set self.normalizer = ValueNorm() in its setup() (from "
            "rllib_hetero.modules.value_norm)."
        )
    if len(initial_state(module)):
        return
    space = layout.team.critic_space
    states = torch.zeros(_ROWS, *space.shape, dtype=_torch_dtype(space))
    values = _run(f"{told}.compute_values", module.compute_values, {Columns.OBS: states})
    if not isinstance(values, Tensor) or values.shape[:1] != (_ROWS,) or values.ndim > 2:
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise TeamError(
            f"{told}.compute_values gives {got} for states {tuple(states.shape)}; ({_ROWS},) is "
            "wanted, or one more axis of a value for each agent."
        )


def _rows(layout: Layout, module_id: ModuleID, shape: tuple[int, ...]) -> Tensor:
    if layout.row_dtype(module_id) == "uint8":
        return torch.zeros(shape, dtype=torch.uint8)  # Of any bytes, some are no numbers.
    return torch.randn(shape)


def _batch(module: Any, rows: Tensor, state: Tensor) -> dict[str, Any]:
    batch: dict[str, Any] = {Columns.OBS: rows.clone()}  # Modules may write into it.
    if len(state):
        batch[Columns.STATE_IN] = unpack(state.repeat(_ROWS, 1), module)
    return batch


def _torch_dtype(space: Any) -> torch.dtype:
    return torch.uint8 if space.dtype == "uint8" else torch.float32


def _check_attributes(
    told: str, module: Any, names: Sequence[str], mend: str = "Define them in its class."
) -> None:
    missing = [name for name in names if not hasattr(module, name)]
    if missing:
        raise TeamError(f"{told} lacks {', '.join(missing)}, which its learner asks for. {mend}")


def _run(told: str, forward: Callable[[dict], Any], batch: dict[str, Any]) -> Any:
    shape = tuple(batch[Columns.OBS].shape)
    try:
        return forward(batch)
    except Exception as error:
        raise TeamError(
            f"{told} raised {type(error).__name__} for {batch[Columns.OBS].dtype} observations of "
            f"shape {shape}: {error}. The last axis is one agent's, the others are rows; what lies "
            "in it is `rllib_hetero.spaces.unpack(rows, self.observation_space)`."
        ) from error


def _entry(told: str, out: Any, key: str) -> Any:
    if not isinstance(out, dict) or key not in out:
        got = sorted(map(str, out)) if isinstance(out, dict) else type(out).__name__
        raise TeamError(f"{told} returns no {key!r}, but {got}: return {{{key!r}: ...}}.")
    return out[key]


def _check_shape(told: str, key: str, x: Any, wanted: tuple[int, ...]) -> None:
    got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
    if got != wanted:
        raise TeamError(
            f"{told} returns {key!r} of shape {got}; {wanted} is wanted: leading axes as the "
            "observations have them, then the parameters of the actions' distribution."
        )


def _check_states(told: str, module: Any, out: dict[str, Any]) -> None:
    after = _entry(told, out, Columns.STATE_OUT)
    for name, state in module.get_initial_state().items():
        if name not in after:
            raise TeamError(
                f"{told} returns no {name!r} in {Columns.STATE_OUT!r}: get_initial_state() has it."
            )
        _check_shape(told, f"{Columns.STATE_OUT}.{name}", after[name], (_ROWS, len(state)))
