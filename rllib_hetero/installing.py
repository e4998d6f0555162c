"""How an extra is installed, from where the package itself was: said in one place."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

PACKAGE = "rllib_hetero"


def install_command(extra: str) -> str:
    """The command that adds an extra to this installation.

    Where no package index has this package, its name alone is not enough: what is named is the
    checkout, the wheel or the repository that it was installed from.
    """
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").exists():
        return f"pip install -e '{checkout}[{extra}]'"
    source = _source()
    if source is None:  # it came from an index, which then has the extra, too
        return f"pip install '{PACKAGE}[{extra}]'"
    return f"pip install '{PACKAGE}[{extra}] @ {source}'"


def version() -> str:
    """This package's version."""
    import rllib_hetero

    return rllib_hetero.__version__


def extras() -> dict[str, bool]:
    """Each extra, and whether all that it names is installed here."""
    from packaging.requirements import Requirement

    try:
        about = metadata.distribution(PACKAGE).metadata
    except metadata.PackageNotFoundError:
        return {}
    names = about.get_all("Provides-Extra") or []
    needed: dict[str, list[Requirement]] = {name: [] for name in names}
    for text in about.get_all("Requires-Dist") or []:
        requirement = Requirement(text)
        for name in names:
            marker = requirement.marker
            plain = marker is None or marker.evaluate({"extra": ""})
            if not plain and marker is not None and marker.evaluate({"extra": name}):
                needed[name].append(requirement)
    return {name: all(map(_installed, some)) for name, some in needed.items()}


def _installed(requirement: object) -> bool:
    name = requirement.name  # type: ignore[attr-defined]
    if name.replace("-", "_").lower() == PACKAGE:
        return True  # another extra of ours, which has a line of its own
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(found, prereleases=True)  # type: ignore[attr-defined]


def _source() -> str | None:
    """Where pip had the package from (PEP 610); None if nobody says."""
    try:
        text = metadata.distribution(PACKAGE).read_text("direct_url.json")
        told = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, json.JSONDecodeError):
        return None
    url = told.get("url")
    return f"git+{url}" if url and told.get("vcs_info", {}).get("vcs") == "git" else url
