"""Finds device profiles: those of the package, those that other distributions bring, those of an installation's own folder."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from manway.device_profile import DeviceProfile
from manway.errors import ProfileInvalid
from manway.profile_rules import parse_profile
from manway.runtime.settings import gases

GROUP = "manway.profiles"  # an entry point here names a package; the TOML files in it are profiles


def load_profiles(folder: Path | None = None) -> dict[str, DeviceProfile]:
    """Return every profile by its id: the package's, other distributions', and the TOML files of `folder`, if it exists.

    Raises:
        ProfileInvalid: a profile is wrong, or two have one id or know a device by the same.
    """
    known = gases()
    found: dict[str, DeviceProfile] = {}
    known_by: dict[object, str] = {}
    for file in _texts(folder):
        profile = parse_profile(file.read_text("utf-8"), file.name, known)
        if profile.id in found:
            raise ProfileInvalid(file.name, f"id: {profile.id} is taken; give a new one, or raise the revision")
        for match in profile.file.match:
            if match in known_by:
                raise ProfileInvalid(file.name, f"match: {known_by[match]} knows its devices by the same; tell them apart")
            known_by[match] = profile.id
        found[profile.id] = profile
    return found


def _texts(folder: Path | None) -> Iterator[Traversable]:
    yield from _toml(files("manway") / "profiles")
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield from _toml(files(entry.module))
    if folder is not None and folder.is_dir():
        yield from _toml(folder)


def _toml(folder: Traversable) -> list[Traversable]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
