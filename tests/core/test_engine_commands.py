"""Commands and plans: done once, in time, by the right person; every refusal with its reason."""

import pytest

from manway.commands import GreetLock
from manway.entities import Bolt
from manway.events import AlarmAcknowledged, AlarmReset, CommandRefused, Event, PlanApplied, PlanRejected
from manway.inputs import CommandReceived, FrameReceived, LockReported, PlanReceived
from tests.kit.builders import UNITS, Bench, a_frame, a_lock, a_lock_state, a_plan, an_instrument, names, replay
from tests.kit.clock import EPOCH

H2S = "gas-1/H2S"


def returned() -> Bench:
    """A P1 gas alarm whose air is good again: latched, nobody has looked at it yet. It is second 60."""
    bench = Bench()
    bench.read(0, h2s_ppm=8.0)
    bench.breathe(1, 60)
    assert bench.alarm("GAS_LOW", H2S) == "latched_unacked"
    return bench


def reasons(events: list[Event]) -> list[str]:
    return [e.reason for e in events if isinstance(e, CommandRefused)]


def test_acknowledged_by_one_and_reset_by_another_a_p1_is_closed() -> None:
    bench = returned()
    alarm = bench.alarm_id("GAS_LOW", H2S)
    (seen,) = bench.give(bench.desk.acknowledge(alarm, EPOCH + 61), at=61)
    assert isinstance(seen, AlarmAcknowledged)
    assert (seen.alarm, seen.by, seen.cause) == (alarm, "attendant", "command-2")
    (closed,) = bench.give(bench.desk.reset(alarm, EPOCH + 62), at=62)
    assert isinstance(closed, AlarmReset)
    assert (closed.by, closed.verdict, closed.reason) == ("manager", "real", "sludge was stirred")
    assert bench.alarm("GAS_LOW", H2S) == "normal"


def test_the_one_who_acknowledged_a_p1_cannot_reset_it() -> None:
    bench = returned()
    alarm = bench.alarm_id("GAS_LOW", H2S)
    bench.give(bench.desk.acknowledge(alarm, EPOCH + 61), at=61)
    assert reasons(bench.give(bench.desk.reset(alarm, EPOCH + 62, by="attendant"), at=62)) == ["alarm.same_person"]
    assert bench.alarm("GAS_LOW", H2S) == "latched_acked"


def test_a_p2_may_be_reset_by_whoever_acknowledged_it() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant())
    bench.wait(10)
    bench.lock(bench.engine.site.locks["lock-1"].reported or pytest.fail("no report"), at=11)
    bench.wait(41)
    alarm = bench.alarm_id("LOCK_UNCONFIRMED", "lock-1")
    bench.give(bench.desk.acknowledge(alarm, EPOCH + 42), at=42)
    bench.give(bench.desk.reset(alarm, EPOCH + 43, by="attendant"), at=43)
    assert bench.alarm("LOCK_UNCONFIRMED", "lock-1") == "normal"


def test_only_a_person_closes_a_latched_alarm() -> None:
    bench = returned()
    bench.give(bench.desk.acknowledge(bench.alarm_id("GAS_LOW", H2S), EPOCH + 61), at=61)
    bench.breathe(62, 3600)
    bench.wait(24 * 3600)
    assert bench.alarm("GAS_LOW", H2S) == "latched_acked"


def test_an_alarm_is_acknowledged_once() -> None:
    bench = returned()
    alarm = bench.alarm_id("GAS_LOW", H2S)
    bench.give(bench.desk.acknowledge(alarm, EPOCH + 61), at=61)
    assert reasons(bench.give(bench.desk.acknowledge(alarm, EPOCH + 62), at=62)) == ["alarm.already_acknowledged"]


def test_nothing_is_reset_before_it_is_acknowledged() -> None:
    bench = returned()
    assert reasons(bench.give(bench.desk.reset(bench.alarm_id("GAS_LOW", H2S), EPOCH + 61), at=61)) == ["alarm.not_returned"]


