"""Rows drawn by priority, against cumulative sums of a plain list."""

import numpy as np
import pytest
from histories import History, layout_of

from rllib_hetero.replay import JointReplay, bytes_needed, importance_weights, stratified
from rllib_hetero.replay.priorities import SumTree


@pytest.mark.parametrize("size", [1, 2, 5, 64, 1000])
def test_a_tree_finds_what_a_list_finds(size):
    rng = np.random.default_rng(size)
    tree, numbers = SumTree(size, np.zeros), np.zeros(size)
    for _ in range(20):
        places = rng.integers(size, size=rng.integers(1, 50))
        new = rng.integers(0, 4, size=len(places)).astype(float)  # sums of these are exact
        for place, number in zip(places, new, strict=True):
            numbers[place] = number
        tree.set(places, new)
        assert tree.total == numbers.sum() and np.array_equal(tree.get(np.arange(size)), numbers)
        if tree.total:
            sums = np.append(rng.random(100) * tree.total, np.arange(tree.total))
            expected = np.searchsorted(numbers.cumsum(), sums, side="right")
            assert np.array_equal(tree.find(sums), expected)


def test_sums_do_not_depend_on_the_order_of_setting():
    rng = np.random.default_rng(0)
    numbers, tree, again = rng.random(300), SumTree(300, np.zeros), SumTree(300, np.zeros)
    tree.set(np.arange(300), rng.random(300))
    for place in rng.permutation(300):
        tree.set(np.array([place]), numbers[place])
    again.set(np.arange(300), numbers)
    assert np.array_equal(tree._nodes, again._nodes)


def test_rounding_leads_to_no_empty_place():
    tree = SumTree(8, np.zeros)
    tree.set(np.array([1, 6]), np.array([0.1, 0.2]))
    beyond = np.array([0.0, 0.1, np.nextafter(tree.total, 0.0), tree.total, 1.0])
    assert tree.find(beyond).tolist() == [1, 6, 6, 6, 6]


def replay_of(rows=30, **settings):
    layout = layout_of("groups")
    return JointReplay(layout, capacity=3 * rows, num_columns=3, alpha=0.6, **settings)


def priorities_of(replay):
    """p^alpha of each row, in the order of their indices, by asking for every one of them."""
    places = replay._rings.place(*replay._rings.locate(np.arange(len(replay))))
    return replay.priorities.tree.get(places)


def test_priorities_stay_with_their_rows():
    """New rows get the largest priority; rows that go take theirs along."""
    replay, history = replay_of(), History(layout_of("groups"), 3, seed=0)
    rng = np.random.default_rng(0)
    known, largest = {}, 1.0
    for _ in range(25):
        replay.add(history.sample(int(rng.integers(1, 9))))
        rows = [id(history.columns[e].given[i]) for e, i in history.rows(30)]
        for row in rows:
            known.setdefault(row, largest)
        indices = rng.integers(len(replay), size=10)
        errors = rng.normal(size=10) * 3
        replay.update_priorities(indices, errors)
        for i, error in zip(indices, errors, strict=True):
            known[rows[i]] = (abs(error) + 1e-6) ** 0.6
        largest = max(largest, *((np.abs(errors) + 1e-6) ** 0.6))
        expected = np.array([known[row] for row in rows])
        np.testing.assert_allclose(priorities_of(replay), expected)
        np.testing.assert_allclose(replay.priorities.tree.total, expected.sum())
        np.testing.assert_allclose(replay.priorities.largest, largest)


