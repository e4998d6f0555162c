"""Running statistics of inputs, and that all parts of a minibatch count alike."""

import torch

from rllib_hetero.modules.input_norm import MOMENTUM, InputNorm, RunningNorm, moments_of


def test_it_starts_as_the_identity_and_comes_to_mean_0_and_deviation_1():
    torch.manual_seed(0)
    x = torch.randn(4000, 3) * torch.tensor([1.0, 5.0, 0.01]) + torch.tensor([0.0, 30.0, -2.0])
    norm = InputNorm(3)
    near = x[:, :1] / x[:, :1].abs().max()
    assert torch.allclose(InputNorm(1)(near), near, atol=1e-5)
    for part in x.split(500):
        norm.update(moments_of(part, torch.ones(len(part))))
    out = norm(x)
    # Statistics over all parts: the first minibatches are averaged plainly.
    assert float(out.mean(0).abs().max()) < 1e-2
    assert torch.allclose(norm.variance, x.var(0), rtol=1e-2)


def test_two_learners_parts_are_one_minibatch_and_the_dead_do_not_count():
    torch.manual_seed(1)
    x, alive = torch.randn(64, 2), (torch.arange(64) % 3 > 0).float()
    one, two, living = InputNorm(2), InputNorm(2), InputNorm(2)
    one.update(moments_of(x, alive))
    two.update(moments_of(x[:20], alive[:20]) + moments_of(x[20:], alive[20:]))
    kept = x[alive > 0]
    living.update(moments_of(kept, torch.ones(len(kept))))
    for other in (two, living):
        assert torch.allclose(one.mean, other.mean, atol=1e-6)
        assert torch.allclose(one.variance, other.variance, atol=1e-6)


def test_nobody_alive_moves_nothing_and_outliers_are_cut():
    norm = InputNorm(2)
    norm.update(moments_of(torch.randn(8, 2), torch.zeros(8)))
    assert not norm.updates and torch.equal(norm.variance, torch.ones(2))
    assert float(norm(torch.tensor([1e6, -1e6])).abs().max()) == norm.limit


def test_old_statistics_move_by_the_momentum():
    norm = InputNorm(1)
    for _ in range(300):
        norm.update(moments_of(torch.tensor([[1.0], [3.0]]), torch.ones(2)))
    norm.update(moments_of(torch.tensor([[12.0]]), torch.ones(1)))
    assert torch.allclose(norm.mean, torch.tensor([2.0 + MOMENTUM * 10.0]))


def test_running_statistics_are_those_of_all_rows_in_any_order():
    """Means far from 0, parts of unequal size, and rows that do not count."""
    torch.manual_seed(2)
    x = torch.randn(3000, 2) * torch.tensor([0.1, 50.0]) + torch.tensor([1000.0, -3.0])
    weights = (torch.rand(3000) > 0.2).float()
    kept = x[weights > 0].double()
    for order in (slice(None), slice(None, None, -1)):
        norm = RunningNorm(2)
        assert torch.equal(norm(x[:1] / 1000.0), InputNorm(2)(x[:1] / 1000.0))
        parts = [*zip(x.split([7, 2000, 993]), weights.split([7, 2000, 993]), strict=True)]
        for rows, w in parts[order]:
            norm.update(moments_of(rows.double(), w.double()))
        assert norm.rows == len(kept)
        assert torch.allclose(norm.mean, kept.mean(0).float(), rtol=1e-6)
        assert torch.allclose(norm.variance, kept.var(0, correction=0).float(), rtol=1e-5)
    before = norm.mean.clone()
    norm.update(moments_of(x.double(), torch.zeros(3000).double()))
    assert torch.equal(norm.mean, before)
