"""The api dies, somebody is in need: the gateway's own page opens the lock and alarms at once; the api hears of it later."""

import json
import os
import signal
import sqlite3
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal_reader import JournalReader
from manway.events import AlarmRaised, Event, GrantUsed, RescueAsked
from manway.ids import GrantKind
from tests.kit.demo import RunningDemo, running_demo

pytestmark = [
    pytest.mark.integration,
    pytest.mark.system,
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.timeout(180),
]
SITE, SPACE, LOCK = "yard-north", "n04", "lock-n04"  # quiet: nobody works there


def test_the_api_is_dead_and_the_panel_opens_the_lock(tmp_path: Path) -> None:
    with running_demo(tmp_path / "data") as demo:
        panel = _Panel(demo)
        panel.wait_for("/", "The approval service answers", 30)
        panel.wait_for("/", LOCK, 30)  # the plan is there
        os.kill(demo.children()["api"], signal.SIGSTOP)  # the demo would start a dead one again at once
        panel.wait_for("/", "No connection to the approval service", 30)
        assert "No permit work from here" in panel.get("/")
        began = time.monotonic()
        panel.ask(panel.code)
        panel.wait_for(panel.page, "The lock reports: OPEN", 30)
        sys.stdout.write(f"asked to open without an api: {time.monotonic() - began:.2f} s\n")
        _the_site_knows(demo.folder)
        os.kill(demo.children()["api"], signal.SIGKILL)  # and now it is started again
        _the_records_know(demo)


def _within(seconds: float, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


class _Panel:
    """Somebody at the gateway's own page."""

    page = f"/rescue?site={SITE}&lock={LOCK}"

    def __init__(self, demo: RunningDemo) -> None:
        port = tomllib.loads((demo.folder / "gateway.toml").read_text("utf-8"))["panel_port"]
        self.code = (demo.folder / "keys" / "panel.code").read_text("ascii")
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> str:
        request = urllib.request.Request(self._url + path, headers={"Accept-Language": "en"})  # noqa: S310  our own loopback
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  as above
            return str(answer.read().decode())

    def ask(self, code: str) -> None:
        form = urllib.parse.urlencode({"site": SITE, "lock": LOCK, "code": code, "name": "Li Wei"}).encode()
        with urllib.request.urlopen(f"{self._url}/rescue", form, timeout=20) as answer:  # noqa: S310  as above
            assert answer.status == 200

    def wait_for(self, path: str, words: str, seconds: float) -> None:
        _within(seconds, lambda: words in self.get(path))


def _the_site_knows(folder: Path) -> None:
    """The siren has sounded, and the journal holds what happened, in order."""
    log = (folder / "logs" / "gateway.log").read_text("utf-8")
    sounded = [line for line in log.splitlines() if "siren on" in line and "EMERGENCY_OPEN" in line and f"'{SPACE}'" in line]
    assert len(sounded) == 1
    _within(30, lambda: len(_journaled(folder)) >= 3)
    asked, raised, used = _journaled(folder)
    assert isinstance(asked, RescueAsked)
    assert asked.coded
    assert asked.by == "“Li Wei”"
    assert isinstance(raised, AlarmRaised)
    assert isinstance(used, GrantUsed)
    assert used.kind == GrantKind.EMERGENCY


def _journaled(folder: Path) -> list[Event]:
    """What the gateway's journal says of the rescue: that it was asked for, its alarm, the grant that was used."""
    reader = JournalReader(folder / "journal" / "gw-1.db")
    try:
        events: list[Event] = [event for _, event in reader.events_after(SITE, 0, 5000)]
    finally:
        reader.close()
    return [
        e
        for e in events
        if (isinstance(e, RescueAsked | GrantUsed) and e.lock == LOCK)
        or (isinstance(e, AlarmRaised) and (e.kind, e.object) == ("EMERGENCY_OPEN", LOCK))
    ]


def _the_records_know(demo: RunningDemo) -> None:
    """The api that has come back has events and alarm, and its audit chain the use."""
    wanted = {"RescueAsked", "AlarmRaised EMERGENCY_OPEN", "GrantUsed 3"}
    _within(30, lambda: {_said(body) for body in _rows(demo, "SELECT body FROM event WHERE space = ?", SPACE)} >= wanted)
    chained = b"".join(_rows(demo, "SELECT body FROM audit"))
    assert b"RescueAsked" in chained
    assert b"GrantUsed" in chained


def _rows(demo: RunningDemo, sql: str, *values: str) -> list[bytes]:
    records = sqlite3.connect(f"{(demo.folder / 'records.db').as_uri()}?mode=ro", uri=True)
    try:
        return [bytes(body) for (body,) in records.execute(sql, values).fetchall()]
    finally:
        records.close()


def _said(body: bytes) -> str:
    event = json.loads(body)
    return f"{event['type']} {event.get('kind', '')}".strip()
