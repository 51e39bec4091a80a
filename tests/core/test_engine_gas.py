"""Gas, silence and faults: what raises, what returns, and what only a person ends."""

import msgspec
import pytest

from manway.entities import PermitState
from manway.errors import TimeWentBackwards
from manway.events import (
    AlarmRaised,
    AlarmRepeated,
    AlarmReturned,
    DeviceRestarted,
    EvacuationOrdered,
    FramesMissed,
    InstrumentFaulted,
    InstrumentLost,
    MessageRejected,
)
from manway.ids import Priority, Status
from manway.inputs import FrameHeld, FrameReceived, InputRejected, PlanReceived
from tests.kit.builders import Bench, a_frame, a_permit, a_plan, a_space, an_instrument, names
from tests.kit.clock import EPOCH

H2S = "gas-1/H2S"


def occupied() -> Bench:
    """One person inside on an active permit, clean air, the attendant present."""
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    bench.read(0)
    return bench


def raised(bench: Bench, kind: str) -> list[AlarmRaised]:
    return [e for e in bench.events if isinstance(e, AlarmRaised) and e.kind == kind]


def test_a_condition_that_holds_at_start_raises_its_alarm() -> None:
    bench = Bench()
    events = bench.read(0, h2s_ppm=7.1)
    assert names(events) == ["AlarmRaised GAS_PRE", "AlarmRaised GAS_LOW"]


def test_an_alarm_says_what_was_seen_under_which_clause() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=7.1)
    (alarm,) = raised(bench, "GAS_LOW")
    assert (alarm.object, alarm.space, alarm.limit, alarm.unit, alarm.clause) == (
        H2S,
        "n01",
        10.0,
        "mg/m3",
        "GBZ 2.1-2019 MAC",
    )
    assert alarm.value == pytest.approx(10.06, abs=0.005)
    assert (alarm.priority, alarm.evacuate) == (Priority.P1, True)


def test_a_dip_of_oxygen_names_the_limit_on_its_side() -> None:
    bench = Bench()
    bench.read(0, o2=19.4)
    assert [(a.limit, a.value) for a in raised(bench, "GAS_LOW")] == [(19.5, 19.4)]


def test_every_level_is_announced_as_it_is_reached() -> None:
    bench = Bench()
    found = [names(bench.read(at, h2s_ppm=ppm)) for at, ppm in enumerate([0.0, 4.0, 7.1, 15.0])]
    assert found == [[], ["AlarmRaised GAS_PRE"], ["AlarmRaised GAS_LOW"], ["AlarmRaised GAS_HIGH"]]


def test_one_bad_second_in_a_batch_is_not_missed() -> None:
    bench = Bench()
    bad, good = a_frame(1, h2s_ppm=50.0), a_frame(2)
    assert "AlarmRaised GAS_HIGH" in names(bench.give(FrameReceived(bad), FrameReceived(good)))


def test_a_bad_second_that_newer_ones_overtook_is_not_missed() -> None:
    """A broker repeats what it could not deliver behind what it could; the danger was there all the same."""
    bench = occupied()
    bench.read(1)
    at = EPOCH + 2
    clean, bad = a_frame(4, at=at), a_frame(3, at=at, h2s_ppm=8.0)
    bench.engine.receive([FrameReceived(a_frame(2, at=at)), FrameReceived(clean)], at)
    said = bench.engine.receive([FrameReceived(bad)], at)
    assert ("GAS_LOW", H2S) in {(e.kind, e.object) for e in said if isinstance(e, AlarmRaised)}
    watch = bench.engine.site.instruments["gas-1"]
    assert (watch.frame, watch.ledger.missing_count) == (clean, 0)
    now = bench.engine.site.channels_of(watch)["H2S"]
    assert (now.value, now.low_in_s) == (0.0, None), "the present and its trend are the newest frame's"
    assert bench.engine.receive([FrameReceived(bad)], at) == [], "told once"
    later = a_frame(6, at=at + 1)
    bench.engine.receive([FrameReceived(later)], at + 1)
    quiet = [a_frame(5, at=at + 1), a_frame(5, at=at + 1, statuses={"CO": Status.FAULT})]
    assert [e for f in quiet for e in bench.engine.receive([FrameReceived(f)], at + 1) if isinstance(e, AlarmRaised)] == []


