"""The HTTP edge: what a stranger, a foreign page, a hurried thumb or a broken client sends, and what it gets back."""

import re
from collections.abc import AsyncIterator, Iterator, MutableMapping
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response

from api import auth, store
from api.http import BODY_LIMIT, COOKIE, KEEP_ANSWERS_S, guarded
from manway.entities import PermitState, Person
from manway.events import VentilationRecorded
from manway.ids import derived_id
from tests.kit.api import GAS, LOCK, SPACE, Bench, Json, an_api, checks_of, seed

FORM = {"sec-fetch-site": "same-origin"}
REQUEST: Json = {
    "space": SPACE, "work": "cable joint", "minutes": 60, "attendant": "p02", "tester": "p02", "entrants": ["p15", "p16"],
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with an_api(tmp_path) as bench:
        yield bench


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """For what is refused and leaves no trace."""
    with an_api(tmp_path_factory.mktemp("edge")) as bench:
        bench.look()
        yield bench


def sign_in(bench: Bench, account: str = "worker", password: str | None = None, path: str = "/login") -> Response:
    form = {"account": account, "password": seed().passwords[account] if password is None else password}
    return bench.client.post(path, data=form, headers=FORM | {"accept-language": "en"})


def cookie(answer: Response, name: str = COOKIE) -> Morsel[str]:
    return SimpleCookie(answer.headers["set-cookie"])[name]


# ---- problem+json


def test_a_refusal_is_problem_json_in_the_readers_language(bench: Bench) -> None:
    answer = bench.post("worker", "/api/v1/permits", REQUEST | {"entrants": ["p02", "p15"]})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["type"], body["status"], body["code"]) == ("/problems/refused", 409, "refused")
    assert body["title"] == "Not possible"
    assert [set(failure) for failure in body["failures"]] == [{"check", "clause", "text", "fix"}]
    assert body["failures"][0]["clause"] == "GB 46768-2025 6.3"
    assert body["detail"] == body["failures"][0]["text"]
    chinese = bench.client.post(
        "/api/v1/permits/x/approve",
        json={},
        headers=bench.headers("approver", **{"idempotency-key": "any-key-1", "accept-language": "zh-CN,zh;q=0.9"}),
    )
    assert chinese.json()["title"] == "没有找到"


