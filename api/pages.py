"""Pages and their live stream: both are made of the same view models, so what is painted first is what is patched later."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated
from urllib.parse import urlencode

import jinja2
import msgspec
from fastapi import Depends, FastAPI, Form, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from api import auth, desk, store
from api.dialects import RecordsUnavailable
from api.emergency import raised
from api.frame_ledger import ShownLedgers
from api.http import COOKIE, Problem, language, person_of, require_same_origin, token_of
from api.office import Office
from api.reads import event_row
from api.rights import RIGHTS
from api.routes import ERRORS, allow, try_sign_in
from api.texts import LANGUAGES, catalogue, text
from api.views.alarm import alarm, banner
from api.views.approvals import approvals
from api.views.attendant import attendant
from api.views.brief import brief_text
from api.views.emergency import emergency_page
from api.views.enrolments import enrolment_page
from api.views.space import space_page
from api.views.view import Row, View
from api.views.wall import wall
from api.views.worker import worker
from manway.entities import Person
from manway.runtime.telemetry import TelemetryStore

_HOMES = (("manager", "/wall"), ("approver", "/approvals"), ("attendant", "/attendant"), ("worker", "/worker"))
_NAV = ("worker", "attendant", "approvals", "wall", "locks")
_VIEWS = {
    "worker": "/worker",
    "approvals": "/approvals",
    "attendant": "/attendant",
    "wall": "/wall",
    "alarm": "/alarms/{alarm}",
    "emergency": "/alarms/{alarm}/emergency",
    "space": "/spaces/{space}",
    "locks": "/locks/enrolments",
}
_POSITION = re.compile(r"[0-9]{1,18}")
_TICK_S = 1.0
_REPLAY_MOST = 500
_LOOK_S = 0.25  # least time between two looks at a view
_LEAST_GAP_S = 0.05


def home_of(person: Person) -> str:
    """Return where `/` sends a person."""
    return next((path for role, path in _HOMES if role in person.roles), "/wall")


class Pages:
    """Renders `dashboards/web` for people."""

    def __init__(self, office: Office, telemetry: TelemetryStore) -> None:
        self.office = office
        self._kept = ShownLedgers(office, telemetry)
        root = files("dashboards") / "web"
        self.static = root / "static"
        loader = jinja2.FileSystemLoader(str(root / "templates"))
        self._jinja = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        self._jinja.filters["clock"] = lambda at: (
            "—" if at is None else datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")
        )
        self._jinja.filters["span"] = span

    def data(self, view: View, name: str, args: dict[str, str]) -> Row:
        """Return a view model by the name of its page.

        Raises:
            Problem: there is no such object.
        """
        match name:
            case "wall":
                return wall(view)
            case "approvals":
                return approvals(view)
            case "worker":
                return worker(view)
            case "locks":
                return enrolment_page(view)
            case "attendant":
                return attendant(view, args.get("permit", ""))
            case "alarm":
                found = alarm(view, args.get("alarm", ""))
            case "emergency":
                found = emergency_page(view, args.get("alarm", ""))
            case "space":
                found = space_page(view, args.get("space", ""), self._kept)
            case _:
                found = None
        if found is None:
            raise Problem(404, "not_found")
        return found

    def count_torn(self) -> None:
        """Ask the store for what it alone knows of the devices and jobs that pages show; slow, so it runs beside them."""
        self._kept.count()

    def snapshot(self, request: Request, person: Person, name: str, args: dict[str, str]) -> tuple[int, Row, Row]:
        """Return (position in the log, view model, banner) from one consistent read.

        With the records away: from the gateways' newest pictures and what the records last said of the rest.
        """
        with self.office.records.last_known() as db:
            view = View(self.office, db, person, language(request))
            return store.last_seq(db), self.data(view, name, args), banner(view)

    def render(self, request: Request, template: str, **context: object) -> HTMLResponse:
        """Render a template with what every page has."""
        lang = language(request)
        base: Row = {
            "lang": lang,
            "t": lambda key, **params: text(lang, key, **params),
            "static": lambda name: f"/static/{name}",
            "texts": self._texts(lang),
            "languages": list(LANGUAGES),
            "yard": self.office.yard,
            "yard_note": text(lang, "ui.yard_note", **_yard(self.office)),
            "limits_note": self.office.limits.note.get(lang.split("-", maxsplit=1)[0], ""),
            "path": request.url.path,
            "me": None,
            "nav": [],
            "view": template.removesuffix(".html"),
            "args": {},
            "seq": 0,
            "now": self.office.now(),
            "banner": None,
            "data": {},
            "login_error": None,
        }
        return HTMLResponse(self._jinja.get_template(template).render(base | context))

    def _texts(self, lang: str) -> dict[str, str]:
        """Return the texts that a page's script says, with where a rescue goes when the page itself cannot open."""
        texts = {k: v for k, v in catalogue(lang).items() if k.startswith("ui.js.")}
        if panel := self.office.panel:
            texts["ui.js.rescue"] = text(lang, "ui.rescue.at", panel=panel)
        return texts

    def page(self, request: Request, name: str, args: dict[str, str]) -> Response:
        """Return a page of a signed-in person with a right to it, or the way to the login."""
        person = person_of(request, self.office)
        if person is None:
            return RedirectResponse(f"/login?{urlencode({'next': request.url.path})}", 303)
        try:
            seq, data, banner = self.snapshot(request, person, name, args)
        except desk.NotFound as error:
            raise Problem(404, "not_found") from error
        lang = language(request)
        role = person.roles[0]
        me = {"id": person.id, "name": person.name.get(lang, person.id), "role": role, "role_text": text(lang, f"role.{role}")}
        nav = [
            {"href": _VIEWS[n], "text": text(lang, f"ui.nav.{n}"), "current": n == name}
            for n in _NAV
            if RIGHTS[f"GET {_VIEWS[n]}"].allows(person)
        ]
        shown = me | {"home": home_of(person)}
        return self.render(request, f"{name}.html", me=shown, nav=nav, view=name, args=args, seq=seq, banner=banner, data=data)


