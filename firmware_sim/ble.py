"""The Bluetooth face of a device model: its GATT server and its advertising, on a bumble host.

Load it late: bumble takes up to a second to import.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from bumble import att
from bumble.core import UUID, BaseBumbleError
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.gatt import (
    Characteristic,
    Service,
)
from bumble.hci import Address, HCI_LE_Set_Advertising_Data_Command
from bumble.keys import MemoryKeyStore
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport.common import TransportSink, TransportSource

from firmware_sim.face import Face, Row, hears, packets
from firmware_sim.faults import HUNG_UP, POWERED_OFF, SUPERVISION, LinkFault, carried
from firmware_sim.gatt_face import FaceServer, characteristic_of, known_services
from firmware_sim.lock_memory import Publish
from manway.runtime.ports import Clock

MTU = 247  # what one packet of the data length extension carries; our longest message is 244 (`locks.md` §4)
PASSKEY = 123456  # printed inside every virtual device; bumble takes no 0
INTERVAL_MS = 250.0  # of 100 to 1,000 (`locks.md` §5): a lock is seen within 2 s though some are lost (choice)
LINKS = 2  # connections at once, so that nobody can keep the gateway out by staying (`locks.md` §1.4)
_WAKE_S = 0.2  # how often deadlines, idle links and the advertisement are looked at
_GOODBYE_S = 2.0  # to leave the air in order (choice)
_NAME = 0x09  # field of a scan response: complete local name


class _Display(PairingDelegate):
    """The passkey is printed inside the case: the device shows it and the other side types it in."""

    def __init__(self, passkey: int) -> None:
        keys = PairingDelegate.KeyDistribution.DISTRIBUTE_ENCRYPTION_KEY  # a static address has no identity behind it
        super().__init__(PairingDelegate.IoCapability.DISPLAY_OUTPUT_ONLY, keys, keys)
        self._passkey = passkey

    async def generate_passkey(self) -> int:
        return self._passkey


class Link:
    """One connection, by the name the device model knows it under, and what waits to be told to it."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name, self.connection = name, connection
        self.waiting: asyncio.Queue[Publish] = asyncio.Queue()

    def abort(self) -> None:
        """Throw away what is left of a log that nobody wants any more."""
        kept = [self.waiting.get_nowait() for _ in range(self.waiting.qsize())]
        for message in kept:
            if message.name not in ("log", "logctl"):
                self.waiting.put_nowait(message)


