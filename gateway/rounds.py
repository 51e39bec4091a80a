"""One round of the lane: frames in which no instrument comes twice, judged together; one row of the journal."""

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate, pairwise
from typing import Annotated

import msgspec
import numpy as np

from gateway.host import SiteHost
from manway import air
from manway.codec_mqtt import U32, U32_MAX, DeviceState, physical
from manway.gas import GasRows
from manway.gas_columns import Flags
from manway.plain import Plain, Source
from manway.site import InstrumentWatch, PlainFrame

_NO_LIMITS = -1  # in the place of a row
_ASKS = np.dtype([("row", np.intp), ("least", np.float64), ("greatest", np.float64)])  # of a number: what a sensor can say
MOST_CHANNELS = 255  # of a frame: its width is a byte of the columns


class Numbers(msgspec.Struct, frozen=True, gc=False):
    """`GasFrames` of one row with a time, in which every channel has a number: anything else does not decode."""

    b: U32
    s: Annotated[int, msgspec.Meta(ge=1, le=U32_MAX)]
    u: int
    t: Annotated[int, msgspec.Meta(gt=0, lt=1 << 53)]
    v: dict[str, tuple[float]]
    dt: Annotated[list[int], msgspec.Meta(max_length=0)] = []
    q: Annotated[dict[str, list[str]], msgspec.Meta(max_length=0)] = {}


class Seat:
    """What the lane knows of one instrument, found by its topic. `rows` has -1 where a channel has no limits.

    `quiet` while a calm frame changes nothing but numbers; `turn` and `barred` are when one was taken and given back last.
    """

    def __init__(self, host: SiteHost, watch: InstrumentWatch, birth: DeviceState, source: Source) -> None:
        self.host, self.engine, self.watch, self.ledger, self.birth = host, host.engine, watch, watch.ledger, birth
        self.number, self.device, self.boot, self.channels = source.number, source.device, source.boot, source.channels
        self.names = list(source.channels)
        self.rows = [watch.rows.get(channel, _NO_LIMITS) for channel in source.channels]
        bounds = [physical(channel) for channel in source.channels]
        self.asks = np.array([(row, *bound) for row, bound in zip(self.rows, bounds, strict=True)], _ASKS).tobytes()
        self.width = len(self.rows)
        self.h2s = self.names.index("H2S") if "H2S" in self.names else None
        self.slow_s = 0.0  # its clock is behind by this at least
        self.version, self.turn, self.barred = -1, 0, 0
        self.quiet = False

    def sours(self, numbers: Sequence[float]) -> bool:
        """Say whether there is so much H2S that a combustible sensor may suffer from it."""
        return self.h2s is not None and numbers[self.h2s] > air.SOUR_PPM


class Round:
    """Frames in the order they came: `values` of all of them behind each other, everything else one a frame.

    Filled by the lane, no instrument twice; then first `look`, and only if nothing impossible is in it `take`.
    """

    def __init__(self) -> None:
        self.places: list[int] = []  # of their messages
        self.seats: list[Seat] = []
        self.seqs: list[int] = []
        self.times: list[int] = []
        self.values: list[float] = []

    def look(self, gas: GasRows, now: float) -> list[int]:
        """Return the places of frames that say what no sensor can and must not be taken; without any, see what is calm."""
        self._widths = [seat.width for seat in self.seats]
        self._begins = [0, *accumulate(self._widths)]
        asks = np.frombuffer(b"".join([seat.asks for seat in self.seats]), _ASKS)  # the soonest way to one array
        self._index, self._values = np.ascontiguousarray(asks["row"]), np.array(self.values, np.float64)
        possible = (self._values >= asks["least"]) & (self._values <= asks["greatest"])
        if not possible.all():
            return self._frames_without(possible)
        limited = self._index >= 0
        self._limited: Flags | slice = slice(None) if limited.all() else limited
        self._calm = gas.would_stay_calm(self._index[self._limited], self._values[self._limited], now)
        self._moving = self._places_of_others()
        return []

    def _frames_without(self, flags: Flags) -> list[int]:
        """Return the places of frames not all of whose numbers are flagged."""
        places: list[int] = np.flatnonzero(~np.logical_and.reduceat(flags, self._begins[:-1])).tolist()
        return places

    def _places_of_others(self) -> list[int]:
        """Return the places of frames in which not every number is calm."""
        if self._calm.all():
            return []
        calm = np.ones(len(self._index), np.bool_)
        calm[self._limited] = self._calm
        return self._frames_without(calm)

    def without(self, places: Collection[int]) -> "Round":
        """Return the frames in all other places."""
        rest = Round()
        for i, (begin, end) in enumerate(pairwise(self._begins)):
            if i not in places:
                rest.places.append(self.places[i])
                rest.seats.append(self.seats[i])
                rest.seqs.append(self.seqs[i])
                rest.times.append(self.times[i])
                rest.values += self.values[begin:end]
        return rest

    def take(self, gas: GasRows, now: float) -> tuple[set[int], set[int]]:
        """Keep the frames and have the rows take their numbers; return the rows with another status, and the noticed ones."""
        take, numbers, size = air.take_plain, self._values.tobytes(), self._values.itemsize
        for seat, seq, t, (begin, end) in zip(self.seats, self.seqs, self.times, pairwise(self._begins), strict=True):
            take(seat.watch, now, PlainFrame(seat.boot, seq, t, now, seat.channels, numbers[begin * size : end * size]))
        rows, values, calm = self._index[self._limited], self._values[self._limited], self._calm
        if not self._moving:
            gas.note(rows, values, now)
            return set(), set()
        gas.note(rows[calm], values[calm], now)
        moving = rows[~calm]
        other, noticed = gas.judge(moving, values[~calm], now)
        return set(moving[other].tolist()), set(moving[noticed].tolist())

    def heard(self, flagged: AbstractSet[int]) -> list[Seat]:
        """Return the instruments whose frame may mean more than its numbers, in their order; `flagged` rows as `take` says."""
        seats, begins, values = self.seats, self._begins, self.values
        loud = [i for i, seat in enumerate(seats) if not seat.quiet]
        for i in self._moving:
            seat = seats[i]
            if seat.quiet and (not flagged.isdisjoint(seat.rows) or seat.sours(values[begins[i] : begins[i + 1]])):
                loud.append(i)
        return [seats[i] for i in sorted(loud)]

    def columns(self) -> Plain:
        """Return the frames as the journal keeps them."""
        return Plain(
            np.array([seat.number for seat in self.seats], np.int64),
            np.array(self.seqs, np.uint32),
            np.array(self.times, np.int64),
            np.array(self._widths, np.uint8),
            self._values,
        )
