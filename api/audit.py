"""The audit chain: an append-only table in which every row's hash covers the one before (`trust.md` §8)."""

import hashlib

import msgspec
import sqlalchemy as sa

from api import store

FIRST = bytes(32)


class Entry(msgspec.Struct, frozen=True):
    """Who did what to what, when; details enter as a hash, so that personal data can be erased without breaking the chain."""

    seq: int
    utc: float
    actor: str
    action: str
    object: str
    details_sha256: str


def append(db: sa.Connection, now: float, actor: str, action: str, obj: str, details: bytes = b"") -> None:
    """Add one row behind the newest, in the caller's transaction."""
    table = store.audit
    last = db.execute(sa.select(table.c.seq, table.c.hash).order_by(table.c.seq.desc()).limit(1)).one_or_none()
    seq, prev = (1, FIRST) if last is None else (last.seq + 1, last.hash)
    entry = Entry(seq, now, actor, action, obj, hashlib.sha256(details).hexdigest())
    body = msgspec.json.encode(entry, order="deterministic")
    digest = hashlib.sha256(prev + body).digest()
    db.execute(table.insert().values(seq=seq, prev=prev, body=body, hash=digest))


def broken_at(db: sa.Connection) -> int | None:
    """Return the first row that does not continue the chain, or None when it is whole (its end is not proven by this)."""
    prev, expected = FIRST, 1
    for row in db.execute(sa.select(store.audit).order_by(store.audit.c.seq)):
        if row.seq != expected or row.prev != prev or hashlib.sha256(prev + row.body).digest() != row.hash:
            return expected
        prev, expected = row.hash, expected + 1
    return None
