"""A whole yard in one process: gateway, api and simulator on the kit's broker and virtual time; real bytes, real records."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from api import auth, desk, store
from api.actions import ACTIONS, Call, refused
from api.bridge import Bridge
from api.http import Problem, once
from api.office import Office
from api.public_keys import load_public_keys
from api.reads import READS, Look
from api.rights import RIGHTS
from api.watchdog import Watchdog
from firmware_sim.app import build_posts
from firmware_sim.devices import Devices, subscriptions
from firmware_sim.people import Cast, Row
from firmware_sim.scenario import Story
from gateway.outputs import LogOutput
from manway.cli.seed import make_keys, seed_records
from manway.entities import Person
from manway.errors import ActionRefused
from manway.events import AnyEvent
from manway.runtime import settings
from manway.runtime.signing import load_or_make_key, load_public_key
from manway.runtime.telemetry import TelemetryStore
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.yard import Yard, load_yard
from manway.topics import api_filters, gateway_filters
from tests.kit.clock import FakeClock
from tests.kit.gateway import a_gateway, a_host, in_place, open_journal
from tests.kit.locks import counting_random
from tests.kit.memory_broker import MemoryBroker
from tests.kit.signer import SignerInPlace

T = TypeVar("T")


class InlineApi:
    """The simulator's `Api` without HTTP: the same tables of actions, reads and rights, in the caller's task."""

    def __init__(self, office: Office, telemetry: TelemetryStore, people: Mapping[str, Person]) -> None:
        self._office, self._telemetry, self._people = office, telemetry, people
        self._routes = [(re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", r.split(" ")[1])), r) for r in (*ACTIONS, *READS)]

    async def call(self, account: str, method: str, path: str, body: Mapping[str, object] | None, key: str) -> tuple[int, Row]:
        """Return (status, answer), as the HTTP edge would."""
        person = self._people[account]
        if method == "GET":
            return 200, self.get(account, path)
        for pattern, route in self._routes:
            match = pattern.fullmatch(unquote(path))
            if match and route.startswith(method):
                return self._answer(person, route, match.groupdict(), body or {}, key)
        raise AssertionError(f"no route: {method} {path}")

    def get(self, account: str, path: str) -> Row:
        """Return what somebody sees at a path with its query, at once."""
        path, _, query = path.partition("?")
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match and route in READS:
                args = match.groupdict() | dict(parse_qsl(query))
                with self._office.records.look() as db:
                    return READS[route](Look(db, self._office, self._telemetry, self._people[account], "en", args))
        raise AssertionError(f"no route: {path}")

    def _answer(
        self, person: Person, route: str, args: dict[str, str], body: Mapping[str, object], key: str
    ) -> tuple[int, Row]:
        office = self._office
        with office.records.look() as db:
            named = next(iter(store.permits(db, id=args.get("permit", ""))), None)
            if not RIGHTS[route].allows(person, named):
                return 403, {}
        action, target = ACTIONS[route], next(iter(args.values()), "")
        value = action.body.model_validate(body)
        try:
            status, answer, _ = once(
                office,
                person,
                key,
                f"{route} {' '.join(args.values())}",
                repr(body).encode(),
                lambda db: action.act(Call(db, office, person, target, "en", args), value),
            )
        except ActionRefused as error:
            return refused("en", error.failures)
        except (Problem, desk.NotFound) as error:
            return getattr(error, "status", 404), {}
        return status, answer


class RunningSite:
    """What a scenario looks at."""

    def __init__(
        self, yard: Yard, office: Office, devices: Devices, api: InlineApi, clock: FakeClock, broker: MemoryBroker
    ) -> None:
        self.yard, self.office, self.devices, self.api, self.clock, self.broker = yard, office, devices, api, clock, broker
        self.cast, self.began = Cast(api, clock), clock.now()

    def events(self, kind: str = "", space: str = "") -> list[AnyEvent]:
        """The api's log, oldest first, of one type and one space."""
        with self.office.records.look() as db:
            found = [event for _, event in store.events(db, lambda c: c.c.seq > 0, most=5000)]
        return [e for e in found if kind in ("", type(e).__name__) and space in ("", getattr(e, "space", ""))]


@contextlib.asynccontextmanager
async def a_site(folder: Path, *, seed: int = 7, story: bool = False) -> AsyncIterator[RunningSite]:
    """A running yard; with `story` the simulated people play it. Must run on a `VirtualLoop`."""
    clock, yard, broker = FakeClock(), load_yard(), MemoryBroker()
    keys = make_keys(folder / "keys", yard)
    seed_records(folder / "records.db", yard, keys, clock.now())
    limits, timings = settings.limits("CN"), settings.timings(yard=True)
    sites = [s.id for s in yard.site]
    telemetry = EmbeddedStore(folder / "telemetry", writer=True)
    records = store.Records(folder / "records.db")
    office = Office(records, clock, counting_random(), limits, timings, yard=True)
    api_bus = broker.bus("api", [(f, 1) for s in sites for f in api_filters(s)])
    office.keys = load_public_keys(folder / "keys")
    own, following = (load_or_make_key(folder / "keys" / f"{name}.key") for name in ("issuer", "issuer-next"))
    signer = SignerInPlace(office, records, key=own, following=following, sites=sites)
    bridge = Bridge(office, api_bus, load_or_make_key(folder / "keys" / "plan.key"), sites, in_place, signer)
    plan_key = load_public_key(folder / "keys" / "plan.pub")
    journal = open_journal(folder)
    hosts = [a_host(journal, s, plan_key, LogOutput(), began=clock.now(), limits=limits, timings=timings) for s in sites]
    gateway_bus = broker.bus("gw-1", [(f, 1) for s in sites for f in gateway_filters(s)])
    gateway = a_gateway(folder, journal, hosts, gateway_bus, telemetry, clock)
    device_bus = broker.bus("simulator", subscriptions(sites))
    devices = Devices(build_posts(yard, folder / "keys", clock.now(), seed), device_bus, clock)
    people = {p.account: p.person(clock.now()) for p in yard.person if p.account}
    with records.change() as db:
        for person in people.values():
            auth.open_session(db, person.id, clock.now())
    site = RunningSite(yard, office, devices, InlineApi(office, telemetry, people), clock, broker)
    try:
        async with asyncio.TaskGroup() as group, device_bus:
            tasks = [group.create_task(part.run()) for part in (bridge, Watchdog(office, sites, in_place), gateway, devices)]
            if story:
                tasks.append(group.create_task(Story(yard, devices, site.cast, clock).run()))
            yield site
            for task in tasks:
                task.cancel()
    finally:
        telemetry.close()
        records.close()
        journal.close()
