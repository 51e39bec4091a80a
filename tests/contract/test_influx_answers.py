"""The answers no healthy InfluxDB gives on demand, by a small server that does."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import msgspec
import pytest

from manway.entities import Frame, Reading
from manway.errors import StoreUnavailable
from manway.ids import Status
from manway.runtime.telemetry import Ledger, StoredFrame
from manway.runtime.telemetry_influx import InfluxStore
from tests.kit.telemetry_rows import NOON, a_row

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]


class Canned(BaseHTTPRequestHandler):
    """Answers a write by the first rule that fits its lines and keeps what it answered with 204."""

    rules: ClassVar[list[Callable[[list[bytes]], tuple[int, dict[str, str], bytes] | None]]]
    stored: ClassVar[list[bytes]]
    requests: ClassVar[list[tuple[int, int]]]
    release: ClassVar[threading.Event]
    pages: ClassVar[list[Callable[[str], tuple[int, dict[str, str], bytes] | None]]]
    asked: ClassVar[list[str]]
    paths: ClassVar[list[str]]
    posted: ClassVar[list[object]]
    port: ClassVar[int]
    version: ClassVar[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = body.split(b"\n")
        self.requests.append((len(lines), len(body)))
        self.paths.append(self.path)
        if self.path.startswith("/api/v2/dbrps"):
            self.posted.append(msgspec.json.decode(body))
        answers = [answer for rule in self.rules if (answer := rule(lines))]
        status, headers, said = answers[0] if answers else (204, {}, b"")
        if status == 204:
            self.stored.extend(lines)
        if status == 0:
            self.release.wait(60)  # longer than any test here
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(said))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self) -> None:
        """Answer by the first rule that fits the path, else as a 1.x server that knows nothing."""
        self.asked.append(self.path.split("?")[0])
        status, headers, said = next((rule(self.path) for rule in self.pages if rule(self.path)), None) or (
            (204, {"X-Influxdb-Version": self.version}, b"")
            if self.path.startswith("/ping")
            else (200, {}, b'{"results":[{}]}')
        )
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(said))}.items():
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
        pages: ClassVar = []
        asked: ClassVar = []
        paths: ClassVar = []
        posted: ClassVar = []
        version: ClassVar = "1.8.10"

    with ThreadingHTTPServer(("127.0.0.1", 0), Fresh) as server:
        Fresh.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        opened = InfluxStore(f"http://127.0.0.1:{server.server_port}", token="", org="o", bucket="b", timeout_s=20.0)
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
    server, _ = canned
    server.rules.append(lambda _lines: (status, headers, b'{"message":"not now"}'))
    patience = 20.0 if status else 0.5  # what no machine is too busy for, where an answer comes
    store = InfluxStore(f"http://127.0.0.1:{server.port}", token="", org="o", bucket="b", timeout_s=patience)
    with closing(store), pytest.raises(StoreUnavailable) as refused:
        store.write(rows_of(10))
    assert refused.value.retry_after_s == wait_s
    assert ("not now" in refused.value.reason) == (status != 0)
    assert server.stored == []


def test_an_answer_that_is_no_table_is_a_store_down(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.pages.append(lambda path: (200, {}, b"<html>a proxy's page</html>") if path.startswith("/query") else None)
    with pytest.raises(StoreUnavailable):
        store.latest(["g-1"])


def test_lines_of_other_measurements_are_bisected_alike_and_sent_in_nanoseconds(
    canned: tuple[type[Canned], InfluxStore],
) -> None:
    server, store = canned
    server.rules.append(lambda lines: (400, {}, b"{}") if any(b"bad" in line for line in lines) else None)
    lines = [b"event,site=s,type=T seq=%di %d" % (k, k) for k in range(100)]
    lines[42] = b"bad"
    assert [(dead.line, dead.reason.split()[0]) for dead in store.annotate(lines)] == [(b"bad", "400")]
    assert len(server.stored) == 99
    assert all("precision=ns" in path for path in server.paths)
    assert store.annotate([]) == []


def test_a_write_that_is_refused_moves_no_mark(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    store.write(rows_of(3), 7)
    server.rules.append(lambda _lines: (503, {}, b"{}"))
    with pytest.raises(StoreUnavailable):
        store.write(rows_of(3), 8)
    assert store.durable() == 7


# -- the end of a process, with a server that took the request and says nothing


def test_closing_ends_a_write_that_nobody_answers_at_once(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, _ = canned
    server.rules.append(lambda _lines: (0, {}, b""))
    store = InfluxStore(f"http://127.0.0.1:{server.port}", token="", org="o", bucket="b", timeout_s=60.0)
    refused: list[StoreUnavailable] = []

    def write() -> None:
        try:
            store.write(rows_of(3))
        except StoreUnavailable as error:
            refused.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    while not server.requests:
        time.sleep(0.005)
    store.close()
    thread.join(20)
    assert not thread.is_alive(), "the server says nothing for longer"
    assert [error.reason for error in refused] == ["closed"]


def test_a_process_ends_in_time_with_a_server_that_says_nothing(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, _ = canned
    server.rules.append(lambda _lines: (0, {}, b""))
    program = f"""
