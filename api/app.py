"""Composition root of the api: the only place where its concrete parts are chosen."""

import asyncio
import secrets

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from api import auth
from api.bridge import Bridge
from api.dialects import RecordsUnavailable
from api.http import Problem, guarded, language, problem_response
from api.office import Office
from api.pages import Pages, add_pages
from api.public_keys import load_public_keys
from api.recent_air import RecentAir
from api.routes import add_actions, add_reads, add_sign_in, allow
from api.signer.client import SignerClient
from api.store import Records
from api.texts import text
from api.watchdog import Watchdog
from manway.errors import StoreUnavailable
from manway.runtime import settings as configuration
from manway.runtime.clock import SystemClock
from manway.runtime.mqtt import MqttBus, Tls
from manway.runtime.signing import load_key
from manway.runtime.stores import open_store
from manway.runtime.tasks import OneThread, until_signalled
from manway.runtime.telemetry import TelemetryStore
from manway.topics import api_filters

_log = structlog.get_logger("api")
_TORN_EVERY_S = 5.0
_KEY_OF = {404: "not_found", 405: "not_found"}


def build(office: Office, telemetry: TelemetryStore, sites: list[str]) -> tuple[FastAPI, Pages]:
    """Return the web application over an office; no module-level state anywhere."""
    app = FastAPI(title="Manway", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    guesses = auth.Guesses()
    office.air = RecentAir(telemetry)

    _answer_errors(app)

    @app.get("/healthz", include_in_schema=False)
    def health() -> Response:
        return PlainTextResponse("ok")

    @app.get("/readyz", include_in_schema=False)
    def ready() -> Response:
        """Say whether every gateway's picture is there, without which nothing is supervised, and the signer, who opens."""
        silent = [site for site in sites if site not in office.pictures.state]
        said = [f"no gateway yet: {', '.join(silent)}"] if silent else []
        said += [text("en", f"failure.{office.signer_fault}")] if office.signer_fault else []
        return PlainTextResponse("; ".join(said) or "ok", 503 if said else 200)

    @app.get("/api/v1/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> dict[str, object]:
        allow(office, request, "GET /api/v1/openapi.json")
        return app.openapi()

    add_sign_in(app, office, guesses)
    add_actions(app, office)
    add_reads(app, office, telemetry)
    return app, add_pages(app, office, telemetry, guesses)


def _answer_errors(app: FastAPI) -> None:
    """Register how every error that reaches the edge is told."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return problem_response(language(request), error)

    # The framework's own refusals speak its own dialect, and repeat what was sent, a password included.
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        answer = problem_response(language(request), Problem(error.status_code, _KEY_OF.get(error.status_code, "invalid")))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, _: RequestValidationError) -> Response:
        return problem_response(language(request), Problem(422, "invalid"))

    @app.exception_handler(RecordsUnavailable)
    async def records_away(request: Request, error: RecordsUnavailable) -> Response:
        _log.warning("records away", reason=error.reason)
        return problem_response(language(request), Problem(503, "records_away"))

    @app.exception_handler(DataError)
    async def unstorable(request: Request, _: DataError) -> Response:
        return problem_response(language(request), Problem(422, "invalid"))  # a zero byte, which PostgreSQL keeps in no text

    @app.exception_handler(StoreUnavailable)
    async def away(request: Request, _: StoreUnavailable) -> Response:
        return problem_response(language(request), Problem(503, "store_away"))


async def main(settings: configuration.Settings) -> None:
    """Run the api until SIGINT or SIGTERM."""
    clock = SystemClock(speed=settings.speed, start=settings.started_at)
    records = Records(settings.records.get_secret_value() or settings.data / "records.db")
    limits = configuration.limits(settings.profile, settings.site_limits, when=clock.now())
    timings = configuration.timings(yard=settings.yard)
    office = Office(records, clock, secrets.token_bytes, limits, timings, yard=settings.yard)
    office.keys = load_public_keys(settings.data / "keys")
    office.signer_fault = "signer.silent"  # until it has said who it is
    office.panel = f"http://{settings.panel_host}:{settings.panel_port}/" if settings.panel_port else ""
    telemetry = open_store(settings, writer=False)
    bus = MqttBus(
        settings.broker,
        "api",
        subscriptions=[(f, 1) for site in settings.sites for f in api_filters(site)],
        user="api",
        password=settings.broker_password.get_secret_value(),
        tls=Tls(settings.broker_ca, settings.broker_cert, settings.broker_key) if settings.broker_ca else None,
        protocol=settings.protocol,
    )
    thread, signer = OneThread("records"), SignerClient(settings.signer_path)
    bridge = Bridge(office, bus, load_key(settings.data / "keys" / "plan.key"), settings.sites, thread, signer)
    app, pages = build(office, telemetry, settings.sites)
    server = uvicorn.Server(
        uvicorn.Config(
            guarded(app), host=settings.host, port=settings.port, log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    _log.info("api answers", host=settings.host, port=settings.port)
    try:
        async with until_signalled(), asyncio.TaskGroup() as group:
            group.create_task(bridge.run())
            group.create_task(Watchdog(office, settings.sites, thread).run())
            group.create_task(_count_torn(pages))
            group.create_task(server._serve())  # noqa: SLF001  `serve` would take the signals, which are ours
    finally:
        thread.close()
        telemetry.close()
        records.close()


async def _count_torn(pages: Pages) -> None:
    while True:
        try:
            await asyncio.to_thread(pages.count_torn)
        except StoreUnavailable as error:
            _log.warning("store unavailable", reason=error.reason)
        await asyncio.sleep(_TORN_EVERY_S)
