"""What the quick way of plain frames rests on: rows, instruments and engines end as the ordinary way, to the last bit."""

import random
from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manway import air
from manway.engine import Engine
from manway.entities import Frame
from manway.events import Event
from manway.gas import GasRows
from manway.gas_columns import CODES, Floats, Indices
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived, PlanReceived
from manway.runtime import settings as tables
from manway.site import InstrumentWatch
from tests.kit.builders import LIMITS, TIMINGS, UNITS, Desk, a_frame, a_plan, a_space, an_instrument
from tests.kit.clock import EPOCH
from tests.kit.plain import quickly
from tests.property.test_gas_reference import ORDERS, READINGS, STEPS

AIR = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
NEAR = st.sampled_from([0.0, -0.0, 0.01, -0.01, 0.3, -0.3, 0.31, 0.5, 1.0])  # around the deadbands, mostly calm
Read = dict[str, float | Status]


def bits(gas: GasRows) -> dict[str, bytes]:
    """All columns as they lie in memory: of two zeros each is itself."""
    return {name: getattr(gas._rows, name).tobytes() for name in gas._rows.__struct_fields__}


class Two:
    """The rows of three instruments twice: one takes everything, the other what it can as calm."""

    def __init__(self, profile: str) -> None:
        limits = tables.limits(profile)
        self.plain, self.quick = GasRows(limits, 60.0), GasRows(limits, 60.0)
        self.rows = [self.plain.bind(units) for units in ORDERS]
        assert self.rows == [self.quick.bind(units) for units in ORDERS]
        self.calm = self.loud = 0

    def take(self, frames: list[Read], at: float) -> None:
        """One frame of each instrument; a frame is calm as a whole or not at all."""
        index = np.array([row for rows in self.rows for row in rows.values()])
        read = [frame[gas] for frame, rows in zip(frames, self.rows, strict=True) for gas in rows]
        values = np.array([np.nan if isinstance(v, Status) else v for v in read])
        status = np.array([CODES[v] if isinstance(v, Status) else 0 for v in read], np.int8)
        times = np.full(len(index), at)
        before = bits(self.quick)
        calm = self.quick.would_stay_calm(index, values, at) & (status == 0)
        assert bits(self.quick) == before, "asking changes nothing"
        ends = np.cumsum([len(rows) for rows in self.rows])
        whole = [part.all() for part in np.split(calm, ends[:-1])]
        chosen = np.repeat(whole, [len(rows) for rows in self.rows])
        other, loud = self.plain.take(index, values, status, times)
        assert not other[chosen].any()
        assert not loud[chosen].any()
        self.quick.note(index[chosen], values[chosen], at)
        rest = ~chosen
        told = self.quick.take(index[rest], values[rest], status[rest], times[rest])
        assert np.array_equal(told, (other[rest], loud[rest]))
        assert bits(self.quick) == bits(self.plain)
        self.calm += int(chosen.sum())
        self.loud += int(rest.sum())


