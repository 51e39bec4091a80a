"""People: in and out by name, evacuation until the last one is out, the attendant outside, the clock above all."""

import msgspec
import pytest

from manway.entities import Bolt, PermitState
from manway.events import AlarmRaised, CommandRefused, EvacuationCompleted, EvacuationOrdered, PersonEntered
from manway.ids import GrantKind, Priority
from manway.inputs import PlanReceived
from tests.kit.builders import Bench, a_lock, a_lock_state, a_permit, a_plan, a_space, names
from tests.kit.clock import EPOCH


def opened(permit_end: float = EPOCH + 7200) -> Bench:
    """The space is open under an active permit, nobody inside, the attendant present, the air clean."""
    bench = Bench(a_plan(permits=[a_permit(state=PermitState.ACTIVE, end=permit_end)]))
    bench.open_by_grant()
    bench.give(bench.desk.check_in())
    bench.read(0)
    return bench


def reasons(events: list[object]) -> list[str]:
    return [e.reason for e in events if isinstance(e, CommandRefused)]


def priorities(bench: Bench, kind: str) -> list[tuple[float, Priority]]:
    return [(e.at - EPOCH, e.priority) for e in bench.events if isinstance(e, AlarmRaised) and e.kind == kind]


def test_somebody_goes_in_and_comes_out() -> None:
    bench = opened()
    event, _record = bench.give(bench.desk.enter("ann", EPOCH + 1), at=1)
    assert isinstance(event, PersonEntered)
    assert (event.person, event.permit, event.space, event.source) == ("ann", "permit-1", "n01", "attendant")
    assert bench.engine.site.spaces["n01"].occupancy.inside == {"ann": EPOCH + 1}
    assert names(bench.give(bench.desk.leave("ann", EPOCH + 2), at=2)) == ["PersonLeft"]
    assert bench.engine.site.spaces["n01"].occupancy.count == 0


def test_what_cannot_be_true_is_refused_with_its_reason() -> None:
    bench = opened()
    desk = bench.desk
    bench.give(desk.enter("ann"))
    assert reasons([*bench.give(desk.enter("ann"))]) == ["entry.already_inside"]
    assert reasons([*bench.give(desk.leave("bob"))]) == ["entry.not_inside"]
    assert reasons([*bench.give(desk.count("up", "bob"))]) == ["entry.unknown_direction"]
    assert reasons([*bench.give(desk.enter("mallory"))]) == ["entry.not_on_permit"]
    assert reasons([*bench.give(desk.enter("attendant"))]) == ["entry.not_on_permit"], "the attendant stays outside"
    assert reasons([*bench.give(desk.count("in", "bob", permit="permit-9"))]) == ["permit.unknown"]
    assert reasons([*bench.give(desk.count("in", "bob", space="n99"))]) == ["permit.unknown"]
    assert bench.engine.site.spaces["n01"].occupancy.count == 1


def test_without_a_permit_nobody_is_counted_in() -> None:
    bench = Bench(a_plan(permits=[]))
    assert reasons([*bench.give(bench.desk.enter("ann"))]) == ["permit.unknown"]


def test_whoever_is_inside_can_be_counted_out_whatever_has_become_of_the_permit() -> None:
    bench = opened()
    bench.give(bench.desk.enter("ann"))
    bench.give(PlanReceived(a_plan(2, permits=[])), at=1)
    assert "PersonLeft" in names(bench.give(bench.desk.leave("ann", EPOCH + 2), at=2))


def test_an_evacuation_is_complete_when_the_last_one_is_out() -> None:
    bench = opened()
    bench.give(bench.desk.enter("ann"), bench.desk.enter("bob"))
    (order,) = bench.give(bench.desk.evacuate(EPOCH + 1), at=1)
    assert isinstance(order, EvacuationOrdered)
    assert (order.space, order.permit, order.by) == ("n01", "permit-1", "attendant")
    assert names(bench.give(bench.desk.leave("ann", EPOCH + 2), at=2)) == ["PersonLeft"]
    assert names(bench.give(bench.desk.leave("bob", EPOCH + 3), at=3)) == ["PersonLeft", "EvacuationCompleted"]
    assert not bench.engine.site.spaces["n01"].evacuating


def test_whoever_goes_in_during_an_evacuation_is_counted_and_it_is_an_alarm() -> None:
    """A rescuer who runs in without air is the second victim: refused in words, they would be uncounted as well."""
    bench = opened()
    bench.give(bench.desk.enter("ann"), bench.desk.evacuate())
    events = bench.give(bench.desk.enter("passer-by", EPOCH + 1), at=1)
    assert "AlarmRaised ENTRY_IN_PREP" in names(events)
    assert bench.engine.site.spaces["n01"].occupancy.count == 2


def test_an_order_for_an_empty_space_is_complete_at_once_and_bars_nobody_for_ever() -> None:
    bench = opened()
    assert names(bench.give(bench.desk.evacuate())) == ["EvacuationOrdered", "EvacuationCompleted"]
    assert names(bench.give(bench.desk.enter("ann"))) == ["PersonEntered", "ReadingsRecorded"]


def test_an_unknown_count_is_evacuated_and_never_complete_by_itself() -> None:
    bench = opened()
    bench.engine.site.spaces["n01"].occupancy.known = False
    events = bench.read(1, h2s_ppm=50.0)
    assert "EvacuationOrdered" in names(events)
    assert not [e for e in bench.events if isinstance(e, EvacuationCompleted)]


