"""The records: explicit functions over SQLAlchemy tables, one writer, every change in one transaction.

Documents (permits, spaces, people) are stored as the JSON of their Struct beside the columns that are searched. The event log
is the one order of everything people see: its row number is what a page's stream resumes from.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from manway.codec_mqtt import decode_event, encode
from manway.entities import Permit
from manway.events import AnyEvent, Event
from manway.permit import HOLDING

T = TypeVar("T", bound=msgspec.Struct)
_meta = sa.MetaData()
document = sa.Table(
    "document",
    _meta,
    sa.Column("kind", sa.String, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("site", sa.String, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
permit_table = sa.Table(
    "permit",
    _meta,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("number", sa.String, nullable=False, unique=True),
    sa.Column("site", sa.String, nullable=False),
    sa.Column("space", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("holding", sa.Boolean, nullable=False),
    sa.Column("t0", sa.Float, nullable=False),
    sa.Column("t1", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
event_table = sa.Table(
    "event",
    _meta,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("site", sa.String, nullable=False),
    sa.Column("space", sa.String, nullable=False, index=True),
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("cause", sa.String, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
uplink = sa.Table("uplink", _meta, sa.Column("jid", sa.String, primary_key=True), sa.Column("seq", sa.Integer, nullable=False))
command = sa.Table(
    "command",
    _meta,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("site", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("root", sa.String, nullable=False, index=True),
    sa.Column("exp", sa.Float, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("result", sa.String, nullable=False),
    sa.Column("sent_at", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
grant = sa.Table(
    "grant",
    _meta,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("permit", sa.String, nullable=False),
    sa.Column("lock", sa.String, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("issued_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float),
)
plan = sa.Table(
    "plan",
    _meta,
    sa.Column("site", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("sent", sa.Boolean, nullable=False),
)
session = sa.Table(
    "session",
    _meta,
    sa.Column("token_hash", sa.String, primary_key=True),
    sa.Column("person", sa.String, nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
answer = sa.Table(
    "answer",
    _meta,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("person", sa.String, primary_key=True),
    sa.Column("request", sa.String, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
audit = sa.Table(
    "audit",
    _meta,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("prev", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
_OVERLAP = """
CREATE TRIGGER IF NOT EXISTS permit_overlap_{verb} BEFORE {verb} ON permit WHEN new.holding AND EXISTS
 (SELECT 1 FROM permit WHERE space = new.space AND holding AND id <> new.id AND t0 < new.t1 AND t1 > new.t0)
BEGIN SELECT raise(ABORT, 'permit_overlap'); END
"""
_AUDIT_KEEPS = """
CREATE TRIGGER IF NOT EXISTS audit_{verb} BEFORE {verb} ON audit BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END
"""
# INSERT OR REPLACE deletes without firing a DELETE trigger; what may be inserted is only the row behind the newest.
_AUDIT_CONTINUES = """
CREATE TRIGGER IF NOT EXISTS audit_INSERT BEFORE INSERT ON audit
 WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
  OR new.prev IS NOT coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))
BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END
"""


class Records:
    """The records database of one installation. Writers queue on one connection; readers never wait for them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._write = sa.create_engine(f"sqlite:///{path}", pool_size=1, max_overflow=0)
        self._read = sa.create_engine(f"sqlite:///{path}", pool_size=8, max_overflow=8)
        for engine in (self._write, self._read):
            sa.event.listen(engine, "connect", _prepare)
        # SQLite begins a write transaction at the first write only; two of them would then meet "database is locked".
        sa.event.listen(self._write, "begin", lambda db: db.exec_driver_sql("BEGIN IMMEDIATE"))
        sa.event.listen(self._read, "begin", lambda db: db.exec_driver_sql("BEGIN"))
        with self._write.begin() as db:
            _meta.create_all(db)
            for verb in ("INSERT", "UPDATE"):
                db.exec_driver_sql(_OVERLAP.format(verb=verb))
            for verb in ("UPDATE", "DELETE"):
                db.exec_driver_sql(_AUDIT_KEEPS.format(verb=verb))
            db.exec_driver_sql(_AUDIT_CONTINUES)

    @contextlib.contextmanager
    def change(self) -> Iterator[sa.Connection]:
        """Open the one write transaction: all of the body is committed, or nothing."""
        with self._lock, self._write.begin() as db:
            yield db

    @contextlib.contextmanager
    def look(self) -> Iterator[sa.Connection]:
        """Open a consistent read."""
        with self._read.connect() as db:
            yield db

    def close(self) -> None:
        """Close every connection."""
        self._write.dispose()
        self._read.dispose()


