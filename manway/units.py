"""Gas units: the only place where concentrations are converted.

A concentration handed to these functions is finite and not negative; what a drifting sensor says below zero is judged where
sensors are judged, with the same factors (`limits.GasLimits.factor`).
"""

import math

GAS_CONSTANT = 8.314462618  # J/(mol K), CODATA 2018
PRESSURE_PA = 101_325.0  # standard atmosphere, the reference of GBZ 2.1 and OSHA Z-1
PPM_PER_PERCENT = 10_000.0  # 1 % vol


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
    return _concentration(value_ppm, "ppm") * (molar_mass_g / molar_volume_l(at_c))


def mg_m3_to_ppm(value_mg_m3: float, *, molar_mass_g: float, at_c: float = 20.0) -> float:
    """Return a mass per volume as a volume fraction, in ppm; the reverse of `ppm_to_mg_m3`.

    Raises:
        ValueError: the value is negative, infinite or NaN.

    Source: ideal gas; NH3 20 mg/m3 at 20 °C = 28.2 ppm (`domain.md`, vector 20).
    """
    return _concentration(value_mg_m3, "mg/m3") * (molar_volume_l(at_c) / molar_mass_g)


def percent_to_ppm(value_percent: float) -> float:
    """Return a volume fraction in % vol as ppm; raises ValueError as `ppm_to_mg_m3` does."""
    return _concentration(value_percent, "% vol") * PPM_PER_PERCENT


def ppm_to_percent(value_ppm: float) -> float:
    """Return a volume fraction in ppm as % vol; raises ValueError as `ppm_to_mg_m3` does."""
    return _concentration(value_ppm, "ppm") / PPM_PER_PERCENT


def lel_to_percent(value_lel: float, *, lfl_vol: float) -> float:
    """Return % LEL as % vol of the gas whose lower flammable limit is `lfl_vol`, in % vol.

    Raises:
        ValueError: the value is negative, infinite or NaN; the limit is not a positive number.

    Source: CH4 50 % LEL = 2.5 % vol by NFPA 497 (5.0), 2.2 by IEC 60079-20-1 (4.4) (`domain.md` §6.1).
    """
    return _concentration(value_lel, "% LEL") * _flammable(lfl_vol) / 100.0


def percent_to_lel(value_percent: float, *, lfl_vol: float) -> float:
    """Return % vol as % LEL, the reverse of `lel_to_percent`; raises ValueError as it does."""
    return _concentration(value_percent, "% vol") * 100.0 / _flammable(lfl_vol)


def usable_set_point(value: float, step: float) -> float:
    """Return the largest whole number of `step` that is not above `value`: what an instrument may be set to.

    A set-point rounded up would let the instrument stay silent above the limit. Both in one unit, `step` > 0.
    """
    steps = math.floor(round(value / step, 6))  # 0.3 / 0.1 is 2.9999999999999996 and means three steps
    return round(steps * step, 6)


_PPM_OF = {"ppb": 1e-3, "ppm": 1.0, "% vol": PPM_PER_PERCENT}
# Everything that is no concentration: (from, to) -> factor and offset.
_LINEAR = {
    ("°F", "°C"): (5 / 9, -160 / 9),
    ("K", "°C"): (1.0, -273.15),
    ("Pa", "hPa"): (0.01, 0.0),
    ("kPa", "hPa"): (10.0, 0.0),
    ("mbar", "hPa"): (1.0, 0.0),
    ("mA", "A"): (0.001, 0.0),
}


def conversion(unit: str, to: str, *, molar_mass_g: float = 0.0, at_c: float = 20.0) -> tuple[float, float]:
    """Return factor and offset of the way from one unit to another: value in `to` = value x factor + offset.

    Args:
        unit: of the number.
        to: of the channel.
        molar_mass_g: g/mol, for mass per volume; 0 = not known.
        at_c: temperature to which a mass per volume refers.

    Raises:
        ValueError: there is no way between the two.
    """
    if unit == to:
        return 1.0, 0.0
    in_ppm = dict(_PPM_OF)
    if molar_mass_g > 0:
        mg_m3 = mg_m3_to_ppm(1.0, molar_mass_g=molar_mass_g, at_c=at_c)
        in_ppm |= {"mg/m3": mg_m3, "ug/m3": mg_m3 / 1000.0}
    if unit in in_ppm and to in _PPM_OF:
        return in_ppm[unit] / _PPM_OF[to], 0.0
    if (unit, to) not in _LINEAR:
        message = f"no conversion from {unit} to {to}"
        raise ValueError(message)
    return _LINEAR[unit, to]


def _concentration(value: float, unit: str) -> float:
    if not math.isfinite(value) or value < 0:
        message = f"not a concentration: {value} {unit}"
        raise ValueError(message)
    return value


def _flammable(lfl_vol: float) -> float:
    if not 0.0 < lfl_vol <= 100.0:  # NaN is not greater either  # noqa: PLR2004  % of all
        message = f"not a lower flammable limit: {lfl_vol} % vol"
        raise ValueError(message)
    return lfl_vol