def test_a_second_evacuation_for_the_same_alarm_is_a_second_event() -> None:
    bench = opened()
    bench.give(bench.desk.enter("ann"))
    bench.read(1, h2s_ppm=50.0)
    bench.give(bench.desk.leave("ann", EPOCH + 2), at=2)
    bench.give(bench.desk.enter("ann", EPOCH + 3), at=3)
    orders = [e for e in bench.events if isinstance(e, EvacuationOrdered)]
    assert [e.at - EPOCH for e in orders] == [1.0, 3.0]
    assert len({e.id for e in orders}) == 2


def test_air_that_is_good_again_ends_no_evacuation() -> None:
    """Vector 17."""
    bench = opened()
    bench.give(bench.desk.enter("ann"))
    bench.read(1, h2s_ppm=8.0)
    bench.breathe(2, 120)
    assert bench.engine.site.spaces["n01"].evacuating
    assert "AlarmRaised ENTRY_IN_PREP" in names(bench.give(bench.desk.enter("bob", EPOCH + 121), at=121))


@pytest.mark.parametrize("unknown", ["evacuate", "check_in"])
def test_an_unknown_space_is_refused(unknown: str) -> None:
    bench = Bench()
    command = bench.desk.evacuate(space="n99") if unknown == "evacuate" else bench.desk.check_in(space="n99")
    assert reasons([*bench.give(command)]) == ["space.unknown"]


def test_an_attendant_who_is_not_heard_for_three_minutes_is_absent() -> None:
    bench = opened()
    bench.give(bench.desk.enter("ann"))
    for second in range(1, 181):
        bench.read(second)
    assert priorities(bench, "ATTENDANT_ABSENT") == [(180.0, Priority.P1)]
    assert [e.at - EPOCH for e in bench.events if isinstance(e, EvacuationOrdered)] == [180.0]


def test_an_attendant_who_never_came_is_absent_as_soon_as_somebody_is_inside() -> None:
    bench = Bench()
    bench.open_by_grant()
    events = bench.give(bench.desk.enter("ann"))
    assert names(events) == ["PersonEntered", "AlarmRaised ATTENDANT_ABSENT", "EvacuationOrdered"]


def test_a_check_in_every_minute_keeps_the_alarm_away() -> None:
    bench = opened()
    bench.give(bench.desk.enter("ann"))
    bench.breathe(1, 600)
    assert bench.alarm("ATTENDANT_ABSENT", "n01") == "absent"


def test_the_end_passing_with_two_inside_is_overtime_and_the_permit_stays_open() -> None:
    """Vector 16."""
    bench = opened(permit_end=EPOCH + 100)
    bench.give(bench.desk.enter("ann"), bench.desk.enter("bob"))
    bench.breathe(1, 500)
    assert priorities(bench, "OVERTIME") == [(100.0, Priority.P2), (400.0, Priority.P1)]
    permit = bench.engine.site.permit_of("n01")
    assert permit is not None
    assert permit.state is PermitState.ACTIVE
    assert not [e for e in bench.events if isinstance(e, EvacuationOrdered)]


def test_the_end_passing_with_nobody_inside_is_no_overtime() -> None:
    bench = opened(permit_end=EPOCH + 100)
    bench.breathe(1, 200)
    assert bench.alarm("OVERTIME", "n01") == "absent"


def test_somebody_inside_while_the_space_is_only_being_ventilated_is_an_alarm() -> None:
    bench = Bench(a_plan(permits=[a_permit(state=PermitState.APPROVED)]))
    bench.open_by_grant(GrantKind.PREP)
    events = bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    assert names(events) == ["CheckInRecorded", "PersonEntered", "AlarmRaised ENTRY_IN_PREP", "EvacuationOrdered"]


@pytest.mark.parametrize("kind", [GrantKind.ENTRY, GrantKind.EMERGENCY])
def test_an_entry_grant_in_use_allows_the_first_one_in(kind: GrantKind) -> None:
    bench = Bench(a_plan(permits=[a_permit(state=PermitState.READY)]))
    bench.open_by_grant(kind)
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    assert bench.alarm("ENTRY_IN_PREP", "n01") == "absent"


def test_a_bolt_thrown_with_somebody_inside_is_an_alarm() -> None:
    bench = opened()
    bench.give(bench.desk.enter("ann"))
    assert "AlarmRaised RELOCK_WITH_PERSON" in names(bench.lock(a_lock_state(), at=1))


def test_a_second_way_out_keeps_that_alarm_away_until_it_is_shut_too() -> None:
    first, second = a_space(), a_space(lock="lock-2")
    both = msgspec.structs.replace(first, entrances=[*first.entrances, *second.entrances])
    bench = Bench(a_plan(spaces=[both], locks=[a_lock(), a_lock("lock-2")]))
    bench.open_by_grant()
    bench.engine.site.locks["lock-2"].used_grant = "opened yesterday"
    bench.give(bench.report("lock-2", a_lock_state(Bolt.RETRACTED)))
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    bench.lock(a_lock_state(), at=1)
    assert bench.alarm("RELOCK_WITH_PERSON", "lock-1") == "absent"
    bench.give(bench.report("lock-2", a_lock_state()), at=2)
    assert bench.alarm("RELOCK_WITH_PERSON", "lock-1") == "unacked"


def test_of_two_permits_the_one_people_may_be_inside_on_counts() -> None:
    waiting, active = a_permit("waiting"), a_permit("active", state=PermitState.ACTIVE)
    bench = Bench(a_plan(permits=[waiting, active]))
    permit = bench.engine.site.permit_of("n01")
    assert permit is not None
    assert permit.id == "active"
