"""The records as they were when versions began to be counted; a file made before holds exactly this and is taken over.

Nothing here may change any more, so nothing here is shared with the program.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_OVERLAPS = """WHEN new.holding AND EXISTS
 (SELECT 1 FROM permit WHERE space = new.space AND holding AND id <> new.id AND t0 < new.t1 AND t1 > new.t0)
BEGIN SELECT raise(ABORT, 'permit_overlap'); END"""
_SQLITE = (
    *(f"CREATE TRIGGER permit_overlap_{verb} BEFORE {verb} ON permit {_OVERLAPS}" for verb in ("INSERT", "UPDATE")),
    *(
        f"CREATE TRIGGER audit_{verb} BEFORE {verb} ON audit BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    # INSERT OR REPLACE deletes without firing a DELETE trigger; what may be inserted is only the row behind the newest.
    """CREATE TRIGGER audit_INSERT BEFORE INSERT ON audit
     WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
      OR new.prev IS NOT coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))
    BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END""",
)
_POSTGRESQL = (
    "CREATE EXTENSION IF NOT EXISTS btree_gist",
    # Exact where numeric would round: times are doubles, and permits that touch must not overlap by a rounded microsecond.
    "CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi)",
    "ALTER TABLE permit ADD CONSTRAINT permit_overlap EXCLUDE USING gist (space WITH =, span(t0, t1) WITH &&) WHERE (holding)",
    """CREATE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION 'the audit chain only grows' USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    """CREATE FUNCTION audit_continues() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE last record;
    BEGIN
      PERFORM pg_advisory_xact_lock(1835101815);  -- the writers' lock: whoever adds a row queues here, at a prompt too
      SELECT seq, hash INTO last FROM audit ORDER BY seq DESC LIMIT 1;
      IF new.seq IS DISTINCT FROM coalesce(last.seq, 0) + 1
        OR new.prev IS DISTINCT FROM coalesce(last.hash, decode(repeat('00', 32), 'hex')) THEN
        RAISE EXCEPTION 'the audit chain only grows' USING ERRCODE = 'integrity_constraint_violation';
      END IF;
      RETURN new;
    END $$""",
    "CREATE TRIGGER audit_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON audit EXECUTE FUNCTION audit_keeps()",
    "CREATE TRIGGER audit_continues BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_continues()",
    # A session that calls itself a replica skips ordinary triggers.
    "ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_keeps",
    "ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_continues",
)


def upgrade() -> None:
    """Make every table, and what the database itself refuses."""
    _documents()
    _permits_and_events()
    _work()
    _people()
    for statement in _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def _documents() -> None:
    op.create_table(
        "document",
        sa.Column("kind", _text, primary_key=True),
        sa.Column("id", _text, primary_key=True),
        sa.Column("site", _text, nullable=False, index=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def _permits_and_events() -> None:
    op.create_table(
        "permit",
        sa.Column("id", _text, primary_key=True),
        sa.Column("number", _text, nullable=False, unique=True),
        sa.Column("site", _text, nullable=False),
        sa.Column("space", _text, nullable=False),
        sa.Column("state", _text, nullable=False),
        sa.Column("holding", sa.Boolean, nullable=False),
        sa.Column("t0", sa.Float, nullable=False),
        sa.Column("t1", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "event",
        sa.Column("seq", _number, primary_key=True, autoincrement=True),
        sa.Column("id", _text, nullable=False, unique=True),
        sa.Column("type", _text, nullable=False),
        sa.Column("site", _text, nullable=False),
        sa.Column("space", _text, nullable=False, index=True),
        sa.Column("subject", _text, nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("cause", _text, nullable=False, index=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table("uplink", sa.Column("jid", _text, primary_key=True), sa.Column("seq", _number, nullable=False))


def _work() -> None:
    op.create_table(
        "command",
        sa.Column("id", _text, primary_key=True),
        sa.Column("site", _text, nullable=False),
        sa.Column("by", _text, nullable=False),
        sa.Column("root", _text, nullable=False, index=True),
        sa.Column("exp", sa.Float, nullable=False),
        sa.Column("state", _text, nullable=False),
        sa.Column("result", _text, nullable=False),
        sa.Column("sent_at", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "grant",
        sa.Column("id", _text, primary_key=True),
        sa.Column("permit", _text, nullable=False),
        sa.Column("lock", _text, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("holder", _text, nullable=False),
        sa.Column("issued_at", sa.Float, nullable=False),
        sa.Column("used_at", sa.Float),
    )
    op.create_table(
        "plan",
        sa.Column("site", _text, primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", _text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("sent", sa.Boolean, nullable=False),
    )


def _people() -> None:
    op.create_table(
        "session",
        sa.Column("token_hash", _text, primary_key=True),
        sa.Column("person", _text, nullable=False),
        sa.Column("made_at", sa.Float, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    op.create_table(
        "answer",
        sa.Column("key", _text, primary_key=True),
        sa.Column("person", _text, primary_key=True),
        sa.Column("request", _text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("seq", _number, primary_key=True, autoincrement=False),
        sa.Column("prev", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
