"""The rules of `GasRows` for a few readings, one after the other: up to `FEW` at once plain Python is faster than arrays.

Every step says which step of the arrays it is the twin of; `tests/core/test_gas_few.py` holds both to the same bits.
"""

import math
from collections.abc import Sequence

from manway.gas_bounds import FULL, LEVELS, bounds, floor, low_above, low_below
from manway.gas_columns import (
    INVALID,
    LEL_NEEDS_O2,
    OK,
    OVER,
    SLOPE_LEAST,
    SLOPE_POINTS,
    SLOPE_WINDOW_S,
    UNDER,
    UNKNOWN,
    Columns,
)
from manway.limits import GasLimits, Level

FEW = 16  # (choice, measured)
_WITHIN, _LOW = int(Level.WITHIN), int(Level.LOW)  # read through their class they take several times as long


class FewRows:
    """The rows of a `GasRows`, `own`, under the limits of `rules`; `soon_s` as there."""

    def __init__(self, own: Columns, rules: Sequence[GasLimits], soon_s: float) -> None:
        self._rows, self._soon_s = own, soon_s
        self._worst_first = [[*zip(map(int, LEVELS), *bounds(rule), strict=True)][::-1] for rule in rules]
        self._still = [rule.deadband for rule in rules]
        self._floors, self._fulls = [floor(rule) for rule in rules], [FULL[rule.unit] for rule in rules]
        self._lows_above, self._lows_below = [low_above(rule) for rule in rules], [low_below(rule) for rule in rules]

    def take(
        self, rows: Sequence[int], values: Sequence[float | None], codes: Sequence[int], at: Sequence[float]
    ) -> tuple[list[int], list[int]]:
        """As `GasRows.take`; `codes` are the statuses, None stands for no number.

        Returns:
            (other, loud), the places in `rows` that it flags.
        """
        rest = list[int]()
        for place, value in enumerate(self.calm(rows, values, codes, at)):
            if value is None:
                rest.append(place)
            else:
                self.note(rows[place], value, at[place])
        if not rest:
            return [], []
        left = [(rows[i], math.nan if (number := values[i]) is None else number, codes[i], at[i]) for i in rest]
        other, loud = self.judge(left)
        return [rest[i] for i in other], [rest[i] for i in loud]

    def calm(
        self, rows: Sequence[int], values: Sequence[float | None], codes: Sequence[int], at: Sequence[float]
    ) -> list[float | None]:
        """Return what readings that change nothing but the number say in the limits' units, None of others.

        As `GasRows._stay_calm`.
        """
        own, oxygen = self._rows, self._rows.oxygen.item
        calm = [self._calm_value(*reading) for reading in zip(rows, values, codes, at, strict=True)]
        ended = {row for row, value in zip(rows, calm, strict=True) if value is None}
        return [
            None
            if value is None or (own.burns.item(row) and (oxygen(row) in ended or not own.calm.item(oxygen(row))))
            else value
            for row, value in zip(rows, calm, strict=True)
        ]

    def _calm_value(self, row: int, number: float | None, code: int, at: float) -> float | None:
        """Return the number in the limit's unit where it changes nothing else; its oxygen is not asked."""
        own = self._rows
        if not own.calm.item(row):
            return None
        if code == OK and number is not None and own.calm_from.item(row) <= number < own.calm_to.item(row):
            value, still = number * own.factor.item(row), self._still[own.rule.item(row)]
            if at >= own.at.item(row) and value - own.ring_low.item(row) <= still and own.ring_high.item(row) - value <= still:
                return value
        return None

    def note(self, row: int, value: float, at: float) -> None:
        """Keep the calm number of one row, in the limit's unit; as `GasRows._note`."""
        own, slot = self._rows, self._rows.slot.item(row)
        if math.floor(at) > math.floor(own.at.item(row)):
            own.slot[row] = slot = (slot + 1) % SLOPE_POINTS
        own.at[row] = own.ring_at[row, slot] = at
        own.value[row] = own.ring[row, slot] = value
        if value < own.ring_low.item(row):
            own.ring_low[row] = value
        elif value > own.ring_high.item(row):
            own.ring_high[row] = value

    def judge(self, readings: Sequence[tuple[int, float, int, float]]) -> tuple[list[int], list[int]]:
        """As `GasRows._judge`, one reading after the other: (row, number in the channel's unit, its status, when).

        Returns:
            (other, loud), the places of those that it flags.
        """
        # All numbers before any level: a combustible sensor asks its oxygen.
        factor = self._rows.factor.item
        taken = [(row, *self._take_value(row, number * factor(row), code), at) for row, number, code, at in readings]
        flags = [self._judge_one(*one) for one in taken]
        return [place for place, (other, _) in enumerate(flags) if other], [
            place for place, (_, loud) in enumerate(flags) if loud
        ]

    def _judge_one(self, row: int, code: int, value: float, at: float) -> tuple[bool, bool]:
        """Judge what `_take_value` returned of a row; return its flags (other, loud)."""
        own = self._rows
        was_status, was_level, was_soon = own.status.item(row), own.level.item(row), own.low_in_s.item(row) < self._soon_s
        level = self._level_of(row, value) if code == OK else UNKNOWN
        if code == OK and level < _LOW and own.burns.item(row) and own.value.item(own.oxygen.item(row)) < LEL_NEEDS_O2:
            code, level, own.value[row] = INVALID, UNKNOWN, math.nan
        if code == OK:
            own.held[row] = level
        own.status[row], own.level[row] = code, level
        slope, low_in_s = self._trend_of(row, value, at) if code == OK and at >= own.at.item(row) else (0.0, math.inf)
        own.slope[row], own.low_in_s[row] = slope, low_in_s
        own.calm[row] = level == _WITHIN and slope == 0
        other = code != was_status
        return other, other or level != was_level or (low_in_s < self._soon_s) != was_soon

    def _take_value(self, row: int, value: float, code: int) -> tuple[int, float]:
        """As `GasRows._codes`, of one reading; keep its number, and return its status and the number."""
        own, rule = self._rows, self._rows.rule.item(row)
        over = own.over.item(row) or code == OVER
        if code == OK:
            if not math.isfinite(value):
                code = INVALID
            elif value < self._floors[rule]:
                code = UNDER
            elif over or value > self._fulls[rule]:
                code, over = OVER, True
        own.over[row], own.value[row] = over, value if code == OK else math.nan
        return code, value

    def _level_of(self, row: int, value: float) -> int:
        """As `GasRows._level`, of one row."""
        held = self._rows.held.item(row)
        for level, enter_above, leave_above, enter_below, leave_below in self._worst_first[self._rows.rule.item(row)]:
            above, below = (leave_above, leave_below) if held >= level else (enter_above, enter_below)
            if value >= above or value < below:
                return level
        return _WITHIN

    def _trend_of(self, row: int, value: float, at: float) -> tuple[float, float]:
        """As `GasRows._trend`, of one good number that is not older than the last; return the slope too."""
        own, slot, was_at = self._rows, self._rows.slot.item(row), self._rows.at.item(row)
        if was_at == -math.inf:
            own.ring[row] = value
        if was_at == -math.inf or math.floor(at) > math.floor(was_at):
            slot = (slot + 1) % SLOPE_POINTS
        own.slot[row], own.at[row] = slot, at
        own.ring[row, slot], own.ring_at[row, slot] = value, at
        ring = own.ring[row].tolist()
        low, high = min(ring) + 0.0, max(ring) + 0.0
        own.ring_low[row], own.ring_high[row] = low, high
        if max(value - low, high - value) <= self._still[own.rule.item(row)]:
            return 0.0, math.inf
        return self._slope_of(row, ring, at, value)

    def _slope_of(self, row: int, ring: Sequence[float], at: float, value: float) -> tuple[float, float]:
        """As `GasRows._slope`, of one row."""
        n, sx, sy, sxx, sxy = 0, 0.0, 0.0, 0.0, 0.0
        for then, number in zip(self._rows.ring_at[row].tolist(), ring, strict=True):
            x, y = then - at, number - value
            if x >= -SLOPE_WINDOW_S:
                n, sx, sy, sxx, sxy = n + 1, sx + x, sy + y, sxx + x * x, sxy + x * y
        spread = n * sxx - sx * sx
        slope = (n * sxy - sx * sy) / spread if n >= SLOPE_LEAST and spread > 0 else 0.0
        rule = self._rows.rule.item(row)
        room = self._lows_above[rule] - value if slope > 0 else value - self._lows_below[rule]
        return slope, room / max(abs(slope), 1e-300) if slope != 0 and room > 0 else math.inf