def test_every_refusal_lists_all_failures(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    answer = bench.post("attendant", f"/api/v1/permits/{permit.id}/unlock", {"lock": LOCK, "kind": "ENTRY"})
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert checks_of(answer) == [
        "G01", "G03", "G06", "G07", "G10", "G11", "G12", "G13", "G14", "G14", "G14", "G14", "G19", "G20", "G20", "G20", "G22",
    ]  # fmt: skip
    assert all(failure["text"] and failure["fix"] and failure["clause"] for failure in answer.json()["failures"])
    assert answer.json()["title"] == "Unlock refused"


@pytest.mark.parametrize(
    ("method", "path", "code"), [("GET", "/nowhere", 404), ("GET", "/api/v1/nowhere", 404), ("DELETE", "/api/v1/permits", 405)]
)
def test_the_framework_s_own_refusals_have_the_same_shape(method: str, path: str, code: int, shared: Bench) -> None:
    answer = shared.client.request(method, path, headers=shared.headers("worker"))
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/problem+json")
    assert (answer.json()["status"], answer.json()["failures"]) == (code, [])


def test_a_refused_form_does_not_repeat_the_password(bench: Bench) -> None:
    secret = "canary" * 60
    answer = sign_in(bench, "worker", secret)
    assert (answer.status_code, "canary" in answer.text) == (422, False)
    assert "canary" not in bench.client.post("/login", data={"password": "canary"}, headers=FORM).text
    wrong = bench.client.post("/api/v1/sessions", json={"account": "worker", "password": secret})
    assert (wrong.status_code, "canary" in wrong.text) == (422, False)


# ---- once only


def test_the_same_key_gives_the_same_answer_and_one_permit(bench: Bench) -> None:
    first = bench.post("worker", "/api/v1/permits", REQUEST, key="key-of-mine")
    again = bench.post("worker", "/api/v1/permits", REQUEST, key="key-of-mine")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert len(bench.events("PermitSubmitted")) == 1


def test_a_stored_refusal_is_replayed_as_it_was(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    path, body = f"/api/v1/permits/{permit.id}/unlock", {"lock": LOCK, "kind": "PREP"}
    first = bench.post("attendant", path, body, key="key-of-mine")
    bench.look()
    again = bench.post("attendant", path, body, key="key-of-mine")
    assert (first.status_code, again.status_code) == (409, 409)
    assert again.json() == first.json()
    assert len(bench.events("GrantRefused")) == 1
    assert bench.post("attendant", path, body).status_code == 202


def test_a_key_with_another_body_or_another_object_is_refused(bench: Bench) -> None:
    assert bench.post("worker", "/api/v1/permits", REQUEST, key="key-of-mine").status_code == 201
    other = bench.post("worker", "/api/v1/permits", REQUEST | {"minutes": 61}, key="key-of-mine")
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    permits = [bench.make_permit(PermitState.ACTIVE), bench.make_permit(PermitState.CLOSED)]
    answers = [bench.post("attendant", f"/api/v1/permits/{p.id}/check-ins", key="key-2-of-mine") for p in permits]
    assert [a.status_code for a in answers] == [202, 422]


def test_keys_of_two_people_do_not_meet(bench: Bench) -> None:
    answers = [bench.post(who, "/api/v1/permits", REQUEST, key="the-same-key") for who in ("worker", "attendant", "manager")]
    assert [a.status_code for a in answers] == [201, 409, 201] or [a.status_code for a in answers] == [201, 201, 201]
    assert len({a.json().get("id") for a in answers if a.status_code == 201}) >= 2


def test_a_refused_action_leaves_its_key_free(bench: Bench) -> None:
    wrong, right = REQUEST | {"attendant": "nobody"}, REQUEST
    assert bench.post("worker", "/api/v1/permits", wrong, key="key-of-mine").status_code == 409
    assert bench.post("worker", "/api/v1/permits", right, key="key-of-mine").status_code == 201


def test_answers_are_kept_thirty_days(bench: Bench) -> None:
    bench.post("worker", "/api/v1/permits", REQUEST, key="key-of-mine")
    bench.wait(KEEP_ANSWERS_S + 1)
    bench._tokens.clear()
    bench.post("manager", "/api/v1/permits", REQUEST)
    with bench.records.look() as db:
        assert [row.person for row in db.execute(store.answer.select())] == ["p04"]


@pytest.mark.parametrize("key", ["", "short", "with a space in it", "x" * 65, "ключключ", "key;drop"])
def test_without_a_proper_key_nothing_is_done(key: str, shared: Bench) -> None:
    headers = {k.encode(): v.encode() for k, v in shared.headers("worker", **{"idempotency-key": key}).items()}
    answer = shared.client.post("/api/v1/permits", json=REQUEST, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key")
    assert not shared.events("PermitSubmitted")


def test_emergency_routes_need_no_key(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    for path, body in ((f"/api/v1/permits/{permit.id}/evacuate", {}), ("/api/v1/emergency-openings", {"lock": LOCK})):
        answer = bench.client.post(path, json=body, headers=bench.headers("worker" if not body else "approver"))
        assert answer.status_code in (202, 403), answer.text
    assert bench.client.post(
        f"/api/v1/permits/{permit.id}/evacuate", json={}, headers=bench.headers("attendant")
    ).status_code == 202  # fmt: skip
    assert set(bench.commands()) == {"OrderEvacuation", "GreetLock"}


# ---- strict bodies

SUBMIT = "/api/v1/permits"


@pytest.mark.parametrize(
    "changed",
    [
        {"minutes": True}, {"minutes": "60"}, {"minutes": None}, {"minutes": 0}, {"minutes": 1441}, {"start_in_s": -1},
        {"start_in_s": 7e9}, {"space": 4}, {"space": ""}, {"space": "a b"}, {"space": "x" * 65}, {"work": ""},
        {"work": "x" * 501}, {"work": ["x"]}, {"entrants": []}, {"entrants": "p15"}, {"entrants": [15]},
        {"entrants": ["p15"] * 21}, {"atendant": "p02"}, {"submit": False},
    ],
)  # fmt: skip
def test_a_field_that_is_not_exactly_right_is_refused(changed: Json, shared: Bench) -> None:
    answer = shared.post("worker", SUBMIT, REQUEST | changed)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert next(iter(changed)) in answer.json()["failures"][0]["text"]


@pytest.mark.parametrize("missing", ["space", "work", "minutes", "attendant", "tester", "entrants"])
def test_a_missing_field_is_refused(missing: str, shared: Bench) -> None:
    assert shared.post("worker", SUBMIT, {k: v for k, v in REQUEST.items() if k != missing}).status_code == 422


def test_every_wrong_field_is_named(shared: Bench) -> None:
    text = shared.post("worker", SUBMIT, REQUEST | {"minutes": True, "work": ""}).json()["failures"][0]["text"]
    assert "minutes" in text
    assert "work" in text


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 30_000, b'{"points":' + b"[" * 30_000, b'{"points":[]}{}',
        b'{"points":[{"distance_m":NaN,"dwell_s":60,"readings":{}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"O2":NaN}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"O2":1e999}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"O2":-Infinity}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"O2":true}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"o2; DROP":1}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"O2":"20.9"}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{},"extra":1}]}',
        b'{"points":[{"distance_m":-1,"dwell_s":60,"readings":{}}]}',
        b'{"points":[{"distance_m":1,"dwell_s":60,"readings":{"\\ud800":1}}]}',
    ],
)  # fmt: skip
def test_no_body_that_is_not_a_gas_test_is_taken_for_one(raw: bytes, shared: Bench) -> None:
    permit = shared.make_permit(PermitState.SUBMITTED)
    headers = shared.headers("attendant", **{"idempotency-key": "key-of-mine", "content-type": "application/json"})
    answer = shared.client.post(f"/api/v1/permits/{permit.id}/gas-tests", content=raw, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert not shared.events("GasTestRecorded")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/jsonp"]
)
def test_only_json_is_taken(kind: str, shared: Bench) -> None:
    headers = shared.headers("worker", **{"idempotency-key": "key-of-mine", "content-type": kind})
    answer = shared.client.post(SUBMIT, content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "json_only")
    assert shared.client.post("/api/v1/sessions", content=b"{}", headers={"content-type": kind}).status_code == 415


def test_json_with_a_charset_is_json(bench: Bench) -> None:
    headers = bench.headers("worker", **{"idempotency-key": "key-of-mine", "content-type": "Application/JSON; charset=utf-8"})
    assert bench.client.post(SUBMIT, json=REQUEST, headers=headers).status_code == 201


NUMBERS = ["nan", "inf", "-inf", "1e300", "-1e300", "x", "²", "0x10", "1;2"]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("path", ["events?after=", "events?limit=", "spaces/n04/telemetry?device=gas-n04&gas=O2&from=",
                                  "spaces/n04/telemetry?device=gas-n04&gas=O2&to=",
                                  "spaces/n04/telemetry?device=gas-n04&gas=O2&step="])  # fmt: skip
def test_a_query_that_is_no_number_is_refused(path: str, number: str, shared: Bench) -> None:
    assert shared.get("worker", f"/api/v1/{path}{number}").status_code == 422


@pytest.mark.parametrize("number", ["-1099511627776", "-1", "0", "1099511627776"])
def test_a_curve_of_any_time_is_answered(number: str, shared: Bench) -> None:
    for query in (f"from={number}", f"to={number}", f"from={number}&to={number}", f"from={number}&step=60"):
        answer = shared.get("worker", f"/api/v1/spaces/n04/telemetry?device={GAS}&gas=O2&{query}")
        assert answer.status_code in (200, 422), answer.text


# ---- foreign pages


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://manway.test"}, False),
        ({"origin": "http://manway.test"}, True),
        ({"origin": "https://manway.test"}, False),
        ({"origin": "http://manway.test.evil.example"}, False),
        ({"origin": "null"}, False),
        ({}, False),
        # Credentials that a browser adds by itself are no app's Bearer.
        ({"authorization": "Basic d29ya2VyOng="}, False),
        ({"authorization": "Bearerx"}, False),
    ],
)  # fmt: skip
def test_a_cookie_counts_only_from_our_own_pages(headers: dict[str, str], *, allowed: bool, bench: Bench) -> None:
    bench.client.cookies.set(COOKIE, bench.token("worker"))
    key = {"idempotency-key": "key-of-mine"}
    answer = bench.client.post(SUBMIT, json=REQUEST, headers=headers | key)
    assert answer.status_code == (201 if allowed else 403)
    assert len(bench.events("PermitSubmitted")) == int(allowed)
    form = {"account": "worker", "password": "x"}
    assert (bench.client.post("/login", data=form, headers=headers).status_code == 403) != allowed
    assert (bench.client.post("/lang", data={"lang": "en"}, headers=headers).status_code == 403) != allowed
    assert (bench.client.post("/logout", headers=headers).status_code == 403) != allowed


