"""Between broker and records: nothing acknowledged that is not committed, nothing sent twice in vain, nothing that stops it."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from api import audit, desk, store
from api.bridge import Bridge
from api.meanings import Meanings
from api.plans import Plans
from api.reads import command_row
from manway import codec_ble, grant
from manway.codec_mqtt import (
    Acknowledgement,
    ApiHeartbeat,
    EventBatch,
    Heartbeat,
    SignedPlan,
    decode,
    decode_command,
    encode,
)
from manway.commands import AnyCommand, GreetLock, RecordCheckIn, WriteGrant
from manway.entities import GasTest, Lock, Permit, PermitState, Plan
from manway.entities import TestPoint as Point  # by its own name it would be collected as a test
from manway.events import (
    AlarmRaised,
    AnyEvent,
    CheckInRecorded,
    CommandRefused,
    EvacuationOrdered,
    GrantFailed,
    GrantRefused,
    GrantUsed,
    LockGreeted,
    LockLocked,
    PersonEntered,
    PressAwaited,
    UnlockUnconfirmed,
)
from manway.ids import GrantKind, Priority
from manway.runtime.ports import Message
from manway.runtime.signing import verify
from manway.topics import api_filters, root
from tests.kit.api import GAS, LOCK, PLAN_KEY, SITES, SPACE, Desk, Json, a_desk
from tests.kit.clock import EPOCH, FakeClock, VirtualLoop
from tests.kit.gateway import in_place
from tests.kit.locks import LockBench
from tests.kit.memory_broker import MemoryBus

ON_BOTH = pytest.mark.usefixtures("on_both")  # SQLite and PostgreSQL
NORTH = root("yard-north")


class Rig(Desk):
    """A running bridge on virtual time; the test is its gateway."""

    gateway: MemoryBus

    def heard(self, name: str) -> list[Message]:
        return [m for m in self.inbox if m.topic.endswith(name)]

    @property
    def acks(self) -> list[int]:
        return [decode(m.payload, Acknowledgement, "test").seq for m in self.heard("yard-north/api/ack")]

    @property
    def orders(self) -> list[AnyCommand]:
        return [decode_command(m.payload, "test") for m in self.heard("api/cmd")]

    def plans(self, site: str = "yard-north") -> list[SignedPlan]:
        return [decode(m.payload, SignedPlan, "test") for m in self.heard(f"{site}/api/plan")]

    async def listen(self) -> None:
        self.inbox: list[Message] = []
        async for batch in self.gateway.batches():
            self.inbox += batch.messages
            await batch.ack()

    async def send(self, first: int, *events: AnyEvent, jid: str = "j1", site: str = "yard-north", oldest: int = 1) -> None:
        """One batch, given time to be committed."""
        await self.raw("gw/event", encode(EventBatch("gw-1", jid, first, list(events), oldest)), site=site)

    async def raw(self, name: str, payload: bytes, *, site: str = "yard-north", retain: bool = False) -> None:
        await self.gateway.publish(f"{root(site)}{name}", payload, retain=retain)
        await asyncio.sleep(0.01)

    async def beat(self, *, down: bool = False, engine_age_s: float = 0.0, retain: bool = False) -> None:
        beat = Heartbeat("gw-1", 1, 1, self.now(), engine_age_s=engine_age_s, down=down)
        await self.raw("gw/heartbeat", encode(beat), retain=retain)

    def ask(self, account: str, deed: Callable[..., object], *args: object, **named: object) -> object:
        with self.records.change() as db:
            answer = deed(db, self.office, self.person(account), *args, **named)
        self.office.changed()
        return answer

    def state_of(self, command: str, account: str) -> Json:
        with self.records.look() as db:
            return command_row(db, command, self.person(account), "en")

    def in_log(self) -> list[str]:
        return [e.id for e in self.events()]


@contextlib.asynccontextmanager
async def a_bridge(rig: Rig) -> AsyncIterator[None]:
    bus = rig.broker.bus("api", [(f, 1) for site in SITES for f in api_filters(site)])
    bridge = Bridge(rig.office, bus, PLAN_KEY, SITES, in_place, rig.signer)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bridge.run())
        await asyncio.sleep(0.05)
        yield
        assert not task.done()
        task.cancel()


def play(folder: Path, scenario: Callable[[Rig], Awaitable[None]]) -> None:
    """Run a scenario beside a bridge and a listening gateway."""

    async def whole() -> None:
        rig = Rig(folder, FakeClock())
        rig.gateway = rig.broker.bus("gw-1", [("manway/1/+/+/api/+", 1)])
        try:
            async with rig.gateway, asyncio.TaskGroup() as group:
                listener = group.create_task(rig.listen())
                await asyncio.sleep(0)
                async with a_bridge(rig):
                    await scenario(rig)
                listener.cancel()
        finally:
            rig.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


def locked(key: str, site: str = "yard-north") -> LockLocked:
    return LockLocked(id=key, at=EPOCH, site=site, lock=LOCK, space=SPACE)


def about(rig: Rig, key: str, cause: str = "", **named: object) -> Json:
    return {"id": key, "at": rig.now(), "site": "yard-north", "cause": cause, **named}


# ---- events in


@ON_BOTH
def test_a_batch_is_committed_and_then_acknowledged(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(1, locked("a"), locked("b"))
        assert (rig.in_log(), rig.acks, rig.office.seq) == (["a", "b"], [2], 2)
        await rig.send(3, locked("c"))
        assert (rig.in_log(), rig.acks) == (["a", "b", "c"], [2, 3])

    play(tmp_path, scenario)


@ON_BOTH
def test_a_repeated_or_overlapping_batch_adds_only_what_is_new(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(1, locked("a"), locked("b"))
        await rig.send(1, locked("a"), locked("b"))
        await rig.send(2, locked("b"), locked("c"))
        await rig.send(1, locked("a"))
        await rig.send(4)
        assert (rig.in_log(), rig.acks) == (["a", "b", "c"], [2, 2, 3, 3, 3])

    play(tmp_path, scenario)


@ON_BOTH
def test_behind_a_gap_nothing_is_committed_and_the_old_number_answered(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(3, locked("c"))
        await rig.send(1, locked("a"), locked("b"))
        await rig.send(4, locked("d"))
        await rig.send(3, locked("c"))
        await rig.send(2**70, locked("e"))
        assert (rig.in_log(), rig.acks) == (["a", "b", "c"], [0, 2, 2, 3, 3])

    play(tmp_path, scenario)


@ON_BOTH
def test_what_no_journal_has_any_more_is_not_waited_for_and_said(tmp_path: Path) -> None:
    """Records that were lost or restored ask for events that their gateway has let go of."""

    async def scenario(rig: Rig) -> None:
        await rig.send(4, locked("d"), oldest=3)
        assert (rig.in_log(), rig.acks) == ([], [0]), "one of those between is still there"
        with capture_logs() as logs:
            await rig.send(3, locked("c"), oldest=3)
        assert (rig.in_log(), rig.acks) == (["c"], [0, 3])
        assert logs == [
            {"event": "events are gone", "log_level": "warning", "gateway": "gw-1", "journal": "j1", "first": 1, "last": 2}
        ]
        with capture_logs() as logs:
            await rig.send(3, locked("c"), locked("d"), oldest=3)
            await rig.send(6, locked("f"), oldest=3)
        assert (rig.in_log(), rig.acks, logs) == (["c", "d"], [0, 3, 4, 4], [])

    play(tmp_path, scenario)


def test_a_new_journal_is_counted_from_its_own_beginning(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.send(1, locked("a"), locked("b"))
        await rig.send(1, locked("b"), locked("c"), jid="j2")
        assert (rig.in_log(), rig.acks) == (["a", "b", "c"], [2, 2])

    play(tmp_path, scenario)


@ON_BOTH
def test_a_restarted_api_knows_how_far_it_was(tmp_path: Path) -> None:
    async def first(rig: Rig) -> None:
        await rig.send(1, locked("a"), locked("b"))

    async def second(rig: Rig) -> None:
        assert rig.office.seq == 2
        await rig.send(4, locked("d"))
        await rig.send(2, locked("b"), locked("c"))
        assert (rig.acks, rig.in_log()) == ([2, 3], ["a", "b", "c"])

    play(tmp_path, first)
    play(tmp_path, second)


POISON = {
    "no JSON": ("gw/event", b"\xff\xfe"),
    "nothing": ("gw/event", b""),
    "nested for ever": ("gw/heartbeat", b'{"x":' + b"[" * 30_000),
    "an unknown event": (
        "gw/event",
        b'{"gw":"g","jid":"j1","first":1,"e":[{"type":"Nonsense","id":"a","at":1,"site":"yard-north"}]}',
    ),
    "a wrong type": ("gw/state", b'{"gw":1}'),
    "a number beyond numbers": ("gw/heartbeat", b'{"gw":"g","boot":1,"s":1,"at":1e999}'),
    "an unknown topic": ("gw/other", b"{}"),
    "another site's events": ("gw/event", encode(EventBatch("gw-1", "j1", 1, [locked("x", "yard-south")]))),
    "a hello that is none": ("gw/event", None),
}


@pytest.mark.parametrize("what", POISON)
def test_a_poison_message_does_not_stop_it(what: str, tmp_path: Path) -> None:
    name, payload = POISON[what]

    async def scenario(rig: Rig) -> None:
        if payload is None:
            rig.ask("worker", desk.emergency, LOCK)
            command = next(iter(rig_commands(rig)))
            for number, hello in enumerate(("zz", "", "00", "ff" * 174), 1):
                await rig.send(number, LockGreeted(**about(rig, f"g{number}", command), lock=LOCK, hello=hello))  # type: ignore[arg-type]
            assert rig.acks == [1, 2, 3, 4]
            (refused,) = rig.events("GrantRefused")
            assert isinstance(refused, GrantRefused)
            assert [f.key for f in refused.failures] == ["signer.hello"]
        else:
            await rig.raw(name, payload)
            assert (rig.in_log(), rig.acks) == ([], [])
        before = len(rig.in_log())
        await rig.send(1, locked("a"), jid="j2")
        assert (len(rig.in_log()), rig.acks[-1]) == (before + 1, 1)

    play(tmp_path, scenario)


def rig_commands(rig: Desk) -> list[str]:
    with rig.records.look() as db:
        return list(db.execute(store.command.select().order_by(store.command.c.exp)).scalars())


def test_a_foreign_topic_is_no_poison_either(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.gateway.publish("manway/1/00/yard-north/gw/event", b"{}")
        await rig.send(1, locked("a"))
        assert rig.acks == [1]

    play(tmp_path, scenario)


def test_an_event_that_trips_us_up_stays_unanswered_and_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = Meanings.take

    def trip(self: Meanings, db: sa.Connection, event: AnyEvent) -> None:
        if event.id == "stone":
            raise LookupError(event.id)
        take(self, db, event)

    async def scenario(rig: Rig) -> None:
        monkeypatch.setattr(Meanings, "take", trip)
        await rig.send(1, locked("a"), locked("stone"))
        assert (rig.acks, rig.in_log()) == ([], [])
        await rig.send(1, locked("s", "yard-south"), jid="j2", site="yard-south")
        assert rig.in_log() == ["s"]
        assert "LookupError" in capsys.readouterr().out
        monkeypatch.setattr(Meanings, "take", take)
        await rig.send(1, locked("a"), locked("stone"))
        assert rig.acks == [2]

    play(tmp_path, scenario)


# ---- signs of life


def test_a_gateway_is_heard_by_its_pulse_alone(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        def age() -> float | None:
            return rig.office.pictures.age_s("yard-north", rig.now())

        rig.look()
        picture = encode(rig.office.pictures.state.pop("yard-north"))
        rig.office.pictures.heard_at.clear()
        await rig.raw("gw/state", picture, retain=True)
        assert "yard-north" in rig.office.pictures.state
        await rig.raw("gw/state", picture)  # may have waited in the broker for hours
        assert age() is None
        await rig.beat(down=True)
        await rig.beat(engine_age_s=5.1)
        assert age() is None
        await rig.beat(engine_age_s=5.0)
        assert age() == pytest.approx(0.01)
        await asyncio.sleep(3)
        await rig.beat(down=True)
        assert age() == pytest.approx(3.02)

    play(tmp_path, scenario)


def test_a_picture_of_another_site_is_not_taken(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        rig.look()
        south = rig.office.pictures.state.pop("yard-south")
        rig.office.pictures.state.clear()
        await rig.raw("gw/state", encode(south))
        assert rig.office.pictures.state == {}
        await rig.raw("gw/state", encode(south), site="yard-south")
        assert rig.office.pictures.state == {"yard-south": south}

    play(tmp_path, scenario)


def test_the_api_s_own_pulse_goes_to_every_site_each_second(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(4.5)
        for site in SITES:
            beats = [decode(m.payload, ApiHeartbeat, "test") for m in rig.heard(f"{site}/api/heartbeat")]
            assert [b.s for b in beats] == [2, 3, 4, 5]  # the first went before the broker answered
            assert {b.boot for b in beats} == {int(EPOCH)}
            assert [b.now - EPOCH for b in beats] == pytest.approx([1, 2, 3, 4], abs=0.1)

    play(tmp_path, scenario)


# ---- what an event means


@pytest.mark.parametrize(
    ("was", "event", "becomes"),
    [
        (PermitState.READY, ("GrantUsed", GrantKind.ENTRY), PermitState.ACTIVE),
        (PermitState.READY, ("GrantUsed", GrantKind.PREP), PermitState.READY),
        (PermitState.READY, ("PersonEntered", 0), PermitState.ACTIVE),
        (PermitState.APPROVED, ("PersonEntered", 0), PermitState.APPROVED),
        (PermitState.ACTIVE, ("EvacuationOrdered", 0), PermitState.EVACUATING),
        (PermitState.READY, ("EvacuationOrdered", 0), PermitState.READY),
        (PermitState.READY, ("GAS_LOW", 0), PermitState.APPROVED),
        (PermitState.READY, ("GAS_HIGH", 0), PermitState.APPROVED),
        (PermitState.READY, ("OVER_RANGE", 0), PermitState.APPROVED),
        (PermitState.READY, ("ATTENDANT_ABSENT", 0), PermitState.READY),
        (PermitState.ACTIVE, ("GAS_HIGH", 0), PermitState.ACTIVE),
        (PermitState.CLOSED, ("EvacuationOrdered", 0), PermitState.CLOSED),
    ],
)  # fmt: skip
def test_what_happened_moves_the_permit(was: PermitState, event: tuple[str, int], becomes: PermitState, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(was, ventilated_at=EPOCH - 900)
        await rig.send(1, happened(rig, permit, *event))
        after = rig.permit(permit.id)
        assert after.state is becomes
        if was is PermitState.READY and becomes is PermitState.APPROVED:
            assert (after.gas_test, [type(e).__name__ for e in rig.events()][-1]) == (None, "PermitVoided")

    play(tmp_path, scenario)


def happened(rig: Rig, permit: Permit, name: str, kind: int) -> AnyEvent:
    base = about(rig, "e1", space=permit.space)
    match name:
        case "GrantUsed":
            return GrantUsed(**base, lock=LOCK, grant="00", kind=kind)  # type: ignore[arg-type]
        case "PersonEntered":
            return PersonEntered(**base, permit=permit.id, person="p15", source="attendant")  # type: ignore[arg-type]
        case "EvacuationOrdered":
            return EvacuationOrdered(**base, permit=permit.id)  # type: ignore[arg-type]
        case _:
            return AlarmRaised(**base, alarm="a1", kind=name, object="gas-n04/H2S", priority=Priority.P1)  # type: ignore[arg-type]


def test_a_gateway_moves_no_permit_of_another_site(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE, space="s02", site="yard-south")
        order = EvacuationOrdered(id="e1", at=rig.now(), site="yard-north", space="s02", permit=permit.id)
        await rig.send(1, order)
        assert rig.permit(permit.id).state is PermitState.ACTIVE

    play(tmp_path, scenario)


def test_a_repeated_event_moves_nothing_twice(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.READY)
        event = happened(rig, permit, "PersonEntered", 0)
        await rig.send(1, event)
        with rig.records.change() as db:
            store.put_permit(db, msgspec.structs.replace(desk.permit_of(db, permit.id), state=PermitState.READY))
        await rig.send(1, event, jid="j2")
        assert rig.permit(permit.id).state is PermitState.READY

    play(tmp_path, scenario)


# ---- commands out


def test_a_command_is_sent_again_until_it_is_answered(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE)
        command = str(rig.ask("attendant", desk.check_in, permit.id))
        await asyncio.sleep(4.5)
        sent = rig.orders
        assert [type(c) for c in sent] == [RecordCheckIn] * 3
        assert {c.id for c in sent} == {command}
        assert rig.state_of(command, "attendant")["state"] == "pending"
        await rig.send(1, CheckInRecorded(**about(rig, "e1", command), permit=permit.id, space=SPACE, person="p02"))  # type: ignore[arg-type]
        assert rig.state_of(command, "attendant") | {"text": ""} == {
            "id": command, "state": "done", "text": "", "result": "e1", "failures": [],
        }  # fmt: skip
        await asyncio.sleep(20)
        assert len(rig.orders) == 3

    play(tmp_path, scenario)


def test_a_command_that_nobody_answers_times_out(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE)
        command = str(rig.ask("attendant", desk.check_in, permit.id))
        await asyncio.sleep(desk.COMMAND_LIFE_S + 1)
        sent = len(rig.orders)
        assert rig.state_of(command, "attendant")["state"] == "pending"
        await asyncio.sleep(3)
        assert (rig.state_of(command, "attendant")["state"], len(rig.orders)) == ("timed_out", sent)
        assert all(c.exp >= c.at for c in rig.orders)
        await rig.send(1, CheckInRecorded(**about(rig, "e1", command), permit=permit.id, space=SPACE, person="p02"))  # type: ignore[arg-type]
        assert rig.state_of(command, "attendant")["state"] == "timed_out"  # the fact stands in the log all the same
        assert "e1" in rig.in_log()

    play(tmp_path, scenario)


def test_a_refused_command_says_why(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE)
        command = str(rig.ask("attendant", desk.count_person, permit.id, "p15", "in"))
        await rig.send(1, CommandRefused(**about(rig, "e1", command), reason="entry.already_inside"))  # type: ignore[arg-type]
        row = rig.state_of(command, "attendant")
        assert (row["state"], row["result"]) == ("refused", "entry.already_inside")
        assert row["text"] not in ("", "reason.entry.already_inside")

    play(tmp_path, scenario)


def test_an_event_with_a_foreign_cause_answers_nothing(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE)
        command = str(rig.ask("attendant", desk.check_in, permit.id))
        await rig.send(1, CommandRefused(**about(rig, "e1", "not-a-command"), reason="space.unknown"))  # type: ignore[arg-type]
        assert rig.state_of(command, "attendant")["state"] == "pending"

    play(tmp_path, scenario)


def test_without_a_broker_commands_wait_and_then_go_out(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE)
        rig.broker.kill()
        command = str(rig.ask("attendant", desk.check_in, permit.id))
        await asyncio.sleep(3)
        assert rig.orders == []
        rig.broker.start()
        await asyncio.sleep(3)
        assert command in {c.id for c in rig.orders}

    play(tmp_path, scenario)


# ---- unlocking


async def asked(rig: Rig, kind: GrantKind = GrantKind.EMERGENCY) -> tuple[str, Permit | None]:
    """An unlock that waits for its lock's hello."""
    if kind is GrantKind.EMERGENCY:
        return str(rig.ask("worker", desk.emergency, LOCK)), None
    permit = rig.make_permit(PermitState.CLOSING)
    rig.look()
    answer = rig.ask("attendant", desk.close_out, permit.id, LOCK)
    assert isinstance(answer, tuple)
    assert answer[1] == []
    return str(answer[0]), permit


