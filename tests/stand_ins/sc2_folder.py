"""A folder for SC2PATH in which a stand-in takes the game's place."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

_BUILD = "Base75689"  # of game version 4.10, which SMAC's results are from
_MARINE, _STALKER, _ZEALOT = 48, 74, 73  # the game's numbers, of enemies
_OWN = 1990  # SMAC's maps bring types of their own for the agents


def _army(owner, x, *types):
    return [(t, owner, x, 8 + 2 * i) for i, t in enumerate(types)]


MAPS = {
    "32x32_flat": [],
    "3m": _army(1, 9, *[_OWN] * 3) + _army(2, 23, *[_MARINE] * 3),
    "3s5z": _army(1, 9, *[_OWN] * 3, *[_OWN + 1] * 5)
    + _army(2, 23, *[_STALKER] * 3, *[_ZEALOT] * 5),
}
"""Map to the units it brings: type, owner, x, y."""


class Folder:
    """What SC2PATH names, as the tests and the stand-in itself see it."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        self._plans = self.path / "plans"
        self._notes = self.path / "notes"

    @classmethod
    def make(cls, path):
        folder = cls(path)
        program = folder.path / "Versions" / _BUILD / "SC2_x64"
        program.parent.mkdir(parents=True)
        program.write_text(
            f"#!{sys.executable}\n"
            f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from sc2_server import main\nmain()\n"
        )
        program.chmod(0o755)
        maps = folder.path / "Maps" / "SMAC_Maps"
        maps.mkdir(parents=True)
        for name, armies in MAPS.items():
            (maps / f"{name}.SC2Map").write_text(json.dumps(armies))
        folder._plans.mkdir()
        return folder

    def plan(self, **plan):
        """What the next game does that has no plan yet.

        Keys: "crash_after", "hang_after" (a number of actions), "crash_at", "hang_at" (the name
        of a request, or "launch"), "winner" (1 or 2) and "wins_after" (actions of each battle),
        "dies_after" (the first agent's), "harmless" (shots do nothing), "immortal" (debug does
        not kill), "children" (it starts a process of its own).
        """
        (self._plans / f"{len(list(self._plans.iterdir())):03}.json").write_text(json.dumps(plan))

    def plan_all(self, **plan):
        """What every game does that finds no plan of its own."""
        (self.path / "default.json").write_text(json.dumps(plan))

    def take_plan(self):
        for path in sorted(self._plans.glob("*.json")):
            with suppress(FileNotFoundError):  # another game was faster
                return json.loads(path.rename(path.with_suffix(".taken")).read_text())
        default = self.path / "default.json"
        return json.loads(default.read_text()) if default.exists() else {}

    def note(self, what):
        with self._notes.open("a") as file:
            file.write(json.dumps(what) + "\n")

    def notes(self):
        """One dict for each game that was created: "pid" and "seed"."""
        return [json.loads(x) for x in self._notes.read_text().splitlines()]

    def processes(self):
        """Ids of all running processes on whose command line the folder is."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if str(self.path) in Path("/proc", name, "cmdline").read_bytes().decode("latin-1"):
                    found.append(int(name))
        return found
