"""The writing side of the embedded telemetry store: open minutes, idle hours, and when they go to the files."""

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from manway.measurements import check_frame
from manway.runtime.telemetry import Dead, PlainRows, StoredFrame
from manway.runtime.telemetry_chunks import MINUTE_MS
from manway.runtime.telemetry_days import DAY_MINUTES, HOUR_MINUTES, IDLE_MOST, Files
from manway.runtime.telemetry_layouts import Layout
from manway.runtime.telemetry_open import GRACE_S, REPLAY_MOST, Columns, Held, OpenFrames, Samples, checked_layout, columns_of
from manway.runtime.telemetry_plain import Key, PlaceTable, plain_columns
from manway.runtime.telemetry_shares import SHARE, IdleHour, Job, cost_of_minutes, cut, rows_between

_BLOCK = 1000  # (choice) rows at a time: every column is read from objects that are still in the processor's cache
_CALLS = 60  # (choice) of `settle` in which what waits is written: the sink makes as many a minute


class Writer:
    """What is open and where it goes; calls come one at a time.

    What is due goes as jobs, one after the other, the longest due first: so late rows of a minute are not touched before all
    shares of it are in the file. Every method may raise sqlite3.Error or OSError: what was taken is then still here.

    Args:
        files: where it goes.
        hold: False to write every call at once.
        share: cost of what one transaction takes, in rows.
    """

    def __init__(self, files: Files, *, hold: bool, share: int = SHARE) -> None:
        self.files, self._hold, self._share = files, hold, share
        self._piece = share // 2  # half of a share's cost is its rows: a piece of memory is as long as a share
        self._known: dict[Key, int] = {}
        self._places = PlaceTable(self._layouts, files.number_of_permit)
        self._open = OpenFrames(files.layouts, self._piece)
        self._idle: dict[int, IdleHour] = {}  # by the first minute of the hour
        self._job: Job | None = None
        self._mark = self._taken = 0

    def write(self, rows: Sequence[StoredFrame], mark: int) -> list[Dead]:
        """Take rows, as TelemetryStore.write does."""
        self._make_room()
        dead: list[Dead] = []
        for start in range(0, len(rows), _BLOCK):
            dead += self._take_good(rows[start : start + _BLOCK])
        if not self._hold:
            self.settle(math.inf)
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
        held = [minute.held for minute in self._open.minutes.values()] + [hour.held for hour in self._idle.values()]
        if self._job:
            held += self._job.held  # until its last share is in the file
        return min((one.since for one in held), default=self._mark)

    def days_in_memory(self) -> set[int]:
        """Return the days that have rows in memory."""
        days = {minute // DAY_MINUTES for minute in (*self._open.minutes, *self._idle)}
        return days | {self._job.day} if self._job else days

    def settle(self, now: float) -> None:
        """Write of the minutes and idle hours that are complete at `now` (Unix seconds) a share; all of them at infinity.

        Small jobs are done together, as many as cost a share. Where more waits than `_CALLS` shares, a call writes that part
        of it: a job is through in so many calls, however large it is, so the store cannot fall behind for good.
        """
        most = math.inf if math.isinf(now) else max(self._share, self._waiting(now) / _CALLS)
        spent = 0.0
        while (job := self._job or self._begun(now)) is not None:
            self._job = job
            if spent and spent + job.share_cost > most:
                return
            job.write_share()
            spent += job.share_cost
            if not job.left:
                self._job = None

    def _make_room(self) -> None:
        if self._open.held + (self._job.frames if self._job else 0) > REPLAY_MOST:
            self.settle(math.inf)  # nobody settles, or the disk is full: no more is taken than memory can hold
        if not self._hold:  # what a full disk left here comes before more is taken
            self.settle(math.inf)

    def _waiting(self, now: float) -> float:
        """Return about what everything costs that is complete at `now`, the whole of the job in progress with it."""
        rows = sum(self._open.minutes[minute].rows for minute in self._open.due(now, self._taken))
        rows += sum(self._idle[hour].rows for hour in self._hours_due(now))
        return 2 * rows + (self._job.cost if self._job else 0.0)

    def _hours_due(self, now: float) -> list[int]:
        over = now - HOUR_MINUTES * MINUTE_MS / 1000 - GRACE_S
        ripe = (
            h for h, idle in self._idle.items() if over >= h * MINUTE_MS / 1000 or self._taken - idle.held.taken > REPLAY_MOST
        )
        return sorted(ripe)

    def _begun(self, now: float) -> Job | None:
        """Return the job of what is due longest, out of what is open; a minute goes before the hour that ends with it."""
        minutes, hours = self._open.due(now, self._taken), self._hours_due(now)
        if minutes and (not hours or minutes[0] < hours[0] + HOUR_MINUTES):
            return self._job_of_minutes(minutes)
        return self._job_of_hour(hours[0]) if hours else None

    def _job_of_minutes(self, due: Sequence[int]) -> Job:
        """Return a job of minutes of one day, the first one's.

        Of those that are new to the file it takes as many as cost about a share, one at least; of late ones all, so that a
        chunk that several belong to is read and written again once.
        """
        day = due[0] // DAY_MINUTES
        file = self.files.day(day)
        are_new = self._hold and file.fresh(due[0])
        alike = [m for m in due if m // DAY_MINUTES == day and (self._hold and file.fresh(m)) == are_new]
        chosen, rows = alike[:1], self._open.minutes[alike[0]].rows
        for minute in alike[1:]:
            rows += self._open.minutes[minute].rows
            if are_new and rows > self._piece:
                break
            chosen.append(minute)
        own = [self._open.minutes[minute] for minute in chosen]
        cost, parts = cost_of_minutes(own, self.files.layouts, are_new=are_new)
        held = {minute: self._open.minutes.pop(minute).held for minute in chosen}

        def put(kinds: Sequence[Samples], _last: bool) -> None:  # noqa: FBT001
            if are_new:
                self._keep_idle(held, self.files.day(day).put_minutes(chosen, kinds))
            else:
                self.files.day(day).put_late(chosen, kinds, idle_most=IDLE_MOST if self._hold else 0)

        def take(first: int, end: int) -> list[Samples]:
            return rows_between(parts, first, end, self.files.layouts)

        frames = sum(minute.frames for minute in own)
        return Job(day, [*held.values()], frames, cut(cost, self._share), float(cost.sum()), take, put)

    def _job_of_hour(self, hour: int) -> Job:
        idle, day = self._idle[hour], hour // DAY_MINUTES
        cost = idle.cost(self.files.layouts, self.files.day(day).seen(hour))
        del self._idle[hour]

        def put(kinds: Sequence[Samples], last: bool) -> None:  # noqa: FBT001
            self.files.day(day).put_hour(hour, kinds, last=last)

        def take(first: int, end: int) -> list[Samples]:
            return idle.between(first, end, self.files.layouts)

        return Job(day, [idle.held], 0, cut(cost, self._share), float(cost.sum()), take, put)

    def _keep_idle(self, held: dict[int, Held], idle: list[Samples]) -> None:
        hours = {minute // HOUR_MINUTES * HOUR_MINUTES for minute in held}
        for hour in sorted(hours):
            parts = [part.chosen(part.t // MINUTE_MS // HOUR_MINUTES * HOUR_MINUTES == hour) for part in idle]
            if not any(len(part.ch) for part in parts):
                continue
            own = min(one for minute, one in held.items() if minute // HOUR_MINUTES * HOUR_MINUTES == hour)
            if hour not in self._idle:
                self._idle[hour] = IdleHour(own, self._piece)
            self._idle[hour].add(own, parts)

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
        permits = [row.permit for row in rows]
        numbers = {permit: self.files.number_of_permit(permit) for permit in dict.fromkeys(permits)}
        self._hold_open(columns_of(rows, layouts, [numbers[permit] for permit in permits]))

    def _hold_open(self, columns: Columns) -> None:
        if not len(columns.frames):
            return
        newest_ms = int((columns.frames["ts"] + columns.frames["lag_ms"]).max())
        self._open.take(columns, Held(self._mark, self._taken, newest_ms / 1000))
        self._taken += len(columns.frames)

    def _layouts(self, keys: Sequence[Key]) -> list[int]:
        """Return the numbers of layouts; raises ValueError when one cannot be kept, before any new one is."""
        with suppress(KeyError):
            return [self._known[key] for key in keys]  # one look each: a key is seven strings to hash
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        names = [checked_layout(*key) for key in new]
        self.files.number([name for some in names for name in some])
        found = list[Layout]()
        for key, some in zip(new, names, strict=True):
            frame, *channels = self.files.number(some)
            self._known[key] = len(self.files.layouts) + len(found)
            found.append(Layout(frame, tuple(channels)))
        self.files.layouts.add(found)
        return [self._known[key] for key in keys]
