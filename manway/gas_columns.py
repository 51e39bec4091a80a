"""The columns of gas channels: one row a channel, what each keeps, and how rows become bytes of a snapshot."""

import math

import msgspec
import numpy as np
import numpy.typing as npt

from manway.ids import Status

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int8]
Indices = npt.NDArray[np.intp]
Shorts = npt.NDArray[np.int16]
Numbers = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

UNKNOWN = -1  # the level and the status of a row that cannot tell
CODES = {status: code for code, status in enumerate(Status)}  # the order of `locks.md` §5, so OK is 0
OK, OVER, UNDER, INVALID = (CODES[s] for s in (Status.OK, Status.OVER, Status.UNDER, Status.INVALID))
SLOPE_WINDOW_S = 10.0  # least squares over the last 10 s (`domain.md` §7.2)
SLOPE_POINTS = 11  # one a second: both ends of the window
SLOPE_LEAST = 5  # (choice) fewer points than half the window are no trend
LEL_NEEDS_O2 = 10.0  # % vol; a catalytic sensor cannot burn with less [MP]


class Columns(msgspec.Struct):
    """The columns of all rows, each of shape (row,), the two of the ring (row, SLOPE_POINTS)."""

    rule: Shorts  # which gas, -1 = free
    status: Bytes
    level: Bytes
    held: Bytes  # the level that leaving is measured from
    over: Flags
    burns: Flags  # a combustible sensor beside an oxygen one
    calm: Flags  # ok, within its limits, not over its range, and not moving
    slot: Bytes  # the newest place of the ring
    oxygen: Numbers  # row of the O2 sensor beside a combustible one, -1 = none
    factor: Floats  # channel's unit -> limit's unit
    calm_from: Floats  # in the channel's unit: from here to below `calm_to` a calm row stays within all limits
    calm_to: Floats
    value: Floats
    at: Floats  # Unix s of the newest number
    low_in_s: Floats  # seconds to the low limit at the present slope, inf = not on the way
    slope: Floats  # limit's unit per second
    ring_low: Floats  # no number of the ring is below, none above the next: a calm row need not read its ring
    ring_high: Floats
    ring_at: Floats
    ring: Floats


TYPES = {
    **dict.fromkeys(Columns.__struct_fields__, np.float64),
    **dict.fromkeys(("status", "level", "held", "slot"), np.int8),
    **dict.fromkeys(("over", "burns", "calm"), np.bool_),
    "rule": np.int16,
    "oxygen": np.int32,
}
_WIDE = ("ring_at", "ring")
ROW_BYTES = sum(np.dtype(kind).itemsize * (SLOPE_POINTS if name in _WIDE else 1) for name, kind in TYPES.items())


def empty(count: int) -> Columns:
    """Return free rows."""
    shapes = {name: (count, SLOPE_POINTS) if name in _WIDE else (count,) for name in TYPES}
    rows = Columns(**{name: np.zeros(shapes[name], kind) for name, kind in TYPES.items()})
    rows.rule[:] = UNKNOWN
    return rows


def columns_of(data: bytes) -> dict[str, Floats]:
    """Return the columns that `GasRows.saved` made bytes of, whatever the type of each."""
    count, begin, columns = len(data) // ROW_BYTES, 0, dict[str, Floats]()
    for name, kind in TYPES.items():
        shape = (count, SLOPE_POINTS) if name in _WIDE else (count,)
        columns[name] = np.frombuffer(data, kind, math.prod(shape), begin).reshape(shape)
        begin += columns[name].nbytes
    return columns


def over_range(data: bytes) -> list[bool]:
    """Return which of the rows that `GasRows.saved` made bytes of, under whatever limits, are latched over their range."""
    over: list[bool] = columns_of(data)["over"].tolist()
    return over
