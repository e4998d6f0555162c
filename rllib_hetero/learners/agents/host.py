"""The process of some agents: their members, what was sampled, their part in the exchange."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rllib_hetero.layout import ModuleID
from rllib_hetero.learners.agents import files
from rllib_hetero.learners.agents.exchange import Outcome, Plan, Report, Source
from rllib_hetero.learners.agents.replays import Replays
from rllib_hetero.references import fetch
from rllib_hetero.replay.homes import first_column
from rllib_hetero.runners.dealing import Deal, put_together
from rllib_hetero.runners.fragment import TeamFragment

POLICIES_OF_OTHERS = "policies_of_others"
SMALL_REPLAY = 1_000_000_000
"""Bytes of all hosts' replays that are put into checkpoints unless told otherwise."""


@dataclass
class Description:
    """What everybody may know of a member.

    Attributes:
        shared_bytes: Bytes of the shared part.
        policy_bytes: Bytes of the policy.
        policy: Reference to the policy.
        exchanges_policies: Whether it needs the others' policies.
    """

    shared_bytes: int
    policy_bytes: int
    policy: Any
    exchanges_policies: bool


class Host:
    """Holds members, and does for them what the driver asks; the driver sees no parameters.

    A plain class: the group makes it an actor, or calls it directly.

    Args:
        config: `DecentralisedConfig`.
        members: Ids of its members.
        incarnation: How often this host was started before. A later one has no state until
            `come_back` has given it one.
        post: What copies and policies are handed out through: `ray.put`, or nothing.
        snapshots: A folder of this machine for the members' states. None: none are kept.
    """

    def __init__(
        self,
        config: Any,
        members: Sequence[ModuleID],
        incarnation: int = 0,
        post: Callable[[Any], Any] = lambda x: x,
        snapshots: str | None = None,
    ) -> None:
        self._config, self._post = config, post
        self._incarnation, self._restored = incarnation, incarnation == 0
        self._snapshots = None if snapshots is None else Path(snapshots)
        gpu = config.num_gpus_per_agent_learner and config.agents_per_learner is not None
        device = torch.device("cuda" if gpu else "cpu")
        member_class, numbers = config.get_member_class(), config.members
        self._members, self._numbers = {}, {m: numbers.index(m) for m in members}
        for m in members:
            # Alike in every process, whoever is made before.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_as_seed((config.update_order_seed, self._numbers[m])))
                self._members[m] = member_class(config, m, device)
        self._replays = Replays(config, list(members), device)
        self._received: dict[Source, TeamFragment] = {}
        exchange = any(member.exchanges_policies for member in self._members.values())
        self._others = self._build_others() if exchange else None

    def _build_others(self) -> dict[ModuleID, Any]:
        """Frozen actors of all members, to be loaded with what these send."""
        spec = self._config.get_multi_rl_module_spec(inference_only=True)
        with torch.random.fork_rng(devices=[]):
            return {m: spec[m].build().requires_grad_(False) for m in self._config.members}

    def describe(self) -> dict[ModuleID, Description]:
        """What the group must know before it starts."""
        policies = self._policies()
        return {
            m: Description(
                shared_bytes=member.shared.nbytes,
                policy_bytes=sum(np.asarray(x).nbytes for x in policies[m].values()),
                policy=self._post(policies[m]),
                exchanges_policies=member.exchanges_policies,
            )
            for m, member in self._members.items()
        }

    # ---- an iteration ------------------------------------------------------------------------

    def receive(self, deals: Sequence[Deal]) -> set[Source]:
        """Reads what everybody may, and the members' own rewards.

        Returns:
            Which of the fragments are here. Those of a runner that is no more may be lost.
        """
        self._received = {}
        for dealt in deals:
            public = fetch(dealt.public)
            rewards = {m: fetch(dealt.rewards[m]) for m in self._members}
            if public is not None and all(x is not None for x in rewards.values()):
                layout = self._config.layout
                self._received[dealt.source] = put_together(public, rewards, layout, self._members)
        return set(self._received)

    def learn(self, plan: Plan) -> Report:
        """Mixes, makes some updates, and publishes."""
        with _threads(self._config.num_cpus_per_agent_learner):
            self._mix(plan)
            if plan.keep is not None:
                self._keep(plan.keep)
            ready = self._restored and (not plan.num_updates or self._can_learn())
            if ready:
                self._update(plan)
        if not ready:
            return Report(self._incarnation, ready=False)
        return Report(
            self._incarnation,
            ready=True,
            copies={m: self._post(self._copy(m)) for m in plan.publish},
            policies={m: self._post(self._members[m].policy()) for m in plan.send_policies},
        )

    def finish(self, plan: Plan, snapshot: bool = False) -> Outcome:
        """Mixes once more, and says how it went."""
        with _threads(self._config.num_cpus_per_agent_learner):
            self._mix(plan)
        if snapshot and self._restored:
            self._keep_snapshot()
        seed = self._config.update_order_seed
        return Outcome(
            metrics={
                m: {
                    **member.metrics(),
                    "consensus_residual": member.consensus.residual,
                    "multiplier_norm": float(member.consensus.multiplier.norm()),
                }
                for m, member in self._members.items()
            },
            projections={m: x.consensus.projections(seed) for m, x in self._members.items()},
            policies=self.policies(),
            rows=len(self._replays),
        )

    def _mix(self, plan: Plan) -> None:
        for peer in plan.lost:
            for member in self._members.values():
                member.consensus.forget(peer)
        timeout_s = self._config.peer_timeout_s
        copies = {j: fetch(x, timeout_s) for j, x in plan.mixing.copies.items()}
        for m, weights in plan.mixing.weights.items():
            # One whose copy is lost with its host: the group hears of it, see `forget`.
            known = {j: w for j, w in weights.items() if copies[j] is not None}
            tensors = {j: torch.from_numpy(copies[j]) for j in known}
            self._members[m].consensus.mix(known, tensors)
        self._hear_policies(plan.mixing.policies)

    def _hear_policies(self, policies: dict[ModuleID, Any]) -> None:
        if self._others is None:
            return
        for m, reference in policies.items():
            state = fetch(reference, self._config.peer_timeout_s)
            if state is not None:
                self._others[m].set_state(state)

    def hear(self, policies: dict[ModuleID, Any]) -> None:
        """Takes over the others' policies, outside of a round."""
        self._hear_policies(policies)

    def _update(self, plan: Plan) -> None:
        for member in self._members.values():
            member.explore_as_scheduled(plan.env_steps)
        for k in range(plan.first_update, plan.first_update + plan.num_updates):
            for m, member in self._members.items():
                seed = (self._config.update_order_seed, k, self._numbers[m])
                others = self._others and {j: x for j, x in self._others.items() if j != m}
                member.update(member.draw(self._replays[m], seed), seed, others)

    def _keep(self, sources: frozenset[Source]) -> None:
        for source in sorted(sources & self._received.keys()):
            fragment = self._received[source]
            column = first_column(fragment, self._config.num_envs_per_env_runner)
            self._replays.add(fragment, column)
        self._received = {}

    def _can_learn(self) -> bool:
        # A host that was started anew would else learn from a handful of steps.
        least = self._config.num_steps_sampled_before_learning_starts
        return len(self._replays) >= max(1, min(least, self._replays.capacity))

    def _copy(self, m: ModuleID) -> np.ndarray:
        return self._members[m].shared.vector().cpu().numpy()

    def policies(self) -> dict[ModuleID, Any]:
        """References to the members' policies."""
        return {m: self._post(policy) for m, policy in self._policies().items()}

    def copies(self) -> dict[ModuleID, Any]:
        """References to the members' shared parts, for one that has lost its own."""
        return {m: self._post(self._copy(m)) for m in self._members}

    # ---- states ------------------------------------------------------------------------------

    def come_back(self, copies: dict[ModuleID, Any]) -> str:
        """Gives the members of a host that was started anew a state.

        Args:
            copies: References to others' shared parts, of which one serves; empty if nobody has
                one.

        Returns:
            Whose: "own" (this host's last snapshot), "neighbour" or "none". Multipliers are zero:
            the others have forgotten theirs.
        """
        whose = "own"
        vectors = [x for x in map(fetch, copies.values()) if x is not None]
        for m, member in self._members.items():
            state = self._read_snapshot(m)
            if state is not None:
                member.set_state(state)
            elif vectors:
                member.load_shared(vectors[0])
                whose = "neighbour"
            else:
                whose = "none"
            member.consensus.reset()
        self._restored = True
        return whose

    def _keep_snapshot(self) -> None:
        if self._snapshots is None:
            return
        self._snapshots.mkdir(parents=True, exist_ok=True, mode=0o700)
        for m, member in self._members.items():
            path = self._snapshots / f"{m}.pt"
            beside = path.with_suffix(".new")
            torch.save(member.get_state(), beside)
            os.replace(beside, path)

    def _read_snapshot(self, m: ModuleID) -> Any:
        if self._snapshots is None or not (self._snapshots / f"{m}.pt").exists():
            return None
        return torch.load(self._snapshots / f"{m}.pt", weights_only=False)

    def save(self, path: str, filesystem: Any, previous: str | None) -> dict[str, Any] | None:
        """Writes its part of a checkpoint; see `files.write`."""
        replays = self._replays.named if self._keeps_replays() else {}
        return files.write(self._states(), self._policies(), replays, path, filesystem, previous)

    def _keeps_replays(self) -> bool:
        wanted = self._config.replay_in_checkpoint
        if wanted is None:
            held = self._replays.nbytes * len(self._replays) // self._replays.capacity
            return held * len(self._config.hosts) <= SMALL_REPLAY
        return wanted

    def restore(self, path: str, filesystem: Any, with_replay: bool) -> tuple[list[ModuleID], bool]:
        """Reads its part of a checkpoint.

        Args:
            path: The checkpoint's folder.
            filesystem: Its filesystem.
            with_replay: Whether the replay is to be read too.

        Returns:
            The members of which there was no state, and whether the replay is here.
        """
        states = files.read_states(list(self._members), path, filesystem)
        for m, state in states.items():
            self._set_state(m, state)
        self._restored = True
        with_replay = with_replay and files.read_replays(self._replays.named, path, filesystem)
        return [m for m in self._members if m not in states], with_replay

    def adopt(self, members: Sequence[ModuleID], copies: dict[ModuleID, Any]) -> None:
        """Gives those of its members that are named a neighbour's shared part."""
        vectors = [x for x in map(fetch, copies.values()) if x is not None]
        own = [m for m in members if m in self._members]
        for m in own if vectors else ():
            self._members[m].load_shared(vectors[0])
            self._members[m].consensus.reset()

    def _states(self) -> dict[ModuleID, Any]:
        states = {m: member.get_state() for m, member in self._members.items()}
        if self._others is not None:
            first = next(iter(states))
            states[first] = states[first] | {
                POLICIES_OF_OTHERS: {m: x.get_state() for m, x in self._others.items()}
            }
        return states

    def _set_state(self, m: ModuleID, state: dict[str, Any]) -> None:
        own = {key: x for key, x in state.items() if key != POLICIES_OF_OTHERS}
        self._members[m].set_state(own)
        if self._others is not None:
            for j, policy in state.get(POLICIES_OF_OTHERS, {}).items():
                self._others[j].set_state(policy)

    def _policies(self) -> dict[ModuleID, dict[str, np.ndarray]]:
        return {m: member.policy() for m, member in self._members.items()}

    def close(self) -> None:
        """Removes what it keeps on this machine."""
        if self._snapshots is None:
            return
        for m in self._members:
            (self._snapshots / f"{m}.pt").unlink(missing_ok=True)


@contextmanager
def _threads(num_cpus: float) -> Iterator[None]:
    """As many threads as the host has CPUs: results must not depend on where it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(num_cpus)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _as_seed(entropy: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
