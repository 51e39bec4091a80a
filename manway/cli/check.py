"""`manway demo --check`: watches the story through the public API and says whether every part of it came true."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from manway.runtime.yard import load_yard

Row = dict[str, object]
GIVE_UP_S = 240.0
KILL_AFTER_S = 20.0
FIRST_ALARM_S = 30.0
ALARM_LATENCY_S = 1.0
_GAS = ("GAS_PRE", "GAS_LOW", "GAS_HIGH")


class Witness:
    """What the log says so far, by space; asks the api as the safety manager, again and again through its restarts."""

    def __init__(self, url: str, password: str, tend: Callable[[], None]) -> None:
        self._url, self._password, self._token, self._after = url, password, "", 0
        self._tend = tend
        self.log: list[Row] = []

    def ask(self, path: str) -> Row:
        """Return an answer, however long the api is away."""
        while True:
            try:
                if not self._token:
                    body = json.dumps({"account": "manager", "password": self._password}).encode()
                    self._token = str(self._http("/api/v1/sessions", body)["token"])
                return self._http(path, None)
            except (OSError, TimeoutError):
                self._tend()
                time.sleep(0.5)

    def look(self) -> None:
        """Read what is new in the log."""
        while True:
            page = self.ask(f"/api/v1/events?after={self._after}&limit=500")
            items = page["items"]
            assert isinstance(items, list)  # noqa: S101  the api's own shape
            self.log += items
            if items:
                self._after = int(items[-1]["seq"])
            if page["next"] is None:
                return

    def of(self, space: str, event_type: str, /, **data: object) -> list[Row]:
        """Return the events of a type on a space whose data has these values, oldest first."""
        rows = []
        for event in self.log:
            fields = event["data"]
            assert isinstance(fields, dict)  # noqa: S101  the api's own shape
            if event["space"] == space and fields["type"] == event_type and all(fields.get(k) == v for k, v in data.items()):
                rows.append(fields)
        return rows

    def _http(self, path: str, body: bytes | None) -> Row:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(self._url + path, body, headers)  # noqa: S310  our own loopback address
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  as above
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code == 401:  # noqa: PLR2004  sign in again
                self._token = ""
            raise


def play(url: str, password: str, folder: Path, tend: Callable[[], None], kill: Callable[[], None]) -> int:
    """Watch until every part of the story has come true, or say what has not; return the exit code."""
    witness, began, killed = Witness(url, password, tend), time.monotonic(), False
    first_alarm: float | None = None
    while True:
        tend()
        witness.look()
        passed = time.monotonic() - began
        if first_alarm is None and any(_field(e, "type") == "AlarmRaised" for e in witness.log):
            first_alarm = passed
        if passed > KILL_AFTER_S and not killed:
            killed = True
            kill()
        missing = [f"({part}) {reason}" for part, told in STORY.items() if (reason := told(witness)) is not None]
        if first_alarm is None or first_alarm > FIRST_ALARM_S:
            missing.append(f"no alarm stood on the wall within {FIRST_ALARM_S:g} s")
        if not missing:
            return _finish(witness, folder, first_alarm or 0.0, passed)
        if passed > GIVE_UP_S:
            print("The story did not come true:\n  " + "\n  ".join(missing), file=sys.stderr)
            return 1
        time.sleep(1.0)


def _finish(witness: Witness, folder: Path, first_alarm: float, passed: float) -> int:
    """Hold the ledger against what the devices' broker took: nothing acknowledged may be missing."""
    sent = {row["device"]: row for row in json.loads((folder / "sent.json").read_text("utf-8"))}
    time.sleep(5.0)  # the store is filled every two seconds
    lines, wrong = [], []
    for space in load_yard().space:
        rows = witness.ask(f"/api/v1/spaces/{space.id}/ledger")["items"]
        assert isinstance(rows, list)  # noqa: S101  the api's own shape
        for row in rows:
            if row["device"] not in sent:  # over the air nobody keeps what nobody hears: it is counted, and no fault
                lines.append(f"{row['device']}: over Bluetooth, stored {row['stored']}, missing {row['missing']}")
                if not row["stored"] or row["torn"] or row["stored_twice"]:
                    wrong.append(lines[-1])
                continue
            acknowledged = sent[row["device"]]["last"]
            told = f"{row['device']}: acknowledged {acknowledged}, stored {row['stored']}, "
            lines.append(f"{told}missing {row['missing']}, torn {row['torn']}")
            if row["stored"] < acknowledged or row["missing"] or row["stored_missing"] or row["torn"] or row["stored_twice"]:
                wrong.append(lines[-1])
    print("\n".join(f"  {part}: {EXPECTED[part]}" for part in STORY))
    print("  ledger of frames\n    " + "\n    ".join(lines))
    if wrong:
        print("Acknowledged frames are missing:\n  " + "\n  ".join(wrong), file=sys.stderr)
        return 1
    print(f"The story came true in {passed:.0f} s; first alarm after {first_alarm:.0f} s; no acknowledged frame is missing.")
    return 0


def _field(event: Row, name: str) -> object:
    data = event["data"]
    return data.get(name) if isinstance(data, dict) else None


def _in_order(witness: Witness, space: str, wanted: list[tuple[str, Row]]) -> str | None:
    """Return the first event that is missing or comes too early, as a sentence."""
    after = 0.0
    for kind, data in wanted:
        found = [e for e in witness.of(space, kind, **data) if float(str(e["at"])) >= after]
        if not found:
            return f"{kind} {data or ''} has not come"
        after = float(str(found[0]["at"]))
    return None


