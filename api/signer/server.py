"""The signer's door: one request a connection, read within its time and size, judged on a thread of its own, answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from api.signer.judge import Signer
from api.signer.messages import Introduce, frame, read_request
from api.signer.sockets import listening, removing
from manway.errors import DecodeRejected
from manway.runtime.ports import Run

_READ_S = 1.0  # (choice) the api writes a request at once
_MOST_AT_ONCE = 16  # (choice) more openings than that do not wait for one signer together; whoever comes then is sent away
_log = structlog.get_logger("signer")


class Door:
    """Serves a signer over a socket; `run` is where the records are read."""

    def __init__(self, signer: Signer, run: Run) -> None:
        self._signer, self._run = signer, run
        self._inside = 0

    @contextlib.asynccontextmanager
    async def open(self, path: Path) -> AsyncIterator[None]:
        """Serve at a path while the body runs; raises OSError when nothing can be served there."""
        server = await asyncio.start_unix_server(self._serve, sock=listening(path))
        with removing(path):
            try:
                yield
            finally:
                server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._inside += 1
        try:
            if self._inside <= _MOST_AT_ONCE:
                await self._answer(reader, writer)
        except DecodeRejected as error:
            _log.warning("request rejected", reason=error.reason)
        except (TimeoutError, OSError) as error:
            _log.warning("request not answered", reason=str(error) or "too slow")
        finally:
            self._inside -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_READ_S):
            request = await read_request(reader)
        answer = await self._run(lambda: self._signer.answer(request))
        if not isinstance(request, Introduce):
            _log.info("answered", request=type(request).__name__, answer=type(answer).__name__)
        writer.write(frame(answer))
        async with asyncio.timeout(_READ_S):
            await writer.drain()
