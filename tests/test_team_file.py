"""Saved policies from anybody: each fault is one line, and nothing hangs or leads outside."""

import json
import os
import zipfile

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rllib_hetero import TeamError, load_policies
from rllib_hetero.files import read_bytes, read_json, write_whole
from rllib_hetero.modules.actor import TeamActor
from rllib_hetero.sharing import LONGEST_NAME, lay_out
from rllib_hetero.space_file import describe_space
from rllib_hetero.team import Team

WIDE = Box(-np.inf, np.inf, (3,), np.float32)
SPACES = {"a": Discrete(2), "b": MultiDiscrete([2, 3]), ("c", 1): Box(-1.0, 1.0, (1,), np.float64)}


def description():
    agents = list(SPACES)
    return {
        "format": 1,
        "agents": [list(a) if isinstance(a, tuple) else a for a in agents],
        "groups": {"a": ["a"], "b": ["b"], "third": [["c", 1]]},
        "observation_spaces": [describe_space(WIDE) for _ in agents],
        "action_spaces": [describe_space(SPACES[a]) for a in agents],
        "execution_order": None,
        "agent_index": True,
        "policy_family": "stochastic",
        "masked": [],
        "absences": False,
        "absent_memory": "keep",
        "connectors": [],
        "not_written": [],
        "modules": {
            m: {
                "class": "rllib_hetero.modules.actor:TeamActor",
                "model_config": {"hidden_sizes": [4]},
            }
            for m in ("a", "b", "third")
        },
        "clip_actions": True,
        "normalize_actions": False,
    }


@pytest.fixture
def saved(tmp_path):
    """A checkpoint's folder."""
    folder = tmp_path / "checkpoint" / "policies"
    folder.mkdir(parents=True)
    (folder / "team.json").write_text(json.dumps(description()))
    for m, space in zip(("a", "b", "third"), SPACES.values(), strict=True):
        actor = TeamActor(
            observation_space=WIDE, action_space=space, model_config={"hidden_sizes": [4]}
        )
        torch.save(actor.state_dict(), folder / f"{m}.pt")
    return folder


