"""What people command: buttons of alarms, evacuations, who is in and out, the attendant's check-in, locks and grants.

An order is carried out whole or not at all; what it does not do is said with a key of the catalogue of texts.
"""

from typing import assert_never

from manway import people
from manway.alarm import Alarm, AlarmSignal, AlarmState, Around
from manway.catalogue import CATALOGUE
from manway.commands import (
    AcknowledgeAlarm,
    AnyCommand,
    GreetLock,
    OpenForRescue,
    OrderEvacuation,
    RaiseSos,
    RecordCheckIn,
    RecordCount,
    RecordEntry,
    RelayEnrolment,
    ResetAlarm,
    ShelveAlarm,
    UnshelveAlarm,
    WriteGrant,
)
from manway.enrolment import ENROL_REQUEST
from manway.events import (
    AlarmAcknowledged,
    AlarmReset,
    AlarmShelved,
    AlarmUnshelved,
    CheckInRecorded,
    CountRecorded,
    GrantRefused,
    RescueAsked,
)
from manway.ids import GrantKind, Priority
from manway.lock import LockPosition, LockSignal, move
from manway.site import AirEnrolment, LockWatch, Relayed, Rescue, Site, SpaceWatch, WrittenGrant
from manway.space import Overlay, overlay
from manway.step import Step

_ENROLMENT_MODE_S = 120.0  # `locks.md` §3.2


def obey(step: Step, command: AnyCommand) -> str | None:
    """Carry a command out; return why not, as a key of the catalogue, or None."""
    match command:
        case AcknowledgeAlarm() | ResetAlarm() | ShelveAlarm() | UnshelveAlarm():
            refusal = _press(step, command)
        case OrderEvacuation():
            refusal = _evacuate(step, command)
        case RecordEntry():
            refusal = _record_entry(step, command)
        case RecordCount():
            refusal = _recount(step, command)
        case RecordCheckIn():
            refusal = _check_in(step, command)
        case RaiseSos():
            refusal = _sos(step, command)
        case GreetLock() | WriteGrant() | RelayEnrolment() | OpenForRescue():
            refusal = _ask_lock(step, command)
        case _:
            assert_never(command)
    return refusal


def blocking_alarm(site: Site, space: str) -> str | None:
    """Return the kind of an open P1 that forbids PREP and ENTRY grants for a space, here or next door, or None."""
    plan = site.plan
    spaces = plan.spaces if plan else []
    near = {space, *(c for s in spaces if s.id == space for c in s.connected)}
    near |= {s.id for s in spaces if space in s.connected}  # a pipe has two ends, whichever the ledger names
    for alarm in site.alarms.values():
        if alarm.space in near and alarm.open and alarm.priority is Priority.P1 and CATALOGUE[alarm.kind].blocks_grants:
            return alarm.kind
    return None


def overlay_of(site: Site, space: str) -> Overlay | None:
    """Return what lies over a space and forbids its PREP and ENTRY grants: emergency, an unknown count or lock, maintenance."""
    watch, ledger = site.spaces.get(space), site.ledger_of(space)
    return overlay(
        count_known=watch is not None and watch.occupancy.known,
        locks_known=all(_told(site, lock) for lock in site.locks_of(space)),
        emergency=any(a.open and a.priority is Priority.P1 and CATALOGUE[a.kind].emergency for a in site.alarms_of(space)),
        out_of_service=ledger is not None and ledger.out_of_service,
    )


def _told(site: Site, lock: LockWatch) -> bool:
    offline = site.alarms.get(("LOCK_OFFLINE", lock.device, lock.space))
    return lock.position is not LockPosition.UNKNOWN and not (offline is not None and offline.holds)


# -- alarms -----------------------------------------------------------------------------------------------------------


def _press(step: Step, command: AcknowledgeAlarm | ResetAlarm | ShelveAlarm | UnshelveAlarm) -> str | None:
    alarm = next((a for a in step.site.alarms.values() if a.id == command.alarm and a.open), None)
    if alarm is None:
        return "alarm.not_open"
    match command:
        case AcknowledgeAlarm():
            return _acknowledge(step, alarm, command)
        case ResetAlarm():
            return _reset(step, alarm, command)
        case ShelveAlarm():
            return _shelve(step, alarm, command)
        case UnshelveAlarm():
            return _unshelve(step, alarm, command)
        case _:
            assert_never(command)


