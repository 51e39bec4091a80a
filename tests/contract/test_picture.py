"""The picture of a site says what its engine knows, no more, and fits the pages' message."""

import pytest

from gateway.picture import site_state
from manway.codec_mqtt import SiteState, decode, encode
from manway.engine import Engine
from manway.entities import Bolt, Door
from manway.ids import GrantKind, Status
from manway.inputs import FrameReceived
from tests.kit.builders import CTI, LIMITS, TIMINGS, Bench, a_frame, a_lock_state
from tests.kit.clock import EPOCH


def picture(bench: Bench) -> SiteState:
    state = site_state(bench.engine, gateway="gw-1", jid="j1", event=7)
    assert decode(encode(state), SiteState, "test") == state
    return state


def test_before_any_plan_nothing_is_known() -> None:
    state = site_state(Engine("yard", LIMITS, TIMINGS), gateway="gw-1", jid="j1", event=0)

    assert state == SiteState("gw-1", "j1", "yard", 0, 0.0, 0, [], [], [], [])


def test_a_site_that_has_just_begun_knows_no_reading_and_no_attendant() -> None:
    state = picture(Bench(locked=False))
    (instrument,), (lock,), (space,) = state.instruments, state.locks, state.spaces

    assert (state.gw, state.jid, state.site, state.event, state.at, state.plan_version) == ("gw-1", "j1", "yard", 7, EPOCH, 1)
    assert (instrument.device, instrument.space, instrument.at, instrument.readings) == ("gas-1", "n01", 0.0, {})
    assert (lock.position, lock.commanded, lock.battery_percent, lock.used_kind, lock.used_grant) == ("unknown", "", 255, 0, "")
    assert (space.space, space.inside, space.known, space.attendant_at, space.evacuating) == ("n01", {}, True, None, False)
    assert state.alarms == []


def test_a_reading_shows_what_was_sent_and_what_was_judged() -> None:
    bench = Bench()
    bench.read(1, h2s_ppm=8.0, statuses={"CO": Status.FAULT}, without=["LEL"])
    (instrument,) = picture(bench).instruments

    assert instrument.at == EPOCH + 1
    h2s, co = instrument.readings["H2S"], instrument.readings["CO"]
    assert (h2s.status, h2s.value, h2s.unit) == ("ok", 8.0, "ppm")
    assert h2s.judged == pytest.approx(8.0 * 34.08 / 24.06, rel=0.01)
    assert h2s.judged_unit == "mg/m3"
    assert h2s.level
    assert (co.status, co.value, co.judged, co.level) == ("fault", None, None, None)
    assert "LEL" not in instrument.readings


def test_a_channel_without_limits_is_shown_as_it_came() -> None:
    bench = Bench()
    frame = a_frame(1)
    frame.readings["fan_a"] = frame.readings["O2"]
    bench.give(FrameReceived(frame), at=1)
    fan = picture(bench).instruments[0].readings["fan_a"]

    assert (fan.value, fan.judged, fan.unit, fan.judged_unit, fan.level) == (20.9, 20.9, "", "", None)


def test_the_ledger_of_an_instrument_is_in_the_picture() -> None:
    bench = Bench()
    for seq in (1, 2, 2, 5):
        bench.give(FrameReceived(a_frame(seq, at=EPOCH + seq)), at=seq)
    (instrument,) = picture(bench).instruments

    assert (instrument.received, instrument.duplicate, instrument.missing) == (3, 1, 2)


def test_a_silent_instrument_is_lost_and_its_alarm_open() -> None:
    bench = Bench()
    bench.give(bench.desk.check_in(), bench.desk.enter("ann"))
    bench.read(1)
    bench.wait(10)
    state = picture(bench)

    assert state.at == EPOCH + 10
    assert state.instruments[0].lost
    assert [(a.kind, a.space, a.holds) for a in state.alarms if a.kind == "DATA_LOST"] == [("DATA_LOST", "n01", True)]


def test_a_lock_shows_what_was_written_then_what_it_reports_and_used() -> None:
    bench = Bench()
    bench.give(bench.desk.write_grant(GrantKind.ENTRY))
    (lock,) = picture(bench).locks
    assert (lock.position, lock.commanded, lock.battery_percent) == ("pending", "ENTRY", 90)

    bench.open_by_grant(GrantKind.ENTRY, at=1)
    bench.lock(a_lock_state(Bolt.RETRACTED, door=Door.OPEN), at=2)
    (lock,) = picture(bench).locks
    assert (lock.position, lock.commanded, lock.at) == ("open", "", EPOCH + 2)
    assert (lock.used_kind, lock.used_grant) == (int(GrantKind.ENTRY), CTI.hex())


def test_people_and_the_alarm_that_orders_them_out_are_in_the_picture() -> None:
    bench = Bench()
    desk = bench.desk
    bench.give(desk.check_in(), desk.enter("ann", EPOCH + 1), at=1)
    bench.read(2, h2s_ppm=8.0)
    state = picture(bench)
    assert state.spaces[0].inside == {"ann": EPOCH + 1}
    assert state.spaces[0].attendant_at == EPOCH + 1
    assert state.spaces[0].evacuating
    (gas,) = [alarm for alarm in state.alarms if alarm.kind == "GAS_LOW"]
    assert (gas.object, gas.space, gas.state, gas.since, gas.count) == ("gas-1/H2S", "n01", "unacked", EPOCH + 2, 1)
    assert gas.limit is not None
    assert gas.value is not None
    assert gas.value > gas.limit
    assert gas.clause

    bench.give(desk.acknowledge(gas.id, EPOCH + 3), desk.leave("ann", EPOCH + 3), at=3)
    state = picture(bench)
    assert not state.spaces[0].evacuating
    assert [a.acknowledged_by for a in state.alarms if a.id == gas.id] == ["attendant"]


def test_a_closed_alarm_leaves_the_picture() -> None:
    bench = Bench()
    bench.read(1, h2s_ppm=8.0)
    gas = bench.alarm_id("GAS_LOW", "gas-1/H2S")
    bench.give(bench.desk.acknowledge(gas, EPOCH + 2), at=2)
    bench.breathe(3, 60)
    bench.give(bench.desk.reset(gas, EPOCH + 61), at=61)

    assert gas not in [alarm.id for alarm in picture(bench).alarms]
