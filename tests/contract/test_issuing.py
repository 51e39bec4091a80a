"""From hello to grant: nothing waits for the signer, its silence is a refusal that says so, and a dying api forgets nobody."""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import sqlalchemy as sa

from api import desk, lock_orders, store
from api.dialects import RecordsUnavailable
from api.issuing import Issuing
from api.office import UnlockRequest
from api.signer import SignGrant, SignRotation, SignTime
from api.signer.client import silent
from api.signer.messages import Introduction, Signed
from manway.commands import GreetLock, WriteGrant
from manway.entities import Lock
from manway.events import GrantRefused, GrantUsed
from manway.ids import GrantKind
from tests.contract.test_bridge import Rig, about, greeted, locked, play
from tests.kit.api import LOCK, SPACE
from tests.kit.signer import SignerInPlace

T = TypeVar("T")


class Slow:
    """A signer that answers when it is let, or never."""

    def __init__(self, signer: SignerInPlace) -> None:
        self._signer, self.may, self.dead, self.asked = signer, asyncio.Event(), False, 0

    async def sign(self, request: SignGrant | SignTime | SignRotation) -> Signed:
        self.asked += 1
        await asyncio.sleep(2.0 if self.dead else 0.0)
        if self.dead:
            raise silent()
        await self.may.wait()
        return await self._signer.sign(request)

    async def introduce(self) -> Introduction:
        if self.dead:
            raise silent()
        return await self._signer.introduce()


def with_slow(folder: Path, scenario: Callable[[Rig, Slow], object]) -> None:
    """Play with a signer of the test's own behind the bridge."""

    async def whole(rig: Rig) -> None:
        await scenario(rig, rig.signer)  # type: ignore[misc, arg-type]

    made = Rig.__init__

    @functools.wraps(made)
    def with_its_own(self: Rig, *args: object) -> None:
        made(self, *args)  # type: ignore[arg-type]
        self.signer = Slow(self.signer)  # type: ignore[assignment]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rig, "__init__", with_its_own)
        play(folder, whole)


def test_events_are_acknowledged_and_rescues_served_while_the_signer_thinks(tmp_path: Path) -> None:
    async def scenario(rig: Rig, signer: Slow) -> None:
        first = str(rig.ask("worker", desk.emergency, LOCK))
        await asyncio.sleep(0.1)
        await rig.send(1, greeted(rig, first))
        await rig.send(2, locked("b"))
        assert rig.acks == [1, 2]
        assert rig.state_of(first, "worker")["state"] == "pending"
        other = str(rig.ask("attendant", desk.emergency, "lock-n05"))
        await asyncio.sleep(0.1)
        await rig.send(3, greeted(rig, other, "g2", lock="lock-n05"))
        await asyncio.sleep(3)
        assert signer.asked == 2  # each once, the second beside the first
        greets = [c for c in rig.orders if isinstance(c, GreetLock)]
        assert len(greets) == 2  # a second hello would spoil the challenge that is being answered
        signer.may.set()
        await asyncio.sleep(0.1)
        assert {c.lock for c in rig.orders if isinstance(c, WriteGrant)} == {LOCK, "lock-n05"}

    with_slow(tmp_path, scenario)


def test_a_silent_signer_is_a_refusal_that_says_so_and_names_the_other_way(tmp_path: Path) -> None:
    async def scenario(rig: Rig, signer: Slow) -> None:
        signer.dead = True
        command = str(rig.ask("worker", desk.emergency, LOCK))
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(2.1)
        row = rig.state_of(command, "worker")
        assert (row["state"], rig.office.signer_fault) == ("refused", "signer.silent")
        assert "signer does not answer" in str(row["failures"])
        assert "emergency panel" in str(row["failures"])
        (refused,) = rig.events("GrantRefused")
        assert isinstance(refused, GrantRefused)
        assert refused.cause == command
        signer.dead = False
        signer.may.set()
        again = str(rig.ask("worker", desk.emergency, LOCK))
        await rig.send(2, greeted(rig, again, "g2"))
        await asyncio.sleep(0.1)
        assert isinstance(rig.orders[-1], WriteGrant)
        assert rig.office.signer_fault == ""

    with_slow(tmp_path, scenario)


