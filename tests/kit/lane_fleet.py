"""Devices, plans and people of a few sites that do whatever a test asks of them, and breathe calm air otherwise.

Every act is a name, the number of a device and a small number more, so that a failure shrinks to few of them. Messages are what
the broker would hand over: bytes.
"""

import zlib
from collections.abc import Callable, Iterable

import msgspec

from manway.codec_mqtt import ChannelBirth, DeviceState, SignedPlan, encode, pack_plan
from manway.commands import AcknowledgeAlarm, AnyCommand, RaiseSos, RecordCheckIn, RecordCount, RecordEntry, ResetAlarm
from manway.entities import Instrument, PermitState, Plan
from manway.runtime.ports import Message
from manway.topics import device_topic, root
from tests.kit.builders import LIMITS, UNITS, a_permit, a_space, an_instrument
from tests.kit.clock import EPOCH

SITES = ("s1", "s2", "s3")
SPACES = ("n01", "n02")
NOWHERE = "n09"  # no plan has this space, and an instrument is there all the same
CLEAN = {"O2": 20.9, "LEL": 0.0, "H2S": 0.0, "CO": 1.0, "CO2": 400.0}
FIVE = UNITS | {"CO2": "ppm"}
PPM = (-100.0, 1e5)
# Near every limit of the default profile, on it, and behind it; air that cannot be, and drift.
AIR: list[tuple[str, float]] = [
    *(("H2S", value) for value in (3.4, 3.54, 8.0, 60.0, 210.0, -50.0)),
    *(("O2", value) for value in (20.05, 20.0, 19.4, 9.0, 22.5, -1.0)),
    *(("LEL", value) for value in (4.99, 5.0, 11.0, 120.0)),
    *(("CO", value) for value in (12.8, 13.0, 40.0)),
    ("CO2", 39_000.0),
]
SMALL = [-0.0, 5e-324, -5e-324, 1e-9, 0.1 + 0.2, -0.4, 1 / 3, 0.0004]
ODD = ["1e308", "-1e308", "1e999", "NaN", "null", '"1"', "true", "1" + 40 * "0", "[1]", "1E0", "100000.1"]
STATUSES = ["fault", "warmup", "over", "under", "invalid", "poison", "pump", "ok", "nonsense"]
EXTRA: list[tuple[str, float]] = [
    *(("battery_percent", value) for value in (50.0, 101.0)),
    *(("fan_a", value) for value in (2.0, 0.1)),
    *(("wearer_state", value) for value in (0.0, 1.0, 3.0)),
    *(("PM", value) for value in (5.0, 2e5)),
    ("ghost", 1.0),
]
CLOCKS = [0.0, -100.0, -31.0, -29.9997, -5.0, 0.0004, 5.0, 40.0, 1e6, -30.0]
GARBAGE = [b"", b"{", b"\xff\xfe", b"null", b"[" * 3000, b'{"b":1}', b"\x78\x9c", b'{"b":1,"s":1,"u":0,"v":{}}', b"\x00" * 20]
_STATUS_FIELDS: list[dict[str, list[str]]] = [{}, {"CO": []}, {"CO": ["ok"]}]
# On the edge of what a sensor can say, and just behind it.
EDGES: list[tuple[str, float]] = [
    *(("O2", value) for value in (-5.0, 100.0, 100.00000001)),
    *(("LEL", value) for value in (-10.0, 150.0, 150.5)),
    *(("CO", value) for value in (-100.0, 100_000.0, -100.5)),
    ("H2S", 100_000.0),
]
FLOODS = [2, 3, 9, 16, 17, 18, 19, 40, 5, 130]  # messages of one device at once; behind seventeen they go the ordinary way
# A key that comes twice, of which the second counts.
DOUBLED = [(b'{"b":', b'{"s":1,"b":'), (b'"O2":[', b'"O2":[8.0],"O2":['), (b'"v":{', b'"v":{"H2S":[60.0]},"v":{')]
FAR = [2**32 - 2, 2**32 - 9, 2**31 - 2, 2**31 + 3]  # what boots may begin behind, near the ends of integers
WAITS = [0.3, 6.0, 31.0, 61.0, 200.0, 0.0, 1900.0, 12.0, 0.999, 86_400.0]


