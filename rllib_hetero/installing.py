"""How an extra is installed, from where the package itself was: said in one place."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

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


def extras() -> dict[str, bool]:
    """Each extra, and whether all that it names is installed here."""
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

    def complete(name: str) -> bool:
        return all(
            all(map(complete, some.extras)) if _is_ours(some) else _installed(some)
            for some in needed[name]
        )

    return {name: complete(name) for name in names}


def _is_ours(requirement: Requirement) -> bool:
    """Whether it names other extras of this package, as `all` does."""
    return requirement.name.replace("-", "_").lower() == PACKAGE


def _installed(requirement: Requirement) -> bool:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(found, prereleases=True)


def _source() -> str | None:
    """Where pip had the package from (PEP 610); None if nobody says."""
    try:
        text = metadata.distribution(PACKAGE).read_text("direct_url.json")
        told = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, json.JSONDecodeError):
        return None
    url = told.get("url")
    return f"git+{url}" if url and told.get("vcs_info", {}).get("vcs") == "git" else url
