"""JSON on the wire: msgspec Structs, decoded and validated; unknown fields are tolerated on read.

The columnar `GasFrames` becomes one `Frame` per row. A value is null exactly when its status is not ok. Field names are short
because a thousand instruments repeat them every second; what each means stands beside it.
"""

import zlib
from collections.abc import Sequence
from typing import Annotated, TypeVar, cast

import msgspec

from manway.commands import RelayEnrolment, SentCommand, WriteGrant
from manway.entities import Frame, Plan, Reading
from manway.errors import DecodeRejected
from manway.events import AnyEvent
from manway.ids import GrantKind, Status

# Rows older than this on arrival are replayed: stored and counted, never a live alarm (`pipeline.md` §4.2).
REPLAY_AFTER_S = 30.0
# What a sensor can physically say; anything outside is a broken wire format, not a reading.
_RANGE = {"O2": (-5.0, 100.0), "LEL": (-10.0, 150.0), "fan_a": (0.0, 100.0), "battery_percent": (0.0, 100.0)}
_RANGE_TOXIC_PPM = (-100.0, 100_000.0)
_OK = Status.OK
U32_MAX = (1 << 32) - 1
U32 = Annotated[int, msgspec.Meta(ge=0, le=U32_MAX)]  # boot and sequence are 32 bits on every wire
# No clock of a device comes near; beyond it neither a float nor the journal's integers can hold it.
Milliseconds = Annotated[int, msgspec.Meta(gt=-(1 << 53), lt=1 << 53)]
# (choice) What a packed message may hold: a site of ten thousand spaces. Anything larger is no message but an attack.
MOST_UNPACKED = 16 * 2**20
_PACKED = b"\x78"  # how zlib's data begin, and JSON never does


class ChannelBirth(msgspec.Struct, frozen=True):
    """What a device says once of a channel: unit, range and resolution in that unit."""

    unit: str
    range: tuple[float, float]
    res: float


class DeviceState(msgspec.Struct, frozen=True):
    """A device's birth, and with `online` false its will: the whole birth again, because the will replaces it."""

    b: U32  # boot id: random at power-up
    online: bool
    model: str
    fw: str
    serial: str
    ch: dict[str, ChannelBirth] = {}


class GasFrames(msgspec.Struct, frozen=True, gc=False):
    """K rows of one instrument, normally one; more only when it replays what it could not send."""

    b: U32  # boot id
    s: Annotated[int, msgspec.Meta(ge=1, le=U32_MAX)]  # sequence number of row 0; rows are s, s+1, ...; counted per boot
    u: int  # uptime at row 0, ms
    v: dict[str, list[float | None]]  # channel -> K values, in the birth's unit
    t: Milliseconds = 0  # wall clock at row 0, ms since 1970; 0 = no clock
    dt: list[Milliseconds] = []  # K offsets from row 0, ms; [] = one row
    q: dict[str, list[str]] = {}  # channel -> K statuses; absent = ok


class DeviceCommand(msgspec.Struct, frozen=True):
    """A request to a device: `rebirth` asks it to say its birth again; void after `exp` (Unix seconds)."""

    id: str
    exp: int
    do: str


class EventBatch(msgspec.Struct, frozen=True):
    """Events of one journal, `jid`, in order: e[i] has sequence `first` + i; nothing before `oldest` is there any more."""

    gw: str
    jid: str
    first: int
    e: list[AnyEvent]
    oldest: int = 1  # sequence number of the oldest event that the journal still has of this site


class _EncodedBatch(msgspec.Struct, frozen=True):
    """An `EventBatch`, field by field, whose events are bytes already."""

    gw: str
    jid: str
    first: int
    e: list[msgspec.Raw]
    oldest: int


class Acknowledgement(msgspec.Struct, frozen=True):
    """The api's word that events up to `seq` of journal `jid` are committed."""

    jid: str
    seq: int


class Heartbeat(msgspec.Struct, frozen=True):
    """A gateway's pulse: `boot` its start (Unix s), `s` counts, ages in seconds; `down` is its will.

    `unsent` events the api has not committed, `fill` of the journal's cap (0 to 1), `lag_s` of the telemetry store.
    """

    gw: str
    boot: int
    s: int
    at: float
    engine_age_s: float = 0.0
    unsent: int = 0
    fill: float = 0.0
    lag_s: float = 0.0
    down: bool = False


class ApiHeartbeat(msgspec.Struct, frozen=True):
    """The api's pulse."""

    boot: int
    s: int
    now: float


class ReadingNow(msgspec.Struct, frozen=True, gc=False):
    """A channel's newest word: status, value and unit as sent, value and limit unit as judged, and its level."""

    status: str
    value: float | None
    unit: str
    judged: float | None
    judged_unit: str
    level: int | None


class InstrumentNow(msgspec.Struct, frozen=True):
    """An instrument's newest frame (`at` = received, Unix s; 0 = none yet), its ledger and its state (`instrument.TABLE`).

    `runs_out` is when its bump test or calibration is due where it says so itself (0 = it does not), `setpoints` are its own
    low alarms by gas where they were read from it.
    """

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
    late: int = 0
    runs_out: float = 0.0
    setpoints: dict[str, float] | None = None


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
    """A plan as `pack_plan` made it, with the Ed25519 signature over those very bytes: verify first, then decode."""

    kid: str
    body: bytes
    sig: bytes


