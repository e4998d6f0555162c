"""Many environments stepped as one: the interface, and the in-process implementation."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_hetero.errors import TeamDataError, TeamError
from rllib_hetero.functional import num_choices
from rllib_hetero.runners.endings import Told, end_without_all
from rllib_hetero.runners.returned import check_is_team_env, problem_with
from rllib_hetero.runners.rows import row_of, state_row
from rllib_hetero.spaces import Rows, row_dtype
from rllib_hetero.spaces.moves import pick
from rllib_hetero.team import ACTION_MASK, OBSERVATIONS, AgentID, Team

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What one vector step returned.

    Attributes:
        rewards: (E, n) float32 in agent order, 0 for agents that were given none.
        terminated: (E,) bool, the episode ended.
        truncated: (E,) bool, the episode was cut for time. Never together with terminated.
        failed: (E,) bool, the environment raised; its step does not count.
    """

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    failed: np.ndarray


class VectorTeamEnv(ABC):
    """E environments of one team, stepped together.

    Subclass it for an environment that is batched by nature (a jitted simulator), and give the
    class to `config.environment(...)`: it is called with the `env_config`, to which `num_envs` is
    added. A registered name or a function works too; it is first called without `num_envs`, and
    then reads `config.get("num_envs", 1)`. Never resets by itself: the runner reads the
    final observations first, then calls `reset` for the environments that are done.

    Attributes:
        team: The team.
        num_envs: E.
        observations: Agent id to its current observations (E, d_i), as rows of
            `team.row_spaces`: float32, or uint8 where there are pictures of bytes. Rows of agents
            that are not active are 0.
        state: (E, s) current states, as rows of `team.state_rows`; or None.
        active: (E, n) bool: which agents act in the coming step, or would if the episode had not
            been cut: whoever dies in the step of a truncation is not active in the final state.
        infos: E dicts, the environments' infos of the latest step.
        masks: Id of each agent of `team.masked` to (E, p) bool, which of its choices are allowed
            in the coming step; rows of agents that are not active are True.
        seeded: Whether `reset` reads its seeds. Where episodes last few steps, drawing them for
            nothing is a good part of the time.
        failed_resets: How many environments so far raised in `reset` and were made anew.
    """

    team: Team
    num_envs: int
    observations: dict[AgentID, np.ndarray]
    state: np.ndarray | None
    active: np.ndarray
    infos: list[dict]
    masks: dict[AgentID, np.ndarray] = {}  # noqa: RUF012  (never changed in place)
    seeded: bool = True
    failed_resets: int = 0

    @abstractmethod
    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        """Starts new episodes in the environments of these indices."""

    @abstractmethod
    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        """Steps every environment.

        Args:
            actions: Agent id to (E, ...), in Dicts and tuples as its action space has them. Rows
                of inactive agents are to be ignored.
        """

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        """What the benchmark counts besides the return, of episodes that have just ended.

        Called before these environments are reset. Name to (k,) numbers of k environments, always
        the same names. Their means over episodes are logged: "win_rate" is 1 for a won episode.
        """
        return {}

    def close(self) -> None:  # noqa: B027  (nothing to release is common)
        """Releases what the environments hold."""

    # What RLlib asks of a vector environment.
    envs: list[Any] = []  # noqa: RUF012  (never changed in place)

    @property
    def unwrapped(self) -> VectorTeamEnv:
        return self

    @property
    def single_observation_space(self) -> gym.spaces.Dict:
        spaces: Any = self.team.observation_spaces
        return gym.spaces.Dict(spaces)

    @property
    def single_action_space(self) -> gym.spaces.Dict:
        spaces: Any = self.team.action_spaces
        return gym.spaces.Dict(spaces)

    observation_space = single_observation_space
    action_space = single_action_space


