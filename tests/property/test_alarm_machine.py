"""A whole site under any sequence of frames, reports, people and time, judged by a model that knows only the law.

The model keeps the newest reading of every channel, who was counted in, and what came out. It demands after every step:
a dangerous last reading is an alarm that is on; a P1 or P2 that was raised ends only with a person's reset; the count is the
names; the next deadline lies ahead; an id is one event. At the end the journal alone, replayed without a single call in
between, makes the same events and the same site.
"""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from manway.alarm import AlarmState
from manway.entities import Bolt, Door, Frame, Reading
from manway.events import AlarmRaised, AlarmReset, AlarmReturned, Event
from manway.ids import GrantKind, Priority, Status
from manway.inputs import AnyInput, FrameReceived, PlanReceived
from manway.limits import Level
from tests.kit.builders import GASES, Bench, a_frame, a_lock_state, a_plan, replay
from tests.kit.clock import EPOCH

ON = {AlarmState.UNACKED, AlarmState.ACKED}
# Values on both sides of every limit, and honest air more often than not.
values = {
    "o2": st.sampled_from([20.9, 20.9, 20.9, 19.9, 19.5, 19.49, 17.0, 23.6]),
    "lel": st.sampled_from([0.0, 0.0, 0.0, 5.0, 10.0, 20.0]),
    "h2s_ppm": st.sampled_from([0.0, 0.0, 0.0, 3.6, 6.9, 7.0, 7.1, 50.0]),
    "co_ppm": st.sampled_from([0.0, 0.0, 0.0, 25.7, 25.8, 35.0]),
}
bad = st.dictionaries(st.sampled_from(GASES), st.sampled_from(sorted(set(Status) - {Status.OK}, key=str)), max_size=2)
no_faults: dict[str, Status] = {}
pauses = st.sampled_from([0.0, 0.3, 1.0, 1.0, 1.0, 5.0, 15.0, 31.0, 200.0])


