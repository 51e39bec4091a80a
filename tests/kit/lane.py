"""Two gateways that hear the same, one of them with the lane of plain frames, and the devices that speak to both.

`Bed` is a gateway without its loops: a step is judged, written and acknowledged in one call. `Twins` gives every batch to one
with a lane and to one without, and holds them against each other. A lane takes what is calm before everything else of its step,
so the other one hears that first; but never before what the same device has said earlier.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from gateway.commits import Step, keep
from gateway.host import SiteHost, restore
from gateway.journal import Journal, PlainEntry
from gateway.lane import Lane, Taken
from manway.codec_mqtt import SiteState
from manway.errors import DecodeRejected
from manway.events import Event
from manway.gas import GasRows
from manway.inputs import AnyInput, FrameReceived
from manway.limits import LimitProfile
from manway.plain import Source
from manway.runtime.ports import Message
from manway.topics import parse
from tests.kit.builders import LIMITS, TIMINGS
from tests.kit.clock import EPOCH, FakeClock
from tests.kit.gateway import Shelf, a_gateway, open_journal
from tests.kit.memory_broker import MemoryBroker

_SHARED = Path("/dev/shm")  # noqa: S108  a disk that syncs would take the time of a test
FOLDERS = _SHARED if _SHARED.is_dir() else None  # where the journals of these tests may stand


class Told:
    """A batch; `acked` once the gateway has said so."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages, self.acked = messages, False

    async def ack(self) -> None:
        self.acked = True


class Siren:
    """What sounded at each site, in order; the same event twice is one."""

    def __init__(self) -> None:
        self.by_site: dict[str, dict[str, Event]] = defaultdict(dict)

    def show(self, event: Event) -> None:
        self.by_site[event.site].setdefault(event.id, event)


