"""Writing a journal: what one step becomes in the tables of inputs, sources, events and births."""

import math
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple, TypeVar

import msgspec

from manway import plain
from manway.codec_mqtt import DeviceState, encode
from manway.events import AlarmRaised, AlarmRepeated, Event
from manway.inputs import AnyInput, CommandReceived, FrameReceived, InputRejected, PlanReceived
from manway.plain import Plain, Source

FRAMES, PLANS, PLAIN = 0, 2, 5  # input.kind
_KINDS: dict[type, int] = {FrameReceived: FRAMES, CommandReceived: 1, PlanReceived: PLANS, InputRejected: 3}
_MIXED = 4
_NO_SITE = ""  # of a row of plain frames: they are of many
# (choice) zlib, measured on four gases with noise, 1,000 frames a commit: 53 B written a frame at level 1, 51 at 2, and 48 at 3
# for a fifth more work; above it the work doubles.
_LEVEL = 3
_KEPT_BEFORE_S = 60.0  # of telemetry before an alarm, `pipeline.md` §6
_KEPT_ROWS = 25_000  # (choice) looked at for it: that minute of a city
# (choice) Every statement gives the interpreter away three times, and while the rules are busy it takes half a millisecond each
# to have it back: an alarm's rows, table by table in a transaction, came 4.5 ms later, in one statement 1.9. So rows of all
# tables go through one view, whose triggers know where to. Each number of rows is a statement of its own, and Python keeps 128
# of them ready.
_MOST_ROWS = 32
_ROW_BYTES = 4096  # beside its body: four pages, which is what a row and its indexes may begin at most

_SOURCE, _INPUT, _KEPT, _EVENT = range(4)
_TABLES = {
    _SOURCE: ("source", "number, site, device, boot, channels, since"),
    _INPUT: ("input", "id, site, kind, at, n, keep, places, body"),
    _KEPT: ("kept", "site, behind, upto, since"),
    _EVENT: ("event", "site, seq, id, input, at, body"),
}
_WIDTH = 8  # columns of the widest
# Not ON CONFLICT DO NOTHING: that uses up a number for every event it ignores.
_ADD_EVENT = """
INSERT INTO event(site, seq, id, input, at, body)
SELECT :site, :seq, :id, :input, :at, :body WHERE NOT EXISTS (SELECT 1 FROM event WHERE site = :site AND id = :id)"""
_ADD_PLAN = "INSERT INTO plan VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_END_SOURCE = "UPDATE source SET until = ? WHERE number = ?"
_pack = msgspec.msgpack.Encoder()
_channels = msgspec.json.Encoder()
_births = msgspec.json.Decoder(DeviceState)
_BEGINS = (AlarmRaised, AlarmRepeated)
_T = TypeVar("_T")
_Row = tuple[object, ...]  # of the view: which table, and as many columns as the widest has
_Told = tuple[str, str, int, float, bytes]  # an event: site, id, input, at, body


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


class PlainEntry(NamedTuple):
    """The plain frames of one step, of all its sites; `at` is its time, Unix seconds, at which all of them were received.

    `sources` are those that are new. Each ends the one its device had: no frame may name that any more, here or later.
    """

    at: float
    plain: Plain
    sources: Sequence[Source] = ()
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


class Numbers:
    """How far a journal has counted: newest event and input of every site, newest input of the file and of plain frames."""

    def __init__(self, seqs: dict[str, int], inputs: dict[str, int], newest: int, source: int) -> None:
        """Count on from what a file says; `source` is the highest number a source of it ever had."""
        self.seqs, self.inputs, self.newest, self.source = seqs, inputs, newest, source
        self.plain = inputs.pop(_NO_SITE, 0)
        # Boot and sources of every site's device that has not begun another one; of this process, none is older.
        self.live = dict[tuple[str, str], tuple[int, list[int]]]()
        self.alarmed = dict[str, float]()  # when each site had the newest alarm before which a minute is kept, Unix seconds


def make_view(db: sqlite3.Connection) -> None:
    """Make the view that rows of all tables are written through; it is this connection's alone, and not in the file."""
    names = [f"c{n}" for n in range(_WIDTH)]
    db.execute("PRAGMA temp_store=MEMORY")
    db.execute(f"CREATE TEMP VIEW written AS SELECT 0 AS kind, {', '.join(f'0 AS {name}' for name in names)}")
    for kind, (table, columns) in _TABLES.items():
        values = ", ".join(f"new.{name}" for name, _ in zip(names, columns.split(","), strict=False))
        db.execute(
            f"CREATE TEMP TRIGGER written_{table} INSTEAD OF INSERT ON written WHEN new.kind = {kind}"  # noqa: S608
            f" BEGIN INSERT INTO {table}({columns}) VALUES ({values}); END"
        )


