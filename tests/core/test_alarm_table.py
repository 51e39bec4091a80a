"""Every (state, signal) cell of an alarm, written down again from `domain.md` §4.7, and the life of one alarm."""

import pytest

from manway.alarm import RETURNED, TABLE, Alarm, Change, Condition
from manway.alarm import AlarmSignal as G
from manway.alarm import AlarmState as S
from manway.catalogue import CATALOGUE, latches
from manway.ids import Priority

NO = None
EXPECTED = {
    S.NORMAL: {G.ON: S.UNACKED, G.FADE: S.NORMAL, G.LATCH: S.NORMAL, G.ACKNOWLEDGE: NO, G.RESET: NO},
    S.UNACKED: {
        G.ON: S.UNACKED,
        G.FADE: S.RETURNED_UNACKED,
        G.LATCH: S.LATCHED_UNACKED,
        G.ACKNOWLEDGE: S.ACKED,
        G.RESET: NO,
    },
    S.ACKED: {G.ON: S.ACKED, G.FADE: S.NORMAL, G.LATCH: S.LATCHED_ACKED, G.ACKNOWLEDGE: NO, G.RESET: NO},
    S.RETURNED_UNACKED: {
        G.ON: S.UNACKED,
        G.FADE: S.RETURNED_UNACKED,
        G.LATCH: S.RETURNED_UNACKED,
        G.ACKNOWLEDGE: S.NORMAL,
        G.RESET: NO,
    },
    S.LATCHED_UNACKED: {
        G.ON: S.UNACKED,
        G.FADE: S.LATCHED_UNACKED,
        G.LATCH: S.LATCHED_UNACKED,
        G.ACKNOWLEDGE: S.LATCHED_ACKED,
        G.RESET: NO,
    },
    S.LATCHED_ACKED: {
        G.ON: S.UNACKED,
        G.FADE: S.LATCHED_ACKED,
        G.LATCH: S.LATCHED_ACKED,
        G.ACKNOWLEDGE: NO,
        G.RESET: S.NORMAL,
    },
}
LATCHED = {S.LATCHED_UNACKED, S.LATCHED_ACKED}
DELAY = 30.0


@pytest.mark.parametrize(("state", "signal"), [(s, g) for s in S for g in G], ids=lambda v: v.value)
def test_every_cell_is_what_the_design_says(state: S, signal: G) -> None:
    assert TABLE[state, signal] is EXPECTED[state][signal]


@pytest.mark.parametrize(("state", "signal"), [(s, g) for s in S for g in G], ids=lambda v: v.value)
def test_a_refused_signal_changes_nothing(state: S, signal: G) -> None:
    alarm = Alarm("yard", "GAS_LOW", "gas-1/H2S", "n01", state=state)
    accepted = alarm.signal(signal)
    assert accepted == (EXPECTED[state][signal] is not NO)
    assert alarm.state is (EXPECTED[state][signal] or state)


def test_only_reset_leads_from_latched_to_normal() -> None:
    assert {g for s in LATCHED for g in G if TABLE[s, g] is S.NORMAL} == {G.RESET}


def test_an_unacknowledged_alarm_never_becomes_normal_without_a_person() -> None:
    unseen = {S.UNACKED, S.RETURNED_UNACKED, S.LATCHED_UNACKED}
    assert {g for s in unseen for g in G if TABLE[s, g] is S.NORMAL} == {G.ACKNOWLEDGE}
    assert TABLE[S.UNACKED, G.ACKNOWLEDGE] is S.ACKED


def test_acknowledging_never_hides_a_condition_that_holds() -> None:
    assert {TABLE[s, G.ACKNOWLEDGE] for s in (S.UNACKED, S.ACKED)} == {S.ACKED, None}


@pytest.mark.parametrize(("priority", "latching"), [(1, True), (2, True), (3, False), (4, False)])
def test_p1_and_p2_latch_and_p3_and_p4_do_not(priority: int, latching: bool) -> None:  # noqa: FBT001  a table's column
    assert latches(Priority(priority)) is latching


def test_every_alarm_that_evacuates_or_is_p1_by_itself_blocks_grants() -> None:
    for kind in CATALOGUE.values():
        grave = kind.evacuates or (kind.priority is Priority.P1 and kind.id != "GATEWAY_LOST")
        assert kind.blocks_grants == grave, kind.id


def condition(*, holds: bool | None, priority: Priority = Priority.P1, value: float | None = 15.0) -> Condition:
    return Condition("GAS_LOW", "gas-1/H2S", "n01", holds, priority, value=value, limit=10.0, unit="mg/m3", clause="5.9.1")


def an_alarm() -> Alarm:
    return Alarm("yard", "GAS_LOW", "gas-1/H2S", "n01")


def test_a_condition_that_holds_raises_once_and_carries_what_was_seen() -> None:
    alarm = an_alarm()
    assert alarm.feel(condition(holds=True), 100.0, DELAY) is Change.RAISED
    assert (alarm.state, alarm.episode, alarm.count, alarm.since) == (S.UNACKED, 1, 1, 100.0)
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


def test_a_normal_alarm_stays_normal_while_nothing_holds() -> None:
    alarm = an_alarm()
    assert alarm.feel(condition(holds=False), 0.0, DELAY) is None
    assert alarm.feel(condition(holds=None), 0.0, DELAY) is None
    assert not alarm.open
    assert S.NORMAL not in RETURNED


def test_the_same_outbreak_in_another_space_is_another_alarm() -> None:
    here, there = an_alarm(), Alarm("yard", "GAS_LOW", "gas-1/H2S", "n02")
    assert here.id != there.id
