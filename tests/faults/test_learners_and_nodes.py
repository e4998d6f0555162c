"""A learner and a node that are killed: what is lost, to the step.

What the runners survive is tested in tests/runners/test_failures.py and test_hanging.py.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_tools import LEARNER, ROOT, steps_of, table_of
from struck import BATCH, CAPACITY, OFF_POLICY, resume, train


@pytest.mark.slow
def test_a_killed_learner_ends_the_run_and_resume_goes_on(tmp_path):
    run, every = tmp_path / "run", 10 * BATCH
    more = ["--set", "learners.num_learners=1", "--checkpoint-every", every]
    with train(tmp_path, *more) as command:
        command.wait_until(lambda: steps_of(run) >= 12 * BATCH)
        command.member(LEARNER).kill()
        assert command.end() == 3
        said = command.result()
    assert said["status"] == "failed" and "Actor" in said["error"]
    assert Path(said["checkpoint"]) == run / "checkpoint"
    last = steps_of(run)
    again = resume(tmp_path, BATCH)
    assert again["env_steps"] == last // every * every
    assert again["lost_env_steps"] == last % every


@pytest.mark.slow
def test_a_killed_off_policy_learner_loses_of_its_replay_what_came_after_the_checkpoint(tmp_path):
    """A resumed run without the replay would fill it from nothing."""
    run, every = tmp_path / "run", 10 * BATCH
    more = ["--set", "learners.num_learners=1", "--checkpoint-every", every]
    with train(tmp_path, *more, settings=OFF_POLICY) as command:
        command.wait_until(lambda: steps_of(run) >= 12 * BATCH)
        command.member(LEARNER).kill()
        assert command.end() == 3
    last = steps_of(run)
    again = resume(tmp_path, 2 * BATCH)
    assert again["env_steps"] == last // every * every
    for row in table_of(run):
        assert row["replay_fill"] == row["env_steps"] / CAPACITY, row
    assert table_of(run)[-1]["updates_per_s"] > 0


@pytest.mark.slow
def test_a_killed_node_is_replaced_by_one_that_joins(tmp_path):
    """In a process of its own: this one may have a Ray already."""
    script = ROOT / "tests" / "benchmarks" / "faults.py"
    arguments = ["--only", "node_killed", "--iterations", "40", "--out", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    env.pop("RAY_ADDRESS", None)
    start = time.monotonic()
    subprocess.run([sys.executable, str(script), *arguments], env=env, check=True, timeout=800)
    (row,) = json.loads((tmp_path / "faults.json").read_text())["rows"]
    # At most one fragment of the runner that was on the node.
    assert row["fault"] == "worker node killed" and 0 <= row["lost_steps"] <= 500
    assert row["restarts"] == 1 and row["went_on"] == "by itself"
    assert 0 < row["noticed_s"] < row["full_s"] < time.monotonic() - start
