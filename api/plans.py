"""Every site's plan: made anew when something it is made of has changed, signed, kept, and repeated where it did not arrive."""

import hashlib
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
import structlog

from api import store
from api.office import Office
from manway.codec_mqtt import SignedPlan, encode, pack_plan
from manway.entities import Instrument, Lock, Notice, Plan, Space
from manway.ids import GrantKind
from manway.permit import HOLDING
from manway.runtime.signing import SigningKey

REPEAT_S = 10.0
"""(choice) A gateway's picture follows a new plan within a second or two; one that still shows another after this lacks it."""
MOST_BYTES = 60_000
"""`pipeline.md` §2.1: our own limit of a message, below every broker's."""
_HEARD_S = 5.0  # a gateway silent for longer has its plan waiting in the broker, retained
_log = structlog.get_logger("plans")


class Plans:
    """The plans of an installation's sites. All but `build` change what is kept; one thread calls them."""

    def __init__(self, office: Office, key: SigningKey, sites: Sequence[str]) -> None:
        self._office, self._key, self._sites = office, key, sites
        self._behind: dict[str, int] = {}  # by site: how many changes of the records its newest plan knows
        self._unsent: set[str] = set()
        self._newest: dict[str, int] = {}
        self._sent_at: dict[str, float] = {}

    def due(self) -> list[tuple[str, bytes]]:
        """Return (site, signed bytes) of every plan that has to go out now."""
        out = list[tuple[str, bytes]]()
        for site in self._sites:
            changes = self._office.records.changes[site]
            again = self._lacks(site)
            if self._behind.get(site) != changes or again:
                with self._office.records.look() as db:
                    plan = self.build(db, site)
                payload = self.sign(site, plan, again=again)
                self._behind[site] = changes
            else:
                payload = self._kept(site) if site in self._unsent else None
            if payload is not None:
                self._unsent.add(site)
                out.append((site, payload))
        return out

    def sent(self, site: str) -> None:
        """Note that the broker's client has the newest plan of a site."""
        self._unsent.discard(site)
        self._sent_at[site] = self._office.now()
        with self._office.records.change() as db:
            db.execute(store.plan.update().where(store.plan.c.site == site).values(sent=True))

    def build(self, db: sa.Connection, site: str) -> Plan:
        """Return what the records say of a site, as its gateway needs it; still without version and time."""
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

    def sign(self, site: str, plan: Plan, *, again: bool = False) -> bytes | None:
        """Return the signed bytes of a plan that differs from the last one, that was never sent, or is wanted `again`."""
        digest = hashlib.sha256(encode(plan)).hexdigest()
        shown = self._shown(site)
        with self._office.records.change() as db:
            last = db.execute(sa.select(store.plan).where(store.plan.c.site == site)).one_or_none()
            # A gateway takes no plan that is not above its own: after records were restored, ours must catch up with it.
            if last is not None and last.digest == digest and shown <= last.version:
                self._newest[site] = last.version
                return bytes(last.body) if again or not last.sent else None
            version = max(last.version if last else 0, shown) + 1
            body = pack_plan(msgspec.structs.replace(plan, version=version, made_at=self._office.now()))
            signed = encode(SignedPlan(self._key.kid.hex(), body, self._key.sign_raw(body)))
            if len(signed) > MOST_BYTES:
                fix = "divide the site: give some of its spaces a site and a gateway of their own"
                _log.error("plan too large to send; the gateway goes on by its last one", site=site, bytes=len(signed), fix=fix)
                return None
            row = store.insert(db, store.plan).values(site=site, version=version, digest=digest, body=signed, sent=False)
            changed = {"version": version, "digest": digest, "body": signed, "sent": False}
            db.execute(row.on_conflict_do_update(index_elements=["site"], set_=changed))
        self._newest[site] = version
        return signed

    def _kept(self, site: str) -> bytes | None:
        with self._office.records.look() as db:
            body = db.execute(sa.select(store.plan.c.body).where(store.plan.c.site == site)).scalar()
        return None if body is None else bytes(body)

    def _shown(self, site: str) -> int:
        """Return the version of the plan that a site's gateway says it has, 0 before its first picture."""
        state = self._office.pictures.state.get(site)
        return state.plan_version if state is not None else 0

    def _lacks(self, site: str) -> bool:
        """Say whether a gateway that is heard shows another plan than the newest, long enough after that went out."""
        now, state = self._office.now(), self._office.pictures.state.get(site)
        age, sent_at = self._office.pictures.age_s(site, now), self._sent_at.get(site)
        if state is None or age is None or age > _HEARD_S or sent_at is None or now - sent_at < REPEAT_S:
            return False
        return state.plan_version != self._newest.get(site)
