"""Where the endoscope's picture lies inside the video: its shape, and the insets drawn over it.

Processors show an octagon, a disc or a rectangle on black, with patient data beside it and a ScopeGuide inset
over it. What they show there is no tissue: it would count as a finding, and it can hold a name. Separate from
``view_thumbnail.py``, which tells what the pixels of a small copy are. It crops nothing itself.

In doubt the view is the whole picture. Text drawn over the tissue is not found, and stays.

Looked at on 72 pictures of Kvasir-SEG drawn by chance: the view is right in all; the ScopeGuide inset,
blacked out there, is marked in all but 2 of those that have one (an L-shaped box; dark tissue beside it).
All 13 green insets of the 900 are marked, and the patient-data panel of the one picture that has one lies
outside. Of the polyps' annotated pixels at most 2.4 % in any of the 900 lie outside (at edges of the black
boxes), at most 0.6 % in CVC-ClinicDB. In 1,504 pictures without inset (three videos, five sequences) 3 had
one marked: a catheter, letters, glare. One estimate takes 0.7 to 0.9 ms at 1080p (p50, AMD EPYC, one core).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from .segmenter import Mask
from .transform import Rect, Transform
from .view_thumbnail import ImageBgr, Reading, read_thumbnail, thumbnail

Point = tuple[int, int]

SMALLEST_PICTURE_PX = 32  # of a side; below it letters cannot be told from tissue
SMALLEST_VIEW_SHARE = 0.25  # of a side; no processor shows less, so less is doubt
RECTANGULAR_SHARE = 0.985  # of the bounding rectangle; above it the corners are not cut


@dataclass(frozen=True)
class FieldOfView:
    """The picture area of a video frame.

    Attributes:
        source_hw: height and width of the frame.
        rect: bounding rectangle of the picture area.
        polygon: convex outline as (x, y) pixels, themselves inside; empty where the view is all of ``rect``.
        insets: rectangles inside the frame that show no tissue (ScopeGuide, panels, blacked out).
    """

    source_hw: tuple[int, int]
    rect: Rect
    polygon: tuple[Point, ...] = ()
    insets: tuple[Rect, ...] = ()

    @classmethod
    def whole(cls, source_hw: tuple[int, int]) -> "FieldOfView":
        """The view that is the whole frame."""
        return cls(source_hw, Rect(0, 0, *source_hw))

    @classmethod
    def from_ints(cls, source_hw: tuple[int, int], values: tuple[int, ...]) -> "FieldOfView":
        """Undo ``to_ints``; raises ValueError for anything else."""
        counts = values[4:6]
        if len(counts) != 2 or min(counts) < 0 or len(values) != 6 + 2 * counts[0] + 4 * counts[1]:
            raise ValueError(f"field of view: {len(values)} numbers; expected 6, 2 a corner and 4 an inset")
        corners, insets = values[6 : 6 + 2 * counts[0]], values[6 + 2 * counts[0] :]
        polygon = tuple(zip(corners[::2], corners[1::2], strict=True))
        rects = tuple(Rect(*insets[start : start + 4]) for start in range(0, len(insets), 4))
        return cls(source_hw, Rect(*values[:4]), polygon, rects)

    def to_ints(self) -> tuple[int, ...]:
        """Numbers for the wire: rectangle (4), how many corners and insets, the corners (x, y), the insets (4 each)."""
        corners = (number for point in self.polygon for number in point)
        insets = (number for inset in self.insets for number in inset)
        return (*self.rect, len(self.polygon), len(self.insets), *corners, *insets)

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing outside."""
        return self == FieldOfView.whole(self.source_hw)

    @cached_property
    def mask(self) -> Mask:
        """Bool, ``source_hw``, True where there is tissue to see; made once, not to be written to."""
        mask = self._bytes > 0
        mask.flags.writeable = False
        return mask

    def mask_at_input(self, transform: Transform) -> Mask:
        """``mask`` at a network's input: bool, ``transform.input_hw``; findings outside it do not count."""
        return transform.forward_mask(self.mask)

    @cached_property
    def _bytes(self) -> npt.NDArray[np.uint8]:
        inside = np.zeros(self.source_hw, np.uint8)
        if self.polygon:
            cv2.fillConvexPoly(inside, np.array(self.polygon, np.int32), 255)
        else:
            inside[self.rect.rows, self.rect.columns] = 255
        for inset in self.insets:
            inside[inset.rows, inset.columns] = 0
        return inside

    @cached_property
    def _bytes_bgr(self) -> npt.NDArray[np.uint8]:
        return np.repeat(self._bytes[:, :, None], 3, axis=2)


