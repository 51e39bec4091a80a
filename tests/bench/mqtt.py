"""The MQTT adapter: plain paho beside ours on a hose, and what a window costs and saves at two rates."""

import asyncio
import logging
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from manway.runtime import mqtt_thread
from manway.runtime.mqtt import MqttBus
from tests.bench.hose import ROOT, hose
from tests.bench.stopwatch import RUNS, met, say
from tests.kit.brokers import connected, nats

SECONDS = 2.0  # of a paced run


# ---- the readers


def paho_us(qos: int, count: int) -> float:
    """CPU microseconds a message by plain paho: its thread, its callback, its acknowledgement, nothing else."""
    seen, done = 0, threading.Event()

    def on_message(client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        nonlocal seen
        if message.qos:
            client.ack(message.mid, 1)
        seen += 1
        if seen == count:
            done.set()

    with hose(qos, count) as port:
        client = paho.Client(CallbackAPIVersion.VERSION2, "plain", clean_session=False, manual_ack=True)
        client.on_message = on_message
        client.on_connect = lambda one, *_: one.subscribe("#", qos)
        client.connect("127.0.0.1", port)
        began = time.process_time()
        client.loop_start()
        assert done.wait(60), f"{seen} of {count}"
        took = time.process_time() - began
        client.disconnect()
        client.loop_stop()
    return took / count * 1e6


def bus_us(qos: int, count: int) -> float:
    """CPU microseconds a message by the adapter: its thread, the event loop, batches and their acknowledgement."""

    async def read(port: int) -> float:
        seen, began = 0, time.process_time()
        async with MqttBus(f"mqtt://127.0.0.1:{port}", "ours", subscriptions=[("#", qos)]) as bus, asyncio.timeout(60):
            async for batch in bus.batches():
                seen += len(batch.messages)
                await batch.ack()
                if seen >= count:
                    break
            return time.process_time() - began

    with hose(qos, count) as port:
        return asyncio.run(read(port)) / count * 1e6


# ---- the window


class Paced(NamedTuple):
    """What one paced run cost and how late its messages were."""

    rate: int
    window_ms: float
    p50_ms: float
    p99_ms: float
    core_percent: float
    messages_a_batch: float


async def _listen(url: str, rate: int, count: int, work_us: tuple[float, float]) -> tuple[list[float], float, int]:
    """Return delays in ms, CPU seconds and batches; every batch and message costs some CPU besides, as an engine would."""
    delays, batches, cpu = list[float](), 0, 0.0
    child: subprocess.Popen[bytes] | None = None
    bus = MqttBus(url, f"paced-{rate}-{time.monotonic_ns()}", subscriptions=[("#", 1)], user="all", password="all")  # noqa: S106
    try:
        async with bus, asyncio.timeout(count / rate + 20):
            await connected(bus)
            command = [sys.executable, "-m", "tests.bench.hose", "pace", url.rsplit(":", 1)[1], str(rate), str(count)]
            child = subprocess.Popen(command, cwd=ROOT)  # noqa: ASYNC220  started once, before the clock runs
            cpu = time.process_time()
            async for batch in bus.batches():
                now = time.monotonic_ns()
                delays += [(now - int.from_bytes(message.payload[:8], "big")) / 1e6 for message in batch.messages]
                end = time.perf_counter() + (work_us[0] + work_us[1] * len(batch.messages)) / 1e6
                while time.perf_counter() < end:
                    pass
                await batch.ack()
                batches += 1
                if len(delays) >= count:
                    break
            return delays, time.process_time() - cpu, batches
    finally:
        if child is not None:
            child.wait()


def paced(url: str, rate: int, seconds: float, window_ms: float, work_us: tuple[float, float] = (0.0, 0.0)) -> Paced:
    """Run one rate with one window; the first tenth of the delays is dropped."""
    count = int(rate * seconds)
    kept, mqtt_thread._WINDOWS = mqtt_thread._WINDOWS, ((10, window_ms / 1000),)
    try:
        delays, cpu, batches = asyncio.run(_listen(url, rate, count, work_us))
    finally:
        mqtt_thread._WINDOWS = kept
    late = sorted(delays[count // 10 :])
    return Paced(rate, window_ms, late[len(late) // 2], late[len(late) * 99 // 100], cpu / seconds * 100, count / batches)


def run() -> None:
    """Print what a message costs, and the delays and the share of a core with windows of 0, 5 and 20 ms."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # the figures alone
    for qos in (0, 1):
        theirs = median(paho_us(qos, 20_000) for _ in range(RUNS))
        ours = median(bus_us(qos, 200_000) for _ in range(RUNS))
        say("mqtt", qos=qos, us_a_message=ours, us_a_message_paho=theirs, ratio=theirs / ours, goal=met(theirs / ours >= 10))
    with tempfile.TemporaryDirectory() as folder:
        broker = nats(Path(folder))
        broker.start()
        try:
            for rate in (1_000, 10_000):
                for window_ms in (0, 5, 20):
                    say("mqtt_window", **paced(broker.url, rate, SECONDS, window_ms)._asdict())
        finally:
            broker.stop()
