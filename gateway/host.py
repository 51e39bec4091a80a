"""One site inside a gateway process: engine, journal, and what goes out to its devices.

Order of every step: decode, judge, sound (here), commit (the pipeline, all sites in one), then acknowledge and act. A restart
takes up the newest snapshot and replays what the journal holds behind it; effects (a hello asked for, a grant written)
belong to live steps only.
"""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from gateway.health import Health
from gateway.ingest import Ingest, Verify, Waiting
from gateway.journal import Entry, Journal
from gateway.picture import site_state
from gateway.ports import LocalOutput
from gateway.profiled import ProfiledDevices
from gateway.rescue import RescueDesk
from gateway.sink_places import NOWHERE
from manway.codec_ble import LogOp, LogRequest, encode_log_request
from manway.codec_mqtt import DeviceCommand, DeviceState, SiteState, encode
from manway.commands import AnyCommand, GreetLock, RelayEnrolment, WriteGrant
from manway.device_profile import DeviceProfile
from manway.engine import Engine
from manway.errors import SnapshotUnusable
from manway.events import AlarmRaised, AlarmRepeated, Event
from manway.gas import GasRows
from manway.inputs import (
    AnyInput,
    CommandReceived,
    FrameReceived,
    InputRejected,
    LockReported,
    LogReceived,
    PlanReceived,
)
from manway.limits import LimitProfile, Timings
from manway.permit import OPEN
from manway.runtime.ports import Bus, Message
from manway.site import InstrumentWatch
from manway.topics import Address, device_topic

_log = structlog.get_logger("host")
_HELLO = b"\x01"
_REBIRTH_EVERY_S = 10.0
_KEEP_S = 600.0  # telemetry for that long after an alarm goes last when the journal is full (`pipeline.md` §6)
_REPLAYED_AT_ONCE = 1_000  # batches whose events are committed together: a restart is not a fsync a batch
_pack = msgspec.msgpack.Encoder()
T = TypeVar("T")
# What a live step carries out once it is committed; a replay of the same inputs does nothing of it.
_ACTING = (CommandReceived, LockReported, LogReceived)


class Acts(NamedTuple):
    """What may be carried out once a step is committed: inputs that ask for something, devices whose birth is not known."""

    asked: list[AnyInput]
    without_birth: set[str]


class Kept(msgspec.Struct, frozen=True):
    """What a snapshot holds: the engine's memory and the ingest's."""

    engine: bytes
    ingest: Waiting


_kept = msgspec.msgpack.Decoder(Kept)


