"""The quick way of a frame that is all numbers: from its topic into columns of all sites of a process (`manway/plain.py`).

Theory. Nearly every message is the next frame of an instrument whose last one was read under the same birth and plan, and
every channel in it is a number. The lane decodes such frames, has the rows of all sites take their numbers in one go, and has
an engine hear only of those that may mean more than their numbers. Whatever is not so plain (a fault, a hole, another boot, a
replay, a held frame) is given back untouched, and with it whatever its device says behind it, so that devices keep their order.
A restart replays what the lane took the ordinary way: both ways end in the same state.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, NamedTuple

import msgspec

from gateway.host import SiteHost
from gateway.journal import Entry, PlainEntry
from gateway.rounds import MOST_CHANNELS, Round, Seat
from manway import air
from manway.codec_mqtt import REPLAY_AFTER_S, U32, U32_MAX, Milliseconds
from manway.gas import GasRows
from manway.ids import Status
from manway.plain import Source
from manway.runtime.ports import Message
from manway.site import InstrumentWatch

_UNSEEN = -1  # the version of an engine that the lane has not seen an instrument under
_HAIR_MS = 0.5  # what rounding might call late goes the ordinary way, which says whether it is


class _Numbers(msgspec.Struct, frozen=True, gc=False):
    """`GasFrames` of one row in which every channel has a number: anything else does not decode."""

    b: U32
    s: Annotated[int, msgspec.Meta(ge=1, le=U32_MAX)]
    u: int
    v: dict[str, tuple[float]]
    t: Milliseconds = 0
    dt: list[int] = []
    q: dict[str, list[str]] = {}


_decode = msgspec.json.Decoder(_Numbers).decode


class Taken(NamedTuple):
    """What came of some messages.

    `rest` must go the ordinary way; `entries` are to be written of the others, in their order; `frames` counts them by site,
    and of the sites in `heard` something was judged.
    """

    rest: list[Message]
    entries: list[PlainEntry | Entry]
    frames: Counter[SiteHost]
    heard: set[SiteHost]


class Lane:
    """Takes the plain frames out of what arrived.

    Args:
        gas: the rows that the engines of all sites share.
        sources: the highest number a source of this journal has had.
    """

    def __init__(self, gas: GasRows, sources: int) -> None:
        self._gas, self._sources = gas, sources
        self._seats: dict[str, Seat] = {}
        self._seat_of: dict[tuple[str, str], Seat] = {}  # the same by site and device, and those that were
        self._seat_below: dict[str, str] = {}  # what all topics of a device begin with -> the topic of its seat
        self._new: list[Source] = []
        self._turn = 0

    def seat(self, topic: str, host: SiteHost, device: str) -> None:
        """Let the next frame under this topic use the lane, if it is like the one before it, which went the ordinary way."""
        watch, birth = host.engine.site.instruments.get(device), host.birth_in_use(device)
        if watch is None or birth is None or watch.frame is None:
            return
        readings, known = watch.frame.readings, self._seats.get(topic)
        if known is not None and known.names == [*readings]:
            return
        if not (watch.frame.boot == watch.ledger.boot == birth.b) or not watch.rows.keys() <= readings.keys():
            return
        if not 0 < len(readings) <= MOST_CHANNELS or any(reading.status is not Status.OK for reading in readings.values()):
            return
        self._sources += 1
        source = Source(self._sources, host.site, device, birth.b, tuple(readings))
        self._new.append(source)
        self._seats[topic] = self._seat_of[host.site, device] = Seat(self._gas, host, watch, birth, source)
        self._seat_below[_device_of(topic)] = topic

    def take(self, messages: Sequence[Message], now: float) -> Taken:
        """Judge the plain frames of what arrived at `now`, Unix seconds; no deadline of any site may be due."""
        taken, one = Taken([], [], Counter(), set()), Round()
        rest, seats, late_ms = list[int](), self._seats, (now - REPLAY_AFTER_S) * 1000 + _HAIR_MS
        self._turn = turn = began = self._turn + 1
        for place, message in enumerate(messages):
            seat = seats.get(message.topic)
            if seat is None or message.retained:
                rest.append(place)
                self._bar(message.topic)
                continue
            if seat.barred >= began:  # behind something of its device that was given back, whatever it was
                rest.append(place)
                continue
            if seat.turn == turn:  # its second: what it says next is judged behind what it said before
                rest += self._judge(one, now, taken)
                one = Round()
                self._turn = turn = turn + 1
            if seat.version != seat.engine.version:
                self._look(message.topic, seat)
            said = _plain(seat, message.payload, late_ms, now) if seat.fits and seat.barred < began else None
            if said is None:
                rest.append(place)
                seat.barred = turn
                continue
            seat.turn = turn
            one.places.append(place)
            one.seats.append(seat)
            one.seqs.append(said.s)
            one.times.append(said.t)
            one.rows += seat.rows
            one.values += chain.from_iterable(said.v.values())
        rest += self._judge(one, now, taken)
        taken.rest.extend(messages[place] for place in sorted(rest))
        return taken

    def _bar(self, topic: str) -> None:
        """Give back what a device says behind this: its birth, for one, may have changed how its frames are read."""
        seat = self._seats.get(self._seat_below.get(_device_of(topic), ""))
        if seat is not None:
            seat.barred = self._turn

    def _look(self, topic: str, seat: Seat) -> None:
        """See again what is so of an instrument: its site was judged since."""
        host, site, watch = seat.host, seat.engine.site, seat.watch
        seat.version = seat.engine.version
        same = site.instruments.get(seat.device) is watch and host.birth_in_use(seat.device) is seat.birth
        seat.fits = same and seat.ledger is watch.ledger and seat.ledger.boot == seat.boot
        if not seat.fits:
            del self._seats[topic]  # its next frame goes the ordinary way, and the one behind it has a new seat
            return
        seat.slow_s = host.least_delay(seat.device, seat.boot)
        seat.quiet = air.BESIDE.isdisjoint(seat.names) and air.quiet(site, watch)

    def _look_again(self, seat: Seat) -> None:
        """Have the lane see anew what is so of every instrument of a space that is heard: nothing else can become otherwise."""
        for watch in seat.engine.site.instruments_of(seat.watch.space):
            if (beside := self._seat_of.get((seat.host.site, watch.device))) is not None:
                beside.version = _UNSEEN

    def _judge(self, one: Round, now: float, taken: Taken) -> list[int]:
        """Take a round into the rows and the engines, what must be written of it into `taken`; return what is given back."""
        if not one.seats:
            return []
        if impossible := one.look(self._gas, now):
            for i in impossible:
                one.seats[i].barred = self._turn
            return [one.places[i] for i in impossible] + self._judge(one.without(impossible), now, taken)
        hosts = Counter([seat.host for seat in one.seats])
        for host in hosts:
            host.engine.tick(now)
            host.changed = True
        other, noticed = one.take(self._gas, now)
        new, self._new = self._new, []
        taken.entries.append(PlainEntry(now, one.columns(), new, any(host.keeps(now) for host in hosts)))
        taken.frames.update(hosts)
        heard: dict[SiteHost, list[InstrumentWatch]] = {}
        for seat in one.heard(other | noticed):
            heard.setdefault(seat.host, []).append(seat.watch)
            self._look_again(seat)
        taken.heard.update(heard)
        for host, watches in heard.items():
            if (entry := host.hear(watches, other, noticed, now)) is not None:
                taken.entries.append(entry)
        return []


def _device_of(topic: str) -> str:
    """Return what all topics of a device begin with."""
    above, _, name = topic.partition("/up/")
    return above if name else topic.rpartition("/")[0]


def _plain(seat: Seat, payload: bytes, late_ms: float, now: float) -> _Numbers | None:
    """Return what a payload says if it is an instrument's next frame, in time and all numbers; None, and it is not ours."""
    try:
        said = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    t = said.t
    if said.s != seat.ledger.highest + 1 or said.b != seat.boot or t <= 0 or said.dt or said.q or list(said.v) != seat.names:
        return None
    for channel, low, high in seat.asked:
        if not low <= said.v[channel][0] <= high:
            return None
    if (slow_s := now - t / 1000) < seat.slow_s:
        seat.slow_s = seat.host.least_delay(seat.device, seat.boot, slow_s)
    return said if t >= late_ms - (seat.slow_s * 1000 if seat.slow_s > 0 else 0.0) else None
