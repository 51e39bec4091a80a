"""bleak without an operating system: a client and a scanner over a bumble host, for tests and for any HCI controller.

bleak on BlueZ is the yardstick (`locks.md` §8): the same calls, callbacks and exceptions, so that what runs here runs there.
Load it late: bumble takes up to a second to import.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, TypeVar

import msgspec
from bleak.args import SizedBuffer
from bleak.backends.characteristic import BleakGATTCharacteristic
from bleak.backends.client import BaseBleakClient, NotifyCallback
from bleak.backends.descriptor import BleakGATTDescriptor
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementDataCallback, BaseBleakScanner
from bleak.exc import BleakDeviceNotFoundError, BleakError
from bumble.device import Advertisement, Connection, Peer
from bumble.gatt_client import CharacteristicProxy

from firmware_sim.adapter import NO_ANSWER, PATIENCE_S, POWER_S, Adapter, RadioUnusable, open_named, plain
from firmware_sim.bleak_words import said_by, saying_bleak, services_of

T = TypeVar("T")

MTU_ASKED = 517  # the greatest an ATT server may grant; BlueZ asks for it too
LONGEST_VALUE = 512  # of an attribute, Core Specification Vol 3, Part F, 3.2.9


class Backend(msgspec.Struct, frozen=True):
    """What `BleakClient(..., backend=)` and `BleakScanner(..., backend=)` take, and what BlueZ has elsewhere.

    `passkeys` is its pairing agent: the six digits printed inside a device, by address.
    """

    client: type[BaseBleakClient]
    scanner: type[BaseBleakScanner]
    passkeys: dict[str, int]
    power_cycle: Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def over(transport: str) -> AsyncIterator[Backend]:
    """Open an HCI controller by its bumble name, such as `tcp-client:127.0.0.1:9000` or `usb:0`; raises RadioUnusable."""
    async with await open_named(transport) as (source, sink):
        adapter = Adapter(source, sink)
        try:
            async with asyncio.timeout(POWER_S):
                await adapter.ready()
        except TimeoutError as error:
            raise RadioUnusable(transport, NO_ANSWER) from error
        try:
            yield backend_over(adapter)
        finally:
            await adapter.close()


def backend_over(adapter: Adapter) -> Backend:
    """Return bleak's two classes, bound to a radio."""
    client = type("ClientOverBumble", (BumbleClient,), {"adapter": adapter})
    scanner = type("ScannerOverBumble", (BumbleScanner,), {"adapter": adapter})
    return Backend(client, scanner, adapter.passkeys, adapter.power_cycle)


class BumbleScanner(BaseBleakScanner):
    """bleak's scanner over an `Adapter`: active, without duplicate filter, one radio for all that scan."""

    adapter: ClassVar[Adapter]

    def __init__(
        self,
        detection_callback: AdvertisementDataCallback | None,
        service_uuids: list[str] | None,
        _scanning_mode: str = "active",
        **_of_other_platforms: object,
    ) -> None:
        super().__init__(detection_callback, service_uuids)

    async def start(self) -> None:
        """Start hearing."""
        self.seen_devices = {}
        await saying_bleak(self.adapter.start_scan(self))

    async def stop(self) -> None:
        """Stop hearing."""
        await saying_bleak(self.adapter.stop_scan(self))

    def hear(self, advertisement: Advertisement) -> None:
        """Pass an advertisement on to bleak."""
        said = said_by(advertisement)
        address = plain(advertisement.address)
        details = {"address": advertisement.address}
        device = self.create_or_update_device(address, address, said.local_name, details, said)
        if self.is_allowed_uuid(said.service_uuids):
            self.call_detection_callbacks(device, said)


