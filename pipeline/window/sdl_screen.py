"""One window on the screen through SDL (pygame-ce): its pixels, its keys, full screen. The only file about the toolkit.

Motive, measured beside OpenCV's highgui on a virtual X server at 1080p: a call there took 4 ms and returned before the
picture was drawn; SDL's plain frame buffer takes 0.8 ms and returns when the X server has taken the picture. SDL's
accelerated one took 12 ms without a graphics card, so it is switched off. Xlib ends the whole process when the display
goes away, so this is used in a process of its own only (``window_process.py``). It draws nothing of its own.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..frame import SizeHW
from .window_picture import ScreenBgra

TITLE = "endostream"
_SHARE_OF_DESKTOP = 0.9
_LEAST_PX = 160
_ENVIRONMENT = {
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    "SDL_FRAMEBUFFER_ACCELERATION": "0",
    "SDL_NO_SIGNAL_HANDLERS": "1",
    "SDL_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR": "1",
}
_DISPLAYS = {"x11": "DISPLAY", "wayland": "WAYLAND_DISPLAY"}
_X11_LIBRARIES = ("libX11.so.6", "libXext.so.6")
_SCANCODE_A = 4
_BGRX_MASKS = (0xFF0000, 0xFF00, 0xFF)


class ScreenError(OSError):
    """The window system refuses."""


class SdlScreen:
    """A window of 8-bit BGR pixels; raises ScreenError where there is none to be had."""

    def __init__(self, full_screen: bool = False, hidden: bool = False) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        drivers = [driver for driver, name in _DISPLAYS.items() if os.environ.get(name)]
        if drivers:  # left alone, SDL shows pictures to nobody where no display answers
            os.environ.setdefault("SDL_VIDEODRIVER", ",".join(drivers))
        import pygame

        self._pygame: Any = pygame
        try:
            pygame.display.init()
            self.driver: str = pygame.display.get_driver()
            self._window = pygame.Window(TITLE, (640, 480), resizable=True, hidden=hidden)
            self._surface = self._window.get_surface()
        except pygame.error as error:
            raise ScreenError(_why_not(str(error))) from error
        if self._surface.get_bytesize() != 4 or self._surface.get_masks()[:3] != _BGRX_MASKS:
            raise ScreenError(f"{self._surface.get_bitsize()} bits a pixel; expected 24 or 32, 8 a colour")
        self._windowed_size = (640, 480)
        self._is_full = False
        if full_screen:
            self.set_full_screen(True)

    @property
    def size_hw(self) -> SizeHW:
        """Height and width of what can be drawn on."""
        width, height = self._window.size
        return height, width

    @contextlib.contextmanager
    def pixels(self) -> Iterator[ScreenBgra]:
        """The window's pixels, to be drawn on; shown by ``flip``."""
        self._surface = self._window.get_surface()  # another one after every change of size
        width, height = self._surface.get_size()
        pitch = self._surface.get_pitch()
        buffer: Any = self._surface.get_buffer()
        rows = np.frombuffer(buffer, np.uint8, pitch * height).reshape(height, pitch)
        yield rows[:, : 4 * width].reshape(height, width, 4)

    def flip(self) -> None:
        """Show what was drawn; returns when the window system has taken it."""
        try:
            self._window.flip()
        except self._pygame.error as error:
            raise ScreenError(str(error)) from error

    def fit(self, size_hw: SizeHW) -> None:
        """Give the window, unless it fills the screen, this size or what of it fits on the desktop."""
        height, width = size_hw
        desktop_width, desktop_height = self._pygame.display.get_desktop_sizes()[0]
        room = min(desktop_width / width, desktop_height / height)
        scale = 1.0 if room >= 1 else _SHARE_OF_DESKTOP * room
        self._windowed_size = (max(_LEAST_PX, round(width * scale)), max(_LEAST_PX, round(height * scale)))
        if not self._is_full:
            self._window.size = self._windowed_size
            self._window.position = self._pygame.WINDOWPOS_CENTERED

    def set_full_screen(self, on: bool) -> None:
        """Fill the screen or not. X leaves that to a window manager; where there is none we do it ourselves."""
        self._is_full = on
        window = self._window
        if self.driver != "x11" or x11_has_window_manager():
            if on:
                window.set_fullscreen(desktop=True)
            else:
                window.set_windowed()
                window.size = self._windowed_size
        elif on:
            desktop = self._pygame.display.get_desktop_sizes()[0]
            window.borderless, window.size, window.position = True, desktop, (0, 0)
        else:
            window.borderless, window.size = False, self._windowed_size
            window.position = self._pygame.WINDOWPOS_CENTERED
        self._pygame.mouse.set_visible(not on)

    def events(self) -> list[str]:
        """What happened: ``"key:x"`` for a key pressed, ``"closed"``, ``"changed"`` if it has to be drawn again."""
        pygame, found = self._pygame, []
        for event in pygame.event.get():
            if event.type == pygame.KEYDOWN:
                word = "escape" if event.key == pygame.K_ESCAPE else key_word(event.unicode, event.scancode)
                found += [f"key:{word}"] if word else []
            elif event.type in (pygame.QUIT, pygame.WINDOWCLOSE):  # the last window's closing is told twice
                found += [] if "closed" in found else ["closed"]
            elif event.type in (pygame.WINDOWEXPOSED, pygame.WINDOWSIZECHANGED):
                found.append("changed")
        return found

    def close(self) -> None:
        """Take the window off the screen."""
        self._window.destroy()
        self._pygame.display.quit()


def key_word(text: str, scancode: int) -> str:
    """What a key stands for: the character it writes, or on a keyboard without Latin letters the one at its place."""
    letter = scancode - _SCANCODE_A
    if not text.isascii() and 0 <= letter < 26:
        return chr(ord("a") + letter)
    return text.lower()


def _why_not(reason: str) -> str:
    """SDL says "x11 not available" of a display that does not answer and of a library that is not there."""
    if os.environ.get("DISPLAY") and "not available" in reason:
        for library in _X11_LIBRARIES:
            try:
                ctypes.CDLL(library)
            except OSError:
                return f"{library} is missing (apt-get install libx11-6 libxext6)"
        return "it does not answer"
    return reason


def end_with_parent() -> None:
    """Have Linux kill this process with its parent, even while it hangs in a call to the display."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL


def x11_has_window_manager() -> bool:
    """Whether the root window names one, as EWMH has it; True where that cannot be found out."""
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return True
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = x11.XDefaultRootWindow.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(x11.XOpenDisplay(None))
    if not connection:
        return True
    name = ctypes.c_ulong(x11.XInternAtom(connection, b"_NET_SUPPORTING_WM_CHECK", 0))
    root = ctypes.c_ulong(x11.XDefaultRootWindow(connection))
    kind, count, rest, value = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_void_p()
    bits, whole = ctypes.c_int(), ctypes.c_long(1)
    answer = [ctypes.byref(part) for part in (kind, bits, count, rest, value)]
    x11.XGetWindowProperty(connection, root, name, ctypes.c_long(0), whole, 0, ctypes.c_ulong(0), *answer)
    if value:
        x11.XFree(value)
    x11.XCloseDisplay(connection)
    return count.value > 0
