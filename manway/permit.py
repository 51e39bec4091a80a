"""The permit: from draft to hand-back (`domain.md` §4.1).

Theory: a permit is a promise about *now*. It becomes READY only when ventilation and a fresh test hold, falls back when gas
voids them, goes into EVACUATING by itself on danger and never leaves it by itself: gas back to normal resumes nothing.
With anybody inside, or the count unknown, no permit becomes terminal. Expiry is computed from the end, never stored ahead.
Only the api moves permits.

An interruption ends as the profile says: suspended, cancelled, or as the supervisor decides. What changes a permit without
moving it (a later end, another attendant, an authority's stop) has its rules here as values: every reason why not, or none.
"""

import enum

from manway.entities import Permit, PermitState, Person
from manway.errors import ActionRefused, Failure, ProfileInvalid
from manway.grid import parse_grid


class PermitSignal(enum.Enum):
    """What can happen to a permit; `approve` is the last approval of its chain, `expire` the end passing with nobody inside."""

    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    RETURN = "return"
    PREPARE = "prepare"
    VOID = "void"
    START = "start"
    HALT = "halt"
    SUSPEND = "suspend"
    RESUME = "resume"
    FINISH = "finish"
    CLOSE = "close"
    EXPIRE = "expire"
    CANCEL = "cancel"


TABLE = parse_grid(
    """
            submit    approve  reject   return prepare void     start  halt       suspend   resume finish  close  expire  cancel
draft       submitted x        x        x      x       =        x      =          x         x      x       x      =       cancelled
submitted   x         approved rejected draft  x       =        x      =          x         x      x       x      =       cancelled
approved    x         x        x        x      ready   =        x      =          x         x      x       x      expired cancelled
ready       x         x        x        x      =       approved active approved   x         x      x       x      expired cancelled
active      x         x        x        x      x       =        =      evacuating suspended x      closing x      =       cancelled
evacuating  x         x        x        x      x       =        =      =          suspended x      x       x      =       cancelled
suspended   x         x        x        x      x       =        x      =          x         ready  closing x      expired cancelled
closing     x         x        x        x      x       =        x      =          x         x      x       closed =       cancelled
closed      x         x        x        x      x       =        x      =          x         x      x       x      =       x
rejected    x         x        x        x      x       =        x      =          x         x      x       x      =       x
expired     x         x        x        x      x       =        x      =          x         x      x       x      =       x
cancelled   x         x        x        x      x       =        x      =          x         x      x       x      =       x
""",
    PermitState,
    PermitSignal,
)

TERMINAL = frozenset({PermitState.CLOSED, PermitState.REJECTED, PermitState.EXPIRED, PermitState.CANCELLED})
# A permit that holds its space: no second one may overlap it, and its locks and instruments are watched.
HOLDING = frozenset(
    {
        PermitState.APPROVED,
        PermitState.READY,
        PermitState.ACTIVE,
        PermitState.EVACUATING,
        PermitState.SUSPENDED,
        PermitState.CLOSING,
    }
)
# A later end can be approved: not in an evacuation, and not when the work is done.
EXTENDABLE = frozenset({PermitState.APPROVED, PermitState.READY, PermitState.ACTIVE, PermitState.SUSPENDED})
# States in which people may be inside.
OPEN = frozenset({PermitState.ACTIVE, PermitState.EVACUATING})
# Signals that need a known zero inside: leaving the watched states, ending for good, or letting people in again.
_NEEDS_EMPTY = frozenset(
    {
        PermitSignal.SUSPEND,
        PermitSignal.RESUME,
        PermitSignal.FINISH,
        PermitSignal.CLOSE,
        PermitSignal.EXPIRE,
        PermitSignal.CANCEL,
    }
)


def move(state: PermitState, signal: PermitSignal, *, inside: int | None) -> PermitState:
    """Return the next state; `inside` is the known count, None when unknown, which counts as occupied.

    Raises:
        ActionRefused: the cell says no, or people are (or may be) inside.
    """
    if signal in _NEEDS_EMPTY and inside != 0 and TABLE[state, signal] is not state:
        key = "permit.people_inside" if inside else "permit.count_unknown"
        raise ActionRefused([Failure("PERMIT", "domain.md 4.1", key, "permit.count_everybody_out", {"inside": inside or 0})])
    after = TABLE[state, signal]
    if after is None:
        params: dict[str, str | int | float] = {"state": state.value, "signal": signal.value}
        raise ActionRefused([Failure("PERMIT", "domain.md 4.1", "permit.wrong_state", "permit.look_at_state", params)])
    return after


# -- what an interruption leads to (`domain.md` §4.2) ---------------------------------------------------------------------

