"""paho-mqtt with a reader and a writer of our own: everything readable at once, everything to say in one write.

Theory. paho reads each message with three or four `recv()` and a `select()`, and keeps what it publishes in tables that our
session keeps too. `BatchClient` puts `PacketStream` between paho's socket and paho's packet handlers, and publications straight
into its queue of packets, through five internals of paho; where one of them is missing in another version it is plain paho,
slower and no less right.
"""

import struct
from collections.abc import Callable, Container, Sequence
from ssl import SSLSocket

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import MalformedPacket  # type: ignore[attr-defined]  # its own module since 2.2
from paho.mqtt.reasoncodes import ReasonCode

from manway.runtime.mqtt_packets import POISON, PacketStream, publication
from manway.runtime.mqtt_setup import Publication
from manway.runtime.ports import Message

# What of paho this reader rests on, all of it (`pipeline.md` §5).
INTERNALS = ("_sock_recv", "_in_packet", "_packet_handle", "_packet_queue", "_loop_rc_handle")

_READ = 1 << 18  # bytes of one `recv()`, large because each gives up the interpreter's lock (choice)
_TLS_READ = 1 << 14  # bytes of a TLS record: `recv()` never returns more
_TURN = 1 << 20  # bytes of one turn; then what else waits has its own (`pipeline.md` §5)
_PUBLISH, _PUBACK, _PINGREQ = 0x30, 0x40, 0xC0
_IDS = 65_535  # packet ids, from 1
_PUBACK_LEAST = 2  # bytes: a packet id; version 5 may have a reason and properties behind it
_REFUSED = 0x80  # the least reason code of version 5 that is a failure
_SUCCESS = MQTTErrorCode.MQTT_ERR_SUCCESS


class BatchClient(paho.Client):
    """One connection's paho client, whose `loop_read()` hands on everything readable as one batch.

    Args:
        client_id: what the broker keeps the session under.
        version5: speak MQTT 5, else 3.1.1.
        on_batch: called by `loop_read()` with messages and their packet ids, 0 at QoS 0; whatever it raises comes out there.
        on_puback: called there with the packet id of what we published, and why the broker refused it, "" where it did not.
    """

    def __init__(
        self,
        client_id: str,
        on_batch: Callable[[list[Message], list[int]], None],
        on_puback: Callable[[int, str], None],
        *,
        version5: bool = False,
    ) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if version5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if version5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        self.on_message, self.on_publish = self._on_one, self._on_published
        self.unread = False  # the last turn ended before the socket was empty
        self.batching = all(hasattr(self, name) for name in INTERNALS)
        self._on_batch, self._on_puback = on_batch, on_puback
        self._stream, self._version5, self._newest_id = PacketStream(version5=version5), version5, 0

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what is there, give paho its packets and `on_batch` the messages."""
        if not self.batching:
            code = super().loop_read(max_packets)
            link = self.socket()
            self.unread = isinstance(link, SSLSocket) and link.pending() > 0
            return code
        if self.socket() is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        data, lost = self._receive()
        found = self._stream.feed(data)
        code = self._give_to_paho(found.others)
        if found.messages:
            self._on_batch(found.messages, found.mids)
        if code == _SUCCESS and (found.broken or lost):
            code = self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL if found.broken else MQTTErrorCode.MQTT_ERR_CONN_LOST)
        return code

    def ack_many(self, mids: Sequence[int]) -> None:
        """Acknowledge messages of QoS 1 in this order, in one write."""
        if not mids:
            return
        if not self.batching:
            for mid in mids:
                self.ack(mid, 1)
            return
        words = [_PUBACK << 8 | 2] * (2 * len(mids))
        words[1::2] = mids
        self._packet_queue(_PUBACK, struct.pack(f">{len(words)}H", *words), mids[-1], 1)

    def say_many(self, publications: Sequence[Publication], taken: Container[int]) -> list[int]:
        """Publish these in this order, in one write; return their packet ids, at QoS 1 none of those that are taken."""
        if not self.batching:
            return [self.publish(one.topic, one.payload, one.qos, one.retain).mid for one in publications]
        ids, packets = list[int](), list[bytes]()
        for one in publications:
            ids.append(self._fresh_id(taken) if one.qos else 0)
            packets.append(publication(one.topic, one.payload, ids[-1], retain=one.retain, version5=self._version5))
        if packets:
            self._packet_queue(_PUBLISH, b"".join(packets), ids[-1], 1)  # QoS 1: paho has nothing to say when it is written
        return ids

    def forget(self) -> None:
        """Hold itself no longer: with all that it has read and not written it goes at once, not when cycles are collected."""
        self.on_message = self.on_publish = None

    def _fresh_id(self, taken: Container[int]) -> int:
        self._newest_id = self._newest_id % _IDS + 1
        while self._newest_id in taken:
            self._newest_id = self._newest_id % _IDS + 1
        return self._newest_id

    def ping(self) -> None:
        """Tell the broker that we live while we leave the socket unread, so that no answer can be awaited."""
        if self.batching:
            self._packet_queue(_PINGREQ, bytes([_PINGREQ, 0]), 0, 0)

    def _receive(self) -> tuple[bytes, bool]:
        """Return what the socket holds, at most a turn of it, and whether the connection has ended."""
        parts: list[bytes] = []
        left = _TURN
        secured = isinstance(self.socket(), SSLSocket)
        while left > 0:
            try:
                data = self._sock_recv(_TLS_READ if secured else _READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                return b"".join(parts), True
            parts.append(data)
            left -= len(data)
            if len(data) < _READ and not secured:  # that was all: saves the read that would say so
                break
        self.unread = left <= 0
        return parts[0] if len(parts) == 1 else b"".join(parts), False

    def _give_to_paho(self, packets: Sequence[tuple[int, bytes]]) -> MQTTErrorCode:
        for head, body in packets:
            if head == _PUBACK and len(body) >= _PUBACK_LEAST:
                self._on_puback(body[0] << 8 | body[1], _refusal(body[2]) if len(body) > _PUBACK_LEAST else "")
                continue
            packet = self._in_packet
            packet["command"], packet["packet"] = head, bytearray(body)
            packet["remaining_length"], packet["pos"] = len(body), 0
            try:
                code = self._packet_handle()
            except MalformedPacket:
                code = MQTTErrorCode.MQTT_ERR_PROTOCOL
            if code != _SUCCESS:
                return self._loop_rc_handle(code)
            if self.socket() is None:  # the broker's DISCONNECT
                return MQTTErrorCode.MQTT_ERR_NO_CONN
        return _SUCCESS

    def _on_one(self, _c: object, _user: object, message: paho.MQTTMessage) -> None:
        """Hand on what paho itself has read."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = POISON
        kept = Message(topic, bytes(message.payload), message.retain)
        self._on_batch([kept], [message.mid if message.qos else 0])

    def _on_published(self, _c: object, _user: object, mid: int, reason: ReasonCode, _properties: object) -> None:
        """Hand on what paho itself has heard, or at QoS 0 written."""
        self._on_puback(mid, str(reason) if reason.is_failure else "")


def _refusal(reason: int) -> str:
    """Return why a publication was refused, "" for one that was taken; a code of no meaning refuses too."""
    if reason < _REFUSED:
        return ""
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=reason))
    except (KeyError, ValueError):  # nobody's reason, or that of other packets alone
        return f"reason {reason}"
