"""The sink ``window``: shows presented pictures on the screen through OpenCV's highgui.

A presenting sink: ``write`` returns when the toolkit's draw call has returned, which is not yet light on a
screen. Qt ends the whole process where it finds no display, so that is found out beforehand, in another
process. It draws nothing of its own and decides nothing: ``wants_stop`` says that the user asked for the
end.
"""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

import cv2

from endostream.configs.errors import SinkError

from .frame import Presented
from .sink import SinkContext, SinkSpec

TITLE = "endostream"
_STOP_KEYS = (ord("q"), ord("Q"), 27)
_PROBE = f"import cv2; cv2.namedWindow({TITLE!r}); cv2.pollKey()"
_PROBE_TIMEOUT_S = 20


class WindowSink:
    """Shows pictures in one window of the first one's size; q, Esc or closing it sets ``wants_stop``."""

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self._spec = spec
        self._open = False
        self._sized = False
        self.wants_stop = False
        _check_environment(spec)
        try:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise _no_display(spec, str(error.err or error)) from error
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise SinkError where no window can be opened; tries it in a process of its own."""
        _check_environment(spec)
        try:
            probe = subprocess.run(
                [sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise _no_display(spec, f"no answer within {_PROBE_TIMEOUT_S} s") from error
        if probe.returncode:
            raise _no_display(spec, "it takes no window")

    def write(self, presented: Presented) -> None:
        """Draw the picture and look at the keyboard; raises SinkError when the window system fails."""
        image = presented.frame.image_bgr
        if not _is_visible():
            self.wants_stop = True
            return
        try:
            if not self._sized:
                cv2.resizeWindow(TITLE, image.shape[1], image.shape[0])
                self._sized = True
            cv2.imshow(TITLE, image)
            if cv2.pollKey() & 0xFF in _STOP_KEYS:
                self.wants_stop = True
        except cv2.error as error:
            raise _no_display(self._spec, str(error.err or error)) from error

    def close(self) -> None:
        """Take the window off the screen; may be called twice."""
        if self._open and _is_visible():
            cv2.destroyWindow(TITLE)
            cv2.pollKey()
        self._open = False


def _is_visible() -> bool:
    try:
        return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:
        # Qt's back end ends with its last window: the user has closed it.
        return False


def _check_environment(spec: SinkSpec) -> None:
    # The wheel of OpenCV brings Qt's X11 plug-in alone, so a Wayland session needs its X11 bridge.
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        raise _no_display(spec, "it is not set")


def _no_display(spec: SinkSpec, reason: str) -> SinkError:
    display = os.environ.get("DISPLAY", "")
    return SinkError(f"sink {spec.label}: DISPLAY={display!r}, {reason}; expected a screen. Try: --sink null")
