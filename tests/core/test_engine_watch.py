"""People watched by the engine: sources, recounts, answers, exposure, the one countdown, overlays, shelving."""

from collections.abc import Callable

import msgspec
import pytest

from manway.countdown import countdown
from manway.engine import Engine
from manway.entities import Bolt, LockFlag, LogEvent, LogRecord, Notice, PermitState
from manway.events import (
    AlarmRaised,
    AlarmReturned,
    AlarmUnshelved,
    CheckInRecorded,
    CommandRefused,
    CountRecorded,
    PersonEntered,
    PersonStateChanged,
    SosRaised,
)
from manway.ids import GrantKind, Status
from manway.inputs import HealthReported, LogReceived, PlanReceived
from manway.orders import overlay_of
from manway.people import is_exposed
from manway.space import Overlay, SpaceState
from tests.kit.builders import Bench, a_lock, a_lock_state, a_permit, a_plan, a_space, an_instrument, names, replay
from tests.kit.clock import EPOCH


def occupied(*people: str, bench: Bench | None = None, **air: float) -> Bench:
    bench = bench or Bench()
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), *(bench.desk.enter(person) for person in people or ("ann",)))
    bench.read(0, **air)
    return bench


def reasons(bench: Bench) -> list[str]:
    return [e.reason for e in bench.events if isinstance(e, CommandRefused)]


def states(bench: Bench) -> list[str]:
    return [e.state for e in bench.events if isinstance(e, PersonStateChanged)]


# -- sources ----------------------------------------------------------------------------------------------------------


def test_an_entry_told_by_two_sources_is_one_entry() -> None:
    bench = occupied()
    assert names(bench.give(bench.desk.count("in", "ann", EPOCH + 1, source="tag"), at=1)) == ["EntryReported"]
    assert bench.engine.site.spaces["n01"].occupancy.count == 1


def test_a_tag_is_believed_though_the_permit_does_not_name_its_person() -> None:
    bench = occupied()
    events = bench.give(bench.desk.count("in", "stranger", EPOCH + 1, source="tag"), at=1)
    assert [e.person for e in events if isinstance(e, PersonEntered)] == ["stranger"]


def test_a_direction_that_is_none_is_refused_from_every_source() -> None:
    bench = occupied()
    bench.give(bench.desk.count("up", "ann", EPOCH + 1, source="tag"), at=1)
    bench.give(bench.desk.count("up", "ann", EPOCH + 1), at=1)
    assert reasons(bench) == ["entry.unknown_direction"] * 2


def test_sources_that_go_on_differing_make_the_count_unknown_until_everybody_is_counted_again() -> None:
    bench = occupied("ann", "bob")
    bench.give(bench.desk.count("in", "ann", EPOCH + 1, source="tag"), at=1)
    bench.give(bench.desk.leave("ann", EPOCH + 2), at=2)
    bench.breathe(3, 61)
    assert bench.alarm("HEADCOUNT_MISMATCH", "n01") == "absent"
    bench.breathe(62, 63)
    assert bench.alarm("HEADCOUNT_MISMATCH", "n01") == "unacked"
    assert bench.engine.site.spaces["n01"].occupancy.count is None
    events = bench.give(bench.desk.recount("bob", at=EPOCH + 64), at=64)
    assert [e.people for e in events if isinstance(e, CountRecorded)] == [["bob"]]
    assert bench.engine.site.spaces["n01"].occupancy.count == 1
    bench.breathe(65, 100)
    assert bench.alarm("HEADCOUNT_MISMATCH", "n01") == "latched_unacked"


def test_a_recount_moves_those_who_were_believed_elsewhere() -> None:
    bench = occupied("ann")
    bench.give(bench.desk.recount("bob", at=EPOCH + 5), at=5)
    people = bench.engine.site.spaces["n01"].people
    assert {name: watch.state.value for name, watch in people.items()} == {"ann": "outside", "bob": "inside"}


def test_a_recount_is_the_attendants_while_a_permit_holds() -> None:
    bench = occupied()
    bench.give(bench.desk.recount("ann", at=EPOCH + 1, by="manager"), at=1)
    assert reasons(bench) == ["attendant.not_you"]


