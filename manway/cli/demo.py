"""`manway demo`: a training yard in processes of its own on loopback; a process that dies is started again."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from manway.cli.check import play
from manway.cli.seed import make_keys, seed_records
from manway.runtime.broker import answers, nats_binary, nats_users, write_nats_config
from manway.runtime.secrets import write_private
from manway.runtime.yard import Yard, load_yard

_LEAST_FREE = 200 * 2**20
_START_S = 30.0
_STOP_S = 4.0
_USERS = ("gateway", "api", "signer", "simulator")


class CannotStart(Exception):
    """The demo cannot start here; the message says what to do."""


class Process:
    """One child, restarted when it dies."""

    def __init__(self, name: str, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self._command, self._log, self._environment = name, command, log, dict(environment)
        self._child: subprocess.Popen[bytes] | None = None
        self.started = 0

    def start(self) -> None:
        """Start, or start again."""
        self.started += 1
        with self._log.open("ab") as out:
            self._child = subprocess.Popen(  # noqa: S603  our own programs
                self._command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self._environment, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        return self._child.pid if self._child else 0

    def died(self) -> int | None:
        """Return the exit code of a child that has ended."""
        return self._child.poll() if self._child else None

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._child and self._child.poll() is None:
            self._child.terminate()

    def stop(self, deadline: float) -> None:
        """Wait until the deadline (monotonic seconds), then kill."""
        if self._child is None:
            return
        try:
            self._child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def kill(self) -> None:
        """Kill without a word, as a power cut would."""
        if self._child and self._child.poll() is None:
            self._child.kill()


def run(*, check: bool, seed: int, speed: float, port: int, data: Path | None, kill: str) -> int:
    """Run the demo; return the exit code."""
    if kill not in ("", "gateway", "api", "signer", "broker"):
        print("--kill takes gateway, api, signer or broker", file=sys.stderr)
        return 2
    try:
        folder = _prepare(port, data)
        yard = load_yard()
        print(f"Making keys and seeding {len(yard.space)} spaces in {folder}", flush=True)
        demo = Demo(folder, yard, port=port, seed=seed, speed=speed)
        with demo.running():
            demo.announce(waiting_for_check=check)
            return (
                play(demo.url, demo.passwords["manager"], folder, demo.tend, lambda: demo.kill(kill)) if check else demo.serve()
            )
    except CannotStart as error:
        print(f"manway demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0


class Demo:
    """The whole yard as five children."""

    def __init__(self, folder: Path, yard: Yard, *, port: int, seed: int, speed: float) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{port}"
        now = time.time()
        lock_keys = make_keys(folder / "keys", yard)
        self.passwords = seed_records(folder / "records.db", yard, lock_keys, now)
        sites, broker_port = [s.id for s in yard.site], _free_port()
        self.panel_port, air_port = _free_port(), _free_port()
        self._broker = (broker_port, {user: secrets.token_urlsafe(18) for user in _USERS})
        shared = {
            "data": str(folder),
            "sites": sites,
            "broker": f"mqtt://127.0.0.1:{broker_port}",
            "port": port,
            "panel_port": self.panel_port,
            "radio": f"bumble:tcp-client:127.0.0.1:{air_port}",
            "sim_radio": f"tcp-server:127.0.0.1:{air_port}",
            "yard": True,
            "speed": speed,
            "started_at": now,
        }
        for user in _USERS:
            write_private(folder / f"{user}.toml", _toml(shared | {"broker_password": self._broker[1][user]}))
        cast = {p.account: self.passwords[p.account] for p in yard.person if p.cast and p.account}
        write_private(folder / "cast.json", json.dumps({"seed": seed, "passwords": cast}))
        self._config = write_nats_config(folder / "nats", broker_port, nats_users(sites, self._broker[1]))
        self._yard = yard
        self._processes = {p.name: p for p in self._plan()}

    def _plan(self) -> Iterator[Process]:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MANWAY_")} | {"PYTHONUNBUFFERED": "1"}
        yield Process("broker", [str(nats_binary()), "-c", str(self._config)], logs / "broker.log", environment)
        for name, module in (("gateway", "gateway"), ("api", "api"), ("signer", "api.signer"), ("simulator", "firmware_sim")):
            command = [sys.executable, "-m", module, str(self.folder / f"{name}.toml")]
            command += ["--device", self._yard.on_air] if name == "simulator" else []
            yield Process(name, command, logs / f"{name}.log", environment)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start all in order, stop all within five seconds on the way out, whatever happened."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job starts with it ignored
        old = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._processes["broker"].start()
            port, passwords = self._broker
            self._wait("broker", lambda: answers(port, "api", passwords["api"]))
            for name in ("api", "signer", "gateway"):
                self._processes[name].start()
            self._wait("api", lambda: self._answers("healthz"))
            # A broker takes and forgets what is published before anybody has subscribed: devices wait for the gateway. The
            # signer is there as well then: the api is ready once both have been heard.
            self._wait("gateway", lambda: self._answers("readyz"))
            self._processes["simulator"].start()
            yield
        finally:
            signal.signal(signal.SIGTERM, old)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            deadline = time.monotonic() + _STOP_S
            for process in reversed(self._processes.values()):
                process.ask_to_stop()
            for process in reversed(self._processes.values()):
                process.stop(deadline)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def announce(self, *, waiting_for_check: bool) -> None:
        """Print the address, a login per role and where the data lies."""
        lines = ["", f"  Manway training yard   {self.url}", "  drills only; a supervision aid, never the only barrier", ""]
        for person in self._yard.person:
            if person.account and not person.cast:
                role, name = person.roles[0], person.name["en"]
                lines.append(f"  {role:<10} {person.account:<10} {self.passwords[person.account]:<10} {name}")
        code = (self.folder / "keys" / "panel.code").read_text("ascii")
        lines += ["", f"  the gateway's own emergency page   http://127.0.0.1:{self.panel_port}   code {code}"]
        lines += ["", f"  data and logs: {self.folder}"]
        lines.append("  playing the story, about two minutes" if waiting_for_check else "  Ctrl-C stops everything")
        print("\n".join(lines) + "\n", flush=True)

    def serve(self) -> int:
        """Tend the children until Ctrl-C."""
        while True:
            self.tend()
            time.sleep(0.5)

    def tend(self) -> None:
        """Start again what has died."""
        for process in self._processes.values():
            code = process.died()
            if code is not None:
                print(f"{process.name} ended with {code}; starting it again", file=sys.stderr, flush=True)
                process.start()

    def kill(self, name: str) -> None:
        """Kill one child as a power cut would."""
        if name:
            print(f"killing {name}", flush=True)
            self._processes[name].kill()

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=1) as answer:  # noqa: S310  our own loopback address
                return bool(answer.status == 200)  # noqa: PLR2004  OK
        except OSError:
            return False

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while not ready():
            if (code := self._processes[name].died()) is not None or time.monotonic() > deadline:
                log = self.folder / "logs" / f"{name}.log"
                last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
                reason = "does not answer" if code is None else f"ended with {code}"
                raise CannotStart(f"the {name} {reason}; its last words: {last[0]} (all of them in {log})")
            time.sleep(0.05)


def _prepare(port: int, data: Path | None) -> Path:
    """Return the empty data folder, or raise CannotStart with the one thing to do."""
    stamp = datetime.now(UTC).astimezone().strftime("%Y%m%d-%H%M%S")
    folder = (data or Path("data") / f"demo-{stamp}").resolve()
    if folder.exists() and any(folder.iterdir()):
        raise CannotStart(f"{folder} is not empty; choose an empty folder with --data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise CannotStart(f"cannot write to {folder} ({error.strerror}); choose another folder with --data") from error
    if shutil.disk_usage(folder).free < _LEAST_FREE:
        raise CannotStart(f"less than 200 MB are free below {folder}; make room or choose another disk with --data")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotStart(f"port {port} is taken; choose another with --port, for example --port {port + 1}") from error
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _toml(values: Mapping[str, object]) -> str:
    """Return flat values as TOML; JSON's notation of strings, numbers, booleans and lists is TOML's."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
