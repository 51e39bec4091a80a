"""What a telemetry store is: rows of frames in, series and the ledger of loss out, over one protocol.

The gateway writes and the api reads. Both implementations answer the same contract suite, so that a site may change from
one to the other by one setting. Alarms are computed on the stream and never from a store.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from manway.codec_mqtt import REPLAY_AFTER_S
from manway.entities import Frame, Reading
from manway.ids import Status
from manway.plain import Plain, Source

NO_ROW = -1  # status of a bucket nothing was stored in: a gap is neither ok nor a fault
LATE_MS = int(REPLAY_AFTER_S * 1000)
BUCKETS_MAX = 200_000  # (choice) two days of seconds, a century of days: beyond it a page has asked for the wrong step


class StoredFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame, the space it was measured in and the permit open there (empty: none), as one row of a store."""

    frame: Frame
    space: str
    permit: str = ""


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A source, the space its frames were measured in and the permit open there (empty: none)."""

    source: Source
    space: str
    permit: str = ""


class PlainRows(NamedTuple):
    """Plain frames on their way into a store, in the order they came; n frames.

    `received_at` (n,) is the gateway's time of each, Unix seconds. `place` (n,) says where each belongs, by number in `places`:
    a list that only grows, so that a store may keep, for this very list, what it has made of its items.
    """

    plain: Plain
    received_at: npt.NDArray[np.float64]
    place: npt.NDArray[np.intp]
    places: Sequence[Placed]

    def rows(self, which: npt.NDArray[np.intp]) -> Iterator[tuple[str, StoredFrame]]:
        """Yield some of the frames as rows, each with its site; `which` are numbers of frames.

        Raises:
            ValueError: a frame has not as many values as its source has channels.
        """
        plain = self.plain
        ends = np.cumsum(plain.width, dtype=np.int64)
        columns = (self.place, plain.seq, plain.ts, self.received_at, ends - plain.width, ends)
        for place, seq, ts, received_at, begin, end in zip(*(column[which].tolist() for column in columns), strict=True):
            source, space, permit = self.places[place].source, self.places[place].space, self.places[place].permit
            values = plain.values[begin:end].tolist()
            readings = {c: Reading(Status.OK, value) for c, value in zip(source.channels, values, strict=True)}
            yield source.site, StoredFrame(Frame(source.device, source.boot, seq, ts, received_at, readings), space, permit)


class Dead(msgspec.Struct, frozen=True):
    """A row that will never be taken, and why; the caller keeps it aside and goes on."""

    row: StoredFrame
    reason: str


class DeadLine(msgspec.Struct, frozen=True):
    """A line of line protocol that will never be taken, and why."""

    line: bytes
    reason: str


class Series(msgspec.Struct, frozen=True, eq=False):
    """One channel over time, seven arrays of shape (point,), `t` in ms since 1970 and rising.

    Raw: one point per stored reading, where `lo`, `hi`, `mean` and `last` are its value, NaN unless it was ok. With a step:
    every bucket of the range, `t` its start on the step's grid since 1970; only ok readings count; a bucket without one
    holds NaN and `n_ok` 0. `status` is the highest status code in the bucket, `NO_ROW` where nothing was stored.
    """

    t: npt.NDArray[np.int64]
    lo: npt.NDArray[np.float64]
    hi: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    n_ok: npt.NDArray[np.int64]
    status: npt.NDArray[np.int64]


class Missing(msgspec.Struct, frozen=True):
    """Sequence numbers of one boot that no row has, `first` to `last` inclusive."""

    boot: int
    first: int
    last: int


class Ledger(msgspec.Struct, frozen=True):
    """What a store holds of one device: how nothing lost is proven.

    `received` counts distinct (boot, sequence); `doubled` rows beyond the first of one identity; `torn` instants with a
    reading and no frame row. `missing` are the holes between stored frames of the range, boots in order of their first row.
    `late` rows came more than 30 s after the time they are stored at (`codec_mqtt.REPLAY_AFTER_S`).
    """

    received: int = 0
    doubled: int = 0
    torn: int = 0
    missing: list[Missing] = []
    late: int = 0


class TelemetryStore(Protocol):
    """Keeps frames; blocking, to be called in a thread; every method may raise StoreUnavailable.

    Ids and channels are checked before they become part of a query or a file; ValueError when they are none. Ranges are ms
    since 1970, start inclusive, end exclusive. Values come back in at least single precision.

    What a store has taken it may hold in memory for a while. Whoever writes therefore numbers its rows (`mark`, rising) and
    keeps them until `durable()` has reached their number; after a crash it writes again what lies behind `durable()`, which
    changes nothing that is stored already.
    """

    def write(self, rows: Sequence[StoredFrame], mark: int = 0) -> list[Dead]:
        """Take the rows and return those that can never be stored; repeating a write changes nothing.

        Args:
            rows: in any order, late ones and repeated ones included; none, when only the number moves on.
            mark: number of the newest of them, at least that of the call before; all rows of a number come in one call.

        Raises:
            StoreUnavailable: not all are taken; write the same rows again. No frame is ever half stored.
        """
        ...

    def write_plain(self, rows: PlainRows) -> npt.NDArray[np.intp]:
        """Take frames as columns and return the numbers of those it has not taken, which are for `write` to take or to refuse.

        What is taken counts for the mark of the next `write`: `durable()` reaches none before it. Repeating changes nothing.
        A store that has no use for columns takes none.

        Raises:
            StoreUnavailable: not all are taken; write the same rows again.
        """
        ...

    def settle(self, now: float) -> None:
        """Store durably what is complete at `now` (Unix seconds, on the clock of `Frame.received_at`); infinity: everything.

        Where much is complete a call may store a part of it; called again and again, a store comes to the end of it.

        Raises:
            StoreUnavailable: what was taken is still held; settle again.
        """
        ...

    def durable(self) -> int:
        """Return the highest mark such that everything up to it is durable; 0 before anything is."""
        ...

    def annotate(self, lines: Sequence[bytes]) -> list[DeadLine]:
        """Store lines of other measurements, for people who look at curves; return those that can never be stored.

        A store that only keeps readings takes them and keeps nothing: its pages have events from the records.
        """
        ...

    @property
    def keeps_lines(self) -> bool:
        """False where `annotate` keeps nothing, so that nobody need make lines of what is many."""
        ...

    def series(self, device: str, gas: str, start_ms: int, end_ms: int, step_s: int | None) -> Series:
        """Return one channel of a device, each reading (`step_s` None) or folded into buckets of `step_s` seconds.

        Raises:
            ValueError: the step is not positive or makes more than `BUCKETS_MAX` buckets.
        """
        ...

    def latest(self, devices: Sequence[str]) -> dict[str, Frame]:
        """Return the frame with the newest `ts` of each device that has one; `replayed` is not stored and reads False."""
        ...

    def permits(self, device: str, start_ms: int, end_ms: int) -> dict[str, tuple[int, int]]:
        """Return the permits under which a device's rows of the range were stored, each with its first and last `ts`."""
        ...

    def ledger(self, device: str, start_ms: int, end_ms: int) -> Ledger:
        """Return what was received, doubled, torn and missing of a device in the range."""
        ...

    def prune(self, now: float) -> None:
        """Delete a few of the UTC days that have been kept long enough at `now` (Unix seconds); to be called often.

        None of the newest days that the store is to keep goes, whatever `now` is. What cannot be deleted is logged, no more.
        A store whose server has a retention of its own deletes nothing.
        """
        ...

    def close(self) -> None:
        """Store what is held, if the store can be had, and let go of files and connections.

        Every later call raises StoreUnavailable, and so does one that another thread is waiting in.
        """
        ...


