"""The load and the ear: sends a fleet's messages, hears the alarms, and answers a gateway as the api would.

One thread, one selector. In the rate test it is never more than a window ahead of what it has heard; in paced tests it follows
the clock. Latencies are from the moment a message is handed to the socket until its alarm has been read.
"""

import selectors
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from manway.codec_mqtt import Acknowledgement, ApiHeartbeat, encode
from manway.topics import WIRE_VERSION, root
from tests.bench.fleet import KIND, Fleet, Message
from tests.bench.wire import Link, Login, publish

EVENTS = f"manway/{WIRE_VERSION}/+/+/gw/event"
ALARM_TOPIC = "bench/alarm"  # where peers publish: the device's name, nothing else
# Messages sent and not yet judged. NATS drops what exceeds `max_ack_pending` of a session and brings it 2 s later, behind what
# came after it. That is 16,000 for a session of so few filters (`broker_config`); at QoS 1 the window stays well below.
WINDOW = {0: 10_000, 1: 4_000}
_CHUNK = 200  # messages handed over at once in the rate test
_UNACKED = 20_000  # QoS 1 messages of a link without PUBACK: packet ids must not come round
_BEAT_S, _ACK_S, _PROBE_S = 1.0, 0.05, 0.5  # the api's own times: 1 s and at most 20 a second (`pipeline.md` §3)
_TICK_S = 0.001
SETTLE_S = 2.5  # after a burst: the telemetry store is filled every 2 s, and its work belongs to the messages
_SILENCE_S = 10.0  # no alarm for so long: what is missing does not come
_WAKES_WITHIN_S = 60.0
_WAKING_A_SECOND = 2_000  # slowly: what a broker had to bring again (after 2 s) would fall into the run


class Missed(Exception):
    """Something did not come in time."""


class _Fact(msgspec.Struct):
    type: str
    kind: str = ""
    object: str = ""


class _Events(msgspec.Struct):
    jid: str
    first: int
    e: list[_Fact]


_events = msgspec.json.Decoder(_Events)


