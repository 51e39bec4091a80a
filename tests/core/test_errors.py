"""The exception tree: whose fault it is, the facts it keeps, and the message it writes from them."""

import pytest

from manway import errors
from manway.errors import (
    ActionRefused,
    BusUnavailable,
    DecodeRejected,
    Failure,
    InvalidTransition,
    LocalError,
    ManwayError,
    ProfileInvalid,
    Refused,
    RemoteError,
    SnapshotUnusable,
    StoreUnavailable,
    TimeWentBackwards,
)

FAILED = [Failure("G03", "5.9.1", "alarm.open", "alarm.clear_first"), Failure("G14", "5.9.1", "live.unknown", "look")]
LEAVES = [
    (InvalidTransition("lock", "open", "push"), LocalError, "lock: no cell for push in open"),
    (TimeWentBackwards(2.0, 1.0), LocalError, "time went back from 2.000 to 1.000"),
    (ProfileInvalid("limits", "no number"), LocalError, "limits: no number"),
    (SnapshotUnusable("truncated"), LocalError, "truncated"),
    (DecodeRejected("gas-1", "torn"), RemoteError, "gas-1: torn"),
    (BusUnavailable("mqtt://here", "refused"), RemoteError, "broker mqtt://here: refused"),
    (StoreUnavailable("influx", "busy", 2.0), RemoteError, "telemetry store influx: busy"),
    (ActionRefused(FAILED), Refused, "G03 alarm.open, G14 live.unknown"),
]


@pytest.mark.parametrize(("error", "fault", "message"), LEAVES, ids=lambda value: type(value).__name__)
def test_every_error_says_whose_fault_it_is_and_what_happened(
    error: ManwayError, fault: type[ManwayError], message: str
) -> None:
    assert isinstance(error, fault)
    assert isinstance(error, ManwayError)
    assert str(error) == message


def test_every_leaf_of_the_tree_is_looked_at_here() -> None:
    tree = {e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, ManwayError)}
    leaves = {e for e in tree if not tree.intersection(e.__subclasses__())}
    assert {type(error) for error, _, _ in LEAVES} == leaves


def test_a_refusal_carries_every_failed_check() -> None:
    assert ActionRefused(FAILED).failures == FAILED
