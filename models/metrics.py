"""Every metric of polyp segmentation that a paper's number can be compared with, by its full name and
definition.

Separate so that training, evaluation and the numeric gates count alike. Arrays in, numbers out: a picture is
scored once (``score_image``), at its own size, into counts from which each metric follows (``summary`` in
``metrics_summary.py``). It reads no files, resizes nothing and runs no network.

Empty pictures are defined: where the truth is empty, an empty prediction has Dice and IoU 1, any other 0;
where only the prediction is empty both are 0, and so is its precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .segmenter import Mask, Prob

MASK_THRESHOLD = 0.5
MIOU_THRESHOLDS = tuple(float(t) for t in np.arange(50, 100, 5) / 100)
"""Of the Kvasir-SEG paper's mIoU (its equation 2 averages over thresholds): 0.50 to 0.95."""
BOUNDARY_TOLERANCE = 0.008
"""Of the picture's diagonal, as in the DAVIS benchmark (Perazzi et al. 2016)."""
LEAST_BOX_AREA = 0.001
"""Of the picture: smaller components are no detections."""
BOX_IOU = 0.5


class Counts(NamedTuple):
    """Pixels of one picture, or of many: true and false positives and negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 where truth and prediction are both empty."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else 1.0

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), the Jaccard index; 1 where truth and prediction are both empty."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else 1.0

    @property
    def iou_background(self) -> float:
        """The same of the background."""
        union = self.tn + self.fp + self.fn
        return self.tn / union if union else 1.0

    @property
    def precision(self) -> float:
        """TP / (TP + FP); with nothing predicted 1 if there was nothing, else 0."""
        predicted = self.tp + self.fp
        return self.tp / predicted if predicted else float(self.fn == 0)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN), the sensitivity; None where there was nothing to find."""
        truth = self.tp + self.fn
        return self.tp / truth if truth else None

    @property
    def specificity(self) -> float | None:
        """TN / (TN + FP); None where everything is polyp."""
        background = self.tn + self.fp
        return self.tn / background if background else None

    @property
    def accuracy(self) -> float:
        """Share of the pixels that are right."""
        return (self.tp + self.tn) / sum(self)


class SoftSums(NamedTuple):
    """Sums over the network's input of p · y, p and y, for the paper's Dice."""

    intersection: float
    prob: float
    truth: float


class BoxCounts(NamedTuple):
    """Detections of one picture: matched at IoU 0.5, false, missed."""

    tp: int
    fp: int
    fn: int


class BoxCorners(NamedTuple):
    """A box as ``kavsir_bboxes.json`` has it, in pixels; the far corner lies outside."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class ImageScore:
    """What one picture contributes.

    Attributes:
        name: of the picture.
        counts: at threshold 0.5.
        threshold_counts: at each of MIOU_THRESHOLDS.
        mdice_256: Dice averaged over 256 thresholds of the min-max normalised probabilities, PraNet's way.
        miou_256: the same of the IoU.
        boundary_f: F measure of the contours within BOUNDARY_TOLERANCE.
        soft: sums at the network's input size, None if not measured.
        boxes: detections against the given boxes, None if there were none given.
    """

    name: str
    counts: Counts
    threshold_counts: tuple[Counts, ...]
    mdice_256: float
    miou_256: float
    boundary_f: float
    soft: SoftSums | None = None
    boxes: BoxCounts | None = None


def score_image(
    name: str,
    prob: Prob,
    truth: Mask,
    *,
    soft: SoftSums | None = None,
    boxes: Sequence[BoxCorners] | None = None,
) -> ImageScore:
    """Score one picture.

    Args:
        name: of the picture.
        prob: float32, H × W at the picture's own size.
        truth: bool, H × W.
        soft: of ``soft_sums`` at the network's input size.
        boxes: the data set's boxes of this picture.

    Raises:
        ValueError: shapes that differ.
    """
    if prob.shape != truth.shape:
        raise ValueError(f"{name}: prediction {prob.shape}, truth {truth.shape}; expected the same size")
    mask = prob > MASK_THRESHOLD
    mdice_256, miou_256 = dice_iou_256(prob, truth)
    return ImageScore(
        name=name,
        counts=count(mask, truth),
        threshold_counts=tuple(count(prob > threshold, truth) for threshold in MIOU_THRESHOLDS),
        mdice_256=mdice_256,
        miou_256=miou_256,
        boundary_f=boundary_f(mask, truth),
        soft=soft,
        boxes=None if boxes is None else match_boxes(mask, boxes),
    )


def count(mask: Mask, truth: Mask) -> Counts:
    """Counts of a mask (bool, H × W) against the truth (bool, H × W)."""
    tp = int(np.count_nonzero(mask & truth))
    fp = int(np.count_nonzero(mask)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return Counts(tp, fp, fn, mask.size - tp - fp - fn)


def soft_sums(prob: Prob, truth: Mask) -> SoftSums:
    """Sums of a prediction (float32, H × W) and a truth (bool, H × W) at the network's input size."""
    return SoftSums(
        float(prob[truth].sum(dtype=np.float64)),
        float(prob.sum(dtype=np.float64)),
        float(np.count_nonzero(truth)),
    )


