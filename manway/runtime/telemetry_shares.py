"""How a large minute goes to its file: a share of the instruments at a time.

A city's minute is four million rows. Whoever arranges them at once keeps the interpreter for a tenth of a second and the
processor for seconds, and alarms wait; so it becomes a job, cut into shares that are small enough. A share is a range of
channel numbers: it adds its chunks behind those of the one before and touches few pages twice. All channels of a device in
a space go with the number of its frames, so that no frame is ever half stored.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from manway.runtime.telemetry_bodies import FRAME, POINT
from manway.runtime.telemetry_days import IDLE_MOST
from manway.runtime.telemetry_layouts import Integers, Layouts, Numbers
from manway.runtime.telemetry_open import Held, OpenMinute, Part, Samples, joined

SHARE = 240_000  # (choice) cost of a share: two thousand chunks of sixty rows, 60 ms of work in steps of a few
# (choice, as measured) rows that take as long as a new chunk does, and as one that is looked up, read and written again.
CHUNK_COST, MERGE_COST = 60, 600

Put = Callable[[Sequence[Samples], bool], None]


class Job:
    """Rows that leave memory in shares, a transaction each; what is not in the file yet stays here.

    Args:
        day: whose file they go to.
        held: what of memory the rows are.
        frames: how many frames they are, in memory until the last share is written.
        bounds: where shares begin and end, by the number of a frame: one more than there are shares.
        cost: of all shares.
        take: returns the rows from one number to before another, in order: points, frames.
        put: writes them in one transaction; the second argument says that they are the last.
    """

    def __init__(
        self,
        day: int,
        held: Sequence[Held],
        frames: int,
        bounds: Sequence[int],
        cost: float,
        take: Callable[[int, int], list[Samples]],
        put: Put,
    ) -> None:
        self.day, self.held, self.frames = day, held, frames
        self.cost, self.share_cost = cost, cost / (len(bounds) - 1)
        self._bounds, self._take, self._put = bounds, take, put
        self._done = 0

    @property
    def left(self) -> int:
        """How many shares are not written yet."""
        return len(self._bounds) - 1 - self._done

    def write_share(self) -> None:
        """Write the next share; sqlite3.Error or OSError: it is not written, and still the next."""
        rows = self._take(*self._bounds[self._done : self._done + 2])
        self._put(rows, self.left == 1)
        self._done += 1


class IdleHour:
    """Rows of channels that were idle in minutes of one hour; they wait here for its end."""

    def __init__(self, held: Held, piece: int) -> None:
        self.held, self.rows = held, 0
        self._piece = piece
        self._parts: list[list[Samples]] = []
        self._tail: list[list[Samples]] = []
        self._tail_rows = 0

    def add(self, held: Held, kinds: list[Samples]) -> None:
        """Add points and frames of one write."""
        self.held = min(self.held, held)
        more = sum(len(samples.ch) for samples in kinds)
        self.rows, self._tail_rows = self.rows + more, self._tail_rows + more
        self._tail.append(kinds)
        if self._tail_rows >= self._piece:
            self._join()

    def cost(self, layouts: Layouts, seen: Numbers | None) -> npt.NDArray[np.float64]:
        """Return what writing costs, by the number of the frame that the rows belong to; `seen` is `Day.seen` of the hour."""
        self._join()
        rows = np.zeros(len(layouts.home), np.int64)
        for kinds in self._parts:
            for samples in kinds:
                rows += np.bincount(layouts.home[samples.ch], minlength=len(rows))
        again = layouts.own if seen is None else np.bincount(layouts.home[seen], minlength=len(rows))
        return _cost(rows, np.minimum(rows, layouts.own), again)

    def between(self, first: int, end: int, layouts: Layouts) -> list[Samples]:
        """Return the rows of devices whose frames have these numbers, in order; `cost` was asked before."""
        found: tuple[list[Samples], list[Samples]] = [], []
        for kinds in self._parts:
            for some, samples in zip(found, kinds, strict=True):
                home = layouts.home[samples.ch]
                some.append(samples.chosen((home >= first) & (home < end)))
        return [joined(some, dtype).in_order() for some, dtype in zip(found, (POINT, FRAME), strict=True)]

    def _join(self) -> None:
        if self._tail:
            points, frames = zip(*self._tail, strict=True)
            self._parts.append([joined(points, POINT), joined(frames, FRAME)])
            self._tail, self._tail_rows = [], 0


def cost_of_minutes(
    minutes: Sequence[OpenMinute], layouts: Layouts, *, are_new: bool
) -> tuple[npt.NDArray[np.float64], list[Part]]:
    """Return what writing minutes costs, by the number of the frame, and their parts; `are_new` to their file, or late."""
    parts = [part for minute in minutes for part in minute.parts(layouts)]
    frames = np.zeros(len(layouts), np.int64)
    for part in parts:
        frames += np.bincount(part.columns.frames["layout"], minlength=len(frames))
    rows = np.zeros(len(layouts.home), np.int64)
    np.add.at(rows, layouts.frame, frames * (layouts.width + 1))
    most = rows // (IDLE_MOST + 1) if are_new else rows
    chunks = np.minimum(most, len(minutes) * layouts.own)
    return _cost(rows, chunks, np.zeros_like(chunks) if are_new else chunks), parts


def rows_between(parts: Sequence[Part], first: int, end: int, layouts: Layouts) -> list[Samples]:
    """Return the rows of devices whose frames have these numbers, in order: points, frames."""
    slices = [part.between(first, end) for part in parts]
    frames = np.concatenate([one.frames for one in slices])
    channels, width = layouts.channels_of(frames["layout"])
    points = np.empty(len(channels), POINT)
    points["value"] = np.concatenate([one.values for one in slices])
    points["status"] = np.concatenate([one.codes for one in slices])
    cells = np.empty(len(frames), FRAME)
    for name in (FRAME.names or ())[1:]:
        cells[name] = frames[name]
    ts: Integers = frames["ts"]
    kinds = Samples(channels, np.repeat(ts, width), points), Samples(layouts.frame[frames["layout"]], ts, cells)
    return [samples.in_order() for samples in kinds]


def cut(cost: npt.NDArray[np.float64], most: float) -> list[int]:
    """Return the bounds of shares that cost about the same: none costs more than `most` and its last number together."""
    total = float(cost.sum())
    count = max(1, int(np.ceil(total / most)))
    share = np.minimum((np.cumsum(cost) - cost) * count // max(total, 1.0), count - 1)
    return [0, *(np.flatnonzero(share[1:] != share[:-1]) + 1).tolist(), len(cost)]


def _cost(rows: Integers, chunks: Integers, again: Integers) -> npt.NDArray[np.float64]:
    """Return the cost of rows in `chunks`, of which up to `again` are looked up, read and written again."""
    again = np.minimum(again, chunks)
    return (rows + CHUNK_COST * (chunks - again) + MERGE_COST * again).astype(np.float64)
