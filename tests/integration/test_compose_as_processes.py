"""Every service's own command as a plain process, on what docker-compose.yml gives it and nothing else.

Each process gets a folder in place of its container's file system: the secrets that the compose file gives it, under the names
there, the mounts, the volume. In the files only what a container sees differently is replaced: paths, hosts and ports.
Mosquitto, PostgreSQL and InfluxDB are real servers of this machine. Where Docker answers, `test_compose_up.py` runs the images.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import yaml

from manway.cli.init import Wish, run_init
from manway.runtime.broker import nats_binary
from tests.kit.brokers import free_port, missing
from tests.kit.docs_tables import ROOT
from tests.kit.ending import ended_in
from tests.kit.influx import InfluxServer, running_influx
from tests.kit.postgres import Postgres

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(180),
]

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
SECRETS: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["secrets"]
READY_S, STOPS_S = 60.0, 5.0  # two cores shared with the whole suite; a clean end within 5 s (`pipeline.md` §11 P8)
_DIRECT = build_opener(ProxyHandler({}))


def resolved(text: str, folder: Path) -> str:
    """Return a text of the compose file with its variables filled, as compose would with this folder's `.env`."""
    known = {"MANWAY_DIR": str(folder)}
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda found: known.get(found[1], found[2] or ""), text)


