"""What every failure tells: what to do about it, what was looked at, and with which facts. One row a reason, all rows here.

A refusal that names the wrong lock, another person or no way out sends somebody to the wrong place; so each row is written out.
"""

import msgspec
import pytest

from manway.checks import close_out_failures, emergency_failures, evaluate, failures_of
from manway.entities import Hold, Permit, PermitState, Person
from manway.errors import ActionRefused, Failure
from manway.ids import GrantKind, Status
from manway.permit import PermitSignal, extension_failures, hand_over_failures, head_count_failures, move
from tests.core.test_checks import REASONS, SUPERVISOR, battery, breathing, contracted, nothing, people, permit, without
from tests.kit.builders import a_permit, a_person, a_space, a_test, confirmed, facts
from tests.kit.clock import EPOCH

# check | reason | what to do | looked at, kind:id | facts of the sentence.
TABLE = """
G01 | permit.not_begun           | permit.wait_for_start      | permit:permit-1       | start=1800000001.0
G01 | permit.not_ready           | permit.prepare             | permit:permit-1       | state=draft
G01 | permit.too_little_time     | permit.extend              | permit:permit-1       | end=1800000599.0
G02 | approval.incomplete        | approval.get               | permit:permit-1       | have=approver
G02 | approval.no_owner          | approval.get_owner         | permit:permit-1       |
G02 | approval.no_right          | approval.get_another       | person:approver       |
G02 | approval.not_delegated     | approval.get_delegate      | person:approver       | person=approver
G02 | approval.not_supervisor    | approval.get               | permit:permit-1       |
G02 | approval.same_person       | approval.get_another       | permit:permit-1       |
G02 | approval.wrong_order       | approval.get               | permit:permit-1       |
G03 | alarm.open                 | alarm.clear_first          | alarm:GAS_LOW         | alarm=GAS_LOW
G03 | gateway.silent             | gateway.look               | site:yard             |
G03 | permit.held                | permit.ask_regulator       | person:regulator      | reason=no barrier seen
G04 | lock.other_space           | lock.choose_own            | lock:lock-2           | lock=lock-2
G04 | permit.another_open        | permit.close_other         | permit:2027-0002      | permit=2027-0002
G04 | space.not_current          | space.confirm              | space:n01             | space=n01
G05 | training.expired           | training.attend            | person:bob            | person=bob
G05 | training.no_approver       | approval.get               | permit:permit-1       |
G05 | training.none              | training.attend            | person:ann            | person=ann
G06 | attendant.absent           | attendant.check_in         | person:attendant      |
G06 | attendant.conflict         | attendant.name_another     | person:attendant      |
G06 | attendant.elsewhere        | attendant.end_other        | permit:2027-0002      | permit=2027-0002
G06 | attendant.unknown_posts    | gateway.look               | person:attendant      |
G07 | entrants.exposed           | entrants.rest              | person:bob            | person=bob
G07 | entrants.exposure_unknown  | gateway.look               | permit:permit-1       |
G07 | entrants.roster            | entrants.correct           | permit:permit-1       |
G07 | entrants.unknown           | entrants.correct           | person:ann            | person=ann
G09 | item.too_old               | item.again                 | item:isolation:pump   | item=isolation subject=pump minutes=481
G10 | ventilation.missing        | ventilation.start          | permit:permit-1       |
G10 | ventilation.not_running    | ventilation.start          | space:n01             |
G10 | ventilation.too_short      | ventilation.go_on          | permit:permit-1       | minutes=10.0 need=15.0
G11 | gas_test.dwell             | gas_test.repeat            | gas_test:permit-1     | at=5.5 need=77
G11 | gas_test.gas_missing       | gas_test.repeat            | gas_test:permit-1     | gas=CO at=5.5
G11 | gas_test.missing           | gas_test.do                | permit:permit-1       |
G11 | gas_test.not_pumped        | gas_test.pump              | instrument:gas-1      |
G11 | gas_test.not_stirred       | gas_test.stir              | gas_test:permit-1     |
G11 | gas_test.not_upwind        | gas_test.stand_upwind      | gas_test:permit-1     |
G11 | gas_test.out_of_limits     | ventilation.go_on          | gas_test:permit-1     | gas=H2S value=10.1 unit=mg/m3
G11 | gas_test.too_few_points    | gas_test.repeat            | gas_test:permit-1     | points=2 need=3
G11 | gas_test.too_old           | gas_test.repeat            | gas_test:permit-1     | minutes=45
G11 | gas_test.wrong_order       | gas_test.repeat            | gas_test:permit-1     |
G11 | gas_test.wrong_places      | gas_test.repeat            | gas_test:permit-1     | places=1, 3, 5
G11 | gas_test.wrong_tester      | gas_test.by_tester         | gas_test:permit-1     |
G12 | order.not_proven           | order.ventilate_test_enter | permit:permit-1       |
G13 | instrument.battery         | instrument.charge          | instrument:gas-1      | device=gas-1 percent=12
G13 | instrument.battery_unknown | instrument.look            | instrument:gas-1      | device=gas-1
G13 | instrument.cannot_tell     | instrument.look            | instrument:gas-1      | device=gas-1 gases=H2S, CO
G13 | instrument.due             | instrument.bump            | instrument:gas-1      | device=gas-1
G13 | instrument.lax             | instrument.set             | instrument:gas-1      | device=gas-1 gases=H2S
G13 | instrument.none            | instrument.bind            | space:n01             |
G13 | instrument.out_of_service  | instrument.bind            | instrument:gas-1      | device=gas-1
G13 | instrument.silent          | instrument.look            | instrument:gas-1      | device=gas-1
G13 | instrument.warming_up      | instrument.wait            | instrument:gas-1      | device=gas-1 gases=H2S, CO
G13 | instrument.worn_elsewhere  | instrument.bind            | instrument:gas-1      | device=gas-1 person=carl
G14 | live.out_of_limits         | ventilation.go_on          | channel:gas-1/H2S     | gas=H2S value=10.1
G14 | live.rising                | ventilation.go_on          | channel:gas-1/H2S     | gas=H2S value=0.0
G14 | live.unknown               | instrument.look            | channel:gas-1/H2S     | gas=H2S
G16 | item.unanswered            | item.confirm               | item:comms_test       | item=comms_test subject= by=attendant
G16 | rescue.no_list             | rescue.list                | space:n01             |
G17 | extra.missing              | extra.get                  | permit:permit-1       | kind=hot_work
G17 | extra.not_valid            | extra.get                  | extra_permit:HW-7     | kind=hot_work number=HW-7
G18 | item.photo                 | item.take_photo            | item:barrier_sign     | item=barrier_sign subject=
G19 | lock.battery               | lock.change_battery        | lock:lock-1           | lock=lock-1
G19 | lock.clock                 | lock.set_clock             | lock:lock-1           | lock=lock-1
G19 | lock.state_unknown         | lock.look                  | lock:lock-1           | lock=lock-1
G19 | lock.unreachable           | lock.look                  | lock:lock-1           | lock=lock-1
G20 | gateway.path_untested      | gateway.test_path          | site:yard             |
G20 | gateway.silent             | gateway.look               | site:yard             |
G20 | gateway.unhealthy          | gateway.look               | alarm:JOURNAL_FAILING | alarm=JOURNAL_FAILING
G20 | gateway.unknown            | gateway.look               | site:yard             |
G20 | weather.stop               | weather.wait               | notice:w1             | end=1800000060.0
G20 | weather.unknown            | gateway.look               | site:yard             |
G21 | attendant.not_you          | attendant.sign_in          | person:ann            |
G21 | requester.not_signed_in    | attendant.sign_in          | person:attendant      |
G22 | gas_test.missing           | gas_test.do                | permit:permit-1       |
G22 | limits.changed             | gas_test.repeat            | limits:2026.2         | was=CN 2020.1 now=CN 2026.2
"""
ROWS = {
    tuple(cells[:2]): cells[2:] for cells in ([cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines())
}


def confirmation(item: str, **fields: object) -> dict[str, object]:
    """Facts in which one item of a permit with an isolation was answered otherwise."""
    whole = confirmed(msgspec.structs.replace(a_permit(), isolation=["pump"]))
    given = [msgspec.structs.replace(c, **fields) if c.item == item else c for c in whole.confirmations]
    return {"permit": msgspec.structs.replace(whole, confirmations=given)}


# The facts a row is read from; a reason that is not named here is read from its first case in test_checks.py.
CASES: dict[tuple[str, str], dict[str, object]] = {
    ("G02", "approval.no_owner"): contracted() | people("approver", owner=False),
    ("G03", "gateway.silent"): {"picture_age_s": None},
    ("G05", "training.no_approver"): {"permit": a_permit(signatures=[SUPERVISOR])},
    ("G06", "attendant.conflict"): permit(entrants=["ann", "attendant"]),
    ("G07", "entrants.unknown"): without("ann"),
    ("G16", "item.unanswered"): confirmation("comms_test", at=EPOCH + 1),
    ("G09", "item.too_old"): confirmation("isolation:pump", at=EPOCH - 481 * 60),
    ("G10", "ventilation.missing"): permit(ventilated_at=None),
    ("G10", "ventilation.too_short"): permit(ventilated_at=EPOCH - 600),
    ("G11", "gas_test.missing"): permit(gas_test=None),
    ("G11", "gas_test.too_old"): permit(ventilated_at=EPOCH - 9000, gas_test=a_test(EPOCH - 45 * 60)),
    ("G13", "instrument.battery"): battery(12.0, battery_life_s=0.0),
    ("G13", "instrument.cannot_tell"): breathing(statuses={"H2S": Status.FAULT, "CO": Status.FAULT}),
    ("G13", "instrument.none"): {"instruments": []},
    ("G13", "instrument.warming_up"): breathing(statuses={"H2S": Status.WARMUP, "CO": Status.WARMUP}),
    ("G14", "live.unknown"): breathing(statuses={"H2S": Status.FAULT}),
    ("G18", "item.photo"): confirmation("barrier_sign", evidence="no sha256"),
    ("G20", "gateway.silent"): {"picture_age_s": None},
    ("G22", "gas_test.missing"): permit(gas_test=None),
}


def told(failure: Failure) -> list[str]:
    looked_at = " ".join(f"{row['kind']}:{row['id']}" for row in failure.evidence)
    return [failure.fix, looked_at, " ".join(f"{name}={value}" for name, value in failure.params.items())]


@pytest.mark.parametrize(("check", "key"), ROWS, ids=[" ".join(row) for row in ROWS])
def test_a_failure_tells_its_row(check: str, key: str) -> None:
    first = {(c, k): changed for c, k, changed in reversed(REASONS)}
    failures = failures_of(evaluate(facts(**(first | CASES)[check, key])))
    assert [told(f) for f in failures if (f.check, f.key) == (check, key)] == [ROWS[check, key]]


def test_every_reason_has_its_row() -> None:
    tried = [*(changed for _, _, changed in REASONS), *CASES.values(), nothing()]
    found = {(f.check, f.key) for changed in tried for f in failures_of(evaluate(facts(**changed)))}
    items = {
        (check, f"item.{why}")
        for check in ("G08", "G09", "G10", "G15", "G16", "G18")
        for why in ("unanswered", "too_old", "photo")
    }
    assert found - items == set(ROWS) - items


def test_a_failure_names_each_of_several() -> None:
    silent = failures_of(evaluate(facts(instruments=[])))
    assert [told(f) for f in silent if f.check == "G14"] == [
        ["instrument.bind", "space:n01", f"gas={gas}"] for gas in ("O2", "LEL", "H2S", "CO")
    ]
    other = failures_of(evaluate(facts(space=a_space(required_gases=["O2", "LEL", "H2S", "CO", "PH3", "NH3"]))))
    assert [told(f) for f in other if f.check == "G13"] == [["instrument.bind", "space:n01", "device=gas-1 gases=PH3, NH3"]]
    unasked = failures_of(evaluate(facts(**confirmation("briefing_entrant:bob", by="ann"))))
    assert [told(f) for f in unasked] == [
        ["item.confirm", "item:briefing_entrant:bob", "item=briefing_entrant subject=bob by=bob"]
    ]
    chain = failures_of(evaluate(facts(permit=a_permit(signatures=[]))))
    assert [told(f)[2] for f in chain if f.key == "approval.incomplete"] == ["have=-"]


def test_an_emergency_is_refused_for_the_asker_or_for_the_lock_by_name() -> None:
    nobody = emergency_failures(a_space(), lock="lock-2", by="carl", authenticated=False)
    assert [(f.check, f.key, *told(f)) for f in nobody] == [
        ("G21", "requester.not_signed_in", "attendant.sign_in", "person:carl", ""),
        ("G04", "lock.other_space", "lock.choose_own", "lock:lock-2", "lock=lock-2"),
    ]
    assert emergency_failures(a_space(), lock="lock-1", by="ann", authenticated=True) == []


@pytest.mark.parametrize(
    ("inside", "key", "shown"), [(2, "permit.people_inside", "inside=2"), (None, "permit.count_unknown", "inside=0")]
)
def test_a_closing_is_refused_with_the_count(inside: int | None, key: str, shown: str) -> None:
    result = evaluate(facts(kind=GrantKind.CLOSE_OUT, inside=inside))
    assert [(r.check, r.clause) for r in result] == [("CLOSE_OUT", "29 CFR 1926.34(a)")]
    failures = failures_of(result)
    assert [(f.check, f.clause, f.key, *told(f)) for f in failures] == [
        ("CLOSE_OUT", "29 CFR 1926.34(a)", key, "permit.count_everybody_out", "space:n01", shown)
    ]
    assert failures == close_out_failures(facts(inside=inside))


# -- what refuses a change of a permit -------------------------------------------------------------------------------------

CLERK = a_person("carl", "worker")
OVER = {"state": PermitState.CLOSED}
HELD = {"hold": Hold("regulator", EPOCH, "no barrier seen")}
LATE, LONG = EPOCH + 7200, 86_400.0
COUNT, WRONG = "permit.count_everybody_out", "permit.wrong_state"
DOMAIN, LAW = "domain.md 3.5", "MEM Order 13 art. 18"
NOBODY_LEFT = [("PERMIT", DOMAIN, "permit.count_unknown", "permit.recount", "")]


def said(failures: list[Failure]) -> list[tuple[str, ...]]:
    return [(f.check, f.clause, f.key, told(f)[0], told(f)[2]) for f in failures]


def other(**changed: object) -> Permit:
    return msgspec.structs.replace(a_permit(), **changed)


@pytest.mark.parametrize(
    ("changed", "end", "now", "row"),
    [
        (OVER, LATE + 1, EPOCH, (DOMAIN, "permit.wrong_state", "permit.look_at_state", "state=closed signal=extend")),
        (HELD, LATE + 1, EPOCH, (LAW, "permit.held", "permit.ask_regulator", "reason=no barrier seen")),
        ({}, LATE + 1, LATE, (DOMAIN, "extension.too_late", "extension.new_permit", "")),
        ({}, LATE, EPOCH, (DOMAIN, "extension.not_later", "extension.choose_end", "")),
        ({}, EPOCH - 3600 + LONG + 1, EPOCH, (DOMAIN, "extension.too_long", "extension.choose_end", "hours=24.0")),
    ],
)
def test_a_later_end_is_refused_with_what_to_do(
    changed: dict[str, object], end: float, now: float, row: tuple[str, ...]
) -> None:
    assert said(extension_failures(other(**changed), end, now, LONG)) == [("PERMIT", *row)]


@pytest.mark.parametrize(("end", "now"), [(LATE + 0.1, LATE - 0.1), (EPOCH - 3600 + LONG, EPOCH)])
def test_the_longest_end_and_the_last_moment_are_still_in_time(end: float, now: float) -> None:
    assert extension_failures(a_permit(), end, now, LONG) == []


def test_the_longest_permit_is_told_in_hours_and_tenths() -> None:
    assert said(extension_failures(a_permit(), EPOCH + 9 * 3600, EPOCH, 8.26 * 3600))[-1][-1] == "hours=8.3"


@pytest.mark.parametrize(
    ("changed", "duty", "to", "rows"),
    [
        (OVER, "supervisor", CLERK, [("permit.wrong_state", "permit.look_at_state", "state=closed signal=hand_over")]),
        ({}, "attendant", CLERK, [("hand_over.no_right", "hand_over.choose_another", "")]),
        ({}, "supervisor", a_person("tester", "attendant"), []),
        ({}, "attendant", a_person("ann", "attendant"), [("hand_over.conflict", "hand_over.choose_another", "")]),
        ({}, "supervisor", a_person("ann", "worker"), []),
        ({}, "attendant", a_person("attendant", "attendant"), [("hand_over.conflict", "hand_over.choose_another", "")]),
        ({}, "supervisor", a_person("supervisor", "worker"), [("hand_over.conflict", "hand_over.choose_another", "")]),
        ({}, "attendant", a_person("approver", "attendant"), [("hand_over.conflict", "hand_over.choose_another", "")]),
    ],
)
def test_a_duty_is_refused_with_what_to_do(
    changed: dict[str, object], duty: str, to: Person, rows: list[tuple[str, ...]]
) -> None:
    clause = {"hand_over.conflict": "GB 46768-2025 6.3"}
    expected = [("PERMIT", clause.get(row[0], "29 CFR 1926.1206"), *row) for row in rows]
    assert said(hand_over_failures(other(**changed), duty, to)) == expected


def test_a_head_count_is_refused_with_both_numbers() -> None:
    assert said(head_count_failures(3, 2)) == [
        ("PERMIT", DOMAIN, "hand_over.count_differs", "permit.recount", "counted=3 inside=2")
    ]
    assert said(head_count_failures(0, None)) == NOBODY_LEFT
    assert head_count_failures(2, 2) == []


@pytest.mark.parametrize(
    ("state", "signal", "inside", "row"),
    [
        (PermitState.ACTIVE, PermitSignal.FINISH, 2, ("permit.people_inside", COUNT, "inside=2")),
        (PermitState.ACTIVE, PermitSignal.FINISH, None, ("permit.count_unknown", COUNT, "inside=0")),
        (
            PermitState.CLOSED,
            PermitSignal.START,
            0,
            ("permit.wrong_state", "permit.look_at_state", "state=closed signal=start"),
        ),
    ],
)
def test_a_step_of_a_permit_is_refused_with_what_to_do(
    state: PermitState, signal: PermitSignal, inside: int | None, row: tuple[str, ...]
) -> None:
    with pytest.raises(ActionRefused) as refused:
        move(state, signal, inside=inside)
    assert said(refused.value.failures) == [("PERMIT", "domain.md 4.1", *row)]
