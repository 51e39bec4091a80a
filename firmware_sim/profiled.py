"""A simulated device of any maker, made from nothing but its profile: the bytes it would send; no I/O and no clock.

It is the profile read backwards, so what it sends proves the gateway's reading of the profile and not the profile itself:
that the offsets are the maker's, only the vectors of the maker's sheet prove.
"""

import struct
from collections.abc import Iterable
from typing import Literal

from firmware_sim.world import Air
from manway.device_profile import DeviceProfile, Measure, Source, full_uuid, size_of
from manway.entities import Reading
from manway.ids import Status
from manway.profile_rows import BROADCAST, FLOATS, Format, Place, Sign, SignBit, SourceRow

# What a sensor shows that no air of the simulator moves.
_ELSEWHERE = {"temperature_c": 18.0, "humidity_percent": 60.0, "pressure_hpa": 1013.0, "battery_percent": 86.0}
_FLAGS = b"\x02\x01\x06"  # general discoverable, no BR/EDR
_SERVICE_DATA_16, _SERVICE_DATA_128, _MANUFACTURER_DATA = 0x16, 0x21, 0xFF
_SHORT_UUID = 4


class ProfiledInstrument:
    """One such device in one space. `faults` are statuses by channel, `signs` what else it says; every message is numbered."""

    def __init__(self, profile: DeviceProfile, air: Air) -> None:
        self.profile, self.air = profile, air
        self.faults: dict[str, Status] = {}
        self.signs: set[Sign] = set()
        self._sent = 0

    @property
    def characteristics(self) -> dict[str, str]:
        """The full UUIDs of what can be read or heard on a connection, and by which of `notify`, `indicate`, `read`."""
        rows = [source.row for source in self.profile.sources.values()]
        return {full_uuid(row.uuid): row.via for row in rows if row.via not in BROADCAST}

    def value(self, uuid: str) -> bytes:
        """Return the bytes of a characteristic now; what is notified is numbered on."""
        row = next(
            s.row for s in self.profile.sources.values() if full_uuid(s.row.uuid) == uuid and s.row.via != "service_data"
        )
        return self.message(row.name)

    def advertising_data(self) -> bytes:
        """Return the whole advertisement: flags, then what each broadcast source has to say."""
        fields = (_advertised(s.row, self.message(name)) for name, s in self.profile.sources.items())
        return _FLAGS + b"".join(bytes([len(field)]) + field for field in fields if field)

    def message(self, source: str) -> bytes:
        """Return the next message of a source, of the present air."""
        self._sent += 1
        known = self.profile.sources[source]
        readings = {measure.row.channel: self._reading(measure) for measure in known.measures}
        return encode(known, readings, self.signs, self._sent)

    def _reading(self, measure: Measure) -> Reading:
        channel = measure.row.channel
        status = self.faults.get(channel, Status.OK)
        if status is not Status.OK:
            return Reading(status)
        return Reading(Status.OK, {**_ELSEWHERE, **self.air.concentration}.get(channel, 0.0))


def encode(source: Source, readings: dict[str, Reading], signs: Iterable[Sign], counter: int) -> bytes:
    """Return the bytes of a source that `device_profile.decode` reads so; a channel without a reading is left out or zero.

    Raises:
        ValueError: the device has no way to say a status or a sign, or a number does not fit its format.
    """
    row = source.row
    message = _Message(source)
    for constant in row.constants:
        message.put(constant.at, constant.mask, constant.value)
    left = dict(readings)  # a channel that has two objects is said in the first of them
    for measure in source.measures:
        if measure.row.channel in left:
            _say(message, measure, left.pop(measure.row.channel))
    for sign in row.signs:
        _say_sign(message, sign, says=sign.sign in signs)
    if row.counter is not None:
        message.number(row.counter, row.counter.fmt, counter % (1 << 8 * size_of(row.counter.fmt)))
    if lost := sorted(sign.value for sign in signs if sign not in {bit.sign for bit in row.signs}):
        reason = f"{row.name} has no way to say {', '.join(lost)}"
        raise ValueError(reason)
    return message.whole()


