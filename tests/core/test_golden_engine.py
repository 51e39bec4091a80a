"""Golden vectors that need the whole engine (`domain.md` §12): 4 (live), 11-14, 16-19; and more of the same clauses."""

from importlib.resources import files

import msgspec
import pytest

from manway.entities import Bolt, PermitState
from manway.errors import ActionRefused
from manway.events import AlarmRaised, CommandRefused, EvacuationOrdered, GrantRefused, ReadingsRecorded
from manway.ids import GrantKind, Priority, Status
from manway.inputs import PlanReceived
from manway.limit_tables import parse_timings
from manway.permit import PermitSignal, after_evacuation, move
from tests.kit.builders import Bench, a_lock_state, a_permit, a_plan, an_instrument, names
from tests.kit.clock import EPOCH

H2S = "gas-1/H2S"


def occupied(*people: str, bench: Bench | None = None) -> Bench:
    bench = bench or Bench()
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), *(bench.desk.enter(person) for person in people or ("ann",)))
    bench.read(0)
    return bench


def raised(bench: Bench, kind: str) -> list[Priority]:
    return [e.priority for e in bench.events if isinstance(e, AlarmRaised) and e.kind == kind]


def test_4_ten_percent_lel_raises_low_when_live() -> None:
    bench = Bench()
    bench.read(0, lel=10.0)
    assert raised(bench, "GAS_LOW") == [Priority.P1]


def test_11_over_range_is_latched_and_a_later_zero_does_not_clear() -> None:
    bench = Bench()
    bench.read(0, statuses={"LEL": Status.OVER})
    bench.breathe(1, 120)
    assert bench.alarm("OVER_RANGE", "gas-1/LEL") == "unacked"
    assert bench.channel("LEL").level is None


def test_12_at_nine_percent_oxygen_the_combustible_reading_is_invalid() -> None:
    bench = Bench()
    bench.read(0, o2=9.0, lel=2.0)
    assert bench.channel("LEL").status is Status.INVALID
    assert bench.alarm("SENSOR_FAULT", "gas-1/LEL") == "unacked"
    assert raised(bench, "GAS_HIGH") == [Priority.P1]


@pytest.mark.parametrize("seconds", [15, 30, 45, 60])
def test_13_a_gap_of_61_s_with_one_inside_is_p1_under_every_permitted_setting(seconds: int) -> None:
    table = (files("manway") / "tables" / "timings.toml").read_text("utf-8")
    text = table.replace('id = "silence_evacuate_s"\nvalue = 15', f'id = "silence_evacuate_s"\nvalue = {seconds}')
    bench = occupied(bench=Bench(timings=parse_timings(text)))
    bench.wait(61)
    assert raised(bench, "DATA_LOST")[-1] is Priority.P1
    assert any(isinstance(e, EvacuationOrdered) for e in bench.events)


@pytest.mark.parametrize("inside", [1, None])
def test_14_close_out_with_somebody_inside_or_an_unknown_count_is_refused(inside: int | None) -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    if inside is None:
        bench.give(bench.desk.leave("ann"))
        bench.engine.site.spaces["n01"].occupancy.doubt()
    events = bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT, EPOCH + 1), at=1)
    assert [e.reason for e in events if isinstance(e, CommandRefused)] == ["permit.people_inside"]
    assert bench.engine.site.locks["lock-1"].written is None


def test_16_the_end_passes_with_two_inside_and_the_permit_stays_active() -> None:
    bench = occupied("ann", "bob", bench=Bench(a_plan(permits=[a_permit(state=PermitState.ACTIVE, end=EPOCH + 60)])))
    bench.breathe(1, 61)
    assert raised(bench, "OVERTIME") == [Priority.P2]
    assert bench.engine.site.permit_of("n01") is not None
    assert move(PermitState.ACTIVE, PermitSignal.EXPIRE, inside=2) is PermitState.ACTIVE
    bench.breathe(62, 361)
    assert raised(bench, "OVERTIME") == [Priority.P2, Priority.P1]


def test_17_gas_low_evacuates_and_the_return_to_normal_resumes_nothing() -> None:
    bench = occupied()
    bench.read(1, h2s_ppm=8.0)
    assert bench.engine.site.spaces["n01"].evacuating
    bench.breathe(2, 120)
    assert bench.alarm("GAS_LOW", H2S) == "latched_unacked"
    assert bench.engine.site.spaces["n01"].evacuating
    events = bench.give(bench.desk.write_grant(GrantKind.ENTRY, EPOCH + 121), at=121)
    assert [e.reason for e in events if isinstance(e, GrantRefused)] == ["ALARM_GAS_LOW"]
    with pytest.raises(ActionRefused):
        move(PermitState.EVACUATING, PermitSignal.RESUME, inside=0)
    assert move(PermitState.SUSPENDED, PermitSignal.RESUME, inside=0) is PermitState.READY
    assert after_evacuation("suspend", temporary=False) is PermitSignal.SUSPEND


@pytest.mark.parametrize("people", [("ann",), ()])
def test_18_gas_low_is_never_shelved(people: tuple[str, ...]) -> None:
    bench = occupied(*people) if people else Bench()
    bench.read(1, h2s_ppm=8.0)
    alarm = bench.alarm_id("GAS_LOW", H2S)
    events = bench.give(bench.desk.shelve(alarm, EPOCH + 2, until=EPOCH + 60), at=2)
    assert names(events) == ["CommandRefused"]
    assert bench.alarm("GAS_LOW", H2S) == "unacked"


