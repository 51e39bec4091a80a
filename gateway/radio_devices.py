"""What the radio knows of each device: where it was heard, what it is wanted for, how its last calls ended."""

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum

import msgspec

from gateway.profiled import broadcast
from gateway.radio_queue import Urgency, Want, back_off_s
from manway import gatt
from manway.codec_adv import LockAdvertisement, decode_advertisement
from manway.device_profile import DeviceProfile
from manway.device_profile import Heard as Advertisement
from manway.entities import Instrument, Lock
from manway.errors import DecodeRejected
from manway.profile_rows import BROADCAST
from manway.site import Site

FORGET_S = 180.0  # `locks.md` §8: unseen for so long, a device is out of reach
CHANGE_DB = 16  # same place: so much better another adapter must hear a device to get it
POLL_S = 60.0  # `locks.md` §6: a lock's state is said every 60 s, over the radio by asking
ANSWER_S = 20.0  # `locks.md` §8: a session; what could not be brought to a device for so long is not brought any more
RESCUE_S = 60.0  # `locks.md` §1.1: the longest life of a grant; so long what is asked of a lock after a rescue belongs to it
_REPEAT_S = 0.5  # (choice) how soon a changed advertisement is passed on again; a device may advertise ten times as often
_UNPROVEN_S = 60.0  # (choice) how often one is passed on whose mac is wrong: often enough to be suspected, too seldom to flood
_AT_ONCE_S = 0.1  # (choice) less than any back-off
_LOG_MASK = 0xFFFF


class Kind(Enum):
    """What a device is to the radio."""

    LOCK = "lock"
    INSTRUMENT = "instrument"


class RadioDevice(msgspec.Struct, frozen=True):
    """A device with an address, as the plan has it now; `occupied`: somebody is, or may be, inside its space.

    `rescue`: its opening for a rescue was asked for. `profile` names the device profile its bytes follow, "" is Manway's own.
    `enrolling`: no plan names it yet, and nothing it broadcasts can be checked; such a row is good `enrolling_until` (Unix s),
    which for every lock also tells one message of an enrolment from the next. `passkey`: what to pair with before it begins.
    """

    site: str
    device: str
    kind: Kind
    address: str
    device_id: bytes = b""
    key: bytes = b""
    occupied: bool = False
    profile: str = ""
    rescue: bool = False
    enrolling: bool = False
    enrolling_until: float = 0.0
    passkey: str = ""

    @property
    def id(self) -> str:
        """Its name among all sites."""
        return f"{self.site}/{self.device}"

    def is_another_than(self, before: "RadioDevice") -> bool:
        """Say whether its name belongs to another device than before; one that has been enrolled has only got its key."""
        if (self.address.upper(), self.kind, self.profile) != (before.address.upper(), before.kind, before.profile):
            return True
        return not before.enrolling and (self.device_id, self.key) != (before.device_id, before.key)


def devices_of(site: Site) -> list[RadioDevice]:
    """Return the devices of a site that have an address, as its plan has them now, and behind them locks being enrolled."""
    planned = _planned(site)
    known = {row.device: row for row in planned}
    for device, one in site.enrolling_on_air.items():
        row = known.get(device)
        if row is not None and row.address.upper() == one.address:
            known[device] = msgspec.structs.replace(row, passkey=one.passkey, enrolling_until=one.until)
    return [*known.values(), *_enrolling(site, known)]


def _enrolling(site: Site, planned: Mapping[str, RadioDevice]) -> list[RadioDevice]:
    """Return the locks being enrolled at an address that the plan does not give them."""
    return [
        RadioDevice(site.id, device, Kind.LOCK, one.address, enrolling=True, enrolling_until=one.until, passkey=one.passkey)
        for device, one in site.enrolling_on_air.items()
        if device not in planned or planned[device].address.upper() != one.address
    ]


