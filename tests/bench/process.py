"""A program under test as a command line: started, measured from outside, stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STOP_S = 30.0  # whoever has not ended by then is ended


class Ended(Exception):
    """The program under test ended by itself; the reason is the end of what it said."""


class Program:
    """A child process. All figures are of the process with all its threads, none of its children."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.log = log
        self.written_at_end = 0  # bytes, once it was stopped
        with log.open("ab") as out:
            paths = {"PYTHONPATH": str(cwd)}
            self._child = subprocess.Popen(command, stdout=out, stderr=out, cwd=cwd, env=os.environ | paths | dict(env or {}))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._child.pid

    def check(self) -> None:
        """Raise Ended when it does not run any more."""
        if (code := self._child.poll()) is not None:
            raise Ended(f"{self._child.args!r} ended with {code}: {self.log.read_text(errors='replace')[-1500:]}")

    def cpu_s(self) -> float:
        """Return the processor time used so far, seconds: the kernel's own count, clock_getcpuclockid(3)."""
        self.check()
        return time.clock_gettime((~self.pid << 3) | 2)

    def rss_mb(self) -> float:
        """Return the resident memory, MiB (VmRSS of proc(5))."""
        return self._status("VmRSS")

    def peak_mb(self) -> float:
        """Return the largest resident memory so far, MiB (VmHWM of proc(5))."""
        return self._status("VmHWM")

    def written_bytes(self) -> int:
        """Return what it caused to be written to the disk so far (`write_bytes` of proc(5))."""
        rows = (line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines())
        return next(int(value) for name, value in rows if name == "write_bytes")

    def stop(self) -> float:
        """Ask it to end and return how many seconds that took, `inf` when it had to be killed."""
        if self._child.returncode is not None:
            return 0.0
        began, took = time.perf_counter(), float("inf")
        self._child.send_signal(signal.SIGTERM)
        while time.perf_counter() < began + _STOP_S:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                took = time.perf_counter() - began
                break
            time.sleep(0.005)
        self.written_at_end = self.written_bytes()  # a process that has ended is there until somebody asks how
        self._child.kill()
        self._child.wait()
        return took

    def _status(self, name: str) -> float:
        rows = (line.split() for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return next(int(row[1]) for row in rows if row[0] == f"{name}:") / 1024


def load_average() -> float:
    """Return the machine's load of the last minute: others at work make absolute figures worse."""
    return os.getloadavg()[0]
