"""Who may do what at the brokers: the files of `manway init` on a real Mosquitto and a real NATS with TLS (`trust.md` T11-T18).

Effects count: what was delivered to whom. A SUBACK and a PUBACK prove nothing.
"""

import contextlib
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manway import topics
from manway.cli import app, certificates
from manway.cli.register import load_register
from manway.runtime import pki, settings
from manway.runtime.broker import BrokerProcess
from manway.runtime.mqtt import MqttBus
from tests.kit.brokers import Inbox, connected, free_port
from tests.kit.secured import DEVICES, SITES, Access, Peer, Site, manway, nats_command, running_site, until

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]

SERVED = {"gw-1": ("demo", "yard-north"), "gw-2": ("sz-0001",), "api": SITES, "signer": SITES, "sim": ("yard-north",)}
DEVICE_WORDS = {"device", "lock", "bought lock", "instrument"}
WORDS = {"gw-1": {"gateway"}, "gw-2": {"gateway"}, "api": {"api"}, "signer": {"signer"}, "sim": {"simulator", *DEVICE_WORDS}}
DAY_S = 86_400.0


@pytest.fixture(scope="module", params=["mosquitto", "nats"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running installation that no test changes."""
    yield from running_site(tmp_path_factory.mktemp(request.param) / "site", request.param)


@pytest.fixture(scope="module")
def mosquitto_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from running_site(tmp_path_factory.mktemp("mosquitto") / "site", "mosquitto")


@pytest.fixture
def own_site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """An installation of the test's own, to change; the parameter names the broker."""
    yield from running_site(tmp_path / "site", request.param)


# ---- T11


def test_without_a_certificate_of_the_authority_nobody_gets_a_word_out(site: Site, tmp_path: Path) -> None:
    hello = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x05\x00\x04gw-1"
    manway("init", tmp_path / "other", "--local", "--site", "demo")
    foreign = site.tls()
    foreign.load_cert_chain(tmp_path / "other" / "secrets" / "gw-1.crt", tmp_path / "other" / "secrets" / "gw-1.key")
    for context in (None, site.tls(), foreign):
        assert not _answer(site.port, hello, context).startswith(b"\x20"), context
    assert _answer(site.port, hello, site.tls("gw-1")) == b"\x20\x02\x00\x00"


def _answer(port: int, packet: bytes, context: ssl.SSLContext | None) -> bytes:
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        link = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20.0))
        if context is not None:
            link = stack.enter_context(context.wrap_socket(link, server_hostname="localhost"))
        link.sendall(packet)
        return link.recv(4)
    return b""


def test_it_listens_on_the_encrypted_port_and_nowhere_else_but_on_loopback(site: Site) -> None:
    process = Path(f"/proc/{site.broker.pid}")
    own = set[str]()
    for handle in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a connection of a moment ago, closed meanwhile
            own.add(str(handle.readlink()))
    lines = [line.split() for table in ("tcp", "tcp6") for line in (process / "net" / table).read_text().splitlines()[1:]]
    listening = [fields[1].split(":") for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in own]
    others = [(address, int(port, 16)) for address, port in listening if int(port, 16) != site.port]
    assert len(listening) - len(others) == 1
    assert [address for address, _ in others] == ([] if site.make == "mosquitto" else ["0100007F"])
    for _, port in others:  # NATS' own protocol: a row without a password is nobody's there
        with socket.create_connection(("127.0.0.1", port), timeout=20.0) as link:
            link.sendall(b'CONNECT {"user":"CN=gw-1","pass":""}\r\nPING\r\n')
            said = b"".join(iter(lambda: link.recv(4096), b""))
        assert said.startswith(b"INFO")
        assert b"PONG" not in said


# ---- T12, T14: the matrix


