"""One gas channel in plain Python: the readable reference that the arrays of `manway.gas` must agree with on every sample.

It shares only the limits with them: bounds, hysteresis, over-range, drift, thin oxygen and the slope are said again in other
words, one sample at a time.
"""

import math
from dataclasses import dataclass, field

from manway.ids import Status
from manway.limits import GasLimits, Level


@dataclass
class ReferenceChannel:
    """State of one channel; `o2` is the channel of the oxygen sensor beside it, if any."""

    limits: GasLimits
    factor: float
    o2: "ReferenceChannel | None" = None
    status: Status | None = None
    value: float | None = None
    level: Level | None = None
    held: Level = Level.WITHIN
    over: bool = False
    low_in_s: float | None = None
    seconds: list[tuple[float, float]] = field(default_factory=list)  # newest (time, value) of each second that had one

    def take(self, status: Status, number: float | None, at: float) -> None:
        """Judge one reading; a whole frame's oxygen is taken before its combustible gas."""
        self.low_in_s = None
        value = None if number is None else number * self.factor
        if status is Status.OK and (value is None or not math.isfinite(value)):
            status = Status.INVALID
        if status is Status.OK and value is not None:
            status = self._sensor(value)
        if status is Status.OVER:
            self.over = True
        if self.over and status is Status.OK:
            status = Status.OVER
        if status is Status.OK and value is not None and self._starved(value):
            status = Status.INVALID
        self.status = status
        if status is not Status.OK or value is None:
            self.value, self.level = None, None
            return
        self.value = value
        self.level = self.held = self._worst(value)
        self._trend(value, at)

    def _sensor(self, value: float) -> Status:
        pure = {"% LEL": 100.0, "% vol": 100.0, "ppm": 1_000_000.0, "mg/m3": 10_000_000.0}[self.limits.unit]
        if value > pure:
            return Status.OVER
        two_sided = any(limit.side == "below" for limit in self.limits.limit)
        low = [limit.value for limit in self.limits.limit if limit.level == "low" and limit.side != "below"]
        if low and not two_sided:
            reference = self.limits.twa.value if self.limits.twa else low[0]
            if value < -reference / 2:
                return Status.UNDER
        elif value < -pure:
            return Status.UNDER
        return Status.OK

    def _starved(self, value: float) -> bool:
        thin = self.o2 is not None and self.o2.value is not None and self.o2.value < 10.0
        return thin and self.limits.unit == "% LEL" and self._worst(value) < Level.LOW

    def _worst(self, value: float) -> Level:
        worst = Level.WITHIN
        for limit in self.limits.limit:
            relief = self.limits.deadband if limit.rank <= self.held else 0.0
            if limit.breached_by(value, relief=relief):
                worst = max(worst, limit.rank)
        return worst

    def _trend(self, value: float, at: float) -> None:
        if self.seconds and at < self.seconds[-1][0]:
            return
        if self.seconds and math.floor(at) == math.floor(self.seconds[-1][0]):
            self.seconds.pop()
        self.seconds = [*self.seconds, (at, value)][-11:]
        kept = [v for _, v in self.seconds]
        if max(value - min(kept), max(kept) - value) <= self.limits.deadband:
            return
        near = [(t - at, v - value) for t, v in self.seconds if t >= at - 10.0]
        n, sx, sy = len(near), math.fsum(x for x, _ in near), math.fsum(y for _, y in near)
        spread = n * math.fsum(x * x for x, _ in near) - sx * sx
        if n < 5 or spread <= 0:
            return
        slope = (n * math.fsum(x * y for x, y in near) - sx * sy) / spread
        if slope > 0:
            ahead = [x.value - value for x in self.limits.limit if x.level == "low" and x.side != "below"]
        else:
            ahead = [value - x.value for x in self.limits.limit if x.level == "low" and x.side == "below"]
        if slope and ahead and ahead[0] > 0:
            self.low_in_s = ahead[0] / abs(slope)
