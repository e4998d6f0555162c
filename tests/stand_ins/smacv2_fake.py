"""smacv2's Python interface without a game: three agents, one enemy, a script instead of dice."""

import numpy as np


class FakeBattle:
    """Like smacv2's `StarCraft2Env` in what it is asked and what it answers.

    Agents: 3, with observations of 4 numbers, 7 actions of which the last attacks the enemy.
    State: 5 numbers, the first of which counts the steps of all battles.

    Args:
        length: Steps until the battle ends.
        end: "won", "lost", or "limit": it is cut for time.
        deaths: Step to the agent (an index) that dies in it.
        lost_at: The step of the first battle in which the connection is lost.
        before_step: Called at the start of each step.
    """

    def __init__(self, length=5, end="won", deaths=None, lost_at=None, before_step=None):
        self.length, self.end, self.deaths = length, end, deaths or {}
        self.lost_at, self.before_step = lost_at, before_step
        self._episode_count = 0
        self._seed = None
        self.launches = 0
        self.closed = False
        self.asked = []  # the actions of all steps
        self.total = 0

    def get_env_info(self):
        return {
            **{"n_agents": 3, "n_actions": 7, "obs_shape": 4, "state_shape": 5},
            "episode_limit": self.length,
        }

    def reset(self):
        if self._episode_count == 0:
            self.launches += 1
        self.t, self.dead = 0, set()
        return self.get_obs(), self.get_state()

    def full_restart(self):
        self.launches += 1

    def step(self, actions):
        if self.before_step is not None:
            self.before_step()
        self.asked.append(list(actions))
        for i, (action, allowed) in enumerate(zip(actions, self.get_avail_actions(), strict=True)):
            assert allowed[action], f"agent {i} cannot do {action}"
        self.t += 1
        self.total += 1
        if self.t == self.lost_at and self._episode_count == 0:
            self.full_restart()
            return 0, True, {}
        if self.t in self.deaths:
            self.dead.add(self.deaths[self.t])
        over = self.t == self.length
        info = {
            "battle_won": over and self.end == "won",
            "dead_allies": len(self.dead),
            "dead_enemies": int(over and self.end == "won"),
        }
        if over:
            self._episode_count += 1
            if self.end == "limit":
                info["episode_limit"] = True
        return 0.5 * self.t, over, info

    def get_obs_agent(self, i, fully_observable=False):
        return self.get_obs()[i] + 0.5 * fully_observable * (i not in self.dead)

    def get_obs(self):
        return [
            np.zeros(4, np.float32)
            if i in self.dead
            else np.array([i, self.t, self._episode_count, 1], np.float32)
            for i in range(3)
        ]

    def get_state(self):
        return np.array([self.total, self.t, len(self.dead), 0, 0], np.float32)

    def get_avail_actions(self):
        """The dead can do nothing but nothing (0), which the living cannot; 2 is never allowed."""
        return [
            [1, 0, 0, 0, 0, 0, 0] if i in self.dead else [0, 1, 0, 1, 1, 1, int(self.t > 0)]
            for i in range(3)
        ]

    def close(self):
        self.closed = True
