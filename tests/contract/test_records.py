"""The records: what the database itself refuses, what two at once may do, and that what is put in comes out."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from api import dialects, store
from api.auth import Account
from api.dialects import RecordsUnavailable
from api.office import UnlockRequest
from api.store import Records
from manway.entities import Instrument, Lock, Permit, PermitState, Person, SiteEntry, Space
from manway.events import AlarmAcknowledged, GrantUsed, LockLocked, PermitApproved
from manway.permit import HOLDING
from tests.kit.builders import a_lock, a_permit, a_space, an_instrument
from tests.kit.clock import EPOCH


@pytest.fixture
def records(place: Path | str) -> Iterator[Records]:
    records = Records(place)
    yield records
    records.close()


def permit(
    key: str, start: float = 0, end: float = 3600, state: PermitState = PermitState.APPROVED, space: str = "n01"
) -> Permit:
    made = a_permit(key, state=state, start=EPOCH + start, end=EPOCH + end, space=space)
    return msgspec.structs.replace(made, number=f"n-{key}")


def keep(records: Records, *permits: Permit) -> None:
    with records.change() as db:
        for value in permits:
            store.put_permit(db, value)


# ---- one space, one permit


@pytest.mark.parametrize(("start", "end"), [(0, 3600), (-1, 1), (3599, 7200), (600, 1200), (-600, 9000), (0, 1), (3599, 3600)])
def test_two_permits_that_overlap_are_refused_by_the_database(start: float, end: float, records: Records) -> None:
    keep(records, permit("a"))
    with pytest.raises(sa.exc.IntegrityError, match="permit_overlap"):
        keep(records, permit("b", start, end))
    with records.look() as db:
        assert [p.id for p in store.permits(db)] == ["a"]


@pytest.mark.parametrize(("start", "end"), [(3600, 7200), (-3600, 0), (9000, 9600)])
def test_permits_that_touch_or_stand_apart_pass(start: float, end: float, records: Records) -> None:
    keep(records, permit("a"), permit("b", start, end))


def test_another_space_is_another_matter(records: Records) -> None:
    keep(records, permit("a"), permit("b", space="n02"))


@pytest.mark.parametrize("state", [s for s in PermitState if s not in HOLDING])
def test_a_permit_that_holds_nothing_is_in_nobody_s_way(state: PermitState, records: Records) -> None:
    keep(records, permit("a", state=state), permit("b"))


@pytest.mark.parametrize("state", [s for s in PermitState if s in HOLDING])
def test_every_holding_state_holds(state: PermitState, records: Records) -> None:
    keep(records, permit("a", state=state), permit("b", state=PermitState.SUBMITTED))
    with pytest.raises(sa.exc.IntegrityError, match="permit_overlap"):
        keep(records, permit("b"))


def test_a_permit_may_be_extended_into_free_time_only(records: Records) -> None:
    keep(records, permit("a"), permit("b", 7200, 9000))
    keep(records, permit("a", 0, 7200, PermitState.ACTIVE))
    with pytest.raises(sa.exc.IntegrityError, match="permit_overlap"):
        keep(records, permit("a", 0, 7201, PermitState.ACTIVE))


def test_two_permits_never_share_a_number(records: Records) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="number"):
        keep(records, a_permit("a", state=PermitState.DRAFT), a_permit("b", state=PermitState.DRAFT))


def test_of_two_approvals_at_once_one_wins(records: Records) -> None:
    keep(records, *(permit(k, state=PermitState.SUBMITTED) for k in ("a", "b")))
    start, results = threading.Barrier(2), dict[str, str]()

    def approve(key: str) -> None:
        start.wait()
        try:
            keep(records, permit(key))
            results[key] = "approved"
        except sa.exc.IntegrityError as error:
            results[key] = "overlaps" if "permit_overlap" in str(error.orig) else str(error.orig)

    for _ in range(20):
        in_threads(approve, ["a", "b"])
        assert sorted(results.values()) == ["approved", "overlaps"]
        with records.look() as db:
            assert [p.state for p in store.permits(db, state="approved")] == [PermitState.APPROVED]
        keep(records, *(permit(k, state=PermitState.SUBMITTED) for k in ("a", "b")))


def test_writers_of_many_threads_queue_and_lose_nothing(records: Records) -> None:
    def write(key: str) -> None:
        for number in range(20):
            with records.change() as db:
                assert store.add_event(db, event(f"{key}-{number}")) is not None

    in_threads(write, list("abcdef"))
    with records.look() as db:
        assert store.last_seq(db) == 120
        assert len(store.events(db, lambda c: c.c.seq > 0, most=500)) == 120


def in_threads(work: Callable[[str], None], keys: list[str]) -> None:
    threads = [threading.Thread(target=work, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_reader_sees_one_moment(records: Records) -> None:
    keep(records, permit("a"))
    with records.look() as db:
        assert len(store.permits(db)) == 1
        keep(records, permit("b", 3600, 7200))
        assert len(store.permits(db)) == 1
    with records.look() as db:
        assert len(store.permits(db)) == 2


def test_a_change_is_all_or_nothing(records: Records) -> None:
    def undone() -> None:
        with records.change() as db:
            store.put_permit(db, permit("a"))
            store.add_event(db, event("e1"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    with records.look() as db:
        assert (store.permits(db), store.last_seq(db)) == ([], 0)


# ---- the log


def event(key: str, at: float = EPOCH) -> LockLocked:
    return LockLocked(id=key, at=at, site="yard-north", lock="lock-1", space="n01")


def test_an_event_stands_in_the_log_once(records: Records) -> None:
    with records.change() as db:
        assert [store.add_event(db, event(k)) for k in ("a", "b", "a")] == [1, 2, None]
        assert store.add_event(db, event("b", at=0.0)) is None  # the first word stands
    with records.look() as db:
        assert store.events(db, lambda c: c.c.seq > 0) == [(1, event("a")), (2, event("b"))]
        assert store.last_seq(db) == 2


def test_a_row_number_is_never_used_twice(records: Records) -> None:
    """A page that resumes after the last id must not be told that nothing is new."""
    with records.change() as db:
        store.add_event(db, event("a"))
        store.add_event(db, event("b"))
        db.execute(store.event_table.delete().where(store.event_table.c.id == "b"))
        assert store.add_event(db, event("c")) == 3


def test_events_are_found_by_what_they_are_about(records: Records) -> None:
    named = {"at": EPOCH, "site": "yard-north", "cause": "c1"}
    approved = PermitApproved(id="1", **named, permit="p-1", space="n01", by="p03")  # type: ignore[arg-type]
    seen = AlarmAcknowledged(id="2", **named, alarm="a-1", kind="GAS_LOW", object="gas-1/H2S", space="n01", by="p02")  # type: ignore[arg-type]
    used = GrantUsed(id="3", **named, lock="lock-1", space="n01", grant="00", kind=2)  # type: ignore[arg-type]
    with records.change() as db:
        for value in (approved, seen, used):
            store.add_event(db, value)
    with records.look() as db:
        for value, subject in ((approved, "p-1"), (seen, "a-1"), (used, "lock-1")):
            assert [e for _, e in store.events(db, lambda c, s=subject: c.c.subject == s)] == [value]  # type: ignore[misc]
        assert len(store.events(db, lambda c: c.c.space == "n01")) == 3
        assert [n for n, _ in store.events(db, lambda c: c.c.cause == "c1", most=2, newest=True)] == [3, 2]
        assert [n for n, _ in store.events(db, lambda c: c.c.type == "GrantUsed")] == [3]


# ---- documents


@pytest.mark.parametrize(
    "value",
    [
        Person("p01", 2**63, {"zh-CN": "张伟", "en": "Zhang Wei"}, ["worker"]),
        Account("worker", "p01", "$argon2id$"),
        a_space(),
        Lock("lock-1", b"\x00\xff" * 4, bytes(range(32)), "n01"),
        an_instrument(),
        SiteEntry("yard-north", {"en": "North"}),
        UnlockRequest("u1", "p1", "n01", "yard-north", "lock-1", 2, "p02"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_document_comes_out_as_it_went_in(value: msgspec.Struct, records: Records) -> None:
    kind = type(value)
    with records.change() as db:
        store.put(db, kind.__name__, "k", value, site="yard-north")
        store.put(db, kind.__name__, "j", value, site="yard-south")
    with records.look() as db:
        assert store.get(db, kind, "k") == value
        assert store.get(db, kind, "absent") is None
        assert store.every(db, kind) == [value, value]
        assert store.every(db, kind, site="yard-south") == [value]
        assert store.every(db, kind, site="elsewhere") == []


def test_a_document_is_replaced_by_its_successor(records: Records) -> None:
    with records.change() as db:
        store.put(db, "Space", "n01", a_space(), site="yard")
        store.put(db, "Space", "n01", a_space(depth_m=9.0), site="yard-south")
    with records.look() as db:
        found = store.get(db, Space, "n01")
        assert found is not None
        assert found.depth_m == 9.0
        assert store.every(db, Space, site="yard") == []
        assert store.get(db, Instrument, "n01") is None  # another kind may have the same id


def test_a_permit_comes_out_as_it_went_in(records: Records) -> None:
    values = [permit("a"), permit("b", 3600, 7200, PermitState.READY), permit("c", space="n02")]
    keep(records, *values)
    with records.look() as db:
        assert store.permits(db) == values
        assert store.permits(db, space="n01", state="ready") == [values[1]]
        assert store.permits(db, id="c") == [values[2]]
        assert store.permits(db, site="elsewhere") == []


def test_the_records_outlive_the_process(place: Path | str) -> None:
    for _ in range(2):
        records = Records(place)
        with records.change() as db:
            store.put(db, "Lock", "lock-1", a_lock())
            store.add_event(db, event("a"))
        records.close()
    records = Records(place)
    with records.look() as db:
        assert (store.get(db, Lock, "lock-1"), store.last_seq(db)) == (a_lock(), 1)
    records.close()


def test_every_connection_is_set_to_lose_nothing(records: Records) -> None:
    with records.change() as write, records.look() as read:
        if write.dialect.name == "sqlite":
            wanted: dict[str, object] = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
            for db in (write, read):
                assert {name: db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted
        else:
            wanted = {"synchronous_commit": "on", "lock_timeout": "5s", "statement_timeout": "30s"}
            for db, level in ((write, "read committed"), (read, "repeatable read")):
                found = {name: db.exec_driver_sql(f"SHOW {name}").scalar() for name in [*wanted, "transaction_isolation"]}
                assert found == wanted | {"transaction_isolation": level}


def test_a_reader_writes_nothing(records: Records) -> None:
    def writes() -> None:
        with records.look() as db:
            store.put(db, "Lock", "lock-1", a_lock())

    with pytest.raises((RecordsUnavailable, sa.exc.InternalError), match=r"readonly database|read-only transaction"):
        writes()


# ---- one log


def test_a_page_that_resumes_misses_nothing_that_is_committed_late(records: Records) -> None:
    """A row number is given at the insert and seen at the commit; a second writer must not overtake the first in between."""
    inserted, overtaken = threading.Event(), threading.Event()

    def slow() -> None:
        with records.change() as db:
            store.add_event(db, event("slow"))
            inserted.set()
            assert not overtaken.wait(0.3)

    def quick() -> None:
        inserted.wait()
        with second_writer(records) as db:
            store.add_event(db, event("quick"))
        overtaken.set()

    threads = [threading.Thread(target=work) for work in (slow, quick)]
    for thread in threads:
        thread.start()
    inserted.wait()
    seen, until = [(0, "")], time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < until:
        with records.look() as db:
            behind = seen[-1][0]
            rows = db.execute(
                sa.select(store.event_table.c.seq, store.event_table.c.id).where(store.event_table.c.seq > behind)
            )
            seen += [(row.seq, row.id) for row in rows]
    for thread in threads:
        thread.join()
    assert [key for _, key in seen[1:]] == ["slow", "quick"]


@contextlib.contextmanager
def second_writer(records: Records) -> Iterator[sa.Connection]:
    """Another process's change: not held back by ours within this one."""
    engine = dialects.writer(records._write.url)
    try:
        with engine.begin() as db:
            yield db
    finally:
        engine.dispose()


