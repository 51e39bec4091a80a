"""The quick way of a frame that is all numbers: from its topic into columns of all sites of a process (`manway/plain.py`).

Theory. Nearly every message is the next frame of an instrument whose last one was read under the same birth and plan, and
every channel in it is a number. The lane decodes such frames into columns, looks at all of them in a few passes of arrays, has
the rows of all sites take their numbers in one go, and has an engine hear only of those that may mean more than their numbers.
Whatever is not so plain (a fault, a hole, another boot, a replay, a held frame) is given back untouched, and with it whatever
its device says behind it, so that devices keep their order. A restart replays what the lane took the ordinary way: both ways
end in the same state.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, compress, repeat
from operator import not_
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from gateway.host import SiteHost
from gateway.ingest import FINER_S
from gateway.journal import Entry, PlainEntry
from gateway.rounds import Frames, all_true, columns, judged, turns
from gateway.seats import UNSEEN, Seat, Seats
from manway.codec_mqtt import REPLAY_AFTER_S, U32, U32_MAX
from manway.gas import GasRows
from manway.gas_columns import Flags, Indices
from manway.ids import Status
from manway.plain import Source
from manway.runtime.ports import Message
from manway.site import InstrumentWatch

_MOST_CHANNELS = 255  # of a frame: its width is a byte of the columns
# (choice) that one device may have in a step; a round of a few frames costs more than the ordinary way: its flood goes there.
_MOST_ROUNDS = 16
_MOST_WAYS = 8  # (choice) sets of channels that one boot of an instrument may name and use the lane
_HAIR_S = 0.001  # what rounding might call late goes the ordinary way, which says whether it is
_PROMPT_S = REPLAY_AFTER_S - _HAIR_S  # what is not older is in time, however its clock stands
_AT_ONCE = 128  # (choice) messages that are objects at the same time: they fit into the processor's cache
_NOWHERE = -1  # the place of a topic without a seat
_NEVER = 1 << 40  # no batch has so many messages


class _Numbers(msgspec.Struct, frozen=True, gc=False):
    """`GasFrames` of one row with a time, in which every channel has a number: anything else does not decode."""

    b: U32
    s: Annotated[int, msgspec.Meta(ge=1, le=U32_MAX)]
    u: int
    t: Annotated[int, msgspec.Meta(gt=0, lt=1 << 53)]
    v: dict[str, tuple[float]]
    dt: Annotated[list[int], msgspec.Meta(max_length=0)] = []
    q: Annotated[dict[str, list[str]], msgspec.Meta(max_length=0)] = {}


_decode = msgspec.json.Decoder(_Numbers).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOTHING = _Numbers(0, 1, 0, 1, {})  # in the place of what does not decode: no instrument says it


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
        self._seats = Seats()
        self._topic_of: dict[tuple[str, str], str] = {}  # of the seat of a site's device, and of those that were
        self._topic_below: dict[tuple[str, ...], str] = {}  # what all topics of a device begin with -> the topic of its seat
        self._known: dict[tuple[str, str], list[Source]] = {}  # of the newest boot of every site's device
        self._spoke: dict[str, tuple[int, list[str]]] = {}  # number and channels of what came the ordinary way last, by topic
        self._new: list[Source] = []

    def seat(self, topic: str, host: SiteHost, device: str) -> None:
        """Let the next frame under this topic use the lane, if it is like the newest there is, which went the ordinary way."""
        watch, birth = host.engine.site.instruments.get(device), host.birth_in_use(device)
        if watch is None or birth is None or watch.frame is None:
            return
        frame, readings, place = watch.frame, watch.frame.readings, self._seats.at.get(topic)
        names = tuple(readings)
        if place is not None and self._seats.names[place] == names:
            return
        before, self._spoke[topic] = self._spoke.get(topic), (frame.seq, [*readings])
        if place is not None and before != (frame.seq - 1, [*readings]):
            return  # it says more, or less, than it does: nothing new before it has done so twice
        known = watch.rows.keys() <= readings.keys() <= birth.ch.keys()  # the newest frame may be older than the newest birth
        if not known or not (watch.frame.boot == watch.ledger.boot == birth.b):
            return
        if not 0 < len(readings) <= _MOST_CHANNELS or any(reading.status is not Status.OK for reading in readings.values()):
            return
        source = self._source(host.site, device, birth.b, names)
        if source is None:
            return
        self._seats.add(Seat(topic, host, watch, birth, source))
        self._topic_of[host.site, device] = self._topic_below[_device_of(topic)] = topic

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
        taken = Taken([], [], Counter(), set())
        places = [*map(self._seats.at.get, [message.topic for message in messages], repeat(_NOWHERE))]
        rest = [i for i, message in enumerate(messages) if places[i] < 0 or message.retained]
        if len(rest) < len(messages):
            frames, boot = self._read(messages, places, rest)
            frames = self._plain(frames, boot, self._barred(messages, places, rest), now)
            if len(frames.message) < len(messages):
                rest = [*set(range(len(messages))).difference(frames.message.tolist())]
                rest.sort()
            for one in frames.rounds():
                self._judge(one, now, taken)
        taken.rest.extend([messages[i] for i in rest])
        return taken

    def _read(self, messages: Sequence[Message], places: Sequence[int], rest: list[int]) -> tuple[Frames, Indices]:
        """Return what instruments say in the channels they always name, and the boot of each frame; all else goes to `rest`."""
        own, payloads, names = [*range(len(messages))], [message.payload for message in messages], self._seats.names
        if rest:
            left = set(rest)
            own = [i for i in own if i not in left]
            payloads, places = [payloads[i] for i in own], [places[i] for i in own]
        message, place, boot, seq, ts = list[int](), list[int](), list[int](), list[int](), list[int]()
        values = list[float]()
        for begin in range(0, len(own), _AT_ONCE):
            some, theirs = own[begin : begin + _AT_ONCE], places[begin : begin + _AT_ONCE]
            said = _decoded(payloads[begin : begin + _AT_ONCE])
            spoken, wanted = [one.v for one in said], [names[at] for at in theirs]
            if [*map(tuple, spoken)] != wanted:
                usual = [tuple(one) == name for one, name in zip(spoken, wanted, strict=True)]
                rest += compress(some, map(not_, usual))
                some, theirs = [*compress(some, usual)], [*compress(theirs, usual)]
                said, spoken = [*compress(said, usual)], [*compress(spoken, usual)]
            message += some
            place += theirs
            boot += [one.b for one in said]
            seq += [one.s for one in said]
            ts += [one.t for one in said]
            values += chain.from_iterable(chain.from_iterable([one.values() for one in spoken]))
        heard, columns = self._seats.heard, np.array((message, place, turns(place), seq, ts, boot), np.int64)
        width = heard.width[columns[1]]
        of_channels = np.array(values, np.float64), heard.cells(columns[1], width)
        return Frames(columns[0], columns[1], columns[2], columns[3], columns[4], width, *of_channels), columns[5]

    def _barred(self, messages: Sequence[Message], places: Sequence[int], rest: Sequence[int]) -> dict[int, int]:
        """Return by place of a seat from which message on what its device says is given back: behind whatever else it said.

        Its birth, for one, may have changed how its frames are read.
        """
        barred = dict[int, int]()
        for i in sorted(rest, reverse=True):
            topic = messages[i].topic
            place = places[i] if places[i] >= 0 else self._seats.at.get(self._topic_below.get(_device_of(topic), ""), _NOWHERE)
            if place >= 0:
                barred[place] = i
        return barred

    def _plain(self, frames: Frames, boot: Indices, barred: Mapping[int, int], now: float) -> Frames:
        """Return the frames that are plain, and behind no other of their instrument that is not."""
        seats, place = self._seats, frames.place
        good = boot == seats.boot[place]
        if barred:
            first = np.full(len(seats.seats), _NEVER)
            first[[*barred]] = [*barred.values()]
            good &= frames.message < first[place]
        for one in seats.unseen(place):
            if seats[one].same:
                seats.see(one)
            else:
                good &= place != one
                seats.drop(seats[one].topic)  # its next frame goes the ordinary way, and the one behind it has a new seat
        good &= frames.seq == seats.next[place] + frames.turn
        good &= frames.turn <= _MOST_ROUNDS
        good &= frames.all_of((frames.values >= seats.least[frames.cells]) & (frames.values <= seats.greatest[frames.cells]))
        good = frames.without_followers(good)
        good &= self._in_time(frames, good, now)
        good = frames.without_followers(good)
        return frames if all_true(good) else frames.chosen(good)

    def _in_time(self, frames: Frames, good: Flags, now: float) -> Flags:
        """Say which of the good frames are no replay; the least delay of a boot, how far its clock is behind, is remembered."""
        seats, place, delay_s = self._seats, frames.place, now - frames.ts / 1000
        prompt: Flags = (seats.slow[place] - FINER_S <= delay_s) & (delay_s < _PROMPT_S)
        if all_true(prompt):  # as nearly always
            return prompt
        late = set[int]()
        for i in (good & ~prompt).nonzero()[0].tolist():
            at, delay = place.item(i), delay_s.item(i)
            if at not in late:
                source = seats[at].source
                seats.slow[at] = seats[at].host.least_delay(source.device, source.boot, delay)
            if at in late or delay - max(0.0, seats.slow.item(at)) >= _PROMPT_S:
                late.add(at)
            else:
                prompt[i] = True
        return prompt

    def _judge(self, one: Frames, now: float, taken: Taken) -> None:
        """Take a round into columns, rows and engines, and what must be written of it into `taken`."""
        seats = self._seats
        if taken.heard:  # in a round before
            for place in seats.unseen(one.place):
                seats.see(place)
        counts = np.bincount(seats.host[one.place])
        hosts = {seats.hosts[i]: counts.item(i) for i in counts.nonzero()[0].tolist()}
        for host in hosts:
            host.engine.tick(now)
            host.health.woke_in_time()
            host.changed = True
        found = judged(one, seats, self._gas, now)
        new, self._new = self._new, []
        taken.entries.append(PlainEntry(now, columns(one, seats), new, any(host.keeps(now) for host in hosts)))
        taken.frames.update(hosts)
        heard: dict[SiteHost, list[InstrumentWatch]] = {}
        for place in found.heard:
            seat = seats[place]
            heard.setdefault(seat.host, []).append(seat.watch)
            self._look_again(seat)
        taken.heard.update(heard)
        for host, watches in heard.items():
            if (entry := host.hear(watches, found.other, found.noticed, now)) is not None:
                taken.entries.append(entry)

    def _look_again(self, seat: Seat) -> None:
        """Have the lane see anew what is so of every instrument of a space that is heard: nothing else can become otherwise."""
        for watch in seat.host.engine.site.instruments_of(seat.watch.space):
            place = self._seats.at.get(self._topic_of.get((seat.host.site, watch.device), ""))
            if place is not None:
                self._seats.version[place] = UNSEEN


def _decoded(payloads: Sequence[bytes]) -> list[_Numbers]:
    """Return what these say, `_NOTHING` for each that is no plain frame."""
    try:
        return [_decode(payload) for payload in payloads]
    except _UNREADABLE:
        return [_decoded([payload])[0] for payload in payloads] if len(payloads) > 1 else [_NOTHING]


def _device_of(topic: str) -> tuple[str, ...]:
    """Return what all topics of a device begin with: root, version, shard, site, "dev", device (`manway/topics.py`)."""
    return tuple(topic.split("/", 6)[:6])