def test_a_bearer_comes_from_anywhere(bench: Bench) -> None:
    headers = bench.headers(
        "worker", origin="https://app.example", **{"sec-fetch-site": "cross-site", "idempotency-key": "a-key-of-mine"}
    )
    assert bench.client.post(SUBMIT, json=REQUEST, headers=headers).status_code == 201


# ---- sizes and headers


def unread_app(seen: list[str]) -> FastAPI:
    app = FastAPI()

    @app.post("/")
    async def never() -> None:
        seen.append("called")

    return app


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-length", str(BODY_LIMIT).encode())], 200),
        ([(b"content-length", str(BODY_LIMIT + 1).encode())], 413),
        ([(b"content-length", b"9" * 5000)], 413),
        ([(b"content-length", b"-1")], 413),
        ([(b"content-length", b"x")], 413),
        ([(b"transfer-encoding", b"chunked")], 413),
        ([(b"transfer-encoding", b"chunked"), (b"content-length", b"2")], 413),
    ],
)  # fmt: skip
async def test_a_body_over_the_limit_is_refused_unread(headers: list[tuple[bytes, bytes]], status: int) -> None:
    seen: list[str] = []
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        seen.append("read")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "headers": headers,
             "http_version": "1.1", "scheme": "http", "server": ("x", 80), "client": ("y", 1), "root_path": ""}  # fmt: skip
    await guarded(unread_app(seen))(scope, receive, send)
    assert sent[0]["status"] == status
    assert seen == (["called"] if status == 200 else [])
    assert b"content-security-policy" in dict(sent[0]["headers"])


