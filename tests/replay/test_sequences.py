"""Stretches of episodes, against lists of steps that are cut up one by one."""

import numpy as np
import pytest
from histories import KINDS, History, assert_moment, layout_of

from rllib_hetero.replay import JointReplay


def windows(history, rows, length):
    """(column, first, end) in its list: the steps 0, L, 2 L, ... of what is known of an episode."""
    found = []
    for e, c in enumerate(history.columns):
        step = 0
        for i, one in enumerate(c.given):
            if i and c.given[i - 1].end != "goes on":
                step = 0
            if step % length == 0 and i >= len(c.given) - rows:
                end = i + 1
                while end < min(len(c.given), i + length) and c.given[end - 1].end == "goes on":
                    end += 1
                found.append((e, i, end))
            step += 1
            assert one.marker
    return found


def assert_same_as_cut_up(replay, history, rows, length):
    layout = history.layout
    expected = windows(history, rows, length)
    assert replay.num_sequences == len(expected)
    batch = replay.sequences(np.arange(len(expected)))
    assert batch.filled.sum(1).tolist() == [end - first for _, first, end in expected]
    for i, (e, first, end) in enumerate(expected):
        steps = history.columns[e].given[first:end]
        moments = [s.before for s in steps]
        moments.append(None if steps[-1].end == "terminated" else steps[-1].after)
        moments += [None] * (length - len(steps))
        for t, moment in enumerate(moments):
            row = (i, t)
            assert_moment(
                layout, moment, row, batch.observations, batch.active, batch.masks, batch.state
            )
        for t in range(length):
            there = t < len(steps)
            assert batch.filled[i, t] == there
            assert batch.terminated[i, t] == (there and steps[t].end == "terminated")
            rewards = steps[t].rewards if there else 0 * steps[0].rewards
            np.testing.assert_array_equal(batch.agent_rewards[i, t], rewards)
            assert batch.rewards[i, t] == layout.team.team_reward(rewards)
            for agent, (m, k) in layout.slot_of.items():
                action = steps[t].actions[agent] if there else 0
                assert (batch.actions[m][i, t, k].numpy() == action).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_every_stretch_is_what_was_sampled(kind, seed):
    rng = np.random.default_rng(seed)
    layout, num_envs, length = layout_of(kind), 2, int(rng.integers(1, 6))
    rows = int(rng.integers(length, 20))
    replay = JointReplay(
        layout,
        capacity=rows * num_envs,
        num_columns=num_envs,
        individual_rewards=True,
        sequence_length=length,
    )
    history = History(layout, num_envs, seed)
    for i in range(8):
        if rng.random() < 0.15:
            history.restart()
        if rng.random() < 0.15:
            history.sample(int(rng.integers(1, 9)), lost=True)
        replay.add(history.sample(rows + 3 if i == 4 else int(rng.integers(1, 9))))
        assert_same_as_cut_up(replay, history, rows, length)


def test_sequences_must_be_asked_for_and_fit():
    layout = layout_of("shared")
    with pytest.raises(ValueError, match="sequence_length=L"):
        _ = JointReplay(layout, capacity=8, num_columns=2).num_sequences
    with pytest.raises(ValueError, match=r"Sequences of 5 steps .* 4 rows for each environment"):
        JointReplay(layout, capacity=8, num_columns=2, sequence_length=5)
    replay = JointReplay(layout, capacity=8, num_columns=2, sequence_length=4)
    assert replay.num_sequences == 0 and len(replay.sequences(np.zeros(0, np.int64))) == 0
    with pytest.raises(ValueError, match=r"Indices must be in \[0, 0\)"):
        replay.sequences(np.zeros(1, np.int64))
