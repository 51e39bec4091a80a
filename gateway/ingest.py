"""Bytes of one site's devices and api -> verified inputs for its engine; nothing is dropped in silence."""

import math
from collections import defaultdict
from collections.abc import Callable

import msgspec

from gateway import ingest_packed
from gateway.ingest_packed import DeviceClock, PackedIngest, Profiled
from manway import codec_ble
from manway.codec_mqtt import DeviceState, GasFrames, SignedPlan, decode, decode_command, decode_gas, frames_of
from manway.cose import MAX_MESSAGE, Envelope
from manway.entities import Frame, Lock, LockHello, Plan
from manway.errors import DecodeRejected
from manway.ids import derived_id
from manway.inputs import (
    AnyInput,
    ClockBegan,
    CommandReceived,
    EnrolmentReceived,
    FrameHeld,
    FrameReceived,
    HelloReceived,
    InputRejected,
    LockReported,
    LogReceived,
    PlanReceived,
    ResultReceived,
)
from manway.runtime.ports import Message
from manway.site import Site
from manway.topics import Address

Verify = Callable[[bytes, bytes, bytes], bool]  # public key, signed bytes, signature
MOST_HELD = 600  # ten minutes of a device whose birth does not come
MOST_STRANGERS = 1_000  # (choice) devices of a site that its plan does not name and of which something is remembered
# (choice) Before the first plan it names nobody: a site of ten thousand instruments may begin at once.
_MOST_WITHOUT_PLAN = 10_000
_REMEMBERED = ("gas", "state", "up/frame")  # what leaves something behind under the device's name
_MAY_BE_RETAINED = ("state", "up/state", "api/plan")
_REFUSALS = (b"\xff", b"\xfe")
# (choice) A delay that is less than the least one by less than this is none: every instrument would set its own anew for hours,
# and what is late is so by seconds (`REPLAY_AFTER_S`).
FINER_S = 0.1


class Waiting(msgspec.Struct, frozen=True):
    """What an ingest knows beside the births: what a snapshot of a site keeps of it. Fields as those of `Ingest`."""

    held: dict[str, list[bytes]]
    greeting: dict[str, str]
    behind: dict[str, tuple[int, float]]
    clocks: dict[str, DeviceClock] = {}
    clocks_before: dict[str, DeviceClock] = {}
    greeted: dict[str, tuple[int, int]] = {}


