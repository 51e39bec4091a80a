"""bleak behind the port: what every error becomes, and that no call outlives its time. The rest is `test_radio_virtual.py`."""

# ruff: noqa: ANN401, ARG002, FBT001  bleak's own signatures

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.scanner import AdvertisementData, BaseBleakScanner
from bleak.backends.service import BleakGATTService, BleakGATTServiceCollection
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakCharacteristicNotFoundError,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
    BleakGATTProtocolError,
    BleakGATTProtocolErrorCode,
)
from bleak_retry_connector import BleakAbortedError, BleakNotFoundError, BleakOutOfConnectionSlotsError

from gateway.ports import RadioFailed, Sighting
from gateway.radio_bleak import BackendControl, BleakLink, BleakRadio, failure
from manway import gatt
from manway.measurements import RADIO_ERRORS
from tests.kit.clock import VirtualLoop

ADDRESS = "F0:00:00:00:00:01"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (BleakOutOfConnectionSlotsError("no slot"), "slots"),
        (BleakNotFoundError("gone"), "not_found"),
        (BleakDeviceNotFoundError(ADDRESS), "not_found"),
        (BleakAbortedError("le-connection-abort-by-local"), "aborted"),
        (BleakBluetoothNotAvailableError("off", BleakBluetoothNotAvailableReason.POWERED_OFF), "off"),
        (BleakCharacteristicNotFoundError(gatt.STATE), "gatt"),
        (BleakGATTProtocolError(BleakGATTProtocolErrorCode.VALUE_NOT_ALLOWED), "gatt"),
        (BleakGATTProtocolError(0x80), "gatt"),
        (BleakGATTProtocolError(BleakGATTProtocolErrorCode.INSUFFICIENT_ENCRYPTION), "not_paired"),
        (BleakGATTProtocolError(BleakGATTProtocolErrorCode.INSUFFICIENT_AUTHENTICATION), "not_paired"),
        (BleakDBusError("org.bluez.Error.InProgress", ["Operation already in progress"]), "in_progress"),
        (BleakDBusError("org.bluez.Error.Failed", ["No discovery started"]), "in_progress"),
        (BleakDBusError("org.bluez.Error.Failed", ["le-connection-abort-by-local"]), "dbus"),
        (BleakError("Not connected"), "link"),
        (EOFError(), "dbus"),
        (BrokenPipeError(), "dbus"),
        (KeyError("org.bluez.GattService1"), "dbus"),
        (ZeroDivisionError("nobody has foreseen it"), "other"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_error_has_its_word(error: Exception, kind: str) -> None:
    failed = failure(error)
    assert failed.kind == kind
    assert kind in RADIO_ERRORS
    assert type(error).__name__ in failed.reason


class FakeClient(BaseBleakClient):
    """A bleak client whose calls do what a test wants."""

    does: ClassVar[Callable[[str], Any]]
    calls: ClassVar[list[str]] = []

    @property
    def mtu_size(self) -> int:
        return 23

    @property
    def is_connected(self) -> bool:
        return True

    async def connect(self, pair: bool, **kwargs: Any) -> None:
        services = BleakGATTServiceCollection()
        service = BleakGATTService(None, 1, gatt.LOCK_SERVICE)
        services.add_service(service)
        services.add_characteristic(BleakGATTCharacteristic(None, 2, gatt.STATE, ["read", "write"], lambda: 20, service))
        self.services = services
        await self._call("connect")

    async def disconnect(self) -> None:
        await self._call("disconnect")

    async def pair(self, *args: Any, **kwargs: Any) -> None:
        await self._call("pair")

    async def unpair(self) -> None: ...

    async def read_gatt_char(self, characteristic: Any, *, use_cached: bool = False, **kwargs: Any) -> bytearray:
        return bytearray(await self._call("read") or b"")

    async def read_gatt_descriptor(self, descriptor: BleakGATTDescriptor, **kwargs: Any) -> bytearray:
        return bytearray()

    async def write_gatt_char(self, characteristic: Any, data: Any, response: bool) -> None:
        assert response
        await self._call("write")

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: Any) -> None: ...

    async def start_notify(self, characteristic: Any, callback: NotifyCallback, **kwargs: Any) -> None:
        await self._call("notify")
        callback(bytearray(b"\x01"))

    async def stop_notify(self, characteristic: Any) -> None: ...

    async def _call(self, name: str) -> Any:
        type(self).calls.append(name)
        done = type(self).does(name)
        return await done if asyncio.iscoroutine(done) else done


