"""MQTT <-> records: events are committed and then acknowledged; commands and plans go out from the records until answered.

What an event means for permits and grants happens in the same transaction that stores it.
"""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Callable

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert

from api import audit, desk, store
from api.facts import facts_for
from api.office import Office, UnlockRequest
from manway.catalogue import CATALOGUE
from manway.checks import grant_life_s
from manway.codec_mqtt import (
    Acknowledgement,
    ApiHeartbeat,
    EventBatch,
    Heartbeat,
    SignedPlan,
    SiteState,
    decode,
    decode_command,
    encode,
)
from manway.entities import Instrument, Lock, Notice, PermitState, Person, Plan, Space
from manway.errors import ActionRefused, DecodeRejected
from manway.events import (
    AlarmRaised,
    AnyEvent,
    CommandRefused,
    EvacuationOrdered,
    Event,
    GrantFailed,
    GrantIssued,
    GrantRefused,
    GrantUsed,
    LockGreeted,
    PersonEntered,
    PressAwaited,
    UnlockUnconfirmed,
)
from manway.ids import GrantKind, derived_id
from manway.permit import HOLDING, PermitSignal
from manway.runtime.ports import Bus, Message, Run
from manway.runtime.signing import SigningKey
from manway.topics import parse, root

_log = structlog.get_logger("bridge")
_RESEND_S = 2.0
_ENGINE_STANDS_S = 5.0  # `trust.md` 7.2


