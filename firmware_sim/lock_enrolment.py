"""How a lock gets its keys: an open case, a button held for 5 s, and the secret printed inside (`locks.md` §3.2).

Nothing here moves the bolt, and nothing here is reachable by radio alone.
"""

import hmac
from collections.abc import Callable

from firmware_sim.lock_memory import BROKER, NEVER_AGAIN, EnrolmentMode, Publish
from firmware_sim.lock_orders import Orders
from manway import codec_ble, enrolment
from manway.enrolment import EnrolInfo, Enrolment
from manway.entities import LogEvent, RefusalReason, ResultCode
from manway.errors import DecodeRejected

HOLD_S = 5.0
MODE_S = 120.0
REFUSALS_EVERY_S = 60.0  # attempts are logged at most this often: a flood must not wash the log away (choice)


class Enrolling(Orders):
    """A lock that can be given keys."""

    def enrol_info(self) -> bytes:
        """Return the 62 bytes read from Enrol; its nonce stands still while the mode lasts."""
        mode = self._ram.enrolment
        return enrolment.encode_info(
            EnrolInfo(
                public_key=self._parts.public_key,
                nonce=mode.nonce if mode else bytes(enrolment.NONCE_BYTES),
                hardware_id=self._parts.hardware_id,
                firmware=self.firmware,
                in_mode=mode is not None,
            )
        )

    @property
    def firmware(self) -> tuple[int, int, int, int]:
        """The version that runs."""
        return (self.body.image or self._factory_image).version

    def _deadlines(self) -> list[tuple[float, Callable[[float], None]]]:
        mode = self._ram.enrolment
        ends = [(mode.until, self._end_mode)] if mode else []
        return [(self._ram.held_until, self._begin_mode), *ends, *super()._deadlines()]

    def _begin_mode(self, now: float) -> None:
        self._ram.held_until = NEVER_AGAIN
        if self.body.case_open and (nonce := self._fresh(now)) is not None:
            self._ram.enrolment = EnrolmentMode(nonce, now + MODE_S)

    def _end_mode(self, _now: float) -> None:
        self._ram.enrolment = None

    def take_enrolment(self, message: bytes, now: float, link: str) -> bool:
        """Answer `01` with the 62 bytes of Enrol, and an enrolment of 157 bytes with a signed result or `ff`."""
        if message == enrolment.ENROL_REQUEST:
            self._out.append(Publish("enrol", self.enrol_info(), link))
            return True
        try:
            claims = enrolment.decode(message)
        except DecodeRejected:
            return self._refuse_enrolment(RefusalReason.SHAPE, now, link)
        refusal = self._refuses_enrolment(claims, message, now)
        return self._enrol(claims, now, link) if refusal is None else self._refuse_enrolment(refusal, now, link)

    def _refuses_enrolment(self, claims: Enrolment, message: bytes, now: float) -> RefusalReason | None:
        mode = self._ram.enrolment
        if mode is None:
            return RefusalReason.PRECONDITION
        if claims.lock_id != self.lock_id:
            return RefusalReason.OTHER_LOCK
        if not hmac.compare_digest(claims.nonce, mode.nonce):
            return RefusalReason.CHALLENGE
        if not enrolment.is_authentic(message, self._parts.secret):
            self._end_mode(now)  # one guess at the secret for each time somebody stands at the open case
            return RefusalReason.SIGNATURE
        return None

    def _refuse_enrolment(self, reason: RefusalReason, now: float, link: str) -> bool:
        self._answer_enrolment(codec_ble.REFUSED, link)
        if now - self._ram.enrol_refused_at >= REFUSALS_EVERY_S:
            self._ram.enrol_refused_at = now
            self._write(LogEvent.REFUSED, now, cause=reason)
        return False

    def _enrol(self, claims: Enrolment, now: float, link: str) -> bool:
        self._end_mode(now)
        if not self._write(LogEvent.ENROLLED, now):  # what takes no record takes no key either
            return self._refuse_enrolment(RefusalReason.FLASH, now, link)
        self._guard.burn()
        self._give_up(now)
        self.body.keys.enrol(claims.issuer_key, claims.site_key)
        self.body.advertisement_key = claims.advertisement_key
        if claims.time > self._unix(now):  # only a SET_TIME moves the clock back
            self._set_clock(claims.time, now, order=None)
        result = self._signed_result(claims.nonce, ResultCode.ENROLLED, now)
        self._answer_enrolment(result, link)
        return True

    def _answer_enrolment(self, answer: bytes, link: str) -> None:
        # Over a connection Enrol is only read and written: there every answer is a Result (`locks.md` §4).
        self._out.append(Publish("enrol" if link == BROKER else "result", answer, link))
