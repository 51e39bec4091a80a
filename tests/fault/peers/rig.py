"""Instruments -> broker A -> a peer -> fault proxy -> broker B, with a recorder directly at B (`pipeline.md` §12)."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import msgspec
from paho.mqtt import client as paho

from manway.runtime.broker import BrokerProcess
from tests.bench import node_red
from tests.fault.children import Child, wait_for
from tests.fault.cut_rig import DEVICES, RATE, Schedule
from tests.fault.installation import GASES
from tests.fault.traffic import client
from tests.kit.brokers import mosquitto
from tests.kit.proxy import FaultProxy, Link

HERE = Path(__file__).parent
TB_VERSION = "3.8.5"
_TB_LIMITS = {"maxPayloadSize": 65_536, "maxInflightMessages": 1_000, "rateLimits": {}, "gatewayRateLimits": {}}
_READY_WITHIN_S = 60.0
_QUIET_S, _DRAINS_WITHIN_S = 6.0, 90.0  # the end: nothing new for so long, or so long altogether


class PeerVerdict(msgspec.Struct):
    """What became of the frames that broker A acknowledged."""

    acknowledged: int = 0
    lost: int = 0
    torn: int = 0
    double: int = 0
    disordered: int = 0

    def __str__(self) -> str:
        counts = f"acknowledged {self.acknowledged}, lost {self.lost}, torn {self.torn}, double {self.double}"
        return f"{counts}, out of order {self.disordered}"


class Instruments:
    """Sends frames as plain JSON, one message a frame, and knows what the broker acknowledged."""

    def __init__(self, port: int, *, stamped: bool) -> None:
        self.acknowledged = set[tuple[str, int]]()
        self._stamped, self._flying = stamped, dict[int, tuple[str, int]]()
        self._next = Counter[str]()
        self._stop = threading.Event()
        self._client = client("rig-devices", port)
        self._pubacks: list[int] = []
        self._client.on_publish = lambda _client, _user, mid, *_: self._pubacks.append(mid)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        at = time.monotonic()
        for device in cycle([f"gas-{number:02d}" for number in range(DEVICES)]):
            at += 1 / RATE
            if self._stop.wait(max(0.0, at - time.monotonic())):
                return
            self.send(device)

    def send(self, device: str) -> None:
        """Send the next frame of an instrument."""
        self._next[device] += 1
        seq = self._next[device]
        body: dict[str, float] = {"seq": seq} | dict.fromkeys(GASES, 0.5 + seq % 2)
        if self._stamped:
            body["ts"] = int(time.time() * 1000)
        mid = self._client.publish(f"sensor/{device}/data", json.dumps(body), 1).mid
        self._flying[mid] = device, seq

    def finish(self) -> None:
        """Stop, and wait until everything has its acknowledgement."""
        self._stop.set()
        self._thread.join()
        wait_for(lambda: len(self._pubacks) == len(self._flying), "broker A has acknowledged every frame")
        self.acknowledged = {self._flying[mid] for mid in self._pubacks}

    def close(self) -> None:
        self._stop.set()
        self._client.disconnect()
        self._client.loop_stop()


class FarEnd:
    """Directly at broker B: takes what the peer delivers, and answers as ThingsBoard would."""

    def __init__(self, port: int) -> None:
        self.rows: list[tuple[str, dict[str, float]]] = []
        self._client = client("rig-recorder", port)
        self._client.on_connect = lambda one, *_: one.subscribe([("out/+", 1), ("v1/#", 1)])
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda one, _user, message: self._take(one, message.topic, bytes(message.payload))
        self._client.loop_start()
        assert self._subscribed.wait(20)

    def _take(self, one: paho.Client, topic: str, payload: bytes) -> None:
        if topic.startswith("out/"):
            self.rows.append((topic.removeprefix("out/"), json.loads(payload)))
        elif topic == "v1/gateway/telemetry":
            for device, entries in json.loads(payload).items():
                self.rows += [(device, entry.get("values", entry)) for entry in entries]
        elif asked := re.fullmatch(r"v1/devices/me/rpc/request/(\d+)", topic):
            one.publish(f"v1/devices/me/rpc/response/{asked[1]}", json.dumps(_TB_LIMITS), 1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def run_peer(name: str, schedule: Schedule, *, stamped: bool = True) -> int:
    """Run a peer on the rig once and print what became of the frames; 0 when it ran, 2 where it cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            verdict = asyncio.run(_run(Path(folder), name, schedule, stamped=stamped))
        except node_red.Absent as reason:
            sys.stderr.write(f"{name}: {reason}\n")
            return 2
    cut = "cut" if schedule.kill is None else "cut and kill"
    sys.stdout.write(f"{name}, {cut}, {'with' if stamped else 'without'} ts: {verdict}\n")
    return 0


