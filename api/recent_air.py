"""The last five minutes of a channel, for the trend of the emergency screen: read from the store, remembered for a moment.

The screen must never wait for the store nor fail with it: a store that is away means that no trend is known, and it says so.
"""

import math

from manway.emergency_screen import TREND_S, Sample
from manway.errors import StoreUnavailable
from manway.runtime.telemetry import TelemetryStore

STEP_S = 5
"""(choice) sixty points make a curve; the shortest span of a trend (60 s) has twelve of them."""


class RecentAir:
    """Reads a channel's last minutes at most once in `STEP_S`, however many people look."""

    def __init__(self, telemetry: TelemetryStore) -> None:
        self._telemetry = telemetry
        self._known: dict[tuple[str, str], tuple[int, list[Sample]]] = {}

    def samples(self, device: str, gas: str, now: float) -> list[Sample]:
        """Return means of `STEP_S`, as the instrument sent them, oldest first; none when the store cannot answer."""
        beat = int(now // STEP_S)
        known = self._known.get((device, gas))
        if known is None or known[0] != beat:
            known = self._known[device, gas] = (beat, self._read(device, gas, now))
        return known[1]

    def _read(self, device: str, gas: str, now: float) -> list[Sample]:
        try:
            found = self._telemetry.series(device, gas, int((now - TREND_S) * 1000), int(now * 1000), STEP_S)
        except (StoreUnavailable, ValueError):
            return []
        pairs = zip(found.t.tolist(), found.mean.tolist(), strict=True)
        return [Sample(t / 1000, None if math.isnan(value) else value) for t, value in pairs]
