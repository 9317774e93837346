"""Whether a window can be opened here, found out in a process of its own, and how it is said that none can.

Separate from the window's sink, which loses and wins back displays later on, so that a run without a display is refused
before anything starts.
"""

import os
import subprocess
import sys

from endostream.configs.errors import SinkError

from ..sink import SinkSpec

_PROBE = "from endostream.pipeline.window.sdl_screen import SdlScreen; SdlScreen(hidden=True).close()"
_PROBE_TIMEOUT_S = 20
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


def try_window(spec: SinkSpec) -> None:
    """Raise SinkError unless a window, not to be seen, can be opened and closed."""
    check_environment(spec)
    command = [sys.executable, "-P", "-c", _PROBE]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise no_display(spec, f"no answer within {_PROBE_TIMEOUT_S} s") from error
    if probe.returncode:
        said = probe.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1].partition(": ")[2] or said[-1] if said else "it takes no window"
        raise no_display(spec, reason)


def check_environment(spec: SinkSpec) -> None:
    """Raise SinkError where nothing says which display to use."""
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in _DISPLAYS):
        raise no_display(spec, "it is not set")


def no_display(spec: SinkSpec, reason: str) -> SinkError:
    """The error for a display that takes no window."""
    display = os.environ.get("DISPLAY", "")
    return SinkError(f"sink {spec.label}: DISPLAY={display!r}, {reason}; expected a screen. Try: --sink null")
