"""Every gas channel of the sites of a process at once: what its newest reading means, one row a channel, a batch at a time.

Theory: status comes before any number. A reading without a number decides nothing: its level is UNKNOWN, which never clears
an alarm. A level is *entered* when its limit is breached and *left* only when the value is back inside by the deadband, so
noise at a limit makes no second alarm. Over-range latches the row: a pellistor hit by high gas can read 0 afterwards, so only
a restart of the instrument (new boot, after its bump test) makes its numbers count again. A combustible sensor needs oxygen:
below 10 % vol of O2 its low readings say nothing, its high ones still raise. Numbers far below zero are drift, a fault
(`domain.md` §7.1).

The rows are numpy arrays because a city is 60,000 of them. `tests/kit/gas_reference.py` says the same in plain Python for one
channel, and both agree on every sample of random streams.
"""

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from manway.ids import Status
from manway.limits import GasLimits, Level, Limit, LimitProfile

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int8]
Indices = npt.NDArray[np.intp]
Shorts = npt.NDArray[np.int16]
Numbers = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

UNKNOWN = -1  # the level and the status of a row that cannot tell
CODES = {status: code for code, status in enumerate(Status)}  # the order of `locks.md` §5, so OK is 0
_STATUSES = tuple(Status)
_OK, _OVER, _UNDER, _INVALID = (CODES[s] for s in (Status.OK, Status.OVER, Status.UNDER, Status.INVALID))
_ALL = np.True_
_WITHIN, _LOW = int(Level.WITHIN), int(Level.LOW)
LEVELS = tuple(level for level in Level if level > Level.WITHIN)
_RANKS = np.array(LEVELS, np.int8)
_NAMES = {level: level.name.lower() for level in Level}
_LEVEL_OF = {int(level): level for level in Level}

SLOPE_WINDOW_S = 10.0  # least squares over the last 10 s (`domain.md` §7.2)
SLOPE_POINTS = 11  # one a second: both ends of the window
SLOPE_LEAST = 5  # (choice) fewer points than half the window are no trend
FEW = 16  # (choice, measured) up to that many readings at once plain Python is faster than arrays
LEL_NEEDS_O2 = 10.0  # % vol; a catalytic sensor cannot burn with less [MP]
# Beyond 100 % LEL a sensor is over its range (`domain.md` §7.1); beyond pure gas every number is (1e7 mg/m3 is more than any).
FULL = {"% LEL": 100.0, "% vol": 100.0, "ppm": 1e6, "mg/m3": 1e7}


class _Rows(msgspec.Struct):
    """The columns of all rows, each of shape (row,), the two of the ring (row, SLOPE_POINTS)."""

    rule: Shorts  # which gas, -1 = free
    status: Bytes
    level: Bytes
    held: Bytes  # the level that leaving is measured from
    over: Flags
    burns: Flags  # a combustible sensor beside an oxygen one
    calm: Flags  # ok, within its limits, not over its range, and not moving
    slot: Bytes  # the newest place of the ring
    oxygen: Numbers  # row of the O2 sensor beside a combustible one, -1 = none
    factor: Floats  # channel's unit -> limit's unit
    calm_from: Floats  # in the channel's unit: from here to below `calm_to` a calm row stays within all limits
    calm_to: Floats
    value: Floats
    at: Floats  # Unix s of the newest number
    low_in_s: Floats  # seconds to the low limit at the present slope, inf = not on the way
    slope: Floats  # limit's unit per second
    ring_low: Floats  # no number of the ring is below, none above the next: a calm row need not read its ring
    ring_high: Floats
    ring_at: Floats
    ring: Floats


_TYPES = {
    **dict.fromkeys(_Rows.__struct_fields__, np.float64),
    **dict.fromkeys(("status", "level", "held", "slot"), np.int8),
    **dict.fromkeys(("over", "burns", "calm"), np.bool_),
    "rule": np.int16,
    "oxygen": np.int32,
}
_WIDE = ("ring_at", "ring")
ROW_BYTES = sum(np.dtype(kind).itemsize * (SLOPE_POINTS if name in _WIDE else 1) for name, kind in _TYPES.items())
# Rounding of a limit into the channel's unit must never let a value pass that breaks it: calm bands are that much narrower.
_HAIR = 1e-9