def refused(saved, **changes):
    (saved / "team.json").write_text(json.dumps(description() | changes))
    with pytest.raises(TeamError) as caught:
        load_policies(saved.parent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_acts(saved):
    policies = load_policies(saved.parent)
    actions = policies.act({a: np.ones(3) for a in SPACES})
    assert {a: SPACES[a].contains(u) for a, u in actions.items()} == dict.fromkeys(SPACES, True)


@pytest.mark.parametrize("name", list(description()))
def test_each_part_is_needed_and_of_one_kind(saved, name):
    whole = description()
    for wrong in (None, 5, "x", [1.5], {"x": 1}, [None]):
        if wrong is None and name == "execution_order":
            continue
        if isinstance(whole[name], bool) and isinstance(wrong, bool):
            continue
        assert "team.json is not as this library writes it" in refused(saved, **{name: wrong})
    del whole[name]
    if name != "execution_order":
        (saved / "team.json").write_text(json.dumps(whole))
        with pytest.raises(TeamError, match=r"missing|format"):
            load_policies(saved.parent)


BOX = {"kind": "Box", "dtype": "float32", "low": [0.0] * 3, "high": [1.0] * 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, and this version reads 1"),
        ({"agents": ["a", "b", "b"]}, "no agent twice"),
        ({"agents": ["a", "b"]}, "one space for each agent"),
        ({"agents": []}, "1 to 10,000"),
        ({"agents": [f"x{i}" for i in range(100_000)]}, "1 to 10,000"),
        ({"agents": ["a", "b", {"c": 1}]}, "not {'c': 1}"),
        ({"agents": ["a", "b", "y" * 2000]}, "an agent is named by"),
        ({"groups": {"a": ["a"], "b": ["b"]}}, "every agent in one group"),
        ({"groups": {"a": ["a"], "b": ["b", "a"], "third": []}}, "is empty|two sharing groups"),
        ({"groups": {"a": ["a", "b"], "third": [["c", 1]]}}, "unequal action spaces"),
        ({"masked": ["z"]}, "must be of the team"),
        ({"absent_memory": "some"}, "`absent_memory` cannot be"),
        ({"execution_order": ["a", "b"]}, "every agent once"),
        ({"policy_family": "other"}, "no policy family 'other'"),
        ({"observation_spaces": [BOX, BOX, {**BOX, "low": ["x"] * 3}]}, "lists of numbers"),
        ({"observation_spaces": [BOX, BOX, {**BOX, "dtype": "object"}]}, "`dtype` of a Box"),
        ({"observation_spaces": [BOX, BOX, {**BOX, "dtype": "f4,f4"}]}, "`dtype` of a Box"),
        ({"observation_spaces": [BOX, BOX, {**BOX, "low": [0.0]}]}, "no such Box"),
        ({"observation_spaces": [BOX, BOX, {**BOX, "low": [9.0] * 3}]}, "no such Box"),
        ({"action_spaces": [{"kind": "Discrete", "n": 10**12}] * 3}, "from 1 to 1,000,000"),
        ({"action_spaces": [{"kind": "Discrete", "n": True}] * 3}, "from 1 to 1,000,000"),
        ({"action_spaces": [{"kind": "MultiDiscrete", "nvec": [10**6] * 9}] * 3}, "too many"),
        ({"action_spaces": [{"kind": "Text"}] * 3}, "no kind of space 'Text'"),
        ({"connectors": [5]}, "must be texts"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_together_is_told(saved, changes, message):
    import re

    assert re.search(message, refused(saved, **changes))


def renamed(name):
    told = description()
    told["groups"] = {name if m == "third" else m: x for m, x in told["groups"].items()}
    told["modules"] = {name if m == "third" else m: x for m, x in told["modules"].items()}
    return {"groups": told["groups"], "modules": told["modules"]}


NAMES = ["../../../../x", "x" * 300, "é" * 150, "a\nb", "a\0b", "", "..", "a/b", "__all_modules__"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_names_that_are_no_file_names(saved, name):
    """Neither from a file nor from an environment, where training would fail when it saves."""
    assert "cannot name a module" in refused(saved, **renamed(name))
    team = Team((name, "b"), {x: WIDE for x in (name, "b")}, {x: SPACES["a"] for x in (name, "b")})
    with pytest.raises(TeamError, match=r"cannot name a module.*config.multi_agent"):
        lay_out(team, "none")
    with pytest.raises(TeamError, match=r"cannot name a module.*config.multi_agent"):
        lay_out(Team(("a",), {"a": WIDE}, {"a": SPACES["a"]}), {name: ["a"]})
    lay_out(Team(("a",), {"a": WIDE}, {"a": SPACES["a"]}), {"é" * (LONGEST_NAME // 2): ["a"]})


def test_agents_that_a_file_cannot_name():
    spaces = {frozenset("a"): WIDE}, {frozenset("a"): SPACES["a"]}
    with pytest.raises(TeamError, match=r"agent id frozenset.*texts, whole numbers"):
        lay_out(Team((frozenset("a"),), *spaces), "full")


@pytest.mark.parametrize(
    ("model_config", "message"),
    [
        ({"hidden_sizes": [10**9, 10**6]}, "do not fit"),  # without the memory for it
        ({"hidden_sizes": [5]}, "do not fit.*has the shape"),
        ({"hidden_sizes": "x"}, "do not fit|cannot be made"),
        ({"hidden_sizes": [-1]}, "cannot be made"),
        ({"x": "y" * 200_000}, "longer than 100,000"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_networks_that_a_file_asks_for(saved, model_config, message):
    import re

    modules = description()["modules"]
    modules["b"]["model_config"] = model_config
    assert re.search(message, refused(saved, modules=modules))


def test_files_that_never_end_or_lead_outside(saved, tmp_path):
    weights = saved / "b.pt"
    content = weights.read_bytes()

    def told():
        with pytest.raises(TeamError) as caught:
            load_policies(saved.parent)
        return str(caught.value)

    weights.unlink()
    assert "is missing: these policies are not whole" in told()
    weights.symlink_to("/dev/zero")
    assert "lies outside" in told()
    weights.unlink()
    os.mkfifo(weights)  # nobody writes
    assert "no plain file" in told()
    weights.unlink()
    (tmp_path / "elsewhere.pt").write_bytes(content)
    weights.symlink_to(tmp_path / "elsewhere.pt")
    assert "lies outside" in told()
    weights.unlink()
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    assert "holds no weights: it is packed" in told()
    weights.write_bytes(b"")
    assert "holds no weights" in told()
    torch.save([1, 2], weights)
    assert "holds no weights, but something else" in told()
    with open(weights, "wb") as file:
        file.truncate(10 * 2**30)  # takes no room on the disk
    assert "larger than" in told()
    weights.write_bytes(content)
    load_policies(saved.parent)
    for text in ("{", "[" * 100_000, "[" + "9" * 5000 + "]"):
        (saved / "team.json").write_text(text)
        assert "team.json is not" in told()


def test_reading_up_to_a_limit(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, most=5) == b"12345" and read_json(path, most=5) == 12345
    with pytest.raises(TeamError, match="larger than 4 bytes"):
        read_bytes(path, most=4)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "b", most=4)
    with pytest.raises(TeamError, match="no plain file"):
        read_bytes(tmp_path, most=4)


def test_writing_replaces_a_link_and_not_what_it_leads_to(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_whole(link, "new")
    assert (target.read_text(), link.read_text()) == ("old", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
    assert target.stat().st_mode == link.stat().st_mode
