"""What the engine or the api concluded: past-tense facts under one envelope (`docs/events.md` is generated from here).

Every event carries `id` (derived from its cause, so a replay makes the same one), `at` (Unix seconds), `site` and `cause`
(the frame, command or event behind it). Texts never travel: codes and parameters do, so an alarm raised in Chinese reads
in English later.
"""

import msgspec

from manway.errors import Failure
from manway.ids import Priority


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """The envelope of every event."""

    id: str
    at: float
    site: str
    cause: str = ""


class MessageRejected(Event, frozen=True):
    """Emitted exactly when bytes from a device, broker or client cannot be decoded or break the wire's rules."""

    source: str
    reason: str
    first_bytes: str = ""


class FramesMissed(Event, frozen=True):
    """Emitted exactly when a gap in a device's sequence has stood for 60 s; `first` and `last` are the missing numbers."""

    device: str
    boot: int
    first: int
    last: int


class TelemetryDropped(Event, frozen=True):
    """Emitted exactly when a full journal gave up its oldest telemetry (never an event) before a store had taken it.

    `first` to `last` are numbers of its inputs, `start` to `end` the Unix seconds they came in, `frames` how many they held.
    """

    first: int
    last: int
    start: float
    end: float
    frames: int


class DeviceRestarted(Event, frozen=True):
    """Emitted exactly when a device's boot id changes."""

    device: str
    boot: int


class InstrumentFaulted(Event, frozen=True):
    """Emitted exactly when a channel's status leaves OK for a fault status."""

    device: str
    channel: str
    status: str


class InstrumentLost(Event, frozen=True):
    """Emitted exactly when an instrument's newest frame has grown older than its stale limit."""

    device: str
    space: str
    last_frame_at: float


class InstrumentRecovered(Event, frozen=True):
    """Emitted exactly when the first good frame follows a fault or a silence."""

    device: str
    space: str


class LockLocked(Event, frozen=True):
    """Emitted exactly when the lock reports its bolt thrown."""

    lock: str
    space: str


class LockUnlocked(Event, frozen=True):
    """Emitted exactly when the lock reports its bolt retracted."""

    lock: str
    space: str


class EntranceOpened(Event, frozen=True):
    """Emitted exactly when the lock's contact reports the entrance open."""

    lock: str
    space: str


class EntranceClosed(Event, frozen=True):
    """Emitted exactly when the lock's contact reports the entrance shut."""

    lock: str
    space: str


class LockForced(Event, frozen=True):
    """Emitted exactly when the lock reports force, tampering or opening without a valid grant; with its reason."""

    lock: str
    space: str
    reason: str


class UnlockUnconfirmed(Event, frozen=True):
    """Emitted exactly when no report follows a written grant within the confirm time."""

    lock: str
    space: str


class LockGreeted(Event, frozen=True):
    """Emitted exactly when a lock's signed hello, asked for by `GreetLock`, has verified; `hello` is its bytes in hex."""

    lock: str
    hello: str


class PressAwaited(Event, frozen=True):
    """Emitted exactly when the lock reports that it waits for its button."""

    lock: str
    grant: str


class GrantUsed(Event, frozen=True):
    """Emitted exactly when the lock reports that it opened, or changed its session, on this grant."""

    lock: str
    space: str
    grant: str
    kind: int


class GrantFailed(Event, frozen=True):
    """Emitted exactly when the lock took a grant or order and did not act: NO_PRESS, JAMMED, FAULT, NOT_CLOSED."""

    lock: str
    grant: str
    reason: str


class LockArmed(Event, frozen=True):
    """Emitted exactly when the lock's signed result says that its button may now throw the bolt (CLOSE_OUT)."""

    lock: str
    grant: str


class LockTimeSet(Event, frozen=True):
    """Emitted exactly when the lock's signed result says that its clock was set (SET_TIME)."""

    lock: str
    grant: str


class LockKeySet(Event, frozen=True):
    """Emitted exactly when the lock's signed result says that it keeps the next key (ROTATE_KEY)."""

    lock: str
    grant: str


class EnrolmentAnswered(Event, frozen=True):
    """Emitted exactly when a lock being enrolled has answered `RelayEnrolment`; `message` is its bytes in hex, unverified."""

    lock: str
    message: str


class LockEnrolled(Event, frozen=True):
    """Emitted exactly when a lock has proven, by its signed result and then its hello, that it took its enrolment."""

    lock: str
    space: str
    by: str


class GrantIssued(Event, frozen=True):
    """Emitted exactly when a signed grant or order is committed; of an emergency with what an ordinary one would fail."""

    lock: str
    permit: str
    grant: str
    kind: int
    holder: str
    failures: list[Failure] = []


