"""bleak over bumble behaves as bleak does on BlueZ: calls, callbacks, exceptions, and nothing left behind."""

import asyncio
import socket
import struct
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from bleak import BleakClient, BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakDeviceNotFoundError, BleakError
from bleak_retry_connector import BleakClientWithServiceCache, establish_connection
from bumble.controller import Controller
from bumble.device import Advertisement
from bumble.hci import Address
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink

from firmware_sim.adapter import RadioUnusable
from firmware_sim.ble import Peripheral
from firmware_sim.bleak_backend import over
from firmware_sim.bleak_words import said_by
from firmware_sim.faces import face_of
from firmware_sim.faults import SlowResponse
from firmware_sim.radio import Dongle, VirtualAir, radio_of
from manway import codec_ble, gatt
from manway.entities import Door
from manway.runtime.clock import SystemClock
from tests.kit.air import GAS_AT, LOCK_AT, START, Heard, LockOnAir, a_lock, an_air, connected, instrument, play
from tests.kit.clock import FakeClock
from tests.kit.docs_tables import ROOT
from tests.kit.locks import LockBench

AWAY = "F0:00:00:00:00:99"
ON_LOOPBACK = pytest.mark.allow_hosts(["127.0.0.1", "::1"])
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"


def test_twenty_devices_advertise_at_once_and_all_are_seen() -> None:
    async def scenario() -> None:
        async with an_air() as air:
            addresses = {f"F0:00:00:00:01:{number:02X}" for number in range(20)}
            for number, address in enumerate(sorted(addresses)):
                await air.add(instrument(number), address)
            seen: dict[str, int] = {}

            def heard(device: BLEDevice, _data: AdvertisementData) -> None:
                seen[device.address] = seen.get(device.address, 0) + 1

            async with BleakScanner(heard, backend=air.backend().scanner):
                await asyncio.sleep(1.0)
            assert set(seen) == addresses
            assert min(seen.values()) > 10

    play(scenario())


def test_a_scanner_says_what_was_advertised_and_how_strongly() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            lock.peripheral.rssi = -83
            found = await BleakScanner.discover(1.0, return_adv=True, backend=lock.backend.scanner)
            device, said = found[LOCK_AT]
            assert (device.name, said.local_name) == ("MW-0001", "MW-0001")
            assert (said.rssi, lock.peripheral.rssi) == (-83, -83)
            assert list(said.service_data) == [gatt.LOCK_SERVICE]
            assert (said.manufacturer_data, said.service_uuids, said.tx_power) == ({}, [], None)

    play(scenario())


def test_two_scanners_share_the_radio_and_each_stops_for_itself() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            counts = [0, 0]

            def count(at: int) -> BleakScanner:
                def heard(_device: BLEDevice, _data: AdvertisementData) -> None:
                    counts[at] += 1

                return BleakScanner(heard, backend=lock.backend.scanner)

            first, second = count(0), count(1)
            await first.start()
            await second.start()
            await asyncio.sleep(0.5)
            await first.stop()
            kept = counts[0]
            await asyncio.sleep(0.5)
            await second.stop()
            assert counts[0] == kept > 0
            assert counts[1] > kept
            after = counts[1]
            await second.stop()  # one that has stopped is no error
            await asyncio.sleep(0.5)
            assert counts[1] == after

    play(scenario())


def test_a_filter_by_advertised_services_hides_devices_that_advertise_service_data_only() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            seen: list[str] = []
            scanner = BleakScanner(
                lambda device, _data: seen.append(device.address), [gatt.LOCK_SERVICE], backend=lock.backend.scanner
            )
            async with scanner:
                await asyncio.sleep(0.5)
            assert seen == []
            assert [device.address for device in scanner.discovered_devices] == [LOCK_AT]

    play(scenario())


def test_every_kind_of_field_is_read() -> None:
    wire = b"".join(
        bytes([len(data) + 1, kind]) + data
        for kind, data in (
            (0x09, b"Acme"),
            (0xFF, b"\x77\x0b\x01\x02"),
            (0x0A, b"\xfc"),
            (0x03, b"\x0f\x18\x1a\x18"),
            (0x05, b"\x78\x56\x34\x12"),
            (0x07, gatt.service_bytes(gatt.GAS_SERVICE)),
            (0x16, b"\xd2\xfc\x40\x00"),
            (0x20, b"\x78\x56\x34\x12\x07"),
        )
    )
    said = said_by(Advertisement(Address(LOCK_AT), rssi=-70, data_bytes=wire))
    base = "-0000-1000-8000-00805f9b34fb"
    assert said.local_name == "Acme"
    assert said.manufacturer_data == {0x0B77: b"\x01\x02"}
    assert said.tx_power == -4
    assert said.service_uuids == [f"0000180f{base}", f"0000181a{base}", f"12345678{base}", gatt.GAS_SERVICE]
    assert said.service_data == {f"0000fcd2{base}": b"\x40\x00", f"12345678{base}": b"\x07"}


