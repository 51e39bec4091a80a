"""Locks: what they report, which opening was allowed, and what a gateway may believe of a result."""

import msgspec
import pytest

from manway.entities import Bolt, Door, LockFlag, LockHello, LogEvent, LogRecord, RefusalReason, ResultCode
from manway.events import (
    AlarmRaised,
    GrantFailed,
    GrantRefused,
    GrantUsed,
    LockArmed,
    LockForced,
    LockGreeted,
    MessageRejected,
    PressAwaited,
    UnlockUnconfirmed,
)
from manway.ids import GrantKind
from manway.inputs import ClockBegan, HelloReceived, LockReported, LogReceived, ResultReceived
from manway.lock import LockPosition
from manway.reports import MOST_EARLY
from tests.kit.builders import CTI, Bench, a_lock_state, a_plan, a_result, names
from tests.kit.clock import EPOCH

OPEN = a_lock_state(Bolt.RETRACTED, door=Door.OPEN)
SHUT = a_lock_state(Bolt.RETRACTED)
LOCKED = a_lock_state()
OTHER = bytes(reversed(CTI))


def a_record(seq: int, event: LogEvent, *, cause: int = 0, kind: int = 0) -> LogRecord:
    return LogRecord(seq, 1, seq, 0, event, cause, 1, 1, kind, 90, 0, bytes(16))


def a_hello() -> LockHello:
    return LockHello(b"lockid-1", bytes(16), LOCKED, bytes(32), 0, (b"kid0", bytes(4)), (0, 1, 0, 0))


def position(bench: Bench) -> str:
    return str(bench.engine.site.locks["lock-1"].position.value)


def test_a_hatch_that_opens_without_a_grant_is_an_alarm() -> None:
    bench = Bench()
    assert names(bench.lock(OPEN, at=1)) == ["EntranceOpened", "AlarmRaised UNAUTHORISED_OPEN"]
    assert bench.engine.refuses_grant("n01") == "UNAUTHORISED_OPEN"


def test_a_bolt_that_is_drawn_without_a_grant_is_an_alarm_though_the_door_is_shut() -> None:
    assert names(Bench().lock(SHUT, at=1)) == ["LockUnlocked", "AlarmRaised UNAUTHORISED_OPEN"]


def test_an_opening_found_at_start_is_an_alarm() -> None:
    bench = Bench(locked=False)
    assert position(bench) == "unknown"
    assert "AlarmRaised UNAUTHORISED_OPEN" in names(bench.lock(OPEN, at=1, retained=True))


def test_an_opening_that_is_shut_within_one_batch_is_not_missed() -> None:
    bench = Bench()
    opened, shut = (LockReported("lock-1", msgspec.structs.replace(s, tick=t)) for s, t in ((OPEN, 200), (LOCKED, 201)))
    assert names(bench.give(opened, shut, at=1)) == ["EntranceOpened", "AlarmRaised UNAUTHORISED_OPEN", "LockLocked"]


@pytest.mark.parametrize("kind", [GrantKind.PREP, GrantKind.ENTRY])
def test_an_opening_on_a_used_grant_is_no_alarm(kind: GrantKind) -> None:
    bench = Bench()
    events = bench.open_by_grant(kind, at=1)
    assert names(events) == ["GrantUsed", "LockUnlocked"]
    assert names(bench.lock(OPEN, at=2)) == ["EntranceOpened"]
    used = next(e for e in events if isinstance(e, GrantUsed))
    assert (used.grant, used.kind, used.cause) == (CTI.hex(), int(kind), "command-1")


def test_a_state_that_overtakes_its_result_is_covered_by_the_written_grant() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH + 1), at=1)
    assert names(bench.lock(SHUT, at=2)) == ["LockUnlocked"]
    assert names(bench.give(bench.result(ResultCode.OPENED, state=SHUT), at=3)) == ["GrantUsed"]


@pytest.mark.parametrize("kind", [GrantKind.CLOSE_OUT, GrantKind.SET_TIME, GrantKind.ROTATE_KEY])
def test_an_order_that_opens_nothing_covers_no_opening(kind: GrantKind) -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(kind, EPOCH + 1), at=1)
    assert "AlarmRaised UNAUTHORISED_OPEN" in names(bench.lock(OPEN, at=2))


