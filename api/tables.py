"""The tables of the records as the program sees them; `api/migrations` makes them, and a test holds the two equal.

Documents (permits, spaces, people) are stored as the JSON of their Struct beside the columns that are searched.
"""

import sqlalchemy as sa

META = sa.MetaData()
# Ids sort by their bytes on both databases, whatever language the PostgreSQL server was installed in.
_Text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
# SQLite numbers its rows by a column declared INTEGER and by nothing else; PostgreSQL's INTEGER ends at two thousand million.
_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

document = sa.Table(
    "document",
    META,
    sa.Column("kind", _Text, primary_key=True),
    sa.Column("id", _Text, primary_key=True),
    sa.Column("site", _Text, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
permit_table = sa.Table(
    "permit",
    META,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("number", _Text, nullable=False, unique=True),
    sa.Column("site", _Text, nullable=False),
    sa.Column("space", _Text, nullable=False),
    sa.Column("state", _Text, nullable=False),
    sa.Column("holding", sa.Boolean, nullable=False),
    sa.Column("t0", sa.Float, nullable=False),
    sa.Column("t1", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("linked_to", _Text),
)
event_table = sa.Table(
    "event",
    META,
    sa.Column("seq", _Number, primary_key=True, autoincrement=True),
    sa.Column("id", _Text, nullable=False, unique=True),
    sa.Column("type", _Text, nullable=False),
    sa.Column("site", _Text, nullable=False),
    sa.Column("space", _Text, nullable=False, index=True),
    sa.Column("subject", _Text, nullable=False, index=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("cause", _Text, nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
uplink = sa.Table("uplink", META, sa.Column("jid", _Text, primary_key=True), sa.Column("seq", _Number, nullable=False))
command = sa.Table(
    "command",
    META,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("site", _Text, nullable=False),
    sa.Column("by", _Text, nullable=False),
    sa.Column("root", _Text, nullable=False, index=True),
    sa.Column("exp", sa.Float, nullable=False),
    sa.Column("state", _Text, nullable=False),
    sa.Column("result", _Text, nullable=False),
    sa.Column("sent_at", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
grant = sa.Table(
    "grant",
    META,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("permit", _Text, nullable=False),
    sa.Column("lock", _Text, nullable=False),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("holder", _Text, nullable=False),
    sa.Column("issued_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float),
)
plan = sa.Table(
    "plan",
    META,
    sa.Column("site", _Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", _Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("sent", sa.Boolean, nullable=False),
)
session = sa.Table(
    "session",
    META,
    sa.Column("token_hash", _Text, primary_key=True),
    sa.Column("person", _Text, nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)
answer = sa.Table(
    "answer",
    META,
    sa.Column("key", _Text, primary_key=True),
    sa.Column("person", _Text, primary_key=True),
    sa.Column("request", _Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
audit = sa.Table(
    "audit",
    META,
    sa.Column("seq", _Number, primary_key=True, autoincrement=False),
    sa.Column("prev", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
