"""How much memory a replay takes, before there is one, and whether it is there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from rllib_hetero.errors import TeamError
from rllib_hetero.layout import Layout
from rllib_hetero.replay.finals import ROOM
from rllib_hetero.replay.packing import Packing
from rllib_hetero.replay.priorities import num_nodes
from rllib_hetero.replay.rings import Rings
from rllib_hetero.team import AgentID


def bytes_needed(
    layout: Layout,
    capacity: int,
    num_columns: int,
    *,
    individual_rewards: bool = False,
    keep_log_probs: bool = False,
    keep_dist_inputs: bool = False,
    sequence_length: int | None = None,
    agents: Collection[AgentID] | None = None,
    prioritized: bool = False,
    episode_length: float | None = None,
) -> int:
    """The bytes of a full `JointReplay` of these settings.

    With s the bytes seen in a step (observations, and the state if there is one: 4 for a number, 1
    for a byte of a picture), u the numbers done, w all masks' widths together, and n agents, a row
    has

        s + 4 u + 4 + n + w + 4

    bytes: what is seen, what is done, the team's reward, who is alive, masks, how the step ended.

    Args:
        layout: Agents, modules, spaces.
        capacity: Rows over all columns.
        num_columns: Environments.
        individual_rewards: See `JointReplay`; 4 n bytes more.
        keep_log_probs: See `JointReplay`; up to 4 n bytes more.
        keep_dist_inputs: See `JointReplay`; 4 bytes more for each parameter.
        sequence_length: See `JointReplay`; 1 byte more.
        agents: See `JointReplay`.
        prioritized: Whether rows have priorities; 16 bytes for each of the next power of 2.
        episode_length: The mean length of episodes, if they are cut: each has a true final
            observation of s + n + w bytes. None: they are not counted.
    """
    packing = Packing(
        layout,
        individual_rewards=individual_rewards,
        keep_log_probs=keep_log_probs,
        keep_dist_inputs=keep_dist_inputs,
        agents=agents,
    )
    sizes = {m: w * np.dtype(packing.dtypes[m]).itemsize for m, w in packing.widths.items()}
    rings = Rings(num_columns, capacity // num_columns)
    places = rings.num_slots
    finals = ROOM
    if episode_length is not None:
        # The table grows by an eighth.
        finals += int(9 / 8 * num_columns * rings.rows / episode_length)
    total = (places + 1) * sum(sizes.values()) + 4 * places
    total += finals * (sizes["seen"] + sizes["flags"])
    if sequence_length is not None:
        total += places
    if prioritized:
        total += 8 * num_nodes(places)
    return total


def free_memory() -> int | None:
    """Bytes that are free on this machine, or left to this container; None where not known."""
    known = [_machine(), _container()]
    return min((free for free in known if free is not None), default=None)


def check_memory(needed: int, free: int | None) -> None:
    """Refuses a replay that will not fit once it is full.

    Args:
        needed: Its bytes.
        free: Bytes that are free; None if not known.

    Raises:
        TeamError: If they are fewer.
    """
    if free is not None and needed > free:
        raise TeamError(
            f"A full replay takes {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory "
            "are free. Lower config.training(replay_buffer_config={'capacity': ...}), or keep it "
            "on disk with config.training(replay_buffer_config={'folder': ...})."
        )


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in sizes else None


def _container() -> int | None:
    """What control groups of version 2 or 1 leave; pages of files can be given back."""
    root = Path("/sys/fs/cgroup")
    for limit, used, stat, files in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            most, now = (root / limit).read_text().strip(), int((root / used).read_text())
            pages = dict(line.split() for line in (root / stat).read_text().splitlines())
        except (OSError, ValueError):
            continue
        if most == "max":
            return None
        return max(0, int(most) - now + int(pages.get(files, 0)))
    return None