def test_a_grant_covers_its_opening_and_not_the_next() -> None:
    bench = Bench()
    bench.open_by_grant(at=1)
    bench.lock(OPEN, at=2)
    assert names(bench.lock(SHUT, at=3)) == ["EntranceClosed"]
    assert names(bench.lock(LOCKED, at=4)) == ["LockLocked"]
    assert "AlarmRaised UNAUTHORISED_OPEN" in names(bench.lock(OPEN, at=5))


def test_a_result_repeated_by_the_network_covers_no_later_opening() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH + 1), at=1)
    used = bench.result(ResultCode.OPENED, state=SHUT)
    bench.give(used, at=2)
    bench.lock(LOCKED, at=3)
    assert bench.give(used, at=4) == []
    assert "AlarmRaised UNAUTHORISED_OPEN" in names(bench.lock(OPEN, at=5))


def test_a_result_that_comes_after_the_lock_was_locked_again_covers_nothing() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH + 1), at=1)
    late = bench.result(ResultCode.OPENED, state=SHUT)
    bench.lock(SHUT, at=2)
    bench.lock(LOCKED, at=3)
    assert names(bench.give(late, at=4)) == ["GrantUsed"]
    assert position(bench) == "locked"
    assert "AlarmRaised UNAUTHORISED_OPEN" in names(bench.lock(OPEN, at=5))


def test_the_result_of_another_grant_is_not_taken_for_the_written_one() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(GrantKind.ENTRY, EPOCH + 1), at=1)
    prep = a_lock_state(Bolt.RETRACTED, session=int(GrantKind.PREP))
    (used, _) = bench.give(bench.result(ResultCode.OPENED, state=prep, cti=OTHER), at=2)
    assert isinstance(used, GrantUsed)
    assert (used.kind, used.cause) == (int(GrantKind.PREP), "")
    assert bench.engine.site.locks["lock-1"].written is not None


def test_an_older_report_changes_nothing() -> None:
    bench = Bench()
    bench.lock(LOCKED, at=1)
    assert bench.give(LockReported("lock-1", msgspec.structs.replace(OPEN, tick=5)), at=2) == []
    assert position(bench) == "locked"


def test_a_reboot_starts_the_ticks_anew() -> None:
    bench = Bench()
    bench.lock(LOCKED, at=1)
    rebooted = msgspec.structs.replace(OPEN, tick=1, boot=2)
    assert "EntranceOpened" in names(bench.give(LockReported("lock-1", rebooted), at=2))


def test_a_report_of_an_unknown_lock_is_rejected() -> None:
    (event,) = Bench().give(LockReported("lock-9", LOCKED))
    assert isinstance(event, MessageRejected)
    assert event.source == "lock-9"


def test_results_and_logs_of_an_unknown_lock_do_nothing() -> None:
    assert Bench().give(ResultReceived("lock-9", a_result()), LogReceived("lock-9", [])) == []


def test_a_written_grant_without_any_report_makes_the_lock_unknown() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH), at=0)
    assert position(bench) == "pending"
    assert bench.engine.next_deadline() is not None
    events = bench.wait(10)
    assert "UnlockUnconfirmed" in names(events)
    assert "AlarmRaised LOCK_UNCONFIRMED" in names(events)
    assert [e.at - EPOCH for e in events if isinstance(e, UnlockUnconfirmed)] == [10.0]
    assert position(bench) == "unknown"


def test_unconfirmed_ends_with_the_locks_own_word() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH), at=0)
    bench.wait(10)
    bench.lock(LOCKED, at=20)
    bench.wait(51)
    assert bench.alarm("LOCK_UNCONFIRMED", "lock-1") == "latched_unacked"


def test_waiting_for_the_button_gives_the_grant_more_time() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH), at=0)
    (event,) = bench.give(bench.result(ResultCode.PRESS_WANTED, state=LOCKED), at=1)
    assert isinstance(event, PressAwaited)
    assert (event.grant, event.cause) == (CTI.hex(), "command-1")
    assert "UnlockUnconfirmed" not in names(bench.wait(13.9))
    assert "UnlockUnconfirmed" in names(bench.wait(14))


def test_a_button_that_nobody_asked_for_is_told_and_waits_for_nothing() -> None:
    bench = Bench()
    (event,) = bench.give(bench.result(ResultCode.PRESS_WANTED, state=LOCKED), at=1)
    assert isinstance(event, PressAwaited)
    assert event.cause == ""
    assert bench.engine.site.locks["lock-1"].written is None


