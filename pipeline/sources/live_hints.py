"""What to try when the address of a live source cannot be opened, and why FFmpeg could not where it does not say.

Separate from the sources, which know what failed and not what a person may have meant. It opens no source.
"""

import re
import socket
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from .live_address import DEVICE_KINDS, STREAM_SCHEMES, redacted

_LAVFI = "lavfi:testsrc2=size=1280x720:rate=30, a filter that makes pictures"
_X11 = "echo $DISPLAY, and x11grab: with what it says, e.g. x11grab::0"
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
"""What a shell ends with when it could not run a command."""
_UNSAID = "input/output error"
"""FFmpeg's words for an address that nobody knows, among much else."""


def stream_problem(kind: str, address: str, url: str, reason: str) -> str:
    """In one line why ``url`` cannot be opened, and what to try; ``reason`` is FFmpeg's, in small letters."""
    if kind == "stream" and reason == _UNSAID and (host := _unknown_host(url)):
        return (
            f"host {host!r} cannot be resolved; expected one with a name or number. Try: getent hosts {host}"
        )
    return f"cannot be opened ({reason}). Try: {_hint(kind, address, reason)}"


def _hint(kind: str, address: str, reason: str) -> str:
    if kind in ("lavfi", "x11grab"):
        return _LAVFI if kind == "lavfi" else _X11
    if kind == "v4l2":
        return "endostream doctor, which lists the devices"
    if "refused" in reason:
        return "the port its sender listens on, or --set live.wait_at_start=true to wait for one"
    if "401" in reason or "403" in reason:
        return f"{address.partition(':')[0]}://USER:PASSWORD@HOST/PATH, with those of the encoder"
    return f"ffprobe {redacted(address)}, and the path in the encoder's manual"


def _unknown_host(url: str) -> str:
    """The host of ``url`` if no name service knows it, else ""."""
    try:
        host = urlsplit(url).hostname
        if host:
            socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        return host or ""
    except (OSError, ValueError):
        return ""
    return ""


def pipe_hint(command: str, exit_code: int | None) -> str:
    """For a command that gave no picture."""
    if exit_code == _NOT_FOUND:
        return "the name of the program as it is installed, or its whole path"
    if exit_code == _NOT_EXECUTABLE:
        return "chmod +x, if it is a program"
    return f"{redacted(command)} | head -c 80, which should show YUV4MPEG2 W… H… (docs/live.md)"


def address_hint(address: str) -> str:
    """For what is no address of a live source at all."""
    scheme, colon, rest = address.partition(":")
    kinds = (*STREAM_SCHEMES, *DEVICE_KINDS)
    near = [kind for kind in kinds if colon and sorted(kind) == sorted(scheme)]  # two letters exchanged
    near = near or (get_close_matches(scheme, kinds, 1) if colon else [])
    if Path(address).exists():
        return f"endostream replay {address}"
    if near:
        return f"endostream live {redacted(f'{near[0]}:{rest}')}"
    if device := re.fullmatch(r"(?:/dev/)?v[a-z]*(\d+)", address):
        return f"endostream live /dev/video{device[1]}"
    return "endostream doctor, which lists the devices, or lavfi:testsrc2, a test picture"
