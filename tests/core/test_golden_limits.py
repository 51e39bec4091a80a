"""The numbers of the law, typed a second time from the design (`domain.md` §6.1-6.3, §12), in the units instruments speak."""

import pytest

from manway.limits import GasLimits, Level, LimitProfile
from manway.runtime import settings
from manway.units import ppm_to_mg_m3, usable_set_point

CN, CHEM = settings.limits("CN"), settings.limits("CN_CHEM")
US, BUILD = settings.limits("US_GENERAL"), settings.limits("US_CONSTRUCTION")
GASES = settings.gases()


def gas(profile: LimitProfile, name: str) -> GasLimits:
    found = profile.of(name)
    assert found is not None
    return found


def enters(profile: LimitProfile, name: str, value: float, unit: str, **channel: float) -> bool:
    rule = gas(profile, name)
    return rule.passes_entry(value * rule.factor(unit, profile.temperature_c, **channel))


def level(profile: LimitProfile, name: str, value: float, unit: str, **channel: float) -> Level:
    rule = gas(profile, name)
    there = value * rule.factor(unit, profile.temperature_c, **channel)
    return max((x.rank for x in rule.limit if x.breached_by(there)), default=Level.WITHIN)


# -- vectors 1 to 6 and 20 of the design -------------------------------------------------------------------------------


def test_vector_1_hydrogen_sulphide() -> None:
    assert gas(CN, "H2S").in_unit(7.0, "ppm", 20.0) == pytest.approx(9.92, abs=0.005)
    assert gas(CN, "H2S").in_unit(7.1, "ppm", 20.0) == pytest.approx(10.06, abs=0.005)
    assert [enters(CN, "H2S", ppm, "ppm") for ppm in (7.0, 7.1)] == [True, False]
    assert [enters(US, "H2S", ppm, "ppm") for ppm in (7.0, 7.1)] == [True, True]


def test_vector_2_carbon_monoxide() -> None:
    assert [enters(CN, "CO", ppm, "ppm") for ppm in (25.7, 25.8)] == [True, False]
    assert gas(CN, "CO").in_unit(25.8, "ppm", 20.0) == pytest.approx(30.04, abs=0.005)
    assert level(US, "CO", 35.0, "ppm") is Level.LOW


def test_vector_3_oxygen() -> None:
    assert [enters(CN, "O2", x, "% vol") for x in (19.5, 19.49, 23.5, 23.51)] == [True, False, True, False]
    assert [enters(CHEM, "O2", x, "% vol") for x in (19.5, 19.49, 20.9, 21.0, 21.1)] == [True, False, True, True, False]


@pytest.mark.parametrize("profile", [CN, CHEM, US, BUILD], ids=lambda p: p.profile)
def test_vector_4_ten_percent_lel_passes_the_test_and_is_low_when_live(profile: LimitProfile) -> None:
    assert enters(profile, "LEL", 10.0, "% LEL")
    assert level(profile, "LEL", 10.0, "% LEL") is Level.LOW


def test_vector_5_methane_by_both_bases() -> None:
    assert gas(CN, "LEL").in_unit(0.45, "% vol", 20.0) == pytest.approx(10.2, abs=0.05)
    assert gas(US, "LEL").in_unit(0.45, "% vol", 25.0) == pytest.approx(9.0)
    assert not enters(CN, "LEL", 0.45, "% vol")
    assert enters(US, "LEL", 0.45, "% vol")


def test_vector_6_pentane_on_a_sensor_that_was_calibrated_on_methane() -> None:
    factor = GASES.correction_of("CH4", "PENTANE")
    assert factor == 2.02
    assert 10.0 / factor == pytest.approx(4.95, abs=0.005)
    assert level(CN, "LEL", 4.95, "% LEL") is Level.WITHIN  # what nobody would notice
    assert level(CN, "LEL", 4.951, "% LEL", correction=factor) is Level.LOW


def test_vector_20_ammonia() -> None:
    assert 20.0 / gas(CN, "NH3").factor("ppm", 20.0) == pytest.approx(28.2, abs=0.05)
    assert gas(CN, "NH3").factor("ppm", 20.0) == pytest.approx(0.708, abs=0.0005)  # 1.34 is the wrong one of public tables


# -- the whole tables of 6.3, typed again ------------------------------------------------------------------------------