def greeted(rig: Rig, command: str, key: str = "g1", lock: str = LOCK, hello: bytes | None = None) -> LockGreeted:
    raw = (rig.hello(lock) if hello is None else hello).hex()
    return LockGreeted(**about(rig, key, command), lock=lock, hello=raw)  # type: ignore[arg-type]


@ON_BOTH
def test_a_hello_becomes_one_signed_grant_on_its_way(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await asyncio.sleep(0.1)
        hello = rig.hello()
        await rig.send(1, greeted(rig, command, hello=hello))
        await asyncio.sleep(0.1)
        greet, write = rig.orders
        assert isinstance(greet, GreetLock)
        assert isinstance(write, WriteGrant)
        parsed = grant.parse(bytes.fromhex(write.message)).grant
        _, said = codec_ble.open_hello(hello)
        assert (parsed.challenge, parsed.cti.hex(), parsed.kind) == (said.challenge, write.grant, GrantKind.EMERGENCY)
        (issued,) = rig.events("GrantIssued")
        assert (getattr(issued, "grant", ""), getattr(issued, "holder", "")) == (write.grant, "p01")
        assert rig.audit_actions()[-1] == "p01 GrantIssued"
        with rig.records.look() as db:
            row = db.execute(store.grant.select().where(store.grant.c.id == write.grant)).one()
            assert audit.broken_at(db) is None
        assert (row.lock, row.holder, row.used_at) == (LOCK, "p01", None)

    play(tmp_path, scenario)


def test_a_greeted_lock_is_not_greeted_again(tmp_path: Path) -> None:
    """A second hello would make the lock forget the challenge that the grant on its way answers."""

    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await asyncio.sleep(2.5)
        before = sum(isinstance(c, GreetLock) for c in rig.orders)
        assert before == 2
        await rig.send(1, greeted(rig, command))
        await rig.send(2, greeted(rig, command, "g2"))  # an answer to the repeat
        await asyncio.sleep(6)
        assert sum(isinstance(c, GreetLock) for c in rig.orders) == before
        assert len({c.id for c in rig.orders if isinstance(c, WriteGrant)}) == 1
        assert len(rig.events("GrantIssued")) == 1
        assert rig.acks == [1, 2]

    play(tmp_path, scenario)


@ON_BOTH
def test_an_unlock_is_pending_until_the_lock_itself_has_opened(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(0.1)
        write = rig.orders[-1]
        assert isinstance(write, WriteGrant)
        await rig.send(2, PressAwaited(**about(rig, "w1", write.id), lock=LOCK, grant=write.grant))  # type: ignore[arg-type]
        assert rig.state_of(command, "worker")["state"] == "pending"
        await asyncio.sleep(desk.UNLOCK_LIFE_S + 5)  # the hello's own time is over, the grant's is not
        assert rig.state_of(command, "worker")["state"] == "pending"
        used = GrantUsed(**about(rig, "u1", write.id), lock=LOCK, space=SPACE, grant=write.grant, kind=3)  # type: ignore[arg-type]
        await rig.send(3, used)
        assert rig.state_of(command, "worker")["state"] == "done"
        with rig.records.look() as db:
            row = db.execute(store.grant.select().where(store.grant.c.id == write.grant)).one()
        assert row.used_at == used.at
        assert rig.audit_actions()[-1] == "lock GrantUsed"

    play(tmp_path, scenario)


@pytest.mark.parametrize("answer", ["GrantRefused", "GrantFailed", "UnlockUnconfirmed", "nothing"])
def test_a_grant_that_did_not_open_ends_its_unlock(answer: str, tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(0.1)
        write = rig.orders[-1]
        named = about(rig, "x1", write.id)
        if answer == "GrantRefused":
            await rig.send(2, GrantRefused(**named, lock=LOCK, reason="LOCK_CHALLENGE"))  # type: ignore[arg-type]
        elif answer == "GrantFailed":
            await rig.send(2, GrantFailed(**named, lock=LOCK, grant="00", reason="NO_PRESS"))  # type: ignore[arg-type]
        elif answer == "UnlockUnconfirmed":
            await rig.send(2, UnlockUnconfirmed(**named, lock=LOCK, space=SPACE))  # type: ignore[arg-type]
        else:
            await asyncio.sleep(rig.timings.grant_life_s + 3)
        row = rig.state_of(command, "worker")
        assert row["state"] == ("timed_out" if answer == "nothing" else "refused")
        assert row["text"]
        assert str(row["text"]) != row["result"]

    play(tmp_path, scenario)


def test_a_lock_that_never_greets_times_out(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await asyncio.sleep(desk.UNLOCK_LIFE_S + 4)
        assert rig.state_of(command, "worker")["state"] == "timed_out"
        await rig.send(1, greeted(rig, command))  # too late
        assert rig.events("GrantIssued") == []

    play(tmp_path, scenario)


def test_what_changed_since_the_request_is_refused_by_the_signer_with_all_reasons(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, permit = await asked(rig, GrantKind.CLOSE_OUT)
        assert permit is not None
        await asyncio.sleep(rig.timings.live_reading_s + 1)  # the gateway has gone silent
        await rig.send(1, greeted(rig, command))
        row = rig.state_of(command, "attendant")
        assert row["state"] == "refused"
        assert isinstance(row["failures"], list)
        assert [f["check"] for f in row["failures"]] == ["CLOSE_OUT"]
        (event,) = rig.events("GrantRefused")
        assert (event.cause, getattr(event, "permit", "")) == (command, permit.id)
        assert not [c for c in rig.orders if isinstance(c, WriteGrant)]

    play(tmp_path, scenario)


async def unlocking(rig: Rig, kind: GrantKind, **changed: object) -> str:
    """An ordinary unlock of a permit that may be opened, waiting for its hello."""
    permit = rig.make_permit(PermitState.APPROVED if kind is GrantKind.PREP else PermitState.READY, **changed)
    rig.look()
    answer = rig.ask("attendant", desk.unlock, permit.id, LOCK, kind)
    assert isinstance(answer, tuple)
    assert answer[1] == []
    return str(answer[0])


@pytest.mark.parametrize(("ahead_s", "signed"), [(0.0, True), (4.0, True), (-5.5, False), (60.0, False), (None, False)])
def test_a_lock_with_a_wrong_clock_gets_no_grant_and_the_page_says_why(
    ahead_s: float | None,
    signed: bool,  # noqa: FBT001  a column of the table above
    tmp_path: Path,
) -> None:
    async def scenario(rig: Rig) -> None:
        command = await unlocking(rig, GrantKind.PREP)
        lock = LockBench(key=rig.lock_key(LOCK), clock_ahead_s=None if ahead_s is None else rig.now() + ahead_s - 1.0)
        lock.wait(1.0)
        (hello,) = [sent.payload for sent in lock.lock.receive("hello", b"\x01", lock.now)]
        await rig.send(1, greeted(rig, command, hello=hello))
        row = rig.state_of(command, "attendant")
        assert (row["state"] == "refused") is not signed
        assert isinstance(row["failures"], list)
        assert [f["check"] for f in row["failures"]] == ([] if signed else ["G19"])

    play(tmp_path, scenario)


def test_a_grant_dies_with_the_test_it_rests_on(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        air = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}
        points = [Point(d, 120.0, dict(air)) for d in (1.0, 1.5, 2.0)]
        at = rig.now() - rig.timings.gas_test_age_s + 20
        test = GasTest("p02", GAS, at, points, rig.office.limits.version, passed=True)
        command = await unlocking(rig, GrantKind.ENTRY, gas_test=test, ventilated_at=at - 1000, start=rig.now() - 9000)
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(0.1)
        write = rig.orders[-1]
        assert isinstance(write, WriteGrant)
        assert grant.parse(bytes.fromhex(write.message)).grant.life_s in (19, 20)

    play(tmp_path, scenario)


def test_an_emergency_is_granted_and_what_it_would_have_failed_is_kept(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await rig.send(1, greeted(rig, command))
        rig.make_permit(confirmations=[])
        second = str(rig.ask("worker", desk.emergency, LOCK))
        await rig.send(2, greeted(rig, second, "g2"))
        alone, beside = rig.events("GrantIssued")
        assert [f.key for f in getattr(alone, "failures", [])] == ["permit.none"]
        assert {"G01", "G08", "G11", "G21"} <= {f.check for f in getattr(beside, "failures", [])}

    play(tmp_path, scenario)


def test_a_hello_of_another_lock_opens_nothing(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, _ = await asked(rig)
        await rig.send(1, greeted(rig, command, hello=rig.hello("lock-n05")))
        assert rig.state_of(command, "worker")["state"] == "refused"
        other = str(rig.ask("worker", desk.emergency, LOCK))
        await rig.send(2, greeted(rig, other, "g2", lock="lock-n99", hello=rig.hello()))
        await rig.send(3, greeted(rig, "nobody-asked", "g3"))
        assert (rig.state_of(other, "worker")["state"], rig.acks) == ("pending", [1, 2, 3])
        assert rig.events("GrantIssued") == []

    play(tmp_path, scenario)


def test_a_granted_close_out_goes_to_its_lock(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command, permit = await asked(rig, GrantKind.CLOSE_OUT)
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(0.1)
        write = rig.orders[-1]
        assert isinstance(write, WriteGrant)
        assert (write.kind, write.lock, permit is not None) == (GrantKind.CLOSE_OUT, LOCK, True)

    play(tmp_path, scenario)


# ---- plans out


def plan_of(signed: SignedPlan) -> Plan:
    assert (signed.kid, verify(PLAN_KEY.public_key, signed.body, signed.sig)) == (PLAN_KEY.kid.hex(), True)
    return decode(signed.body, Plan, "test")


def test_every_site_gets_its_signed_retained_plan_once(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(5)
        for site, prefix in (("yard-north", "n"), ("yard-south", "s")):
            (signed,) = rig.plans(site)
            plan = plan_of(signed)
            assert (plan.site, plan.version, plan.limits_version) == (site, 1, rig.office.limits.version)
            assert {s.id for s in plan.spaces} == {f"{prefix}0{n}" for n in range(1, 7)}
            assert {lock.device for lock in plan.locks} == {f"lock-{s.id}" for s in plan.spaces}
            assert {i.space for i in plan.instruments} == {s.id for s in plan.spaces}
            assert {p.site for p in plan.permits} == {site}
            assert set(plan.used_grants) <= {lock.device for lock in plan.locks}
            assert rig.broker.retained[f"{root(site)}api/plan"].payload == encode(signed)

    play(tmp_path, scenario)


@ON_BOTH
def test_a_plan_is_sent_again_with_the_next_version_when_it_changes(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        permit = rig.make_permit(PermitState.APPROVED)
        rig.make_permit(PermitState.SUBMITTED)  # holds nothing, so the gateway need not know it
        await asyncio.sleep(5)
        first, second = rig.plans()
        assert [plan_of(p).version for p in (first, second)] == [1, 2]
        assert {p.id for p in plan_of(second).permits} - {p.id for p in plan_of(first).permits} == {permit.id}
        assert len(rig.plans("yard-south")) == 1

    play(tmp_path, scenario)


@ON_BOTH
def test_a_plan_names_the_newest_entry_grant_of_a_permit_that_holds_its_space(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        permit = rig.make_permit(PermitState.ACTIVE)
        gone = rig.make_permit(PermitState.CLOSED)
        rows = [
            ("aa", permit.id, 2, 500.0),
            ("bb", permit.id, 2, 900.0),
            ("cc", permit.id, 2, None),
            ("dd", permit.id, 1, 950.0),  # opened to ventilate: lets nobody in
            ("ee", gone.id, 2, 990.0),  # of a permit that is over: would excuse a forced lock
        ]
        with rig.records.change() as db:
            for key, of, kind, used in rows:
                row = {"id": key, "permit": of, "lock": LOCK, "kind": kind, "holder": "p01", "issued_at": 1.0, "used_at": used}
                db.execute(store.grant.insert().values(row))
        await asyncio.sleep(2)
        assert plan_of(rig.plans()[-1]).used_grants[LOCK] == "bb"

    play(tmp_path, scenario)


@ON_BOTH
def test_a_plan_that_could_not_be_sent_is_sent_unchanged(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.make_permit(PermitState.APPROVED)
        plans = Plans(rig.office, PLAN_KEY, SITES)
        with rig.records.look() as db:
            plan = plans.build(db, "yard-north")
        kept = plans.sign("yard-north", plan)  # and the process dies before it is out
        assert kept is not None
        await asyncio.sleep(2)
        assert encode(rig.plans()[-1]) == kept
        assert plans.sign("yard-north", plan) is None
        with rig.records.change() as db:
            db.execute(store.plan.update().values(sent=False))
        assert [site for site, _ in plans.due()] == SITES
        assert plans.due() == plans.due()  # the broker's client has not taken them yet
        assert [site for site, _ in plans.due()] == SITES
        for site in SITES:
            plans.sent(site)
        assert plans.due() == []

    play(tmp_path, scenario)


def test_a_plan_is_made_anew_only_when_it_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    build = Plans.build

    def counted(self: Plans, db: sa.Connection, site: str) -> Plan:
        made.append(site)
        return build(self, db, site)

    async def scenario(rig: Rig) -> None:
        monkeypatch.setattr(Plans, "build", counted)
        await asyncio.sleep(1)
        assert made == SITES
        for number in range(5):
            await rig.send(number + 1, locked(f"e{number}"))
            await asyncio.sleep(1)
        assert made == SITES
        rig.make_permit(PermitState.SUBMITTED)  # may have; the digest says that it has not
        await asyncio.sleep(3)
        assert (made, len(rig.plans())) == ([*SITES, "yard-north"], 1)

    play(tmp_path, scenario)


async def pictured(rig: Rig, version: int, seconds: int) -> None:
    """The gateway shows for some seconds which plan it goes by."""
    picture = rig.office.pictures.state["yard-north"]
    for _ in range(seconds):
        await rig.raw("gw/state", encode(msgspec.structs.replace(picture, plan_version=version)))
        await rig.beat()
        await asyncio.sleep(1)


def test_a_plan_that_the_gateway_does_not_show_is_repeated_every_ten_seconds(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.look()
        await pictured(rig, 0, 8)
        assert len(rig.plans()) == 1
        await pictured(rig, 0, 4)
        assert [plan_of(p).version for p in rig.plans()] == [1, 1]
        assert len({p.body for p in rig.plans()}) == 1
        await pictured(rig, 1, 12)
        assert len(rig.plans()) == 2
        rig.office.pictures.heard_at.clear()
        await rig.raw("gw/state", encode(msgspec.structs.replace(rig.office.pictures.state["yard-north"], plan_version=0)))
        await asyncio.sleep(8)  # nobody there: it waits in the broker, retained
        assert len(rig.plans()) == 2
        assert len(rig.plans("yard-south")) == 1

    play(tmp_path, scenario)


def test_restored_records_overtake_the_plan_of_a_gateway(tmp_path: Path) -> None:
    """It takes none whose number is not above its own; ours must not count from the backup's."""

    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        rig.look()
        await pictured(rig, 41, 12)
        assert [plan_of(p).version for p in rig.plans()] == [1, 42]
        await pictured(rig, 42, 15)
        rig.make_permit(PermitState.APPROVED)
        await asyncio.sleep(2)
        assert [plan_of(p).version for p in rig.plans()] == [1, 42, 43]

    play(tmp_path, scenario)


def test_a_plan_too_large_for_a_message_says_what_to_do_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(7).randbytes  # noqa: S311  like keys in one thing: it cannot be packed

    async def scenario(rig: Rig) -> None:
        await asyncio.sleep(1)
        with rig.records.change() as db:
            for number in range(1500):
                lock = Lock(f"lock-x{number}", draw(8), draw(32), SPACE)
                store.put(db, "Lock", lock.device, lock, site="yard-north")
        await asyncio.sleep(5)
        assert len(rig.plans()) == 1
        said = [line for line in capsys.readouterr().out.splitlines() if "plan too large" in line]
        assert len(said) == 1
        assert "divide the site" in said[0]
        await rig.send(1, locked("a"))
        assert rig.acks == [1]
        with rig.records.change() as db:
            db.execute(store.document.delete().where(store.document.c.id.like("lock-x%")))
            store.touch(db, "yard-north")
        await asyncio.sleep(2)
        assert len(rig.plans()) == 1  # what it was: nothing to send
        rig.make_permit(PermitState.APPROVED)
        await asyncio.sleep(2)
        assert [plan_of(p).version for p in rig.plans()] == [1, 2]

    play(tmp_path, scenario)


# ---- time


@ON_BOTH
def test_a_permit_ends_by_itself_when_nobody_is_inside(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        ends = EPOCH + 30
        permits = {
            state: rig.make_permit(state, start=EPOCH - n * 100 - 99, end=ends if n == 0 else EPOCH - n * 100)
            for n, state in enumerate((PermitState.APPROVED, PermitState.READY, PermitState.SUSPENDED, PermitState.ACTIVE))
        }
        await asyncio.sleep(2)
        assert {rig.permit(p.id).state for p in permits.values()} == set(permits)  # unknown how many are inside
        rig.look()
        await asyncio.sleep(2)
        after = {was: rig.permit(p.id).state for was, p in permits.items()}
        assert after == {
            PermitState.APPROVED: PermitState.APPROVED, PermitState.READY: PermitState.EXPIRED,
            PermitState.SUSPENDED: PermitState.EXPIRED, PermitState.ACTIVE: PermitState.ACTIVE,
        }  # fmt: skip
        await asyncio.sleep(28)
        rig.look()
        await asyncio.sleep(2)
        assert rig.permit(permits[PermitState.APPROVED].id).state is PermitState.EXPIRED
        assert len(rig.events("PermitExpired")) == 3

    play(tmp_path, scenario)


def test_streams_are_woken_by_every_commit(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        news = rig.office.news
        await rig.send(1, locked("a"))
        assert news.is_set()
        assert rig.office.news is not news

    play(tmp_path, scenario)


def test_a_change_of_the_records_wakes_the_sender_from_another_thread(tmp_path: Path) -> None:
    with a_desk(tmp_path) as bench:
        woken: list[str] = []
        bench.office.changed()  # before anybody listens
        bench.office.on_change(lambda: woken.append("now"))
        bench.office.changed()
        assert woken == ["now"]
