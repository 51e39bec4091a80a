"""The life of one alarm (ISA-18.2 / IEC 62682 states with latching, `domain.md` §4.7).

Theory: the *condition* (is it so now: yes, no, unknown) and the *alarm* (has a person dealt with it) are separate. Unknown
clears nothing and cancels nothing. A condition that is known to be gone for the off-delay makes the alarm RETURNED, or LATCHED
where the priority latches; only RESET leads from LATCHED to NORMAL, and only a person gives RESET. A worse priority is a new
episode, announced at once; the same condition coming again is a repeat and only counts.

Three states are quiet. SHELVED: a person wants no sound of a P3 or P4 for at most half an hour and says why. SUPPRESSED:
another alarm says more about the same device. OUT_OF_SERVICE: the ledger says that nobody relies on the device. What nobody has
acknowledged only a person can make quiet, and nothing makes an open P1 or P2 quiet. When a quiet state ends the condition is
judged anew: what still holds, or is not known to be gone, is raised as a new episode at once. An end is a time, never a flag.
"""

import enum
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from manway.catalogue import CATALOGUE, latches
from manway.grid import parse_grid
from manway.ids import Priority, derived_id


class AlarmState(enum.Enum):
    """States A to I of `domain.md` §4.7."""

    NORMAL = "normal"
    UNACKED = "unacked"
    ACKED = "acked"
    RETURNED_UNACKED = "returned_unacked"
    LATCHED_UNACKED = "latched_unacked"
    LATCHED_ACKED = "latched_acked"
    SHELVED = "shelved"
    SUPPRESSED = "suppressed"
    OUT_OF_SERVICE = "out_of_service"


class AlarmSignal(enum.Enum):
    """`on`: the condition holds; `fade`/`latch`: known gone for the off-delay, not latching / latching; two buttons.

    Then three quiet states, into and out of: by a person, by design, by the ledger.
    """

    ON = "on"
    FADE = "fade"
    LATCH = "latch"
    ACKNOWLEDGE = "acknowledge"
    RESET = "reset"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    SUPPRESS = "suppress"
    UNSUPPRESS = "unsuppress"
    REMOVE = "remove"
    RESTORE = "restore"


TABLE = parse_grid(
    """
                 on      fade             latch           acknowledge   reset  shelve  unshelve suppress   unsuppress remove         restore
normal           unacked =                =               x             x      x       x        suppressed =          out_of_service =
unacked          =       returned_unacked latched_unacked acked         x      shelved x        =          =          =              =
acked            =       normal           latched_acked   x             x      shelved x        suppressed =          out_of_service =
returned_unacked unacked =                =               normal        x      x       x        =          =          =              =
latched_unacked  unacked =                =               latched_acked x      x       x        =          =          =              =
latched_acked    unacked =                =               x             normal x       x        =          =          =              =
shelved          =       =                =               x             x      x       normal   =          =          =              =
suppressed       =       =                =               x             x      x       x        =          normal     =              =
out_of_service   =       =                =               x             x      x       x        =          =          =              normal
""",  # noqa: E501  a table that is wrapped is no table
    AlarmState,
    AlarmSignal,
)
ON = frozenset({AlarmState.UNACKED, AlarmState.ACKED})
RETURNED = frozenset({AlarmState.RETURNED_UNACKED, AlarmState.LATCHED_UNACKED, AlarmState.LATCHED_ACKED})
QUIET = frozenset({AlarmState.SHELVED, AlarmState.SUPPRESSED, AlarmState.OUT_OF_SERVICE})
# Looked through by identity: hashing an enum takes longer, and every condition asks.
_ON, _RETURNED, _QUIET, _NORMAL = tuple(ON), tuple(RETURNED), tuple(QUIET), AlarmState.NORMAL
_FRESH = (_NORMAL, AlarmState.LATCHED_ACKED)  # coming from here is an outbreak of its own
_QUIETENS = (AlarmSignal.SHELVE, AlarmSignal.SUPPRESS, AlarmSignal.REMOVE)
_ENDS = {
    AlarmState.SHELVED: AlarmSignal.UNSHELVE,
    AlarmState.SUPPRESSED: AlarmSignal.UNSUPPRESS,
    AlarmState.OUT_OF_SERVICE: AlarmSignal.RESTORE,
}