CN_TABLE = """
gas     | entry | pre  | low   | high  | stel  | twa  | idlh ppm
H2S     | 10    | 5    | 10    | 20    | -     | -    | 100
CO      | 30    | 15   | 30    | 40    | 30    | 20   | 1200
CO2     | 18000 | 9000 | 18000 | 36000 | 18000 | 9000 | 40000
NH3     | 30    | 15   | 30    | 40    | 30    | 20   | 300
SO2     | 10    | 5    | 10    | 20    | 10    | 5    | 100
NO2     | 10    | 5    | 10    | 20    | 10    | 5    | 13
CL2     | 1     | 0.5  | 1     | 2     | -     | -    | 10
HCN     | 1     | 0.5  | 1     | 2     | -     | -    | 49.85
PH3     | 0.3   | 0.15 | 0.3   | 0.6   | -     | -    | 50
BENZENE | 6     | 3    | 6     | 12    | 6     | 3    | 500
"""
US_TABLE = """
gas | entry | pre  | low  | high  | stel  | twa  | idlh ppm
H2S | 10    | 5    | 10   | 15    | 15    | 10   | 100
CO  | 35    | 17.5 | 35   | 70    | 200   | 35   | 1200
CO2 | 5000  | 2500 | 5000 | 10000 | 30000 | 5000 | 40000
NH3 | 25    | 12.5 | 25   | 50    | 35    | 25   | 300
SO2 | 2     | 1    | 2    | 4     | 5     | 2    | 100
NO2 | 3     | 1.5  | 3    | 5     | 5     | 3    | 13
CL2 | 0.5   | 0.25 | 0.5  | 1     | 1     | 0.5  | 10
HCN | 4.5   | 2.25 | 4.5  | 10    | 4     | 4    | 50
PH3 | 0.3   | 0.15 | 0.3  | 0.6   | 1     | 0.3  | 50
"""
SET_PPM = """
gas     | pre  | low  | high
H2S     | 3    | 7    | 14
CO      | 12   | 25   | 34
CO2     | 4900 | 9800 | 19600
NH3     | 21   | 42   | 56
SO2     | 1.8  | 3.7  | 7.5
NO2     | 2.6  | 5.2  | 10.4
CL2     | 0.1  | 0.3  | 0.6
HCN     | 0.4  | 0.8  | 1.7
PH3     | 0.1  | 0.2  | 0.4
BENZENE | 0.9  | 1.8  | 3.6
"""


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()[1:]]


@pytest.mark.parametrize(
    ("profile", "unit", "row"),
    [(CN, "mg/m3", row) for row in rows(CN_TABLE)]
    + [(CHEM, "mg/m3", row) for row in rows(CN_TABLE)]
    + [(US, "ppm", row) for row in rows(US_TABLE)]
    + [(BUILD, "ppm", row) for row in rows(US_TABLE)],
    ids=lambda x: x[0] if isinstance(x, list) else getattr(x, "profile", x),
)
def test_a_row_of_the_table(profile: LimitProfile, unit: str, row: list[str]) -> None:
    rule = gas(profile, row[0])
    numbers = {x.level: x.value for x in rule.rows}
    assert rule.unit == unit
    for name, cell in zip(("entry_max", "pre", "low", "high", "stel", "twa"), row[1:7], strict=True):
        assert numbers.get(name) == (None if cell == "-" else float(cell)), name
    assert numbers["idlh"] / rule.factor("ppm", profile.temperature_c) == pytest.approx(float(row[7]), rel=1e-4)


@pytest.mark.parametrize("row", rows(SET_PPM), ids=lambda row: row[0])
def test_a_set_point_in_ppm_is_rounded_down(row: list[str]) -> None:
    rule, substance = gas(CN, row[0]), GASES.of(row[0])
    assert substance is not None
    ppm = [usable_set_point(x.value / rule.factor("ppm", 20.0), substance.step_ppm) for x in rule.limit if x.rank < Level.IDLH]
    assert ppm == [float(cell) for cell in row[1:]]


@pytest.mark.parametrize("profile", [CN, CHEM, US, BUILD], ids=lambda p: p.profile)
def test_oxygen_and_combustible_levels_are_those_of_both_laws(profile: LimitProfile) -> None:
    found = {(x.level, x.side): x.value for x in gas(profile, "O2").limit}
    below = {("pre", "below"): 20.0, ("low", "below"): 19.5, ("high", "below"): 18.0, ("idlh", "below"): 16.0}
    assert found == below | {("pre", "over"): 22.5, ("low", "over"): 23.5, ("high", "over"): 25.0}
    assert [x.value for x in gas(profile, "LEL").limit] == [5.0, 10.0, 20.0, 100.0]