def test_a_recount_without_a_permit_ends_an_evacuation() -> None:
    bench = occupied()
    bench.give(bench.desk.evacuate(EPOCH + 1), at=1)
    bench.give(PlanReceived(a_plan(2, permits=[])), at=2)
    assert "EvacuationCompleted" in names(bench.give(bench.desk.recount(at=EPOCH + 3, by="manager"), at=3))


@pytest.mark.parametrize("command", ["recount", "sos"])
def test_a_space_nobody_knows_is_refused(command: str) -> None:
    bench = Bench(a_plan(spaces=[a_space("n02", lock="lock-1")]))
    bench.give(bench.desk.recount("ann") if command == "recount" else bench.desk.sos("ann"))
    assert reasons(bench) == ["space.unknown"]


# -- answers and calls ------------------------------------------------------------------------------------------------


def test_silence_leads_down_and_an_answer_leads_back() -> None:
    bench = occupied(bench=Bench(a_plan(instruments=[an_instrument(worn_by="ann")])))
    bench.breathe(1, 20, wearer_state=2)
    assert states(bench) == ["no_motion"]
    bench.breathe(21, 32, wearer_state=2)
    assert states(bench) == ["no_motion", "no_answer"]
    bench.give(bench.desk.answer("ann", EPOCH + 33), at=33)
    assert states(bench)[-1] == "inside"
    bench.breathe(34, 34, wearer_state=0)
    bench.breathe(35, 120, wearer_state=2)
    assert states(bench)[-1] == "down"


def test_a_wearer_code_of_a_later_firmware_moves_nobody() -> None:
    bench = occupied(bench=Bench(a_plan(instruments=[an_instrument(worn_by="ann")])))
    bench.read(1, wearer_state=9)
    assert states(bench) == []


def test_a_faulty_wearer_channel_says_nothing() -> None:
    bench = occupied(bench=Bench(a_plan(instruments=[an_instrument(worn_by="ann")])))
    bench.read(1, wearer_state=0, statuses={"CO": Status.FAULT})
    assert states(bench) == []


def test_a_call_is_told_once_and_stands_until_its_caller_is_out() -> None:
    bench = occupied()
    bench.give(bench.desk.sos("ann", EPOCH + 1), bench.desk.sos("ann", EPOCH + 1), at=1)
    assert len([e for e in bench.events if isinstance(e, SosRaised)]) == 1
    bench.breathe(2, 60)
    assert bench.alarm("SOS", "ann") == "unacked"
    bench.give(bench.desk.leave("ann", EPOCH + 61), at=61)
    bench.breathe(62, 92)
    assert bench.alarm("SOS", "ann") == "latched_unacked"


def test_an_entrant_answers_for_themselves() -> None:
    bench = occupied("ann", "bob")
    events = bench.give(bench.desk.answer("ann", EPOCH + 1, by="ann"), at=1)
    assert [e.person for e in events if isinstance(e, CheckInRecorded)] == ["ann"]
    bench.give(bench.desk.answer("ann", EPOCH + 2, by="bob"), bench.desk.answer("carol", EPOCH + 2), at=2)
    assert reasons(bench) == ["attendant.not_you", "entry.not_inside"]


def test_answers_keep_the_missed_check_in_away() -> None:
    bench = occupied(bench=Bench(a_plan(permits=[a_permit(state=PermitState.ACTIVE, end=EPOCH + 90_000)])))
    for minute in range(1, 31):
        bench.give(bench.desk.answer("ann", EPOCH + minute * 60), at=minute * 60)
    assert bench.alarm("MISSED_CHECKIN", "ann") == "absent"


# -- what people breathe ----------------------------------------------------------------------------------------------


