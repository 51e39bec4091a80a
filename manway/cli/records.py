"""`manway records check | backup`: looks at the records of an installation, and copies a file of them while the api runs."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from api import audit, dialects, migrate, store
from api.dialects import RecordsUnavailable, RecordsUnusable
from manway.runtime import settings

COUNTED = (store.permit_table, store.event_table, store.audit)


def place_of(named: Path) -> Path | str:
    """Return where the records are that a file of settings names; a file ending in .db is the records themselves."""
    if named.suffix == ".db":
        return named
    known = settings.load(named)
    return known.records.get_secret_value() or known.data / "records.db"


def run_check(named: Path) -> int:
    """Say what version the records have, how much is in them, and whether the audit chain is whole; changes nothing."""
    return _told(lambda: _check(place_of(named)))


def run_backup(named: Path, target: Path) -> int:
    """Copy the records' file as it is at one moment, and check the copy; the api may go on writing."""
    return _told(lambda: _backup(place_of(named), target))


def _check(place: Path | str) -> int:
    with _open(place) as db:
        version = migrate.version(db)
        rows = {table.name: db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in COUNTED}
        broken = audit.broken_at(db)
    print(f"version {version}, this program's is {migrate.head()}; " + ", ".join(f"{n} rows in {t}" for t, n in rows.items()))
    if broken is not None:
        print(
            f"the audit chain breaks at row {broken}: it was changed past the program, or damaged; keep it, and restore a copy"
        )
        return 1
    print("the audit chain is whole; that nothing was cut off its end is not proven by this")
    return 0


def _backup(place: Path | str, target: Path) -> int:
    if not isinstance(place, Path):
        raise RecordsUnusable("these records are PostgreSQL's: back them up with pg_dump -Fc, which needs no stop either")
    if target.exists():
        raise RecordsUnusable(f"{target} is there already: name a new file")
    with _open(place) as db:
        db.exec_driver_sql("COMMIT")  # VACUUM reads in a transaction of its own
        db.exec_driver_sql("VACUUM INTO ?", (str(target),))
        db.exec_driver_sql("BEGIN")
    return _check(target)


@contextlib.contextmanager
def _open(place: Path | str) -> Iterator[sa.Connection]:
    if isinstance(place, Path) and not place.is_file():
        raise RecordsUnusable(f"{place} is no file: name the api's settings, or the records' file itself")
    engine = dialects.readers(dialects.address(place))
    try:
        with engine.connect() as db:
            yield db
    finally:
        engine.dispose()


def _told(work: Callable[[], int]) -> int:
    try:
        return work()
    except (RecordsUnusable, RecordsUnavailable) as error:
        print(error, file=sys.stderr)
    except sa.exc.SQLAlchemyError as error:
        print(f"records database: {dialects.reason_of(error)}", file=sys.stderr)
    return 2
