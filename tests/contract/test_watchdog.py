"""GATEWAY_LOST over HTTP: raised by the api, kept in the records, handled by the buttons of every other alarm."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from api import store
from api.facts import alarm_path_at
from api.watchdog import Watchdog
from manway.entities import PermitState
from manway.events import AlarmAcknowledged, AlarmEvent, AlarmRaised, AlarmReset, PersonEntered
from tests.kit.api import SITES, SPACE, Bench, Desk, Json
from tests.kit.clock import FakeClock, VirtualLoop
from tests.kit.gateway import in_place

NORTH, SOUTH = SITES


class Guarded(Bench):
    """The whole api with its watchdog, which a test lets look every second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dog = Watchdog(self.office, SITES, in_place)

    def pass_time(self, seconds: float, *heard: str) -> None:
        """Second by second; `heard` are the sites whose gateway goes on beating."""
        for _ in range(round(seconds)):
            self.wait(1.0)
            self.beat(*heard)
            self.dog.look()

    def beat(self, *sites: str) -> None:
        self.office.pictures.heard_at |= dict.fromkeys(sites, self.now())

    def said(self) -> list[str]:
        """What was said of lost gateways, in order."""
        mine = [e for e in self.events() if isinstance(e, AlarmEvent) and e.kind == "GATEWAY_LOST"]
        return [f"{type(e).__name__} {e.priority}" if isinstance(e, AlarmRaised) else type(e).__name__ for e in mine]

    def rows(self) -> list[Json]:
        """What the list of alarms shows of them, to the manager."""
        items = self.get("manager", "/api/v1/alarms").json()["items"]
        return [row for row in items if row["what"].startswith("Gateway lost")]

    @property
    def id(self) -> str:
        return str(self.rows()[0]["id"])

    def press(self, who: str, what: str, alarm: str = "", body: object = None) -> Json:
        """Press a button and return what became of the command."""
        answer = self.post(who, f"/api/v1/alarms/{alarm or self.id}/{what}", body)
        assert answer.status_code == 202, answer.text
        return self.get(who, f"/api/v1/commands/{answer.json()['id']}").json()  # type: ignore[no-any-return]

    def reset(self, who: str) -> Json:
        return self.press(who, "reset", body={"reason": "power was back", "verdict": "real"})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Guarded]:
    bench = Guarded(tmp_path)
    with bench.client:
        bench.look()
        yield bench
    bench.close()


def test_a_gateway_that_beats_is_not_lost(bench: Guarded) -> None:
    bench.pass_time(60, *SITES)
    assert bench.said() == []


def test_five_seconds_after_the_last_heartbeat_it_is_lost_and_not_before(bench: Guarded) -> None:
    bench.pass_time(4, SOUTH)
    assert bench.said() == []
    bench.pass_time(1, SOUTH)
    assert bench.said() == ["AlarmRaised 3"]
    raised = bench.events("AlarmRaised")[-1]
    assert isinstance(raised, AlarmRaised)
    assert (raised.site, raised.space, raised.object, raised.clause) == (NORTH, "", "gateway", "trust.md 7.2")
    (row,) = bench.rows()
    assert (row["site"], row["state"], row["priority"], row["can_ack"]) == ("North yard", "unacked", 3, True)
    bench.pass_time(60, SOUTH)
    assert bench.said() == ["AlarmRaised 3"], "told once"


def test_one_late_heartbeat_is_no_loss_and_what_was_missed_does_not_add_up(bench: Guarded) -> None:
    for _ in range(20):
        bench.pass_time(4, SOUTH)
        bench.pass_time(1, *SITES)
    assert bench.said() == []


@pytest.mark.parametrize("known", [True, False])
def test_with_somebody_inside_or_nobody_knows_it_is_urgent(bench: Guarded, *, known: bool) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    if not known:
        bench.count(permit, "p15", "out")
        bench.engines[NORTH].site.spaces[SPACE].occupancy.doubt()
        bench.show()
    bench.pass_time(5, SOUTH)
    assert bench.said() == ["AlarmRaised 1"]
    wall = bench.get("manager", "/api/v1/alarms").json()["items"]
    assert wall[0]["what"].startswith("Gateway lost")


