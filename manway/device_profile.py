"""Instruments of other makers: a device profile says where in a device's bytes each reading stands (`docs/profiles.md`).

A vendor is one TOML file of offsets, formats, scales and statuses; there is no expression in it and no code behind it. What
comes out are the readings of Manway's own instruments: a channel, a status, and a number in the channel's unit only when the
status is ok. `profile_rules` reads and checks the files; here they are applied.
"""

import math
import struct
from fnmatch import fnmatchcase

import msgspec

from manway.codec_gas import ReadingFlag
from manway.entities import Frame, Reading
from manway.errors import DecodeRejected
from manway.ids import Status
from manway.profile_rows import Field, Format, Match, Place, ProfileFile, Sign, SignBit, SourceRow, StatusBit

# (choice) Beyond any sensor: it takes what binary fractions add, so that 209 x 0.1 is 20.9.
DECIMALS = 6
_UUID_BASE = "0000{}-0000-1000-8000-00805f9b34fb"  # what a short UUID stands for (Core specification, Vol 3 Part B 2.5.1)
_SHORT_UUID = 4
_FLAGS = {
    Sign.A1: ReadingFlag.A1,
    Sign.A2: ReadingFlag.A2,
    Sign.FAULT: ReadingFlag.FAULT,
    Sign.WARMUP: ReadingFlag.WARMUP,
    Sign.DUE: ReadingFlag.CALIBRATION_DUE,
    Sign.PUMP: ReadingFlag.PUMP_FAULT,
}


class Measure(msgspec.Struct, frozen=True):
    """A field with its number's way into the channel's unit, and the bits that speak for it."""

    row: Field
    factor: float
    shift: float
    bits: list[StatusBit]


class Source(msgspec.Struct, frozen=True):
    """A source made ready: its row, its channels, and the size of each tagged object (0: a length goes before)."""

    row: SourceRow
    measures: list[Measure]
    sizes: dict[int, int]


class DeviceProfile(msgspec.Struct, frozen=True):
    """A profile that was checked. `hash` is that of its file: it says by which rule a number was made."""

    file: ProfileFile
    sources: dict[str, Source]
    hash: str

    @property
    def id(self) -> str:
        """The name under which an instrument's entry refers to it."""
        return self.file.id


class Heard(msgspec.Struct, frozen=True):
    """An advertisement as a radio hands it over: full UUIDs in lower case, company id -> data."""

    local_name: str = ""
    service_uuids: list[str] = []
    service_data: dict[str, bytes] = {}
    manufacturer_data: dict[int, bytes] = {}


class Decoded(msgspec.Struct, frozen=True):
    """What one message of a device says. `counter` is the device's own number of it, None where it has none."""

    readings: dict[str, Reading]
    signs: dict[Sign, str]
    counter: int | None = None

    @property
    def flags(self) -> ReadingFlag:
        """The signs that Manway's own instruments have a flag for."""
        return ReadingFlag(sum(_FLAGS[sign] for sign in self.signs if sign in _FLAGS))

    def frame(self, device: str, boot: int, seq: int, received_at: float) -> Frame:
        """Return the readings as a frame; these devices have no clock, so its time is the gateway's (Unix seconds)."""
        return Frame(device, boot, seq, round(received_at * 1000), received_at, self.readings)


def decode(profile: DeviceProfile, source: str, data: bytes) -> Decoded:
    """Return what `data`, heard from a profile's `source`, says.

    Raises:
        DecodeRejected: another source, length or constant than the profile's; objects that do not end where the data do.
    """
    known = profile.sources.get(source)
    if known is None:
        raise DecodeRejected(profile.id, f"it has no source {source[:32]!r}, only {', '.join(profile.sources)}")
    _require_form(profile.id, known.row, data)
    places = _places(profile, known, data)
    readings: dict[str, Reading] = {}
    for measure in known.measures:
        for at in _positions(measure.row, places):
            said = _reading(measure, data, at)
            readings[measure.row.channel] = _worse(measure.row.channel, readings.get(measure.row.channel), said)
    signs = {row.sign: row.channel for row in known.row.signs for at in _positions(row, places) if _tells(row, data, at)}
    counter = known.row.counter
    numbers = [int(read(counter.fmt, data, at)) for at in _positions(counter, places)] if counter else []
    return Decoded(readings, signs, numbers[0] if numbers else None)


def heard(profile: DeviceProfile, advertisement: Heard) -> list[tuple[str, bytes]]:
    """Return the sources of a profile that an advertisement carries, with their bytes."""
    found = []
    for name, source in profile.sources.items():
        row = source.row
        data = advertisement.service_data.get(full_uuid(row.uuid)) if row.via == "service_data" else None
        if row.via == "manufacturer_data" and row.company is not None:
            data = advertisement.manufacturer_data.get(row.company)
        if data is not None:
            found.append((name, data))
    return found


