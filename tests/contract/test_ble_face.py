"""The Bluetooth face of the virtual devices, seen through bleak: the tables of `locks.md` §4 and what must not happen there."""

import asyncio
from itertools import pairwise

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakError, BleakGATTProtocolError, BleakGATTProtocolErrorCode
from bumble.att import ATT_Read_Blob_Request

from firmware_sim.face import GAS_ROWS, LOCK_ROWS, packets
from firmware_sim.lock_memory import Publish
from firmware_sim.profiled import ProfiledInstrument
from firmware_sim.world import Air
from manway import codec_ble, gatt
from manway.codec_adv import advertisement_key, advertising_data, decode_advertisement
from manway.codec_ble import LogOp, LogRequest
from manway.codec_gas import decode_instrument, decode_reading, decode_setpoints
from manway.entities import Bolt, ResultCode
from manway.ids import GrantKind
from manway.profile_rows import BROADCAST
from manway.runtime.profiles import load_profiles
from tests.kit.air import DEVICE_ID, DEVICE_KEY, GAS_AT, Heard, a_lock, an_air, connected, instrument, play
from tests.kit.locks import ADVERTISEMENT_KEY, LockBench

PROFILES = load_profiles()
ERRORS = BleakGATTProtocolErrorCode
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
SERIAL = "00002a25-0000-1000-8000-00805f9b34fb"
NAME = "00002a00-0000-1000-8000-00805f9b34fb"


def table(client: BleakClient, service: str) -> dict[str, set[str]]:
    found = client.services.get_service(service)
    assert found is not None
    return {c.uuid: set(c.properties) for c in found.characteristics}


def test_a_lock_has_the_services_of_the_table_and_nothing_else_can_be_written() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            assert table(client, gatt.LOCK_SERVICE) == {row.uuid: set(row.can) for row in LOCK_ROWS}
            assert bytes(await client.read_gatt_char(SERIAL)).decode() == lock.bench.lock.lock_id.hex()
            assert await client.read_gatt_char(BATTERY) == b"\x64"
            ours = {row.uuid for row in LOCK_ROWS if "write" in row.can}
            for characteristic in client.services.characteristics.values():
                if characteristic.uuid not in ours:
                    before = await read_or_refusal(client, characteristic.uuid)
                    with pytest.raises(BleakGATTProtocolError) as refused:
                        await client.write_gatt_char(characteristic, b"x", response=True)
                    assert refused.value.code == ERRORS.WRITE_NOT_PERMITTED
                    await client.write_gatt_char(characteristic, b"x", response=False)
                    assert await read_or_refusal(client, characteristic.uuid) == before

    play(scenario())


async def read_or_refusal(client: BleakClient, uuid: str) -> bytes | int:
    try:
        value = bytes(await client.read_gatt_char(uuid))
    except BleakGATTProtocolError as error:
        return error.code
    return value[:16] if uuid == gatt.STATE else value  # the tick goes on


def test_a_command_without_a_response_does_nothing() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            await client.write_gatt_char(gatt.HELLO, codec_ble.HELLO_REQUEST, response=False)
            assert await client.read_gatt_char(gatt.HELLO) == b""

    play(scenario())


def test_what_is_written_only_cannot_be_read() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            for uuid in (gatt.GRANT, gatt.LOG_CONTROL):
                assert await read_or_refusal(client, uuid) == ERRORS.READ_NOT_PERMITTED

    play(scenario())


