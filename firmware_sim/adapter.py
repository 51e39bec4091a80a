"""One Bluetooth radio of a central, over bumble: its scan, its connections, its bonds.

`bleak_backend.py` gives it the face of bleak.

Load it late: bumble takes up to a second to import.
"""

import asyncio
from contextlib import suppress
from typing import Any, Protocol

from bumble.core import BaseBumbleError, InvalidStateError
from bumble.device import Advertisement, Connection, Device
from bumble.hci import Address, HCI_LE_Create_Connection_Cancel_Command, OwnAddressType
from bumble.keys import MemoryKeyStore
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.transport import open_transport
from bumble.transport.common import TransportSink, TransportSource

from manway.errors import RemoteError

POWER_S = 10.0  # a controller answers some thirty commands in milliseconds; a dead one never (choice)
NO_ANSWER = f"no Bluetooth controller answered there within {POWER_S:.0f} s: is it plugged in, and nobody else's?"
PATIENCE_S = 5.0  # to end a connection, or undo half of one (choice)


class RadioUnusable(RemoteError):
    """A transport that cannot be opened, or not for this."""

    def __init__(self, transport: str, reason: str) -> None:
        self.transport, self.reason = transport, reason
        super().__init__(f"radio {transport}: {reason}")


class AlreadyConnected(InvalidStateError):
    """Somebody holds a connection of this radio to the device."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is connected already")


class Listener(Protocol):
    """Whoever hears advertisements."""

    def hear(self, advertisement: Advertisement) -> None:
        """Take one advertisement."""
        ...


class _Nobody:
    """Keeps the radio scanning for one who only waits for a sighting."""

    def hear(self, advertisement: Advertisement) -> None:
        pass


async def open_named(transport: str) -> Any:  # noqa: ANN401  bumble's Transport, an async context of (source, sink)
    """Return a transport opened by its bumble name; raises RadioUnusable."""
    try:
        return await open_transport(transport)
    except (OSError, BaseBumbleError, ValueError, AssertionError, ImportError) as error:
        kinds = "tcp-client:HOST:PORT, usb:N, serial:PATH, hci-socket:N, vhci, unix:PATH, pty, ws-client:URL, udp:..."
        raise RadioUnusable(transport, f"{str(error) or type(error).__name__}; one of {kinds} is wanted") from error


class _Agent(PairingDelegate):
    """Types in the passkey of the device at the other end, if it is known."""

    def __init__(self, passkey: int | None) -> None:
        keys = PairingDelegate.KeyDistribution.DISTRIBUTE_ENCRYPTION_KEY  # a static address has no identity behind it
        super().__init__(PairingDelegate.IoCapability.DISPLAY_OUTPUT_AND_KEYBOARD_INPUT, keys, keys)
        self._passkey = passkey

    async def get_number(self) -> int | None:
        return self._passkey


class Adapter:
    """One radio of a central: a bumble host, shared by every client and scanner made over it."""

    def __init__(self, source: TransportSource, sink: TransportSink, address: Address | None = None) -> None:
        self.device = Device.with_hci("Manway", address or Address.generate_static_address(), source, sink)
        self.device.keystore = MemoryKeyStore()
        self.device.pairing_config_factory = self._pairing
        self.device.on(Device.EVENT_ADVERTISEMENT, self._heard)
        self.passkeys: dict[str, int] = {}
        self.seen: dict[str, Address] = {}
        self._scanners: set[Listener] = set()
        self._sighted = asyncio.Event()
        self._power, self._scan, self._connect = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    async def ready(self) -> None:
        """Switch on, once."""
        async with self._power:
            if not self.device.powered_on:
                await self.device.power_on()

    async def power_cycle(self) -> None:
        """Switch off and on: every connection ends, nobody scans, bonds stay."""
        await self.close()
        await self.ready()

    async def close(self) -> None:
        """End every connection and every scan."""
        self._scanners.clear()
        with suppress(BaseBumbleError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                for connection in list(self.device.connections.values()):
                    await connection.disconnect()
                if self.device.scanning:
                    await self.device.stop_scanning()
                await self.device.power_off()

    async def start_scan(self, scanner: Listener) -> None:
        """Let a scanner hear; the radio scans while one does."""
        await self.ready()
        async with self._scan:
            if not self._scanners:
                await self.device.start_scanning(filter_duplicates=False)
            self._scanners.add(scanner)

    async def stop_scan(self, scanner: Listener) -> None:
        """Let a scanner hear no more; one that does not is no error."""
        async with self._scan:
            if scanner in self._scanners:
                self._scanners.discard(scanner)
                if not self._scanners:
                    await self.device.stop_scanning()

    async def connect(self, address: Address) -> Connection:
        """Connect; one at a time, as controllers have one pending connection. Undone when the caller gives up.

        Raises:
            AlreadyConnected: somebody holds a connection to it.
        """
        await self.ready()
        async with self._connect:
            if self.device.find_connection_by_bd_addr(address) is not None:
                raise AlreadyConnected(plain(address))
            try:
                return await self.device.connect_le(address, own_address_type=OwnAddressType.RANDOM, timeout=None)
            except BaseException:
                await asyncio.shield(self._undo(address))
                raise

    async def _undo(self, address: Address) -> None:
        with suppress(BaseBumbleError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                with suppress(BaseBumbleError):  # refused where there is nothing to cancel any more
                    await self.device.send_sync_command(HCI_LE_Create_Connection_Cancel_Command())
                made = self.device.find_connection_by_bd_addr(address)
                if made is not None:  # it came about while we gave up
                    await made.disconnect()

    async def find(self, address: str) -> Address:
        """Return the address with its type as a scan has seen it; scans where none has."""
        scanner = _Nobody()
        if address not in self.seen:
            await self.start_scan(scanner)
            try:
                while address not in self.seen:
                    self._sighted.clear()
                    await self._sighted.wait()
            finally:
                await self.stop_scan(scanner)
        return self.seen[address]

    def _heard(self, advertisement: Advertisement) -> None:
        self.seen[plain(advertisement.address)] = advertisement.address
        self._sighted.set()
        for scanner in tuple(self._scanners):
            scanner.hear(advertisement)

    def _pairing(self, connection: Connection) -> PairingConfig:
        passkey = self.passkeys.get(plain(connection.peer_address))
        return PairingConfig(sc=True, mitm=True, bonding=True, delegate=_Agent(passkey))


def plain(address: Address) -> str:
    """Return an address as bleak writes it: six bytes in upper case, without a type."""
    return address.to_string(with_type_qualifier=False).upper()
