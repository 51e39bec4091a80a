"""Every route, registered from the rights table; a route without a row cannot be made."""

import re
from collections.abc import Callable
from functools import partial

import msgspec
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from api import auth, desk, store, views
from api.actions import ACTIONS, Action, Call
from api.http import Problem, language, once, person_of, require_same_origin, token_of
from api.office import Office
from api.rights import RIGHTS
from api.texts import failure_row, text
from manway.checks import Outcome
from manway.entities import Permit, Person
from manway.errors import ActionRefused, Failure, StoreUnavailable
from manway.events import AnyEvent, GrantRefused
from manway.ids import GrantKind
from manway.runtime.telemetry import TelemetryStore

Row = dict[str, object]
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")
_ERRORS: dict[int | str, dict[str, object]] = {
    code: {"description": "problem+json"} for code in (400, 401, 403, 404, 409, 413, 422, 429)
}


def allow(office: Office, request: Request, route: str, permit: str = "") -> Person:
    """Return who asks when the rights table lets them, else raise the Problem that says why not."""
    person = person_of(request, office)
    if person is None:
        raise Problem(401, "sign_in")
    right = RIGHTS[route]
    named: Permit | None = None
    if permit and "p" in right.cells.values():
        with office.records.look() as db:
            named = next(iter(store.permits(db, id=permit)), None)
        if named is None:
            raise Problem(404, "not_found")
    if not right.allows(person, named):
        raise Problem(403, "no_right")
    return person


def add_actions(app: FastAPI, office: Office) -> None:
    """Register the POST routes of the action table."""
    for route, action in ACTIONS.items():
        path = route.removeprefix("POST ")
        endpoint = _endpoint(office, route, action)
        schema = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": action.body.model_json_schema()}}}
        }
        name = re.sub(r"[^a-z]+", "_", path.removeprefix("/api/v1/")).strip("_")
        app.add_api_route(path, endpoint, methods=["POST"], operation_id=name, openapi_extra=schema, responses=_ERRORS)


def _endpoint(office: Office, route: str, action: Action) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        require_same_origin(request)
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Problem(415, "json_only")
        body, target = await request.body(), next(iter(request.path_params.values()), "")
        lang, key = language(request), request.headers.get("idempotency-key", "")
        if not _KEY.fullmatch(key):
            if not action.emergency:
                raise Problem(400, "idempotency_key")
            key = office.new_id()
        return await run_in_threadpool(_carry_out, office, request, route, action, (str(target), lang, key, body))

    return endpoint


def _carry_out(office: Office, request: Request, route: str, action: Action, given: tuple[str, str, str, bytes]) -> Response:
    target, lang, key, body = given
    person = allow(office, request, route, target if "{permit}" in route else "")
    try:
        value = action.body.model_validate_json(body)
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(str(x) for x in e['loc'])}: {e['msg']}" for e in error.errors())
        raise Problem(
            422, "invalid", [Failure("FORM", "", "form.invalid", "form.complete", {"fields": fields[:400]})]
        ) from error
    try:
        act = partial(_act, office, person, target, lang, action, value, token_of(request))
        status, answer, replayed = once(office, person, key, f"{route} {target}", body, act)
    except desk.NotFound as error:
        raise Problem(404, "not_found") from error
    except ActionRefused as error:
        raise Problem(409, "refused", error.failures) from error
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    if status == 202:  # noqa: PLR2004  accepted: the page follows the command
        headers["Location"] = f"/api/v1/commands/{answer['id']}"
    if status == 409:  # noqa: PLR2004  refused by checks
        answer = answer | {"title": text(lang, "problem.entry_refused")}
    media = "application/problem+json" if status == 409 else "application/json"  # noqa: PLR2004  as above
    return JSONResponse(answer, status, headers, media)


def _act(
    office: Office, person: Person, target: str, lang: str, action: Action, value: object, token: str, db: sa.Connection
) -> tuple[int, Row]:
    auth.touch(db, token, office.now())
    return action.act(Call(db, office, person, target, lang), value)


