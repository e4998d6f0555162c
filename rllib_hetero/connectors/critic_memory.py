"""Values of a critic that remembers, from where its memory was left in the fragment before."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import Columns
from torch import Tensor

from rllib_hetero.connectors.carried import Carried
from rllib_hetero.connectors.fragments_to_batch import chunk_starts
from rllib_hetero.modules.memory import initial_state, pack, unpack
from rllib_hetero.runners.fragment import TeamFragment


class CriticMemory:
    """Runs a recurrent critic along every environment's states, and keeps where it ended.

    Runners carry no critic, so what it remembers at the start of a fragment is known here only:
    from the fragment before, if this one follows it. Where it does not (after a restore, a lost
    fragment, or where another learner had that environment), the memory starts empty.

    Args:
        max_seq_len: At every so many steps of a fragment a chunk begins.
    """

    def __init__(self, max_seq_len: int) -> None:
        self._max_seq_len = max_seq_len
        self._carried: Carried[Tensor] = Carried()

    def values(
        self,
        critic: Any,
        states: Tensor,
        finals: Tensor,
        lasts: Tensor,
        fragments: list[TeamFragment],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Values on the critic's own scale; without gradient.

        Args:
            critic: The recurrent critic.
            states: (B, s) of all rows.
            finals: (F, s) true final states of episodes that were cut.
            lasts: (C, s) what follows each environment's last row.
            fragments: Where the rows come from.

        Returns:
            Values (B, ...), (F, ...) and (C, ...), and the memory (N, S) in which each chunk
            begins.
        """
        parts = []
        row = final = column = 0
        for f in fragments:
            ends = row + f.env_steps(), final + len(f.finals.step), column + f.num_envs
            parts.append(
                self._of_fragment(
                    critic,
                    states[row : ends[0]],
                    finals[final : ends[1]],
                    lasts[column : ends[2]],
                    f,
                )
            )
            row, final, column = ends
        inside, of_finals, of_lasts, begins = zip(*parts, strict=True)
        return torch.cat(inside), torch.cat(of_finals), torch.cat(of_lasts), torch.cat(begins)

    def _of_fragment(
        self, critic: Any, states: Tensor, finals: Tensor, lasts: Tensor, f: TeamFragment
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        valid = torch.from_numpy(f.valid).to(states.device)
        over = torch.from_numpy(f.terminated | f.truncated | ~f.valid).to(states.device)
        grid = states.new_zeros(f.num_envs, len(valid), states.shape[-1])
        grid[valid.T] = states
        empty = initial_state(critic).to(states.device)
        memory = empty.expand(f.num_envs, -1).clone()
        for e, kept in self._carried.before(f).items():
            memory[e] = kept
        values, before, after = [], [], []
        for t in range(len(valid)):
            if t:
                memory = torch.where(over[t - 1, :, None], empty, memory)
            before.append(memory)
            value, memory = _step(critic, grid[:, t], memory)
            values.append(value)
            after.append(memory)
        self._carried.keep(f, memory)
        step, env = (torch.from_numpy(x).to(states.device) for x in (f.finals.step, f.finals.env))
        of_finals, _ = _step(critic, finals, torch.stack(after)[step, env])
        of_lasts, _ = _step(critic, lasts, memory)
        begin = torch.from_numpy(chunk_starts(f, self._max_seq_len)).to(states.device)
        return (
            torch.stack(values).transpose(0, 1)[valid.T],
            of_finals,
            of_lasts,
            torch.stack(before).transpose(0, 1)[begin.T],
        )


def _step(critic: Any, states: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Values (E, ...) of states (E, s), and the memory (E, S) after them."""
    batch = {Columns.OBS: states[:, None], Columns.STATE_IN: unpack(memory, critic)}
    values, after = critic.compute_values_and_state(batch)
    return values[:, 0], pack(after)
