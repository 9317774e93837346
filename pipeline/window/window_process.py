"""The process that owns the window: shows what the display process hands it, and tells it what was pressed.

A process of its own, since a display can hang or go away, and Xlib then ends whoever holds the connection: the run
goes on without it and starts another (``window_sink.py``). Pictures come in shared memory, one at a time; words and
keys travel over the control channel. It decides nothing about the run: a key becomes a request.

    from the display process                     to it
    pictures {size_hw} + descriptor              open {driver} | failed {message}
    show {n, raw, hud, card, alarm}              shown {n}
    recording {on, reason}   say {text}          view {marks, side_by_side, full_screen, help}, with {key}
    stop                                         request {what: quit | snapshot | record}, with {key}
"""

import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import cv2

from ..control import ControlChannel, PeerGone
from ..frame import Box, ImageBgr, SizeHW
from ..ring import Block, FrameRing, RingShape
from .sdl_screen import ScreenError, SdlScreen, end_with_parent
from .window_picture import (
    MARKS_OFF,
    RECORDING,
    Chip,
    WindowContent,
    WindowPicture,
    WindowView,
    recording_failed,
)

FINISHED_SLOT, RAW_SLOT, SLOTS = 0, 1, 2
_TICK_S = 0.02
_SAID_S = 2.5
_REASON_S = 15.0
_IDLE_S = 0.3
"""After so long without a picture the window is drawn again by itself when a key or its size asks for it."""
_QUIT_KEYS = ("q", "escape")
_REQUESTS = {"s": "snapshot", "r": "record"}


def pictures_shape(size_hw: SizeHW) -> RingShape:
    """How the finished and the captured picture lie in their block."""
    return RingShape(0, size_hw, SLOTS)


