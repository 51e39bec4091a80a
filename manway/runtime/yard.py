"""The training yard as data: what the demo seeds and the simulator plays, read from `manway/tables/yard.toml`."""

import functools
from importlib.resources import files

import msgspec

from manway.entities import Entrance, Instrument, Space

CHANNELS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm", "fan_a": "A", "battery_percent": "%"}
REQUIRED = ["O2", "LEL", "H2S", "CO"]  # GB 46768-2025 5.8.1: at least these four
DUE_S = 30 * 86_400.0


class YardSite(msgspec.Struct, frozen=True):
    """One site of the yard."""

    id: str
    name: dict[str, str]


class YardSpace(msgspec.Struct, frozen=True):
    """One space and the scene that is played in it."""

    id: str
    site: str
    kind: str
    name: dict[str, str]
    depth_m: float
    hazards: list[str]
    scene: str

    @property
    def lock(self) -> str:
        """The device name of its lock."""
        return f"lock-{self.id}"

    @property
    def instrument(self) -> str:
        """The device name of its instrument."""
        return f"gas-{self.id}"

    def space(self) -> Space:
        """Return the ledger's record of it."""
        names = {"zh-CN": self.name["zh"], "en": self.name["en"]}
        entrances = [Entrance(f"{self.id}-1", self.lock)]
        return Space(self.id, self.site, self.kind, names, self.depth_m, list(REQUIRED), entrances, self.hazards)

    def device(self, now: float) -> Instrument:
        """Return the ledger's record of its instrument, tested today."""
        return Instrument(
            self.instrument, f"YD4-{self.id}", self.id, dict(CHANNELS), bump_due=now + DUE_S, calibration_due=now + DUE_S
        )


class YardPerson(msgspec.Struct, frozen=True):
    """Somebody of the yard; `account` "" = cannot sign in, `cast` = acted by the simulator."""

    id: str
    number: int
    name: dict[str, str]
    roles: list[str]
    account: str
    cast: bool = False


class Yard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole yard."""

    firm: dict[str, str]
    site: list[YardSite]
    space: list[YardSpace]
    person: list[YardPerson]

    def scene(self, name: str) -> YardSpace:
        """Return the space in which a scene is played."""
        return next(s for s in self.space if s.scene == name)


@functools.cache
def load_yard() -> Yard:
    """Return the yard of the package."""
    return msgspec.toml.decode((files("manway") / "tables" / "yard.toml").read_bytes(), type=Yard)
