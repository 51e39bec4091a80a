"""Every (state, signal) cell of an alarm, written down again from `domain.md` §4.7, and the life of one alarm."""

import msgspec
import pytest

from manway.alarm import (
    ON,
    QUIET,
    RETURNED,
    TABLE,
    Alarm,
    Around,
    Change,
    Condition,
    incident_of,
    said_better,
)
from manway.alarm import AlarmSignal as G
from manway.alarm import AlarmState as S
from manway.catalogue import CATALOGUE, latches
from manway.ids import Priority

# The arrows of the design, one line each; whatever is not here moves nothing.
ARROWS = {
    (S.NORMAL, G.ON): S.UNACKED,
    (S.RETURNED_UNACKED, G.ON): S.UNACKED,
    (S.LATCHED_UNACKED, G.ON): S.UNACKED,
    (S.LATCHED_ACKED, G.ON): S.UNACKED,
    (S.UNACKED, G.FADE): S.RETURNED_UNACKED,
    (S.UNACKED, G.LATCH): S.LATCHED_UNACKED,
    (S.ACKED, G.FADE): S.NORMAL,
    (S.ACKED, G.LATCH): S.LATCHED_ACKED,
    (S.UNACKED, G.ACKNOWLEDGE): S.ACKED,
    (S.RETURNED_UNACKED, G.ACKNOWLEDGE): S.NORMAL,
    (S.LATCHED_UNACKED, G.ACKNOWLEDGE): S.LATCHED_ACKED,
    (S.LATCHED_ACKED, G.RESET): S.NORMAL,
    # quiet: by a person, by design, by the ledger; the last two never of what nobody has acknowledged
    (S.UNACKED, G.SHELVE): S.SHELVED,
    (S.ACKED, G.SHELVE): S.SHELVED,
    (S.SHELVED, G.UNSHELVE): S.NORMAL,
    (S.NORMAL, G.SUPPRESS): S.SUPPRESSED,
    (S.ACKED, G.SUPPRESS): S.SUPPRESSED,
    (S.SUPPRESSED, G.UNSUPPRESS): S.NORMAL,
    (S.NORMAL, G.REMOVE): S.OUT_OF_SERVICE,
    (S.ACKED, G.REMOVE): S.OUT_OF_SERVICE,
    (S.OUT_OF_SERVICE, G.RESTORE): S.NORMAL,
}
# Unlisted cells: what is reported moves nothing, what a person asks is refused.
BUTTONS = {G.ACKNOWLEDGE, G.RESET, G.SHELVE, G.UNSHELVE}
CELLS = [(s, g) for s in S for g in G]
LATCHED = {S.LATCHED_UNACKED, S.LATCHED_ACKED}
UNSEEN = {S.UNACKED, S.RETURNED_UNACKED, S.LATCHED_UNACKED}
DELAY = 30.0
EMPTY = Around(occupied=False)


def expected(state: S, signal: G) -> S | None:
    return ARROWS.get((state, signal), None if signal in BUTTONS else state)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=lambda v: v.value)
def test_every_cell_is_what_the_design_says(state: S, signal: G) -> None:
    assert TABLE[state, signal] is expected(state, signal)


@pytest.mark.parametrize(("state", "signal"), CELLS, ids=lambda v: v.value)
def test_a_refused_signal_changes_nothing(state: S, signal: G) -> None:
    alarm = Alarm("yard", "LOCK_BATTERY", "lock-1", "n01", state=state, priority=Priority.P3)
    accepted = alarm.signal(signal)
    assert accepted == (expected(state, signal) is not None)
    assert alarm.state is (expected(state, signal) or state)


def test_only_reset_leads_from_latched_to_normal() -> None:
    assert {g for s in LATCHED for g in G if TABLE[s, g] is S.NORMAL} == {G.RESET}
    assert {g for s in LATCHED for g in G if TABLE[s, g] in QUIET} == set()


def test_an_unacknowledged_alarm_never_becomes_normal_without_a_person() -> None:
    assert {g for s in UNSEEN for g in G if TABLE[s, g] is S.NORMAL} == {G.ACKNOWLEDGE}
    assert TABLE[S.UNACKED, G.ACKNOWLEDGE] is S.ACKED


def test_what_nobody_has_acknowledged_only_a_person_makes_quiet() -> None:
    assert {g for s in UNSEEN for g in G if TABLE[s, g] in QUIET} == {G.SHELVE}


