"""An opening for rescue asked for at the gateway's own page: no state refuses it, and it is an alarm from the asking on."""

from collections.abc import Callable

import msgspec
import pytest

from manway.codec_mqtt import decode_command, encode
from manway.entities import Bolt, Door, LockFlag, LockState, PermitState, ResultCode
from manway.errors import DecodeRejected
from manway.events import CommandRefused, Event, RescueAsked
from manway.ids import GrantKind
from manway.inputs import HealthReported, LockReported
from tests.kit.builders import (
    CTI,
    LIMITS,
    TIMINGS,
    Bench,
    a_lock_state,
    a_permit,
    a_plan,
    a_space,
    names,
    replay,
)
from tests.kit.clock import EPOCH

OPEN = a_lock_state(Bolt.RETRACTED, session=3)
ASKED = ["RescueAsked", "AlarmRaised EMERGENCY_OPEN"]


def occupied(bench: Bench) -> None:
    bench.give(bench.desk.enter("ann"))


def gas(bench: Bench) -> None:
    bench.read(0, h2s_ppm=200.0)


def evacuating(bench: Bench) -> None:
    occupied(bench)
    bench.give(bench.desk.evacuate())


def health(fact: str) -> Callable[[Bench], object]:
    return lambda bench: bench.give(HealthReported(fact, "x", holds=True, grave=True))


def reports(state: LockState) -> Callable[[Bench], object]:
    return lambda bench: bench.lock(state)


def seal_broken(bench: Bench) -> None:
    bench.lock(a_lock_state(flags=LockFlag.SEAL_BROKEN))


def a_grant_waits(bench: Bench) -> None:
    bench.give(bench.desk.write_grant(GrantKind.ENTRY))


def calm(_: Bench) -> None:
    """Nothing is wrong at all."""


def a_permit_in(state: PermitState) -> Callable[[], Bench]:
    return lambda: Bench(a_plan(permits=[a_permit(state=state)]))


def out_of_service() -> Bench:
    return Bench(a_plan(spaces=[msgspec.structs.replace(a_space(), out_of_service=True, current=False)], permits=[]))


