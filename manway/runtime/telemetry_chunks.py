"""A minute, or an idle hour, of one channel as one row of a file, and the folding of chunks into longer steps."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from manway.runtime.telemetry import NO_ROW, Series, bucket_starts
from manway.runtime.telemetry_bodies import ENC_FRAMES, ENC_POINTS, FRAME, Column, Rows, bodies, unpacked

MINUTE_MS = 60_000
PIECE = np.dtype(
    [("t", "i8"), ("lo", "f8"), ("hi", "f8"), ("sum", "f8"), ("last", "f8"), ("n_ok", "i8"), ("status", "i8")],
)  # one reading or one whole chunk on its way into a series

Cells = tuple[object, ...]
"""Those of a `Chunk`, in its order."""


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


def chunks_of(t0: npt.NDArray[np.int64], ch: npt.NDArray[np.uint32], rows: Rows, starts: npt.NDArray[np.intp]) -> list[Cells]:
    """Return one chunk a group, as the cells of its row: a thousand are made at a time, for the file and for nobody else.

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
    packed_rows = bodies(rows, starts, ends, wide=span > 1, with_status=sums[-1])
    columns = (
        [column.tolist() for column in (t0, ch, ends - starts, span)] + [_told(column) for column in sums] + [enc.tolist()]
    )
    return [*zip(*columns, packed_rows, strict=True)]


def packed(t0: int, ch: int, rows: Rows) -> Chunk:
    """Return rows of one channel, by rising offset into minute `t0`, as a chunk."""
    return Chunk._make(chunks_of(np.array([t0]), np.array([ch], np.uint32), rows, np.zeros(1, np.intp))[0])


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
