"""What a telemetry store is: rows of frames in, series and the ledger of loss out, over one protocol.

The gateway writes and the api reads. Both implementations answer the same contract suite, so that a site may change from
one to the other by one setting. Alarms are computed on the stream and never from a store.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from manway.entities import Frame

NO_ROW = -1  # status of a bucket nothing was stored in: a gap is neither ok nor a fault
BUCKETS_MAX = 200_000  # (choice) two days of seconds, a century of days: beyond it a page has asked for the wrong step


class StoredFrame(msgspec.Struct, frozen=True):
    """A frame, the space it was measured in and the permit open there (empty: none), as one row of a store."""

    frame: Frame
    space: str
    permit: str = ""


class Dead(msgspec.Struct, frozen=True):
    """A row that will never be taken, and why; the caller keeps it aside and goes on."""

    row: StoredFrame
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
    """

    received: int = 0
    doubled: int = 0
    torn: int = 0
    missing: list[Missing] = []


class TelemetryStore(Protocol):
    """Keeps frames; blocking, to be called in a thread; every method may raise StoreUnavailable.

    Ids and channels are checked before they become part of a query or a file; ValueError when they are none. Ranges are ms
    since 1970, start inclusive, end exclusive. Values come back in at least single precision.
    """

    def write(self, rows: Sequence[StoredFrame]) -> list[Dead]:
        """Store the rows durably and return those that can never be stored; repeating a write changes nothing.

        Raises:
            StoreUnavailable: not all is stored; write the same rows again. No frame is ever half stored.
        """
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

    def ledger(self, device: str, start_ms: int, end_ms: int) -> Ledger:
        """Return what was received, doubled, torn and missing of a device in the range."""
        ...

    def prune(self, before_ms: int) -> None:
        """Forget whole UTC days that end at or before `before_ms`."""
        ...

    def close(self) -> None:
        """Let go of files and connections; every later call raises StoreUnavailable."""
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


def ledger_of(identities: Iterable[tuple[int, int]], torn: int) -> Ledger:
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
    return Ledger(received, rows - received, torn, missing)
