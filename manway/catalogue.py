"""The alarm list as data: what each alarm means, how urgent it is, and what it does by itself (`domain.md` §8.2).

`begins` is a kind's own priority; a condition may ask for a worse one, up to `worst`. Every P1 and P2 latches.

`delay`: seconds a condition must hold before its alarm is raised. Conditions that count their own waiting (LOCK_UNCONFIRMED,
ATTENDANT_ABSENT, DATA_LOST …) have 0 here and name the time in their trigger. `flags`:

- E evacuates: while it is on as P1 with anybody inside, or the count unknown, everybody is ordered out
- G blocks grants: while it is open as P1 no PREP and no ENTRY grant is written for its space
- V voids the gas tests made before it
- S opens the emergency screen when it is raised as P1
- L life-critical: nothing hides it while anybody is inside or the count is unknown (§8.1)

`hidden_by`: kinds that say more about the same device; while one of them is on and nobody is inside, this one is suppressed.
"""

import msgspec

from manway.ids import Priority


class AlarmKind(msgspec.Struct, frozen=True):
    """One row of the alarm list; `on_delay_s` in seconds, `writer` is gateway or api, `action` is what happens by itself."""

    id: str
    priority: Priority
    worst: Priority
    on_delay_s: float
    evacuates: bool
    blocks_grants: bool
    voids_tests: bool
    emergency: bool
    life_critical: bool
    writer: str
    suppressed_by: tuple[str, ...]
    trigger: str
    clause: str
    action: str


