"""Whatever clocks say, and however days come and go, none of the newest days of telemetry that are to be kept is deleted."""

import os
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from manway.runtime.telemetry_days import EPOCH_DAY, Files
from manway.runtime.telemetry_retention import DAY_S, Retention, first_kept

LAST = 40_000  # days after 1970: 2079
numbers = st.integers(0, 60) | st.integers(20_000, 20_040) | st.integers(0, LAST)  # near each other, or anywhere
acts = st.one_of(
    st.tuples(st.just("store"), st.lists(numbers, max_size=12), numbers),  # days, and the day on which their files were written
    st.tuples(st.just("prune"), st.lists(numbers, max_size=3), numbers),  # days in memory, and today by the clock
    st.tuples(st.just("restart"), st.just(list[int]()), st.just(0)),
)


class Shelves:
    """A folder of empty day files, all that retention looks at, and every day that ever had one."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self.files, self.retention = Files(folder), Retention(folder, keep)
        self.ever = set[int]()

    def store(self, days: list[int], written: int) -> None:
        for day in days:
            path = self.folder / f"{date.fromordinal(day + EPOCH_DAY)}.db"
            self.files.made += not path.exists()
            path.touch()
            os.utime(path, (written * DAY_S, written * DAY_S))
        self.ever |= {*days}

    def prune(self, in_memory: list[int], today: int) -> None:
        before = self.days()
        self.retention.prune(today * DAY_S + 0.5, self.files, in_memory)
        assert before - self.days() <= before - {*in_memory}

    def restart(self, _days: list[int], _day: int) -> None:
        self.retention = Retention(self.folder, self.keep)

    def days(self) -> set[int]:
        return {date.fromisoformat(path.stem).toordinal() - EPOCH_DAY for path in self.folder.glob("*-*-*.db")}


@given(st.integers(1, 6), st.lists(acts, max_size=25))
@settings(max_examples=80, deadline=None)
def test_none_of_the_newest_days_is_ever_gone(keep: int, story: list[tuple[str, list[int], int]]) -> None:
    with TemporaryDirectory() as name:
        shelves = Shelves(Path(name), keep)
        with closing(shelves.files):
            for what, days, day in story:
                act: Callable[[list[int], int], None] = getattr(shelves, what)
                act(days, day)
                assert {*sorted(shelves.ever)[-keep:]} <= shelves.days()
            # And with a clock that is right and nothing in memory, all goes that should: the disk does not fill for good.
            shelves.store([LAST + 1], 0)
            for path in shelves.folder.glob("*-*-*.db"):
                os.utime(path, (0, 0))
            for _ in range(len(shelves.ever) // 4 + 1):
                shelves.prune([], LAST + 1)
            assert shelves.days() == {*sorted(shelves.days())[-keep:]}


@given(st.sets(numbers), numbers, st.integers(1, 9))
def test_what_is_before_the_first_kept_has_enough_days_behind_it(days: set[int], today: int, keep: int) -> None:
    first = first_kept(days, today, keep)
    assert all(sum(day < later <= today for later in days) >= keep for day in days if day < first)
    assert first <= max(today, 0)
