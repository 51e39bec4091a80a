"""Every gas channel of a site at once: what its newest reading means, one row a channel, a batch at a time.

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
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from manway.ids import Status
from manway.limits import GasLimits, Level, Limit, LimitProfile

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.int8]
Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

UNKNOWN = -1  # the level and the status of a row that cannot tell
CODES = {status: code for code, status in enumerate(Status)}  # the order of `locks.md` §5, so OK is 0
_STATUSES = tuple(Status)
_OK, _OVER, _UNDER, _INVALID = (CODES[s] for s in (Status.OK, Status.OVER, Status.UNDER, Status.INVALID))
LEVELS = tuple(level for level in Level if level > Level.WITHIN)
_RANKS = np.array(LEVELS, np.int8)
_NAMES = {level: level.name.lower() for level in Level}

SLOPE_WINDOW_S = 10.0  # least squares over the last 10 s (`domain.md` §7.2)
SLOPE_POINTS = 11  # one a second: both ends of the window
SLOPE_LEAST = 5  # (choice) fewer points than half the window are no trend
LEL_NEEDS_O2 = 10.0  # % vol; a catalytic sensor cannot burn with less [MP]
# Beyond 100 % LEL a sensor is over its range (`domain.md` §7.1); beyond pure gas every number is (1e7 mg/m3 is more than any).
FULL = {"% LEL": 100.0, "% vol": 100.0, "ppm": 1e6, "mg/m3": 1e7}

_ROW = np.dtype(
    [
        ("rule", np.int16),  # which gas, -1 = free
        ("status", np.int8),
        ("level", np.int8),
        ("held", np.int8),  # the level that leaving is measured from
        ("over", np.bool_),
        ("slot", np.int8),  # the newest place of the ring
        ("oxygen", np.int32),  # row of the O2 sensor beside a combustible one, -1 = none
        ("factor", np.float64),  # channel's unit -> limit's unit
        ("value", np.float64),
        ("at", np.float64),  # Unix s of the newest number
        ("low_in_s", np.float64),  # seconds to the low limit at the present slope, inf = not on the way
        ("slope", np.float64),  # limit's unit per second
        ("ring_at", np.float64, SLOPE_POINTS),
        ("ring", np.float64, SLOPE_POINTS),
    ]
)
ROW_BYTES = _ROW.itemsize


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
        both = [limit for limit in self.limits.limit if limit.level == _NAMES[level]]
        value, relief = self.value, self.limits.deadband
        broken = (x for x in both if value is not None and x.breached_by(value, relief=relief))
        return next(broken, both[0] if both else None)


class GasRows:
    """The rows of one site. `rules` are the limits of its profile; a row is named by its index, for as long as it is bound."""

    def __init__(self, profile: LimitProfile) -> None:
        self.rules = profile.gas
        self._at_c = profile.temperature_c
        self._of = {rule.name: i for i, rule in enumerate(self.rules)}
        self._rows = np.zeros(0, _ROW)
        self._free: list[int] = []
        bounds = [_bounds(rule) for rule in self.rules]
        self._low_above = np.array([_low_above(rule) for rule in self.rules])
        self._enter_above, self._leave_above, self._enter_below, self._leave_below = (
            np.array([b[i] for b in bounds]).reshape(-1, len(LEVELS)) for i in range(4)
        )
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
        for gas, row in rows.items():
            new = np.zeros((), _ROW)
            new["rule"], new["factor"] = self._of[gas], factors[gas]
            new["oxygen"] = rows.get("O2", UNKNOWN)
            self._rows[row] = new
        self._reset(list(rows.values()))
        return rows

    def restart(self, rows: Sequence[int]) -> None:
        """Believe an instrument's numbers again after it has restarted, its over-range included; levels stay held."""
        self._rows["over"][list(rows)] = False

    def forget(self, rows: Sequence[int]) -> None:
        """Forget what rows have read, as an instrument that works elsewhere now; over-range goes with the instrument."""
        self._reset(list(rows))

    def inherit(self, old: dict[str, int], new: dict[str, int]) -> None:
        """Let new rows of an instrument keep its old ones' over-range, and give the old ones back."""
        for gas, row in new.items():
            if gas in old:
                self._rows["over"][row] = self._rows["over"][old[gas]]
        self._rows["rule"][list(old.values())] = UNKNOWN
        self._free += old.values()

    def at(self, row: int) -> Channel:
        """Return one row as it is now."""
        now = self._rows[row]
        known = now["level"] != UNKNOWN
        return Channel(
            limits=self.rules[now["rule"]],
            status=None if now["status"] == UNKNOWN else _STATUSES[now["status"]],
            value=float(now["value"]) if known else None,
            level=Level(int(now["level"])) if known else None,
            over_range=bool(now["over"]),
            low_in_s=float(now["low_in_s"]) if known and np.isfinite(now["low_in_s"]) else None,
            slope=float(now["slope"]) if known else 0.0,
            factor=float(now["factor"]),
            at=float(now["at"]),
        )

    # -- samples ------------------------------------------------------------------------------------------------------

    def take(self, rows: Indices, values: Floats, status: Bytes, at: Floats) -> tuple[Flags, Flags]:
        """Judge one new reading of each of `rows` (each named once), in the channels' units at `at` (Unix seconds).

        Returns:
            (other, loud), one flag a reading: its status is another than before; it is not simply within its limits and steady
            as before, so that somebody must look.
        """
        own, was = self._rows, self._rows[rows]
        rule = was["rule"]
        value = values * was["factor"]
        code = np.where((status == _OK) & ~np.isfinite(value), _INVALID, status).astype(np.int8)
        code[(code == _OK) & (value < self._floor[rule])] = _UNDER
        over = was["over"] | (code == _OVER) | ((code == _OK) & (value > self._full[rule]))
        code[over & (code == _OK)] = _OVER
        own["value"][rows] = np.where(code == _OK, value, np.nan)
        level = self._level(rule, value, was["held"])
        starved = self._burns[rule] & (was["oxygen"] >= 0) & (level < Level.LOW) & (own["value"][was["oxygen"]] < LEL_NEEDS_O2)
        code[starved & (code == _OK)] = _INVALID
        good = code == _OK
        level[~good] = UNKNOWN
        own["value"][rows[~good]] = np.nan
        own["status"][rows], own["level"][rows], own["over"][rows] = code, level, over
        own["held"][rows[good]] = level[good]
        low_in_s = self._trend(rows, value, at, good)
        other = code != was["status"]
        on_its_way = np.isfinite(low_in_s) | np.isfinite(was["low_in_s"])  # also the reading that ends a rise is news
        return other, other | (level != was["level"]) | (level != Level.WITHIN) | on_its_way

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
        low_in_s = np.full(len(rows), np.inf)
        own["low_in_s"][rows], own["slope"][rows] = np.inf, 0.0
        good = good & (at >= own["at"][rows])
        rows, value, at, rule = rows[good], value[good], at[good], own["rule"][rows[good]]
        first = own["at"][rows] == -np.inf
        own["ring"][rows[first]] = value[first, None]  # no place of a ring is ever empty: the first number fills it
        next_second = np.floor(at) > np.floor(own["at"][rows])
        slot = (own["slot"][rows] + next_second) % SLOPE_POINTS
        own["slot"][rows], own["at"][rows] = slot, at
        own["ring"][rows, slot], own["ring_at"][rows, slot] = value, at
        ring = own["ring"][rows]
        moved = np.maximum(value - ring.min(axis=1), ring.max(axis=1) - value) > self._deadband[rule]
        if moved.any():
            slope, low = self._slope(rows[moved], ring[moved], at[moved], value[moved], rule[moved])
            own["slope"][rows[moved]], own["low_in_s"][rows[moved]] = slope, low
            low_in_s[np.flatnonzero(good)[moved]] = low
        return low_in_s

    def _slope(
        self, rows: Indices, ring: Floats, at: Floats, value: Floats, rule: npt.NDArray[np.int16]
    ) -> tuple[Floats, Floats]:
        """Return slopes by least squares (per second) and the seconds to the low limit ahead, infinity when none is."""
        x = self._rows["ring_at"][rows] - at[:, None]
        inside = x >= -SLOPE_WINDOW_S
        n = inside.sum(axis=1)
        x = np.where(inside, x, 0.0)
        y = np.where(inside, ring - value[:, None], 0.0)
        sx, sy = x.sum(axis=1), y.sum(axis=1)
        spread = n * (x * x).sum(axis=1) - sx * sx
        slope = np.where(
            (n >= SLOPE_LEAST) & (spread > 0), (n * (x * y).sum(axis=1) - sx * sy) / np.where(spread > 0, spread, 1), 0.0
        )
        low = LEVELS.index(Level.LOW)
        room = np.where(slope > 0, self._low_above[rule] - value, value - self._enter_below[rule, low])
        ahead = np.where((slope != 0) & (room > 0), room / np.maximum(np.abs(slope), 1e-300), np.inf)
        return slope, ahead

    def recall(self, row: int, values: Floats, at: Floats, seconds: int) -> None:
        """Let a row's trend know the newest numbers of eleven seconds, in the limit's unit, as if each had been taken.

        `seconds` with a number it has had in all: so the ring stands as it would, and its sums are the same to the last bit.
        """
        own, newest = self._rows[row], seconds % SLOPE_POINTS
        own["ring"], own["ring_at"] = np.roll(values, newest + 1), np.roll(at, newest + 1)
        own["slot"], own["at"] = newest, at[-1]

    # -- memory -------------------------------------------------------------------------------------------------------

    def saved(self) -> tuple[bytes, list[int]]:
        """Return the rows as bytes with the free ones, for a snapshot."""
        return self._rows.tobytes(), list(self._free)

    def load(self, rows: bytes, free: list[int]) -> None:
        """Take back what `saved` returned under the same profile."""
        self._rows, self._free = np.frombuffer(rows, _ROW).copy(), list(free)

    def _take_row(self) -> int:
        if not self._free:
            size = len(self._rows)
            more = np.zeros(max(64, size), _ROW)
            more["rule"] = UNKNOWN
            self._rows = np.concatenate([self._rows, more])
            self._free = list(range(len(self._rows) - 1, size - 1, -1))
        return self._free.pop()

    def _reset(self, rows: list[int]) -> None:
        own = self._rows
        own["status"][rows] = own["level"][rows] = UNKNOWN
        own["held"][rows] = Level.WITHIN
        own["value"][rows] = np.nan
        own["at"][rows], own["ring_at"][rows] = -np.inf, -np.inf
        own["low_in_s"][rows], own["slope"][rows] = np.inf, 0.0


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
