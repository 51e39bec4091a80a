"""What a lock needs beside openings: the right time, the next key, a place in the records. Real bytes in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from api import auth, store
from firmware_sim.devices import AUTO_PRESS_S, Post
from firmware_sim.lock import Publish, VirtualLock
from firmware_sim.lock_keys import Slot
from firmware_sim.people import Row
from firmware_sim.scenario import WATCH, Story
from manway.entities import Bolt, Lock, Person
from manway.events import AlarmRaised, GrantIssued, GrantRefused, LockEnrolled, LockKeySet, LockTimeSet
from manway.ids import GrantKind
from manway.runtime.signing import load_public_key, verify
from tests.kit.clock import VirtualLoop
from tests.kit.locks import SECRET, counting_random, seeded_key
from tests.kit.site import RunningSite, a_site

NEW_LOCK = seeded_key(0xD0)
FIRST, SECOND = "manager", "second"
_keys = count(1)


def play(folder: Path, scenario: Callable[[RunningSite], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with a_site(folder) as site:
            with site.office.records.change() as db:
                second = Person("m2", 902, {"zh-CN": "乙", "en": "Second"}, ["manager"])
                store.put(db, "Person", second.id, second)
                auth.open_session(db, second.id, site.clock.now())
            site.api._people = {**site.api._people, SECOND: second}
            await asyncio.sleep(10)  # plans, births, first pictures
            await scenario(site)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


async def ask(site: RunningSite, account: str, path: str, body: Row | None = None, *, want: int = 200) -> Row:
    status, answer = await site.api.call(account, "POST", f"/api/v1/{path}", body or {}, f"test-key-{next(_keys)}")
    assert status == want, answer
    return answer


def alarms(site: RunningSite, space: str) -> list[str]:
    return [e.kind for e in site.events("AlarmRaised", space) if isinstance(e, AlarmRaised)]


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    for _ in range(int(within_s * 5)):
        if condition():
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"not within {within_s} s")


# ---- the clock


def test_a_lock_that_lost_its_time_refuses_once_is_set_and_opens(tmp_path: Path) -> None:
    async def scenario(site: RunningSite) -> None:
        yard = site.yard.scene("path")
        story = Story(site.yard, site.devices, site.cast, site.clock)
        path = await story.approved(yard)
        await site.devices.touch(yard.id, _power_cycle)
        await site.cast.see(WATCH, f"{path}/checks?kind=PREP", _all_pass)
        await ask(site, WATCH, f"{path.removeprefix('/api/v1/')}/unlock", {"lock": yard.lock, "kind": "PREP"}, want=202)
        await until(lambda: site.events("LockTimeSet"))
        (refused,) = site.events("GrantRefused")
        assert isinstance(refused, GrantRefused)
        assert [f.key for f in refused.failures] == ["lock.clock"]
        await ask(site, WATCH, f"{path.removeprefix('/api/v1/')}/unlock", {"lock": yard.lock, "kind": "PREP"}, want=202)
        await until(lambda: site.events("GrantUsed"))
        lock = site.devices.posts[yard.id].lock
        assert lock.body.bolt is Bolt.RETRACTED
        kinds = [GrantKind(e.kind).name for e in site.events("GrantIssued") if isinstance(e, GrantIssued)]
        assert kinds == ["SET_TIME", "PREP"]
        assert alarms(site, yard.id) == []

    play(tmp_path, scenario)


def test_a_clock_that_is_a_little_off_is_set_after_the_opening(tmp_path: Path) -> None:
    async def scenario(site: RunningSite) -> None:
        await site.devices.touch("n04", lambda post, now: post.lock.skew_clock(-4.0, now))
        await ask(site, "worker", "emergency-openings", {"lock": "lock-n04"}, want=202)
        await until(lambda: site.events("LockTimeSet"))
        told = [type(e).__name__ for e in site.events() if type(e).__name__ in ("GrantUsed", "LockTimeSet")]
        assert told == ["GrantUsed", "LockTimeSet"]  # nothing comes between a rescuer and the hatch
        (said,) = site.events("LockTimeSet")
        assert isinstance(said, LockTimeSet)
        assert alarms(site, "n04") == ["EMERGENCY_OPEN"]

    play(tmp_path, scenario)


def _power_cycle(post: Post, now: float) -> list[Publish]:
    post.lock.lose_power()
    return post.lock.reboot(now)


def _go_dark(post: Post, _: float) -> list[Publish]:
    post.lock.lose_power()
    return []


def _all_pass(answer: Row) -> bool:
    results = answer["results"]
    assert isinstance(results, list)
    return all(result["outcome"] != "failed" for result in results)


# ---- the keys


def test_two_managers_give_every_lock_its_next_key_and_it_serves_under_it(tmp_path: Path) -> None:
    async def scenario(site: RunningSite) -> None:
        rotation = await ask(site, FIRST, "keys/rotations", {"site": "yard-north", "role": "issuer"}, want=201)
        refused = await ask(site, FIRST, f"keys/rotations/{rotation['id']}/confirm", want=409)
        assert "two_persons" in str(refused) or "safety managers" in str(refused)
        await site.devices.touch("n06", _go_dark)  # away when it happens
        confirmed = await ask(site, SECOND, f"keys/rotations/{rotation['id']}/confirm")
        assert confirmed["done"] == []
        await until(lambda: len(_missing(site)) == 1)
        assert _missing(site) == ["lock-n06"]
        again = await ask(site, SECOND, f"keys/rotations/{rotation['id']}/confirm", want=409)
        assert "confirmed" in str(again)
        await site.devices.touch("n06", lambda post, now: post.lock.reboot(now))
        await asyncio.sleep(70)
        await ask(site, "worker", "emergency-openings", {"lock": "lock-n06"}, want=202)
        await until(lambda: not _missing(site))
        await ask(site, "worker", "emergency-openings", {"lock": "lock-n04"}, want=202)
        await until(lambda: site.devices.posts["n04"].lock.body.bolt is Bolt.RETRACTED)
        following = load_public_key(tmp_path / "keys" / "issuer-next.pub")
        keys = site.devices.posts["n04"].lock.body.keys
        assert (keys.held[Slot.ISSUER].public_key, Slot.NEXT_ISSUER in keys.held) == (following, False)  # the old one is erased
        keys_set = [e.lock for e in site.events("LockKeySet") if isinstance(e, LockKeySet)]
        assert sorted(set(keys_set)) == sorted(keys_set) == sorted(f"lock-n0{n}" for n in range(1, 7))
        assert alarms(site, "n05") == []

    play(tmp_path, scenario)


def _missing(site: RunningSite) -> list[str]:
    rows = site.api.get(FIRST, "/api/v1/keys/rotations")["items"]
    assert isinstance(rows, list)
    return sorted(rows[0]["missing"])


# ---- a new lock


def put_new_lock(site: RunningSite, secret: bytes = SECRET) -> Post:
    """Hang a lock from the factory at n05: it has no keys, and signs with one nobody knows."""
    post = site.devices.posts["n05"]
    post.lock = VirtualLock(
        public_key=NEW_LOCK.public_key,
        issuer_key=b"",
        site_key=b"",
        secret=secret,
        sign=NEW_LOCK.sign,
        verify=verify,
        random_bytes=counting_random(),
        flash=[],
        now=site.clock.now(),
        auto_press_s=AUTO_PRESS_S,
    )
    return post


async def enter_mode(site: RunningSite) -> None:
    await site.devices.touch("n05", lambda post, now: post.lock.open_case(now))
    await site.devices.touch("n05", lambda post, now: post.lock.hold_button(now))
    await asyncio.sleep(6)
    await site.devices.touch("n05", lambda post, now: post.lock.release_button(now))


async def agreed(site: RunningSite) -> str:
    body = {"space": "n05", "entrance": "n05-a", "device": "lock-n05"}
    with site.office.records.look() as db:
        space = store.every(db, type(site.yard.space[0].space()))
    entrance = next(s for s in space if s.id == "n05").entrances[0].id
    proposed = await ask(site, FIRST, "locks/enrolments", {**body, "entrance": entrance}, want=201)
    assert proposed["state"] == "proposed"
    key = str(proposed["id"])
    await ask(site, FIRST, f"locks/enrolments/{key}/confirm", want=409)
    await ask(site, "worker", f"locks/enrolments/{key}/secret", {"secret": SECRET.hex()}, want=409)
    assert (await ask(site, SECOND, f"locks/enrolments/{key}/confirm"))["state"] == "confirmed"
    return key


def state_of(site: RunningSite, key: str) -> tuple[object, object]:
    row = site.api.get("worker", f"/api/v1/locks/enrolments/{key}")
    return row["state"], row["failure"]


def test_a_new_lock_is_enrolled_by_two_managers_and_somebody_at_its_open_case(tmp_path: Path) -> None:
    async def scenario(site: RunningSite) -> None:
        post, key = put_new_lock(site), await agreed(site)
        await enter_mode(site)
        await ask(site, "worker", f"locks/enrolments/{key}/secret", {"secret": SECRET.hex()})
        await until(lambda: state_of(site, key)[0] in ("done", "failed"))
        assert state_of(site, key) == ("done", "")
        with site.office.records.look() as db:
            lock = store.get(db, Lock, "lock-n05")
        assert lock is not None
        assert (lock.public_key, lock.address, lock.space) == (NEW_LOCK.public_key, "", "n05")
        assert lock.advertisement_key == post.lock.body.advertisement_key != b""
        (told,) = site.events("LockEnrolled")
        assert isinstance(told, LockEnrolled)
        assert (told.lock, told.space, told.by) == ("lock-n05", "n05", "p01")
        await site.devices.touch("n05", lambda post, now: post.lock.close_case(now))
        await ask(site, "worker", "emergency-openings", {"lock": "lock-n05"}, want=202)
        await until(lambda: post.lock.body.bolt is Bolt.RETRACTED)
        assert site.office.enrolment_secrets == {}  # it is forgotten once it was used

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    ("secret", "in_mode", "failure"),
    [(bytes(16), True, "enrolment.refused"), (SECRET, False, "enrolment.not_in_mode")],
    ids=["a wrong secret", "nobody at the lock"],
)
def test_without_the_secret_and_an_open_case_nothing_is_enrolled_and_it_can_be_tried_again(
    secret: bytes,
    in_mode: bool,  # noqa: FBT001  a column of the table above
    failure: str,
    tmp_path: Path,
) -> None:
    async def scenario(site: RunningSite) -> None:
        post, key = put_new_lock(site), await agreed(site)
        if in_mode:
            await enter_mode(site)
        await ask(site, "worker", f"locks/enrolments/{key}/secret", {"secret": secret.hex()})
        await until(lambda: state_of(site, key)[0] in ("done", "failed"))
        assert state_of(site, key) == ("failed", failure)
        assert not any(post.lock.body.advertisement_key)
        with site.office.records.look() as db:
            lock = store.get(db, Lock, "lock-n05")
        assert lock is not None
        assert lock.public_key != NEW_LOCK.public_key
        await enter_mode(site)
        await ask(site, "worker", f"locks/enrolments/{key}/secret", {"secret": SECRET.hex()})
        await until(lambda: state_of(site, key)[0] in ("done", "failed"))
        assert state_of(site, key) == ("done", "")
        await ask(site, "worker", f"locks/enrolments/{key}/secret", {"secret": SECRET.hex()}, want=409)

    play(tmp_path, scenario)
