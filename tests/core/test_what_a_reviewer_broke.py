"""Each of these was an attack that worked once: somebody inside forgotten, a hatch open in silence, gas unheard."""

import msgspec
import pytest

from manway.codec_mqtt import ChannelBirth, DeviceState, GasFrames, decode, decode_command, frames_of
from manway.commands import RecordCheckIn, RecordEntry
from manway.entities import Bolt, PermitState
from manway.errors import DecodeRejected
from manway.ids import GrantKind
from manway.inputs import CommandReceived, FrameReceived, PlanReceived
from tests.kit.builders import Bench, a_frame, a_lock_state, a_permit, a_plan, names
from tests.kit.clock import EPOCH


def plan_with(version: int, state: PermitState | None) -> PlanReceived:
    permits = [] if state is None else [a_permit(state=state)]
    return PlanReceived(a_plan(version, permits=permits))


def an_envelope(by: str) -> dict[str, object]:
    return {"id": f"{by}-1", "site": "yard", "at": EPOCH, "exp": EPOCH + 60, "by": by, "space": "n01", "permit": "permit-1"}


def test_a_stranger_counts_nobody_out_while_a_permit_holds() -> None:
    bench = Bench()
    bench.give(bench.desk.enter("ann"))

    command = msgspec.convert(an_envelope("stranger") | {"person": "ann", "direction": "out"}, RecordEntry)
    events = bench.give(CommandReceived(command), at=1)

    assert "CommandRefused" in names(events)
    assert bench.engine.site.spaces["n01"].occupancy.count == 1


@pytest.mark.parametrize("changed", [{"by": "stranger"}, {"permit": "another"}])
def test_nobody_else_says_that_the_attendant_is_there(changed: dict[str, str]) -> None:
    bench = Bench()
    before = bench.engine.site.spaces["n01"].attendant_at

    command = msgspec.convert(an_envelope("attendant") | changed, RecordCheckIn)
    events = bench.give(CommandReceived(command), at=30)

    assert "CommandRefused" in names(events)
    assert bench.engine.site.spaces["n01"].attendant_at == before


@pytest.mark.parametrize("state", [PermitState.SUSPENDED, PermitState.CLOSING, None])
def test_a_person_inside_a_space_whose_permit_lets_nobody_in_is_an_alarm(state: PermitState | None) -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann"), at=1)

    events = bench.give(plan_with(2, state), at=2)

    assert "AlarmRaised ENTRY_IN_PREP" in names(events)


def test_a_hatch_that_outlives_its_permit_is_an_alarm() -> None:
    bench = Bench()
    bench.open_by_grant(GrantKind.PREP)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent"

    events = bench.give(plan_with(2, None), at=5)

    assert "AlarmRaised UNAUTHORISED_OPEN" in names(events)


def test_an_emergency_opening_needs_no_permit_to_stay_open() -> None:
    bench = Bench()
    bench.open_by_grant(GrantKind.EMERGENCY)

    events = bench.give(plan_with(2, None), at=5)

    assert "AlarmRaised UNAUTHORISED_OPEN" not in names(events)


def test_a_forced_lock_that_jams_does_not_let_its_alarm_return() -> None:
    bench = Bench()
    bench.lock(a_lock_state(Bolt.RETRACTED), at=1)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"

    bench.lock(a_lock_state(Bolt.JAMMED), at=2)
    bench.wait(100)

    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"


def test_an_order_to_close_is_not_passed_on_while_anybody_is_inside() -> None:
    bench = Bench()
    bench.give(bench.desk.enter("ann"))

    events = bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT), at=1)

    assert "CommandRefused" in names(events)
    assert bench.engine.site.locks["lock-1"].written is None


def test_a_wild_sequence_number_does_not_deafen_the_instrument() -> None:
    bench = Bench()
    bench.read(0)
    bench.give(FrameReceived(a_frame(4_000_000_000, at=EPOCH + 1)), at=1)

    events = bench.read(2, h2s_ppm=90.0)

    assert "AlarmRaised GAS_HIGH" in names(events)


def a_birth() -> DeviceState:
    return DeviceState(7, True, "m", "f", "s", {"H2S": ChannelBirth("ppm", (0, 100), 0.1)})


def test_a_device_whose_clock_is_slow_is_heard() -> None:
    slow = GasFrames(7, 1, 0, {"H2S": [90.0]}, int((EPOCH - 31) * 1000))

    assert frames_of(slow, a_birth(), "gas-1", EPOCH)[0].replayed is True  # a late frame looks just the same
    assert frames_of(slow, a_birth(), "gas-1", EPOCH, clock_behind_s=31.0)[0].replayed is False


@pytest.mark.parametrize("changed", [{"kind": 99}, {"message": "not hex"}])
def test_a_command_to_write_nonsense_is_refused_where_it_is_read(changed: dict[str, object]) -> None:
    good = {"type": "WriteGrant", "lock": "lock-1", "grant": "aa", "kind": 2, "message": "00"} | an_envelope("p01")
    good.pop("permit")
    assert decode_command(msgspec.json.encode(good), "test").id == "p01-1"

    with pytest.raises(DecodeRejected):
        decode_command(msgspec.json.encode(good | changed), "test")


def test_a_payload_nested_beyond_reason_is_rejected_like_any_other() -> None:
    deep = b'{"b":7,"s":1,"u":0,"v":{},"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"

    with pytest.raises(DecodeRejected):
        decode(deep, GasFrames, "gas-1")