def test_a_hello_that_came_before_the_api_died_is_answered_by_the_next_one(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command = str(rig.ask("worker", desk.emergency, LOCK))
        with rig.records.change() as db:  # it had stored the hello, and nothing more
            request = store.get(db, UnlockRequest, command)
            assert request is not None
            known = msgspec.structs.replace(request, hello=rig.hello(), greeted_at=rig.now())
            store.put(db, "UnlockRequest", command, known)
            db.execute(store.command.update().where(store.command.c.id == command).values(state="greeted"))
        await asyncio.sleep(1.2)
        assert isinstance(rig.orders[-1], WriteGrant)

    play(tmp_path, scenario)


def test_a_hello_nobody_could_answer_in_time_times_out(tmp_path: Path) -> None:
    async def scenario(rig: Rig, signer: Slow) -> None:
        command = str(rig.ask("worker", desk.emergency, LOCK))
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(desk.UNLOCK_LIFE_S + 4)
        assert rig.state_of(command, "worker")["state"] == "timed_out"
        signer.may.set()
        await asyncio.sleep(1)
        assert not [c for c in rig.orders if isinstance(c, WriteGrant)]  # too late is never

    with_slow(tmp_path, scenario)


def test_an_order_for_a_clock_that_is_right_by_now_is_simply_done(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        with rig.records.change() as db:
            lock = store.get(db, Lock, LOCK)
            assert lock is not None
            order = lock_orders.greet(db, rig.office, lock, GrantKind.SET_TIME)
        rig.office.changed()
        await asyncio.sleep(0.1)
        await rig.send(1, greeted(rig, order))
        await asyncio.sleep(0.1)
        with rig.records.look() as db:
            state = db.execute(sa.select(store.command.c.state).where(store.command.c.id == order)).scalar()
        assert state == "done"
        assert rig.events("GrantIssued") == rig.events("GrantRefused") == []

    play(tmp_path, scenario)


def test_an_opening_that_ended_well_is_followed_by_nothing_where_nothing_is_due(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        command = str(rig.ask("worker", desk.emergency, LOCK))
        await asyncio.sleep(0.1)
        await rig.send(1, greeted(rig, command))
        await asyncio.sleep(0.1)
        write = rig.orders[-1]
        assert isinstance(write, WriteGrant)
        used = GrantUsed(**about(rig, "u1", write.id), lock=LOCK, space=SPACE, grant=write.grant, kind=3)  # type: ignore[arg-type]
        await rig.send(2, used)
        await asyncio.sleep(0.5)
        assert sum(isinstance(c, GreetLock) for c in rig.orders) == 1

    play(tmp_path, scenario)


async def test_an_answer_the_records_could_not_take_is_asked_for_again(tmp_path: Path) -> None:
    rig, kept = Rig(tmp_path), list[str]()

    async def run(work: Callable[[], T]) -> T:
        if getattr(work, "__name__", "") == "<lambda>":  # what keeps an answer
            kept.append("asked")
            if len(kept) == 1:
                raise RecordsUnavailable("for a moment")
        return work()

    with rig.records.change() as db:
        command = desk.emergency(db, rig.office, rig.person("worker"), LOCK)
        request = store.get(db, UnlockRequest, command)
        assert request is not None
        store.put(db, "UnlockRequest", command, msgspec.structs.replace(request, hello=rig.hello(), greeted_at=rig.now()))
        db.execute(store.command.update().where(store.command.c.id == command).values(state="greeted"))
    issuing = Issuing(rig.office, rig.signer, run)
    task = asyncio.create_task(issuing.run())
    for _ in range(10):
        issuing.wake()
        await asyncio.sleep(0.01)
    task.cancel()
    assert (len(kept), len(rig.events("GrantIssued"))) == (2, 1)
    rig.close()
