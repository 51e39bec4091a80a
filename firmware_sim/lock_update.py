"""How a lock gets a new firmware: a signed announcement, an image that fits it, a trial, and a way back (`locks.md` §3.4).

How the image travels is an adapter's matter; here it arrives by `install`.
"""

from collections.abc import Callable

from firmware_sim.lock_enrolment import Enrolling
from firmware_sim.lock_keys import KINDS, Slot
from firmware_sim.lock_memory import NEVER_AGAIN, Image, Publish
from manway import codec_ble, cose, firmware_manifest
from manway.entities import Bolt, Door, LogEvent, RefusalReason
from manway.errors import DecodeRejected
from manway.firmware_manifest import Manifest

UPDATE_PERCENT = 50  # battery (choice)
TRIAL_S = 600.0  # a new image that was greeted by nobody for so long gives way to the old one (`locks.md` §3.4)


class Updating(Enrolling):
    """A lock whose firmware can be replaced, while it bars an empty opening and has the charge for it."""

    def _power_up(self, now: float) -> None:
        super()._power_up(now)
        self._try_image(now)

    def _deadlines(self) -> list[tuple[float, Callable[[float], None]]]:
        return [(self._ram.trial_until, self._revert), *super()._deadlines()]

    def take_manifest(self, message: bytes, now: float, link: str) -> bool:
        """Take an announcement of 134 bytes; a refusal is `ff` on the air and its reason in the log."""
        try:
            envelope, manifest = firmware_manifest.open_manifest(message)
        except DecodeRejected:
            return self._refuse_firmware(RefusalReason.SHAPE, now, link)
        slot = self.body.keys.find(envelope.kid)
        if slot is None or KINDS[slot]:
            return self._refuse_firmware(RefusalReason.KID, now, link)
        if not self._is_by_firmware_key(slot, envelope):
            return self._refuse_firmware(RefusalReason.SIGNATURE, now, link)
        if not self._may_run(manifest):
            return self._refuse_firmware(RefusalReason.PRECONDITION, now, link)
        self.body.keys.promote(slot)
        self.body.announced = manifest
        return True

    def _is_by_firmware_key(self, slot: Slot, envelope: cose.Envelope) -> bool:
        key = self.body.keys.held[slot].public_key
        return cose.is_canonical(envelope.signature) and self._parts.verify(key, envelope.signed, envelope.signature) is True

    def _may_run(self, manifest: Manifest) -> bool:
        fits = manifest.hardware_id == self._parts.hardware_id and manifest.min_version <= self.firmware < manifest.version
        body = self.body
        bars = body.bolt is Bolt.LOCKED and body.door is Door.CLOSED and not body.session and self._ram.motion is None
        return fits and bars and body.battery_percent >= UPDATE_PERCENT

    def _refuse_firmware(self, reason: RefusalReason, now: float, link: str) -> bool:
        self._out.append(Publish("result", codec_ble.REFUSED, link))
        if self._ram.last_event != LogEvent.FIRMWARE_REFUSED:  # a flood must not wash the log away
            self._write(LogEvent.FIRMWARE_REFUSED, now, cause=reason)
        return False

    def install(self, image: bytes, now: float, *, crashes: bool = False) -> list[Publish]:
        """Take the bytes of the announced image and start it; `crashes`: its self-test will fail."""
        return self._run(lambda at: self._install(image, at, crashes=crashes), now)

    def _install(self, image: bytes, now: float, *, crashes: bool) -> None:
        manifest, self.body.announced = self.body.announced, None
        if manifest is None or not manifest.fits(image) or not self._may_run(manifest):
            self._write(LogEvent.FIRMWARE_REFUSED, now, cause=RefusalReason.PAYLOAD)
            return
        self.body.previous = self.body.image or self._factory_image
        self.body.image = Image(manifest.version, crashes)
        self._write(LogEvent.FIRMWARE_INSTALLED, now)
        self._power_up(now)

    def _try_image(self, now: float) -> None:
        """At boot: a new image that fails its self-test gives way at once, another one has ten minutes to be greeted."""
        if self.body.previous is None:
            return
        if self.body.image is not None and self.body.image.crashes:
            self._revert(now)
        else:
            self._ram.trial_until = now + TRIAL_S

    def _confirm_image(self) -> None:
        self.body.previous, self._ram.trial_until = None, NEVER_AGAIN

    def _revert(self, now: float) -> None:
        self.body.image, self.body.previous = self.body.previous, None
        self._write(LogEvent.FIRMWARE_REFUSED, now, cause=RefusalReason.PRECONDITION)
        self._power_up(now)
