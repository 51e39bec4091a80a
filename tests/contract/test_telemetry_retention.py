"""Days of telemetry that have been kept long enough go, a few at a time; nothing else does, whatever a clock says."""

import math
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from gateway.journal import Entry, Journal
from gateway.journal_reader import JournalReader
from gateway.sink_store import StoreSink
from manway.inputs import FrameReceived
from manway.runtime.settings import TELEMETRY_DAYS_FEWEST, Settings
from manway.runtime.stores import open_store
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_retention import KEEP_DAYS
from tests.kit.gateway import in_place
from tests.kit.telemetry_rows import DAY, NOON, a_row

KEEP = 3
TODAY = NOON / 1000
LONG_AGO = 1.0  # Unix seconds: when files are made to have been written last


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path, writer=True, keep_days=KEEP)
    yield opened
    opened.close()


def store_days(store: EmbeddedStore, folder: Path, *days: int) -> None:
    """Write one frame a day, days counted from today, and make the files as old as can be."""
    for day in days:
        store.write([a_row("g-1", seq=day + 100_000, ts=NOON + day * DAY)])
        store.settle(math.inf)
    age(folder)


def age(folder: Path) -> None:
    for path in folder.glob("*-*-*.db*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def prune(store: EmbeddedStore, now: float = TODAY) -> None:
    for _ in range(20):
        store.prune(now)


def name(day: int) -> str:
    return f"{datetime.fromtimestamp(TODAY + day * DAY / 1000, UTC).date()}.db"


def days(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*-*-*.db*") if not path.name.endswith(("-wal", "-shm")))


def names(*days_: int) -> list[str]:
    return [name(day) for day in days_]


def test_the_oldest_days_go_and_as_many_stay_as_are_kept(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, *range(-8, 1))
    prune(store)
    assert days(tmp_path) == names(-2, -1, 0)
    assert store.ledger("g-1", NOON - 9 * DAY, NOON + DAY).received == 3
    assert {path.name[:10] for path in tmp_path.glob("2*")} == {"2026-11-20", "2026-11-21", "2026-11-22"}, "logs go too"
    store_days(store, tmp_path, 1)
    prune(store, TODAY + DAY / 1000)
    assert days(tmp_path) == names(-1, 0, 1)


def test_a_call_deletes_few_days_and_the_next_ones_the_rest(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, *range(-14, 1))
    left = []
    for _ in range(5):
        store.prune(TODAY)
        left.append(len(days(tmp_path)))
    assert left == [11, 7, 3, 3, 3]


def test_after_a_year_switched_off_nothing_is_forgotten_for_it(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, -402, -401, -400, 0)
    prune(store)
    assert days(tmp_path) == names(-401, -400, 0)


def test_days_of_the_future_push_out_nothing_and_are_not_deleted(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, -2, -1, 0, 4000, 5000, 6000)
    prune(store)
    assert days(tmp_path) == names(-2, -1, 0, 4000, 5000, 6000)


def test_a_clock_that_is_wrong_for_an_hour_costs_a_day_for_each_that_it_made(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, *range(-5, 1), 4000)
    prune(store, TODAY + 4000 * DAY / 1000)
    assert days(tmp_path) == names(-1, 0, 4000)
    prune(store)
    assert days(tmp_path) == names(-1, 0, 4000)


def test_a_clock_in_the_past_deletes_nothing(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, *range(-8, 1))
    prune(store, 0.0)
    prune(store, -1e9)
    assert len(days(tmp_path)) == 9


def test_what_an_instrument_with_a_dead_clock_says_stays_as_long_as_anything(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, -9000, -2, -1, 0)
    os.utime(tmp_path / name(-9000), (TODAY, TODAY))
    prune(store)
    assert days(tmp_path) == names(-9000, -2, -1, 0)
    store_days(store, tmp_path, 1, 2, 3)
    os.utime(tmp_path / name(-9000), (TODAY, TODAY))
    prune(store, TODAY + 3 * DAY / 1000)
    assert days(tmp_path) == names(1, 2, 3)


def test_a_day_with_rows_in_memory_stays_until_they_are_in_its_file(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, -9, *range(-5, 1))
    store.write([a_row("g-1", seq=k, ts=NOON - 9 * DAY + 1000 * k) for k in range(1, 4)], 7)
    prune(store)
    assert days(tmp_path) == names(-9, -2, -1, 0)
    store.settle(math.inf)
    assert store.durable() == 7
    assert store.ledger("g-1", NOON - 10 * DAY, NOON - 8 * DAY).received == 4
    age(tmp_path)
    store_days(store, tmp_path, 1)
    prune(store, TODAY + DAY / 1000)
    assert days(tmp_path) == names(-1, 0, 1)


def test_rows_that_come_for_a_day_that_went_are_stored_and_counted(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, *range(-5, 1))
    prune(store)
    store.write([a_row("g-1", seq=1, ts=NOON - 5 * DAY)], 9)
    store.settle(math.inf)
    assert store.durable() == 9
    prune(store)
    assert store.ledger("g-1", NOON - 6 * DAY, NOON - 4 * DAY).received == 1, "written now: it is as young as today's"


def test_what_was_set_aside_and_what_a_kill_left_goes_with_its_day(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, -2, -1, 0)
    gone = ["2020-01-01.db.damaged-1", "2020-01-01.db.damaged-1-wal", "2020-02-02.db-wal", "2020-02-02.db-shm"]
    kept = ["2026-11-22.db.damaged-1", "2020-01-01.db.bak", "2020-13-01.db.damaged-1", "notes-2020-01-01.db", "2020-01-01"]
    for each in gone + kept:
        (tmp_path / each).write_bytes(b"")
        os.utime(tmp_path / each, (LONG_AGO, LONG_AGO))
    prune(store)
    assert [each for each in gone + kept if (tmp_path / each).exists()] == kept
    assert set(names(-2, -1, 0)) <= set(days(tmp_path))


def test_what_was_set_aside_counts_for_no_day(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, -3, -2, 0)
    (tmp_path / f"{name(-1)}.damaged-1").write_bytes(b"")
    prune(store)
    assert days(tmp_path) == [*names(-3, -2), f"{name(-1)}.damaged-1", name(0)]


def test_a_day_that_cannot_be_deleted_is_logged_once_and_keeps_nobody_from_anything(
    tmp_path: Path, store: EmbeddedStore
) -> None:
    store_days(store, tmp_path, *range(-6, 1))
    (tmp_path / "2020-01-01.db").mkdir()
    os.utime(tmp_path / "2020-01-01.db", (LONG_AGO, LONG_AGO))
    with capture_logs() as logs:
        prune(store)
    assert [line["file"] for line in logs if line["event"] == "old_day_not_deleted"] == ["2020-01-01.db"]
    assert days(tmp_path) == ["2020-01-01.db", *names(-2, -1, 0)]
    (tmp_path / "2020-01-01.db").rmdir()


def test_a_folder_that_cannot_be_listed_is_logged(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "there", writer=True, keep_days=KEEP)
    (tmp_path / "there").rename(tmp_path / "away")
    with capture_logs() as logs:
        prune(store)
    assert [line["event"] for line in logs] == ["old_days_not_looked_for"]
    store.close()


def test_a_reader_goes_on_with_a_day_that_goes(tmp_path: Path, store: EmbeddedStore) -> None:
    store_days(store, tmp_path, *range(-5, 1))
    with closing(sqlite3.connect(f"file:{tmp_path / name(-5)}?mode=ro", uri=True)) as reading:
        (before,) = reading.execute("SELECT count(*) FROM chunk").fetchone()
        prune(store)
        assert days(tmp_path) == names(-2, -1, 0)
        assert reading.execute("SELECT count(*) FROM chunk").fetchone() == (before,)
    reader = EmbeddedStore(tmp_path, writer=False)
    assert reader.ledger("g-1", NOON - 9 * DAY, NOON + DAY).received == 3


def test_a_reader_that_meets_a_day_as_it_goes_reads_the_others(
    tmp_path: Path, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether a file is there and its opening, or its first read, it is deleted."""
    store_days(store, tmp_path, -2, -1, 0)
    reader, real = EmbeddedStore(tmp_path, writer=False), sqlite3.connect

    def late(database: str, *, uri: bool) -> sqlite3.Connection:
        if name(-2) in database:
            (tmp_path / name(-2)).unlink(missing_ok=True)
        return real(database, uri=uri)

    monkeypatch.setattr("manway.runtime.telemetry_embedded.sqlite3.connect", late)
    assert reader.ledger("g-1", NOON - 9 * DAY, NOON + DAY).received == 2


async def test_the_sink_has_old_days_deleted_at_its_start_and_when_a_new_day_begins(tmp_path: Path) -> None:
    with (
        closing(Journal(tmp_path / "j.db", cap_bytes=2**26, ballast_bytes=4096, remade_at_bytes=8192)) as journal,
        closing(JournalReader(tmp_path / "j.db")) as reader,
        closing(EmbeddedStore(tmp_path / "telemetry", writer=True, keep_days=KEEP)) as store,
    ):
        store_days(store, tmp_path / "telemetry", *range(-5, 0))
        sink = StoreSink(0, reader, store, lambda _site, _frame: ("n01", ""))
        await sink.drain(TODAY, in_place)
        assert days(tmp_path / "telemetry") == names(-3, -2, -1)
        row = a_row("g-1", ts=NOON)
        journal.commit([Entry("yard", TODAY, [FrameReceived(row.frame)], [])])
        for later in (0, 70, 4000, 4002):
            await sink.drain(TODAY + later, in_place)
        assert days(tmp_path / "telemetry") == names(-2, -1, 0)


def test_the_settings_say_how_many_days_and_never_so_few_that_all_would_go(tmp_path: Path) -> None:
    assert Settings(data=tmp_path, sites=["s"]).telemetry_days == KEEP_DAYS
    for wrong in (0, -1, TELEMETRY_DAYS_FEWEST - 1):
        with pytest.raises(ValidationError, match=r"telemetry_days\n.*greater than or equal to 7"):
            Settings(data=tmp_path, sites=["s"], telemetry_days=wrong)
    with closing(open_store(Settings(data=tmp_path, sites=["s"], telemetry_days=7), writer=True)) as store:
        assert isinstance(store, EmbeddedStore)
        store_days(store, tmp_path / "telemetry", *range(-9, 1))
        prune(store)
    assert days(tmp_path / "telemetry") == names(*range(-6, 1))


def test_a_store_that_would_keep_nothing_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        EmbeddedStore(tmp_path, writer=True, keep_days=0)
