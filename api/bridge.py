"""MQTT <-> records: events are committed and then acknowledged; commands and plans go out from the records until answered.

What an event means for permits and grants (`api.meanings`) happens in the same transaction that stores it. While the records
are away nothing is committed and nothing acknowledged: the gateways keep what they sent and send it again. Heartbeats and
pictures are taken all the while, because pages live by them.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from api import desk, store
from api.dialects import RecordsUnavailable
from api.issuing import Issuing
from api.meanings import Meanings
from api.office import Office
from api.plans import Plans
from api.signer import Signing
from manway.codec_mqtt import Acknowledgement, ApiHeartbeat, EventBatch, decode, decode_command, encode
from manway.entities import Permit, PermitState
from manway.errors import ActionRefused, DecodeRejected
from manway.ids import derived_id
from manway.permit import PermitSignal
from manway.runtime.ports import Bus, Message, Run
from manway.runtime.signing import SigningKey
from manway.topics import parse, root

_log = structlog.get_logger("bridge")
_RESEND_S = 2.0
_BACK_OFF_S = (1.0, 2.0, 4.0, 5.0)  # (choice) people wait in front of a lock: no longer than this once the records are back

Outgoing = tuple[str, bytes, bool, Callable[[], None]]


def _call(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(wake)


class Bridge:
    """Keeps the records and the gateways in step."""

    def __init__(self, office: Office, bus: Bus, plan_key: SigningKey, sites: list[str], run: Run, signer: Signing) -> None:
        self._office, self._bus, self._sites, self._run = office, bus, sites, run
        self._plans, self._meanings = Plans(office, plan_key, sites), Meanings(office)
        self._issuing = Issuing(office, signer, run)
        self._wake = asyncio.Event()
        self._boot = int(office.now())
        self._away, self._failures = False, 0
        self._owed: dict[str, str] = {}  # by site: the journal whose events came while the records were away

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        self._office.on_change(lambda: _call(loop, self._wake.set))
        with contextlib.suppress(RecordsUnavailable):
            self._office.seq = await self._run(self._newest)
        async with self._bus, asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._send())
            group.create_task(self._beat())
            group.create_task(self._issuing.run())

    def _newest(self) -> int:
        with self._office.records.look() as db:
            return store.last_seq(db)

    def _spread(self) -> None:
        """Wake every page's stream."""
        self._office.news.set()
        self._office.news = asyncio.Event()

    # -- inwards ------------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for batch in self._bus.batches():
            for message in batch.messages:
                try:
                    await self._take(message)
                except DecodeRejected as error:
                    _log.warning("message rejected", source=error.source, reason=error.reason)
                except Exception:  # noqa: BLE001  one gateway must not end the service of all; its events stay unanswered
                    _log.exception("message not handled", topic=message.topic)
            await batch.ack()

    async def _take(self, message: Message) -> None:
        if self._office.pictures.hear(message, self._office.now()):
            return
        address = parse(message.topic)
        if address.name == "gw/event":
            batch = decode(message.payload, EventBatch, message.topic)
            if foreign := {e.site for e in batch.e} - {address.site}:
                raise DecodeRejected(message.topic, f"events of {', '.join(sorted(foreign))[:96]}")
            await self._store(address.site, batch)

    async def _store(self, site: str, batch: EventBatch) -> None:
        """Commit a batch and answer it; while the records are away, only remember that the site must be answered."""
        if self._away:
            self._owed[site] = batch.jid
            return
        try:
            seq, self._office.seq = await self._run(lambda: self._commit(batch))
        except RecordsUnavailable as error:
            self._owed[site] = batch.jid
            self._went(error)
            return
        except sa.exc.DataError as error:  # a text that PostgreSQL cannot hold, such as a zero byte in an id
            raise DecodeRejected(f"events of {site}", str(error.orig)[:200]) from error
        self._failures = 0
        self._issuing.wake()
        await self._bus.publish(f"{root(site)}api/ack", encode(Acknowledgement(batch.jid, seq)), qos=0)
        self._spread()
        self._wake.set()

    def _commit(self, batch: EventBatch) -> tuple[int, int]:
        """Store what is new of a batch and what it means, in one transaction.

        It must follow on what is known; where records were lost or restored, on what the journal still has.

        Returns:
            How far the journal is known, and the newest row of the log.
        """
        with self._office.records.change() as db:
            known = self._known(db, batch.jid)
            if known + 1 < batch.first <= batch.oldest:  # what is between, nobody has any more
                _log.warning("events are gone", gateway=batch.gw, journal=batch.jid, first=known + 1, last=batch.first - 1)
            if batch.first <= max(known + 1, batch.oldest):
                for event in batch.e[max(0, known + 1 - batch.first) :]:
                    if store.add_event(db, event) is not None:
                        self._meanings.take(db, event)
                known = max(known, batch.first + len(batch.e) - 1)
                row = store.insert(db, store.uplink).values(jid=batch.jid, seq=known)
                db.execute(row.on_conflict_do_update(index_elements=["jid"], set_={"seq": known}))
            newest = store.last_seq(db)
        return known, newest

    def _known(self, db: sa.Connection, jid: str) -> int:
        return int(db.execute(sa.select(store.uplink.c.seq).where(store.uplink.c.jid == jid)).scalar() or 0)

    # -- the records away and back ------------------------------------------------------------------------------------

    def _went(self, error: RecordsUnavailable) -> None:
        if not self._away:
            _log.error("records away; events stay with their gateways, live pages go on", reason=error.reason)
        self._away, self._failures = True, self._failures + 1

    async def _returned(self) -> None:
        """Tell every gateway that waits from where to send again: below what it has in flight, an answer asks for that."""
        _log.info("records answer again")
        self._away = False
        owed, self._owed = self._owed, {}
        for site, jid in owed.items():
            seq = await self._run(functools.partial(self._how_far, jid))
            await self._bus.publish(f"{root(site)}api/ack", encode(Acknowledgement(jid, seq)), qos=0)

    def _how_far(self, jid: str) -> int:
        with self._office.records.look() as db:
            return self._known(db, jid)

    # -- outwards -----------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            self._wake.clear()
            pause = 1.0
            try:
                outgoing = await self._run(self._due)
                for topic, payload, retain, done in outgoing:
                    await self._bus.publish(topic, payload, retain=retain)
                    await self._run(done)
                self._office.seq = await self._run(self._newest)
                if self._away:
                    await self._returned()
            except RecordsUnavailable as error:
                self._went(error)
                pause = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S)) - 1]
            self._spread()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _due(self) -> list[Outgoing]:
        """Return what must go out now, each with what to note once the broker's client has it."""
        if not self._bus.connected:
            return []
        self._expire()
        now, out = self._office.now(), list[Outgoing]()
        for site, payload in self._plans.due():
            out.append((f"{root(site)}api/plan", payload, True, functools.partial(self._plans.sent, site)))
        with self._office.records.look() as db:
            table = store.command
            rows = db.execute(sa.select(table.c.id, table.c.site, table.c.body).where(
                (table.c.state == "pending") & (table.c.exp >= now) & (table.c.sent_at <= now - _RESEND_S)
            )).all()  # fmt: skip
        for key, site, body in rows:
            decode_command(body, "records")
            out.append((f"{root(site)}api/cmd", body, False, functools.partial(self._command_sent, key)))
        return out

    def _command_sent(self, key: str) -> None:
        with self._office.records.change() as db:
            db.execute(store.command.update().where(store.command.c.id == key).values(sent_at=self._office.now()))

    def _expire(self) -> None:
        """End what time has ended: commands nobody answered, permits past their end with nobody inside."""
        office, now, table = self._office, self._office.now(), store.command
        late = table.c.state.in_(desk.WAITING) & (table.c.exp < now - _RESEND_S)
        with office.records.look() as db:
            ended = self._ended(db, now)
            if not ended and db.execute(sa.select(table.c.id).where(late).limit(1)).scalar() is None:
                return
        with office.records.change() as db:
            db.execute(table.update().where(late).values(state="timed_out", result="command.timed_out"))
            for permit in self._ended(db, now):
                with contextlib.suppress(ActionRefused):
                    desk.shift(db, office, permit, PermitSignal.EXPIRE, by="", cause=derived_id("end", permit.id))

    def _ended(self, db: sa.Connection, now: float) -> list[Permit]:
        """Return the permits that end by themselves and whose end has passed; some may stay, for want of a known count."""
        waiting = (PermitState.APPROVED, PermitState.READY, PermitState.SUSPENDED)
        return [permit for state in waiting for permit in store.permits(db, state=state.value) if permit.end < now]

    async def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            beat = encode(ApiHeartbeat(self._boot, count, self._office.now()))
            for site in self._sites:
                await self._bus.publish(f"{root(site)}api/heartbeat", beat, qos=0)
            # By the clock that the gateway's deadline runs on: a yard that plays faster also beats faster.
            await self._office.clock.sleep_until(self._office.now() + 1.0)
