"""The first emergency screen as one object: what a rescuer must see within a second, in the order of the page (`domain.md` §9).

Theory: the screen first stops people from going in and only then informs. It is made from a picture that may be old or torn, so
every value says how old it is, and what is stale or unknown is said to be unknown, never shown as the last good number.
"""

import enum
import math
from collections.abc import Iterable, Sequence

import msgspec

from manway.emergency import (
    Called,
    Card,
    KitItem,
    KitState,
    Ranked,
    Shortage,
    cards_for,
    experts_for,
    kit_of,
    nearest,
    place_text,
    shortages,
    teams_near,
    without_card,
)
from manway.entities import Equipment, Expert, Space, Team
from manway.ids import Status
from manway.limits import Limit

Params = dict[str, str | int | float]

TREND_S = 300.0
"""The five minutes of domain.md §9 (3): long enough to see through a sensor's lag of 30 s, short enough to be *now*."""
TREND_POINTS = 5
"""(choice) fewer good numbers are no trend."""
TREND_SPAN_S = 60.0
"""(choice) good numbers must cover this much; below it noise decides. Twice the T90 of a slow sensor (domain.md §7.1)."""
CLOCK_SLACK_S = 2.0
"""A number from further ahead than this has an untrusted time, so its age is unknown (`domain.md` §7.1)."""


class Trend(enum.Enum):
    """Where a value went in the last five minutes."""

    RISING = "rising"
    STEADY = "steady"
    FALLING = "falling"
    UNKNOWN = "unknown"


class Sample(msgspec.Struct, frozen=True):
    """One number of the last minutes, in the limit's unit; None where there was none."""

    at: float
    value: float | None


class GasSeen(msgspec.Struct, frozen=True):
    """One channel as the picture has it: newest number in the limit's unit (None unless its status is ok), with its limits.

    `deadband` is that of its limits: a change of five minutes no larger than it is noise, not a trend (choice).
    """

    device: str
    gas: str
    unit: str
    status: str
    value: float | None
    at: float | None
    limits: list[Limit] = []
    deadband: float = 0.0
    history: list[Sample] = []


class PersonSeen(msgspec.Struct, frozen=True):
    """Somebody counted in; `motion_at` and `answer_at` are Unix seconds, None = never seen, never heard."""

    person: str
    name: dict[str, str]
    entered_at: float
    motion_at: float | None = None
    answer_at: float | None = None


class Moment(msgspec.Struct, frozen=True):
    """One thing that happened or was done, told by an event: `id` is the event's, `what` a text key."""

    id: str
    at: float
    what: str
    by: str = ""
    params: Params = {}


class Scene(msgspec.Struct, frozen=True):
    """Everything the screen is made from. `stale_s`: a number older than this is unknown; `photo`: sha256 of the entrance's.

    `count_known` False: nobody knows who is inside. `alarm_gas`, `alarm_side` (low, high): what the open gas alarm is
    about, which decides the first card when the instrument has fallen silent. `drill`: training, nobody calls 119 or
    120.
    """

    space: Space
    people: list[PersonSeen]
    count_known: bool
    gas: list[GasSeen]
    stale_s: float
    cards: list[Card]
    equipment: list[Equipment] = []
    teams: list[Team] = []
    experts: list[Expert] = []
    moments: list[Moment] = []
    alarm_gas: str = ""
    alarm_side: str = ""
    photo: str = ""
    drill: bool = False


class Where(msgspec.Struct, frozen=True):
    """(2) The space, ready to be read out to 119 and 120; `address` "" and `position` None are said to be unknown."""

    space: str
    kind: str
    name: dict[str, str]
    address: str
    position: tuple[float, float] | None
    entrances: list[str]
    depth_m: float
    photo: str


class Inside(msgspec.Struct, frozen=True):
    """(3) Who is inside since when, the longest first. `count` None = unknown, which counts as occupied."""

    count: int | None
    people: list[PersonSeen]


class GasNow(msgspec.Struct, frozen=True):
    """(4) One channel now. `value` None = unknown, then `status` says why: its own status, stale or none.

    `broken` is the worst limit that the number breaks; None with a number: within all limits. `rise` is the change of the last
    five minutes in the unit, None when the trend is unknown.
    """

    device: str
    gas: str
    unit: str
    status: str
    value: float | None
    age_s: float | None
    broken: Limit | None
    trend: Trend
    rise: float | None
    curve: list[Sample]


class Step(msgspec.Struct, frozen=True):
    """(5) One thing to do now: a text key with its parameters."""

    key: str
    params: Params = {}


class Supplies(msgspec.Struct, frozen=True):
    """(6) What stands here (empty: the ledger names no rescue list), what is nearest, what is short, and whom to call."""

    kit: list[KitItem]
    nearest: list[Ranked]
    shortages: list[Shortage]
    teams: list[Called]
    experts: list[Called]


class HazardCards(msgspec.Struct, frozen=True):
    """(7) The cards, the broken gas first; `unknown` are hazards of the ledger that no card speaks of."""

    cards: list[Card]
    unknown: list[str]


class EmergencyScreen(msgspec.Struct, frozen=True):
    """The screen; its first eight fields are its eight parts from top to bottom. `made_at` is the picture's time, Unix s."""

    banner: str
    where: Where
    inside: Inside
    gas: list[GasNow]
    do_now: list[Step]
    supplies: Supplies
    hazards: HazardCards
    timeline: list[Moment]
    made_at: float


