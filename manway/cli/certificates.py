"""Issue, revoke and renew certificates of an installation, and write the brokers' rights anew from its register."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from manway import topics
from manway.cli.register import MQTT_PORT, Issued, Kind, NotDone, Register, load_register, places
from manway.errors import ProfileInvalid
from manway.runtime.broker_config import NatsCluster, NatsNode, mosquitto_acl, mosquitto_config, nats_clients, write_nats_config
from manway.runtime.pki import DAY_S, LEAF_LIFE_S, RENEW_BEFORE_S, Authority, check_id, expires_at
from manway.runtime.secrets import write_private

NODES = ("nats-1", "nats-2", "nats-3")
# Server leaves and the names each has besides the host's: those of the services in docker-compose.
SERVERS = {"broker": ("mosquitto",), "nats": ("nats", *NODES), "web": ("api",)}
RESERVED = frozenset({*SERVERS, "api", "signer", "sim", "ca", "crl", "issuer", "issuer-next", "plan", "site", "site-next"})
CRL_DUE_S = 14 * DAY_S  # half of its life is gone: the weekly signing has failed twice (choice)
_ROUTE_PORT = 6222  # NATS' own choice


class Ending(msgspec.Struct, frozen=True):
    """A certificate or list, the days it has left, and whether it is time to renew it."""

    file: str
    days: float
    due: bool


def load_authority(disk: Path) -> Authority:
    """Return the authority of a folder `ca`.

    Raises:
        NotDone: its files are not there or not usable.
    """
    try:
        return Authority.load((disk / "ca.crt").read_bytes(), (disk / "ca.key").read_bytes())
    except OSError as error:
        raise NotDone(
            f"no certificate authority in {disk} ({error.strerror}): connect its disk, or name it with --ca"
        ) from error
    except ProfileInvalid as error:
        raise NotDone(f"{disk}: {error.reason}") from error


def an_id(name: str) -> str:
    """Return the name if it can be that of a site, gateway or device; raises NotDone."""
    try:
        return check_id(name)
    except ValueError as error:
        raise NotDone(str(error)) from error


def free_id(register: Register, name: str) -> str:
    """Return the name if a new gateway or device may have it.

    Raises:
        NotDone: it is no id, belongs to the installation itself, or has a valid certificate.
    """
    an_id(name)
    if name in RESERVED:
        raise NotDone(f"{name} is a name of the installation itself; choose another")
    if register.valid(name):
        raise NotDone(f"{name} has a valid certificate; `manway renew` replaces it, `manway revoke` ends it")
    return name


def write_leaf(folder: Path, register: Register, authority: Authority, name: str, kind: Kind, now: float) -> None:
    """Issue a certificate with a new key: first into the register, for only what stands there can be revoked, then on disk."""
    hosts = (register.host, "localhost", "127.0.0.1", *SERVERS[name]) if kind == "server" else ()
    leaf = authority.issue(name, now, hosts=list(dict.fromkeys(hosts)), peer=name == "nats")
    register.issued.append(Issued(name, kind, f"{leaf.serial:x}", leaf.until))
    register.save(folder)
    for end, body in (("key", leaf.key), ("crt", leaf.certificate)):
        path = _path(folder, name, kind, end)
        write_private(path, body, 0o444 if end == "crt" else 0o400)
        give(path, register)


def _path(folder: Path, name: str, kind: Kind, end: str) -> Path:
    """Return where a certificate lies: what leaves the machine apart from what stays."""
    return folder / ("devices" if kind == "device" else "secrets") / f"{name}.{end}"


def give(path: Path, register: Register) -> None:
    """Give a file to the user of the processes, where the installation names one."""
    if register.owner >= 0:
        os.chown(path, register.owner, register.owner)


def publish(folder: Path, home: Path, register: Register, authority: Authority, now: float) -> None:
    """Save the register, and write revocation list and brokers' rights from it; `manway renew` repeats a broken attempt.

    Args:
        folder: where to write.
        home: what the folder is called when the processes run.
        register: of the installation; its count of lists rises.
        authority: that signs the list.
        now: Unix seconds.
    """
    register.lists += 1
    register.save(folder)
    revoked = {int(one.serial, 16): one.revoked_at for one in register.issued if one.revoked_at and one.until > now}
    write_private(folder / "secrets" / "crl.pem", authority.revocations(revoked, register.lists, now), 0o444)
    write_private(folder / "mosquitto" / "acl", mosquitto_acl(register.clients(), register.revoked()), 0o600)
    _write_nats(folder / "nats", home, register)
    for path in (folder / "secrets" / "crl.pem", folder / "mosquitto" / "acl", *(folder / "nats").iterdir()):
        give(path, register)


def write_mosquitto(folder: Path, home: Path, register: Register) -> None:
    """Write Mosquitto's configuration, once; from then on it is the operator's."""
    seen = places(home, register)
    text = mosquitto_config(secrets=seen.secrets, acl=seen.acl, data=seen.broker_data)
    write_private(folder / "mosquitto" / "mosquitto.conf", text, 0o644)


def _write_nats(folder: Path, home: Path, register: Register) -> None:
    """Write one server's configuration; for containers those of a cluster of three as well."""
    seen, users = places(home, register), nats_clients(register.clients())
    write_nats_config(folder, MQTT_PORT, users, node=NatsNode("nats", seen.nats_data, seen.tls("nats")))
    if register.local:
        return
    routes = [f"nats://{node}:{_ROUTE_PORT}" for node in NODES]
    cluster = NatsCluster("manway", f"0.0.0.0:{_ROUTE_PORT}", routes, seen.tls("nats"))
    for name in NODES:
        node = NatsNode(name, seen.nats_data, seen.tls("nats"), sync="1s", cluster=cluster)
        write_nats_config(folder, MQTT_PORT, users, node=node)


