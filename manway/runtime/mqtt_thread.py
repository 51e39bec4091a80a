"""The network thread of one MQTT bus: alone with paho, connects for ever, dies of nothing.

Theory. Nobody but this thread touches the session and its paho client; others hand it work by `give`, and it tells them by
the calls of `Listener`. Whatever is thrown in here ends the connection and is logged; the next connection begins with what
the broker still owes us. Reading waits where it pays: for a window when messages come fast, for the consumer when it lags.
"""

import contextlib
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
# More than this many messages within a window, and the next read waits for a window: 2,000 messages/s (`pipeline.md` §5).
_WINDOW_S, _BUSY = 0.005, 10
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
        self._woken = True  # nobody to wake before the start
        self._closing = False
        self._reachable = True
        self._read_at = self._slot_at = 0.0  # when the socket is read next; when the messages below began to count
        self._slot_from = 0
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

    def give(self, order: Callable[[], object]) -> None:
        """Have the thread call this, after what it was given before."""
        self._orders.append(order)
        if not self._woken:
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
            poller.poll(left * 1000)
            self._obey()

    def _serve(self, client: BatchClient) -> None:
        """Move bytes both ways until the connection ends or we close."""
        poller, link, looked_at = select.poll(), _number(client), 0.0
        poller.register(self._wake_in, select.POLLIN)
        while client.socket() is not None:
            now = time.monotonic()
            paused = self._listener.full()
            due = not paused and now >= self._read_at
            poller.register(link, (select.POLLIN if due else 0) | (select.POLLOUT if client.want_write() else 0))
            ready = dict(poller.poll(self._patience_s(now, paused=paused, unread=due and client.unread) * 1000))
            if self._wake_in.fileno() in ready:
                self._obey()
                if self._closing:
                    self._part(client, link)
                    return
            if ready.get(link, 0) & ~select.POLLOUT or (due and client.unread):
                client.loop_read()
                self.session.tell()
                self._set_window(client, now)
            if client.want_write():
                client.loop_write()
            if now >= looked_at + _TURN_S:
                looked_at = now
                self._keep_alive(client, now, paused=paused)

    def _patience_s(self, now: float, *, paused: bool, unread: bool) -> float:
        if unread:
            return 0.0
        if paused:
            return _PAUSE_S
        return self._read_at - now if self._read_at > now else _TURN_S

    def _set_window(self, client: BatchClient, now: float) -> None:
        """Read at once while messages are few; wait for more when the last window brought many, if more come in one read."""
        count = self.session.received - self._slot_from
        self._read_at = now + _WINDOW_S if count > _BUSY and client.batching else 0.0
        if now >= self._slot_at + _WINDOW_S:
            self._slot_at, self._slot_from = now, self.session.received

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

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)
        self._woken = False  # before the orders: who gives one from here on wakes us again
        while self._orders:
            self._orders.popleft()()


def _number(client: BatchClient) -> int:
    link = client.socket()
    return -1 if link is None else link.fileno()