def test_the_instrument_a_person_wears_speaks_for_them_alone() -> None:
    instruments = [an_instrument(), an_instrument("gas-2", worn_by="ann")]
    bench = occupied("ann", "bob", bench=Bench(a_plan(instruments=instruments), profile="US_GENERAL"))
    bench.breathe(1, 60, h2s_ppm=9.0)  # gas-1 watches the space
    exposures = bench.engine.site.exposures
    assert exposures["bob"]["H2S"].stel(EPOCH + 60) == pytest.approx(9.0 * 60 / 900, rel=0.02)
    assert exposures.get("ann", {}) == {}


def test_outside_nobody_breathes_it_and_a_person_who_comes_back_goes_on() -> None:
    bench = occupied(bench=Bench(profile="US_GENERAL"))
    bench.breathe(1, 60, h2s_ppm=9.0)
    bench.give(bench.desk.leave("ann", EPOCH + 61), at=61)
    bench.breathe(62, 120, h2s_ppm=9.0)
    breathed = bench.engine.site.exposures["ann"]["H2S"]
    assert breathed.shift(EPOCH + 120) == pytest.approx(9.0 * 60.5 / 28_800, rel=0.02)
    bench.give(bench.desk.enter("ann", EPOCH + 121), at=121)
    bench.breathe(122, 180, h2s_ppm=9.0)
    assert breathed.shift(EPOCH + 180) == pytest.approx(9.0 * 119.5 / 28_800, rel=0.02)


def test_a_dose_that_is_reached_says_who_may_not_go_in_again() -> None:
    bench = occupied(bench=Bench(profile="US_GENERAL"))
    assert not is_exposed(bench.engine.site, "ann", EPOCH)
    for second in range(1, 1000, 4):
        bench.read(second, h2s_ppm=400.0)
    assert bench.alarm("GAS_TWA", "ann/H2S") == "unacked"
    assert is_exposed(bench.engine.site, "ann", EPOCH + 1000)
    bench.give(bench.desk.leave("ann", EPOCH + 1001), at=1001)
    bench.wait(1040)
    assert [e.object for e in bench.events if isinstance(e, AlarmReturned) and e.kind == "GAS_TWA"] == ["ann/H2S"]


def test_people_in_a_space_whose_air_nobody_measures_breathe_what_nobody_knows() -> None:
    plan = a_plan(spaces=[a_space(), a_space("n02", lock="lock-2")], instruments=[an_instrument(space="n02")])
    bench = Bench(plan)
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    assert bench.engine.site.exposures == {}
    leave = countdown(bench.engine.site, "n01", EPOCH)
    assert leave is not None
    assert (leave.at, leave.reason) == (None, "leave.unknown")


# -- the countdown ----------------------------------------------------------------------------------------------------


def test_nobody_inside_has_no_countdown() -> None:
    bench = Bench()
    bench.read(0)
    assert countdown(bench.engine.site, "n01", EPOCH) is None
    assert countdown(bench.engine.site, "n99", EPOCH) is None


@pytest.mark.parametrize(
    ("end_s", "battery_s", "reason", "at_s"),
    [
        (3600, 0.0, "leave.permit_end", 3600),
        (90_000, 0.0, "leave.stay", 7200),
        (90_000, 10_000.0, "leave.battery", 5000),
    ],
)
def test_the_earliest_reason_is_the_countdown(end_s: float, battery_s: float, reason: str, at_s: float) -> None:
    permit = a_permit(state=PermitState.ACTIVE, end=EPOCH + end_s)
    bench = Bench(a_plan(permits=[permit], instruments=[an_instrument(battery_life_s=battery_s)]))
    occupied(bench=bench, battery_percent=50.0)
    leave = countdown(bench.engine.site, "n01", EPOCH)
    assert leave is not None
    assert (leave.reason, leave.at) == (reason, EPOCH + at_s)


def test_a_rise_shortens_the_countdown() -> None:
    bench = occupied()
    for second in range(1, 12):
        bench.read(second, h2s_ppm=0.3 * second)
    leave = countdown(bench.engine.site, "n01", EPOCH + 11)
    assert leave is not None
    assert (leave.reason, leave.object) == ("leave.gas_slope", "gas-1/H2S")
    assert leave.at == pytest.approx(EPOCH + 23.5, abs=0.3)  # 7.06 ppm at 0.3 ppm a second