T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_decoders: dict[object, msgspec.json.Decoder[object]] = {}
_gas = msgspec.json.Decoder(GasFrames)
_commands = msgspec.json.Decoder(SentCommand)
_events = msgspec.json.Decoder(AnyEvent)


def encode(message: object) -> bytes:
    """Return a message's JSON bytes."""
    return _encoder.encode(message)


def pack_plan(plan: Plan) -> bytes:
    """Return a plan's bytes, small enough for one message up to some thousand spaces; `decode` reads them."""
    return zlib.compress(encode(plan), 1)


def pack_events(gateway: str, jid: str, first: int, events: Sequence[bytes], oldest: int) -> bytes:
    """Return the bytes of an `EventBatch` of events that were encoded before."""
    return _encoder.encode(_EncodedBatch(gateway, jid, first, [msgspec.Raw(event) for event in events], oldest))


def pack_state(state: SiteState) -> bytes:
    """Return a picture's bytes, packed like a plan's."""
    return zlib.compress(encode(state), 1)


def decode(payload: bytes, kind: type[T], source: str) -> T:
    """Return the Struct of a payload, packed or plain; `source` names the sender in the error.

    Raises:
        DecodeRejected: malformed JSON, a missing field, a wrong type; packed and damaged, or over `MOST_UNPACKED` bytes.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = cast("msgspec.json.Decoder[object]", msgspec.json.Decoder(kind))
    try:
        return cast("T", decoder.decode(payload if payload[:1] != _PACKED else _unpacked(payload, source)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeRejected(source, str(error)[:200]) from error
    except RecursionError as error:
        raise DecodeRejected(source, "nested too deeply") from error


def physical(channel: str) -> tuple[float, float]:
    """Return the least and the greatest number a sensor of this kind can say, in the unit of its birth."""
    return _RANGE.get(channel, _RANGE_TOXIC_PPM)


def decode_gas(payload: bytes, device: str) -> GasFrames:
    """Return the message that nearly all messages are; as `decode`."""
    try:
        return _gas.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode(payload, GasFrames, device)  # packed, or it says what is wrong


def decode_command(payload: bytes, source: str) -> SentCommand:
    """Return a command of the api, or raise DecodeRejected."""
    try:
        command = cast("SentCommand", _commands.decode(payload))
        if isinstance(command, WriteGrant):
            GrantKind(command.kind)
        if isinstance(command, (WriteGrant, RelayEnrolment)):
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
    late = (received_at - clock_behind_s - REPLAY_AFTER_S) * 1000
    if len(message.dt) <= 1 and not message.q:  # as nearly every message is: one row, all well
        readings = _row(message, birth, device)
        ts = (message.t or int(received_at * 1000)) + (message.dt[0] if message.dt and message.t else 0)
        return [Frame(device, message.b, message.s, ts, received_at, readings, ts < late)]
    return _rows(message, birth, device, received_at, late)


def _row(message: GasFrames, birth: DeviceState, device: str) -> dict[str, Reading]:
    known, readings = birth.ch, {}
    for channel, values in message.v.items():
        if channel in known and len(values) == 1 and (value := values[0]) is not None:
            low, high = _RANGE.get(channel, _RANGE_TOXIC_PPM)
            if low <= value <= high:
                readings[channel] = Reading(_OK, value)
                continue
        readings[channel] = _column(device, channel, values, birth, None, 1)[0]
    return readings


def _rows(message: GasFrames, birth: DeviceState, device: str, received_at: float, late: float) -> list[Frame]:
    offsets = message.dt or [0]
    rows = len(offsets)
    if message.s > U32_MAX + 1 - rows:
        raise DecodeRejected(device, f"rows {message.s} and {rows - 1} more are not counted in 32 bits")
    columns = {c: _column(device, c, values, birth, message.q.get(c), rows) for c, values in message.v.items()}
    # Without a clock of its own the newest row is now, and the others are as much older as their offsets say.
    start = message.t or int(received_at * 1000) - offsets[-1]
    return [
        Frame(
            device,
            message.b,
            message.s + i,
            start + offset,
            received_at,
            {channel: column[i] for channel, column in columns.items()},
            start + offset < late,
        )
        for i, offset in enumerate(offsets)
    ]


def _column(
    device: str, channel: str, values: list[float | None], birth: DeviceState, statuses: list[str] | None, rows: int
) -> list[Reading]:
    if channel not in birth.ch:
        raise DecodeRejected(device, f"channel {channel[:16]} is not in the birth")
    if len(values) != rows or (statuses and len(statuses) != rows):
        raise DecodeRejected(device, f"columns of unequal length: {channel}")
    low, high = _RANGE.get(channel, _RANGE_TOXIC_PPM)
    for value in values:
        if value is not None and not low <= value <= high:  # which is so for NaN and the infinities too
            raise DecodeRejected(device, f"{channel} {value} is not physical")
    try:
        if not statuses:
            return [Reading(_OK, value) for value in values]
        return [Reading(Status(status), value) for value, status in zip(values, statuses, strict=True)]
    except ValueError as error:
        raise DecodeRejected(device, f"{channel}: {error}") from error


def _unpacked(payload: bytes, source: str) -> bytes:
    reader = zlib.decompressobj()
    try:
        plain = reader.decompress(payload, MOST_UNPACKED)
    except zlib.error as error:
        raise DecodeRejected(source, f"packed and damaged: {error}") from error
    if not reader.eof:
        raise DecodeRejected(source, "packed and cut short, or larger than any message")
    return plain
