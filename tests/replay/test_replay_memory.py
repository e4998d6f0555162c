"""How much memory a replay takes, in RAM and in files."""

import errno
import os
import resource

import numpy as np
import pytest
from histories import KINDS, History, layout_of
from test_files import assert_same_batches

from rllib_hetero import TeamError
from rllib_hetero.replay import JointReplay, bytes_needed, check_memory, free_memory
from rllib_hetero.replay import joint_replay as module


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"individual_rewards": True, "keep_log_probs": True, "keep_dist_inputs": True},
        {"sequence_length": 7},
    ],
    ids=str,
)
def test_it_is_known_before(kind, settings):
    layout = layout_of(kind)
    replay = JointReplay(layout, capacity=1003, num_columns=4, **settings)
    assert replay.nbytes == bytes_needed(layout, 1003, 4, **settings)
    history = History(layout, 4, seed=0)
    for _ in range(6):  # five episodes in six are cut by a failure or at their end
        replay.add(history.sample(50, ends=0.1, fails=0.05))
    assert replay.nbytes <= bytes_needed(layout, 1003, 4, episode_length=6.0, **settings)


def test_the_formula():
    """unequal: 13 + 4 numbers seen, 2 + 1 + 2 done, masks of 4 + 5, three agents."""
    per_row = 4 * 17 + 4 * 5 + 4 + 3 + 9 + 4
    layout = layout_of("unequal")
    more, less = (bytes_needed(layout, n, 1) for n in (1100, 100))
    assert more - less == 1000 * per_row
    finals = [bytes_needed(layout, 1000, 1, episode_length=n) for n in (9.0, None)]
    assert finals[0] - finals[1] == 125 * (4 * 17 + 3 + 9)


def test_one_copy_of_the_rows():
    """Rows of 54 numbers seen and 15 done, episodes of 25 steps: a tenth above one copy at most."""
    from benchmarks.replay import ENVS, copy_of_rows, fragment, spread

    layout, rng = spread(), np.random.default_rng(0)
    replay = JointReplay(layout, capacity=100 * ENVS, num_columns=ENVS)
    for number in range(6):
        replay.add(fragment(layout, 50, number, rng))
    assert len(replay) == replay.capacity
    assert replay.nbytes <= 1.1 * copy_of_rows(replay.capacity)


def test_what_does_not_fit_is_refused(monkeypatch):
    layout = layout_of("shared")
    needed = bytes_needed(layout, 1000, 2)
    check_memory(needed, needed)
    check_memory(needed, None)
    with pytest.raises(TeamError, match=r"takes 2\.0 GiB, and 1\.5 GiB.*capacity.*folder"):
        check_memory(2 * 2**30, 3 * 2**29)
    monkeypatch.setattr(module, "free_memory", lambda: needed - 1)
    with pytest.raises(TeamError, match="A full replay takes"):
        JointReplay(layout, capacity=1000, num_columns=2)
    assert len(JointReplay(layout, capacity=999, num_columns=2)) == 0


def test_free_memory():
    free = free_memory()
    assert free is None or 0 <= free < 2**60
    with pytest.raises(TeamError, match="A full replay takes"):
        check_memory(2**60, 2**40 if free is None else free)


# ---- in files -------------------------------------------------------------------------------


def test_rows_in_files_are_the_same_rows(tmp_path):
    layout = layout_of("unequal")
    settings = {"capacity": 60, "num_columns": 2, "sequence_length": 4, "individual_rewards": True}
    replays = [JointReplay(layout, **settings, folder=f) for f in (None, tmp_path / "new")]
    history = History(layout, 2, seed=3)
    for _ in range(30):  # so many final observations that their table grows
        fragment = history.sample(5, ends=0.7)
        for replay in replays:
            replay.add(fragment)
        assert_same_batches(*replays)
    assert replays[0].nbytes == replays[1].nbytes
    assert not list((tmp_path / "new").iterdir())  # nobody else can open them
    replays[1].save(tmp_path / "saved")
    restored = JointReplay(layout, **settings, folder=tmp_path)
    restored.restore(tmp_path / "saved")
    assert_same_batches(replays[0], restored)


def test_a_disk_that_is_too_small(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"folder .* does not take another .* MiB: .*capacity"
        ) as e:
            JointReplay(layout_of("shared"), capacity=10_000, num_columns=2, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert e.value.errno == errno.EFBIG


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"folder .* does not take"):
        JointReplay(
            layout_of("shared"), capacity=100, num_columns=2, folder=os.fspath(tmp_path / "file")
        )
