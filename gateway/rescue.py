"""An opening for rescue by the gateway alone: ask the lock for a hello, sign kind 3 with the site's key, write it.

Theory. A rescue is a flow of a lock, moved by what the lock says and by time. It rides on the pipeline's steps, beside the
engine and not behind it: the engine is told (and alarms at once), but nothing here waits for its answer, for a commit, for the
api or for another rescue, so no state and no full disk can refuse it (`locks.md` §3.3). Each hello gets one grant at most;
whoever asks again while a flow is under way is told so and starts nothing.
"""

import asyncio
import enum
import math
from collections.abc import Callable, Iterable, Sequence

import msgspec
import structlog

from gateway.ports import RescueWire
from manway import cose, grant
from manway.commands import OpenForRescue, WriteGrant
from manway.entities import Bolt, Grant, ResultCode
from manway.grid import parse_grid
from manway.ids import GrantKind, derived_id
from manway.inputs import AnyInput, CommandReceived, HelloReceived, LockReported, ResultReceived
from manway.runtime.ports import Bus
from manway.site import LockWatch
from manway.topics import device_topic

_log = structlog.get_logger("rescue")
HELLO_WAIT_S = 5.0  # `locks.md` §6
RESULT_WAIT_S = 12.0  # (choice) the bolt's three tries take 9 s (`locks.md` §1.3), and a report its way
AGAIN_S = 0.6  # a lock makes two hellos a second at most (`locks.md` §2)
MOST_TRIES = 4  # hellos asked for; `locks.md` §6: again three times
LIFE_S = 60  # of a grant, the longest a lock takes: nobody revokes a rescue
LATE_S = 60.0  # (choice) as long as the alarm counts the rescue as under way; later nobody stands there any more
SEND_S = 20.0  # (choice) as long as a connection over the air may take; a broker that is away keeps nothing waiting longer
_COMMAND_S = 60.0
_UNKNOWN = "“—”"  # who asked, after a restart
_NOBODY = bytes(8)  # the grant names no enrolled person; who asked is in the event
_OPENED = (ResultCode.OPENED, ResultCode.SESSION_CHANGED)


class Stage(enum.Enum):
    """How far a rescue is."""

    ASKED = "asked"
    WRITTEN = "written"
    OPENED = "opened"
    FAILED = "failed"
    SILENT = "silent"


class Signal(enum.Enum):
    """What moves it: the lock's hello, refusal or result; nothing in time, with tries left or none."""

    HELLO = "hello"
    REFUSED = "refused"
    OPENED = "opened"
    FAILED = "failed"
    LATE = "late"
    GAVE_UP = "gave_up"


TABLE = parse_grid(
    """
          hello    refused  opened  failed  late   gave_up
asked     written  =        opened  =       asked  silent
written   =        asked    opened  failed  asked  silent
opened    =        =        =       =       =      =
failed    =        =        opened  =       =      =
silent    written  =        opened  =       =      =
""",
    Stage,
    Signal,
)
UNDER_WAY = frozenset({Stage.ASKED, Stage.WRITTEN})


class Flow(msgspec.Struct):
    """One rescue of one lock. `by` is who asked, as typed; times in Unix seconds; `next_at` is when waiting ends."""

    id: str
    lock: str
    space: str
    by: str
    coded: bool
    asked_at: float = 0.0
    stage: Stage = Stage.ASKED
    tries: int = 0
    next_at: float = -math.inf
    grant: bytes = b""
    message: bytes = b""  # the signed grant
    reason: str = ""
    opened_at: float = 0.0


