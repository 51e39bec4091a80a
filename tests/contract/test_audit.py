"""The audit chain: whole when untouched, and no change to it goes unseen or is even taken."""

import hashlib
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from api import audit, store
from api.dialects import address, is_file
from api.store import Records

FREED = {
    "sqlite": [f"DROP TRIGGER audit_{verb}" for verb in ("UPDATE", "DELETE", "INSERT")],
    "postgresql": ["ALTER TABLE audit DISABLE TRIGGER ALL"],
}


@pytest.fixture
def records(place: Path | str) -> Iterator[Records]:
    records = Records(place)
    with records.change() as db:
        for n in range(6):
            audit.append(db, 1000.0 + n, f"p{n}", "PermitApproved", f"permit-{n}", b'{"name":"Li Na"}')
    yield records
    records.close()


def broken_at(records: Records) -> int | None:
    with records.look() as db:
        return audit.broken_at(db)


def by_hand(place: Path | str, *statements: str, **values: object) -> None:
    """What somebody at a prompt does: one transaction, past the program."""
    engine = sa.create_engine(address(place))
    try:
        with engine.begin() as db:
            for statement in statements:
                db.execute(sa.text(statement), values)
    finally:
        engine.dispose()


def tamper(place: Path | str, *statements: str, **values: object) -> None:
    """What the owner of the database can do: no triggers stand in the way."""
    by_hand(place, *FREED["sqlite" if is_file(address(place)) else "postgresql"])
    by_hand(place, *statements, **values)


def test_a_chain_that_nobody_touched_is_whole(records: Records) -> None:
    assert broken_at(records) is None
    with records.look() as db:
        rows = db.execute(store.audit.select().order_by(store.audit.c.seq)).all()
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0].prev == audit.FIRST
    assert all(b.prev == a.hash for a, b in pairwise(rows))
    assert b"Li Na" not in rows[0].body  # a hash, so that personal data can be erased


def test_an_empty_chain_is_whole(place: Path | str) -> None:
    records = Records(place)
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
def test_every_flipped_byte_is_found_at_its_row(column: str, records: Records, place: Path | str) -> None:
    with records.look() as db:
        original = bytes(db.execute(sa.select(store.audit.c[column]).where(store.audit.c.seq == 3)).scalar_one())
    tamper(place)
    with records.change() as db:
        for at in range(len(original)):
            bent = original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :]
            db.execute(store.audit.update().where(store.audit.c.seq == 3).values({column: bent}))
            assert audit.broken_at(db) == 3, at
        db.execute(store.audit.update().where(store.audit.c.seq == 3).values({column: original}))
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
def test_missing_moved_and_doubled_rows_are_found(statement: str, broken: int, records: Records, place: Path | str) -> None:
    tamper(place, statement)
    assert broken_at(records) == broken


def test_a_row_rewritten_with_its_own_hash_breaks_the_next(records: Records, place: Path | str) -> None:
    with records.look() as db:
        row = db.execute(store.audit.select().where(store.audit.c.seq == 2)).one()
    body = row.body.replace(b"p1", b"p7")
    digest = hashlib.sha256(row.prev + body).digest()
    tamper(place, "UPDATE audit SET body = :body, hash = :hash WHERE seq = 2", body=body, hash=digest)
    assert broken_at(records) == 3


ON_BOTH = [
    "UPDATE audit SET body = prev WHERE seq = 2",
    "UPDATE audit SET seq = 9 WHERE seq = 6",
    "DELETE FROM audit WHERE seq = 6",
    "DELETE FROM audit",
    "INSERT INTO audit SELECT 8, hash, body, hash FROM audit WHERE seq = 6",
    "INSERT INTO audit SELECT 7, prev, body, hash FROM audit WHERE seq = 6",
    "INSERT INTO audit SELECT 0, prev, body, hash FROM audit WHERE seq = 1",
    "INSERT INTO audit(prev, body, hash) SELECT prev, body, hash FROM audit WHERE seq = 6",
    "INSERT INTO audit SELECT NULL, hash, body, hash FROM audit WHERE seq = 5",
    "INSERT INTO audit SELECT * FROM audit WHERE seq = 2 ON CONFLICT(seq) DO UPDATE SET body = excluded.prev",
]
OF_ONE = {
    "sqlite": [
        "UPDATE OR REPLACE audit SET seq = 3 WHERE seq = 2",
        "INSERT OR REPLACE INTO audit SELECT seq, prev, x'00', hash FROM audit WHERE seq = 2",
        "REPLACE INTO audit SELECT seq, prev, x'00', hash FROM audit WHERE seq = 6",
    ],
    "postgresql": [
        "SET LOCAL session_replication_role = replica; DELETE FROM audit WHERE seq = 6",  # skips ordinary triggers
        "TRUNCATE audit",
        "TRUNCATE audit, permit CASCADE",
        "WITH gone AS (DELETE FROM audit RETURNING *) INSERT INTO audit SELECT * FROM gone",
        "MERGE INTO audit USING (VALUES (2)) AS wanted(seq) ON audit.seq = wanted.seq WHEN MATCHED THEN DELETE",
    ],
}


def test_the_database_itself_refuses_to_rewrite_the_chain(records: Records, place: Path | str) -> None:
    def rows() -> list[object]:
        with records.look() as db:
            return list(db.execute(sa.select(store.audit).order_by(store.audit.c.seq)).all())

    before = rows()
    for statement in [*ON_BOTH, *OF_ONE["sqlite" if is_file(address(place)) else "postgresql"]]:
        with pytest.raises(sa.exc.IntegrityError, match="the audit chain only grows"):
            by_hand(place, *statement.split("; "))
        assert rows() == before, statement
    assert broken_at(records) is None


def test_the_chain_takes_bytes_and_numbers_only(records: Records, place: Path | str) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"TEXT value in BLOB column|type bytea"):
        by_hand(place, "INSERT INTO audit SELECT 7, hash, CAST('words' AS text), hash FROM audit WHERE seq = 6")
    assert broken_at(records) is None


def test_rows_of_many_threads_are_one_chain(records: Records) -> None:
    def write(who: str) -> None:
        for number in range(8):
            with records.change() as db:
                audit.append(db, 2000.0, who, "PermitApproved", f"{who}-{number}")

    threads = [threading.Thread(target=write, args=(who,)) for who in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with records.look() as db:
        assert db.execute(sa.select(sa.func.count()).select_from(store.audit)).scalar_one() == 6 + 6 * 8
    assert broken_at(records) is None
