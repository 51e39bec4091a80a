"""The devices of a run: their sites, plans and births, and the messages they send, prebuilt but for the time of day.

A space alarms once and latches, so every message over the limit comes from an instrument that has not been over before; how
many alarms there must be is then known before the first byte is sent.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from manway import codec_mqtt
from manway.codec_mqtt import ChannelBirth, DeviceState, SignedPlan, encode
from manway.entities import Instrument, Plan, Space
from manway.runtime import settings
from manway.runtime.signing import SigningKey
from manway.topics import device_topic, root
from tests.bench.wire import length, publish, text

SITE_DEVICES = 50  # (choice) a street of wells; its plan is one message (the wire's 60,000 B)
UNITS = {"O2": "% vol", "LEL": "% LEL", "H2S": "ppm", "CO": "ppm", "CO2": "ppm"}
FOUR = ("O2", "LEL", "H2S", "CO")
FIVE = (*FOUR, "CO2")
# H2S beyond the low limit of 10 mg/m3, which is 7.1 ppm at 20 °C (GBZ 2.1-2019), below the high one of 14.1 ppm.
LIMIT_PPM, OVER_PPM = 7.1, 8.0
KIND = "GAS_LOW"  # raised once an episode: the only kind whose number is known beforehand to the last
_RANGES = {"O2": (0.0, 30.0), "LEL": (0.0, 100.0), "H2S": (0.0, 100.0), "CO": (0.0, 500.0), "CO2": (0.0, 50_000.0)}
_CLEAN = {"O2": (20.9, 0.03), "LEL": (0.4, 0.1), "H2S": (0.3, 0.1), "CO": (1.2, 0.2), "CO2": (620.0, 4.0)}  # and its noise
_AIRS = 64  # different payloads of clean air: enough that nothing along the way could remember them
_BOOT = 1_234_567
_T = b"1795046400000"  # where the time goes: 13 digits until the year 2286
_NEVER_DUE = 4_102_444_800.0  # 2100-01-01


class Message(msgspec.Struct, frozen=True, gc=False):
    """One PUBLISH around its time: `before`, 13 digits, `after`. `over` names its device when it must raise an alarm."""

    before: bytes
    after: bytes
    link: int
    over: str = ""


class Fleet:
    """So many instruments with these gases, `site_devices` to a site, publishing over `links` connections.

    `probes` are one instrument more a site: its alarm says that plan, birth and rules of the site are at work.
    """

    def __init__(
        self, devices: int, gases: Sequence[str] = FIVE, *, links: int = 16, qos: int = 0, site_devices: int = SITE_DEVICES
    ) -> None:
        self.devices, self.gases, self.links, self.qos, self._site_devices = devices, gases, links, qos, site_devices
        count = -(-devices // site_devices)
        self.sites = [f"s{number:04d}" for number in range(count)]
        self.names = [f"gas-{number:05d}" for number in range(devices)]
        self.probes = {f"probe-{site}": site for site in self.sites}
        self._site_of = {name: self.sites[number // site_devices] for number, name in enumerate(self.names)} | self.probes
        self._topics = [device_topic(self._site_of[name], name, "gas") for name in self.names]
        self.sent = [0] * devices  # frames of each, which is also its newest sequence number
        self._fresh = [True] * devices
        self._turn = 0
        self._packet = [0] * links
        random = np.random.default_rng(11)
        self._airs = [self._values(random) for _ in range(_AIRS)]
        self._over = [self._values(random, h2s=OVER_PPM) for _ in range(_AIRS)]
        self.fresh = devices  # instruments that can still raise an alarm

    def _values(self, random: np.random.Generator, h2s: float | None = None) -> bytes:
        air = {gas: round(float(random.normal(*_CLEAN[gas])), 0 if gas == "CO2" else 1) for gas in self.gases}
        if h2s is not None:
            air["H2S"] = h2s
        return b',"v":' + msgspec.json.encode({gas: [abs(value)] for gas, value in air.items()}) + b"}"

    def messages(self, count: int, every: int) -> list[Message]:
        """Return the next messages, devices in turn, one of `every` over the limit (0 = none).

        Raises:
            ValueError: there are not as many instruments left that have not been over.
        """
        wanted = count // every if every else 0
        if wanted > self.fresh:
            message = f"{wanted} alarms wanted of {self.fresh} instruments that have not been over; take more --devices"
            raise ValueError(message)
        out, owed = [], 0
        for number in range(count):
            owed += bool(every) and number % every == every - 1
            device = self._turn
            self._turn = (device + 1) % self.devices
            if owed >= count - number and not self._fresh[device]:
                device = self._fresh.index(True)  # the end is near: out of turn rather than not at all
            over = bool(owed) and self._fresh[device]
            if over:
                owed, self._fresh[device] = owed - 1, False
                self.fresh -= 1
            out.append(self._message(device, over=over))
        return out

    def _message(self, device: int, *, over: bool) -> Message:
        self.sent[device] = seq = self.sent[device] + 1
        link = device % self.links
        middle = b""
        if self.qos:
            self._packet[link] = packet = self._packet[link] % 65_535 + 1
            middle = packet.to_bytes(2, "big")
        payload = b'{"b":%d,"s":%d,"u":%d,"t":' % (_BOOT, seq, seq * 1000)
        air = (self._over if over else self._airs)[(seq + device) % _AIRS]
        head = text(self._topics[device]) + middle + payload
        start = bytes([0x32 if self.qos else 0x30]) + length(len(head) + len(_T) + len(air))
        return Message(start + head, air, link, self.names[device] if over else "")

    def size(self) -> int:
        """Return the bytes of a payload, the first device's first."""
        return len(b'{"b":%d,"s":1,"u":1000,"t":' % _BOOT) + len(_T) + len(self._airs[0])

    def births(self) -> list[bytes]:
        """Return the births of all instruments and probes, retained."""
        channels = {gas: ChannelBirth(UNITS[gas], _RANGES[gas], 0.1) for gas in self.gases}
        state = encode(DeviceState(b=_BOOT, online=True, model="bench", fw="1.0.0", serial="bench", ch=channels))
        every = [*self.names, *self.probes]
        return [
            publish(device_topic(self._site_of[name], name, "state"), state, packet_id=number % 65_535 + 1, retain=True)
            for number, name in enumerate(every)
        ]

    def probe(self, device: str, seq: int, now_ms: int) -> bytes:
        """Return a message of a probe, over the limit from the first."""
        payload = b'{"b":%d,"s":%d,"u":%d,"t":%d' % (_BOOT, seq, seq * 1000, now_ms) + self._over[0]
        return publish(device_topic(self.probes[device], device, "gas"), payload)

    def plans(self, key: SigningKey, now: float) -> list[bytes]:
        """Return every site's signed plan, retained; `now` is Unix seconds."""
        out = []
        for number, site in enumerate(self.sites):
            names = [*self.names[number * self._site_devices : (number + 1) * self._site_devices], f"probe-{site}"]
            plan = Plan(
                site=site,
                version=1,
                made_at=now,
                profile="CN",
                limits_version=settings.limits("CN").version,
                spaces=[self._space(site, name) for name in names],
                locks=[],
                instruments=[self._instrument(name) for name in names],
                permits=[],
                used_grants={},
            )
            body = packed(plan)
            signed = encode(SignedPlan(key.kid.hex(), body, key.sign_raw(body)))
            out.append(publish(f"{root(site)}api/plan", signed, packet_id=number % 65_535 + 1, retain=True))
        return out

    def _space(self, site: str, name: str) -> Space:
        return Space(f"n-{name}", site, "sewer_well", {"en": "Well"}, 6.0, list(self.gases), [])

    def _instrument(self, name: str) -> Instrument:
        units = {gas: UNITS[gas] for gas in self.gases}
        return Instrument(name, name, f"n-{name}", units, bump_due=_NEVER_DUE, calibration_due=_NEVER_DUE)


def packed(plan: Plan) -> bytes:
    """Return the bytes of a plan that are signed."""
    return codec_mqtt.pack_plan(plan)
