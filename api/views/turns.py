"""The turns a reader may give a permit: which buttons they have, what each asks for, and why one cannot be pressed now.

Who has a button is who `api.rights` and the rule behind the route let; the rule itself is asked again when it is pressed.
"""

from collections.abc import Iterator

import msgspec

from api import second_signature, store
from api.rights import RIGHTS
from api.texts import failure_row, hour_and_minute
from api.views.permit import permit_head
from api.views.view import Row, View
from manway.entities import Permit, PermitState
from manway.ids import Role
from manway.permit import DUTIES, EXTENDABLE, HOLDING, OPEN, TERMINAL, extension_failures, hand_over_failures, reassesses

MINUTES = (30, 60, 120)
"""(choice) what a later end is asked for on a page; a program may ask for any."""


def turning(v: View, p: Permit) -> Row:
    """Return what waits for a second signature and the reader's own turns, the one that leads back to work (`first`) apart."""
    rows, sentences = turns(v, p), waiting(v, p)
    first = [row for row in rows if row["turn"] == "resume"]
    rest = [row for row in rows if row["turn"] != "resume"]
    return {"first": first, "turns": rest, "waiting": sentences, "turning": bool(rest or sentences)}


def turns(v: View, p: Permit) -> list[Row]:
    """Return a reader's buttons on a permit, in the order of its life; none that rights or duty do not give them."""
    return [*_interruption(v, p), *_later_end(v, p), *_duties(v, p), *_ending(v, p), *_stop(v, p)]


def _turn(v: View, p: Permit, turn: str, *, why: str = "", asks: tuple[str, ...] = (), duty: str = "", **more: object) -> Row:
    fixed = {"duty": duty} if duty else {"barrier": False} if turn == "suspend" else {}
    return {
        "key": f"{turn}-{duty}",
        "turn": turn,
        "url": f"/api/v1/permits/{p.id}/{turn}",
        "text": v.t(f"ui.turn.{turn}", duty=v.t(f"ui.{duty}") if duty else ""),
        "ok": not why,
        "why": why,
        "press": not asks or bool(why),
        "asks": dict.fromkeys(asks, True),
        "fixed": msgspec.json.encode(fixed).decode(),
    } | more


def _allowed(v: View, p: Permit, turn: str) -> bool:
    return RIGHTS[f"POST /api/v1/permits/{{permit}}/{turn}"].allows(v.person, p)


def _leads(v: View, p: Permit) -> bool:
    return v.person.id == p.supervisor or Role.MANAGER.value in v.person.roles


def _interruption(v: View, p: Permit) -> Iterator[Row]:
    limits, empty = v.office.limits, v.office.inside(v.spaces[p.space]) == 0
    if p.state in OPEN and _allowed(v, p, "suspend"):
        rule = limits.after_evacuation if p.state is PermitState.EVACUATING else limits.after_break
        asks = ("note",) if rule == "cancel" else ("barrier", "temporary", "note") if reassesses(rule) else ("barrier", "note")
        if not reassesses(rule) or _leads(v, p):
            why = "" if empty else v.t("ui.can.suspend")
            yield _turn(v, p, "suspend", why=why, asks=asks, lead=v.t(f"ui.turn.suspend.{rule}"))
    if p.state is PermitState.SUSPENDED and _allowed(v, p, "resume") and _leads(v, p):
        if "cancel" in (limits.after_evacuation, limits.after_break):
            why = v.t("failure.resume.never")
        elif p.hold is not None:
            why = v.t("failure.permit.held", reason=p.hold.reason)
        else:
            why = "" if empty and resume_ready(p) else v.t("ui.can.resume")
        yield _turn(v, p, "resume", why=why)


def resume_ready(p: Permit) -> bool:
    """Say whether a suspended permit was aired, tested and barred since it was interrupted."""
    return p.barrier and p.ventilated_at is not None and p.gas_test is not None and p.gas_test.passed


