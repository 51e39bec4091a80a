"""One round of the lane: frames in which no instrument comes twice, judged together; one row of the journal."""

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate

import numpy as np

from gateway.host import SiteHost
from manway import air
from manway.codec_mqtt import DeviceState, physical
from manway.gas import Flags, GasRows
from manway.plain import Plain, Source
from manway.site import InstrumentWatch

_NO_LIMITS = -1  # in the place of a row
MOST_CHANNELS = 255  # of a frame: its width is a byte of the columns


class Seat:
    """What the lane knows of one instrument, found by its topic. `rows` has -1 where a channel has no limits.

    `fits` while its next frame may be read as its last one was; `quiet` while one that is calm changes nothing but numbers.
    """

    def __init__(self, gas: GasRows, host: SiteHost, watch: InstrumentWatch, birth: DeviceState, source: Source) -> None:
        self.host, self.engine, self.watch, self.ledger, self.birth = host, host.engine, watch, watch.ledger, birth
        self.number, self.device, self.boot, self.channels = source.number, source.device, source.boot, source.channels
        self.names = list(source.channels)
        self.rows = [watch.rows.get(channel, _NO_LIMITS) for channel in source.channels]
        self.h2s = self.names.index("H2S") if "H2S" in self.names else None
        self.physical = [physical(channel) for channel in source.channels]
        # A number that is calm is one a sensor can say, but for these channels: (channel, least, greatest).
        self.asked = [
            (channel, *bounds)
            for channel, row, bounds in zip(source.channels, self.rows, self.physical, strict=True)
            if row < 0 or not _inside(gas, row, bounds)
        ]
        self.slow_s = 0.0  # its clock is behind by this at least
        self.version, self.turn, self.barred = -1, 0, 0
        self.fits = self.quiet = False

    def sours(self, numbers: Sequence[float]) -> bool:
        """Say whether there is so much H2S that a combustible sensor may suffer from it."""
        return self.h2s is not None and numbers[self.h2s] > air.SOUR_PPM

    def possible(self, numbers: Sequence[float]) -> bool:
        """Say whether a sensor can say all these numbers."""
        return all(low <= number <= high for number, (low, high) in zip(numbers, self.physical, strict=True))


class Round:
    """Frames in the order they came: `rows` and `values` of all of them behind each other, everything else one a frame.

    Filled by the lane; then first `look`, and only if nothing impossible is in it `take`.
    """

    def __init__(self) -> None:
        self.places: list[int] = []  # of their messages
        self.seats: list[Seat] = []
        self.seqs: list[int] = []
        self.times: list[int] = []
        self.rows: list[int] = []
        self.values: list[float] = []

    def look(self, gas: GasRows, now: float) -> list[int]:
        """See what is calm; return the places of frames that say what no sensor can: they must not be taken."""
        self._index, self._values = np.array(self.rows, np.intp), np.array(self.values, np.float64)
        self._limited: Flags | slice = self._index >= 0
        if self._limited.all():
            self._limited = slice(None)
        self._calm = gas.would_stay_calm(self._index[self._limited], self._values[self._limited], now)
        self._begins = [0, *accumulate(len(seat.rows) for seat in self.seats)]
        self._moving = self._places_of_others()
        begins, values = self._begins, self.values
        return [i for i in self._moving if not self.seats[i].possible(values[begins[i] : begins[i + 1]])]

    def _places_of_others(self) -> list[int]:
        """Return the places of frames in which not every number is calm."""
        if self._calm.all():
            return []
        calm = np.ones(len(self._index), np.bool_)
        calm[self._limited] = self._calm
        return np.flatnonzero(~np.logical_and.reduceat(calm, self._begins[:-1])).tolist()

    def without(self, places: Collection[int]) -> "Round":
        """Return the frames in all other places."""
        rest = Round()
        for i, (begin, end) in enumerate(zip(self._begins, self._begins[1:], strict=False)):
            if i not in places:
                rest.places.append(self.places[i])
                rest.seats.append(self.seats[i])
                rest.seqs.append(self.seqs[i])
                rest.times.append(self.times[i])
                rest.rows += self.rows[begin:end]
                rest.values += self.values[begin:end]
        return rest

    def take(self, gas: GasRows, now: float) -> tuple[set[int], set[int]]:
        """Keep the frames and have the rows take their numbers; return the rows with another status, and the noticed ones."""
        columns = zip(self.seats, self.seqs, self.times, self._begins, strict=False)
        for seat, seq, t, begin in columns:
            air.take_plain(seat.watch, now, (seat.boot, seq, t, now, seat.channels, self.values, begin))
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
        moving, begins, values = set(self._moving), self._begins, self.values
        return [
            seat
            for i, seat in enumerate(self.seats)
            if not seat.quiet
            or (i in moving and (not flagged.isdisjoint(seat.rows) or seat.sours(values[begins[i] : begins[i + 1]])))
        ]

    def columns(self) -> Plain:
        """Return the frames as the journal keeps them."""
        seats, count = self.seats, len(self.seats)
        return Plain(
            np.fromiter((seat.number for seat in seats), np.uint32, count),
            np.array(self.seqs, np.uint32),
            np.array(self.times, np.int64),
            np.fromiter((len(seat.rows) for seat in seats), np.uint8, count),
            self._values,
        )


def _inside(gas: GasRows, row: int, bounds: tuple[float, float]) -> bool:
    calm_from, calm_to = gas.calm_band(row)
    return bounds[0] <= calm_from and calm_to <= bounds[1]
