"""The approval service on a bench: a seeded yard, a clock set by hand, real engines behind the pictures, no sockets."""

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from api import auth, store
from api.app import build
from api.desk import permit_of
from api.http import guarded
from api.office import Office
from api.pages import Pages
from api.plans import Plans
from firmware_sim.lock import Body
from gateway.picture import site_state
from manway.checks import questions
from manway.cli.seed import make_keys, seed_records
from manway.codec_ble import HELLO_REQUEST
from manway.commands import OrderEvacuation, RecordCheckIn, RecordEntry
from manway.engine import Engine
from manway.entities import (
    Bolt,
    Confirmation,
    Door,
    Frame,
    Permit,
    PermitState,
    Person,
    Plan,
    Reading,
    Signature,
    Space,
)
from manway.events import AnyEvent
from manway.ids import Status, derived_id
from manway.inputs import AnyInput, CommandReceived, FrameReceived, LockReported, PlanReceived
from manway.runtime import settings
from manway.runtime.signing import SigningKey
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.runtime.yard import Yard, load_yard
from tests.kit.builders import a_lock_state
from tests.kit.clock import EPOCH, FakeClock
from tests.kit.locks import LockBench, counting_random, only, seeded_key
from tests.kit.memory_broker import MemoryBroker, MemoryBus
from tests.kit.signer import SignerInPlace

SITES = ["yard-north", "yard-south"]
SPACE, LOCK, GAS = "n04", "lock-n04", "gas-n04"  # quiet: nobody works there
CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0, "fan_a": 2.0, "battery_percent": 90.0}
PEOPLE = {"worker": "p01", "attendant": "p02", "approver": "p03", "manager": "p04", "regulator": "p05", "auditor": "p06"}
PLAN_KEY = seeded_key(0xA0)
Json = dict[str, object]


class Seed(msgspec.Struct, frozen=True):
    """A seeded installation that is copied for every test: argon2id takes its time."""

    records: bytes
    passwords: dict[str, str]
    lock_seeds: dict[str, bytes]


@functools.cache
def seed() -> Seed:
    with tempfile.TemporaryDirectory() as name:
        folder, yard = Path(name), load_yard()
        public = make_keys(folder / "keys", yard)
        passwords = seed_records(folder / "records.db", yard, public, EPOCH)
        seeds = {lock: (folder / "keys" / "locks" / f"{lock}.key").read_bytes() for lock in public}
        return Seed((folder / "records.db").read_bytes(), passwords, seeds)


def place_in(folder: Path) -> Path | str:
    """Return where the records of a folder are, seeded if they were not there: a file, or the address in `records.url`."""
    if (folder / "records.url").exists():
        place = (folder / "records.url").read_text()
        return place if "://" in place else Path(place)
    if not (folder / "records.db").exists():
        (folder / "records.db").write_bytes(seed().records)
    return folder / "records.db"


