"""Attacks of a second reviewer: danger unsaid, somebody shut in, a count that goes wrong, a space barred for ever."""

import msgspec
import pytest

from manway.entities import (
    Bolt,
    Door,
    Entrance,
    LockFlag,
    LogEvent,
    LogRecord,
    Notice,
    PermitState,
    Reading,
    ResultCode,
)
from manway.ids import GrantKind, Status
from manway.inputs import FrameReceived, LockReported, LogReceived, PlanReceived
from tests.kit.builders import (
    GASES,
    Bench,
    a_frame,
    a_lock,
    a_lock_state,
    a_permit,
    a_plan,
    a_space,
    an_instrument,
    names,
)
from tests.kit.clock import EPOCH

ACTIVE = PermitState.ACTIVE


def raised(bench: Bench) -> list[str]:
    return [n.split()[1] for n in names(bench.events) if n.startswith("AlarmRaised")]


def open_p1(bench: Bench) -> set[str]:
    alarms = bench.engine.site.alarms.values()
    return {a.kind for a in alarms if a.priority.name == "P1" and a.state.value in ("unacked", "acked")}


# -- danger unsaid ------------------------------------------------------------------------------------------------------


def test_an_instrument_moved_away_from_people_inside_leaves_no_silence_behind() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.breathe(0, 3)
    bench.give(bench.desk.enter("ann", EPOCH + 4), at=4)
    bench.move_instrument("n02", at=5)
    for second in range(60, 661, 60):
        bench.give(bench.desk.check_in(EPOCH + second), at=second)

    assert "EvacuationOrdered" in names(bench.events)  # vector 13; 6.2.2


def test_people_inside_whom_no_instrument_watches_are_ordered_out() -> None:
    bench = Bench(a_plan(spaces=[a_space(required_gases=[*GASES, "CO2"])], instruments=[]))
    bench.open_by_grant()
    bench.give(bench.desk.check_in(EPOCH + 1), at=1)
    bench.give(bench.desk.enter("ann", EPOCH + 2), at=2)
    for second in range(60, 601, 60):
        bench.give(bench.desk.check_in(EPOCH + second), at=second)
    assert "EvacuationOrdered" in names(bench.events)


@pytest.mark.parametrize("status", [Status.FAULT, Status.PUMP, Status.INVALID])
def test_frames_whose_every_gas_is_blind_are_data_loss(status: Status) -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.breathe(0, 3)
    bench.give(bench.desk.enter("ann", EPOCH + 4), at=4)
    bench.breathe(5, 120, statuses=dict.fromkeys(GASES, status))
    assert "EvacuationOrdered" in names(bench.events)


def test_frames_that_name_no_gas_are_data_loss() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.breathe(0, 3)
    bench.give(bench.desk.enter("ann", EPOCH + 4), at=4)
    bench.breathe(5, 120, without=GASES)
    assert "EvacuationOrdered" in names(bench.events)


@pytest.mark.parametrize("code", [2, 3])
def test_a_fall_told_before_the_entry_is_counted_is_man_down(code: int) -> None:
    bench = Bench(a_plan(instruments=[an_instrument(worn_by="ann")]))
    bench.open_by_grant()
    bench.breathe(0, 3, wearer_state=0)
    bench.breathe(4, 6, wearer_state=code)
    bench.give(bench.desk.enter("ann", EPOCH + 7), at=7)
    bench.breathe(7, 200, wearer_state=code)
    assert {"MAN_DOWN", "SOS"} & set(raised(bench))  # a fall of nobody inside was a call for help already


def test_a_fall_of_an_instrument_bound_to_nobody_is_heard() -> None:
    """A fall only: an instrument that hangs in the space for itself lies still all day."""
    code, bench = 3, Bench()
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    bench.breathe(1, 200, wearer_state=code)
    assert {"MAN_DOWN", "SOS"} & set(raised(bench))


