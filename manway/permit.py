"""The permit: from draft to hand-back (`domain.md` §4.1).

Theory: a permit is a promise about *now*. It becomes READY only when ventilation and a fresh test hold, falls back when gas
voids them, goes into EVACUATING by itself on danger and never leaves it by itself: gas back to normal resumes nothing.
With anybody inside, or the count unknown, no permit becomes terminal. Expiry is computed from the end, never stored ahead.
Only the api moves permits.
"""

import enum

from manway.entities import PermitState
from manway.errors import ActionRefused, Failure
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
# States in which people may be inside.
OPEN = frozenset({PermitState.ACTIVE, PermitState.EVACUATING})
# Signals that need a known zero inside: leaving the watched states, or ending for good.
_NEEDS_EMPTY = frozenset(
    {PermitSignal.SUSPEND, PermitSignal.FINISH, PermitSignal.CLOSE, PermitSignal.EXPIRE, PermitSignal.CANCEL}
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