def test_after_five_minutes_it_is_more_urgent_and_a_new_episode(bench: Guarded) -> None:
    bench.pass_time(299, SOUTH)
    first = bench.id
    assert bench.said() == ["AlarmRaised 3"]
    bench.pass_time(1, SOUTH)
    assert bench.said() == ["AlarmRaised 3", "AlarmRaised 2"]
    assert bench.id != first


def test_a_gateway_never_heard_is_counted_from_the_apis_own_start(tmp_path: Path) -> None:
    bench = Guarded(tmp_path)
    with bench.client:
        bench.pass_time(4)
        assert bench.said() == []
        bench.pass_time(1)
        # The yard is seeded with open permits in both sites, and no picture says that nobody is inside.
        assert bench.said() == ["AlarmRaised 1", "AlarmRaised 1"]
    bench.close()


def test_without_a_picture_the_records_say_whether_anybody_may_be_inside(tmp_path: Path) -> None:
    bench = Guarded(tmp_path)
    with bench.records.change() as db:
        for permit in store.permits(db):
            store.put_permit(db, msgspec.structs.replace(permit, state=PermitState.CLOSED))
    with bench.client:
        bench.pass_time(5, SOUTH)
        assert bench.said() == ["AlarmRaised 3"]
    bench.close()


def test_one_acknowledges_and_another_resets_by_the_buttons_of_every_alarm(bench: Guarded) -> None:
    permit = bench.make_permit(PermitState.ACTIVE)
    bench.look()
    bench.count(permit, "p15")
    bench.pass_time(5, SOUTH)
    assert bench.reset("manager")["state"] == "refused", "it still holds, and nobody has seen it"
    assert bench.press("manager", "acknowledge")["state"] == "done"
    assert bench.press("attendant", "acknowledge")["state"] == "refused"
    bench.pass_time(5 + bench.timings.alarm_off_delay_s, *SITES)
    assert bench.rows()[0]["state"] == "latched_acked"
    assert bench.reset("manager")["state"] == "refused", "a P1 wants another person"
    assert bench.reset("approver")["state"] == "done"
    assert bench.rows() == []
    assert bench.said() == ["AlarmRaised 1", "AlarmAcknowledged", "AlarmReturned", "AlarmReset"]
    seen, ended = bench.events("AlarmAcknowledged")[-1], bench.events("AlarmReset")[-1]
    assert isinstance(seen, AlarmAcknowledged)
    assert isinstance(ended, AlarmReset)
    assert (seen.by, ended.by, ended.reason, ended.verdict) == ("p04", "p03", "power was back", "real")


def test_a_quiet_loss_fades_by_itself_once_acknowledged_and_can_be_shelved(bench: Guarded) -> None:
    bench.pass_time(5, SOUTH)
    assert bench.press("manager", "shelve", body={"reason": "new cable", "minutes": 5})["state"] == "done"
    assert bench.rows()[0]["state"] == "shelved"
    assert bench.press("manager", "unshelve")["state"] == "done"
    bench.pass_time(1, SOUTH)
    assert bench.rows()[0]["state"] == "unacked"
    bench.press("attendant", "acknowledge")
    bench.pass_time(5 + bench.timings.alarm_off_delay_s, *SITES)
    assert bench.rows() == []


def test_an_episode_that_is_over_is_answered_and_asks_no_gateway(bench: Guarded) -> None:
    bench.pass_time(5, SOUTH)
    first = bench.id
    bench.pass_time(300, SOUTH)
    assert bench.press("manager", "acknowledge", first)["state"] == "refused"
    with bench.records.look() as db:
        assert db.execute(store.command.select().where(store.command.c.state == "pending")).all() == []


