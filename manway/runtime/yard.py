"""The training yard as data: what the demo seeds and the simulator plays, read from `manway/tables/yard.toml`."""

import functools
from hashlib import sha256
from importlib.resources import files

import msgspec

from manway.codec_adv import advertisement_key
from manway.entities import Delegation, Entrance, Equipment, Expert, Instrument, Person, Space, Team, Training

CHANNELS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm", "fan_a": "A", "battery_percent": "%"}
REQUIRED = ["O2", "LEL", "H2S", "CO"]  # GB 46768-2025 5.8.1: at least these four
DAY_S = 86_400.0
DUE_S = 30 * DAY_S
# The instruments' own low alarms, no laxer than profile CN: H2S 7.0 ppm is 9.9 mg/m3, CO 25 ppm is 29.1 mg/m3 at 20 °C.
SETPOINTS = {"O2": 19.5, "LEL": 10.0, "H2S": 7.0, "CO": 25.0}
BATTERY_LIFE_S = 12 * 3600.0
RESCUE_KIT = {"scba": 2, "tripod": 1, "harness": 2, "lifeline": 2, "blower": 1, "radio": 2}
TRAINED_S = 90 * 86_400.0  # the yard's people passed their training this long ago
YEAR_S = 365 * 86_400.0


class YardRadio(msgspec.Struct, frozen=True):
    """What one device of the yard is on the air: all of it follows from its name, for a yard guards nothing real.

    `address` is a static random one (its first two bits are 1: Core Specification Vol 6, Part B, 1.3.2.1).
    """

    address: str
    device_id: bytes
    device_key: bytes

    @property
    def advertisement_key(self) -> bytes:
        """The key under which the device broadcasts, which the plan gives the gateway."""
        return advertisement_key(self.device_key)

    @classmethod
    def of(cls, device: str) -> "YardRadio":
        """Return what a device is by its name."""
        own = sha256(f"manway-yard-radio {device}".encode()).digest()
        address = bytes([own[0] | 0xC0]) + own[1:6]
        return cls(address.hex(":").upper(), own[8:16], sha256(f"manway-yard-key {device}".encode()).digest())


class YardSite(msgspec.Struct, frozen=True):
    """One site of the yard."""

    id: str
    name: dict[str, str]


class YardSpace(msgspec.Struct, frozen=True):
    """One space and the scene that is played in it; `radio`: its devices speak Bluetooth where the simulator has a radio."""

    id: str
    site: str
    kind: str
    name: dict[str, str]
    depth_m: float
    hazards: list[str]
    scene: str
    vertical: bool = True
    position: tuple[float, float] | None = None
    address: str = ""
    radio: bool = False

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
        return Space(
            self.id,
            self.site,
            self.kind,
            names,
            self.depth_m,
            list(REQUIRED),
            entrances,
            self.hazards,
            vertical=self.vertical,
            rescue_kit=dict(RESCUE_KIT),
            position=self.position,
            address=self.address,
        )

    def device(self, now: float, *, on_air: bool = False) -> Instrument:
        """Return the ledger's record of its instrument, tested today; `on_air`: it speaks Bluetooth."""
        own = YardRadio.of(self.instrument) if on_air else None
        return Instrument(
            self.instrument,
            f"YD4-{self.id}",
            self.id,
            dict(CHANNELS),
            bump_due=now + DUE_S,
            calibration_due=now + DUE_S,
            setpoints=dict(SETPOINTS),
            battery_life_s=BATTERY_LIFE_S,
            address=own.address if own else "",
            device_id=own.device_id if own else b"",
            advertisement_key=own.advertisement_key if own else b"",
        )


class YardPerson(msgspec.Struct, frozen=True):
    """Somebody of the yard; `cast` = acted by the simulator, `crew` = goes in when the simulator plays.

    `delegated`: holds the principal's written word that he or she may approve (MEM Order 13 art. 7).
    """

    id: str
    number: int
    name: dict[str, str]
    roles: list[str]
    account: str
    cast: bool = False
    crew: bool = False
    principal: bool = False
    delegated: bool = False

    def person(self, now: float) -> Person:
        """Return the ledger's record of them, trained this year."""
        names = {"zh-CN": self.name["zh"], "en": self.name["en"]}
        passed_at = now - TRAINED_S
        trained = [Training("confined_space", passed_at, passed_at + YEAR_S)]
        word = Delegation(f"YARD-{self.id}", passed_at, passed_at + YEAR_S) if self.delegated else None
        return Person(self.id, self.number, names, self.roles, trained, principal=self.principal, delegation=word)


class YardGear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rescue gear of one kind at one place; `due_days` from the day of seeding, None = nobody knows when it is due."""

    id: str
    kind: str
    quantity: int
    org: str
    place: dict[str, str]
    space: str = ""
    position: tuple[float, float] | None = None
    due_days: float | None = None
    phone: str = ""

    def equipment(self, now: float) -> Equipment:
        """Return the ledger's record of it."""
        due_at = None if self.due_days is None else now + self.due_days * DAY_S
        return Equipment(
            self.id,
            self.kind,
            self.org,
            {"zh-CN": self.place["zh"], "en": self.place["en"]},
            self.quantity,
            self.space,
            self.position,
            due_at=due_at,
            phone=self.phone,
        )


class Yard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole yard; `on_air` names the instrument that speaks Bluetooth in the demo. Its locks do not: they need a bond."""

    firm: dict[str, str]
    on_air: str
    site: list[YardSite]
    space: list[YardSpace]
    person: list[YardPerson]
    gear: list[YardGear] = []
    team: list[Team] = []
    expert: list[Expert] = []

    @property
    def crew(self) -> list[str]:
        """The ids of those who go in when the simulator plays."""
        return [person.id for person in self.person if person.crew]

    def scene(self, name: str) -> YardSpace:
        """Return the space in which a scene is played."""
        return next(s for s in self.space if s.scene == name)


@functools.cache
def load_yard() -> Yard:
    """Return the yard of the package."""
    return msgspec.toml.decode((files("manway") / "tables" / "yard.toml").read_bytes(), type=Yard)
