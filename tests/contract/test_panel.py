"""The gateway's own emergency page opens a real lock for rescue whatever else is so, and alarms before anything else."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.panel_code import is_right, load_code
from manway.codec_mqtt import encode
from manway.commands import OpenForRescue, WriteGrant
from manway.entities import LockFlag, PermitState
from manway.errors import ProfileInvalid
from manway.events import GrantUsed, MessageRejected, RescueAsked
from manway.ids import GrantKind
from manway.inputs import CommandReceived, FrameReceived
from manway.runtime.ports import Message
from manway.runtime.secrets import new_code
from manway.runtime.texts import clock_text
from manway.topics import device_topic, root
from tests.kit.builders import Desk, a_frame, a_permit, a_space, an_instrument
from tests.kit.clock import EPOCH, VirtualLoop
from tests.kit.locks import SITE
from tests.kit.rescue import CODE, SITE_ID, THE_LOCK, RescueSite, a_rescue_site, request, rescue_plan

Scenario = Callable[[RescueSite], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with a_rescue_site(tmp_path) as site:
                await scenario(site)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())

    return run


async def until(site: RescueSite, stage: str, within_s: float = 5.0) -> None:
    """Wait until the rescue has come so far."""
    for _ in range(int(within_s / 0.05)):
        if site.desk.flows and site.stage == stage:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{site.stage}, not {stage}, after {within_s} s")


# -- it opens, and alarms first --------------------------------------------------------------------------------------------


def test_it_opens_and_the_siren_sounds_before_the_lock_is_asked(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        answer = await site.ask()
        assert (answer.status, answer.headers["location"]) == (303, f"/rescue?site={SITE_ID}&lock={THE_LOCK}")
        await until(site, "opened")
        assert site.siren.broker_had["EMERGENCY_OPEN"] == 0  # nothing had been sent to the lock by then
        assert site.siren.sent == ["hello", "grant"]
        (used,) = [e for e in site.siren.shown if isinstance(e, GrantUsed)]
        assert used.kind == GrantKind.EMERGENCY
        assert "The lock reports: OPEN" in await site.page()
        assert "锁报告：已打开" in await site.page(lang="zh-CN")

    play(scenario)


async def _first_batch(site: RescueSite) -> AsyncIterator[Message]:
    async for batch in site.api.batches():
        for message in batch.messages:
            yield message
        return


def test_every_step_is_in_the_journal_and_goes_to_the_api(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.ask(code="")
        await until(site, "opened")
        await asyncio.sleep(1)
        commands = [item.command for item in site.given() if isinstance(item, CommandReceived)]
        asked, written = commands
        assert isinstance(asked, OpenForRescue)
        assert isinstance(written, WriteGrant)
        assert (asked.by, asked.coded, written.kind) == ("“Li Wei”", False, GrantKind.EMERGENCY)
        told = b"".join([m.payload async for m in _first_batch(site)])
        for word in (b"RescueAsked", b"EMERGENCY_OPEN", b"GrantUsed"):
            assert word in told

    play(scenario)


def a_p1(site: RescueSite) -> None:
    site.host.engine.receive([FrameReceived(a_frame(at=site.clock.now(), h2s_ppm=300.0))], site.clock.now())


def somebody_inside(site: RescueSite) -> None:
    site.host.engine.receive([Desk().enter("ann", site.clock.now())], site.clock.now())


def api_cut(site: RescueSite) -> None:
    site.broker.cut("api", None)


def battery_low(site: RescueSite) -> None:
    site.bench.lock.body.battery_percent = 1


def flash_broken(site: RescueSite) -> None:
    site.bench.lock.body.flash_broken = True


def throttled(site: RescueSite) -> None:
    for number in range(10_000):
        site.bench.lock.receive("grant", number.to_bytes(2, "big") * 77, site.now)


WOES = {"api cut": api_cut, "P1": a_p1, "occupied": somebody_inside, "battery": battery_low, "flash": flash_broken}


@pytest.mark.parametrize("woe", [*WOES, "throttled", "all of them"])
def test_nothing_keeps_it_from_opening(play: Play, woe: str) -> None:
    async def scenario(site: RescueSite) -> None:
        for name, befall in (WOES | {"throttled": throttled}).items():
            if woe in (name, "all of them"):
                befall(site)
        began = site.now
        await site.ask(code="")
        await until(site, "opened")
        assert site.now - began < 5  # `trust.md` T25
        assert "EMERGENCY_OPEN" in site.siren.alarms()

    play(scenario)


@pytest.mark.parametrize("state", [PermitState.SUSPENDED, PermitState.EVACUATING, None])
def test_no_permit_and_no_halt_of_one_matters(play: Play, state: PermitState | None) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.plan(rescue_plan(2, permits=[a_permit(state=state)] if state else []))
        await site.ask()
        await until(site, "opened")

    play(scenario)


def test_a_journal_that_cannot_be_written_holds_nothing_up_and_gets_it_later(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(site: RescueSite) -> None:
        whole = site.journal.commit

        def full(*_: object, **__: object) -> dict[str, int]:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(site.journal, "commit", full)
        await site.ask()
        await until(site, "opened")
        assert "EMERGENCY_OPEN" in site.siren.alarms()
        monkeypatch.setattr(site.journal, "commit", whole)
        await asyncio.sleep(30)
        asked = [i for i in site.given() if isinstance(i, CommandReceived) and isinstance(i.command, OpenForRescue)]
        assert len(asked) == 1

    play(scenario)


# -- what a lock may do ----------------------------------------------------------------------------------------------------


def test_who_asks_again_is_told_so_and_starts_nothing(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.mute = True
        await site.ask(name="first")
        await asyncio.sleep(1)
        answer = await site.ask(name="second")
        assert answer.headers["location"].endswith("said=already")
        page = await site.page(answer.headers["location"])
        assert "Already asked" in page
        assert "first" in page
        assert "second" not in page
        assert site.siren.sent == ["hello"]
        assert len([e for e in site.siren.shown if isinstance(e, RescueAsked)]) == 1

    play(scenario)


def test_a_lock_that_does_not_answer_is_asked_four_times_and_then_said(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.mute = True
        await site.ask()
        await asyncio.sleep(19)
        assert "try 4 of 4" in await site.page()
        await asyncio.sleep(2)
        assert site.siren.sent == ["hello"] * 4
        page = await site.page()
        assert "The lock does not answer" in page
        assert "Break the seal" in page
        assert "LOCK_UNCONFIRMED" in site.siren.alarms()
        site.mute = False  # and whoever holds the button again is heard
        await site.ask()
        await until(site, "opened")

    play(scenario)


@pytest.mark.parametrize(("after_s", "stage"), [(30, "opened"), (70, "silent")])
def test_a_hello_that_comes_late_still_opens_for_a_minute(play: Play, after_s: float, stage: str) -> None:
    async def scenario(site: RescueSite) -> None:
        site.mute = True
        await site.ask()
        await asyncio.sleep(after_s)
        assert site.stage == "silent"
        site.mute = False
        await site.publish(site.bench.lock.receive("hello", b"\x01", site.now))
        await asyncio.sleep(1)
        assert site.stage == stage

    play(scenario)


def test_a_grant_whose_challenge_another_took_is_followed_by_one_for_a_new_hello(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.overtaken = 2
        await site.ask()
        await until(site, "opened")
        assert site.siren.sent == ["hello", "grant"] * 3

    play(scenario)


def test_one_grant_answers_one_hello(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.broker.duplicate(device_topic(SITE_ID, THE_LOCK, "up/hello"))
        site.broker.drop(device_topic(SITE_ID, THE_LOCK, "down/grant"))
        await site.ask()
        await asyncio.sleep(1)
        written = [i for i in site.given() if isinstance(i, CommandReceived) and isinstance(i.command, WriteGrant)]
        assert len(written) == 1
        await until(site, "opened", 20)  # the next hello had a grant of its own

    play(scenario)


def test_a_hello_of_before_that_is_handed_out_again_takes_no_grant_away_from_the_fresh_one(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        old = site.bench.lock.receive("hello", b"\x01", site.now)
        await site.publish(old)
        await asyncio.sleep(1)
        site.mute = True
        await site.ask()
        await site.publish(old)
        await asyncio.sleep(1)
        assert site.siren.sent == ["hello"]
        site.mute = False
        await until(site, "opened", 20)
        assert site.siren.sent == ["hello", "hello", "grant"]

    play(scenario)


def test_a_result_that_is_lost_is_told_by_the_state(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.broker.drop(device_topic(SITE_ID, THE_LOCK, "up/result"), 9)
        await site.ask()
        await until(site, "opened")

    play(scenario)


def test_a_bolt_that_jams_is_said_and_may_be_asked_again(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.bench.lock.body.motor_stuck = True
        await site.ask()
        await until(site, "failed", 20)
        page = await site.page()
        assert "its bolt is jammed" in page
        assert "Break the seal" in page
        site.bench.lock.body.motor_stuck = False
        await site.ask()
        await until(site, "opened", 20)

    play(scenario)


def test_what_cannot_be_sent_is_asked_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: RescueSite) -> None:
        whole = site.bus.publish

        async def broken(topic: str, payload: bytes, **how: bool) -> None:
            if "down/" in topic:
                raise ConnectionError("no adapter")
            await whole(topic, payload, **how)

        monkeypatch.setattr(site.bus, "publish", broken)
        await site.ask()
        await asyncio.sleep(1)
        monkeypatch.setattr(site.bus, "publish", whole)
        await until(site, "opened", 10)

    play(scenario)


def test_what_other_locks_and_other_grants_say_moves_no_rescue(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.bench.open_with(GrantKind.ENTRY)  # somebody works here: the hatch stands open
        await site.publish(site.bench.lock.advance(site.now))
        site.mute = True
        await site.ask()
        order = site.bench.order(GrantKind.EMERGENCY, signer=SITE)
        await site.publish(site.bench.lock.receive("grant", order, site.now))  # a result of a grant that is not ours
        await asyncio.sleep(0.2)
        assert site.stage in ("asked", "opened")

    play(scenario)


# -- who asks --------------------------------------------------------------------------------------------------------------


def test_a_wrong_code_opens_at_once_and_only_the_answer_waits(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        began = site.now
        async with asyncio.TaskGroup() as group:
            pressing = group.create_task(site.ask(code="000000"))
            await until(site, "opened", 1)
        answer = pressing.result()
        assert site.now - began == pytest.approx(2, abs=0.1)
        assert "The code was not right" in await site.page(answer.headers["location"])
        assert "WITHOUT the site&#39;s code" in await site.page()

    play(scenario)


@pytest.mark.parametrize(
    ("typed", "coded"), [(CODE, True), (f" {CODE} ", True), ("", False), ("48291", False), ("四八", False)]
)
def test_the_record_says_whether_the_code_was_right(play: Play, typed: str, *, coded: bool) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.ask(code=typed)
        await asyncio.sleep(0.5)
        (asked,) = [e for e in site.siren.shown if isinstance(e, RescueAsked)]
        assert asked.coded is coded

    play(scenario)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("  Li\nWei ", "“Li Wei”"), ("", "“—”"), ("p11", "“p11”"), ("x" * 99, f"“{'x' * 60}”"), ("a”b\u202e", "“ab”")],
)
def test_a_name_is_kept_as_typed_and_is_nobody_s_id(play: Play, typed: str, kept: str) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.ask(name=typed)
        assert site.desk.flows[THE_LOCK].by == kept

    play(scenario)


def test_a_name_is_text_on_the_page(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.ask(name="<script>alert(1)</script>")
        await asyncio.sleep(0.5)
        assert "<script>alert" not in await site.page()
        assert "&lt;script&gt;" in await site.page()

    play(scenario)


# -- the edge --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://gateway:9999"])
def test_a_foreign_page_opens_nothing(play: Play, origin: str) -> None:
    async def scenario(site: RescueSite) -> None:
        form = {"site": SITE_ID, "lock": THE_LOCK, "code": CODE}
        answer = await request(site.app, "POST", "/rescue", form, headers={"origin": origin})
        assert answer.status == 403
        assert not site.desk.flows
        own = await request(site.app, "POST", "/rescue", form, headers={"origin": "http://gateway:8090"})
        assert own.status == 303

    play(scenario)


def test_what_the_plan_does_not_know_is_not_there(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        assert (await site.ask(lock="lock-9")).status == 404
        form = {"site": "elsewhere", "lock": THE_LOCK}
        assert (await request(site.app, "POST", "/rescue", form)).status == 404
        for path in (f"/rescue?site={SITE_ID}&lock=lock-9", "/rescue", "/static/secrets", "/api/v1/permits"):
            assert (await request(site.app, "GET", path)).status == 404
        assert (await request(site.app, "POST", "/rescue", {"name": "x" * 5000})).status == 413
        chunked = {"transfer-encoding": "chunked"}
        assert (await request(site.app, "POST", "/rescue", {}, headers=chunked)).status == 413
        assert not site.desk.flows

    play(scenario)


def test_every_answer_carries_the_headers_and_the_files_are_there(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        for path in ("/", "/static/manway.css", "/static/panel.css", "/static/panel.js", "/static/mark.svg", "/nowhere"):
            answer = await request(site.app, "GET", path)
            assert answer.headers["content-security-policy"].startswith("default-src 'self'")
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.status == (404 if path == "/nowhere" else 200)

    play(scenario)


def test_the_language_is_the_reader_s_and_can_be_chosen(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        assert '<html lang="zh-CN"' in await site.page("/", lang="zh-CN")
        chosen = await request(site.app, "POST", "/lang", {"lang": "zh-CN", "back": "/rescue?site=yard&lock=lock-1"})
        assert chosen.headers["location"] == "/rescue?site=yard&lock=lock-1"
        assert chosen.headers["set-cookie"].startswith("lang=zh-CN")
        assert "选择有限空间" in (await request(site.app, "GET", "/", headers={"cookie": "lang=zh-CN"})).text
        for back in ("//evil.example", "https://evil.example", "/\\evil.example"):
            answer = await request(site.app, "POST", "/lang", {"lang": "xx", "back": back})
            assert (answer.headers["location"], "set-cookie" in answer.headers) == ("/", False)

    play(scenario)


def test_the_part_that_changes_comes_alone(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        alone = await site.page("/?live=1")
        assert alone.strip().startswith('<div id="live">')
        assert "<html" not in alone
        assert "<form" not in await site.page(f"/rescue?site={SITE_ID}&lock={THE_LOCK}&live=1")

    play(scenario)


def test_the_wire_cannot_ask_for_a_rescue(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        now = site.clock.now()
        command = OpenForRescue(id="c1", site=SITE_ID, at=now, exp=now + 60, by="p1", lock=THE_LOCK, space="n01", coded=True)
        await site.api.publish(f"{root(SITE_ID)}api/cmd", encode(command))
        await asyncio.sleep(5)
        assert [e for e in site.siren.shown if isinstance(e, MessageRejected)]
        assert site.siren.sent == []
        assert "EMERGENCY_OPEN" not in site.siren.alarms()

    play(scenario)


# -- what it shows ---------------------------------------------------------------------------------------------------------


def test_with_the_api_away_it_says_that_no_permit_work_goes_from_here(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        assert "has not been heard yet" in await site.page("/")
        await asyncio.sleep(31)
        page = await site.page("/")
        assert "No permit work from here" in page
        assert "不能办理作业" in await site.page("/", lang="zh-CN")
        site.host.health.api_heard(site.clock.now())
        await asyncio.sleep(1.5)
        assert "use the usual pages for permit work" in await site.page("/")
        assert "Open for rescue" in await site.page("/")  # and never refuses

    play(scenario)


AIR = [
    ({}, "Within limits"),
    ({"h2s_ppm": 4.0}, "Watch · H2S 5.7 mg/m³"),
    ({"h2s_ppm": 100.0}, "Danger to life · H2S 142 mg/m³"),
    ({"o2": 19.0}, "Over limit · O2 19.0 % vol"),
    ({"lel": 101.0}, "Over range · LEL"),
    ({"without": ("CO",)}, "Unknown"),
]


@pytest.mark.parametrize(("air", "shown"), AIR)
def test_the_air_is_what_the_engine_has(play: Play, air: dict[str, object], shown: str) -> None:
    async def scenario(site: RescueSite) -> None:
        now = site.clock.now()
        site.host.engine.receive([FrameReceived(a_frame(at=now, **air))], now)  # type: ignore[arg-type]
        assert shown in await site.page()
        await asyncio.sleep(20)
        assert ">Unknown</dd>" in await site.page()  # silence is not clean air

    play(scenario)


WORSE = [
    ({"h2s_ppm": 100.0}, {}, "Danger to life · H2S 142 mg/m³"),
    ({"h2s_ppm": 4.0}, {"h2s_ppm": 5.0}, "Watch · H2S 7.1 mg/m³"),
    ({"o2": 19.2}, {"o2": 19.0}, "Over limit · O2 19.0 % vol"),
    ({"h2s_ppm": 4.0}, {"o2": 19.0}, "Over limit · O2 19.0 % vol"),
    ({"without": ("CO",)}, {}, "Within limits"),
]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("one", "other", "shown"), WORSE)
def test_of_two_instruments_the_worse_is_shown_with_its_own_number(
    play: Play, one: dict[str, object], other: dict[str, object], shown: str, *, swapped: bool
) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.plan(rescue_plan(2, instruments=[an_instrument(), an_instrument("gas-2")]))
        await asyncio.sleep(0.5)
        now, (first, second) = site.clock.now(), (other, one) if swapped else (one, other)
        frames = [a_frame(at=now, **first), a_frame(at=now, device="gas-2", **second)]  # type: ignore[arg-type]
        site.host.engine.receive([FrameReceived(frame) for frame in frames], now)
        assert shown in await site.page()

    play(scenario)


def test_spaces_with_an_urgent_alarm_come_first_then_those_with_people(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        quiet, calm = a_space("n02", lock="lock-2"), a_space("n00", lock="lock-0")
        await site.plan(rescue_plan(2, spaces=[quiet, calm, a_space()]))
        await asyncio.sleep(0.5)
        site.host.engine.receive([FrameReceived(a_frame(at=site.clock.now(), h2s_ppm=300.0))], site.clock.now())
        page = await site.page("/")
        assert page.index("lock-1") < page.index("lock-2")
        assert "data-urgent" in page

    play(scenario)


def test_an_entrance_without_a_lock_has_no_button(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.plan(rescue_plan(2, spaces=[a_space(), a_space("n02", lock="")]))
        page = await site.page("/")
        assert page.count("p-go") == 1

    play(scenario)


def test_without_the_site_s_key_it_says_so(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.host.rescue = None
        page = await site.page()
        assert "has no emergency key" in page
        assert 'method="post" action="/rescue"' not in page
        assert (await site.ask()).status == 404
        assert "Break the seal" in page

    play(scenario)


def test_before_the_first_plan_it_says_what_to_do(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.host.engine.site.plan = None
        assert "break the seal beside the lock" in await site.page("/")
        assert (await request(site.app, "GET", f"/rescue?site={SITE_ID}&lock={THE_LOCK}")).status == 404

    play(scenario)


# -- forms that nobody's browser sends -------------------------------------------------------------------------------------

HALF = b"+2AA-"  # half of a pair in UTF-7: no text at all


def multipart(**fields: bytes) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(part % (name.encode(), value) for name, value in fields.items()) + b"--x--\r\n"


async def sent(to: RescueSite, path: str, charset: str, **fields: bytes) -> int:
    kind = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    body = multipart(**fields)
    return (await request(to.app, "POST", path, headers=kind | {"content-length": str(len(body))}, raw=body)).status


@pytest.mark.parametrize("field", ["name", "code"])
def test_what_is_no_text_is_taken_as_a_question_mark_and_opens_all_the_same(play: Play, field: str) -> None:
    async def scenario(site: RescueSite) -> None:
        named = {"site": SITE_ID.encode(), "lock": THE_LOCK.replace("-", "+AC0-").encode()}
        assert await sent(site, "/rescue", "utf-7", **named, **{field: HALF}) == 303
        await until(site, "opened")
        (asked, *_) = [i.command for i in site.given() if isinstance(i, CommandReceived)]
        assert asked.by == ("“?”" if field == "name" else "“—”")

    play(scenario)


def test_a_form_that_cannot_be_read_is_refused_and_nothing_else(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        for charset in ("undefined", "a\0b"):  # an alphabet of Python's that reads nothing; the name of none
            assert await sent(site, "/rescue", charset, site=b"yard", lock=b"lock-1") == 400
        assert await sent(site, "/rescue", "utf-7", site=HALF, lock=HALF) == 404
        assert await sent(site, "/lang", "utf-7", back=b"/" + HALF, lang=HALF) == 303
        assert not site.desk.flows

    play(scenario)


def test_what_was_open_is_said_with_its_time(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        await site.ask()
        await until(site, "opened")
        opened = clock_text(site.clock.now())
        assert 'data-stage="opened"' in await site.page()
        site.mute = True
        await asyncio.sleep(900)
        assert "LOCK_OFFLINE" in site.siren.alarms()
        page = await site.page()
        assert f"The lock was opened at {opened}" in page
        assert 'data-stage="was_opened"' in page
        assert 'data-lock="unknown"' in page
        assert f"锁曾于 {opened} 打开" in await site.page("/", lang="zh-CN")

    play(scenario)


# -- its secrets -----------------------------------------------------------------------------------------------------------


def a_code_file(folder: Path, body: str, mode: int = 0o400) -> Path:
    path = folder / "panel.code"
    path.write_text(body, "utf-8")
    path.chmod(mode)
    return path


def test_a_code_is_six_to_twelve_digits_of_its_owner(tmp_path: Path) -> None:
    assert load_code(a_code_file(tmp_path, f"{CODE}\n")) == CODE
    assert len({new_code() for _ in range(50)}) > 40
    assert all(is_right(code, code) for code in (new_code(), "000000"))
    assert not is_right("", "")


@pytest.mark.parametrize(
    ("body", "mode", "why"),
    [
        ("12345", 0o400, "6 to 12 digits"),
        ("12345a", 0o400, "6 to 12 digits"),
        (CODE, 0o444, "chmod 0400"),
        ("四八二九一五", 0o400, "init"),
    ],
)
def test_a_code_that_is_none_is_refused_with_what_to_do(tmp_path: Path, body: str, mode: int, why: str) -> None:
    with pytest.raises(ProfileInvalid, match=why):
        load_code(a_code_file(tmp_path, body, mode))
    with pytest.raises(ProfileInvalid, match="manway init"):
        load_code(tmp_path / "nowhere")


def test_a_battery_flag_refuses_an_entry_and_not_a_rescue(play: Play) -> None:
    async def scenario(site: RescueSite) -> None:
        site.bench.lock.body.battery_percent = 5
        site.bench.lock.body.flags |= LockFlag.BATTERY_LOW
        assert site.bench.send(site.bench.order(GrantKind.ENTRY)) == [b"\xff"]
        await asyncio.sleep(1)
        await site.ask()
        await until(site, "opened")
        assert site.clock.now() > EPOCH

    play(scenario)
