"""The incident brief and its follow-ups: the form's fields in order, only differences, and nothing lost between them."""

import itertools
import math
import re
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manway.brief import FIELDS, Brief, Change, FollowUp, Incident, Item, Value, brief, fold, follow_up, left_s, render
from manway.emergency import Called, KitItem, nearest
from manway.emergency_screen import GasNow, Moment, PersonSeen, Sample, Trend
from manway.entities import Entrance, Equipment, Signature, Space, Team
from manway.events import AlarmEvent, AlarmRaised, AlarmRepeated, PersonLeft
from manway.ids import Priority
from manway.limits import Limit
from tests.kit.builders import a_permit, a_space
from tests.kit.clock import EPOCH

WELL = (22.5431, 114.0579)
NAMES = {"ann": {"zh": "安娜", "en": "Ann"}, "bob": {"zh": "鲍勃", "en": "Bob"}, "att": {"en": "Li"}, "app": {"en": "Wang"}}
LOCALES = {
    language: msgspec.json.decode((files("manway") / "locales" / f"{file}.json").read_bytes(), type=dict[str, str])
    for language, file in (("zh", "zh_CN"), ("en", "en"))
}


def raised(
    name: str = "r1", *, at: float = 0.0, gas: str = "H2S", value: float | None = 18.4, limit: float = 10.0
) -> AlarmRaised:
    return AlarmRaised(
        id=name, at=EPOCH + at, site="yard", alarm="a", kind="GAS_LOW", object=f"gas-1/{gas}", space="n01",
        priority=Priority.P1, value=value, limit=limit, unit="mg/m3",
    )  # fmt: skip


def repeated(name: str, *, at: float) -> AlarmRepeated:
    return AlarmRepeated(
        id=name, at=EPOCH + at, site="yard", alarm="a", kind="GAS_LOW", object="gas-1/H2S", space="n01", count=2
    )


def left(person: str = "ann", *, at: float = 60.0) -> PersonLeft:
    return PersonLeft(
        id=f"left-{person}", at=EPOCH + at, site="yard", space="n01", permit="permit-1", person=person, source="attendant"
    )


def gas(value: float | None = 12.0, *, name: str = "H2S", peak: float | None = None, broken: Limit | None = None) -> GasNow:
    curve = [] if peak is None else [Sample(EPOCH, peak), Sample(EPOCH + 1, None), Sample(EPOCH + 2, math.nan)]
    return GasNow("gas-1", name, "mg/m3", "ok", value, 1.0, broken, Trend.FALLING, -3.0, curve)


def the_space() -> Space:
    return msgspec.structs.replace(a_space(), position=WELL, address="Lanqu Road 6", width_m=1.2)


ANN = PersonSeen("ann", NAMES["ann"], EPOCH - 900, answer_at=EPOCH - 30)
BOB = PersonSeen("bob", NAMES["bob"], EPOCH - 800)
TEAMS = [
    Called(Team("t1", {"en": "Team 1"}, "city", "119", WELL), 912.4, 0),
    Called(Team("t2", {"en": "Team 2"}, "city", ""), None, 0),
]


def an_incident(**other: object) -> Incident:
    permit = msgspec.structs.replace(
        a_permit(attendant="att"), signatures=[Signature("supervisor", "sup", EPOCH), Signature("approver", "app", EPOCH)]
    )
    stock = [
        Equipment("s1", "scba", "blue", {"en": "Store 1"}, 2, position=(22.5441, 114.0579), due_at=EPOCH + 9e6, phone="555"),
        Equipment("s2", "scba", "blue", {"en": "Store 2"}, 2, position=WELL, due_at=EPOCH - 1),
        Equipment("s3", "scba", "blue", {"en": "Kit"}, 1, space="n01", due_at=EPOCH + 9e6),
    ]
    base = Incident(
        number="2027-0115-1",
        started_at=EPOCH,
        firm={"zh": "蓝渠", "en": "Blue Channel"},
        space=the_space(),
        permit=permit,
        names=NAMES,
        alarms=[raised()],
        gas=[gas()],
        people=[ANN, BOB],
        count_known=True,
        left=[],
        measures=[Moment("m1", EPOCH + 20, "brief.did.ventilated", "Li")],
        kit=[KitItem("scba", 2, 1, 0), KitItem("tripod", 1, 1, 0)],
        nearest=nearest(stock, WELL, {"scba"}, EPOCH, space="n01"),
        teams=TEAMS,
    )  # fmt: skip
    return msgspec.structs.replace(base, **other)


