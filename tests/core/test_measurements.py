"""The registry of the telemetry store: names that can be turned back, and lines that need no escaping."""

import math

import msgspec
import pytest

from manway.entities import Bolt, Door, Frame, LockFlag, LockState, Reading
from manway.events import AlarmRaised, Event, PlanApplied
from manway.ids import Priority, Status
from manway.measurements import (
    COLUMNS,
    EVENT,
    GAS,
    GATEWAY,
    LOCK,
    RADIO,
    STATUSES,
    TS_END_MS,
    U32_END,
    RadioHealth,
    channel_of,
    checked_id,
    event_line,
    field_of,
    gas_line,
    gateway_line,
    lock_line,
    radio_line,
    received_ms,
    status_code,
    status_field,
)

OK_20_9 = Reading(Status.OK, 20.9)


def a_frame(
    *,
    device: str = "g-1",
    boot: int = 7,
    seq: int = 42,
    ts: int = 1_795_046_400_000,
    received_at: float = 1_795_046_400.25,
    readings: dict[str, Reading] | None = None,
) -> Frame:
    return Frame(device, boot, seq, ts, received_at, {"O2": OK_20_9} if readings is None else readings)


def test_a_frame_is_one_line_with_its_tags_fields_and_time() -> None:
    frame = a_frame(readings={"O2": OK_20_9, "LEL": Reading(Status.OK, 0.0), "fan_a": Reading(Status.OK, 1.5)})
    assert gas_line(frame, space="tank-3", permit="p-9") == (
        b'gas,inst=g-1,space=tank-3 o2=20.9,lel=0.0,fan_a=1.5,b=7i,s=42i,rx=1795046400250i,permit="p-9" 1795046400000'
    )


def test_a_fault_is_written_as_a_code_and_carries_no_number() -> None:
    line = gas_line(a_frame(readings={"CO": Reading(Status.FAULT)}), space="tank-3")
    assert line == b"gas,inst=g-1,space=tank-3 q_co=4i,b=7i,s=42i,rx=1795046400250i 1795046400000"


def test_a_frame_without_readings_still_proves_that_it_came() -> None:
    assert gas_line(a_frame(readings={}), space="t") == b"gas,inst=g-1,space=t b=7i,s=42i,rx=1795046400250i 1795046400000"


def test_a_whole_number_is_written_as_a_float_because_the_first_write_fixes_the_type() -> None:
    assert b" h2s=7.0," in gas_line(a_frame(readings={"H2S": Reading(Status.OK, 7)}), space="t")


@pytest.mark.parametrize("value", [0.1, 1e-7, -3.25, 1e16, 1 / 3])
def test_a_number_reads_back_as_the_same_number(value: float) -> None:
    line = gas_line(a_frame(readings={"H2S": Reading(Status.OK, value)}), space="t").decode()
    assert float(line.split("h2s=")[1].split(",")[0]) == value


@pytest.mark.parametrize("channel", ["O2", "LEL", "H2S", "CO", "CO2", "fan_a", "battery_percent"])
def test_a_column_turns_back_into_its_channel(channel: str) -> None:
    assert channel_of(field_of(channel)) == channel


def test_no_channel_can_take_the_column_of_another() -> None:
    names = ["O2", "LEL", "H2S", "CO", "fan_a", "battery_percent"]
    columns = {field_of(name) for name in names} | {status_field(name) for name in names}
    assert len(columns) == 2 * len(names)
    assert not columns & {column.name for column in COLUMNS}


@pytest.mark.parametrize(
    "channel",
    [
        "",
        "o2",
        "fan",
        "h2s ",
        "H2S\n",
        "H 2S",
        "q_co",
        "B",
        "S",
        "RX",
        "PERMIT",
        "SPACE",
        "INST",
        "TIME",
        "fan__a",
        "_a",
        "X" * 17,
    ],
)
def test_a_name_that_is_no_channel_is_refused(channel: str) -> None:
    with pytest.raises(ValueError, match="not a channel name"):
        gas_line(a_frame(readings={channel: OK_20_9}), space="t")


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a=b", 'a"b', "a\n", "a\\", "-a", "x" * 65, "罐"])
def test_a_name_that_would_need_escaping_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        checked_id(name)
    with pytest.raises(ValueError, match="not an id"):
        gas_line(a_frame(device=name), space="t")
    with pytest.raises(ValueError, match="not an id"):
        gas_line(a_frame(), space=name)