def test_a_photo_sized_body_is_a_413_of_the_usual_shape(bench: Bench) -> None:
    answer = bench.client.post(SUBMIT, content=b"x" * (BODY_LIMIT + 1), headers=bench.headers("worker"))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_body_in_chunks_is_refused(bench: Bench) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    answer = bench.client.post(SUBMIT, content=iter([b"{}"]), headers=bench.headers("worker"))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/login", "/healthz", "/readyz", "/nowhere", "/api/v1/me", "/static/manway.css", "/", "/wall"]
)
def test_the_security_headers_stand_on_every_answer(path: str, shared: Bench) -> None:
    headers = shared.client.get(path).headers
    assert headers["content-security-policy"] == (
        "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
    )
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


def test_only_requests_are_guarded() -> None:
    """Start-up messages pass as they are."""
    seen = []

    async def app(scope: MutableMapping[str, Any], _: object, __: object) -> None:
        seen.append(scope["type"])

    async def nothing(*_: object) -> MutableMapping[str, Any]:
        return {}

    coroutine = guarded(app)({"type": "lifespan"}, nothing, nothing)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        coroutine.send(None)  # type: ignore[attr-defined]
    assert seen == ["lifespan"]


def test_ready_means_that_every_gateway_was_heard(bench: Bench) -> None:
    first = bench.client.get("/readyz")
    assert (first.status_code, first.text) == (503, "no gateway yet: yard-north, yard-south")
    bench.look()
    assert (bench.client.get("/readyz").status_code, bench.client.get("/healthz").text) == (200, "ok")


# ---- sign-in


def test_a_session_is_a_cookie_no_script_reads(bench: Bench) -> None:
    answer = sign_in(bench)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    morsel = cookie(answer)
    assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["secure"]) == (True, "lax", "/", "")
    assert len(morsel.value) >= 43  # 256 bit
    with bench.records.look() as db:
        assert morsel.value not in str(db.execute(store.session.select()).all())
    bench.client.cookies.set(COOKIE, morsel.value)
    assert bench.client.get("/").headers["location"] == "/worker"
    assert bench.client.get("/api/v1/me").json()["id"] == "p01"


def test_behind_tls_the_cookie_is_secure(bench: Bench) -> None:
    form = {"account": "worker", "password": seed().passwords["worker"]}
    answer = bench.client.post("https://manway.test/login", data=form, headers=FORM)
    assert cookie(answer)["secure"] is True


@pytest.mark.parametrize(
    ("account", "home"),
    [("worker", "/worker"), ("attendant", "/attendant"), ("approver", "/approvals"), ("manager", "/wall"),
     ("auditor", "/wall")],
)  # fmt: skip
def test_everybody_has_a_home(account: str, home: str, bench: Bench) -> None:
    assert bench.client.get("/").headers["location"] == "/login"
    bench.client.cookies.set(COOKIE, bench.token(account))
    assert bench.client.get("/").headers["location"] == home


