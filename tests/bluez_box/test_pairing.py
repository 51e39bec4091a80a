"""Pairing at commissioning with our own agent, against real BlueZ: the printed passkey counts, nobody else's word does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from firmware_sim.radio import PASSKEY
from gateway.bluez_bus import SystemBus
from gateway.ports import RadioFailed, Sighting
from gateway.radio_bleak import CALL_S, BleakRadio
from gateway.radio_bluez import DEVICE
from manway import gatt
from tests.bluez_box.conftest import Lane, Measured
from tests.bluez_box.rig import NOW, OnAir, on_air

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(180),
]


@asynccontextmanager
async def _scanning(device: OnAir) -> AsyncIterator[BleakRadio]:
    """Give a radio that has seen the device and goes on scanning, as the gateway's does."""
    radio, seen = BleakRadio("hci0"), asyncio.Event()

    def see(sighting: Sighting) -> None:
        if sighting.address == device.row.address:
            seen.set()

    await radio.scan(see)
    try:
        async with asyncio.timeout(20):
            await seen.wait()
        yield radio
    finally:
        await radio.stop()


async def _bonded(device: OnAir) -> bool:
    bus = SystemBus(user=0)
    try:
        return bool(await bus.get(f"/org/bluez/hci0/dev_{device.row.address.replace(':', '_')}", DEVICE, "Bonded"))
    finally:
        bus.disconnect()


async def test_the_printed_passkey_pairs_and_the_bond_outlives_bluetoothd(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, locks=1) as [lock]:
        async with _scanning(lock) as radio:
            with pytest.raises(RadioFailed) as refused:
                await lane.control.pair(lock.row.address, PASSKEY + 1)
            assert refused.value.kind == "pairing"
            assert not await _bonded(lock)
            began = NOW()
            await lane.control.pair(lock.row.address, PASSKEY)
            measured.say(f"paired in {NOW() - began:.1f} s, of which BlueZ takes 2 to end the link")
            assert await _bonded(lock)
            await lane.control.pair(lock.row.address, PASSKEY)  # done is done: BlueZ 5.66 would wait for ever
        await lane.control.restart_daemon()
        assert await _bonded(lock)
        async with _scanning(lock) as radio:
            link = await radio.connect(lock.row.address)
            assert len(await link.read(gatt.ENROL)) == 62  # encrypted: by the bond, nobody is asked
            await link.disconnect()


async def test_an_encrypted_value_of_a_lock_without_a_bond_is_refused_in_its_time(lane: Lane, measured: Measured) -> None:
    async with on_air(lane, locks=1) as [lock], _scanning(lock) as radio:
        link = await radio.connect(lock.row.address)
        began = NOW()
        with pytest.raises(RadioFailed) as failed:
            await link.read(gatt.ENROL)
        assert NOW() - began < 2 * CALL_S
        measured.say(f"encrypted value without a bond: {failed.value}, after {NOW() - began:.1f} s")
        await link.disconnect()
        assert not await _bonded(lock)
