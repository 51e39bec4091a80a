"""Behaviour that no test would have missed until a changed operator or number went unnoticed (`./run check --full`)."""

import math

import msgspec
import pytest

from manway import catalogue, codec_ble
from manway.alarm import RETURNED, Alarm, Change, Condition
from manway.catalogue import CATALOGUE
from manway.checks import evaluate, failures_of
from manway.checks.gas_test import sampling_distances
from manway.engine import Engine
from manway.entities import Bolt, Door, Notice, PermitState, ResultCode
from manway.errors import ProfileInvalid, Refused, SnapshotUnusable
from manway.events import AlarmRaised, CommandRefused, GrantRefused, GrantUsed
from manway.ids import GrantKind, Priority
from manway.inputs import FrameReceived, PlanReceived
from manway.limits import Level
from manway.measurements import TS_END_MS, check_frame
from manway.occupancy import Occupancy
from manway.people import STILL, is_exposed, worn
from manway.step import Step
from tests.core.test_every_alarm_fires import SCENES
from tests.kit.builders import (
    LIMITS,
    TIMINGS,
    Bench,
    a_frame,
    a_lock_state,
    a_permit,
    a_plan,
    a_space,
    a_test,
    an_instrument,
    facts,
    live,
    names,
)
from tests.kit.clock import EPOCH

OPEN = a_lock_state(Bolt.RETRACTED, door=Door.OPEN)
AJAR = a_lock_state(Bolt.RETRACTED)


def test_weather_that_begins_this_very_second_is_looked_at_again_when_it_ends() -> None:
    bench = Bench(a_plan(permits=[], instruments=[], locks=[]), locked=False)
    notice = Notice("w1", "heat", [], EPOCH + 10, EPOCH + 600)
    plan = msgspec.structs.replace(a_plan(2, permits=[], instruments=[], locks=[]), notices=[notice])
    assert "AlarmRaised WEATHER" in names(bench.give(PlanReceived(plan), at=10))
    assert bench.engine.next_deadline() == EPOCH + 600
    assert "AlarmReturned WEATHER" in names(bench.wait(700))


def test_what_falls_silent_during_its_delay_is_raised_at_its_time_and_dated_there() -> None:
    kind, row = next((kind, row) for kind, row in CATALOGUE.items() if row.on_delay_s > 0)
    alarm = Alarm("yard", kind, "x-1", "n01")
    begun = Condition(kind, "x-1", "n01", holds=True, priority=row.priority)
    silent = msgspec.structs.replace(begun, holds=None)
    later = EPOCH + row.on_delay_s
    assert alarm.feel(begun, EPOCH, 30.0) is None
    assert alarm.feel(silent, later - 0.1, 30.0) is None
    assert alarm.feel(silent, later, 30.0) is Change.RAISED
    assert (alarm.since, alarm.count, alarm.episode) == (later, 1, 1)


@pytest.mark.parametrize("age_s", [0.0, 0.5, 10.0])
def test_a_frame_is_young_from_its_first_moment_to_ten_seconds(age_s: float) -> None:
    assert failures_of(evaluate(facts(instruments=[live(age_s=age_s)]))) == []


@pytest.mark.parametrize(
    ("length_m", "places"), [(0.4, [0.2, 0.3]), (0.8, [0.4, 0.6]), (1.5, [0.5, 1.3]), (2.2, [0.5, 2.0]), (30.0, [0.5, 2.0])]
)
def test_a_short_duct_is_sampled_in_its_middle_and_near_its_end(length_m: float, places: list[float]) -> None:
    assert sampling_distances(length_m, vertical=False) == places


def test_the_places_that_are_proposed_are_those_of_a_duct_for_a_duct() -> None:
    duct = msgspec.structs.replace(a_space(), vertical=False, depth_m=30.0)
    test = a_test(points=[msgspec.structs.replace(p, distance_m=0.1 * i) for i, p in enumerate(a_test().points)])
    failures = failures_of(evaluate(facts(space=duct, permit=a_permit(gas_test=test))))
    assert [f.params["places"] for f in failures if f.key == "gas_test.wrong_places"] == ["0.5, 2"]


