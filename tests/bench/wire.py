"""MQTT 3.1.1 on a bare socket: the driver's own framing, so that what it costs to drive a gateway is small and its own.

Frames are cut and joined by hand (OASIS MQTT 3.1.1, 2.2 and 3.1 to 3.9): a client library would spend more on sending a
message than the gateway under test on judging it.
"""

import contextlib
import socket
from collections.abc import Sequence

import msgspec

PACKET_IDS = 65_535  # 3.1.1 2.3.1: 1 to 65,535
_READ = 1 << 18
_CONNACK, _PUBLISH, _PUBACK, _SUBACK = 0x20, 0x30, 0x40, 0x90


class Refused(Exception):
    """The broker would not have it."""


def text(value: str) -> bytes:
    """Return a length-prefixed UTF-8 string."""
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def frame(head: int, body: bytes) -> bytes:
    """Return a packet: its first byte, its length, its body."""
    return bytes([head]) + length(len(body)) + body


def length(size: int) -> bytes:
    """Return a remaining length, 7 bits a byte."""
    out = bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


def publish(topic: str, payload: bytes, *, packet_id: int = 0, retain: bool = False) -> bytes:
    """Return a PUBLISH; QoS 1 with a packet id, QoS 0 without."""
    middle = packet_id.to_bytes(2, "big") if packet_id else b""
    return frame(_PUBLISH | (2 if packet_id else 0) | int(retain), text(topic) + middle + payload)


class Login(msgspec.Struct, frozen=True):
    """Where a broker listens on loopback and who we are there."""

    port: int
    user: str = ""
    password: str = ""


class Heard(msgspec.Struct, frozen=True):
    """A message as it came."""

    topic: str
    payload: bytes


class Link:
    """One connection. Sending never blocks: what the kernel does not take waits in `unsent`."""

    def __init__(self, login: Login, client_id: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", login.port), timeout=10.0)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unsent = bytearray()
        self.acked = 0  # PUBACKs taken
        self._rest = b""
        self._early: list[tuple[int, bytes]] = []  # came before the answer that was waited for
        flags = 0x02 | (0xC0 if login.user else 0)  # clean session
        named = text(login.user) + text(login.password) if login.user else b""
        self.socket.sendall(frame(0x10, text("MQTT") + bytes([4, flags, 0, 0]) + text(client_id) + named))
        answer = self._answer(_CONNACK)
        if answer[1]:
            self.close()
            raise Refused(f"{client_id}: CONNACK {answer[1]} on port {login.port}")

    def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Subscribe and wait for the answer; raises Refused."""
        body = (1).to_bytes(2, "big") + b"".join(text(name) + bytes([qos]) for name in filters)
        self.socket.sendall(frame(0x82, body))
        answer = self._answer(_SUBACK)
        refused = [name for name, code in zip(filters, answer[2:], strict=True) if code & 0x80]
        if refused:
            self.close()
            raise Refused(f"subscription refused: {', '.join(refused)}")

    def ready(self) -> None:
        """Stop waiting from here on: everything later goes through `send` and `take`."""
        self.socket.setblocking(False)

    def send(self, packets: bytes | bytearray) -> None:
        """Send, or keep what does not go now."""
        self.unsent += packets
        self.flush()

    def flush(self) -> None:
        """Send what the kernel takes of what waits."""
        if self.unsent:
            with contextlib.suppress(BlockingIOError):
                sent = self.socket.send(self.unsent)
                del self.unsent[:sent]

    def take(self) -> list[Heard]:
        """Return the messages that can be read now, each at QoS 1 acknowledged; raises Refused when the broker has gone."""
        heard, answers = [], bytearray()
        packets, self._early = self._early + self._packets(), []
        for head, body in packets:
            if head & 0xF0 == _PUBLISH:
                end = 2 + int.from_bytes(body[:2], "big")
                start = end
                if head & 6:
                    answers += b"\x40\x02" + body[end : end + 2]
                    start += 2
                heard.append(Heard(body[2:end].decode(), body[start:]))
            elif head & 0xF0 == _PUBACK:
                self.acked += 1
        if answers:
            self.send(answers)
        return heard

    def close(self) -> None:
        """Say goodbye."""
        with contextlib.suppress(OSError):
            self.socket.send(b"\xe0\x00")
        self.socket.close()

    def _packets(self) -> list[tuple[int, bytes]]:
        with contextlib.suppress(BlockingIOError):
            data = self.socket.recv(_READ)
            if not data:
                raise Refused("the broker closed the connection")
            self._rest += data
        rest, at, packets = self._rest, 0, []
        while (cut := _cut(rest, at)) is not None:
            packets.append((rest[at], rest[cut[0] : cut[1]]))
            at = cut[1]
        self._rest = rest[at:]
        return packets

    def _answer(self, wanted: int) -> bytes:
        while True:
            for packet in self._early:
                if packet[0] & 0xF0 == wanted:
                    self._early.remove(packet)
                    return packet[1]
            self._early += self._packets()


def _cut(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the body of the packet at `at` starts and ends, None while it is not all there."""
    size = shift = 0
    for i in range(at + 1, min(at + 5, len(data))):
        size |= (data[i] & 0x7F) << shift
        shift += 7
        if not data[i] & 0x80:
            return (i + 1, i + 1 + size) if i + 1 + size <= len(data) else None
    return None
