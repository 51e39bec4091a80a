"""What people command: buttons of alarms, evacuations, who is in and out, the attendant's check-in, locks and grants.

An order is carried out whole or not at all; what it does not do is said with a key of the catalogue of texts.
"""

from typing import assert_never

from manway.alarm import Alarm, AlarmSignal, AlarmState
from manway.catalogue import CATALOGUE
from manway.commands import (
    AcknowledgeAlarm,
    AnyCommand,
    GreetLock,
    OrderEvacuation,
    RecordCheckIn,
    RecordEntry,
    ResetAlarm,
    WriteGrant,
)
from manway.events import AlarmAcknowledged, AlarmReset, CheckInRecorded, Event, GrantRefused, PersonEntered, PersonLeft
from manway.ids import GrantKind, Priority
from manway.lock import LockSignal, move
from manway.site import Site, SpaceWatch, WrittenGrant
from manway.step import Step


def obey(step: Step, command: AnyCommand) -> str | None:
    """Carry a command out; return why not, as a key of the catalogue, or None."""
    match command:
        case AcknowledgeAlarm() | ResetAlarm():
            return _press(step, command)
        case OrderEvacuation():
            return _evacuate(step, command)
        case RecordEntry():
            return _record_entry(step, command)
        case RecordCheckIn():
            return _check_in(step, command)
        case GreetLock():
            return None if command.lock in step.site.locks else "lock.unknown"
        case WriteGrant():
            return _write_grant(step, command)
        case _:
            assert_never(command)


def blocking_alarm(site: Site, space: str) -> str | None:
    """Return the kind of an open P1 that forbids PREP and ENTRY grants for a space, here or next door, or None."""
    plan = site.plan
    near = {space, *(c for s in (plan.spaces if plan else []) if s.id == space for c in s.connected)}
    for alarm in site.alarms.values():
        if alarm.space in near and alarm.open and alarm.priority is Priority.P1 and CATALOGUE[alarm.kind].blocks_grants:
            return alarm.kind
    return None


# -- alarms -----------------------------------------------------------------------------------------------------------


def _press(step: Step, command: AcknowledgeAlarm | ResetAlarm) -> str | None:
    alarm = next((a for a in step.site.alarms.values() if a.id == command.alarm and a.open), None)
    if alarm is None:
        return "alarm.not_open"
    return _acknowledge(step, alarm, command) if isinstance(command, AcknowledgeAlarm) else _reset(step, alarm, command)


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
    space = step.site.spaces.get(command.space)
    if space is None:
        return "space.unknown"
    permit = step.site.permit_of(space.id)
    if permit is None or permit.id != command.permit or command.by != permit.attendant:
        return "attendant.not_you"
    space.attendant_at = step.now
    named = {"permit": command.permit, "space": command.space, "person": command.by}
    step.emit(CheckInRecorded, command.id, "here", **named, cause=command.id)
    return None


def _record_entry(step: Step, command: RecordEntry) -> str | None:
    space = step.site.spaces.get(command.space)
    if space is None:
        return "permit.unknown"
    refusal = space.occupancy.refuses(command.person, command.direction)
    # Whoever is counted in can be counted out, whatever has become of the permit; while one holds, by its attendant alone.
    if refusal is not None or command.direction == "in":
        refusal = _refuses_entry(step.site, space, command) or refusal
    holder = step.site.permit_of(space.id)
    if refusal is None and holder is not None and command.by != holder.attendant:
        refusal = "attendant.not_you"
    if refusal is not None:
        return refusal
    space.occupancy.record(command.person, command.direction, step.now)
    kind: type[Event] = PersonEntered if command.direction == "in" else PersonLeft
    named = {"space": space.id, "permit": command.permit, "person": command.person, "source": "attendant"}
    step.emit(kind, command.id, command.direction, **named, cause=command.id)
    step.complete_evacuation(space, command.permit, command.id)
    return None


def _refuses_entry(site: Site, space: SpaceWatch, command: RecordEntry) -> str | None:
    permit = site.permit_of(space.id)
    if permit is None or permit.id != command.permit:
        return "permit.unknown"
    if command.person not in permit.entrants:
        return "entry.not_on_permit"
    return "entry.evacuating" if command.direction == "in" and space.evacuating else None


# -- locks ------------------------------------------------------------------------------------------------------------


def _write_grant(step: Step, command: WriteGrant) -> str | None:
    lock = step.site.locks.get(command.lock)
    if lock is None:
        return "lock.unknown"
    kind = GrantKind(command.kind)
    blocked = blocking_alarm(step.site, lock.space) if kind in (GrantKind.PREP, GrantKind.ENTRY) else None
    if blocked is not None:
        said = {"lock": lock.device, "reason": f"ALARM_{blocked}", "kind": command.kind, "by": command.by}
        step.emit(GrantRefused, command.id, "P1", **said)
        return "alarm.open"
    space = step.site.spaces.get(lock.space)
    if kind is GrantKind.CLOSE_OUT and space is not None and space.occupancy.occupied:
        return "permit.people_inside"  # somebody was counted in since the order was signed: nobody is shut in
    confirm_by = step.now + step.site.timings.lock_confirm_s
    lock.written = WrittenGrant(command.grant, kind, command.id, confirm_by)
    lock.position = move(lock.position, LockSignal.WRITTEN)
    return None
