"""The wheel holds the five packages with their data, and nothing else."""

import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.kit.docs_tables import ROOT

PACKAGES = {"manway", "gateway", "api", "firmware_sim", "dashboards"}
DATA = {".html", ".css", ".js", ".svg", ".json", ".toml", ".txt"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built as an installer builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def _names(wheel: zipfile.ZipFile) -> list[str]:
    return [name for name in wheel.namelist() if ".dist-info/" not in name]


def test_its_top_level_is_the_five_packages(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in _names(wheel)} == PACKAGES


def test_every_module_and_every_data_file_is_inside(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", *DATA} and "__pycache__" not in path.parts
    }
    assert {"manway/locales/zh_CN.json", "manway/tables/limits_cn.toml", "dashboards/web/templates/wall.html"} <= wanted
    assert sorted(wanted - set(_names(wheel))) == []


def test_no_tests_and_no_documents_are_inside(wheel: zipfile.ZipFile) -> None:
    assert [name for name in _names(wheel) if "tests/" in name or "test_" in name or name.endswith(".md")] == []


def test_indexes_refuse_it_and_it_brings_one_command(wheel: zipfile.ZipFile) -> None:
    facts = {Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name}
    assert "Classifier: Private :: Do Not Upload" in facts["METADATA"]
    assert "manway = manway.cli:app" in facts["entry_points.txt"]


def test_nothing_installed_provides_a_package_of_the_same_name() -> None:
    provided = packages_distributions()
    assert {name: provided[name] for name in PACKAGES if set(provided.get(name, [])) - {"manway"}} == {}
