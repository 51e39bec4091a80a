"""The first emergency screen as a page shows it: its eight parts in words, and the brief below them.

The page is painted by the server and stands without a script; times of the picture are given as they are, ages as of `now`.
"""

from api import emergency
from api.rights import RIGHTS
from api.texts import LANGUAGES, text
from api.views.brief import brief_part
from api.views.gas import decimals, shown_unit
from api.views.view import Row, View
from manway.emergency import Called, Card, Concentration, KitState, Ranked, Respirator, respirator
from manway.emergency_screen import TREND_S, EmergencyScreen, GasNow, Sample, Scene, Trend, emergency_screen
from manway.entities import Space
from manway.limits import Level

WIDTH, HEIGHT = 300, 60
"""The curve's own units; it is stretched to the page."""
_ARROWS = {Trend.RISING: "↑", Trend.FALLING: "↓", Trend.STEADY: "→", Trend.UNKNOWN: ""}
_NEAREST = 12


def emergency_page(v: View, alarm_id: str) -> Row:
    """Return the emergency screen of an alarm and its brief.

    Raises:
        NotFound: there is no such alarm of a space.
    """
    alarm = emergency.raised(v.db, alarm_id)
    scene = emergency.scene(v.db, v.office, alarm)
    seen = emergency_screen(scene, v.now)
    first = emergency.episodes(v.db, alarm)[0]
    return {
        "id": alarm.alarm,
        "site": alarm.site,
        "what": v.t(f"alarm.{alarm.kind}"),
        "drill": scene.drill,
        "banner": v.t(seen.banner),
        "banner_too": [text(lang, seen.banner) for lang in LANGUAGES if lang != v.lang],
        "space": _where(v, seen, scene.space),
        "count": seen.inside.count,
        "people": _people(v, seen, scene.space),
        "rule": _rule(v, _respirator(scene, seen.gas)),
        "gas": [_gas(v, g) for g in seen.gas],
        "do": [{"key": s.key.rpartition(".")[2], "text": v.t(s.key, **s.params)} for s in seen.do_now],
        "supplies": _supplies(v, seen),
        "cards": [_card(v, card) for card in seen.hazards.cards],
        "no_card": [v.t(f"hazard.{h}") for h in seen.hazards.unknown],
        "timeline": [
            {"at": e.at, "text": v.sentence(e)}
            for e in reversed(emergency.told(v.db, scene.space.id, first.at - emergency.BEFORE_S))
        ],
        "brief": brief_part(v, alarm) if RIGHTS["GET /api/v1/alarms/{alarm}/brief"].allows(v.person) else None,
        "lock": scene.space.entrances[0].lock if scene.space.entrances else "",
    }


def named(v: View, name: dict[str, str]) -> str:
    """Return a name of the ledger in the reader's language, else in the first that it has."""
    return name.get(v.lang) or next(iter(name.values()), "")


def _where(v: View, seen: EmergencyScreen, space: Space) -> Row:
    at = seen.where.position
    return {
        "id": space.id,
        "name": v.space_name(space.id),
        "site": v.site_name(space.site),
        "kind": v.t(f"kind.{space.kind}"),
        "depth": f"{space.depth_m:g}",
        "entrances": ", ".join(seen.where.entrances),
        "address": seen.where.address,
        "position": None if at is None else f"{at[0]:.5f}, {at[1]:.5f}",
        "geo": None if at is None else f"geo:{at[0]:.5f},{at[1]:.5f}",
    }


def _people(v: View, seen: EmergencyScreen, space: Space) -> list[Row]:
    here = v.here(space)
    states = here.people if here else {}
    return [
        {
            "name": named(v, p.name),
            "since": p.entered_at,
            "answer_at": p.answer_at,
            "state": v.t(f"person_state.{states[p.person]}") if p.person in states else "",
        }
        for p in seen.inside.people
    ]


# -- gas ------------------------------------------------------------------------------------------------------------------


def _gas(v: View, g: GasNow) -> Row:
    rule, broken = v.office.limits.of(g.gas), g.broken
    low = next((x for x in rule.limit if x.level == "low"), None) if rule else None
    shown = broken or low
    digits = decimals(rule)
    return {
        "gas": g.gas,
        "device": g.device,
        "value": None if g.value is None else f"{g.value:.{digits}f}",
        "unit": shown_unit(g.unit),
        "status_text": v.t(f"status.{g.status}"),
        "at": None if g.age_s is None else v.now - g.age_s,
        "level": int(broken.rank) if broken else 0,
        "limit": "" if shown is None else f"{'<' if shown.side == 'below' else '>'} {shown.value:.{digits}f}",
        "limit_word": v.t(f"ui.js.limit.{shown.level}") if shown else "",
        "clause": broken.clause if broken else "",
        "trend": g.trend.value,
        "trend_text": v.t(f"trend.{g.trend.value}"),
        "arrow": _ARROWS[g.trend],
        "rise": "" if g.rise is None or g.trend is Trend.STEADY else f"{g.rise:+.{digits}f}",
        "curve": curve(g.curve, v.now, None if low is None else low.value),
    }