def test_a_restart_of_the_api_neither_forgets_nor_repeats_it(tmp_path: Path) -> None:
    first = Guarded(tmp_path)
    with first.client:
        first.look()
        first.pass_time(5, SOUTH)
        first.press("manager", "acknowledge")
        lost, row = first.id, first.rows()[0]
        now = first.now()
    first.close()

    again = Guarded(tmp_path)
    again.clock.set(now + 2)
    again.dog = Watchdog(again.office, SITES, in_place)
    with again.client:
        assert again.rows() == [row], "at once, before any picture has come"
        again.show(heard=False)
        again.pass_time(30, SOUTH)
        assert again.id == lost
        assert again.rows()[0]["who"] == row["who"] != ""
        again.pass_time(5 + again.timings.alarm_off_delay_s, *SITES)
        assert again.rows() == []
        assert again.said() == ["AlarmRaised 3", "AlarmAcknowledged", "AlarmReturned"]
    again.close()


def test_a_restart_counts_from_the_new_start_and_the_old_alarm_stands_meanwhile(tmp_path: Path) -> None:
    first = Guarded(tmp_path)
    with first.client:
        first.look()
        first.pass_time(5, SOUTH)
        now = first.now()
    first.close()
    again = Guarded(tmp_path)
    again.clock.set(now + 1000)
    again.dog = Watchdog(again.office, SITES, in_place)
    with again.client:
        again.dog.look()
        assert [row["state"] for row in again.rows()] == ["unacked"]
    again.close()


def test_a_watchdog_that_was_stopped_itself_listens_anew_once(bench: Guarded) -> None:
    bench.pass_time(1, *SITES)
    bench.wait(12)
    bench.dog.look()
    bench.pass_time(4)
    assert bench.said() == []
    bench.pass_time(1)
    assert bench.said() == ["AlarmRaised 3", "AlarmRaised 3"]


def test_a_watchdog_that_is_always_late_excuses_nothing_by_it(bench: Guarded) -> None:
    bench.pass_time(1, *SITES)
    bench.wait(12)
    bench.dog.look()
    assert bench.said() == []
    bench.wait(12)
    bench.dog.look()
    assert bench.said() == ["AlarmRaised 3", "AlarmRaised 3"]


def test_the_banner_the_wall_and_the_episodes_page_show_it(bench: Guarded) -> None:
    bench.pass_time(5, SOUTH)
    page = bench.get("manager", "/wall")
    assert page.status_code == 200
    assert "Gateway lost" in page.text
    episode = bench.get("manager", f"/alarms/{bench.id}")
    assert episode.status_code == 200
    assert "approval service" in episode.text
    assert "gateway rules" not in episode.text


def test_its_own_word_is_no_proof_that_alarms_come_through(bench: Guarded) -> None:
    entered = {"id": "e1", "at": bench.now(), "site": NORTH, "space": SPACE, "permit": "", "person": "p15", "source": "tag"}
    bench.add_events(PersonEntered(**entered))  # type: ignore[arg-type]
    bench.pass_time(5, SOUTH)
    bench.press("manager", "acknowledge")
    with bench.records.look() as db:
        assert alarm_path_at(db, NORTH) == entered["at"]


def test_it_looks_every_second_and_wakes_the_pages(tmp_path: Path) -> None:
    async def scenario() -> tuple[list[str], int]:
        desk, woken = Desk(tmp_path, FakeClock()), list[int]()
        desk.office.on_change(lambda: woken.append(1))
        task = asyncio.get_running_loop().create_task(Watchdog(desk.office, SITES, in_place).run())
        await asyncio.sleep(5.5)
        task.cancel()
        raised = [e.kind for e in desk.events("AlarmRaised") if isinstance(e, AlarmRaised)]
        desk.close()
        return raised, len(woken)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scenario()) == (["GATEWAY_LOST", "GATEWAY_LOST"], 1)
