"""Permits that are linked as simultaneous may share a space and a time (`domain.md` G04); the audit table becomes STRICT."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")

_OVERLAPS = """WHEN new.holding AND {link} IS NULL AND EXISTS
 (SELECT 1 FROM permit WHERE space = new.space AND holding AND linked_to IS NULL
  AND id <> new.id AND t0 < new.t1 AND t1 > new.t0)
BEGIN SELECT raise(ABORT, 'permit_overlap'); END"""
# An INSERT that becomes an update by its ON CONFLICT passes here first, without the link that its row keeps.
_LINKS = {
    "INSERT": "coalesce(new.linked_to, (SELECT linked_to FROM permit WHERE id = new.id))",
    "UPDATE": "new.linked_to",
}
_SQLITE = (
    *(f"DROP TRIGGER permit_overlap_{verb}" for verb in _LINKS),
    *(
        f"CREATE TRIGGER permit_overlap_{verb} BEFORE {verb} ON permit {_OVERLAPS.format(link=link)}"
        for verb, link in _LINKS.items()
    ),
    *(f"DROP TRIGGER audit_{verb}" for verb in ("UPDATE", "DELETE", "INSERT")),
    "ALTER TABLE audit RENAME TO audit_loose",
    "CREATE TABLE audit(seq INTEGER NOT NULL PRIMARY KEY, prev BLOB NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT",
    "INSERT INTO audit SELECT seq, prev, body, hash FROM audit_loose ORDER BY seq",
    "DROP TABLE audit_loose",
    *(
        f"CREATE TRIGGER audit_{verb} BEFORE {verb} ON audit BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    """CREATE TRIGGER audit_INSERT BEFORE INSERT ON audit
     WHEN new.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
      OR new.prev IS NOT coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), zeroblob(32))
    BEGIN SELECT raise(ABORT, 'the audit chain only grows'); END""",
)
_POSTGRESQL = (
    "ALTER TABLE permit DROP CONSTRAINT permit_overlap",
    """ALTER TABLE permit ADD CONSTRAINT permit_overlap EXCLUDE USING gist (space WITH =, span(t0, t1) WITH &&)
     WHERE (holding AND linked_to IS NULL)""",
)


def upgrade() -> None:
    """Add the link, and let the refusal of overlaps pass by who is linked."""
    with op.batch_alter_table("permit") as permit:
        permit.add_column(sa.Column("linked_to", _text))
    for statement in _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)
