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
from manway.runtime.telemetry import StoredFrame
from manway.runtime.telemetry_chunks import ENC_FRAMES, ENC_POINTS, FRAME, MINUTE_MS, POINT, packed, summary
from manway.runtime.telemetry_embedded import FRAME_KIND, EmbeddedStore
from tests.bench.stopwatch import met, say
from tests.kit.builders import LIMITS, TIMINGS, UNITS, a_frame
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
    """Write the day as the store would have, minute by minute, but without a commit for each second of it."""
    store = EmbeddedStore(folder, writer=True)
    store.write([StoredFrame(a_frame(at=EPOCH, device=day.device), "n01") for day in days])
    writer = store._writer
    assert writer is not None
    for day in days:
        times = np.round(day.at * 1000).astype(np.int64)
        for minute in np.unique(times // MINUTE_MS).tolist():
            own = times // MINUTE_MS == minute
            at = times[own] - minute * MINUTE_MS
            kinds = {FRAME_KIND: (FRAME, ENC_FRAMES), **dict.fromkeys(day.channels, (POINT, ENC_POINTS))}
            for kind, (dtype, enc) in kinds.items():
                rows = np.zeros(len(at), dtype)
                rows["at"] = at
                if kind == FRAME_KIND:
                    rows["seq"], rows["boot"] = day.seq[own], day.boot[own]
                else:
                    rows["value"], rows["status"] = day.channels[kind].value[own], day.channels[kind].status[own]
                row = (minute, writer._numbers[day.device, kind, "n01"], *summary(rows), enc, packed(rows))
                db = writer._day(minute // 1440)
                if not db.in_transaction:
                    db.execute("BEGIN")
                db.execute("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    for db in writer._days.values():
        db.commit()
    store.close()