@pytest.mark.parametrize("code", [ResultCode.NO_PRESS, ResultCode.JAMMED, ResultCode.FAULT, ResultCode.NOT_CLOSED])
def test_a_lock_that_did_not_act_says_why(code: ResultCode) -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH), at=0)
    events = bench.give(bench.result(code, state=LOCKED), at=1)
    assert [(e.reason, e.cause) for e in events if isinstance(e, GrantFailed)] == [(code.name, "command-1")]
    assert "UnlockUnconfirmed" not in names(bench.wait(60))


def test_a_jammed_bolt_is_where_the_lock_says_it_is() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH), at=0)
    bench.give(bench.result(ResultCode.JAMMED, state=a_lock_state(Bolt.JAMMED)), at=1)
    assert position(bench) == "jammed"


def test_a_closing_that_is_armed_moves_nothing() -> None:
    bench = Bench()
    bench.open_by_grant(at=1)
    bench.give(bench.desk.write_grant(GrantKind.CLOSE_OUT, EPOCH + 2, grant=OTHER), at=2)
    events = bench.give(bench.result(ResultCode.ARMED, state=a_lock_state(Bolt.RETRACTED, session=4), cti=OTHER), at=3)
    assert [type(e) for e in events] == [LockArmed]
    assert position(bench) == "unlocked"
    assert names(bench.give(bench.result(ResultCode.LOCKED, state=LOCKED, cti=OTHER), at=4)) == ["LockLocked"]


def test_a_refusal_on_air_ends_the_waiting_and_its_reason_comes_from_the_log() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH), at=0)
    (failed,) = bench.give(ResultReceived("lock-1", None), at=1)
    assert isinstance(failed, GrantFailed)
    assert (failed.reason, failed.cause) == ("REFUSED", "command-1")
    assert position(bench) == "locked"
    (refused,) = bench.give(LogReceived("lock-1", [a_record(1, LogEvent.REFUSED, cause=RefusalReason.AGE, kind=2)]), at=2)
    assert isinstance(refused, GrantRefused)
    assert (refused.reason, refused.kind) == ("LOCK_AGE", 2)


def test_a_refusal_that_answers_nothing_says_nothing() -> None:
    assert Bench().give(ResultReceived("lock-1", None), at=1) == []


def test_a_reason_of_a_later_firmware_is_shown_as_its_number() -> None:
    (refused,) = Bench().give(LogReceived("lock-1", [a_record(1, LogEvent.REFUSED, cause=99)]))
    assert isinstance(refused, GrantRefused)
    assert refused.reason == "LOCK_99"


def test_force_in_the_log_is_an_event_and_every_record_is_read_once() -> None:
    bench = Bench()
    records = [
        a_record(1, LogEvent.BOOT),
        a_record(2, LogEvent.FORCED),
        a_record(3, LogEvent.TAMPER),
        a_record(4, LogEvent.SEAL_BROKEN),
    ]
    events = bench.give(LogReceived("lock-1", records))
    assert [e.reason for e in events if isinstance(e, LockForced)] == ["opened without a grant", "case opened", "seal broken"]
    assert bench.give(LogReceived("lock-1", records)) == []
    assert bench.engine.site.locks["lock-1"].log_seq == 4


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (LockFlag.TAMPER, "TAMPER"),
        (LockFlag.SEAL_BROKEN, "EMERGENCY_OPEN"),
        (LockFlag.INSIDE_RELEASE, "EMERGENCY_OPEN"),
    ],
)
def test_what_is_done_to_a_lock_is_an_alarm(flags: LockFlag, kind: str) -> None:
    bench = Bench()
    assert f"AlarmRaised {kind}" in names(bench.lock(a_lock_state(flags=flags), at=1) + bench.wait(4))


def test_an_emergency_opening_is_never_refused_and_always_an_alarm() -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=100.0)
    events = bench.open_by_grant(GrantKind.EMERGENCY, at=1)
    assert names(events) == ["GrantUsed", "LockUnlocked", "AlarmRaised EMERGENCY_OPEN"]


@pytest.mark.parametrize("kind", [GrantKind.PREP, GrantKind.ENTRY])
def test_a_p1_of_the_space_refuses_its_grants_with_the_reason(kind: GrantKind) -> None:
    bench = Bench()
    bench.read(0, h2s_ppm=8.0)
    events = bench.give(bench.desk.write_grant(kind, EPOCH + 1), at=1)
    assert names(events) == ["GrantRefused", "CommandRefused"]
    refused = next(e for e in events if isinstance(e, GrantRefused))
    assert (refused.reason, refused.kind, refused.by) == ("ALARM_GAS_LOW", int(kind), "attendant")
    assert bench.engine.site.locks["lock-1"].written is None
    assert not bench.engine.accepted("command-1")


