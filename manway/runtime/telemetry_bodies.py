"""The rows of a chunk as bytes: columns as differences, byte plane by byte plane, compressed together.

Equal bytes side by side are what zlib shrinks. An instrument shows few digits, so a chunk whose numbers are all short decimals
keeps them as whole numbers of tenths or hundredths, exactly; any other number is kept as the four bytes of single precision.
"""

import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from operator import add

import numpy as np
import numpy.typing as npt

ENC_POINTS, ENC_FRAMES = 0, 2  # one more where the chunk is longer than its first minute: 32-bit offsets instead of 16
POINT = np.dtype([("at", "<u4"), ("value", "<f4"), ("status", "u1")])  # `at`: ms into the chunk; value is NaN unless status 0
FRAME = np.dtype([("at", "<u4"), ("seq", "<u4"), ("boot", "<u4"), ("lag_ms", "<i8"), ("permit", "<u4")])
"""The row of a frame: `lag_ms` is received minus `ts`; `permit` its number in `meta.db`, 0 for none."""

_RAW = 255  # in the place of a number of decimals: the values are single-precision numbers as they are
_DECIMALS = 3  # (choice) more digits no gas instrument shows
_TENS = np.float32(10.0) ** np.arange(_DECIMALS + 1, dtype=np.float32)
_WHOLE_MOST = 32_767  # what 16 bits hold
_HEADS = [bytes([digits]) for digits in range(256)]
# (choice, as measured) A body is some hundred bytes. Zlib by default takes 256 KiB of fresh memory for each, which costs four
# times the work; at this level its blocks are of 127 symbols, about a column of a minute.
_WINDOW_BITS, _MEMORY_LEVEL = 10, 1
# Runs of a byte alone: in planes of differences as good as any match, and quicker to find.
_compressor = partial(zlib.compressobj, 1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_RLE)
# Frames keep few bits of jitter in wide columns; there one block and matches save a third, and one chunk in six is of frames.
_frame_compressor = partial(zlib.compressobj, 1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL + 1)

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


def bodies(
    rows: Rows, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], *, wide: npt.NDArray[np.bool_], with_status: Column
) -> Iterator[bytes]:
    """Return each group's body; every column is cut into byte planes once, for all groups together.

    Args:
        rows: rows of all groups behind each other, POINT or FRAME.
        starts: index of each group's first row, as `ends` of the one behind its last; shape (group,).
        ends: see above.
        wide: which groups reach beyond their first minute; shape (group,).
        with_status: which groups keep the status of each row: not 0 for those; shape (group,).
    """
    bounds = [*zip(starts.tolist(), ends.tolist(), strict=True)]
    times = _times(rows, starts, bounds, wide)
    if rows.dtype == FRAME:
        return map(_squeezed, map(add, times, _frames(rows, starts, bounds)))
    return _continued(times, _points(rows, starts, bounds, with_status))


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


def _times(
    rows: Rows, starts: npt.NDArray[np.intp], bounds: Sequence[tuple[int, int]], wide: npt.NDArray[np.bool_]
) -> list[bytes]:
    """Return the offsets of each group, the first part of its body."""
    differences = _differences(rows["at"].astype(np.uint32), starts)
    low, high = _planes(differences.astype("<u2"))
    times = [low[start:end] + high[start:end] for start, end in bounds]
    if wide.any():
        long = _planes(differences)
        for group in np.flatnonzero(wide).tolist():
            start, end = bounds[group]
            times[group] = b"".join([plane[start:end] for plane in long])
    return times


def _frames(rows: Rows, starts: npt.NDArray[np.intp], bounds: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield what comes behind the offsets of each group of frames."""
    planes = [plane for name in (FRAME.names or ())[1:] for plane in _planes(_differences(rows[name], starts))]
    for start, end in bounds:
        yield b"".join([plane[start:end] for plane in planes])


def _points(
    rows: Rows, starts: npt.NDArray[np.intp], bounds: Sequence[tuple[int, int]], with_status: Column
) -> Iterator[bytes]:
    """Yield what comes behind the offsets of each group of points."""
    decimals, whole = _decimals(rows, starts)
    low, high = _planes(_differences(whole, starts))
    raw = _planes(rows["value"]) if (decimals == _RAW).any() else []
    status = rows["status"].tobytes()
    for (start, end), digits, faulty in zip(bounds, decimals.tolist(), with_status.tolist(), strict=True):
        if digits == _RAW:
            rest = b"".join([_HEADS[_RAW], *(plane[start:end] for plane in raw)])
        else:
            rest = _HEADS[digits] + low[start:end] + high[start:end]
        yield rest + status[start:end] if faulty else rest


def _continued(times: Sequence[bytes], rests: Iterator[bytes]) -> Iterator[bytes]:
    """Yield bodies of points, compressed: the times of each, as a block of their own, and the rest.

    All channels of an instrument have the same times, nearly always, and stand behind each other: their times are compressed
    once, and what follows goes on from a copy of zlib's state there. That is half of the work.
    """
    begun, block, of = _compressor(), b"", b""
    for one, rest in zip(times, rests, strict=True):
        if one != of:
            begun, of = _compressor(), one
            block = begun.compress(one) + begun.flush(zlib.Z_BLOCK)
        small = begun.copy()
        yield block + small.compress(rest) + small.flush()


def _squeezed(raw: bytes) -> bytes:
    small = _frame_compressor()
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
    whole = np.zeros(len(rows), np.float32)
    for digits in range(_DECIMALS + 1):
        with np.errstate(over="ignore"):
            scaled = np.rint(values * _TENS[digits])
        exact = (np.abs(scaled) <= _WHOLE_MOST) & (scaled / _TENS[digits] == values)
        fits = np.logical_and.reduceat(exact, starts) & (decimals == _RAW)
        decimals[fits] = digits
        np.copyto(whole, scaled, where=np.repeat(fits, counts))
        if (decimals != _RAW).all():
            break
    return decimals, whole.astype(np.int16)
