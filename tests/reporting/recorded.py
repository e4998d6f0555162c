"""Reads what the trackers' libraries have written to disk."""

import json
import struct
import time
from collections import defaultdict
from pathlib import Path


def event_files(folder: Path):
    """The events of TensorBoard's files, oldest file first: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4


def scalars(folder: Path):
    """Tag to [(step, value), ...]."""
    found = defaultdict(list)
    for event in event_files(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found[value.tag].append((event.step, value.simple_value))
    return found


def wandb_records(folder: Path, seconds: float = 60):
    """The records of an offline run of wandb that has ended.

    What writes the file is another process, which may not be done when the run has finished.
    """
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    end = time.monotonic() + seconds
    while True:
        records = list(records_in(path.read_bytes()))
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        assert time.monotonic() < end, f"{path} has no end"
        time.sleep(0.1)


def records_in(data: bytes):
    """A header, then pieces in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    at, pieces = 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if at + 7 + length > len(data):
            return
        pieces = pieces * (kind in (3, 4)) + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(pieces)


def wandb_history(folder: Path):
    """The rows that were logged."""
    return [
        {"/".join(x.nested_key) or x.key: json.loads(x.value_json) for x in record.history.item}
        for record in wandb_records(folder)
        if record.WhichOneof("record_type") == "history"
    ]


def wandb_config(folder: Path):
    """The run's config, and its tags."""
    runs = [r.run for r in wandb_records(folder) if r.WhichOneof("record_type") == "run"]
    config = {x.key: json.loads(x.value_json) for run in runs for x in run.config.update}
    return config, list(runs[0].tags)
