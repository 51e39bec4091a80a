"""Derived identities and gas units against cited numbers."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manway.ids import derived_id
from manway.units import (
    conversion,
    lel_to_percent,
    mg_m3_to_ppm,
    molar_volume_l,
    percent_to_lel,
    percent_to_ppm,
    ppm_to_mg_m3,
    ppm_to_percent,
    usable_set_point,
)


def test_an_id_is_32_hex_digits_and_the_same_for_the_same_cause() -> None:
    assert derived_id("yard", "AlarmRaised", 3) == derived_id("yard", "AlarmRaised", 3)
    assert len(bytes.fromhex(derived_id("yard"))) == 16


def test_where_one_part_ends_and_the_next_begins_matters() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc")
    assert derived_id("a", 1, 2) != derived_id("a", 12)


@pytest.mark.parametrize(("at_c", "litres"), [(20.0, 24.055), (25.0, 24.465)])
def test_the_molar_volume_is_that_of_both_laws(at_c: float, litres: float) -> None:
    assert molar_volume_l(at_c) == pytest.approx(litres, abs=0.0005)


@pytest.mark.parametrize(
    ("ppm", "molar_mass_g", "mg_m3"),
    [
        (7.0, 34.081, 9.92),  # H2S, vector 1
        (7.1, 34.081, 10.06),
        (10.0, 34.081, 14.17),  # the American set-point breaks the Chinese limit
        (25.8, 28.010, 30.04),  # CO, vector 2
        (35.0, 28.010, 40.75),
        (28.25, 17.031, 20.0),  # NH3, vector 20: the factor is 0.708, not 1.34
    ],
)
def test_mass_per_volume_at_20_degrees(ppm: float, molar_mass_g: float, mg_m3: float) -> None:
    assert ppm_to_mg_m3(ppm, molar_mass_g=molar_mass_g) == pytest.approx(mg_m3, abs=0.005)


@pytest.mark.parametrize(
    ("molar_mass_g", "at_20", "at_25"),
    [(31.999, 1.330, 1.308), (34.081, 1.417, 1.393), (28.010, 1.164, 1.145), (17.031, 0.708, 0.696), (16.042, 0.667, 0.656)],
)
def test_the_factor_of_each_gas_is_that_of_the_table(molar_mass_g: float, at_20: float, at_25: float) -> None:
    assert ppm_to_mg_m3(1.0, molar_mass_g=molar_mass_g) == pytest.approx(at_20, abs=0.0006)
    assert ppm_to_mg_m3(1.0, molar_mass_g=molar_mass_g, at_c=25.0) == pytest.approx(at_25, abs=0.0006)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
def test_what_is_no_concentration_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not a concentration"):
        ppm_to_mg_m3(value, molar_mass_g=34.081)
    with pytest.raises(ValueError, match="not a concentration"):
        mg_m3_to_ppm(value, molar_mass_g=34.081)
    for convert in (percent_to_ppm, ppm_to_percent):
        with pytest.raises(ValueError, match="not a concentration"):
            convert(value)
    for by_lfl in (lel_to_percent, percent_to_lel):
        with pytest.raises(ValueError, match="not a concentration"):
            by_lfl(value, lfl_vol=4.4)


@pytest.mark.parametrize("lfl_vol", [0.0, -4.4, 100.1, math.nan, math.inf])
@pytest.mark.parametrize("by_lfl", [lel_to_percent, percent_to_lel])
def test_a_flammable_limit_that_is_none_is_refused(by_lfl: Callable[..., float], lfl_vol: float) -> None:
    with pytest.raises(ValueError, match="not a lower flammable limit"):
        by_lfl(10.0, lfl_vol=lfl_vol)


@pytest.mark.parametrize(
    ("lel", "lfl_vol", "percent"),
    [(50.0, 5.0, 2.5), (50.0, 4.4, 2.2), (10.0, 4.4, 0.44), (100.0, 1.7, 1.7), (11.3636, 4.4, 0.5), (10.0, 5.0, 0.5)],
)
def test_percent_of_the_flammable_limit_is_a_share_of_the_air(lel: float, lfl_vol: float, percent: float) -> None:
    assert lel_to_percent(lel, lfl_vol=lfl_vol) == pytest.approx(percent, rel=1e-5)
    assert percent_to_lel(percent, lfl_vol=lfl_vol) == pytest.approx(lel, rel=1e-5)


def test_one_percent_is_ten_thousand_parts_per_million() -> None:
    assert percent_to_ppm(4.0) == 40_000.0  # CO2, IDLH
    assert ppm_to_percent(67_000.0) == 6.7  # what displaces oxygen from 20.9 to 19.5


@given(st.floats(0, 1e6), st.floats(2.0, 200.0), st.floats(-40.0, 60.0))
def test_every_conversion_has_its_exact_reverse(value: float, molar_mass_g: float, at_c: float) -> None:
    there = ppm_to_mg_m3(value, molar_mass_g=molar_mass_g, at_c=at_c)
    assert mg_m3_to_ppm(there, molar_mass_g=molar_mass_g, at_c=at_c) == pytest.approx(value, rel=1e-12, abs=1e-300)
    assert ppm_to_percent(percent_to_ppm(value)) == pytest.approx(value, rel=1e-12, abs=1e-300)
    back = percent_to_lel(lel_to_percent(value, lfl_vol=molar_mass_g / 2), lfl_vol=molar_mass_g / 2)
    assert back == pytest.approx(value, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("value", "step", "set_to"),
    [(7.06, 1.0, 7.0), (0.3, 0.1, 0.3), (3.755, 0.1, 3.7), (9838.0, 100.0, 9800.0), (0.99, 1.0, 0.0), (42.37, 1.0, 42.0)],
)
def test_a_set_point_is_rounded_down_to_a_step(value: float, step: float, set_to: float) -> None:
    assert usable_set_point(value, step) == set_to


@given(st.floats(0, 1e5), st.sampled_from([0.01, 0.1, 1.0, 100.0]))
def test_a_set_point_is_never_above_the_limit(value: float, step: float) -> None:
    assert value - step * 1.001 <= usable_set_point(value, step) <= value + step * 1e-6


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_gas_is_never_less_mass(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert ppm_to_mg_m3(low, molar_mass_g=34.081) <= ppm_to_mg_m3(high, molar_mass_g=34.081)


@pytest.mark.parametrize(
    ("value", "unit", "to", "same"),
    [
        (12.0, "ppm", "ppm", 12.0),
        (1500.0, "ppb", "ppm", 1.5),
        (0.1, "% vol", "ppm", 1000.0),
        (10_000.0, "ppm", "% vol", 1.0),
        (9.92, "mg/m3", "ppm", 7.0),  # H2S, vector 1
        (9920.0, "ug/m3", "ppm", 7.0),
        (20.0, "°C", "°C", 20.0),
        (212.0, "°F", "°C", 100.0),
        (-40.0, "°F", "°C", -40.0),
        (273.15, "K", "°C", 0.0),
        (101_325.0, "Pa", "hPa", 1013.25),
        (101.325, "kPa", "hPa", 1013.25),
        (250.0, "mA", "A", 0.25),
    ],
)
def test_a_device_s_unit_becomes_its_channel_s(value: float, unit: str, to: str, same: float) -> None:
    factor, offset = conversion(unit, to, molar_mass_g=34.081)  # of H2S, where it matters
    assert value * factor + offset == pytest.approx(same, abs=0.005)


@pytest.mark.parametrize(("unit", "to"), [("mg/m3", "ppm"), ("% LEL", "ppm"), ("ppm", "% LEL"), ("°C", "ppm"), ("", "A")])
def test_a_way_that_nobody_knows_is_refused(unit: str, to: str) -> None:
    with pytest.raises(ValueError, match="no conversion from"):
        conversion(unit, to)
