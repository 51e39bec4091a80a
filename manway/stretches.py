"""The instants of a recording at which anything can change for an alarm, so that a back-test may step over the rest.

Theory: an alarm is fed by three facts of a channel: its status, its level, and whether it reaches its low limit soon. The first
two are worked out for every frame, run by run of frames between the same two `gas.edges`; the third only where the last eleven
seconds hold numbers more than the deadband apart. A frame at which none of them is other than before can be stepped over, in
clean air and on a plateau beyond a limit alike, unless it ends a silence or begins a boot. What cannot be told for certain
counts as a change: it costs time and never an alarm. Tests hold this against every frame through the engine.
"""

import msgspec
import numpy as np

from manway.gas_bounds import FULL, edges, floor
from manway.gas_columns import CODES, LEL_NEEDS_O2, SLOPE_LEAST, SLOPE_POINTS, SLOPE_WINDOW_S, Bytes, Flags, Floats, Indices
from manway.ids import Status
from manway.limits import GasLimits, Level
from manway.recording import Column, Recording

_OK, _OVER, _UNDER, _INVALID = (CODES[status] for status in (Status.OK, Status.OVER, Status.UNDER, Status.INVALID))
_NO, _YES, _PERHAPS = 0, 1, 2
_SURE = 1e-9  # relative: sums of eleven numbers in another order differ by less than 1e-13


class Trace(msgspec.Struct, frozen=True, eq=False):
    """The numbers of one channel that count, in the limit's unit: what its trend is made of.

    `good`: frames with such a number; `value` and `second` of each, the latter numbered from 0; `newest` of a second: its last
    place in `good`; `begun` the number of the first second in the same space.
    """

    good: Indices
    value: Floats
    second: Indices
    newest: Indices
    begun: Indices

    def before(self, i: int, arrived: int) -> Indices:
        """Return the places in `good` of the numbers that the trend knows just before frame `i`, oldest first.

        `arrived` is the first frame in the same space. None while they are too few to fill the trend's ring: up to there every
        frame is a change.
        """
        place = int(np.searchsorted(self.good, i)) - 1
        if place < 0 or self.good[place] < arrived or self.second[place] - self.begun[place] < SLOPE_POINTS - 1:
            return np.zeros(0, np.intp)
        second = self.second[place]
        return np.append(self.newest[second - SLOPE_POINTS + 1 : second], place)


class Changes(msgspec.Struct, frozen=True, eq=False):
    """The frames at which something can change, in order, and the trace of each channel."""

    frames: Indices
    traces: dict[str, Trace]


def changes(recording: Recording, limits: dict[str, tuple[GasLimits, float]], *, stale_s: float, rising_s: float) -> Changes:
    """Find where an engine must look.

    Args:
        recording: of one device.
        limits: gas -> its limits, and the factor that turns the channel's unit into theirs.
        stale_s: the shortest silence that is noticed.
        rising_s: how soon a gas must reach its low limit to be told of.
    """
    at, new_boot = recording.at, np.diff(recording.boot, prepend=-1) != 0
    new_place = np.diff(recording.place, prepend=-1) != 0
    change = new_boot | new_place | (np.diff(at, prepend=at[:1]) > stale_s - 0.001)
    thin, traces = np.zeros(len(at), np.bool_), {}
    for gas in sorted(limits, key=lambda name: name != "O2"):
        rule, factor = limits[gas]
        column, value = recording.channels[gas], recording.channels[gas].value * factor
        status, level = _judged(column, value, rule, np.stack([new_boot, new_place, thin & (rule.unit == "% LEL")]))
        change[1:] |= (status[1:] != status[:-1]) | (level[1:] != level[:-1])
        thin |= (gas == "O2") & (status == _OK) & (value < LEL_NEEDS_O2)
        traces[gas] = _trace(at, value, status == _OK, new_place)
        _follow(at, traces[gas], rule, rising_s, change)
    return Changes(np.flatnonzero(change), traces)


