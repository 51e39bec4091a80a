"""What only the embedded store can get wrong: files, days, minutes and the disk."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from manway.errors import StoreUnavailable
from manway.runtime.telemetry import Ledger
from manway.runtime.telemetry_embedded import EmbeddedStore
from tests.kit.telemetry_rows import DAY, MIDNIGHT, MINUTE, NOON, a_row


def test_a_reader_that_comes_before_the_writer_finds_nothing(tmp_path: Path) -> None:
    reader = EmbeddedStore(tmp_path / "not-yet", writer=False)
    assert reader.latest(["g-1"]) == {}
    assert reader.ledger("g-1", 0, DAY) == Ledger()
    assert len(reader.series("g-1", "O2", 0, DAY, None).t) == 0
    tmp_path.joinpath("not-yet").mkdir()
    for name in ("meta.db", "2026-11-22.db"):
        tmp_path.joinpath("not-yet", name).touch()  # the moment between a file's creation and its first table
    assert reader.latest(["g-1"]) == {}


def test_a_reader_does_not_write(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path, writer=True).close()
    reader = EmbeddedStore(tmp_path, writer=False)
    with pytest.raises(StoreUnavailable, match="reading only"):
        reader.write([])
    with pytest.raises(StoreUnavailable, match="reading only"):
        reader.prune(0)


def test_a_directory_that_cannot_be_made_is_a_store_down(tmp_path: Path) -> None:
    tmp_path.joinpath("taken").touch()
    with pytest.raises(StoreUnavailable):
        EmbeddedStore(tmp_path / "taken", writer=True)


def test_a_day_file_that_cannot_be_opened_leaves_no_frame_half_stored(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    tmp_path.joinpath("2026-11-22.db").mkdir()
    rows = [a_row("g-1", seq=1, ts=MIDNIGHT - 1), a_row("g-1", seq=2, ts=MIDNIGHT)]
    with pytest.raises(StoreUnavailable, match="unable to open"):
        store.write(rows)
    tmp_path.joinpath("2026-11-22.db").rmdir()
    assert store.ledger("g-1", 0, NOON) == Ledger(received=1)
    assert store.write(rows) == []
    assert store.ledger("g-1", 0, NOON) == Ledger(received=2)
    store.close()


def test_a_day_that_is_refused_in_the_middle_shows_none_of_its_rows(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    store.write([a_row("g-1", seq=1, O2=1.0, CO=1.0)])
    with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
        day.execute(
            "CREATE TRIGGER full BEFORE INSERT ON chunk WHEN new.n = 3 AND new.n_ok = 3 BEGIN SELECT raise(ABORT, 'disk'); END"
        )
    more = [a_row("g-1", seq=k, ts=NOON + k, O2=2.0, CO=2.0) for k in (2, 3)]
    with pytest.raises(StoreUnavailable, match="disk"):
        store.write(more)
    assert store.ledger("g-1", NOON, NOON + MINUTE) == Ledger(received=1)
    with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
        day.execute("DROP TRIGGER full")
    assert store.write(more) == []
    assert store.ledger("g-1", NOON, NOON + MINUTE) == Ledger(received=3)
    store.close()


def test_a_damaged_chunk_is_a_store_down_and_no_crash(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    store.write([a_row("g-1")])
    with closing(sqlite3.connect(tmp_path / "2026-11-22.db")) as day, day:
        day.execute("UPDATE chunk SET body = x'00'")
    with pytest.raises(StoreUnavailable):
        store.series("g-1", "O2", NOON, NOON + 1, None)
    store.close()


def test_a_restarted_writer_goes_on_in_the_same_minute(tmp_path: Path) -> None:
    for seq in (1, 2, 3):
        store = EmbeddedStore(tmp_path, writer=True)
        store.write([a_row("g-1", seq=seq, ts=NOON + seq)])
        store.close()
    reader = EmbeddedStore(tmp_path, writer=False)
    assert reader.ledger("g-1", NOON, NOON + MINUTE) == Ledger(received=3)


def test_a_backlog_of_many_days_does_not_hold_every_file_open(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    for k in range(9):
        store.write([a_row("g-1", seq=k, ts=NOON - k * DAY)])
    assert len(list(tmp_path.glob("*.db-wal"))) == 5  # four days and meta.db; SQLite removes it with the last connection
    assert store.ledger("g-1", NOON - 9 * DAY, NOON + 1) == Ledger(received=9)
    store.close()


def test_every_commit_is_on_the_disk_when_a_write_returns(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, writer=True)
    store.write([a_row("g-1")])
    writer = store._writer
    assert writer is not None
    for db in (writer._meta, *writer._days.values()):
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()
