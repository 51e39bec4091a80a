"""A minute, or an idle hour, of one channel as a few compressed bytes, and the folding of chunks into longer steps.

A chunk's rows are kept column by column, each as differences and byte plane by byte plane, and then compressed: equal bytes
side by side are what zlib shrinks. An instrument shows few digits, so a chunk whose numbers are all short decimals keeps
them as whole numbers of tenths or hundredths, exactly; any other number is kept as the four bytes of single precision.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manway.runtime.telemetry import NO_ROW, Series, bucket_starts

MINUTE_MS = 60_000
ENC_POINTS, ENC_FRAMES = 0, 2  # one more where the chunk is longer than its first minute: 32-bit offsets instead of 16
POINT = np.dtype([("at", "<u4"), ("value", "<f4"), ("status", "u1")])  # `at`: ms into the chunk; value is NaN unless status 0
FRAME = np.dtype([("at", "<u4"), ("seq", "<u4"), ("boot", "<u4"), ("lag_ms", "<i8"), ("permit", "<u4")])
"""The row of a frame: `lag_ms` is received minus `ts`; `permit` its number in `meta.db`, 0 for none."""
PIECE = np.dtype(
    [("t", "i8"), ("lo", "f8"), ("hi", "f8"), ("sum", "f8"), ("last", "f8"), ("n_ok", "i8"), ("status", "i8")],
)  # one reading or one whole chunk on its way into a series

_RAW = 255  # in the place of a number of decimals: the values are single-precision numbers as they are
_DECIMALS = 3  # (choice) more digits no gas instrument shows
_TENS = np.float32(10.0) ** np.arange(_DECIMALS + 1, dtype=np.float32)
_WHOLE_MOST = 32_767  # what 16 bits hold
# A body is some hundred bytes. zlib's own defaults take 256 KiB of fresh memory for each, which costs four times the work.
_WINDOW_BITS, _MEMORY_LEVEL = 10, 2

Rows = npt.NDArray[np.void]
Column = (
    npt.NDArray[np.bool_]
    | npt.NDArray[np.uint8]
    | npt.NDArray[np.int16]
    | npt.NDArray[np.uint32]
    | npt.NDArray[np.int64]
    | npt.NDArray[np.float32]
    | npt.NDArray[np.float64]
)
_Bytes = npt.NDArray[np.uint8]


class Chunk(NamedTuple):
    """One row of a day file.

    `t0` is its first minute since 1970, `span` how many minutes it reaches over. `lo hi sum last` cover ok points only;
    `q` is its highest status code.
    """

    t0: int
    ch: int
    n: int
    span: int
    n_ok: int
    lo: float | None
    hi: float | None
    sum: float | None
    last: float | None
    q: int
    enc: int
    body: bytes

    @property
    def rows(self) -> Rows:
        """Its rows, unpacked."""
        return unpacked(self.body, n=self.n, q=self.q, enc=self.enc)

    def is_of_frames(self) -> bool:
        """Say whether its rows are of frames, not points of a channel."""
        return self.enc >= ENC_FRAMES


def merged(old: Rows, new: Rows) -> Rows:
    """Return both, by rising offset; of rows with one offset the newest stays."""
    rows: Rows = np.concatenate([old, new])
    rows = rows[np.argsort(rows["at"], kind="stable")]
    newest: Rows = rows[np.append(np.diff(rows["at"].astype(np.int64)) != 0, True)]
    return newest


def chunks_of(t0: npt.NDArray[np.int64], ch: npt.NDArray[np.uint32], rows: Rows, starts: npt.NDArray[np.intp]) -> list[Chunk]:
    """Return one chunk a group.

    Args:
        t0: first minute of each group, since 1970; shape (group,).
        ch: channel number of each group; shape (group,).
        rows: rows of all groups, each group by rising offset into its `t0`; POINT or FRAME.
        starts: index of each group's first row; shape (group,).
    """
    if not len(starts):
        return []
    ends = np.append(starts[1:], len(rows))
    of_frames = rows.dtype == FRAME
    span = rows["at"][ends - 1] // MINUTE_MS + 1
    enc = (ENC_FRAMES if of_frames else ENC_POINTS) + (span > 1)
    sums = _frame_sums(len(starts)) if of_frames else _point_sums(rows, starts)
    bodies = _bodies(rows, starts, ends, wide=span > 1, with_status=sums[-1])
    columns = (
        [column.tolist() for column in (t0, ch, ends - starts, span)] + [_told(column) for column in sums] + [enc.tolist()]
    )
    return [*map(Chunk._make, zip(*columns, bodies, strict=True))]


def packed(t0: int, ch: int, rows: Rows) -> Chunk:
    """Return rows of one channel, by rising offset into minute `t0`, as a chunk."""
    return chunks_of(np.array([t0]), np.array([ch], np.uint32), rows, np.zeros(1, np.intp))[0]


def unpacked(body: bytes, *, n: int, q: int, enc: int) -> Rows:
    """Return the `n` rows of a body; `q` is the chunk's highest status code, `enc` how it was packed.

    Raises:
        zlib.error: the body is damaged.
    """
    try:
        return _unpacked(zlib.decompress(body), n=n, q=q, enc=enc)
    except (ValueError, IndexError) as error:
        message = f"a chunk's body does not hold {n} rows"
        raise zlib.error(message) from error


def _unpacked(raw: bytes, *, n: int, q: int, enc: int) -> Rows:
    planes = _Planes(raw, n, wide=bool(enc & 1))
    if enc >= ENC_FRAMES:
        frames = np.zeros(n, FRAME)
        frames["at"] = planes.offsets()
        for name in (FRAME.names or ())[1:]:
            frames[name] = np.cumsum(planes.column(FRAME[name]), dtype=FRAME[name])
        return frames
    points = np.zeros(n, POINT)
    points["at"] = planes.offsets()
    points["value"] = planes.values()
    if q:
        points["status"] = planes.column(POINT["status"])
        points["value"][points["status"] != 0] = np.nan
    return points


class _Planes:
    """The columns of an unpacked body, one after the other."""

    def __init__(self, raw: bytes, n: int, *, wide: bool) -> None:
        self._raw, self._n, self._wide, self._start = raw, n, wide, 0

    def column(self, dtype: npt.DTypeLike) -> Column:
        """Return the next column, put together from its byte planes."""
        size = np.dtype(dtype).itemsize
        flat = np.frombuffer(self._raw, np.uint8, self._n * size, self._start)
        self._start += flat.nbytes
        return np.ascontiguousarray(flat.reshape(size, self._n).T).view(dtype).ravel()

    def offsets(self) -> npt.NDArray[np.uint32]:
        """Return the offsets, ms."""
        return np.cumsum(self.column("<u4" if self._wide else "<u2"), dtype=np.uint32)

    def values(self) -> npt.NDArray[np.float32]:
        """Return the numbers, single precision; where a status is not ok any number may stand."""
        decimals = self._raw[self._start]
        self._start += 1
        if decimals == _RAW:
            return self.column("<f4").astype(np.float32)
        shown: npt.NDArray[np.float32] = np.cumsum(self.column("<i2"), dtype=np.int16).astype(np.float32) / _TENS[decimals]
        return shown


def _bodies(
    rows: Rows, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], *, wide: npt.NDArray[np.bool_], with_status: Column
) -> Iterator[bytes]:
    """Yield each group's body; every column is cut into byte planes once, for all groups together."""
    differences = _differences(rows["at"].astype(np.uint32), starts)
    short, long = _planes(differences.astype("<u2")), _planes(differences)
    groups = zip(starts.tolist(), ends.tolist(), wide.tolist(), with_status.tolist(), strict=True)
    if rows.dtype == FRAME:
        others = [plane for name in (FRAME.names or ())[1:] for plane in _planes(_differences(rows[name], starts))]
        for start, end, far, _ in groups:
            yield _squeezed(b"".join([plane[start:end] for plane in (*(long if far else short), *others)]))
        return
    decimals, whole = _decimals(rows, starts)
    numbers, raw, status = _planes(_differences(whole, starts)), _planes(rows["value"]), rows["status"].tobytes()
    heads = [bytes([digits]) for digits in range(256)]
    for (start, end, far, faulty), digits in zip(groups, decimals.tolist(), strict=True):
        parts = [plane[start:end] for plane in (long if far else short)]
        parts.append(heads[digits])
        parts += [plane[start:end] for plane in (raw if digits == _RAW else numbers)]
        if faulty:
            parts.append(status[start:end])
        yield _squeezed(b"".join(parts))


