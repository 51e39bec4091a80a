"""Checks about people: who approved, who is trained, who attends, who may go in, who asks."""

from itertools import pairwise

from manway.checks.facts import Facts
from manway.checks.table import fail, row
from manway.entities import Permit, Person, Signature, Space
from manway.errors import Failure

# Spaces whose approver must be the principal or hold the principal's written word (MEM Order 13 art. 7).
_DELEGATED = frozenset({"h2s", "co", "co2"})
HAND_OVER = "hand_over"  # the step that whoever takes the supervisor's duty over signs (29 CFR 1926.1206)
TRAINING_S = 366 * 86_400.0  # MEM Order 13 art. 9: at least yearly; a leap year has a day more


def needs_delegation(space: Space) -> bool:
    """Say whether H2S, CO or CO2 are among the hazards of a space; H2S and CO are measured in every space, CO2 is not."""
    return not _DELEGATED.isdisjoint(hazard.lower() for hazard in space.hazards) or "CO2" in space.required_gases


def chain(permit: Permit) -> list[str]:
    """Return the steps a permit's approval needs, in order: the owner of the space approves a contractor's work too."""
    return ["supervisor", "approver", "approver"] if permit.contractor else ["supervisor", "approver"]


def approver_failures(person: Person | None, space: Space, at: float) -> list[Failure]:
    """Return why a person may not approve work in a space at a time: no role, or no word of the principal."""
    seen = row("person", person.id if person else "")
    if person is None or {"approver", "manager"}.isdisjoint(person.roles):
        return [fail("G02", "approval.no_right", "approval.get_another", seen)]
    word = person.delegation
    delegated = word is not None and bool(word.document) and word.start <= at <= word.end
    if needs_delegation(space) and not (person.principal or delegated):
        return [fail("G02", "approval.not_delegated", "approval.get_delegate", seen, person=person.id)]
    return []


def chain_failures(permit: Permit, people: dict[str, Person]) -> list[Failure]:
    """Return what is wrong with a permit's signatures as a chain: missing, in the wrong order, by the same people.

    Who took the supervisor's duty over has signed below (`hand_over`); the chain itself stays as it was.
    """
    seen, failures, signed = row("permit", permit.id), [], [s for s in permit.signatures if s.step != HAND_OVER]
    if [s.step for s in signed] != chain(permit):
        have = ", ".join(s.step for s in signed) or "-"
        failures.append(fail("G02", "approval.incomplete", "approval.get", seen, have=have))
    named, approved = [s.person for s in signed], {s.person for s in _approvals(permit)}
    took_over = [s.person for s in permit.signatures if s.step == HAND_OVER]
    if len(set(named)) != len(named) or not approved.isdisjoint({permit.requester, *took_over}):
        failures.append(fail("G02", "approval.same_person", "approval.get_another", seen))
    if any(not a.at <= b.at for a, b in pairwise(permit.signatures)):
        failures.append(fail("G02", "approval.wrong_order", "approval.get", seen))
    responsible = [s.person for s in signed if s.step == "supervisor"] + took_over
    if responsible and responsible[-1] != permit.supervisor:
        failures.append(fail("G02", "approval.not_supervisor", "approval.get", seen))
    if permit.contractor and not any((p := people.get(s.person)) and p.owner for s in _approvals(permit)):
        failures.append(fail("G02", "approval.no_owner", "approval.get_owner", seen))
    return failures


def _approvals(permit: Permit) -> list[Signature]:
    return [s for s in permit.signatures if s.step == "approver"]


def g02_approvals(f: Facts) -> list[Failure]:
    """The approvals are complete, in order, by different people who may approve this space."""
    failures = chain_failures(f.permit, f.people)
    for signature in _approvals(f.permit):
        failures += approver_failures(f.people.get(signature.person), f.space, signature.at)
    return failures


def named_people(permit: Permit) -> list[str]:
    """Return everybody with a part in a permit, each once, the entrants first."""
    approvers = [s.person for s in _approvals(permit)]
    return list(dict.fromkeys([*permit.entrants, permit.attendant, permit.supervisor, permit.tester, *approvers]))


def g05_training(f: Facts) -> list[Failure]:
    """Everybody with a part in the work has passed a training that is good today; without an approver nobody knows."""
    failures = []
    if not _approvals(f.permit):
        failures.append(fail("G05", "training.no_approver", "approval.get", row("permit", f.permit.id)))
    for name in named_people(f.permit):
        person, seen = f.people.get(name), row("person", name)
        if person is None or not person.trainings:
            failures.append(fail("G05", "training.none", "training.attend", seen, person=name))
        elif not any(t.passed_at <= f.now <= t.valid_to and f.now - t.passed_at <= TRAINING_S for t in person.trainings):
            failures.append(fail("G05", "training.expired", "training.attend", seen, person=name))
    return failures


def g06_attendant(f: Facts) -> list[Failure]:
    """The attendant has no other part, is here now, and watches nothing else."""
    p, failures, seen = f.permit, [], row("person", f.permit.attendant)
    if not p.attendant or p.attendant in {*p.entrants, *(s.person for s in _approvals(p))}:
        failures.append(fail("G06", "attendant.conflict", "attendant.name_another", seen))
    if f.attendant_seen_at is None or not 0 <= f.now - f.attendant_seen_at <= f.timings.attendant_checkin_s:
        failures.append(fail("G06", "attendant.absent", "attendant.check_in", seen))
    if f.attendant_elsewhere is None:
        failures.append(fail("G06", "attendant.unknown_posts", "gateway.look", seen))
    others = f.attendant_elsewhere or []
    return failures + [fail("G06", "attendant.elsewhere", "attendant.end_other", row("permit", x), permit=x) for x in others]


def g07_entrants(f: Facts) -> list[Failure]:
    """Everybody who goes in is known by name, stands on the roster once, and may still breathe this shift's air."""
    p, failures = f.permit, []
    if not p.entrants or len(set(p.entrants)) != len(p.entrants):
        failures.append(fail("G07", "entrants.roster", "entrants.correct", row("permit", p.id)))
    for name in dict.fromkeys(p.entrants):
        if name not in f.people:
            failures.append(fail("G07", "entrants.unknown", "entrants.correct", row("person", name), person=name))
        if f.exposed is not None and name in f.exposed:
            failures.append(fail("G07", "entrants.exposed", "entrants.rest", row("person", name), person=name))
    if f.exposed is None:
        failures.append(fail("G07", "entrants.exposure_unknown", "gateway.look", row("permit", p.id)))
    return failures


def g21_requester(f: Facts) -> list[Failure]:
    """Who asks is signed in on a device of their own, and is the attendant: only the attendant removes the barrier."""
    failures, seen = [], row("person", f.by)
    if f.authenticated is not True or f.by not in f.people:
        failures.append(fail("G21", "requester.not_signed_in", "attendant.sign_in", seen))
    if not f.by or f.by != f.permit.attendant:
        failures.append(fail("G21", "attendant.not_you", "attendant.sign_in", seen))
    return failures