@pytest.mark.parametrize(("aired_s", "minutes"), [(100.0, 1.7), (math.nan, 0.0), (-60.0, -1.0)])
def test_how_long_the_fan_has_run_is_told_in_minutes_and_tenths(aired_s: float, minutes: float) -> None:
    failures = failures_of(evaluate(facts(permit=a_permit(ventilated_at=EPOCH - aired_s))))
    assert [f.params for f in failures if f.key == "ventilation.too_short"] == [{"minutes": minutes, "need": 15.0}]


def test_who_has_breathed_nothing_yet_may_go_in() -> None:
    assert not is_exposed(Bench().engine.site, "carl", EPOCH)


def test_a_wearers_unchanged_word_is_no_news() -> None:
    bench = Bench(a_plan(instruments=[an_instrument(worn_by="ann")], permits=[a_permit(state=PermitState.ACTIVE)]))
    watch = bench.engine.site.instruments["gas-1"]
    assert worn(Step(bench.engine.site), watch, STILL)
    assert not worn(Step(bench.engine.site), watch, STILL)


def test_a_channel_without_a_limit_of_a_level_shows_none() -> None:
    bench = Bench()
    bench.read(0)
    shown = {level: bench.channel("LEL").limit_of(level) for level in Level}
    assert shown[Level.LOW] is not None
    assert shown[Level.WITHIN] is None


def test_a_result_overtaken_by_a_newer_state_still_covers_its_opening() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH + 1), at=1)
    late = bench.result(ResultCode.OPENED, state=AJAR)
    bench.lock(OPEN, at=2)
    assert names(bench.give(late, at=3)) == ["GrantUsed"]
    bench.lock(OPEN, at=4)
    bench.wait(30)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent"


# What is about people inside, and so is over, known to be over, once nobody is.
ABOUT_PEOPLE = (
    "ATTENDANT_ABSENT", "ENTRY_IN_PREP", "GAS_STEL", "GAS_TWA", "MAN_DOWN", "MISSED_CHECKIN", "OVERTIME", "OVERTIME_SOON",
    "REC_15MIN_MISSED", "SOS", "STAY_TOO_LONG", "VENT_STOP",
)  # fmt: skip


@pytest.mark.parametrize(("kind", "priority"), [scene for scene in SCENES if scene[0] in ABOUT_PEOPLE])
def test_what_is_about_people_inside_returns_when_they_are_out(kind: str, priority: Priority) -> None:
    bench = SCENES[kind, priority]()
    left = math.ceil(bench.engine.now - EPOCH) + 1
    inside = list(bench.engine.site.spaces["n01"].occupancy.inside)
    bench.give(*(bench.desk.leave(person, EPOCH + left) for person in inside), at=left)
    for second in range(left, left + 40):
        bench.read(second)
    mine = [alarm for alarm in bench.engine.site.alarms.values() if alarm.kind == kind]
    assert mine
    assert all(alarm.state in RETURNED for alarm in mine)


def test_a_test_that_grew_stale_is_no_alarm_any_more_once_people_work_on_it() -> None:
    bench = SCENES["TEST_STALE", Priority.P3]()
    at = math.ceil(bench.engine.now - EPOCH) + 1
    version = bench.engine.site.plan.version + 1 if bench.engine.site.plan else 1
    bench.give(PlanReceived(a_plan(version, permits=[a_permit(state=PermitState.ACTIVE)])), at=at)
    bench.wait(at + 31)
    assert bench.alarm("TEST_STALE", "n01") in {"returned_unacked", "normal"}