def words(language: str = "en") -> dict[str, str]:
    return LOCALES[language]


def clock(at: float) -> str:
    return f"T{at - EPOCH:+.0f}"


def text_of(report: Brief | FollowUp, *, language: str = "en", now: float = EPOCH + 60) -> str:
    return render(report, words(language).__getitem__, clock, language=language, now=now)


def item(report: Brief, field: str, name: str) -> dict[str, Value]:
    return report.items[field][name].params


# -- the form -----------------------------------------------------------------------------------------------------------


def test_the_fields_are_those_of_the_form_in_its_order() -> None:
    assert [f.id + (" ▢" if f.by_hand else "") for f in FIELDS] == [
        "report", "place", "space", "permit", "alarms", "trapped", "rescued", "measures", "equipment", "reinforcement",
        "people_nearby ▢", "casualties ▢", "cause ▢", "support ▢", "reporter ▢",
    ]  # fmt: skip
    assert list(brief(an_incident(), EPOCH).items) == [f.id for f in FIELDS]


@pytest.mark.parametrize("language", LOCALES)
def test_every_field_and_every_line_has_its_text(language: str) -> None:
    made = brief(an_incident(permit=None), EPOCH)
    full = brief(an_incident(left=[left()], by_hand={"cause": "?"}), EPOCH)
    for report, field in itertools.product((made, full), FIELDS):
        assert words(language)[field.label]
        for line in report.items[field.id].values():
            places = set(re.findall(r"{(\w+)}", words(language)[line.key]))
            assert places == set(line.params), line.key


def test_the_brief_as_it_is_read() -> None:
    made = brief(an_incident(by_hand={"casualties": " none known ", "cause": " "}), EPOCH + 60)
    assert text_of(made).splitlines() == [
        "Incident brief T+60",
        "59 min left to report within 1 h (confirm locally)",
        "No./time: 2027-0115-1 · began T+0",
        "Firm, address, position: Blue Channel · Lanqu Road 6 · 22.54310, 114.05790",
        "Space (number, kind, size, entrances): n01 Well / Sewer well / depth 6 m, width 1.2 m / n01-a",
        f"Permit, work, approver, attendant: {a_permit().number} · {a_permit().work} · approver Wang · attendant Li",
        f"{words()['brief.alarms']}: Gas over its limit (gas-1/H2S), first T+0, peak 18.4 mg/m3, now 12 mg/m3, falling",
        "Trapped (name, entered, last answer): 2 inside",
        "    Ann, entered T-900, last answer T-30",
        "    Bob, entered T-800, last answer unknown",
        "Out: none",
        "Measures taken (ventilation, calls, energy off; time): T+20 ventilated (Li)",
        "Rescue gear on site (there, not there): SCBA: not there (1/2)",
        "    Rescue tripod: there (1/1)",
        "Nearest reinforcement (name, distance, phone): SCBA × 2, Store 1, 111 m, 555",
        "    Team 1, 912 m, 119",
        "    Team 2, unknown m, unknown",
        "▢ People within 1 km:",
        "▢ Casualties: none known",
        "▢ First view of the cause:",
        "▢ Support needed:",
        "▢ Reported by:",
    ]


def test_the_lines_of_a_field_keep_their_names() -> None:
    """Their ids are what a follow-up compares by."""
    two = msgspec.structs.replace(the_space(), entrances=[Entrance("a", "lock-1"), Entrance("b", "lock-2")])
    made = brief(an_incident(space=two), EPOCH)
    assert {field: list(items) for field, items in made.items.items() if items} == {
        "report": ["number"],
        "place": ["place"],
        "space": ["space"],
        "permit": ["permit"],
        "alarms": ["GAS_LOW:gas-1/H2S"],
        "trapped": ["count", "ann", "bob"],
        "measures": ["m1"],
        "equipment": ["scba", "tripod"],
        "reinforcement": ["equipment:s1", "team:t1", "team:t2"],
    }
    assert item(made, "space", "space")["entrances"] == "a, b"


