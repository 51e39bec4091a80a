"""The check list of a permit as a page shows it: grouped by block, one yes an item, and who may say it."""

import math
from urllib.parse import quote

from api.confirmations import ASKED_IN
from api.facts import photos_used
from api.texts import item_text
from api.views.view import Row, View
from manway.checks import BLOCKS, Question, answer, good_until, judge_item, questions
from manway.entities import Permit

_STATES = {"item.unanswered": "open", "item.too_old": "old", "item.photo": "photo"}


def check_list(v: View, p: Permit) -> Row:
    """Return every item a permit asks, in blocks, with how many are left and how many of them are the reader's."""
    used = photos_used(v.db, besides=p.id)
    rows = [_item(v, p, question, used) for question in questions(p, v.spaces[p.space])]
    blocks = [
        {"id": block, "text": v.t(f"block.{block}"), "items": mine}
        for block in BLOCKS
        if (mine := [row for row in rows if row["block"] == block])
    ]
    left = [row for row in rows if row["state"] != "good"]
    return {
        "blocks": blocks,
        "left": len(left),
        "mine": sum(1 for row in left if row["yes"]),
        "open": bool(left) and p.state in ASKED_IN,
    }


def _item(v: View, p: Permit, question: Question, used: frozenset[str]) -> Row:
    item, given = question.item, answer(p, question)
    failures = judge_item(question, p, v.now, v.office.timings, used)
    state = _STATES[failures[0].key] if failures else "good"
    until = None if given is None else good_until(question, given, v.office.timings)
    mine = v.person.id in question.by
    return {
        "id": question.key,
        "url": f"/api/v1/permits/{p.id}/checklist/{quote(question.key, safe='')}",
        "good": state == "good",
        "block": item.block,
        "text": item_text(v.lang, item.id, question.subject, v.name) + _details(v, p, question),
        "by": ", ".join(v.name(person) for person in question.by),
        "who": ", ".join(v.t(f"ui.{part}") for part in item.by),
        "mine": mine,
        "yes": mine and state != "good" and p.state in ASKED_IN,
        "state": state,
        "state_text": v.t(f"ui.item.{state}"),
        "at": None if given is None else given.at,
        "until": until if until is not None and math.isfinite(until) else None,
        "check": item.check,
        "clause": item.clause,
        "photo": ("simulated" if v.office.yard else "camera") if item.photo else "",
        "press": v.t(_press(v, photo=item.photo)),
    }


def _press(v: View, *, photo: bool) -> str:
    if not photo:
        return "ui.items.yes"
    return "ui.items.yes_simulated" if v.office.yard else "ui.items.yes_photo"


def _details(v: View, p: Permit, question: Question) -> str:
    """Return what the rescue kit is held against: the list of the space."""
    kit = v.spaces[p.space].rescue_kit
    if question.item.id != "rescue_kit" or not kit:
        return ""
    return " (" + ", ".join(f"{v.t(f'rescue_kit.{kind}')} {quantity}" for kind, quantity in kit.items()) + ")"
