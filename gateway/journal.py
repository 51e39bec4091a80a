"""The journal of one site: what the engine was given, in order, and what it concluded; one SQLite file, one writer.

A device is acknowledged only after `commit` has returned. Inputs are kept so that a restart replays them into an equal
engine; events carry derived ids, so a replay inserts nothing twice. `jid` names this journal: a new file is a new stream.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from manway.codec_mqtt import DeviceState, decode_event, encode
from manway.events import AnyEvent, Event
from manway.inputs import AnyInput

_SCHEMA = """
CREATE TABLE IF NOT EXISTS input(
  id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, n INT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS event(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS cursor(sink TEXT PRIMARY KEY, at INT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS birth(device TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta(k TEXT PRIMARY KEY, v TEXT NOT NULL) STRICT;
INSERT OR IGNORE INTO meta VALUES ('jid', lower(hex(randomblob(8))));
"""
# Not ON CONFLICT DO NOTHING: that uses up a sequence number for every event it ignores, and the uplink counts without gaps.
_ADD_EVENT = "INSERT INTO event(id, at, body) SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM event WHERE id = ?)"
_FULL = 2  # PRAGMA synchronous: FULL; anything less loses acknowledged rows at power loss

_ASIDE = ".damaged-"

_inputs = msgspec.msgpack.Decoder(list[AnyInput])
_births = msgspec.json.Decoder(DeviceState)
_pack = msgspec.msgpack.Encoder()


class Journal:
    """Opened once per process; every method runs on the journal's one thread.

    A file that is damaged is set aside under a new name, never deleted, and a new journal takes its place; `damaged` says so
    until the first input stands in the new one.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not _sound(path):
            _set_aside(path)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA journal_size_limit=4194304")
        self._db.executescript(_SCHEMA)
        if self._one("PRAGMA synchronous") != _FULL:
            raise sqlite3.OperationalError("the journal needs synchronous=FULL")
        self.jid = str(self._one("SELECT v FROM meta WHERE k='jid'"))
        empty = self._one("SELECT 1 FROM input LIMIT 1") is None
        self.damaged = empty and next(path.parent.glob(f"{path.name}{_ASIDE}*"), None) is not None

    def commit(self, inputs: Sequence[AnyInput], events: Sequence[Event], births: dict[str, DeviceState], at: float) -> int:
        """Store one batch durably, in one transaction and one sync; return the newest event's sequence number.

        `inputs` are what the engine was given at `at`, `events` what it concluded, `births` those that are new.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if inputs:
                row = (at, len(inputs), _pack.encode(list(inputs)))
                self._db.execute("INSERT INTO input(at, n, body) VALUES (?, ?, ?)", row)
            rows = [(e.id, e.at, encode(e), e.id) for e in events]
            self._db.executemany(_ADD_EVENT, rows)
            self._db.executemany("REPLACE INTO birth VALUES (?, ?)", [(d, encode(b)) for d, b in births.items()])
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have rolled it back already
                self._db.execute("ROLLBACK")
            raise
        return self.last_seq()

    def replay(self) -> Iterator[tuple[float, list[AnyInput]]]:
        """Yield every stored batch with the time the engine was given."""
        for at, body in self._db.execute("SELECT at, body FROM input ORDER BY id"):
            yield at, _inputs.decode(body)

    def inputs_after(self, number: int, most: int) -> list[tuple[int, list[AnyInput]]]:
        """Return up to `most` batches behind an input number, each with its own number."""
        rows = self._db.execute("SELECT id, body FROM input WHERE id > ? ORDER BY id LIMIT ?", (number, most))
        return [(number, _inputs.decode(body)) for number, body in rows]

    def waiting_since(self, number: int) -> float | None:
        """Return the time of the oldest input behind a number, Unix seconds, None when there is none."""
        at = self._db.execute("SELECT at FROM input WHERE id > ? ORDER BY id LIMIT 1", (number,)).fetchone()
        return None if at is None else float(at[0])

    def events_after(self, seq: int, most: int) -> list[tuple[int, AnyEvent]]:
        """Return up to `most` events behind a sequence number, each with its own."""
        rows = self._db.execute("SELECT seq, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (seq, most))
        return [(seq, decode_event(body)) for seq, body in rows]

    def births(self) -> dict[str, DeviceState]:
        """Return the newest birth of every device."""
        return {device: _births.decode(body) for device, body in self._db.execute("SELECT device, body FROM birth")}

    def cursor(self, sink: str) -> int:
        """Return how far a sink has come."""
        return int(self._one("SELECT at FROM cursor WHERE sink=?", sink) or 0)

    def move_cursor(self, sink: str, to: int) -> None:
        """Note that a sink's store said yes up to here; never back."""
        self._db.execute(
            "INSERT INTO cursor VALUES (?, ?) ON CONFLICT(sink) DO UPDATE SET at = max(at, excluded.at)", (sink, to)
        )

    def last_seq(self) -> int:
        """Return the newest event's sequence number."""
        return int(self._one("SELECT max(seq) FROM event") or 0)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _one(self, sql: str, *args: str) -> int | str | None:
        row = self._db.execute(sql, args).fetchone()
        return None if row is None else row[0]


def _sound(path: Path) -> bool:
    """Say whether SQLite finds every page of a file in order.

    Raises:
        sqlite3.OperationalError: it cannot be read at all, which says nothing about what stands in it.
    """
    # Read-only: it neither folds the log of a crash into a damaged file nor throws it away.
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1.0)
    try:
        return [row[0] for row in db.execute("PRAGMA quick_check(1)")] == ["ok"]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    finally:
        db.close()


def _set_aside(path: Path) -> None:
    """Rename a damaged file, and what SQLite keeps beside it, so that the three still belong together."""
    taken = {other.name for other in path.parent.glob(f"{path.name}{_ASIDE}*")}
    number = next(n for n in range(1, len(taken) + 2) if f"{path.name}{_ASIDE}{n}" not in taken)
    for part in ("-wal", "-shm", ""):  # the file itself last: a death in between is found damaged again
        beside = path.with_name(path.name + part)
        if beside.exists():
            beside.rename(path.with_name(f"{path.name}{_ASIDE}{number}{part}"))