def test_the_brief_in_chinese() -> None:
    lines = text_of(brief(an_incident(), EPOCH + 60), language="zh").splitlines()
    assert lines[0] == "事故快报 T+60"
    assert "单位·地址·坐标: 蓝渠 · Lanqu Road 6 · 22.54310, 114.05790" in lines
    assert "    鲍勃，进入 T-800，末次应答 不明" in lines
    assert lines[-1] == "▢ 报送人:"


def test_what_nobody_knows_is_said_to_be_unknown() -> None:
    bare = msgspec.structs.replace(the_space(), address="", position=None, width_m=0.0)
    unsigned = msgspec.structs.replace(a_permit(attendant="stranger"), signatures=[])
    made = brief(an_incident(space=bare, permit=unsigned, count_known=False, left=[left("stranger")], names={}, firm={}), EPOCH)
    assert item(made, "place", "place") == {"firm": {}, "address": None, "position": None}
    assert item(made, "space", "space")["width"] is None
    assert (item(made, "permit", "permit")["approver"], item(made, "permit", "permit")["attendant"]) == (None, None)
    assert item(made, "trapped", "count") == {"count": None}
    assert item(made, "rescued", "left-stranger") == {"name": None, "out_at": EPOCH + 60}
    text = text_of(made)
    assert "unknown · unknown · unknown" in text
    assert "Trapped (name, entered, last answer): unknown inside" in text
    assert "Permit, work, approver, attendant: no permit" in text_of(brief(an_incident(permit=None), EPOCH))


def test_a_measure_may_not_overwrite_its_own_time() -> None:
    moment = Moment("m1", EPOCH + 20, "brief.did.ventilated", "", {"done_at": 0.0, "by": "nobody", "what_key": "x"})
    made = brief(an_incident(measures=[moment]), EPOCH)
    assert item(made, "measures", "m1") == {"done_at": EPOCH + 20, "by": None, "what_key": "brief.did.ventilated"}


# -- alarms -------------------------------------------------------------------------------------------------------------


def alarm_of(made: Brief, gas_name: str = "H2S") -> dict[str, Value]:
    return item(made, "alarms", f"GAS_LOW:gas-1/{gas_name}")


def test_an_alarm_line_has_its_first_time_peak_and_value_now() -> None:
    events: list[AlarmEvent] = [
        repeated("r2", at=90),
        raised(at=30),
        raised("r3", at=120, value=25.0),
        raised("r4", at=10, value=11.0),
    ]
    line = alarm_of(brief(an_incident(alarms=events, gas=[gas(9.0)]), EPOCH))
    assert (line["first_at"], line["peak"], line["now"], line["unit"]) == (EPOCH + 10, 25.0, 9.0, "mg/m3")
    assert (line["kind_key"], line["trend_key"]) == ("alarm.GAS_LOW", "trend.falling")
    assert alarm_of(brief(an_incident(gas=[gas(9.0, peak=31.0)]), EPOCH))["peak"] == 31.0, "the curve of five minutes counts"
    assert alarm_of(brief(an_incident(gas=[gas(19.0)]), EPOCH))["peak"] == 19.0


