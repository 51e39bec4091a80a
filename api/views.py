"""What each page shows, as plain values in the reader's language; the page and its live updates use the same function."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa

from api import store
from api.desk import space_of
from api.gas_view import gas_rows
from api.office import Office, fan_running
from api.texts import failure_row, text
from manway.checks import points_needed
from manway.codec_mqtt import AlarmNow, InstrumentNow, LockNow, SiteState, SpaceNow
from manway.entities import Lock, Permit, PermitState, Person, SiteEntry, Space
from manway.events import AnyEvent, GrantRefused
from manway.ids import Priority
from manway.permit import HOLDING, OPEN, TERMINAL
from manway.topics import root

Row = dict[str, object]
Stored = Callable[[str], int]  # device -> torn frames in the telemetry store
GATEWAY_LOST_S = 5.0  # `trust.md` §7.2
UNACKED = ("unacked", "returned_unacked", "latched_unacked")


class View:
    """One reader's look at the records: person, language, and one consistent read."""

    def __init__(self, office: Office, db: sa.Connection, person: Person, lang: str) -> None:
        self.office, self.db, self.person, self.lang = office, db, person, lang
        self.now = office.now()
        self.spaces = {s.id: s for s in store.every(db, Space)}
        self.sites = {s.id: s for s in store.every(db, SiteEntry)}
        self.people = {p.id: p for p in store.every(db, Person)}
        self.states: dict[str, SiteState] = dict(office.pictures.state)

    def t(self, key: str, /, **params: object) -> str:
        """Return a text in the reader's language."""
        return text(self.lang, key, **params)

    def name(self, person: str) -> str:
        """Return a person's name, or the id of somebody unknown."""
        known = self.people.get(person)
        return known.name.get(self.lang, known.id) if known else person

    def space_name(self, space: str) -> str:
        """Return a space's name."""
        known = self.spaces.get(space)
        return known.name.get(self.lang, known.id) if known else space

    def site_name(self, site: str) -> str:
        """Return a site's name."""
        known = self.sites.get(site)
        return known.name.get(self.lang, site) if known else site

    def here(self, space: Space) -> SpaceNow | None:
        """Return who is inside a space, as its gateway knows it."""
        state = self.states.get(space.site)
        return next((s for s in state.spaces if s.space == space.id), None) if state else None

    def inside(self, space: Space) -> int | None:
        """Return the count, None when unknown."""
        here = self.here(space)
        return len(here.inside) if here is not None and here.known else None

    def locks(self, space: Space) -> list[LockNow]:
        """Return the reported locks of a space."""
        state = self.states.get(space.site)
        return [x for x in state.locks if x.space == space.id] if state else []

    def instruments(self, space: Space) -> list[InstrumentNow]:
        """Return the instruments working in a space."""
        state = self.states.get(space.site)
        return [i for i in state.instruments if i.space == space.id] if state else []

    def alarms(self) -> list[tuple[str, AlarmNow]]:
        """Return every open alarm with its site: unacknowledged first, then worst, then newest."""
        rows = [(site, a) for site, state in self.states.items() for a in state.alarms]
        return sorted(rows, key=lambda r: (r[1].state not in UNACKED, r[1].priority, -r[1].since))

    def gases(self, space: Space, device: str | None = None) -> list[Row]:
        """Return the gas rows of a space's instrument (the first, or the one named)."""
        for instrument in self.instruments(space):
            if device in (None, instrument.device):
                return gas_rows(self.lang, instrument, space.required_gases, self.office.limits, self.office.pictures.trend)
        return []

    def sentence(self, event: AnyEvent) -> str:
        """Return an event as one sentence: people and spaces by name."""
        fields: Row = msgspec.structs.asdict(event)
        for key in ("person", "by", "holder"):
            if isinstance(fields.get(key), str) and fields[key]:
                fields[key] = self.name(str(fields[key]))
        if fields.get("space"):
            fields["space"] = self.space_name(str(fields["space"]))
        if "kind" in fields and isinstance(fields["kind"], str):
            fields["kind"] = self.t(f"alarm.{fields['kind']}")
        reason = str(fields.get("reason", ""))
        if reason:
            for prefix in ("refusal", "reason"):
                if (known := self.t(f"{prefix}.{reason}")) != f"{prefix}.{reason}":
                    fields["reason"] = known
        return self.t(f"event.{type(event).__name__}", **fields)


