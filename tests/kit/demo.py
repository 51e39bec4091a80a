"""The real demo as a child process: its own broker, gateway, api and simulator on loopback."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kit.brokers import free_port

ROOT = Path(__file__).parents[2]
STARTS_WITHIN_S = 60.0


@dataclass(frozen=True)
class RunningDemo:
    """Where the demo answers, who may sign in, and where it keeps its data."""

    url: str
    passwords: dict[str, str]
    folder: Path
    process: "subprocess.Popen[str]"

    def children(self) -> dict[str, int]:
        """Process ids of the demo's own children by the module they run."""
        found = {}
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in tasks:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            name = "broker" if "nats-server" in command[0] else command[2] if len(command) > 2 else command[0]
            found[name] = int(pid)
        return found


def demo_command(*options: str, port: int | None = None, data: Path) -> list[str]:
    """The command line of a demo on a port of its own."""
    return [sys.executable, "-m", "manway.cli", "demo", "--port", str(port or free_port()), "--data", str(data), *options]


@contextlib.contextmanager
def running_demo(folder: Path, *options: str) -> Iterator[RunningDemo]:
    """Start the demo, hand it over once it has announced itself, stop it as Ctrl-C does."""
    port = free_port()
    process = subprocess.Popen(
        demo_command(*options, port=port, data=folder),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield RunningDemo(f"http://127.0.0.1:{port}", _logins(process, folder), folder, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _logins(process: "subprocess.Popen[str]", folder: Path) -> dict[str, str]:
    assert process.stdout is not None
    passwords, deadline = {}, time.monotonic() + STARTS_WITHIN_S
    for line in process.stdout:
        words = line.split()
        if len(words) >= 5 and words[0] == words[1]:
            passwords[words[1]] = words[2]
        if "Ctrl-C" in line or "playing the story" in line:
            cast: dict[str, str] = json.loads((folder / "cast.json").read_text())["passwords"]
            return passwords | cast
        assert time.monotonic() < deadline
    raise AssertionError(f"the demo ended with {process.wait()}")
