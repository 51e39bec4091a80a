"""One adapter through bleak, and the only place that knows it: every call within its time, every error as `RadioFailed`.

Theory (`locks.md` §8). bleak puts no limit on most of its calls, D-Bus may stall in each of them, and a client whose call has
timed out is not to be trusted again. A device is connected by the `BLEDevice` a scan gave, never by its address, which would
start a scan of its own; a failed connect is retried by bleak-retry-connector, which knows the errors that are worth it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from bleak import BleakScanner
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakCharacteristicNotFoundError,
    BleakDBusError,
    BleakDeviceNotFoundError,
    BleakError,
    BleakGATTProtocolError,
)
from bleak_retry_connector import (
    BleakAbortedError,
    BleakClientWithServiceCache,
    BleakNotFoundError,
    BleakOutOfConnectionSlotsError,
    establish_connection,
)

from gateway.ports import AdapterNews, RadioFailed, Sighting
from gateway.radio_backend import POWER_S, Backend

_log = structlog.get_logger("radio")
SCAN_START_S, SCAN_STOP_S = 15.0, 5.0  # `locks.md` §8
CONNECT_S = 60.0  # same place: the connector's own safety time, here for all its attempts together
CALL_S = 5.0  # same place
DISCONNECT_S = 5.0  # same place
PAIR_S = 30.0  # the Security Manager's own limit, Core 5.2, vol 3 part H 3.4
_MOST_DEVICES = 1_000  # (choice) remembered, the newest: telephones change their addresses every quarter of an hour

_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (  # the first that fits
    (TimeoutError, "timeout"),
    (BleakOutOfConnectionSlotsError, "slots"),
    (BleakNotFoundError, "not_found"),
    (BleakDeviceNotFoundError, "not_found"),
    (BleakAbortedError, "aborted"),
    (BleakBluetoothNotAvailableError, "off"),
    (BleakCharacteristicNotFoundError, "gatt"),
    (BleakGATTProtocolError, "gatt"),
    (BleakDBusError, "dbus"),
    (BleakError, "link"),
    # What D-Bus, or an object of it that is gone, has been seen to raise (bleak-retry-connector's list).
    ((OSError, EOFError, KeyError, AttributeError, AssertionError), "dbus"),
)
# ATT errors that a bond ends: insufficient authentication, authorisation, key size, encryption (Core 5.2, 3 F 3.4.1.1).
_UNPAIRED = frozenset({0x05, 0x08, 0x0C, 0x0F})
# bleak's word for a client that has the answer to "connect" and not the news of the connection, which come by different ways.
_STALE = "already connected"
# BlueZ says so of a scan or a stop that overlaps another, and of a stop after it has stopped (bleak#1628, #1689, #2021).
_IN_PROGRESS = ("InProgress", "No discovery started")


def failure(error: BaseException) -> RadioFailed:
    """Return what a call's error means to us."""
    if isinstance(error, BleakGATTProtocolError) and error.args[0] in _UNPAIRED:
        kind = "not_paired"
    elif any(word in str(error) for word in _IN_PROGRESS):
        kind = "in_progress"
    else:
        kind = next((kind for raised, kind in _KINDS if isinstance(error, raised)), "other")
    return RadioFailed(kind, f"{type(error).__name__}: {error}"[:200])


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Let a call take so long; raises RadioFailed for whatever it raises."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except RadioFailed:
        raise
    except Exception as error:  # what the libraries below may raise is not ours to know
        raise failure(error) from error


class BleakLink:
    """A connection bleak has made."""

    client: BleakClientWithServiceCache  # set before it connects

    def __init__(self) -> None:
        self.lost = False
        self._tell: list[Callable[[], None]] = []

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call this at the end of the connection."""
        if self.lost:
            tell()
        self._tell.append(tell)

    def ended(self) -> None:
        """Note the end of the connection."""
        if not self.lost:
            self.lost = True
            for tell in self._tell:
                tell()

    async def read(self, characteristic: str) -> bytes:
        """Return the whole value."""
        async with self._call():
            return bytes(await self.client.read_gatt_char(characteristic))

    async def write(self, characteristic: str, data: bytes) -> None:
        """Write with a response: a long value then goes in parts by itself, whatever the MTU."""
        async with self._call():
            await self.client.write_gatt_char(characteristic, data, response=True)

    async def subscribe(self, characteristic: str, heard: Callable[[bytes], None]) -> None:
        """Hear what it notifies or indicates."""
        async with self._call():
            await self.client.start_notify(characteristic, lambda _, data: heard(bytes(data)))

    async def disconnect(self) -> None:
        """End the connection; what goes wrong then is of no use to anybody."""
        try:
            async with _within(DISCONNECT_S):
                await self.client.disconnect()
        except RadioFailed as error:
            _log.info("disconnect", reason=error.reason)
        finally:
            self.ended()

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        try:
            async with _within(CALL_S):
                yield
        except RadioFailed as error:
            if isinstance(error.__cause__, BleakCharacteristicNotFoundError):  # the cache is of an older firmware
                with contextlib.suppress(Exception):
                    await self.client.clear_cache()
            raise


class _Client(BleakClientWithServiceCache):
    """bleak's client, which its link knows from the beginning; the connector makes it."""

    def __init__(self, *args: Any, link: BleakLink, **kwargs: Any) -> None:  # noqa: ANN401  bleak's
        super().__init__(*args, **kwargs)
        link.client = self


