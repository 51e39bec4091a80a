"""The answers no healthy InfluxDB gives on demand, by a small server that does."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from manway.entities import Frame, Reading
from manway.errors import StoreUnavailable
from manway.ids import Status
from manway.runtime.telemetry import StoredFrame
from manway.runtime.telemetry_influx import InfluxStore
from tests.kit.telemetry_rows import NOON, a_row

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]


class Canned(BaseHTTPRequestHandler):
    """Answers a write by the first rule that fits its lines and keeps what it answered with 204."""

    rules: ClassVar[list[Callable[[list[bytes]], tuple[int, dict[str, str], bytes] | None]]]
    stored: ClassVar[list[bytes]]
    requests: ClassVar[list[tuple[int, int]]]
    release: ClassVar[threading.Event]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = body.split(b"\n")
        self.requests.append((len(lines), len(body)))
        answers = [answer for rule in self.rules if (answer := rule(lines))]
        status, headers, said = answers[0] if answers else (204, {}, b"")
        if status == 204:
            self.stored.extend(lines)
        if status == 0:
            self.release.wait(10)
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(said))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def canned() -> Iterator[tuple[type[Canned], InfluxStore]]:
    class Fresh(Canned):
        rules: ClassVar = []
        stored: ClassVar = []
        requests: ClassVar = []
        release: ClassVar = threading.Event()

    with ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        opened = InfluxStore(f"http://127.0.0.1:{server.server_port}", token="", org="o", bucket="b", timeout_s=0.5)
        yield Fresh, opened
        Fresh.release.set()
        opened.close()
        server.shutdown()
        thread.join()


def rows_of(number: int, **words: str) -> list[StoredFrame]:
    return [a_row("g-1", seq=k, ts=NOON + k, space=words.get(f"at_{k}", "tank-3")) for k in range(number)]


def test_a_request_holds_at_most_5000_lines(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    assert store.write(rows_of(10_001)) == []
    assert [lines for lines, _size in server.requests] == [5000, 5000, 1]
    assert len(server.stored) == 10_001
    assert store.write([]) == []
    assert len(server.requests) == 3


def test_a_request_holds_at_most_a_million_bytes(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    wide = {f"C{k}": Reading(Status.OK, 1234.56789) for k in range(60)}
    store.write([StoredFrame(Frame("g-1", 1, k, NOON + k, 0.0, wide), "tank-3") for k in range(2000)])
    assert len(server.requests) > 1
    assert max(size for _lines, size in server.requests) <= 1_000_000
    assert len(server.stored) == 2000


def test_a_request_that_is_too_large_is_halved(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.rules.append(lambda lines: (413, {}, b"") if len(lines) > 100 else None)
    assert store.write(rows_of(1000)) == []
    assert len(server.stored) == len(set(server.stored)) == 1000


def test_one_line_that_is_too_large_is_dead(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.rules.append(lambda lines: (413, {}, b"") if any(b"vast" in line for line in lines) else None)
    assert [entry.row.frame.seq for entry in store.write(rows_of(100, at_42="vast"))] == [42]
    assert len(server.stored) == 99


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("said", [b'{"error":"line 3 is bad"}', b'{"message":"line 3 is bad"}', b"<html>", b""])
def test_a_refused_block_is_bisected_to_its_bad_lines(
    canned: tuple[type[Canned], InfluxStore],
    status: int,
    said: bytes,
) -> None:
    server, store = canned
    server.rules.append(lambda lines: (status, {}, said) if any(b"bad" in line for line in lines) else None)
    dead = store.write(rows_of(1000, at_0="bad", at_501="bad", at_999="bad"))
    assert [entry.row.frame.seq for entry in dead] == [0, 501, 999]
    assert all(entry.reason.startswith(str(status)) and ("line 3 is bad" in entry.reason) == (b"bad" in said) for entry in dead)
    assert len(server.stored) == len(set(server.stored)) == 997
    assert len(server.requests) < 70


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (401, {}, 30.0),
        (403, {}, 30.0),
        (404, {"Retry-After": "1"}, 30.0),
        (429, {"Retry-After": "7"}, 7.0),
        (429, {}, None),
        (500, {}, None),
        (503, {"Retry-After": "120"}, 120.0),
        (503, {"Retry-After": "Sun, 22 Nov 2026 12:00:00 GMT"}, None),
        (0, {}, None),
    ],
)
def test_any_other_answer_or_none_means_write_again_later(
    canned: tuple[type[Canned], InfluxStore],
    status: int,
    headers: dict[str, str],
    wait_s: float | None,
) -> None:
    server, store = canned
    server.rules.append(lambda _lines: (status, headers, b'{"message":"not now"}'))
    with pytest.raises(StoreUnavailable) as refused:
        store.write(rows_of(10))
    assert refused.value.retry_after_s == wait_s
    assert ("not now" in refused.value.reason) == (status != 0)
    assert server.stored == []


def test_an_answer_that_is_no_table_is_a_store_down(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.rules.append(lambda _lines: (200, {}, b"<html>a proxy's page</html>"))
    with pytest.raises(StoreUnavailable):
        store.prune(0)
