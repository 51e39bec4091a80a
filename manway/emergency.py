"""What a rescue needs to know and to have: hazard cards, the respirator rule, and what stands nearest (`domain.md` §9).

Theory: the rescuer is the second victim, so nothing here ever says "you may go in". A card is data to be signed by an
expert and is shown as unreviewed until then. Unknown takes the worse side everywhere: a concentration nobody knows is
deadly, a date nobody knows has passed, a place nobody knows is farthest away.
"""

import enum
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from manway.entities import Equipment, Expert, Team
from manway.errors import ProfileInvalid

Position = tuple[float, float]

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth (IUGG): the great circle is within 0.6 % of the ellipsoid, far below what a road adds."""
OXYGEN_DEFICIENT = 19.5
"""% vol; below it the air is oxygen-deficient (GB 8958-2006 †, GB 46768-2025 5.9.1)."""


# -- hazard cards -------------------------------------------------------------------------------------------------------


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card in one language: how the danger shows and how it deceives, what to do, what never to do."""

    title: str
    signs: list[str]
    do: list[str]
    never: list[str]


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One hazard card. `hazards` are words of `Space.hazards`, `gases` channels; `side` is low or high where both are deadly.

    `status` is confirm until `signed_by` names the expert who has read it; only then it may be cited.
    """

    id: str
    hazards: list[str]
    gases: list[str]
    zh: Words
    en: Words
    source: str
    status: str
    side: str = ""
    signed_by: str = ""

    def __post_init__(self) -> None:
        if self.status not in ("cited", "confirm") or self.side not in ("", "low", "high"):
            raise ProfileInvalid("hazards", f"{self.id}: unknown status or side: {self.status} {self.side}")
        if (self.status == "cited") != bool(self.signed_by.strip()):
            raise ProfileInvalid("hazards", f"{self.id}: a card is cited exactly when an expert has signed it")
        if not self.source.strip() or not (self.hazards or self.gases):
            raise ProfileInvalid("hazards", f"{self.id}: a card names its source and its hazards or gases")
        texts = [x for words in (self.zh, self.en) for x in (words.title, *words.signs, *words.do, *words.never)]
        if not all(text.strip() for text in texts) or any(not w.signs or not w.do or not w.never for w in (self.zh, self.en)):
            raise ProfileInvalid("hazards", f"{self.id}: a card says signs, do and never in both languages")


class CardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All cards; `note` is shown on every one that no expert has signed."""

    version: str
    note: dict[str, str]
    card: list[Card]


def parse_cards(text: str) -> CardFile:
    """Return the hazard cards of a TOML text.

    Raises:
        ProfileInvalid: not TOML; a field is missing, unknown, empty or of the wrong type; a card stands there twice.
    """
    try:
        file = msgspec.toml.decode(text, type=CardFile)
    except msgspec.DecodeError as error:
        raise ProfileInvalid("hazards", str(error)) from error
    ids = [card.id for card in file.card]
    if len(ids) != len(set(ids)) or not file.note.keys() >= {"zh", "en"}:
        raise ProfileInvalid("hazards", "each card stands there once, under a note in both languages")
    return file


def cards_for(
    cards: Sequence[Card], hazards: Iterable[str], gases: Iterable[str] = (), broken: str = "", *, side: str = ""
) -> list[Card]:
    """Return the cards of a space, each once: the broken gas first, then its hazards in their order, then further gases.

    `broken` is a channel; `side` says whether it is too low or too high, "" when nobody knows: then both cards come first.
    """
    order = [card for card in cards if broken in card.gases and (not side or card.side in ("", side))]
    for hazard in hazards:
        order += [card for card in cards if hazard in card.hazards]
    for gas in gases:
        order += [card for card in cards if gas in card.gases]
    return list({card.id: card for card in order}.values())