class Condition(msgspec.Struct, frozen=True, gc=False):
    """What is so now for one (kind, object). `holds` None is unknown.

    `until` is when time alone may change the answer (Unix seconds, None = never); the engine looks again then. `since` is when
    it began to hold, where that is known better than by when it was first felt; the on-delay runs from there.
    """

    kind: str
    object: str
    space: str
    holds: bool | None
    priority: Priority
    until: float | None = None
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    clause: str = ""
    since: float | None = None


class Around(msgspec.Struct, frozen=True):
    """What an alarm happens in; by default the worst: somebody inside, so that nothing life-critical is ever made quiet.

    `occupied`: somebody is or may be inside. `suppressed`: an alarm that says more about the same device is on (`said_better`).
    `removed`: the ledger has its device, or its space, out of service.
    """

    occupied: bool = True
    suppressed: bool = False
    removed: bool = False


OCCUPIED = Around()


class Change(enum.Enum):
    """What a condition, a person or the time did to an alarm."""

    RAISED = "raised"
    REPEATED = "repeated"
    RETURNED = "returned"
    UNSHELVED = "unshelved"


class Alarm(msgspec.Struct, gc=False):
    """One (kind, object, space) of a site. `episode` numbers its outbreaks; `id` names the present one; times Unix seconds.

    `rises_at`: end of the running on-delay. `gone_since`: begin of the running off-delay. `gone`: known gone for a whole
    off-delay, while quiet. `repeats_at`: the next repeat before that is not told. `incident`: what the episode belongs to
    (`incident_of`), "" while none runs.
    """

    site: str
    kind: str
    object: str
    space: str
    state: AlarmState = AlarmState.NORMAL
    priority: Priority = Priority.P4
    episode: int = 0
    count: int = 0
    since: float = 0.0
    holds: bool | None = None
    gone_since: float | None = None
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    clause: str = ""
    acknowledged_by: str = ""
    incident: str = ""
    rises_at: float | None = None
    repeats_at: float = 0.0
    gone: bool = False
    shelved_until: float | None = None
    shelved_by: str = ""
    shelve_reason: str = ""

    @property
    def id(self) -> str:
        """The episode's identity, derived from its cause."""
        return _episode_id(self.site, self.kind, self.object, self.space, self.episode)

    @property
    def named(self) -> dict[str, str]:
        """What every event about this episode names (`events.AlarmEvent`)."""
        return {"alarm": self.id, "kind": self.kind, "object": self.object, "space": self.space}

    @property
    def open(self) -> bool:
        """True until the alarm is back to NORMAL."""
        return self.state is not _NORMAL

    @property
    def unknown(self) -> Condition:
        """The condition when nobody can say anything of it: its device or space has left the plan."""
        return Condition(self.kind, self.object, self.space, None, self.priority)

    def off_at(self, off_delay_s: float) -> float | None:
        """Return when the running off-delay ends, or None."""
        return None if self.gone_since is None else self.gone_since + off_delay_s

    def due(self, off_delay_s: float) -> float | None:
        """Return when time alone changes this alarm: the end of its on-delay, off-delay or shelving, or None."""
        if self.rises_at is self.gone_since is self.shelved_until is None:  # as of nearly every alarm
            return None
        ends = (self.rises_at, self.off_at(off_delay_s), self.shelved_until)
        return min(at for at in ends if at is not None)

    def feel(self, condition: Condition, now: float, off_delay_s: float, around: Around = OCCUPIED) -> Change | None:
        """Take the condition as it is now; return what it changed.

        After UNSHELVED the same condition must be felt again, at once: what still holds is then raised anew.
        """
        was, self.holds = self.holds, condition.holds
        if self.state in _QUIET:
            if not self._quiet_ends(condition, now, around):
                self._feel_quietly(condition, now, off_delay_s, again=was is False)
                return None
            shelved = self.state is AlarmState.SHELVED
            self._end_quiet(now)
            if shelved:
                return Change.UNSHELVED
        if self._falls_quiet(condition, now, around):
            return None
        if condition.holds:
            return self._comes(condition, now, off_delay_s, again=was is False or self.state in _RETURNED)
        return self._goes(now, off_delay_s) if condition.holds is False else self._stays_unknown(condition, now)

    def signal(self, signal: AlarmSignal) -> bool:
        """Move along the table; return False, and change nothing, when the cell refuses or an open P1 or P2 would be quiet."""
        after = TABLE[self.state, signal]
        if after is None or (signal in _QUIETENS and self.open and latches(self.priority)):
            return False
        self.state = after
        if after in (AlarmState.NORMAL, AlarmState.SUPPRESSED, AlarmState.OUT_OF_SERVICE):
            self.incident = ""
        return True

    def shelve(
        self, by: str, reason: str, until: float, now: float, *, shelve_max_s: float, around: Around = OCCUPIED
    ) -> str | None:
        """Make a P3 or P4 that is on quiet until then, for a reason; return why not, as a key of the catalogue of texts."""
        if latches(self.priority):
            return "alarm.never_shelved"
        if around.occupied and CATALOGUE[self.kind].life_critical:
            return "alarm.somebody_inside"
        if not reason.strip():
            return "alarm.no_reason"
        if not now < until <= now + shelve_max_s:
            return "alarm.shelved_too_long"
        if not self.signal(AlarmSignal.SHELVE):
            return "alarm.not_on"
        self.shelved_by, self.shelve_reason, self.shelved_until = by, reason, until
        self.gone = False
        return None

    def unshelve(self, now: float) -> str | None:
        """End a shelving before its time; what is not known to be gone is raised anew when its condition is next felt."""
        if self.state is not AlarmState.SHELVED:
            return "alarm.not_shelved"
        self._end_quiet(now)
        return None

    # -- quiet states

    def _quiet_ends(self, condition: Condition, now: float, around: Around) -> bool:
        heard = around.occupied and CATALOGUE[self.kind].life_critical
        worse = condition.holds is True and condition.priority < self.priority
        if self.state is AlarmState.SHELVED:
            return heard or worse or self.shelved_until is None or now >= self.shelved_until
        if self.state is AlarmState.SUPPRESSED:
            return around.occupied or worse or not around.suppressed
        # Worse says nothing of a device on the calibration bench; people near it do.
        return heard or not around.removed

    def _end_quiet(self, now: float) -> None:
        incident = self.incident
        self.signal(_ENDS[self.state])
        if self.holds or (self.holds is None and not self.gone):
            self.rises_at, self.incident = now, incident
        self.gone, self.gone_since = False, None
        self.shelved_until, self.shelved_by, self.shelve_reason = None, "", ""

    def _feel_quietly(self, condition: Condition, now: float, off_delay_s: float, *, again: bool) -> None:
        if condition.holds is not False:
            self.gone_since = None
            if condition.holds:
                self.gone = False
                self.count += again
                self._note(condition)
        elif not self.gone:
            self.gone_since = now if self.gone_since is None else self.gone_since
            self.gone = now >= self.gone_since + off_delay_s
            self.gone_since = None if self.gone else self.gone_since

    def _falls_quiet(self, condition: Condition, now: float, around: Around) -> bool:
        """Suppress it or take it out of service where the around says so and nobody would miss it."""
        sounds = condition.holds or (condition.holds is None and (self.open or self.rises_at is not None))
        if not sounds:
            return False
        if around.removed and not (around.occupied and CATALOGUE[self.kind].life_critical):
            signal = AlarmSignal.REMOVE
        elif around.suppressed and not around.occupied and self._suppressible(condition):
            signal = AlarmSignal.SUPPRESS
        else:
            return False
        if not self.open:
            self._begin(condition, now)
        if not self.signal(signal) or self.state not in _QUIET:
            return False
        self.rises_at = self.gone_since = None
        self.gone = False
        return True

    def _suppressible(self, condition: Condition) -> bool:
        """What grew worse, or is about to be raised anew, is announced."""
        worse = self.open and condition.priority < self.priority
        return self.rises_at is None and not worse and not latches(condition.priority)

    # -- the condition

    def _comes(self, condition: Condition, now: float, off_delay_s: float, *, again: bool) -> Change | None:
        self.gone_since = None
        self._note(condition)
        if self.open and condition.priority < self.priority:
            return self._rise(condition, now)
        if self.state in _FRESH:
            began = now if condition.since is None else condition.since
            if self.rises_at is None:
                self.rises_at = began + CATALOGUE[self.kind].on_delay_s
            return self._rise(condition, now) if now >= self.rises_at else None
        reopened = self.state not in _ON
        if reopened:
            self.signal(AlarmSignal.ON)
        self.count += again
        # A chattering condition counts every time and is told once an off-delay, so that it floods nobody.
        if not reopened and (not again or now < self.repeats_at):
            return None
        self.repeats_at = now + off_delay_s
        return Change.REPEATED

    def _stays_unknown(self, condition: Condition, now: float) -> Change | None:
        """What began to hold and is not known to have ended rises at its time: silence cancels nothing."""
        self.gone_since = None
        return self._rise(condition, now) if self.rises_at is not None and now >= self.rises_at else None

    def _goes(self, now: float, off_delay_s: float) -> Change | None:
        self.rises_at = None
        if not self.open:
            self.incident = ""
        if self.state not in _ON:
            return None
        self.gone_since = now if self.gone_since is None else self.gone_since
        if now < self.gone_since + off_delay_s:
            return None
        self.gone_since = None
        self.signal(AlarmSignal.LATCH if latches(self.priority) else AlarmSignal.FADE)
        return Change.RETURNED

    def _rise(self, condition: Condition, now: float) -> Change:
        self._begin(condition, now)
        self.state, self.rises_at = AlarmState.UNACKED, None
        return Change.RAISED

    def _begin(self, condition: Condition, now: float) -> None:
        self.episode += 1
        self.count, self.since, self.acknowledged_by, self.repeats_at = 1, now, "", 0.0
        # What latched and comes again less grave still owes its reset.
        self.priority = min(self.priority, condition.priority) if self.open else condition.priority

    def _note(self, condition: Condition) -> None:
        self.value, self.limit = condition.value, condition.limit
        self.unit, self.clause = condition.unit, condition.clause