def test_a_permit_that_would_need_escaping_is_refused() -> None:
    with pytest.raises(ValueError, match="not an id"):
        gas_line(a_frame(), space="t", permit='p"')


@pytest.mark.parametrize(("boot", "seq"), [(-1, 0), (U32_END, 0), (0, -1), (0, U32_END)])
def test_a_boot_or_sequence_outside_32_bits_is_refused(boot: int, seq: int) -> None:
    with pytest.raises(ValueError, match="32 bits"):
        gas_line(a_frame(boot=boot, seq=seq), space="t")


@pytest.mark.parametrize(("ts", "received_at"), [(-1, 0.0), (TS_END_MS, 0.0), (0, -0.1), (0, math.nan), (0, math.inf)])
def test_a_time_nobody_can_mean_is_refused(ts: int, received_at: float) -> None:
    with pytest.raises(ValueError, match="1970-2100"):
        gas_line(a_frame(ts=ts, received_at=received_at), space="t")


@pytest.mark.parametrize("value", [3.5e38, -3.5e38])
def test_a_value_that_single_precision_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="single precision"):
        gas_line(a_frame(readings={"CO": Reading(Status.OK, value)}), space="t")


def test_status_codes_are_places_in_the_order_of_the_wire() -> None:
    assert [status_code(status) for status in STATUSES] == list(range(8))
    assert status_code(Status.OK) == 0
    assert status_code(Status.POISON) == 7


def test_the_receive_time_is_rounded_to_a_millisecond() -> None:
    assert received_ms(a_frame(received_at=1.0006)) == 1001


def test_every_column_of_a_line_stands_in_the_registry() -> None:
    frame = a_frame(readings={"O2": OK_20_9, "CO": Reading(Status.WARMUP)})
    head, fields, _time = gas_line(frame, space="t", permit="p").decode().split(" ")
    names = [part.split("=")[0] for part in [*head.split(",")[1:], *fields.split(",")]]
    known = {column.name for column in COLUMNS if column.measurement == GAS}
    shown = {"o2": "{channel}", "q_co": "q_{channel}"}
    assert {shown.get(name, name) for name in names} | {"time"} == known


# -- locks, events, gateways

AT = 1_795_046_400.25
AT_NS = 1_795_046_400_250_000_000
LOCKED = LockState(Bolt.LOCKED, Door.CLOSED, 0, LockFlag(0), 0, 87, 0, 12, 7, 4711)
RAISED = AlarmRaised(
    id="e-1",
    at=AT,
    site="demo",
    cause="f-1",
    alarm="a-1",
    kind="GAS_HIGH",
    object="g-1/H2S",
    space="n01",
    priority=Priority.P1,
)


def named(line: bytes) -> set[str]:
    """Return the names of a line's tags and fields; no text of these tests holds a comma or an equals sign."""
    head, rest = line.decode().split(" ", 1)
    return {part.split("=")[0] for part in [*head.split(",")[1:], *rest.rsplit(" ", 1)[0].split(",")] if "=" in part}


def columns_of(measurement: str) -> set[str]:
    return {column.name for column in COLUMNS if column.measurement == measurement} - {"time"}


def test_a_lock_report_is_one_line() -> None:
    assert lock_line("lock-1", LOCKED, space="n01", at=AT) == (
        b'lock,lock=lock-1,space=n01 bolt="locked",door="closed",open=f,battery=87i,log_seq=12i,b=7i,s=4711i,rx=1795046400250i '
        b"1795046400250000000"
    )
    assert named(lock_line("lock-1", LOCKED, space="n01", at=AT)) == columns_of(LOCK)


@pytest.mark.parametrize(("door", "told"), [(Door.OPEN, b"open=t"), (Door.CLOSED, b"open=f"), (Door.UNKNOWN, b"open=f")])
def test_only_an_open_contact_is_open(door: Door, told: bytes) -> None:
    line = lock_line("l", msgspec.structs.replace(LOCKED, door=door), space="n01", at=AT)
    assert told in line
    assert f'door="{door.name.lower()}"'.encode() in line


