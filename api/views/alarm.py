"""Alarms: the banner on top of every page, a row in the list of open ones, and one episode in full."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from api import store
from api.emergency import opens_screen
from api.texts import hour_and_minute
from api.views.findings import findings_of_alarm
from api.views.gas import decimals, shown_unit
from api.views.view import QUIET, UNACKED, Row, View
from manway.alarm import ON, AlarmState
from manway.catalogue import CATALOGUE
from manway.codec_mqtt import AlarmNow
from manway.events import AnyEvent, RescueAsked
from manway.ids import Priority


def banner(v: View) -> Row:
    """Return what every page carries on top: counts, the worst alarm, the way to the emergency screen, how many are inside."""
    open_ = [(site, a) for site, a in v.alarms() if a.state not in QUIET]
    alarms = [a for _, a in open_]
    site_of = {a.id: site for site, a in open_}
    worst = min(alarms, key=lambda a: (a.priority, a.state not in UNACKED, -a.since), default=None)
    row: Row | None = None
    if worst is not None:
        row = {"id": worst.id, "priority": worst.priority, "text": _where_and_what(v, site_of[worst.id], worst)}
    spaces = [s for state in v.states.values() for s in state.spaces]
    # One unknown count makes the sum unknown: a number would be read as everybody.
    inside = sum(len(s.inside) for s in spaces) if all(s.known for s in spaces) else None
    return counts(alarms) | {"inside": inside, "worst": row, "emergencies": _emergencies(v, open_)}


def _emergencies(v: View, alarms: list[tuple[str, AlarmNow]]) -> list[Row]:
    """Return one way to the emergency screen for every space that has an alarm which opens it, the newest alarm's."""
    newest: dict[str, AlarmNow] = {}
    for _, a in sorted(alarms, key=lambda pair: pair[1].since):
        if opens_screen(a) and a.space in v.spaces:
            newest[a.space] = a
    return [{"id": a.id, "space": v.space_name(space), "what": v.t(f"alarm.{a.kind}")} for space, a in newest.items()]


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
        "space": v.place(site, a.space),
        "space_id": a.space or None,
        "site": v.site_name(site),
        "what": what(v, a),
        "inside": "—" if space is None else "?" if count is None else str(count),
        "since": a.since,
        "state": a.state,
        "state_text": v.t(f"alarm_state.{a.state}"),
        "who": v.name(a.acknowledged_by) if a.acknowledged_by else "",
        "count": a.count,
        "can_ack": a.state in UNACKED and bool(roles & {"attendant", "approver", "manager"}),
        "can_reset": a.state == "latched_acked" and bool(roles & {"approver", "manager"}),
        "can_shelve": "manager" in roles and _shelvable(a, count),
        "can_unshelve": "manager" in roles and a.state == AlarmState.SHELVED.value,
        "quiet": a.state in QUIET,
        "quiet_until": a.shelved_until,
        "quiet_by": v.name(a.shelved_by) if a.shelved_by else "",
        "quiet_why": a.shelve_reason or (v.t(f"ui.quiet.{a.state}") if a.state in QUIET else ""),
        "emergency": opens_screen(a) and space is not None,
        "incident": a.incident or a.id,
    }


def _shelvable(a: AlarmNow, count: int | None) -> bool:
    """Say whether the engine would shelve an alarm (`domain.md` 8.1): P3 or P4, and on; about life only where nobody is."""
    on = a.state in {state.value for state in ON}
    return on and a.priority >= Priority.P3 and (count == 0 or not CATALOGUE[a.kind].life_critical)


def alarm_groups(v: View) -> tuple[list[Row], list[Row]]:
    """Return the alarms that call for somebody, and those that are quiet (shelved, suppressed, out of service).

    Alarms of one space and incident stand together, in the place of the most urgent of them: it leads, the others follow.
    """
    rows = [(site, a) for site, a in v.alarms() if a.state not in QUIET]
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for site, a in rows:
        groups.setdefault((site, a.space, a.incident or a.id), []).append(alarm_row(v, site, a))
    loud = [row | {"follows": i > 0, "more": len(group) - 1 if i == 0 else 0} for group in groups.values()
            for i, row in enumerate(group)]  # fmt: skip
    quiet = [alarm_row(v, site, a) | {"follows": False, "more": 0} for site, a in v.alarms() if a.state in QUIET]
    return loud, quiet