def banner(v: View) -> Row:
    """Return what every page carries on top: counts, the worst alarm, how many are inside."""
    alarms = v.alarms()
    counts: Row = {f"p{p}": sum(1 for _, a in alarms if a.priority == p) for p in range(1, 5)}
    worst = min(alarms, key=lambda r: (r[1].priority, r[1].state not in UNACKED, -r[1].since), default=None)
    row = None if worst is None else {"id": worst[1].id, "priority": worst[1].priority, "text": _what(v, worst[1], place=True)}
    inside = sum(len(s.inside) for state in v.states.values() for s in state.spaces)
    return counts | {"inside": inside, "worst": row}


def _what(v: View, alarm: AlarmNow, *, place: bool = False) -> str:
    what = v.t(f"alarm.{alarm.kind}")
    if alarm.value is not None and alarm.limit is not None:
        gas = alarm.object.split("/")[-1]
        sign = "<" if alarm.value < alarm.limit and gas == "O2" else ">"
        unit = alarm.unit.replace("m3", "m³")
        what = f"{what} · {gas} {alarm.value:.1f} {unit} {sign} {alarm.limit:g}"
    return f"{v.space_name(alarm.space)} · {what}" if place else what


def _alarm_row(v: View, site: str, a: AlarmNow) -> Row:
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


def wall(v: View) -> Row:
    """Return the safety manager's wall: every open alarm, every space."""
    alarms = [_alarm_row(v, site, a) for site, a in v.alarms()]
    permits = [p for p in store.permits(v.db) if p.state in HOLDING]
    counts: Row = {f"p{p}": sum(1 for a in alarms if a["priority"] == p) for p in range(1, 5)}
    tiles = [_tile(v, space, permits) for space in v.spaces.values()]
    return {
        "counts": counts,
        "inside": sum(int(str(t["inside"])) for t in tiles if t["inside"] is not None),
        "jobs": sum(1 for p in permits if p.state in OPEN),
        "alarms": alarms,
        "sites": [{"id": s, "name": v.site_name(s)} for s in sorted({s.site for s in v.spaces.values()})],
        "tiles": tiles,
    }


def _tile(v: View, space: Space, permits: list[Permit]) -> Row:
    gases = v.gases(space)
    worst = max(gases, key=_badness, default=None)
    instrument = next(iter(v.instruments(space)), None)
    lock = next(iter(v.locks(space)), None)
    permit = next((p for p in permits if p.space == space.id), None)
    state = v.states.get(space.site)
    mine = [a.priority for a in state.alarms if a.space == space.id] if state else []
    inside = v.inside(space)
    return {
        "id": space.id,
        "name": v.space_name(space.id),
        "site": space.site,
        "site_name": v.site_name(space.site),
        "kind_text": v.t(f"kind.{space.kind}"),
        "inside": inside,
        "occupied": inside != 0,
        "priority": min(mine, default=0),
        "worst": worst,
        "at": instrument.at if instrument and instrument.at else None,
        "lock": lock.position if lock else "unknown",
        "lock_text": v.t(f"lock_position.{lock.position if lock else 'unknown'}"),
        "permit_number": permit.number if permit else None,
        "permit_state": permit.state.value if permit else None,
        "permit_text": v.t(f"permit_state.{permit.state.value}") if permit else None,
        "drill": permit.drill if permit else False,
    }


def _badness(gas: Row) -> tuple[int, float]:
    level = gas["level"]
    fraction = gas["fraction"]
    return (-1 if level is None else int(str(level)), float(str(fraction)))


