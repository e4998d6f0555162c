"""Numbers of joint actions, rows of one agent's actions, and choosing in turn."""

import itertools

import numpy as np
import pytest
import torch

from rllib_hetero.functional import agent_row, joint_actions, joint_index, values_in_turn

NVECS = [(3,), (2, 4), (2, 1, 3), (3, 2, 2, 4)]
SEEDS = range(3)


def enumerate_joint(nvec):
    return list(itertools.product(*(range(n) for n in nvec)))


@pytest.mark.parametrize("nvec", NVECS, ids=str)
def test_numbers_run_through_all_joint_actions(nvec):
    joint = torch.tensor(enumerate_joint(nvec))
    index = joint_index(joint, nvec)
    assert index.tolist() == list(range(len(joint)))
    assert torch.equal(joint_actions(index, nvec), joint)
    assert joint_index(joint.reshape(1, -1, len(nvec)), nvec).shape == (1, len(joint))
    with pytest.raises(ValueError, match="Actions must have shape"):
        joint_index(joint, (*nvec, 2))


@pytest.mark.parametrize("nvec", NVECS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_rows_equal_an_array_with_an_axis_for_each_agent(seed, nvec):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(8, *nvec))
    actions = np.stack([rng.integers(0, n, size=8) for n in nvec], axis=-1)
    flat, taken = torch.from_numpy(values.reshape(8, -1)), torch.from_numpy(actions)
    for i, b in itertools.product(range(len(nvec)), range(8)):
        index = (b, *actions[b, :i], slice(None), *actions[b, i + 1 :])
        row = agent_row(flat, i, taken, nvec)
        assert row.shape == (8, nvec[i])
        assert row[b].tolist() == values[index].tolist()


def test_an_agents_own_action_is_not_read():
    values, actions = torch.arange(24.0).reshape(1, -1), torch.tensor([[1, 999, 3]])
    assert agent_row(values, 1, actions, (2, 3, 4)).tolist() == [[15.0, 19.0, 23.0]]


def test_rows_reject_what_does_not_fit():
    with pytest.raises(ValueError, match="Values must have shape"):
        agent_row(torch.zeros(1, 23), 1, torch.zeros(1, 3, dtype=torch.int64), (2, 3, 4))
    with pytest.raises(ValueError, match="Values must have shape"):
        agent_row(torch.zeros(5, 24), 1, torch.zeros(1, 3, dtype=torch.int64), (2, 3, 4))


# Choosing in turn: HARL Algorithm 8.


def algorithm_8(q, actions, order, allowed):
    """The local targets of one sample, literally: each a_* is found anew from its definition.

    `q` is an array with one axis for each agent, `allowed` lists of each agent's actions.
    """

    def best(m):
        """a_*^{i_1}, .., a_*^{i_m}."""
        chosen = {}
        for j in range(m):
            own = order[j]

            def value(a, own=own):
                joint = {**dict(enumerate(actions)), **chosen, own: a}
                return q[tuple(joint[i] for i in range(len(actions)))]

            chosen[own] = max(allowed[own], key=value)
        return chosen

    targets = {}
    for m, agent in enumerate(order):
        joint = {**dict(enumerate(actions)), **best(m)}
        targets[agent] = q[tuple(joint[i] for i in range(len(actions)))]
    return targets, best(len(order))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("nvec", NVECS, ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_targets_are_those_of_the_papers_pseudocode(seed, nvec, masked):
    rng, size, n = np.random.default_rng(seed), 9, len(nvec)
    values = rng.normal(size=(size, *nvec))
    actions = np.stack([rng.integers(0, k, size=size) for k in nvec], axis=-1)
    masks = [rng.random((size, k)) < 0.5 for k in nvec]
    for mask in masks:
        mask[:, 0] |= ~mask.any(-1)
    if not masked:
        masks = [np.ones_like(m) for m in masks]
    order = rng.permutation(n).tolist()
    flat, taken = torch.from_numpy(values.reshape(size, -1)), torch.from_numpy(actions)
    out = values_in_turn(
        lambda i, joint: agent_row(flat, i, joint, nvec),
        taken,
        order,
        [torch.from_numpy(m) for m in masks] if masked else None,
    )
    assert out.values.shape == out.best.shape == (size, n)
    for b in range(size):
        allowed = [np.flatnonzero(m[b]).tolist() for m in masks]
        targets, best = algorithm_8(values[b], actions[b].tolist(), order, allowed)
        assert out.values[b].tolist() == [targets[i] for i in range(n)]
        assert out.best[b].tolist() == [best[i] for i in range(n)]
        for i in range(n):
            assert out.rows[i][b, actions[b, i]] == out.values[b, i]
    assert torch.equal(taken, torch.from_numpy(actions))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_turn_raises_the_value_and_rounds_of_turns_end_in_an_equilibrium(seed):
    rng, nvec = np.random.default_rng(seed), (3, 4, 2)
    values = torch.from_numpy(rng.normal(size=(50, 24)))
    joint = torch.from_numpy(np.stack([rng.integers(0, n, size=50) for n in nvec], axis=-1))
    for _ in range(24):
        out = values_in_turn(lambda i, a: agent_row(values, i, a, nvec), joint, [2, 0, 1])
        along = torch.stack([out.values[:, 2], out.values[:, 0], out.values[:, 1]])
        after = values.gather(-1, joint_index(out.best, nvec)[:, None])[:, 0]
        assert (along.diff(dim=0) >= 0).all() and (after >= along[-1]).all()
        if torch.equal(out.best, joint):
            break
        joint = out.best
    else:
        pytest.fail("The turns go on for ever.")
    for i in range(3):  # Nobody gains by leaving alone.
        assert (agent_row(values, i, joint, nvec).amax(-1) == after).all()


def test_an_order_of_other_agents_is_rejected():
    actions = torch.zeros(1, 2, dtype=torch.int64)
    for order in ([0], [0, 0], [1, 2]):
        with pytest.raises(ValueError, match="order"):
            values_in_turn(lambda i, a: torch.zeros(1, 2), actions, order)
