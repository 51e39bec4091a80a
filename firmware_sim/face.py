"""What a device shows over Bluetooth, as tables and bytes (`locks.md` §4, §5): no radio here, and no clock.

`ble.py` puts a face on the air. Each Bluetooth connection is a *link* of the device model, by name.
"""

from typing import Protocol

import msgspec

from firmware_sim.lock_memory import Publish
from manway import codec_ble, gatt

ATT_HEAD = 3  # bytes of a packet before the value of a write, notification or indication
RESULT_MTU = 162  # below it a signed result of 159 bytes does not fit an indication
LONGEST_GRANT = 244  # a voucher's presentation, the longest message (`locks.md` §1.1)
LONGEST_WRITE = 512  # any attribute, Core Specification Vol 3, Part F, 3.2.9
_ANSWERS = ("hello", "result", "log", "logctl", "enrol")
_HALF_RECORD = codec_ble.RECORD_BYTES // 2  # at MTU 23 a record goes in two


class Row(msgspec.Struct, frozen=True):
    """One characteristic: what may be done with it, whether only over an encrypted link, and the longest write."""

    uuid: str
    can: frozenset[str]
    encrypted: bool = False
    longest: int = LONGEST_WRITE

    @property
    def name(self) -> str:
        """The message that travels in it; in another maker's it is its UUID."""
        return gatt.CHARACTERISTIC_NAMES.get(self.uuid, self.uuid)


def _row(uuid: str, can: str, *, encrypted: bool = False, longest: int = LONGEST_WRITE) -> Row:
    return Row(uuid, frozenset(can.split()), encrypted, longest)


LOCK_ROWS = (
    _row(gatt.STATE, "read indicate"),
    _row(gatt.HELLO, "write read"),
    _row(gatt.GRANT, "write", longest=LONGEST_GRANT),
    _row(gatt.RESULT, "indicate read"),
    _row(gatt.LOG_CONTROL, "write indicate"),
    _row(gatt.LOG_DATA, "notify", encrypted=True),
    _row(gatt.ENROL, "read write", encrypted=True),
    _row(gatt.FIRMWARE, "write", encrypted=True),
    _row(gatt.INFO, "read"),
)
GAS_ROWS = (
    _row(gatt.READING, "notify read"),
    _row(gatt.INSTRUMENT, "read indicate"),
    _row(gatt.SETPOINTS, "read"),
)


class Face(Protocol):
    """A device model as the radio needs it."""

    @property
    def service(self) -> str:
        """The UUID of its service."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """The characteristics of its service."""
        ...

    def information(self) -> dict[int, bytes]:
        """Return the values of the Device Information service by their 16-bit UUIDs."""
        ...

    def battery(self, now: float) -> int:
        """Return the charge, 0-100 %."""
        ...

    def advertisement(self, now: float) -> bytes:
        """Return the whole advertisement, at most 31 bytes."""
        ...

    def take(self, name: str, value: bytes, now: float, link: str) -> list[Publish]:
        """Take what a link wrote; return what the device says to it."""
        ...

    def read(self, name: str, now: float, link: str) -> bytes:
        """Return what a link reads."""
        ...

    def keep(self, message: Publish) -> None:
        """Remember what was said, for those who read it afterwards."""
        ...

    def advance(self, now: float) -> list[Publish]:
        """Run what is due."""
        ...

    def next_deadline(self) -> float | None:
        """Return when `advance` has something to do."""
        ...

    def link_made(self, now: float, link: str) -> None:
        """Note a new link."""
        ...

    def link_lost(self, now: float, link: str) -> list[Publish]:
        """Forget a link that has ended."""
        ...

    def links_to_drop(self, now: float) -> list[str]:
        """Return the links that are in somebody's way."""
        ...


def packets(message: Publish, mtu: int) -> list[bytes]:
    """Cut a message into what one notification or indication of this MTU carries.

    A log goes in whole records, below MTU 43 in halves. Anything else that is too long goes as its beginning: who hears an
    indication as long as a packet knows that there is more, and reads it.
    """
    room = mtu - ATT_HEAD
    if message.name != "log":
        return [message.payload[:room]]
    records = room // codec_ble.RECORD_BYTES
    step = records * codec_ble.RECORD_BYTES if records else _HALF_RECORD
    return [message.payload[at : at + step] for at in range(0, len(message.payload), step)]


def hears(link: str, message: Publish) -> bool:
    """Return whether a message is for a link: the answer to it, or what is for whoever listens."""
    return message.link == link or (message.link == "" and message.name not in _ANSWERS)