def issue(folder: Path, disk: Path, text: str, now: float) -> Issued:
    """Give a new device or gateway its certificate and return what was issued; a revoked id is given a new one.

    Args:
        folder: of the installation.
        disk: folder of the certificate authority.
        text: the id; of a new gateway with its sites or shards, see `enter_gateway`.
        now: Unix seconds.

    Raises:
        NotDone: see `free_id`, `enter_gateway` and `load_authority`.
    """
    register, authority = load_register(folder), load_authority(disk)
    name = re.split("[=@]", text)[0]
    free_id(register, name)
    if text != name:
        enter_gateway(register, text)
    elif name not in register.gateways:
        register.devices = list(dict.fromkeys([*register.devices, name]))
    write_leaf(folder, register, authority, name, "client" if name in register.gateways else "device", now)
    publish(folder, folder, register, authority, now)
    return register.issued[-1]


def enter_gateway(register: Register, text: str) -> None:
    """Enter a gateway: `ID` serves all sites, `ID=site,site` these, `ID@0-31` every site of these shards, a hosted one.

    Raises:
        NotDone: a name or a range cannot be one.
    """
    name, mark, rest = text.partition("@")
    if mark:
        first, _, last = rest.partition("-")
        if not re.fullmatch(r"\d{1,2}(-\d{1,2})?", rest) or not 0 <= int(first) <= int(last or first) < topics.SHARDS:
            raise NotDone(f"{text}: shards are written as {name}@0-31, and run from 0 to {topics.SHARDS - 1}")
        register.shards[name] = list(range(int(first), int(last or first) + 1))
        served = [site for site in register.sites if int(topics.shard(site)) in register.shards[name]]
    else:
        name, _, rest = text.partition("=")
        served = [an_id(site) for site in rest.split(",")] if rest else list(register.sites)
    register.gateways[free_id(register, name)] = served
    register.sites = list(dict.fromkeys([*register.sites, *served]))


def revoke(folder: Path, disk: Path, name: str, now: float) -> None:
    """Enter every certificate of an id in the revocation list and take its rights away.

    Raises:
        NotDone: there is no such certificate, or it is a server's.
    """
    register, authority = load_register(folder), load_authority(disk)
    found = register.valid(name)
    if not found:
        known = sorted({one.id for one in register.issued if not one.revoked_at and one.kind != "server"})
        raise NotDone(f"{name} has no valid certificate here; those that have: {', '.join(known)}")
    if found[0].kind == "server":
        raise NotDone(
            f"{name} is a server, and clients ask no list about servers: `manway renew {folder} --all` replaces its key"
        )
    for one in found:
        one.revoked_at = now
    publish(folder, folder, register, authority, now)


def renew(folder: Path, disk: Path, now: float, *, everything: bool) -> list[str]:
    """Sign the revocation list anew and replace what has 30 days left or less; return the ids of what was replaced.

    Args:
        folder: of the installation.
        disk: folder of the certificate authority.
        now: Unix seconds.
        everything: replace all certificates, whatever they have left.
    """
    register, authority = load_register(folder), load_authority(disk)
    newest = {one.id: one for one in register.issued if not one.revoked_at}
    due = [one for one in newest.values() if everything or one.until - now <= RENEW_BEFORE_S]
    for one in due:
        write_leaf(folder, register, authority, one.id, one.kind, now)
    # What has ended needs no place in the register; what still runs may have to be revoked.
    register.issued = [one for one in register.issued if one.until > now or one.revoked_at]
    publish(folder, folder, register, authority, now)
    return [one.id for one in due]


def endings(folder: Path, now: float) -> Iterator[Ending]:
    """Yield what of an installation ends when; the authority's key and the devices' certificates need not be there.

    Raises:
        NotDone: it is no installation.
        ProfileInvalid: the revocation list or the authority's certificate is none.
    """
    newest = {one.id: one.until - now for one in load_register(folder).issued if not one.revoked_at}
    for name, due_s in (("crl.pem", CRL_DUE_S), ("ca.crt", LEAF_LIFE_S)):
        left = expires_at((folder / "secrets" / name).read_bytes()) - now
        yield Ending(name, left / DAY_S, left <= due_s)
    for name, left in newest.items():
        yield Ending(f"{name}.crt", left / DAY_S, left <= RENEW_BEFORE_S)
