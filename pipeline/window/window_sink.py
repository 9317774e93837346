"""The sink ``window``: shows presented pictures on the screen, in a window that a process of its own holds.

A presenting sink: ``write`` returns when the window system has taken the picture, which is not yet light on a screen.
The window's process is separate because a display can hang or go away, and ends or stops whoever holds it: the video
then goes on unshown for the other sinks, and the window comes back with the display. It draws nothing, and decides
nothing: what the user asks for is told by ``take_requests``.
"""

import json
import os
import select
import subprocess
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from ..clock import MonotonicClock
from ..control import ControlChannel, PeerGone
from ..frame import Presented, SizeHW
from ..ring import FrameRing
from ..sink import SinkContext, SinkSpec
from .window_check import check_environment, no_display, try_window
from .window_picture import WindowView
from .window_process import FINISHED_SLOT, RAW_SLOT, pictures_shape

_OPEN_TIMEOUT_NS = 15_000_000_000
_HUNG_NS = 2_000_000_000
_PATIENCE_NS = 40_000_000
"""What the video waits for a picture to be drawn; a window that takes longer misses pictures and holds up nothing."""
_FIRST_RESTART_NS = 200_000_000
_LONGEST_RESTART_NS = 5_000_000_000
_LOOK_NS = 50_000_000
_CLOSE_TIMEOUT_S = 1.0


class WindowRequest(NamedTuple):
    """What the user asks for (``quit``, ``snapshot``, ``record`` or ``view``), by which key, and for a log in words."""

    what: str
    key: str
    words: str


