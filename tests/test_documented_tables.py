"""The tables in the documentation are those that the algorithms' own answers make."""

import ast
import re
from pathlib import Path

import pytest

from rllib_hetero import ALGORITHMS
from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.reporting.algorithm_tables import (
    algorithm_table,
    capability_table,
    with_tables,
)

ROOT = Path(__file__).parent.parent


def page_of(name):
    return ROOT / "docs" / "algorithms" / f"{name.lower()}.md"


def test_readme_and_index_list_every_algorithm():
    for path in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        assert algorithm_table() in path.read_text(), f"make tables: {path} is out of date"


def test_each_family_has_a_table_of_its_own():
    families = ("on-policy", "off-policy", "decentralised")
    first, *tables = re.split(r"\*\*([A-Z][a-z-]+)\*\*", algorithm_table())
    table_of = dict(zip(map(str.lower, tables[::2]), tables[1::2], strict=True))
    assert not first and tuple(table_of) == families
    for name, algorithm in ALGORITHMS.items():
        family = algorithm.get_default_config().capabilities.family
        for other, table in table_of.items():
            assert (f"| `{name}` |" in table) == (family == other)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_has_a_page_that_says_what_it_can_be_used_with(name):
    text = page_of(name).read_text()
    assert capability_table(name) in text
    assert f"{name}Config" in text


def test_tables_are_renewed_between_their_markers():
    tables = ("<!-- algorithms -->\nold\n<!-- end -->", "<!-- can I use HAPPO? -->\n<!-- end -->")
    text = "\n".join(["a", tables[0], "b", tables[1], "c"])
    new = with_tables(text)
    assert "old" not in new
    assert algorithm_table() in new
    assert capability_table("HAPPO") in new
    assert new.startswith("a\n")
    assert "\nb\n" in new
    assert new.endswith("\nc")
    assert with_tables(new) == new


def test_tables_show_a_no_where_an_algorithm_says_so(monkeypatch):
    from dataclasses import replace

    config = ALGORITHMS["HAPPO"].get_default_config()
    limited = replace(config.capabilities, recurrent=False, actions=("Box",))
    monkeypatch.setattr(type(config), "capabilities", limited)
    table = capability_table("HAPPO")
    assert "| recurrent policies and critics | no |" in table
    assert "| Discrete actions | no |" in table
    assert "| Box actions, shape (k,) | yes |" in table


def defaults_in(page):
    """(setting, default) of every row of the tables whose second column is "default"."""
    found, in_table = [], False
    for line in page.read_text().splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")] if "|" in line else []
        in_table = bool(cells) and (in_table or cells[1:2] == ["default"])
        if in_table and cells[0].startswith("`"):
            names = re.findall(r"`(\w+)`", cells[0])
            values = [v.strip().strip("`") for v in cells[1].split("`, `")]
            found += zip(names, values * len(names) if len(values) == 1 else values, strict=True)
    return found


ON_POLICY = [
    name
    for name, algorithm in ALGORITHMS.items()
    if algorithm.get_default_config().capabilities.family == "on-policy"
]


@pytest.mark.parametrize("name", ON_POLICY)
def test_documented_defaults_are_the_settings(name):
    config = ALGORITHMS[name].get_default_config()
    rows = defaults_in(page_of(name))
    counts = {"HAPPO": 20, "HATRPO": 7, "A2PO": 5, "BPPO": 4, "CoPPO": 2, "COMA": 8}
    assert len(rows) == counts.get(name, 0)
    for setting, default in rows:
        assert getattr(config, setting) == ast.literal_eval(default), setting


def test_documented_networks_are_the_defaults():
    rows = dict(defaults_in(ROOT / "docs" / "getting-started.md"))
    assert set(rows) == set(MODEL_DEFAULTS) - {"action_projection"}  # On BPPO's page.
    for key, default in rows.items():
        assert MODEL_DEFAULTS[key] == ast.literal_eval(default), key
