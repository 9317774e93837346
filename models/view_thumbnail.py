"""What the pixels of a small copy of the picture are: tissue, border, or graphics the processor drew.

Separate from ``field_of_view.py``, which makes shapes and decisions of it. Works on a thumbnail of at most
``THUMBNAIL_PX`` a side, taken by picking every n-th pixel: 0.1 ms at 1080p, where averaging takes 3.

It goes by what mucosa never is: as dark as the flat border, or flat and not reddish. Light tissue, glare and
instruments count as tissue, so that in doubt a pixel stays.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .segmenter import Mask
from .transform import Rect

ImageBgr = npt.NDArray[np.uint8]

THUMBNAIL_PX = 256
BORDER_LEVEL_MAX = 48  # borders seen: 0 (Kvasir-SEG), 11, 15, 20 (CVC-ClinicDB)
BORDER_MARGIN = 8  # levels above the border that noise and JPEG reach
BORDER_SHARE = 0.02  # of the outermost pixels; below it there is no border
TEXT_STROKE_PX = 5  # in the thumbnail; what is thinner is text or noise
TISSUE_SHARE = 0.05  # of the picture; below it the frame is dark
PART_SHARE = 0.01  # of the picture; smaller separate parts are text
CUT_OUT_SHARE = 0.14  # of the view's side; boxes seen have 0.16 or more, an octagon's own corner holds less
INSET_SHARES = (0.004, 0.35)  # of the picture


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small copy: ``image_bgr`` is every ``stride``-th pixel of the picture both ways."""

    image_bgr: ImageBgr
    stride: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a thumbnail shows: ``tissue`` (bool, thumbnail's size) and ``insets`` in thumbnail pixels."""

    tissue: Mask
    insets: tuple[Rect, ...]


def thumbnail(image_bgr: ImageBgr) -> Thumbnail:
    """Pick every n-th pixel (H × W × 3 uint8, BGR), so that no side is longer than THUMBNAIL_PX."""
    stride = -(-max(image_bgr.shape[:2]) // THUMBNAIL_PX)
    offset = stride // 2
    return Thumbnail(np.ascontiguousarray(image_bgr[offset::stride, offset::stride]), stride)


def read_thumbnail(image_bgr: ImageBgr) -> Reading | None:
    """Tell tissue from border and graphics; None where there is too little light to tell."""
    brightest = _largest_channel(image_bgr)
    level = border_level(brightest)
    if level is None:
        level = 0
    lit = (brightest > level + BORDER_MARGIN).astype(np.uint8)
    graphics = _graphics(image_bgr)
    drawn = _graphic_rects(graphics)
    lit[graphics > 0] = 0
    for rect in drawn:
        lit[rect.rows, rect.columns] = 0
    tissue = _large_parts(lit)
    if tissue.mean() < TISSUE_SHARE:
        return None
    cut_out = [rect for rect in _cut_out_corners(tissue) if all(rect.iou(other) < 0.5 for other in drawn)]
    return Reading(tissue, (*drawn, *cut_out))


def _largest_channel(image_bgr: ImageBgr) -> npt.NDArray[np.uint8]:
    blue, green, red = cv2.split(image_bgr)
    return cv2.max(cv2.max(blue, green), red)  # type: ignore[return-value]


def border_level(brightest: npt.NDArray[np.uint8]) -> int | None:
    """Level of the flat dark border along the picture's edge, or None where the picture reaches the edge.

    Args:
        brightest: H × W uint8, the largest of the three channels.
    """
    ring = np.concatenate(
        [brightest[:2].ravel(), brightest[-2:].ravel(), brightest[:, :2].ravel(), brightest[:, -2:].ravel()]
    )
    counts = np.bincount(ring, minlength=256)[:BORDER_LEVEL_MAX]
    level = int(np.argmax(counts))
    near = counts[max(0, level - 2) : level + 3].sum()
    return level if near >= BORDER_SHARE * ring.size else None


def _graphics(image_bgr: ImageBgr) -> npt.NDArray[np.uint8]:
    """1 where the processor drew an area: a flat colour that is not reddish, or the ScopeGuide's green."""
    square = np.ones((3, 3), np.uint8)
    spread = _largest_channel(np.asarray(cv2.morphologyEx(image_bgr, cv2.MORPH_GRADIENT, square), np.uint8))
    blue, green, red = cv2.split(image_bgr)
    other = np.maximum(blue, green)
    not_reddish = cv2.subtract(red, other) <= 4
    flat = (spread <= 4) & not_reddish & (other > BORDER_LEVEL_MAX) & (other < 235)
    scope_guide = cv2.subtract(green, red) > 40
    graphics: npt.NDArray[np.uint8] = (flat | scope_guide).astype(np.uint8)
    return cv2.morphologyEx(graphics, cv2.MORPH_OPEN, square)  # type: ignore[return-value]


def _graphic_rects(graphics: npt.NDArray[np.uint8]) -> tuple[Rect, ...]:
    """Drawn areas that fill a rectangle, thumbnail pixels, largest first."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(graphics, connectivity=4)
    rects = []
    for left, top, width, height, area in sorted(stats[1:count].tolist(), key=lambda row: -row[4]):
        if area >= 0.7 * width * height and _has_inset_size(width * height, graphics.size):
            rects.append(Rect(top, left, height, width))
    return tuple(rects)


def _has_inset_size(area: int, whole: int) -> bool:
    return INSET_SHARES[0] * whole <= area <= INSET_SHARES[1] * whole


def _large_parts(lit: npt.NDArray[np.uint8]) -> Mask:
    """Lit areas without letters: what stands an opening and is no small separate part."""
    side = TEXT_STROKE_PX if min(lit.shape) >= 96 else 3
    opened = cv2.morphologyEx(lit, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    large = stats[:, 4] >= PART_SHARE * lit.size
    large[0] = False
    tissue: Mask = large[labels]
    return tissue


def _cut_out_corners(tissue: Mask) -> tuple[Rect, ...]:
    """Black rectangles in the corners of the tissue's bounding box: insets that were blacked out."""
    left, top, width, height = cv2.boundingRect(tissue.view(np.uint8))
    view = Rect(top, left, height, width)
    dark = ~tissue[view.rows, view.columns]
    found = []
    for up, start in ((True, True), (True, False), (False, True), (False, False)):
        corner = _anchored_dark_rect(dark[:: 1 if up else -1, :: 1 if start else -1])
        if corner is None or corner[0] < CUT_OUT_SHARE * height or corner[1] < CUT_OUT_SHARE * width:
            continue
        if _has_inset_size(corner[0] * corner[1], tissue.size):
            row = top if up else top + height - corner[0]
            column = left if start else left + width - corner[1]
            found.append(Rect(row, column, *corner))
    return tuple(found)


def _anchored_dark_rect(dark: Mask) -> tuple[int, int] | None:
    """Height and width of the largest dark rectangle at the top left corner, if straight lit edges bound it.

    An octagon's or a circle's corner holds dark rectangles too, but what lies beyond their edges is dark.
    """
    prefixes = np.where(dark.all(axis=1), dark.shape[1], dark.argmin(axis=1))
    widths = np.minimum.accumulate(prefixes)
    height = int(np.argmax(widths * np.arange(1, len(widths) + 1))) + 1
    width = int(widths[height - 1])
    below, beside = dark[height + 1 : height + 3, :width], dark[:height, width + 1 : width + 3]
    if not below.size or not beside.size:
        return None
    # The far quarter of each edge is clear of the view's own cut corner, which a box may overlap.
    far_below, far_beside = below[:, -(width // 4 + 1) :], beside[-(height // 4 + 1) :]
    straight = max(below.mean(), beside.mean()) < 0.7 and max(far_below.mean(), far_beside.mean()) < 0.5
    return (height, width) if straight else None
