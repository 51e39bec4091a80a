"""The network thread of one MQTT bus: alone with paho, connects for ever, dies of nothing.

Theory. Nobody but this thread touches the session and its paho client; others hand it work by `give`, and it tells them by
the calls of `Listener`. Whatever is thrown in here ends the connection and is logged; the next connection begins with what
the broker still owes us. Reading waits where it pays: for a window when messages come fast, for the consumer when it lags.
What others give is carried out at every turn, before the read; who can wait for the next turn wakes nobody while one is near:
in a window, and where the acknowledgements of what was just read are awaited.
"""

import contextlib
import math
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from manway.runtime.mqtt_batches import BatchClient
from manway.runtime.mqtt_session import KEEPALIVE_S, Session
from manway.runtime.mqtt_setup import Listener, Setup, Tls

__all__ = ["NetworkThread", "Tls"]

# Wait between two attempts: doubles from the first to the second, with jitter, so that a site's clients do not come as one.
_RETRY_S, _JITTER = (1.0, 5.0), 0.25
# How long the next read waits for more, by how many messages came in the last _RECENT_S: 2,000 a second (`pipeline.md` §5), and
# 200 (choice), from where on it is the wakes that a message costs most. The short wait leaves most of the 5 ms that an alarm
# may take where messages are few.
_RECENT_S = 0.05
_WINDOWS: tuple[tuple[int, float], ...] = ((100, 0.005), (10, 0.002))
_POLLED_S = 0.0005  # poll() counts whole milliseconds: half of one is no reason to sleep again
# For so long after a read the thread sleeps lightly: by then what came is committed, and its acknowledgements go out together,
# mostly with the next read (choice: twice what a commit waits for company; brokers wait 2 s).
_ANSWERED_S = 0.02
# How often a thread that leaves the socket unread looks whether it may go on (choice).
_PAUSE_S = 0.02
_TURN_S = 1.0  # the longest sleep: keepalive is looked at this often
_GOODBYE_S = 0.5  # for the DISCONNECT and what stands before it


