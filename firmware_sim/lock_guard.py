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

from manway import cose, grant
from manway.entities import Grant, RefusalReason
from manway.ids import GrantKind

TICKS_PER_S = 10

# Throttling delays and never locks out, so that a flood of bad grants cannot bar a rescue (`locks.md` §1.4).
_THROTTLE_AFTER = 5
_THROTTLE_WINDOW = 60 * TICKS_PER_S
_THROTTLE_SPACING = 5 * TICKS_PER_S
_RESCUE_SPACING = 2.5  # ticks: at most 4 signatures a second

_SITE_KINDS = frozenset({GrantKind.EMERGENCY})
_ISSUER_KINDS = frozenset(GrantKind) - {GrantKind.ROTATE_KEY}  # one key slot: there is no next one to fill


class Slot(msgspec.Struct, frozen=True):
    """A key the lock trusts, its 4-byte name and the kinds it may sign."""

    kid: bytes
    public_key: bytes
    kinds: frozenset[GrantKind]


def slots(issuer_key: bytes, site_key: bytes) -> list[Slot]:
    """Return the key slots of an enrolled lock: the issuer's first, the site emergency key's second."""
    kinds = {issuer_key: _ISSUER_KINDS, site_key: _SITE_KINDS}
    return [Slot(cose.kid_of(key), key, allowed) for key, allowed in kinds.items()]


class Attempt:
    """A message on its way through the steps; each part is read when the first step that needs it comes."""

    def __init__(self, message: bytes) -> None:
        self.message = message

    @cached_property
    def envelope(self) -> cose.Envelope:
        """The message cut into its parts; raises `GrantRejected`."""
        return grant.open_envelope(self.message)

    @cached_property
    def grant(self) -> Grant:
        """What the message orders, believed by nobody before its signature; raises `GrantRejected`."""
        return grant.decode_payload(self.envelope.payload)


class Guard:
    """The volatile memory of a lock: the outstanding challenge and the count of refusals. Gone at every boot.

    Args:
        lock_id: 8 bytes.
        slots: the trusted keys.
        verify: (public key, signed bytes, signature) -> whether it is right.
        precondition: whether bolt, battery and door allow this grant now.
    """

    def __init__(
        self,
        lock_id: bytes,
        slots: list[Slot],
        verify: Callable[[bytes, bytes, bytes], bool],
        precondition: Callable[[Grant], bool],
    ) -> None:
        self._lock_id = lock_id
        self._slots = {slot.kid: slot for slot in slots}
        self._verify = verify
        self._precondition = precondition
        self._challenge = b""
        self._challenge_tick = 0
        self._refused: deque[int] = deque(maxlen=_THROTTLE_AFTER)
        self._judged_tick = 0
        self._rescue_tick = -_RESCUE_SPACING

    def challenge(self, challenge: bytes, tick: int) -> None:
        """Make a challenge the outstanding one; there is one link, hence one."""
        self._challenge, self._challenge_tick = challenge, tick

    def burn(self) -> None:
        """Forget the outstanding challenge: whatever was signed for it opens nothing any more."""
        self._challenge = b""

    def judge(self, attempt: Attempt, tick: int) -> RefusalReason | None:
        """Return why a message may not act, or None when `attempt.grant` may."""
        reason = self._first_failure(self._BEFORE_SIGNATURE, attempt, tick)
        if self._throttled(tick):
            rescue = reason is None and attempt.grant.kind is GrantKind.EMERGENCY
            if not rescue or tick - self._rescue_tick < _RESCUE_SPACING:
                return RefusalReason.THROTTLED
            self._rescue_tick = tick
        else:
            self._judged_tick = tick
        reason = reason or self._first_failure(self._FROM_SIGNATURE, attempt, tick)
        if reason:
            self._refused.append(tick)
        return reason

    def _throttled(self, tick: int) -> bool:
        full = len(self._refused) == _THROTTLE_AFTER
        recent = full and tick - self._refused[0] < _THROTTLE_WINDOW
        return recent and tick - self._judged_tick < _THROTTLE_SPACING

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
        return attempt.envelope.kid in self._slots

    def _kind_fits_slot(self, attempt: Attempt, _tick: int) -> bool:
        return grant.claimed_kind(attempt.envelope.payload) in self._slots[attempt.envelope.kid].kinds

    def _has_payload(self, attempt: Attempt, _tick: int) -> bool:
        return isinstance(attempt.grant, Grant)

    def _is_for_me(self, attempt: Attempt, _tick: int) -> bool:
        return attempt.grant.lock_id == self._lock_id

    def _answers_challenge(self, attempt: Attempt, _tick: int) -> bool:
        return hmac.compare_digest(attempt.grant.challenge, self._challenge)

    def _is_young(self, attempt: Attempt, tick: int) -> bool:
        life = min(attempt.grant.life_s, grant.MAX_LIFE_S) * TICKS_PER_S
        return 0 <= tick - self._challenge_tick <= life

    def _is_signed(self, attempt: Attempt, _tick: int) -> bool:
        envelope = attempt.envelope
        key = self._slots[envelope.kid].public_key
        return cose.is_canonical(envelope.signature) and self._verify(key, envelope.signed, envelope.signature)

    def _is_possible(self, attempt: Attempt, _tick: int) -> bool:
        return self._precondition(attempt.grant)

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
