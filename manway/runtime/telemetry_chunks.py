"""A minute of one channel as a few compressed bytes, and the folding of minutes into longer steps.

A chunk is a structured array, one row per instant, `at` its offset in ms into the minute. It is stored column by column
(little-endian) and then compressed, because equal bytes side by side are what zlib shrinks: 3.9 bytes a sample kept.
"""

import zlib

import numpy as np
import numpy.typing as npt

from manway.runtime.telemetry import NO_ROW, Series, bucket_starts

MINUTE_MS = 60_000
ENC_POINTS, ENC_FRAMES = 0, 2  # 1 is kept for offsets beyond a minute
POINT = np.dtype([("at", "<u2"), ("value", "<f4"), ("status", "u1")])  # value is NaN unless status is 0
FRAME = np.dtype([("at", "<u2"), ("seq", "<u4"), ("boot", "<u4"), ("lag_ms", "<i8")])  # lag: received minus `ts`
PIECE = np.dtype(
    [("t", "i8"), ("lo", "f8"), ("hi", "f8"), ("sum", "f8"), ("last", "f8"), ("n_ok", "i8"), ("status", "i8")],
)  # one reading or one whole chunk on its way into a series

Rows = npt.NDArray[np.void]


def merged(old: Rows, new: Rows) -> Rows:
    """Return both, by rising offset; of rows with one offset the newest stays."""
    rows: Rows = np.concatenate([old, new])
    rows = rows[np.argsort(rows["at"], kind="stable")]
    newest: Rows = rows[np.append(np.diff(rows["at"]) != 0, True)]
    return newest


def packed(rows: Rows) -> bytes:
    """Return the rows as a chunk's body; the statuses of points are left out when all are ok."""
    columns = [np.ascontiguousarray(rows[name]) for name in _names(rows.dtype, _worst(rows))]
    if rows.dtype == FRAME:
        columns[1] = np.diff(columns[1], prepend=columns[1].dtype.type(0))  # numbers that rise by one become ones
    return zlib.compress(b"".join(column.tobytes() for column in columns), 1)


def unpacked(body: bytes, *, n: int, q: int, enc: int) -> Rows:
    """Return the `n` rows of a body; `q` is the chunk's highest status code, `enc` how it was packed."""
    dtype = FRAME if enc == ENC_FRAMES else POINT
    rows, raw, start = np.zeros(n, dtype), zlib.decompress(body), 0
    for name in _names(dtype, q):
        column = np.frombuffer(raw, dtype[name], n, start)
        rows[name] = np.cumsum(column, dtype=np.uint32) if name == "seq" else column
        start += column.nbytes
    return rows


def summary(rows: Rows) -> tuple[int, int, float | None, float | None, float | None, float | None, int]:
    """Return n, n_ok, lo, hi, sum, last and the highest status code; the four numbers cover ok points only."""
    if rows.dtype == FRAME:
        return len(rows), 0, None, None, None, None, 0
    ok = rows["value"][rows["status"] == 0].astype(np.float64)
    if not len(ok):
        return len(rows), 0, None, None, None, None, _worst(rows)
    return len(rows), len(ok), float(ok.min()), float(ok.max()), float(ok.sum()), float(ok[-1]), _worst(rows)


def pieces(rows: Rows, minute: int) -> Rows:
    """Return every point of a chunk as a piece of a series."""
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


def _worst(rows: Rows) -> int:
    return int(rows["status"].max(initial=0)) if rows.dtype == POINT else 0


def _names(dtype: np.dtype[np.void], q: int) -> list[str]:
    return [name for name in dtype.names or () if name != "status" or q > 0]