@pytest.mark.parametrize("priority", [Priority.P1, Priority.P2])
@pytest.mark.parametrize("state", [s for s in S if s not in QUIET | {S.NORMAL}], ids=lambda s: s.value)
def test_no_signal_makes_an_open_p1_or_p2_quiet(state: S, priority: Priority) -> None:
    for signal in (G.SHELVE, G.SUPPRESS, G.REMOVE):
        alarm = Alarm("yard", "GAS_LOW", "gas-1/H2S", "n01", state=state, priority=priority)
        assert not alarm.signal(signal)
        assert alarm.state is state


def test_from_a_quiet_state_only_its_own_end_leads_away_and_to_judging_anew() -> None:
    for state, end in ((S.SHELVED, G.UNSHELVE), (S.SUPPRESSED, G.UNSUPPRESS), (S.OUT_OF_SERVICE, G.RESTORE)):
        assert {g for g in G if TABLE[state, g] not in (state, None)} == {end}
        assert TABLE[state, end] is S.NORMAL


def test_acknowledging_never_hides_a_condition_that_holds() -> None:
    assert {TABLE[s, G.ACKNOWLEDGE] for s in (S.UNACKED, S.ACKED)} == {S.ACKED, None}


@pytest.mark.parametrize(("priority", "latching"), [(1, True), (2, True), (3, False), (4, False)])
def test_p1_and_p2_latch_and_p3_and_p4_do_not(priority: int, latching: bool) -> None:  # noqa: FBT001  a table's column
    assert latches(Priority(priority)) is latching


def condition(*, holds: bool | None, priority: Priority = Priority.P1, value: float | None = 15.0) -> Condition:
    return Condition("GAS_LOW", "gas-1/H2S", "n01", holds, priority, value=value, limit=10.0, unit="mg/m3", clause="5.9.1")


def an_alarm() -> Alarm:
    return Alarm("yard", "GAS_LOW", "gas-1/H2S", "n01")


def test_a_condition_that_holds_raises_once_and_carries_what_was_seen() -> None:
    alarm = an_alarm()
    assert alarm.feel(condition(holds=True), 100.0, DELAY) is Change.RAISED
    assert (alarm.state, alarm.episode, alarm.count, alarm.since) == (S.UNACKED, 1, 1, 100.0)
    assert alarm.named == {"alarm": alarm.id, "kind": "GAS_LOW", "object": "gas-1/H2S", "space": "n01"}
    assert (alarm.value, alarm.limit, alarm.unit, alarm.clause) == (15.0, 10.0, "mg/m3", "5.9.1")
    assert alarm.feel(condition(holds=True), 101.0, DELAY) is None
    assert alarm.count == 1


@pytest.mark.parametrize(("priority", "after"), [(Priority.P1, S.LATCHED_UNACKED), (Priority.P3, S.RETURNED_UNACKED)])
def test_it_returns_after_the_off_delay_and_no_earlier(priority: Priority, after: S) -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True, priority=priority), 0.0, DELAY)
    assert alarm.feel(condition(holds=False, priority=priority), 10.0, DELAY) is None
    assert alarm.off_at(DELAY) == 40.0
    assert alarm.feel(condition(holds=False, priority=priority), 39.9, DELAY) is None
    assert alarm.state is S.UNACKED
    assert alarm.feel(condition(holds=False, priority=priority), 40.0, DELAY) is Change.RETURNED
    assert alarm.state is after
    assert alarm.off_at(DELAY) is None
    assert alarm.feel(condition(holds=False, priority=priority), 99.0, DELAY) is None


def test_unknown_stops_the_off_delay_and_changes_no_state() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY)
    alarm.feel(condition(holds=False), 10.0, DELAY)
    assert alarm.feel(condition(holds=None), 20.0, DELAY) is None
    assert (alarm.state, alarm.off_at(DELAY), alarm.holds) == (S.UNACKED, None, None)
    alarm.feel(condition(holds=False), 30.0, DELAY)
    assert alarm.off_at(DELAY) == 60.0


def test_the_condition_coming_again_is_a_repeat_and_a_hole_in_the_data_is_not() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY)
    alarm.feel(condition(holds=None), 1.0, DELAY)
    assert alarm.feel(condition(holds=True), 2.0, DELAY) is None
    alarm.feel(condition(holds=False), 3.0, DELAY)
    assert alarm.feel(condition(holds=True), 4.0, DELAY) is Change.REPEATED
    assert (alarm.count, alarm.episode) == (2, 1)


def test_a_returned_alarm_that_comes_again_after_unknown_is_announced() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY)
    alarm.feel(condition(holds=False), 1.0, DELAY)
    assert alarm.feel(condition(holds=False), 31.0, DELAY) is Change.RETURNED
    alarm.feel(condition(holds=None), 32.0, DELAY)
    assert alarm.feel(condition(holds=True), 33.0, DELAY) is Change.REPEATED
    assert (alarm.state, alarm.count) == (S.UNACKED, 2)