def test_a_frame_that_was_overtaken_before_its_instrument_moved_says_nothing_of_the_new_space() -> None:
    bench = Bench()
    bench.give(FrameReceived(a_frame(1)), FrameReceived(a_frame(3)))
    moved = a_plan(2, spaces=[a_space("n01"), a_space("n02")], instruments=[an_instrument(space="n02")])
    bench.give(PlanReceived(moved))
    assert bench.give(FrameReceived(a_frame(2, h2s_ppm=8.0)), at=1) == []


def test_a_setpoint_that_is_read_no_more_is_lax_no_more() -> None:
    bench = Bench()
    bench.give(PlanReceived(a_plan(2, instruments=[an_instrument(setpoints={"H2S": 50.0})])))
    bench.read(1)
    assert bench.alarm("SETPOINT_LAX", H2S) == "unacked"
    bench.give(PlanReceived(a_plan(3, instruments=[an_instrument(setpoints={})])), at=1)
    bench.wait(60)
    assert bench.alarm("SETPOINT_LAX", H2S) == "latched_unacked"


def test_an_alarm_returns_only_after_the_off_delay_and_then_stays_latched() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=8.0)
    bench.breathe(1, 30)
    assert bench.alarm("GAS_LOW", H2S) == "unacked"
    events = bench.read(31)
    assert "AlarmReturned GAS_LOW" in names(events)
    bench.breathe(32, 600)
    assert bench.alarm("GAS_LOW", H2S) == "latched_unacked"


def test_a_watch_level_fades_and_waits_only_for_its_acknowledgement() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=4.0)
    bench.breathe(1, 31)
    assert bench.alarm("GAS_PRE", H2S) == "returned_unacked"
    bench.give(bench.desk.acknowledge(bench.alarm_id("GAS_PRE", H2S), EPOCH + 40), at=40)
    assert bench.alarm("GAS_PRE", H2S) == "normal"


def test_noise_at_the_limit_is_one_alarm() -> None:
    bench = Bench()
    for at in range(60):
        bench.read(at, h2s_ppm=7.1 if at % 2 else 6.9)
    assert len(raised(bench, "GAS_LOW")) == 1
    assert not [e for e in bench.events if isinstance(e, AlarmRepeated) and e.kind == "GAS_LOW"]


def test_gas_that_comes_again_before_the_off_delay_is_a_repeat() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=8.0)
    bench.breathe(1, 10)
    assert "AlarmRepeated GAS_LOW" in names(bench.read(11, h2s_ppm=8.0))
    assert len(raised(bench, "GAS_LOW")) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_silence_at_50_ppm_never_returns(inside: bool) -> None:  # noqa: FBT001  a case
    bench = occupied() if inside else Bench()
    bench.read(1, h2s_ppm=50.0)
    bench.wait(8 * 3600)
    assert bench.alarm("GAS_HIGH", H2S) == "unacked"
    assert not [e for e in bench.events if isinstance(e, AlarmReturned) and e.object == H2S]


@pytest.mark.parametrize("status", [Status.FAULT, Status.WARMUP, Status.PUMP, Status.UNDER, Status.INVALID, Status.POISON])
def test_unknown_never_returns_or_clears_an_alarm(status: Status) -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=50.0)
    bench.breathe(1, 120, statuses={"H2S": status})
    assert bench.alarm("GAS_HIGH", H2S) == "unacked"


