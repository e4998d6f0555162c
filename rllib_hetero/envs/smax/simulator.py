"""jaxmarl's SMAX for E battles: two compiled functions on the CPU, one to begin, one to step.

Only this file imports `jax` and `jaxmarl`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from rllib_hetero.errors import TeamError

_MOST_AT_ONCE = 8
"""How many battles the compiled reset begins; more take several calls, fewer as long as these."""

_PRNG = "threefry2x32"  # named, so that a user's other default changes no battle


class Seen(NamedTuple):
    """What is seen of k battles.

    Attributes:
        observations: (n, k, d) float32, zeros for the dead.
        masks: (n, k, p) bool, True for the dead.
        state: (k, s) float32.
        alive: (k, n + m) bool, allies first.
    """

    observations: Any
    masks: Any
    state: Any
    alive: Any


class Unit(NamedTuple):
    """A living unit.

    Attributes:
        number: Allies come first.
        x, y, radius: On the map, which is 32 wide and high.
        kind: Its type in one letter.
        health: Between 0 and 1, of its type's.
    """

    number: int
    x: float
    y: float
    radius: float
    kind: str
    health: float


class Simulator:
    """E battles and the functions that are compiled for them.

    Compiled ahead of time: the types of what comes in are then fixed, and nothing is ever compiled
    while sampling. (jaxmarl's state is weakly typed in one number after a reset, and in none after
    a step, so that a jitted function would be compiled twice.)

    Args:
        map_name: jaxmarl's name of the map.
        options: Arguments of jaxmarl's environment, save that "max_steps" is exact.
        num_envs: E.
    """

    def __init__(self, map_name: str, options: dict[str, Any], num_envs: int) -> None:
        jax = _import_jax()
        self._num_envs = num_envs
        self._at_once = min(num_envs, _MOST_AT_ONCE)
        device = _cpu(jax)
        with jax.default_device(device), jax.enable_x64(False):
            from jaxmarl.environments import smax

            # jaxmarl looks at the clock before it moves it on, and so plays one step more.
            options = {**options, "max_steps": options["max_steps"] - 1}
            self._env = smax.HeuristicEnemySMAX(
                scenario=smax.map_name_to_scenario(map_name), **options
            )
            self._battles, self._begin, self._advance = self._compile(jax, device)

    def reset(self, envs: np.ndarray, keys: np.ndarray) -> Iterator[tuple[np.ndarray, Seen]]:
        """Begins new battles.

        Args:
            envs: (k,) indices.
            keys: (k, 2) uint32, a random key for each.

        Yields:
            Some of the indices, and what is seen of their battles.
        """
        for start in range(0, len(envs), self._at_once):
            rows = envs[start : start + self._at_once]
            k = len(rows)
            # What is written to an index beyond the last is dropped.
            where = np.full(self._at_once, self._num_envs, np.int32)
            where[:k] = rows
            some = np.zeros((self._at_once, 2), np.uint32)
            some[:k] = keys[start : start + k]
            self._battles, seen = self._begin(self._battles, where, some)
            observations, masks, state, alive = (np.asarray(x) for x in seen)
            yield rows, Seen(observations[:, :k], masks[:, :k], state[:k], alive[:k])

    def step(self, actions: np.ndarray) -> tuple[Seen, np.ndarray, np.ndarray]:
        """Steps all battles.

        Args:
            actions: (E, n) integers.

        Returns:
            What is seen, the team's rewards (E,) float32, and whether a battle is over, (E,) bool.
        """
        result = self._advance(self._battles, actions.astype(np.int32))
        self._battles, seen, rewards, done = result
        return Seen(*(np.asarray(x) for x in seen)), np.asarray(rewards), np.asarray(done)

    def units(self, e: int) -> tuple[list[Unit], int]:
        """The living units of battle e, and its steps so far."""
        state, env = self._battles[1].state, self._env
        # Copies: jax could not reuse the memory of its arrays while numpy looks at it.
        position, kind, health, alive, step = (
            np.array(x)[e]
            for x in (
                state.unit_positions,
                state.unit_types,
                state.unit_health,
                state.unit_alive,
                state.step,
            )
        )
        radius, full = np.asarray(env.unit_type_radiuses), np.asarray(env.unit_type_health)
        units = [
            Unit(
                int(i),
                float(position[i][0]),
                float(position[i][1]),
                float(radius[kind[i]]),
                env.unit_type_shorthands[kind[i]],
                float(health[i] / full[kind[i]]),
            )
            for i in np.flatnonzero(alive)
        ]
        return units, int(step)

    def _compile(self, jax: ModuleType, device: Any) -> tuple[Any, Any, Any]:
        """Battles not yet begun, and the functions that begin and that step them."""
        jnp, random, env = jax.numpy, jax.random, self._env
        agents = env.agents

        def split(raw):
            first, second = random.split(random.wrap_key_data(raw, impl=_PRNG))
            return random.key_data(first), second

        def look(observations, state) -> Seen:
            masks, alive = env.get_avail_actions(state), state.state.unit_alive
            masks = jnp.stack([masks[a] for a in agents]) > 0
            return Seen(
                jnp.stack([observations[a] for a in agents]),
                masks | ~alive[: len(agents), None],
                observations["world_state"],
                alive,
            )

        def start(raw):
            raw, key = split(raw)
            observations, state = env.reset(key)
            return (raw, state), look(observations, state)

        def advance(battle, actions):
            raw, key = split(battle[0])
            chosen = dict(zip(agents, actions, strict=True))
            observations, state, rewards, done, _ = env.step_env(key, battle[1], chosen)
            seen = look(observations, state)
            return (raw, state), seen, rewards[agents[0]], done["__all__"]

        axes = Seen(observations=1, masks=1, state=0, alive=0)
        start_some = jax.vmap(start, out_axes=(0, axes))
        advance_all = jax.vmap(advance, out_axes=(0, axes, 0, 0))

        def begin(battles, where, raw):
            new, seen = start_some(raw)
            put = lambda old, x: old.at[where].set(x, mode="drop")  # noqa: E731
            return jax.tree.map(put, battles, new), seen

        # Not weakly typed, whatever jaxmarl's are.
        keys = jax.ShapeDtypeStruct((self._num_envs, 2), np.uint32)
        shapes = jax.eval_shape(start_some, keys)[0]
        battles = jax.device_put(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes), device)
        some = np.zeros((self._at_once, 2), np.uint32)
        where = np.full(self._at_once, self._num_envs, np.int32)
        actions = np.zeros((self._num_envs, len(agents)), np.int32)
        return (
            battles,
            _compiled(jax, begin, battles, where, some),
            _compiled(jax, advance_all, battles, actions),
        )


def _compiled(jax: ModuleType, function: Any, battles: Any, *rest: np.ndarray) -> Any:
    # One thread: the runners of a machine share its cores.
    one = {"xla_cpu_multi_thread_eigen": False}
    jitted = jax.jit(function, donate_argnums=0, compiler_options=one)
    return jitted.lower(battles, *rest).compile()


def _import_jax() -> ModuleType:
    """jax; where nothing in this process has used it yet, without its other devices.

    It would otherwise take hold of the GPU, and of most of its memory. A user's JAX_PLATFORMS
    counts, and a jax that is in use already is left as it is.
    """
    jax = import_module("jax")
    from jax._src.xla_bridge import backends_are_initialized  # RLlib imports jax, unused.

    if not backends_are_initialized() and not jax.config.jax_platforms:
        jax.config.update("jax_platforms", "cpu")
    return jax


def _cpu(jax: ModuleType) -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise TeamError(
            f"SMAX runs on jax's CPU, which the setting {jax.config.jax_platforms!r} leaves out. "
            "Set JAX_PLATFORMS to a list with 'cpu' in it, such as 'cuda,cpu'."
        ) from error
