"""Random histories of environments, as fragments for the replay and as plain lists to walk over."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from rllib_hetero.layout import Layout
from rllib_hetero.runners.fragment import Finals, TeamFragment
from rllib_hetero.sharing import lay_out
from rllib_hetero.team import Team


def layout_of(kind: str) -> Layout:
    """Teams that differ in what the packed rows have to hold."""
    box = {n: Box(-np.inf, np.inf, (n,), np.float32) for n in (3, 4, 6)}
    if kind == "unequal":
        spaces = {"c": box[3], "a": box[6], "b": box[4]}  # modules are sorted, agents are not
        actions = {
            "c": Box(-1.0, 1.0, (2,), np.float32),
            "a": Discrete(4),
            "b": MultiDiscrete([3, 2]),
        }
        team = Team(("c", "a", "b"), spaces, actions, state_space=box[4], masked=frozenset("ab"))
        return lay_out(team, "none")
    agents = ("a", "b", "c")
    team = Team(
        agents,
        dict.fromkeys(agents, box[4]),
        dict.fromkeys(agents, Discrete(3)),
        reward_scheme="shared" if kind == "shared" else "individual",
        masked=frozenset("abc") if kind == "groups" else frozenset(),
    )
    return lay_out(team, "full" if kind == "shared" else {"ca": ["c", "a"]})


KINDS = ("unequal", "shared", "groups")


@dataclass
class Moment:
    """What a team sees: agent to its observation and mask; who is alive; the state."""

    seen: dict
    masks: dict
    alive: dict
    state: np.ndarray | None


@dataclass
class Step:
    """One step of one environment."""

    before: Moment
    actions: dict
    log_probs: dict
    dist_inputs: dict
    rewards: np.ndarray
    after: Moment
    end: str  # "goes on", "terminated", "cut" or "failed"
    marker: int = 0  # of the episode
    number: int = 0  # of the step in it


@dataclass
class Column:
    """One environment: the episode under way, and all steps that the replay was given."""

    marker: int = -1
    number: int = 0
    now: Moment | None = None
    given: list[Step] = field(default_factory=list)


class History:
    """E environments of one runner, sampled fragment by fragment.

    Each episode has a marker, which stands in every number that is seen in it.
    """

    def __init__(self, layout: Layout, num_envs: int, seed: int, *, worker: int = 1) -> None:
        self.layout = layout
        self.rng = np.random.default_rng(seed)
        self.inputs_rng = np.random.default_rng((seed, 1))
        self.columns = [Column() for _ in range(num_envs)]
        self.worker = worker
        self.rollout = 0
        self.markers = 1000 * worker

    def restart(self) -> None:
        """The runner is made anew: its episodes are lost, and it counts from 0 again."""
        self.rollout = 0
        for column in self.columns:
            column.now = None

    def sample(
        self, length: int, *, lost: bool = False, ends: float = 0.15, fails: float = 0.05
    ) -> TeamFragment:
        """A fragment, and the same steps for the columns' lists, unless it gets lost."""
        continues = [c.now is not None and c.number > 0 for c in self.columns]
        for c in self.columns:
            if c.now is None:
                self._reset(c)
            if lost and c.given and c.given[-1].end == "goes on":
                c.given[-1].end = "cut"
        steps: list[list[Step]] = []
        lasts = []
        for e, c in enumerate(self.columns):
            # What was given before and does not go on here is cut.
            if c.given and c.given[-1].end == "goes on" and not continues[e]:
                c.given[-1].end = "cut"
            own: list[Step] = []
            for _ in range(length):
                own.append(self._step(c, own, ends, fails))
            steps.append(own)
            lasts.append(c.now)
            if not lost:
                c.given += [s for s in own if s.end != "failed"]
        self.rollout += 1
        return self._fragment(steps, lasts, continues)

    def rows(self, most: int) -> list[tuple[int, int]]:
        """(column, index in its list) of the rows left, in the replay's order."""
        return [
            (e, i)
            for e, c in enumerate(self.columns)
            for i in range(max(0, len(c.given) - most), len(c.given))
        ]

    def walk(self, column: int, index: int, n: int, gamma: float):
        """The return over n steps from a row, as it is written down.

        Returns:
            The team's reward, the agents' rewards, the discount, and the moment that followed.
        """
        given, team = self.columns[column].given, self.layout.team
        total, own = 0.0, np.zeros(len(team.agents))
        for j in range(n):
            step = given[index + j]
            total += gamma**j * float(team.team_reward(step.rewards.astype(np.float64)))
            own += gamma**j * step.rewards
            if step.end == "terminated":
                return total, own, 0.0, None
            if step.end == "cut" or index + j == len(given) - 1:
                break
        return total, own, gamma ** (j + 1), step.after

    # ---- one environment ---------------------------------------------------------------------

    def _reset(self, c: Column) -> None:
        self.markers += 1
        c.marker, c.number = self.markers, 0
        c.now = self._moment(c, dict.fromkeys(self.layout.team.agents, True))

    def _step(self, c: Column, own: list, ends: float, fails: float) -> Step:
        before = c.now
        if self.rng.random() < fails:
            # The step does not count, and what came before it is cut.
            previous = own[-1] if own else (c.given[-1] if c.given else None)
            if previous is not None and previous.end == "goes on" and previous.marker == c.marker:
                previous.end = "cut"
            self._reset(c)
            return self._acted(before, before, "failed")
        alive = {a: on and self.rng.random() > 0.1 for a, on in before.alive.items()}
        if not any(alive.values()):
            alive = dict(before.alive)
        c.number += 1
        step = self._acted(before, self._moment(c, alive), "goes on")
        step.marker, step.number = c.marker, c.number - 1
        c.now = step.after
        if self.rng.random() < ends:
            step.end = ("terminated", "cut")[int(self.rng.integers(2))]
            self._reset(c)
        return step

    def _acted(self, before: Moment, after: Moment, end: str) -> Step:
        n, shared = len(before.alive), self.layout.team.reward_scheme == "shared"
        rewards = np.repeat(self.rng.normal(), n) if shared else self.rng.normal(size=n)
        return Step(
            before,
            {a: self._action(a) for a in before.alive},
            {a: self.rng.normal() for a in before.alive},
            {a: self.inputs_rng.normal(size=self._dist(a).size) for a in before.alive},
            (rewards * list(before.alive.values())).astype(np.float32),
            after,
            end,
        )

    def _moment(self, c: Column, alive: dict) -> Moment:
        team = self.layout.team
        seen, masks = {}, {}
        for a in team.agents:
            size = team.observation_spaces[a].shape[0]
            x = self.rng.normal(size=size).astype(np.float32)
            x[:2] = c.marker, c.number
            seen[a] = x * alive[a]
            if a in team.masked:
                size = sum(self.layout.distribution(self.layout.module_of[a]).choices)
                masks[a] = (self.rng.random(size) < 0.7) | (not alive[a])
        state = None
        if team.state_space is not None:
            state = self.rng.normal(size=team.state_space.shape).astype(np.float32)
            state[:2] = c.marker, c.number
        return Moment(seen, masks, alive, state)

    def _dist(self, agent):
        return self.layout.distribution(self.layout.module_of[agent])

    def _action(self, agent) -> np.ndarray:
        space = self.layout.team.action_spaces[agent]
        if isinstance(space, Box):
            return self.rng.uniform(-1, 1, space.shape).astype(np.float32)
        return self.rng.integers(space.nvec if isinstance(space, MultiDiscrete) else space.n)

    # ---- fragments ---------------------------------------------------------------------------

    def _fragment(self, steps, lasts, continues) -> TeamFragment:
        length, num = len(steps[0]), len(steps)
        cut = [(t, e) for t in range(length) for e in range(num) if steps[e][t].end == "cut"]
        before = self._pack([[s.before for s in own] for own in steps])
        after = self._pack([[steps[e][t].after for t, e in cut]])
        last = self._pack([[m] for m in lasts])

        def arrays(get, dtype) -> dict:
            return {
                m: np.array(
                    [[[get(s, a) for a in agents] for s in own] for own in steps], dtype
                ).swapaxes(0, 1)
                for m, agents in self.layout.groups.items()
            }

        def ends(how: str) -> np.ndarray:
            return np.array([[s.end == how for s in own] for own in steps]).T

        dists = {m: self.layout.distribution(m) for m in self.layout.groups}
        actions = arrays(lambda s, a: s.actions[a], np.float64)
        state_size = self.layout.team.state_space
        return TeamFragment(
            observations=before[0],
            actions={m: x.astype(dists[m].action_dtype) for m, x in actions.items()},
            dist_inputs=arrays(lambda s, a: s.dist_inputs[a], np.float32),
            log_probs=arrays(lambda s, a: s.log_probs[a], np.float32),
            active=before[1],
            rewards=np.array([[s.rewards for s in own] for own in steps]).swapaxes(0, 1),
            state=before[3],
            terminated=ends("terminated"),
            truncated=ends("cut"),
            valid=~ends("failed"),
            finals=Finals(
                step=np.array([t for t, _ in cut], np.int64),
                env=np.array([e for _, e in cut], np.int64),
                observations={m: x[:, 0] for m, x in after[0].items()},
                active={m: x[:, 0] for m, x in after[1].items()},
                state=None if state_size is None else after[3][:, 0],
                action_masks={m: x[:, 0] for m, x in after[2].items()},
            ),
            last_observations={m: x[0] for m, x in last[0].items()},
            last_active={m: x[0] for m, x in last[1].items()},
            last_state=None if state_size is None else last[3][0],
            action_masks=before[2],
            last_action_masks={m: x[0] for m, x in last[2].items()},
            continues=np.array(continues),
            source=(self.worker, self.rollout - 1),
        )

    def _pack(self, moments: list[list[Moment]]):
        """Observations, active, masks and state of moments [e][t], as (t, e, ...) arrays."""
        layout, shape = self.layout, (len(moments), len(moments[0]))

        def arrays(get, width, dtype) -> np.ndarray:
            flat = [[get(x) for x in own] for own in moments]
            return np.array(flat, dtype).reshape(*shape, *width).swapaxes(0, 1)

        observations, active, masks = {}, {}, {}
        for m, agents in layout.groups.items():
            n, index = len(agents), np.eye(len(agents), dtype=np.float32)
            size = layout.team.observation_spaces[agents[0]].shape[0]
            x = arrays(lambda x, g=agents: [x.seen[a] for a in g], (n, size), np.float32)
            if layout.index_size(m):
                x = np.concatenate([x, np.broadcast_to(index, (*x.shape[:3], n))], -1)
            observations[m] = x
            active[m] = arrays(lambda x, g=agents: [x.alive[a] for a in g], (n,), bool)
            if layout.masked(m):
                p = sum(layout.distribution(m).choices)
                masks[m] = arrays(lambda x, g=agents: [x.masks[a] for a in g], (n, p), bool)
        state = None
        if layout.team.state_space is not None:
            state = arrays(lambda x: x.state, layout.team.state_space.shape, np.float32)
        return observations, active, masks, state


