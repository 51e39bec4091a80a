"""The embedded telemetry store: one SQLite file per UTC day, compressed chunks of minutes and of idle hours.

Open minutes live in memory and go to their file when they are over, a large one share by share, which is what keeps the
written bytes per sample in single figures; `durable()` says how far the files have come, and whoever writes brings the rest
again after a crash. Numbers are kept in single precision, and retention is deleting a file. The api reads the files from its
own process and sees what is in them; a read through the writer itself first writes what is open.
"""

import math
import sqlite3
import threading
import zlib
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
from manway.measurements import STATUSES, checked_id, field_of
from manway.runtime.telemetry import LATE_MS, Dead, DeadLine, Ledger, PlainRows, Series, StoredFrame, bucket_starts, ledger_of
from manway.runtime.telemetry_bodies import Rows
from manway.runtime.telemetry_chunks import MINUTE_MS, PIECE, Chunk, folded, pieces, raw_series
from manway.runtime.telemetry_days import COLUMNS, DAY_MINUTES, EPOCH_DAY, HOUR_MINUTES, Files
from manway.runtime.telemetry_layouts import Integers
from manway.runtime.telemetry_open import FRAME_KIND
from manway.runtime.telemetry_retention import KEEP_DAYS, Retention
from manway.runtime.telemetry_shares import SHARE
from manway.runtime.telemetry_writer import Writer

_WALK = """WITH RECURSIVE minute(m) AS (SELECT :first UNION ALL SELECT m + :step FROM minute WHERE m <> :last)
  SELECT {columns} FROM minute CROSS JOIN chunk ON t0 = m AND ch = :ch"""  # without CROSS JOIN the whole day is scanned
_CHUNKS = _WALK.format(columns=COLUMNS)
_NEWEST = _WALK.format(columns=COLUMNS) + " LIMIT 1"
_AT = f"SELECT {COLUMNS} FROM chunk WHERE t0 IN (?, ?) AND ch = ?"  # noqa: S608  a constant

_Channel = tuple[int, str, str]  # number, kind, space


