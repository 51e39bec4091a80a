"""X13: with the records database away, writes say so and change nothing, live pages go on, and it all resumes by itself."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from httpx2 import Response

from api import store
from api.bridge import Bridge
from api.dialects import RecordsUnavailable, is_away
from api.http import person_of
from api.last_known import LastKnown
from api.pages import _follow
from api.store import Records
from api.watchdog import Watchdog
from manway.codec_mqtt import SiteState, encode
from manway.entities import Lock, PermitState
from manway.events import AlarmRaised
from tests.contract.test_bridge import Rig, locked, play
from tests.contract.test_records import event, in_threads, permit
from tests.contract.test_stream import a_request, following, last_seq, rows_of, tell, until
from tests.kit.api import PLAN_KEY, Bench, an_api, seed
from tests.kit.builders import a_lock
from tests.kit.gateway import in_place
from tests.kit.postgres import Postgres

SERVER = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1"])]
pytestmark = SERVER


@contextlib.contextmanager
def away(server: Postgres) -> Iterator[None]:
    """The database server is stopped, every client cut off, and started again at the end."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def full(records: Records) -> Iterator[None]:
    """The disk is full: SQLite itself refuses to take one more page."""
    with records._write.connect() as db:
        pages = db.exec_driver_sql("PRAGMA page_count").scalar()
        most = db.exec_driver_sql("PRAGMA max_page_count").scalar()
        db.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    try:
        yield
    finally:
        with records._write.connect() as db:
            db.exec_driver_sql(f"PRAGMA max_page_count={most}")


@pytest.fixture
def on_a_server(postgres: Postgres, tmp_path: Path) -> Postgres:
    """Let the desk, bench or bridge of the test's folder work on PostgreSQL."""
    (tmp_path / "seed.db").write_bytes(seed().records)
    (tmp_path / "records.url").write_text(postgres.filled(tmp_path / "seed.db", "manway_seeded"))
    return postgres


@pytest.fixture
def bench(on_a_server: Postgres, tmp_path: Path) -> Iterator[Bench]:  # noqa: ARG001  it says where the records are
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


# ---- writes


def test_a_write_is_refused_with_words_and_works_again_with_its_own_key(bench: Bench, postgres: Postgres) -> None:
    one = bench.make_permit(PermitState.SUBMITTED)
    path, key = f"/api/v1/permits/{one.id}/approve", "the-key-of-this-press"
    assert bench.get("approver", "/api/v1/me").status_code == 200  # signed in before
    with away(postgres):
        refused = bench.post("approver", path, key=key)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "records_away", "5")
        assert "nothing was changed" in refused.json()["title"]
        assert bench.client.post("/api/v1/sessions", json={"account": "worker", "password": "x"}).status_code == 503
    assert bench.permit(one.id) == one
    assert bench.post("approver", path, key=key).status_code == 200
    assert bench.post("approver", path, key=key).headers["idempotent-replayed"] == "true"
    assert bench.permit(one.id).state is PermitState.APPROVED