def test_a_worse_priority_is_a_new_episode_and_a_lesser_one_is_not() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True, priority=Priority.P2), 0.0, DELAY)
    first = alarm.id
    alarm.signal(G.ACKNOWLEDGE)
    alarm.acknowledged_by = "attendant"
    assert alarm.feel(condition(holds=True, priority=Priority.P1), 5.0, DELAY) is Change.RAISED
    assert (alarm.state, alarm.priority, alarm.episode, alarm.acknowledged_by) == (S.UNACKED, Priority.P1, 2, "")
    assert alarm.id != first
    assert alarm.feel(condition(holds=True, priority=Priority.P3), 6.0, DELAY) is None
    assert alarm.priority is Priority.P1


def test_a_latched_and_acknowledged_alarm_that_comes_again_is_announced_anew() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY)
    alarm.signal(G.ACKNOWLEDGE)
    alarm.feel(condition(holds=False), 1.0, DELAY)
    alarm.feel(condition(holds=False), 31.0, DELAY)
    assert alarm.state is S.LATCHED_ACKED
    assert alarm.feel(condition(holds=True), 32.0, DELAY) is Change.RAISED
    assert (alarm.state, alarm.episode) == (S.UNACKED, 2)


def test_a_latch_that_comes_again_less_grave_still_owes_its_reset() -> None:
    alarm = Alarm("yard", "GAS_PRE", "gas-1/H2S", "n01", state=S.LATCHED_ACKED, priority=Priority.P2, episode=1, holds=False)
    assert alarm.feel(of("GAS_PRE", holds=True), 0.0, DELAY) is Change.RAISED
    alarm.signal(G.ACKNOWLEDGE)
    alarm.feel(of("GAS_PRE", holds=False), 1.0, DELAY)
    alarm.feel(of("GAS_PRE", holds=False), 31.0, DELAY)
    assert (alarm.state, alarm.priority) == (S.LATCHED_ACKED, Priority.P2)
    alarm.signal(G.RESET)
    assert alarm.feel(of("GAS_PRE", holds=True), 99.0, DELAY) is Change.RAISED
    assert alarm.priority is Priority.P3


def test_a_normal_alarm_stays_normal_while_nothing_holds() -> None:
    alarm = an_alarm()
    assert alarm.feel(condition(holds=False), 0.0, DELAY) is None
    assert alarm.feel(condition(holds=None), 0.0, DELAY) is None
    assert not alarm.open
    assert S.NORMAL not in RETURNED


def test_the_same_outbreak_in_another_space_is_another_alarm() -> None:
    here, there = an_alarm(), Alarm("yard", "GAS_LOW", "gas-1/H2S", "n02")
    assert here.id != there.id


# -- on-delay


def of(
    kind: str, *, holds: bool | None, obj: str = "lock-1", since: float | None = None, worse: Priority | None = None
) -> Condition:
    return Condition(kind, obj, "n01", holds, worse or CATALOGUE[kind].priority, since=since)


def alarm_of(kind: str, obj: str = "lock-1") -> Alarm:
    return Alarm("yard", kind, obj, "n01")


@pytest.mark.parametrize(
    ("kind", "delay"), [("TAMPER", 3.0), ("GAS_RISING", 3.0), ("DOOR_LEFT_OPEN", 10.0), ("GATEWAY_LOST", 5.0)]
)
def test_a_condition_is_raised_when_it_has_held_for_its_delay_and_no_earlier(kind: str, delay: float) -> None:
    alarm = alarm_of(kind)
    assert alarm.feel(of(kind, holds=True), 100.0, DELAY) is None
    assert (alarm.state, alarm.due(DELAY)) == (S.NORMAL, 100.0 + delay)
    assert alarm.feel(of(kind, holds=True), 100.0 + delay - 0.1, DELAY) is None
    assert alarm.feel(of(kind, holds=True), 100.0 + delay, DELAY) is Change.RAISED
    assert (alarm.since, alarm.count, alarm.due(DELAY)) == (100.0 + delay, 1, None)


def test_the_delay_runs_from_when_the_condition_began_where_that_is_known() -> None:
    alarm = alarm_of("GATEWAY_LOST", "gw-1")
    assert alarm.feel(of("GATEWAY_LOST", holds=True, since=96.0), 98.0, DELAY) is None
    assert alarm.due(DELAY) == 101.0
    assert alarm.feel(of("GATEWAY_LOST", holds=True, since=96.0), 101.0, DELAY) is Change.RAISED
    late = alarm_of("GATEWAY_LOST", "gw-2")
    assert late.feel(of("GATEWAY_LOST", holds=True, since=10.0), 98.0, DELAY) is Change.RAISED


