"""The embedded telemetry store: one SQLite file per UTC day, a row per minute and channel.

The key is time first, because a write then touches the few pages at the end of the file instead of one per channel. This
version merges every write straight into the minute's chunk, since the gateway brings a batch every few seconds; holding
open minutes in memory, which saves written bytes, comes in a later step. Numbers are kept in single precision, the permit
of a row is not kept (its times stand in the records), and retention is deleting a file.
"""

import sqlite3
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from manway.entities import Frame, Reading
from manway.errors import StoreUnavailable
from manway.ids import Status
from manway.measurements import STATUSES, check_frame, checked_id, field_of, received_ms, status_code
from manway.runtime.telemetry import Dead, Ledger, Series, StoredFrame, bucket_starts, ledger_of
from manway.runtime.telemetry_chunks import (
    ENC_FRAMES,
    ENC_POINTS,
    FRAME,
    MINUTE_MS,
    PIECE,
    POINT,
    Rows,
    folded,
    merged,
    packed,
    pieces,
    raw_series,
    summary,
    unpacked,
)

DAY_MINUTES = 1440
DAYS_OPEN = 4  # (choice) today, and room for a backlog that is sent beside it
FRAME_KIND = "frame"  # the kind of the sequence numbers; no channel can be called so
_EPOCH = date(1970, 1, 1).toordinal()

_META_SCHEMA = """CREATE TABLE IF NOT EXISTS channel(ch INTEGER PRIMARY KEY, space TEXT NOT NULL, device TEXT NOT NULL,
  kind TEXT NOT NULL, UNIQUE(device, kind, space)) STRICT"""
_DAY_SCHEMA = """CREATE TABLE IF NOT EXISTS chunk(t0 INT, ch INT, n INT NOT NULL, n_ok INT NOT NULL, lo REAL, hi REAL, sum REAL,
  last REAL, q INT NOT NULL, enc INT NOT NULL, body BLOB NOT NULL, PRIMARY KEY(t0, ch)) STRICT, WITHOUT ROWID"""
_WALK = """WITH RECURSIVE minute(m) AS (SELECT :first UNION ALL SELECT m + :step FROM minute WHERE m <> :last)
  SELECT {columns} FROM minute CROSS JOIN chunk ON t0 = m AND ch = :ch"""  # without CROSS JOIN the whole day is scanned
_CHUNKS = _WALK.format(columns="t0, n, n_ok, lo, hi, sum, last, q, enc, body")
_NEWEST = _WALK.format(columns="t0, n, body") + " LIMIT 1"

_Chunk = tuple[int, int, int, float | None, float | None, float | None, float | None, int, int, bytes]
_Channel = tuple[int, str, str]  # number, kind, space
_Batch = defaultdict[tuple[int, int, int], list[tuple[float, ...]]]  # (minute, channel number, enc) -> rows of its dtype