def test_an_advertisement_is_31_bytes_and_follows_the_lock_within_a_second() -> None:
    async def scenario() -> None:
        bench = LockBench()
        bench.lock.body.advertisement_key = ADVERTISEMENT_KEY
        async with a_lock(bench) as lock:
            said: list[tuple[float, bytes, str | None]] = []

            def heard(_device: BLEDevice, data: AdvertisementData) -> None:
                said.append((asyncio.get_running_loop().time(), data.service_data[gatt.LOCK_SERVICE], data.local_name))

            async with BleakScanner(heard, backend=lock.backend.scanner):
                await asyncio.sleep(1.0)
                assert len(said) > 10
                assert {name for _, _, name in said} == {"MW-0001"}  # of the scan response
                whole = lock.peripheral.device.advertising_data
                assert len(whole) == 31
                assert whole == advertising_data(gatt.LOCK_SERVICE, said[-1][1])
                told = asyncio.get_running_loop().time()
                lock.peripheral.act(bench.lock.break_seal)
                await asyncio.sleep(1.0)
            id_and_key = bench.lock.lock_id, ADVERTISEMENT_KEY
            first = next(at for at, data, _ in said if decode_advertisement(*id_and_key, data).bolt is Bolt.RETRACTED)  # type: ignore[union-attr]
            assert first - told < 0.5

    play(scenario())


def test_a_long_read_at_the_least_mtu_gives_the_same_bytes_though_the_value_changes_meanwhile() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            await lock.hello(client)
            wide = await client.read_gatt_char(gatt.HELLO)
            await client.disconnect()
            assert lock.peripheral.mtu == 247
            lock.peripheral.mtu = 23
            client = await lock.connect()
            assert client.mtu_size == 23
            await lock.hello(client)
            narrow = await client.read_gatt_char(gatt.HELLO)
            assert len(narrow) == len(wide) == 174
            codec_ble.open_hello(bytes(narrow))

    play(scenario())


def test_a_reading_read_in_pieces_is_of_one_instant() -> None:
    async def scenario() -> None:
        async with an_air() as air:
            model = instrument()
            peripheral = await air.add(model, GAS_AT)
            peripheral.mtu = 23
            client = await connected(air.backend(), GAS_AT)
            await asyncio.sleep(1.5)
            handle = client.services.get_characteristic(gatt.READING)
            assert handle is not None
            first = await client._backend._connection.gatt_client.read_value(handle.handle, no_long_read=True)  # type: ignore[attr-defined]
            peripheral.act(lambda now: [Publish("frame", model.reading(now + 1) or b"")])
            rest = await client._backend._ask(blob(client, handle.handle, len(first)))  # type: ignore[attr-defined]
            assert decode_reading(first + rest).seq == 1
            assert decode_reading(bytes(await client.read_gatt_char(gatt.READING))).seq == 2

    play(scenario())


async def blob(client: BleakClient, handle: int, offset: int) -> bytes:
    bumble = client._backend._connection.gatt_client  # type: ignore[attr-defined]
    answer = await bumble.send_request(ATT_Read_Blob_Request(attribute_handle=handle, value_offset=offset))
    return bytes(answer.part_attribute_value)


@pytest.mark.parametrize("mtu", [23, 247])
def test_an_unlock_over_the_air(mtu: int) -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            lock.peripheral.mtu = mtu
            client = await lock.connect()
            heard = await Heard(client).subscribe(gatt.RESULT, gatt.STATE)
            hello = await lock.hello(client)
            order = lock.bench.order(GrantKind.ENTRY, challenge=hello.challenge)
            await client.write_gatt_char(gatt.GRANT, order, response=True)
            (wanted,) = await heard.wait(gatt.RESULT)
            assert len(wanted) == (20 if mtu == 23 else 159)  # too long for one packet, it only rings
            assert await result(client) is ResultCode.PRESS_WANTED
            lock.peripheral.act(lock.bench.lock.press)
            await heard.wait(gatt.RESULT, 2)
            assert await result(client) is ResultCode.OPENED
            states = await heard.wait(gatt.STATE)
            assert codec_ble.decode_state(states[-1]).bolt is Bolt.RETRACTED

    play(scenario())


async def result(client: BleakClient) -> ResultCode:
    return codec_ble.open_result(bytes(await client.read_gatt_char(gatt.RESULT)))[1].code


