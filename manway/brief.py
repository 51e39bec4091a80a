"""The incident brief 事故快报 and its follow-ups 续报, filled from the event log (`domain.md` §9).

Theory: a brief is data, field by field, each field a set of items with an identity. A follow-up is the difference to what
was reported before, so the reader of all of them knows what the log knows: `fold` puts them together again. What was once
reported of the log (alarms, measures taken) is never taken back, whatever a later picture lacks. Only people fill the ▢
fields.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from manway.emergency import Called, KitItem, Ranked, place_text
from manway.emergency_screen import GasNow, Moment, PersonSeen
from manway.entities import Permit, Space
from manway.events import AlarmEvent, AlarmRaised, PersonLeft

REPORT_WITHIN_S = 3600.0
"""One hour from the first word of an accident to the report to the authority (confirm) [RPT]; the countdown runs from the first
alarm of the incident, which is never later."""

Value = str | int | float | dict[str, str] | None


class Field(msgspec.Struct, frozen=True):
    """One field of the form. `by_hand` ▢: only a person fills it. `log`: what stood there once stays."""

    id: str
    by_hand: bool = False
    log: bool = False

    @property
    def label(self) -> str:
        """The key of its heading."""
        return f"brief.{self.id}"


FIELDS = (
    Field("report"),
    Field("place"),
    Field("space"),
    Field("permit"),
    Field("alarms", log=True),
    Field("trapped"),
    Field("rescued", log=True),
    Field("measures", log=True),
    Field("equipment"),
    Field("reinforcement"),
    Field("people_nearby", by_hand=True),
    Field("casualties", by_hand=True),
    Field("cause", by_hand=True),
    Field("support", by_hand=True),
    Field("reporter", by_hand=True),
)
"""The form, in its order."""


class Item(msgspec.Struct, frozen=True):
    """One line of a field: a text key and its parameters.

    A parameter named `…_at` is Unix seconds, one named `…_key` a text key; a dict is a name by language; None is unknown.
    """

    key: str
    params: dict[str, Value] = {}


class Brief(msgspec.Struct, frozen=True):
    """A report with everything known at `at`: field -> item id -> item.

    `number` 0 is the brief, n the state after follow-up n.
    """

    number: int
    at: float
    due_at: float
    items: dict[str, dict[str, Item]]


class Change(msgspec.Struct, frozen=True):
    """What is new or different in one field, and what is so no more, as it was last reported."""

    put: dict[str, Item]
    gone: dict[str, Item]


class FollowUp(msgspec.Struct, frozen=True):
    """Follow-up `number`: the fields that differ from the report before, and nothing else."""

    number: int
    at: float
    due_at: float
    changes: dict[str, Change]


class Incident(msgspec.Struct, frozen=True):
    """What a brief is made from. `alarms` are the incident's events, `people` are inside, `left` came out since it began.

    `by_hand` maps the ▢ fields to what a person wrote; `firm` is a name by language, `names` maps people to theirs.
    """

    number: str
    started_at: float
    firm: dict[str, str]
    space: Space
    permit: Permit | None
    names: dict[str, dict[str, str]]
    alarms: list[AlarmEvent]
    gas: list[GasNow]
    people: list[PersonSeen]
    count_known: bool
    left: list[PersonLeft]
    measures: list[Moment]
    kit: list[KitItem]
    nearest: list[Ranked] = []
    teams: list[Called] = []
    by_hand: dict[str, str] = {}


# -- making -------------------------------------------------------------------------------------------------------------


def brief(incident: Incident, now: float, previous: Brief | None = None) -> Brief:
    """Return everything known of an incident at `now` (Unix seconds), in the form's fields and order.

    `previous` is what was reported so far: a peak that the last minutes no longer show stays the peak.
    """
    i = incident
    place: dict[str, Value] = {"firm": i.firm, "address": i.space.address or None, "position": place_text(i.space.position)}
    filled: dict[str, dict[str, Item]] = {
        "report": {"number": Item("brief.item.report", {"number": i.number, "started_at": i.started_at})},
        "place": {"place": Item("brief.item.place", place)},
        "space": {"space": _space(i.space)},
        "permit": {"permit": _permit(i)},
        "alarms": _alarms(i.alarms, i.gas, previous.items["alarms"] if previous else {}),
        "trapped": _trapped(i),
        "rescued": {e.id: Item("brief.item.rescued", {"name": i.names.get(e.person), "out_at": e.at}) for e in i.left},
        "measures": {m.id: _measure(m) for m in i.measures},
        "equipment": {k.kind: _kit(k) for k in i.kit},
        "reinforcement": _reinforcement(i.nearest, i.teams),
    }
    written = {f.id: i.by_hand.get(f.id, "").strip() for f in FIELDS if f.by_hand}
    filled |= {field: {"text": Item("brief.item.text", {"text": text})} if text else {} for field, text in written.items()}
    return Brief(0, now, i.started_at + REPORT_WITHIN_S, {f.id: filled[f.id] for f in FIELDS})


def left_s(report: Brief | FollowUp, now: float) -> float:
    """Return the seconds left until the authority must have been told; below zero it is overdue."""
    return report.due_at - now


def _measure(moment: Moment) -> Item:
    return Item("brief.item.measure", {**moment.params, "what_key": moment.what, "done_at": moment.at, "by": moment.by or None})


def _space(space: Space) -> Item:
    params: dict[str, Value] = {
        "number": space.id,
        "name": space.name,
        "kind_key": f"kind.{space.kind}",
        "depth": space.depth_m,
        "width": space.width_m or None,  # 0 in the ledger: not measured
        "entrances": ", ".join(entrance.id for entrance in space.entrances),
    }
    return Item("brief.item.space", params)


def _permit(incident: Incident) -> Item:
    permit, names = incident.permit, incident.names
    if permit is None:
        return Item("brief.item.no_permit")
    approvers = [s.person for s in permit.signatures if s.step == "approver"]
    approver = names.get(approvers[-1]) if approvers else None
    params: dict[str, Value] = {"number": permit.number, "work": permit.work, "approver": approver}
    return Item("brief.item.permit", params | {"attendant": names.get(permit.attendant)})


def _trapped(incident: Incident) -> dict[str, Item]:
    items = {
        p.person: Item("brief.item.trapped", {"name": p.name, "entered_at": p.entered_at, "answer_at": p.answer_at})
        for p in incident.people
    }
    count = len(incident.people) if incident.count_known else None
    return {"count": Item("brief.item.count", {"count": count})} | items


def _kit(item: KitItem) -> Item:
    params: dict[str, Value] = {"what_key": f"equipment.{item.kind}", "state_key": f"emergency.kit.{item.state.value}"}
    return Item("brief.item.kit", params | {"here": item.here, "needed": item.needed})


def _reinforcement(near: Iterable[Ranked], teams: Iterable[Called]) -> dict[str, Item]:
    """Return what can come: gear that is in date and not the space's own, and teams."""
    found = {}
    for r in near:
        if r.in_date and not r.on_site:
            params: dict[str, Value] = {"what_key": f"equipment.{r.equipment.kind}", "quantity": r.equipment.quantity}
            params |= {"name": r.equipment.place, "metres": _metres(r.distance_m), "phone": r.equipment.phone or None}
            found[f"equipment:{r.equipment.id}"] = Item("brief.item.gear", params)
    for c in teams:
        team: dict[str, Value] = {"name": c.who.name, "metres": _metres(c.distance_m), "phone": c.who.phone or None}
        found[f"team:{c.who.id}"] = Item("brief.item.team", team)
    return found


