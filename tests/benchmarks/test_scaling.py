"""The arithmetic of the scaling benchmark."""

import csv

import pytest
import scaling

ITERATION = {
    "env_steps": 80.0, "seconds": 10.0, "sleep": 5.0, "oversleep": 0.5, "runner": 1.0,
    "slowest": 0.5, "fetch": 1.0, "learner": 1.5, "sync": 0.2, "driver": 0.3,
}  # fmt: skip


def test_the_parts_of_an_iteration_add_up():
    driver = {"sampling": 8.0, "learner": 1.5, "sync": 0.2}
    result = {
        "sample_sum_s": 13.0, "slept_sum_s": 11.0, "sample_max_s": 7.0,
        "num_env_steps_sampled": 80,
    }  # fmt: skip
    parts = scaling.parts_of(10.0, driver, result, runners=2, asked_s=5.0)
    assert parts == pytest.approx(ITERATION)
    assert sum(parts[name] for name in scaling.PARTS) == pytest.approx(10.0)


def test_efficiency_is_relative_to_the_fewest_runners():
    rows = [{"runners": n, "steps_per_s": rate} for n, rate in [(2, 90.0), (8, 288.0)]]
    assert [row["efficiency"] for row in scaling.with_efficiency(rows)] == pytest.approx([1, 0.8])


def test_the_rate_is_over_all_iterations():
    iterations = [ITERATION, {**ITERATION, "seconds": 30.0}]
    row = scaling.summary(4, iterations)
    assert row["steps_per_s"] == pytest.approx(160 / 40)  # not the mean of 8 and 2.67
    assert (row["runners"], row["seconds"], row["learner"]) == (4, 20.0, 1.5)


def test_runners_that_do_not_fit_are_left_out():
    free = scaling.free_memory_gib("MemTotal: 9 kB\nMemAvailable:   19398656 kB\nCached: 1 kB")
    assert free == 18.5
    fit = scaling.that_fit([1, 16, 32, 64], free, each_gib=0.5, spare_gib=2.5)
    assert fit == [1, 16, 32]  # 32 runners take exactly what is free


def test_what_is_printed_and_written(tmp_path):
    rows = scaling.with_efficiency([scaling.summary(n, [ITERATION]) for n in (1, 2)])
    line = scaling.printed(rows).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:6] == ["2", "8", "0.50", "10.00 s", "50.0%", "5.0%"]
    scaling.write_csv(rows, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [float(row["efficiency"]) for row in csv.DictReader(file)] == [1.0, 0.5]
    scaling.draw(rows, tmp_path / "a.png")
    from matplotlib.image import imread

    assert imread(tmp_path / "a.png")[..., :3].std() > 0.01


def test_the_environment_is_a_team_that_sleeps():
    from rllib_hetero import Team

    env = scaling.SleepingTeam({"sleep_s": 0.01})
    team = Team.from_env(env)
    env.reset(seed=0)
    for step in range(50):
        *_, truncated, _ = env.step({a: s.sample() for a, s in team.action_spaces.items()})
        assert truncated["__all__"] == (step == 49)
    assert env.slept_s >= 0.5