def test_known_to_be_gone_cancels_a_delay_and_unknown_does_not() -> None:
    alarm = alarm_of("TAMPER")
    alarm.feel(of("TAMPER", holds=True), 0.0, DELAY)
    assert alarm.feel(of("TAMPER", holds=False), 1.0, DELAY) is None
    assert alarm.due(DELAY) is None
    alarm.feel(of("TAMPER", holds=True), 2.0, DELAY)
    assert alarm.feel(of("TAMPER", holds=None), 3.0, DELAY) is None
    assert alarm.due(DELAY) == 5.0
    assert alarm.feel(of("TAMPER", holds=None), 5.0, DELAY) is Change.RAISED
    assert alarm.feel(of("TAMPER", holds=None), 500.0, DELAY) is None
    assert alarm.state is S.UNACKED


def test_a_latched_alarm_that_comes_again_waits_for_its_delay_and_stays_latched_meanwhile() -> None:
    alarm = Alarm("yard", "TAMPER", "lock-1", "n01", state=S.LATCHED_ACKED, priority=Priority.P1, episode=1, holds=False)
    assert alarm.feel(of("TAMPER", holds=True), 0.0, DELAY) is None
    assert alarm.state is S.LATCHED_ACKED
    assert alarm.feel(of("TAMPER", holds=True), 3.0, DELAY) is Change.RAISED
    assert alarm.episode == 2


# -- repeats


def test_a_chattering_condition_counts_every_time_and_is_told_once_an_off_delay() -> None:
    alarm, told = an_alarm(), 0
    alarm.feel(condition(holds=True), 0.0, DELAY)
    for second in range(1, 61):
        told += alarm.feel(condition(holds=second % 2 == 0), float(second), DELAY) is Change.REPEATED
    assert alarm.count == 31
    assert told == 2
    assert alarm.state is S.UNACKED


def test_the_first_repeat_of_a_new_episode_is_told_at_once() -> None:
    alarm = alarm_of("OVERTIME", "n01")
    for at, holds in ((0.0, True), (1.0, False), (2.0, True)):
        alarm.feel(of("OVERTIME", holds=holds), at, DELAY)
    assert alarm.feel(of("OVERTIME", holds=True, worse=Priority.P1), 3.0, DELAY) is Change.RAISED
    alarm.feel(of("OVERTIME", holds=False, worse=Priority.P1), 4.0, DELAY)
    assert alarm.feel(of("OVERTIME", holds=True, worse=Priority.P1), 5.0, DELAY) is Change.REPEATED


# -- shelving


def shelved(kind: str = "LOCK_BATTERY", until: float = 600.0) -> Alarm:
    alarm = alarm_of(kind)
    alarm.feel(of(kind, holds=True), 0.0, DELAY, EMPTY)
    assert alarm.shelve("manager", "battery ordered", until, 0.0, shelve_max_s=1800.0, around=EMPTY) is None
    return alarm


def test_a_p3_is_shelved_with_who_why_and_until_when() -> None:
    alarm = shelved()
    assert (alarm.state, alarm.shelved_by, alarm.shelve_reason, alarm.shelved_until) == (
        S.SHELVED, "manager", "battery ordered", 600.0,
    )  # fmt: skip
    assert alarm.due(DELAY) == 600.0
    assert alarm.feel(of("LOCK_BATTERY", holds=True), 599.9, DELAY) is None
    assert not alarm.signal(G.ACKNOWLEDGE)
    assert not alarm.signal(G.RESET)


@pytest.mark.parametrize(
    ("reason", "until", "why"),
    [
        ("", 60.0, "alarm.no_reason"),
        ("   ", 60.0, "alarm.no_reason"),
        ("x", 0.0, "alarm.shelved_too_long"),
        ("x", -1.0, "alarm.shelved_too_long"),
        ("x", 1800.1, "alarm.shelved_too_long"),
        ("x", float("nan"), "alarm.shelved_too_long"),
        ("x", float("inf"), "alarm.shelved_too_long"),
        ("x", 1800.0, None),
    ],
)
def test_a_shelving_has_a_reason_and_lasts_half_an_hour_at_most(reason: str, until: float, why: str | None) -> None:
    alarm = alarm_of("LOCK_BATTERY")
    alarm.feel(of("LOCK_BATTERY", holds=True), 0.0, DELAY)
    assert alarm.shelve("manager", reason, until, 0.0, shelve_max_s=1800.0) == why
    assert alarm.state is (S.UNACKED if why else S.SHELVED)


