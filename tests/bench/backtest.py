"""The back-test: a day of 100 channels at 1 Hz, read from the store's day file and judged under two sets of limits."""

import tempfile
import time
from pathlib import Path

import numpy as np

from manway.backtest import Rules, compare, replay
from manway.cli.recorded import read
from manway.limits import changed
from manway.measurements import TS_END_MS
from manway.recording import Recording
from manway.runtime.telemetry_bodies import FRAME, POINT
from manway.runtime.telemetry_chunks import MINUTE_MS
from manway.runtime.telemetry_days import DAY_MINUTES
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.telemetry_open import FRAME_KIND, Samples
from tests.bench.stopwatch import met, say
from tests.kit.builders import LIMITS, TIMINGS, UNITS
from tests.kit.clock import EPOCH
from tests.kit.recorded_air import judged_one_by_one, working_day

INSTRUMENTS, DAY_S = 25, 86_400
GOAL_S = 10.0
COMPARED_S = 1_800  # of one instrument's day, through the engine frame by frame for comparison


def run() -> None:
    """Print how long a day takes, and how long every frame through the engine would."""
    days = [working_day(number, DAY_S) for number in range(INSTRUMENTS)]
    present, after = Rules(LIMITS, TIMINGS), Rules(changed(LIMITS, {"H2S.low": 8.0}), TIMINGS)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), days)
        began = time.perf_counter()
        recordings = read([Path(folder)], UNITS, 0, TS_END_MS)
        reading_s = time.perf_counter() - began
    end = EPOCH + DAY_S
    began, cpu = time.perf_counter(), time.process_time()
    found = compare(*(replay(recordings, rules, UNITS, end, occupied=False) for rules in (present, after)))
    judging_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    judged_one_by_one([working_day(0, COMPARED_S)], present, EPOCH + COMPARED_S, occupied=False)
    slow_s = (time.perf_counter() - began) * 2 * INSTRUMENTS * DAY_S / COMPARED_S
    alarms: dict[str, float | str] = {"alarms": len(found.present), "alarms_changed": len(found.changed)}
    times = {"reading_s": reading_s, "judging_s": judging_s, "judging_cpu_s": cpu_s, "frame_by_frame_s": slow_s}
    samples = sum(one.samples for one in recordings)
    result = met(reading_s + judging_s < GOAL_S)
    goal = f"< {GOAL_S:g} s, reading and judging both"
    say(
        "backtest",
        instruments=INSTRUMENTS,
        samples=samples,
        **alarms,
        **times,
        ratio=slow_s / judging_s,
        goal=goal,
        result=result,
    )


def _write(folder: Path, days: list[Recording]) -> None:
    """Write the day as the store would have, a chunk a minute, but by columns instead of frame by frame."""
    store = EmbeddedStore(folder, writer=True)
    assert store._writer is not None
    files = store._writer.files
    for day in days:
        times = np.round(day.at * 1000).astype(np.int64)
        frames = np.zeros(len(times), FRAME)
        frames["seq"], frames["boot"] = day.seq, day.boot
        kinds = {FRAME_KIND: frames}
        for gas, column in day.channels.items():
            kinds[gas] = np.zeros(len(times), POINT)
            kinds[gas]["value"], kinds[gas]["status"] = column.value, column.status
        numbers = files.number([(day.device, kind, "n01") for kind in kinds])
        days_of = times // MINUTE_MS // DAY_MINUTES
        for number, cells in zip(numbers, kinds.values(), strict=True):
            samples = Samples(np.full(len(times), number, np.uint32), times, cells)
            for one in np.unique(days_of).tolist():
                files.day(one).put_minutes([], [samples.chosen(days_of == one).in_order()])
    store.close()
