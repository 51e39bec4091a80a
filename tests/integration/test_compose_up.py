"""The images themselves, where a Docker engine with compose answers: the whole site comes up, Grafana shows its dashboards.

Elsewhere this is skipped; `test_compose_as_processes.py` runs every command of ours there, `test_dashboards.py` every query.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import yaml

from manway.cli.init import Wish, run_init
from tests.kit.dashboard_parts import SOURCE
from tests.kit.dashboards import FOLDER
from tests.kit.docs_tables import ROOT

pytestmark = [
    pytest.mark.docker,
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(1200),  # images are pulled and one is built
]

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
RUNNING = {"mosquitto", "influxdb", "postgres", "gateway", "api", "grafana", "sim"}
READY_S = 300.0
_DIRECT = build_opener(ProxyHandler({}))


class Site:
    """A running project and the folder it runs from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def docker(self, *words: str) -> str:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    def containers(self) -> dict[str, Any]:
        """Return what docker says of every container that runs, by its service."""
        ids = self.docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}").split()
        found = json.loads(self.docker("inspect", *ids)) if ids else []
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def grafana(self, path: str, body: object = None) -> Any:  # noqa: ANN401  JSON of somebody else's
        word = (self.folder / "secrets" / "grafana_password").read_text("utf-8")
        login = base64.b64encode(f"admin:{word}".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with _DIRECT.open(Request(f"http://127.0.0.1:3000{path}", data, headers), timeout=20) as answer:
            return json.load(answer)


PROJECT = f"manway-test-{os.getpid()}"


def _engine() -> str:
    """Return why no images can be run here, "" when they can."""
    if not shutil.which("docker"):
        return "no docker command"
    for words in (["version", "--format", "{{.Server.Version}}"], ["compose", "version"]):
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            return f"docker {' '.join(words)}: {done.stderr.strip()[:200]}"
    return ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if why := _engine():
        pytest.skip(why)
    from testcontainers.compose import DockerCompose  # noqa: PLC0415  slow, and of use only with an engine

    folder = tmp_path_factory.mktemp("up") / "site"
    run_init(Wish(folder, [], [], [], "localhost", local=False, owner=None))
    os.environ["COMPOSE_PROJECT_NAME"] = PROJECT
    # Not `wait`: it takes the end of a service that only seeds for a failure.
    project = DockerCompose(
        str(ROOT), "docker-compose.yml", build=True, wait=False, env_file=str(folder / ".env"), profiles=["sim"]
    )
    try:
        project.start()
        yield Site(folder)
    finally:
        project.stop()  # with its volumes
        del os.environ["COMPOSE_PROJECT_NAME"]


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(1.0)


def answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=5) as body:
            return bool(body.status == 200)
    except (URLError, OSError):
        return False


def test_every_service_comes_up_well(site: Site) -> None:
    until(lambda: answers("http://127.0.0.1:8080/readyz"), "the api never heard its gateway")
    until(lambda: site.containers().keys() >= RUNNING, "not every service runs")

    def well() -> bool:
        return all(one["State"]["Health"]["Status"] == "healthy" for one in site.containers().values())

    until(well, "not every service is healthy")


def test_no_container_may_do_more_than_the_file_says(site: Site) -> None:
    for name, one in site.containers().items():
        host = one["HostConfig"]
        assert one["Config"]["User"].split(":")[0] not in ("", "0", "root"), name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name


def test_grafana_has_the_dashboards_and_their_data(site: Site) -> None:
    until(lambda: answers("http://127.0.0.1:3000/api/health"), "no Grafana")
    wanted = {json.loads(path.read_text("utf-8"))["uid"] for path in FOLDER.glob("*/*.json")}
    until(lambda: {found["uid"] for found in site.grafana("/api/search?type=dash-db")} >= wanted, "not every dashboard")
    for uid in wanted:
        assert site.grafana(f"/api/dashboards/uid/{uid}")["dashboard"]["panels"]  # none came up empty
    ask = {"refId": "A", "datasource": SOURCE, "rawQuery": True, "query": 'SELECT count("s") FROM "gas" WHERE $timeFilter'}
    body = {"from": "now-1h", "to": "now", "queries": [ask | {"resultFormat": "time_series"}]}
    until(lambda: site.grafana("/api/ds/query", body)["results"]["A"]["frames"], "no frame of the yard in the store")