def test_unknown_account_and_wrong_password_look_the_same(bench: Bench) -> None:
    wrong, unknown = sign_in(bench, "worker", "wrong"), sign_in(bench, "nobody-here", "wrong")
    assert (wrong.status_code, wrong.text, dict(wrong.headers)) == (401, unknown.text, dict(unknown.headers))
    assert "set-cookie" not in wrong.headers
    answers = [
        bench.client.post("/api/v1/sessions", json={"account": account, "password": "wrong"})
        for account in ("manager", "somebody-else")
    ]
    assert answers[0].json() == answers[1].json()
    assert [a.status_code for a in answers] == [401, 401]


def test_after_five_tries_guessing_slows_down_and_never_locks_out(bench: Bench) -> None:
    right = seed().passwords["worker"]

    def guess(*, known: bool = False) -> int:
        body = {"account": "worker", "password": right if known else "wrong"}
        return bench.client.post("/api/v1/sessions", json=body).status_code

    assert [guess() for _ in range(5)] == [401] * 5
    assert guess() == 429
    too_many = bench.client.post("/api/v1/sessions", json={"account": "worker", "password": "x"})
    assert (too_many.json()["code"], too_many.headers["retry-after"]) == ("too_many_tries", "5")
    assert sign_in(bench, "worker").status_code == 429  # the same count behind both doors
    bench.wait(1.0)
    assert (guess(), guess()) == (401, 429)
    bench.wait(2.0)
    assert guess(known=True) == 201
    assert [guess() for _ in range(5)] == [401] * 5
    other = bench.client.post("/api/v1/sessions", json={"account": "manager", "password": "wrong"})
    assert other.status_code == 401


