"""What every broker must do, and where one does something else: rows of `pipeline.md` §2.3 that are not in `test_bus.py`.

Differences stand in the table `MAKES`, never in a skip. Take-over, eavesdropping and revocation behind TLS are proven where
the generated configurations are.
"""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from statistics import median

import pytest
from structlog.testing import capture_logs

from manway.errors import BusUnavailable
from manway.runtime import mqtt_session
from manway.runtime.broker import BrokerProcess, NatsUser, write_nats_config
from manway.runtime.mqtt import MqttBus
from tests.kit.brokers import MAKES, Inbox, Rig, connected, hurry, link_of, nats, real_bus, until
from tests.kit.memory_broker import MemoryBus

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]

REAL = [name for name in MAKES if name != "memory"]
MAIN = [name for name in MAKES if not name.endswith("-3.1.1")]  # for rows that no version changes
GUARDED = [
    NatsUser("all", "all", [">"], [">"]),
    NatsUser("one", "first", ["own.>"], ["own.>", "$MQTT.sub.>"]),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@asynccontextmanager
async def running(make: str, directory: Path, users: list[NatsUser] | None = None) -> AsyncIterator[Rig]:
    rig = Rig(make, directory, users)
    await rig.start()
    try:
        yield rig
    finally:
        rig.broker.kill()


@pytest.fixture(params=MAKES)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(request.param, tmp_path) as rig:
        yield rig


@pytest.fixture(params=MAIN)
async def main(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(request.param, tmp_path) as rig:
        yield rig


@pytest.fixture(params=REAL)
async def real(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(request.param, tmp_path) as rig:
        yield rig


@pytest.fixture(params=MAKES)
async def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """The make with a user `one` who may do everything below `own`, where the make knows users."""
    async with running(request.param, tmp_path, GUARDED) as rig:
        yield rig


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


def events(logs: Sequence[object], name: str) -> list[dict[str, object]]:
    return [line for line in logs if isinstance(line, dict) and line["event"] == name]


# ---- versions, names, rights


async def test_auto_takes_version_five_where_it_is_granted_and_remembers_a_refusal(real: Rig) -> None:
    with capture_logs() as logs:
        bus = real.bus("speaker", ["q"])
        async with bus:
            await connected(bus)
            await real.cut(bus)
            await until(lambda: len(events(logs, "mqtt_connected")) == 2)
            await connected(bus)
            assert isinstance(bus, MqttBus)
            assert bus._thread.session._connection == (3 if real.make.protocol != real.make.speaks == "3.1.1" else 2)
    assert {str(line["version"]) for line in events(logs, "mqtt_connected")} == {real.make.speaks}
    assert [line["session_present"] for line in events(logs, "mqtt_connected")] == [False, True]


async def test_auto_finds_its_version_where_another_is_met_with_silence(tmp_path: Path) -> None:
    async with running("iotcore-3.1.1", tmp_path) as rig:
        assert isinstance(rig.broker, BrokerProcess)
        with capture_logs() as logs:
            async with real_bus(rig.broker, "patient", protocol="auto") as bus:
                await connected(bus)
        assert [line["version"] for line in events(logs, "mqtt_connected")] == ["3.1.1"]


async def test_a_foreign_publication_is_delivered_to_nobody_and_version_five_says_so(guarded: Rig) -> None:
    with capture_logs() as logs:
        async with (
            guarded.bus("listener", ["foreign/+", "own/+"]) as listener,
            guarded.bus("one", login=("one", "first")) as one,
            Inbox(listener) as inbox,
        ):
            await connected(listener, one)
            await one.publish("foreign/a", b"forged")
            await one.publish("own/a", b"honest")
            await one.flush()  # acknowledged all the same: a PUBACK is no permission
            await until(lambda: b"honest" in inbox.payloads)
    assert inbox.payloads.count(b"forged") == (0 if guarded.make.rights else 1)
    told = [(line["topic"], line["reason"]) for line in events(logs, "mqtt_publication_refused")]
    assert told == ([("foreign/a", "Not authorized")] if guarded.make.tells_refused else [])


async def test_a_foreign_subscription_is_refused_by_name_and_brings_nothing(guarded: Rig) -> None:
    async with (
        guarded.bus("one", ["own/+", "foreign/+"], login=("one", "first")) as one,
        guarded.bus("writer") as writer,
    ):
        await connected(one, writer)
        if guarded.make.refuses_filters:
            with pytest.raises(BusUnavailable, match=r"subscription refused: foreign/\+$"):
                await anext(aiter(one.batches()))
        async with Inbox(one) as inbox:
            await writer.publish("foreign/a", b"secret")
            await writer.publish("own/a", b"own")
            await until(lambda: b"own" in inbox.payloads)
            assert inbox.payloads == ([b"own"] if guarded.make.rights else [b"secret", b"own"])


async def test_a_wrong_password_is_turned_away_with_a_reason_and_tried_again(guarded: Rig) -> None:
    with capture_logs() as logs:
        async with guarded.bus("thief", login=("one", "wrong")) as thief:
            if guarded.make.turns_away:
                await until(lambda: len(events(logs, "mqtt_refused")) > 1)
                assert not thief.connected
            else:
                await connected(thief)
    assert {line["reason"] for line in events(logs, "mqtt_refused")} == {guarded.make.turns_away} - {""}


# ---- queues


async def test_five_hundred_messages_wait_in_order_for_a_session_that_is_present(main: Rig) -> None:
    async with main.bus("sleeper", ["q"]) as sleeper:
        await connected(sleeper)
    async with main.bus("writer") as writer:
        for payload in numbered(500):
            await writer.publish("q", payload)
        await writer.flush()
    with capture_logs() as logs:
        async with main.bus("sleeper", ["q"]) as sleeper, Inbox(sleeper) as inbox:
            await inbox.has(500)
    assert inbox.payloads == numbered(500)
    assert all(line["session_present"] for line in events(logs, "mqtt_connected"))


async def test_of_two_thousand_queued_messages_a_kill_of_the_broker_leaves_what_it_had_on_disk(main: Rig) -> None:
    async with main.bus("sleeper", ["q"]) as sleeper:
        await connected(sleeper)
    async with main.bus("writer") as writer:
        for payload in numbered(2_000):
            await writer.publish("q", payload)
        await flushed(writer)
        await main.saved()
        main.broker.kill()
        await main.start()
        await connected(writer)
        async with main.bus("sleeper", ["q"]) as sleeper, Inbox(sleeper) as inbox:
            await connected(sleeper)
            await writer.publish("q", b"end")
            await until(lambda: b"end" in inbox.payloads)
            kept = [] if main.make.survives_kill == "nothing" else numbered(2_000)
            assert list(dict.fromkeys(inbox.payloads)) == [*kept, b"end"]


async def flushed(bus: MqttBus | MemoryBus) -> None:
    async with asyncio.timeout(20):
        await bus.flush()


@pytest.mark.parametrize(
    ("make", "maximum"),
    [(make, maximum) for make in MAKES for maximum in (2_000, 50) if maximum == 2_000 or MAKES[make].speaks == "5"],
)
async def test_a_client_that_acknowledges_nothing_is_sent_no_more_than_the_limit(
    make: str, maximum: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "_RECEIVE_MAXIMUM", maximum)
    count, row = 2_500, MAKES[make]
    limit = min(row.unacknowledged or count, maximum if row.obeys_maximum else count)
    async with running(make, tmp_path) as rig, rig.bus("silent", ["q"]) as silent, rig.bus("writer") as writer:
        await connected(silent, writer)
        for payload in numbered(count):
            await writer.publish("q", payload)
        await flushed(writer)
        seen: dict[bytes, None] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(20) as patience:
                async for batch in silent.batches():
                    seen.update(dict.fromkeys(message.payload for message in batch.messages))
                    if len(seen) >= limit:  # no more may come, so a while is long enough
                        patience.reschedule(asyncio.get_running_loop().time() + 0.4)
        assert list(seen) == numbered(limit)


# ---- packets


async def test_seventy_thousand_bytes_end_the_senders_connection_and_reach_nobody(real: Rig) -> None:
    with capture_logs() as logs:
        async with real.bus("reader", ["q"]) as reader, real.bus("writer") as writer, Inbox(reader) as inbox:
            await connected(reader, writer)
            assert isinstance(writer, MqttBus)
            client = writer._thread.session.client
            assert client is not None
            writer._thread.give(lambda: client.publish("q", bytes(70_000), 1))  # past the adapter's own limit
            await until(lambda: any(line["client_id"] == "writer" for line in events(logs, "mqtt_disconnected")))
            await connected(writer)
            await writer.publish("q", bytes(60_000))
            await inbox.has(1)
            assert [len(payload) for payload in inbox.payloads] == [60_000]


async def test_small_packets_are_held_back_by_neither_side(real: Rig) -> None:
    async with real.bus("both", ["q"]) as both:
        await connected(both)
        assert isinstance(both, MqttBus)
        assert link_of(both).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        batches = both.batches()

        async def round_trip() -> float:
            began = time.monotonic()
            await both.publish("q", b"x")
            batch = await anext(batches)
            took = time.monotonic() - began
            await batch.ack()
            return took

        async with asyncio.timeout(20):  # Nagle's algorithm would hold each back for 40 ms, a busy machine not for ever
            while median([await round_trip() for _ in range(30)]) >= 0.03:
                pass
        await batches.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_a_hundred_and_thirty_one_filters_are_one_session(main: Rig) -> None:
    filters = [f"q/{n}/+" for n in range(131)]  # on NATS 131 times 500 unacknowledged messages is all a session may have
    async with main.bus("wide", filters) as wide, main.bus("writer") as writer, Inbox(wide) as inbox:
        await connected(wide, writer)
        for n in (0, 64, 130):
            await writer.publish(f"q/{n}/x", b"%d" % n)
        await inbox.has(3)
        assert sorted(inbox.payloads) == [b"0", b"130", b"64"]


# ---- ends


@pytest.mark.parametrize("make", ["nats", "mosquitto", "iotcore"])
async def test_kills_of_the_client_lose_nothing_and_repeat_only_what_it_had_not_acknowledged(make: str, tmp_path: Path) -> None:
    """The child stores each batch in a file before it acknowledges it; twice it is killed in mid-stream."""
    count, kills, kept = 3_000, (700, 1_700), tmp_path / "kept"
    kept.touch()
    async with running(make, tmp_path) as real, real.bus("writer") as writer:
        async with real.bus("keeper", ["q"]) as first:  # leaves a session behind, whose owner comes as a process
            await connected(writer, first)
        child, size = await keeper(real, kept), 0
        try:
            for n, payload in enumerate(numbered(count)):
                await writer.publish("q", payload)
                if n in kills:
                    await until(lambda: kept.stat().st_size > size)  # noqa: B023  awaited in this very turn
                    child.kill()
                    await child.wait()
                    child, size = await keeper(real, kept), kept.stat().st_size
            await flushed(writer)
            await until(lambda: set(kept.read_bytes().split()) == set(numbered(count)))
            assert len(kept.read_bytes().split()) <= count + len(kills) * (real.make.unacknowledged or count)
        finally:
            child.kill()
            await child.wait()


async def keeper(rig: Rig, kept: Path) -> asyncio.subprocess.Process:
    assert isinstance(rig.broker, BrokerProcess)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.kit.keeper", rig.broker.url, rig.make.protocol, str(kept)
    )


async def test_a_revoked_user_is_cut_off_while_connected_and_the_others_are_not(tmp_path: Path) -> None:
    broker = nats(tmp_path, GUARDED)
    await asyncio.to_thread(broker.start)
    try:
        with capture_logs() as logs:
            async with (
                real_bus(broker, "listener", ["own/+"]) as listener,
                real_bus(broker, "one", login=("one", "first")) as one,
                Inbox(listener) as inbox,
            ):
                await connected(listener, one)
                await one.publish("own/a", b"before")
                await inbox.has(1)
                write_nats_config(tmp_path, int(broker.url.rsplit(":", 1)[1]), GUARDED[:1])
                broker._child.send_signal(signal.SIGHUP)  # type: ignore[union-attr]  # it runs
                log = tmp_path / "nats.log"
                await until(lambda: "Reloaded server configuration" in log.read_text())
                await one.publish("own/a", b"after")
                await until(lambda: any(line["client_id"] == "one" for line in events(logs, "mqtt_refused")))
                await listener.publish("own/b", b"others go on")
                await inbox.has(2)
                assert inbox.payloads == [b"before", b"others go on"]
                assert not one.connected
    finally:
        broker.kill()
