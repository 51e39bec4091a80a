"""Recorded frames for a back-test: the embedded telemetry store's day files, or frames as JSON lines.

Day files are read as columns, never frame by frame, and only the channels that are asked for. A line holds a frame as
`manway.entities.Frame`, or, with the space it was measured in, as `manway.runtime.telemetry.StoredFrame`.
"""

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec
import numpy as np

from manway.entities import Frame
from manway.gas_columns import CODES, Bytes, Floats
from manway.ids import Status
from manway.measurements import check_frame
from manway.recording import Column, Integers, Recording, recorded
from manway.runtime.telemetry import StoredFrame
from manway.runtime.telemetry_bodies import FRAME, POINT, Rows, unpacked
from manway.runtime.telemetry_chunks import MINUTE_MS
from manway.runtime.telemetry_days import HOUR_MINUTES
from manway.runtime.telemetry_open import FRAME_KIND

NO_SPACE = "-"
_DECIMALS = 3  # more than any instrument shows; single precision holds them up to 10,000
_INVALID = CODES[Status.INVALID]
_Chunks = dict[tuple[str, str, str], list[Rows]]  # (device, kind, space) -> rows of `_TIMED`
_TIMED = {dtype: np.dtype([("t", "i8"), *dtype.descr[1:]]) for dtype in (POINT, FRAME)}


class CannotRead(Exception):
    """What was given holds no frames; `key` and `fields` of the text that says why."""

    def __init__(self, key: str, **fields: str | int) -> None:
        super().__init__(key)
        self.key, self.fields = key, fields


def read(places: Sequence[Path], gases: Collection[str], start_ms: int, end_ms: int) -> list[Recording]:
    """Return what was recorded of these gases in the range (ms since 1970, end exclusive).

    Raises:
        CannotRead: a place does not exist or cannot be read, or there is nothing in the range.
    """
    frames: list[tuple[Frame, str]] = []
    found: list[Recording] = []
    for place in places:
        if place.is_dir():
            found += _of_days(place, gases, start_ms, end_ms)
        else:
            frames += _of_lines(place, gases, start_ms, end_ms)
    found += recorded(frames)
    if not sum(len(one.at) for one in found):
        raise CannotRead("nothing", places=", ".join(str(place) for place in places))
    twice = sorted(name for name in {one.device for one in found} if sum(one.device == name for one in found) > 1)
    if twice:
        raise CannotRead("twice", device=twice[0])
    return [one for one in found if len(one.at)]


# -- lines ------------------------------------------------------------------------------------------------------------


