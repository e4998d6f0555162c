"""The scale of what modules are given, learned from every step that was sampled, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rllib_hetero.connectors.fragments_to_batch import critic_inputs
from rllib_hetero.layout import CRITIC, Layout, ModuleID
from rllib_hetero.modules.input_norm import moments_of_those_there, running_norms
from rllib_hetero.reductions import sum_over_learners
from rllib_hetero.runners.fragment import TeamFragment


class InputStatistics:
    """Moves the `RunningNorm`s of all modules by new fragments.

    The replay keeps observations as they were seen, and networks normalise what is drawn by the
    statistics of the moment. These are moved when a fragment arrives, not when rows of it are
    drawn: rows are drawn many times, the early ones most often, and each is to count once.

    Args:
        layout: Agents and modules.
        modules: Module id to its module, the critic included.
        device: Where they are.
    """

    def __init__(
        self,
        layout: Layout,
        modules: Mapping[ModuleID, nn.Module],
        device: torch.device | str = "cpu",
    ) -> None:
        self._layout, self._device = layout, device
        norms = {m: running_norms(module) for m, module in sorted(modules.items())}
        self._norms = {m: of_module for m, of_module in norms.items() if of_module}

    @torch.no_grad()
    def add(self, fragments: Sequence[TeamFragment], moves: Callable[[ModuleID], bool]) -> None:
        """Counts the fragments' rows: failed steps and agents that do not act are left out.

        Agents that share a module count as so many rows. Collective, in one message.

        Args:
            fragments: Of this learner's environments; there may be none.
            moves: Whether a module's statistics are to move, by its id; the same on all learners.
        """
        moving = {m: norms for m, norms in self._norms.items() if moves(m)}
        if not moving:
            return
        sizes = [1 + 2 * len(norms[0].mean) for norms in moving.values()]
        moments = torch.zeros(sum(sizes), dtype=torch.float64)
        for fragment in fragments:
            moments += torch.cat([self._moments(m, fragment) for m in moving])
        moments = sum_over_learners(moments.to(self._device))
        for norms, of_module in zip(moving.values(), moments.split(sizes), strict=True):
            for norm in norms:
                norm.update(of_module)

    def _moments(self, module_id: ModuleID, fragment: TeamFragment) -> Tensor:
        there = fragment.valid
        if module_id == CRITIC:
            seen = critic_inputs(fragment.observations, fragment.state, self._layout)
        else:
            seen = fragment.observations[module_id]
            there = fragment.active[module_id] & there[..., None]
        return moments_of_those_there(torch.tensor(seen), torch.tensor(there))
