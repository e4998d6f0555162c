"""The table's numbers, on trials whose results can be worked out by hand."""

import csv
import math

import numpy as np
import pytest

from rllib_hetero.tuning.results import Trial, best_of, final_value, write_results
from rllib_hetero.tuning.search import Plan


def trial(lr, seed, final, *, algorithm="HAPPO", steps=1000, error=None):
    return Trial(
        "climbing",
        algorithm,
        seed,
        {"lr": lr},
        steps,
        final,
        error,
        f"/checkpoint/{seed}",
        "/trial",
    )


def chosen(best):
    return [(t.setting["lr"], t.seed) for t in best.trials]


def test_final_value_is_the_mean_of_the_last_tenth():
    steps = np.arange(100, 2001, 100.0)
    values = np.arange(20.0)
    assert final_value(steps, values) == 18.5  # at 1,900 and 2,000
    values[-1] = np.nan  # no episode ended
    assert final_value(steps, values) == 18
    assert math.isnan(final_value(steps, np.full(20, np.nan)))
    assert math.isnan(final_value(np.zeros(0), np.zeros(0)))


def test_rows_that_were_trained_again_count_once():
    steps = np.array([960, 980, 1000, 980, 1000.0])  # the driver was killed at 1,000
    assert final_value(steps, np.array([3, 100, 100, 6, 9.0])) == 6


def test_the_best_mean_over_all_seeds_wins():
    trials = [
        trial(1e-3, 1, 10), trial(1e-3, 2, 0),  # mean 5
        trial(5e-4, 2, 7), trial(5e-4, 1, 6),  # mean 6.5
        trial(1e-4, 1, 99, steps=60), trial(1e-4, 2, 99),  # one was stopped early
        trial(2e-4, 1, 99), trial(2e-4, 2, 99, error="ValueError: no"),
    ]  # fmt: skip
    best = best_of(trials, Plan(seeds=(1, 2), env_steps=1000))
    assert chosen(best) == [(5e-4, 1), (5e-4, 2)]
    assert (best.num_settings, best.num_trials) == (4, 8)
    worst = best_of(trials, Plan(seeds=(1, 2), env_steps=1000, mode="min"))
    assert chosen(worst) == [(1e-3, 1), (1e-3, 2)]


def test_stopped_trials_are_looked_at_where_there_are_no_others():
    trials = [trial(1e-3, 1, 1, steps=60), trial(5e-4, 1, 2, steps=250), trial(1, 1, math.nan)]
    assert chosen(best_of(trials, Plan(env_steps=1000))) == [(5e-4, 1)]
    assert best_of(trials[-1:], Plan(env_steps=1000)) is None


def test_under_pbt_every_seed_has_its_own_best_member():
    trials = [trial(1, 2, 5), trial(2, 2, 6), trial(3, 1, 9), trial(4, 1, 8)]
    best = best_of(trials, Plan(seeds=(1, 2), num_samples=2, scheduler="pbt", env_steps=1000))
    assert chosen(best) == [(3, 1), (2, 2)]


def test_tables_with_one_seed_need_no_rliable(tmp_path):
    trials = [
        trial(1e-3, 1, 3.0), trial(5e-4, 1, 4.0), trial(1e-3, 1, math.nan, algorithm="MAPPO"),
    ]  # fmt: skip
    markdown, table = write_results(trials, Plan(num_samples=2, env_steps=1000), tmp_path)
    lines = markdown.read_text().splitlines()
    assert lines[-2] == (
        "| climbing | HAPPO | 2 | 2 | lr 0.0005 | 1 | 1k | 4.00 | - | 4.00 | 4.00 | 4.00 |"
    )
    assert lines[-1] == "| climbing | MAPPO | 1 | - | - | - | - | - | - | - | - | - |"
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["algorithm"], row["lr"], row["final"]) for row in rows] == [
        ("HAPPO", "0.001", "3.0"), ("HAPPO", "0.0005", "4.0"), ("MAPPO", "0.001", "nan"),
    ]  # fmt: skip


def test_the_interval_over_seeds(tmp_path):
    pytest.importorskip("rliable")
    trials = [trial(1e-3, seed, final) for seed, final in enumerate([0.0, 2.0, 4.0, 100.0])]
    plan = Plan(seeds=(0, 1, 2, 3), env_steps=1000)
    markdown, _ = write_results(trials, plan, tmp_path)
    cells = [cell.strip() for cell in markdown.read_text().splitlines()[-1].split("|")]
    assert cells[8] == "3.00"  # the mean of the middle two
    low, high = map(float, cells[9].split(" to "))
    assert 0 <= low <= 3 <= high <= 100
    assert cells[10:13] == ["26.50", "0.00", "100.00"]