class NetworkThread:
    """Runs a session's connections, one after the other."""

    def __init__(self, setup: Setup, listener: Listener) -> None:
        self.session = Session(setup, listener)
        self._listener = listener
        self._orders: deque[Callable[[], object]] = deque()
        self._acknowledged: deque[tuple[int, list[int]]] = deque()  # connections and packet ids, not yet said
        self._woken = True  # nobody to wake before the start
        self._soon = False  # the thread sleeps for a window at most, or until acknowledgements are due
        self._closing = False
        self._reachable = True
        self._read_at = 0.0  # when the socket is read next
        self._answered_at = 0.0  # when acknowledgements are due
        self._recent, self._counted, self._counted_at = 0.0, 0, 0.0  # messages lately, at all, and when they were counted
        self._calm_until = 0.0

    # ---- for everybody

    def start(self) -> None:
        """Start the thread."""
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._woken = False
        threading.Thread(target=self._run, name=f"mqtt-{self.session.setup.client_id}", daemon=True).start()

    def close(self) -> None:
        """Have the thread carry out what it was given, say goodbye, so that no will is published, and end."""
        self._closing = True
        self._wake()

    def give(self, order: Callable[[], object], *, patient: bool = False) -> None:
        """Have the thread call this, after what it was given before; a patient order may wait for the next read."""
        self._orders.append(order)
        self._call(patient=patient)

    def acknowledge(self, connection: int, mids: list[int]) -> None:
        """Have the thread acknowledge what came over this connection, in the order of these calls, with its next write.

        No short sleep is broken off for it: the broker can wait, and many reads then have one write between them.
        """
        self._acknowledged.append((connection, mids))
        self._call(patient=True)

    def _call(self, *, patient: bool) -> None:
        if not self._woken and not (patient and self._soon):
            self._woken = True
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake; closed: it has ended
            self._wake_out.send(b"\0")

    # ---- the thread

    def _run(self) -> None:
        delay = _RETRY_S[0]
        while not self._closing:
            try:
                self._serve(self.session.connect())
            except OSError as error:
                if self._reachable:  # once an outage, not once an attempt
                    self.session.log.warning("mqtt_unreachable", reason=str(error))
                self._reachable = False
            except Exception:
                self.session.log.exception("mqtt_thread_failed")
            finally:
                self._soon = False
                self.session.lose()
            if self.session.welcome:
                self._reachable, delay = True, _RETRY_S[0]
            if not self.session.at_once:
                self._sleep(delay * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  no secret
                delay = min(2 * delay, _RETRY_S[1])
        self._wake_in.close()
        self._wake_out.close()
        self._listener.on_end()

    def _sleep(self, seconds: float) -> None:
        """Wait for the next attempt, taking orders meanwhile."""
        end = time.monotonic() + seconds
        poller = select.poll()
        poller.register(self._wake_in, select.POLLIN)
        while not self._closing and (left := end - time.monotonic()) > 0:
            if poller.poll(left * 1000):
                self._hear()
            self._obey()

    def _serve(self, client: BatchClient) -> None:
        """Move bytes both ways until the connection ends or we close."""
        poller, link, looked_at, asked = select.poll(), _number(client), 0.0, -1
        poller.register(self._wake_in, select.POLLIN)
        while client.socket() is not None:
            now = time.monotonic()
            paused = self._listener.full()
            waits = self._read_at > now + _POLLED_S and not paused
            awaits = self.session.owed > 0 and self._answered_at > now + _POLLED_S and not paused
            self._soon = waits or awaits
            wanted = (0 if paused or waits else select.POLLIN) | (select.POLLOUT if client.want_write() else 0)
            if wanted != asked:
                poller.register(link, wanted)
                asked = wanted
            until = self._read_at if waits else self._answered_at if awaits else None
            ready = dict(poller.poll(self._patience_ms(now, until, paused=paused, unread=client.unread and not waits)))
            if self._wake_in.fileno() in ready:
                self._hear()
            self._obey()
            if self._closing:
                self._part(client, link)
                return
            now = time.monotonic()
            over = waits and now + _POLLED_S >= self._read_at  # a read says sooner than a poll whether there is something
            if ready.get(link, 0) & ~select.POLLOUT or over or (client.unread and not paused and not waits):
                client.loop_read()
                self.session.tell()
                self.session.write()  # what waited for a PUBACK
                self._set_window(client, now)
            if client.want_write():
                client.loop_write()
            if now >= looked_at + _TURN_S:
                looked_at = now
                self._keep_alive(client, now, paused=paused)

    def _patience_ms(self, now: float, until: float | None, *, paused: bool, unread: bool) -> int:
        """Return how long to sleep; what was given since the last look is slept over `until` then at most."""
        if until is not None and not unread:
            return round((until - now) * 1000)
        if self._orders or self._acknowledged or (unread and not paused):
            return 0
        return int((_PAUSE_S if paused else _TURN_S) * 1000)

    def _set_window(self, client: BatchClient, now: float) -> None:
        """Read at once while messages are few; wait for more where many came lately, the longest ago counted least."""
        received = self.session.received
        if received > self._counted:
            self._answered_at = now + _ANSWERED_S
        self._recent = self._recent * math.exp((self._counted_at - now) / _RECENT_S) + received - self._counted
        self._counted, self._counted_at = received, now
        window_s = next((window_s for least, window_s in _WINDOWS if self._recent > least), 0.0)
        self._read_at = now + window_s if window_s and client.batching else 0.0

    def _keep_alive(self, client: BatchClient, now: float, *, paused: bool) -> None:
        """Ping when it is time; an answer counts only while we read, and a while after we began again."""
        if paused:
            client.ping()
            self._calm_until = now + KEEPALIVE_S
        elif now >= self._calm_until:
            client.loop_misc()

    def _part(self, client: BatchClient, link: int) -> None:
        """Write what is left and the DISCONNECT."""
        client.disconnect()
        end = time.monotonic() + _GOODBYE_S
        poller = select.poll()
        poller.register(link, select.POLLOUT)
        while client.socket() is not None and client.want_write() and (left := end - time.monotonic()) > 0:
            poller.poll(left * 1000)
            client.loop_write()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)
        self._woken = False  # before the orders: who gives one from here on wakes us again

    def _obey(self) -> None:
        while self._orders:
            self._orders.popleft()()
        while self._acknowledged:
            connection, first = self._acknowledged.popleft()
            mids = [*first]
            while self._acknowledged and self._acknowledged[0][0] == connection:
                mids += self._acknowledged.popleft()[1]
            self.session.acknowledge(connection, mids)
        self.session.write()


def _number(client: BatchClient) -> int:
    link = client.socket()
    return -1 if link is None else link.fileno()
