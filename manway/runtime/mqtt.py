"""A durable MQTT session behind `async with` and `async for`: paho-mqtt 2, its thread and its callbacks end here.

Theory. paho's thread only moves bytes. Its callbacks put what they hear into a queue or onto the event loop, and raise
nothing. What we publish at QoS 1 lives in our own outbox until its PUBACK, and the whole outbox is sent again, in order,
after every connect: paho repeats too, but interleaves new publications with old ones around a reconnect, so it is made
to forget its copies before each connect. Connections are numbered; an acknowledgement belongs to the connection that
delivered its message, because packet ids are used again on the next one.
"""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Self
from urllib.parse import urlsplit

import msgspec
import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from manway.errors import BusUnavailable
from manway.runtime.ports import Batch, Message, Will

# Bytes of one payload: below the 65,536 of a whole packet at which brokers cut the connection (`pipeline.md` §2.1).
MAX_PAYLOAD = 60_000
# Publications without PUBACK; then the caller waits. The caller's journal is the queue, not this client.
MAX_UNFINISHED = 1_000
# Messages not yet taken by the consumer; then the socket is left unread and TCP holds the broker back.
MAX_UNREAD = 20_000
# Messages of one batch: one commit of the journal takes them in well under 100 ms.
MAX_BATCH = 5_000
# Publications under way at once: enough to hide a round trip, small beside what brokers accept.
_IN_FLIGHT = 200
# A dead broker is noticed within 1.5 times this, and a dead client's will is published.
_KEEPALIVE_S = 5
# Clean exit takes at most a second: what is left of the thread after this ends by itself.
_EXIT_S = 0.8

_TOPIC = re.compile(r'[!"$-*,-~]{1,256}')

_log = structlog.get_logger(__name__)


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


class _Publication(msgspec.Struct, frozen=True):
    topic: str
    payload: bytes
    retain: bool


class _Received(msgspec.Struct, frozen=True):
    message: Message
    mid: int  # 0 at QoS 0: nothing to acknowledge
    connection: int


class _Client(paho.Client):
    """paho's client whose network thread survives whatever is thrown inside it."""

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = True) -> MQTTErrorCode:  # noqa: FBT001, FBT002  paho's signature
        """Run paho's loop, begin again with a new connection when it breaks; paho's thread runs this."""
        while True:
            try:
                return super().loop_forever(timeout, retry_first_connection)
            except Exception:  # noqa: BLE001  the thread's supervisor: without it a bug makes the bus deaf for good
                _log.exception("mqtt_thread_failed")
                self.connect_async(self.host, self.port, self.keepalive)
                time.sleep(1.0)


class _MqttBatch:
    """What was readable at once."""

    def __init__(self, bus: "MqttBus", received: Sequence[_Received]) -> None:
        self.messages: Sequence[Message] = [one.message for one in received]
        self._bus, self._received = bus, received

    async def ack(self) -> None:
        """Acknowledge what came over the connection that still stands; the broker repeats the rest."""
        self._bus.acknowledge(self._received)


