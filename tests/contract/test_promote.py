"""`manway promote`: the next key takes the current one's place, nothing is lost on the way, and nobody does it by accident."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manway.cli import app
from manway.runtime.signing import load_key, load_public_key


def manway(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def site(tmp_path: Path) -> Path:
    manway("init", tmp_path / "site", "--local")
    return tmp_path / "site"


def kids(site: Path, name: str) -> tuple[str, str]:
    secrets = site / "secrets"
    return load_key(secrets / f"{name}.key").kid.hex(), load_key(secrets / f"{name}-next.key").kid.hex()


@pytest.mark.parametrize(("role", "name"), [("issuer", "issuer"), ("emergency", "site")])
def test_the_next_key_becomes_the_current_one_and_another_is_prepared(role: str, name: str, site: Path) -> None:
    before, inode = kids(site, name), (site / "secrets" / f"{name}.key").stat().st_ino
    assert before[1] in manway("promote", site, role, "--every-lock-has-it")
    after = kids(site, name)
    assert after[0] == before[1]
    assert len({*before, *after}) == 3
    assert (site / "secrets" / f"{name}.key").stat().st_ino == inode  # a container sees its mounted file by that
    for which in (name, f"{name}-next"):
        path = site / "secrets" / f"{which}.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        assert load_public_key(path.with_suffix(".pub")) == load_key(path).public_key


def test_an_interrupted_attempt_is_carried_on(site: Path) -> None:
    secrets = site / "secrets"
    following = kids(site, "issuer")[1]
    (secrets / "issuer.key").chmod(0o600)
    (secrets / "issuer.key").write_bytes((secrets / "issuer-next.key").read_bytes())  # the power failed here
    manway("promote", site, "issuer", "--every-lock-has-it")
    assert kids(site, "issuer")[0] == following != kids(site, "issuer")[1]


def test_nobody_loses_a_lock_by_accident(site: Path, tmp_path: Path) -> None:
    before = kids(site, "issuer")
    assert "enrolled anew" in manway("promote", site, "issuer", code=2)
    assert "issuer and emergency" in manway("promote", site, "plan", "--every-lock-has-it", code=2)
    assert "is no installation" in manway("promote", tmp_path, "issuer", "--every-lock-has-it", code=2)
    assert kids(site, "issuer") == before
    (site / "secrets" / "issuer-next.key").unlink()
    assert "missing" in manway("promote", site, "issuer", "--every-lock-has-it", code=2)
