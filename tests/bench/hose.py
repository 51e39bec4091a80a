"""Servers and senders that cost the benched side nothing: processes of their own, of the standard library alone.

`python -m tests.bench.hose pour QOS COUNT` prints a port, takes one client there and pours prebuilt PUBLISH packets at it.
`python -m tests.bench.hose pace PORT RATE COUNT` publishes at QoS 1 to a broker, this many a second, each stamped when sent.
"""

import contextlib
import itertools
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]  # where `tests` can be found
TOPIC = b"manway/1/34/sz-0001/dev/gas-%04d/gas"
TOPICS = 200  # devices, as a site has
PAYLOAD = 150  # bytes, one frame of five gases (`pipeline.md`, head)
_TICK_S = 0.001  # how often the pacer sends what is due
_CHUNK = 500  # packets a write of the hose


def length(count: int) -> bytes:
    """Return a remaining length as MQTT writes it."""
    out = bytearray()
    while True:
        count, low = divmod(count, 128)
        out.append(low | (128 if count else 0))
        if not count:
            return bytes(out)


def publication(topic: bytes, payload: bytes, mid: int = 0) -> bytes:
    """Return a PUBLISH of MQTT 3.1.1, QoS 1 where it has a packet id."""
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if mid else b"") + payload
    return bytes([0x32 if mid else 0x30]) + length(len(body)) + body


def _packet(link: socket.socket) -> tuple[int, bytes]:
    """Read one packet: its first byte and its body."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = link.recv(count - len(data))
            if not more:
                raise ConnectionError
            data += more
        return data

    head, size, shift = exactly(1)[0], 0, 0
    while True:
        byte = exactly(1)[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head, exactly(size)


def _greet(link: socket.socket) -> None:
    """Answer CONNECT and SUBSCRIBE of either protocol version; a version 5 is refused, as NATS does."""
    while True:
        head, body = _packet(link)
        if head >> 4 == 1:
            link.sendall(b"\x20\x02\x00\x00" if body[6] == 4 else b"\x20\x02\x00\x01")
        elif head >> 4 == 8:
            link.sendall(b"\x90\x03" + body[:2] + b"\x01")
            return


def pour(qos: int, count: int) -> None:
    """Serve until one client has subscribed and taken `count` publications; the hose's process runs this."""
    topics = [TOPIC % n for n in range(TOPICS)]
    mids = itertools.cycle(range(1, 65_501))
    different = min(65_500, -(-count // _CHUNK) * _CHUNK)  # every packet id once, in whole chunks
    packets = [publication(topics[n % TOPICS], bytes(PAYLOAD), next(mids) if qos else 0) for n in range(different)]
    chunks = [b"".join(packets[at : at + _CHUNK]) for at in range(0, len(packets), _CHUNK)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            link, _ = server.accept()
            with contextlib.suppress(ConnectionError), link:
                _greet(link)
                _pour_into(link, itertools.cycle(chunks), count)
                return


def _pour_into(link: socket.socket, chunks: Iterator[bytes], count: int) -> None:
    """Write whole chunks until `count` is reached, reading away what the client acknowledges."""
    link.setblocking(False)
    rest, left = b"", count
    while left > 0 or rest:
        readable, writable, _ = select.select([link], [link], [])
        if readable and not link.recv(1 << 20):
            return
        if writable:
            if not rest:
                rest, left = next(chunks), left - _CHUNK
            rest = rest[link.send(rest) :]
    link.setblocking(True)
    while link.recv(1 << 20):
        pass


@contextlib.contextmanager
def hose(qos: int, count: int) -> Iterator[int]:
    """Start a hose and yield its port; `count` is rounded up to whole chunks of 500."""
    command = [sys.executable, "-m", "tests.bench.hose", "pour", str(qos), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.kill()


def pace(port: int, rate: int, count: int) -> None:
    """Publish at QoS 1 to a broker, this many a second, each with the time it was sent; a process of its own runs this."""
    name = b"pacer"
    login = b"\0\3all\0\3all"
    body = b"\0\4MQTT\4\xc2\0\0" + len(name).to_bytes(2, "big") + name + login
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(b"\x10" + length(len(body)) + body)
        _packet(link)
        link.setblocking(False)
        mids = itertools.cycle(range(1, 65_536))
        began, sent = time.monotonic(), 0
        while sent < count:
            time.sleep(_TICK_S)
            due = min(count, int((time.monotonic() - began) * rate))
            stamp = time.monotonic_ns().to_bytes(8, "big") + bytes(PAYLOAD - 8)
            packets = b"".join(publication(TOPIC % (n % TOPICS), stamp, next(mids)) for n in range(sent, due))
            sent = due
            while packets:
                readable, _, _ = select.select([link], [link], [])
                if readable:
                    link.recv(1 << 20)
                packets = packets[link.send(packets) :]
        time.sleep(0.5)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]]
    if sys.argv[1] == "pour":
        pour(*numbers)
    else:
        pace(*numbers)
