"""When each site's picture goes out: soon where something happened, evenly spread, and never many at once.

A picture costs some half a millisecond in which nothing is judged. All pictures of a city in a row made every alarm of that
time wait behind them; so those that are due share the time until the next look.
"""

import asyncio
import math
from collections.abc import Callable, Collection
from operator import itemgetter

import structlog

from gateway.host import SiteHost
from manway.codec_mqtt import pack_state
from manway.runtime.ports import Bus
from manway.topics import root

_log = structlog.get_logger("gateway")
_LOOK_S = 0.5
# (choice) A page shows within a second what happened, or how people inside breathe; clean air of empty spaces may wait.
_STIRRED_S, _STILL_S = 1.0, 5.0
_STATE_EVERY_S = 60.0
# (choice) a look, of sites without people: 50 a second cost 3 % of a core. Where more sites are stirred than that, their events
# tell the pages at once as ever, and their pictures take turns: those of a city of 250 sites come every five seconds.
_MOST = 25


class Pictures:
    """Sends the pictures of all sites of a gateway; `now` tells the time of its engines, Unix seconds."""

    def __init__(self, hosts: Collection[SiteHost], bus: Bus, now: Callable[[], float], *, gateway: str) -> None:
        self._hosts, self._bus, self._now, self._gateway = hosts, bus, now, gateway
        self._shown = dict[str, float]()  # when each site's went out

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            due = self._due() if self._bus.connected else []
            for host in due:
                await self._send(host)
                await asyncio.sleep(_LOOK_S / len(due))
            if not due:
                await asyncio.sleep(_LOOK_S)

    async def catch_up(self) -> None:
        """Send every picture that is not of this second: after an outage, before what happened meanwhile."""
        for host in self._hosts:
            if self._age_s(host) >= _STIRRED_S:
                await self._send(host)
                await asyncio.sleep(0)  # else an alarm would wait for all of them

    def _due(self) -> list[SiteHost]:
        """Return the sites whose pictures are due, those with people first, then those most overdue.

        By age alone an alarm of an empty space would wait behind the clean air of all others.
        """
        watched, others = list[SiteHost](), list[tuple[float, SiteHost]]()
        for host in self._hosts:
            people = host.watched
            overdue = self._age_s(host) / _every_s(host, people=people)
            if overdue >= 1.0 and people:
                watched.append(host)
            elif overdue >= 1.0:
                others.append((overdue, host))
        others.sort(key=itemgetter(0), reverse=True)
        return watched + [host for _, host in others[:_MOST]]

    def _age_s(self, host: SiteHost) -> float:
        return self._now() - self._shown.get(host.site, -math.inf)

    async def _send(self, host: SiteHost) -> None:
        host.changed = host.stirred = False
        self._shown[host.site] = self._now()
        try:
            await self._bus.publish(f"{root(host.site)}gw/state", pack_state(host.picture(self._gateway)), retain=True)
        except ValueError as error:  # larger than a message may be: no page is worth a gateway
            _log.error("picture not sent; divide the site", site=host.site, reason=str(error))


def _every_s(host: SiteHost, *, people: bool) -> float:
    if host.stirred or (host.changed and people):
        return _STIRRED_S
    return _STILL_S if host.changed else _STATE_EVERY_S
