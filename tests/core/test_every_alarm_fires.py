"""Every kind of the alarm list fires, end to end through the engine: one scene a kind; a kind without a scene fails here."""

from collections.abc import Callable

import msgspec
import pytest

from manway.catalogue import CATALOGUE
from manway.entities import Bolt, Door, LockFlag, LogEvent, LogRecord, Notice, PermitState
from manway.events import AlarmRaised
from manway.ids import GrantKind, Priority, Status
from manway.inputs import HealthReported, LogReceived, PlanReceived
from tests.kit.builders import (
    Bench,
    a_lock_state,
    a_permit,
    a_plan,
    a_space,
    a_test,
    an_instrument,
)
from tests.kit.clock import EPOCH

Scene = Callable[[], Bench]


def occupied(*people: str, bench: Bench | None = None, **air: float) -> Bench:
    """Somebody inside on an active permit, the attendant there, one frame of air."""
    bench = bench or Bench()
    bench.open_by_grant()
    bench.give(bench.desk.check_in(), *(bench.desk.enter(person) for person in people or ("ann",)))
    bench.read(0, **air)
    return bench


def breathing(**air: float) -> Scene:
    """Bad air for a few seconds in a space where nobody is."""

    def play() -> Bench:
        bench = Bench()
        bench.breathe(0, 5, **air)
        return bench

    return play


def us_breathing(seconds: int, **air: float) -> Scene:
    """A person breathing that air for so long under the US limits, which have averages for H2S."""

    def play() -> Bench:
        bench = occupied(bench=Bench(profile="US_GENERAL"))
        for second in range(1, seconds, 4):
            bench.read(second, **air)
        return bench

    return play


def rising() -> Bench:
    bench = Bench()
    for second in range(15):
        bench.read(second, h2s_ppm=0.4 * second)
    return bench


def opened() -> Bench:
    bench = Bench()
    bench.lock(a_lock_state(Bolt.LOCKED, door=Door.OPEN), at=1)
    return bench


def shackle_cut() -> Bench:
    bench = Bench()
    record = LogRecord(1, 1, 1, 0, LogEvent.FORCED, 2, 1, 1, 0, 90, 0, bytes(16))
    bench.give(LogReceived("lock-1", [record]), at=1)
    return bench


def flagged(flag: LockFlag, seconds: float = 5) -> Scene:
    def play() -> Bench:
        bench = Bench()
        bench.lock(a_lock_state(flags=flag), at=1)
        bench.wait(1 + seconds)
        return bench

    return play


def entry_in_prep() -> Bench:
    bench = Bench(a_plan(permits=[a_permit(state=PermitState.APPROVED)]))
    bench.open_by_grant(GrantKind.PREP)
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    return bench


def left_open() -> Bench:
    bench = Bench()
    bench.open_by_grant()
    bench.give(PlanReceived(a_plan(2, permits=[a_permit(state=PermitState.SUSPENDED)])), at=1)
    bench.wait(12)
    return bench


def left_open_while_closing() -> Bench:
    bench = Bench()
    bench.open_by_grant()
    bench.give(PlanReceived(a_plan(2, permits=[a_permit(state=PermitState.CLOSING)])), at=1)
    bench.wait(1 + 300 + 11)
    return bench


def shut_in() -> Bench:
    bench = occupied()
    bench.lock(a_lock_state(), at=2)
    return bench


def unconfirmed() -> Bench:
    bench = Bench()
    bench.give(bench.desk.write_grant())
    bench.wait(11)
    return bench


def until_end(seconds: float) -> Scene:
    """Somebody inside on a permit that ends in ten minutes, `seconds` after it began."""

    def play() -> Bench:
        bench = occupied(bench=Bench(a_plan(permits=[a_permit(state=PermitState.ACTIVE, end=EPOCH + 1800)])))
        bench.breathe(1, seconds)
        return bench

    return play


def stays(seconds: float) -> Scene:
    def play() -> Bench:
        bench = occupied(bench=Bench(a_plan(permits=[a_permit(state=PermitState.ACTIVE, end=EPOCH + 90_000)])))
        bench.wait(seconds)
        return bench

    return play


