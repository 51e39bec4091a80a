"""The numbers of the law: golden vectors (`domain.md` §12), both sides of every bound, and tables that do not load."""

import math

import pytest

from manway.errors import ProfileInvalid
from manway.limits import GasLimits, Level, Limit, Timings, parse_limits, parse_timings
from manway.runtime import settings
from tests.kit.builders import LIMITS, TIMINGS

GAS = """
[[gas]]
name = "H2S"
unit = "mg/m3"
molar_mass_g = 34.081
deadband = 0.5
entry_max = 10.0
entry_clause = "GBZ 2.1"
[[gas.limit]]
level = "low"
side = "above"
value = 10.0
clause = "GBZ 2.1"
status = "cited"
"""
HEAD = 'profile = "CN"\nversion = "1"\ntemperature_c = 20.0\nnote = { en = "confirm" }\n'
SAFETY = [
    "stale_occupied_s",
    "silence_evacuate_s",
    "stale_permit_s",
    "stale_idle_s",
    "alarm_off_delay_s",
    "grant_life_s",
    "lock_confirm_s",
    "lock_press_s",
    "lock_offline_s",
    "attendant_checkin_s",
    "overtime_p1_s",
    "live_reading_s",
    "gas_test_age_s",
    "permit_left_s",
    "missed_frames_s",
]
WORK = ["ventilation_s", "dwell_s", "dwell_per_m_s"]


def gas(name: str) -> GasLimits:
    found = LIMITS.of(name)
    assert found is not None
    return found


def judged(name: str, value: float, unit: str) -> tuple[bool, Level]:
    """Whether the value lets people in, and the worst level it breaks."""
    rule = gas(name)
    there = rule.in_unit(value, unit, LIMITS.temperature_c)
    return rule.passes_entry(there), max((x.rank for x in rule.limit if x.breached_by(there)), default=Level.WITHIN)


@pytest.mark.parametrize(
    ("name", "value", "unit", "enters", "level"),
    [
        ("H2S", 7.0, "ppm", True, Level.PRE),  # vector 1: 9.92 mg/m3
        ("H2S", 7.1, "ppm", False, Level.LOW),
        ("H2S", 10.0, "mg/m3", True, Level.LOW),  # passes the test, yet the live alarm rises
        ("H2S", 10.001, "mg/m3", False, Level.LOW),
        ("H2S", 4.99, "mg/m3", True, Level.WITHIN),
        ("H2S", 5.0, "mg/m3", True, Level.PRE),
        ("H2S", 20.0, "mg/m3", False, Level.HIGH),
        ("CO", 25.7, "ppm", True, Level.PRE),  # vector 2
        ("CO", 25.8, "ppm", False, Level.LOW),
        ("CO", 35.0, "ppm", False, Level.HIGH),
        ("CO", 40.0, "mg/m3", False, Level.HIGH),
        ("CO", 39.99, "mg/m3", False, Level.LOW),
        ("O2", 19.5, "% vol", True, Level.PRE),  # vector 3
        ("O2", 19.49, "% vol", False, Level.LOW),
        ("O2", 23.5, "% vol", True, Level.PRE),
        ("O2", 23.51, "% vol", False, Level.LOW),
        ("O2", 20.0, "% vol", True, Level.WITHIN),
        ("O2", 22.5, "% vol", True, Level.WITHIN),
        ("O2", 18.0, "% vol", False, Level.LOW),
        ("O2", 17.99, "% vol", False, Level.HIGH),
        ("O2", 25.0, "% vol", False, Level.LOW),
        ("O2", 25.01, "% vol", False, Level.HIGH),
        ("LEL", 10.0, "% LEL", True, Level.LOW),  # vector 4
        ("LEL", 9.99, "% LEL", True, Level.PRE),
        ("LEL", 10.2, "% LEL", False, Level.LOW),  # vector 5: CH4 0.45 % vol at base 4.4
        ("LEL", 9.0, "% LEL", True, Level.PRE),  # the same at base 5.0
        ("LEL", 20.0, "% LEL", False, Level.HIGH),
    ],
)
def test_the_golden_vectors_of_profile_cn(name: str, value: float, unit: str, enters: bool, level: Level) -> None:  # noqa: FBT001  a table's column
    assert judged(name, value, unit) == (enters, level)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", LIMITS.gas, ids=lambda rule: rule.name)
