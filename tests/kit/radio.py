"""Devices on a virtual air and a gateway's radio over it: firmware models, real bleak, no adapter."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from firmware_sim.instrument import Enrolment, VirtualInstrument
from firmware_sim.lock import VirtualLock
from firmware_sim.world import Air
from gateway.radio_devices import Kind, RadioDevice
from manway import codec_ble, cose, grant
from manway.codec_adv import advertisement_key
from manway.codec_ble import HELLO_REQUEST
from manway.entities import Grant, ResultCode
from manway.ids import GrantKind
from manway.measurements import RadioHealth
from manway.runtime.ports import Bus
from manway.runtime.signing import SigningKey, verify
from manway.topics import device_topic, parse
from tests.kit.locks import ISSUER, SITE, counting_random

SITE_NAME = "s1"
LOCK_KEYS = [SigningKey(bytes([0x20 + number] * 32)) for number in range(32)]
ADVERTISEMENT_KEY = bytes(range(0xE0, 0x100))
DEVICE_KEY = bytes(range(0x40, 0x60))


def address_of(number: int) -> str:
    """A static random address."""
    return f"F0:00:00:00:00:{number:02X}"


def a_lock(number: int, now: float, *, auto_press_s: float | None = 0.0) -> VirtualLock:
    """A lock that presses its own button unless told otherwise, so that an opening takes as long as the radio does."""
    key = LOCK_KEYS[number]
    return VirtualLock(
        public_key=key.public_key,
        issuer_key=ISSUER.public_key,
        site_key=SITE.public_key,
        sign=key.sign,
        verify=verify,
        random_bytes=counting_random(),
        flash=[],
        now=now,
        auto_press_s=auto_press_s,
        advertisement_key=ADVERTISEMENT_KEY,
    )


def an_instrument(number: int, now: float) -> VirtualInstrument:
    """An instrument in clean air."""
    enrolment = Enrolment(number.to_bytes(8, "big"), DEVICE_KEY)
    return VirtualInstrument(f"g-{number}", f"SN{number}", Air(), boot=7, now=now, random=Random(number), enrolment=enrolment)  # noqa: S311  noise


def lock_row(number: int, lock: VirtualLock, *, occupied: bool = False) -> RadioDevice:
    """A lock as the plan names it."""
    return RadioDevice(SITE_NAME, f"l-{number}", Kind.LOCK, address_of(number), lock.lock_id, ADVERTISEMENT_KEY, occupied)


def instrument_row(number: int, *, occupied: bool = True) -> RadioDevice:
    """An instrument as the plan names it."""
    device_id = number.to_bytes(8, "big")
    key = advertisement_key(DEVICE_KEY)
    return RadioDevice(SITE_NAME, f"g-{number}", Kind.INSTRUMENT, address_of(number), device_id, key, occupied)


class Desk:
    """Who reads a radio in a test: every message by device and name, acknowledged as it comes; its health."""

    def __init__(self) -> None:
        self.said: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        self.health: list[RadioHealth] = []
        self.red: list[tuple[str, bool]] = []
        self._news = asyncio.Event()

    async def read(self, bus: Bus) -> None:
        """Read until cancelled."""
        async for batch in bus.batches():
            for message in batch.messages:
                address = parse(message.topic)
                self.said[address.device, address.name.removeprefix("up/")].append(message.payload)
            await batch.ack()
            self._news.set()

    async def until(self, device: str, name: str, count: int = 1, *, within_s: float = 5.0) -> bytes:
        """Wait for that many messages and return the last of them; raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while len(self.said[device, name]) < count:
                self._news.clear()
                await self._news.wait()
        return self.said[device, name][-1]

    def tell_red(self, adapter: str, red: bool) -> None:  # noqa: FBT001  a fact, passed on
        """Note what is said of an adapter."""
        self.red.append((adapter, red))


async def unlock(bus: Bus, desk: Desk, number: int, kind: GrantKind = GrantKind.ENTRY, *, within_s: float = 5.0) -> ResultCode:
    """Open a lock as gateway and signer do, hello, grant, result, and return its last word; raises TimeoutError."""
    device = f"l-{number}"
    before = len(desk.said[device, "hello"])
    await bus.publish(device_topic(SITE_NAME, device, "down/hello"), HELLO_REQUEST)
    envelope, hello = codec_ble.open_hello(await desk.until(device, "hello", before + 1, within_s=within_s))
    assert verify(LOCK_KEYS[number].public_key, envelope.signed, envelope.signature)
    claims = Grant(kind=kind, holder=bytes(8), lock_id=hello.lock_id, cti=hello.challenge, challenge=hello.challenge, life_s=60)
    count = len(desk.said[device, "result"])
    await bus.publish(device_topic(SITE_NAME, device, "down/grant"), ISSUER.sign(cose.GRANT_AAD, grant.encode_payload(claims)))
    while True:
        count += 1
        await desk.until(device, "result", count, within_s=within_s)
        envelope, result = codec_ble.open_result(desk.said[device, "result"][count - 1])
        assert verify(LOCK_KEYS[number].public_key, envelope.signed, envelope.signature)
        if result.code is not ResultCode.PRESS_WANTED:
            return result.code


@asynccontextmanager
async def on_desk(bus: Bus, desk: Desk) -> AsyncIterator[Desk]:
    """Run a radio and read it."""
    async with bus, asyncio.TaskGroup() as group:
        reader = group.create_task(desk.read(bus))
        try:
            yield desk
        finally:
            reader.cancel()
