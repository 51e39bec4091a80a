"""A gateway that dies at any moment and reads its journal again knows what it knew and says what it said."""

from collections.abc import Callable

import msgspec
import pytest

from manway.engine import Engine
from manway.entities import Bolt, Door, ResultCode
from manway.errors import SnapshotUnusable
from manway.events import AlarmRaised, Event
from manway.ids import GrantKind, Status
from manway.inputs import AnyInput, FrameReceived, HealthReported
from tests.kit.builders import LIMITS, TIMINGS, Bench, a_frame, a_lock_state
from tests.kit.clock import EPOCH

Journal = list[tuple[float, list[AnyInput]]]


def a_bad_day() -> Bench:
    """Entry on a grant, gas, evacuation, silence, a hatch opened by night, alarms acknowledged, reset and repeated."""
    bench = Bench()
    desk = bench.desk
    bench.give(desk.check_in())
    bench.open_by_grant(GrantKind.ENTRY, at=1)
    bench.lock(a_lock_state(Bolt.RETRACTED, door=Door.OPEN), at=2)
    bench.give(desk.enter("ann", EPOCH + 3), desk.enter("bob", EPOCH + 3), at=3)
    bench.breathe(4, 10)
    bench.read(11, h2s_ppm=8.0)
    gas = bench.alarm_id("GAS_LOW", "gas-1/H2S")
    bench.give(desk.acknowledge(gas, EPOCH + 12), at=12)
    bench.give(desk.leave("ann", EPOCH + 13), at=13)
    bench.read(14, statuses={"LEL": Status.OVER})
    bench.wait(40)
    bench.give(desk.leave("bob", EPOCH + 41), at=41)
    bench.breathe(42, 80)
    bench.give(desk.reset(gas, EPOCH + 81, by="attendant"), at=81)
    bench.give(desk.reset(gas, EPOCH + 82, by="manager"), at=82)
    bench.lock(a_lock_state(), at=83)
    bench.give(desk.write_grant(GrantKind.PREP, EPOCH + 84), at=84)
    bench.wait(100)
    bench.lock(a_lock_state(Bolt.RETRACTED, door=Door.OPEN), at=101)
    bench.lock(a_lock_state(), at=102)
    bench.give(bench.result(ResultCode.PRESS_WANTED, state=a_lock_state()), at=103)
    bench.give(FrameReceived(a_frame(3, at=EPOCH + 110, boot=8)), at=110)
    bench.wait(400)
    _a_worse_night(bench)
    return bench


def _a_worse_night(bench: Bench) -> None:
    """Sources that disagree, a recount, a fan that stops, CO breathed, somebody down, a shelved reminder, a late gateway."""
    desk = bench.desk
    bench.give(desk.check_in(EPOCH + 401), desk.count("in", "ann", EPOCH + 401, source="tag"), at=401)
    bench.give(desk.count("out", "carol", EPOCH + 402, source="scan"), at=402)
    bench.give(desk.recount("ann", "bob", at=EPOCH + 403), at=403)
    for second in range(404, 424):
        frame = a_frame(second, at=EPOCH + second, boot=8, co_ppm=20.0, fan_a=2.0 if second < 414 else 0.0)
        bench.give(FrameReceived(frame), at=second)
    bench.give(FrameReceived(a_frame(424, at=EPOCH + 424, boot=8, wearer_state=2)), at=424)
    bench.give(HealthReported("UPLINK_LOST", "gw-1", holds=True), at=425)
    bench.give(desk.sos("bob", EPOCH + 426), desk.answer("bob", EPOCH + 426), at=426)
    bench.wait(500)
    bench.give(desk.leave("ann", EPOCH + 501), desk.leave("bob", EPOCH + 501), at=501)
    bench.give(HealthReported("UPLINK_LOST", "gw-1", holds=False), at=502)
    bench.lock(a_lock_state(), at=503)
    bench.wait(535)
    battery = bench.lock(msgspec.structs.replace(a_lock_state(), battery_percent=10), at=536)
    low = next(e.alarm for e in battery if isinstance(e, AlarmRaised) and e.kind == "LOCK_BATTERY")
    bench.give(desk.shelve(low, EPOCH + 537, until=EPOCH + 600), at=537)
    bench.wait(640)


def resumed(journal: Journal, end: float) -> tuple[Engine, list[Event]]:
    engine = Engine("yard", LIMITS, TIMINGS)
    events = [event for at, items in journal for event in engine.receive(items, at)]
    return engine, events + engine.advance(end)


def picture(engine: Engine) -> bytes:
    """Everything the engine knows, as bytes: dictionaries keep their order, so equal means equal in every detail.

    A snapshot is that already; beside it stands what it does not hold, or holds as a number only.
    """
    site = engine.site
    return msgspec.json.encode(
        [
            engine.snapshot().hex(),
            list(site.alarms.values()),
            site.locks,
            site.spaces,
            site.exposures,
            list(site.health.values()),
            engine.next_deadline(),
            engine.refuses_grant("n01"),
        ],
        order="deterministic",
    )


