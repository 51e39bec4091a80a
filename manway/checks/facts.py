"""What the checks look at: one immutable picture, in which None is unknown, and unknown fails.

Everything is a value, so that the same picture can be judged by the page, by the signer in its own process, and by a test.
"""

import msgspec

from manway.entities import Notice, Permit, Person, Reading, Space
from manway.ids import GrantKind
from manway.limits import LimitProfile, Timings


class LiveInstrument(msgspec.Struct, frozen=True):
    """An instrument as gateway and ledger see it: age of its newest frame in seconds, its readings and units, its papers.

    `setpoints` maps a gas to the low alarm it is set to, in its unit (0 = switched off); `battery_life_s` is how long a full
    battery lasts (0 = unknown); `slopes` maps a gas to how fast it moves, in the limit's unit per second, where that is known.
    `lel_base_vol` and `correction` are the ledger's word on how its numbers are to be read (`entities.Instrument`).
    """

    device: str
    age_s: float
    readings: dict[str, Reading]
    units: dict[str, str]
    bump_due: float
    calibration_due: float
    setpoints: dict[str, float] = {}
    battery_life_s: float = 0.0
    out_of_service: bool = False
    worn_by: str = ""
    slopes: dict[str, float] = {}
    lel_base_vol: float = 0.0
    correction: dict[str, float] = {}


class LockFacts(msgspec.Struct, frozen=True):
    """What the lock last reported: when, where its bolt is, its battery (%), and how far its clock is off (seconds).

    The offset is known from a hello only. Before it `Facts.signing` is False and nobody asks for it.
    """

    at: float
    position: str
    battery_percent: int | None
    clock_offset_s: float | None = None


class Facts(msgspec.Struct, frozen=True):
    """Everything the checks look at, one immutable picture. Times in Unix seconds; None is unknown and fails.

    Attributes:
        by: who asks for the opening; `authenticated` says whether a live session of theirs, on their device, vouches for it.
        people: everybody known, by id. `exposed` are those who may not go in again this shift.
        attendant_elsewhere: numbers of other permits the attendant watches now.
        fan_running: the fan current's word.
        pumped: which enrolled instruments draw their sample through a hose, by device.
        open_p1: the open P1 alarms of the space and its connected ones.
        picture_age_s: how long ago the gateway was heard, which is the uplink's age too.
        gateway_faults: open alarms about the gateway itself, its journal, its clock and its way to people.
        alarm_path_at: when an event of the engine last came all the way to the records and was acknowledged.
        notices: weather messages of the site.
        photos_elsewhere: hashes of the photos that other permits have used.
        inside: the known count.
        signing: the lock's hello is there, so that its clock can be judged too.
    """

    now: float
    kind: GrantKind
    permit: Permit
    space: Space
    lock: str
    by: str
    limits: LimitProfile
    timings: Timings
    people: dict[str, Person]
    attendant_seen_at: float | None
    attendant_elsewhere: list[str] | None
    exposed: frozenset[str] | None
    fan_running: bool | None
    instruments: list[LiveInstrument]
    pumped: dict[str, bool]
    open_p1: list[str]
    other_open_permits: list[str]
    picture_age_s: float | None
    gateway_faults: list[str] | None
    alarm_path_at: float | None
    notices: list[Notice] | None
    lock_now: LockFacts | None
    authenticated: bool | None
    photos_elsewhere: frozenset[str] | None
    inside: int | None = None
    signing: bool = False
