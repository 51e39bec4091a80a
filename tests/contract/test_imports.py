"""The layers hold, and the contracts that say so bite: each is broken on purpose once, in a copy, and import-linter notices."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.docs_tables import ROOT

LINTER = Path(sys.executable).with_name("lint-imports")
PACKAGES = ("manway", "gateway", "api", "firmware_sim")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
SHELLS = "Three shells on one core"
ROWS = "Inside the core imports point down, and every module has its row"
PURE = "The core does no I/O, reads no clock, rolls no dice"
ROOTS = "Only a composition root builds exchangeable adapters"
VIRTUAL = "The simulator's radio stays with the simulator"


class Break(NamedTuple):
    """A line that must not stand in a module, the contract it breaks, and what import-linter must point at."""

    contract: str
    module: str
    line: str
    finds: str


BREAKS = {
    "the api imports the gateway": Break(SHELLS, "api/audit.py", "import gateway.journal", "api.audit -> gateway.journal"),
    "the core imports a shell": Break(SHELLS, "manway/engine.py", "import api.store", "manway.engine -> api.store"),
    "a rule imports its sibling": Break(ROWS, "manway/lock.py", "import manway.alarm", "manway.lock -> manway.alarm"),
    "a low row imports a high one": Break(ROWS, "manway/ids.py", "import manway.events", "manway.ids -> manway.events"),
    "a module without a row": Break(ROWS, "manway/helpers.py", "X = 1", "manway.helpers"),
    "a rule reads the clock": Break(PURE, "manway/gas.py", "import time", "manway.gas -> time"),
    "a rule opens a database": Break(PURE, "manway/permit.py", "import sqlite3", "manway.permit -> sqlite3"),
    "a gateway brings bumble": Break(VIRTUAL, "gateway/health.py", "import bumble.device", "gateway.health -> bumble"),
    "a loop picks its own bus": Break(
        ROOTS, "gateway/uplink.py", "import manway.runtime.mqtt", "gateway.uplink -> manway.runtime.mqtt"
    ),
}


def _lint(folder: Path) -> tuple[int, str]:
    done = subprocess.run([LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_layers_hold() -> None:
    code, said = _lint(ROOT)
    assert code == 0, said


def test_every_contract_is_broken_once() -> None:
    assert {one.contract for one in BREAKS.values()} == {contract["name"] for contract in CONTRACTS}


@pytest.mark.parametrize("one", BREAKS.values(), ids=BREAKS)
def test_a_broken_contract_is_noticed(one: Break, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.toml"))
    with (tmp_path / one.module).open("a", encoding="utf-8") as module:
        module.write(f"\n{one.line}\n")
    code, said = _lint(tmp_path)
    assert code == 1, said
    assert f"{one.contract} BROKEN" in said
    assert one.finds in said
