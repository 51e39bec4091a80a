"""Every route, registered from the rights table; a route without a row cannot be made."""

import re
from collections.abc import Callable
from functools import partial

import sqlalchemy as sa
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from api import auth, desk, store
from api.actions import ACTIONS, Action, Call
from api.http import Problem, language, once, person_of, require_same_origin, token_of
from api.office import Office
from api.reads import READS, Look
from api.rights import RIGHTS
from api.schemas import SignIn
from api.texts import text
from manway.entities import Permit, Person
from manway.errors import ActionRefused, Failure
from manway.runtime.telemetry import TelemetryStore

Row = dict[str, object]
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")
ERRORS: dict[int | str, dict[str, object]] = {
    code: {"description": "problem+json"} for code in (400, 401, 403, 404, 409, 413, 415, 422, 429)
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
    """Register the POST and PUT routes of the action table."""
    for route, action in ACTIONS.items():
        method, path = route.split(" ")
        endpoint = _endpoint(office, route, action)
        key = {"name": "Idempotency-Key", "in": "header", "required": not action.emergency, "schema": {"type": "string"}}
        described = {"parameters": [*_path_parameters(path), key], "requestBody": _body_schema(action.body)}
        name = re.sub(r"[^a-z]+", "_", path.removeprefix("/api/v1/")).strip("_")
        app.add_api_route(path, endpoint, methods=[method], operation_id=name, openapi_extra=described, responses=ERRORS)


def _path_parameters(path: str) -> list[Row]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", path)
    ]


def _body_schema(model: type[BaseModel]) -> Row:
    """Return the description of a body, its nested models written out: a reference into itself would point nowhere."""
    whole = model.model_json_schema()
    nested = whole.pop("$defs", {})

    def written_out(part: object) -> object:
        if isinstance(part, list):
            return [written_out(x) for x in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return written_out(nested[part["$ref"].rpartition("/")[2]])
        return {k: written_out(v) for k, v in part.items()}

    return {"required": True, "content": {"application/json": {"schema": written_out(whole)}}}


def _endpoint(office: Office, route: str, action: Action) -> Callable[[Request], object]:
    async def endpoint(request: Request) -> Response:
        require_same_origin(request)
        _require_json(request)
        body, args = await request.body(), {name: str(value) for name, value in request.path_params.items()}
        lang, key = language(request), request.headers.get("idempotency-key", "")
        if not _KEY.fullmatch(key):
            if not action.emergency:
                raise Problem(400, "idempotency_key")
            key = office.new_id()
        return await run_in_threadpool(_carry_out, office, request, route, action, (args, lang, key, body))

    return endpoint


def _carry_out(
    office: Office, request: Request, route: str, action: Action, given: tuple[dict[str, str], str, str, bytes]
) -> Response:
    args, lang, key, body = given
    person = allow(office, request, route, args.get("permit", ""))
    try:
        value = action.body.model_validate_json(body)
    except ValidationError as error:
        fields = "; ".join(f"{'.'.join(str(x) for x in e['loc'])}: {e['msg']}" for e in error.errors())
        raise Problem(
            422, "invalid", [Failure("FORM", "", "form.invalid", "form.complete", {"fields": fields[:400]})]
        ) from error
    try:
        act = partial(_act, office, person, args, lang, action, value, token_of(request))
        status, answer, replayed = once(office, person, key, f"{route} {' '.join(args.values())}", body, act)
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
    office: Office,
    person: Person,
    args: dict[str, str],
    lang: str,
    action: Action,
    value: object,
    token: str,
    db: sa.Connection,
) -> tuple[int, Row]:
    auth.touch(db, token, office.now())
    return action.act(Call(db, office, person, next(iter(args.values()), ""), lang, args), value)


def add_reads(app: FastAPI, office: Office, telemetry: TelemetryStore) -> None:
    """Register the GET routes of the reading table."""
    for route, read in READS.items():
        path = route.removeprefix("GET ")
        name = re.sub(r"[^a-z]+", "_", path.removeprefix("/api/v1/")).strip("_")
        app.add_api_route(
            path,
            _reader(office, telemetry, route, read),
            methods=["GET"],
            operation_id=f"get_{name}",
            openapi_extra={"parameters": _path_parameters(path)},
            responses=ERRORS,
        )


def _reader(
    office: Office, telemetry: TelemetryStore, route: str, read: Callable[[Look], Row]
) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        person = allow(office, request, route, request.path_params.get("permit", ""))
        args = {**request.query_params, **{k: str(v) for k, v in request.path_params.items()}}
        try:
            with office.records.look() as db:
                return JSONResponse(read(Look(db, office, telemetry, person, language(request), args)))
        except desk.NotFound as error:
            raise Problem(404, "not_found") from error

    return endpoint


def add_sign_in(app: FastAPI, office: Office, guesses: auth.Guesses) -> None:
    """Register `POST /api/v1/sessions`: an app's way in; answers a Bearer token."""

    async def sessions(request: Request) -> Response:
        _require_json(request)
        try:
            value = SignIn.model_validate_json(await request.body())
        except ValidationError as error:
            raise Problem(422, "invalid") from error
        token = await run_in_threadpool(try_sign_in, office, guesses, value.account, value.password)
        return JSONResponse({"token": token}, 201)

    described = {"requestBody": _body_schema(SignIn)}
    app.add_api_route(
        "/api/v1/sessions",
        sessions,
        methods=["POST"],
        operation_id="sessions",
        status_code=201,
        openapi_extra=described,
        responses=ERRORS,
    )


def _require_json(request: Request) -> None:
    """Refuse what a form of a foreign page could send as well."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "json_only")


def try_sign_in(office: Office, guesses: auth.Guesses, account: str, password: str) -> str:
    """Return a new session's token, or raise the Problem: wrong (the same answer for unknown), or too many tries."""
    now = office.now()
    if guesses.wait_s(account, now) > 0:
        raise Problem(429, "too_many_tries")
    guesses.note(account, now, right=False)  # before it is known: many at once must not all count as the first
    with office.records.look() as db:
        known = store.get(db, auth.Account, account)
    person = auth.sign_in(known, password)  # slow on purpose, so not while holding a connection
    if person is None:
        raise Problem(401, "wrong_password")
    guesses.note(account, now, right=True)
    with office.records.change() as db:
        return auth.open_session(db, person, now)