def reading_routes(office: Office, telemetry: TelemetryStore) -> APIRouter:  # noqa: C901  one flat list of small routes
    """Return the GET routes of the API."""
    router = APIRouter(prefix="/api/v1", responses=_ERRORS)

    def get(path: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
        assert f"GET /api/v1{path}" in RIGHTS, path  # noqa: S101  a route outside the table must not start
        return router.get(path, operation_id=re.sub(r"[^a-z]+", "_", path).strip("_"))

    @get("/me")
    def me(request: Request) -> Row:
        person = allow(office, request, "GET /api/v1/me")
        return {"id": person.id, "name": person.name, "roles": person.roles}

    @get("/commands/{command}")
    def command(request: Request, command: str) -> Row:
        person = allow(office, request, "GET /api/v1/commands/{command}")
        with office.records.look() as db:
            return command_row(db, command, person, language(request))

    @get("/limits")
    def limits(request: Request) -> object:
        allow(office, request, "GET /api/v1/limits")
        gases = [{"gas": g.name, "unit": g.unit, "limits": [_limit(x) for x in g.limit]} for g in office.limits.gas]
        return {"profile": office.limits.profile, "version": office.limits.version, "note": office.limits.note, "gases": gases}

    @get("/events")
    def events(request: Request, after: int = 0, limit: int = 200) -> Row:
        allow(office, request, "GET /api/v1/events")
        most = max(1, min(limit, 500))
        with office.records.look() as db:
            rows = store.events(db, lambda c: c.c.seq > after, most=most)
            view = views.View(office, db, allow(office, request, "GET /api/v1/events"), language(request))
            items: list[object] = [event_row(view, seq, event) for seq, event in rows]
        return {"items": items, "next": rows[-1][0] if len(rows) == most else None}

    @get("/spaces")
    def spaces(request: Request) -> Row:
        person = allow(office, request, "GET /api/v1/spaces")
        with office.records.look() as db:
            return {"items": views.wall(views.View(office, db, person, language(request)))["tiles"], "next": None}

    @get("/alarms")
    def alarms(request: Request) -> Row:
        person = allow(office, request, "GET /api/v1/alarms")
        with office.records.look() as db:
            return {"items": views.wall(views.View(office, db, person, language(request)))["alarms"], "next": None}

    @get("/permits")
    def permits(request: Request) -> Row:
        allow(office, request, "GET /api/v1/permits")
        with office.records.look() as db:
            items: list[object] = [permit_row(p) for p in store.permits(db)]
        return {"items": items, "next": None}

    @get("/permits/{permit}")
    def permit(request: Request, permit: str) -> Row:
        allow(office, request, "GET /api/v1/permits/{permit}", permit)
        with office.records.look() as db:
            return permit_row(_found(store.permits(db, id=permit)))

    @get("/permits/{permit}/checks")
    def checks(request: Request, permit: str, kind: str = "ENTRY") -> Row:
        person = allow(office, request, "GET /api/v1/permits/{permit}/checks", permit)
        if kind not in ("PREP", "ENTRY"):
            raise Problem(422, "invalid")
        lang = language(request)
        with office.records.look() as db:
            _found(store.permits(db, id=permit))
            results = desk.check(db, office, person, permit, GrantKind[kind])
        order = {Outcome.FAILED: 0, Outcome.NOT_CHECKED: 1, Outcome.PASSED: 2}
        rows: list[object] = [
            {
                "check": r.check,
                "clause": r.clause,
                "title": text(lang, f"check.{r.check}"),
                "outcome": r.outcome.value,
                "failures": [failure_row(lang, f) for f in r.failures],
            }
            for r in sorted(results, key=lambda r: order[r.outcome])
        ]
        return {"results": rows}

    @get("/permits/{permit}/preparation")
    def preparation(request: Request, permit: str) -> Row:
        allow(office, request, "GET /api/v1/permits/{permit}/preparation", permit)
        with office.records.look() as db:
            found = _found(store.permits(db, id=permit))
            return views.preparation(office, desk.space_of(db, found.space))

    @get("/spaces/{space}/gases")
    def gases(request: Request, space: str) -> Row:
        person = allow(office, request, "GET /api/v1/spaces/{space}/gases")
        with office.records.look() as db:
            view = views.View(office, db, person, language(request))
            return {"items": view.gases(desk.space_of(db, space)), "next": None}

    @get("/spaces/{space}/telemetry")
    def series(request: Request, space: str, device: str, gas: str, from_: float = 0, to: float = 0, step: int = 0) -> Row:
        allow(office, request, "GET /api/v1/spaces/{space}/telemetry")
        start = float(request.query_params.get("from", from_) or 0)
        with office.records.look() as db:
            desk_space = desk.space_of(db, space)
        if device not in {i.device for i in office.pictures.instruments_of(desk_space)}:
            raise Problem(404, "not_found")
        return _series(office, telemetry, device, gas, (start, to or office.now()), step or None)

    @get("/spaces/{space}/ledger")
    def ledger(request: Request, space: str) -> Row:
        allow(office, request, "GET /api/v1/spaces/{space}/ledger")
        with office.records.look() as db:
            found = desk.space_of(db, space)
        rows: list[object] = []
        for i in office.pictures.instruments_of(found):
            kept = telemetry.ledger(i.device, 0, int(office.now() * 1000) + 60_000)
            missing = sum(m.last - m.first + 1 for m in kept.missing)
            rows.append({
                "device": i.device, "received": i.received, "duplicate": i.duplicate, "missing": i.missing,
                "stored": kept.received, "stored_missing": missing, "stored_twice": kept.doubled, "torn": kept.torn,
            })  # fmt: skip
        return {"items": rows, "next": None}

    return router


def _limit(limit: object) -> Row:
    return {name: getattr(limit, name) for name in ("level", "side", "value", "clause", "status")}


def _found(rows: list[Permit]) -> Permit:
    if not rows:
        raise Problem(404, "not_found")
    return rows[0]


def permit_row(p: Permit) -> Row:
    """Return a permit as the API shows it: people as ids."""
    return {
        "id": p.id, "number": p.number, "drill": p.drill, "site": p.site, "space": p.space, "work": p.work, "state": p.state.value,
        "requester": p.requester, "supervisor": p.supervisor, "attendant": p.attendant, "tester": p.tester,
        "entrants": p.entrants, "instruments": p.instruments, "start": p.start, "end": p.end,
        "approved": [s.person for s in p.signatures if s.step == "approver"],
        "ventilated_at": p.ventilated_at, "test_passed": p.gas_test.passed if p.gas_test else None,
    }  # fmt: skip


def event_row(view: views.View, seq: int, value: AnyEvent) -> Row:
    """Return an event of the log with its sentence in the reader's language."""
    name = type(value).__name__
    dotted = re.sub(r"(?<!^)(?=[A-Z])", ".", name).lower()
    return {
        "seq": seq,
        "id": value.id,
        "type": dotted,
        "v": 1,
        "at": value.at,
        "site": value.site,
        "space": getattr(value, "space", ""),
        "cause": value.cause,
        "priority": int(getattr(value, "priority", 0)),
        "text": view.sentence(value),
        "data": msgspec.to_builtins(value),
    }


def command_row(db: sa.Connection, command: str, person: Person, lang: str) -> Row:
    """Return how far a command has come; only who gave it may ask."""
    row = db.execute(sa.select(store.command).where(store.command.c.id == command)).one_or_none()
    if row is None or row.by != person.id:
        raise Problem(404, "not_found")
    if row.state == "done" or row.root != command:
        state = row.state
    else:
        related = db.execute(sa.select(store.command.c.state).where(store.command.c.root == command)).scalars().all()
        state = next((s for s in ("refused", "timed_out", "pending") if s in related), "done")
    failures: list[Failure] = []
    for _, event in store.events(db, lambda c: (c.c.cause == command) & (c.c.type == "GrantRefused")):
        if isinstance(event, GrantRefused):
            failures = event.failures
    reason = text(lang, f"reason.{row.result}") if state == "refused" and row.result else ""
    return {
        "id": command,
        "state": state,
        "text": reason or text(lang, f"command.{state}"),
        "result": row.result,
        "failures": [failure_row(lang, f) for f in failures],
    }


def _series(
    office: Office, telemetry: TelemetryStore, device: str, gas: str, span: tuple[float, float], step: int | None
) -> Row:
    rule = office.limits.of(gas)
    if rule is None:
        raise Problem(404, "not_found")
    start, end = span
    if step is None and end - start > 3600:  # noqa: PLR2004  an hour of seconds is all a curve can show
        step = max(1, int((end - start) / 1800))
    try:
        found = telemetry.series(device, gas, int(start * 1000), int(end * 1000), step)
    except ValueError as error:
        raise Problem(422, "invalid") from error
    except StoreUnavailable as error:
        raise Problem(503, "store_away") from error
    unit = "ppm" if rule.unit == "mg/m3" else rule.unit

    def column(values: list[float]) -> list[float | None]:
        return [None if v != v else round(rule.in_unit(v, unit, office.limits.temperature_c), 3) for v in values]  # noqa: PLR0124  NaN

    return {
        "t": [t / 1000 for t in found.t.tolist()],
        "lo": column(found.lo.tolist()),
        "hi": column(found.hi.tolist()),
        "mean": column(found.mean.tolist()),
        "unit": rule.unit.replace("m3", "m³"),
        "limits": [{"level": x.level, "side": x.side, "value": x.value} for x in rule.limit],
    }


def sign_in_route(office: Office, guesses: auth.Guesses) -> Callable[[Request], object]:
    """Return `POST /api/v1/sessions`: an app's way in; answers a Bearer token."""

    async def sessions(request: Request) -> Response:
        try:
            body = await request.json()
            account, password = str(body["account"]), str(body["password"])
        except (ValueError, KeyError, TypeError) as error:
            raise Problem(422, "invalid") from error
        token = await run_in_threadpool(try_sign_in, office, guesses, account, password)
        return JSONResponse({"token": token}, 201)

    return sessions


def try_sign_in(office: Office, guesses: auth.Guesses, account: str, password: str) -> str:
    """Return a new session's token, or raise the Problem: wrong (the same answer for unknown), or too many tries."""
    now = office.now()
    if guesses.wait_s(account, now) > 0:
        raise Problem(429, "too_many_tries")
    with office.records.look() as db:
        person = auth.sign_in(db, account, password)
    guesses.note(account, now, right=person is not None)
    if person is None:
        raise Problem(401, "wrong_password")
    with office.records.change() as db:
        return auth.open_session(db, person, now)
