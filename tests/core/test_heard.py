"""Columns of plain frames: a place for each instrument, read once by the watch that asks, never by another's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manway.heard import Heard, Unread
from manway.ids import Status
from manway.ledger import DeviceLedger
from manway.site import InstrumentWatch
from tests.kit.builders import an_instrument
from tests.kit.clock import EPOCH

CHANNELS = ("O2", "LEL", "CO", "H2S", "CO2", "battery_percent", "fan_a")


def say(heard: Heard, said: dict[int, tuple[int, list[float]]], at: float) -> None:
    """Have these places say a frame each: its number, and what its channels read."""
    places = np.array([*said])
    values = [numbers for _, numbers in said.values()]
    cells = heard.cells(places, np.array([*map(len, values)]))
    seq = np.array([seq for seq, _ in said.values()])
    heard.take(places, seq, seq * 1000, cells, np.array([x for numbers in values for x in numbers]), at)


def test_what_waits_is_read_once_and_is_the_newest() -> None:
    heard = Heard()
    one = Unread(heard, heard.add(2), 7, ("O2", "CO"))
    assert one.read() is None
    say(heard, {one.place: (1, [20.9, 0.0])}, EPOCH)
    say(heard, {one.place: (2, [20.8, 1.5])}, EPOCH + 1)
    count, plain = one.read() or (0, None)
    assert plain is not None
    assert (count, plain.boot, plain.seq, plain.ts, plain.received_at) == (2, 7, 2, 2000, EPOCH + 1)
    frame = plain.made("gas-1")
    assert {name: (x.status, x.value) for name, x in frame.readings.items()} == {
        "O2": (Status.OK, 20.8),
        "CO": (Status.OK, 1.5),
    }
    assert one.read() is None


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(0, 3)), min_size=1, max_size=200))
def test_no_place_touches_another_however_they_come_and_go(widths: list[tuple[int, int]]) -> None:
    """Places of any width are taken and given back; what each has said last is what is read there."""
    heard, known, said = Heard(), dict[int, Unread](), dict[int, tuple[int, list[float]]]()
    for number, (width, gone) in enumerate(widths, start=1):
        place = heard.add(width)
        assert place not in known
        known[place] = Unread(heard, place, number, CHANNELS[:width])
        said[place] = number, [number + i / 8 for i in range(width)]
        say(heard, dict(reversed(said.items())), EPOCH + number)
        for old in [*known][:gone]:
            heard.free(old)
            del known[old], said[old]
    for place, unread in known.items():
        count, plain = unread.read() or (0, None)
        assert plain is not None
        assert count == len(widths) - unread.boot + 1
        assert (plain.seq, [*plain.numbers]) == said[place]


def test_a_place_that_is_taken_over_has_nothing_of_its_last_instrument() -> None:
    heard = Heard()
    first = heard.add(1)
    say(heard, {first: (9, [20.9])}, EPOCH)
    heard.free(first)
    assert heard.add(2) != first
    assert heard.add(1) == first
    assert Unread(heard, first, 1, ("O2",)).read() is None


def test_a_watch_reads_before_it_is_told_otherwise() -> None:
    """Whoever sets what waits would overrule would have it overruled by what came before."""
    heard = Heard()
    for name, value in (("heard_at", EPOCH + 100), ("frame", None), ("ledger", DeviceLedger(7, 50))):
        watch = InstrumentWatch(an_instrument(), EPOCH, {})
        watch.unread = unread = Unread(heard, heard.add(1), 7, ("O2",))
        say(heard, {unread.place: (5, [20.9])}, EPOCH + 5)
        setattr(watch, name, value)
        assert getattr(watch, name) == value
        assert unread.read() is None, name
