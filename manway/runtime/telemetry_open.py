"""Minutes that are not over yet: frames in memory as columns, until their minute goes to a file as a whole.

A city is 12,000 frames of five channels a second. A frame held here is a dozen numbers in arrays, 26 bytes and 4 a channel;
what its device, space and channels are called stands once in a `Layout`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manway.measurements import TS_END_MS, U32_END, VALUE_LIMIT, checked_id, field_of, status_code
from manway.runtime.telemetry import StoredFrame
from manway.runtime.telemetry_chunks import FRAME, MINUTE_MS, POINT, Rows

FRAME_KIND = "frame"  # the kind of the sequence numbers; no channel can be called so
GRACE_S = 5.0  # (choice) how much later than its minute's end a frame of it may come without being late
LATE_S = 60.0  # (choice) how long late rows of one minute are gathered before their chunks are read and written again
REPLAY_MOST = 3_000_000  # (choice) frames to be taken again after a crash: four minutes of a city where everybody works

_TIME_BITS = 42  # ms up to 2100, below a channel number of up to 22 bits
OPEN = np.dtype([("ts", "i8"), ("lag_ms", "i8"), ("seq", "u4"), ("boot", "u4"), ("permit", "u4"), ("layout", "u4")])

Integers = npt.NDArray[np.int64]


class Samples(NamedTuple):
    """Rows of many channels: their channel numbers, their times (ms since 1970) and their cells, POINT or FRAME."""

    ch: npt.NDArray[np.uint32]
    t: Integers
    cells: Rows

    def chosen(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Samples":
        """Return some of the rows, by a mask or by their places."""
        if which.dtype == np.bool_ and which.all():
            return self  # gathering millions of rows is what costs here
        return Samples(self.ch[which], self.t[which], self.cells[which])

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


class Layout(NamedTuple):
    """What the frames of one device in one space are made of, by channel number; `frame` is that of their sequence numbers."""

    frame: int
    channels: tuple[int, ...]


class OpenFrames:
    """Frames in memory, in the order they came."""

    def __init__(self) -> None:
        self.minutes: dict[int, Held] = {}
        self._frames: list[Rows] = []
        self._values: list[npt.NDArray[np.float32]] = []
        self._codes: list[npt.NDArray[np.uint8]] = []

    @property
    def held(self) -> int:
        """How many frames are here."""
        return sum(map(len, self._frames))

    def take(self, columns: "Columns", held: Held) -> None:
        """Add what one call brought: one frame at least."""
        self._frames.append(columns.frames)
        self._values.append(columns.values)
        self._codes.append(columns.codes)
        minutes = columns.frames["ts"] // MINUTE_MS
        first, last = int(minutes.min()), int(minutes.max())
        for minute in [first] if first == last else np.unique(minutes).tolist():  # nearly always all are of one minute
            self.minutes.setdefault(minute, held)

    def due(self, now: float, taken: int) -> set[int]:
        """Return the minutes that are complete at `now`, or held for more frames than may be taken again."""
        return {minute for minute, held in self.minutes.items() if _over(minute, held, now) or taken - held.taken > REPLAY_MOST}

    def of(self, minutes: set[int], layouts: Sequence[Layout]) -> tuple[Samples, Samples]:
        """Return the points and the frames of these minutes; they stay here until `drop`."""
        self._join()
        if not minutes:
            return joined([], POINT), joined([], FRAME)
        frames = self._frames[0]
        chosen = np.isin(frames["ts"] // MINUTE_MS, list(minutes))
        numbers, widths, all_channels, first = _tables(layouts)
        width = widths[frames["layout"]]
        mine = np.repeat(chosen, width)
        kept, width = frames[chosen], width[chosen]
        place = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width - first[kept["layout"]], width)
        points = np.empty(len(place), POINT)
        points["value"], points["status"] = self._values[0][mine], self._codes[0][mine]
        cells = np.empty(len(kept), FRAME)
        for name in (FRAME.names or ())[1:]:
            cells[name] = kept[name]
        ts = kept["ts"]
        return Samples(all_channels[place], np.repeat(ts, width), points), Samples(numbers[kept["layout"]], ts, cells)

    def drop(self, minutes: set[int], layouts: Sequence[Layout]) -> None:
        """Forget these minutes; they are stored, or held elsewhere."""
        self._join()
        for minute in minutes:
            del self.minutes[minute]
        if not self._frames:
            return
        frames = self._frames[0]
        kept = ~np.isin(frames["ts"] // MINUTE_MS, list(minutes))
        mine = np.repeat(kept, _tables(layouts)[1][frames["layout"]])
        self._frames, self._values, self._codes = [frames[kept]], [self._values[0][mine]], [self._codes[0][mine]]

    def _join(self) -> None:
        if len(self._frames) > 1:
            self._frames = [np.concatenate(self._frames)]
            self._values, self._codes = [np.concatenate(self._values)], [np.concatenate(self._codes)]


class Columns(NamedTuple):
    """Rows as arrays: one row a frame, and the values and status codes of all their channels behind each other."""

    frames: Rows
    values: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint8]


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


def _tables(layouts: Sequence[Layout]) -> tuple[npt.NDArray[np.uint32], Integers, npt.NDArray[np.uint32], Integers]:
    """Return of all layouts: frame number, width, then all channel numbers behind each other and where each begins."""
    widths = np.array([len(layout.channels) for layout in layouts], np.int64)
    numbers = np.array([layout.frame for layout in layouts], np.uint32)
    channels = np.array([ch for layout in layouts for ch in layout.channels], np.uint32)
    return numbers, widths, channels, np.cumsum(widths) - widths