# ---- comparing -------------------------------------------------------------------------------


def observed(layout, moment, m):
    """(n_m, d_m): what the module is given of a moment."""
    agents = layout.groups[m]
    x = np.stack([moment.seen[a] for a in agents])
    return np.concatenate([x, np.eye(len(agents))], -1) if layout.index_size(m) else x


def assert_moment(layout, moment, i, observations, active, masks, state):
    """Row i of these tensors is the moment, or nothing at all if that is None."""
    for m, agents in layout.groups.items():
        if moment is None:
            size = layout.team.observation_spaces[agents[0]].shape[0]
            assert not observations[m][i][:, :size].any() and not active[m][i].any()
            assert m not in masks or masks[m][i].all()
            continue
        np.testing.assert_array_equal(observations[m][i], observed(layout, moment, m))
        assert active[m][i].tolist() == [moment.alive[a] for a in agents]
        if layout.masked(m):
            np.testing.assert_array_equal(masks[m][i], np.stack([moment.masks[a] for a in agents]))
    assert masks.keys() == {m for m in layout.groups if layout.masked(m)}
    if moment is None:
        assert not state[i].any()
    elif moment.state is None:
        expected = np.concatenate([moment.seen[a] for a in layout.team.agents])
        np.testing.assert_array_equal(state[i], expected)
    else:
        np.testing.assert_array_equal(state[i], moment.state)
