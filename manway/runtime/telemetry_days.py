"""The day files of the embedded telemetry store, as its one writer has them open.

One SQLite file per UTC day, a row per channel and minute, or per channel and idle hour. The key is time first, because a write
then touches the few pages at the end of the file instead of one page per channel. Where a row of an instant belongs is decided
by what the file already has, so that an instant stands in one chunk whatever is written again: in the chunk of its minute,
else in the chunk of its hour, else in a new one.
"""

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from operator import itemgetter
from pathlib import Path

import numpy as np
import structlog

from manway.errors import StoreUnavailable
from manway.runtime.telemetry_bodies import FRAME, POINT, Rows
from manway.runtime.telemetry_chunks import MINUTE_MS, Chunk, chunks_of, merged, packed
from manway.runtime.telemetry_layouts import Integers, Layouts, Numbers
from manway.runtime.telemetry_open import Samples

_log = structlog.get_logger(__name__)
DAY_MINUTES = 1440
HOUR_MINUTES = 60
DAYS_OPEN = 4  # (choice) today, and room for a backlog that is sent beside it
IDLE_MOST = 2  # (choice) rows in a minute up to which a channel is idle: those of an hour share a chunk
_SLICE = 2000  # (choice) chunks made at a time: their rows stay in the processor's cache
FORMAT = 3  # of the files; another one is refused and not half understood
EPOCH_DAY = date(1970, 1, 1).toordinal()
COLUMNS = "t0, ch, n, span, n_ok, lo, hi, sum, last, q, enc, body"

_META_SCHEMA = """CREATE TABLE IF NOT EXISTS channel(ch INTEGER PRIMARY KEY, space TEXT NOT NULL, device TEXT NOT NULL,
  kind TEXT NOT NULL, UNIQUE(device, kind, space)) STRICT;
CREATE TABLE IF NOT EXISTS permit(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT"""
_DAY_SCHEMA = """CREATE TABLE IF NOT EXISTS chunk(t0 INT, ch INT, n INT NOT NULL, span INT NOT NULL, n_ok INT NOT NULL,
  lo REAL, hi REAL, sum REAL, last REAL, q INT NOT NULL, enc INT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY(t0, ch)) STRICT, WITHOUT ROWID"""
_ROTTEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_PUT = f"INSERT OR REPLACE INTO chunk({COLUMNS}) VALUES (?{', ?' * 11})"  # noqa: S608  a constant
_GET = f"SELECT {COLUMNS} FROM chunk WHERE t0 = ? AND ch = ?"  # noqa: S608  a constant


