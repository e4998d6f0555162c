"""Where the cluster's and images' files are, and how the tests read them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
LAUNCHER = CLUSTER / "launcher"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def ray_document(name: str) -> dict[str, Any]:
    """The RayCluster or RayJob in a file of cluster/kuberay."""
    (document,) = documents(KUBERAY / name)
    return document


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return spec["rayClusterSpec"] if document["kind"] == "RayJob" else spec


def shell_scripts() -> list[Path]:
    return sorted(
        path
        for folder in (CLUSTER, ROOT / "docker", ROOT / "scripts")
        for path in folder.rglob("*")
        if path.suffix in (".sh", ".sbatch")
    )


def tool(name: str) -> str:
    """A program that a Python package brings: beside the interpreter, or on the PATH."""
    found = shutil.which(str(Path(sys.executable).parent / name)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: it comes with the extra 'dev'")
    return found