def test_a_fan_whose_current_is_no_longer_named_runs_no_more() -> None:
    bench = Bench(a_plan(spaces=[msgspec.structs.replace(a_space(), mech_vent_required=True)]))
    bench.open_by_grant()
    bench.breathe(0, 3, fan_a=2.0)
    bench.give(bench.desk.enter("ann", EPOCH + 4), at=4)
    bench.breathe(5, 600)
    assert bench.engine.site.fan_running("n01") is not True


def test_a_required_fan_that_nobody_vouches_for_is_an_alarm() -> None:
    bench = Bench(a_plan(spaces=[msgspec.structs.replace(a_space(), mech_vent_required=True)]))
    bench.open_by_grant()
    bench.breathe(0, 3, fan_a=2.0)
    bench.give(bench.desk.enter("ann", EPOCH + 4), at=4)
    for s in range(5, 120):
        f = a_frame(100 + s, at=EPOCH + s)
        f = msgspec.structs.replace(f, readings=f.readings | {"fan_a": Reading(Status.FAULT)})
        bench.give(FrameReceived(f), at=s)
    assert "VENT_STOP" in raised(bench)


def test_a_fan_of_another_space_vouches_for_nothing_here() -> None:
    bench = Bench()
    bench.breathe(0, 3, fan_a=2.0)
    bench.move_instrument("n02", at=5)
    assert bench.engine.site.fan_running("n02") is not True


def test_whoever_went_on_into_the_next_space_still_breathes() -> None:
    plan = a_plan(
        spaces=[a_space(), a_space("n02", lock="lock-2")],
        locks=[a_lock(), a_lock("lock-2", space="n02")],
        instruments=[an_instrument(), an_instrument("gas-2", space="n02")],
        permits=[a_permit(state=ACTIVE), a_permit("permit-2", space="n02", state=ACTIVE)],
    )
    bench = Bench(plan)
    bench.give(bench.desk.count("in", "ann", EPOCH + 1), at=1)
    bench.read(1)
    bench.give(bench.desk.count("in", "ann", EPOCH + 2, permit="permit-2", space="n02"), at=2)
    bench.give(bench.desk.count("out", "ann", EPOCH + 3), at=3)
    for s in range(4, 1300):
        bench.give(FrameReceived(a_frame(s, at=EPOCH + s, device="gas-2", co_ppm=24.0)), at=s)
    assert bench.engine.site.exposures["ann"]["CO"].stel(EPOCH + 1299) > 20.0  # mg/m3


def test_nobody_is_in_two_places_without_a_word() -> None:
    plan = a_plan(
        spaces=[a_space(), a_space("n02", lock="lock-2")],
        locks=[a_lock(), a_lock("lock-2", space="n02")],
        permits=[a_permit(state=ACTIVE), a_permit("permit-2", space="n02", state=ACTIVE)],
    )
    bench = Bench(plan)
    bench.give(bench.desk.count("in", "ann", EPOCH + 1), at=1)
    events = bench.give(bench.desk.count("in", "ann", EPOCH + 2, permit="permit-2", space="n02"), at=2)
    bench.wait(100)
    assert "CommandRefused" in names(events) or "HEADCOUNT_MISMATCH" in raised(bench)


def test_whoever_goes_back_in_after_an_evacuation_is_an_alarm() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.breathe(0, 3)
    bench.give(bench.desk.enter("ann", EPOCH + 4), at=4)
    bench.breathe(5, 6, h2s_ppm=9.0)
    bench.give(bench.desk.leave("ann", EPOCH + 7), at=7)
    bench.give(PlanReceived(a_plan(2, permits=[a_permit(state=PermitState.EVACUATING)])), at=8)
    bench.breathe(9, 60)
    before = len(bench.events)
    bench.give(bench.desk.count("in", "ann", EPOCH + 61, source="tag"), at=61)
    bench.breathe(62, 90)
    assert {"EvacuationOrdered", "AlarmRaised ENTRY_IN_PREP"} & set(names(bench.events[before:]))


