"""The statutory record: due every 15 minutes while people are inside, made of good fresh readings, naming what is missing."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manway.record import Recorded, Sample, record_due, record_of
from tests.kit.clock import EPOCH

EVERY = 900.0
REQUIRED = ["O2", "LEL", "H2S", "CO"]
UNITS = {"O2": "% vol", "LEL": "% LEL", "H2S": "mg/m3", "CO": "mg/m3"}


def sample(gas: str, value: float | None, *, age: float = 1.0) -> Sample:
    return Sample(gas, value, UNITS[gas], EPOCH - age)


CLEAN = [sample("O2", 20.9), sample("LEL", 0.0), sample("H2S", 0.0), sample("CO", 1.2)]


@pytest.mark.parametrize(
    ("last", "entered", "due"),
    [
        (None, EPOCH - 5, EPOCH - 5),  # the first record is due at the entry
        (None, None, EPOCH),  # who knows since when: now
        (math.nan, EPOCH - 5, EPOCH - 5),
        (EPOCH - 600, EPOCH - 1200, EPOCH + 300),  # every 15 minutes after the last (GB 46768-2025 6.2.3)
        (EPOCH - 900, EPOCH - 1200, EPOCH),
        (EPOCH - 600, EPOCH - 600, EPOCH + 300),  # recorded at the entry itself
        (EPOCH - 600, EPOCH - 60, EPOCH - 60),  # that record was of others, who have left
        (EPOCH - 600, None, EPOCH + 300),
        (EPOCH + 5000, EPOCH - 60, EPOCH + 900),  # the clock was put back: a record from the future buys no time
    ],
)
def test_when_the_next_record_is_due(last: float | None, entered: float | None, due: float) -> None:
    assert record_due(last, EPOCH, EVERY, entered) == due


times = st.one_of(st.none(), st.floats(EPOCH - 1e5, EPOCH + 1e5), st.sampled_from([math.nan, math.inf, -math.inf]))


@settings(max_examples=300, derandomize=True)
@given(last=times, entered=st.one_of(st.none(), st.floats(EPOCH - 1e5, EPOCH)))
def test_no_more_than_fifteen_minutes_are_ever_left(last: float | None, entered: float | None) -> None:
    assert record_due(last, EPOCH, EVERY, entered) <= EPOCH + EVERY


def test_a_record_holds_every_gas_with_its_unit() -> None:
    made = record_of(CLEAN, REQUIRED, EPOCH, 10.0)
    assert made == Recorded({"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 1.2}, UNITS, [])
    assert made.complete


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_missing(value: float | None) -> None:
    made = record_of([*CLEAN[:2], sample("H2S", value), CLEAN[3]], REQUIRED, EPOCH, 10.0)
    assert made.missing == ["H2S"]
    assert "H2S" not in made.values | made.units
    assert not made.complete


@pytest.mark.parametrize(("age", "taken"), [(0.0, True), (10.0, True), (10.01, False), (-0.01, False), (math.nan, False)])
def test_only_fresh_numbers_are_recorded(age: float, *, taken: bool) -> None:
    made = record_of([*CLEAN[1:], sample("O2", 20.9, age=age)], REQUIRED, EPOCH, 10.0)
    assert made.missing == ([] if taken else ["O2"])


def test_nothing_read_is_everything_missing_in_the_order_asked_for() -> None:
    assert record_of([], [*REQUIRED, "O2"], EPOCH, 10.0) == Recorded({}, {}, REQUIRED)


def test_gases_nobody_asked_for_are_recorded_too() -> None:
    assert record_of(CLEAN, ["O2"], EPOCH, 10.0).values.keys() == UNITS.keys()


def test_of_two_instruments_the_worse_air_is_recorded() -> None:
    for first, second in ((19.4, 20.9), (20.9, 19.4)):
        assert record_of([sample("O2", first), sample("O2", second)], [], EPOCH, 10.0).values == {"O2": 19.4}
    assert record_of([sample("O2", 20.5), sample("O2", 23.6)], [], EPOCH, 10.0).values == {"O2": 23.6}
    for first, second in ((3.0, 9.9), (9.9, 3.0)):
        assert record_of([sample("H2S", first), sample("H2S", second)], [], EPOCH, 10.0).values == {"H2S": 9.9}


def test_a_faulty_second_instrument_takes_nothing_away() -> None:
    assert record_of([sample("CO", 3.0), sample("CO", None)], ["CO"], EPOCH, 10.0).missing == []
