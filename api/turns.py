"""The turns of a permit's life: suspend and resume, cancel, a recount, an authority's stop.

Each is one transaction with its event and its audit row, or a command whose event comes back. What takes two people stands in
`api.second_signature`.
"""

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from api import desk, store
from api.desk import refuse
from api.office import Office
from manway.catalogue import CATALOGUE
from manway.commands import RecordCount
from manway.entities import Hold, Permit, PermitState, Person, Space
from manway.errors import ActionRefused, Failure
from manway.events import AlarmRaised, PermitHeld, PermitReleased
from manway.ids import GrantKind, Priority, Role
from manway.permit import OPEN, TERMINAL, PermitSignal, after_break, after_evacuation, move, reassesses

# What must hold before anybody goes in again (GB 46768-2025 6.2.7; MEM Order 13 art. 15): no stop and no P1 here or next door,
# aired and tested once more, in this order. A full reassessment confirms hazards, briefing and isolation anew as well.
_RESUME_CHECKS = frozenset({"G03", "G10", "G11", "G12"})
_REASSESSMENT = frozenset({"G08", "G09"})


# -- interruption ---------------------------------------------------------------------------------------------------------


def suspend(
    db: sa.Connection,
    office: Office,
    by: Person,
    permit_id: str,
    *,
    barrier: bool,
    temporary: bool = False,
    reason: str = "",
) -> Permit:
    """End an evacuation or begin a break, with everybody out: suspended behind a barrier, or cancelled, as the profile says.

    `temporary` is the supervisor's word that neither configuration nor hazards changed (29 CFR 1926.1205(e)).
    """
    permit, limits = desk.permit_of(db, permit_id), office.limits
    if permit.state not in OPEN:
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="suspend")
    evacuated = permit.state is PermitState.EVACUATING
    rule = limits.after_evacuation if evacuated else limits.after_break
    if reassesses(rule):
        _supervisor_only(permit, by, "29 CFR 1926.1205(e)")
    signal = (after_evacuation if evacuated else after_break)(rule, temporary=temporary)
    cause = office.new_id()
    if signal is PermitSignal.CANCEL:
        return desk.shift(db, office, permit, signal, by=by.id, cause=cause, reason=reason)
    if not barrier:
        raise refuse("permit.no_barrier", "permit.set_barrier", "GB 46768-2025 6.2.6")
    permit = msgspec.structs.replace(permit, barrier=True, gas_test=None, ventilated_at=None)
    if reassesses(rule):
        permit = msgspec.structs.replace(permit, confirmations=[])
    return desk.shift(db, office, permit, signal, by=by.id, cause=cause, reason=reason)


def resume(db: sa.Connection, office: Office, by: Person, permit_id: str) -> Permit:
    """Make a suspended permit ready again: cause gone, aired and tested since, barred, on the supervisor's word."""
    permit = desk.permit_of(db, permit_id)
    space, rules = desk.space_of(db, permit.space), {office.limits.after_evacuation, office.limits.after_break}
    _supervisor_only(permit, by, "GB 46768-2025 6.2.7")
    move(permit.state, PermitSignal.RESUME, inside=office.inside(space))
    if "cancel" in rules:
        raise refuse("resume.never", "extension.new_permit", "29 CFR 1910.146(e)(5)")
    asked = _RESUME_CHECKS | (_REASSESSMENT if any(reassesses(rule) for rule in rules) else frozenset())
    results = desk.check(db, office, by, permit_id, GrantKind.ENTRY)
    failures = [failure for result in results if result.check in asked for failure in result.failures]
    if not permit.barrier:
        failures.append(Failure("ACTION", "GB 46768-2025 6.2.6", "permit.no_barrier", "permit.set_barrier"))
    failures += _voided(db, permit, space)
    if failures:
        raise ActionRefused(failures)
    return desk.shift(db, office, permit, PermitSignal.RESUME, by=by.id, cause=office.new_id())


