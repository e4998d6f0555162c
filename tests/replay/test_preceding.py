"""What came before a row, and which rows follow each other, against lists of steps."""

import numpy as np
import pytest
from histories import KINDS, History, layout_of, observed

from rllib_hetero.replay import JointReplay


def filled(kind, seed):
    """A replay whose rings have gone round, with ends, failures, losses and restarts."""
    layout = layout_of(kind)
    replay = JointReplay(layout, capacity=3 * 20, num_columns=3)
    history = History(layout, 3, seed)
    for number in range(8):
        if number == 3:
            history.restart()
        if number == 5:
            history.sample(3, lost=True)
        replay.add(history.sample(5))
    return layout, replay, history


@pytest.mark.parametrize("kind", KINDS)
def test_preceding_steps_are_those_of_the_episode(kind):
    layout, replay, history = filled(kind, seed=1)
    rows = history.rows(20)
    found = replay.preceding(np.arange(len(replay)), steps=4)
    counts = []
    for i, (e, j) in enumerate(rows):
        given, oldest = history.columns[e].given, len(history.columns[e].given) - 20
        before = []
        while j - len(before) - 1 >= max(oldest, 0) and len(before) < 4:
            step = given[j - len(before) - 1]
            if step.end != "goes on":
                break
            before.insert(0, step)
        counts.append(len(before))
        assert found.filled[i].tolist() == [t < len(before) for t in range(4)]
        for m, agents in layout.groups.items():
            for t, step in enumerate(before):
                seen = observed(layout, step.before, m)
                np.testing.assert_array_equal(found.observations[m][i, t], seen)
                alive = [step.before.alive[a] for a in agents]
                assert found.active[m][i, t].tolist() == alive
                for k, agent in enumerate(agents):
                    np.testing.assert_array_equal(found.actions[m][i, t, k], step.actions[agent])
            size = layout.team.observation_spaces[agents[0]].shape[0]
            assert not found.observations[m][i, len(before) :, :, :size].any()
            assert not found.active[m][i, len(before) :].any()
    assert set(counts) == {0, 1, 2, 3, 4}


def test_runs_are_the_rows_in_order():
    _, replay, history = filled("unequal", seed=2)
    expected = []
    for e, column in enumerate(history.columns):
        left = [column.given[j] for i, j in history.rows(20) if i == e]
        expected.append(0)
        for step in left:
            expected[-1] += 1
            if step.end != "goes on" and step is not left[-1]:
                expected.append(0)
    assert replay.run_lengths().tolist() == expected
    assert sum(expected) == len(replay)


def test_nothing_to_look_at():
    _, replay, _ = filled("shared", seed=0)
    with pytest.raises(ValueError, match="At least one step"):
        replay.preceding(np.arange(2), steps=0)
    empty = JointReplay(layout_of("shared"), capacity=4, num_columns=2)
    assert empty.run_lengths().tolist() == []
