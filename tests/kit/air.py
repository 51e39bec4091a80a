"""A virtual air in virtual time: real bleak calls against devices over Bluetooth, and half a minute passes in no time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from bleak import BleakClient, BleakScanner

from firmware_sim.bleak_backend import Backend
from firmware_sim.instrument import Enrolment, VirtualInstrument
from firmware_sim.radio import PASSKEY, VirtualAir, VirtualPeripheral
from firmware_sim.world import Air
from manway import codec_ble, gatt
from manway.codec_ble import LogOp, LogRequest
from manway.entities import LockHello
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.locks import LockBench

T = TypeVar("T")

# Half a year after a bench's 0: above 2**23 a float's step exceeds the loop's own resolution (see `tests.kit.clock`).
START = 2.0**24
LOCK_AT, GAS_AT = "F0:00:00:00:00:01", "F0:00:00:00:00:02"
DEVICE_ID, DEVICE_KEY = bytes(7) + b"\x21", bytes(range(0x40, 0x60))


def play(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a scenario on a loop that never waits; one that takes an hour of its time hangs."""

    async def within_an_hour() -> T:
        async with asyncio.timeout(3600.0):
            return await scenario

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(within_an_hour())


@asynccontextmanager
async def an_air(*, capture: Path | None = None) -> AsyncIterator[VirtualAir]:
    """An air whose time is the loop's."""
    async with VirtualAir(clock=FakeClock(epoch=START), capture=capture) as air:
        yield air


def instrument(serial: int = 1, *, signs: bool = False) -> VirtualInstrument:
    """A yard's instrument, switched on as the air opens."""
    own = Enrolment(DEVICE_ID, DEVICE_KEY, signs)
    return VirtualInstrument(f"gas-{serial}", f"S{serial}", Air(), 5, START, Random(serial), enrolment=own)  # noqa: S311  repeatable noise


async def connected(backend: Backend, address: str, **settings: Any) -> BleakClient:  # noqa: ANN401  bleak's own
    """A client connected to the device that was seen under an address."""
    seen = await BleakScanner.find_device_by_address(address, timeout=5.0, backend=backend.scanner)
    assert seen is not None
    client = BleakClient(seen, backend=backend.client, **settings)
    await client.connect()
    return client


class Heard:
    """What a client was told, by characteristic, in order."""

    def __init__(self, client: BleakClient) -> None:
        self.client = client
        self.values: dict[str, list[bytes]] = {}
        self._news = asyncio.Event()

    async def subscribe(self, *characteristics: str) -> "Heard":
        for uuid in characteristics:
            self.values[uuid] = []
            await self.client.start_notify(uuid, lambda said, value: self._keep(said.uuid, bytes(value)))
        return self

    def _keep(self, uuid: str, value: bytes) -> None:
        self.values[uuid].append(value)
        self._news.set()

    async def wait(self, uuid: str, count: int = 1, *, within_s: float = 5.0) -> list[bytes]:
        """The values told so far, once there are so many."""
        async with asyncio.timeout(within_s):
            while len(self.values[uuid]) < count:
                self._news.clear()
                await self._news.wait()
        return self.values[uuid]


class LockOnAir:
    """A lock on the air and a gateway's radio beside it."""

    def __init__(self, air: VirtualAir, bench: LockBench, peripheral: VirtualPeripheral) -> None:
        self.air, self.bench, self.peripheral = air, bench, peripheral
        self.backend = self.another_radio()

    def another_radio(self) -> Backend:
        """A radio more on this air, which knows the passkey."""
        backend = self.air.backend()
        backend.passkeys[self.peripheral.address] = PASSKEY
        return backend

    async def connect(self, **settings: Any) -> BleakClient:  # noqa: ANN401  bleak's own
        return await connected(self.backend, self.peripheral.address, **settings)

    async def hello(self, client: BleakClient) -> LockHello:
        """Ask for a hello over a connection and read it."""
        await asyncio.sleep(0.5)  # two a second at most
        await client.write_gatt_char(gatt.HELLO, codec_ble.HELLO_REQUEST, response=True)
        return codec_ble.open_hello(bytes(await client.read_gatt_char(gatt.HELLO)))[1]

    async def pull_log(self, client: BleakClient, heard: Heard) -> list[bytes]:
        """Ask for the whole log and return its records, once the end was told."""
        asked = codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 1))
        await client.write_gatt_char(gatt.LOG_CONTROL, asked, response=True)
        await heard.wait(gatt.LOG_CONTROL)
        whole = b"".join(heard.values[gatt.LOG_DATA])
        return [whole[at : at + codec_ble.RECORD_BYTES] for at in range(0, len(whole), codec_ble.RECORD_BYTES)]


@asynccontextmanager
async def a_lock(bench: LockBench | None = None, *, capture: Path | None = None) -> AsyncIterator[LockOnAir]:
    """A lock on an air of its own."""
    async with an_air(capture=capture) as air:
        bench = bench or LockBench()
        yield LockOnAir(air, bench, await air.add(bench.lock, LOCK_AT))
