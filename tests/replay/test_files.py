"""The replay in checkpoints: the same batches, files that are shared, failures that are told."""

import errno
import resource
import shutil

import numpy as np
import pytest
import torch
from histories import KINDS, History, layout_of

from rllib_hetero.replay import JointReplay, files

GAMMA = 0.9


def replay_of(kind, *, rows=20, columns=2, **settings):
    return JointReplay(
        layout_of(kind),
        capacity=rows * columns,
        num_columns=columns,
        individual_rewards=True,
        keep_log_probs=True,
        keep_dist_inputs=True,
        sequence_length=3,
        **settings,
    )


def tensors(batch):
    """Every tensor of a batch, by name."""
    found = {}
    for name, x in vars(batch).items():
        found.update({(name, m): y for m, y in x.items()} if isinstance(x, dict) else {name: x})
    return found


def assert_same_batches(one, two, rows=slice(None)):
    """To the bit: transitions over 1 and 4 steps, and sequences if all rows are compared."""
    assert len(two) == len(np.arange(len(one))[rows])
    pairs = [
        (one.take(np.arange(len(one))[rows], n, GAMMA), two.take(np.arange(len(two)), n, GAMMA))
        for n in (1, 4)
    ]
    if rows == slice(None):
        assert one.num_sequences == two.num_sequences
        pairs.append([r.sequences(np.arange(r.num_sequences)) for r in (one, two)])
    for a, b in pairs:
        a, b = tensors(a), tensors(b)
        assert a.keys() == b.keys()
        for name, x in a.items():
            assert torch.equal(x, b[name]), name


