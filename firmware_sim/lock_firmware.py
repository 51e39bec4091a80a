"""The firmware of a virtual lock: what it does with each message of each link (`locks.md` §1-3, §6).

The guard (`lock_guard.py`) decides on steps 1-9, `lock_orders.py` does steps 10-14; what hands and power cuts do to the
lock is in `lock.py`.
"""

from collections.abc import Callable
from typing import ClassVar

from firmware_sim import lock_log
from firmware_sim.lock_chip import Parts
from firmware_sim.lock_guard import Attempt
from firmware_sim.lock_keys import Key, Slot
from firmware_sim.lock_memory import BROKER, Accepted, Body, Publish
from firmware_sim.lock_turns import Turns
from firmware_sim.lock_update import Updating
from manway import codec_adv, codec_ble, cose
from manway.codec_adv import LockAdvertisement
from manway.codec_ble import Capability, LockInfo
from manway.entities import Door, LockFlag, LockHello, LogEvent, RefusalReason

HELLO_SPACING_S = 0.5  # at most two a second, whoever asks
HELLO_HOLD_S = 5.5  # a gateway that was refused over MQTT asks again after 5 s (`locks.md` §6) (choice)
LINK_SILENT_S = 30.0  # a connection without a valid message for so long is in somebody's way (`locks.md` §1.4)
HARDWARE_ID = b"MW-SIM-1"
_TAMPERED = LockFlag.TAMPER | LockFlag.FORCED | LockFlag.SEAL_BROKEN