class BleakRadio:
    """One adapter. `backend` None is the platform's own, BlueZ; `adapter` names one of several, such as `hci0`."""

    def __init__(self, name: str, backend: Backend | None = None, *, adapter: str = "") -> None:
        self.name = name
        self._backend, self._adapter = backend, adapter
        self._scanner: BleakScanner | None = None
        self._devices: dict[str, BLEDevice] = {}

    async def scan(self, seen: Callable[[Sighting], None]) -> None:
        """Scan actively and without a filter: our advertisements carry service data, which a filter by service would miss."""

        def heard(device: BLEDevice, data: AdvertisementData) -> None:
            address = device.address.upper()
            self._devices.pop(address, None)
            self._devices[address] = device
            if len(self._devices) > _MOST_DEVICES:
                del self._devices[next(iter(self._devices))]
            seen(Sighting(address, data.rssi, data.service_data, data.manufacturer_data))

        scanner = BleakScanner(heard, scanning_mode="active", **self._options("scanner"))
        async with _within(SCAN_START_S):
            await scanner.start()
        self._scanner = scanner

    async def stop(self) -> None:
        """Stop scanning; BlueZ may say that it has stopped already, which is what was asked for."""
        scanner, self._scanner = self._scanner, None
        if scanner is None:
            return
        try:
            async with _within(SCAN_STOP_S):
                await scanner.stop()
        except RadioFailed as error:
            _log.info("scan stopped", adapter=self.name, kind=error.kind, reason=error.reason)

    async def connect(self, address: str) -> BleakLink:
        """Connect to a device that was seen."""
        device = self._devices.get(address.upper())
        if device is None:
            raise RadioFailed("not_found", f"{address} was not seen")
        async with _within(CONNECT_S):
            link = BleakLink()
            try:
                await self._establish(device, link)
            except BleakError as error:
                if _STALE not in str(error):
                    raise
                _log.info("connected before it was known", adapter=self.name, address=address)
                await link.disconnect()  # this client believes it until its end; another one hears it anew
                link = BleakLink()
                await self._establish(device, link)
            return link

    async def _establish(self, device: BLEDevice, link: BleakLink) -> None:
        await establish_connection(
            _Client,
            device,
            device.name or device.address,
            disconnected_callback=lambda _: link.ended(),
            ble_device_callback=lambda: self._devices[device.address.upper()],
            use_services_cache=False,  # BlueZ may be discovering anew: the objects of the cache would not be there yet
            link=link,
            **self._options("client"),
        )

    def _options(self, part: str) -> dict[str, Any]:
        if self._backend is not None:
            return {"backend": getattr(self._backend, part)}
        return {"bluez": {"adapter": self._adapter}} if self._adapter else {}

    async def pair(self, address: str) -> None:
        """Connect, pair, and leave; whoever is asked for the passkey must know it by now."""
        link = await self.connect(address)
        try:
            async with _within(PAIR_S):
                await link.client.pair()
        finally:
            await link.disconnect()


class BackendControl:
    """What can be done to an adapter behind a backend of ours; BlueZ has its own (`gateway/radio_bluez.py`)."""

    can_reset_usb = False
    can_restart_daemon = False

    def __init__(self, radio: BleakRadio, backend: Backend) -> None:
        self._radio, self._backend = radio, backend

    async def power_cycle(self) -> None:
        """Switch the adapter off and on."""
        async with _within(POWER_S):
            await self._backend.power_cycle()

    async def reset_usb(self) -> None:
        """Refuse: there is nobody to ask."""
        raise RadioFailed("not_configured", "no helper resets a USB port here")

    async def restart_daemon(self) -> None:
        """Refuse: there is none."""
        raise RadioFailed("not_configured", "no Bluetooth service stands behind this adapter")

    async def pair(self, address: str, passkey: int) -> None:
        """Pair, with the passkey printed inside the device."""
        self._backend.passkeys[address] = passkey
        await self._radio.pair(address)

    async def watch(self) -> AsyncIterator[AdapterNews]:
        """Hear nothing, for ever: a controller tells nobody what becomes of it."""
        await asyncio.Event().wait()
        yield AdapterNews.ABSENT  # pragma: no cover  makes this a generator