def bucket_starts(start_ms: int, end_ms: int, step_s: int) -> npt.NDArray[np.int64]:
    """Return the starts of all buckets that touch the range, ms, on the step's grid since 1970; shape (bucket,).

    Raises:
        ValueError: the step is not positive, or there would be more than `BUCKETS_MAX`.
    """
    if step_s <= 0 or (end_ms - start_ms) // (step_s * 1000) > BUCKETS_MAX:
        message = f"not a usable step: {step_s} s over {end_ms - start_ms} ms"
        raise ValueError(message)
    step_ms = step_s * 1000
    if end_ms <= start_ms:
        return np.empty(0, np.int64)
    return np.arange(start_ms // step_ms * step_ms, end_ms, step_ms, dtype=np.int64)


def ledger_of(identities: Iterable[tuple[int, int]], torn: int, late: int) -> Ledger:
    """Return the ledger of rows given as (boot, sequence) in time order."""
    numbers: defaultdict[int, set[int]] = defaultdict(set)
    rows = 0
    for boot, seq in identities:
        numbers[boot].add(seq)
        rows += 1
    received = sum(map(len, numbers.values()))
    missing = [
        Missing(boot, before + 1, after - 1)
        for boot, seen in numbers.items()
        for before, after in pairwise(sorted(seen))
        if after > before + 1
    ]
    return Ledger(received, rows - received, torn, missing, late)