class Ingest:
    """Decodes for one site. Keeps the births and who asked which lock for a hello; everything else is the engine's."""

    def __init__(
        self,
        site: str,
        births: dict[str, DeviceState],
        verify: Verify,
        plan_key: bytes,
        *,
        before: dict[str, DeviceState] | None = None,
        profiled: Profiled | None = None,
    ) -> None:
        """Go on with the `births` of a site's devices, and those `before` them; `profiled` reads other makers' devices."""
        self.births = births
        self.held: dict[str, list[bytes]] = defaultdict(list)
        self.greeting: dict[str, str] = {}  # lock -> the GreetLock command that waits for its hello
        self._greeted: dict[str, tuple[int, int]] = {}  # lock id in hex -> boot and tick of its newest hello
        self._new: list[tuple[str, DeviceState]] = []  # births the journal has not been given yet
        self._before = before or {}  # the birth before: its last frames may come behind the next one
        self._site, self._verify, self._plan_key = site, verify, plan_key
        self._applied: Plan | None = None
        self._locks: dict[str, Lock] = {}
        self._units: dict[str, dict[str, str]] = {}
        self._fits: dict[str, DeviceState] = {}  # births whose units are known to be the plan's
        self._behind: dict[str, tuple[int, float]] = {}  # device -> boot, least delay seen: its clock's own error
        self._packed = PackedIngest(profiled)
        self._names = set(births)  # devices that may be remembered: those of the plan, and `_strangers` others
        self._strangers = len(births)
        self._rejected = 0

    def waiting(self) -> Waiting:
        """Return what `resume` takes back after a restart."""
        held = {device: list(payloads) for device, payloads in self.held.items() if payloads}
        packed = self._packed
        return Waiting(held, dict(self.greeting), dict(self._behind), packed.clocks, packed.before, dict(self._greeted))

    def resume(self, known: Waiting) -> None:
        """Go on from a snapshot."""
        self.held.update(known.held)
        self.greeting, self._behind = dict(known.greeting), dict(known.behind)
        self._greeted = dict(known.greeted)
        self._packed.clocks, self._packed.before = dict(known.clocks), dict(known.clocks_before)
        self._name(self._applied)

    def remember(self, item: AnyInput) -> None:
        """Take from the journal what an input taught when it was new."""
        match item:
            case FrameHeld(device=device, payload=payload):
                self.held[device].append(payload)
            case ClockBegan():
                self._packed.begin(item)
            case FrameReceived(frame=frame):
                self._remember_frame(frame)
            case HelloReceived(lock=lock, hello=hello, command=command):
                self._is_newest(hello)
                if command:
                    self.greeting.pop(lock, None)
            case _:
                pass

    def _remember_frame(self, frame: Frame) -> None:
        if self._packed.follow(frame):
            return
        # Without it the backlog of the outage would pass for live air of a device whose clock is slow.
        self.clock_behind(frame.device, frame.boot, frame.received_at - frame.ts / 1000)
        self.release(frame.device, frame.boot)

    def new_clocks(self) -> list[ClockBegan]:
        """Return what was learned since the last call of devices without a clock; it belongs before the frames of that step."""
        return self._packed.new_clocks()

    def new_births(self) -> list[tuple[str, DeviceState]]:
        """Return device and birth of those that came since the last call, in order: the journal keeps the last two, as here."""
        new, self._new = self._new, []
        return new

    def know(self, plan: Plan) -> None:
        """Take the locks of an applied plan: their keys are what hellos and results must verify under."""
        if plan is self._applied:
            return
        self._applied, self._fits = plan, {}
        self._packed.know(plan)
        self._name(plan)
        self._locks = {lock.device: lock for lock in plan.locks}
        self._units = {instrument.device: instrument.channels for instrument in plan.instruments}

    def _name(self, plan: Plan | None) -> None:
        """Say anew who may be remembered: whom the plan names, and whoever is remembered already."""
        planned = {x.device for x in plan.instruments} | {x.device for x in plan.locks} if plan else set[str]()
        remembered = self.births.keys() | self.held.keys() | self._packed.clocks.keys()
        self._names, self._strangers = planned | remembered, len(remembered - planned)

    def _admit(self, device: str) -> None:
        """Let one more device that no plan names be remembered, or refuse it: names cost their sender nothing."""
        if self._strangers >= (MOST_STRANGERS if self._applied else _MOST_WITHOUT_PLAN):
            raise DecodeRejected(device, "the plan does not name this device, and already too many others")
        self._names.add(device)
        self._strangers += 1

    def release(self, device: str, boot: int) -> None:
        """Forget held frames of a boot whose frames could be read: they were read then."""
        if device in self.held:
            self.held[device] = [p for p in self.held[device] if decode(p, GasFrames, device).b != boot]

    def drop_read(self, site: Site) -> None:
        """After a restart: forget held frames that a later birth has already let in."""
        for device, payloads in self.held.items():
            watch = site.instruments.get(device)
            messages = [(p, decode(p, GasFrames, device)) for p in payloads]
            waiting = [(p, m) for p, m in messages if self._birth(device, m.b) is None]  # a birth was journaled with its frames
            self.held[device] = [p for p, m in waiting if watch is None or not watch.ledger.has(m.b, m.s)]
        for device in [device for device, payloads in self.held.items() if not payloads]:
            del self.held[device]

    def take(self, address: Address, message: Message, now: float) -> list[AnyInput]:
        """Return the inputs of one message; bytes that cannot be taken become `InputRejected`."""
        try:
            if address.device not in self._names and address.name in _REMEMBERED:
                self._admit(address.device)
            if address.name == "gas" and not message.retained:  # as nearly every message is
                return self._gas(address.device, message.payload, now)
            if address.name in ingest_packed.NAMES and not message.retained:
                return self._packed.take(address.name, address.device, message.payload, now)
            return self._decode(address, message, now)
        except DecodeRejected as error:
            return [self._reject(address.device or message.topic, message.payload, error.reason, now)]

    def _reject(self, source: str, payload: bytes, reason: str, now: float) -> InputRejected:
        """Keep what cannot be taken. Source and reason may quote the sender, who must not make the event unsendably large."""
        self._rejected += 1
        key = derived_id(self._site, source, str(now), self._rejected, payload.hex()[:128])
        return InputRejected(key, source[:96], reason[:200], payload[:64].hex())

    def _decode(self, address: Address, message: Message, now: float) -> list[AnyInput]:  # noqa: PLR0911  one return a topic
        device, payload = address.device, message.payload
        if message.retained and address.name not in _MAY_BE_RETAINED:
            raise DecodeRejected(message.topic, "a retained copy is never fresh")
        match address.name:
            case "state":
                self._know_birth(device, decode(payload, DeviceState, device))
                return self._release(device, now)
            case "up/state":
                return [LockReported(device, codec_ble.decode_state(payload), message.retained)]
            case "up/hello":
                return self._hello(device, payload)
            case "up/result":
                return self._result(device, payload)
            case "up/log":
                return [LogReceived(device, [codec_ble.decode_record(record) for record in codec_ble.split_log(payload)])]
            case "up/enrol":
                return [_enrolment(device, payload)]
            case "api/cmd":
                return [CommandReceived(decode_command(payload, message.topic))]
            case "api/plan":
                return self._plan(payload)
            case _:
                return []

    def _birth(self, device: str, boot: int) -> DeviceState | None:
        """Return a device's birth of this boot, if it is the newest or the one before."""
        for births in (self.births, self._before):
            birth = births.get(device)
            if birth is not None and birth.b == boot:
                return birth
        return None

    def _know_birth(self, device: str, birth: DeviceState) -> None:
        was = self.births.get(device)
        if was == birth:
            return
        if was is not None and was.b != birth.b:
            self._before[device] = was
        self.births[device] = birth
        self._new.append((device, birth))

    def _release(self, device: str, now: float) -> list[AnyInput]:
        """Read the held frames that the newest birth explains; one that cannot be read takes none of the others with it."""
        inputs, waiting = list[AnyInput](), list[bytes]()
        for payload in self.held.pop(device, []):
            message = decode(payload, GasFrames, device)
            birth = self._birth(device, message.b)
            if birth is None:
                waiting.append(payload)
                continue
            try:
                inputs += self._frames(message, birth, device, now)
            except DecodeRejected as error:
                inputs.append(self._reject(device, payload, error.reason, now))
        if waiting:
            self.held[device] = waiting
        return inputs

    def _gas(self, device: str, payload: bytes, now: float) -> list[AnyInput]:
        message = decode_gas(payload, device)
        birth = self.births.get(device)
        if birth is None or birth.b != message.b:
            birth = self._birth(device, message.b)
        if birth is None:
            if len(self.held[device]) >= MOST_HELD:
                raise DecodeRejected(device, "no birth of this boot is known")
            self.held[device].append(payload)
            return [FrameHeld(device, payload)]
        return self._frames(message, birth, device, now)

    def _frames(self, message: GasFrames, birth: DeviceState, device: str, now: float) -> list[AnyInput]:
        if self._fits.get(device) is not birth:
            self._require_units(device, birth)
        newest_ms = message.t + (message.dt[-1] if message.dt else 0)
        behind = self.clock_behind(device, message.b, now - newest_ms / 1000 if message.t else 0.0)
        return [FrameReceived(frame) for frame in frames_of(message, birth, device, now, clock_behind_s=behind)]

    def _require_units(self, device: str, birth: DeviceState) -> None:
        planned = self._units.get(device, {})
        if wrong := [name for name, unit in planned.items() if name in birth.ch and birth.ch[name].unit != unit]:
            raise DecodeRejected(device, f"{wrong[0]} comes in {birth.ch[wrong[0]].unit}, the plan says {planned[wrong[0]]}")
        self._fits[device] = birth

    def clock_behind(self, device: str, boot: int, delay_s: float) -> float:
        """Learn from one frame's delay, and return how far behind the device's clock itself must be, in seconds.

        The least delay of a boot is its clock's error; what a frame is late beyond it, it has spent waiting somewhere.
        """
        return max(0.0, self.least_delay(device, boot, delay_s))

    def least_delay(self, device: str, boot: int, seen_s: float = math.inf) -> float:
        """Return the least delay of a boot, `seen_s` included, in seconds, to `FINER_S`; infinity before the first."""
        known = self._behind.get(device)
        if known is not None and known[0] == boot and known[1] - FINER_S <= seen_s:
            return known[1]
        if seen_s < math.inf:
            self._behind[device] = (boot, seen_s)
        return seen_s

    def settled_birth(self, device: str) -> DeviceState | None:
        """Return the birth under which a device's last frame was read and its next one will be, None where that may change."""
        birth = self.births.get(device)
        return birth if birth is not None and self._fits.get(device) is birth and not self.held.get(device) else None

    def _lock(self, device: str) -> Lock:
        lock = self._locks.get(device)
        if lock is None:
            raise DecodeRejected(device, "the plan does not name this lock")
        return lock

    def _require(self, lock: Lock, envelope: Envelope) -> None:
        if not self._verify(lock.public_key, envelope.signed, envelope.signature):
            raise DecodeRejected(lock.device, "the signature is not this lock's")

    def _hello(self, device: str, payload: bytes) -> list[AnyInput]:
        lock = self._lock(device)
        envelope, hello = codec_ble.open_hello(payload)
        self._require(lock, envelope)
        if hello.lock_id != lock.lock_id:
            raise DecodeRejected(device, "the hello is another lock's")
        if self._is_newest(hello):
            return [HelloReceived(device, hello, payload, self.greeting.pop(device, ""))]
        repeated = self._greeted[hello.lock_id.hex()][0] == hello.state.boot
        return [HelloReceived(device, hello, payload, "", repeated=repeated)]

    def _is_newest(self, hello: LockHello) -> bool:
        """Note a hello; say whether it is newer than all before. One that is handed out again answers nobody's request."""
        lock, said = hello.lock_id.hex(), (hello.state.boot, hello.state.tick)
        newest = said > self._greeted.get(lock, (-1, -1))
        if newest:
            self._greeted[lock] = said
        return newest

    def _result(self, device: str, payload: bytes) -> list[AnyInput]:
        if payload in _REFUSALS:
            return [ResultReceived(device, None)]
        lock = self._lock(device)
        envelope, result = codec_ble.open_result(payload)
        self._require(lock, envelope)
        if result.lock_id != lock.lock_id:
            raise DecodeRejected(device, "the result is another lock's")
        return [ResultReceived(device, result)]

    def _plan(self, payload: bytes) -> list[AnyInput]:
        signed = decode(payload, SignedPlan, "plan")
        if not self._verify(self._plan_key, signed.body, signed.sig):
            raise DecodeRejected("plan", "the signature does not verify")
        plan = decode(signed.body, Plan, "plan")
        if plan.site != self._site:
            raise DecodeRejected("plan", f"it is the plan of {plan.site}")
        return [PlanReceived(plan)]


def _enrolment(device: str, payload: bytes) -> EnrolmentReceived:
    """Take what a lock says while it is enrolled; its key is not known here, so only its length can be wrong."""
    if not 0 < len(payload) <= MAX_MESSAGE:
        raise DecodeRejected(device, f"an enrolment answer of {len(payload)} bytes")
    return EnrolmentReceived(device, payload)
