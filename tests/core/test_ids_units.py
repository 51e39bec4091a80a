"""Derived identities and gas units against cited numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manway.ids import derived_id
from manway.units import molar_volume_l, ppm_to_mg_m3


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


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_more_gas_is_never_less_mass(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert ppm_to_mg_m3(low, molar_mass_g=34.081) <= ppm_to_mg_m3(high, molar_mass_g=34.081)
