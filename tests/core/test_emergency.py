"""What a rescue needs: cards, respirator rule, what stands nearest, and the first screen in its order."""

import inspect
import math
import re
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manway import emergency
from manway import emergency_screen as emergency_screen_module
from manway.emergency import (
    Card,
    Concentration,
    KitItem,
    KitState,
    Ranked,
    cards_for,
    distance_m,
    experts_for,
    kit_of,
    nearest,
    parse_cards,
    place_text,
    respirator,
    shortages,
    teams_near,
    without_card,
)
from manway.emergency_screen import (
    EmergencyScreen,
    GasNow,
    GasSeen,
    Moment,
    PersonSeen,
    Sample,
    Scene,
    Trend,
    emergency_screen,
    gas_now,
)
from manway.entities import Equipment, Expert, Space, Team
from manway.errors import ProfileInvalid
from manway.limits import Limit
from tests.kit.builders import a_space
from tests.kit.clock import EPOCH

TEXT = (files("manway") / "tables" / "hazards.toml").read_text("utf-8")
FILE = parse_cards(TEXT)
CARDS = FILE.card
NAN = math.nan
WELL = (22.5431, 114.0579)  # Shenzhen
DEGREE_M = 111_195.08  # one degree of a great circle of 6,371,008.8 m: 2 pi r / 360


# -- cards --------------------------------------------------------------------------------------------------------------


def ids(found: list[Card]) -> list[str]:
    return [card.id for card in found]


def test_every_hazard_of_the_table_has_its_card_and_none_is_signed_yet() -> None:
    assert ids(CARDS) == [
        "h2s", "co", "co2", "low_o2", "high_o2", "ch4", "irritants", "ph3", "hcn", "engulfment", "drowning", "energy",
    ]  # fmt: skip
    gases = {"H2S", "CO", "CO2", "O2", "LEL", "CH4", "NH3", "CL2", "SO2", "NO2", "PH3", "HCN"}
    assert {gas for card in CARDS for gas in card.gases} == gases
    assert {card.status for card in CARDS} == {"confirm"}
    assert FILE.note == {"zh": "未经专家签字确认，仅供参考", "en": "Unreviewed until an expert signs"}


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("h2s", ["100 ppm", "500-700 ppm", "sludge", "SCBA", "mouth-to-mouth without a barrier"]),
        ("co", ["No colour, no smell", "Headache", "engines", "even if awake"]),
        ("co2", ["fermentation", "slightly low oxygen", "Measure CO2"]),
        ("low_o2", ["16 %", "10 %", "6 %", "SCBA", "filter mask"]),
        ("high_o2", ["burn", "Stop the source", "No sparks"]),
        ("ch4", ["10 % LEL", "explosion-proof fan", "switch"]),
        ("irritants", ["hours later", "Rinse", "24 h"]),
        ("ph3", ["garlic", "Never put water on phosphide"]),
        ("hcn", ["almonds", "antidote", "SCBA"]),
    ],
)
def test_a_card_says_what_the_design_says(card: str, words: list[str]) -> None:
    text = next(c for c in CARDS if c.id == card).en
    said = " ".join([*text.signs, *text.do, *text.never])
    assert [word for word in words if word not in said] == []


def test_each_language_is_its_own_and_no_card_lets_anybody_in() -> None:
    for card in CARDS:
        zh, en = (msgspec.json.encode(words).decode() for words in (card.zh, card.en))
        assert re.search(r"[\u4e00-\u9fff]", zh)
        assert not re.search(r"[\u4e00-\u9fff\u2082]", en)
        assert "\u2082" not in zh, "Noto Sans CJK has no such digit"
        assert not re.search(r"\b(go|climb) in\b", " ".join(card.en.do))
        assert [len(card.zh.signs) > 0, len(card.zh.do), len(card.zh.never)] == [True, len(card.en.do), len(card.en.never)]


def test_the_broken_gas_comes_first_then_the_hazards_then_other_gases_each_once() -> None:
    assert ids(cards_for(CARDS, ["h2s", "low_o2", "ch4"], ["CO"], "LEL")) == ["ch4", "h2s", "low_o2", "co"]
    assert ids(cards_for(CARDS, ["engulfment", "fire"])) == ["engulfment", "ch4"]
    assert ids(cards_for(CARDS, ["h2s"], ["H2S", "NO2"], "CO")) == ["co", "h2s", "irritants"]
    assert cards_for(CARDS, []) == []