def test_nothing_is_reset_while_it_holds() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=8.0)
    alarm = bench.alarm_id("GAS_LOW", H2S)
    bench.give(bench.desk.acknowledge(alarm, EPOCH + 1), at=1)
    assert reasons(bench.give(bench.desk.reset(alarm, EPOCH + 2), at=2)) == ["alarm.not_returned"]


def test_nothing_is_reset_on_air_that_nobody_measures_any_more() -> None:
    bench = returned()
    alarm = bench.alarm_id("GAS_LOW", H2S)
    bench.give(bench.desk.acknowledge(alarm, EPOCH + 61), at=61)
    assert reasons(bench.give(bench.desk.reset(alarm, EPOCH + 100), at=100)) == ["alarm.not_returned"]


@pytest.mark.parametrize("button", ["acknowledge", "reset"])
def test_a_closed_or_unknown_alarm_has_no_buttons(button: str) -> None:
    bench = Bench()
    command = bench.desk.acknowledge("no such", EPOCH) if button == "acknowledge" else bench.desk.reset("no such", EPOCH)
    assert reasons(bench.give(command)) == ["alarm.not_open"]


def test_gas_that_comes_back_after_the_acknowledgement_is_a_new_episode() -> None:
    bench = returned()
    first = bench.alarm_id("GAS_LOW", H2S)
    bench.give(bench.desk.acknowledge(first, EPOCH + 61), at=61)
    assert "AlarmRaised GAS_LOW" in names(bench.read(62, h2s_ppm=8.0))
    assert bench.alarm_id("GAS_LOW", H2S) != first
    assert bench.alarm("GAS_LOW", H2S) == "unacked"


def test_a_repeated_command_is_carried_out_and_answered_once() -> None:
    bench = Bench()
    order = bench.desk.evacuate()
    assert bench.give(order)
    assert bench.give(order, at=1) == []
    assert bench.engine.accepted(order.command.id)


@pytest.mark.parametrize("other_first", [True, False])
def test_a_command_repeated_in_its_last_second_is_still_the_same_command(other_first: bool) -> None:  # noqa: FBT001  a case
    bench = Bench(a_plan(instruments=[]))
    order = bench.desk.evacuate()
    bench.give(order)
    if other_first:
        bench.give(bench.desk.check_in(EPOCH + 60), at=60)
    assert bench.give(order, at=60) == []


def test_a_refused_command_is_not_accepted_and_is_refused_once() -> None:
    bench = Bench()
    command = bench.desk.evacuate(space="n99")
    assert reasons(bench.give(command)) == ["space.unknown"]
    assert bench.give(command, at=1) == []
    assert not bench.engine.accepted(command.command.id)
    assert not bench.engine.accepted("never seen")


def test_an_expired_command_is_refused_and_not_carried_out() -> None:
    bench = Bench()
    bench.give(bench.desk.check_in())
    late = bench.desk.enter("ann", EPOCH)
    assert reasons(bench.give(late, at=60.1)) == ["command.expired"]
    assert bench.engine.site.spaces["n01"].occupancy.count == 0


def test_ids_are_forgotten_once_their_commands_have_expired() -> None:
    bench = Bench()
    for minute in range(200):
        bench.give(bench.desk.check_in(EPOCH + 100 * minute), at=100 * minute)
    assert len(bench.engine._done) == 1


def test_a_refusal_names_its_command() -> None:
    bench = Bench()
    (event,) = bench.give(bench.desk.evacuate(space="n99"))
    assert event.cause == "command-1"


@pytest.mark.parametrize(("lock", "found"), [("lock-1", []), ("lock-9", ["lock.unknown"])])
def test_only_known_locks_are_greeted(lock: str, found: list[str]) -> None:
    command = GreetLock(id="1", site="yard", at=EPOCH, exp=EPOCH + 60, by="attendant", lock=lock)
    assert reasons(Bench().give(CommandReceived(command))) == found