class EmbeddedStore:
    """The TelemetryStore on files below one directory.

    Args:
        directory: where `meta.db` and `2026-11-22.db` live; the writer makes it.
        writer: True in the one process that writes; the only read-write connection of each file is this object's.
        hold: False to write every call to the files at once, many times the bytes: for a training yard whose pages
            show the last minutes from here.
        share: cost of what one transaction takes, in rows; a minute that costs more is written in several.
        keep_days: how many days of telemetry `prune` leaves; see `telemetry_retention`.

    Raises:
        StoreUnavailable: the writer's files cannot be opened.
        ValueError: no day would be kept.
    """

    def __init__(
        self, directory: Path, *, writer: bool, hold: bool = True, share: int = SHARE, keep_days: int = KEEP_DAYS
    ) -> None:
        self._directory = directory
        self._retention = Retention(directory, keep_days)
        self._lock = threading.Lock()
        self._closed = False
        self._writer = Writer(Files(directory), hold=hold, share=share) if writer else None

    def write(self, rows: Sequence[StoredFrame], mark: int = 0) -> list[Dead]:
        """Take the rows into memory, or into the files where nothing is held; see TelemetryStore."""
        with self._writing() as writer:
            return writer.write(rows, mark)

    def write_plain(self, rows: PlainRows) -> npt.NDArray[np.intp]:
        """Take frames as columns into memory; left are those that cannot be kept; see TelemetryStore."""
        with self._writing() as writer:
            return writer.write_plain(rows)

    def settle(self, now: float) -> None:
        """Write of the minutes and idle hours that are complete a share, what is small together; see `Writer.settle`."""
        with self._writing() as writer:
            writer.settle(now)

    def durable(self) -> int:
        """Return the mark before the first row still in memory; see TelemetryStore."""
        with self._writing() as writer:
            return writer.durable()

    def annotate(self, lines: Sequence[bytes]) -> list[DeadLine]:  # noqa: ARG002  nothing but readings is kept here
        """Take the lines and keep nothing; see TelemetryStore."""
        return []

    @property
    def keeps_lines(self) -> bool:
        """False; see TelemetryStore."""
        return False

    def series(self, device: str, gas: str, start_ms: int, end_ms: int, step_s: int | None) -> Series:
        """Return one channel; chunks inside one bucket are read without unpacking them; see TelemetryStore."""
        checked_id(device)
        field_of(gas)
        if step_s is not None:
            bucket_starts(start_ms, end_ms, step_s)
        found = [np.empty(0, PIECE)]
        with self._reading_all():
            numbers = [ch for ch, kind, _space in self._channels(device) if kind == gas]
            found += [_pieces(chunks, start_ms, end_ms, step_s) for chunks in self._chunks(numbers, start_ms, end_ms)]
        all_pieces = np.concatenate(found)
        return raw_series(all_pieces) if step_s is None else folded(all_pieces, start_ms, end_ms, step_s)

    def latest(self, devices: Sequence[str]) -> dict[str, Frame]:
        """Return the newest frame of each device; see TelemetryStore."""
        found: dict[str, Frame] = {}
        with self._reading_all():
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

    def permits(self, device: str, start_ms: int, end_ms: int) -> dict[str, tuple[int, int]]:
        """Return the permits of a device's rows, each with its first and last time; see TelemetryStore."""
        checked_id(device)
        found: dict[int, tuple[int, int]] = {}
        with self._reading_all():
            numbers = [ch for ch, kind, _space in self._channels(device) if kind == FRAME_KIND]
            for chunks in self._chunks(numbers, start_ms, end_ms):
                for rows, times in (_inside(chunk, start_ms, end_ms) for chunk in chunks):
                    for number in np.unique(rows["permit"]).tolist():
                        own = times[rows["permit"] == number]
                        first, last = found.get(number, (end_ms, start_ms))
                        found[number] = min(first, int(own.min())), max(last, int(own.max()))
            with self._reading(self._directory / "meta.db", "permit") as db:
                names = dict(db.execute("SELECT number, id FROM permit").fetchall()) if db else {}
        return {names[number]: times for number, times in found.items() if number}

    def ledger(self, device: str, start_ms: int, end_ms: int) -> Ledger:
        """Return the ledger; a reading at an instant that has no frame row is torn; see TelemetryStore."""
        checked_id(device)
        identities: list[tuple[int, int]] = []
        torn = late = 0
        with self._reading_all():
            numbers = [ch for ch, _kind, _space in self._channels(device)]
            for chunks in self._chunks(numbers, start_ms, end_ms):
                frames: list[tuple[int, int, int]] = []
                gas_times = [np.empty(0, np.int64)]
                for chunk in chunks:
                    rows, times = _inside(chunk, start_ms, end_ms)
                    if chunk.is_of_frames():
                        frames.extend(zip(times.tolist(), rows["boot"].tolist(), rows["seq"].tolist(), strict=True))
                        late += int((rows["lag_ms"] > LATE_MS).sum())
                    else:
                        gas_times.append(times)
                identities += [(boot, seq) for _ts, boot, seq in sorted(frames, key=lambda frame: frame[0])]
                torn += len(np.setdiff1d(np.concatenate(gas_times), [ts for ts, _boot, _seq in frames]))
        return ledger_of(identities, torn, late)

    def prune(self, now: float) -> None:
        """Delete the files of a few days that are old enough, by `telemetry_retention`; see TelemetryStore."""
        with self._writing() as writer:
            self._retention.prune(now, writer.files, writer.days_in_memory())

    def close(self) -> None:
        """Write what is open and close every file; see TelemetryStore."""
        with self._lock:
            was_closed, self._closed = self._closed, True
            if self._writer is None or was_closed:
                return
            try:
                self._writer.settle(math.inf)
            except (OSError, sqlite3.Error, zlib.error, ValueError):
                pass  # what is not durable is written again at the next start
            finally:
                self._writer.files.close()

    @contextmanager
    def _available(self) -> Iterator[None]:
        if self._closed:
            raise StoreUnavailable("embedded", "closed")
        try:
            yield
        except (OSError, sqlite3.Error, zlib.error) as error:
            raise StoreUnavailable("embedded", f"{self._directory.name}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        with self._lock, self._available():
            if self._writer is None:
                raise StoreUnavailable("embedded", "opened for reading only")
            yield self._writer

    @contextmanager
    def _reading_all(self) -> Iterator[None]:
        """Write what is open, if this object holds it, so that a read sees everything that was taken."""
        if self._writer is not None:
            self.settle(math.inf)
        with self._available():
            yield

    def _days(self) -> list[tuple[int, Path]]:
        paths = sorted(self._directory.glob("[12]???-??-??.db"))
        return [(date.fromisoformat(path.stem).toordinal() - EPOCH_DAY, path) for path in paths]

    def _channels(self, device: str) -> list[_Channel]:
        with self._reading(self._directory / "meta.db", "channel") as db:
            return db.execute("SELECT ch, kind, space FROM channel WHERE device = ?", (device,)).fetchall() if db else []

    def _chunks(self, numbers: Sequence[int], start_ms: int, end_ms: int) -> Iterator[list[Chunk]]:
        """Yield, day by day, the chunks of these channels that touch the range, by rising first minute."""
        first, last = start_ms // MINUTE_MS, (end_ms - 1) // MINUTE_MS
        for day, path in self._days() if end_ms > start_ms else []:
            low, high = max(first, day * DAY_MINUTES), min(last, (day + 1) * DAY_MINUTES - 1)
            if low > high:
                continue
            with self._reading(path, "chunk") as db:
                if db:
                    begin = low // HOUR_MINUTES * HOUR_MINUTES  # the chunk of an idle hour stands at the hour's first minute
                    walks = [{"first": begin, "last": high, "step": 1, "ch": ch} for ch in numbers]
                    chunks = [chunk for walk in walks for chunk in map(Chunk._make, db.execute(_CHUNKS, walk))]
                    yield sorted(chunk for chunk in chunks if chunk.t0 + chunk.span > low)

    @contextmanager
    def _reading(self, path: Path, table: str) -> Iterator[sqlite3.Connection | None]:
        """Give a read-only connection of one call, None while the writer has not made the file or its table, or deleted it."""
        db = _opened(path, table)
        if db is None:
            yield None
            return
        with closing(db):
            yield db


def _opened(path: Path, table: str) -> sqlite3.Connection | None:
    if not path.exists():
        return None
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        if path.exists():
            raise
        return None  # its time came just now
    try:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            return db
    except sqlite3.OperationalError:
        if path.exists():
            db.close()
            raise
    db.close()
    return None


def _inside(chunk: Chunk, start_ms: int, end_ms: int) -> tuple[Rows, Integers]:
    """Return the chunk's rows inside the range and their times, ms."""
    rows = chunk.rows
    times = rows["at"].astype(np.int64) + chunk.t0 * MINUTE_MS
    inside = (times >= start_ms) & (times < end_ms)
    return rows[inside], times[inside]


def _pieces(chunks: list[Chunk], start_ms: int, end_ms: int, step_s: int | None) -> Rows:
    """Return chunks as pieces of a series: whole where they lie inside one bucket, alone; else reading by reading."""
    whole, found = [], [np.empty(0, PIECE)]
    step_ms = (step_s or 0) * 1000
    overlapping = _overlapping(chunks) if step_ms else set()
    for place, chunk in enumerate(chunks):
        t0, _ch, _n, span, n_ok, lo, hi, total, last, q, _enc, _body = chunk  # a day is 1,440 of them
        start, end = t0 * MINUTE_MS, (t0 + span) * MINUTE_MS
        one = step_ms and place not in overlapping and start // step_ms == (end - 1) // step_ms
        if one and start_ms <= start and end <= end_ms:
            whole.append((start, lo or 0.0, hi or 0.0, total or 0.0, last or 0.0, n_ok, q))
        else:
            found.append(pieces(_inside(chunk, start_ms, end_ms)[0], t0))
    return np.concatenate([*found, np.array(whole, PIECE)])


def _overlapping(chunks: list[Chunk]) -> set[int]:
    """Return the places of chunks that share a minute: an instrument moved, or an idle hour around a busy minute."""
    found: set[int] = set()
    end, holder = -1, -1
    for place, (t0, _ch, _n, span, *_) in enumerate(chunks):
        if t0 < end:
            found |= {place, holder}
        if t0 + span > end:
            end, holder = t0 + span, place
    return found


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
        for chunk in _at(db, Chunk(*row).t0, ch) if row else []:
            rows = chunk.rows[-1:]
            ts = chunk.t0 * MINUTE_MS + int(rows["at"][0])
            if newest is None or ts > newest[0]:
                newest = ts, space, rows
    if newest is None:
        return None
    ts, space, rows = newest
    kinds = {ch: kind for ch, kind, where in channels if where == space and kind != FRAME_KIND}
    readings = {kind: reading for ch, kind in kinds.items() if (reading := _reading_at(db, ch, ts))}
    received_at = (ts + int(rows["lag_ms"][0])) / 1000.0
    return Frame(device, int(rows["boot"][0]), int(rows["seq"][0]), ts, received_at, readings)


def _at(db: sqlite3.Connection, minute: int, ch: int) -> list[Chunk]:
    """Return the chunk of a minute and the one of its hour: whichever of them there are."""
    return [Chunk(*row) for row in db.execute(_AT, (minute, minute // HOUR_MINUTES * HOUR_MINUTES, ch))]


def _reading_at(db: sqlite3.Connection, ch: int, ts: int) -> Reading | None:
    for chunk in _at(db, ts // MINUTE_MS, ch):
        rows = chunk.rows
        for _at_ms, value, code in rows[rows["at"].astype(np.int64) + chunk.t0 * MINUTE_MS == ts]:
            status = STATUSES[code]
            return Reading(status, float(str(value)) if status is Status.OK else None)  # 20.9, not 20.899999618
    return None