def test_a_channel_that_its_frames_stop_naming_is_unknown_and_not_what_it_was() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=50.0)
    bench.read(1)
    events = bench.breathe(2, 120, without=["H2S"])
    assert [(e.channel, e.status) for e in events if isinstance(e, InstrumentFaulted)] == [("H2S", "invalid")]
    assert bench.alarm("SENSOR_FAULT", H2S) == "unacked"
    assert bench.alarm("GAS_HIGH", H2S) == "unacked"


def test_over_range_latches_and_a_later_zero_does_not_clear_it() -> None:
    """Vector 11."""
    bench = occupied()
    bench.read(1, statuses={"LEL": Status.OVER})
    bench.breathe(2, 300)
    assert bench.alarm("OVER_RANGE", "gas-1/LEL") == "unacked"
    assert len([e for e in bench.events if isinstance(e, EvacuationOrdered)]) == 1


def test_over_range_ends_with_a_restart_and_then_only_by_a_person() -> None:
    bench = Bench()
    bench.read(0, statuses={"LEL": Status.OVER})
    for second in range(1, 40):
        bench.give(FrameReceived(a_frame(second, boot=8, at=EPOCH + second)), at=second)
    assert bench.alarm("OVER_RANGE", "gas-1/LEL") == "latched_unacked"
    assert [e.boot for e in bench.events if isinstance(e, DeviceRestarted)] == [8]


def test_over_range_goes_with_the_instrument_when_it_is_moved() -> None:
    bench = Bench()
    bench.read(0, statuses={"LEL": Status.OVER})
    bench.move_instrument("n02", at=1)
    bench.read(2)
    moved = [a.state.value for a in bench.engine.site.alarms.values() if a.kind == "OVER_RANGE" and a.space == "n02"]
    assert moved == ["unacked"]


def test_an_instrument_that_is_moved_alarms_in_its_new_space_and_clears_nothing_in_the_old() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=8.0)
    old = bench.alarm_id("GAS_LOW", H2S)
    bench.move_instrument("n02", at=1)
    bench.breathe(2, 60)
    assert bench.alarm("GAS_LOW", H2S) == "latched_unacked"  # nobody is in there; only a person ends it
    bench.read(61, h2s_ppm=8.0)
    spaces = [a.space for a in raised(bench, "GAS_LOW")]
    assert spaces == ["n01", "n02"]
    assert len({old, *(a.alarm for a in raised(bench, "GAS_LOW"))}) == 2
    assert bench.engine.refuses_grant("n01") == bench.engine.refuses_grant("n02") == "GAS_LOW"


def test_silence_grows_from_a_watch_to_an_evacuation_while_somebody_is_inside() -> None:
    """Vector 13: P2 at 5 s, P1 at 15 s, whatever happens after."""
    bench = occupied()
    bench.wait(4.9)
    assert bench.alarm("DATA_LOST", "gas-1") == "absent"
    bench.wait(61)
    found = [(e.at - EPOCH, e.priority, e.evacuate) for e in raised(bench, "DATA_LOST")]
    assert found == [(5.0, Priority.P2, False), (15.0, Priority.P1, True)]
    assert [e.at - EPOCH for e in bench.events if isinstance(e, EvacuationOrdered)] == [15.0]
    assert len([e for e in bench.events if isinstance(e, InstrumentLost)]) == 1


@pytest.mark.parametrize(("state", "at_s"), [(PermitState.ACTIVE, 5.0), (PermitState.DRAFT, 180.0)])
def test_silence_with_nobody_inside_is_a_watch(state: PermitState, at_s: float) -> None:
    bench = Bench(a_plan(permits=[a_permit(state=state)]))
    bench.wait(3600)
    assert [(e.at - EPOCH, e.priority) for e in raised(bench, "DATA_LOST")] == [(at_s, Priority.P3)]
    assert bench.alarm("DATA_LOST", "gas-1") == "unacked"


def test_a_good_frame_ends_a_silence_and_says_so_once() -> None:
    bench = occupied()
    bench.wait(10)
    assert "InstrumentRecovered" in names(bench.read(11))
    assert "InstrumentRecovered" not in names(bench.read(12))