def test_oxygen_has_two_cards_and_an_unknown_side_shows_both() -> None:
    assert ids(cards_for(CARDS, ["low_o2"], broken="O2", side="high")) == ["high_o2", "low_o2"]
    assert ids(cards_for(CARDS, [], broken="O2", side="low")) == ["low_o2"]
    assert ids(cards_for(CARDS, [], broken="O2")) == ["low_o2", "high_o2"]
    assert ids(cards_for(CARDS, [], broken="H2S", side="high")) == ["h2s"]


def test_a_hazard_without_a_card_is_named() -> None:
    assert without_card(CARDS, ["h2s", "residue", "radiation"]) == ["residue", "radiation"]


ONE = """
[[card]]
id = "x"
hazards = ["x"]
gases = []
source = "here"
status = "confirm"
zh = { title = "甲", signs = ["甲"], do = ["甲"], never = ["甲"] }
en = { title = "a", signs = ["a"], do = ["a"], never = ["a"] }
"""
HEAD = 'version = "1"\nnote = { zh = "甲", en = "a" }\n'


def test_the_smallest_card_loads_and_a_signed_one_may_be_cited() -> None:
    assert ids(parse_cards(HEAD + ONE).card) == ["x"]
    signed = ONE.replace('"confirm"', '"cited"\nsigned_by = "Dr. Lin, 2026-12-01"')
    assert parse_cards(HEAD + signed).card[0].signed_by == "Dr. Lin, 2026-12-01"


@pytest.mark.parametrize(
    "text",
    [
        "no toml",
        ONE,
        HEAD + ONE + 'extra = "unknown field"\n',
        HEAD + ONE.replace('title = "a"', 'title = "a", colour = "red"'),
        HEAD + ONE.replace('hazards = ["x"]', "hazards = [1]"),
        HEAD + ONE.replace('source = "here"\n', ""),
        HEAD + ONE.replace('source = "here"', 'source = " "'),
        HEAD + ONE.replace('hazards = ["x"]', "hazards = []"),
        HEAD + ONE.replace('"confirm"', '"choice"'),
        HEAD + ONE.replace('"confirm"', '"cited"'),
        HEAD + ONE.replace('"confirm"', '"cited"\nsigned_by = " "'),
        HEAD + ONE.replace('"confirm"', '"confirm"\nsigned_by = "Dr. Lin"'),
        HEAD + ONE.replace('"confirm"', '"confirm"\nside = "left"'),
        HEAD + ONE.replace('signs = ["a"]', "signs = []"),
        HEAD + ONE.replace('do = ["甲"]', "do = []"),
        HEAD + ONE.replace('never = ["a"]', "never = []"),
        HEAD + ONE.replace('never = ["甲"]', 'never = [" "]'),
        HEAD + ONE + ONE,
        HEAD.replace('zh = "甲", ', "") + ONE,
    ],
)
def test_a_wrong_table_stops_the_start(text: str) -> None:
    with pytest.raises(ProfileInvalid):
        parse_cards(text)


# -- respirator [18664] -------------------------------------------------------------------------------------------------


def h2s(value: float | None, limit: float | None = 10.0, idlh: float | None = 141.7) -> Concentration:
    return Concentration("H2S", value, limit, idlh)  # mg/m3; 100 ppm at 20 °C


def co(value: float | None) -> Concentration:
    return Concentration("CO", value, 30.0, 1700.0)


