"""One gas channel: what its newest reading means, with hysteresis; status comes before any number.

Theory: a level is *entered* when its limit is breached and *left* only when the value is back inside by the deadband, so
noise at a limit makes no second alarm. A reading without a number decides nothing: the answer is None (unknown), which
never clears an alarm. Over-range latches the channel: a pellistor hit by high gas can read 0 afterwards, so only a restart
of the instrument (new boot, after its bump test) makes its numbers count again (`domain.md` §7.1).
"""

import msgspec

from manway.entities import Reading
from manway.ids import Status
from manway.limits import GasLimits, Level, Limit


class Channel(msgspec.Struct):
    """State of one gas channel of one instrument. `value` is in the limit's unit; `level` None means unknown."""

    limits: GasLimits
    unit: str
    at_c: float
    status: Status | None = None
    value: float | None = None
    level: Level | None = None
    broken: Limit | None = None
    held: set[Level] = msgspec.field(default_factory=set)
    over_range: bool = False

    def take(self, reading: Reading) -> None:
        """Judge a new reading."""
        self.status = reading.status
        self.over_range = self.over_range or reading.status is Status.OVER
        if reading.value is None or self.over_range:
            self.value, self.level = None, None
            return
        self.value = self.limits.in_unit(reading.value, self.unit, self.at_c)
        self.level, self.broken = Level.WITHIN, None
        for limit in self.limits.limit:
            relief = self.limits.deadband if limit.rank in self.held else 0.0
            if limit.breached_by(self.value, relief=relief) and limit.rank > self.level:
                self.level, self.broken = limit.rank, limit
        self.held = {rank for rank in Level if Level.WITHIN < rank <= self.level}

    def at_least(self, level: Level) -> bool | None:
        """Say whether the air is at this level or worse; None when the channel cannot tell."""
        return None if self.level is None else self.level >= level

    def limit_of(self, level: Level) -> Limit | None:
        """Return the limit of that level on the side that is broken now, for showing beside the value."""
        side = self.broken.side if self.broken else None
        return next((x for x in self.limits.limit if x.rank == level and x.side == (side or x.side)), None)
