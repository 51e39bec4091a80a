"""Who is inside: names in minus names out, or unknown; never a guess."""

from manway.occupancy import Occupancy


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