# -- vectors of our own ------------------------------------------------------------------------------------------------


CN_PPM = "H2S 7.06, CO 25.8, CO2 9838, NH3 42.4, SO2 3.75, NO2 5.2, CL2 0.34, PH3 0.21, HCN 0.89, BENZENE 1.85"


@pytest.mark.parametrize(("name", "ppm"), [pair.split() for pair in CN_PPM.split(", ")])
def test_the_chinese_entry_bound_in_ppm(name: str, ppm: str) -> None:
    """§6.2, column "ppm 20 °C", to the digits it gives."""
    rule, digits = gas(CN, name), len(ppm.partition(".")[2])
    assert f"{rule.entry_max / rule.factor('ppm', 20.0):.{digits}f}" == ppm


@pytest.mark.parametrize("row", rows(US_TABLE), ids=lambda row: row[0])
def test_american_toxic_bounds_do_not_let_in_themselves_and_chinese_do(row: list[str]) -> None:
    bound = float(row[1])
    assert not enters(US, row[0], bound, "ppm")
    assert enters(US, row[0], bound * 0.999, "ppm")
    chinese = gas(CN, row[0]).entry_max
    assert enters(CN, row[0], chinese, "mg/m3")
    assert not enters(CN, row[0], chinese * 1.0001, "mg/m3")


def test_american_set_points_break_chinese_limits() -> None:
    """`domain.md` §1, rule 2: H2S 10 ppm = 14.2 mg/m3, CO 35 ppm = 40.8 mg/m3."""
    assert gas(CN, "H2S").in_unit(10.0, "ppm", 20.0) == pytest.approx(14.17, abs=0.01)
    assert gas(CN, "CO").in_unit(35.0, "ppm", 20.0) == pytest.approx(40.75, abs=0.01)
    assert level(CN, "H2S", 9.9, "ppm") is Level.LOW
    assert level(US, "H2S", 9.9, "ppm") is Level.PRE
    assert level(CN, "CO", 34.9, "ppm") is Level.HIGH
    assert level(US, "CO", 34.9, "ppm") is Level.PRE


def test_carbon_dioxide_kills_before_oxygen_tells() -> None:
    """`domain.md` §1, rule 3: O2 20.9 to 19.5 % vol takes 67,000 ppm of inert gas; CO2 is IDLH at 40,000."""
    displaced_ppm = (1 - 19.5 / 20.9) * 1e6
    assert displaced_ppm == pytest.approx(67_000, rel=0.001)
    assert enters(CN, "O2", 19.5, "% vol")
    assert level(CN, "CO2", displaced_ppm, "ppm") is Level.IDLH
    assert level(US, "CO2", 4.0, "% vol") is Level.IDLH
    assert level(CN, "CO2", 0.5, "% vol") is Level.PRE  # 9,149 mg/m3


def test_half_the_lower_limit_of_methane_by_both_standards() -> None:
    """§6.1: CH4 50 % LEL = 2.5 % vol (base 5.0) or 2.2 (4.4)."""
    ch4 = gas(CN, "CH4")
    assert ch4.factor("% LEL", 20.0, lel_base_vol=5.0) * 50.0 == pytest.approx(2.5)
    assert ch4.factor("% LEL", 20.0) * 50.0 == pytest.approx(2.2)
    assert 50.0 * ch4.factor("% LEL", 20.0, lel_base_vol=4.4) == pytest.approx(2.2)


def test_an_instrument_of_another_base_is_judged_by_ours() -> None:
    """§6.1: 0.5 % vol = 10 or 11.4 % LEL: an American instrument shows 10 and breaks the Chinese limit."""
    assert gas(CN, "LEL").factor("% LEL", 20.0, lel_base_vol=5.0) * 10.0 == pytest.approx(11.36, abs=0.005)
    assert level(CN, "LEL", 8.8, "% LEL", lel_base_vol=5.0) is Level.LOW
    assert level(CN, "LEL", 8.7, "% LEL", lel_base_vol=5.0) is Level.PRE
    assert level(US, "LEL", 11.3, "% LEL", lel_base_vol=4.4) is Level.PRE  # 9.94 by NFPA
    assert enters(US, "LEL", 11.3, "% LEL", lel_base_vol=4.4)


def test_an_american_methane_reading_in_percent_of_volume() -> None:
    assert level(US, "LEL", 0.5, "% vol") is Level.LOW
    assert US.of("CH4") is None  # "use LEL"


