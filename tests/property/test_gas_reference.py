"""The arrays, one row after the other, and the plain-Python reference agree on every sample of random streams."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manway.gas import GasRows
from manway.gas_columns import CODES
from manway.ids import Status
from manway.runtime import settings as tables
from tests.kit.gas_reference import ReferenceChannel

PROFILES = ("CN", "CN_CHEM", "US_GENERAL", "US_CONSTRUCTION")
UNITS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm"}
_HARD = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, -5.0, -50.0, 100.0, 100.1, 1e308, -1e308]
NUMBERS = st.one_of(
    st.floats(-2, 30, width=32),
    st.sampled_from([19.4, 19.5, 19.7, 20.0, 22.5, 23.3, 23.5, 9.9, 10.0, 10.5, 7.05, 7.06, 25.7, 25.8, 35.0]),
    st.sampled_from(_HARD),
    st.floats(0, 150),
)
READINGS = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.sampled_from([s for s in Status if s is not Status.OK]))
STEPS = st.sampled_from([0.0, 0.3, 1.0, 1.0, 1.0, 1.0, 2.0, 11.0, 60.0, -1.0])
Drawn = list[tuple[float, dict[str, float | Status]]]
FRAMES = st.lists(st.tuples(STEPS, st.fixed_dictionaries(dict.fromkeys(UNITS, READINGS))), max_size=60)


def _agree(profile: str, frames: Drawn) -> int:
    limits = tables.limits(profile)
    gas = GasRows(limits)
    rows = gas.bind(UNITS)
    references: dict[str, ReferenceChannel] = {}
    for name, unit in UNITS.items():
        rule = limits.of(name)
        assert rule is not None
        factor = rule.factor(unit, limits.temperature_c)
        references[name] = ReferenceChannel(rule, factor, references.get("O2"))
    at, samples = 1_800_000_000.0, 0
    for step, drawn in frames:
        at += step
        frame = {name: drawn[name] for name in UNITS}  # a frame's oxygen before its combustible gas
        numbers = [math.nan if isinstance(v, Status) else v for v in frame.values()]
        status = [CODES[v] if isinstance(v, Status) else 0 for v in frame.values()]
        gas.take(np.array(list(rows.values())), np.array(numbers), np.array(status, np.int8), np.full(len(rows), at))
        for name, value in frame.items():
            reference, channel = references[name], gas.at(rows[name])
            bad = isinstance(value, Status)
            reference.take(value if isinstance(value, Status) else Status.OK, None if bad else float(value), at)  # type: ignore[arg-type]
            seen = (channel.status, channel.level, channel.over_range, channel.value)
            assert seen == (reference.status, reference.level, reference.over, reference.value), (name, value)
            assert channel.low_in_s == (None if reference.low_in_s is None else pytest.approx(reference.low_in_s, rel=1e-6))
            samples += 1
    return samples


@pytest.mark.parametrize("profile", PROFILES)
@given(frames=FRAMES)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_arrays_and_reference_agree_on_every_sample(profile: str, frames: Drawn) -> None:
    _agree(profile, frames)


ORDERS = (UNITS, dict(reversed(UNITS.items())), {"H2S": "mg/m3", "LEL": "% LEL"})  # a frame's order is the instrument's own
Faulty = dict[str, float | Status]
ODD: list[float | Status] = [Status.FAULT, Status.OVER, math.nan, 9.0, 30.0, 4.0]
STEADY = st.lists(
    st.tuples(st.integers(1, 14), st.lists(st.fixed_dictionaries(dict.fromkeys(UNITS, READINGS)), min_size=3, max_size=3)),
    max_size=8,
)


class Twin:
    """The rows of three instruments, judged twice: all frames of a second in one batch, and every frame by itself."""

    def __init__(self, profile: str) -> None:
        limits = tables.limits(profile)
        self.batch, self.single = GasRows(limits, 60.0), GasRows(limits, 60.0)
        self.rows = [self.batch.bind(units) for units in ORDERS]
        assert self.rows == [self.single.bind(units) for units in ORDERS]
        self.calm = 0

    def take(self, frames: list[Faulty], at: float) -> None:
        rows = [row for rows in self.rows for row in rows.values()]
        read = [frame[gas] for frame, rows in zip(frames, self.rows, strict=True) for gas in rows]
        values = [None if isinstance(v, Status) else v for v in read]
        codes = [CODES[v] if isinstance(v, Status) else 0 for v in read]
        numbers, times = np.array(values, np.float64), np.full(len(rows), at)
        flags = self.batch.take(np.array(rows), numbers, np.array(codes, np.int8), times)
        told: tuple[list[int], list[int]] = ([], [])
        begin = 0
        for own in self.rows:
            part = slice(begin, begin + len(own))
            found = self.single.take_few(rows[part], values[part], codes[part], times[part].tolist())
            for all_of, some in zip(told, found, strict=True):
                all_of += [begin + place for place in some]
            begin += len(own)
        assert told == tuple(np.flatnonzero(some).tolist() for some in flags)
        for name in self.batch._rows.__struct_fields__:
            one, other = getattr(self.batch._rows, name), getattr(self.single._rows, name)
            assert np.array_equal(one, other, equal_nan=one.dtype == np.float64), name
        self.calm += sum(self.single.calm(row) for row in rows)


@pytest.mark.parametrize("profile", ["CN", "US_CONSTRUCTION"])
@given(seconds=STEADY, steps=st.lists(STEPS, min_size=1, max_size=9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_row_by_row_is_what_a_batch_is(profile: str, seconds: list[tuple[int, list[Faulty]]], steps: list[float]) -> None:
    twin, at, count = Twin(profile), 1_800_000_000.0, 0
    for often, frames in seconds:
        for _ in range(often):
            at += steps[count % len(steps)]
            count += 1
            twin.take(frames, at)


def test_row_by_row_is_what_a_batch_is_also_in_calm_air() -> None:
    """An hour of clean air with noise, and now and then a gas that comes and goes, thin oxygen, or a fault."""
    random, twin, air = np.random.default_rng(21), Twin("CN"), {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
    gases = [*UNITS]
    for second in range(3_600):
        frames: list[Faulty] = [{gas: value + float(random.normal(0, 0.01)) for gas, value in air.items()} for _ in ORDERS]
        if second % 40 < 3:
            odd = ODD[second // 40 % len(ODD)]
            frames[second // 240 % 3][gases[int(random.integers(4))]] = odd
        if second % 900 == 899:
            for gas in (twin.batch, twin.single):
                gas.restart([row for rows in twin.rows for row in rows.values()])
        twin.take(frames, 1_800_000_000.0 + second * 0.7)
    assert 10_000 < twin.calm < 36_000


@pytest.mark.parametrize("profile", PROFILES)
def test_they_agree_on_a_long_walk(profile: str) -> None:
    """Ten thousand frames of drifting air: noise at every limit, faults now and then."""
    random = np.random.default_rng(20)
    air = np.array([20.9, 0.0, 0.0, 0.0])
    frames: list[tuple[float, dict[str, float | Status]]] = []
    for _ in range(2_500):
        air += random.normal(0, [0.08, 0.6, 0.5, 1.5])
        air = np.clip(air, [0, -6, -4, -10], [26, 110, 120, 400])
        frame: dict[str, float | Status] = {gas: float(round(v, 2)) for gas, v in zip(UNITS, air, strict=True)}
        if random.random() < 0.03:
            frame[str(random.choice(list(UNITS)))] = Status.FAULT
        frames.append((float(random.choice([0.5, 1.0, 1.0, 1.0, 2.0])), frame))
    assert _agree(profile, frames) == 10_000
