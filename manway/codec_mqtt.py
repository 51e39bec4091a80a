"""JSON on the wire: msgspec Structs, decoded and validated; unknown fields are tolerated on read.

The columnar `GasFrames` becomes one `Frame` per row. A value is null exactly when its status is not ok. Field names are short
because a thousand instruments repeat them every second; what each means stands beside it.
"""

import math
from typing import TypeVar, cast

import msgspec

from manway.commands import AnyCommand, WriteGrant
from manway.entities import Frame, Reading
from manway.errors import DecodeRejected
from manway.events import AnyEvent
from manway.ids import GrantKind, Status

# Rows older than this on arrival are replayed: stored and counted, never a live alarm (`pipeline.md` §4.2).
REPLAY_AFTER_S = 30.0
# What a sensor can physically say; anything outside is a broken wire format, not a reading.
_RANGE = {"O2": (-5.0, 100.0), "LEL": (-10.0, 150.0), "fan_a": (0.0, 100.0), "battery_percent": (0.0, 100.0)}
_RANGE_TOXIC_PPM = (-100.0, 100_000.0)
_U32_END = 1 << 32  # boot and sequence are 32 bits on every wire; rows are counted from 1


class ChannelBirth(msgspec.Struct, frozen=True):
    """What a device says once of a channel: unit, range and resolution in that unit."""

    unit: str
    range: tuple[float, float]
    res: float


class DeviceState(msgspec.Struct, frozen=True):
    """A device's birth, and with `online` false its will: the whole birth again, because the will replaces it."""

    b: int  # boot id: random uint32 at power-up
    online: bool
    model: str
    fw: str
    serial: str
    ch: dict[str, ChannelBirth] = {}


class GasFrames(msgspec.Struct, frozen=True):
    """K rows of one instrument, normally one; more only when it replays what it could not send."""

    b: int  # boot id
    s: int  # sequence number of row 0; rows are s, s+1, ...; counted per boot from 1
    u: int  # uptime at row 0, ms
    v: dict[str, list[float | None]]  # channel -> K values, in the birth's unit
    t: int = 0  # wall clock at row 0, ms since 1970; 0 = no clock
    dt: list[int] = []  # K offsets from row 0, ms; [] = one row
    q: dict[str, list[str]] = {}  # channel -> K statuses; absent = ok


class DeviceCommand(msgspec.Struct, frozen=True):
    """A request to a device: `rebirth` asks it to say its birth again; void after `exp` (Unix seconds)."""

    id: str
    exp: int
    do: str


class EventBatch(msgspec.Struct, frozen=True):
    """Events of one journal, in order: e[i] has journal sequence `first` + i; `jid` names the journal."""

    gw: str
    jid: str
    first: int
    e: list[AnyEvent]


class Acknowledgement(msgspec.Struct, frozen=True):
    """The api's word that events up to `seq` of journal `jid` are committed."""

    jid: str
    seq: int


class Heartbeat(msgspec.Struct, frozen=True):
    """A gateway's pulse: `boot` its start (Unix s), `s` counts, ages in seconds; `down` is its will."""

    gw: str
    boot: int
    s: int
    at: float
    engine_age_s: float = 0.0
    unsent: int = 0
    down: bool = False


class ApiHeartbeat(msgspec.Struct, frozen=True):
    """The api's pulse."""

    boot: int
    s: int
    now: float


class ReadingNow(msgspec.Struct, frozen=True):
    """A channel's newest word: status, value and unit as sent, value and limit unit as judged, and its level."""

    status: str
    value: float | None
    unit: str
    judged: float | None
    judged_unit: str
    level: int | None


class InstrumentNow(msgspec.Struct, frozen=True):
    """An instrument's newest frame (`at` = received, Unix s; 0 = none yet), its ledger and its state (`instrument.TABLE`)."""

    device: str
    space: str
    at: float
    lost: bool
    readings: dict[str, ReadingNow]
    received: int
    duplicate: int
    missing: int
    state: str = "ready"
    poisoned: bool = False


class LockNow(msgspec.Struct, frozen=True):
    """A lock's reported position and what opened it."""

    device: str
    space: str
    at: float
    position: str
    commanded: str
    battery_percent: int
    used_kind: int
    used_grant: str


class SpaceNow(msgspec.Struct, frozen=True):
    """Who is inside (person -> since), whether that is known, and when the attendant was last heard.

    `leave_by` is the one countdown (Unix s, None = unknown) with its reason and what it is about, reason "" while nobody is
    inside; `people` says how everybody is who is not well, `exposed` who may not go in again this shift.
    """

    space: str
    inside: dict[str, float]
    known: bool
    attendant_at: float | None
    evacuating: bool
    state: str = "idle"
    overlay: str = ""
    leave_by: float | None = None
    leave_reason: str = ""
    leave_object: str = ""
    people: dict[str, str] = {}
    exposed: list[str] = []
    mismatch: list[str] = []


