"""The journal: one commit a batch beside one commit a frame."""

import tempfile
from pathlib import Path

from gateway.journal import Journal
from manway.inputs import FrameReceived
from tests.bench.stopwatch import say, timed
from tests.kit.builders import a_frame
from tests.kit.clock import EPOCH

BATCH = 200


def per_frame(per_commit: int) -> float:
    """Microseconds a frame takes into the journal, this many in one commit."""
    frames = [FrameReceived(a_frame(seq=n)) for n in range(1, BATCH + 1)]

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            book = Journal(Path(folder) / "bench.db")
            for first in range(0, BATCH, per_commit):
                book.commit(frames[first : first + per_commit], [], {}, EPOCH)
            book.close()

    return timed(run) / BATCH * 1e6


def run() -> None:
    """Print what a batch saves."""
    batched, single = per_frame(BATCH), per_frame(1)
    say("journal", frames_a_commit=BATCH, us_a_frame=batched, us_a_frame_alone=single, ratio=single / batched)
