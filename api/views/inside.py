"""Who is inside a space and how they are, by when everybody must be out, and what lies over the space, in words.

Nothing is guessed: of a gateway that is silent, or a count that nobody knows, the page says just that.
"""

from api.views.view import Row, View
from manway.codec_mqtt import SpaceNow
from manway.entities import Permit, Space
from manway.space import Overlay

GATEWAY_LOST_S = 5.0  # `trust.md` §7.2
_OF_A_GAS = ("leave.gas_slope", "leave.stel", "leave.twa", "leave.shift")


def heard(v: View, space: Space) -> bool:
    """Say whether a space's gateway speaks, so that what it last said is about now."""
    age = v.office.pictures.age_s(space.site, v.now)
    return age is not None and age < GATEWAY_LOST_S


def leave_by(v: View, space: Space) -> Row:
    """Return the one countdown: `at` (Unix seconds, None = unknown or nobody) and why; `somebody` is or may be inside.

    Once everybody is ordered out, or in an emergency, it is `now`: no later time may stand there and look like permission.
    """
    here = v.here(space)
    if here is None or not heard(v, space):
        return {"at": None, "reason": "leave.unknown", "cause": v.t("ui.leave_by.silent"), "somebody": True, "now": False}
    if not here.leave_reason:
        return {"at": None, "reason": "", "cause": v.t("ui.leave_by.nobody"), "somebody": False, "now": False}
    if here.evacuating or here.overlay == Overlay.EMERGENCY.value:
        return {"at": None, "reason": "leave.ordered", "cause": v.t("ui.leave_by.ordered"), "somebody": True, "now": True}
    return {"at": here.leave_by, "reason": here.leave_reason, "cause": _cause(v, here), "somebody": True, "now": False}


def _cause(v: View, here: SpaceNow) -> str:
    of, _, gas = here.leave_object.rpartition("/")
    if here.leave_reason == "leave.unknown":
        what = v.t("ui.leave_by.count") if not here.known else " ".join(_called(v, x) for x in (of, gas) if x)
        return v.t("ui.leave_by.unknown", what=what)
    if here.leave_reason in _OF_A_GAS:
        words = v.t(here.leave_reason, gas=gas)
        return f"{words} · {v.name(of)}" if of in v.people else words
    words = v.t(here.leave_reason)
    return words if here.leave_reason == "leave.permit_end" else f"{words} · {_called(v, here.leave_object)}"


def _called(v: View, what: str) -> str:
    return v.name(what) if what in v.people else v.space_name(what)


def people(v: View, space: Space, permit: Permit | None = None) -> list[Row]:
    """Return everybody on a permit and everybody who is or may be inside: since when, and how they are."""
    here = v.here(space)
    inside = here.inside if here else {}
    named = permit.entrants if permit else []
    unwell, differ, exposed = (here.people, here.mismatch, here.exposed) if here else ({}, [], [])
    rows = []
    for person in dict.fromkeys([*named, *inside, *differ, *unwell]):
        state = unwell.get(person, "inside" if person in inside else "outside")
        rows.append(
            {
                "id": person,
                "name": v.name(person),
                "inside": person in inside,
                "since": inside.get(person),
                "state": state,
                "state_text": v.t(f"person_state.{state}"),
                "unwell": person in unwell,
                "exposed": person in exposed,
                "differs": person in differ,
                "stranger": permit is not None and person not in named,
            }
        )
    return rows


def overlay(v: View, space: Space) -> Row | None:
    """Return what lies over a space, and what that forbids, in words; None when nothing does."""
    here = v.here(space)
    if here is None or not here.overlay:
        return None
    key = f"overlay.{here.overlay}"
    return {"id": here.overlay, "text": v.t(key), "forbids": v.t(f"{key}.forbids")}


def recount(v: View, space: Space, permit: Permit) -> Row | None:
    """Return why everybody must be counted again by name, and who may be named; None while the count is known and agrees."""
    here = v.here(space)
    if here is None or (here.known and not here.mismatch):
        return None
    names = [v.name(person) for person in here.mismatch]
    return {
        "why": v.t("ui.recount.differ", people=", ".join(names)) if names else v.t("ui.recount.unknown"),
        "people": [{"id": row["id"], "name": row["name"]} for row in people(v, space, permit)],
        "mine": v.person.id == permit.attendant,
    }


def space_facts(v: View, space: Space) -> Row:
    """Return the same facts as the api's readers get them: people by id, times in Unix seconds, None = unknown."""
    here = v.here(space)
    if here is None:
        return {"state": None, "overlay": None, "known": False, "leave_by": None, "people": [], "instruments": []}
    leave = leave_by(v, space) | {"object": here.leave_object}
    shown = {name: leave[name] for name in ("at", "now", "reason", "object")}
    told = ("id", "since", "state", "exposed", "differs")
    return {
        "state": here.state,
        "overlay": here.overlay or None,
        "known": here.known,
        "evacuating": here.evacuating,
        "attendant_at": here.attendant_at,
        "leave_by": shown if leave["somebody"] else None,
        "people": [{name: row[name] for name in told} for row in people(v, space) if row["inside"] or row["unwell"]],
        "mismatch": here.mismatch,
        "exposed": here.exposed,
        "instruments": [{"device": i.device, "state": i.state, "poisoned": i.poisoned} for i in v.instruments(space)],
    }