def test_alarms_of_people_inside_outlive_their_permit() -> None:
    bench = Bench(a_plan(permits=[a_permit(state=ACTIVE, end=EPOCH + 700)]))
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    bench.wait(1100)
    assert {"OVERTIME", "ATTENDANT_ABSENT"} <= open_p1(bench)
    bench.give(PlanReceived(a_plan(2, permits=[])), at=1101)
    bench.wait(1200)
    assert {"OVERTIME", "ATTENDANT_ABSENT"} <= open_p1(bench)


def test_a_wild_report_does_not_deafen_a_lock() -> None:
    bench = Bench(a_plan(permits=[]))
    bench.give(LockReported("lock-1", a_lock_state(boot=4_000_000_000)), at=1)
    for s in range(60, 400, 60):
        bench.give(bench.report("lock-1", a_lock_state(Bolt.RETRACTED, door=Door.OPEN)), at=s)
    assert {"UNAUTHORISED_OPEN", "LOCK_OFFLINE"} & set(raised(bench))


def a_record(seq: int, event: LogEvent, **more: object) -> LogRecord:
    fields = dict.fromkeys(LogRecord.__struct_fields__, 0) | {"seq": seq, "event": event, "ref": bytes(16)} | more
    return msgspec.convert(fields, LogRecord)


def test_new_force_is_told_though_an_old_alarm_waits_for_its_reset() -> None:
    bench = Bench()
    bench.lock(a_lock_state(Bolt.RETRACTED), at=1)
    bench.lock(a_lock_state(), at=2)
    bench.wait(40)
    bench.give(bench.desk.acknowledge(bench.alarm_id("UNAUTHORISED_OPEN", "lock-1"), EPOCH + 41), at=41)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "latched_acked"
    bench.wait(3600)
    events = bench.give(LogReceived("lock-1", [a_record(50, LogEvent.FORCED, cause=2)]), at=3600)
    assert any(n.startswith(("AlarmRaised", "AlarmRepeated")) for n in names(events))


@pytest.mark.parametrize(("event", "kind"), [(0x31, "TAMPER"), (0x32, "EMERGENCY_OPEN"), (0x33, "EMERGENCY_OPEN")])
def test_what_only_the_log_tells_is_an_alarm(event: int, kind: str) -> None:
    bench = Bench()
    bench.give(LogReceived("lock-1", [a_record(50, LogEvent(event))]), at=5)
    bench.wait(10)
    assert kind in raised(bench)


def test_a_forced_flag_is_an_alarm_before_its_log_is_read() -> None:
    bench = Bench()
    bench.lock(a_lock_state(flags=LockFlag.FORCED), at=5)
    bench.wait(10)
    assert {"FORCED", "UNAUTHORISED_OPEN"} & set(raised(bench))


def test_a_bolt_thrown_with_an_unknown_count_is_an_alarm() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.count("out", "bob", EPOCH + 1, source="tag"), at=1)
    assert bench.engine.site.spaces["n01"].occupancy.count is None
    bench.lock(a_lock_state(), at=2)
    assert "RELOCK_WITH_PERSON" in raised(bench)


def test_a_bolt_jammed_round_somebody_is_an_alarm() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    bench.lock(a_lock_state(Bolt.JAMMED), at=2)
    assert "RELOCK_WITH_PERSON" in raised(bench)


def test_h2s_beyond_its_range_poisons_too() -> None:
    bench = Bench()
    bench.breathe(0, 120, statuses={"H2S": Status.OVER})
    assert bench.engine.site.instruments["gas-1"].poisoned


def test_a_poisoned_sensor_stays_so_through_a_change_of_its_ledger_row() -> None:
    bench = Bench()
    bench.breathe(0, 70, h2s_ppm=90.0)
    assert bench.engine.site.instruments["gas-1"].poisoned
    bench.give(PlanReceived(a_plan(2, instruments=[an_instrument(correction={"LEL": 1.5})])), at=71)
    assert bench.engine.site.instruments["gas-1"].poisoned


