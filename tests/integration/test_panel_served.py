"""The emergency page over a real socket: it answers, waits for a port that is taken, and ends nothing but itself."""

import asyncio
import contextlib
import socket
import urllib.request
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway import panel, panel_callers
from tests.kit.brokers import free_port

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]


async def _hello(_: object) -> PlainTextResponse:
    return PlainTextResponse("here")


def _get(port: int, host: str = "127.0.0.1") -> str:
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=2) as answer:
        return str(answer.read().decode())


async def _until_here(port: int, host: str = "127.0.0.1") -> str:
    for _ in range(400):
        try:
            return await asyncio.to_thread(_get, port, host)
        except OSError:
            await asyncio.sleep(0.05)
    raise AssertionError("nobody answers")


async def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_AGAIN_S", 0.1)
    port, app = free_port(), Starlette(routes=[Route("/", _hello)])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        task = asyncio.get_running_loop().create_task(panel.serve(app, "127.0.0.1", port))
        await asyncio.sleep(0.3)
        assert not task.done()
    assert await _until_here(port) == "here"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(_get, port)


async def test_an_address_of_the_newer_kind_is_served_too() -> None:
    port, app = free_port(), Starlette(routes=[Route("/", _hello)])
    task = asyncio.get_running_loop().create_task(panel.serve(app, "::1", port))
    try:
        assert await _until_here(port, "[::1]") == "here"
    finally:
        task.cancel()


@pytest.mark.parametrize("error", [RuntimeError("something nobody thought of"), SystemExit(3)])
async def test_a_page_that_breaks_begins_again(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel, "_AGAIN_S", 0.1)
    broken = True
    real = uvicorn.Server._serve

    async def serve(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        nonlocal broken
        if broken:
            broken = False
            raise error
        await real(self, sockets=sockets)

    monkeypatch.setattr(uvicorn.Server, "_serve", serve)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("again")(scope, receive, send)

    port = free_port()
    task = asyncio.get_running_loop().create_task(panel.serve(app, "127.0.0.1", port))
    try:
        assert await _until_here(port) == "again"
        assert not broken
    finally:
        task.cancel()


# -- who asks nothing makes room -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _open(port: int, said: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(said)
        yield reader


@contextlib.asynccontextmanager
async def _served() -> AsyncIterator[int]:
    async def slow(_: object) -> PlainTextResponse:
        await asyncio.sleep(1.0)
        return PlainTextResponse("late")

    async def take(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    async def much(_: object) -> PlainTextResponse:
        return PlainTextResponse("x" * 20_000_000)

    paths = [Route("/", _hello), Route("/slow", slow), Route("/take", take, methods=["POST"]), Route("/much", much)]
    port = free_port()
    task = asyncio.get_running_loop().create_task(panel.serve(Starlette(routes=paths), "127.0.0.1", port))
    try:
        await _until_here(port)
        yield port
    finally:
        task.cancel()
        await asyncio.wait([task])


def _asks(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()


POSTED = b"POST /take HTTP/1.1\r\nHost: gateway\r\nContent-Length: 9\r\n\r\n"
UNFINISHED = [b"", b"GET / HT", POSTED + b"half", _asks("/") + b"GET / HT"]


@pytest.mark.parametrize("said", UNFINISHED, ids=["nothing", "half a line", "half a form", "a second half"])
async def test_who_does_not_finish_a_request_is_not_waited_for(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_callers, "SILENT_S", 0.4)
    async with _served() as port, _open(port, said) as reader, asyncio.timeout(20):
        assert (b"here" in await reader.read()) == said.startswith(_asks("/"))


async def test_who_does_not_read_an_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_callers, "SILENT_S", 0.4)
    async with _served() as port, _open(port, _asks("/much")) as reader:
        await asyncio.sleep(1.5)
        with contextlib.suppress(ConnectionResetError):
            assert len(await reader.read()) < 20_000_000


async def test_who_has_asked_is_answered_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_callers, "SILENT_S", 0.4)
    async with _served() as port, _open(port, _asks("/slow")) as reader, asyncio.timeout(20):
        assert (await reader.read()).endswith(b"late")


async def test_where_all_places_are_taken_the_oldest_silent_one_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_callers, "MOST", 3)
    async with contextlib.AsyncExitStack() as many, _served() as port:
        await asyncio.sleep(0.2)  # who looked whether it is there has left
        asker = await many.enter_async_context(_open(port, _asks("/slow")))
        silent = []
        for _ in range(2):
            silent.append(await many.enter_async_context(_open(port)))
            await asyncio.sleep(0.05)
        rescuer = await many.enter_async_context(_open(port, _asks("/")))
        assert b"here" in await rescuer.readuntil(b"here")
        async with asyncio.timeout(20):
            assert await silent[0].read() == b""  # the first of them
            assert (await asker.readuntil(b"late")).endswith(b"late")
        assert not silent[1].at_eof()
