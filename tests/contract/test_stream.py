"""The live stream: nothing lost, nothing twice, a tick every second, and no more than its page would show."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.sse import ServerSentEvent

from api import auth, store
from api.http import COOKIE
from api.pages import _follow
from api.rights import RIGHTS
from manway.entities import PermitState
from manway.events import LockLocked
from tests.kit.api import LOCK, PEOPLE, SPACE, Bench, an_api

VIEWS = {"worker": "/worker", "approvals": "/approvals", "attendant": "/attendant", "wall": "/wall", "space": "/spaces/{space}"}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        bench.look()
        yield bench


def a_request(bench: Bench, account: str = "manager", token: str = "") -> Request:
    headers = [(b"authorization", f"Bearer {token or bench.token(account)}".encode()), (b"accept-language", b"en")]
    return Request({"type": "http", "method": "GET", "path": "/api/v1/stream", "headers": headers, "query_string": b""})


def tell(bench: Bench, *names: str) -> None:
    """Events arrive and are committed, as by the bridge."""
    bench.add_events(*(LockLocked(id=n, at=bench.now(), site="yard-north", lock=LOCK, space=SPACE) for n in names))
    bench.office.news.set()
    bench.office.news = asyncio.Event()


def last_seq(bench: Bench) -> int:
    with bench.records.look() as db:
        return store.last_seq(db)


@contextlib.asynccontextmanager
async def following(
    bench: Bench, after: int | None = None, name: str = "wall", account: str = "manager", token: str = "", **args: str
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """A stream from a position, by default the newest."""
    start = last_seq(bench) if after is None else after
    stream = _follow(bench.pages, a_request(bench, account, token), bench.person(account), name, args, start)
    try:
        yield stream
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


async def until(stream: AsyncIterator[ServerSentEvent], name: str, count: int = 1) -> list[ServerSentEvent]:
    """Everything up to the `count`-th message of a name."""
    seen: list[ServerSentEvent] = []
    async for message in stream:
        seen.append(message)
        if sum(m.event == name for m in seen) == count:
            break
    return seen


def rows_of(message: ServerSentEvent) -> dict[str, object]:
    assert message.raw_data is not None
    return json.loads(message.raw_data)  # type: ignore[no-any-return]


async def test_every_event_of_the_log_is_sent_once_in_order_under_its_row_number(bench: Bench) -> None:
    start = last_seq(bench)
    async with following(bench) as stream:
        await until(stream, "rows")
        tell(bench, "a", "b")
        tell(bench, "c")
        seen = [m for m in await until(stream, "event", 3) if m.event == "event"]
    assert [(m.id, rows_of(m)["id"]) for m in seen] == [(str(start + n), key) for n, key in enumerate("abc", 1)]
    first = rows_of(seen[0])
    assert (first["type"], first["seq"], first["space"]) == ("lock.locked", start + 1, SPACE)
    assert first["text"] == "lock-n04 locked"


async def test_a_stream_goes_on_behind_the_last_id_it_gave(bench: Bench) -> None:
    tell(bench, "a", "b", "c", "d")
    newest = last_seq(bench)
    async with following(bench, newest - 2) as stream:
        seen = [rows_of(m)["id"] for m in await until(stream, "tick") if m.event == "event"]
    assert seen == ["c", "d"]
    async with following(bench, newest) as stream:
        assert not [m for m in await until(stream, "tick") if m.event == "event"]


async def test_a_long_absence_is_replayed_whole(bench: Bench) -> None:
    start = last_seq(bench)
    tell(bench, *(f"e{n}" for n in range(1100)))
    async with following(bench, start) as stream:
        seen = [int(str(m.id)) for m in await until(stream, "event", 1100) if m.event == "event"]
    assert seen == list(range(start + 1, start + 1101))


async def test_a_page_that_followed_another_log_is_told_to_begin_anew(bench: Bench) -> None:
    async with following(bench, last_seq(bench) + 5) as stream:
        assert "reset" in [m.event for m in await until(stream, "tick")]
        tell(bench, "a")
        assert [rows_of(m)["id"] for m in await until(stream, "event") if m.event == "event"] == ["a"]


async def test_only_events_carry_an_id(bench: Bench) -> None:
    """Rows and ticks must leave Last-Event-ID alone."""
    async with following(bench) as stream:
        seen = await until(stream, "tick", 2)
    assert {m.id for m in seen} == {None}


async def test_a_tick_every_second_tells_the_time_the_position_and_every_gateway_s_age(bench: Bench) -> None:
    bench.wait(2.5)
    bench.office.pictures.heard_at.pop("yard-south")
    async with following(bench) as stream:
        seen = await until(stream, "tick", 3)
    ticks = [rows_of(m) for m in seen if m.event == "tick"]
    assert ticks[0] == {"now": bench.now(), "seq": last_seq(bench), "gateways": [["yard-north", 2500], ["yard-south", None]]}
    assert ticks == [ticks[0]] * 3


async def test_rows_are_complete_at_first_and_then_sent_only_when_something_changed(bench: Bench) -> None:
    async with following(bench) as stream:
        first = await until(stream, "tick", 3)
        assert sum(m.event == "rows" for m in first) == 1
        (rows,) = [rows_of(m) for m in first if m.event == "rows"]
        assert set(rows) == {"data", "banner"}
        tiles = rows["data"]["tiles"]  # type: ignore[index]
        assert {t["id"] for t in tiles} == {f"{s}0{n}" for s in "ns" for n in range(1, 7)}
        bench.wait(1)
        bench.look(air={"H2S": 9.0})
        later = [rows_of(m) for m in await until(stream, "rows")]
        assert "Gas" in str(later[-1]["banner"]["worst"])  # type: ignore[index]


async def test_a_stream_shows_what_its_page_shows(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    async with following(bench, name="attendant", account="attendant", permit=permit.id) as stream:
        shown = rows_of((await until(stream, "rows"))[-1])
    _, data, banner = bench.pages.snapshot(a_request(bench, "attendant"), bench.person("attendant"), "attendant", {})
    assert shown == json.loads(json.dumps({"data": data, "banner": banner}))


async def test_signing_out_ends_the_stream(bench: Bench) -> None:
    async with following(bench) as stream:
        await until(stream, "rows")
        with bench.records.change() as db:
            auth.close_session(db, bench.token("manager"))
        seen = await until(stream, "bye")
        assert rows_of(seen[-1]) == {"reason": "signed out"}
        assert [m async for m in stream] == []


async def test_an_open_stream_is_no_activity(bench: Bench) -> None:
    async with following(bench, account="worker") as stream:
        await until(stream, "tick")
        bench.wait(auth.IDLE_S + 1)
        assert (await until(stream, "bye"))[-1].event == "bye"


# ---- the way in


def statuses(bench: Bench, account: str, query: str) -> tuple[int, str]:
    """Begin a stream and leave it at its first line; (status, that line)."""
    with bench.client.stream("GET", f"/api/v1/stream{query}", headers=bench.headers(account)) as answer:
        if answer.status_code == 200:
            return 200, next(answer.iter_lines())
        answer.read()
        return answer.status_code, answer.headers["content-type"]


@pytest.mark.parametrize("account", PEOPLE)
@pytest.mark.parametrize("view", VIEWS)
def test_who_may_not_see_a_page_may_not_follow_it(view: str, account: str, bench: Bench) -> None:
    allowed = RIGHTS[f"GET {VIEWS[view]}"].allows(bench.person(account))
    status, said = statuses(bench, account, f"?view={view}&space={SPACE}")
    assert (status, said) == ((200, ": live") if allowed else (403, "application/problem+json"))


@pytest.mark.parametrize("query", ["?view=login", "?view=", "?view=space&space=n99", "?view=alarm&alarm=x", "?view=space"])
def test_a_view_of_nothing_is_not_found(query: str, bench: Bench) -> None:
    assert statuses(bench, "manager", query) == (404, "application/problem+json")


def test_a_stranger_is_refused_before_anything_is_sent(bench: Bench) -> None:
    answer = bench.client.get("/api/v1/stream")
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in")
    bench.client.cookies.set(COOKIE, "forged")
    assert bench.client.get("/api/v1/stream").status_code == 401


def ids(bench: Bench, query: str, last: str | None, count: int) -> list[int]:
    """The ids of the first events of a stream over HTTP."""
    headers = bench.headers("manager") | ({} if last is None else {"last-event-id": last})
    with bench.client.stream("GET", f"/api/v1/stream{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert "content-security-policy" in answer.headers
        found: list[int] = []
        for line in answer.iter_lines():
            if line.startswith("id: "):
                found.append(int(line[4:]))
            if len(found) == count or line == "event: tick":
                return found
    return found


def test_the_larger_of_both_positions_counts(bench: Bench) -> None:
    newest = last_seq(bench)
    assert newest > 10
    assert ids(bench, f"?after={newest - 3}", None, 9) == [newest - 2, newest - 1, newest]
    assert ids(bench, f"?after={newest - 3}", str(newest - 1), 9) == [newest]
    assert ids(bench, f"?after={newest}", str(newest - 3), 9) == []
    assert ids(bench, "?after=0", None, 3) == [1, 2, 3]
    bench.office.seq = newest
    assert ids(bench, "", None, 9) == []


@pytest.mark.parametrize("position", ["-1", "x", "²", "1e3", "9" * 30, ""])
def test_a_position_that_is_none_counts_for_nothing(position: str, bench: Bench) -> None:
    bench.office.seq = last_seq(bench) - 1
    assert ids(bench, f"?after={position}", None, 9) == [last_seq(bench)]


def test_torn_frames_are_counted_beside_the_pages(bench: Bench) -> None:
    bench.pages.count_torn()
    row = bench.get("manager", f"/api/v1/spaces/{SPACE}/ledger").json()["items"][0]
    assert (row["device"], row["received"], row["torn"], row["stored"]) == ("gas-n04", 1, 0, 0)