def test_the_delay_grows_to_a_minute_and_stays_there() -> None:
    guesses = auth.Guesses()
    waits = []
    for number in range(2000):
        guesses.note("worker", float(number), right=False)
        waits.append(guesses.wait_s("worker", float(number)))
    assert waits[:12] == [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert set(waits[12:]) == {60.0}


def test_what_is_known_of_guesses_is_bounded() -> None:
    guesses = auth.Guesses()
    for _ in range(20):
        guesses.note("victim", 0.0, right=False)
    for number in range(auth._MOST_ACCOUNTS - 1):
        guesses.note(f"made-up-{number}", 1.0, right=False)
    assert guesses.wait_s("victim", 1.0) == 59.0  # so many other names have not pushed it out
    guesses.note("one-more", 1.0, right=False)
    assert len(guesses._failed) == auth._MOST_ACCOUNTS
    assert guesses.wait_s("victim", 1.0) == 0.0  # that took longer than the minute it would have had to wait
    for number in range(auth._MOST_ACCOUNTS):
        guesses.wait_s(f"asked-{number}", 1.0)  # to ask is not to be remembered
    assert len(guesses._failed) == auth._MOST_ACCOUNTS


def test_old_guesses_are_forgotten_and_a_right_one_at_once() -> None:
    guesses = auth.Guesses()
    for account in ("a", "b"):
        for _ in range(9):
            guesses.note(account, 0.0, right=False)
    guesses.note("b", 0.0, right=True)
    assert list(guesses._failed) == ["a"]
    guesses.note("c", auth._FORGOTTEN_AFTER_S, right=False)
    assert list(guesses._failed) == ["a", "c"]
    guesses.note("c", auth._FORGOTTEN_AFTER_S + 1, right=True)
    assert guesses._failed == {}


def test_a_session_ends_after_half_an_hour_without_a_deed(bench: Bench) -> None:
    token = bench.token("worker")
    bench.wait(auth.IDLE_S)
    assert bench.get("worker", "/api/v1/me").status_code == 200
    assert bench.post("worker", SUBMIT, REQUEST).status_code == 201  # a deed
    bench.wait(auth.IDLE_S)
    assert bench.get("worker", "/api/v1/me").status_code == 200  # reading is none
    bench.wait(1)
    assert bench.get("worker", "/api/v1/me").status_code == 401
    assert bench.token("worker") == token


@pytest.mark.parametrize("account", ["attendant", "manager"])
def test_on_watch_a_session_lasts_twelve_hours(account: str, bench: Bench) -> None:
    bench.token(account)
    bench.wait(auth.LONG_IDLE_S)
    assert bench.get(account, "/api/v1/me").status_code == 200
    bench.wait(1)
    assert bench.get(account, "/api/v1/me").status_code == 401


def test_signing_out_ends_this_session_and_no_other(bench: Bench) -> None:
    mine, other = bench.token("worker"), bench.new_session("worker")
    bench.client.cookies.set(COOKIE, mine)
    answer = bench.client.post("/logout", headers=FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert cookie(answer).value == ""
    assert [bench.client.get("/api/v1/me", headers={"authorization": f"Bearer {t}"}).status_code for t in (mine, other)] == [
        401,
        200,
    ]


def test_somebody_who_was_removed_is_signed_out(bench: Bench) -> None:
    token = bench.token("worker")
    with bench.records.change() as db:
        db.execute(store.document.delete().where((store.document.c.kind == "Person") & (store.document.c.id == "p01")))
    assert bench.client.get("/api/v1/me", headers={"authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize(
    "back",
    [
        "//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/%5Cevil.example", "/\t/evil.example",
        "/\n/evil.example", "javascript:alert(1)", "evil.example", "///evil.example", "/%09/evil.example", "",
    ],
)  # fmt: skip
def test_the_way_back_never_leaves_the_site(back: str, bench: Bench) -> None:
    form = {"account": "worker", "password": seed().passwords["worker"]}
    answer = bench.client.post("/login", params={"next": back}, data=form, headers=FORM)
    chosen = bench.client.post("/lang", data={"lang": "en", "back": back or "/"}, headers=FORM)
    for location in (answer.headers["location"], chosen.headers["location"]):
        assert re.fullmatch(r"/|/[^/\\\s].*", location), location


def test_the_way_back_leads_to_the_page_that_was_asked(bench: Bench) -> None:
    assert bench.client.get("/spaces/n04").headers["location"] == "/login?next=%2Fspaces%2Fn04"
    assert sign_in(bench, path="/login?next=%2Fspaces%2Fn04").headers["location"] == "/spaces/n04"


def test_a_language_is_chosen_and_kept(bench: Bench) -> None:
    answer = bench.client.post("/lang", data={"lang": "en", "back": "/login"}, headers=FORM)
    assert (answer.headers["location"], cookie(answer, "lang").value, cookie(answer, "lang")["samesite"]) == (
        "/login",
        "en",
        "lax",
    )
    assert "set-cookie" not in bench.client.post("/lang", data={"lang": "tlh"}, headers=FORM).headers


@pytest.mark.parametrize("path", ["/worker", "/approvals", "/attendant", "/wall", "/spaces/n04", "/alarms/{alarm}"])
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_every_page_renders_in_both_languages(path: str, language: str, bench: Bench) -> None:
    bench.make_permit(PermitState.ACTIVE, attendant="all", requester="all")
    bench.make_permit(PermitState.SUBMITTED)
    bench.look(air={"H2S": 8.0})
    alarm = next(iter(bench.engines["yard-north"].site.alarms.values()))
    everything = Person("all", 99, {"en": "All", "zh-CN": "全"}, ["manager", "attendant", "worker", "approver"])
    with bench.records.change() as db:
        store.put(db, "Person", "all", everything)
    bench.client.cookies.set(COOKIE, bench.new_session("all"))
    answer = bench.client.get(path.format(alarm=alarm.id), headers={"accept-language": language})
    assert answer.status_code == 200, answer.text
    assert f'lang="{language}"' in answer.text


def test_an_event_is_told_as_a_sentence(bench: Bench) -> None:
    permit = bench.make_permit(PermitState.APPROVED)
    event = VentilationRecorded(id=derived_id("v"), at=bench.now(), site="yard-north", permit=permit.id, space=SPACE, by="p02")
    bench.add_events(event)
    (row,) = bench.get("auditor", "/api/v1/events").json()["items"]
    assert (row["type"], row["seq"], row["v"]) == ("ventilation.recorded", 1, 1)
    assert "Li Na" in row["text"] or "Cable chamber" in row["text"]


def test_the_log_is_read_page_by_page(bench: Bench) -> None:
    bench.look()
    whole = bench.get("auditor", "/api/v1/events?limit=500").json()["items"]
    seen, after = [], 0
    while True:
        page = bench.get("auditor", f"/api/v1/events?limit=7&after={after}").json()
        seen += page["items"]
        if page["next"] is None:
            break
        after = page["next"]
    assert seen == whole
    assert len(seen) > 14