def _planned(site: Site) -> list[RadioDevice]:
    plan = site.plan
    if plan is None:
        return []
    rows: list[tuple[Kind, Lock | Instrument, bytes]] = [(Kind.LOCK, lock, lock.lock_id) for lock in plan.locks]
    rows += [(Kind.INSTRUMENT, one, one.device_id) for one in plan.instruments if not one.out_of_service]
    return [
        RadioDevice(
            site.id,
            row.device,
            kind,
            row.address,
            device_id,
            row.advertisement_key,
            occupied=site.occupied(row.space),
            profile=getattr(row, "profile", ""),
            rescue=kind is Kind.LOCK and row.device in site.locks and site.locks[row.device].rescue is not None,
        )
        for kind, row, device_id in rows
        if row.address
    ]


class Heard(msgspec.Struct, frozen=True):
    """How well and when one adapter heard a device last: dBm, seconds."""

    rssi: int
    at: float


class Request(msgspec.Struct, frozen=True):
    """A message on its way to a device: the topic's name behind `down/`, its bytes, when it was given to us (seconds)."""

    name: str
    payload: bytes
    at: float


class Known:
    """One device; every time in the same seconds."""

    def __init__(self, row: RadioDevice, profile: DeviceProfile | None = None) -> None:
        self.row, self.profile = row, profile
        self.heard: dict[str, Heard] = {}
        self.pending: list[Request] = []
        self.pull = False  # its log, or its state, is to be fetched
        self.told_log: int | None = None  # low 16 bits of the newest log number the rules were told of
        self.pairing = False
        self.to_pair = False  # its enrolment waits until it has been paired with
        self.rescue_until = -math.inf  # an opening for rescue was asked for, and goes before everything else
        self.unbrought: Callable[[bytes], None] | None = None  # told of a grant of it that went nowhere
        self._enrolment: tuple[float, bytes] = (0.0, b"")
        self.served_at = -math.inf
        self.called_at = -math.inf  # when it was first tried of late, without a pause since
        self.vacated_at = -math.inf  # when a link was ended for it
        self.adapter = ""
        self._failures = 0
        self._retry_at = self._failed_at = -math.inf
        self._passed = b""
        self._passed_at = self._unproven_at = -math.inf

    @property
    def service(self) -> str:
        """The service whose data it advertises."""
        return gatt.LOCK_SERVICE if self.row.kind is Kind.LOCK else gatt.GAS_SERVICE

    @property
    def connectable(self) -> bool:
        """False for a device that only broadcasts, and for one whose profile is not known here."""
        if self.profile is None:
            return not self.row.profile
        return any(source.row.via not in BROADCAST for source in self.profile.sources.values())

    def heard_by(self, adapter: str, rssi: int, now: float) -> bool:
        """Note that an adapter hears it; return True where no adapter had for a while."""
        news = all(now - heard.at >= FORGET_S for heard in self.heard.values())
        self.heard[adapter] = Heard(rssi, now)
        return news

    def has_been_told(self, message: bytes) -> bool:
        """Return whether a message of its enrolment came before: the api repeats what is not answered within 2 s."""
        this, before = (self.row.enrolling_until, message), self._enrolment
        self._enrolment = this
        return this == before and this[0] > 0

    def urgency(self, now: float) -> Urgency | None:
        """Return why it should be connected, None for no reason."""
        row = self.row
        if not self.connectable:
            return None
        if row.kind is Kind.INSTRUMENT:
            return Urgency.OCCUPIED if row.occupied else Urgency.POLL
        if any(request.name == "hello" for request in self.pending):
            return self.opening_urgency(now)
        if self.pending or self.pull:
            return Urgency.LOG
        if row.enrolling:
            return None
        return Urgency.POLL if now - self.served_at >= POLL_S else None

    def opening_urgency(self, now: float) -> Urgency:
        """Return how urgent its opening is."""
        if self.row.rescue or now < self.rescue_until:
            return Urgency.RESCUE
        return Urgency.EMERGENCY if self.row.occupied else Urgency.UNLOCK

    def give_back(self, requests: Iterable[Request]) -> None:
        """Take what a link was given and has not brought, as old as it is, unless the same has been asked for since."""
        newer = {request.name for request in self.pending}
        self.pending = [*(request for request in requests if request.name not in newer), *self.pending]

    def succeeds(self, other: "Known") -> None:
        """Take over what is still wanted of a device that has another address, key or profile now."""
        self.pending, self.rescue_until, self.unbrought = other.pending, other.rescue_until, other.unbrought

    def want(self, now: float) -> Want | None:
        """Return what an adapter may do for it now.

        After a failure its back-off must be over and it must have been heard since: a connect to who is not there would keep
        those waiting who are. Only an unlock waits for neither; and only what is urgent does not wait for its pairing.
        """
        urgency = self.urgency(now)
        if urgency is None or (urgency > Urgency.EMERGENCY and (self.pairing or self.to_pair)):
            return None
        heard_at = max((heard.at for heard in self.heard.values()), default=-math.inf)
        if urgency > Urgency.UNLOCK and (now < self._retry_at or heard_at <= self._failed_at):
            return None
        return Want(self.row.id, urgency, self.served_at, stays=self.row.kind is Kind.INSTRUMENT)

    def choose_adapter(self, listening: set[str], now: float) -> str:
        """Return which of these adapters it belongs to, "" for none: the one it has, unless another hears it far better."""
        fresh = {name: heard for name, heard in self.heard.items() if name in listening and now - heard.at < FORGET_S}
        best = max(fresh, key=lambda name: fresh[name].rssi, default="")
        if self.adapter not in fresh or fresh[best].rssi - fresh[self.adapter].rssi >= CHANGE_DB:
            self.adapter = best
        return self.adapter

    def called(self, now: float) -> None:
        """Note an attempt to connect; one that follows a failed one at once belongs to it."""
        self.served_at = now
        if now - self._failed_at >= _AT_ONCE_S:
            self.called_at = now

    def failed(self, now: float, roll: float) -> None:
        """Note a connection that was not made, or ended by itself."""
        self._failures += 1
        self._failed_at = now
        self._retry_at = now + back_off_s(self._failures, roll)

    def worked(self) -> None:
        """Note a connection that did what it was for."""
        self._failures, self._retry_at = 0, -math.inf

    def give_up(self, now: float) -> list[Request]:
        """Return, and forget, what could not be brought to it in time."""
        late = [request for request in self.pending if now - request.at >= ANSWER_S]
        self.pending = [request for request in self.pending if now - request.at < ANSWER_S]
        return late

    def broadcasts(self, said: Advertisement, now: float) -> list[bytes]:
        """Return what an advertisement of another maker's device brings, as `up/frame` carries it; nothing twice in a row."""
        if self.profile is None or now - self._passed_at < _REPEAT_S:
            return []
        payloads = broadcast(self.profile, said)
        whole = b"".join(payloads)
        if whole == self._passed:
            return []
        self._passed, self._passed_at = whole, now
        return payloads

    def advertised(self, data: bytes, now: float, *, linked: bool) -> bool:
        """Take what it advertises; return whether to pass it on: what changed, and with a link only the levels of it.

        A lock whose log has moved is to be asked for it. The mac decides that; of an advertisement that bears a wrong one the
        rules are told now and then, and nothing is done.
        """
        row = self.row
        if row.enrolling:
            return False
        try:
            said = decode_advertisement(row.device_id, row.key, data)
        except DecodeRejected:
            if now - self._unproven_at < _UNPROVEN_S:
                return False
            self._unproven_at = now
            return True
        if isinstance(said, LockAdvertisement) and said.log_seq != self.told_log:
            self.pull = True
        same = data[:3] == self._passed[:3] if linked else data == self._passed
        if same or now - self._passed_at < _REPEAT_S:
            return False
        self._passed, self._passed_at = data, now
        return True

    def told(self, log_seq: int) -> None:
        """Note that the rules have been told how far its log goes, durably."""
        self.told_log, self.pull = log_seq & _LOG_MASK, False