def test_breathed_gas_shortens_the_countdown() -> None:
    bench = occupied(bench=Bench(profile="US_GENERAL"))
    bench.breathe(1, 60, h2s_ppm=9.9, co_ppm=34.0)
    leave = countdown(bench.engine.site, "n01", EPOCH + 60)
    assert leave is not None
    assert leave.reason in ("leave.permit_end", "leave.stay")
    for second in range(61, 600, 4):
        bench.read(second, h2s_ppm=60.0)
    leave = countdown(bench.engine.site, "n01", EPOCH + 598)
    assert leave is not None
    assert leave.at is not None
    assert leave.at <= EPOCH + 598


def test_an_unknown_count_or_a_silent_instrument_is_an_unknown_countdown() -> None:
    bench = occupied()
    bench.wait(30)
    leave = countdown(bench.engine.site, "n01", EPOCH + 30)
    assert leave is not None
    assert leave.at is None
    other = occupied()
    other.engine.site.spaces["n01"].occupancy.doubt()
    unknown = countdown(other.engine.site, "n01", EPOCH)
    assert unknown is not None
    assert unknown.at is None


# -- space, overlays --------------------------------------------------------------------------------------------------


def test_a_space_follows_locks_and_people() -> None:
    bench, seen = Bench(), list[SpaceState]()
    acts: list[Callable[[], object]] = [
        lambda: bench.open_by_grant(GrantKind.PREP),
        lambda: bench.give(bench.desk.check_in(), bench.desk.enter("ann")),
        lambda: bench.give(bench.desk.leave("ann", EPOCH + 1), at=1),
        lambda: bench.lock(a_lock_state(Bolt.LOCKED), at=2),
    ]
    for act in acts:
        seen.append(bench.engine.site.spaces["n01"].state)
        act()
    seen.append(bench.engine.site.spaces["n01"].state)
    assert [state.value for state in seen] == ["idle", "preparing", "occupied", "preparing", "idle"]


def test_a_space_with_another_lock_open_is_not_idle() -> None:
    locks = [a_lock(), a_lock("lock-2")]
    bench = Bench(a_plan(locks=locks), locked=False)
    bench.give(bench.report("lock-2", a_lock_state(Bolt.RETRACTED)))
    bench.lock(a_lock_state(Bolt.LOCKED), at=1)
    assert bench.engine.site.spaces["n01"].state is SpaceState.PREPARING


def test_a_lock_of_a_space_nobody_knows_moves_no_space() -> None:
    bench = Bench(a_plan(spaces=[]), locked=False)
    bench.open_by_grant()
    assert "GrantUsed" in names(bench.events)


def test_what_lies_over_a_space_forbids_its_grants() -> None:
    bench = Bench(locked=False)
    assert overlay_of(bench.engine.site, "n01") is Overlay.UNKNOWN
    bench.lock(a_lock_state())
    assert overlay_of(bench.engine.site, "n01") is None
    bench.read(1, h2s_ppm=50.0)
    assert overlay_of(bench.engine.site, "n01") is Overlay.EMERGENCY
    resting = Bench(a_plan(spaces=[msgspec.structs.replace(a_space(), out_of_service=True)]))
    assert overlay_of(resting.engine.site, "n01") is Overlay.OUT_OF_SERVICE
    assert overlay_of(resting.engine.site, "n99") is Overlay.UNKNOWN


def test_force_that_was_seen_as_an_opening_has_one_alarm() -> None:
    bench = Bench()
    bench.lock(a_lock_state(Bolt.RETRACTED), at=1)
    bench.give(LogReceived("lock-1", [LogRecord(1, 1, 1, 0, LogEvent.FORCED, 1, 1, 1, 0, 90, 0, bytes(16))]), at=2)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"
    assert bench.alarm("FORCED", "lock-1") == "absent"


def test_a_low_battery_flag_counts_before_an_unknown_percentage() -> None:
    bench = Bench()
    state = msgspec.structs.replace(a_lock_state(flags=LockFlag.BATTERY_LOW), battery_percent=255)
    assert "AlarmRaised LOCK_BATTERY" in names(bench.lock(state, at=1))


