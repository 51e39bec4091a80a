"""A vendor is a file: dropped into a folder or brought by another distribution it decodes without a line of code."""

import importlib
import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import msgspec
import pytest

from manway.device_profile import decode
from manway.entities import Reading
from manway.errors import ProfileInvalid
from manway.ids import Status
from manway.runtime import profiles
from manway.runtime.profiles import load_profiles
from tests.kit import profile_tables
from tests.kit.docs_tables import ROOT
from tests.kit.profiles import VENDOR

SHIPPED = sorted((ROOT / "manway" / "profiles").glob("*.toml"))


def test_a_new_vendor_is_one_file_and_no_code(tmp_path: Path) -> None:
    (tmp_path / "acme.toml").write_text(VENDOR, "utf-8")

    acme = load_profiles(tmp_path)["acme.one.v1"]

    assert decode(acme, "air", bytes.fromhex("a1092c0100")).readings == {"CO": Reading(Status.OK, 30.0)}
    assert set(load_profiles(tmp_path)) == {*load_profiles(), "acme.one.v1"}


def test_another_distribution_brings_profiles_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "acme_profiles"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.toml").write_text(VENDOR, "utf-8")
    (package / "readme.txt").write_text("not a profile")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    brought = EntryPoints([EntryPoint("acme", "acme_profiles", profiles.GROUP)])
    monkeypatch.setattr(profiles, "entry_points", lambda group: brought.select(group=group))

    assert load_profiles()["acme.one.v1"].file.model == "ACME One"


def test_a_folder_that_is_not_there_adds_nothing(tmp_path: Path) -> None:
    assert load_profiles(tmp_path / "profiles") == load_profiles()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (VENDOR.replace("acme.one.v1", "bthome.v2"), "two.toml: id: bthome.v2 is taken"),
        (
            VENDOR.replace('match = [{ company = 0xFFFF, data_prefix = "a1" }]', 'match = [{ service_uuid = "fcd2" }]'),
            "two.toml: match: bthome.v2 knows its devices by the same",
        ),
        ("id =", "two.toml: "),
    ],
)
def test_two_profiles_that_claim_one_name_or_one_device_stop_the_start(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "two.toml").write_text(text, "utf-8")

    with pytest.raises(ProfileInvalid) as caught:
        load_profiles(tmp_path)
    assert str(caught.value).startswith(said)


def test_the_published_schema_is_the_code_s_own() -> None:
    assert profile_tables.SCHEMA.read_text("utf-8") == profile_tables.schema(), "run `./run check --fix`"


def test_the_shipped_profiles_fit_the_published_schema_and_are_named_after_their_ids() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(profile_tables.SCHEMA), *map(str, SHIPPED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [msgspec.toml.decode(file.read_text("utf-8"))["id"] for file in SHIPPED] == [file.stem for file in SHIPPED]


def test_the_published_schema_finds_a_wrong_key(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(VENDOR.replace("length = 5", "size = 5"), "utf-8")

    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(profile_tables.SCHEMA), str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert done.returncode == 1
    assert "'size' was unexpected" in done.stdout


def test_every_shipped_profile_and_every_key_of_the_file_stands_on_the_page() -> None:
    text = (ROOT / "docs" / "profiles.md").read_text("utf-8")
    assert [file.stem for file in SHIPPED if f"`{file.stem}`" not in text] == []
    keys = json.loads(profile_tables.SCHEMA.read_text("utf-8"))["$defs"]
    sources = [name for name in keys["SourceRow"]["properties"] if f"`sources.{name}`" not in text]
    assert [name for name in sources if f"`{name}`" not in text] == []
    assert [name for name in keys["Field"]["properties"] if f"`{name}`" not in text] == []
    assert [name for name in keys["ProfileFile"]["properties"] if f"`{name}`" not in text] == []
