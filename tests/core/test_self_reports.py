"""What devices say of themselves: set-points, dates, and what they broadcast, which may raise and never clears."""

import msgspec
import pytest

from manway.codec_adv import InstrumentAdvertisement, InstrumentFlag, Level, LockAdvertisement
from manway.codec_gas import InstrumentReport, SetPoint, SetPointKind
from manway.entities import Bolt, Door, LockFlag
from manway.events import EvacuationOrdered, MessageRejected, SosRaised
from manway.ids import Status
from manway.inputs import AnyInput, InstrumentAdvertised, InstrumentDescribed, LockAdvertised, ResultReceived, SetPointsRead
from manway.instrument import InstrumentState
from manway.memory import freeze
from manway.site import BROADCAST_AFTER_S
from tests.kit.builders import NEVER_DUE, TIMINGS, Bench, a_lock_state, a_plan, an_instrument, replay
from tests.kit.clock import EPOCH

OFF_S = TIMINGS.alarm_off_delay_s
GONE = "latched_unacked"  # its condition is known gone; it waits for a person
SET = {"O2": 19.5, "LEL": 10.0, "H2S": 7.0, "CO": 25.0}


def points(changed: dict[str, float] | None = None, *, kind: SetPointKind = SetPointKind.LOW) -> SetPointsRead:
    """The set-points of a four-gas instrument; 0 stands in the list and is switched off."""
    said = SET | (changed or {})
    return SetPointsRead("gas-1", [SetPoint(gas, kind, enabled=value > 0, value=value) for gas, value in said.items()])


def report(*, bump_at: float = EPOCH - 3600, bump_due: float = NEVER_DUE, cal_due: float = NEVER_DUE) -> InstrumentDescribed:
    said = InstrumentReport(bytes(8), 7, (1, 0, 0, 0), int(bump_at), int(bump_due), int(cal_due), 30, 87, ())
    return InstrumentDescribed("gas-1", said)


def cry(level: Level = Level.A1, channel: str = "H2S", *, seq: int = 1, calls: bool = False) -> InstrumentAdvertised:
    flags = InstrumentFlag.HELP if calls else InstrumentFlag(0)
    return InstrumentAdvertised("gas-1", InstrumentAdvertisement(level, flags, channel, 87, seq))


def lock_says(
    bolt: Bolt = Bolt.LOCKED, door: Door = Door.CLOSED, *, tampered: bool = False, log_seq: int = 2, lock: str = "lock-1"
) -> LockAdvertised:
    said = LockAdvertisement(
        bolt, door, tampered=tampered, session_open=False, enrolment=False, session=0, battery_percent=90, log_seq=log_seq
    )
    return LockAdvertised(lock, said)


# -- set-points -------------------------------------------------------------------------------------------------------


def lax(bench: Bench) -> set[str]:
    gases = ("O2", "LEL", "H2S", "CO")
    return {gas for gas in gases if bench.alarm("SETPOINT_LAX", f"gas-1/{gas}") == "unacked"}


def test_i09_an_instrument_that_is_set_as_strictly_as_the_site_alarms_nobody() -> None:
    bench = Bench()
    bench.give(points(), at=1)
    assert lax(bench) == set()


@pytest.mark.parametrize("changed", [{"H2S": 20.0}, {"LEL": 25.0}, {"O2": 17.0}, {"CO": 0.0}])
def test_i09_one_that_alarms_later_than_the_site_or_not_at_all_is_lax(changed: dict[str, float]) -> None:
    bench = Bench()
    bench.give(points(changed), at=1)
    assert lax(bench) == set(changed)


def test_i09_a_gas_that_the_instrument_names_no_low_alarm_of_is_switched_off() -> None:
    bench = Bench()
    bench.give(points(kind=SetPointKind.HIGH), at=1)
    assert lax(bench) == set(SET)


def test_what_the_instrument_says_counts_more_than_what_the_ledger_has() -> None:
    bench = Bench(a_plan(instruments=[an_instrument(setpoints={"H2S": 10.0})]))
    bench.read(1)
    assert lax(bench) == {"H2S"}
    bench.give(points(), at=2)
    bench.wait(2 + OFF_S)
    assert bench.alarm("SETPOINT_LAX", "gas-1/H2S") == GONE