def span(seconds: float) -> str:
    """Return a length of time as the pages' scripts show it: mm:ss, h:mm:ss from an hour on."""
    whole = int(abs(seconds))
    tail = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{tail}" if whole >= 3600 else tail  # noqa: PLR2004  seconds of an hour


def _yard(office: Office) -> dict[str, object]:
    return {"ventilation_s": f"{office.timings.ventilation_s:g}", "dwell_s": f"{office.timings.dwell_s:g}"}


def add_pages(app: FastAPI, office: Office, telemetry: TelemetryStore, guesses: auth.Guesses) -> Pages:
    """Register login, language and the pages."""
    pages = Pages(office, telemetry)
    app.mount("/static", StaticFiles(directory=str(pages.static)))

    def page(path: str, name: str) -> Callable[..., Response]:
        def show(request: Request) -> Response:
            person = person_of(request, office)
            if person is not None:
                allow(office, request, f"GET {path}")
            return pages.page(request, name, {**request.query_params, **{k: str(v) for k, v in request.path_params.items()}})

        app.add_api_route(path, show, methods=["GET"], include_in_schema=False, response_model=None)
        return show

    for name, path in _VIEWS.items():
        page(path, name)
    _add_brief(app, pages)
    _add_sign_in(app, pages, guesses)
    _add_stream(app, pages)
    return pages


def _add_brief(app: FastAPI, pages: Pages) -> None:
    """Register the incident brief as a plain text file, to be sent on by whatever means are there."""
    route = "/alarms/{alarm}/brief.txt"

    @app.get(route, include_in_schema=False)
    def brief_file(request: Request, alarm: str, number: Annotated[int | None, Query(ge=0)] = None) -> Response:
        if person_of(request, pages.office) is None:
            return RedirectResponse(f"/login?{urlencode({'next': request.url.path})}", 303)
        person = allow(pages.office, request, f"GET {route}")
        try:
            with pages.office.records.look() as db:
                view = View(pages.office, db, person, language(request))
                words = brief_text(view, raised(db, alarm), number)
        except desk.NotFound as error:
            raise Problem(404, "not_found") from error
        name = f"brief-{alarm[:8]}-{'now' if number is None else number}.txt"
        return PlainTextResponse(words, headers={"content-disposition": f'attachment; filename="{name}"'})


def _add_sign_in(app: FastAPI, pages: Pages, guesses: auth.Guesses) -> None:
    office = pages.office

    @app.get("/", include_in_schema=False)
    def home(request: Request) -> Response:
        person = person_of(request, office)
        return RedirectResponse("/login" if person is None else home_of(person), 303)

    @app.get("/login", include_in_schema=False)
    def login(request: Request) -> Response:
        return pages.render(request, "login.html")

    @app.post("/login", include_in_schema=False)
    def sign_in(
        request: Request, account: Annotated[str, Form(max_length=64)], password: Annotated[str, Form(max_length=256)]
    ) -> Response:
        require_same_origin(request)
        try:
            token = try_sign_in(office, guesses, account, password)
        except Problem as problem:
            shown = pages.render(request, "login.html", login_error=text(language(request), f"problem.{problem.key}"))
            shown.status_code = problem.status
            return shown
        back = request.query_params.get("next", "/")
        safe = back if back.startswith("/") and not back.startswith("//") else "/"
        answer = RedirectResponse(safe, 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="lax", secure=request.url.scheme == "https")
        return answer

    @app.post("/logout", include_in_schema=False)
    def sign_out(request: Request) -> Response:
        require_same_origin(request)
        with office.records.change() as db:
            auth.close_session(db, token_of(request))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @app.post("/lang", include_in_schema=False)
    def choose_language(
        request: Request, lang: Annotated[str, Form(max_length=8)], back: Annotated[str, Form(max_length=200)] = "/"
    ) -> Response:
        require_same_origin(request)
        safe = back if back.startswith("/") and not back.startswith("//") else "/"
        answer = RedirectResponse(safe, 303)
        if lang in LANGUAGES:
            answer.set_cookie("lang", lang, max_age=31_536_000, samesite="lax")
        return answer