def test_rows_are_drawn_in_proportion():
    replay, history = replay_of(), History(layout_of("groups"), 3, seed=0)
    replay.add(history.sample(30, fails=0.0))
    errors = np.arange(90.0)
    replay.update_priorities(np.arange(90), errors)
    total = replay.priorities.tree.total
    counts = np.zeros(90)
    for update in range(100):
        indices, priorities = replay.find(stratified((1, update), total, 90))
        np.testing.assert_allclose(priorities, (errors[indices] + 1e-6) ** 0.6)
        counts += np.bincount(indices, minlength=90)
    expected = 9000 * (errors + 1e-6) ** 0.6 / total
    # Of strata of mass 1, each row's count is off by less than a binomial's five deviations.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 1).all()
    # The weights make the mean over what is drawn the mean over all.
    indices, priorities = replay.find(stratified((2, 0), total, 20_000))
    weights = importance_weights(priorities, total, 90, beta=1.0)
    values = np.sin(errors)
    # Row 0 is hardly ever drawn, as its error is 0.
    assert np.mean(weights * values[indices]) == pytest.approx(values.mean(), abs=0.02)
    assert (importance_weights(priorities, total, 90, beta=0.0) == 1.0).all()


def test_strata():
    sums = stratified((3, 1), 7.0, 1000)
    assert (np.floor(sums * 1000 / 7.0) == np.arange(1000)).mean() > 0.99
    assert np.array_equal(sums, stratified((3, 1), 7.0, 1000)) and (sums < 7.0).all()
    assert not np.array_equal(sums, stratified((3, 2), 7.0, 1000))
    with pytest.raises(ValueError, match="empty: sample before"):
        stratified((3, 1), 0.0, 10)


def test_learners_end_to_end_are_one_learner():
    """A learner finds its own sums behind those of the learners before it."""
    one, history = replay_of(), History(layout_of("groups"), 3, seed=0)
    parts = [
        JointReplay(layout_of("groups"), capacity=30 * n, num_columns=n, alpha=0.6) for n in (1, 2)
    ]
    rng = np.random.default_rng(0)
    for _ in range(8):
        fragment = history.sample(6)
        one.add(fragment)
        parts[0].add(fragment.select(range(1)))
        parts[1].add(fragment.select(range(1, 3)))
        errors = rng.integers(1, 9, size=len(one)).astype(float)
        split = len(parts[0])
        one.update_priorities(np.arange(len(one)), errors)
        parts[0].update_priorities(np.arange(split), errors[:split])
        parts[1].update_priorities(np.arange(len(parts[1])), errors[split:])
        first, second = (p.priorities.tree.total for p in parts)
        sums = stratified((0, 0), first + second, 50)
        found = [
            parts[0].find(sums[sums < first])[0],
            parts[1].find(sums[sums >= first] - first)[0],
        ]
        assert np.array_equal(np.append(found[0], found[1] + split), one.find(sums)[0])


def test_priorities_are_part_of_a_checkpoint(tmp_path):
    replay, history = replay_of(), History(layout_of("groups"), 3, seed=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        replay.add(history.sample(5))
        replay.update_priorities(rng.integers(len(replay), size=20), rng.normal(size=20))
    replay.save(tmp_path)
    restored = replay_of()
    restored.add(history.sample(9))
    restored.restore(tmp_path)
    assert np.array_equal(restored.priorities.tree._nodes, replay.priorities.tree._nodes)
    assert restored.priorities.largest == replay.priorities.largest > 1.0
    # Two of its columns, the newest rows of them; and one that has none.
    part = JointReplay(layout_of("groups"), capacity=14, num_columns=2, alpha=0.6)
    part.restore(tmp_path, range(1, 3))
    starts = np.append(0, replay._rings.counts.cumsum())
    ends = [priorities_of(replay)[starts[c + 1] - 7 : starts[c + 1]] for c in (1, 2)]
    assert np.array_equal(priorities_of(part), np.concatenate(ends))
    plain = JointReplay(layout_of("groups"), capacity=90, num_columns=3)
    plain.restore(tmp_path)
    plain.save(tmp_path / "plain")
    restored.restore(tmp_path / "plain")
    assert (priorities_of(restored) == restored.priorities.largest).all()


def test_memory_and_what_must_be_asked_for():
    layout = layout_of("groups")
    assert replay_of().nbytes == bytes_needed(layout, 90, 3, prioritized=True)
    plain = JointReplay(layout, capacity=90, num_columns=3)
    for call in (lambda: plain.find(np.zeros(1)), lambda: plain.priorities):
        with pytest.raises(ValueError, match="alpha"):
            call()