class FakeScanner(BaseBleakScanner):
    """A bleak scanner that has seen one device; the newest, and what starting and stopping it does."""

    newest: ClassVar["FakeScanner"]
    does: ClassVar[Callable[[str], Any]]

    def __init__(self, detection_callback: Any, service_uuids: Any, scanning_mode: str, **kwargs: Any) -> None:
        super().__init__(detection_callback, service_uuids)
        assert (service_uuids, scanning_mode) == (None, "active")
        type(self).newest = self

    async def start(self) -> None:
        done = type(self).does("start")
        if asyncio.iscoroutine(done):
            await done
        self.see(ADDRESS)

    async def stop(self) -> None:
        done = type(self).does("stop")
        if asyncio.iscoroutine(done):
            await done

    def see(self, address: str) -> None:
        data = AdvertisementData(None, {}, {gatt.LOCK_SERVICE: b"x"}, [], None, -61, ())
        self.call_detection_callbacks(self.create_or_update_device(address, address, None, {}, data), data)


class Fakes:
    """A backend of these, with a power switch."""

    def __init__(self) -> None:
        self.client = cast(
            "type[BaseBleakClient]", type("Client", (FakeClient,), {"does": staticmethod(self._do), "calls": []})
        )
        self.scanner = cast("type[BaseBleakScanner]", type("Scanner", (FakeScanner,), {"does": staticmethod(self._do)}))
        self.passkeys: dict[str, int] = {}
        self.deeds: dict[str, Callable[[], Any]] = {}
        self.cycles = 0

    def _do(self, name: str) -> Any:
        return self.deeds.get(name, lambda: None)()

    async def power_cycle(self) -> None:
        self.cycles += 1

    @property
    def calls(self) -> list[str]:
        return cast("type[FakeClient]", self.client).calls


def throws(error: Exception) -> Callable[[], Any]:
    def throw() -> Any:
        raise error

    return throw


def hangs() -> Any:
    return asyncio.sleep(1e6)


def run(scene: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene())


async def connected(fakes: Fakes) -> tuple[BleakRadio, BleakLink]:
    radio = BleakRadio("sim", fakes)
    await radio.scan(lambda _: None)
    return radio, await radio.connect(ADDRESS.lower())


def test_what_is_seen_has_its_address_its_strength_and_its_service_data() -> None:
    async def scene() -> None:
        seen: list[Sighting] = []
        radio = BleakRadio("sim", Fakes())
        await radio.scan(seen.append)
        assert seen == [Sighting(ADDRESS, -61, {gatt.LOCK_SERVICE: b"x"})]

    run(scene)


def test_only_what_was_seen_can_be_connected_to_and_of_that_the_newest_thousand() -> None:
    async def scene() -> None:
        fakes = Fakes()
        radio = BleakRadio("sim", fakes)
        with pytest.raises(RadioFailed, match="not_found"):
            await radio.connect(ADDRESS)
        await radio.scan(lambda _: None)
        scanner = cast("type[FakeScanner]", fakes.scanner).newest
        for number in range(1000):
            scanner.see(f"F1:00:00:00:{number >> 8:02X}:{number & 255:02X}")
        with pytest.raises(RadioFailed, match="not_found"):
            await radio.connect(ADDRESS)

    run(scene)


@pytest.mark.parametrize(
    ("name", "call", "seconds"),
    [
        ("read", lambda link: link.read(gatt.STATE), 5),
        ("write", lambda link: link.write(gatt.STATE, b"x"), 5),
        ("notify", lambda link: link.subscribe(gatt.STATE, lambda _: None), 5),
    ],
)
def test_no_call_outlives_its_time(name: str, call: Callable[[BleakLink], Any], seconds: float) -> None:
    async def scene() -> None:
        fakes = Fakes()
        _, link = await connected(fakes)
        fakes.deeds[name] = hangs
        began = asyncio.get_running_loop().time()
        with pytest.raises(RadioFailed, match="timeout"):
            await call(link)
        assert asyncio.get_running_loop().time() - began == pytest.approx(seconds, abs=0.01)

    run(scene)