# -- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["bump_due", "cal_due"])
def test_i10_a_date_that_the_instrument_itself_has_earlier_is_due(date: str) -> None:
    bench = Bench()
    bench.give(report(**{date: EPOCH + 60}), at=1)
    assert bench.alarm("INSTR_DUE", "gas-1") == "unacked", "it runs out before the permit"


def test_a_date_it_does_not_know_is_not_asked() -> None:
    bench = Bench()
    bench.give(report(bump_due=0, cal_due=0), at=1)
    assert bench.alarm("INSTR_DUE", "gas-1") == "absent"


def over_its_range() -> Bench:
    bench = Bench()
    bench.read(1, statuses={"LEL": Status.OVER})
    bench.read(2, lel=0.0)
    assert bench.engine.site.instruments["gas-1"].state is InstrumentState.OVER_RANGE
    return bench


def test_i06_after_a_bump_test_that_it_tells_of_its_numbers_count_again() -> None:
    bench = over_its_range()
    bench.give(report(), at=3)
    assert bench.engine.site.instruments["gas-1"].state is InstrumentState.OVER_RANGE, "the first word proves no new test"
    bench.give(report(bump_at=EPOCH + 4), at=4)
    bench.read(5)
    watch = bench.engine.site.instruments["gas-1"]
    assert (watch.state, watch.poisoned) == (InstrumentState.MEASURING, False)
    assert bench.channel("LEL").value == 0.0


@pytest.mark.parametrize("bump_at", [EPOCH - 3600, EPOCH - 7200, EPOCH + 86_400])
def test_i06_no_newer_test_or_one_of_tomorrow_proves_nothing(bump_at: float) -> None:
    bench = over_its_range()
    bench.give(report(), at=3)
    bench.give(report(bump_at=bump_at), at=4)
    bench.read(5)
    assert bench.engine.site.instruments["gas-1"].state is InstrumentState.OVER_RANGE


def test_i06_a_date_of_tomorrow_or_none_at_all_hides_no_later_test() -> None:
    bench = over_its_range()
    for at, bump_at in enumerate([EPOCH + 86_400, 0, EPOCH - 3600], 3):
        bench.give(report(bump_at=bump_at), at=at)
    watch = bench.engine.site.instruments["gas-1"]
    assert watch.state is InstrumentState.OVER_RANGE, "the first date that can be true proves no new test"
    bench.give(report(bump_at=EPOCH + 6), at=6)
    assert watch.state is not InstrumentState.OVER_RANGE
    assert watch.bumped_at == EPOCH + 6


# -- what instruments broadcast ---------------------------------------------------------------------------------------


def inside() -> Bench:
    """Somebody is inside, and the instrument was heard a moment ago."""
    bench = Bench()
    bench.give(bench.desk.check_in())
    bench.open_by_grant(at=1)
    bench.give(bench.desk.enter("ann", EPOCH + 2), at=2)
    bench.read(3)
    return bench


@pytest.mark.parametrize(
    ("level", "raised"),
    [(Level.A1, {"GAS_LOW"}), (Level.A2, {"GAS_LOW", "GAS_HIGH"}), (Level.WITHIN, set()), (Level.UNKNOWN, set())],
)
def test_i14_an_alarm_that_is_broadcast_while_no_link_delivers_is_raised(level: Level, raised: set[str]) -> None:
    bench = inside()
    bench.give(cry(level, seq=2), at=4)
    assert bench.alarm("GAS_LOW", "gas-1/H2S") == "absent", "a frame may still come"
    events = bench.wait(3 + BROADCAST_AFTER_S)
    assert {kind for kind in ("GAS_LOW", "GAS_HIGH") if bench.alarm(kind, "gas-1/H2S") == "unacked"} == raised
    assert any(isinstance(event, EvacuationOrdered) for event in events) is bool(raised)


def test_while_frames_come_they_speak_for_the_air_and_no_broadcast_does() -> None:
    bench = inside()
    for second in range(4, 30):
        bench.give(cry(Level.A2, seq=second), at=second)
        bench.read(second + 0.5)
    assert bench.alarm("GAS_HIGH", "gas-1/H2S") == "absent"