def approvals(v: View) -> Row:
    """Return what waits for an approver, with what speaks for and against it."""
    every = store.permits(v.db)
    waiting = [_waiting(v, p) for p in every if p.state is PermitState.SUBMITTED]
    decided = [p for p in every if len(p.signatures) > 1 or p.state is PermitState.REJECTED]
    return {"waiting": waiting, "decided": [_decided(v, p) for p in reversed(decided[-10:])]}


def _waiting(v: View, p: Permit) -> Row:
    space = v.spaces[p.space]
    own = v.person.id == p.requester
    state = v.states.get(space.site)
    open_p1 = [a for a in state.alarms if a.space == space.id and a.priority == Priority.P1] if state else []
    live = any(not i.lost and i.at and v.now - i.at < v.office.timings.live_reading_s for i in v.instruments(space))
    items = [
        {"text": v.t("ui.approvals.item.agreed"), "ok": bool(p.signatures), "detail": v.name(p.supervisor)},
        {"text": v.t("ui.approvals.item.no_alarm"), "ok": not open_p1 if state else None, "detail": ""},
        {"text": v.t("ui.approvals.item.instrument"), "ok": live, "detail": ", ".join(p.instruments)},
        {"text": v.t("ui.approvals.item.attendant"), "ok": p.attendant not in p.entrants, "detail": v.name(p.attendant)},
    ]
    return {
        "id": p.id,
        "number": p.number,
        "drill": p.drill,
        "space": v.space_name(p.space),
        "space_id": p.space,
        "hazards": [v.t(f"hazard.{h}") for h in space.hazards],
        "work": p.work,
        "requester": v.name(p.requester),
        "supervisor": v.name(p.supervisor),
        "attendant": v.name(p.attendant),
        "tester": v.name(p.tester),
        "entrants": [v.name(e) for e in p.entrants],
        "start": p.start,
        "end": p.end,
        "submitted_at": p.signatures[0].at if p.signatures else p.start,
        "items": items,
        "can_approve": not own,
        "why_not": v.t("failure.approval.same_person") if own else "",
    }


def _decided(v: View, p: Permit) -> Row:
    last = p.signatures[-1] if p.signatures else None
    return {
        "id": p.id,
        "number": p.number,
        "space": v.space_name(p.space),
        "state": p.state.value,
        "state_text": v.t(f"permit_state.{p.state.value}"),
        "by": v.name(last.person) if last else "",
        "at": last.at if last else p.start,
    }


def worker(v: View) -> Row:
    """Return what a worker may ask for, and one sentence on each of the own permits."""
    busy = {p.space: p for p in store.permits(v.db) if p.state in HOLDING or p.state is PermitState.SUBMITTED}

    def role(name: str) -> list[Row]:
        return [{"id": p.id, "name": v.name(p.id)} for p in v.people.values() if name in p.roles]

    spaces: list[Row] = [
        {
            "id": s.id,
            "name": v.space_name(s.id),
            "kind_text": v.t(f"kind.{s.kind}"),
            "hazards": [v.t(f"hazard.{h}") for h in s.hazards],
            "gases": s.required_gases,
            "free": s.id not in busy,
            "why_not": v.t("ui.worker.busy", number=busy[s.id].number) if s.id in busy else "",
        }
        for s in v.spaces.values()
    ]
    mine = [p for p in store.permits(v.db) if v.person.id in {p.requester, *p.entrants}]
    return {
        "spaces": sorted(spaces, key=lambda s: not s["free"]),
        "attendants": role("attendant"),
        "testers": role("attendant"),
        "entrants": role("worker"),
        "permits": [_own(v, p) for p in reversed(mine[-6:])],
    }


def _own(v: View, p: Permit) -> Row:
    verdict, sentence = _verdict(v, p)
    return {
        "id": p.id,
        "number": p.number,
        "space": v.space_name(p.space),
        "work": p.work,
        "state": p.state.value,
        "state_text": v.t(f"permit_state.{p.state.value}"),
        "verdict": verdict,
        "sentence": sentence,
        "until": p.end if verdict == "go" else None,
        "steps": _steps(v, p),
    }


