"""How a journal's file is opened: its tables, its settings, its one writer, and what is refused or set aside before that."""

import fcntl
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

import structlog

_log = structlog.get_logger("journal")

_VERSION = 3  # PRAGMA user_version; 1 was the journal of a single site, which said 0
_TAKEN_OVER = (2, _VERSION)  # 2 had no plain frames; all it had is as it was
_FULL = 2  # PRAGMA synchronous: FULL; anything less loses acknowledged rows at power loss
_OLDEST_SQLITE = (3, 37, 0)  # the first with STRICT tables
_WITHDRAWN_SQLITE = {(3, 52, 0)}  # `pipeline.md` §6
_PIECE = 1024 * 1024  # bytes
_ASIDE = ".damaged-"

# The first line cannot be set any more once a table stands. Every commit writes some pages whole, however little is new in
# them: small ones halve what a small commit writes (135 instead of 290 B a frame at 100 a commit). Debian's SQLite overwrites
# what is deleted with zeros, which would write every frame once more; a disk to be thrown away is shredded, not this file.
_SETTINGS = """
PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=OFF;
PRAGMA journal_size_limit=4194304;
"""
# input.kind: 0 frames, 1 commands, 2 plans, 3 rejected, 4 all else, 5 plain frames of many sites, under the site ''. Frames go
# into a row of their own, so that the cap can take them and leave the rest; `places` of the row behind it then says how many
# frames came before each of its inputs.
# A row with a plan among others is of kind 2 all the same, and `plan` names the first row of every version.
# input.n counts inputs, input.keep marks telemetry around an alarm. event.n is the order of the file, event.seq of the site,
# event.input the input of the file it followed: a replay from there makes it again.
# kept: telemetry of a site and plain frames, behind one input up to another and not before a time, are around an alarm as well;
# the rows are marked only when the cap must choose: thousands of them in the alarm's own commit would hold it up.
# source: rows of plain frames that name it stand behind the input `since` and up to `until`, which is NULL while its frames
# still come. A process numbers anew.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS stream(site TEXT PRIMARY KEY, jid TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS input(
  id INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL, kind INT NOT NULL, at REAL NOT NULL, n INT NOT NULL,
  keep INT NOT NULL, places BLOB, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS event(
  n INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL, seq INT NOT NULL, id TEXT NOT NULL, input INT NOT NULL,
  at REAL NOT NULL, body BLOB NOT NULL, UNIQUE(site, seq), UNIQUE(site, id)) STRICT;