def _metres(distance_m: float | None) -> int | None:
    return None if distance_m is None else round(distance_m)


# -- alarms -------------------------------------------------------------------------------------------------------------


def _alarms(alarms: Sequence[AlarmEvent], gas: Sequence[GasNow], before: Mapping[str, Item]) -> dict[str, Item]:
    """Return one line per kind and object: first time, peak (for low oxygen the lowest number), value now, trend."""
    now = {f"{g.device}/{g.gas}": g for g in gas}
    found: dict[str, Item] = {}
    for kind, obj in dict.fromkeys((a.kind, a.object) for a in alarms):
        mine = [a for a in alarms if (a.kind, a.object) == (kind, obj)]
        raised = [a for a in mine if isinstance(a, AlarmRaised)]
        live = now.get(obj)
        params: dict[str, Value] = {
            "kind_key": f"alarm.{kind}",
            "object": obj,
            "first_at": min(a.at for a in mine),
            "peak": _peak(raised, live, before.get(f"{kind}:{obj}")),
            "unit": next((a.unit for a in raised if a.unit), ""),
            "now": live.value if live else None,
            "trend_key": f"trend.{live.trend.value}" if live else "trend.unknown",
        }
        found[f"{kind}:{obj}"] = Item("brief.item.alarm", params)
    return found


