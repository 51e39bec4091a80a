"""Minutes that are not over yet: frames in memory as columns, until their minute goes to a file.

A city is 12,000 frames of five channels a second. A frame held here is a dozen numbers in arrays, 44 bytes and 5 a channel;
what its device, space and channels are called stands once in a `Layout`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manway.measurements import TS_END_MS, U32_END, VALUE_LIMIT, checked_id, field_of, status_code
from manway.runtime.telemetry import StoredFrame
from manway.runtime.telemetry_bodies import Rows
from manway.runtime.telemetry_chunks import MINUTE_MS
from manway.runtime.telemetry_layouts import Integers, Layouts, Numbers

FRAME_KIND = "frame"  # the kind of the sequence numbers; no channel can be called so
GRACE_S = 5.0  # (choice) how much later than its minute's end a frame of it may come without being late
LATE_S = 60.0  # (choice) how long late rows of one minute are gathered before their chunks are read and written again
REPLAY_MOST = 3_000_000  # (choice) frames to be taken again after a crash: four minutes of a city where everybody works

_TIME_BITS = 42  # ms up to 2100, below a channel number of up to 22 bits
OPEN = np.dtype([("ts", "i8"), ("lag_ms", "i8"), ("seq", "u4"), ("boot", "u4"), ("permit", "u4"), ("layout", "u4")])


class Samples(NamedTuple):
    """Rows of many channels: their channel numbers, their times (ms since 1970) and their cells, POINT or FRAME."""

    ch: npt.NDArray[np.uint32]
    t: Integers
    cells: Rows

    def chosen(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Samples":
        """Return some of the rows, by a mask or by their places."""
        if which.dtype == np.bool_:
            if which.all():
                return self  # gathering millions of rows is what costs here
            which = np.flatnonzero(which)
        return Samples(self.ch[which], self.t[which], self.cells.take(which))  # of rows in cells, `take` is six times as quick

    def in_order(self) -> "Samples":
        """Return the rows by channel and time; of rows with one channel and one time the newest stays."""
        key = (self.ch.astype(np.uint64) << np.uint64(_TIME_BITS)) | self.t.astype(np.uint64)
        order = np.argsort(key, kind="stable")
        key = key[order]
        again = key[1:] == key[:-1]
        return self.chosen(order[~np.append(again, False)] if again.any() else order)

    def groups(self, *per: Integers) -> npt.NDArray[np.intp]:
        """Return where a new channel, or a new value of `per`, begins among rows that are in order."""
        if not len(self.ch):
            return np.empty(0, np.intp)
        turns = self.ch[1:] != self.ch[:-1]
        for column in per:
            turns |= column[1:] != column[:-1]
        return np.flatnonzero(np.append(True, turns))


def joined(parts: Sequence[Samples], dtype: np.dtype[np.void]) -> Samples:
    """Return the rows of all parts, in their order."""
    nothing = Samples(np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, dtype))
    ch, t, cells = zip(nothing, *parts, strict=True)
    return Samples(np.concatenate(ch), np.concatenate(t), np.concatenate(cells))


class Held(NamedTuple):
    """Something in memory: `since` is the mark before its first row, `taken` how many frames had been taken by then."""

    since: int
    taken: int
    opened_at: float


class Columns(NamedTuple):
    """Rows as arrays: one row a frame, and the values and status codes of all their channels behind each other."""

    frames: Rows
    values: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint8]

    def at(self, places: npt.NDArray[np.intp], layouts: Layouts) -> "Columns":
        """Return the frames at these places."""
        width = layouts.width[self.frames["layout"]]
        begin = (np.cumsum(width) - width)[places]
        width = width[places]
        values = np.arange(width.sum()) + np.repeat(begin - np.cumsum(width) + width, width)
        return Columns(self.frames.take(places), self.values[values], self.codes[values])


class Part(NamedTuple):
    """Frames of one minute by rising number of their frame row, in the order they came; `begin` is where values begin."""

    columns: Columns
    number: Numbers
    begin: Integers

    def between(self, first: int, end: int) -> Columns:
        """Return the frames with these numbers, `first` to before `end`."""
        low, high = np.searchsorted(self.number, [first, end]).tolist()
        values = slice(self.begin[low], self.begin[high])
        return Columns(self.columns.frames[low:high], self.columns.values[values], self.columns.codes[values])


class OpenMinute:
    """The frames of one minute, arranged by device piece by piece as they come: nothing is left to do for all at once."""

    def __init__(self, held: Held, piece: int) -> None:
        self.held = held
        self.frames = self.rows = 0  # rows are points and frames
        self._piece = piece
        self._parts: list[Part] = []
        self._tail: list[Columns] = []
        self._tail_rows = 0

    def add(self, columns: Columns, layouts: Layouts) -> None:
        """Add what one call brought for this minute."""
        more = len(columns.frames) + len(columns.values)
        self.frames, self.rows, self._tail_rows = self.frames + len(columns.frames), self.rows + more, self._tail_rows + more
        self._tail.append(columns)
        if self._tail_rows >= self._piece:
            self._arrange(layouts)

    def parts(self, layouts: Layouts) -> list[Part]:
        """Return all of it, parts in the order they came."""
        if self._tail:
            self._arrange(layouts)
        return self._parts

    def _arrange(self, layouts: Layouts) -> None:
        frames, values, codes = (np.concatenate(columns) for columns in zip(*self._tail, strict=True))
        order = np.argsort(layouts.frame[frames["layout"]], kind="stable")
        columns = Columns(frames, values, codes).at(order, layouts)
        layout = columns.frames["layout"]
        begin = np.append(0, np.cumsum(layouts.width[layout]))
        self._parts.append(Part(columns, layouts.frame[layout], begin))
        self._tail, self._tail_rows = [], 0


class OpenFrames:
    """Frames in memory, by their minutes.

    Args:
        layouts: what the numbers of layouts stand for.
        piece: rows that are arranged at a time.
    """

    def __init__(self, layouts: Layouts, piece: int) -> None:
        self.minutes: dict[int, OpenMinute] = {}
        self._layouts, self._piece = layouts, piece

    @property
    def held(self) -> int:
        """How many frames are here."""
        return sum(minute.frames for minute in self.minutes.values())

    def take(self, columns: Columns, held: Held) -> None:
        """Add what one call brought: one frame at least."""
        minutes = columns.frames["ts"] // MINUTE_MS
        if (minutes == minutes[0]).all():  # nearly always all are of one minute
            self._add(int(minutes[0]), columns, held)
            return
        for minute in np.unique(minutes).tolist():
            self._add(minute, columns.at(np.flatnonzero(minutes == minute), self._layouts), held)

    def due(self, now: float, taken: int) -> list[int]:
        """Return the minutes that are complete at `now`, or held for more frames than may be taken again, by rising time."""
        found = (m for m, open_ in self.minutes.items() if _over(m, open_.held, now) or taken - open_.held.taken > REPLAY_MOST)
        return sorted(found)

    def _add(self, minute: int, columns: Columns, held: Held) -> None:
        if minute not in self.minutes:
            self.minutes[minute] = OpenMinute(held, self._piece)
        self.minutes[minute].add(columns, self._layouts)


def columns_of(rows: Sequence[StoredFrame], layouts: Sequence[int], permits: Sequence[int]) -> Columns:
    """Return rows as arrays, `layouts` and `permits` being their numbers.

    Raises:
        ValueError, OverflowError: at least one row cannot be kept; `check_frame` says which, and why.
    """
    frames = [row.frame for row in rows]
    found = np.empty(len(rows), OPEN)
    found["layout"], found["permit"] = layouts, permits
    ts = np.array([frame.ts for frame in frames], np.int64)
    boot = np.array([frame.boot for frame in frames], np.int64)
    seq = np.array([frame.seq for frame in frames], np.int64)
    received_at = np.array([frame.received_at for frame in frames], np.float64)
    values = np.array([r.value for frame in frames for r in frame.readings.values()], np.float64)
    faulty = np.isnan(values)
    codes = np.zeros(len(values), np.uint8)
    if faulty.any():
        codes[:] = [status_code(r.status) if r.value is None else 0 for frame in frames for r in frame.readings.values()]
    _check(ts, TS_END_MS)
    _check(boot, U32_END)
    _check(seq, U32_END)
    _check(received_at, TS_END_MS / 1000)
    if not (np.abs(values[~faulty]) <= VALUE_LIMIT).all():
        raise ValueError
    found["ts"], found["boot"], found["seq"] = ts, boot, seq
    found["lag_ms"] = np.rint(received_at * 1000.0).astype(np.int64) - ts
    return Columns(found, values.astype(np.float32), codes)


def checked_layout(device: str, space: str, *channels: str) -> list[tuple[str, str, str]]:
    """Return the (device, kind, space) of a frame's rows, first that of its sequence numbers; ValueError: not one we keep."""
    checked_id(device)
    checked_id(space)
    for channel in channels:
        field_of(channel)
    return [(device, kind, space) for kind in (FRAME_KIND, *channels)]


def _check(column: Integers | npt.NDArray[np.float64], end: float) -> None:
    if not ((column >= 0) & (column < end)).all():
        raise ValueError


def _over(minute: int, held: Held, now: float) -> bool:
    """Say whether a minute is complete; one that came late is gathered for a while, whatever its age."""
    return math.isinf(now) or now >= max((minute + 1) * MINUTE_MS / 1000, held.opened_at + LATE_S) + GRACE_S
