"""Plain frames as columns: what nearly all instruments say nearly always, without an object a frame.

Theory. A frame is plain when it is the next one of its boot, in time, and every channel in it is a number. Plain frames of all
sites of a process are judged together, and journaled and stored as columns. Whatever is not plain goes the ordinary way, a
`Frame` each, and so does every frame of a replay: both ways lead to the same engine, to the last bit, and the tests hold them
against each other.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from manway.entities import Frame, Reading
from manway.ids import Status

_LEVEL = 1  # (choice) of zlib: behind byte planes a higher one gains a tenth for twice the work
_THOUSANDTHS = 1_000.0  # an instrument shows few digits: what is whole thousandths is kept as a whole number, and exactly
_WHOLE = 2**31 - 1
_HEAD = 9  # bytes: how many frames, how many numbers, and how these are kept
_OK = Status.OK
_Column = (
    npt.NDArray[np.uint8] | npt.NDArray[np.uint32] | npt.NDArray[np.int32] | npt.NDArray[np.int64] | npt.NDArray[np.float64]
)


class Source(msgspec.Struct, frozen=True):
    """One boot of an instrument and the channels its frames name, in their order; `number` stands for it in a journal."""

    number: int
    site: str
    device: str
    boot: int
    channels: tuple[str, ...]


class Plain(msgspec.Struct, frozen=True, eq=False):
    """The plain frames of one step, in the order they were judged; n frames, m numbers.

    `source` (n,) are numbers of `Source`s, `seq` (n,) sequence numbers, `ts` (n,) the devices' times (ms since 1970), `width`
    (n,) how many channels each frame has; `values` (m,) are the numbers of all of them behind each other, in the unit of the
    birth. All were received at the time of their step.
    """

    source: npt.NDArray[np.int64]
    seq: npt.NDArray[np.uint32]
    ts: npt.NDArray[np.int64]
    width: npt.NDArray[np.uint8]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.source)

    def frames(self, at: float, sources: Mapping[int, Source]) -> Iterator[tuple[Source, Frame]]:
        """Yield each frame as an object, received at `at` (Unix seconds), with its source; KeyError: a source is not known."""
        values, begin = self.values.tolist(), 0
        columns = (self.source.tolist(), self.seq.tolist(), self.ts.tolist(), self.width.tolist())
        for number, seq, ts, width in zip(*columns, strict=True):
            source, end = sources[number], begin + width
            readings = {channel: Reading(_OK, value) for channel, value in zip(source.channels, values[begin:end], strict=True)}
            yield source, Frame(source.device, source.boot, seq, ts, at, readings)
            begin = end


def packed(plain: Plain) -> bytes:
    """Return the columns as bytes: byte plane behind byte plane, which is what zlib shrinks."""
    whole = np.rint(plain.values * _THOUSANDTHS)
    exact = bool(((np.abs(whole) <= _WHOLE) & (whole / _THOUSANDTHS == plain.values) & ~_minus_zero(plain.values)).all())
    values = whole.astype("<i4") if exact else plain.values.astype("<f8")
    if len(plain) and (plain.width == plain.width[0]).all():  # channel by channel, as of nearly every fleet
        values = values.reshape(len(plain), -1).T
    columns = (plain.source.astype("<i8"), plain.seq.astype("<u4"), plain.ts.astype("<i8"), plain.width, values.reshape(-1))
    head = len(plain).to_bytes(4, "little") + len(plain.values).to_bytes(4, "little") + bytes([exact])
    return head + zlib.compress(b"".join(_planes(column) for column in columns), _LEVEL)


def unpacked(body: bytes) -> Plain:
    """Return what `packed` made bytes of.

    Raises:
        ValueError, zlib.error: they are damaged.
    """
    return unpacked_all([body])[0]


def unpacked_all(bodies: Sequence[bytes]) -> list[Plain]:
    """Return what `packed` made these of, in their order; those of one size together, for most are of a few frames.

    Raises:
        ValueError, zlib.error: one of them is damaged.
    """
    alike = defaultdict[bytes, list[int]](list)
    for place, body in enumerate(bodies):
        alike[body[:_HEAD]].append(place)
    found: dict[int, Plain] = {}
    for head, places in alike.items():
        if len(head) != _HEAD:
            message = f"not a row of plain frames: {len(head)} bytes"
            raise ValueError(message)
        found.update(zip(places, _unpacked_alike([bodies[place] for place in places], head), strict=True))
    return [found[place] for place in range(len(bodies))]


def _unpacked_alike(bodies: Sequence[bytes], head: bytes) -> Iterator[Plain]:
    """Yield what bodies hold that have one head; their columns are rows of arrays (body, frame) and (body, number)."""
    n, m, exact = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:8], "little"), head[8]
    kinds = [np.dtype(kind) for kind in ("<i8", "<u4", "<i8", "u1", "<i4" if exact else "<f8")]
    counts = (n, n, n, n, m)
    size = sum(kind.itemsize * count for kind, count in zip(kinds, counts, strict=True))
    raw = [zlib.decompress(body[_HEAD:]) for body in bodies]
    if any(len(one) != size for one in raw):
        message = f"not {n} plain frames of {m} numbers"
        raise ValueError(message)
    block, at = np.frombuffer(b"".join(raw), np.uint8).reshape(len(bodies), size), 0
    columns = []
    for kind, count in zip(kinds, counts, strict=True):
        planes = block[:, at : at + kind.itemsize * count].reshape(len(bodies), kind.itemsize, count)
        columns.append(np.ascontiguousarray(planes.transpose(0, 2, 1)).reshape(len(bodies), -1).view(kind))
        at += kind.itemsize * count
    source, seq, ts, width, values = columns
    numbers = values.astype(np.float64) / _THOUSANDTHS if exact else values.astype(np.float64)
    even = (width == width[:, :1]).all(1)
    if m and even.any():  # channel by channel, where all frames of a body have as many
        turned = numbers[even].reshape(int(even.sum()), -1, n).transpose(0, 2, 1)
        numbers[even] = turned.reshape(int(even.sum()), -1)
    return map(Plain, source.astype(np.int64), seq.astype(np.uint32), ts.astype(np.int64), width.astype(np.uint8), numbers)


def _planes(column: _Column) -> bytes:
    return np.ascontiguousarray(column).view(np.uint8).reshape(len(column), column.itemsize).T.tobytes()


def _minus_zero(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.signbit(values) & (values == 0)
    return found