def find_field_of_view(image_bgr: ImageBgr) -> FieldOfView:
    """Find the view in one picture (H × W × 3 uint8, BGR); the whole picture where it is too dark to tell."""
    size_hw = (image_bgr.shape[0], image_bgr.shape[1])
    if min(size_hw) < SMALLEST_PICTURE_PX:
        return FieldOfView.whole(size_hw)
    small = thumbnail(image_bgr)
    reading = read_thumbnail(small.image_bgr)
    return (
        FieldOfView.whole(size_hw) if reading is None else _view_from_reading(reading, small.stride, size_hw)
    )


def _view_from_reading(reading: Reading, stride: int, size_hw: tuple[int, int]) -> FieldOfView:
    """The view of a picture of ``size_hw`` from what its thumbnail, every ``stride``-th pixel, shows."""
    points = _outline(reading.tissue, stride, size_hw)
    left, top, width, height = cv2.boundingRect(points)
    if height < SMALLEST_VIEW_SHARE * size_hw[0] or width < SMALLEST_VIEW_SHARE * size_hw[1]:
        return FieldOfView.whole(size_hw)
    rectangular = cv2.contourArea(points) >= RECTANGULAR_SHARE * (width - 1) * (height - 1)
    polygon = () if rectangular else tuple((int(x), int(y)) for x, y in points)
    insets = tuple(_scaled_inset(inset, stride, size_hw) for inset in reading.insets)
    return FieldOfView(size_hw, Rect(top, left, height, width), polygon, insets)


