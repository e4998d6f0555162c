"""The arms as a vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from rllib_hetero.envs.bimanual.tasks import (
    ACTIONS,
    DROPPED,
    LEFT,
    PICKED,
    RIGHT,
    Task,
    height_of_box,
)
from rllib_hetero.envs.refusal import refusal as env_refusal
from rllib_hetero.runners.vector_env import Outcome, VectorTeamEnv
from rllib_hetero.team import AgentID, Team

if TYPE_CHECKING:
    from rllib_hetero.envs.bimanual.frame import Camera

_INSERTION_SCALE = 8.0  # envpool's own, of the reward for insertion


class TwoArms(VectorTeamEnv):
    """E tables with two arms, the agents "left_arm" and "right_arm"; the reward is the team's.

    Numbers are those of `envpool`, but for two, which follow MuJoCo Playground and the clock:

    - An episode terminates when the box is dropped after it was picked up. `envpool` plays on and
      sets its clock to 0, so that the same progress could be paid twice.
    - The clock is 1 in the final observation of an episode that is cut for time, not 0.

    `envpool` takes seeds only when it is made, which is at the first reset: later ones go on with
    the random numbers of the first.

    Args:
        task: The task.
        sees_all: Whether each arm observes the other one, too.
        max_steps: Steps after which an episode is truncated.
        num_threads: Of the simulator.
        render_mode: "rgb_array" if `render` is to be called, else None.
        num_envs: E.
    """

    deterministic = False  # Equal seeds give equal episodes only in a new environment.

    def __init__(
        self,
        task: Task,
        *,
        sees_all: bool,
        max_steps: int,
        num_threads: int,
        render_mode: str | None,
        num_envs: int,
    ) -> None:
        agents = (LEFT, RIGHT)
        everything = np.arange(task.size)
        self._columns = {
            a: everything if sees_all else np.r_[task.parts[a], task.objects] for a in agents
        }
        self.num_envs = num_envs
        self.team = Team(
            agents=agents,
            observation_spaces={a: _unbounded(len(c)) for a, c in self._columns.items()},
            action_spaces={a: Box(-1.0, 1.0, (ACTIONS,), np.float32) for a in agents},
            state_space=_unbounded(task.size),
            reward_scheme="shared",
        )
        self.observations = {
            a: np.zeros((num_envs, len(c)), np.float32) for a, c in self._columns.items()
        }
        self._state = np.zeros((num_envs, task.size), np.float32)
        self.state = self._state
        self.active = np.ones((num_envs, len(agents)), bool)
        self.infos = [{} for _ in range(num_envs)]
        self._picked = np.zeros(num_envs, bool)
        self._dropped = np.zeros(num_envs, bool)
        self._insertion = np.zeros(num_envs)
        self._task = task
        self._max_steps = max_steps
        self._num_threads = min(num_threads, num_envs)
        self._render_mode = render_mode
        self._pool: Any = None
        self._camera: Camera | None = None

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        rows = np.array(envs, np.int32)
        if self._pool is None:
            drawn = np.random.default_rng().integers(2**31, size=self.num_envs)
            for e, seed in zip(envs, seeds, strict=True):
                if seed is not None:
                    drawn[e] = seed % 2**31
            self._pool = self._make_pool(drawn.tolist())
            rows = np.arange(self.num_envs, dtype=np.int32)
        if not len(rows):
            return
        seen, _ = self._pool.reset(rows)
        self._picked[rows] = self._dropped[rows] = False
        self._insertion[rows] = 0.0
        self._write(seen, rows)

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        joint = np.concatenate([actions[LEFT], actions[RIGHT]], axis=1, dtype=np.float64)
        seen, reward, _, truncated, info = self._pool.step(joint)
        failed = ~(np.isfinite(seen).all(1) & np.isfinite(reward))
        if failed.any():
            seen = np.where(failed[:, None], 0.0, seen)
            reward = np.where(failed, 0.0, reward)
        terminated = info["terminated"].astype(bool)
        if self._task.has_box:
            height = height_of_box(seen)
            self._picked |= (height > PICKED) & ~failed
            self._dropped = self._picked & (height < DROPPED)
            terminated |= self._dropped
        self._insertion = info["reward_peg_insertion_reward"] / _INSERTION_SCALE
        terminated &= ~failed
        truncated = truncated & ~terminated & ~failed
        if self._task.clock is not None and truncated.any():
            seen = seen.copy()
            seen[truncated, self._task.clock] = 1.0
        self._write(seen, slice(None))
        rewards = np.repeat(reward.astype(np.float32)[:, None], len(self.team.agents), axis=1)
        return Outcome(rewards, terminated, truncated, failed)

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        """Of episodes that have just ended: whether the task was done, and how nearly.

        "success_rate" is 1 if the box is within 5 cm of its target, or the peg in the socket. The
        hand-over also counts "picked", "dropped" and "target_distance" in metres; the peg's task
        "insertion", from 0 to 1 for a peg that is in to the end.
        """
        rows = list(envs)
        counted = self._task.final(self._state[rows], self._insertion[rows])
        if self._task.has_box:
            counted |= {"picked": self._picked[rows], "dropped": self._dropped[rows]}
        return {name: np.asarray(x, np.float64) for name, x in counted.items()}

    def render(self) -> np.ndarray:
        """A picture of table 0, (480, 480, 3) uint8.

        Raises:
            TeamError: If the environment was made without a render mode.
        """
        if self._render_mode is None:
            why = "The environment was made without `render_mode`, so it has no pictures."
            raise refusal("render_mode", why, '"rgb_array"')
        if self._camera is None:
            # Here, so that training does not load mujoco.
            from rllib_hetero.envs.bimanual.frame import Camera

            self._camera = Camera(self._task)
        return self._camera.picture(self._state[0])

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None  # whose threads end with it
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _make_pool(self, seeds: list[int]) -> Any:
        import envpool

        return envpool.make(
            self._task.env_id,
            env_type="gymnasium",
            num_envs=self.num_envs,
            num_threads=self._num_threads,
            env_seed=seeds,
            max_episode_steps=self._max_steps,
        )

    def _write(self, seen: np.ndarray, rows: np.ndarray | slice) -> None:
        self._state[rows] = seen
        for agent, columns in self._columns.items():
            self.observations[agent][rows] = seen[:, columns]


refusal = partial(env_refusal, "bimanual")


def _unbounded(size: int) -> Box:
    return Box(-np.inf, np.inf, (size,), np.float32)
