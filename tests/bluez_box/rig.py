"""A gateway's radio over the box: the real `RadioBus` on real BlueZ, and the devices it serves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from firmware_sim.radio import VirtualPeripheral
from gateway.ports import AdapterControl
from gateway.radio import RadioBus
from gateway.radio_bleak import BleakRadio
from gateway.radio_devices import RadioDevice
from manway import codec_ble, cose, grant
from manway.codec_ble import HELLO_REQUEST
from manway.codec_gas import decode_reading
from manway.entities import Grant, ResultCode
from manway.ids import GrantKind
from manway.runtime.clock import SystemClock
from manway.topics import device_topic
from tests.bluez_box.conftest import Lane
from tests.kit.locks import ISSUER
from tests.kit.radio import SITE_NAME, Desk, a_lock, address_of, an_instrument, instrument_row, lock_row, on_desk

NOW = SystemClock().now


class OnAir(NamedTuple):
    """A device on the air, and as the plan names it."""

    peripheral: VirtualPeripheral
    row: RadioDevice


@asynccontextmanager
async def on_air(lane: Lane, *, locks: int = 0, instruments: int = 0) -> AsyncIterator[list[OnAir]]:
    """Put devices on the air, the locks first, each with a number of its own."""
    devices: list[OnAir] = []
    try:
        for _ in range(locks):
            number = next(lane.numbers)
            lock = a_lock(number, NOW())
            devices.append(OnAir(await lane.air.add(lock, address_of(number)), lock_row(number, lock)))
        for _ in range(instruments):
            number = next(lane.numbers)
            model = an_instrument(number, NOW())
            devices.append(OnAir(await lane.air.add(model, address_of(number)), instrument_row(number)))
        yield devices
    finally:
        for device in devices:
            await lane.air.remove(device.row.address)


class Rig:
    """The gateway's radio, and who reads it."""

    def __init__(self, bus: RadioBus, desk: Desk) -> None:
        self.bus, self.desk = bus, desk
        self._cti = 0

    def frames(self, device: OnAir) -> list[int]:
        """Return the sequence numbers that have arrived from an instrument."""
        return [decode_reading(data).seq for data in self.desk.said[device.row.device, "frame"]]

    async def hears(self, device: OnAir, *, within_s: float) -> float:
        """Wait for another reading and return how long that took, in seconds; raises TimeoutError."""
        began = NOW()
        await self.desk.until(device.row.device, "frame", len(self.frames(device)) + 1, within_s=within_s)
        return NOW() - began

    async def tell(self, device: OnAir, name: str, payload: bytes) -> None:
        """Publish to a device."""
        await self.bus.publish(device_topic(SITE_NAME, device.row.device, f"down/{name}"), payload)

    async def unlock(self, device: OnAir, *, within_s: float) -> float:
        """Ask a lock for its hello, grant an entry, wait for OPENED; return how long it took, in seconds."""
        began = NOW()
        async with asyncio.timeout(within_s):
            heard = len(self.desk.said[device.row.device, "hello"])
            await self.tell(device, "hello", HELLO_REQUEST)
            _, hello = codec_ble.open_hello(await self.desk.until(device.row.device, "hello", heard + 1, within_s=within_s))
            self._cti += 1
            claims = Grant(
                kind=GrantKind.ENTRY,
                holder=bytes(8),
                lock_id=hello.lock_id,
                cti=self._cti.to_bytes(16, "big"),
                challenge=hello.challenge,
                life_s=60,
            )
            await self.tell(device, "grant", ISSUER.sign(cose.GRANT_AAD, grant.encode_payload(claims)))
            await self._until_opened(device)
        return NOW() - began

    async def _until_opened(self, device: OnAir) -> None:
        results = self.desk.said[device.row.device, "result"]
        while not results or codec_ble.open_result(results[-1])[1].code is not ResultCode.OPENED:
            await self.desk.until(device.row.device, "result", len(results) + 1, within_s=60.0)


@asynccontextmanager
async def gateway_radio(devices: Sequence[OnAir], control: AdapterControl | None, *, slots: int = 4) -> AsyncIterator[Rig]:
    """Run the gateway's radio with these devices in its plan."""
    desk = Desk()
    rows = [device.row for device in devices]
    bus = RadioBus(
        [(BleakRadio("hci0"), control)],
        lambda: rows,
        SystemClock(),
        slots=slots,
        profiles={},
        write=desk.health.append,
        say=desk.tell_red,
    )
    async with on_desk(bus, desk):
        yield Rig(bus, desk)
