"""What the checks are given: the records and the gateway's picture put together, and unknown wherever nobody knows."""

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import auth, desk, store
from api.facts import alarm_path_at, clock_offset_s, facts_for
from api.pictures import Pictures
from manway.checks import Facts, LockFacts, evaluate
from manway.codec_mqtt import AlarmNow
from manway.entities import Instrument, Notice, Permit, PermitState
from manway.events import AlarmRaised, PermitClosed
from manway.ids import GrantKind, Priority
from tests.kit.api import GAS, LOCK, SPACE, Desk, a_desk
from tests.kit.clock import EPOCH
from tests.kit.locks import LockBench, only


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Desk]:
    with a_desk(tmp_path) as bench:
        bench.look()
        yield bench


def facts(bench: Desk, permit: Permit, **changed: object) -> Facts:
    asked: dict[str, object] = {"lock": LOCK, "kind": GrantKind.ENTRY, "by": "p02"} | changed
    with bench.records.look() as db:
        return facts_for(bench.office, db, permit, desk.space_of(db, permit.space), **asked)  # type: ignore[arg-type]


def test_what_is_known_is_told_and_what_is_not_is_none(bench: Desk) -> None:
    permit = bench.make_permit()
    known = facts(bench, permit)
    assert known.lock_now == LockFacts(bench.now(), "locked", 90)
    assert (known.authenticated, known.attendant_elsewhere, known.exposed, known.notices) == (True, [], frozenset(), [])
    assert (known.gateway_faults, known.alarm_path_at, known.signing) == ([], bench.now(), False)
    assert known.pumped[GAS] is True
    (live,) = known.instruments
    assert (live.device, live.setpoints["H2S"], live.out_of_service, live.slopes) == (GAS, 7.0, False, {})
    bench.office.pictures.state.clear()
    unknown = facts(bench, permit)
    assert (unknown.lock_now, unknown.exposed, unknown.gateway_faults, unknown.instruments) == (None, None, None, [])


def test_what_an_instrument_says_of_itself_counts_beside_the_ledger(bench: Desk) -> None:
    permit, state = bench.make_permit(), bench.office.pictures.state["yard-north"]
    (ledgers,) = facts(bench, permit).instruments
    said = {"runs_out": EPOCH + 60, "setpoints": {"H2S": 20.0}}
    own = [msgspec.structs.replace(x, **said) if x.device == GAS else x for x in state.instruments]
    bench.office.pictures.take(msgspec.structs.replace(state, instruments=own))
    (live,) = facts(bench, permit).instruments
    assert (live.setpoints, live.bump_due) == ({"H2S": 20.0}, EPOCH + 60)
    assert ledgers.bump_due > live.bump_due
    assert "G13" in {failure.check for failure in evaluate(facts(bench, permit))}


def test_a_lock_whose_battery_nobody_knows_has_none(bench: Desk) -> None:
    state = bench.office.pictures.state["yard-north"]
    locks = [msgspec.structs.replace(x, battery_percent=255) for x in state.locks]
    bench.office.pictures.take(msgspec.structs.replace(state, locks=locks))
    assert facts(bench, bench.make_permit()).lock_now == LockFacts(bench.now(), "locked", None)
    assert facts(bench, bench.make_permit(PermitState.SUBMITTED), lock="lock-n99").lock_now is None


def test_an_attendant_of_another_open_permit_is_elsewhere(bench: Desk) -> None:
    permit = bench.make_permit()
    bench.make_permit(PermitState.CLOSING, space="n06")
    assert facts(bench, permit).attendant_elsewhere == []
    other = bench.make_permit(PermitState.ACTIVE, space="s02", site="yard-south")
    assert facts(bench, permit).attendant_elsewhere == [other.number]


NOBODY = frozenset[str]()


@pytest.mark.parametrize(
    ("kind", "ago_s", "exposed"),
    [("GAS_TWA", 60, NOBODY | {"p15"}), ("GAS_TWA", 8 * 3600 + 1, NOBODY), ("GAS_STEL", 60, NOBODY), ("GAS_LOW", 60, NOBODY)],
)
def test_who_reached_a_shifts_limit_is_exposed_until_a_new_shift(
    kind: str, ago_s: float, exposed: frozenset[str], bench: Desk
) -> None:
    told = {"id": "a1", "at": bench.now() - ago_s, "site": "yard-south", "priority": Priority.P2}
    bench.add_events(AlarmRaised(**told, alarm="a1", kind=kind, object="p15/CO", space="s02"))  # type: ignore[arg-type]
    assert facts(bench, bench.make_permit()).exposed == exposed


def test_the_alarm_path_is_as_young_as_the_last_event_of_the_engine(bench: Desk) -> None:
    """What the api itself writes proves nothing about the way from the gateway."""
    with bench.records.look() as db:
        assert alarm_path_at(db, "yard-north") == bench.now()
        assert alarm_path_at(db, "no-such-site") is None
    bench.wait(100)
    permit = bench.make_permit(PermitState.CLOSED)
    with bench.records.change() as db:
        desk.note(db, bench.office, PermitClosed, permit, by="p02", cause="x")
        assert alarm_path_at(db, "yard-north") == bench.now() - 100


def an_alarm(kind: str, *, holds: bool | None) -> AlarmNow:
    return AlarmNow("a", kind, "gw-1", "", "unacked", 2, EPOCH, 1, None, None, "", "", "", holds)