def _scene(name: str) -> str:
    return load_yard().scene(name).id


def _a_whole_path(w: Witness) -> str | None:
    return _in_order(
        w,
        _scene("path"),
        [
            ("PermitSubmitted", {}),
            ("PermitApproved", {}),
            ("GrantUsed", {"kind": 1}),
            ("VentilationRecorded", {}),
            ("GasTestRecorded", {"passed": True}),
            ("PermitReadied", {}),
            ("GrantUsed", {"kind": 2}),
            ("PersonEntered", {"person": "p15"}),
            ("PersonEntered", {"person": "p16"}),
        ],
    )


def _b_gas_rises(w: Witness) -> str | None:
    space = _scene("rising")
    order = _in_order(w, space, [("AlarmRaised", {"kind": "GAS_PRE"}), ("AlarmRaised", {"kind": "GAS_LOW", "priority": 1})])
    order = order or _in_order(
        w, space, [("AlarmRaised", {"kind": "GAS_LOW"}), ("EvacuationOrdered", {}), ("PermitHalted", {})]
    )
    order = order or _in_order(w, space, [("PermitHalted", {}), ("EvacuationCompleted", {}), ("PermitSuspended", {})])
    if order is not None:
        return order
    alarm = w.of(space, "AlarmRaised", kind="GAS_LOW")[0]
    if _late_by(w, space, alarm) > ALARM_LATENCY_S:
        return f"GAS_LOW came {_late_by(w, space, alarm):.2f} s after the first frame over the limit"
    lock = load_yard().scene("rising").lock
    refused = [e for e in w.log if _field(e, "type") == "GrantRefused" and _field(e, "lock") == lock]
    return None if refused else "no further grant was refused"


def _late_by(w: Witness, space: str, alarm: Row) -> float:
    """Return the seconds from the device's first sample at the limit to the alarm."""
    device, _, gas = str(alarm["object"]).partition("/")
    at = float(str(alarm["at"]))
    curve = w.ask(f"/api/v1/spaces/{space}/telemetry?device={device}&gas={gas}&from={at - 60}&to={at + 5}")
    times, values = curve["t"], curve["hi"]
    assert isinstance(times, list)  # noqa: S101  the api's own shape
    assert isinstance(values, list)  # noqa: S101  the api's own shape
    limit = float(str(alarm["limit"]))
    over = [t for t, v in zip(times, values, strict=True) if v is not None and v >= limit]
    return at - over[0] if over else 0.0


def _c_hatch_opened(w: Witness) -> str | None:
    return _in_order(w, _scene("hatch"), [("AlarmRaised", {"kind": "UNAUTHORISED_OPEN", "priority": 1})])


def _d_overtime(w: Witness) -> str | None:
    return _in_order(w, _scene("overtime"), [("PersonEntered", {}), ("AlarmRaised", {"kind": "OVERTIME"})])


def _e_silence(w: Witness) -> str | None:
    space = _scene("silent")
    lost: Row = {"kind": "DATA_LOST"}
    order = _in_order(
        w,
        space,
        [
            ("AlarmRaised", {"kind": "GAS_LOW"}),
            ("AlarmRaised", lost | {"priority": 2}),
            ("AlarmRaised", lost | {"priority": 1}),
        ],
    )
    gone = [e for kind in _GAS for e in w.of(space, "AlarmReturned", kind=kind) + w.of(space, "AlarmReset", kind=kind)]
    return order or ("a gas alarm cleared in silence" if gone else None)


def _f_acknowledged_and_reset(w: Witness) -> str | None:
    space = _scene("rising")
    low: Row = {"kind": "GAS_LOW"}
    order = _in_order(w, space, [("AlarmAcknowledged", low), ("AlarmReturned", low), ("AlarmReset", low)])
    if order is not None:
        return order
    seen, reset = w.of(space, "AlarmAcknowledged", **low)[0], w.of(space, "AlarmReset", **low)[0]
    return "the same person acknowledged and reset a P1" if seen["by"] == reset["by"] else None


def _g_handed_back(w: Witness) -> str | None:
    for scene in ("rising", "path"):
        order = _in_order(w, _scene(scene), [("PersonLeft", {}), ("PermitFinished", {}), ("PermitClosed", {})])
        if order is not None:
            return f"{scene}: {order}"
        if (order := _in_order(w, _scene(scene), [("PersonLeft", {}), ("LockLocked", {}), ("PermitClosed", {})])) is not None:
            return f"{scene}: {order}"
    return None


STORY: dict[str, Callable[[Witness], str | None]] = {
    "a": _a_whole_path,
    "b": _b_gas_rises,
    "c": _c_hatch_opened,
    "d": _d_overtime,
    "e": _e_silence,
    "f": _f_acknowledged_and_reset,
    "g": _g_handed_back,
}
EXPECTED = {
    "a": "requested, approved, PREP, ventilated, tested, ENTRY, two people in",
    "b": "H2S: pre-alert, P1 within 1 s, evacuated, suspended, no further grant",
    "c": "a hatch opened without a grant: UNAUTHORISED_OPEN",
    "d": "a permit's end passed with somebody inside: OVERTIME",
    "e": "an instrument fell silent: DATA_LOST P2, then P1; the gas alarm stood",
    "f": "one person acknowledged, another reset with a reason",
    "g": "everybody out, handed back, closed, locked",
}