@pytest.mark.parametrize(("percent", "found"), [(0.21, Level.WITHIN), (0.22, Level.PRE), (0.44, Level.LOW), (0.88, Level.HIGH)])
def test_methane_by_volume_in_china(percent: float, found: Level) -> None:
    assert level(CN, "CH4", percent, "% vol") is found
    assert enters(CN, "CH4", percent, "% vol") is (percent <= 0.44)


def test_a_photoionisation_detector_reads_as_isobutylene() -> None:
    assert [enters(CN, "VOC", x, "ppm") for x in (50.0, 50.1)] == [True, False]
    assert [enters(US, "VOC", x, "ppm") for x in (49.9, 50.0)] == [True, False]
    assert level(US, "VOC", 100.0, "ppm") is Level.LOW
    assert level(CN, "VOC", 100.0, "ppm") is Level.HIGH
    assert gas(CN, "VOC").factor("mg/m3", 20.0) == pytest.approx(1 / 2.332, rel=1e-3)


def test_a_pid_that_meets_benzene_is_corrected_before_it_is_judged() -> None:
    """(confirm) a lamp's factor is the maker's; 0.5 here: 3 ppm shown are 1.5 of benzene, 4.9 mg/m3."""
    assert gas(CN, "BENZENE").factor("ppm", 20.0, correction=0.5) * 3.0 == pytest.approx(4.87, abs=0.01)


@pytest.mark.parametrize(
    ("name", "chemical", "china"),
    [
        ("CH4", 0.44, 0.44),
        ("H2", 0.4, 0.4),
        ("CO", 0.5, 1.09),
        ("NH3", 0.5, 1.5),
        ("PROPANE", 0.17, 0.17),
        ("TOLUENE", 0.1, 0.1),
    ],
)
def test_both_combustible_forms_of_the_chemical_standard_and_ten_percent_of_the_limit(
    name: str, chemical: float, china: float
) -> None:
    """§3.3: lower limit >= 4 % vol: <= 0.5 % vol, else <= 0.2; GB 46768 5.9.1: <= 10 % LEL; the stricter counts."""
    substance = GASES.of(name)
    assert substance is not None
    assert CHEM.combustible_max_vol(substance.lfl_iec_vol) == pytest.approx(chemical)
    assert CN.combustible_max_vol(substance.lfl_iec_vol) == pytest.approx(china)


def test_just_below_four_percent_the_second_form_counts() -> None:
    assert CHEM.combustible_max_vol(4.0) == pytest.approx(0.4)
    assert CHEM.combustible_max_vol(3.99) == pytest.approx(0.2)
    assert CHEM.combustible_max_vol(3.1) == pytest.approx(0.2)  # ethanol's, where 10 % LEL would be 0.31
    assert CHEM.combustible_max_vol(5.0) == pytest.approx(0.5)
    assert CHEM.combustible_max_vol(6.0) == pytest.approx(0.5)


def test_chemical_firms_keep_every_other_limit_of_china() -> None:
    before = {x.id: x for g in CN.gas for x in g.rows}
    after = {x.id: x for g in CHEM.gas for x in g.rows}
    assert before.keys() == after.keys()
    assert {name for name, x in after.items() if x.value != before[name].value} == {"O2.entry_max"}
    assert [g.deadband for g in CHEM.gas] == [g.deadband for g in CN.gas]


def test_the_two_american_profiles_differ_in_what_follows_only() -> None:
    assert BUILD.gas == US.gas
    assert (US.after_evacuation, US.after_break) == ("cancel", "cancel")
    assert (BUILD.after_evacuation, BUILD.after_break) == ("supervisor", "supervisor")
    assert (CN.after_evacuation, CN.after_break) == (CHEM.after_evacuation, CHEM.after_break) == ("suspend", "suspend")


def test_how_long_a_permit_may_be() -> None:
    """§3.5: CN 24 h, US 12 h."""
    assert [p.permit_max_s / 3600 for p in (CN, CHEM, US, BUILD)] == [24, 24, 12, 12]


def test_temperature_and_base_are_the_profiles() -> None:
    assert [(p.temperature_c, p.lel_base) for p in (CN, CHEM)] == [(20.0, "iec")] * 2
    assert [(p.temperature_c, p.lel_base) for p in (US, BUILD)] == [(25.0, "nfpa")] * 2
    assert gas(CN, "LEL").lfl_vol == 4.4
    assert gas(US, "LEL").lfl_vol == 5.0