import threading
from manway.runtime.telemetry_influx import InfluxStore
store = InfluxStore("http://127.0.0.1:{server.port}", token="", org="o", bucket="b", timeout_s=60.0)
writer = threading.Thread(target=lambda: store.annotate([b"event x=1 1"]))
writer.start()
while not store._server._waiting: pass
threading.Event().wait(0.3)
store.close()
writer.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert "closed" in done.stderr


# -- where InfluxQL finds a bucket of 2.x

Said = tuple[int, dict[str, str], bytes]
BUCKET: Said = (200, {}, b'{"buckets":[{"id":"b-1","name":"b"}]}')


def mappings(*rows: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, b'{"content":[%s]}' % ",".join(rows).encode()


def pages(**answers: tuple[int, dict[str, str], bytes]) -> list[Callable[[str], tuple[int, dict[str, str], bytes] | None]]:
    return [lambda path, name=name, said=said: said if f"/{name}?" in path else None for name, said in answers.items()]  # type: ignore[misc]


@pytest.mark.parametrize("version", ["1.8.10", "unknown", "3.2.1"])
def test_a_server_that_is_not_2_x_needs_no_mapping(canned: tuple[type[Canned], InfluxStore], version: str) -> None:
    server, store = canned
    server.version = version
    assert store.latest(["g-1"]) == {}
    assert server.asked == ["/ping", "/query"]


def test_a_mapping_that_is_there_is_looked_for_once(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.version = "v2.9.1"
    server.pages += pages(dbrps=mappings('{"database":"b","retention_policy":"autogen","default":true,"virtual":true}'))
    store.check_mapping()
    store.latest(["g-1"])
    assert server.asked == ["/ping", "/api/v2/dbrps", "/query"]
    assert server.posted == []


@pytest.mark.parametrize("rows", [[], ['{"database":"b","retention_policy":"old","default":false}']])
def test_a_mapping_that_is_missing_is_added(canned: tuple[type[Canned], InfluxStore], rows: list[str]) -> None:
    server, store = canned
    server.version = "2.9.1"
    server.pages += pages(dbrps=mappings(*rows), buckets=BUCKET)
    server.rules.append(lambda lines: (201, {}, b"{}") if b"bucketID" in lines[0] else None)
    store.check_mapping()
    (posted,) = server.posted
    assert posted == {"org": "o", "bucketID": "b-1", "database": "b", "retention_policy": "autogen", "default": True}


def test_a_policy_that_is_named_must_be_mapped_itself(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, _ = canned
    server.version = "2.9.1"
    server.pages += pages(dbrps=mappings('{"database":"b","retention_policy":"year","default":false}'))
    store = InfluxStore(f"http://127.0.0.1:{server.port}", token="", org="o", bucket="b/year", timeout_s=20.0)
    store.check_mapping()
    assert server.posted == []
    store.close()


def test_a_token_that_may_not_map_is_told_what_is_missing(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.version = "2.9.1"
    server.pages += pages(dbrps=mappings(), buckets=BUCKET)
    server.rules.append(lambda _lines: (401, {}, b'{"message":"unauthorized"}'))
    with pytest.raises(StoreUnavailable, match="no InfluxQL mapping b/autogen, and this token may not add it") as refused:
        store.series("g-1", "O2", NOON, NOON + 1, None)
    assert refused.value.retry_after_s == 30.0


def test_a_bucket_that_is_missing_is_told(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.version = "2.9.1"
    server.pages += pages(dbrps=mappings(), buckets=(200, {}, b'{"buckets":[]}'))
    with pytest.raises(StoreUnavailable, match="no bucket b"):
        store.check_mapping()


def test_a_mapping_page_that_is_none_is_a_store_down(canned: tuple[type[Canned], InfluxStore]) -> None:
    server, store = canned
    server.version = "2.9.1"
    server.pages += pages(dbrps=(200, {}, b"[]"))
    with pytest.raises(StoreUnavailable):
        store.check_mapping()


def test_a_point_that_is_half_there_while_the_server_takes_it_is_torn_and_no_error(
    canned: tuple[type[Canned], InfluxStore],
) -> None:
    """A reader saw sequence numbers whose boot had not come yet."""
    server, store = canned
    points = f"[{NOON},7,1,{NOON}],[{NOON + 1},null,2,{NOON}],[{NOON + 2},7,null,{NOON}]"
    table = f'{{"columns":["time","b","s","rx"],"values":[{points}]}}'.encode()
    answer: tuple[int, dict[str, str], bytes] = (200, {}, b'{"results":[{"series":[' + table + b"]}]}")
    server.pages.append(lambda path: answer if path.startswith("/query") else None)

    assert store.ledger("g-1", NOON, NOON + 10) == Ledger(received=1, torn=2)