def _verdict(v: View, p: Permit) -> tuple[str, str]:
    space = v.spaces[p.space]
    state = v.states.get(space.site)
    open_p1 = [a for a in state.alarms if a.space == space.id and a.priority == Priority.P1] if state else []
    age = v.office.pictures.age_s(space.site, v.now)
    opened = any(x.used_kind >= 2 for x in v.locks(space))  # noqa: PLR2004  ENTRY or EMERGENCY
    heard = age is not None and age < GATEWAY_LOST_S
    if p.state is PermitState.ACTIVE and not open_p1 and v.now < p.end and opened and heard:
        return "go", v.t("enter.may", time=datetime.fromtimestamp(p.end, UTC).astimezone().strftime("%H:%M"))
    if p.state in TERMINAL or p.state in (PermitState.EVACUATING, PermitState.SUSPENDED, PermitState.CLOSING) or open_p1:
        reason = v.t(f"alarm.{open_p1[0].kind}") if open_p1 else v.t(f"permit_state.{p.state.value}")
        return "stop", v.t("enter.not", reason=reason)
    if p.state is PermitState.ACTIVE:
        return "stop", v.t("enter.not", reason=v.t("ui.worker.not_confirmed"))
    who = v.t("role.approver") if p.state is PermitState.SUBMITTED else v.name(p.attendant)
    return "wait", v.t("enter.wait", who=who)


def _steps(v: View, p: Permit) -> list[Row]:
    approved = next((s for s in p.signatures if s.step == "approver"), None)
    test = p.gas_test
    entered = p.state in OPEN or p.state in (PermitState.SUSPENDED, PermitState.CLOSING, PermitState.CLOSED)

    def row(key: str, at: float | None, detail: str = "", *, done: bool) -> Row:
        return {"key": key, "text": v.t(f"ui.step.{key}"), "done": done, "at": at, "detail": detail}

    return [
        row(
            "approval",
            approved.at if approved else None,
            v.name(approved.person) if approved else "",
            done=approved is not None,
        ),
        row("vent", p.ventilated_at, done=p.ventilated_at is not None),
        row("test", test.at if test else None, v.name(test.tester) if test else "", done=bool(test and test.passed)),
        row("entry", None, done=entered),
    ]


def attendant(v: View, permit: str = "") -> Row:
    """Return the attendant's desk: the permits one attends, and the chosen one in full."""
    mine = [
        p for p in store.permits(v.db) if p.state in HOLDING and (p.attendant == v.person.id or "manager" in v.person.roles)
    ]
    one = next((p for p in mine if p.id == permit), None) or next(
        (p for p in mine if p.state in OPEN), mine[0] if mine else None
    )
    rows: list[Row] = [
        {
            "id": p.id,
            "number": p.number,
            "space": v.space_name(p.space),
            "state": p.state.value,
            "state_text": v.t(f"permit_state.{p.state.value}"),
            "current": one is not None and p.id == one.id,
        }
        for p in mine
    ]
    return {"permits": rows, "one": None if one is None else _attended(v, one)}


def _attended(v: View, p: Permit) -> Row:
    space, timings = v.spaces[p.space], v.office.timings
    here, instrument = v.here(space), next(iter(v.instruments(space)), None)
    inside = here.inside if here else {}
    seen = here.attendant_at if here else None
    prepare = preparation(v.office, space)
    return {
        "id": p.id,
        "number": p.number,
        "drill": p.drill,
        "space": v.space_name(p.space),
        "space_id": p.space,
        "work": p.work,
        "state": p.state.value,
        "state_text": v.t(f"permit_state.{p.state.value}"),
        "start": p.start,
        "end": p.end,
        "leave_by": {"at": p.end, "cause": v.t("ui.leave_by.permit_end")} if p.state in OPEN else None,
        "gases": v.gases(space),
        "at": instrument.at if instrument and instrument.at else None,
        "instrument": instrument.device if instrument else "",
        "inside_count": v.inside(space),
        "entrants": [{"id": e, "name": v.name(e), "inside": e in inside, "since": inside.get(e)} for e in p.entrants],
        "lock": _attended_lock(v, space),
        "attendant_at": seen,
        "checkin_due": None if seen is None else seen + timings.attendant_checkin_s,
        "evacuating": bool(here and here.evacuating) or p.state is PermitState.EVACUATING,
        "steps": _steps(v, p),
        "ventilation": {
            "started_at": p.ventilated_at,
            "need_s": timings.ventilation_s,
            "running": fan_running(v.office, space),
        },
        "test": {
            "points_needed": prepare["points_needed"],
            "distances": prepare["distances"],
            "dwell_s": prepare["dwell_s"],
            "gases": space.required_gases,
            "passed": p.gas_test.passed if p.gas_test else None,
            "at": p.gas_test.at if p.gas_test else None,
        },
        "can": _can(v, p),
        "denied": _denied(v, [x.device for x in v.locks(space)]),
    }


