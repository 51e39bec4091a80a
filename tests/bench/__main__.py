"""`./run bench`: what one second costs, as ratios in one run; absolute rates belong to the machine that printed them.

rules: a frame through the whole engine, few and many instruments. journal: one commit a batch beside one commit a frame.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from gateway.journal import Journal
from manway.engine import Engine
from manway.inputs import FrameReceived, PlanReceived
from manway.runtime import settings
from tests.kit.builders import a_frame, a_plan, a_space, an_instrument
from tests.kit.clock import EPOCH

RUNS = 5
SECONDS = 60
BATCH = 200


def timed(work: Callable[[], None]) -> float:
    """Seconds of the median of five runs."""
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took)


def rules(instruments: int) -> float:
    """Microseconds a frame of four gases takes through all rules of a site with this many instruments."""
    spaces = [a_space(f"n{i:04d}") for i in range(instruments)]
    devices = [an_instrument(f"gas-{i}", space=f"n{i:04d}") for i in range(instruments)]
    plan = a_plan(spaces=spaces, instruments=devices, permits=[], locks=[])

    def run() -> None:
        engine = Engine("yard", settings.limits("CN"), settings.timings(yard=False))
        engine.receive([PlanReceived(plan)], EPOCH)
        for second in range(1, SECONDS + 1):
            at = EPOCH + second
            engine.receive([FrameReceived(a_frame(device=d.device, seq=second, at=at)) for d in devices], at)

    return timed(run) / (instruments * SECONDS) * 1e6


def journal(per_commit: int) -> float:
    """Microseconds a frame takes into the journal, this many in one commit."""
    frames = [FrameReceived(a_frame(seq=n)) for n in range(1, BATCH + 1)]

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            book = Journal(Path(folder) / "bench.db")
            for first in range(0, BATCH, per_commit):
                book.commit(frames[first : first + per_commit], [], {}, EPOCH)
            book.close()

    return timed(run) / BATCH * 1e6


def main() -> None:
    """Print the table."""
    few, many = rules(12), rules(120)
    batched, single = journal(BATCH), journal(1)
    sys.stdout.write(
        f"rules    12 instruments {few:8.1f} us/frame   120 instruments {many:8.1f} us/frame   growth x{many / few:.2f}\n"
        f"journal  {BATCH} a commit {batched:9.1f} us/frame   1 a commit {single:13.1f} us/frame   "
        f"ratio x{single / batched:.1f}\n"
    )


if __name__ == "__main__":
    main()
