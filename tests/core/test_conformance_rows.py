"""Every case of the conformance table that a lock without a radio can show has a test by its number (`locks.md` §14)."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<=test_l)\d\d(?=_)|(?<=_l)\d\d(?=_)|(?<=\(L)\d\d(?=\))")  # in the name, or in its page's heading
ON_THE_AIR_ONLY = {1, 2, 5}  # `b` cases of the radio's face; 14 has a test here as well
OF_NO_LOCK_OF_THIS_VERSION = {35}  # vouchers


def test_every_case_has_a_test_named_after_it() -> None:
    pages = [page for folder in ("core", "fault") for page in (TESTS / folder).glob("test_*lock*.py")]
    pages.append(TESTS / "core" / "test_grant_bits.py")
    found = {int(number) for page in pages for number in NUMBER.findall(page.read_text("utf-8"))}
    assert sorted(set(range(1, 39)) - ON_THE_AIR_ONLY - OF_NO_LOCK_OF_THIS_VERSION - found) == []