def preparation(office: Office, space: Space) -> Row:
    """Return how long to ventilate and where to sample, top to bottom, with the dwell of every point."""
    n, timings = points_needed(space.depth_m), office.timings
    distances = [round(space.depth_m * (i + 0.5) / n, 1) for i in range(n)]
    dwells = [math.ceil((timings.dwell_s + timings.dwell_per_m_s * d) * 10) / 10 for d in distances]
    return {"ventilation_s": timings.ventilation_s, "points_needed": n, "distances": distances, "dwell_s": dwells}


def _attended_lock(v: View, space: Space) -> Row:
    lock = next(iter(v.locks(space)), None)
    if lock is None:
        device = space.entrances[0].lock if space.entrances else ""
        return {"device": device, "commanded": "", "reported": v.t("lock_position.unknown"), "position": "unknown", "at": None,
                "battery": None}  # fmt: skip
    return {
        "device": lock.device,
        "commanded": v.t(f"ui.commanded.{lock.commanded}") if lock.commanded else "",
        "reported": v.t(f"lock_position.{lock.position}"),
        "position": lock.position,
        "at": lock.at,
        "battery": None if lock.battery_percent == 255 else lock.battery_percent,  # noqa: PLR2004  255 = unknown
    }


def _can(v: View, p: Permit) -> dict[str, Row]:
    inside = v.inside(v.spaces[p.space])
    opened = any(x.used_kind >= 2 for x in v.locks(v.spaces[p.space])) or p.state is PermitState.ACTIVE  # noqa: PLR2004  ENTRY

    locked = all(x.position == "locked" for x in v.locks(v.spaces[p.space]))

    def row(*, ok: bool, why: str) -> Row:
        return {"ok": ok, "why": "" if ok else v.t(why)}

    return {
        "unlock_prep": row(ok=p.state is PermitState.APPROVED, why="ui.can.prep"),
        "unlock_entry": row(ok=p.state in (PermitState.READY, PermitState.ACTIVE), why="ui.can.entry"),
        "ventilate": row(ok=p.state is PermitState.APPROVED, why="ui.can.ventilate"),
        "test": row(ok=p.state in (PermitState.APPROVED, PermitState.READY) and p.ventilated_at is not None, why="ui.can.test"),
        "enter": row(ok=p.state is PermitState.ACTIVE and opened, why="ui.can.enter"),
        "finish": row(ok=p.state in (PermitState.ACTIVE, PermitState.SUSPENDED) and inside == 0, why="ui.can.finish"),
        "suspend": row(ok=p.state in OPEN and inside == 0, why="ui.can.suspend"),
        "close_out": row(ok=p.state is PermitState.CLOSING and inside == 0 and not locked, why="ui.can.close_out"),
        "close": row(ok=p.state is PermitState.CLOSING and inside == 0 and locked, why="ui.can.close"),
    }


