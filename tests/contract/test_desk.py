"""What people do to permits and locks: every deed done, every refusal with its reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from api import desk, store, turns
from api.desk import Draft, NotFound
from manway.checks import Outcome
from manway.entities import Bolt, Entrance, GasTest, Permit, PermitState, Signature, Space
from manway.entities import TestPoint as Point  # by its own name it would be collected as a test
from manway.errors import ActionRefused, Failure
from manway.events import GrantRefused
from manway.ids import GrantKind
from manway.permit import HOLDING, PermitSignal
from tests.kit.api import GAS, LOCK, PEOPLE, SPACE, Desk, a_desk
from tests.kit.clock import EPOCH

ON_BOTH = pytest.mark.usefixtures("on_both")  # SQLite and PostgreSQL


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Desk]:
    with a_desk(tmp_path) as bench:
        bench.look()
        yield bench


def keys(refusal: pytest.ExceptionInfo[ActionRefused]) -> list[str]:
    return [failure.key for failure in refusal.value.failures]


def draft(**changed: object) -> Draft:
    named = {"space": SPACE, "work": "cable joint", "start": EPOCH, "end": EPOCH + 3600, "attendant": "p02", "tester": "p12",
             "entrants": ["p15", "p16"]}  # fmt: skip
    return Draft(**(named | changed))  # type: ignore[arg-type]


class As:
    """One person doing things: `As(bench, "worker").submit(draft())`, each in a transaction of its own."""

    def __init__(self, bench: Desk, account: str) -> None:
        self._bench, self._who = bench, bench.person(account)

    def submit(self, wanted: Draft) -> Permit:
        with self._bench.records.change() as db:
            return desk.submit(db, self._bench.office, self._who, wanted)

    def approve(self, permit: Permit) -> Permit:
        with self._bench.records.change() as db:
            return desk.approve(db, self._bench.office, self._who, permit.id)

    def decline(self, permit: Permit, signal: PermitSignal = PermitSignal.REJECT) -> Permit:
        with self._bench.records.change() as db:
            return desk.decline(db, self._bench.office, self._who, permit.id, signal, "too windy")

    def ventilate(self, permit: Permit) -> Permit:
        with self._bench.records.change() as db:
            return desk.start_ventilation(db, self._bench.office, self._who, permit.id)

    def test_air(self, permit: Permit, points: list[Point] | None = None) -> tuple[Permit, list[Failure]]:
        with self._bench.records.change() as db:
            sampled = points or clean_points(self._bench)
            return desk.record_test(db, self._bench.office, self._who, permit.id, sampled, upwind=True)

    def unlock(self, permit: Permit, kind: GrantKind = GrantKind.ENTRY, lock: str = LOCK) -> tuple[str, list[Failure]]:
        with self._bench.records.change() as db:
            return desk.unlock(db, self._bench.office, self._who, permit.id, lock, kind)

    def emergency(self, lock: str = LOCK) -> str:
        with self._bench.records.change() as db:
            return desk.emergency(db, self._bench.office, self._who, lock)

    def check_in(self, permit: Permit) -> str:
        with self._bench.records.change() as db:
            return desk.check_in(db, self._bench.office, self._who, permit.id)

    def count(self, permit: Permit) -> str:
        with self._bench.records.change() as db:
            return desk.count_person(db, self._bench.office, self._who, permit.id, "p15", "in")

    def suspend(self, permit: Permit, *, barrier: bool = True) -> Permit:
        with self._bench.records.change() as db:
            return turns.suspend(db, self._bench.office, self._who, permit.id, barrier=barrier)

    def close_out(self, permit: Permit, lock: str = LOCK) -> tuple[str, list[Failure]]:
        with self._bench.records.change() as db:
            return desk.close_out(db, self._bench.office, self._who, permit.id, lock)

    def close(self, permit: Permit, **items: object) -> Permit:
        confirmed = dict.fromkeys(desk.HAND_BACK, True) | items
        with self._bench.records.change() as db:
            return desk.close(db, self._bench.office, self._who, permit.id, confirmed)  # type: ignore[arg-type]

    def shift(self, permit: Permit, signal: PermitSignal) -> Permit:
        with self._bench.records.change() as db:
            return desk.shift(db, self._bench.office, self._bench.permit(permit.id), signal, by=self._who.id, cause="test")


def clean_points(bench: Desk, **changed: float) -> list[Point]:
    """Three points of a shaft of 3 m, dwelt long enough."""
    values = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 0.0} | changed
    return [Point(d, bench.timings.dwell_s + bench.timings.dwell_per_m_s * d, dict(values)) for d in (0.5, 1.5, 2.5)]


def ready(bench: Desk) -> Permit:
    """A permit that got to READY by the book."""
    permit = As(bench, "worker").submit(draft(tester="p02"))
    bench.confirm(As(bench, "approver").approve(permit))
    bench.look()
    As(bench, "attendant").ventilate(permit)
    bench.wait(bench.timings.ventilation_s)
    bench.look()
    permit, failures = As(bench, "attendant").test_air(permit)
    assert not failures
    return permit


def active(bench: Desk) -> Permit:
    permit = ready(bench)
    return As(bench, "attendant").shift(permit, PermitSignal.START)


# ---- by the book


@ON_BOTH
def test_a_permit_goes_by_the_book_from_request_to_hand_back(bench: Desk) -> None:
    permit = active(bench)
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    bench.count(permit, "p15")
    bench.count(permit, "p15", "out")
    As(bench, "worker").shift(permit, PermitSignal.FINISH)
    command, failures = As(bench, "attendant").close_out(permit)
    assert (bool(command), failures) == (True, [])
    bench.look()
    closed = As(bench, "attendant").close(permit)
    assert closed.state is PermitState.CLOSED
    told = [type(e).__name__ for e in bench.events() if getattr(e, "permit", "") == permit.id]
    assert [name for name in told if name.startswith(("Permit", "Vent", "GasTest"))] == [
        "PermitSubmitted", "PermitAgreed", "PermitApproved", "VentilationRecorded", "GasTestRecorded", "PermitReadied",
        "PermitStarted", "PermitFinished", "PermitClosed",
    ]  # fmt: skip
    assert bench.audit_actions()[3:] == [
        "p01 PermitSubmitted", "p01 PermitAgreed", "p03 PermitApproved", "p02 VentilationRecorded", "p02 GasTestRecorded",
        "p02 PermitReadied", "p02 PermitStarted", "p01 PermitFinished", "p02 PermitClosed",
    ]  # fmt: skip


def test_a_request_is_agreed_by_its_requester_and_names_the_space_s_instruments(bench: Desk) -> None:
    permit = As(bench, "worker").submit(draft())
    assert (permit.state, permit.requester, permit.supervisor) == (PermitState.SUBMITTED, "p01", "p01")
    assert [(s.step, s.person) for s in permit.signatures] == [("supervisor", "p01")]
    assert (permit.instruments, permit.drill, permit.number) == ([GAS], True, "2027-0004")
    assert bench.permit(permit.id) == permit


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"attendant": "nobody"}, "form.unknown_person"),
        ({"tester": "nobody"}, "form.unknown_person"),
        ({"entrants": ["p15", "nobody"]}, "form.unknown_person"),
        ({"entrants": []}, "form.incomplete"),
        ({"end": EPOCH}, "form.incomplete"),
        ({"end": EPOCH - 1, "start": EPOCH - 10}, "form.incomplete"),
        ({"attendant": "p15"}, "attendant.conflict"),
        ({"tester": "p16"}, "attendant.conflict"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_hold_is_refused(changed: dict[str, object], key: str, bench: Desk) -> None:
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "worker").submit(draft(**changed))
    assert keys(refusal) == [key]
    assert not bench.events("PermitSubmitted")


def test_a_request_for_a_space_that_is_none_is_not_found(bench: Desk) -> None:
    with pytest.raises(NotFound):
        As(bench, "worker").submit(draft(space="n99"))


# ---- approval


def test_nobody_approves_or_declines_the_own_request(bench: Desk) -> None:
    permit = As(bench, "manager").submit(draft())
    for deed in (As(bench, "manager").approve, As(bench, "manager").decline):
        with pytest.raises(ActionRefused) as refusal:
            deed(permit)
        assert keys(refusal) == ["approval.same_person"]
    assert bench.permit(permit.id).state is PermitState.SUBMITTED


def test_the_requester_approves_nothing_though_another_agreed(bench: Desk) -> None:
    permit = bench.make_permit(PermitState.SUBMITTED, requester="p03")
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "approver").approve(permit)
    assert keys(refusal) == ["approval.same_person"]


def test_whoever_signed_a_step_signs_no_other(bench: Desk) -> None:
    permit = bench.make_permit(PermitState.SUBMITTED, signatures=[Signature("supervisor", "p03", EPOCH)])
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "approver").approve(permit)
    assert keys(refusal) == ["approval.same_person"]


@pytest.mark.parametrize("state", [s for s in PermitState if s is not PermitState.SUBMITTED])
def test_only_a_submitted_request_is_decided_on(state: PermitState, bench: Desk) -> None:
    permit = bench.make_permit(state, signatures=[Signature("supervisor", "p01", EPOCH)])
    for deed in (As(bench, "approver").approve, As(bench, "approver").decline):
        with pytest.raises(ActionRefused) as refusal:
            deed(permit)
        assert keys(refusal) == ["permit.wrong_state"]
    assert bench.permit(permit.id) == permit


@ON_BOTH
def test_of_two_requests_for_one_space_and_time_one_is_approved(bench: Desk) -> None:
    first, second = As(bench, "worker").submit(draft()), As(bench, "worker").submit(draft(start=EPOCH + 3599, end=EPOCH + 7200))
    third = As(bench, "worker").submit(draft(start=EPOCH + 3600, end=EPOCH + 7200))
    As(bench, "approver").approve(first)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "approver").approve(second)
    assert keys(refusal) == ["permit.another_open"]
    assert bench.permit(second.id) == second
    assert As(bench, "approver").approve(third).state is PermitState.APPROVED
    assert [e for e in bench.events("PermitApproved") if getattr(e, "permit", "") == second.id] == []


def test_another_broken_rule_of_the_database_is_no_refusal(bench: Desk) -> None:
    permit = bench.make_permit(PermitState.SUBMITTED)
    with bench.records.change() as db:
        db.exec_driver_sql("CREATE TRIGGER no BEFORE UPDATE ON permit BEGIN SELECT raise(ABORT, 'something else'); END")
    with pytest.raises(sa.exc.IntegrityError):
        As(bench, "approver").approve(permit)


def test_a_declined_request_says_why(bench: Desk) -> None:
    for signal, state, event in (
        (PermitSignal.REJECT, PermitState.REJECTED, "PermitRejected"),
        (PermitSignal.RETURN, PermitState.DRAFT, "PermitReturned"),
    ):
        permit = bench.make_permit(PermitState.SUBMITTED)
        assert As(bench, "approver").decline(permit, signal).state is state
        (told,) = bench.events(event)
        assert (getattr(told, "reason", ""), getattr(told, "by", "")) == ("too windy", "p03")


# ---- preparation


def test_ventilation_counts_only_while_the_fan_draws_current(bench: Desk) -> None:
    permit = bench.make_permit()
    bench.look(air={"fan_a": 0.4})
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").ventilate(permit)
    assert keys(refusal) == ["ventilation.not_running"]
    bench.wait(1)
    bench.look(air={"fan_a": 0.5})
    assert As(bench, "attendant").ventilate(permit).ventilated_at == bench.now()


def test_without_an_instrument_nothing_proves_the_fan(bench: Desk) -> None:
    permit = bench.make_permit()
    bench.wait(bench.timings.silence_evacuate_s + 200)
    bench.engines["yard-north"].advance(bench.now())
    bench.show()
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").ventilate(permit)
    assert keys(refusal) == ["ventilation.not_running"]
    del bench.office.pictures.state["yard-north"]
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").ventilate(permit)
    assert keys(refusal) == ["ventilation.not_running"]


@pytest.mark.parametrize("state", sorted(set(PermitState) - {PermitState.APPROVED, PermitState.SUSPENDED}, key=str))
def test_ventilation_begins_on_an_approved_or_suspended_permit_only(state: PermitState, bench: Desk) -> None:
    permit = bench.make_permit(state)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").ventilate(permit)
    assert keys(refusal) == ["permit.wrong_state"]


def test_ventilating_again_makes_the_old_test_void(bench: Desk) -> None:
    permit = bench.make_permit(gas_test=GasTest("p02", GAS, EPOCH, [], "1", passed=True))
    assert As(bench, "attendant").ventilate(permit).gas_test is None


def test_a_good_test_makes_a_permit_ready(bench: Desk) -> None:
    permit = ready(bench)
    assert permit.state is PermitState.READY
    assert permit.gas_test is not None
    assert (permit.gas_test.passed, permit.gas_test.tester, permit.gas_test.instrument) == (True, "p02", GAS)
    (event,) = bench.events("GasTestRecorded")
    assert getattr(event, "passed", None) is True


@pytest.mark.parametrize(
    ("gas", "value", "key"),
    [("H2S", 50.0, "gas_test.out_of_limits"), ("O2", 19.4, "gas_test.out_of_limits"), ("LEL", 11.0, "gas_test.out_of_limits")],
)  # fmt: skip
def test_a_bad_test_is_stored_and_makes_nothing_ready(gas: str, value: float, key: str, bench: Desk) -> None:
    permit = bench.make_permit(ventilated_at=EPOCH - 1800)
    permit, failures = As(bench, "attendant").test_air(permit, clean_points(bench, **{gas: value}))
    assert {f.key for f in failures} == {key}
    assert len(failures) == 3  # every point of it
    assert (permit.state, permit.gas_test is not None and permit.gas_test.passed) == (PermitState.APPROVED, False)
    assert bench.permit(permit.id) == permit
    assert not bench.events("PermitReadied")


def test_a_test_lists_everything_that_is_wrong_with_it(bench: Desk) -> None:
    permit = bench.make_permit(tester="p12")
    points = [Point(2.5, 0.0, {"O2": 20.9}), Point(0.5, 500.0, {"O2": 18.0, "LEL": 0.0, "H2S": 0.0, "CO": 0.0})]
    _, failures = As(bench, "attendant").test_air(permit, points)
    assert [f.key for f in failures] == [
        "gas_test.wrong_tester", "gas_test.too_few_points", "gas_test.wrong_order", "gas_test.dwell", "gas_test.gas_missing",
        "gas_test.gas_missing", "gas_test.gas_missing", "gas_test.out_of_limits", "order.not_proven",
    ]  # fmt: skip


def test_a_test_before_enough_ventilation_proves_nothing(bench: Desk) -> None:
    permit = As(bench, "attendant").ventilate(bench.make_permit())
    bench.wait(bench.timings.ventilation_s - 1)
    permit, failures = As(bench, "attendant").test_air(permit)
    assert ([f.key for f in failures], permit.state) == (["order.not_proven"], PermitState.APPROVED)
    bench.wait(1)
    permit, failures = As(bench, "attendant").test_air(permit)
    assert (failures, permit.state) == ([], PermitState.READY)


TESTED_IN = {PermitState.APPROVED, PermitState.READY, PermitState.SUSPENDED}


@pytest.mark.parametrize("state", sorted(set(PermitState) - TESTED_IN, key=str))
def test_air_is_tested_before_entry_only(state: PermitState, bench: Desk) -> None:
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").test_air(bench.make_permit(state, ventilated_at=EPOCH - 1800))
    assert keys(refusal) == ["permit.wrong_state"]


def test_a_test_with_an_instrument_that_is_none_proves_nothing(bench: Desk) -> None:
    permit = bench.make_permit(ventilated_at=EPOCH - 1800, instruments=[])
    permit, failures = As(bench, "attendant").test_air(permit)
    assert [f.key for f in failures] == ["gas_test.not_pumped"]
    assert permit.gas_test is not None
    assert (permit.gas_test.instrument, permit.gas_test.passed) == ("", False)


# ---- unlocking


def test_an_unlock_that_holds_becomes_a_pending_command(bench: Desk) -> None:
    permit = ready(bench)
    command, failures = As(bench, "attendant").unlock(permit)
    assert (bool(command), failures, bench.commands()) == (True, [], {"GreetLock": "pending"})


def test_every_failing_check_of_an_unlock_is_answered_and_kept(bench: Desk) -> None:
    permit = bench.make_permit()
    command, failures = As(bench, "manager").unlock(permit)
    assert (command, [f.check for f in failures]) == ("", ["G01", "G06", "G10", "G11", "G12", "G21", "G22"])
    (event,) = bench.events("GrantRefused")
    assert isinstance(event, GrantRefused)
    assert (event.failures, event.by, event.permit, event.kind, event.reason) == (failures, "p04", permit.id, 2, "CHECKS")
    assert bench.audit_actions()[-1] == "p04 GrantRefused"
    assert bench.commands() == {}


@ON_BOTH
def test_every_denied_attempt_is_one_more_event(bench: Desk) -> None:
    permit = bench.make_permit()
    for _ in range(3):
        As(bench, "manager").unlock(permit)
    assert len(bench.events("GrantRefused")) == 3


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda b: b.wait(b.timings.live_reading_s + 1), "G03"),
        (lambda b: b.look(air={"H2S": 50.0}), "G14"),
        (lambda b: b.look(air={"fan_a": 0.0}), "G10"),
        (lambda b: b.wait(b.timings.gas_test_age_s + 1), "G11"),
        (lambda b: b.office.pictures.state.clear(), "G13"),
        (lambda b: b.office.pictures.heard_at.clear(), "G03"),
        (lambda b: b.wait(3600 - 100), "G01"),
    ],
)  # fmt: skip
def test_what_was_good_a_moment_ago_opens_nothing_now(change: Callable[[Desk], None], check: str, bench: Desk) -> None:
    permit = ready(bench)
    change(bench)
    _, failures = As(bench, "attendant").unlock(permit)
    assert check in [f.check for f in failures]


def test_an_instrument_that_the_ledger_forgot_is_overdue(bench: Desk) -> None:
    permit = ready(bench)
    with bench.records.change() as db:
        db.execute(store.document.delete().where((store.document.c.kind == "Instrument") & (store.document.c.id == GAS)))
    _, failures = As(bench, "attendant").unlock(permit)
    assert [f.key for f in failures] == [
        "gas_test.not_pumped", "instrument.out_of_service", "instrument.due", "instrument.lax",
    ]  # fmt: skip


def test_a_lock_of_another_space_is_refused_and_an_unknown_one_not_found(bench: Desk) -> None:
    permit = ready(bench)
    _, failures = As(bench, "attendant").unlock(permit, lock="lock-n05")
    assert [f.key for f in failures] == ["lock.other_space"]
    with pytest.raises(NotFound):
        As(bench, "attendant").unlock(permit, lock="lock-n99")
    with pytest.raises(NotFound):
        As(bench, "attendant").emergency("lock-n99")
    with pytest.raises(NotFound):
        desk_check(bench, "permit-99")


def desk_check(bench: Desk, permit: str) -> list[str]:
    with bench.records.look() as db:
        results = desk.check(db, bench.office, bench.person("attendant"), permit, GrantKind.ENTRY)
    return [r.check for r in results if r.outcome is Outcome.FAILED]


def test_the_page_s_checks_are_those_of_the_unlock(bench: Desk) -> None:
    permit = ready(bench)
    assert desk_check(bench, permit.id) == []
    bench.wait(60)
    _, failures = As(bench, "attendant").unlock(permit)
    assert desk_check(bench, permit.id) == list(dict.fromkeys(f.check for f in failures)) == ["G03", "G13", "G20"]


def test_a_space_without_an_entrance_has_no_lock_to_open(bench: Desk) -> None:
    permit = ready(bench)
    with bench.records.change() as db:
        space = msgspec.structs.replace(desk.space_of(db, SPACE), entrances=[])
        store.put(db, "Space", SPACE, space, site="yard-north")
    assert desk_check(bench, permit.id) == ["G04", "G19"]


@ON_BOTH
def test_an_emergency_opening_asks_nobody(bench: Desk) -> None:
    bench.office.pictures.state.clear()
    assert As(bench, "worker").emergency()
    assert bench.commands() == {"GreetLock": "pending"}


def test_an_emergency_opening_asks_for_a_signed_in_person_and_the_space_s_own_lock(bench: Desk) -> None:
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "p15").emergency()
    assert keys(refusal) == ["requester.not_signed_in"]
    with bench.records.change() as db:
        bare = msgspec.structs.replace(desk.space_of(db, SPACE), entrances=[])
        store.put(db, "Space", SPACE, bare, site="yard-north")
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "worker").emergency()
    assert keys(refusal) == ["lock.other_space"]
    assert bench.commands() == {}


def test_only_the_named_attendant_says_that_he_is_here(bench: Desk) -> None:
    permit = active(bench)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "manager").check_in(permit)
    assert keys(refusal) == ["attendant.not_you"]
    As(bench, "attendant").check_in(permit)
    assert bench.commands() == {"RecordCheckIn": "pending"}


@pytest.mark.parametrize("state", [s for s in PermitState if s not in HOLDING])
def test_on_a_permit_that_holds_nothing_nobody_is_counted_or_attends(state: PermitState, bench: Desk) -> None:
    permit = bench.make_permit(state)
    for deed in (As(bench, "attendant").check_in, As(bench, "attendant").count):
        with pytest.raises(ActionRefused) as refusal:
            deed(permit)
        assert keys(refusal) == ["permit.wrong_state"]
    assert bench.commands() == {}


def test_only_the_named_attendant_counts(bench: Desk) -> None:
    permit = active(bench)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "manager").count(permit)
    assert keys(refusal) == ["attendant.not_you"]
    As(bench, "attendant").count(permit)
    assert bench.commands() == {"RecordEntry": "pending"}


# ---- interruption, end, hand-back


@pytest.mark.parametrize("signal", [PermitSignal.SUSPEND, PermitSignal.FINISH, PermitSignal.CANCEL])
def test_nothing_ends_while_people_are_inside(signal: PermitSignal, bench: Desk) -> None:
    permit = active(bench)
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    bench.count(permit, "p15")
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "worker").shift(permit, signal)
    assert keys(refusal) == ["permit.people_inside"]
    assert refusal.value.failures[0].params["inside"] == 1


@pytest.mark.parametrize("signal", [PermitSignal.SUSPEND, PermitSignal.FINISH, PermitSignal.CANCEL])
def test_what_a_silent_gateway_last_counted_ends_nothing(signal: PermitSignal, bench: Desk) -> None:
    """Its last word was nobody inside; who went in since, nobody knows."""
    permit = active(bench)
    bench.look()
    bench.wait(bench.timings.live_reading_s)
    assert bench.office.inside(space(bench)) == 0
    bench.wait(0.1)
    assert bench.office.inside(space(bench)) is None
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "worker").shift(permit, signal)
    assert keys(refusal) == ["permit.count_unknown"]


def space(bench: Desk) -> Space:
    with bench.records.look() as db:
        return desk.space_of(db, SPACE)


def test_a_count_that_is_not_known_ends_nothing(bench: Desk) -> None:
    permit = active(bench)
    state = bench.office.pictures.state["yard-north"]
    spaces = [msgspec.structs.replace(s, known=s.space != SPACE) for s in state.spaces]
    bench.office.pictures.take(msgspec.structs.replace(state, spaces=spaces))
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "worker").suspend(permit)
    assert keys(refusal) == ["permit.count_unknown"]


def test_a_job_is_suspended_behind_a_barrier_and_must_be_prepared_anew(bench: Desk) -> None:
    permit = active(bench)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "worker").suspend(permit, barrier=False)
    assert keys(refusal) == ["permit.no_barrier"]
    suspended = As(bench, "worker").suspend(permit)
    assert (suspended.state, suspended.barrier) == (PermitState.SUSPENDED, True)
    assert (suspended.gas_test, suspended.ventilated_at) == (None, None)
    assert bench.permit(permit.id) == suspended


def test_a_close_out_needs_an_ended_job_an_empty_space_and_the_own_lock(bench: Desk) -> None:
    permit = active(bench)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").close_out(permit)
    assert keys(refusal) == ["permit.wrong_state"]
    As(bench, "worker").shift(permit, PermitSignal.FINISH)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").close_out(permit, "lock-n01")  # where somebody may be inside
    assert keys(refusal) == ["lock.other_space"]
    bench.wait(60)
    _, failures = As(bench, "attendant").close_out(permit)
    assert [f.key for f in failures] == ["permit.count_unknown"]


@pytest.mark.parametrize("item", desk.HAND_BACK)
@pytest.mark.parametrize("word", [False, None, "yes"])
def test_a_hand_back_without_one_confirmation_is_none(item: str, word: object, bench: Desk) -> None:
    permit = bench.make_permit(PermitState.CLOSING)
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").close(permit, **{item: word})
    assert keys(refusal) == ["close.missing"]
    assert refusal.value.failures[0].params["items"] == item


@ON_BOTH
def test_a_space_is_handed_back_behind_a_thrown_bolt_only(bench: Desk) -> None:
    permit = bench.make_permit(PermitState.CLOSING)
    bench.look(bolts={LOCK: Bolt.RETRACTED})
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").close(permit)
    assert keys(refusal) == ["close.not_locked"]
    assert refusal.value.failures[0].params["lock"] == LOCK
    bench.office.pictures.state.clear()
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").close(permit)
    assert keys(refusal) == ["close.not_locked"]
    bench.wait(1)
    bench.look()
    assert As(bench, "attendant").close(permit).state is PermitState.CLOSED


def test_every_entrance_of_a_space_must_be_locked(bench: Desk) -> None:
    permit = bench.make_permit(PermitState.CLOSING)
    with bench.records.change() as db:
        entrances = [Entrance("a", LOCK), Entrance("b", "lock-n99")]
        two = msgspec.structs.replace(desk.space_of(db, SPACE), entrances=entrances)
        store.put(db, "Space", SPACE, two, site="yard-north")
    with pytest.raises(ActionRefused) as refusal:
        As(bench, "attendant").close(permit)
    assert refusal.value.failures[0].params["lock"] == "lock-n99"


def test_what_changes_nothing_writes_nothing(bench: Desk) -> None:
    permit = bench.make_permit(PermitState.SUBMITTED)
    before = (bench.events(), bench.audit_actions())
    assert As(bench, "worker").shift(permit, PermitSignal.HALT) == permit
    assert (bench.events(), bench.audit_actions()) == before


def test_every_signal_that_moves_a_permit_has_its_event() -> None:
    assert set(desk._EVENT_OF) == set(PermitSignal)


def test_ids_sort_by_time_and_are_version_7(bench: Desk) -> None:
    ids = []
    for _ in range(50):
        ids.append(bench.office.new_id())
        bench.wait(0.001)
    assert ids == sorted(set(ids))
    assert {(key[14], key[19] in "89ab", len(key)) for key in ids} == {("7", True, 36)}


@ON_BOTH
def test_people_of_the_kit_are_those_of_the_yard(bench: Desk) -> None:
    for account, person in PEOPLE.items():
        assert (bench.person(account).id, bench.person(account).roles) == (person, [account])