class AlarmNow(msgspec.Struct, frozen=True):
    """An open alarm."""

    id: str
    kind: str
    object: str
    space: str
    state: str
    priority: int
    since: float
    count: int
    value: float | None
    limit: float | None
    unit: str
    clause: str
    acknowledged_by: str
    holds: bool | None
    incident: str = ""
    shelved_until: float | None = None
    shelved_by: str = ""
    shelve_reason: str = ""


class SiteState(msgspec.Struct, frozen=True):
    """The whole picture of a site as its gateway has it at `at`; `event` is the newest event behind it."""

    gw: str
    jid: str
    site: str
    event: int
    at: float
    plan_version: int
    instruments: list[InstrumentNow]
    locks: list[LockNow]
    spaces: list[SpaceNow]
    alarms: list[AlarmNow]


class SignedPlan(msgspec.Struct, frozen=True):
    """A plan's exact bytes with the Ed25519 signature over them: verify first, then decode."""

    kid: str
    body: bytes
    sig: bytes


T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_decoders: dict[object, msgspec.json.Decoder[object]] = {}
_commands = msgspec.json.Decoder(AnyCommand)
_events = msgspec.json.Decoder(AnyEvent)


def encode(message: object) -> bytes:
    """Return a message's JSON bytes."""
    return _encoder.encode(message)


def decode(payload: bytes, kind: type[T], source: str) -> T:
    """Return the Struct of a payload; `source` names the sender in the error.

    Raises:
        DecodeRejected: malformed JSON, a missing field, a wrong type.
    """
    decoder = _decoders.setdefault(kind, cast("msgspec.json.Decoder[object]", msgspec.json.Decoder(kind)))
    try:
        return cast("T", decoder.decode(payload))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeRejected(source, str(error)[:200]) from error
    except RecursionError as error:
        raise DecodeRejected(source, "nested too deeply") from error


def decode_command(payload: bytes, source: str) -> AnyCommand:
    """Return a command, or raise DecodeRejected."""
    try:
        command = cast("AnyCommand", _commands.decode(payload))
        if isinstance(command, WriteGrant):
            GrantKind(command.kind)
            bytes.fromhex(command.message)
    except ValueError as error:
        raise DecodeRejected(source, str(error)[:200]) from error
    except RecursionError as error:
        raise DecodeRejected(source, "nested too deeply") from error
    return command


def decode_event(payload: bytes) -> AnyEvent:
    """Return an event of our own log, or raise DecodeRejected."""
    try:
        return cast("AnyEvent", _events.decode(payload))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeRejected("event log", str(error)[:200]) from error


def frames_of(
    message: GasFrames, birth: DeviceState, device: str, received_at: float, *, clock_behind_s: float = 0.0
) -> list[Frame]:
    """Return one Frame per row.

    `clock_behind_s` is how far the device's clock has always been behind: a slow clock makes no frame late.

    Raises:
        DecodeRejected: another boot than the birth's, a sequence number outside 32 bits, unknown channels, unequal columns, a
            value without the status ok or the other way round, a number outside what a sensor can physically say.
    """
    if message.b != birth.b:
        raise DecodeRejected(device, f"boot {message.b} has no birth")
    rows = len(message.dt) or 1
    if not 1 <= message.s <= _U32_END - rows:
        raise DecodeRejected(device, f"rows {message.s} and {rows - 1} more are not counted from 1 in 32 bits")
    columns = {channel: _column(message, birth, device, channel, rows) for channel in message.v}
    frames = []
    # Without a clock of its own the newest row is now, and the others are as much older as their offsets say.
    offsets = message.dt or [0]
    start = message.t or int(received_at * 1000) - offsets[-1]
    for i in range(rows):
        ts = start + offsets[i]
        readings = {channel: column[i] for channel, column in columns.items()}
        late = received_at - ts / 1000 - clock_behind_s > REPLAY_AFTER_S
        frames.append(Frame(device, message.b, message.s + i, ts, received_at, readings, late))
    return frames


def _column(message: GasFrames, birth: DeviceState, device: str, channel: str, rows: int) -> list[Reading]:
    values, statuses = message.v[channel], message.q.get(channel) or ["ok"] * rows
    if channel not in birth.ch:
        raise DecodeRejected(device, f"channel {channel[:16]} is not in the birth")
    if len(values) != rows or len(statuses) != rows:
        raise DecodeRejected(device, f"columns of unequal length: {channel}")
    low, high = _RANGE.get(channel, _RANGE_TOXIC_PPM)
    readings = []
    for value, status in zip(values, statuses, strict=True):
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            raise DecodeRejected(device, f"{channel} {value} is not physical")
        try:
            readings.append(Reading(Status(status), value))
        except ValueError as error:
            raise DecodeRejected(device, f"{channel}: {error}") from error
    return readings
