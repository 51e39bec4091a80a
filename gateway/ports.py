"""What a gateway needs from its site, as protocols: siren and beacon, and the Bluetooth adapters it hears its devices with."""

from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import Protocol, Self, runtime_checkable

import msgspec

from manway.errors import RemoteError
from manway.events import Event


class LocalOutput(Protocol):
    """Siren and beacon of a site."""

    def show(self, event: Event) -> None:
        """React to an event at once; must neither block nor raise."""
        ...


class RadioFailed(RemoteError):
    """A radio call that did not come about; `kind`, one of `manway.measurements.RADIO_ERRORS`, is what it is counted as."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return any error as one that is counted: not every error of the libraries below is one that was foreseen."""
        return error if isinstance(error, cls) else cls("other", f"{type(error).__name__}: {error}"[:200])


class Sighting(msgspec.Struct, frozen=True, gc=False):
    """One advertisement as an adapter heard it: address in upper case, RSSI in dBm, UUIDs in lower case."""

    address: str
    rssi: int
    service_data: dict[str, bytes] = {}
    manufacturer_data: dict[int, bytes] = {}


class Link(Protocol):
    """A connection to one device. Every call ends within its time or raises RadioFailed, after which it is to be dropped."""

    @property
    def lost(self) -> bool:
        """True when the connection has ended, whoever ended it."""
        ...

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call this at the end of the connection, at once where it has ended already; must neither block nor raise."""
        ...

    async def read(self, characteristic: str) -> bytes:
        """Return the whole value of a characteristic, by its UUID."""
        ...

    async def write(self, characteristic: str, data: bytes) -> None:
        """Write with a response."""
        ...

    async def subscribe(self, characteristic: str, heard: Callable[[bytes], None]) -> None:
        """Hear what a characteristic notifies or indicates; `heard` must neither block nor raise."""
        ...

    async def disconnect(self) -> None:
        """End the connection; returns within its time whatever happens, and never raises."""
        ...


class Radio(Protocol):
    """One Bluetooth adapter: scans, and connects to what it has seen. Every call ends within its time or raises RadioFailed."""

    name: str

    async def scan(self, seen: Callable[[Sighting], None]) -> None:
        """Start scanning, for good; `seen` is told of every advertisement, and must neither block nor raise."""
        ...

    async def stop(self) -> None:
        """Stop scanning; one that has stopped already is no error."""
        ...

    async def connect(self, address: str) -> Link:
        """Connect to a device that a scan has seen; one call at a time."""
        ...


class AdapterNews(Enum):
    """What becomes known of an adapter without asking it."""

    POWERED = "powered"
    UNPOWERED = "unpowered"
    PRESENT = "present"
    ABSENT = "absent"
    DAEMON_UP = "daemon_up"
    DAEMON_DOWN = "daemon_down"


class AdapterControl(Protocol):
    """What can be done to one adapter beside its radio. Every call ends within its time and raises RadioFailed."""

    can_reset_usb: bool
    """True where a helper with the right to do so is configured."""
    can_restart_daemon: bool
    """True where this installation lets the gateway restart the Bluetooth service."""

    async def power_cycle(self) -> None:
        """Switch the adapter off and on; returns when it is on."""
        ...

    async def reset_usb(self) -> None:
        """Reset the adapter's USB port."""
        ...

    async def restart_daemon(self) -> None:
        """Restart the Bluetooth service; returns when it answers."""
        ...

    async def pair(self, address: str, passkey: int) -> None:
        """Pair with a device that was seen, with the passkey printed inside it, and keep the bond."""
        ...

    def watch(self) -> AsyncIterator[AdapterNews]:
        """Yield what becomes known, for ever."""
        ...


@runtime_checkable
class RescueWire(Protocol):
    """A bus that knows what a rescue is: it keeps nobody's turn before it, and says what it could not bring."""

    async def rescue(self, topic: str, payload: bytes, *, unbrought: Callable[[bytes], None]) -> None:
        """Publish a message of a rescue; `unbrought` is told of a grant that went nowhere, and must neither block nor raise."""
        ...