# Chinese law suspends; US general industry ends the permit; US construction lets the supervisor say that the condition was
# temporary and changed neither configuration nor hazards (29 CFR 1926.1205(e)), else the permit ends too.
_AFTER = {
    ("suspend", False): PermitSignal.SUSPEND,
    ("suspend", True): PermitSignal.SUSPEND,
    ("supervisor", False): PermitSignal.CANCEL,
    ("supervisor", True): PermitSignal.SUSPEND,
    ("cancel", False): PermitSignal.CANCEL,
    ("cancel", True): PermitSignal.CANCEL,
}


def after_evacuation(rule: str, *, temporary: bool) -> PermitSignal:
    """Return what becomes of a permit once everybody is out; `rule` is the profile's.

    Raises:
        ProfileInvalid: the rule is none of suspend, supervisor and cancel.
    """
    if (rule, temporary) not in _AFTER:
        raise ProfileInvalid("permit", f"no rule for an interruption is called {rule}")
    return _AFTER[rule, temporary]


def after_break(rule: str, *, temporary: bool) -> PermitSignal:
    """Return what becomes of a permit in an ordinary break, with nobody inside; as after an evacuation, by its own rule."""
    return after_evacuation(rule, temporary=temporary)


def reassesses(rule: str) -> bool:
    """Say whether a suspended permit resumes only after everything was confirmed anew (29 CFR 1926.1205(e))."""
    return rule == "supervisor"


# -- what changes a permit without moving it ------------------------------------------------------------------------------


def held(permit: Permit) -> bool:
    """Say whether an authority has stopped this permit (MEM Order 13 art. 18); only its regulator lifts that."""
    return permit.hold is not None


def _fail(clause: str, key: str, fix: str, **params: str | float) -> Failure:
    return Failure("PERMIT", clause, key, fix, dict(params))


def extension_failures(permit: Permit, end: float, now: float, permit_max_s: float) -> list[Failure]:
    """Return why a permit may not get this later end: it is a new approval before the old end, within the profile's longest.

    Args:
        permit: as it stands.
        end: the end that is asked for, Unix seconds.
        now: Unix seconds.
        permit_max_s: how long a permit may last in all (CN 24 h, US 12 h: choice, `domain.md` 3.5).
    """
    clause, failures = "domain.md 3.5", []
    if permit.state not in EXTENDABLE:
        state = permit.state.value
        failures.append(_fail(clause, "permit.wrong_state", "permit.look_at_state", state=state, signal="extend"))
    if permit.hold is not None:
        reason = permit.hold.reason
        failures.append(_fail("MEM Order 13 art. 18", "permit.held", "permit.ask_regulator", reason=reason))
    if not now < permit.end:
        failures.append(_fail(clause, "extension.too_late", "extension.new_permit"))
    if not end > permit.end:
        failures.append(_fail(clause, "extension.not_later", "extension.choose_end"))
    if not end <= permit.start + permit_max_s:
        failures.append(_fail(clause, "extension.too_long", "extension.choose_end", hours=round(permit_max_s / 3600, 1)))
    return failures


# Whom a duty can be handed to: those who may be named for it on a request.
DUTIES = {"attendant": frozenset({"attendant"}), "supervisor": frozenset({"worker", "attendant", "manager"})}


def hand_over_failures(permit: Permit, duty: str, to: Person) -> list[Failure]:
    """Return why a duty of a permit, `attendant` or `supervisor`, may not pass to this person (29 CFR 1926.1206)."""
    clause, failures = "29 CFR 1926.1206", []
    if permit.state not in HOLDING:
        state = permit.state.value
        failures.append(_fail(clause, "permit.wrong_state", "permit.look_at_state", state=state, signal="hand_over"))
    if DUTIES[duty].isdisjoint(to.roles):
        failures.append(_fail(clause, "hand_over.no_right", "hand_over.choose_another"))
    present = permit.attendant if duty == "attendant" else permit.supervisor
    approved = {s.person for s in permit.signatures if s.step == "approver"}
    conflicts = approved | {present} | (set(permit.entrants) if duty == "attendant" else set())
    if to.id in conflicts:
        failures.append(_fail("GB 46768-2025 6.3", "hand_over.conflict", "hand_over.choose_another"))
    return failures


def head_count_failures(counted: int, inside: int | None) -> list[Failure]:
    """Return why a head-count does not do: it must equal the known count, to a person (`domain.md` 3.5)."""
    if inside is None:
        return [_fail("domain.md 3.5", "permit.count_unknown", "permit.recount")]
    if counted != inside:
        return [_fail("domain.md 3.5", "hand_over.count_differs", "permit.recount", counted=counted, inside=inside)]
    return []