def _shelve(step: Step, alarm: Alarm, command: ShelveAlarm) -> str | None:
    around, longest = Around(occupied=step.site.occupied(alarm.space)), step.site.timings.shelve_max_s
    refusal = alarm.shelve(command.by, command.reason, command.until, step.now, shelve_max_s=longest, around=around)
    if refusal is None:
        said = {"by": command.by, "reason": command.reason, "until": command.until, "cause": command.id}
        step.emit(AlarmShelved, command.id, "shelved", **alarm.named, **said)
    return refusal


def _unshelve(step: Step, alarm: Alarm, command: UnshelveAlarm) -> str | None:
    refusal = alarm.unshelve(step.now)
    if refusal is None:
        step.emit(AlarmUnshelved, command.id, "unshelved", **alarm.named, by=command.by, cause=command.id)
    return refusal


def _acknowledge(step: Step, alarm: Alarm, command: AcknowledgeAlarm) -> str | None:
    if not alarm.signal(AlarmSignal.ACKNOWLEDGE):
        return "alarm.already_acknowledged"
    alarm.acknowledged_by = command.by
    step.emit(
        AlarmAcknowledged,
        command.id,
        "acknowledged",
        **alarm.named,
        by=command.by,
        cause=command.id,
    )
    return None


def _reset(step: Step, alarm: Alarm, command: ResetAlarm) -> str | None:
    if alarm.state is not AlarmState.LATCHED_ACKED or alarm.holds is not False:
        return "alarm.not_returned"
    if alarm.priority is Priority.P1 and alarm.acknowledged_by == command.by:
        return "alarm.same_person"
    alarm.signal(AlarmSignal.RESET)
    step.emit(
        AlarmReset,
        command.id,
        "reset",
        **alarm.named,
        by=command.by,
        reason=command.reason,
        verdict=command.verdict,
        cause=command.id,
    )
    return None


# -- people -----------------------------------------------------------------------------------------------------------


def _evacuate(step: Step, command: OrderEvacuation) -> str | None:
    space = step.site.spaces.get(command.space)
    if space is None:
        return "space.unknown"
    step.evacuate(space, cause=command.id, by=command.by)
    return None


def _check_in(step: Step, command: RecordCheckIn) -> str | None:
    """Take "I am here" of the attendant, or of an entrant: their own word, or the attendant's that they have answered."""
    space = step.site.spaces.get(command.space)
    if space is None:
        return "space.unknown"
    permit, person = step.site.permit_of(space.id), command.person or command.by
    if permit is None or permit.id != command.permit or command.by not in (permit.attendant, person):
        return "attendant.not_you"
    if person == permit.attendant:
        space.attendant_at = step.now
    elif person in space.occupancy.inside or (person in space.people and space.people[person].sos):
        people.answer(step, space, person, cause=command.id)
    else:
        return "entry.not_inside"
    step.emit(CheckInRecorded, command.id, "here", permit=permit.id, space=space.id, person=person, cause=command.id)
    return None


def _record_entry(step: Step, command: RecordEntry) -> str | None:
    space = step.site.spaces.get(command.space)
    if space is None:
        return "permit.unknown"
    refusal = _refuses_word(step.site, space, command) if command.source == "attendant" else _refuses_report(command)
    if refusal is not None:
        return refusal
    people.count(
        step,
        space,
        command.person,
        command.direction,
        source=command.source,
        permit=command.permit,
        cause=command.id,
    )
    return None


def _refuses_report(command: RecordEntry) -> str | None:
    """A tag or a scan reports a fact; only what is no fact at all is refused."""
    return None if command.direction in ("in", "out") else "entry.unknown_direction"


def _refuses_word(site: Site, space: SpaceWatch, command: RecordEntry) -> str | None:
    refusal = space.occupancy.refuses(command.person, command.direction)
    # Whoever is counted in can be counted out, whatever has become of the permit; while one holds, by its attendant alone.
    if refusal is not None or command.direction == "in":
        refusal = _refuses_entry(site, space, command) or refusal
    holder = site.permit_of(space.id)
    if refusal is None and holder is not None and command.by != holder.attendant:
        refusal = "attendant.not_you"
    return refusal


