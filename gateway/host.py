"""One site inside a gateway process: engine, journal, and what goes out to its devices.

Order of every step: decode, judge, sound, commit, then acknowledge and act. A restart replays the journal into a fresh
engine; effects (a hello asked for, a grant written) belong to live steps only.

While the journal cannot be written, judging and sounding go on (`trust.md` X14): what was judged is kept in order until it can
be committed, and until then nothing is acknowledged to anybody and no effect takes place.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from gateway.health import Health
from gateway.ingest import Ingest, Verify
from gateway.journal import Journal
from gateway.picture import site_state
from gateway.ports import LocalOutput
from manway.codec_ble import LogOp, LogRequest, encode_log_request
from manway.codec_mqtt import DeviceCommand, DeviceState, SiteState, encode
from manway.commands import AnyCommand, GreetLock, WriteGrant
from manway.engine import Engine
from manway.events import Event
from manway.inputs import (
    AnyInput,
    CommandReceived,
    FrameHeld,
    FrameReceived,
    HealthReported,
    HelloReceived,
    LockReported,
    LogReceived,
    PlanReceived,
)
from manway.limits import LimitProfile, Timings
from manway.permit import OPEN
from manway.runtime.ports import Bus, Message, Run
from manway.topics import Address, device_topic

_log = structlog.get_logger("host")
_HELLO = b"\x01"
_REBIRTH_EVERY_S = 10.0


class _Step(NamedTuple):
    """What one step must write: its inputs, what followed from them, births that are new, and its time."""

    inputs: list[AnyInput]
    events: list[Event]
    births: dict[str, DeviceState]
    at: float


class SiteHost:
    """Engine and journal of one site, with the effects its events ask for."""

    def __init__(
        self,
        site: str,
        folder: Path,
        *,
        limits: LimitProfile,
        timings: Timings,
        verify: Verify,
        plan_key: bytes,
        output: LocalOutput,
        began: float = 0.0,
    ) -> None:
        """Open the journal; `began` is when this process did, Unix seconds."""
        self.site = site
        self.journal = Journal(folder / f"{site}.db")
        self.engine = Engine(site, limits, timings)
        self.health = Health(began, journal_damaged=self.journal.damaged)
        self.changed = True
        self.seq = 0
        self._births = self.journal.births()
        self._ingest = Ingest(site, dict(self._births), verify, plan_key)
        self._output = output
        self._asked_birth: dict[str, float] = {}
        self._owed: list[_Step] = []  # judged, and not yet in the journal

    def restore(self) -> None:
        """Replay the journal: afterwards the engine equals the one that was never interrupted."""
        for at, inputs in self.journal.replay():
            self.journal.commit([], self.engine.receive(inputs, at), {}, at)
            for item in inputs:
                if isinstance(item, FrameHeld):
                    self._ingest.held[item.device].append(item.payload)
                elif isinstance(item, FrameReceived):
                    # Without it the backlog of the outage would pass for live air of a device whose clock is slow.
                    frame = item.frame
                    self._ingest.clock_behind(frame.device, frame.boot, frame.received_at - frame.ts / 1000)
                elif isinstance(item, CommandReceived) and isinstance(item.command, GreetLock):
                    self._ingest.greeting[item.command.lock] = item.command.id  # its hello may come only now
                elif isinstance(item, HelloReceived):
                    self._ingest.greeting.pop(item.lock, None)
        self._ingest.drop_read(self.engine.site)
        self._know_plan()
        self.health.known(self.engine.site.health.values())
        self.seq = self.journal.last_seq()

    @property
    def durable(self) -> bool:
        """True while everything that was judged stands in the journal: only then may anybody be acknowledged."""
        return not self._owed

    def next_deadline(self) -> float | None:
        """Return when engine or health want to look again, Unix seconds."""
        return min((at for at in (self.engine.next_deadline(), self.health.next_deadline()) if at is not None), default=None)

    def of_itself(self, now: float) -> list[HealthReported]:
        """Return the inputs that are no messages: what the gateway now has to say of itself."""
        site = self.engine.site
        if site.plan is not None and all(space.occupancy.known for space in site.spaces.values()):
            self.health.counted()
        return self.health.reports(now)

    async def take(self, messages: Sequence[tuple[Address, Message]], now: float, bus: Bus, run: Run) -> None:
        """Judge, sound, commit and act on what arrived in one batch; on return everything is durable, or `durable` is False."""
        read = [x for address, message in messages for x in self._ingest.take(address, message, now)]
        inputs = [*self.of_itself(now), *self._gap_before(read), *read]
        await self._step(inputs, self.engine.receive(inputs, now), now, run)
        await self._ask_births(messages, now, bus)
        for item in inputs if self.durable else ():
            await self._act(item, bus)

    async def advance(self, now: float, run: Run) -> None:
        """Run the deadlines that have passed."""
        inputs: list[AnyInput] = [*self.of_itself(now)]
        await self._step(inputs, self.engine.receive(inputs, now), now, run)

    def _gap_before(self, inputs: Sequence[AnyInput]) -> list[AnyInput]:
        """Say that a journal was lost where the first plan a new one is given has people inside; in one commit with it."""
        plans = [item.plan for item in inputs if isinstance(item, PlanReceived)]
        if self.engine.site.plan is not None or not any(p.state in OPEN for plan in plans for p in plan.permits):
            return []
        gap = self.health.people_in_an_unknown_journal()
        return [gap] if gap is not None else []

    def picture(self, gateway: str) -> SiteState:
        """Return the whole picture as the api and the pages get it."""
        return site_state(self.engine, gateway=gateway, jid=self.journal.jid, event=self.seq)

    async def _step(self, inputs: list[AnyInput], events: list[Event], now: float, run: Run) -> None:
        for event in events:
            self._output.show(event)
        births = {d: b for d, b in self._ingest.births.items() if self._births.get(d) != b}
        self._births |= births
        if inputs or events or births:
            self._owed.append(_Step(inputs, events, births, now))
            self.changed = True
        self._know_plan()
        await self._commit(now, run)

    async def _commit(self, now: float, run: Run) -> None:
        """Write what is owed, oldest first; a disk that is full leaves it owed."""
        while self._owed:
            step = self._owed[0]
            try:
                self.seq = await run(lambda step=step: self.journal.commit(*step))  # type: ignore[misc]
            except sqlite3.OperationalError as error:
                _log.error("journal not written", site=self.site, reason=str(error), owed=len(self._owed))
                self.health.journal(now, fails=True)
                return
            self._owed.pop(0)
        self.health.journal(now, fails=False)

    def _know_plan(self) -> None:
        if self.engine.site.plan is not None:
            self._ingest.know(self.engine.site.plan)

    async def _ask_births(self, messages: Sequence[tuple[Address, Message]], now: float, bus: Bus) -> None:
        """Ask a device whose birth is not known to say it again, at most every 10 s."""
        for address, _ in messages:
            device = address.device
            if address.name != "gas" or not self._ingest.held.get(device):
                continue
            if now - self._asked_birth.get(device, 0.0) >= _REBIRTH_EVERY_S:
                self._asked_birth[device] = now
                command = DeviceCommand(f"{device}-{int(now)}", int(now) + 30, "rebirth")
                await bus.publish(device_topic(self.site, device, "cmd"), encode(command))

    async def _act(self, item: AnyInput, bus: Bus) -> None:
        match item:
            case CommandReceived(command=command) if self.engine.accepted(command.id):
                await self._carry_out(command, bus)
            case LockReported(lock=lock, state=state):
                await self._pull_log(lock, state.log_seq, bus)
            case LogReceived(lock=lock):
                reported = self.engine.site.locks[lock].reported if lock in self.engine.site.locks else None
                await self._pull_log(lock, reported.log_seq if reported else 0, bus)
            case _:
                pass

    async def _carry_out(self, command: AnyCommand, bus: Bus) -> None:
        """Send what a command asks for; a repeated command is sent again only while its grant still waits."""
        match command:
            case GreetLock(lock=lock):
                self._ingest.greeting[lock] = command.id
                await bus.publish(device_topic(self.site, lock, "down/hello"), _HELLO)
            case WriteGrant(lock=lock):
                written = self.engine.site.locks[lock].written
                if written is not None and written.command == command.id:
                    await bus.publish(device_topic(self.site, lock, "down/grant"), bytes.fromhex(command.message))
            case _:
                pass

    async def _pull_log(self, lock: str, newest: int, bus: Bus) -> None:
        watch = self.engine.site.locks.get(lock)
        if watch is not None and newest > watch.log_seq:
            request = encode_log_request(LogRequest(LogOp.REPORT, watch.log_seq + 1))
            await bus.publish(device_topic(self.site, lock, "down/logctl"), request)
