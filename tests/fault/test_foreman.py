"""The person of the crash rig outlives an api that dies in the middle of an answer."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fault.foreman import Foreman
from tests.kit.secured import until

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]


class _Dying(BaseHTTPRequestHandler):
    """Says how long its first answer about a permit is, and dies; asked again it says yes."""

    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.headers["Idempotency-Key"])
        body = json.dumps({"token": "t", "id": "permit-1"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.asked != ["", "inspection-1"]:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _dying() -> Iterator[tuple[str, list[str]]]:
    asked = list[str]()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Dying", (_Dying,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_half_an_answer_is_asked_for_again_under_the_same_key() -> None:
    with _dying() as (url, asked):
        foreman = Foreman(url, "n04")
        foreman.start()
        try:
            until(lambda: "inspection 1" in foreman.confirmed)
        finally:
            foreman.close()
    assert asked[:3] == ["", "inspection-1", "inspection-1"]
    assert not foreman.refused
