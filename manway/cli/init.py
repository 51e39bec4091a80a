"""`manway init`: authority, certificates, keys, passwords and configuration files; and what follows it."""

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from manway.cli import certificates
from manway.cli.certificates import SERVERS, enter_gateway, free_id, give, publish, write_leaf, write_mosquitto
from manway.cli.register import NotDone, Places, Register, places
from manway.errors import ProfileInvalid
from manway.runtime.pki import Authority, check_id
from manway.runtime.secrets import new_code, write_private
from manway.runtime.signing import load_or_make_key
from manway.runtime.yard import load_yard

CONTAINER_USER = 10001  # of every service in docker-compose (`trust.md` §16)
PASSWORDS = ("postgres_password", "influx_admin_password", "influx_token", "influx_read_token", "grafana_password")
KEYS = ("issuer", "issuer-next", "plan", "site", "site-next")
PANEL_PORT = 8090  # of a gateway's own emergency page; on one machine each further gateway takes the next
FOLDERS = {"ca": 0o700, "secrets": 0o700, "devices": 0o700, "mosquitto": 0o755, "nats": 0o755, "config": 0o755}
_RELOAD = "Now let the broker read it: SIGHUP (docker compose kill -s HUP mosquitto, or kill -HUP of its process)."


class Wish(msgspec.Struct, frozen=True):
    """What the command line asks for; for gateways see `enter_gateway`."""

    folder: Path
    sites: Sequence[str]
    gateways: Sequence[str]
    devices: Sequence[str]
    host: str
    local: bool
    owner: int | None


