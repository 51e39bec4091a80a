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
from typing import NamedTuple

import msgspec

from gateway.host import SiteHost
from gateway.journal import Entry, PlainEntry
from gateway.rounds import MOST_CHANNELS, Numbers, Round, Seat
from manway import air
from manway.codec_mqtt import REPLAY_AFTER_S
from manway.gas import GasRows
from manway.ids import Status
from manway.plain import Source
from manway.runtime.ports import Message
from manway.site import InstrumentWatch

# (choice) that one device may end in a step; a round of a few frames costs more than the ordinary way, so its flood goes there.
_MOST_ROUNDS = 16
_MOST_WAYS = 8  # (choice) sets of channels that one boot of an instrument may name and use the lane
_UNSEEN = -1  # the version of an engine that the lane has not seen an instrument under
_HAIR_S = 0.001  # what rounding might call late goes the ordinary way, which says whether it is
_PROMPT_S = REPLAY_AFTER_S - _HAIR_S  # what is not older is in time, however its clock stands

_decode = msgspec.json.Decoder(Numbers).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


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
        self._seat_below: dict[tuple[str, ...], str] = {}  # what all topics of a device begin with -> the topic of its seat
        self._known: dict[tuple[str, str], list[Source]] = {}  # of the newest boot of every site's device
        self._spoke: dict[str, tuple[int, list[str]]] = {}  # number and channels of what came the ordinary way last, by topic
        self._new: list[Source] = []
        self._turn = 0

    def seat(self, topic: str, host: SiteHost, device: str) -> None:
        """Let the next frame under this topic use the lane, if it is like the one before it, which went the ordinary way."""
        watch, birth = host.engine.site.instruments.get(device), host.birth_in_use(device)
        if watch is None or birth is None or watch.frame is None:
            return
        frame, readings, known = watch.frame, watch.frame.readings, self._seats.get(topic)
        if known is not None and known.names == [*readings]:
            return
        before, self._spoke[topic] = self._spoke.get(topic), (frame.seq, [*readings])
        if known is not None and before != (frame.seq - 1, [*readings]):
            return  # it says more, or less, than it does: nothing new before it has done so twice
        if not (watch.frame.boot == watch.ledger.boot == birth.b) or not watch.rows.keys() <= readings.keys():
            return
        if not 0 < len(readings) <= MOST_CHANNELS or any(reading.status is not Status.OK for reading in readings.values()):
            return
        source = self._source(host.site, device, birth.b, tuple(readings))
        if source is None:
            return
        self._seats[topic] = self._seat_of[host.site, device] = Seat(host, watch, birth, source)
        self._seat_below[_device_of(topic)] = topic

    def _source(self, site: str, device: str, boot: int, channels: tuple[str, ...]) -> Source | None:
        """Return the source of these frames, one as long as the boot lasts; None for a device that speaks in too many ways."""
        known = [source for source in self._known.get((site, device), ()) if source.boot == boot]
        if source := next((source for source in known if source.channels == channels), None):
            return source
        if len(known) >= _MOST_WAYS:
            return None
        self._sources += 1
        source = Source(self._sources, site, device, boot, channels)
        self._known[site, device] = [*known, source]
        self._new.append(source)
        return source

    def take(self, messages: Sequence[Message], now: float) -> Taken:
        """Judge the plain frames of what arrived at `now`, Unix seconds; no deadline of any site may be due."""
        taken, one, rest = Taken([], [], Counter(), set()), Round(), list[int]()
        find, decode, ended = self._seats.get, _decode, Counter[Seat]()  # once here, not once a message
        self._turn = turn = began = self._turn + 1
        for place, message in enumerate(messages):
            seat = find(message.topic)
            if seat is None or message.retained:
                rest.append(place)
                self._bar(message.topic)
                continue
            if seat.turn == turn and seat.barred < began:  # its second: what it says next is judged behind what it said before
                ended[seat] += 1
                if ended[seat] > _MOST_ROUNDS:
                    rest.append(place)
                    seat.barred = turn
                    continue
                rest += self._judge(one, now, taken)
                one = Round()
                self._turn = turn = turn + 1
            if seat.barred >= began or (seat.version != seat.engine.version and not self._look(message.topic, seat)):
                rest.append(place)  # behind something of its device that was given back, whatever it was; or it is so itself
                continue
            try:
                said = decode(message.payload)
            except _UNREADABLE:
                said = None
            if said is None or not (
                said.s == seat.ledger.highest + 1
                and said.b == seat.boot
                and [*said.v] == seat.names
                and (seat.slow_s <= now - said.t / 1000 < _PROMPT_S or _in_time(seat, said, now))
            ):
                rest.append(place)
                seat.barred = turn
                continue
            seat.turn = turn
            one.places.append(place)
            one.seats.append(seat)
            one.seqs.append(said.s)
            one.times.append(said.t)
            one.values += chain.from_iterable(said.v.values())
        rest += self._judge(one, now, taken)
        taken.rest.extend([messages[place] for place in sorted(rest)])
        return taken

    def _bar(self, topic: str) -> None:
        """Give back what a device says behind this: its birth, for one, may have changed how its frames are read."""
        seat = self._seats.get(self._seat_below.get(_device_of(topic), ""))
        if seat is not None:
            seat.barred = self._turn

    def _look(self, topic: str, seat: Seat) -> bool:
        """See again what is so of an instrument: its site was judged since; say whether its next frame is read as its last."""
        host, site, watch = seat.host, seat.engine.site, seat.watch
        seat.version = seat.engine.version
        same = site.instruments.get(seat.device) is watch and host.birth_in_use(seat.device) is seat.birth
        if not same or seat.ledger is not watch.ledger or seat.ledger.boot != seat.boot:
            del self._seats[topic]  # its next frame goes the ordinary way, and the one behind it has a new seat
            return False
        seat.slow_s = host.least_delay(seat.device, seat.boot)
        seat.quiet = air.BESIDE.isdisjoint(seat.names) and air.quiet(site, watch)
        return True

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


def _device_of(topic: str) -> tuple[str, ...]:
    """Return what all topics of a device begin with: root, version, shard, site, "dev", device (`manway/topics.py`)."""
    return tuple(topic.split("/", 6)[:6])


def _in_time(seat: Seat, said: Numbers, now: float) -> bool:
    """Say whether a frame is no replay, by how far its clock is behind at least; a lesser delay is remembered."""
    delay_s = now - said.t / 1000
    if delay_s < seat.slow_s:
        seat.slow_s = seat.host.least_delay(seat.device, seat.boot, delay_s)
    return delay_s - max(0.0, seat.slow_s) < _PROMPT_S
