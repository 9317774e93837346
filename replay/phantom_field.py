"""Where in the phantom's picture the endoscope's field of view lies, and what stands beside it.

Separate from the drawing: spans of columns for each row, at the size shown and at the size drawn at, and the
directions in which the lens's pixels look.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from endostream.models.segmenter import Mask
from endostream.pipeline.frame import ImageBgr, SizeHW

from .phantom_scene import Table, Vector
from .phantom_wall import kernel

Spans = npt.NDArray[np.int32]
"""(H, 2): first and past-last column of each row; a row without any has both alike."""

WIDEST_RAD = math.radians(57)
"""Angle from the optical axis to the middle of the field's upper edge at most; some 140° from side to side."""
CORNER_RAD = math.radians(86)
"""Angle to the corners of the field's box at most."""
ASPECT = 1.23
"""Width over height of an octagonal or round field."""


@dataclass(frozen=True, slots=True)
class FieldBox:
    """The field's bounding box in the picture, pixels."""

    top: int
    left: int
    height: int
    width: int


def field_box(size_hw: SizeHW, shape: str) -> FieldBox:
    """The box of a field in a picture: all of it, or right of the middle with a narrow border, as on a processor."""
    height, width = size_hw
    if shape == "full":
        return FieldBox(0, 0, height, width)
    tall = max(8, round(0.965 * height))
    wide = min(round(ASPECT * tall), max(8, round(0.985 * width)))
    tall = min(tall, max(8, round(wide * 1.05)))
    left = round((width - wide) * (0.62 if width > wide * 1.1 else 0.5))
    return FieldBox((height - tall) // 2, left, tall, wide)


def field_spans(box: FieldBox, shape: str, inset: bool) -> Spans:
    """Spans within the box: an octagon, a disc cut off above and below, or all; ``inset`` cuts out a corner."""
    y = (np.arange(box.height) + 0.5) / box.height
    if shape == "octagon":
        cut = np.clip(0.26 - np.minimum(y, 1 - y), 0, None) * box.height
    elif shape == "round":
        radius = 0.5 * max(box.width, box.height)
        half = np.sqrt(np.clip(radius**2 - ((y - 0.5) * box.height) ** 2, 0, None))
        cut = np.clip(box.width / 2 - half, 0, None)
    else:
        cut = np.zeros(box.height)
    cut = np.minimum(np.round(cut), (box.width - 1) // 2).astype(np.int32)
    spans = np.stack([cut, box.width - cut], axis=1)
    if inset:
        low = spans[round(0.66 * box.height) :]
        low[:, 0] = np.maximum(low[:, 0], round(0.33 * box.width))
    return spans.astype(np.int32)


def scaled_spans(spans: Spans, from_width: int, size_hw: SizeHW, margin_px: int) -> Spans:
    """The spans at another size, wider on all sides by ``margin_px``, which blur and scaling need."""
    height, width = size_hw
    across, down = width / from_width, height / len(spans)
    scaled = np.zeros((height, 2), np.int32)
    for row in range(height):
        first = max(0, math.floor((row - margin_px) / down))
        last = min(len(spans), math.ceil((row + 1 + margin_px) / down))
        near = spans[first:last]
        scaled[row, 0] = max(0, math.floor(near[:, 0].min() * across) - margin_px)
        scaled[row, 1] = min(width, math.ceil(near[:, 1].max() * across) + margin_px)
    return scaled


def half_view_rad(size_hw: SizeHW) -> float:
    """Angle from the optical axis to the middle of the upper edge, for a box of this size; the lens is equidistant."""
    height, width = size_hw
    return min(WIDEST_RAD, CORNER_RAD / math.hypot(1.0, width / height))


def lens(size_hw: SizeHW, cell_px: int) -> Table:
    """(H + cell, W + cell, 3) float32 unit directions right, down, ahead: equidistant projection."""
    height, width = size_hw
    y, x = np.mgrid[0 : height + cell_px + 1, 0 : width + cell_px + 1]
    right, down = (x + 0.5 - width / 2) / (height / 2), (y + 0.5 - height / 2) / (height / 2)
    radius = np.maximum(np.hypot(right, down), 1e-9)
    angle = np.minimum(radius * half_view_rad(size_hw), 1.52)
    aside = np.sin(angle) / radius
    return np.stack([aside * right, aside * down, np.cos(angle)], axis=2).astype(np.float32)


def lobe_boxes(lobes: Table, origin: Vector, rotation: Vector, size_hw: SizeHW) -> npt.NDArray[np.int32]:
    """(n, 4) top, left, past-bottom, past-right: a box that surely holds each lobe as the lens shows it."""
    height, width = size_hw
    boxes = np.zeros((len(lobes), 4), np.int32)
    for k, lobe in enumerate(lobes.astype(np.float64)):
        seen = rotation @ (lobe[:3] - origin)
        distance, reach = float(np.linalg.norm(seen)), lobe[18] * 1.15
        if distance <= reach:
            boxes[k] = 0, 0, height, width
            continue
        angle, half = math.acos(seen[2] / distance), math.asin(reach / distance)
        if angle - half > 1.6:
            continue
        px_per_rad = height / 2 / half_view_rad(size_hw)
        aside = math.hypot(seen[0], seen[1]) + 1e-9
        x = width / 2 + px_per_rad * angle * seen[0] / aside
        y = height / 2 + px_per_rad * angle * seen[1] / aside
        # Across the gaze the equidistant lens enlarges by angle / sin(angle).
        outer = min(angle + half, 2.2)
        r = px_per_rad * half * max(1.0, outer / max(math.sin(outer), 0.3)) + 2
        boxes[k] = max(y - r, 0), max(x - r, 0), min(max(y + r + 1, 0), height), min(max(x + r + 1, 0), width)
    return boxes


@kernel
def clear_outside(out: ImageBgr, spans: Spans) -> None:
    """Make black what lies outside the spans."""
    for y in range(out.shape[0]):
        out[y, : spans[y, 0]] = 0
        out[y, spans[y, 1] :] = 0


def clip_mask(mask: Mask, spans: Spans) -> None:
    """Take what lies outside the spans out of a mask, in place."""
    columns = np.arange(mask.shape[1])
    mask &= (columns >= spans[:, :1]) & (columns < spans[:, 1:])
