"""The channels of the packed wire: codes, names, units, and numbers without binary noise (`locks.md` §5).

A number is a whole number of -32767 to 32767 and a power of ten, so that 20.9 stays 20.9.
"""

from decimal import Decimal

NO_VALUE = -32768
# (choice) A millionth resolves every gas of the table; 327,670,000 is more than all of any.
LEAST_EXPONENT, MOST_EXPONENT = -6, 4

# Code -> channel and its unit, as everywhere else in Manway.
CHANNELS = {
    1: ("O2", "% vol"),
    2: ("LEL", "% LEL"),
    3: ("CO", "ppm"),
    4: ("H2S", "ppm"),
    5: ("CO2", "ppm"),
    6: ("CH4", "% vol"),
    7: ("NH3", "ppm"),
    8: ("SO2", "ppm"),
    9: ("NO2", "ppm"),
    10: ("NO", "ppm"),
    11: ("CL2", "ppm"),
    12: ("HCN", "ppm"),
    13: ("PH3", "ppm"),
    14: ("H2", "ppm"),
    15: ("O3", "ppm"),
    16: ("VOC", "ppm"),
    0xE0: ("temperature_c", "°C"),
    0xE1: ("humidity_percent", "%"),
    0xE2: ("pressure_hpa", "hPa"),
    0xE3: ("fan_a", "A"),
    0xF0: ("battery_percent", "%"),
    0xF1: ("wearer_state", ""),
}
CODES = {name: code for code, (name, _) in CHANNELS.items()}
UNITS = dict(CHANNELS.values())


def channel_name(code: int) -> str:
    """Return the channel behind a code; raises ValueError for one that is not in the table."""
    if code not in CHANNELS:
        message = f"channel {code} is not in the table"
        raise ValueError(message)
    return CHANNELS[code][0]


def channel_code(name: str) -> int:
    """Return the code of a channel; raises ValueError for one that has none."""
    if name not in CODES:
        message = f"channel {name} has no code"
        raise ValueError(message)
    return CODES[name]


def scaled(value: float) -> tuple[int, int]:
    """Return a number as mantissa and power of ten, exactly and with the fewest digits behind the point.

    Raises:
        ValueError: it has more digits than 16 bits hold, or is not finite: the device rounds before it sends.
    """
    sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    if not isinstance(exponent, int):  # infinity and NaN have a letter there
        message = f"not a number that can be sent: {value}"
        raise ValueError(message)  # noqa: TRY004  a float it is
    mantissa = int("".join(map(str, digits)))
    while exponent > 0 and mantissa * 10 < -NO_VALUE:  # 120 is 120, not 12 and a power
        mantissa, exponent = mantissa * 10, exponent - 1
    if mantissa == 0:
        return 0, 0
    if mantissa >= -NO_VALUE or not LEAST_EXPONENT <= exponent <= MOST_EXPONENT:
        message = f"too many digits for 16 bits: {value}"
        raise ValueError(message)
    return (-mantissa if sign else mantissa), exponent


def number(mantissa: int, exponent: int) -> float:
    """Return mantissa times ten to the exponent, as the nearest number there is: 209 and -1 are 20.9.

    Raises:
        ValueError: an exponent that no channel has any use for.
    """
    if not LEAST_EXPONENT <= exponent <= MOST_EXPONENT:
        message = f"exponent {exponent}"
        raise ValueError(message)
    return mantissa / 10**-exponent if exponent < 0 else float(mantissa * 10**exponent)
