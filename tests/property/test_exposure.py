"""Averages against a brute-force reference that knows only samples and stays, and what gaps can never do.

The reference cuts time at every sample, every end of a held value, every entry and exit; between two cuts the concentration
is a straight line, so the mean times the length is exact. The ring takes the oldest step of a window as evenly spread; of a
step h with concentrations in [0, M] and a share 1 - f of it still inside the window, the true dose X of that share and the
rest Y satisfy X <= (1 - f) h M and Y <= f h M, and the ring says (1 - f)(X + Y): the error f X - (1 - f) Y lies within
f (1 - f) h M <= h M / 4. Hence M / 3600 for STEL (h = 1 of 900 s) and M / 1920 for TWA8 (h = 60 of 28,800 s), and nothing at
whole seconds and minutes.
"""

import math
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from manway.exposure import Average, Exposure
from tests.kit.clock import EPOCH

NEW_SHIFT_S = 28_800.0
RELATIVE = 1e-6
quick = settings(max_examples=150, deadline=None, derandomize=True)


class Reference:
    """The same person by the definition: samples, stays, and integrals over them."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self.stays: list[list[float]] = []
        self.shift_at = math.inf

    def enter(self, at: float) -> None:
        if not self.stays or at - self.stays[-1][1] >= NEW_SHIFT_S:
            self.shift_at = at
        if not self.stays or self.stays[-1][1] < math.inf:
            self.stays.append([at, math.inf])

    def leave(self, at: float) -> None:
        if self.stays and self.stays[-1][1] == math.inf:
            self.stays[-1][1] = at

    def value(self, start: float, end: float) -> tuple[float, bool]:
        """The mean between two neighbouring cuts and whether it is known."""
        before = next(((t, v) for t, v in reversed(self.samples) if t <= start), None)
        after = next(((t, v) for t, v in self.samples if t >= end), None)
        if before is None:
            return (after[1] if after else 0.0), False
        if after and after[0] - before[0] <= 5:
            return before[1] + (after[1] - before[1]) * ((start + end) / 2 - before[0]) / (after[0] - before[0]), True
        if end <= before[0] + 60:
            return before[1], True
        return max(before[1], after[1] if after else 0.0), False

    def pieces(self, start: float, end: float) -> list[tuple[float, float, bool]]:
        """Length, mean and known of every straight piece inside, between two instants."""
        cuts = {start, end, *(t for t, _ in self.samples), *(t + 60 for t, _ in self.samples)}
        cuts |= {edge for stay in self.stays for edge in stay if edge < math.inf}
        inside = sorted(cut for cut in cuts if start <= cut <= end)
        return [(b - a, *self.value(a, b)) for a, b in pairwise(inside) if any(i <= a and b <= o for i, o in self.stays)]

    def dose(self, start: float, end: float) -> float:
        return math.fsum(length * mean for length, mean, _ in self.pieces(start, end))

    def uncovered_s(self, at: float) -> float:
        return math.fsum(length for length, _, known in self.pieces(min(self.shift_at, at), at) if not known)

    def covered_minutes(self, at: float) -> float:
        return math.fsum(length for length, _, known in self.pieces(min(self.shift_at, at), at) if known) / 60


class Both:
    """An exposure and its reference, fed alike."""

    def __init__(self) -> None:
        self.one = Exposure()
        self.reference = Reference()
        self.at = EPOCH

    def do(self, pause: float, what: str | float | None) -> None:
        self.at += pause
        match what:
            case "enter":
                self.one.enter(self.at, new_shift_s=NEW_SHIFT_S)
                self.reference.enter(self.at)
            case "leave":
                self.one.leave(self.at)
                self.reference.leave(self.at)
            case float():
                self.one.take(self.at, what)
                self.reference.samples.append((self.at, what))
            case _:
                self.one.take(self.at, None)

    def check(self, at: float) -> None:
        most = max((value for _, value in self.reference.samples), default=0.0)
        slack = {900.0: 0.0 if at % 1 == 0 else most / 3600, 28_800.0: 0.0 if at % 60 == 0 else most / 1920}
        for found, window in ((self.one.stel(at), 900.0), (self.one.twa8(at), 28_800.0)):
            exact = self.reference.dose(at - window, at) / window
            assert abs(found - exact) <= RELATIVE * max(exact, 1e-3) + slack[window]
        exact = self.reference.dose(min(self.reference.shift_at, at), at) / 28_800
        assert math.isclose(self.one.shift(at), exact, rel_tol=RELATIVE, abs_tol=1e-9)
        assert math.isclose(self.one.uncovered_s(at), self.reference.uncovered_s(at), rel_tol=RELATIVE, abs_tol=1e-6)
        assert math.isclose(self.one.covered_minutes(at), self.reference.covered_minutes(at), rel_tol=RELATIVE, abs_tol=1e-6)


numbers = st.one_of(st.sampled_from([0.0, 5.0, 10.0, 15.0, 30.0]), st.floats(0.0, 200.0))
# Eighths of a second are exact in a float, so the reference and the rings cut at the same instants.
pauses = st.sampled_from(
    [0.0, 0.125, 0.5, 1.0, 1.0, 1.0, 2.0, 5.0, 5.125, 30.0, 60.0, 61.0, 400.0, 2000.0, 9000.5, 28_799.0, 28_800.0]
)
whats = st.one_of(numbers, numbers, numbers, st.sampled_from(["enter", "enter", "leave"]), st.none())
steps = st.lists(st.tuples(pauses, whats), min_size=1, max_size=60)
# Mostly somebody is inside from the start: else half of all streams would be about nobody.
streams = st.one_of(
    steps, steps.map(lambda some: [(0.0, "enter"), *some]), steps.map(lambda some: [(0.0, "enter"), (0.5, 9.0), *some])
)
AFTER = (0.0, 0.375, 7.0, 59.5, 899.25, 4000.0)


@quick
@given(stream=streams)
def test_every_average_is_that_of_the_definition_within_the_bound_of_the_ring(stream: list[tuple[float, str | float]]) -> None:
    both = Both()
    for pause, what in stream:
        both.do(pause, what)
        both.check(both.at)
    for later in AFTER:
        both.check(both.at + later)
    both.check(both.at - both.at % 60 + 60)


@quick
@given(stream=streams, cut=st.integers(0, 40), looks=st.lists(st.floats(0.0, 30_000.0), max_size=3))
def test_a_restart_in_the_middle_and_any_number_of_questions_change_nothing(
    stream: list[tuple[float, str | float]], cut: int, looks: list[float]
) -> None:
    whole, cut_up = Both(), Both()
    for index, (pause, what) in enumerate(stream):
        whole.do(pause, what)
        if index == cut:
            cut_up.one = msgspec.json.decode(msgspec.json.encode(cut_up.one), type=Exposure)
        for look in looks:
            cut_up.check(cut_up.at + look)
        cut_up.do(pause, what)
    assert cut_up.one == whole.one


anything = st.one_of(st.floats(), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308, -1.7e308]), st.none())


@quick
@given(
    stream=st.lists(st.tuples(st.floats(-100.0, 40_000.0), st.one_of(anything, st.sampled_from(["in", "out"]))), max_size=40)
)
def test_no_input_whatever_makes_a_dose_negative_or_no_number(stream: list[tuple[float, str | float | None]]) -> None:
    one, at, shifts = Exposure(), EPOCH, 0.0
    for pause, what in stream:
        at += pause
        match what:
            case "in":
                one.enter(at, new_shift_s=NEW_SHIFT_S)
            case "out":
                one.leave(at)
            case str():
                raise AssertionError
            case _:
                one.take(at, what)
        found = [one.stel(at), one.twa8(at), one.shift(at), one.covered_minutes(at), one.uncovered_s(at)]
        assert all(math.isfinite(x) and x >= 0.0 for x in found), found
        assert one.dose >= shifts, "the dose of all time only grows"
        shifts = one.dose


def averages(one: Exposure, at: float) -> list[float]:
    return [one.stel(at), one.twa8(at), one.shift(at)]


def not_less(some: list[float], others: list[float]) -> bool:
    return all(a >= b - 1e-9 * max(1.0, b) for a, b in zip(some, others, strict=True))


@quick
@given(stream=streams, gap_s=st.floats(5.5, 20_000.0), after=numbers)
def test_the_value_after_a_gap_never_lowers_what_the_gap_was_counted_at(
    stream: list[tuple[float, str | float]], gap_s: float, after: float
) -> None:
    """While a gap lasts it counts at the value before; the end of the gap can only raise that. True beyond 5 s, by max()."""
    both = Both()
    for pause, what in stream:
        both.do(pause, what)
    at = max(both.at, both.one.value_at) + gap_s
    before, most = averages(both.one, at), max((value for _, value in both.reference.samples), default=0.0)
    both.one.take(at, after)
    ring = (most / 3600, most / 1920, 0.0)  # a gap is counted to the instant while it lasts, by the ring's steps afterwards
    for some, other, slack in zip(averages(both.one, at), before, ring, strict=True):
        assert some >= other - slack - 1e-9 * max(1.0, other)


def fed(samples: list[tuple[float, float]]) -> Exposure:
    one = Exposure()
    one.enter(EPOCH, new_shift_s=NEW_SHIFT_S)
    for at, value in samples:
        one.take(at, value)
    return one


values = st.lists(numbers, min_size=8, max_size=200)
spacing = st.sampled_from([0.5, 1.0, 1.0, 2.0, 4.5])


@quick
@given(found=values, step_s=spacing, start=st.integers(0, 100), lost=st.integers(1, 150), later=st.sampled_from(AFTER))
def test_losing_samples_never_lowers_an_average_when_none_of_them_nor_the_next_was_above_the_one_before(
    found: list[float], step_s: float, start: int, lost: int, later: float
) -> None:
    """Let the kept neighbours be more than 5 s apart and hold a before them; every lost value and the next be at most a.

    Then the whole stream counts at most a between the neighbours (a line, a held value and a maximum of values <= a are all
    <= a), the thinned one exactly a, and elsewhere both count the same; a ring weighs doses with weights >= 0. So no average
    is lower, at any later time. (In general a held value may be too low: what can be lost then is the next test's bound.)
    """
    first = start % (len(found) - 2)
    next_kept = min(first + 1 + max(lost, int(5 / step_s) + 1), len(found))
    capped = [min(v, found[first]) if first < i <= next_kept else v for i, v in enumerate(found)]
    samples = [(EPOCH + i * step_s, value) for i, value in enumerate(capped)]
    if next_kept < len(samples) and samples[next_kept][0] - samples[first][0] <= 5:
        return
    thinned = samples[: first + 1] + samples[next_kept:]
    at = samples[-1][0] + later
    if next_kept == len(samples) and at - samples[first][0] <= 5:
        return
    assert not_less(averages(fed(thinned), at), averages(fed(samples), at))


@quick
@given(found=values, step_s=spacing, start=st.integers(0, 100), lost=st.integers(1, 150), later=st.sampled_from(AFTER))
def test_uncovered_time_lowers_no_average_by_more_than_the_minute_that_a_value_is_held(
    found: list[float], step_s: float, start: int, lost: int, later: float
) -> None:
    """Whatever is lost between kept values a and b, none of it above max(a, b): uncovered time counts at max(a, b) >= c.

    So only the first minute, held at a, can be counted too low, and by at most 60 s x (b - a) of dose.
    """
    first = start % (len(found) - 2)
    next_kept = min(first + 1 + max(lost, int(5 / step_s) + 1), len(found) - 1)
    most = max(found[first], found[next_kept])
    capped = [min(v, most) if first < i < next_kept else v for i, v in enumerate(found)]
    samples = [(EPOCH + i * step_s, value) for i, value in enumerate(capped)]
    if samples[next_kept][0] - samples[first][0] <= 5:
        return
    at = samples[-1][0] + later
    thinned = fed(samples[: first + 1] + samples[next_kept:])
    short = 60.0 * (most - found[first])
    for some, other, window in zip(averages(thinned, at), averages(fed(samples), at), (900.0, 28_800.0, 28_800.0), strict=True):
        assert some >= other - short / window - 1e-9 * max(1.0, other)


kinds = st.sampled_from([("stel", 900.0), ("twa8", 28_800.0), ("shift", 28_800.0)])


# Not the average itself as its own limit: there the last bit of a sum and the ring's step decide when it "passes".
shares = st.floats(0.01, 3.0).filter(lambda share: abs(share - 1.0) > 0.01)
gaps = st.sampled_from([0.0, 0.0, 30.5, 70.0, 500.25, 1000.0, 40_000.0])


@quick
@given(stream=streams, c=numbers, gap_s=gaps, share=shares, kind=kinds)
def test_the_budget_ends_when_the_average_passes_and_not_before(
    stream: list[tuple[float, str | float]], c: float, gap_s: float, share: float, kind: tuple[Average, float]
) -> None:
    """While a gap lasts an exposure counts on at its last value, so to ask it later is to breathe `c` until then.

    At 1.8e9 s a float of time is 0.24 us wide, hence the 1e-6 s beside each comparison.
    """
    both = Both()
    for pause, what in stream:
        both.do(pause, what)
    both.do(1.0, "enter")
    both.do(0.0, c)
    which, window = kind
    one, at = both.one, both.at + gap_s
    average = {"stel": one.stel, "twa8": one.twa8, "shift": one.shift}[which]
    limit = max(share * average(at), share * 10.0)
    left = one.time_to(limit, which=which, c=c, at=at)
    fuzz = limit * 1e-9 + 200.0 * 1e-6 / window
    until = window if left is None else left
    assert left == 0.0 or all(average(at + until * part / 100) <= limit + fuzz for part in range(101))
    if left is not None:
        assert 0.0 <= left <= window
        assert average(at + left) >= limit - fuzz
        assert average(at + left + 0.01) > limit - limit * 1e-9