def emergency_screen(scene: Scene, now: float) -> EmergencyScreen:
    """Return the screen of a space as it is known at `now` (Unix seconds)."""
    space = scene.space
    gas = [gas_now(seen, now, stale_s=scene.stale_s) for seen in scene.gas]
    broken, side = _first_gas(scene, gas)
    ranked = nearest(scene.equipment, space.position, set(space.rescue_kit), now, space=space.id)
    supplies = Supplies(
        kit=kit_of(space.rescue_kit, ranked),
        nearest=ranked,
        shortages=shortages(space.rescue_kit, ranked),
        teams=teams_near(scene.teams, space.hazards, space.position),
        experts=experts_for(scene.experts, space.hazards, space.position),
    )
    return EmergencyScreen(
        banner="emergency.banner",
        where=_where(scene),
        inside=Inside(
            len(scene.people) if scene.count_known else None, sorted(scene.people, key=lambda p: (p.entered_at, p.person))
        ),
        gas=gas,
        do_now=_do_now(scene, gas, supplies.kit),
        supplies=supplies,
        hazards=HazardCards(
            cards_for(scene.cards, space.hazards, broken=broken, side=side), without_card(scene.cards, space.hazards)
        ),
        timeline=in_order(scene.moments),
        made_at=now,
    )


def in_order(moments: Iterable[Moment]) -> list[Moment]:
    """Return what happened, the oldest first, each event once."""
    return sorted({moment.id: moment for moment in moments}.values(), key=lambda m: (m.at, m.id))


def gas_now(seen: GasSeen, now: float, *, stale_s: float) -> GasNow:
    """Return one channel at `now`: a number only when it is ok, finite and at most `stale_s` old."""
    age = None if seen.at is None or not -CLOCK_SLACK_S <= now - seen.at < math.inf else max(0.0, now - seen.at)
    value, status = seen.value, seen.status
    if age is None:
        value, status = None, "none"
    elif age > stale_s:
        value, status = None, "stale"
    elif status != Status.OK.value:
        value = None  # a fault is a status and never a number
    elif value is None or not math.isfinite(value):
        value, status = None, Status.INVALID.value
    curve = [sample for sample in seen.history if now - TREND_S <= sample.at <= now]
    rise = None if value is None else _rise(curve)
    broken, trend = _broken(seen.limits, value), _trend(rise, seen.deadband)
    return GasNow(seen.device, seen.gas, seen.unit, status, value, age, broken, trend, rise, curve)


def _broken(limits: Sequence[Limit], value: float | None) -> Limit | None:
    if value is None:
        return None
    return max((limit for limit in limits if limit.breached_by(value)), key=lambda limit: limit.rank, default=None)


def _first_gas(scene: Scene, gas: Sequence[GasNow]) -> tuple[str, str]:
    """Return the gas that breaks the worst limit now with its side, else the open alarm's."""
    broken = [(g.broken, g.gas) for g in gas if g.broken is not None]
    if not broken:
        return scene.alarm_gas, scene.alarm_side
    limit, name = max(broken, key=lambda pair: pair[0].rank)
    return name, "low" if limit.side == "below" else "high"


def _rise(curve: Sequence[Sample]) -> float | None:
    """Return the change over five minutes by least squares, None when too few good numbers cover too little time."""
    good = [(s.at, s.value) for s in curve if s.value is not None and math.isfinite(s.value)]
    if len(good) < TREND_POINTS or max(t for t, _ in good) - min(t for t, _ in good) < TREND_SPAN_S:
        return None
    mean_t = sum(t for t, _ in good) / len(good)
    mean_v = sum(v for _, v in good) / len(good)
    spread = sum((t - mean_t) ** 2 for t, _ in good)
    rise = sum((t - mean_t) * (v - mean_v) for t, v in good) / spread * TREND_S
    return rise if math.isfinite(rise) else None  # the sums of absurd numbers overflow


def _trend(rise: float | None, deadband: float) -> Trend:
    if rise is None:
        return Trend.UNKNOWN
    if abs(rise) <= deadband:
        return Trend.STEADY
    return Trend.RISING if rise > 0 else Trend.FALLING


def _where(scene: Scene) -> Where:
    s = scene.space
    return Where(s.id, s.kind, s.name, s.address, s.position, [e.id for e in s.entrances], s.depth_m, scene.photo)


def _do_now(scene: Scene, gas: Sequence[GasNow], kit: Sequence[KitItem]) -> list[Step]:
    """Return what to do now, in order: call inside, ventilate, lift without going in, call 119/120 with the address."""
    ready = {item.kind for item in kit if item.state is KitState.YES}
    lift = "emergency.do.lift" if {"tripod", "lifeline"} <= ready else "emergency.do.lift_if_tied"
    fan = "emergency.do.ventilate_explosion_proof" if _may_burn(scene, gas) else "emergency.do.ventilate"
    return [Step("emergency.do.call_inside"), Step(fan), Step(lift), _call(scene)]


def _may_burn(scene: Scene, gas: Sequence[GasNow]) -> bool:
    """Say whether air may burn: a flammable space, a broken combustible limit, or nobody knows."""
    combustible = [g for g in gas if g.gas in ("LEL", "CH4")]
    unknown = not combustible or any(g.value is None or g.broken for g in combustible)
    return unknown or bool({"ch4", "fire"} & set(scene.space.hazards))


def _call(scene: Scene) -> Step:
    if scene.drill:
        return Step("emergency.do.drill")
    if where := scene.space.address or place_text(scene.space.position):
        return Step("emergency.do.call_rescue", {"address": where})
    return Step("emergency.do.call_rescue_no_address")
