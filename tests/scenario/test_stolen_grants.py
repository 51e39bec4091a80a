"""Somebody holds every grant that was ever sent: replayed, bent, used elsewhere, used late, it opens nothing and is told."""

import asyncio
from pathlib import Path

from firmware_sim.devices import Post
from firmware_sim.people import Row
from firmware_sim.scenario import WATCH, Story
from manway.entities import Bolt
from manway.events import GrantRefused
from tests.kit.clock import VirtualLoop
from tests.kit.site import RunningSite, a_site


def test_four_misuses_of_a_grant_are_four_refusals_each_an_event_with_its_reason(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        reasons, bolts = runner.run(_misuse(tmp_path))

    assert reasons == {
        "replayed after its use": ["LOCK_CHALLENGE"],
        "one bit altered": ["LOCK_SIGNATURE"],
        "at another lock": ["LOCK_OTHER_LOCK"],
        "61 s later": ["LOCK_AGE"],
    }
    assert bolts == {"one bit altered": Bolt.LOCKED, "at another lock": Bolt.LOCKED, "61 s later": Bolt.LOCKED}


async def _misuse(folder: Path) -> tuple[dict[str, list[str]], dict[str, Bolt]]:
    async with a_site(folder) as site:
        story = Story(site.yard, site.devices, site.cast, site.clock)
        yard = site.yard.scene("path")
        post, other = site.devices.posts[yard.id], site.devices.posts["n04"]
        path = await story.approved(yard)
        reasons, bolts = {}, {}

        async def unlock() -> None:
            await site.cast.see(WATCH, f"{path}/checks?kind=PREP", _all_pass)
            await site.cast.do(WATCH, f"{path}/unlock", {"lock": yard.lock, "kind": "PREP"})

        # On its way to the lock every grant passes the thief, who keeps it and, when told so, does not pass it on.
        post.thief = keep = _Thief()
        for name, bent in (("one bit altered", True), ("at another lock", False), ("61 s later", False)):
            async with asyncio.TaskGroup() as group:
                group.create_task(unlock())
                await keep.taken.wait()
                keep.taken.clear()
                grant = keep.stolen
                message = grant[:-1] + bytes([grant[-1] ^ 1]) if bent else grant
                if name == "61 s later":
                    await asyncio.sleep(61)
                reasons[name] = await _told(site, other if name == "at another lock" else post, message)
                bolts[name] = post.lock.body.bolt
        post.thief = None
        await site.cast.insist(WATCH, f"{path}/unlock", {"lock": yard.lock, "kind": "PREP"})
        await site.devices.write(post, "hello", b"\x01")
        reasons["replayed after its use"] = await _told(site, post, post.captured[-1])
        return reasons, bolts


def _all_pass(answer: Row) -> bool:
    results = answer["results"]
    assert isinstance(results, list)
    return all(result["outcome"] != "failed" for result in results)


class _Thief:
    """Takes a grant off the air instead of the lock."""

    def __init__(self) -> None:
        self.stolen, self.taken = b"", asyncio.Event()

    def __call__(self, message: bytes) -> bool:
        if message != self.stolen:  # the gateway repeats what nobody answers
            self.stolen = message
            self.taken.set()
        return True


async def _told(site: RunningSite, post: Post, message: bytes) -> list[str]:
    """Write a message to a lock and return the reasons of the refusals that arrive at the api because of it."""
    before = len(site.events("GrantRefused"))
    await site.devices.write(post, "grant", message)
    await asyncio.sleep(5)
    fresh = site.events("GrantRefused")[before:]
    return [e.reason for e in fresh if isinstance(e, GrantRefused) and e.reason.startswith("LOCK_")]
