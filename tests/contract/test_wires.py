"""Broker and radio as one bus, and how a gateway's settings become one: each message goes its way, each batch back home."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import cast

import pytest

from firmware_sim.radio import VirtualAir
from gateway.app import _adapters, _radio
from gateway.journal_reader import JournalReader
from gateway.outputs import LogOutput
from gateway.ports import AdapterControl, Radio, RadioFailed, Sighting
from gateway.radio_bleak import BackendControl, BleakRadio
from gateway.radio_bluez import BlueZControl
from gateway.sink_store import StoreSink
from gateway.wires import Wires
from manway.entities import Lock
from manway.errors import ProfileInvalid
from manway.inputs import HealthReported, PlanReceived
from manway.measurements import RADIO
from manway.runtime.settings import Settings
from manway.runtime.telemetry import TelemetryStore
from manway.topics import device_topic
from tests.contract.test_radio_bus import Rig
from tests.kit.builders import a_plan, an_instrument
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.gateway import Shelf, a_host, in_place, open_journal, path_of
from tests.kit.memory_broker import MemoryBroker
from tests.kit.memory_radio import MemoryControl, MemoryDevice, MemoryRadio
from tests.kit.radio import ADVERTISEMENT_KEY, SITE_NAME, a_lock, address_of


def run(scene: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


def test_each_message_goes_its_way_and_each_batch_back_to_whoever_brought_it() -> None:
    async def scene() -> None:
        rig, broker = Rig(locks=1), MemoryBroker()
        outside = broker.bus("outside", [("#", 1)])
        inner = broker.bus("gw-1", [(f"{device_topic(SITE_NAME, '+', 'up/+')}", 1)])
        wires = Wires(inner, rig.bus)
        heard: list[str] = []

        async def listen() -> None:
            async for batch in outside.batches():
                heard.extend(message.topic for message in batch.messages)
                await batch.ack()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one.live()) for one in rig.live]
            async with outside, wires:
                tasks += [group.create_task(listen()), group.create_task(rig.desk.read(wires))]
                await asyncio.sleep(0.1)
                assert wires.connected
                broker.kill()
                assert not wires.connected, "without the broker there is no way to the api"
                assert rig.bus.connected
                broker.start()
                await asyncio.sleep(2)
                await outside.publish(device_topic(SITE_NAME, "l-9", "up/state"), b"over the broker")
                await rig.desk.until("l-1", "state")
                await rig.desk.until("l-9", "state")
                await wires.publish(device_topic(SITE_NAME, "l-1", "down/hello"), b"\x01")
                await rig.desk.until("l-1", "hello")
                await wires.publish(device_topic(SITE_NAME, "l-9", "down/hello"), b"\x01")
                await wires.publish("manway/elsewhere", b"x")
                await asyncio.sleep(1)
                for task in tasks:
                    task.cancel()
        assert device_topic(SITE_NAME, "l-9", "down/hello") in heard
        assert "manway/elsewhere" in heard
        assert device_topic(SITE_NAME, "l-1", "down/hello") not in heard

    run(scene)


# -- the settings


def a_setting(tmp_path: Path, radio: str, *, reset: Sequence[str] = (), restart: Sequence[str] = ()) -> Settings:
    return Settings(data=tmp_path, sites=["yard"], radio=radio, radio_reset=[*reset], radio_restart=[*restart])


async def test_adapters_of_bluez_are_named_in_the_setting(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as air:
        one = _adapters(a_setting(tmp_path, "bluez"), air)
        two = _adapters(a_setting(tmp_path, "bluez:hci0,hci2,hci0"), air)
        able = a_setting(tmp_path, "bluez", reset=["usbreset", "{adapter}"], restart=["rc-service", "bluetooth"])
        ((_, helped),) = _adapters(able, air)
    assert [radio.name for radio, _ in one] == ["hci0"]
    assert [radio.name for radio, _ in two] == ["hci0", "hci2"]
    assert all(isinstance(control, BlueZControl) and not control.can_restart_daemon for _, control in two)
    assert isinstance(helped, BlueZControl)
    assert helped.can_reset_usb
    assert helped.can_restart_daemon


async def test_a_backend_nobody_knows_is_refused_with_those_there_are(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as air:
        with pytest.raises(ProfileInvalid, match="bluez is wanted, or one of bumble"):
            _adapters(a_setting(tmp_path, "walkie:talkie"), air)


@pytest.mark.integration
@pytest.mark.allow_hosts(["127.0.0.1", "::1"])
async def test_an_adapter_over_a_transport_of_the_simulator(tmp_path: Path) -> None:
    async with VirtualAir() as world, contextlib.AsyncExitStack() as air:
        await world.offer("tcp-server:127.0.0.1:0")
        await world.add(a_lock(1, 0.0), address_of(1))
        ((radio, control),) = _adapters(a_setting(tmp_path, f"bumble:tcp-client:127.0.0.1:{world.port}"), air)
        assert isinstance(radio, BleakRadio)
        assert isinstance(control, BackendControl)
        seen: list[Sighting] = []
        with pytest.raises(RadioFailed, match="is not open"):  # a gateway starts without it
            await radio.scan(seen.append)
        await control.power_cycle()
        await radio.scan(seen.append)
        async with asyncio.timeout(10):
            while not seen:  # noqa: ASYNC110  a list rings no bell
                await asyncio.sleep(0.05)
            link = await radio.connect(address_of(1))
        await link.disconnect()
        await radio.stop()


def test_a_plan_with_addresses_is_served_and_the_adapters_health_is_kept_and_told(tmp_path: Path) -> None:
    async def scene() -> None:
        clock, shelf = FakeClock(), Shelf()
        lock = a_lock(1, clock.now())
        device = MemoryDevice(lock, address_of(1), clock)
        radio = MemoryRadio("hci0", [device], clock)
        adapters: list[tuple[Radio, AdapterControl | None]] = [(radio, MemoryControl(radio, works=False))]
        with contextlib.closing(open_journal(tmp_path)) as journal:
            host = a_host(journal, "yard", bytes(32), LogOutput(), began=clock.now())
            row = Lock("l-1", lock.lock_id, bytes(32), "n01", address_of(1), ADVERTISEMENT_KEY)
            plan = a_plan(locks=[row], instruments=[an_instrument(address=address_of(2), out_of_service=True)])
            stale = HealthReported("RADIO_LOST", "hci7", holds=True)  # of an adapter that was there before the restart
            host.engine.receive([PlanReceived(plan), stale], clock.now())
            host.health.known(host.engine.site.health.values())
            sink = StoreSink(0, JournalReader(path_of(tmp_path)), cast("TelemetryStore", shelf), lambda *_: ("", ""))
            bus = _radio(a_setting(tmp_path, "bluez"), adapters, [host], {}, clock, sink)
            assert [(r.object, r.holds) for r in host.health.reports(clock.now())] == [("hci7", False)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one.live()) for one in (device, radio)]
                async with bus:
                    await asyncio.sleep(12)
                    assert bus.health("hci0").seen == 1, "and nobody waits for what is out of service"
                    assert host.health.reports(clock.now()) == [], "it hears, which is no news"
                    radio.deaf = True
                    await asyncio.sleep(400)
                    (lost,) = host.health.reports(clock.now())
                    assert (lost.fact, lost.object, lost.holds) == ("RADIO_LOST", "hci0", True)
                    radio.deaf = False
                    await asyncio.sleep(3)
                    (back,) = host.health.reports(clock.now())
                    assert (back.fact, back.object, back.holds) == ("RADIO_LOST", "hci0", False)
                    await sink.drain(clock.now(), in_place)
                for task in tasks:
                    task.cancel()
        lines = [line for line in shelf.lines if line.startswith(f"{RADIO},".encode())]
        assert len(lines) >= 30, "every ten seconds, and at every rung"
        assert any(b"red=t" in line for line in lines)

    run(scene)
