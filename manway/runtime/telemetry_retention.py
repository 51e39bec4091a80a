"""How long the embedded telemetry store keeps its days: counted in days that have data, because a clock may be wrong.

A clock that is set to 2038 must not delete what it has never seen grow old. So a day goes when two things hold:

- As many later days as are kept have a file, none of them after today. A gateway that was off for a year deletes nothing for
  it; a day in the future, which a wrong clock made, counts for nothing while the clock is right, and for one while it is not.
- Nothing was written to its files for as many days. An instrument whose clock stands at 2001 fills a file that is old by its
  name: it stays as long as any other.

A day of the future is never deleted: it may be the present that is wrong. `meta.db` stays whole; names are few.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import date
from itertools import islice
from pathlib import Path

import structlog

from manway.runtime.telemetry_days import EPOCH_DAY, Files

_log = structlog.get_logger(__name__)
KEEP_DAYS = 400  # (choice) `pipeline.md` §8.2: a year, and a month to ask about it
DAY_S = 86_400
_DAYS_A_CALL = 4  # (choice) the file of a city's day is gigabytes, whose unlink takes a disk a good part of a second
# The file, what SQLite keeps beside it, and what was set aside damaged: it goes with its day, or nobody would ever delete it.
_NAME = re.compile(r"(?P<day>\d{4}-\d\d-\d\d)\.db(\.damaged-\d+)?(-wal|-shm)?")


def first_kept(days: Collection[int], today: int, keep: int) -> int:
    """Return the first of the newest `keep` days that are not after `today`, 0 where there are not so many.

    Days are numbers since 1970. Whatever `today` is said to be, none of the newest `keep` of all days is before it.
    """
    past = sorted(day for day in days if day <= today)
    return past[-keep] if len(past) >= keep else 0


class Retention:
    """Deletes days that are old enough, a few a call, when the process has begun and whenever a new day has got a file.

    Args:
        directory: where the files are.
        keep: days that are kept, at least 1.

    Raises:
        ValueError: fewer.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        if keep < 1:
            message = f"{keep} days of telemetry to keep: at least one is wanted"
            raise ValueError(message)
        self._directory, self._keep = directory, keep
        self._made = -1  # how many files the writer had made when we looked
        self._due = True
        self._tried: set[int] = set()  # at this turn: what could not be deleted is tried again when the next day begins

    def prune(self, now: float, files: Files, in_memory: Collection[int]) -> None:
        """Delete a few of the days that are old enough at `now` (Unix seconds); a failure is logged and costs nothing else.

        Args:
            now: the present.
            files: the writer's, which lets go of a day before it is deleted.
            in_memory: days with rows that are not in their file yet; they stay until the next time. What comes of an old day
                later, from a journal behind or a late instrument, makes a new file of that day, which goes when its time comes.
        """
        if self._made != files.made:
            self._made, self._due = files.made, True
            self._tried.clear()
        if not self._due:
            return
        self._due = False
        try:
            self._delete_some(now, files, in_memory)
        except OSError as error:
            _log.error("old_days_not_looked_for", reason=str(error))

    def _delete_some(self, now: float, files: Files, in_memory: Collection[int]) -> None:
        found = defaultdict[int, list[Path]](list)
        for path in self._directory.iterdir():
            if (day := _day_of(path.name)) is not None:
                found[day].append(path)
        stored = [day for day, paths in found.items() if any(path.suffix == ".db" for path in paths)]
        first, silent_since = first_kept(stored, int(now // DAY_S), self._keep), now - self._keep * DAY_S
        old = [day for day in sorted(found) if day < first and day not in in_memory and day not in self._tried]
        gone = [*islice((day for day in old if _written_at(found[day]) <= silent_since), _DAYS_A_CALL + 1)]
        for day in gone[:_DAYS_A_CALL]:
            self._tried.add(day)
            files.forget(day)
            _delete(sorted(found[day]))  # the file before its log: a log alone is nothing to SQLite, and found by the next call
        self._due = len(gone) > _DAYS_A_CALL


def _day_of(name: str) -> int | None:
    """Return the day that a file belongs to, None for what is no day's."""
    found = _NAME.fullmatch(name)
    if found is not None:
        with suppress(ValueError):  # 2026-02-31: nobody of ours wrote it
            return date.fromisoformat(found["day"]).toordinal() - EPOCH_DAY
    return None


def _written_at(paths: Iterable[Path]) -> float:
    """Return when the newest of some files was last written, Unix seconds; who only reads makes `-shm` and an empty `-wal`."""
    found = 0.0
    for path in paths:
        with suppress(FileNotFoundError):
            stat = path.stat()
            if not (path.name.endswith("-shm") or (path.name.endswith("-wal") and not stat.st_size)):
                found = max(found, stat.st_mtime)
    return found


def _delete(paths: Iterable[Path]) -> None:
    """Delete a day's files, up to one that cannot be; whoever has one open goes on reading it."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.error("old_day_not_deleted", file=path.name, reason=str(error))
            return
        _log.info("old_day_deleted", file=path.name)