def test_an_event_is_one_line_with_the_whole_of_it_inside() -> None:
    line = event_line(RAISED, seq=5)
    head, rest = line.decode().split(" ", 1)
    assert head == "event,site=demo,type=AlarmRaised"
    fields, time = rest.rsplit(" ", 1)
    assert fields.startswith('id="e-1",cause="f-1",space="n01",body="')
    assert fields.endswith('",priority=1i,seq=5i')
    assert int(time) == AT_NS + 5
    body = fields.split('body="')[1].rsplit('",priority', 1)[0].replace('\\"', '"').replace("\\\\", "\\")
    assert msgspec.json.decode(body, type=AlarmRaised) == RAISED
    assert columns_of(EVENT) - {"priority"} <= {"site", "type", "id", "cause", "space", "body", "seq"}


def test_an_event_about_no_space_has_none_and_no_priority() -> None:
    line = event_line(PlanApplied(id="e", at=AT, site="demo", version=3), seq=1)
    assert b',space="",' in line
    assert b"priority" not in line


def test_events_of_one_instant_are_points_of_their_own_the_same_each_time() -> None:
    lines = {event_line(RAISED, seq=seq).split(b" ")[-1] for seq in (1, 2, 999_999)}
    assert len(lines) == 3
    assert event_line(RAISED, seq=2_000_001).endswith(str(AT_NS + 1).encode())
    twice = [lock_line("l", LOCKED, space="n", at=AT, place=place).split(b" ")[-1] for place in (0, 1)]
    assert [int(time) for time in twice] == [AT_NS, AT_NS + 1]


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "a\\", '\\"', "罐 1"])
def test_a_text_cannot_end_its_field(text: str) -> None:
    line = event_line(msgspec.structs.replace(RAISED, cause=text), seq=1).decode()
    assert "\n" not in line
    cause = line.split('cause="')[1].split('",space=')[0]
    assert cause.replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\") == text.replace("\n", " ")


def test_a_heartbeat_is_one_line_of_floats() -> None:
    line = gateway_line("gw-1", AT, fill=0, lag_s=2, engine_age_s=0.5, rss=90_000_000)
    assert line == b"gateway,gw=gw-1 fill=0.0,lag_s=2.0,engine_age_s=0.5,rss=90000000.0 1795046400250000000"
    assert named(line) == columns_of(GATEWAY)


def test_an_adapters_health_is_one_line_with_every_counter() -> None:
    health = RadioHealth("hci0", 4, 3, 5, 1, 2, red=False, heard_age_s=0.25, errors={"lost": 2, "timeout": 1})
    line = radio_line("gw-1", AT, health)
    assert line.startswith(b"radio,gw=gw-1,adapter=hci0 slots=4i,used=3i,seen=5i,waiting=1i,rung=2i,e_timeout=1i,e_slots=0i")
    assert line.endswith(b",red=f,heard_age_s=0.25 1795046400250000000")
    assert named(line) == columns_of(RADIO)


def test_an_adapter_that_never_heard_anything_says_no_age() -> None:
    line = radio_line("gw-1", AT, RadioHealth("hci0", 4, 0, 0, 0, 5, red=True, heard_age_s=None, errors={}))
    assert b"heard_age_s" not in line
    assert b",red=t " in line


@pytest.mark.parametrize("at", [-1.0, TS_END_MS / 1000, math.nan, math.inf])
def test_a_line_of_a_time_nobody_can_mean_is_refused(at: float) -> None:
    event: Event = msgspec.structs.replace(RAISED, at=at)
    with pytest.raises(ValueError, match="1970-2100"):
        lock_line("l", LOCKED, space="n", at=at)
    with pytest.raises(ValueError, match="1970-2100"):
        event_line(event, seq=1)
    with pytest.raises(ValueError, match="1970-2100"):
        gateway_line("gw-1", at, fill=0, lag_s=0, engine_age_s=0, rss=0)


def test_a_tag_that_would_need_escaping_is_refused() -> None:
    with pytest.raises(ValueError, match="not an id"):
        lock_line("l 1", LOCKED, space="n", at=AT)
    with pytest.raises(ValueError, match="not an id"):
        lock_line("l", LOCKED, space="n,", at=AT)
    with pytest.raises(ValueError, match="not an id"):
        event_line(msgspec.structs.replace(RAISED, site="a b"), seq=1)
    with pytest.raises(ValueError, match="not an id"):
        gateway_line("gw=1", AT, fill=0, lag_s=0, engine_age_s=0, rss=0)