def curve(samples: list[Sample], now: float, limit: float | None) -> Row | None:
    """Return the last five minutes as lines over WIDTH x HEIGHT, gaps as gaps, with the limit's height; None: no number."""
    numbers = [s.value for s in samples if s.value is not None]
    if not numbers:
        return None
    marks = [*numbers, *([limit] if limit is not None else [])]
    low, high = min(marks), max(marks)
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return round(HEIGHT - 4 - (value - low) / span * (HEIGHT - 8), 1)

    lines: list[list[str]] = [[]]
    for s in sorted(samples, key=lambda s: s.at):
        if s.value is None:
            lines.append([])
        else:
            lines[-1].append(f"{round((s.at - now + TREND_S) / TREND_S * WIDTH, 1)},{y(s.value)}")
    return {"lines": [" ".join(line) for line in lines if line], "limit": None if limit is None else y(limit)}


def _respirator(scene: Scene, gas: list[GasNow]) -> Respirator:
    """Return the respirator rule by the worst number of each toxic gas (GB/T 18664-2002); what is silent is not known."""
    oxygen = [g.value for g in gas if g.gas == "O2"]
    toxic = [g for g in gas if g.unit in ("mg/m3", "ppm")]
    limits = {(s.device, s.gas): {x.rank: x.value for x in s.limits} for s in scene.gas}
    found = [
        Concentration(g.gas, g.value, known.get(Level.LOW), known.get(Level.IDLH))
        for g in toxic
        for known in [limits.get((g.device, g.gas), {})]
    ]
    known = [o for o in oxygen if o is not None]
    worst = min(known) if known and len(known) == len(oxygen) else None
    return respirator(found, oxygen=worst, hazards_known=bool(scene.space.hazards))


def _rule(v: View, rule: Respirator) -> str:
    """Return the rule in words; a factor below one would read like leave to go in."""
    if rule.factor is not None and rule.factor < 1.0:
        return v.t("ui.e.rule_within")
    return v.t(rule.reason, gas=rule.gas, factor="" if rule.factor is None else f"{rule.factor:.1f}")


# -- help, cards ----------------------------------------------------------------------------------------------------------


def _supplies(v: View, seen: EmergencyScreen) -> Row:
    s = seen.supplies
    return {
        "kit": [
            {
                "what": v.t(f"equipment.{k.kind}"),
                "state": k.state.value,
                "text": v.t(f"emergency.kit.{k.state.value}"),
                "here": k.here + (k.expired if k.state is KitState.EXPIRED else 0),
                "needed": k.needed,
            }
            for k in s.kit
        ],
        "short": [
            {
                "what": v.t(f"equipment.{x.kind}"),
                "text": v.t("emergency.short", missing=x.missing, needed=x.needed, here=x.here) if x.missing else "",
                "open": x.needed - x.here,
                "sources": [_gear(v, r) for r in x.sources],
            }
            for x in s.shortages
        ],
        "nearest": [_gear(v, r) for r in s.nearest if not r.on_site][:_NEAREST],
        "teams": [_called(v, c) for c in s.teams],
        "experts": [_called(v, c) for c in s.experts],
    }


def _gear(v: View, r: Ranked) -> Row:
    return {
        "what": v.t(f"equipment.{r.equipment.kind}"),
        "quantity": r.equipment.quantity,
        "place": named(v, r.equipment.place),
        "metres": metres(r.distance_m),
        "in_date": r.in_date,
        "phone": r.equipment.phone,
    }


def _called(v: View, c: Called) -> Row:
    return {"name": named(v, c.who.name), "metres": metres(c.distance_m), "phone": c.who.phone, "matches": c.matches}


def metres(distance_m: float | None) -> str | None:
    """Return a distance as it is said: to 10 m below a kilometre, to 100 m above; None when nobody knows it."""
    if distance_m is None:
        return None
    return f"{round(distance_m, -1):.0f} m" if distance_m < 995 else f"{distance_m / 1000:.1f} km"  # noqa: PLR2004  rounding


def _card(v: View, card: Card) -> Row:
    words = card.zh if v.lang.startswith("zh") else card.en
    note = "" if card.status == "cited" else v.office.hazards.note[v.lang.partition("-")[0]]
    return {"title": words.title, "signs": words.signs, "do": words.do, "never": words.never, "note": note}