class WindowLoop:
    """Shows pictures until it is told to stop or nobody is there any more."""

    def __init__(self, control: ControlChannel, screen: SdlScreen, view: WindowView) -> None:
        self._control = control
        self._screen = screen
        self._view = view
        self._picture = WindowPicture()
        self._ring: FrameRing | None = None
        self._shown: dict[str, Any] | None = None
        self._recording: dict[str, Any] = {"on": False, "reason": ""}
        self._reason_until_s = self._said_until_s = self._drawn_s = 0.0
        self._said = ""
        self._dirty = True
        self._over = False

    def run(self) -> None:
        """Serve pictures first, then keys."""
        with contextlib.suppress(PeerGone):
            while not self._over:
                select.select([self._control.fileno()], [], [], _TICK_S)
                while not self._over and (received := self._control.receive()) is not None:
                    self._take(*received)
                for event in self._screen.events():
                    self._on_event(event)
                self._draw_when_idle()
        self._screen.close()

    # From the display process

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        kind = message["t"]
        if kind == "show":
            self._shown = message
            self._draw()
            self._control.send({"t": "shown", "n": message["n"]})
        elif kind == "pictures":
            self._fit(message, fds[0])
        elif kind == "recording":
            self._recording = message
            self._reason_until_s = time.monotonic() + _REASON_S
            self._dirty = True
        elif kind == "say":
            self._say(message["text"])
        elif kind == "stop":
            self._over = True

    def _fit(self, message: dict[str, Any], fd: int) -> None:
        """Pictures of a new size; the first size decides the window's."""
        shape = pictures_shape((message["size_hw"][0], message["size_hw"][1]))
        if self._ring is None:
            self._screen.fit(shape.size_hw)
        else:
            self._ring.close()
        self._ring, self._shown = FrameRing(Block(fd, shape.total_bytes), shape), None
        self._draw()  # a window of another size pays for its memory now
        self._control.send({"t": "fitted", "size_hw": list(shape.size_hw)})

    # Drawing

    def _draw(self) -> None:
        with self._screen.pixels() as screen:
            self._picture.draw(screen, self._content(), self._view)
        self._screen.flip()
        self._drawn_s, self._dirty = time.monotonic(), False

    def _draw_when_idle(self) -> None:
        now_s = time.monotonic()
        if self._said and now_s >= self._said_until_s:
            self._said, self._dirty = "", True
        if self._dirty and now_s - self._drawn_s > _IDLE_S:
            self._draw()

    def _content(self) -> WindowContent:
        shown, ring = self._shown, self._ring
        if shown is None or ring is None:
            return WindowContent(chips=self._chips(""))
        hud = None if shown["hud"] is None else Box(*shown["hud"])
        raw: ImageBgr | None = ring.view(RAW_SLOT) if shown["raw"] else None
        return WindowContent(ring.view(FINISHED_SLOT), raw, hud, self._chips(shown["alarm"]))

    def _chips(self, alarm: str) -> tuple[Chip, ...]:
        now_s = time.monotonic()
        chips = [RECORDING] if self._recording["on"] else []
        if not self._recording["on"] and self._recording["reason"] and now_s < self._reason_until_s:
            chips.append(recording_failed(self._recording["reason"]))
        # A picture that came just before its key still shows them.
        shown = self._shown
        if not self._view.marks and (shown is None or shown["card"] or shown["raw"]):
            chips.append(MARKS_OFF)
        chips += [Chip(alarm, (40, 30, 190))] if alarm else []
        chips += [Chip(self._said)] if self._said and now_s < self._said_until_s else []
        return tuple(chips)

    def _say(self, text: str) -> None:
        self._said, self._said_until_s, self._dirty = text, time.monotonic() + _SAID_S, True

    # From the user

    def _on_event(self, event: str) -> None:
        what, _, key = event.partition(":")
        self._dirty = True
        if what == "closed":
            self._control.send({"t": "request", "what": "quit", "key": "close button"})
        elif what == "changed":
            self._picture.forget()
        elif key in _QUIT_KEYS:
            self._say("ending the run")
            self._control.send({"t": "request", "what": "quit", "key": key})
        elif key in _REQUESTS:
            self._control.send({"t": "request", "what": _REQUESTS[key], "key": key})
        else:
            self._change_view(key)

    def _change_view(self, key: str) -> None:
        view = self._view
        if key == "f":
            view = replace(view, full_screen=not view.full_screen)
            self._screen.set_full_screen(view.full_screen)
            self._say("full screen" if view.full_screen else "window")
        elif key == "o":
            view = replace(view, marks=not view.marks)
            self._say("marks on" if view.marks else "marks off")
        elif key == "b":
            view = replace(view, side_by_side=not view.side_by_side)
            self._say("side by side" if view.side_by_side else "one picture")
        elif key in ("h", "?"):
            view = replace(view, help=not view.help)
        else:
            if key.isprintable():
                self._say(f"{key}: no such key; h for help")
            return
        self._view = view
        self._control.send({"t": "view", "key": key, **asdict(view)})


def _leave_realtime_class() -> int:
    """What takes long at the start must not keep the video from its core; returns the class to go back to."""
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0
    if policy:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return policy


def main() -> None:
    """Entry point of the process: a descriptor of the control channel and the view, as JSON."""
    fd, view = int(sys.argv[1]), WindowView(**json.loads(sys.argv[2]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    policy = _leave_realtime_class()
    cv2.setNumThreads(1)
    control = ControlChannel.from_fd(fd)
    try:
        screen = SdlScreen(view.full_screen)
    except (ScreenError, ImportError) as error:
        control.send({"t": "failed", "message": str(error)})
        sys.exit(1)
    control.send({"t": "open", "driver": screen.driver})
    if policy:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, os.sched_param(1))
    try:
        WindowLoop(control, screen, view).run()
    except Exception as error:
        control.send({"t": "failed", "message": f"{type(error).__name__}: {error}"})
        sys.exit(1)


if __name__ == "__main__":
    main()
