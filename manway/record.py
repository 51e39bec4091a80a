"""The statutory record of an occupied space: an instantaneous value of every gas, every 15 minutes (GB 46768-2025 6.2.1-3).

Theory: the record is taken from live readings and only from good, fresh ones. What could not be read is named, so that
its absence becomes an alarm; it is never filled in from an older number.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec

CLEAN_O2 = 20.9
"""% vol of oxygen in clean air: of two instruments the one farther from it is the worse."""


class Sample(msgspec.Struct, frozen=True):
    """The newest reading of one gas by one instrument, in its limit's unit; `value` None unless its status is ok."""

    gas: str
    value: float | None
    unit: str
    at: float


class Recorded(msgspec.Struct, frozen=True):
    """The values and units of `ReadingsRecorded`, and the required gases that had no good, fresh value."""

    values: dict[str, float]
    units: dict[str, str]
    missing: list[str]

    @property
    def complete(self) -> bool:
        """True when every required gas has a value."""
        return not self.missing


def record_due(last_at: float | None, now: float, every_s: float, entered_at: float | None) -> float:
    """Return when the next record of an occupied space is due, Unix seconds; at or before `now` means now.

    Args:
        last_at: the last complete record, None for none.
        now: Unix seconds.
        every_s: the longest time between two records.
        entered_at: when the first of those inside went in, None when nobody knows, which counts as always.
    """
    if last_at is None or not math.isfinite(last_at):
        return now if entered_at is None else entered_at
    if entered_at is not None and last_at < entered_at:
        return entered_at  # a record of an empty space, or of people who have left, is not one of those inside now
    return min(last_at, now) + every_s  # a record "from the future" of a clock that was put back buys no time


def record_of(samples: Iterable[Sample], required: Sequence[str], now: float, fresh_s: float) -> Recorded:
    """Return the record at `now`: of each gas the worst good value that is at most `fresh_s` old, and what is missing."""
    values: dict[str, float] = {}
    units: dict[str, str] = {}
    for x in samples:
        if x.value is None or not math.isfinite(x.value) or not 0 <= now - x.at <= fresh_s:
            continue
        if x.gas not in values or _badness(x.gas, x.value) > _badness(x.gas, values[x.gas]):
            values[x.gas], units[x.gas] = x.value, x.unit
    return Recorded(values, units, [gas for gas in dict.fromkeys(required) if gas not in values])


def _badness(gas: str, value: float) -> float:
    return abs(value - CLEAN_O2) if gas == "O2" else value