def dice_iou_256(prob: Prob, truth: Mask) -> tuple[float, float]:
    """Mean Dice and IoU over 256 thresholds, as PraNet's evaluation counts them (Fan et al. 2020).

    The probabilities are min-max normalised for each picture and rounded to 8 bits, as the saved maps are; a
    threshold takes the values at or above it; a threshold without a hit counts 0.
    """
    low, high = float(prob.min()), float(prob.max())
    scaled = (prob - low) * (255.0 / (high - low)) if high > low else np.zeros_like(prob)
    values = np.rint(scaled).astype(np.uint8)
    hits = _at_or_above(values[truth])
    predicted = _at_or_above(values.reshape(-1))
    whole = predicted + np.count_nonzero(truth)
    dice = 2 * hits / np.maximum(whole, 1)
    iou = hits / np.maximum(whole - hits, 1)
    return float(dice.mean()), float(iou.mean())


def _at_or_above(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How many of the values lie at or above each of 0 to 255."""
    return np.cumsum(np.bincount(values, minlength=256)[::-1])[::-1]


def boundary_f(mask: Mask, truth: Mask) -> float:
    """F measure of the contours: a contour pixel is right if one of the other contour lies within the
    tolerance.

    The tolerance is BOUNDARY_TOLERANCE of the diagonal, rounded up. 1 where both are empty, 0 where one is.
    """
    ours, theirs = _contour(mask), _contour(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    tolerance_px = np.ceil(BOUNDARY_TOLERANCE * np.hypot(*mask.shape))
    precision = float(np.mean(_distance_to(theirs)[ours] <= tolerance_px))
    recall = float(np.mean(_distance_to(ours)[theirs] <= tolerance_px))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _contour(mask: Mask) -> Mask:
    """Pixels of the mask with a neighbour outside it; the picture's edge is no contour."""
    area = mask.astype(np.uint8)
    inside = cv2.erode(area, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return (area > inside).astype(np.bool_)


def _distance_to(contour: Mask) -> npt.NDArray[np.float32]:
    """Distance in pixels of every pixel to the nearest one of the contour."""
    return np.asarray(cv2.distanceTransform((~contour).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def boxes_of(mask: Mask) -> list[BoxCorners]:
    """Boxes of the mask's connected components that are large enough, largest first."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    found = [row for row in stats[1:] if row[4] >= LEAST_BOX_AREA * mask.size]
    found.sort(key=lambda row: -int(row[4]))
    return [BoxCorners(int(x), int(y), int(x + width), int(y + height)) for x, y, width, height, _ in found]


def match_boxes(mask: Mask, truth: Sequence[BoxCorners]) -> BoxCounts:
    """Match the mask's boxes, largest first, each with the best box left, at IoU 0.5 or more."""
    left = list(truth)
    predicted = boxes_of(mask)
    tp = 0
    for box in predicted:
        best = max(left, key=lambda other: box_iou(box, other), default=None)
        if best is not None and box_iou(box, best) >= BOX_IOU:
            left.remove(best)
            tp += 1
    return BoxCounts(tp, len(predicted) - tp, len(left))


def box_iou(a: BoxCorners, b: BoxCorners) -> float:
    """Intersection over union of two boxes."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (_area(a) + _area(b) - both)


def _area(box: BoxCorners) -> int:
    return (box.right - box.left) * (box.bottom - box.top)