CREATE TABLE IF NOT EXISTS plan(site TEXT, version INT, input INT NOT NULL, PRIMARY KEY(site, version)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS birth(site TEXT, device TEXT, body BLOB NOT NULL, PRIMARY KEY(site, device)) STRICT;
CREATE TABLE IF NOT EXISTS birth_before(site TEXT, device TEXT, body BLOB NOT NULL, PRIMARY KEY(site, device)) STRICT;
CREATE TABLE IF NOT EXISTS cursor(sink TEXT PRIMARY KEY, at INT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS passed(site TEXT, seq INT, at REAL NOT NULL, PRIMARY KEY(site, seq)) STRICT;
CREATE TABLE IF NOT EXISTS snapshot(
  id INTEGER PRIMARY KEY, site TEXT NOT NULL, input INT NOT NULL, at REAL NOT NULL, software TEXT NOT NULL,
  sha256 BLOB NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS gap(
  id INTEGER PRIMARY KEY, site TEXT NOT NULL, first INT NOT NULL, last INT NOT NULL, start REAL NOT NULL, end REAL NOT NULL,
  frames INT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS dead(
  id INTEGER PRIMARY KEY, sink TEXT NOT NULL, at REAL NOT NULL, line BLOB NOT NULL, error TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS source(
  number INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL, device TEXT NOT NULL, boot INT NOT NULL,
  channels TEXT NOT NULL, since INT NOT NULL, until INT) STRICT;
CREATE TABLE IF NOT EXISTS kept(site TEXT NOT NULL, behind INT NOT NULL, upto INT NOT NULL, since REAL NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS source_site ON source(site, until, since);
PRAGMA user_version={_VERSION};
COMMIT;
"""
_END_SOURCES = """
UPDATE source SET until = ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'input'), 0) WHERE until IS NULL"""


def connect(path: Path) -> sqlite3.Connection:
    """Open a file for reading and writing, without transactions of Python's own making."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def open_file(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Return the connection of a journal's writer, and whether an earlier file stands aside and nothing is in the new one.

    Raises:
        sqlite3.OperationalError: the file is of another version of Manway, or it would not sync every commit.
    """
    if path.exists() and not _sound(path):
        _set_aside(path)
    db = connect(path)
    try:
        _refuse_other_versions(db, path)
        db.executescript(_SETTINGS)
        db.executescript(_SCHEMA)
        db.execute(_END_SOURCES)
        _refuse_lazy_commits(db, path)
    except BaseException:
        db.close()
        raise
    _log.info("journal open", file=str(path), sqlite=sqlite3.sqlite_version)
    empty = db.execute("SELECT 1 FROM sqlite_sequence WHERE name = 'input'").fetchone() is None
    return db, empty and next(path.parent.glob(f"{path.name}{_ASIDE}*"), None) is not None


def open_with_ballast(path: Path, ballast: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a file; where SQLite itself cannot, and the ballast stands, once more with the room of the ballast."""
    try:
        return open_file(path)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) is None or not ballast.exists():
            raise
        _log.warning("journal not opened, ballast given up", file=str(path), reason=str(error))
        ballast.unlink()
        return open_file(path)


def pragma(db: sqlite3.Connection, name: str) -> int:
    """Return a setting of SQLite that is a number."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def refuse_sqlite(version: Sequence[int]) -> None:
    """Refuse a library that cannot hold the journal, or was withdrawn by its makers.

    Raises:
        sqlite3.NotSupportedError: it is one of those.
    """
    said = ".".join(str(part) for part in version)
    if tuple(version) in _WITHDRAWN_SQLITE:
        raise sqlite3.NotSupportedError(f"SQLite {said} was withdrawn by its makers: install a newer one")
    if tuple(version) < _OLDEST_SQLITE:
        raise sqlite3.NotSupportedError(f"SQLite {said} knows no STRICT tables: install 3.37 or newer")


def lock_file(path: Path) -> BinaryIO:
    """Return the open file whose lock says that this journal has its writer; closing it, or dying, gives the lock back.

    Beside the journal, not in it: closing any second handle of SQLite's own file would throw away SQLite's locks.

    Raises:
        sqlite3.OperationalError: somebody holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.lock")
    held = beside.open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        message = f"the journal {path} already has its writer: stop the other gateway, or give this one a name of its own"
        raise sqlite3.OperationalError(message) from error
    return held


def _refuse_lazy_commits(db: sqlite3.Connection, path: Path) -> None:
    if pragma(db, "synchronous") != _FULL:
        raise sqlite3.OperationalError(f"{path}: a journal needs synchronous=FULL")


def _refuse_other_versions(db: sqlite3.Connection, path: Path) -> None:
    version, tables = pragma(db, "user_version"), db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if tables and version not in _TAKEN_OVER:
        message = (
            f"the journal {path} has format {version}, this Manway writes {_VERSION}: move the file away, then start again"
        )
        raise sqlite3.OperationalError(message)


def _sound(path: Path) -> bool:
    """Say whether SQLite finds every page of a file in order.

    Raises:
        sqlite3.OperationalError: it cannot be read at all, which says nothing about what stands in it.
    """
    _read_ahead(path)
    try:
        # Read-only: it neither folds the log of a crash into a damaged file nor throws it away.
        return _checked(path, "ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise
    return _checked(path, "rw")  # the power went while the file was made: SQLite must first undo what was half done


def _read_ahead(path: Path) -> None:
    """Have the kernel hold the file: page by page, from a cold disk, the check takes four times as long."""
    with suppress(OSError), path.open("rb", buffering=0) as file:  # what cannot be read SQLite will say in its own words
        while file.read(_PIECE):
            pass


def _checked(path: Path, mode: str) -> bool:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=1.0)) as db:
        try:
            return [row[0] for row in db.execute("PRAGMA quick_check(1)")] == ["ok"]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False


def _set_aside(path: Path) -> None:
    """Rename a damaged file, and what SQLite keeps beside it, so that the three still belong together."""
    taken = {other.name for other in path.parent.glob(f"{path.name}{_ASIDE}*")}
    number = next(n for n in range(1, len(taken) + 2) if f"{path.name}{_ASIDE}{n}" not in taken)
    for part in ("-wal", "-shm", ""):  # the file itself last: a death in between is found damaged again
        beside = path.with_name(path.name + part)
        if beside.exists():
            beside.rename(path.with_name(f"{path.name}{_ASIDE}{number}{part}"))
    _log.error("journal set aside", file=str(path), aside=f"{path.name}{_ASIDE}{number}")
