"""The engine's picture of one site: instruments, locks, spaces, alarms, as they are known now."""

import msgspec

from manway.alarm import Alarm
from manway.entities import Frame, LockState, Permit, PermitState, Plan
from manway.gas import Channel
from manway.ids import GrantKind
from manway.ledger import DeviceLedger
from manway.limits import LimitProfile, Timings
from manway.lock import UNSECURED, LockPosition
from manway.occupancy import Occupancy
from manway.permit import HOLDING, OPEN


class InstrumentWatch(msgspec.Struct):
    """One instrument. `heard_at` is when its newest frame came, or when we began to wait for one (Unix seconds).

    `troubled` from a fault or a silence until the next good frame.
    """

    device: str
    space: str
    heard_at: float
    channels: dict[str, Channel]
    frame: Frame | None = None
    troubled: bool = False
    ledger: DeviceLedger = msgspec.field(default_factory=DeviceLedger)
    lost: bool = False


class WrittenGrant(msgspec.Struct, frozen=True):
    """A grant on its way to a lock: no report by `confirm_by` makes the lock UNKNOWN."""

    grant: str
    kind: GrantKind
    command: str
    confirm_by: float


class LockWatch(msgspec.Struct):
    """One lock: reported position, and the grant the lock itself said it used.

    `heard_result` is (boot, tick, log number) of its newest signed result: an older one is a repeat.
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
    log_seq: int = 0
    heard_result: tuple[int, int, int] = (0, 0, 0)

    @property
    def unsecured(self) -> bool:
        """True while the opening does not keep people out."""
        return self.position in UNSECURED


class SpaceWatch(msgspec.Struct):
    """One space: who is inside, when its attendant was last heard, whether it is being evacuated."""

    id: str
    occupancy: Occupancy = msgspec.field(default_factory=Occupancy)
    attendant_at: float | None = None
    evacuating: bool = False


class Site(msgspec.Struct):
    """Everything the engine knows of one site."""

    id: str
    limits: LimitProfile
    timings: Timings
    plan: Plan | None = None
    instruments: dict[str, InstrumentWatch] = {}
    locks: dict[str, LockWatch] = {}
    spaces: dict[str, SpaceWatch] = {}
    alarms: dict[tuple[str, str, str], Alarm] = {}  # (kind, object, space): an instrument may move, its alarm does not
    early: dict[str, LockState] = {}  # what locks said before the plan that names them

    def permit_of(self, space: str) -> Permit | None:
        """Return the permit that holds a space now, the one people may be inside on first."""
        permits = [p for p in (self.plan.permits if self.plan else []) if p.space == space and p.state in HOLDING]
        return next((p for p in permits if p.state in OPEN), permits[0] if permits else None)

    def instruments_of(self, space: str) -> list[InstrumentWatch]:
        """Return the instruments working in a space."""
        return [watch for watch in self.instruments.values() if watch.space == space]

    def locks_of(self, space: str) -> list[LockWatch]:
        """Return the locks of a space."""
        return [lock for lock in self.locks.values() if lock.space == space]

    def entry_allowed(self, space: str) -> bool:
        """True when the permit says that people may be inside, or a grant in use lets them in before its news has come.

        An ENTRY grant outlives its permit only in the lock: once the permit is suspended, closing or gone it allows nobody.
        """
        permit, kinds = self.permit_of(space), {lock.used_kind for lock in self.locks_of(space)}
        if GrantKind.EMERGENCY in kinds or (permit is not None and permit.state in OPEN):
            return True
        prepared = permit is not None and permit.state in (PermitState.APPROVED, PermitState.READY)
        return prepared and GrantKind.ENTRY in kinds
