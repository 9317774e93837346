"""What overlay says of a frame and draws into it: which mask, in which state, with which marks. No socket, no clock.

The rule of live mode: the newest valid mask is drawn as long as it is fresh or held; a mask of another source, loop
or picture size is never drawn. The rule of every-frame mode: each frame carries its own mask or its failure. Why a
mask is missing is always said: nothing yet (absent), too old (stale), or the annotation path is down (failed).
"""

from dataclasses import dataclass, replace

import numpy as np

from endostream.configs.schema import OverlaySettings
from endostream.models.field_of_view import FieldOfView, blank_outside
from endostream.models.transform import Rect, Transform

from .draw import NO_MARKS, Marks, MarkStyle, draw_marks, marks_from_mask
from .frame import Annotation, Box, FrameKey, ImageBgr, MaskState, SizeHW, Stamp
from .hud import HudInfo, draw_hud
from .wire import FrameHeader, MaskHeader, MaskShape, PresentedHeader

_FRESH_PERIODS = 1.5
"""A mask from the frame before is as old as one period, give or take the source's jitter."""
_SETTLED_INTERVALS = 8
_RATE_WEIGHT = 0.1
"""Of the newest interval in the running mean behind the frame rate on screen."""


@dataclass(slots=True)
class Answer:
    """What the annotation path said of one frame: a mask made ready for drawing, or why there is none.

    ``packed`` is the mask as it came, for recording, and ``shape`` says what its bits mean. ``recorded`` is what was
    said of the frame when it was recorded, in a session that is played back.
    """

    key: FrameKey
    capture_ns: int
    size_hw: SizeHW
    marks: Marks = NO_MARKS
    view_rect: Rect | None = None
    view: FieldOfView | None = None
    crc32: int | None = None
    cause: str = ""
    presented: bool = False
    stamps: tuple[Stamp, ...] = ()
    shape: MaskShape | None = None
    packed: bytes = b""
    recorded: Annotation | None = None


def answer_from_recorded(header: PresentedHeader, packed: bytes, min_area_share: float = 0.0) -> Answer:
    """The answer of a session that is played back; raises ValueError if its mask does not fit the picture."""
    frame, mask, note = header.frame, header.mask, header.annotation
    if mask is None:
        return Answer(frame.key, frame.capture_ns, frame.size_hw, recorded=note)
    masked = MaskHeader(frame, mask.transform, mask.size_hw, note.mask_crc32 or 0, mask.view)
    answer = answer_from_mask(masked, packed, min_area_share)
    answer.recorded = note
    return answer


def answer_from_mask(header: MaskHeader, packed: bytes, min_area_share: float = 0.0) -> Answer:
    """Unpack a mask and make it ready for drawing into its picture; raises ValueError if it does not fit.

    ``packed`` holds height × width bits, rows first, most significant bit first. Components that cover less than
    ``min_area_share`` of the picture are left out.
    """
    height, width = header.size_hw
    if len(packed) != -(-height * width // 8):
        raise ValueError(f"mask: {len(packed)} bytes; expected {height} × {width} bits")
    transform = Transform.from_ints(header.transform)
    if transform.input_hw != header.size_hw or transform.source_hw != header.frame.size_hw:
        raise ValueError(
            f"transform: {transform}; expected one of {header.frame.size_hw} to {header.size_hw}"
        )
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=height * width)
    placed = transform.inverse_mask_bounds(bits.reshape(height, width).view(np.bool_))
    frame = header.frame
    min_area_px = round(min_area_share * frame.size_hw[0] * frame.size_hw[1])
    marks = marks_from_mask(placed.mask, placed.top, placed.left, min_area_px)
    view = FieldOfView.from_ints(frame.size_hw, header.view) if header.view else None
    answer = Answer(frame.key, frame.capture_ns, frame.size_hw, marks, transform.roi, view, header.crc32)
    answer.stamps = frame.stamps
    answer.shape, answer.packed = MaskShape(header.size_hw, header.transform, header.view), packed
    return answer


def _as_recorded(note: Annotation, marks: Marks) -> Annotation:
    """What was said of a frame, with the marks that are drawn now: a mask that was stale then stays undrawn."""
    shown = marks if note.state.drawn else NO_MARKS
    return replace(note, boxes=shown.boxes, area_px=shown.area_px)


class Blanker:
    """Blackens what is no tissue in pictures that leave the display process: names may be burnt in there.

    Until the view of a source is known, and after its size has changed, everything but the HUD is black: a picture
    too few rather than a name too many.
    """

    def __init__(self) -> None:
        self._source: tuple[int, SizeHW] | None = None
        self._view: FieldOfView | None = None

    @property
    def view(self) -> tuple[int, ...]:
        """The view outside of which was blanked last, as ints; () if all was."""
        return () if self._view is None else self._view.to_ints()

    def blank(self, image_bgr: ImageBgr, header: FrameHeader, answer: Answer | None, hud: Box | None) -> None:
        """Blank ``image_bgr`` in place, the rectangle ``hud`` aside."""
        self._look(header, answer)
        panel = (
            image_bgr[:0] if hud is None else image_bgr[hud.y : hud.y + hud.height, hud.x : hud.x + hud.width]
        )
        kept = panel.copy()
        if self._view is None:
            image_bgr[:] = 0
        else:
            blank_outside(image_bgr, self._view)
        panel[:] = kept

    def _look(self, header: FrameHeader, answer: Answer | None) -> None:
        source = (header.key.source_id, header.size_hw)
        if source != self._source:
            self._source, self._view = source, None
        fits = answer is not None and (answer.key.source_id, answer.size_hw) == source
        # An equal view is kept as it is: it has its mask at hand.
        if answer is not None and fits and answer.view is not None and answer.view != self._view:
            self._view = answer.view