def test_a_full_disk_refuses_writes_and_no_reads(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.db")
    with records.change() as db:
        store.put(db, "Lock", "lock-1", a_lock())

    def fill() -> None:
        with records.change() as db:
            for number in range(300):
                store.add_event(db, event(f"e{number}"))

    with full(records):
        with pytest.raises(RecordsUnavailable, match="full"):
            fill()
        with records.look() as db:
            assert (store.get(db, Lock, "lock-1"), store.last_seq(db)) == (a_lock(), 0)
    fill()
    with records.look() as db:
        assert store.last_seq(db) == 300
    records.close()


def test_a_writer_that_never_ends_does_not_hold_the_others_for_ever(place: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.records._QUEUE_S", 0.05)
    records, reasons = Records(place), list[str]()

    def second(_: str) -> None:
        try:
            with records.change():
                pass
        except RecordsUnavailable as error:
            reasons.append(error.reason)

    with records.change():
        in_threads(second, ["a", "b"])
    assert reasons == ["other changes took longer than 0.05 s"] * 2
    second("c")
    assert len(reasons) == 2
    records.close()


def test_what_is_wrong_with_the_question_is_not_the_database_s_absence(place: Path | str) -> None:
    records = Records(place)
    with pytest.raises(sa.exc.SQLAlchemyError) as caught, records.look() as db:
        db.execute(sa.text("SELECT nonsense FROM permit"))
    assert not is_away(caught.value)
    with pytest.raises(sa.exc.SQLAlchemyError) as caught, records.last_known() as db:
        db.execute(sa.select(sa.column("nonsense")).select_from(store.permit_table))
    assert not is_away(caught.value)
    records.close()


def test_a_server_cut_off_between_two_writes_is_found_again(on_a_server: Postgres) -> None:
    records = Records(on_a_server.fresh())
    with records.change() as db:
        store.add_event(db, event("a"))
    with away(on_a_server):
        pass
    with records.change() as db:
        store.add_event(db, event("b"))
    with records.look() as db:
        assert [e.id for _, e in store.events(db, lambda c: c.c.seq > 0)] == ["a", "b"]
    records.close()


def test_a_server_that_dies_in_the_middle_of_a_change_leaves_nothing_of_it(on_a_server: Postgres) -> None:
    records = Records(on_a_server.fresh())

    def cut() -> None:
        with records.change() as db:
            store.put_permit(db, permit("a"))
            on_a_server.stop()
            store.put_permit(db, permit("b", 3600, 7200))

    try:
        with pytest.raises(RecordsUnavailable):
            cut()
    finally:
        on_a_server.start()
    with records.look() as db:
        assert store.permits(db) == []
    assert records.changes == {}
    records.close()


# ---- live pages


def alarmed(bench: Bench) -> SiteState:
    """The picture that the gateway of the north is going to send: gas, told by nobody else than it."""
    calm = bench.office.pictures.state["yard-north"]
    bench.look(air={"H2S": 30.0})
    picture = bench.office.pictures.state["yard-north"]
    bench.office.pictures.take(calm)
    return picture


def test_a_page_goes_on_with_the_gateways_own_pictures(bench: Bench, postgres: Postgres) -> None:
    picture = alarmed(bench)
    assert bench.get("approver", "/api/v1/me").status_code == 200  # somebody who is signed in, and has not seen a page yet

    def wall() -> Response:
        return bench.client.get("/wall", headers=bench.headers("manager"))

    calm = wall()
    assert (calm.status_code, "Gas over its limit" in calm.text) == (200, False)
    with away(postgres):
        assert wall().status_code == 200
        bench.office.pictures.take(picture)
        assert "Gas over its limit" in wall().text
        unknown = bench.client.get("/approvals", headers=bench.headers("approver"))
        assert (unknown.status_code, unknown.json()["code"]) == (
            503,
            "records_away",
        )  # never asked: rather nothing than a guess
        assert bench.get("manager", "/api/v1/commands/x").status_code == 503  # an answer to act on comes from the records alone
    assert bench.client.get("/approvals", headers=bench.headers("approver")).status_code == 200
    assert "Gas over its limit" in wall().text


async def test_a_stream_goes_on_and_misses_no_event(bench: Bench, postgres: Postgres) -> None:
    picture = alarmed(bench)
    async with following(bench, name="wall") as stream:
        await until(stream, "rows")
        tell(bench, "a")
        first = await until(stream, "event")
        with away(postgres):
            bench.office.pictures.take(picture)
            seen = await until(stream, "rows")
            assert "Gas" in str(rows_of(seen[-1])["banner"]["worst"])  # type: ignore[index]
            seen = await until(stream, "tick", 2)
            assert {m.event for m in seen} <= {"tick", "rows"}
        tell(bench, "b")
        second = await until(stream, "event")
    assert [rows_of(m)["id"] for m in [*first, *second] if m.event == "event"] == ["a", "b"]


async def test_a_stream_that_begins_meanwhile_begins_at_what_was_known(bench: Bench, postgres: Postgres) -> None:
    newest = last_seq(bench)
    bench.office.seq = newest
    bench.pages.snapshot(a_request(bench), bench.person("manager"), "wall", {})
    person, request = bench.person("manager"), a_request(bench)
    assert person_of(request, bench.office) == person
    with away(postgres):
        stream = _follow(bench.pages, request, person, "wall", {}, newest)
        seen = await until(stream, "tick", 2)
        await stream.aclose()  # type: ignore[attr-defined]
    assert "reset" not in {m.event for m in seen}
    assert "rows" in {m.event for m in seen}


def test_while_one_asks_a_silent_server_the_others_are_answered(on_a_server: Postgres) -> None:
    records = Records(on_a_server.fresh())
    question = sa.select(store.permit_table.c.id)
    with records.change() as db:
        store.put_permit(db, permit("a"))
    with records.last_known() as db:
        assert db.execute(question).scalars().all() == ["a"]
    with away(on_a_server), records.last_known() as db:
        assert db.execute(question).scalars().all() == ["a"]
    with records.change() as db:
        store.put_permit(db, permit("b", 3600, 7200))
    with records._probe, records.last_known() as db:  # somebody is asking already
        assert db.execute(question).scalars().all() == ["a"]
    with records.last_known() as db:
        assert sorted(db.execute(question).scalars()) == ["a", "b"]
    records.close()


def test_a_connection_cut_in_the_middle_of_a_page_lets_memory_finish_it(on_a_server: Postgres) -> None:
    records = Records(on_a_server.fresh())
    known = sa.select(store.permit_table.c.id).where(store.permit_table.c.id.in_(["a", "b"]))
    unknown = sa.select(store.permit_table.c.id).where(store.permit_table.c.id.in_(["a", "c"]))
    with records.change() as db:
        store.put_permit(db, permit("a"))
    with records.last_known() as db:
        assert db.execute(known).scalars().all() == ["a"]
    with records.last_known() as db:
        db.execute(sa.select(sa.func.count()).select_from(store.permit_table))
        with away(on_a_server):
            assert db.execute(known).scalars().all() == ["a"]
            with pytest.raises(RecordsUnavailable):
                db.execute(unknown)
    records.close()


def test_memory_is_bounded_and_drops_what_was_asked_longest_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.last_known.MOST", 50)
    records = Records(tmp_path / "records.db")
    numbers = store.permit_table.c.t0
    with records.last_known() as db:
        for number in range(50):
            db.execute(sa.select(numbers).where(numbers > number))
        db.execute(sa.select(numbers).where(numbers > 0))
        for number in range(50, 55):
            db.execute(sa.select(numbers).where(numbers > number))
    alone = records._last.alone("away")
    alone.execute(sa.select(numbers).where(numbers > 0))
    alone.execute(sa.select(numbers).where(numbers > 50))
    for forgotten in (1, 5):
        with pytest.raises(RecordsUnavailable, match="away"):
            alone.execute(sa.select(numbers).where(numbers > forgotten))
    records.close()


def test_only_questions_can_be_remembered() -> None:
    with pytest.raises(TypeError, match="no question that can be remembered"):
        LastKnown().alone("away").execute(sa.select(_Odd()))


class _Odd(sa.ColumnElement[int]):
    """A part of a statement that SQLAlchemy cannot tell from another of its kind."""

    inherit_cache = False


# ---- bridge and watchdog


def test_a_bridge_outlives_an_outage_and_takes_up_where_it_stood(on_a_server: Postgres, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.look()
        picture, before = encode(rig.office.pictures.state["yard-north"]), len(rig.in_log())
        await rig.send(1, locked("a"))
        assert rig.acks == [1]
        with away(on_a_server):
            for _ in range(3):  # the gateway sends again what nobody answers
                await rig.send(2, locked("b"), locked("c"))
            await asyncio.sleep(40)
            assert rig.acks == [1]
            rig.office.pictures.state.clear()
            await rig.raw("gw/state", picture)
            await rig.beat()
            assert "yard-north" in rig.office.pictures.state
            assert rig.office.pictures.age_s("yard-north", rig.now()) == pytest.approx(0.01)
        await asyncio.sleep(6)
        assert rig.acks == [1, 1]  # back: this far, go on from there
        await rig.send(2, locked("b"), locked("c"))
        assert (rig.acks[-1], [k for k in rig.in_log()[before:] if len(k) == 1]) == (3, ["a", "b", "c"])
        rig.make_permit(PermitState.APPROVED)
        await asyncio.sleep(2)
        assert len(rig.plans()) >= 2

    play(tmp_path, scenario)


def test_a_bridge_acknowledges_nothing_while_the_disk_is_full(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(1, locked("a"))
        many = [locked(f"b{n}") for n in range(60)]
        with full(rig.records):
            for _ in range(4):
                await rig.send(2, *many)
                await asyncio.sleep(6)  # the records seem to be back, and fail again at the next commit
            assert set(rig.acks) == {1}
            assert [e.id for e in rig.events("LockLocked")] == ["a"]
        await asyncio.sleep(6)
        await rig.send(2, *many)
        assert rig.acks[-1] == 61

    play(tmp_path, scenario)


def test_a_bridge_that_starts_without_its_records_waits_for_them(on_a_server: Postgres, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(1, locked("a"))
        bus = rig.broker.bus("api-2", [])
        bridge = Bridge(rig.office, bus, PLAN_KEY, ["yard-north"], in_place, rig.signer)
        async with asyncio.TaskGroup() as group:
            with away(on_a_server):
                task = group.create_task(bridge.run())
                await asyncio.sleep(10)
                assert not task.done()
            await asyncio.sleep(6)
            assert rig.office.seq == len(rig.in_log())
            task.cancel()

    play(tmp_path, scenario)


def test_a_watchdog_looks_again_when_they_are_back(on_a_server: Postgres, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        dog = Watchdog(rig.office, ["yard-north"], in_place)
        async with asyncio.TaskGroup() as group:
            with away(on_a_server):
                task = group.create_task(dog.run())
                await asyncio.sleep(10)
                assert not task.done()
            await asyncio.sleep(10)
            assert [e.kind for e in rig.events("AlarmRaised") if isinstance(e, AlarmRaised)][-1] == "GATEWAY_LOST"
            task.cancel()

    play(tmp_path, scenario)


@pytest.mark.usefixtures("on_a_server")
def test_a_text_that_the_database_cannot_hold_stops_nobody_else(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(1, locked("a\0b"))
        assert rig.acks == []
        await rig.send(1, locked("a"), jid="j2")
        assert rig.acks == [1]

    play(tmp_path, scenario)


def test_an_account_that_no_database_can_hold_is_not_valid(bench: Bench) -> None:
    answer = bench.client.post("/api/v1/sessions", json={"account": "a\0b", "password": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
