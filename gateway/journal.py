"""The journal of a gateway: what its engines were given, in order, and what they concluded; one SQLite file, one writer.

A device is acknowledged only after `commit` has returned. Inputs are kept so that a restart replays them into an equal engine;
events carry derived ids, so a replay inserts nothing twice. `jid` names a site's stream in this file: a new file is a new one.
Over its cap the oldest telemetry goes and is told of, never an event; a full disk refuses what it cannot hold.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

from gateway.journal_plain import Sources
from gateway.journal_reader import all_replayed, beginning, replayed
from gateway.journal_room import BALLAST, REMADE_AT, RESERVE, Ballast, Cap, Gap, bound_log, give_back, prune, sink_cursor
from gateway.journal_rows import Entry, Numbers, PlainEntry, Work, make_view
from gateway.journal_schema import lock_file, open_with_ballast, refuse_sqlite
from manway.codec_mqtt import DeviceState
from manway.events import TelemetryDropped
from manway.ids import derived_id
from manway.inputs import AnyInput
from manway.plain import Source

__all__ = ["PRUNED", "Entry", "Gap", "Journal", "PlainEntry"]

_log = structlog.get_logger("journal")
PRUNED = 2000  # (choice) rows a call: some milliseconds of the thread that commits
_RESERVE_SHARE = 4  # (choice) a small cap keeps at most a quarter for events alone

_NEWEST_INPUTS = (
    "SELECT site, max(id) FROM (SELECT site, id FROM input UNION ALL SELECT site, input FROM snapshot) GROUP BY site"
)
_NEWEST_NUMBER = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
_NEWEST_TIME = """
SELECT max(ifnull((SELECT at FROM input ORDER BY id DESC LIMIT 1), 0),
  ifnull((SELECT at FROM event ORDER BY n DESC LIMIT 1), 0))"""
_KEEP_TWO = """
DELETE FROM snapshot WHERE site = ?1 AND id NOT IN (SELECT id FROM snapshot WHERE site = ?1 ORDER BY id DESC LIMIT 2)"""

_MOVE = "INSERT INTO cursor VALUES (?, ?) ON CONFLICT(sink) DO UPDATE SET at = max(at, excluded.at)"

_births = msgspec.json.Decoder(DeviceState)


class Journal:
    """Opened once per process; every method runs on the journal's one thread.

    A file that is damaged is set aside under a new name, never deleted, and a new journal takes its place; `damaged` says so
    until the first input stands in the new one.
    """

    def __init__(
        self,
        path: Path,
        *,
        cap_bytes: int,
        reserve_bytes: int = RESERVE,
        ballast_bytes: int = BALLAST,
        remade_at_bytes: int = REMADE_AT,
        software: str = "",
    ) -> None:
        """Open a file that may grow to `cap_bytes`, the last `reserve_bytes` of them for events alone.

        `ballast_bytes` stand beside it for the day the disk is full, and again once `remade_at_bytes` of the disk are free.
        `software` is the version that snapshots are marked with.

        Raises:
            sqlite3.OperationalError: another process writes it, or it is of another version of Manway.
            sqlite3.NotSupportedError: this SQLite is too old, or was withdrawn.
        """
        refuse_sqlite(sqlite3.sqlite_version_info)
        self._lock = lock_file(path)
        ballast = path.with_name(f"{path.name}.ballast")
        try:
            self._db, self.damaged = open_with_ballast(path, ballast)
        except BaseException:
            self._lock.close()
            raise
        bound_log(self._db, ballast_bytes)
        make_view(self._db)
        self._ballast = Ballast(ballast, ballast_bytes, remade_at_bytes)
        self._sources = Sources(self._db)
        self._cap = Cap(self._db, cap_bytes, min(reserve_bytes, cap_bytes // _RESERVE_SHARE), self._sources)
        self._jids: dict[str, str] = dict(self._db.execute("SELECT site, jid FROM stream"))
        self._numbers = Numbers(
            dict(self._db.execute("SELECT site, max(seq) FROM event GROUP BY site")),
            dict(self._db.execute(_NEWEST_INPUTS)),
            *(int(self._db.execute(_NEWEST_NUMBER, (table,)).fetchone()[0]) for table in ("input", "source")),
        )
        self._now = float(self._db.execute(_NEWEST_TIME).fetchone()[0])
        self._dropped: list[Gap] = []
        # Of the last commit, by site: the number of its first event, and all of them as they are encoded in the file.
        self.written: Mapping[str, tuple[int, Sequence[bytes]]] = {}
        self._software = software

    # -- what the engines were given and concluded

    def commit(self, entries: Sequence[Entry | PlainEntry]) -> dict[str, int]:
        """Store the entries of one step durably, in one transaction and one sync; return each site's newest event number.

        Raises:
            sqlite3.OperationalError: the disk is full or fails; nothing of it is stored.
        """
        self._refuse_full()
        work = Work(self._db, self._numbers)
        for entry in entries:
            work.add(entry)
        now = max((self._now, *(entry.at for entry in entries)))
        gaps = [] if self._written_alone(work) else self._written(work, now)
        work.count()
        self.written = work.written
        self._now, self.damaged = now, self.damaged and not self._numbers.newest
        if gaps:
            self._dropped += gaps
            _log.warning("telemetry dropped", frames=sum(gap.frames for gap in gaps), sites=len({gap.site for gap in gaps}))
        sites = [entry.site for entry in entries if isinstance(entry, Entry)]
        return {site: self.last_seq(site) for site in [*sites, *(gap.site for gap in gaps)]}

    def _written_alone(self, work: Work) -> bool:
        """Write what one statement can, as nearly every commit; say whether it did."""
        if not (work.one_statement and self._cap.has_room(work.size)):
            return False
        try:
            with self._transaction(alone=True):
                work.write_alone()
                self._cap.cut(work.size)
        except sqlite3.IntegrityError:
            return False
        return True

    def _written(self, work: Work, now: float) -> list[Gap]:
        """Write in a transaction, and cut what the cap does not hold."""
        with self._transaction():
            work.write()
            gaps = self._cap.cut(work.size)
            if gaps:
                work.add_events([self._told(gap, now) for gap in gaps])
                work.write()
        return gaps

    def replay(self, site: str, after: int = 0) -> Iterator[tuple[int, float, list[AnyInput]]]:
        """Return what a site was given behind an input number: the number, the time its engine was given, the inputs.

        Plain frames that cannot be read are logged, and missing.
        """
        return replayed(self._db, self._sources, site, after)

    def replay_all(self, after: Mapping[str, int]) -> Iterator[tuple[int, str, float, list[AnyInput]]]:
        """Return what many sites were given, each behind its own input number, in the order of the file, read once.

        Of each: its number, its site, the time its engine was given, the inputs; one number for all sites of plain frames.

        Plain frames that cannot be read are logged, and missing.
        """
        return all_replayed(self._db, self._sources, after, self.newest_input)

    def births(self, site: str) -> dict[str, DeviceState]:
        """Return the newest birth of every device of a site."""
        rows = self._db.execute("SELECT device, body FROM birth WHERE site = ?", (site,))
        return {device: _births.decode(body) for device, body in rows}

    def births_before(self, site: str) -> dict[str, DeviceState]:
        """Return the birth before the newest of every device of a site that has restarted."""
        rows = self._db.execute("SELECT device, body FROM birth_before WHERE site = ?", (site,))
        return {device: _births.decode(body) for device, body in rows}

    def jid(self, site: str) -> str:
        """Return the name of a site's stream in this file, 16 hex digits, drawn when it is first asked for."""
        if site not in self._jids:
            with self._writing():
                self._db.execute("INSERT INTO stream VALUES (?, lower(hex(randomblob(8))))", (site,))
            self._jids = dict(self._db.execute("SELECT site, jid FROM stream"))
        return self._jids[site]

    def last_seq(self, site: str) -> int:
        """Return the number of a site's newest event, 0 before the first."""
        return self._numbers.seqs.get(site, 0)

    def last_input(self, site: str) -> int:
        """Return the number of the newest input that may be of a site: its own, or plain frames of whichever site; 0 before."""
        return max(self._numbers.inputs.get(site, 0), self._numbers.plain)

    @property
    def newest_input(self) -> int:
        """The number of the newest input of the file, of whichever site, 0 before the first: where a snapshot stands."""
        return self._numbers.newest

    @property
    def newest_source(self) -> int:
        """The highest number a source of this file ever had, 0 before the first."""
        return self._numbers.source

    @property
    def sources(self) -> Mapping[int, Source]:
        """The sources of plain frames that the file still needs, by their numbers."""
        return self._sources

    # -- snapshots

    def keep_snapshot(self, site: str, number: int, at: float, body: bytes) -> None:
        """Keep an engine as it is behind an input number, and the one before; older ones go."""
        row = (site, number, at, self._software, sha256(body).digest(), body)
        with self._writing():
            self._db.execute("INSERT INTO snapshot(site, input, at, software, sha256, body) VALUES (?, ?, ?, ?, ?, ?)", row)
            self._db.execute(_KEEP_TWO, (site,))

    def newest_snapshot(self, site: str) -> tuple[int, float, bytes] | None:
        """Return input number, time and body of the newest snapshot of a site that is whole."""
        sql = "SELECT input, at, body, sha256 FROM snapshot WHERE site = ? ORDER BY id DESC"
        for number, at, body, digest in self._db.execute(sql, (site,)).fetchall():
            if sha256(body).digest() == digest:
                return number, at, body
            _log.error("snapshot damaged", site=site, input=number)
        return None

    def beginning(self, site: str) -> tuple[int, list[tuple[float, AnyInput]]]:
        """Return where a replay without a snapshot begins: behind which input number, and with which plans, each with its time.

        Up to there rows of the site's own may have gone, while plain frames stay as long as other sites need them: those would
        be replayed with holes between them.
        """
        return beginning(self._db, site)

    # -- sinks

    def cursor(self, sink: str) -> int:
        """Return how far a sink has come: "store" by input, "store.event" by place in the file, "uplink/{site}" by event."""
        return sink_cursor(self._db, sink)

    def move_cursor(self, sink: str, to: int) -> None:
        """Note that a sink's store said yes up to here; never back.

        Raises:
            sqlite3.OperationalError: the disk is full or fails; the sink will be given the same again.
        """
        self.move_cursors({sink: to})

    def move_cursors(self, to: Mapping[str, int]) -> None:
        """Move several cursors in one transaction; as `move_cursor`."""
        self.settle((), to)

    def settle(self, buried: Sequence[tuple[str, bytes, str]], cursors: Mapping[str, int]) -> None:
        """Bury lines (sink, line, error) and move cursors in one transaction: neither without the other."""
        with self._writing():
            rows = [(sink, self._now, line, error) for sink, line, error in buried]
            self._db.executemany("INSERT INTO dead(sink, at, line, error) VALUES (?, ?, ?, ?)", rows)
            self._db.executemany(_MOVE, cursors.items())

    def bury(self, sink: str, line: bytes, error: str) -> None:
        """Keep a line that a sink's store will never take, with the store's own words."""
        self.settle([(sink, line, error)], {})

    # -- room

    def dropped(self) -> list[Gap]:
        """Return what the cap took since the last call."""
        gaps, self._dropped = self._dropped, []
        return gaps

    def prune(self) -> int:
        """Delete what nobody needs any more, a bounded piece a call, and return how many rows went; call again while some do.

        An input goes once the store and the older of its site's two snapshots have passed it, but for the plan a site has where
        the store is; an event a week after the uplink passed it, when the store has it too and no replay would make it again.

        Raises:
            sqlite3.OperationalError: the disk fails, or is full and its ballast was taken by somebody else.
        """
        with self._transaction():
            gone = prune(self._db, self._now, PRUNED)
        self._cap.forget()
        give_back(self._db, self._ballast)
        return gone

    @property
    def fill(self) -> float:
        """The share of the cap that is used, 0 to 1; at 1 telemetry goes."""
        return self._cap.fill

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._db.close()
        self._lock.close()

    def _told(self, gap: Gap, now: float) -> TelemetryDropped:
        key = derived_id(gap.site, "TelemetryDropped", gap.first, repr(gap.start), gap.frames)
        return TelemetryDropped(
            id=key, at=now, site=gap.site, first=gap.first, last=gap.last, start=gap.start, end=gap.end, frames=gap.frames
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction of what must be kept beside a commit."""
        self._refuse_full()
        self._cap.forget()
        with self._transaction():
            yield

    def _refuse_full(self) -> None:
        """Refuse to write while the disk has been full and has too little room yet."""
        if not self._ballast.regain():
            raise sqlite3.OperationalError(self._ballast.refusal())

    @contextmanager
    def _transaction(self, *, alone: bool = False) -> Iterator[None]:
        """Write all or nothing; a statement that is `alone` is a transaction of its own, and two calls of SQLite fewer."""
        try:
            if not alone:
                self._db.execute("BEGIN IMMEDIATE")
            yield
            if not alone:
                self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # a full disk may have rolled it back already
                self._db.execute("ROLLBACK")
            self._cap.undo()
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                self._give_up_ballast()
            raise

    def _give_up_ballast(self) -> None:
        self._ballast.give_up()
        with suppress(sqlite3.OperationalError):  # what stands in the log is safe there too
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        _log.error("disk full, ballast given up", free=self._ballast.free())
