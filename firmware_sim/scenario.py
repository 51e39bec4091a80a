"""The story of the yard, scene by scene: what the air does, what hands do, and what simulated people do about it.

(a) the whole path on a free space; (b) H2S rises beside two people; (c) a hatch is forced; (d) a permit's end passes with
somebody inside; (e) an instrument falls silent below a standing alarm; (f) acknowledge and reset; (g) hand-back and close.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import quote

import structlog

from firmware_sim.devices import Devices, Post
from firmware_sim.people import Cast, Row, rows
from manway.entities import Bolt, Door
from manway.ids import GrantKind
from manway.runtime.ports import Clock
from manway.runtime.yard import REQUIRED, Yard, YardSpace

_log = structlog.get_logger("story")
WORKER, ATTENDANT, APPROVER, MANAGER = "cast-worker", "cast-attendant", "cast-approver", "cast-manager"
WATCH = "cast-watch"  # the attendant of the path: whoever attends one opening attends no other
CHECK_IN_EVERY_S = 60.0
H2S_SOURCE_PPM_S = 1.1
LEL_SOURCE_S = 1.6
HAND_BACK = {"people_out": True, "kit_out": True, "entrance_closed": True, "isolation_removed": True}


class Story:
    """Plays every scene at once; each is a coroutine that reads like its script."""

    def __init__(self, yard: Yard, devices: Devices, cast: Cast, clock: Clock) -> None:
        self._yard, self._devices, self._cast, self._clock = yard, devices, cast, clock
        self._ids = {p.account: p.id for p in yard.person if p.account}
        self._entrants = yard.crew
        self._accounts = {p.id: p.account for p in yard.person if p.cast}

    async def run(self) -> None:
        """Play until every scene has ended, then keep the yard going for visitors."""
        async with asyncio.TaskGroup() as group:
            for act in (self._rising, self._hatch, self._overtime, self._silent, self._path):
                group.create_task(self._scene(act))
            group.create_task(self._attend())
            group.create_task(self._crew())

    async def _scene(self, act: Callable[[], Awaitable[None]]) -> None:
        """Play a scene; one that goes wrong says so and leaves the others alone."""
        try:
            await act()
        except TimeoutError as error:
            _log.warning("scene stopped", scene=getattr(act, "__name__", "?"), reason=str(error))
        else:
            _log.info("scene played", scene=getattr(act, "__name__", "?"))

    # -- the scenes ---------------------------------------------------------------------------------------------------

    async def _rising(self) -> None:
        """(b), (f), (g): H2S rises beside two people; out, barred, acknowledged, aired, reset, handed back."""
        cast, yard = self._cast, self._yard.scene("rising")
        permit = await self._begin_seeded(yard)
        await cast.wait(4.0)
        air = self._devices.posts[yard.id].air
        air.source = {"H2S": H2S_SOURCE_PPM_S}
        path = f"/api/v1/permits/{permit}"
        await cast.see(MANAGER, path, lambda p: p["state"] == "evacuating", within_s=90)
        air.source, air.fan_on = {}, True
        await cast.do(ATTENDANT, f"{path}/unlock", {"lock": yard.lock, "kind": "ENTRY"})  # refused: no further grant
        for person in self._entrants:
            await cast.wait(2.0)
            await cast.insist(ATTENDANT, f"{path}/exits", {"person": person})
        await cast.insist(ATTENDANT, f"{path}/suspend", {"barrier": True})
        await self._lock_up(yard, path, ATTENDANT)  # in a break the opening is barred and locked (GB 46768-2025 6.2.6)
        await self._settle_alarms(yard)
        await cast.insist(ATTENDANT, f"{path}/finish")
        await cast.insist(ATTENDANT, f"{path}/close", {"items": HAND_BACK})

    async def _settle_alarms(self, yard: YardSpace) -> None:
        """Acknowledge what is open in a space, and reset it once it has returned: two people, two buttons."""
        cast = self._cast

        def mine(answer: Row) -> list[Row]:
            return [a for a in rows(answer) if a["space_id"] == yard.id]

        while alarms := mine(await cast.get(MANAGER, "/api/v1/alarms")):
            for alarm in alarms:
                if "unacked" in str(alarm["state"]):
                    await cast.do(ATTENDANT, f"/api/v1/alarms/{alarm['id']}/acknowledge")
                elif alarm["state"] == "latched_acked":
                    reason = {"reason": "Aired with the fan, re-measured at the opening", "verdict": "real"}
                    await cast.do(MANAGER, f"/api/v1/alarms/{alarm['id']}/reset", reason)
            await cast.wait(2.0)

    async def _hatch(self) -> None:
        """(c): a locked hatch is pulled open."""
        await self._cast.wait(12.0)
        await self._devices.touch(self._yard.scene("hatch").id, lambda post, now: post.lock.open_door(now))

    async def _overtime(self) -> None:
        """(d): one person stays beyond the permit's end."""
        await self._begin_seeded(self._yard.scene("overtime"), people=1)

    async def _silent(self) -> None:
        """(e): LEL passes its limit, everybody hesitates, and then the instrument falls silent."""
        yard = self._yard.scene("silent")
        await self._begin_seeded(yard, people=1)
        await self._cast.wait(3.0)
        post = self._devices.posts[yard.id]
        post.air.source = {"LEL": LEL_SOURCE_S}

        def alarmed(answer: Row) -> bool:
            return any(a["space_id"] == yard.id and "LEL" in str(a["what"]) and a["priority"] == 1 for a in rows(answer))

        await self._cast.see(MANAGER, "/api/v1/alarms", alarmed, within_s=90)
        post.instrument.silent = True

    async def _path(self) -> None:
        """(a), (g): request, approval, PREP, ventilation, test, ENTRY, two in, two out, hand-back; and a thief tries."""
        cast, yard = self._cast, self._yard.scene("path")
        path = await self.approved(yard)
        await cast.insist(WATCH, f"{path}/unlock", {"lock": yard.lock, "kind": "PREP"})
        await cast.insist(WATCH, f"{path}/ventilation")
        await self._steal(yard)
        desk = await cast.get(WATCH, f"{path}/preparation")
        await cast.wait(float(str(desk["ventilation_s"])) + 0.5)
        sampled = {"points": await self._sample(yard, desk), "upwind": True}
        await cast.insist(WATCH, f"{path}/gas-tests", sampled)
        await cast.insist(WATCH, f"{path}/unlock", {"lock": yard.lock, "kind": "ENTRY"})
        for person in self._entrants:
            await cast.insist(WATCH, f"{path}/entries", {"person": person})
        await cast.wait(15.0)
        for person in self._entrants:
            await cast.insist(WATCH, f"{path}/exits", {"person": person})
        await cast.insist(WATCH, f"{path}/finish")
        await self._lock_up(yard, path, WATCH)
        await cast.insist(WATCH, f"{path}/close", {"items": HAND_BACK})

    async def approved(self, yard: YardSpace) -> str:
        """Request a permit, have it approved and every item confirmed, take up the attendant's post; return its path."""
        cast = self._cast
        asked = {
            "space": yard.id,
            "work": "检查阀门 Valve inspection",
            "minutes": 60.0,
            "attendant": self._ids[WATCH],
            "tester": self._ids[WATCH],
            "work_kinds": ["inspection"],
            "isolation": ["进水阀 Inlet valve"],
            "entrants": self._entrants,
        }
        path = f"/api/v1/permits/{(await cast.insist(WORKER, '/api/v1/permits', asked))['id']}"
        await cast.wait(2.0)
        await cast.insist(APPROVER, f"{path}/approve")
        await cast.insist(WATCH, f"{path}/check-ins")
        for account in (WORKER, WATCH, *(self._accounts[person] for person in self._entrants)):
            await self._confirm(account, path)
        return path

    async def _confirm(self, account: str, path: str) -> None:
        """Say yes to every item that is this person's, one by one; the photo is a simulated camera's."""
        for item in _mine(await self._cast.get(account, f"{path}/preparation")):
            said = {"answer": "yes", "evidence": self._photo(path) if item["photo"] else ""}
            await self._cast.insist(account, f"{path}/checklist/{quote(str(item['id']), safe='')}", said, method="PUT")
            await self._cast.wait(0.2)

    def _photo(self, path: str) -> str:
        """Return the sha256 of what a camera of the yard would have seen just now: no two are alike."""
        return hashlib.sha256(f"{path} {self._clock.now()}".encode()).hexdigest()

    async def _lock_up(self, yard: YardSpace, path: str, attendant: str) -> None:
        """Let the crew shut the hatch, then arm the lock for its last press."""
        await self._cast.wait(4.0)  # the lock wants its door two quiet seconds closed
        await self._cast.insist(attendant, f"{path}/close-out", {"lock": yard.lock})

    async def _sample(self, yard: YardSpace, desk: Row) -> list[Row]:
        """Hold the instrument at every point for its dwell and write down what it says, in the limit's unit."""
        points: list[Row] = []
        distances, dwells = desk["distances"], desk["dwell_s"]
        assert isinstance(distances, list)  # noqa: S101  the api's own shape
        assert isinstance(dwells, list)  # noqa: S101  the api's own shape
        for distance, dwell in zip(distances, dwells, strict=True):
            await self._cast.wait(dwell)
            seen = await self._cast.get(WATCH, f"/api/v1/spaces/{yard.id}/gases")
            values = {str(g["gas"]): float(str(g["value"])) for g in rows(seen) if g["value"] is not None}
            points.append({"distance_m": distance, "dwell_s": dwell, "readings": {gas: values[gas] for gas in REQUIRED}})
        return points

    async def _steal(self, yard: YardSpace) -> None:
        """A thief with a radio replays the grant just used, bends one bit of it, and tries it on another lock."""
        post = self._devices.posts[yard.id]
        if not post.captured:
            return
        grant = post.captured[-1]
        bent = grant[:-1] + bytes([grant[-1] ^ 1])
        other = [p for p in self._yard.space if p.scene == "" and p.site == yard.site][-1]  # visitors begin with the first
        for target, message in ((post, grant), (post, bent), (self._devices.posts[other.id], grant)):
            await self._devices.write(target, "hello", bytes([0x01]))
            await self._devices.write(target, "grant", message)
            await self._cast.wait(0.6)

    async def _begin_seeded(self, yard: YardSpace, people: int = 2) -> str:
        """Take up a permit that was seeded as ready and opened: the attendant is there, the people go in."""
        cast = self._cast

        def found(answer: Row) -> bool:
            return any(p["space"] == yard.id for p in rows(answer))

        permits = await cast.see(MANAGER, "/api/v1/permits", found)
        permit = str(next(p for p in rows(permits) if p["space"] == yard.id)["id"])
        await cast.insist(ATTENDANT, f"/api/v1/permits/{permit}/check-ins")
        await cast.insist(ATTENDANT, f"/api/v1/permits/{permit}/recount", {"people": []})  # who takes up a post counts first
        for person in self._entrants[:people]:
            await cast.insist(ATTENDANT, f"/api/v1/permits/{permit}/entries", {"person": person})
        return permit

    # -- the yard -----------------------------------------------------------------------------------------------------

    async def _attend(self) -> None:
        """The attendant says "I am here" in time, everywhere people may be inside."""
        while True:
            await self._cast.wait(CHECK_IN_EVERY_S)
            for permit in rows(await self._cast.get(MANAGER, "/api/v1/permits")):
                account = self._accounts.get(str(permit["attendant"]))
                if permit["state"] in ("active", "evacuating") and account:
                    await self._cast.do(account, f"/api/v1/permits/{permit['id']}/check-ins")

    async def _crew(self) -> None:
        """The yard's hands: open the hatch and start the fan once a bolt is drawn, shut it in a break and at the end."""
        while True:
            await self._clock.sleep_until(self._clock.now() + 1.0)
            permits = rows(await self._cast.get(MANAGER, "/api/v1/permits"))
            ended = {str(p["space"]): p["state"] == "closing" for p in permits if p["state"] in ("closing", "suspended")}
            await self._listen(permits)
            for space, post in self._devices.posts.items():
                await self._tend(space, post, ended=space in ended, done=ended.get(space, False))

    async def _listen(self, permits: list[Row]) -> None:
        """Let simulated people whom a visitor has named as entrants say yes to what is theirs."""
        for permit in permits:
            named = permit["entrants"]
            assert isinstance(named, list)  # noqa: S101  the api's own shape
            asked = permit["state"] in ("submitted", "approved") and permit["requester"] not in self._accounts
            for person in (p for p in named if asked and p in self._accounts):
                await self._confirm(self._accounts[str(person)], f"/api/v1/permits/{permit['id']}")

    async def _tend(self, space: str, post: Post, *, ended: bool, done: bool) -> None:
        body = post.lock.body
        post.air.fan_on = post.air.fan_on and not done
        if ended and body.door is Door.OPEN:  # in a break too the opening is shut (GB 46768-2025 6.2.6)
            await self._devices.touch(space, lambda p, now: p.lock.close_door(now))
        elif not ended and body.bolt is Bolt.RETRACTED and body.door is Door.CLOSED and body.session == GrantKind.PREP:
            post.air.fan_on = True
            await self._devices.touch(space, lambda p, now: p.lock.open_door(now))


def _mine(desk: Row) -> Iterator[Row]:
    """Yield the items of a preparation that wait for the reader's own yes."""
    items = desk["items"]
    assert isinstance(items, dict)  # noqa: S101  the api's own shape
    for block in items["blocks"]:
        yield from (item for item in block["items"] if item["yes"])
