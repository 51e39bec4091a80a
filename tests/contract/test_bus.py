"""One suite for the bus: the double of the kit, NATS and Mosquitto answer to the same expectations.

What brokers do differently stands in the table `MAKES`, never in a skip.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from manway.runtime.mqtt import MAX_PAYLOAD, MAX_UNFINISHED, MqttBus
from manway.runtime.ports import Batch, Bus, Message, Will
from tests.kit.brokers import Inbox, Rig, connected, hurry, until
from tests.kit.memory_broker import MemoryBroker, MemoryBus

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture(params=["memory", "nats", "mosquitto", "iotcore"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(request.param, tmp_path)
    await rig.start()
    yield rig
    rig.broker.kill()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % n for n in range(start, start + count)]


async def test_publications_arrive_in_order_with_their_topic(rig: Rig) -> None:
    async with rig.bus("reader", ["a/+/c"]) as reader, rig.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        for payload in numbered(500):
            await writer.publish("a/b/c", payload)
        await inbox.has(500)
        assert inbox.payloads == numbered(500)
        assert inbox.messages[0] == Message("a/b/c", b"0", retained=False)


async def test_a_quality_of_service_of_zero_arrives_while_connected(rig: Rig) -> None:
    async with rig.bus("reader", ["a"]) as reader, rig.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        await writer.publish("a", b"beat", qos=0)
        await inbox.has(1)


async def test_what_is_retained_is_delivered_marked_until_it_is_cleared(rig: Rig) -> None:
    async with rig.bus("writer") as writer, rig.bus("live", ["r"]) as live, Inbox(live) as seen_live:
        await connected(writer, live)
        await writer.publish("r", b"first", retain=True)
        await writer.publish("r", b"last", retain=True)
        await seen_live.has(2)
        assert [message.retained for message in seen_live.messages] == [False, False]
        async with rig.bus("late", ["r"]) as late, Inbox(late) as seen_late:
            await seen_late.has(1)
            assert seen_late.messages == [Message("r", b"last", retained=True)]
        await writer.publish("r", b"", retain=True)
        await seen_live.has(3)
        async with rig.bus("later", ["r", "end"]) as later, Inbox(later) as seen_later:
            await connected(later)
            await writer.publish("end", b"")
            await seen_later.has(1)
            assert [message.topic for message in seen_later.messages] == ["end"]


async def test_the_will_is_published_after_an_abrupt_end_and_the_birth_after_every_connect(rig: Rig) -> None:
    will, birth = Will("life", b"gone"), [Message("life", b"born")]
    async with rig.bus("reader", ["life"]) as reader, Inbox(reader) as inbox:
        await connected(reader)
        async with rig.bus("mortal", will=will, birth=birth) as mortal:
            await connected(mortal)
            await inbox.has(1)
            await rig.cut(mortal)
            await inbox.has(3)
        await asyncio.sleep(0.1)
        assert inbox.payloads == [b"born", b"gone", b"born"]  # and none after the clean end


async def test_two_hundred_messages_wait_in_order_for_a_durable_session(rig: Rig) -> None:
    async with rig.bus("sleeper", ["q"]) as sleeper:
        await connected(sleeper)
    async with rig.bus("writer") as writer:
        for payload in numbered(200):
            await writer.publish("q", payload)
        await writer.flush()
    async with rig.bus("sleeper", ["q"]) as sleeper, Inbox(sleeper) as inbox:
        await inbox.has(200)
        assert inbox.payloads == numbered(200)


async def test_what_was_not_acknowledged_comes_again_after_a_reconnect(rig: Rig) -> None:
    async with rig.bus("writer") as writer, rig.bus("reader", ["q"]) as reader:
        await connected(writer, reader)
        batches = reader.batches()
        old: Batch | None = None
        for start, count in ((0, 4), (4, 6)):
            for payload in numbered(count, start):
                await writer.publish("q", payload)
            got: list[bytes] = []
            while len(got) < count:
                old = await anext(batches)
                got += [message.payload for message in old.messages]
                if start == 0:
                    await old.ack()
        await rig.cut(reader)
        await until(lambda: not reader.connected)
        await connected(reader)
        assert old is not None
        await old.ack()  # of the older connection: must not count for the new one
        again: list[bytes] = []
        async with asyncio.timeout(20):
            while set(again) < set(numbered(6, 4)):
                batch = await anext(batches)
                await batch.ack()
                again += [message.payload for message in batch.messages]
        assert not set(again) & set(numbered(4))
        await batches.aclose()  # type: ignore[attr-defined]  # an async generator on both


async def test_while_the_broker_is_down_the_first_quality_is_kept_and_the_zeroth_dropped(rig: Rig) -> None:
    async with rig.bus("reader", ["q"]) as reader, rig.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        await rig.saved()
        rig.broker.kill()
        await until(lambda: not writer.connected)
        await writer.publish("q", b"dropped", qos=0)
        for payload in numbered(20):
            await writer.publish("q", payload)
        await rig.start()
        await writer.flush()
        await connected(reader)
        await writer.publish("q", b"end")
        kept = set(numbered(20)) if rig.make.survives_kill != "nothing" else set()  # else who comes back first may be alone
        await until(lambda: kept | {b"end"} <= set(inbox.payloads))
        once = list(dict.fromkeys(inbox.payloads))
        assert once == [payload for payload in [*numbered(20), b"end"] if payload in once]


async def test_every_number_of_a_stream_arrives_through_a_kill_of_the_broker(rig: Rig) -> None:
    async with rig.bus("reader", ["q"]) as reader, rig.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        for payload in numbered(200):
            await writer.publish("q", payload)
        await inbox.has(200)
        await rig.saved()
        for n, payload in enumerate(numbered(300, 200)):
            await writer.publish("q", payload)
            if n == 100:
                rig.broker.kill()
                await until(lambda: not reader.connected and not writer.connected)
            if n == 150:
                await rig.start()
            await asyncio.sleep(0.002)
        await connected(reader, writer)
        await writer.flush()
        for payload in numbered(200, 500):
            await writer.publish("q", payload)
        await until(lambda: b"699" in inbox.payloads)
        window = set(numbered(300, 200)) if rig.make.survives_kill != "all" else set()
        await until(lambda: set(numbered(700)) - set(inbox.payloads) <= window)


async def test_a_reconnect_subscribes_again_whatever_the_broker_remembers(rig: Rig) -> None:
    async with rig.bus("reader", ["r"]) as reader, rig.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        await writer.publish("r", b"kept", retain=True)
        await inbox.has(1)
        await rig.cut(reader)
        await until(lambda: not reader.connected)
        await connected(reader)
        if not rig.make.repeats_retained:
            await writer.publish("r", b"new")
        await inbox.has(2)  # only a SUBSCRIBE brings the retained message again
        assert inbox.messages[1].retained is rig.make.repeats_retained


async def test_an_oversize_publication_is_refused_with_its_size(rig: Rig) -> None:
    async with rig.bus("reader", ["q"]) as reader, rig.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        with pytest.raises(ValueError, match=f"{MAX_PAYLOAD + 1} bytes is over the limit of {MAX_PAYLOAD}"):
            await writer.publish("q", bytes(MAX_PAYLOAD + 1))
        await writer.publish("q", bytes(MAX_PAYLOAD))
        await inbox.has(1)
        assert len(inbox.payloads[0]) == MAX_PAYLOAD


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a b", "a\0", "\ud800", "气", "a" * 257])
@pytest.mark.parametrize("bus", [MqttBus("mqtt://127.0.0.1:1", "writer"), MemoryBroker().bus("writer")], ids=["real", "memory"])
async def test_what_no_broker_takes_as_a_topic_is_refused_before_anybody_is_asked(bus: Bus, topic: str) -> None:
    with pytest.raises(ValueError, match="not a topic"):
        await bus.publish(topic, b"")


async def test_an_exception_in_the_consumer_does_not_stop_the_bus(rig: Rig) -> None:
    async with rig.bus("reader", ["q"]) as reader, rig.bus("writer") as writer:
        await connected(reader, writer)
        await writer.publish("q", b"poison")

        async def consume() -> None:
            async for _ in reader.batches():
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await consume()
        async with Inbox(reader) as inbox:
            await writer.publish("q", b"after")
            await inbox.has(1)
            assert inbox.payloads == [b"after"]


async def test_a_publisher_waits_at_the_limit_of_unfinished_publications(rig: Rig) -> None:
    rig.broker.kill()
    async with rig.bus("writer") as writer, rig.bus("reader", ["q"]) as reader, Inbox(reader) as inbox:
        for payload in numbered(MAX_UNFINISHED):
            await writer.publish("q", payload)
        waiting = asyncio.get_running_loop().create_task(writer.publish("q", b"last"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await rig.start()
        await waiting
        await writer.flush()
        await until(lambda: reader.connected)
        await writer.publish("q", b"end")
        await until(lambda: b"end" in inbox.payloads)


async def test_the_end_is_clean_with_the_broker_down(rig: Rig) -> None:
    rig.broker.kill()
    with capture_logs() as logs:
        async with asyncio.timeout(5), rig.bus("lonely", ["q"], will=Will("w", b"")) as bus:
            await bus.publish("q", b"never")
            await asyncio.sleep(0.05)
    assert [line["log_level"] for line in logs if line["log_level"] in {"error", "critical"}] == []


# ---- the double alone: faults on order


@pytest.fixture
async def faulty() -> AsyncIterator[tuple[MemoryBroker, MemoryBus, Inbox]]:
    broker = MemoryBroker()
    async with broker.bus("reader", [("q/+", 1)]) as reader, broker.bus("writer") as writer, Inbox(reader) as inbox:
        await connected(reader, writer)
        yield broker, writer, inbox


async def send(writer: Bus, *payloads: bytes) -> None:
    for payload in payloads:
        await writer.publish("q/1", payload)


async def test_a_dropped_publication_is_gone(faulty: tuple[MemoryBroker, MemoryBus, Inbox]) -> None:
    broker, writer, inbox = faulty
    broker.drop("q/+", 2)
    await send(writer, b"a", b"b", b"c")
    await inbox.has(1)
    assert inbox.payloads == [b"c"]


async def test_a_duplicated_publication_comes_twice(faulty: tuple[MemoryBroker, MemoryBus, Inbox]) -> None:
    broker, writer, inbox = faulty
    broker.duplicate("q/1")
    await send(writer, b"a", b"b")
    await inbox.has(3)
    assert inbox.payloads == [b"a", b"a", b"b"]


async def test_reordered_publications_come_last_to_first(faulty: tuple[MemoryBroker, MemoryBus, Inbox]) -> None:
    broker, writer, inbox = faulty
    broker.reorder("q/#", 3)
    await send(writer, b"a", b"b", b"c", b"d")
    await inbox.has(4)
    assert inbox.payloads == [b"c", b"b", b"a", b"d"]


async def test_a_delayed_publication_is_overtaken(faulty: tuple[MemoryBroker, MemoryBus, Inbox]) -> None:
    broker, writer, inbox = faulty
    broker.delay("q/1", 0.05)
    await send(writer, b"a", b"b")
    await inbox.has(2)
    assert inbox.payloads == [b"b", b"a"]


async def test_a_client_cut_for_good_hands_its_queue_to_its_successor() -> None:
    broker = MemoryBroker()
    async with broker.bus("writer") as writer, broker.bus("reader", [("q/1", 1)]) as dead, Inbox(writer):
        await connected(writer, dead)
        broker.cut("reader", for_s=None)
        broker.cut("reader")  # nobody is there to be cut
        await send(writer, b"a")
        async with broker.bus("reader", [("q/1", 1)]) as heir, Inbox(heir) as inbox:
            await inbox.has(1)
            assert not dead.connected


async def test_a_second_client_of_the_same_id_takes_over_and_the_will_of_the_first_is_published() -> None:
    broker = MemoryBroker()
    async with broker.bus("watch", [("w", 1)]) as watch, Inbox(watch) as inbox, broker.bus("twin", will=Will("w", b"x")) as one:
        await connected(watch, one)
        async with broker.bus("twin") as two:
            await connected(two)
            await inbox.has(1)
            assert not one.connected