class SyncVectorTeamEnv(VectorTeamEnv):
    """E `MultiAgentEnv`s in this process, one after another, written into shared arrays.

    Args:
        make_env: Called with an index, returns that environment.
        num_envs: E.
        team: What every environment must keep to; read from the first one if None.
        restart_failed: Whether an environment that raises is closed and made anew. If not, its
            exception is raised.
    """

    def __init__(
        self,
        make_env: Callable[[int], MultiAgentEnv],
        num_envs: int,
        *,
        team: Team | None = None,
        restart_failed: bool = False,
    ) -> None:
        self._make_env = make_env
        self._restart_failed = restart_failed
        self.num_envs = num_envs
        self.envs = [make_env(i) for i in range(num_envs)]
        self.team = team or Team.from_env(self.envs[0])

        agents = self.team.agents
        self._index = {a: i for i, a in enumerate(agents)}
        self.observations = {
            a: np.zeros((num_envs, *rows.shape), row_dtype(rows))
            for a, rows in self.team.row_spaces.items()
        }
        # Those whose observations must be made rows.
        self._encoded = {a: s for a, s in self.team.row_spaces.items() if isinstance(s, Rows)}
        # The same arrays as a list: the step loop below is hot.
        self._rows = [(a, x, x.shape[1:]) for a, x in self.observations.items()]
        self.state = None
        space = self.team.state_rows
        if space is not None:
            self.state = np.zeros((num_envs, *space.shape), row_dtype(space))
        self.active = np.ones((num_envs, len(agents)), bool)
        self.infos = [{} for _ in range(num_envs)]
        self.masks = {
            a: np.ones((num_envs, num_choices(self.team.moves[a].flat)), bool)
            for a in agents
            if a in self.team.masked
        }
        self._told = Told()
        self._is_box = [isinstance(self.team.action_spaces[a], gym.spaces.Box) for a in agents]

    def reset(self, envs: Sequence[int], seeds: Sequence[int | None]) -> None:
        for e, seed in zip(envs, seeds, strict=True):
            try:
                returned = self.envs[e].reset(seed=seed)
            except Exception:
                if not self._restart_failed:
                    raise
                logger.exception("Environment %d failed in reset(); making it anew.", e)
                self.failed_resets += 1
                self._remake(e)
                returned = self.envs[e].reset(seed=seed)
            problem = problem_with("reset()", returned)
            if problem:
                raise TeamDataError(problem)
            observations, infos = returned
            self._check_reset(observations)
            self.infos[e] = infos
            self._write(e, observations)
            self.active[e] = [a in observations for a in self._index]

    def step(self, actions: dict[AgentID, np.ndarray]) -> Outcome:
        agents = self.team.agents
        shape = self.active.shape
        never = np.zeros(shape[0], bool)
        outcome = Outcome(np.zeros(shape, np.float32), never, never.copy(), never.copy())
        per_agent = [
            _one_by_one(actions[a], box, shape[0])
            for a, box in zip(agents, self._is_box, strict=True)
        ]
        everyone: Any = self.active.all(1).tolist()
        for e, joint in enumerate(zip(*per_agent, strict=True)):
            action = dict(zip(agents, joint, strict=True))
            if not everyone[e]:
                action = {a: u for a, u in action.items() if self.active[e, self._index[a]]}
            try:
                returned = self.envs[e].step(action)
            except Exception:
                if not self._restart_failed:
                    raise
                logger.exception("Environment %d failed in step(); making it anew.", e)
                self._remake(e)
                outcome.failed[e] = True
                continue
            try:
                self._take(e, action, everyone[e], returned, outcome)
            except (AttributeError, TypeError, ValueError) as error:
                problem = problem_with("step()", returned)
                if problem is None:
                    raise
                raise TeamDataError(problem) from error
        return outcome

    def _take(self, e: int, action: dict, everyone: bool, returned: Any, outcome: Outcome) -> None:
        """Writes what environment e returned; `everyone`: whether all agents acted."""
        obs, reward, term, trunc, self.infos[e] = returned
        self._write(e, obs)
        row = outcome.rewards[e]
        try:
            for a, r in reward.items():
                row[self._index[a]] = r
        except KeyError as error:
            raise TeamDataError(self._unknown_agent(error.args[0], "rewards")) from None
        except (TypeError, ValueError):
            raise TeamDataError(f"The reward of agent {a!r} is not a number: {r!r}.") from None
        over = term.get("__all__")
        if over is None:
            raise TeamDataError(
                "The environment's terminateds lack the key '__all__'. step() must return it, "
                "True once the episode is over for the whole team."
            )
        if over:
            outcome.terminated[e] = True
        elif trunc.get("__all__", False):
            outcome.truncated[e] = True
            self._mark_survivors(e, obs, term)
        elif (
            not everyone
            or len(obs) != len(self._rows)
            or True in term.values()
            or True in trunc.values()
        ):
            # Who has ended its part may return where absences are allowed.
            end = None if self.team.absences else end_without_all(action, term, trunc)
            if end is None:
                self._mark_living(e, obs, term, trunc)
                return
            self._told.nobody_left(end)
            if end == "truncated":
                outcome.truncated[e] = True
                self._mark_survivors(e, obs, term)
            else:
                outcome.terminated[e] = True

    def episode_metrics(self, envs: Sequence[int]) -> dict[str, np.ndarray]:
        if not envs or not hasattr(self.envs[0], "episode_metrics"):
            return {}
        counted = [self.envs[e].episode_metrics() for e in envs]
        return {name: np.array([c[name] for c in counted], np.float64) for name in counted[0]}

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _write(self, e: int, observations: dict[AgentID, Any]) -> None:
        if self.masks:
            observations = self._take_masks(e, observations)
        if self._encoded:
            observations = self._take_rows(observations)
        for agent, rows, shape in self._rows:
            x = observations.get(agent)
            if x is None:
                rows[e] = 0.0
                continue
            if getattr(x, "shape", None) != shape:
                x = self._as_observation(agent, x)
            try:
                rows[e] = x
            except (TypeError, ValueError):
                rows[e] = self._as_observation(agent, x)
        if not self._index.keys() >= observations.keys():
            unknown = next(a for a in observations if a not in self._index)
            raise TeamDataError(self._unknown_agent(unknown, "observations"))
        if self.state is not None:
            self._write_state(e)

    def _write_state(self, e: int) -> None:
        assert self.state is not None
        state = state_row(self.team, self.envs[e].state())
        if np.shape(state) != self.state.shape[1:]:
            raise TeamDataError(
                f"The environment's state() returned shape {np.shape(state)}; its "
                f"state_space says {self.state.shape[1:]}."
            )
        self.state[e] = state

    def _take_rows(self, observations: dict[AgentID, Any]) -> dict[AgentID, Any]:
        """The observations, those that are not plain vectors as rows."""
        rows = dict(observations)
        for agent, space in self._encoded.items():
            if agent in observations:
                rows[agent] = row_of(agent, space, observations[agent])
        return rows

    def _take_masks(self, e: int, observations: dict[AgentID, Any]) -> dict[AgentID, Any]:
        """Writes the masks; returns the observations without them."""
        plain = dict(observations)
        for agent, rows in self.masks.items():
            if agent not in observations:
                rows[e] = True
                continue
            try:
                plain[agent] = observations[agent][OBSERVATIONS]
                mask = np.asarray(observations[agent][ACTION_MASK])
            except (KeyError, TypeError, IndexError):
                raise TeamDataError(
                    f"The observation of agent {agent!r} is not a dict of '{OBSERVATIONS}' and "
                    f"'{ACTION_MASK}', as its observation space says."
                ) from None
            if mask.shape != rows.shape[1:]:
                raise TeamDataError(
                    f"The action mask of agent {agent!r} has shape {mask.shape}; "
                    f"{rows.shape[1:]} is needed, one entry for each choice of its action space "
                    f"{self.team.action_spaces[agent]}."
                )
            rows[e] = mask > 0
        return plain

    def _mark_living(self, e: int, obs: dict, term: dict, trunc: dict) -> None:
        for i, (agent, _, _) in enumerate(self._rows):
            dies = term.get(agent, False) or trunc.get(agent, False)
            alive = agent in obs and not dies
            if alive != self.active[e, i] and not dies and not self.team.absences:
                did = "returned after its end" if alive else "left without an end"
                raise TeamDataError(
                    f"The agent {agent!r} {did}. Agents of a team act in every step until they "
                    "die: set terminateds[agent] or truncateds[agent] once, in the step in which "
                    "it dies. If agents come and go, set `absences = True` in the environment "
                    "(PettingZooTeamEnv(env, absences=True)). Environments with turns are not "
                    "supported."
                )
            self._set_active(e, i, alive)

    def _mark_survivors(self, e: int, obs: dict, term: dict) -> None:
        """The episode is cut: who would go on. An agent's own truncation is not its death."""
        unseen = []
        for i, (agent, _, _) in enumerate(self._rows):
            alive = bool(self.active[e, i]) and not term.get(agent, False)
            if self.team.absences:
                alive = agent in obs and not term.get(agent, False)
            if alive and agent not in obs:
                unseen.append(agent)
            self._set_active(e, i, alive and agent in obs)
        self._told.no_final(unseen)

    def _set_active(self, e: int, i: int, active: bool) -> None:
        agent, rows, _ = self._rows[i]
        self.active[e, i] = active
        if not active:
            rows[e] = 0.0
            if agent in self.masks:
                self.masks[agent][e] = True

    def _as_observation(self, agent: AgentID, x: Any) -> np.ndarray:
        """Accepts what can be read as numbers of the right shape; explains the rest."""
        space = self.team.row_spaces[agent]
        try:
            array = np.asarray(x, np.float32)
        except (TypeError, ValueError):
            raise TeamDataError(
                f"The observation of agent {agent!r} is not numeric: {type(x).__name__}. Its "
                f"space is {space}."
            ) from None
        if array.shape != space.shape:
            raise TeamDataError(
                f"The observation of agent {agent!r} has shape {array.shape}; its observation "
                f"space says {space.shape}. Mend the environment's observation_spaces, or what "
                "it returns."
            )
        return array

    def _check_reset(self, observations: dict[AgentID, Any]) -> None:
        got, expected = set(observations), set(self._index)
        if not (got <= expected if self.team.absences else got == expected):
            raise TeamDataError(
                "The agents of an episode differ from the team's. Missing after reset(): "
                f"{sorted(map(str, expected - got))}; new: {sorted(map(str, got - expected))}. "
                "A team is fixed for a training run: every agent in `possible_agents` must be "
                "returned by reset(), and may die later: terminateds[agent] = True. If agents "
                "come later or return, set `absences = True` in the environment "
                "(PettingZooTeamEnv(env, absences=True))."
            )

    def _unknown_agent(self, agent: AgentID, where: str) -> str:
        return (
            f"The environment returned {where} for the agent {agent!r}, which is not in its "
            f"`possible_agents`: {list(self.team.agents)}."
        )

    def _remake(self, e: int) -> None:
        try:
            self.envs[e].close()
        except Exception as error:
            logger.warning("Closing the failed environment %d raised: %s", e, error)
        self.envs[e] = self._make_env(e)


