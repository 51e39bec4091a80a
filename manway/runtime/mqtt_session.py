"""What a bus says and hears over whichever connection stands: greeting, subscriptions, publications, acknowledgements.

Theory. Every connection has a paho client of its own, so nothing of an older one can linger: no half packet, no packet id,
no setting. What we publish at QoS 1 lives in our own outbox until its PUBACK, and the whole outbox is sent again, in order,
after every connect; paho would repeat too, but interleave new publications with old ones. All of it belongs to one thread.
"""

import socket
from collections.abc import Sequence

import structlog
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from manway.runtime.mqtt_batches import BatchClient
from manway.runtime.mqtt_packets import MAX_PACKET
from manway.runtime.mqtt_setup import Listener, Publication, Setup
from manway.runtime.ports import Message

# A dead broker is noticed within 1.5 times this, and a dead client's will is published.
KEEPALIVE_S = 5
# Publications under way at once: enough to hide a round trip, small beside what brokers accept.
_IN_FLIGHT = 200
# Messages without PUBACK that a version 5 broker may send us, and how long it keeps our session (`pipeline.md` §5).
_RECEIVE_MAXIMUM, _SESSION_S = 2_000, 604_800
# CONNACK reason "unsupported protocol version"; paho makes it of version 3.1.1's reason 1 too, which NATS answers.
_OTHER_VERSION = 132

_log = structlog.get_logger(__name__)


