"""The journal: what a commit costs by its size, in time and in bytes, beside one commit a frame; at its cap; with a reader."""

import itertools
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from gateway.journal import Entry, Journal, PlainEntry
from gateway.journal_reader import JournalReader
from manway.events import DeviceRestarted
from manway.inputs import AnyInput, FrameReceived
from manway.plain import Plain, Source
from tests.bench.stopwatch import met, say, timed
from tests.kit.builders import a_frame
from tests.kit.clock import EPOCH

MIB = 1 << 20
SIZES = (1, 50, 100, 1000, 10_000)  # frames a commit
RATIO_GOAL, BYTES_GOAL = 8.0, 50.0  # P4: batched beside single; P11: written a frame at 1,000 a commit
BATCH, SINGLE = 200, 1
CAP, CUTS = 64 * MIB, 8
PLAIN_SIZES = (1, 50, 500)  # plain frames a row
CITY, CITY_SITES = 12_000, 240  # instruments
EVENT_SIZES = (1, 20, 200)  # events a commit
# Clean air as an instrument shows it: mean and deviation of its noise, and how many decimals it has.
AIR = {"o2": ((20.9, 0.05), 1), "lel": ((0.0, 0.6), 0), "h2s_ppm": ((0.0, 0.2), 1), "co_ppm": ((1.0, 1.0), 0)}


def some_air(count: int) -> list[AnyInput]:
    """Frames of a thousand instruments as a gateway gets them: each its own boot and count, clean air with a sensor's noise."""
    draw = random.Random(count)  # noqa: S311 noise
    frames = list[AnyInput]()
    for number in range(count):
        device, late_s = number % 1000, draw.uniform(0.0, 0.04)
        shown = {gas: round(max(0.0, draw.gauss(*noise)), decimals) for gas, (noise, decimals) in AIR.items()}
        boot, seq = device * 2654435761 % 2**32, 5000 + device % 700 + number // 1000
        whole = a_frame(seq, at=EPOCH - late_s, device=f"gas-{device:04d}", boot=boot, **shown)  # type: ignore[arg-type]
        frames.append(FrameReceived(msgspec.structs.replace(whole, received_at=EPOCH)))  # one clock for a batch
    return frames


