"""Steps 1-9 of a lock's decision on a grant: may it act? Nothing here moves anything (`locks.md` §1.3-1.4).

Every step is a row of `Guard.CHECKS`; anything but True, an exception included, refuses with the row's reason. Time is
the lock's own tick, 100 ms since boot: no clock that somebody can set decides here.
"""

import hmac
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

import msgspec

from firmware_sim.lock_keys import KINDS, Keys, Slot
from firmware_sim.lock_turns import Turns
from manway import cose, grant
from manway.entities import Grant, RefusalReason
from manway.ids import GrantKind

TICKS_PER_S = 10

# Throttling delays and never locks out, so that a flood of bad grants cannot bar a rescue (`locks.md` §1.4).
_THROTTLE_AFTER = 5
_THROTTLE_WINDOW = 60 * TICKS_PER_S
_THROTTLE_SPACING = 5 * TICKS_PER_S
_RESCUE_SPACING = 2.5  # ticks: at most 4 signatures a second
# A gateway whose rescue was throttled comes again with a new hello after 0.6 s; two strangers before it in the line then cost
# it less than the 5 s of §1.4 (choice).
_RESCUE_HOLD = 2 * TICKS_PER_S

_LONGEST_S = {GrantKind.SET_TIME: grant.SET_TIME_LIFE_S}


class Challenge(msgspec.Struct, frozen=True):
    """16 random bytes that one link was given, the tick at which it was, and whether the door stood closed then.

    A door that opens burns it, so that of one that was given at a closed door the door has been closed ever since.
    """

    value: bytes
    tick: int
    door_closed: bool


_NO_CHALLENGE = Challenge(b"", 0, door_closed=False)  # no message can name it: a challenge has 16 bytes


class Attempt:
    """A message of one link on its way through the steps; each part is read when the first step that needs it comes."""

    def __init__(self, message: bytes, link: str = "") -> None:
        self.message = message
        self.link = link

    @cached_property
    def envelope(self) -> cose.Envelope:
        """The message cut into its parts; raises `GrantRejected`."""
        return grant.open_envelope(self.message)

    @cached_property
    def grant(self) -> Grant:
        """What the message orders, believed by nobody before its signature; raises `GrantRejected`."""
        return grant.decode_payload(self.envelope.payload)