class Watched:
    """A lane, and what it made of the last step."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.rest: list[Message] = []
        self.calm: list[PlainEntry] = []  # what must be written of the frames that it took
        self.sources = dict[int, Source]()

    def __getattr__(self, name: str) -> object:
        return getattr(self._lane, name)

    def take(self, messages: Sequence[Message], now: float) -> Taken:
        taken = self._lane.take(messages, now)
        self.rest, self.calm = taken.rest, [entry for entry in taken.entries if isinstance(entry, PlainEntry)]
        for entry in self.calm:
            self.sources |= {source.number: source for source in entry.sources}
        return taken

    def rounds(self, messages: Sequence[Message]) -> list[list[Message]]:
        """The messages of a batch that it took, as it took them."""
        left = {id(message) for message in self.rest}
        of = {_key(message): message for message in messages if id(message) not in left}
        return [[of.pop((f.site, f.device, seq)) for f, seq in self._frames(entry)] for entry in self.calm]

    def _frames(self, entry: PlainEntry) -> Iterator[tuple[Source, int]]:
        return ((source, frame.seq) for source, frame in entry.plain.frames(entry.at, self.sources))


class Bed:
    """A gateway of several sites over its own journal; only a `restart` leaves a snapshot behind, and `keep`."""

    def __init__(
        self, folder: Path, sites: Sequence[str], *, laned: bool, at: float = EPOCH, limits: LimitProfile = LIMITS
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.sites, self.laned, self.limits = folder, sites, laned, limits
        self.siren = Siren()
        self.broken = False  # while the journal cannot be written
        self.urgent = False  # whether somebody waits for the commit of the last step
        self.owed: list[tuple[Step, Told]] = []
        self._open(at)

    def _open(self, at: float) -> None:
        self.clock = FakeClock()
        self.clock.set(at)
        self.journal = open_journal(self.folder)
        self.hosts = restored(self.journal, self.sites, at, self.siren, limits=self.limits)
        self.gateway = a_gateway(
            self.folder, self.journal, [*self.hosts.values()], MemoryBroker().bus("gw"), Shelf(), self.clock
        )
        lane = self.gateway._lane if self.laned else None
        self.lane = None if lane is None else Watched(lane)
        self.gateway._lane = cast("Lane | None", self.lane)
        for kept in self.gateway._snapshots.values():
            kept.at = float("inf")  # of its own accord it takes none

    def close(self) -> None:
        self.journal.close()

    def step(self, messages: Sequence[Message], at: float) -> Told:
        """Judge a batch at `at`, Unix seconds; write and acknowledge it unless the journal is broken."""
        self.clock.set(at)
        batch = Told(messages)
        step = self.gateway._judged([batch])
        self.owed.append((step, batch))
        self.urgent = step.urgent
        self.write()
        return batch

    def write(self) -> None:
        """Commit what is owed."""
        while self.owed and not self.broken:
            step, batch = self.owed.pop(0)
            if step.entries:
                for site, seq in self.journal.commit(step.entries).items():
                    if site in self.hosts:
                        self.hosts[site].seq = seq
            if step.snapshot is not None:
                keep(self.journal, *step.snapshot, step.at)
            batch.acked = True

    def breaks(self, *, fails: bool) -> None:
        """Let the journal fail from now on, or be well again."""
        self.broken = self.gateway._commits.fails = fails
        self.gateway._note_failing(fails)
        self.write()

    def keep(self, site: str, at: float) -> None:
        keep(self.journal, site, self.hosts[site].snapshot(), at)

    def restart(self) -> None:
        """Kill it, and start again over what the journal holds; no time passes."""
        at = self.clock.now()
        self.close()
        lost, self.owed, self.broken = self.owed, [], False
        self._open(at)
        for host in self.hosts.values():
            for event in host.engine.advance(at):
                assert lost or event.id in self.siren.by_site[host.site], event
                self.siren.show(event)

    def frames(self, site: str) -> dict[str, list[AnyInput]]:
        """What the journal says each device of a site said, in its order."""
        told = [item for _, _, items in self.journal.replay(site) for item in items if isinstance(item, FrameReceived)]
        by_device: dict[str, list[AnyInput]] = defaultdict(list)
        for item in told:
            by_device[item.frame.device].append(item)
        return by_device


def restored(
    journal: Journal, sites: Iterable[str], at: float, siren: Siren, *, limits: LimitProfile = LIMITS
) -> dict[str, SiteHost]:
    """Hosts of sites that share their rows and have taken up what a journal holds, as in the process."""
    gas = GasRows(limits, TIMINGS.rising_s)
    hosts = [
        SiteHost(
            site,
            journal,
            limits=limits,
            timings=TIMINGS,
            verify=lambda _key, _signed, _signature: True,
            plan_key=b"",
            output=siren,
            began=at,
            gas=gas,
        )
        for site in sites
    ]
    restore(hosts, journal)
    return {host.site: host for host in hosts}


class Twins:
    """The same messages for two gateways.

    To compare them wholly is to ask every instrument of both: where `looks` says no, what the lane has taken goes on waiting
    unread, as in the process.
    """

    def __init__(self, folder: Path, sites: Sequence[str], at: float = EPOCH) -> None:
        self.sites = sites
        self.quick = Bed(folder / "quick", sites, laned=True, at=at)
        self.plain = Bed(folder / "plain", sites, laned=False, at=at)
        self.beds = (self.quick, self.plain)
        self.looks: Callable[[], bool] = lambda: True
        self.gas, self.calm = 0, 0  # messages of gas, and how many of them took the lane

    def close(self) -> None:
        for bed in self.beds:
            bed.close()

    def step(self, messages: Sequence[Message], at: float) -> tuple[Told, list[Message]]:
        """Give both a batch, and compare; return it as the one with the lane took it, and what the lane has taken."""
        batch = self.quick.step(messages, at)
        rounds, then = divided(messages, self.quick.lane)
        taken = [message for one in rounds for message in one]
        for first in rounds:
            self.plain.step([message for message in first if all(message is not late for late in then)], at)
        self.plain.step(then, at)
        self.gas += sum(message.topic.endswith("/gas") for message in messages)
        self.calm += len(taken)
        self.compare()
        return batch, taken

    def compare(self) -> None:
        """Demand that nobody can tell one from the other."""
        wholly = self.looks()
        for site in self.sites:
            quick, plain = (bed.hosts[site] for bed in self.beds)
            mine, other = ([*bed.siren.by_site[site].values()] for bed in self.beds)
            assert mine == other, site
            assert quick._ingest.waiting() == plain._ingest.waiting(), site
            assert quick.engine.now == plain.engine.now, site
            if wholly:
                assert _shown(quick) == _shown(plain), site
                require_same(quick.engine.snapshot(), plain.engine.snapshot(), site)
            assert quick.next_deadline() == plain.next_deadline(), site
            assert quick.engine.site.gas is self.quick.hosts[self.sites[0]].engine.site.gas, site

    def compare_journals(self) -> None:
        """Demand that both files tell the same frames, and that a restart from either leads to where we are."""
        for site in self.sites:
            assert self.quick.frames(site) == self.plain.frames(site), site
        for bed in self.beds:
            at = max(host.engine.now for host in bed.hosts.values())
            again = restored(bed.journal, self.sites, at, Siren())
            for site, host in bed.hosts.items():
                again[site].engine.advance(host.engine.now)
                require_same(again[site].engine.snapshot(), host.engine.snapshot(), f"{site} after a restart, lane {bed.laned}")


def _shown(host: SiteHost) -> SiteState:
    """What a page would show of a site; of which journal is not compared."""
    return msgspec.structs.replace(host.picture("gw"), jid="", event=0)


def require_same(one: bytes, other: bytes, where: str) -> None:
    """Demand that two snapshots are the same bytes but for the order of sets, and say where they are not."""
    if one != other:
        known = [msgspec.msgpack.decode(said) for said in (one, other)]
        for said in known:
            for watch in said["instruments"].values():
                watch["ledger"]["left"].sort()
        if msgspec.msgpack.encode(known[0]) != msgspec.msgpack.encode(known[1]):
            raise AssertionError(f"{where}: {[*_differences(*known)] or 'the order of something'}")


def _differences(one: Any, other: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401  whatever a snapshot holds
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for name in one:
            yield from _differences(one[name], other[name], f"{path}/{name}")
    elif one != other:
        yield f"{path}: {str(one)[:300]} is not {str(other)[:300]}"


def divided(messages: Sequence[Message], lane: Watched | None) -> tuple[list[list[Message]], list[Message]]:
    """Return the rounds that a lane has taken of a batch, and what another gateway must hear behind them.

    That is whatever the lane gave back, and what it took though the same device had said before it what it gave back.
    """
    if lane is None:
        return [], [*messages]
    rounds, waits, then = lane.rounds(messages), set[str](), list[Message]()
    left = {id(message) for message in lane.rest}
    for message in messages:
        if id(message) in left:
            waits.add(_device(message))
        if id(message) in left or _device(message) in waits:
            then.append(message)
    return rounds, then


def _key(message: Message) -> tuple[str, str, int]:
    address = parse(message.topic)
    return address.site, address.device, int(msgspec.json.decode(message.payload)["s"])


def _device(message: Message) -> str:
    try:
        address = parse(message.topic)
    except DecodeRejected:
        return ""
    return f"{address.site}/{address.device}"