class Site(RuleBasedStateMachine):
    """One space with its lock, instrument and two people."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.at = 0.0
        self.seq = 0
        self.boot = 7
        self.last: dict[str, Reading] = {}
        self.over: set[str] = set()
        self.inside: set[str] = set()
        self.open: dict[str, AlarmRaised] = {}
        self.seen = len(self.bench.events)

    # -- what happens to the site

    def take(self, frame: Frame) -> None:
        self.bench.give(FrameReceived(frame), at=self.at)
        if frame.replayed:
            return
        self.last = {gas: frame.readings.get(gas, Reading(Status.INVALID)) for gas in GASES}
        self.over |= {gas for gas, reading in self.last.items() if reading.status is Status.OVER}

    @rule(pause=pauses)
    def time_passes(self, pause: float) -> None:
        self.at += pause
        self.bench.wait(self.at)

    @rule(pause=pauses, air=st.fixed_dictionaries(values), faults=st.one_of(st.just(no_faults), bad))
    def a_frame_comes(self, pause: float, air: dict[str, float], faults: dict[str, Status]) -> None:
        self.at += pause
        self.seq += 1
        at = EPOCH + self.at
        self.take(
            a_frame(
                self.seq,
                at=at,
                boot=self.boot,
                o2=air["o2"],
                lel=air["lel"],
                h2s_ppm=air["h2s_ppm"],
                co_ppm=air["co_ppm"],
                statuses=faults,
            )
        )

    @rule(without=st.sets(st.sampled_from(GASES), max_size=2), skipped=st.integers(0, 3), replayed=st.booleans())
    def a_frame_with_holes_comes(self, *, without: set[str], skipped: int, replayed: bool) -> None:
        self.seq += 1 + skipped
        at = EPOCH + self.at
        self.take(a_frame(self.seq, at=at, boot=self.boot, without=without, replayed=replayed))

    @rule(bad_air=st.booleans())
    def an_old_frame_comes_again(self, *, bad_air: bool) -> None:
        old = a_frame(max(self.seq, 1), at=EPOCH + self.at, boot=self.boot, h2s_ppm=50.0 if bad_air else 0.0)
        if self.seq:
            self.bench.give(FrameReceived(old), at=self.at)

    @rule()
    def the_instrument_restarts(self) -> None:
        self.boot += 1
        self.seq = 1
        self.over = set()
        self.take(a_frame(1, at=EPOCH + self.at, boot=self.boot))

    @rule(person=st.sampled_from(["ann", "bob", "mallory"]), direction=st.sampled_from(["in", "in", "out"]))
    def somebody_is_counted(self, person: str, direction: str) -> None:
        command = self.bench.desk.count(direction, person, EPOCH + self.at)
        self.bench.give(command, at=self.at)
        if self.bench.engine.accepted(command.command.id):
            assert (person in self.inside) == (direction == "out")
            assert person != "mallory"
            self.inside ^= {person}

    @rule()
    def the_attendant_is_there(self) -> None:
        self.bench.give(self.bench.desk.check_in(EPOCH + self.at), at=self.at)

    @rule(
        bolt=st.sampled_from([Bolt.LOCKED, Bolt.RETRACTED, Bolt.UNKNOWN, Bolt.JAMMED]),
        door=st.sampled_from([Door.CLOSED, Door.OPEN]),
    )
    def the_lock_reports(self, bolt: Bolt, door: Door) -> None:
        self.bench.lock(a_lock_state(bolt, door=door), at=self.at)

    @rule(kind=st.sampled_from([GrantKind.PREP, GrantKind.ENTRY, GrantKind.EMERGENCY]))
    def a_grant_opens(self, kind: GrantKind) -> None:
        self.bench.open_by_grant(kind, at=self.at)

    @rule(kind=st.sampled_from([GrantKind.ENTRY, GrantKind.CLOSE_OUT]))
    def a_grant_is_written_and_nothing_follows(self, kind: GrantKind) -> None:
        self.bench.give(self.bench.desk.write_grant(kind, EPOCH + self.at), at=self.at)

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0, 99), by=st.sampled_from(["attendant", "manager"]), close=st.booleans())
    def a_button_is_pressed(self, pick: int, by: str, *, close: bool) -> None:
        alarm = sorted(self.open)[pick % len(self.open)]
        desk, at = self.bench.desk, EPOCH + self.at
        self.bench.give(desk.reset(alarm, at, by) if close else desk.acknowledge(alarm, at, by), at=self.at)

    @rule()
    def an_order_is_given(self) -> None:
        self.bench.give(self.bench.desk.evacuate(EPOCH + self.at), at=self.at)

    # -- what must be so

    @invariant()
    def a_dangerous_last_reading_is_an_alarm_that_is_on(self) -> None:
        states = {(a.kind, a.object): a.state for a in self.bench.engine.site.alarms.values()}
        for gas, reading in self.last.items():
            obj = f"gas-1/{gas}"
            if gas in self.over:
                assert states["OVER_RANGE", obj] in ON
            elif reading.value is not None:
                rule_of = self.bench.engine.site.limits.of(gas)
                assert rule_of is not None
                value = rule_of.in_unit(reading.value, {"H2S": "ppm", "CO": "ppm"}.get(gas, rule_of.unit), 20.0)
                broken = {limit.rank for limit in rule_of.limit if limit.breached_by(value)}
                if Level.LOW in broken:
                    assert states["GAS_LOW", obj] in ON
                if Level.HIGH in broken:
                    assert states["GAS_HIGH", obj] in ON

    @invariant()
    def a_latching_alarm_ends_only_by_a_persons_reset(self) -> None:
        site = self.bench.engine.site
        for event in self.bench.events[self.seen :]:
            if isinstance(event, AlarmRaised) and event.priority <= Priority.P2:
                replaced = [i for i, was in self.open.items() if (was.kind, was.object) == (event.kind, event.object)]
                for old in replaced:
                    del self.open[old]
                self.open[event.alarm] = event
            elif isinstance(event, AlarmReset):
                del self.open[event.alarm]
        self.seen = len(self.bench.events)
        assert set(self.open) == {a.id for a in site.alarms.values() if a.open and a.priority <= Priority.P2}

    @invariant()
    def nothing_returns_while_it_is_not_known_to_be_gone(self) -> None:
        for alarm in self.bench.engine.site.alarms.values():
            if alarm.gone_since is not None:
                assert alarm.holds is False

    @invariant()
    def inside_is_who_was_counted_in_and_never_less_than_nobody(self) -> None:
        space = self.bench.engine.site.spaces["n01"]
        assert set(space.occupancy.inside) == self.inside
        assert space.occupancy.count == len(self.inside) >= 0

    @invariant()
    def people_under_an_evacuating_alarm_have_been_told(self) -> None:
        site = self.bench.engine.site
        grave = [a for a in site.alarms.values() if a.kind in ("GAS_LOW", "GAS_HIGH", "OVER_RANGE") and a.state in ON]
        if grave and self.inside:
            assert site.spaces["n01"].evacuating
        if not self.inside:
            assert not site.spaces["n01"].evacuating

    @invariant()
    def the_next_deadline_lies_ahead(self) -> None:
        deadline = self.bench.engine.next_deadline()
        assert deadline is None or deadline > self.bench.engine.now

    def teardown(self) -> None:
        same_as_replayed(self.bench)
        assert len({event.id for event in self.bench.events}) == len({content(event) for event in self.bench.events})


def content(event: Event) -> str:
    """An event but for its time: a repeated message makes the same fact again."""
    return str(msgspec.structs.replace(event, at=0.0))


def same_as_replayed(bench: Bench) -> None:
    engine, events = replay(bench.journal)
    rest = engine.advance(bench.engine.now)
    assert [e.id for e in [*events, *rest]] == [e.id for e in bench.events]
    assert [*events, *rest] == bench.events
    assert msgspec.json.encode(list(engine.site.alarms.values())) == msgspec.json.encode(
        list(bench.engine.site.alarms.values())
    )
    assert (engine.site.instruments, engine.site.locks, engine.site.spaces) == (
        bench.engine.site.instruments,
        bench.engine.site.locks,
        bench.engine.site.spaces,
    )
    assert engine.next_deadline() == bench.engine.next_deadline()


@pytest.mark.timeout(120)
def test_no_sequence_of_inputs_leaves_danger_unsaid() -> None:
    run_state_machine_as_test(
        Site,
        settings=settings(
            max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
        ),
    )


def split(items: list[tuple[float, AnyInput]], cuts: list[bool]) -> Iterator[tuple[float, list[AnyInput]]]:
    """The inputs of one second as one batch or as several, as the cuts say."""
    batch: list[AnyInput] = []
    for index, (at, item) in enumerate(items):
        batch.append(item)
        ends = index + 1 == len(items) or items[index + 1][0] != at or cuts[index % len(cuts)]
        if ends:
            yield at, batch
            batch = []


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(pauses, st.sampled_from([0.0, 7.1, 50.0]), st.booleans()), min_size=1, max_size=25),
    cuts=st.lists(st.booleans(), min_size=1, max_size=25),
    looks=st.lists(st.floats(0.0, 40.0), max_size=10),
)
def test_however_the_same_inputs_are_batched_and_however_often_time_is_looked_at_the_events_are_the_same(
    steps: list[tuple[float, float, bool]], cuts: list[bool], looks: list[float]
) -> None:
    at, items = EPOCH, [(EPOCH, PlanReceived(a_plan()))]
    found: list[tuple[float, AnyInput]] = list(items)
    bench = Bench()
    for seq, (pause, h2s_ppm, person) in enumerate(steps, 1):
        at += pause
        found.append((at, FrameReceived(a_frame(seq, at=at, h2s_ppm=h2s_ppm))))
        if person:
            found.append((at, bench.desk.enter("ann", at)))
    _, whole = replay([(at, [item]) for at, item in found])
    engine, pieces = replay([])
    for now, batch in split(found, cuts):
        for look in looks:
            between = engine.now + look
            if between < now:
                pieces += engine.advance(between)
        pieces += engine.receive(batch, now)
    assert [e.id for e in pieces] == [e.id for e in whole]
    assert pieces == whole


numbers = st.one_of(st.floats(-200, 2e5), st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 20.9]))
readings = st.one_of(
    numbers.map(lambda value: Reading(Status.OK, value)),
    st.sampled_from(sorted(set(Status) - {Status.OK}, key=str)).map(Reading),
    st.none(),
)


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.tuples(st.sampled_from(GASES), readings), min_size=1, max_size=30))
def test_only_a_known_number_inside_the_limits_ever_lets_an_alarm_return(frames: list[tuple[str, Reading | None]]) -> None:
    """NaN and infinity cannot be readings at all; faults, holes, -0 and subnormal numbers can, and clear nothing wrongly."""
    bench = Bench()
    bench.read(0, h2s_ppm=50.0, co_ppm=50.0, lel=50.0, o2=10.0)
    last: dict[str, Reading | None] = {}
    for seq, (gas, reading) in enumerate(frames, 2):
        frame = a_frame(seq, at=EPOCH + seq * 10)
        known = {g: r for g, r in frame.readings.items() if g != gas} | ({gas: reading} if reading is not None else {})
        bench.give(FrameReceived(msgspec.structs.replace(frame, readings=known)), at=seq * 10)
        last = {g: known.get(g) for g in GASES}
        returned = {e.object for e in bench.events[-12:] if isinstance(e, AlarmReturned) and e.at == EPOCH + seq * 10}
        for obj in returned & {f"gas-1/{g}" for g in GASES}:
            reading_now = last[obj.removeprefix("gas-1/")]
            assert reading_now is not None
            assert reading_now.status is Status.OK
