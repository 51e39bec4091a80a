"""What a gateway says of itself: its api, its store, its clock, its journal (`trust.md` §7.2, §7.3 X08, X12, X14 to X16).

Theory: each fact holds, holds not, or is not known yet, as a function of what was last heard and of the time. What the engine
was told last is remembered, after a restart by the engine itself, and only a change is told: a fact that is not known yet
changes nothing, so an alarm of before a restart stands until something is known again.
"""

from collections.abc import Iterable, Iterator

from manway.inputs import HealthReported

API_SILENT_S = 5.0  # `trust.md` 7.2; five heartbeats
# (choice) A whole installation may be started in any order: a fresh gateway gives the api, which may migrate its records first,
# half a minute to be heard for the first time. It allows nobody in: without the api there is no grant.
FIRST_WORD_S = 30.0
STORE_BEHIND_S = 10.0  # X12
STORE_GRAVE_S = 3600.0
STEP_S = 1.0  # X16: told
UNTRUSTED_S = 60.0  # X16: an alarm, no new grants
FULL_AT = 0.8  # (choice) of the journal's cap, `pipeline.md` §6; beyond it telemetry is about to go
RETRY_S = 2.0  # (choice) how soon a journal that could not be written is tried again
# (choice) Whoever wakes that much behind the time was stopped itself, and has heard nobody only because it did not listen.
SLEPT_S = 2.0

Key = tuple[str, str]
Fact = tuple[bool | None, bool]  # holds, grave
_UNSAID: Fact = (None, False)