@pytest.mark.parametrize(
    ("gases", "oxygen", "known", "reason"),
    [
        ([h2s(1.0)], 20.9, False, "hazard_unknown"),
        ([], 20.9, True, "hazard_unknown"),
        ([h2s(1.0)], None, True, "oxygen_unknown"),
        ([h2s(1.0)], NAN, True, "oxygen_unknown"),
        ([h2s(1.0)], math.inf, True, "oxygen_unknown"),
        ([h2s(1.0)], -0.1, True, "oxygen_unknown"),
        ([h2s(1.0)], 19.49, True, "oxygen_low"),
        ([h2s(None)], 20.9, True, "concentration_unknown"),
        ([h2s(NAN)], 20.9, True, "concentration_unknown"),
        ([h2s(-1.0)], 20.9, True, "concentration_unknown"),
        ([h2s(1.0, limit=None)], 20.9, True, "concentration_unknown"),
        ([h2s(1.0, limit=0.0)], 20.9, True, "concentration_unknown"),
        ([h2s(1.0, limit=-1.0)], 20.9, True, "concentration_unknown"),
        ([h2s(1.0, idlh=None)], 20.9, True, "concentration_unknown"),
        ([h2s(1.0, idlh=NAN)], 20.9, True, "concentration_unknown"),
        ([co(60.0), h2s(141.7)], 20.9, True, "idlh"),
        ([co(60.0), h2s(500.0)], 20.9, True, "idlh"),
    ],
)
def test_what_is_unknown_or_deadly_asks_for_scba(
    gases: list[Concentration], oxygen: float | None, reason: str, *, known: bool
) -> None:
    rule = respirator(gases, oxygen=oxygen, hazards_known=known)
    assert (rule.scba, rule.factor, rule.reason) == (True, None, f"respirator.{reason}")
    assert rule.gas == ("" if reason == "hazard_unknown" else "O2" if reason.startswith("oxygen") else "H2S")


def test_below_idlh_the_largest_ratio_decides() -> None:
    rule = respirator([h2s(50.0), co(300.0)], oxygen=19.5, hazards_known=True)
    assert (rule.scba, rule.factor, rule.gas, rule.reason) == (False, 10.0, "CO", "respirator.factor")
    assert respirator([h2s(141.6), co(300.0)], oxygen=20.9, hazards_known=True).factor == pytest.approx(14.16)
    assert respirator([h2s(0.0)], oxygen=20.9, hazards_known=True).factor == 0.0


anything = st.one_of(st.none(), st.floats(), st.floats(0, 2000))


@settings(max_examples=300, derandomize=True)
@given(value=anything, limit=anything, idlh=anything, oxygen=anything)
def test_a_filter_is_named_only_for_air_that_is_wholly_known(
    value: float | None, limit: float | None, idlh: float | None, oxygen: float | None
) -> None:
    rule = respirator([h2s(value, limit, idlh)], oxygen=oxygen, hazards_known=True)
    if not rule.scba:
        assert value is not None
        assert idlh is not None
        assert oxygen is not None
        assert limit is not None
        assert 0 <= value < idlh < math.inf
        assert 19.5 <= oxygen < math.inf
        assert 0 < limit < math.inf


# -- what stands nearest ------------------------------------------------------------------------------------------------


def metres_north(metres: float) -> tuple[float, float]:
    return WELL[0] + metres / DEGREE_M, WELL[1]


def gear(
    name: str, kind: str = "radio", *, quantity: int = 1, at: tuple[float, float] | None = WELL, **other: object
) -> Equipment:
    base = Equipment(name, kind, "blue", {"en": name}, quantity, position=at, due_at=EPOCH + 86_400, phone="555")
    return msgspec.structs.replace(base, **other)


def names(found: list[Ranked]) -> list[str]:
    return [r.equipment.id for r in found]


def test_distances_are_those_of_the_great_circle() -> None:
    assert distance_m((0.0, 0.0), (0.0, 1.0)) == pytest.approx(DEGREE_M, rel=1e-6)
    assert distance_m((0.0, 0.0), (0.0, 180.0)) == pytest.approx(math.pi * 6_371_008.8)
    assert distance_m((60.0, 0.0), (60.0, 1.0)) == pytest.approx(55_597, rel=1e-3)  # cos 60° of a degree
    assert distance_m((39.9042, 116.4074), (31.2304, 121.4737)) == pytest.approx(1_067_300, rel=2e-3)  # Beijing, Shanghai
    assert distance_m(WELL, metres_north(300)) == pytest.approx(300, abs=0.01)
    assert distance_m((0.0, 179.9), (0.0, -179.9)) == pytest.approx(0.2 * DEGREE_M, rel=1e-6)
    assert distance_m((90.0, 0.0), (-90.0, 180.0)) == pytest.approx(math.pi * 6_371_008.8)