def test_after_over_range_a_reboot_is_believed_and_a_bump_test_is_due() -> None:
    """The numbers count again after the warm-up, so that the alarm can end; no grant rests on them before the bump (§4.5)."""
    bench = Bench()
    bench.breathe(0, 3)
    bench.read(4, statuses={"LEL": Status.OVER})
    for s in range(1, 60):
        bench.give(FrameReceived(a_frame(s, boot=8, at=EPOCH + 4 + s)), at=4 + s)
    assert bench.engine.site.instruments["gas-1"].poisoned
    assert "INSTR_DUE" in raised(bench)


# -- shut in, count, rescue ---------------------------------------------------------------------------------------------


def test_nobody_is_shut_in_by_a_lock_that_moved() -> None:
    spaces = [a_space(lock="lock-9"), a_space("n02", lock="lock-1")]
    bench = Bench(a_plan(spaces=[a_space(), a_space("n02", lock="lock-2")]))
    moved = a_plan(
        2,
        spaces=spaces,
        locks=[a_lock("lock-1", space="n02")],
        permits=[a_permit(state=ACTIVE, space="n02")],
    )
    bench.give(PlanReceived(moved), at=1)
    bench.give(bench.desk.count("in", "ann", EPOCH + 2, space="n02"), at=2)
    assert bench.engine.site.spaces["n02"].occupancy.count == 1
    events = bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT, EPOCH + 3), at=3)
    assert "CommandRefused" in names(events)


def test_a_lock_that_moved_speaks_for_its_new_space() -> None:
    bench = Bench(a_plan(spaces=[a_space(), a_space("n02", lock="lock-2")]))
    moved = a_plan(
        2,
        spaces=[a_space(lock="lock-9"), a_space("n02", lock="lock-1")],
        locks=[a_lock("lock-1", space="n02")],
        permits=[a_permit(state=ACTIVE, space="n02")],
    )
    bench.give(PlanReceived(moved), at=1)
    bench.lock(a_lock_state(Bolt.RETRACTED), at=2)
    bench.give(bench.desk.count("in", "ann", EPOCH + 3, space="n02"), at=3)
    bench.lock(a_lock_state(), at=4)
    assert "RELOCK_WITH_PERSON" in raised(bench)


def test_a_rescuer_who_ran_in_is_counted_and_not_shut_in() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    bench.give(bench.desk.evacuate(EPOCH + 2), at=2)
    bench.give(bench.desk.enter("bob", EPOCH + 3), at=3)  # he ran in to help
    bench.give(bench.desk.leave("ann", EPOCH + 4), at=4)
    events = bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT, EPOCH + 5), at=5)
    assert "CommandRefused" in names(events)
    assert "EvacuationCompleted" not in names(bench.events)


def test_a_lock_of_no_known_space_is_not_closed() -> None:
    bench = Bench(a_plan(locks=[a_lock(space="n77")]))  # unknown counts as occupied
    events = bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT, EPOCH + 5), at=5)
    assert "CommandRefused" in names(events)


def test_a_late_call_for_help_is_still_one() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    bench.give(bench.desk.sos("ann", EPOCH + 2), at=90)
    assert "SOS" in raised(bench)


# -- barred for ever ------------------------------------------------------------------------------------------------------


def can_reset(bench: Bench, kind: str, obj: str, at: float) -> bool:
    bench.wait(at)
    alarm = bench.alarm_id(kind, obj)
    bench.give(bench.desk.acknowledge(alarm, EPOCH + at), at=at)
    return f"AlarmReset {kind}" in names(bench.give(bench.desk.reset(alarm, EPOCH + at), at=at))


def test_a_call_by_somebody_outside_can_be_closed() -> None:
    bench = Bench()
    bench.give(bench.desk.sos("attendant", EPOCH + 1), at=1)
    bench.give(bench.desk.recount(at=EPOCH + 2), at=2)
    bench.give(bench.desk.leave("attendant", EPOCH + 3), at=3)
    assert can_reset(bench, "SOS", "attendant", 100)


