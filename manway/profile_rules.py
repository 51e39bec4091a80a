"""Reads a device profile's file and lets pass only what can be applied: a wrong profile is refused whole, before any device.

What is wrong is said with the file, the key and what to do. A profile's own vectors must decode as they say, each channel's
with a number and with a status (`profile_vectors`): a vendor's file that nobody has tried is not taken.
"""

import math
import re
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from manway.channels import UNITS
from manway.device_profile import DeviceProfile, Measure, Source, size_of
from manway.errors import ProfileInvalid
from manway.ids import Status
from manway.limit_tables import Gases
from manway.profile_rows import (
    BROADCAST,
    FLOATS,
    Field,
    Place,
    ProfileFile,
    SignBit,
    SourceRow,
    StatusCode,
    insist,
    is_hex,
)
from manway.profile_vectors import require_vectors
from manway.units import conversion

_ID = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*\.v[0-9]+")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_UUID = re.compile(r"[0-9a-f]{4}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST = 244  # one notification at MTU 247
_BYTE = 0xFF
_COMPANIES = 0xFFFF
_ADVERTISE_MS = (20, 10_240)  # the least and most that a controller takes (Core specification, Vol 6 Part B 4.4.2.2)


def profile_hash(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a profile's text."""
    return sha256(text.encode()).hexdigest()[:16]


def parse_profile(text: str, file: str, gases: Gases) -> DeviceProfile:
    """Return the profile of a TOML text; `file` names it in errors, `gases` has the molar masses that mg/m3 needs.

    Raises:
        ProfileInvalid: anything that this module's functions refuse.
    """
    try:
        rows = msgspec.toml.decode(text, type=ProfileFile)
    except msgspec.DecodeError as error:
        raise ProfileInvalid(file, str(error)) from error
    _require_head(file, rows)
    sources = {row.name: _source(f"sources.{row.name}", file, row, rows, gases) for row in rows.sources}
    profile = DeviceProfile(rows, sources, profile_hash(text))
    require_vectors(file, profile)
    return profile


def _require_head(file: str, rows: ProfileFile) -> None:
    names = [row.name for row in rows.sources]
    fast, slow = _ADVERTISE_MS
    for fact, key, otherwise in (
        (_ID.fullmatch(rows.id) is not None, "id", f"{rows.id!r}: write maker.model.v1, lower case, the revision last"),
        (bool(rows.match), "match", "say how the device is known: service_uuid, local_name, company, data_prefix"),
        (bool(names) and len(set(names)) == len(names), "sources", "give at least one, each with a name of its own"),
        (bool(rows.vectors), "vectors", "give bytes of the maker's sheet and what they say"),
        (rows.raises_only or len(_with_gas(rows)) <= 1, "sources", "all gas stands in one source: its messages are the frames"),
        (fast <= rows.advertise_ms <= slow, "advertise_ms", f"give {fast} to {slow} ms"),
        (-100.0 < rows.temperature_c < 100.0, "temperature_c", "give the °C that its mg/m3 refer to"),  # noqa: PLR2004
    ):
        insist(file, fact=fact, key=key, otherwise=otherwise)
    for place, match in enumerate(rows.match):
        key = f"match[{place}]"
        some = bool(match.service_uuid or match.local_name or match.company is not None)
        insist(file, fact=some, key=key, otherwise="name a service_uuid, a local_name or a company")
        uuid = not match.service_uuid or _UUID.fullmatch(match.service_uuid) is not None
        insist(file, fact=uuid, key=f"{key}.service_uuid", otherwise="write 4 hex digits or a whole UUID, lower case")
        insist(file, fact=is_hex(match.data_prefix), key=f"{key}.data_prefix", otherwise="write whole bytes in hex")


def _with_gas(rows: ProfileFile) -> list[str]:
    return [row.name for row in rows.sources if any(field.channel.isupper() for field in row.fields)]


def _source(key: str, file: str, row: SourceRow, rows: ProfileFile, gases: Gases) -> Source:
    _require_way(key, file, row, raises_only=rows.raises_only)
    _require_parts(key, file, row)
    sizes = _sizes(key, file, row)
    fields = [_with_numbers(key, file, field) for field in row.fields]
    for place, field in enumerate(fields):
        _require_place(f"{key}.fields[{place}]", file, row, field, size_of(field.fmt), sizes)
        _require_field(f"{key}.fields[{place}]", file, row, field)
    if row.counter is not None:
        _require_place(f"{key}.counter", file, row, row.counter, size_of(row.counter.fmt), sizes)
        whole = row.counter.fmt not in FLOATS
        insist(file, fact=whole, key=f"{key}.counter.fmt", otherwise="a counter is a whole number")
    for place, sign in enumerate(row.signs):
        _require_place(f"{key}.signs[{place}]", file, row, sign, 1, sizes)
        known = sign.channel == "" or sign.channel in UNITS
        right = 0 < sign.mask <= _BYTE and sign.quiet & sign.mask == sign.quiet and known
        insist(file, fact=right, key=f"{key}.signs[{place}]", otherwise="mask 1 to 255, quiet within it, a known channel")
    channels = [field.channel for field in fields]
    once = row.objects is not None or len(set(channels)) == len(channels)
    insist(file, fact=once, key=f"{key}.fields", otherwise="a channel stands at one place only")
    measures = [_measure(f"{key}.fields[{i}]", file, row, field, rows.temperature_c, gases) for i, field in enumerate(fields)]
    return Source(msgspec.structs.replace(row, fields=fields), measures, sizes)


def _require_all(file: str, key: str, facts: Iterable[tuple[bool, str, str]]) -> None:
    for fact, part, otherwise in facts:
        insist(file, fact=fact, key=f"{key}.{part}", otherwise=otherwise)


def _require_way(key: str, file: str, row: SourceRow, *, raises_only: bool) -> None:
    """Let pass a source whose bytes can be had, and told apart from those heard a moment ago."""
    by_company = row.via == "manufacturer_data"
    number = -1 if row.company is None else row.company
    company = 0 <= number <= _COMPANIES if by_company else row.company is None
    numbered = raises_only or row.counter is not None or row.via not in BROADCAST
    _require_all(
        file,
        key,
        (
            (_NAME.fullmatch(row.name) is not None, "name", "write a word in lower case"),
            (
                bool(_UUID.fullmatch(row.uuid)) is not by_company,
                "uuid",
                "4 hex digits or a whole UUID, none with a company",
            ),
            (company, "company", "the maker's 16-bit company id, for manufacturer_data only"),
            ((row.poll_s > 0) is (row.via == "read"), "poll_s", "seconds between two reads, for `read` only"),
            (bool(row.fields or row.signs), "fields", "give a field or a sign"),
            (numbered, "counter", _NO_COUNTER),
        ),
    )


def _require_parts(key: str, file: str, row: SourceRow) -> None:
    """Let pass constants and status bits that stand within the bytes of their source."""
    fixed = row.objects is None
    last = max([bit.at for bit in row.status_bits] + [constant.at for constant in row.constants], default=-1)
    masks = all(0 < bit.mask <= _BYTE and bit.at >= 0 for bit in row.status_bits)
    values = all(one.value & one.mask == one.value and one.at >= 0 for one in row.constants)
    lost = {name for bit in row.status_bits for name in bit.channels} - {field.channel for field in row.fields}
    _require_all(
        file,
        key,
        (
            (fixed is (0 < row.length <= _LONGEST), "length", f"1 to {_LONGEST} bytes, none with objects"),
            (not fixed or last < row.length, "status_bits, constants", "they stand within the length"),
            (fixed or not row.status_bits, "status_bits", "tagged objects have no fixed bytes: use a sign"),
            (masks, "status_bits", "at from 0, mask 1 to 255"),
            (values, "constants", "at from 0, value within the mask"),
            (not lost, "status_bits.channels", f"no field for {', '.join(sorted(lost))}"),
        ),
    )


_NO_COUNTER = (
    "a broadcast is heard many times: name the number that tells a new one, or the profile may only raise (raises_only = true)"
)


def _sizes(key: str, file: str, row: SourceRow) -> dict[int, int]:
    sizes: dict[int, int] = {}
    if row.objects is None:
        return sizes
    for size, ids in row.objects.sizes.items():
        once = len(set(ids)) == len(ids) and not any(x in sizes for x in ids)
        right = once and size.isdecimal() and int(size) <= _LONGEST and all(0 <= x <= _BYTE for x in ids)
        insist(file, fact=right, key=f"{key}.objects.sizes.{size}", otherwise="bytes -> ids of 0 to 255, each named once")
        sizes |= dict.fromkeys(ids, int(size))
    insist(file, fact=row.objects.at >= 0, key=f"{key}.objects.at", otherwise="the byte of the first object's id")
    return sizes


def _with_numbers(key: str, file: str, field: Field) -> Field:
    """Return a field whose raw numbers are spelled in one way, decimal, whatever way the file spells them."""
    try:
        invalid = {str(int(raw, 0)): status for raw, status in field.invalid.items()}
        code = field.status
        if code is not None:
            code = msgspec.structs.replace(code, codes={str(int(raw, 0)): status for raw, status in code.codes.items()})
    except ValueError as error:
        raise ProfileInvalid(file, f"{key}.{field.channel}: raw numbers are written as 12 or 0x0c: {error}") from error
    return msgspec.structs.replace(field, invalid=invalid, status=code)


def _require_place(
    key: str, file: str, row: SourceRow, part: Field | SignBit | Place, size: int, sizes: dict[int, int]
) -> None:
    if row.objects is None:
        inside = part.object_id is None and part.at is not None and 0 <= part.at <= row.length - size
        insist(file, fact=inside, key=f"{key}.at", otherwise=f"it takes {size} bytes within the length of {row.length}")
    else:
        known = part.at is None and part.object_id is not None and sizes.get(part.object_id) == size
        insist(file, fact=known, key=f"{key}.object", otherwise=f"name an object of {size} bytes from `objects.sizes`")


def _require_field(key: str, file: str, row: SourceRow, field: Field) -> None:
    least, most = (math.nan if bound is None else bound for bound in (field.least, field.most))
    numbers = [field.scale, field.offset, *(bound for bound in (field.least, field.most) if bound is not None)]
    told = field.status is not None or any(not bit.channels or field.channel in bit.channels for bit in row.status_bits)
    bounded = least < most  # NaN is below nothing
    _require_all(
        file,
        key,
        (
            (bool(UNITS.get(field.channel)), "channel", f"{field.channel!r} is none of {', '.join(UNITS)}"),
            (all(map(math.isfinite, numbers)) and field.scale != 0, "scale", "finite numbers, and a scale that is not 0"),
            (bounded or len(numbers) == 2, "min", "min and max, the lesser first"),  # noqa: PLR2004  neither was given
            (bounded or (told and field.fmt not in FLOATS), "min", "without a status, or as a float, it needs min and max"),
            (Status.OK not in field.invalid.values(), "invalid", "what is no measurement is not ok"),
        ),
    )
    if field.status is not None:
        _require_code(key, file, row, field.status)


def _require_code(key: str, file: str, row: SourceRow, code: StatusCode) -> None:
    inside = 0 <= code.at <= row.length - size_of(code.fmt)
    _require_all(
        file,
        key,
        (
            (Status.OK in code.codes.values(), "status.codes", "say which code is ok"),
            (row.objects is None, "status", "tagged objects have no fixed bytes"),
            (code.fmt not in FLOATS, "status.fmt", "a code is a whole number"),
            (inside, "status.at", f"within the length of {row.length}"),
        ),
    )


def _measure(key: str, file: str, row: SourceRow, field: Field, at_c: float, gases: Gases) -> Measure:
    substance = gases.of(field.channel)
    molar_mass_g = substance.molar_mass_g if substance is not None else 0.0
    try:
        factor, shift = conversion(field.unit, UNITS[field.channel], molar_mass_g=molar_mass_g, at_c=at_c)
    except ValueError as error:
        raise ProfileInvalid(file, f"{key}.unit: {error}") from error
    return Measure(field, factor, shift, [bit for bit in row.status_bits if not bit.channels or field.channel in bit.channels])
