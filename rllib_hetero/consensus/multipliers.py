"""How copies of the same parameters are brought together, by each peer for itself.

[1] Li, Jin, Wang, Yan, Zha: F2A2: Flexible Fully-decentralized Approximate
    Actor-critic for Cooperative Multi-agent Reinforcement Learning. JMLR 24 (2023). Section 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rllib_hetero.consensus.shared_part import SharedPart

MODES = ("pdhg_decoupled", "pdhg", "hard")
"""What `Consensus` can do with an average."""
MULTIPLIERS = ("node", "edge")
"""Whose the multipliers are."""
STABLE = 4 / 3
"""In "pdhg", copies agree if lr * beta * l stays below, for every eigenvalue l of I - W.

Without an objective, one round takes a mode of eigenvalue l by a matrix of trace 2 (1 - c l) and
determinant 1 - c l, with c = lr * beta: within the unit circle for 0 < c l < 4/3.
"""

_PART = 32_768


class Consensus:
    """One peer's copy of the shared part, its average w, and its multiplier lambda.

    The augmented Lagrangian of [1] (5.3) gives peer i, on its copy x_i, the gradient

        grad f_i + lambda_i + beta (x_i - w_i)

    and an exchange sets, from the copies of its neighbours j in this round,

        w_i = sum_j W_ij x_j,    lambda_i = lambda_i + beta (x_i - w_i)

    which in a complete graph is (5.4c) and (5.4d) of [1]. W is doubly stochastic, so that all
    lambda_i together stay zero, and the peers' fixed point is the optimum of the sum of the f_i,
    also where the graph is not complete. Multipliers and differences are summed in float64: their
    sum must not drift over many rounds.

    The term of beta is that of the first update after an exchange. Later ones would be held back
    by an average that is old; so would an update be that is pulled back after its step, which is
    why the decoupled pull is part of the exchange.

    Args:
        shared: The peer's copy.
        mode: "pdhg": as above. "pdhg_decoupled": the gradient is grad f_i + lambda_i, and in the
            exchange x_i moves by `pull` of its way to w_i: Adam would scale that away. "hard":
            x_i = w_i, no multipliers.
        beta: Step of the multipliers, and weight of the penalty.
        pull: See `mode`.
        multipliers: "node", or "edge": lambda_i is the sum of multipliers lambda_ij = -lambda_ji,
            lambda_ij = lambda_ij + beta W_ij (x_i - x_j), so that those of a lost peer can go.

    Attributes:
        average: (D,) w_i.
        multiplier: (D,) float64, lambda_i.
        residual: |x_i - w_i| at the last exchange; 0 before the first.
    """

    def __init__(
        self,
        shared: SharedPart,
        *,
        mode: str = "pdhg_decoupled",
        beta: float = 1.0,
        pull: float = 0.3,
        multipliers: str = "node",
    ) -> None:
        self._shared, self._mode = shared, mode
        self._beta, self._pull = beta, pull
        self._of_edges: dict[str, Tensor] | None = {} if multipliers == "edge" else None
        self.average = shared.vector()
        self.multiplier = torch.zeros_like(self.average, dtype=torch.float64)
        self._push = torch.zeros_like(self.average)
        self.residual = 0.0
        self._pushes = self._fresh = False

    # ---- in an update ------------------------------------------------------------------------

    @torch.no_grad()
    def add_to_gradients(self) -> None:
        """Adds to the gradients of the shared part what the others have to say.

        To be called between `backward` and the optimiser's step, once for each step. Parameters
        without a gradient take no part in the step.
        """
        if not self._pushes and not self._fresh:
            return
        parts = [
            (p, push, w)
            for p, push, w in zip(
                self._shared.parameters,
                self._shared.split(self._push),
                self._shared.split(self.average),
                strict=True,
            )
            if p.grad is not None
        ]
        if not parts:
            return
        parameters, pushes, averages = map(list, zip(*parts, strict=True))
        gradients = [p.grad for p in parameters]
        torch._foreach_add_(gradients, pushes)
        if self._fresh:
            away = torch._foreach_sub(parameters, averages)
            torch._foreach_add_(gradients, away, alpha=self._beta)

    def end_update(self) -> None:
        """To be called at the end of every update: the average is old from now on."""
        self._fresh = False

    # ---- in an exchange ----------------------------------------------------------------------

    @torch.no_grad()
    def mix(self, weights: Mapping[str, float], copies: Mapping[str, Tensor]) -> None:
        """One exchange, after an update and before the next.

        Args:
            weights: Neighbour to W_ij, of this round's graph; see `graphs.metropolis`.
            copies: Neighbour to x_j (D,).
        """
        own = self._shared.vector()
        away = torch.zeros_like(self.multiplier)
        copies = {peer: copies[peer].to(own) for peer in weights}
        scales = {peer: self._beta * weight for peer, weight in weights.items()}
        of_edges = {}
        if self._of_edges is not None and self._mode != "hard":
            for peer in weights:
                self._of_edges.setdefault(peer, torch.zeros_like(self.multiplier))
            of_edges = self._of_edges
        # Part by part, each of which stays in the processor's cache.
        for start in range(0, len(own), _PART):
            part = slice(start, start + _PART)
            for peer in sorted(weights):  # The order of a sum matters to its last digit.
                apart = own[part] - copies[peer][part]
                away[part].add_(apart, alpha=weights[peer])
                if of_edges:
                    of_edges[peer][part].add_(apart, alpha=scales[peer])
        self.average.copy_(own - away)
        self.residual = float(away.norm())
        if self._mode == "hard":
            self._shared.load(self.average)
            return
        if self._mode == "pdhg_decoupled":
            self._shared.load(own - self._pull * away)
        self._fresh = self._mode == "pdhg"
        if self._of_edges is None:
            self.multiplier.add_(away, alpha=self._beta)
        self._set_push()

    def forget(self, peer: str) -> None:
        """The peer is lost, or has come back without the multipliers that it had.

        With multipliers of edges, that of this edge goes. With those of nodes, all peers must
        begin with zero again: what the lost peer's would have balanced is not known.
        """
        if self._of_edges is None:
            self.multiplier.zero_()
        else:
            self._of_edges.pop(peer, None)
        self._set_push()

    def reset(self) -> None:
        """Begins anew from the copy as it is."""
        if self._of_edges:
            self._of_edges.clear()
        self.multiplier.zero_()
        self.average.copy_(self._shared.vector())
        self.residual, self._fresh = 0.0, False
        self._set_push()

    def _set_push(self) -> None:
        if self._of_edges is not None:
            self.multiplier.zero_()
            for peer in sorted(self._of_edges):
                self.multiplier.add_(self._of_edges[peer])
        self._push.copy_(self.multiplier)
        self._pushes = bool(self._push.any())

    # ---- what is logged and saved ------------------------------------------------------------

    def projections(self, seed: int, count: int = 4) -> list[float]:
        """Scalar products of lambda with random signs, the same for all peers.

        Added up over the peers they are those of the sum of all lambda, whose length is about the
        root of their mean square: so it is known without any peer's multiplier being sent.
        """
        signs = torch.Generator().manual_seed(seed)
        size = (len(self.multiplier),)
        return [
            float(
                self.multiplier.cpu()
                @ (2.0 * torch.randint(2, size, generator=signs) - 1.0).double()
            )
            for _ in range(count)
        ]

    def get_state(self) -> dict[str, Any]:
        """All that an exchange has changed."""
        return {
            "average": self.average.clone(),
            "multiplier": self.multiplier.clone(),
            "of_edges": None
            if self._of_edges is None
            else {peer: x.clone() for peer, x in self._of_edges.items()},
            "residual": self.residual,
            "fresh": self._fresh,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of the same settings."""
        self.average.copy_(state["average"])
        self.multiplier.copy_(state["multiplier"])
        if self._of_edges is not None:
            self._of_edges = {
                peer: x.to(self.multiplier) for peer, x in (state["of_edges"] or {}).items()
            }
        self.residual, self._fresh = state["residual"], state["fresh"]
        self._set_push()
