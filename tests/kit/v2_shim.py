"""A loopback proxy that gives InfluxDB 1.6, the server Debian ships, the write path and the health page of version 2.

It only renames: `bucket=db/rp` becomes `db` and `rp`, `ns` becomes `n`, `us` becomes `u`. Everything else passes as it is.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlencode, urlsplit

_PRECISIONS = {"ns": "n", "us": "u"}
_OWN_HEADERS = {"transfer-encoding", "connection", "content-length"}  # of one hop, not of the message


class _Shim(BaseHTTPRequestHandler):
    port: ClassVar[int]
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet: two of them wait 40 ms for each other

    def do_GET(self) -> None:
        if self.path.startswith("/health"):
            self._answer(200, {"Content-Type": "application/json"}, b'{"name":"influxdb","status":"pass","message":"ready"}')
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = {name: value for name, value in self.headers.items() if name.lower() not in {*_OWN_HEADERS, "authorization"}}
        upstream.request(self.command, _renamed(self.path), body or None, sent)
        with upstream.getresponse() as said:
            headers = {name: value for name, value in said.getheaders() if name.lower() not in _OWN_HEADERS}
            self._answer(said.status, headers, said.read())
        upstream.close()

    do_POST = do_HEAD = do_GET  # noqa: N815  the names the server looks for

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _renamed(path: str) -> str:
    parts = urlsplit(path)
    if parts.path != "/api/v2/write":
        return path
    asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    db, _, policy = asked["bucket"].partition("/")
    precision = asked.get("precision", "ns")
    where = {"db": db, "precision": _PRECISIONS.get(precision, precision), **({"rp": policy} if policy else {})}
    return f"/write?{urlencode(where)}"


@contextmanager
def shim(port: int) -> Iterator[int]:
    """Give the port of a proxy before the server on this port."""

    class Bound(_Shim):
        pass

    Bound.port = port
    with ThreadingHTTPServer(("127.0.0.1", 0), Bound) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
