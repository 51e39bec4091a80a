"""A maker's file as a test writes one: valid by default, with one thing changed by its text."""

from manway.device_profile import DeviceProfile
from manway.profile_rules import parse_profile
from manway.runtime.settings import gases

GASES = gases()
VENDOR = """
id = "acme.one.v1"
model = "ACME One"
match = [{ company = 0xFFFF, data_prefix = "a1" }]

[[sources]]
name = "air"
via = "manufacturer_data"
company = 0xFFFF
length = 5
counter = { at = 1, fmt = "B" }
constants = [{ at = 0, value = 0xA1, otherwise = "another model" }]
fields = [{ channel = "CO", at = 2, fmt = "<H", scale = 0.1, unit = "ppm", invalid = { 0xFFFF = "fault" }, min = 0, max = 999 }]
signs = [{ at = 4, mask = 0x01, sign = "a1" }]

[[vectors]]
source = "air"
hex = "a1 07 7800 01"
counter = 7
expect = { CO = 12 }
signs = ["a1"]

[[vectors]]
source = "air"
hex = "a1 08 ffff 00"
counter = 8
expect = { CO = "fault" }
"""


def vendor(old: str = "", new: str = "") -> DeviceProfile:
    """The vendor's profile, with the one place that reads `old` reading `new`."""
    assert not old or VENDOR.count(old) == 1, VENDOR.count(old)
    return parse_profile(VENDOR.replace(old, new) if old else VENDOR, "acme.toml", GASES)