def test_a_scan_that_does_not_start_or_stop_is_given_up() -> None:
    async def scene() -> None:
        fakes = Fakes()
        radio = BleakRadio("sim", fakes)
        fakes.deeds["start"] = hangs
        with pytest.raises(RadioFailed, match="timeout"):
            await radio.scan(lambda _: None)
        assert asyncio.get_running_loop().time() == pytest.approx(15, abs=0.01)
        await radio.stop()
        fakes.deeds.clear()
        await radio.scan(lambda _: None)
        fakes.deeds["stop"] = hangs
        await radio.stop()
        assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.01)
        fakes.deeds["stop"] = throws(BleakDBusError("org.bluez.Error.Failed", ["No discovery started"]))
        await radio.scan(lambda _: None)
        await radio.stop()

    run(scene)


def test_all_attempts_to_connect_together_end_within_a_minute() -> None:
    async def scene() -> None:
        fakes = Fakes()
        fakes.deeds["connect"] = hangs
        with pytest.raises(RadioFailed, match="timeout"):
            await connected(fakes)
        assert asyncio.get_running_loop().time() == pytest.approx(60, abs=0.01)

    run(scene)


def test_a_connect_that_fails_is_tried_four_times() -> None:
    async def scene() -> None:
        fakes = Fakes()
        fakes.deeds["connect"] = throws(BleakError("failed"))
        with pytest.raises(RadioFailed, match="link"):
            await connected(fakes)
        assert fakes.calls == ["connect"] * 4

    run(scene)


def test_a_client_that_was_connected_before_it_was_told_makes_way_for_another() -> None:
    """bleak's own error where BlueZ's answer to a connect overtakes the news of the connection; seen under load in the box."""

    async def scene() -> None:
        fakes = Fakes()

        def once_stuck() -> None:
            if len(fakes.calls) <= 4:  # all the connector's attempts with one client
                message = "Client is already connected"
                raise BleakError(message)

        fakes.deeds["connect"] = once_stuck
        _, link = await connected(fakes)
        assert fakes.calls == ["connect"] * 4 + ["disconnect", "connect"]
        assert not link.lost
        assert asyncio.get_running_loop().time() < 2
        await link.write(gatt.STATE, b"x")

    run(scene)


def test_clients_that_are_all_stuck_are_an_error() -> None:
    async def scene() -> None:
        fakes = Fakes()
        fakes.deeds["connect"] = throws(BleakError("Client is already connected"))
        with pytest.raises(RadioFailed, match="link"):
            await connected(fakes)
        assert fakes.calls.count("connect") == 8

    run(scene)


def test_a_disconnect_never_raises_and_ends_in_its_time() -> None:
    async def scene() -> None:
        fakes = Fakes()
        _, link = await connected(fakes)
        told: list[str] = []
        link.when_lost(lambda: told.append("before"))
        fakes.deeds["disconnect"] = hangs
        await link.disconnect()
        assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.01)
        assert link.lost
        link.when_lost(lambda: told.append("after"))
        link.ended()
        assert told == ["before", "after"]

    run(scene)


def test_what_is_written_read_and_heard() -> None:
    async def scene() -> None:
        fakes = Fakes()
        _, link = await connected(fakes)

        async def state() -> bytes:
            return b"state"

        fakes.deeds["read"] = state
        heard: list[bytes] = []
        await link.subscribe(gatt.STATE, heard.append)
        await link.write(gatt.STATE, b"x")
        assert (await link.read(gatt.STATE), heard) == (b"state", [b"\x01"])
        with pytest.raises(RadioFailed, match="gatt"):
            await link.read(gatt.HELLO)

    run(scene)


def test_the_control_of_a_backend_cycles_power_pairs_and_says_what_it_cannot() -> None:
    async def scene() -> None:
        fakes = Fakes()
        radio, _ = await connected(fakes)
        control = BackendControl(radio, fakes)
        await control.power_cycle()
        await control.pair(ADDRESS, 123456)
        assert (fakes.cycles, fakes.passkeys) == (1, {ADDRESS: 123456})
        assert fakes.calls[-3:] == ["connect", "pair", "disconnect"]
        for refused in (control.reset_usb, control.restart_daemon):
            with pytest.raises(RadioFailed, match="not_configured"):
                await refused()
        fakes.deeds["pair"] = hangs
        with pytest.raises(RadioFailed, match="timeout"):
            await control.pair(ADDRESS, 123456)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(control.watch())), 60)

    run(scene)


def test_an_adapter_of_bluez_is_named_to_bleak() -> None:
    assert BleakRadio("hci1", adapter="hci1")._options("client") == {"bluez": {"adapter": "hci1"}}
    assert BleakRadio("hci0")._options("client") == {}
