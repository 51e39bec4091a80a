"""Bytes <-> what locks and instruments broadcast to whoever listens (`locks.md` §5).

Ten bytes of service data in 31 of an advertisement, with 4 bytes of mac under a key the plan gives the gateway. An
advertisement may raise an alarm, never clears one and never opens anything; the same sequence number again is no sign of life.
"""

import enum
import hmac
import struct

import msgspec

from manway.channels import CHANNELS, channel_code
from manway.entities import Bolt, Door
from manway.errors import DecodeRejected
from manway.gatt import service_bytes

VERSION = 1
SERVICE_DATA_BYTES = 10
ADVERTISEMENT_BYTES = 31
BATTERY_UNKNOWN = 255
LAST_SESSION = 4  # as of a lock's state: none, the grant's kind, armed

_LOCK_KIND, _INSTRUMENT_KIND = 1, 2
_BODY = struct.Struct("<BBBBH")
_MAC_BYTES = 4
_KEY_LABEL = b"manway-adv-v1"
# Flags 06 and nothing else: general discoverable, no BR/EDR; BlueZ monitors match 02, 06 and 1A only.
_FLAGS = bytes([0x02, 0x01, 0x06])
_SERVICE_DATA_128 = 0x21

_DOOR_SHIFT = 3
_BOLT_MASK, _DOOR_MASK, _LEVEL_MASK = 0x07, 0x03, 0x03
_TAMPERED, _SESSION_OPEN, _ENROLMENT = 0x20, 0x40, 0x80


class Level(enum.IntEnum):
    """The worst an instrument itself says of its air: its own alarms A1 and A2."""

    UNKNOWN = 0
    WITHIN = 1
    A1 = 2
    A2 = 3


class InstrumentFlag(enum.IntFlag):
    """What an instrument broadcasts beside the level of its air; `HELP`: its wearer called, lies still or fell."""

    FAULT = 4
    WARMUP = 8
    HELP = 16
    DUE = 32
    PUMP = 64


class LockAdvertisement(msgspec.Struct, frozen=True):
    """What a lock broadcasts. `tampered`: case opened, forced or seal broken; `log_seq`: low 16 bits of its newest record."""

    bolt: Bolt
    door: Door
    tampered: bool
    session_open: bool
    enrolment: bool
    session: int
    battery_percent: int
    log_seq: int


class InstrumentAdvertisement(msgspec.Struct, frozen=True):
    """What an instrument broadcasts. `channel` is the worst one, "" when none is; `seq` the low 16 bits of its newest frame."""

    level: Level
    flags: InstrumentFlag
    channel: str
    battery_percent: int
    seq: int


def advertisement_key(device_key: bytes) -> bytes:
    """Return the key under which an instrument broadcasts: the plan gives the gateway this one and never the device key."""
    return hmac.digest(device_key, _KEY_LABEL, "sha256")


def encode_lock_advertisement(said: LockAdvertisement, device_id: bytes, key: bytes) -> bytes:
    """Return the 10 bytes of a lock; `device_id` is its 8-byte lock id."""
    bits = (
        said.bolt
        | said.door << _DOOR_SHIFT
        | (_TAMPERED if said.tampered else 0)
        | (_SESSION_OPEN if said.session_open else 0)
        | (_ENROLMENT if said.enrolment else 0)
    )
    return _sealed(_LOCK_KIND, bits, said.session, said.battery_percent, said.log_seq, device_id, key)


def encode_instrument_advertisement(said: InstrumentAdvertisement, device_id: bytes, key: bytes) -> bytes:
    """Return the 10 bytes of an instrument.

    Raises:
        ValueError: a channel without a code.
    """
    worst = channel_code(said.channel) if said.channel else 0
    return _sealed(_INSTRUMENT_KIND, said.level | said.flags, worst, said.battery_percent, said.seq, device_id, key)


def decode_advertisement(device_id: bytes, key: bytes, data: bytes) -> LockAdvertisement | InstrumentAdvertisement:
    """Read what a device broadcasts, once its mac proves that it is this one's.

    Raises:
        DecodeRejected: another length or version, a mac that is not this device's, a word outside the vocabulary.
    """
    if len(data) != SERVICE_DATA_BYTES:
        raise DecodeRejected("advertisement", f"{len(data)} bytes")
    body, mac = data[: _BODY.size], data[_BODY.size :]
    if not key or not hmac.compare_digest(_mac(device_id, key, body), mac):
        raise DecodeRejected("advertisement", "the mac is not this device's: check the device id and its key in the plan")
    first, bits, third, battery, number = _BODY.unpack(body)
    version, kind = first >> 4, first & 0x0F
    if version != VERSION or kind not in (_LOCK_KIND, _INSTRUMENT_KIND):
        raise DecodeRejected("advertisement", f"version {version}, kind {kind}")
    if battery > 100 and battery != BATTERY_UNKNOWN:  # noqa: PLR2004  percent
        raise DecodeRejected("advertisement", f"battery {battery} %")
    return _lock(bits, third, battery, number) if kind == _LOCK_KIND else _instrument(bits, third, battery, number)


def advertising_data(service: str, service_data: bytes) -> bytes:
    """Return the whole advertisement: flags, then the service's UUID with its data; 31 bytes for our 10."""
    carried = bytes([_SERVICE_DATA_128]) + service_bytes(service) + service_data
    return _FLAGS + bytes([len(carried)]) + carried


def _sealed(kind: int, bits: int, third: int, battery: int, number: int, device_id: bytes, key: bytes) -> bytes:
    body = _BODY.pack(VERSION << 4 | kind, bits, third, battery, number & 0xFFFF)
    return body + _mac(device_id, key, body)


def _mac(device_id: bytes, key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, device_id + body, "sha256")[:_MAC_BYTES]


def _lock(bits: int, session: int, battery: int, log_seq: int) -> LockAdvertisement:
    try:
        bolt, door = Bolt(bits & _BOLT_MASK), Door(bits >> _DOOR_SHIFT & _DOOR_MASK)
    except ValueError as error:
        raise DecodeRejected("advertisement", str(error)) from error
    if session > LAST_SESSION:
        raise DecodeRejected("advertisement", f"session {session}")
    tampered, session_open, enrolment = (bool(bits & mask) for mask in (_TAMPERED, _SESSION_OPEN, _ENROLMENT))
    return LockAdvertisement(bolt, door, tampered, session_open, enrolment, session, battery, log_seq)


def _instrument(bits: int, worst: int, battery: int, seq: int) -> InstrumentAdvertisement:
    if worst and worst not in CHANNELS:
        raise DecodeRejected("advertisement", f"channel {worst} is not in the table")
    name = CHANNELS[worst][0] if worst else ""
    flags = InstrumentFlag(bits & ~_LEVEL_MASK & 0x7F)
    return InstrumentAdvertisement(Level(bits & _LEVEL_MASK), flags, name, battery, seq)
