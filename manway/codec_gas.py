"""Bytes <-> what a gas instrument says: readings, itself, its set-points (`locks.md` §4, §5, §6).

Little-endian, no padding, exact length; the same bytes travel over BLE and MQTT. A channel that is not ok carries -32768 and
no number. Whatever is not exactly one of these structures raises `DecodeRejected`.
"""

import enum
import hmac
import struct

import msgspec

from manway.channels import NO_VALUE, channel_code, channel_name, number, scaled
from manway.entities import Reading
from manway.errors import rejecting, require
from manway.ids import Status

VERSION = 1
MOST_CHANNELS = 12  # 71 bytes: one notification at MTU 74, and behind it still the mac
MAC_BYTES = 8
KEY_BYTES = 32
TICK_MODULO = 1 << 24  # ticks of 100 ms: 19 days and 10 hours
BATTERY_UNKNOWN = 255

_MAC_LABEL = b"manway-gas-v1"
_LEAST_BYTES = 11
_HEAD = struct.Struct("<BBHI")
_TICK_BYTES = 3
_CHANNEL = struct.Struct("<BBhb")
_INSTRUMENT = struct.Struct("<B8sH4sIIIHBB")
_SENSOR = struct.Struct("<BBhbHB")
_SET_POINT = struct.Struct("<BBBhb")
_STATUSES = tuple(Status)
_STATUS_CODES = {status.value: code for code, status in enumerate(_STATUSES)}


class ReadingFlag(enum.IntFlag):
    """Flags of a reading: what the instrument itself alarms or misses."""

    A1 = 1
    A2 = 2
    FAULT = 4
    WARMUP = 8
    CALIBRATION_DUE = 16
    PUMP_FAULT = 32
    BUMP_OVERDUE = 64
    MAC_PRESENT = 128


class GasReading(msgspec.Struct, frozen=True):
    """All channels of one instant. `tick` is 100 ms since boot modulo 2**24; `mac` is b"" when the instrument signs nothing."""

    boot: int
    seq: int
    tick: int
    flags: ReadingFlag
    channels: dict[str, Reading]
    mac: bytes = b""


class SensorKind(enum.IntEnum):
    """How a sensor measures: electrochemical, catalytic, infrared, photo-ionisation."""

    EC = 1
    PELLISTOR = 2
    IR = 3
    PID = 4


class Sensor(msgspec.Struct, frozen=True):
    """One sensor of an instrument: full scale in its unit, % vol that 100 % LEL stands for (0 = none), T90 in seconds."""

    channel: str
    kind: SensorKind
    full_scale: float
    lel_base_vol: float
    t90_s: int


class InstrumentReport(msgspec.Struct, frozen=True):
    """What an instrument says of itself. Times are Unix seconds, 0 = unknown; `battery_percent` 255 = unknown."""

    device_id: bytes
    boot: int
    firmware: tuple[int, int, int, int]
    bump_at: int
    bump_due: int
    calibration_due: int
    warmup_s: int
    battery_percent: int
    sensors: tuple[Sensor, ...]


class SetPointKind(enum.IntEnum):
    """Which of an instrument's own alarms."""

    LOW = 1
    HIGH = 2
    STEL = 3
    TWA = 4


class SetPoint(msgspec.Struct, frozen=True):
    """One alarm of the instrument itself, in the channel's unit; disabled or 0 is a missing alarm (`domain.md` §6.4)."""

    channel: str
    kind: SetPointKind
    enabled: bool
    value: float


# -- reading ----------------------------------------------------------------------------------------------------------