def _call(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(wake)


def _raw(digits: str) -> bytes:
    """Return the bytes behind hex digits, none when there are no digits: the signer then refuses the hello."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


class Bridge:
    """Keeps the records and the gateways in step."""

    def __init__(self, office: Office, bus: Bus, plan_key: SigningKey, sites: list[str], run: Run) -> None:
        self._office, self._bus, self._plan_key, self._sites, self._run = office, bus, plan_key, sites, run
        self._wake = asyncio.Event()
        self._boot = int(office.now())

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        self._office.on_change(lambda: _call(loop, self._wake.set))
        self._office.seq = await self._run(self._newest)
        async with self._bus, asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._send())
            group.create_task(self._beat())

    def _newest(self) -> int:
        with self._office.records.look() as db:
            return store.last_seq(db)

    async def _listen(self) -> None:
        async for batch in self._bus.batches():
            for message in batch.messages:
                try:
                    await self._take(message)
                except DecodeRejected as error:
                    _log.warning("message rejected", source=error.source, reason=error.reason)
            await batch.ack()

    async def _take(self, message: Message) -> None:
        address, pictures, now = parse(message.topic), self._office.pictures, self._office.now()
        match address.name:
            case "gw/heartbeat":
                beat = decode(message.payload, Heartbeat, message.topic)
                # A pulse without a working engine behind it is none (`trust.md` 7.2).
                if not beat.down and not message.retained and beat.engine_age_s <= _ENGINE_STANDS_S:
                    pictures.heard_at[address.site] = now
            case "gw/state":
                state = decode(message.payload, SiteState, message.topic)
                if state.site != address.site:
                    raise DecodeRejected(message.topic, f"the picture is of {state.site[:32]}")
                pictures.take(state)  # no sign of life: it may have waited in the broker; the heartbeat never does
            case "gw/event":
                batch = decode(message.payload, EventBatch, message.topic)
                if foreign := {e.site for e in batch.e} - {address.site}:
                    raise DecodeRejected(message.topic, f"events of {', '.join(sorted(foreign))[:96]}")
                seq = await self._run(lambda: self._commit(batch))
                await self._bus.publish(f"{root(address.site)}api/ack", encode(Acknowledgement(batch.jid, seq)), qos=0)
                self._spread()
                self._wake.set()
            case _:
                pass

    def _spread(self) -> None:
        """Wake every page's stream."""
        self._office.news.set()
        self._office.news = asyncio.Event()

    def _commit(self, batch: EventBatch) -> int:
        """Store what is new of a batch and what it means, in one transaction; return how far the journal is known."""
        with self._office.records.change() as db:
            known = db.execute(sa.select(store.uplink.c.seq).where(store.uplink.c.jid == batch.jid)).scalar() or 0
            if batch.first > known + 1:
                return int(known)
            for event in batch.e[max(0, known + 1 - batch.first) :]:
                if store.add_event(db, event) is not None:
                    self._mean(db, event)
            seq = max(int(known), batch.first + len(batch.e) - 1)
            row = insert(store.uplink).values(jid=batch.jid, seq=seq)
            db.execute(row.on_conflict_do_update(index_elements=["jid"], set_={"seq": seq}))
            self._office.seq = store.last_seq(db)
            return seq

    # -- what an event means ------------------------------------------------------------------------------------------

    def _mean(self, db: sa.Connection, event: AnyEvent) -> None:
        match event:
            case LockGreeted():
                self._sign(db, event)
            case GrantUsed():
                used = store.grant.c.id == event.grant
                db.execute(store.grant.update().where(used).values(used_at=event.at))
                audit.append(db, event.at, "lock", "GrantUsed", event.lock, encode(event))
                if event.kind == GrantKind.ENTRY:
                    self._shift(db, event.space, PermitSignal.START, {PermitState.READY}, event)
            case PersonEntered():
                self._shift(db, event.space, PermitSignal.START, {PermitState.READY}, event)
            case EvacuationOrdered():
                self._shift(db, event.space, PermitSignal.HALT, {PermitState.ACTIVE}, event)
            case AlarmRaised(kind=kind) if CATALOGUE[kind].voids_tests:
                self._shift(db, event.space, PermitSignal.VOID, {PermitState.READY}, event)
            case _:
                pass
        self._settle(db, event)

    def _shift(self, db: sa.Connection, space: str, signal: PermitSignal, states: set[PermitState], event: Event) -> None:
        for permit in store.permits(db, space=space, site=event.site):
            if permit.state in states:
                desk.shift(db, self._office, permit, signal, by="", cause=event.id)

    def _settle(self, db: sa.Connection, event: AnyEvent) -> None:
        """Answer the command behind an event: done, or refused with its reason."""
        if not event.cause or isinstance(event, (LockGreeted, PressAwaited)):
            return
        state, result = "done", event.id
        if isinstance(event, (CommandRefused, GrantRefused, GrantFailed, UnlockUnconfirmed)):
            state, result = "refused", getattr(event, "reason", "lock.unconfirmed")
        table = store.command
        row = db.execute(sa.select(table.c.root).where(table.c.id == event.cause)).scalar()
        if row is None:
            return
        related = (table.c.root == row) & table.c.state.in_(("pending", "answered"))
        db.execute(table.update().where(related).values(state=state, result=result))

    def _sign(self, db: sa.Connection, event: LockGreeted) -> None:
        """Let the signer decide on an unlock whose hello has come; its refusal is an event with all failures."""
        office, request = self._office, store.get(db, UnlockRequest, event.cause)
        lock = store.get(db, Lock, event.lock)
        pending = (
            (store.command.c.id == event.cause) & (store.command.c.state == "pending") & (store.command.c.exp >= office.now())
        )
        waits = db.execute(sa.select(store.command.c.id).where(pending)).scalar() is not None
        if request is None or lock is None or not waits:
            return
        kind, by = GrantKind(request.kind), store.get(db, Person, request.by)
        facts = None
        if kind is not GrantKind.EMERGENCY:
            permit, space = desk.permit_of(db, request.permit), desk.space_of(db, request.space)
            hello = (_raw(event.hello), event.at)
            facts = facts_for(office, db, permit, space, lock=request.lock, kind=kind, by=request.by, hello=hello)
        try:
            life = grant_life_s(facts, office.timings.grant_life_s)
            cti, message = office.signer.sign(facts, kind, by.number if by else 0, lock, _raw(event.hello), life)
        except ActionRefused as error:
            desk.refuse_grant(db, office, request, error.failures)
            db.execute(store.command.update().where(pending).values(state="refused", result="CHECKS"))
            return
        now = office.now()
        issued = GrantIssued(
            id=derived_id("GrantIssued", request.id),
            at=now,
            site=request.site,
            cause=request.id,
            lock=request.lock,
            permit=request.permit,
            grant=cti,
            kind=request.kind,
            holder=request.by,
            failures=desk.failing_anyway(db, office, request) if kind is GrantKind.EMERGENCY else [],
        )
        store.add_event(db, issued)
        audit.append(db, now, request.by, "GrantIssued", request.lock, encode(issued))
        row = {"id": cti, "permit": request.permit, "lock": request.lock, "kind": request.kind, "holder": request.by}
        db.execute(store.grant.insert().values(row | {"issued_at": now, "used_at": None}))
        # Answered, not done: no second hello may take the place of the challenge this grant answers, and how it ends is open.
        db.execute(store.command.update().where(pending).values(state="answered"))
        desk.write_grant(db, office, request, cti, message)

    # -- outwards -----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            outgoing = await self._run(self._due)
            for topic, payload, retain, done in outgoing:
                await self._bus.publish(topic, payload, retain=retain)
                await self._run(done)
            self._office.seq = await self._run(self._newest)
            self._spread()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._wake.wait()

    def _due(self) -> list[tuple[str, bytes, bool, Callable[[], None]]]:
        """Return what must go out now, each with what to note once the broker's client has it."""
        if not self._bus.connected:
            return []
        self._expire()
        now, out = self._office.now(), list[tuple[str, bytes, bool, Callable[[], None]]]()
        with self._office.records.look() as db:
            plans = [(site, self._plan(db, site)) for site in self._sites]
            table = store.command
            rows = db.execute(sa.select(table.c.id, table.c.site, table.c.body).where(
                (table.c.state == "pending") & (table.c.exp >= now) & (table.c.sent_at <= now - _RESEND_S)
            )).all()  # fmt: skip
        for site, plan in plans:
            payload = self._fresh_plan(site, plan)
            if payload is not None:
                out.append((f"{root(site)}api/plan", payload, True, functools.partial(self._plan_sent, site)))
        for key, site, body in rows:
            decode_command(body, "records")
            out.append((f"{root(site)}api/cmd", body, False, functools.partial(self._command_sent, key)))
        return out

    def _command_sent(self, key: str) -> None:
        with self._office.records.change() as db:
            db.execute(store.command.update().where(store.command.c.id == key).values(sent_at=self._office.now()))

    def _plan_sent(self, site: str) -> None:
        with self._office.records.change() as db:
            db.execute(store.plan.update().where(store.plan.c.site == site).values(sent=True))

    def _expire(self) -> None:
        """End what time has ended: commands nobody answered, permits past their end with nobody inside."""
        office, now = self._office, self._office.now()
        with office.records.change() as db:
            table = store.command
            late = (table.c.state == "pending") & (table.c.exp < now - _RESEND_S)
            db.execute(table.update().where(late).values(state="timed_out", result="command.timed_out"))
            for state in (PermitState.APPROVED, PermitState.READY, PermitState.SUSPENDED):
                for permit in store.permits(db, state=state.value):
                    if permit.end < now:
                        with contextlib.suppress(ActionRefused):
                            desk.shift(db, office, permit, PermitSignal.EXPIRE, by="", cause=derived_id("end", permit.id))

    def _plan(self, db: sa.Connection, site: str) -> Plan:
        used = store.grant.c.used_at
        # What still lets people in: an ENTRY grant of a permit that holds its space. Older ones would excuse a forced lock.
        holding = store.permit_table.c.holding & (store.permit_table.c.id == store.grant.c.permit)
        entered = used.is_not(None) & (store.grant.c.kind == int(GrantKind.ENTRY)) & holding
        spent = db.execute(sa.select(store.grant.c.lock, store.grant.c.id).where(entered).order_by(used))
        spaces = store.every(db, Space, site=site)
        locks = store.every(db, Lock, site=site)
        mine = {lock.device for lock in locks}
        return Plan(
            site=site,
            version=0,
            made_at=0.0,
            profile=self._office.limits.profile,
            limits_version=self._office.limits.version,
            spaces=spaces,
            locks=locks,
            instruments=store.every(db, Instrument, site=site),
            permits=[p for p in store.permits(db, site=site) if p.state in HOLDING],
            used_grants={lock: key for lock, key in spent if lock in mine},
            notices=store.every(db, Notice, site=site),
        )

    def _fresh_plan(self, site: str, plan: Plan) -> bytes | None:
        """Return the signed bytes of a plan that differs from the last one sent, or that was never sent."""
        digest = hashlib.sha256(encode(plan)).hexdigest()
        with self._office.records.change() as db:
            last = db.execute(sa.select(store.plan).where(store.plan.c.site == site)).one_or_none()
            if last is not None and last.digest == digest:
                return None if last.sent else bytes(last.body)
            version = (last.version if last else 0) + 1
            body = encode(msgspec.structs.replace(plan, version=version, made_at=self._office.now()))
            signed = encode(SignedPlan(self._plan_key.kid.hex(), body, self._plan_key.sign_raw(body)))
            row = insert(store.plan).values(site=site, version=version, digest=digest, body=signed, sent=False)
            changed = {"version": version, "digest": digest, "body": signed, "sent": False}
            db.execute(row.on_conflict_do_update(index_elements=["site"], set_=changed))
            return signed

    async def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            beat = encode(ApiHeartbeat(self._boot, count, self._office.now()))
            for site in self._sites:
                await self._bus.publish(f"{root(site)}api/heartbeat", beat, qos=0)
            # By the clock that the gateway's deadline runs on: a yard that plays faster also beats faster.
            await self._office.clock.sleep_until(self._office.now() + 1.0)
