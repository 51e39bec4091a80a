"""What every part of the api shares: records, rules, the newest pictures of the sites, and how to wake the bridge."""

import asyncio
from collections.abc import Callable

import msgspec

from api import store
from api.pictures import Pictures
from api.public_keys import PublicKeys
from api.recent_air import RecentAir
from manway.air import FAN_RUNNING_A
from manway.entities import Space
from manway.limits import LimitProfile, Timings
from manway.runtime import settings
from manway.runtime.ports import Clock


class Sight:
    """What the checks are judged by beside the records: the time, the rules, and how things stand. The signer has its own."""

    def __init__(self, clock: Clock, limits: LimitProfile, timings: Timings) -> None:
        self.clock, self.limits, self.timings = clock, limits, timings
        self.pictures = Pictures()

    def now(self) -> float:
        """Return the present, Unix seconds."""
        return self.clock.now()

    def inside(self, space: Space) -> int | None:
        """Return how many are inside, None when unknown or when its gateway is silent: what it last said is no count."""
        age = self.pictures.age_s(space.site, self.now())
        return None if age is None or age > self.timings.live_reading_s else self.pictures.inside(space)


class Office(Sight):
    """The composition the routes and the bridge work on; built once, in `api.app`. It holds no key that opens a lock."""

    def __init__(
        self,
        records: store.Records,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        limits: LimitProfile,
        timings: Timings,
        *,
        yard: bool,
    ) -> None:
        super().__init__(clock, limits, timings)
        self.records, self.random_bytes, self.yard = records, random_bytes, yard
        self.signer_fault = ""  # why no grant can be signed now, as a key of the texts; "" while the signer answers
        self.panel = ""  # address of the gateway's own emergency page, where the settings name one
        self.keys = PublicKeys()
        self.enrolment_secrets: dict[str, bytes] = {}  # what was typed at an open lock, by enrolment: never stored
        self.hazards = settings.hazards()
        self.air: RecentAir | None = None  # the telemetry store's last minutes, where one is attached
        self.seq = 0
        self.news = asyncio.Event()
        self._wake: Callable[[], None] = lambda: None

    def on_change(self, wake: Callable[[], None]) -> None:
        """Set what is called, from any thread, after a commit that has something to send."""
        self._wake = wake

    def changed(self) -> None:
        """Tell bridge and streams that the records have moved on."""
        self._wake()

    def new_id(self) -> str:
        """Return a UUIDv7 as text: the api's own rows sort by when they were made."""
        stamp = int(self.now() * 1000) << 80
        value = stamp | 0x7 << 76 | int.from_bytes(self.random_bytes(10), "big") & ~(0xF << 76 | 0x3 << 62) | 0x2 << 62
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def fan_running(office: Sight, space: Space) -> bool | None:
    """Return whether the fan's current proves that air is moving; None when no instrument tells."""
    currents = [r.value for i in office.pictures.instruments_of(space) if not i.lost and (r := i.readings.get("fan_a"))]
    return any(c is not None and c >= FAN_RUNNING_A for c in currents) if currents else None


class UnlockRequest(msgspec.Struct, frozen=True):
    """An unlock, or an order to a lock, on its way: what was asked, kept until the lock's hello comes and the signer decides.

    `hello` is what the lock said, `greeted_at` when its gateway had it (Unix seconds), `rotation` whose key it is given.
    """

    id: str
    permit: str
    space: str
    site: str
    lock: str
    kind: int
    by: str
    hello: bytes = b""
    greeted_at: float = 0.0
    rotation: str = ""