def _judged(column: Column, value: Floats, rule: GasLimits, around: Flags) -> tuple[Bytes, Bytes]:
    """Return the status and the level of every frame as `GasRows` finds them.

    `value` is in the limit's unit; `around`, shape (3, frame), says where the instrument started, came to another space, and
    where the sensor has too little oxygen to burn anything.
    """
    started, arrived, starves = around
    code = _status(column, value, rule, started)
    bounds, ok = edges(rule), code == _OK
    ends = np.min(value, initial=np.inf, where=ok), np.max(value, initial=-np.inf, where=ok)
    lowest, highest = np.searchsorted(bounds, ends, "right")
    zone = np.full(len(value), lowest) if lowest == highest else np.searchsorted(bounds, value, "right")
    zone[~ok] = 0
    begins = arrived.copy()
    for facts in (code, zone, starves):
        begins[1:] |= facts[1:] != facts[:-1]
    starts = np.flatnonzero(begins)
    level, hungry = _levels(_worst(rule, bounds), code[starts], zone[starts], arrived[starts], starves[starts])
    lengths = np.diff(starts, append=len(value))
    code[np.repeat(hungry, lengths)] = _INVALID
    return code, np.repeat(level, lengths)


def _status(column: Column, value: Floats, rule: GasLimits, started: Flags) -> Bytes:
    """Return the status of every frame, oxygen beside it aside."""
    code = np.where((column.status == _OK) & ~np.isfinite(value), _INVALID, column.status).astype(np.int8)
    code[(code == _OK) & (value < floor(rule))] = _UNDER
    over = (code == _OVER) | ((code == _OK) & (value > FULL[rule.unit]))
    if over.any():  # latched until the instrument starts again
        number = np.arange(len(value))
        latched = np.maximum.accumulate(np.where(over, number, -1)) >= np.maximum.accumulate(np.where(started, number, 0))
        code[latched & (code == _OK)] = _OVER
    return code


def _levels(worst: list[list[int]], code: Bytes, zone: Indices, arrived: Flags, starves: Flags) -> tuple[Bytes, Flags]:
    """Return the level of each run, and which runs say nothing for want of oxygen; what says nothing is not held."""
    level, hungry = np.zeros(len(code), np.int8), np.zeros(len(code), np.bool_)
    held = int(Level.WITHIN)
    runs = zip(code.tolist(), zone.tolist(), arrived.tolist(), starves.tolist(), strict=True)
    for i, (status, where, new, thin) in enumerate(runs):
        held = int(Level.WITHIN) if new else held
        level[i] = worst[held][where]
        hungry[i] = thin and status == _OK and level[i] < Level.LOW
        if status == _OK and not hungry[i]:
            held = int(level[i])
    return level, hungry


def _worst(rule: GasLimits, bounds: Floats) -> list[list[int]]:
    """Return for each level that is held the level of each zone: where a value is between which edges."""
    inside = [bounds[0] - 1.0, *bounds.tolist()]
    return [
        [
            max((int(x.rank) for x in rule.limit if x.breached_by(value, relief=rule.deadband * (held >= x.rank))), default=0)
            for value in inside
        ]
        for held in Level
    ]


def _trace(at: Floats, value: Floats, good: Flags, new_place: Flags) -> Trace:
    places = np.flatnonzero(good)
    stay = np.cumsum(new_place)[places]
    first = np.diff(stay, prepend=-1) != 0
    starts = first | (np.diff(np.floor(at[places]), prepend=-np.inf) > 0)
    second = np.cumsum(starts) - 1
    newest = np.append(np.flatnonzero(starts)[1:] - 1, len(places) - 1) if len(places) else places
    begun = np.maximum.accumulate(np.where(first, second, 0))
    return Trace(places, value[places], second, newest, begun)


