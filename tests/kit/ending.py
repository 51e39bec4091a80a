"""How long processes take to end, but for what a busy machine made them wait for a processor: that is no fault of theirs."""

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

_LOOK_S = 0.02


def ended_in(process: "subprocess.Popen[Any]", within_s: float, *others: int) -> float:
    """Wait for the end of a process and return how many seconds of its own it took.

    Args:
        process: that was asked to end.
        within_s: how long we wait, whatever the machine does.
        others: processes that end before it, for it waits for them: the longest wait of one of them is not its own either.

    Raises:
        subprocess.TimeoutExpired: it did not end.
    """
    began, ours = time.monotonic(), _in_line_s(Path("/proc/thread-self"))
    before = {pid: _waited_s(pid) for pid in (process.pid, *others)}
    waited = dict(before)
    while process.poll() is None:
        if time.monotonic() - began > within_s:
            raise subprocess.TimeoutExpired(process.args, within_s)
        for pid, known in waited.items():
            waited[pid] = max(known, _waited_s(pid))  # it falls when a thread ends
        time.sleep(_LOOK_S)
    late = max(waited[pid] - before[pid] for pid in waited) + _in_line_s(Path("/proc/thread-self")) - ours
    return max(0.0, time.monotonic() - began - late)


def _waited_s(pid: int) -> float:
    """Return how long the threads of a process have stood in line for a processor since they began, together."""
    with contextlib.suppress(FileNotFoundError):
        return sum(map(_in_line_s, Path(f"/proc/{pid}/task").iterdir()))
    return 0.0


def _in_line_s(task: Path) -> float:
    with contextlib.suppress(OSError, IndexError):  # it has ended, or this kernel counts nothing
        return int((task / "schedstat").read_text("ascii").split()[1]) / 1e9
    return 0.0