def test_a_message_longer_than_any_is_refused_by_its_length() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            for mtu in (247, 23):
                lock.peripheral.mtu = mtu
                client = await lock.connect()
                heard = await Heard(client).subscribe(gatt.RESULT)
                with pytest.raises(BleakGATTProtocolError) as refused:
                    await client.write_gatt_char(gatt.GRANT, bytes(245), response=True)
                assert refused.value.code == ERRORS.INVALID_ATTRIBUTE_VALUE_LENGTH
                await client.write_gatt_char(gatt.GRANT, bytes(244), response=True)
                assert await heard.wait(gatt.RESULT) == [codec_ble.REFUSED]
                await client.disconnect()

    play(scenario())


def test_a_grant_written_on_a_second_connection_or_after_a_new_one_is_refused() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            mine = await lock.connect()
            theirs = await connected(lock.another_radio(), lock.peripheral.address)
            order = lock.bench.order(GrantKind.ENTRY, challenge=(await lock.hello(mine)).challenge)
            assert await answer_to(theirs, order) == codec_ble.REFUSED
            await mine.disconnect()
            mine = await lock.connect()
            assert await answer_to(mine, order) == codec_ble.REFUSED
            assert lock.bench.state.bolt is Bolt.LOCKED

    play(scenario())


async def answer_to(client: BleakClient, order: bytes) -> bytes:
    heard = await Heard(client).subscribe(gatt.RESULT)
    await client.write_gatt_char(gatt.GRANT, order, response=True)
    return (await heard.wait(gatt.RESULT))[0]


def test_a_result_is_told_to_the_link_that_asked_and_the_state_to_both() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            mine = await lock.connect()
            theirs = await connected(lock.another_radio(), lock.peripheral.address)
            told = [await Heard(client).subscribe(gatt.RESULT, gatt.STATE) for client in (mine, theirs)]
            challenge = (await lock.hello(mine)).challenge
            await mine.write_gatt_char(gatt.GRANT, lock.bench.order(GrantKind.EMERGENCY, challenge=challenge), response=True)
            for heard in told:
                assert codec_ble.decode_state((await heard.wait(gatt.STATE))[-1]).bolt is Bolt.RETRACTED
            assert [len(heard.values[gatt.RESULT]) for heard in told] == [1, 0]

    play(scenario())


def test_a_third_connection_finds_nobody_until_one_has_gone() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            first = await lock.connect()
            await connected(lock.another_radio(), lock.peripheral.address)
            third = lock.another_radio()
            seen = await BleakScanner.find_device_by_address(lock.peripheral.address, timeout=1.0, backend=third.scanner)
            assert seen is None
            await first.disconnect()
            assert (await connected(third, lock.peripheral.address)).is_connected

    play(scenario())


def test_a_link_that_says_nothing_valid_for_30_s_is_dropped() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            gone = asyncio.Event()
            client = await lock.connect(disconnected_callback=lambda _client: gone.set())
            await lock.hello(client)
            await asyncio.sleep(29.0)
            assert client.is_connected
            await client.write_gatt_char(gatt.GRANT, b"nonsense", response=True)
            await asyncio.wait_for(gone.wait(), 2.0)
            again = await lock.connect()
            assert await lock.hello(again) is not None

    play(scenario())


@pytest.mark.parametrize("mtu", [23, 100, 247])
def test_the_log_arrives_whole_and_in_order(mtu: int) -> None:
    async def scenario() -> None:
        bench = LockBench()
        for _ in range(60):
            bench.lock.open_door(0.0)
            bench.lock.close_door(0.0)
        async with a_lock(bench) as lock:
            lock.peripheral.mtu = mtu
            client = await lock.connect()
            await client.pair()
            heard = await Heard(client).subscribe(gatt.LOG_DATA, gatt.LOG_CONTROL)
            assert await lock.pull_log(client, heard) == bench.flash
            told = {len(packet) for packet in heard.values[gatt.LOG_DATA]}
            assert max(told) == {23: 20, 100: 80, 247: 240}[mtu]

    play(scenario())


