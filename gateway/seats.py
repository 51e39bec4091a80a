"""What the lane knows of every instrument whose frames it takes: objects for what is asked rarely, columns for every frame."""

import msgspec
import numpy as np

from gateway.host import SiteHost
from manway import air
from manway.codec_mqtt import DeviceState, physical
from manway.gas_columns import Floats, Indices
from manway.heard import Heard, Unread, larger
from manway.plain import Source
from manway.site import InstrumentWatch

NO_LIMITS = -1  # in the place of a row
UNSEEN = -1  # the version of an engine that an instrument has not been seen under


class Seat:
    """One instrument; `rows` has `NO_LIMITS` where a channel has none."""

    def __init__(self, topic: str, host: SiteHost, watch: InstrumentWatch, birth: DeviceState, source: Source) -> None:
        self.topic, self.host, self.watch, self.birth, self.source = topic, host, watch, birth, source
        self.names = source.channels
        self.rows = [watch.rows.get(channel, NO_LIMITS) for channel in source.channels]
        self.h2s = self.names.index("H2S") if "H2S" in self.names else None

    def sours(self, numbers: Floats) -> bool:
        """Say whether there is so much H2S that a combustible sensor may suffer from it."""
        return self.h2s is not None and numbers.item(self.h2s) > air.SOUR_PPM

    @property
    def same(self) -> bool:
        """Whether it is as it was when it took this seat: the watch, the birth and the boot."""
        watch, device = self.watch, self.source.device
        now = self.host.engine.site.instruments.get(device)
        return now is watch and self.host.birth_in_use(device) is self.birth and watch.counted.boot == self.source.boot


class Seats:
    """All seats, each at the place that `heard` has for it; the columns are by place, those of channels by its cells.

    `boot` and `number` are of its source, `host` is the site's place among `hosts`, `version` the one of the engine under which
    the rest was seen: the `next` sequence number, how far at least its clock is `slow` (s), and whether it is `quiet`
    (a calm frame changes nothing but numbers). `row` is a channel's row of gases, and its sensor can say `least` to `greatest`.
    """

    def __init__(self) -> None:
        self.heard = Heard()
        self.at = dict[str, int]()  # the place, by topic
        self.seats = list[Seat | None]()
        self.names = list[tuple[str, ...]]()
        self.hosts = list[SiteHost]()
        self._host_at = dict[SiteHost, int]()
        self.boot, self.number, self.host, self.version, self.next = (np.zeros(0, np.int64) for _ in range(5))
        self.slow, self.quiet = np.zeros(0), np.zeros(0, np.bool_)
        self.row, self.least, self.greatest = np.zeros(0, np.intp), np.zeros(0), np.zeros(0)

    def __getitem__(self, place: int) -> Seat:
        seat = self.seats[place]
        if seat is None:
            raise KeyError(place)
        return seat

    def add(self, seat: Seat) -> int:
        """Give an instrument a seat, for another one under its topic; return its place. It has not been seen yet."""
        self.drop(seat.topic)
        width, source = len(seat.names), seat.source
        place = self.heard.add(width)
        self._make_room()
        self.at[seat.topic] = place
        self.seats[place], self.names[place] = seat, seat.names
        if seat.host not in self._host_at:
            self._host_at[seat.host] = len(self.hosts)
            self.hosts.append(seat.host)
        self.boot[place], self.number[place], self.host[place] = source.boot, source.number, self._host_at[seat.host]
        self.version[place] = UNSEEN
        begin = int(self.heard.begin[place])
        bounds = [physical(channel) for channel in seat.names]
        self.row[begin : begin + width] = seat.rows
        self.least[begin : begin + width], self.greatest[begin : begin + width] = zip(*bounds, strict=True)
        seat.watch.unread = Unread(self.heard, place, source.boot, seat.names)
        return place

    def drop(self, topic: str) -> None:
        """Take an instrument's seat away; its watch has read what waited for it."""
        if (place := self.at.pop(topic, None)) is not None:
            watch = self[place].watch
            if watch.unread is not msgspec.UNSET and watch.unread.place == place:
                watch.read()
                watch.unread = msgspec.UNSET
            self.seats[place] = None
            self.heard.free(place)

    def see(self, place: int) -> None:
        """See again what is so of an instrument whose seat is the `same`."""
        seat, watch = self[place], self[place].watch
        self.version[place] = seat.host.engine.version
        self.next[place] = watch.ledger.highest + 1
        self.slow[place] = seat.host.least_delay(seat.source.device, seat.source.boot)
        self.quiet[place] = air.BESIDE.isdisjoint(seat.names) and air.quiet(seat.host.engine.site, watch)

    def unseen(self, places: Indices) -> list[int]:
        """Return which of these instruments were not seen since something happened to their sites."""
        hosts, seen = self.host[places], self.version[places]
        if len(places) < len(self.hosts):
            known = zip(places.tolist(), hosts.tolist(), seen.tolist(), strict=True)
            return [*dict.fromkeys(place for place, host, version in known if version != self.hosts[host].engine.version)]
        versions = np.array([host.engine.version for host in self.hosts])
        return [*dict.fromkeys(places[seen != versions[hosts]].tolist())]

    def _make_room(self) -> None:
        """Have as much room as `heard` has."""
        places, cells = len(self.heard.count), len(self.heard.values)
        if len(self.seats) < places:
            for name in ("boot", "number", "host", "version", "next", "slow", "quiet"):
                setattr(self, name, larger(getattr(self, name), places))
            self.seats += [None] * (places - len(self.seats))
            self.names += [()] * (places - len(self.names))
        if len(self.row) < cells:
            for name in ("row", "least", "greatest"):
                setattr(self, name, larger(getattr(self, name), cells))