class Device:
    """A gas instrument: what it measures, how it counts, and how it says so."""

    def __init__(self, site: str, name: str, number: int, channels: dict[str, str]) -> None:
        self.site, self.name, self.number, self.channels = site, name, number, channels
        self.boot, self.seq = 100 + number, 0
        self.air = {gas: CLEAN[gas] for gas in channels}
        self.slope: dict[str, float] = {}
        self.usual: dict[str, float] = {}  # what it names beside its gases
        self.extra: dict[str, float] = {}
        self.clock_s, self.rate, self.has_clock = 0.0, 0.0, True
        self.untold = set[str]()  # gases that it does not name for now
        self.reversed = self.packed = self.unknown = False
        self.birth = self._born(dict(channels))
        self.last: Message | None = None

    def _born(self, units: dict[str, str], fw: str = "1", *, online: bool = True) -> DeviceState:
        named = units | {"battery_percent": "%", "fan_a": "A", "wearer_state": "", "PM": "ppm"}
        channels = {name: ChannelBirth(unit, PPM, 0.1) for name, unit in named.items()}
        return DeviceState(self.boot, online, "four", fw, self.name, channels)

    def born(self, **more: object) -> Message:
        """Its birth; whatever is named is new in it."""
        self.birth = msgspec.structs.replace(self.birth, b=self.boot, **more)
        return Message(device_topic(self.site, self.name, "state"), encode(self.birth))

    def born_otherwise(self, x: int) -> Message:
        """A birth that is new in something, or not at all."""
        ways: list[Callable[[], Message]] = [
            self.born,
            lambda: self.born(fw=self.birth.fw + "1"),
            lambda: self.born(ch=self._born(self.channels | {"CO": "mg/m3"}).ch),
            lambda: self.born(ch={c: b for c, b in self.birth.ch.items() if c != "CO"}),
            lambda: self.born(online=False),
            lambda: self.born(ch=self._born(self.channels).ch, online=True),
            lambda: Message(
                device_topic(self.site, self.name, "state"), encode(msgspec.structs.replace(self.birth, b=self.boot + 1))
            ),
        ]
        return ways[x % len(ways)]()

    def says(
        self,
        at: float,
        *,
        late_s: float = 0.0,
        rows: int = 1,
        raw: dict[str, str] | None = None,
        over: dict[str, object] | None = None,
        **more: object,
    ) -> Message:
        """Its next message of gas at `at`; `raw` puts other bytes in the place of a channel's number, `over` other fields."""
        self.seq += 1
        for gas, slope in self.slope.items():
            self.air[gas] += slope
        noise = self.seq * 7 % 5 * 0.02
        values = {
            gas: [value + (noise if gas == "O2" and value == CLEAN["O2"] else 0.0)] * rows
            for gas, value in self.air.items()
            if gas not in self.untold
        }
        values |= {name: [value] * rows for name, value in self.extra.items()}
        if self.reversed:
            values = dict(reversed(values.items()))
        t = int((at + self.clock_s + self.rate * self.seq - late_s) * 1000) if self.has_clock else 0
        body: dict[str, object] = {"b": self.boot, "s": self.seq, "u": 1, "v": values, "t": t}
        if rows > 1:
            body |= {"dt": [1000 * row for row in range(rows)]}
            self.seq += rows - 1
        if self.unknown:
            body |= {"zz": {"a": [1]}}
        body |= more | (over or {})
        if raw:
            body["v"] = {gas: msgspec.Raw(f"[{raw[gas]}]".encode()) if gas in raw else value for gas, value in values.items()}
        payload = encode(body)
        self.last = Message(device_topic(self.site, self.name, "gas"), zlib.compress(payload) if self.packed else payload)
        return self.last

    def with_air(self, at: float, **air: float) -> Message:
        """One message of other air."""
        kept, self.air = self.air, self.air | {gas: value for gas, value in air.items() if gas in self.air}
        message = self.says(at)
        self.air = kept
        return message