def test_the_peak_of_low_oxygen_is_its_lowest() -> None:
    low = raised(gas="O2", value=19.2, limit=19.5)
    assert alarm_of(brief(an_incident(alarms=[low], gas=[gas(19.4, name="O2", peak=18.1)]), EPOCH), "O2")["peak"] == 18.1
    mute = raised(gas="O2", value=None, limit=19.5)
    below = Limit("low", "below", 19.5, "5.9.1", "cited")
    assert (
        alarm_of(brief(an_incident(alarms=[mute], gas=[gas(19.0, name="O2", peak=20.9, broken=below)]), EPOCH), "O2")["peak"]
        == 19.0
    )
    over = Limit("low", "over", 23.5, "5.9.1", "cited")
    assert (
        alarm_of(brief(an_incident(alarms=[mute], gas=[gas(24.0, name="O2", peak=20.9, broken=over)]), EPOCH), "O2")["peak"]
        == 24.0
    )
    equal = raised(gas="O2", value=19.5, limit=19.5)
    assert alarm_of(brief(an_incident(alarms=[equal], gas=[gas(24.0, name="O2")]), EPOCH), "O2")["peak"] == 24.0


def test_an_alarm_without_a_number_says_so() -> None:
    line = alarm_of(brief(an_incident(alarms=[raised(value=None)], gas=[]), EPOCH))
    assert (line["peak"], line["now"], line["trend_key"]) == (None, None, "trend.unknown")
    assert alarm_of(brief(an_incident(alarms=[repeated("r", at=1)], gas=[]), EPOCH))["unit"] == ""


def test_a_peak_once_reported_stays_the_peak() -> None:
    first = brief(an_incident(gas=[gas(9.0, peak=31.0)]), EPOCH)
    assert alarm_of(brief(an_incident(gas=[gas(9.0)]), EPOCH + 600, first))["peak"] == 31.0
    assert alarm_of(brief(an_incident(gas=[gas(40.0)]), EPOCH + 600, first))["peak"] == 40.0
    unknown = brief(an_incident(alarms=[raised(value=None)], gas=[]), EPOCH)
    assert alarm_of(brief(an_incident(alarms=[raised(value=None)], gas=[]), EPOCH, unknown))["peak"] is None


# -- follow-ups ---------------------------------------------------------------------------------------------------------


def test_a_follow_up_holds_the_difference_only() -> None:
    first = brief(an_incident(), EPOCH + 60)
    later = an_incident(
        people=[BOB],
        left=[left()],
        measures=[*an_incident().measures, Moment("m2", EPOCH + 90, "brief.did.rescue_called")],
        by_hand={"reporter": "Chen"},
    )
    found = follow_up(first, brief(later, EPOCH + 120, first))
    assert (found.number, found.at) == (1, EPOCH + 120)
    assert {field: (list(c.put), list(c.gone)) for field, c in found.changes.items()} == {
        "trapped": (["count"], ["ann"]),
        "rescued": (["left-ann"], []),
        "measures": (["m2"], []),
        "reporter": (["text"], []),
    }
    assert text_of(found, now=EPOCH + 3600 + 61).splitlines() == [
        "Follow-up report 1 T+120",
        "Report within 1 h overdue by 1 min (confirm locally)",
        "Trapped (name, entered, last answer): 1 inside",
        "    no longer: Ann, entered T-900, last answer T-30",
        "Out: Ann, out T+60",
        "Measures taken (ventilation, calls, energy off; time): T+90 called 119/120 (unknown)",
        "▢ Reported by: Chen",
    ]


def test_follow_ups_are_numbered_and_an_unchanged_one_is_empty() -> None:
    state = brief(an_incident(), EPOCH)
    for number in (1, 2, 3):
        found = follow_up(state, brief(an_incident(), EPOCH + number, state))
        assert (found.number, found.changes) == (number, {})
        state = fold(state, found)
    assert (state.number, state.at) == (3, EPOCH + 3)
    assert state.items == brief(an_incident(), EPOCH).items


def test_what_the_log_has_said_is_never_taken_back() -> None:
    first = brief(an_incident(left=[left()]), EPOCH)
    torn = brief(an_incident(alarms=[], measures=[], people=[]), EPOCH + 60, first)
    found = follow_up(first, torn)
    assert list(found.changes) == ["trapped"]
    state = fold(first, found)
    assert [list(state.items[f]) for f in ("alarms", "measures", "rescued")] == [["GAS_LOW:gas-1/H2S"], ["m1"], ["left-ann"]]


