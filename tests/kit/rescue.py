"""A gateway with its rescue desk and its emergency page, one virtual lock behind a broker in memory, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Scope

from firmware_sim.lock import Publish
from gateway.host import SiteHost
from gateway.journal import Journal
from gateway.panel import Panel
from gateway.pipeline import Gateway
from gateway.rescue import RescueDesk
from manway import codec_ble
from manway.codec_mqtt import SignedPlan, encode, pack_plan
from manway.entities import Lock, Plan
from manway.events import AlarmRaised, Event
from manway.inputs import AnyInput
from manway.runtime.ports import Bus
from manway.runtime.signing import SigningKey
from manway.topics import device_topic, gateway_filters, root
from tests.kit.builders import a_plan
from tests.kit.clock import FakeClock
from tests.kit.gateway import Shelf, a_gateway, a_host, inputs_of, open_journal
from tests.kit.locks import LOCK, SITE, LockBench, counting_random
from tests.kit.memory_broker import MemoryBroker

CODE = "482915"
SITE_ID = "yard"
THE_LOCK = "lock-1"
PLAN_KEY = SigningKey(bytes(range(0xA0, 0xC0)))


def rescue_plan(version: int = 1, **changed: object) -> Plan:
    """The plan of the kit with the bench's lock in it."""
    known = Lock(THE_LOCK, codec_ble.lock_id_of(LOCK.public_key), LOCK.public_key, "n01")
    return a_plan(version, locks=[known], **changed)  # type: ignore[arg-type]


class Answer(NamedTuple):
    """What an ASGI application answered."""

    status: int
    headers: dict[str, str]
    text: str


async def request(
    app: ASGIApp,
    method: str,
    path: str,
    form: Mapping[str, str] | None = None,
    *,
    lang: str = "en",
    headers: Mapping[str, str] | None = None,
    raw: bytes | None = None,
) -> Answer:
    """One request without a socket; `raw` is a body that is not a form's."""
    body = urlencode(form or {}).encode() if raw is None else raw
    plain = {"host": "gateway:8090", "accept-language": lang, "content-length": str(len(body))}
    plain |= {"content-type": "application/x-www-form-urlencoded"} if form is not None else {}
    pairs = [(k.encode(), v.encode()) for k, v in (plain | dict(headers or {})).items()]
    where, _, query = path.partition("?")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": where,
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "headers": pairs,
        "root_path": "",
        "server": ("gateway", 8090),
        "client": ("phone", 1),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    got = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return Answer(sent[0]["status"], got, b"".join(m.get("body", b"") for m in sent[1:]).decode())


class Siren:
    """The local output: every event in the order shown, and what the lock had been sent by then."""

    def __init__(self) -> None:
        self.shown: list[Event] = []
        self.broker_had: dict[str, int] = {}
        self.sent: list[str] = []

    def show(self, event: Event) -> None:
        self.shown.append(event)
        if isinstance(event, AlarmRaised):
            self.broker_had.setdefault(event.kind, len(self.sent))

    def alarms(self) -> list[str]:
        return [e.kind for e in self.shown if isinstance(e, AlarmRaised)]


class RescueSite:
    """What a test looks at and touches."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.clock, self.broker, self.bench, self.siren = FakeClock(), MemoryBroker(), LockBench(), Siren()
        self.journal: Journal = open_journal(folder)
        self.host: SiteHost = a_host(self.journal, SITE_ID, PLAN_KEY.public_key, self.siren)
        self.bus: Bus = self.broker.bus("gw-1", [(f, 1) for f in gateway_filters(SITE_ID)])
        self.store = Shelf()
        self.gateway: Gateway = a_gateway(folder, self.journal, [self.host], self.bus, self.store, self.clock)
        self.desk = self.host.rescue = RescueDesk(SITE_ID, SITE.sign, counting_random())
        self.panel = Panel([self.host], code=CODE, wake=self.gateway.wake, now=self.clock.now)
        self.app = self.panel.app()
        self.mute = False  # a lock that hears nothing
        self.overtaken = 0  # so many grants find that another's hello has taken the place of their challenge
        self._plan = plan
        self._lock_bus = self.broker.bus(
            THE_LOCK, [(device_topic(SITE_ID, THE_LOCK, f"down/{n}"), 1) for n in ("hello", "grant")]
        )
        self.api = self.broker.bus("api", [(f"{root(SITE_ID)}gw/event", 1)])

    @property
    def stage(self) -> str:
        return self.desk.flows[THE_LOCK].stage.value

    async def ask(self, *, code: str = CODE, name: str = "Li Wei", lock: str = THE_LOCK) -> Answer:
        """Press the button of the page."""
        return await request(self.app, "POST", "/rescue", {"site": SITE_ID, "lock": lock, "code": code, "name": name})

    async def page(self, path: str = f"/rescue?site={SITE_ID}&lock={THE_LOCK}", **how: str) -> str:
        answer = await request(self.app, "GET", path, **how)  # type: ignore[arg-type]
        assert answer.status == 200
        return answer.text

    def given(self) -> list[AnyInput]:
        return inputs_of(self.journal, SITE_ID)

    async def plan(self, plan: Plan) -> None:
        body = pack_plan(plan)
        signed = encode(SignedPlan(PLAN_KEY.kid.hex(), body, PLAN_KEY.sign_raw(body)))
        await self.api.publish(f"{root(SITE_ID)}api/plan", signed, retain=True)
        await asyncio.sleep(0.1)

    async def publish(self, messages: list[Publish]) -> None:
        for message in messages:
            topic = device_topic(SITE_ID, THE_LOCK, f"up/{message.name}")
            await self._lock_bus.publish(topic, message.payload, retain=message.name == "state")

    @property
    def now(self) -> float:
        """The lock's own seconds."""
        return asyncio.get_running_loop().time()

    async def _live(self) -> None:
        """The lock's life: it answers what it hears and does what time brings."""
        await self.publish([Publish("state", codec_ble.encode_state(self.bench.lock.state(self.now)))])
        while True:
            await asyncio.sleep(0.05)
            if not self.mute:
                await self.publish(self.bench.lock.advance(self.now))

    async def _listen(self) -> None:
        async for batch in self._lock_bus.batches():
            for message in batch.messages:
                name = message.topic.rpartition("down/")[2]
                self.siren.sent.append(name)
                if name == "grant" and self.overtaken:
                    self.overtaken -= 1
                    await asyncio.sleep(0.6)
                    self.bench.lock.receive("hello", b"\x01", self.now)
                if not self.mute:
                    await self.publish(self.bench.lock.receive(name, message.payload, self.now))
            await batch.ack()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["RescueSite"]:
        try:
            async with asyncio.TaskGroup() as group, self._lock_bus, self.api:
                parts = (self.gateway.run(), self.desk.run(self.bus), self._live(), self._listen())
                tasks = [group.create_task(part) for part in parts]
                await asyncio.sleep(0.1)
                await self.plan(self._plan)
                yield self
                for task in tasks:
                    task.cancel()
        finally:
            self.journal.close()


@contextlib.asynccontextmanager
async def a_rescue_site(folder: Path, plan: Plan | None = None) -> AsyncIterator[RescueSite]:
    """A running site; must run on a `VirtualLoop`."""
    async with RescueSite(folder, plan or rescue_plan()).running() as site:
        yield site
