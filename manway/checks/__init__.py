"""Checks before an unlock: every one is evaluated, every failing one is answered (`domain.md` §5).

Not evaluable is failing: unknown, missing and NaN never pass. The same function serves the page, the signer and the moment of
use. `table` lists the checks, `facts` is what they look at, `items` what people confirm; the rules stand by their subject in
`people`, `place`, `air` and `gas_test`.
"""

from manway.checks.evaluate import close_out_failures, emergency_failures, evaluate, failures_of, grant_life_s
from manway.checks.facts import Facts, LiveInstrument, LockFacts
from manway.checks.gas_test import gases_needed, judge_test, points_needed, sampling_distances, spacing_m
from manway.checks.items import (
    BLOCKS,
    EXTRA_PERMITS,
    ITEMS,
    WORK_KINDS,
    Item,
    Question,
    answer,
    good_until,
    is_photo,
    judge_item,
    questions,
)
from manway.checks.people import approver_failures, chain, chain_failures, named_people, needs_delegation
from manway.checks.table import CHECKS, Check, CheckResult, Outcome

__all__ = [
    "BLOCKS",
    "CHECKS",
    "EXTRA_PERMITS",
    "ITEMS",
    "WORK_KINDS",
    "Check",
    "CheckResult",
    "Facts",
    "Item",
    "LiveInstrument",
    "LockFacts",
    "Outcome",
    "Question",
    "answer",
    "approver_failures",
    "chain",
    "chain_failures",
    "close_out_failures",
    "emergency_failures",
    "evaluate",
    "failures_of",
    "gases_needed",
    "good_until",
    "grant_life_s",
    "is_photo",
    "judge_item",
    "judge_test",
    "named_people",
    "needs_delegation",
    "points_needed",
    "questions",
    "sampling_distances",
    "spacing_m",
]
