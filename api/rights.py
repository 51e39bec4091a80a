"""Routes x roles, one declarative table: the application registers from it, and a route outside it does not exist.

Cells: `y` may, `p` only when named on that permit (requester, supervisor, attendant, tester or entrant), `-` may not (403).
"""

import msgspec

from manway.entities import Permit, Person
from manway.ids import Role

_ORDER = (Role.WORKER, Role.ATTENDANT, Role.APPROVER, Role.MANAGER, Role.REGULATOR, Role.AUDITOR)

#                                                        W T A M R U
_TABLE = {
    "GET /worker": "y - - y - -",
    "GET /approvals": "- - y y - -",
    "GET /attendant": "- y - y - -",
    "GET /wall": "y y y y y y",
    "GET /alarms/{alarm}": "y y y y y y",
    "GET /alarms/{alarm}/emergency": "y y y y y y",
    "GET /alarms/{alarm}/brief.txt": "- y y y y y",
    "GET /spaces/{space}": "y y y y y y",
    "GET /locks/enrolments": "y y - y - -",
    "GET /api/v1/me": "y y y y y y",
    "GET /api/v1/stream": "y y y y y y",
    "GET /api/v1/commands/{command}": "y y y y y y",
    "GET /api/v1/limits": "y y y y y y",
    "GET /api/v1/openapi.json": "y y y y y y",
    "GET /api/v1/events": "y y y y y y",
    "GET /api/v1/spaces": "y y y y y y",
    "GET /api/v1/spaces/{space}/telemetry": "y y y y y y",
    "GET /api/v1/spaces/{space}/ledger": "y y y y y y",
    "GET /api/v1/spaces/{space}/gases": "y y y y y y",
    "GET /api/v1/alarms": "y y y y y y",
    "GET /api/v1/alarms/{alarm}/emergency": "y y y y y y",
    "GET /api/v1/alarms/{alarm}/brief": "- y y y y y",
    "GET /api/v1/permits": "y y y y y y",
    "GET /api/v1/permits/{permit}": "p y y y y y",
    "GET /api/v1/permits/{permit}/ledger": "y y y y y y",
    "GET /api/v1/permits/{permit}/checks": "p y y y y y",
    "GET /api/v1/permits/{permit}/preparation": "p y y y y y",
    "POST /api/v1/permits": "y y - y - -",
    "POST /api/v1/permits/{permit}/approve": "- - y y - -",
    "POST /api/v1/permits/{permit}/reject": "- - y y - -",
    "POST /api/v1/permits/{permit}/return": "- - y y - -",
    "PUT /api/v1/permits/{permit}/checklist/{item}": "p p - p - -",
    "POST /api/v1/permits/{permit}/ventilation": "p p - p - -",
    "POST /api/v1/permits/{permit}/gas-tests": "p p - p - -",
    "POST /api/v1/permits/{permit}/unlock": "- p - - - -",
    "POST /api/v1/permits/{permit}/close-out": "- p - - - -",
    "POST /api/v1/permits/{permit}/entries": "- p - - - -",
    "POST /api/v1/permits/{permit}/exits": "- p - - - -",
    "POST /api/v1/permits/{permit}/check-ins": "- p - - - -",
    "POST /api/v1/permits/{permit}/sos": "y y y y - -",
    "POST /api/v1/permits/{permit}/evacuate": "p p y y - -",
    "GET /api/v1/permits/{permit}/waiting": "p y y y y y",
    "POST /api/v1/permits/{permit}/recount": "- p - - - -",
    "POST /api/v1/permits/{permit}/suspend": "p p - y - -",
    "POST /api/v1/permits/{permit}/resume": "p p - y - -",
    "POST /api/v1/permits/{permit}/cancel": "p p y y - -",
    "POST /api/v1/permits/{permit}/extend": "p p - p - -",
    "POST /api/v1/permits/{permit}/approve-extension": "- - y y - -",
    "POST /api/v1/permits/{permit}/handover": "p p - p - -",
    "POST /api/v1/permits/{permit}/take-over": "y y - y - -",
    "POST /api/v1/permits/{permit}/hold": "- - - - y -",
    "POST /api/v1/permits/{permit}/release": "- - - - y -",
    "POST /api/v1/permits/{permit}/finish": "p p - y - -",
    "POST /api/v1/permits/{permit}/close": "p p - y - -",
    "POST /api/v1/emergency-openings": "y y y y - -",
    "GET /api/v1/locks/enrolments": "y y - y - -",
    "GET /api/v1/locks/enrolments/{enrolment}": "y y - y - -",
    "POST /api/v1/locks/enrolments": "- - - y - -",
    "POST /api/v1/locks/enrolments/{enrolment}/confirm": "- - - y - -",
    "POST /api/v1/locks/enrolments/{enrolment}/secret": "y y - y - -",
    "POST /api/v1/locks/enrolments/{enrolment}/withdraw": "- - - y - -",
    "GET /api/v1/keys/rotations": "- - - y - y",
    "POST /api/v1/keys/rotations": "- - - y - -",
    "POST /api/v1/keys/rotations/{rotation}/confirm": "- - - y - -",
    "POST /api/v1/alarms/{alarm}/brief": "- y y y - -",
    "POST /api/v1/alarms/{alarm}/acknowledge": "- y y y - -",
    "POST /api/v1/alarms/{alarm}/reset": "- - y y - -",
    "POST /api/v1/alarms/{alarm}/shelve": "- - - y - -",
    "POST /api/v1/alarms/{alarm}/unshelve": "- - - y - -",
}
PUBLIC = frozenset({
    "GET /", "GET /login", "POST /login", "POST /logout", "POST /lang", "POST /api/v1/sessions", "GET /healthz", "GET /readyz",
})  # fmt: skip


class Right(msgspec.Struct, frozen=True):
    """Who may use one route."""

    route: str
    cells: dict[Role, str]

    def allows(self, person: Person, permit: Permit | None = None) -> bool:
        """Say whether one of a person's roles opens the route, on this permit where the cell says so."""
        cells = {self.cells.get(Role(role), "-") for role in person.roles}
        return "y" in cells or ("p" in cells and permit is not None and named_on(permit, person.id))


RIGHTS = {route: Right(route, dict(zip(_ORDER, cells.split(), strict=True))) for route, cells in _TABLE.items()}


def named_on(permit: Permit, person: str) -> bool:
    """Say whether a person stands on a permit."""
    return person in {permit.requester, permit.supervisor, permit.attendant, permit.tester, *permit.entrants}
