"""From a lock's hello to its grant: the signer is asked, and what it answers is kept, told and sent on its way.

Nothing waits for the signer: the hello is committed and acknowledged before it is asked, no transaction is open meanwhile, and
one opening's answer does not hold up another's. What a dying api left half done is found again in the records.
"""

import asyncio
import contextlib

import sqlalchemy as sa
import structlog

from api import audit, desk, lock_orders, store
from api.dialects import RecordsUnavailable
from api.office import Office, UnlockRequest
from api.signer import SignGrant, Signing, SignRotation, SignTime
from api.signer.messages import Introduction, Signed
from manway.codec_mqtt import encode
from manway.commands import WriteGrant
from manway.errors import ActionRefused, Failure
from manway.events import GrantIssued
from manway.ids import GrantKind, derived_id
from manway.runtime.ports import Run

_LOOK_S = 1.0  # (choice) how soon a hello is found again that the records could not take the answer to
_INTRODUCE_S = 5.0  # (choice) a signer that is gone is known before somebody stands in front of a lock
_log = structlog.get_logger("issuing")


class Issuing:
    """Asks the signer for every greeted lock, and knows whether there is one."""

    def __init__(self, office: Office, signer: Signing, run: Run) -> None:
        self._office, self._signer, self._run = office, signer, run
        self._wake = asyncio.Event()
        self._under_way = set[str]()

    def wake(self) -> None:
        """Look at once: a hello may have come."""
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            while True:
                self._wake.clear()
                with contextlib.suppress(RecordsUnavailable):  # the bridge says so; what was greeted stays greeted
                    for request in await self._run(self._greeted):
                        if request.id not in self._under_way:
                            self._under_way.add(request.id)
                            group.create_task(self._decide(request))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._wake.wait()

    def _greeted(self) -> list[UnlockRequest]:
        with self._office.records.look() as db:
            waiting = db.execute(sa.select(store.command.c.id).where(store.command.c.state == "greeted")).scalars().all()
            return [request for key in waiting if (request := store.get(db, UnlockRequest, key)) is not None]

    async def _decide(self, request: UnlockRequest) -> None:
        """Ask the signer about one greeted lock, keep its answer; a refusal leaves the challenge free to set a wrong clock."""
        try:
            answer = await self._ask(request)
            await self._run(lambda: self._keep(request, answer))
            if not isinstance(answer, Signed) and lock_orders.is_clock_wrong(request):
                await self._set_clock(request)
            self._office.changed()
        except RecordsUnavailable as error:
            _log.warning("answer of the signer not kept; it is asked again", reason=error.reason)
        finally:
            self._under_way.discard(request.id)

    async def _set_clock(self, refused: UnlockRequest) -> None:
        """Have the clock of a refused opening's lock set; the order is ours before it is entered, so that no look finds it."""
        key = lock_orders.clock_order_id(refused)
        self._under_way.add(key)
        try:
            order = await self._run(lambda: self._clock_order(refused))
            signed = await self._ask(order)
            await self._run(lambda: self._keep(order, signed))
        finally:
            self._under_way.discard(key)

    async def _ask(self, request: UnlockRequest) -> Signed | list[Failure]:
        try:
            signed = await self._signer.sign(_question(request))
        except ActionRefused as error:
            self._know_fault("signer.silent" if any(f.key == "signer.silent" for f in error.failures) else "")
            return error.failures
        self._know_fault("")
        return signed

    def _clock_order(self, request: UnlockRequest) -> UnlockRequest:
        """Enter the order for a clock, greeted already: the hello it answers is that of a refused opening."""
        with self._office.records.change() as db:
            return lock_orders.enter_clock_order(db, self._office, request)

    # -- what it answers ----------------------------------------------------------------------------------------------

    def _keep(self, request: UnlockRequest, answer: Signed | list[Failure]) -> None:
        office = self._office
        mine = (store.command.c.id == request.id) & (store.command.c.state == "greeted")
        with office.records.change() as db:
            if db.execute(sa.select(store.command.c.id).where(mine)).scalar() is None:
                return  # it has timed out, or was settled meanwhile
            if isinstance(answer, Signed):
                self._issue(db, request, answer)
                # Answered, not done: no second hello may take the place of the challenge this grant answers; its end is open.
                db.execute(store.command.update().where(mine).values(state="answered"))
                return
            if [failure.key for failure in answer] == ["signer.clock_right"]:  # it needs no order any more
                db.execute(store.command.update().where(mine).values(state="done"))
                return
            desk.refuse_grant(db, office, request, answer)
            db.execute(store.command.update().where(mine).values(state="refused", result="CHECKS"))

    def _issue(self, db: sa.Connection, request: UnlockRequest, signed: Signed) -> None:
        office, now, kind = self._office, self._office.now(), GrantKind(request.kind)
        issued = GrantIssued(
            id=derived_id("GrantIssued", request.id),
            at=now,
            site=request.site,
            cause=request.id,
            lock=request.lock,
            permit=request.permit,
            grant=signed.cti,
            kind=request.kind,
            holder=request.by,
            failures=desk.failing_anyway(db, office, request) if kind is GrantKind.EMERGENCY else [],
        )
        store.add_event(db, issued)
        audit.append(db, now, request.by or "system", "GrantIssued", request.lock, encode(issued))
        row = {"id": signed.cti, "permit": request.permit, "lock": request.lock, "kind": request.kind, "holder": request.by}
        db.execute(store.grant.insert().values(row | {"issued_at": now, "used_at": None}))
        command = WriteGrant(
            id=derived_id("WriteGrant", request.id),
            site=request.site,
            at=now,
            exp=now + office.timings.grant_life_s,  # as long as the lock's challenge
            by=request.by,
            lock=request.lock,
            space=request.space,
            grant=signed.cti,
            kind=request.kind,
            message=signed.message.hex(),
        )
        desk.send(db, command, root=request.id)

    # -- whether there is one -----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask every few seconds who the signer is, so that its silence is known before it is needed."""
        while True:
            try:
                self._know_fault(self._deafness(await self._signer.introduce()))
            except ActionRefused as error:
                self._know_fault(error.failures[0].key)
            await asyncio.sleep(_INTRODUCE_S)

    def _deafness(self, known: Introduction) -> str:
        """Say whether the signer misses a gateway that we hear: then it refuses what we would grant."""
        heard = self._office.pictures.heard_at
        return "signer.deaf" if any(site in heard for site in known.deaf) else ""

    def _know_fault(self, fault: str) -> None:
        if fault != self._office.signer_fault:
            (_log.error if fault else _log.info)("signer", fault=fault or "none")
            self._office.signer_fault = fault
            self._office.changed()


def _question(request: UnlockRequest) -> SignGrant | SignTime | SignRotation:
    match GrantKind(request.kind):
        case GrantKind.SET_TIME:
            return SignTime(request.lock, request.hello)
        case GrantKind.ROTATE_KEY:
            return SignRotation(request.rotation, request.lock, request.hello)
        case _:
            return SignGrant(request.permit, request.kind, request.lock, request.by, request.hello)
