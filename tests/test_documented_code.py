"""The Python of the pages runs: what does not train, play or start a Ray."""

import re
from pathlib import Path

import pytest

from rllib_hetero.errors import MissingExtraError

ROOT = Path(__file__).parents[1]
# Trained by the examples, and written again there.
LONG = ("build_algo", ".train(", ".fit()", "load_policies", "ray.init", "cProfile")
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "```python" in path.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_shows_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    # A page is read from its beginning: a block may use the names of those before it.
    names = {"__name__": "page"}
    for block in blocks:
        code = compile(block, str(page), "exec")
        if any(call in block for call in LONG):
            continue
        try:
            exec(code, names)
        except MissingExtraError as missing:
            pytest.skip(str(missing))
