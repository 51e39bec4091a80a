"""Alarms: the banner on top of every page, a row in the list of open ones, and one episode in full."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from api import store
from api.views.gas import shown_unit
from api.views.view import UNACKED, Row, View
from manway.codec_mqtt import AlarmNow
from manway.events import AnyEvent
from manway.ids import Priority


def banner(v: View) -> Row:
    """Return what every page carries on top: counts, the worst alarm, how many are inside."""
    alarms = [a for _, a in v.alarms()]
    worst = min(alarms, key=lambda a: (a.priority, a.state not in UNACKED, -a.since), default=None)
    row = None if worst is None else {"id": worst.id, "priority": worst.priority, "text": _where_and_what(v, worst)}
    inside = sum(len(s.inside) for state in v.states.values() for s in state.spaces)
    return counts(alarms) | {"inside": inside, "worst": row}


def counts(alarms: Iterable[AlarmNow]) -> Row:
    """Return how many alarms there are of each priority, `p1` to `p4`."""
    number = Counter(a.priority for a in alarms)
    return {f"p{p.value}": number[p] for p in Priority}


def alarm_row(v: View, site: str, a: AlarmNow) -> Row:
    """Return an alarm as a list shows it, with what the reader may do about it."""
    roles = set(v.person.roles)
    space = v.spaces.get(a.space)
    count = v.inside(space) if space else None
    return {
        "id": a.id,
        "priority": a.priority,
        "word": v.t(f"priority.{a.priority}"),
        "space": v.space_name(a.space),
        "space_id": a.space,
        "site": v.site_name(site),
        "what": _what(v, a),
        "inside": "?" if count is None else str(count),
        "since": a.since,
        "state": a.state,
        "state_text": v.t(f"alarm_state.{a.state}"),
        "who": v.name(a.acknowledged_by) if a.acknowledged_by else "",
        "count": a.count,
        "can_ack": a.state in UNACKED and bool(roles & {"attendant", "approver", "manager"}),
        "can_reset": a.state == "latched_acked" and bool(roles & {"approver", "manager"}),
    }


def _where_and_what(v: View, a: AlarmNow) -> str:
    return f"{v.space_name(a.space)} · {_what(v, a)}"


def _what(v: View, a: AlarmNow) -> str:
    what = v.t(f"alarm.{a.kind}")
    if a.value is None or a.limit is None:
        return what
    gas = a.object.split("/")[-1]
    sign = "<" if a.value < a.limit and gas == "O2" else ">"
    return f"{what} · {gas} {a.value:.1f} {shown_unit(a.unit)} {sign} {a.limit:g}"


def alarm(v: View, alarm_id: str) -> Row | None:
    """Return one alarm episode: what, why, who is inside, what to do, what has happened; None when there is none."""
    log = store.events(v.db, lambda c: c.c.subject == alarm_id)
    raised = next((e for _, e in log if type(e).__name__ == "AlarmRaised"), None)
    if raised is None:
        return None
    fields: Row = msgspec.structs.asdict(raised)
    kind, obj = str(fields["kind"]), str(fields["object"])
    space = v.spaces.get(str(fields["space"]))
    live = next((a for _, a in v.alarms() if a.id == alarm_id), None)
    row = alarm_row(v, raised.site, live or _closed(alarm_id, fields))
    device, _, gas = obj.partition("/")
    by_type = {type(e).__name__: e for _, e in reversed(log)}
    end = max((e.at for _, e in log), default=raised.at)
    return row | {
        "title": v.t(f"alarm.{kind}"),
        "meaning": v.t(f"alarm.{kind}.meaning"),
        "why": str(fields["clause"]),
        "do": v.t(f"alarm.{kind}.do").split("\n"),
        "inside": v.people_inside(space) if space else [],
        "inside_count": v.inside(space) if space else None,
        "chain": _chain(v, raised, by_type),
        "events": [{"at": e.at, "text": v.sentence(e)} for _, e in reversed(log)],
        "curve": {"space": fields["space"], "device": device, "gas": gas, "from": raised.at - 120, "to": end + 180}
        if gas
        else None,
        "reset_hint": v.t("ui.alarm.reset_hint"),
    }


def _closed(alarm_id: str, fields: Row) -> AlarmNow:
    known = {name: fields[name] for name in ("kind", "object", "space", "value", "limit", "unit", "clause")}
    base: Row = {"id": alarm_id, "state": "normal", "priority": int(str(fields["priority"])), "since": fields["at"], "count": 1,
                 "acknowledged_by": "", "holds": False}  # fmt: skip
    return msgspec.convert(base | known, AlarmNow)


def _chain(v: View, raised: AnyEvent, seen: dict[str, AnyEvent]) -> list[Row]:
    def step(key: str, event: AnyEvent | None, who: str = "") -> Row:
        return {"text": v.t(f"ui.chain.{key}"), "at": event.at if event else None, "who": who}

    acked, reset, evacuated = seen.get("AlarmAcknowledged"), seen.get("AlarmReset"), seen.get("AlarmReturned")
    by = v.name(str(getattr(acked, "by", ""))) if acked else ""
    closed_by = v.name(str(getattr(reset, "by", ""))) if reset else ""
    return [
        step("sensed", raised, str(getattr(raised, "object", ""))),
        step("ingested", raised, v.states[raised.site].gw if raised.site in v.states else raised.site),
        step("judged", raised, v.t("ui.chain.engine")),
        step("warned", raised, v.t("ui.chain.local")),
        step("decided", acked, by),
        step("handled", evacuated),
        step("fed_back", reset, closed_by),
    ]