BENCHES: dict[str, Callable[[], Bench]] = {
    "ready": Bench,
    "no permit": lambda: Bench(a_plan(permits=[])),
    "out of service": out_of_service,
    "never reported": lambda: Bench(locked=False),
    "count unknown": lambda: Bench(a_plan(permits=[a_permit(state=PermitState.ACTIVE)]), counted=False),
    **{state.value: a_permit_in(state) for state in PermitState},
}
STATES: dict[str, Callable[[Bench], object]] = {
    "calm": calm,
    "occupied": occupied,
    "deadly air": gas,
    "evacuating": evacuating,
    "jammed": reports(a_lock_state(Bolt.JAMMED)),
    "battery low": reports(a_lock_state(flags=LockFlag.BATTERY_LOW)),
    "tampered with": reports(a_lock_state(flags=LockFlag.TAMPER)),
    "door open": reports(a_lock_state(door=Door.OPEN)),
    "a grant waits": a_grant_waits,
    "api away": health("UPLINK_LOST"),
    "journal failing": health("JOURNAL_FAILING"),
    "clock wrong": health("CLOCK_UNTRUSTED"),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("bench", BENCHES)
def test_no_state_refuses_it(bench: str, state: str) -> None:
    site = BENCHES[bench]()
    STATES[state](site)
    events = site.give(site.desk.rescue(), at=1)
    assert set(names(events)) >= set(ASKED)
    events += site.give(site.desk.write_grant(GrantKind.EMERGENCY), at=2)
    assert not [e for e in events if isinstance(e, CommandRefused)]
    written = site.engine.site.locks["lock-1"].written
    assert written is not None
    assert (written.kind, written.grant) == (GrantKind.EMERGENCY, CTI.hex())


def test_the_event_names_who_asked_and_whether_with_the_code() -> None:
    bench = Bench()
    asked, *_ = bench.give(bench.desk.rescue(coded=False), at=1)
    assert isinstance(asked, RescueAsked)
    assert (asked.lock, asked.space, asked.by, asked.coded, asked.cause) == ("lock-1", "n01", "“Li Wei”", False, "command-1")


def test_a_lock_that_no_plan_names_is_no_lock_of_ours() -> None:
    bench = Bench()
    (refused,) = bench.give(bench.desk.rescue(lock="lock-9"), at=1)
    assert isinstance(refused, CommandRefused)
    assert refused.reason == "lock.unknown"


def test_a_break_of_the_seal_is_an_alarm_already_and_the_rescue_is_told_all_the_same() -> None:
    bench = Bench()
    seal_broken(bench)
    assert names(bench.give(bench.desk.rescue(), at=1)) == ["RescueAsked"]


def test_the_alarm_stays_when_the_rescue_is_over_and_blocks_every_ordinary_grant() -> None:
    bench = Bench()
    bench.give(bench.desk.rescue(), at=1)
    events = bench.wait(1 + TIMINGS.grant_life_s + TIMINGS.alarm_off_delay_s)
    assert "AlarmReturned EMERGENCY_OPEN" in names(events)
    assert bench.alarm("EMERGENCY_OPEN", "lock-1") == "latched_unacked"
    assert bench.engine.refuses_grant("n01") == "EMERGENCY_OPEN"


@pytest.mark.parametrize("coded", [True, False])
def test_with_and_without_the_code_it_is_the_same_alarm(*, coded: bool) -> None:
    assert names(Bench().give(Bench().desk.rescue(coded=coded), at=1)) == ASKED


def test_a_lock_that_never_answers_is_an_alarm_of_its_own() -> None:
    bench = Bench()
    bench.give(bench.desk.rescue(), at=1)
    assert "AlarmRaised LOCK_UNCONFIRMED" not in names(bench.wait(10.9))
    assert "AlarmRaised LOCK_UNCONFIRMED" in names(bench.wait(11))


def opened(bench: Bench, at: float) -> list[Event]:
    events = bench.give(bench.desk.write_grant(GrantKind.EMERGENCY, EPOCH + at), at=at)
    return events + bench.give(bench.result(ResultCode.OPENED, state=OPEN), at=at)


def test_a_lock_that_opened_is_confirmed_and_allowed() -> None:
    bench = Bench()
    bench.give(bench.desk.rescue(), at=1)
    assert names(opened(bench, 2)) == ["GrantUsed", "LockUnlocked"]
    bench.lock(a_lock_state(), at=5)  # and shut again, before the time for an answer is over
    kinds = {a.kind for a in bench.engine.site.alarms.values() if a.open}
    bench.wait(30)
    assert "LOCK_UNCONFIRMED" not in kinds | {a.kind for a in bench.engine.site.alarms.values() if a.open}
    assert "UNAUTHORISED_OPEN" not in kinds


def test_a_lock_that_is_seen_open_needs_no_result() -> None:
    bench = Bench()
    bench.give(bench.desk.rescue(), at=1)
    bench.lock(OPEN, at=3)
    assert "AlarmRaised LOCK_UNCONFIRMED" not in names(bench.wait(12))


def test_an_emergency_grant_of_the_api_is_confirmed_without_a_rescue_of_ours() -> None:
    bench = Bench()
    assert "AlarmRaised EMERGENCY_OPEN" in names(opened(bench, 2))
    assert bench.engine.site.locks["lock-1"].rescue is None


def test_a_second_rescue_begins_its_time_anew() -> None:
    bench = Bench()
    bench.give(bench.desk.rescue(), at=1)
    again = names(bench.give(bench.desk.rescue(EPOCH + 50), at=50))
    assert "RescueAsked" in again
    assert "AlarmRaised EMERGENCY_OPEN" not in again  # it is one alarm, until a person closes it
    bench.wait(62)
    assert bench.alarm("EMERGENCY_OPEN", "lock-1") == "unacked"


def test_a_space_that_is_out_of_service_keeps_its_alarm_when_it_is_shut_again() -> None:
    bench = out_of_service()
    bench.give(bench.desk.rescue(), at=1)
    opened(bench, 2)
    bench.lock(a_lock_state(), at=5)
    bench.wait(200)
    assert bench.alarm("EMERGENCY_OPEN", "lock-1") == "latched_unacked"
    assert bench.engine.site.locks["lock-1"].rescue is None
    assert bench.engine.site.out_of_service("lock-1", "n01")


def test_a_restart_in_the_middle_knows_what_was_asked() -> None:
    bench = Bench()
    bench.give(bench.desk.rescue(coded=False), at=1)
    opened(bench, 2)
    engine, events = replay(bench.journal)
    assert events == bench.events
    again = type(engine).restored(engine.snapshot(), "yard", LIMITS, TIMINGS)
    assert again.site.locks["lock-1"].rescue == bench.engine.site.locks["lock-1"].rescue
    assert again.advance(EPOCH + 90) == bench.wait(90)


def test_no_broker_and_no_api_can_ask_for_it() -> None:
    desk = Bench().desk
    with pytest.raises(DecodeRejected, match="OpenForRescue"):
        decode_command(encode(desk.rescue().command), "api/cmd")
    order = desk.evacuate().command
    assert decode_command(encode(order), "api/cmd") == order


def test_a_lock_that_greets_and_opens_within_one_tick_is_seen_open() -> None:
    bench = Bench()
    shut, drawn = (a_lock_state(bolt, tick=500, log_seq=n) for bolt, n in ((Bolt.LOCKED, 7), (Bolt.RETRACTED, 9)))
    bench.give(LockReported("lock-1", shut), at=1)
    assert "LockUnlocked" in names(bench.give(LockReported("lock-1", drawn), at=1))
    assert names(bench.give(LockReported("lock-1", shut), at=1)) == []  # an older word of the same tick is none
