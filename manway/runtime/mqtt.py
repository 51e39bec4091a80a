"""A durable MQTT session behind `async with` and `async for`: paho-mqtt 2 and its thread end here.

Theory. The thread (`mqtt_thread.py`) moves bytes and is alone with paho; the reader (`mqtt_batches.py`) hands on what was
readable at once. Between the thread and the event loop stand two queues and no locks: messages come in whole batches, wake
the consumer once, and carry the number of the connection that delivered them, because packet ids are used again on the next.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from manway.errors import BusUnavailable
from manway.runtime.mqtt_setup import Publication, Setup, Tls, Version
from manway.runtime.mqtt_thread import NetworkThread
from manway.runtime.ports import Batch, Message, Will

__all__ = ["MAX_BATCH", "MAX_PAYLOAD", "MAX_UNFINISHED", "MAX_UNREAD", "MqttBus", "Tls", "Version", "check_publication"]

# Bytes of one payload: below the 65,536 of a whole packet at which brokers cut the connection (`pipeline.md` §2.1).
MAX_PAYLOAD = 60_000
# Publications without PUBACK; then the caller waits. The caller's journal is the queue, not this client.
MAX_UNFINISHED = 1_000
# Messages not yet taken by the consumer; then the socket is left unread and TCP holds the broker back.
MAX_UNREAD = 20_000
# Messages of one batch: one commit of the journal takes them in well under 100 ms.
MAX_BATCH = 5_000
# Clean exit takes at most a second: what is left of the thread after this ends by itself.
_EXIT_S = 0.8
_PORTS = {"mqtt": 1883, "mqtts": 8883}

_TOPIC = re.compile(r'[!"$-*,-~]{1,256}')


def check_publication(topic: str, payload: bytes) -> None:
    """Refuse what no broker takes.

    Raises:
        ValueError: the topic is not 1 to 256 printable ASCII characters without `+` and `#` (a broker cuts the
            connection over others, and our repetition would have it cut again for ever), or the payload is over
            `MAX_PAYLOAD` bytes.
    """
    if not _TOPIC.fullmatch(topic):
        message = f"not a topic to publish to: {topic!r}"
        raise ValueError(message)
    if len(payload) > MAX_PAYLOAD:
        message = f"{topic}: a payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD}"
        raise ValueError(message)


def _address(url: str, tls: Tls | None) -> tuple[str, int]:
    """Return host and port of `mqtt://host:port`, or of `mqtts://host:port` with certificates; raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        message = f"not an address of the form mqtt://host:port or mqtts://host:port: {url}"
        raise ValueError(message)
    if parts.scheme == "mqtts" and tls is None:
        message = f"{url} needs certificates: set broker_ca, and broker_cert with broker_key where the broker asks for them"
        raise ValueError(message)
    if parts.scheme == "mqtt" and tls is not None:
        message = f"certificates are set, but {url} is not encrypted: write mqtts://{parts.netloc}, or remove broker_ca"
        raise ValueError(message)
    return parts.hostname, parts.port or _PORTS[parts.scheme]


class _Part(NamedTuple):
    """Messages of one connection, in order, with their packet ids."""

    connection: int
    messages: list[Message]
    mids: list[int]


class _MqttBatch:
    """What was readable at once."""

    __slots__ = ("_connection", "_mids", "_thread", "messages")

    def __init__(self, thread: NetworkThread, part: _Part) -> None:
        self.messages: Sequence[Message] = part.messages
        self._thread, self._connection, self._mids = thread, part.connection, part.mids

    async def ack(self) -> None:
        """Acknowledge the batch in one write, if the connection it came over still stands; else the broker repeats it.

        MQTT wants acknowledgements in the order of receipt: acknowledge batches in the order they were yielded.
        """
        self._thread.acknowledge(self._connection, self._mids)