class Firmware(Updating):
    """One lock, powered from the start.

    Args:
        public_key: the lock's own Ed25519 key; its id follows from it.
        issuer_key: public key of the grant issuer; empty: a lock from the factory, which opens for nobody.
        site_key: public key of the site's emergency key; empty as above.
        sign: (external data, payload) -> signed message, with the lock's private key.
        verify: (public key, signed bytes, signature) -> whether it is right.
        random_bytes: the hardware's random source.
        flash: the log so far; see `LockLog`.
        now: seconds, as in every method.
        body: mechanics at the start, for seeded scenes: bolt retracted with session 2 is a permit under way. The keys in it
            outlive the ones given here.
        auto_press_s: a training yard's lock presses its own button this long after it asks; None waits for a person.
        firmware: version reported in the hello until another one is installed.
        clock_ahead_s: how far its evidence clock, set at enrolment, is ahead of `now`; None: unknown. A power cut loses it.
        firmware_key: public key under which images are announced; empty: none is ever taken.
        secret: 16 bytes printed inside the case; empty: it cannot be enrolled.
        hardware_id: 8 bytes.
        log_capacity: records the log's ring holds.
        advertisement_key: 32 bytes, as an enrolment gives them.
    """

    def __init__(
        self,
        *,
        public_key: bytes,
        issuer_key: bytes = b"",
        site_key: bytes = b"",
        sign: Callable[[bytes, bytes], bytes],
        verify: Callable[[bytes, bytes, bytes], bool],
        random_bytes: Callable[[int], bytes],
        flash: list[bytes],
        now: float,
        body: Body | None = None,
        auto_press_s: float | None = None,
        firmware: tuple[int, int, int, int] = (0, 1, 0, 0),
        clock_ahead_s: float | None = None,
        firmware_key: bytes = b"",
        secret: bytes = b"",
        hardware_id: bytes = HARDWARE_ID,
        log_capacity: int = lock_log.CAPACITY,
        advertisement_key: bytes = b"",
    ) -> None:
        parts = Parts(public_key, sign, verify, random_bytes, secret, hardware_id, log_capacity, auto_press_s)
        super().__init__(parts, body or Body(), flash, firmware)
        factory = {Slot.ISSUER: issuer_key, Slot.SITE: site_key, Slot.FIRMWARE: firmware_key}
        if not self.body.keys.held:
            self.body.keys.held = {slot: Key(key) for slot, key in factory.items() if key}
        self.body.advertisement_key = advertisement_key or self.body.advertisement_key
        self._power_up(now)
        self._ram.unix_offset = clock_ahead_s

    def _power_up(self, now: float) -> None:
        self._hellos = Turns(HELLO_SPACING_S, HELLO_HOLD_S)
        super()._power_up(now)

    # --- links

    def link_made(self, now: float, *, link: str) -> None:
        """Note that somebody has connected: from now on the link must say something valid every 30 s."""
        self._ram.links[link] = now

    def link_lost(self, now: float, *, link: str = BROKER) -> list[Publish]:
        """End a connection or the broker session; its challenge ends with it."""
        return self._run(lambda at: self._forget(link, at), now)

    def _forget(self, link: str, now: float) -> None:
        self._ram.links.pop(link, None)
        self._guard.forget(link, self._tick(now))
        self._hellos.leave(link, now)
        remembered = self._ram.remembered
        # A broker hands a message out again after a session was cut; over a connection nobody does.
        if link != BROKER and remembered is not None and remembered.link == link:
            self._ram.remembered = None

    def links_to_drop(self, now: float) -> list[str]:
        """Return the connections that said nothing valid for 30 s; the broker session is never one of them."""
        return [link for link, heard in self._ram.links.items() if link != BROKER and now - heard >= LINK_SILENT_S]

    # --- messages

    def receive(self, name: str, payload: bytes, now: float, *, link: str = BROKER) -> list[Publish]:
        """Take one message of `{root}/down/{name}`; the caller drops retained copies, an unknown name does nothing."""
        take = self._TAKES.get(name)
        if take is None or not self.powered:
            return self.advance(now)
        return self._run(lambda at: self._take(take, payload, at, link), now)

    def _take(self, take: Callable[["Firmware", bytes, float, str], bool], payload: bytes, now: float, link: str) -> None:
        self._ram.links.setdefault(link, now)
        if take(self, payload, now, link):
            self._ram.links[link] = now

    def _take_hello(self, payload: bytes, now: float, link: str) -> bool:
        if payload != codec_ble.HELLO_REQUEST or not self._hellos.take(link, now):
            return False
        challenge = self._fresh(now)
        if challenge is None:
            self._guard.burn()
            return False
        remembered = self._ram.remembered
        if remembered is not None and remembered.link == link:
            self._ram.remembered = None  # a new challenge ends the old message's right to its stored answer
        self._guard.challenge(challenge, self._tick(now), link, door_closed=self.body.door is Door.CLOSED)
        self._confirm_image()
        self._out.append(Publish("hello", self._hello(challenge, now), link))
        return True

    def _hello(self, challenge: bytes, now: float) -> bytes:
        keys = self.body.keys
        hello = LockHello(
            lock_id=self.lock_id,
            challenge=challenge,
            state=self.state(now),
            log_head=self._log.head,
            time=self._unix(now),
            kids=(keys.kid(Slot.ISSUER), keys.kid(Slot.NEXT_ISSUER)),
            firmware=self.firmware,
        )
        return self._sign(cose.HELLO_AAD, codec_ble.encode_hello(hello))

    def _take_log_request(self, payload: bytes, _now: float, link: str) -> bool:
        messages, answer = self._log.answer(payload)
        self._out += [Publish("log", message, link) for message in messages]
        self._out.append(Publish("logctl", answer, link))
        return not answer.endswith(codec_ble.NOT_SUPPORTED)

    def _take_grant(self, message: bytes, now: float, link: str) -> bool:
        remembered = self._ram.remembered
        if remembered is not None and (message, link) == (remembered.message, remembered.link):
            self._out.append(Publish("result", remembered.result, link))  # a QoS 1 duplicate: the same answer, and no act
            return True
        attempt = Attempt(message, link)
        reason = self._guard.judge(attempt, self._tick(now))
        if reason is not None:
            self._refuse(reason, attempt, now)
            return False
        order = Accepted(attempt.grant, self._guard.slot_of(attempt), link)
        try:
            self._accept(order, message, now)
        except Exception:  # noqa: BLE001 - whatever failed, the answer is no and no press may follow
            self._ram.pending = None
            self._out.append(Publish("result", codec_ble.REFUSED, link))
            self._write(LogEvent.FAULT, now, order=order.grant)
        return True

    def _refuse(self, reason: RefusalReason, attempt: Attempt, now: float) -> None:
        throttled = reason is RefusalReason.THROTTLED
        answer = codec_ble.THROTTLED if throttled else codec_ble.REFUSED
        self._out.append(Publish("result", answer, attempt.link))
        # A flood must not wash the log away: one record says that it began. What the issuer signed is no part of it, and before
        # its signature held, a message's own words have no place in the log.
        order = attempt.grant if reason is RefusalReason.PRECONDITION else None
        if order is None:
            told, self._ram.flood_logged = self._ram.flood_logged, self._guard.flooded
            if self._guard.flooded and told:
                return
            reason = RefusalReason.THROTTLED if self._guard.flooded else reason
        self._write(LogEvent.REFUSED, now, cause=reason, order=order)

    _TAKES: ClassVar[dict[str, Callable[["Firmware", bytes, float, str], bool]]] = {
        "hello": _take_hello,
        "grant": _take_grant,
        "logctl": _take_log_request,
        "enrol": Updating.take_enrolment,
        "firmware": Updating.take_manifest,
    }

    # --- what it shows without being asked

    def advertisement(self, now: float) -> bytes:
        """Return the 10 bytes of service data it broadcasts."""
        state = self.state(now)
        said = LockAdvertisement(
            bolt=state.bolt,
            door=state.door,
            tampered=bool(state.flags & _TAMPERED),
            session_open=state.session != 0,
            enrolment=LockFlag.ENROLMENT in state.flags,
            session=state.session,
            battery_percent=state.battery_percent,
            log_seq=state.log_seq & 0xFFFF,
        )
        return codec_adv.encode_lock_advertisement(said, self.lock_id, self.body.advertisement_key)

    def info(self) -> bytes:
        """Return what is read from Info: this model has every part fitted."""
        info = LockInfo(
            hardware_id=self._parts.hardware_id,
            firmware=self.firmware,
            fitted=~Capability(0),
            log_capacity=self._log.capacity,
            oldest_seq=self._log.oldest_seq,
        )
        return codec_ble.encode_info(info)
