"""A module from its saved class, settings and weights, which may be anybody's."""

from __future__ import annotations

import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core.rl_module import RLModule

from rllib_hetero.errors import TeamError
from rllib_hetero.files import read_bytes
from rllib_hetero.layout import ModuleID
from rllib_hetero.team_file import TeamFile

_LARGEST = 2 * 2**30  # bytes of a module's weights


def load_module(folder: Path, told: TeamFile, module_id: ModuleID, trusted: bool) -> Any:
    """Makes a module and gives it its weights.

    Args:
        folder: Of the policies.
        told: What `team.json` says.
        module_id: The module.
        trusted: Whether a class that is not this library's may be imported.

    Raises:
        TeamError: If there is no such class, it cannot be made, or the weights do not fit.
    """
    module_class = _import_class(told.classes[module_id], trusted)
    weights = _read_weights(folder, module_id)
    given = {
        "observation_space": told.layout.observation_space(module_id),
        "action_space": told.layout.action_space(module_id),
        "model_config": told.model_configs[module_id],
        "inference_only": True,
    }
    try:
        if module_class.__module__.split(".")[0] == "rllib_hetero":
            # Without memory at first: the file could ask for more than there is.
            with torch.device("meta"):
                wanted = module_class(**given).state_dict()
            _compare(weights, wanted)
        module = module_class(**given)
    except TeamError as problem:
        raise TeamError(_do_not_fit(folder, module_id, problem)) from None
    except Exception as problem:
        if trusted:
            raise  # where the user's own class failed is for the user to see
        raise TeamError(
            f"The module {module_id!r} in {str(folder)!r} cannot be made with the settings that "
            f"are saved: {type(problem).__name__}: {problem!s:.300}"
        ) from None
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise TeamError(_do_not_fit(folder, module_id, error)) from None
    return module


def _compare(weights: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, tensor in wanted.items():
        if name in weights and weights[name].shape != tensor.shape:
            shapes = tuple(weights[name].shape), tuple(tensor.shape)
            raise TeamError(f"{name} has the shape {shapes[0]}, and {shapes[1]} is needed.")
    for name in sorted(weights.keys() ^ wanted.keys(), key=str):
        raise TeamError(f"{name!s:.100} is {'not there' if name in wanted else 'one too many'}.")


def _do_not_fit(folder: Path, module_id: ModuleID, why: Exception) -> str:
    return (
        f"The weights of the module {module_id!r} in {str(folder)!r} do not fit its networks; they "
        f"may be another version's of this library. {' '.join(str(why).split())}"
    )


def _read_weights(folder: Path, module_id: ModuleID) -> dict[str, Any]:
    path = folder / f"{module_id}.pt"
    try:
        content = read_bytes(path, most=_LARGEST, within=folder)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(record.file_size for record in archive.infolist()) > len(content):
                raise TeamError("it is packed, which this library does not do.")
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TeamError(f"{path} is missing: these policies are not whole.") from None
    except Exception as problem:  # whatever a file that is no weights file makes of the loader
        raise TeamError(f"{path} holds no weights: {' '.join(str(problem).split()):.300}") from None
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise TeamError(f"{path} holds no weights, but something else.")
    return weights


def _import_class(name: str, trusted: bool) -> type:
    module, _, qualname = name.partition(":")
    if module.endswith("__main__"):
        raise TeamError(f"The checkpoint's policy is of the class {name!r}, which is a command's.")
    if not trusted and module.split(".")[0] != "rllib_hetero":
        raise TeamError(
            f"The checkpoint's policy is of the class {name!r}, which is not rllib_hetero's. If "
            "you trust its origin, load it with load_policies(path, trusted=True)."
        )
    try:
        found = getattr(importlib.import_module(module), qualname, None)
    except (ImportError, ValueError) as problem:
        raise TeamError(f"The checkpoint's policy {name!r} cannot be imported: {problem}") from None
    if not (isinstance(found, type) and issubclass(found, RLModule)):
        raise TeamError(f"The checkpoint's policy is of the class {name!r}, which is no RLModule.")
    return found
