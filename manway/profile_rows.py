"""What stands in a device profile's file (`docs/profiles.md`): matching, sources of bytes, fields, signs, vectors.

A number stands at a byte (`at`) or in a tagged object (`object`), never in both. `profile_rules` checks what a type cannot say.
"""

import enum
import re
from typing import Literal

import msgspec

from manway.errors import ProfileInvalid
from manway.ids import Status

Format = Literal[
    "b", "B", "<h", ">h", "<H", ">H", "<i24", ">i24", "<u24", ">u24", "<i", ">i", "<I", ">I", "<f", ">f"
]  # fmt: skip
Via = Literal["service_data", "manufacturer_data", "notify", "indicate", "read"]
BROADCAST: frozenset[Via] = frozenset({"service_data", "manufacturer_data"})
FLOATS: frozenset[Format] = frozenset({"<f", ">f"})


class Sign(enum.Enum):
    """What a device says beside numbers: its own alarms, what ails it, its wearer's call, an opening that stands open."""

    A1 = "a1"
    A2 = "a2"
    FAULT = "fault"
    WARMUP = "warmup"
    DUE = "due"
    PUMP = "pump"
    HELP = "help"
    BATTERY_LOW = "battery_low"
    TAMPER = "tamper"
    OPENING = "opening"


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Strict: a key that nobody reads would be a promise that nobody keeps."""


class Place(_Row, frozen=True, rename={"object_id": "object"}):
    """Where a whole number stands: `at` a byte of the data, or in the tagged `object` of that id."""

    fmt: Format
    at: int | None = None
    object_id: int | None = None


class StatusCode(_Row, frozen=True):
    """A number that says how a channel is: its bits under `mask`, looked up in `codes`; any other than these is a fault."""

    at: int
    codes: dict[str, Status]
    fmt: Format = "B"
    mask: int = 0xFFFF_FFFF


class StatusBit(_Row, frozen=True):
    """Bits of the byte `at` that, when any is set, give every channel of the source, or those named, this status."""

    at: int
    mask: int
    status: Status
    channels: list[str] = []


class Field(_Row, frozen=True, rename={"object_id": "object", "least": "min", "most": "max"}):
    """One channel: its number times `scale` plus `offset` is in `unit`; outside `min` to `max` it is under- or over-range.

    `invalid` maps raw numbers that are no measurement to what they mean.
    """

    channel: str
    fmt: Format
    unit: str
    at: int | None = None
    object_id: int | None = None
    scale: float = 1.0
    offset: float = 0.0
    least: float | None = None
    most: float | None = None
    invalid: dict[str, Status] = {}
    status: StatusCode | None = None


class SignBit(_Row, frozen=True, rename={"object_id": "object"}):
    """A byte that says `sign` of `channel` (empty: of none): under `mask`, everything but `quiet` is the sign."""

    sign: Sign
    at: int | None = None
    object_id: int | None = None
    mask: int = 0xFF
    quiet: int = 0
    channel: str = ""


class Objects(_Row, frozen=True):
    """Tagged objects from byte `at` on: an id, then as many bytes as `sizes` (bytes -> ids) says; "0": a length goes before."""

    at: int
    sizes: dict[str, list[int]]


class Constant(_Row, frozen=True):
    """What byte `at` must be under `mask`, and what to do where it is not."""

    at: int
    value: int
    otherwise: str
    mask: int = 0xFF


class SourceRow(_Row, frozen=True):
    """One kind of bytes that a device sends: by which way, under which UUID or company id, and what stands in them."""

    name: str
    via: Via
    uuid: str = ""
    company: int | None = None
    length: int = 0
    poll_s: float = 0.0
    fields: list[Field] = []
    signs: list[SignBit] = []
    status_bits: list[StatusBit] = []
    counter: Place | None = None
    constants: list[Constant] = []
    objects: Objects | None = None


class Match(_Row, frozen=True):
    """How a device is known when it is heard; all that is given must hold. `local_name` may have * and ?."""

    service_uuid: str = ""
    local_name: str = ""
    company: int | None = None
    data_prefix: str = ""


class Vector(_Row, frozen=True):
    """Bytes of the maker's sheet and what they say: numbers in the channel's unit, or the name of a status."""

    source: str
    hex: str
    expect: dict[str, float | Status]
    signs: list[Sign] = []
    counter: int | None = None


class ProfileFile(_Row, frozen=True):
    """A profile as it stands in its file. `raises_only`: its word may raise an alarm, never clear one, never back a grant."""

    id: str
    model: str
    match: list[Match]
    sources: list[SourceRow]
    vectors: list[Vector]
    raises_only: bool = False
    temperature_c: float = 20.0
    advertise_ms: int = 1000


def is_hex(text: str) -> bool:
    """Say whether a text is whole bytes in hex."""
    return re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text) is not None


def insist(file: str, *, fact: bool, key: str, otherwise: str) -> None:
    """Raise ProfileInvalid with the key of a profile's row and what to do, unless the fact holds."""
    if not fact:
        raise ProfileInvalid(file, f"{key}: {otherwise}")