class Desk:
    """An office with a yard, its engines, and what a test does to them. The clock stands until `wait`, if it is ours."""

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.yard: Yard = load_yard()
        self.records = store.Records(place_in(folder))
        if clock is None:
            clock = FakeClock()
            clock.set(EPOCH)
        self.clock = clock
        self.timings = settings.timings(yard=True)
        self.office = Office(self.records, clock, counting_random(), settings.limits("CN"), self.timings, yard=True)
        self.signer = SignerInPlace(self.office, self.records, sites=SITES)
        self.telemetry = EmbeddedStore(folder / "telemetry", writer=True)
        self.broker = MemoryBroker()
        self.engines = {site: Engine(site, self.office.limits, self.timings) for site in SITES}
        self._numbers = itertools.count(1)
        for site, engine in self.engines.items():  # the gateways were there before anybody went in
            engine.receive([PlanReceived(msgspec.structs.replace(self.plan(site), permits=[]))], self.now())
        with self.records.change() as db:
            for person in PEOPLE.values():  # everybody is signed in on a phone of their own
                auth.open_session(db, person, self.now())

    def close(self) -> None:
        self.telemetry.close()
        self.records.close()

    # ---- time and air

    def now(self) -> float:
        return self.clock.now()

    def wait(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + seconds)

    def plan(self, site: str) -> Plan:
        with self.records.look() as db:
            plan = Plans(self.office, PLAN_KEY, SITES).build(db, site)
        return msgspec.structs.replace(plan, version=next(self._numbers), made_at=self.now())

    def look(
        self, *, here: bool = True, air: Mapping[str, float] | None = None, bolts: Mapping[str, Bolt] | None = None
    ) -> None:
        """Let both gateways report: plan, a frame of every instrument, every lock, attendants (`here`), and a heartbeat.

        `air` changes the channels of the instrument in SPACE, `bolts` the reports of named locks (retracted: door open).
        """
        for site in self.engines:
            plan, now = self.plan(site), self.now()
            inputs: list[AnyInput] = [PlanReceived(plan)]
            for instrument in plan.instruments:
                values = CLEAN | dict(air or {}) if instrument.device == GAS else CLEAN
                readings = {c: Reading(Status.OK, v) for c, v in values.items()}
                number = next(self._numbers)
                inputs.append(FrameReceived(Frame(instrument.device, 1, number, int(now * 1000), now, readings)))
            for lock in plan.locks:
                bolt = (bolts or {}).get(lock.device, Bolt.LOCKED)
                door = Door.CLOSED if bolt is Bolt.LOCKED else Door.OPEN
                inputs.append(LockReported(lock.device, a_lock_state(bolt, door=door, tick=next(self._numbers))))
            inputs += [self._check_in(p) for p in plan.permits if here]
            self._give(site, inputs)

    def show(self, site: str = "yard-north", *, heard: bool = True) -> None:
        """Take a gateway's picture as the bridge would."""
        self.office.pictures.take(site_state(self.engines[site], gateway="gw-1", jid="j1", event=0))
        if heard:
            self.office.pictures.heard_at[site] = self.now()

    def _give(self, site: str, inputs: list[AnyInput]) -> None:
        events = self.engines[site].receive(inputs, self.now())
        with self.records.change() as db:
            for event in events:
                store.add_event(db, event)
        self.show(site)

    def _envelope(self) -> dict[str, object]:
        return {"id": f"c{next(self._numbers)}", "site": "yard-north", "at": self.now(), "exp": self.now() + 60, "by": "p02"}

    def _check_in(self, permit: Permit) -> CommandReceived:
        named = self._envelope() | {"site": permit.site, "permit": permit.id, "space": permit.space}
        return CommandReceived(msgspec.convert(named, RecordCheckIn))

    def count(self, permit: Permit, person: str, direction: str = "in") -> None:
        """Somebody goes in or comes out, by the engine's own count."""
        named = {"space": permit.space, "permit": permit.id, "person": person, "direction": direction}
        self._give(permit.site, [CommandReceived(msgspec.convert(self._envelope() | named, RecordEntry))])

    def flee(self, permit: Permit) -> None:
        """The engine is told to evacuate."""
        named = {"space": permit.space, "permit": permit.id}
        self._give(permit.site, [CommandReceived(msgspec.convert(self._envelope() | named, OrderEvacuation))])

    # ---- records

    def person(self, account: str) -> Person:
        with self.records.look() as db:
            found = store.get(db, Person, PEOPLE.get(account, account))
        assert found is not None
        return found

    def make_permit(self, state: PermitState = PermitState.APPROVED, **changed: object) -> Permit:
        """A permit on SPACE that got as far as `state`: requested by the worker, approved, not yet ventilated or tested."""
        number = next(self._numbers)
        signed = [Signature("supervisor", "p01", self.now() - 60)]
        if state is not PermitState.SUBMITTED:
            signed.append(Signature("approver", "p03", self.now() - 30))
        permit = Permit(
            id=derived_id("test-permit", number),
            number=f"2027-9{number:03d}",
            site="yard-north",
            space=SPACE,
            work="cable joint",
            drill=True,
            state=state,
            requester="p01",
            supervisor="p01",
            attendant="p02",
            tester="p02",
            entrants=["p15", "p16"],
            instruments=[GAS],
            start=self.now() - 60,
            end=self.now() + 7200,
            signatures=signed,
        )
        permit = msgspec.structs.replace(permit, **changed)
        if "confirmations" not in changed:
            permit = self.confirmed(permit)
        with self.records.change() as db:
            store.put_permit(db, permit)
        return permit

    def confirmed(self, permit: Permit) -> Permit:
        """The permit with every item it asks answered now."""
        with self.records.look() as db:
            space = store.get(db, Space, permit.space)
        assert space is not None
        asked = (q for q in questions(permit, space) if q.by)
        given = [Confirmation(q.key, q.by[0], self.now(), f"{next(self._numbers):064x}" if q.item.photo else "") for q in asked]
        return msgspec.structs.replace(permit, confirmations=given)

    def confirm(self, permit: Permit) -> Permit:
        """Everybody says yes to their items of a stored permit."""
        permit = self.confirmed(self.permit(permit.id))
        with self.records.change() as db:
            store.put_permit(db, permit)
        return permit

    def permit(self, permit: str) -> Permit:
        with self.records.look() as db:
            return permit_of(db, permit)

    def events(self, kind: str = "", after: int = 0) -> list[AnyEvent]:
        with self.records.look() as db:
            found = store.events(db, lambda c: c.c.seq > after, most=5000)
        return [e for _, e in found if kind in ("", type(e).__name__)]

    def add_events(self, *events: AnyEvent) -> list[int | None]:
        with self.records.change() as db:
            return [store.add_event(db, event) for event in events]

    def audit_actions(self) -> list[str]:
        """Who did what, in the order of the chain."""
        with self.records.look() as db:
            bodies = db.execute(store.audit.select().order_by(store.audit.c.seq)).all()
        rows = [msgspec.json.decode(row.body) for row in bodies]
        return [f"{row['actor']} {row['action']}" for row in rows]

    def commands(self) -> dict[str, str]:
        """State of every command by its type, the newest of each."""
        with self.records.look() as db:
            rows = db.execute(store.command.select()).all()
        return {msgspec.json.decode(row.body)["type"]: row.state for row in rows}

    def lock_key(self, lock: str) -> SigningKey:
        return SigningKey(seed().lock_seeds[lock])

    def hello(self, lock: str = LOCK) -> bytes:
        """A lock's fresh signed hello."""
        bench = LockBench(key=self.lock_key(lock), body=Body(), clock_ahead_s=self.now() - 1.0)
        bench.wait(1.0)
        return only(bench.lock.receive("hello", HELLO_REQUEST, bench.now), "hello")