class Peripheral:
    """One device on the air; `faults` is what its links suffer."""

    def __init__(
        self,
        face: Face,
        address: str,
        source: TransportSource,
        sink: TransportSink,
        clock: Clock,
        *,
        passkey: int,
        interval_ms: float,
    ) -> None:
        self.address, self.passkey = address, passkey
        self.faults: list[LinkFault] = []
        self.started = asyncio.Event()
        self.links: dict[Connection, Link] = {}
        self._face, self._clock = face, clock
        self._rows: dict[str, Characteristic[bytes]] = {}
        self._made, self._muted, self._advertised = 0, False, b""
        self._news = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self.device = _device(address, source, sink, interval_ms)
        self.device.pairing_config_factory = self._pairing
        self.server = FaceServer(self.device)
        self.server.max_mtu = MTU
        self.device.gatt_server = self.server
        self.device.add_default_services(add_gatt_service=False)
        self.device.add_services([self._service(), *known_services(face, clock.now)])
        self.device.on(Device.EVENT_CONNECTION, self._connected)

    # --- life

    async def run(self) -> None:
        """Live on the air until cancelled; `started` is set once it can be heard."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self.device.power_on()
                await self._tend(self._clock.now())
                self.started.set()
                while True:
                    await self._wait()
                    await self._tend(self._clock.now())
                    _heed_cancelling()
        finally:
            with suppress(BaseBumbleError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await self.device.stop_advertising()
                    await self.cut(POWERED_OFF)

    async def _wait(self) -> None:
        now = self._clock.now()
        due = self._face.next_deadline()
        with suppress(TimeoutError):
            async with self._clock.timeout_at(now + _WAKE_S if due is None else min(due, now + _WAKE_S)):
                await self._news.wait()
        self._news.clear()

    async def _tend(self, now: float) -> None:
        """Do what is due: the model's deadlines, idle links, the advertisement."""
        due = self._face.next_deadline()
        if due is not None and due <= now:
            self.say(self._face.advance(now))
        idle = self._face.links_to_drop(now)
        for link in [link for link in self.links.values() if link.name in idle]:
            await self._part(link.connection, HUNG_UP)
        await self._advertise(now)

    async def _advertise(self, now: float) -> None:
        """Be heard while there is room for a connection, with what the model says now."""
        device = self.device
        wanted = not self._muted and len(self.links) < LINKS
        data = self._face.advertisement(now)
        if not wanted or not device.is_advertising:
            await device.stop_advertising()
            if wanted:
                device.advertising_data = self._advertised = data
                await device.start_advertising()
        elif data != self._advertised:
            device.advertising_data = self._advertised = data
            if device.legacy_advertising_set is not None:
                await device.legacy_advertising_set.set_advertising_data(data)
            else:
                await device.send_sync_command(HCI_LE_Set_Advertising_Data_Command(advertising_data=data))

    # --- what a test or a story does to it

    def act(self, act: Callable[[float], Iterable[Publish]]) -> None:
        """Let a hand do something to the model, such as `lock.press`, and tell what the model says to it."""
        self.say(act(self._clock.now()))

    def say(self, messages: Iterable[Publish]) -> None:
        """Tell what the model says: to the link it answers, or to all that listen."""
        for message in messages:
            self._face.keep(message)
            for link in self.links.values():
                if hears(link.name, message):
                    link.waiting.put_nowait(message)
        self._news.set()

    @property
    def mtu(self) -> int:
        """The greatest MTU granted to connections to come."""
        return self.server.max_mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self.server.max_mtu = mtu

    async def cut(self, reason: int = SUPERVISION) -> None:
        """End every connection: 0x08 as if the air had gone, 0x13 as if the device had hung up."""
        for connection in list(self.links):
            await self._part(connection, reason)

    async def mute(self, on: bool) -> None:  # noqa: FBT001  a switch
        """Say nothing any more, neither answers nor advertisements, as hung firmware does; connections stay."""
        self._muted = self.server.muted = on
        await self._advertise(self._clock.now())

    async def _part(self, connection: Connection, reason: int) -> None:
        with suppress(BaseBumbleError):  # the other side was faster
            await self.device.disconnect(connection, reason)

    # --- connections

    def _connected(self, connection: Connection) -> None:
        self._made += 1
        link = Link(f"ble-{self._made}", connection)
        self.links[connection] = link
        self._face.link_made(self._clock.now(), link.name)
        telling = self._tasks.create_task(self._tell(link))

        def ended(_reason: int) -> None:
            telling.cancel()
            self.links.pop(connection, None)
            self.say(self._face.link_lost(self._clock.now(), link.name))

        connection.on(Connection.EVENT_DISCONNECTION, ended)
        self._news.set()  # there may be room for another

    async def _tell(self, link: Link) -> None:
        """Tell a link what waits for it, in order."""
        while True:
            message = await link.waiting.get()
            for packet in packets(message, link.connection.att_mtu):
                for seconds, value in carried(self.faults, message.name, packet, to_device=False):
                    await self._linger(seconds)
                    await self._send(link.connection, message.name, value)

    async def _send(self, connection: Connection, name: str, value: bytes) -> None:
        characteristic = self._rows.get(name)
        if characteristic is None or self._muted:
            return
        if Characteristic.Properties.INDICATE in characteristic.properties:
            with suppress(TimeoutError):  # not confirmed within 30 s: the link is dead and will be noticed
                await self.server.indicate_subscriber(connection, characteristic, value)
        else:
            await self.server.notify_subscriber(connection, characteristic, value)
            await connection.drain()

    async def _linger(self, seconds: float) -> None:
        if seconds:
            await self._clock.sleep_until(self._clock.now() + seconds)

    def _pairing(self, _connection: Connection) -> PairingConfig:
        return PairingConfig(sc=True, mitm=True, bonding=True, delegate=_Display(self.passkey))

    # --- the GATT table

    def _service(self) -> Service:
        self._rows = {row.name: self._characteristic(row) for row in self._face.rows}
        return Service(UUID(self._face.service), list(self._rows.values()))

    def _characteristic(self, row: Row) -> Characteristic[bytes]:
        async def read(connection: Connection) -> bytes:
            return self._read(connection, row)

        async def write(connection: Connection, value: bytes) -> None:
            await self._write(connection, row, value)

        return characteristic_of(row, read, write, self.server)

    def _read(self, connection: Connection, row: Row) -> bytes:
        key = (connection, self._rows[row.name].handle)
        if key not in self.server.values:
            link = self.links[connection]
            self.server.values[key] = self._face.read(row.name, self._clock.now(), link.name)
        return self.server.values[key]

    async def _write(self, connection: Connection, row: Row, value: bytes) -> None:
        if len(value) > row.longest:
            raise att.ATT_Error(att.ATT_INVALID_ATTRIBUTE_LENGTH_ERROR)
        arrivals = carried(self.faults, row.name, value, to_device=True)
        if not arrivals:  # lost: nobody answers, until the connection ends
            await connection.cancel_on_disconnection(asyncio.get_running_loop().create_future())
        link = self.links[connection]
        for seconds, arrived in arrivals:
            await self._linger(seconds)
            self._take(link, row.name, arrived)

    def _take(self, link: Link, name: str, value: bytes) -> None:
        if name == "logctl":
            link.abort()  # one report at a time: a new request ends the one that runs
        self.say(self._face.take(name, value, self._clock.now(), link.name))


def _heed_cancelling() -> None:
    """Raise the cancellation that `asyncio.wait_for` of Python 3.11 swallows when a controller answers in the same instant."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _device(address: str, source: TransportSource, sink: TransportSink, interval_ms: float) -> Device:
    name = f"MW-{address[-5:].replace(':', '')}"
    config = DeviceConfiguration(
        name=name,
        address=Address(address),
        gap_service_enabled=False,  # they come with the server of ours
        gatt_service_enabled=False,
        scan_response_data=bytes([len(name) + 1, _NAME]) + name.encode(),
        advertising_interval_min=interval_ms,
        advertising_interval_max=interval_ms,
    )
    device = Device.from_config_with_hci(config, source, sink)
    device.keystore = MemoryKeyStore()
    return device