def test_a_client_connects_by_device_or_by_address_and_says_so() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            gone: list[BleakClient] = []
            client = BleakClient(LOCK_AT, gone.append, backend=lock.backend.client)
            assert (client.is_connected, client.mtu_size) == (False, 23)
            with pytest.raises(BleakError):
                _ = client.services
            await client.connect()
            assert (client.is_connected, client.mtu_size, client.address) == (True, 247, LOCK_AT)
            assert client.name == "F0-00-00-00-00-01"
            written = client.services.get_characteristic(gatt.GRANT)
            assert written is not None
            assert written.max_write_without_response_size == 244
            with pytest.raises(BleakError, match="already"):
                await client.connect()
            await client.disconnect()
            await client.disconnect()  # once is enough, twice no error
            assert gone == [client]
            assert not client.is_connected

    play(scenario())


def test_only_the_services_asked_for_are_shown() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect(services=[gatt.LOCK_SERVICE])
            assert [service.uuid for service in client.services] == [gatt.LOCK_SERVICE]

    play(scenario())


def test_a_call_without_a_connection_is_an_error() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            state = client.services.get_characteristic(gatt.STATE)
            assert state is not None
            (cccd,) = state.descriptors
            await client.disconnect()
            backend = client._backend
            for call in (
                lambda: backend.read_gatt_char(state),
                lambda: backend.write_gatt_char(state, b"", True),
                lambda: backend.start_notify(state, lambda _data: None),
                lambda: backend.stop_notify(state),
                lambda: backend.read_gatt_descriptor(cccd),
                lambda: backend.write_gatt_descriptor(cccd, b"\0\0"),
                client.pair,
            ):
                with pytest.raises(BleakError, match="Not connected"):
                    await call()

    play(scenario())


def test_a_call_that_the_end_of_the_connection_interrupts_is_an_error_not_a_cancellation() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            await lock.peripheral.mute(True)
            async with asyncio.TaskGroup() as group:
                group.create_task(later(1.0, lock.peripheral.cut()))
                with pytest.raises(BleakError, match="Not connected"):
                    await client.read_gatt_char(gatt.STATE)
            assert not client.is_connected

    play(scenario())


async def later(seconds: float, act: object) -> None:
    await asyncio.sleep(seconds)
    await act  # type: ignore[misc]


def test_a_call_given_up_leaves_questions_and_answers_in_step() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            lock.peripheral.faults = [SlowResponse(3.0, "hello")]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.write_gatt_char(gatt.HELLO, codec_ble.HELLO_REQUEST, response=True)
            assert len(await client.read_gatt_char(gatt.HELLO)) == 174  # the read waited for the write's late answer
            assert len(await client.read_gatt_char(gatt.STATE)) == 20

    play(scenario())


def test_a_device_that_nobody_sees_is_not_found_and_one_that_went_away_times_out() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            with pytest.raises(BleakDeviceNotFoundError):
                await BleakClient(AWAY, backend=lock.backend.client, timeout=2.0).connect()
            with pytest.raises(BleakDeviceNotFoundError):
                await BleakClient(AWAY, backend=lock.backend.client).unpair()
            client = await lock.connect()
            await client.disconnect()
            await lock.peripheral.vanish()
            with pytest.raises(TimeoutError):
                await client.connect(timeout=2.0)  # as bleak-retry-connector calls it
            lock.peripheral.appear()
            await client.connect()  # nothing of the attempt before is left
            assert len(await client.read_gatt_char(gatt.STATE)) == 20

    play(scenario())


def test_a_connection_made_while_its_caller_gave_up_is_undone() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            await client.disconnect()
            for milliseconds in range(0, 60, 2):  # through every instant of a connection
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(connect_and_stay(client), milliseconds / 1000)
                await client.disconnect()
                await asyncio.sleep(0.1)
                assert lock.peripheral.links == {}
            await client.connect()
            assert client.is_connected

    play(scenario())


