"""Fixtures of the contract tests: a PostgreSQL server a worker, and both kinds of records database by one name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.api import seed
from tests.kit.postgres import Postgres

ON_A_SERVER = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=ON_A_SERVER)])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Path | str]:
    """Return addresses of new records databases, of the kind the test runs on: a file not yet there, or one on a server."""
    if request.param == "sqlite":
        return iter([tmp_path / "deep" / f"records{n or ''}.db" for n in range(9)]).__next__
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh


@pytest.fixture
def place(new_place: Callable[[], Path | str]) -> Path | str:
    """Return the address of one new records database."""
    return new_place()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=ON_A_SERVER)])
def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Let a desk or a bridge in the test's folder work on either kind of database, seeded."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        (tmp_path / "seed.db").write_bytes(seed().records)
        (tmp_path / "records.url").write_text(server.filled(tmp_path / "seed.db", "manway_seeded"))
