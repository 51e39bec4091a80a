"""Who is measured, each as a command line on a broker of its own: our gateway, the bare paho loop, Node-RED."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from manway.runtime.broker import BrokerProcess, NatsBroker, NatsUser
from manway.runtime.signing import load_or_make_key
from manway.topics import SHARDS
from tests.bench import node_red
from tests.bench.driver import Driver, Missed
from tests.bench.fleet import LIMIT_PPM, Fleet
from tests.bench.node_red import Absent
from tests.bench.process import ROOT, Program
from tests.bench.wire import Login
from tests.kit.brokers import free_port

PASSWORD = "bench"  # noqa: S105  of a broker that lives for one run, on loopback
_USERS = ("gateway", "gw-1", "bench")
_MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
max_packet_size 65536
max_inflight_messages 2000
max_queued_messages 100000
persistence false
set_tcp_nodelay true
"""


class Broker(NamedTuple):
    """A broker that runs on loopback."""

    process: BrokerProcess
    port: int

    @property
    def login(self) -> Login:
        """How the driver signs in."""
        return Login(self.port, "bench", PASSWORD)


class Contestant(NamedTuple):
    """A program under test and the driver that loads it; `folder` is all it may write to."""

    program: Program
    driver: Driver
    fleet: Fleet
    folder: Path


@contextlib.contextmanager
def entered(
    broker: str, name: str, fleet: Fleet, place: Path, *, tree: Path = ROOT, **settings: object
) -> Iterator[Contestant]:
    """Run a gateway of `COMMANDS` on a fresh broker below `place`, and hand it over once its first alarm has come.

    `tree` is the checkout our own gateway runs from, `settings` are more lines of its file.

    Raises:
        Absent: the broker or the gateway is not installed here.
    """
    command, prime = COMMANDS[name]
    with running_broker(broker, place / "broker") as served:
        folder = place / name
        folder.mkdir()
        line = command(served, fleet, folder, settings)
        driver = Driver(served.login, fleet, api=prime is not None)
        try:
            # Before the gateway is there: what NATS retains while a session subscribes never comes to it, and no api is here.
            if prime is not None:
                prime(driver, fleet, folder)
            program = Program(line, folder / "program.log", cwd=tree if name == "manway" else ROOT)
            try:
                _wake(driver, program)
                yield Contestant(program, driver, fleet, folder)
            finally:
                program.stop()
        finally:
            driver.close()


def _wake(driver: Driver, program: Program) -> None:
    try:
        driver.wake(program.check)
    except Missed as error:
        raise Missed(f"{error}; the program says last: {program.log.read_text(errors='replace')[-600:]}") from error


@contextlib.contextmanager
def running_broker(name: str, folder: Path) -> Iterator[Broker]:
    """Run a fresh `nats` or `mosquitto`; raises Absent."""
    folder.mkdir(parents=True)
    port = free_port()
    process = _nats(folder, port) if name == "nats" else _mosquitto(folder, port)
    process.start()
    try:
        yield Broker(process, port)
    finally:
        process.stop()


def _nats(folder: Path, port: int) -> BrokerProcess:
    try:
        # As many rows as a hosted gateway has filters: the broker lets a session owe what they allow (`broker_config`).
        rows = [f"manway.1.*.*.{below}" for below in ("dev.*.gas", "dev.*.state", "dev.*.up.*", "api.*")]
        others = [NatsUser(user, PASSWORD, [">"], ["manway.>", "bench.>"]) for user in _USERS if user != "gateway"]
        return NatsBroker(folder, port, [NatsUser("gateway", PASSWORD, [">"], rows), *others])
    except FileNotFoundError as error:
        raise Absent(str(error)) from error


def _mosquitto(folder: Path, port: int) -> BrokerProcess:
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise Absent("no mosquitto: install the package mosquitto")
    config = folder / "mosquitto.conf"
    config.write_text(_MOSQUITTO.format(port=port))
    return BrokerProcess([binary, "-c", str(config)], port, folder / "mosquitto.log")


# -- command lines ----------------------------------------------------------------------------------------------------


def _manway(broker: Broker, fleet: Fleet, folder: Path, settings: dict[str, object]) -> list[str]:
    """Our gateway with all its rules, its journal and its telemetry store."""
    keys = folder / "data" / "keys"
    keys.mkdir(parents=True)
    (keys / "plan.pub").write_bytes(load_or_make_key(keys / "plan.key").public_key)
    lines = {
        "data": str(folder / "data"),
        "sites": fleet.sites,
        "broker": broker.process.url,
        "broker_password": PASSWORD,
        **({"shards": list(range(SHARDS))} if len(fleet.sites) > 1 else {}),  # hosted: four filters for all of them
        **settings,
    }
    config = folder / "gateway.toml"
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items()))
    return [sys.executable, "-m", "gateway", str(config)]


def _prime_manway(driver: Driver, fleet: Fleet, folder: Path) -> None:
    key = load_or_make_key(folder / "data" / "keys" / "plan.key")
    driver.prime(fleet.births())
    driver.prime(fleet.plans(key, time.time()))


def _peer(module: str, *files: str) -> "Command":
    def command(broker: Broker, fleet: Fleet, folder: Path, _: dict[str, object]) -> list[str]:
        login = [str(broker.port), str(fleet.qos), "bench", PASSWORD]
        return [sys.executable, "-m", f"tests.bench.peers.{module}", *login, *(str(folder / file) for file in files)]

    return command


def _node_red(broker: Broker, fleet: Fleet, folder: Path, settings: dict[str, object]) -> list[str]:
    values = {"port": str(broker.port), "qos": str(fleet.qos), "limit": str(LIMIT_PPM)}
    values |= {name: str(value) for name, value in settings.items()}
    flows = "node_red_store.json" if "database" in settings else "node_red_alarm.json"
    return node_red.command(flows, folder, values, {"broker": {"user": "bench", "password": PASSWORD}})


Command = Callable[[Broker, Fleet, Path, dict[str, object]], list[str]]
Prime = Callable[[Driver, Fleet, Path], None]
COMMANDS: dict[str, tuple[Command, Prime | None]] = {
    "manway": (_manway, _prime_manway),
    "paho": (_peer("paho_loop"), None),
    "floor": (_peer("batch_loop"), None),
    "node-red": (_node_red, None),
    "one commit a message": (_peer("commit_loop", "frames.db"), None),
}
