"""What plain frames ask of the engine: who is quiet, a frame that is made when somebody looks, and rows that sites share."""

import msgspec
import numpy as np
import pytest

from manway import air
from manway.engine import Engine
from manway.errors import SnapshotUnusable, TimeWentBackwards
from manway.gas import GasRows
from manway.gas_columns import over_range
from manway.ids import Status
from manway.inputs import FrameReceived, PlanReceived
from manway.instrument import InstrumentState
from manway.ledger import Gap
from manway.limits import GasLimits, LimitProfile
from manway.site import InstrumentWatch
from tests.kit.builders import LIMITS, TIMINGS, UNITS, Bench, a_frame, a_plan, an_instrument
from tests.kit.clock import EPOCH
from tests.kit.plain import quickly


def at_rest(**more: object) -> Bench:
    """An instrument that has read clean air for a quarter of a minute."""
    bench = Bench(a_plan(instruments=[an_instrument(**more)]))  # type: ignore[arg-type]
    bench.breathe(1, 15)
    return bench


def watch_of(bench: Bench) -> InstrumentWatch:
    return bench.engine.site.instruments["gas-1"]


def is_quiet(bench: Bench) -> bool:
    return air.quiet(bench.engine.site, watch_of(bench))


# -- quiet ------------------------------------------------------------------------------------------------------------


def test_an_instrument_in_clean_air_beside_nobody_is_quiet() -> None:
    assert is_quiet(at_rest())


def test_so_is_one_in_a_space_that_nobody_watches() -> None:
    bench = at_rest()
    bench.engine.site.spaces.clear()
    assert is_quiet(bench)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("troubled", True),
        ("lost", True),
        ("state", InstrumentState.WARMUP),
        ("state", InstrumentState.OVER_RANGE),
        ("fan_on", True),
        ("fan_on", False),
        ("sour_since", EPOCH),
    ],
)
def test_whatever_the_next_frame_could_end_makes_it_loud(field: str, value: object) -> None:
    bench = at_rest()
    setattr(watch_of(bench), field, value)
    assert not is_quiet(bench)


def test_a_gap_makes_it_loud() -> None:
    bench = at_rest()
    watch_of(bench).ledger.gaps = [Gap(4, 5, EPOCH)]
    assert not is_quiet(bench)


def test_somebody_inside_breathes_every_frame() -> None:
    bench = at_rest()
    bench.give(bench.desk.enter("ann", EPOCH + 16), at=16)
    assert not is_quiet(bench)
    bench.give(bench.desk.leave("ann", EPOCH + 17), at=17)
    assert is_quiet(bench)


def without(*gases: str) -> LimitProfile:
    return msgspec.structs.replace(LIMITS, gas=[rule for rule in LIMITS.gas if rule.name not in gases])


def high(gas: str, by: float) -> LimitProfile:
    """Limits that are that many times as high for one gas."""

    def raised(rule: GasLimits) -> GasLimits:
        return msgspec.structs.replace(rule, limit=[msgspec.structs.replace(x, value=x.value * by) for x in rule.limit])

    return msgspec.structs.replace(LIMITS, gas=[raised(rule) if rule.name == gas else rule for rule in LIMITS.gas])


@pytest.mark.parametrize(
    ("limits", "channels", "quiet"),
    [
        (LIMITS, UNITS, True),
        (without("H2S"), UNITS, False),  # nobody judges it, and 60 ppm would still be remembered
        (high("H2S", 30.0), UNITS, False),
        (without("H2S"), {gas: unit for gas, unit in UNITS.items() if gas != "H2S"}, True),
        (without("H2S", "LEL"), UNITS, True),  # no sensor that it could poison
        (without("H2S"), UNITS | {"H2S": "mg/m3"}, True),
    ],
)
def test_where_much_sour_gas_could_be_calm_no_frame_is(limits: LimitProfile, channels: dict[str, str], *, quiet: bool) -> None:
    engine = Engine("yard", limits, TIMINGS)
    engine.receive([PlanReceived(a_plan(instruments=[an_instrument(channels=channels)]))], EPOCH)
    for second in range(1, 16):
        engine.receive([FrameReceived(a_frame(second, at=EPOCH + second))], EPOCH + second)
    assert air.quiet(engine.site, engine.site.instruments["gas-1"]) is quiet


# -- a frame that is made when somebody looks -------------------------------------------------------------------------


def test_a_plain_frame_is_the_frame_it_stands_for() -> None:
    bench = at_rest()
    watch, now = watch_of(bench), EPOCH + 16
    frame = a_frame(16, at=now, o2=20.8, co_ppm=0.1, battery_percent=40)
    received = watch.ledger.received
    quickly(watch, frame, at=now)
    assert (watch.ledger.highest, watch.ledger.received, watch.heard_at) == (16, received + 1, now)
    assert watch.battery_percent == 40
    assert watch.frame == frame
    assert watch.frame is watch.frame, "made once"


