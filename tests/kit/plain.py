"""Plain frames for a watch without a lane: columns of its own, which it reads when it is asked."""

import msgspec
import numpy as np

from manway.entities import Frame
from manway.heard import Heard, Unread
from manway.site import InstrumentWatch


def quickly(watch: InstrumentWatch, frame: Frame, *, at: float) -> None:
    """Let the next frame of its instrument wait for `watch`, received `at` (Unix s)."""
    values = np.array([reading.value for reading in frame.readings.values()], np.float64)
    channels, unread = tuple(frame.readings), watch.unread
    if unread is msgspec.UNSET or (unread.boot, unread.channels) != (frame.boot, channels):
        watch.read()  # whatever waits for it elsewhere
        heard = Heard()
        watch.unread = unread = Unread(heard, heard.add(len(channels)), frame.boot, channels)
    place = np.array([unread.place])
    cells = unread.heard.cells(place, np.array([len(channels)]))
    unread.heard.take(place, np.array([frame.seq]), np.array([frame.ts]), cells, values, at)