def _squeezed(raw: bytes) -> bytes:
    small = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    return small.compress(raw) + small.flush()


def _planes(column: Column) -> list[bytes]:
    """Return a column's bytes by their place: all lowest ones, all second ones and so on."""
    flat = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), column.dtype.itemsize)
    return [plane.tobytes() for plane in flat.T]


def _differences(column: Column, starts: npt.NDArray[np.intp]) -> Column:
    """Return each row less the one before it in its group, of the first row the row itself; whole numbers, wrapping round."""
    found = column.copy()
    np.subtract(column[1:], column[:-1], out=found[1:])
    found[starts] = column[starts]
    return found


def _decimals(rows: Rows, starts: npt.NDArray[np.intp]) -> tuple[_Bytes, npt.NDArray[np.int16]]:
    """Return the fewest decimals that keep each group's numbers exactly (`_RAW`: none do), and the numbers without point."""
    values = np.where(rows["status"] == 0, rows["value"], np.float32(0.0))
    counts = np.diff(np.append(starts, len(rows)))
    decimals = np.full(len(starts), _RAW, np.uint8)
    whole = np.zeros(len(rows), np.int16)
    for digits in range(_DECIMALS, -1, -1):
        with np.errstate(over="ignore"):
            scaled = np.rint(values * _TENS[digits])
        exact = (np.abs(scaled) <= _WHOLE_MOST) & (scaled / _TENS[digits] == values)
        fits = np.logical_and.reduceat(exact, starts)
        decimals[fits] = digits
        own = np.repeat(fits, counts)
        whole[own] = scaled[own].astype(np.int16)
    return decimals, whole


