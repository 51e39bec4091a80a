"""Reading a journal: how its rows become inputs again, for a replay by the writer and for the sinks beside it."""

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.journal_plain import Sources, all_plain, given
from gateway.journal_room import sink_cursor
from gateway.journal_rows import FRAMES, PLAIN
from manway.codec_mqtt import decode_event
from manway.entities import Plan
from manway.events import AnyEvent
from manway.inputs import AnyInput, PlanReceived
from manway.plain import Plain

_inputs = msgspec.msgpack.Decoder(list[AnyInput])
_places = msgspec.msgpack.Decoder(list[int])

_REPLAYED = 256  # (choice) entries read at a time
_EVERY_SITE = "SELECT id, site, at, kind, places, body FROM input WHERE id > ? ORDER BY id LIMIT ?"
_ONE_SITE = """
SELECT id, site, at, kind, places, body FROM input WHERE id > ? AND (site = ? OR kind = ?) ORDER BY id LIMIT ?"""
_REST = "SELECT id, site, at, kind, places, body FROM input WHERE id = ? AND places IS NOT NULL"

_PLANS = """
SELECT input.site, input.at, input.body FROM plan CROSS JOIN input ON input.id = plan.input
WHERE plan.input <= :upto AND (:site IS NULL OR plan.site = :site) GROUP BY input.id ORDER BY input.id"""

_Row = tuple[int, str, float, int, bytes | None, bytes]


class Stored(NamedTuple):
    """What one site's engine was given at `at` (Unix seconds); `number` counts through the file.

    Or the plain frames that the engines of many sites were given: of no site, and without inputs.
    """

    number: int
    site: str
    at: float
    inputs: list[AnyInput]
    plain: Plain | None = None


def stored_after(db: sqlite3.Connection, number: int, most: int, site: str | None = None) -> list[Stored]:
    """Return up to `most` entries behind an input number, of all sites or of one, in the order they were committed.

    Rows of plain frames are of every site; one that is damaged is logged and empty.
    """
    if site is None:
        rows: list[_Row] = db.execute(_EVERY_SITE, (number, most)).fetchall()
    else:
        rows = db.execute(_ONE_SITE, (number, site, PLAIN, most)).fetchall()
    if rows and rows[-1][3] == FRAMES:
        rows += db.execute(_REST, (rows[-1][0] + 1,)).fetchall()
    return [*_joined(rows)]


def replayed(db: sqlite3.Connection, sources: Sources, site: str, after: int) -> Iterator[tuple[int, float, list[AnyInput]]]:
    """Yield what a site was given behind an input number, as `Journal.replay`."""
    while entries := stored_after(db, after, _REPLAYED, site):
        for number, _, at, inputs, plain in entries:
            own = inputs if plain is None else given(number, at, plain, sources, {site}).get(site)
            if own:
                yield number, at, own
        after = entries[-1].number


def all_replayed(
    db: sqlite3.Connection, sources: Sources, after: Mapping[str, int], newest: int
) -> Iterator[tuple[int, str, float, list[AnyInput]]]:
    """Yield what sites were given, each behind its own input number, as `Journal.replay_all`."""
    done, last = min(after.values(), default=newest), max(after.values(), default=0)
    while entries := stored_after(db, done, _REPLAYED):
        for number, site, at, inputs, plain in entries:
            if plain is not None:
                sites = after if number > last else {one for one, known in after.items() if number > known}
                for one, frames in given(number, at, plain, sources, sites).items():
                    yield number, one, at, frames
            elif number > after.get(site, number):
                yield number, site, at, inputs
        done = entries[-1].number


def plans_at(db: sqlite3.Connection, number: int, site: str | None = None) -> list[tuple[str, float, PlanReceived]]:
    """Return site, time and input of the plans given up to an input number, to all sites or to one: the newest, or more."""
    rows = db.execute(_PLANS, {"upto": number, "site": site}).fetchall()
    inputs = [(one, at, _inputs.decode(zlib.decompress(body))) for one, at, body in rows]
    return [(one, at, item) for one, at, items in inputs for item in items if isinstance(item, PlanReceived)]


