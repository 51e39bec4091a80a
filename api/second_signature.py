"""What takes two people: a later end, and a duty that passes on. Between the two signatures it changes nothing of the permit.

A later end is a new approval (`domain.md` §3.5): the supervisor asks, whoever may approve this space signs, before the old end
passes. A duty is offered by who has it and taken with a head-count that agrees with the engine's (29 CFR 1926.1206).
"""

import msgspec
import sqlalchemy as sa

from api import audit, desk, store
from api.desk import refuse
from api.office import Office
from manway.checks import approver_failures, chain, chain_failures
from manway.codec_mqtt import encode
from manway.entities import Permit, Person, Signature
from manway.errors import ActionRefused
from manway.events import PermitAgreed, PermitExtended, PermitHandedOver
from manway.permit import extension_failures, hand_over_failures, head_count_failures

OFFER_S = 600.0  # (choice) a hand-over is done face to face at the opening; an offer of this morning is none


class ExtensionRequest(msgspec.Struct, frozen=True):
    """A later end that the supervisor asks for; `signatures` are those of this new approval, `open` until it is complete."""

    id: str
    permit: str
    end: float
    reason: str
    signatures: list[Signature]
    open: bool = True


class HandOver(msgspec.Struct, frozen=True):
    """A duty (attendant, supervisor) offered by who has it to `to`; `signatures` are the giver's and the taker's."""

    id: str
    permit: str
    duty: str
    to: str
    signatures: list[Signature]
    open: bool = True


# -- a later end ----------------------------------------------------------------------------------------------------------


def extend(
    db: sa.Connection, office: Office, by: Person, permit_id: str, minutes: float, reason: str
) -> tuple[Permit, ExtensionRequest]:
    """Ask for a later end, `minutes` behind the present one; the supervisor signs first, and a later request replaces it."""
    permit, now = desk.permit_of(db, permit_id), office.now()
    if by.id != permit.supervisor:
        raise refuse("permit.not_supervisor", "permit.ask_supervisor", "GB 46768-2025 5.2.1")
    end = permit.end + minutes * 60
    if failures := extension_failures(permit, end, now, office.limits.permit_max_s):
        raise ActionRefused(failures)
    wanted = ExtensionRequest(office.new_id(), permit.id, end, reason, [Signature("supervisor", by.id, now)])
    store.put(db, "ExtensionRequest", permit.id, wanted, site=permit.site)
    desk.note(db, office, PermitAgreed, permit, by=by.id, cause=wanted.id, reason=reason)
    return permit, wanted


def approve_extension(db: sa.Connection, office: Office, by: Person, permit_id: str, request: str) -> Permit:
    """Sign a later end as an approver, before the old one passes; the last signature of the chain makes it so."""
    permit, now = desk.permit_of(db, permit_id), office.now()
    wanted = store.get(db, ExtensionRequest, permit.id)
    if wanted is None or not wanted.open or wanted.id != request:
        raise refuse("extension.none", "extension.ask")
    others = {permit.requester, permit.supervisor, permit.attendant, *permit.entrants, *(s.person for s in wanted.signatures)}
    if by.id in others:
        raise refuse("approval.same_person", "approval.get_another", "GB 46768-2025 5.2.1")
    failures = approver_failures(by, desk.space_of(db, permit.space), now)
    failures += extension_failures(permit, wanted.end, now, office.limits.permit_max_s)
    signed = [*wanted.signatures, Signature("approver", by.id, now)]
    complete = [s.step for s in signed] == chain(permit)
    if complete:
        people = {p.id: p for p in store.every(db, Person)}
        failures += chain_failures(msgspec.structs.replace(permit, signatures=signed), people)
    if failures:
        raise ActionRefused(failures)
    wanted = msgspec.structs.replace(wanted, signatures=signed, open=not complete)
    store.put(db, "ExtensionRequest", permit.id, wanted, site=permit.site)
    audit.append(db, now, by.id, "ExtensionApproved", permit.id, encode(wanted))
    return _lengthen(db, office, permit, wanted, by) if complete else permit


