"""The fault proxy does to a link what its words say: every rig that cuts by it rests on this."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.kit.brokers import free_port
from tests.kit.proxy import FaultProxy, Link

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]
SHORT_S = 0.2


class Peer:
    """The server behind the link: says back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.task = asyncio.get_running_loop().create_task(self._echo(reader, writer))

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(100):
                self.heard += data
                writer.write(data)
        writer.close()


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    async with FaultProxy(server.sockets[0].getsockname()[1], delay_s=SHORT_S) as proxy:
        yield proxy
    server.close()
    if hasattr(peer, "task"):
        await asyncio.wait([peer.task], timeout=5)


class Caller:
    """A connection through the link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self) -> bytes:
        self.writer.write(b"word")
        return await self.hear()

    async def hear(self, within_s: float = 5.0) -> bytes:
        return await asyncio.wait_for(self.reader.read(100), within_s)


@contextlib.asynccontextmanager
async def calling(link: FaultProxy) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_whole_link_passes_what_it_is_given(link: FaultProxy) -> None:
    async with calling(link) as caller:
        assert await caller.ask() == b"word"


async def test_a_slow_link_is_late_both_ways_and_loses_nothing(link: FaultProxy) -> None:
    await link.turn(Link.DELAY)
    async with calling(link) as caller:
        began = time.monotonic()
        assert await caller.ask() == b"word"
    assert time.monotonic() - began >= 2 * SHORT_S


async def test_a_black_hole_tells_nobody_and_what_it_held_comes_through_when_it_heals(link: FaultProxy) -> None:
    async with calling(link) as caller:
        assert await caller.ask() == b"word"
        await link.turn(Link.BLACKHOLE)
        caller.writer.write(b"lost?")
        with pytest.raises(TimeoutError):
            await caller.hear(SHORT_S)
        await link.turn(Link.OK)
        assert await caller.hear() == b"lost?"


async def test_a_reset_ends_what_stands_and_what_comes(link: FaultProxy) -> None:
    async with calling(link) as caller:
        assert await caller.ask() == b"word"
        await link.turn(Link.RESET)
        with pytest.raises(ConnectionResetError):
            await caller.hear()
    async with calling(link) as caller:
        with pytest.raises(ConnectionResetError):
            await caller.ask()


async def test_a_refusal_is_for_new_connections_and_the_port_is_the_same_afterwards(link: FaultProxy) -> None:
    port = link.port
    async with calling(link) as standing:
        assert await standing.ask() == b"word"
        await link.turn(Link.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert await standing.ask() == b"word"
        await link.turn(Link.OK)
        assert link.port == port
        async with calling(link) as caller:
            assert await caller.ask() == b"word"


async def test_the_first_byte_alone_is_corrupted(link: FaultProxy, peer: Peer) -> None:
    await link.turn(Link.CORRUPT_FIRST_BYTE)
    async with calling(link) as caller:
        assert await caller.ask() == b"word"  # inverted there, and back here
    assert peer.heard == bytes([ord("w") ^ 0xFF]) + b"ord"


async def test_a_target_that_is_down_resets_who_asks() -> None:
    async with FaultProxy(free_port()) as nowhere, calling(nowhere) as caller:
        with pytest.raises(ConnectionResetError):
            await caller.ask()
