"""The check list of a permit: a named person says yes to one item, and the yes is kept with its photo and its time.

There is no way to confirm more than one item at once (MEM Order 13 art. 14: item by item).
"""

import msgspec
import sqlalchemy as sa

from api import desk, store, suspicions
from api.desk import refuse
from api.facts import photos_used
from api.office import Office
from manway.checks import is_photo, questions
from manway.entities import Confirmation, Evidence, Permit, PermitState, Person
from manway.events import ItemConfirmed

# While an opening may be asked for, or will be: not before the request stands, not in an evacuation, not after the work.
ASKED_IN = frozenset(
    {PermitState.SUBMITTED, PermitState.APPROVED, PermitState.READY, PermitState.ACTIVE, PermitState.SUSPENDED}
)


def confirm(
    db: sa.Connection, office: Office, by: Person, permit_id: str, item: str, evidence: str = "", taken_at: float | None = None
) -> Permit:
    """Keep a person's yes to one item of a permit; `evidence` is a photo's sha256 where the item wants one, else a note.

    `taken_at` is when the phone says that it took the photo (Unix seconds), None where it does not say.
    """
    permit = desk.permit_of(db, permit_id)
    space = desk.space_of(db, permit.space)
    if permit.state not in ASKED_IN:
        raise refuse("permit.wrong_state", "permit.look_at_state", state=permit.state.value, signal="confirm")
    question = next((q for q in questions(permit, space) if q.key == item), None)
    if question is None:
        raise refuse("item.unknown", "item.choose", item=item)
    clause, about = question.item.clause, question.subject
    if by.id not in question.by:
        raise refuse("item.not_yours", "item.ask", clause, by=", ".join(question.by))
    if question.item.photo and (not is_photo(evidence) or evidence in photos_used(db)):
        raise refuse("item.photo", "item.take_photo", clause, item=question.item.id, subject=about)
    given = Confirmation(item, by.id, office.now(), evidence)
    permit = msgspec.structs.replace(permit, confirmations=[*permit.confirmations, given], version=permit.version + 1)
    store.put_permit(db, permit)
    if question.item.photo:
        taken = given.at if taken_at is None else taken_at
        photo = Evidence(office.new_id(), "photo", evidence, taken, given.at, by.id, f"{permit.id} {item}")
        suspicions.of_photo(db, office, permit, photo)
    desk.note(db, office, ItemConfirmed, permit, by=by.id, cause=office.new_id(), item=item)
    return permit