class SiteHost:
    """Engine of one site, what its journal must write of it, and the effects its events ask for."""

    def __init__(
        self,
        site: str,
        journal: Journal,
        *,
        limits: LimitProfile,
        timings: Timings,
        verify: Verify,
        plan_key: bytes,
        output: LocalOutput,
        profiles: Mapping[str, DeviceProfile] | None = None,
        began: float = 0.0,
        gas: GasRows | None = None,
    ) -> None:
        """Watch a site over an open journal; `profiles` read other makers' devices, `began` is when we did (Unix seconds).

        `gas` are the rows that the engines of a process share, None for rows of its own.
        """
        self.site, self.jid = site, journal.jid(site)
        self._gas = gas
        self.engine = Engine(site, limits, timings, gas)
        self.health = Health(began, journal_damaged=journal.damaged)
        self.seq = 0  # the newest event in the journal
        self.stirred = True  # something happened that a page should show at once
        self.changed = True
        self._journal = journal
        self._rules = (limits, timings)
        others = ProfiledDevices(profiles or {}, limits)
        births, before = journal.births(site), journal.births_before(site)
        self._ingest = Ingest(site, births, verify, plan_key, before=before, profiled=others)
        self._output = output
        self._asked_birth: dict[str, float] = {}
        self._asked: list[AnyInput] = []
        self._rejected: list[AnyInput] = []
        self._unwritten: list[Entry] = []
        self.ahead_s = 0.0  # how far the journal's time is ahead of the clock
        self._keep_until = -math.inf
        self._frames_without_birth: set[str] = set()
        self.rescue: RescueDesk | None = None  # where this gateway has the site's emergency key

    def replayed(self, at: float, inputs: list[AnyInput]) -> Entry | None:
        """Take from the journal what was given to the engine at `at`; return the events it makes again, None for none."""
        events = self.engine.receive(inputs, at)
        self._remember(inputs)
        return Entry(self.site, at, [], events) if events else None

    def owe(self, entry: Entry) -> None:
        """Keep what a replay made again and the disk did not take, for `unwritten`."""
        self._unwritten.append(entry)

    def go_on(self) -> None:
        """Everything the journal holds has been replayed."""
        self._ingest.drop_read(self.engine.site)
        self._know_plan()
        self.health.known(self.engine.site.health.values())
        self.seq = self._journal.last_seq(self.site)

    def thaw(self) -> int:
        """Take up the newest usable snapshot; return the number of the input behind which the replay begins."""
        kept = self._journal.newest_snapshot(self.site)
        if kept is None:
            return self._begin_anew()
        number, _, body = kept
        try:
            memory = _kept.decode(body)
            self.engine = Engine.restored(memory.engine, self.site, *self._rules, gas=self._gas)
        except (msgspec.DecodeError, SnapshotUnusable) as error:
            _log.error("snapshot not usable", site=self.site, reason=str(error))
            self.health.forgotten()
            return self._begin_anew()
        self._ingest.resume(memory.ingest)
        return number

    def _begin_anew(self) -> int:
        """Take up, for want of a snapshot, the plan alone; return what `thaw` does: 0 where the journal still holds all."""
        number, plans = self._journal.beginning(self.site)
        if number:
            self.health.forgotten()
        for at, plan in plans:  # what it made happen was committed with it
            self.replayed(at, [plan])
        return number

    def _remember(self, inputs: Sequence[AnyInput]) -> None:
        """Let the ingest know what it knew when these inputs were new."""
        for item in inputs:
            if isinstance(item, CommandReceived) and isinstance(item.command, GreetLock):
                self._ingest.greeting[item.command.lock] = item.command.id  # its hello may come only now
            else:
                self._ingest.remember(item)

    def birth_in_use(self, device: str) -> DeviceState | None:
        """Return the birth under which a device's last frame was read and its next one will be, None where that may change."""
        return self._ingest.settled_birth(device)

    def least_delay(self, device: str, boot: int, seen_s: float = math.inf) -> float:
        """Return the least delay of a device's boot, `seen_s` included: how far its clock is behind, in seconds."""
        return self._ingest.least_delay(device, boot, seen_s)

    def keeps(self, now: float) -> bool:
        """Say whether telemetry of now is kept longest, because of an alarm."""
        return now <= self._keep_until

    def unwritten(self) -> list[Entry]:
        """Return, once, what a replay made again and a full disk did not take; it is not there yet only if it never was."""
        entries, self._unwritten = self._unwritten, []
        return entries

    def _knows(self, item: AnyInput) -> bool:
        if not isinstance(item, FrameReceived):
            return False
        watch = self.engine.site.instruments.get(item.frame.device)
        return watch is not None and watch.ledger.has(item.frame.boot, item.frame.seq)

    def _in_our_time(self, item: AnyInput) -> AnyInput:
        """Return a command in the time of a journal that is ahead of the clock: else every one would be late on arrival."""
        if not isinstance(item, CommandReceived):
            return item
        command = item.command
        return CommandReceived(replace(command, at=command.at + self.ahead_s, exp=command.exp + self.ahead_s))

    def place_of(self, device: str) -> tuple[str, str]:
        """Return the space a device works in now and the permit that holds it, empty where there is none."""
        watch = self.engine.site.instruments.get(device)
        space = watch.space if watch else NOWHERE
        permit = self.engine.site.permit_of(space)
        return space, permit.id if permit else ""

    def snapshot(self) -> bytes:
        """Return everything this site knows; good behind the input that was committed last."""
        return _pack.encode(Kept(self.engine.snapshot(), self._ingest.waiting()))

    def next_deadline(self) -> float | None:
        """Return when engine, health or a rescue want to look again, Unix seconds."""
        rescue = self.rescue.next_deadline() if self.rescue else None
        asks = (self.engine.next_deadline(), self.health.next_deadline(), rescue)
        return min((at for at in asks if at is not None), default=None)

    @property
    def watched(self) -> bool:
        """True while people may work here, and somebody looks at how they breathe."""
        site = self.engine.site
        return any(s.occupancy.inside for s in site.spaces.values()) or any(
            permit.state in OPEN for permit in (site.plan.permits if site.plan else ())
        )

    def of_itself(self, now: float) -> list[AnyInput]:
        """Return the inputs that are no messages: what the gateway now has to say of itself, and rescues asked of it."""
        if self.health.gap:
            site = self.engine.site
            if site.plan is not None and all(space.occupancy.known for space in site.spaces.values()):
                self.health.counted()
        rejected, self._rejected = self._rejected, []
        rescues = self.rescue.inputs(now) if self.rescue else []
        return [*rescues, *self.health.reports(now), *rejected]

    def take(self, messages: Sequence[tuple[Address, Message]], now: float, *, again: bool = False) -> Entry | None:
        """Judge and sound what arrived; return what must be committed before anybody is acknowledged.

        With `again` frames that are known are left out: while the journal cannot be written, the broker repeats them for ever.
        """
        ingest = self._ingest
        read = [x for address, message in messages for x in ingest.take(address, message, now)]
        if again:
            read = [item for item in read if not self._knows(item)]
        read = [*ingest.new_clocks(), *read]
        if self.ahead_s:
            read = [self._in_our_time(item) for item in read]
        if ingest.held:
            without = {address.device for address, _ in messages if address.name == "gas" and ingest.held.get(address.device)}
            self._frames_without_birth |= without
        inputs = [*self.of_itself(now), *self._gap_before(read), *read]
        asked = [item for item in read if isinstance(item, _ACTING)]
        events = self.engine.receive(inputs, now)
        for item in asked:  # before a snapshot is taken: its hello may come when nobody remembers the command
            command = item.command if isinstance(item, CommandReceived) else None
            if isinstance(command, GreetLock) and self.engine.accepted(command.id):
                ingest.greeting[command.lock] = command.id
        self._asked += asked
        if self.rescue:
            self.rescue.see(read, now)
        return self._entry(inputs, events, now)

    def hear(
        self, watches: Sequence[InstrumentWatch], other: AbstractSet[int], noticed: AbstractSet[int], now: float
    ) -> Entry | None:
        """Judge and sound what follows from frames that the lane has taken; as `take`, and as `Engine.hear`."""
        return self._entry([], self.engine.hear(watches, other, noticed), now)

    def advance(self, now: float) -> Entry | None:
        """Run the deadlines that have passed; as `take`."""
        inputs: list[AnyInput] = self.of_itself(now)
        return self._entry(inputs, self.engine.receive(inputs, now), now)

    def _gap_before(self, inputs: Sequence[AnyInput]) -> list[AnyInput]:
        """Say that a journal was lost where the first plan a new one is given has people inside; in one commit with it."""
        plans = [item.plan for item in inputs if isinstance(item, PlanReceived)]
        if self.engine.site.plan is not None or not any(p.state in OPEN for plan in plans for p in plan.permits):
            return []
        gap = self.health.people_in_an_unknown_journal()
        return [gap] if gap is not None else []

    def picture(self, gateway: str) -> SiteState:
        """Return the whole picture as the api and the pages get it."""
        return site_state(self.engine, gateway=gateway, jid=self.jid, event=self.seq)

    def _entry(self, inputs: list[AnyInput], events: list[Event], now: float) -> Entry | None:
        for event in events:
            self._output.show(event)
        births = self._ingest.new_births()
        if not inputs and not events and not births:
            return None
        self.changed = True
        self.stirred = self.stirred or bool(events)
        self._know_plan()
        if any(isinstance(event, AlarmRaised | AlarmRepeated) for event in events):
            self._keep_until = now + _KEEP_S
        return Entry(self.site, now, inputs, events, births, keep=self.keeps(now))

    def _know_plan(self) -> None:
        if self.engine.site.plan is not None:
            self._ingest.know(self.engine.site.plan)

    def reject(self, item: InputRejected) -> None:
        """Take a frame that the store refused for ever into the next step: it is said, as any other message that is refused."""
        self._rejected.append(item)

    def acts(self) -> Acts | None:
        """Return, once, what the steps since the last call ask for when they are committed; None for nothing."""
        if not self._asked and not self._frames_without_birth:
            return None
        acts = Acts(self._asked, self._frames_without_birth)
        self._asked, self._frames_without_birth = [], set()
        return acts

    async def act(self, acts: Acts, now: float, bus: Bus) -> None:
        """Carry out what committed steps ask for; a device whose birth is not known is asked for it again every 10 s."""
        for item in acts.asked:
            await self._act(item, bus)
        for device in acts.without_birth:
            if now - self._asked_birth.get(device, -math.inf) >= _REBIRTH_EVERY_S:
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
                await bus.publish(device_topic(self.site, lock, "down/hello"), _HELLO)
            case RelayEnrolment(lock=lock, message=message) if self._relays(lock) == command.id:
                await bus.publish(device_topic(self.site, lock, "down/enrol"), bytes.fromhex(message))
            case WriteGrant(lock=lock):
                written = self.engine.site.locks[lock].written
                if written is not None and written.command == command.id:
                    await bus.publish(device_topic(self.site, lock, "down/grant"), bytes.fromhex(command.message))
            case _:
                pass

    def _relays(self, lock: str) -> str:
        relayed = self.engine.site.enrolling.get(lock)
        return relayed.command if relayed is not None else ""

    async def _pull_log(self, lock: str, newest: int, bus: Bus) -> None:
        watch = self.engine.site.locks.get(lock)
        if watch is not None and newest > watch.log_seq:
            request = encode_log_request(LogRequest(LogOp.REPORT, watch.log_seq + 1))
            await bus.publish(device_topic(self.site, lock, "down/logctl"), request)


def restore(hosts: Sequence[SiteHost], journal: Journal) -> None:
    """Take up the newest usable snapshots and what the journal holds behind them: engines that were never interrupted.

    All sites in one pass: a row of plain frames is of many.
    """
    by_site = {host.site: host for host in hosts}
    after = {host.site: host.thaw() for host in hosts}
    for numbered in batched(journal.replay_all(after), _REPLAYED_AT_ONCE):
        again = [entry for _, site, at, inputs in numbered if (entry := by_site[site].replayed(at, inputs)) is not None]
        if again:
            try:
                journal.commit(again)
            except sqlite3.OperationalError as error:
                # Judging needs no disk; what is missing is written when there is room.
                _log.error("journal not written", sites=len({entry.site for entry in again}), reason=str(error))
                for entry in again:
                    by_site[entry.site].owe(entry)
    for host in hosts:
        host.go_on()


def batched(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield items in runs of at most `most`."""
    them = iter(items)
    while some := list(islice(them, most)):
        yield some
