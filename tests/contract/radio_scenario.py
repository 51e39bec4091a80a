"""One scenario for every radio: scan, connect four, subscribe, refused command, challenge, unlock, indication, pair, log.

Written against `gateway.ports.Radio` and `AdapterControl`; who runs it brings both and puts `Devices` on the air. The log comes
last because its data travel only over an encrypted link, and pairing is explicit (`locks.md` §8.5).
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from firmware_sim.instrument import VirtualInstrument
from firmware_sim.lock import VirtualLock
from gateway.ports import AdapterControl, Link, Radio, Sighting
from manway import codec_ble, cose, gatt, grant
from manway.codec_ble import HELLO_REQUEST, REFUSED, LogDone, LogOp, LogRequest
from manway.codec_gas import decode_reading
from manway.entities import Grant, LogEvent, ResultCode
from manway.ids import GrantKind
from manway.runtime.signing import verify
from tests.kit.locks import ISSUER
from tests.kit.radio import LOCK_KEYS, a_lock, address_of, an_instrument

LOCK = address_of(1)
INSTRUMENTS = [address_of(number) for number in (2, 3, 4)]
_LONGEST_S = 20.0  # a step that takes longer has failed


class Air(Protocol):
    """Where devices are put: `VirtualAir`, whoever listens to it."""

    async def add(self, model: VirtualLock | VirtualInstrument, address: str) -> object: ...


class Times(msgspec.Struct):
    """How long each step took, seconds."""

    steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.steps[name] = time.perf_counter() - began

    @property
    def unlock_s(self) -> float:
        """From the connect to the lock until its own word that it is open: one connect, the challenge, grant and indication."""
        return self.steps["connect four"] / 4 + sum(self.steps[name] for name in ("challenge", "unlock and indication"))

    def __str__(self) -> str:
        return ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in self.steps.items())


class Heard:
    """What one characteristic brings."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, data: bytes) -> None:
        self._queue.put_nowait(data)

    def empty(self) -> bool:
        return self._queue.empty()

    async def next(self) -> bytes:
        async with asyncio.timeout(_LONGEST_S):
            return await self._queue.get()


async def put_on_air(air: Air, now: float) -> VirtualLock:
    """Put a lock and three instruments on the air and return the lock."""
    lock = a_lock(1, now)
    await air.add(lock, LOCK)
    for number in (2, 3, 4):
        await air.add(an_instrument(number, now), address_of(number))
    return lock


async def play(radio: Radio, control: AdapterControl, *, passkey: int) -> Times:
    """Play it all and return the times; whatever does not come about raises."""
    times = Times()
    with times.step("scan"):
        await _scan(radio)
    with times.step("connect four"):
        links = {address: await radio.connect(address) for address in (LOCK, *INSTRUMENTS)}
    try:
        with times.step("subscribe"):
            heard = {address: await _subscribed(links[address], gatt.READING) for address in INSTRUMENTS}
            results = await _subscribed(links[LOCK], gatt.RESULT)
            states = await _subscribed(links[LOCK], gatt.STATE)
        with times.step("a reading of each"):
            for address in INSTRUMENTS:
                decode_reading(await heard[address].next())
        await _unlock(links[LOCK], results, states, times)
    finally:
        await asyncio.gather(*(link.disconnect() for link in links.values()))
    with times.step("pair"):
        await control.pair(LOCK, passkey)
    with times.step("log"):
        await _download(radio)
    await radio.stop()
    return times


async def _scan(radio: Radio) -> None:
    seen: set[str] = set()
    complete = asyncio.Event()

    def see(sighting: Sighting) -> None:
        if {gatt.LOCK_SERVICE, gatt.GAS_SERVICE} & sighting.service_data.keys():
            seen.add(sighting.address)
        if seen >= {LOCK, *INSTRUMENTS}:
            complete.set()

    await radio.scan(see)
    async with asyncio.timeout(_LONGEST_S):
        await complete.wait()


async def _subscribed(link: Link, characteristic: str) -> Heard:
    heard = Heard()
    await link.subscribe(characteristic, heard)
    return heard


async def _unlock(link: Link, results: Heard, states: Heard, times: Times) -> None:
    with times.step("refused command"):
        await link.write(gatt.GRANT, bytes(154))
        assert await results.next() == REFUSED
    with times.step("challenge"):
        await link.write(gatt.HELLO, HELLO_REQUEST)
        envelope, hello = codec_ble.open_hello(await link.read(gatt.HELLO))
    assert verify(LOCK_KEYS[1].public_key, envelope.signed, envelope.signature)
    claims = Grant(
        kind=GrantKind.ENTRY, holder=bytes(8), lock_id=hello.lock_id, cti=bytes(range(16)), challenge=hello.challenge, life_s=60
    )
    message = ISSUER.sign(cose.GRANT_AAD, grant.encode_payload(claims))
    with times.step("unlock and indication"):
        await link.write(gatt.GRANT, message)
        while (code := await _code(results)) is ResultCode.PRESS_WANTED:
            pass
    assert code is ResultCode.OPENED
    assert codec_ble.decode_state(await states.next()).log_seq > 0


async def _code(results: Heard) -> ResultCode:
    envelope, result = codec_ble.open_result(await results.next())
    assert verify(LOCK_KEYS[1].public_key, envelope.signed, envelope.signature)
    return result.code


async def _download(radio: Radio) -> None:
    link = await radio.connect(LOCK)
    try:
        data, answers = await _subscribed(link, gatt.LOG_DATA), await _subscribed(link, gatt.LOG_CONTROL)
        await link.write(gatt.LOG_CONTROL, codec_ble.encode_log_request(LogRequest(LogOp.REPORT, 1)))
        assert codec_ble.decode_log_answer(await answers.next()) == LogDone(LogOp.REPORT, supported=True)
        log = b""
        while not data.empty():
            log += await data.next()
        events = [codec_ble.decode_record(record).event for record in codec_ble.split_log(log)]
        assert events[0] is LogEvent.BOOT
        assert LogEvent.RETRACTED in events
    finally:
        await link.disconnect()