class RescueDesk:
    """The rescues of one site.

    Args:
        site: whose.
        sign: makes a signed message of (aad, payload) with the site's emergency key.
        random_bytes: as many as it is asked for.
        wake: lets the pipeline look here, at something that no message and no deadline of before brings.
    """

    def __init__(
        self,
        site: str,
        sign: Callable[[bytes, bytes], bytes],
        random_bytes: Callable[[int], bytes],
        *,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.site, self._wake = site, wake
        self.flows: dict[str, Flow] = {}  # by lock: the newest of each
        self._sign, self._random = sign, random_bytes
        self._begun: list[Flow] = []
        self._unbrought: list[bytes] = []  # grants whose link was gone
        self._inputs: list[AnyInput] = []
        self._out: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()

    # -- asked by a person

    def ask(self, lock: str, space: str, by: str, *, coded: bool) -> tuple[Flow, bool]:
        """Begin a rescue; return it, or the one that is under way, and whether it is new."""
        known = self.flows.get(lock)
        if known is not None and known.stage in UNDER_WAY:
            return known, False
        flow = self.flows[lock] = Flow(self._random(16).hex(), lock, space, by, coded)
        self._begun.append(flow)
        return flow, True

    def resume(self, locks: Iterable[LockWatch], now: float) -> None:
        """Go on, after a restart, with the rescues under way: somebody waits at the lock. Who asked, the alarm has said."""
        for lock in locks:
            asked = lock.rescue
            if asked is not None and not asked.opened and now < asked.until:
                flow = self.flows[lock.device] = Flow(self._random(16).hex(), lock.device, lock.space, _UNKNOWN, coded=True)
                flow.asked_at, flow.next_at = asked.until - LATE_S, now
                self._wake()

    # -- moved by the pipeline's steps

    def next_deadline(self) -> float | None:
        """Return when a step has something to do here, Unix seconds; at once where something waits to be told."""
        if self._begun or self._inputs or self._unbrought:
            return -math.inf
        return min((flow.next_at for flow in self.flows.values() if flow.stage in UNDER_WAY), default=None)

    def inputs(self, now: float) -> list[AnyInput]:
        """Return what the engine must now be told, and end every wait that is over."""
        begun, self._begun = self._begun, []
        for flow in begun:
            flow.asked_at = now
            self._greet(flow, now)
            self._inputs.append(_told(flow, self.site, now))
        unbrought, self._unbrought = self._unbrought, []
        for flow in self.flows.values():
            if flow.message in unbrought:
                self._refused(flow, now)
            if flow.stage in UNDER_WAY and now >= flow.next_at:
                self._late(flow, now)
        told, self._inputs = self._inputs, []
        return told

    def see(self, items: Sequence[AnyInput], now: float) -> None:
        """Take what the devices have said in a step; a hello is answered with its one grant."""
        for item in items:
            match item:
                case HelloReceived(lock=lock, hello=hello, repeated=False):
                    if (flow := self.flows.get(lock)) is not None and _waits(flow, now):
                        self._write(flow, hello.lock_id, hello.challenge, now)
                case ResultReceived(lock=lock, result=None):
                    self._refused(self.flows.get(lock), now)
                case ResultReceived(lock=lock, result=result) if result is not None:
                    flow = self.flows.get(lock)
                    if flow is not None and flow.grant and result.cti == flow.grant:
                        self._end(flow, result.code)
                case LockReported(lock=lock, state=state, retained=False):  # what a broker kept may be of another rescue
                    # The result may be lost on its way; a bolt drawn in an emergency session says the same.
                    if (state.bolt, state.session) == (Bolt.RETRACTED, GrantKind.EMERGENCY) and lock in self.flows:
                        self._move(self.flows[lock], Signal.OPENED)
                case _:
                    pass
        self._note_opened(now)

    def _note_opened(self, now: float) -> None:
        for flow in self.flows.values():
            if flow.stage is Stage.OPENED and not flow.opened_at:
                flow.opened_at = now

    def _move(self, flow: Flow, signal: Signal) -> None:
        flow.stage = TABLE[flow.stage, signal] or flow.stage

    def _greet(self, flow: Flow, now: float) -> None:
        flow.tries, flow.next_at, flow.grant = flow.tries + 1, now + HELLO_WAIT_S, b""
        self._out.put_nowait(("down/hello", flow.lock, b"\x01"))

    def _write(self, flow: Flow, lock_id: bytes, challenge: bytes, now: float) -> None:
        """Sign the one grant of a hello, hand it out, and tell the engine what was written."""
        cti = self._random(16)
        claims = Grant(GrantKind.EMERGENCY, _NOBODY, lock_id, cti, challenge, LIFE_S, 0)
        message = self._sign(cose.GRANT_AAD, grant.encode_payload(claims))
        flow.grant, flow.message, flow.next_at = cti, message, now + RESULT_WAIT_S
        self._move(flow, Signal.HELLO)
        self._out.put_nowait(("down/grant", flow.lock, message))
        written = WriteGrant(
            id=derived_id("WriteGrant", flow.id, flow.tries),
            site=self.site,
            at=now,
            exp=now + _COMMAND_S,
            by=flow.by,
            lock=flow.lock,
            space=flow.space,
            grant=cti.hex(),
            kind=int(GrantKind.EMERGENCY),
            message=message.hex(),
        )
        self._inputs.append(CommandReceived(written))

    def _refused(self, flow: Flow | None, now: float) -> None:
        """Ask anew after a refusal, or a link that ended: the challenge that this grant answered is gone."""
        if flow is None or flow.stage is not Stage.WRITTEN:
            return
        self._move(flow, Signal.REFUSED)
        flow.reason, flow.next_at = "REFUSED", now + AGAIN_S

    def _end(self, flow: Flow, code: ResultCode) -> None:
        self._move(flow, Signal.OPENED if code in _OPENED else Signal.FAILED)
        flow.reason = code.name
        _log.warning("rescue", site=self.site, lock=flow.lock, result=code.name)

    def _late(self, flow: Flow, now: float) -> None:
        if flow.tries >= MOST_TRIES:
            self._move(flow, Signal.GAVE_UP)
            _log.error("no answer to a rescue", site=self.site, lock=flow.lock, tries=flow.tries)
            return
        self._move(flow, Signal.LATE)
        self._greet(flow, now)

    # -- sent beside the pipeline

    async def run(self, bus: Bus) -> None:
        """Send what waits, each on its own: one lock out of reach keeps no other waiting."""
        async with asyncio.TaskGroup() as group:
            while True:
                name, lock, payload = await self._out.get()
                group.create_task(self._send(bus, name, lock, payload))

    async def _send(self, bus: Bus, name: str, lock: str, payload: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                topic = device_topic(self.site, lock, name)
                if isinstance(bus, RescueWire):
                    await bus.rescue(topic, payload, unbrought=self._not_brought)
                else:
                    await bus.publish(topic, payload)
        except Exception as error:  # noqa: BLE001  whatever a radio says: the flow asks again, and the gateway lives on
            _log.error("not sent", site=self.site, lock=lock, message=name, reason=repr(error))

    def _not_brought(self, message: bytes) -> None:
        self._unbrought.append(message)
        self._wake()


def _waits(flow: Flow, now: float) -> bool:
    """Say whether a hello is answered: while it is asked for, and for a minute after; a link over the air takes its time."""
    return flow.stage is Stage.ASKED or (flow.stage is Stage.SILENT and now < flow.asked_at + LATE_S)


def _told(flow: Flow, site: str, now: float) -> CommandReceived:
    return CommandReceived(
        OpenForRescue(
            id=flow.id,
            site=site,
            at=now,
            exp=now + _COMMAND_S,
            by=flow.by,
            lock=flow.lock,
            space=flow.space,
            coded=flow.coded,
        )
    )