def test_a_p1_that_was_dealt_with_blocks_no_longer() -> None:
    bench = Bench()
    bench.lock(OPEN, at=1)
    bench.lock(LOCKED, at=2)
    bench.wait(32)
    alarm = bench.alarm_id("UNAUTHORISED_OPEN", "lock-1")
    bench.give(bench.desk.acknowledge(alarm, EPOCH + 33), at=33)
    assert bench.engine.refuses_grant("n01") == "UNAUTHORISED_OPEN"
    bench.give(bench.desk.reset(alarm, EPOCH + 34), at=34)
    assert bench.engine.refuses_grant("n01") is None


def test_a_hello_that_was_asked_for_is_told_with_its_bytes() -> None:
    (event,) = Bench().give(HelloReceived("lock-1", a_hello(), b"\x01\x02", "command-7"))
    assert isinstance(event, LockGreeted)
    assert (event.lock, event.hello, event.cause) == ("lock-1", "0102", "command-7")


def test_a_hello_that_nobody_asked_for_starts_nothing() -> None:
    assert Bench().give(HelloReceived("lock-1", a_hello(), b"\x01\x02", "")) == []


def test_a_lock_that_goes_silent_is_offline_and_unknown_is_not_locked() -> None:
    bench = Bench()
    bench.lock(a_lock_state(Bolt.UNKNOWN), at=1)
    assert position(bench) == "unknown"
    events = bench.wait(121)
    assert [e.at - EPOCH for e in events if isinstance(e, AlarmRaised) and e.kind == "LOCK_OFFLINE"] == [121.0]


def test_a_retained_copy_is_no_sign_of_life() -> None:
    bench = Bench()
    bench.lock(LOCKED, at=100, retained=True)
    assert "AlarmRaised LOCK_OFFLINE" in names(bench.wait(120))


def test_an_open_hatch_of_which_nothing_more_is_heard_stays_an_alarm() -> None:
    bench = Bench()
    bench.lock(OPEN, at=1)
    bench.lock(a_lock_state(Bolt.UNKNOWN), at=2)
    bench.wait(600)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"


def test_the_plan_says_which_grant_holds_an_opening_after_a_new_start() -> None:
    bench = Bench(a_plan(used_grants={"lock-1": CTI.hex()}), locked=False)
    assert names(bench.lock(OPEN, at=1)) == ["EntranceOpened"]


def test_every_position_that_may_be_reported_has_its_event() -> None:
    bench = Bench()
    bench.open_by_grant(at=1)
    bench.lock(OPEN, at=2)
    bench.lock(SHUT, at=3)
    bench.lock(a_lock_state(Bolt.JAMMED), at=4)
    assert position(bench) == LockPosition.JAMMED.value
    assert names(bench.lock(LOCKED, at=4)) == ["LockLocked"]


def test_the_states_of_locks_that_no_plan_names_are_kept_up_to_a_bound_and_then_refused() -> None:
    bench = Bench()
    for number in range(MOST_EARLY):
        bench.give(LockReported(f"stray-{number}", LOCKED))
    (event,) = bench.give(LockReported("stray-x", LOCKED))
    assert isinstance(event, MessageRejected)
    assert (event.source, event.reason) == ("stray-x", "1000 locks that no plan names are waiting: no more are kept")
    assert len(bench.engine.site.early) == MOST_EARLY
    bench.give(LockReported("stray-0", OPEN))
    assert bench.engine.site.early["stray-0"] == OPEN, "who is kept is kept up to date"


def test_a_refusal_of_the_grant_it_was_given_is_a_sign_of_life() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH + 100), at=100)
    bench.give(ResultReceived("lock-1", None), at=101)
    assert bench.engine.site.locks["lock-1"].heard_at == EPOCH + 101


def test_when_a_device_was_switched_on_is_the_journals_to_know_and_moves_no_rule() -> None:
    bench = Bench()
    before = bench.engine.snapshot()
    assert bench.give(ClockBegan("gas-1", 7, EPOCH, EPOCH)) == []
    assert bench.engine.snapshot() == before
