"""An environment that hangs: its runner is ended with a traceback, and replaced."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
import runner_toys as toys
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from runner_toys import ScriptedTeam

from rllib_hetero import HAPPOConfig
from rllib_hetero.cli.settings import keys_of
from rllib_hetero.runners import hang_guard

GUARD = hang_guard.__file__


def run(code, *, limit="3"):
    """Executes in a process of its own, `guard` being a HangGuard of `limit` seconds."""
    head = f"import runpy, time\nguard = runpy.run_path({GUARD!r})['HangGuard']({limit})\n"
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize(
    ("hang", "seen"),
    [
        ("time.sleep(3600)", "in the_step"),
        # Called with the interpreter's lock held: no Python code runs in this process any more.
        ("import ctypes; ctypes.PyDLL(None).sleep(3600)", "in the_step"),
    ],
)
def test_a_hang_ends_the_process_with_a_traceback(hang, seen):
    ended = run(f"def the_step():\n    {hang}\nwith guard:\n    the_step()\n")
    assert ended.returncode == 1
    assert "Timeout (0:00:03" in ended.stderr and seen in ended.stderr


def test_slow_but_alive_is_no_hang():
    """More than the limit in all, in short steps; then as long again outside the block."""
    ended = run(
        "with guard:\n    for _ in range(16):\n        guard.alive()\n        time.sleep(0.25)\n"
        "time.sleep(4)\n"
        "with guard:\n    time.sleep(0.2)\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_limit_is_kept_also_after_many_short_steps():
    ended = run(
        "with guard:\n    for _ in range(16):\n        guard.alive()\n        time.sleep(0.25)\n"
        "    time.sleep(3600)\n"
    )
    assert ended.returncode == 1


def test_without_a_limit_nothing_is_ended():
    ended = run("with guard:\n    guard.alive()\n    time.sleep(0.5)\n", limit="None")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("seconds", [0, -1.0, "60", True, float("inf"), float("nan")])
def test_limits_that_are_none(seconds):
    config = toys.small(HAPPOConfig()).env_runners(num_env_runners=1)
    with pytest.raises(ValueError, match=r"fault_tolerance\(env_timeout_s="):
        config.fault_tolerance(env_timeout_s=seconds).validate()


def test_the_driver_is_not_ended():
    config = toys.small(HAPPOConfig()).fault_tolerance(env_timeout_s=60)
    with pytest.raises(ValueError, match=r"config.env_runners\(num_env_runners=1\)"):
        config.validate()
    # With runners it is good, also for an evaluation that is left to the driver.
    config.env_runners(num_env_runners=1).evaluation(evaluation_interval=1).validate()
    config.get_evaluation_config_object().validate()
    config.num_env_runners = 0  # as that of such an evaluation
    assert toys.make_runner(config, worker_index=0)._guard._seconds is None
    assert toys.make_runner(config, worker_index=1)._guard._seconds == 60


def test_config_files_know_the_limit():
    assert "env_timeout_s" in keys_of(HAPPOConfig, "fault_tolerance")


def test_rllibs_own_runner_has_no_limit():
    config = toys.small(HAPPOConfig()).env_runners(num_env_runners=1)
    config.env_runners(env_runner_cls=MultiAgentEnvRunner)
    with pytest.raises(ValueError, match=r"remove config.env_runners\(env_runner_cls=...\)"):
        config.fault_tolerance(env_timeout_s=60).validate()


# ---- with Ray -----------------------------------------------------------------------------------


class HangsOnce(ScriptedTeam):
    """Sleeps for an hour on finding its worker's number as a file in `config["hang"]`."""

    def step(self, action_dict):
        marker = Path(self.config["hang"]) / str(self.worker_index)
        if self.worker_index and marker.exists():
            marker.rename(marker.with_suffix(".hung"))
            time.sleep(3600)
        return super().step(action_dict)


# Remote workers cannot import this file.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_training_goes_on_with_a_new_runner(ray_local, tmp_path):
    config = (
        toys.small(HAPPOConfig(), HangsOnce, {"hang": str(tmp_path)}, batch=40)
        .env_runners(num_env_runners=2, sample_timeout_s=600)
        .fault_tolerance(env_timeout_s=5, delay_between_env_runner_restarts_s=0)
    )
    algo = config.build_algo()
    results = [algo.train()]
    (tmp_path / "1").touch()
    start = time.monotonic()
    results.append(algo.train())
    assert time.monotonic() - start < 600  # not sample_timeout_s
    assert (tmp_path / "1.hung").exists()
    while results[-1]["fault_tolerance"]["num_healthy_workers"] < 2:
        assert len(results) < 200
        time.sleep(0.1)
        results.append(algo.train())
    results.append(algo.train())
    algo.stop()
    assert results[-1]["fault_tolerance"]["num_remote_worker_restarts"] == 1
    # The survivor made up for what the hanging runner had: every batch is whole, and all of it
    # was trained on.
    sampled = [r["env_runners"]["num_env_steps_sampled"] for r in results]
    assert sampled == [40] * len(results)
    for i, r in enumerate(results, 1):
        assert r["env_runners"]["num_env_steps_sampled_lifetime"] == 40 * i
        trained = r["learners"]["__all_modules__"]["num_env_steps_trained_lifetime"]
        assert trained == 40 * i
