"""What the documents say of device profiles, made from the code: which are shipped, and the schema of the file.

`python -m tests.kit.profile_tables` writes the schema anew.
"""

import json

import msgspec

from manway.channels import UNITS
from manway.device_profile import DeviceProfile
from manway.profile_rows import ProfileFile, Sign
from manway.runtime.profiles import load_profiles
from tests.kit.docs_tables import ROOT, table

SCHEMA = ROOT / "docs" / "device_profile.schema.json"


def shipped() -> str:
    """Return the profiles of the package."""
    rows = [[f"`{p.id}`", p.file.model, _ways(p), _channels(p), _signs(p), _word(p)] for p in load_profiles().values()]
    return table(("profile", "device", "heard by", "channels", "signs", "its word"), rows)


def channels() -> str:
    """Return every channel a profile may name, with the unit that its numbers come out in."""
    return table(("channel", "unit"), [[f"`{name}`", unit] for name, unit in UNITS.items() if unit])


def schema() -> str:
    """Return the JSON Schema of a profile's file."""
    return json.dumps(msgspec.json.schema(ProfileFile), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _ways(profile: DeviceProfile) -> str:
    return ", ".join(dict.fromkeys(source.row.via.replace("_", " ") for source in profile.sources.values()))


def _channels(profile: DeviceProfile) -> str:
    names = (field.channel for source in profile.sources.values() for field in source.row.fields)
    return ", ".join(dict.fromkeys(f"`{name}`" for name in names))


def _signs(profile: DeviceProfile) -> str:
    said = {row.sign for source in profile.sources.values() for row in source.row.signs}
    return ", ".join(f"`{sign.value}`" for sign in Sign if sign in said)


def _word(profile: DeviceProfile) -> str:
    return "may raise only" if profile.file.raises_only else "as our own"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), "utf-8")
