"""What SQLite and PostgreSQL do differently, side by side; nothing else of the api asks which of the two it talks to.

| | SQLite | PostgreSQL |
|---|---|---|
| one writer at a time | `BEGIN IMMEDIATE` | `pg_advisory_xact_lock` as the transaction's first statement |
| a reader's one moment | a transaction on a connection opened `mode=ro` | REPEATABLE READ, read only |
| durable on return | WAL, `synchronous=FULL` | `synchronous_commit=on` |
| waits no longer than | `busy_timeout` | `lock_timeout`, `statement_timeout`, `connect_timeout` |
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from manway.errors import LocalError, RemoteError

Insert = sqlite.Insert | postgresql.Insert

# (choice) "manw" in ASCII: any number will do that no other program takes in the same database.
WRITERS_LOCK = 0x6D616E77
BUSY_S = 5.0  # `pipeline.md` §9: busy_timeout=5000; PostgreSQL's lock_timeout is its like
CONNECT_S = 3  # (choice) a server on the same network answers in milliseconds; people wait for this
_SLOWEST_S = 30  # (choice) no statement of the api takes a second; one that takes this long holds up every writer
_READERS = 4  # with the one writer `pipeline.md` §9's pool of 5; bursts of pages open more for a moment
_MOST_READERS = 16
_SQLITE_ERROR = 1  # SQLite's code of a statement that is wrong in itself, whatever state the database is in
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", f"busy_timeout={int(BUSY_S * 1000)}")


class RecordsUnavailable(RemoteError):
    """The records database does not answer, is full, or is busy for too long; what was asked has not happened."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"records database: {reason}")


class RecordsUnusable(LocalError):
    """The records database cannot be used by this program; the text says what to do."""


def address(place: Path | str) -> sa.URL:
    """Return the database's address: of a file, or of a PostgreSQL server.

    Raises:
        RecordsUnusable: it is neither.
    """
    if isinstance(place, Path):
        return sa.URL.create("sqlite", database=str(place))
    try:
        url = sa.make_url(place)
    except sa.exc.ArgumentError:
        url = None
    if url is None or url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise RecordsUnusable(
            "setting `records`: write postgresql+psycopg://user:password@host/name, or leave it empty for records.db"
        )
    return url.set(drivername="postgresql+psycopg")


def is_file(url: sa.URL) -> bool:
    """Say whether the database is a file, which is SQLite's."""
    return url.drivername == "sqlite"


# -- connections --------------------------------------------------------------------------------------------------------


def writer(url: sa.URL) -> sa.Engine:
    """Return the engine of the one connection that writes."""
    if is_file(url):
        engine = sa.create_engine(url, pool_size=1, max_overflow=0)
        sa.event.listen(engine, "connect", _prepare_writer)
        # SQLite begins a write transaction at the first write only; two of them would then meet "database is locked".
        sa.event.listen(engine, "begin", lambda db: db.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True, connect_args=_session(url))
    # A sequence numbers rows in the order of their inserts, and readers see them in the order of their commits: a page that
    # resumes behind row 8 would never see a row 7 that was committed after it. The audit's head, the next permit's number and
    # "was this key answered before" are read before they are written in the same way. So writers queue, as on SQLite: the lock
    # falls only after the commit is visible. It needs READ COMMITTED, where every statement looks anew; a transaction of one
    # snapshot would have taken it before it had waited.
    sa.event.listen(engine, "begin", lambda db: db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})"))
    return engine


def readers(url: sa.URL) -> sa.Engine:
    """Return the engine of the connections that only read, each transaction of one moment."""
    sizes = {"pool_size": _READERS, "max_overflow": _MOST_READERS - _READERS, "pool_timeout": BUSY_S}
    if is_file(url):
        query = {"mode": "ro", "uri": "true"}
        engine = sa.create_engine(sa.URL.create("sqlite", database=f"file:{quote(str(url.database))}", query=query), **sizes)
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", lambda db: db.exec_driver_sql("BEGIN"))
        return engine
    more = "-c default_transaction_read_only=on -c default_transaction_isolation=repeatable\\ read"
    return sa.create_engine(url, pool_pre_ping=True, connect_args=_session(url, more), **sizes)


def single(url: sa.URL) -> sa.Engine:
    """Return an engine without pool for a change of the schema, which may take its time."""
    if is_file(url):
        engine = sa.create_engine(url, poolclass=NullPool)
        sa.event.listen(engine, "connect", _prepare)
        sa.event.listen(engine, "begin", lambda db: db.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_S})
    sa.event.listen(engine, "begin", lambda db: db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})"))
    return engine


def _prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # sqlite3 would begin, and commit, by its own rules
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_writer(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    _prepare(connection, entry)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # stays in the file; a reader could not change it
    cursor.close()


def _session(url: sa.URL, more: str = "") -> dict[str, str | int]:
    """Return what a connection to PostgreSQL begins with; a server that went without a word is noticed in seconds."""
    limits = f"-c lock_timeout={int(BUSY_S * 1000)} -c statement_timeout={_SLOWEST_S * 1000}"
    settings = f"-c synchronous_commit=on {limits} -c idle_in_transaction_session_timeout={_SLOWEST_S * 1000} {more}"
    given = url.query.get("options", "")
    return {
        "connect_timeout": CONNECT_S,
        "tcp_user_timeout": int(BUSY_S * 1000),
        "application_name": "manway-api",
        "options": f"{given if isinstance(given, str) else ' '.join(given)} {settings}".strip(),
    }


# -- statements and errors ----------------------------------------------------------------------------------------------


def insert(db: sa.Connection, table: sa.Table) -> Insert:
    """Return an INSERT that can say what to do on a conflict, in the words of the connection's database."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def is_away(error: sa.exc.SQLAlchemyError) -> bool:
    """Say whether an error is the database's state (away, full, busy, damaged) and not that of what was asked."""
    if isinstance(error, sa.exc.OperationalError):
        return not (isinstance(error.orig, sqlite3.Error) and error.orig.sqlite_errorcode == _SQLITE_ERROR)
    if isinstance(error, (sa.exc.TimeoutError, sa.exc.InterfaceError)) or type(error) is sa.exc.DatabaseError:
        return True
    return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated


def reason_of(error: sa.exc.SQLAlchemyError) -> str:
    """Return the database's own words, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]
