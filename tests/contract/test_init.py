"""`manway init` and its later commands: what lies where, who may read it, what is refused and how that is said."""

import os
import re
import stat
import time
import tomllib
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from gateway.panel_code import load_code
from manway.cli import app, certificates
from manway.cli.register import NotDone, load_register
from manway.errors import ProfileInvalid
from manway.runtime import settings
from manway.runtime.pki import Authority, expires_at
from manway.runtime.secrets import check_private, write_private
from manway.runtime.signing import load_key, load_or_make_key, load_public_key
from manway.topics import shard_filters

DAY_S = 86_400.0
LEAVES = ("broker", "web", "nats", "api", "signer", "gw-1", "gw-2", "sim")
KEYS = ("issuer", "issuer-next", "plan", "site", "site-next")
PASSWORDS = ("postgres_password", "influx_admin_password", "influx_token", "influx_read_token", "grafana_password")
SECRETS = [
    *("ca.crt", "crl.pem", *PASSWORDS),
    *(f"{name}.{end}" for name in LEAVES for end in ("crt", "key")),
    *(f"{name}.{end}" for name in KEYS for end in ("pub", "key")),
    "panel.code",
]
PUBLIC = {".crt", ".pem", ".pub"}

# `trust.md` §4, line for line.
MOSQUITTO = """per_listener_settings false
allow_anonymous false
listener 8883
cafile   /run/secrets/ca.crt
certfile /run/secrets/broker.crt
keyfile  /run/secrets/broker.key
crlfile  /run/secrets/crl.pem
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_zero_length_clientid false
tls_version tlsv1.2
acl_file /etc/mosquitto/acl
max_connections 1000
max_keepalive 10
max_packet_size 65536
max_inflight_messages 2000
max_queued_messages 100000
max_queued_bytes 268435456
queue_qos0_messages false
persistence true
persistence_location /mosquitto/data/
autosave_on_changes false
autosave_interval 1
set_tcp_nodelay true
persistent_client_expiration 7d"""


