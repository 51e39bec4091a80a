"""`manway records`: it says what is so, copies what is there, and changes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api import audit, migrate, store
from api.store import Records
from manway.cli import app
from tests.contract.test_audit import tamper
from tests.contract.test_records import event


def manway(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["records", *map(str, words)])
    return done.exit_code, done.output


@pytest.fixture
def records(place: Path | str) -> Records:
    records = Records(place)
    with records.change() as db:
        store.add_event(db, event("a"))
        for n in range(3):
            audit.append(db, 1000.0 + n, "p1", "PermitApproved", f"permit-{n}")
    return records


@pytest.fixture
def named(place: Path | str, tmp_path: Path) -> Path:
    """Settings of an api whose records these are."""
    file = tmp_path / "api.toml"
    where = f'data = "{place.parent}"' if isinstance(place, Path) else f'data = "{tmp_path}"\nrecords = "{place}"'
    file.write_text(f'{where}\nsites = ["yard"]\n')
    return file


def test_records_in_order_are_said_to_be(records: Records, named: Path) -> None:
    code, said = manway("check", named)
    assert code == 0
    assert (
        f"version {migrate.head()}, this program's is {migrate.head()}; 0 rows in permit, 1 rows in event, 3 rows in audit"
        in said
    )
    assert "the audit chain is whole; that nothing was cut off its end is not proven" in said
    records.close()


def test_a_changed_chain_is_named_by_its_row(records: Records, named: Path, place: Path | str) -> None:
    tamper(place, "UPDATE audit SET body = prev WHERE seq = 2")
    code, said = manway("check", named)
    assert (code, "the audit chain breaks at row 2" in said) == (1, True)
    records.close()


def test_a_copy_is_made_while_the_api_writes(records: Records, named: Path, place: Path | str, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with records.change() as db:
        store.add_event(db, event("b"))
        code, said = manway("backup", named, target)
    if isinstance(place, Path):
        assert (code, "1 rows in event" in said) == (0, True)  # as it was before the change under way
        copy = Records(target)
        with copy.look() as db:
            assert [e.id for _, e in store.events(db, lambda c: c.c.seq > 0)] == ["a"]
        copy.close()
        code, said = manway("backup", named, target)
        assert (code, "is there already: name a new file" in said) == (2, True)
    else:
        assert (code, "back them up with pg_dump" in said, target.exists()) == (2, True, False)
    records.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "absent.db", "is no file: name the api's settings"),
        (lambda path: _written(path / "torn.db", b"SQLite format 3\x00" + b"\xff" * 4096), "records database: "),
        (lambda path: _written(path / "foreign.toml", b'data = "/nowhere"\nsites = []\n'), "is no file"),
        (lambda path: _written(path / "o.toml", b'data = "x"\nsites = []\nrecords = "mysql://x"\n'), "setting `records`"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_says_why(make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    code, said = manway("check", make(tmp_path))
    assert code == 2
    assert words in said


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