_GRID = """
kind                begins worst delay flags writer  hidden_by
GAS_PRE             P3     P2    0     L     gateway -
GAS_LOW             P1     P1    0     EGVL  gateway -
GAS_HIGH            P1     P1    0     EGVSL gateway -
GAS_IDLH            P1     P1    0     EGVSL gateway -
OVER_RANGE          P1     P1    0     EGVSL gateway -
GAS_STEL            P1     P1    0     EGL   gateway -
GAS_TWA             P2     P2    0     L     gateway -
GAS_RISING          P2     P2    3     L     gateway -
UNAUTHORISED_OPEN   P1     P1    0     GL    gateway -
FORCED              P1     P1    0     GL    gateway -
TAMPER              P1     P1    3     GL    gateway -
EMERGENCY_OPEN      P1     P1    0     GSL   gateway -
ENTRY_IN_PREP       P1     P1    0     EGL   gateway -
DOOR_LEFT_OPEN      P2     P2    10    -     gateway -
RELOCK_WITH_PERSON  P1     P1    0     GL    gateway -
LOCK_UNCONFIRMED    P2     P2    0     -     gateway -
OVERTIME_SOON       P4     P3    0     -     gateway -
STAY_TOO_LONG       P3     P3    0     -     gateway -
OVERTIME            P2     P1    0     GL    gateway -
SOS                 P1     P1    0     EGSL  gateway -
MAN_DOWN            P1     P1    0     EGSL  gateway -
MISSED_CHECKIN      P2     P1    30    GSL   gateway -
ATTENDANT_ABSENT    P1     P1    0     EGL   gateway -
HEADCOUNT_MISMATCH  P2     P2    0     L     gateway -
VENT_STOP           P2     P1    0     EGL   gateway -
DATA_LOST           P3     P1    0     EGL   gateway -
SENSOR_FAULT        P2     P2    0     L     gateway -
SETPOINT_LAX        P2     P2    0     L     gateway -
INSTR_DUE           P3     P3    0     -     gateway -
TEST_STALE          P3     P3    0     -     gateway -
REC_15MIN_MISSED    P3     P3    0     -     gateway -
LOCK_OFFLINE        P3     P3    0     -     gateway -
LOCK_BATTERY        P3     P3    0     -     gateway LOCK_OFFLINE
GATEWAY_LOST        P3     P1    5     L     api     -
UPLINK_LOST         P2     P2    0     -     gateway -
STORE_LAGGING       P3     P2    0     -     gateway -
JOURNAL_GAP         P2     P2    0     -     gateway -
JOURNAL_FAILING     P2     P2    0     -     gateway -
ALARM_PATH_FAILED   P2     P2    0     -     gateway -
CLOCK_UNTRUSTED     P2     P2    0     -     gateway -
RADIO_LOST          P2     P2    0     -     gateway -
SUSPICION           P3     P3    0     -     gateway -
WEATHER             P4     P2    0     -     gateway -
"""
# What raises it | clause | what happens by itself. A clause of our own documents stands where no law names the alarm.
_TEXTS = """
GAS_PRE | half the limit; O2 < 20.0 or > 22.5 % vol; LEL >= 5 %; P2 when rising | GBZ/T 223 | tells the attendant: more air
GAS_LOW | the low limit, which is the entry criterion | GB 46768-2025 6.2.5 | everybody out; no entry, no unlock; tests void
GAS_HIGH | the high limit | GB 46768-2025 6.2.5 | as GAS_LOW, and the emergency screen
GAS_IDLH | immediately dangerous to life or health | NIOSH IDLH (confirm) | as GAS_HIGH, "SCBA only, no entry"
OVER_RANGE | the sensor's range is exceeded; a later 0 does not clear it | domain.md 7.1 | as GAS_HIGH, "SCBA only, no entry"
GAS_STEL | a person's 15-minute average is over the limit | GBZ 2.1-2019 PC-STEL | everybody out; no entry, no unlock
GAS_TWA | a person's 8-h average or shift dose is over the limit | GBZ 2.1-2019 PC-TWA | out; not let in again that shift
GAS_RISING | at its present slope the gas reaches the low limit in < 60 s | domain.md 7.2 | warns ahead
UNAUTHORISED_OPEN | opened without a matching used grant | MEM Order 13 art. 12 | asks for a photo; counts to the grade
FORCED | the shackle was cut or the bolt forced | MEM Order 13 art. 12 | asks for a photo; counts to the grade
TAMPER | the lock's case was opened | domain.md 8.2 | asks for a photo; counts to the grade
EMERGENCY_OPEN | emergency grant, broken seal or inside release | domain.md 8.2 | emergency screen to all; review within 24 h
ENTRY_IN_PREP | somebody went in without an ENTRY grant | MEM Order 13 art. 14 | everybody out; no entry, no unlock
DOOR_LEFT_OPEN | open with no permit, while suspended, or 5 min into closing | GB 46768-2025 6.2.6 | tells the attendant
RELOCK_WITH_PERSON | the bolt was thrown with somebody inside | 29 CFR 1926.34(a) | tells the attendant: unlock, call
LOCK_UNCONFIRMED | a grant was written and no report came in 10 s | domain.md 4.4 | the lock counts as unknown
OVERTIME_SOON | 15 min to the permit's end with somebody inside; P3 at 5 min | domain.md 8.2 | reminds
STAY_TOO_LONG | a person has been inside for 120 min (choice) | domain.md 3.5 | reminds to rotate
OVERTIME | the permit's end passed with somebody inside; P1 after 5 min | 29 CFR 1910.146(e)(4) | the team gets no new permit
SOS | a person's button, or a call from a page | GB 46768-2025 6.2.5 | everybody out; emergency screen
MAN_DOWN | no motion for 2 min and no answer in 30 s; a fall | GB 46768-2025 6.2.5 | everybody out; emergency screen
MISSED_CHECKIN | an entrant's check-in is missed; P1 30 s later | domain.md 8.2 | P1: emergency screen
ATTENDANT_ABSENT | no check-in for 3 min with somebody inside; attendant inside | MEM Order 13 art. 15 | everybody out; no entry
HEADCOUNT_MISMATCH | in minus out is not as expected; sources disagree | 29 CFR 1926.1206 | asks for a recount by name
VENT_STOP | the fan's current is lost; P1 where it may not stop | GB 46768-2025 6.2.4; 29 CFR 1926.1206(e) | P1: everybody out
DATA_LOST | no frame in time; occupied: P2 at 5 s, P1 at 15 s | GB 46768-2025 6.2.2 | P1: everybody out
SENSOR_FAULT | a channel reports a fault | domain.md 7.1 | backs no grant
SETPOINT_LAX | the instrument itself alarms later than the profile | domain.md 6.4 | backs no grant
INSTR_DUE | bump test or calibration runs out before the planned end | MEM Order 13 art. 13 | backs no grant; mid-job it warns
TEST_STALE | work has not begun 30 min after the test | GB 30871; handbook 2020 | asks for a new test
REC_15MIN_MISSED | the 15-minute record is absent | GB 46768-2025 6.2.3 | tells the attendant
LOCK_OFFLINE | no report for two heartbeats | trust.md 7.2 | the space counts as unknown
LOCK_BATTERY | the lock's battery is below 20 % | domain.md 8.2 | makes a task
GATEWAY_LOST | no heartbeat of a gateway; P2 at 5 min, P1 if occupied or unknown | trust.md 7.2 | calls phones
UPLINK_LOST | no heartbeat of the approval service for 5 s | trust.md 7.2 | local outputs say so; alarms go on
STORE_LAGGING | the telemetry store is 10 s behind; P2 at 1 h | trust.md 7.3 X12 | the journal waits
JOURNAL_GAP | the journal was lost, or its cap dropped telemetry | trust.md 7.3 X15 | the gap is recorded
JOURNAL_FAILING | the journal cannot be written | trust.md 7.3 X14 | nothing is acknowledged to devices; alarms go on
ALARM_PATH_FAILED | two synthetic alarms in a row did not come through | trust.md 7.2 | no ENTRY grant after 24 h
CLOCK_UNTRUSTED | the clock stepped by more than 60 s, unexplained | trust.md 7.3 X16 | no new grants
RADIO_LOST | a Bluetooth adapter hears nothing, and every recovery was tried | locks.md 8 | recovery goes on
SUSPICION | evidence that data may be false; never a verdict | domain.md 10 | makes a review task; hides nothing
WEATHER | an imported message; P2: heavy rain on what is joined to sewers | domain.md 8.2 | may stop entry
"""


def _parse(grid: str, texts: str) -> dict[str, AlarmKind]:
    said = {kind: rest for kind, *rest in ([cell.strip() for cell in line.split("|")] for line in texts.strip().splitlines())}
    rows = [line.split() for line in grid.strip().splitlines()[1:]]
    return {row[0]: _row(row, said.pop(row[0])) for row in rows}


def _row(cells: list[str], said: list[str]) -> AlarmKind:
    kind, begins, worst, delay, flags, writer, hidden_by = cells
    trigger, clause, action = said
    return AlarmKind(
        id=kind,
        priority=Priority[begins],
        worst=Priority[worst],
        on_delay_s=float(delay),
        evacuates="E" in flags,
        blocks_grants="G" in flags,
        voids_tests="V" in flags,
        emergency="S" in flags,
        life_critical="L" in flags,
        writer=writer,
        suppressed_by=() if hidden_by == "-" else tuple(hidden_by.split(",")),
        trigger=trigger,
        clause=clause,
        action=action,
    )


CATALOGUE = _parse(_GRID, _TEXTS)


def latches(priority: Priority) -> bool:
    """Say whether an alarm of this priority stays until a person resets it: P1 and P2 do."""
    return priority <= Priority.P2