def _add_stream(app: FastAPI, pages: Pages) -> None:
    office = pages.office

    def admit(request: Request) -> Person:
        """Return who may follow the asked view: a stream shows no more than its page, and refuses before it begins."""
        person = allow(office, request, "GET /api/v1/stream")
        args = dict(request.query_params)
        name = args.pop("view", "wall")
        if name not in _VIEWS:
            raise Problem(404, "not_found")
        allow(office, request, f"GET {_VIEWS[name]}")
        try:
            pages.snapshot(request, person, name, args)
        except desk.NotFound as error:
            raise Problem(404, "not_found") from error
        return person

    @app.get("/api/v1/stream", response_class=EventSourceResponse, operation_id="stream", responses=ERRORS)
    async def stream(request: Request, person: Annotated[Person, Depends(admit)]) -> AsyncIterator[ServerSentEvent]:
        query = dict(request.query_params)
        asked = [x for x in (query.pop("after", ""), request.headers.get("last-event-id", "")) if _POSITION.fullmatch(x)]
        after = max((int(x) for x in asked), default=office.seq)
        async for event in _follow(pages, request, person, query.pop("view", "wall"), query, after):
            yield event


async def _follow(
    pages: Pages, request: Request, person: Person, name: str, args: dict[str, str], after: int
) -> AsyncIterator[ServerSentEvent]:
    """Yield events at once after their commit, the changed view beside them, and a tick every second."""
    office, loop = pages.office, asyncio.get_running_loop()
    shown, ticked, looked = b"", 0.0, 0.0
    yield ServerSentEvent(comment="live", retry=500)
    newest = await run_in_threadpool(_newest, office)
    if after > newest:  # this page has followed another log than ours: what it shows is not ours either
        after = newest
        yield ServerSentEvent(raw_data='{"reason":"another log"}', event="reset")
    while True:
        news = office.news
        rows, after = await run_in_threadpool(_news, pages, request, person, after)
        for seq, row in rows:
            yield ServerSentEvent(raw_data=json.dumps(row, ensure_ascii=False), event="event", id=str(seq))
        tick = loop.time() - ticked >= _TICK_S
        if tick:
            ticked = loop.time()
            if await run_in_threadpool(person_of, request, office) is None:
                yield ServerSentEvent(raw_data='{"reason":"signed out"}', event="bye")
                return
            now = office.now()
            ages = [[site, _ms(office.pictures.age_s(site, now))] for site in sorted(office.pictures.state)]
            yield ServerSentEvent(raw_data=json.dumps({"now": now, "seq": after, "gateways": ages}), event="tick")
        if tick or loop.time() - looked >= _LOOK_S:
            looked = loop.time()
            _, data, banner = await run_in_threadpool(pages.snapshot, request, person, name, args)
            fresh = msgspec.json.encode({"data": data, "banner": banner})
            if fresh != shown:
                shown = fresh
                yield ServerSentEvent(raw_data=fresh.decode(), event="rows")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.01, _TICK_S - (loop.time() - ticked))):
                await news.wait()
        await asyncio.sleep(_LEAST_GAP_S)  # a burst of commits becomes one look


def _ms(age_s: float | None) -> int | None:
    return None if age_s is None else int(age_s * 1000)


def _newest(office: Office) -> int:
    try:
        with office.records.look() as db:
            return store.last_seq(db)
    except RecordsUnavailable:
        return office.seq


def _news(pages: Pages, request: Request, person: Person, after: int) -> tuple[list[tuple[int, Row]], int]:
    """Return what the log has behind a position, a bounded piece at a time, and the position behind that.

    With the records away there is nothing new; it all comes, in order, when they are back.
    """
    try:
        with pages.office.records.look() as db:
            rows = store.events(db, lambda c: c.c.seq > after, most=_REPLAY_MOST)
            if not rows:
                return [], after
            view = View(pages.office, db, person, language(request))
            return [(seq, event_row(view, seq, event)) for seq, event in rows], rows[-1][0]
    except RecordsUnavailable:
        return [], after
