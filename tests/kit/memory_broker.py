"""The `Bus` in memory: one event loop, no threads, real or virtual time; faults on order.

What it shares with real brokers is proven by `tests/contract/test_bus.py`. It is kinder in one thing: a publication
reaches connected subscribers at once, so every order of arrival is the test's own doing.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Self

import msgspec
from paho.mqtt.client import topic_matches_sub

from manway.runtime.mqtt import MAX_BATCH, MAX_UNFINISHED, check_publication
from manway.runtime.ports import Batch, Message, Will

RECONNECT_S = 1.0  # as the real client's first delay


class _Session:
    """What the broker keeps for a client id, connected or not."""

    def __init__(self) -> None:
        self.filters: list[tuple[str, int]] = []
        self.owed: dict[int, Message] = {}  # QoS 1 without acknowledgement, oldest first
        self.bus: MemoryBus | None = None


class _Kind(Enum):
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DELAY = "delay"


class _Fault(msgspec.Struct):
    """What happens to the next `left` publications that match."""

    kind: _Kind
    filter: str
    left: int
    seconds: float = 0.0
    held: list[tuple[Message, int]] = []


class MemoryBroker:
    """A broker of MQTT's semantics: durable sessions, retained messages, wills, redelivery after a reconnect.

    `kill` and `start` make an outage: sessions, queues and retained messages survive it, as on NATS.
    """

    def __init__(self) -> None:
        self.running = True
        self.retained: dict[str, Message] = {}
        self._sessions: dict[str, _Session] = {}
        self._buses: list[MemoryBus] = []
        self._faults: list[_Fault] = []
        self._numbers = itertools.count(1)

    def bus(
        self,
        client_id: str,
        subscriptions: Sequence[tuple[str, int]] = (),
        *,
        will: Will | None = None,
        birth: Sequence[Message] = (),
    ) -> "MemoryBus":
        """Return a client; entering it connects, and takes the session over from whoever holds it."""
        return MemoryBus(self, client_id, subscriptions, will, birth)

    # ---- on order

    def drop(self, topic_filter: str, count: int = 1) -> None:
        """Lose the next matching publications for good, acknowledged to the sender all the same."""
        self._faults.append(_Fault(_Kind.DROP, topic_filter, count))

    def duplicate(self, topic_filter: str, count: int = 1) -> None:
        """Deliver the next matching publications twice."""
        self._faults.append(_Fault(_Kind.DUPLICATE, topic_filter, count))

    def reorder(self, topic_filter: str, count: int = 2) -> None:
        """Hold the next `count` matching publications and deliver them last to first."""
        self._faults.append(_Fault(_Kind.REORDER, topic_filter, count))

    def delay(self, topic_filter: str, seconds: float, count: int = 1) -> None:
        """Deliver the next matching publications that much later; what follows overtakes them."""
        self._faults.append(_Fault(_Kind.DELAY, topic_filter, count, seconds))

    def cut(self, client_id: str, for_s: float | None = RECONNECT_S) -> None:
        """End a client's connection without goodbye: its will is published; None keeps it away for good."""
        bus = self._sessions[client_id].bus
        if bus is not None:
            self.leave(bus, with_will=True)
            if for_s is None:
                self._buses.remove(bus)
            else:
                bus.retry(for_s)

    def kill(self) -> None:
        """Go down; nobody's will is published by a dead broker."""
        self.running = False
        for bus in self._buses:
            self.leave(bus, with_will=False)

    def start(self) -> None:
        """Come back; the clients return after their delay."""
        self.running = True
        for bus in self._buses:
            bus.retry(RECONNECT_S)

    # ---- for the clients

    def enter(self, bus: "MemoryBus") -> None:
        """Connect a client now, or when the broker is back."""
        self._buses.append(bus)
        bus.retry(0.0)

    def join(self, bus: "MemoryBus") -> _Session:
        """Give a client its session, what it is owed, then what is retained."""
        session = self._sessions.setdefault(bus.client_id, _Session())
        if session.bus is not None:
            self.leave(session.bus, with_will=True)
        session.bus, session.filters = bus, list(bus.subscriptions)
        for number, message in session.owed.items():
            bus.receive(number, message)
        for message in self.retained.values():
            self._deliver(session, msgspec.structs.replace(message, retained=True), qos=1)
        return session

    def leave(self, bus: "MemoryBus", *, with_will: bool) -> None:
        """Disconnect a client, if it is connected."""
        session = self._sessions.get(bus.client_id)
        if session is None or session.bus is not bus:
            return
        session.bus = None
        bus.lose()
        if with_will and bus.will is not None:
            self.accept(Message(bus.will.topic, bus.will.payload), bus.will.qos, retain=bus.will.retain)

    def forget(self, bus: "MemoryBus") -> None:
        """Call a client back no more; its session stays."""
        self.leave(bus, with_will=False)
        if bus in self._buses:
            self._buses.remove(bus)

    def accept(self, message: Message, qos: int, *, retain: bool) -> None:
        """Take a publication, subject to the faults on order."""
        if retain:
            self.retained[message.topic] = message
            if not message.payload:
                del self.retained[message.topic]
        fault = next((f for f in self._faults if f.left and topic_matches_sub(f.filter, message.topic)), None)
        if fault is None:
            self._route(message, qos)
            return
        fault.left -= 1
        match fault.kind:
            case _Kind.DROP:
                pass
            case _Kind.DUPLICATE:
                self._route(message, qos)
                self._route(message, qos)
            case _Kind.DELAY:
                asyncio.get_running_loop().call_later(fault.seconds, self._route, message, qos)
            case _Kind.REORDER:
                fault.held.append((message, qos))
                if not fault.left:
                    for held in reversed(fault.held):
                        self._route(*held)

    def acknowledge(self, session: _Session, numbers: Sequence[int]) -> None:
        """Forget what a client has stored."""
        for number in numbers:
            session.owed.pop(number, None)

    def _route(self, message: Message, qos: int) -> None:
        for session in self._sessions.values():
            self._deliver(session, message, qos)

    def _deliver(self, session: _Session, message: Message, qos: int) -> None:
        granted = [wanted for topic_filter, wanted in session.filters if topic_matches_sub(topic_filter, message.topic)]
        if not granted:
            return
        number = 0
        if min(qos, max(granted)) == 1:
            number = next(self._numbers)
            session.owed[number] = message
        if session.bus is not None:
            session.bus.receive(number, message)