def _peak(raised: Sequence[AlarmRaised], live: GasNow | None, before: Item | None) -> float | None:
    """Return the number farthest beyond the limit that reports, alarms, the last minutes or the value now have shown."""
    seen = [a.value for a in raised]
    below = any(a.value is not None and a.limit is not None and a.value < a.limit for a in raised)
    if live is not None:
        seen += [live.value, *(sample.value for sample in live.curve)]
        below = below or (live.broken is not None and live.broken.side == "below")
    if before is not None and isinstance(reported := before.params["peak"], int | float):
        seen.append(reported)
    numbers = [v for v in seen if v is not None and math.isfinite(v)]
    return (min if below else max)(numbers) if numbers else None


# -- follow-ups ---------------------------------------------------------------------------------------------------------


def follow_up(previous: Brief, now: Brief) -> FollowUp:
    """Return what `now` knows that `previous` (the brief, or the state after its last follow-up) did not say."""
    changes = {}
    for field in FIELDS:
        before, after = previous.items[field.id], now.items[field.id]
        put = {item: value for item, value in after.items() if before.get(item) != value}
        gone = {} if field.log else {item: value for item, value in before.items() if item not in after}
        if put or gone:
            changes[field.id] = Change(put, gone)
    return FollowUp(previous.number + 1, now.at, min(previous.due_at, now.due_at), changes)


def fold(previous: Brief, follow: FollowUp) -> Brief:
    """Return everything reported so far: a report with one follow-up laid over it."""
    nothing = Change({}, {})
    items = {}
    for field, before in previous.items.items():
        change = follow.changes.get(field, nothing)
        items[field] = {item: value for item, value in before.items() if item not in change.gone} | change.put
    return Brief(follow.number, follow.at, follow.due_at, items)


# -- text ---------------------------------------------------------------------------------------------------------------


def render(
    report: Brief | FollowUp, words: Callable[[str], str], clock: Callable[[float], str], *, language: str, now: float
) -> str:
    """Return a report as plain text: one field a line or block, ▢ where only a person can answer, the countdown at the top.

    Args:
        report: a brief, whole, or a follow-up, its differences only.
        words: text key -> text with {places}.
        clock: Unix seconds -> a time of day as people read it.
        language: which of a name's languages to take (zh, en).
        now: Unix seconds, for the countdown.
    """
    left = left_s(report, now)
    minutes = {"minutes": abs(int(left)) // 60}
    countdown = words("brief.left" if left >= 0 else "brief.overdue").format(**minutes)
    head = words("brief.title" if report.number == 0 else "brief.follow_up").format(number=report.number)
    lines = [f"{head} {clock(report.at)}", countdown]
    for field in FIELDS:
        if isinstance(report, Brief):
            lines += _block(field, report.items[field.id], {}, words, clock, language)
        elif (change := report.changes.get(field.id)) is not None:
            lines += _block(field, change.put, change.gone, words, clock, language)
    return "\n".join(lines)


def _block(
    field: Field,
    items: Mapping[str, Item],
    gone: Mapping[str, Item],
    words: Callable[[str], str],
    clock: Callable[[float], str],
    language: str,
) -> list[str]:
    box = "▢ " if field.by_hand else ""
    told = [_line(item, words, clock, language) for item in items.values()]
    told += [words("brief.gone").format(item=_line(item, words, clock, language)) for item in gone.values()]
    if not told:
        told = [] if field.by_hand else [words("brief.none")]
    label = f"{box}{words(field.label)}"
    return [f"{label}: {told[0]}", *(f"    {line}" for line in told[1:])] if told else [f"{label}:"]


def _line(item: Item, words: Callable[[str], str], clock: Callable[[float], str], language: str) -> str:
    shown = {name: _shown(name, value, words, clock, language) for name, value in item.params.items()}
    return words(item.key).format(**shown)


def _shown(name: str, value: Value, words: Callable[[str], str], clock: Callable[[float], str], language: str) -> str:
    match value:
        case None:
            return words("brief.unknown")
        case dict():
            return value.get(language) or next(iter(value.values()), words("brief.unknown"))
        case str():
            return words(value) if name.endswith("_key") else value
        case _ if name.endswith("_at"):
            return clock(value)
        case _:
            return f"{value:g}"
