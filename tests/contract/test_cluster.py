"""The city's core, three NATS nodes from the wheel: one is killed, and its session goes on elsewhere without a loss."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from manway.runtime.broker import BrokerProcess
from tests.kit.brokers import Inbox, connected, hurry, nats_cluster, real_bus, until

pytestmark = [pytest.mark.integration, pytest.mark.system, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[BrokerProcess]]:
    hurry(monkeypatch)
    nodes = nats_cluster(tmp_path)
    try:
        await asyncio.gather(*(asyncio.to_thread(node.start, 30.0) for node in nodes))
        yield nodes
    finally:
        for node in nodes:
            node.kill()


async def test_a_killed_nodes_session_goes_on_elsewhere_with_everything_queued(nodes: list[BrokerProcess]) -> None:
    first, second, third = nodes
    payloads = [b"%d" % n for n in range(200)]
    async with real_bus(second, "writer") as writer:
        async with real_bus(first, "reader", ["q/+"]) as reader, Inbox(reader) as inbox:
            await connected(reader, writer)
            await writer.publish("q/a", b"across nodes")
            await inbox.has(1)
        for payload in payloads[:100]:
            await writer.publish("q/a", payload)
        await writer.flush()  # each has its PUBACK
        await asyncio.to_thread(first.kill)
        with capture_logs() as logs:
            async with real_bus(third, "reader", ["q/+"]) as reader, Inbox(reader) as inbox:
                await inbox.has(100)
                for payload in payloads[100:]:  # two of three suffice
                    await writer.publish("q/a", payload)
                await writer.flush()
                await until(lambda: set(payloads) <= set(inbox.payloads))
                assert list(dict.fromkeys(inbox.payloads)) == payloads
        assert next(line for line in logs if line["event"] == "mqtt_connected")["session_present"]