class Work:
    """The rows of one commit: gathered, then written many a statement. Its numbers count once the transaction stands."""

    def __init__(self, db: sqlite3.Connection, numbers: Numbers) -> None:
        """Count on from `numbers`, and leave them as they are until `count`."""
        self._db, self._numbers = db, numbers
        self.written = dict[
            str, tuple[int, list[bytes]]
        ]()  # events by site: the number of the first, and all as they stand there
        self.size = 0  # by how many bytes the file grows: rather too many than too few
        self._newest, self._plain, self._source = numbers.newest, numbers.plain, numbers.source
        self._seqs, self._inputs = dict[str, int](), dict[str, int]()
        self._live = dict[tuple[str, str], tuple[int, list[int]]]()
        self._alarmed = dict[str, float]()
        self._rows, self._sources, self._kept = list[_Row](), list[_Row](), list[_Row]()
        self._ends = list[tuple[int, int]]()
        self._plans = list[tuple[str, int, int]]()
        self._births = list[tuple[str, str, int, bytes]]()
        self._events = list[_Told]()

    def add(self, entry: Entry | PlainEntry) -> None:
        """Take one entry: its inputs, then its events, then its births; or its plain frames."""
        if isinstance(entry, PlainEntry):
            self._add_plain(entry)
            return
        site = entry.site
        for row in packed(entry.inputs):
            number = self._inputs[site] = self._add_row(site, row, entry.at, keep=entry.keep)
            if row.kind == PLANS:
                self._plans += [(site, item.plan.version, number) for item in entry.inputs if isinstance(item, PlanReceived)]
        self.add_events(entry.events)
        for device, birth in entry.births:
            body = encode(birth)
            self._births.append((site, device, birth.b, body))
            self.size += 2 * (len(body) + _ROW_BYTES)
        self._keep(entry)

    def add_events(self, events: Sequence[Event]) -> None:
        """Take events, each of which followed the newest input of the file."""
        for event in events:
            body = encode(event)
            self._events.append((event.site, event.id, self._newest, event.at, body))
            self.size += len(body) + _ROW_BYTES

    @property
    def one_statement(self) -> bool:
        """True where `write_alone` can write it."""
        count = len(self._rows) + len(self._sources) + len(self._kept) + len(self._events)
        return 0 < count <= _MOST_ROWS and not (self._ends or self._plans or self._births)

    def write_alone(self) -> None:
        """Write what was taken in one statement, which is a transaction of its own.

        Raises:
            sqlite3.IntegrityError: one of the events is there already; nothing was written, and `write` can.
        """
        self._insert([*self._sources, *self._rows, *self._kept, *self._numbered(self._events)])
        self._have_written(self._events)
        self._clear()

    def write(self) -> None:
        """Write what was taken since the last time, inside a transaction."""
        for some in _pieces([*self._sources, *self._rows, *self._kept]):
            self._insert(some)
        for sql, few in ((_END_SOURCE, self._ends), (_ADD_PLAN, self._plans)):
            if few:
                self._db.executemany(sql, few)
        for birth in self._births:
            self._write_birth(*birth)
        for events in _pieces(self._events):
            self._write_events(events)
        self._clear()

    def _clear(self) -> None:
        for done in (self._sources, self._rows, self._ends, self._plans, self._births, self._kept, self._events):
            done.clear()

    def _insert(self, rows: Sequence[_Row]) -> None:
        self._db.execute(_insertion(len(rows)), [*chain.from_iterable(rows)])

    def count(self) -> None:
        """Have the journal count on from here: the transaction stands."""
        numbers = self._numbers
        numbers.seqs.update(self._seqs)
        numbers.inputs.update(self._inputs)
        numbers.live.update(self._live)
        numbers.alarmed.update(self._alarmed)
        numbers.newest, numbers.plain, numbers.source = self._newest, self._plain, self._source

    def _add_row(self, site: str, row: Packed, at: float, *, keep: bool) -> int:
        self._newest += 1
        self._rows.append((_INPUT, self._newest, site, row.kind, at, row.n, keep, row.places, row.body))
        self.size += len(row.body) + len(row.places or b"") + _ROW_BYTES
        return self._newest

    def _add_plain(self, entry: PlainEntry) -> None:
        for source in entry.sources:
            device = source.site, source.device
            boot, before = self._live.get(device) or self._numbers.live.get(device) or (source.boot, [])
            if boot != source.boot:  # one boot may speak in several ways, each with a source of its own
                self._ends += [(self._newest + 1, number) for number in before]
                before = []
            self._live[device] = source.boot, [*before, source.number]
            self._source = max(self._source, source.number)
            channels = _channels.encode(source.channels).decode()
            self._sources.append((_SOURCE, source.number, *device, source.boot, channels, self._newest, None, None))
            self.size += _ROW_BYTES
        row = Packed(PLAIN, len(entry.plain), None, plain.packed(entry.plain))
        self._plain = self._add_row(_NO_SITE, row, entry.at, keep=entry.keep)

    def _keep(self, entry: Entry) -> None:
        """Where telemetry is kept and an alarm begins, keep the minute before as well: the site's own rows, and plain frames.

        What follows an alarm is marked for longer than a minute, so that an alarm within the next one has no more to keep.
        """
        if not entry.keep or not any(isinstance(event, _BEGINS) for event in entry.events):
            return
        site, before = entry.site, self._alarmed.get(entry.site, self._numbers.alarmed.get(entry.site, -math.inf))
        if not 0 <= entry.at - before <= _KEPT_BEFORE_S:
            self._alarmed[site] = entry.at
            begin, since = self._newest - _KEPT_ROWS, entry.at - _KEPT_BEFORE_S
            self._kept.append((_KEPT, site, begin, self._newest, since, None, None, None, None))
            self.size += _ROW_BYTES

    def _write_birth(self, site: str, device: str, boot: int, body: bytes) -> None:
        """Write a birth; the newest of another boot stays as the one before, whose last frames may still come."""
        row = self._db.execute("SELECT body FROM birth WHERE site = ? AND device = ?", (site, device)).fetchone()
        if row is not None and _births.decode(row[0]).b != boot:
            self._db.execute("REPLACE INTO birth_before VALUES (?, ?, ?)", (site, device, row[0]))
        self._db.execute("REPLACE INTO birth VALUES (?, ?, ?)", (site, device, body))

    def _write_events(self, events: Sequence[_Told]) -> None:
        """Write events, each under its site's next number."""
        try:
            self._insert(self._numbered(events))
        except sqlite3.IntegrityError:  # one of them is there already, and SQLite took all of them back
            for event in events:
                self._write_event(*event)
        else:
            self._have_written(events)

    def _numbered(self, events: Sequence[_Told]) -> list[_Row]:
        """Return the rows of events that are new, each under its site's next number."""
        seqs, rows = dict[str, int](), list[_Row]()
        for site, key, number, at, body in events:
            seq = seqs[site] = (seqs.get(site) or self._seq(site)) + 1
            rows.append((_EVENT, site, seq, key, number, at, body, None, None))
        return rows

    def _have_written(self, events: Sequence[_Told]) -> None:
        for site, *_, body in events:
            self._note_written(site, body)

    def _write_event(self, site: str, key: str, number: int, at: float, body: bytes) -> None:
        """Write an event; one that is there already uses up no number."""
        seq = self._seq(site) + 1
        values = {"site": site, "seq": seq, "id": key, "input": number, "at": at, "body": body}
        if self._db.execute(_ADD_EVENT, values).rowcount:
            self._note_written(site, body)

    def _note_written(self, site: str, body: bytes) -> None:
        seq = self._seqs[site] = self._seq(site) + 1
        self.written.setdefault(site, (seq, []))[1].append(body)

    def _seq(self, site: str) -> int:
        return self._seqs.get(site) or self._numbers.seqs.get(site, 0)


def _pieces(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (rows[first : first + _MOST_ROWS] for first in range(0, len(rows), _MOST_ROWS))


@cache
def _insertion(count: int) -> str:
    """Return the statement that writes so many rows."""
    row = f"(?{', ?' * _WIDTH})"
    return f"INSERT INTO written VALUES {', '.join([row] * count)}"  # noqa: S608


def _squeezed(inputs: Sequence[AnyInput]) -> bytes:
    return zlib.compress(_pack.encode(inputs), _LEVEL)
