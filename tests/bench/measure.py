"""One run in figures, and the median of several."""

import statistics
from collections.abc import Sequence

import msgspec

from tests.bench.contest import Contestant
from tests.bench.driver import Run
from tests.bench.process import load_average


class Figures(msgspec.Struct, frozen=True):
    """What a program did with a run of messages; processor time is the kernel's count for it alone."""

    messages_a_second: float
    cpu_us: float  # a message
    core_percent: float  # of one core, while the run lasted
    p50_ms: float
    p99_ms: float
    max_ms: float
    alarms_wanted: int
    alarms_got: int
    alarms_false: int
    rss_mb: float
    load: float

    @property
    def exact(self) -> bool:
        """True when exactly the alarms came that had to come."""
        return self.alarms_got == self.alarms_wanted and not self.alarms_false


def poured(it: Contestant, messages: int, *, every: int = 100) -> Figures:
    """Send as fast as the alarms come back."""
    some = it.fleet.messages(messages, every)
    before = it.program.cpu_s()
    run = it.driver.pour(some)
    busy = it.program.cpu_s() - before
    it.driver.settle()
    return _figures(it, run, it.program.cpu_s() - before, busy)


def paced(it: Contestant, per_s: float, seconds: float, *, every: int = 10) -> Figures:
    """Send so many a second."""
    it.driver.settle()
    some = it.fleet.messages(round(per_s * seconds), every)
    before = it.program.cpu_s()
    run = it.driver.pace(some, per_s)
    used = it.program.cpu_s() - before
    return _figures(it, run, used, used)


def _figures(it: Contestant, run: Run, used_s: float, busy_s: float) -> Figures:
    it.program.check()
    return Figures(
        messages_a_second=run.messages / run.seconds,
        cpu_us=used_s / run.messages * 1e6,
        core_percent=busy_s / run.seconds * 100,
        p50_ms=run.quantile_ms(0.5),
        p99_ms=run.quantile_ms(0.99),
        max_ms=run.quantile_ms(1.0),
        alarms_wanted=run.wanted,
        alarms_got=run.got,
        alarms_false=run.false,
        rss_mb=it.program.rss_mb(),
        load=load_average(),
    )


def median_of(figures: Sequence[Figures]) -> Figures:
    """Return the median of every figure, alarms added up: one missing in one run is missing."""
    rows = [msgspec.structs.asdict(one) for one in figures]
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    added = {name: sum(row[name] for row in rows) for name in rows[0] if name.startswith("alarms")}
    return Figures(**{**middle, **added})