@pytest.mark.parametrize("around", [EMPTY, Around()], ids=["empty", "occupied"])
def test_vector_18_gas_over_its_limit_is_never_shelved(around: Around) -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY)
    assert alarm.shelve("manager", "I know", 60.0, 0.0, shelve_max_s=1800.0, around=around) == "alarm.never_shelved"
    assert alarm.state is S.UNACKED


def test_a_life_critical_p3_is_shelved_only_while_nobody_is_inside() -> None:
    alarm = alarm_of("GAS_PRE", "gas-1/H2S")
    alarm.feel(of("GAS_PRE", holds=True), 0.0, DELAY)
    assert alarm.shelve("manager", "airing", 60.0, 0.0, shelve_max_s=1800.0) == "alarm.somebody_inside"
    assert alarm.shelve("manager", "airing", 60.0, 0.0, shelve_max_s=1800.0, around=EMPTY) is None


@pytest.mark.parametrize("state", sorted(set(S) - ON, key=str), ids=lambda s: s.value)
def test_only_an_alarm_that_is_on_is_shelved(state: S) -> None:
    alarm = Alarm("yard", "LOCK_BATTERY", "lock-1", "n01", state=state, priority=Priority.P3)
    assert alarm.shelve("manager", "x", 60.0, 0.0, shelve_max_s=1800.0) == "alarm.not_on"
    assert (alarm.state, alarm.shelved_until) == (state, None)


def test_when_a_shelving_ends_what_still_holds_is_raised_anew() -> None:
    alarm = shelved()
    first = alarm.id
    still = of("LOCK_BATTERY", holds=True)
    assert alarm.feel(still, 600.0, DELAY) is Change.UNSHELVED
    assert alarm.id == first
    assert alarm.feel(still, 600.0, DELAY) is Change.RAISED
    assert (alarm.state, alarm.episode, alarm.shelved_by, alarm.shelved_until) == (S.UNACKED, 2, "", None)
    assert alarm.id != first


@pytest.mark.parametrize(
    ("felt", "after"),
    [
        ([(600.0, False)], S.NORMAL),
        ([(10.0, False), (40.0, False), (600.0, None)], S.NORMAL),
        ([(10.0, False), (20.0, None), (600.0, None)], S.UNACKED),
        ([(10.0, False), (40.0, False), (50.0, True), (60.0, None), (600.0, None)], S.UNACKED),
        ([(10.0, False), (40.0, False), (99.0, False), (600.0, None)], S.NORMAL),
        ([(600.0, None)], S.UNACKED),
    ],
    ids=["gone", "known gone before", "gone too briefly", "gone and come again", "gone for long", "never known"],
)
def test_only_what_is_known_to_be_gone_is_not_raised_anew(felt: list[tuple[float, bool | None]], after: S) -> None:
    alarm = shelved()
    for at, holds in felt[:-1]:
        assert alarm.feel(of("LOCK_BATTERY", holds=holds), at, DELAY) is None
    at, holds = felt[-1]
    assert alarm.feel(of("LOCK_BATTERY", holds=holds), at, DELAY) is Change.UNSHELVED
    alarm.feel(of("LOCK_BATTERY", holds=holds), at, DELAY)
    assert alarm.state is after


def test_a_worse_level_ends_a_shelving_at_once() -> None:
    alarm = shelved("GAS_PRE")
    rising = of("GAS_PRE", holds=True, worse=Priority.P2)
    assert alarm.feel(rising, 5.0, DELAY, EMPTY) is Change.UNSHELVED
    assert alarm.feel(rising, 5.0, DELAY, EMPTY) is Change.RAISED
    assert (alarm.state, alarm.priority) == (S.UNACKED, Priority.P2)


def test_somebody_going_in_ends_the_shelving_of_what_may_cost_a_life() -> None:
    alarm = shelved("GAS_PRE")
    still = of("GAS_PRE", holds=True)
    assert alarm.feel(still, 5.0, DELAY, EMPTY) is None
    assert alarm.feel(still, 6.0, DELAY, Around(occupied=True)) is Change.UNSHELVED
    assert alarm.feel(still, 6.0, DELAY, Around(occupied=True)) is Change.RAISED


def test_a_person_ends_a_shelving_and_the_condition_is_judged_anew() -> None:
    alarm = shelved()
    assert alarm.unshelve(30.0) is None
    assert alarm.unshelve(30.0) == "alarm.not_shelved"
    assert alarm.feel(of("LOCK_BATTERY", holds=None), 30.0, DELAY) is Change.RAISED
    gone = shelved()
    gone.feel(of("LOCK_BATTERY", holds=False), 10.0, DELAY)
    assert gone.unshelve(20.0) is None
    assert gone.feel(of("LOCK_BATTERY", holds=False), 20.0, DELAY) is None
    assert not gone.open


