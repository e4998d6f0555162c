"""The pages: equations as the hook of MkDocs draws them, and the whole site."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("latex2mathml")  # of the extra `docs`
SCRIPT = Path(__file__).parents[1] / "scripts" / "mkdocs_math.py"


@pytest.fixture(scope="module")
def hook():
    spec = importlib.util.spec_from_file_location("mkdocs_math", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equations_become_mathml_and_nothing_else_changes(hook):
    page = '<p>$5, <span class="arithmatex">\\(a &lt; b\\)</span></p><code>\\[x\\]</code>'
    drawn = hook.on_page_content(page)
    assert drawn.startswith('<p>$5, <span class="equation"><math')
    assert 'display="inline"' in drawn and "\\(" not in drawn
    assert drawn.endswith("</p><code>\\[x\\]</code>")


@pytest.mark.parametrize("tex", ["\\nosuchcommand x", "\\begin{aligned} a &amp;= b \\end{aligned}"])
def test_what_is_not_known_stops_the_build(hook, tex):
    with pytest.raises(ValueError, match="does not know"):
        hook.on_page_content(f'<div class="arithmatex">\\[{tex}\\]</div>')


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path):
    pytest.importorskip("mkdocs")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=SCRIPT.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    entry = (site / "reference" / "on-policy" / "index.html").read_text()
    assert 'id="rllib_hetero.HAPPOConfig"' in entry
