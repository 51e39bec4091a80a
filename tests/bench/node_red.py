"""Node-RED 4 as a peer: from npm into the user's cache, loopback only, nothing told to anybody."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.kit.brokers import free_port

VERSION = "4.1.15"
PACKAGES = (f"node-red@{VERSION}", "node-red-contrib-influxdb@0.7.0")
_SETTINGS = """module.exports = {
  uiHost: "127.0.0.1", uiPort: %(port)d, httpAdminRoot: false, httpNodeRoot: false, telemetry: {enabled: false},
  credentialSecret: false, nodesDir: %(home)s, logging: {console: {level: "info", metrics: false, audit: false}},
};
"""


class Absent(Exception):
    """What is to be measured is not installed here."""


def command(flows_name: str, folder: Path, values: dict[str, str], credentials: dict[str, dict[str, str]]) -> list[str]:
    """Return the command line of a Node-RED that runs a flow of `peers`; `values` replace its `{names}`.

    Raises:
        Absent: there is no npm to install it with.
    """
    home = _installed()
    folder.mkdir(parents=True, exist_ok=True)
    flows = (Path(__file__).parent / "peers" / flows_name).read_text("utf-8")
    for name, value in values.items():
        flows = flows.replace(f"{{{name}}}", value)
    (folder / "flows.json").write_text(flows)
    (folder / "flows_cred.json").write_text(json.dumps(credentials))
    modules = home / "node_modules"
    (folder / "settings.js").write_text(_SETTINGS % {"port": free_port(), "home": json.dumps(str(modules))})
    red = str(modules / "node-red" / "red.js")
    return ["node", red, "--settings", str(folder / "settings.js"), "--userDir", str(folder), "flows.json"]


def _installed() -> Path:
    """Return the folder it is installed in; installs it where it is missing."""
    home = Path.home() / ".cache" / "manway" / "node-red"
    if (home / "node_modules" / "node-red" / "red.js").exists():
        return home
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Absent("no node and npm to install Node-RED with")
    home.mkdir(parents=True, exist_ok=True)
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev"]
    done = subprocess.run(
        [npm, "install", "--prefix", str(home), *quiet, *PACKAGES], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Absent(f"npm did not install Node-RED: {done.stderr[-300:]}")
    return home