@pytest.mark.parametrize(
    ("kind", "holds", "faults"),
    [
        ("JOURNAL_FAILING", True, ["JOURNAL_FAILING"]),
        ("CLOCK_UNTRUSTED", None, ["CLOCK_UNTRUSTED"]),
        ("UPLINK_LOST", False, []),  # latched, and over
        ("STORE_LAGGING", True, []),  # telemetry waits in the journal; nothing is lost
        ("GAS_LOW", True, []),
    ],
)
def test_the_gateways_own_faults_are_told(kind: str, holds: bool | None, faults: list[str], bench: Desk) -> None:  # noqa: FBT001
    state = bench.office.pictures.state["yard-north"]
    bench.office.pictures.take(msgspec.structs.replace(state, alarms=[an_alarm(kind, holds=holds)]))
    assert facts(bench, bench.make_permit()).gateway_faults == faults


def test_a_weather_message_of_the_site_is_told(bench: Desk) -> None:
    with bench.records.change() as db:
        for site in ("yard-north", "yard-south"):
            store.put(db, "Notice", f"w-{site}", Notice(f"w-{site}", "rain", [SPACE], 0.0, 1.0, stop=True), site=site)
    found = facts(bench, bench.make_permit()).notices
    assert found is not None
    assert [n.id for n in found] == ["w-yard-north"]


@pytest.mark.parametrize(("by", "after_s", "signed_in"), [
    ("p02", 0, True), ("p02", 12 * 3600, True), ("p02", 12 * 3600 + 1, False), ("p01", 1800, True), ("p01", 1801, False),
    ("nobody", 0, False), ("", 0, False), ("p12", 0, False),
])  # fmt: skip
def test_a_session_vouches_for_a_person_while_it_lives(by: str, after_s: float, signed_in: bool, bench: Desk) -> None:  # noqa: FBT001
    bench.wait(after_s)
    with bench.records.look() as db:
        assert auth.has_session(db, by, bench.now()) is signed_in


def test_an_instrument_that_the_ledger_forgot_is_out_of_service(bench: Desk) -> None:
    with bench.records.change() as db:
        db.execute(store.document.delete().where((store.document.c.kind == "Instrument") & (store.document.c.id == GAS)))
    known = facts(bench, bench.make_permit())
    assert (known.instruments[0].out_of_service, known.pumped.get(GAS)) == (True, None)


def test_a_channel_of_the_ledger_without_a_reading_is_still_asked_for(bench: Desk) -> None:
    with bench.records.change() as db:
        known = store.get(db, Instrument, GAS)
        assert known is not None
        more = msgspec.structs.replace(known, channels=known.channels | {"CO2": "ppm"})
        store.put(db, "Instrument", GAS, more, site="yard-north")
    (live,) = facts(bench, bench.make_permit()).instruments
    assert (live.units["CO2"], "CO2" in live.readings) == ("ppm", False)


# ---- the lock's clock


@pytest.mark.parametrize("ahead_s", [0.0, 5.0, -7.0])
def test_a_hello_says_how_far_the_locks_clock_is_off(ahead_s: float, bench: Desk) -> None:
    lock = LockBench(key=bench.lock_key(LOCK), clock_ahead_s=bench.now() + ahead_s - 1.0)
    lock.wait(1.0)
    hello = only(lock.lock.receive("hello", b"\x01", lock.now), "hello")
    assert clock_offset_s(hello, bench.now()) == pytest.approx(ahead_s, abs=1.0)
    with_it = facts(bench, bench.make_permit(), hello=(hello, bench.now()))
    assert with_it.signing
    assert with_it.lock_now is not None
    assert with_it.lock_now.clock_offset_s == pytest.approx(ahead_s, abs=1.0)


def test_a_lock_that_has_lost_its_time_has_no_offset(bench: Desk) -> None:
    lock = LockBench(key=bench.lock_key(LOCK))
    lock.wait(1.0)
    assert clock_offset_s(only(lock.lock.receive("hello", b"\x01", lock.now), "hello"), EPOCH) is None
    assert clock_offset_s(b"no hello", EPOCH) is None


# ---- how fast the air moves


def moving(bench: Desk, values: list[tuple[float, float]]) -> float | None:
    pictures, state = Pictures(), bench.office.pictures.state["yard-north"]
    for at, value in values:
        instruments = [
            msgspec.structs.replace(
                i, at=at, readings=i.readings | {"H2S": msgspec.structs.replace(i.readings["H2S"], judged=value)}
            )
            for i in state.instruments
        ]
        pictures.take(msgspec.structs.replace(state, instruments=instruments))
    return pictures.slope(GAS, "H2S")


@pytest.mark.parametrize(
    ("values", "slope"),
    [
        ([(EPOCH + t, 0.5 * t) for t in range(11)], 0.5),
        ([(EPOCH + t, 3.0) for t in range(11)], 0.0),
        ([(EPOCH + t, 100.0) for t in range(5)] + [(EPOCH + 20 + t, 2.0 - 0.1 * t) for t in range(6)], -0.1),
        ([(EPOCH + t, 0.5 * t) for t in range(5)], None),  # four seconds are not enough
        ([(EPOCH, 1.0)] * 9, None),  # one frame, shown again and again
        ([], None),
    ],
)
def test_a_slope_is_a_line_through_the_last_ten_seconds(
    values: list[tuple[float, float]], slope: float | None, bench: Desk
) -> None:
    found = moving(bench, values)
    assert found is None if slope is None else math.isclose(found or 0.0, slope, abs_tol=1e-6)