def test_a_log_pull_can_be_aborted() -> None:
    async def scenario() -> None:
        bench = LockBench()
        for _ in range(400):
            bench.lock.open_door(0.0)
            bench.lock.close_door(0.0)
        async with a_lock(bench) as lock:
            lock.peripheral.mtu = 23
            client = await lock.connect()
            await client.pair()
            heard = await Heard(client).subscribe(gatt.LOG_DATA, gatt.LOG_CONTROL, gatt.STATE)
            report, abort = (codec_ble.encode_log_request(LogRequest(op, 1)) for op in (LogOp.REPORT, LogOp.ABORT))
            await client.write_gatt_char(gatt.LOG_CONTROL, report, response=True)
            lock.peripheral.act(bench.lock.break_seal)
            await client.write_gatt_char(gatt.LOG_CONTROL, abort, response=True)
            await heard.wait(gatt.STATE)  # what is no part of the report is still told
            (end,) = await heard.wait(gatt.LOG_CONTROL)
            assert codec_ble.decode_log_answer(end) == codec_ble.LogDone(LogOp.ABORT, supported=True)
            sent = len(heard.values[gatt.LOG_DATA])
            assert sent < 2 * len(bench.flash)
            await asyncio.sleep(1.0)
            assert len(heard.values[gatt.LOG_DATA]) == sent

    play(scenario())


def test_what_is_encrypted_refuses_before_pairing_and_works_after_and_again_with_the_bond() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            assert await read_or_refusal(client, gatt.ENROL) == ERRORS.INSUFFICIENT_ENCRYPTION
            for uuid in (gatt.ENROL, gatt.FIRMWARE):
                with pytest.raises(BleakGATTProtocolError) as refused:
                    await client.write_gatt_char(uuid, bytes(157), response=True)
                assert refused.value.code == ERRORS.INSUFFICIENT_ENCRYPTION
            with pytest.raises(BleakGATTProtocolError) as refused:
                await client.start_notify(gatt.LOG_DATA, lambda _c, _d: None)
            assert refused.value.code == ERRORS.INSUFFICIENT_ENCRYPTION
            await client.pair()
            assert await client.read_gatt_char(gatt.ENROL) == lock.bench.lock.enrol_info()
            await client.disconnect()
            client = await lock.connect()
            assert await client.read_gatt_char(gatt.ENROL) == lock.bench.lock.enrol_info()
            await client.unpair()
            client = await lock.connect()
            assert await read_or_refusal(client, gatt.ENROL) == ERRORS.INSUFFICIENT_ENCRYPTION

    play(scenario())


@pytest.mark.parametrize("passkey", [None, 654321])
def test_pairing_needs_the_passkey_printed_inside(passkey: int | None) -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            lock.backend.passkeys.clear()
            if passkey is not None:
                lock.backend.passkeys[lock.peripheral.address] = passkey
            client = await lock.connect()
            with pytest.raises(BleakError):
                await client.pair()
            assert await read_or_refusal(client, gatt.ENROL) == ERRORS.INSUFFICIENT_ENCRYPTION

    play(scenario())


def test_an_enrolment_over_the_air_is_answered_by_a_result() -> None:
    async def scenario() -> None:
        async with a_lock(LockBench(factory=True)) as lock:
            client = await lock.connect()
            await client.pair()
            heard = await Heard(client).subscribe(gatt.RESULT)
            await client.write_gatt_char(gatt.ENROL, bytes(157), response=True)
            assert await heard.wait(gatt.RESULT) == [codec_ble.REFUSED]

    play(scenario())