def without_card(cards: Sequence[Card], hazards: Iterable[str]) -> list[str]:
    """Return the hazards that no card speaks of: to the rescuer they are unknown hazards."""
    spoken = {hazard for card in cards for hazard in card.hazards}
    return [hazard for hazard in hazards if hazard not in spoken]


# -- respirator ---------------------------------------------------------------------------------------------------------


class Concentration(msgspec.Struct, frozen=True):
    """How much of a toxic gas there is, its limit and its IDLH in the same unit; None = not known."""

    gas: str
    value: float | None
    limit: float | None
    idlh: float | None


class Respirator(msgspec.Struct, frozen=True):
    """What GB/T 18664-2002 asks for. `scba`: the rules for air that is immediately dangerous to life hold.

    `factor` is the assigned protection factor needed, None under the IDLH rules. `reason` is a text key, `gas` what decided.
    The banner stays: this never lets anybody in.
    """

    scba: bool
    factor: float | None
    reason: str
    gas: str = ""


def respirator(gases: Iterable[Concentration], *, oxygen: float | None, hazards_known: bool) -> Respirator:
    """Return the respirator rule for air with these gases and this much oxygen (% vol) [18664].

    A hazard, the oxygen, a concentration, a limit or an IDLH that is not known leads to the IDLH rules: what cannot
    be judged is judged deadly (choice).
    """
    found = list(gases)
    if not hazards_known or not found:
        return Respirator(scba=True, factor=None, reason="respirator.hazard_unknown")
    if oxygen is None or not _measured(oxygen):
        return Respirator(scba=True, factor=None, reason="respirator.oxygen_unknown", gas="O2")
    if oxygen < OXYGEN_DEFICIENT:
        return Respirator(scba=True, factor=None, reason="respirator.oxygen_low", gas="O2")
    factors: list[tuple[float, str]] = []
    for x in found:
        if x.value is None or not x.limit or x.idlh is None or not _measured(x.value, x.limit, x.idlh):
            return Respirator(scba=True, factor=None, reason="respirator.concentration_unknown", gas=x.gas)
        if x.value >= x.idlh:
            return Respirator(scba=True, factor=None, reason="respirator.idlh", gas=x.gas)
        factors.append((x.value / x.limit, x.gas))
    factor, gas = max(factors)
    return Respirator(scba=False, factor=factor, reason="respirator.factor", gas=gas)


def _measured(*values: float) -> bool:
    return all(math.isfinite(value) and value >= 0 for value in values)


# -- what stands nearest ------------------------------------------------------------------------------------------------


class KitState(enum.Enum):
    """Whether gear of the rescue list is there: enough and in date, there but not shown to be in date, or not there."""

    YES = "yes"
    EXPIRED = "expired"
    NO = "no"


class Ranked(msgspec.Struct, frozen=True):
    """One piece of gear by distance. `distance_m` None = unknown; `on_site`: it is of the space's own kit."""

    equipment: Equipment
    distance_m: float | None
    in_date: bool
    on_site: bool


class Called(msgspec.Struct, frozen=True):
    """A team or an expert by usefulness: how many of the hazards they know, and how far away they are."""

    who: Team | Expert
    distance_m: float | None
    matches: int


class KitItem(msgspec.Struct, frozen=True):
    """One line of a space's rescue list: how many are needed, how many stand there in date, and out of date."""

    kind: str
    needed: int
    here: int
    expired: int

    @property
    def state(self) -> KitState:
        """Yes, expired or no: expired gear never makes a yes."""
        if self.here >= self.needed:
            return KitState.YES
        return KitState.EXPIRED if self.here + self.expired >= self.needed else KitState.NO


class Shortage(msgspec.Struct, frozen=True):
    """What the space's own kit lacks of one kind, where the rest comes from, nearest first, and what is `missing` even then."""

    kind: str
    needed: int
    here: int
    sources: list[Ranked]
    missing: int


