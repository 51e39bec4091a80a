"""Which device an adapter connects to next, who gives up a connection for it, and how long a device that failed is left alone.

An adapter holds a few connections (slots) and makes one at a time (`locks.md` §8). Locks are connected only to act and leave by
themselves within seconds; instruments stay. One slot is never given to an instrument: it is where locks are opened.
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

TURN_S = 20.0  # `locks.md` §8: a session; so long an instrument that nobody works with keeps a slot that another one wants
# (choice) a connect takes 0.3 to 4 s; one that takes longer while an opening waits may be wanting for room, not for its device
_EMERGENCY_PATIENCE_S, _PATIENCE_S = 3.0, 5.0
_BACK_OFF_FIRST_S, _BACK_OFF_MOST_S = 1.0, 60.0  # `locks.md` §8
_DOUBLINGS = 6  # 64 s, which is cut to 60


class Urgency(IntEnum):
    """Why a device is wanted; the lowest is served first (`locks.md` §8)."""

    RESCUE = 0  # asked for at the gateway's own page: nobody else can help
    EMERGENCY = 1
    UNLOCK = 2
    OCCUPIED = 3
    LOG = 4
    POLL = 5


class Want(msgspec.Struct, frozen=True):
    """A device to connect to. `stays` = an instrument, which keeps its link; `served_at` is when it was connected last."""

    device: str
    urgency: Urgency
    served_at: float = 0.0
    stays: bool = False


class Held(msgspec.Struct, frozen=True):
    """A connection there is, `since` when (seconds); `lingers`: a lock that has done what it was connected for."""

    device: str
    urgency: Urgency
    since: float
    stays: bool = False
    lingers: bool = False


class Connect(NamedTuple):
    """Connect to this device, which is wanted so urgently."""

    device: str
    urgency: Urgency


class Evict(NamedTuple):
    """End this device's link: one that is wanted so urgently waits for its slot."""

    device: str
    urgency: Urgency


def next_move(
    wants: Iterable[Want], held: Sequence[Held], now: float, *, slots: int, room: int | None = None
) -> Connect | Evict | None:
    """Return what to do next, None where nothing can be done before something changes; `now` in seconds.

    `room`: the adapter has shown that it has fewer than its `slots`. What is kept for locks is still counted from the slots: of
    less room nothing is kept, so that an instrument that made way for a lock is watched again as soon as the lock has left.
    """
    have = {link.device for link in held}
    waiting = (want for want in wants if want.device not in have)
    for want in sorted(waiting, key=lambda want: (want.urgency, want.served_at)):
        if _fits(want, held, slots, slots if room is None else room):
            return Connect(want.device, want.urgency)
        victim = who_makes_way(want, held, now)
        if victim is not None:
            return Evict(victim.device, want.urgency)
    return None


def _fits(want: Want, held: Sequence[Held], slots: int, room: int) -> bool:
    if len(held) >= room:
        return False
    return not want.stays or sum(link.stays for link in held) < max(1, slots - 1)


def who_makes_way(want: Want, held: Sequence[Held], now: float) -> Held | None:
    """Return the link that goes first: the least urgent, of these the one that has stood longest; None where none yields."""
    lock_leaves_soon = any(not link.stays for link in held)
    yielding = [link for link in held if _yields(link, want, now, lock_leaves_soon=lock_leaves_soon)]
    return max(yielding, key=lambda link: (link.urgency, -link.since), default=None)


def _yields(link: Held, want: Want, now: float, *, lock_leaves_soon: bool) -> bool:
    """Say whether a link makes way: nobody's air goes unwatched for anything that only has to wait a moment."""
    if not link.stays:
        # An unlock may wait a minute for a grant that nobody signs; who is in danger does not wait for it.
        ends = link.lingers or (want.urgency <= Urgency.EMERGENCY and want.urgency < link.urgency)
        return ends and want.urgency <= Urgency.UNLOCK
    if link.urgency is Urgency.OCCUPIED:
        return want.urgency <= Urgency.EMERGENCY or (want.urgency is Urgency.UNLOCK and not lock_leaves_soon)
    if want.urgency < link.urgency:
        return True
    return want.stays and now - link.since >= TURN_S


def patience_s(urgency: Urgency) -> float:
    """Return how many seconds a connect may take before another link is ended for it."""
    return _EMERGENCY_PATIENCE_S if urgency <= Urgency.EMERGENCY else _PATIENCE_S


def back_off_s(failures: int, roll: float) -> float:
    """Return how many seconds a device is left alone after so many failures in a row; `roll` (0 to 1) is the jitter."""
    longest = min(_BACK_OFF_MOST_S, _BACK_OFF_FIRST_S * 2.0 ** min(failures - 1, _DOUBLINGS))
    return longest * (0.5 + 0.5 * roll)