def worn(code: int, seconds: float = 0) -> Scene:
    def play() -> Bench:
        bench = occupied(bench=Bench(a_plan(instruments=[an_instrument(worn_by="ann")])))
        bench.breathe(1, 1 + seconds, wearer_state=code)
        return bench

    return play


def called() -> Bench:
    bench = occupied()
    bench.give(bench.desk.sos("ann", EPOCH + 1), at=1)
    return bench


def mismatch() -> Bench:
    bench = Bench()
    bench.give(bench.desk.count("out", "ann", source="tag"))
    return bench


def fan_lost() -> Bench:
    bench = occupied(fan_a=2.0)
    bench.read(1, fan_a=0.0)
    return bench


def silent(seconds: float) -> Scene:
    def play() -> Bench:
        bench = occupied()
        bench.wait(seconds)
        return bench

    return play


def faulty() -> Bench:
    bench = Bench()
    bench.read(0, statuses={"CO": Status.FAULT})
    return bench


def planned(plan: Callable[[], object], seconds: float = 1) -> Scene:
    def play() -> Bench:
        bench = Bench(plan())  # type: ignore[arg-type]
        bench.read(0)
        bench.wait(seconds)
        return bench

    return play


def unreadable_record() -> Bench:
    bench = occupied()
    for second in range(1, 1000):
        if second % 60 == 0:
            bench.give(bench.desk.check_in(EPOCH + second), at=second)
        bench.read(second, statuses={"CO": Status.FAULT})
    return bench


def low_battery() -> Bench:
    bench = Bench()
    bench.lock(msgspec.structs.replace(a_lock_state(), battery_percent=19), at=1)
    return bench


def guessed() -> Bench:
    bench = Bench()
    records = [LogRecord(n, 1, n, 0, LogEvent.REFUSED, 8, 1, 1, 2, 90, 0, bytes(16)) for n in (1, 2, 3)]
    bench.give(LogReceived("lock-1", records), at=1)
    return bench


def said(kind: str, *, grave: bool = False) -> Scene:
    def play() -> Bench:
        bench = Bench()
        bench.give(HealthReported(kind, "gw-1", True, grave), at=1)
        return bench

    return play


def rain() -> object:
    notice = Notice("w1", "heavy_rain", [], EPOCH - 60, EPOCH + 3600)
    return msgspec.structs.replace(a_plan(), notices=[notice])