class Fleet:
    """All devices, what the api knows of their sites, and the time. `alarms` tells the ids of a site's open alarms.

    `more` devices of each site name fewer gases each, so that places of every width come and go.
    """

    def __init__(self, alarms: Callable[[str], Iterable[str]], more: int = 0) -> None:
        self.at = EPOCH
        self._alarms = alarms
        self._commands = 0
        self.devices = list[Device]()
        self.plans: dict[str, Plan] = {}
        self.out: dict[str, Instrument] = {}  # named by no plan for now
        for i, site in enumerate(SITES):
            instruments = list[Instrument]()
            for n in range(3 + (i == 0)):
                channels = dict(FIVE if n == 1 else UNITS)
                device = Device(site, f"gas-{n + 1}", 10 * i + n, channels)
                device.usual = [{}, {"battery_percent": 50.0}, {"wearer_state": 0.0}, {"PM": 5.0}][(n + i) % 4 if n != 2 else 2]
                device.extra = dict(device.usual)
                self.devices.append(device)
                worn = "ann" if n == 2 else ""
                space = NOWHERE if (i, n) == (2, 1) else SPACES[n % 2]
                instruments.append(an_instrument(device.name, space=space, channels=channels, worn_by=worn))
            for n in range(more):
                channels = dict([*FIVE.items()][n % 3 : n % 3 + 1 + n % 4])
                device = Device(site, f"more-{n + 1}", 100 + more * i + n, channels)
                self.devices.append(device)
                instruments.append(an_instrument(device.name, space=SPACES[n % 2], channels=channels))
            permits = [a_permit(state=PermitState.ACTIVE, end=EPOCH + 30 * 86_400)] if i < 2 else []
            spaces = [a_space(name, lock="") for name in SPACES]
            self.plans[site] = Plan(site, 1, EPOCH, "CN", LIMITS.version, spaces, [], instruments, permits)

    def begin(self) -> list[list[Message]]:
        """Plans and births; nobody was inside before the permits came."""
        bare = [msgspec.structs.replace(plan, version=0, permits=[]) for plan in self.plans.values()]
        born = [device.born() for device in self.devices]
        return [[*map(_signed, bare)], [*map(_signed, self.plans.values()), *born]]

    def breath(self, skip: Iterable[int] = ()) -> list[Message]:
        """The next message of every device."""
        left = set(skip)
        return [device.says(self.at) for i, device in enumerate(self.devices) if i not in left]

    def do(self, act: str, i: int, x: int) -> list[Message]:
        """Let something happen; return what is said of it."""
        device = self.devices[i % len(self.devices)]
        do: Callable[[Device, int], list[Message] | None] = getattr(self, f"do_{act}")
        return do(device, x) or []

    # -- air

    def do_air(self, device: Device, x: int) -> None:
        gas, value = AIR[x % len(AIR)]
        if gas in device.air:
            device.air[gas] = value

    def do_small(self, device: Device, x: int) -> None:
        gas = "LEL" if x % 2 else "H2S"
        if gas in device.air:
            device.air[gas] = SMALL[x % len(SMALL)]

    def do_clean(self, device: Device, _x: int) -> None:
        device.air, device.slope, device.extra = {gas: CLEAN[gas] for gas in device.channels}, {}, dict(device.usual)
        device.clock_s, device.rate, device.has_clock = 0.0, 0.0, True
        device.reversed = device.packed = device.unknown = False
        device.untold = set()

    def do_drift(self, device: Device, x: int) -> None:
        gas, slope = ("H2S", 0.02 * (x + 1)) if x % 2 else ("O2", -0.01 * (x + 1))
        device.slope = {gas: slope} if gas in device.air else {}

    def do_blip(self, device: Device, x: int) -> list[Message]:
        gas, value = AIR[x % len(AIR)]
        return [device.with_air(self.at, **{gas: value})]

    def do_twice(self, device: Device, x: int) -> list[Message]:
        """Calm, loud, calm."""
        return [device.says(self.at), *self.do_blip(device, x), device.says(self.at)]

    def do_same(self, device: Device, x: int) -> list[Message]:
        """Two messages of one number, of which one is loud."""
        loud = self.do_blip(device, x)
        device.seq -= 1
        calm = [device.says(self.at)]
        return loud + calm if x % 3 else calm + loud

    def do_edge(self, device: Device, x: int) -> list[Message]:
        """What a sensor can just say, or just not, and something good behind it."""
        gas, value = EDGES[x % len(EDGES)]
        return [device.with_air(self.at, **{gas: value}), device.says(self.at)]

    def do_untold(self, device: Device, x: int) -> None:
        """A gas less, or that one again."""
        device.untold ^= {[*device.channels][x % len(device.channels)]}

    def do_fault(self, device: Device, x: int) -> list[Message]:
        status = STATUSES[x % len(STATUSES)]
        return [device.says(self.at, raw={"H2S": "0.0" if status == "ok" else "null"}, q={"H2S": [status]})]

    def do_odd(self, device: Device, x: int) -> list[Message]:
        return [device.says(self.at, raw={"LEL" if x % 2 else "PM": ODD[x % len(ODD)]})]

    def do_extra(self, device: Device, x: int) -> None:
        name, value = EXTRA[x % len(EXTRA)]
        device.extra[name] = value

    def do_usual(self, device: Device, x: int) -> None:
        """Another number for what it names anyway."""
        device.extra |= dict.fromkeys(device.usual, [0.0, 1.0, 2.0, 3.0, 7.0, -0.0, 100.5, -101.0, 1.5, 2e5][x])

    # -- numbers and time

    def do_rows(self, device: Device, x: int) -> list[Message]:
        return [device.says(self.at, rows=x + 2, late_s=float(x + 1))]

    def do_flood(self, device: Device, x: int) -> list[Message]:
        """Many messages at once, somewhere among them a loud one."""
        many = FLOODS[x % len(FLOODS)]
        loud = device.seq % many
        return [self.do_blip(device, x)[0] if i == loud else device.says(self.at) for i in range(many)]

    def do_breaths(self, device: Device, x: int) -> list[Message]:
        """Everybody speaks several times at once; in one of these turns a device is loud."""
        turns = [self.breath() for _ in range(x % 4)]
        return [message for turn in turns for message in turn] + self.do_blip(device, x) + self.breath()

    def do_far(self, device: Device, x: int) -> list[Message]:
        """A boot whose numbers are near the ends of integers, and soon run over them."""
        device.boot, device.seq = (2**32 - 1 - device.boot) if x % 2 else device.boot + 1000, FAR[x % len(FAR)]
        return [device.born(), *(device.says(self.at) for _ in range(x))]

    def do_again(self, device: Device, _x: int) -> list[Message]:
        return [_copy(device.last)] if device.last else []

    def do_hole(self, device: Device, x: int) -> None:
        device.seq += x + 1

    def do_wild(self, device: Device, x: int) -> list[Message]:
        return [
            device.says(self.at, s=[2**32 - 1, 2**32, 0, -1, 1, device.seq + 2_000_000, device.seq + 2, device.seq - 3][x % 8])
        ]

    def do_boot(self, device: Device, x: int) -> list[Message]:
        device.boot, device.seq = device.boot + 1000, 0 if x % 2 else x
        first = device.says(self.at)
        born = device.born()
        return [[born, first], [first, born], [first], [first, device.says(self.at), born, device.says(self.at)]][x % 4]

    def do_birth(self, device: Device, x: int) -> list[Message]:
        return [device.born_otherwise(x)]

    def do_birth_first(self, device: Device, x: int) -> list[Message]:
        """A birth and, in the same breath, what is to be read by it."""
        return [device.born_otherwise(x), device.says(self.at)]

    def do_late(self, device: Device, x: int) -> list[Message]:
        return [device.says(self.at, late_s=[29.9, 30.0, 30.0004, 30.001, 31.0, 40.0, 3600.0, -10.0, -1e9, 29.9996][x % 10])]

    def do_clock(self, device: Device, x: int) -> None:
        device.clock_s = CLOCKS[x % len(CLOCKS)]

    def do_rate(self, device: Device, x: int) -> None:
        device.rate = (x - 5) * 0.7

    def do_no_clock(self, device: Device, _x: int) -> None:
        device.has_clock = not device.has_clock

    def do_wait(self, _device: Device, x: int) -> None:
        self.at += WAITS[x % len(WAITS)]

    # -- bytes

    def do_retained(self, device: Device, x: int) -> list[Message]:
        said = device.says(self.at)
        device.seq -= x % 2  # perhaps the live one comes, too
        return [Message(said.topic, said.payload, retained=True)]

    def do_garbage(self, device: Device, x: int) -> list[Message]:
        return [Message(device_topic(device.site, device.name, "gas"), GARBAGE[x % len(GARBAGE)])]

    def do_doubled(self, device: Device, x: int) -> list[Message]:
        """Keys that come twice."""
        said = device.says(self.at)
        return [Message(said.topic, said.payload.replace(*DOUBLED[x % len(DOUBLED)], 1)), device.says(self.at)]

    def do_stranger(self, device: Device, x: int) -> list[Message]:
        said = device.says(self.at)
        device.seq -= 1
        topics = [
            "manway/1/00/s1/dev/gas-1/gas",
            "what",
            device_topic("other", "gas-1", "gas"),
            device_topic(device.site, "who", "gas"),
        ]
        return [Message(topics[x % len(topics)], said.payload)]

    def do_keys(self, device: Device, _x: int) -> None:
        device.reversed = not device.reversed

    def do_packed(self, device: Device, _x: int) -> None:
        device.packed = not device.packed

    def do_unknown(self, device: Device, _x: int) -> None:
        device.unknown = not device.unknown

    def do_fields(self, device: Device, x: int) -> list[Message]:
        """Fields that say nothing, or not what they should."""
        fields: list[tuple[str, object]] = [
            *(("q", q) for q in _STATUS_FIELDS),
            *(("dt", dt) for dt in ([], [0], [5])),
            *(("u", u) for u in (-1, 2**63)),
            *(("t", t) for t in (-5, 2**60, 1.5)),
            ("b", -1),
        ]
        name, said = fields[x % len(fields)]
        return [device.says(self.at, over={name: said})]

    # -- plans and people

    def do_plan(self, device: Device, x: int) -> list[Message]:
        plan = self.plans[device.site]
        rows = {row.device: row for row in plan.instruments}
        row, key = rows.get(device.name), f"{device.site}/{device.name}"
        permits = plan.permits
        if row is None:
            rows[device.name] = self.out.pop(key)
        elif x == 1:
            self.out[key] = rows.pop(device.name)
        elif x == 4:
            permits = [] if permits else [a_permit(state=PermitState.ACTIVE, end=EPOCH + 30 * 86_400)]
        else:
            rows[device.name] = msgspec.structs.replace(row, **_changed(row, x))
        if x != 7:
            plan = msgspec.structs.replace(plan, version=plan.version + 1, instruments=[*rows.values()], permits=permits)
        self.plans[device.site] = plan
        return [_signed(plan)]

    def do_swap(self, device: Device, x: int) -> list[Message]:
        """Two instruments change places, or measure what the other one did; it is said between frames of both."""
        plan = self.plans[device.site]
        rows = {row.device: row for row in plan.instruments}
        other = next((d for d in self.devices if d.site == device.site and d is not device and d.name in rows), None)
        if device.name not in rows or other is None:
            return []
        one, two = rows[device.name], rows[other.name]
        if x % 2:
            rows |= {one.device: msgspec.structs.replace(one, space=two.space)}
            rows |= {two.device: msgspec.structs.replace(two, space=one.space)}
        else:
            rows |= {one.device: msgspec.structs.replace(one, channels=two.channels)}
            rows |= {two.device: msgspec.structs.replace(two, channels=one.channels)}
        self.plans[device.site] = plan = msgspec.structs.replace(plan, version=plan.version + 1, instruments=[*rows.values()])
        return [device.says(self.at), _signed(plan), device.says(self.at), other.says(self.at)]

    def _command(self, kind: type[AnyCommand], device: Device, by: str, **fields: object) -> Message:
        self._commands += 1
        named = {"id": f"c{self._commands}", "site": device.site, "at": self.at, "exp": self.at + 60, "by": by}
        return Message(f"{root(device.site)}api/cmd", encode(msgspec.convert(named | fields, kind)))

    def do_count(self, device: Device, x: int) -> list[Message]:
        """Somebody goes in or comes out."""
        named = {
            "space": SPACES[x // 4 % 2],
            "permit": "permit-1",
            "person": ("ann", "bob")[x // 2 % 2],
            "direction": ("in", "out")[x % 2],
        }
        return [self._command(RecordEntry, device, "attendant", **named)]

    def do_all_out(self, _device: Device, _x: int) -> list[Message]:
        some = [next(device for device in self.devices if device.site == site) for site in SITES]
        return [
            self._command(RecordCount, d, "attendant", space=space, permit="permit-1", people=[])
            for d in some
            for space in SPACES
        ]

    def do_say(self, device: Device, x: int) -> list[Message]:
        named = {"space": SPACES[x // 2 % 2], "permit": "permit-1"}
        if x % 2:
            return [self._command(RecordCheckIn, device, "attendant", **named)]
        return [self._command(RaiseSos, device, "ann", **named, person="ann")]

    def do_acknowledge(self, device: Device, _x: int) -> list[Message]:
        return [self._command(AcknowledgeAlarm, device, "attendant", alarm=alarm) for alarm in self._alarms(device.site)]

    def do_reset(self, device: Device, _x: int) -> list[Message]:
        """Acknowledge and reset whatever can be."""
        them = [*self._alarms(device.site)]
        seen = [self._command(AcknowledgeAlarm, device, "attendant", alarm=alarm) for alarm in them]
        return seen + [
            self._command(ResetAlarm, device, "manager", alarm=alarm, reason="stirred", verdict="real") for alarm in them
        ]


ACTS = sorted(name.removeprefix("do_") for name in vars(Fleet) if name.startswith("do_"))


def _changed(row: Instrument, x: int) -> dict[str, object]:
    """What the next plan says otherwise of an instrument."""
    other = SPACES[1] if row.space == SPACES[0] else SPACES[0]
    ways: dict[int, dict[str, object]] = {
        0: {"space": other},
        2: {"bump_due": row.bump_due + 86_400},
        3: {"worn_by": "" if row.worn_by else "bob"},
        5: {"out_of_service": not row.out_of_service},
        6: {"lel_base_vol": 0.0 if row.lel_base_vol else 5.0},
        8: {"channels": {gas: unit for gas, unit in row.channels.items() if gas != "H2S"} or row.channels},
        9: {"correction": {} if row.correction else {"LEL": 2.0}},
    }
    return ways.get(x, {})


def _signed(plan: Plan) -> Message:
    return Message(f"{root(plan.site)}api/plan", encode(SignedPlan("kid", pack_plan(plan), b"sig")))


def _copy(message: Message) -> Message:
    return Message(message.topic, message.payload, message.retained)
