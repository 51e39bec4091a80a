"""The HTTP edge: who asks, may they, was it asked before; every refusal as problem+json with all its failures."""

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import JSONResponse

from api import auth, store
from api.office import Office
from api.texts import choose, failure_row, text
from manway.entities import Person
from manway.errors import Failure

Row = dict[str, object]
COOKIE = "manway"  # plain-HTTP loopback; behind TLS the name carries the __Host- prefix
BODY_LIMIT = 65_536
_LENGTH_DIGITS = 9
KEEP_ANSWERS_S = 30 * 86_400.0  # phones sync late

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Problem(Exception):
    """An answer that is not what was asked for; `key` is a text of the catalogue below `problem.`."""

    def __init__(self, status: int, key: str, failures: list[Failure] | None = None) -> None:
        self.status, self.key, self.failures = status, key, failures or []
        super().__init__(key)


def language(request: Request) -> str:
    """Return the language of a request: the chosen one, else the browser's."""
    return choose(request.headers.get("accept-language", ""), request.cookies.get("lang"))


def problem_response(lang: str, problem: Problem) -> JSONResponse:
    """Return RFC 9457 problem+json."""
    body = {
        "type": f"/problems/{problem.key.replace('_', '-')}",
        "title": text(lang, f"problem.{problem.key}"),
        "status": problem.status,
        "code": problem.key,
        "detail": "; ".join(failure_row(lang, f)["text"] for f in problem.failures),
        "failures": [failure_row(lang, f) for f in problem.failures],
    }
    headers = {"Retry-After": "5"} if problem.status in (429, 503) else {}
    return JSONResponse(body, problem.status, headers, "application/problem+json")


def token_of(request: Request) -> str:
    """Return the session token: a Bearer of an app, or the browser's cookie."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")


def person_of(request: Request, office: Office) -> Person | None:
    """Return who asks, None when nobody is signed in. With the records away, by what was known last: pages go on."""
    with office.records.last_known() as db:
        return auth.person_of(db, token_of(request), office.now())


def require_same_origin(request: Request) -> None:
    """Refuse what a foreign page could make a browser send; a Bearer token cannot be sent by one."""
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if site not in ("same-origin", "none") and (site is not None or origin != own):
        raise Problem(403, "foreign_origin")


def once(
    office: Office, person: Person, key: str, route: str, body: bytes, action: Callable[[sa.Connection], tuple[int, Row]]
) -> tuple[int, Row, bool]:
    """Carry out an action at most once per key, in one transaction with its stored answer; return status, body, replayed.

    Raises:
        Problem: the key was used with another body.
    """
    request = hashlib.sha256(route.encode() + b"\0" + body).hexdigest()
    with office.records.change() as db:
        where = (store.answer.c.key == key) & (store.answer.c.person == person.id)
        known = db.execute(sa.select(store.answer).where(where)).one_or_none()
        if known is not None:
            if known.request != request:
                raise Problem(422, "key_reused")
            return known.status, msgspec.json.decode(known.body, type=Row), True
        status, answer = action(db)
        row = {"key": key, "person": person.id, "request": request, "status": status, "at": office.now()}
        db.execute(store.answer.insert().values(row | {"body": msgspec.json.encode(answer)}))
        db.execute(store.answer.delete().where(store.answer.c.at < office.now() - KEEP_ANSWERS_S))
        newest = store.last_seq(db)
    office.seq = newest  # once it is true: a commit may still fail
    office.changed()
    return status, answer, False


def guarded(app: App) -> App:
    """Wrap an ASGI application: the body limit acts before reading, the security headers stand on every answer."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        # A body sent in chunks does not say how long it will be; nobody who asks us properly needs that.
        length = b"?" if b"transfer-encoding" in headers else headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > _LENGTH_DIGITS or int(length) > BODY_LIMIT:
            lang = language(Request(scope))
            await problem_response(lang, Problem(413, "too_large"))(scope, receive, with_headers)
            return
        await app(scope, receive, with_headers)

    return wrapped
