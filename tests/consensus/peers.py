"""Peers with quadratics of their own, to check consensus on paper."""

import torch
from torch import nn

from rllib_hetero.consensus.graphs import Topology, among, metropolis, touching
from rllib_hetero.consensus.intervals import Intervals
from rllib_hetero.consensus.multipliers import Consensus
from rllib_hetero.consensus.shared_part import SharedPart

SIZE = 5


class Peers:
    """n peers, of which number k minimises (x - b_k)' A_k (x - b_k) / 2, all in float64.

    `curvature` 0 leaves only the consensus.
    """

    def __init__(
        self, n=5, *, graph="full", extra_edges=0.0, interval=(1, 0), lr=0.3, curvature=1.0,
        adam=False, equal_start=True, dtype=torch.float64, **consensus,
    ):  # fmt: skip
        draw = torch.Generator().manual_seed(n)
        self.names = [f"p{k}" for k in range(n)]
        self.topology = Topology(self.names, graph, extra_edges, seed=n)
        self.intervals = Intervals(self.names, *interval, seed=n)
        self.lr, self.round, self.alive = lr, 0, set(self.names)
        self.A, self.b, self.x, self.parts, self.consensus, self.optimisers = {}, {}, {}, {}, {}, {}
        start = torch.randn(SIZE, generator=draw, dtype=dtype)
        for k, name in enumerate(self.names):
            diagonal = 0.5 + torch.rand(SIZE, generator=draw, dtype=dtype)
            self.A[name] = curvature * torch.diag(diagonal)
            self.b[name] = torch.randn(SIZE, generator=draw, dtype=dtype) + k
            mine = torch.randn(SIZE, generator=draw, dtype=dtype)
            self.x[name] = nn.Parameter((start if equal_start else mine).clone())
            self.parts[name] = SharedPart({"x": self.x[name]}, lambda _: True)
            self.consensus[name] = Consensus(self.parts[name], **consensus)
            self.optimisers[name] = torch.optim.Adam([self.x[name]], lr=lr) if adam else None

    def optimum(self, names=None):
        names = names or self.names
        total = sum(self.A[i] for i in names)
        return torch.linalg.solve(total, sum(self.A[i] @ self.b[i] for i in names))

    def gradient(self, name, x):
        return self.A[name] @ (x - self.b[name])

    def run(self, rounds):
        for _ in range(rounds):
            for name in sorted(self.alive):
                self.update(name)
            self.round += 1
            due = self.intervals.due(self.round) & self.alive
            living = among(self.topology.edges(self.round), self.alive)
            weights = metropolis(touching(living, due))
            copies = {i: self.parts[i].vector() for i in weights}
            for i, others in weights.items():
                self.consensus[i].mix(others, {j: copies[j] for j in others})

    def update(self, name):
        x = self.x[name]
        x.grad = self.gradient(name, x.detach())
        self.consensus[name].add_to_gradients()
        if self.optimisers[name] is None:
            with torch.no_grad():
                x -= self.lr * x.grad
        else:
            self.optimisers[name].step()
        self.consensus[name].end_update()

    def lose(self, name):
        self.alive.discard(name)
        for i in self.alive:
            self.consensus[i].forget(name)

    # ---- what is asserted --------------------------------------------------------------------

    def copies(self):
        return torch.stack([self.x[i].detach() for i in sorted(self.alive)])

    def mean(self):
        return self.copies().mean(0)

    def disagreement(self):
        return float((self.copies() - self.mean()).norm())

    def sum_of_multipliers(self):
        return float(sum(self.consensus[i].multiplier for i in self.alive).abs().max())

    def largest_multiplier(self):
        return max(float(self.consensus[i].multiplier.abs().max()) for i in self.alive)
