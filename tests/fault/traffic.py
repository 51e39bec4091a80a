"""Both ends of a crash rig: instruments that know what the broker acknowledged to them, and a recorder beside the gateway."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import cycle

import msgspec
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from manway.codec_mqtt import (
    Acknowledgement,
    ChannelBirth,
    DeviceState,
    EventBatch,
    GasFrames,
    Heartbeat,
    SiteState,
    decode,
    encode,
)
from manway.events import AnyEvent
from manway.topics import device_topic, root
from tests.fault.children import wait_for
from tests.fault.installation import GASES, LOGIN, SITE, Installation

_RANGES = {"O2": (0.0, 30.0), "LEL": (0.0, 100.0), "H2S": (0.0, 100.0), "CO": (0.0, 500.0)}
LAST_WORD = "CO"  # the sensor that fails in every instrument's last frame: an event that ends the run
OVER_PPM = 50.0  # H2S: above the low and the high limit of every profile, below the end of the range
_BIRTH = {gas: ChannelBirth(GASES[gas], _RANGES[gas], 0.1) for gas in GASES}


def client(name: str, port: int) -> paho.Client:
    """Return a durable MQTT 3.1.1 session, not yet connected, that comes back at once after every cut."""
    one = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=False, protocol=paho.MQTTv311)
    one.username_pw_set(*LOGIN)
    one.reconnect_delay_set(1, 1)
    one.max_inflight_messages_set(1_000)
    one.max_queued_messages_set(0)
    one.connect_async("127.0.0.1", port, 60)  # whoever cuts us closes the connection; a busy machine is no cut
    return one


class Sent(msgspec.Struct, frozen=True):
    """One frame that left an instrument."""

    seq: int
    ts: int
    h2s: float
    fault: str  # the channel that reports a fault instead of a number, "" none


class Publisher:
    """All instruments over one connection, taking turns, `rate` frames a second, QoS 1.

    `over` says which instruments read `OVER_PPM` from which moment on (seconds after the start); the others breathe clean air.
    """

    def __init__(self, port: int, devices: Sequence[str], *, rate: float, over: dict[str, float]) -> None:
        self.devices, self.sent = list(devices), defaultdict[str, list[Sent]](list)
        self.began = time.time()
        self._rate, self._over = rate, over
        self._boot = {device: 1_000 + number for number, device in enumerate(devices)}
        self._client = client("rig-devices", port)
        self._pubacks = deque[int]()
        # paho's own tokens call a message failed that was queued between two connections; its callback tells the truth.
        self._client.on_publish = lambda _client, _user, mid, *_: self._pubacks.append(mid)
        self._flying: dict[int, tuple[str, int]] = {}  # packet id -> instrument, sequence number; 0 is a birth
        self._acknowledged = defaultdict[str, set[int]](set)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Connect, say every birth, wait until the broker has them, and begin to send."""
        self._client.loop_start()
        for device in self.devices:
            state = DeviceState(self._boot[device], online=True, model="rig", fw="1", serial=device, ch=_BIRTH)
            self._publish(device, 0, "state", encode(state), retain=True)
        self._all_acknowledged(30.0)
        self.began = time.time()
        self._thread.start()

    def _run(self) -> None:
        at = time.monotonic()
        for device in cycle(self.devices):
            at += 1 / self._rate
            if self._stop.wait(max(0.0, at - time.monotonic())):
                return
            self.send(device)

    def burst(self, count: int) -> None:
        """Send `count` frames at once, beside the steady ones."""
        for device, _ in zip(cycle(self.devices), range(count), strict=False):
            self.send(device)

    def send(self, device: str, *, fault: str = "") -> None:
        """Send an instrument's next frame, with a sensor that reports a fault where one is named."""
        with self._lock:
            before, now = self.sent[device], time.time()
            seq = len(before) + 1
            ts = max(int(now * 1000), before[-1].ts + 1 if before else 0)
            h2s = OVER_PPM if now - self.began >= self._over.get(device, float("inf")) else 0.0
            wave = 0.1 * (seq % 2)
            values: dict[str, list[float | None]] = {"O2": [20.9], "LEL": [wave], "H2S": [h2s], "CO": [wave]}
            if fault:
                values[fault] = [None]
            statuses = {fault: ["fault"]} if fault else {}
            frame = GasFrames(self._boot[device], seq, ts - int(self.began * 1000) + 10_000, values, ts, [], statuses)
            before.append(Sent(seq, ts, h2s, fault))
            self._publish(device, seq, "gas", encode(frame))

    def _publish(self, device: str, seq: int, name: str, payload: bytes, *, retain: bool = False) -> None:
        self._settle()  # packet ids are used again after 65,535
        self._flying[self._client.publish(device_topic(SITE, device, name), payload, 1, retain).mid] = device, seq

    def _settle(self) -> None:
        while self._pubacks:
            device, seq = self._flying.pop(self._pubacks.popleft())
            self._acknowledged[device].add(seq)

    @property
    def count(self) -> int:
        return sum(map(len, self.sent.values()))

    def finish(self, within_s: float = 60.0) -> None:
        """Send every instrument's last frame and wait until the broker has acknowledged everything."""
        self.pause()
        for device in self.devices:
            self.send(device, fault=LAST_WORD)
        self._all_acknowledged(within_s)

    def _all_acknowledged(self, within_s: float) -> None:
        until = time.monotonic() + within_s
        while self._flying:
            with self._lock:
                self._settle()
            assert time.monotonic() < until, f"{len(self._flying)} frames are without acknowledgement after {within_s:.0f} s"
            time.sleep(0.01)

    def pause(self) -> None:
        """Send no more by itself."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        self.pause()
        self._client.disconnect()
        self._client.loop_stop()

    def acknowledged(self, device: str) -> set[int]:
        """The sequence numbers the broker has acknowledged to this instrument."""
        with self._lock:
            self._settle()
            return self._acknowledged[device] - {0}


class Recorder:
    """Subscribed directly at the broker: what the gateway says, and what the api acknowledges."""

    def __init__(self, port: int) -> None:
        self._heard = deque[tuple[float, str, bytes]]()
        self._client = client("rig-recorder", port)
        self._subscribed = threading.Event()
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _user, one: self._heard.append((time.time(), one.topic, bytes(one.payload)))
        self.events: dict[tuple[str, int], AnyEvent] = {}  # (journal, sequence) -> event
        self.forked: list[tuple[str, int]] = []  # the same number for two events
        self.jumped: list[tuple[str, int]] = []  # a number before the one it follows
        self.acknowledged: dict[str, int] = defaultdict(int)
        self.picture: SiteState | None = None
        self.heard_at = {"gateway": 0.0, "api": 0.0}
        self.unsent = -1
        self._highest: dict[str, int] = defaultdict(int)

    def start(self) -> None:
        self._client.loop_start()
        assert self._subscribed.wait(20), "the recorder is subscribed"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, one: paho.Client, *_: object) -> None:
        one.subscribe([(f"{root(SITE)}gw/+", 1), (f"{root(SITE)}api/ack", 0), (f"{root(SITE)}api/heartbeat", 0)])

    def has_plan(self) -> bool:
        """Tell whether the gateway works by a plan: what it hears before that it stores and does not judge."""
        self.catch_up()
        return self.picture is not None and self.picture.plan_version > 0

    def catch_up(self) -> None:
        """Read what has been heard since the last call."""
        while self._heard:
            at, topic, payload = self._heard.popleft()
            name = topic.removeprefix(root(SITE))
            if name == "gw/event":
                self._take_events(decode(payload, EventBatch, topic))
            elif name == "gw/state":
                self.picture = decode(payload, SiteState, topic)
            elif name == "gw/heartbeat":
                self._take_heartbeat(at, payload)
            elif name == "api/heartbeat":
                self.heard_at["api"] = at
            elif name == "api/ack":
                ack = decode(payload, Acknowledgement, topic)
                self.acknowledged[ack.jid] = max(self.acknowledged[ack.jid], ack.seq)

    def _take_heartbeat(self, at: float, payload: bytes) -> None:
        beat = decode(payload, Heartbeat, "gw/heartbeat")
        if not beat.down:
            self.heard_at["gateway"] = at
            self.unsent = beat.unsent

    def _take_events(self, batch: EventBatch) -> None:
        if batch.first > self._highest[batch.jid] + 1:
            self.jumped.append((batch.jid, batch.first))
        for seq, event in enumerate(batch.e, batch.first):
            known = self.events.setdefault((batch.jid, seq), event)
            if known.id != event.id:
                self.forked.append((batch.jid, seq))
            self._highest[batch.jid] = max(self._highest[batch.jid], seq)


def begin(place: Installation, publisher: Publisher, recorder: Recorder) -> None:
    """Start a whole installation, and the load once the gateway knows its instruments."""
    place.start(recorder.start)
    wait_for(recorder.has_plan, "the gateway has its plan")
    publisher.start()
