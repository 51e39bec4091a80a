"""The life of one alarm (ISA-18.2 / IEC 62682 states with latching, `domain.md` §4.7).

Theory: the *condition* (is it so now: yes, no, unknown) and the *alarm* (has a person dealt with it) are separate. Unknown
changes nothing. A condition that is known to be gone for the off-delay makes the alarm RETURNED, or LATCHED where the
priority latches; only RESET leads from LATCHED to NORMAL, and only a person gives RESET. A worse priority is a new episode,
announced at once; the same condition coming again is a repeat and only counts.
"""

import enum

import msgspec

from manway.catalogue import latches
from manway.grid import parse_grid
from manway.ids import Priority, derived_id


class AlarmState(enum.Enum):
    """States A to F; shelved, suppressed and out of service come with the whole table."""

    NORMAL = "normal"
    UNACKED = "unacked"
    ACKED = "acked"
    RETURNED_UNACKED = "returned_unacked"
    LATCHED_UNACKED = "latched_unacked"
    LATCHED_ACKED = "latched_acked"


class AlarmSignal(enum.Enum):
    """`on`: the condition holds; `fade`/`latch`: known gone for the off-delay, not latching / latching; two buttons."""

    ON = "on"
    FADE = "fade"
    LATCH = "latch"
    ACKNOWLEDGE = "acknowledge"
    RESET = "reset"


TABLE = parse_grid(
    """
                 on      fade             latch           acknowledge   reset
normal           unacked =                =               x             x
unacked          =       returned_unacked latched_unacked acked         x
acked            =       normal           latched_acked   x             x
returned_unacked unacked =                =               normal        x
latched_unacked  unacked =                =               latched_acked x
latched_acked    unacked =                =               x             normal
""",
    AlarmState,
    AlarmSignal,
)
RETURNED = frozenset({AlarmState.RETURNED_UNACKED, AlarmState.LATCHED_UNACKED, AlarmState.LATCHED_ACKED})


class Condition(msgspec.Struct, frozen=True):
    """What is so now for one (kind, object). `holds` None is unknown.

    `until` is when time alone may change the answer (Unix seconds, None = never); the engine looks again then.
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


class Change(enum.Enum):
    """What a condition or a person did to an alarm."""

    RAISED = "raised"
    REPEATED = "repeated"
    RETURNED = "returned"


class Alarm(msgspec.Struct):
    """One (kind, object, space) of a site. `episode` numbers its outbreaks; `id` names the present one; times Unix seconds."""

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

    @property
    def id(self) -> str:
        """The episode's identity, derived from its cause."""
        return derived_id(self.site, self.kind, self.object, self.space, self.episode)

    @property
    def named(self) -> dict[str, str]:
        """What every event about this episode names (`events.AlarmEvent`)."""
        return {"alarm": self.id, "kind": self.kind, "object": self.object, "space": self.space}

    @property
    def open(self) -> bool:
        """True until the alarm is back to NORMAL."""
        return self.state is not AlarmState.NORMAL

    def off_at(self, off_delay_s: float) -> float | None:
        """Return when the running off-delay ends, or None."""
        return None if self.gone_since is None else self.gone_since + off_delay_s

    def feel(self, condition: Condition, now: float, off_delay_s: float) -> Change | None:
        """Take the condition as it is now; return what it changed."""
        was, self.holds = self.holds, condition.holds
        if condition.holds is None:
            self.gone_since = None
            return None
        if condition.holds:
            return self._comes(condition, now, again=was is False or self.state in RETURNED)
        return self._goes(now, off_delay_s)

    def signal(self, signal: AlarmSignal) -> bool:
        """Move along the table; return False when the cell refuses, and then nothing has changed."""
        after = TABLE[self.state, signal]
        if after is None:
            return False
        self.state = after
        return True

    def _comes(self, condition: Condition, now: float, *, again: bool) -> Change | None:
        self.gone_since = None
        self.value, self.limit = condition.value, condition.limit
        self.unit, self.clause = condition.unit, condition.clause
        fresh = self.state in (AlarmState.NORMAL, AlarmState.LATCHED_ACKED) or condition.priority < self.priority
        if fresh:
            self.episode += 1
            self.count, self.since, self.acknowledged_by = 1, now, ""
            self.state, self.priority = AlarmState.UNACKED, condition.priority
            return Change.RAISED
        self.signal(AlarmSignal.ON)
        if again:
            self.count += 1
            return Change.REPEATED
        return None

    def _goes(self, now: float, off_delay_s: float) -> Change | None:
        if not self.open or self.state in RETURNED:
            return None
        self.gone_since = now if self.gone_since is None else self.gone_since
        if now < self.gone_since + off_delay_s:
            return None
        self.gone_since = None
        self.signal(AlarmSignal.LATCH if latches(self.priority) else AlarmSignal.FADE)
        return Change.RETURNED