def test_a_frame_that_comes_the_ordinary_way_takes_its_place() -> None:
    bench = at_rest()
    watch = watch_of(bench)
    quickly(watch, a_frame(16, at=EPOCH + 16), at=EPOCH + 16)
    frame = a_frame(17, at=EPOCH + 17)
    bench.give(FrameReceived(frame), at=17)
    assert watch.frame is frame


def test_an_instrument_that_is_moved_has_no_frame_yet() -> None:
    bench = at_rest()
    watch = watch_of(bench)
    quickly(watch, a_frame(16, at=EPOCH + 16), at=EPOCH + 16)
    bench.move_instrument("n02", at=16)
    assert watch_of(bench) is watch
    assert watch.frame is None


def test_a_moment_that_is_heard_late_moves_nothing_back() -> None:
    bench = at_rest()
    watch = watch_of(bench)
    watch.heard_at = EPOCH + 30
    quickly(watch, a_frame(16, at=EPOCH + 16), at=EPOCH + 16)
    assert watch.heard_at == EPOCH + 30


def test_a_snapshot_has_the_frame_made_and_nothing_else_of_it() -> None:
    """Fifteen seconds one way, the sixteenth the other: the bytes do not tell."""
    ordinary, quick = at_rest(), at_rest()
    frame, now = a_frame(16, at=EPOCH + 16), EPOCH + 16
    ordinary.give(FrameReceived(frame), at=16)
    engine, watch = quick.engine, watch_of(quick)
    engine.advance(now)
    engine.site.gas.take_few(list(watch.rows.values()), [20.9, 0.0, 0.0, 0.0], [0] * 4, [now] * 4)
    quickly(watch, frame, at=now)
    engine.tick(now)
    assert engine.snapshot() == ordinary.engine.snapshot()
    assert Engine.restored(engine.snapshot(), "yard", LIMITS, TIMINGS).site.instruments["gas-1"].frame == frame


# -- the engine's clock -----------------------------------------------------------------------------------------------


def test_a_tick_moves_the_present_and_nothing_else() -> None:
    bench = at_rest()
    engine = bench.engine
    engine.advance(EPOCH + 20)
    version, due = engine.version, engine.next_deadline()
    engine.tick(EPOCH + 20.5)
    assert (engine.now, engine.version, engine.next_deadline()) == (EPOCH + 20.5, version, due)


def test_a_tick_passes_no_deadline_and_goes_not_back() -> None:
    engine = at_rest().engine
    due = engine.next_deadline()
    assert due is not None
    with pytest.raises(TimeWentBackwards):
        engine.tick(due)
    with pytest.raises(TimeWentBackwards):
        engine.tick(engine.now - 1)
    assert engine.now == EPOCH + 15


def test_the_version_counts_what_may_have_changed_who_is_quiet() -> None:
    bench = at_rest()
    engine, seen = bench.engine, [bench.engine.version]
    bench.read(16)
    seen.append(engine.version)
    engine.advance(EPOCH + 16)
    assert engine.version == seen[-1], "nothing was due"
    due = engine.next_deadline()
    assert due is not None
    engine.advance(due)
    seen.append(engine.version)
    assert seen == sorted(set(seen))


# -- rows that sites share --------------------------------------------------------------------------------------------


def read(engine: Engine, seq: int, device: str, **said: object) -> None:
    engine.receive([FrameReceived(a_frame(seq, at=EPOCH + seq, device=device, **said))], EPOCH + seq)  # type: ignore[arg-type]


def planned(site: str, gas: GasRows | None, *devices: str, version: int = 1) -> Engine:
    engine = Engine(site, LIMITS, TIMINGS, gas)
    replan(engine, *devices, version=version)
    return engine


def replan(engine: Engine, *devices: str, version: int) -> None:
    """Give the engine a plan of these instruments and of no permit, at its own time."""
    plan = a_plan(version, instruments=[an_instrument(device) for device in devices], permits=[])
    engine.receive([PlanReceived(msgspec.structs.replace(plan, site=engine.site.id))], max(engine.now, EPOCH))