def test_a_call_of_an_instrument_nobody_wears_can_be_closed() -> None:
    bench = Bench()
    bench.read(1, wearer_state=1)
    bench.read(2, wearer_state=0)
    bench.give(bench.desk.recount(at=EPOCH + 3), at=3)
    assert can_reset(bench, "SOS", "gas-1", 100)


def test_a_cut_lock_that_was_replaced_does_not_bar_its_space_for_ever() -> None:
    bench = Bench(a_plan(permits=[]))
    bench.give(LogReceived("lock-1", [a_record(50, LogEvent.FORCED, cause=2)]), at=1)
    assert "FORCED" in raised(bench)
    bench.give(PlanReceived(a_plan(2, spaces=[a_space(lock="lock-2")], locks=[a_lock("lock-2")], permits=[])), at=10)
    bench.give(bench.report("lock-2", a_lock_state()), at=11)
    assert can_reset(bench, "FORCED", "lock-1", 100)


def test_a_dead_lock_that_was_replaced_does_not_bar_its_space_for_ever() -> None:
    bench = Bench(locked=False)
    bench.give(PlanReceived(a_plan(2, spaces=[a_space(lock="lock-2")], locks=[a_lock("lock-2")])), at=10)
    bench.give(bench.report("lock-2", a_lock_state()), at=11)
    events = bench.give(bench.desk.write_grant(at=EPOCH + 12, lock="lock-2"), at=12)
    assert "CommandRefused" not in names(events)


def test_gas_told_by_an_instrument_that_was_replaced_can_be_closed_on_the_air_of_the_next() -> None:
    bench = Bench(a_plan(permits=[]))
    bench.read(1, h2s_ppm=90.0)
    plan = a_plan(2, permits=[], instruments=[an_instrument("gas-2")])
    bench.give(PlanReceived(plan), at=10)
    for s in range(11, 120):
        bench.give(FrameReceived(a_frame(s, at=EPOCH + s, device="gas-2")), at=s)
    assert can_reset(bench, "GAS_HIGH", "gas-1/H2S", 120)


def test_an_instrument_that_left_the_plan_orders_nobody_out() -> None:
    bench = Bench()
    bench.breathe(0, 3)
    bench.give(PlanReceived(a_plan(2, instruments=[an_instrument("gas-2")])), at=10)
    bench.open_by_grant(at=11)
    bench.give(bench.desk.check_in(EPOCH + 11), at=11)
    bench.give(FrameReceived(a_frame(11, at=EPOCH + 11, device="gas-2")), at=11)
    bench.give(bench.desk.enter("ann", EPOCH + 12), at=12)
    for s in range(12, 60):
        bench.give(FrameReceived(a_frame(s, at=EPOCH + s, device="gas-2")), at=s)
    assert "EvacuationOrdered" not in names(bench.events)


def test_a_weather_message_that_was_withdrawn_can_be_closed() -> None:
    notice = Notice("w1", "heavy_rain", [], EPOCH, EPOCH + 86_400)
    bench = Bench(msgspec.structs.replace(a_plan(), notices=[notice]))
    assert "WEATHER" in raised(bench)
    bench.give(PlanReceived(a_plan(2)), at=10)
    assert can_reset(bench, "WEATHER", "w1", 100)


# -- crashes, doubles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"correction": {"LEL": 0.0}}, {"lel_base_vol": -1.0}, {"correction": {"CO": -1.0}}])
def test_a_plan_that_cannot_be_judged_is_rejected_and_never_a_crash(more: dict[str, object]) -> None:
    bench = Bench()
    events = bench.give(PlanReceived(a_plan(2, instruments=[msgspec.structs.replace(an_instrument(), **more)])), at=1)
    assert "PlanRejected" in names(events)


