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

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from manway.gas_bounds import FULL, LEVELS, bounds, floor, low_above
from manway.gas_columns import (
    INVALID,
    LEL_NEEDS_O2,
    OK,
    OVER,
    SLOPE_LEAST,
    SLOPE_POINTS,
    SLOPE_WINDOW_S,
    TYPES,
    UNDER,
    UNKNOWN,
    Bytes,
    Flags,
    Floats,
    Indices,
    Shorts,
    columns_of,
    empty,
)
from manway.gas_few import FEW, FewRows
from manway.ids import Status
from manway.limits import GasLimits, Level, Limit, LimitProfile

_STATUSES = tuple(Status)
_ALL = np.True_
_RANKS = np.array(LEVELS, np.int8)
_NAMES = {level: level.name.lower() for level in Level}
_LEVEL_OF = {int(level): level for level in Level}
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
        self._rows = empty(0)
        self._few = FewRows(self._rows, self.rules, soon_s)
        self._free: list[int] = []
        self._enter_above, self._leave_above, self._enter_below, self._leave_below = (
            np.array([bounds(rule)[i] for rule in self.rules]).reshape(-1, len(LEVELS)) for i in range(4)
        )
        self._low_above = np.array([low_above(rule) for rule in self.rules])
        self._full = np.array([FULL[rule.unit] for rule in self.rules])
        self._floor = np.array([floor(rule) for rule in self.rules])
        self._deadband = np.array([rule.deadband for rule in self.rules])
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
        calm = self._stay_calm(rows, values, value, at, status == OK)
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
        """As `take`, one row after the other, which up to `FEW` rows is several times faster; as `FewRows.take`."""
        return self._few.take(rows, values, codes, at)

    def would_stay_calm(self, rows: Indices, values: Floats, at: float) -> Flags:
        """Say which readings `take` would find to change nothing but the number itself; nothing is taken yet.

        Each of `rows` is named once; `values` are ok ones in the channels' units, all of `at` (Unix seconds).
        """
        if len(rows) <= FEW:
            few = self._few.calm(rows.tolist(), values.tolist(), bytes(len(rows)), [at] * len(rows))
            return np.array([value is not None for value in few], np.bool_)
        return self._stay_calm(rows, values, values * self._rows.factor[rows], at, _ALL)

    def note(self, rows: Indices, values: Floats, at: float) -> None:
        """Take readings that stay calm, as `would_stay_calm` has said of them."""
        if len(rows) > FEW:
            self._note(rows, values * self._rows.factor[rows], at)
            return
        for row, value in zip(rows.tolist(), values.tolist(), strict=True):
            self._few.note(row, value * self._rows.factor.item(row), at)

    def judge(self, rows: Indices, values: Floats, at: float) -> tuple[Flags, Flags]:
        """Take readings that would not stay calm, ok ones in the channels' units; returns as `take`."""
        if len(rows) <= FEW:
            flags = np.zeros((2, len(rows)), np.bool_)
            few = self._few.judge([(row, value, OK, at) for row, value in zip(rows.tolist(), values.tolist(), strict=True)])
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
        # Of two zeros the one that was there stays, as in `FewRows.note`: which of them `minimum` returns is nobody's promise.
        own.ring_low[rows], own.ring_high[rows] = np.where(value < low, value, low), np.where(value > high, value, high)

    def _judge(self, rows: Indices, value: Floats, status: Bytes, at: Floats) -> tuple[Flags, Flags]:
        """Judge readings by all rules; as `take`, with `value` in the limits' units."""
        own = self._rows
        rule, was_status, was_level, burns = own.rule[rows], own.status[rows], own.level[rows], own.burns[rows]
        was_soon = own.low_in_s[rows] < self._soon_s
        code = self._codes(rows, rule, value, status)
        good = code == OK
        own.value[rows] = value if good.all() else np.where(good, value, np.nan)
        level = self._level(rule, value, own.held[rows])
        if burns.any():
            starved = burns & good & (level < Level.LOW) & (own.value[own.oxygen[rows]] < LEL_NEEDS_O2)
            code[starved], own.value[rows[starved]] = INVALID, np.nan
            good = code == OK
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

    def _codes(self, rows: Indices, rule: Shorts, value: Floats, status: Bytes) -> Bytes:
        """Return what readings are before any limit: a number that cannot be meant is a fault, and over-range stays."""
        own, floor_of, full = self._rows, self._floor[rule], self._full[rule]
        if ((status == OK) & (value >= floor_of) & (value <= full) & ~own.over[rows]).all():
            return np.zeros(len(rows), np.int8)
        code = np.where((status == OK) & ~np.isfinite(value), INVALID, status).astype(np.int8)
        code[(code == OK) & (value < floor_of)] = UNDER
        over = own.over[rows] | (code == OVER) | ((code == OK) & (value > full))
        code[over & (code == OK)] = OVER
        own.over[rows] = over
        return code

    def _level(self, rule: Shorts, value: Floats, held: Bytes) -> Bytes:
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

        Sums go from the first place of the ring to the last, as those of `FewRows._slope_of`; `sum` takes an order of its own.
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
        columns = {name: getattr(own, name)[index] for name in TYPES}
        columns["oxygen"] = number[columns["oxygen"]]
        return b"".join(column.tobytes() for column in columns.values())

    def load(self, data: bytes) -> list[int]:
        """Take what `saved` returned under the same profile into rows of their own; return them in its order."""
        columns = columns_of(data)
        rows = [self._take_row() for _ in columns["rule"]]
        columns["oxygen"] = np.array([*rows, UNKNOWN], np.int32)[columns["oxygen"]]
        for name, column in columns.items():
            getattr(self._rows, name)[rows] = column
        return rows

    def _take_row(self) -> int:
        if not self._free:
            size = len(self._rows.rule)
            more = empty(max(64, size))
            for name in TYPES:
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
