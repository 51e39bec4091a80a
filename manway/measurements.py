"""Every measurement, tag and field of the telemetry store, built here and nowhere else (`docs/measurements.md`).

One frame is one point and, in line protocol, one line: it is stored whole or not at all. Permits are fields and never tags,
because every new tag value is a new series for ever: 12,000 instruments are 12,000 series. A column name can be turned back
into its channel without a table: the gases (`O2`, `H2S`) are upper case and carry no underscore, everything else (`fan_a`,
`battery_percent`) is lower case and carries one.

A `gas` line has its time in milliseconds, lines of `lock`, `event` and `gateway` in nanoseconds: two of one series may fall
into one millisecond, and the second would replace the first. Their last six digits keep them apart, the same at every
repetition.
"""

import re
from functools import lru_cache

import msgspec

from manway.entities import Door, Frame, LockState, Reading
from manway.events import Event
from manway.ids import Status

GAS, LOCK, EVENT, GATEWAY, RADIO = "gas", "lock", "event", "gateway", "radio"
STATUSES = tuple(Status)  # a status is stored as its place in this order (`locks.md` §5), so OK is 0
STATUS_PREFIX = "q_"
_CODES = {status.value: code for code, status in enumerate(STATUSES)}

U32_END = 1 << 32  # boot and sequence are 32 bits on every wire, and the embedded store packs them so
TS_END_MS = 4_102_444_800_000  # 2100-01-01: later than any honest clock, earlier than 64 bits of nanoseconds
VALUE_LIMIT = 3.4e38  # the largest single-precision number is 3.403e38: a value must not become infinite in a chunk

# What goes wrong with a radio, as its counters name it (`gateway/radio_bleak.py` says which error is which).
RADIO_ERRORS = {
    "timeout": "calls that did not come back in time",
    "slots": "connects for which the adapter had no room",
    "not_found": "connects to a device that is not there",
    "aborted": "connects broken off by the adapter: interference, or out of reach",
    "off": "calls to an adapter that is switched off or gone",
    "in_progress": "calls refused because another was under way",
    "dbus": "errors of D-Bus or of the Bluetooth service",
    "link": "errors of a connection",
    "gatt": "refusals by a device",
    "not_paired": "refusals because there is no bond with the device",
    "lost": "links that ended by themselves",
    "silent": "links that stood and brought nothing",
    "unreachable": "messages that could not be brought to a device in time",
    "dropped": "messages from devices that nobody took",
    "request": "messages that no device of ours understands",
    "pairing": "pairings that did not come about",
    "not_configured": "steps of recovery that this installation does not allow",
    "other": "anything else",
}

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
    Column(LOCK, "lock", "tag", "string", "device name of the lock"),
    Column(LOCK, "space", "tag", "string", "the space it bars"),
    Column(LOCK, "bolt", "field", "string", "where the lock says its bolt is"),
    Column(LOCK, "door", "field", "string", "what its contact says of the entrance"),
    Column(LOCK, "open", "field", "bool", "true when the contact says that the entrance is open"),
    Column(LOCK, "battery", "field", "int", "percent"),
    Column(LOCK, "log_seq", "field", "int", "number of the newest record of its log"),
    Column(LOCK, "b", "field", "int", "boot id of the lock"),
    Column(LOCK, "s", "field", "int", "its tick, 100 ms since boot"),
    Column(LOCK, "rx", "field", "int", "receive time of the gateway, ms since 1970"),
    Column(LOCK, "time", "time", "ns", "receive time; the last six digits count what came at once"),
    Column(EVENT, "site", "tag", "string", "the site it happened at"),
    Column(EVENT, "type", "tag", "string", "what happened (`docs/events.md`)"),
    Column(EVENT, "id", "field", "string", "the event's own id"),
    Column(EVENT, "cause", "field", "string", "the frame, command or event behind it"),
    Column(EVENT, "space", "field", "string", "the space it is about; empty when it is about none"),
    Column(EVENT, "body", "field", "string", "the whole event as JSON"),
    Column(EVENT, "priority", "field", "int", "of an alarm that is raised, 1 to 4"),
    Column(EVENT, "seq", "field", "int", "its place in the gateway's journal"),
    Column(EVENT, "time", "time", "ns", "when it happened; the last six digits are those of `seq`"),
    Column(GATEWAY, "gw", "tag", "string", "the gateway's id"),
    Column(GATEWAY, "fill", "field", "float", "of the journal's cap, 0 to 1"),
    Column(GATEWAY, "lag_s", "field", "float", "how long the oldest frame has waited for this store, s"),
    Column(GATEWAY, "engine_age_s", "field", "float", "since the rules last ran, s"),
    Column(GATEWAY, "rss", "field", "float", "resident memory, bytes"),
    Column(GATEWAY, "time", "time", "ns", "of the heartbeat"),
    Column(RADIO, "gw", "tag", "string", "the gateway's id"),
    Column(RADIO, "adapter", "tag", "string", "the Bluetooth adapter"),
    Column(RADIO, "slots", "field", "int", "connections it is asked to hold at most"),
    Column(RADIO, "used", "field", "int", "connections it holds"),
    Column(RADIO, "seen", "field", "int", "devices of the plan it heard within 180 s"),
    Column(RADIO, "waiting", "field", "int", "devices of the plan that wait for a connection"),
    Column(RADIO, "rung", "field", "int", "0 listening, else the rung of recovery it stands on, 5 for red"),
    Column(RADIO, "red", "field", "bool", "true when no recovery has helped"),
    Column(RADIO, "heard_age_s", "field", "float", "since its last advertisement, s; absent before the first"),
    *(Column(RADIO, f"e_{kind}", "field", "int", f"{meaning}, since the start") for kind, meaning in RADIO_ERRORS.items()),
    Column(RADIO, "time", "time", "ns", "when it was so"),
)
_RESERVED = frozenset(column.name for column in COLUMNS if column.measurement == GAS)


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
    return _CODES[status.value]


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


