"""What a bad link does to a device's messages, fault by fault, and what may never come of it."""

import asyncio
from collections.abc import Callable

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakDeviceNotFoundError, BleakError

from firmware_sim.faults import (
    BitFlip,
    Delay,
    Drop,
    Duplicate,
    LinkFault,
    LostIndication,
    LostNotification,
    Relay,
    Reorder,
    Replay,
    SlowResponse,
    Truncate,
    carried,
)
from manway import codec_ble, gatt
from manway.codec_gas import decode_reading
from manway.entities import Bolt, RefusalReason, ResultCode
from manway.ids import GrantKind
from tests.kit.air import GAS_AT, LOCK_AT, Heard, LockOnAir, a_lock, an_air, connected, instrument, play


def now() -> float:
    return asyncio.get_running_loop().time()


def results(heard: Heard) -> list[ResultCode | bytes]:
    return [value if len(value) == 1 else codec_ble.open_result(value)[1].code for value in heard.values[gatt.RESULT]]


async def prepared(lock: LockOnAir, kind: GrantKind) -> tuple[BleakClient, Heard, bytes]:
    """A client that has asked for a hello, and the order that answers it."""
    client = await lock.connect()
    heard = await Heard(client).subscribe(gatt.RESULT)
    return client, heard, lock.bench.order(kind, challenge=(await lock.hello(client)).challenge)


async def three_frames(fault: LinkFault) -> list[int]:
    """The numbers of what a client is told in some seconds in which the instrument makes frames."""
    async with an_air() as air:
        peripheral = await air.add(instrument(), GAS_AT)
        client = await connected(air.backend(), GAS_AT)
        heard = await Heard(client).subscribe(gatt.READING)
        await heard.wait(gatt.READING)
        last = decode_reading(heard.values[gatt.READING][-1]).seq
        heard.values[gatt.READING].clear()
        peripheral.faults = [fault]
        await asyncio.sleep(4.1)
        return [decode_reading(frame).seq - last for frame in heard.values[gatt.READING]]


def test_a_dropped_write_is_never_answered_and_does_nothing() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, order = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [Drop("grant")]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5.0):
                    await client.write_gatt_char(gatt.GRANT, order, response=True)
            assert (heard.values[gatt.RESULT], lock.bench.state.bolt) == ([], Bolt.LOCKED)
            await client.disconnect()
            lock.peripheral.faults = []
            assert await lock.hello(await lock.connect()) is not None

    play(scenario())


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (LinkFault(), [1, 2, 3, 4]),
        (Drop("frame"), []),
        (Drop("state"), [1, 2, 3, 4]),
        (LostNotification("frame"), []),
        (Duplicate("frame"), [1, 1, 2, 2, 3, 3, 4, 4]),
        (Reorder("frame"), [2, 1, 4, 3]),
        (Replay(), [1, 2, 3, 4]),
    ],
    ids=lambda of: type(of).__name__,
)
def test_what_arrives_of_an_instruments_frames(fault: LinkFault, told: list[int]) -> None:
    assert play(three_frames(fault)) == told


def test_a_lost_indication_can_still_be_read() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, order = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [LostIndication("result")]
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            await asyncio.sleep(1.0)
            assert heard.values[gatt.RESULT] == []
            value = bytes(await client.read_gatt_char(gatt.RESULT))
            assert codec_ble.open_result(value)[1].code is ResultCode.OPENED

    play(scenario())


def test_a_grant_that_arrives_twice_opens_once() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, order = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [Duplicate("grant")]
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            await heard.wait(gatt.RESULT, 2)
            assert results(heard) == [ResultCode.OPENED, ResultCode.OPENED]  # the second is the stored answer
            assert heard.values[gatt.RESULT][0] == heard.values[gatt.RESULT][1]

    play(scenario())


@pytest.mark.parametrize("fault", [Delay(2.0, "result"), Relay(0.5, "result")], ids=["delay", "relay"])
def test_what_is_late_arrives_late(fault: Delay) -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, order = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [fault]
            written = now()
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            assert now() - written < 0.1
            await heard.wait(gatt.RESULT)
            assert now() - written == pytest.approx(fault.seconds, abs=0.1)

    play(scenario())


def test_a_relay_takes_half_a_second_at_most() -> None:
    with pytest.raises(ValueError, match=r"0 to 0\.5 s"):
        Relay(0.6)


def test_a_grant_delayed_past_its_life_opens_nothing() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, order = await prepared(lock, GrantKind.EMERGENCY)
            await asyncio.sleep(25.0)
            await lock.hello(client)  # a challenge more keeps the link, and burns the first
            lock.peripheral.faults = [Delay(20.0, "grant")]
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            await heard.wait(gatt.RESULT)
            assert results(heard) == [codec_ble.REFUSED]
            assert lock.bench.state.bolt is Bolt.LOCKED

    play(scenario())


def test_a_slow_response_delays_the_answer_to_a_write() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, _, order = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [SlowResponse(4.0)]
            written = now()
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            assert now() - written == pytest.approx(4.0, abs=0.1)
            states = await Heard(client).subscribe(gatt.STATE)
            told = now()
            lock.peripheral.act(lock.bench.lock.open_door)
            await states.wait(gatt.STATE)
            assert now() - told < 0.1

    play(scenario())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (BitFlip(8 * 150, "grant"), RefusalReason.SIGNATURE),
        (BitFlip(0, "grant"), RefusalReason.SHAPE),
        (Truncate(151, "grant"), RefusalReason.SHAPE),
    ],
)
def test_a_grant_that_was_harmed_is_refused(fault: LinkFault, reason: RefusalReason) -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, order = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [fault]
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            await heard.wait(gatt.RESULT)
            assert (results(heard), lock.bench.refusals) == ([codec_ble.REFUSED], [reason])

    play(scenario())


