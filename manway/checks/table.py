"""The list of checks, and what the answer of one looks like (`domain.md` §5)."""

import enum

import msgspec

from manway.errors import Failure


class Outcome(enum.Enum):
    """What one check came to; what cannot be evaluated has failed."""

    PASSED = "passed"
    FAILED = "failed"


class Check(msgspec.Struct, frozen=True):
    """One row of the check list; `prep`: also before an opening to ventilate and test."""

    id: str
    clause: str
    prep: bool


class CheckResult(msgspec.Struct, frozen=True):
    """One check's outcome with its failures (more than one reason may hold)."""

    check: str
    clause: str
    outcome: Outcome
    failures: list[Failure] = []


CHECKS = (
    Check("G01", "MEM Order 13 art. 7; 29 CFR 1910.146(e)", True),
    Check("G02", "GB 46768-2025 5.2.1; MEM Order 13 art. 7-8", True),
    Check("G03", "MEM Order 13 art. 18; GB 46768-2025 6.2.5", True),
    Check("G04", "MEM Order 13 art. 6", True),
    Check("G05", "MEM Order 13 art. 9", True),
    Check("G06", "MEM Order 13 art. 5, 15; GB 46768-2025 6.3", True),
    Check("G07", "29 CFR 1926.1206", False),
    Check("G08", "GB 46768-2025 5.1.1, 5.3", True),
    Check("G09", "GB 46768-2025 5.6.1", True),
    Check("G10", "MEM Order 13 art. 14; GB 46768-2025 5.10, 6.2.4", False),
    Check("G11", "GB 46768-2025 5.8, 5.9", False),
    Check("G12", "MEM Order 13 art. 14", False),
    Check("G13", "MEM Order 13 art. 13; GB 46768-2025 5.5", True),
    Check("G14", "GB 46768-2025 5.9.1", False),
    Check("G15", "GB 46768-2025 5.12; MEM Order 13 art. 14", False),
    Check("G16", "MEM Order 13 art. 10, 13", True),
    Check("G17", "GB 30871-2022; 29 CFR 1910.146(f)(15)", False),
    Check("G18", "MEM Order 13 art. 11-12; GB 46768-2025 6.2.6", True),
    Check("G19", "domain.md 5 (choice)", True),
    Check("G20", "domain.md 5 (choice)", False),
    Check("G21", "MEM Order 13 art. 12", True),
    Check("G22", "domain.md 5 (choice)", False),
)
_BY_ID = {check.id: check for check in CHECKS}


def row(kind: str, key: str) -> dict[str, str]:
    """Return one row of evidence: what was looked at, by kind and id."""
    return {"kind": kind, "id": key}


def fail(check: str, key: str, fix: str, evidence: dict[str, str], **params: str | float) -> Failure:
    """Return a failure of a check on one row of evidence; `key` and `fix` are keys of the catalogue of texts."""
    return Failure(check, _BY_ID[check].clause, key, fix, dict(params), [evidence])
