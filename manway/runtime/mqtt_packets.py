"""The bytes of one MQTT connection, cut into messages in one loop, and those of a message we publish.

Theory. Nearly all messages are PUBLISH packets of QoS 0 or 1, and nearly all of a client's time goes into reading them one by
one. `PacketStream` cuts them out of large reads and leaves every other packet to somebody else. It is pure: bytes in, messages
out, however the network tore them.
"""

import msgspec

from manway.runtime.ports import Message

# Bytes of a whole packet: brokers cut the connection over more (`pipeline.md` §2.1), so more is nobody's message.
MAX_PACKET = 65_536
# Topic of what is no message: over the limit, no MQTT, or under a topic that is no text. Who parses it rejects it.
POISON = "\ufffd"

_MAX_LENGTH = MAX_PACKET - 4  # the remaining length of such a packet: its head takes four bytes
_SHOWN = 64  # bytes of a rejected packet that go on with it, as in `MessageRejected`
_TOPICS = 1 << 18  # topics remembered as text: twice what 100,000 devices use (choice)
_PUBLISH, _KIND_AND_QOS_2 = 0x30, 0xF4  # of the first byte: the kind, and the quality of service nobody here asks for
_MORE, _LONGEST = 0x80, 4  # bit of a length's byte that another follows, and how many there may be


class _Topics(dict[bytes, str]):
    """Topics as text, decoded once."""

    def __missing__(self, raw: bytes) -> str:
        try:
            topic = raw.decode()
        except UnicodeDecodeError:
            return POISON
        if len(self) >= _TOPICS:
            self.clear()
        self[raw] = topic
        return topic


class Cut(msgspec.Struct):
    """What one read brought."""

    messages: list[Message] = []
    mids: list[int] = []  # the packet id of each message; 0 where there is nothing to acknowledge
    others: list[tuple[int, bytes]] = []  # first byte and body of the packets that are not for us
    broken: bool = False  # what follows is no MQTT any more


class PacketStream:
    """Cuts what a broker sends over one connection into packets.

    A PUBLISH over `MAX_PACKET` is thrown away as it comes and goes on as `POISON`, to be acknowledged like any message: a
    disconnect would have the broker repeat it at each connect, for ever.
    """

    def __init__(self, *, version5: bool = False) -> None:
        self._version5 = version5
        self._topics = _Topics()
        self._rest = b""  # the beginning of a packet that is not all here
        self._skip = 0  # bytes still to come of a packet that is thrown away

    def feed(self, data: bytes) -> Cut:
        """Return the packets that `data` completes; behind a broken one nothing counts."""
        if self._skip:
            gone = min(self._skip, len(data))
            self._skip -= gone
            data = data[gone:]
        if self._rest:
            data = self._rest + data
        found = Cut()
        self._rest = data[self._cut(data, found) :]
        return found

    def _cut(self, data: bytes, found: Cut) -> int:
        """Fill `found` and return where the first incomplete packet begins; the one loop every message passes."""
        keep, owe, topics, version5 = found.messages.append, found.mids.append, self._topics, self._version5
        at, size = 0, len(data)
        try:
            while at + 1 < size:
                head, length, body = data[at], data[at + 1], at + 2
                if length >= _MORE:  # two bytes of length are most messages: not worth a call
                    if body < size and data[body] < _MORE:
                        length, body = length + (data[body] << 7) - _MORE, body + 1
                    else:
                        length, body = _length(data, at + 1)
                end = body + length
                if end > size or head & _KIND_AND_QOS_2 != _PUBLISH or length > _MAX_LENGTH:
                    begin = at
                    at = self._other(data, begin, body, length, found)
                    if at == begin:
                        break
                    continue
                start = body + 2 + (data[body] << 8 | data[body + 1])
                topic = topics[data[body + 2 : start]]
                if head & 2:
                    owe(data[start] << 8 | data[start + 1])
                    start += 2
                else:
                    owe(0)
                if version5:
                    start = _after_properties(data, start)
                if start > end:
                    return _broken(data, at, found)
                keep(Message(topic, data[start:end], (head & 1) == 1))
                at = end
        except IndexError:
            return _broken(data, at, found)
        return at

    def _other(self, data: bytes, at: int, body: int, length: int, found: Cut) -> int:
        """Take a packet that is no PUBLISH, or too large, and return where the next begins; `at` while it is incomplete."""
        end = body + length
        if length > _MAX_LENGTH:
            return self._throw_away(data, at, body, end, found)
        if end > len(data):
            return at
        found.others.append((data[at], data[body:end]))
        return end

    def _throw_away(self, data: bytes, at: int, body: int, end: int, found: Cut) -> int:
        if data[at] & _KIND_AND_QOS_2 != _PUBLISH:  # no broker has reason for so much
            return _broken(data, at, found)
        if len(data) < body + 2 or len(data) < (start := body + 2 + (data[body] << 8 | data[body + 1])) + 2:
            return at
        found.messages.append(Message(POISON, data[at : at + _SHOWN]))
        found.mids.append(data[start] << 8 | data[start + 1] if data[at] & 2 else 0)
        self._skip = max(0, end - len(data))
        return min(end, len(data))


def publication(topic: str, payload: bytes, mid: int, *, retain: bool, version5: bool) -> bytes:
    """Return the PUBLISH packet of a message, at QoS 1 with the packet id `mid`, at QoS 0 where that is 0."""
    name = topic.encode()
    parts = [len(name).to_bytes(2, "big"), name]
    if mid:
        parts.append(mid.to_bytes(2, "big"))
    if version5:
        parts.append(b"\0")  # no properties
    parts.append(payload)
    body = b"".join(parts)
    return bytes([_PUBLISH | (2 if mid else 0) | retain]) + _packed_length(len(body)) + body


def _packed_length(value: int) -> bytes:
    """Return a variable byte integer."""
    packed = bytearray()
    while value >= _MORE:
        packed.append(value & ~_MORE & 0xFF | _MORE)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def _broken(data: bytes, at: int, found: Cut) -> int:
    """Hand on the beginning of what contradicts itself and return the end: nothing behind it can be trusted."""
    found.broken = True
    found.messages.append(Message(POISON, data[at : at + _SHOWN]))
    found.mids[len(found.messages) - 1 :] = [0]
    return len(data)


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable byte integer at `at` and where it ends; an end behind the data where it is incomplete.

    Raises:
        IndexError: it has more than the four bytes MQTT allows.
    """
    value = 0
    for n, byte in enumerate(data[at : at + _LONGEST]):
        value |= (byte & ~_MORE) << 7 * n
        if byte < _MORE:
            return value, at + n + 1
    if len(data) >= at + _LONGEST:
        message = "a length of more than four bytes"
        raise IndexError(message)
    return 0, len(data) + 1


def _after_properties(data: bytes, at: int) -> int:
    """Return where the payload of a version 5 PUBLISH begins."""
    if data[at] == 0:
        return at + 1
    length, start = _length(data, at)
    return start + length
