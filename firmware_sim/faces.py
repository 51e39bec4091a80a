"""The faces of the virtual devices: what a lock and an instrument show over Bluetooth (`locks.md` §4, §5)."""

from collections.abc import Callable

from firmware_sim.face import GAS_ROWS, LOCK_ROWS, Face, Row
from firmware_sim.instrument import VirtualInstrument
from firmware_sim.lock import VirtualLock
from firmware_sim.lock_memory import Publish
from firmware_sim.profiled import ProfiledInstrument
from manway import codec_ble, gatt
from manway.codec_adv import advertising_data

Model = VirtualLock | VirtualInstrument | ProfiledInstrument

FRAME_S = 1.0  # an instrument makes a frame a second while it is on (`locks.md` §5)


class LockFace:
    """The face of a lock."""

    service, rows = gatt.LOCK_SERVICE, LOCK_ROWS

    def __init__(self, lock: VirtualLock) -> None:
        self._lock = lock
        self._kept: dict[str, dict[str, bytes]] = {}

    def information(self) -> dict[int, bytes]:
        """Return maker, model, serial number and firmware."""
        version = ".".join(str(part) for part in self._lock.firmware)
        return _information("Manway virtual lock", self._lock.lock_id.hex(), version)

    def battery(self, _now: float) -> int:
        """Return the charge, 0-100 %."""
        return self._lock.body.battery_percent

    def advertisement(self, now: float) -> bytes:
        """Return the whole advertisement of 31 bytes."""
        return advertising_data(self.service, self._lock.advertisement(now))

    def take(self, name: str, value: bytes, now: float, link: str) -> list[Publish]:
        """Take what a link wrote; return what the lock says to it."""
        return self._lock.receive(name, value, now, link=link)

    def read(self, name: str, now: float, link: str) -> bytes:
        """Return what a link reads: state and information as they are now, else what was last said to this link."""
        match name:
            case "state":
                return codec_ble.encode_state(self._lock.state(now))
            case "info":
                return self._lock.info()
            case "enrol":
                return self._lock.enrol_info()
            case _:
                return self._kept.get(link, {}).get(name, b"")

    def keep(self, message: Publish) -> None:
        """Remember what was said to a link."""
        self._kept.setdefault(message.link, {})[message.name] = message.payload

    def advance(self, now: float) -> list[Publish]:
        """Run the lock's deadlines."""
        return self._lock.advance(now)

    def next_deadline(self) -> float | None:
        """Return the lock's next deadline."""
        return self._lock.next_deadline()

    def link_made(self, now: float, link: str) -> None:
        """Note a new link: from now on it must say something valid every 30 s."""
        self._lock.link_made(now, link=link)

    def link_lost(self, now: float, link: str) -> list[Publish]:
        """End a link: its challenge and what was said to it are gone."""
        self._kept.pop(link, None)
        return self._lock.link_lost(now, link=link)

    def links_to_drop(self, now: float) -> list[str]:
        """Return the links that said nothing valid for 30 s."""
        return self._lock.links_to_drop(now)


class _Measuring:
    """What every instrument's face has: a next message, and nothing that a link leaves behind."""

    _due: float

    def next_deadline(self) -> float | None:
        """Return when the next message is due."""
        return self._due

    def link_made(self, _now: float, _link: str) -> None:
        """An instrument keeps nothing of a link."""

    def link_lost(self, _now: float, _link: str) -> list[Publish]:
        """An instrument keeps nothing of a link."""
        return []

    def links_to_drop(self, _now: float) -> list[str]:
        """Who listens to an instrument may stay."""
        return []


