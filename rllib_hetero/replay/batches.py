"""What is drawn from the replay: transitions, stretches of episodes, what came before."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rllib_hetero.layout import ModuleID

PerModule = dict[ModuleID, Tensor]


@dataclass
class JointBatch:
    """B joint transitions over up to n steps: what was seen, done and got, and what followed.

    A walk of n steps ends earlier at the end of an episode and at the newest row. With m <= n
    steps really made, rewards are sum_j gamma^j r_j (j < m), and `next_*` is what followed the
    m-th of them: the next row, or the true final observation of an episode that was cut.

    Attributes:
        observations: Module id to (B, n_m, d_m) of `Layout.row_dtype`, the module's whole input.
        actions: Module id to (B, n_m, ...) as executed; int64 choices or float32 components.
        active: Module id to (B, n_m) bool, who acted.
        masks: Id of each masked module to (B, n_m, p_m) bool.
        state: (B, s), what the critic sees: float32, or uint8 rows of bytes.
        rewards: (B,) float32, the team's.
        discount: (B,) float32, gamma^m, or 0 where the episode terminated.
        next_observations: As `observations`; zeros where the episode terminated.
        next_active: As `active`; False there.
        next_masks: As `masks`; True there.
        next_state: As `state`; zeros there.
        weights: (B,) float32, of the rows in the loss; 1 unless drawn by priority.
        agent_rewards: (B, n) float32 in agent order, summed as `rewards`, if kept.
        log_probs: Module id to (B, n_m) float32, if kept.
        dist_inputs: Module id to (B, n_m, p_m) float32, the behaviour policy's parameters, if kept.
    """

    observations: PerModule
    actions: PerModule
    active: PerModule
    masks: PerModule
    state: Tensor
    rewards: Tensor
    discount: Tensor
    next_observations: PerModule
    next_active: PerModule
    next_masks: PerModule
    next_state: Tensor
    weights: Tensor
    agent_rewards: Tensor | None
    log_probs: PerModule
    dist_inputs: PerModule

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass
class JointSequences:
    """B stretches of up to L steps, each of one episode.

    Time comes second. Of the steps that are `filled`, the last is followed by one more moment:
    the next row, or the true final observation. After it, and after a termination, stand zeros,
    nobody is active and every mask is True.

    Attributes:
        observations: Module id to (B, L + 1, n_m, d_m) of `Layout.row_dtype`.
        actions: Module id to (B, L, n_m, ...).
        active: Module id to (B, L + 1, n_m) bool.
        masks: Id of each masked module to (B, L + 1, n_m, p_m) bool.
        state: (B, L + 1, s), as of `JointBatch`.
        rewards: (B, L) float32, the team's.
        terminated: (B, L) bool, the episode ended here: no bootstrap.
        filled: (B, L) bool, the steps that there are; they come first.
        agent_rewards: (B, L, n) float32 in agent order, if kept.
        log_probs: Module id to (B, L, n_m) float32, if kept.
        dist_inputs: Module id to (B, L, n_m, p_m) float32, if kept.
    """

    observations: PerModule
    actions: PerModule
    active: PerModule
    masks: PerModule
    state: Tensor
    rewards: Tensor
    terminated: Tensor
    filled: Tensor
    agent_rewards: Tensor | None
    log_probs: PerModule
    dist_inputs: PerModule

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass
class JointHistory:
    """What came before B rows: up to H steps of the same episode, the oldest first.

    Where there were fewer, they come first, and behind them stand zeros with nobody active.

    Attributes:
        observations: Module id to (B, H, n_m, d_m) of `Layout.row_dtype`.
        actions: Module id to (B, H, n_m, ...).
        active: Module id to (B, H, n_m) bool.
        filled: (B, H) bool.
    """

    observations: PerModule
    actions: PerModule
    active: PerModule
    filled: Tensor
