"""Frames as columns, and one round of them: no instrument comes twice, they are judged together, one row of the journal."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import count
from typing import NamedTuple

import numpy as np

from gateway.seats import NO_LIMITS, Seats
from manway.gas import GasRows
from manway.gas_columns import Flags, Floats, Indices
from manway.plain import Plain


class Frames(NamedTuple):
    """Frames as columns of shape (frame,), in the order they came.

    `message` is the place of each in what arrived, `place` that of its instrument among the seats, `turn` how many frames of
    that one came before; `ts` is the device's time (ms since 1970). `width` numbers of each stand in `values`, all behind each
    other; they belong into `cells` of the seats' columns.
    """

    message: Indices
    place: Indices
    turn: Indices
    seq: Indices
    ts: Indices
    width: Indices
    values: Floats
    cells: Indices

    def chosen(self, some: Flags) -> "Frames":
        """Return those frames that are flagged."""
        of = np.repeat(some, self.width)
        message, place, turn = self.message[some], self.place[some], self.turn[some]
        seq, ts, width = self.seq[some], self.ts[some], self.width[some]
        return Frames(message, place, turn, seq, ts, width, self.values[of], self.cells[of])

    def rounds(self) -> Iterator["Frames"]:
        """Yield them by their turns."""
        turns = set(self.turn.tolist())
        for turn in sorted(turns):
            yield self.chosen(self.turn == turn) if len(turns) > 1 else self

    def all_of(self, flags: Flags) -> Flags:
        """Say of which frames every number is flagged."""
        if all_true(flags):  # as nearly always
            return np.ones(len(self.width), np.bool_)
        found: Flags = np.logical_and.reduceat(flags, self.width.cumsum() - self.width)
        return found

    def without_followers(self, good: Flags) -> Flags:
        """Flag the good frames that no other of their instrument comes before."""
        if all_true(good):
            return good
        ended = np.full(int(self.place.max()) + 1, len(self.place))
        np.minimum.at(ended, self.place[~good], self.turn[~good])
        return self.turn < ended[self.place]


def turns(place: Sequence[int]) -> Sequence[int]:
    """Return how many of the same place came before each."""
    if len(set(place)) == len(place):
        return [0] * len(place)
    counts = defaultdict[int, Iterator[int]](count)
    return [next(counts[one]) for one in place]


def all_true(flags: Flags) -> bool:
    """Say what `flags.all()` does, several times sooner where there are few."""
    return int(np.count_nonzero(flags)) == len(flags)


class Round(NamedTuple):
    """What came of a round: the rows whose status is another, those that were noticed, who must be heard, by their places."""

    other: set[int]
    noticed: set[int]
    heard: list[int]


def judged(one: Frames, seats: Seats, gas: GasRows, now: float) -> Round:
    """Take frames of `now`, Unix seconds, each possible and its instrument's next, into columns and rows."""
    rows, values = seats.row[one.cells], one.values
    limited: Flags | slice = slice(None)
    if NO_LIMITS in rows:
        limited = rows != NO_LIMITS
        rows, values = rows[limited], values[limited]
    calm = gas.would_stay_calm(rows, values, now)
    seats.heard.take(one.place, one.seq, one.ts, one.cells, one.values, now)
    seats.next[one.place] = one.seq + 1
    quiet = seats.quiet[one.place]
    if all_true(calm):
        gas.note(rows, values, now)
        return Round(set(), set(), one.place[~quiet].tolist())
    gas.note(rows[calm], values[calm], now)
    moving = rows[~calm]
    other, noticed = gas.judge(moving, values[~calm], now)
    others, seen = set(moving[other].tolist()), set(moving[noticed].tolist())
    still = np.ones(len(one.cells), np.bool_)
    still[limited] = calm
    return Round(others, seen, _heard(one, seats, quiet, one.all_of(still), others | seen))


def _heard(one: Frames, seats: Seats, quiet: Flags, still: Flags, flagged: AbstractSet[int]) -> list[int]:
    """Return the places of instruments whose frames may mean more than their numbers, in the order of the frames."""
    ends, heard = one.width.cumsum(), list[int]()
    for i in (~(quiet & still)).nonzero()[0].tolist():
        place = one.place.item(i)
        seat, end = seats[place], ends.item(i)
        numbers = one.values[end - len(seat.names) : end]
        if not quiet[i] or not flagged.isdisjoint(seat.rows) or seat.sours(numbers):
            heard.append(place)
    return heard


def columns(one: Frames, seats: Seats) -> Plain:
    """Return the frames of a round as the journal keeps them."""
    return Plain(seats.number[one.place], one.seq.astype(np.uint32), one.ts, one.width.astype(np.uint8), one.values)
