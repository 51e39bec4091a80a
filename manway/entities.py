"""The nouns of the domain as frozen records, shared by every part and by the wire.

Times are Unix seconds (`at`, `start`, `end`) unless a name says `ms`. Concentrations are in the channel's own unit.
"""

import enum
import math

import msgspec

from manway.ids import GrantKind, Status

_OK = Status.OK


class Reading(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One channel at one instant. `value` is a finite number exactly when `status` is OK, else None.

    A fault is a status and never a number: `NaN > limit` is false and would clear an alarm.
    """

    status: Status
    value: float | None = None

    def __post_init__(self) -> None:
        value = self.value
        sound = value is None if self.status is not _OK else value is not None and -math.inf < value < math.inf
        if not sound:
            message = f"a reading has a finite value exactly when it is ok: {self.status.value}, {self.value}"
            raise ValueError(message)


class Frame(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The atomic record of one device at one instant: never split, never merged.

    `device` is the provisioned name; (`device`, `boot`, `seq`) is the identity. `ts` is milliseconds since 1970 by the
    device's clock where it has one, else by the gateway's, strictly rising per device. `received_at` is the gateway's.
    `readings` maps a channel ("O2", "LEL", "H2S", "CO", "fan_a", "battery_percent") to its reading.
    """

    device: str
    boot: int
    seq: int
    ts: int
    received_at: float
    readings: dict[str, Reading]
    replayed: bool = False


class Bolt(enum.IntEnum):
    """Where the lock says its bolt is (`locks.md` §2)."""

    UNKNOWN = 0
    LOCKED = 1
    RETRACTED = 2
    MOVING = 3
    JAMMED = 4


class Door(enum.IntEnum):
    """What the lock's contact says of the cover or hatch."""

    UNKNOWN = 0
    CLOSED = 1
    OPEN = 2


class LockFlag(enum.IntFlag):
    """Flags of a lock state."""

    TAMPER = 1
    FORCED = 2
    SEAL_BROKEN = 4
    INSIDE_RELEASE = 8
    TIME_UNKNOWN = 16
    BATTERY_LOW = 32
    LEFT_OPEN = 64
    ENROLMENT = 128


class LockState(msgspec.Struct, frozen=True):
    """The 20 bytes a lock reports of itself. `session` is 0, a grant kind 1-3, or 4 armed; `tick` is 100 ms since boot."""

    bolt: Bolt
    door: Door
    session: int
    flags: LockFlag
    cause: int
    battery_percent: int
    fault: int
    log_seq: int
    boot: int
    tick: int


class ResultCode(enum.IntEnum):
    """What a lock did with an accepted grant or order."""

    OPENED = 0
    SESSION_CHANGED = 1
    PRESS_WANTED = 2
    NO_PRESS = 3
    JAMMED = 4
    FAULT = 5
    ARMED = 6
    LOCKED = 7
    NOT_CLOSED = 8
    KEY_SET = 9
    TIME_SET = 10
    ENROLLED = 11


class LogEvent(enum.IntEnum):
    """Events of the lock's own log (hex in `locks.md` §2)."""

    BOOT = 0x01
    TIME_SET = 0x02
    ENROLLED = 0x03
    KEY_SET = 0x04
    FIRMWARE_INSTALLED = 0x05
    FIRMWARE_REFUSED = 0x06
    ACCEPTED = 0x10
    REFUSED = 0x11
    PRESS = 0x12
    NO_PRESS = 0x13
    RETRACTED = 0x20
    THROWN = 0x21
    JAMMED = 0x22
    DOOR_OPENED = 0x23
    DOOR_CLOSED = 0x24
    ARMED = 0x25
    DISARMED = 0x26
    LEFT_OPEN = 0x27
    FORCED = 0x30
    TAMPER = 0x31
    SEAL_BROKEN = 0x32
    INSIDE_RELEASE = 0x33
    BATTERY_LOW = 0x40
    FAULT = 0x41
    OVERWRITTEN = 0x42


class RefusalReason(enum.IntEnum):
    """Why a lock refused; on air every refusal is the same byte, the reason stands in its log only."""

    SHAPE = 1
    KID = 2
    PAYLOAD = 3
    OTHER_LOCK = 4
    CHALLENGE = 5
    AGE = 6
    KIND = 7
    SIGNATURE = 8
    PRECONDITION = 9
    THROTTLED = 10
    FLASH = 11
    VOUCHER = 12


class LockHello(msgspec.Struct, frozen=True):
    """A lock's signed greeting: who it is, its fresh challenge (16 bytes), its state and the head of its log chain."""

    lock_id: bytes
    challenge: bytes
    state: LockState
    log_head: bytes
    time: int
    kids: tuple[bytes, bytes]
    firmware: tuple[int, int, int, int]


class LockResult(msgspec.Struct, frozen=True):
    """A lock's signed word on what it did with grant `cti` (16 bytes)."""

    lock_id: bytes
    cti: bytes
    code: ResultCode
    state: LockState
    log_head: bytes


class LogRecord(msgspec.Struct, frozen=True):
    """One of the 40-byte records of a lock's log; `ref` is a grant id or 16 zero bytes; `cause` of REFUSED its reason."""

    seq: int
    boot: int
    tick: int
    time: int
    event: int
    cause: int
    bolt: int
    door: int
    kind: int
    battery_percent: int
    arg: int
    ref: bytes


class Grant(msgspec.Struct, frozen=True):
    """The content of a grant or order before it is signed (`locks.md` §1.1); lengths in bytes: 8, 8, 16, 16."""

    kind: GrantKind
    holder: bytes
    lock_id: bytes
    cti: bytes
    challenge: bytes
    life_s: int
    max_open_s: int = 0
    time: int = 0
    new_key: bytes = b""


class Entrance(msgspec.Struct, frozen=True):
    """An opening of a space and the lock that bars it (device name)."""

    id: str
    lock: str


class Lock(msgspec.Struct, frozen=True):
    """An enrolled lock: its device name, 8-byte id and raw Ed25519 public key.

    `address` is its Bluetooth address ("" = it speaks MQTT); `advertisement_key` (32 bytes) checks what it broadcasts.
    """

    device: str
    lock_id: bytes
    public_key: bytes
    space: str
    address: str = ""
    advertisement_key: bytes = b""


class Instrument(msgspec.Struct, frozen=True):
    """A gas instrument and where it works now. `channels` maps channel to unit; due dates are Unix seconds.

    `worn_by` is a person id, "" for one that watches the space itself. `setpoints` maps a gas to the low alarm the instrument
    itself is set to, in the channel's unit (0 = switched off). `lel_base_vol` is the % vol of methane its 100 % LEL stands for
    (0 = the profile's base); `correction` maps a channel to the factor its numbers are multiplied by. `battery_life_s` is how
    long a full battery lasts (0 = unknown). One that is `out_of_service` is watched by nobody and backs no grant.
    `address` is its Bluetooth address ("" = it speaks MQTT), `profile` the device profile its bytes follow ("" = Manway's own),
    `device_id` (8 bytes) and `advertisement_key` (32 bytes) check what it broadcasts.
    """

    device: str
    serial: str
    space: str
    channels: dict[str, str]
    pumped: bool = True
    bump_due: float = 0.0
    calibration_due: float = 0.0
    worn_by: str = ""
    setpoints: dict[str, float] = {}
    lel_base_vol: float = 0.0
    correction: dict[str, float] = {}
    battery_life_s: float = 0.0
    out_of_service: bool = False
    address: str = ""
    profile: str = ""
    device_id: bytes = b""
    advertisement_key: bytes = b""


class SiteEntry(msgspec.Struct, frozen=True):
    """A site of the ledger: the area of one gateway's engine; `name` maps language to text."""

    id: str
    name: dict[str, str]


class Space(msgspec.Struct, frozen=True):
    """A confined space of the ledger. `name` maps language to text; `depth_m` is its length where it is not `vertical`.

    `residue`: sludge that must be stirred before testing. `mech_vent_required`: the fan may not stop (GB 46768-2025 6.2.4).
    `complicated`: the air may worsen suddenly, so a harness and supplied air are needed (5.12). `rescue_kit` names what must
    stand ready, kind -> quantity. `position` is latitude and longitude in degrees. `current` False: its ledger row is not
    confirmed; nobody may be let in on it.
    """

    id: str
    site: str
    kind: str
    name: dict[str, str]
    depth_m: float
    required_gases: list[str]
    entrances: list[Entrance]
    hazards: list[str] = []
    connected: list[str] = []
    width_m: float = 0.0
    vertical: bool = True
    residue: bool = False
    mech_vent_required: bool = False
    complicated: bool = False
    rescue_kit: dict[str, int] = {}
    position: tuple[float, float] | None = None
    address: str = ""
    current: bool = True
    out_of_service: bool = False


class PermitState(enum.Enum):
    """States of a permit (`domain.md` §4.1)."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    READY = "ready"
    ACTIVE = "active"
    EVACUATING = "evacuating"
    SUSPENDED = "suspended"
    CLOSING = "closing"
    CLOSED = "closed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Signature(msgspec.Struct, frozen=True):
    """Who agreed or approved (`step`: supervisor, approver) and when."""

    step: str
    person: str
    at: float


class TestPoint(msgspec.Struct, frozen=True):
    """One sampling point of a pre-entry test: metres from the entrance, seconds of dwell, channel -> value in its unit."""

    distance_m: float
    dwell_s: float
    readings: dict[str, float]


class GasTest(msgspec.Struct, frozen=True):
    """A pre-entry test as the tester signed it; points in the order they were sampled (GB 46768-2025 5.8.6-5.8.7).

    `phase` is initial, after_vent, re_entry or periodic; `upwind`, `stirred`: what the tester confirmed of 5.8.4-5.8.5.
    """

    tester: str
    instrument: str
    at: float
    points: list[TestPoint]
    limits_version: str
    passed: bool
    profile: str = "CN"
    phase: str = "initial"
    upwind: bool = True
    stirred: bool = False


class Confirmation(msgspec.Struct, frozen=True):
    """One item of the check list that a person has answered with yes; `evidence` is a photo's sha256 or a note.

    The newest of an (item, person) counts. What the items are, who may answer them and how long an answer is good for stands
    in `checks.ITEMS`.
    """

    item: str
    by: str
    at: float
    evidence: str = ""


class ExtraPermit(msgspec.Struct, frozen=True):
    """Another permit this work needs (hot_work, electrical, height …) with its own number and validity, Unix seconds."""

    kind: str
    number: str
    start: float
    end: float


class Hold(msgspec.Struct, frozen=True):
    """An authority's stop of a permit (MEM Order 13 art. 18): it evacuates, and only `by`, its regulator, lifts it."""

    by: str
    at: float
    reason: str


class Permit(msgspec.Struct, frozen=True):
    """A permit to enter one space. People are ids; `start`, `end` Unix seconds; `drill` marks training (演练).

    `work_kinds` say what extra permits and ventilation it needs (hot_work, painting …); `isolation` names every energy and
    pipe to be locked out; `task_s` is how long the work itself takes. `contractor`: somebody else's people do it, so the
    owner approves too. `hold` is an authority's stop.
    """

    id: str
    number: str
    site: str
    space: str
    work: str
    drill: bool
    state: PermitState
    requester: str
    supervisor: str
    attendant: str
    tester: str
    entrants: list[str]
    instruments: list[str]
    start: float
    end: float
    signatures: list[Signature] = []
    ventilated_at: float | None = None
    gas_test: GasTest | None = None
    barrier: bool = False
    version: int = 1
    work_kinds: list[str] = []
    isolation: list[str] = []
    extra_permits: list[ExtraPermit] = []
    confirmations: list[Confirmation] = []
    contractor: bool = False
    task_s: float = 0.0
    hold: Hold | None = None
    profile: str = "CN"


class Training(msgspec.Struct, frozen=True):
    """A confined-space training that was passed, and until when it is good (MEM Order 13 art. 9: at least yearly)."""

    kind: str
    passed_at: float
    valid_to: float


class Delegation(msgspec.Struct, frozen=True):
    """The principal's written word that this person may approve (MEM Order 13 art. 7), good from `start` to `end`."""

    document: str
    start: float
    end: float


class Person(msgspec.Struct, frozen=True):
    """Somebody known by name; `number` is the u64 that a grant names as its holder, never reused.

    `principal`: the firm's principal responsible person. `owner`: approves for the owner of the space, not for a contractor.
    """

    id: str
    number: int
    name: dict[str, str]
    roles: list[str]
    trainings: list[Training] = []
    principal: bool = False
    delegation: Delegation | None = None
    owner: bool = True
    phone: str = ""


class Notice(msgspec.Struct, frozen=True):
    """An imported weather message; `stop` forbids entries while it lasts (Unix seconds)."""

    id: str
    kind: str
    spaces: list[str]
    start: float
    end: float
    stop: bool = False
    text: dict[str, str] = {}


class Plan(msgspec.Struct, frozen=True):
    """The api's signed picture of one site, sent to its gateway; `used_grants` maps lock device -> grant id that opened it."""

    site: str
    version: int
    made_at: float
    profile: str
    limits_version: str
    spaces: list[Space]
    locks: list[Lock]
    instruments: list[Instrument]
    permits: list[Permit]
    used_grants: dict[str, str] = {}
    notices: list[Notice] = []


class Equipment(msgspec.Struct, frozen=True):
    """Rescue gear of the ledger (GB 46768-2025 4.5): pieces of one `kind` at one place, with when they must be inspected again.

    `space` is the space whose rescue kit it belongs to, "" for a store. `due_at` None: no date is known, which never
    counts as in date. `position` is latitude and longitude in degrees; a scrapped piece helps nobody.
    """

    id: str
    kind: str
    org: str
    place: dict[str, str]
    quantity: int
    space: str = ""
    position: tuple[float, float] | None = None
    inspected_at: float | None = None
    due_at: float | None = None
    scrapped: bool = False
    phone: str = ""


class Team(msgspec.Struct, frozen=True):
    """A rescue team that can be called; `people` is how many it has, `hazards` what it is trained and equipped for."""

    id: str
    name: dict[str, str]
    org: str
    phone: str
    position: tuple[float, float] | None = None
    people: int = 0
    hazards: list[str] = []


class Expert(msgspec.Struct, frozen=True):
    """Somebody who knows hazards and can be asked; `hazards` uses the words of `Space.hazards`."""

    id: str
    name: dict[str, str]
    org: str
    phone: str
    hazards: list[str] = []
    position: tuple[float, float] | None = None


class Evidence(msgspec.Struct, frozen=True):
    """A photo or file that proves something `about` a permit, item or space; `returned` is why a reviewer sent it back.

    `taken_at` is the device's word, `received_at` the server's.
    """

    id: str
    kind: str
    sha256: str
    taken_at: float
    received_at: float
    by: str
    about: str
    position: tuple[float, float] | None = None
    returned: str = ""


class Responsibility(msgspec.Struct, frozen=True):
    """Who answers for a firm in which role (grid member, district officer): the end of the ladder and of its tasks."""

    org: str
    person: str
    role: str