P1, P2, P3, P4 = Priority
SCENES: dict[tuple[str, Priority], Scene] = {
    ("GAS_PRE", P3): breathing(h2s_ppm=4.0),
    ("GAS_PRE", P2): rising,
    ("GAS_LOW", P1): breathing(h2s_ppm=7.1),
    ("GAS_HIGH", P1): breathing(h2s_ppm=15.0),
    ("GAS_IDLH", P1): breathing(h2s_ppm=101.0),
    ("OVER_RANGE", P1): breathing(lel=101.0),
    ("GAS_STEL", P1): us_breathing(800, h2s_ppm=30.0),
    ("GAS_TWA", P2): us_breathing(1_000, h2s_ppm=400.0),
    ("GAS_RISING", P2): rising,
    ("UNAUTHORISED_OPEN", P1): opened,
    ("FORCED", P1): shackle_cut,
    ("TAMPER", P1): flagged(LockFlag.TAMPER),
    ("EMERGENCY_OPEN", P1): flagged(LockFlag.SEAL_BROKEN),
    ("ENTRY_IN_PREP", P1): entry_in_prep,
    ("DOOR_LEFT_OPEN", P2): left_open,
    ("RELOCK_WITH_PERSON", P1): shut_in,
    ("LOCK_UNCONFIRMED", P2): unconfirmed,
    ("OVERTIME_SOON", P4): until_end(901),
    ("OVERTIME_SOON", P3): until_end(1501),
    ("STAY_TOO_LONG", P3): stays(7201),
    ("OVERTIME", P2): until_end(1801),
    ("OVERTIME", P1): until_end(2101),
    ("SOS", P1): called,
    ("MAN_DOWN", P1): worn(2, 31),
    ("MISSED_CHECKIN", P2): stays(931),
    ("MISSED_CHECKIN", P1): stays(961),
    ("ATTENDANT_ABSENT", P1): stays(181),
    ("HEADCOUNT_MISMATCH", P2): mismatch,
    ("VENT_STOP", P2): fan_lost,
    ("VENT_STOP", P1): lambda: occupied(
        bench=Bench(a_plan(spaces=[msgspec.structs.replace(a_space(), mech_vent_required=True)])), fan_a=0.0
    ),
    ("DATA_LOST", P3): planned(a_plan, 6),
    ("DATA_LOST", P2): silent(6),
    ("DATA_LOST", P1): silent(16),
    ("SENSOR_FAULT", P2): faulty,
    ("SETPOINT_LAX", P2): planned(lambda: a_plan(instruments=[an_instrument(setpoints={"H2S": 10.0})])),
    ("INSTR_DUE", P3): planned(lambda: a_plan(instruments=[an_instrument(bump_due=EPOCH + 600)])),
    ("TEST_STALE", P3): planned(lambda: a_plan(permits=[a_permit(state=PermitState.READY, gas_test=a_test(EPOCH - 1790))]), 11),
    ("REC_15MIN_MISSED", P3): unreadable_record,
    ("LOCK_OFFLINE", P3): planned(a_plan, 121),
    ("LOCK_BATTERY", P3): low_battery,
    ("UPLINK_LOST", P2): said("UPLINK_LOST"),
    ("STORE_LAGGING", P3): said("STORE_LAGGING"),
    ("STORE_LAGGING", P2): said("STORE_LAGGING", grave=True),
    ("JOURNAL_GAP", P2): said("JOURNAL_GAP"),
    ("JOURNAL_FAILING", P2): said("JOURNAL_FAILING"),
    ("ALARM_PATH_FAILED", P2): said("ALARM_PATH_FAILED"),
    ("CLOCK_UNTRUSTED", P2): said("CLOCK_UNTRUSTED"),
    ("RADIO_LOST", P2): said("RADIO_LOST"),
    ("SUSPICION", P3): guessed,
    ("WEATHER", P4): planned(lambda: msgspec.structs.replace(rain(), spaces=[msgspec.structs.replace(a_space(), kind="silo")])),  # type: ignore[type-var]
    ("WEATHER", P2): planned(rain),
}


def test_every_kind_of_the_list_has_its_scene() -> None:
    """What a gateway raises is played below; what the api raises is its own tests' business."""
    of_gateway = {kind.id for kind in CATALOGUE.values() if kind.writer == "gateway"}
    assert {kind for kind, _ in SCENES} == of_gateway
    grow = {(kind.id, kind.worst) for kind in CATALOGUE.values() if kind.writer == "gateway"}
    assert grow <= set(SCENES)


@pytest.mark.parametrize(("kind", "priority"), SCENES, ids=[f"{kind}-P{p.value}" for kind, p in SCENES])
def test_it_fires(kind: str, priority: Priority) -> None:
    bench = SCENES[kind, priority]()
    raised = [e for e in bench.events if isinstance(e, AlarmRaised) and e.kind == kind]
    assert priority in {e.priority for e in raised}
    assert all(e.incident and e.clause for e in raised)
    assert all(CATALOGUE[kind].worst <= e.priority <= CATALOGUE[kind].priority for e in raised)


def test_a_door_is_left_open_five_minutes_after_the_work_is_done() -> None:
    bench = left_open_while_closing()
    assert bench.alarm("DOOR_LEFT_OPEN", "lock-1") == "unacked"


@pytest.mark.parametrize("code", [1, 3])
def test_a_button_or_a_fall_is_down_at_once(code: int) -> None:
    bench = worn(code)()
    assert bench.engine.site.spaces["n01"].people["ann"].state.value == "down"
    kind = "SOS" if code == 1 else "MAN_DOWN"
    assert bench.alarm(kind, "ann") == "unacked"
