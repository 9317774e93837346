"""Tells systemd how the run goes: READY, STATUS, WATCHDOG and STOPPING, as sd_notify(3) defines them.

Separate from the supervisor, which knows no service manager, and without libsystemd: it is one datagram to the socket
that NOTIFY_SOCKET names. **The watchdog is fed only while something new is shown**: a frame of the source, or the
"no signal" picture that stands for it. A supervisor that is well while the picture stands still is not what
a watchdog is for. READY is said once the first of either was shown. Run by hand, without NOTIFY_SOCKET, there is none.
"""

import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Self

from ..clock import Clock, MonotonicClock
from ..frame import MaskState
from ..supervisor import Supervisor

_STATUS_EVERY_NS = 2_000_000_000
_FEEDS_A_TIMEOUT = 4
"""So many a watchdog's time-out; systemd recommends two at least."""


class Notifier:
    """Sends states to the service manager.

    Args:
        address: path of its socket, or ``@name`` for an abstract one.
        watchdog_ns: its time-out, 0 where there is none.
    """

    def __init__(self, address: str, watchdog_ns: int = 0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_ns = watchdog_ns
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> Self | None:
        """What the service manager asked for, None without one; its variables are taken out, since they are not for the
        processes we start."""
        given = os.environ if environment is None else environment
        address, watchdog_ns = given.pop("NOTIFY_SOCKET", ""), _watchdog_ns(given)
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
            given.pop(name, None)
        return cls(address, watchdog_ns) if address.startswith(("/", "@")) else None

    def send(self, **states: str) -> None:
        """Send states such as ``READY="1"``; a manager that does not listen is no reason to stop."""
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in states.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(errors="replace"), self._address)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _watchdog_ns(environment: Mapping[str, str]) -> int:
    """The watchdog's time-out, 0 if there is none or it is meant for another process."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return 0
    return int(usec) * 1000


class RunNotices:
    """Says what there is to say of a run; called as often as you like, by the supervisor's loop.

    Args:
        notifier: where to.
        clock: when feeding is due.
    """

    def __init__(self, notifier: Notifier, clock: Clock | None = None) -> None:
        self._notifier = notifier
        self._clock = clock or MonotonicClock()
        self._ready = self._stopping = False
        self._shown, self._presented = (0, 0), 0
        self._fed_ns = self._clock.now_ns() - notifier.watchdog_ns
        self._told_ns = self._clock.now_ns() - _STATUS_EVERY_NS

    def __call__(self, supervisor: Supervisor) -> None:
        """Look at the board and send what is due."""
        now_ns = self._clock.now_ns()
        if supervisor.status != "running":
            self._stop()
            return
        self._feed(supervisor, now_ns)
        if now_ns - self._told_ns >= _STATUS_EVERY_NS:
            self._notifier.send(STATUS=self._status(supervisor, now_ns))
            self._told_ns = now_ns

    def _feed(self, supervisor: Supervisor, now_ns: int) -> None:
        board = supervisor.board
        # What a window did not draw since its display is away or hangs was not shown.
        shown = (board.value("overlay.last_shown_ns"), board.value("overlay.synthetic"))
        if shown == self._shown:
            return
        self._shown = shown
        if not self._ready:
            self._ready = True
            self._notifier.send(READY="1")
        every_ns = self._notifier.watchdog_ns // _FEEDS_A_TIMEOUT
        if every_ns and now_ns - self._fed_ns >= every_ns:
            self._notifier.send(WATCHDOG="1")
            self._fed_ns = now_ns

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._notifier.send(STOPPING="1", STATUS="finishing the recordings")

    def _status(self, supervisor: Supervisor, now_ns: int) -> str:
        board = supervisor.board
        presented = board.value("overlay.presented")
        if not presented:
            return "waiting for the first picture"
        silent_s = (now_ns - board.value("overlay.last_present_ns")) / 1e9
        if silent_s > 1:
            return f"no signal for {silent_s:.0f} s"
        unseen_s = (now_ns - board.value("overlay.last_shown_ns")) / 1e9
        if unseen_s > 1:
            return f"the window has drawn nothing for {unseen_s:.0f} s"
        seconds = max(now_ns - self._told_ns, 1) / 1e9
        fps, self._presented = (presented - self._presented) / seconds, presented
        state = MaskState(board.value("overlay.mask_state")).label
        restarts = sum(board.value(f"{stage}.restarts") for stage in supervisor.stages)
        return f"{fps:.1f} frames/s, {presented} so far, AI {state}, {restarts} restarts"