def manway(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation for containers that no test changes."""
    folder = tmp_path_factory.mktemp("init") / "site"
    sites = ("--site", "demo", "--site", "yard-north")
    gateways = ("--gateway", "gw-1", "--gateway", "gw-2=yard-north")
    manway("init", folder, *sites, *gateways, "--device", "gas-1", "--host", "sz.example.cn", "--owner", os.geteuid())
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A local installation of the test's own."""
    manway("init", tmp_path / "site", "--local", "--device", "gas-1")
    return tmp_path / "site"


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def revocations(folder: Path) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((folder / "secrets" / "crl.pem").read_bytes())


def test_every_file_is_where_it_belongs_and_readable_by_whom_it_must(made: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (made / "secrets").iterdir()}
    assert modes == {name: 0o444 if Path(name).suffix in PUBLIC else 0o400 for name in SECRETS}
    assert {path.name for path in (made / "ca").iterdir()} == {"ca.crt", "ca.key"}
    assert stat.S_IMODE((made / "ca" / "ca.key").stat().st_mode) == 0o400
    assert {path.name for path in (made / "devices").iterdir()} == {"gas-1.crt", "gas-1.key"}
    assert {path.name for path in (made / "config").iterdir()} == {
        *("gateway.toml", "gateway-gw-2.toml", "api.toml", "signer.toml", "sim.toml")
    }
    private = [*(made / "config").iterdir(), *(made / "nats").iterdir(), made / "mosquitto" / "acl"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert {stat.S_IMODE((made / name).stat().st_mode) for name in ("ca", "secrets", "devices")} == {0o700}
    for name in SECRETS:
        if Path(name).suffix not in {*PUBLIC, ".code"}:
            check_private(made / "secrets" / name)
    assert len(load_code(made / "secrets" / "panel.code")) == 6  # typed in gloves; it opens nothing


def test_the_authority_signs_leaves_only_and_lives_ten_years(made: Path) -> None:
    authority = certificate(made / "ca" / "ca.crt")
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert (expires_at((made / "ca" / "ca.crt").read_bytes()) - time.time()) / DAY_S == pytest.approx(3650, abs=0.1)
    assert isinstance(key := authority.public_key(), ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


@pytest.mark.parametrize("name", ["gw-1", "gw-2", "api", "signer", "sim", "gas-1"])
def test_a_client_is_its_common_name_and_has_no_other(name: str, made: Path) -> None:
    leaf = certificate(made / ("devices" if name == "gas-1" else "secrets") / f"{name}.crt")
    leaf.verify_directly_issued_by(certificate(made / "ca" / "ca.crt"))
    assert leaf.subject.rfc4514_string() == f"CN={name}"
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    now = time.time()
    assert now - leaf.not_valid_before_utc.timestamp() == pytest.approx(3600, abs=60)
    assert (leaf.not_valid_after_utc.timestamp() - now) / DAY_S == pytest.approx(90, abs=0.1)


@pytest.mark.parametrize(
    ("name", "own"), [("broker", {"mosquitto"}), ("web", {"api"}), ("nats", {"nats", *certificates.NODES})]
)
def test_a_server_has_the_names_by_which_it_is_reached(name: str, own: set[str], made: Path) -> None:
    leaf = certificate(made / "secrets" / f"{name}.crt")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"sz.example.cn", "localhost", *own}
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    uses = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    peer = {ExtendedKeyUsageOID.CLIENT_AUTH} if name == "nats" else set()  # its nodes are each other's clients
    assert uses == {ExtendedKeyUsageOID.SERVER_AUTH} | peer


def test_the_revocation_list_is_empty_at_first_and_good_for_thirty_days(made: Path) -> None:
    signed = revocations(made)
    assert len(signed) == 0
    assert (expires_at((made / "secrets" / "crl.pem").read_bytes()) - time.time()) / DAY_S == pytest.approx(30, abs=0.1)
    key = certificate(made / "ca" / "ca.crt").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert signed.is_signature_valid(key)


def test_mosquittos_file_is_the_one_that_was_decided(made: Path) -> None:
    lines = [line for line in (made / "mosquitto" / "mosquitto.conf").read_text().splitlines() if not line.startswith("#")]
    assert lines == [" ".join(line.split()) for line in MOSQUITTO.splitlines()]


def test_the_access_list_gives_a_device_its_own_topics_and_a_gateway_its_sites(made: Path) -> None:
    text = (made / "mosquitto" / "acl").read_text()
    assert "pattern write manway/1/+/+/dev/%u/gas\n" in text
    assert "pattern read manway/1/+/+/dev/%u/cmd\n" in text
    blocks = dict(re.findall(r"^user (\S+)\n((?:topic .*\n)*)", text, re.MULTILINE))
    assert set(blocks) == {"gw-1", "gw-2", "api", "signer", "sim"}
    assert "topic read manway/1/32/demo/dev/+/gas\n" in blocks["gw-1"]
    assert "demo" not in blocks["gw-2"]
    assert "topic write manway/1/32/demo/api/plan\n" in blocks["api"]
    assert "demo" not in blocks["sim"]  # a simulator plays the yard's sites, and feeds clean air to no other
    assert "manway/1/47/yard-north/dev/+/gas" in blocks["sim"]
    assert "#" not in re.sub(r"^#.*", "", text)


def test_the_core_asks_for_certificates_and_keeps_what_it_acknowledged(made: Path) -> None:
    node = msgspec.json.decode((made / "nats" / "nats.json").read_bytes())
    assert node["jetstream"]["sync_interval"] == "always"
    assert node["mqtt"]["tls"]["verify_and_map"] is True
    assert 500 <= node["mqtt"]["max_ack_pending"] <= 16_000
    assert [row["user"] for row in node["authorization"]["users"]] == [
        f"CN={name}" for name in ("gw-1", "gw-2", "api", "signer", "sim")
    ]
    assert all(set(row) == {"user", "permissions"} for row in node["authorization"]["users"])
    for name in certificates.NODES:
        other = msgspec.json.decode((made / "nats" / f"{name}.json").read_bytes())
        assert (other["server_name"], other["mqtt"]["stream_replicas"], other["jetstream"]["sync_interval"]) == (name, 3, "1s")
        assert other["cluster"]["routes"] == [f"nats://{peer}:6222" for peer in certificates.NODES]
        assert other["cluster"]["tls"]["verify"] is True


def test_every_process_has_settings_that_load_and_no_other_ones_secret(made: Path) -> None:
    read = {path.stem: settings.load(path) for path in (made / "config").iterdir()}
    secrets = made / "secrets"
    gateway, api = read["gateway"], read["api"]
    assert (gateway.sites, gateway.gateway_id, gateway.yard) == (["demo", "yard-north"], "gw-1", False)
    assert (read["gateway-gw-2"].sites, read["gateway-gw-2"].gateway_id, read["gateway-gw-2"].yard) == (
        ["yard-north"],
        "gw-2",
        True,
    )
    assert gateway.broker == api.broker == "mqtts://mosquitto:8883"
    assert gateway.broker_key == Path("/run/secrets/gw-1.key")
    assert gateway.store == api.store == "influx:http://influxdb:8086"
    assert gateway.influx_token.get_secret_value() == (secrets / "influx_token").read_text()
    assert api.influx_token.get_secret_value() == (secrets / "influx_token").read_text()
    password = (secrets / "postgres_password").read_text()
    assert api.records.get_secret_value() == f"postgresql+psycopg://manway:{password}@postgres/manway"
    assert gateway.records.get_secret_value() == ""
    assert (read["sim"].sites, read["sim"].host) == (["yard-north"], "api")


def test_the_signing_keys_are_real_and_their_public_halves_fit(made: Path) -> None:
    for name in KEYS:
        key = load_or_make_key(made / "secrets" / f"{name}.key")
        assert load_public_key(made / "secrets" / f"{name}.pub") == key.public_key


def test_no_two_installations_share_a_secret(made: Path, site: Path) -> None:
    private = [name for name in SECRETS if Path(name).suffix not in PUBLIC and (site / "secrets" / name).exists()]
    bodies = [(folder / "secrets" / name).read_bytes() for name in private for folder in (made, site)]
    assert len(private) > 10
    assert len(set(bodies)) == len(bodies)


def test_no_secret_stands_in_a_file_that_everybody_may_read(made: Path) -> None:
    words = [(made / "secrets" / name).read_bytes() for name in SECRETS if Path(name).suffix not in {*PUBLIC, ".code"}]
    shared = [path for path in made.rglob("*") if path.is_file() and path.stat().st_mode & stat.S_IROTH]
    assert {path.name for path in shared} >= {".env", "register.json", "mosquitto.conf", "ca.crt"}
    assert [path.name for path in shared for word in words if word in path.read_bytes()] == []


def test_a_local_installation_names_its_own_folder_and_keeps_its_stores_there(site: Path) -> None:
    read = settings.load(site / "config" / "gateway.toml")
    assert (read.data, read.store, read.broker) == (site / "data", "embedded", "mqtts://localhost:8883")
    assert read.sites == ["yard-north", "yard-south"]
    assert read.broker_key == site / "secrets" / "gw-1.key"
    assert load_public_key(read.data / "keys" / "plan.pub")
    assert settings.load(site / "config" / "api.toml").host == "127.0.0.1"
    text = (site / "mosquitto" / "mosquitto.conf").read_text()
    assert f"persistence_location {site}/data/mosquitto/\n" in text
    assert f"acl_file {site}/mosquitto/acl\n" in text
    assert [path.name for path in (site / "nats").iterdir()] == ["nats.json"]


def test_docker_compose_learns_who_owns_the_files(made: Path) -> None:
    variables = dict(line.split("=", 1) for line in (made / ".env").read_text().splitlines())
    own = str(os.geteuid())
    assert variables == {"MANWAY_DIR": str(made), "MANWAY_HOST": "sz.example.cn", "MANWAY_UID": own, "MANWAY_GID": own}


def test_as_root_the_files_are_given_to_the_user_of_the_containers_and_else_kept(tmp_path: Path) -> None:
    manway("init", tmp_path / "site", "--site", "demo", "--device", "gas-1")
    manway("revoke", tmp_path / "site", "gas-1")
    manway("issue", tmp_path / "site", "gas-1")
    folders = [tmp_path / "site" / part for part in ("secrets", "config", "mosquitto", "nats", "devices")]
    user = 10001 if os.geteuid() == 0 else os.geteuid()
    assert {path.stat().st_uid for folder in folders for path in folder.iterdir()} == {user}
    assert {path.stat().st_uid for path in (tmp_path / "site" / "ca").iterdir()} == {os.geteuid()}
    assert f"MANWAY_UID={user}\n" in (tmp_path / "site" / ".env").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--site", "Demo"], "'Demo' cannot be an id: use 1 to 32 of a-z, 0-9 and -"),
        (["--gateway", "gw_1"], "'gw_1' cannot be an id"),
        (["--gateway", "gw-1=elsewhere", "--site", "demo"], "a gateway cannot serve elsewhere: name it with --site"),
        (["--device", "api"], "api is a name of the installation itself; choose another"),
        (["--device", "gw-1"], "gw-1 is given twice"),
        (["--device", "gas-1", "--device", "gas-1"], "gas-1 is given twice"),
        (["--device", "#"], "'#' cannot be an id"),
        (["--host", "not a host"], "'not a host' is neither a host name nor an address"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do_and_leaves_nothing(words: list[str], said: str, tmp_path: Path) -> None:
    assert said in manway("init", tmp_path / "site", *words, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_never_touched(site: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    assert "is not empty, and its keys cannot be made twice" in manway("init", site, code=2)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("mine")
    assert "is not empty" in manway("init", tmp_path / "file", code=2)
    (tmp_path / "empty").mkdir()
    manway("init", tmp_path / "empty", "--local", "--host", "192.0.2.7")
    assert "192.0.2.7" in (tmp_path / "empty" / "config" / "gateway.toml").read_text()


def test_a_failure_in_the_middle_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr("manway.cli.init.write_mosquitto", fails)
    assert "manway init: some/file: Permission denied" in manway("init", tmp_path / "site", "--local", code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_revoked_device_is_on_the_list_and_shut_out_by_name(site: Path) -> None:
    serial = certificate(site / "devices" / "gas-1.crt").serial_number
    assert "SIGHUP" in manway("revoke", site, "gas-1")
    assert [row.serial_number for row in revocations(site)] == [serial]
    assert (site / "mosquitto" / "acl").read_text().endswith("\nuser gas-1\ntopic deny #\n")
    assert "gas-1 has no valid certificate here; those that have: api, gw-1, signer, sim" in manway(
        "revoke", site, "gas-1", code=2
    )


def test_a_revoked_gateway_has_no_rights_left_and_a_new_one_is_only_the_new_key(site: Path) -> None:
    old = certificate(site / "secrets" / "gw-1.crt").serial_number
    manway("revoke", site, "gw-1")
    acl, nats = (site / "mosquitto" / "acl").read_text(), (site / "nats" / "nats.json").read_text()
    assert re.search(r"^user gw-1\n(?!topic deny #)", acl, re.MULTILINE) is None
    assert "CN=gw-1" not in nats
    assert "secrets/gw-1.crt" in manway("issue", site, "gw-1")
    assert "topic deny" not in (site / "mosquitto" / "acl").read_text()
    assert "CN=gw-1" in (site / "nats" / "nats.json").read_text()
    assert [row.serial_number for row in revocations(site)] == [old]
    assert certificate(site / "secrets" / "gw-1.crt").serial_number != old


def test_a_hosted_gateway_has_the_rights_of_its_shards_and_the_settings_to_match(tmp_path: Path) -> None:
    sites = ("--site", "demo", "--site", "sz-0001", "--site", "hongkou-07")
    manway("init", tmp_path / "city", "--local", *sites, "--gateway", "ingest-0@0-33", "--gateway", "ingest-34@34")
    first = settings.load(tmp_path / "city" / "config" / "gateway.toml")
    assert (first.gateway_id, first.sites, first.shards) == ("ingest-0", ["demo", "hongkou-07"], list(range(34)))
    second = settings.load(tmp_path / "city" / "config" / "gateway-ingest-34.toml")
    assert (second.sites, second.shards) == (["sz-0001"], [34])
    acl = (tmp_path / "city" / "mosquitto" / "acl").read_text()
    blocks = dict(re.findall(r"^user (\S+)\n((?:topic .*\n)*)", acl, re.MULTILINE))
    assert "topic read manway/1/34/+/dev/+/gas\n" in blocks["ingest-34"]
    assert "manway/1/33/" not in blocks["ingest-34"]
    users = msgspec.json.decode((tmp_path / "city" / "nats" / "nats.json").read_bytes())["authorization"]["users"]
    rights = next(user["permissions"] for user in users if user["user"] == "CN=ingest-34")
    assert rights["subscribe"]["allow"] == [topic.replace("/", ".").replace("+", "*") for topic in shard_filters([34])]
    assert "manway.1.34.*.dev.*.cmd" in rights["publish"]["allow"]


def test_a_new_gateway_with_a_new_site_gets_its_rights_and_says_what_is_left_to_do(site: Path) -> None:
    assert "config/api.toml" in manway("issue", site, "gw-9=harbour")
    acl = (site / "mosquitto" / "acl").read_text()
    blocks = dict(re.findall(r"^user (\S+)\n((?:topic .*\n)*)", acl, re.MULTILINE))
    assert "/harbour/dev/+/gas\n" in blocks["gw-9"]
    assert "/harbour/api/plan\n" in blocks["api"]
    assert "devices/gas-7.crt" in manway("issue", site, "gas-7")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["issue", "SITE", "gas-1"], "gas-1 has a valid certificate; `manway renew` replaces it"),
        (["issue", "SITE", "broker"], "broker is a name of the installation itself"),
        (["issue", "SITE", "gw-2=Upper"], "'Upper' cannot be an id"),
        (["issue", "SITE", "gw-2@0-64"], "shards are written as gw-2@0-31, and run from 0 to 63"),
        (["issue", "SITE", "gw-2@9-1"], "shards are written as"),
        (["issue", "SITE", "gw-2@all"], "shards are written as"),
        (["revoke", "SITE", "broker"], "broker is a server"),
        (["revoke", "SITE", "gas-1", "--ca", "nowhere"], "connect its disk, or name it with --ca"),
        (["renew", "nowhere"], "nowhere is no installation"),
        (["renew", "nowhere", "--check"], "nowhere is no installation"),
    ],
)
def test_later_commands_say_what_is_wrong_and_what_to_do(words: list[str], said: str, site: Path) -> None:
    before = (site / "register.json").read_bytes()
    assert said in manway(*[str(site) if word == "SITE" else word for word in words], code=2)
    assert (site / "register.json").read_bytes() == before


def test_the_authority_may_lie_on_another_disk(site: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (site / "ca").rename(disk)
    assert "connect its disk" in manway("renew", site, code=2)
    manway("renew", site, "--ca", disk)
    (disk / "ca.key").chmod(0o600)
    (disk / "ca.key").write_bytes(Authority.make("another", time.time()).key)
    assert "ca.crt and ca.key do not belong together" in manway("renew", site, "--ca", disk, code=2)
    (disk / "ca.key").write_text("no key")
    assert "no certificate and key in PEM" in manway("renew", site, "--ca", disk, code=2)


def test_a_damaged_register_is_refused(site: Path) -> None:
    (site / "register.json").write_text('{"host": 3}')
    assert "is damaged" in manway("revoke", site, "gas-1", code=2)


def test_renew_signs_the_list_each_time_and_replaces_what_has_thirty_days_left(site: Path) -> None:
    disk, now = site / "ca", time.time()
    first = revocations(site).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert certificates.renew(site, disk, now + 59 * DAY_S, everything=False) == []
    assert revocations(site).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == first + 1
    manway("revoke", site, "gas-1")
    key = (site / "secrets" / "gw-1.key").read_bytes()
    renewed = certificates.renew(site, disk, now + 61 * DAY_S, everything=False)
    assert renewed == ["broker", "nats", "web", "api", "signer", "sim", "gw-1"]  # and not who was revoked
    assert (site / "secrets" / "gw-1.key").read_bytes() != key
    assert len(revocations(site)) == 1
    certificates.renew(site, disk, now + 95 * DAY_S, everything=False)
    assert len(revocations(site)) == 0  # it has ended by itself; its name stays shut out
    assert "user gas-1\ntopic deny #\n" in (site / "mosquitto" / "acl").read_text()
    assert len(load_register(site).issued) == 8


def test_a_stolen_key_can_be_revoked_after_its_renewal_too(site: Path) -> None:
    old = certificate(site / "devices" / "gas-1.crt").serial_number
    manway("renew", site, "--all")
    new = certificate(site / "devices" / "gas-1.crt").serial_number
    manway("revoke", site, "gas-1")
    assert {row.serial_number for row in revocations(site)} == {old, new}


def test_what_was_issued_stands_in_the_register_before_it_exists(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut between the two would leave a certificate that nobody can revoke."""

    def cut(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("manway.cli.certificates.write_private", cut)
    assert "No space left on device" in manway("issue", site, "gas-7", code=2)
    monkeypatch.undo()
    manway("revoke", site, "gas-7")
    assert len(revocations(site)) == 1


def test_check_tells_what_ends_and_when_it_is_due(site: Path) -> None:
    assert "due" not in manway("renew", site, "--check")
    now = time.time()
    assert {one.file for one in certificates.endings(site, now + 17 * DAY_S) if one.due} == {"crl.pem"}
    late = {one.file: one.due for one in certificates.endings(site, now + 61 * DAY_S)}
    assert late.pop("ca.crt") is False
    assert set(late) == {
        "crl.pem",
        *(f"{name}.crt" for name in ("broker", "nats", "web", "api", "signer", "sim", "gw-1", "gas-1")),
    }
    assert all(late.values())


def test_a_file_that_is_no_certificate_is_said_to_be_none(site: Path) -> None:
    (site / "secrets" / "crl.pem").unlink()
    (site / "secrets" / "crl.pem").write_text("nothing")
    with pytest.raises(ProfileInvalid, match="neither a certificate nor a revocation list"):
        list(certificates.endings(site, time.time()))
    assert "neither a certificate nor a revocation list" in manway("renew", site, "--check", code=2)


@pytest.mark.parametrize(
    ("body", "mode", "said"),
    [
        (b"R8s_fQ2mXz7LwB4tNc", 0o444, "must be its owner's alone, not -r--r--r--: chmod 0400"),
        (b"R8s_fQ2mXz7LwB4tNc", 0o620, "must be its owner's alone"),
        (b"short", 0o400, "a default, or under 16 bytes"),
        (b"passwordpassword", 0o400, "a default"),
        (b"my-super-secret-auth-token\n", 0o400, "a default"),
        (b"", 0o400, "a default"),
    ],
)
def test_a_process_refuses_a_secret_that_is_none(body: bytes, mode: int, said: str, tmp_path: Path) -> None:
    write_private(tmp_path / "token", body, mode)
    with pytest.raises(ProfileInvalid, match=re.escape(said)):
        check_private(tmp_path / "token")


def test_a_process_takes_a_real_secret_and_names_a_missing_one(tmp_path: Path) -> None:
    for mode in (0o400, 0o600, 0o440):  # the last is how a service manager hands over its credentials
        write_private(tmp_path / "token", b"R8s_fQ2mXz7LwB4tNc", mode)
        check_private(tmp_path / "token")
    with pytest.raises(ProfileInvalid, match=r"cannot be read .*`manway init` makes it"):
        check_private(tmp_path / "missing")


def test_a_second_writing_keeps_the_inode_that_a_container_has_mounted(tmp_path: Path) -> None:
    write_private(tmp_path / "acl", "first, and longer")
    before = (tmp_path / "acl").stat().st_ino
    write_private(tmp_path / "acl", "second", 0o600)
    assert ((tmp_path / "acl").read_text(), (tmp_path / "acl").stat().st_ino) == ("second", before)


def test_the_settings_files_are_toml_whatever_stands_in_them(made: Path) -> None:
    for path in (made / "config").iterdir():
        assert tomllib.loads(path.read_text())["data"] == "/var/lib/manway"


def test_a_folder_that_is_no_installation_is_named() -> None:
    with pytest.raises(NotDone, match="`manway init nowhere` makes one"):
        load_register(Path("nowhere"))


def test_no_process_makes_the_key_of_an_installation_itself(tmp_path: Path) -> None:
    """Its locks and gateways would know another one, and nobody would say so."""
    with pytest.raises(ProfileInvalid, match="manway init"):
        load_key(tmp_path / "issuer.key")
    assert not [*tmp_path.iterdir()]
    made = load_or_make_key(tmp_path / "issuer.key")
    assert load_key(tmp_path / "issuer.key").public_key == made.public_key
