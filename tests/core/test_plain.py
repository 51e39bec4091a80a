"""Columns of plain frames: whole through their bytes, one by one or many at once, and as frames."""

import zlib

import numpy as np
import pytest

from manway.entities import Frame, Reading
from manway.ids import Status
from manway.plain import Plain, Source, packed, unpacked, unpacked_all


def some(dice: np.random.Generator, count: int, *, even: bool, decimals: int | None) -> Plain:
    """Random columns; `even`: each frame has as many channels, `decimals` None: numbers no instrument shows."""
    width = np.full(count, dice.integers(0, 6), np.uint8) if even else dice.integers(0, 6, count).astype(np.uint8)
    values = dice.normal(0.0, 30.0, int(width.sum()))
    shown = values if decimals is None else np.round(values, decimals)
    source, seq = dice.integers(0, 2**40, count), dice.integers(0, 2**32, count).astype(np.uint32)
    return Plain(source, seq, dice.integers(-(2**60), 2**60, count), width, shown)


def same(found: Plain, expected: Plain) -> None:
    for name in expected.__struct_fields__:
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype, name
        assert one.tobytes() == other.tobytes(), name


def test_what_is_packed_comes_back_to_the_last_bit_alone_and_among_many() -> None:
    dice = np.random.default_rng(20261122)
    parts = [
        some(
            dice,
            int(dice.choice([0, 1, 1, 2, 3, 50])),
            even=bool(dice.integers(0, 2)),
            decimals=(None, 1, 3)[dice.integers(0, 3)],
        )
        for _ in range(400)
    ]
    bodies = [packed(part) for part in parts]
    for body, found, part in zip(bodies, unpacked_all(bodies), parts, strict=True):
        same(found, part)
        same(unpacked(body), part)
    assert unpacked_all([]) == []


def test_a_minus_before_a_zero_is_kept() -> None:
    plain = Plain(np.ones(1, np.int64), np.ones(1, np.uint32), np.ones(1, np.int64), np.ones(1, np.uint8), np.array([-0.0]))
    assert np.signbit(unpacked(packed(plain)).values).all()


def test_clean_air_takes_few_bytes() -> None:
    dice, count = np.random.default_rng(1), 1000
    air = np.round(np.array([20.9, 0.4, 0.3, 1.2, 620.0]) + dice.normal(0.0, 0.1, (count, 5)), 1)
    numbers = np.arange(count, dtype=np.int64)
    plain = Plain(
        numbers,
        np.full(count, 40, np.uint32),
        1_795_046_400_000 + np.arange(count),
        np.full(count, 5, np.uint8),
        air.reshape(-1),
    )
    assert len(packed(plain)) < 12 * count


@pytest.mark.parametrize("spoilt", [b"", b"short", b"\xff" * 9], ids=["nothing", "a piece of a head", "a head alone"])
def test_damaged_bytes_are_refused(spoilt: bytes) -> None:
    with pytest.raises((ValueError, zlib.error)):
        unpacked(spoilt)


def test_bytes_that_hold_other_than_they_say_are_refused() -> None:
    body = bytearray(packed(some(np.random.default_rng(3), 3, even=True, decimals=1)))
    body[0] = 4
    with pytest.raises(ValueError, match="not 4 plain frames"):
        unpacked_all([bytes(body)])
    with pytest.raises(zlib.error):
        unpacked(bytes(body[:-3]))


def test_columns_as_frames() -> None:
    sources = {7: Source(7, "yard", "gas-1", 3, ("O2", "H2S")), 9: Source(9, "dock", "gas-2", 4, ("CO",))}
    plain = Plain(
        np.array([7, 9, 7], np.int64),
        np.array([1, 5, 2], np.uint32),
        np.array([1000, 1100, 2000]),
        np.array([2, 1, 2], np.uint8),
        np.array([20.9, 0.1, 3.0, 20.8, 0.2]),
    )
    found = list(plain.frames(2.5, sources))
    assert len(plain) == 3
    assert [source.site for source, _ in found] == ["yard", "dock", "yard"]
    ok = Status.OK
    assert [frame for _, frame in found] == [
        Frame("gas-1", 3, 1, 1000, 2.5, {"O2": Reading(ok, 20.9), "H2S": Reading(ok, 0.1)}),
        Frame("gas-2", 4, 5, 1100, 2.5, {"CO": Reading(ok, 3.0)}),
        Frame("gas-1", 3, 2, 2000, 2.5, {"O2": Reading(ok, 20.8), "H2S": Reading(ok, 0.2)}),
    ]
    with pytest.raises(KeyError):
        list(plain.frames(2.5, {}))
