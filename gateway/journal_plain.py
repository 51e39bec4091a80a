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
_PRUNE_SOURCES = "DELETE FROM source WHERE number IN (SELECT number FROM source WHERE until <= ? LIMIT ?)"

_channels = msgspec.json.Decoder(tuple[str, ...])


class _Damaged(sqlite3.DatabaseError):
    """A row of plain frames cannot be read."""


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


def plain_of(number: int, body: bytes) -> Plain:
    """Return the columns of a row; raises sqlite3.DatabaseError: it is damaged."""
    try:
        return unpacked(body)
    except (ValueError, IndexError, zlib.error) as error:
        raise _damaged(number, error) from error


def all_plain(rows: Sequence[tuple[int, bytes]]) -> dict[int, Plain]:
    """Return the columns of many rows by their numbers: together they cost a tenth of one after the other, if they are small.

    Raises:
        sqlite3.DatabaseError: one of them is damaged.
    """
    try:
        found = unpacked_all([body for _, body in rows])
    except (ValueError, zlib.error):
        return {number: plain_of(number, body) for number, body in rows}  # says which
    return {number: plain for (number, _), plain in zip(rows, found, strict=True)}


def given(number: int, at: float, plain: Plain, sources: Sources, sites: Container[str]) -> dict[str, list[AnyInput]]:
    """Return what a row gave to the engines of some sites, each in its order.

    Raises:
        sqlite3.DatabaseError: the row is damaged, or a source it names is not there.
    """
    found = dict[str, list[AnyInput]]()
    try:
        here = [one for one in np.unique(plain.source).tolist() if sources[one].site in sites]
        for source, frame in _only(plain, here).frames(at, sources) if here else ():
            found.setdefault(source.site, []).append(FrameReceived(frame))
    except (KeyError, ValueError, IndexError) as error:
        raise _damaged(number, error) from error
    return found


def counted(number: int, body: bytes, sources: Sources) -> dict[str, int]:
    """Return how many frames of each site a row holds; of a damaged one nobody knows, and it is logged."""
    frames = Counter[str]()
    try:
        numbers, counts = np.unique(plain_of(number, body).source, return_counts=True)
        for one, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            frames[sources[one].site] += count
    except (KeyError, _Damaged) as error:
        _log.error("row of plain frames damaged", input=number, reason=str(error))
    return frames


def prune_plain(db: sqlite3.Connection, stored: int, most: int) -> int:
    """Delete up to `most` rows of plain frames that nobody needs any more, and sources no row names; return how many rows went.

    A row goes once the store has passed it, `stored`, and so has the older snapshot of every site that may have frames in it.
    """
    needed = db.execute(_NEEDED, {"ever": _EVER}).fetchall()
    gone = behind = 0
    for first, upto in [*needed, (stored, _EVER)]:
        if behind < min(first, stored) and gone < most:
            span = {"behind": behind, "upto": min(first, stored), "kind": PLAIN, "most": most - gone}
            gone += db.execute(_PRUNE, span).rowcount
        behind = max(behind, upto)
    if gone < most:  # no row is left up to where the first of them is needed
        db.execute(_PRUNE_SOURCES, (min([stored, *(first for first, _ in needed)]), most))
    return gone


def _only(plain: Plain, numbers: list[int]) -> Plain:
    """Return the frames of some sources, in their order."""
    here = np.isin(plain.source, numbers)
    values = plain.values[np.repeat(here, plain.width)]
    return Plain(plain.source[here], plain.seq[here], plain.ts[here], plain.width[here], values)


def _damaged(number: int, error: Exception) -> _Damaged:
    return _Damaged(f"the row of plain frames {number} of the journal is damaged: {error!r}")