async def connect_and_stay(client: BleakClient) -> None:
    await client.connect()
    await asyncio.sleep(1.0)


def test_a_connection_that_came_about_at_the_last_moment_is_ended() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            adapter = client._backend.adapter  # type: ignore[attr-defined]
            await adapter._undo(adapter.seen[LOCK_AT])
            assert not client.is_connected
            assert lock.peripheral.links == {}

    play(scenario())


def test_a_controller_with_extended_advertising_advertises_the_same_and_follows() -> None:
    async def scenario() -> None:
        clock, bench = FakeClock(epoch=START), LockBench()
        controller = Controller("dongle", link=LocalLink())  # type: ignore[no-untyped-call]  # as bumble has it
        face = face_of(bench.lock, clock.now())
        sink = AsyncPipeSink(controller)
        peripheral = Peripheral(face, LOCK_AT, controller, sink, clock, passkey=1, interval_ms=20.0)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(peripheral.run())
            await peripheral.started.wait()
            (advertised,) = controller.advertising_sets.values()
            before = bytes(advertised.data)
            assert before == face.advertisement(clock.now())
            peripheral.act(bench.lock.break_seal)
            await asyncio.sleep(1.0)
            assert bytes(advertised.data) == face.advertisement(clock.now()) != before
            running.cancel()

    play(scenario())


async def test_a_pseudo_terminal_stands_for_a_serial_controller(tmp_path: Path) -> None:
    place = tmp_path / "controller"
    async with radio_of(f"pty:{place}", SystemClock(), interval_ms=20.0) as radio:
        await radio.add(LockBench().lock, LOCK_AT)
        async with over(f"serial:{place}") as backend:
            assert (await connected(backend, LOCK_AT)).is_connected


def test_two_clients_connect_at_once_one_after_the_other() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            await lock.air.add(instrument(), GAS_AT)
            await BleakScanner.discover(0.5, backend=lock.backend.scanner)
            clients = [BleakClient(address, backend=lock.backend.client) for address in (LOCK_AT, GAS_AT)]
            await asyncio.gather(*(client.connect() for client in clients))
            assert [
                client.services.get_service(uuid) is not None
                for client, uuid in zip(clients, (gatt.LOCK_SERVICE, gatt.GAS_SERVICE), strict=True)
            ] == [True, True]
            with pytest.raises(BleakError, match="connected already"):
                await BleakClient(LOCK_AT, backend=lock.backend.client).connect()

    play(scenario())


def test_two_radios_that_call_the_same_place_in_the_same_instant_do_not_both_believe_it() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            radios = [lock.another_radio() for _ in range(3)]
            clients = [BleakClient(LOCK_AT, backend=radio.client) for radio in radios]
            outcomes = await asyncio.gather(*(client.connect() for client in clients[:2]))
            assert outcomes == [None, None]
            with pytest.raises((TimeoutError, BleakDeviceNotFoundError)):
                async with asyncio.timeout(3.0):
                    await clients[2].connect()
            await clients[0].disconnect()
            await clients[2].connect()
            assert len(lock.peripheral.links) == 2

    play(scenario())


def test_descriptors_and_cached_values() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            state = client.services.get_characteristic(gatt.STATE)
            assert state is not None
            (cccd,) = state.descriptors
            assert await client.read_gatt_descriptor(cccd) == b"\0\0"
            await client.start_notify(gatt.STATE, lambda _said, _value: None)
            assert await client.read_gatt_descriptor(cccd) == b"\x02\0"
            await client._backend.write_gatt_descriptor(cccd, b"\0\0")
            assert await client.read_gatt_descriptor(cccd) == b"\0\0"
            first = await client.read_gatt_char(gatt.STATE)
            await asyncio.sleep(1.0)
            assert await client.read_gatt_char(gatt.STATE, use_cached=True) == first
            assert await client.read_gatt_char(gatt.STATE) != first

    play(scenario())


def test_subscribing_again_after_stopping() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            heard = await Heard(client).subscribe(gatt.STATE)
            lock.peripheral.act(lock.bench.lock.open_door)
            await heard.wait(gatt.STATE)
            await client.stop_notify(gatt.STATE)
            lock.peripheral.act(lock.bench.lock.close_door)
            await asyncio.sleep(1.0)
            assert len(heard.values[gatt.STATE]) == 1
            await client.start_notify(gatt.STATE, lambda said, value: heard._keep(said.uuid, bytes(value)))
            lock.peripheral.act(lock.bench.lock.break_seal)
            await heard.wait(gatt.STATE, 2)

    play(scenario())


