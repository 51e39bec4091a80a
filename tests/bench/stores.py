"""The embedded telemetry store: bytes written and kept per sample, CPU per frame, how fast a day is drawn, and what the sink
takes to bring a frame from the journal, as columns and as objects."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np

from gateway.journal import Entry, Journal, PlainEntry
from gateway.journal_reader import JournalReader
from gateway.sink_store import StoreSink
from manway.entities import Frame, Reading
from manway.ids import Status
from manway.inputs import AnyInput, FrameReceived
from manway.plain import Plain, Source
from manway.runtime.telemetry import Placed, PlainRows, StoredFrame
from manway.runtime.telemetry_embedded import EmbeddedStore
from tests.bench.stopwatch import RUNS, met, say
from tests.kit.telemetry_rows import DAY, MIDNIGHT

GASES = {"O2": (20.9, 0.1), "LEL": (0.0, 1.0), "CO": (3.0, 1.0), "H2S": (0.4, 0.1), "CO2": (620.0, 10.0)}  # level, resolution
GATEWAY, CITY = 200, 12_000  # instruments of five channels at 1 Hz
WRITTEN_MOST, KEPT_MOST, DAY_MS_MOST, FRAME_US_MOST = 10.0, 4.0, 10.0, 4.0  # `pipeline.md` §11 P11 and P12; the last (choice)
DRAIN_S = 2  # seconds of frames a call, as the sink brings them
STREET, SITE, CARRIED = 1500, 50, 90_000  # instruments, those of a site, and the frames the sink carries: of one minute
CARRIED_US_MOST = 2.0  # (choice) a frame from the journal into the store's memory, in rows of 50: a fifth of what a message may

Rows = Sequence[StoredFrame]


def frames_of(instruments: int, seconds: int, *, rounded: bool, period_s: int = 1) -> Iterator[Rows]:
    """Yield what a fleet sends, `DRAIN_S` at a time: levels that wander, the noise of the last digit, jitter of the radio."""
    dice = np.random.default_rng(20261122)
    names = list(GASES)
    level, resolution = (np.array(column) for column in zip(*GASES.values(), strict=True))
    wander = np.zeros((instruments, len(names)))
    phase = dice.integers(0, 1000, instruments)
    devices = [f"gas-{number:05d}" for number in range(instruments)]
    for start in range(0, seconds, DRAIN_S * period_s):
        rows = []
        for second in range(start, min(start + DRAIN_S * period_s, seconds), period_s):
            wander += dice.normal(0.0, 0.1, wander.shape) * resolution
            values = level + wander + dice.normal(0.0, 0.3, wander.shape) * resolution
            shown = (np.round(values / resolution) * resolution).round(3) if rounded else values
            times = (MIDNIGHT + second * 1000 + phase + dice.integers(0, 30, instruments)).tolist()
            for device, ts, numbers in zip(devices, times, shown.tolist(), strict=True):
                readings = {name: Reading(Status.OK, value) for name, value in zip(names, numbers, strict=True)}
                rows.append(StoredFrame(Frame(device, 7, second + 1, ts, ts / 1000 + 0.02, readings), "n01", "p-2026-7"))
        yield rows


def bytes_a_sample(*, rounded: bool, minutes: int = 10, instruments: int = GATEWAY, period_s: int = 1) -> tuple[float, float]:
    """Return bytes written, by the kernel's count, and bytes kept in files, per sample."""
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder), writer=True)
        before, samples = _written(), 0
        for rows in frames_of(instruments, minutes * 60, rounded=rounded, period_s=period_s):
            store.write(rows)
            store.settle(rows[-1].frame.received_at)
            samples += len(rows) * len(GASES)
        store.close()
        kept = sum(path.stat().st_size for path in Path(folder).iterdir())
        return (_written() - before) / samples, kept / samples


def us_a_frame(instruments: int = CITY, minutes: int = 2, *, as_columns: bool = False) -> float:
    """Return the CPU of a frame of five channels, held, packed and written, µs."""
    spent, frames = 0.0, 0
    sources = _sources(instruments)
    places = [Placed(source, "n01", "p-2026-7") for source in sources.values()]
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder), writer=True)
        for rows in frames_of(instruments, minutes * 60, rounded=True):
            plain = _plain(rows, sources)
            received_at = np.array([row.frame.received_at for row in rows])
            columns = PlainRows(plain, received_at, plain.source.astype(np.intp) - 1, places)
            began = time.process_time()
            if as_columns:
                store.write_plain(columns)
            else:
                store.write(rows)
            store.settle(rows[-1].frame.received_at)
            spent += time.process_time() - began
            frames += len(rows)
        began = time.process_time()
        store.close()
        return (spent + time.process_time() - began) / frames * 1e6