def _one_by_one(actions: Any, is_box: bool, num_envs: int) -> list[Any]:
    if isinstance(actions, dict | tuple) or (is_box and actions.ndim == 1):
        return [pick(actions, e) for e in range(num_envs)]
    # Plain ints for Discrete: environments check them against their spaces, fast for ints.
    return list(actions) if is_box or actions.ndim > 1 else actions.tolist()


def make_vector_env(
    create: Callable[[Any], Any],
    contexts: Sequence[Any],
    *,
    team: Team | None = None,
    restart_failed: bool = False,
) -> VectorTeamEnv:
    """Makes the runner's environment from the registered creator.

    Args:
        create: Called with one context; returns a `MultiAgentEnv`, or a `VectorTeamEnv`, which
            then must hold `num_envs` environments.
        contexts: One `EnvContext` per sub-environment.
        team: As in `SyncVectorTeamEnv`.
        restart_failed: As in `SyncVectorTeamEnv`.

    Raises:
        TeamError: If the creator returns anything else, or a `VectorTeamEnv` whose `masks` are
            not those of its team.
    """
    first = create(contexts[0])
    if isinstance(first, VectorTeamEnv):
        if first.num_envs != len(contexts):
            raise TeamError(
                f"The vector environment holds {first.num_envs} environments, but "
                f"config.env_runners(num_envs_per_env_runner={len(contexts)}) asks for "
                f"{len(contexts)}. Read env_config['num_envs'] when making it."
            )
        _check_masks(first)
        return first
    check_is_team_env(first)
    made: list[Any] = [first]

    def make(index: int) -> MultiAgentEnv:
        return made.pop() if made else create(contexts[index])

    return SyncVectorTeamEnv(make, len(contexts), team=team, restart_failed=restart_failed)


def _check_masks(env: VectorTeamEnv) -> None:
    for agent in env.team.masked:
        expected = (env.num_envs, num_choices(env.team.moves[agent].flat))
        mask = env.masks.get(agent)
        if mask is None or mask.shape != expected or mask.dtype != bool:
            got = "none" if mask is None else f"{mask.shape} {mask.dtype}"
            raise TeamError(
                f"The team of the vector environment says that agent {agent!r} has an action "
                f"mask; its `masks` must then hold a bool array of shape {expected}, got {got}."
            )