class GrantRefused(Event, frozen=True):
    """Emitted exactly when a request fails at least one check, or gateway or lock refuse a grant, with the reason."""

    lock: str
    reason: str
    permit: str = ""
    kind: int = 0
    by: str = ""
    failures: list[Failure] = []


class RescueAsked(Event, frozen=True):
    """Emitted exactly when somebody asks, at the gateway's own page, for an opening for rescue; `coded`: with its code."""

    lock: str
    space: str
    by: str
    coded: bool


class PersonEntered(Event, frozen=True):
    """Emitted exactly when occupancy rises by this person; `source` is tag, scan or attendant."""

    space: str
    permit: str
    person: str
    source: str


class PersonLeft(Event, frozen=True):
    """Emitted exactly when occupancy falls by this person."""

    space: str
    permit: str
    person: str
    source: str


class EntryReported(Event, frozen=True):
    """Emitted exactly when a source's word about a person is taken and the count does not change by it."""

    space: str
    permit: str
    person: str
    source: str
    direction: str


class AlarmEvent(Event, frozen=True):
    """What every alarm event names: the episode's id, its kind of the catalogue, the object and space it is about."""

    alarm: str
    kind: str
    object: str
    space: str


class AlarmRaised(AlarmEvent, frozen=True):
    """Emitted exactly when an alarm leaves NORMAL after its on-delay, or grows worse, once per episode."""

    priority: Priority
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    clause: str = ""
    evacuate: bool = False
    incident: str = ""


class AlarmRepeated(AlarmEvent, frozen=True):
    """Emitted exactly when an open alarm's condition comes again, at most once an off-delay; `count`: how often it came."""

    count: int


class AlarmAcknowledged(AlarmEvent, frozen=True):
    """Emitted exactly when a named person's acknowledgement is accepted."""

    by: str


class AlarmReturned(AlarmEvent, frozen=True):
    """Emitted exactly when the condition is *known* to be gone for the off-delay."""


class AlarmReset(AlarmEvent, frozen=True):
    """Emitted exactly when a named person closes a latched alarm whose condition has returned."""

    by: str
    reason: str
    verdict: str


class AlarmShelved(AlarmEvent, frozen=True):
    """Emitted exactly when a named person's shelving is accepted, with its reason and its end (Unix seconds)."""

    by: str
    reason: str
    until: float


class AlarmUnshelved(AlarmEvent, frozen=True):
    """Emitted exactly when a shelving ends: by its time (`by` ""), by a person, or because somebody went inside."""

    by: str = ""


class CountRecorded(Event, frozen=True):
    """Emitted exactly when a recount by name is accepted; `people` are then inside, whatever was believed before."""

    space: str
    permit: str
    by: str
    people: list[str]


class SosRaised(Event, frozen=True):
    """Emitted exactly when a call for help from a page or an instrument is accepted."""

    space: str
    person: str
    source: str


class PersonStateChanged(Event, frozen=True):
    """Emitted exactly when a person inside stops moving, does not answer, is down, or answers again (`person.TABLE`)."""

    space: str
    person: str
    state: str


class ReadingsRecorded(Event, frozen=True):
    """Emitted exactly when the statutory record of an occupied space is due: each gas's value in its limit's unit, then."""

    space: str
    permit: str
    values: dict[str, float]
    units: dict[str, str]


class CheckInRecorded(Event, frozen=True):
    """Emitted exactly when an attendant's "I am here", or an entrant's answer, is accepted."""

    permit: str
    space: str
    person: str


class CommandRefused(Event, frozen=True):
    """Emitted exactly when a command is expired, unknown or its cell says no; `reason` is a key of the catalogue."""

    reason: str
    failures: list[Failure] = []


class EvacuationOrdered(Event, frozen=True):
    """Emitted exactly when an order is accepted, or an evacuating alarm rises while anybody is inside or the count unknown."""

    space: str
    permit: str
    by: str = ""


class EvacuationCompleted(Event, frozen=True):
    """Emitted exactly when occupancy becomes a *known* zero after an order."""

    space: str
    permit: str


class PlanApplied(Event, frozen=True):
    """Emitted exactly when a plan's signature and version are accepted."""

    version: int


class PlanRejected(Event, frozen=True):
    """Emitted exactly when a plan is refused; with the reason."""

    version: int
    reason: str


class PermitEvent(Event, frozen=True):
    """What every permit event names: the permit, its space, and the person who acted ("" for the system)."""

    permit: str
    space: str
    by: str = ""
    reason: str = ""