def _denied(v: View, locks: list[str]) -> list[Row]:
    rows = store.events(v.db, lambda c: (c.c.type == "GrantRefused") & c.c.subject.in_(locks or [""]), most=5, newest=True)
    shown = []
    for _, event in rows:
        if isinstance(event, GrantRefused):
            why = [failure_row(v.lang, f)["text"] for f in event.failures] or [v.t(f"refusal.{event.reason}")]
            shown.append({"at": event.at, "text": "; ".join(why)})
    return shown


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
    row = _alarm_row(v, raised.site, live or _closed(alarm_id, fields))
    here = v.here(space) if space else None
    device, _, gas = obj.partition("/")
    by_type = {type(e).__name__: e for _, e in reversed(log)}
    end = max((e.at for _, e in log), default=raised.at)
    return row | {
        "title": v.t(f"alarm.{kind}"),
        "meaning": v.t(f"alarm.{kind}.meaning"),
        "why": str(fields["clause"]),
        "do": v.t(f"alarm.{kind}.do").split("\n"),
        "inside": [{"name": v.name(p), "since": at} for p, at in (here.inside if here else {}).items()],
        "inside_count": v.inside(space) if space else None,
        "chain": _chain(v, raised, by_type),
        "events": [{"at": e.at, "text": v.sentence(e)} for _, e in reversed(log)],
        "curve": {"space": fields["space"], "device": device, "gas": gas, "from": raised.at - 300, "to": end + 1800}
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
        step("ingested", raised, root(raised.site).rstrip("/")),
        step("judged", raised, v.t("ui.chain.engine")),
        step("warned", raised, v.t("ui.chain.local")),
        step("decided", acked, by),
        step("handled", evacuated),
        step("fed_back", reset, closed_by),
    ]


def space_page(v: View, space_id: str, stored: Stored) -> Row:
    """Return one space: who, air, locks, ledger of frames, and everything that happened there."""
    space = space_of(v.db, space_id)
    here, state = v.here(space), v.states.get(space.site)
    mine = [a.priority for a in state.alarms if a.space == space.id] if state else []
    permit = next((p for p in store.permits(v.db, space=space.id) if p.state in HOLDING), None)
    log = store.events(v.db, lambda c: c.c.space == space.id, most=40, newest=True)
    lock = store.get(v.db, Lock, space.entrances[0].lock) if space.entrances else None
    return {
        "id": space.id,
        "name": v.space_name(space.id),
        "site_name": v.site_name(space.site),
        "kind_text": v.t(f"kind.{space.kind}"),
        "depth": space.depth_m,
        "hazards": [v.t(f"hazard.{h}") for h in space.hazards],
        "priority": min(mine, default=0),
        "inside_count": v.inside(space),
        "inside": [{"name": v.name(p), "since": at} for p, at in (here.inside if here else {}).items()],
        "entrances": [_entrance(v, x) for x in v.locks(space)],
        "instruments": [_instrument(v, space, i, stored) for i in v.instruments(space)],
        "permit": {
            "id": permit.id,
            "number": permit.number,
            "state_text": v.t(f"permit_state.{permit.state.value}"),
            "end": permit.end,
        }
        if permit
        else None,
        "curves": [{"device": i.device, "gas": gas} for i in v.instruments(space) for gas in space.required_gases],
        "events": [{"at": e.at, "text": v.sentence(e)} for _, e in log],
        "emergency": {"lock": lock.device}
        if lock and set(v.person.roles) & {"worker", "attendant", "approver", "manager"}
        else None,
    }


def _entrance(v: View, x: LockNow) -> Row:
    return {
        "lock": x.device,
        "position": x.position,
        "position_text": v.t(f"lock_position.{x.position}"),
        "at": x.at,
        "battery": None if x.battery_percent == 255 else x.battery_percent,  # noqa: PLR2004  255 = unknown
    }


def _instrument(v: View, space: Space, i: InstrumentNow, stored: Stored) -> Row:
    return {
        "device": i.device,
        "serial": i.device,
        "at": i.at or None,
        "lost": i.lost,
        "gases": gas_rows(v.lang, i, space.required_gases, v.office.limits, v.office.pictures.trend),
        "ledger": {"received": i.received, "duplicate": i.duplicate, "missing": i.missing, "torn": stored(i.device)},
    }
