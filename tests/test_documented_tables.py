"""The tables in the documentation are those that the algorithms' own answers make."""

import ast
import re
from pathlib import Path

import pytest

import rllib_hetero
from rllib_hetero import ALGORITHMS
from rllib_hetero.modules.actor import MODEL_DEFAULTS
from rllib_hetero.modules.encoders import ENCODER_DEFAULTS
from rllib_hetero.reporting.algorithm_tables import (
    algorithm_table,
    capability_table,
    with_tables,
)
from rllib_hetero.reporting.settings_reference import (
    arguments_in,
    our_settings,
    settings_reference,
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
    assert "| Box actions | yes |" in table


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
    counts = {"HAPPO": 21, "HATRPO": 7, "A2PO": 5, "BPPO": 4, "CoPPO": 2, "COMA": 8}
    assert len(rows) == counts.get(name, 0)
    for setting, default in rows:
        assert getattr(config, setting) == ast.literal_eval(default), setting


def test_documented_networks_are_the_defaults():
    rows = dict(defaults_in(ROOT / "docs" / "getting-started.md"))
    of_kinds = dict(defaults_in(ROOT / "docs" / "kinds.md"))
    assert set(of_kinds) == set(ENCODER_DEFAULTS)
    rows |= of_kinds
    assert set(rows) == set(MODEL_DEFAULTS) - {"action_projection"}  # On BPPO's page.
    for key, default in rows.items():
        assert MODEL_DEFAULTS[key] == ast.literal_eval(default), key


def test_every_public_name_has_one_entry_in_the_reference():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    entries = re.findall(
        r"^::: rllib_hetero\.(\w+)$", "\n".join(page.read_text() for page in pages), re.M
    )
    assert sorted(entries) == sorted(rllib_hetero.__all__)


def test_the_page_of_settings_is_what_the_configs_say():
    path = ROOT / "docs" / "reference" / "settings.md"
    assert settings_reference() in path.read_text(), f"make tables: {path} is out of date"


def test_every_setting_of_ours_is_described():
    undescribed = [
        f"{use.algorithm}: config.{method}({name}=...)"
        for method, settings in our_settings().items()
        for name, uses in settings.items()
        for use in uses
        if not use.text
    ]
    assert not undescribed


def test_settings_have_their_default_wherever_a_config_keeps_them():
    def defaults(method, name):
        return {use.algorithm: use.default for use in our_settings()[method][name]}

    clip = defaults("training", "clip_param")
    assert set(clip) == set(ON_POLICY)
    assert clip["HAPPO"] == 0.2 and clip["HATRPO"] is None
    assert defaults("consensus", "mode")["NetworkedAC"] == "hard"
    assert defaults("other_agents", "history")["F2A2SAC"] == 5


def test_a_page_of_settings_tells_algorithms_of_one_name_apart():
    page = settings_reference()
    lambdas = page.partition("{ #training-lambda_ }")[2].partition("###")[0]
    assert "**The on-policy algorithms**. Default: `0.95`; `0.8` for COMA." in lambdas
    assert "**QMIX, VDN, IQL**. Default: `0.0`." in lambdas
    assert "| `train_batch_size` | use config.training(train_batch_size_per_learner=...) |" in page


def test_arguments_are_read_from_a_docstring():
    told = arguments_in(
        """Sets things.

        Args:
            one: The first: so
                long that it goes on.
            two: The second.
            **kwargs: Others.

        Returns:
            three: No argument.
        """
    )
    assert told == {"one": "The first: so long that it goes on.", "two": "The second."}
