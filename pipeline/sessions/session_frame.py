"""What the streams of a session are given to write: a frame placed in time, or a packet. Data only.

Separate from what writes them, so that the record process's main thread need not import FFmpeg to make one.
"""

from dataclasses import dataclass
from fractions import Fraction

from ..frame import ImageBgr, Presented
from ..wire import MaskShape
from .packets import SourcePacket

TICK_S = Fraction(1, 1000)
"""Of Matroska, and of all times of a session."""


@dataclass(frozen=True, slots=True)
class SessionFrame:
    """A presented frame as a session takes it.

    Attributes:
        presented: with the picture that has marks.
        raw_bgr: the picture without, None where the packet it came from is copied.
        part: of the session.
        time_ms: time in the part's overlay video; of pictures of our own too.
        raw_ms: time in the part's raw video, None if it is not there.
        mask: what the packed bits mean, None without a mask.
        packed: the mask's bits.
    """

    presented: Presented
    raw_bgr: ImageBgr | None
    part: int
    time_ms: int
    raw_ms: int | None
    mask: MaskShape | None
    packed: bytes


@dataclass(frozen=True, slots=True)
class TimedPacket:
    """A packet with its times in the part's raw video, in milliseconds."""

    packet: SourcePacket
    pts_ms: int
    dts_ms: int