def test_a_grant_for_an_unknown_lock_is_refused() -> None:
    bench = Bench()
    assert reasons(bench.give(bench.desk.write_grant(lock="lock-9"))) == ["lock.unknown"]


def test_the_first_plan_is_applied_and_a_newer_one_after_it() -> None:
    bench = Bench(counted=False)
    assert [e.version for e in bench.events if isinstance(e, PlanApplied)] == [1]
    (event,) = bench.give(PlanReceived(a_plan(3)), at=1)
    assert isinstance(event, PlanApplied)


def test_an_older_plan_is_rejected_and_the_same_one_is_no_news() -> None:
    bench = Bench(a_plan(5))
    (event,) = bench.give(PlanReceived(a_plan(4, permits=[])), at=1)
    assert isinstance(event, PlanRejected)
    assert (event.version, event.reason) == (4, "older than the one applied")
    assert bench.give(PlanReceived(a_plan(5, permits=[])), at=2) == []
    assert bench.engine.site.permit_of("n01") is not None


def test_a_plan_whose_units_nobody_can_judge_is_rejected_as_a_whole() -> None:
    bench = Bench()
    wrong = a_plan(2, instruments=[an_instrument(channels=UNITS | {"LEL": "ppm"})], permits=[])
    (event,) = bench.give(PlanReceived(wrong), at=1)
    assert isinstance(event, PlanRejected)
    assert event.reason == "no limit of LEL can be compared with ppm"
    assert bench.engine.site.permit_of("n01") is not None


def test_a_first_plan_that_is_rejected_leaves_the_site_without_one() -> None:
    bench = Bench(a_plan(instruments=[an_instrument(channels={"O2": "% LEL"})]), locked=False, counted=False)
    assert names(bench.events) == ["PlanRejected"]
    assert bench.engine.site.plan is None
    assert reasons(bench.give(bench.desk.enter("ann"))) == ["permit.unknown"]


def test_a_new_plan_keeps_what_the_gateway_knows() -> None:
    bench = Bench()
    bench.give(bench.desk.check_in())
    bench.open_by_grant()
    bench.give(bench.desk.enter("ann"))
    bench.read(0, h2s_ppm=8.0)
    bench.give(PlanReceived(a_plan(2, used_grants={"lock-1": "other"})), at=1)
    site = bench.engine.site
    assert site.spaces["n01"].occupancy.count == 1
    assert site.locks["lock-1"].used_grant != "other"
    assert site.instruments["gas-1"].ledger.received == 1
    assert bench.alarm("GAS_LOW", H2S) == "unacked"


def test_a_channel_that_a_plan_adds_is_judged_from_then_on() -> None:
    bench = Bench(a_plan(instruments=[an_instrument(channels={"O2": "% vol"})]))
    assert names(bench.read(0, h2s_ppm=8.0)) == []
    bench.give(PlanReceived(a_plan(2)), at=1)
    assert "AlarmRaised GAS_LOW" in names(bench.read(2, h2s_ppm=8.0))
    assert bench.engine.site.instruments["gas-1"].ledger.received == 2


def test_a_lock_that_a_plan_adds_is_unknown_until_it_reports() -> None:
    bench = Bench()
    bench.give(PlanReceived(a_plan(2, locks=[a_lock(), a_lock("lock-2")])), at=1)
    assert bench.engine.site.locks["lock-2"].position.value == "unknown"


def test_before_the_first_plan_nobody_is_named_and_that_is_no_fault() -> None:
    engine, _ = replay([])
    assert engine.receive([FrameReceived(a_frame()), LockReported("lock-1", a_lock_state())], EPOCH) == []


def test_what_a_lock_said_before_the_plan_that_names_it_is_not_forgotten() -> None:
    engine, _ = replay([])
    engine.receive([LockReported("lock-1", a_lock_state(Bolt.RETRACTED), retained=True)], EPOCH)
    events = engine.receive([PlanReceived(a_plan())], EPOCH + 1)
    assert names(events) == ["LockUnlocked", "PlanApplied", "AlarmRaised UNAUTHORISED_OPEN"]
