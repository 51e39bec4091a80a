"""Tags, scans and an attendant tell what they saw, wrongly at times: the count is never negative and never a guess.

The machine keeps who is truly inside. As long as every source that speaks tells the truth, the count is the truth; whoever any
source still says is inside counts as inside; and once a mismatch stands, nothing but a recount makes the count known.
"""

from collections import Counter

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from manway.occupancy import CORRECT_WITHIN_S, Occupancy

COUNTS: Counter[str] = Counter()
PEOPLE = ("ann", "bob", "cid")
SOURCES = ("attendant", "tag", "scan")
people, sources = st.sampled_from(PEOPLE), st.sampled_from(SOURCES)


class Opening(RuleBasedStateMachine):
    """One opening, three people, three observers."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.now = Occupancy(), 1000.0
        self.truth: set[str] = set()
        self.lied = False
        self.said: dict[tuple[str, str], str] = {}
        COUNTS["runs"] += 1

    def tell(self, person: str, direction: str, source: str) -> None:
        before = set(self.here.inside)
        changed = self.here.record(person, direction, self.now, source)
        self.said[person, source] = direction
        assert changed == (set(self.here.inside) != before)
        COUNTS[f"{direction} told"] += 1

    @rule(person=people, some=st.sets(sources, min_size=1))
    def walk(self, person: str, some: set[str]) -> None:
        """Somebody goes in or comes out; those who tell it, and whoever spoke of the stay before, tell the truth at once."""
        direction = "out" if person in self.truth else "in"
        self.truth ^= {person}
        for source in sorted(some | {s for p, s in self.said if p == person}):
            self.tell(person, direction, source)

    @rule(person=people, direction=st.sampled_from(["in", "out"]), source=sources)
    def lie(self, person: str, direction: str, source: str) -> None:
        """A tag without its bearer, a thumb on the wrong name."""
        self.lied |= direction != ("in" if person in self.truth else "out")
        known_out = (person, source) not in self.said and person not in self.truth
        self.lied |= known_out and direction == "out"  # nothing untrue, yet nobody ever saw this person go in
        self.tell(person, direction, source)

    @rule(seconds=st.sampled_from([1.0, 59.0, 60.0, 61.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        due = self.here.next_deadline()
        found = self.here.settle(self.now)
        assert bool(found) <= (due is not None and due <= self.now)
        assert all(m.at + CORRECT_WITHIN_S <= self.now for m in found)
        COUNTS["mismatches by time"] += len(found)

    @rule()
    def recount(self) -> None:
        self.here.recount(sorted(self.truth), self.now)
        self.said = {(p, "attendant"): "in" if p in self.truth else "out" for p in {*self.truth, *(p for p, _ in self.said)}}
        self.lied = False
        assert (self.here.known, self.here.mismatch, set(self.here.inside)) == (True, [], self.truth)
        COUNTS["recounts"] += 1

    @rule()
    def doubt(self) -> None:
        self.here.doubt()
        assert self.here.count is None

    @rule()
    def restart(self) -> None:
        self.here = msgspec.json.decode(msgspec.json.encode(self.here), type=Occupancy)

    @invariant()
    def a_count_is_never_negative_and_unknown_is_occupied(self) -> None:
        count = self.here.count
        assert count is None or count == len(self.here.inside) >= 0
        assert self.here.occupied is (count != 0)

    @invariant()
    def a_mismatch_stands_until_a_recount(self) -> None:
        if self.here.mismatch:
            COUNTS["steps with a mismatch"] += 1
            assert self.here.count is None

    @invariant()
    def whoever_any_source_says_is_inside_is_inside(self) -> None:
        assert set(self.here.inside) == {p for (p, _), word in self.said.items() if word == "in"}

    @invariant()
    def while_nobody_lies_the_count_is_the_truth(self) -> None:
        if not self.lied and self.here.known:
            COUNTS["true counts"] += 1
            assert set(self.here.inside) == self.truth


def test_no_sequence_of_words_makes_a_negative_or_a_guessed_count() -> None:
    COUNTS.clear()
    run_state_machine_as_test(
        Opening,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
        ),
    )
    print("occupancy machine:", ", ".join(f"{name} {count}" for name, count in sorted(COUNTS.items())))  # noqa: T201
    assert min(COUNTS[name] for name in ("steps with a mismatch", "true counts", "recounts", "mismatches by time")) > 5
