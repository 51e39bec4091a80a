"""The gateway's own emergency page, on the site's network: what is open and how the air is, and opening for rescue.

It needs this process alone: no api, no broker to the city, no disk. Whoever reaches it can open for rescue: the right code, a
wrong one and none all open, and differ in what the alarm says (ADR 0007). It opens nothing else, and changes nothing.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from urllib.parse import urlencode

import jinja2
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import panel_view
from gateway.host import SiteHost
from gateway.panel_callers import MOST, Caller
from gateway.panel_code import is_right
from manway.runtime.texts import LANGUAGES, choose, clock_text, text

_log = structlog.get_logger("panel")
WRONG_CODE_S = 2.0  # the answer waits, never the rescue (`trust.md` T25)
_AGAIN_S = 10.0  # (choice) an address that is taken may become free
_BODY_MOST = 4_096
_NAME_MOST = 60
_OWN_FILES = {
    "manway.css": ("static", "text/css"),
    "mark.svg": ("static", "image/svg+xml"),
    "panel.css": ("panel", "text/css"),
    "panel.js": ("panel", "text/javascript"),
}
_HEADERS = [
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"),
    (b"x-content-type-options", b"nosniff"),
    # Not `no-referrer`: a form's own origin would be sent as null then, and could not be told from a foreign one's.
    (b"referrer-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+")


class Panel:
    """Shows the sites of `hosts` and takes rescues; `wake` lets the pipeline look at a site, `now` is Unix seconds."""

    def __init__(self, hosts: Sequence[SiteHost], *, code: str, wake: Callable[[str], None], now: Callable[[], float]) -> None:
        self._hosts = {host.site: host for host in hosts}
        self._code, self._wake, self._now = code, wake, now
        self._wrong = asyncio.Lock()  # wrong codes are answered one after another: guessing is slow, however many guess
        root = files("dashboards") / "web"
        self._files = {name: ((root / folder / name).read_bytes(), kind) for name, (folder, kind) in _OWN_FILES.items()}
        loader = jinja2.FileSystemLoader(str(root / "panel"))
        self._jinja = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    def app(self) -> ASGIApp:
        """Return the whole page as an ASGI application."""
        routes: list[BaseRoute] = [
            Route("/", self._list),
            Route("/rescue", self._show),
            Route("/rescue", self._ask, methods=["POST"]),
            Route("/lang", self._choose, methods=["POST"]),
            Route("/static/{name}", self._file),
        ]
        return _guarded(Starlette(routes=routes))

    # -- shown

    async def _list(self, request: Request) -> Response:
        return self._render(request, "list.html", panel_view.page(self._hosts.values(), _language(request), self._now()))

    async def _show(self, request: Request) -> Response:
        """Show one entrance: how it stands, and the button; `live=1` asks for the part that changes alone."""
        host, lock = self._asked_for(request.query_params)
        lang, now = _language(request), self._now()
        shown = panel_view.opening(host, lock, lang, now)
        if shown is None:
            raise HTTPException(404)
        said = request.query_params.get("said", "")
        more = {"said": said if said in ("already", "wrong") else "", "api": panel_view.page([host], lang, now)["api"]}
        return self._render(request, "rescue.html", shown | more)

    def _asked_for(self, values: Mapping[str, object]) -> tuple[SiteHost, str]:
        host = self._hosts.get(str(values.get("site", "")))
        if host is None:
            raise HTTPException(404)
        return host, str(values.get("lock", ""))

    def _render(self, request: Request, template: str, data: Mapping[str, object]) -> HTMLResponse:
        lang = _language(request)
        base = {
            "lang": lang,
            "other": next(x for x in LANGUAGES if x != lang),
            "t": lambda key, **params: text(lang, key, **params),
            "banner_too": text(next(x for x in LANGUAGES if x != lang), "emergency.banner"),
            "at": clock_text(self._now()),
            "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            "live_only": request.query_params.get("live") == "1",
            "can_open": all(host.rescue is not None for host in self._hosts.values()),
        }
        return HTMLResponse(self._jinja.get_template(template).render(base | dict(data)))

    async def _file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        return PlainTextResponse("", 404) if found is None else Response(found[0], media_type=found[1])

    async def _choose(self, request: Request) -> Response:
        form = await _form(request)
        back, lang = form.get("back", "/"), form.get("lang", "")
        answer = RedirectResponse(back if re.match(r"/(?![/\\])", back) else "/", 303)
        if lang in LANGUAGES:
            answer.set_cookie("lang", lang, max_age=31_536_000, samesite="lax")
        return answer

    # -- asked

    async def _ask(self, request: Request) -> Response:
        """Begin a rescue at once; only then look what is to be said about the code."""
        if _foreign(request):
            return PlainTextResponse(text(_language(request), "problem.foreign_origin"), 403)
        form = await _form(request)
        host, lock = self._asked_for(form)
        space = next((s.space for s in host.engine.site.locks.values() if s.device == lock), None)
        if space is None or host.rescue is None:
            raise HTTPException(404)
        typed = form.get("code", "")
        coded = is_right(self._code, typed)
        flow, new = host.rescue.ask(lock, space, _typed_name(form.get("name", "")), coded=coded)
        if new:
            self._wake(host.site)
            _log.warning("rescue asked", site=host.site, lock=lock, by=flow.by, with_code=coded)
        if typed and not coded:
            async with self._wrong:
                await asyncio.sleep(WRONG_CODE_S)
        said = {"said": "already"} if not new else {"said": "wrong"} if typed and not coded else {}
        return RedirectResponse(f"/rescue?{urlencode({'site': host.site, 'lock': lock} | said)}", 303)


async def _form(request: Request) -> dict[str, str]:
    """Return what was typed, as text that every journal and wire can take: half a pair, which is no text, becomes "?".

    Raises:
        HTTPException: 400, it cannot be read as a form.
    """
    try:
        form = await request.form()
    except ValueError as error:  # an alphabet that has no letters for these bytes, or no name
        raise HTTPException(400) from error
    return {key: str(value).encode("utf-8", "replace").decode() for key, value in form.items()}


def _typed_name(name: str) -> str:
    """Return a name as it was typed, in quotation marks: it must never pass for the id of a person who has signed in."""
    return f"“{_UNSEEN.sub(' ', name).strip()[:_NAME_MOST].replace('”', '') or '—'}”"


def _language(request: Request) -> str:
    return choose(request.headers.get("accept-language", ""), request.cookies.get("lang"))


def _foreign(request: Request) -> bool:
    """Say whether another site's page made the browser send this; only browsers send an origin."""
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")


def _guarded(app: ASGIApp) -> ASGIApp:
    """Wrap the page: no body beyond a form's, the security headers on every answer."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        headers = dict(scope.get("headers", []))
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > _BODY_MOST:
            await PlainTextResponse("", 413)(scope, receive, with_headers)
            return
        await app(scope, receive, with_headers)

    return wrapped


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until cancelled. What goes wrong here ends nothing else: the rules of the site go on without a page."""
    while True:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, port))
                _log.info("emergency page answers", host=host, port=port)
                await _served(app, listener)
        except OSError as error:
            _log.error("no emergency page", host=host, port=port, reason=str(error))
        except (Exception, SystemExit):  # noqa: BLE001  no fault of a page may end the watch over the site
            _log.exception("the emergency page failed; it begins again")
        await asyncio.sleep(_AGAIN_S)


async def _served(app: ASGIApp, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http=Caller,
        backlog=MOST,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)
    try:
        await server._serve(sockets=[listener])  # noqa: SLF001  `serve` would take the signals, which are the process's
    except BaseException:
        if server.started:
            await server.shutdown(sockets=[listener])
        raise