def told(act: Callable[[], int | None], command: str) -> int:
    """Carry out a command; return its exit code, 0 without one, or 2 after one line that says what to do."""
    try:
        return act() or 0
    except (NotDone, ProfileInvalid) as error:
        print(f"manway {command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"manway {command}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2


def run_init(wish: Wish) -> None:
    """Make a new installation, all of it or nothing.

    Raises:
        NotDone: the folder is in use, or a name cannot be one.
    """
    register = _register(wish)
    folder = wish.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NotDone(
            f"{folder} is not empty, and its keys cannot be made twice: choose another folder, or `manway renew {folder}`"
        )
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _lay_down(draft, folder, register, time.time())
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    print(f"{folder}: certificates for {register.host}, sites {', '.join(register.sites)}")
    print(f"The code of the emergency page, for those who may open for rescue: {folder / 'secrets' / 'panel.code'}")
    print(f"Move {folder / 'ca'} to a disk that is not in this machine: who has it can be anybody. See docs/install.md.")


def run_issue(folder: Path, disk: Path | None, text: str) -> None:
    """Give a new device or gateway its certificate."""
    one = certificates.issue(folder, disk or folder / "ca", text, time.time())
    print(f"{one.id}: {'devices' if one.kind == 'device' else 'secrets'}/{one.id}.crt and .key, good for 90 days")
    if one.kind == "client":
        print(f"{_RELOAD} New sites also belong in `sites` of config/api.toml.")


def run_revoke(folder: Path, disk: Path | None, name: str) -> None:
    """End the certificates of an id."""
    certificates.revoke(folder, disk or folder / "ca", name, time.time())
    print(f"{name} is revoked. {_RELOAD} Until then its session lives on.")


def run_renew(folder: Path, disk: Path | None, *, everything: bool) -> None:
    """Sign the revocation list anew and replace what ends soon."""
    renewed = certificates.renew(folder, disk or folder / "ca", time.time(), everything=everything)
    print(f"The revocation list is good for 30 days. Replaced: {', '.join(renewed) or 'nothing'}. {_RELOAD}")
    if renewed:
        print("Start again the processes whose certificates were replaced; carry devices/ to the devices.")


def run_check(folder: Path) -> int:
    """Say what ends when; return 1 when something is due."""
    due = False
    for ending in certificates.endings(folder, time.time()):
        due = due or ending.due
        print(f"{ending.file:<24} {ending.days:6.1f} days left{'   due' if ending.due else ''}")
        if ending.file == "crl.pem" and ending.days <= 0:
            print("  the revocation list has expired: Mosquitto refuses every client until it is renewed")
    if due:
        print(f"Run `manway renew {folder}` where the certificate authority is, then SIGHUP the broker.")
    return int(due)


def _register(wish: Wish) -> Register:
    """Return what the command line asks for, every name checked; without sites it is the training yard."""
    try:
        sites = [check_id(site) for site in wish.sites] or [site.id for site in load_yard().site]
        Authority.make("check", 0.0).issue("check", 0.0, hosts=[wish.host])
    except ValueError as error:
        raise NotDone(str(error)) from error
    register = Register(wish.host, sites, {}, local=wish.local, owner=_owner(wish))
    for text in wish.gateways or ["gw-1"]:
        enter_gateway(register, text)
    if foreign := [site for site in register.sites if site not in sites]:
        raise NotDone(f"a gateway cannot serve {', '.join(foreign)}: name it with --site")
    register.devices += [free_id(register, name) for name in wish.devices]
    if double := [name for name in register.devices if name in register.gateways or register.devices.count(name) > 1]:
        raise NotDone(f"{double[0]} is given twice")
    return register


def _owner(wish: Wish) -> int:
    if wish.owner is not None:
        return wish.owner
    return CONTAINER_USER if os.geteuid() == 0 and not wish.local else -1


def _lay_down(draft: Path, folder: Path, register: Register, now: float) -> None:
    """Write a whole installation into `draft`, which will be called `folder`."""
    draft.mkdir(mode=0o755, parents=True)
    for name, mode in FOLDERS.items():
        (draft / name).mkdir(mode=mode)
    authority = Authority.make(f"manway {register.host}"[:64], now)
    write_private(draft / "ca" / "ca.key", authority.key)
    write_private(draft / "ca" / "ca.crt", authority.certificate, 0o444)
    write_private(draft / "secrets" / "ca.crt", authority.certificate, 0o444)
    for name in SERVERS:
        write_leaf(draft, register, authority, name, "server", now)
    for name in ("api", "signer", "sim", *register.gateways):
        write_leaf(draft, register, authority, name, "client", now)
    for name in register.devices:
        write_leaf(draft, register, authority, name, "device", now)
    _write_keys(draft / "secrets")
    words = {name: secrets.token_urlsafe(24) for name in PASSWORDS}
    for name, word in words.items():
        write_private(draft / "secrets" / name, word)
    _write_config(draft, folder, register, words)
    write_mosquitto(draft, folder, register)
    publish(draft, folder, register, authority, now)
    for part in ("secrets", "config", "mosquitto"):
        for path in (draft / part, *(draft / part).iterdir()):
            give(path, register)


def _write_keys(folder: Path) -> None:
    """Make the signing keys and their public halves: of grants, of plans, of EMERGENCY grants; and those that come next."""
    for name in KEYS:
        public = load_or_make_key(folder / f"{name}.key").public_key
        (folder / f"{name}.key").chmod(0o400)
        write_private(folder / f"{name}.pub", public, 0o444)
    write_private(folder / "panel.code", new_code())


def _write_config(draft: Path, folder: Path, register: Register, words: Mapping[str, str]) -> None:
    """Write a settings file a process and the variables of docker-compose; locally the folder of the data as well."""
    for name, values in _settings(places(folder, register), register, words).items():
        write_private(draft / "config" / f"{name}.toml", _toml(values), 0o600)
    user, group = (register.owner, register.owner) if register.owner >= 0 else (os.geteuid(), os.getegid())
    variables = {"MANWAY_DIR": folder.resolve(), "MANWAY_HOST": register.host, "MANWAY_UID": user, "MANWAY_GID": group}
    write_private(draft / ".env", "".join(f"{key}={value}\n" for key, value in variables.items()), 0o644)
    if register.local:
        for path in (draft / "data", draft / "data" / "mosquitto"):
            path.mkdir(mode=0o700)
            give(path, register)
        (draft / "data" / "keys").symlink_to(Path("..") / "secrets")  # where the processes look for their signing keys


def _settings(seen: Places, register: Register, words: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """Return the settings of every process by file name; in containers the stores are InfluxDB and PostgreSQL."""
    yard = {site.id for site in load_yard().site}
    influx, records = {"store": "influx:http://influxdb:8086"}, f"manway:{words['postgres_password']}@postgres/manway"
    writer = {} if register.local else influx | {"influx_token": words["influx_token"]}
    kept = {"signer_socket": seen.signer} | ({} if register.local else {"records": f"postgresql+psycopg://{records}"})
    # The api reads by the same token: InfluxDB 2 lets nobody choose a second one beforehand.
    reader = dict(writer) | kept

    def process(name: str, sites: Sequence[str]) -> dict[str, object]:
        tls = seen.tls(name)
        wire = {"broker": seen.broker, "broker_ca": tls.ca, "broker_cert": tls.certificate, "broker_key": tls.key}
        return {"data": seen.data, "sites": sites, "yard": yard.issuperset(sites), **wire}

    files = {}
    for number, (name, sites) in enumerate(register.gateways.items()):
        shards = {"shards": register.shards[name]} if name in register.shards else {}
        panel = {"panel_host": seen.listen, "panel_port": PANEL_PORT + (number if register.local else 0)}
        own = {"gateway_id": name} | shards | panel
        files[f"gateway-{name}" if number else "gateway"] = process(name, sites) | own | writer
    files["api"] = process("api", register.sites) | {"host": seen.listen} | reader
    files["signer"] = process("signer", register.sites) | kept
    played = [site for site in register.sites if site in yard]
    files["sim"] = process("sim", played) | {"host": "127.0.0.1" if register.local else "api"}
    return files


def _toml(values: Mapping[str, object]) -> str:
    """Return flat values as TOML, whose strings, numbers, booleans and lists are written as JSON writes them."""
    return "".join(f"{key} = {msgspec.json.encode(value).decode()}\n" for key, value in values.items())
