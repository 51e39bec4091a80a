"""The writing side of the embedded telemetry store: open minutes, idle hours, and when they go to the files."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from manway.measurements import check_frame
from manway.runtime.telemetry import Dead, PlainRows, StoredFrame
from manway.runtime.telemetry_chunks import FRAME, MINUTE_MS, POINT
from manway.runtime.telemetry_days import DAY_MINUTES, HOUR_MINUTES, Files
from manway.runtime.telemetry_open import (
    GRACE_S,
    REPLAY_MOST,
    Columns,
    Held,
    Layout,
    OpenFrames,
    Samples,
    checked_layout,
    columns_of,
    joined,
)
from manway.runtime.telemetry_plain import Key, PlaceTable, plain_columns

_BLOCK = 1000  # (choice) rows at a time: every column is read from objects that are still in the processor's cache


class Writer:
    """What is open and where it goes; calls come one at a time.

    Every method may raise sqlite3.Error or OSError: what was taken is then still here.
    """

    def __init__(self, files: Files, *, hold: bool) -> None:
        self.files, self._hold = files, hold
        self._known: dict[Key, int] = {}
        self._places = PlaceTable(self._layouts, files.number_of_permit)
        self._open = OpenFrames()
        self._idle: dict[int, tuple[Held, list[list[Samples]]]] = {}  # first minute of an hour -> its idle rows, by kind
        self._mark = self._taken = 0

    def write(self, rows: Sequence[StoredFrame], mark: int) -> list[Dead]:
        """Take rows, as TelemetryStore.write does."""
        self._make_room()
        dead: list[Dead] = []
        for start in range(0, len(rows), _BLOCK):
            dead += self._take_good(rows[start : start + _BLOCK])
        if not self._hold:
            self._settle_at_once()
        self._mark = max(self._mark, mark)
        return dead

    def write_plain(self, rows: PlainRows) -> npt.NDArray[np.intp]:
        """Take columns, as TelemetryStore.write_plain does."""
        self._make_room()
        columns, left = plain_columns(rows, self._places.of(rows.places))
        self._hold_open(columns)
        return left

    def durable(self) -> int:
        """Return the mark before the oldest row still in memory."""
        held = [*self._open.minutes.values(), *(held for held, _ in self._idle.values())]
        return min((one.since for one in held), default=self._mark)

    def settle(self, now: float) -> None:
        """Write the minutes, then the idle hours, that are complete at `now` (Unix seconds)."""
        due = self._open.due(now, self._taken)
        if due:
            self._settle_minutes(due)
        for hour, (held, parts) in [*self._idle.items()]:
            over = now >= (hour + HOUR_MINUTES) * MINUTE_MS / 1000 + GRACE_S
            if over or self._taken - held.taken > REPLAY_MOST:
                kinds = [joined(part, dtype).in_order() for part, dtype in zip(parts, (POINT, FRAME), strict=True)]
                self.files.day(hour // DAY_MINUTES).put_hour(hour, kinds)
                del self._idle[hour]

    def _make_room(self) -> None:
        if self._open.held > REPLAY_MOST:  # nobody settles, or the disk is full: no more is taken than memory can hold
            self.settle(math.inf)
        if not self._hold:  # what a full disk left here comes before more is taken
            self._settle_at_once()

    def _settle_minutes(self, due: set[int]) -> None:
        """Write complete minutes; the rows of idle channels go on to wait for the end of their hour."""
        for day, minutes in _by_day(due).items():
            file = self.files.day(day)
            fresh = {minute for minute in minutes if file.fresh(minute)}
            for chosen, is_fresh in ((fresh, True), (minutes - fresh, False)):
                if not chosen:
                    continue
                kinds = [samples.in_order() for samples in self._open.of(chosen, self.files.layouts)]
                held = {minute: self._open.minutes[minute] for minute in chosen}
                if is_fresh:
                    self._keep_idle(held, file.put_minutes(chosen, kinds))
                else:
                    file.put_late(chosen, kinds)
                self._open.drop(chosen, self.files.layouts)

    def _settle_at_once(self) -> None:
        for day, minutes in _by_day(set(self._open.minutes)).items():
            kinds = [samples.in_order() for samples in self._open.of(minutes, self.files.layouts)]
            self.files.day(day).put_late(minutes, kinds, idle_most=0)
            self._open.drop(minutes, self.files.layouts)

    def _keep_idle(self, held: dict[int, Held], idle: list[Samples]) -> None:
        hours = {minute // HOUR_MINUTES * HOUR_MINUTES for minute in held}
        for hour in sorted(hours):
            parts = [part.chosen(part.t // MINUTE_MS // HOUR_MINUTES * HOUR_MINUTES == hour) for part in idle]
            if not any(len(part.ch) for part in parts):
                continue
            own = min(one for minute, one in held.items() if minute // HOUR_MINUTES * HOUR_MINUTES == hour)
            before, kept = self._idle.get(hour, (own, [[], []]))
            for all_parts, part in zip(kept, parts, strict=True):
                all_parts.append(part)
            self._idle[hour] = (min(before, own), kept)

    def _take_good(self, rows: Sequence[StoredFrame]) -> list[Dead]:
        """Take a block, all at once where all is good; return what is not."""
        try:
            self._take(rows)
        except (ValueError, OverflowError):
            pass
        else:
            return []
        good, dead = [], []
        for row in rows:
            try:
                check_frame(row.frame, space=row.space, permit=row.permit)
            except ValueError as error:
                dead.append(Dead(row, str(error)))
            else:
                good.append(row)
        self._take(good)
        return dead

    def _take(self, rows: Sequence[StoredFrame]) -> None:
        layouts = self._layouts([(row.frame.device, row.space, *row.frame.readings) for row in rows])
        permits = [self.files.number_of_permit(row.permit) for row in rows]
        self._hold_open(columns_of(rows, layouts, permits))

    def _hold_open(self, columns: Columns) -> None:
        if not len(columns.frames):
            return
        newest_ms = int((columns.frames["ts"] + columns.frames["lag_ms"]).max())
        self._open.take(columns, Held(self._mark, self._taken, newest_ms / 1000))
        self._taken += len(columns.frames)

    def _layouts(self, keys: Sequence[Key]) -> list[int]:
        """Return the numbers of layouts; raises ValueError when one cannot be kept, before any new one is."""
        if new := [key for key in dict.fromkeys(keys) if key not in self._known]:
            names = [checked_layout(*key) for key in new]
            self.files.number([name for some in names for name in some])
            for key, some in zip(new, names, strict=True):
                frame, *channels = self.files.number(some)
                self._known[key] = len(self.files.layouts)
                self.files.layouts.append(Layout(frame, tuple(channels)))
        return [self._known[key] for key in keys]


def _by_day(minutes: set[int]) -> dict[int, set[int]]:
    days: defaultdict[int, set[int]] = defaultdict(set)
    for minute in sorted(minutes):
        days[minute // DAY_MINUTES].add(minute)
    return days
