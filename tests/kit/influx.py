"""A real InfluxDB for the tests: in Docker, from a binary, or built by Go once into the user's cache.

`python -m tests.kit.influx` builds the binary ahead of the tests; they build it themselves where Go is present.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest

IMAGE = "influxdb:2.9.1"  # never `latest`, which became another product
MODULE = "github.com/influxdata/influxdb/cmd/influxd@v1.8.10"  # the last 1.x that builds without Rust
READY_WITHIN_S = 30.0
BODY_LIMIT = 400_000  # below our own request size, so that a full block meets a real 413

_DIRECT = build_opener(ProxyHandler({}))  # whatever proxy the machine has, loopback is not behind it
_CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:{backup_port}"
[meta]
dir = "{directory}/meta"
logging-enabled = false
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
flux-enabled = false
log-enabled = false
max-body-size = {body_limit}
[logging]
level = "error"
[monitor]
store-enabled = false
"""


class NoServer(Exception):
    """One way to a server is not open here, and why."""


@dataclass(frozen=True)
class InfluxServer:
    """Where the server is and what to show it; `version` says which one runs."""

    url: str
    token: str
    org: str
    bucket: str
    version: str

    def write_raw(self, lines: str) -> None:
        """Store lines of line protocol, times in ms, past the code under test."""
        where = urlencode({"org": self.org, "bucket": self.bucket, "precision": "ms"})
        headers = {"Authorization": f"Token {self.token}", "Content-Type": "text/plain; charset=utf-8"}
        _post(f"{self.url}/api/v2/write?{where}", lines.encode(), headers)


@contextmanager
def running_influx(directory: Path) -> Iterator[InfluxServer]:
    """Give a server with an empty bucket, its files below `directory`; ends it afterwards.

    Skips with the reasons where no server can be had, and fails where CI is `true`.
    """
    reasons = []
    for way in (_docker, _binary):
        try:
            server, stop = way(directory)
        except NoServer as reason:
            reasons.append(str(reason))
            continue
        if sys.__stderr__:  # past pytest's capture: a report must say what it was tested with
            sys.__stderr__.write(f"InfluxDB under test: {server.version}\n")
        try:
            yield server
        finally:
            stop()
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"no InfluxDB: {'; '.join(reasons)}")
    pytest.skip(f"no InfluxDB: {'; '.join(reasons)}")


def cached_binary() -> Path:
    """Where the built server lies, or will."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "manway" / "bin" / "influxd"


def built_by_go() -> Path:
    """Return the cached 1.8.10 binary; builds it where it is missing, which takes minutes."""
    target = cached_binary()
    cache = target.parent
    if target.exists():
        return target
    if not shutil.which("go"):
        raise NoServer("no influxd in MANWAY_INFLUXD, on PATH or in the cache, and no Go to build one")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "influxd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test worker builds, the others wait for it
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=cache) as place:
                built = subprocess.run(
                    ["go", "install", MODULE],
                    env={**os.environ, "GOBIN": place},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if built.returncode:
                    raise NoServer(f"Go could not build influxd: {built.stderr[-300:]}")
                Path(place, "influxd").rename(target)
    return target


def _docker(_directory: Path) -> tuple[InfluxServer, Callable[[], None]]:
    """Start the production image, where an engine answers and not only the command is installed."""
    if not shutil.which("docker"):
        raise NoServer("no docker command")
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=20, check=False
    )
    if asked.returncode:
        raise NoServer("no Docker engine answers")
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415  slow, and of use only with an engine

    token, org, bucket = "a-token-for-tests", "manway", "manway"
    setup = {"MODE": "setup", "USERNAME": "tests", "PASSWORD": "tests-only", "ORG": org, "BUCKET": bucket, "ADMIN_TOKEN": token}
    container = DockerContainer(IMAGE).with_exposed_ports(8086)
    for name, value in setup.items():
        container.with_env(f"DOCKER_INFLUXDB_INIT_{name}", value)
    container.start()
    server = InfluxServer(f"http://127.0.0.1:{container.get_exposed_port(8086)}", token, org, bucket, f"{IMAGE} in Docker")
    try:
        _wait_until_ready(f"{server.url}/api/v2/buckets?name={bucket}", {"Authorization": f"Token {token}"}, Path(os.devnull))
    except NoServer:
        container.stop()
        raise
    return server, container.stop


def _binary(directory: Path) -> tuple[InfluxServer, Callable[[], None]]:
    """Start a 1.x `influxd` of the machine, with a configuration of its own on free loopback ports."""
    binary = os.environ.get("MANWAY_INFLUXD") or shutil.which("influxd") or str(built_by_go())
    version = subprocess.run([binary, "version"], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    if "InfluxDB v2" in version or "InfluxDB 2" in version:
        raise NoServer(f"{version} needs another start; use the Docker image")
    port, backup_port = _free_port(), _free_port()
    configuration, log = directory / "influxdb.conf", directory / "influxdb.log"
    configuration.write_text(
        _CONFIGURATION.format(directory=directory, port=port, backup_port=backup_port, body_limit=BODY_LIMIT),
    )
    with log.open("wb") as out:
        process = subprocess.Popen([binary, "run", "-config", str(configuration)], stdout=out, stderr=out)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    server = InfluxServer(
        f"http://127.0.0.1:{port}", "tests:tests", "-", "manway", f"{version}, {Path(binary).name} as a process"
    )
    try:
        _wait_until_ready(f"{server.url}/ping", {}, log)
        _post(f"{server.url}/query", urlencode({"q": f"CREATE DATABASE {server.bucket}"}).encode(), {})
    except BaseException:
        stop()
        raise
    return server, stop


def _wait_until_ready(url: str, headers: dict[str, str], log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            with _DIRECT.open(Request(url, headers=headers), timeout=5):  # noqa: S310  our own http URL
                return
        except (URLError, OSError) as error:
            if time.monotonic() > until:
                raise NoServer(f"{url} did not answer: {error}: {log.read_text()[-300:]}") from error
            time.sleep(0.05)


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    with _DIRECT.open(Request(url, body, headers), timeout=10):  # noqa: S310  our own http URL
        pass


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.stdout.write(f"{built_by_go()}\n")
