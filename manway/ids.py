"""Closed vocabularies and derived identities, used by every layer above."""

import enum
from hashlib import blake2b


class Status(enum.Enum):
    """What a channel says of its own value; only OK carries a number (`locks.md` §5, codes in that order)."""

    OK = "ok"
    WARMUP = "warmup"
    OVER = "over"
    UNDER = "under"
    FAULT = "fault"
    PUMP = "pump"
    INVALID = "invalid"
    POISON = "poison"


class Priority(enum.IntEnum):
    """How fast a person must act: 1 life at risk, 2 minutes, 3 this shift, 4 a reminder (`domain.md` §8.1)."""

    P1 = 1
    P2 = 2
    P3 = 3
    P4 = 4


class GrantKind(enum.IntEnum):
    """Kind of a signed grant or order; the scope byte of the lock's wire (`locks.md` §1)."""

    PREP = 1
    ENTRY = 2
    EMERGENCY = 3
    CLOSE_OUT = 4
    ROTATE_KEY = 5
    SET_TIME = 6


class Role(enum.Enum):
    """What an account may do at all; supervisor, tester and entrant are names on a permit, not roles."""

    WORKER = "worker"
    ATTENDANT = "attendant"
    APPROVER = "approver"
    MANAGER = "manager"
    REGULATOR = "regulator"
    HARDWARE = "hardware"
    AUDITOR = "auditor"
    ADMIN = "admin"


def derived_id(*parts: str | int) -> str:
    """Return 32 hex digits made of their cause, so that a replay after a crash makes the same id again.

    16 bytes of BLAKE2b over the parts, separated so that ("ab", "c") and ("a", "bc") differ.
    """
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).hexdigest()