def _later_end(v: View, p: Permit) -> Iterator[Row]:
    if p.state in EXTENDABLE and v.person.id == p.supervisor and _allowed(v, p, "extend"):
        longest = v.office.limits.permit_max_s
        minutes = [m for m in MINUTES if p.end + m * 60 <= p.start + longest]
        failures = extension_failures(p, p.end + (minutes or MINUTES)[0] * 60, v.now, longest)
        why = failure_row(v.lang, failures[0], v.name)["text"] if failures else ""
        ends = [{"minutes": m, "text": hour_and_minute(p.end + m * 60)} for m in minutes]
        yield _turn(v, p, "extend", why=why, asks=("minutes", "reason"), ends=ends, lead=v.t("ui.turn.extend.lead"))


def _duties(v: View, p: Permit) -> Iterator[Row]:
    if p.state not in HOLDING or not _allowed(v, p, "handover"):
        return
    for duty in DUTIES:
        if v.person.id == (p.attendant if duty == "attendant" else p.supervisor):
            to = [{"id": x.id, "name": v.name(x.id)} for x in v.people.values() if not hand_over_failures(p, duty, x)]
            why = "" if to else v.t("ui.can.hand_over")
            lead = v.t("ui.turn.handover.lead")
            yield _turn(v, p, "handover", why=why, asks=("to",), duty=duty, to=to, lead=lead)


def _ending(v: View, p: Permit) -> Iterator[Row]:
    mine = v.person.id in {p.requester, p.supervisor} or {Role.APPROVER.value, Role.MANAGER.value} & set(v.person.roles)
    if p.state not in TERMINAL and mine and _allowed(v, p, "cancel"):
        empty = v.office.inside(v.spaces[p.space]) == 0
        why = "" if empty else v.t("ui.can.cancel")
        yield _turn(v, p, "cancel", why=why, asks=("reason",), lead=v.t("ui.turn.cancel.lead"))


def _stop(v: View, p: Permit) -> Iterator[Row]:
    if p.state not in TERMINAL and p.hold is None and _allowed(v, p, "hold"):
        yield _turn(v, p, "hold", asks=("reason",), lead=v.t("ui.turn.hold.lead"))
    if p.hold is not None and p.hold.by == v.person.id and _allowed(v, p, "release"):
        yield _turn(v, p, "release", asks=("reason",), lead=v.t("ui.turn.release.lead"))


# -- what waits for a second signature ------------------------------------------------------------------------------------


def waiting(v: View, p: Permit) -> list[Row]:
    """Return, one sentence each, what of a permit waits for somebody else, and whether an authority has stopped it."""
    rows = second_signature.waiting(v.db, v.office, p)
    told = []
    if p.hold is not None:
        told.append(v.t("ui.waiting.hold", by=v.name(p.hold.by), reason=p.hold.reason))
    if wanted := rows["extension"]:
        ask = msgspec.convert(wanted, second_signature.ExtensionRequest)
        told.append(v.t("ui.waiting.extension", end=hour_and_minute(ask.end), reason=ask.reason))
    if offered := rows["hand_over"]:
        offer = msgspec.convert(offered, second_signature.HandOver)
        told.append(v.t("ui.waiting.hand_over", duty=v.t(f"ui.{offer.duty}"), to=v.name(offer.to)))
    return [{"text": text} for text in told]


def offers(v: View) -> list[Row]:
    """Return the duties that somebody offers to the reader, each to be taken with a head-count."""
    rows = []
    for p in store.permits(v.db):
        offered = second_signature.waiting(v.db, v.office, p)["hand_over"] if p.state in HOLDING else None
        offer = msgspec.convert(offered, second_signature.HandOver | None)
        if offer is None or offer.to != v.person.id or not _allowed(v, p, "take-over"):
            continue
        by, good_until = offer.signatures[0].person, offer.signatures[0].at + second_signature.OFFER_S
        asks = v.t("ui.offer", by=v.name(by), duty=v.t(f"ui.{offer.duty}"))
        take = _turn(v, p, "take-over", asks=("inside",), duty=offer.duty, lead=v.t("ui.turn.take-over.lead"))
        rows.append(permit_head(v, p) | {"asks_you": asks, "good_until": good_until, "turns": [take]})
    return rows
