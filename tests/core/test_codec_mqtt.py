"""JSON on the wire: what a device says becomes frames, or is refused; nothing undecodable gets past."""

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manway.codec_mqtt import (
    MOST_UNPACKED,
    Acknowledgement,
    ApiHeartbeat,
    ChannelBirth,
    DeviceCommand,
    DeviceState,
    EventBatch,
    GasFrames,
    Heartbeat,
    SignedPlan,
    SiteState,
    decode,
    decode_command,
    decode_event,
    encode,
    frames_of,
    pack_plan,
)
from manway.commands import RecordEntry
from manway.entities import Frame, Plan, Reading
from manway.errors import DecodeRejected
from manway.events import MessageRejected
from manway.ids import Status
from tests.kit.builders import UNITS, a_plan
from tests.kit.clock import EPOCH

BIRTH = DeviceState(
    7,
    online=True,
    model="YD-4",
    fw="1.0.0",
    serial="SN-1",
    ch={g: ChannelBirth(u, (0.0, 100.0), 0.1) for g, u in UNITS.items()},
)
MS = int(EPOCH * 1000)


def gas(**changed: object) -> GasFrames:
    """One clean row of boot 7, dated now, with the named fields changed."""
    row = GasFrames(b=7, s=1, u=1000, v={"O2": [20.9], "H2S": [0.5]}, t=MS)
    return msgspec.structs.replace(row, **changed)


def frames(message: GasFrames) -> list[Frame]:
    return frames_of(message, BIRTH, "gas-1", EPOCH)


def over_the_wire(message: GasFrames) -> list[Frame]:
    """As a gateway takes it: numbers outside their range are no message at all, and JSON knows no infinity."""
    decode(encode(message), GasFrames, "gas-1")
    return frames(message)


def test_one_row_is_one_frame() -> None:
    assert frames(gas()) == [
        Frame("gas-1", 7, 1, MS, EPOCH, {"O2": Reading(Status.OK, 20.9), "H2S": Reading(Status.OK, 0.5)}, replayed=False)
    ]


def test_a_status_takes_the_number_away() -> None:
    (frame,) = frames(gas(v={"O2": [20.9], "H2S": [None]}, q={"H2S": ["over"]}))
    assert frame.readings["H2S"] == Reading(Status.OVER)


def test_rows_are_numbered_and_dated_one_by_one() -> None:
    found = frames(gas(s=5, dt=[0, 1000, 2500], v={"O2": [20.9, 20.8, 20.7]}))
    assert [(f.seq, f.ts, f.readings["O2"].value) for f in found] == [
        (5, MS, 20.9),
        (6, MS + 1000, 20.8),
        (7, MS + 2500, 20.7),
    ]


def test_rows_older_than_half_a_minute_are_replayed_and_never_the_present() -> None:
    found = frames(gas(t=MS - 31_000, dt=[0, 1000, 1001], v={"O2": [20.9, 20.9, 20.9]}))
    assert [f.replayed for f in found] == [True, False, False]


def test_without_a_clock_the_newest_row_is_now_and_the_others_are_older() -> None:
    found = frames(gas(t=0, dt=[0, 1000, 40_000], v={"O2": [20.9, 20.9, 20.9]}))
    assert [f.ts for f in found] == [MS - 40_000, MS - 39_000, MS]
    assert [f.replayed for f in found] == [True, True, False]
    assert [f.ts for f in frames(gas(t=0))] == [MS]


@pytest.mark.parametrize(
    "message",
    [
        gas(b=8),
        gas(s=0),
        gas(s=-4),
        gas(s=1 << 32),
        gas(s=(1 << 32) - 1, dt=[0, 1], v={"O2": [20.9, 20.9]}),
        gas(v={"PH3": [0.0]}),
        gas(v={"O2": [20.9, 20.9]}),
        gas(dt=[0, 1000], v={"O2": [20.9]}),
        gas(q={"O2": ["ok", "ok"]}),
        gas(q={"O2": ["asleep"]}),
        gas(q={"O2": ["fault"]}),
        gas(v={"O2": [None]}),
        gas(v={"O2": [-5.1]}),
        gas(v={"O2": [100.1]}),
        gas(v={"H2S": [100_001.0]}),
        gas(v={"H2S": [float("nan")]}),
        gas(v={"H2S": [float("inf")]}),
    ],
    ids=[
        "another boot than the birth's",
        "numbered from nought",
        "a negative number",
        "a number beyond 32 bits",
        "the last row beyond 32 bits",
        "a channel the birth does not name",
        "more values than rows",
        "more rows than values",
        "more statuses than rows",
        "an unknown status",
        "a number under a fault",
        "no number under ok",
        "less oxygen than a sensor can say",
        "more oxygen than there is",
        "more gas than a sensor can say",
        "not a number",
        "infinity",
    ],
)
def test_what_breaks_the_wires_rules_is_refused(message: GasFrames) -> None:
    with pytest.raises(DecodeRejected) as refused:
        over_the_wire(message)
    assert refused.value.source == "gas-1"


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"b": 1}', b'{"b":"7","s":1,"u":1,"v":{}}', b"\xff\xfe", b"NaN"])
def test_bytes_that_are_no_message_are_refused_with_their_source(payload: bytes) -> None:
    with pytest.raises(DecodeRejected, match="gas-1"):
        decode(payload, GasFrames, "gas-1")
    with pytest.raises(DecodeRejected, match="gas-1"):
        decode_command(payload, "gas-1")
    with pytest.raises(DecodeRejected, match="event log"):
        decode_event(payload)