NOWHERE = [None, (NAN, 0.0), (0.0, NAN), (90.1, 0.0), (0.0, -180.1), (math.inf, 0.0)]


@pytest.mark.parametrize("place", NOWHERE)
def test_what_is_no_place_has_no_distance_and_no_text(place: tuple[float, float] | None) -> None:
    assert distance_m(place, WELL) is None
    assert distance_m(WELL, place) is None
    assert place_text(place) is None
    assert place_text(WELL) == "22.54310, 114.05790"


def test_the_nearest_comes_first_then_the_larger_quantity() -> None:
    stock = [
        gear("far", at=metres_north(600)),
        gear("near-few", at=metres_north(300), quantity=2),
        gear("near-many", at=metres_north(300), quantity=5),
        gear("other", "fan", at=WELL),
        gear("scrapped", scrapped=True),
        gear("none-left", quantity=0),
    ]
    found = nearest(stock, WELL, {"radio"}, EPOCH)
    assert names(found) == ["near-many", "near-few", "far"]
    assert [round(r.distance_m or -1) for r in found] == [300, 300, 600]
    assert all(r.in_date and not r.on_site for r in found)
    assert nearest(stock, WELL, set(), EPOCH) == []


@pytest.mark.parametrize("due", [None, EPOCH, EPOCH - 1, NAN, math.inf])
def test_gear_not_shown_to_be_in_date_comes_last_and_says_so(due: float | None) -> None:
    found = nearest([gear("here", due_at=due), gear("far", at=metres_north(9000))], WELL, {"radio"}, EPOCH)
    assert [(r.equipment.id, r.in_date) for r in found] == [("far", True), ("here", False)]
    assert nearest([gear("x", due_at=EPOCH + 0.1)], WELL, {"radio"}, EPOCH)[0].in_date


@pytest.mark.parametrize("place", NOWHERE)
def test_an_unknown_place_comes_last_and_never_crashes(place: tuple[float, float] | None) -> None:
    stock = [gear("nowhere", at=place, quantity=9), gear("far", at=metres_north(9000)), gear("old", due_at=EPOCH)]
    found = nearest(stock, WELL, {"radio"}, EPOCH)
    assert names(found) == ["far", "nowhere", "old"]
    assert found[1].distance_m is None
    lost = nearest(stock, place, {"radio"}, EPOCH)
    assert [r.distance_m for r in lost] == [None] * 3
    assert names(lost) == ["nowhere", "far", "old"]


def test_the_spaces_own_kit_is_at_hand_wherever_it_says_it_is() -> None:
    found = nearest([gear("kit", at=None, space="n01"), gear("store")], WELL, {"radio"}, EPOCH, space="n01")
    assert [(r.equipment.id, r.distance_m, r.on_site) for r in found] == [("kit", 0.0, True), ("store", 0.0, False)]
    assert not nearest([gear("store")], WELL, {"radio"}, EPOCH)[0].on_site, "a store belongs to no space"


def test_shortages_name_where_the_rest_comes_from() -> None:
    """300 m has 5 radios, 600 m has 4 (`domain.md` §2.2)."""
    stock = [gear("a", quantity=5, at=metres_north(300)), gear("b", quantity=4, at=metres_north(600))]
    have = nearest(stock, WELL, {"radio"}, EPOCH)
    short = {n: [(names(s.sources), s.missing) for s in shortages({"radio": n}, have)] for n in (0, 5, 6, 9, 10)}
    assert short == {0: [], 5: [(["a"], 0)], 6: [(["a", "b"], 0)], 9: [(["a", "b"], 0)], 10: [(["a", "b"], 1)]}


