"""The engine's picture of one site: instruments, locks, spaces, alarms, as they are known now."""

from collections import defaultdict

import msgspec

from manway.alarm import Alarm, Alarms
from manway.codec_adv import InstrumentAdvertisement
from manway.codec_gas import BATTERY_UNKNOWN, InstrumentReport
from manway.entities import Frame, Instrument, LockFlag, LockState, Permit, PermitState, Plan, Space
from manway.exposure import Exposure
from manway.gas import Channel, GasRows
from manway.heard import PlainFrame, Unread
from manway.ids import GrantKind
from manway.inputs import HealthReported
from manway.instrument import InstrumentState
from manway.ledger import DeviceLedger
from manway.limits import LimitProfile, Timings
from manway.lock import UNSECURED, LockPosition
from manway.log_trail import LogTrail
from manway.occupancy import Occupancy
from manway.permit import HOLDING, OPEN
from manway.person import PersonState
from manway.space import SpaceState

# Work that needs mechanical ventilation throughout (GB 46768-2025 6.2.4).
FAN_WORK = frozenset({"desilting", "painting", "waterproofing", "anticorrosion", "welding", "hot_work"})


BROADCAST_AFTER_S = 3.0  # (choice) three frames missed at 1 Hz: no link delivers, and what is broadcast counts


class Broadcast(msgspec.Struct, frozen=True):
    """What an instrument broadcast last, and when it came (Unix seconds)."""

    said: InstrumentAdvertisement
    at: float


class InstrumentWatch(msgspec.Struct):
    """One instrument. `heard_at` is when its newest frame came, or when we began to wait for one (Unix seconds).

    `known` is its row of the plan, `rows` maps gas to its row of `Site.gas`; `troubled` from a fault or a silence until the
    next good frame. `fan_on` is what its fan's current says, `wearer` the newest word of the person who wears it (`locks.md`
    §5: 0 well, 1 SOS, 2 no motion, 3 fall). `poisoned`: much H2S met its combustible sensor since the last bump test,
    `sour_since` since when (Unix seconds). `set_to` are the low alarms read from itself (None = not read: the plan's count),
    `report` what it said of itself, `bumped_at` the newest bump test it ever told of (Unix seconds, 0 = none), `advertised`
    what it broadcast last.

    Plain frames wait where `unread` says until somebody asks for `frame`, `heard_at` or `ledger`: `newest`, `was_heard_at` and
    `counted` are these as they were before. `plain` is the newest frame that was read there, until somebody has it made.
    """

    known: Instrument
    was_heard_at: float = msgspec.field(name="heard_at")
    rows: dict[str, int]
    newest: Frame | None = msgspec.field(default=None, name="frame")
    troubled: bool = False
    counted: DeviceLedger = msgspec.field(default_factory=DeviceLedger, name="ledger")
    lost: bool = False
    state: InstrumentState = InstrumentState.OFF
    fan_on: bool | None = None
    wearer: int = 0
    sour_since: float | None = None
    poisoned: bool = False
    set_to: dict[str, float] | None = None
    report: InstrumentReport | None = None
    bumped_at: float = 0.0
    advertised: Broadcast | None = None
    unread: Unread | msgspec.UnsetType = msgspec.UNSET  # so, neither is ever in a snapshot
    plain: PlainFrame | msgspec.UnsetType = msgspec.UNSET

    @property
    def plain_frame(self) -> PlainFrame | msgspec.UnsetType:
        """Its newest frame where that is plain and not made yet."""
        self.read()
        return self.plain

    @property
    def frame(self) -> Frame | None:
        """Its newest frame."""
        self.read()
        if self.plain is not msgspec.UNSET:
            self.newest, self.plain = self.plain.made(self.known.device), msgspec.UNSET
        return self.newest

    @frame.setter
    def frame(self, frame: Frame | None) -> None:
        self.read()
        self.newest, self.plain = frame, msgspec.UNSET

    @property
    def heard_at(self) -> float:
        """When its newest frame came, or when we began to wait for one, Unix seconds."""
        self.read()
        return self.was_heard_at

    @heard_at.setter
    def heard_at(self, at: float) -> None:
        self.read()
        self.was_heard_at = at

    @property
    def ledger(self) -> DeviceLedger:
        """Its ledger of loss."""
        self.read()
        return self.counted

    @ledger.setter
    def ledger(self, ledger: DeviceLedger) -> None:
        self.read()
        self.counted = ledger

    def read(self) -> None:
        """Take over what plain frames have said since the last time."""
        if self.unread is msgspec.UNSET or (read := self.unread.read()) is None:
            return
        count, self.plain = read
        self.counted.highest = self.plain.seq
        self.counted.received += count
        self.was_heard_at = max(self.was_heard_at, self.plain.received_at)

    @property
    def setpoints(self) -> dict[str, float]:
        """Its own low alarms by gas, 0 = switched off: as read from itself, else as the plan has them."""
        return self.known.setpoints if self.set_to is None else self.set_to

    @property
    def runs_out(self) -> float:
        """When its bump test or calibration is due, Unix seconds: by the ledger or by its own word, whichever comes first."""
        own = [at for at in (self.report.bump_due, self.report.calibration_due) if at] if self.report else []
        return min(self.known.bump_due, self.known.calibration_due, *own)

    @property
    def battery_percent(self) -> float | None:
        """What its battery has left: by its newest frame, or where frames do not say it by its own report; None = unknown."""
        reading = self.frame.readings.get("battery_percent") if self.frame else None
        if reading is not None:
            return reading.value
        said = self.report.battery_percent if self.report else BATTERY_UNKNOWN
        return None if said == BATTERY_UNKNOWN else float(said)

    @property
    def device(self) -> str:
        """Its provisioned name."""
        return self.known.device

    @property
    def space(self) -> str:
        """Where it works now."""
        return self.known.space