def test_weather_of_another_space_is_not_ours() -> None:
    notice = Notice("w1", "heat", ["n02"], EPOCH - 60, EPOCH + 3600)
    bench = Bench(msgspec.structs.replace(a_plan(), notices=[notice]))
    assert bench.alarm("WEATHER", "w1") == "absent"


def test_weather_that_is_to_come_is_told_when_it_comes_and_returns_when_it_ends() -> None:
    notice = Notice("w1", "heat", ["n01"], EPOCH + 60, EPOCH + 120)
    bench = Bench(msgspec.structs.replace(a_plan(), notices=[notice]))
    bench.wait(59)
    assert bench.alarm("WEATHER", "w1") == "absent"
    bench.wait(60)
    assert bench.alarm("WEATHER", "w1") == "unacked"
    bench.wait(151)
    assert bench.alarm("WEATHER", "w1") == "returned_unacked"


# -- incidents, shelving, service -------------------------------------------------------------------------------------


def test_alarms_of_a_space_that_overlap_are_one_incident() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=50.0)
    raised = [e for e in bench.events if isinstance(e, AlarmRaised)]
    assert len(raised) == 3
    assert len({e.incident for e in raised}) == 1


def test_a_reminder_is_shelved_and_comes_back_by_itself_or_by_hand() -> None:
    bench = Bench()
    bench.lock(msgspec.structs.replace(a_lock_state(), battery_percent=10), at=1)
    low = bench.alarm_id("LOCK_BATTERY", "lock-1")
    bench.give(bench.desk.shelve(low, EPOCH + 2, until=EPOCH + 100), at=2)
    assert bench.alarm("LOCK_BATTERY", "lock-1") == "shelved"
    events = bench.give(bench.desk.unshelve(low, EPOCH + 3), at=3)
    assert names(events) == ["AlarmUnshelved LOCK_BATTERY", "AlarmRaised LOCK_BATTERY"]
    low = bench.alarm_id("LOCK_BATTERY", "lock-1")
    bench.give(bench.desk.shelve(low, EPOCH + 4, until=EPOCH + 100), at=4)
    bench.lock(msgspec.structs.replace(a_lock_state(), battery_percent=10), at=60)
    ended = bench.wait(100)
    assert [e.by for e in ended if isinstance(e, AlarmUnshelved)] == [""]
    assert "AlarmRaised LOCK_BATTERY" in names(ended)
    bench.give(bench.desk.unshelve(bench.alarm_id("LOCK_BATTERY", "lock-1"), EPOCH + 101), at=101)
    assert reasons(bench) == ["alarm.not_shelved"]


def test_an_instrument_out_of_service_is_quiet_in_an_empty_space_and_loud_in_an_occupied_one() -> None:
    plan = a_plan(instruments=[an_instrument(out_of_service=True)])
    bench = Bench(plan)
    bench.read(0, h2s_ppm=50.0)  # test gas on the bench
    assert bench.alarm("GAS_HIGH", "gas-1/H2S") == "out_of_service"
    assert not [e for e in bench.events if isinstance(e, AlarmRaised)]
    loud = occupied(bench=Bench(plan))
    loud.read(1, h2s_ppm=50.0)
    assert loud.alarm("GAS_HIGH", "gas-1/H2S") == "unacked"


def test_what_a_gateway_says_of_itself_is_a_level_that_returns() -> None:
    bench = Bench()
    for at in (1, 2):
        bench.give(HealthReported("UPLINK_LOST", "gw-1", holds=True), at=at)
    assert len([e for e in bench.events if isinstance(e, AlarmRaised)]) == 1
    bench.give(HealthReported("UPLINK_LOST", "gw-1", holds=False), at=3)
    bench.wait(40)
    assert bench.alarm("UPLINK_LOST", "gw-1") == "latched_unacked"


def test_the_word_of_an_attendant_who_went_off_duty_is_not_that_of_the_next() -> None:
    bench = occupied()
    bench.give(PlanReceived(a_plan(2, permits=[a_permit(state=PermitState.ACTIVE, attendant="other")])), at=1)
    assert bench.alarm("ATTENDANT_ABSENT", "n01") == "unacked"