def _frame_sums(groups: int) -> tuple[Column, ...]:
    nothing = np.zeros(groups, np.int64)
    none = np.full(groups, np.nan)
    return nothing, none, none, none, none, nothing


def _point_sums(rows: Rows, starts: npt.NDArray[np.intp]) -> tuple[Column, ...]:
    """Return n_ok, lo, hi, sum, last and the highest status of each group; NaN where no point is ok."""
    ok = rows["status"] == 0
    values = np.where(ok, rows["value"], np.nan).astype(np.float64)
    n_ok = np.add.reduceat(ok.astype(np.int64), starts)
    newest = np.maximum.reduceat(np.where(ok, np.arange(len(rows)), -1), starts)
    total = np.where(n_ok > 0, np.add.reduceat(np.where(ok, values, 0.0), starts), np.nan)
    last = np.where(newest >= 0, values[newest], np.nan)
    status = np.maximum.reduceat(rows["status"], starts)
    return n_ok, np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts), total, last, status


def _told(column: Column) -> list[float | None]:
    """Return a column for the file: numbers, None for NaN."""
    told: list[float | None] = column.tolist()
    if column.dtype.kind == "f" and np.isnan(column).any():
        return [None if value != value else value for value in told]  # noqa: PLR0124  NaN alone differs from itself
    return told


def pieces(rows: Rows, minute: int) -> Rows:
    """Return every point of a chunk that begins at `minute` as a piece of a series."""
    found = np.empty(len(rows), PIECE)
    found["t"] = rows["at"].astype(np.int64) + minute * MINUTE_MS
    for name in ("lo", "hi", "sum", "last"):
        found[name] = rows["value"]
    found["n_ok"] = rows["status"] == 0
    found["status"] = rows["status"]
    return found


def raw_series(found: Rows) -> Series:
    """Return pieces that are single readings as a series, by rising time."""
    found = found[np.argsort(found["t"], kind="stable")]
    return Series(*(found[name] for name in ("t", "lo", "hi", "sum", "last", "n_ok", "status")))


def folded(found: Rows, start_ms: int, end_ms: int, step_s: int) -> Series:
    """Return pieces of the range folded into every bucket of it; raises ValueError as `bucket_starts` does."""
    starts = bucket_starts(start_ms, end_ms, step_s)
    found = found[np.argsort(found["t"], kind="stable")]
    at = (found["t"] - starts[0]) // (step_s * 1000) if len(found) else np.empty(0, np.int64)
    ok = found["n_ok"] > 0
    at_ok, found_ok = at[ok], found[ok]
    n_ok = np.zeros(len(starts), np.int64)
    status = np.full(len(starts), NO_ROW, np.int64)
    total, (lo, hi, last) = np.zeros(len(starts)), np.full((3, len(starts)), np.nan)
    np.add.at(n_ok, at_ok, found_ok["n_ok"])
    np.add.at(total, at_ok, found_ok["sum"])
    np.fmin.at(lo, at_ok, found_ok["lo"])
    np.fmax.at(hi, at_ok, found_ok["hi"])
    np.maximum.at(status, at, found["status"])
    last[at_ok] = found_ok["last"]  # of several at one place the last stays
    mean = np.divide(total, n_ok, out=np.full(len(starts), np.nan), where=n_ok > 0)
    return Series(starts, lo, hi, mean, last, n_ok, status)
