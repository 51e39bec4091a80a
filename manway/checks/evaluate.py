"""All checks together: one answer for the page, the signer and the moment of use."""

import math

from manway.checks import air, gas_test, people, place
from manway.checks.facts import Facts
from manway.checks.items import item_failures
from manway.checks.table import CHECKS, CheckResult, Outcome, fail, row
from manway.entities import Space
from manway.errors import Failure
from manway.ids import GrantKind

_RULES = {
    "G01": place.g01_permit_window,
    "G02": people.g02_approvals,
    "G03": place.g03_no_alarm,
    "G04": place.g04_lock_of_space,
    "G05": people.g05_training,
    "G06": people.g06_attendant,
    "G07": people.g07_entrants,
    "G08": lambda f: item_failures(f, "G08"),
    "G09": lambda f: item_failures(f, "G09"),
    "G10": place.g10_ventilation,
    "G11": gas_test.g11_gas_test,
    "G12": gas_test.g12_order,
    "G13": air.g13_instruments,
    "G14": air.g14_live,
    "G15": lambda f: item_failures(f, "G15"),
    "G16": lambda f: rescue_kit_failures(f) + item_failures(f, "G16"),
    "G17": place.g17_extra_permits,
    "G18": lambda f: item_failures(f, "G18"),
    "G19": place.g19_lock,
    "G20": place.g20_gateway,
    "G21": people.g21_requester,
    "G22": gas_test.g22_same_limits,
}
_CLOSE_OUT = "29 CFR 1926.34(a)"


def rescue_kit_failures(f: Facts) -> list[Failure]:
    """Return a failure when nobody has written down what must stand ready: then nobody can say that it does."""
    if any(quantity > 0 for quantity in f.space.rescue_kit.values()):
        return []
    return [fail("G16", "rescue.no_list", "rescue.list", row("space", f.space.id))]


def close_out_failures(facts: Facts) -> list[Failure]:
    """Return why no CLOSE_OUT may be signed: the engine's count must be known and zero (`locks.md` §1.5)."""
    if facts.inside == 0:
        return []
    key = "permit.people_inside" if facts.inside else "permit.count_unknown"
    seen, inside = [row("space", facts.space.id)], facts.inside or 0
    return [Failure("CLOSE_OUT", _CLOSE_OUT, key, "permit.count_everybody_out", {"inside": inside}, seen)]


def evaluate(facts: Facts) -> list[CheckResult]:
    """Return the outcome of every check that applies to this kind of grant, in check order.

    For EMERGENCY it is every check, to be recorded; what may refuse it is `emergency_failures` alone.
    """
    if facts.kind is GrantKind.CLOSE_OUT:
        failures = close_out_failures(facts)
        return [CheckResult("CLOSE_OUT", _CLOSE_OUT, Outcome.FAILED if failures else Outcome.PASSED, failures)]
    results = []
    for check in CHECKS:
        if facts.kind is GrantKind.PREP and not check.prep:
            continue
        failures = _RULES[check.id](facts)
        results.append(CheckResult(check.id, check.clause, Outcome.FAILED if failures else Outcome.PASSED, failures))
    return results


def failures_of(results: list[CheckResult]) -> list[Failure]:
    """Return every failure, in check order; empty means the grant may be signed."""
    return [failure for result in results for failure in result.failures]


def grant_life_s(facts: Facts | None, most_s: float) -> int:
    """Return how many whole seconds a grant may live: never past the permit's end or the test's, nor beyond `most_s`.

    It is counted from now, and the lock counts from its challenge, which is earlier: the grant dies sooner, never later.
    """
    ends = [most_s]
    if facts is not None and facts.kind in (GrantKind.PREP, GrantKind.ENTRY):
        ends.append(facts.permit.end - facts.now)
    if facts is not None and facts.kind is GrantKind.ENTRY:
        ends.append(gas_test.test_left_s(facts))
    return max(1, math.floor(min(ends)))


def emergency_failures(space: Space, *, lock: str, by: str, authenticated: bool) -> list[Failure]:
    """Return why an emergency opening is refused: nobody vouches for who asks, or the lock is another space's; nothing else."""
    failures = []
    if not authenticated:
        failures.append(fail("G21", "requester.not_signed_in", "attendant.sign_in", row("person", by)))
    if lock not in {entrance.lock for entrance in space.entrances}:
        failures.append(fail("G04", "lock.other_space", "lock.choose_own", row("lock", lock), lock=lock))
    return failures
