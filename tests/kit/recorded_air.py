"""Recorded days for back-tests, honest and awkward ones by a seed, and the slow way to judge them: every frame, one engine."""

from collections.abc import Iterable
from itertools import groupby

import msgspec
import numpy as np
import numpy.typing as npt

from manway.backtest import Outbreak, Person, Rules, plan_of
from manway.engine import Engine
from manway.entities import Frame, Instrument, Reading
from manway.gas_columns import CODES
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived, PlanReceived
from manway.recording import Column, Recording
from tests.kit.builders import UNITS
from tests.kit.clock import EPOCH

FAULTS = [status for status in Status if status is not Status.OK]
# What a channel rests at: clean air, a number between the bounds of a level, and air in which every rule has its say.
RESTS = {
    "O2": [20.9, 20.1, 19.6, 9.5, 23.4],
    "LEL": [0.0, 4.7, 9.7, 30.0, 101.0],
    "H2S": [0.0, 3.4, 7.0, 12.0],
    "CO": [0.0, 12.5, 26.0, 40.0],
}
NOISE = {"O2": 0.05, "LEL": 0.15, "H2S": 0.15, "CO": 0.4}
Floats = npt.NDArray[np.float64]


def awkward_day(seed: int, *, frames: int = 500, devices: int = 2) -> list[tuple[Frame, str]]:
    """Frames of some devices: plateaus, ramps, noise at limits, faults, silences, restarts, moves, repeats, old numbers."""
    random = np.random.default_rng(seed)
    return [row for number in range(devices) for row in _awkward(random, f"gas-{number}", frames)]


def _awkward(random: np.random.Generator, device: str, n: int) -> list[tuple[Frame, str]]:
    rate = float(random.choice([0.4, 1.0, 1.0, 1.0, 2.0, 30.0]))
    steps = np.full(n, rate) + (random.normal(0, 0.05, n) if random.random() < 0.5 else 0.0)
    steps[random.random(n) < 0.01] += random.choice([3.0, 7.0, 20.0, 200.0])
    ts = np.maximum.accumulate((1000 * (EPOCH + random.uniform(0, 100) + np.cumsum(np.maximum(steps, 0.01)))).astype(np.int64))
    air = {gas: _channel(random, gas, n) for gas in UNITS}
    boot, seq, space, rows = 7, 0, "n01", []
    for i in range(n):
        seq += 1 if random.random() > 0.01 else int(random.integers(2, 6))
        if random.random() < 0.004:
            boot, seq = boot + 1, 1
        if random.random() < 0.004:
            space = str(random.choice(["n01", "n02"]))
        readings = {gas: reading for gas, channel in air.items() if (reading := channel[i]) is not None}
        awkward = random.random()
        said = (7, seq) if awkward < 0.003 else (boot, max(1, seq - 3)) if awkward < 0.006 else (boot, seq)
        rows.append((Frame(device, *said, int(ts[i]), float(ts[i]) / 1000, readings), space))
    return rows


def _channel(random: np.random.Generator, gas: str, n: int) -> list[Reading | None]:
    """One channel piece by piece: at rest, on its way, or faulty; None = the frame does not name it."""
    value, out = RESTS[gas][0], list[Reading | None]()
    while len(out) < n:
        length, kind = int(random.integers(3, 90)), random.random()
        to = float(random.choice(RESTS[gas], p=_weights(len(RESTS[gas]))))
        if kind < 0.06:
            out += [Reading(FAULTS[random.integers(len(FAULTS))])] * min(length, 8)
        elif kind < 0.08:
            out += [None] * min(length, 8)
        else:
            path = np.linspace(value, to, length) if kind < 0.5 else np.full(length, to)
            noise = random.normal(0, NOISE[gas], length) if random.random() < 0.6 else 0.0
            out += [Reading(Status.OK, float(v)) for v in np.round(path + noise, 2)]
            value = to
    return out[:n]


def _weights(n: int) -> Floats:
    weights: Floats = np.array([n, *[1.0] * (n - 1)]) / (2 * n - 1)
    return weights


def judged_one_by_one(recordings: Iterable[Recording], rules: Rules, end: float, *, occupied: bool) -> list[Outbreak]:
    """Every frame of the site through `Engine.receive`, in the order of time, all devices of one instant together."""
    engine = Engine("slow", rules.limits, rules.timings)
    person, known, version = Person(engine), dict[str, Instrument](), 0
    rows = [(float(at), one.device, one, i) for one in recordings for i, at in enumerate(one.at)]
    for at, group in groupby(sorted(rows, key=lambda row: row[:2]), key=lambda row: row[0]):
        frames = list[AnyInput]()
        moved = False
        for _, device, one, i in group:
            space = one.spaces[one.place[i]]
            if device not in known or known[device].space != space:
                known[device], moved = Instrument(device, "", space, UNITS, bump_due=1e12, calibration_due=1e12), True
            frames.append(FrameReceived(one.frame(i)))
        if moved:
            version += 1
            plan = plan_of(version, at, rules, ["n01", "n02"] if occupied else [], list(known.values()))
            person.give([PlanReceived(msgspec.structs.replace(plan, site="slow"))], at)
            for watch in engine.site.spaces.values():
                watch.occupancy.doubt()
        person.give(frames, at)
    person.wait(end)
    return sorted(person.told(), key=lambda outbreak: (outbreak.began, outbreak.key))


def working_day(number: int, seconds: int) -> Recording:
    """One four-gas instrument at 1 Hz: clean air with a sensor's noise, two rises of every gas a day, now and then a fault."""
    random = np.random.default_rng(number)
    channels = {}
    for gas, (rest, noise, step, most) in _WORKING.items():
        value = rest + random.normal(0, noise, seconds)
        status = np.zeros(seconds, np.int8)
        for _ in range(2):
            length = int(random.integers(300, 3600) * seconds / 86_400) + 1
            start = int(random.integers(0, seconds - length))
            value[start : start + length] += random.random() * most * np.sin(np.linspace(0, np.pi, length))
        value = np.round(np.round(value / step) * step, 2)
        if random.random() < 0.2:
            start = int(random.integers(0, seconds - 60))
            status[start : start + 60], value[start : start + 60] = CODES[Status.FAULT], np.nan
        channels[gas] = Column(value, status)
    at = EPOCH + np.arange(seconds, dtype=np.float64)
    ones, seq = np.full(seconds, 7), np.arange(1, seconds + 1)
    return Recording(f"gas-{number}", at, ones, seq, ["n01"], np.zeros(seconds, np.intp), channels)


# rest, noise, resolution, and how far a rise goes; oxygen falls
_WORKING = {
    "O2": (20.9, 0.04, 0.1, -3.0),
    "LEL": (0.0, 0.15, 1.0, 25.0),
    "H2S": (0.0, 0.05, 0.1, 15.0),
    "CO": (0.0, 0.3, 1.0, 60.0),
}