def test_the_own_kit_counts_first_and_expired_gear_never_fills_a_gap() -> None:
    stock = [
        gear("kit", quantity=2, space="n01"),
        gear("kit-old", quantity=3, space="n01", due_at=EPOCH),
        gear("store", quantity=1, at=metres_north(300)),
        gear("store-old", quantity=9, at=metres_north(10), due_at=EPOCH),
        gear("scba", "scba", quantity=2, space="n01"),
    ]
    need = {"radio": 4, "scba": 2, "tripod": 1}
    have = nearest(stock, WELL, set(need), EPOCH, space="n01")
    assert [(s.kind, s.needed, s.here, names(s.sources), s.missing) for s in shortages(need, have)] == [
        ("radio", 4, 2, ["store"], 1),
        ("tripod", 1, 0, [], 1),
    ]
    kit = kit_of(need, have)
    assert [(k.kind, k.needed, k.here, k.expired) for k in kit] == [("radio", 4, 2, 3), ("scba", 2, 2, 0), ("tripod", 1, 0, 0)]
    assert [k.state for k in kit] == [KitState.EXPIRED, KitState.YES, KitState.NO]
    assert kit_of({}, have) == []
    assert [KitItem("radio", 2, 1, expired).state for expired in (0, 1)] == [KitState.NO, KitState.EXPIRED]


def test_experts_who_know_the_hazards_come_first_and_the_nearest_team() -> None:
    def expert(name: str, hazards: list[str], at: tuple[float, float] | None) -> Expert:
        return Expert(name, {"en": name}, "city", "555", hazards, at)

    known = [
        expert("near", [], metres_north(10)),
        expert("lost", ["h2s"], None),
        expert("one", ["h2s", "co"], metres_north(500)),
        expert("both", ["h2s", "ch4"], metres_north(9000)),
        expert("one-near", ["ch4"], metres_north(400)),
    ]
    found = experts_for(known, ["h2s", "ch4"], WELL)
    assert [(c.who.id, c.matches) for c in found] == [("both", 2), ("one-near", 1), ("one", 1), ("lost", 1), ("near", 0)]
    teams = [Team(e.id, e.name, e.org, e.phone, e.position, 4, e.hazards) for e in known]
    assert [c.who.id for c in teams_near(teams, ["h2s", "ch4"], WELL)] == ["near", "one-near", "one", "both", "lost"]
    assert [c.who.id for c in teams_near(teams, ["h2s", "ch4"], None)] == ["both", "lost", "one", "one-near", "near"]


places = st.one_of(st.none(), st.tuples(st.floats(), st.floats()), st.tuples(st.floats(-90, 90), st.floats(-180, 180)))
pieces = st.builds(
    lambda name, quantity, at, due: gear(name, quantity=quantity, at=at, due_at=due),
    st.text("abc", min_size=1, max_size=3),
    st.integers(-1, 5),
    places,
    st.one_of(st.none(), st.floats(), st.sampled_from([EPOCH - 1, EPOCH + 1])),
)


@settings(max_examples=200, derandomize=True)
@given(stock=st.lists(pieces, max_size=6), place=places, need=st.integers(0, 20))
def test_any_stock_anywhere_is_ranked_and_nothing_is_counted_that_is_not_there(
    stock: list[Equipment], place: tuple[float, float] | None, need: int
) -> None:
    found = nearest(stock, place, {"radio"}, EPOCH)
    assert len(found) == sum(e.quantity > 0 for e in stock)
    keys = [(not r.in_date, r.distance_m is None, r.distance_m or 0.0) for r in found]
    assert keys == sorted(keys)
    there = sum(r.equipment.quantity for r in found if r.in_date)
    assert sum(s.missing for s in shortages({"radio": need}, found)) == max(0, need - there)


# -- the first screen ---------------------------------------------------------------------------------------------------

H2S_LIMITS = [
    Limit("pre", "above", 5.0, "GBZ/T 223", "confirm"),
    Limit("low", "above", 10.0, "GBZ 2.1", "cited"),
    Limit("high", "above", 20.0, "GB/T 50493", "cited"),
]
O2_LIMITS = [
    Limit("low", "below", 19.5, "5.9.1", "cited"),
    Limit("high", "below", 18.0, "6.3", "choice"),
    Limit("low", "over", 23.5, "5.9.1", "cited"),
]


def rising(slope_per_s: float = 0.02, *, until: float = EPOCH, n: int = 31) -> list[Sample]:
    return [Sample(until - 10.0 * i, 18.4 - slope_per_s * 10.0 * i) for i in range(n)][::-1]