class WrittenGrant(msgspec.Struct, frozen=True):
    """A grant on its way to a lock: no report by `confirm_by` makes the lock UNKNOWN."""

    grant: str
    kind: GrantKind
    command: str
    confirm_by: float

    @property
    def about_itself(self) -> bool:
        """True for an order about the lock's own clock or keys: it says nothing of the opening, whatever becomes of it."""
        return self.kind in (GrantKind.ROTATE_KEY, GrantKind.SET_TIME)


class Rescue(msgspec.Struct):
    """An opening for rescue asked for at the gateway's own page: confirmed by `confirm_by`, over `until` (Unix seconds)."""

    confirm_by: float
    until: float
    opened: bool = False


class LockWatch(msgspec.Struct):
    """One lock: reported position, and the grant the lock itself said it used.

    `heard_result` is (boot, tick, log number) of its newest signed result: an older one is a repeat. `told`: what its log,
    a late result or its newest report told that the lock does not go on saying. `refused_at`: when it refused attempts
    lately; `broadcast_open_at`: when it began to broadcast an opening that no report has told (Unix seconds, 0 = none).
    `log_broken_at`: when its log last had a gap or was not the one it had signed, 0 for never.
    """

    device: str
    space: str
    heard_at: float
    position: LockPosition = LockPosition.UNKNOWN
    reported: LockState | None = None
    written: WrittenGrant | None = None
    unconfirmed: bool = False
    used_grant: str = ""
    used_kind: GrantKind | None = None
    told: LockFlag = LockFlag(0)
    refused_at: list[float] = []
    log_seq: int = 0
    log_trail: LogTrail = msgspec.field(default_factory=LogTrail)
    log_broken_at: float = 0.0
    heard_result: tuple[int, int, int] = (0, 0, 0)
    rescue: Rescue | None = None
    broadcast_open_at: float = 0.0

    @property
    def unsecured(self) -> bool:
        """True while the opening does not keep people out."""
        return self.position in UNSECURED


class PersonWatch(msgspec.Struct):
    """One person known in one space. `since` is when the present state began, `answered_at` the last word (Unix seconds)."""

    id: str
    state: PersonState = PersonState.OUTSIDE
    since: float = 0.0
    answered_at: float = 0.0
    sos: bool = False


class SpaceWatch(msgspec.Struct):
    """One space: who is inside, when its attendant was last heard, whether it is being evacuated.

    `recorded_at` is when the last statutory record was taken; `fan_seen` whether its fan ran under the present permit;
    `closing_since` since when the work is said to be done; `watched_since` when we began to wait for the attendant of a space
    that was taken over with people inside. Times in Unix seconds, None = not now.
    """

    id: str
    state: SpaceState = SpaceState.IDLE
    occupancy: Occupancy = msgspec.field(default_factory=Occupancy)
    people: dict[str, PersonWatch] = {}
    attendant: str = ""
    attendant_at: float | None = None
    evacuating: bool = False
    evacuating_since: float = 0.0
    recorded_at: float | None = None
    fan_seen: bool = False
    closing_since: float | None = None
    watched_since: float | None = None


class Place(msgspec.Struct):
    """What the plan puts into one space: its ledger row, the permit that holds it, instruments and locks."""

    ledger: Space | None = None
    permit: Permit | None = None
    instruments: list[InstrumentWatch] = []
    locks: list[LockWatch] = []


_NOWHERE = Place()


class Relayed(msgspec.Struct, frozen=True):
    """A message that a lock being enrolled has not answered: its command, and whether it `asks` the lock what it is."""

    command: str
    asks: bool


class AirEnrolment(msgspec.Struct, frozen=True):
    """Where a lock that is being enrolled is on the air, until when (Unix s), and the passkey to pair with, "" for none."""

    address: str
    passkey: str
    until: float