def distance_m(a: Position | None, b: Position | None) -> float | None:
    """Return the great-circle distance of two places (latitude, longitude in degrees) in metres; None: one is no place."""
    if a is None or b is None or not _on_earth(a) or not _on_earth(b):
        return None
    (lat_a, lon_a), (lat_b, lon_b) = ((math.radians(x), math.radians(y)) for x, y in (a, b))
    half = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


def place_text(place: Position | None) -> str | None:
    """Return a place as it is read out, degrees to 1 m; None when it is none."""
    return f"{place[0]:.5f}, {place[1]:.5f}" if place is not None and _on_earth(place) else None


def _on_earth(place: Position) -> bool:
    lat, lon = map(math.radians, place)  # a comparison with NaN is false, so NaN is no place
    return abs(lat) <= math.pi / 2 and abs(lon) <= math.pi


def nearest(
    resources: Iterable[Equipment], position: Position | None, need: Collection[str], now: float, *, space: str = ""
) -> list[Ranked]:
    """Return the gear of the kinds in `need`, nearest first, then the larger quantity; none that is scrapped or used up.

    Gear that is not shown to be in date at `now` (Unix s) comes last and says so; within both groups a place that is not known
    comes last. Gear of the `space`'s own kit is at 0 m.
    """
    found = []
    for x in resources:
        if x.kind in need and x.quantity > 0 and not x.scrapped:
            here = bool(space) and x.space == space
            found.append(Ranked(x, 0.0 if here else distance_m(x.position, position), _in_date(x, now), here))
    return sorted(found, key=lambda r: (not r.in_date, *_far(r.distance_m), -r.equipment.quantity, r.equipment.id))


def _in_date(piece: Equipment, now: float) -> bool:
    return piece.due_at is not None and math.isfinite(piece.due_at) and now < piece.due_at


def _far(metres: float | None) -> tuple[bool, float]:
    return metres is None, metres or 0.0


def experts_for(experts: Iterable[Expert], hazards: Collection[str], position: Position | None) -> list[Called]:
    """Return the experts: who knows most of the hazards first, then the nearest, an unknown place last."""
    return sorted(_called(experts, hazards, position), key=lambda c: (-c.matches, *_far(c.distance_m), c.who.id))


def teams_near(teams: Iterable[Team], hazards: Collection[str], position: Position | None) -> list[Called]:
    """Return the rescue teams: the nearest first, an unknown place last; `matches` says what they are equipped for."""
    return sorted(_called(teams, hazards, position), key=lambda c: (*_far(c.distance_m), -c.matches, c.who.id))


def _called(who: Iterable[Team | Expert], hazards: Collection[str], position: Position | None) -> list[Called]:
    return [Called(x, distance_m(x.position, position), len(set(hazards) & set(x.hazards))) for x in who]


def kit_of(need: Mapping[str, int], have: Sequence[Ranked]) -> list[KitItem]:
    """Return the space's rescue list against its own kit; an empty list means that the ledger names none."""
    return [
        KitItem(kind, n, _on_site(kind, have, in_date=True), _on_site(kind, have, in_date=False)) for kind, n in need.items()
    ]


def _on_site(kind: str, have: Sequence[Ranked], *, in_date: bool) -> int:
    return sum(r.equipment.quantity for r in have if r.on_site and r.in_date is in_date and r.equipment.kind == kind)


def shortages(need: Mapping[str, int], have: Sequence[Ranked]) -> list[Shortage]:
    """Return every kind that the own kit does not cover, with where to fetch the rest (in date, nearest first).

    Radios needed 8, own kit 0, 5 at 300 m and 4 at 600 m: both are named and nothing is missing.
    """
    found = []
    for item in kit_of(need, have):
        if (open_ := item.needed - item.here) > 0:
            sources = []
            for r in have:
                if open_ > 0 and r.equipment.kind == item.kind and r.in_date and not r.on_site:
                    sources.append(r)
                    open_ -= r.equipment.quantity
            found.append(Shortage(item.kind, item.needed, item.here, sources, max(0, open_)))
    return found
