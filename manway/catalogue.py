"""The alarm list as data: what each alarm means, how urgent it is, and what it does by itself (`domain.md` §8.2).

`priority` is the kind's own; a condition may ask for a worse one (DATA_LOST, OVERTIME). Every P1 and P2 latches.
"""

import msgspec

from manway.ids import Priority


class AlarmKind(msgspec.Struct, frozen=True):
    """One row of the alarm list. `evacuates`: rising with anybody inside orders everybody out."""

    id: str
    priority: Priority
    trigger: str
    clause: str
    evacuates: bool = False
    blocks_grants: bool = False


_P1, _P2, _P3 = Priority.P1, Priority.P2, Priority.P3

CATALOGUE = {
    kind.id: kind
    for kind in (
        AlarmKind("GAS_PRE", _P3, "half the limit; O2 < 20.0 or > 22.5 % vol; LEL >= 5 %", "GBZ/T 223"),
        AlarmKind("GAS_LOW", _P1, "the low limit, which is the entry criterion", "GB 46768-2025 6.2.5", True, True),
        AlarmKind("GAS_HIGH", _P1, "the high limit", "GB 46768-2025 6.2.5", True, True),
        AlarmKind(
            "OVER_RANGE",
            _P1,
            "the sensor's range is exceeded; a later 0 does not clear it",
            "domain.md 7.1",
            True,
            True,
        ),
        AlarmKind(
            "UNAUTHORISED_OPEN",
            _P1,
            "opened without a matching used grant",
            "MEM Order 13 art. 12",
            blocks_grants=True,
        ),
        AlarmKind("TAMPER", _P1, "the lock's case was opened", "domain.md 8.2", blocks_grants=True),
        AlarmKind(
            "EMERGENCY_OPEN",
            _P1,
            "emergency grant, broken seal or inside release",
            "domain.md 8.2",
            blocks_grants=True,
        ),
        AlarmKind(
            "ENTRY_IN_PREP",
            _P1,
            "somebody went in without an ENTRY grant",
            "MEM Order 13 art. 14",
            True,
            True,
        ),
        AlarmKind(
            "RELOCK_WITH_PERSON",
            _P1,
            "the bolt was thrown with somebody inside",
            "29 CFR 1926.34(a)",
            blocks_grants=True,
        ),
        AlarmKind("LOCK_UNCONFIRMED", _P2, "a grant was written and no report came", "domain.md 4.4"),
        AlarmKind("LOCK_OFFLINE", _P3, "no report for two heartbeats", "trust.md 7.2"),
        AlarmKind(
            "OVERTIME",
            _P2,
            "the permit's end passed with somebody inside; P1 after 5 min",
            "29 CFR 1910.146(e)(4)",
        ),
        AlarmKind(
            "ATTENDANT_ABSENT",
            _P1,
            "no check-in for 3 min with somebody inside",
            "MEM Order 13 art. 15",
            True,
            True,
        ),
        AlarmKind(
            "DATA_LOST",
            _P3,
            "no frame in time; occupied: P2 at 5 s, P1 at 15 s",
            "GB 46768-2025 6.2.2",
            True,
            True,
        ),
        AlarmKind("SENSOR_FAULT", _P2, "a channel reports a fault", "domain.md 7.1"),
        AlarmKind("GATEWAY_LOST", _P1, "no heartbeat of a gateway for 5 s", "trust.md 7.2"),
    )
}


def latches(priority: Priority) -> bool:
    """Say whether an alarm of this priority stays until a person resets it: P1 and P2 do."""
    return priority <= Priority.P2
