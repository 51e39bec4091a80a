"""Writing a journal: what one step of a site becomes in the tables of inputs, events and births."""

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from manway.codec_mqtt import DeviceState, encode
from manway.events import Event
from manway.inputs import AnyInput, CommandReceived, FrameReceived, InputRejected, PlanReceived

FRAMES = 0  # input.kind
_KINDS: dict[type, int] = {FrameReceived: FRAMES, CommandReceived: 1, PlanReceived: 2, InputRejected: 3}
_MIXED = 4
# (choice) zlib, measured on four gases with noise, 1,000 frames a commit: 53 B written a frame at level 1, 51 at 2, and 48 at 3
# for a fifth more work; above it the work doubles.
_LEVEL = 3

_ADD_INPUT = "INSERT INTO input(site, kind, at, n, keep, places, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
# Not ON CONFLICT DO NOTHING: that uses up a number for every event it ignores.
_ADD_EVENT = """
INSERT INTO event(site, seq, id, input, at, body)
SELECT :site, :seq, :id, :input, :at, :body WHERE NOT EXISTS (SELECT 1 FROM event WHERE site = :site AND id = :id)"""
_pack = msgspec.msgpack.Encoder()


class Entry(NamedTuple):
    """What one step of one site must write; `at` is the time its engine was given, Unix seconds.

    `births` are those that are new, by device; `keep` marks telemetry around an alarm, which the cap takes last.
    """

    site: str
    at: float
    inputs: Sequence[AnyInput]
    events: Sequence[Event]
    births: Mapping[str, DeviceState] = {}
    keep: bool = False


class Packed(NamedTuple):
    """One row of the table of inputs, but for what its whole entry shares."""

    kind: int
    n: int
    places: bytes | None
    body: bytes


def packed(inputs: Sequence[AnyInput]) -> list[Packed]:
    """Return the rows of one entry: none, or one, or its frames and then all else with their places between them."""
    others = [item for item in inputs if type(item) is not FrameReceived]
    if not inputs:
        return []
    if not others:
        return [Packed(FRAMES, len(inputs), None, _squeezed(inputs))]
    kinds = {_KINDS.get(type(item), _MIXED) for item in others}
    kind = kinds.pop() if len(kinds) == 1 else _MIXED
    if len(others) == len(inputs):
        return [Packed(kind, len(others), None, _squeezed(others))]
    frames, places = list[AnyInput](), list[int]()
    for item in inputs:
        if type(item) is FrameReceived:
            frames.append(item)
        else:
            places.append(len(frames))
    return [
        Packed(FRAMES, len(frames), None, _squeezed(frames)),
        Packed(kind, len(others), _pack.encode(places), _squeezed(others)),
    ]


class Work:
    """The rows of one commit; its numbers count for the journal once the transaction stands."""

    def __init__(self, db: sqlite3.Connection, seqs: dict[str, int], inputs: dict[str, int]) -> None:
        self._db, self.seqs, self.inputs = db, seqs, inputs

    def add(self, entry: Entry) -> None:
        """Write one entry: its inputs, then its events, then its births."""
        site = entry.site
        for row in packed(entry.inputs):
            values = (site, row.kind, entry.at, row.n, entry.keep, row.places, row.body)
            number = self._db.execute(_ADD_INPUT, values).lastrowid
            self.inputs[site] = number or 0
        self.add_events(entry.events)
        if entry.births:
            rows = [(site, device, encode(birth)) for device, birth in entry.births.items()]
            self._db.executemany("REPLACE INTO birth VALUES (?, ?, ?)", rows)

    def add_events(self, events: Sequence[Event]) -> None:
        """Write events, each under its site's next number; one that is there already uses up none."""
        for event in events:
            site, seq = event.site, self.seqs.get(event.site, 0) + 1
            values = {"site": site, "seq": seq, "id": event.id, "input": self.inputs.get(site, 0), "at": event.at}
            if self._db.execute(_ADD_EVENT, values | {"body": encode(event)}).rowcount:
                self.seqs[site] = seq


def _squeezed(inputs: Sequence[AnyInput]) -> bytes:
    return zlib.compress(_pack.encode(inputs), _LEVEL)