def seen(value: float | None = 18.4, *, age: float = 1.0, gas: str = "H2S", limits: list[Limit] = H2S_LIMITS) -> GasSeen:
    status = "fault" if value is None else "ok"
    return GasSeen("gas-1", gas, "mg/m3", status, value, EPOCH - age, limits, 0.5)


def with_history(history: list[Sample]) -> GasSeen:
    return msgspec.structs.replace(seen(), history=history)


def the_well() -> Space:
    need = {"tripod": 1, "lifeline": 1, "scba": 2}
    return msgspec.structs.replace(
        a_space(), hazards=["h2s", "co2"], rescue_kit=need, position=WELL, address="Lanqu Road 6", depth_m=6.0
    )


LI = PersonSeen("li", {"en": "Li"}, EPOCH - 2400)
ZHANG = PersonSeen("zhang", {"en": "Zhang"}, EPOCH - 2520, motion_at=EPOCH - 60, answer_at=EPOCH - 90)
LOW, HIGH = Moment("a", EPOCH - 20, "alarm.GAS_LOW"), Moment("b", EPOCH - 10, "alarm.GAS_HIGH")


def a_scene(**other: object) -> Scene:
    stock = [gear("t", "tripod", space="n01"), gear("l", "lifeline", space="n01"), gear("s", "scba", at=metres_north(300))]
    base = Scene(
        space=the_well(),
        people=[LI, ZHANG],
        count_known=True,
        gas=[seen(20.9, gas="O2", limits=O2_LIMITS), seen(2.0, gas="LEL", limits=[]), seen()],
        stale_s=5.0,
        cards=CARDS,
        equipment=stock,
        teams=[Team("t1", {"en": "Team 1"}, "city", "119", metres_north(900))],
        experts=[Expert("e1", {"en": "Dr. Lin"}, "city", "555", ["h2s"])],
        moments=[HIGH, LOW, HIGH],
        photo="aa",
    )
    return msgspec.structs.replace(base, **other)


def screen(**other: object) -> EmergencyScreen:
    return emergency_screen(a_scene(**other), EPOCH)


def steps(**other: object) -> list[str]:
    return [step.key.removeprefix("emergency.do.") for step in screen(**other).do_now]


def test_the_fields_stand_in_the_order_of_the_screen() -> None:
    order = ["banner", "where", "inside", "gas", "do_now", "supplies", "hazards", "timeline"]
    assert list(EmergencyScreen.__struct_fields__[:8]) == order
    sent = msgspec.json.decode(msgspec.json.encode(screen()))
    assert list(sent) == [*order, "made_at"]


def test_the_screen_first_stops_people_from_going_in() -> None:
    assert screen().banner == "emergency.banner"
    empty = emergency_screen(Scene(a_space(), [], count_known=False, gas=[], stale_s=5.0, cards=[]), EPOCH)
    assert empty.banner == "emergency.banner", "whatever else is unknown"


def test_the_screen_says_where_who_and_what_happened() -> None:
    made = screen()
    assert (made.where.address, made.where.position, made.where.entrances, made.where.photo) == (
        "Lanqu Road 6",
        WELL,
        ["n01-a"],
        "aa",
    )
    assert (made.where.space, made.where.kind, made.where.depth_m) == ("n01", "sewer_well", 6.0)
    assert made.inside.count == 2
    assert [p.person for p in made.inside.people] == ["zhang", "li"], "the longest inside first"
    assert [m.id for m in made.timeline] == ["a", "b"], "each event once, the oldest first"
    assert made.made_at == EPOCH


def test_an_unknown_count_is_said_to_be_unknown() -> None:
    assert screen(count_known=False).inside.count is None
    assert screen(people=[], count_known=True).inside.count == 0


def test_the_screen_shows_kit_shortages_and_whom_to_call() -> None:
    supplies = screen().supplies
    assert {k.kind: k.state for k in supplies.kit} == {"tripod": KitState.YES, "lifeline": KitState.YES, "scba": KitState.NO}
    assert [r.equipment.id for r in supplies.nearest] == ["l", "t", "s"]
    assert [(s.kind, s.missing) for s in supplies.shortages] == [("scba", 1)]
    assert ([c.who.phone for c in supplies.teams], [c.who.id for c in supplies.experts]) == (["119"], ["e1"])