def test_what_does_not_fit_is_not_sent() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect()
            with pytest.raises(BleakError, match="without a response"):
                await client.write_gatt_char(gatt.GRANT, bytes(245), response=False)
            with pytest.raises(BleakError, match="512 at most"):
                await client.write_gatt_char(gatt.GRANT, bytes(513), response=True)

    play(scenario())


def test_a_bond_the_device_has_lost_fails_the_connection() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            client = await lock.connect(pair=True)
            assert len(await client.read_gatt_char(gatt.ENROL)) == 62
            await client.pair()  # already done
            await client.disconnect()
            assert lock.peripheral.device.keystore is not None
            await lock.peripheral.device.keystore.delete_all()
            with pytest.raises(BleakError):
                await client.connect()
            assert not client.is_connected
            await client.unpair()
            await client.unpair()  # nothing is bonded
            await client.connect()
            await client.pair()

    play(scenario())


def test_a_power_cycle_ends_connections_and_scans_and_leaves_the_radio_usable() -> None:
    async def scenario() -> None:
        async with a_lock() as lock:
            ended = asyncio.Event()
            client = await lock.connect(disconnected_callback=lambda _client: ended.set())
            scanner = BleakScanner(backend=lock.backend.scanner)
            await scanner.start()
            await lock.backend.power_cycle()
            assert ended.is_set()
            assert not client.is_connected
            await scanner.stop()
            assert len(await (await lock.connect()).read_gatt_char(gatt.STATE)) == 20

    play(scenario())


async def test_bleak_retry_connector_connects_over_it() -> None:
    async with VirtualAir() as air:
        lock = LockOnAir(air, LockBench(), await air.add(LockBench().lock, LOCK_AT))
        seen = await BleakScanner.find_device_by_address(LOCK_AT, timeout=5.0, backend=lock.backend.scanner)
        assert seen is not None
        client = await establish_connection(BleakClientWithServiceCache, seen, "lock", backend=lock.backend.client)
        assert len(await client.read_gatt_char(gatt.STATE)) == 20
        await client.disconnect()


def test_a_capture_is_a_btsnoop_file_of_every_packet(tmp_path: Path) -> None:
    path = tmp_path / "air.btsnoop"

    async def scenario() -> None:
        async with a_lock(capture=path) as lock:
            client = await lock.connect()
            await client.write_gatt_char(gatt.HELLO, codec_ble.HELLO_REQUEST, response=True)

    play(scenario())
    raw = path.read_bytes()
    magic, version, kind = struct.unpack_from(">8sII", raw)
    assert (magic, version, kind) == (b"btsnoop\0", 1, 1002)  # HCI with H4 packet types
    at, packets = 16, []
    while at < len(raw):
        length, kept, flags, drops = struct.unpack_from(">IIII", raw, at)
        packets.append((flags & 1, raw[at + 24 : at + 24 + kept]))
        assert (kept, drops) == (length, 0)
        at += 24 + kept
    assert at == len(raw)
    assert packets[0] == (0, bytes.fromhex("01030c00"))  # the host resets its controller
    assert {packet[0] for sent, packet in packets if not sent} == {1, 2}  # commands and data down,
    assert {packet[0] for sent, packet in packets if sent} == {2, 4}  # data and events up
    assert any(packet[-1:] == codec_ble.HELLO_REQUEST and packet[0] == 2 for _, packet in packets)


@pytest.mark.integration
@ON_LOOPBACK
async def test_a_controller_is_offered_over_tcp_to_each_host_that_comes() -> None:
    bench = LockBench()
    async with VirtualAir() as air:
        lock = await air.add(bench.lock, LOCK_AT)
        await air.offer("tcp-server:127.0.0.1:0")
        place = f"tcp-client:127.0.0.1:{air.port}"
        async with over(place) as first, over(place) as second:
            one, two = await connected(first, LOCK_AT), await connected(second, LOCK_AT)
            assert await one.read_gatt_char(BATTERY) == await two.read_gatt_char(BATTERY) == b"\x64"
            assert len(lock.links) == 2
        async with over(place) as third:
            assert (await connected(third, LOCK_AT)).is_connected
            assert len(lock.links) == 1  # a host that has gone leaves nothing behind


