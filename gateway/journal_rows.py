"""Writing a journal: what one step of a site becomes in the tables of inputs, events and births."""

import sqlite3
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from manway.codec_mqtt import DeviceState, encode
from manway.events import Event
from manway.inputs import AnyInput, CommandReceived, FrameReceived, InputRejected, PlanReceived

FRAMES, PLANS = 0, 2  # input.kind
_KINDS: dict[type, int] = {FrameReceived: FRAMES, CommandReceived: 1, PlanReceived: PLANS, InputRejected: 3}
_MIXED = 4
# (choice) zlib, measured on four gases with noise, 1,000 frames a commit: 53 B written a frame at level 1, 51 at 2, and 48 at 3
# for a fifth more work; above it the work doubles.
_LEVEL = 3
_KEPT_BEFORE_S = 60.0  # of telemetry before an alarm, `pipeline.md` §6
_KEPT_ROWS = 25_000  # (choice) looked at for it: that minute of a city, ten milliseconds of the alarm's own commit

_ADD_INPUT = "INSERT INTO input(site, kind, at, n, keep, places, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
# Not ON CONFLICT DO NOTHING: that uses up a number for every event it ignores.
_ADD_EVENT = """
INSERT INTO event(site, seq, id, input, at, body)
SELECT :site, :seq, :id, :input, :at, :body WHERE NOT EXISTS (SELECT 1 FROM event WHERE site = :site AND id = :id)"""
_ADD_PLAN = "INSERT INTO plan VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
# Numbers follow each other, and nearly always so do times: the rows to look at are those behind the first that is too old.
_KEEP_BEFORE = """
UPDATE input SET keep = 1 WHERE site = :site AND kind = :kind AND keep = 0 AND at >= :since AND id > ifnull(
  (SELECT id FROM input WHERE id > :behind AND at < :since ORDER BY id DESC LIMIT 1), :behind)"""
_pack = msgspec.msgpack.Encoder()
_births = msgspec.json.Decoder(DeviceState)


class Entry(NamedTuple):
    """What one step of one site must write; `at` is the time its engine was given, Unix seconds.

    `births` are those that are new, with their devices, in the order they came; `keep` marks telemetry around an alarm, which
    the cap takes last.
    """

    site: str
    at: float
    inputs: Sequence[AnyInput]
    events: Sequence[Event]
    births: Sequence[tuple[str, DeviceState]] = ()
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
    kind = PLANS if PLANS in kinds else kinds.pop() if len(kinds) == 1 else _MIXED
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

    def __init__(self, db: sqlite3.Connection, seqs: dict[str, int], inputs: dict[str, int], keeping: set[str]) -> None:
        """Count on from the newest event and input of every site; `keeping` are the sites whose telemetry is being kept."""
        self._db, self.seqs, self.inputs, self.keeping = db, seqs, inputs, keeping

    def add(self, entry: Entry) -> None:
        """Write one entry: its inputs, then its events, then its births."""
        site = entry.site
        for row in packed(entry.inputs):
            values = (site, row.kind, entry.at, row.n, entry.keep, row.places, row.body)
            number = self._db.execute(_ADD_INPUT, values).lastrowid
            self.inputs[site] = number or 0
            if row.kind == PLANS:
                versions = [(site, item.plan.version, number) for item in entry.inputs if isinstance(item, PlanReceived)]
                self._db.executemany(_ADD_PLAN, versions)
        self.add_events(entry.events)
        for device, birth in entry.births:
            self._add_birth(site, device, birth)
        self._keep(entry)

    def _add_birth(self, site: str, device: str, birth: DeviceState) -> None:
        """Write a birth; the newest of another boot stays as the one before, whose last frames may still come."""
        row = self._db.execute("SELECT body FROM birth WHERE site = ? AND device = ?", (site, device)).fetchone()
        if row is not None and _births.decode(row[0]).b != birth.b:
            self._db.execute("REPLACE INTO birth_before VALUES (?, ?, ?)", (site, device, row[0]))
        self._db.execute("REPLACE INTO birth VALUES (?, ?, ?)", (site, device, encode(birth)))

    def _keep(self, entry: Entry) -> None:
        """Where telemetry begins to be kept, keep the minute before as well."""
        if not entry.keep:
            self.keeping.discard(entry.site)
        elif entry.site not in self.keeping:
            self.keeping.add(entry.site)
            behind = max(self.inputs.values(), default=0) - _KEPT_ROWS
            values = {"site": entry.site, "kind": FRAMES, "since": entry.at - _KEPT_BEFORE_S, "behind": behind}
            self._db.execute(_KEEP_BEFORE, values)

    def add_events(self, events: Sequence[Event]) -> None:
        """Write events, each under its site's next number; one that is there already uses up none."""
        for event in events:
            site, seq = event.site, self.seqs.get(event.site, 0) + 1
            values = {"site": site, "seq": seq, "id": event.id, "input": self.inputs.get(site, 0), "at": event.at}
            if self._db.execute(_ADD_EVENT, values | {"body": encode(event)}).rowcount:
                self.seqs[site] = seq


def _squeezed(inputs: Sequence[AnyInput]) -> bytes:
    return zlib.compress(_pack.encode(inputs), _LEVEL)