def encode_reading(reading: GasReading) -> bytes:
    """Return the 11 + 5n bytes of a reading, with the mac behind them when it has one.

    Raises:
        ValueError: an unknown channel, none or more than twelve, or a number that 16 bits cannot hold.
    """
    count = len(reading.channels)
    require(fact=1 <= count <= MOST_CHANNELS, otherwise=f"{count} channels")
    flags = (reading.flags & ~ReadingFlag.MAC_PRESENT) | (ReadingFlag.MAC_PRESENT if reading.mac else 0)
    head = _HEAD.pack(VERSION << 4 | count, flags, reading.boot, reading.seq)
    body = b"".join(_channel(name, said) for name, said in reading.channels.items())
    return head + (reading.tick % TICK_MODULO).to_bytes(_TICK_BYTES, "little") + body + reading.mac


def _channel(name: str, said: Reading) -> bytes:
    mantissa, exponent = (NO_VALUE, 0) if said.value is None else scaled(said.value)
    return _CHANNEL.pack(channel_code(name), _STATUS_CODES[said.status.value], mantissa, exponent)


def decode_reading(data: bytes) -> GasReading:
    """Read a reading. Its mac is carried along unproven: who holds the key asks `is_authentic`.

    Raises:
        DecodeRejected: not exactly a reading of this version; a channel outside the table or named twice; a status with a
            value it must not have, or ok without one.
    """
    with rejecting("reading"):
        require(fact=len(data) >= _LEAST_BYTES, otherwise=f"{len(data)} bytes")
        first, flags, boot, seq = _HEAD.unpack_from(data)
        version, count = first >> 4, first & 0x0F
        require(fact=version == VERSION, otherwise=f"version {version}")
        require(fact=1 <= count <= MOST_CHANNELS, otherwise=f"{count} channels")
        end = _LEAST_BYTES + _CHANNEL.size * count
        signed = bool(flags & ReadingFlag.MAC_PRESENT)
        right = len(data) == end + (MAC_BYTES if signed else 0)
        require(fact=right, otherwise=f"{len(data)} bytes for {count} channels")
        require(fact=seq >= 1, otherwise="sequence numbers begin with 1")
        channels = dict(_said(*fields) for fields in _CHANNEL.iter_unpack(data[_LEAST_BYTES:end]))
        require(fact=len(channels) == count, otherwise="a channel is named twice")
        tick = int.from_bytes(data[_HEAD.size : _LEAST_BYTES], "little")
        return GasReading(boot, seq, tick, ReadingFlag(flags), channels, data[end:])


def _said(code: int, status: int, mantissa: int, exponent: int) -> tuple[str, Reading]:
    name = channel_name(code)
    require(fact=status < len(_STATUSES), otherwise=f"status {status} of {name}")
    require(fact=(status != 0) == (mantissa == NO_VALUE), otherwise=f"status {status} of {name} with the number {mantissa}")
    value = number(mantissa, exponent)  # of no value too: its exponent must be in range
    return name, Reading(_STATUSES[status], None if status else value)


def mac_of(device_key: bytes, device_id: bytes, unsigned: bytes) -> bytes:
    """Return the 8 bytes that prove a reading; `unsigned` is all of it before them, flag 128 set."""
    return hmac.digest(device_key, _MAC_LABEL + device_id + unsigned, "sha256")[:MAC_BYTES]


def sign_reading(reading: GasReading, device_key: bytes, device_id: bytes) -> bytes:
    """Return a reading's bytes with its mac; raises ValueError as `encode_reading`."""
    unsigned = encode_reading(msgspec.structs.replace(reading, mac=bytes(MAC_BYTES)))[:-MAC_BYTES]
    return unsigned + mac_of(device_key, device_id, unsigned)


def is_authentic(data: bytes, device_key: bytes, device_id: bytes) -> bool:
    """Say whether a reading's bytes, as they came, were signed by this device: only then do they prove anything."""
    if len(data) < _LEAST_BYTES + MAC_BYTES or not data[1] & ReadingFlag.MAC_PRESENT:
        return False
    return hmac.compare_digest(mac_of(device_key, device_id, data[:-MAC_BYTES]), data[-MAC_BYTES:])


# -- instrument and set-points ----------------------------------------------------------------------------------------


