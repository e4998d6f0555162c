"""What all tests share. This file's folder is on `sys.path`, so `import toys` works everywhere."""

import atexit
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's processes would give way to all others: on a busy machine a test would wait for minutes.
os.environ.setdefault("RAY_worker_niceness", "0")
# Whatever jax compiles is compiled once for all processes of a session.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder = tempfile.mkdtemp(prefix="jax")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
# RLlib imports jax wherever it is installed: a second for each of many processes.
os.environ.setdefault("RLLIB_TEST_NO_JAX_IMPORT", "1")
import toys
from ray.rllib.connectors import connector_v2
from ray.tune.trainable import trainable
from ray.tune.utils import UtilMonitor


def two_frames():
    """The caller's and that one's caller's: all that RLlib reads of `inspect.stack()`."""
    frame = sys._getframe(1)
    return [SimpleNamespace(frame=frame), SimpleNamespace(frame=frame.f_back)]


# Every connector asks for the whole stack, which looks up each frame's source in all modules. With
# a stack as deep as pytest's that took four fifths of the time of making an algorithm.
connector_v2.inspect = SimpleNamespace(stack=two_frames, getargvalues=inspect.getargvalues)

# The machine's load is read in a thread that sleeps in between, and every `stop()` waits for it.
trainable.UtilMonitor = lambda start: UtilMonitor(start=False)

# Toy networks: a second thread would only wait for the first.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_results_at_home():
    """Algorithms write their logs into a folder of the session instead of ~/ray_results."""
    folder = tempfile.mkdtemp(prefix="results")
    before, trainable.DEFAULT_STORAGE_PATH = trainable.DEFAULT_STORAGE_PATH, folder
    yield
    trainable.DEFAULT_STORAGE_PATH = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_local():
    """A Ray of 4 CPUs on this machine, for the whole session; the one that runs if one does."""
    import ray

    # Remote workers are given the toys by value: they cannot import them.
    ray.cloudpickle.register_pickle_by_value(toys)
    if ray.is_initialized():
        yield
        return
    # With a token, Ray would write one into the home folder.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    # Directly below /tmp: Ray's sockets live there, and their paths must be short.
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    for last in (False, False, True):
        try:
            ray.init(
                address="local",
                num_cpus=4,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=200_000_000,
                _temp_dir=folder,
            )
            break
        except Exception as problem:
            # Ray allows itself 30 seconds, and a busy machine may take longer.
            if last or "timed out during startup" not in str(problem):
                raise
            ray.shutdown()
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pair(ray_local):
    """Two processes that train a learner of any config together; see `learner_pairs.Pair`."""
    from learner_pairs import Pair

    pair = Pair()
    yield pair
    pair.stop()


@pytest.fixture
def counting_team():
    """The class of a deterministic environment with unequal agents; see `toys.CountingTeam`."""
    return toys.CountingTeam


@pytest.fixture
def matrix_team():
    """The class of a one-state game given by its payoffs; see `toys.MatrixTeam`."""
    return toys.MatrixTeam