async def _run(folder: Path, name: str, schedule: Schedule, *, stamped: bool) -> PeerVerdict:
    near, far = _broker(folder / "near"), _broker(folder / "far")
    async with FaultProxy(_port(far)) as link:
        make = {"node-red": _node_red, "thingsboard-gateway": _thingsboard}[name]
        peer = make(folder / "peer", _port(near), link.port)
        await asyncio.to_thread(near.start)
        await asyncio.to_thread(far.start)
        end, instruments = FarEnd(_port(far)), Instruments(_port(near), stamped=stamped)
        try:
            peer.start()
            await asyncio.to_thread(_warm_up, instruments, end)
            instruments.start()
            await _play(peer, link, schedule)
            await asyncio.to_thread(instruments.finish)
            await asyncio.to_thread(_drain, end)
            return _judge(instruments.acknowledged, end.rows)
        finally:
            instruments.close()
            end.close()
            if peer.alive:
                peer.kill()
            near.kill()
            far.kill()


def _broker(folder: Path) -> BrokerProcess:
    folder.mkdir()
    return mosquitto(folder)


def _port(broker: BrokerProcess) -> int:
    return int(broker.url.rpartition(":")[2])


def _warm_up(instruments: Instruments, end: FarEnd) -> None:
    """Send frames until one comes through: only then is the peer subscribed at A and allowed at B."""
    until = time.monotonic() + _READY_WITHIN_S
    while not end.rows:
        assert time.monotonic() < until, f"nothing came through within {_READY_WITHIN_S:.0f} s"
        instruments.send("warm-up")
        time.sleep(0.2)


async def _play(peer: Child, link: FaultProxy, schedule: Schedule) -> None:
    began = asyncio.get_running_loop().time()

    async def until(at: float) -> None:
        await asyncio.sleep(began + at - asyncio.get_running_loop().time())

    await until(schedule.cut)
    await link.turn(Link.RESET)
    await link.turn(Link.REFUSE)
    if schedule.kill is not None:
        await until(schedule.kill)
        peer.kill()
        peer.start()
    await until(schedule.heal)
    await link.turn(Link.OK)
    await until(schedule.end)


def _drain(end: FarEnd) -> None:
    until, last, at = time.monotonic() + _DRAINS_WITHIN_S, -1, time.monotonic()
    while time.monotonic() < until and time.monotonic() < at + _QUIET_S:
        if len(end.rows) != last:
            last, at = len(end.rows), time.monotonic()
        time.sleep(0.2)


def _judge(acknowledged: set[tuple[str, int]], rows: Sequence[tuple[str, dict[str, float]]]) -> PeerVerdict:
    verdict, seen, highest = PeerVerdict(), Counter[tuple[str, int]](), defaultdict[str, int](int)
    wanted = {key for key in acknowledged if key[0] != "warm-up"}
    for device, values in rows:
        seq = int(values.get("seq", 0))
        if device == "warm-up":
            continue
        verdict.torn += not (seq and GASES.keys() <= values.keys())
        if not seq:
            continue  # a piece nobody can place
        seen[device, seq] += 1
        verdict.disordered += seq < highest[device]
        highest[device] = max(highest[device], seq)
    verdict.acknowledged, verdict.lost = len(wanted), len(wanted - seen.keys())
    verdict.double = sum(count - 1 for count in seen.values())
    return verdict


def _node_red(folder: Path, near: int, far: int) -> Child:
    values = {"near": str(near), "far": str(far)}
    command = node_red.command(str(HERE / "node_red.json"), folder, values, {})
    return Child("node-red", command, folder / "node-red.log")


def _thingsboard(folder: Path, near: int, far: int) -> Child:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "manway" / "thingsboard-gateway"
    python = home / "bin" / "python"
    if not (home / "bin" / "thingsboard-gateway").exists():
        _install(home)
    folder.mkdir(parents=True)
    for made in ("data", "logs"):
        (folder / made).mkdir()
    values = {"near": str(near), "far": str(far), "folder": str(folder)}
    for name in ("tb_gateway.json", "tb_mqtt.json"):
        text = (HERE / name).read_text("utf-8")
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        (folder / name).write_text(text)
    package = next(home.glob("lib/python3.*/site-packages/thingsboard_gateway"))
    (folder / "logs.json").write_text(
        (package / "config" / "logs.json").read_text("utf-8").replace("./logs/", f"{folder}/logs/")
    )
    start = f"import os; os.chdir({str(folder)!r}); os.environ['TB_GW_CONFIG_DIR'] = {str(folder)!r}\n"
    start += "from thingsboard_gateway.tb_gateway import main; main()"
    return Child("thingsboard-gateway", [str(python), "-c", start], folder / "thingsboard-gateway.log")


def _install(home: Path) -> None:
    """Install the gateway into an environment of its own, in the user's cache.

    Raises:
        node_red.Absent: it cannot be installed here.
    """
    steps = (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "pip"), "install", "-q", f"thingsboard-gateway=={TB_VERSION}", "setuptools<81"],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            raise node_red.Absent(f"thingsboard-gateway {TB_VERSION} did not install: {done.stderr[-300:]}")