def test_what_is_no_number_lets_nobody_in(rule: GasLimits, value: float) -> None:
    assert not rule.passes_entry(value)


@pytest.mark.parametrize("rule", LIMITS.gas, ids=lambda rule: rule.name)
def test_the_entry_criterion_is_where_the_low_alarm_evacuates(rule: GasLimits) -> None:
    low = {limit.side: limit.value for limit in rule.limit if limit.rank is Level.LOW}
    assert rule.entry_max == low.get("above", low.get("over"))
    assert rule.entry_min == low.get("below")


@pytest.mark.parametrize("rule", LIMITS.gas, ids=lambda rule: rule.name)
def test_worse_levels_lie_further_out_and_every_side_has_all_three(rule: GasLimits) -> None:
    for side in {limit.side for limit in rule.limit}:
        ladder = sorted((limit for limit in rule.limit if limit.side == side), key=lambda limit: limit.rank)
        assert [limit.rank for limit in ladder] == [Level.PRE, Level.LOW, Level.HIGH]
        values = [limit.value for limit in ladder]
        assert values == sorted(values, reverse=side == "below")
        assert len(set(values)) == 3


def test_every_limit_says_where_it_comes_from() -> None:
    for rule in LIMITS.gas:
        assert rule.entry_clause
        for limit in rule.limit:
            assert limit.clause
            assert limit.status in {"cited", "confirm", "choice"}
    assert set(LIMITS.note) == {"zh", "en"}


def test_a_limit_that_is_cited_names_a_law_and_not_this_product() -> None:
    cited = [limit for rule in LIMITS.gas for limit in rule.limit if limit.status == "cited"]
    assert cited
    assert not [limit.clause for limit in cited if limit.clause.startswith("domain.md")]


def test_a_gas_without_limits_is_not_known() -> None:
    assert LIMITS.of("PH3") is None


def test_a_unit_nobody_can_convert_is_refused() -> None:
    assert gas("H2S").takes("ppm")
    assert not gas("LEL").takes("ppm")
    with pytest.raises(ProfileInvalid, match="no conversion from ppm to % LEL"):
        gas("LEL").in_unit(1.0, "ppm", 20.0)


def test_a_sensor_slightly_below_zero_reads_as_zero_mass() -> None:
    assert gas("H2S").in_unit(-0.2, "ppm", 20.0) == 0.0


@pytest.mark.parametrize(
    ("side", "inside", "edge", "outside", "held_until"),
    [("above", 9.9, 10.0, 10.1, 9.5), ("over", 10.0, 10.01, 10.1, 9.5), ("below", 10.0, 9.99, 9.0, 10.5)],
)
def test_a_limit_once_broken_is_left_only_beyond_the_deadband(
    side: str, inside: float, edge: float, outside: float, held_until: float
) -> None:
    limit = Limit("low", side, 10.0, "clause", "cited")
    assert not limit.breached_by(inside)
    assert limit.breached_by(edge)
    assert limit.breached_by(outside)
    assert limit.breached_by(inside, relief=0.5)
    assert not limit.breached_by(held_until, relief=0.5)


def test_the_text_of_a_small_profile_is_read() -> None:
    profile = parse_limits(HEAD + GAS)
    assert [g.name for g in profile.gas] == ["H2S"]
    assert profile.gas[0].limit[0].rank is Level.LOW