def concrete(row: topics.TopicRow, where: str) -> list[tuple[str, str]]:
    """Return (topic, device) of a row at a site, for every device."""
    whose = DEVICES if "{device}" in row.below_root else ("",)
    below = {
        device: row.below_root.replace("{device}", device).replace("{k}", "1").replace("{name}", "state") for device in whose
    }
    return [(topics.root(where) + text, device) for device, text in below.items()]


def may(name: str, column: str, where: str, device: str) -> bool:
    """Tell from the table's column alone whether `name` is meant by it."""
    words = {word.strip() for word in column.split(",")}
    if name in DEVICES:
        return device == name and bool(words & DEVICE_WORDS)  # at any site: the gateway knows who is enrolled where
    return where in SERVED[name] and bool(words & WORDS[name])


def spies(site: Site) -> tuple[str, ...]:
    return (*SERVED, *DEVICES) if site.make == "mosquitto" else tuple(SERVED)


def nosy_filters(name: str) -> list[str]:
    """What an eavesdropper subscribes, and what the honest process does."""
    own = {
        "gw-1": [one for where in SERVED["gw-1"] for one in topics.gateway_filters(where)],
        "gw-2": topics.gateway_filters("sz-0001"),
        "api": [one for where in SITES for one in topics.api_filters(where)],
        "signer": [one for where in SITES for one in topics.signer_filters(where)],
        "sim": [
            *topics.device_filters("yard-north", "+"),
            topics.root("yard-north") + "sim/+",
            topics.root("yard-north") + "sim/cmd",
        ],
    }.get(name, [one for where in SITES for one in topics.device_filters(where, name)])
    foreign = [topics.root(where) + "#" for where in SITES]
    return ["#", f"$share/{name}/#", "$SYS/#", "+/#", "$share/x/manway/#", *foreign, *own]


def test_everybody_hears_what_the_topic_table_gives_and_from_those_it_names(site: Site) -> None:
    """Everybody publishes to every topic of three sites; everybody listens everywhere: reads deliveries, not answers."""
    rows = [(row, where, topic, device) for row in topics.TOPICS for where in SITES for topic, device in concrete(row, where)]
    with contextlib.ExitStack() as stack:
        peers = {name: stack.enter_context(Peer(site, name)) for name in spies(site)}
        for name, peer in peers.items():
            peer.listen(*nosy_filters(name))
        for name, peer in peers.items():
            sent = [peer.client.publish(topic, name.encode(), 1) for _, _, topic, _ in rows]
            for one in sent:
                one.wait_for_publish(20.0)
        wanted: dict[str, set[tuple[str, bytes]]] = {name: set() for name in peers}
        for row, where, topic, device in rows:
            writers = [name for name in peers if may(name, row.writer, where, device)]
            for reader in (name for name in peers if may(name, row.reader, where, device)):
                wanted[reader] |= {(topic, writer.encode()) for writer in writers}
        for name, peer in peers.items():
            until(lambda peer=peer, name=name: wanted[name] <= set(peer.heard))  # type: ignore[misc]
            peer.listen("manway/barrier")
        time.sleep(0.3 if site.make == "nats" else 0.0)  # NATS delivers from another thread than the one that answers
        assert sum(map(len, wanted.values())) > 40
        for name, peer in peers.items():
            assert set(peer.heard) - echoes(site, name, rows) == wanted[name], name


def echoes(site: Site, name: str, rows: Sequence[tuple[topics.TopicRow, str, str, str]]) -> set[tuple[str, bytes]]:
    """What NATS also delivers: a gateway subscribes `dev/+/+`, and whoever may write a topic below that hears it there."""
    if site.make == "mosquitto":
        return set()
    own = [(row, where, topic, device) for row, where, topic, device in rows if may(name, row.writer, where, device)]
    return {
        (topic, other.encode())
        for row, where, topic, device in own
        for other in spies(site)
        if may(other, row.writer, where, device)
    }


