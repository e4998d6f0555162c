"""A driver that is killed: what is lost, to the step."""

import signal

import pytest
from fault_tools import steps_of
from struck import BATCH, resume, train


def test_a_killed_driver_loses_what_came_after_the_checkpoint(tmp_path):
    run, every = tmp_path / "run", 10 * BATCH
    with train(tmp_path, "--checkpoint-every", every) as command:
        command.freeze_when(lambda: steps_of(run) > every and steps_of(run) % every)
        command.kill()
        assert command.process.returncode == -signal.SIGKILL
    last = steps_of(run)
    again = resume(tmp_path, 2 * BATCH)
    assert again["env_steps"] == last // every * every
    assert again["lost_env_steps"] == last % every > 0


@pytest.mark.slow
def test_a_driver_killed_while_it_writes_a_checkpoint_has_the_one_before(tmp_path):
    run, every = tmp_path / "run", 3 * BATCH
    whole, half = run / "checkpoint", run / "checkpoint.new"
    with train(tmp_path, "--checkpoint-every", every) as command:
        command.wait_until(lambda: steps_of(run) >= 2 * every - BATCH)
        command.freeze_when(lambda: whole.exists() and half.exists())
        command.kill()
    last = steps_of(run)
    assert last >= 2 * every and last % every == 0
    again = resume(tmp_path, BATCH)
    assert again["env_steps"] == last - every
    assert again["lost_env_steps"] == every
    assert not half.exists()