def ms_a_day(instruments: int = 20) -> tuple[float, float]:
    """Return how long a reader takes for a channel's day by minute, and for its hour reading by reading, ms."""
    with tempfile.TemporaryDirectory() as folder:
        store = EmbeddedStore(Path(folder), writer=True)
        for rows in frames_of(instruments, 86_400, rounded=True, period_s=5):  # every minute of the day has its chunk
            store.write(rows)
            store.settle(rows[-1].frame.received_at)
        store.close()
        reader = EmbeddedStore(Path(folder), writer=False)
        reader.series("gas-00007", "H2S", MIDNIGHT, MIDNIGHT + DAY, 60)
        by_minute = _ms(lambda: reader.series("gas-00007", "H2S", MIDNIGHT, MIDNIGHT + DAY, 60))
        raw = _ms(lambda: reader.series("gas-00007", "H2S", MIDNIGHT, MIDNIGHT + DAY // 24, None))
        return by_minute, raw


def us_carried(frames_a_row: int, *, as_columns: bool) -> float:
    """Return the CPU of a frame that the sink reads and hands over, µs; the writing of full minutes is not in it."""
    rows = [row for some in frames_of(STREET, CARRIED // STREET + 1, rounded=True) for row in some][:CARRIED]
    sources = _sources(STREET)
    steps = [rows[start : start + frames_a_row] for start in range(0, len(rows), frames_a_row)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.db"
        with closing(Journal(file, cap_bytes=1 << 30)) as journal:
            new = [*sources.values()]
            for begin in range(0, len(steps), 1000):
                entries: list[Entry | PlainEntry] = []
                for step in steps[begin : begin + 1000]:
                    entries += [_plain_entry(step, sources, new)] if as_columns else _entries(step, sources)
                    new = []
                journal.commit(entries)
            store = EmbeddedStore(Path(folder) / "telemetry", writer=True)
            with closing(JournalReader(file)) as reader, closing(store):
                sink = StoreSink(0, reader, store, lambda _site, _frame: ("n01", "p-2026-7"))
                began, more = time.process_time(), True
                while more:
                    more = sink._hand_over(0.0)  # at no time: nothing is over yet but what the journal's own time says
                spent = time.process_time() - began
    return spent / len(rows) * 1e6


def _sources(instruments: int) -> dict[str, Source]:
    return {f"gas-{k:05d}": Source(k + 1, f"s{k // SITE}", f"gas-{k:05d}", 7, tuple(GASES)) for k in range(instruments)}


def _plain_entry(step: Rows, sources: dict[str, Source], new: Sequence[Source]) -> PlainEntry:
    return PlainEntry(step[-1].frame.received_at, _plain(step, sources), new, keep=False)


def _plain(step: Rows, sources: dict[str, Source]) -> Plain:
    frames = [row.frame for row in step]
    return Plain(
        np.array([sources[frame.device].number for frame in frames], np.uint32),
        np.array([frame.seq for frame in frames], np.uint32),
        np.array([frame.ts for frame in frames], np.int64),
        np.full(len(frames), len(GASES), np.uint8),
        np.array([reading.value for frame in frames for reading in frame.readings.values()], np.float64),
    )


def _entries(step: Rows, sources: dict[str, Source]) -> list[Entry]:
    of_site: dict[str, list[AnyInput]] = {}
    for row in step:
        of_site.setdefault(sources[row.frame.device].site, []).append(FrameReceived(row.frame))
    return [Entry(site, step[-1].frame.received_at, inputs, []) for site, inputs in of_site.items()]


def run() -> None:
    """Print what a sample costs."""
    for name, rounded, period_s, minutes in (("as shown", True, 1, 10), ("unrounded", False, 1, 10), ("idle", True, 60, 600)):
        written, kept = bytes_a_sample(rounded=rounded, period_s=period_s, minutes=minutes)
        goal = "" if name == "unrounded" else f"<= {WRITTEN_MOST:g} written, <= {KEPT_MOST:g} kept"
        result = met(written <= WRITTEN_MOST, kept <= KEPT_MOST) if goal else ""
        say("store.bytes", channels=GATEWAY * len(GASES), values=name, written=written, kept=kept, goal=goal, result=result)
    cost, columns = us_a_frame(), us_a_frame(as_columns=True)
    goal, result = f"<= {FRAME_US_MOST:g}", met(cost <= FRAME_US_MOST)
    say("store.cpu", instruments=CITY, us_a_frame=cost, us_columns=columns, goal=goal, result=result)
    for frames_a_row in (50, 1):
        columns, objects = (us_carried(frames_a_row, as_columns=kind) for kind in (True, False))
        goal = f"<= {CARRIED_US_MOST:g}" if frames_a_row > 1 else ""
        result = met(columns <= CARRIED_US_MOST) if goal else ""
        say("store.sink", frames_a_row=frames_a_row, us_columns=columns, us_objects=objects, goal=goal, result=result)
    by_minute, raw = ms_a_day()
    say("store.day", by_minute_ms=by_minute, hour_raw_ms=raw, goal=f"< {DAY_MS_MOST:g}", result=met(by_minute < DAY_MS_MOST))


def _ms(work: Callable[[], object]) -> float:
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return median(took)


def _written() -> float:
    """Return the bytes this process has caused to be written, by the kernel's count; NaN where it does not tell."""
    place = Path("/proc/self/io")
    if not place.exists():
        return math.nan
    return float(place.read_text().split("write_bytes:")[1].split()[0])
