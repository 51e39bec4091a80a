"""What one instrument has recorded, as columns: the frames an engine would have judged, by the time they were measured.

Frames of one device and instant are one, the last of them; repeats, wild numbers and those of a boot that was left are out, as
in the engine's own ledger.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from manway.entities import Frame, Reading
from manway.gas_columns import CODES, Bytes, Floats, Indices
from manway.ids import Status
from manway.ledger import MOST_JUMP, DeviceLedger

Integers = npt.NDArray[np.int64]

_STATUSES = tuple(Status)


class Column(msgspec.Struct, frozen=True, eq=False):
    """One channel in its own unit: `value` is NaN where `status` (codes of `gas.CODES`) is not OK; both of shape (frame,)."""

    value: Floats
    status: Bytes


class Recording(msgspec.Struct, frozen=True, eq=False):
    """The frames of one device that an engine would have judged, arrays of shape (frame,).

    `at` is when they were measured (Unix seconds, rising), `place` says which of `spaces` they were measured in.
    """

    device: str
    at: Floats
    boot: Integers
    seq: Integers
    spaces: list[str]
    place: Indices
    channels: dict[str, Column]

    @property
    def samples(self) -> int:
        """How many readings these are, missing ones included."""
        return len(self.at) * len(self.channels)

    def frame(self, i: int) -> Frame:
        """Return one frame, received when it was measured: what came late from a device's memory counts like any other."""
        at = float(self.at[i])
        readings = {gas: _reading(column, i) for gas, column in self.channels.items()}
        return Frame(self.device, int(self.boot[i]), int(self.seq[i]), round(at * 1000), at, readings)

    def arrivals(self) -> Indices:
        """Return the frames that are the first in another space than the one before them."""
        return np.flatnonzero(np.diff(self.place, prepend=-1))

    def judged(self) -> Self:
        """Return it without the frames that an engine counts and does not judge: of boots that were left, with wild numbers."""
        new, step = np.diff(self.boot, prepend=-1) != 0, np.diff(self.seq, prepend=0)
        plain = np.where(new, self.seq > 0, (step > 0) & (step <= MOST_JUMP))
        if plain.all() and len(np.unique(self.boot)) == np.count_nonzero(new):
            return self
        ledger, kept = DeviceLedger(), []
        for i, (boot, seq) in enumerate(zip(self.boot.tolist(), self.seq.tolist(), strict=True)):
            if ledger.take(boot, seq, 0.0) and seq >= ledger.highest:
                kept.append(i)
        return self._only(np.array(kept, np.intp))

    def _only(self, kept: Indices) -> Self:
        channels = {gas: Column(column.value[kept], column.status[kept]) for gas, column in self.channels.items()}
        rows = {"at": self.at[kept], "boot": self.boot[kept], "seq": self.seq[kept], "place": self.place[kept]}
        return msgspec.structs.replace(self, **rows, channels=channels)


def recorded(frames: Iterable[tuple[Frame, str]]) -> list[Recording]:
    """Return frames, each with the space it was measured in, as recordings; of one device and instant the last one counts."""
    newest = {(frame.device, frame.ts): (frame, space) for frame, space in frames}
    ordered = [newest[key] for key in sorted(newest)]
    return [_of_device(device, list(own)) for device, own in groupby(ordered, key=lambda row: row[0].device)]


def _of_device(device: str, rows: Sequence[tuple[Frame, str]]) -> Recording:
    frames = [frame for frame, _ in rows]
    spaces = list(dict.fromkeys(space for _, space in rows))
    gases = sorted({gas for frame in frames for gas in frame.readings})
    missing = Reading(Status.INVALID)
    channels = {}
    for gas in gases:
        readings = [frame.readings.get(gas, missing) for frame in frames]
        value = np.array([np.nan if r.value is None else r.value for r in readings])
        channels[gas] = Column(value, np.array([CODES[r.status] for r in readings], np.int8))
    at, boot, seq = (
        np.array([f.ts for f in frames]) / 1000.0,
        np.array([f.boot for f in frames]),
        np.array([f.seq for f in frames]),
    )
    place = np.array([spaces.index(space) for _, space in rows], np.intp)
    return Recording(device, at, boot, seq, spaces, place, channels).judged()


def _reading(column: Column, i: int) -> Reading:
    status = _STATUSES[column.status[i]]
    return Reading(status, float(column.value[i]) if status is Status.OK else None)