class Bench(Desk):
    """The same behind HTTP."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.app: FastAPI
        self.pages: Pages
        self.app, self.pages = build(self.office, self.telemetry, SITES)
        self.client = TestClient(guarded(self.app), base_url="http://manway.test", follow_redirects=False)
        self._tokens: dict[str, str] = {}

    def token(self, account: str) -> str:
        """A session of somebody, without the password's 38 ms."""
        if account not in self._tokens:
            self._tokens[account] = self.new_session(account)
        return self._tokens[account]

    def new_session(self, account: str) -> str:
        with self.records.change() as db:
            return auth.open_session(db, PEOPLE.get(account, account), self.now())

    def headers(self, account: str, **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(account)}", "accept-language": "en"} | more

    def get(self, account: str, path: str) -> Response:
        return self.client.get(path, headers=self.headers(account))

    def post(self, account: str, path: str, body: object = None, *, key: str | None = None) -> Response:
        """POST as an app does: Bearer, JSON, a key of its own unless one is given."""
        return self._send("POST", account, path, body, key)

    def put(self, account: str, path: str, body: object = None, *, key: str | None = None) -> Response:
        """PUT in the same way."""
        return self._send("PUT", account, path, body, key)

    def _send(self, method: str, account: str, path: str, body: object, key: str | None) -> Response:
        key = key or f"test-key-{next(self._numbers)}"
        return self.client.request(method, path, json=body or {}, headers=self.headers(account, **{"idempotency-key": key}))


@contextlib.contextmanager
def a_desk(folder: Path, clock: FakeClock | None = None) -> Iterator[Desk]:
    """An office without HTTP."""
    desk = Desk(folder, clock)
    try:
        yield desk
    finally:
        desk.close()


@contextlib.contextmanager
def an_api(folder: Path) -> Iterator[Bench]:
    """The whole service over HTTP."""
    bench = Bench(folder)
    try:
        with bench.client:
            yield bench
    finally:
        bench.close()


def checks_of(answer: Response) -> list[str]:
    """Which checks a refusal names."""
    return [failure["check"] for failure in answer.json()["failures"]]


def a_bus(broker: MemoryBroker, name: str) -> MemoryBus:
    return broker.bus(name, [("manway/#", 1)])
