"""Plain frames into open minutes: what a source and its place are called is looked at once, everything else is a column."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from manway.measurements import TS_END_MS, U32_END, VALUE_LIMIT
from manway.runtime.telemetry import Placed, PlainRows
from manway.runtime.telemetry_bodies import Rows
from manway.runtime.telemetry_open import OPEN, Columns, checked_layout

_KNOWN = np.dtype([("layout", "i8"), ("permit", "u4"), ("boot", "u4"), ("width", "i8")])
_NOT_KEPT = -1  # the layout of a place whose names are none we keep

Key = tuple[str, ...]
"""Device, space and channels: what a layout is found by."""


class PlaceTable:
    """What became of the places of one list, by their numbers.

    Args:
        layouts: gives the numbers of layouts that were found good, new ones for new keys.
        permit: gives the number of a permit.
    """

    def __init__(self, layouts: Callable[[Sequence[Key]], list[int]], permit: Callable[[str], int]) -> None:
        self._layouts, self._permit = layouts, permit
        self._places: Sequence[Placed] = []
        self._known = np.empty(0, _KNOWN)

    def of(self, places: Sequence[Placed]) -> Rows:
        """Return a row for each place, in their order; of a list seen before, only what is new in it costs anything."""
        if places is not self._places:
            self._places, self._known = places, np.empty(0, _KNOWN)
        if len(places) > len(self._known):
            self._known = np.concatenate([self._known, self._rows(places[len(self._known) :])])
        return self._known

    def _rows(self, places: Sequence[Placed]) -> Rows:
        rows = np.zeros(len(places), _KNOWN)
        keys = [(placed.source.device, placed.space, *placed.source.channels) for placed in places]
        good = [_kept(key, placed.source.boot) for key, placed in zip(keys, places, strict=True)]
        rows["layout"] = _NOT_KEPT
        rows["layout"][good] = self._layouts([key for key, kept in zip(keys, good, strict=True) if kept])
        rows["permit"][good] = [self._permit(placed.permit) for placed, kept in zip(places, good, strict=True) if kept]
        rows["boot"][good] = [placed.source.boot for placed, kept in zip(places, good, strict=True) if kept]
        rows["width"] = [len(placed.source.channels) for placed in places]
        return rows


def plain_columns(rows: PlainRows, known: Rows) -> tuple[Columns, npt.NDArray[np.intp]]:
    """Return what can be kept, and the numbers of the frames that cannot; `known` is the table's row of each place.

    Raises:
        ValueError: the frames have not the values they say they have.
    """
    plain, at, place = rows.plain, rows.received_at, known.take(rows.place)
    if int(plain.width.sum(dtype=np.int64)) != len(plain.values):
        message = f"{len(plain.values)} values for {int(plain.width.sum(dtype=np.int64))} channels"
        raise ValueError(message)
    good = (place["layout"] >= 0) & (place["width"] == plain.width) & (plain.ts >= 0) & (plain.ts < TS_END_MS)
    good &= (at >= 0) & (at < TS_END_MS / 1000)
    sound = np.abs(plain.values) <= VALUE_LIMIT
    if not sound.all():
        good[np.repeat(np.arange(len(plain)), plain.width)[~sound]] = False
    frames = np.empty(len(plain), OPEN)
    for name in ("layout", "permit", "boot"):
        frames[name] = place[name]
    frames["ts"], frames["seq"] = plain.ts, plain.seq
    values = plain.values
    if good.all():
        frames["lag_ms"] = np.rint(at * 1000.0).astype(np.int64) - plain.ts
    else:
        values = values[np.repeat(good, plain.width)]
        frames = frames[good]
        frames["lag_ms"] = np.rint(at[good] * 1000.0).astype(np.int64) - frames["ts"]
    return Columns(frames, values.astype(np.float32), np.zeros(len(values), np.uint8)), np.flatnonzero(~good)


def _kept(key: Key, boot: int) -> bool:
    try:
        checked_layout(*key)
    except ValueError:
        return False
    return 0 <= boot < U32_END