class Health:
    """The facts of one site's gateway. Every method takes the time (Unix seconds) of what it is told."""

    def __init__(self, began: float, *, journal_damaged: bool = False) -> None:
        self._began = self._listens_since = self._seen = began
        self._said: dict[Key, Fact] = {}
        self._api_at: float | None = None
        self._store_known = False
        self._waiting_since: float | None = None
        self._wall_off_s: float | None = None
        self._gap: Fact = (True, True) if journal_damaged else _UNSAID
        self._failing, self._retry_at = False, began
        self._fill = 0.0
        self._dropping = _UNSAID
        self._woke_late = False

    # -- what it is told

    def known(self, reports: Iterable[HealthReported]) -> None:
        """Take what the engine believes after a restart: from there on changes are told."""
        self._said = {(r.fact, r.object): (r.holds, r.grave) for r in reports}
        if (gap := self._said.get(("JOURNAL_GAP", "journal"))) is not None:
            self._gap = gap

    def api_heard(self, now: float) -> None:
        """Note a heartbeat of the api."""
        self._api_at = now

    def stored(self, waiting_since: float | None) -> None:
        """Note since when the oldest frame waits for the telemetry store, None when nothing waits."""
        self._store_known = True
        # What an outage of our own has left behind is not the store's fault, unless the store was behind before.
        behind = self._said.get(("STORE_LAGGING", "telemetry"), _UNSAID)[0]
        clipped = waiting_since if waiting_since is None or behind else max(waiting_since, self._began)
        self._waiting_since = clipped

    def clock(self, wall_off_s: float) -> float:
        """Note how far the wall clock now is from where it would be had nobody set it; return the step since the last word.

        Steps of a second and less are returned as 0: a disciplined clock is allowed to breathe.
        """
        step = wall_off_s - (self._wall_off_s or 0.0)
        self._wall_off_s = wall_off_s
        return step if abs(step) > STEP_S else 0.0

    @property
    def gap(self) -> bool:
        """True while a gap in the journal leaves open who is inside."""
        return self._gap[0] is True

    def forgotten(self) -> None:
        """Note that what the engine knew could not be taken up again, and the journal no longer holds all it was made of."""
        self._gap = (True, True)

    def filled(self, fill: float, *, dropped: bool) -> None:
        """Note how full the journal is (0 to 1), and whether its cap has just taken telemetry of this site."""
        self._fill = fill
        if dropped:
            self._dropping = (True, False)
        elif self._dropping[0] and fill < FULL_AT:
            self._dropping = (False, False)

    def people_in_an_unknown_journal(self) -> HealthReported | None:
        """Return the gap of a new journal on a site with people inside, to be told before the plan that says so; once."""
        if self._gap[0] is not None:
            return None
        self._gap = self._said["JOURNAL_GAP", "journal"] = (True, False)
        return HealthReported("JOURNAL_GAP", "journal", holds=True)

    def counted(self) -> None:
        """Note that everybody was counted again: the gap has no more to say about people."""
        if self._gap[0] and self._said.get(("JOURNAL_GAP", "journal")) == self._gap:
            self._gap = (False, self._gap[1])

    def journal(self, now: float, *, fails: bool) -> None:
        """Note how the last commit ended; after a failure the next is due in a moment."""
        self._failing, self._retry_at = fails, now + RETRY_S

    @property
    def journal_fails(self) -> bool:
        """True while the last commit did not come about."""
        return self._failing

    def store_behind_s(self, now: float) -> float:
        """Return how long the oldest frame has waited for the telemetry store."""
        return 0.0 if self._waiting_since is None else max(0.0, now - self._waiting_since)

    # -- what it tells

    def reports(self, now: float) -> list[HealthReported]:
        """Return what has changed since the last time, which the engine must now be given."""
        deadline, self._seen = self._by_time(), max(self._seen, now)
        late = deadline is not None and now > deadline + SLEPT_S
        if late and not self._woke_late and self._said.get(("UPLINK_LOST", "api"), _UNSAID)[0] is not True:
            self._listens_since = now
        self._woke_late = late
        changes = [*self._changes(now)]
        self._said |= {(r.fact, r.object): (r.holds, r.grave) for r in changes}
        return changes

    def due(self, now: float) -> bool:
        """Say whether there is something to tell."""
        return next(self._changes(now), None) is not None

    def next_deadline(self) -> float | None:
        """Return when time alone may change something, Unix seconds; at once when something is waiting to be told."""
        return self._seen if self.due(self._seen) else self._by_time()

    def _by_time(self) -> float | None:
        uplink, lagging = self._silent_from(), self._said.get(("STORE_LAGGING", "telemetry"), _UNSAID)
        ends = [uplink if self._said.get(("UPLINK_LOST", "api"), _UNSAID)[0] is not True else None]
        if self._waiting_since is not None and not lagging[1]:
            ends.append(self._waiting_since + (STORE_GRAVE_S if lagging[0] else STORE_BEHIND_S))
        if self._failing:
            ends.append(self._retry_at)
        return min((at for at in ends if at is not None), default=None)

    def _silent_from(self) -> float:
        if self._api_at is None:
            return self._listens_since + FIRST_WORD_S
        return max(self._api_at, self._listens_since) + API_SILENT_S

    def _facts(self, now: float) -> Iterator[tuple[Key, Fact]]:
        silent = now >= self._silent_from()
        yield ("UPLINK_LOST", "api"), (None if self._api_at is None and not silent else silent, False)
        behind_s = 0.0 if self._waiting_since is None else now - self._waiting_since
        lags = behind_s >= STORE_BEHIND_S if self._store_known else None
        yield ("STORE_LAGGING", "telemetry"), (lags, behind_s >= STORE_GRAVE_S)
        off = self._wall_off_s
        yield ("CLOCK_UNTRUSTED", "clock"), (None if off is None else abs(off) > UNTRUSTED_S, False)
        yield ("JOURNAL_GAP", "journal"), self._gap
        yield ("JOURNAL_GAP", "telemetry"), self._dropping
        full = self._fill >= FULL_AT
        yield ("STORE_LAGGING", "journal"), (full, full)
        yield ("JOURNAL_FAILING", "journal"), (self._failing, False)

    def _changes(self, now: float) -> Iterator[HealthReported]:
        """Yield what the engine does not know yet; that a fact does not hold is news only after it did."""
        for key, (holds, grave) in self._facts(now):
            was = self._said.get(key, (False, False))
            if holds is not None and was != (holds, grave):
                yield HealthReported(*key, holds=holds, grave=grave)
