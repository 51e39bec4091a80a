"""Every measurement, tag and field of the telemetry store, built here and nowhere else (`docs/measurements.md`).

One frame is one point and, in line protocol, one line: it is stored whole or not at all. Permits are fields and never
tags, because every new tag value is a new series for ever: 12,000 instruments are 12,000 series. A column name can be
turned back into its channel without a table: the gases (`O2`, `H2S`) are upper case and carry no underscore, everything
else (`fan_a`, `battery_percent`) is lower case and carries one.
"""

import re
from functools import lru_cache

import msgspec

from manway.entities import Frame, Reading
from manway.ids import Status

GAS = "gas"
STATUSES = tuple(Status)  # a status is stored as its place in this order (`locks.md` §5), so OK is 0
STATUS_PREFIX = "q_"

U32_END = 1 << 32  # boot and sequence are 32 bits on every wire, and the embedded store packs them so
TS_END_MS = 4_102_444_800_000  # 2100-01-01: later than any honest clock, earlier than 64 bits of nanoseconds
VALUE_LIMIT = 3.4e38  # the largest single-precision number is 3.403e38: a value must not become infinite in a chunk

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # holds nothing line protocol or InfluxQL would need to escape
_CHANNEL = re.compile(r"[A-Z][A-Z0-9]{0,15}|(?!q_)[a-z][a-z0-9]*(?:_[a-z0-9]+)+")


class Column(msgspec.Struct, frozen=True):
    """One row of the registry: measurement, the column's name, its role (`tag`, `field` or `time`), type and meaning."""

    measurement: str
    name: str
    role: str
    type: str
    meaning: str


COLUMNS = (
    Column(GAS, "inst", "tag", "string", "device name of the instrument"),
    Column(GAS, "space", "tag", "string", "the space the instrument worked in"),
    Column(GAS, "{channel}", "field", "float", "value in the channel's unit; only when ok"),
    Column(GAS, "q_{channel}", "field", "int", "status code, only when not ok: 1 warmup … 7 poison"),
    Column(GAS, "b", "field", "int", "boot id of the device"),
    Column(GAS, "s", "field", "int", "sequence number within the boot"),
    Column(GAS, "rx", "field", "int", "receive time of the gateway, ms since 1970"),
    Column(GAS, "permit", "field", "string", "the permit under which the space was open; absent when there was none"),
    Column(GAS, "time", "time", "ms", "`Frame.ts`"),
)
_RESERVED = frozenset(column.name for column in COLUMNS)


def field_of(channel: str) -> str:
    """Return the column of a channel: `H2S` is `h2s`, `fan_a` stays.

    Raises:
        ValueError: not a channel name, or one whose column has another meaning.
    """
    field = channel.lower()
    if not _CHANNEL.fullmatch(channel) or field in _RESERVED:
        message = f"not a channel name: {channel[:40]!r}"
        raise ValueError(message)
    return field


def channel_of(field: str) -> str:
    """Return the channel of a column, the reverse of `field_of`."""
    return field if "_" in field else field.upper()


def status_field(channel: str) -> str:
    """Return the column that holds a channel's status code; raises ValueError as `field_of` does."""
    return STATUS_PREFIX + field_of(channel)


def status_code(status: Status) -> int:
    """Return the stored number: 0 ok, 1 warmup, 2 over, 3 under, 4 fault, 5 pump, 6 invalid, 7 poison."""
    return STATUSES.index(status)


def checked_id(name: str) -> str:
    """Return `name` when it is safe inside a line, a query and a file; raises ValueError otherwise."""
    if not _ID.fullmatch(name):
        message = f"not an id: {name[:40]!r}"
        raise ValueError(message)
    return name


def check_frame(frame: Frame, *, space: str, permit: str) -> None:
    """Let pass what every telemetry store can keep, so that one store never refuses what another takes.

    Raises:
        ValueError: an id or channel outside its pattern; boot or sequence outside 32 bits; a time outside 1970-2100; a
            value that single precision cannot hold.
    """
    for name in (frame.device, space, *([permit] if permit else [])):
        checked_id(name)
    if not (0 <= frame.boot < U32_END and 0 <= frame.seq < U32_END):
        message = f"boot or sequence outside 32 bits: {frame.boot}, {frame.seq}"
        raise ValueError(message)
    if not (0 <= frame.ts < TS_END_MS and 0 <= frame.received_at < TS_END_MS / 1000):
        message = f"time outside 1970-2100: {frame.ts} ms, received {frame.received_at}"
        raise ValueError(message)
    for channel, reading in frame.readings.items():
        field_of(channel)
        if reading.value is not None and not abs(reading.value) <= VALUE_LIMIT:
            message = f"{channel} outside single precision: {reading.value}"
            raise ValueError(message)


def received_ms(frame: Frame) -> int:
    """Return the gateway's receive time as it is stored, whole milliseconds since 1970."""
    return round(frame.received_at * 1000.0)


def gas_line(frame: Frame, *, space: str, permit: str = "") -> bytes:
    """Return the frame as one line of line protocol without its newline, time in milliseconds.

    A channel that is not ok has its status code and no number. Raises ValueError as `check_frame` does.
    """
    check_frame(frame, space=space, permit=permit)
    fields = [_field(channel, reading) for channel, reading in frame.readings.items()]
    fields.append(f"b={frame.boot}i,s={frame.seq}i,rx={received_ms(frame)}i")
    if permit:
        fields.append(f'permit="{permit}"')
    return f"{_prefix(frame.device, space)}{','.join(fields)} {frame.ts}".encode()


def _field(channel: str, reading: Reading) -> str:
    if reading.value is None:
        return f"{status_field(channel)}={status_code(reading.status)}i"
    return f"{field_of(channel)}={float(reading.value)!r}"  # always a float: an integer would fix the column's type


@lru_cache(maxsize=16_384)  # the instruments of a city; formatting the tags is a third of a line's cost
def _prefix(device: str, space: str) -> str:
    return f"{GAS},inst={device},space={space} "