def _outline(tissue: Mask, stride: int, size_hw: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Convex hull, N × 2 (x, y) in the picture, grown by one thumbnail pixel so that no tissue is lost."""
    hull = _hull(np.asarray(cv2.dilate(tissue.view(np.uint8), np.ones((3, 3), np.uint8)), np.uint8))
    last = np.array([tissue.shape[1] - 1, tissue.shape[0] - 1])
    points = hull * stride + stride // 2
    points = np.where(hull == 0, 0, points)
    return np.where(hull == last, [size_hw[1] - 1, size_hw[0] - 1], points).astype(np.int32)


def _hull(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull: npt.NDArray[np.int32] = cv2.convexHull(np.concatenate(contours)).reshape(-1, 2).astype(np.int32)
    return hull


def _filled_hull(mask: Mask) -> Mask:
    filled = np.zeros(mask.shape, np.uint8)
    if mask.any():
        cv2.fillConvexPoly(filled, _hull(mask.view(np.uint8)), 1)
    return filled.view(np.bool_)


def _scaled_inset(inset: Rect, stride: int, size_hw: tuple[int, int]) -> Rect:
    """A thumbnail's rectangle in the picture, grown by one thumbnail pixel to take in its blurred edge."""
    top, left = max(0, (inset.top - 1) * stride), max(0, (inset.left - 1) * stride)
    bottom = min(size_hw[0], (inset.top + inset.height + 1) * stride)
    right = min(size_hw[1], (inset.left + inset.width + 1) * stride)
    return Rect(top, left, bottom - top, right - left)


def blank_outside(image_bgr: ImageBgr, view: FieldOfView) -> None:
    """Blacken, in place, everything that is no tissue: border, text beside the view, insets.

    Text that the processor wrote over the tissue stays.

    Raises:
        ValueError: the picture is not of ``view.source_hw``.
    """
    if image_bgr.shape[:2] != view.source_hw:
        raise ValueError(f"picture: {image_bgr.shape}; expected height and width {view.source_hw}")
    if not view.is_whole:
        cv2.bitwise_and(image_bgr, view._bytes_bgr, dst=image_bgr)


class FieldOfViewTracker:
    """Steadies the view over a video, so that the crop does not jitter; one for each source.

    The view does not move while the scope does, so estimates are put together: a place is inside if at least
    two of the last ``window`` estimates say so. The answer changes when that differs ``agree`` times in a
    row. Dark pictures (fades, no light) are passed over: the last view stays. A new picture size starts
    anew.
    """

    def __init__(self, every_frames: int = 25, agree: int = 3, window: int = 8) -> None:
        """Estimate on every ``every_frames``-th picture, and on each of the first ``window``."""
        self._every_frames, self._agree, self._window = every_frames, agree, window
        self._start_anew((0, 0))

    def update(self, image_bgr: ImageBgr) -> FieldOfView:
        """The view to use for this picture (H × W × 3 uint8, BGR); the same object while nothing changes."""
        size_hw = (image_bgr.shape[0], image_bgr.shape[1])
        if size_hw != self._view.source_hw:
            self._start_anew(size_hw)
        due = self._pictures % self._every_frames == 0 or len(self._readings) < self._window
        self._pictures += 1
        if due and min(size_hw) >= SMALLEST_PICTURE_PX:
            small = thumbnail(image_bgr)
            reading = read_thumbnail(small.image_bgr)
            if reading is not None:
                self._take(reading, small.stride)
        return self._view

    @property
    def known(self) -> bool:
        """Whether the view was seen in a picture; until then ``update`` answers with the whole picture."""
        return self._shown is not None or 0 < min(self._view.source_hw) < SMALLEST_PICTURE_PX

    def _start_anew(self, size_hw: tuple[int, int]) -> None:
        self._view = FieldOfView.whole(size_hw)
        self._pictures = 0
        self._readings: deque[Reading] = deque(maxlen=self._window)
        self._shown: Reading | None = None
        self._pending: Reading | None = None
        self._pending_count = 0

    def _take(self, reading: Reading, stride: int) -> None:
        self._readings.append(Reading(_filled_hull(reading.tissue), reading.insets))
        joined = _joined(self._readings)
        if self._shown is None:
            self._show(joined, stride)
        elif _alike(joined, self._shown):
            self._pending_count = 0
        else:
            same_again = (
                self._pending_count > 0 and self._pending is not None and _alike(joined, self._pending)
            )
            self._pending, self._pending_count = joined, self._pending_count + 1 if same_again else 1
            if self._pending_count >= self._agree:
                self._show(joined, stride)

    def _show(self, reading: Reading, stride: int) -> None:
        self._shown, self._pending_count = reading, 0
        self._view = _view_from_reading(reading, stride, self._view.source_hw)


def _joined(readings: Sequence[Reading]) -> Reading:
    """What two readings (or the only one) call inside, and the newest insets that half of them share."""
    votes = np.sum([reading.tissue for reading in readings], axis=0)
    inside = _filled_hull(votes >= min(2, len(readings)))
    insets = tuple(
        inset
        for inset in readings[-1].insets
        if 2 * sum(any(inset.iou(other) > 0.5 for other in reading.insets) for reading in readings)
        >= len(readings)
    )
    return Reading(inside, insets)


def _alike(first: Reading, second: Reading) -> bool:
    """Whether two readings differ by less than 1 % of the picture and show the same insets."""
    if (first.tissue != second.tissue).mean() >= 0.01 or len(first.insets) != len(second.insets):
        return False
    return all(any(inset.iou(other) > 0.8 for other in second.insets) for inset in first.insets)
