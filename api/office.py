"""What every part of the api shares: records, rules, the newest pictures of the sites, and how to wake the bridge."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

import msgspec

from api import store
from api.recent_air import RecentAir
from api.signer import Signer
from manway.air import FAN_RUNNING_A
from manway.codec_mqtt import InstrumentNow, SiteState
from manway.entities import Space
from manway.limits import LimitProfile, Timings
from manway.runtime import settings
from manway.runtime.ports import Clock

TREND_POINTS = 10  # pictures, about as many seconds
SLOPE_S = 10.0  # `domain.md` 7.2


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

    def slope(self, device: str, gas: str) -> float | None:
        """Return how fast a channel moves, by least squares over its last ten seconds, in the limit's unit per second.

        None when there is not enough to tell: fewer than five seconds of it.
        """
        points = self._earlier.get((device, gas), ())
        newest = max((at for at, _ in points), default=0.0)
        recent = sorted({(at, value) for at, value in points if newest - at <= SLOPE_S})
        if not recent or newest - recent[0][0] < SLOPE_S / 2:
            return None
        mean_at, mean = (sum(p[i] for p in recent) / len(recent) for i in (0, 1))
        spread = sum((at - mean_at) ** 2 for at, _ in recent)
        return sum((at - mean_at) * (value - mean) for at, value in recent) / spread

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


def fan_running(office: Office, space: Space) -> bool | None:
    """Return whether the fan's current proves that air is moving; None when no instrument tells."""
    currents = [r.value for i in office.pictures.instruments_of(space) if not i.lost and (r := i.readings.get("fan_a"))]
    return any(c is not None and c >= FAN_RUNNING_A for c in currents) if currents else None


class UnlockRequest(msgspec.Struct, frozen=True):
    """An unlock on its way: what was asked, kept until the lock's hello comes and the signer decides."""

    id: str
    permit: str
    space: str
    site: str
    lock: str
    kind: int
    by: str