def _of_lines(path: Path, gases: Collection[str], start_ms: int, end_ms: int) -> Iterator[tuple[Frame, str]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CannotRead("file", path=str(path), reason=error.strerror or "") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            frame, space = _of_line(line)
            check_frame(frame, space=space if space != NO_SPACE else "none", permit="")
        except (ValueError, msgspec.MsgspecError) as error:
            raise CannotRead("line", path=str(path), line=number, reason=str(error)) from error
        if start_ms <= frame.ts < end_ms:
            known = {gas: reading for gas, reading in frame.readings.items() if gas in gases}
            yield msgspec.structs.replace(frame, readings=known), space


def _of_line(line: bytes) -> tuple[Frame, str]:
    try:
        return msgspec.json.decode(line, type=Frame), NO_SPACE
    except msgspec.ValidationError:
        if b'"frame"' not in line:
            raise
    stored = msgspec.json.decode(line, type=StoredFrame)
    return stored.frame, stored.space


# -- days -------------------------------------------------------------------------------------------------------------


def _of_days(folder: Path, gases: Collection[str], start_ms: int, end_ms: int) -> list[Recording]:
    home = next((place for place in (folder, folder / "telemetry") if (place / "meta.db").exists()), None)
    if home is None:
        raise CannotRead("folder", path=str(folder))
    chunks: _Chunks = defaultdict(list)
    try:
        with closing(_open(home / "meta.db")) as db:
            rows = db.execute("SELECT ch, device, kind, space FROM channel").fetchall()
        numbers = {ch: (device, kind, space) for ch, device, kind, space in rows if kind == FRAME_KIND or kind in gases}
        for path in sorted(home.glob("[12]???-??-??.db")):
            with closing(_open(path)) as db:
                _collect(db, numbers, chunks, start_ms, end_ms)
    except (sqlite3.Error, zlib.error, ValueError) as error:
        raise CannotRead("file", path=str(home), reason=str(error)) from error
    devices = sorted({device for device, _, _ in chunks})
    return [_of_device(device, {key[1:]: rows for key, rows in chunks.items() if key[0] == device}) for device in devices]


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def _collect(
    db: sqlite3.Connection, numbers: dict[int, tuple[str, str, str]], chunks: _Chunks, start_ms: int, end_ms: int
) -> None:
    whole = "SELECT t0, ch, n, span, q, enc, body FROM chunk WHERE t0 BETWEEN ? AND ? ORDER BY t0"
    first = start_ms // MINUTE_MS // HOUR_MINUTES * HOUR_MINUTES  # the chunk of an idle hour stands at its first minute
    for minute, ch, n, span, q, enc, body in db.execute(whole, (first, (end_ms - 1) // MINUTE_MS)):
        if ch not in numbers:
            continue
        rows = unpacked(body, n=n, q=q, enc=enc)
        timed = np.empty(n, _TIMED[rows.dtype])
        timed["t"] = rows["at"].astype(np.int64) + minute * MINUTE_MS
        for name in (timed.dtype.names or ())[1:]:
            timed[name] = rows[name]
        if minute * MINUTE_MS < start_ms or (minute + span) * MINUTE_MS > end_ms:
            timed = timed[(timed["t"] >= start_ms) & (timed["t"] < end_ms)]
        chunks[numbers[ch]].append(timed)


def _of_device(device: str, chunks: dict[tuple[str, str], list[Rows]]) -> Recording:
    """Return one device's chunks, kind and space -> rows, as a recording; readings without a frame are left out."""
    spaces = sorted({space for kind, space in chunks if kind == FRAME_KIND})
    frames = [(number, rows) for number, space in enumerate(spaces) for rows in chunks[FRAME_KIND, space]]
    joined = np.concatenate([np.empty(0, _TIMED[FRAME]), *(rows for _, rows in frames)])
    place = np.concatenate([np.zeros(0, np.intp), *(np.full(len(rows), number) for number, rows in frames)]).astype(np.intp)
    order = np.argsort(joined["t"], kind="stable")
    order = order[np.append(np.diff(joined["t"][order]) != 0, True)[: len(order)]]
    times: Integers = joined["t"][order]
    gases = sorted({kind for kind, _ in chunks} - {FRAME_KIND})
    points = {gas: [rows for (kind, _), found in chunks.items() if kind == gas for rows in found] for gas in gases}
    channels = {gas: _column(np.concatenate(found), times) for gas, found in points.items()}
    boot, seq = (joined[name][order].astype(np.int64) for name in ("boot", "seq"))
    return Recording(device, times / 1000.0, boot, seq, spaces, place[order], channels).judged()


def _column(rows: Rows, times: Integers) -> Column:
    """Return the readings at the times of frames; what a frame did not name is invalid, as everywhere."""
    value, status = np.full(len(times), np.nan), np.full(len(times), _INVALID, np.int8)
    at = np.searchsorted(times, rows["t"])
    there = at < len(times)
    there[there] = times[at[there]] == rows["t"][there]
    value[at[there]], status[at[there]] = _as_shown(rows["value"][there]), rows["status"][there]
    value[status != 0] = np.nan
    return Column(value, status)


def _as_shown(stored: Bytes | Floats) -> Floats:
    """Return single-precision numbers as the instrument showed them: 20.9, not 20.899999618."""
    shown = np.round(stored.astype(np.float64), _DECIMALS)
    return np.where(shown.astype(np.float32) == stored, shown, stored.astype(np.float64))