class Alarms(dict[tuple[str, str, str], Alarm]):
    """The alarms of a site by (kind, object, space), found by their space as fast in a city as in a yard."""

    def __init__(self, alarms: Iterable[Alarm] = ()) -> None:
        super().__init__()
        self._of: dict[str, list[Alarm]] = {}
        for alarm in alarms:
            self.add(alarm)

    def add(self, alarm: Alarm) -> Alarm:
        """Take an alarm that is not known yet, and return it."""
        self[alarm.kind, alarm.object, alarm.space] = alarm
        self._of.setdefault(alarm.space, []).append(alarm)
        return alarm

    def of(self, space: str) -> list[Alarm]:
        """Return the alarms of a space, open or not, the oldest first; "" is the site itself."""
        return self._of.get(space, [])


def said_better(kind: str, obj: str, alarms: Iterable[Alarm]) -> bool:
    """Say whether an alarm that is on, of the same device, makes this one needless (`AlarmKind.suppressed_by`)."""
    better = CATALOGUE[kind].suppressed_by
    return any(a.kind in better and a.state in _ON and _device(a.object) == _device(obj) for a in alarms)


def incident_of(alarms: Iterable[Alarm], new: Alarm) -> str:
    """Return the incident that a new episode belongs to: the running one of its space, else one named after itself.

    Alarms of one space whose lives overlap are one incident; it ends when all of them are NORMAL (or out of everybody's mind:
    suppressed, out of service).
    """
    for alarm in (new, *alarms):
        if alarm.incident and alarm.space == new.space:
            return alarm.incident
    return derived_id("incident", new.id)


@lru_cache(maxsize=4096)  # (choice) of a rising alarm every event asks, and a picture asks for all that are open
def _episode_id(site: str, kind: str, obj: str, space: str, episode: int) -> str:
    return derived_id(site, kind, obj, space, episode)


def _device(obj: str) -> str:
    return obj.partition("/")[0]