def test_an_event_that_stands_already_costs_no_order(records: Records) -> None:
    with records.change() as db:
        assert store.add_event(db, event("a")) == 1
    for key in ("a", "b", "b", "a", "c"):
        with records.change() as db:
            store.add_event(db, event(key))
    with records.look() as db:
        rows = store.events(db, lambda c: c.c.seq > 0)
    assert [e.id for _, e in rows] == ["a", "b", "c"]
    assert [seq for seq, _ in rows] == sorted(seq for seq, _ in rows)


# ---- linked work


def test_work_that_is_linked_as_simultaneous_may_share_a_space(records: Records) -> None:
    with records.change() as db:
        store.put_permit(db, permit("a"))
        store.put_permit(db, permit("b", 600, 900), linked_to="a")
        store.put_permit(db, permit("c", 700, 1200), linked_to="a")
    with pytest.raises(sa.exc.IntegrityError, match="permit_overlap"):
        keep(records, permit("d", 600, 900))
    keep(records, permit("b", 600, 1200, PermitState.ACTIVE))  # its link stays with it
    keep(records, permit("a", 0, 3600, PermitState.CLOSED), permit("d"))
    with records.look() as db:
        links = db.execute(sa.select(store.permit_table.c.id, store.permit_table.c.linked_to)).all()
    assert {(row.id, row.linked_to) for row in links} == {("a", None), ("b", "a"), ("c", "a"), ("d", None)}


# ---- what a plan is made of


def test_only_what_a_plan_is_made_of_makes_one_anew(records: Records) -> None:
    def counted(change: Callable[[sa.Connection], object]) -> dict[str, int]:
        before = records.changes.copy()
        with records.change() as db:
            change(db)
        return dict(records.changes - before)

    assert counted(lambda db: store.put(db, "Space", "n01", a_space(), site="north")) == {"north": 1}
    assert counted(lambda db: store.put(db, "Space", "n01", a_space(), site="south")) == {"north": 1, "south": 1}
    assert counted(lambda db: store.put_permit(db, permit("a"))) == {"yard": 1}
    assert counted(lambda db: store.add_event(db, event("e"))) == {}
    assert counted(lambda db: store.put(db, "Person", "p01", Person("p01", 1, {}, []), site="north")) == {}
    with contextlib.suppress(ZeroDivisionError), records.change() as db:
        store.put(db, "Lock", "lock-1", a_lock(), site="north")
        raise ZeroDivisionError
    assert records.changes == {"north": 2, "south": 1, "yard": 1}