def test_the_brokers_own_figures_are_nobodys(mosquitto_site: Site) -> None:
    with Peer(mosquitto_site, "api") as api, Peer(mosquitto_site, "d-1") as device:
        for peer in (api, device):
            peer.listen("$SYS/#", "$SYS/broker/version", "$share/x/$SYS/#")
        time.sleep(0.2)  # a retained copy would have come with the answer
        assert api.heard == device.heard == []


def test_mqtt_5_tells_a_forger_that_it_is_not_authorized_and_3_1_1_tells_nothing(mosquitto_site: Site) -> None:
    plan = topics.root("demo") + "api/plan"
    with Peer(mosquitto_site, "gw-1") as gateway:
        gateway.listen(plan)
        with Peer(mosquitto_site, "d-1", protocol=5) as new, Peer(mosquitto_site, "d-2") as old:
            new.say(plan, b"forged")
            old.say(plan, b"forged")
            assert new.refused == ["Not authorized"]
            assert old.refused == []
        gateway.listen("manway/barrier")
        assert gateway.heard == []


def test_a_forged_will_reaches_nobody(site: Site) -> None:
    beat = topics.root("demo") + "gw/heartbeat"
    with Peer(site, "api") as api:
        api.listen(beat)
        with contextlib.ExitStack() as stack:
            forger = stack.enter_context(Peer(site, "gw-2", will=(beat, b"forged")))
            honest = stack.enter_context(Peer(site, "gw-1", will=(beat, b"honest")))
            forger.vanish()
            honest.vanish()
            until(lambda: (beat, b"honest") in api.heard)
        time.sleep(0.2)
        assert [payload for _, payload in api.heard] == [b"honest"]


# ---- our own client


async def test_our_client_connects_by_the_settings_file_as_it_was_written(site: Site) -> None:
    def bus(name: str, filters: Sequence[str]) -> MqttBus:
        read = settings.load(site.folder / "config" / f"{name}.toml")
        address = read.broker.replace(":8883", f":{site.port}")
        who = read.gateway_id if name == "gateway" else name
        return MqttBus(address, who, subscriptions=[(one, 1) for one in filters], tls=read.tls, protocol=read.protocol)

    event = topics.root("demo") + "gw/event"
    async with (
        bus("gateway", [one for where in SERVED["gw-1"] for one in topics.gateway_filters(where)]) as gateway,
        bus("api", [one for where in SITES for one in topics.api_filters(where)]) as api,
        Inbox(api) as inbox,
    ):
        await connected(gateway, api)
        await gateway.publish(event, b"1")
        await inbox.has(1)
        assert [message.topic for message in inbox.messages] == [event]


# ---- T13


def test_who_takes_a_foreign_client_id_gets_neither_its_session_nor_its_commands(mosquitto_site: Site) -> None:
    command = topics.root("demo") + "api/cmd"
    with Peer(mosquitto_site, "gw-1", clean=False) as victim, Peer(mosquitto_site, "api") as api:
        victim.listen(command)
        with Peer(mosquitto_site, "d-1", client_id="gw-1", clean=False) as thief:
            thief.listen("#", command)
            api.say(command, b"open")
            until(lambda: victim.heard == [(command, b"open")])
            thief.listen("manway/barrier")
            assert thief.heard == []
        assert (victim.connects, victim.losses) == (1, 0)


@pytest.mark.parametrize("own_site", ["nats"], indirect=True)
def test_on_nats_a_client_id_can_be_taken_over_but_no_right(own_site: Site) -> None:
    """The known difference (`pipeline.md` §2.1), why no device listens to NATS: the victim is cut, the thief gains no right."""
    command = topics.root("demo") + "api/cmd"
    with Peer(own_site, "gw-1", clean=False) as victim, Peer(own_site, "api") as api:
        victim.listen(command)
        with Peer(own_site, "gw-2", client_id="gw-1") as thief:
            until(lambda: victim.losses > 0)
            thief.listen(command)
            api.say(command, b"open")
            time.sleep(0.3)
            assert thief.heard == []


