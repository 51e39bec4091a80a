"""A TCP link on loopback that fails on demand, where no packet filter may be used (`trust.md` §13)."""

import asyncio
import enum
import socket
import struct
from typing import Self

_AT_ONCE = 1 << 16
_WITHOUT_GOODBYE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends a reset instead of an end


class Link(enum.Enum):
    """What the link does to the bytes of both directions."""

    OK = "ok"
    DELAY = "delay"  # whatever is read at once goes on `delay_s` later, in order
    BLACKHOLE = "blackhole"  # nothing comes through and nobody is told; what was sent goes on when the link heals
    RESET = "reset"  # every connection is torn down, and each new one too
    REFUSE = "refuse"  # nobody listens; connections that stand go on
    CORRUPT_FIRST_BYTE = "corrupt_first_byte"  # the first byte of whatever is read at once is inverted


class FaultProxy:
    """Listens on a free loopback port (`port`) and passes on to `target`, as `turn` last said.

    Use within the event loop: `async with FaultProxy(1883) as link: await link.turn(Link.RESET)`.
    """

    def __init__(self, target: int, *, delay_s: float = 0.0) -> None:
        self.port, self.delay_s = 0, delay_s
        self._target, self._link = target, Link.OK
        self._server: asyncio.Server | None = None
        self._through = asyncio.Event()
        self._writers, self._tasks = set[asyncio.StreamWriter](), set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        await self.turn(Link.OK)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.turn(Link.REFUSE)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def turn(self, link: Link) -> None:
        """Change what the link does, from now on."""
        self._link = link
        (self._through.clear if link is Link.BLACKHOLE else self._through.set)()
        if link is Link.RESET:
            self._tear()
        if link is Link.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
        elif link is not Link.REFUSE and self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def _tear(self) -> None:
        for writer in self._writers:
            writer.transport.abort()  # with the option below: a reset

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._keep(writer)
        try:
            if self._link is Link.RESET:
                raise ConnectionResetError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._keep(far_writer)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, far_writer))
                    both.create_task(self._pump(far_reader, writer))
            finally:
                self._writers.discard(far_writer)
                far_writer.transport.abort()
        except* OSError:
            pass  # an end is gone, or was never there: the other learns it by the reset below
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def _keep(self, writer: asyncio.StreamWriter) -> None:
        end: socket.socket = writer.get_extra_info("socket")
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITHOUT_GOODBYE)
        self._writers.add(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_AT_ONCE):
            if self._link is Link.DELAY:
                await asyncio.sleep(self.delay_s)
            if self._link is Link.CORRUPT_FIRST_BYTE:
                data = bytes([data[0] ^ 0xFF]) + data[1:]
            await self._through.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