def test_a_broadcast_clears_nothing_and_the_next_frame_does() -> None:
    bench = inside()
    bench.give(cry(Level.A2, seq=2), at=8)
    assert bench.alarm("GAS_HIGH", "gas-1/H2S") == "unacked"
    for second in range(9, 60):
        bench.give(cry(Level.WITHIN, "", seq=second), at=second)
    assert bench.alarm("GAS_HIGH", "gas-1/H2S") == "unacked"
    assert bench.alarm("GAS_LOW", "gas-1/H2S") == "unacked"
    bench.breathe(60, 61 + OFF_S)
    assert bench.alarm("GAS_HIGH", "gas-1/H2S") == GONE


def test_no_broadcast_is_a_sign_of_life() -> None:
    bench = inside()
    heard_at = bench.engine.site.instruments["gas-1"].heard_at
    for second in range(4, 30):
        bench.give(cry(Level.WITHIN, "", seq=second), at=second)
    assert bench.engine.site.instruments["gas-1"].heard_at == heard_at
    assert bench.alarm("DATA_LOST", "gas-1") == "unacked"


def test_the_same_number_again_says_nothing() -> None:
    bench = inside()
    bench.give(cry(Level.A1, seq=2), at=3.5)
    bench.read(4)
    bench.give(cry(Level.A1, seq=2), at=5)
    bench.wait(8)
    assert bench.alarm("GAS_LOW", "gas-1/H2S") == "absent"
    bench.give(cry(Level.A1, seq=3), at=9)
    assert bench.alarm("GAS_LOW", "gas-1/H2S") == "unacked"


def test_an_instrument_that_never_had_a_link_is_heard_in_an_empty_space_too() -> None:
    bench = Bench()
    bench.give(cry(Level.A2, "LEL"), at=10)
    assert bench.alarm("GAS_HIGH", "gas-1/LEL") == "unacked"
    assert bench.engine.refuses_grant("n01") is not None


@pytest.mark.parametrize("channel", ["", "VOC", "wearer_state"])
def test_a_channel_that_the_plan_does_not_name_is_the_instruments_alarm(channel: str) -> None:
    bench = Bench()
    bench.give(cry(Level.A2, channel), at=10)
    assert {bench.alarm(kind, "gas-1") for kind in ("GAS_LOW", "GAS_HIGH")} == {"unacked"}


def test_i12_a_call_for_help_off_the_air_is_an_sos() -> None:
    bench = inside()
    events = bench.give(cry(Level.WITHIN, "", calls=True), at=4)
    assert [event.person for event in events if isinstance(event, SosRaised)] == ["gas-1"]
    bench.give(cry(Level.WITHIN, "", seq=5), at=5)
    assert bench.alarm("SOS", "gas-1") == "unacked"


def test_i12_while_frames_say_how_the_wearer_is_a_broadcast_does_not() -> None:
    bench = inside()
    bench.read(4, wearer_state=0)
    bench.give(cry(Level.WITHIN, "", calls=True), at=5)
    assert bench.alarm("SOS", "gas-1") == "absent"
    bench.give(cry(Level.WITHIN, "", seq=9, calls=True), at=4 + BROADCAST_AFTER_S)
    assert bench.alarm("SOS", "gas-1") == "unacked"


# -- what locks broadcast ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [lock_says(Bolt.RETRACTED), lock_says(door=Door.OPEN)])
def test_a_lock_that_broadcasts_an_opening_and_cannot_be_asked_has_been_opened(said: LockAdvertised) -> None:
    bench = Bench()
    bench.give(said, at=5)
    bench.give(said, at=6)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent", "it is asked first"
    bench.wait(5 + bench.engine.site.timings.lock_confirm_s)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"
    bench.give(lock_says(log_seq=3), at=30)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked", "no broadcast clears"
    bench.lock(a_lock_state(log_seq=3), at=40)
    bench.wait(40 + OFF_S)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == GONE


def test_a_lock_that_answers_in_time_is_believed() -> None:
    bench = Bench()
    bench.give(lock_says(Bolt.RETRACTED), at=5)
    bench.lock(a_lock_state(log_seq=2), at=7)
    bench.wait(60)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent"


def test_a_retained_report_or_a_refused_grant_is_no_answer_to_an_opening_that_was_broadcast() -> None:
    bench = Bench()
    bench.give(lock_says(Bolt.RETRACTED), at=5)
    bench.lock(a_lock_state(log_seq=2), at=6, retained=True)
    bench.give(bench.desk.write_grant(at=EPOCH + 7), ResultReceived("lock-1", None), at=7)
    bench.wait(5 + TIMINGS.lock_confirm_s)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "unacked"


