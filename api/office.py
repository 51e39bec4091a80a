"""What every part of the api shares: records, rules, the newest pictures of the sites, and how to wake the bridge."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from api import store
from api.signer import Signer
from manway.checks import Facts, LiveInstrument
from manway.codec_mqtt import InstrumentNow, SiteState
from manway.entities import Instrument, Permit, Person, Reading, Space
from manway.ids import GrantKind, Priority, Status
from manway.limits import LimitProfile, Timings
from manway.permit import OPEN
from manway.runtime.ports import Clock

TREND_POINTS = 10  # pictures, about as many seconds
FAN_RUNNING_A = 0.5  # (choice) below this current a fan's motor is not turning


class Pictures:
    """The newest picture of every site and when it came; in memory, because the broker keeps it retained."""

    def __init__(self) -> None:
        self.state: dict[str, SiteState] = {}
        self.heard_at: dict[str, float] = {}
        self._earlier: dict[tuple[str, str], deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=TREND_POINTS))

    def take(self, state: SiteState) -> None:
        """Take a site's newest picture, and remember its values for the trend."""
        self.state[state.site] = state
        for i in state.instruments:
            for gas, reading in i.readings.items():
                if reading.judged is not None:
                    self._earlier[i.device, gas].append((i.at, reading.judged))

    def trend(self, device: str, gas: str, step: float) -> str:
        """Return up, down or flat: how a channel moved over the last pictures, by at least `step` in the limit's unit."""
        points = self._earlier.get((device, gas))
        change = points[-1][1] - points[0][1] if points else 0.0
        return "up" if change >= step else "down" if change <= -step else "flat"

    def age_s(self, site: str, now: float) -> float | None:
        """Return the seconds since the site's gateway was last heard, None before the first time."""
        heard = self.heard_at.get(site)
        return None if heard is None else max(0.0, now - heard)

    def instruments_of(self, space: Space) -> list[InstrumentNow]:
        """Return the instruments that work in a space."""
        state = self.state.get(space.site)
        return [i for i in state.instruments if i.space == space.id] if state else []

    def inside(self, space: Space) -> int | None:
        """Return how many are inside, None when unknown, which counts as occupied."""
        state = self.state.get(space.site)
        now = next((s for s in state.spaces if s.space == space.id), None) if state else None
        return len(now.inside) if now is not None and now.known else None


class Office:
    """The composition the routes and the bridge work on; built once, in `api.app`."""

    def __init__(
        self, records: store.Records, clock: Clock, signer: Signer, limits: LimitProfile, timings: Timings, *, yard: bool
    ) -> None:
        self.records, self.clock, self.signer = records, clock, signer
        self.limits, self.timings, self.yard = limits, timings, yard
        self.pictures = Pictures()
        self.seq = 0
        self.news = asyncio.Event()
        self._wake: Callable[[], None] = lambda: None

    def on_change(self, wake: Callable[[], None]) -> None:
        """Set what is called, from any thread, after a commit that has something to send."""
        self._wake = wake

    def changed(self) -> None:
        """Tell bridge and streams that the records have moved on."""
        self._wake()

    def now(self) -> float:
        """Return the present, Unix seconds."""
        return self.clock.now()

    def inside(self, space: Space) -> int | None:
        """Return how many are inside, None when unknown or when its gateway is silent: what it last said is no count."""
        age = self.pictures.age_s(space.site, self.now())
        return None if age is None or age > self.timings.live_reading_s else self.pictures.inside(space)

    def new_id(self) -> str:
        """Return a UUIDv7 as text: the api's own rows sort by when they were made."""
        stamp = int(self.now() * 1000) << 80
        value = stamp | 0x7 << 76 | int.from_bytes(self._random(10), "big") & ~(0xF << 76 | 0x3 << 62) | 0x2 << 62
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _random(self, n: int) -> bytes:
        return self.signer.random_bytes(n)


def facts_for(office: Office, db: sa.Connection, permit: Permit, space: Space, *, lock: str, kind: GrantKind, by: str) -> Facts:
    """Return the picture the checks judge: records of now, live readings of the gateway's newest picture."""
    now, state = office.now(), office.pictures.state.get(space.site)
    watched = {space.id, *space.connected}
    open_p1 = [a.kind for a in state.alarms if a.space in watched and a.priority == Priority.P1] if state else []
    here = next((s for s in state.spaces if s.space == space.id), None) if state else None
    bound = [i for i in office.pictures.instruments_of(space) if i.device in permit.instruments]
    ledger = {i.device: i for i in store.every(db, Instrument, site=space.site)}
    others = [p.number for p in store.permits(db, space=space.id) if p.id != permit.id and p.state in OPEN]
    return Facts(
        now=now,
        kind=kind,
        permit=permit,
        space=space,
        lock=lock,
        by=by,
        limits=office.limits,
        timings=office.timings,
        attendant_seen_at=here.attendant_at if here else None,
        fan_running=fan_running(office, space),
        instruments=[_live(i, ledger.get(i.device), now) for i in bound],
        open_p1=sorted(set(open_p1)),
        other_open_permits=others,
        roles={p.id: p.roles for p in store.every(db, Person)},
        picture_age_s=office.pictures.age_s(space.site, now),
        inside=office.inside(space),
    )


def fan_running(office: Office, space: Space) -> bool | None:
    """Return whether the fan's current proves that air is moving; None when no instrument tells."""
    currents = [r.value for i in office.pictures.instruments_of(space) if not i.lost and (r := i.readings.get("fan_a"))]
    return any(c is not None and c >= FAN_RUNNING_A for c in currents) if currents else None


def _live(now: InstrumentNow, known: Instrument | None, at: float) -> LiveInstrument:
    return LiveInstrument(
        device=now.device,
        age_s=max(0.0, at - now.at),
        readings={name: Reading(Status(r.status), r.value) for name, r in now.readings.items()},
        units={name: r.unit for name, r in now.readings.items()},
        bump_due=known.bump_due if known else 0.0,
        calibration_due=known.calibration_due if known else 0.0,
    )


class UnlockRequest(msgspec.Struct, frozen=True):
    """An unlock on its way: what was asked, kept until the lock's hello comes and the signer decides."""

    id: str
    permit: str
    space: str
    site: str
    lock: str
    kind: int
    by: str
