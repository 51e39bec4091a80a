"""The rules: nanoseconds a sample through the rows of `manway.gas` beside the plain-Python reference, then the whole engine.

The goal (`pipeline.md` §7): at 100,000 channels and batches of 5,000 at least eight times the reference, and at most 500 bytes
a channel.
"""

import time
from collections.abc import Callable

import numpy as np

from manway.engine import Engine
from manway.gas import GasRows
from manway.gas_columns import ROW_BYTES
from manway.ids import Status
from manway.inputs import FrameReceived, PlanReceived
from manway.runtime import settings
from tests.bench.stopwatch import RUNS, met, say, timed
from tests.kit.builders import LIMITS, UNITS, a_frame, a_plan, a_space, an_instrument
from tests.kit.clock import EPOCH
from tests.kit.gas_reference import ReferenceChannel

CHANNELS, BATCHES = (1_000, 10_000, 100_000), (50, 500, 5_000)
SAMPLES = 20_000  # of one run: enough for the clock, the same for both
GOAL_RATIO, GOAL_BYTES = 8.0, 500.0
INSTRUMENTS, FRAMES = (12, 120, 1_200), (1, 25, 500)
ENGINE_FRAMES = 1_200  # of one run
_AIR = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}


def _values(n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Air with a little noise, a hundredth of it beyond some limit, for `n` channels in the order O2, LEL, H2S, CO."""
    random = np.random.default_rng(7)
    values = np.resize(list(_AIR.values()), n) + random.normal(0, 0.02, n)
    values[random.random(n) < 0.01] += 15.0
    return values


def _rows(channels: int) -> Callable[[int], float]:
    """Bind that many channels; return what one sample takes of them in ns, for a size of batch.

    A batch larger than the channels is taken in rounds, as the engine does: a row is named once.
    """
    gas = GasRows(LIMITS)
    for _ in range(channels // len(UNITS)):
        gas.bind(UNITS)
    at = [EPOCH]

    def measure(batch: int) -> float:
        size = min(batch, channels)
        values, status = _values(channels), np.zeros(channels, np.int8)
        firsts = [first for first in range(0, channels, size) if first + size <= channels]
        rounds = max(1, SAMPLES // (size * len(firsts)))
        parts = [(np.arange(first, first + size), values[first : first + size], status[:size]) for first in firsts]
        parts = parts[: max(1, SAMPLES // size)]

        def run() -> None:
            for _ in range(rounds):
                at[0] += 1.0
                times = np.full(size, at[0])
                for rows, value, code in parts:
                    gas.take(rows, value, code, times)

        run()
        return timed(run, time.process_time) / (rounds * len(parts) * size) * 1e9

    return measure


def _reference(channels: int) -> float:
    """Nanoseconds a sample takes through the reference, one channel after the other."""
    found: list[ReferenceChannel] = []
    rules = [(gas, rule) for gas in UNITS if (rule := LIMITS.of(gas)) is not None]
    for _ in range(min(channels, SAMPLES) // len(UNITS)):
        beside: dict[str, ReferenceChannel] = {}
        for gas, rule in rules:
            beside[gas] = ReferenceChannel(rule, rule.factor(UNITS[gas], LIMITS.temperature_c), beside.get("O2"))
        found += beside.values()
    samples = list(zip(found, _values(len(found)).tolist(), strict=True))
    rounds, at = max(1, SAMPLES // len(found)), [EPOCH]

    def run() -> None:
        for _ in range(rounds):
            at[0] += 1.0
            for channel, value in samples:
                channel.take(Status.OK, value, at[0])

    run()
    return timed(run, time.process_time) / (rounds * len(found)) * 1e9


def _bytes_a_channel(channels: int) -> float:
    """Return what the rows of that many channels take, the rest of the process aside, spare rows included."""
    gas = GasRows(LIMITS)
    rows = [row for _ in range(channels // len(UNITS)) for row in gas.bind(UNITS).values()]
    return len(gas.saved(rows)) / channels


def engine(instruments: int, batch: int, *, alarmed: bool) -> float:
    """Microseconds a frame of four gases takes through all rules, so many frames a batch, in clean air or beyond a limit."""
    spaces = [a_space(f"n{i:04d}") for i in range(instruments)]
    devices = [an_instrument(f"gas-{i}", space=f"n{i:04d}") for i in range(instruments)]
    held = Engine("yard", settings.limits("CN"), settings.timings(yard=False))
    held.receive([PlanReceived(a_plan(spaces=spaces, instruments=devices, permits=[], locks=[]))], EPOCH)
    seconds = max(1, ENGINE_FRAMES // instruments)
    h2s, second = (12.0 if alarmed else 0.0), [0]

    def give(frames: list[FrameReceived]) -> None:
        for first in range(0, len(frames), batch):
            some = frames[first : first + batch]
            held.receive(some, some[-1].frame.received_at)

    def made() -> list[FrameReceived]:
        frames = []
        for _ in range(seconds):
            second[0] += 1
            at = EPOCH + second[0]
            frames += [FrameReceived(a_frame(second[0], at=at, device=d.device, h2s_ppm=h2s)) for d in devices]
        return frames

    give(made())
    runs = iter([made() for _ in range(RUNS)])  # made outside the watch
    return timed(lambda: give(next(runs)), time.process_time) / (seconds * instruments) * 1e6


def run() -> None:
    """Print the table."""
    for channels in CHANNELS:
        measure, reference = _rows(channels), _reference(channels)
        size = _bytes_a_channel(channels)
        for batch in BATCHES:
            ns = measure(batch)
            figures: dict[str, float | str] = {"ns_a_sample": ns, "reference_ns": reference, "ratio": reference / ns}
            if (channels, batch) == (CHANNELS[-1], BATCHES[-1]):
                figures |= {"goal": f">= {GOAL_RATIO:g}x, <= {GOAL_BYTES:g} bytes"}
                figures |= {"result": met(reference / ns >= GOAL_RATIO, size <= GOAL_BYTES)}
            say("rules", channels=channels, batch=batch, **figures, bytes_a_channel=size, bytes_a_row=ROW_BYTES)
    for instruments in INSTRUMENTS:
        for batch in FRAMES:
            quiet, alarmed = (engine(instruments, batch, alarmed=loud) for loud in (False, True))
            said = {"us_a_frame_quiet": quiet, "us_a_frame_alarmed": alarmed, "ratio": alarmed / quiet}
            say("engine", instruments=instruments, frames_a_batch=batch, **said)