@pytest.mark.parametrize("profile", ["CN", "US_CONSTRUCTION"])
@given(
    seconds=st.lists(
        st.tuples(
            st.integers(1, 14),
            st.lists(
                st.fixed_dictionaries(dict.fromkeys(UNITS, st.one_of(NEAR, NEAR, NEAR, READINGS))), min_size=3, max_size=3
            ),
        ),
        max_size=8,
    ),
    steps=st.lists(STEPS, min_size=1, max_size=9),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_rows_that_are_asked_first_end_as_rows_that_take(
    profile: str, seconds: list[tuple[int, list[Read]]], steps: list[float]
) -> None:
    two, at, count = Two(profile), 1_800_000_000.0, 0
    for often, drawn in seconds:
        frames = [{gas: AIR[gas] + v if isinstance(v, float) and abs(v) <= 1 else v for gas, v in f.items()} for f in drawn]
        for _ in range(often):
            at += steps[count % len(steps)]
            count += 1
            two.take(frames, at)


def test_an_hour_of_air_is_mostly_calm_and_ends_the_same_either_way() -> None:
    chance, two = np.random.default_rng(3), Two("CN")
    odd: list[float | Status] = [Status.FAULT, Status.OVER, float("nan"), 9.0, 30.0, 4.0, -0.0]
    for second in range(3_600):
        frames: list[Read] = [{gas: value + float(chance.normal(0, 0.02)) for gas, value in AIR.items()} for _ in ORDERS]
        if second % 40 < 3:
            frames[second // 240 % 3][[*UNITS][int(chance.integers(4))]] = odd[second // 40 % len(odd)]
        two.take(frames, 1_800_000_000.0 + second * 0.7)
        if second % 90 == 89:
            for gas in (two.plain, two.quick):
                gas.restart([row for rows in two.rows for row in rows.values()])
    assert two.calm > 10_000
    assert two.loud > 1_000


# -- two sites, one table ---------------------------------------------------------------------------------------------

SITES = ("yard", "mill")
CHANNELS: Mapping[str, dict[str, str]] = {
    "yard-1": UNITS,
    "yard-2": dict(reversed(UNITS.items())),
    "mill-1": {"H2S": "mg/m3", "LEL": "% LEL"},
    "mill-2": {"O2": "% vol", "H2S": "ppm", "LEL": "% LEL"},
}


def plan_of(site: str, version: int, places: Mapping[str, str]) -> PlanReceived:
    """A plan of two wells; `places` says which instruments it has, and where."""
    instruments = [an_instrument(device, space=place, channels=dict(CHANNELS[device])) for device, place in places.items()]
    spaces = [a_space(), a_space("n02", lock="lock-2")]
    return PlanReceived(msgspec.structs.replace(a_plan(version, spaces=spaces, instruments=instruments), site=site))


def plain_numbers(engine: Engine, frame: Frame) -> bool:
    """Say whether a frame is the next one of its instrument and all numbers."""
    watch = engine.site.instruments.get(frame.device)
    if watch is None or (frame.boot, frame.seq) != (watch.ledger.boot, watch.ledger.highest + 1):
        return False
    good = all(reading.status is Status.OK for reading in frame.readings.values())
    return good and watch.rows.keys() <= frame.readings.keys()


class World:
    """Both sites told everything the ordinary way, with rows of their own, and beside it the quick way, in shared rows.

    `wide`: not only plain frames go the quick way, but all that are numbers, and the engines hear of those that mean more.
    """

    def __init__(self, seed: int, *, wide: bool) -> None:
        self.wide = wide
        self.random = random.Random(seed)  # noqa: S311  a seed, to repeat a run
        self.gas = GasRows(LIMITS, TIMINGS.rising_s)
        self.plain = {site: Engine(site, LIMITS, TIMINGS) for site in SITES}
        self.quick = {site: Engine(site, LIMITS, TIMINGS, self.gas) for site in SITES}
        self.now, self.version, self.quickly, self.said = EPOCH, 0, 0, 0
        self.desks = {site: Desk() for site in SITES}
        self.count: dict[str, tuple[int, int]] = dict.fromkeys(CHANNELS, (7, 0))
        self.asked: dict[str, tuple[Engine, int, bool]] = {}
        for site in SITES:
            self.told(site, [], [plan_of(site, 1, {f"{site}-1": "n01", f"{site}-2": "n02"})], [])

    def step(self) -> None:
        """Let some time pass, and take what both sites say then: the plain frames of both at once, then the rest by site."""
        self.now += self.random.choice([0.0, 0.3, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 7.0, 70.0])
        heard = {site: [frame for n in (1, 2) for frame in self.frames(f"{site}-{n}")] for site in SITES}
        events = {site: self.quick[site].advance(self.now) for site in SITES}
        quick = self.taken([(self.quick[site], frame) for site in SITES for frame in heard[site]], events)
        for site in SITES:
            mine = [frame for frame in heard[site] if any(frame is x for x in quick)]
            rest: list[AnyInput] = [FrameReceived(frame) for frame in heard[site] if all(frame is not x for x in mine)]
            rest += self.odd(site)
            self.told(site, [FrameReceived(frame) for frame in mine], rest, events[site])

    def told(self, site: str, calm: list[AnyInput], rest: list[AnyInput], before: list[Event]) -> None:
        """Tell the plain engine all of it, the quick one the rest, and hold what they say against each other."""
        plain, quick = self.plain[site], self.quick[site]
        said = plain.receive(calm, self.now) if calm else plain.advance(self.now)
        said += plain.receive(rest, self.now) if rest else []
        assert before + (quick.receive(rest, self.now) if rest else []) == said
        self.said += len(said)

    def taken(self, heard: list[tuple[Engine, Frame]], events: dict[str, list[Event]]) -> list[Frame]:
        """Take what may go the quick way (one frame an instrument at most) as columns; return it, and add what follows."""
        some, seen = list[tuple[Engine, Frame]](), set[str]()
        for engine, frame in heard:
            if frame.device not in seen and plain_numbers(engine, frame) and (self.wide or self.is_quiet(engine, frame)):
                some.append((engine, frame))
            seen.add(frame.device)
        if some and not self.wide:
            calm = self.calm([(engine.site.instruments[frame.device], frame) for engine, frame in some])
            some = [one for one, good in zip(some, calm, strict=True) if good]
        if not some:
            return []
        self.columns(some, events)
        self.quickly += len(some)
        return [frame for _, frame in some]

    def columns(self, some: list[tuple[Engine, Frame]], events: dict[str, list[Event]]) -> None:
        """Take frames as columns, and have the engines hear of those that may mean more than their numbers."""
        pairs = [(engine.site.instruments[frame.device], frame) for engine, frame in some]
        loud = [not self.is_quiet(*one) or not good for one, good in zip(some, self.calm(pairs), strict=True)]
        rows, numbers = self.rows_of(pairs)
        calm = self.gas.would_stay_calm(rows, numbers, self.now)
        for watch, frame in pairs:
            quickly(watch, frame, at=self.now)
        self.gas.note(rows[calm], numbers[calm], self.now)
        other, noticed = set[int](), set[int]()
        if not calm.all():
            flags = self.gas.judge(rows[~calm], numbers[~calm], self.now)
            other, noticed = ({*rows[~calm][flag].tolist()} for flag in flags)
        for site in dict.fromkeys(engine.site.id for engine, _ in some):
            self.quick[site].tick(self.now)
            watches = [
                watch for (engine, _), (watch, _), x in zip(some, pairs, loud, strict=True) if x and engine.site.id == site
            ]
            events[site] += self.quick[site].hear(watches, other, noticed)

    def calm(self, pairs: list[tuple[InstrumentWatch, Frame]]) -> list[bool]:
        """Say which frames are calm in all their gases."""
        rows, numbers = self.rows_of(pairs)
        calm = {*rows[self.gas.would_stay_calm(rows, numbers, self.now)].tolist()}
        return [calm.issuperset(watch.rows.values()) for watch, _ in pairs]

    def rows_of(self, pairs: list[tuple[InstrumentWatch, Frame]]) -> tuple[Indices, Floats]:
        """Return the rows of frames' gases with their numbers."""
        read = [(watch.rows[x], reading.value) for watch, f in pairs for x, reading in f.readings.items() if x in watch.rows]
        return np.array([row for row, _ in read], np.intp), np.array([value for _, value in read], np.float64)

    def is_quiet(self, engine: Engine, frame: Frame) -> bool:
        """Say whether calm numbers would be all of a frame; where nobody hears of frames beside it, asked once a version."""
        if not air.BESIDE.isdisjoint(frame.readings):
            return False
        asked = self.asked.get(frame.device)
        if self.wide or asked is None or asked[:2] != (engine, engine.version):
            found = air.quiet(engine.site, engine.site.instruments[frame.device])
            self.asked[frame.device] = asked = engine, engine.version, found
        return asked[2]

    def frames(self, device: str) -> list[Frame]:
        """What an instrument sends in this step: mostly one frame of clean air, now and then anything else."""
        boot, seq = self.count[device]
        dice, beside, statuses = self.random.random(), dict[str, float](), dict[str, Status]()
        values = {
            name: AIR[gas] + self.random.gauss(0, 0.02)
            for name, gas in zip(("o2", "lel", "h2s_ppm", "co_ppm"), AIR, strict=True)
        }
        seq += 1
        if dice < 0.01:
            boot, seq = boot + 1, 1
        elif dice < 0.02:
            seq += 2  # a gap
        elif dice < 0.03:
            seq -= 2  # an old one, or the one that was missing
        elif dice < 0.04:
            statuses["H2S"] = self.random.choice([Status.FAULT, Status.WARMUP, Status.OVER])
        elif dice < 0.06:
            values[self.random.choice([*values])] = self.random.choice([8.0, 15.0, 60.0])
        elif dice < 0.07:
            beside["wearer_state"] = self.random.choice([0.0, 1.0, 2.0])
        elif dice < 0.08:
            beside["fan_a"] = self.random.choice([0.0, 2.0])
        elif dice < 0.3:
            beside["battery_percent"] = 40.0
        elif dice < 0.35:
            return []
        self.count[device] = boot, max(seq, self.count[device][1] if self.count[device][0] == boot else 0)
        without = [gas for gas in UNITS if gas not in CHANNELS[device]]
        said = {"device": device, "boot": boot, "statuses": statuses, "without": without, **values, **beside}
        one = a_frame(seq, at=self.now, **said)  # type: ignore[arg-type]
        return [one] if dice < 0.98 else [one, msgspec.structs.replace(one)]  # a broker repeats

    def odd(self, site: str) -> list[AnyInput]:
        """What else happens: people go in and out, plans move instruments or take them away, alarms are acknowledged."""
        dice, desk = self.random.random(), self.desks[site]
        if dice < 0.02:
            self.version += 1
            places = {f"{site}-{n}": self.random.choice(["n01", "n02"]) for n in (1, 2) if self.random.random() < 0.8}
            return [plan_of(site, self.version + 1, places)]
        if dice < 0.03:
            return [desk.enter("ann", self.now)]
        if dice < 0.06:
            return [desk.recount(at=self.now)]
        if dice < 0.12:
            alarms = [alarm.id for alarm in self.plain[site].site.alarms.values() if alarm.open]
            hand = self.random.choice([desk.acknowledge, desk.reset])
            return [hand(alarm, self.now) for alarm in alarms]
        return []


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_two_sites_in_one_table_and_the_quick_way_end_as_each_alone_the_ordinary_way(seed: int, *, wide: bool) -> None:
    """Same events, same bytes; also through restarts, of which a site taken up into the rows that others use is one."""
    world = World(seed, wide=wide)
    for count in range(400):
        world.step()
        if count % 20 == 0:
            for site in SITES:
                kept = world.quick[site].snapshot()
                assert kept == world.plain[site].snapshot()
                if world.random.random() < 0.3:
                    world.quick[site] = Engine.restored(kept, site, LIMITS, TIMINGS, world.gas)
                    assert world.quick[site].snapshot() == kept
    assert world.quickly > (500 if wide else 100)
    assert world.said > 100