class Site(msgspec.Struct):
    """Everything the engine knows of one site."""

    id: str
    limits: LimitProfile
    timings: Timings
    gas: GasRows
    plan: Plan | None = None
    instruments: dict[str, InstrumentWatch] = {}
    locks: dict[str, LockWatch] = {}
    spaces: dict[str, SpaceWatch] = {}
    exposures: dict[str, dict[str, Exposure]] = {}  # person -> gas -> what was breathed, across spaces and instruments
    alarms: Alarms = msgspec.field(default_factory=Alarms)  # an instrument may move, its alarm does not
    health: dict[tuple[str, str], HealthReported] = {}  # (alarm kind, object): what the gateway says of itself
    enrolling: dict[str, Relayed] = {}  # lock -> the message of its enrolment that waits for an answer
    enrolling_on_air: dict[str, AirEnrolment] = {}  # lock -> how its radio is reached before a plan says so
    early: dict[str, LockState] = {}  # what locks said before the plan that names them
    places: dict[str, Place] = {}  # what stands above, by space: `arrange` keeps it

    def arrange(self) -> None:
        """Sort what the plan names by space; every change of a plan, an instrument's or a lock's place calls it."""
        places: dict[str, Place] = defaultdict(Place)
        for ledger in self.plan.spaces if self.plan else ():
            places[ledger.id].ledger = ledger
        holding = [p for p in (self.plan.permits if self.plan else []) if p.state in HOLDING]
        for permit in sorted(holding, key=lambda p: p.state not in OPEN):  # the one people may be inside on first
            places[permit.space].permit = places[permit.space].permit or permit
        for watch in self.instruments.values():
            places[watch.space].instruments.append(watch)
        for lock in self.locks.values():
            places[lock.space].locks.append(lock)
        self.places = dict(places)

    def permit_of(self, space: str) -> Permit | None:
        """Return the permit that holds a space now, the one people may be inside on first."""
        return self.places.get(space, _NOWHERE).permit

    def channels_of(self, instrument: InstrumentWatch) -> dict[str, Channel]:
        """Return the channels of an instrument that have limits, as they are now."""
        return {gas: self.gas.at(row) for gas, row in instrument.rows.items()}

    def alarms_of(self, space: str) -> list[Alarm]:
        """Return the alarms of a space, open or not; "" is the site itself."""
        return self.alarms.of(space)

    def out_of_service(self, obj: str, space: str) -> bool:
        """Say whether the ledger has a device (or the device of a channel), or its whole space, out of service."""
        lock = self.locks.get(obj)
        if lock is not None and (lock.rescue is not None or lock.used_kind is GrantKind.EMERGENCY):
            return False  # a rescue is always an alarm, whatever the ledger thinks nobody relies on
        watch = self.instruments.get(obj.partition("/")[0])
        known = self.ledger_of(space)
        return (watch is not None and watch.known.out_of_service) or (known is not None and known.out_of_service)

    def ledger_of(self, space: str) -> Space | None:
        """Return the plan's row of a space."""
        return self.places.get(space, _NOWHERE).ledger

    def occupied(self, space: str) -> bool:
        """Say whether anybody is, or may be, inside a space."""
        watch = self.spaces.get(space)
        return watch is not None and watch.occupancy.occupied

    def spaces_of(self, person: str) -> list[str]:
        """Return the spaces somebody is believed to be inside: one, or the count is wrong."""
        return [space.id for space in self.spaces.values() if person in space.occupancy.inside]

    def needs_fan(self, space: str) -> bool:
        """Say whether a space's ledger row, or the work in it, forbids that its fan stops (GB 46768-2025 6.2.4)."""
        permit = self.permit_of(space)
        known = self.ledger_of(space)
        airy = permit is not None and not FAN_WORK.isdisjoint(permit.work_kinds)
        return airy or (known is not None and known.mech_vent_required)

    def fan_running(self, space: str) -> bool | None:
        """Return what the fan's current says, None when no instrument tells."""
        said = [watch.fan_on for watch in self.instruments_of(space) if watch.fan_on is not None and not watch.lost]
        return any(said) if said else None

    def instruments_of(self, space: str) -> list[InstrumentWatch]:
        """Return the instruments working in a space."""
        return self.places.get(space, _NOWHERE).instruments

    def locks_of(self, space: str) -> list[LockWatch]:
        """Return the locks of a space."""
        return self.places.get(space, _NOWHERE).locks

    def entry_allowed(self, space: str) -> bool:
        """True when the permit says that people may be inside, or a grant in use lets them in before its news has come.

        An ENTRY grant outlives its permit only in the lock: once the permit is suspended, closing or gone it allows nobody.
        """
        permit, kinds = self.permit_of(space), {lock.used_kind for lock in self.locks_of(space)}
        if GrantKind.EMERGENCY in kinds:
            return True
        watch = self.spaces.get(space)
        if permit is not None and permit.state is PermitState.EVACUATING:  # it lets people out, and nobody in again
            return watch is not None and watch.evacuating
        if permit is not None and permit.state in OPEN:
            return True
        prepared = permit is not None and permit.state in (PermitState.APPROVED, PermitState.READY)
        return prepared and GrantKind.ENTRY in kinds
