"""What one person has breathed of one gas: 15-minute average, 8-hour average, shift dose (`domain.md` §7.2).

Theory: everything follows from one number that only grows, the dose D(t), the integral of the concentration over the time
inside. An average is D now less D one window ago, so a ring of D at every whole second (or minute) answers at once.

The concentration between two valid samples is: a straight line when they are at most 5 s apart; else the value before, held
for 60 s; after that nothing is known, the time is *uncovered* and counts at the greater of the values before and after,
never as 0. While a gap lasts it counts at the value before; the value after, when it comes, can only raise it. Before the
first value of all nothing is known: that time is uncovered and counts at the first value when it comes (until then the
averages say 0.0, so read `uncovered_s` beside them). Outside counts 0, whatever the instrument says there. Values and gaps
belong to the person, not to an instrument: people change instruments, and a value from before a break is still the last known.

Precision: inside the oldest second (minute) of a window the dose is taken as evenly spread. With M the highest concentration
of that step this errs by at most M/4 of the step, so STEL by at most M/3600 and TWA8 by at most M/1920; at whole seconds
(minutes) of the clock there is no error. The shift dose has none at all.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, assert_never

import msgspec
import numpy as np
from numpy.typing import NDArray

# Seconds. The numbers are the rule's own, not a site's: a laxer one would be another average (domain.md 7.2).
JOIN_S = 5.0  # valid samples this close are joined by a straight line
HOLD_S = 60.0  # a last value stands this long; no shorter than any `silence_evacuate_s`: out is ordered while it stands
STEL_S = 900.0  # GBZ 2.1-2019 PC-STEL, 29 CFR 1910.1000: 15 minutes
SHIFT_S = 28_800.0  # the divisor is 8 h however long the shift was (29 CFR 1915.1000; 29 CFR 1910.1000(d)(1)(i))

# Pure gas is 1e6 ppm, or some 1e7 mg/m3; a number beyond is the instrument's error, and the cap keeps every dose finite.
_MOST = 1e9

Average = Literal["stel", "twa8", "shift"]
Floats = NDArray[np.float64]


class Stretch(NamedTuple):
    """Time inside whose concentration is known or assumed: from `start` to `end`, straight from `first` to `last`."""

    start: float
    end: float
    first: float
    last: float
    covered: bool

    def dose(self, start: float, end: float) -> float:
        """Return the dose of the part between two instants; 0.0 when there is none."""
        start, end = max(start, self.start), min(end, self.end)
        if end <= start:
            return 0.0
        slope = (self.last - self.first) / (self.end - self.start)
        # Differences of Unix times are exact in floating point, their sums are not.
        return (end - start) * (self.first + slope * ((start - self.start) + (end - start) / 2))


class Ring(msgspec.Struct):
    """The dose D at every whole step of the clock, for one window; `marks` has one slot more than the window has steps."""

    step_s: float
    steps: int
    marks: list[float]
    newest: int = 0

    @property
    def window_s(self) -> float:
        """The length of the window, in seconds."""
        return self.step_s * self.steps

    def add(self, stretch: Stretch, before: float) -> None:
        """Mark every step passed on the way to the end of a stretch; `before` is the dose up to its start."""
        last = int(stretch.end // self.step_s)
        # A jump of hours refills the ring once, it does not walk the hours.
        for step in range(max(self.newest, last - self.steps - 1) + 1, last + 1):
            self.marks[step % len(self.marks)] = before + stretch.dose(stretch.start, step * self.step_s)
        self.newest = last

    def since(self, at: float, dose: float) -> float:
        """Return the dose of the window that ends at `at`, given the dose of all time."""
        oldest = int(at // self.step_s) - self.steps
        lower, upper = self._mark(oldest, dose), self._mark(oldest + 1, dose)
        return dose - (lower + (upper - lower) * (at % self.step_s) / self.step_s)

    def doses_at(self, instants: Floats, dose: float) -> Floats:
        """Return the dose up to each of the instants, (n,), none of them older than the ring."""
        oldest = int(instants[0] // self.step_s)
        cut, known = oldest % len(self.marks), max(0, self.newest - oldest + 1)
        marks = [*self.marks[cut:], *self.marks[:cut]][:known]  # `oldest` first
        marks += [dose] * (self.steps + 2 - known)
        doses: Floats = np.interp(instants, (oldest + np.arange(len(marks))) * self.step_s, marks)
        return doses

    def _mark(self, step: int, dose: float) -> float:
        return dose if step > self.newest else self.marks[step % len(self.marks)]


def _ring(step_s: float, window_s: float) -> Ring:
    steps = round(window_s / step_s)
    return Ring(step_s, steps, [0.0] * (steps + 1))


class Exposure(msgspec.Struct):
    """One person's exposure to one gas, in the limit's unit; times are Unix seconds that never go backwards.

    The struct is its own snapshot: it survives msgspec as it is. Only `take`, `enter` and `leave` change it; to ask changes
    nothing. `now` is the newest instant seen, `value` the last valid number and `value_at` its time, `inside_since` the
    start of the present stay or of what the last value has not settled of it, `stays` the ended stays that wait for the
    value after; `dose` is D up to the last settled instant, `shift_dose` what of it came before this shift.
    """

    now: float = 0.0
    value: float | None = None
    value_at: float = 0.0
    inside_since: float | None = None
    left_at: float | None = None
    stays: list[tuple[float, float]] = msgspec.field(default_factory=list)
    dose: float = 0.0
    shift_dose: float = 0.0
    shift_covered_s: float = 0.0
    shift_uncovered_s: float = 0.0
    seconds: Ring = msgspec.field(default_factory=lambda: _ring(1.0, STEL_S))
    minutes: Ring = msgspec.field(default_factory=lambda: _ring(60.0, SHIFT_S))

    def enter(self, at: float, *, new_shift_s: float) -> None:
        """Count the person in; after `new_shift_s` or more outside a new shift begins. Already inside: nothing happens."""
        self.now = at = self._not_before_now(at)
        if self.inside_since is not None:
            return
        if self.left_at is not None and at - self.left_at >= new_shift_s:
            self._settle(at, None)
            self.shift_dose, self.shift_covered_s, self.shift_uncovered_s = self.dose, 0.0, 0.0
        self.inside_since = at

    def leave(self, at: float) -> None:
        """Count the person out: from now on the concentration is 0. Already outside: nothing happens."""
        self.now = at = self._not_before_now(at)
        if self.inside_since is not None:
            self.stays.append((self.inside_since, at))
            self.inside_since, self.left_at = None, at

    def take(self, at: float, value: float | None) -> None:
        """Take a sample in the limit's unit; None (fault, stale, missing), NaN and infinity are no number at all.

        A negative value counts as 0 (whether it is drift is judged elsewhere); a sample older than the newest instant seen
        is ignored.
        """
        if not self.now <= at < math.inf:
            return
        self.now = at
        if value is None or not math.isfinite(value):
            return
        value = _sane(value)
        self._settle(at, value)
        self.value, self.value_at = value, at

    def stel(self, at: float) -> float:
        """Return the average of the last 15 minutes, rolling."""
        return self._window(self.seconds, at) / STEL_S

    def twa8(self, at: float) -> float:
        """Return the average of the last 8 hours, rolling."""
        return self._window(self.minutes, at) / SHIFT_S

    def shift(self, at: float) -> float:
        """Return the shift's dose over 8 h, E of 29 CFR 1915.1000: a longer shift has the same divisor."""
        return self._shift_dose(self._not_before_now(at)) / SHIFT_S

    def covered_minutes(self, at: float) -> float:
        """Return how many minutes inside, of this shift, a valid number stands for."""
        waiting = self._stretches(self._not_before_now(at), None)
        return (self.shift_covered_s + sum(s.end - s.start for s in waiting if s.covered)) / 60

    def uncovered_s(self, at: float) -> float:
        """Return how many seconds inside, of this shift, no valid number stands for."""
        waiting = self._stretches(self._not_before_now(at), None)
        return self.shift_uncovered_s + sum(s.end - s.start for s in waiting if not s.covered)

    def time_to(self, limit: float, *, which: Average, c: float, at: float) -> float | None:
        """Return the seconds until an average passes a limit, were the person to breathe `c` from `at` on.

        Returns:
            0.0 when it already has; None when it never does within 8 h, which is not the same as not knowing: without a
            valid value ask nothing. Exact for the averages as computed here, by what leaves the ring: for STEL within 1 s,
            for TWA8 within 1 min of the true ones.

        Raises:
            ValueError: `limit` or `c` is NaN or infinite.
        """
        if not (math.isfinite(limit) and math.isfinite(c)):
            raise ValueError("limit and concentration must be finite numbers")
        at, c = self._not_before_now(at), _sane(c)
        match which:
            case "stel":
                return self._time_to(self.seconds, limit * STEL_S, c, at)
            case "twa8":
                return self._time_to(self.minutes, limit * SHIFT_S, c, at)
            case "shift":
                left = limit * SHIFT_S - self._shift_dose(at)
                if left < 0:
                    return 0.0
                return left / c if left < c * SHIFT_S else None
            case _:
                assert_never(which)

    def _time_to(self, ring: Ring, limit_dose: float, c: float, at: float) -> float | None:
        total = self._window(ring, at)
        if total > limit_dose:
            return 0.0
        if total + c * ring.window_s <= limit_dose:  # even if nothing left the window; clean air ends here
            return None
        # The window's dose is straight between the instants at which a mark or a stretch leaves it: look only there.
        waiting = list(self._stretches(at, None))
        start, corners = at - ring.window_s, [x for s in waiting for x in (s.start, s.end) if x > at - ring.window_s]
        marks = (start // ring.step_s + np.arange(1, ring.steps + 1)) * ring.step_s
        leaves = np.unique(np.concatenate(([start, at], marks, corners)))
        gone = ring.doses_at(leaves, self.dose)
        for s in waiting:
            gone += s.first * (np.clip(leaves, s.start, s.end) - s.start)
        over = total - (gone - gone[0]) + c * (leaves - start) - limit_dose  # in this order the first is not over
        if not (over > 0).any():
            return None
        after = int(np.argmax(over > 0))
        ahead = leaves[after - 1] + (leaves[after] - leaves[after - 1]) * -over[after - 1] / (over[after] - over[after - 1])
        return float(ahead - start)

    def _not_before_now(self, at: float) -> float:
        return max(self.now, at)  # in this order NaN is `now`

    def _stretches(self, until: float, after: float | None) -> Iterator[Stretch]:
        """The time inside since the last valid value, in order; `after` is the value after, None while the gap lasts."""
        before = self.value
        held = self.value_at + HOLD_S
        unknown = max(before or 0.0, after or 0.0)
        for start, end in [*self.stays, *([] if self.inside_since is None else [(self.inside_since, until)])]:
            if end <= start:
                continue
            if before is None:
                yield Stretch(start, end, unknown, unknown, covered=False)
            elif after is not None and until - self.value_at <= JOIN_S:
                slope = (after - before) / (until - self.value_at)
                first, last = (before + slope * (x - self.value_at) for x in (start, end))
                yield Stretch(start, end, first, last, covered=True)
            else:
                if start < held:
                    yield Stretch(start, min(end, held), before, before, covered=True)
                if end > held:
                    yield Stretch(max(start, held), end, unknown, unknown, covered=False)

    def _settle(self, at: float, after: float | None) -> None:
        """Add the time inside since the last valid value to the dose for good."""
        for stretch in self._stretches(at, after):
            self.seconds.add(stretch, self.dose)
            self.minutes.add(stretch, self.dose)
            self.dose += max(0.0, stretch.dose(stretch.start, stretch.end))  # rounding may bend a line that ends at 0
            length_s = stretch.end - stretch.start
            self.shift_covered_s += length_s if stretch.covered else 0.0
            self.shift_uncovered_s += 0.0 if stretch.covered else length_s
        self.stays = []
        self.inside_since = None if self.inside_since is None else at

    def _window(self, ring: Ring, at: float) -> float:
        at = self._not_before_now(at)
        waiting = sum(s.dose(at - ring.window_s, at) for s in self._stretches(at, None))
        return max(0.0, ring.since(at, self.dose)) + waiting

    def _shift_dose(self, at: float) -> float:
        return self.dose - self.shift_dose + sum(s.dose(s.start, s.end) for s in self._stretches(at, None))


def _sane(value: float) -> float:
    return min(value, _MOST) if value > 0 else 0.0
