"""The newest picture of every site, as its gateway tells it: what pages show, what the checks judge, what the signer believes.

The api and the signer each hear the gateways themselves; neither takes the other's word for how things stand.
"""

from collections import defaultdict, deque

from manway.codec_mqtt import Heartbeat, InstrumentNow, SiteState, decode
from manway.entities import Space
from manway.errors import DecodeRejected
from manway.runtime.ports import Message
from manway.topics import parse

TREND_POINTS = 10  # pictures, about as many seconds
SLOPE_S = 10.0  # `domain.md` 7.2
_ENGINE_STANDS_S = 5.0  # `trust.md` 7.2


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

    def hear(self, message: Message, now: float) -> bool:
        """Take what a gateway says of itself and its site; say whether it was that.

        Raises:
            DecodeRejected: it is a picture or a heartbeat that cannot be read, or a picture of another site.
        """
        address = parse(message.topic)
        match address.name:
            case "gw/heartbeat":
                beat = decode(message.payload, Heartbeat, message.topic)
                # A pulse without a working engine behind it is none (`trust.md` 7.2).
                if not beat.down and not message.retained and beat.engine_age_s <= _ENGINE_STANDS_S:
                    self.heard_at[address.site] = now
            case "gw/state":
                state = decode(message.payload, SiteState, message.topic)
                if state.site != address.site:
                    raise DecodeRejected(message.topic, f"the picture is of {state.site[:32]}")
                self.take(state)  # no sign of life: it may have waited in the broker; the heartbeat never does
            case _:
                return False
        return True

    def trend(self, device: str, gas: str, step: float) -> str:
        """Return up, down or flat: how a channel moved over the last pictures, by at least `step` in the limit's unit."""
        points = tuple(self._earlier.get((device, gas), ()))
        change = points[-1][1] - points[0][1] if points else 0.0
        return "up" if change >= step else "down" if change <= -step else "flat"

    def slope(self, device: str, gas: str) -> float | None:
        """Return how fast a channel moves, by least squares over its last ten seconds, in the limit's unit per second.

        None when there is not enough to tell: fewer than five seconds of it.
        """
        points = tuple(self._earlier.get((device, gas), ()))  # at once: another thread may be adding one
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