def test_of_a_lock_that_can_write_no_record_an_equal_number_is_news_and_an_older_one_is_not() -> None:
    bench = Bench()
    bench.lock(msgspec.structs.replace(a_lock_state(log_seq=7), fault=2), at=1)
    bench.give(lock_says(door=Door.OPEN, log_seq=6), at=2)
    assert bench.engine.site.locks["lock-1"].broadcast_open_at == 0
    bench.give(lock_says(door=Door.OPEN, log_seq=7), at=3)
    assert bench.engine.site.locks["lock-1"].broadcast_open_at == EPOCH + 3
    bench.lock(msgspec.structs.replace(a_lock_state(log_seq=7), fault=2), at=4)
    bench.wait(60)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent", "it has said itself that it is shut"


@pytest.mark.parametrize("log_seq", [1, 0, 0xFFFF])
def test_an_old_broadcast_played_again_says_nothing(log_seq: int) -> None:
    bench = Bench()
    bench.give(lock_says(Bolt.RETRACTED, tampered=True, log_seq=log_seq), at=5)
    bench.wait(60)
    assert {bench.alarm(kind, "lock-1") for kind in ("UNAUTHORISED_OPEN", "TAMPER")} == {"absent"}


def test_an_opening_that_a_grant_covers_is_no_news() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(at=EPOCH + 5), at=5)
    bench.give(lock_says(Bolt.RETRACTED), at=6)
    bench.wait(14)
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent"


def test_a_case_that_is_broadcast_open_is_tamper_at_once_until_the_lock_itself_reports() -> None:
    bench = Bench()
    bench.give(lock_says(tampered=True), at=5)
    assert bench.alarm("TAMPER", "lock-1") == "unacked"
    bench.lock(a_lock_state(log_seq=2), at=9)
    bench.wait(9 + OFF_S)
    assert bench.alarm("TAMPER", "lock-1") == GONE


def test_force_that_was_reported_and_dealt_with_is_not_raised_again_by_what_it_goes_on_broadcasting() -> None:
    bench = Bench()
    bench.lock(a_lock_state(flags=LockFlag.SEAL_BROKEN, log_seq=4), at=3)
    bench.give(lock_says(tampered=True, log_seq=5), at=5)
    assert bench.alarm("TAMPER", "lock-1") == "absent"


def test_a_lock_never_heard_of_is_unknown_and_broadcasts_its_case() -> None:
    bench = Bench(locked=False)
    bench.give(lock_says(Bolt.RETRACTED, tampered=True, log_seq=1), at=5)
    bench.wait(30)
    assert bench.alarm("TAMPER", "lock-1") == "unacked"
    assert bench.alarm("UNAUTHORISED_OPEN", "lock-1") == "absent", "where it stands nobody knows: it counts as unknown"


# -- who says it ------------------------------------------------------------------------------------------------------


UNNAMED: list[AnyInput] = [
    SetPointsRead("gas-9", []),
    InstrumentDescribed("gas-9", report().report),
    InstrumentAdvertised("gas-9", cry().said),
    lock_says(lock="lock-9"),
]


@pytest.mark.parametrize("item", UNNAMED)
def test_a_device_that_the_plan_does_not_name_is_refused(item: AnyInput) -> None:
    bench = Bench()
    events = bench.give(item, at=1)
    assert [event.source for event in events if isinstance(event, MessageRejected)] in (["gas-9"], ["lock-9"])
    nobody = Bench()
    nobody.engine.site.plan = None
    assert nobody.give(item, at=1) == []


def test_all_of_it_survives_a_restart() -> None:
    bench = inside()
    said: list[AnyInput] = [points({"H2S": 20.0}), report(bump_due=EPOCH + 60), cry(Level.A2, seq=9), lock_says(tampered=True)]
    for second, item in enumerate(said, start=4):
        bench.give(item, at=second)
    bench.wait(30)
    again, _ = replay(bench.journal)
    again.advance(EPOCH + 30)
    assert freeze(again.site, again.now, {}, {}) == freeze(bench.engine.site, bench.engine.now, {}, {})
    kept = type(bench.engine).restored(bench.engine.snapshot(), "yard", again.site.limits, again.site.timings)
    assert kept.site.instruments == bench.engine.site.instruments
    assert kept.next_deadline() == bench.engine.next_deadline()