class Day:
    """One file, opened for writing.

    `newest` is the last minute that had a row when it was opened, `settled` holds those written since: any other minute has
    nothing in the file yet. `touched` are, by hour, the channels of which something may stand in the file.
    """

    def __init__(self, path: Path) -> None:
        self.db = writable(path, _DAY_SCHEMA)
        try:
            self.newest = _newest_minute(self.db)
        except sqlite3.Error:
            self.db.close()
            raise
        self.settled: set[int] = set()
        self.touched: defaultdict[int, set[int]] = defaultdict(set)
        self.closed_hours: set[int] = set()

    def fresh(self, minute: int) -> bool:
        """Say whether the file certainly has no row of this minute, and no chunk of an hour where one of it would stand."""
        of_hour = minute in self.closed_hours or self.touched.get(minute)
        return minute > self.newest and minute not in self.settled and not of_hour

    def seen(self, hour: int) -> Numbers | None:
        """Return the channels of which something may stand in the hour with this first minute, None where any may."""
        open_yet = hour > self.newest and hour not in self.closed_hours
        return np.fromiter(self.touched.get(hour, ()), np.uint32) if open_yet else None

    def put_minutes(self, minutes: Iterable[int], kinds: Sequence[Samples]) -> list[Samples]:
        """Write the rows of fresh minutes, a chunk per channel and minute; return those of idle channels, unwritten."""
        idle = []
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            for samples in kinds:
                minute = samples.t // MINUTE_MS
                starts = samples.groups(minute)
                counts = np.diff(np.append(starts, len(minute)))
                busy = np.repeat(counts > IDLE_MOST, counts)
                idle.append(samples.chosen(~busy))
                self._put_new(samples.chosen(busy), per_minutes=1)
        self._note(minutes)
        return idle

    def put_hour(self, hour: int, kinds: Sequence[Samples], *, last: bool) -> None:
        """Write the rows of idle channels of one hour, a chunk each; `last` when no more of the hour follow."""
        seen = self.seen(hour)
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            for samples in kinds:
                known = np.ones(len(samples.ch), np.bool_) if seen is None else np.isin(samples.ch, seen)
                self._put_new(samples.chosen(~known), per_minutes=HOUR_MINUTES)
                self._merge(samples.chosen(known), idle_most=IDLE_MOST)
        if last:  # until then no chunk of its channels is there but what `touched` tells of
            self.closed_hours.add(hour)

    def put_late(self, minutes: Iterable[int], kinds: Sequence[Samples], *, idle_most: int = IDLE_MOST) -> None:
        """Merge rows into what the file has; it may have any of them."""
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            for samples in kinds:
                self._merge(samples, idle_most=idle_most)
        self._note(minutes)

    def _put_new(self, samples: Samples, *, per_minutes: int) -> None:
        """Write rows, in order, of which the file has none: one chunk per channel and `per_minutes`."""
        t0 = samples.t // MINUTE_MS // per_minutes * per_minutes
        starts = samples.groups(t0)
        cells = samples.cells  # made for this write and nobody else's: they are not copied again
        cells["at"] = samples.t - t0 * MINUTE_MS
        for first in range(0, len(starts), _SLICE):
            some = starts[first : first + _SLICE]
            end = starts[first + _SLICE] if first + _SLICE < len(starts) else len(cells)
            # By time first, as the file is: chunks of several minutes come channel by channel.
            minutes, channels = t0[some], samples.ch[some]
            chunks = chunks_of(minutes, channels, cells[some[0] : end], some - some[0])
            if (minutes[1:] < minutes[:-1]).any():
                chunks.sort(key=itemgetter(0, 1))
            self.db.executemany(_PUT, chunks)
            for hour in np.unique(minutes[minutes % HOUR_MINUTES == 0]).tolist():  # where the idle rows of an hour would go
                self.touched[hour].update(channels[minutes == hour].tolist())

    def _merge(self, samples: Samples, *, idle_most: int) -> None:
        hours = samples.t // MINUTE_MS // HOUR_MINUTES
        starts = samples.groups(hours)
        for start, end in zip(starts.tolist(), np.append(starts[1:], len(hours))[: len(starts)].tolist(), strict=True):
            chunks = self._merged(int(samples.ch[start]), samples.t[start:end], samples.cells[start:end], idle_most)
            self.db.executemany(_PUT, chunks)
            self.touched[_hour(chunks[0].t0)].add(chunks[0].ch)

    def _merged(self, ch: int, t: Integers, cells: Rows, idle_most: int) -> list[Chunk]:
        """Return the chunks of one channel and hour that its rows belong to, with the rows in them."""
        minutes = t // MINUTE_MS
        own, counts = np.unique(minutes, return_counts=True)
        hour = _hour(int(own[0]))
        known = {t0: found for t0 in {hour, *own.tolist()} if (found := self._stored(t0, ch))}
        long = hour in known and known[hour].span > 1
        homes = {}
        for minute, count in zip(own.tolist(), counts.tolist(), strict=True):
            alone = count > idle_most and not long
            homes[minute] = minute if minute in known or alone or minute == hour else hour
        placed = np.array([homes[minute] for minute in minutes.tolist()])
        chunks = []
        for t0 in sorted(set(homes.values())):
            rows = cells[placed == t0]
            rows["at"] = t[placed == t0] - t0 * MINUTE_MS
            chunks.append(packed(t0, ch, merged(_readable(known[t0]), rows) if t0 in known else rows))
        return chunks

    def _stored(self, t0: int, ch: int) -> Chunk | None:
        row = self.db.execute(_GET, (t0, ch)).fetchone()
        return Chunk(*row) if row else None

    def _note(self, minutes: Iterable[int]) -> None:
        """Note minutes as written, and forget what is known of hours that are long over: they are looked up from now on."""
        self.settled.update(minutes)
        for hour in [hour for hour in self.touched if hour < max(self.settled, default=0) - 2 * HOUR_MINUTES]:
            self.closed_hours.add(hour)
            del self.touched[hour]


