"""The register of an installation: who there is, which certificates were issued, and where its processes find their files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from manway.runtime.broker_config import Client, TlsFiles
from manway.runtime.secrets import write_private
from manway.runtime.yard import load_yard

Kind = Literal["server", "client", "device"]
MQTT_PORT = 8883


class NotDone(Exception):
    """The command cannot be carried out; the message says what to do."""


class Issued(msgspec.Struct):
    """One certificate: `serial` in hexadecimal, times in Unix seconds, `revoked_at` 0 while it counts."""

    id: str
    kind: Kind
    serial: str
    until: float
    revoked_at: float = 0.0


class Register(msgspec.Struct):
    """What an installation consists of, as `register.json` keeps it; it holds no secret.

    `gateways` maps an id to its sites, `shards` that of a hosted gateway to its shards, `local` says that processes run beside
    the folder and not in containers, `owner` is the user id that the files are given to (-1: to nobody), `lists` counts the
    revocation lists.
    """

    host: str
    sites: list[str]
    gateways: dict[str, list[str]]
    shards: dict[str, list[int]] = {}
    devices: list[str] = []
    local: bool = False
    owner: int = -1
    lists: int = 0
    issued: list[Issued] = []

    def valid(self, name: str) -> list[Issued]:
        """Return the certificates of an id that count."""
        return [one for one in self.issued if one.id == name and not one.revoked_at]

    def revoked(self) -> list[str]:
        """Return the ids of which no certificate counts any more, each once."""
        return sorted({one.id for one in self.issued if not self.valid(one.id)})

    def clients(self) -> Iterator[Client]:
        """Yield those whom a broker gives more than a device's rights; the revoked are none of them."""
        yard = {site.id for site in load_yard().site}
        everybody = [Client(name, "gateway", sites, self.shards.get(name, [])) for name, sites in self.gateways.items()]
        everybody += [Client("api", "api", self.sites), Client("signer", "signer", self.sites)]
        # A simulator plays the training yard; at a real site it could feed clean air to an alarm.
        everybody.append(Client("sim", "simulator", [site for site in self.sites if site in yard]))
        yield from (client for client in everybody if self.valid(client.id))

    def save(self, folder: Path) -> None:
        """Write `register.json`."""
        write_private(folder / "register.json", msgspec.json.format(msgspec.json.encode(self)), 0o644)


def load_register(folder: Path) -> Register:
    """Read `register.json`.

    Raises:
        NotDone: there is none, or it cannot be read.
    """
    path = folder / "register.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Register)
    except FileNotFoundError as error:
        raise NotDone(f"{folder} is no installation: {path.name} is not there; `manway init {folder}` makes one") from error
    except msgspec.DecodeError as error:
        raise NotDone(f"{path} is damaged ({error}); restore it from a copy") from error


class Places(msgspec.Struct, frozen=True):
    """Where the processes see the files: in containers below fixed paths, else in the folder itself."""

    secrets: str
    acl: str
    broker_data: str
    nats_data: str
    data: str
    broker: str
    listen: str
    signer: str

    def tls(self, name: str) -> TlsFiles:
        """Return the three files of one certificate."""
        return TlsFiles(f"{self.secrets}/ca.crt", f"{self.secrets}/{name}.crt", f"{self.secrets}/{name}.key")


def places(folder: Path, register: Register) -> Places:
    """Return the places of an installation whose folder is, or will be, this one."""
    if not register.local:
        broker = f"mqtts://mosquitto:{MQTT_PORT}"
        own = ("/run/secrets", "/etc/mosquitto/acl", "/mosquitto/data", "/data", "/var/lib/manway", broker, "0.0.0.0")  # noqa: S104  in a container
        return Places(*own, signer="/run/manway/signer.sock")
    home, data = folder.resolve(), folder.resolve() / "data"
    broker = f"mqtts://{register.host}:{MQTT_PORT}"
    own = (f"{home}/secrets", f"{home}/mosquitto/acl", f"{data}/mosquitto", f"{data}/nats", f"{data}", broker, "127.0.0.1")
    return Places(*own, signer=f"{data}/signer.sock")