def find(profiles: list[DeviceProfile], advertisement: Heard) -> DeviceProfile | None:
    """Return the one profile that fits a device heard for the first time; None where none or more than one does."""
    fitting = [p for p in profiles if any(_fits(match, advertisement) for match in p.file.match)]
    return fitting[0] if len(fitting) == 1 else None


def full_uuid(uuid: str) -> str:
    """Return a UUID as radios hand it over: 36 characters, lower case, a 16-bit one made whole."""
    return _UUID_BASE.format(uuid.lower()) if len(uuid) == _SHORT_UUID else uuid.lower()


def size_of(fmt: Format) -> int:
    """Return how many bytes a number of this format takes."""
    return 3 if fmt.endswith("24") else struct.calcsize(fmt)


def read(fmt: Format, data: bytes, at: int) -> float:
    """Return the number that stands at a byte; the caller has checked that it is there."""
    if fmt.endswith("24"):
        return int.from_bytes(data[at : at + 3], "little" if fmt[0] == "<" else "big", signed=fmt[1] == "i")
    number: float = struct.unpack_from(fmt, data, at)[0]
    return number


def _fits(match: Match, advertisement: Heard) -> bool:
    uuid, prefix = full_uuid(match.service_uuid), bytes.fromhex(match.data_prefix)
    by_company = advertisement.manufacturer_data.get(match.company) if match.company is not None else None
    carried = by_company if match.company is not None else advertisement.service_data.get(uuid)
    return (
        (not match.service_uuid or uuid in advertisement.service_uuids or uuid in advertisement.service_data)
        and (not match.local_name or fnmatchcase(advertisement.local_name, match.local_name))
        and (match.company is None or by_company is not None)
        and (not prefix or (carried is not None and carried.startswith(prefix)))
    )


def _require_form(profile: str, row: SourceRow, data: bytes) -> None:
    if row.objects is None and len(data) != row.length:
        raise DecodeRejected(profile, f"{row.name}: {len(data)} bytes, not {row.length}: check the device's model and firmware")
    for constant in row.constants:
        if len(data) <= constant.at or data[constant.at] & constant.mask != constant.value:
            raise DecodeRejected(profile, f"{row.name}: byte {constant.at} is not {constant.value:#04x}: {constant.otherwise}")


def _places(profile: DeviceProfile, source: Source, data: bytes) -> dict[int, list[int]]:
    """Return where the value of each tagged object begins; nothing where fields stand at fixed bytes."""
    places: dict[int, list[int]] = {}
    at = source.row.objects.at if source.row.objects is not None else len(data)
    while at < len(data):
        size = source.sizes.get(data[at])
        if size is None:  # nothing behind it can be read; what stands before it may still raise an alarm
            if profile.file.raises_only and places:
                break
            raise DecodeRejected(profile.id, f"{source.row.name}: object {data[at]:#04x} is not in the profile")
        start = at + 1
        if size == 0:
            size, start = data[start] if start < len(data) else len(data), start + 1
        if start + size > len(data):
            raise DecodeRejected(profile.id, f"{source.row.name}: object {data[at]:#04x} is cut short")
        places.setdefault(data[at], []).append(start)
        at = start + size
    return places


def _positions(row: Field | SignBit | Place, places: dict[int, list[int]]) -> list[int]:
    return [row.at] if row.at is not None else places.get(row.object_id or 0, [])


def _tells(row: SignBit, data: bytes, at: int) -> bool:
    return data[at] & row.mask != row.quiet


def _worse(channel: str, one: Reading | None, other: Reading) -> Reading:
    """Return the reading of the two that is nearer to danger; a device may measure one thing twice."""
    if one is None or one.value is None or other.value is None:
        return other if one is None or other.value is None else one
    nearer = min if channel == "O2" else max
    return Reading(Status.OK, nearer(one.value, other.value))


def _reading(measure: Measure, data: bytes, at: int) -> Reading:
    raw = read(measure.row.fmt, data, at)
    status = _status(measure, data, raw)
    if status is not Status.OK:
        return Reading(status)
    row = measure.row
    value = raw * row.scale + row.offset
    if row.least is not None and value < row.least:
        return Reading(Status.UNDER)
    if row.most is not None and value > row.most:
        return Reading(Status.OVER)
    return Reading(Status.OK, round(value * measure.factor + measure.shift, DECIMALS))


def _status(measure: Measure, data: bytes, raw: float) -> Status:
    """Return what the device says of a number, before the number is looked at."""
    row = measure.row
    for bit in measure.bits:
        if data[bit.at] & bit.mask:
            return bit.status
    if row.status is not None:
        code = int(read(row.status.fmt, data, row.status.at)) & row.status.mask
        said = row.status.codes.get(str(code), Status.FAULT)
        if said is not Status.OK:
            return said
    if not math.isfinite(raw):
        return Status.FAULT
    return row.invalid.get(str(int(raw)), Status.OK)