def test_the_count_goes_on_while_an_alarm_is_quiet() -> None:
    alarm = shelved()
    for at, holds in ((1.0, False), (2.0, True), (3.0, True), (4.0, False), (5.0, True)):
        assert alarm.feel(of("LOCK_BATTERY", holds=holds), at, DELAY) is None
    assert alarm.count == 3


# -- suppressed by design, out of service


SUPPRESSED = Around(occupied=False, suppressed=True)
REMOVED = Around(occupied=False, removed=True)


def test_a_lock_that_is_offline_says_more_than_its_battery() -> None:
    offline, elsewhere = alarm_of("LOCK_OFFLINE"), alarm_of("LOCK_OFFLINE", "lock-2")
    for alarm in (offline, elsewhere):
        alarm.feel(of("LOCK_OFFLINE", holds=True, obj=alarm.object), 0.0, DELAY)
    assert said_better("LOCK_BATTERY", "lock-1", [elsewhere, offline])
    assert not said_better("LOCK_BATTERY", "lock-1", [elsewhere])
    assert not said_better("LOCK_OFFLINE", "lock-1", [offline])
    assert offline.shelve("manager", "x", 60.0, 0.0, shelve_max_s=1800.0) is None
    assert not said_better("LOCK_BATTERY", "lock-1", [offline])  # two that are quiet would be nobody's


def test_a_suppressed_alarm_is_raised_when_its_better_ends() -> None:
    alarm = alarm_of("LOCK_BATTERY")
    low = of("LOCK_BATTERY", holds=True)
    assert alarm.feel(low, 0.0, DELAY, SUPPRESSED) is None
    assert (alarm.state, alarm.episode, alarm.priority) == (S.SUPPRESSED, 1, Priority.P3)
    assert alarm.feel(low, 10.0, DELAY, SUPPRESSED) is None
    assert alarm.feel(low, 20.0, DELAY, EMPTY) is Change.RAISED
    assert (alarm.state, alarm.episode) == (S.UNACKED, 2)


def test_nothing_is_suppressed_while_somebody_is_inside() -> None:
    alarm = alarm_of("LOCK_BATTERY")
    low = of("LOCK_BATTERY", holds=True)
    assert alarm.feel(low, 0.0, DELAY, Around(suppressed=True)) is Change.RAISED
    other = alarm_of("LOCK_BATTERY")
    other.feel(low, 0.0, DELAY, SUPPRESSED)
    assert other.feel(low, 1.0, DELAY, Around(suppressed=True)) is Change.RAISED


def test_nothing_urgent_is_suppressed_whatever_else_is_on() -> None:
    assert an_alarm().feel(condition(holds=True), 0.0, DELAY, SUPPRESSED) is Change.RAISED


def test_a_suppressed_alarm_that_is_gone_ends_without_a_word() -> None:
    alarm = alarm_of("LOCK_BATTERY")
    alarm.feel(of("LOCK_BATTERY", holds=True), 0.0, DELAY, SUPPRESSED)
    alarm.feel(of("LOCK_BATTERY", holds=False), 1.0, DELAY, SUPPRESSED)
    assert alarm.due(DELAY) == 31.0
    alarm.feel(of("LOCK_BATTERY", holds=False), 31.0, DELAY, SUPPRESSED)
    assert alarm.feel(of("LOCK_BATTERY", holds=None), 40.0, DELAY, EMPTY) is None
    assert not alarm.open


def test_what_was_announced_stays_until_it_is_acknowledged_and_then_may_be_suppressed() -> None:
    alarm = alarm_of("LOCK_BATTERY")
    low = of("LOCK_BATTERY", holds=True)
    alarm.feel(low, 0.0, DELAY, EMPTY)
    alarm.feel(low, 1.0, DELAY, SUPPRESSED)
    assert alarm.state is S.UNACKED
    alarm.signal(G.ACKNOWLEDGE)
    alarm.feel(low, 2.0, DELAY, SUPPRESSED)
    assert (alarm.state, alarm.episode) == (S.SUPPRESSED, 1)


def test_a_worse_level_is_announced_though_it_was_acknowledged_or_suppressed() -> None:
    soon, near = (of("OVERTIME_SOON", holds=True, obj="n01", worse=p) for p in (Priority.P4, Priority.P3))
    acked, quiet = alarm_of("OVERTIME_SOON", "n01"), alarm_of("OVERTIME_SOON", "n01")
    acked.feel(soon, 0.0, DELAY, EMPTY)
    acked.signal(G.ACKNOWLEDGE)
    assert acked.feel(near, 1.0, DELAY, SUPPRESSED) is Change.RAISED
    quiet.feel(soon, 0.0, DELAY, SUPPRESSED)
    assert quiet.state is S.SUPPRESSED
    assert quiet.feel(near, 1.0, DELAY, SUPPRESSED) is Change.RAISED


