"""A disk that remembers every write and every sync, and what it may hold after the power went at any moment.

kill -9 is no power cut: what a dead process wrote is still in the kernel and reaches the disk. Here SQLite runs on a file
system of ours (an apsw VFS above the real one) that writes down, in order, what it is asked for. After a cut a file holds all
that its last sync covered, and of what came later any part: nothing, all, some of it in any order, each 512-byte sector by
itself.

The log's index needs shared memory, which no VFS of apsw has; SQLite keeps it in its own memory where the file is locked for
good (`locking_mode=EXCLUSIVE`). What is written and synced is the same.
"""

import itertools
import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import apsw

SECTOR = 512  # bytes a disk writes whole
_names = itertools.count()


class Act(NamedTuple):
    """What a file was asked for: "write" `data` at `at`, "truncate" to `at`, "sync", "delete"; or a "note" of the test's own.

    The first sync of a journal or a log that is new syncs its folder too (SQLite's `unixSync`): a sync of the file "".
    """

    file: str
    kind: str
    at: int = 0
    data: bytes = b""


class Disk:
    """The acts of one run, in order. `plug` opens a journal's file on it."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self._vfs = _Vfs(f"powercut-{next(_names)}", self.acts)

    def plug(self, path: Path) -> sqlite3.Connection:
        """Open a file whose every write is remembered, behind the few methods of `sqlite3` that the journal calls."""
        db = apsw.Connection(str(path), vfs=self._vfs.name)
        db.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        return _Plug(db)  # type: ignore[return-value]

    def note(self, what: str) -> None:
        """Write down that something has happened."""
        self.acts.append(Act(what, "note"))


def after_a_cut(acts: Sequence[Act], draw: random.Random | None, *, keep: float = 0.0) -> dict[str, bytes]:
    """Return what each file holds when the power goes after these acts, by its name.

    Of what no sync has covered each write stays with the chance `keep`; where `draw` is given, sector by sector.
    """
    covered = {file: _last_sync(acts, file) for file in {"", *(act.file for act in acts if act.kind != "note")}}
    disks: dict[str, bytearray] = {}
    for number, act in enumerate(acts):
        if act.kind in ("note", "sync"):
            continue
        safe = number <= covered["" if act.kind == "delete" else act.file]
        for piece in [act] if safe or draw is None else _torn(act):
            if safe or keep >= 1.0 or (draw is not None and draw.random() < keep):
                _apply(disks, piece)
    return {file: bytes(disk) for file, disk in disks.items()}


def put_back(files: Mapping[str, bytes], folder: Path) -> None:
    """Write what a disk holds into a folder, nothing else in it."""
    for old in folder.iterdir():
        old.unlink()
    for name, body in files.items():
        (folder / name).write_bytes(body)


def _last_sync(acts: Sequence[Act], file: str) -> int:
    return max((number for number, act in enumerate(acts) if act.kind == "sync" and act.file == file), default=-1)


def _torn(act: Act) -> Iterator[Act]:
    """Yield a write sector by sector; anything else is whole."""
    if act.kind != "write":
        yield act
        return
    start, end = act.at, act.at + len(act.data)
    while start < end:
        until = min(end, (start // SECTOR + 1) * SECTOR)
        yield Act(act.file, "write", start, act.data[start - act.at : until - act.at])
        start = until


def _apply(disks: dict[str, bytearray], act: Act) -> None:
    if act.kind == "delete":
        disks.pop(act.file, None)
        return
    disk = disks.setdefault(act.file, bytearray())
    if act.kind == "truncate":
        del disk[act.at :]
        return
    disk.extend(bytes(max(0, act.at - len(disk))))  # a hole reads as zeros
    disk[act.at : act.at + len(act.data)] = act.data


class _Vfs(apsw.VFS):
    """The real file system, with what is written to it remembered."""

    def __init__(self, name: str, acts: list[Act]) -> None:
        self.name, self._acts = name, acts
        super().__init__(name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 SQLite's name
        return _File(name, flags, self._acts)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802, FBT001 SQLite's name and call
        super().xDelete(filename, syncdir)
        self._acts.append(Act(Path(filename).name, "delete"))
        if syncdir:
            self._acts.append(Act("", "sync"))


class _File(apsw.VFSFile):
    """A file of the real file system that remembers."""

    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], acts: list[Act]) -> None:
        said = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._name, self._acts = Path(said).name, acts
        self._new = self._name.endswith(("-wal", "-journal")) and not Path(said).exists()
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 SQLite's name
        super().xWrite(data, offset)
        self._acts.append(Act(self._name, "write", offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 SQLite's name
        super().xTruncate(newsize)
        self._acts.append(Act(self._name, "truncate", newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 SQLite's name
        super().xSync(flags)
        self._acts.append(Act(self._name, "sync"))
        if self._new:
            self._acts.append(Act("", "sync"))
            self._new = False


class _Plug:
    """An apsw connection with the methods of `sqlite3.Connection` that the journal calls."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def execute(self, sql: str, parameters: object = ()) -> "_Answer":
        return _Answer(self._db, self._db.execute(sql, parameters))  # type: ignore[arg-type]

    def executemany(self, sql: str, rows: Iterable[object]) -> "_Answer":
        return _Answer(self._db, self._db.executemany(sql, rows))  # type: ignore[arg-type]

    def executescript(self, sql: str) -> "_Answer":
        answer = self._db.execute(sql)
        answer.fetchall()
        return _Answer(self._db, answer)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def close(self) -> None:
        self._db.close()


class _Answer:
    """A cursor that is stepped at once, as `sqlite3` steps a change."""

    def __init__(self, db: apsw.Connection, cursor: apsw.Cursor) -> None:
        self._rows = iter(cursor.fetchall())
        self.rowcount, self.lastrowid = db.changes(), db.last_insert_rowid()

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        return self._rows

    def fetchone(self) -> tuple[object, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[object, ...]]:
        return [*self._rows]

    def close(self) -> None:
        """Nothing is left open."""
