"""Real InfluxDB servers for the tests: in Docker, from a binary, built by Go once into the user's cache, or Debian's package.

`python -m tests.kit.influx` builds the binary ahead of the tests; they build it themselves where Go is present. Debian's 1.6.7
is downloaded by `apt-get`, unpacked into the cache without installing anything, and stands behind `tests.kit.v2_shim`.
`MANWAY_INFLUXD` names another binary, 1.x or 2.x.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import msgspec
import pytest

from tests.kit.brokers import free_port
from tests.kit.v2_shim import shim

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

    def query(self, statement: str) -> list[dict[str, bool | float | int | str | None]]:
        """Return the rows of an InfluxQL statement, times in ns, past the code under test."""
        asked = f"{self.url}/query?{urlencode({'db': self.bucket, 'q': statement, 'epoch': 'ns'})}"
        headers = {"Authorization": f"Token {self.token}"}
        with _DIRECT.open(Request(asked, headers=headers), timeout=10) as said:  # noqa: S310  our own http URL
            answer = msgspec.json.decode(said.read(), type=_Answer)
        tables = [table for result in answer.results for table in result.series]
        return [dict(zip(table.columns, row, strict=True)) for table in tables for row in table.values]


class _Table(msgspec.Struct):
    columns: list[str]
    values: list[list[bool | float | int | str | None]]


class _Result(msgspec.Struct):
    series: list[_Table] = []


class _Answer(msgspec.Struct):
    results: list[_Result]


_Way = Callable[[Path], tuple[InfluxServer, Callable[[], None]]]


@contextmanager
def running_influx(directory: Path) -> Iterator[InfluxServer]:
    """Give a server with an empty bucket, its files below `directory`; ends it afterwards.

    Skips with the reasons where no server can be had, and fails where CI is `true`.
    """
    with _first_of((_docker, _binary), directory) as server:
        yield server


@contextmanager
def running_debian_influx(directory: Path) -> Iterator[InfluxServer]:
    """Give the server Debian ships, behind a proxy that speaks version 2's write path; skips or fails as `running_influx`."""
    with _first_of((_debian,), directory) as server:
        yield server


@contextmanager
def _first_of(ways: Sequence[_Way], directory: Path) -> Iterator[InfluxServer]:
    reasons = []
    for way in ways:
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


def debian_binary() -> Path:
    """Return `influxd` of Debian's package: the installed one, or one downloaded and unpacked into the cache."""
    installed = shutil.which("influxd")
    if installed and _is_debian(_version(installed)):
        return Path(installed)
    target = cached_binary().with_name("influxd-debian")
    if not target.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise NoServer("no Debian to download influxdb from")
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / "influxd.lock").open("w") as lock, tempfile.TemporaryDirectory(dir=target.parent) as place:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _unpack_debian(Path(place), target)
    return target


def _unpack_debian(place: Path, target: Path) -> None:
    for command in (["apt-get", "-q", "download", "influxdb"], ["sh", "-c", "dpkg-deb -x influxdb_*.deb ."]):
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise NoServer(f"no Debian package of influxdb: {done.stderr[-300:]}")
    (place / "usr" / "bin" / "influxd").rename(target)


def _version(binary: str) -> str:
    return subprocess.run([binary, "version"], capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def _is_debian(version: str) -> bool:
    return "v1.6" in version


def _debian(directory: Path) -> tuple[InfluxServer, Callable[[], None]]:
    binary = debian_binary()
    with ExitStack() as started:
        port, stop = _start_1x(str(binary), directory)
        started.callback(stop)
        front = started.enter_context(shim(port))
        server = InfluxServer(f"http://127.0.0.1:{front}", "tests:tests", "-", "manway", f"{_version(str(binary))} of Debian")
        return server, started.pop_all().close


def _binary(directory: Path) -> tuple[InfluxServer, Callable[[], None]]:
    """Start an `influxd` of the machine, with a configuration of its own on free loopback ports."""
    installed = shutil.which("influxd")
    if installed and _is_debian(_version(installed)):
        installed = None  # it has no write path of version 2: a parametrisation of its own
    binary = os.environ.get("MANWAY_INFLUXD") or installed or str(built_by_go())
    version = _version(binary)
    if "InfluxDB v2" in version or "InfluxDB 2" in version:
        return _start_2x(binary, directory, version)
    port, stop = _start_1x(binary, directory)
    named = f"{version}, {Path(binary).name} as a process"
    return InfluxServer(f"http://127.0.0.1:{port}", "tests:tests", "-", "manway", named), stop


def _start_1x(binary: str, directory: Path) -> tuple[int, Callable[[], None]]:
    port, backup_port = free_port(), free_port()
    configuration = directory / "influxdb.conf"
    configuration.write_text(
        _CONFIGURATION.format(directory=directory, port=port, backup_port=backup_port, body_limit=BODY_LIMIT),
    )
    stop, log = _process([binary, "run", "-config", str(configuration)], directory)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/ping", {}, log)
        _post(f"http://127.0.0.1:{port}/query", urlencode({"q": "CREATE DATABASE manway"}).encode(), {})
    except BaseException:
        stop()
        raise
    return port, stop


def _start_2x(binary: str, directory: Path, version: str) -> tuple[InfluxServer, Callable[[], None]]:
    port = free_port()
    places = ["--bolt-path", str(directory / "bolt"), "--engine-path", str(directory / "engine")]
    stop, log = _process(
        [binary, "run", *places, "--http-bind-address", f"127.0.0.1:{port}", "--reporting-disabled"], directory
    )
    server = InfluxServer(f"http://127.0.0.1:{port}", "a-token-for-tests", "manway", "manway", f"{version} as a process")
    setup = {"username": "tests", "password": "tests-only", "org": server.org, "bucket": server.bucket, "token": server.token}
    try:
        _wait_until_ready(f"{server.url}/health", {}, log)
        _post(f"{server.url}/api/v2/setup", msgspec.json.encode(setup), {"Content-Type": "application/json"})
    except BaseException:
        stop()
        raise
    return server, stop


def _process(command: Sequence[str], directory: Path) -> tuple[Callable[[], None], Path]:
    log = directory / "influxdb.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    return stop, log


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


if __name__ == "__main__":
    sys.stdout.write(f"{built_by_go()}\n")
