"""Claims of papers: that each is declared whole, and what its page tells of what was found."""

import importlib
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from rllib_hetero import HAPPOConfig, MAPPOConfig
from rllib_hetero.reporting.claims import Case, Claim, try_claim, write_page
from rllib_hetero.reporting.comparison import Comparison

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "tuned_examples" / "claims").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_a_claim_is_declared_whole(path, monkeypatch):
    monkeypatch.syspath_prepend(str(path.parent))
    claim = importlib.import_module(path.stem).CLAIM
    assert claim.name == path.stem
    page = ROOT / "docs" / "results" / "claims" / f"{claim.name}.md"
    assert claim.title in page.read_text()
    assert f"claims/{claim.name}.md" in (page.parents[1] / "claims.md").read_text()
    assert len({case.what for case in claim.cases}) == len(claim.cases)
    for case in claim.cases:
        config = case.configure()
        assert config.algo_class.__name__ == case.method.split(",")[0].split(" ")[0]
        assert case.seeds
        assert case.env_steps >= 300_000
        assert config is not case.configure()


def game(config_class, scheme):
    return (
        config_class()
        .environment("matrix_game", env_config={"game": "climbing"})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=10)
        .multi_agent(parameter_sharing=scheme)
        .rl_module(model_config={"hidden_sizes": [4]})
        .training(train_batch_size_per_learner=100, num_epochs=1)
    )


CLAIM = Claim(
    name="toy",
    title="A toy",
    source="nobody",
    says="The one is above the other.",
    confirmed_if="it is.",
    refuted_if="it is not.",
    differs="nothing.",
    cases=[
        Case("Climbing", "HAPPO", partial(game, HAPPOConfig, "none"), 200, (1, 2)),
        Case("Climbing", "HAPPO, s1 w/o more", partial(game, HAPPOConfig, "none"), 200),
        Case("Climbing", "MAPPO", partial(game, MAPPOConfig, "full"), 200),
    ],
)


@pytest.fixture
def command(monkeypatch, tmp_path):
    def give(*options):
        folders = ["--docs", str(tmp_path / "docs"), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["toy", *options, *folders])
        try_claim(CLAIM)
        return (tmp_path / "docs" / "claims" / "toy.md").read_text()

    return give


def test_what_is_missing_is_trained_and_shown(ray_local, command, tmp_path):
    page = command("--methods", "HAPPO", "HAPPO, s1 w/o more", "--seeds", "1")
    assert "| Climbing | HAPPO | 1 | 0k | " in page
    assert "| Climbing | HAPPO, s1 w/o more | 1 | 0k | " in page
    assert "| Climbing | HAPPO (2); MAPPO (1) |\n" in page
    records = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("toy/*/run.json")]
    assert {(r["algorithm"], r["config"]["seed"]) for r in records} == {("HAPPO", 1)}
    assert imread(tmp_path / "docs" / "claims" / "toy.png")[..., :3].std() > 0.01


def test_numbers_are_those_of_the_last_tenth(command, tmp_path):
    data = tmp_path / "docs" / "data" / "claims" / "toy"
    data.mkdir(parents=True)
    steps = np.arange(100_000, 1_000_001, 100_000)
    for seed, last in ((1, 3.0), (2, 5.0)):
        values = [0.0] * 9 + [last]
        rows = [f"{step},{value}\n" for step, value in zip(steps, values, strict=True)]
        text = "env_steps,episode_return_mean\n" + "".join(rows)
        (data / f"climbing-happo-s{seed}.csv").write_text(text)
    commits = {f"climbing-happo-s{seed}": "0123456789" for seed in (1, 2)}
    (data / "commits.json").write_text(json.dumps(commits))
    page = command("--show-only")
    assert "| Climbing | HAPPO | 1, 2 | 1M | 4.0 | 3.0 to 5.0 | 3.0 | 5.0 |" in page
    assert "Commits: 0123456." in page


def test_a_page_before_anything_is_run(tmp_path):
    page = tmp_path / "toy.md"
    write_page(CLAIM, Comparison(tmp_path / "data", tmp_path / "out"), page)
    text = page.read_text()
    assert "png" not in text
    assert "| Climbing | HAPPO (1, 2); HAPPO, s1 w/o more (1); MAPPO (1) |\n" in text