def test_a_battery_of_which_nothing_new_is_heard_is_no_second_alarm_beside_a_lock_that_is_silent() -> None:
    silent = Bench()
    silent.wait(130)
    assert silent.alarm("LOCK_OFFLINE", "lock-1") == "unacked"
    silent.lock(msgspec.structs.replace(a_lock_state(), battery_percent=10), at=131, retained=True)
    assert silent.alarm("LOCK_BATTERY", "lock-1") == "suppressed"
    assert "AlarmRaised LOCK_BATTERY" not in names(silent.events)


@pytest.mark.parametrize("bolt", [Bolt.UNKNOWN, Bolt.JAMMED])
def test_a_hatch_left_open_whose_bolt_is_then_unknown_is_not_taken_for_shut(bolt: Bolt) -> None:
    bench = SCENES["DOOR_LEFT_OPEN", Priority.P2]()
    at = math.ceil(bench.engine.now - EPOCH) + 1
    bench.lock(a_lock_state(bolt, door=Door.UNKNOWN), at=at)
    bench.wait(at + 100)
    assert bench.alarm("DOOR_LEFT_OPEN", "lock-1") == "unacked"


def test_an_empty_space_that_is_out_of_service_keeps_its_alarms_quiet_and_another_space_does_not() -> None:
    closed = msgspec.structs.replace(a_space("n02", lock="lock-2"), out_of_service=True)
    both = [an_instrument(), an_instrument("gas-2", space="n02")]
    bench = Bench(a_plan(spaces=[a_space(), closed], instruments=both, permits=[]))
    for device in ("gas-1", "gas-2"):
        bench.give(FrameReceived(a_frame(device=device, h2s_ppm=8.0)))
    assert bench.alarm("GAS_LOW", "gas-2/H2S") == "out_of_service"
    assert bench.alarm("GAS_LOW", "gas-1/H2S") == "unacked"


def test_a_vapour_that_burns_below_one_percent_is_measured_in_percent_of_that() -> None:
    rule = LIMITS.of("H2S")
    assert rule is not None
    octane = msgspec.structs.replace(rule, lfl_vol=0.8)
    assert octane.takes("% LEL")
    assert not msgspec.structs.replace(octane, lfl_vol=0.0).takes("% LEL")


@pytest.mark.parametrize(("base_vol", "known"), [(100.0, True), (100.1, False), (-0.1, False), (math.nan, False)])
def test_a_base_of_more_than_all_of_the_air_is_none(base_vol: float, known: bool) -> None:  # noqa: FBT001  a column
    rule = LIMITS.of("LEL")
    assert rule is not None
    if known:
        assert rule.factor("% LEL", 20.0, lel_base_vol=base_vol) == pytest.approx(base_vol / rule.lfl_vol)
        return
    with pytest.raises(ProfileInvalid):
        rule.factor("% LEL", 20.0, lel_base_vol=base_vol)


def test_the_lock_of_a_space_with_people_inside_is_watched_on_though_the_plan_has_dropped_it() -> None:
    bench = SCENES["STAY_TOO_LONG", Priority.P3]()
    at = math.ceil(bench.engine.now - EPOCH) + 1
    bench.give(PlanReceived(a_plan(2, locks=[])), at=at)
    assert "lock-1" in bench.engine.site.locks
    bench.give(bench.desk.leave("ann", EPOCH + at + 1), at=at + 1)
    bench.give(PlanReceived(a_plan(3, locks=[])), at=at + 2)
    assert "lock-1" not in bench.engine.site.locks


def test_before_the_first_plan_no_alarm_of_a_neighbour_is_known() -> None:
    assert Engine("yard", LIMITS, TIMINGS).refuses_grant("n01") is None


def test_a_grant_for_a_space_that_is_out_of_service_says_that_the_space_takes_none() -> None:
    bench = Bench(a_plan(spaces=[msgspec.structs.replace(a_space(), out_of_service=True)]))
    events = bench.give(bench.desk.write_grant(GrantKind.ENTRY, EPOCH + 1), at=1)
    assert [e.reason for e in events if isinstance(e, GrantRefused)] == ["SPACE_OUT_OF_SERVICE"]
    assert [e.reason for e in events if isinstance(e, CommandRefused)] == ["space.closed_to_grants"]