class BumbleClient(BaseBleakClient):
    """bleak's client over an `Adapter`."""

    adapter: ClassVar[Adapter]

    def __init__(
        self,
        address_or_ble_device: BLEDevice | str,
        *,
        disconnected_callback: Callable[[], None] | None,
        timeout: float,
        services: set[str] | None = None,
        **_of_other_platforms: object,
    ) -> None:
        super().__init__(address_or_ble_device, disconnected_callback=disconnected_callback, timeout=timeout)
        self._wanted = services
        self._connection: Connection | None = None
        self._leaving = asyncio.Lock()

    @property
    def name(self) -> str:
        """The address with hyphens, as bleak shows a device that says no name."""
        return self.address.replace(":", "-")

    @property
    def mtu_size(self) -> int:
        """The negotiated ATT MTU, 23 without a connection."""
        return 23 if self._connection is None else self._connection.att_mtu

    @property
    def is_connected(self) -> bool:
        """True until either side or the air ends the connection."""
        return self._connection is not None

    async def connect(self, pair: bool, **kwargs: float) -> None:  # noqa: FBT001  bleak's signature
        """Connect, ask for the greatest MTU, encrypt where a bond exists, discover.

        Raises:
            TimeoutError: not within `timeout` seconds.
            BleakDeviceNotFoundError: an address that no scan has seen within that time.
            BleakError: the connection failed.
        """
        if self.is_connected:
            message = "already connected"
            raise BleakError(message)
        try:
            async with asyncio.timeout(kwargs.get("timeout", self._timeout)):
                address = await self.adapter.find(self.address)
                connection = await saying_bleak(self.adapter.connect(address))
                self._connection = connection
                connection.on(Connection.EVENT_DISCONNECTION, self._ended)
                await self._greet(connection, pair=pair)
        except TimeoutError:
            await self._leave()
            if self.address not in self.adapter.seen:
                raise BleakDeviceNotFoundError(self.address, f"{self.address} was not found: no scan has seen it") from None
            raise
        except BaseException:
            await self._leave()
            raise

    async def _greet(self, connection: Connection, *, pair: bool) -> None:
        if await self._bonded():
            await self._ask(connection.encrypt())
        elif pair:
            await self.pair()
        peer = Peer(connection)
        await self._ask(peer.request_mtu(MTU_ASKED))
        await self._ask(peer.discover_all())  # type: ignore[no-untyped-call]
        self.services = services_of(peer, self._wanted)

    def _ended(self, _reason: int) -> None:
        self._connection, self.services = None, None
        if self._disconnected_callback is not None:
            self._disconnected_callback()

    async def _leave(self) -> None:
        with suppress(BleakError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self.disconnect())

    async def disconnect(self) -> None:
        """End the connection; without one it does nothing."""
        async with self._leaving:
            if self._connection is not None:
                with suppress(BleakError):  # the other side was faster
                    await self._ask(self._connection.disconnect())

    async def pair(self, *_args: object, **_kwargs: object) -> None:
        """Pair with LE Secure Connections and keep the bond; the passkey is asked of the backend's `passkeys`."""
        if self._connection is None:
            message = "Not connected"
            raise BleakError(message)
        if not await self._bonded():
            await self._ask(self._connection.pair())

    async def unpair(self) -> None:
        """Forget the bond and disconnect."""
        address = self.adapter.seen.get(self.address)
        store = self.adapter.device.keystore
        if address is None or store is None:
            raise BleakDeviceNotFoundError(self.address, f"{self.address} was not found: no scan has seen it")
        await self.disconnect()
        with suppress(KeyError):  # nothing was bonded
            await store.delete(str(address))

    async def _bonded(self) -> bool:
        store, address = self.adapter.device.keystore, self.adapter.seen.get(self.address)
        return store is not None and address is not None and await store.get(str(address)) is not None

    async def read_gatt_char(
        self, characteristic: BleakGATTCharacteristic, *, use_cached: bool = False, **_kwargs: object
    ) -> bytearray:
        """Read a value, however long; `use_cached` answers with the last one heard, where there is one."""
        return await self._read(characteristic.handle, use_cached=use_cached)

    async def read_gatt_descriptor(
        self, descriptor: BleakGATTDescriptor, *, use_cached: bool = False, **_kwargs: object
    ) -> bytearray:
        """Read a descriptor."""
        return await self._read(descriptor.handle, use_cached=use_cached)

    async def _read(self, handle: int, *, use_cached: bool) -> bytearray:
        client = self._connected().gatt_client
        if use_cached and handle in client.cached_values:
            return bytearray(client.cached_values[handle][1])
        return bytearray(await self._ask(client.read_value(handle)))

    async def write_gatt_char(self, characteristic: BleakGATTCharacteristic, data: SizedBuffer, response: bool) -> None:  # noqa: FBT001  bleak's signature
        """Write a value; one that needs more than a packet goes as a long write, and only with a response."""
        room = LONGEST_VALUE if response else self.mtu_size - 3
        if len(data) > room:
            message = f"{len(data)} bytes do not fit: {room} at most {'with' if response else 'without'} a response"
            raise BleakError(message)
        client = self._connected().gatt_client
        await self._ask(client.write_value(characteristic.handle, bytes(data), with_response=response))

    async def write_gatt_descriptor(self, descriptor: BleakGATTDescriptor, data: SizedBuffer) -> None:
        """Write a descriptor, with a response."""
        client = self._connected().gatt_client
        await self._ask(client.write_value(descriptor.handle, bytes(data), with_response=True))

    async def start_notify(self, characteristic: BleakGATTCharacteristic, callback: NotifyCallback, **_kwargs: object) -> None:
        """Subscribe: notifications where the characteristic has them, else indications."""
        client = self._connected().gatt_client
        proxy: CharacteristicProxy[bytes] = characteristic.obj
        try:
            await self._ask(client.subscribe(proxy, lambda value: callback(bytearray(value))))
        except BleakError:  # what was refused must not be told either
            client.notification_subscribers.pop(proxy.handle, None)
            client.indication_subscribers.pop(proxy.handle, None)
            raise

    async def stop_notify(self, characteristic: BleakGATTCharacteristic) -> None:
        """Unsubscribe."""
        client = self._connected().gatt_client
        proxy: CharacteristicProxy[bytes] = characteristic.obj
        await self._ask(client.unsubscribe(proxy))

    def _connected(self) -> Connection:
        if self._connection is None:
            message = "Not connected"
            raise BleakError(message)
        return self._connection

    async def _ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Await an exchange with the device; one given up runs on, as in BlueZ, so that answers stay in step with questions."""
        try:
            return await saying_bleak(asyncio.shield(work))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            message = "Not connected: the connection ended meanwhile"
            raise BleakError(message) from None