def _follow(at: Floats, trace: Trace, rule: GasLimits, rising_s: float, change: Flags) -> None:
    """Mark where a channel begins or ends to be so near its low limit, by its trend, that it is told of."""
    moving = _may_move(trace, rule.deadband)
    soon = np.full(len(at), _NO, np.int8)
    for part in np.array_split(moving, len(moving) // 100_000 + 1):
        soon[trace.good[part]] = _soon(at, trace, part, rule, rising_s)
    change[1:] |= (soon[1:] != soon[:-1]) | (soon[1:] == _PERHAPS)
    change[trace.good[trace.second - trace.begun <= SLOPE_POINTS]] = True
    if len({limit.side == "below" for limit in rule.limit}) > 1:
        change |= soon == _YES  # which side is told of hangs on the number of the moment


def _may_move(trace: Trace, deadband: float) -> Indices:
    """Return the places in `good` where the last eleven seconds together hold numbers more than the deadband apart."""
    if not len(trace.good) or np.ptp(trace.value) <= deadband:
        return np.zeros(0, np.intp)
    starts = np.append(0, trace.newest[:-1] + 1)
    highest = _of_last(np.maximum, np.maximum.reduceat(trace.value, starts))
    lowest = _of_last(np.minimum, np.minimum.reduceat(trace.value, starts))
    return np.flatnonzero((highest - lowest > deadband)[trace.second])


def _of_last(pick: np.ufunc, values: Floats) -> Floats:
    """Return the largest or smallest of each number and the ten before it."""
    found = values.copy()
    for back in (1, 2, 4, SLOPE_POINTS - 8):
        before = found.copy()
        found[back:] = pick(before[back:], before[:-back])
    return found


def _soon(at: Floats, trace: Trace, places: Indices, rule: GasLimits, rising_s: float) -> Bytes:
    """Say of each place whether the trend there reaches the low limit within `rising_s`: as `GasRows`, or perhaps."""
    seconds = trace.second[places, None] - np.arange(SLOPE_POINTS - 1, 0, -1)
    ring = np.concatenate([trace.newest[np.maximum(seconds, trace.begun[places, None])], places[:, None]], axis=1)
    now = trace.value[places]
    y, x = trace.value[ring], at[trace.good[ring]] - at[trace.good[places], None]
    moved = np.maximum(now - y.min(axis=1), y.max(axis=1) - now) > rule.deadband
    inside = x >= -SLOPE_WINDOW_S
    n = inside.sum(axis=1)
    x, y = np.where(inside, x, 0.0), np.where(inside, y - now[:, None], 0.0)
    sx, sy = x.sum(axis=1), y.sum(axis=1)
    spread = n * (x * x).sum(axis=1) - sx * sx
    usable = moved & (n >= SLOPE_LEAST)
    slope = np.where(usable, (n * (x * y).sum(axis=1) - sx * sy) / np.where(usable, spread, 1.0), 0.0)
    blur = _SURE * np.abs(y).max(axis=1)  # per second; far more than rounding can do to a slope
    above, below = _room(rule, now)
    rises = _within(above, slope, blur, rising_s)
    falls = _within(below, -slope, blur, rising_s)
    return np.where(usable, np.maximum(rises, falls), _NO).astype(np.int8)


def _room(rule: GasLimits, value: Floats) -> tuple[Floats, Floats]:
    """Return how far it is up and down to the low limits, infinite where there is none ahead."""
    low = [limit for limit in rule.limit if limit.rank is Level.LOW]
    room = []
    for down in (False, True):
        # "over" is entered at the next number behind its value; that much is less than the blur
        bounds = [limit.value for limit in low if (limit.side == "below") is down]
        ahead = np.full(len(value), np.inf) if not bounds else (value - bounds[0] if down else bounds[0] - value)
        room.append(np.where(ahead >= 0, ahead, np.inf))
    return room[0], room[1]


def _within(room: Floats, slope: Floats, blur: Floats, soon_s: float) -> Bytes:
    surely = (room > 0) & (slope > 2 * blur) & (room < soon_s * (slope - blur))
    perhaps = room <= soon_s * np.maximum(slope + blur, 0.0)
    return np.where(surely, _YES, np.where(perhaps, _PERHAPS, _NO)).astype(np.int8)
