"""What a bus says and hears over whichever connection stands: greeting, subscriptions, publications, acknowledgements.

Theory. Every connection has a paho client of its own, so nothing of an older one can linger: no half packet, no packet id,
no setting. What we publish at QoS 1 lives in our own outbox until its PUBACK, and the whole outbox is sent again, in order,
after every connect; paho would repeat too, but interleave new publications with old ones. What is to be said is gathered, and
goes out with the next `write`. All of it belongs to one thread.
"""

import socket
from collections import deque
from collections.abc import Sequence
from itertools import chain

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
        self.live = False  # subscriptions accepted, birth sent, and of the outbox as much as may be under way
        self.welcome = False  # the broker has taken this connection
        self.at_once = False  # the next attempt needs no wait: it asks for something else
        self.received = 0  # messages so far
        self.owed = 0  # acknowledgements of messages of this connection
        self._connection = 0  # number of the newest connection
        self._version5 = setup.protocol != "3.1.1"
        self._settled = setup.protocol != "auto"  # the broker has taken this version before
        self._unanswered = False  # CONNECT is out, CONNACK is not in
        self._in_flight = _IN_FLIGHT
        self._outbox: dict[int, Publication] = {}  # by our own rising number
        self._published = self._finished = 0
        self._sent: dict[int, int] = {}  # packet id -> number in the outbox, 0 of a birth; of this connection
        self._unsent = deque[tuple[int, Publication]]()  # those at QoS 1 that this connection has not been given yet
        self._passing: list[Publication] = []  # those at QoS 0: with the next write, or not at all

    def connect(self) -> BatchClient:
        """Open the next connection and say hello.

        Raises:
            OSError: nobody answers there, or not with the certificates we ask for.
        """
        self._connection += 1
        self.welcome = self.at_once = False
        self.owed = 0
        self._sent.clear()
        self._unsent.clear()
        self._passing.clear()
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
        client = BatchClient(setup.client_id, self._on_batch, self._on_puback, version5=self._version5)
        if not client.batching:
            self.log.warning("mqtt_plain_paho", reason="internals of this paho-mqtt differ: slower, otherwise the same")
        client.on_socket_open = _no_delay
        client.on_socket_register_write = _later
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
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
        if client is None:
            return
        client.forget()
        if (link := client.socket()) is not None:
            link.close()

    # ---- what others want said

    def publish(self, one: Publication) -> None:
        """Have the next `write` send it if we are connected; at QoS 1 after the next connect too, until its PUBACK."""
        if one.qos:
            self._published += 1
            self._outbox[self._published] = one
            if self.live:
                self._unsent.append((self._published, one))
        elif self.live:
            self._passing.append(one)

    def write(self) -> None:
        """Send what waits, of QoS 1 as much as may be under way at once."""
        client, room = self.client, self._in_flight - len(self._sent)
        numbered = [self._unsent.popleft() for _ in range(min(room, len(self._unsent)))]
        if client is None or not (numbered or self._passing):
            return
        ids = client.say_many([*self._passing, *(one for _, one in numbered)], self._sent)
        for mid, (number, _) in zip(ids[len(self._passing) :], numbered, strict=True):
            self._sent[mid] = number
        self._passing.clear()

    def acknowledge(self, connection: int, mids: Sequence[int]) -> None:
        """Acknowledge what came over this connection; if it is an older one, the broker repeats instead."""
        if connection == self._connection and self.client is not None:
            due = [mid for mid in mids if mid]
            self.owed -= len(due)
            self.client.ack_many(due)

    def tell(self) -> None:
        """Tell the bus how many publications have found their PUBACK since it was told last."""
        if self._finished:
            count, self._finished = self._finished, 0
            self._listener.on_finished(count)

    # ---- what the broker says, inside loop_read()

    def _on_batch(self, messages: list[Message], mids: list[int]) -> None:
        self.received += len(messages)
        self.owed += len(mids) - mids.count(0)
        self._listener.on_received(self._connection, messages, mids)

    def _on_connect(
        self, client: paho.Client, _: object, flags: paho.ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._unanswered = False
        if reason.is_failure:
            self._on_refusal(reason)
            return
        self.welcome = self._settled = True
        self._in_flight = min(_IN_FLIGHT, getattr(properties, "ReceiveMaximum", _IN_FLIGHT))
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
        births = (Publication(one.topic, one.payload, one.retained) for one in self.setup.birth)
        self._unsent.extend(chain(((0, one) for one in births), self._outbox.items()))
        self.live = True
        self.write()

    def _on_puback(self, mid: int, refused: str) -> None:
        number = self._sent.pop(mid, 0)
        if number:
            one = self._outbox.pop(number)
            self._finished += 1
            if refused:  # version 5 alone says so; 3.1.1 acknowledges what it refuses
                self.log.error("mqtt_publication_refused", topic=one.topic, reason=refused)

    def _on_disconnect(self, _c: object, _user: object, _flags: object, reason: ReasonCode, *_more: object) -> None:
        self.live = False
        if self.welcome:
            self.log.info("mqtt_disconnected", reason=str(reason))


def _no_delay(_c: object, _user: object, link: object) -> None:
    if isinstance(link, socket.socket):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else Nagle adds 40 ms to an alarm


def _later(*_: object) -> None:
    """Have paho queue what it would write at once: the loop writes all of it together."""
