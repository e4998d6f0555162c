"""The replay against lists of steps that are walked over one by one."""

import dataclasses

import numpy as np
import pytest
from histories import KINDS, History, assert_moment, layout_of

from rllib_hetero.replay import JointReplay, bytes_needed, uniform

GAMMA = 0.9


def assert_same_as_walked(replay, history, n_step):
    """Every row of the replay is that of the lists, in the same order."""
    layout = history.layout
    expected = history.rows(replay.capacity // replay.num_columns)
    assert len(replay) == len(expected)
    batch = replay.take(np.arange(len(replay)), n_step, GAMMA)
    # Terms of size 1 to 3, n of them, rounded once to float32 at the end.
    rounding = 1e-6 * n_step
    for i, (e, j) in enumerate(expected):
        step = history.columns[e].given[j]
        reward, agents, discount, after = history.walk(e, j, n_step, GAMMA)
        assert batch.rewards[i] == pytest.approx(reward, abs=rounding, rel=1e-6)
        assert batch.discount[i] == pytest.approx(discount, rel=1e-6)
        np.testing.assert_allclose(batch.agent_rewards[i], agents, atol=rounding, rtol=1e-6)
        assert_moment(
            layout, step.before, i, batch.observations, batch.active, batch.masks, batch.state
        )
        assert_moment(
            layout,
            after,
            i,
            batch.next_observations,
            batch.next_active,
            batch.next_masks,
            batch.next_state,
        )
        for agent, (m, k) in layout.slot_of.items():
            np.testing.assert_array_equal(batch.actions[m][i, k], step.actions[agent])
            assert batch.log_probs[m][i, k] == np.float32(step.log_probs[agent])
            expected = step.dist_inputs[agent].astype(np.float32)
            np.testing.assert_array_equal(batch.dist_inputs[m][i, k], expected)
    return batch


def assert_moments_of_all_rows(replay, history):
    """Of the team's rewards and the agents', whichever rows are left."""
    rows = history.rows(replay.capacity // replay.num_columns)
    walked = [history.walk(e, j, 1, GAMMA)[:2] for e, j in rows]
    every = np.array([[team, *agents] for team, agents in walked], np.float32).astype(np.float64)
    expected = np.concatenate([[len(rows)], every.sum(0), (every**2).sum(0)])
    # The team's reward is a sum in single precision, of numbers below 10; so are its terms.
    rounding = 1e-5 * len(rows)
    np.testing.assert_allclose(replay.reward_moments(), expected, rtol=0, atol=rounding)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_what_was_sampled(kind, seed):
    """Random lengths, ends, failures, losses and restarts, over several rounds of the rings."""
    rng = np.random.default_rng(seed)
    layout, num_envs = layout_of(kind), int(rng.integers(1, 4))
    rows = int(rng.integers(5, 30))
    replay = JointReplay(
        layout,
        capacity=rows * num_envs + int(rng.integers(num_envs)),
        num_columns=num_envs,
        individual_rewards=True,
        keep_log_probs=True,
        keep_dist_inputs=True,
    )
    history = History(layout, num_envs, seed)
    for _ in range(10):
        if rng.random() < 0.15:
            history.restart()
        if rng.random() < 0.15:
            history.sample(int(rng.integers(1, 9)), lost=True)
        length = int(rng.integers(1, 9) if rng.random() < 0.9 else rows + rng.integers(4))
        replay.add(history.sample(length))
        assert_same_as_walked(replay, history, int(rng.integers(1, min(rows, 12) + 1)))
        assert_moments_of_all_rows(replay, history)


def markers(moments):
    """The markers of the episodes in observations (..., n, d); 0 for the dead."""
    return moments[..., 0].max(-1).values


@pytest.mark.parametrize("n_step", [1, 3, 40])
def test_no_transition_joins_two_episodes(n_step):
    """Every episode has a marker, which all agents see that are alive."""
    layout = layout_of("groups")
    replay = JointReplay(layout, capacity=3 * 50, num_columns=3)
    history = History(layout, 3, seed=7)
    for i in range(60):
        if i % 9 == 8:
            history.restart()
        history.sample(3, lost=True) if i % 7 == 6 else replay.add(history.sample(4))
        batch = replay.take(np.arange(len(replay)), n_step)
        goes_on = batch.discount > 0
        before = markers(batch.observations["ca"])[goes_on]
        after = markers(batch.next_observations["ca"])[goes_on]
        assert goes_on.any() and ((before == after) | (before == 0) | (after == 0)).all()
    assert len(replay) == 150


def test_a_runner_made_anew_whose_first_fragment_is_lost():
    """Its second fragment has the number that was to come, and goes on with an episode."""
    layout = layout_of("unequal")
    replay = JointReplay(layout, capacity=100, num_columns=2, individual_rewards=True)
    history = History(layout, 2, seed=1)
    never = {"ends": 0.0, "fails": 0.0}
    replay.add(history.sample(3, **never))
    history.restart()
    history.sample(3, lost=True, **never)
    fragment = history.sample(3, **never)
    assert fragment.source == (1, 1) and fragment.continues.all()
    replay.add(fragment)
    batch = replay.take(np.arange(12), 4, GAMMA)
    assert batch.state[:, 0].tolist() == batch.next_state[:, 0].tolist()


def test_episodes_that_look_alike():
    """What is seen never changes: only the runner's word tells where an episode begins."""
    layout = layout_of("groups")
    history = History(layout, 1, seed=1)
    fragments = [history.sample(4, ends=0.0, fails=0.0) for _ in range(3)]
    for f in fragments:
        for x in (*f.observations.values(), *f.last_observations.values()):
            x[...] = 1.0
    not_first = np.array([[False], [True], [True], [True]])
    for changes, episodes in (
        ({}, [12]),
        ({"continues": np.array([False])}, [4, 8]),
        ({"valid": not_first}, [4, 7]),
        ({"source": (1, 5)}, [4, 4, 4]),
        ({"source": None}, [4, 4, 4]),
    ):
        replay = JointReplay(layout, capacity=50, num_columns=1)
        for f in (fragments[0], dataclasses.replace(fragments[1], **changes), fragments[2]):
            replay.add(f)
        discount = replay.take(np.arange(len(replay)), 12, 0.5).discount
        walked = [n for length in episodes for n in range(length, 0, -1)]
        assert discount.tolist() == [0.5**n for n in walked]


def test_final_observations_make_room_for_others():
    layout = layout_of("unequal")
    replay = JointReplay(layout, capacity=40, num_columns=2)
    history = History(layout, 2, seed=2)
    sizes = []
    for _ in range(60):
        replay.add(history.sample(10, ends=0.9, fails=0.0))
        sizes.append(replay.nbytes)
    assert len(set(sizes[20:])) == 1


# ---- what is refused ------------------------------------------------------------------------


def test_fragments_that_would_join_episodes():
    layout = layout_of("shared")
    replay = JointReplay(layout, capacity=60, num_columns=2)
    history = History(layout, 2, seed=4)
    f = history.sample(20, ends=0.5)
    few = dataclasses.replace(f.finals, step=f.finals.step[1:], env=f.finals.env[1:])
    with pytest.raises(ValueError, match="lacks the true final observation"):
        replay.add(dataclasses.replace(f, finals=few))
    valid = np.ones((20, 2), bool)
    goes_on = np.argwhere(~(f.terminated | f.truncated)[:-1] & f.valid[1:])[0]
    valid[goes_on[0] + 1, goes_on[1]] = False
    with pytest.raises(ValueError, match="does not end an episode before the step that failed"):
        replay.add(dataclasses.replace(f, valid=valid))
    assert len(replay) == 0
    replay.add(f)
    assert len(replay) == f.env_steps()


def test_columns_indices_and_steps_out_of_range():
    layout = layout_of("groups")
    with pytest.raises(ValueError, match="2 rows for 3 environments has not a row for each"):
        JointReplay(layout, capacity=2, num_columns=3)
    replay = JointReplay(layout, capacity=10, num_columns=2)
    fragment = History(layout, 2, seed=0).sample(3, fails=0.0)
    for first in (-1, 1):
        with pytest.raises(ValueError, match="have no columns: there are 2"):
            replay.add(fragment, first)
    replay.add(fragment)
    for index in (-1, 6):
        with pytest.raises(ValueError, match=r"in \[0, 6\)"):
            replay.take(np.array([0, index]))
    for n_step in (0, 6):
        with pytest.raises(
            ValueError, match=r"Returns over . steps .* 5 rows for each environment"
        ):
            replay.take(np.arange(2), n_step)
    assert len(replay.take(np.zeros(0, np.int64), 5)) == 0
    with pytest.raises(ValueError, match="empty: sample before"):
        uniform((0, 1), 0, 10)


def test_agents_that_act_in_sequence_have_no_replay():
    layout = dataclasses.replace(layout_of("shared"), autoregressive=True)
    with pytest.raises(ValueError, match="act in sequence learn on-policy"):
        JointReplay(layout, capacity=10, num_columns=2)


def test_uniform_draws_are_alike_everywhere():
    drawn = uniform((3, 7, 1), 50, 5000)
    assert np.array_equal(drawn, uniform((3, 7, 1), 50, 5000))
    assert not np.array_equal(drawn, uniform((3, 8, 1), 50, 5000))
    counts = np.bincount(drawn, minlength=50)
    assert len(counts) == 50 and (np.abs(counts - 100) < 5 * 10).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_of_some_agents_gives_what_the_whole_one_gives_of_them(kind):
    layout = layout_of(kind)
    module = sorted(layout.groups)[0]
    agents = layout.groups[module]
    kept = {"individual_rewards": True, "keep_log_probs": True}
    settings = {"capacity": 40, "num_columns": 2} | kept
    whole = JointReplay(layout, **settings)
    part = JointReplay(layout, agents=agents, **settings)
    history = History(layout, 2, seed=3)
    for _ in range(5):
        fragment = history.sample(9)
        whole.add(fragment)
        part.add(fragment)
    assert set(part.agents) == set(agents)
    own = [whole.agents.index(a) for a in part.agents]
    rows = np.arange(len(whole))
    one, other = whole.take(rows, 3), part.take(rows, 3)
    for name in ("observations", "next_observations", "active", "next_active", "actions", "masks"):
        expected, found = getattr(one, name), getattr(other, name)
        assert set(found) == {module} & set(expected), name
        for m in found:
            np.testing.assert_array_equal(found[m], expected[m])
    np.testing.assert_array_equal(other.log_probs[module], one.log_probs[module])
    np.testing.assert_array_equal(other.agent_rewards, one.agent_rewards[:, own])
    np.testing.assert_array_equal(other.discount, one.discount)
    size = len(part.take(rows[:1]).state[0])
    assert size == sum(layout.team.observation_spaces[a].shape[0] for a in agents)
    moments = np.split(whole.reward_moments()[1:], 2)
    expected = [len(whole), *(x[[0, *(1 + i for i in own)]] for x in moments)]
    np.testing.assert_array_equal(part.reward_moments(), np.hstack(expected))
    assert part.nbytes == bytes_needed(layout, 40, 2, agents=agents, **kept)