class Run(msgspec.Struct, frozen=True):
    """What one run gave: seconds from the first message to the last alarm, latencies in seconds by order of sending."""

    messages: int
    seconds: float
    wanted: int
    got: int
    false: int  # alarms of instruments that were not over
    latencies: list[float]

    @property
    def exact(self) -> bool:
        """True when every alarm came, once, and no other."""
        return self.got == self.wanted and not self.false

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latencies in ms, the first tenth dropped: caches are cold there."""
        kept = self.latencies[len(self.latencies) // 10 :]
        return float(np.quantile(kept, share)) * 1000 if kept else float("nan")


class Driver:
    """Publishes for a fleet and listens; `api` true: to events of a gateway, which are acknowledged, else to `ALARM_TOPIC`."""

    def __init__(self, login: Login, fleet: Fleet, *, api: bool) -> None:
        self.heard: dict[str, float] = {}  # device -> when its alarm was read
        self.hits = 0
        self._fleet, self._api = fleet, api
        self._links = [Link(login, f"bench-{number}-{time.monotonic_ns()}") for number in range(fleet.links)]
        self._ear = Link(login, f"bench-ear-{time.monotonic_ns()}")
        self._ear.subscribe([EVENTS if api else ALARM_TOPIC], 1 if api else fleet.qos)
        self._poll = selectors.DefaultSelector()
        for link in [*self._links, self._ear]:
            link.ready()
            self._poll.register(link.socket, selectors.EVENT_READ, link)
        self._at_qos_1 = [0] * fleet.links
        self._known: dict[tuple[str, str], int] = {}  # topic root and journal -> newest event
        self._owed: set[tuple[str, str]] = set()
        self._beats, self._boot = 0, int(time.time())
        self._beat_at = self._ack_at = 0.0

    def prime(self, packets: Sequence[bytes]) -> None:
        """Publish retained messages at QoS 1 and wait until the broker has them all."""
        link = self._links[0]
        for first in range(0, len(packets), _CHUNK):
            some = packets[first : first + _CHUNK]
            self._at_qos_1[0] += len(some)
            link.send(b"".join(some))
            self._until(lambda: link.acked >= self._at_qos_1[0], _WAKES_WITHIN_S)

    def wake(self, check: Callable[[], None]) -> None:
        """Send a probe a site over the limit until each has raised its alarm, then one frame of every instrument."""
        seq, probes = 0, list(self._fleet.probes) if self._api else list(self._fleet.probes)[:1]
        end = time.perf_counter() + _WAKES_WITHIN_S
        while waiting := [probe for probe in probes if probe not in self.heard]:
            if time.perf_counter() > end:
                raise Missed(f"no alarm of {len(waiting)} probes, {waiting[0]} the first")
            seq += 1
            for probe in waiting:
                self._links[0].send(self._fleet.probe(probe, seq, time.time_ns() // 1_000_000))
            soon = time.perf_counter() + _PROBE_S
            while time.perf_counter() < soon:
                self._turn(0.05)
                check()
        if self._api:
            self.pace(self._fleet.messages(self._fleet.devices, 0), _WAKING_A_SECOND)
        self.idle(1.0)

    def idle(self, seconds: float) -> None:
        """Answer for so long, and send nothing."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._turn(0.02)

    def settle(self) -> None:
        """Wait until what a gateway does behind its alarms is done too; a peer does nothing there."""
        if self._api:
            self.idle(SETTLE_S)

    def pour(self, messages: Sequence[Message], window: int = 0) -> Run:
        """Send as fast as the alarms come back, at most `window` messages ahead of them (0: as `WINDOW`)."""
        sent_at, began, sent, told = dict[str, float](), time.perf_counter(), 0, 0
        place = {message.over: number for number, message in enumerate(messages) if message.over}
        window = window or WINDOW[self._fleet.qos]
        order = sorted(place.values())
        hits = self.hits
        while sent < len(messages):
            while told < len(order) and messages[order[told]].over in self.heard:
                told += 1
            reach = (order[told - 1] if told else 0) + window if order else len(messages)
            if sent < reach and not any(len(link.unsent) > 1 << 18 for link in self._links) and self._acked_enough():
                end = min(sent + _CHUNK, len(messages), reach)
                self._hand_over(messages[sent:end], sent_at)
                sent = end
                self._turn(0.0)
            else:
                self._turn(0.01)
                self._stuck(began, sent_at)
        return self._finish(messages, sent_at, began, hits)

    def pace(self, messages: Sequence[Message], per_s: float) -> Run:
        """Send so many a second, by the clock, whatever comes back."""
        sent_at, began, sent, hits = dict[str, float](), time.perf_counter(), 0, self.hits
        while sent < len(messages):
            due = min(len(messages), int((time.perf_counter() - began) * per_s) + 1)
            if due > sent:
                self._hand_over(messages[sent:due], sent_at)
                sent = due
            self._turn(_TICK_S)
        return self._finish(messages, sent_at, began, hits)

    def close(self) -> None:
        """End all connections."""
        self._poll.close()
        for link in [*self._links, self._ear]:
            link.close()

    # -- one turn

    def _turn(self, wait_s: float) -> None:
        for key, _ in self._poll.select(wait_s):
            link = key.data
            for one in link.take():
                self._hear(one.topic, one.payload)
        for link in [*self._links, self._ear]:
            link.flush()
        if self._api:
            self._answer(time.perf_counter())

    def _hear(self, topic: str, payload: bytes) -> None:
        now = time.perf_counter()
        if not self._api:
            self._hit(payload.decode(), now)
            return
        batch, place = _events.decode(payload), topic.removesuffix("gw/event")
        known = self._known.get((place, batch.jid), 0)
        if batch.first <= known + 1:
            for fact in batch.e[known + 1 - batch.first :]:
                if fact.type == "AlarmRaised" and fact.kind == KIND:
                    self._hit(fact.object.partition("/")[0], now)
            self._known[place, batch.jid] = max(known, batch.first + len(batch.e) - 1)
        self._owed.add((place, batch.jid))

    def _hit(self, device: str, now: float) -> None:
        if device in self._fleet.probes:
            self.heard[device] = now
            return
        self.hits += 1
        self.heard.setdefault(device, now)

    def _answer(self, now: float) -> None:
        if now >= self._ack_at and self._owed:
            self._ack_at = now + _ACK_S
            acks = [publish(f"{p}api/ack", encode(Acknowledgement(jid, self._known.get((p, jid), 0)))) for p, jid in self._owed]
            self._owed.clear()
            self._ear.send(b"".join(acks))
        if now >= self._beat_at:
            self._beat_at, self._beats = now + _BEAT_S, self._beats + 1
            beat = encode(ApiHeartbeat(self._boot, self._beats, time.time()))
            self._ear.send(b"".join(publish(f"{root(site)}api/heartbeat", beat) for site in self._fleet.sites))

    # -- one run

    def _hand_over(self, messages: Sequence[Message], sent_at: dict[str, float]) -> None:
        parts: list[list[bytes]] = [[] for _ in self._links]
        now_ms, now = b"%d" % (time.time_ns() // 1_000_000), time.perf_counter()
        for message in messages:
            parts[message.link] += (message.before, now_ms, message.after)
            self._at_qos_1[message.link] += self._fleet.qos
            if message.over:
                sent_at[message.over] = now
        for link, part in zip(self._links, parts, strict=True):
            if part:
                link.send(b"".join(part))

    def _acked_enough(self) -> bool:
        return all(sent - link.acked < _UNACKED for sent, link in zip(self._at_qos_1, self._links, strict=True))

    def _stuck(self, began: float, sent_at: dict[str, float]) -> None:
        newest = max((self.heard.get(device, began) for device in sent_at), default=began)
        if time.perf_counter() - max(newest, began) > _SILENCE_S:
            raise Missed(f"{sum(d not in self.heard for d in sent_at)} of {len(sent_at)} alarms did not come")

    def _until(self, done: Callable[[], bool], most_s: float) -> None:
        end = time.perf_counter() + most_s
        while not done():
            self._turn(0.01)
            if time.perf_counter() > end:
                raise Missed("the broker did not acknowledge what was published")

    def _finish(self, messages: Sequence[Message], sent_at: dict[str, float], began: float, hits: int) -> Run:
        quiet = time.perf_counter() + _SILENCE_S
        waiting = set(sent_at) - set(self.heard)
        while (waiting or any(link.unsent for link in self._links)) and time.perf_counter() < quiet:
            before = len(waiting)
            self._turn(0.01)
            waiting -= self.heard.keys()
            if len(waiting) < before:
                quiet = time.perf_counter() + _SILENCE_S
        ended = max((self.heard[device] for device in sent_at if device in self.heard), default=time.perf_counter())
        latencies = [self.heard[device] - at for device, at in sent_at.items() if device in self.heard]
        got = self.hits - hits
        return Run(len(messages), ended - began, len(sent_at), got, got - len(latencies), latencies)