def test_a_snapshot_is_the_same_whatever_rows_a_site_has() -> None:
    """A row that others have used before holds nothing of them."""
    gas = GasRows(LIMITS, TIMINGS.rising_s)
    mill = planned("mill", gas, "m-1", "m-2")
    for second in range(1, 15):
        read(mill, second, "m-1", h2s_ppm=float(second), o2=8.0)
    replan(mill, "m-2", version=2)
    yard, alone = planned("yard", gas, "gas-1"), planned("yard", None, "gas-1")
    used = set(yard.site.instruments["gas-1"].rows.values())
    assert used & set(range(4)), "those of m-1"
    assert used.isdisjoint(mill.site.instruments["m-2"].rows.values())
    for engine in (yard, alone):
        read(engine, 1, "gas-1", statuses={"LEL": Status.FAULT})
    assert yard.snapshot() == alone.snapshot()


def test_a_site_is_taken_up_into_rows_that_others_use_and_touches_none() -> None:
    gas = GasRows(LIMITS, TIMINGS.rising_s)
    mill = planned("mill", gas, "m-1")
    read(mill, 1, "m-1", h2s_ppm=15.0)
    yard = planned("yard", None, "gas-1", "gas-2")
    read(yard, 1, "gas-1", o2=9.0)
    read(yard, 2, "gas-2", co_ppm=60.0)
    before = mill.snapshot()
    again = Engine.restored(yard.snapshot(), "yard", LIMITS, TIMINGS, gas)
    assert again.snapshot() == yard.snapshot()
    assert again.site.channels_of(again.site.instruments["gas-2"]) == yard.site.channels_of(yard.site.instruments["gas-2"])
    for engine in (again, yard):
        read(engine, 3, "gas-1", o2=9.0, lel=5.0)  # its oxygen is its own
    assert again.snapshot() == yard.snapshot()
    assert mill.snapshot() == before


def test_other_limits_are_for_rows_of_its_own_and_not_of_others() -> None:
    other = msgspec.structs.replace(LIMITS, version="another")
    gas = GasRows(other, TIMINGS.rising_s)
    mill = Engine("mill", other, TIMINGS, gas)
    replan(mill, "m-1", version=1)
    read(mill, 1, "m-1", h2s_ppm=15.0)
    yard, before = planned("yard", None, "gas-1", "gas-2"), mill.snapshot()
    read(yard, 1, "gas-2", statuses={"LEL": Status.OVER})
    site = Engine.restored(yard.snapshot(), "yard", other, TIMINGS, gas).site
    assert site.gas is gas
    over = {(d, name) for d, watch in site.instruments.items() for name, c in site.channels_of(watch).items() if c.over_range}
    assert over == {("gas-2", "LEL")}
    assert {c.level for watch in site.instruments.values() for c in site.channels_of(watch).values()} == {None}
    assert mill.snapshot() == before


def test_a_table_that_grows_leaves_every_row_in_its_place() -> None:
    gas = GasRows(LIMITS, TIMINGS.rising_s)
    mill = planned("mill", gas, "m-1")
    read(mill, 1, "m-1", h2s_ppm=15.0)
    before, rows = mill.snapshot(), dict(mill.site.instruments["m-1"].rows)
    planned("yard", gas, *(f"gas-{n}" for n in range(100)))
    assert mill.site.instruments["m-1"].rows == rows
    assert mill.snapshot() == before


def test_rows_go_back_with_the_instruments_that_had_them() -> None:
    """A plan that changes every day must not let the table grow."""
    gas = GasRows(LIMITS, TIMINGS.rising_s)
    yard = planned("yard", gas, "gas-1")
    for version in range(2, 200):
        replan(yard, f"gas-{version}", version=version)
    assert max(yard.site.instruments["gas-199"].rows.values()) < 64


def test_a_snapshot_that_lacks_rows_is_refused_and_takes_none() -> None:
    gas = GasRows(LIMITS, TIMINGS.rising_s)
    yard = planned("yard", None, "gas-1")
    kept = msgspec.msgpack.decode(yard.snapshot())
    kept["rows"] = kept["rows"][:-1]
    with pytest.raises(SnapshotUnusable, match="rows"):
        Engine.restored(msgspec.msgpack.encode(kept), "yard", LIMITS, TIMINGS, gas)
    assert set(gas.bind(UNITS).values()) == set(range(4))


def test_no_rows_are_no_bytes_and_bytes_of_rows_tell_what_is_latched() -> None:
    gas = GasRows(LIMITS)
    assert (gas.saved([]), gas.load(b""), over_range(b"")) == (b"", [], [])
    rows = list(gas.bind(UNITS).values())
    gas.latch(rows[1:2])
    assert over_range(gas.saved(rows[::-1])) == [False, False, True, False]


def test_what_is_asked_of_no_reading_is_answered_with_none() -> None:
    gas, rows, values = GasRows(LIMITS), np.zeros(0, np.intp), np.zeros(0)
    assert gas.would_stay_calm(rows, values, EPOCH).tolist() == []
    gas.note(rows, values, EPOCH)
