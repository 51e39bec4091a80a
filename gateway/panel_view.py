"""What the gateway's own emergency page shows: the spaces of its sites, and how far a rescue is; from the live engines."""

from collections.abc import Iterable

import msgspec

from gateway.host import SiteHost
from gateway.picture import site_state
from gateway.rescue import MOST_TRIES, UNDER_WAY, Flow, Stage
from manway.codec_mqtt import InstrumentNow, ReadingNow, SiteState
from manway.entities import Space
from manway.ids import Status
from manway.limits import Level, LimitProfile
from manway.lock import UNSECURED, LockPosition
from manway.runtime.texts import clock_text, text

Row = dict[str, object]
OLD_S = 10.0  # as on the other pages: older air is not known
_UNITS = {"mg/m3": "mg/m³"}
_MANY = 100.0
_OPEN = frozenset(position.value for position in UNSECURED)


def page(hosts: Iterable[SiteHost], lang: str, now: float) -> Row:
    """Return every site with its spaces at `now`, Unix seconds, those with a rescue or somebody inside first."""
    sites = [_site(host, lang, now) for host in hosts if host.engine.site.plan is not None]
    return {"sites": sites, "empty": not sites, "api": _api(hosts)}


def opening(host: SiteHost, lock: str, lang: str, now: float) -> Row | None:
    """Return one entrance with its space and its rescue at `now`, Unix seconds; None when the plan knows no such lock."""
    state = _state(host)
    for space in host.engine.site.plan.spaces if host.engine.site.plan else ():
        for entrance in space.entrances:
            if entrance.lock == lock:
                return _space(host, state, space, lang, now) | {"entrance": _entrance(host, state, entrance.id, lock, lang)}
    return None


def api_reachable(host: SiteHost) -> bool | None:
    """Say whether the approval service is heard, None while that is not known."""
    said = host.engine.site.health.get(("UPLINK_LOST", "api"))
    if said is not None and said.holds:
        return False
    return True if host.health.api_known else None


def _api(hosts: Iterable[SiteHost]) -> str:
    heard = [api_reachable(host) for host in hosts]
    return "away" if False in heard else "here" if heard and None not in heard else "unknown"


def _state(host: SiteHost) -> SiteState:
    """Return the picture; where a lock that is silent for too long stands nobody knows."""
    state = site_state(host.engine, gateway="", jid="", event=0)
    silent = {alarm.object for alarm in state.alarms if alarm.kind == "LOCK_OFFLINE" and alarm.holds}
    unknown = LockPosition.UNKNOWN.value
    locks = [msgspec.structs.replace(x, position=unknown) if x.device in silent else x for x in state.locks]
    return msgspec.structs.replace(state, locks=locks)


def _site(host: SiteHost, lang: str, now: float) -> Row:
    state, plan = _state(host), host.engine.site.plan
    spaces = [
        _space(host, state, space, lang, now)
        | {"entrances": [_entrance(host, state, e.id, e.lock, lang) for e in space.entrances if e.lock]}
        for space in (plan.spaces if plan else ())
    ]
    return {"id": host.site, "spaces": sorted(spaces, key=lambda s: (not s["urgent"], not s["occupied"]))}


def _space(host: SiteHost, state: SiteState, space: Space, lang: str, now: float) -> Row:
    here = next((s for s in state.spaces if s.space == space.id), None)
    inside = len(here.inside) if here is not None and here.known else None
    air, level = _air(host, state, space, lang, now)
    return {
        "id": space.id,
        "site": host.site,
        "name": space.name.get(lang) or next(iter(space.name.values()), space.id),
        "address": space.address,
        "inside": inside,
        "occupied": inside != 0,
        "urgent": any(a.space == space.id and a.priority == 1 for a in state.alarms),
        "air": air,
        "level": level,
    }


def _air(host: SiteHost, state: SiteState, space: Space, lang: str, now: float) -> tuple[str, str]:
    """Return how the air of a space is, in words, and as unknown, within, pre or danger. What nobody measures is unknown.

    It ages by the page's own clock: while nothing arrives the engine takes no step.
    """
    here = [i for i in state.instruments if i.space == space.id]
    fresh = [i for i in here if not i.lost and max(now, host.engine.now) - i.at <= OLD_S]
    over = [gas for i in fresh for gas, r in i.readings.items() if _over(r)]
    if over:
        return f"{text(lang, 'status.over')} · {', '.join(over)}", "danger"
    worst = _worst(host.engine.site.limits, fresh)
    gas = max(worst, key=lambda gas: worst[gas].level or 0, default="")
    level = worst[gas].level or 0 if gas else 0
    if level > Level.WITHIN:
        word = text(lang, f"ui.js.level.{level}")
        return f"{word} · {gas} {_value(worst[gas])}", "pre" if level == Level.PRE else "danger"
    if not worst or not set(space.required_gases) <= set(worst):
        return text(lang, "panel.air.unknown"), "unknown"
    return text(lang, "panel.air.within"), "within"


def _over(reading: ReadingNow) -> bool:
    """Say whether a channel is over its range, or was and has not restarted: its numbers do not count then."""
    return reading.status == Status.OVER.value or (reading.status == Status.OK.value and reading.judged is None)


def _worst(limits: LimitProfile, instruments: Iterable[InstrumentNow]) -> dict[str, ReadingNow]:
    """Return the worst judged reading of each gas: by level, then by number, oxygen counting down."""

    def badness(gas: str, reading: ReadingNow) -> tuple[int, float]:
        rule, value = limits.of(gas), reading.judged or 0.0
        falls = rule is not None and any(limit.side == "below" for limit in rule.limit)
        return reading.level or 0, -value if falls else value

    worst = dict[str, ReadingNow]()
    for instrument in instruments:
        for gas, reading in instrument.readings.items():
            if reading.level is not None and (gas not in worst or badness(gas, reading) > badness(gas, worst[gas])):
                worst[gas] = reading
    return worst


def _value(reading: ReadingNow) -> str:
    value = reading.judged or 0.0
    return f"{value:.{0 if abs(value) >= _MANY else 1}f} {_UNITS.get(reading.judged_unit, reading.judged_unit)}"


def _entrance(host: SiteHost, state: SiteState, entrance: str, lock: str, lang: str) -> Row:
    position = next((x.position for x in state.locks if x.device == lock), LockPosition.UNKNOWN.value)
    flow = host.rescue.flows.get(lock) if host.rescue else None
    return {
        "id": entrance,
        "lock": lock,
        "position": position,
        "position_text": text(lang, f"lock_position.{position}"),
        "rescue": _rescue(flow, position, lang) if flow is not None else None,
    }


def _rescue(flow: Flow, position: str, lang: str) -> Row:
    """Return how far a rescue is; that the lock reports open is said only while it does."""
    was = flow.stage is Stage.OPENED and position not in _OPEN
    stage, opened = "was_opened" if was else flow.stage.value, clock_text(flow.opened_at)
    reason = text(lang, f"panel.reason.{flow.reason}") if flow.reason in ("JAMMED", "FAULT") else ""
    return {
        "stage": stage,
        "under_way": flow.stage in UNDER_WAY,
        "text": text(lang, f"panel.stage.{stage}", tries=flow.tries, most=MOST_TRIES, reason=reason, time=opened),
        "who": text(lang, "panel.asked_by", by=flow.by, time=clock_text(flow.asked_at)) if flow.asked_at else "",
        "coded": flow.coded,
    }
