"""The records database of an installation: one writer at a time, readers that never wait, changes whole or not at all."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from api import dialects, migrate
from api.dialects import RecordsUnavailable
from api.last_known import LastKnown

_TOUCHED = "sites whose plan may have changed"
_QUEUE_S = 10.0  # (choice) twice what one writer may have to wait for its lock in the database


class Reading(Protocol):
    """Whatever the records can be read from."""

    def look(self) -> AbstractContextManager[sa.Connection]:
        """Open a consistent read. Raises RecordsUnavailable."""
        ...


class ReadOnlyRecords:
    """The records for a process that may not change them: the signer. Nothing is brought up to date, nothing can be written."""

    def __init__(self, place: Path | str) -> None:
        """Name the database; it is opened by the first who looks. Raises RecordsUnusable for an address that is none."""
        self._read = dialects.readers(dialects.address(place))

    @contextlib.contextmanager
    def look(self) -> Iterator[sa.Connection]:
        """Open a consistent read. Raises RecordsUnavailable."""
        with _answering(), self._read.connect() as db:
            yield db

    def close(self) -> None:
        """Close every connection."""
        self._read.dispose()


class Records:
    """The records of a file, or of a PostgreSQL server by its URL. Brings the schema up to date when it opens."""

    def __init__(self, place: Path | str) -> None:
        """Open the database.

        Raises:
            RecordsUnusable: it was made by a newer program, or is no database of records; the text says what to do.
            RecordsUnavailable: it does not answer.
        """
        url = dialects.address(place)
        with _answering():
            migrate.bring_up(url)
        self._lock = threading.Lock()
        self._write, self._read = dialects.writer(url), dialects.readers(url)
        self._last, self._away, self._probe = LastKnown(), "", threading.Lock()
        self.changes: Counter[str] = Counter()
        """By site: how often something has changed that its plan is made of."""
        with _answering(), self._write.connect():
            pass  # the file is in WAL mode from here on: a reader alone could not open it

    @contextlib.contextmanager
    def change(self) -> Iterator[sa.Connection]:
        """Open the one write transaction: all of the body is committed, or nothing.

        Raises:
            RecordsUnavailable: the database is away, full or busy. If the commit itself was cut off it may have happened; what
                is asked again must be made so that twice is once.
        """
        with self._turn(), _answering(), self._write.connect() as db:
            touched: set[str] = set()
            db.info[_TOUCHED] = touched
            with db.begin():
                yield db
            self.changes.update(touched)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_QUEUE_S):
            raise RecordsUnavailable(f"other changes took longer than {_QUEUE_S:g} s")
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def look(self) -> Iterator[sa.Connection]:
        """Open a consistent read. Raises RecordsUnavailable."""
        with _answering(), self._read.connect() as db:
            yield db

    @contextlib.contextmanager
    def last_known(self) -> Iterator[sa.Connection]:
        """Open a read for what must go on while the database is away: it then answers as it last did to the same question.

        Raises:
            RecordsUnavailable: it is away, and this was never asked before.
        """
        connection = self._connected()
        if connection is None:
            yield self._last.alone(self._away)
            return
        with connection:
            yield self._last.beside(connection)

    def _connected(self) -> sa.Connection | None:
        """Return a connection to read by, or None while there is none."""
        if not self._away:
            return self._connect()
        # A server that went without a word lets everybody who asks wait. While it is away one asks, the others are answered.
        if not self._probe.acquire(blocking=False):
            return None
        try:
            return self._connect()
        finally:
            self._probe.release()

    def _connect(self) -> sa.Connection | None:
        try:
            connection = self._read.connect()
        except sa.exc.SQLAlchemyError as error:
            if not dialects.is_away(error):
                raise
            self._away = dialects.reason_of(error)
            return None
        self._away = ""
        return connection

    def close(self) -> None:
        """Close every connection."""
        self._write.dispose()
        self._read.dispose()


def touch(db: sa.Connection, site: str) -> None:
    """Note, in the change under way, that a site's plan may have to be made anew."""
    db.info.get(_TOUCHED, set()).add(site)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Tell "the database does not answer" from everything else that can go wrong."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        if not dialects.is_away(error):
            raise
        raise RecordsUnavailable(dialects.reason_of(error)) from error
