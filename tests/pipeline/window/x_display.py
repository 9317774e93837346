"""What the tests of the window share: an X server without a screen (Xvfb), its keys, its pixels, its windows.

Keys are pressed by XTEST and pixels read by GetImage, through python-xlib, so that a test sees what a user would. Every
wait is bounded; it holds no test.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from Xlib import XK, X, display, error
from Xlib.ext import xtest
from Xlib.protocol.event import ClientMessage

from endostream.pipeline.frame import ImageBgr

PATIENCE_S = 60.0
TITLE = b"endostream"


class XDisplay:
    """An X server on a number it chooses itself; ``name`` is what DISPLAY is to be set to."""

    def __init__(self, size: str = "640x480", number: str = "") -> None:
        if shutil.which("Xvfb") is None:
            pytest.skip("no Xvfb here. Try: apt-get install xvfb")
        read_fd, write_fd = os.pipe()
        command = ["Xvfb", *([number] if number else []), "-displayfd", str(write_fd), "-nolisten", "tcp"]
        self.process = subprocess.Popen(
            [*command, "-screen", "0", f"{size}x24"], pass_fds=(write_fd,), stderr=subprocess.DEVNULL
        )
        os.close(write_fd)
        with os.fdopen(read_fd) as answer:
            self.name = f":{answer.readline().strip()}"
        self._client: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the server, whatever is connected to it."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(timeout=20)
        self._client = None

    @property
    def client(self) -> Any:
        """A connection of the test's own."""
        if self._client is None:
            self._client = display.Display(self.name)
        return self._client

    def screen(self) -> ImageBgr:
        """What is on the screen."""
        root = self.client.screen().root
        size = root.get_geometry()
        data = root.get_image(0, 0, size.width, size.height, X.ZPixmap, 0xFFFFFFFF).data
        pixels = np.frombuffer(data, np.uint8).reshape(size.height, size.width, 4)
        return np.ascontiguousarray(pixels[..., :3])

    def press(self, key: str) -> None:
        """Press and let go of a key by the name X has for it, shift held where it takes that."""
        choices = list(self.client.keysym_to_keycodes(XK.string_to_keysym(key)))
        code, shifted = min(choices, key=lambda choice: int(choice[1]))
        shift = [self.client.keysym_to_keycode(XK.XK_Shift_L)] if shifted % 2 else []
        for pressed in (*shift, code):
            xtest.fake_input(self.client, X.KeyPress, pressed)
        for pressed in (code, *shift):
            xtest.fake_input(self.client, X.KeyRelease, pressed)
        self.client.sync()

    def window(self) -> Any:
        """Our window, None if there is none to be seen."""
        name = self.client.intern_atom("_NET_WM_NAME")
        for child in self.client.screen().root.query_tree().children:
            with contextlib.suppress(error.BadWindow):  # it may be gone by now
                title = child.get_full_property(name, X.AnyPropertyType)
                if title is not None and title.value == TITLE and _is_seen(child):
                    return child
        return None

    def close_window(self) -> None:
        """What a window manager does when the close button is pressed."""
        protocols, delete = (self.client.intern_atom(f"WM_{name}") for name in ("PROTOCOLS", "DELETE_WINDOW"))
        event = ClientMessage(
            window=self.window(), client_type=protocols, data=(32, [delete, X.CurrentTime, 0, 0, 0])
        )
        self.window().send_event(event)
        self.client.sync()

    def resize_window(self, width: int, height: int) -> None:
        """What a window manager does when the user drags an edge."""
        self.window().configure(x=0, y=0, width=width, height=height)
        self.client.sync()

    def wait_for(self, seen: Callable[[ImageBgr], bool], what: str) -> ImageBgr:
        """The screen as soon as ``seen`` is true of it; fails after a minute."""
        return wait_until(lambda: (picture := self.screen()) is not None and seen(picture) and picture, what)


def _is_seen(window: Any) -> bool:
    return bool(window.get_attributes().map_state == X.IsViewable)


def wait_until(met: Callable[[], Any], what: str) -> Any:
    """What ``met`` returns as soon as that is true; fails after a minute."""
    deadline_s = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while time.monotonic() < deadline_s:
        value = met()
        if value is not False and value is not None:
            return value
        pause.wait(0.02)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")
