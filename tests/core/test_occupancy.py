"""Who is inside: names in minus names out, or unknown; never a guess."""

import msgspec
import pytest

from manway.occupancy import OUT_WITHOUT_IN, SOURCES_DIFFER, Mismatch, Occupancy


def test_an_empty_space_is_a_known_zero() -> None:
    here = Occupancy()
    assert (here.count, here.occupied) == (0, False)


def test_people_are_counted_by_name_with_the_time_they_went_in() -> None:
    here = Occupancy()
    here.record("ann", "in", 10.0)
    here.record("bob", "in", 20.0)
    assert (here.count, here.occupied, here.inside) == (2, True, {"ann": 10.0, "bob": 20.0})
    here.record("ann", "out", 30.0)
    assert (here.count, here.inside) == (1, {"bob": 20.0})


def test_an_unknown_count_is_occupied() -> None:
    assert Occupancy(known=False).count is None
    assert Occupancy(known=False).occupied
    assert Occupancy(inside={"ann": 1.0}, known=False).count is None


def test_what_cannot_be_true_is_refused_with_its_reason() -> None:
    here = Occupancy(inside={"ann": 1.0})
    assert here.refuses("ann", "in") == "entry.already_inside"
    assert here.refuses("bob", "out") == "entry.not_inside"
    assert here.refuses("bob", "sideways") == "entry.unknown_direction"
    assert here.refuses("ann", "out") is None
    assert here.refuses("bob", "in") is None


def test_two_spaces_do_not_share_their_people() -> None:
    Occupancy().record("ann", "in", 1.0)
    assert Occupancy().count == 0


# ---- several sources


def test_an_entry_told_by_two_sources_is_one_entry() -> None:
    here = Occupancy()
    assert here.record("ann", "in", 10.0, "tag") is True
    assert here.refuses("ann", "in") is None  # the attendant has not said so yet
    assert here.record("ann", "in", 14.0) is False
    assert here.refuses("ann", "in") == "entry.already_inside"
    assert (here.count, here.inside, here.mismatch) == (1, {"ann": 10.0}, [])


def test_a_tag_read_twice_is_one_entry() -> None:
    here = Occupancy()
    assert [here.record("ann", "in", at, "tag") for at in (10.0, 11.0, 500.0)] == [True, False, False]
    assert (here.count, here.inside, here.next_deadline()) == (1, {"ann": 10.0}, None)


def test_an_exit_told_by_two_sources_is_one_exit() -> None:
    here = Occupancy()
    for source in ("tag", "attendant"):
        here.record("ann", "in", 10.0, source)
    assert here.record("ann", "out", 100.0, "tag") is False  # the attendant still says in
    assert (here.count, here.next_deadline()) == (1, 160.0)
    assert here.record("ann", "out", 110.0) is True
    assert (here.count, here.next_deadline(), here.settle(1e9)) == (0, None, [])


def test_a_tag_that_missed_the_entry_tells_of_the_same_exit() -> None:
    here = Occupancy()
    here.record("ann", "in", 10.0)
    here.record("ann", "out", 100.0)
    assert here.record("ann", "out", 160.0, "tag") is False
    assert (here.count, here.mismatch) == (0, [])


def test_a_tag_that_says_out_against_the_attendant_is_a_mismatch_unless_corrected_in_time() -> None:
    here = Occupancy()
    for source in ("tag", "attendant"):
        here.record("ann", "in", 10.0, source)
    here.record("ann", "out", 100.0, "tag")
    assert (here.settle(159.9), here.known) == ([], True)
    found = Mismatch("ann", SOURCES_DIFFER, 100.0, {"attendant": "in", "tag": "out"})
    assert here.settle(160.0) == [found]
    assert (here.count, here.occupied, here.mismatch) == (None, True, [found])
    here.record("ann", "out", 170.0)  # too late: only a recount ends it
    assert (here.inside, here.known, here.mismatch) == ({}, False, [found])


def test_an_attendants_out_against_a_tag_that_stayed_inside_empties_nothing() -> None:
    here = Occupancy()
    for source in ("tag", "attendant"):
        here.record("ann", "in", 10.0, source)
    assert here.record("ann", "out", 100.0) is False
    assert (here.count, here.inside) == (1, {"ann": 10.0})
    assert here.record("ann", "out", 161.0, "tag") is True  # what was not corrected by then had become a mismatch
    assert [m.kind for m in here.mismatch] == [SOURCES_DIFFER]


def test_a_mismatch_stands_once_however_often_it_is_told() -> None:
    here = Occupancy()
    for at in (10.0, 500.0, 1000.0):
        here.record("bob", "out", at, "tag")
    assert [(m.person, m.kind, m.at) for m in here.mismatch] == [("bob", OUT_WITHOUT_IN, 10.0)]
    for at in (2000.0, 3000.0):
        here.record("ann", "in", at)
        here.record("ann", "out", at, "tag")
        assert len(here.settle(at + 60)) == (1 if at == 2000.0 else 0)


def test_somebody_who_comes_out_and_never_went_in_makes_the_count_unknown() -> None:
    here = Occupancy()
    here.record("ann", "in", 5.0)
    assert here.record("bob", "out", 10.0, "tag") is False
    assert here.mismatch == [Mismatch("bob", OUT_WITHOUT_IN, 10.0, {"tag": "out"})]
    assert (here.inside, here.count, here.occupied) == ({"ann": 5.0}, None, True)


def test_an_exit_long_after_the_exit_was_an_entry_that_nobody_saw() -> None:
    here = Occupancy()
    here.record("ann", "in", 5.0)
    here.record("ann", "out", 10.0)
    here.record("ann", "out", 70.1, "tag")
    assert [m.kind for m in here.mismatch] == [OUT_WITHOUT_IN]


def test_an_older_word_of_the_same_source_is_ignored() -> None:
    here = Occupancy()
    here.record("ann", "in", 10.0, "tag")
    assert here.record("ann", "out", 9.0, "tag") is False
    assert (here.inside, here.mismatch) == ({"ann": 10.0}, [])


def test_a_recount_makes_the_count_known_and_ends_every_mismatch() -> None:
    here = Occupancy()
    here.record("ann", "in", 5.0)
    here.record("eve", "in", 6.0, "tag")
    here.record("bob", "out", 10.0, "tag")
    here.record("eve", "out", 11.0, "scan")
    here.doubt()
    assert here.occupied
    here.recount(["ann", "cid"], 200.0)
    assert (here.count, here.inside) == (2, {"ann": 5.0, "cid": 200.0})
    assert (here.mismatch, here.next_deadline(), here.settle(1e9)) == ([], None, [])
    assert here.refuses("ann", "in") == "entry.already_inside"
    assert here.record("ann", "out", 300.0) is True
    assert here.record("eve", "out", 210.0, "tag") is False  # she was counted out a moment ago
    assert here.mismatch == []


def test_a_direction_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="sideways"):
        Occupancy().record("ann", "sideways", 1.0)


def test_a_snapshot_keeps_every_word_and_every_disagreement() -> None:
    here = Occupancy()
    here.record("ann", "in", 5.0)
    here.record("ann", "out", 6.0, "tag")
    here.record("bob", "out", 7.0, "scan")
    again = msgspec.json.decode(msgspec.json.encode(here), type=Occupancy)
    assert again == here
    assert again.settle(66.0) == here.settle(66.0) != []


def test_of_two_words_at_the_same_instant_the_later_told_counts() -> None:
    here = Occupancy()
    here.record("ann", "in", 10.0)
    assert here.record("ann", "out", 10.0) is True
    assert (here.count, here.mismatch) == (0, [])