class MqttBus:
    """The `Bus` on any MQTT 3.1.1 broker: persistent session, manual acknowledgement, reconnects for ever.

    Args:
        url: `mqtt://host:port`.
        client_id: stable; the broker keeps the session under it. A second client with the same id takes it over.
        subscriptions: filters with their quality of service, subscribed after every connect.
        user: login name, None without.
        password: its password.
        will: what the broker publishes when we vanish.
        birth: published at QoS 1 after every connect, before anything else.

    Raises:
        ValueError: the url is not `mqtt://host` (TLS has no place here yet, and `mqtts` must not run in the clear), or
            will or birth fail `check_publication`.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        subscriptions: Sequence[tuple[str, int]] = (),
        user: str | None = None,
        password: str | None = None,
        will: Will | None = None,
        birth: Sequence[Message] = (),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "mqtt" or not parts.hostname:
            message = f"not an address of the form mqtt://host:port: {url}"
            raise ValueError(message)
        for one in birth:
            check_publication(one.topic, one.payload)
        self._url, self._subscriptions, self._birth = url, list(subscriptions), list(birth)
        self._log = _log.bind(url=url, client_id=client_id)
        self._connection = 0  # number of the connection that stands, written by paho's thread; 0 between two
        self._connections = 0
        self._closing = False
        self._reachable = True
        self._inbox: deque[_Received] = deque()
        self._outbox: dict[int, _Publication] = {}  # by our own rising number
        self._published = 0
        self._sent: dict[int, int] = {}  # paho's packet id -> number in the outbox, for the connection below
        self._sending = 0  # connection whose birth and outbox have gone out
        self._slots = asyncio.Semaphore(MAX_UNFINISHED)
        self._readable, self._finished = asyncio.Event(), asyncio.Event()
        self._refused: BusUnavailable | None = None
        self._client = _Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=paho.MQTTv311, manual_ack=True
        )
        self._client.username_pw_set(user, password)
        if will is not None:
            check_publication(will.topic, will.payload)
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._configure()
        self._client.connect_async(parts.hostname, parts.port or 1883, _KEEPALIVE_S)

    def _configure(self) -> None:
        client = self._client
        client.suppress_exceptions = True  # a failing callback must not end the thread; it is logged below
        client.reconnect_delay_set(1, 5)
        client.max_inflight_messages_set(_IN_FLIGHT)
        client.on_pre_connect = self._on_pre_connect
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_log = self._on_log

    # ---- the event loop's side

    async def __aenter__(self) -> Self:
        """Start the thread; it connects as soon as the broker is there."""
        self._loop = asyncio.get_running_loop()
        self._client.loop_start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Say goodbye, so that no will is published; what is unfinished stays with the caller's journal."""
        self._closing = True
        self._client.disconnect()
        stopped = asyncio.Event()

        def stop() -> None:  # blocks while a connect hangs, hence the thread
            self._client.loop_stop()
            self._call(stopped.set)

        threading.Thread(target=stop, daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), _EXIT_S)

    @property
    def connected(self) -> bool:
        """True while the broker has accepted the session and its subscriptions, and our birth is out."""
        return self._connection != 0 and self._sending == self._connection

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
                received = [self._inbox.popleft() for _ in range(min(len(self._inbox), MAX_BATCH))]
                yield _MqttBatch(self, received)
            else:
                await self._readable.wait()
                self._readable.clear()

    def acknowledge(self, received: Sequence[_Received]) -> None:
        """Send the PUBACKs of a batch; what came over an older connection is left for the broker to repeat."""
        for one in received:
            if one.mid and one.connection == self._connection:
                self._client.ack(one.mid, 1)

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand over one publication: QoS 1 is repeated until its PUBACK, QoS 0 is dropped while there is no connection.

        Waits while `MAX_UNFINISHED` publications are without PUBACK.

        Raises:
            ValueError: see `check_publication`.
        """
        check_publication(topic, payload)
        if qos == 0:
            if self.connected:
                self._client.publish(topic, payload, 0, retain)
            return
        await self._slots.acquire()
        self._published += 1
        self._outbox[self._published] = _Publication(topic, payload, retain)
        if self.connected:
            self._send(self._published)

    async def flush(self) -> None:
        """Return once everything published has its PUBACK; waits for the broker as long as it takes."""
        while self._outbox:
            self._finished.clear()
            await self._finished.wait()

    def _send(self, number: int) -> None:
        one = self._outbox[number]
        self._sent[self._client.publish(one.topic, one.payload, 1, one.retain).mid] = number

    def _resume(self, connection: int) -> None:
        """Begin a connection that can hear: birth first, then everything that has no PUBACK yet."""
        if connection != self._connection:  # lost again meanwhile
            return
        self._sent.clear()
        for one in self._birth:
            self._client.publish(one.topic, one.payload, 1, one.retained)
        for number in self._outbox:
            self._send(number)
        self._sending = connection

    def _finish(self, mid: int) -> None:
        number = self._sent.pop(mid, 0)
        if number:
            del self._outbox[number]
            self._slots.release()
            self._finished.set()

    def _refuse(self, filters: list[str]) -> None:
        self._refused = BusUnavailable(self._url, f"subscription refused: {', '.join(filters)}")
        self._log.error("mqtt_subscription_refused", filters=filters)
        self._readable.set()

    # ---- paho's thread: nothing below touches the state above but by `_call`, the numbers and the inbox

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody is left to hear it
            self._loop.call_soon_threadsafe(function)

    def _on_pre_connect(self, client: paho.Client, _: object) -> None:
        self._connection = 0
        client.drop_out_messages()

    def _on_socket_open(self, _c: object, _user: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else Nagle adds 40 ms to an alarm

    def _on_connect(self, client: paho.Client, _: object, flags: paho.ConnectFlags, reason: ReasonCode, *_more: object) -> None:
        if self._closing:
            client.disconnect()
        elif reason.is_failure:
            self._log.warning("mqtt_refused", reason=str(reason))
        else:
            self._reachable = True
            self._connections += 1
            self._connection = self._connections
            self._log.info("mqtt_connected", session_present=flags.session_present)
            if self._subscriptions:
                client.subscribe(self._subscriptions)
            else:
                self._call(partial(self._resume, self._connection))

    def _on_connect_fail(self, *_: object) -> None:
        if self._reachable:  # once an outage, not once an attempt
            self._log.warning("mqtt_unreachable")
        self._reachable = False

    def _on_disconnect(self, _c: object, _user: object, _flags: object, reason: ReasonCode, *_more: object) -> None:
        self._connection = 0
        self._log.info("mqtt_disconnected", reason=str(reason))

    def _on_subscribe(self, _c: object, _user: object, _mid: int, reasons: list[ReasonCode], *_more: object) -> None:
        refused = [topic for (topic, _), reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure]
        if refused:
            self._call(partial(self._refuse, refused))
        self._call(partial(self._resume, self._connection))

    def _on_message(self, _c: object, _user: object, message: paho.MQTTMessage) -> None:
        while len(self._inbox) >= MAX_UNREAD and not self._closing:
            time.sleep(0.01)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\ufffd"  # goes on as poison: whoever parses it rejects it and acknowledges it
        kept = Message(topic, bytes(message.payload), message.retain)
        self._inbox.append(_Received(kept, message.mid if message.qos else 0, self._connection))
        if len(self._inbox) == 1:
            self._call(self._readable.set)

    def _on_publish(self, _c: object, _user: object, mid: int, *_more: object) -> None:
        self._call(partial(self._finish, mid))

    def _on_log(self, _c: object, _user: object, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR and text.startswith("Caught"):  # the rest tells again of lost connections
            self._log.error("mqtt_callback_failed", text=text)