def _recount(step: Step, command: RecordCount) -> str | None:
    """Take a recount by name: the attendant's while a permit holds the space, anybody's whom the api lets otherwise."""
    space = step.site.spaces.get(command.space)
    if space is None:
        return "space.unknown"
    permit = step.site.permit_of(space.id)
    if permit is not None and command.by != permit.attendant:
        return "attendant.not_you"
    people.recount(step, space, command.people, cause=command.id)
    named = {"space": space.id, "permit": permit.id if permit else "", "by": command.by}
    step.emit(CountRecorded, command.id, "counted", **named, people=sorted(command.people), cause=command.id)
    step.complete_evacuation(space, named["permit"], command.id)
    return None


def _sos(step: Step, command: RaiseSos) -> str | None:
    space = step.site.spaces.get(command.space)
    if space is None:
        return "space.unknown"
    people.call_for_help(step, space, command.person, source="page", cause=command.id)
    return None


def _refuses_entry(site: Site, space: SpaceWatch, command: RecordEntry) -> str | None:
    permit = site.permit_of(space.id)
    if permit is None or permit.id != command.permit:
        return "permit.unknown"
    # A rescuer who ran in is counted, whatever was forbidden: ENTRY_IN_PREP speaks of it, and nobody is locked in uncounted.
    return None if command.person in permit.entrants or space.evacuating else "entry.not_on_permit"


# -- locks ------------------------------------------------------------------------------------------------------------


def _ask_lock(step: Step, command: GreetLock | WriteGrant | RelayEnrolment | OpenForRescue) -> str | None:
    match command:
        case GreetLock():
            return None if command.lock in step.site.locks else "lock.unknown"
        case WriteGrant():
            return _write_grant(step, command)
        case RelayEnrolment():  # to a lock the plan names or not: one with lost keys is enrolled anew
            step.site.enrolling[command.lock] = Relayed(command.id, command.message == ENROL_REQUEST.hex())
            _enrol_on_air(step, command)
            return None
        case OpenForRescue():
            return _rescue(step, command)
        case _:
            assert_never(command)


def _enrol_on_air(step: Step, command: RelayEnrolment) -> None:
    """Remember where the lock is on the air for as long as its enrolment mode may last, and forget those that are over."""
    site, others = step.site, step.site.enrolling_on_air.items()
    site.enrolling_on_air = {lock: one for lock, one in others if one.until > step.now and lock != command.lock}
    if command.address:
        until = command.exp + _ENROLMENT_MODE_S
        site.enrolling_on_air[command.lock] = AirEnrolment(command.address, command.passkey, until)


def _write_grant(step: Step, command: WriteGrant) -> str | None:
    lock = step.site.locks.get(command.lock)
    if lock is None:
        return "lock.unknown"
    kind = GrantKind(command.kind)
    if kind in (GrantKind.PREP, GrantKind.ENTRY) and (why := _forbids(step.site, lock.space)) is not None:
        reason, key = why
        step.emit(GrantRefused, command.id, "P1", lock=lock.device, reason=reason, kind=command.kind, by=command.by)
        return key
    space = step.site.spaces.get(lock.space)
    if kind is GrantKind.CLOSE_OUT and (space is None or space.occupancy.occupied):
        return "permit.people_inside"  # somebody was counted in since the order was signed: nobody is shut in
    written = WrittenGrant(command.grant, kind, command.id, step.now + step.site.timings.lock_confirm_s)
    if written.about_itself and lock.written is not None and not lock.written.about_itself:
        return "lock.busy"  # an opening is under way; the clock has time
    lock.written = written
    if written.about_itself:
        return None
    lock.position = move(lock.position, LockSignal.WRITTEN)
    return None


def _rescue(step: Step, command: OpenForRescue) -> str | None:
    """Take a rescue that was asked for at the gateway's own page: no state refuses it, and from here on it is an alarm.

    It is over when a grant for the present challenge of the lock would be, whatever became of it.
    """
    lock, timings = step.site.locks.get(command.lock), step.site.timings
    if lock is None:
        return "lock.unknown"
    lock.rescue = Rescue(step.now + timings.lock_confirm_s, step.now + timings.grant_life_s)
    said = {"lock": lock.device, "space": lock.space, "by": command.by, "coded": command.coded}
    step.emit(RescueAsked, command.id, "asked", **said, cause=command.id)
    return None


def _forbids(site: Site, space: str) -> tuple[str, str] | None:
    """Return why no PREP and no ENTRY grant is written for a space: the refusal's code and the command's, or None."""
    if (alarm := blocking_alarm(site, space)) is not None:
        return f"ALARM_{alarm}", "alarm.open"
    over = overlay_of(site, space)
    return None if over is None else (f"SPACE_{over.name}", "space.closed_to_grants")