_NS_OF_MS = 1_000_000


def lock_line(lock: str, state: LockState, *, space: str, at: float, place: int = 0) -> bytes:
    """Return a lock's report as one line of line protocol, time in nanoseconds.

    Args:
        lock: its device name.
        state: what it reported.
        space: the space it bars.
        at: when the gateway received it, Unix seconds.
        place: its place among the reports of one batch, below a million.

    Raises:
        ValueError: a name outside its pattern, or a time outside 1970-2100.
    """
    received = _ms(at)
    fields = [
        f'bolt="{state.bolt.name.lower()}",door="{state.door.name.lower()}",open={"t" if state.door is Door.OPEN else "f"}',
        f"battery={state.battery_percent}i,log_seq={state.log_seq}i,b={state.boot}i,s={state.tick}i,rx={received}i",
    ]
    tags = f"{LOCK},lock={checked_id(lock)},space={checked_id(space)}"
    return f"{tags} {','.join(fields)} {received * _NS_OF_MS + place % _NS_OF_MS}".encode()


def event_line(event: Event, *, seq: int) -> bytes:
    """Return an event as one line of line protocol, time in nanoseconds; `seq` is its place in the gateway's journal.

    Raises:
        ValueError: the site's name is outside its pattern, or the time outside 1970-2100.
    """
    texts = {"id": event.id, "cause": event.cause, "space": getattr(event, "space", "")}
    texts["body"] = msgspec.json.encode(event).decode()
    fields = [f'{name}="{_escaped(text)}"' for name, text in texts.items()]
    if (priority := getattr(event, "priority", None)) is not None:
        fields.append(f"priority={int(priority)}i")
    fields.append(f"seq={seq}i")
    tags = f"{EVENT},site={checked_id(event.site)},type={type(event).__name__}"
    return f"{tags} {','.join(fields)} {_ms(event.at) * _NS_OF_MS + seq % _NS_OF_MS}".encode()


def gateway_line(gateway: str, at: float, *, fill: float, lag_s: float, engine_age_s: float, rss: float) -> bytes:
    """Return a gateway's heartbeat as one line of line protocol, time in nanoseconds.

    `at` in Unix seconds, `fill` 0 to 1, ages in seconds, `rss` in bytes. Raises ValueError as `lock_line` does.
    """
    numbers = {"fill": fill, "lag_s": lag_s, "engine_age_s": engine_age_s, "rss": rss}
    fields = ",".join(f"{name}={float(number)!r}" for name, number in numbers.items())
    return f"{GATEWAY},gw={checked_id(gateway)} {fields} {_ms(at) * _NS_OF_MS}".encode()


class RadioHealth(msgspec.Struct, frozen=True):
    """How a Bluetooth adapter is; `errors` counts by `RADIO_ERRORS` since the start, `heard_age_s` None is never."""

    adapter: str
    slots: int
    used: int
    seen: int
    waiting: int
    rung: int
    red: bool
    heard_age_s: float | None
    errors: dict[str, int]


def radio_line(gateway: str, at: float, health: RadioHealth) -> bytes:
    """Return an adapter's health as one line of line protocol, time in nanoseconds; raises ValueError as `lock_line` does."""
    numbers = {name: getattr(health, name) for name in ("slots", "used", "seen", "waiting", "rung")}
    numbers |= {f"e_{kind}": health.errors.get(kind, 0) for kind in RADIO_ERRORS}
    fields = [f"{name}={number}i" for name, number in numbers.items()]
    fields.append(f"red={'t' if health.red else 'f'}")
    if health.heard_age_s is not None:
        fields.append(f"heard_age_s={float(health.heard_age_s)!r}")
    tags = f"{RADIO},gw={checked_id(gateway)},adapter={checked_id(health.adapter)}"
    return f"{tags} {','.join(fields)} {_ms(at) * _NS_OF_MS}".encode()


def _ms(at: float) -> int:
    if not 0 <= at < TS_END_MS / 1000:
        message = f"time outside 1970-2100: {at}"
        raise ValueError(message)
    return round(at * 1000.0)


def _escaped(text: str) -> str:
    """Return a text as line protocol has it inside quotes: one line, no bare quote or backslash."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