@pytest.mark.parametrize("mtu", [34, 247])
def test_an_instrument_tells_a_whole_reading_a_second_and_shows_itself(mtu: int) -> None:
    async def scenario() -> None:
        async with an_air() as air:
            model = instrument()
            peripheral = await air.add(model, GAS_AT)
            peripheral.mtu = mtu
            client = await connected(air.backend(), GAS_AT)
            assert table(client, gatt.GAS_SERVICE) == {row.uuid: set(row.can) for row in GAS_ROWS}
            heard = await Heard(client).subscribe(gatt.READING, gatt.INSTRUMENT)
            await asyncio.sleep(120.0)
            frames = [decode_reading(frame) for frame in heard.values[gatt.READING]]
            assert 108 <= len(frames) <= 132  # 1 Hz ± 10 %
            assert all(after.seq == before.seq + 1 for before, after in pairwise(frames))
            assert decode_instrument(bytes(await client.read_gatt_char(gatt.INSTRUMENT))).device_id == DEVICE_ID
            assert decode_setpoints(bytes(await client.read_gatt_char(gatt.SETPOINTS)))
            model.battery_percent = 40.0
            (told,) = await heard.wait(gatt.INSTRUMENT)
            whole = bytes(await client.read_gatt_char(gatt.INSTRUMENT))
            assert decode_instrument(whole).battery_percent == 40
            assert whole.startswith(told)  # at a small MTU it only rings
            assert await client.read_gatt_char(BATTERY) == bytes([40])

    play(scenario())


def test_an_instrument_advertises_its_level_under_its_own_key_and_goes_silent_when_it_does() -> None:
    async def scenario() -> None:
        async with an_air() as air:
            model = instrument(signs=True)
            await air.add(model, GAS_AT)
            backend = air.backend()
            said: list[bytes] = []
            async with BleakScanner(lambda _d, a: said.append(a.service_data[gatt.GAS_SERVICE]), backend=backend.scanner):
                await asyncio.sleep(3.0)
            seqs = [decode_advertisement(DEVICE_ID, advertisement_key(DEVICE_KEY), data).seq for data in said]  # type: ignore[union-attr]
            assert model.sent[1] - 1 <= max(seqs) <= model.sent[1]
            assert len(set(seqs)) >= 3
            client = await connected(backend, GAS_AT)
            heard = await Heard(client).subscribe(gatt.READING)
            assert len((await heard.wait(gatt.READING))[0]) == 39
            model.silent = True
            count = len(heard.values[gatt.READING])
            await asyncio.sleep(3.0)
            assert len(heard.values[gatt.READING]) == count

    play(scenario())


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_another_makers_instrument_is_on_the_air_as_its_profile_says(profile: str) -> None:
    async def scenario() -> None:
        async with an_air() as air:
            model = ProfiledInstrument(PROFILES[profile], Air())
            peripheral = await air.add(model, GAS_AT)
            assert len(peripheral.device.advertising_data) <= 31
            backend = air.backend()
            said: list[AdvertisementData] = []
            async with BleakScanner(lambda _device, data: said.append(data), backend=backend.scanner):
                await asyncio.sleep(3.0)
            broadcasts = {bytes(data) for one in said for data in [*one.service_data.values(), *one.manufacturer_data.values()]}
            assert len(broadcasts) >= 3 or not any(s.row.via in BROADCAST for s in model.profile.sources.values())
            client = await connected(backend, GAS_AT)
            if BATTERY not in model.characteristics:
                assert await client.read_gatt_char(BATTERY) == b"\x64"
            for uuid, via in model.characteristics.items():
                assert await client.read_gatt_char(uuid) != b""
                if via != "read":
                    heard = await Heard(client).subscribe(uuid)
                    first, second = (await heard.wait(uuid, 2))[:2]
                    assert len(first) == len(second) > 0
                with pytest.raises(BleakGATTProtocolError):
                    await client.write_gatt_char(uuid, b"x", response=True)

    play(scenario())


def test_a_log_is_cut_into_whole_records_or_halves() -> None:
    log = Publish("log", bytes(range(80)))
    assert packets(log, 23) == [log.payload[at : at + 20] for at in (0, 20, 40, 60)]
    assert packets(log, 43) == [log.payload[:40], log.payload[40:]]
    assert packets(log, 247) == [log.payload]
    assert packets(Publish("result", bytes(159)), 161) == [bytes(158)]
    assert packets(Publish("result", bytes(159)), 162) == [bytes(159)]


def test_its_name_is_the_end_of_its_address() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            assert await client.read_gatt_char(NAME) == b"MW-0001"

    play(scenario())