def test_an_instrument_has_recovered_only_with_its_first_good_frame() -> None:
    bench = occupied()
    bench.wait(10)
    assert "InstrumentRecovered" not in names(bench.read(11, statuses={"CO": Status.WARMUP}))
    assert "InstrumentRecovered" in names(bench.read(12))


def test_a_fault_is_announced_when_it_begins_and_when_it_is_over() -> None:
    bench = Bench()
    bench.read(0)
    first = bench.read(1, statuses={"CO": Status.PUMP})
    assert names(first) == ["InstrumentFaulted", "AlarmRaised SENSOR_FAULT"]
    assert names(bench.read(2, statuses={"CO": Status.PUMP})) == []
    assert names(bench.read(3)) == ["InstrumentRecovered"]


def test_a_sensor_that_only_warms_up_is_an_alarm_as_soon_as_somebody_is_inside() -> None:
    bench = Bench()
    bench.read(0, statuses={"H2S": Status.WARMUP})
    assert bench.alarm("SENSOR_FAULT", H2S) == "absent"
    assert "AlarmRaised SENSOR_FAULT" in names(bench.give(bench.desk.check_in(), bench.desk.enter("ann")))


def test_gas_with_somebody_inside_orders_everybody_out_once() -> None:
    bench = occupied()
    events = bench.read(1, h2s_ppm=50.0)
    assert names(events) == [
        "AlarmRaised GAS_PRE",
        "AlarmRaised GAS_LOW",
        "AlarmRaised GAS_HIGH",
        "EvacuationOrdered",
    ]
    assert "EvacuationOrdered" not in names(bench.read(2, o2=17.0))


def test_gas_with_nobody_inside_blocks_grants_and_orders_nobody_out() -> None:
    bench = Bench()
    assert "EvacuationOrdered" not in names(bench.read(0, h2s_ppm=8.0))
    assert bench.engine.refuses_grant("n01") == "GAS_LOW"
    assert bench.engine.refuses_grant("n02") is None


def test_whoever_goes_in_under_an_open_gas_alarm_is_ordered_out_at_once() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.read(0, h2s_ppm=8.0)
    events = bench.give(bench.desk.check_in(EPOCH + 1), bench.desk.enter("ann", EPOCH + 1), at=1)
    assert names(events) == ["CheckInRecorded", "PersonEntered", "ReadingsRecorded", "EvacuationOrdered"]


def test_frames_of_an_unknown_device_are_rejected_and_not_lost_in_silence() -> None:
    bench = Bench()
    events = bench.give(FrameReceived(a_frame(device="gas-9")))
    assert [e.source for e in events if isinstance(e, MessageRejected)] == ["gas-9"]


def test_bytes_that_could_not_be_read_become_an_event() -> None:
    bench = Bench()
    (event,) = bench.give(InputRejected("1", "gas-1", "torn", "ff"))
    assert isinstance(event, MessageRejected)
    assert (event.source, event.reason, event.first_bytes) == ("gas-1", "torn", "ff")


def test_a_frame_held_for_its_birth_says_nothing_yet() -> None:
    assert Bench().give(FrameHeld("gas-1", b"{}")) == []


def test_an_input_of_no_known_kind_is_a_bug_and_said_so() -> None:
    with pytest.raises(AssertionError):
        Bench().give("frame")  # type: ignore[arg-type]


def test_a_repeated_frame_is_judged_once() -> None:
    bench = Bench()
    bad = FrameReceived(a_frame(1, h2s_ppm=8.0))
    assert bench.give(bad)
    assert bench.give(bad) == []
    assert bench.engine.site.instruments["gas-1"].ledger.duplicate == 1


