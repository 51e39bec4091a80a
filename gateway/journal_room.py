"""The room a journal has: its ballast on the disk, its cap, and what may go."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from gateway.journal_plain import Sources, counted, prune_plain, prune_sources
from gateway.journal_rows import FRAMES, PLAIN
from gateway.journal_schema import pragma

MIB = 1024 * 1024
BALLAST = 8 * MIB  # (choice), `pipeline.md` §6
REMADE_AT = 64 * MIB  # free on the disk (choice), same place
RESERVE = 64 * MIB  # of the cap, for events alone, same place
# (choice) Telemetry goes in blocks of this share of the cap and no more than that many bytes: one event tells of a block, and
# a block must not hold up the commit it goes with.
_BLOCK_SHARE, _BLOCK_MOST = 16, 4 * MIB
_BLOCK_ROWS = 1_000  # (choice) of plain frames each has to be read, to be told of: 60 us a row
_LOG_MOST = 4 * MIB  # of SQLite's write-ahead log before it is folded into the file; its own default
_PRUNED_FIRST = 2000  # (choice) rows at a time
_ROW = 64  # bytes of a row beside its body, as in `pipeline.md` §6
_SPARE_PAGES = 4096  # (choice) empty pages that stay in the file: giving them back and taking them again is work for nothing
_VACUUM_PAGES = 4096  # (choice) a call; 4 MiB

UPLINK = "uplink/"  # and the site: the name of that sink's cursor
EVENTS_KEPT_S = 7 * 86_400.0  # (choice) the api may have to be given them again after its records were restored
_MARK_EVERY_S = 3600.0  # (choice) how exactly it is noted when the uplink passed an event
_UNMEASURED = 1 / 200  # (choice) of the room: what is written before the pages are counted again, two calls of SQLite
_NOTES_KEPT = 10_000  # (choice) newest rows of the tables of gaps and of dead lines

_OLDEST = """
SELECT id, site, at, n, length(body), CASE WHEN kind = :plain AND id > :stored THEN body END
FROM input WHERE id > :behind AND kind IN (:frames, :plain) AND keep = :keep ORDER BY id"""
_DROP = "DELETE FROM input WHERE id BETWEEN :first AND :last AND kind IN (:frames, :plain) AND keep = :keep"
_MARK = """
UPDATE input SET keep = 1 WHERE keep = 0 AND kind IN (:frames, :plain) AND id > (SELECT min(behind) FROM kept) AND EXISTS (
  SELECT 1 FROM kept WHERE (kept.site = input.site OR input.kind = :plain)
  AND input.id > kept.behind AND input.id <= kept.upto AND input.at >= kept.since)"""
# A plan may stay for years among what is gone.
_PRUNE_KEPT = """
DELETE FROM kept WHERE NOT EXISTS (SELECT 1 FROM input WHERE id > behind AND id <= upto AND kind IN (:frames, :plain))"""
_KINDS = {"frames": FRAMES, "plain": PLAIN}
# The older of two snapshots bounds both: a replay from it must find every input behind it, and makes its events again. The plan
# that held where the store is stays as long as it does: it says in which space the next frame was measured.
_PRUNE_INPUTS = """
DELETE FROM input WHERE id IN (
  WITH bound(site, upto) AS (SELECT site, min(input) FROM snapshot GROUP BY site HAVING count(*) > 1),
  valid(input) AS (SELECT input FROM plan WHERE (site, version) IN (
    SELECT site, max(version) FROM plan WHERE input <= :stored GROUP BY site))
  SELECT input.id FROM input CROSS JOIN bound ON bound.site = input.site
  WHERE input.id <= :stored AND input.id <= (SELECT max(upto) FROM bound) AND input.id <= bound.upto
  AND input.id NOT IN valid ORDER BY input.id LIMIT :most)"""
_PRUNE_PLANS = "DELETE FROM plan WHERE NOT EXISTS (SELECT 1 FROM input WHERE id = plan.input)"
# The newest event of a site stays: the next one counts on from it.
_PRUNE_EVENTS = """
DELETE FROM event WHERE n IN (
  SELECT n FROM event WHERE site = :site AND seq <= :seq AND n <= :told
  AND seq < (SELECT max(seq) FROM event WHERE site = :site)
  AND input < (SELECT min(input) FROM snapshot WHERE site = :site HAVING count(*) > 1) ORDER BY seq LIMIT :most)"""
_NOTE_PASSED = """
INSERT INTO passed SELECT :site, :seq, :now WHERE NOT EXISTS (
  SELECT 1 FROM passed WHERE site = :site AND (seq >= :seq OR at > :now - :every))"""

_Dropped = tuple[
    int, str, float, int, bytes | None
]  # input number, site, time, frames, and the body of plain ones to be told of


class Gap(NamedTuple):
    """Telemetry of a site that the cap took: input numbers, times the engine was given (Unix seconds), number of frames."""

    site: str
    first: int
    last: int
    start: float
    end: float
    frames: int


def bound_log(db: sqlite3.Connection, ballast: int) -> None:
    """Have SQLite fold its log early enough: on a full disk that takes as much room again, and only the ballast has it."""
    pages = min(_LOG_MOST, ballast // 2) // pragma(db, "page_size")
    db.execute(f"PRAGMA wal_autocheckpoint={max(1, pages)}")


class Ballast:
    """A file that is given up when the disk is full, because a full disk refuses even to delete a row.

    While it is away nothing is written but what makes room.
    """

    def __init__(self, path: Path, size: int, remade_at: int) -> None:
        """Use `path`; `size` bytes; made again once `remade_at` bytes are free on its disk."""
        self._path, self.size, self._remade_at = path, size, remade_at
        self.away = True
        self.regain()

    def regain(self) -> bool:
        """Make the file again where the disk has room for it; say whether it stands."""
        if self.away and (self._stands() or self.free() >= self._remade_at):
            self.away = not self._make()
        return not self.away

    def give_up(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
        self.away = True

    def free(self) -> int:
        """Return how many bytes the disk has left."""
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize

    def refusal(self) -> str:
        """Return why nothing is written while the file is away."""
        return f"the disk of {self._path.parent} is full: {self.free()} bytes free, {self._remade_at} wanted; make room on it"

    def _stands(self) -> bool:
        return self._path.exists() and self._path.stat().st_size == self.size

    def _make(self) -> bool:
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:  # somebody else took the room meanwhile
            self._path.unlink(missing_ok=True)
            return False
        return True


class Cap:
    """How large a journal's file may become, and which telemetry goes when it would grow beyond."""

    def __init__(self, db: sqlite3.Connection, cap: int, reserve: int, sources: Sources) -> None:
        """Hold the file to `cap` bytes, of which telemetry never takes the last `reserve`; `sources` are the file's."""
        self._db, self._room, self._sources = db, cap - reserve, sources
        self._measured: int | None = None  # bytes used when they were counted last
        self._grown = 0  # since then, at most
        self._page = pragma(db, "page_size")
        self._block = min(cap // _BLOCK_SHARE, _BLOCK_MOST)
        self._behind = {0: 0, 1: 0}  # by `keep`: no frames are left up to this input

    def used(self) -> int:
        """Return the bytes of the pages that hold something; SQLite counts them itself, inside a transaction too."""
        return (pragma(self._db, "page_count") - pragma(self._db, "freelist_count")) * self._page

    @property
    def fill(self) -> float:
        """The share of the room that is used, at most 1: at 1 telemetry goes."""
        return min(1.0, self._nearly() / self._room)

    def has_room(self, grown: int) -> bool:
        """Say whether `cut` would neither count nor delete anything when the file has grown by so many bytes."""
        grown += self._grown
        return self._measured is not None and grown <= min(self._room * _UNMEASURED, self._room - self._measured)

    def forget(self) -> None:
        """Count the pages again: something else was written, or deleted."""
        self._measured = None

    def cut(self, grown: int) -> list[Gap]:
        """Delete the oldest telemetry while the file is over its room, that around an alarm last; return what is lost by it.

        It has `grown` by so many bytes, or fewer. What nobody needs any more goes first. What the store has taken is no loss.
        """
        self._grown += grown
        if self._nearly() <= self._room:
            return []
        self.forget()
        while self.used() > self._room and prune_inputs(self._db, _PRUNED_FIRST):
            pass
        prune_sources(self._db)
        self.mark()
        gaps: list[Gap] = []
        stored = sink_cursor(self._db, "store")
        for keep in (0, 1):
            while self.used() > self._room and (block := self._oldest(keep, stored)):
                last = block[-1][0]
                gaps += self._gaps([row for row in block if row[0] > stored])
                self._db.execute(_DROP, {"first": block[0][0], "last": last, "keep": keep, **_KINDS})
                self._behind[keep] = last
        rows = [(gap.site, gap.first, gap.last, gap.start, gap.end, gap.frames) for gap in gaps]
        self._db.executemany("INSERT INTO gap(site, first, last, start, end, frames) VALUES (?, ?, ?, ?, ?, ?)", rows)
        return gaps

    def mark(self) -> None:
        """Mark the telemetry that stands around an alarm and was written before it."""
        self._db.execute(_MARK, _KINDS)
        self._db.execute("DELETE FROM kept")

    def undo(self) -> None:
        """Look from the beginning again: the transaction of the last cut was rolled back."""
        self._behind = {0: 0, 1: 0}
        self.forget()

    def _nearly(self) -> int:
        """Return the bytes used, counted where the last count may be too far off or the room too little."""
        if self._measured is None or not self.has_room(0):
            self._measured, self._grown = self.used(), 0
        return self._measured

    def _oldest(self, keep: int, stored: int) -> list[_Dropped]:
        block, size = list[_Dropped](), 0
        bounds = {"behind": self._behind[keep], "keep": keep, "stored": stored, **_KINDS}
        with closing(self._db.execute(_OLDEST, bounds)) as rows:
            for number, site, at, n, length, body in rows:
                block.append((number, site, at, n, body))
                size += length + _ROW
                if size >= self._block or len(block) >= _BLOCK_ROWS:
                    break
        return block

    def _gaps(self, block: list[_Dropped]) -> list[Gap]:
        """Return what is told of a block, a gap a site."""
        gaps: dict[str, Gap] = {}
        for number, site, at, n, body in block:
            for one, frames in ({site: n} if body is None else counted(number, body, self._sources)).items():
                gap = gaps.get(one, Gap(one, number, number, at, at, 0))
                gaps[one] = Gap(one, gap.first, number, min(gap.start, at), max(gap.end, at), gap.frames + frames)
        return [*gaps.values()]


def prune(db: sqlite3.Connection, now: float, most: int) -> int:
    """Delete up to `most` inputs and sources and as many events a site that nobody needs any more; return how many rows went.

    Call it inside a transaction. `now` is the journal's own time, Unix seconds.
    """
    gone = prune_inputs(db, most)
    passed = db.execute("SELECT substr(sink, ?), at FROM cursor WHERE sink GLOB ?", (len(UPLINK) + 1, f"{UPLINK}*")).fetchall()
    told = sink_cursor(db, "store.event")
    for site, seq in passed:
        db.execute(_NOTE_PASSED, {"site": site, "seq": seq, "now": now, "every": _MARK_EVERY_S})
        row = db.execute("SELECT max(seq) FROM passed WHERE site = ? AND at <= ?", (site, now - EVENTS_KEPT_S)).fetchone()
        if row[0] is None:
            continue
        gone += db.execute(_PRUNE_EVENTS, {"site": site, "seq": row[0], "told": told, "most": most}).rowcount
        db.execute("DELETE FROM passed WHERE site = ? AND seq < ?", (site, row[0]))
    db.execute(_PRUNE_KEPT, _KINDS)
    for table in ("gap", "dead"):
        db.execute(f"DELETE FROM {table} WHERE id <= (SELECT max(id) FROM {table}) - ?", (_NOTES_KEPT,))  # noqa: S608 two names of ours
    return gone


def prune_inputs(db: sqlite3.Connection, most: int) -> int:
    """Delete up to `most` rows that the store and the older of their site's two snapshots have passed; return how many."""
    stored = sink_cursor(db, "store")
    gone = db.execute(_PRUNE_INPUTS, {"stored": stored, "most": most}).rowcount
    if gone:
        db.execute(_PRUNE_PLANS)
    return gone + prune_plain(db, stored, most - gone)


def give_back(db: sqlite3.Connection, ballast: Ballast) -> None:
    """Give empty pages back to the disk, a bounded number a call; all of them while the disk is full.

    Every page may have to change places with one at the end of the file, and goes through the log for that: on a full disk
    the log has no more room than the ballast left.
    """
    spare, most = (0, ballast.size // 8 // pragma(db, "page_size")) if ballast.away else (_SPARE_PAGES, _VACUUM_PAGES)
    pages = min(pragma(db, "freelist_count") - spare, most)
    if pages > 0:
        # Not by execute: it steps once, and frees one page a step.
        db.executescript(f"PRAGMA incremental_vacuum({pages})")
    if ballast.away:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # only now the file is shorter


def sink_cursor(db: sqlite3.Connection, sink: str) -> int:
    """Return how far a sink has come, 0 for one that never moved."""
    row = db.execute("SELECT at FROM cursor WHERE sink = ?", (sink,)).fetchone()
    return 0 if row is None else int(row[0])
