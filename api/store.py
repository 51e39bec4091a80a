"""The records: explicit functions over the tables of `api.tables`, every change in one transaction of `api.records`.

The event log is the one order of everything people see: its row number is what a page's stream resumes from.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from api.dialects import insert
from api.records import Records, touch
from api.tables import answer, audit, command, document, event_table, grant, permit_table, plan, session, uplink
from manway.codec_mqtt import decode_event, encode
from manway.entities import Permit
from manway.events import AnyEvent, Event
from manway.permit import HOLDING

__all__ = [
    "Records",
    "add_event",
    "answer",
    "audit",
    "command",
    "document",
    "event_table",
    "events",
    "every",
    "get",
    "grant",
    "insert",
    "last_seq",
    "permit_table",
    "permits",
    "plan",
    "put",
    "put_permit",
    "session",
    "touch",
    "uplink",
]

T = TypeVar("T", bound=msgspec.Struct)
_IN_PLANS = frozenset({"Space", "Lock", "Instrument", "Notice"})


def put(db: sa.Connection, kind: str, key: str, body: msgspec.Struct, *, site: str = "") -> None:
    """Store one document, in place of the one with its id."""
    if kind in _IN_PLANS:
        was = db.execute(sa.select(document.c.site).where((document.c.kind == kind) & (document.c.id == key))).scalar()
        touch(db, site)
        touch(db, was or site)
    row = insert(db, document).values(kind=kind, id=key, site=site, body=encode(body))
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


def put_permit(db: sa.Connection, value: Permit, *, linked_to: str | None = None) -> None:
    """Store a permit; the database itself refuses a second one that overlaps it on its space.

    `linked_to` names the permit whose work goes on at the same time by agreement; given when the permit is made, kept after.
    """
    touch(db, value.site)
    row = insert(db, permit_table).values(
        id=value.id,
        number=value.number,
        site=value.site,
        space=value.space,
        state=value.state.value,
        holding=value.state in HOLDING,
        t0=value.start,
        t1=value.end,
        body=encode(value),
        linked_to=linked_to,
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
    row = insert(db, event_table).values(
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
