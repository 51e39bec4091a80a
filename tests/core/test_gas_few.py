"""Readings of a few rows are judged one after the other, those of many as arrays: the rows end the same, to the last bit."""

import numpy as np

from manway.gas import GasRows
from manway.gas_few import FEW
from manway.runtime import settings as tables

UNITS = {"LEL": "% LEL", "O2": "% vol", "H2S": "mg/m3", "CO": "ppm"}
AIR = np.array([0.0, 20.9, 0.0, 0.0])
INSTRUMENTS, SECONDS = 12, 1_500
ODD = (np.nan, np.inf, -np.inf, -0.0, 0.0, -40.0, 4.0, 8.0, 19.0, 23.0, 60.0, 101.0, 500.0)


def bits(gas: GasRows) -> dict[str, bytes]:
    return {name: getattr(gas._rows, name).tobytes() for name in gas._rows.__struct_fields__}


def take(gas: GasRows, rows: np.ndarray, values: np.ndarray, at: float) -> tuple[np.ndarray, ...]:
    """Take readings as the lane does; return which are calm, of the others which have another status, and which are loud."""
    calm = gas.would_stay_calm(rows, values, at)
    gas.note(rows[calm], values[calm], at)
    other, loud = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
    other[~calm], loud[~calm] = gas.judge(rows[~calm], values[~calm], at)
    return calm, other, loud


def test_many_at_once_end_as_a_few_at_a_time() -> None:
    limits, random = tables.limits("CN"), np.random.default_rng(17)
    many, few = GasRows(limits, 60.0), GasRows(limits, 60.0)
    rows = np.array([[*many.bind(UNITS).values()] for _ in range(INSTRUMENTS)])
    assert rows.tolist() == [[*few.bind(UNITS).values()] for _ in range(INSTRUMENTS)]
    assert rows.shape[1] <= FEW < rows.size
    at, seen = 1_800_000_000.0, np.zeros(3, int)
    rising = np.zeros(rows.shape)
    for second in range(SECONDS):
        at += (1.0, 1.0, 1.0, 0.3, 2.0, -1.0, 11.0)[second % 7 if second % 100 > 90 else 0]
        if second % 50 == 0:
            rising = random.choice([0.0, 0.0, 0.0, 0.05, -0.2, 1.0], rows.shape)
        values = AIR + random.normal(0, 0.02, rows.shape) + rising * (second % 50)
        wild = random.random(rows.shape) < (0.02 if second % 60 < 5 else 0.2 if second % 300 == 0 else 0.0)
        values[wild] = random.choice(ODD, int(wild.sum()))
        if second % 200 == 199:
            for gas in (many, few):
                gas.restart(rows.ravel().tolist())
        at_once = take(many, rows.ravel(), values.ravel(), at)
        by_turns = [take(few, own, numbers, at) for own, numbers in zip(rows, values, strict=True)]
        for flags, parts in zip(at_once, zip(*by_turns, strict=True), strict=True):
            assert flags.tolist() == np.concatenate(parts).tolist()
        assert bits(many) == bits(few), second
        seen += [int(flags.sum()) for flags in at_once]
    assert (seen > 300).all(), "calm ones, others and loud ones were all among them"