def test_test_gas_on_a_removed_instrument_in_an_empty_space_alarms_nobody() -> None:
    alarm = an_alarm()
    assert alarm.feel(condition(holds=True), 0.0, DELAY, REMOVED) is None
    assert alarm.state is S.OUT_OF_SERVICE
    alarm.feel(condition(holds=False), 10.0, DELAY, REMOVED)
    alarm.feel(condition(holds=False), 40.0, DELAY, REMOVED)
    assert alarm.feel(condition(holds=None), 50.0, DELAY, EMPTY) is None
    assert not alarm.open


def test_what_waits_for_its_delay_goes_with_its_device() -> None:
    alarm = alarm_of("TAMPER")
    alarm.feel(of("TAMPER", holds=True), 0.0, DELAY, EMPTY)
    assert alarm.feel(alarm.unknown, 1.0, DELAY, REMOVED) is None
    assert (alarm.state, alarm.due(DELAY)) == (S.OUT_OF_SERVICE, None)


def test_gas_at_a_removed_instrument_alarms_as_soon_as_somebody_is_or_may_be_inside() -> None:
    alarm, fresh = an_alarm(), an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY, REMOVED)
    assert alarm.feel(condition(holds=True), 1.0, DELAY, Around(removed=True)) is Change.RAISED
    assert fresh.feel(condition(holds=True), 1.0, DELAY, Around(removed=True)) is Change.RAISED


def test_a_restored_device_whose_condition_was_never_known_to_end_alarms() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY, REMOVED)
    assert alarm.feel(condition(holds=None), 50.0, DELAY, EMPTY) is Change.RAISED


def test_a_latch_and_an_unacknowledged_alarm_survive_the_removal_of_their_device() -> None:
    alarm = an_alarm()
    alarm.feel(condition(holds=True), 0.0, DELAY)
    for state in (S.UNACKED, S.ACKED):
        alarm.feel(condition(holds=True), 1.0, DELAY, REMOVED)
        assert alarm.state is state
        alarm.signal(G.ACKNOWLEDGE)
    alarm.feel(condition(holds=False), 2.0, DELAY, REMOVED)
    assert alarm.feel(condition(holds=False), 32.0, DELAY, REMOVED) is Change.RETURNED
    assert alarm.feel(alarm.unknown, 40.0, DELAY, REMOVED) is None
    assert alarm.state is S.LATCHED_ACKED


def test_an_acknowledged_p3_of_a_removed_device_goes_even_when_nothing_is_known_of_it() -> None:
    alarm = alarm_of("LOCK_BATTERY")
    alarm.feel(of("LOCK_BATTERY", holds=True), 0.0, DELAY)
    alarm.signal(G.ACKNOWLEDGE)
    assert alarm.feel(alarm.unknown, 1.0, DELAY, Around(removed=True)) is None
    assert alarm.state is S.OUT_OF_SERVICE


# -- incidents


def raised(space: str, kind: str, others: list[Alarm], at: float = 0.0) -> Alarm:
    alarm = Alarm("yard", kind, "x", space)
    assert alarm.feel(Condition(kind, "x", space, True, CATALOGUE[kind].priority), at, DELAY) is Change.RAISED
    alarm.incident = incident_of(others, alarm)
    return alarm


def test_alarms_of_one_space_whose_lives_overlap_are_one_incident() -> None:
    first = raised("n01", "GAS_LOW", [])
    elsewhere = raised("n02", "GAS_LOW", [first])
    second = raised("n01", "ATTENDANT_ABSENT", [first, elsewhere])
    assert first.incident == second.incident != elsewhere.incident
    first.state = S.LATCHED_ACKED
    first.signal(G.RESET)
    third = raised("n01", "GAS_HIGH", [first, elsewhere, second])
    assert third.incident == second.incident
    for alarm in (second, third):
        alarm.state = S.LATCHED_ACKED
        alarm.signal(G.RESET)
    later = raised("n01", "GAS_HIGH", [first, elsewhere, second])
    assert later.incident not in ("", third.incident)


def test_a_worse_episode_and_one_after_shelving_stay_in_their_incident() -> None:
    alarm = alarm_of("GAS_PRE")
    alarm.feel(of("GAS_PRE", holds=True), 0.0, DELAY)
    alarm.incident = incident_of([], alarm)
    first = alarm.incident
    assert alarm.feel(of("GAS_PRE", holds=True, worse=Priority.P2), 1.0, DELAY) is Change.RAISED
    assert incident_of([], alarm) == first
    quiet = shelved()
    quiet.incident = first
    assert quiet.feel(of("LOCK_BATTERY", holds=True), 600.0, DELAY) is Change.UNSHELVED
    assert quiet.feel(of("LOCK_BATTERY", holds=True), 600.0, DELAY) is Change.RAISED
    assert incident_of([], quiet) == first


