"""A person and one space: outside, admitted, inside, silent, down (`domain.md` §4.6).

Theory: silence is danger, so time alone leads downwards: no motion, then no answer to the device, then none to the attendant.
Motion or an answer leads back as long as nobody has been found down. From DOWN nothing leads back but being counted out,
because a hand that moves is no proof that its owner can leave. Reports are facts and no cell refuses; who may go in at all is
asked of the permit before, and the count of people inside stays with `occupancy`.

No motion is a reading and not its absence: of somebody without a motion sensor nothing is known here, and the check-ins of
entrants watch over them. OVERDUE and EXPOSED are computed, never stored.
"""

import enum
from collections.abc import Iterable

from manway.grid import parse_grid


class PersonState(enum.Enum):
    """Where a person stands to one space; from INSIDE on they are in it."""

    OUTSIDE = "outside"
    ADMITTED = "admitted"
    INSIDE = "inside"
    NO_MOTION = "no_motion"
    NO_ANSWER = "no_answer"
    DOWN = "down"


class PersonSignal(enum.Enum):
    """What is learnt of a person; how long each silence is stands in the timings.

    `admit`: on the roster of an ENTRY grant. `still`: no motion for 2 min; `moves`: motion or an answer; `no_answer`: none to
    the device; `attendant_no_reply`: none to the attendant. `fall`: not cancelled in 30 s. `leave`: out, confirmed, or no
    longer on the roster.
    """

    ADMIT = "admit"
    ENTER = "enter"
    STILL = "still"
    MOVES = "moves"
    NO_ANSWER = "no_answer"
    ATTENDANT_NO_REPLY = "attendant_no_reply"
    SOS = "sos"
    FALL = "fall"
    LEAVE = "leave"


# A call for help from outside raises its alarm as well; it only does not put its caller into the space.
TABLE = parse_grid(
    """
           admit    enter  still     moves  no_answer attendant_no_reply sos  fall leave
outside    admitted inside =         =      =         =                  =    =    =
admitted   =        inside =         =      =         =                  =    =    outside
inside     =        =      no_motion =      =         =                  down down outside
no_motion  =        =      =         inside no_answer =                  down down outside
no_answer  =        =      =         inside =         down               down down outside
down       =        =      =         =      =         =                  =    =    outside
""",
    PersonState,
    PersonSignal,
)

IN_SPACE = frozenset({PersonState.INSIDE, PersonState.NO_MOTION, PersonState.NO_ANSWER, PersonState.DOWN})
# States in which MAN_DOWN holds.
IN_DANGER = frozenset({PersonState.NO_ANSWER, PersonState.DOWN})
# What time alone does to a person who does not move: the signal that falls due in each state.
SILENCE = {
    PersonState.INSIDE: PersonSignal.STILL,
    PersonState.NO_MOTION: PersonSignal.NO_ANSWER,
    PersonState.NO_ANSWER: PersonSignal.ATTENDANT_NO_REPLY,
}


def move(state: PersonState, signal: PersonSignal) -> PersonState:
    """Return the next state; no cell of this table refuses, because reports are facts."""
    after = TABLE[state, signal]
    return state if after is None else after


def silent_until(state: PersonState, since: float, *, still_s: float, answer_s: float, reply_s: float) -> float | None:
    """Return when `SILENCE[state]` falls due, Unix seconds; None where silence says nothing more.

    Args:
        state: where the person stands.
        since: their last motion when INSIDE, else when this state began, Unix seconds.
        still_s: without motion before the device asks (120 s, `domain.md` 7.1).
        answer_s: for an answer to the device (30 s).
        reply_s: for a reply to the attendant (30 s, choice).
    """
    wait = {PersonState.INSIDE: still_s, PersonState.NO_MOTION: answer_s, PersonState.NO_ANSWER: reply_s}.get(state)
    return None if wait is None else since + wait


def overdue(entered_at: float, now: float, *, stay_s: float, permit_end: float) -> bool:
    """Say whether somebody inside should be out: the stay is used up or the permit has ended; no number counts as late."""
    return not (now < permit_end and now - entered_at < stay_s)


def exposed(shares: Iterable[float]) -> bool:
    """Say whether nobody may admit this person again this shift: a share of a TWA or shift limit has reached the whole.

    Args:
        shares: average or dose divided by its limit, one a gas; what is no number has reached it.
    """
    return any(not share < 1.0 for share in shares)
