"""Fills a new installation with the training yard: keys, spaces, devices, people, and permits under way."""

import secrets
from pathlib import Path

import msgspec
import sqlalchemy as sa

from api import audit, auth, store
from manway.codec_ble import lock_id_of
from manway.entities import Expert, GasTest, Lock, Permit, PermitState, Signature, SiteEntry, Team, TestPoint
from manway.ids import GrantKind, derived_id
from manway.runtime import settings
from manway.runtime.secrets import new_code, write_private
from manway.runtime.signing import load_or_make_key
from manway.runtime.yard import Yard, YardSpace

OVERTIME_AFTER_S = 40.0  # long enough to start every process and go in first, short enough to see it happen
PERMIT_S = 2 * 3600.0
CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0}


def make_keys(keys: Path, yard: Yard) -> dict[str, bytes]:
    """Make every key of the yard and return the locks' public keys by device name."""
    (keys / "locks").mkdir(parents=True, exist_ok=True)
    for name in ("issuer", "issuer-next", "plan", "site", "site-next"):
        (keys / f"{name}.pub").write_bytes(load_or_make_key(keys / f"{name}.key").public_key)
    if not (keys / "panel.code").exists():
        write_private(keys / "panel.code", new_code())
    return {space.lock: load_or_make_key(keys / "locks" / f"{space.lock}.key").public_key for space in yard.space}


def seed_records(path: Path | str, yard: Yard, lock_keys: dict[str, bytes], now: float) -> dict[str, str]:
    """Write the yard into a new records database and return every account's fresh password."""
    passwords = {p.account: secrets.token_urlsafe(6) for p in yard.person if p.account}
    hashes = {account: auth.hash_password(password) for account, password in passwords.items()}
    records = store.Records(path)
    with records.change() as db:
        for site in yard.site:
            entry = SiteEntry(site.id, {"zh-CN": site.name["zh"], "en": site.name["en"]})
            store.put(db, "SiteEntry", site.id, entry, site=site.id)
        for person in yard.person:
            store.put(db, "Person", person.id, person.person(now))
            if person.account:
                account = auth.Account(person.account, person.id, hashes[person.account])
                store.put(db, "Account", person.account, account)
        for space in yard.space:
            key = lock_keys[space.lock]
            store.put(db, "Space", space.id, space.space(), site=space.site)
            store.put(db, "Lock", space.lock, Lock(space.lock, lock_id_of(key), key, space.id), site=space.site)
            device = space.device(now, on_air=space.instrument == yard.on_air)
            store.put(db, "Instrument", space.instrument, device, site=space.site)
        _rescue(db, yard, now)
        for number, scene in enumerate(("rising", "overtime", "silent"), 1):
            permit = _under_way(yard, yard.scene(scene), number, now)
            store.put_permit(db, permit)
            used = {"id": derived_id("seed", permit.id), "permit": permit.id, "lock": yard.scene(scene).lock, "holder": "p12"}
            db.execute(store.grant.insert().values(used | {"kind": int(GrantKind.ENTRY), "issued_at": now, "used_at": now}))
            audit.append(db, now, "seed", "PermitSeeded", permit.id)
    records.close()
    return passwords


def _rescue(db: sa.Connection, yard: Yard, now: float) -> None:
    """Write who and what can help: gear, teams, experts."""
    for gear in yard.gear:
        store.put(db, "Equipment", gear.id, gear.equipment(now))
    called: list[Team | Expert] = [*yard.team, *yard.expert]
    for who in called:
        names = {"zh-CN": who.name["zh"], "en": who.name["en"]}
        store.put(db, type(who).__name__, who.id, msgspec.structs.replace(who, name=names))


def _under_way(yard: Yard, space: YardSpace, number: int, now: float) -> Permit:
    """Return a drill that began ten minutes ago: approved, ventilated, tested, opened; its people are about to go in.

    Not under way: a gateway that hears of that first from its plan has lost its journal, and would believe nobody out.
    """
    began = now - 600
    limits = settings.limits("CN")
    points = [TestPoint(d, 120.0, dict(CLEAN)) for d in (1.0, space.depth_m / 2, space.depth_m - 0.5)]
    return Permit(
        id=derived_id("permit", space.id),
        number=f"{int(1970 + now / 31_556_952)}-{number:04d}",
        site=space.site,
        space=space.id,
        work="清淤演练 Desilting drill" if space.scene != "overtime" else "换泵演练 Pump exchange drill",
        drill=True,
        state=PermitState.READY,
        requester="p11",
        supervisor="p11",
        attendant="p12",
        tester="p12",
        entrants=yard.crew,
        instruments=[space.instrument],
        start=began,
        end=now + (OVERTIME_AFTER_S if space.scene == "overtime" else PERMIT_S),
        signatures=[Signature("supervisor", "p11", began), Signature("approver", "p13", began + 60)],
        ventilated_at=began + 120,
        gas_test=GasTest("p12", space.instrument, began + 300, points, limits.version, passed=True),
        task_s=PERMIT_S,
        profile=limits.profile,
    )