@pytest.mark.parametrize("around", [SUPPRESSED, REMOVED], ids=["suppressed", "removed"])
def test_a_device_that_is_away_for_months_does_not_hold_an_incident_open(around: Around) -> None:
    alarm = alarm_of("LOCK_BATTERY")
    alarm.feel(of("LOCK_BATTERY", holds=True), 0.0, DELAY, EMPTY)
    alarm.incident = incident_of([], alarm)
    alarm.signal(G.ACKNOWLEDGE)
    alarm.feel(of("LOCK_BATTERY", holds=True), 1.0, DELAY, around)
    assert (alarm.open, alarm.incident) == (True, "")


def test_an_incident_does_not_outlive_an_alarm_that_is_gone_when_it_is_unshelved() -> None:
    alarm = shelved()
    alarm.incident = "i"
    alarm.unshelve(10.0)
    alarm.feel(of("LOCK_BATTERY", holds=False), 10.0, DELAY)
    assert (alarm.state, alarm.incident) == (S.NORMAL, "")


# -- what went wrong elsewhere (`style.md` §4)


def test_a_condition_that_holds_at_start_raises_its_alarm() -> None:
    for kind in CATALOGUE.values():
        alarm = alarm_of(kind.id)
        change = alarm.feel(of(kind.id, holds=True), 0.0, DELAY)
        if kind.on_delay_s:
            assert change is None
            change = alarm.feel(of(kind.id, holds=True), kind.on_delay_s, DELAY)
        assert change is Change.RAISED, kind.id


# when (s), whether the condition holds then, and which button was pressed before
LIFE: list[tuple[float, bool | None, G | None]] = [
    (0.0, True, None), (2.9, True, None), (3.0, True, None), (4.0, None, G.ACKNOWLEDGE), (5.0, False, None),
    (20.0, False, None), (35.0, False, None), (36.0, None, None), (37.0, True, None), (38.0, True, None),
    (40.0, True, None), (41.0, False, G.ACKNOWLEDGE), (71.0, False, None), (72.0, False, G.RESET),
]  # fmt: skip


def test_a_restart_at_every_event_keeps_acknowledgement_and_latch() -> None:
    """One long life, stored and read back between any two steps, is the same life."""

    def live(*, restarts: bool) -> list[tuple[Alarm, Change | None]]:
        alarm, seen = alarm_of("TAMPER"), list[tuple[Alarm, Change | None]]()
        for at, holds, button in LIFE:
            if restarts:
                alarm = msgspec.json.decode(msgspec.json.encode(alarm), type=Alarm)
            if button is not None:
                assert alarm.signal(button)
            alarm.acknowledged_by = "attendant" if button is G.ACKNOWLEDGE else alarm.acknowledged_by
            change = alarm.feel(of("TAMPER", holds=holds), at, DELAY)
            seen.append((msgspec.structs.replace(alarm), change))
        return seen

    straight, restarted = live(restarts=False), live(restarts=True)
    assert restarted == straight
    assert [change for _, change in straight if change] == [Change.RAISED, Change.RETURNED, Change.RAISED, Change.RETURNED]
    assert straight[-1][0].state is S.NORMAL


@pytest.mark.parametrize("state", list(S), ids=lambda s: s.value)
def test_unknown_never_returns_or_clears_an_alarm(state: S) -> None:
    alarm = Alarm("yard", "LOCK_BATTERY", "lock-1", "n01", state=state, priority=Priority.P3, shelved_until=1e9)
    around = Around(occupied=False, suppressed=state is S.SUPPRESSED, removed=state is S.OUT_OF_SERVICE)
    for at in (0.0, 31.0, 1e6):
        assert alarm.feel(alarm.unknown, at, DELAY, around) is None
        assert alarm.state is state


def test_only_a_person_closes_a_latched_alarm() -> None:
    for state in LATCHED:
        alarm = Alarm("yard", "GAS_LOW", "gas-1/H2S", "n01", state=state, priority=Priority.P1, holds=False)
        for at in (0.0, 31.0, 5 * 86_400.0):
            for around in (EMPTY, SUPPRESSED, REMOVED, Around()):
                assert alarm.feel(condition(holds=False), at, DELAY, around) is None
                assert alarm.state is state
        assert alarm.signal(G.RESET) == (state is S.LATCHED_ACKED)