def test_a_written_grant_is_used_as_what_it_was_written_for() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(GrantKind.PREP, EPOCH + 1), at=1)
    opened = a_lock_state(Bolt.RETRACTED, session=int(GrantKind.ENTRY))
    used = [e for e in bench.give(bench.result(ResultCode.OPENED, state=opened), at=2) if isinstance(e, GrantUsed)]
    assert [(e.kind, e.cause) for e in used] == [(int(GrantKind.PREP), "command-1")]


def test_the_attendant_may_confirm_what_a_tag_has_seen_and_may_say_in_again_after_out() -> None:
    occupancy = Occupancy()
    occupancy.record("ann", "in", EPOCH, "tag")
    assert occupancy.refuses("ann", "in") is None
    occupancy.record("ann", "in", EPOCH + 1, "attendant")
    assert occupancy.refuses("ann", "in") == "entry.already_inside"
    occupancy.record("ann", "out", EPOCH + 2, "attendant")
    assert "ann" in occupancy.inside  # the tag still says in
    assert occupancy.refuses("ann", "in") is None


def test_good_air_of_which_nothing_new_is_heard_ends_no_early_warning() -> None:
    bench = SCENES["STAY_TOO_LONG", Priority.P3]()
    at = math.ceil(bench.engine.now - EPOCH) + 1
    bench.breathe(at, at + 5, h2s_ppm=4.0)
    bench.breathe(at + 6, at + 10)
    bench.wait(at + 60)
    assert bench.alarm("GAS_PRE", "gas-1/H2S") == "unacked"


@pytest.mark.parametrize(
    ("kind", "priority", "unit"),
    [("RELOCK_WITH_PERSON", Priority.P1, ""), ("GAS_STEL", Priority.P1, "ppm"), ("LOCK_BATTERY", Priority.P3, "%")],
)
def test_an_alarm_names_its_space_and_the_unit_of_its_value(kind: str, priority: Priority, unit: str) -> None:
    raised = [e for e in SCENES[kind, priority]().events if isinstance(e, AlarmRaised) and e.kind == kind]
    assert {(e.space, e.unit) for e in raised} == {("n01", unit)}
    assert all((e.limit is not None) == (unit == "ppm") for e in raised)


def test_the_alarm_list_reads_the_same_from_its_table_every_time() -> None:
    """It is read once, when its module is imported; so a fault in the reading is looked for here."""
    assert catalogue._parse(catalogue._GRID, catalogue._TEXTS) == CATALOGUE


def test_an_error_says_what_it_is_about() -> None:
    refused = Refused(failures_of(evaluate(facts(fan_running=False, authenticated=False))))
    assert str(refused) == "G10 ventilation.not_running, G21 requester.not_signed_in"
    assert str(SnapshotUnusable("made for another site")) == "made for another site"


@pytest.mark.parametrize("records", [1, 2, codec_ble.MAX_RECORDS])
def test_a_log_message_may_be_one_record_as_well_as_the_most(records: int) -> None:
    assert codec_ble.split_log(bytes(codec_ble.RECORD_BYTES) * records) == [bytes(codec_ble.RECORD_BYTES)] * records


@pytest.mark.parametrize(
    ("ts", "received_at", "ok"),
    [(0, 0.0, True), (-1, 0.0, False), (TS_END_MS - 1, 0.0, True), (TS_END_MS, 0.0, False), (0, -0.001, False),
     (0, TS_END_MS / 1000, False), (0, math.nan, False)],
)  # fmt: skip
def test_a_frame_is_of_this_century_by_both_clocks(ts: int, received_at: float, ok: bool) -> None:  # noqa: FBT001  a column
    frame = msgspec.structs.replace(a_frame(), ts=ts, received_at=received_at)
    if ok:
        check_frame(frame, space="n01", permit="")
        return
    with pytest.raises(ValueError, match="outside 1970-2100"):
        check_frame(frame, space="n01", permit="")
