"""The real MQTT client: rights on NATS, failures inside and outside its thread, a server that behaves badly."""

import asyncio
import importlib.metadata
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from manway import topics
from manway.errors import BusUnavailable
from manway.runtime import mqtt
from manway.runtime.broker import BrokerProcess, nats_binary, nats_users, write_nats_config
from manway.runtime.mqtt import MqttBus
from manway.runtime.ports import Message, Will
from tests.kit.brokers import Inbox, connected, free_port, nats, real_bus, until

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A NATS with the rows generated from the topic table for the sites `s1` and `demo`."""
    broker = nats(tmp_path, nats_users(["s1", "demo"], {"gateway": "g", "api": "a", "simulator": "s"}))
    broker.start()
    yield broker
    broker.stop()


def guarded_bus(broker: BrokerProcess, user: str, filters: Sequence[str] = ()) -> MqttBus:
    return real_bus(broker, f"{user}-1", filters, (user, user[0]))


async def test_the_generated_users_reach_what_the_topic_table_gives_them(guarded: BrokerProcess) -> None:
    gas, plan, event = (
        topics.device_topic("s1", "gas-1", "gas"),
        topics.root("demo") + "api/plan",
        topics.root("s1") + "gw/event",
    )
    every = [*topics.gateway_filters("s1"), *topics.gateway_filters("demo")]
    async with (
        guarded_bus(guarded, "gateway", every) as gateway,
        guarded_bus(guarded, "api", topics.api_filters("s1")) as api,
        guarded_bus(guarded, "simulator", topics.device_filters("s1", "gas-1")) as simulator,
        Inbox(gateway) as to_gateway,
        Inbox(api) as to_api,
        Inbox(simulator) as to_simulator,
    ):
        await connected(gateway, api, simulator)
        await simulator.publish(gas, b"1")
        await to_gateway.has(1)
        await api.publish(plan, b"2", retain=True)
        await to_gateway.has(2)
        await gateway.publish(event, b"3")
        await to_api.has(1)
        await gateway.publish(topics.device_topic("s1", "gas-1", "down/hello"), b"\1")
        await to_simulator.has(1)
        assert [message.topic for message in to_gateway.messages] == [gas, plan]


async def test_a_foreign_publication_is_not_delivered_though_it_is_acknowledged(guarded: BrokerProcess) -> None:
    every = topics.gateway_filters("s1")
    async with (
        guarded_bus(guarded, "gateway", every) as gateway,
        guarded_bus(guarded, "api") as api,
        guarded_bus(guarded, "simulator") as simulator,
        Inbox(gateway) as inbox,
    ):
        await connected(gateway, api, simulator)
        await simulator.publish(topics.root("s1") + "api/cmd", b"forged command")
        await api.publish(topics.device_topic("s1", "gas-1", "gas"), b"forged gas")
        await asyncio.gather(simulator.flush(), api.flush())  # acknowledged: a PUBACK is no permission
        await api.publish(topics.root("s1") + "api/cmd", b"honest")
        await inbox.has(1)
        assert inbox.payloads == [b"honest"]


@pytest.mark.parametrize("foreign", ["manway/1/48/s1/dev/+/gas", "manway/1/34/sz-0001/gw/+", "#", "$MQTT/sub/#"])
async def test_a_refused_subscription_reaches_the_consumer_by_name(guarded: BrokerProcess, foreign: str) -> None:
    good = topics.api_filters("s1")
    with capture_logs() as logs:
        async with guarded_bus(guarded, "api", [*good, foreign]) as api:
            with pytest.raises(BusUnavailable) as caught:
                await anext(aiter(api.batches()))
    assert caught.value.reason == f"subscription refused: {foreign}"
    assert {"event": "mqtt_subscription_refused", "filters": [foreign]}.items() <= next(
        line for line in logs if line["log_level"] == "error"
    ).items()


async def test_a_wrong_password_is_logged_and_tried_again(guarded: BrokerProcess) -> None:
    with capture_logs() as logs:
        async with real_bus(guarded, "thief", login=("api", "wrong")) as bus:
            await until(lambda: any(line["event"] == "mqtt_refused" for line in logs))
            assert not bus.connected


async def test_the_client_may_start_before_the_broker(tmp_path: Path) -> None:
    broker = nats(tmp_path)
    with capture_logs() as logs:
        async with real_bus(broker, "early") as bus:
            await bus.publish("a", b"")
            await until(lambda: bool(logs))
            assert [line["event"] for line in logs] == ["mqtt_unreachable"]
            try:
                await asyncio.to_thread(broker.start)
                await bus.flush()
            finally:
                broker.stop()


async def test_a_failing_callback_is_logged_and_does_not_end_the_thread(tmp_path: Path) -> None:
    broker = nats(tmp_path)
    broker.start()
    try:
        async with real_bus(broker, "both", ["q"]) as bus:
            await connected(bus)
            good = bus._client.on_message
            bus._client.on_message = lambda *_: 1 / 0  # type: ignore[assignment]
            with capture_logs() as logs:
                await bus.publish("q", b"broken")
                await until(lambda: any(line["event"] == "mqtt_callback_failed" for line in logs))
                assert all(line["event"] != "mqtt_thread_failed" for line in logs)
            bus._client.on_message = good
            async with Inbox(bus) as inbox:
                await bus.publish("q", b"whole")
                await until(lambda: b"whole" in inbox.payloads)
    finally:
        broker.stop()


async def test_the_network_thread_begins_again_after_an_error_inside_it(tmp_path: Path) -> None:
    broker = nats(tmp_path)
    broker.start()
    try:
        async with real_bus(broker, "both", ["q"]) as bus:
            await connected(bus)
            healthy = bus._client._packet_handle

            def broken() -> int:
                bus._client._packet_handle = healthy  # type: ignore[method-assign]
                raise MemoryError

            bus._client._packet_handle = broken  # type: ignore[method-assign, assignment]
            with capture_logs() as logs:
                await bus.publish("q", b"through")
                await until(lambda: any(line["event"] == "mqtt_thread_failed" for line in logs))
                async with Inbox(bus) as inbox:
                    await bus.flush()
                    await until(lambda: b"through" in inbox.payloads)
    finally:
        broker.stop()


def test_the_address_must_be_plain_mqtt() -> None:
    with pytest.raises(ValueError, match="mqtt://host:port"):
        MqttBus("mqtts://broker", "a")


def test_a_will_that_no_broker_takes_is_refused_before_the_first_connect() -> None:
    with pytest.raises(ValueError, match="not a topic"):
        MqttBus("mqtt://broker", "a", will=Will("#", b""))


def may(subjects: Sequence[str], topic: str) -> bool:
    wanted = topic.split("/")
    rows = [subject.split(".") for subject in subjects]
    return any(
        len(row) == len(wanted) and all(have in {"*", part} for have, part in zip(row, wanted, strict=True)) for row in rows
    )


@pytest.mark.parametrize("row", topics.TOPICS, ids=lambda row: row.below_root)
def test_the_generated_rights_are_the_columns_of_the_topic_table(row: topics.TopicRow) -> None:
    users = nats_users(["s1"], {"gateway": "g", "api": "a", "simulator": "s"})
    topic = topics.root("s1") + row.below_root.replace("{device}", "gas-1")
    plays = {"device": "simulator", "lock": "simulator"}
    assert [user.name for user in users if may(user.publish, topic)] == [plays.get(row.writer, row.writer)]
    assert [user.name for user in users if may(user.subscribe, topic)] == [plays.get(row.reader, row.reader)]
    assert not any(may([*user.publish, *user.subscribe], topic.replace("/48/s1/", "/32/demo/")) for user in users)


def test_the_configuration_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = write_nats_config(tmp_path, free_port(), nats_users(["s1"], {"gateway": "g", "api": "a", "simulator": "s"}))
    assert path.stat().st_mode & 0o777 == 0o600
    assert nats_binary().name.startswith("nats-server")


def test_without_the_wheel_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda _: None)
    with pytest.raises(FileNotFoundError, match=r"manway\[sim\]"):
        nats_binary()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = nats(tmp_path)
    (tmp_path / "nats.json").write_text("{ nonsense")
    with pytest.raises(BusUnavailable, match="nats"):
        broker.start()
    assert broker.pid == 0
    broker.stop()


class BadServer:
    """Speaks enough MQTT to misbehave: takes connections, keeps the first one's publications unacknowledged."""

    def __init__(self) -> None:
        self.connections: list[list[bytes]] = []  # payloads of each
        self.acknowledged: list[int] = []
        self.links: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        payloads: list[bytes] = []
        self.connections.append(payloads)
        self.links.append(writer)
        try:
            while True:
                head = (await reader.readexactly(1))[0]
                body = await reader.readexactly((await reader.readexactly(1))[0])  # every packet here is below 128 bytes
                if head >> 4 == 1:
                    writer.write(b"\x20\2\0\0")
                elif head >> 4 == 3:
                    topic_end = 2 + body[1]
                    payloads.append(body[topic_end + 2 :])
                    if len(self.connections) > 1:
                        writer.write(b"\x40\2" + body[topic_end : topic_end + 2])
                elif head >> 4 == 4:
                    self.acknowledged.append(int.from_bytes(body, "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def publish(self, topic: bytes, payload: bytes, mid: int = 0) -> None:
        body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if mid else b"") + payload
        self.links[-1].write(bytes([0x32 if mid else 0x30, len(body)]) + body)


@pytest.fixture
async def bad() -> AsyncIterator[tuple[BadServer, MqttBus]]:
    behaviour = BadServer()
    server = await asyncio.start_server(behaviour.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, MqttBus(f"mqtt://127.0.0.1:{port}", "victim") as bus:
        await connected(bus)
        yield behaviour, bus
    for link in behaviour.links:
        link.close()


async def test_what_got_no_puback_is_sent_again_once_and_in_order_with_what_came_since(bad: tuple[BadServer, MqttBus]) -> None:
    server, bus = bad
    for n in range(10):
        await bus.publish("q", b"%d" % n)
    await until(lambda: len(server.connections[0]) == 10)
    server.links[0].close()
    await until(lambda: not bus.connected)
    for n in range(10, 15):
        await bus.publish("q", b"%d" % n)
    await bus.flush()
    await asyncio.sleep(0.05)
    assert server.connections[1] == [b"%d" % n for n in range(15)]


async def test_a_topic_that_is_no_text_reaches_the_consumer_as_poison_and_is_acknowledged(
    bad: tuple[BadServer, MqttBus],
) -> None:
    server, bus = bad
    server.publish(b"\xff", b"?", mid=7)
    async with Inbox(bus) as inbox:
        await inbox.has(1)
        assert inbox.messages == [Message("\ufffd", b"?")]
        await until(lambda: server.acknowledged == [7])


async def test_a_consumer_that_lags_leaves_the_socket_unread(
    bad: tuple[BadServer, MqttBus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "MAX_UNREAD", 10)
    server, bus = bad
    for n in range(50):
        server.publish(b"q", b"%d" % n)
    await until(lambda: len(bus._inbox) == 10)
    await asyncio.sleep(0.1)
    assert len(bus._inbox) == 10
    async with Inbox(bus) as inbox:
        await inbox.has(50)
        assert inbox.payloads == [b"%d" % n for n in range(50)]


async def test_small_packets_are_not_held_back(bad: tuple[BadServer, MqttBus]) -> None:
    link = bad[1]._client.socket()
    assert isinstance(link, socket.socket)
    assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
