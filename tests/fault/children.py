"""The processes of a crash rig, and how one waits for them: real programs on loopback that may be killed and started again."""

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.kit import influx
from tests.kit.brokers import free_port, missing
from tests.kit.ending import ended_in

ROOT = Path(__file__).parents[2]
STOPS_WITHIN_S = 5.0  # the issue's own number, every peer up or down
_STARTS_WITHIN_S = 60.0


class Child:
    """One process of the installation."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name, self._command, self._log = name, list(command), log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def start(self) -> None:
        assert not self.alive, f"{self.name} runs already"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MANWAY_")}
        # What the tests were started with stays in front: a seeded bug comes that way.
        environment["PYTHONPATH"] = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, cwd=ROOT
            )

    def kill(self) -> None:
        """End it as a power cut of this one program would."""
        assert self._process is not None
        code = self._process.poll()
        assert code is None, f"{self.name} had ended by itself with {code}: {self.log[-2000:]}"
        self._process.kill()
        self._process.wait()

    def stop(self, within_s: float = 30.0) -> float:
        """Ask it to end; return the seconds of its own that it took. Raises subprocess.TimeoutExpired."""
        if self._process is None or self._process.poll() is not None:
            return 0.0
        self._process.send_signal(signal.SIGTERM)
        try:
            return ended_in(self._process, within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


class InfluxChild(Child):
    """An InfluxDB 1.x that keeps its port and its files from start to start."""

    def __init__(self, directory: Path) -> None:
        binary = os.environ.get("MANWAY_INFLUXD") or shutil.which("influxd") or str(influx.built_by_go())
        self.port = free_port()
        directory.mkdir(parents=True)
        configuration = directory / "influxdb.conf"
        configuration.write_text(
            influx._CONFIGURATION.format(
                directory=directory, port=self.port, backup_port=free_port(), body_limit=influx.BODY_LIMIT
            )
        )
        super().__init__("influx", [binary, "run", "-config", str(configuration)], directory / "influxdb.log")

    @property
    def setting(self) -> str:
        return f"influx:http://127.0.0.1:{self.port}"

    def make_database(self) -> None:
        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}/ping"), "InfluxDB answers")
        influx._post(f"http://127.0.0.1:{self.port}/query", b"q=CREATE%20DATABASE%20manway", {})

    def write_raw(self, lines: str) -> None:
        """Store lines of line protocol, times in ms, past the code under test."""
        where = f"http://127.0.0.1:{self.port}/api/v2/write?bucket=manway&precision=ms"
        influx._post(where, lines.encode(), {"Content-Type": "text/plain; charset=utf-8"})


def answers(url: str) -> bool:
    """Tell whether a loopback address answers with success now."""
    try:
        with influx._DIRECT.open(urllib.request.Request(url), timeout=5):  # noqa: S310  our own loopback address
            return True
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], what: str, within_s: float = _STARTS_WITHIN_S) -> None:
    """Wait until something is so; says what was not."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)


def need_influx() -> None:
    """Skip, or fail in CI, where no InfluxDB binary can be had."""
    try:
        if not (os.environ.get("MANWAY_INFLUXD") or shutil.which("influxd")):
            influx.built_by_go()
    except influx.NoServer:
        missing("influxd")