def encode_instrument(report: InstrumentReport) -> bytes:
    """Return what an instrument says of itself, 30 + 8n bytes; raises ValueError as `encode_reading`."""
    head = _INSTRUMENT.pack(
        VERSION,
        report.device_id,
        report.boot,
        bytes(report.firmware),
        report.bump_at,
        report.bump_due,
        report.calibration_due,
        report.warmup_s,
        report.battery_percent,
        len(report.sensors),
    )
    return head + b"".join(_sensor(sensor) for sensor in report.sensors)


def _sensor(sensor: Sensor) -> bytes:
    base = round(sensor.lel_base_vol * 100)
    return _SENSOR.pack(channel_code(sensor.channel), sensor.kind, *scaled(sensor.full_scale), base, sensor.t90_s)


def decode_instrument(data: bytes) -> InstrumentReport:
    """Read what an instrument says of itself, or raise `DecodeRejected`."""
    with rejecting("instrument"):
        require(fact=len(data) >= _INSTRUMENT.size, otherwise=f"{len(data)} bytes")
        version, device_id, boot, firmware, *dates, warmup_s, battery, count = _INSTRUMENT.unpack_from(data)
        require(fact=version == VERSION, otherwise=f"version {version}")
        require(fact=battery <= 100 or battery == BATTERY_UNKNOWN, otherwise=f"battery {battery} %")  # noqa: PLR2004  percent
        require(fact=1 <= count <= MOST_CHANNELS, otherwise=f"{count} sensors")
        right = len(data) == _INSTRUMENT.size + _SENSOR.size * count
        require(fact=right, otherwise=f"{len(data)} bytes for {count} sensors")
        sensors = tuple(_sensor_of(*fields) for fields in _SENSOR.iter_unpack(data[_INSTRUMENT.size :]))
        require(fact=len({sensor.channel for sensor in sensors}) == count, otherwise="a channel is named twice")
    bump_at, bump_due, calibration_due = dates
    four = (firmware[0], firmware[1], firmware[2], firmware[3])
    return InstrumentReport(device_id, boot, four, bump_at, bump_due, calibration_due, warmup_s, battery, sensors)


def _sensor_of(code: int, kind: int, mantissa: int, exponent: int, base: int, t90_s: int) -> Sensor:
    full_scale = number(mantissa, exponent)
    require(fact=full_scale > 0, otherwise=f"full scale {full_scale}")
    return Sensor(channel_name(code), SensorKind(kind), full_scale, base / 100, t90_s)


def encode_setpoints(points: tuple[SetPoint, ...]) -> bytes:
    """Return an instrument's own alarms, 1 + 6n bytes; raises ValueError as `encode_reading`."""
    body = b"".join(_SET_POINT.pack(channel_code(p.channel), p.kind, p.enabled, *scaled(p.value)) for p in points)
    return bytes([len(points)]) + body


def decode_setpoints(data: bytes) -> tuple[SetPoint, ...]:
    """Read an instrument's own alarms, or raise `DecodeRejected`."""
    with rejecting("set-points"):
        require(fact=len(data) >= 1, otherwise="no bytes")
        right = len(data) == 1 + _SET_POINT.size * data[0]
        require(fact=right, otherwise=f"{len(data)} bytes for {data[0]} set-points")
        points = tuple(_point(*fields) for fields in _SET_POINT.iter_unpack(data[1:]))
        named = {(point.channel, point.kind) for point in points}
        require(fact=len(named) == len(points), otherwise="an alarm is named twice")
        return points


def _point(code: int, kind: int, enabled: int, mantissa: int, exponent: int) -> SetPoint:
    require(fact=enabled <= 1, otherwise=f"enabled {enabled}")
    require(fact=mantissa != NO_VALUE, otherwise="a set-point without a number")
    return SetPoint(channel_name(code), SetPointKind(kind), bool(enabled), number(mantissa, exponent))