class Channel(msgspec.Struct, frozen=True):
    """One row as it is now. `value` in the limit's unit, None unless `status` is OK; `level` None = unknown.

    `low_in_s` is how soon it reaches the low limit at its present `slope` (limit's unit per second), None = it does not;
    `factor` turns the channel's unit into the limit's; `at` is when the newest number came (Unix seconds, -inf = never).
    """

    limits: GasLimits
    status: Status | None
    value: float | None
    level: Level | None
    over_range: bool
    low_in_s: float | None
    slope: float
    factor: float
    at: float

    def at_least(self, level: Level) -> bool | None:
        """Say whether the air is at this level or worse; None when the channel cannot tell."""
        return None if self.level is None else self.level >= level

    def limit_of(self, level: Level) -> Limit | None:
        """Return the limit of that level, of the side that is broken where there are two, for showing beside the value."""
        name, first = _NAMES[level], None
        for limit in self.limits.limit:
            if limit.level == name:
                if self.value is not None and limit.breached_by(self.value, relief=self.limits.deadband):
                    return limit
                first = first or limit
        return first


class GasRows:
    """The rows of one site, or of all sites that share them; each is one instrument's alone.

    `rules` are the limits of the profile; a row is named by its index, for as long as it is bound.
    `soon_s`: a row that would reach its low limit within this many seconds is on its way (`domain.md` §7.2).
    """

    def __init__(self, profile: LimitProfile, soon_s: float = math.inf) -> None:
        self.rules = profile.gas
        self._soon_s = soon_s
        self._at_c = profile.temperature_c
        self._of = {rule.name: i for i, rule in enumerate(self.rules)}
        self._rows = _empty(0)
        self._free: list[int] = []
        bounds = [_bounds(rule) for rule in self.rules]
        self._low_above = np.array([_low_above(rule) for rule in self.rules])
        self._enter_above, self._leave_above, self._enter_below, self._leave_below = (
            np.array([b[i] for b in bounds]).reshape(-1, len(LEVELS)) for i in range(4)
        )
        self._worst_first = [[*zip(map(int, LEVELS), *b, strict=True)][::-1] for b in bounds]
        self._full = np.array([FULL[rule.unit] for rule in self.rules])
        self._floor = np.array([floor(rule) for rule in self.rules])
        # The same as plain numbers: one at a time they are read several times faster.
        self._still = [rule.deadband for rule in self.rules]
        self._floors, self._fulls = self._floor.tolist(), self._full.tolist()
        self._lows_above, self._lows_below = self._low_above.tolist(), self._enter_below[:, LEVELS.index(Level.LOW)].tolist()
        self._deadband = np.array(self._still)
        self._burns = np.array([rule.unit == "% LEL" for rule in self.rules])

    # -- rows ---------------------------------------------------------------------------------------------------------

    def bind(
        self, units: dict[str, str], *, lel_base_vol: float = 0.0, correction: dict[str, float] | None = None
    ) -> dict[str, int]:
        """Take a row for every channel of an instrument that has limits; `units` maps gas to the channel's unit.

        Raises:
            ProfileInvalid: a channel's unit cannot be compared with its limits.
        """
        known = {gas: self.rules[self._of[gas]] for gas in units if gas in self._of}
        by = correction or {}
        factors = {
            gas: rule.factor(units[gas], self._at_c, lel_base_vol=lel_base_vol, correction=by.get(gas, 1.0))
            for gas, rule in known.items()
        }
        rows = {gas: self._take_row() for gas in known}
        own = self._rows
        for gas, row in rows.items():
            rule = self._of[gas]
            own.rule[row], own.factor[row], own.oxygen[row] = rule, factors[gas], rows.get("O2", UNKNOWN)
            own.burns[row] = self._burns[rule] and "O2" in rows
            own.over[row], own.slot[row] = False, 0
            own.calm_from[row], own.calm_to[row] = self._calm_band(rule, factors[gas])
        self._reset(list(rows.values()))
        return rows

    def restart(self, rows: Sequence[int]) -> None:
        """Believe an instrument's numbers again after it has restarted, its over-range included; levels stay held."""
        self._rows.over[list(rows)] = False

    def latch(self, rows: Sequence[int]) -> None:
        """Latch rows over their range, as they were under other limits."""
        self._rows.over[list(rows)], self._rows.calm[list(rows)] = True, False

    def forget(self, rows: Sequence[int]) -> None:
        """Forget what rows have read, as an instrument that works elsewhere now; over-range goes with the instrument."""
        self._reset(list(rows))

    def inherit(self, old: dict[str, int], new: dict[str, int]) -> None:
        """Let new rows of an instrument keep its old ones' over-range, and give the old ones back."""
        for gas, row in new.items():
            if gas in old:
                self._rows.over[row] = self._rows.over[old[gas]]
        self._rows.rule[list(old.values())] = UNKNOWN
        self._free += old.values()

    def at(self, row: int) -> Channel:
        """Return one row as it is now."""
        own = self._rows
        code, level, low_in_s = own.status.item(row), own.level.item(row), own.low_in_s.item(row)
        known = level != UNKNOWN
        return Channel(
            self.rules[own.rule.item(row)],
            None if code == UNKNOWN else _STATUSES[code],
            own.value.item(row) if known else None,
            _LEVEL_OF[level] if known else None,
            own.over.item(row),
            low_in_s if known and low_in_s < math.inf else None,
            own.slope.item(row) if known else 0.0,
            own.factor.item(row),
            own.at.item(row),
        )

    def judged(self, rows: Sequence[int]) -> tuple[list[int], list[float], list[int]]:
        """Return what these rows say now: which of `rules`, the number in its unit, the level (`UNKNOWN`: no number)."""
        own, index = self._rows, np.array(rows, np.intp)
        return own.rule[index].tolist(), own.value[index].tolist(), own.level[index].tolist()

    def calm_band(self, row: int) -> tuple[float, float]:
        """Return from where to below where (channel's unit) a row that is calm meets no limit."""
        return self._rows.calm_from.item(row), self._rows.calm_to.item(row)

    def calm(self, row: int) -> bool:
        """Say whether a row's newest number is good, within all limits and steady, so that nothing follows from it."""
        return self._rows.calm.item(row)

    # -- samples ------------------------------------------------------------------------------------------------------

    def take(self, rows: Indices, values: Floats, status: Bytes, at: Floats) -> tuple[Flags, Flags]:
        """Judge one new reading of each of `rows` (each named once), in the channels' units at `at` (Unix seconds).

        Returns:
            (other, loud), one flag a reading: its status is another than before; its status, its level or whether it is on its
            way to the low limit is another than before, so that somebody must look.
        """
        own = self._rows
        value = values * own.factor[rows]
        calm = self._stay_calm(rows, values, value, at, status == _OK)
        if calm.all():
            self._note(rows, value, at)
            return np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        self._note(rows[calm], value[calm], at[calm])
        other, loud = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        rest = ~calm
        other[rest], loud[rest] = self._judge(rows[rest], value[rest], status[rest], at[rest])
        return other, loud

    def take_few(
        self, rows: Sequence[int], values: Sequence[float | None], codes: Sequence[int], at: Sequence[float]
    ) -> tuple[list[int], list[int]]:
        """As `take`, one row after the other, which up to `FEW` rows is several times faster; `codes` are the statuses.

        Returns:
            (other, loud), the places in `rows` that `take` flags.
        """
        rest = list[int]()
        for place, value in enumerate(self._calm_few(rows, values, codes, at)):
            if value is None:
                rest.append(place)
            else:
                self._note_one(rows[place], value, at[place])
        if not rest:
            return [], []
        left = [(rows[i], math.nan if (number := values[i]) is None else number, codes[i], at[i]) for i in rest]
        other, loud = self._judge_few(left)
        return [rest[i] for i in other], [rest[i] for i in loud]

    def _calm_few(
        self, rows: Sequence[int], values: Sequence[float | None], codes: Sequence[int], at: Sequence[float]
    ) -> list[float | None]:
        """Return what readings that change nothing but the number say in the limits' units, None of others, as `_stay_calm`."""
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
        """Return the number in the limit's unit where it changes nothing else, as `_stay_calm`; its oxygen is not asked."""
        own = self._rows
        if not own.calm.item(row):
            return None
        if code == _OK and number is not None and own.calm_from.item(row) <= number < own.calm_to.item(row):
            value, still = number * own.factor.item(row), self._still[own.rule.item(row)]
            if at >= own.at.item(row) and value - own.ring_low.item(row) <= still and own.ring_high.item(row) - value <= still:
                return value
        return None

    def _note_one(self, row: int, value: float, at: float) -> None:
        """As `_note`, of one row."""
        own, slot = self._rows, self._rows.slot.item(row)
        if math.floor(at) > math.floor(own.at.item(row)):
            own.slot[row] = slot = (slot + 1) % SLOPE_POINTS
        own.at[row] = own.ring_at[row, slot] = at
        own.value[row] = own.ring[row, slot] = value
        if value < own.ring_low.item(row):
            own.ring_low[row] = value
        elif value > own.ring_high.item(row):
            own.ring_high[row] = value

    def would_stay_calm(self, rows: Indices, values: Floats, at: float) -> Flags:
        """Say which readings `take` would find to change nothing but the number itself; nothing is taken yet.

        Each of `rows` is named once; `values` are ok ones in the channels' units, all of `at` (Unix seconds).
        """
        if len(rows) <= FEW:
            few = self._calm_few(rows.tolist(), values.tolist(), bytes(len(rows)), [at] * len(rows))
            return np.array([value is not None for value in few], np.bool_)
        return self._stay_calm(rows, values, values * self._rows.factor[rows], at, _ALL)

    def note(self, rows: Indices, values: Floats, at: float) -> None:
        """Take readings that stay calm, as `would_stay_calm` has said of them."""
        if len(rows) > FEW:
            self._note(rows, values * self._rows.factor[rows], at)
            return
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            self._note_one(row, value * self._rows.factor.item(row), at)

    def judge(self, rows: Indices, values: Floats, at: float) -> tuple[Flags, Flags]:
        """Take readings that would not stay calm, ok ones in the channels' units; returns as `take`."""
        if len(rows) <= FEW:
            flags = np.zeros((2, len(rows)), np.bool_)
            few = self._judge_few([(row, value, _OK, at) for row, value in zip(rows.tolist(), values.tolist(), strict=True)])
            flags[0, few[0]], flags[1, few[1]] = True, True
            return flags[0], flags[1]
        value = values * self._rows.factor[rows]
        return self._judge(rows, value, np.zeros(len(rows), np.int8), np.full(len(rows), at))

    def _stay_calm(self, rows: Indices, values: Floats, value: Floats, at: Floats | float, ok: Flags | np.bool_) -> Flags:
        """Return which readings change nothing but the number itself, as nearly all do; `value` in the limits' units."""
        own = self._rows
        still = self._deadband[own.rule[rows]]
        calm: Flags = own.calm[rows] & ok & (values >= own.calm_from[rows]) & (values < own.calm_to[rows])
        calm &= (at >= own.at[rows]) & (value - own.ring_low[rows] <= still) & (own.ring_high[rows] - value <= still)
        burns = calm & own.burns[rows]
        if burns.any():  # perhaps starved where its oxygen is not calm: the whole judgement looks at the oxygen itself
            ended = rows[~calm]
            was = own.calm[ended]
            own.calm[ended] = False
            calm[burns] = own.calm[own.oxygen[rows[burns]]]
            own.calm[ended] = was
        return calm

    def _note(self, rows: Indices, value: Floats, at: Floats | float) -> None:
        """Keep calm numbers, one a second."""
        own = self._rows
        slot = (own.slot[rows] + (np.floor(at) > np.floor(own.at[rows]))) % SLOPE_POINTS
        own.slot[rows], own.at[rows], own.value[rows] = slot, at, value
        own.ring[rows, slot], own.ring_at[rows, slot] = value, at
        low, high = own.ring_low[rows], own.ring_high[rows]
        # Of two zeros the one that was there stays, as in `_note_one`: which of them `minimum` returns is nobody's promise.
        own.ring_low[rows], own.ring_high[rows] = np.where(value < low, value, low), np.where(value > high, value, high)

    def _judge(self, rows: Indices, value: Floats, status: Bytes, at: Floats) -> tuple[Flags, Flags]:
        """Judge readings by all rules; as `take`, with `value` in the limits' units."""
        own = self._rows
        rule, was_status, was_level, burns = own.rule[rows], own.status[rows], own.level[rows], own.burns[rows]
        was_soon = own.low_in_s[rows] < self._soon_s
        code = self._codes(rows, rule, value, status)
        good = code == _OK
        own.value[rows] = value if good.all() else np.where(good, value, np.nan)
        level = self._level(rule, value, own.held[rows])
        if burns.any():
            starved = burns & good & (level < Level.LOW) & (own.value[own.oxygen[rows]] < LEL_NEEDS_O2)
            code[starved], own.value[rows[starved]] = _INVALID, np.nan
            good = code == _OK
        if good.all():
            own.held[rows] = level
        else:
            level[~good] = UNKNOWN
            own.held[rows[good]] = level[good]
        own.status[rows], own.level[rows] = code, level
        low_in_s = self._trend(rows, value, at, good)
        own.calm[rows] = good & (level == Level.WITHIN) & (own.slope[rows] == 0)
        other = code != was_status
        turns = (low_in_s < self._soon_s) != was_soon
        return other, other | (level != was_level) | turns

    def _judge_few(self, readings: Sequence[tuple[int, float, int, float]]) -> tuple[list[int], list[int]]:
        """As `_judge`, one reading after the other: (row, number in the channel's unit, its status, when).

        Returns:
            (other, loud), the places of those that `_judge` flags.
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
        level = self._level_of(row, value) if code == _OK else UNKNOWN
        if code == _OK and level < _LOW and own.burns.item(row) and own.value.item(own.oxygen.item(row)) < LEL_NEEDS_O2:
            code, level, own.value[row] = _INVALID, UNKNOWN, math.nan
        if code == _OK:
            own.held[row] = level
        own.status[row], own.level[row] = code, level
        slope, low_in_s = self._trend_of(row, value, at) if code == _OK and at >= own.at.item(row) else (0.0, math.inf)
        own.slope[row], own.low_in_s[row] = slope, low_in_s
        own.calm[row] = level == _WITHIN and slope == 0
        other = code != was_status
        return other, other or level != was_level or (low_in_s < self._soon_s) != was_soon

    def _take_value(self, row: int, value: float, code: int) -> tuple[int, float]:
        """As `_codes`, of one reading; keep its number, and return its status and the number."""
        own, rule = self._rows, self._rows.rule.item(row)
        over = own.over.item(row) or code == _OVER
        if code == _OK:
            if not math.isfinite(value):
                code = _INVALID
            elif value < self._floors[rule]:
                code = _UNDER
            elif over or value > self._fulls[rule]:
                code, over = _OVER, True
        own.over[row], own.value[row] = over, value if code == _OK else math.nan
        return code, value

    def _level_of(self, row: int, value: float) -> int:
        """As `_level`, of one row."""
        held = self._rows.held.item(row)
        for level, enter_above, leave_above, enter_below, leave_below in self._worst_first[self._rows.rule.item(row)]:
            above, below = (leave_above, leave_below) if held >= level else (enter_above, enter_below)
            if value >= above or value < below:
                return level
        return _WITHIN

    def _trend_of(self, row: int, value: float, at: float) -> tuple[float, float]:
        """As `_trend`, of one good number that is not older than the last; return the slope too."""
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
        """As `_slope`, of one row."""
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

    def _codes(self, rows: Indices, rule: Shorts, value: Floats, status: Bytes) -> Bytes:
        """Return what readings are before any limit: a number that cannot be meant is a fault, and over-range stays."""
        own, floor_of, full = self._rows, self._floor[rule], self._full[rule]
        if ((status == _OK) & (value >= floor_of) & (value <= full) & ~own.over[rows]).all():
            return np.zeros(len(rows), np.int8)
        code = np.where((status == _OK) & ~np.isfinite(value), _INVALID, status).astype(np.int8)
        code[(code == _OK) & (value < floor_of)] = _UNDER
        over = own.over[rows] | (code == _OVER) | ((code == _OK) & (value > full))
        code[over & (code == _OK)] = _OVER
        own.over[rows] = over
        return code

    def _level(self, rule: npt.NDArray[np.int16], value: Floats, held: Bytes) -> Bytes:
        """Return the worst level each value is at, or is not yet back from by the deadband."""
        hold = held[:, None] >= _RANKS
        above = value[:, None] >= np.where(hold, self._leave_above[rule], self._enter_above[rule])
        below = value[:, None] < np.where(hold, self._leave_below[rule], self._enter_below[rule])
        worst: Bytes = ((above | below) * _RANKS).max(axis=1).astype(np.int8)
        return worst

    def _trend(self, rows: Indices, value: Floats, at: Floats, good: Flags) -> Floats:
        """Keep one number a second, and where a channel has moved return the seconds to its low limit, else infinity."""
        own = self._rows
        own.low_in_s[rows], own.slope[rows] = np.inf, 0.0
        was_at, low_in_s = own.at[rows], np.full(len(rows), np.inf)
        kept = good & (at >= was_at)
        if not kept.all():
            rows, value, at, was_at = rows[kept], value[kept], at[kept], was_at[kept]
        first = was_at == -np.inf
        if first.any():
            own.ring[rows[first]] = value[first, None]  # no place of a ring is ever empty: the first number fills it
        slot = (own.slot[rows] + (np.floor(at) > np.floor(was_at))) % SLOPE_POINTS
        own.slot[rows], own.at[rows] = slot, at
        own.ring[rows, slot], own.ring_at[rows, slot] = value, at
        ring = own.ring[rows]
        low, high = ring.min(axis=1) + 0.0, ring.max(axis=1) + 0.0  # one zero, not two
        own.ring_low[rows], own.ring_high[rows] = low, high
        moved = np.maximum(value - low, high - value) > self._deadband[own.rule[rows]]
        if moved.any():
            slope, ahead = self._slope(rows[moved], ring[moved], at[moved], value[moved])
            own.slope[rows[moved]], own.low_in_s[rows[moved]] = slope, ahead
            low_in_s[np.flatnonzero(kept)[moved]] = ahead
        return low_in_s

    def _slope(self, rows: Indices, ring: Floats, at: Floats, value: Floats) -> tuple[Floats, Floats]:
        """Return slopes by least squares (per second) and the seconds to the low limit ahead, infinity when none is.

        Sums go from the first place of the ring to the last, as those of `_slope_of`; `sum` takes an order of its own.
        """
        x = self._rows.ring_at[rows] - at[:, None]
        inside = x >= -SLOPE_WINDOW_S
        n = inside.sum(axis=1)
        x = np.where(inside, x, 0.0)
        y = np.where(inside, ring - value[:, None], 0.0)
        sx, sy, sxx, sxy = (column.cumsum(axis=1)[:, -1] for column in (x, y, x * x, x * y))
        spread = n * sxx - sx * sx
        fits = (n >= SLOPE_LEAST) & (spread > 0)
        slope = np.where(fits, (n * sxy - sx * sy) / np.where(fits, spread, 1.0), 0.0)
        rule, low = self._rows.rule[rows], LEVELS.index(Level.LOW)
        room = np.where(slope > 0, self._low_above[rule] - value, value - self._enter_below[rule, low])
        ahead = np.where((slope != 0) & (room > 0), room / np.maximum(np.abs(slope), 1e-300), np.inf)
        return slope, ahead

    def recall(self, row: int, values: Floats, at: Floats, seconds: int) -> None:
        """Let a row's trend know the newest numbers of eleven seconds, in the limit's unit, as if each had been taken.

        `seconds` with a number it has had in all: so the ring stands as it would, and its sums are the same to the last bit.
        """
        own, newest = self._rows, seconds % SLOPE_POINTS
        own.ring[row], own.ring_at[row] = np.roll(values, newest + 1), np.roll(at, newest + 1)
        own.ring_low[row], own.ring_high[row] = values.min(), values.max()
        own.slot[row], own.at[row] = newest, at[-1]

    # -- memory -------------------------------------------------------------------------------------------------------

    def saved(self, rows: Sequence[int]) -> bytes:
        """Return some rows as bytes, for a snapshot; they are numbered as they come here, whatever their places are."""
        own, index = self._rows, np.array(rows, np.intp)
        number = np.full(len(own.rule) + 1, UNKNOWN, np.int32)  # one more, so that no oxygen is none
        number[index] = np.arange(len(index))
        columns = {name: getattr(own, name)[index] for name in _TYPES}
        columns["oxygen"] = number[columns["oxygen"]]
        return b"".join(column.tobytes() for column in columns.values())

    def load(self, data: bytes) -> list[int]:
        """Take what `saved` returned under the same profile into rows of their own; return them in its order."""
        columns = _columns(data)
        rows = [self._take_row() for _ in columns["rule"]]
        columns["oxygen"] = np.array([*rows, UNKNOWN], np.int32)[columns["oxygen"]]
        for name, column in columns.items():
            getattr(self._rows, name)[rows] = column
        return rows

    def _take_row(self) -> int:
        if not self._free:
            size = len(self._rows.rule)
            more = _empty(max(64, size))
            for name in _TYPES:
                setattr(self._rows, name, np.concatenate([getattr(self._rows, name), getattr(more, name)]))
            self._free = list(range(len(self._rows.rule) - 1, size - 1, -1))
        return self._free.pop()

    def _calm_band(self, rule: int, factor: float) -> tuple[float, float]:
        """Return from where to below where (channel's unit) no limit, floor or range is met, however the factor rounds."""
        low = max(self._floor[rule], self._enter_below[rule].max()) / factor
        high = min(self._full[rule], self._enter_above[rule].min()) / factor
        return low + abs(low) * _HAIR, high - abs(high) * _HAIR

    def _reset(self, rows: list[int]) -> None:
        own = self._rows
        own.status[rows] = own.level[rows] = UNKNOWN
        own.held[rows] = Level.WITHIN
        own.value[rows] = np.nan
        own.at[rows], own.ring_at[rows] = -np.inf, -np.inf
        own.ring[rows] = own.ring_low[rows] = own.ring_high[rows] = 0.0  # nothing of whose row it was: a snapshot has it all
        own.low_in_s[rows], own.slope[rows], own.calm[rows] = np.inf, 0.0, False


def _empty(count: int) -> _Rows:
    """Return free rows."""
    shapes = {name: (count, SLOPE_POINTS) if name in _WIDE else (count,) for name in _TYPES}
    rows = _Rows(**{name: np.zeros(shapes[name], kind) for name, kind in _TYPES.items()})
    rows.rule[:] = UNKNOWN
    return rows


def _columns(data: bytes) -> dict[str, Floats]:
    """Return the columns that `GasRows.saved` made bytes of, whatever the type of each."""
    count, begin, columns = len(data) // ROW_BYTES, 0, dict[str, Floats]()
    for name, kind in _TYPES.items():
        shape = (count, SLOPE_POINTS) if name in _WIDE else (count,)
        columns[name] = np.frombuffer(data, kind, math.prod(shape), begin).reshape(shape)
        begin += columns[name].nbytes
    return columns


def over_range(data: bytes) -> list[bool]:
    """Return which of the rows that `GasRows.saved` made bytes of, under whatever limits, are latched over their range."""
    over: list[bool] = _columns(data)["over"].tolist()
    return over


def _bounds(rule: GasLimits) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return per level: where it is entered from below (>=) and left, where it is entered from above (<) and left."""
    enter_above, leave_above, enter_below, leave_below = ([bound] * len(LEVELS) for bound in (np.inf, np.inf, -np.inf, -np.inf))
    for limit in rule.limit:
        i = LEVELS.index(limit.rank)
        if limit.side == "below":
            enter_below[i], leave_below[i] = limit.value, limit.value + rule.deadband
        else:  # "over" is >, and leaving is >, so that exactly on the relieved bound is back inside
            enter_above[i] = float(np.nextafter(limit.value, np.inf)) if limit.side == "over" else limit.value
            leave_above[i] = float(np.nextafter(limit.value - rule.deadband, np.inf))
    return enter_above, leave_above, enter_below, leave_below


def edges(rule: GasLimits) -> Floats:
    """Return every number at which readings of a gas begin to mean something else, rising: between two of them nothing does."""
    bounds = np.array([*itertools.chain(*_bounds(rule)), floor(rule), np.nextafter(FULL[rule.unit], np.inf)])
    return np.unique(bounds[np.isfinite(bounds)])


def floor(rule: GasLimits) -> float:
    """Return the number below which a sensor has drifted: half its TWA, or low limit, below zero [BW].

    Little oxygen is danger and never drift; only below what no sensor can mean is it a fault.
    """
    low = next((limit for limit in rule.limit if limit.rank is Level.LOW and limit.side != "below"), None)
    if low is None or any(limit.side == "below" for limit in rule.limit):
        return -FULL[rule.unit]
    return -0.5 * (rule.twa.value if rule.twa is not None else low.value)


def _low_above(rule: GasLimits) -> float:
    """Return the low limit that is passed upwards, infinity where there is none; itself, whether it breaks at > or at >=."""
    return next((limit.value for limit in rule.limit if limit.rank is Level.LOW and limit.side != "below"), np.inf)