def test_a_second_silence_is_an_event_of_its_own() -> None:
    bench = Bench(a_plan(permits=[]))
    bench.read(0)
    bench.give(bench.desk.count("in", "ann", EPOCH + 10, source="tag"), at=10)
    bench.give(bench.desk.count("out", "ann", EPOCH + 12, source="tag"), at=12)
    bench.give(bench.desk.count("in", "ann", EPOCH + 14, source="tag"), at=14)
    ids = [e.id for e in bench.events]
    dup = [type(e).__name__ for e in bench.events if ids.count(e.id) > 1]
    assert not dup


def test_next_door_is_mutual() -> None:
    n02 = msgspec.structs.replace(a_space("n02", lock="lock-2"), connected=["n01"])
    bench = Bench(a_plan(spaces=[a_space(), n02], instruments=[an_instrument(), an_instrument("gas-2", space="n02")]))
    bench.give(FrameReceived(a_frame(1, device="gas-2", h2s_ppm=90.0)), at=1)
    assert bench.engine.refuses_grant("n01") in ("GAS_LOW", "GAS_HIGH")


def test_no_grant_while_another_entrance_is_offline() -> None:
    space = msgspec.structs.replace(a_space(), entrances=[Entrance("a", "lock-1"), Entrance("b", "lock-2")])
    bench = Bench(a_plan(spaces=[space], locks=[a_lock(), a_lock("lock-2")]))
    bench.give(bench.report("lock-2", a_lock_state()), at=1)
    bench.wait(400)
    bench.lock(a_lock_state(), at=401)
    assert "LOCK_OFFLINE" in raised(bench)
    events = bench.give(bench.desk.write_grant(at=EPOCH + 402), at=402)
    assert "CommandRefused" in names(events)


def test_an_attendant_inside_any_space_is_absent() -> None:
    plan = a_plan(spaces=[a_space(), a_space("n02", lock="lock-2")], locks=[a_lock(), a_lock("lock-2", space="n02")])
    bench = Bench(plan)
    bench.open_by_grant()
    bench.give(bench.desk.check_in(EPOCH + 1), at=1)
    bench.give(bench.desk.enter("ann", EPOCH + 2), at=2)
    bench.give(bench.desk.count("in", "attendant", EPOCH + 3, space="n02", source="tag"), at=3)
    assert "ATTENDANT_ABSENT" in raised(bench)


def test_what_only_the_area_instrument_measures_is_breathed_by_all() -> None:
    plan = a_plan(instruments=[an_instrument(), an_instrument("gas-2", channels={"H2S": "ppm"}, worn_by="ann")])
    bench = Bench(plan)
    bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    for s in range(2, 1300):
        bench.give(FrameReceived(a_frame(s, at=EPOCH + s, co_ppm=24.0)), at=s)
    breathed = bench.engine.site.exposures.get("ann", {}).get("CO")
    assert breathed is not None
    assert breathed.stel(EPOCH + 1299) > 20.0


def test_an_emergency_opening_told_late_is_still_one() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(GrantKind.EMERGENCY, EPOCH + 1), at=1)
    used = bench.result(ResultCode.OPENED, state=a_lock_state(Bolt.RETRACTED, session=3))
    bench.lock(a_lock_state(Bolt.RETRACTED, session=3), at=2)
    bench.lock(a_lock_state(), at=4)
    bench.give(used, at=5)
    assert "EMERGENCY_OPEN" in raised(bench)


def test_a_replayed_frame_of_another_boot_neither_clears_over_range_nor_deafens_the_present_one() -> None:
    bench = Bench()
    bench.read(0)
    bench.read(1, statuses={"LEL": Status.OVER})
    bench.give(FrameReceived(a_frame(5, boot=6, replayed=True, at=EPOCH + 2)), at=2)

    assert bench.channel("LEL").over_range
    assert "AlarmRaised GAS_HIGH" in names(bench.read(3, h2s_ppm=90.0))