# ---- T15


@pytest.mark.parametrize("name", ["#", "+", "a/b", "", "x" * 33, "GW-1", "gw-1\n"])
def test_the_authority_signs_no_name_that_could_reach_into_a_filter(name: str, mosquitto_site: Site) -> None:
    authority = certificates.load_authority(mosquitto_site.folder / "ca")
    with pytest.raises(ValueError, match="cannot be an id"):
        authority.issue(name, time.time())


@pytest.mark.parametrize("name", ["#", "+"])
def test_a_certificate_named_like_a_filter_gets_nothing_even_if_one_existed(
    name: str, mosquitto_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pki, "check_id", lambda name: name)  # another authority's mistake
    leaf = certificates.load_authority(mosquitto_site.folder / "ca").issue(name, time.time())
    (mosquitto_site.folder / "devices" / "danger.crt").write_bytes(leaf.certificate)
    (mosquitto_site.folder / "devices" / "danger.key").write_bytes(leaf.key)
    gas, command = (topics.device_topic("demo", "d-1", kind) for kind in ("gas", "cmd"))
    with Peer(mosquitto_site, "gw-1") as gateway:
        gateway.listen(gas)
        with contextlib.suppress(OSError), Peer(mosquitto_site, "danger", client_id="danger") as danger:
            danger.listen("#", command)
            gateway.say(command)
            danger.client.publish(gas, b"clean air", 1)
            with contextlib.suppress(TimeoutError):
                danger.listen("manway/barrier")
            assert danger.heard == []
        gateway.listen("manway/barrier")
        assert gateway.heard == []


# ---- T17


def test_a_publish_over_the_limit_ends_the_connection_and_one_below_it_passes(site: Site) -> None:
    event = topics.root("demo") + "gw/event"
    with Peer(site, "api") as api, Peer(site, "gw-1") as gateway:
        api.listen(event)
        gateway.say(event, bytes(60_000))
        until(lambda: [len(payload) for _, payload in api.heard] == [60_000])
        gateway.client.publish(event, bytes(70_000), 0)
        until(lambda: gateway.losses > 0)
        assert [len(payload) for _, payload in api.heard] == [60_000]


# ---- T18


@pytest.mark.parametrize("own_site", ["mosquitto"], indirect=True)
def test_a_revoked_device_gets_nothing_more_although_it_is_connected(own_site: Site) -> None:
    command, gas = topics.device_topic("demo", "d-1", "cmd"), topics.device_topic("demo", "d-1", "gas")
    other = topics.device_topic("demo", "d-2", "cmd")
    with Peer(own_site, "gw-1") as gateway, Peer(own_site, "d-1") as revoked, Peer(own_site, "d-2") as kept:
        gateway.listen(gas)
        revoked.listen(command)
        kept.listen(other)
        gateway.say(command, b"1")
        until(lambda: revoked.heard == [(command, b"1")])
        assert "SIGHUP" in manway("revoke", own_site.folder, "d-1")
        own_site.reload()
        gateway.say(command, b"2")
        revoked.client.publish(gas, b"clean air", 0)
        gateway.say(other, b"3")
        until(lambda: kept.heard == [(other, b"3")])
        gateway.listen("manway/barrier")
        assert revoked.heard == [(command, b"1")]
        assert gateway.heard == []
        assert kept.losses == gateway.losses == 0
    assert not own_site.accepts("d-1")
    assert own_site.accepts("d-2")
    manway("issue", own_site.folder, "d-1")  # a new key: the old one stays on the list
    own_site.reload()
    assert own_site.accepts("d-1")