class _Message:
    """Bytes under way: at fixed places, or as tagged objects in rising order of their ids."""

    def __init__(self, source: Source) -> None:
        objects = source.row.objects
        self._bytes = bytearray(source.row.length if objects is None else objects.at)
        self._objects: dict[int, bytes] = {}

    def put(self, at: int, mask: int, value: int) -> None:
        self._bytes[at] = self._bytes[at] & ~mask & 0xFF | value

    def number(self, place: Place, fmt: Format, value: float) -> None:
        packed = _packed(fmt, value)
        if place.at is not None:
            self._bytes[place.at : place.at + len(packed)] = packed
        else:
            self._objects.setdefault(place.object_id or 0, packed)

    def bits(self, at: int, fmt: Format, mask: int, value: int) -> None:
        size = size_of(fmt)
        order: Literal["big", "little"] = "big" if fmt[0] == ">" else "little"
        was = int.from_bytes(self._bytes[at : at + size], order)
        self._bytes[at : at + size] = (was & ~mask | value).to_bytes(size, order)

    def whole(self) -> bytes:
        return bytes(self._bytes) + b"".join(bytes([name]) + self._objects[name] for name in sorted(self._objects))


def _packed(fmt: Format, value: float) -> bytes:
    try:
        if fmt.endswith("24"):
            return round(value).to_bytes(3, "little" if fmt[0] == "<" else "big", signed=fmt[1] == "i")
        return struct.pack(fmt, value if fmt in FLOATS else round(value))
    except (struct.error, OverflowError) as error:
        message = f"{value} does not fit {fmt}"
        raise ValueError(message) from error


def _say(message: _Message, measure: Measure, reading: Reading) -> None:
    row = measure.row
    place = Place(row.fmt, row.at, row.object_id)
    if reading.value is not None:
        said = (reading.value - measure.shift) / measure.factor
        message.number(place, row.fmt, (said - row.offset) / row.scale)
        _say_code(message, measure, Status.OK)
        return
    bit = next((bit for bit in measure.bits if bit.status is reading.status), None)
    raw = next((int(raw) for raw, status in row.invalid.items() if status is reading.status), None)
    if bit is not None:
        message.put(bit.at, bit.mask, bit.mask)
    elif raw is not None:
        message.number(place, row.fmt, raw)
    elif not _say_code(message, measure, reading.status):
        message.number(place, row.fmt, _outside(measure, reading.status))


def _say_code(message: _Message, measure: Measure, status: Status) -> bool:
    code = measure.row.status
    raw = next((raw for raw, said in code.codes.items() if said is status), None) if code is not None else None
    if code is None or raw is None:
        return False
    message.bits(code.at, code.fmt, code.mask, int(raw))
    return True


def _outside(measure: Measure, status: Status) -> float:
    """Return a raw number beyond the range, where that is how this device says over or under."""
    row = measure.row
    bound = {Status.OVER: row.most, Status.UNDER: row.least}.get(status)
    if bound is None:
        message = f"{row.channel} has no way to say {status.value}"
        raise ValueError(message)
    step = 1 if (status is Status.OVER) == (row.scale > 0) else -1
    return round((bound - row.offset) / row.scale) + step


def _say_sign(message: _Message, row: SignBit, *, says: bool) -> None:
    value = row.quiet if not says else 0 if row.quiet else row.mask & -row.mask
    if row.at is not None:
        message.put(row.at, row.mask, value)
    elif says:
        message.number(Place("B", None, row.object_id), "B", value)


def _advertised(row: SourceRow, data: bytes) -> bytes:
    """Return a field of an advertisement, "" for what is heard on a connection only."""
    if row.via == "manufacturer_data" and row.company is not None:
        return bytes([_MANUFACTURER_DATA]) + row.company.to_bytes(2, "little") + data
    if row.via == "service_data" and len(row.uuid) == _SHORT_UUID:
        return bytes([_SERVICE_DATA_16]) + bytes.fromhex(row.uuid)[::-1] + data
    if row.via == "service_data":
        return bytes([_SERVICE_DATA_128]) + bytes.fromhex(row.uuid.replace("-", ""))[::-1] + data
    return b""