class EmbeddedStore:
    """The TelemetryStore on files below one directory.

    Args:
        directory: where `meta.db` and `2026-11-22.db` live; the writer makes it.
        writer: True in the one process that writes; the only read-write connection of each file is this object's.
    """

    def __init__(self, directory: Path, *, writer: bool) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._closed = False
        self._writer = _Writer(directory) if writer else None

    def write(self, rows: Sequence[StoredFrame]) -> list[Dead]:
        """Store the rows, one transaction per day file; see TelemetryStore."""
        good, dead = [], []
        for row in rows:
            try:
                check_frame(row.frame, space=row.space, permit=row.permit)
            except ValueError as error:
                dead.append(Dead(row, str(error)))
            else:
                good.append(row)
        with self._lock, self._available():
            if self._writer is None:
                raise StoreUnavailable("embedded", "opened for reading only")
            self._writer.write(good)
        return dead

    def series(self, device: str, gas: str, start_ms: int, end_ms: int, step_s: int | None) -> Series:
        """Return one channel; whole minutes of a step in minutes are read without unpacking them; see TelemetryStore."""
        checked_id(device)
        field_of(gas)
        if step_s is not None:
            bucket_starts(start_ms, end_ms, step_s)
        found = [np.empty(0, PIECE)]
        with self._available():
            numbers = [ch for ch, kind, _space in self._channels(device) if kind == gas]
            for _day, chunks in self._chunks(numbers, start_ms, end_ms):
                found.append(_pieces(chunks, start_ms, end_ms, step_s))
        joined = np.concatenate(found)
        return raw_series(joined) if step_s is None else folded(joined, start_ms, end_ms, step_s)

    def latest(self, devices: Sequence[str]) -> dict[str, Frame]:
        """Return the newest frame of each device; see TelemetryStore."""
        found: dict[str, Frame] = {}
        with self._available():
            known = {checked_id(device): self._channels(device) for device in devices}
            waiting = {device: channels for device, channels in known.items() if channels}
            for day, path in reversed(self._days()):
                if not waiting:
                    break
                with self._reading(path, "chunk") as db:
                    newest = _newest_frames(db, day, waiting) if db else {}
                found |= newest
                waiting = {device: channels for device, channels in waiting.items() if device not in newest}
        return found

    def ledger(self, device: str, start_ms: int, end_ms: int) -> Ledger:
        """Return the ledger; a reading at an instant that has no frame row is torn; see TelemetryStore."""
        checked_id(device)
        identities: list[tuple[int, int]] = []
        torn = 0
        with self._available():
            numbers = [ch for ch, _kind, _space in self._channels(device)]
            for _day, chunks in self._chunks(numbers, start_ms, end_ms):
                frame_times, gas_times = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
                for chunk in sorted(chunks, key=lambda chunk: chunk[0]):
                    rows, times = _inside(chunk, start_ms, end_ms)
                    if chunk[8] == ENC_FRAMES:
                        frame_times.append(times)
                        identities.extend(zip(rows["boot"].tolist(), rows["seq"].tolist(), strict=True))
                    else:
                        gas_times.append(times)
                torn += len(np.setdiff1d(np.concatenate(gas_times), np.concatenate(frame_times)))
        return ledger_of(identities, torn)

    def prune(self, before_ms: int) -> None:
        """Delete the files of whole days that end at or before `before_ms`; see TelemetryStore."""
        with self._lock, self._available():
            if self._writer is None:
                raise StoreUnavailable("embedded", "opened for reading only")
            for day, path in self._days():
                if (day + 1) * DAY_MINUTES * MINUTE_MS <= before_ms:
                    self._writer.forget(day)
                    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                        path.with_name(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close every file; see TelemetryStore."""
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _available(self) -> Iterator[None]:
        if self._closed:
            raise StoreUnavailable("embedded", "closed")
        try:
            yield
        except (OSError, sqlite3.Error, zlib.error) as error:
            raise StoreUnavailable("embedded", f"{self._directory.name}: {error}") from error

    def _days(self) -> list[tuple[int, Path]]:
        paths = sorted(self._directory.glob("[12]???-??-??.db"))
        return [(date.fromisoformat(path.stem).toordinal() - _EPOCH, path) for path in paths]

    def _channels(self, device: str) -> list[_Channel]:
        with self._reading(self._directory / "meta.db", "channel") as db:
            return db.execute("SELECT ch, kind, space FROM channel WHERE device = ?", (device,)).fetchall() if db else []

    def _chunks(self, numbers: Sequence[int], start_ms: int, end_ms: int) -> Iterator[tuple[int, list[_Chunk]]]:
        """Yield, day by day, the chunks of these channels that touch the range."""
        first, last = start_ms // MINUTE_MS, (end_ms - 1) // MINUTE_MS
        for day, path in self._days() if end_ms > start_ms else []:
            low, high = max(first, day * DAY_MINUTES), min(last, (day + 1) * DAY_MINUTES - 1)
            if low > high:
                continue
            with self._reading(path, "chunk") as db:
                if db:
                    walks = [{"first": low, "last": high, "step": 1, "ch": ch} for ch in numbers]
                    yield day, [chunk for walk in walks for chunk in db.execute(_CHUNKS, walk)]

    @contextmanager
    def _reading(self, path: Path, table: str) -> Iterator[sqlite3.Connection | None]:
        """Give a read-only connection of one call, or None while the writer has not made the file or its table yet."""
        if not path.exists():
            yield None
            return
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as db:
            made = db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            yield db if made else None


class _Writer:
    """The read-write connections and the numbers of the channels; every call runs under the store's lock."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._days: dict[int, sqlite3.Connection] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._meta = _writable(directory / "meta.db", _META_SCHEMA)
            rows = self._meta.execute("SELECT device, kind, space, ch FROM channel").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable("embedded", f"{directory.name}: {error}") from error
        self._numbers: dict[tuple[str, str, str], int] = {(device, kind, space): ch for device, kind, space, ch in rows}

    def write(self, rows: Sequence[StoredFrame]) -> None:
        self._number(rows)
        days: defaultdict[int, _Batch] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            frame = row.frame
            minute, at = divmod(frame.ts, MINUTE_MS)
            batch = days[minute // DAY_MINUTES]
            number = self._numbers[frame.device, FRAME_KIND, row.space]
            batch[minute, number, ENC_FRAMES].append((at, frame.seq, frame.boot, received_ms(frame) - frame.ts))
            for kind, reading in frame.readings.items():
                value = np.nan if reading.value is None else reading.value
                number = self._numbers[frame.device, kind, row.space]
                batch[minute, number, ENC_POINTS].append((at, value, status_code(reading.status)))
        for day, batch in sorted(days.items()):
            with self._day(day) as db:  # commits, or rolls back on any error
                db.execute("BEGIN IMMEDIATE")
                for (minute, number, enc), new in sorted(batch.items()):
                    _put(db, minute, number, enc, np.array(new, FRAME if enc == ENC_FRAMES else POINT))

    def forget(self, day: int) -> None:
        if day in self._days:
            self._days.pop(day).close()

    def close(self) -> None:
        for db in (*self._days.values(), self._meta):
            db.close()
        self._days.clear()

    def _number(self, rows: Sequence[StoredFrame]) -> None:
        """Give every new (device, kind, space) its number, committed before any chunk refers to it."""
        wanted = {(row.frame.device, kind, row.space) for row in rows for kind in (FRAME_KIND, *row.frame.readings)}
        if not (new := sorted(wanted - self._numbers.keys())):
            return
        given = {}
        with self._meta as db:
            db.execute("BEGIN IMMEDIATE")
            for key in new:
                cursor = db.execute("INSERT INTO channel(device, kind, space) VALUES (?, ?, ?)", key)
                given[key] = cursor.lastrowid or 0
        self._numbers.update(given)

    def _day(self, day: int) -> sqlite3.Connection:
        if day not in self._days:
            name = date.fromordinal(day + _EPOCH).isoformat()
            self._days[day] = _writable(self._directory / f"{name}.db", _DAY_SCHEMA)
            while len(self._days) > DAYS_OPEN:
                self.forget(next(iter(self._days)))
        return self._days[day]


def _writable(path: Path, schema: str) -> sqlite3.Connection:
    """Open a file so that a commit is on the disk when it returns."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)  # any thread, one at a time: the store's lock
    try:
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", schema):
            db.execute(statement)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _put(db: sqlite3.Connection, minute: int, number: int, enc: int, new: Rows) -> None:
    """Merge rows into the minute's chunk; merging into an empty one also puts late and repeated rows in order."""
    old = db.execute("SELECT n, q, body FROM chunk WHERE t0 = ? AND ch = ?", (minute, number)).fetchone()
    before = unpacked(old[2], n=old[0], q=old[1], enc=enc) if old else np.empty(0, new.dtype)
    rows = merged(before, new)
    values = (minute, number, *summary(rows), enc, packed(rows))
    db.execute("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def _inside(chunk: _Chunk, start_ms: int, end_ms: int) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Return the chunk's rows inside the range and their times, ms."""
    minute, n, *_, q, enc, body = chunk
    rows = unpacked(body, n=n, q=q, enc=enc)
    times = rows["at"].astype(np.int64) + minute * MINUTE_MS
    inside = (times >= start_ms) & (times < end_ms)
    return rows[inside], times[inside]


def _pieces(chunks: list[_Chunk], start_ms: int, end_ms: int, step_s: int | None) -> Rows:
    """Return the chunks as pieces of a series: whole where the step allows it, else reading by reading."""
    shared = len({chunk[0] for chunk in chunks}) < len(chunks)  # an instrument that changed its space within a minute
    whole, found = [], [np.empty(0, PIECE)]
    for chunk in chunks:
        minute, _n, n_ok, lo, hi, total, last, q, _enc, _body = chunk
        start = minute * MINUTE_MS
        if step_s and step_s * 1000 % MINUTE_MS == 0 and not shared and start_ms <= start <= end_ms - MINUTE_MS:
            whole.append((start, lo or 0.0, hi or 0.0, total or 0.0, last or 0.0, n_ok, q))
        else:
            found.append(pieces(_inside(chunk, start_ms, end_ms)[0], minute))
    return np.concatenate([*found, np.array(whole, PIECE)])


def _newest_frames(db: sqlite3.Connection, day: int, devices: dict[str, list[_Channel]]) -> dict[str, Frame]:
    found = {device: _newest_frame(db, day, device, channels) for device, channels in devices.items()}
    return {device: frame for device, frame in found.items() if frame}


def _newest_frame(db: sqlite3.Connection, day: int, device: str, channels: list[_Channel]) -> Frame | None:
    """Return the device's newest frame of the day, or None; walks back minute by minute."""
    first, last = day * DAY_MINUTES, (day + 1) * DAY_MINUTES - 1
    newest: tuple[int, str, Rows] | None = None
    for ch, kind, space in channels:
        if kind != FRAME_KIND:
            continue
        row = db.execute(_NEWEST, {"first": last, "last": first, "step": -1, "ch": ch}).fetchone()
        if row:
            rows = unpacked(row[2], n=row[1], q=0, enc=ENC_FRAMES)[-1:]
            ts = row[0] * MINUTE_MS + int(rows["at"][0])
            if newest is None or ts > newest[0]:
                newest = ts, space, rows
    if newest is None:
        return None
    ts, space, rows = newest
    kinds = {ch: kind for ch, kind, where in channels if where == space and kind != FRAME_KIND}
    readings = {kind: reading for ch, kind in kinds.items() if (reading := _reading_at(db, ch, ts))}
    received_at = (ts + int(rows["lag_ms"][0])) / 1000.0
    return Frame(device, int(rows["boot"][0]), int(rows["seq"][0]), ts, received_at, readings)


def _reading_at(db: sqlite3.Connection, ch: int, ts: int) -> Reading | None:
    row = db.execute("SELECT n, q, body FROM chunk WHERE t0 = ? AND ch = ?", (ts // MINUTE_MS, ch)).fetchone()
    if row is None:
        return None
    rows = unpacked(row[2], n=row[0], q=row[1], enc=ENC_POINTS)
    for _at, value, code in rows[rows["at"] == ts % MINUTE_MS]:
        status = STATUSES[code]
        return Reading(status, float(str(value)) if status is Status.OK else None)  # 20.9, not 20.899999618
    return None
