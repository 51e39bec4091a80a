"""What plain frames said last, of all instruments of a process: columns, a place each, and no object a frame.

Theory. A plain frame changes its instrument's newest readings, when it was heard and two numbers of its ledger, and next to
nobody asks for any of them before the next one comes. So they stay here until the instrument's watch is asked for one
(`InstrumentWatch`). A frame of a city is then a few stores into columns; a walk through the objects of its instrument, which
no cache holds, took longer than all rules.
"""

from collections import defaultdict
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from manway.entities import Frame, Reading
from manway.gas_columns import Floats, Indices
from manway.ids import Status

T = TypeVar("T", np.int64, np.float64, np.bool_, np.intp)
_FIRST = 64  # (choice) places at first; they double


class PlainFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame all of whose readings are numbers, not made yet; `numbers` are what its channels read, in their order."""

    boot: int
    seq: int
    ts: int
    received_at: float
    channels: tuple[str, ...]
    numbers: tuple[float, ...]

    def made(self, device: str) -> Frame:
        """Return the frame of this device."""
        readings = {name: Reading(Status.OK, number) for name, number in zip(self.channels, self.numbers, strict=True)}
        return Frame(device, self.boot, self.seq, self.ts, self.received_at, readings)


class Heard:
    """The columns, of shape (place,): sequence number, the device's time (ms since 1970) and ours (Unix s) of the newest frame.

    `count` are the frames since the watch was asked last. `values`, of shape (cell,), are the newest numbers of all channels;
    those of a place are `width` cells from `begin` on.
    """

    def __init__(self) -> None:
        self.count, self.seq, self.ts, self.begin, self.width = (np.zeros(_FIRST, np.int64) for _ in range(5))
        self.at, self.values = np.zeros(_FIRST), np.zeros(_FIRST)
        self._places = self._cells = 0  # in use, or free again
        self._free = defaultdict[int, list[int]](list)  # by width

    def add(self, width: int) -> int:
        """Return a place of its own for an instrument with so many channels."""
        if self._free[width]:
            return self._free[width].pop()
        place, begin = self._places, self._cells
        self._places, self._cells = place + 1, begin + width
        if self._places > len(self.count):
            for name in ("count", "seq", "ts", "begin", "width", "at"):
                setattr(self, name, larger(getattr(self, name), self._places))
        if self._cells > len(self.values):
            self.values = larger(self.values, self._cells)
        self.begin[place], self.width[place] = begin, width
        return place

    def free(self, place: int) -> None:
        """Give a place back that no watch asks for any more."""
        self.count[place] = 0
        self._free[int(self.width[place])].append(place)

    def cells(self, places: Indices, widths: Indices) -> Indices:
        """Return the cells of these places behind each other; `widths` are theirs."""
        if len(places) == 1:  # as at most sites most of the time
            begin = self.begin.item(places.item(0))
            return np.arange(begin, begin + widths.item(0))
        ends = widths.cumsum()
        total = int(ends[-1]) if len(ends) else 0
        return np.repeat(self.begin[places] - ends + widths, widths) + np.arange(total)

    def take(self, places: Indices, seq: Indices, ts: Indices, cells: Indices, values: Floats, at: float) -> None:
        """Keep one frame of each of these places, received `at` (Unix s), with its numbers in its cells."""
        self.count[places] += 1
        self.seq[places], self.ts[places], self.at[places] = seq, ts, at
        self.values[cells] = values


class Unread(msgspec.Struct, frozen=True):
    """Where plain frames of one boot of an instrument wait for its watch; all name the same channels."""

    heard: Heard
    place: int
    boot: int
    channels: tuple[str, ...]

    def read(self) -> tuple[int, PlainFrame] | None:
        """Return, once, how many frames came since the last time, and the newest; None where none did."""
        heard, place = self.heard, self.place
        count = heard.count.item(place)
        if not count:
            return None
        heard.count[place] = 0
        begin = heard.begin.item(place)
        numbers = tuple(heard.values[begin : begin + len(self.channels)].tolist())
        seq, ts, at = heard.seq.item(place), heard.ts.item(place), heard.at.item(place)
        return count, PlainFrame(self.boot, seq, ts, at, self.channels, numbers)


def larger(column: npt.NDArray[T], least: int) -> npt.NDArray[T]:
    """Return a column of at least so many rows, twice as many as it has, that begins with what it holds."""
    more = np.zeros(max(least, 2 * len(column)), column.dtype)
    more[: len(column)] = column
    return more
