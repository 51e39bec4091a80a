"""The records' schema through time: made, taken over, brought up, refused; and never a database that is half of one."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from api import audit, dialects, migrate, store
from api.dialects import RecordsUnavailable, RecordsUnusable, address
from api.store import Records
from api.tables import META
from manway.codec_mqtt import encode
from manway.entities import Lock, PermitState
from tests.contract.test_audit import by_hand
from tests.contract.test_records import event, permit
from tests.kit.builders import a_lock
from tests.kit.clock import EPOCH
from tests.kit.postgres import Postgres

BEFORE = Path(__file__).with_name("records_before_versions.sql").read_text("utf-8")


def tables_of(place: Path | str) -> set[str]:
    engine = sa.create_engine(address(place))
    with engine.connect() as db:
        found = set(sa.inspect(db).get_table_names())
    engine.dispose()
    return found


def version_of(place: Path | str) -> str:
    engine = sa.create_engine(address(place))
    with engine.connect() as db:
        found = str(db.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    engine.dispose()
    return found


def open_and_close(place: Path | str) -> None:
    Records(place).close()


def an_old_file(path: Path) -> Path:
    """A file of the time before versions, with a permit, an event, a lock and a chain in it; as its process left it."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(f"PRAGMA journal_mode=WAL; BEGIN; {BEFORE} COMMIT;")
    engine = sa.create_engine(address(path))
    with engine.begin() as writer:
        store.put(writer, "Lock", "lock-1", a_lock(), site="yard")
        store.add_event(writer, event("a"))
        store.add_event(writer, event("b"))
        row = {c.name: getattr(permit("p"), c.name, None) for c in store.permit_table.columns}
        named = {"holding": True, "t0": EPOCH, "t1": EPOCH + 3600, "state": "approved", "body": encode(permit("p"))}
        row = {k: v for k, v in (row | named).items() if k != "linked_to"}
        writer.execute(store.permit_table.insert().values(row))
        for n in range(3):
            audit.append(writer, 1000.0 + n, "p1", "PermitApproved", f"permit-{n}")
    engine.dispose()
    return path


# ---- made


def test_a_new_database_is_what_the_program_thinks_it_is(place: Path | str) -> None:
    open_and_close(place)
    assert version_of(place) == migrate.head()
    engine = sa.create_engine(address(place))
    with engine.connect() as db:
        differs = compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), META)
    engine.dispose()
    assert differs == []


def test_opening_it_again_changes_nothing(place: Path | str) -> None:
    open_and_close(place)
    before = place.stat().st_ino if isinstance(place, Path) else 0
    open_and_close(place)
    assert (place.stat().st_ino if isinstance(place, Path) else 0) == before
    assert version_of(place) == migrate.head()


@pytest.mark.integration
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_of_programs_that_start_at_once_one_makes_it(postgres: Postgres) -> None:
    place, failed = postgres.bare(), list[Exception]()

    def begin() -> None:
        try:
            open_and_close(place)
        except Exception as error:  # noqa: BLE001  whatever it was: the test says
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert version_of(place) == migrate.head()


# ---- taken over


def test_a_file_of_before_versions_is_taken_over_whole(tmp_path: Path) -> None:
    path = an_old_file(tmp_path / "records.db")
    records = Records(path)
    with records.change() as db:
        assert store.get(db, Lock, "lock-1") == a_lock()
        assert [e for _, e in store.events(db, lambda c: c.c.seq > 0)] == [event("a"), event("b")]
        assert store.permits(db) == [permit("p")]
        assert audit.broken_at(db) is None
        assert store.add_event(db, event("c")) == 3
        audit.append(db, 2000.0, "p1", "PermitApproved", "permit-9")
        assert audit.broken_at(db) is None
    with pytest.raises(sa.exc.IntegrityError, match="permit_overlap"), records.change() as db:
        store.put_permit(db, permit("q"))
    with records.change() as db:
        store.put_permit(db, permit("q", state=PermitState.ACTIVE), linked_to="p")
    records.close()
    with pytest.raises(sa.exc.IntegrityError, match="only grows"):
        by_hand(path, "DELETE FROM audit WHERE seq = 1")
    assert version_of(path) == migrate.head()


def test_a_taken_over_file_is_what_the_program_thinks_it_is(tmp_path: Path) -> None:
    path = an_old_file(tmp_path / "records.db")
    open_and_close(path)
    engine = sa.create_engine(address(path))
    with engine.connect() as db:
        assert compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), META) == []
        assert db.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    engine.dispose()