def test_a_replayed_grant_opens_nothing_and_the_true_one_does() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, heard, first = await prepared(lock, GrantKind.EMERGENCY)
            lock.peripheral.faults = [Replay()]
            await client.write_gatt_char(gatt.GRANT, first, response=True)
            await heard.wait(gatt.RESULT)
            second = lock.bench.order(GrantKind.EMERGENCY, challenge=(await lock.hello(client)).challenge)
            await client.write_gatt_char(gatt.GRANT, second, response=True)
            await heard.wait(gatt.RESULT, 3)
            assert results(heard) == [ResultCode.OPENED, codec_ble.REFUSED, ResultCode.SESSION_CHANGED]

    play(scenario())


@pytest.mark.parametrize("reason", [0x08, 0x13])
def test_a_cut_ends_the_connection_and_the_challenge_with_it(reason: int) -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client, _, order = await prepared(lock, GrantKind.EMERGENCY)
            reasons: list[int] = []
            client._backend._connection.on("disconnection", reasons.append)  # type: ignore[attr-defined]
            await lock.peripheral.cut(reason)
            await asyncio.sleep(0.1)
            assert (client.is_connected, reasons) == (False, [reason])
            again = await lock.connect()
            heard = await Heard(again).subscribe(gatt.RESULT)
            await again.write_gatt_char(gatt.GRANT, order, response=True)
            assert await heard.wait(gatt.RESULT) == [codec_ble.REFUSED]

    play(scenario())


def test_a_device_out_of_range_is_missed_after_the_supervision_time_and_found_when_it_comes_back() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            ended: list[float] = []
            client = await lock.connect(disconnected_callback=lambda _client: ended.append(now()))
            gone_at = now()
            async with asyncio.TaskGroup() as group:
                group.create_task(lock.peripheral.vanish(supervision_s=8.0))
                with pytest.raises(BleakError, match="Not connected"):
                    await client.read_gatt_char(gatt.STATE)
            assert ended == [pytest.approx(gone_at + 8.0, abs=0.1)]
            assert await BleakScanner.find_device_by_address(LOCK_AT, timeout=2.0, backend=lock.backend.scanner) is None
            lock.peripheral.appear()
            assert len(await (await lock.connect()).read_gatt_char(gatt.STATE)) == 20

    play(scenario())


def test_hung_firmware_says_nothing_until_it_lives_again() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            heard = await Heard(client).subscribe(gatt.STATE)
            await lock.peripheral.mute(True)
            lock.peripheral.act(lock.bench.lock.open_door)
            assert await BleakScanner.find_device_by_address(LOCK_AT, timeout=2.0, backend=lock.backend.scanner) is None
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5.0):
                    await client.read_gatt_char(gatt.STATE)
            assert heard.values[gatt.STATE] == []
            assert client.is_connected
            await client.disconnect()
            await lock.peripheral.mute(False)
            assert len(await (await lock.connect()).read_gatt_char(gatt.STATE)) == 20

    play(scenario())


def test_a_scan_that_died_hears_nothing_until_it_is_started_again() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            heard, scanner = counting(lock)
            await scanner.start()
            await asyncio.sleep(0.5)
            lock.air.scan_dead()
            before = heard()
            await asyncio.sleep(5.0)
            assert heard() == before > 0
            await scanner.stop()
            await scanner.start()
            await asyncio.sleep(0.5)
            assert heard() > before

    play(scenario())


def counting(lock: LockOnAir) -> tuple[Callable[[], int], BleakScanner]:
    """A scanner, and how many advertisements it has heard."""
    seen: list[str] = []

    def hear(device: BLEDevice, _data: AdvertisementData) -> None:
        seen.append(device.address)

    return lambda: len(seen), BleakScanner(hear, backend=lock.backend.scanner)


def test_a_deaf_radio_loses_its_links_and_hears_again_only_after_a_power_cycle() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            heard, scanner = counting(lock)
            lock.air.radio_mute()
            await asyncio.sleep(0.1)
            assert not client.is_connected
            await scanner.start()
            with pytest.raises((TimeoutError, BleakDeviceNotFoundError)):
                await client.connect(timeout=3.0)  # as bleak-retry-connector calls it
            assert heard() == 0
            await lock.backend.power_cycle()
            await scanner.start()
            await client.connect()
            assert heard() > 0

    play(scenario())


def test_two_radios_see_the_same_devices_and_do_not_disturb_each_other() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            mine = await lock.connect()
            theirs = await connected(lock.another_radio(), LOCK_AT)
            for _ in range(5):
                hello = await lock.hello(mine)
                assert (await lock.hello(theirs)).challenge != hello.challenge
                assert codec_ble.open_hello(bytes(await mine.read_gatt_char(gatt.HELLO)))[1].challenge == hello.challenge

    play(scenario())


def test_faults_add_up() -> None:
    faults = [Duplicate(), Delay(0.25), Truncate(1), LostIndication("log")]
    assert carried(faults, "log", b"ab", to_device=False) == []
    assert carried(faults, "state", b"ab", to_device=False) == [(0.25, b"a"), (0.25, b"a")]
    assert carried([BitFlip(9)], "state", b"", to_device=True) == [(0.0, b"")]
    assert carried([BitFlip(9)], "state", b"\0\0", to_device=True) == [(0.0, b"\0\x02")]
    assert carried([Reorder(), SlowResponse(1.0)], "hello", b"\x01", to_device=True) == [(1.0, b"\x01")]
