"""What frames are made of, said once for all frames of a device in a space, and as arrays for frames in their thousands."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]


class Layout(NamedTuple):
    """What the frames of one device in one space are made of, by channel number; `frame` is that of their sequence numbers.

    All layouts of one device in one space have the same `frame`, and no other has any of its numbers.
    """

    frame: int
    channels: tuple[int, ...]


class Layouts:
    """All layouts, numbered as they were added.

    `frame` and `width` (number of channels) are by the number of a layout. `home` and `own` are by channel number: the number
    of the frames that a channel belongs to, and how many numbers belong to one of frames, its own included.
    """

    def __init__(self) -> None:
        self.frame: Numbers = np.empty(0, np.uint32)
        self.width: Integers = np.empty(0, np.int64)
        self.home: Numbers = np.empty(0, np.uint32)
        self.own: Integers = np.empty(0, np.int64)
        self._channels: Numbers = np.empty(0, np.uint32)  # of all layouts behind each other
        self._first: Integers = np.empty(0, np.int64)  # where those of each begin

    def __len__(self) -> int:
        return len(self.frame)

    def add(self, layouts: Sequence[Layout]) -> None:
        """Add layouts, behind those that are here."""
        frame = np.array([layout.frame for layout in layouts], np.uint32)
        width = np.array([len(layout.channels) for layout in layouts], np.int64)
        channels = np.array([ch for layout in layouts for ch in layout.channels], np.uint32)
        home = np.zeros(max(len(self.home), *(frame + 1), *(channels + 1)), np.uint32)
        home[: len(self.home)] = self.home
        home[frame], home[channels] = frame, np.repeat(frame, width)
        self._first = np.concatenate([self._first, len(self._channels) + np.cumsum(width) - width])
        self._channels = np.concatenate([self._channels, channels])
        self.frame, self.width = np.concatenate([self.frame, frame]), np.concatenate([self.width, width])
        self.home, self.own = home, np.bincount(home, minlength=len(home))

    def channels_of(self, layout: Numbers) -> tuple[Numbers, Integers]:
        """Return the channels of frames, given by their layouts, behind each other, and how many each frame has."""
        width = self.width[layout]
        place = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width - self._first[layout], width)
        return self._channels[place], width