def _voided(db: sa.Connection, permit: Permit, space: Space) -> list[Failure]:
    """Return a failure for every kind of alarm that has made the test void since it was signed, though it is over by now."""
    if permit.gas_test is None:
        return []  # G11 says so
    signed_at, near = permit.gas_test.at, [space.id, *space.connected]
    rows = store.events(
        db, lambda t: (t.c.type == "AlarmRaised") & t.c.space.in_(near) & (t.c.site == permit.site) & (t.c.at >= signed_at)
    )
    kinds = {e.kind for _, e in rows if isinstance(e, AlarmRaised) and (e.priority is Priority.P1 or _voids(e.kind))}
    return [
        Failure("ACTION", "GB 46768-2025 6.2.7", "resume.alarm_since", "gas_test.repeat", {"alarm": kind})
        for kind in sorted(kinds)
    ]


def _voids(kind: str) -> bool:
    known = CATALOGUE.get(kind)
    return known is not None and known.voids_tests


def cancel(db: sa.Connection, office: Office, by: Person, permit_id: str, reason: str) -> Permit:
    """End a permit early, with everybody out and a reason: its requester, its supervisor, an approver or a manager."""
    permit = desk.permit_of(db, permit_id)
    if by.id not in {permit.requester, permit.supervisor} and not _has(by, Role.APPROVER, Role.MANAGER):
        raise refuse("permit.not_yours", "permit.ask_supervisor")
    return desk.shift(db, office, permit, PermitSignal.CANCEL, by=by.id, cause=office.new_id(), reason=reason)


def _supervisor_only(permit: Permit, by: Person, clause: str) -> None:
    if by.id != permit.supervisor and not _has(by, Role.MANAGER):
        raise refuse("permit.not_supervisor", "permit.ask_supervisor", clause)


def _has(person: Person, *roles: Role) -> bool:
    return not {role.value for role in roles}.isdisjoint(person.roles)


# -- a count, a stop ----------------------------------------------------------------------------------------------------


def recount(db: sa.Connection, office: Office, by: Person, permit_id: str, people: Iterable[str]) -> str:
    """Say by name who is inside after everybody was counted again; it ends a disagreement, or an unknown count."""
    permit, now = desk.permit_of(db, permit_id), office.now()
    if by.id != permit.attendant:
        raise refuse("attendant.not_you", "attendant.sign_in", "MEM Order 13 art. 15")
    named = sorted(set(people))
    if unknown := [person for person in named if store.get(db, Person, person) is None]:
        raise refuse("form.unknown_person", "form.choose_person", person=", ".join(unknown))
    return desk.send(
        db,
        RecordCount(
            id=office.new_id(),
            site=permit.site,
            at=now,
            exp=now + desk.COMMAND_LIFE_S,
            by=by.id,
            space=permit.space,
            permit=permit.id,
            people=named,
        ),
    )


def hold(db: sa.Connection, office: Office, by: Person, permit_id: str, reason: str) -> Permit:
    """Stop a permit as its authority; no grant follows, and where people may be inside, everybody is ordered out."""
    permit = desk.permit_of(db, permit_id)
    if permit.state in TERMINAL:
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="hold")
    if permit.hold is not None:
        raise refuse("permit.held", "permit.ask_regulator", "MEM Order 13 art. 18", reason=permit.hold.reason)
    stopped = Hold(by.id, office.now(), reason)
    permit = msgspec.structs.replace(permit, hold=stopped, version=permit.version + 1)
    store.put_permit(db, permit)
    desk.note(db, office, PermitHeld, permit, by=by.id, cause=office.new_id(), reason=reason)
    if permit.state in OPEN:
        desk.evacuate(db, office, by, permit.id)
    return permit


def release(db: sa.Connection, office: Office, by: Person, permit_id: str, reason: str) -> Permit:
    """Lift a stop as the regulator who ordered it; it resumes nothing."""
    permit = desk.permit_of(db, permit_id)
    if permit.hold is None:
        raise refuse("permit.not_held", "permit.look_at_state", "MEM Order 13 art. 18")
    if permit.hold.by != by.id:
        raise refuse("permit.held", "permit.ask_regulator", "MEM Order 13 art. 18", reason=permit.hold.reason)
    permit = msgspec.structs.replace(permit, hold=None, version=permit.version + 1)
    store.put_permit(db, permit)
    desk.note(db, office, PermitReleased, permit, by=by.id, cause=office.new_id(), reason=reason)
    return permit