@pytest.mark.parametrize("own_site", ["nats"], indirect=True)
def test_a_revoked_gateway_of_the_core_is_heard_no_more(own_site: Site) -> None:
    events = {name: topics.root(where) + "gw/event" for name, where in (("gw-1", "demo"), ("gw-2", "sz-0001"))}
    with Peer(own_site, "api") as api, Peer(own_site, "gw-1") as kept, Peer(own_site, "gw-2") as revoked:
        api.listen(*events.values())
        manway("revoke", own_site.folder, "gw-2")
        own_site.reload()
        revoked.client.publish(events["gw-2"], b"late", 1)
        kept.say(events["gw-1"], b"honest")
        until(lambda: api.heard == [(events["gw-1"], b"honest")])
        time.sleep(0.3)
        assert len(api.heard) == 1
        assert kept.losses == 0
    assert not own_site.accepts("gw-2")
    assert own_site.accepts("gw-1")


@pytest.mark.parametrize("own_site", ["mosquitto"], indirect=True)
def test_an_expired_revocation_list_shuts_everybody_out_until_it_is_renewed(own_site: Site) -> None:
    register, authority = load_register(own_site.folder), certificates.load_authority(own_site.folder / "ca")
    certificates.publish(own_site.folder, own_site.folder, register, authority, time.time() - 31 * DAY_S)
    own_site.reload()
    assert not own_site.accepts("gw-1")
    look = CliRunner().invoke(app, ["renew", str(own_site.folder), "--check"])
    assert look.exit_code == 1
    assert "the revocation list has expired: Mosquitto refuses every client" in look.output
    manway("renew", own_site.folder)
    own_site.reload()
    assert own_site.accepts("gw-1")


@pytest.mark.parametrize("own_site", ["mosquitto"], indirect=True)
def test_renewed_certificates_count_after_a_sighup_the_brokers_own_included(own_site: Site) -> None:
    assert _serial(own_site) == (before := _serial(own_site))
    manway("renew", own_site.folder, "--all")
    own_site.reload()
    assert _serial(own_site) != before
    assert own_site.accepts("gw-1")


def _serial(site: Site) -> str:
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=20.0) as plain,
        site.tls("probe").wrap_socket(plain, server_hostname="localhost") as link,
    ):
        shown = link.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


# ---- the cluster


def test_three_nodes_from_the_generated_files_are_one_broker(tmp_path: Path) -> None:
    folder = tmp_path / "core"
    manway("init", folder, "--site", "demo", "--owner", os.geteuid())
    ports = {name: (free_port(), free_port()) for name in certificates.NODES}
    nodes = [_node(folder, name, ports) for name in certificates.NODES]
    event = topics.root("demo") + "gw/event"
    try:
        with ThreadPoolExecutor(3) as pool:  # none is ready before two are there
            list(pool.map(lambda node: node.start(30.0), nodes))
        first, third = Access(folder, ports["nats-1"][0]), Access(folder, ports["nats-3"][0])
        with Peer(third, "api") as api, Peer(first, "gw-1") as gateway:
            api.listen(event)
            gateway.say(event, b"across")
            until(lambda: api.heard == [(event, b"across")])
    finally:
        for node in nodes:
            node.kill()


def _node(folder: Path, name: str, ports: dict[str, tuple[int, int]]) -> BrokerProcess:
    """Return a node of the generated file with its paths, ports and host names replaced by this machine's."""
    text = (folder / "nats" / f"{name}.json").read_text().replace("/run/secrets", str(folder / "secrets"))
    for other, (_, route) in ports.items():
        text = text.replace(f"nats://{other}:6222", f"nats://127.0.0.1:{route}")
    settings = json.loads(text)
    mqtt, route = ports[name]
    settings["mqtt"]["listen"], settings["cluster"]["listen"] = f"127.0.0.1:{mqtt}", f"127.0.0.1:{route}"
    settings["jetstream"]["store_dir"] = str(folder / name)
    config = folder / f"{name}.conf"
    config.write_text(json.dumps(settings))
    ready = Access(folder, mqtt).tls("api")
    return BrokerProcess(nats_command(config), mqtt, folder / f"{name}.log", tls=ready)