def test_a_restart_at_every_event_keeps_acknowledgement_and_latch() -> None:
    """Kill after every input, replay what the journal has, go on: same events, same ids, same picture."""
    day = a_bad_day()
    end = day.engine.now
    for index in range(len(day.journal) + 1):
        before, after = day.journal[:index], day.journal[index:]
        engine, events = resumed(before, before[-1][0] if before else 0.0)
        for at, items in after:
            events += engine.receive(items, at)
        events += engine.advance(end)
        assert [e.id for e in events] == [e.id for e in day.events], f"killed before input {index}"
        assert picture(engine) == picture(day.engine), f"killed before input {index}"


def test_a_snapshot_at_every_event_and_what_came_after_equal_the_run_that_was_never_interrupted() -> None:
    day = a_bad_day()
    engine, said = Engine("yard", LIMITS, TIMINGS), 0
    for index, (at, items) in enumerate(day.journal):
        successor = Engine.restored(engine.snapshot(), "yard", LIMITS, TIMINGS)
        assert picture(successor) == picture(engine), f"snapshot before input {index}"
        live, again = engine.receive(items, at), successor.receive(items, at)
        assert [e.id for e in again] == [e.id for e in live], f"snapshot before input {index}"
        assert picture(successor) == picture(engine), f"snapshot before input {index}"
        said += len(live)
        engine = successor  # a snapshot of a snapshot, all day long
    assert [e.id for e in engine.advance(day.engine.now)] == [e.id for e in day.events[said:]]
    assert picture(engine) == picture(day.engine)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:-1], "truncated"),
        (lambda _: b"", "truncated"),
        (lambda data: data.replace(b"yard", b"mill", 1), "mill"),
    ],
)
def test_a_snapshot_that_is_damaged_or_of_another_site_is_refused(change: Callable[[bytes], bytes], why: str) -> None:
    with pytest.raises(SnapshotUnusable, match=why):
        Engine.restored(change(a_bad_day().engine.snapshot()), "yard", LIMITS, TIMINGS)


def test_under_other_limits_everything_but_the_judged_air_is_kept() -> None:
    """New limits must not forget who is inside, what is on, or that a sensor met more than its range."""
    day = a_bad_day()
    watch = next(w for w in day.engine.site.instruments.values() if "H2S" in w.rows)
    at = day.engine.now + 1
    day.engine.receive([FrameReceived(a_frame(90_000, at=at, device=watch.device, boot=77, statuses={"H2S": Status.OVER}))], at)
    was = day.engine.site
    other = msgspec.structs.replace(LIMITS, version="another")
    site = Engine.restored(day.engine.snapshot(), "yard", other, TIMINGS).site
    assert site.spaces == was.spaces
    assert [(a.id, a.state, a.priority) for a in site.alarms.values()] == [
        (a.id, a.state, a.priority) for a in was.alarms.values()
    ]
    for device, before in was.instruments.items():
        now = site.channels_of(site.instruments[device])
        assert {gas: c.over_range for gas, c in now.items()} == {g: c.over_range for g, c in was.channels_of(before).items()}
        assert {channel.level for channel in now.values()} <= {None}, "unknown until it is read again"
    assert site.channels_of(site.instruments[watch.device])["H2S"].over_range


def test_the_day_was_worth_replaying() -> None:
    """Every kind of thing the engine can say about gas, people, locks and alarms happens in it."""
    said = {type(event).__name__ for event in a_bad_day().events}
    assert said >= {
        "AlarmRaised",
        "AlarmRepeated",
        "AlarmReturned",
        "AlarmAcknowledged",
        "AlarmReset",
        "AlarmShelved",
        "AlarmUnshelved",
        "CommandRefused",
        "CountRecorded",
        "PersonStateChanged",
        "ReadingsRecorded",
        "SosRaised",
        "DeviceRestarted",
        "EvacuationOrdered",
        "EvacuationCompleted",
        "FramesMissed",
        "GrantRefused",
        "GrantUsed",
        "InstrumentFaulted",
        "InstrumentLost",
        "PersonEntered",
        "PersonLeft",
        "PressAwaited",
    }


@pytest.mark.parametrize("repeat", [lambda at: at, lambda at: at + 500.0], ids=["at once", "after the end"])
def test_what_the_broker_delivers_again_after_a_restart_changes_nothing_and_repeats_no_act(
    repeat: Callable[[float], float],
) -> None:
    """The last batch was journaled and not acknowledged: it comes again, at once or much later."""
    day = a_bad_day()
    for index in range(1, len(day.journal) + 1):
        at, items = day.journal[index - 1]
        again = max(repeat(at), at)
        plain, _ = resumed(day.journal[:index], again)
        doubled, _ = resumed(day.journal[:index], again)
        doubled.receive(items, again)
        doubled.advance(again)
        for one, two in zip(plain.site.spaces.values(), doubled.site.spaces.values(), strict=True):
            assert one.occupancy == two.occupancy
        assert [a.id for a in plain.site.alarms.values()] == [a.id for a in doubled.site.alarms.values()]
        assert [a.state for a in plain.site.alarms.values()] == [a.state for a in doubled.site.alarms.values()]
