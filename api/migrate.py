"""Brings a records database to the schema of this program, when the api starts and before anything reads it.

PostgreSQL changes its schema in one transaction. A file is never changed in place (sqlalchemy/alembic#1655: no transactional
DDL with this driver): the revisions run on a copy, which takes its place when it is whole; what stood there stays beside it.
"""

import contextlib
import functools
import os
import sqlite3
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from api import dialects
from api.dialects import RecordsUnusable

FIRST, UNCOUNTED = "0001", "before versions"
_log = structlog.get_logger("records")
# What a database holds that was made before versions were counted: the tables of revision 0001, no more and no less.
_BEFORE_VERSIONS = frozenset(
    {"document", "permit", "event", "uplink", "command", "grant", "plan", "session", "answer", "audit"}
)


def bring_up(url: sa.URL) -> None:
    """Make or bring up the schema; does nothing when it is this program's.

    Raises:
        RecordsUnusable: a newer program made it, it is none of ours, or another process has the file open.
    """
    if dialects.is_file(url):
        _bring_up_file(Path(str(url.database)))
    else:
        _bring_up_server(url)


@functools.cache
def head() -> str:
    """Return the newest revision that this program knows."""
    with _config() as config:
        return str(ScriptDirectory.from_config(config).get_current_head())


@functools.cache
def _known() -> frozenset[str]:
    with _config() as config:
        return frozenset(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())


def version(db: sa.Connection) -> str | None:
    """Return the revision of a database, `UNCOUNTED` of one made before, None when nothing has been made in it.

    Raises:
        RecordsUnusable: it is newer than the program, or holds other tables.
    """
    found = MigrationContext.configure(db).get_current_revision()
    if found in _known():
        return found
    if found is not None:
        raise RecordsUnusable(
            f"the records database has version {found}, this program knows {head()}: install the program that made it, or put "
            f"back the database of before (a file: the one beside it whose name ends in .before-{found})"
        )
    seen = sa.inspect(db)
    tables = set(seen.get_table_names())
    if not tables:
        return None
    if tables != _BEFORE_VERSIONS:
        raise RecordsUnusable(
            f"the records database holds foreign tables ({', '.join(sorted(tables)[:5])} …): name an empty one in the settings"
        )
    if db.dialect.name == "postgresql" or any(c["name"] == "linked_to" for c in seen.get_columns("permit")):
        raise RecordsUnusable(
            "the records database has lost the table of its version: restore it from a backup, or name an empty one"
        )
    return UNCOUNTED


@contextlib.contextmanager
def _config(db: sa.Connection | None = None) -> Iterator[Config]:
    """Open Alembic's settings: the revisions lie in the package, wherever that is installed."""
    with as_file(files("api") / "migrations") as folder:
        config = Config(attributes={"connection": db})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        yield config


def _upgrade(db: sa.Connection) -> None:
    """Run, in the caller's transaction, what lies between a database's version and ours."""
    with _config(db) as config:
        if version(db) == UNCOUNTED:  # it stands where the first revision leads
            command.stamp(config, FIRST)
        command.upgrade(config, "head")


def _bring_up_server(url: sa.URL) -> None:
    engine = dialects.single(url)
    with engine.begin() as db:  # and the writers' lock: of two programs that start, one waits and finds it done
        was = version(db)
        if was == head():
            return
        _upgrade(db)
    _tell(was)


def _bring_up_file(path: Path) -> None:
    was = _version_of_file(path)
    if was == head():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # of an attempt that was cut off
    with _alone(path) if was is not None else contextlib.nullcontext() as old:
        if old is not None:
            old.execute("VACUUM INTO ?", (str(fresh),))
        with dialects.single(sa.URL.create("sqlite", database=str(fresh))).begin() as db:
            _upgrade(db)
        _flush(fresh)
        if was is not None:
            _keep(path, path.with_name(f"{path.name}.before-{head()}"))
        fresh.replace(path)
        _flush(path.parent)
    _tell(was)


def _tell(was: str | None) -> None:
    if was is not None:  # making a first one is no news
        _log.info("records brought up", was=was, now=head())


def _version_of_file(path: Path) -> str | None:
    if not path.exists() or path.stat().st_size == 0:
        return None
    engine = dialects.readers(dialects.address(path))
    try:
        with engine.connect() as db:
            return version(db)
    finally:
        engine.dispose()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold a file that nobody else has open; its write-ahead log is merged into it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=dialects.BUSY_S)) as db:
        try:
            # Only the last connection can leave WAL: whoever else has the file open would go on writing into what we put aside.
            db.execute("PRAGMA journal_mode=DELETE")
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("BEGIN EXCLUSIVE")
            db.execute("COMMIT")  # the mode keeps the lock
            left = db.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        except sqlite3.OperationalError:
            left = False
        if not left:
            raise RecordsUnusable(f"{path.name} has to be brought up, and another process has it open: stop that one first")
        yield db


def _keep(path: Path, before: Path) -> None:
    """Let a file stay under another name when its own is taken over."""
    before.unlink(missing_ok=True)
    os.link(path, before)


def _flush(path: Path) -> None:
    """Return once a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