class WindowSink:
    """Shows pictures in one window; loses and wins back the display by itself.

    Attributes:
        shown: whether the last picture was drawn.
        missed: pictures that were not, since the window was first there.
        patience_ns: how long ``write`` waits for a picture to be drawn.
    """

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self._spec = spec
        self._clock = MonotonicClock()
        self._ours, self._theirs = ControlChannel.pair()
        self._view = WindowView(full_screen=bool(context.options.get("full_screen")))
        self._process: subprocess.Popen[bytes] | None = None
        self._open = False
        self._started_ns = self._restart_at_ns = self._looked_ns = self._lost_ns = 0
        self._backoff_ns = _FIRST_RESTART_NS
        self._ring: FrameRing | None = None
        self._handed: SizeHW | None = None
        self._fitted: SizeHW | None = None
        self._number = self._awaited = self._awaited_ns = 0
        self._failure = self._lost_because = ""
        self._recording: dict[str, Any] | None = None
        self._requests: list[WindowRequest] = []
        self._notes: list[tuple[str, str]] = []
        self.shown = False
        self.missed = 0
        self.patience_ns = _PATIENCE_NS
        check_environment(spec)
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise SinkError where no window can be opened."""
        try_window(spec)

    # What is shown

    def fileno(self) -> int:
        """For polling: something is to be read by ``service``."""
        return self._ours.fileno()

    def wait_until_open(self) -> None:
        """Return when the window is there; raises SinkError if it does not come."""
        while not self._open:
            self._wait(self._clock.now_ns() + _LOOK_NS)
            self.service()
            if self._lost_ns:
                raise no_display(self._spec, self.lost_because)

    def expect(self, size_hw: SizeHW) -> None:
        """Make ready for pictures of ``size_hw``, so that the first one does not pay for its memory."""
        if self._ring is None or self._ring.shape.size_hw != size_hw:
            if self._ring is not None:
                self._ring.close()
            self._ring = FrameRing.create(pictures_shape(size_hw))
            self._handed = None
        if self._open and self._handed != size_hw:
            self._send({"t": "pictures", "size_hw": list(size_hw)}, (self._ring.block.fd,))
            self._handed = size_hw

    def fits(self, size_hw: SizeHW) -> bool:
        """Whether the window has drawn once at the size for such pictures, or is lost, and not to be waited for."""
        return bool(self._lost_ns) or self._fitted == size_hw

    def write(self, presented: Presented) -> None:
        """Show the picture if the window is ready for one, and wait for it as long as ``patience_ns``.

        While it is still busy with an earlier one this one is missed, at once: a display that hangs costs one wait.
        """
        self.shown = False
        self.service()
        if not self._open or self._awaited:
            self.missed += 1
            return
        image = presented.frame.image_bgr
        self.expect((image.shape[0], image.shape[1]))
        if self._hand_over(presented):
            self._wait_for_picture()
        self.shown = not self._awaited and self._open
        self.missed += not self.shown

    def _hand_over(self, presented: Presented) -> bool:
        """Copy the picture to where the window's process finds it, the captured one too if that is looked at."""
        assert self._ring is not None
        np.copyto(self._ring.view(FINISHED_SLOT), presented.frame.image_bgr)
        raw = False
        if self._view.needs_raw and presented.copy_raw is not None:
            raw = presented.copy_raw(self._ring.view(RAW_SLOT))
        self._number += 1
        self._awaited, self._awaited_ns = self._number, self._clock.now_ns()
        hud, cause = presented.hud, presented.annotation.cause
        message = {
            "t": "show",
            "n": self._number,
            "raw": raw,
            "hud": None if hud is None else list(hud),
            "card": presented.synthetic,
            "alarm": f"AI OFF - {cause}" if cause and hud is None else "",
        }
        return self._send(message)

    def _wait_for_picture(self) -> None:
        deadline_ns = self._clock.now_ns() + self.patience_ns
        while self._awaited and self._open and self._clock.now_ns() < deadline_ns:
            self._wait(deadline_ns)
            self.service()

    def _wait(self, deadline_ns: int) -> None:
        left_s = max(0.0, (deadline_ns - self._clock.now_ns()) / 1e9)
        select.select([self._ours.fileno()], [], [], min(left_s, 0.05))

    # What is said

    def tell_recording(self, on: bool, reason: str) -> None:
        """Show whether the session is being recorded, and why it is not although it was asked for."""
        self._recording = {"t": "recording", "on": on, "reason": reason}
        self._send(self._recording)

    def say(self, text: str) -> None:
        """Show a few words for a moment."""
        self._send({"t": "say", "text": text})

    def take_requests(self) -> list[WindowRequest]:
        """What the user asked for since the last call."""
        taken, self._requests = self._requests, []
        return taken

    def take_notes(self) -> list[tuple[str, str]]:
        """Level and text of what is to be logged since the last call."""
        taken, self._notes = self._notes, []
        return taken

    # The window's process

    def service(self) -> None:
        """Read what the window's process says, and see that there is one."""
        try:
            while (received := self._ours.receive()) is not None:
                self._take(received[0])
        except PeerGone:
            return
        now_ns = self._clock.now_ns()
        if now_ns - self._looked_ns >= _LOOK_NS:
            self._looked_ns = now_ns
            self._watch(now_ns)

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.pop("t")
        if kind == "shown":
            self._awaited = 0 if message["n"] == self._awaited else self._awaited
        elif kind == "request":
            self._requests.append(WindowRequest(message["what"], message["key"], message["what"]))
        elif kind == "view":
            key, before = message.pop("key"), self._view
            self._view = WindowView(**message)
            self._requests.append(WindowRequest("view", key, _difference(before, self._view)))
        elif kind == "fitted":
            self._fitted = (message["size_hw"][0], message["size_hw"][1])
        elif kind == "open":
            self._on_open()
        elif kind == "failed":
            self._failure = message["message"]

    def _on_open(self) -> None:
        self._open, self._backoff_ns = True, _FIRST_RESTART_NS
        if self._lost_ns:
            away_s = (self._clock.now_ns() - self._lost_ns) / 1e9
            self._notes.append(("info", f"window: is back after {away_s:.1f} s"))
            self._lost_ns = 0
        if self._ring is not None:
            self.expect(self._ring.shape.size_hw)
        if self._recording is not None:
            self._send(self._recording)

    def _watch(self, now_ns: int) -> None:
        if self._process is None:
            if now_ns >= self._restart_at_ns:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._lose(self._failure or f"its process ended with code {code}: the display is gone", now_ns)
        elif self._awaited and now_ns - self._awaited_ns > _HUNG_NS:
            self._lose(f"the display has not answered for {_HUNG_NS / 1e9:g} s", now_ns)
        elif not self._open and now_ns - self._started_ns > _OPEN_TIMEOUT_NS:
            self._lose(f"no window within {_OPEN_TIMEOUT_NS / 1e9:g} s", now_ns)

    def _start(self) -> None:
        while self._stale():
            pass
        fd = self._theirs.fileno()
        view = json.dumps(asdict(self._view))
        command = [sys.executable, "-P", "-m", "endostream.pipeline.window.window_process", str(fd), view]
        self._failure, self._awaited, self._handed, self._fitted = "", 0, None, None
        self._started_ns = self._clock.now_ns()
        try:
            # Display libraries complain on stderr at each attempt; what matters comes as a message.
            self._process = subprocess.Popen(
                command, pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._lose(str(error), self._started_ns)

    def _stale(self) -> bool:
        """Take one message out of the channel that was meant for the last process; whether there was one."""
        received = self._theirs.receive()
        for fd in received[1] if received else []:
            os.close(fd)
        return received is not None

    def _lose(self, reason: str, now_ns: int) -> None:
        """The window is gone: the run goes on, and it is tried again until it is back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._open, self._awaited = None, False, 0
        self._restart_at_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, _LONGEST_RESTART_NS)
        self._failure = self._lost_because = reason
        if not self._lost_ns:
            self._lost_ns = now_ns
            said = f"window: {reason}; the run goes on unseen, and the window comes back with the display"
            self._notes.append(("error", said))

    @property
    def lost_because(self) -> str:
        """Why the window is not there, "" while it is."""
        return self._lost_because if self._lost_ns else ""

    def _send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> bool:
        if not self._open:
            return False
        try:
            self._ours.send(message, fds)
        except PeerGone as error:
            self._lose(str(error), self._clock.now_ns())
            return False
        return True

    def close(self) -> None:
        """Take the window off the screen; may be called twice."""
        told = self._send({"t": "stop"})
        self._open = False
        if self._process is not None:
            try:
                self._process.wait(_CLOSE_TIMEOUT_S if told else 0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        for end in (self._ours, self._theirs):
            end.close()


def _difference(before: WindowView, after: WindowView) -> str:
    """What changed, e.g. ``marks off``."""
    return ", ".join(
        f"{name.replace('_', ' ')} {'on' if now else 'off'}"
        for name, now in asdict(after).items()
        if now != getattr(before, name)
    )