@pytest.mark.parametrize("source", ["scan", "tag"])
def test_19_an_attendant_who_scans_in_as_an_entrant_is_absent(source: str) -> None:
    bench = occupied()
    events = bench.give(bench.desk.count("in", "attendant", EPOCH + 1, source=source), at=1)
    assert "AlarmRaised ATTENDANT_ABSENT" in names(events)
    assert raised(bench, "ATTENDANT_ABSENT") == [Priority.P1]


# -- of the same clauses -------------------------------------------------------------------------------------------------


def test_every_15_minutes_an_instantaneous_value_is_recorded() -> None:
    """GB 46768-2025 6.2.3; the first at once."""
    bench = occupied()
    for second in range(1, 1802):
        if second % 60 == 0:
            bench.give(bench.desk.check_in(EPOCH + second), at=second)
        bench.read(second, h2s_ppm=1.0)
    taken = [e for e in bench.events if isinstance(e, ReadingsRecorded)]
    assert [e.at - EPOCH for e in taken] == [0, 900, 1800]
    assert set(taken[0].values) == {"O2", "LEL", "H2S", "CO"}
    assert taken[1].values["H2S"] == pytest.approx(1.417, abs=0.001)
    assert taken[1].units["H2S"] == "mg/m3"


def test_a_record_that_cannot_be_read_waits_for_the_first_second_that_can() -> None:
    bench = Bench()
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    for second in range(5):
        bench.read(second, statuses={"CO": Status.FAULT})
    bench.read(5)
    assert [e.at - EPOCH for e in bench.events if isinstance(e, ReadingsRecorded)] == [5]


def test_a_lock_that_is_thrown_round_somebody_is_p1_and_no_door_is_shut_by_it() -> None:
    """29 CFR 1926.34(a)."""
    bench = occupied()
    bench.lock(a_lock_state(Bolt.LOCKED), at=1)
    assert raised(bench, "RELOCK_WITH_PERSON") == [Priority.P1]


def test_the_fan_of_a_space_that_needs_it_may_not_stop() -> None:
    """29 CFR 1926.1206(e); GB 46768-2025 6.2.4: desilting needs mechanical ventilation throughout."""
    permit = msgspec.structs.replace(a_permit(state=PermitState.ACTIVE), work_kinds=["desilting"])
    bench = Bench(a_plan(permits=[permit]))
    bench.read(0, fan_a=2.0)
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    bench.read(1, fan_a=2.0)
    assert raised(bench, "VENT_STOP") == []
    bench.read(2, fan_a=0.2)
    assert raised(bench, "VENT_STOP") == [Priority.P1]
    assert bench.engine.site.spaces["n01"].evacuating


@pytest.mark.parametrize(("seconds", "priority"), [(5, Priority.P2), (15, Priority.P1)])
def test_silence_with_somebody_inside_grows(seconds: float, priority: Priority) -> None:
    bench = occupied()
    bench.wait(seconds)
    assert raised(bench, "DATA_LOST")[-1] is priority


@pytest.mark.parametrize(
    ("setpoints", "lax"),
    [
        ({"H2S": 7.0}, False),  # 9.92 mg/m3, below MAC 10
        ({"H2S": 7.1}, True),  # 10.06
        ({"H2S": 10.0}, True),  # the US factory setting breaks the Chinese limit
        ({"CO": 35.0}, True),  # 40.8 mg/m3 > PC-STEL 30
        ({"H2S": 0.0}, True),  # 0 = switched off: a missing alarm [BW]
        ({"O2": 19.5}, False),
        ({"O2": 19.0}, True),
        ({"LEL": 10.0}, False),
        ({}, False),  # not read: not judged here, and no grant by G13
    ],
)
def test_an_instrument_set_laxer_than_the_profile_is_told(setpoints: dict[str, float], lax: bool) -> None:  # noqa: FBT001
    bench = Bench(a_plan(instruments=[an_instrument(setpoints=setpoints)]))
    bench.read(0)
    assert bool(raised(bench, "SETPOINT_LAX")) is lax


@pytest.mark.parametrize(
    ("ppm", "seconds", "poisoned"), [(201.0, 1, True), (51.0, 61, True), (51.0, 59, False), (49.0, 90, False)]
)
def test_h2s_poisons_the_combustible_sensor(ppm: float, seconds: int, poisoned: bool) -> None:  # noqa: FBT001
    """> 200 ppm at once, > 50 ppm for a minute [MSA]; a bump test is due then."""
    bench = Bench()
    bench.breathe(0, seconds, h2s_ppm=ppm)
    assert bench.engine.site.instruments["gas-1"].poisoned is poisoned
    assert (bench.alarm("INSTR_DUE", "gas-1") == "unacked") is poisoned
    if poisoned:
        bumped = an_instrument(bump_due=EPOCH + 40 * 86_400)
        bench.give(PlanReceived(a_plan(2, instruments=[bumped])), at=seconds + 1)
        assert not bench.engine.site.instruments["gas-1"].poisoned


def test_methane_of_another_base_is_compared_on_ours() -> None:
    """50 % LEL on base 5.0 is 2.5 % vol; on the profile's 4.4 that is 56.8 % LEL."""
    bench = Bench(a_plan(instruments=[an_instrument(lel_base_vol=5.0)]))
    bench.read(0, lel=50.0)
    assert bench.channel("LEL").value == pytest.approx(56.8, abs=0.02)


def test_a_solvent_that_reads_low_is_corrected() -> None:
    """Pentane at true 10 % LEL reads 4.95 on a sensor calibrated with methane (factor 2.02): GAS_LOW all the same."""
    bench = Bench(a_plan(instruments=[an_instrument(correction={"LEL": 2.02})]))
    bench.read(0, lel=4.96)
    assert raised(bench, "GAS_LOW") == [Priority.P1]