def test_a_number_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(DecodeRejected):
        decode(b'{"b":7,"s":1,"u":1,"v":{"H2S":[NaN]}}', GasFrames, "gas-1")


def test_fields_of_a_later_version_are_tolerated() -> None:
    assert decode(b'{"b":7,"s":1,"u":1,"v":{},"colour":"blue"}', GasFrames, "gas-1").v == {}


def test_a_command_and_an_event_come_back_as_their_own_kind() -> None:
    command = RecordEntry(id="1", site="yard", at=1.0, exp=2.0, by="p", space="n01", permit="x", person="ann", direction="in")
    event = MessageRejected(id="2", at=1.0, site="yard", source="gas-1", reason="torn")
    assert decode_command(encode(command), "api") == command
    assert decode_event(encode(event)) == event


@pytest.mark.parametrize(
    "message",
    [
        gas(),
        BIRTH,
        DeviceCommand("1", 2, "rebirth"),
        EventBatch("gw-1", "j", 1, [MessageRejected(id="2", at=1.0, site="yard", source="gas-1", reason="torn")]),
        Acknowledgement("j", 7),
        Heartbeat("gw-1", 1, 2, 3.0, down=True),
        ApiHeartbeat(1, 2, 3.0),
        SiteState("gw-1", "j", "yard", 1, 2.0, 3, [], [], [], []),
        SignedPlan("k", b"body", b"sig"),
        a_plan(),
    ],
    ids=lambda m: type(m).__name__,
)
def test_every_message_survives_the_wire(message: object) -> None:
    assert decode(encode(message), type(message), "test") == message


def test_a_plan_keeps_its_permits_and_tests_on_the_wire() -> None:
    plan = a_plan()
    assert decode(encode(plan), Plan, "plan").permits[0].gas_test == plan.permits[0].gas_test


@given(st.binary(max_size=200))
def test_no_bytes_bring_anything_but_a_refusal(payload: bytes) -> None:
    try:
        frames(decode(payload, GasFrames, "gas-1"))
    except DecodeRejected as refused:
        assert refused.reason  # noqa: PT017  a lucky payload may be a message


@given(
    st.builds(
        GasFrames,
        b=st.just(7),
        s=st.integers(-1, 1 << 33),
        u=st.integers(0, 10**9),
        v=st.dictionaries(st.sampled_from([*UNITS, "PH3"]), st.lists(st.one_of(st.none(), st.floats(-200, 2e5)), max_size=3)),
        t=st.integers(0, 10**14),
        dt=st.lists(st.integers(0, 10**6), max_size=3),
        q=st.dictionaries(st.sampled_from([*UNITS]), st.lists(st.sampled_from(["ok", "over", "fault", "x"]), max_size=3)),
    )
)
def test_a_frame_never_carries_a_number_that_is_not_ok(message: GasFrames) -> None:
    try:
        found = frames(decode(encode(message), GasFrames, "gas-1"))
    except DecodeRejected:
        return
    for frame in found:
        assert 1 <= frame.seq < 1 << 32
        for reading in frame.readings.values():
            assert (reading.value is None) == (reading.status is not Status.OK)


def test_a_packed_plan_is_read_like_a_plain_one_and_a_damaged_one_is_refused() -> None:
    plan = a_plan()
    packed = pack_plan(plan)
    assert len(packed) < len(encode(plan))
    assert decode(packed, Plan, "plan") == decode(encode(plan), Plan, "plan")
    with pytest.raises(DecodeRejected, match="cut short"):
        decode(packed[:-8], Plan, "plan")
    with pytest.raises(DecodeRejected, match="damaged"):
        decode(packed[:8] + b"????" + packed[12:], Plan, "plan")


def test_what_unpacks_beyond_all_bounds_is_refused_unread() -> None:
    with pytest.raises(DecodeRejected, match="larger than any message"):
        decode(zlib.compress(bytes(MOST_UNPACKED + 1)), Plan, "plan")