class MqttBus:
    """The `Bus` on any MQTT 3.1.1 or 5 broker: persistent session, manual acknowledgement, reconnects for ever.

    Args:
        url: `mqtt://host:port` (1883), or `mqtts://host:port` (8883) with `tls`.
        client_id: stable; the broker keeps the session under it. A second client with the same id takes it over.
        subscriptions: filters with their quality of service, subscribed after every connect.
        user: login name, None without.
        password: its password.
        tls: the authority that vouches for the broker, and our own certificate.
        protocol: MQTT version; `auto` tries 5, takes 3.1.1 where that is refused, and remembers it.
        will: what the broker publishes when we vanish.
        birth: published at QoS 1 after every connect, before anything else.

    Raises:
        ValueError: the url is neither, or does not go with `tls`, or will or birth fail `check_publication`.
        OSError: a file of `tls` is missing or is not what its name says.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        subscriptions: Sequence[tuple[str, int]] = (),
        user: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        protocol: Version = "auto",
        will: Will | None = None,
        birth: Sequence[Message] = (),
    ) -> None:
        host, port = _address(url, tls)
        if tls is not None:
            tls.context()  # wrong files should stop the start; each connect reads them again
        for one in birth:
            check_publication(one.topic, one.payload)
        if will is not None:
            check_publication(will.topic, will.payload)
        self._url = url
        self._inbox: deque[_Part] = deque()
        self._received = self._taken = 0  # messages, counted by the thread and by the event loop
        self._published = self._finished = 0  # publications of QoS 1
        self._slots = asyncio.Semaphore(MAX_UNFINISHED)
        self._readable, self._progress, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._refused: BusUnavailable | None = None
        setup = Setup(url, host, port, client_id, user, password, tls, protocol, list(subscriptions), will, list(birth))
        self._thread = NetworkThread(setup, self)

    # ---- the event loop's side

    async def __aenter__(self) -> Self:
        """Start the thread; it connects as soon as the broker is there."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Say goodbye, so that no will is published; what is unfinished stays with the caller's journal."""
        self._thread.close()
        with contextlib.suppress(TimeoutError):  # a connect hangs
            await asyncio.wait_for(self._ended.wait(), _EXIT_S)

    @property
    def connected(self) -> bool:
        """True while the broker has accepted the session and its subscriptions, and our birth is out."""
        return self._thread.session.live

    async def batches(self) -> AsyncIterator[Batch]:
        """Yield what arrives, everything readable at once, for ever.

        Raises:
            BusUnavailable: the broker refused a subscription; the reason names the filter.
        """
        while True:
            if self._refused is not None:
                refused, self._refused = self._refused, None
                raise refused
            if self._inbox:
                yield _MqttBatch(self._thread, self._take())
                continue
            self._readable.clear()
            if not self._inbox and self._refused is None:  # either may have come before the line above
                await self._readable.wait()

    def _take(self) -> _Part:
        """Take what has gathered of one connection, at most `MAX_BATCH` messages."""
        first = self._inbox.popleft()
        count = len(first.messages)
        while self._inbox and self._inbox[0].connection == first.connection:
            if count + len(self._inbox[0].messages) > MAX_BATCH:
                break
            more = self._inbox.popleft()
            first.messages.extend(more.messages)
            first.mids.extend(more.mids)
            count = len(first.messages)
        self._taken += count
        return first

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand over one publication: QoS 1 is repeated until its PUBACK, QoS 0 is dropped while there is no connection.

        Waits while `MAX_UNFINISHED` publications are without PUBACK.

        Raises:
            ValueError: see `check_publication`.
        """
        check_publication(topic, payload)
        if qos == 0:
            if self.connected:
                self._publish(Publication(topic, payload, retain, qos=0))
            return
        await self._slots.acquire()
        self._published += 1
        self._publish(Publication(topic, payload, retain))

    def _publish(self, one: Publication) -> None:
        self._thread.give(partial(self._thread.session.publish, one), patient=one.qos == 0)

    async def flush(self) -> None:
        """Return once everything published has its PUBACK; waits for the broker as long as it takes."""
        while self._finished < self._published:
            self._progress.clear()
            await self._progress.wait()

    def _finish(self, count: int) -> None:
        self._finished += count
        for _ in range(count):
            self._slots.release()
        self._progress.set()

    def _refuse(self, filters: list[str]) -> None:
        self._refused = BusUnavailable(self._url, f"subscription refused: {', '.join(filters)}")
        self._readable.set()

    # ---- called by the thread; nothing below touches the state above but by `_call`, the inbox and its own count

    def on_received(self, connection: int, messages: list[Message], mids: list[int]) -> None:
        """See `Listener`."""
        for at in range(0, len(messages), MAX_BATCH):
            self._inbox.append(_Part(connection, messages[at : at + MAX_BATCH], mids[at : at + MAX_BATCH]))
        self._received += len(messages)
        if not self._readable.is_set():  # once a wait, not once a read
            self._call(self._readable.set)

    def on_finished(self, count: int) -> None:
        """See `Listener`."""
        self._call(partial(self._finish, count))

    def on_refused(self, filters: list[str]) -> None:
        """See `Listener`."""
        self._call(partial(self._refuse, filters))

    def full(self) -> bool:
        """See `Listener`."""
        return self._received - self._taken >= MAX_UNREAD

    def on_end(self) -> None:
        """See `Listener`."""
        self._call(self._ended.set)

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody is left to hear it
            self._loop.call_soon_threadsafe(function)
