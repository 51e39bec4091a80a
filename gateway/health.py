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
# (choice) Whoever wakes that much behind the time was stopped itself, and has heard nobody only because it did not listen.
SLEPT_S = 2.0

Key = tuple[str, str]
Fact = tuple[bool | None, bool]  # holds, grave
_UNSAID: Fact = (None, False)
_NO: Fact = (False, False)
_UPLINK, _STORE = ("UPLINK_LOST", "api"), ("STORE_LAGGING", "telemetry")
_CLOCK, _FULL, _FAILING = ("CLOCK_UNTRUSTED", "clock"), ("STORE_LAGGING", "journal"), ("JOURNAL_FAILING", "journal")
_GAP, _DROPPED = ("JOURNAL_GAP", "journal"), ("JOURNAL_GAP", "telemetry")


class Health:
    """The facts of one site's gateway. Every method takes the time (Unix seconds) of what it is told.

    Every site asks at every step, and nearly always nothing is new: only what was told since, or a time that has come, is
    looked at again.
    """

    def __init__(self, began: float, *, journal_damaged: bool = False) -> None:
        self._began = self._listens_since = self._seen = began
        self._said: dict[Key, Fact] = {}
        self._api_at: float | None = None
        self._store_known = False
        self._waiting_since: float | None = None
        self._wall_off_s: float | None = None
        # What holds until something else is heard; the time alone changes none of it.
        self._is = dict.fromkeys((_CLOCK, _GAP, _DROPPED, _FULL), _UNSAID) | {_FAILING: _NO}
        if journal_damaged:
            self.forgotten()
        self._woke_late = False
        self._news = True  # something was heard since the last report
        self._next_at: float | None = None  # when time alone may change something, as long as nothing is heard

    # -- what it is told

    def known(self, reports: Iterable[HealthReported]) -> None:
        """Take what the engine believes after a restart: from there on changes are told.

        Of what this process cannot know yet the word from before stands, so that it can end; a gap found at this very start
        is news, however an older one ended.
        """
        self._said = {(r.fact, r.object): (r.holds, r.grave) for r in reports}
        for key in (_DROPPED, *([] if self.gap else [_GAP])):
            self._is[key] = self._said.get(key, self._is[key])
        self._news = True

    def api_heard(self, now: float) -> None:
        """Note a heartbeat of the api."""
        self._api_at, self._news = now, True

    def stored(self, waiting_since: float | None) -> None:
        """Note since when the oldest frame waits for the telemetry store, None when nothing waits."""
        # What an outage of our own has left behind is not the store's fault, unless the store was behind before.
        behind = self._said.get(_STORE, _UNSAID)[0]
        clipped = waiting_since if waiting_since is None or behind else max(waiting_since, self._began)
        self._news = self._news or not self._store_known or clipped != self._waiting_since
        self._store_known, self._waiting_since = True, clipped

    def clock(self, wall_off_s: float) -> float:
        """Note how far the wall clock now is from where it would be had nobody set it; return the step since the last word.

        Steps of a second and less are returned as 0: a disciplined clock is allowed to breathe.
        """
        step = wall_off_s - (self._wall_off_s or 0.0)
        self._wall_off_s = wall_off_s
        self._note(_CLOCK, (abs(wall_off_s) > UNTRUSTED_S, False))
        return step if abs(step) > STEP_S else 0.0

    @property
    def api_known(self) -> bool:
        """True once the api was heard at all."""
        return self._api_at is not None

    @property
    def gap(self) -> bool:
        """True while a gap in the journal leaves open who is inside."""
        return self._is[_GAP][0] is True

    def forgotten(self) -> None:
        """Note that what the engine knew could not be taken up again, and the journal no longer holds all it was made of."""
        self._note(_GAP, (True, True))

    def filled(self, fill: float, *, dropped: bool) -> None:
        """Note how full the journal is (0 to 1), and whether its cap has just taken telemetry of this site."""
        full = fill >= FULL_AT
        self._note(_FULL, (full, full))
        if dropped:
            self._note(_DROPPED, (True, False))
        elif self._is[_DROPPED][0] and not full:
            self._note(_DROPPED, _NO)

    def people_in_an_unknown_journal(self) -> HealthReported | None:
        """Return the gap of a new journal on a site with people inside, to be told before the plan that says so; once."""
        if self._is[_GAP][0] is not None:
            return None
        self._is[_GAP] = self._said[_GAP] = (True, False)
        return HealthReported(*_GAP, holds=True)

    def counted(self) -> None:
        """Note that everybody was counted again: the gap has no more to say about people."""
        holds, grave = self._is[_GAP]
        if holds and self._said.get(_GAP) == (holds, grave):
            self._note(_GAP, (False, grave))

    def woke_in_time(self) -> None:
        """Note a step in which no deadline had passed, and nothing was asked for: that of plain frames."""
        self._woke_late = False

    def journal(self, now: float, *, fails: bool) -> None:
        """Note how a commit ended at `now`; when the next try is due is the committing task's own business."""
        self._seen = max(self._seen, now)
        self._note(_FAILING, (fails, False))

    @property
    def journal_fails(self) -> bool:
        """True while the last commit did not come about."""
        return self._is[_FAILING][0] is True

    def radio(self, adapter: str, *, lost: bool) -> None:
        """Note whether a Bluetooth adapter hears nothing and no recovery has helped."""
        self._is.setdefault(("RADIO_LOST", adapter), _UNSAID)
        self._note(("RADIO_LOST", adapter), (lost, False))

    def adapters_are(self, adapters: Iterable[str]) -> None:
        """Note which adapters there are: of one that is used no more nothing is waited for."""
        for fact, adapter in self._said.keys() - {("RADIO_LOST", adapter) for adapter in adapters}:
            if fact == "RADIO_LOST":
                self.radio(adapter, lost=False)

    def store_behind_s(self, now: float) -> float:
        """Return how long the oldest frame has waited for the telemetry store."""
        return 0.0 if self._waiting_since is None else max(0.0, now - self._waiting_since)

    def _note(self, key: Key, fact: Fact) -> None:
        if self._is[key] != fact:
            self._is[key], self._news = fact, True

    # -- what it tells

    def reports(self, now: float) -> list[HealthReported]:
        """Return what has changed since the last time, which the engine must now be given."""
        self._seen = max(self._seen, now)
        if self._still(now):
            self._woke_late = False
            return []
        deadline = self._by_time()
        late = deadline is not None and now > deadline + SLEPT_S
        if late and not self._woke_late and self._said.get(_UPLINK, _UNSAID)[0] is not True:
            self._listens_since = now
        self._woke_late = late
        changes = [*self._changes(now)]
        self._said |= {(r.fact, r.object): (r.holds, r.grave) for r in changes}
        self._news, self._next_at = False, self._by_time()
        return changes

    def due(self, now: float) -> bool:
        """Say whether there is something to tell."""
        return not self._still(now) and next(self._changes(now), None) is not None

    def next_deadline(self) -> float | None:
        """Return when time alone may change something, Unix seconds; at once when something is waiting to be told."""
        if not self._news:
            return self._next_at
        return self._seen if self.due(self._seen) else self._by_time()

    def _still(self, now: float, /) -> bool:
        """Say whether nothing was heard since the last report, and no time has come."""
        return not self._news and (self._next_at is None or now < self._next_at)

    def _by_time(self) -> float | None:
        uplink, lagging = self._silent_from(), self._said.get(_STORE, _UNSAID)
        ends = [uplink if self._said.get(_UPLINK, _UNSAID)[0] is not True else None]
        if self._waiting_since is not None and not lagging[1]:
            ends.append(self._waiting_since + (STORE_GRAVE_S if lagging[0] else STORE_BEHIND_S))
        return min((at for at in ends if at is not None), default=None)

    def _silent_from(self) -> float:
        if self._api_at is None:
            return self._listens_since + FIRST_WORD_S
        return max(self._api_at, self._listens_since) + API_SILENT_S

    def _facts(self, now: float) -> Iterator[tuple[Key, Fact]]:
        silent = now >= self._silent_from()
        yield _UPLINK, (None if self._api_at is None and not silent else silent, False)
        behind_s = 0.0 if self._waiting_since is None else now - self._waiting_since
        lags = behind_s >= STORE_BEHIND_S if self._store_known else None
        yield _STORE, (lags, behind_s >= STORE_GRAVE_S)
        yield from self._is.items()

    def _changes(self, now: float) -> Iterator[HealthReported]:
        """Yield what the engine does not know yet; that a fact does not hold is news only after it did."""
        for key, (holds, grave) in self._facts(now):
            was = self._said.get(key, _NO)
            if holds is not None and was != (holds, grave):
                yield HealthReported(*key, holds=holds, grave=grave)
