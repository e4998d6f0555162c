"""What a runner hands to the learner: a few arrays for many steps of many environments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from rllib_hetero.layout import ModuleID

PerModule = dict[ModuleID, np.ndarray]


@dataclass
class Finals:
    """True final observations of episodes that were cut for time (or lost to a crash).

    The value function bootstraps from these; a terminated episode needs none.

    Attributes:
        step: (K,) index into the fragment's time axis.
        env: (K,) index into its environment axis.
        observations: Module id to (K, n_m, d_m).
        active: Module id to (K, n_m) bool; False where the agent is dead, also where it died in
            this very step. Its observation is 0 then, but for the one-hot.
        state: (K, s), or None where the environment has no global state.
        action_masks: Id of each masked module to (K, n_m, p_m) bool, True for the dead.
    """

    step: np.ndarray
    env: np.ndarray
    observations: PerModule
    active: PerModule
    state: np.ndarray | None
    action_masks: PerModule = field(default_factory=dict)

    def select(self, envs: range) -> Finals:
        """The finals of a contiguous range of environments, renumbered from 0."""
        keep = (self.env >= envs.start) & (self.env < envs.stop)
        return Finals(
            step=self.step[keep],
            env=self.env[keep] - envs.start,
            observations={m: x[keep] for m, x in self.observations.items()},
            active={m: x[keep] for m, x in self.active.items()},
            state=None if self.state is None else self.state[keep],
            action_masks={m: x[keep] for m, x in self.action_masks.items()},
        )


@dataclass
class TeamFragment:
    """T steps of E environments, time first. Axis lengths: T, E, n_m agents of module m.

    Stands where RLlib expects an episode: it answers `len()`, `env_steps()` and
    `agent_steps()`, which is what sampling, evaluation and the learner group ask of one.

    Attributes:
        observations: Module id to (T, E, n_m, d_m) of `Layout.row_dtype`, the module's whole
            input: behind the observation the agent's one-hot, if the module has several agents,
            and behind that, in an autoregressive team, the context that the agent acted on.
        actions: Module id to (T, E, n_m, ...), flat, as the policy drew them, before clipping.
            What a distribution draws within the space (`Distribution.within_space`) is executed as
            it is.
        dist_inputs: Module id to (T, E, n_m, p_m) float32, the behaviour policy's parameters.
        log_probs: Module id to (T, E, n_m) float32, joint over an action's components. Only of
            modules whose distribution has a density (`functional.Density`).
        active: Module id to (T, E, n_m) bool; False where the agent was not acting (dead).
        rewards: (T, E, n) float32 in agent order.
        state: (T, E, s) rows, or None: the state is then all observations.
        terminated: (T, E) bool, the episode ended here; no bootstrap.
        truncated: (T, E) bool, the episode was cut here; bootstrap from `finals`.
        valid: (T, E) bool; False where an environment failed in this step.
        finals: True final observations at truncation.
        last_observations: Module id to (E, n_m, d_m), what follows the last row.
        last_active: Module id to (E, n_m) bool, who will act on it.
        last_state: (E, s) or None.
        problem: Why this data must not be trained on, for the driver to raise; or None.
        action_masks: Id of each masked module to (T, E, n_m, p_m) bool, which of the policy's
            logits were allowed; `dist_inputs` and `log_probs` are those after masking.
        last_action_masks: Id of each masked module to (E, n_m, p_m) bool, what will be allowed.
        states: Id of each recurrent module to (W, E, n_m, S) float32, its packed states before
            steps 0, L, 2 L, ..., with L the config's `max_seq_len` and W = ceil(T / L).
        continues: (E,) bool, whether the first row goes on with an episode that was begun in
            an earlier fragment of the same runner. None where this is not known.
        source: The runner's worker index and the number of this rollout of it. Fragments of
            consecutive numbers follow each other in time. None where there is no such order.
        first_env: Index within the runner of the first of these environments.
    """

    observations: PerModule
    actions: PerModule
    dist_inputs: PerModule
    log_probs: PerModule
    active: PerModule
    rewards: np.ndarray
    state: np.ndarray | None
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    finals: Finals
    last_observations: PerModule
    last_active: PerModule
    last_state: np.ndarray | None
    problem: str | None = None
    action_masks: PerModule = field(default_factory=dict)
    last_action_masks: PerModule = field(default_factory=dict)
    states: PerModule = field(default_factory=dict)
    continues: np.ndarray | None = None
    source: tuple[int, int] | None = None
    first_env: int = 0

    def __len__(self) -> int:
        return self.env_steps()

    def env_steps(self) -> int:
        """Number of environment steps, failed ones not counted."""
        return int(self.valid.sum())

    def agent_steps(self) -> int:
        """Number of actions taken by living agents in those steps."""
        return sum(int(x[self.valid].sum()) for x in self.active.values())

    @property
    def num_envs(self) -> int:
        return self.valid.shape[1]

    @property
    def steps_by_env(self) -> np.ndarray:
        """(E,) int64, as `env_steps`, of each environment."""
        return self.valid.sum(0)

    def select(self, envs: range) -> TeamFragment:
        """The fragment of a contiguous range of its environments (views, not copies)."""
        s = slice(envs.start, envs.stop)

        def cut(arrays: PerModule) -> PerModule:
            return {m: x[:, s] for m, x in arrays.items()}

        return TeamFragment(
            observations=cut(self.observations),
            actions=cut(self.actions),
            dist_inputs=cut(self.dist_inputs),
            log_probs=cut(self.log_probs),
            active=cut(self.active),
            rewards=self.rewards[:, s],
            state=None if self.state is None else self.state[:, s],
            terminated=self.terminated[:, s],
            truncated=self.truncated[:, s],
            valid=self.valid[:, s],
            finals=self.finals.select(envs),
            last_observations={m: x[s] for m, x in self.last_observations.items()},
            last_active={m: x[s] for m, x in self.last_active.items()},
            last_state=None if self.last_state is None else self.last_state[s],
            problem=self.problem,
            action_masks=cut(self.action_masks),
            last_action_masks={m: x[s] for m, x in self.last_action_masks.items()},
            states=cut(self.states),
            continues=None if self.continues is None else self.continues[s],
            source=self.source,
            first_env=self.first_env + envs.start,
        )


class Divisible(Protocol):
    """What is shared out by whole environments: a fragment, or whatever stands for one."""

    @property
    def num_envs(self) -> int: ...

    @property
    def steps_by_env(self) -> np.ndarray: ...

    def select(self, envs: range) -> Any: ...


F = TypeVar("F", bound=Divisible)


def shard(fragments: list[F], num_shards: int) -> list[list[F]]:
    """Splits fragments over learners, whole environments each, as evenly in steps as these go.

    Environments stay in order, so that the shards' rows, put end to end, are the rows of the
    unsharded batch. A shard may be empty.
    """
    columns = [(f, e, rows) for f in fragments for e, rows in enumerate(f.steps_by_env.tolist())]
    total = sum(rows for _, _, rows in columns)
    shards: list[list[F]] = [[] for _ in range(num_shards)]
    seen = 0
    runs: list[tuple[int, F, int, int]] = []  # shard, fragment, first env, end
    for f, e, rows in columns:
        # The shard in which this environment's middle row falls.
        k = min(num_shards - 1, int((seen + rows / 2) * num_shards / total)) if total else 0
        seen += rows
        if runs and runs[-1][0] == k and runs[-1][1] is f:
            runs[-1] = (k, f, runs[-1][2], e + 1)
        else:
            runs.append((k, f, e, e + 1))
    for k, f, first, end in runs:
        shards[k].append(f.select(range(first, end)))
    return shards
