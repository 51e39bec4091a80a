"""The README's two commands in a fresh clone with an empty HOME, as somebody who has just found the project would run them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit import influx
from tests.kit.brokers import free_port
from tests.kit.demo import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "home").mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "manway")], check=True)
    return folder / "manway"


def run(clone: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    kept = ("PATH", "LANG", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    environment = {k: v for k, v in os.environ.items() if k in kept or k.startswith("PIP_")}
    environment |= {"HOME": str(clone.parent / "home")}
    if (binary := influx.cached_binary()).exists():
        environment["MANWAY_INFLUXD"] = str(binary)  # building it again would prove nothing and take minutes
    began = time.monotonic()
    done = subprocess.run(
        ["sh", "./run", *command], cwd=clone, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    sys.stdout.write(f"{' '.join(command)}: {time.monotonic() - began:.0f} s\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return done


def test_the_demo_plays_its_story_in_a_fresh_clone(clone: Path) -> None:
    done = run(clone, "demo", "--check", "--port", str(free_port()))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "The story came true" in done.stdout


def test_the_tests_run_in_a_fresh_clone(clone: Path) -> None:
    done = run(clone, "test", "tests/core/test_permit_table.py", "-n", "0")

    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_a_python_that_is_too_old_is_said_in_one_sentence(clone: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("python3.13", "python3.12", "python3.11"):
        (tmp_path / name).symlink_to(old)
    for tool in ("sh", "dirname", "cksum", "tr", "grep"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool if (Path("/usr/bin") / tool).exists() else Path("/bin") / tool)
    fresh = clone.parent / "old"
    subprocess.run(["git", "clone", "--quiet", str(clone), str(fresh)], check=True)

    done = subprocess.run(
        ["sh", "./run", "demo"],
        cwd=fresh,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.strip() == (
        "Manway needs Python 3.11 or newer; install it (Debian, Ubuntu: apt install python3 python3-venv) and try again."
    )