class Service:
    """One service's command in a folder of its own that stands for its container."""

    def __init__(self, site: "Site", name: str) -> None:
        self.name, self._site, self._root = name, site, site.folder.parent / "containers" / name
        self.log = self._root.with_suffix(".log")
        self._places: dict[str, str] = {}
        self._child: subprocess.Popen[bytes] | None = None
        for entry in SERVICES[name].get("volumes", []):
            self._mount(entry)
        for entry in SERVICES[name].get("secrets", []):
            self._give(
                *((entry, entry) if isinstance(entry, str) else (entry["source"], resolved(entry["target"], site.folder)))
            )

    def _mount(self, entry: Any) -> None:  # noqa: ANN401  YAML
        if isinstance(entry, str):
            source, target = resolved(entry, self._site.folder).removesuffix(":ro").split(":")
            shutil.copytree(source, self._root / target[1:], copy_function=self._copy, dirs_exist_ok=True)
            self._places[target] = str(self._root / target[1:])
        else:
            own = self._site.folder.parent / "volumes" / entry["source"]
            own.mkdir(parents=True, exist_ok=True)
            self._places[entry["target"]] = str(own)

    def _give(self, source: str, target: str) -> None:
        path = Path(self._here(str(Path("/run/secrets") / target)))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._copy(resolved(SECRETS[source]["file"], self._site.folder), path)

    def _copy(self, source: str, target: str | Path) -> str:
        """Copy a file with its rights, and in a readable one the paths, hosts and ports of containers replaced."""
        body = Path(source).read_bytes()
        with contextlib.suppress(UnicodeDecodeError):
            body = self._here(body.decode()).encode()
        path = Path(target)
        path.unlink(missing_ok=True)
        path.touch(Path(source).stat().st_mode & 0o777)
        path.chmod(0o600)
        path.write_bytes(body)
        path.chmod(Path(source).stat().st_mode & 0o777)
        return str(target)

    def _here(self, text: str) -> str:
        places = {"/run/secrets": str(self._root / "run/secrets"), "/etc/mosquitto": str(self._root / "etc/mosquitto")}
        for there, here in (places | self._places | self._site.elsewhere).items():
            text = text.replace(there, here)
        return text

    def command(self, given: list[str]) -> list[str]:
        """Return a command of the compose file with this machine's programs and places."""
        program = {"python": sys.executable, "nats-server": str(nats_binary())}.get(given[0], given[0])
        return [program, *(self._here(resolved(word, self._site.folder)) for word in given[1:])]

    def environment(self) -> dict[str, str]:
        """Return its variables, and those that keep it on loopback and on free ports."""
        own = {
            k: self._here(resolved(str(v), self._site.folder)) for k, v in SERVICES[self.name].get("environment", {}).items()
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MANWAY_")}
        ports = {"MANWAY_PORT": str(self._site.port), "MANWAY_PANEL_PORT": str(self._site.panel_port)}
        hosts = {"MANWAY_HOST": "127.0.0.1", "MANWAY_PANEL_HOST": "127.0.0.1"}
        return inherited | own | hosts | ports | {"PYTHONPATH": str(ROOT)}

    def start(self) -> Self:
        with self.log.open("ab") as out:
            command = self.command(SERVICES[self.name]["command"])
            self._child = subprocess.Popen(command, stdout=out, stderr=out, env=self.environment(), cwd=ROOT)
        return self

    def ends(self, within_s: float) -> int:
        assert self._child is not None
        return self._child.wait(within_s)

    def ends_in_time(self) -> int:
        """Return its exit code, and demand that it took no longer than it may, whatever the machine let it wait."""
        assert self._child is not None
        assert ended_in(self._child, READY_S) < STOPS_S, self.name
        return self._child.wait()

    def kill(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()

    def ask_to_stop(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)

    def well(self) -> bool:
        """Run its healthcheck as docker would."""
        command = self.command(SERVICES[self.name]["healthcheck"]["test"][1:])
        # A machine has more connections than a container, whose only one to a broker this is: its port is this test's alone.
        command = [word.replace("22B3", f"{self._site.broker_port:04X}") for word in command]
        done = subprocess.run(command, env=self.environment(), capture_output=True, timeout=30, check=False)
        return done.returncode == 0


class Site:
    """What `manway init` made, and the servers that its services meet."""

    def __init__(self, folder: Path, influx: InfluxServer, records: str) -> None:
        run_init(Wish(folder, [], [], [], "localhost", local=False, owner=None))
        self.folder, self.influx = folder, influx
        self.broker_port, self.port, self.panel_port = free_port(), free_port(), free_port()
        self.elsewhere = {
            "mosquitto:8883": f"localhost:{self.broker_port}",
            "listener 8883": f"listener {self.broker_port} 127.0.0.1",
            "http://influxdb:8086": influx.url,
            "http://127.0.0.1:8080": f"http://127.0.0.1:{self.port}",
            "@postgres/manway": records.partition("manway")[2],
        }
        if os.geteuid() == 0:  # in a container no server is root; here Mosquitto would drop to a user who may read nothing
            conf = folder / "mosquitto" / "mosquitto.conf"
            conf.chmod(0o644)
            conf.write_text(conf.read_text("utf-8") + "user root\n")

    def answers(self, path: str) -> int:
        """Return the api's status code for a path, 0 when it does not answer."""
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.port}/{path}", timeout=2) as body:
                return int(body.status)
        except URLError as error:
            return int(getattr(error, "code", 0))

    def stored(self, query: str) -> list[Any]:
        """Return the series of an InfluxQL query."""
        where = urlencode({"db": self.influx.bucket, "epoch": "ms", "q": query})
        request = Request(f"{self.influx.url}/query?{where}", headers={"Authorization": f"Token {self.influx.token}"})  # noqa: S310
        with _DIRECT.open(request, timeout=5) as body:
            return list(json.load(body)["results"][0].get("series", []))


@contextlib.contextmanager
def running(site: Site, *names: str) -> Iterator[dict[str, Service]]:
    """Give services that are all gone afterwards, whatever happened."""
    services = {name: Service(site, name) for name in names}
    try:
        yield services
    finally:
        for service in services.values():
            service.kill()


def until(condition: Callable[[], object], log: Path, within_s: float = READY_S) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def site(tmp_path: Path, postgres: Postgres) -> Iterator[Site]:
    if shutil.which(SERVICES["mosquitto"]["command"][0]) is None:
        missing("mosquitto")
    influx_files = tmp_path / "influx"
    influx_files.mkdir()
    with running_influx(influx_files) as influx:
        yield Site(tmp_path / "site", influx, postgres.bare())


def test_a_site_comes_up_carries_data_and_goes_down(site: Site) -> None:
    with running(site, "mosquitto", "yard", "api", "signer", "gateway", "sim") as services:
        services["mosquitto"].start()
        assert services["yard"].start().ends(READY_S) == 0, services["yard"].log.read_text()
        services["api"].start()
        services["signer"].start()
        services["gateway"].start()
        until(lambda: site.answers("healthz") == 200, services["api"].log)
        until(lambda: site.answers("readyz") == 200, services["gateway"].log)
        services["sim"].start()
        until(lambda: site.stored('SELECT count("s") FROM "gas"'), services["sim"].log)
        for name in ("mosquitto", "gateway", "api", "signer", "sim"):
            until(services[name].well, services[name].log)
        services["mosquitto"].ask_to_stop()
        assert services["mosquitto"].ends_in_time() == 0
        for name in ("mosquitto", "gateway", "signer"):
            until(lambda: not services[name].well(), services["gateway"].log)  # noqa: B023  asked at once
        ours = ("sim", "gateway", "api", "signer")
        for name in ours:
            services[name].ask_to_stop()
        assert {name: services[name].ends_in_time() for name in ours} == dict.fromkeys(ours, 0)
    again = Service(site, "yard").start()
    assert again.ends(READY_S) == 0
    assert "seeded" in again.log.read_text().splitlines()[-1]  # a second `up` puts nothing in twice


@pytest.mark.parametrize("node", ["nats-1", "nats-2", "nats-3"])
def test_a_node_of_the_cluster_takes_its_configuration(node: str, tmp_path: Path) -> None:
    run_init(Wish(tmp_path / "site", [], [], [], "localhost", local=False, owner=None))
    place = Site.__new__(Site)
    place.folder, place.elsewhere, place.broker_port = tmp_path / "site", {}, 8883
    service = Service(place, node)
    config = Path(service.command(SERVICES[node]["command"])[-1])
    config.write_text(config.read_text("utf-8").replace("/etc/nats", str(config.parent)))
    done = subprocess.run([*service.command(SERVICES[node]["command"]), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, shlex.join(done.args) + done.stdout + done.stderr
