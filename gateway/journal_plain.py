"""Rows of plain frames in a journal: whose frames they are, how they become inputs again, and when they may go."""

import sqlite3
import zlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import structlog

from gateway.journal_rows import PLAIN
from manway.inputs import AnyInput, FrameReceived
from manway.plain import Plain, Source, unpacked, unpacked_all

_log = structlog.get_logger("journal")
_REMEMBERED = 100_000  # (choice) sources; a city has 12,000, and each of its instruments may begin a new boot every day

_SOURCES_BEHIND = "SELECT number, site, device, boot, channels FROM source WHERE number > ? ORDER BY number"
_SOURCE = "SELECT number, site, device, boot, channels FROM source WHERE number = ?"
# Of every site with sources: behind which row it may need rows of plain frames, and up to which they may hold frames of it.
_NEEDED = """
WITH bound(site, behind) AS MATERIALIZED (SELECT site, min(input) FROM snapshot GROUP BY site HAVING count(*) > 1),
heard(site, upto) AS (SELECT site, max(ifnull(until, :ever)) FROM source GROUP BY site)
SELECT ifnull(behind, 0) AS behind, upto FROM heard LEFT JOIN bound ON bound.site = heard.site
WHERE upto > ifnull(behind, 0) ORDER BY behind"""
_EVER = 2**63 - 1
_PRUNE = """
DELETE FROM input WHERE id IN (
  SELECT id FROM input WHERE id > :behind AND id <= :upto AND kind = :kind ORDER BY id LIMIT :most)"""
_PRUNE_SOURCES = """
DELETE FROM source WHERE number IN (SELECT number FROM source WHERE since >= :behind AND until <= :upto LIMIT :most)"""

_channels = msgspec.json.Decoder(tuple[str, ...])


_UNREADABLE = (ValueError, IndexError, zlib.error)


class Sources(Mapping[int, Source]):
    """The sources in a journal's file by their numbers, read when they are first asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, Source] = {}
        self._newest = 0

    def __getitem__(self, number: int) -> Source:
        """Return a source; KeyError: it is not in the file."""
        known = self._known.get(number)
        return self._read(number) if known is None else known

    def __iter__(self) -> Iterator[int]:
        return iter([row[0] for row in self._db.execute("SELECT number FROM source ORDER BY number").fetchall()])

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM source").fetchone()[0])

    def _read(self, number: int) -> Source:
        """Read all that are new since the last time, and an old one that was forgotten."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        rows = self._db.execute(_SOURCES_BEHIND, (self._newest,)).fetchall()
        self._newest = max([self._newest, *(row[0] for row in rows)])
        if all(row[0] != number for row in rows):
            rows += self._db.execute(_SOURCE, (number,)).fetchall()
        for one, site, device, boot, channels in rows:
            self._known[one] = Source(one, site, device, boot, _channels.decode(channels))
        return self._known[number]


def all_plain(rows: Sequence[tuple[int, bytes]]) -> dict[int, Plain]:
    """Return the columns of many rows by their numbers: together they cost a tenth of one after the other, if they are small.

    A row that is damaged is not among them, and is logged: its frames are missing from now on, and the ledger says so.
    """
    try:
        found = unpacked_all([body for _, body in rows])
    except _UNREADABLE:
        return {number: plain for number, body in rows if (plain := _plain_of(number, body)) is not None}
    return {number: plain for (number, _), plain in zip(rows, found, strict=True)}


def _plain_of(number: int, body: bytes) -> Plain | None:
    try:
        return unpacked(body)
    except _UNREADABLE as error:
        _say_damaged(number, error)
        return None


def given(number: int, at: float, plain: Plain, sources: Sources, sites: Container[str]) -> dict[str, list[AnyInput]]:
    """Return what a row gave to the engines of some sites, each in its order; what cannot be read is logged, and missing."""
    found = dict[str, list[AnyInput]]()
    try:
        here = [one for one in np.unique(plain.source).tolist() if sources[one].site in sites]
        for source, frame in _only(plain, here).frames(at, sources) if here else ():
            found.setdefault(source.site, []).append(FrameReceived(frame))
    except (KeyError, ValueError, IndexError) as error:
        _say_damaged(number, error)
        return {}
    return found


def counted(number: int, body: bytes, sources: Sources) -> dict[str, int]:
    """Return how many frames of each site a row holds; of a damaged one nobody knows, and it is logged."""
    frames = Counter[str]()
    plain = _plain_of(number, body)
    numbers, counts = np.unique(() if plain is None else plain.source, return_counts=True)
    for one, count in zip(numbers.tolist(), counts.tolist(), strict=True):
        try:
            frames[sources[one].site] += count
        except KeyError as error:
            _say_damaged(number, error)
    return frames


def prune_sources(db: sqlite3.Connection) -> None:
    """Delete every source that has ended and that no row is left to name; no row is younger than its source's end."""
    oldest = db.execute("SELECT id FROM input WHERE kind = ? ORDER BY id LIMIT 1", (PLAIN,)).fetchone()
    db.execute("DELETE FROM source WHERE until < ?", (oldest[0] if oldest else _EVER,))


def prune_plain(db: sqlite3.Connection, stored: int, most: int) -> int:
    """Delete up to `most` rows of plain frames, and sources that no row names, which nobody needs any more; return how many.

    A row goes once the store has passed it, `stored`, and so has the older snapshot of every site that may have frames in it; a
    source once every row that may name it is one of those.
    """
    needed = db.execute(_NEEDED, {"ever": _EVER}).fetchall()
    gone = behind = 0
    for first, upto in [*needed, (stored, _EVER)]:
        if behind < min(first, stored) and gone < most:
            span = {"behind": behind, "upto": min(first, stored), "kind": PLAIN}
            gone += db.execute(_PRUNE, span | {"most": most - gone}).rowcount
            if gone < most:  # no row is left between the two
                gone += db.execute(_PRUNE_SOURCES, span | {"most": most - gone}).rowcount
        behind = max(behind, upto)
    return gone


def _only(plain: Plain, numbers: list[int]) -> Plain:
    """Return the frames of some sources, in their order."""
    here = np.isin(plain.source, numbers)
    values = plain.values[np.repeat(here, plain.width)]
    return Plain(plain.source[here], plain.seq[here], plain.ts[here], plain.width[here], values)


def _say_damaged(number: int, error: Exception) -> None:
    _log.error("row of plain frames damaged", input=number, reason=repr(error))