def test_twenty_and_twenty_five_degrees_are_1_7_percent_apart() -> None:
    """§6.1; compared at the wrong temperature, 7.12 ppm of H2S would pass for 9.92 mg/m3."""
    h2s = gas(CN, "H2S")
    assert h2s.factor("ppm", 20.0) / h2s.factor("ppm", 25.0) == pytest.approx(1.017, abs=0.0005)
    assert h2s.passes_entry(h2s.in_unit(7.12, "ppm", 25.0))
    assert not h2s.passes_entry(h2s.in_unit(7.12, "ppm", 20.0))


def test_idlh_begins_exactly_at_its_ppm() -> None:
    for profile in (CN, US):
        for name, ppm in (("H2S", 100.0), ("CO", 1200.0), ("CO2", 40_000.0), ("NH3", 300.0), ("SO2", 100.0), ("NO2", 13.0)):
            assert level(profile, name, ppm, "ppm") is Level.IDLH
            assert level(profile, name, ppm * 0.9999, "ppm") is Level.HIGH


GAS_TABLE = """
gas         | 20 °C | 25 °C | iec  | nfpa | ufl
O2          | 1.330 | 1.308 | 0    | 0    | 0
H2S         | 1.417 | 1.393 | 4.0  | 4.0  | 45.5
CO          | 1.164 | 1.145 | 10.9 | 12.5 | 74
CO2         | 1.830 | 1.799 | 0    | 0    | 0
NH3         | 0.708 | 0.696 | 15   | 15   | 33.6
SO2         | 2.663 | 2.619 | 0    | 0    | 0
CL2         | 2.948 | 2.898 | 0    | 0    | 0
PH3         | 1.413 | 1.390 | 1.79 | 0    | 0
HCN         | 1.124 | 1.105 | 5.4  | 5.6  | 46
NO2         | 1.913 | 1.880 | 0    | 0    | 0
CH4         | 0.667 | 0.656 | 4.4  | 5.0  | 17
H2          | 0.084 | 0.082 | 4.0  | 4.0  | 77
PROPANE     | 1.833 | 1.802 | 1.7  | 2.1  | 10.9
PENTANE     | 2.999 | 2.949 | 1.1  | 1.5  | 8.7
BENZENE     | 3.247 | 3.193 | 1.2  | 1.2  | 8.6
TOLUENE     | 3.830 | 3.766 | 1.0  | 1.1  | 7.8
ISOBUTYLENE | 2.332 | 2.293 | 1.6  | 0    | 10
"""


@pytest.mark.parametrize("row", rows(GAS_TABLE), ids=lambda row: row[0])
def test_a_row_of_the_gases(row: list[str]) -> None:
    """§6.1, every row."""
    x = GASES.of(row[0])
    assert x is not None
    at_20, at_25, *limits = map(float, row[1:])
    assert ppm_to_mg_m3(1.0, molar_mass_g=x.molar_mass_g) == pytest.approx(at_20, abs=0.0006)
    assert ppm_to_mg_m3(1.0, molar_mass_g=x.molar_mass_g, at_c=25.0) == pytest.approx(at_25, abs=0.0006)
    assert [x.lfl_iec_vol, x.lfl_nfpa_vol, x.ufl_vol] == limits


def test_every_substance_of_the_design_is_there_and_nothing_else() -> None:
    assert {x.name for x in GASES.substance} == {row[0] for row in rows(GAS_TABLE)}


@pytest.mark.parametrize(
    ("calibrated_on", "met", "factor"),
    [("CH4", "PROPANE", 1.62), ("CH4", "TOLUENE", 2.55), ("CH4", "HEXANE", 2.86), ("CH4", "H2", 0.94), ("PENTANE", "CH4", 0.5)],
)
def test_cross_sensitivity(calibrated_on: str, met: str, factor: float) -> None:
    assert GASES.correction_of(calibrated_on, met) == factor
    assert GASES.correction_of(met, calibrated_on) is None or {met, calibrated_on} == {"CH4", "PENTANE"}


def test_solvents_read_two_to_three_times_low() -> None:
    """§6.1: toluene at true 10 % LEL shows 3.9 on a methane-calibrated sensor, below every alarm, and is judged as 10."""
    factor = GASES.correction_of("CH4", "TOLUENE")
    assert factor is not None
    assert level(CN, "LEL", 3.93, "% LEL") is Level.WITHIN
    assert level(CN, "LEL", 3.93, "% LEL", correction=factor) is Level.LOW
    assert level(CN, "LEL", 3.93, "% LEL", correction=factor, lel_base_vol=5.0) is Level.LOW