def test_the_card_of_the_broken_gas_comes_first() -> None:
    assert ids(screen().hazards.cards) == ["h2s", "co2"]
    low = [seen(17.9, gas="O2", limits=O2_LIMITS), seen(10.0)]
    assert ids(screen(gas=low).hazards.cards) == ["low_o2", "h2s", "co2"], "the worst level leads"
    high = [seen(23.6, gas="O2", limits=O2_LIMITS)]
    assert ids(screen(gas=high).hazards.cards) == ["high_o2", "h2s", "co2"]
    silent = screen(gas=[seen(age=60.0)], alarm_gas="O2", alarm_side="low")
    assert ids(silent.hazards.cards) == ["low_o2", "h2s", "co2"], "an instrument fell silent after its alarm"
    assert screen(space=msgspec.structs.replace(the_well(), hazards=["radiation"])).hazards.unknown == ["radiation"]


def test_what_to_do_now_stands_in_order() -> None:
    assert steps() == ["call_inside", "ventilate", "lift", "call_rescue"]
    assert screen().do_now[3].params == {"address": "Lanqu Road 6"}


def test_the_lift_needs_tripod_and_lifeline_in_date() -> None:
    for missing in ("t", "l"):
        stock = [e for e in a_scene().equipment if e.id != missing]
        assert steps(equipment=stock)[2] == "lift_if_tied"
    old = [msgspec.structs.replace(e, due_at=EPOCH) for e in a_scene().equipment]
    assert steps(equipment=old)[2] == "lift_if_tied"


def test_the_fan_is_explosion_proof_unless_the_air_is_known_not_to_burn() -> None:
    lel = [Limit("low", "above", 10.0, "5.9.1", "cited")]
    assert steps(gas=[seen(9.9, gas="LEL", limits=lel)])[1] == "ventilate"
    assert steps(gas=[seen(0.1, gas="CH4", limits=lel)])[1] == "ventilate"
    proof = "ventilate_explosion_proof"
    assert steps(gas=[seen(10.0, gas="LEL", limits=lel)])[1] == proof
    assert steps(gas=[seen(None, gas="LEL", limits=lel)])[1] == proof
    assert steps(gas=[seen()])[1] == proof, "nobody measures what burns"
    for hazard in ("ch4", "fire"):
        assert steps(space=msgspec.structs.replace(the_well(), hazards=[hazard]))[1] == proof


def test_whom_to_call_with_which_address() -> None:
    assert steps(drill=True)[3] == "drill"
    nameless = msgspec.structs.replace(the_well(), address="")
    assert screen(space=nameless).do_now[3].params == {"address": "22.54310, 114.05790"}
    nowhere = msgspec.structs.replace(nameless, position=(NAN, 0.0))
    assert steps(space=nowhere)[3] == "call_rescue_no_address"


# -- gas now ------------------------------------------------------------------------------------------------------------


def now_of(given_: GasSeen) -> GasNow:
    return gas_now(given_, EPOCH, stale_s=5.0)


@pytest.mark.parametrize(
    ("value", "broken"),
    [(4.9, None), (5.0, "pre"), (9.99, "pre"), (10.0, "low"), (19.9, "low"), (20.0, "high"), (999.0, "high")],
)
def test_the_worst_broken_limit_is_named(value: float, broken: str | None) -> None:
    found = now_of(seen(value)).broken
    assert (found.level if found else None) == broken


@pytest.mark.parametrize(
    ("given_", "status", "age"),
    [
        (seen(None), "fault", 1.0),
        (msgspec.structs.replace(seen(), status="fault"), "fault", 1.0),  # a number beside a fault is none
        (msgspec.structs.replace(seen(), value=None), "invalid", 1.0),
        (seen(NAN), "invalid", 1.0),
        (seen(math.inf), "invalid", 1.0),
        (seen(age=5.01), "stale", 5.01),
        (msgspec.structs.replace(seen(), at=None), "none", None),
        (seen(age=-2.5), "none", None),
        (seen(age=NAN), "none", None),
        (msgspec.structs.replace(seen(), at=-math.inf), "none", None),
    ],
)
def test_a_stale_or_unknown_value_is_said_to_be_unknown(given_: GasSeen, status: str, age: float | None) -> None:
    found = now_of(msgspec.structs.replace(given_, history=rising()))
    assert (found.value, found.broken, found.trend, found.rise) == (None, None, Trend.UNKNOWN, None)
    assert found.status == status
    assert found.age_s == (None if age is None else pytest.approx(age))
    assert len(found.curve) == 31, "the curve is still shown"


