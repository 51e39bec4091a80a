"""The alarm list against `domain.md` §8.1-8.2, written down again, and what its columns promise each other."""

import pytest

from manway.catalogue import CATALOGUE, latches
from manway.ids import Priority

# Every row of §8.2 (and `trust.md` §7.2): what it begins with, what it may grow to, and the delay that the alarm itself keeps.
# LOCK_UNCONFIRMED's 10 s are the lock's confirm time, DATA_LOST's stand in §7.1: those conditions count for themselves.
TABLE = """
GAS_PRE            P3 P2 0      GAS_LOW            P1 P1 0      GAS_HIGH           P1 P1 0
GAS_IDLH           P1 P1 0      OVER_RANGE         P1 P1 0      GAS_STEL           P1 P1 0
GAS_TWA            P2 P2 0      GAS_RISING         P2 P2 3      UNAUTHORISED_OPEN  P1 P1 0
FORCED             P1 P1 0      TAMPER             P1 P1 3      EMERGENCY_OPEN     P1 P1 0
ENTRY_IN_PREP      P1 P1 0      DOOR_LEFT_OPEN     P2 P2 10     RELOCK_WITH_PERSON P1 P1 0
LOCK_UNCONFIRMED   P2 P2 0      OVERTIME_SOON      P4 P3 0      STAY_TOO_LONG      P3 P3 0
OVERTIME           P2 P1 0      SOS                P1 P1 0      MAN_DOWN           P1 P1 0
MISSED_CHECKIN     P2 P1 30     ATTENDANT_ABSENT   P1 P1 0      HEADCOUNT_MISMATCH P2 P2 0
VENT_STOP          P2 P1 0      DATA_LOST          P3 P1 0      SENSOR_FAULT       P2 P2 0
SETPOINT_LAX       P2 P2 0      INSTR_DUE          P3 P3 0      TEST_STALE         P3 P3 0
REC_15MIN_MISSED   P3 P3 0      LOCK_OFFLINE       P3 P3 0      LOCK_BATTERY       P3 P3 0
GATEWAY_LOST       P3 P1 5      UPLINK_LOST        P2 P2 0      STORE_LAGGING      P3 P2 0
JOURNAL_GAP        P2 P2 0      JOURNAL_FAILING    P2 P2 0      ALARM_PATH_FAILED  P2 P2 0
CLOCK_UNTRUSTED    P2 P2 0      RADIO_LOST         P2 P2 0      SUSPICION          P3 P3 0
WEATHER            P4 P2 0
"""
CELLS = TABLE.split()
ROWS = list(zip(CELLS[::4], CELLS[1::4], CELLS[2::4], CELLS[3::4], strict=True))
GAS = {"GAS_LOW", "GAS_HIGH", "GAS_IDLH", "OVER_RANGE"}


def having(flag: str) -> set[str]:
    return {kind.id for kind in CATALOGUE.values() if getattr(kind, flag)}


def test_every_kind_of_the_design_is_there_and_no_other() -> None:
    assert list(CATALOGUE) == [name for name, *_ in ROWS]
    assert all(key == kind.id for key, kind in CATALOGUE.items())


@pytest.mark.parametrize(("name", "begins", "worst", "delay"), ROWS, ids=[name for name, *_ in ROWS])
def test_a_kind_is_as_urgent_and_as_fast_as_the_design_says(name: str, begins: str, worst: str, delay: str) -> None:
    kind = CATALOGUE[name]
    assert (kind.priority.name, kind.worst.name, kind.on_delay_s) == (begins, worst, float(delay))
    assert kind.worst <= kind.priority


def test_who_orders_everybody_out() -> None:
    # §4.1 and the column of §8.2; SOS and man-down: somebody is unwell (GB 46768-2025 6.2.5).
    alone = {"GAS_STEL", "ENTRY_IN_PREP", "SOS", "MAN_DOWN", "ATTENDANT_ABSENT", "VENT_STOP", "DATA_LOST"}
    assert having("evacuates") == GAS | alone
    assert all(CATALOGUE[name].worst is Priority.P1 for name in having("evacuates"))


def test_an_open_p1_forbids_every_grant_but_a_rescue_s() -> None:
    # G03; a lost gateway relays nothing anyway, and its return must not wait for a reset.
    assert having("blocks_grants") == {k.id for k in CATALOGUE.values() if k.worst is Priority.P1} - {"GATEWAY_LOST"}


def test_which_alarms_void_the_tests_and_which_open_the_emergency_screen() -> None:
    assert having("voids_tests") == GAS  # §8.2, §4.1: GAS_LOW or worse
    # §4.3 and §8.2: A2 and worse, emergency opening, SOS, man-down, a check-in missed for a minute
    assert having("emergency") == GAS - {"GAS_LOW"} | {"EMERGENCY_OPEN", "SOS", "MAN_DOWN", "MISSED_CHECKIN"}


def test_what_may_cost_a_life_is_life_critical() -> None:
    # §8.1 by name; `people.md` §2: never gas in an occupied space; and whatever may become P1.
    named = GAS | {"SOS", "MAN_DOWN", "UNAUTHORISED_OPEN"}
    gas = {name for name in CATALOGUE if name.startswith("GAS_")}
    grave = {k.id for k in CATALOGUE.values() if k.worst is Priority.P1}
    blind = {"SENSOR_FAULT", "SETPOINT_LAX", "HEADCOUNT_MISMATCH"}
    assert having("life_critical") == named | gas | grave | blind


def test_only_p3_and_p4_that_cost_no_life_are_ever_suppressed_by_design() -> None:
    suppressed = {k.id: k.suppressed_by for k in CATALOGUE.values() if k.suppressed_by}
    assert suppressed == {"LOCK_BATTERY": ("LOCK_OFFLINE",)}
    for name, better in suppressed.items():
        assert not latches(CATALOGUE[name].worst)
        assert not CATALOGUE[name].life_critical
        assert all(CATALOGUE[other].priority <= CATALOGUE[name].priority and other != name for other in better)


def test_the_api_raises_only_the_loss_of_a_gateway() -> None:
    assert {k.id for k in CATALOGUE.values() if k.writer == "api"} == {"GATEWAY_LOST"}
    assert {k.writer for k in CATALOGUE.values()} == {"api", "gateway"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_row_says_what_raises_it_by_which_clause_and_what_happens(name: str) -> None:
    kind = CATALOGUE[name]
    for text in (kind.trigger, kind.clause, kind.action):
        assert text == text.strip() != ""
    assert kind.evacuates == ("everybody out" in kind.action or kind.action.startswith(("as GAS_LOW", "as GAS_HIGH")))
    if kind.worst is not kind.priority:
        assert kind.worst.name in kind.trigger, "what makes it worse"