class GasFace(_Measuring):
    """The face of an instrument: a frame a second while it is on, whoever listens."""

    service, rows = gatt.GAS_SERVICE, GAS_ROWS

    def __init__(self, instrument: VirtualInstrument, now: float) -> None:
        self._instrument = instrument
        self._frame, self._about = b"", instrument.about()
        self._due = now + FRAME_S

    def information(self) -> dict[int, bytes]:
        """Return maker, model, serial number and firmware."""
        said = self._instrument.birth()
        return _information(said.model, said.serial, said.fw)

    def battery(self, _now: float) -> int:
        """Return the charge, 0-100 %."""
        return self._about[_BATTERY_AT]

    def advertisement(self, now: float) -> bytes:
        """Return the whole advertisement of 31 bytes."""
        return advertising_data(self.service, self._instrument.advertisement(now))

    def take(self, _name: str, _value: bytes, _now: float, _link: str) -> list[Publish]:
        """Nothing of an instrument can be written."""
        return []

    def read(self, name: str, _now: float, _link: str) -> bytes:
        """Return what a link reads: the last frame, the instrument or its set-points."""
        reads: dict[str, Callable[[], bytes]] = {
            "frame": lambda: self._frame,
            "instrument": self._instrument.about,
            "setpoints": self._instrument.setpoints,
        }
        return reads[name]()

    def keep(self, message: Publish) -> None:
        """Remember the last frame, for those who read it."""
        if message.name == "frame":
            self._frame = message.payload

    def advance(self, now: float) -> list[Publish]:
        """Measure once a second, and say what the instrument says of itself when that has changed."""
        if now < self._due:
            return []
        self._due = max(self._due + FRAME_S, now + FRAME_S / 2)  # a late wake-up makes no burst
        frame, about = self._instrument.reading(now), self._instrument.about()
        said = [] if frame is None else [Publish("frame", frame)]
        if about != self._about:
            self._about = about
            said.append(Publish("instrument", about))
        return said


_BATTERY_AT = 29  # of an Instrument: version 1, id 8, boot 2, firmware 4, three dates of 4, warm-up 2 (`locks.md` §5)


class ProfiledFace(_Measuring):
    """The face of another maker's instrument: what its profile says, in a service of no standing, a message a second."""

    service = "c0de0001-0000-4000-8000-000000000001"

    def __init__(self, model: ProfiledInstrument, now: float) -> None:
        self._model, self._due = model, now + FRAME_S
        self._vias = model.characteristics
        self.rows = tuple(Row(uuid, frozenset({via, "read"})) for uuid, via in self._vias.items())
        self._said = {uuid: model.value(uuid) for uuid in self._vias}
        self._advertised = model.advertising_data()

    def information(self) -> dict[int, bytes]:
        """Return maker, model, serial number and firmware."""
        return _information(self._model.profile.id, "1", "1.0.0")

    def battery(self, _now: float) -> int:
        """Return the charge, 0-100 %."""
        return 100

    def advertisement(self, _now: float) -> bytes:
        """Return the whole advertisement: the broadcast of this second."""
        return self._advertised

    def take(self, _name: str, _value: bytes, _now: float, _link: str) -> list[Publish]:
        """Nothing of it can be written."""
        return []

    def read(self, name: str, _now: float, _link: str) -> bytes:
        """Return the last message of a characteristic."""
        return self._said[name]

    def keep(self, message: Publish) -> None:
        """Remember the last message, for those who read it."""
        self._said[message.name] = message.payload

    def advance(self, now: float) -> list[Publish]:
        """Measure once a second."""
        if now < self._due:
            return []
        self._due = max(self._due + FRAME_S, now + FRAME_S / 2)
        self._advertised = self._model.advertising_data()
        return [Publish(uuid, self._model.value(uuid)) for uuid in self._vias]


def face_of(model: Model, now: float) -> Face:
    """Return the face of a device model."""
    match model:
        case VirtualLock():
            return LockFace(model)
        case VirtualInstrument():
            return GasFace(model, now)
        case ProfiledInstrument():
            return ProfiledFace(model, now)


def _information(model: str, serial: str, firmware: str) -> dict[int, bytes]:
    # Bluetooth Assigned Numbers 3.8.1: manufacturer, model, serial number, firmware and hardware revision
    said = {0x2A29: "Manway", 0x2A24: model, 0x2A25: serial, 0x2A26: firmware, 0x2A27: "virtual"}
    return {number: text.encode() for number, text in said.items()}