def test_a_late_frame_is_counted_and_is_not_the_present() -> None:
    bench = Bench()
    bench.give(FrameReceived(a_frame(1)))
    bench.give(FrameReceived(a_frame(3, at=EPOCH + 2, h2s_ppm=8.0)), at=2)
    assert bench.give(FrameReceived(a_frame(2, at=EPOCH + 3)), at=3) == []
    assert bench.channel("H2S").level is not None
    bench.wait(60)
    assert bench.alarm("GAS_LOW", H2S) == "unacked"


def test_a_replayed_frame_raises_nothing_and_ends_no_silence() -> None:
    bench = Bench()
    bench.wait(6)
    old = a_frame(1, at=EPOCH + 7, h2s_ppm=50.0, replayed=True)
    assert bench.give(FrameReceived(old), at=7) == []
    assert bench.alarm("DATA_LOST", "gas-1") == "unacked"


def test_a_restart_first_seen_in_a_replayed_frame_is_announced_by_the_first_live_one() -> None:
    bench = Bench()
    bench.read(0)
    assert bench.give(FrameReceived(a_frame(1, boot=8, at=EPOCH + 1, replayed=True)), at=1) == []
    events = bench.give(FrameReceived(a_frame(2, boot=8, at=EPOCH + 2)), at=2)
    assert names(events) == ["DeviceRestarted"]


def test_a_frame_of_a_boot_that_was_left_is_not_the_present() -> None:
    bench = Bench()
    bench.give(FrameReceived(a_frame(1, boot=7)))
    bench.give(FrameReceived(a_frame(1, boot=8, statuses={"H2S": Status.OVER}, at=EPOCH + 1)), at=1)
    assert bench.give(FrameReceived(a_frame(2, boot=7, at=EPOCH + 2)), at=2) == []
    assert bench.channel("H2S").over_range


def test_a_gap_in_the_numbers_becomes_an_event_after_a_minute() -> None:
    bench = Bench()
    bench.give(FrameReceived(a_frame(1)))
    bench.give(FrameReceived(a_frame(5, at=EPOCH + 1)), at=1)
    bench.give(FrameReceived(a_frame(3, at=EPOCH + 2)), at=2)
    bench.wait(300)
    missed = [(e.at - EPOCH, e.boot, e.first, e.last) for e in bench.events if isinstance(e, FramesMissed)]
    assert missed == [(61.0, 7, 2, 2), (61.0, 7, 4, 4)]


@pytest.mark.parametrize("call", ["receive", "advance"])
def test_time_going_backwards_is_an_error_and_changes_nothing(call: str) -> None:
    bench = Bench()
    bench.read(10)
    before = msgspec.structs.asdict(bench.engine.site.instruments["gas-1"].ledger)
    with pytest.raises(TimeWentBackwards) as error:
        bench.give(FrameReceived(a_frame(2)), at=9.9) if call == "receive" else bench.wait(9.9)
    assert (error.value.was, error.value.now) == (EPOCH + 10, EPOCH + 9.9)
    assert msgspec.structs.asdict(bench.engine.site.instruments["gas-1"].ledger) == before
    assert bench.engine.now == EPOCH + 10


def test_an_engine_without_a_plan_waits_for_nothing() -> None:
    assert Bench(a_plan(spaces=[], locks=[], instruments=[], permits=[]), locked=False).engine.next_deadline() is None


def test_a_channel_without_limits_is_stored_and_not_judged() -> None:
    bench = Bench(a_plan(instruments=[an_instrument(channels={"H2S": "ppm", "fan_a": "A", "NO": "ppm"})]))
    assert set(bench.engine.site.instruments["gas-1"].rows) == {"H2S"}


def test_an_instrument_of_no_known_space_is_watched_all_the_same() -> None:
    bench = Bench(a_plan(instruments=[an_instrument(space="n99")]))
    assert names(bench.read(0, h2s_ppm=50.0)) == ["AlarmRaised GAS_PRE", "AlarmRaised GAS_LOW", "AlarmRaised GAS_HIGH"]
    bench.wait(200)
    assert bench.alarm("DATA_LOST", "gas-1") == "unacked"