class PermitSubmitted(PermitEvent, frozen=True):
    """Emitted exactly when a complete form is handed in."""


class PermitAgreed(PermitEvent, frozen=True):
    """Emitted exactly when the supervisor's agreement is committed."""


class PermitApproved(PermitEvent, frozen=True):
    """Emitted exactly when the last approval is committed."""


class PermitRejected(PermitEvent, frozen=True):
    """Emitted exactly when an approver says no."""


class PermitReturned(PermitEvent, frozen=True):
    """Emitted exactly when an approver sends the form back to its draft."""


class PermitReadied(PermitEvent, frozen=True):
    """Emitted exactly when the last preparation holds: ventilated, tested."""


class PermitVoided(PermitEvent, frozen=True):
    """Emitted exactly when gas voids the tests of a permit that was ready."""


class PermitStarted(PermitEvent, frozen=True):
    """Emitted exactly when the ENTRY grant is used or the first person enters."""


class PermitHalted(PermitEvent, frozen=True):
    """Emitted exactly when an active permit goes into evacuation."""


class PermitSuspended(PermitEvent, frozen=True):
    """Emitted exactly when everybody is out and the opening is barred."""


class PermitResumed(PermitEvent, frozen=True):
    """Emitted exactly when a suspended permit is ready again: aired, tested, and its supervisor has said so."""


class PermitHeld(PermitEvent, frozen=True):
    """Emitted exactly when an authority stops a permit."""


class PermitReleased(PermitEvent, frozen=True):
    """Emitted exactly when the regulator who stopped a permit lifts the stop."""


class PermitExtended(PermitEvent, frozen=True):
    """Emitted exactly when a newly approved, later end is committed."""

    end: float = 0.0


class PermitHandedOver(PermitEvent, frozen=True):
    """Emitted exactly when the duty of `role` (attendant, supervisor) passes to `person`: two signatures and a head-count."""

    role: str = ""
    person: str = ""


class ItemConfirmed(PermitEvent, frozen=True):
    """Emitted exactly when a person answers an item of the check list with yes."""

    item: str = ""


class PermitFinished(PermitEvent, frozen=True):
    """Emitted exactly when the work is done and nobody is inside."""


class PermitClosed(PermitEvent, frozen=True):
    """Emitted exactly when the hand-back is complete."""


class PermitExpired(PermitEvent, frozen=True):
    """Emitted exactly when the end passes with nobody inside."""


class PermitCancelled(PermitEvent, frozen=True):
    """Emitted exactly when a person, or the profile, ends the permit early."""


class VentilationRecorded(PermitEvent, frozen=True):
    """Emitted exactly when the running fan is confirmed and its minutes begin to count."""


class GasTestRecorded(PermitEvent, frozen=True):
    """Emitted exactly when a complete pre-entry test is stored, pass or fail."""

    passed: bool = False


ENGINE_EVENTS = (
    MessageRejected | FramesMissed | TelemetryDropped | DeviceRestarted | InstrumentFaulted | InstrumentLost
    | InstrumentRecovered | LockLocked | LockUnlocked | EntranceOpened | EntranceClosed | LockForced | UnlockUnconfirmed
    | LockGreeted | PressAwaited | GrantUsed | GrantFailed | LockArmed | GrantRefused | PersonEntered | PersonLeft
    | EntryReported | RescueAsked | LockTimeSet | LockKeySet | EnrolmentAnswered
    | AlarmRaised | AlarmRepeated | AlarmAcknowledged | AlarmReturned | AlarmReset | AlarmShelved | AlarmUnshelved
    | CheckInRecorded | CountRecorded | SosRaised | PersonStateChanged | ReadingsRecorded | CommandRefused | EvacuationOrdered
    | EvacuationCompleted | PlanApplied | PlanRejected
)  # fmt: skip
API_EVENTS = (
    MessageRejected | GrantIssued | GrantRefused | LockEnrolled | PermitSubmitted | PermitAgreed | PermitApproved
    | PermitRejected | PermitReturned | PermitReadied | PermitVoided | PermitStarted | PermitHalted | PermitSuspended
    | PermitResumed | PermitHeld | PermitReleased | PermitExtended | PermitHandedOver | ItemConfirmed
    | PermitFinished | PermitClosed | PermitExpired | PermitCancelled | VentilationRecorded
    | GasTestRecorded | AlarmRaised | AlarmReturned | AlarmAcknowledged | AlarmReset
)  # fmt: skip
AnyEvent = ENGINE_EVENTS | API_EVENTS