@pytest.fixture
def small_files(monkeypatch):
    """Files of 8 rows, 4 of each of two columns."""
    monkeypatch.setattr(files, "_ROWS_PER_FILE", 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_restored_rows_give_the_same_batches(kind, seed, tmp_path, small_files):
    """After each of several saves, of which each links to the one before."""
    rng = np.random.default_rng(seed)
    replay, history, previous = replay_of(kind), History(layout_of(kind), 2, seed), None
    for i in range(7):
        for _ in range(int(rng.integers(3)) + (i == 4) * 9):
            if rng.random() < 0.2:
                history.restart()  # cuts rows that are saved already
            replay.add(history.sample(int(rng.integers(1, 7))))
        replay.save(tmp_path / str(i), previous)
        previous = tmp_path / str(i)
        restored = replay_of(kind)
        restored.restore(previous)
        assert_same_batches(replay, restored)
        if i % 3 == 2:  # goes on from the restored one
            replay = restored
            history.restart()


def test_what_was_there_before_a_restore_is_gone(tmp_path):
    empty, replay = replay_of("unequal"), replay_of("unequal")
    history = History(layout_of("unequal"), 2, seed=0)
    for _ in range(9):
        replay.add(history.sample(5, ends=0.5))
    empty.save(tmp_path / "empty")
    before = replay.nbytes
    replay.restore(tmp_path / "empty")
    assert len(replay) == replay.num_sequences == 0
    for _ in range(9):
        replay.add(history.sample(5, ends=0.5))
    assert replay.nbytes == before


def inodes(folder):
    return {p.stat().st_ino for p in folder.glob("rows-*.npz")}


def test_files_are_written_once_and_go_with_their_rows(tmp_path, small_files):
    replay, history = replay_of("shared"), History(layout_of("shared"), 2, seed=0)
    folders, written = [], []
    for i in range(16):
        replay.add(history.sample(5, fails=0.0))
        folder = tmp_path / str(i)
        replay.save(folder, folders[-1] if folders else None)
        written.append(len(inodes(folder) - (inodes(folders[-1]) if folders else set())))
        folders.append(folder)
        if i == 7:
            shutil.rmtree(folders[6])  # links need nobody
    # 5 new rows of each column, and at most the 3 of an unfinished file: 2 files of 4.
    assert max(written) <= 2
    # 20 rows of each column in files of 4; the oldest and the newest may be parts.
    assert all(len(inodes(f)) <= 7 for f in folders if f.exists())
    restored = replay_of("shared")
    restored.restore(folders[-1])
    assert_same_batches(replay, restored)


def test_without_the_earlier_files_everything_is_written(tmp_path, small_files):
    replay, history = replay_of("groups"), History(layout_of("groups"), 2, seed=0)
    replay.add(history.sample(15))
    replay.save(tmp_path / "a")
    other = replay_of("groups")
    other.add(History(layout_of("groups"), 2, seed=5).sample(15))
    other.save(tmp_path / "other")
    for i, previous in enumerate((None, tmp_path / "gone", tmp_path / "other")):
        folder = tmp_path / str(i)
        replay.save(folder, previous)
        assert inodes(folder) and not inodes(folder) & inodes(tmp_path / "a")
        restored = replay_of("groups")
        restored.restore(folder)
        assert_same_batches(replay, restored)


def test_saving_to_the_same_folder_twice(tmp_path, small_files):
    replay, history = replay_of("groups"), History(layout_of("groups"), 2, seed=0)
    for _ in range(9):
        replay.add(history.sample(4))
        replay.save(tmp_path, tmp_path)
        restored = replay_of("groups")
        restored.restore(tmp_path)
        assert_same_batches(replay, restored)
    named = {s.file for s in replay._files._stretches} | {files.NEWEST, files.MANIFEST}
    assert {p.name for p in tmp_path.iterdir()} == named


@pytest.fixture
def no_room():
    """Files cannot grow beyond so many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 3_000, 5_000])
def test_a_disk_that_is_full_leaves_the_earlier_checkpoint_whole(tmp_path, no_room, room):
    replay, history = replay_of("unequal", rows=200), History(layout_of("unequal"), 2, seed=0)
    replay.add(history.sample(10))
    replay.save(tmp_path / "a")
    earlier = replay_of("unequal", rows=200)
    earlier.restore(tmp_path / "a")
    contents = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    replay.add(history.sample(150))
    no_room(room)
    with pytest.raises(OSError, match=r"not be written to .*b': .*earlier checkpoints are whole"):
        replay.save(tmp_path / "b", tmp_path / "a")
    no_room(resource.RLIM_INFINITY)
    assert not (tmp_path / "b").exists()
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == contents
    restored = replay_of("unequal", rows=200)
    restored.restore(tmp_path / "a")
    assert_same_batches(earlier, restored)
    replay.save(tmp_path / "b", tmp_path / "a")  # there is room again
    restored.restore(tmp_path / "b")
    assert_same_batches(replay, restored)


def test_a_failed_save_over_an_earlier_one(tmp_path, no_room):
    replay, history = replay_of("shared", rows=200), History(layout_of("shared"), 2, seed=0)
    replay.add(history.sample(10))
    replay.save(tmp_path)
    contents = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    replay.add(history.sample(150))
    no_room(3_000)
    with pytest.raises(OSError, match="earlier checkpoints are whole") as caught:
        replay.save(tmp_path, tmp_path)
    no_room(resource.RLIM_INFINITY)
    assert caught.value.errno == errno.EFBIG
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == contents


def test_columns_dealt_anew(tmp_path, small_files):
    """From one learner's four columns to two learners' two each, and back."""
    one, history = replay_of("groups", columns=4), History(layout_of("groups"), 4, seed=0)
    for _ in range(6):
        one.add(history.sample(6))
    one.save(tmp_path / "one")
    halves, length = [], 0
    for k in range(2):
        half = replay_of("groups", columns=2)
        half.restore(tmp_path / "one", range(2 * k, 2 * k + 2))
        assert_same_batches(one, half, slice(length, length + len(half)))
        length += len(half)
        half.save(tmp_path / str(k), tmp_path / "one")
        halves.append(half)
    assert length == len(one)
    again = replay_of("groups", columns=4)
    for k in range(2):
        again.restore(tmp_path / str(k), first_column=2 * k)
    assert_same_batches(one, again)
    again.save(tmp_path / "again", tmp_path / "one")
    assert not inodes(tmp_path / "again") & inodes(tmp_path / "one")
    with pytest.raises(ValueError, match="has 4 columns, and this one 2"):
        halves[0].restore(tmp_path / "one")
    with pytest.raises(ValueError, match=r"range\(3, 5\) cannot be read"):
        halves[0].restore(tmp_path / "one", range(3, 5))


def test_another_capacity(tmp_path, small_files):
    replay, history = replay_of("shared", columns=1), History(layout_of("shared"), 1, seed=0)
    for _ in range(9):
        replay.add(history.sample(5, fails=0.0))
    replay.save(tmp_path)
    larger, smaller = (replay_of("shared", columns=1, rows=n) for n in (33, 9))
    larger.restore(tmp_path)
    assert_same_batches(replay, larger)
    smaller.restore(tmp_path)
    assert_same_batches(replay, smaller, slice(11, None))
    history.restart()
    for r in (larger, smaller):
        r.add(history.sample(1))
        assert len(r) == (21 if r is larger else 9)


def test_what_cannot_be_restored(tmp_path):
    replay, history = replay_of("unequal"), History(layout_of("unequal"), 2, seed=0)
    replay.add(history.sample(9))
    with pytest.raises(ValueError, match=r"no whole replay in .*nowhere'"):
        replay.restore(tmp_path / "nowhere")
    replay.save(tmp_path)
    with pytest.raises(ValueError, match=r"another team .* its agents is \['c', 'a', 'b'\]"):
        replay_of("shared").restore(tmp_path)
    other = JointReplay(layout_of("unequal"), capacity=40, num_columns=2)
    with pytest.raises(ValueError, match="its widths is"):
        other.restore(tmp_path)
    assert len(replay) > 0
    (path,) = tmp_path.glob("rows-*.npz")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:500] + b"\0" * 64 + whole[564:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"file .*rows-.* cannot be read"):
            replay.restore(tmp_path)
        assert len(replay) == 0
    path.unlink()
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        replay.restore(tmp_path)
    manifest = (tmp_path / files.MANIFEST).read_text()
    for old, new in ((path.name, f"../{path.name}"), ('"counts"', '"x"'), ("{", "")):
        (tmp_path / files.MANIFEST).write_text(manifest.replace(old, new, 1))
        with pytest.raises(ValueError, match=r"manifest\.json in .* cannot be read"):
            replay.restore(tmp_path)
