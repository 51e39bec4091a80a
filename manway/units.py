"""Gas units: the only place where concentrations are converted."""

import math

GAS_CONSTANT = 8.314462618  # J/(mol K), CODATA 2018
PRESSURE_PA = 101_325.0  # standard atmosphere, the reference of GBZ 2.1 and OSHA Z-1


def molar_volume_l(at_c: float) -> float:
    """Return the volume of one mole of ideal gas in litres at 101.325 kPa: 24.055 at 20 °C, 24.465 at 25 °C."""
    return GAS_CONSTANT * (273.15 + at_c) / PRESSURE_PA * 1000.0


def ppm_to_mg_m3(value_ppm: float, *, molar_mass_g: float, at_c: float = 20.0) -> float:
    """Return a gas concentration as mass per volume, in mg/m3 at 101.325 kPa.

    Args:
        value_ppm: volume fraction; finite and not negative.
        molar_mass_g: g/mol.
        at_c: air temperature in degrees Celsius.

    Raises:
        ValueError: the value is negative, infinite or NaN.

    Source: ideal gas; H2S 7.0 ppm at 20 °C = 9.92 mg/m3 (`domain.md`, vector 1).
    """
    if not math.isfinite(value_ppm) or value_ppm < 0:
        message = f"not a concentration: {value_ppm} ppm"
        raise ValueError(message)
    return value_ppm * molar_mass_g / molar_volume_l(at_c)