class _MemoryBatch:
    def __init__(self, bus: "MemoryBus", received: Sequence[tuple[int, Message]], connection: int) -> None:
        self.messages: Sequence[Message] = [message for _, message in received]
        self._bus, self._numbers, self._connection = bus, [number for number, _ in received], connection

    async def ack(self) -> None:
        self._bus.acknowledge(self._numbers, self._connection)


class MemoryBus:
    """A client of the broker in memory."""

    def __init__(
        self,
        broker: MemoryBroker,
        client_id: str,
        subscriptions: Sequence[tuple[str, int]],
        will: Will | None,
        birth: Sequence[Message],
    ) -> None:
        self.client_id, self.subscriptions, self.will = client_id, subscriptions, will
        self._broker, self._birth = broker, birth
        self._session: _Session | None = None
        self._connection = 0
        self._inbox: deque[tuple[int, Message]] = deque()
        self._outbox: deque[tuple[Message, bool]] = deque()
        self._slots = asyncio.Semaphore(MAX_UNFINISHED)
        self._readable, self._empty = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._broker.enter(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop_timer()
        self._broker.forget(self)

    @property
    def connected(self) -> bool:
        return self._session is not None

    async def batches(self) -> AsyncIterator[Batch]:
        while True:
            if self._inbox:
                received = [self._inbox.popleft() for _ in range(min(len(self._inbox), MAX_BATCH))]
                yield _MemoryBatch(self, received, self._connection)
            else:
                self._readable.clear()
                await self._readable.wait()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        check_publication(topic, payload)
        if self._session is not None:
            self._broker.accept(Message(topic, payload), qos, retain=retain)
        elif qos:
            await self._slots.acquire()
            self._outbox.append((Message(topic, payload), retain))
            if self._session is not None:  # it came back while we waited for the slot
                self._send_outbox()

    async def flush(self) -> None:
        while self._outbox:
            self._empty.clear()
            await self._empty.wait()

    def acknowledge(self, numbers: Sequence[int], connection: int) -> None:
        if self._session is not None and connection == self._connection:
            self._broker.acknowledge(self._session, numbers)

    # ---- called by the broker

    def receive(self, number: int, message: Message) -> None:
        self._inbox.append((number, message))
        self._readable.set()

    def lose(self) -> None:
        self._session = None
        self._inbox.clear()

    def retry(self, after_s: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(after_s, self._connect)

    def _connect(self) -> None:
        if self._session is not None or not self._broker.running:
            return
        self._connection += 1
        self._session = self._broker.join(self)
        for message in self._birth:
            self._broker.accept(message, 1, retain=message.retained)
        self._send_outbox()

    def _send_outbox(self) -> None:
        while self._outbox:
            message, retain = self._outbox.popleft()
            self._slots.release()
            self._broker.accept(message, 1, retain=retain)
        self._empty.set()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
