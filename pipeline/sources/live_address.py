"""Addresses of live sources: which kind plays one, and how one is shown without its secrets.

Separate from the sources, because the command line and the report need it without opening anything.
"""

import re
import stat
from pathlib import Path

STREAM_SCHEMES = ("rtsp", "rtsps", "srt", "udp", "rtp", "tcp", "rtmp", "http", "https")
DEVICE_KINDS = ("v4l2", "pipe", "x11grab", "lavfi")
LIVE_KINDS = frozenset(("stream", *DEVICE_KINDS))
_VIDEO4LINUX_MAJOR = 81
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_SECRET = re.compile(r"(?i)\b(passphrase|password|passwd|pass|pwd|token|secret|key|auth|streamid)=[^&\s'\"]*")


def live_kind(address: str) -> str | None:
    """The kind of live source that plays ``address``, None if none does."""
    scheme, colon, rest = address.partition(":")
    if colon and scheme in DEVICE_KINDS:
        return scheme
    if scheme in STREAM_SCHEMES and rest.startswith("//"):
        return "stream"
    return "v4l2" if _is_video_device(address) else None


def _is_video_device(address: str) -> bool:
    """Whether a path names a capture device, be it there or not."""
    if re.fullmatch(r"/dev/(video\d+|v4l/.+)", address):
        return True
    try:
        status = Path(address).stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(status.st_mode) and _major(status.st_rdev) == _VIDEO4LINUX_MAJOR


def _major(device: int) -> int:
    return (device >> 8) & 0xFFF


def redacted(text: str) -> str:
    """``text`` with the credentials of every address in it replaced by ``***``; safe for logs and reports."""
    return _SECRET.sub(lambda found: f"{found[1]}=***", _USER.sub("***@", text))