class Guard:
    """The volatile memory of a lock: the outstanding challenges, one a link, and the count of refusals. Gone at every boot.

    Args:
        lock_id: 8 bytes.
        keys: the slots with the trusted keys.
        verify: (public key, signed bytes, signature) -> whether it is right.
        precondition: whether bolt, battery and door allow this grant, the answer to this challenge, now.

    `flooded`: five messages had been refused in the minute before the one judged last.
    """

    def __init__(
        self,
        lock_id: bytes,
        keys: Keys,
        verify: Callable[[bytes, bytes, bytes], bool],
        precondition: Callable[[Grant, Challenge], bool],
    ) -> None:
        self._lock_id = lock_id
        self._keys = keys
        self._verify = verify
        self._precondition = precondition
        self._challenges: dict[str, Challenge] = {}
        self._refused: deque[int] = deque(maxlen=_THROTTLE_AFTER)
        self._judged_tick = 0
        self._rescues = Turns(_RESCUE_SPACING, _RESCUE_HOLD)
        self.flooded = False

    def challenge(self, value: bytes, tick: int, link: str, *, door_closed: bool) -> None:
        """Make a challenge the outstanding one of its link."""
        self._challenges[link] = Challenge(value, tick, door_closed)

    def burn(self) -> None:
        """Forget the challenges of all links: whatever was signed for them opens nothing any more."""
        self._challenges.clear()

    def forget(self, link: str, tick: int) -> None:
        """Forget the challenge of a link that is gone, and its place among the rescues that wait to be looked at."""
        self._challenges.pop(link, None)
        self._rescues.leave(link, tick)

    def judge(self, attempt: Attempt, tick: int) -> RefusalReason | None:
        """Return why a message may not act, or None when `attempt.grant` may."""
        reason = self._first_failure(self._BEFORE_SIGNATURE, attempt, tick)
        self.flooded = len(self._refused) == _THROTTLE_AFTER and tick - self._refused[0] < _THROTTLE_WINDOW
        if self.flooded and tick - self._judged_tick < _THROTTLE_SPACING:
            rescue = reason is None and attempt.grant.kind is GrantKind.EMERGENCY
            if not (rescue and self._rescues.take(attempt.link, tick)):
                return RefusalReason.THROTTLED
        else:
            self._judged_tick = tick
        reason = reason or self._first_failure(self._FROM_SIGNATURE, attempt, tick)
        if reason:
            self._refused.append(tick)
        return reason

    def slot_of(self, attempt: Attempt) -> Slot:
        """Return the slot of the key a message names.

        Raises:
            GrantRejected: KID, no slot holds it.
        """
        slot = self._keys.find(attempt.envelope.kid)
        if slot is None:
            raise grant.GrantRejected(RefusalReason.KID)
        return slot

    def _challenge_of(self, attempt: Attempt) -> Challenge:
        return self._challenges.get(attempt.link, _NO_CHALLENGE)

    def _first_failure(self, steps: tuple[RefusalReason, ...], attempt: Attempt, tick: int) -> RefusalReason | None:
        failures = (self._failure(step, attempt, tick) for step in steps)
        return next((failure for failure in failures if failure), None)

    def _failure(self, step: RefusalReason, attempt: Attempt, tick: int) -> RefusalReason | None:
        try:
            return None if self.CHECKS[step](self, attempt, tick) is True else step
        except grant.GrantRejected as error:
            return error.refusal
        except Exception:  # noqa: BLE001 - a lock that fails must refuse, whatever failed
            return step

    def _has_shape(self, attempt: Attempt, _tick: int) -> bool:
        return isinstance(attempt.envelope, cose.Envelope)

    def _has_slot(self, attempt: Attempt, _tick: int) -> bool:
        return isinstance(self.slot_of(attempt), Slot)

    def _kind_fits_slot(self, attempt: Attempt, _tick: int) -> bool:
        return grant.claimed_kind(attempt.envelope.payload) in KINDS[self.slot_of(attempt)]

    def _has_payload(self, attempt: Attempt, _tick: int) -> bool:
        return isinstance(attempt.grant, Grant)

    def _is_for_me(self, attempt: Attempt, _tick: int) -> bool:
        return attempt.grant.lock_id == self._lock_id

    def _answers_challenge(self, attempt: Attempt, _tick: int) -> bool:
        return hmac.compare_digest(attempt.grant.challenge, self._challenge_of(attempt).value)

    def _is_young(self, attempt: Attempt, tick: int) -> bool:
        longest = _LONGEST_S.get(attempt.grant.kind, grant.MAX_LIFE_S)
        life = min(attempt.grant.life_s, longest) * TICKS_PER_S
        return 0 <= tick - self._challenge_of(attempt).tick <= life

    def _is_signed(self, attempt: Attempt, _tick: int) -> bool:
        envelope = attempt.envelope
        key = self._keys.held[self.slot_of(attempt)].public_key
        return cose.is_canonical(envelope.signature) and self._verify(key, envelope.signed, envelope.signature)

    def _is_possible(self, attempt: Attempt, _tick: int) -> bool:
        return self._precondition(attempt.grant, self._challenge_of(attempt))

    CHECKS: ClassVar[dict[RefusalReason, Callable[["Guard", Attempt, int], bool]]] = {
        RefusalReason.SHAPE: _has_shape,
        RefusalReason.KID: _has_slot,
        RefusalReason.KIND: _kind_fits_slot,
        RefusalReason.PAYLOAD: _has_payload,
        RefusalReason.OTHER_LOCK: _is_for_me,
        RefusalReason.CHALLENGE: _answers_challenge,
        RefusalReason.AGE: _is_young,
        RefusalReason.SIGNATURE: _is_signed,
        RefusalReason.PRECONDITION: _is_possible,
    }
    _BEFORE_SIGNATURE = tuple(CHECKS)[:-2]
    _FROM_SIGNATURE = tuple(CHECKS)[-2:]