@contextmanager
def a_journal(cap: int = 1024 * MIB) -> Iterator[Journal]:
    """Open a journal in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, closing(Journal(Path(folder) / "bench.db", cap_bytes=cap)) as journal:
        yield journal


def written_bytes() -> int:
    """Return the bytes this process has had written to a disk, its log and its checkpoints included."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def fill(journal: Journal, frames: Sequence[AnyInput], size: int, total: int) -> list[float]:
    """Commit `total` frames, `size` at a time; return what each commit took, seconds."""
    took = []
    for number in range(total // size):
        first = number * size % len(frames)
        entry = Entry("yard", EPOCH + number, frames[first : first + size], [])
        began = time.perf_counter()
        journal.commit([entry])
        took.append(time.perf_counter() - began)
    return took


def p99(times: Sequence[float]) -> float:
    """Return the time in milliseconds that one in a hundred exceeds."""
    return sorted(times)[int(len(times) * 0.99)] * 1000


def by_size(size: int, frames: Sequence[AnyInput]) -> float:
    """Print the cost of commits of one size; return the bytes written a frame."""
    total = max(1000, min(100_000, 1000 * size)) // size * size
    with a_journal() as journal:
        before, began = written_bytes(), time.process_time()
        took = fill(journal, frames, size, total)
        busy = time.process_time() - began
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        each = (written_bytes() - before) / total
    figures = {"cpu_us_a_frame": busy / total * 1e6, "cpu_us_a_commit": busy / total * size * 1e6}
    say("journal", frames_a_commit=size, bytes_a_frame=each, p50_ms=median(took) * 1000, p99_ms=p99(took), **figures)
    return each


def some_sources() -> list[Source]:
    """A city's instruments, over its sites."""
    return [Source(n + 1, f"site-{n % CITY_SITES}", f"gas-{n}", 7, tuple(AIR)) for n in range(CITY)]


def plain_air(size: int, count: int) -> list[Plain]:
    """Rows of plain frames of clean air, of one instrument after the other."""
    draw, rows = np.random.default_rng(size), list[Plain]()
    for number in range(count):
        shown = [
            np.round(np.maximum(0.0, draw.normal(*noise, size)), decimals) if noise[1] else np.full(size, noise[0])
            for noise, decimals in AIR.values()
        ]
        source = (np.arange(size) + number * size) % CITY + 1
        seq, ts = np.full(size, 5000 + number), int(EPOCH * 1000) + 1000 * number + draw.integers(0, 40, size)
        values = np.array(shown).T.reshape(-1)
        rows.append(Plain(source.astype(np.uint32), seq.astype(np.uint32), ts, np.full(size, len(AIR), np.uint8), values))
    return rows


def plain_by_size(size: int) -> None:
    """Print the cost of rows of plain frames of one size, each in a commit of its own."""
    rows = plain_air(size, 1000)
    with a_journal() as journal:
        began = time.process_time()
        journal.commit([PlainEntry(EPOCH, rows[0], some_sources())])
        first, took = time.process_time() - began, list[float]()
        before, began = written_bytes(), time.process_time()
        for number, row in enumerate(rows):
            start = time.perf_counter()
            journal.commit([PlainEntry(EPOCH + number, row)])
            took.append(time.perf_counter() - start)
        busy = time.process_time() - began
        journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        each = (written_bytes() - before) / (size * len(rows))
    figures = {"cpu_us_a_frame": busy / size / len(rows) * 1e6, "cpu_us_a_commit": busy / len(rows) * 1e6}
    say("plain frames", a_row=size, bytes_a_frame=each, p50_ms=median(took) * 1000, city_s_sources_ms=first * 1000, **figures)


def events_by_size(size: int) -> None:
    """Print the cost of commits of events alone."""
    with a_journal() as journal:
        busy = list[float]()
        for number in range(200):
            draw = random.Random(number)  # noqa: S311 keys
            said = [
                DeviceRestarted(id=draw.randbytes(10).hex(), at=EPOCH, site="yard", device="gas-1", boot=number)
                for _ in range(size)
            ]
            began = time.process_time()
            journal.commit([Entry("yard", EPOCH, [], said)])
            busy.append(time.process_time() - began)
    say("events", a_commit=size, cpu_us_an_event=median(busy) / size * 1e6, cpu_us_a_commit=median(busy) * 1e6)


def batched(frames: Sequence[AnyInput]) -> None:
    """Print what a batch saves."""

    def each(size: int) -> float:
        with a_journal() as journal:

            def once() -> None:
                fill(journal, frames, size, BATCH)

            return timed(once) / BATCH * 1e6

    whole, single = each(BATCH), each(SINGLE)
    ratio = single / whole
    say("journal", frames_a_commit=BATCH, us_a_frame=whole, us_a_frame_alone=single, ratio=ratio, goal=met(ratio >= RATIO_GOAL))


def at_the_cap() -> None:
    """Print how long the commits are that take a block of telemetry away; long names fill the file soon."""
    draw = random.Random(1)  # noqa: S311 names
    frames: list[AnyInput] = [FrameReceived(a_frame(n + 1, device=draw.randbytes(200).hex())) for n in range(100)]
    cuts, plain = list[float](), list[float]()
    with a_journal(CAP) as journal:
        while len(cuts) < CUTS:
            took = fill(journal, frames, len(frames), len(frames))
            (cuts if journal.dropped() else plain).extend(took)
    say("journal at its cap", plain_p99_ms=p99(plain), cut_p50_ms=median(cuts) * 1000, cut_max_ms=max(cuts) * 1000)


def beside_a_reader(frames: Sequence[AnyInput]) -> None:
    """Print how long reads take beside a writer that never pauses, and its commits beside a reader that never does."""
    done, reads = threading.Event(), list[float]()
    with a_journal() as journal:
        fill(journal, frames, 50, 50 * 500)
        file = Path(journal._db.execute("PRAGMA database_list").fetchone()[2])

        def drain() -> None:
            with closing(JournalReader(file)) as reader:
                for number in itertools.count(step=10):
                    began = time.perf_counter()
                    reader.inputs_after(number % 400, 10)
                    reads.append(time.perf_counter() - began)
                    if done.is_set():
                        return

        thread = threading.Thread(target=drain)
        thread.start()
        took = fill(journal, frames, 50, 50_000)
        done.set()
        thread.join()
    say("journal and reader", commit_p99_ms=p99(took), read_p50_ms=median(reads) * 1000, read_p99_ms=p99(reads))


def run() -> None:
    """Print all of it."""
    frames = some_air(10_000)
    each = {size: by_size(size, frames) for size in SIZES}
    say("journal", bytes_a_frame=each[1000], goal_bytes=BYTES_GOAL, goal=met(each[1000] <= BYTES_GOAL))
    batched(frames)
    for size in PLAIN_SIZES:
        plain_by_size(size)
    for size in EVENT_SIZES:
        events_by_size(size)
    at_the_cap()
    beside_a_reader(frames)