def test_what_stood_there_stays_beside_it(tmp_path: Path) -> None:
    path = an_old_file(tmp_path / "records.db")
    open_and_close(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["records.db", f"records.db.before-{migrate.head()}"]
    before = tmp_path / f"records.db.before-{migrate.head()}"
    with contextlib.closing(sqlite3.connect(before)) as db:
        assert db.execute("SELECT count(*) FROM event").fetchone() == (2,)
        assert "alembic_version" not in {name for (name,) in db.execute("SELECT name FROM sqlite_master")}


def test_a_file_whose_process_was_killed_gives_up_what_it_had_committed(tmp_path: Path) -> None:
    path, copy = an_old_file(tmp_path / "first.db"), tmp_path / "records.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO uplink VALUES ('j1', 7)")
        db.commit()
        for end in ("", "-wal"):  # the write-ahead log still holds the row when the process dies
            copy.with_name(f"records.db{end}").write_bytes(path.with_name(f"first.db{end}").read_bytes())
    records = Records(copy)
    with records.look() as look:
        assert look.execute(sa.select(store.uplink)).all() == [("j1", 7)]
    records.close()


def test_a_cut_off_attempt_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = an_old_file(tmp_path / "records.db")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_flush", cut)
        with pytest.raises(KeyboardInterrupt):
            Records(path)
    assert "alembic_version" not in tables_of(path)  # what stands there is whole, and the old one
    assert (tmp_path / "records.db.new").exists()
    open_and_close(path)
    assert version_of(path) == migrate.head()
    assert not (tmp_path / "records.db.new").exists()


def cut(_: Path) -> None:
    raise KeyboardInterrupt


def test_a_file_that_another_process_has_open_is_not_taken_from_under_it(tmp_path: Path) -> None:
    path = an_old_file(tmp_path / "records.db")
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM event").fetchone()
        with pytest.raises(RecordsUnusable, match="another process has it open: stop that one first"):
            Records(path)
        other.execute("INSERT INTO uplink VALUES ('j1', 7)")
        other.commit()
    records = Records(path)
    with records.look() as look:
        assert look.execute(sa.select(store.uplink)).all() == [("j1", 7)]
    records.close()


# ---- refused


def test_a_database_of_a_newer_program_is_refused_and_left_alone(place: Path | str) -> None:
    open_and_close(place)
    by_hand(place, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RecordsUnusable, match=r"has version 9999, this program knows .*: install the program that made it"):
        Records(place)
    assert version_of(place) == "9999"


def test_a_database_of_something_else_is_refused_and_left_alone(new_place: Callable[[], Path | str]) -> None:
    place = new_place()
    open_and_close(place)
    by_hand(place, "DROP TABLE alembic_version", "DROP TABLE document", "CREATE TABLE wine(id INTEGER)")
    with pytest.raises(RecordsUnusable, match=r"foreign tables \(.*\): name an empty one in the settings"):
        Records(place)
    assert "wine" in tables_of(place)
    assert "alembic_version" not in tables_of(place)


def test_a_database_that_lost_its_version_is_not_guessed_at(place: Path | str) -> None:
    open_and_close(place)
    by_hand(place, "DROP TABLE alembic_version")
    with pytest.raises(RecordsUnusable, match="lost the table of its version: restore it from a backup"):
        Records(place)
    assert "alembic_version" not in tables_of(place)


@pytest.mark.parametrize(
    "words", ["", "mysql://host/db", "postgresql", "records.db", "postgresql+asyncpg://host/db", "sqlite:///x"]
)
def test_an_address_that_is_none_says_what_to_write(words: str) -> None:
    with pytest.raises(RecordsUnusable, match=r"write postgresql\+psycopg://user:password@host/name, or leave it empty"):
        Records(words)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(RecordsUnavailable, match=r"(?i)refused"):
        Records("postgresql://manway@127.0.0.1:1/records")


def test_a_folder_that_cannot_be_written_is_an_error_and_no_loss(tmp_path: Path) -> None:
    (tmp_path / "records.db").mkdir()
    with pytest.raises((RecordsUnavailable, sa.exc.SQLAlchemyError, OSError)):
        Records(tmp_path / "records.db")
    assert (tmp_path / "records.db").is_dir()


def test_no_error_of_the_address_shows_its_password() -> None:
    with pytest.raises(RecordsUnavailable) as caught:
        Records("postgresql://manway:s3cret@127.0.0.1:1/records")
    assert "s3cret" not in str(caught.value)


def test_a_session_has_its_own_options_and_ours() -> None:
    session = dialects._session(address("postgresql://h/d?options=-c%20search_path%3Dours"))
    assert str(session["options"]).startswith("-c search_path=ours -c synchronous_commit=on")