def beginning(db: sqlite3.Connection, site: str) -> tuple[int, list[tuple[float, AnyInput]]]:
    """Return where a replay without a snapshot begins, as `Journal.beginning`."""
    pruned = db.execute("SELECT min(input) FROM snapshot WHERE site = ? HAVING count(*) > 1", (site,)).fetchone()
    number = 0 if pruned is None else min(int(pruned[0]), sink_cursor(db, "store"))
    return number, [(at, plan) for _, at, plan in plans_at(db, number, site)]


class JournalReader:
    """A connection of its own for the thread of the sinks; it sees every finished commit and never holds the writer up.

    Every method reads in one go: a reading left open would keep the writer's log from starting over.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            message = f"there is no journal {path} to read: its writer, the gateway, must have opened it first"
            raise sqlite3.OperationalError(message)
        uri = f"{path.resolve().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        self.sources = Sources(self._db)

    def inputs_after(self, number: int, most: int) -> list[Stored]:
        """Return up to `most` entries behind an input number, of all sites, in the order they were committed."""
        return stored_after(self._db, number, most)

    def plans_at(self, number: int) -> list[tuple[str, float, Plan]]:
        """Return site, time and plan of what was given up to an input number: of every site the newest version, or more."""
        return [(site, at, item.plan) for site, at, item in plans_at(self._db, number)]

    def oldest_event(self, site: str) -> int:
        """Return the number of the oldest event of a site that is still there, 1 before the first."""
        return int(self._db.execute("SELECT ifnull(min(seq), 1) FROM event WHERE site = ?", (site,)).fetchone()[0])

    def events_after(self, site: str, seq: int, most: int) -> list[tuple[int, AnyEvent]]:
        """Return up to `most` events of a site behind a sequence number, each with its own."""
        sql = "SELECT seq, body FROM event WHERE site = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [(seq, decode_event(body)) for seq, body in self._db.execute(sql, (site, seq, most)).fetchall()]

    def all_events_after(self, n: int, most: int) -> list[tuple[int, AnyEvent]]:
        """Return up to `most` events of all sites behind a place in the file, each with its own place."""
        rows = self._db.execute("SELECT n, body FROM event WHERE n > ? ORDER BY n LIMIT ?", (n, most)).fetchall()
        return [(place, decode_event(body)) for place, body in rows]

    def newest_event(self) -> int:
        """Return the place of the newest event in the file, 0 before the first."""
        return int(self._db.execute("SELECT ifnull(max(n), 0) FROM event").fetchone()[0])

    def waiting_since(self, number: int) -> float | None:
        """Return the time of the oldest input behind a number, Unix seconds, None when there is none."""
        at = self._db.execute("SELECT at FROM input WHERE id > ? ORDER BY id LIMIT 1", (number,)).fetchone()
        return None if at is None else float(at[0])

    def close(self) -> None:
        """Close the connection."""
        self._db.close()


def _unsqueezed(row: _Row) -> list[AnyInput]:
    return _inputs.decode(zlib.decompress(row[5]))


def _joined(rows: Sequence[_Row]) -> Iterator[Stored]:
    """Yield the entries that rows were made of; an entry whose frames the cap has taken keeps the rest."""
    frames: _Row | None = None
    plain = all_plain([(row[0], row[5]) for row in rows if row[3] == PLAIN])
    for row in rows:
        number, site, at, kind, places, _ = row
        of_this = frames is not None and places is not None and frames[0] == number - 1
        if frames is not None and not of_this:
            yield Stored(frames[0], frames[1], frames[2], _unsqueezed(frames))
        if kind == FRAMES:
            frames = row
            continue
        if kind == PLAIN:
            frames = None
            yield Stored(number, site, at, [], plain.get(number))
            continue
        inputs = _unsqueezed(row)
        if of_this and frames is not None and places is not None:
            inputs = _between(_unsqueezed(frames), inputs, _places.decode(places))
        frames = None
        yield Stored(number, site, at, inputs)
    if frames is not None:
        yield Stored(frames[0], frames[1], frames[2], _unsqueezed(frames))


def _between(frames: list[AnyInput], others: list[AnyInput], places: list[int]) -> list[AnyInput]:
    """Put every other input back behind as many frames as came before it."""
    whole, done = list[AnyInput](), 0
    for item, place in zip(others, places, strict=True):
        whole += [*frames[done:place], item]
        done = place
    return whole + frames[done:]
