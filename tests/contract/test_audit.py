"""The audit chain: whole when untouched, and no change to it goes unseen or is even taken."""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from api import audit, store
from api.store import Records

TRIGGERS = ("audit_UPDATE", "audit_DELETE", "audit_INSERT")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    records = Records(tmp_path / "records.db")
    with records.change() as db:
        for n in range(6):
            audit.append(db, 1000.0 + n, f"p{n}", "PermitApproved", f"permit-{n}", b'{"name":"Li Na"}')
    yield records
    records.close()


def broken_at(records: Records) -> int | None:
    with records.look() as db:
        return audit.broken_at(db)


def tamper(path: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    """What somebody with the file can do: no triggers stand in the way."""
    with closing(sqlite3.connect(path)) as db, db:
        for trigger in TRIGGERS:
            db.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            db.execute(statement, values)


def test_a_chain_that_nobody_touched_is_whole(records: Records) -> None:
    assert broken_at(records) is None
    with records.look() as db:
        rows = db.execute(store.audit.select().order_by(store.audit.c.seq)).all()
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].prev == audit.FIRST
    assert all(b.prev == a.hash for a, b in pairwise(rows))
    assert b"Li Na" not in rows[0].body  # a hash, so that personal data can be erased


def test_an_empty_chain_is_whole(tmp_path: Path) -> None:
    records = Records(tmp_path / "new" / "records.db")
    assert broken_at(records) is None
    records.close()


def test_a_rolled_back_deed_leaves_no_row(records: Records) -> None:
    def undone() -> None:
        with records.change() as db:
            audit.append(db, 1.0, "p1", "PermitApproved", "permit-9")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    with records.change() as db:
        audit.append(db, 2.0, "p1", "PermitApproved", "permit-9")
    assert broken_at(records) is None


@pytest.mark.parametrize("column", ["body", "prev", "hash"])
def test_every_flipped_byte_is_found_at_its_row(column: str, records: Records, tmp_path: Path) -> None:
    with records.look() as db:
        original = bytes(db.execute(sa.select(store.audit.c[column]).where(store.audit.c.seq == 3)).scalar_one())
    tamper(tmp_path / "records.db")
    with closing(sqlite3.connect(tmp_path / "records.db")) as db:
        for at in range(len(original)):
            bent = original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :]
            with db:
                db.execute(f"UPDATE audit SET {column} = ? WHERE seq = 3", (bent,))  # noqa: S608  a name of this file
            assert broken_at(records) == 3, at
        with db:
            db.execute(f"UPDATE audit SET {column} = ? WHERE seq = 3", (original,))  # noqa: S608  as above
    assert broken_at(records) is None


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("DELETE FROM audit WHERE seq = 4", 4),
        ("UPDATE audit SET seq = 99 WHERE seq = 6", 6),
        ("UPDATE audit SET seq = CASE seq WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE seq IN (2, 3)", 1),
        ("INSERT INTO audit SELECT 7, prev, body, hash FROM audit WHERE seq = 6", 7),
    ],
)  # fmt: skip
def test_missing_moved_and_doubled_rows_are_found(statement: str, broken: int, records: Records, tmp_path: Path) -> None:
    tamper(tmp_path / "records.db", statement)
    assert broken_at(records) == broken


def test_a_row_rewritten_with_its_own_hash_breaks_the_next(records: Records, tmp_path: Path) -> None:
    with records.look() as db:
        row = db.execute(store.audit.select().where(store.audit.c.seq == 2)).one()
    body = row.body.replace(b"p1", b"p7")
    values = (body, hashlib.sha256(row.prev + body).digest())
    tamper(tmp_path / "records.db", "UPDATE audit SET body = ?, hash = ? WHERE seq = 2", values=values)
    assert broken_at(records) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET body = x'00' WHERE seq = 2",
        "UPDATE OR REPLACE audit SET seq = 3 WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 6",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT seq, prev, x'00', hash FROM audit WHERE seq = 2",
        "REPLACE INTO audit SELECT seq, prev, x'00', hash FROM audit WHERE seq = 6",
        "INSERT INTO audit SELECT 8, hash, body, hash FROM audit WHERE seq = 6",
        "INSERT INTO audit SELECT 7, prev, body, hash FROM audit WHERE seq = 6",
        "INSERT INTO audit SELECT 0, zeroblob(32), body, hash FROM audit WHERE seq = 6",
        "INSERT INTO audit(prev, body, hash) SELECT prev, body, hash FROM audit WHERE seq = 6",
        "INSERT INTO audit SELECT NULL, hash, body, hash FROM audit WHERE seq = 5",
        "INSERT INTO audit SELECT seq, prev, body, hash FROM audit WHERE seq = 2 ON CONFLICT(seq) DO UPDATE SET body = x'00'",
    ],
)  # fmt: skip
def test_the_database_itself_refuses_to_rewrite_the_chain(statement: str, records: Records, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "records.db")) as db:
        before = db.execute("SELECT * FROM audit ORDER BY seq").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match="the audit chain only grows"), db:
            db.execute(statement)
        assert db.execute("SELECT * FROM audit ORDER BY seq").fetchall() == before
    assert broken_at(records) is None