def _prepare(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def put(db: sa.Connection, kind: str, key: str, body: msgspec.Struct, *, site: str = "") -> None:
    """Store one document, in place of the one with its id."""
    row = insert(document).values(kind=kind, id=key, site=site, body=encode(body))
    db.execute(row.on_conflict_do_update(index_elements=["kind", "id"], set_={"body": row.excluded.body, "site": site}))


def get(db: sa.Connection, kind: type[T], key: str) -> T | None:
    """Return one document by id; its kind is the Struct's name."""
    where = (document.c.kind == kind.__name__) & (document.c.id == key)
    body = db.execute(sa.select(document.c.body).where(where)).scalar()
    return None if body is None else msgspec.json.decode(body, type=kind)


def every(db: sa.Connection, kind: type[T], *, site: str | None = None) -> list[T]:
    """Return all documents of a kind, of one site or of all, in id order."""
    where = document.c.kind == kind.__name__
    if site is not None:
        where &= document.c.site == site
    rows = db.execute(sa.select(document.c.body).where(where).order_by(document.c.id)).scalars()
    return [msgspec.json.decode(body, type=kind) for body in rows]


def put_permit(db: sa.Connection, value: Permit) -> None:
    """Store a permit; the database itself refuses a second one that overlaps it on its space."""
    row = insert(permit_table).values(
        id=value.id,
        number=value.number,
        site=value.site,
        space=value.space,
        state=value.state.value,
        holding=value.state in HOLDING,
        t0=value.start,
        t1=value.end,
        body=encode(value),
    )
    changed = {c: row.excluded[c] for c in ("state", "holding", "t0", "t1", "body")}
    db.execute(row.on_conflict_do_update(index_elements=["id"], set_=changed))


def permits(db: sa.Connection, **where: str) -> list[Permit]:
    """Return permits whose columns equal `where`, oldest number first."""
    query = sa.select(permit_table.c.body).order_by(permit_table.c.number)
    for column, value in where.items():
        query = query.where(permit_table.c[column] == value)
    return [msgspec.json.decode(body, type=Permit) for body in db.execute(query).scalars()]


def add_event(db: sa.Connection, value: Event) -> int | None:
    """Append an event to the log and return its row number, or None when it stands there already."""
    row = insert(event_table).values(
        id=value.id,
        type=type(value).__name__,
        site=value.site,
        space=getattr(value, "space", ""),
        subject=getattr(value, "alarm", "") or getattr(value, "permit", "") or getattr(value, "lock", ""),
        at=value.at,
        cause=value.cause,
        body=encode(value),
    )
    done = db.execute(row.on_conflict_do_nothing(index_elements=["id"]).returning(event_table.c.seq)).scalar()
    return None if done is None else int(done)


def last_seq(db: sa.Connection) -> int:
    """Return the newest row number of the event log."""
    return int(db.execute(sa.select(sa.func.coalesce(sa.func.max(event_table.c.seq), 0))).scalar_one())


def events(
    db: sa.Connection, condition: Callable[[sa.Table], sa.ColumnElement[bool]], *, most: int = 200, newest: bool = False
) -> list[tuple[int, AnyEvent]]:
    """Return events that meet a condition on the log's columns, oldest first, or the newest first."""
    order = event_table.c.seq.desc() if newest else event_table.c.seq
    rows = db.execute(
        sa.select(event_table.c.seq, event_table.c.body).where(condition(event_table)).order_by(order).limit(most)
    )
    return [(seq, decode_event(body)) for seq, body in rows]