def test_a_shift_in_the_plan_is_noticed_at_once() -> None:
    """A closing permit starts its clock when the plan says so; a plan that goes back stops it."""
    bench = Bench()
    bench.give(PlanReceived(a_plan(2, permits=[a_permit(state=PermitState.CLOSING)])), at=1)
    assert bench.engine.site.spaces["n01"].closing_since == EPOCH + 1
    bench.give(PlanReceived(a_plan(3, permits=[a_permit(state=PermitState.CLOSING)])), at=9)
    assert bench.engine.site.spaces["n01"].closing_since == EPOCH + 1
    bench.give(PlanReceived(a_plan(4, permits=[])), at=10)
    assert bench.engine.site.spaces["n01"].closing_since is None


# -- a new journal ----------------------------------------------------------------------------------------------------


def counts(bench: Bench) -> dict[str, int | None]:
    return {space.id: space.occupancy.count for space in bench.engine.site.spaces.values()}


@pytest.mark.parametrize("state", list(PermitState))
def test_on_a_new_journal_a_space_with_a_permit_under_way_is_not_believed_empty(state: PermitState) -> None:
    spaces = [a_space(), a_space("n02", lock="lock-2")]
    bench = Bench(a_plan(spaces=spaces, permits=[a_permit(state=state)]), counted=False)
    under_way = state in (PermitState.ACTIVE, PermitState.EVACUATING)
    assert counts(bench) == {"n01": None if under_way else 0, "n02": 0}
    bench.give(PlanReceived(a_plan(2, spaces=spaces, permits=[a_permit(state=PermitState.ACTIVE)])), at=1)
    assert counts(bench) == {"n01": None if under_way else 0, "n02": 0}, "only the first plan of a journal"


def test_behind_a_damaged_journal_no_space_is_believed_empty() -> None:
    bench = Bench(a_plan(spaces=[a_space(), a_space("n02", lock="lock-2")], permits=[]), counted=False)
    damaged = replace_first(bench, HealthReported("JOURNAL_GAP", "journal", holds=True, grave=True))
    assert counts(damaged) == {"n01": None, "n02": None}
    lost = replace_first(bench, HealthReported("JOURNAL_GAP", "journal", holds=True))
    assert counts(lost) == {"n01": 0, "n02": 0}
    over = replace_first(bench, HealthReported("JOURNAL_GAP", "journal", holds=False, grave=True))
    assert counts(over) == {"n01": 0, "n02": 0}
    other = replace_first(bench, HealthReported("STORE_LAGGING", "telemetry", holds=True, grave=True))
    assert counts(other) == {"n01": 0, "n02": 0}


def replace_first(bench: Bench, health: HealthReported) -> Bench:
    """The same site, told this of its gateway before its first plan."""
    told = Bench(counted=False, locked=False)
    told.engine = Engine("yard", told.engine.site.limits, told.engine.site.timings)
    told.engine.receive([health], EPOCH)
    for now, items in bench.journal:
        told.engine.receive(items, now)
    return told


def test_a_space_taken_over_with_people_gives_its_attendant_the_usual_time_and_a_recount_ends_the_doubt() -> None:
    bench = Bench(counted=False)
    wait = bench.engine.site.timings.attendant_checkin_s
    bench.wait(wait - 0.1)
    assert bench.alarm("ATTENDANT_ABSENT", "n01") == "absent"
    bench.wait(wait)
    assert bench.alarm("ATTENDANT_ABSENT", "n01") == "unacked"
    bench.give(bench.desk.recount("ann", at=EPOCH + wait), at=wait)
    assert counts(bench) == {"n01": 1}
    again, _ = replay(bench.journal)
    assert again.site.spaces == bench.engine.site.spaces


def test_nobody_can_be_shut_in_while_the_count_of_a_new_journal_is_unknown() -> None:
    bench = Bench(counted=False)
    bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT, EPOCH))
    assert reasons(bench) == ["permit.people_inside"]