class Session:
    """The connections of a bus, one after the other, and what outlives them."""

    def __init__(self, setup: Setup, listener: Listener) -> None:
        self.setup, self._listener = setup, listener
        self.log = _log.bind(url=setup.url, client_id=setup.client_id)
        self.client: BatchClient | None = None  # of the connection that stands or is being made
        self.live = False  # subscriptions accepted, birth and outbox sent
        self.welcome = False  # the broker has taken this connection
        self.at_once = False  # the next attempt needs no wait: it asks for something else
        self.received = 0  # messages so far
        self._connection = 0  # number of the newest connection
        self._version5 = setup.protocol != "3.1.1"
        self._settled = setup.protocol != "auto"  # the broker has taken this version before
        self._unanswered = False  # CONNECT is out, CONNACK is not in
        self._in_flight = _IN_FLIGHT
        self._outbox: dict[int, Publication] = {}  # by our own rising number
        self._published = self._finished = 0
        self._sent: dict[int, int] = {}  # packet id -> number in the outbox, of this connection

    def connect(self) -> BatchClient:
        """Open the next connection and say hello.

        Raises:
            OSError: nobody answers there, or not with the certificates we ask for.
        """
        self._connection += 1
        self.welcome = self.at_once = False
        self._sent.clear()
        client = self.client = self._new_client()
        host, port = self.setup.host, self.setup.port
        if self._version5:
            wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            wanted.SessionExpiryInterval, wanted.ReceiveMaximum = _SESSION_S, _RECEIVE_MAXIMUM
            wanted.MaximumPacketSize = MAX_PACKET
            client.connect(host, port, KEEPALIVE_S, clean_start=False, properties=wanted)
        else:
            client.connect(host, port, KEEPALIVE_S)
        self._unanswered = True
        return client

    def _new_client(self) -> BatchClient:
        setup = self.setup
        client = BatchClient(setup.client_id, self._on_batch, version5=self._version5)
        if not client.batching:
            self.log.warning("mqtt_plain_paho", reason="internals of this paho-mqtt differ: slower, otherwise the same")
        client.max_inflight_messages_set(self._in_flight)
        client.on_socket_open = _no_delay
        client.on_socket_register_write = _later
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        if setup.user:
            client.username_pw_set(setup.user, setup.password)
        if setup.tls is not None:
            client.tls_set_context(setup.tls.context())
        if setup.will is not None:
            client.will_set(setup.will.topic, setup.will.payload, setup.will.qos, setup.will.retain)
        return client

    def lose(self) -> None:
        """Forget the connection, however it ended."""
        if self._unanswered and not self._settled:  # some brokers meet a version they do not speak with silence or nonsense
            self._version5 = not self._version5
        self.live = self._unanswered = False
        client, self.client = self.client, None
        if client is not None and (link := client.socket()) is not None:
            link.close()

    # ---- what others want said

    def publish(self, one: Publication) -> None:
        """Send it now if we are connected; at QoS 1 after the next connect too, until its PUBACK."""
        if one.qos:
            self._published += 1
            self._outbox[self._published] = one
        if self.live and self.client is not None:
            if one.qos:
                self._send(self.client, self._published)
            else:
                self.client.publish(one.topic, one.payload, 0, one.retain)

    def _send(self, client: BatchClient, number: int) -> None:
        one = self._outbox[number]
        self._sent[client.publish(one.topic, one.payload, 1, one.retain).mid] = number

    def acknowledge(self, connection: int, mids: Sequence[int]) -> None:
        """Acknowledge what came over this connection; if it is an older one, the broker repeats instead."""
        if connection == self._connection and self.client is not None:
            self.client.ack_many(mids)

    def tell(self) -> None:
        """Tell the bus how many publications have found their PUBACK since it was told last."""
        if self._finished:
            count, self._finished = self._finished, 0
            self._listener.on_finished(count)

    # ---- what the broker says, inside loop_read()

    def _on_batch(self, messages: list[Message], mids: list[int]) -> None:
        self.received += len(messages)
        self._listener.on_received(self._connection, messages, mids)

    def _on_connect(
        self, client: paho.Client, _: object, flags: paho.ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._unanswered = False
        if reason.is_failure:
            self._on_refusal(reason)
            return
        self.welcome = self._settled = True
        takes = getattr(properties, "ReceiveMaximum", self._in_flight)
        if takes < self._in_flight:
            self._in_flight, self.at_once = takes, True  # paho can be told before a connect only
            client.disconnect()
            return
        self.log.info("mqtt_connected", session_present=flags.session_present, version=5 if self._version5 else "3.1.1")
        wanted = self.setup.subscriptions
        if wanted:
            client.subscribe([(name, SubscribeOptions(qos)) for name, qos in wanted] if self._version5 else list(wanted))
        else:
            self._begin()

    def _on_refusal(self, reason: ReasonCode) -> None:
        if reason.value == _OTHER_VERSION and self._version5 and self.setup.protocol == "auto":
            self._version5, self.at_once, self._settled = False, True, True
        else:
            self.log.warning("mqtt_refused", reason=str(reason))

    def _on_subscribe(self, _c: object, _user: object, _mid: int, reasons: Sequence[ReasonCode], *_more: object) -> None:
        wanted = [name for name, _ in self.setup.subscriptions]
        refused = [name for name, reason in zip(wanted, reasons, strict=False) if reason.is_failure]
        if refused:
            self.log.error("mqtt_subscription_refused", filters=refused)
            self._listener.on_refused(refused)
        self._begin()

    def _begin(self) -> None:
        """Speak on a connection that can hear: birth first, then everything that has no PUBACK yet."""
        client = self.client
        if client is not None:
            for one in self.setup.birth:
                client.publish(one.topic, one.payload, 1, one.retained)
            for number in self._outbox:
                self._send(client, number)
            self.live = True

    def _on_publish(self, _c: object, _user: object, mid: int, reason: ReasonCode, _properties: object) -> None:
        number = self._sent.pop(mid, 0)
        if number:
            one = self._outbox.pop(number)
            self._finished += 1
            if reason.is_failure:  # version 5 alone says so; 3.1.1 acknowledges what it refuses
                self.log.error("mqtt_publication_refused", topic=one.topic, reason=str(reason))

    def _on_disconnect(self, _c: object, _user: object, _flags: object, reason: ReasonCode, *_more: object) -> None:
        self.live = False
        if self.welcome:
            self.log.info("mqtt_disconnected", reason=str(reason))


def _no_delay(_c: object, _user: object, link: object) -> None:
    if isinstance(link, socket.socket):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else Nagle adds 40 ms to an alarm


def _later(*_: object) -> None:
    """Have paho queue what it would write at once: the loop writes all of it together."""