def failure(header: FrameHeader, cause: str) -> Answer:
    """The answer that there is no mask for this frame, and why."""
    return Answer(header.key, header.capture_ns, header.size_hw, cause=cause)


class OverlayStage:
    """Chooses the answer for a frame and draws it.

    Args:
        settings: the ``overlay`` section.
        segmenter: its name, for the HUD.
    """

    def __init__(self, settings: OverlaySettings, segmenter: str) -> None:
        self._hold_ns = int(settings.hold_ms * 1e6)
        self._hud = settings.hud
        self._segmenter = segmenter
        self._style = MarkStyle(settings.colour_bgr, settings.fill_alpha, settings.contour, settings.box)
        self._newest: Answer | None = None
        self._previous: FrameHeader | None = None
        self._interval_ns: float | None = None
        self._intervals = 0

    @property
    def interval_ns(self) -> float | None:
        """Running mean of the time between captured frames, None before the second."""
        return self._interval_ns

    def take(self, answer: Answer) -> Answer | None:
        """Make ``answer`` the newest (live mode); returns the one it replaces if that was never presented."""
        replaced = self._newest
        self._newest = answer
        return replaced if replaced is not None and not replaced.presented else None

    def current(self, header: FrameHeader) -> Answer | None:
        """The newest answer, if it belongs to the same source, loop and picture size as this frame."""
        newest = self._newest
        if newest is None or newest.size_hw != header.size_hw or newest.key[:2] != header.key[:2]:
            return None
        return newest

    def annotate(
        self, header: FrameHeader, answer: Answer | None, down: str = "", waits_for: str = ""
    ) -> Annotation:
        """What is to be said of this frame.

        Args:
            header: the frame.
            answer: the mask or failure that stands for it, None if there is none.
            down: why the annotation path is down now, "" if it is up.
            waits_for: what keeps the first mask waiting, "" if nothing is known to.
        """
        if answer is not None and answer.recorded is not None and answer.key == header.key and not down:
            self._note_interval(header)
            return _as_recorded(answer.recorded, answer.marks)
        state = self._state(header, answer, down)
        self._note_interval(header)
        if answer is None or answer.crc32 is None:
            cause = down or (waits_for if answer is None else answer.cause)
            return Annotation(state, cause=cause)
        marks = answer.marks if state.drawn else NO_MARKS
        return Annotation(
            state,
            answer.key.seq,
            header.capture_ns - answer.capture_ns,
            marks.boxes,
            marks.area_px,
            answer.crc32,
            down if state is MaskState.FAILED else "",
        )

    def _state(self, header: FrameHeader, answer: Answer | None, down: str) -> MaskState:
        if down or (answer is not None and answer.cause):
            return MaskState.FAILED
        if answer is None:
            return MaskState.ABSENT
        if answer.key == header.key:  # even if the frame was captured again, by a restarted capture
            return MaskState.FRESH
        age_ns = header.capture_ns - answer.capture_ns
        period_ns = self._hold_ns if self._interval_ns is None else _FRESH_PERIODS * self._interval_ns
        if age_ns <= period_ns:
            return MaskState.FRESH
        return MaskState.HELD if age_ns <= self._hold_ns else MaskState.STALE

    def _note_interval(self, header: FrameHeader) -> None:
        previous, self._previous = self._previous, header
        if previous is None or previous.key[:2] != header.key[:2]:
            return
        interval_ns = header.capture_ns - previous.capture_ns
        self._intervals += 1
        mean_ns = self._interval_ns or interval_ns
        if self._intervals > _SETTLED_INTERVALS:  # a gap of seconds is no frame period
            interval_ns = min(interval_ns, int(2 * mean_ns))
        weight = max(_RATE_WEIGHT, 1 / self._intervals)
        self._interval_ns = mean_ns + weight * (interval_ns - mean_ns)

    def draw(self, image_bgr: ImageBgr, note: Annotation, answer: Answer | None, time_s: float) -> Box | None:
        """Draw marks and HUD into ``image_bgr`` in place; returns the rectangle that the HUD covers, if any."""
        if note.state.drawn and answer is not None and answer.marks.area_px:
            draw_marks(image_bgr, answer.marks, self._style)
        if not self._hud:
            return None
        return draw_hud(image_bgr, self._hud_info(note, time_s), self._view_box(answer))

    def _hud_info(self, note: Annotation, time_s: float) -> HudInfo:
        return HudInfo(
            note.state,
            None if note.mask_age_ns is None else note.mask_age_ns / 1e6,
            1e9 / self._interval_ns if self._interval_ns else None,
            self._segmenter,
            bool(note.boxes),
            note.cause,
            time_s,
        )

    @staticmethod
    def _view_box(answer: Answer | None) -> Box | None:
        if answer is None or answer.view_rect is None:
            return None
        view = answer.view_rect
        return Box(view.left, view.top, view.width, view.height)