@pytest.mark.integration
@ON_LOOPBACK
async def test_a_port_that_is_taken_or_a_place_without_a_controller_is_said_plainly() -> None:
    async with VirtualAir() as air:
        await air.offer("tcp-server:127.0.0.1:0")
        with pytest.raises(RadioUnusable, match="a free port"):
            await air.offer(f"tcp-server:127.0.0.1:{air.port}")
    with pytest.raises(RadioUnusable, match=f"radio tcp-client:127.0.0.1:{air.port}: .*is wanted"):
        async with over(f"tcp-client:127.0.0.1:{air.port}"):
            pass


async def test_a_transport_nobody_knows_is_said_plainly() -> None:
    with pytest.raises(RadioUnusable, match="unknown transport scheme; one of tcp-client:HOST:PORT, usb:N"):
        async with over("carrier-pigeon:7"):
            pass


def test_the_entry_point_of_the_backend_leads_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    place = project["entry-points"]["manway.radio_backends"]["bumble"]
    assert EntryPoint("bumble", place, "manway.radio_backends").load() is over


def test_an_address_that_is_taken_or_no_static_one_is_refused() -> None:
    async def scenario() -> None:
        async with an_air() as air:
            await air.add(instrument(), GAS_AT)
            with pytest.raises(ValueError, match="F0:00:00:00:00:02 is taken"):
                await air.add(instrument(), GAS_AT)
            for address in ("10:00:00:00:00:01", "F0:00:00:00:00", "F0:00:00:00:00:001"):
                with pytest.raises(ValueError, match="no static random address"):
                    await air.add(instrument(), address)

    play(scenario())


@pytest.mark.integration
@ON_LOOPBACK
async def test_a_dongle_carries_one_device_and_says_so(tmp_path: Path) -> None:
    clock, capture = SystemClock(), tmp_path / "dongle.btsnoop"
    async with VirtualAir() as air:
        await air.offer("tcp-server:127.0.0.1:0")
        backend = air.backend()
        radio = radio_of(f"tcp-client:127.0.0.1:{air.port}", clock, interval_ms=20.0, capture=capture)
        assert isinstance(radio, Dongle)
        async with radio:
            bench = LockBench()
            peripheral = await radio.add(bench.lock, LOCK_AT)
            client = await connected(backend, LOCK_AT)
            heard = await Heard(client).subscribe(gatt.STATE)
            peripheral.act(bench.lock.open_door)
            assert codec_ble.decode_state((await heard.wait(gatt.STATE))[0]).door is Door.OPEN
            with pytest.raises(RadioUnusable, match="a dongle carries one device"):
                await radio.add(instrument(), GAS_AT)
        assert not client.is_connected
    assert capture.read_bytes().startswith(b"btsnoop\0")


@pytest.mark.integration
@ON_LOOPBACK
async def test_a_place_where_no_controller_answers_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_sim.dongle.POWER_S", 0.1)
    monkeypatch.setattr("firmware_sim.bleak_backend.POWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:  # connections are taken, and nobody is there
        place = f"tcp-client:127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(RadioUnusable, match="no Bluetooth controller answered"):
            async with over(place):
                pass
        async with radio_of(place, SystemClock()) as radio:
            with pytest.raises(RadioUnusable, match="no Bluetooth controller answered"):
                await radio.add(instrument(), GAS_AT)


async def test_a_transport_behind_which_a_host_waits_offers_all_devices(tmp_path: Path) -> None:
    place = tmp_path / "hci"
    async with radio_of(f"unix-server:{place}", SystemClock(), interval_ms=20.0) as radio:
        assert isinstance(radio, VirtualAir)
        await radio.add(instrument(1), GAS_AT)
        await radio.add(LockBench().lock, LOCK_AT)
        async with over(f"unix:{place}") as backend:
            assert (await connected(backend, GAS_AT)).is_connected
            assert (await connected(backend, LOCK_AT)).is_connected


async def test_a_transport_that_cannot_be_offered_is_said_plainly(tmp_path: Path) -> None:
    for transport in ("tcp-server:127.0.0.1:port", f"unix-server:{tmp_path}/no/such/place"):
        with pytest.raises(RadioUnusable):
            async with radio_of(transport, SystemClock(), capture=tmp_path / "never.btsnoop"):
                pass