def test_a_field_cleared_by_hand_is_open_again() -> None:
    first = brief(an_incident(by_hand={"cause": "gas"}), EPOCH)
    found = follow_up(first, brief(an_incident(), EPOCH + 60, first))
    assert found.changes == {"cause": Change({}, {"text": Item("brief.item.text", {"text": "gas"})})}
    assert fold(first, found).items["cause"] == {}
    assert "no longer: gas" in text_of(found)


def test_the_countdown_runs_from_the_first_alarm_and_never_starts_anew() -> None:
    first = brief(an_incident(), EPOCH + 60)
    assert left_s(first, EPOCH + 60) == 3540
    assert left_s(first, EPOCH + 3700) == -100
    later = follow_up(first, brief(an_incident(started_at=EPOCH + 500), EPOCH + 600))
    assert left_s(later, EPOCH + 600) == 3000
    assert fold(first, later).due_at == EPOCH + 3600
    assert "0 min left" in text_of(first, now=EPOCH + 3600)
    assert "60 min left" in text_of(first, now=EPOCH)
    assert "overdue by 0 min" in text_of(first, now=EPOCH + 3601)


def test_a_report_survives_the_wire() -> None:
    first = brief(an_incident(), EPOCH)
    found = follow_up(first, brief(an_incident(people=[], left=[left()]), EPOCH + 60, first))
    assert msgspec.json.decode(msgspec.json.encode(first), type=Brief) == first
    assert msgspec.json.decode(msgspec.json.encode(found), type=FollowUp) == found


# -- nothing is lost ----------------------------------------------------------------------------------------------------

happenings = st.lists(
    st.one_of(
        st.tuples(st.just("measure"), st.integers(0, 9)),
        st.tuples(st.just("alarm"), st.sampled_from(["H2S", "CO"])),
        st.tuples(st.just("out"), st.sampled_from(["ann", "bob"])),
        st.tuples(st.just("hand"), st.sampled_from(["cause", "support"])),
        st.tuples(st.just("report"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150, derandomize=True)
@given(story=happenings, torn=st.booleans())
def test_brief_and_follow_ups_together_say_all_that_the_log_knows(story: list[tuple[str, int | str]], *, torn: bool) -> None:
    """Reports at any moments; with `torn` each later picture knows only what is new, as after a lost log."""
    alarms, measures, gone, hand = [raised("r0")], list[Moment](), dict[str, PersonLeft](), dict[str, str]()
    told_alarms, told_measures = {"GAS_LOW:gas-1/H2S"}, set[str]()
    first = state = brief(an_incident(alarms=alarms, measures=measures), EPOCH)
    reports = [first]
    follow_ups: list[FollowUp] = []
    for i, (what, which) in enumerate([*story, ("report", 0)]):
        if what == "measure":
            measures.append(Moment(f"m{i}", EPOCH + i, "brief.did.ventilated"))
            told_measures.add(f"m{i}")
        elif what == "alarm":
            alarms.append(raised(f"r{i}", at=i, gas=str(which), value=20.0 + i))
            told_alarms.add(f"GAS_LOW:gas-1/{which}")
        elif what == "out":
            gone[str(which)] = left(str(which), at=i)
        elif what == "hand":
            hand[str(which)] = f"text {i}"
        else:
            inside = [p for p in an_incident().people if p.person not in gone]
            now = an_incident(alarms=alarms, measures=measures, left=list(gone.values()), people=inside, by_hand=dict(hand))
            picture = brief(now, EPOCH + i, state)
            follow_ups.append(follow_up(state, picture))
            state = fold(state, follow_ups[-1])
            reports.append(picture)
            if torn:
                alarms, measures = [], []
    folded = first
    for one in follow_ups:
        folded = fold(folded, one)
    assert folded == state
    assert set(state.items["alarms"]) == told_alarms
    assert set(state.items["measures"]) == told_measures
    assert {e.id for e in gone.values()} == set(state.items["rescued"])
    assert state.number == len(follow_ups)
    if not torn:
        assert state.items == reports[-1].items
    said = [m for report in follow_ups for m in report.changes.get("measures", Change({}, {})).put]
    assert sorted(said) == sorted(told_measures), "each in exactly one report"