@pytest.mark.parametrize(("age", "shown"), [(5.0, 5.0), (0.0, 0.0), (-2.0, 0.0)])
def test_a_fresh_value_is_shown_with_its_age(age: float, shown: float) -> None:
    found = now_of(seen(age=age))
    assert (found.value, found.status, found.age_s) == (18.4, "ok", shown)


@pytest.mark.parametrize(
    ("slope", "trend"),
    [(0.02, Trend.RISING), (-0.02, Trend.FALLING), (0.0, Trend.STEADY), (0.0016, Trend.STEADY), (0.0017, Trend.RISING)],
)
def test_the_trend_is_the_change_of_five_minutes_beyond_the_deadband(slope: float, trend: Trend) -> None:
    found = now_of(with_history(rising(slope)))
    assert found.trend is trend
    assert found.rise == pytest.approx(slope * 300, abs=1e-9)


def test_too_little_too_short_or_absurd_data_is_no_trend() -> None:
    assert now_of(with_history([])).trend is Trend.UNKNOWN
    assert now_of(with_history(rising(n=7))).trend is Trend.RISING, "60 s"
    assert now_of(with_history(rising(n=6))).trend is Trend.UNKNOWN, "50 s"
    assert now_of(with_history(rising()[::10])).trend is Trend.UNKNOWN, "four points"
    assert now_of(with_history([Sample(s.at, None) for s in rising()])).trend is Trend.UNKNOWN
    assert now_of(with_history([Sample(s.at, NAN) for s in rising()])).trend is Trend.UNKNOWN
    assert now_of(with_history([Sample(s.at, 1.7e308 * (-1) ** i) for i, s in enumerate(rising())])).rise is None


def test_five_points_are_a_trend_and_a_flat_line_is_steady_without_any_deadband() -> None:
    assert len(rising()[::7]) == 5
    assert now_of(with_history(rising()[::7])).trend is Trend.RISING
    assert now_of(msgspec.structs.replace(with_history(rising(0.0)), deadband=0.0)).trend is Trend.STEADY


def test_the_curve_is_the_last_five_minutes() -> None:
    history = [Sample(EPOCH - 300.1, 1.0), *rising(), Sample(EPOCH + 1, 1.0), Sample(NAN, 1.0)]
    assert now_of(with_history(history)).curve == rising()


@settings(max_examples=200, derandomize=True)
@given(value=st.one_of(st.none(), st.floats()), at=st.one_of(st.none(), st.floats(), st.floats(EPOCH - 20, EPOCH + 5)))
def test_whatever_is_read_a_shown_number_is_finite_and_fresh(value: float | None, at: float | None) -> None:
    found = now_of(msgspec.structs.replace(seen(), value=value, at=at))
    if found.value is not None:
        assert math.isfinite(found.value)
        assert found.age_s is not None
        assert 0 <= found.age_s <= 5.0
    else:
        assert found.broken is None
        assert found.status != "ok"


# -- texts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["zh_CN", "en"])
def test_every_key_has_a_text(language: str) -> None:
    source = inspect.getsource(emergency) + inspect.getsource(emergency_screen_module)
    keys = set(re.findall(r'"((?:emergency|respirator)\.[a-z_.]+)"', source))
    assert {"emergency.do.call_inside", "respirator.idlh", "emergency.banner"} <= keys, "read wrongly"
    keys |= {f"emergency.kit.{state.value}" for state in KitState} | {f"trend.{trend.value}" for trend in Trend}
    keys |= {f"hazard.{hazard}" for card in CARDS for hazard in card.hazards} | {f"emergency.part.{n}" for n in range(1, 9)}
    texts = msgspec.json.decode((files("manway") / "locales" / f"{language}.json").read_bytes(), type=dict[str, str])
    assert sorted(keys - texts.keys()) == []