class Files:
    """All files of a store's one writer: `meta.db`, and the days that were written to lately."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.days: dict[int, Day] = {}
        self.made = 0  # files of days that had none
        self.layouts = Layouts()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.meta = writable(directory / "meta.db", _META_SCHEMA)
            rows = self.meta.execute("SELECT device, kind, space, ch FROM channel").fetchall()
            permits = self.meta.execute("SELECT id, number FROM permit").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable("embedded", f"{directory.name}: {error}") from error
        self._numbers: dict[tuple[str, str, str], int] = {(device, kind, space): ch for device, kind, space, ch in rows}
        self._permits: dict[str, int] = {"": 0, **dict(permits)}

    def number(self, keys: Sequence[tuple[str, str, str]]) -> list[int]:
        """Return the numbers of (device, kind, space); new ones are committed before any chunk refers to them."""
        if new := [key for key in dict.fromkeys(keys) if key not in self._numbers]:
            given = {}
            with self.meta as db:
                db.execute("BEGIN IMMEDIATE")
                for key in new:
                    cursor = db.execute("INSERT INTO channel(device, kind, space) VALUES (?, ?, ?)", key)
                    given[key] = cursor.lastrowid or 0
            self._numbers.update(given)
        return [self._numbers[key] for key in keys]

    def number_of_permit(self, permit: str) -> int:
        """Return the number of a permit, 0 for none; a new one is committed before any row refers to it."""
        if permit not in self._permits:
            with self.meta as db:
                cursor = db.execute("INSERT INTO permit(id) VALUES (?)", (permit,))
            self._permits[permit] = cursor.lastrowid or 0
        return self._permits[permit]

    def day(self, day: int) -> Day:
        """Return a day's file, opened; the one that was opened first is closed when there are too many."""
        if day not in self.days:
            path = self._directory / f"{date.fromordinal(day + EPOCH_DAY).isoformat()}.db"
            self.made += not path.exists()
            self.days[day] = _opened(path)
            while len(self.days) > DAYS_OPEN:
                self.forget(next(iter(self.days)))
        return self.days[day]

    def forget(self, day: int) -> None:
        """Close a day's file."""
        if day in self.days:
            self.days.pop(day).db.close()

    def close(self) -> None:
        """Close every file."""
        for day in [*self.days]:
            self.forget(day)
        self.meta.close()


def _opened(path: Path) -> Day:
    """Open a day's file; one that SQLite cannot read is set aside, never deleted, and a new one takes its place.

    Else one late frame of that day would have all sites wait for it, for good.
    """
    try:
        return Day(path)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) not in _ROTTEN:
            raise
        reason = str(error)
    number = 1 + sum(1 for _ in path.parent.glob(f"{path.name}.damaged-*[0-9]"))
    for part in ("-wal", "-shm", ""):  # the file itself last: a death in between finds it damaged again
        if (beside := path.with_name(path.name + part)).exists():
            beside.rename(path.with_name(f"{path.name}.damaged-{number}{part}"))
    _log.error("damaged_day_set_aside", file=path.name, aside=f"{path.name}.damaged-{number}", reason=reason)
    return Day(path)


def writable(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file so that a commit is on the disk when it returns.

    Raises:
        sqlite3.Error: it cannot be opened, or another version of this program wrote it.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)  # any thread, one at a time: the store's lock
    try:
        (known,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and known != FORMAT:
            message = f"{path.name} has format {known}, not {FORMAT}: another version wrote it; move the folder away"
            raise sqlite3.DatabaseError(message)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", f"PRAGMA user_version={FORMAT}"):
            db.execute(statement)
        for statement in schema.split(";"):
            db.execute(statement)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _newest_minute(db: sqlite3.Connection) -> int:
    """Return the last minute that has a row, -1 for none."""
    (last,) = db.execute("SELECT max(t0) FROM chunk").fetchone()
    if last is None:
        return -1
    (of_hour,) = db.execute("SELECT max(t0 + span - 1) FROM chunk WHERE t0 = ?", (_hour(int(last)),)).fetchone()
    return max(int(last), int(of_hour or 0))


def _readable(chunk: Chunk) -> Rows:
    """Return a chunk's rows, none of one that rotted on the disk.

    What is new takes its place: nobody could read it, and the ledger tells what is missing. Else all sites would wait for it.
    """
    try:
        return chunk.rows
    except zlib.error as error:
        _log.error("damaged_chunk_replaced", minute=chunk.t0, channel=chunk.ch, rows=chunk.n, reason=str(error))
        return np.empty(0, FRAME if chunk.is_of_frames() else POINT)


def _hour(minute: int) -> int:
    """Return the first minute of a minute's hour."""
    return minute // HOUR_MINUTES * HOUR_MINUTES