@pytest.mark.parametrize(
    "text",
    [
        "profile = ",
        HEAD + GAS.replace('unit = "mg/m3"\n', ""),
        HEAD + GAS.replace("entry_max = 10.0", 'entry_max = "10"'),
        HEAD + GAS.replace("deadband", "dead_band"),
        HEAD + GAS.replace("entry_clause", "entry_minn = 1.0\nentry_clause"),
        HEAD + GAS.replace('clause = "GBZ 2.1"\nstatus', 'clause = "GBZ 2.1"\nnote = "x"\nstatus'),
        HEAD + "colour = 1\n" + GAS,
        HEAD + GAS.replace('"low"', '"lowish"'),
        HEAD + GAS.replace('"above"', '"beside"'),
        HEAD + GAS.replace('"cited"', '"rumour"'),
        HEAD + GAS.replace("\nvalue = 10.0", "\nvalue = nan"),
        HEAD + GAS.replace("entry_max = 10.0", "entry_max = inf"),
        HEAD + GAS.replace("deadband = 0.5", "deadband = -0.5"),
        HEAD.replace("20.0", "nan") + GAS,
    ],
    ids=[
        "not TOML",
        "a field is missing",
        "a word for a number",
        "a misspelt field",
        "an unknown bound",
        "an unknown field of a limit",
        "an unknown field on top",
        "an unknown level",
        "an unknown side",
        "an unknown status",
        "a limit that is no number",
        "an infinite entry bound",
        "a negative deadband",
        "a temperature that is no number",
    ],
)
def test_a_wrong_table_stops_the_start(text: str) -> None:
    with pytest.raises(ProfileInvalid):
        parse_limits(text)


def rows(**changed: str) -> str:
    values = dict.fromkeys((*SAFETY, *WORK), "60") | changed
    kinds = {name: "work" if name in WORK else "safety" for name in values}
    return 'version = "1"\n' + "".join(
        f'[[timing]]\nid = "{name}"\nvalue = {value}\nkind = "{kinds[name]}"\nsource = "s"\n' for name, value in values.items()
    )


def test_every_timing_has_a_row_with_its_source() -> None:
    assert isinstance(parse_timings(rows()), Timings)
    assert set(Timings.__struct_fields__) - {"version"} == {*SAFETY, *WORK}


def test_a_yard_shortens_work_and_nothing_else() -> None:
    yard = settings.timings(yard=True)
    assert [getattr(yard, name) for name in SAFETY] == [getattr(TIMINGS, name) for name in SAFETY]
    assert all(getattr(yard, name) < getattr(TIMINGS, name) for name in WORK)
    assert yard.version != TIMINGS.version


@pytest.mark.parametrize("name", SAFETY)
def test_a_yard_file_that_touches_a_safety_deadline_is_refused(name: str) -> None:
    with pytest.raises(ProfileInvalid, match=name):
        parse_timings(rows(), f"{name} = 61.0\n")


@pytest.mark.parametrize(
    ("text", "work"),
    [
        ("version = ", None),
        ('version = "1"\n', None),
        (rows(patience_s="1"), None),
        (rows(stale_occupied_s="nan"), None),
        (rows(silence_evacuate_s="inf"), None),
        (rows(alarm_off_delay_s="-1"), None),
        (rows().replace("source", "sauce", 1), None),
        (rows(), "dwell_s = nan\n"),
        (rows(), 'dwell_s = "long"\n'),
        (rows(), "dwell_s = [1.0]\n"),
        (rows(), "patience_s = 1.0\n"),
        (rows(), "dwell_s = \n"),
    ],
)
def test_a_timing_that_is_missing_unknown_or_no_number_is_refused(text: str, work: str | None) -> None:
    with pytest.raises(ProfileInvalid):
        parse_timings(text, work)


def test_silence_becomes_p1_within_the_permitted_range() -> None:
    """Vector 13: a gap of 61 s is P1 under every permitted setting, which is 15 to 60 s."""
    assert 15 <= TIMINGS.silence_evacuate_s <= 60
    assert TIMINGS.stale_occupied_s < TIMINGS.silence_evacuate_s