def _lengthen(db: sa.Connection, office: Office, permit: Permit, wanted: ExtensionRequest, by: Person) -> Permit:
    permit = msgspec.structs.replace(permit, end=wanted.end, version=permit.version + 1)
    try:
        store.put_permit(db, permit)
    except sa.exc.IntegrityError as error:
        if "permit_overlap" not in str(error):
            raise
        raise refuse("permit.another_open", "permit.close_other", "MEM Order 13 art. 6", permit=permit.number) from error
    desk.note(db, office, PermitExtended, permit, by=by.id, cause=wanted.id, reason=wanted.reason, end=wanted.end)
    return permit


# -- a duty passes on -----------------------------------------------------------------------------------------------------


def offer_duty(db: sa.Connection, office: Office, by: Person, permit_id: str, duty: str, to: str) -> HandOver:
    """Offer the own duty of attendant or supervisor to another person; it stays where it is until they take it."""
    permit, now = desk.permit_of(db, permit_id), office.now()
    _has_duty(permit, duty, by.id)
    taker = store.get(db, Person, to)
    if taker is None:
        raise refuse("form.unknown_person", "form.choose_person", person=to)
    if failures := hand_over_failures(permit, duty, taker):
        raise ActionRefused(failures)
    offer = HandOver(office.new_id(), permit.id, duty, to, [Signature("offered", by.id, now)])
    store.put(db, "HandOver", permit.id, offer, site=permit.site)
    audit.append(db, now, by.id, "HandOverOffered", permit.id, encode(offer))
    return offer


def take_duty(db: sa.Connection, office: Office, by: Person, permit_id: str, duty: str, counted: int) -> Permit:
    """Take an offered duty with a head-count that agrees with the engine's: the second signature of a hand-over."""
    permit, now = desk.permit_of(db, permit_id), office.now()
    offer = _offer(db, office, permit)
    if offer is None or (offer.duty, offer.to) != (duty, by.id):
        raise refuse("hand_over.none", "hand_over.offer_again", "29 CFR 1926.1206")
    _has_duty(permit, duty, offer.signatures[0].person)
    failures = hand_over_failures(permit, duty, by)
    failures += head_count_failures(counted, office.inside(desk.space_of(db, permit.space)))
    if failures:
        raise ActionRefused(failures)
    taken = Signature("taken", by.id, now)
    offer = msgspec.structs.replace(offer, signatures=[*offer.signatures, taken], open=False)
    store.put(db, "HandOver", permit.id, offer, site=permit.site)
    permit = msgspec.structs.replace(permit, version=permit.version + 1)
    if duty == "attendant":
        permit = msgspec.structs.replace(permit, attendant=by.id)
    else:  # who signed the request stands there for ever; who took the work over signs below
        signed = [*permit.signatures, Signature("hand_over", by.id, now)]
        permit = msgspec.structs.replace(permit, supervisor=by.id, signatures=signed)
    store.put_permit(db, permit)
    audit.append(db, now, by.id, "HandOverTaken", permit.id, encode(offer))
    desk.note(db, office, PermitHandedOver, permit, by=by.id, cause=offer.id, role=duty, person=by.id)
    return permit


def _offer(db: sa.Connection, office: Office, permit: Permit) -> HandOver | None:
    """Return the hand-over that waits for its second signature; an old one lapses."""
    offer = store.get(db, HandOver, permit.id)
    lives = offer is not None and offer.open and office.now() <= offer.signatures[0].at + OFFER_S
    return offer if lives else None


def _has_duty(permit: Permit, duty: str, person: str) -> None:
    if person != (permit.attendant if duty == "attendant" else permit.supervisor):
        raise refuse("hand_over.not_yours", "hand_over.by_present", "29 CFR 1926.1206")


# -- what waits -----------------------------------------------------------------------------------------------------------


def waiting(db: sa.Connection, office: Office, permit: Permit) -> dict[str, object]:
    """Return what still needs a second signature on a permit, and whether an authority has stopped it."""
    wanted = store.get(db, ExtensionRequest, permit.id)
    asks = wanted is not None and wanted.open and office.now() < permit.end
    rows = {"extension": wanted if asks else None, "hand_over": _offer(db, office, permit), "hold": permit.hold}
    return {name: None if row is None else msgspec.to_builtins(row) for name, row in rows.items()}