def _where_and_what(v: View, site: str, a: AlarmNow) -> str:
    return f"{v.place(site, a.space)} · {what(v, a)}"


def what(v: View, a: AlarmNow) -> str:
    """Return an alarm in a few words: its number and limit; of an opening for rescue who asked, and whether with the code."""
    kind = v.t(f"alarm.{a.kind}")
    if a.kind == "EMERGENCY_OPEN":
        return kind + _asked(v, a)
    if a.value is None or a.limit is None:
        return kind
    gas = a.object.split("/")[-1]
    digits = decimals(v.office.limits.of(gas))
    sign = "<" if a.value < a.limit and gas == "O2" else ">" if a.value >= a.limit else "/"  # rising: not yet there
    return f"{kind} · {gas} {a.value:.{digits}f} {shown_unit(a.unit)} {sign} {a.limit:g}"


def _asked(v: View, a: AlarmNow) -> str:
    """Return what is known of the rescues asked for at the gateway's own page; nothing where the opening came otherwise."""
    rows = store.events(v.db, lambda c: (c.c.type == "RescueAsked") & (c.c.subject == a.object) & (c.c.at >= a.since))
    asked = [e for _, e in rows if isinstance(e, RescueAsked)]
    if not asked:
        return ""
    coded = v.t("panel.with_code" if all(e.coded for e in asked) else "panel.without_code")
    return f" · {v.t('ui.alarm.asked', by=asked[-1].by, coded=coded)}"


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
        "of_space": space is not None,
        "findings": findings_of_alarm(v, raised.site, alarm_id),
        "may_shelve": bool(row["can_shelve"] or row["can_unshelve"]),
        "quiet_note": _quiet_note(v, live) if live else "",
        "together": _together(v, live) if live else [],
        "chain": _chain(v, raised, by_type),
        "events": [{"at": e.at, "text": v.sentence(e)} for _, e in reversed(log)],
        "curve": {"space": fields["space"], "device": device, "gas": gas, "from": raised.at - 120, "to": end + 180}
        if gas
        else None,
        "reset_hint": v.t("ui.alarm.reset_hint"),
    }


def _quiet_note(v: View, a: AlarmNow) -> str:
    """Return why an alarm is quiet, by whom and until when, "" when it is not."""
    if a.state not in QUIET:
        return ""
    if a.shelved_until is None:
        return v.t(f"ui.quiet.{a.state}")
    return v.t("ui.quiet.until", time=hour_and_minute(a.shelved_until), by=v.name(a.shelved_by), reason=a.shelve_reason)


def _together(v: View, one: AlarmNow) -> list[Row]:
    """Return the other open alarms of the same space and incident."""
    return [alarm_row(v, site, a) for site, a in v.alarms()
            if a.id != one.id and a.incident and (a.space, a.incident) == (one.space, one.incident)]  # fmt: skip


def _closed(alarm_id: str, fields: Row) -> AlarmNow:
    known = {name: fields[name] for name in ("kind", "object", "space", "value", "limit", "unit", "clause")}
    base: Row = {"id": alarm_id, "state": "normal", "priority": int(str(fields["priority"])), "since": fields["at"], "count": 1,
                 "acknowledged_by": "", "holds": False}  # fmt: skip
    return msgspec.convert(base | known, AlarmNow)


def _chain(v: View, raised: AnyEvent, seen: dict[str, AnyEvent]) -> list[Row]:
    def step(key: str, event: AnyEvent | None, who: str = "") -> Row:
        return {"text": v.t(f"ui.chain.{key}"), "at": event.at if event else None, "who": who}

    ours = CATALOGUE[str(getattr(raised, "kind", ""))].writer == "api"
    gateway = v.states[raised.site].gw if raised.site in v.states else raised.site
    acked, reset, evacuated = seen.get("AlarmAcknowledged"), seen.get("AlarmReset"), seen.get("AlarmReturned")
    by = v.name(str(getattr(acked, "by", ""))) if acked else ""
    closed_by = v.name(str(getattr(reset, "by", ""))) if reset else ""
    return [
        step("sensed", raised, gateway if ours else str(getattr(raised, "object", ""))),
        step("ingested", raised, "" if ours else gateway),
        step("judged", raised, v.t("ui.chain.watchdog" if ours else "ui.chain.engine")),
        step("warned", raised, v.t("ui.chain.pages" if ours else "ui.chain.local")),
        step("decided", acked, by),
        step("handled", evacuated),
        step("fed_back", reset, closed_by),
    ]
