"""The records that travel: a picture from a source, a frame with its times, and a presented frame.

Separate from the wire (``wire.py``), so that a stage, a source or a sink can be tested without a socket.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ImageBgr = npt.NDArray[np.uint8]
"""H × W × 3, BGR (OpenCV's order), 0 to 255."""
SizeHW = tuple[int, int]
"""Height, width in pixels."""


class FrameKey(NamedTuple):
    """What identifies a frame in a run: which source, which time round, which count at the source."""

    source_id: int
    loop: int
    seq: int


class Stamp(NamedTuple):
    """When a stage began with the frame and was done with it: monotonic nanoseconds.

    Of capture: when a recorded frame was due (else when it came), and when it was released.
    """

    stage: str
    received_ns: int
    done_ns: int


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """One picture as a source yields it, not yet in the ring.

    Attributes:
        seq: count at the source from 0; a gap is a frame the source knows it lost.
        pts: presentation time in ``time_base`` units (never None: a source makes one up and says so in its info).
        time_base: seconds per pts unit.
        size_hw: height and width.
        fill: writes the BGR picture into the array it is given (size_hw × 3, uint8); called at most once, and
            before the source is advanced.
        arrival_ns: monotonic arrival for a live source; None for a recorded one, which capture releases when due.
        release_offset_ns: how long after it is due a recorded picture comes (simulated jitter), 0 or more.
        packet_ns: names the packet it was decoded from (``packets.py``), 0 where its source gives none.
    """

    seq: int
    pts: int
    time_base: Fraction
    size_hw: SizeHW
    fill: Callable[[ImageBgr], None]
    arrival_ns: int | None = None
    release_offset_ns: int = 0
    packet_ns: int = 0

    @property
    def time_s(self) -> float:
        """Stream time in seconds."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Frame:
    """A captured frame. ``image_bgr`` is a view into a ring or a copy; the holder says which.

    ``capture_ns`` and ``stamps`` are monotonic; ``pts`` counts ``time_base`` units of the stream.
    """

    key: FrameKey
    pts: int
    time_base: Fraction
    capture_ns: int
    image_bgr: ImageBgr
    stamps: tuple[Stamp, ...] = ()

    def stamped(self, stamp: Stamp) -> "Frame":
        """The same frame with one stamp more."""
        return replace(self, stamps=(*self.stamps, stamp))


class Lost(NamedTuple):
    """Frames in a row that were not presented, or (cause ``not_logged``) were and are not in the log; the first of
    them, how many, why."""

    key: FrameKey
    frames: int
    cause: str


class MaskState(IntEnum):
    """What stands behind the marks of a presented frame, see docs/design.md section 1."""

    ABSENT = 0
    FRESH = 1
    HELD = 2
    STALE = 3
    FAILED = 4

    @property
    def label(self) -> str:
        """The word for it on screen, in logs and in reports."""
        return self.name.lower()

    @property
    def drawn(self) -> bool:
        """Whether marks of this state are drawn."""
        return self in (MaskState.FRESH, MaskState.HELD)


class Box(NamedTuple):
    """Bounding box in picture pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is said of a presented frame.

    Attributes:
        state: see MaskState.
        mask_seq: seq of the frame the mask was computed from, None if there is no mask.
        mask_age_ns: capture time of this frame less that of the mask's frame, None if there is no mask.
        boxes: one for each connected component that is drawn, largest first; empty if nothing is drawn.
        area_px: pixels of the picture that the drawn mask covers.
        mask_crc32: of the mask's packed bits at the network's size; equal masks have equal sums. None without mask.
        cause: why the state is FAILED, or what keeps the first mask waiting if it is ABSENT; else "".
    """

    state: MaskState = MaskState.ABSENT
    mask_seq: int | None = None
    mask_age_ns: int | None = None
    boxes: tuple[Box, ...] = ()
    area_px: int = 0
    mask_crc32: int | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Presented:
    """A frame as it was presented, the record every sink takes.

    ``frame.image_bgr`` is the finished picture (marks and HUD drawn). ``annotation_delay_ns`` is set only on the
    first presented frame that carries a mask. ``synthetic`` marks pictures we made ourselves ("no signal").
    ``mask_stamps`` is the way of the mask: capture, preprocess and infer of the frame it was computed from, and
    overlay's making it ready; empty without a mask. ``hud`` is what the HUD's panel covers. ``lost`` are the frames
    between the one handed over before and this one. ``copy_raw`` writes the picture as captured into an
    array of its size (False if it is gone); only the presenting sink gets it.
    """

    frame: Frame
    annotation: Annotation = field(default_factory=Annotation)
    present_ns: int = 0
    annotation_delay_ns: int | None = None
    synthetic: bool = False
    mask_stamps: tuple[Stamp, ...] = ()
    hud: Box | None = None
    lost: tuple[Lost, ...] = ()
    copy_raw: Callable[[ImageBgr], bool] | None = None

    @property
    def video_delay_ns(self) -> int:
        """From capture to presentation, in nanoseconds."""
        return self.present_ns - self.frame.capture_ns
